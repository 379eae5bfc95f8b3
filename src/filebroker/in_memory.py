"""Runs whose documents come from a function or from a RunEngine, with all that a run of a catalog has.

Nothing is recorded before it is asked for, or pickled.  Then the documents go through a catalog in a temporary
directory, which is removed when neither the catalog nor a run of it is used any more in the process that made it.  What
was pickled reads that directory, and can be used as long as it is there.

A run that is replaced stays as it was for those who hold it: the others go on in a new directory.
"""

import copy
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.recording import mark
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.broker import Broker
from filebroker.faces.browsing import RunCatalog
from filebroker.finding.entries import Entry
from filebroker.finding.library import Library
from filebroker.finding.search import Search
from filebroker.ground.documents import Document, Pair
from filebroker.ground.errors import InvalidDocument, NotSupported
from filebroker.ground.filesystem import Folder
from filebroker.ground.forks import renew_in_children

__all__ = ["BlueskyInMemoryCatalog", "SingleRunCache"]


@dataclass(frozen=True)
class Source:
    """Where the documents of a run come from.

    Attributes
    ----------
    uid : str
        The uid of its start document.
    documents : callable
        Gives the names and documents, the start document first.
    """

    uid: str
    documents: Callable[[], Iterable[Pair]]


class Gathered(Runs):
    """Runs that are recorded when they are first asked for."""

    def __init__(self) -> None:
        self._kept = _temporary()
        self._prepare()

    def _prepare(self) -> None:
        """Make what a copy has of its own."""
        self._pending: dict[str, Source] = {}
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make a new lock, after a fork."""
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        # The functions may be of any kind; what they give can be read from the directory, in another process too.
        return {"_kept": self._record()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def add(self, source: Source) -> None:
        """Add a run, in place of the run of the same uid if there is one.

        Parameters
        ----------
        source
            Where its documents come from.
        """
        with self._lock:
            self._pending[source.uid] = source

    def _record(self) -> Catalog:
        """Record the runs that were not asked for before."""
        with self._lock:
            if any(map(self._kept.has_uid, self._pending)):
                self._kept = _without(self._kept, self._pending)
            while self._pending:
                uid, source = next(iter(self._pending.items()))
                # An error of the function is told once; what came before it can be read.
                del self._pending[uid]
                for name, doc in source.documents():
                    self._kept.insert(name, doc)
        return self._kept

    def _search(self) -> Search:
        return self._record()._search()

    def _open(self, entry: Entry) -> Run | None:
        return self._kept._open(entry)

    @property
    def catalog(self) -> Catalog:
        """The catalog in which the runs are recorded."""
        return self._record()

    @property
    def place(self) -> str:
        """Where the runs are, for messages."""
        return "memory"


class BlueskyInMemoryCatalog(RunCatalog):
    """A version 2 catalog of runs whose documents come from functions.

    Parameters
    ----------
    handler_registry
        Spec to handler, or its dotted name; None for the handlers that installed packages offer.
    root_map
        Recorded root to the place where its files are now.
    filler_class
        Only event-model's `Filler`, which does what is done here.
    query
        Leave out the runs that do not answer this query.
    transforms
        Functions that start, stop, resource or descriptor documents pass through.
    name
        A name for people.
    metadata
        Anything.

    Raises
    ------
    NotSupported
        Another ``filler_class`` is given.

    Examples
    --------
    >>> start = {"uid": "84d9ee44", "time": 1763821925.0}
    >>> stop = {"uid": "5cc1", "time": 1763821926.0, "run_start": "84d9ee44", "exit_status": "success"}
    >>> catalog = BlueskyInMemoryCatalog()
    >>> catalog.upsert(start, stop, lambda: iter([("start", start), ("stop", stop)]), (), {})
    >>> catalog[-1].metadata["stop"]["exit_status"]
    'success'
    """

    def __init__(
        self,
        *,
        handler_registry: Mapping[str, Any] | None = None,
        root_map: Mapping[str, str] | None = None,
        filler_class: Any = None,
        query: Mapping[str, Any] | None = None,
        transforms: Mapping[str, Any] | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._gathered = Gathered()
        broker = _broker(self._gathered, handler_registry, root_map, filler_class, transforms, name)
        runs = self._gathered.search(query) if query else self._gathered
        super().__init__(broker.over(runs, name), runs, name)
        self.v1.v2 = self
        self.metadata = dict(metadata or {})

    def upsert(
        self,
        start_doc: Document,
        stop_doc: Document | None,
        gen_func: Callable[..., Iterable[Pair]],
        gen_args: Sequence[Any] = (),
        gen_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a run, in place of the run of the same uid if there is one.

        Parameters
        ----------
        start_doc
            Its start document.
        stop_doc
            Its stop document, if there is one; what the function gives counts.
        gen_func, gen_args, gen_kwargs
            A function, and its arguments, that gives all names and documents of the run.  It is called once, when a
            run of the catalog is first asked for.

        Examples
        --------
        >>> start = {"uid": "84d9ee44", "time": 1763821925.0}
        >>> catalog = BlueskyInMemoryCatalog()
        >>> catalog.upsert(start, None, lambda: [("start", start)])
        >>> list(catalog)
        ['84d9ee44']
        """
        arguments, keywords = tuple(gen_args), dict(gen_kwargs or {})
        self._gathered.add(Source(start_doc["uid"], lambda: gen_func(*arguments, **keywords)))


