"""Runs that ended in some way: what their stop documents say, which searches do not ask otherwise."""

from collections.abc import Iterator, Mapping
from typing import Any

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.cataloging.sieves import Sieve
from filebroker.finding.entries import Documents, Entry
from filebroker.finding.parsing import parse
from filebroker.finding.query import Subject
from filebroker.finding.search import Explanation


class WithEnding(Sieve):
    """Those of some runs whose stop documents answer a query.

    Parameters
    ----------
    source
        The runs.
    query
        What is asked of the stop document, as `Runs.search` asks it of start documents.

    Raises
    ------
    InvalidQuery
        It cannot be understood.
    """

    def __init__(self, source: Runs, query: Mapping[str, Any]) -> None:
        super().__init__(source)
        self._query = dict(query)
        self._condition = parse(query)

    def __iter__(self) -> Iterator[Run]:
        return self._opened(item.entry for item in self.documents())

    def __len__(self) -> int:
        """Count the runs; the stop documents of all are looked at."""
        return sum(1 for _ in self.documents())

    def documents(self) -> Iterator[Documents]:
        """Give the start and stop documents of the runs, newest first."""
        return (item for item in self._source.documents() if self._holds(item.stop))

    def explain(self, search: str = "") -> Explanation:
        """Tell how these runs are found."""
        notes = self._source.explain(search)
        notes.answers = len(self)
        return notes

    def search(self, query: Any = None, **keywords: Any) -> Runs:
        """Give those of the runs that answer a search; see `Runs.search`."""
        return WithEnding(self._source.search(query, **keywords), self._query)

    def _holds(self, stop: Mapping[str, Any] | None) -> bool:
        return stop is not None and self._condition.holds(Subject(stop))

    def _open(self, entry: Entry) -> Run | None:
        run = self._source._open(entry)
        return run if run is not None and self._holds(run.stop) else None

    @property
    def place(self) -> str:
        """Where these runs are, for messages."""
        return f"the runs of {self._source.place} whose stop documents answer {self._query!r}"
