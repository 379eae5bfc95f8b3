"""What takes the documents given to a broker, for programs that look for databroker's serializer."""

from collections.abc import Mapping
from typing import Any

from filebroker.cataloging.catalog import Catalog


class CatalogSerializer:
    """A serializer that records into a catalog.

    Parameters
    ----------
    catalog
        The catalog.
    """

    #: The files of runs in progress, which apstools closes by this name.  There are none that have to be closed.
    _factory_cbs_by_start: Mapping[str, Any] = {}

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record a document; see `Catalog.insert`."""
        self._catalog.insert(name, doc)

    def close(self) -> None:
        """Stop recording; see `Catalog.close`."""
        self._catalog.close()
