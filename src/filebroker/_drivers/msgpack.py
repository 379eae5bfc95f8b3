"""What programs import from ``databroker._drivers.msgpack``."""

from filebroker._drivers.base import Driver
from filebroker.faces.browsing import RunCatalog

__all__ = ["BlueskyMsgpackCatalog"]


class BlueskyMsgpackCatalog(Driver):
    """Stands for databroker's catalogs of runs in msgpack files; a `RunCatalog` counts as one.

    Raises
    ------
    NotSupported
        One is to be made.
    """

    reads = "msgpack files"


BlueskyMsgpackCatalog.register(RunCatalog)
