"""The catalog: documents go in by `Catalog.insert`, runs come out newest first."""

import contextlib
import functools
import os
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, get_args

from filebroker.cataloging.recording import Recording, mark
from filebroker.cataloging.run import Known, Run
from filebroker.cataloging.runs import Runs
from filebroker.finding import cache
from filebroker.finding.entries import Entry
from filebroker.finding.indexing import Progress
from filebroker.finding.inventory import Inventory
from filebroker.finding.library import Library
from filebroker.finding.manifest import Manifest
from filebroker.finding.search import Search
from filebroker.finding.survey import Survey
from filebroker.ground import codec, filesystem, forks
from filebroker.ground.cautions import warn
from filebroker.ground.documents import describe
from filebroker.ground.errors import (
    CatalogNotFound,
    DamagedRun,
    DamagedRunWarning,
    InvalidConfig,
    NothingRecorded,
    OfflineWarning,
    ReadOnlyCatalog,
    RecoveryWarning,
    StorageError,
    StoreUnreachable,
    UnstorableValue,
    UnsupportedFormat,
    UploadWarning,
)
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.storing.convoys import Convoy
from filebroker.storing.recorder import Sync
from filebroker.storing.recovery import Recovery, recover_all
from filebroker.storing.rescue import fetch_live
from filebroker.storing.staging import Staging
from filebroker.storing.uploader import Uploader

#: So many runs, and so many bytes of their documents, are kept in memory once they were read.
_KEPT_RUNS, _KEPT_BYTES = 1024, 16 << 20
#: So many runs of a store are read together at most.
_MOST_TOGETHER = 64


