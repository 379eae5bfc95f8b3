"""The way of whole runs into a catalog: they are put in their place as files, and then announced."""

import contextlib
import os
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from filebroker.cataloging.asides import Aside, move
from filebroker.cataloging.catalog import Catalog, _begin
from filebroker.finding.records import Record
from filebroker.ground import filesystem
from filebroker.ground.errors import StorageError
from filebroker.storing.staging import Staging

#: Where runs are put together that then go up to a store.
_ASIDE = "_copying"


class Written(NamedTuple):
    """A run that is being written, and not announced yet.

    Attributes
    ----------
    directory : str
        The run's directory.
    place : str
        Where it is written, relative to the same root.
    """

    directory: str
    place: str

    @property
    def is_aside(self) -> bool:
        """Whether it is not in its place."""
        return self.place != self.directory


class Receiver:
    """Takes whole runs into a catalog.

    Parameters
    ----------
    catalog
        The catalog, which may be new.

    Raises
    ------
    ReadOnlyCatalog
        It was opened for reading, or its store cannot be written to.
    StorageError
        The filesystem refused.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        catalog._start_recording()  # refuses a catalog that cannot be written to
        _begin(catalog)
        self._staging: Staging | None = None if catalog._outbox is None else catalog._outbox.staging
        #: The directories of runs that are in their places, and not announced.
        self._placed: list[str] = []
        self._aside = Aside(catalog._root if self._staging is None else self._staging.path(_ASIDE))

    @property
    def root(self) -> str:
        """The local path that runs are written below."""
        return self._catalog._root

    def begin(self, directory: str) -> Written:
        """Say where the files of a run are to be written; several threads may do this at once.

        That is aside, so that nobody sees a part of it; but on a local disk where something of it is in its place,
        there.

        Parameters
        ----------
        directory
            The run's directory.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        if self._staging is None and os.path.lexists(self._path(directory)):
            return Written(directory, directory)
        return Written(directory, os.path.relpath(self._aside.new(), self.root).replace(os.sep, "/"))

    def drop(self, run: Written) -> None:
        """Remove what was written aside of a run that is not taken."""
        if run.is_aside:
            shutil.rmtree(self._path(run.place), ignore_errors=True)

    def take(self, runs: Sequence[Written]) -> set[str]:
        """Put runs that were written in their places, and announce them, all at once.

        Parameters
        ----------
        runs
            The runs.

        Returns
        -------
        set of str
            The directories of those that were not taken, because another run is there by now.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        refused = {run.directory for run in runs if not self._put(run)}
        taken = [run.directory for run in runs if run.directory not in refused]
        for parent in {os.path.dirname(directory) for directory in taken}:
            filesystem.sync_path(self.root, self._path(parent))
        self._placed += taken
        self._announce()
        return refused

    def _announce(self) -> None:
        if self._placed:
            self._catalog._announce(*self._placed)
            self._placed.clear()
            self._catalog._send()

    def _put(self, run: Written) -> bool:
        if not run.is_aside or not os.path.isdir(self._path(run.place)):
            return True
        try:
            return move(self._path(run.place), self._path(run.directory))
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            where = self._path(run.directory)
            raise StorageError(error.errno, f"cannot put a run in its place {where}: {error.strerror}") from error
        finally:
            self.drop(run)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def close(self) -> None:
        """Remove what was written and not taken, and announce what was placed if that failed before."""
        self._aside.close()  # which makes room on a full disk
        with contextlib.suppress(StorageError):  # it was told before, and a repeat announces them
            self._announce()

    def enter(self, records: Sequence[Record]) -> None:
        """Tell everybody of runs that are in their places, all at once; some may have been there before, with less.

        Parameters
        ----------
        records
            What the ledger shall say of them.

        Raises
        ------
        StorageError
            The filesystem refused; the next opening of the catalog finds the runs whose locks are still there.
        """
        for record in records:
            self._catalog._shelf.forget(record.path)
        self._catalog.library.ledger.append(records, sync=True)

    def send(self) -> None:
        """Bring what was entered to the store, in the background."""
        self._catalog._send()

    def finish(self) -> None:
        """Wait until everything is where it has to be.

        Raises
        ------
        StorageError
            The store cannot be reached, or refuses; everything is safe on this machine.
        """
        self._catalog.flush()


def root_of(catalog: Catalog) -> str:
    """Give the local path that runs are put to: of a catalog in a store, that of what is to be uploaded.

    Parameters
    ----------
    catalog
        The catalog.
    """
    return catalog._root
