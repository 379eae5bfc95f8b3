"""The broker: databroker v1's prompt over a folder."""

import keyword
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.runs import Runs
from filebroker.faces import html
from filebroker.faces.browsing import RunCatalog
from filebroker.faces.header import Header
from filebroker.faces.keywords import narrowed
from filebroker.faces.reading import Reading
from filebroker.faces.results import Question, Results, filtered_by, newest_table, unanswered
from filebroker.faces.wrapping import PrepareHook, unwrap, wrap_in_deprecated_doct
from filebroker.finding.survey import Survey
from filebroker.ground import config
from filebroker.ground.errors import (
    ConfigNotFound,
    InvalidConfig,
    InvalidKey,
    InvalidLookup,
    InvalidQuery,
    NotEnoughRuns,
    QueryTimeout,
    UnknownCatalogName,
)
from filebroker.storing.recorder import Sync

if TYPE_CHECKING:
    import pandas as pd

#: What databroker's Broker has and this one does not have yet.
_TO_COME = frozenset(
    {"reg", "fs", "get_images", "export", "export_size", "stats", "from_config", "get_config"}
    | {"fill_event", "fill_events"}
)


class Broker(Reading):
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
        catalog: str | os.PathLike[str] | Runs,
        *,
        storage_options: Mapping[str, Any] | None = None,
        read_only: bool = False,
        sync: Sync = "interval",
        name: str | None = None,
        external_fetchers: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    ) -> None:
        if isinstance(catalog, Runs):
            if storage_options or read_only or sync != "interval":
                raise InvalidConfig("these options belong to the Catalog; give them when it is made")
        else:
            catalog = Catalog(catalog, storage_options=storage_options, read_only=read_only, sync=sync)
        self._runs = catalog
        self.name = name
        #: Conditions that every search has to fulfil as well; see `add_filter`.
        self.filters: dict[str, Any] = {}
        #: Searches that have a name; see `alias` and `dynamic_alias`.
        self.aliases: dict[str, Mapping[str, Any] | Callable[[], Mapping[str, Any]]] = {}
        self.external_fetchers: dict[str, Callable[[Any, Any], Any]] = dict(external_fetchers or {})
        #: Every document handed out passes through this function of name and document.
        self.prepare_hook: PrepareHook = wrap_in_deprecated_doct

    @classmethod
    def named(cls, name: str) -> "Broker":
        """Open a catalog by the name it is configured under.

        Parameters
        ----------
        name
            As in `list_configs`; ``temp`` gives a new catalog in a temporary directory.

        Raises
        ------
        UnknownCatalogName
            No configuration has that name; the message lists every place that was looked in.
        InvalidConfig
            The configuration cannot be used.
        """
        if name == "temp":
            from filebroker.faces.temporary import temp

            return temp()
        try:
            found = config.find(name)
        except ConfigNotFound as error:
            raise UnknownCatalogName(str(error)) from None
        return cls(found.url, name=found.name, **found.options)

    def __repr__(self) -> str:
        return f"<{self._named}>"

    def _repr_html_(self) -> str:
        try:
            return html.heading(self._named) + newest_table(self._runs)
        except QueryTimeout as error:
            return html.heading(f"{self._named}: {unanswered(error)}")

    @property
    def _named(self) -> str:
        label = f"{self.name!r} " if self.name else ""
        return f"Broker {label}at {self._runs.place}{filtered_by(self.filters)}"

    @property
    def catalog(self) -> Catalog:
        """The catalog behind the prompt."""
        return self._runs.catalog

    @property
    def v1(self) -> "Broker":
        """The broker itself, for scripts that ask for version 1."""
        return self

    @cached_property
    def v2(self) -> RunCatalog:
        """The same runs as a mapping that can be searched with `RunCatalog.search`."""
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
        """
        if name in ("bulk_events", "bulk_datum"):
            warnings.warn(f"{name} is an old form; its parts are stored one by one", UserWarning, stacklevel=2)
        self.catalog.insert(name, doc if type(doc) is dict else unwrap(doc))

    def close(self) -> None:
        """Stop recording; see `Catalog.close`."""
        self.catalog.close()

    # -- finding

    def __call__(self, text_search: str | None = None, **query: Any) -> Results:
        """Search the runs by their start documents.

        Parameters
        ----------
        text_search
            Words; a run is found if one of them is among the words of its start document's values, or of
            its stop document's ``reason``.  Quotes make a phrase, a minus excludes, ``rob*`` finds words
            that begin so, and ``field:word`` looks in one field.
        **query
            ``since`` and ``until`` limit the start time, both included; ``data_key`` asks for a field in a
            descriptor.  Everything else is a condition of MongoDB's query language:
            ``plan_name='scan'``, ``**{'sample.name': 'LaB6'}``, ``num_points={'$gt': 10}``.

        Returns
        -------
        Results
            The headers, newest first, found as they are iterated over.

        Raises
        ------
        InvalidQuery
            The search cannot be understood.
        QueryTimeout
            A regular expression takes too long.  This comes later, when the answers are asked for.
        TypeError
            A keyword and its old name are both given.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> {header.start["plan_name"] for header in db(plan_name="grid_scan")}
        {'grid_scan'}
        """
        keywords = _keywords(text_search, query)
        # The field comes last, so that it is looked for in as few runs as possible.
        rest = {**keywords}
        data_key = rest.pop("data_key", None)
        runs = narrowed(narrowed(self._runs, rest), self.filters)
        runs = narrowed(runs, {"data_key": data_key})
        return Results(self, runs, Question(keywords, {**self.filters}))

    def add_filter(self, text_search: str | None = None, **query: Any) -> None:
        """Add conditions that every search has to fulfil as well.

        Lookups such as ``db[-1]`` are not filtered.

        Parameters
        ----------
        text_search, **query
            As for a search: words, and keywords.  A filter takes the place of an earlier one of its keyword.

        Raises
        ------
        InvalidQuery
            They cannot be understood.

        Examples
        --------
        >>> db = Broker.named("example")
        >>> db.add_filter(plan_name="grid_scan")
        >>> len(db()), db.filters
        (1, {'plan_name': 'grid_scan'})
        >>> db.clear_filters()
        """
        keywords = _keywords(text_search, query)
        narrowed(self._runs, keywords)  # refuses what it does not understand, at once
        self.filters.update(keywords)

    def clear_filters(self, **ignored: Any) -> None:
        """Remove all filters."""
        self.filters.clear()

    def alias(self, key: str, text_search: str | None = None, **query: Any) -> None:
        """Give a search a name: ``db.alias('cal', purpose='calibration')`` makes ``db.cal``.

        Parameters
        ----------
        key
            The name.
        text_search, **query
            Words and keywords of the search.

        Raises
        ------
        InvalidLookup
            The broker has something else of that name, or it is no name that can be typed after a dot.
        InvalidQuery
            The search cannot be understood.
        """
        keywords = _keywords(text_search, query)
        narrowed(self._runs, keywords)  # refuses what it does not understand, at once
        self._add_alias(key, keywords)

    def dynamic_alias(self, key: str, func: Callable[[], Mapping[str, Any]]) -> None:
        """Give a name to a search whose keywords a function gives whenever the name is used.

        Parameters
        ----------
        key
            The name.
        func
            Gives the keywords, as in ``lambda: {'since': time.time() - 86400}``.

        Raises
        ------
        InvalidLookup
            The broker has something else of that name, or it is no name that can be typed after a dot.
        """
        self._add_alias(key, func)

    def _add_alias(self, key: str, query: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        if not (isinstance(key, str) and key.isidentifier()) or keyword.iskeyword(key):
            raise InvalidLookup(
                f"{key!r:.100} is not a legal alias, because it cannot be typed after 'db.'; give letters, digits and "
                "underscores, as in 'my_scans'"
            )
        if key not in self.aliases and (hasattr(type(self), key) or key in self.__dict__):
            raise InvalidLookup(f"{key!r} is not a legal alias, because a Broker has something of that name")
        self.aliases[key] = query

    def refresh(self) -> Survey:
        """Find runs that were copied into the catalog, or removed from it, by hand; see `Catalog.refresh`."""
        return self.catalog.refresh()

    def keys_seen(self) -> "pd.DataFrame":
        """Tell which keys the start documents have, to know what can be searched for; see `Runs.keys_seen`.

        Examples
        --------
        >>> Broker.named("example").keys_seen().loc["plan_name", "types"]
        'string'
        """
        return self._runs.keys_seen()

    @overload
    def __getitem__(self, key: int | str) -> Header: ...
    @overload
    def __getitem__(self, key: slice) -> list[Header]: ...
    @overload
    def __getitem__(self, key: Iterable[Any]) -> list[Any]: ...
    def __getitem__(self, key: Any) -> Any:
        """Give a run by its position, its scan_id or the beginning of its uid.

        Parameters
        ----------
        key
            A negative integer counts from the newest run.  Any other integer is a scan_id, the newest of
            that number.  A string is a uid or the beginning of one; of digits alone, a scan_id.  A slice
            such as ``db[-5:]`` gives a list, newest first.  An iterable of keys gives a list.
            A header is given back.

        Returns
        -------
        Header, or list of Header
            The run, or the runs.

        Raises
        ------
        NotEnoughRuns
            The position reaches further back than there are runs.
        RunNotFound
            No run has that scan_id or uid.
        AmbiguousPrefix
            Several uids begin so; the message lists them.
        InvalidLookup
            A slice that counts from the oldest run.
        InvalidKey
            The key is none of these.
        """
        if isinstance(key, slice):
            return self._slice(key)
        if isinstance(key, str):
            return Header(self, self._runs.lookup(key))
        if isinstance(key, Header):
            return key
        if isinstance(key, bytes) or key is None:
            raise InvalidKey(f"{key!r:.200} names no run; give a position, a scan_id or a uid")
        if isinstance(key, Iterable):
            return [self[item] for item in key]
        return Header(self, self._runs.lookup(key))

    def _slice(self, key: slice) -> list[Header]:
        """Give the headers of a slice, all from one look at the catalog."""
        indices = _indices(key)
        reach = -min(indices, default=0)
        newest = list(islice(self._runs, reach))
        if len(newest) < reach:
            raise NotEnoughRuns(f"Catalog only contains {len(newest)} runs. It is {self._runs.place}")
        return [Header(self, newest[-index - 1]) for index in reversed(indices)]

    # A broker has no length and is no list of runs: db() gives them all.
    __iter__ = None
    __contains__ = None

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        aliases = self.__dict__.get("aliases", {})
        if name in aliases:
            query = aliases[name]() if callable(aliases[name]) else aliases[name]
            if not isinstance(query, Mapping):
                raise InvalidQuery(f"the alias {name!r} gave {query!r:.100}; it has to give keywords of a search")
            return self(**query)
        raise AttributeError(
            f"a Broker has no {name!r}"
            + " yet; docs/how-to/move-from-databroker.md says what is to come" * (name in _TO_COME)
        )

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.aliases})

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
        """
        return {name: fetch(start, stop) for name, fetch in self.external_fetchers.items()}


def _indices(key: slice) -> list[int]:
    """Give the positions that a slice stands for, oldest first."""
    start, stop, step = key.start, key.stop, key.step
    if start is None or start >= 0 or (stop is not None and stop > 0):
        written = ":".join("" if part is None else str(part) for part in (start, stop))
        written += "" if step is None else f":{step}"
        raise InvalidLookup(
            f"db[{written}] would count from the oldest run; a slice counts back from the newest, as in db[-5:]"
        )
    return list(range(start, stop or 0, step or 1))


def _keywords(text_search: str | None, query: dict[str, Any]) -> dict[str, Any]:
    """Give words and keywords as keywords alone."""
    return query if text_search is None else {"text_search": text_search, **query}
