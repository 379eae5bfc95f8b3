"""The way of whole runs into a catalog: they are put in their place as files, and then announced."""

import os
import shutil
import time
import uuid
from collections.abc import Callable

from filebroker.cataloging.catalog import Catalog, _begin
from filebroker.ground import filesystem
from filebroker.ground.errors import StorageError
from filebroker.storing import layout
from filebroker.storing.staging import Staging

#: Where runs are put together that then go up to a store, and how old what a process left there is that died.
_ASIDE, _ABANDONED_SECONDS = "_copying", 3600.0


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

    def take(self, directory: str, write: Callable[[str, str], None]) -> None:
        """Put a run in its place and announce it.

        Parameters
        ----------
        directory
            The run's directory.
        write
            Writes the run's files, ``documents.jsonl`` last: is called with the local path of a catalog, and the
            directory to write to there.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        if self._staging is None:
            write(self._catalog._root, directory)
        else:
            self._stage(self._staging, directory, write)
        self.announce(directory)

    def announce(self, directory: str) -> None:
        """Tell everybody of a run that is in its place."""
        self._catalog._announce(directory)
        self._catalog._send()

    def finish(self) -> None:
        """Wait until everything is where it has to be.

        Raises
        ------
        StorageError
            The store cannot be reached, or refuses; everything is safe on this machine.
        """
        self._catalog.flush()

    def _stage(self, staging: Staging, directory: str, write: Callable[[str, str], None]) -> None:
        """Put a run together beside those that are to be uploaded, and then among them: it is seen whole."""
        _sweep(staging.path(_ASIDE))
        aside = f"{_ASIDE}/{uuid.uuid4().hex}"
        try:
            write(staging.root, aside)
            place = staging.path(directory)
            filesystem.make_directory(os.path.dirname(place))
            if not os.path.exists(os.path.join(place, layout.DOCUMENTS)):  # else somebody else copies it as well
                os.rename(staging.path(aside), place)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(error.errno, f"cannot stage {directory} in {staging.root}: {error}") from error
        finally:
            shutil.rmtree(staging.path(aside), ignore_errors=True)


def _sweep(directory: str) -> None:
    """Remove what a process that died had put together."""
    if not os.path.isdir(directory):
        return
    for entry in os.scandir(directory):
        if time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(entry.path, ignore_errors=True)
