"""The ledger: an append-only list of a catalog's runs, beside them, that any number of writers share.

Each writer appends to a log of its own, so none waits for another and none can overwrite another's
entries, on any filesystem; and two copies of a catalog that were both recorded into become one by copying
them together.  Logs are merged into snapshots.  Everything here can be rebuilt from the run directories.
"""

import contextlib
import os
import re
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from filebroker.finding import snapshots
from filebroker.finding.listings import Listing
from filebroker.finding.records import Record, from_line, to_document
from filebroker.ground import filesystem
from filebroker.ground.errors import StorageError
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.storing.journal import encode_line, read_lines
from filebroker.storing.layout import LEDGER
from filebroker.storing.ledger_uploads import is_ended

LOGS, SNAPSHOTS = f"{LEDGER}/log", f"{LEDGER}/snap"
_FILE = re.compile(rf"({LOGS}|{SNAPSHOTS})/[A-Za-z0-9-]+\.(jsonl|parquet)")
#: An unfinished line that is older than this is not being written any more.
_TORN_AFTER_NS = 5_000_000_000
_ABANDONED_NS = 3600 * 1_000_000_000
_LOCK_ATTEMPTS = 8


class Portion(NamedTuple):
    """What was read of a file of the ledger.

    Attributes
    ----------
    records : iterable of Record
        The good ones, to be gone through once.
    end : int
        How many bytes of the file need not be read again.
    covers : dict of str to int
        The files whose records are among these, with how many of their bytes.
    damage : list of str
        What cannot be read, and where.  Which runs it was about is then unknown.
    is_final : bool
        Whether the file will never change.
    """

    records: Iterable[Record]
    end: int
    covers: dict[str, int]
    damage: list[str]
    is_final: bool = True


