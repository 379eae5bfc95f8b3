"""The verbs of the command ``filebroker`` that take care of a catalog."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from filebroker.commands import progress
from filebroker.commands.output import add_formats, emit
from filebroker.commands.selection import add_search, selected
from filebroker.commands.terminal import CATALOG, add_verb, at_least_one, count, open_catalog, say

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker
    from filebroker.transfer.care.verifying import Finding, Verification

_VERIFY = """\
Every file is compared with the checksums that were kept when its run was sealed: documents byte by byte, and pages by
their sizes and footers.  With --read-data every byte of every page is read too.  Of a whole catalog the list of its
runs, its marker and its notes are looked at as well.  Nothing is changed.  Runs that are being recorded are proved as
far as they have come.

What is damaged is listed, and the exit status is then 1.

examples:
  filebroker verify beamtime
  filebroker verify beamtime --read-data --workers 4
  filebroker verify beamtime plan_name=scan --since 2026-11
  filebroker verify beamtime --hash          one hash to cite the catalog by
  filebroker verify beamtime --hashes        one for each run, as "sha256sum --check" reads them
"""
_REPAIR = """\
What is whole in another copy of the catalog (--from) is taken from there.  Of what cannot be had again, all that can be
read is kept, and the run says from then on what it lost.  Nothing is deleted: what was replaced is put aside below
_damaged in the catalog.  It can be called again if it was interrupted.

The exit status is 1 if something damaged is left.

examples:
  filebroker repair /data/beamtime --dry-run
  filebroker repair /data/beamtime --from s3://bucket/beamtime
"""
_DOCTOR = """\
It looks at what is installed, at the environment and the files of configurations that filebroker reads, and at the
directories where it keeps things.  Of a catalog it tells whether it can be reached and written to, and which handlers
of external files are missing for its newest runs.  It prints no passwords or keys.

The exit status is 1 if something is wrong.

examples:
  filebroker doctor
  filebroker doctor beamtime
  filebroker doctor beamtime --json
"""

_REFRESH = """\
Runs that are recorded, imported or copied by filebroker are found without it.

examples:
  filebroker refresh beamtime
  filebroker refresh beamtime --json         the directories of the runs that were found, and what they are
"""
_REINDEX = """\
The list of the runs and the index of their words are derived from the runs, and can be made anew at any time.  It is
never needed in normal use.

examples:
  filebroker reindex beamtime
