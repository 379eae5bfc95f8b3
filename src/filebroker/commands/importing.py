"""The verb of the command ``filebroker`` that takes runs from elsewhere: ``import``."""

import argparse
import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from filebroker.commands import progress
from filebroker.commands.terminal import CATALOG, add_root_map, add_verb, at_least_one, open_catalog, say

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
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    add_root_map(parser)
    parser.add_argument("--copy-files", action="store_true", help="copy the external files to their runs")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object, for programs")


def _import(options: argparse.Namespace) -> int:
    from filebroker.ground.errors import MissingPackage, SourceNotFound
    from filebroker.transfer.incoming.importing import import_runs
    from filebroker.transfer.incoming.reports import ImportReport

    broker = _open(options.catalog, options.dry_run)
    report = ImportReport(dry_run=options.dry_run)
    sources = [_source(source, options.kind, broker) for source in options.sources]
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


def _source(source: str, kind: str | None, target: "Broker") -> Any:
    """Give a catalog of filebroker that has a name, and anything else as it is."""
    from filebroker.ground.errors import FilebrokerError

    if kind not in (None, "filebroker") or os.path.lexists(os.path.expanduser(source)):
        return source
    if kind is None and _is_databrokers(source, target):
        return source
    try:
        return open_catalog(source).runs.catalog
    except FilebrokerError:
        return source  # of databroker, or nothing; the import tells


def _is_databrokers(name: str, target: "Broker") -> bool:
    """Tell whether a name is that of runs of databroker's; it may stand for where they are to go as well."""
    from filebroker.ground import config
    from filebroker.ground.errors import FilebrokerError
    from filebroker.ground.filesystem import Folder

    try:
        found = config.find(name)
        if found.store is not None:
            return True
        return "metadatastore" in found.content and Folder(found.url).url == target.catalog.folder.url
    except FilebrokerError:
        return False


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
        _tell_root_map(report.root_map, options.catalog)


def _tell_root_map(root_map: dict[str, str], catalog: str) -> None:
    """Print how the catalog is given a name under which its external files are found."""
    from filebroker.commands.terminal import folder_of

    maps = " ".join(f"--root-map {shlex.quote(f'{root}={place}')}" for root, place in root_map.items())
    say("external files are found under a name that knows where they are; or import again with --copy-files")
    say(f"  filebroker config add NAME {shlex.quote(folder_of(catalog).url)} {maps}")
