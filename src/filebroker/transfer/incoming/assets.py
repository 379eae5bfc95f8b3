"""Copies of the external files of runs that were imported."""

from collections.abc import Mapping

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.catalog import Catalog
from filebroker.ground.progress import Progress
from filebroker.transfer.incoming.reports import ImportProblem, ImportReport
from filebroker.transfer.packs.asset_copies import copy_assets
from filebroker.transfer.packs.assets import assets_of
from filebroker.transfer.packs.depots import depot_of


def copy_external(catalog: Catalog, report: ImportReport, root_map: Mapping[str, str], progress: Progress) -> None:
    """Copy the external files of imported runs to these runs.

    Parameters
    ----------
    catalog
        Where the runs are.
    report
        That of their import; it names the runs, and what the root maps of packs say.  What is missing is noted there.
    root_map
        Where files are now.
    progress
        Is told how many runs are done.

    Raises
    ------
    StorageError
        The filesystem refused.
    """
    handlers = Handlers(None, {**root_map, **report.root_map})
    target = depot_of(catalog.folder)
    uids = list(dict.fromkeys(report.external))
    for number, uid in enumerate(uids, start=1):
        run = catalog.of_uid(uid)
        if run is not None:
            found = assets_of(run, handlers)
            missing = found.missing + copy_assets(found, target, run.directory).missing
            report.problems += [ImportProblem(item.path, "", "", uid, item.reason) for item in missing]
        progress("external files", number, len(uids))