class SingleRunCache:
    """Collects the documents of one run from a RunEngine, to look at the run in the plan itself.

    Parameters
    ----------
    handler_registry, root_map, filler_class, transforms
        As for `BlueskyInMemoryCatalog`.

    Raises
    ------
    NotSupported
        Another ``filler_class`` is given.

    Examples
    --------
    >>> cache = SingleRunCache()
    >>> cache.callback("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> cache.retrieve() is None
    True
    >>> cache.callback("stop", {"uid": "5cc1", "time": 1763821926.0, "run_start": "84d9ee44", "exit_status": "success"})
    >>> cache
    <SingleRunCache uid=84d9ee44>
    >>> cache.retrieve().metadata["stop"]["exit_status"]
    'success'
    """

    def __init__(
        self,
        *,
        handler_registry: Mapping[str, Any] | None = None,
        root_map: Mapping[str, str] | None = None,
        filler_class: Any = None,
        transforms: Mapping[str, Any] | None = None,
    ) -> None:
        _refuse_filler(filler_class)
        self._settings = handler_registry, root_map, filler_class, transforms
        self._documents: deque[Pair] = deque()
        self._complete: str | None = None
        self._run: BlueskyRun | None = None

    def callback(self, name: str, doc: Document) -> None:
        """Take a document; subscribe this to a RunEngine, or to a plan with ``subs_decorator``.

        Parameters
        ----------
        name
            ``start``, ``descriptor``, ...
        doc
            The document.  It may be modified afterwards, as a RunEngine gives the same one to all.

        Raises
        ------
        InvalidDocument
            The stop document came before; a cache takes one run.

        Examples
        --------
        >>> cache = SingleRunCache()
        >>> cache.callback("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> cache
        <SingleRunCache in progress>
        """
        if self._complete is not None:
            raise InvalidDocument(
                f"a SingleRunCache takes one run, and {self._complete!r} is stopped already; make another for the next"
            )
        self._documents.append((name, copy.deepcopy(doc)))
        if name == "stop":
            self._complete = doc["run_start"]

    def retrieve(self) -> BlueskyRun | None:
        """Give the run; None before its stop document has come.

        Examples
        --------
        >>> cache = SingleRunCache()
        >>> cache.callback("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> cache.callback("stop", {"uid": "5cc1", "time": 1763821926.0, "run_start": "84d9ee44"})
        >>> cache.retrieve().metadata["start"]["uid"]
        '84d9ee44'
        """
        if self._run is None and self._complete is not None:
            gathered = Gathered()
            gathered.add(Source(self._complete, lambda: self._documents))
            self._run = _broker(gathered, *self._settings, name=None).v2[self._complete]
        return self._run

    def __repr__(self) -> str:
        return f"<SingleRunCache {'in progress' if self._complete is None else f'uid={self._complete}'}>"


def _temporary() -> Catalog:
    """Make a catalog in a directory that lasts as long as the catalog or any run of it."""
    directory = tempfile.mkdtemp(prefix="filebroker-")
    mark(directory)
    catalog = Catalog(directory)
    weakref.finalize(catalog, _forget, catalog.library, os.getpid())
    catalog.folder = Folder(directory)  # another one than the library's, which may outlive the catalog for a moment
    weakref.finalize(catalog.folder, _discard, directory, os.getpid())
    return catalog


def _forget(library: Library, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take it away from its parent
        library.remove()


def _discard(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


def _without(catalog: Catalog, uids: Container[str]) -> Catalog:
    """Make a catalog of the same runs but for some; it shares their files, which are not written to any more."""
    catalog.close()
    found = _temporary()
    for run in catalog:
        if run.uid not in uids:
            old, new = (each.folder.path(run.directory) for each in (catalog, found))
            shutil.copytree(old, new, copy_function=_link)
    found.refresh()
    return found


def _link(old: str, new: str) -> None:
    try:
        os.link(old, new)
    except OSError:  # not every filesystem has links
        shutil.copy2(old, new)


def _broker(
    runs: Runs,
    handler_registry: Mapping[str, Any] | None,
    root_map: Mapping[str, str] | None,
    filler_class: Any,
    transforms: Mapping[str, Any] | None,
    name: str | None,
) -> Broker:
    _refuse_filler(filler_class)
    handlers = Handlers(handler_registry, root_map, discover=handler_registry is None)
    return Broker(runs, handlers=handlers, transforms=transforms, name=name)


def _refuse_filler(filler_class: Any) -> None:
    usual = getattr(sys.modules.get("event_model"), "Filler", None)
    if filler_class not in (None, usual, "event_model.Filler"):
        raise NotSupported(
            f"documents are filled by the handlers alone, not by {filler_class!r}; register a handler that gives the "
            "data as you need them"
        )
