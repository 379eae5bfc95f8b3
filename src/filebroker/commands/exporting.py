"""The verb of the command ``filebroker`` that gives runs to other programs: export."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from filebroker.commands import progress
from filebroker.commands.selection import WORDS, add_search, selected
from filebroker.commands.terminal import add_verb, say

if TYPE_CHECKING:
    from filebroker.cataloging.runs import Runs
    from filebroker.faces.broker import Broker
    from filebroker.transfer.outgoing.exporting import ExportReport

#: So many problems, and so many notes, are told.
_SHOWN = 20
_FORMATS = ("csv", "parquet", "jsonl", "msgpack", "nexus", "spec")
_EXPORT = f"""\
examples:
  filebroker export example --format csv --to spreadsheets
  filebroker export example --format csv --run -1 --field motor --field det --to -
  filebroker export example plan_name=scan --format nexus --images convert --to for_silx
  filebroker export hall_a --since 2025-11 --format jsonl --to for_databroker
  filebroker export hall_a --run 42 --format spec --file-name 'scan_{{scan_id:04}}' --to scans

csv and parquet have a file for each stream; jsonl and msgpack (as suitcase writes them), nexus (HDF5) and spec have one
for each run.  "--to -" writes one run to the standard output: jsonl, or one stream as csv.

--images tells what is done about the files that runs refer to: "reference" exports the references, "copy" copies the
files beside, "convert" exports what is in them: as datasets of a NeXus file, in the events of jsonl and msgpack, and as
TIFF files for the others.

A run that is damaged, or an image that is missing, stops nothing else.  The exit status is 1 if something could not be
exported; what and why is told on the standard error.

{WORDS}"""


def add_verbs(verbs: Any) -> None:
    """Add the verb to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    parser = add_verb(verbs, "export", _export, "export runs to files that other programs read", _EXPORT)
    add_search(parser)
    parser.add_argument("--format", required=True, choices=_FORMATS, help="what to write")
    parser.add_argument("--to", required=True, metavar="DIRECTORY", help='where to; "-" is the standard output')
    parser.add_argument("--stream", action="append", metavar="STREAM", help="this stream; can be given several times")
    parser.add_argument("--field", action="append", metavar="FIELD", help="this data key; can be given several times")
    parser.add_argument(
        "--images",
        choices=("reference", "copy", "convert"),
        default="reference",
        help="what is done about the files that runs refer to (default: reference)",
    )
    parser.add_argument(
        "--file-name",
        default="{scan_id}_{uid:.8}",
        metavar="NAME",
        help="how files are named: keys of the start document in braces (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    parser.add_argument(
        "--safe", action="store_true", help="in csv, text that a spreadsheet takes for a formula is made harmless"
    )


def _export(options: argparse.Namespace) -> int:
    broker, runs = selected(options)
    report = _to_output(runs, options) if options.to == "-" else _to_directory(broker, runs, options)
    _tell([f"not exported: {problem}" for problem in report.problems])
    _tell(report.notes)
    return 0 if report.ok else 1


def _tell(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        say(line, sys.stderr)
    if len(lines) > _SHOWN:
        say(f"and {len(lines) - _SHOWN:,} more like these", sys.stderr)


def _to_directory(broker: "Broker", runs: "Runs", options: argparse.Namespace) -> "ExportReport":
    from filebroker.transfer.outgoing.exporting import export_runs

    chosen = {"streams": options.stream, "fields": options.field, "images": options.images, "safe": options.safe}
    named = {"file_name": options.file_name, "overwrite": options.overwrite, "handlers": broker.handlers}
    with progress.shown() as tell:
        report = export_runs(runs, options.to, options.format, **chosen, **named, progress=tell)
    for path in report.files:
        say(path)
    if not (report.runs or report.problems or report.notes):
        print("no run matches", file=sys.stderr)
    return report


def _to_output(runs: "Runs", options: argparse.Namespace) -> "ExportReport":
    from filebroker.ground.errors import InvalidOption, RunNotFound
    from filebroker.transfer.outgoing.exporting import export_to

    count = len(runs)
    if count != 1:
        raise InvalidOption(f'the standard output has room for one run, and {count} were found; name one with "--run"')
    if options.images != "reference":
        raise InvalidOption(f"--images {options.images} makes files, which have no place in the standard output")
    chosen = {"streams": options.stream, "fields": options.field, "safe": options.safe}
    run = next(iter(runs), None)
    if run is None:
        raise RunNotFound(f'the run is listed, and cannot be read; "filebroker verify {options.catalog}" tells why')
    return export_to(run, sys.stdout.buffer, options.format, **chosen)
