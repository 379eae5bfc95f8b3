"""What programs import from ``databroker._drivers.mongo_normalized``."""

from filebroker._drivers.base import Driver
from filebroker.faces.browsing import RunCatalog

__all__ = ["BlueskyMongoCatalog"]


class BlueskyMongoCatalog(Driver):
    """Stands for databroker's catalogs of runs in a MongoDB; a `RunCatalog` counts as one.

    Raises
    ------
    NotSupported
        One is to be made.
    """

    reads = "a MongoDB"


BlueskyMongoCatalog.register(RunCatalog)
