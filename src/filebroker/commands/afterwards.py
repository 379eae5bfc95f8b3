"""The verbs of the command ``filebroker`` for what comes after the run: annotations, and the trash."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from filebroker.commands.output import add_formats, emit
from filebroker.commands.terminal import CATALOG, RUN, add_verb, count, open_catalog, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from filebroker.cataloging.annotating import Trashed
    from filebroker.faces.broker import Broker
    from filebroker.faces.header import Header

_ANNOTATE = """\
What is said is kept in a small file of its own beside the runs, and found by searches: "filebroker ls CATALOG good",
or 'annotations.tags=good' for the tags alone.  "filebroker show" shows it.

examples:
  filebroker annotate beamtime -1 "use this one" --tag good
  filebroker annotate beamtime 84d9ee44 --remove-tag good
"""
_TRASH = """\
A run in the trash is hidden as if it were not there.  Nothing of it is removed, and "filebroker restore" brings it
back.  Without a RUN, the runs in the trash are listed.

examples:
  filebroker trash beamtime 84d9ee44 --reason "the shutter was closed"
  filebroker trash beamtime
"""
_RESTORE = """\
examples:
  filebroker restore beamtime 84d9ee44
"""
_PURGE = """\
This cannot be undone.  Only runs in the trash are removed, without a RUN all of them; a receipt is kept.  External
files that they refer to are not touched.  At a terminal you are asked; elsewhere say --yes.  The exit status is 1 if
nothing was removed.

examples:
  filebroker purge beamtime 84d9ee44
  filebroker purge beamtime --yes
