"""What is known of a catalog's runs, kept up with its ledger: the one place that searches and lookups ask."""

import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from filebroker.finding import cache
from filebroker.finding.compaction import compact, is_due
from filebroker.finding.database import DatabaseDamaged, abandon, alone, is_busy, is_refused, may_open
from filebroker.finding.housekeeping import Housekeeper
from filebroker.finding.indexing import Indexing
from filebroker.finding.inventory import Inventory
from filebroker.finding.ledger import Ledger
from filebroker.finding.manifest import Manifest
from filebroker.finding.note_uptake import NoteUptake
from filebroker.finding.noted import Discarded
from filebroker.finding.notes import decode
from filebroker.finding.records import GONE, Record
from filebroker.finding.survey import Survey, read_all, survey
from filebroker.finding.uptake import LedgerReplaced, Uptake
from filebroker.ground import forks
from filebroker.ground.cautions import warn
from filebroker.ground.errors import (
    DamagedRunWarning,
    LedgerWarning,
    OfflineWarning,
    StorageError,
    StoreUnreachable,
)
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress
from filebroker.ground.remote import Remote
from filebroker.storing import layout

_MANIFEST = "manifest.sqlite"
#: So often something is begun anew that another process changed in the middle.
_ATTEMPTS = 20
#: A manifest of so many bytes takes no more than some 10 ms to check.
_SMALL_MANIFEST = 4 << 20
#: A ledger of so many bytes takes some 100 ms to take in.
_MUCH = 1 << 20
#: So often the directories of a store without a ledger are listed: that takes requests.
_SURVEY_SECONDS = 60.0
#: So often it is looked whether runs that were gone are there again, if they are more than a few, and for so many.
_REVIVAL_SECONDS, _FEW_GONE, _MANY_GONE = 1.0, 100, 2000
#: So many new notes take no more than some 10 ms, which acquisition may wait for.
_FEW_NOTES = 100


class _Silence(threading.local):
    kept = False


_silence = _Silence()
T = TypeVar("T")
P = ParamSpec("P")


