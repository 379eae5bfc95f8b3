"""Catalogs that last as long as they are used."""

import os
import shutil
import tempfile
import weakref

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.recording import mark
from filebroker.faces.broker import Broker
from filebroker.finding.library import Library
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
    directory = tempfile.mkdtemp(prefix="filebroker-")
    mark(directory)
    catalog = Catalog(directory)
    # It may be used longer than the broker, by the result of a search for example.
    weakref.finalize(catalog, _discard, directory, catalog.library, os.getpid())
    return Broker(catalog, name="temp")


def _discard(directory: str, library: Library, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take it away from its parent
        shutil.rmtree(directory, ignore_errors=True)
        library.remove()


def temp_config() -> None:
    """Raise `NotSupported`: a temporary catalog needs no configuration.

    Examples
    --------
    >>> temp_config()
    Traceback (most recent call last):
        ...
    filebroker.ground.errors.NotSupported: a temporary catalog needs no configuration; call filebroker.temp()
    """
    raise NotSupported("a temporary catalog needs no configuration; call filebroker.temp()")