"""
_COLUMNS = ("uid", "scan_id", "plan_name", "begun", "trashed", "author", "reason")
#: So many runs of one scan_id are listed.
_LISTED = 10
_IN_TRASH = "a uid or its beginning, or a scan_id"
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    annotate = add_verb(verbs, "annotate", _annotate, "say something of a run: a comment, or tags", _ANNOTATE)
    trash = add_verb(verbs, "trash", _trash, "hide runs, or list those that are hidden", _TRASH)
    restore = add_verb(verbs, "restore", _restore, "bring runs back from the trash", _RESTORE)
    purge = add_verb(verbs, "purge", _purge, "remove runs in the trash for good", _PURGE)
    for verb in (annotate, trash, restore, purge):
        verb.add_argument("catalog", metavar="CATALOG", help=CATALOG)
    annotate.add_argument("run", metavar="RUN", help=RUN)
    annotate.add_argument("comment", metavar="COMMENT", nargs="?", help="any text")
    annotate.add_argument("--tag", action="append", default=[], help="a tag to add; can be given several times")
    annotate.add_argument("--remove-tag", action="append", default=[], metavar="TAG", help="a tag that counts no more")
    trash.add_argument("runs", metavar="RUN", nargs="*", help=RUN)
    trash.add_argument("--reason", help="why")
    add_formats(trash)
    restore.add_argument("runs", metavar="RUN", nargs="+", help=_IN_TRASH)
    purge.add_argument(
        "runs", metavar="RUN", nargs="*", help="a uid or its beginning, or a scan_id (default: all in the trash)"
    )
    purge.add_argument("--yes", action="store_true", help="do not ask")
    for verb in (restore, purge):
        verb.set_defaults(is_of_trash=True)
    for verb in (annotate, trash, restore, purge):
        verb.add_argument("--author", help="who you are (default: FILEBROKER_AUTHOR, or the name of the login)")


def _open_for_writing(catalog: str) -> "Broker":
    open_catalog(catalog)  # refuses what is no catalog
    return open_catalog(catalog, read_only=False)


def _annotate(options: argparse.Namespace) -> None:
    broker = _open_for_writing(options.catalog)
    header = _meant(broker, options.run)
    broker.annotate(header, options.comment, tags=options.tag, remove_tags=options.remove_tag, author=options.author)
    say(f"{_told(header)}: {count(len(header.annotations), 'annotation')}, tags: {', '.join(header.tags) or 'none'}")


def _trash(options: argparse.Namespace) -> None:
    if not options.runs:
        found = open_catalog(options.catalog).trashed()
        if not emit(map(_row, found), _COLUMNS, options):
            print("the trash is empty", file=sys.stderr)
        return
    broker = _open_for_writing(options.catalog)
    headers = [_meant(broker, run) for run in options.runs]
    broker.trash(headers, options.reason, author=options.author)
    for header in headers:
        say(f"{_told(header)} is in the trash")


def _meant(broker: "Broker", run: str) -> "Header":
    """Give the run that somebody means who is about to do something to it.

    Raises
    ------
    RunNotFound
        It is not there.
    AmbiguousPrefix
        Several runs have that scan_id.
    """
    from filebroker.ground.errors import AmbiguousPrefix

    header = broker[run]
    if run.isdecimal() and header.start.get("scan_id") == int(run):
        same = list(broker.runs.documents_with(scan_id=int(run)))
        if len(same) > 1:
            listed = "".join(f"\n  {item.start['uid']}  {_begun(item.start)}" for item in same[:_LISTED])
            raise AmbiguousPrefix(f"{len(same):,} runs have scan_id {run}; give the uid of one:{listed}")
    return header


def _told(header: "Header") -> str:
    """Give a run as people know it again."""
    start = header.start
    told = [f"scan_id {start['scan_id']}"] if "scan_id" in start else []
    told += [str(start["plan_name"])] if "plan_name" in start else []
    return f"{header.uid} ({', '.join([*told, _begun(start)])})"


def _begun(start: "Mapping[str, Any]") -> str:
    from filebroker.ground import times

    return str(times.local(start["time"]))


def _row(item: "Trashed") -> dict[str, Any]:
    from filebroker.ground import times

    start = item.start
    return {
        "uid": item.uid,
        "scan_id": start.get("scan_id"),
        "plan_name": start.get("plan_name"),
        "begun": str(times.local(start["time"])) if "time" in start else None,
        "trashed": str(times.local(item.time)),
        "author": item.author,
        "reason": item.reason,
        "directory": item.directory,
        "is_partly_removed": item.purged is not None,
    }


def _restore(options: argparse.Namespace) -> None:
    broker = _open_for_writing(options.catalog)
    for item in _chosen(broker, options.runs):
        broker.restore(item.uid, author=options.author)
        say(f"{item.uid} is back")


def _purge(options: argparse.Namespace) -> int:
    broker = _open_for_writing(options.catalog)
    wanted = [run for run in options.runs if not _was_removed(broker, run)]
    chosen = _chosen(broker, wanted) if options.runs else broker.trashed()
    if not chosen:
        print("the trash is empty" if not options.runs else "nothing is left to be removed", file=sys.stderr)
        return 0
    size = sum(broker.catalog.bytes_in_trash(item.uid) for item in chosen)
    if not _is_wanted(f"{count(len(chosen), 'run')} of {_readable(size)}", options):
        return 1
    for item in chosen:
        broker.purge(item.uid, author=options.author)
        say(f"{item.uid} was removed")
    return 0


def _was_removed(broker: "Broker", uid: str) -> bool:
    """Tell, and print, whether a run was removed for good before: whoever was interrupted says the same once more."""
    if not broker.catalog.was_purged(uid):
        return False
    broker.purge(uid)  # of which the ledger may not know yet
    say(f"{uid} was removed before")
    return True


def _chosen(broker: "Broker", runs: "Sequence[str]") -> "list[Trashed]":
    """Give the runs in the trash that are named, each once.

    Raises
    ------
    RunNotFound
        One of them is not there, or several uids begin so.
    """
    from filebroker.ground.errors import RunNotFound

    there, chosen = broker.trashed(), {}
    for run in runs:
        found = _like(there, run)
        if len(found) != 1:
            how_many = f"{len(found)} runs have" if found else "no run has"
            raise RunNotFound(f"in the trash {how_many} the scan_id or a uid that begins with {run}; nothing was done")
        chosen[found[0].directory] = found[0]
    return list(chosen.values())


def _like(there: "Sequence[Trashed]", run: str) -> "list[Trashed]":
    """Give the runs of a uid, else of a scan_id, else whose uids begin so."""
    return (
        [item for item in there if item.uid == run]
        or [item for item in there if str(item.start.get("scan_id")) == run]
        or [item for item in there if item.uid.startswith(run)]
    )


def _is_wanted(what: str, options: argparse.Namespace) -> bool:
    """Ask whether something is to be removed for good, if there is somebody to ask."""
    if options.yes:
        return True
    if not (sys.stdin is not None and sys.stdin.isatty()):
        print(f"filebroker: {what} would be removed for good; say --yes to have that", file=sys.stderr)
        return False
    print(f"remove {what} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    print("nothing was removed", file=sys.stderr)
    return False


def _readable(size: float) -> str:
    """Give a number of bytes for people.

    Examples
    --------
    >>> _readable(999), _readable(12_345_678)
    ('999 bytes', '12.3 MB')
    """
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[0]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
