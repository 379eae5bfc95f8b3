"""The catalog that runs are imported into: each appears there as a whole, or goes on where it was cut.

A run is recorded aside, on the same disk, and is moved to its place when it is complete.  So whatever happens
meanwhile leaves nothing half done in the catalog, and the import can be repeated.  The lock of a run's uid is held
from before it is moved until it is in the ledger; if this process dies in between, the next opening of the catalog
puts it there.
"""

import contextlib
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from filebroker.cataloging.catalog import Catalog
from filebroker.finding.manifest import Manifest
from filebroker.finding.records import Record, record_of
from filebroker.ground import codec, filesystem
from filebroker.ground.errors import DamagedRun, DuplicateDocument, StorageError
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.storing import layout
from filebroker.storing.run_files import RunFiles
from filebroker.transfer.incoming.comparison import difference
from filebroker.transfer.incoming.drafts import Draft, make_lasting, move_over, remove_tree

#: So many runs are put into the ledger at once.
_ANNOUNCED_AT_ONCE = 64
#: So long it is waited for somebody else who imports the same run, and so long between two looks.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 60.0, 0.02
_ASIDE, _LOCK = "import-", ".lock"


class Reception(NamedTuple):
    """What became of a run.

    Attributes
    ----------
    outcome : str
        ``taken``, ``known`` or ``refused``.
    why : str
        Why it was refused.
    """

    outcome: str
    why: str = ""


