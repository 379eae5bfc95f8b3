"""The import of a part of what is found, in one process."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from filebroker.cataloging.catalog import Catalog
from filebroker.ground.errors import FilebrokerError
from filebroker.ground.filesystem import Folder
from filebroker.storing.run_files import RunFiles
from filebroker.transfer.incoming import databroker as incoming_databroker, files as incoming_files
from filebroker.transfer.incoming.files import Item
from filebroker.transfer.incoming.reports import ImportProblem, ImportReport
from filebroker.transfer.incoming.runs import Sorter, run_items
from filebroker.transfer.incoming.sources import Unit
from filebroker.transfer.incoming.target import Target


class Setup(NamedTuple):
    """What every process that imports has to know.

    Attributes
    ----------
    url : str
        The catalog.
    dry_run : bool
        Change nothing.
    names_external : bool
        Name the runs that refer to external files.
    """

    url: str
    dry_run: bool
    names_external: bool = False


class Importer:
    """Imports units into a catalog.

    Parameters
    ----------
    setup
        What it has to know.
    catalog
        The catalog, if it is open here.
    """

    def __init__(self, setup: Setup, catalog: Catalog | None = None) -> None:
        self._catalog = Catalog(setup.url) if catalog is None else catalog
        self._is_own = catalog is None
        if self._is_own:
            self._catalog.library.housekeeper.stop()  # who reads the catalog next brings its index up to date
        self._dry_run, self._names_external = setup.dry_run, setup.names_external
        self._target = Target(self._catalog, dry_run=setup.dry_run)

    def take(self, units: Iterable[Unit]) -> ImportReport:
        """Import some units.

        Parameters
        ----------
        units
            What is to be imported.

        Raises
        ------
        StorageError
            The filesystem refused.
        MissingPackage
            To read them takes a package that is not installed.
        """
        report = ImportReport(dry_run=self._dry_run)
        for unit in units:
            try:
                report.add(self.take_source(_items(unit), unit.place))
            except FilebrokerError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a file does, the others are taken
                report.problems.append(ImportProblem(unit.place, "", "", "", f"it cannot be read: {error!r:.300}"))
        report.add(self.finish())
        return report

    def finish(self) -> ImportReport:
        """Put everything in its place, and report what turned out otherwise then.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        self._target.announce()
        report = ImportReport(dry_run=self._dry_run)
        while self._target.overtaken:
            draft, reception = self._target.overtaken.pop()
            report.taken -= 1
            report.documents -= draft.documents
            report.incomplete -= not draft.is_complete
            report.known += reception.outcome == "known"
            report.refused += reception.outcome == "refused"
            if reception.why:
                report.problems.append(
                    ImportProblem(draft.name, "", f"run {draft.uid!r:.80}", draft.uid, reception.why)
                )
        return report

    def take_source(self, items: Iterable[Item], place: str) -> ImportReport:
        """Import the documents of one source.

        Parameters
        ----------
        items
            The documents.
        place
            What it is called in messages.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        report = ImportReport(files=1, dry_run=self._dry_run)
        Sorter(self._target, place, report).take(items)
        if not self._names_external:
            report.external = []
        return report

    def close(self) -> None:
        """Leave everything in order."""
        try:
            self._target.close()
        finally:
            if self._is_own:
                self._catalog.close()


def _items(unit: Unit) -> Iterator[Item]:
    if unit.kind == "databroker":
        return incoming_databroker.items_of(unit.path, unit.inner)
    if unit.kind != "run":
        return incoming_files.items_of(unit.kind, unit.path)
    try:
        return run_items(RunFiles(Folder(unit.path), unit.inner))
    except FilebrokerError as error:
        return iter([Item("", why=str(error), torn=True)])


def take_units(setup: dict[str, Any], units: list[list[Any]]) -> dict[str, Any]:
    """Import some units in a process of a Dask cluster.

    Parameters
    ----------
    setup, units
        As JSON's own types.

    Returns
    -------
    dict
        The report, or the error that stopped it.
    """
    importer = Importer(Setup(**setup))
    try:
        return importer.take([Unit(*unit) for unit in units]).to_dict()
    finally:
        importer.close()
