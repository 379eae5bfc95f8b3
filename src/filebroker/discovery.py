"""What scripts import from ``databroker.discovery``."""

from filebroker.faces.discovery import ConfigCatalog as V0Catalog, EntrypointsCatalog, MergedCatalog
from filebroker.ground.config import list_configs, lookup_config

__all__ = ["EntrypointsCatalog", "MergedCatalog", "V0Catalog", "list_configs", "lookup_config"]
