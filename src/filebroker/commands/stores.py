"""The verbs of the command ``filebroker`` that concern stores: what waits to be uploaded, and what is kept of them."""

import argparse
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filebroker.commands.output import add_formats, emit
from filebroker.commands.terminal import CATALOG, add_verb, count, folder_of, open_catalog, say

if TYPE_CHECKING:
    from filebroker.finding.cache import Kept
    from filebroker.ground.filesystem import Folder
    from filebroker.storing.staging import Staging, Waiting

_UPLOAD = """\
examples:
  filebroker upload                          what waits, of all stores
  filebroker upload beamtime                 upload it

What is recorded for a store is kept on this machine until it is up.  Whoever recorded it uploads it, and so does
whoever opens the catalog for recording; this verb is for what is left when neither will happen soon.

Without a CATALOG, what waits is listed.  With one, it is uploaded: runs whose recording was cut short are sealed
before.  The exit status is 1 if something stays here.
"""
_CACHE = """\
examples:
  filebroker cache
  filebroker cache clear beamtime

Of what is read from stores copies are kept on this machine, which serve where there is no network.  All catalogs
together take FILEBROKER_CACHE_SIZE at most (4 GiB by default); what was not used for longest goes first.  Lists of
runs and indexes of words are not counted: see "filebroker reindex" for these.
"""
_CLEAR = """\
examples:
  filebroker cache clear beamtime            the copies of one catalog
  filebroker cache clear                     those of all

Copies may be removed at any time, also while they are used; what is asked for next is read from the store again.
"""
#: So often it is told how far an upload has come.
_TELLING_SECONDS = 0.5


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    upload = add_verb(verbs, "upload", _upload, "upload what was recorded for a store on this machine", _UPLOAD)
    upload.add_argument("catalogs", metavar="CATALOG", nargs="*", help="a name or a URL")
    upload.add_argument("--host", help="also what was recorded when this machine had that name")
    add_formats(upload)
    cache = add_verb(verbs, "cache", _cache, "list, or clear, what is kept here of the files of stores", _CACHE)
    add_formats(cache)
    deeds = cache.add_subparsers(metavar="clear", title="deeds")
    clear = add_verb(deeds, "clear", _clear, "remove the copies of these catalogs, or of all", _CLEAR)
    clear.add_argument("catalogs", metavar="CATALOG", nargs="*", help=CATALOG)


# -- uploads


def _upload(options: argparse.Namespace) -> None:
    if not options.catalogs:
        _list_waiting(options)
    for catalog in options.catalogs:
        _upload_one(catalog, options.host)


def _list_waiting(options: argparse.Namespace) -> None:
    from filebroker.storing.staging import Staging, waiting

    found, this_host = waiting(), Staging("").host
    if options.json or options.csv:
        rows = [
            {"url": item.url, "runs": item.pending.runs, "bytes": item.pending.bytes, "host": item.host}
            | {"directory": item.root, "conflicts": list(item.conflicts)}
            for item in found
        ]
        emit(rows, ("url", "runs", "bytes", "host", "directory"), options)
        return
    for item in found:
        where = "" if item.host == this_host else f", recorded on {item.host}"
        say(f"{item.url or item.root + ', for a store that is not known any more'}: {_what_waits(item)}{where}")
        for path in item.conflicts:
            say(f"  kept for good, because the store has another run of its uid: {path}")
    if not found:
        print("nothing waits to be uploaded", file=sys.stderr)


def _what_waits(item: "Waiting") -> str:
    if item.pending.runs:
        return str(item.pending)
    return "the list of its runs" if item.is_listed else "nothing waits"


def _upload_one(catalog: str, host: str | None) -> None:
    """Upload what waits for one store, also what was recorded under another name of this machine.

    Raises
    ------
    FilebrokerError
        Something stays here.
    """
    from filebroker.ground.errors import DuplicateDocument, NotSupported
    from filebroker.storing.rescue import take_over
    from filebroker.storing.staging import Staging

    folder = folder_of(catalog)
    if folder.local is not None:
        raise NotSupported(f"{folder.local} is on a local disk, so what is recorded there is there at once")
    staging = Staging(folder.url, folder.place)
    if host is not None:
        take_over(staging, host)
    before = staging.waiting()
    if staging.is_empty:
        _check_others(staging)
        print(f"nothing waits to be uploaded to {folder.url}", file=sys.stderr)
        return
    _flush(catalog, staging)
    after = staging.waiting()
    if lost := sorted({*after.conflicts} - {*before.conflicts}):
        raise DuplicateDocument(
            f"{folder.url} has other runs of the uids of {count(len(lost), 'run')}, kept in {', '.join(lost)}"
        )
    say(f"{folder.url}: {_outcome(before, after)}")


