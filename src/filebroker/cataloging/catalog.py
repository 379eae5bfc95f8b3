"""The catalog: documents go in by `Catalog.insert`, runs come out newest first."""

import contextlib
import functools
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from filebroker.cataloging.annotating import Annotating
from filebroker.cataloging.outbox import Outbox
from filebroker.cataloging.recording import Recording, mark
from filebroker.cataloging.run import Run
from filebroker.cataloging.shelf import Shelf
from filebroker.finding import cache
from filebroker.finding.entries import Entry
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
    InvalidConfig,
    OfflineWarning,
    ReadOnlyCatalog,
    RecoveryWarning,
    StoreUnreachable,
    UnstorableValue,
    UnsupportedFormat,
)
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress
from filebroker.storing import layout
from filebroker.storing.recorder import Sync
from filebroker.storing.recovery import Recovery, recover_all

#: Segments of runs for a store are short: a journal goes up as a whole, and pages once.
_STORE_LIMITS = {"segment_bytes": 8 << 20, "segment_documents": 25_000}


class Catalog(Annotating):
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
        if self.folder.local is not None and os.path.isfile(self.folder.local):
            raise CatalogNotFound(f"{self.folder.local} is a file; a catalog is a directory")
        self.read_only = read_only
        self._sync: Sync = sync
        self._id: str | None = None
        self._library: Library | None = None
        self._was_offline = False
        self._shelf = Shelf()
        self._recording: Recording | None = None
        self._outbox = self._make_outbox()
        self._mutex = threading.RLock()
        forks.renew_in_children(self)
        if self._check_marker() and not read_only:
            self._go_on()

    def _make_outbox(self) -> Outbox | None:
        """Give the way to a store that can be written to."""
        if self.folder.remote is None or not self.folder.remote.store.is_writable:
            return None
        outbox = Outbox(self.folder.remote.store, functools.partial(_keep_ledger, weakref.ref(self)))
        self.folder.staged = outbox.staging
        return outbox

    def _go_on(self) -> None:
        """Seal what was left unfinished on this machine, and bring it where it has to be."""
        if self.folder.local is not None:
            self._recover(self.folder.local, anywhere=False)
        elif self._outbox is not None and self._outbox.is_used:
            self._recover(self._outbox.root, anywhere=False)
            self._send()
        if self._outbox is not None:
            self._outbox.tell_of_others()

    def __repr__(self) -> str:
        return f"<Catalog {self.folder.url!r}>"

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.RLock()

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
            if self._outbox is not None and not self.read_only:
                self._id = self._id or self._outbox.staging.catalog_id
            elif self._id is None:
                raise
            warn(f"{error}. What is known of it on this machine is given", OfflineWarning)
            self._was_offline = True
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
                'If this is a copy, go on copying; else replace its content by {"format": 1, "requires": []}'
            ) from error
        if type(version) is not int or version != layout.FORMAT or requires:
            raise UnsupportedFormat(
                f"the catalog {self.folder.url} has format {version} {requires or ''}, and this version of filebroker "
                f"reads format {layout.FORMAT}; upgrade filebroker"
            )

    def _check_unmarked(self) -> bool:
        names = [name for name in self.folder.names() if not _is_ours(name)]
        if layout.MARKER in names:  # another process has just made the catalog
            try:
                self._read_marker()
            except FileNotFoundError:
                raise CatalogNotFound(
                    f"{self.folder.path(layout.MARKER)} is a link that leads nowhere. Put a file there: "
                    '{"format": 1, "requires": []} will do'
                ) from None
            return True
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
        if self.read_only or (self.folder.local is None and self._outbox is None):
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
        if self.read_only or (self.folder.local is None and self._outbox is None):
            raise ReadOnlyCatalog(f"the catalog {self.folder.url} was opened for reading; nothing can be sealed")
        if self._outbox is not None:
            self._outbox.fetch_interrupted()
        self._recover(self._root, anywhere=True)
        self._send()

    def _recover(self, root: str, *, anywhere: bool) -> None:
        try:
            live = self._search().library.ask(Manifest.live) if anywhere else []
            recoveries = recover_all(root, anywhere=anywhere, live=live, announce=self._announce)
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

    def _announce(self, *directories: str) -> None:
        """Put runs that were sealed now into the ledger, if there is one: else their directories say enough."""
        library = self.library
        if self._outbox is not None or library.has_ledger:
            with library.silence():
                library.record(*directories, sync=self._sync != "never")

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
        if self._outbox is not None and name in ("start", "stop"):
            self._outbox.tell()

    def _start_recording(self) -> Recording:
        if self.read_only:
            raise ReadOnlyCatalog(f"the catalog {self.folder.url} was opened for reading; nothing can be inserted")
        if self.folder.local is None and self._outbox is None:
            raise ReadOnlyCatalog(f"nothing can be written to {self.folder.url}; record locally and copy the folder")
        with self._mutex:
            if self._recording is None:
                if self._outbox is not None:
                    self._outbox.staging.make()
                    self._outbox.staging.remember(self._id)
                limits = {} if self._outbox is None else _STORE_LIMITS
                there = weakref.proxy(self)
                self._recording = Recording(self._root, functools.partial(_begin, there), there, self._sync, limits)
            return self._recording

    @property
    def _root(self) -> str:
        """The local path that runs are recorded to."""
        return self.folder.path("") if self._outbox is None else self._outbox.root

    def _send(self) -> None:
        """Bring what is new to the store, in the background."""
        if self._outbox is not None:
            self._outbox.send()
            self.library.compacts = True

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
        if self._outbox is not None:
            self._outbox.flush(timeout)

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
        if self._outbox is not None:
            self._outbox.close()
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
        # A store was asked when it was opened, and is not asked for a message.
        is_there = self._id is not None if self.folder.local is None else self.folder.exists()
        return self.folder.url if is_there else f"{self.folder.url}, which does not exist yet; check the path"

    @property
    def library(self) -> Library:
        """What is known of the runs."""
        with self._mutex:
            if self._library is None or (self._id is None and self._is_marked and self._find_id()):
                writable = not self.read_only and (self.folder.local is not None or self._outbox is not None)
                self._library = Library(
                    self.folder,
                    self._id,
                    writable=writable,
                    is_busy=functools.partial(_is_recording, weakref.ref(self)),
                    appended=functools.partial(_send, weakref.ref(self)),
                )
                self._library.is_offline = self._was_offline
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
        return self._shelf.open(self.folder, self.library, entry)

    def _together(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give entries one after another, and read what is in a store of many at once."""
        return self._shelf.together(self.folder, self.library, entries)

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
        for record in found.records:
            self._shelf.forget(record.path)
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


def _begin(catalog: Catalog) -> None:
    """Make the place that is recorded to a catalog; no store is asked for that."""
    if catalog.folder.local is not None:
        mark(catalog.folder.local)
        catalog.library.begin()
    elif catalog._id is None:
        mark(catalog._root)
        catalog._read_marker()  # before it goes up
        if catalog._library is not None:  # it has no place on the disk
            catalog._library.close()
        catalog._library = None


def _send(catalog: "weakref.ref[Catalog]") -> None:
    """Bring what was added to the ledger of a catalog to its store."""
    there = catalog()
    if there is not None:
        there._send()


def _keep_ledger(catalog: "weakref.ref[Catalog]") -> None:
    """Begin the ledger of a catalog in a store if it has none, and keep its files few."""
    there = catalog()
    if there is not None:
        there.library.begin()
        there.library.sync()  # so that it is known without a request what is there already
        there.library.housekeeper.start()


def _is_recording(catalog: "weakref.ref[Catalog]") -> bool:
    """Tell whether a catalog is being recorded into; its library must not keep it alive."""
    there = catalog()
    recording = None if there is None else there._recording
    return recording is not None and recording.is_busy


def _is_ours(name: str) -> bool:
    """Tell whether a name may be in a folder that is about to become a catalog."""
    ours = (layout.LIVE, layout.LEDGER, layout.NOTES, layout.PURGED)
    return name.startswith(".") or name in ours or filesystem.is_temporary(name)


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