class Target:
    """A catalog that runs are moved into.

    Parameters
    ----------
    catalog
        The catalog.
    dry_run
        Change nothing, and say what would become of each run.
    """

    def __init__(self, catalog: Catalog, *, dry_run: bool = False) -> None:
        self.catalog, self._dry_run = catalog, dry_run
        self._root = catalog._root
        self._aside: tuple[str, FileLock] | None = None
        # Runs that are still aside, and runs in their place that are not in the ledger yet, with their locks.
        self._ready: dict[str, tuple[FileLock, Draft]] = {}
        self._moved: list[tuple[FileLock | None, Record]] = []
        # Whether what is to be announced could not be, wholly or in part: the next opening of the catalog does it.
        self._is_stuck = False
        # Of a dry run, those that would be taken.
        self._seen: set[str] = set()

    @property
    def aside(self) -> str:
        """A directory of this object's own on the disk of the catalog."""
        if self._aside is None:
            self._aside = self._make_aside()
        return self._aside[0]

    def _make_aside(self) -> tuple[str, FileLock]:
        folder = os.path.join(self._root, layout.LIVE)
        if self._dry_run:
            folder = tempfile.mkdtemp(prefix="filebroker-import-")
        with _telling(self._root):
            os.makedirs(folder, exist_ok=True)
            lock = FileLock(os.path.join(folder, f"{_ASIDE}{uuid.uuid4().hex[:8]}{_LOCK}"))
            try:
                if not lock.acquire():
                    return self._make_aside()  # who sweeps up was faster
                os.mkdir(_aside_of(lock.path))
            except BaseException:
                _drop(lock)
                raise
        return _aside_of(lock.path), lock

    def recorded(self, start: Mapping[str, Any]) -> RunFiles | None:
        """Give the run that is where one of this start document would be, if it can be read.

        Parameters
        ----------
        start
            A checked start document.
        """
        if start["uid"] in self._ready:
            self.announce()
        directory = layout.run_directory(start)
        if not self._is_here(directory) or self.catalog.library.discarded(start["uid"]) is not None:
            return None
        try:
            return RunFiles(Folder(self._root), directory)
        except (DamagedRun, StorageError):  # it is told when the run is to be moved there
            return None

    def receive(self, draft: Draft) -> Reception:
        """Take a sealed run into the catalog, unless it is there.

        Parameters
        ----------
        draft
            The run.  If it is taken it has to stay until `announce`.

        Raises
        ------
        StorageError
            The filesystem refused; the catalog is as it was.
        """
        if self._dry_run:
            return self._foresee(draft)
        try:
            lock = self._lock(draft)
        except DuplicateDocument as error:
            return Reception("refused", str(error))
        is_kept = False
        try:
            found = self._find(draft)
            reception = self._judge(draft, found)
            if reception.outcome == "taken" and found is None:
                self._ready[draft.uid] = lock, draft
                is_kept = True
            elif reception.outcome == "taken" and found is not None:
                is_kept = True
                self._replace(found.directory, draft, lock)
        finally:
            if not is_kept:
                lock.remove()
        if len(self._ready) + len(self._moved) >= _ANNOUNCED_AT_ONCE:
            self.announce()
        return reception

    def _replace(self, directory: str, draft: Draft, lock: FileLock) -> None:
        """Put a run in the place of one that lacks some of its documents."""
        try:
            with _telling(self._root):
                move_over(draft.directory, os.path.join(self._root, directory))
            self.catalog._shelf.forget(directory)
            self._moved.append((lock, self._record(directory)))
        except BaseException:
            lock.release()  # its file stays: the next opening of the catalog looks at the run
            raise

    def confirm(self, run: RunFiles) -> None:
        """See that a run that is there is in the ledger as it is; an import may have died before it was.

        Parameters
        ----------
        run
            The run.
        """
        known = self.catalog.library.ask(Manifest.revision_of, run.directory)
        if not self._dry_run and known.get(run.directory, (0, ""))[1] != run.state and not run.damage:
            self._moved.append((None, self._record(run.directory)))

    def _foresee(self, draft: Draft) -> Reception:
        try:
            reception = Reception("known") if draft.uid in self._seen else self._judge(draft, self._find(draft))
        finally:
            draft.discard()
        if reception.outcome == "taken":
            self._seen.add(draft.uid)
        return reception

    def _find(self, draft: Draft) -> RunFiles | None:
        """Give the run of a draft's uid, if there is one.

        Raises
        ------
        DamagedRun
            It cannot be read.
        """
        run = self.catalog.of_uid(draft.uid)
        if run is not None:
            return RunFiles(Folder(self._root), run.directory) if self._is_here(run.directory) else run.files
        if self._is_here(draft.name):
            return RunFiles(Folder(self._root), draft.name)
        return None

    def _is_here(self, directory: str) -> bool:
        return os.path.isdir(os.path.join(self._root, directory))

    def _judge(self, draft: Draft, found: RunFiles | None) -> Reception:
        """Say what is to become of a run."""
        discarded = self.catalog.library.discarded(draft.uid)
        if discarded is not None:
            return Reception("refused", f"{discarded.story}, so it is not imported; Catalog.{discarded.remedy}")
        if found is None:
            return Reception("taken")
        place = found.folder.path(found.directory)
        if found.state == "live":
            return Reception("refused", f"a run of its uid is being recorded in {place}; import it when that has ended")
        verdict, extra = difference(draft.files, found)
        if verdict == "same":
            return Reception("known")
        if verdict == "more" and found.state == "interrupted" and self._is_here(found.directory):
            return Reception("taken")
        if verdict == "more":
            verdict = f"{extra} of its documents are not recorded, and the recorded one is complete"
        return Reception("refused", f"another run of its uid is in {place}, and stays as it is: {verdict}")

    def _record(self, directory: str) -> Record:
        """Give what the ledger shall say of a run."""
        known = self.catalog.library.ask(Manifest.revision_of, directory)
        revision = known[directory][0] + 1 if directory in known else 1
        return record_of(RunFiles(Folder(self._root), directory), revision)

    def _lock(self, draft: Draft) -> FileLock:
        """Hold the lock of a run's uid.

        Raises
        ------
        DuplicateDocument
            Somebody else records or imports it, and does not end.
        """
        path = os.path.join(self._root, layout.LIVE, layout.lock_name(draft.uid))
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            lock = FileLock(path)
            try:
                with _telling(self._root):
                    if lock.acquire():
                        lock.write(_owner(draft.name, lock.inode))
                        return lock
            except BaseException:  # an interrupt as well as a full disk
                lock.release()
                raise
            self.announce()  # it may be our own, and others may wait for ours
            if self._is_recorded_now(draft.name) or time.monotonic() > deadline:
                raise DuplicateDocument(
                    f"a run of its uid is being recorded or imported by another process, which holds {path}; import it "
                    "again when that has ended"
                )
            time.sleep(_PAUSE_SECONDS)

    def _is_recorded_now(self, directory: str) -> bool:
        path = os.path.join(self._root, directory)
        return os.path.isdir(path) and not os.path.exists(os.path.join(path, layout.DOCUMENTS))

    def announce(self) -> None:
        """Move the runs that are aside to their places, and put them into the ledger, so that they are found.

        Raises
        ------
        StorageError
            The filesystem refused; the next opening of the catalog announces what was moved.
        """
        if not self._ready and not self._moved:
            return
        self._is_stuck = True
        with _telling(self._root):
            make_lasting([draft.directory for _, draft in self._ready.values()])
            for lock, draft in list(self._ready.values()):
                place = os.path.join(self._root, draft.name)
                filesystem.make_directory(os.path.dirname(place))
                os.rename(draft.directory, place)
                self._moved.append((lock, self._record(draft.name)))
                del self._ready[draft.uid]
        for directory in {os.path.dirname(record.path) for _, record in self._moved}:
            filesystem.sync_path(self._root, os.path.join(self._root, directory))
        self.catalog.library.ledger.append([record for _, record in self._moved], sync=True)
        while self._moved:
            held, _ = self._moved[-1]
            if held is not None:
                _drop(held)
            self._moved.pop()
        self._is_stuck = False
        self.catalog._send()

    def close(self) -> None:
        """Put what was moved into the ledger, and remove what is aside."""
        try:
            if not self._is_stuck:
                self.announce()
        finally:
            for lock in (*(lock for lock, _ in self._ready.values()), *(lock for lock, _ in self._moved)):
                if lock is not None:
                    lock.release()
            self._ready, self._moved = {}, []
            if self._aside is not None:
                path, lock = self._aside
                self._aside = None
                try:
                    remove_tree(os.path.dirname(path) if self._dry_run else path)
                finally:
                    _drop(lock)


