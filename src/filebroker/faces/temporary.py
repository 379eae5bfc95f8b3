"""Catalogs that last as long as they are used."""

import tempfile
import weakref

from filebroker.core.catalog import Catalog
from filebroker.faces.broker import Broker
from filebroker.ground.errors import NotSupported


def temp() -> Broker:
    """Open a new, empty catalog in a temporary directory, which is removed when it is no longer used.

    Examples
    --------
    >>> db = temp()
    >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> db[-1].start["uid"]
    '84d9ee44'
    >>> db.close()
    """
    directory = tempfile.TemporaryDirectory(prefix="filebroker-", ignore_cleanup_errors=True)
    broker = Broker(directory.name, name="temp")
    weakref.finalize(broker, _discard, broker.catalog, directory)
    return broker


def _discard(catalog: Catalog, directory: "tempfile.TemporaryDirectory[str]") -> None:
    catalog.close()
    catalog.clear_cache()
    directory.cleanup()


def temp_config() -> None:
    """Raise `NotSupported`: a temporary catalog needs no configuration."""
    raise NotSupported("a temporary catalog needs no configuration; call filebroker.temp()")