class Ledger:
    """The ledger of a catalog.

    Parameters
    ----------
    folder
        The catalog's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._listing = None if folder.remote is None else Listing(folder)
        # This object's log, and how long it was when it was last written to.
        self._own, self._own_size = "", 0
        self._mutex = threading.Lock()

    def renew_locks(self) -> None:
        """Begin anew in a forked child, with a log of its own."""
        self._mutex = threading.Lock()
        self._own = ""

    # -- reading

    def files(self, *, fresh: bool = True) -> dict[str, int]:
        """Give the files of the ledger with their sizes in bytes.

        Parameters
        ----------
        fresh
            Do not be content with what a store listed a moment ago.

        Raises
        ------
        StorageError
            They cannot be listed.
        """
        if self._listing is not None:
            return {name: size for name, size in self._listing.files(fresh=fresh).items() if _FILE.fullmatch(name)}
        # The logs come first: one that is merged meanwhile is then seen as a log, as a snapshot, or as both.
        logs = {name: size for name, size in self._folder.sizes(LOGS).items() if name.endswith(".jsonl")}
        merged = {name: size for name, size in self._folder.sizes(SNAPSHOTS).items() if snapshots.is_snapshot(name)}
        return {f"{SNAPSHOTS}/{name}": size for name, size in merged.items()} | {
            f"{LOGS}/{name}": size for name, size in logs.items()
        }

    @staticmethod
    def is_complete(files: Collection[str]) -> bool:
        """Tell whether a ledger of these files knows every run.

        The first snapshot is made of all runs that there are, before anything is appended.
        """
        return any(name.startswith(SNAPSHOTS) for name in files)

    def fetch(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """Read files of a ledger in a store at once; those that were merged meanwhile are left out.

        Parameters
        ----------
        wanted
            The files, each with the byte to begin at.

        Raises
        ------
        StorageError
            One of them cannot be read: then nothing is taken in, rather than a part.
        """
        remote = self._folder.remote
        if remote is None:
            return {}
        parts = [(name, start, None) for name, start in wanted.items() if self._folder.on_disk(name) is None]
        found: dict[str, bytes] = {}
        for (name, _, _), answer in zip(parts, remote.read_many(parts) if parts else [], strict=True):
            if isinstance(answer, bytes):
                found[name] = answer
            elif not isinstance(answer, FileNotFoundError):
                raise answer
        return found

    def read(self, name: str, start: int = 0, text: bytes | None = None) -> Portion:
        """Read a file of the ledger.

        Parameters
        ----------
        name
            As in `files`.
        start
            Leave out so many bytes of a log, which were read before.
        text
            What `fetch` gave of it.

        Raises
        ------
        FileNotFoundError
            It was merged with others meanwhile.
        StorageError
            It cannot be read.
        """
        read = self._read_snapshot if name.startswith(SNAPSHOTS) else self._read_log
        portion = read(name, start, text)
        if portion.damage and self._folder.remote is not None:  # a bit may have flipped on the way
            portion = read(name, start, None)
        return portion

    def _read_log(self, name: str, start: int, text: bytes | None) -> Portion:
        stamp = self._folder.stamp(name)
        if text is None:
            text = self._folder.read(name, start)
        end = text.rfind(b"\n") + 1
        parsed = read_lines(text[:end], f"{name}, from byte {start}")
        records, damage = [], list(parsed.damage)
        for line in parsed.lines:
            try:
                records.append(from_line(line))
            except ValueError as error:
                damage.append(f"{name}: {error}")
        if end < len(text) and 0 <= stamp < time.time_ns() - _TORN_AFTER_NS:
            damage.append(f"{name} ends in the middle of a line")
            end = len(text)
        known = [record for record in records if record is not None]
        return Portion(known, start + end, {name: start + end}, damage, is_final=is_ended(text))

    def _read_snapshot(self, name: str, start: int, text: bytes | None) -> Portion:
        data = self._folder.read(name) if text is None else text
        try:
            records, sources = snapshots.decode_snapshot(name.rpartition("/")[2], data)
        except ValueError as error:
            return Portion([], len(data), {name: len(data)}, [f"{name} cannot be used: {error}"])
        return Portion(records, len(data), {name: len(data), **sources}, [])

    # -- writing: logs on a local disk, from where they may go up to a store

    def append(self, records: Iterable[Record], *, sync: bool) -> None:
        """Add records to the end of this object's log.

        Parameters
        ----------
        records
            They are added together or not at all.
        sync
            Return only when they would survive a power cut.

        Raises
        ------
        StorageError
            The filesystem refused; nothing was added.
        """
        data = b"".join(
            encode_line(record.revision, "gone" if record.state == "gone" else "run", to_document(record))
            for record in records
        )
        if not data:
            return
        with self._mutex:
            try:
                lock = self._lock_log()
                try:
                    is_new = lock.size == 0
                    lock.append(data, sync=sync)
                    self._own_size = lock.size
                finally:
                    lock.release()
                if is_new and sync:
                    self._sync_directory(LOGS)
            except OSError as error:
                self._own = ""  # what a failed append left behind is nothing to write after
                place = self._place(LOGS)
                raise StorageError(error.errno, f"cannot write to {place}: {error.strerror}") from error

    def _lock_log(self) -> FileLock:
        """Lock this object's log, or a new one if that is being merged or was."""
        os.makedirs(self._place(LOGS), exist_ok=True)
        for _ in range(_LOCK_ATTEMPTS):
            is_new = not self._own
            if is_new:
                self._own_size = 0
                now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
                self._own = self._place(f"{LOGS}/{now}-{uuid.uuid4().hex[:12]}.jsonl")
            lock = FileLock(self._own)
            with contextlib.suppress(FileNotFoundError):  # it was merged
                if lock.acquire(create=is_new):
                    if lock.size == self._own_size:
                        return lock
                    lock.release()  # it was replaced by a copy
            # A name is never used again, because readers know how far they read it.
            self._own = ""
        raise OSError(f"the logs in {self._place(LOGS)} are all locked")

    def _place(self, name: str) -> str:
        """Give the local path that a file is written to."""
        root = self._folder.local or (self._folder.staged.root if self._folder.staged is not None else None)
        if root is None:
            raise StorageError(f"nothing can be written to {self._folder.url}")
        return f"{root}/{name}" if name else root

    def publish(self, records: Iterable[Record], covers: dict[str, int]) -> str:
        """Write a snapshot, and give its name.

        Parameters
        ----------
        records
            One for each run.
        covers
            The files whose records are among them, with how many of their bytes.

        Raises
        ------
        StorageError
            The filesystem refused; nothing was written.
        """
        filename, data = snapshots.encode_snapshot(records, covers)
        name = f"{SNAPSHOTS}/{filename}"
        if self._listing is not None:
            self._folder.store.create(name, data)
            self._listing.forget()
            return name
        filesystem.make_directory(self._folder.path(SNAPSHOTS))
        filesystem.publish(self._folder.path(name), data, sync=True)
        self._sync_directory(SNAPSHOTS)
        return name

    def sweep(self) -> None:
        """Remove what processes left behind that died while they wrote a snapshot to a local disk."""
        if self._listing is not None:
            return
        for name in self._folder.names(SNAPSHOTS):
            path = f"{SNAPSHOTS}/{name}"
            if filesystem.is_temporary(name) and time.time_ns() - self._folder.stamp(path) > _ABANDONED_NS:
                with contextlib.suppress(OSError):  # somebody else's
                    filesystem.remove(self._folder.path(path))

    def _sync_directory(self, name: str) -> None:
        filesystem.sync_path(self._place(""), self._place(name))

    def drop(self, covers: dict[str, int], *, keep: str) -> None:
        """Remove files whose records are all in a snapshot.

        A log that has grown since, or is being written to, stays.

        Those in a store have to be final, because what grows meanwhile cannot be told there.

        Parameters
        ----------
        covers
            The files, with how many of their bytes are in the snapshot.
        keep
            The snapshot.
        """
        if self._listing is not None:
            waiting = {name for name in covers if self._folder.on_disk(name) is not None}
            self._folder.store.remove(name for name in covers if name not in waiting | {keep} and _FILE.fullmatch(name))
            self._listing.forget()
            return
        for name, size in covers.items():
            if name == keep or not _FILE.fullmatch(name):
                continue
            path = self._folder.path(name)
            with contextlib.suppress(OSError):  # somebody else's: it stays, and does no harm
                if name.startswith(SNAPSHOTS):
                    filesystem.remove(path)
                else:
                    _remove_unless_grown(path, size)


def _remove_unless_grown(path: str, size: int) -> None:
    lock = FileLock(path)
    if not lock.acquire(create=False):
        return
    try:
        if lock.size <= size:
            lock.remove()
    finally:
        lock.release()
