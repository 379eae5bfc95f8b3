"""The verbs of the command ``filebroker`` that move whole runs: ``pack``, ``unpack`` and ``copy``."""

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from filebroker.commands import progress
from filebroker.commands.selection import WORDS, add_search, selected
from filebroker.commands.terminal import CATALOG, add_verb, open_catalog, say

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker
    from filebroker.transfer.packs.copy_reports import CopyReport

_PACK = f"""\
A pack is a directory that is a catalog: of the runs that were searched for, with the images and other files that they
refer to.  It opens with filebroker, Intake and other programs wherever it is moved to.  Sizes are shown first.

Repeat the command to finish a pack that was interrupted, and to put more runs into it.  Runs that are being recorded
are left out.  The exit status is 1 if a run or a file could not be packed; each is named.

{WORDS}
examples:
  filebroker pack beamtime --to share                             all runs
  filebroker pack beamtime sample=LaB6 --to share.zip --zip       some of them, as one file
  filebroker pack beamtime --run -1 --to s3://bucket/share        the newest, into a bucket
  filebroker pack beamtime operator=chen --to share --dry-run     what it would have, and how large it would be
  filebroker pack beamtime --to share --files reference           images stay where they are
"""
_UNPACK = """\
Runs that are in the catalog already are passed over, so the command can be repeated.  A ZIP file with names that lead
out of it, with links, or with contents far too large for it is refused.

What databroker-pack made is no pack in this sense: "filebroker import" takes it in.

examples:
  filebroker unpack share.zip beamtime
  filebroker unpack s3://bucket/share ./my_runs
  filebroker unpack share.zip beamtime --dry-run
"""
_COPY = f"""\
Runs are copied as they are, and each file is checked against its SHA-256 before the run appears in the other catalog.
Both catalogs can be on any filesystem.  A run that is there already is passed over, so the command can be repeated.
One that differs from that which is there is named, and nothing is changed.  Runs that are being recorded are left out.

Images and other files that runs refer to stay where they are, unless they were packed: "filebroker pack" takes them
along.  The exit status is 1 if a run could not be copied.

{WORDS}
examples:
  filebroker copy beamtime --to /archive/2026
  filebroker copy beamtime --since 2026-11 --to s3://bucket/beamtime
"""


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    pack = add_verb(verbs, "pack", _pack, "make a catalog of some runs to give away, with their images", _PACK)
    add_search(pack)
    pack.add_argument("--to", metavar="TARGET", required=True, help="a new directory, a URL, or a ZIP file")
    pack.add_argument("--zip", action="store_true", help="make one ZIP file")
    pack.add_argument(
        "--files",
        choices=("copy", "reference", "omit"),
        default="copy",
        help="external files: pack them (default), leave them where they are, or do not even look for them",
    )
    unpack = add_verb(verbs, "unpack", _unpack, "put the runs of a pack into a catalog", _UNPACK)
    unpack.add_argument("source", metavar="SOURCE", help="a pack: a directory, a URL, or a ZIP file")
    unpack.add_argument("catalog", metavar="CATALOG", help=f"{CATALOG}; it is made if it is missing")
    copy = add_verb(verbs, "copy", _copy, "copy runs to another catalog, as they are", _COPY)
    add_search(copy)
    copy.add_argument("--to", metavar="CATALOG", required=True, help=f"{CATALOG}; it is made if it is missing")
    for verb in (pack, unpack, copy):
        verb.add_argument("--dry-run", action="store_true", help="write nothing, and tell what would be done")
        verb.add_argument("--json", action="store_true", help="tell what came of it as one JSON object")


def _pack(options: argparse.Namespace) -> int:
    from filebroker.transfer.packs.packing import is_zip, pack

    broker, runs = selected(options)
    if not len(runs):
        return _nothing_to_do()
    given: dict[str, Any] = {
        "files": options.files,
        "handlers": broker.handlers,
        "zip": options.zip or is_zip(options.to),
    }
    with progress.shown() as tell:
        if not options.dry_run:
            planned = pack(runs, options.to, dry_run=True, progress=tell, **given)
            print(planned.summary(), file=sys.stderr)
        report = pack(runs, options.to, dry_run=options.dry_run, progress=tell, **given)
    return _report(report, options)


def _unpack(options: argparse.Namespace) -> int:
    from filebroker.transfer.packs.unpacking import unpack

    target = _target(options.catalog)
    try:
        with progress.shown() as tell:
            report = unpack(options.source, target.catalog, dry_run=options.dry_run, progress=tell)
    finally:
        target.close()
    return _report(report, options)


def _copy(options: argparse.Namespace) -> int:
    from filebroker.transfer.packs.copying import copy_runs

    _, runs = selected(options)
    if not len(runs):
        return _nothing_to_do()
    target = _target(options.to)
    try:
        with progress.shown() as tell:
            report = copy_runs(runs, target.catalog, dry_run=options.dry_run, progress=tell)
    finally:
        target.close()
    return _report(report, options)


def _target(catalog: str) -> "Broker":
    """Open the catalog that runs are put into."""
    from filebroker.ground.errors import ConfigNotFound

    try:
        return open_catalog(catalog, read_only=False)
    except ConfigNotFound as error:
        raise ConfigNotFound(
            f"{error}; to make a new catalog here, write ./{catalog} (of unpack, the pack comes first)"
        ) from error


def _plain(value: Any) -> Any:
    """Give what a report says with names for the parts of each problem."""
    if isinstance(value, list | tuple):
        return value._asdict() if hasattr(value, "_asdict") else [_plain(item) for item in value]
    return value


def _nothing_to_do() -> int:
    print("no run matches", file=sys.stderr)
    return 0


def _report(report: "CopyReport", options: argparse.Namespace) -> int:
    """Print what came of it, and give the exit status."""
    if options.json:
        fields = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
        print(json.dumps({**{name: _plain(value) for name, value in fields.items()}, "ok": report.ok}, default=str))
        return 0 if report.ok else 1
    say(report.summary())
    for missing in report.missing:
        say(f"missing: {missing}", sys.stderr)
    for problem in report.problems:
        say(f"{problem.kind}: {problem}", sys.stderr)
    return 0 if report.ok else 1
