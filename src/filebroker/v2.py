"""What scripts import from ``databroker.v2``."""

from filebroker.faces.browsing import RunCatalog as Broker
from filebroker.faces.temporary import temp as _temporary

__all__ = ["Broker", "temp"]


def temp() -> Broker:
    """Open a new, empty catalog in a temporary directory, which is removed when it is no longer used.

    Examples
    --------
    >>> catalog = temp()
    >>> catalog.v1.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
    >>> list(catalog)
    ['84d9ee44']
    >>> catalog.v1.close()
    """
    return _temporary().v2
