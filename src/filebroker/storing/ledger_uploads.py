"""What goes up of a staged catalog beside its runs: its marker, and the files of its ledger."""

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from zlib import crc32

from filebroker.ground import filesystem
from filebroker.ground.errors import DamagedRun, StorageError
from filebroker.ground.locks import FileLock
from filebroker.ground.stores import Store
from filebroker.storing import layout
from filebroker.storing.journal import decode_line, encode_line
from filebroker.storing.staging import Staging

LOGS, SNAPSHOTS = f"{layout.LEDGER}/log", f"{layout.LEDGER}/snap"
#: A log leaves staging when it is so large, or was left alone for so long.
_LARGE_BYTES, _UNTOUCHED_SECONDS = 64 << 10, 3600.0
#: The name of a line that readers of a ledger pass over.
_VOID = "void"
#: The name of the last line of a log that nothing will ever be added to.
_END = "end"


class LedgerUpload:
    """The upload of a staged catalog's marker and ledger.

    Parameters
    ----------
    staging
        Where they are.
    store
        Where they go.

    Attributes
    ----------
    sent : int
        How many objects were written.
    """

    def __init__(self, staging: Staging, store: Store) -> None:
        self._staging, self._store, self.sent = staging, store, 0
        #: Of each log, how much was written, and its CRC.
        self._written: dict[str, tuple[int, int]] = {}
        self._found: dict[str, int] | None = None

    def is_empty(self) -> bool:
        """Tell whether nothing is staged but runs."""
        marker = os.path.exists(self._staging.path(layout.MARKER))
        return not (marker or self._names(LOGS) or self._names(SNAPSHOTS))

    def sizes(self) -> dict[str, int]:
        """Give the staged logs with their sizes in bytes."""
        found = {}
        for name in self._names(LOGS):
            with contextlib.suppress(FileNotFoundError):  # it was merged with others
                found[name] = os.path.getsize(self._staging.path(name))
        return found

    def _names(self, directory: str) -> list[str]:
        return sorted(f"{directory}/{name}" for name in self._staging.files(directory) if "/" not in name)

    def send_fixed(self) -> None:
        """Upload the marker and the snapshots, which then leave staging.

        A marker that is there already counts, and the staged one is dropped.

        Raises
        ------
        StorageError
            The store or the local filesystem refused.
        """
        for name in [layout.MARKER, *self._names(SNAPSHOTS)]:
            with contextlib.suppress(FileNotFoundError):  # there is none, or it was merged with others
                with open(self._staging.path(name), "rb") as file:
                    data = file.read()
                is_there = self._store.create(name, data)
                if not is_there and name != layout.MARKER:
                    raise StorageError(f"{self._store.url}/{name} is there, but is not the snapshot of that name")
                self.sent += 1
                filesystem.remove(self._staging.path(name))

    def send_logs(self, sizes: dict[str, int], blocked: Collection[str], *, closing: bool) -> None:
        """Upload the logs as far as they may be seen, and remove those from staging that are all up.

        Parameters
        ----------
        sizes
            How long they were before the runs went up: what was added since may be of runs that are not up.
        blocked
            Runs that are not as far up as they should be.  What stands behind the first line about one waits.
        closing
            Nothing will be added here for a while: all that is up leaves staging.

        Raises
        ------
        StorageError
            The store or the local filesystem refused.
        """
        for name, size in sizes.items():
            with contextlib.suppress(FileNotFoundError):  # it was merged with others
                with open(self._staging.path(name), "rb") as file:
                    text = file.read(size)
                text = text[: text.rfind(b"\n") + 1]
                end = _first_about(text, blocked)
                if end < len(text):  # what readers have seen is not taken back
                    end = max(end, min(len(text), self._size_there(name)))
                self._write(name, text[:end])
                is_old = time.time() - os.path.getmtime(self._staging.path(name)) > _UNTOUCHED_SECONDS
                if end == len(text) and (closing or is_old or size >= _LARGE_BYTES):
                    self._remove(name, size)

    def _size_there(self, name: str) -> int:
        if name in self._written:
            return self._written[name][0]
        if self._found is None:
            self._found = self._store.sizes(LOGS)
        return self._found.get(name.rpartition("/")[2], 0)

    def _write(self, name: str, text: bytes) -> None:
        state = len(text), crc32(text)
        if text and self._written.get(name) != state:
            self._store.write(name, text)
            self._written[name] = state
            self.sent += 1

    def _remove(self, name: str, size: int) -> None:
        """Remove a log that is up, unless it is being written to or has grown; its writer then begins a new one.

        Its last line says so, because others may merge and remove what never changes again, and nothing else.
        """
        lock = FileLock(self._staging.path(name))
        if lock.acquire(create=False):
            try:
                if lock.size == size and (text := _ended(lock)):
                    self._write(name, text)
                    lock.remove()
                    self._written.pop(name, None)
            finally:
                lock.release()

    def strike(self, directory: str) -> bool:
        """Make void what the staged logs say of a run that cannot go up; False if one is being written to.

        Raises
        ------
        OSError
            The filesystem refused.
        """
        done = True
        for name in self._names(LOGS):
            with contextlib.suppress(FileNotFoundError):  # it was merged with others
                with open(self._staging.path(name), "rb") as file:
                    text = file.read()
                for place, line in _lines_about(text, [directory]):
                    done = self._strike_line(name, place, line) and done
        return done

    def _strike_line(self, name: str, place: int, line: bytes) -> bool:
        lock = FileLock(self._staging.path(name))
        if not lock.acquire(create=False):
            return False
        try:
            # Of the same length: readers know how far they read, and the writer how far it wrote.
            spare = len(line) - len(encode_line(0, _VOID, {"was": ""}))
            with open(self._staging.path(name), "r+b", buffering=0) as file:
                file.seek(place)
                file.write(encode_line(0, _VOID, {"was": "x" * spare}))
        finally:
            lock.release()
        return True


def _ended(lock: FileLock) -> bytes:
    """End a locked log, and give it; nothing if the disk is full: then it stays until runs have made room."""
    with open(lock.path, "rb") as file:
        text = file.read()
    if is_ended(text):
        return text
    whole, line = text[: text.rfind(b"\n") + 1], encode_line(0, _END, {})
    try:
        os.truncate(lock.path, len(whole))  # what its writer died at was never acknowledged
        lock.append(line, sync=True)
    except OSError:
        return b""
    return whole + line


def is_ended(text: bytes) -> bool:
    """Tell whether nothing will ever be added to a log in a store."""
    line = text[text.rfind(b"\n", 0, -1) + 1 :]
    try:
        return line.endswith(b"\n") and decode_line(line[:-1]).name == _END
    except DamagedRun:
        return False


def _first_about(text: bytes, directories: Collection[str]) -> int:
    """Give where the first line about one of some runs begins, the end if there is none."""
    return next((place for place, _ in _lines_about(text, directories)), len(text))


def _lines_about(text: bytes, directories: Collection[str]) -> Iterator[tuple[int, bytes]]:
    """Give the whole lines about some runs, and where they begin."""
    wanted = set(directories)
    place = 0
    for line in text.splitlines(keepends=True) if wanted else ():
        if line.endswith(b"\n") and _path_of(line) in wanted:
            yield place, line
        place += len(line)


def _path_of(line: bytes) -> str:
    """Give the run that a line is about, empty if it is about none."""
    try:
        return str(decode_line(line[:-1]).doc.get("path", ""))
    except DamagedRun:
        return ""
