"""What programs import from ``databroker._drivers.jsonl``."""

from filebroker._drivers.base import Driver
from filebroker.faces.browsing import RunCatalog

__all__ = ["BlueskyJSONLCatalog"]


class BlueskyJSONLCatalog(Driver):
    """Stands for databroker's catalogs of runs in files of JSON lines; a `RunCatalog` counts as one.

    Raises
    ------
    NotSupported
        One is to be made.
    """

    reads = "files of JSON lines"


BlueskyJSONLCatalog.register(RunCatalog)
