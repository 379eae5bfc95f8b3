"""Finding runs as databroker v1 did: by subscript, by calling the broker, with filters, and under names."""

import keyword
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast, overload

from filebroker.cataloging.runs import Runs
from filebroker.faces.header import Header
from filebroker.faces.keywords import narrowed
from filebroker.faces.results import Question, Results
from filebroker.ground.errors import InvalidKey, InvalidLookup, InvalidQuery, NotEnoughRuns

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker


class Searching:
    """The methods of a broker that find its runs: lookups and searches.

    Parameters
    ----------
    runs
        The runs.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        #: Conditions that every search has to fulfil as well; see `add_filter`.
        self.filters: dict[str, Any] = {}
        #: Searches that have a name; see `alias` and `dynamic_alias`.
        self.aliases: dict[str, Mapping[str, Any] | Callable[[], Mapping[str, Any]]] = {}

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
            return Header(cast("Broker", self), self._runs.lookup(key))
        if isinstance(key, Header):
            return key
        if isinstance(key, bytes) or key is None:
            raise InvalidKey(f"{key!r:.200} names no run; give a position, a scan_id or a uid")
        if isinstance(key, Iterable):
            return [self[item] for item in key]
        return Header(cast("Broker", self), self._runs.lookup(key))

    def _slice(self, key: slice) -> list[Header]:
        """Give the headers of a slice, all from one look at the catalog."""
        indices = _indices(key)
        reach = -min(indices, default=0)
        newest = list(islice(self._runs, reach))
        if len(newest) < reach:
            raise NotEnoughRuns(f"Catalog only contains {len(newest)} runs. It is {self._runs.place}")
        return [Header(cast("Broker", self), newest[-index - 1]) for index in reversed(indices)]

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
        >>> from filebroker import Broker
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
        return Results(cast("Broker", self), runs, Question(keywords, {**self.filters}))

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
        >>> from filebroker import Broker
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
        """Remove all filters.

        Parameters
        ----------
        **ignored
            Ignored, as in databroker v1: no filter is kept.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.add_filter(plan_name="grid_scan")
        >>> db.clear_filters()
        >>> db.filters
        {}
        """
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

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.alias("grids", plan_name="grid_scan")
        >>> len(db.grids)
        1
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

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.dynamic_alias("like_the_newest", lambda: {"plan_name": db[-1].start["plan_name"]})
        >>> len(db.like_the_newest)
        5
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

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property of that name met an AttributeError, which tells more
            return object.__getattribute__(self, name)
        aliases = self.__dict__.get("aliases", {})
        if name in aliases:
            query = aliases[name]() if callable(aliases[name]) else aliases[name]
            if not isinstance(query, Mapping):
                raise InvalidQuery(f"the alias {name!r} gave {query!r:.100}; it has to give keywords of a search")
            return self(**query)
        raise AttributeError(f"a Broker has no {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.aliases})


def _keywords(text_search: str | None, query: dict[str, Any]) -> dict[str, Any]:
    """Give words and keywords as keywords alone."""
    return query if text_search is None else {"text_search": text_search, **query}


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
