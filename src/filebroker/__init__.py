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
    from filebroker.assets.handlers import Handlers as Handlers
    from filebroker.cataloging.annotating import Trashed as Trashed
    from filebroker.cataloging.catalog import Catalog as Catalog
    from filebroker.cataloging.creation import make_catalog as make_catalog
    from filebroker.cataloging.following import follow as follow
    from filebroker.faces.bluesky_run import BlueskyRun as BlueskyRun
    from filebroker.faces.broker import Broker as Broker
    from filebroker.faces.browsing import RunCatalog as RunCatalog
    from filebroker.faces.discovery import (
        catalog as catalog,
        catalog_search_path as catalog_search_path,
        yaml_catalogs as yaml_catalogs,
    )
    from filebroker.faces.doctor import doctor as doctor
    from filebroker.faces.event_stream import BlueskyEventStream as BlueskyEventStream
    from filebroker.faces.filtering import ALL as ALL
    from filebroker.faces.header import Header as Header
    from filebroker.faces.registry import Registry as Registry
    from filebroker.faces.results import Results as Results
    from filebroker.faces.symptoms import Symptom as Symptom
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
    from filebroker.ground.registration import add_config as add_config, remove_config as remove_config
    from filebroker.transfer.care.repairing import Repaired as Repaired, RepairReport as RepairReport, repair as repair
    from filebroker.transfer.care.verifying import Finding as Finding, Verification as Verification, verify as verify
    from filebroker.transfer.incoming.importing import import_runs as import_runs
    from filebroker.transfer.incoming.reports import ImportProblem as ImportProblem, ImportReport as ImportReport
    from filebroker.transfer.outgoing.exporting import ExportReport as ExportReport, export_runs as export_runs
    from filebroker.transfer.outgoing.job import ExportProblem as ExportProblem
    from filebroker.transfer.packs.copy_reports import CopyReport as CopyReport
    from filebroker.transfer.packs.copying import copy_runs as copy_runs
    from filebroker.transfer.packs.packing import PackReport as PackReport, pack as pack
    from filebroker.transfer.packs.unpacking import unpack as unpack

# Where each public name comes from.  They are imported when first used, so that "import filebroker" and
# the command line cost next to nothing.
_MODULES = {
    "filebroker.cataloging.annotating": ("Trashed",),
    "filebroker.cataloging.catalog": ("Catalog",),
    "filebroker.cataloging.creation": ("make_catalog",),
    "filebroker.cataloging.following": ("follow",),
    "filebroker.cataloging.run": ("Run", "Stream"),
    "filebroker.cataloging.runs": ("Selection",),
    "filebroker.faces.broker": ("Broker",),
    "filebroker.faces.browsing": ("RunCatalog",),
    "filebroker.faces.bluesky_run": ("BlueskyRun",),
    "filebroker.faces.discovery": ("catalog", "catalog_search_path", "yaml_catalogs"),
    "filebroker.faces.event_stream": ("BlueskyEventStream",),
    "filebroker.faces.filtering": ("ALL",),
    "filebroker.faces.header": ("Header",),
    "filebroker.faces.registry": ("Registry",),
    "filebroker.faces.results": ("Results",),
    "filebroker.faces.temporary": ("temp", "temp_config"),
    "filebroker.faces.wrapping": ("DeprecatedDoct", "wrap_in_deprecated_doct", "wrap_in_doct"),
    "filebroker.assets.handlers": ("Handlers",),
    "filebroker.finding.search": ("Explanation",),
    "filebroker.finding.survey": ("Survey",),
    "filebroker.transfer.outgoing.exporting": ("export_runs", "ExportReport"),
    "filebroker.transfer.outgoing.job": ("ExportProblem",),
    "filebroker.transfer.packs.copy_reports": ("CopyReport",),
    "filebroker.transfer.packs.copying": ("copy_runs",),
    "filebroker.transfer.packs.packing": ("pack", "PackReport"),
    "filebroker.transfer.packs.unpacking": ("unpack",),
    "filebroker.faces.doctor": ("doctor",),
    "filebroker.faces.symptoms": ("Symptom",),
    "filebroker.transfer.care.repairing": ("repair", "RepairReport", "Repaired"),
    "filebroker.transfer.care.verifying": ("verify", "Verification", "Finding"),
    "filebroker.ground.config": ("describe_configs", "list_configs", "lookup_config"),
    "filebroker.ground.registration": ("add_config", "remove_config"),
    "filebroker.transfer.incoming.importing": ("import_runs",),
    "filebroker.transfer.incoming.reports": ("ImportReport", "ImportProblem"),
    "filebroker.ground.errors": (
        *("FilebrokerError", "InvalidDocument", "UnstorableValue", "UnknownDocumentName", "UnknownRun"),
        *("DuplicateDocument", "RunNotFound", "RunInTrash", "NotEnoughRuns", "AmbiguousPrefix"),
        *("InvalidLookup", "InvalidKey"),
        *("InvalidQuery", "QueryTimeout", "MissingHandler", "DuplicateHandler", "UnknownDatum", "MissingAsset"),
        *("AssetExists", "UnreadableAsset", "MissingPackage", "UnknownStream", "UnknownField", "UnknownDevice"),
        *("InvalidFill", "InvalidOption", "ProjectionError", "UnfitEvents"),
        *("DamagedRun", "NothingRecorded", "CatalogNotFound", "SourceNotFound"),
        *("ConfigNotFound", "UnknownCatalogName", "InvalidConfig", "UnsupportedFormat", "ReadOnlyCatalog"),
        *("StorageError", "StoreUnreachable", "AccessDenied", "MissingStore", "InvalidPack", "PackExists"),
        "NotSupported",
        *("FilebrokerWarning", "DamagedRunWarning", "RecoveryWarning", "AssetWarning", "LedgerWarning", "SealWarning"),
        *("UploadWarning", "OfflineWarning", "NoteWarning"),
    ),
}
_ORIGINS = {name: module for module, names in _MODULES.items() for name in names}

# Modules of databroker's names, which scripts use as attributes: "databroker.queries.TimeRange".
_SUBMODULES = frozenset(
    {"broker", "core", "databroker", "discovery", "glue", "in_memory"}
    | {"pivot", "projector", "queries", "utils", "v1", "v2"}
)
# Functions of a catalog that is configured as _legacy_config; without one they do not exist.
_LEGACY = frozenset(
    {"db", "DataBroker", "get_events", "get_table", "stream", "get_fields", "restream", "process", "get_images"}
)

__all__ = sorted([*_ORIGINS, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"filebroker.{name}")
    if name in _LEGACY:
        from filebroker.faces import legacy

        return legacy.attribute(name)
    if name not in _ORIGINS:
        raise AttributeError(f"module 'filebroker' has no attribute {name!r}")
    value = getattr(import_module(_ORIGINS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
