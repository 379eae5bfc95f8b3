"""The catalogs that runs are imported from: what people said there of the runs comes along."""

from filebroker.cataloging.catalog import Catalog
from filebroker.finding.manifest import Manifest
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.transfer.packs.annotations import Carrier
from filebroker.transfer.packs.depots import depot_of


class Origins:
    """The catalogs that runs are imported from."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[Folder, list[str]]] = {}

    def add(self, folder: Folder | str, directory: str) -> None:
        """Note that a run is imported.

        Parameters
        ----------
        folder
            Its catalog.
        directory
            Its directory there.
        """
        url = folder if isinstance(folder, str) else folder.url
        if url not in self._runs:
            self._runs[url] = (Folder(folder) if isinstance(folder, str) else folder), []
        self._runs[url][1].append(directory)

    def carry(self, catalog: Catalog) -> None:
        """Bring the annotations of these runs to where the runs are now.

        Parameters
        ----------
        catalog
            Where they were imported to.

        Raises
        ------
        StorageError
            A filesystem refused.
        """
        if not self._runs:
            return
        target = depot_of(catalog.folder)

        def write(name: str, data: bytes) -> None:
            target.write(f"{layout.NOTES}/{name}", [data])
            catalog.library.add_notes(name, data)

        carrier = Carrier(lambda: target.sizes(layout.NOTES), write)
        catalog.library.sync()
        for folder, directories in self._runs.values():
            source = depot_of(folder)
            for directory in directories:
                if catalog.library.ask(Manifest.revision_of, directory):
                    carrier.add(source, directory)
        carrier.deliver()
