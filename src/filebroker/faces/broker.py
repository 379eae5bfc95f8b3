"""The broker: databroker v1's prompt over a folder."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.runs import Runs
from filebroker.faces import exporting, html
from filebroker.faces.afterwards import Afterwards
from filebroker.faces.browsing import RunCatalog
from filebroker.faces.header import Header
from filebroker.faces.reading import Reading, listed
from filebroker.faces.registry import Registry
from filebroker.faces.results import filtered_by, newest_table, unanswered
from filebroker.faces.searching import Searching
from filebroker.faces.serializing import CatalogSerializer
from filebroker.faces.transforms import parse_transforms, transformed
from filebroker.faces.wrapping import PrepareHook, unwrap, wrap_in_deprecated_doct
from filebroker.finding.survey import Survey
from filebroker.ground.documents import Document
from filebroker.ground.errors import (
    InvalidConfig,
    NotSupported,
    QueryTimeout,
)
from filebroker.ground.lazy import cached_property
from filebroker.storing.recorder import Sync

if TYPE_CHECKING:
    import pandas as pd


class Broker(Searching, Reading, Afterwards):
    """A catalog of runs behind the prompt of databroker v1.

    Parameters
    ----------
    catalog
        A directory, an fsspec URL, a `Catalog`, or the runs that a search of one found.  A directory that
        is missing or empty becomes a catalog when the first document is inserted.
    storage_options
        Arguments of the fsspec filesystem.
    read_only
        Never write.
    sync
        When recorded documents are forced to the disk: ``interval`` (every 100 ms), ``always`` (before
        `insert` returns) or ``never`` (when the operating system sees fit).
    name
        A name for people.
    external_fetchers
        Functions of the start and stop documents; their results appear in `Header.ext` under their names.
    handlers
        Who reads external data, and where they have moved; None for the handlers that installed packages bring.
    transforms
        Functions, or their dotted names, under ``start``, ``stop``, ``descriptor`` or ``resource``: what they make of
        a document is given out in its place.
    serializer
        Takes the names and documents given to `insert`; None to record them in the catalog.

    Raises
    ------
    CatalogNotFound
        The directory holds other things than a catalog.

    Examples
    --------
    >>> db = Broker.named("example")
    >>> db[-1].start["plan_name"]
    'scan'
    """

    def __init__(
        self,
        catalog: str | os.PathLike[str] | Runs | RunCatalog,
        *,
        serializer: Callable[[str, Any], Any] | None = None,
        external_fetchers: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        handlers: Handlers | None = None,
        transforms: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        read_only: bool = False,
        sync: Sync = "interval",
        name: str | None = None,
    ) -> None:
        before = catalog.v1 if isinstance(catalog, RunCatalog) else None
        if isinstance(catalog, RunCatalog):
            name, catalog = name or catalog.name, catalog.runs
        if not isinstance(catalog, Runs):
            catalog = Catalog(catalog, storage_options=storage_options, read_only=read_only, sync=sync)
        elif storage_options or read_only or sync != "interval":
            raise InvalidConfig("these options belong to the Catalog; give them when it is made")
        super().__init__(catalog)
        self.name = name
        #: Functions of the start and stop documents, whose results appear in `Header.ext`.
        self.external_fetchers: dict[str, Callable[[Any, Any], Any]] = {}
        #: Who reads external data, and where they have moved.
        self.handlers: Handlers = Handlers()
        #: What is made of start, stop, descriptor and resource documents before they are handed out.
        self.transforms: dict[str, Callable[[Any], Any]] = {}
        #: Every document handed out passes through this function of name and document.
        self.prepare_hook: PrepareHook = wrap_in_deprecated_doct
        self._given_serializer: Callable[[str, Any], Any] | None = None
        self._config: dict[str, Any] | None = None
        if before is not None:
            self._take_after(before)
        self.handlers = handlers or self.handlers
        self.transforms = parse_transforms(transforms) if transforms is not None else self.transforms
        self.external_fetchers = dict(external_fetchers) if external_fetchers is not None else self.external_fetchers
        self._given_serializer = serializer or self._given_serializer

    @classmethod
    def named(cls, name: str, auto_register: bool = True) -> "Broker":
        """Open a catalog by the name it is configured under.

        Parameters
        ----------
        name
            As in `list_configs`; ``temp`` gives a new catalog in a temporary directory.
        auto_register
            Use the handlers that installed packages bring, not only those of the configuration.

        Raises
        ------
        UnknownCatalogName
            No configuration has that name; the message lists every place that was looked in.
        InvalidConfig
            The configuration cannot be used.

        Examples
        --------
        >>> Broker.named("example").name
        'example'
        """
        from filebroker.faces.opening import named

        return named(name, auto_register, cls)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], auto_register: bool = True, name: str | None = None) -> "Broker":
        """Open a catalog as a configuration says.

        Parameters
        ----------
        config
            What would stand in its file: ``path``, and what else `lookup_config` gives.
        auto_register
            As for `named`.
        name
            A name for people.

        Raises
        ------
        InvalidConfig
            The configuration cannot be used.

        Examples
        --------
        >>> Broker.from_config({"path": "my_beamtime"}, name="mine").name
        'mine'
        """
        from filebroker.faces.opening import from_config

        return from_config(config, auto_register, name, cls)

    def get_config(self) -> dict[str, Any] | None:
        """Give the configuration that the broker was made from, None if it was made without.

        Examples
        --------
        >>> Broker.from_config({"path": "my_beamtime"}).get_config()
        {'path': 'my_beamtime'}
        """
        return self._config

    def over(self, runs: Runs, name: str | None = None) -> "Broker":
        """Give a broker over other runs of the catalog that shares all else with this one.

        Parameters
        ----------
        runs
            The runs.
        name
            A name for people.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.over(db.runs.search({"plan_name": "fly"}))[-1].start["scan_id"]
        17
        """
        other = type(self)(runs, name=name)
        other._take_after(self)
        return other

    def _take_after(self, other: "Broker") -> None:
        """Share what another broker does with documents."""
        self.handlers, self.transforms, self.prepare_hook = other.handlers, other.transforms, other.prepare_hook
        self.external_fetchers = other.external_fetchers
        self._given_serializer, self._config = other._given_serializer, other._config

    def __repr__(self) -> str:
        return f"<{self._named}>"

    def _repr_html_(self) -> str:
        try:
            return html.heading(self._named) + newest_table(self._runs)
        except (QueryTimeout, InvalidConfig) as error:
            return html.heading(f"{self._named}: {unanswered(error)}")

    @property
    def _named(self) -> str:
        label = f"{self.name!r} " if self.name else ""
        return f"Broker {label}at {self._runs.place}{filtered_by(self.filters)}"

    @property
    def _catalog(self) -> RunCatalog:
        """The version 2 face, which scripts that reach into databroker's own Broker ask for."""
        return self.v2

    @property
    def runs(self) -> Runs:
        """The runs behind the prompt: a catalog, or what a search of one found.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> len(db.runs)
        22
        """
        return self._runs

    @property
    def catalog(self) -> Catalog:
        """The catalog behind the prompt.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.catalog
        <Catalog '...example'>
        """
        return self._runs.catalog

    @property
    def v1(self) -> "Broker":
        """The broker itself, for scripts that ask for version 1.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.v1 is db
        True
        """
        return self

    @cached_property
    def v2(self) -> RunCatalog:
        """The same runs as a mapping that can be searched with `RunCatalog.search`.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.v2
        <RunCatalog 'example': 22 runs at ...>
        """
        return RunCatalog(self, self._runs, self.name)

    # -- recording

    def insert(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record a document; give this to a RunEngine, as in ``RE.subscribe(db.insert)``.

        When it returns, the document survives the death of the process.

        Parameters
        ----------
        name
            ``start``, ``descriptor``, ``event``, ...
        doc
            The document.  It is not modified.

        Raises
        ------
        FilebrokerError
            As for `Catalog.insert`.

        Examples
        --------
        >>> from filebroker import temp
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0, "plan_name": "count"})
        >>> db[-1].start["plan_name"]
        'count'
        >>> db.close()
        """
        if name in ("bulk_events", "bulk_datum"):
            warnings.warn(f"{name} is an old form; its parts are stored one by one", UserWarning, stacklevel=2)
        plain = doc if type(doc) is dict else unwrap(doc)
        self._serializer(name, plain)

    @cached_property
    def _serializer(self) -> Callable[[str, Any], Any]:
        return CatalogSerializer(self.catalog) if self._given_serializer is None else self._given_serializer

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that was recorded is in its store; see `Catalog.flush`.

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
        >>> db = Broker("memory://their_beamtime")
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.flush()
        >>> db.close()
        """
        self.catalog.flush(timeout)

    def close(self) -> None:
        """Stop recording; see `Catalog.close`.

        Examples
        --------
        >>> from filebroker import temp
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.close()
        >>> db[-1].start["uid"]  # it can still be read
        '84d9ee44'
        """
        self.catalog.close()

    # -- documents and external data

    def hand_out(self, name: str, doc: Document) -> Any:
        """Give a document of a run as users get it: transformed, then as `prepare_hook` makes it.

        Parameters
        ----------
        name
            ``start``, ``descriptor``, ...
        doc
            The document.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.transforms["start"] = lambda doc: {**doc, "operator": "Ana"}
        >>> db.hand_out("start", {"uid": "84d9ee44"})
        {'uid': '84d9ee44', 'operator': 'Ana'}
        """
        return self.prepare_hook(name, transformed(self.transforms, name, doc))

    @cached_property
    def reg(self) -> Registry:
        """Who reads external data, and where they have moved.

        Examples
        --------
        >>> Broker.named("example").reg.root_map
        {}
        """
        return Registry(self)

    @property
    def fs(self) -> Registry:
        """The registry under its old name.

        Examples
        --------
        Write instead:

        >>> Broker.named("example").reg.root_map
        {}
        """
        warnings.warn("Broker.fs has a new name: Broker.reg", UserWarning, stacklevel=2)
        return self.reg

    def export(
        self,
        headers: Header | Iterable[Header],
        db: Any,
        new_root: str | None = None,
        copy_kwargs: Mapping[str, Any] | None = None,
    ) -> list[tuple[str, str]]:
        """Insert every document of some runs into another broker.

        Parameters
        ----------
        headers
            A header, or several.
        db
            The other broker: anything with ``insert``.
        new_root
            Copy the files of resources below this directory, which becomes their root.
        copy_kwargs
            For `Registry.copy_files`.

        Returns
        -------
        list of tuple of str
            The old and the new path of each file copied.

        Examples
        --------
        >>> from filebroker import temp
        >>> copy = temp()
        >>> db = Broker.named("example")
        >>> db.export(db[-1], copy)
        []
        >>> copy[-1] == db[-1]
        True
        """
        return exporting.export(self.reg, listed(headers), db, new_root, copy_kwargs)

    def export_size(self, headers: Header | Iterable[Header]) -> float:
        """Give how large the files are that some runs refer to.

        Parameters
        ----------
        headers
            A header, or several.

        Returns
        -------
        float
            In GB, of 1e9 bytes.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.export_size(db[-1])
        0.0
        """
        return exporting.export_size(listed(headers))

    def fill_event(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `NotSupported`; ask for filled documents instead, as in ``header.documents(fill=True)``.

        Parameters
        ----------
        *args, **kwargs
            Ignored.

        Raises
        ------
        NotSupported
            Always.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.fill_event(next(db[-1].events()))
        Traceback (most recent call last):
            ...
        filebroker.ground.errors.NotSupported: events are not filled in place; ...
        """
        raise NotSupported("events are not filled in place; ask for filled ones, as in header.documents(fill=True)")

    fill_events = fill_event

    # -- finding

    def refresh(self) -> Survey:
        """Find runs that were copied into the catalog, or removed from it, by hand; see `Catalog.refresh`.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.refresh()
        <Survey: 0 added, 0 changed, 0 removed, 0 unreadable>
        """
        return self.catalog.refresh()

    def keys_seen(self) -> "pd.DataFrame":
        """Tell which keys the start documents have, to know what can be searched for; see `Runs.keys_seen`.

        Examples
        --------
        >>> Broker.named("example").keys_seen().loc["plan_name", "types"]
        'string'
        """
        return self._runs.keys_seen()

    # A broker has no length and is no list of runs: db() gives them all.
    __iter__ = None
    __contains__ = None

    def __bool__(self) -> bool:
        return True

    def fetch_external(self, start: Any, stop: Any) -> dict[str, Any]:
        """Give what each of `external_fetchers` gives for a run.

        Parameters
        ----------
        start, stop
            The run's documents.

        Returns
        -------
        dict
            The results under the fetchers' names.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.external_fetchers["took"] = lambda start, stop: stop["time"] - start["time"]
        >>> db.fetch_external({"time": 3.0}, {"time": 5.0})
        {'took': 2.0}
        """
        return {name: fetch(start, stop) for name, fetch in self.external_fetchers.items()}
