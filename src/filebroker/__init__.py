"""filebroker: your beamtime in a folder, with databroker's prompt and no server.

>>> from filebroker import Broker
>>> db = Broker.named("example")
>>> db[-1].table().shape
(11, 4)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from filebroker.cataloging.catalog import Catalog as Catalog
    from filebroker.faces.broker import Broker as Broker
    from filebroker.faces.browsing import RunCatalog as RunCatalog
    from filebroker.faces.filtering import ALL as ALL
    from filebroker.faces.header import Header as Header
    from filebroker.faces.results import Results as Results
    from filebroker.faces.temporary import temp as temp, temp_config as temp_config
    from filebroker.faces.wrapping import (
        DeprecatedDoct as DeprecatedDoct,
        wrap_in_deprecated_doct as wrap_in_deprecated_doct,
        wrap_in_doct as wrap_in_doct,
    )
    from filebroker.finding.search import Explanation as Explanation
    from filebroker.finding.survey import Survey as Survey
    from filebroker.ground.config import (
        describe_configs as describe_configs,
        list_configs as list_configs,
        lookup_config as lookup_config,
    )

# Where each public name comes from.  They are imported when first used, so that "import filebroker" and
# the command line cost next to nothing.
_MODULES = {
    "filebroker.cataloging.catalog": ("Catalog",),
    "filebroker.cataloging.run": ("Run", "Stream"),
    "filebroker.cataloging.runs": ("Selection",),
    "filebroker.faces.broker": ("Broker",),
    "filebroker.faces.browsing": ("RunCatalog",),
    "filebroker.faces.filtering": ("ALL",),
    "filebroker.faces.header": ("Header",),
    "filebroker.faces.results": ("Results",),
    "filebroker.faces.temporary": ("temp", "temp_config"),
    "filebroker.faces.wrapping": ("DeprecatedDoct", "wrap_in_deprecated_doct", "wrap_in_doct"),
    "filebroker.finding.search": ("Explanation",),
    "filebroker.finding.survey": ("Survey",),
    "filebroker.ground.config": ("describe_configs", "list_configs", "lookup_config"),
    "filebroker.ground.errors": (
        *("FilebrokerError", "InvalidDocument", "UnstorableValue", "UnknownDocumentName", "UnknownRun"),
        *("DuplicateDocument", "RunNotFound", "NotEnoughRuns", "AmbiguousPrefix", "InvalidLookup", "InvalidKey"),
        *("InvalidQuery", "QueryTimeout", "MissingHandler", "DuplicateHandler", "UnknownDatum", "MissingAsset"),
        *("UnreadableAsset", "MissingPackage", "UnknownStream", "InvalidFill"),
        *("DamagedRun", "NothingRecorded", "CatalogNotFound"),
        *("ConfigNotFound", "UnknownCatalogName", "InvalidConfig", "UnsupportedFormat", "ReadOnlyCatalog"),
        *("StorageError", "NotSupported"),
        *("FilebrokerWarning", "DamagedRunWarning", "RecoveryWarning", "AssetWarning", "LedgerWarning", "SealWarning"),
    ),
}
_ORIGINS = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted([*_ORIGINS, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _ORIGINS:
        raise AttributeError(f"module 'filebroker' has no attribute {name!r}")
    value = getattr(import_module(_ORIGINS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