class Library:
    """The runs of a catalog.

    Parameters
    ----------
    folder
        The catalog's folder.
    catalog_id
        Its ``id``, None if it has none: then nothing is kept on this machine's disk.
    writable
        Whether the ledger may be written to.
    is_busy
        Whether this process records.
    appended
        Is called when something was added to the ledger of a catalog in a store.

    Attributes
    ----------
    compacts : bool
        Whether the ledger is to be compacted; of a catalog in a store those do it who record into it.
    is_offline : bool
        Whether the store did not answer the last time, and the user was told.
    """

    def __init__(
        self,
        folder: Folder,
        catalog_id: str | None,
        *,
        writable: bool,
        is_busy: Callable[[], bool] = lambda: False,
        appended: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self.writable = folder, writable
        self._appended = appended
        self.compacts = folder.remote is None
        self._revived, self._surveyed = -_REVIVAL_SECONDS, -_SURVEY_SECONDS
        self.is_offline = self._has_begun = False
        self._why_offline: StoreUnreachable | None = None
        self.ledger = Ledger(folder)
        self.directory = None if catalog_id is None else cache.directory_of(folder, catalog_id)
        if folder.remote is not None and self.directory is not None:
            folder.remote.cache = cache.files_of(self.directory)
        self.manifest = self._place_manifest()
        self._inventory = Inventory(folder)
        # The files of the ledger that were taken in, and into which manifest.
        self._seen: tuple[str, dict[str, int]] = "", {}
        self._uptake = Uptake(self.ledger)
        self.note_files = NoteUptake(folder)
        self._following = threading.RLock()
        self._is_checked = self._is_removed = False
        self._recorded: dict[str, tuple[int, str]] = {}
        self._unreadable: set[str] = set()
        self._left_over: set[str] = set()
        self._is_busy = is_busy
        self.indexing = Indexing(self)
        self.housekeeper = Housekeeper(self, is_busy)
        forks.renew_in_children(self)

    def _place_manifest(self) -> Manifest:
        path = None if self.directory is None else os.path.join(self.directory, _MANIFEST)
        return Manifest(path if path is not None and may_open(path) else None)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        abandon(self.manifest)
        self.manifest = self._place_manifest()
        self._seen = "", {}
        self._following = threading.RLock()
        self.note_files = NoteUptake(self._folder)
        self.ledger.renew_locks()
        self.indexing.renew_locks()
        self.housekeeper = Housekeeper(self, self._is_busy)

    # -- keeping up with the ledger

    def sync(self) -> None:
        """Take in what the ledger says since the last time.

        Where there is no complete ledger the run directories are looked at.  When the store does not answer, what
        was taken in before is good enough, and an `OfflineWarning` says so.

        Raises
        ------
        StorageError
            The catalog cannot be read.
        """
        if _silence.kept:
            return
        if self._is_removed:
            raise StorageError(f"the catalog {self._folder.url} was temporary, and is no more")
        files = self._sync_disk() if self._folder.remote is None else self._sync_store(self._folder.remote)
        if not self._is_checked or (self.writable and self._is_compaction_due(files)):
            self.housekeeper.start()

    def _sync_disk(self) -> dict[str, int]:
        """Take in what is new in a ledger on a local disk, and give its files."""
        with alone():
            files = self.ledger.files()
            if self._seen != (self._identity(), files):
                self._check_if_small()
                self._take_in_latest(files)
            self._take_in_notes()
            if self.ledger.is_complete(files):
                self._revive()
            else:
                self._report(self._look_around(is_whole=False).unreadable)
        return files

    def _sync_store(self, remote: Remote) -> dict[str, int]:
        """Take in what is new in a ledger in a store, and give its files; others do not wait for the network."""
        if self.is_offline and remote.is_offline:
            with alone():
                self._go_offline(self._why_offline)
            return {}
        try:
            with self._following:
                self._take_in_notes()  # first: what is in the trash is never seen elsewhere, however briefly
                files, damage = self._follow_store()
                self._take_in_notes()  # the manifest may be another one by now
            if self._is_suspect():
                self._make_good(damage)
            is_due = time.monotonic() - self._surveyed > _SURVEY_SECONDS
            if is_due and not self.ledger.is_complete(files):
                self._report(self._look_around(is_whole=False).unreadable)
                self._surveyed = time.monotonic()
                with alone():
                    self.manifest.complete()
        except StoreUnreachable as error:
            with alone():
                self._go_offline(error)
            return {}
        self.is_offline = False
        return files

    def _follow_store(self) -> tuple[dict[str, int], list[str]]:
        """Take in what is new in a ledger in a store: its files, and what is damaged.

        The network is waited for by nobody but this thread.
        """
        files, replaced = self.ledger.files(fresh=False), 0
        for attempt in range(_ATTEMPTS):
            anew = replaced > 1  # the first time the list of files may only have been older than the manifest
            try:
                with alone():
                    identity = self._identity()
                    if not anew and self._seen == (identity, files):
                        return files, []
                    self._check_if_small()
                    identity = self._identity()
                    known = {} if anew else self.manifest.sources()
                portions = self._uptake.fetch(files, known)
                with alone():
                    damage = self._uptake.take_in_fetched(self.manifest, identity, files, portions, anew=anew)
                    self._note_seen(identity, files)
            except LedgerReplaced:
                replaced += 1
            except FileNotFoundError:  # merged with others meanwhile
                pass
            except (sqlite3.DatabaseError, DatabaseDamaged) as error:
                if attempt > 1:
                    raise
                with alone():
                    self._discard_manifest(error)
            else:
                return files, damage
            files = self.ledger.files()
        raise StorageError(f"the ledger of {self._folder.url} changes faster than it can be read")

    def _take_in_notes(self, most: float = math.inf) -> None:
        """Take in what was said of runs since the last time; of a store others do not wait for the network.

        Parameters
        ----------
        most
            Leave it for another time if there are more new files.
        """
        try:
            self._follow_notes(most)
        except (sqlite3.DatabaseError, DatabaseDamaged) as error:
            with alone():
                self._discard_manifest(error)
        except BaseException:  # the next time everything is looked at again
            self.note_files.forget()
            raise
        self.note_files.tell()

    def _follow_notes(self, most: float) -> None:
        with alone():
            state = self.manifest.identity(), self.manifest.removals()
            if not self.note_files.is_due(state):
                return
            if not self.note_files.is_of(state):
                self.note_files.begin(state, self.manifest.note_names())
        removed, fresh = self.note_files.find()
        if len(fresh) > most:
            self.note_files.forget()
            return
        for files in self.note_files.read(fresh):
            with alone():
                self.note_files.take_in(self.manifest, removed, files)
            removed = []
        if removed:
            with alone():
                self.note_files.take_in(self.manifest, removed, [])

    def _go_offline(self, error: StoreUnreachable | None) -> None:
        """Be content with what was taken in before, if anything was."""
        identity = self._identity()
        self._look_at_staged()
        if not (self.manifest.is_whole or len(self.manifest)):
            raise error or StoreUnreachable(f"{self._folder.url} did not answer, and nothing is known of it here")
        if not self.is_offline:
            warn(f"{error}. The runs that were known before are given, and the newest may be missing", OfflineWarning)
        self.is_offline, self._why_offline, self._seen = True, error, (identity, {})

    def _look_at_staged(self) -> None:
        """Take in what is recorded here for the store, whose list of runs cannot be had."""
        staged = self._folder.staged
        if staged is not None:
            found = survey(self._folder, Inventory(Folder(staged.root)), self.manifest.revisions())
            if found.added or found.changed:
                with self.manifest.writing():
                    self.manifest.apply(found.added + found.changed, shared=False)

    def _is_compaction_due(self, files: dict[str, int]) -> bool:
        return self.compacts and is_due(files, self._left_over, in_store=self._folder.remote is not None)

    @contextlib.contextmanager
    def silence(self) -> Iterator[None]:
        """Ask no store for news meanwhile: acquisition waits for no network."""
        before, _silence.kept = _silence.kept, self._folder.remote is not None
        try:
            yield
        finally:
            _silence.kept = before

    def ask(self, question: Callable[Concatenate[Manifest, P], T], *values: P.args, **keywords: P.kwargs) -> T:
        """Ask the manifest, and make it anew if it turns out to be damaged.

        Parameters
        ----------
        question
            A method of `Manifest`.
        *values, **keywords
            Its arguments.
        """
        for _ in range(_ATTEMPTS):
            try:
                if not self._seen[0]:
                    self.sync()
                with alone():
                    asked = self._seen[0]
                    if _silence.kept:
                        return question(self.manifest, *values, **keywords)
                    if self.manifest.identity() == asked:
                        answer = question(self.manifest, *values, **keywords)
                        if self.manifest.identity() == asked:
                            return answer
                self.sync()
            except (sqlite3.DatabaseError, DatabaseDamaged) as error:
                with alone():
                    self._discard_manifest(error)
        raise StorageError(f"what is kept in {self.manifest.path} is made anew again and again by others; try later")

    def _check_if_small(self) -> None:
        """Look whether the manifest is whole when it is first used; a large one is looked at in the background."""
        try:
            if not self._is_checked and os.path.getsize(self.manifest.path) < _SMALL_MANIFEST:
                self._is_checked = True
                self.manifest.check()
        except (sqlite3.DatabaseError, DatabaseDamaged) as error:
            self._discard_manifest(error)

    def check(self) -> None:
        """Bring the manifest up to date, and look now and then whether it is whole: else it is made anew."""
        self.sync()
        if not self._is_checked:
            self._is_checked = True
            if self.ask(Manifest.is_check_due):
                self.ask(Manifest.check)

    @property
    def is_cold(self) -> bool:
        """Whether so much of the ledger has not been taken in yet that it would take long."""
        if self._seen[0]:
            return False
        if self._folder.remote is not None:  # which is not asked for this
            return True
        try:
            with alone():
                known = self.manifest.sources()
        except StorageError:  # somebody is busy with it, which may take as long
            return True
        except (sqlite3.DatabaseError, DatabaseDamaged):  # which it is then made anew for
            known = {}
        return sum(size for name, size in self.ledger.files().items() if name not in known) > _MUCH

    def _identity(self) -> str:
        try:
            return self.manifest.identity()
        except (sqlite3.DatabaseError, DatabaseDamaged) as error:
            self._discard_manifest(error)
            return self.manifest.identity()

    def _take_in_latest(self, files: dict[str, int]) -> None:
        damage: list[str] = []
        identity = ""
        for attempt in range(_ATTEMPTS):
            try:
                identity = self.manifest.identity()
                damage = self._uptake.take_in(self.manifest, identity, files)
                break
            except FileNotFoundError as error:  # merged with others meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise StorageError(
                        f"the ledger of {self._folder.url} changes faster than it can be read"
                    ) from error
                files = self.ledger.files()
            except (sqlite3.DatabaseError, DatabaseDamaged) as error:
                if attempt > 1:
                    raise
                self._discard_manifest(error)
        self._note_seen(identity, files)
        if self.manifest.is_suspect:
            self._make_good(damage)

    def _note_seen(self, identity: str, files: dict[str, int]) -> None:
        """Note what went into the manifest; a line that is not whole yet is looked at again."""
        if self.ledger.is_complete(files):
            self.manifest.complete()
        self._seen = identity, {name: files[name] for name in files if name not in self._uptake.unfinished}

    def _is_suspect(self) -> bool:
        with alone():
            return self.manifest.is_suspect

    def _make_good(self, damage: list[str]) -> None:
        """Find in the run directories what a damaged ledger, or one put in another's place, does not know."""
        is_there = bool(self.ledger.files())  # it may be removed as a whole
        found = self.refresh()
        with alone():
            self.manifest.suspect(False)
        if damage or (found.added and is_there):
            damage = damage or ["files of it are missing, or older than they were"]
            self._warn(
                f"the ledger of {self._folder.url} is damaged: {'; '.join(damage)}. What it may have lost was looked "
                f"for in the run directories, and {len(found.added)} runs were found. Catalog.reindex() makes a new "
                "ledger"
            )

    @staticmethod
    def _warn(message: str) -> None:
        warn(message, LedgerWarning)

    def _discard_manifest(self, error: Exception) -> None:
        """Begin a new manifest in the place of one that is damaged, or elsewhere if that place cannot be used."""
        if is_busy(error):
            message = f"{self.manifest.path} is locked by another process: {error}"
            raise StorageError(message) from error
        where = self.manifest.path
        try:
            if is_refused(error):
                raise OSError(str(error))
            self.manifest.remove()
        except OSError:
            self.manifest = Manifest(None)
        self._seen = "", {}
        self._warn(f"what was kept of {self._folder.url} in {where} cannot be used ({error}); it is made anew")

    @property
    def has_ledger(self) -> bool:
        """Whether the catalog has a ledger that knows every run."""
        return self.ledger.is_complete(self.ledger.files())

    # -- the run directories

    def record(self, *paths: str, sync: bool) -> None:
        """Put into the ledger how a run is, when it starts and when it stops; or of several runs, all at once.

        Parameters
        ----------
        *paths
            The run's directory.
        sync
            Return only when the entry would survive a power cut.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        unreadable: dict[str, str] = {}
        known = {path: self._recorded[path] for path in paths if path in self._recorded}
        if len(known) < len(paths) and not self.is_cold:
            with contextlib.suppress(StorageError):  # others keep the manifest; the ledger alone is needed
                for path in paths:
                    known = self.ask(Manifest.revision_of, path) | known
        records = list(read_all(self._folder, paths, known, unreadable))
        self.ledger.append(records, sync=sync)
        self._appended()
        self._report(unreadable)
        for record in records:
            self._recorded[record.path] = record.revision, record.state
            if record.state != "live":
                del self._recorded[record.path]

    def refresh(self) -> Survey:
        """Look through the run directories for runs that were put there, finished or removed by hand."""
        found = self._look_around()
        # Who only reads from a store does not write to it.
        problem = self._try_to_write(self._share) if self.compacts else ""
        self._report(found.unreadable)
        if problem and (found.added or found.changed):
            self._warn(f"{found!r}, but this cannot be told to others who read {self._folder.url}: {problem}")
        return found

    def _share(self) -> None:
        """Put into the ledger what is known from the run directories alone."""
        self.begin()
        self.ledger.append(self.ask(Manifest.unshared), sync=True)
        self._appended()

    def _try_to_write(self, write: Callable[[], None]) -> str:
        """Write if that is allowed, and say why it could not be done."""
        if not self.writable:
            return ""
        try:
            write()
        except StorageError as error:  # somebody else's catalog
            return str(error)
        return ""

    def _look_around(self, *, is_whole: bool = True) -> Survey:
        """Look through the run directories.

        Parameters
        ----------
        is_whole
            Whether what is not there is gone; else it may be on its way.
        """
        found = survey(self._folder, self._inventory, self.ask(Manifest.revisions))
        if is_whole:
            found.unreadable.update(self._misplaced())
        self._note_here(found.records if is_whole else found.added + found.changed)
        return found

    def _note_here(self, records: Sequence[Record]) -> None:
        """Put into the manifest alone what the run directories say."""
        if records:
            with alone(), self.manifest.writing():
                self.manifest.apply(records, shared=False)

    def _revive(self) -> None:
        """Find runs that were gone and are there again: copies come in any order, directories after the ledger."""
        gone = self.ask(Manifest.gone, _MANY_GONE)
        if len(gone) > _FEW_GONE and time.monotonic() - self._revived < _REVIVAL_SECONDS:
            return
        self._revived = time.monotonic()
        there = [path for path in gone if self._folder.exists(path)]
        if there:
            self._note_here(list(read_all(self._folder, there, self.ask(Manifest.revisions), {})))

    def _misplaced(self) -> Iterator[tuple[str, str]]:
        """Give the runs that were put beside the years, and say where they belong."""
        for name in self._folder.names():
            if layout.is_run_directory(name):
                place = f"{name[:4]}/{name[4:6]}/{name[6:8]}"
                yield name, f"{self._folder.path(name)} is a run, but not in its place; move it into {place}"

    # -- the trash

    def discarded(self, uid: str) -> Discarded | None:
        """Give the run of a uid if it is in the trash, without waiting for a network or for the ledger.

        Parameters
        ----------
        uid
            The whole uid.
        """
        with alone():
            try:
                if self._folder.remote is None:
                    self._take_in_notes(most=_FEW_NOTES)
                return next((item for item in self.manifest.discarded_like(uid) if item.uid == uid), None)
            except (sqlite3.DatabaseError, DatabaseDamaged) as error:
                self._discard_manifest(error)
                return None

    def add_notes(self, name: str, data: bytes) -> None:
        """Take in a file of notes that was just written.

        Parameters
        ----------
        name
            Its name.
        data
            Its content.
        """
        with alone():
            try:
                self.note_files.add(self.manifest, decode(name, data))
            except (sqlite3.DatabaseError, DatabaseDamaged) as error:
                self._discard_manifest(error)

    def look_at(self, path: str) -> None:
        """Learn of one run what its directory says."""
        known = self.ask(Manifest.revision_of, path)
        if self._folder.exists(path):
            self._note_here(list(read_all(self._folder, [path], known, {})))
        elif path in known and known[path][1] != GONE:
            gone = Record(path, known[path][0] + 1, GONE)
            self._note_here([gone])
            if self._folder.remote is None and self.has_ledger:
                self._try_to_write(lambda: self.ledger.append([gone], sync=True))

    def _report(self, unreadable: dict[str, str]) -> None:
        for path, problem in unreadable.items():
            if path not in self._unreadable:
                self._unreadable.add(path)
                warn(f"{problem}. The other runs are given", DamagedRunWarning)

    def begin(self) -> None:
        """Begin the ledger of a catalog that has none, with every run that is there.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        if self._has_begun or self.has_ledger:
            self._has_begun = self._folder.remote is not None
            return
        unreadable: dict[str, str] = {}
        folder = self._folder.alone()
        records = list(read_all(folder, Inventory(folder), {}, unreadable))
        self.ledger.publish(records, {})
        self._report(unreadable)

    def reindex(self, progress: Progress | None = None) -> None:
        """Make everything that is derived from the run directories anew: ledger, manifest and index.

        Where the ledger cannot be written, what is kept on this machine alone is made anew.

        Parameters
        ----------
        progress
            Is told what is being done, how far it has come, and of how much.
        """
        with self._housekeeping_stopped():
            self.sync()
            problem = self._try_to_write(lambda: self._rewrite_ledger(progress))
            with alone():
                self.indexing.close(discard=True)
                self._empty_manifest()
            self.sync()
            if problem or not self.writable:
                self._look_around()
        self.indexing.update(progress=progress)
        if problem:
            self._warn(f"the ledger of {self._folder.url} cannot be made anew: {problem}")

    @contextlib.contextmanager
    def _housekeeping_stopped(self) -> Iterator[None]:
        self.housekeeper.stop()
        try:
            yield
        finally:
            self.housekeeper = Housekeeper(self, self._is_busy)

    def _empty_manifest(self) -> None:
        try:
            self.manifest.reset()
        except (sqlite3.DatabaseError, DatabaseDamaged) as error:
            self._discard_manifest(error)
        self._seen = "", {}

    def _rewrite_ledger(self, progress: Progress | None) -> None:
        """Put one snapshot, made of the run directories, in the place of the ledger."""
        files = self.ledger.files()
        folder = self._folder.alone()
        paths = list(Inventory(folder))
        unreadable: dict[str, str] = {}
        records: list[Record] = []
        for record in read_all(folder, paths, self.ask(Manifest.revisions), unreadable):
            records.append(record)
            if progress is not None:
                progress("reading runs", len(records), len(paths))
        # It covers nothing, so that others read it anew, and forget what is not in it.
        self.ledger.drop(files, keep=self.ledger.publish(records, {}))
        self._report(unreadable)

    # -- housekeeping

    def update_index(self, proceed: Callable[[], bool] = lambda: True) -> int:
        """Put into the index what is not in it yet; see `Indexing.update`."""
        return self.indexing.update(proceed)

    def compact(self) -> None:
        """Merge the files of the ledger if there are many."""
        in_store = self._folder.remote is not None
        if self.writable and self._is_compaction_due(self.ledger.files()):
            compact(self.ledger, in_store=in_store)
            # Those of other people, and those with damage, stay.
            self._left_over = set(self.ledger.files())

    def close(self) -> None:
        """Close the files; they are opened again when they are needed."""
        self.indexing.close()
        self.manifest.close()

    def clear(self) -> None:
        """Forget everything that is kept of the catalog on this machine.

        Raises
        ------
        StorageError
            Another process is writing to it, and does not end.
        """
        with self._housekeeping_stopped(), alone():
            self.indexing.close(discard=True)
            self._empty_manifest()
            if self.directory is not None:
                cache.clear_files(self.directory)

    def remove(self) -> None:
        """Remove everything that is kept of the catalog on this machine; nobody may be using it any more.

        It waits for nothing, because it may be called wherever garbage is collected.
        """
        self._is_removed = True
        self.housekeeper.stop(0.0)
        if self.directory is not None:
            cache.remove(self.directory)
