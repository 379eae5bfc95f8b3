"""Making a catalog before anything is recorded into it."""

import os

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.recording import mark
from filebroker.ground.errors import NotSupported
from filebroker.ground.filesystem import Folder


def make_catalog(path: str | os.PathLike[str]) -> Catalog:
    """Make an empty catalog, which others can open before it has runs.

    Recording makes a catalog as well; this is for a directory that shall be seen to be one from the start.  Where
    there is a catalog already, nothing is changed.

    Parameters
    ----------
    path
        A local directory, which is missing, empty or a catalog.

    Raises
    ------
    CatalogNotFound
        The directory holds other things than a catalog.
    NotSupported
        It is in a store, where a catalog begins with its first document.
    StorageError
        It cannot be written.

    Examples
    --------
    >>> len(make_catalog("my_beamtime"))
    0
    """
    folder = Folder(path)
    if folder.local is None:
        raise NotSupported(
            f"a catalog in a store, as {folder.url} would be, begins with the first document that is recorded there; "
            "to give it a name before, use 'filebroker config add NAME URL'"
        )
    Catalog(folder.local).close()  # refuses what can be no catalog
    mark(folder.local)
    return Catalog(folder.local)
