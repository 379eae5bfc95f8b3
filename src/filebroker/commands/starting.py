"""The verbs of the command ``filebroker`` to begin with: ``demo`` and ``init``."""

import argparse
import os
import shlex
import shutil
import sys
from typing import Any

from filebroker.commands.terminal import add_verb, say

_DEMO = """\
It changes nothing.  What it prints can be typed at a Python prompt.

examples:
  filebroker demo
"""
_INIT = """\
The directory becomes a catalog: it gets a file filebroker.json.  It may be missing; other things must not be in it.
Where there is a catalog already, nothing is changed.

A catalog in a store begins with the first document that is recorded there; give it a name with "filebroker config add".

examples:
  filebroker init /data/beamtime-2026-11
  filebroker init /data/beamtime-2026-11 --name beamtime
"""


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    add_verb(verbs, "demo", _demo, "a first look, on the catalog that comes with filebroker", _DEMO)
    init = add_verb(verbs, "init", _init, "make an empty catalog, to be recorded into", _INIT)
    init.add_argument("path", metavar="PATH", help="a directory; it is made if it is missing")
    init.add_argument("--name", help="a name for the catalog, as of filebroker config add")


def _demo(options: argparse.Namespace) -> None:
    from filebroker.faces.broker import Broker

    print(">>> from filebroker import Broker")
    print(">>> db = Broker.named('example')")
    broker = Broker.named("example")
    print(">>> db[-1]")
    print(broker[-1])
    print(">>> db[-1].table()")
    print(broker[-1].table())
    print(">>> for header in db('good', plan_name='scan'): print(header)")
    for header in broker("good", plan_name="scan"):
        print(header)
    command = _command()
    print(f"""
That catalog is a folder of plain files:
    {broker.catalog.folder.url}
Record your own, in an acquisition session:
    db = Broker('my_beamtime'); RE.subscribe(db.insert)
More: "{command} ls example", "{command} show example -1", and docs/tutorials/first-steps.md.""")


def _command() -> str:
    """Give how this command is called from here: by its name if the shell finds it, else by its path."""
    called, found = sys.argv[0], shutil.which("filebroker")
    is_itself = os.path.splitext(os.path.basename(called))[0] == "filebroker"
    if not is_itself or (found is not None and os.path.realpath(found) == os.path.realpath(called)):
        return "filebroker"
    return shlex.quote(min(os.path.relpath(called), called, key=len))


def _init(options: argparse.Namespace) -> None:
    from filebroker.cataloging.creation import make_catalog
    from filebroker.ground import registration

    draft = None
    if options.name is not None:
        draft = registration.draft(options.name, options.path)
        draft.check_free()  # before anything is made
    catalog = make_catalog(options.path)
    if draft is not None:
        draft.write()
        say(f"{draft.file} gives it the name {options.name}", sys.stderr)
    say(catalog.folder.url)
    there = f"Broker.named({options.name!r})" if draft else f"Broker({options.path!r})"
    called = shlex.quote(options.name if draft else options.path)
    say(f"  record:  db = {there}; RE.subscribe(db.insert)\n  list:    filebroker ls {called}", sys.stderr)