def _check_others(staging: "Staging") -> None:
    """Look whether something waits for a store of the same URL.

    Raises
    ------
    InvalidConfig
        Something does, for another server or under another name of this machine.
    """
    from filebroker.ground.errors import InvalidConfig
    from filebroker.storing.staging import waiting

    for item in waiting():
        if item.url != staging.url or item.root == staging.root or not (item.pending.runs or item.is_listed):
            continue
        if item.host != staging.host:
            raise InvalidConfig(
                f"what waits for {staging.url} was recorded on {item.host!r}; if that was this machine, or is gone, "
                f"give --host {item.host}"
            )
        raise InvalidConfig(
            f"what waits for {staging.url} is for another server; name that by endpoint_url in a configuration, or "
            f"by the environment variable AWS_ENDPOINT_URL"
        )


def _flush(catalog: str, staging: "Staging") -> None:
    from filebroker.ground.errors import FilebrokerError, UploadWarning

    broker = open_catalog(catalog, read_only=False)
    try:
        with _progress(staging):
            broker.catalog.flush()
    except FilebrokerError:
        with warnings.catch_warnings():  # the error says the same
            warnings.simplefilter("ignore", UploadWarning)
            broker.close()
        raise
    broker.close()


def _outcome(before: "Waiting", after: "Waiting") -> str:
    """Say what went up; a run that another process still records is up as far as it has come."""
    live = after.pending.runs
    done = count(max(0, before.pending.runs - live), "run") + " uploaded"
    return f"{done}, {count(live, 'run')} uploaded as far as recorded by now" if live else done


@contextlib.contextmanager
def _progress(staging: "Staging") -> Iterator[None]:
    """Tell on a terminal what still waits."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def tell() -> None:
        is_done = False
        while not is_done:
            with contextlib.suppress(OSError):  # what is counted is being uploaded
                print(f"\r{staging.pending()} to be uploaded    ", end="", file=sys.stderr, flush=True)
            is_done = done.wait(_TELLING_SECONDS)

    teller = threading.Thread(target=tell, name="filebroker-progress")
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        print(file=sys.stderr)


# -- copies


def _cache(options: argparse.Namespace) -> None:
    from filebroker.finding import cache
    from filebroker.ground.filecache import limit_from_environment

    place = cache.root()
    if place is None:
        print(f"nothing is kept, because {cache.VARIABLE} is empty", file=sys.stderr)
        return
    found = cache.kept()
    if options.json or options.csv:
        rows = [
            {"catalog": item.catalog, "files": item.usage.entries, "bytes": item.usage.size, "last_used": _when(item)}
            | {"directory": item.usage.directory}
            for item in found
        ]
        emit(rows, ("catalog", "files", "bytes", "last_used", "directory"), options)
        return
    if found:
        print(f"{'files':>7}  {'size':>9}  {'last used':<16}  catalog")
    for item in found:
        say(f"{item.usage.entries:>7,}  {_size(item.usage.size):>9}  {_when(item):<16}  {item.catalog}")
    total = sum(item.usage.size for item in found)
    say(f"{_size(total)} of at most {_size(limit_from_environment())}, in {place}")


def _clear(options: argparse.Namespace) -> None:
    from filebroker.finding import cache

    chosen: list[Folder | None] = [folder_of(catalog) for catalog in options.catalogs]
    for folder in chosen or [None]:
        found = cache.kept(folder)
        for item in found:
            freed = cache.clear_files(os.path.dirname(item.usage.directory))
            say(f"{item.catalog}: {count(item.usage.entries, 'file')} removed, {_size(freed)}")
        if not found:
            print(f"nothing is kept{'' if folder is None else f' of {folder.url}'}", file=sys.stderr)


def _when(item: "Kept") -> str:
    """Give when a copy was used last, in the local time."""
    moment = item.usage.last_used
    return "never" if moment is None else datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _size(number: float) -> str:
    """Give a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
