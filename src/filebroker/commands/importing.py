"""The verb of the command ``filebroker`` that takes runs from elsewhere: ``import``."""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from filebroker.commands import progress
from filebroker.commands.terminal import CATALOG, add_verb, at_least_one, open_catalog, say

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker
    from filebroker.transfer.incoming.reports import ImportReport

_IMPORT = """\
A SOURCE is a file, or a directory that is walked, or a name.  What it is is seen by its content:

  files of suitcase-jsonl and suitcase-msgpack, and of bluesky's JSON writers
  JSON lists of documents
  directories that databroker-pack wrote, with their external files
  other catalogs of filebroker
  the name of a catalog of databroker 1.x that is installed in the same environment, in MongoDB for example

A run that is in the catalog already is passed over, so the command can be repeated, and goes on where it was
interrupted.  Documents that cannot be taken are named with the reason, and their run is taken without them.
The exit status is 1 if there was anything that could not be taken.

examples:
  filebroker import beamtime exported/               every file below a directory
  filebroker import beamtime scan.jsonl other.msgpack
  filebroker import beamtime my_pack --dry-run       what would be taken, and what could not be
  filebroker import beamtime my_pack --root-map /old/data=/new/data
  filebroker import beamtime my_pack --copy-files    with copies of its images
  filebroker import beamtime bl7 --kind databroker   all runs of databroker's catalog bl7
"""
_SHOWN = 50


def add_verbs(verbs: Any) -> None:
    """Add the verb to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gave.
    """
    from filebroker.transfer.incoming.kinds import KINDS

    parser = add_verb(verbs, "import", _import, "take runs from files, databroker or another catalog", _IMPORT)
    parser.add_argument("catalog", metavar="CATALOG", help=f"{CATALOG}; a directory that is missing becomes one")
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="a file, a directory or a name")
    parser.add_argument("--kind", choices=KINDS, help="what the sources are, if only that is meant")
    parser.add_argument(
        "--workers", type=at_least_one, metavar="N", help="so many processes (default: by the cores and the work)"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument(
        "--root-map",
        type=_mapped,
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="where the external files of packs are now; can be given several times",
    )
    parser.add_argument("--copy-files", action="store_true", help="copy the external files to their runs")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object, for programs")


def _mapped(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (old and separator and new):
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW")
    return old, new


def _import(options: argparse.Namespace) -> int:
    from filebroker.ground.errors import MissingPackage, SourceNotFound
    from filebroker.transfer.incoming.importing import import_runs
    from filebroker.transfer.incoming.reports import ImportReport

    broker = _open(options.catalog, options.dry_run)
    report = ImportReport(dry_run=options.dry_run)
    sources = [_source(source, options.kind) for source in options.sources]
    try:
        with progress.shown() as tell:
            for source in sources:
                found = import_runs(
                    source,
                    broker,
                    kind=options.kind,
                    workers=options.workers,
                    dry_run=options.dry_run,
                    root_map=dict(options.root_map),
                    copy_files=options.copy_files,
                    progress=tell,
                )
                report.add(found)
    except (MissingPackage, SourceNotFound):
        if report.files:
            _tell(report, options)
        raise
    finally:
        broker.close()
    _tell(report, options)
    return 0 if report.ok else 1


def _open(catalog: str, dry_run: bool) -> "Broker":
    """Open a catalog, which need not be there if it is given as a path."""
    from filebroker.faces.broker import Broker
    from filebroker.ground.errors import ConfigNotFound

    try:
        return open_catalog(catalog, read_only=False)
    except ConfigNotFound:
        if os.path.exists(catalog) or "/" in catalog:
            raise
        say(f"{catalog} is no name of a catalog, so it is a directory here", sys.stderr)
        return Broker(catalog)


def _source(source: str, kind: str | None) -> Any:
    """Give a catalog of filebroker that has a name, and anything else as it is."""
    from filebroker.ground.errors import FilebrokerError

    if kind not in (None, "filebroker") or os.path.lexists(os.path.expanduser(source)):
        return source
    try:
        return open_catalog(source).runs.catalog
    except FilebrokerError:
        return source  # of databroker, or nothing; the import tells


def _tell(report: "ImportReport", options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(report.to_dict()))
        return
    say(report.summary)
    for problem in report.problems[:_SHOWN]:
        say(f"  {problem}")
    if len(report.problems) > _SHOWN:
        say(f"  and {len(report.problems) - _SHOWN:,} more; --json tells all")
    if report.root_map and not options.copy_files:
        say("external files are found with this root map in the configuration of the catalog:")
        for root, place in report.root_map.items():
            say(f"  {json.dumps(root)}: {json.dumps(place)}")
