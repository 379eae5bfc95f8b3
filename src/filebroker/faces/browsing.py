"""The version 2 face of a catalog: a mapping of runs by uid that can be searched, and searched again."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.runs import Runs
from filebroker.faces import html
from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.event_stream import described
from filebroker.faces.results import counted, newest_table, unanswered
from filebroker.ground.errors import InvalidConfig, InvalidQuery, QueryTimeout

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker

#: So many uids are offered to complete a key.
_COMPLETIONS = 100


class RunCatalog:
    """Runs by uid, newest first.

    It reads like a mapping, and is none of `collections.abc`: what `keys`, `values` and `items` give can be gone
    through once, and a key may be a position or a scan_id as well.

    Parameters
    ----------
    broker
        The version 1 face of the same runs; or a path or URL, as for `Broker`.
    runs
        The runs, None for all of the broker.
    name
        A name for people.
    handler_registry, root_map, transforms
        Of a path: who reads external data, where they have moved, and what is made of documents.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").v2
    >>> scans = catalog.search({"plan_name": {"$in": ["scan", "grid_scan"]}})
    >>> len(scans.search({"motors": "motor1"})) < len(scans) < len(catalog)
    True
    """

    container = "catalog"

    def __init__(
        self,
        broker: "Broker | str | os.PathLike[str]",
        runs: Runs | None = None,
        name: str | None = None,
        *,
        handler_registry: Mapping[str, Any] | None = None,
        root_map: Mapping[str, str] | None = None,
        transforms: Mapping[str, Any] | None = None,
    ) -> None:
        from filebroker.faces.broker import Broker

        if not isinstance(broker, Broker):
            handlers = Handlers(handler_registry, root_map, discover=handler_registry is None)
            broker = Broker(broker, name=name, handlers=handlers, transforms=transforms)
            broker.__dict__["v2"] = self
        self._broker, self._runs = broker, broker.runs if runs is None else runs
        self.name = name
        #: What is known of the catalog, for people.
        self.metadata: dict[str, Any] = {}

    @property
    def v1(self) -> "Broker":
        """The version 1 face of the same runs.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.v1
        <Broker 'example' at ...>
        """
        return self._broker

    @property
    def v2(self) -> "RunCatalog":
        """The catalog itself.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.v2 is catalog
        True
        """
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunCatalog):
            return NotImplemented
        both = self._runs, other._runs
        whole = all(runs is runs.catalog for runs in both)
        return both[0] is both[1] or (whole and self.paths == other.paths)

    def __hash__(self) -> int:
        return hash(tuple(self.paths))

    @property
    def runs(self) -> Runs:
        """The runs behind this face.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> len(catalog.runs)
        22
        """
        return self._runs

    def configure_new(self) -> "RunCatalog":
        """Give the catalog itself, so that one need not know whether this is a catalog or an entry of one.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog() is catalog
        True
        """
        return self

    get = __call__ = configure_new

    def describe(self) -> dict[str, Any]:
        """Tell what this is, as an entry of an intake catalog does.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.describe()["name"], catalog.describe()["container"]
        ('example', 'catalog')
        """
        return described(self)

    @property
    def paths(self) -> list[str]:
        """Where the runs are: the URL of the catalog.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.paths
        ['...example']
        """
        return [self._runs.catalog.folder.url]

    def force_reload(self) -> None:
        """Find runs that were copied into the catalog, or removed from it, by hand.

        Runs that are recorded are found without it.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.force_reload()
        >>> len(catalog)
        22
        """
        self._runs.catalog.refresh()

    reload = force_reload

    # -- external data

    @property
    def handler_registry(self) -> Mapping[str, Any]:
        """Who reads external data: classes by spec, which change as handlers are registered.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.register_handler("MY_CAMERA", dict)
        >>> catalog.handler_registry["MY_CAMERA"]
        <class 'dict'>
        """
        return self._broker.handlers.handler_reg

    @property
    def root_map(self) -> dict[str, str]:
        """Where the roots of resources have moved; change it in place.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.root_map["/nsls2/data"] = "/media/disk"
        >>> catalog.root_map
        {'/nsls2/data': '/media/disk'}
        """
        return self._broker.handlers.root_map

    def register_handler(self, spec: str, handler: Any, overwrite: bool = False) -> None:
        """Register who reads external data of some kind.

        Parameters
        ----------
        spec
            The kind, as in resource documents.
        handler
            A class, or its dotted name.
        overwrite
            Take the place of another one.

        Raises
        ------
        DuplicateHandler
            Another one is registered, and ``overwrite`` is not set.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.register_handler("MY_CAMERA", dict)  # a class of yours
        >>> "MY_CAMERA" in catalog.handler_registry
        True
        """
        self._broker.handlers.register_handler(spec, handler, overwrite)

    def deregister_handler(self, spec: str) -> None:
        """Forget who reads external data of some kind.

        Parameters
        ----------
        spec
            The kind; one that is not registered is passed over.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> catalog.register_handler("MY_CAMERA", dict)
        >>> catalog.deregister_handler("MY_CAMERA")
        >>> "MY_CAMERA" in catalog.handler_registry
        False
        """
        self._broker.handlers.deregister_handler(spec)

    # -- finding

    def search(self, query: Mapping[str, Any]) -> "RunCatalog":
        """Give the runs that answer a query, as a catalog of the same kind.

        Parameters
        ----------
        query
            Conditions on the start document in MongoDB's query language.

        Returns
        -------
        RunCatalog
            The runs that answer, which can be searched in turn.

        Raises
        ------
        InvalidQuery
            The query cannot be understood.
        QueryTimeout
            A regular expression takes too long.  This comes later, when the answers are asked for.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> scans = catalog.search({"plan_name": "scan"})
        >>> len(scans), len(scans.search({"operator": "Chen"}))
        (5, 1)
        """
        try:
            conditions = dict(query)
        except (TypeError, ValueError) as error:
            raise InvalidQuery(f"a query is a mapping such as {{'plan_name': 'scan'}}, not {query!r:.200}") from error
        found = self._broker.over(self._runs.search(conditions), name="search results").v2
        found.metadata = self.metadata
        return found

    def __getitem__(self, key: Any) -> BlueskyRun:
        """Give a run by its position, its scan_id, or the beginning of its uid.

        Parameters
        ----------
        key
            A negative integer counts from the newest run; any other is a scan_id, the newest of that number.
            A string is a uid or the beginning of one; of digits alone, a number as above.

        Returns
        -------
        BlueskyRun
            The run.

        Raises
        ------
        NotEnoughRuns, RunNotFound, AmbiguousPrefix
            There is no such run, or more than one.
        InvalidKey
            The key is neither a number nor a string.
        """
        return BlueskyRun(self._broker, self._runs.lookup(key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._runs.has_uid(key)

    def __iter__(self) -> Iterator[str]:
        """Give the uids, newest run first."""
        return (item.entry.uid for item in self._runs.documents())

    def __len__(self) -> int:
        """Count the runs, without opening any unless ``data_key`` was given."""
        return len(self._runs)

    def keys(self) -> Iterator[str]:
        """Give the uids, newest run first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> next(catalog.keys()) == catalog[-1].uid
        True
        """
        return iter(self)

    def values(self) -> Iterator[BlueskyRun]:
        """Give the runs, newest first, each opened when it is asked for.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> next(catalog.values())
        <BlueskyRun uid='...'>
        """
        return (BlueskyRun(self._broker, run) for run in self._runs)

    def items(self) -> Iterator[tuple[str, BlueskyRun]]:
        """Give uids and runs, newest first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").v2
        >>> {uid: run.metadata["start"]["scan_id"] for uid, run in catalog.items()}
        {'...': 22, '...': 21, ...}
        """
        return ((run.uid, run) for run in self.values())

    def __repr__(self) -> str:
        try:
            return f"<{self._named}: {counted(len(self))} at {self._runs.place}>"
        except (QueryTimeout, InvalidConfig) as error:  # to look at a search is no mistake
            return f"<{self._named} at {self._runs.place}: {unanswered(error)}>"

    def _repr_html_(self) -> str:
        try:
            return html.heading(f"{self._named}: {counted(len(self))} at {self._runs.place}") + newest_table(self._runs)
        except (QueryTimeout, InvalidConfig) as error:
            return html.heading(f"{self._named} at {self._runs.place}: {unanswered(error)}")

    @property
    def _named(self) -> str:
        return f"RunCatalog {self.name!r}" if self.name else "RunCatalog"

    def _ipython_key_completions_(self) -> list[str]:
        return list(islice(self, _COMPLETIONS))
