"""Some of some runs, of which only looking at each tells whether it is one of them."""

from itertools import islice
from typing import TYPE_CHECKING

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding.search import Search
from filebroker.ground.errors import NotEnoughRuns

if TYPE_CHECKING:
    from filebroker.cataloging.catalog import Catalog


class Sieve(Runs):
    """Those of some runs that pass; which, the subclasses say.

    Parameters
    ----------
    source
        The runs.
    """

    def __init__(self, source: Runs) -> None:
        self._source = source

    def newest(self, number: int) -> Run:
        """Give the n-th newest run that passes; see `Runs.newest`."""
        if number < 1:
            return super().newest(number)  # says what is wrong
        run = next(islice(self, number - 1, None), None)
        if run is None:
            raise NotEnoughRuns(f"Catalog only contains {len(self)} runs. It is {self.place}")
        return run

    def _search(self) -> Search:
        return self._source._search()

    @property
    def catalog(self) -> "Catalog":
        """The catalog that the runs are of."""
        return self._source.catalog