class Catalog(Runs):
    """A folder of runs.

    Opening a catalog lists no runs.  Runs whose recording died on this machine are sealed on the way, and
    a `RecoveryWarning` says so.

    Parameters
    ----------
    url
        A local directory, or an fsspec URL to read from.  A directory that is missing or empty becomes a
        catalog when the first document is inserted.
    storage_options
        Arguments of the fsspec filesystem.
    read_only
        Never write: neither documents nor the sealing of interrupted runs.
    sync
        When recorded documents are forced to the disk: ``interval`` (every 100 ms), ``always`` (before
        `insert` returns) or ``never`` (when the operating system sees fit).

    Raises
    ------
    CatalogNotFound
        The directory holds other things than a catalog, or is to be read and does not exist.
    UnsupportedFormat
        The catalog was made by a later version.
    InvalidConfig
        ``sync`` is none of its values.

    Examples
    --------
    >>> import tempfile
    >>> catalog = Catalog(tempfile.mkdtemp())
    >>> len(catalog)
    0
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        read_only: bool = False,
        sync: Sync = "interval",
    ) -> None:
        self.folder = Folder(url, storage_options)
        if sync not in get_args(Sync):
            raise InvalidConfig(f"sync={sync!r} means nothing; it is one of {', '.join(map(repr, get_args(Sync)))}")
        self._staging = self._stage(url)
        if self.folder.local is not None and os.path.isfile(self.folder.local):
            raise CatalogNotFound(f"{self.folder.local} is a file; a catalog is a directory")
        self.read_only = read_only
        self._sync: Sync = sync
        self._id: str | None = None
        self._library: Library | None = None
        self._runs: OrderedDict[str, tuple[Run, int]] = OrderedDict()
        self._kept_bytes = 0
        self._unreadable: set[str] = set()
        self._recording: Recording | None = None
        self._uploader: Uploader | None = None
        self._mutex = threading.RLock()
        forks.renew_in_children(self)
        if self._check_marker() and not read_only:
            self._go_on()

    def _stage(self, url: str | os.PathLike[str]) -> Staging | None:
        """Give the place on this machine for what is recorded for a store."""
        if self.folder.remote is None or not self.folder.remote.store.is_writable:
            return None
        self.folder.staged = Staging(os.fspath(url))
        return self.folder.staged

    def _go_on(self) -> None:
        """Seal what was left unfinished on this machine, and upload it where it has to be."""
        if self.folder.local is not None:
            self._recover(self.folder.local, anywhere=False)
        elif self._staging is not None and os.path.isdir(self._staging.root):
            self._recover(self._staging.root, anywhere=False)
            self._upload()

    def __repr__(self) -> str:
        return f"<Catalog {self.folder.url!r}>"

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.RLock()
        self._uploader = None

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy in another process reads the same folder; what is being recorded here stays here.
        options = self.folder.storage_options
        again = functools.partial(Catalog, storage_options=options, read_only=self.read_only, sync=self._sync)
        return again, (self.folder.url,)

    # -- opening

    def _check_marker(self) -> bool:
        """Tell whether the folder is a catalog already; refuse one that can be none."""
        try:
            self._read_marker()
        except FileNotFoundError:
            return self._check_unmarked()
        except StoreUnreachable as error:
            self._id = cache.known_id(self.folder)
            if self._id is None:
                raise
            warn(f"{error}. What was read of it before is given", OfflineWarning)
        return True

    def _read_marker(self) -> None:
        """Learn what the catalog's marker says.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        text = self.folder.read(layout.MARKER)
        try:
            marker = codec.loads(text)
            version, requires = marker["format"], list(marker.get("requires", []))
            self._id = str(marker["id"]) if "id" in marker else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnsupportedFormat(
                f"{self.folder.path(layout.MARKER)} is damaged ({error!r}); the runs beside it are unharmed. "
                'Replace its content by {"format": 1, "requires": []}'
            ) from error
        if type(version) is not int or version != layout.FORMAT or requires:
            raise UnsupportedFormat(
                f"the catalog {self.folder.url} has format {version} {requires or ''}, and this version of filebroker "
                f"reads format {layout.FORMAT}; upgrade filebroker"
            )

    def _check_unmarked(self) -> bool:
        names = [name for name in self.folder.names() if not _is_ours(name)]
        if layout.MARKER in names:  # another process has just made the catalog
            return self._check_marker()
        if next(iter(Inventory(self.folder)), None) is not None:
            return True  # copied without its marker
        misplaced = [name for name in names if layout.is_run_directory(name)]
        if misplaced:
            name = misplaced[0]
            raise CatalogNotFound(
                f"{self.folder.url} is no filebroker catalog: {name} is a run, but not in its place; move it into "
                f"{name[:4]}/{name[4:6]}/{name[6:8]}"
            )
        if names:
            raise CatalogNotFound(
                f"{self.folder.url} is no filebroker catalog: it has no {layout.MARKER} and no runs, but "
                f"{', '.join(names[:5])}. Give an empty or a new directory to begin a catalog"
            )
        if self.read_only or (self.folder.local is None and self._staging is None):
            raise CatalogNotFound(f"there is no filebroker catalog at {self.folder.url}; check the path")
        return False

    def seal_interrupted(self) -> None:
        """Seal every run whose recording was cut short, also where that was on another machine.

        Opening a catalog does this by itself for runs that were recorded on this machine.  Those of other
        machines, and of catalogs that were copied, it leaves alone, because whether their writers live
        cannot be seen from here.  Call this when you know that they do not.  A `RecoveryWarning` says what
        was done.

        Raises
        ------
        ReadOnlyCatalog
            The catalog was opened for reading, or is not on a local disk.

        Examples
        --------
        >>> catalog = Catalog("my_beamtime")
        >>> catalog.seal_interrupted()
        """
        if self.read_only or (self.folder.local is None and self._staging is None):
            raise ReadOnlyCatalog(f"the catalog {self.folder.url} was opened for reading; nothing can be sealed")
        if self._staging is not None:
            fetch_live(self.folder.store.store, self._staging)
        self._recover(self._root, anywhere=True)
        if self._staging is not None:
            self._upload()

    def _recover(self, root: str, *, anywhere: bool) -> None:
        try:
            recoveries = recover_all(root, anywhere=anywhere, announce=self._announce)
        except OSError as error:
            warnings.warn(
                f"the catalog {root} has runs whose recording was cut short, and they cannot be sealed: {error}. "
                "They can be read",
                RecoveryWarning,
                stacklevel=4,
            )
            return
        for recovery in recoveries:
            if message := _explain(recovery):
                warnings.warn(message, RecoveryWarning, stacklevel=4)

    def _announce(self, directory: str) -> None:
        """Put a run that was sealed now into the ledger, if there is one: else its directory says enough."""
        library = self.library
        if self._staging is not None or library.has_ledger:
            with library.silence():
                library.record(directory, sync=self._sync != "never")

    # -- the door in

    def insert(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record a document.

        When this returns, the document survives the death of the process.

        Parameters
        ----------
        name
            ``start``, ``descriptor``, ``event``, ``event_page``, ``resource``, ``datum``, ``datum_page``,
            ``stream_resource``, ``stream_datum``, ``stop``, ``bulk_events`` or ``bulk_datum``.
        doc
            The document.  It is not modified.

        Raises
        ------
        ReadOnlyCatalog
            The catalog was opened for reading.
        UnknownDocumentName, InvalidDocument, UnstorableValue
            The document cannot be kept; the message names the key.
        UnknownRun
            The document refers to something that was not inserted before it.
        DuplicateDocument
            It was inserted before with different content.  The same content again changes nothing.
        StorageError
            The filesystem refused.  Everything inserted before is safe.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.newest(1)
        <Run '84d9ee44': a run, live, streams none>
        >>> catalog.close()
        """
        recording = self._recording
        if recording is None:
            recording = self._start_recording()
        try:
            recording.insert(name, doc)
        except UnstorableValue as error:
            raise UnstorableValue(f"in the {describe(name, doc)}, {error}") from None
        if self._uploader is not None and name in ("start", "stop"):
            self._uploader.wake()
            self._tell()

    def _start_recording(self) -> Recording:
        if self.read_only:
            raise ReadOnlyCatalog(f"the catalog {self.folder.url} was opened for reading; nothing can be inserted")
        if self.folder.local is None and self._staging is None:
            raise ReadOnlyCatalog(f"nothing can be written to {self.folder.url}; record locally and copy the folder")
        with self._mutex:
            if self._recording is None:
                if self._staging is not None:
                    self._staging.make()
                    self._upload()
                shelf = weakref.proxy(self)
                begin = functools.partial(_begin, shelf)
                self._recording = Recording(self._root, begin, shelf, self._sync)
            return self._recording

    @property
    def _root(self) -> str:
        """The local path that runs are recorded to."""
        if self._staging is not None:
            return self._staging.root
        return self.folder.path("")

    # -- on the way to a store

    def _upload(self) -> None:
        """Upload what was recorded for a store, in the background."""
        with self._mutex:
            if self._staging is None:
                return
            if self._uploader is None:
                after = functools.partial(_keep_ledger, weakref.ref(self))
                self._uploader = Uploader(self._staging, self.folder.store.store, after_round=after)
                self.library.compacts = True
            self._uploader.wake()

    def _tell(self) -> None:
        """Tell once what is wrong with the upload."""
        for message in [] if self._uploader is None else self._uploader.take_warnings():
            warn(message, UploadWarning)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that was recorded so far is in the store.

        On a local disk there is nothing to wait for.

        Parameters
        ----------
        timeout
            Wait no longer than so many seconds.

        Raises
        ------
        StorageError
            The store cannot be reached in that time, or refuses; everything is safe on this machine.

        Examples
        --------
        >>> catalog = Catalog("memory://my_beamtime")
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.flush()
        >>> catalog.close()
        """
        if self._uploader is not None:
            self._uploader.flush(timeout)
            self._tell()

    def close(self) -> None:
        """Stop recording, and close what was opened to find runs; the catalog can still be read.

        Runs without a stop document are sealed when the catalog is next opened.  What was recorded for a store is
        uploaded first.

        Examples
        --------
        >>> from filebroker import temp
        >>> catalog = temp().catalog
        >>> catalog.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> catalog.close()
        >>> len(catalog)
        1
        """
        if self._recording is not None:
            self._recording.close()
            self._recording = None
        if self._uploader is not None:
            problem = self._uploader.close()
            self._tell()
            if problem:
                warn(problem, UploadWarning)
            self._uploader = None
        if self._library is not None:
            self._library.close()

    # -- the door out

    @property
    def catalog(self) -> "Catalog":
        """The catalog itself.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.catalog is catalog
        True
        """
        return self

    @property
    def place(self) -> str:
        """Where the catalog is, for messages.

        Examples
        --------
        >>> Catalog("my_beamtime").place
        '...my_beamtime, which does not exist yet; check the path'
        """
        return (
            self.folder.url if self.folder.exists() else f"{self.folder.url}, which does not exist yet; check the path"
        )

    @property
    def library(self) -> Library:
        """What is known of the runs."""
        with self._mutex:
            if self._library is None or (self._id is None and self._is_marked and self._find_id()):
                writable = not self.read_only and (self.folder.local is not None or self._staging is not None)
                self._library = Library(
                    self.folder,
                    self._id,
                    writable=writable,
                    is_busy=functools.partial(_is_recording, weakref.ref(self)),
                    appended=functools.partial(_upload, weakref.ref(self)),
                )
            return self._library

    @property
    def _is_marked(self) -> bool:
        """Whether the catalog may have been given an id by now, and it costs nothing to look."""
        return self.folder.local is not None or self.folder.on_disk(layout.MARKER) is not None

    def _find_id(self) -> bool:
        """Look for the id that another process may have given the catalog meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            self._read_marker()
        return self._id is not None

    def _search(self) -> Search:
        library = self.library
        library.sync()
        return Search(library)

    def _open(self, entry: Entry) -> Run | None:
        if self._can_wait(entry) and entry.path not in self._runs:
            self._expect([entry], None)
        return self._run(entry.path)

    def _together(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give entries one after another; those of a store come with what is known, and are read with the others."""
        if self.folder.remote is None:
            yield from entries
            return
        left, size, convoy = iter(entries), 1, Convoy(self.folder.remote)
        while chunk := list(islice(left, size)):
            self._expect([entry for entry in chunk if self._can_wait(entry)], convoy)
            yield from chunk
            size = min(4 * size, _MOST_TOGETHER)

    def _can_wait(self, entry: Entry) -> bool:
        """Tell whether the files of a run need not be read before more is asked than the ledger knows."""
        return self.folder.remote is not None and entry.state == "sealed" and self.folder.on_disk(entry.path) is None

    def _expect(self, entries: Sequence[Entry], convoy: Convoy | None) -> None:
        """Make runs of a store of what is known of them."""
        rows = [entry.row for entry in entries if entry.path not in self._runs]
        for item in self.library.ask(Manifest.documents, rows):
            path, version = item.entry.path, f"{self._id}.{item.entry.revision}"
            if convoy is not None:
                convoy.join(path, version)
            run = Run(self.folder, path, Known(version, item.raw_start, item.raw_stop), convoy)
            with self._mutex:
                self._keep(run)

    def refresh(self) -> Survey:
        """Look through the run directories for runs that were copied there, or removed, by hand.

        Runs that are recorded are found without it.

        Returns
        -------
        Survey
            What was found: ``added``, ``changed``, ``removed`` and ``unreadable``.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.refresh()
        <Survey: 0 added, 0 changed, 0 removed, 0 unreadable>
        """
        library = self.library
        library.sync()
        found = library.refresh()
        with self._mutex:
            for record in found.records:
                self._forget_run(record.path)
        return found

    def reindex(self, progress: Progress | None = None) -> None:
        """Make everything that is derived from the run directories anew: the ledger and the index.

        Parameters
        ----------
        progress
            Is called with what is being done, how far it has come, and of how much.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.reindex()
        >>> len(catalog)
        22
        """
        self.library.reindex(progress)

    def clear_cache(self) -> None:
        """Forget what is kept of this catalog on this machine; it is made anew when it is needed.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.clear_cache()
        >>> len(catalog)
        22
        """
        self.library.clear()

    def _run(self, directory: str) -> Run | None:
        """Give a run, or warn that it cannot be read."""
        with self._mutex:
            if directory in self._runs:
                self._runs.move_to_end(directory)
                return self._runs[directory][0]
        try:
            run = Run(self.folder, directory)
        except NothingRecorded:  # a copy in the making
            return None
        except (DamagedRun, UnsupportedFormat, StorageError) as error:
            if directory not in self._unreadable:
                self._unreadable.add(directory)
                warn(f"{error}. The other runs are given", DamagedRunWarning)
            return None
        with self._mutex:
            self._keep(run)
        return run

    def _keep(self, run: Run) -> None:
        """Keep a run in memory, and let go of those not used for longest."""
        self._forget_run(run.directory)
        self._kept_bytes += run.size
        self._runs[run.directory] = run, run.size
        while len(self._runs) > _KEPT_RUNS or self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= self._runs.popitem(last=False)[1][1]

    def _forget_run(self, directory: str) -> None:
        self._kept_bytes -= self._runs.pop(directory, (None, 0))[1]


def _begin(catalog: Catalog) -> None:
    """Make the place that is recorded to a catalog; no store is asked for that."""
    if catalog.folder.local is not None:
        mark(catalog.folder.local)
        catalog.library.begin()
    elif catalog._staging is not None and catalog._id is None:
        mark(catalog._staging.root)


def _upload(catalog: "weakref.ref[Catalog]") -> None:
    """Upload what was added to the ledger of a catalog in a store."""
    there = catalog()
    if there is not None and there._staging is not None:
        there._upload()


def _keep_ledger(catalog: "weakref.ref[Catalog]") -> None:
    """Begin the ledger of a catalog in a store if it has none, and keep its files few."""
    there = catalog()
    if there is not None:
        there.library.begin()
        there.library.housekeeper.start()


def _is_recording(catalog: "weakref.ref[Catalog]") -> bool:
    """Tell whether a catalog is being recorded into; its library must not keep it alive."""
    there = catalog()
    recording = None if there is None else there._recording
    return recording is not None and recording.is_busy


def _is_ours(name: str) -> bool:
    """Tell whether a name may be in a folder that is about to become a catalog."""
    return name.startswith(".") or name in (layout.LIVE, layout.LEDGER) or filesystem.is_temporary(name)


def _explain(recovery: Recovery) -> str:
    """Say what was done about a run whose recording was cut short; nothing where no one need know."""
    lost = f" Lost: {recovery.detail}." if recovery.detail else ""
    match recovery.outcome:
        case "sealed":
            return f"the run in {recovery.directory} was complete but not sealed, and is now.{lost}"
        case "interrupted":
            return (
                f"the recording of the run in {recovery.directory} was cut short; its {recovery.documents} documents "
                f"were sealed, without a stop document.{lost}"
            )
        case "unreadable":
            return f"the run in {recovery.directory} was cut short and cannot be sealed: {recovery.detail}"
        case _:
            return ""
