"""The version 2 face of a catalog: a mapping of runs by uid that can be searched, and searched again."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from filebroker.core.run import Run
from filebroker.core.runs import Runs
from filebroker.ground.errors import InvalidQuery

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker


class RunCatalog:
    """Runs by uid, newest first.

    Parameters
    ----------
    broker
        The version 1 face of the same runs.
    runs
        The runs.
    name
        A name for people.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").v2
    >>> scans = catalog.search({"plan_name": {"$in": ["scan", "grid_scan"]}})
    >>> len(scans.search({"motors": "motor1"})) < len(scans) < len(catalog)
    True
    """

    def __init__(self, broker: "Broker", runs: Runs, name: str | None = None) -> None:
        self._broker, self._runs = broker, runs
        self.name = name

    @property
    def v1(self) -> "Broker":
        """The version 1 face of the same runs."""
        return self._broker

    @property
    def v2(self) -> "RunCatalog":
        """The catalog itself."""
        return self

    def search(self, query: Mapping[str, Any]) -> "RunCatalog":
        """Give the runs that answer a query, as a catalog of the same kind.

        Parameters
        ----------
        query
            Conditions on the start document in MongoDB's query language.

        Raises
        ------
        InvalidQuery
            The query cannot be understood.
        """
        from filebroker.faces.broker import Broker

        try:
            conditions = dict(query)
        except (TypeError, ValueError) as error:
            raise InvalidQuery(f"a query is a mapping such as {{'plan_name': 'scan'}}, not {query!r:.200}") from error
        found = Broker(self._runs.search(conditions), name="search results")
        return found.v2

    def __getitem__(self, key: Any) -> Run:
        """Give a run by its position (negative), its scan_id, or the beginning of its uid.

        Raises
        ------
        NotEnoughRuns, RunNotFound, AmbiguousPrefix
            There is no such run, or more than one.
        InvalidKey
            The key is neither a number nor a string.
        """
        return self._runs.lookup(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._runs.has_uid(key)

    def __iter__(self) -> Iterator[str]:
        return (item.entry.uid for item in self._runs.documents())

    def __len__(self) -> int:
        return len(self._runs)

    def keys(self) -> Iterator[str]:
        """Give the uids, newest run first."""
        return iter(self)

    def values(self) -> Iterator[Run]:
        """Give the runs, newest first, each opened when it is asked for."""
        return iter(self._runs)

    def items(self) -> Iterator[tuple[str, Run]]:
        """Give uids and runs, newest first."""
        return ((run.uid, run) for run in self._runs)

    def __repr__(self) -> str:
        return f"<RunCatalog {self.name!r}: {len(self):,} runs at {self._runs.place}>"
