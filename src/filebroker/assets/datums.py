"""What the resource and datum documents of a run stand for: the data in files of their own."""

import glob
import os
import threading
import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from filebroker.assets.handlers import Handlers
from filebroker.assets.mirror import Mirror
from filebroker.assets.openings import Opening
from filebroker.assets.places import NothingPacked, Packed, Place, is_below, locate
from filebroker.ground.documents import check_datum_columns
from filebroker.ground.errors import (
    FilebrokerError,
    InvalidDocument,
    MissingAsset,
    NotSupported,
    UnknownDatum,
    UnreadableAsset,
)
from filebroker.ground.forks import renew_in_children
from filebroker.ground.kinship import akin

_FIRST_WAIT = 0.002  # seconds; each wait is twice as long as the one before
#: A copy of a remote file is compared with it by each run, after each failure, and else no more often than this.
_COMPARED_SECONDS = 1.0
_mirror = Mirror()


class Datums:
    """The external data of one run, as far as resource and datum documents tell of them.

    A resource is opened once, and its handler kept.  A handler that was registered since, or a root that was mapped
    since, is used from the next loading on.  It can be pickled; what is open is left behind.

    Parameters
    ----------
    documents
        ``(name, document)`` of the run; others than resource, datum and datum_page are ignored.
    handlers
        Who reads what, and where roots have moved.
    patience
        So many seconds to go on trying when a file is not there or cannot be read, as a detector may write it late.
    packed
        The files that were packed together with the run, which are read in the place of others.

    Examples
    --------
    >>> resource = {"uid": "r", "spec": "ONES", "root": "/data", "resource_path": "a", "resource_kwargs": {"rows": 2}}
    >>> datum = {"datum_id": "r/0", "resource": "r", "datum_kwargs": {"columns": 3}}
    >>> def ones(path, rows):
    ...     return lambda columns: [[1] * columns] * rows
    >>> datums = Datums([("resource", resource), ("datum", datum)], Handlers({"ONES": ones}))
    >>> datums.load("r/0")
    [[1, 1, 1], [1, 1, 1]]
    """

    def __init__(
        self,
        documents: Iterable[tuple[str, Mapping[str, Any]]],
        handlers: Handlers,
        patience: float = 0.0,
        packed: Packed | None = None,
    ) -> None:
        self._handlers, self._packed = handlers, packed or NothingPacked()
        #: For so many seconds to go on trying.
        self.patience = patience
        self._resources: dict[str, Mapping[str, Any]] = {}
        #: Each datum's document, or its page and the row there.
        self._datums: dict[str, tuple[Mapping[str, Any], int | None]] = {}
        for name, doc in documents:
            self._take(name, doc)
        self._forget()

    def _take(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "resource":
            self._resources[doc["uid"]] = doc
        elif name == "datum":
            self._datums[doc["datum_id"]] = doc, None
        elif name == "datum_page":
            rows = enumerate(doc["datum_id"])
            self._datums.update({datum_id: (doc, row) for row, datum_id in rows if isinstance(datum_id, str)})

    def _forget(self) -> None:
        self._opened: dict[str, tuple[_Origin, Opening]] = {}
        self._by_resource: dict[str, list[str]] | None = None
        self._distrusted = time.monotonic()  # copies that were compared before then are to be compared again
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make a new lock, after a fork."""
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_opened", "_by_resource")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __contains__(self, datum_id: object) -> bool:
        return isinstance(datum_id, str) and datum_id in self._datums

    def __len__(self) -> int:
        return len(self._datums)

    @property
    def resources(self) -> list[Mapping[str, Any]]:
        """The resource documents, in the order of the run."""
        return list(self._resources.values())

    def resource_of(self, datum_id: str) -> Mapping[str, Any]:
        """Give the resource document that a datum belongs to.

        Raises
        ------
        UnknownDatum
            The run has no such datum, or not its resource.
            It is also event-model's `UnresolvableForeignKeyError`.
        """
        if datum_id not in self:
            raise _unknown(
                f"no datum document of the run has the datum_id {datum_id!r}, so that its data are not known"
            )
        uid = self._datums[datum_id][0]["resource"]
        if uid not in self._resources:
            raise _unknown(f"the datum {datum_id!r} belongs to the resource {uid!r}, which is not in the run")
        return self._resources[uid]

    def load(self, datum_id: str) -> Any:
        """Load the data of a datum.

        Returns
        -------
        Any
            What the handler gives, mostly a NumPy array.  What it would read later, such as a dask array, is read.

        Raises
        ------
        UnknownDatum
            The run has no such datum, or not its resource.
        MissingHandler
            No handler is registered for the resource's spec.
        MissingAsset
            The file is not there.
        UnreadableAsset
            The handler fails otherwise.  Both are also event-model's `DataNotAccessible`.
        """
        resource = self.resource_of(datum_id)
        options = self._options(datum_id)
        wait, end = _FIRST_WAIT, time.monotonic() + self.patience
        while True:
            try:
                return self._attempt(resource, options, datum_id)
            except (MissingAsset, UnreadableAsset) as error:
                if not isinstance(error.__cause__, OSError) or time.monotonic() + wait > end:
                    raise
            time.sleep(wait)
            wait *= 2

    def files_of(self, resource: Mapping[str, Any]) -> list[str]:
        """List the files that hold the data of a resource.

        Parameters
        ----------
        resource
            A resource document.

        Raises
        ------
        NotSupported
            The handler cannot tell.
        MissingHandler, MissingAsset, UnreadableAsset
            As for `load`.
        """
        options = [self._options(datum_id) for datum_id in self._datums_of(resource["uid"])]
        place, opening = self._opening(resource, self._since())
        if not callable(getattr(opening.handler, "get_file_list", None)):
            raise NotSupported(
                f"the handler {opening.handler!r} of {resource['spec']!r} does not tell which files it reads: "
                f"it has no method get_file_list(datum_kwargs)"
            )
        try:
            files = opening.use(lambda reader: [str(file) for file in reader.get_file_list(iter(options))])
        except Exception as error:
            raise _explained(error, resource, place, opening) from error
        return list(dict.fromkeys(_mirror.url(file) for file in files))

    def place_of(self, resource: Mapping[str, Any]) -> Place:
        """Give where the files of a resource are: packed together with the run, or as recorded and mapped.

        Parameters
        ----------
        resource
            A resource document.
        """
        packed = self._packed.place(resource["uid"])
        if packed is None:
            return locate(resource, self._handlers.root_map)
        return replace(locate(resource, {}), path=packed.path, packed=packed.directory)

    def close(self) -> None:
        """Close the handlers that are open; they are opened again when they are needed."""
        with self._lock:
            opened, self._opened = self._opened, {}
        for _, opening in opened.values():
            opening.close()

    def _datums_of(self, resource_uid: str) -> list[str]:
        if self._by_resource is None:
            found: dict[str, list[str]] = {}
            for datum_id, (doc, _) in self._datums.items():
                found.setdefault(doc["resource"], []).append(datum_id)
            self._by_resource = found
        return self._by_resource.get(resource_uid, [])

    def _options(self, datum_id: str) -> dict[str, Any]:
        """Give the arguments with which the handler is called for a datum."""
        doc, row = self._datums[datum_id]
        if row is None:
            return dict(doc["datum_kwargs"])
        try:
            check_datum_columns(doc)
        except InvalidDocument as error:
            raise _unreadable(f"what the datum {datum_id!r} stands for is not known: {error}") from error
        return {key: column[row] for key, column in doc["datum_kwargs"].items()}

    def _attempt(self, resource: Mapping[str, Any], options: Mapping[str, Any], datum_id: str) -> Any:
        since = self._since()
        place, opening = self._opening(resource, since)

        def fetch(reader: Any) -> bool:
            if not callable(getattr(reader, "get_file_list", None)):
                return False
            files = [str(file) for file in reader.get_file_list(iter([dict(options)]))]
            outside = [file for file in map(_mirror.url, files) if place.packed and not is_below(file, place.packed)]
            if outside:
                raise OSError(f"{outside[0]!r} is not below {place.packed!r}, where the files of the run were packed")
            return _mirror.fetch(files, since)

        try:
            if (place.remote or place.packed is not None) and opening.use(fetch):
                opening.close()  # it may have the older copy open
            return opening.use(lambda reader: _loaded(reader(**options)))
        except Exception as error:
            with self._lock:
                self._opened.pop(resource["uid"], None)
                self._distrusted = time.monotonic()
            raise _explained(error, resource, place, opening, datum_id) from error

    def _since(self) -> float:
        """Tell since when a copy of a remote file must have been compared with it."""
        return max(self._distrusted, time.monotonic() - _COMPARED_SECONDS)

    def _opening(self, resource: Mapping[str, Any], since: float) -> tuple[Place, Opening]:
        """Give the handler of a resource, and where its files are."""
        handler = self._handlers.find(resource["spec"], f"the resource {resource['uid']!r}")
        place = self.place_of(resource)
        with self._lock:
            known = self._opened.get(resource["uid"])
        path, version = _fetched(resource, place, since) if place.remote else (place.path, None)
        origin = _Origin(place, path, version)
        if known is not None and known[0] == origin and known[1].handler is handler:
            return place, known[1]
        opened = origin, Opening(handler, path, resource["resource_kwargs"])
        with self._lock:
            present = self._opened.get(resource["uid"])
            if present is not None and present is not known:
                return present[0].place, present[1]  # another thread was faster
            self._opened[resource["uid"]] = opened
        if known is not None:
            known[1].close()
        return place, opened[1]


@dataclass(frozen=True)
class _Origin:
    """What a handler was opened for: a place, the path of a local copy, and the version of what was copied."""

    place: Place
    path: str
    version: Hashable


def _fetched(resource: Mapping[str, Any], place: Place, since: float) -> tuple[str, Hashable]:
    try:
        return _mirror.path(place.path, since)
    except (OSError, ImportError, ValueError) as error:
        raise _unreadable(f"{_described(resource)} is at {place.path!r}, which cannot be reached: {error}") from error


def _loaded(value: Any) -> Any:
    """Read what is still in a file that a handler may close: dask collections and HDF5 datasets."""
    if type(value) in (list, tuple):
        return type(value)(_loaded(item) for item in value)
    if hasattr(value, "__dask_graph__"):
        return value.compute(scheduler="synchronous")
    if type(value).__module__.startswith("h5py."):
        return value[()]
    return value


def _explained(
    error: Exception, resource: Mapping[str, Any], place: Place, opening: Opening, datum_id: str | None = None
) -> FilebrokerError:
    """Tell what kept a handler from reading, and what to do about it."""
    what = _described(resource) + ("" if datum_id is None else f" (datum {datum_id!r})")
    absent = _absent(error)
    if absent is not None or (isinstance(error, OSError) and not place.remote and _empty(place.path)):
        path = _mirror.url(str(getattr(absent, "filename", None) or place.path))
        return akin(MissingAsset, "event_model", "DataNotAccessible")(
            f"there is no {path!r}, which {what} needs; {place.history}. If the files are elsewhere: {place.remedy}"
        )
    name = getattr(opening.handler, "__qualname__", repr(opening.handler))
    where = f"{place.path!r}"
    if place.remote:
        where += " (on an object store, a handler finds its files only if its get_file_list names them)"
    return _unreadable(f"{name} cannot read {what} at {where}: {type(error).__name__}: {error}")


def _absent(error: BaseException | None) -> BaseException | None:
    """Find the error that says a file is not there, among an error and what led to it."""
    while error is not None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _empty(path: str) -> bool:
    """Tell whether no file has a name that begins with a path."""
    return not os.path.exists(path) and not glob.glob(glob.escape(path) + "*")


def _described(resource: Mapping[str, Any]) -> str:
    return f"the resource {resource['uid']!r} of spec {resource['spec']!r}"


def _unreadable(message: str) -> UnreadableAsset:
    return akin(UnreadableAsset, "event_model", "DataNotAccessible")(message)


def _unknown(message: str) -> UnknownDatum:
    return akin(UnknownDatum, "event_model", "UnresolvableForeignKeyError")(message)
