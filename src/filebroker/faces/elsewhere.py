"""Runs in a database of databroker's: known by their configuration, and not to be read here."""

from typing import NoReturn

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding.entries import Entry
from filebroker.finding.search import Search
from filebroker.ground.databroker_stores import Store
from filebroker.ground.errors import InvalidConfig


class Elsewhere(Runs):
    """Runs that filebroker does not read; every question about them says where they are and how to move them.

    databroker connects to its database when the first run is asked for.  A script that opens a catalog to look at its
    configuration works here as it does there.

    Parameters
    ----------
    store
        Where they are.
    label
        What to call the configuration in messages.
    """

    def __init__(self, store: Store, label: str) -> None:
        self._store, self._label = store, label

    def __repr__(self) -> str:
        return f"<runs in {self.place}>"

    @property
    def place(self) -> str:
        """Where the runs are."""
        return f"{self._store.place}, which filebroker does not read"

    @property
    def catalog(self) -> Catalog:
        """Raise `InvalidConfig`: there is no catalog."""
        self._refuse()

    def _search(self) -> Search:
        self._refuse()

    def _open(self, entry: Entry) -> Run | None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InvalidConfig(self._store.explain(self._label))
