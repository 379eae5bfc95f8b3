"""Runs that have a field, which only their descriptors tell: each has to be opened."""

from collections.abc import Iterator
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding.entries import Documents, Entry
from filebroker.finding.search import Explanation, Search
from filebroker.ground.errors import NotEnoughRuns

if TYPE_CHECKING:
    from filebroker.cataloging.catalog import Catalog


class WithField(Runs):
    """Those of some runs that have a data key in a descriptor.

    Parameters
    ----------
    source
        The runs.
    data_key
        The data key.
    """

    def __init__(self, source: Runs, data_key: str) -> None:
        self._source, self._data_key = source, data_key

    def __len__(self) -> int:
        """Count the runs; all that answer the rest of the search are opened."""
        return sum(1 for _ in self)

    def documents(self) -> Iterator[Documents]:
        """Give the start and stop documents of the runs, newest first."""
        return (item for item in self._source.documents() if self._open(item.entry) is not None)

    def explain(self, search: str = "") -> Explanation:
        """Tell how these runs are found."""
        notes = self._source.explain(search)
        begun = perf_counter()
        opened = f"{notes.answers:,} runs for the field {self._data_key!r}"
        notes.opened = f"{notes.opened}, {opened}" if notes.opened else opened
        notes.answers = len(self)
        notes.seconds += perf_counter() - begun
        return notes

    def newest(self, number: int) -> Run:
        """Give the n-th newest run that has the field; see `Runs.newest`."""
        if number < 1:
            return super().newest(number)  # says what is wrong
        run = next(islice(self, number - 1, None), None)
        if run is None:
            raise NotEnoughRuns(f"Catalog only contains {len(self)} runs. It is {self.place}")
        return run

    def search(self, query: Any = None, **keywords: Any) -> Runs:
        """Give those of the runs that answer a search; see `Runs.search`."""
        return WithField(self._source.search(query, **keywords), self._data_key)

    def _search(self) -> Search:
        return self._source._search()

    def _open(self, entry: Entry) -> Run | None:
        run = self._source._open(entry)
        has_it = run is not None and any(self._data_key in doc["data_keys"] for doc in run.descriptors)
        return run if has_it else None

    @property
    def catalog(self) -> "Catalog":
        """The catalog that the runs are of."""
        return self._source.catalog

    @property
    def place(self) -> str:
        """Where these runs are, for messages."""
        return f"the runs with the field {self._data_key!r} of {self._source.place}"
