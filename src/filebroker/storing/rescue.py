"""Runs of a store whose recording was cut short on a machine that does not come back: brought here to be sealed."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping

from filebroker.ground import codec, filesystem
from filebroker.ground.errors import StorageError
from filebroker.ground.locks import FileLock
from filebroker.ground.stores import Store
from filebroker.storing import layout
from filebroker.storing.staging import CLAIMS, INCOMING, Staging

#: So long those who upload are waited for.
_WAIT_SECONDS, _PAUSE_SECONDS = 60.0, 0.1
#: So much of a run is fetched at once.
_BATCH_BYTES = 64 << 20


def fetch_live(store: Store, staging: Staging) -> list[str]:
    """Copy every run that is claimed in a store, and not staged here, to this machine.

    What is copied has the claim of its writer, so that the upload goes on where that stopped.

    Parameters
    ----------
    store
        The store.
    staging
        Where the runs are put.

    Returns
    -------
    list of str
        The directories of the runs.

    Raises
    ------
    StorageError
        The store or the local filesystem refused.
    """
    staging.make()
    with _alone(staging):
        _clean_up(staging)
        fetched = [_fetch(store, staging, name) for name in store.names(layout.LIVE)]
    return [directory for directory in fetched if directory]


def _clean_up(staging: Staging) -> None:
    """Remove what a process that died had copied, and the claims that it had taken over for that first."""
    coming = staging.path(INCOMING)
    for name in os.listdir(coming) if os.path.isdir(coming) else ():
        directory = layout.run_path(name)
        if not staging.holds(directory):
            staging.forget_claim(directory)
    shutil.rmtree(coming, ignore_errors=True)


@contextlib.contextmanager
def _alone(staging: Staging) -> Iterator[None]:
    """Keep off those who upload what is staged."""
    lock = FileLock(staging.uploader_lock)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not lock.acquire():
        if time.monotonic() > deadline:
            raise StorageError(f"{staging.url} is being uploaded to for more than {_WAIT_SECONDS:g} s; try again later")
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _fetch(store: Store, staging: Staging, name: str) -> str:
    """Copy the run of a claim, and give its directory; empty if there is none, or it is here already."""
    try:
        claim = store.read(f"{layout.LIVE}/{name}")
    except FileNotFoundError:  # it has just been sealed
        return ""
    directory = _directory_of(claim)
    if not directory or layout.lock_name_of(directory) != name or staging.holds(directory):
        return ""
    aside = _copy(store, staging, directory)
    staging.adopt(directory, claim)
    filesystem.make_directory(os.path.dirname(staging.path(directory)))
    os.rename(aside, staging.path(directory))
    return directory


def take_over(staging: Staging, host: str) -> int:
    """Move here what was staged for the same store under another name of this machine, and give how many runs.

    Runs whose recording was cut short are then taken for this machine's own.

    Parameters
    ----------
    staging
        Where it goes.
    host
        The other name.

    Raises
    ------
    StorageError
        There is nothing of that name, somebody there still records or uploads, or the filesystem refused.
    """
    found = [item for item in staging.elsewhere() if item.host == host]
    if not found:
        raise StorageError(f"no runs for {staging.url} wait that were recorded on {host!r}")
    staging.make()
    other = Staging(staging.url)
    other.root = found[0].root
    try:
        with _alone(staging), _alone(other):
            if any(_is_held(other.path(f"{layout.LIVE}/{name}")) for name in other.files(layout.LIVE)):
                raise StorageError(f"runs for {staging.url} are still being recorded in {other.root}; end that first")
            runs = other.runs()
            if other.holds(layout.MARKER):
                _move(other, staging, layout.MARKER)
            for directory in (CLAIMS, layout.LIVE, f"{layout.LEDGER}/log", f"{layout.LEDGER}/snap"):
                for name in other.files(directory):
                    _move(other, staging, f"{directory}/{name}")
            for name in staging.files(layout.LIVE):
                _own(staging.path(f"{layout.LIVE}/{name}"))
            for directory in runs:
                _move(other, staging, directory)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(error.errno, f"cannot move {other.root} to {staging.root}: {error}; try again") from error
    return len(runs)


def _move(source: Staging, target: Staging, name: str) -> None:
    if not os.path.exists(target.path(name)):
        os.makedirs(os.path.dirname(target.path(name)), exist_ok=True)
        os.rename(source.path(name), target.path(name))
    elif name == layout.MARKER:  # there is one, and that counts
        os.unlink(source.path(name))


def _is_held(path: str) -> bool:
    """Tell whether the writer of a lock file lives."""
    lock = FileLock(path)
    try:
        return not lock.acquire(create=False)
    except FileNotFoundError:  # it has just done with it
        return False
    finally:
        lock.release()


def _own(path: str) -> None:
    """Make a lock file say that its writer was on this machine, unless it is and lives."""
    if _is_held(path):
        return
    with contextlib.suppress(ValueError, KeyError, TypeError, FileNotFoundError):
        with open(path, "rb") as file:
            owner = codec.loads(file.read())
        filesystem.publish(path, codec.dumps({"directory": owner["directory"]}), sync=True)


def _directory_of(claim: bytes) -> str:
    """Read off a claim which run it is about, empty if it does not say."""
    try:
        directory = codec.loads(claim)["directory"]
    except (ValueError, KeyError, TypeError):
        return ""
    return directory if isinstance(directory, str) and layout.is_run_path(directory) else ""


def _copy(store: Store, staging: Staging, directory: str) -> str:
    """Copy the files of a run beside its place, and give where they are."""
    aside = staging.path(f"{INCOMING}/{os.path.basename(directory)}")
    filesystem.make_directory(aside)
    for some in _batches(store.tree(directory)):
        texts = store.read_many([(f"{directory}/{name}", 0, None) for name in some])
        for name, text in zip(some, texts, strict=True):
            if isinstance(text, Exception):
                raise text
            filesystem.make_directory(os.path.dirname(os.path.join(aside, name)))
            filesystem.publish(os.path.join(aside, name), text, sync=True)
    return aside


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Give the files of a run that matter, so many at a time as fit into memory."""
    batch: list[str] = []
    left = _BATCH_BYTES
    for name, size in sizes.items():
        if layout.segment_of(name) or layout.is_page_path(name) or name == layout.DOCUMENTS:
            if batch and size > left:
                yield batch
                batch, left = [], _BATCH_BYTES
            batch.append(name)
            left -= size
    if batch:
        yield batch
