"""Runs that have a field, which only their descriptors tell: each has to be opened."""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.cataloging.sieves import Sieve
from filebroker.finding.entries import Documents, Entry
from filebroker.finding.search import Explanation


class WithField(Sieve):
    """Those of some runs that have a data key in a descriptor.

    Parameters
    ----------
    source
        The runs.
    data_key
        The data key.
    """

    def __init__(self, source: Runs, data_key: str) -> None:
        super().__init__(source)
        self._data_key = data_key

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

    def search(self, query: Any = None, **keywords: Any) -> Runs:
        """Give those of the runs that answer a search; see `Runs.search`."""
        return WithField(self._source.search(query, **keywords), self._data_key)

    def _open(self, entry: Entry) -> Run | None:
        run = self._source._open(entry)
        has_it = run is not None and any(self._data_key in doc["data_keys"] for doc in run.descriptors)
        return run if has_it else None

    @property
    def place(self) -> str:
        """Where these runs are, for messages."""
        return f"the runs with the field {self._data_key!r} of {self._source.place}"