@contextlib.contextmanager
def _telling(root: str) -> Iterator[None]:
    """Give what the filesystem refuses as a `StorageError`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            error.errno, f"cannot move a run to its place in {root}: {error.strerror or error}"
        ) from error


def prepare(catalog: Catalog) -> None:
    """Make the place of a catalog one, and remove what imports that died left there.

    Parameters
    ----------
    catalog
        The catalog.

    Raises
    ------
    ReadOnlyCatalog
        It was opened for reading.
    StorageError
        The filesystem refused.
    """
    catalog._start_recording()._begin_catalog()
    folder = os.path.join(catalog._root, layout.LIVE)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in names:
        stem, ending = os.path.splitext(name)
        if name.startswith(_ASIDE) and ending in (_LOCK, ".tmp") and (ending == _LOCK or stem + _LOCK not in names):
            with contextlib.suppress(OSError):  # somebody else's
                _sweep(os.path.join(folder, stem + _LOCK))


def _sweep(path: str) -> None:
    """Remove what an import left behind that died; the lock is made before its directory, and removed after it."""
    lock = FileLock(path)
    try:
        if lock.acquire():
            remove_tree(_aside_of(path))
            lock.remove()
    finally:
        lock.release()


def _drop(lock: FileLock) -> None:
    """Let a lock go, and remove its file if that is possible."""
    try:
        with contextlib.suppress(OSError):
            lock.remove()
    finally:
        lock.release()


def _aside_of(lock: str) -> str:
    """Give the directory that a lock is for."""
    return f"{lock.removesuffix(_LOCK)}.tmp"


def _owner(directory: str, inode: int) -> bytes:
    """Say who holds a lock, as those do who record."""
    owner = {
        **{"directory": directory, "host": socket.gethostname(), "pid": os.getpid(), "inode": inode},
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return codec.dumps(owner)