"""


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    verify = add_verb(verbs, "verify", _verify, "prove runs against their checksums", _VERIFY)
    add_search(verify)
    verify.add_argument("--read-data", action="store_true", help="read every byte of every page as well")
    verify.add_argument("--decode", action="store_true", help="make every document as well, which takes much longer")
    verify.add_argument("--workers", type=at_least_one, metavar="N", help="how many threads read")
    verify.add_argument("--hash", action="store_true", help="print one hash to cite these runs by")
    verify.add_argument("--hashes", action="store_true", help="print the hash of each run")
    repair = add_verb(verbs, "repair", _repair, "mend what is damaged in a catalog on a disk", _REPAIR)
    repair.add_argument("catalog", metavar="CATALOG", help=CATALOG)
    repair.add_argument("--from", dest="source", metavar="CATALOG", help="another copy of the catalog")
    repair.add_argument("--dry-run", action="store_true", help="change nothing, and tell what would be done")
    doctor = add_verb(verbs, "doctor", _doctor, "look at what may be wrong with this machine or a catalog", _DOCTOR)
    doctor.add_argument("catalog", metavar="CATALOG", nargs="?", help=CATALOG)
    for verb in (verify, repair, doctor):
        add_formats(verb)
    text = "find runs that were copied into a catalog, or removed from it, by hand"
    refresh = add_verb(verbs, "refresh", _refresh, text, _REFRESH)
    add_formats(refresh)
    reindex = add_verb(verbs, "reindex", _reindex, "make a catalog's list of runs and its index anew", _REINDEX)
    for verb in (refresh, reindex):
        verb.add_argument("catalog", metavar="CATALOG", help=CATALOG)


def _open_for_writing(catalog: str) -> "Broker":
    """Open a catalog so that others are told what is found."""
    open_catalog(catalog)  # refuses what is no catalog
    return open_catalog(catalog, read_only=False)


def _refresh(options: argparse.Namespace) -> None:
    found = _open_for_writing(options.catalog).refresh()
    named = {"added": found.added, "changed": found.changed, "removed": found.removed}
    if not (options.json or options.csv):
        counts = [f"{len(records)} {what}" for what, records in named.items()]
        print(", ".join([*counts, f"{len(found.unreadable)} unreadable"]))
        return
    rows = [{"what": what, "run": record.path, "why": None} for what, records in named.items() for record in records]
    rows += [{"what": "unreadable", "run": path, "why": why} for path, why in found.unreadable.items()]
    emit(rows, ("what", "run", "why"), options)


def _reindex(options: argparse.Namespace) -> None:
    broker = _open_for_writing(options.catalog)
    with progress.shown() as tell:
        broker.catalog.reindex(tell)
    print(f"{len(broker.catalog):,} runs")


# -- proving and mending


def _verify(options: argparse.Namespace) -> int:
    from filebroker.transfer.care.verifying import verify

    broker, runs = selected(options)
    is_whole = not (options.words or options.run or options.since or options.until)
    if not is_whole and not len(runs):
        print("no run matches, so nothing was proved", file=sys.stderr)
        return 1
    with progress.shown() as tell:
        found = verify(
            broker if is_whole else runs,
            read_data=options.read_data,
            decode=options.decode,
            workers=options.workers,
            progress=tell,
        )
    _tell_found(found, options)
    return 0 if found.ok else 1


def _tell_found(found: "Verification", options: argparse.Namespace) -> None:
    from filebroker.transfer.care.fingerprints import listing

    is_asked_for_hash = options.hash or options.hashes
    if options.hash:
        say(found.fingerprint)
    if options.hashes:
        say(listing(found.hashes).rstrip("\n"))
    rows = [_row(item, "damaged") for item in found.damaged]
    if options.json or options.csv:
        rows += [_row(item, "remark") for item in found.remarks]
    if not is_asked_for_hash:
        emit(rows, ("kind", "run", "uid", "file", "what"), options)
    for item in found.damaged if is_asked_for_hash else ():
        say(item, sys.stderr)
    for item in found.remarks if not (options.json or options.csv) else ():
        say(f"remark: {item}", sys.stderr)
    live = f", of which {count(len(found.live), 'run')} still live" if found.live else ""
    state = "all good" if found.ok else f"{len(found.damaged)} damaged"
    told = f"{count(found.runs, 'run')}{live}, {count(found.files, 'file')}, {found.bytes:,} bytes: {state}"
    say(told + ("" if found.ok else '; "filebroker repair" mends what can be mended'), sys.stderr)


def _row(item: "Finding", kind: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "run": item.path or None,
        "uid": item.uid or None,
        "file": item.file or None,
        "what": item.what,
    }


def _repair(options: argparse.Namespace) -> int:
    from filebroker.transfer.care.repairing import repair

    broker = open_catalog(options.catalog) if options.dry_run else _open_for_writing(options.catalog)
    source = None if options.source is None else open_catalog(options.source)
    with progress.shown() as tell:
        report = repair(broker, source=source, dry_run=options.dry_run, progress=tell)
    rows = [{**item._asdict(), "uid": item.uid or None, "kept": item.kept or None} for item in report.repaired]
    emit(rows, ("outcome", "path", "lost", "detail", "kept"), options)
    if not rows:
        print("nothing is damaged", file=sys.stderr)
    elif report.is_dry:
        print("nothing was changed; without --dry-run it is done", file=sys.stderr)
    return 0 if report.ok else 1


def _doctor(options: argparse.Namespace) -> int:
    from filebroker.faces.doctor import doctor

    found = doctor(None if options.catalog is None else lambda: open_catalog(options.catalog))
    if options.json or options.csv:
        emit([item._asdict() for item in found], ("state", "about", "what", "advice"), options)
    else:
        rows = [{**item._asdict(), "what": "; ".join(filter(None, (item.what, item.advice)))} for item in found]
        emit(rows, ("state", "about", "what"), options)
    return 1 if any(item.state == "wrong" for item in found) else 0
