"""The catalog that runs are imported into: each appears there as a whole, or goes on where it was cut.

A run is recorded aside, on the same disk, and is moved to its place when it is complete.  So whatever happens
meanwhile leaves nothing half done in the catalog, and the import can be repeated.  The lock of a run's uid is held
from before it is moved until it is in the ledger; if this process dies in between, the next opening of the catalog
puts it there.
"""

import errno
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.receiving import Receiver, root_of
from filebroker.finding.manifest import Manifest
from filebroker.finding.records import Record, record_of
from filebroker.ground import codec, filesystem
from filebroker.ground.errors import DamagedRun, DuplicateDocument, NothingRecorded, StorageError
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.storing import layout
from filebroker.storing.run_files import RunFiles
from filebroker.transfer.incoming.asides import Aside, drop, sweep, telling
from filebroker.transfer.incoming.comparison import difference
from filebroker.transfer.incoming.drafts import Draft, make_lasting, move_over, remove_tree

#: So many runs are put into the ledger at once.
_ANNOUNCED_AT_ONCE = 64
#: So long it is waited for somebody else who imports the same run, and so long between two looks.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 60.0, 0.02


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

    Raises
    ------
    ReadOnlyCatalog
        It was opened for reading.
    StorageError
        The filesystem refused.
    """

    def __init__(self, catalog: Catalog, *, dry_run: bool = False) -> None:
        self.catalog, self._dry_run = catalog, dry_run
        self._root = root_of(catalog)
        self._receiver = None if dry_run else Receiver(catalog)
        self._aside: Aside | None = None
        # Runs that are still aside, and runs in their place that are not in the ledger yet, with their locks.
        self._ready: dict[str, tuple[FileLock, Draft]] = {}
        self._moved: list[tuple[FileLock | None, Record]] = []
        # Whether what is to be announced could not be, wholly or in part: the next opening of the catalog does it.
        self._is_stuck = False
        # What became of runs that were to be taken, and that somebody else was faster with.
        self.overtaken: list[tuple[Draft, Reception]] = []
        # Of a dry run, those that would be taken.
        self._seen: set[str] = set()

    @property
    def aside(self) -> str:
        """A directory of this object's own on the disk of the catalog."""
        if self._aside is None:
            folder = os.path.join(self._root, layout.LIVE)
            if self._dry_run:
                folder = tempfile.mkdtemp(prefix="filebroker-import-")
            with telling(self._root):
                self._aside = Aside(folder)
        return self._aside.path

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
        is_kept, was_there = False, lock.size > 0
        try:
            reception, found = self._look(draft)
            if reception.outcome == "taken":
                with telling(self._root):
                    lock.write(_owner(draft.name, lock.inode))
                if found is None:
                    self._ready[draft.uid] = lock, draft
                is_kept = True
                if found is not None:
                    self._replace(found.directory, draft, lock)
        finally:
            if was_there and not is_kept:
                lock.release()  # it is of somebody who died, or lives elsewhere; who seals that run needs it
            elif not is_kept:
                lock.remove()
        if len(self._ready) + len(self._moved) >= _ANNOUNCED_AT_ONCE:
            self.announce()
        return reception

    def _replace(self, directory: str, draft: Draft, lock: FileLock) -> None:
        """Put a run in the place of one that lacks some of its documents."""
        try:
            with telling(self._root):
                move_over(draft.directory, os.path.join(self._root, directory))
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
            reception = Reception("known") if draft.uid in self._seen else self._look(draft)[0]
        finally:
            draft.discard()
        if reception.outcome == "taken":
            self._seen.add(draft.uid)
        return reception

    def _look(self, draft: Draft) -> tuple[Reception, RunFiles | None]:
        """Say what is to become of a run, and give the one that is there.

        Raises
        ------
        DamagedRun
            That cannot be read.
        """
        run = self.catalog.of_uid(draft.uid)
        directory = draft.name if run is None else run.directory
        if not self._is_here(directory):
            found = None if run is None else run.files
            return self._judge(draft, found), found
        place = os.path.join(self._root, directory)
        try:
            found = RunFiles(Folder(self._root), directory)
        except NothingRecorded:
            if not os.listdir(place):
                return self._judge(draft, None), None
            why = f"something of it is in {place} without its documents: a copy goes on, or was cut short"
            return Reception("refused", f"{why}; repeat the copy, or remove that directory"), None
        return self._judge(draft, found), found

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
        if verdict == "more" and (found.state == "interrupted" or found.losses) and self._is_here(found.directory):
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
                with telling(self._root):
                    if lock.acquire():
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
        if self._receiver is None or not (self._ready or self._moved):
            return
        self._is_stuck = True
        with telling(self._root):
            make_lasting([draft.directory for _, draft in self._ready.values()])
            for lock, draft in list(self._ready.values()):
                reception = self._place(draft)
                if reception.outcome == "taken":
                    self._moved.append((lock, self._record(draft.name)))
                else:
                    self.overtaken.append((draft, reception))
                    draft.discard()
                    drop(lock)
                del self._ready[draft.uid]
        for directory in {os.path.dirname(record.path) for _, record in self._moved}:
            filesystem.sync_path(self._root, os.path.join(self._root, directory))
        self._receiver.enter([record for _, record in self._moved])
        while self._moved:
            held, _ = self._moved[-1]
            if held is not None:
                drop(held)
            self._moved.pop()
        self._is_stuck = False
        self._receiver.send()

    def _place(self, draft: Draft) -> Reception:
        """Move a run to its place, unless somebody else put it there in the meantime."""
        place = os.path.join(self._root, draft.name)
        filesystem.make_directory(os.path.dirname(place))
        try:
            os.rename(draft.directory, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            reception = self._look(draft)[0]
            if reception.outcome == "taken":
                return Reception("refused", f"a part of it came to {place} in the meantime; import it again")
            return reception
        return Reception("taken")

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
                aside, self._aside = self._aside, None
                aside.remove()
                if self._dry_run:
                    remove_tree(os.path.dirname(aside.path))


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
    Receiver(catalog)
    sweep(os.path.join(root_of(catalog), layout.LIVE))


def _owner(directory: str, inode: int) -> bytes:
    """Say who holds a lock, as those do who record."""
    owner = {
        **{"directory": directory, "host": socket.gethostname(), "pid": os.getpid(), "inode": inode},
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return codec.dumps(owner)
