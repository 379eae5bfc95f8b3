"""Queries to build by name, and to search a version 2 catalog with.

>>> from filebroker import Broker
>>> from filebroker.queries import TimeRange
>>> catalog = Broker.named("example").v2
>>> len(catalog.search(TimeRange(since="2019"))) == len(catalog)
True
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

from filebroker.ground.errors import InvalidQuery
from filebroker.utils import normalize_human_friendly_time

__all__ = ["Query", "TextQuery", "TimeRange"]


class Query(Mapping[str, Any]):
    """A query that remembers what it was made of.

    It reads like the dict of MongoDB's query language that it stands for, and is equal to it.  It can be pickled, and
    like a dict it is not hashable.

    Examples
    --------
    >>> query = TimeRange(since="2026-11-22", timezone="UTC")
    >>> query == {"time": {"$gte": 1795305600.0}}
    True
    >>> list(query)
    ['time']
    """

    @property
    @abstractmethod
    def query(self) -> dict[str, Any]:
        """The query in MongoDB's language.

        Examples
        --------
        >>> TimeRange(since="2026-11-22", timezone="UTC").query
        {'time': {'$gte': 1795305600.0}}
        """

    @property
    @abstractmethod
    def kwargs(self) -> dict[str, Any]:
        """The arguments that make an equal query.

        Examples
        --------
        >>> TimeRange(since="2026-11-22", timezone="UTC").kwargs
        {'since': '2026-11-22', 'until': None, 'timezone': 'UTC'}
        """

    def __getitem__(self, key: str) -> Any:
        return self.query[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.query)

    def __len__(self) -> int:
        return len(self.query)

    def replace(self, **kwargs: Any) -> Self:
        """Give a copy that differs in some arguments.

        Parameters
        ----------
        **kwargs
            The arguments that differ.

        Examples
        --------
        >>> TimeRange(since="2026-11").replace(until="2027")
        TimeRange(since='2026-11', until='2027')
        """
        return type(self)(**(self.kwargs | kwargs))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.kwargs.items() if value is not None)
        return f"{type(self).__name__}({given})"


class TimeRange(Query):
    """Runs that were started in a range of time.

    Parameters
    ----------
    since
        The first moment of the range: seconds since 1970, a datetime, or a string such as ``2026``, ``2026-11``,
        ``2026-11-22`` or ``2026-11-22 14:30``.  None for no limit.
    until
        The first moment after the range.  A run that was started right then is not in it.
    timezone
        The zone of times that name none, as in ``"Europe/Berlin"``; None for the local one.

    Raises
    ------
    InvalidQuery
        A time or the zone cannot be understood, or ``since`` is after ``until``.

    Examples
    --------
    >>> TimeRange(since="2026-11-22", timezone="UTC").query
    {'time': {'$gte': 1795305600.0}}
    >>> dict(TimeRange())
    {}
    """

    def __init__(self, since: Any = None, until: Any = None, timezone: str | None = None) -> None:
        self.timezone = timezone
        self._given = since, until
        self._limits = {
            operator: normalize_human_friendly_time(limit, timezone)
            for operator, limit in (("$gte", since), ("$lt", until))
            if limit is not None
        }
        if len(self._limits) == 2 and self._limits["$gte"] > self._limits["$lt"]:
            raise InvalidQuery(f"since={since!r} is after until={until!r}; no run is in that range")

    @property
    def query(self) -> dict[str, Any]:
        """The query in MongoDB's language; ``{}`` without limits.

        Examples
        --------
        >>> TimeRange(since="2026-11-22", timezone="UTC").query
        {'time': {'$gte': 1795305600.0}}
        """
        return {"time": dict(self._limits)} if self._limits else {}

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments, as they were given.

        Examples
        --------
        >>> TimeRange(since="2026-11-22", timezone="UTC").kwargs
        {'since': '2026-11-22', 'until': None, 'timezone': 'UTC'}
        """
        since, until = self._given
        return {"since": since, "until": until, "timezone": self.timezone}


class TextQuery(Query):
    """Runs whose start document has some words.

    Parameters
    ----------
    text_search
        The words, see `Broker.__call__`.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").v2
    >>> 0 < len(catalog.search(TextQuery("LaB6"))) < len(catalog)
    True
    """

    def __init__(self, text_search: str) -> None:
        #: The words.
        self.text = text_search

    @property
    def query(self) -> dict[str, Any]:
        """The query in MongoDB's language.

        Examples
        --------
        >>> TextQuery("LaB6").query
        {'$text': {'$search': 'LaB6'}}
        """
        return {"$text": {"$search": self.text}}

    @property
    def kwargs(self) -> dict[str, Any]:
        """The argument.

        Examples
        --------
        >>> TextQuery("LaB6").kwargs
        {'text_search': 'LaB6'}
        """
        return {"text_search": self.text}
