"""A run as databroker v2 gives it: a mapping of streams, and documents in pages."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.external import External, external_of
from filebroker.cataloging.run import Run
from filebroker.faces import html
from filebroker.faces.documents import CLASSES, Start, Stop
from filebroker.faces.event_stream import BlueskyEventStream, described
from filebroker.faces.filling import Filling
from filebroker.faces.pages import in_pages
from filebroker.faces.transforms import transformed
from filebroker.ground import times
from filebroker.ground.documents import Document, Pair, unpack_event_page
from filebroker.ground.errors import NotSupported, UnknownStream
from filebroker.ground.lazy import cached_property
from filebroker.ground.texts import printable

if TYPE_CHECKING:
    from filebroker.faces.browsing import RunCatalog
    from filebroker.faces.header import Header


class Source(Protocol):
    """What a run needs of the broker that found it."""

    @property
    def handlers(self) -> Handlers:
        """Who reads external data, and where they have moved."""

    @property
    def v2(self) -> "RunCatalog":
        """The runs as a mapping."""

    @property
    def transforms(self) -> Mapping[str, Callable[[Any], Any]]:
        """What is made of some kinds of documents before they are handed out."""


class BlueskyRun:
    """One run: its streams by name.

    Parameters
    ----------
    broker
        The broker that found the run.
    run
        The run.

    Examples
    --------
    >>> from filebroker import Broker
    >>> run = Broker.named("example").v2[-1]
    >>> list(run)
    ['baseline', 'primary']
    >>> run.metadata["start"]["plan_name"], run.metadata["stop"]["exit_status"]
    ('scan', 'success')
    >>> run.primary.read()["motor"].values[:3].tolist()
    [-1.0, -0.8, -0.6]
    """

    container = "bluesky-run"
    version = "0.0.1"

    def __init__(self, broker: Source, run: Run) -> None:
        self._broker, self.run = broker, run

    def __reduce__(self) -> tuple[Any, ...]:
        return BlueskyRun, (self._broker, self.run)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlueskyRun) and self.uid == other.uid and self.run.start == other.run.start

    def __hash__(self) -> int:
        return hash(self.uid)

    # -- metadata

    @property
    def uid(self) -> str:
        """The run's unique id.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.uid == run.metadata["start"]["uid"]
        True
        """
        return self.run.uid

    @property
    def name(self) -> str:
        """The run's unique id, which is its name in a catalog.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.name == run.uid
        True
        """
        return self.uid

    # There is no attribute "start": programs tell by it a header from a run of version 2.

    @property
    def metadata(self) -> dict[str, Any]:
        """The documents ``start`` and ``stop``; the latter is None while there is none.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.metadata["start"]["scan_id"], run.metadata["stop"]["exit_status"]
        (22, 'success')
        """
        start, stop = self.run.start, self.run.stop
        return {
            "start": Start(self.transformed("start", start)),
            "stop": None if stop is None else Stop(self.transformed("stop", stop)),
        }

    @property
    def cat(self) -> "RunCatalog":
        """The catalog that the run was found in.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.cat
        <RunCatalog 'example': 22 runs at ...>
        """
        return self._broker.v2

    catalog_object = cat

    def describe(self) -> dict[str, Any]:
        """Tell what this is, as an entry of an intake catalog does.

        Returns
        -------
        dict
            ``name``, ``container``, ``metadata`` and what else such entries have.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.describe()["container"]
        'bluesky-run'
        """
        return described(self)

    @property
    def v1(self) -> "Header":
        """The run as databroker v1 gives it.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.v1
        <Header ... scan_id=22, scan, success, streams: baseline, primary>
        """
        from filebroker.faces.header import Header

        return Header(self._broker, self.run)  # type: ignore[arg-type]

    @property
    def v2(self) -> "BlueskyRun":
        """The run itself.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.v2 is run
        True
        """
        return self

    # -- streams

    def __getitem__(self, name: str) -> BlueskyEventStream:
        """Give a stream.

        Raises
        ------
        UnknownStream
            The run has no stream of that name.
        """
        names = self.run.stream_names
        if name not in names:
            raise UnknownStream(f"run {self.uid!r} has no stream {name!r:.100}; it has {names}")
        return BlueskyEventStream(self, name)

    def __getattr__(self, name: str) -> BlueskyEventStream:
        if name.startswith("_") or "run" not in self.__dict__:
            raise AttributeError(f"a BlueskyRun has no attribute {name!r}")
        if name in ("start", "stop") and name not in self.run.stream_names:
            raise AttributeError(f"a run of version 2 has no {name!r}; the document is run.metadata[{name!r}]")
        if hasattr(type(self), name):  # a property of that name met an AttributeError, which tells more
            found: BlueskyEventStream = object.__getattribute__(self, name)
            return found
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.run.stream_names)

    def __len__(self) -> int:
        return len(self.run.stream_names)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return name in self.run.stream_names

    def keys(self) -> list[str]:
        """Give the names of the streams.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.keys()
        ['baseline', 'primary']
        """
        return list(self)

    def values(self) -> list[BlueskyEventStream]:
        """Give the streams.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> [len(stream) for stream in run.values()]
        [2, 11]
        """
        return [self[name] for name in self]

    def items(self) -> list[tuple[str, BlueskyEventStream]]:
        """Give names and streams.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> {name: len(stream) for name, stream in run.items()}
        {'baseline': 2, 'primary': 11}
        """
        return [(name, self[name]) for name in self]

    def configure_new(self) -> "BlueskyRun":
        """Give the run itself, so that one need not know whether this is a run or an entry of a catalog.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run() is run
        True
        """
        return self

    get = __call__ = configure_new

    # -- documents

    def documents(self, *, fill: str, strict_order: bool = True) -> Iterator[Pair]:
        """Give all documents of the run, events and datum documents in pages.

        Parameters
        ----------
        fill
            What to do about external data: ``yes`` reads them, ``delayed`` gives dask arrays, ``no`` leaves
            the references to them.
        strict_order
            Give each event a page of its own, so that they can be in the order of their times.  Otherwise
            those that follow each other in one stream share a page.

        Returns
        -------
        generator of tuple of str and dict
            Names and documents: the start document first and the stop document last, nothing before what it
            refers to, and events by ascending time.

        Raises
        ------
        InvalidFill
            ``fill`` is none of these.
        MissingHandler, UnknownDatum, MissingAsset, UnreadableAsset
            External data cannot be read.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> [name for name, doc in run.documents(fill="no")][:4]
        ['start', 'descriptor', 'event_page', 'descriptor']
        """
        filling = Filling(self.run, self.external, fill)
        singles = self.run.singles()
        if fill != "no":
            singles = ((name, filling(doc) if name == "event" else doc) for name, doc in singles)
        return self._handed_out(in_pages(singles, strict_order=strict_order))

    def _handed_out(self, documents: Iterable[Pair]) -> Iterator[Pair]:
        for name, doc in documents:
            kind = CLASSES.get(name)
            yield name, doc if kind is None else kind(self.transformed(name, doc))

    def canonical(self, *, fill: str, strict_order: bool = True) -> Iterator[Pair]:
        """Give all documents, as `documents` does under its present name.

        Parameters
        ----------
        fill, strict_order
            As for `documents`.

        Examples
        --------
        Write instead:

        >>> from filebroker import Broker
        >>> name, doc = next(Broker.named("example").v2[-1].documents(fill="no"))
        >>> name
        'start'
        """
        _warn_of_new_name("canonical")
        return self.documents(fill=fill, strict_order=strict_order)

    def read_canonical(self) -> Iterator[Pair]:
        """Give all documents with external data read, as ``documents(fill="yes")`` does.

        Examples
        --------
        Write instead:

        >>> from filebroker import Broker
        >>> name, doc = next(Broker.named("example").v2[-1].documents(fill="yes"))
        >>> name
        'start'
        """
        _warn_of_new_name("read_canonical")
        return self.documents(fill="yes")

    def transformed(self, name: str, doc: Document) -> Any:
        """Give a document as the broker's transforms make it.

        Parameters
        ----------
        name
            ``start``, ``descriptor``, ...
        doc
            The document.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.cat.v1.transforms["start"] = lambda doc: {**doc, "operator": "Ana"}
        >>> run.transformed("start", {"uid": "84d9ee44"})
        {'uid': '84d9ee44', 'operator': 'Ana'}
        """
        return transformed(self._broker.transforms, name, doc)

    def filled(self, documents: Iterable[Pair], fill: str) -> list[Pair]:
        """Give documents with the external data of their event pages filled in.

        Parameters
        ----------
        documents
            Documents of this run, events in pages.
        fill
            As for `documents`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> [name for name, doc in run.filled(run.documents(fill="no"), "yes")][:3]
        ['start', 'descriptor', 'event_page']
        """
        filling = Filling(self.run, self.external, fill)
        singles = (
            ("event", filling(event)) if name == "event_page" else (name, event)
            for name, doc in documents
            for event in (unpack_event_page(doc) if name == "event_page" else (doc,))
        )
        return list(in_pages(singles))

    # -- external data

    @cached_property
    def external(self) -> External:
        """The data that the run has in files of their own.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> run.external.keys(run.run["primary"])  # all is in its events
        []
        """
        return external_of(self.run, self._broker.handlers)

    def get_file_list(self, resource: Mapping[str, Any]) -> list[str]:
        """Give the files that a resource of the run stands for.

        Parameters
        ----------
        resource
            A resource document.

        Raises
        ------
        MissingHandler
            Nothing is registered that can tell.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").v2[-1]
        >>> [run.get_file_list(doc) for name, doc in run.documents(fill="no") if name == "resource"]
        []
        """
        return self.external.files_of(resource)

    # -- what a run has not

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `NotSupported`: the data of a run are those of its streams.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example").v2[-1].read()
        Traceback (most recent call last):
            ...
        filebroker.ground.errors.NotSupported: a run has no data but those of its streams; ...
        """
        raise NotSupported(f"a run has no data but those of its streams; read one of them, as in run[{self._first!r}]")

    read = to_dask = persist = _refuse

    @property
    def _first(self) -> str:
        return next(iter(self), "primary")

    # -- for people

    def __repr__(self) -> str:
        return printable(f"<BlueskyRun uid={self.uid!r}>")

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        start, stop = self.run.start, self.run.stop or {}
        ended = times.local(stop["time"]) if stop else "?"
        lines = [
            "BlueskyRun",
            f"  uid={self.uid!r}",
            f"  exit_status={stop.get('exit_status')!r}",
            f"  {times.local(start['time'])} -- {ended}",
            "  Streams:",
            *(f"    * {name}" for name in self),
        ]
        printer.text("\n".join(lines))

    def _repr_html_(self) -> str:
        title = html.heading(repr(self).strip("<>"))
        return title + html.run_tables(self.run.start, self.run.stop or {}, self.run.descriptors)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)


def _warn_of_new_name(name: str) -> None:
    warnings.warn(f"BlueskyRun.{name} has a new name: BlueskyRun.documents", UserWarning, stacklevel=3)
