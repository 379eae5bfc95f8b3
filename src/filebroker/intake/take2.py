"""What Intake 2 learns of catalogs of runs: to know one when it sees it, and to read it.

Intake 2 imports this by itself, as the entry point ``intake.imports`` says.  Earlier ones never do.
"""

from typing import TYPE_CHECKING, Any

from intake.readers.datatypes import FileData
from intake.readers.readers import BaseReader

from filebroker.ground.secrets import shareable

if TYPE_CHECKING:
    from filebroker.intake.catalogs import IntakeCatalog


class FilebrokerCatalog(FileData):  # type: ignore[misc]
    """A catalog of Bluesky runs, as filebroker writes it.

    Examples
    --------
    >>> import intake
    >>> intake.recommend("sample_data/example")
    [<class 'filebroker.intake.take2.FilebrokerCatalog'>]
    """

    structure = {"catalog"}
    # The marker of a catalog, at the end of a path as fsspec gives it.
    contains = {r"(?:^|/)filebroker\.json$"}

    def __repr__(self) -> str:
        return f"<FilebrokerCatalog {self.url!r}>"

    def to_entry(self) -> Any:
        """Describe the data for a catalog of Intake; what may be a credential is left out."""
        entry = super().to_entry()
        entry.kwargs["storage_options"] = shareable(self.storage_options or {}) or None
        return entry


class FilebrokerReader(BaseReader):  # type: ignore[misc]
    """Reads a catalog of runs: nothing is opened before runs are asked for.

    Keyword arguments are those of `IntakeCatalog`, such as ``search``.

    Examples
    --------
    >>> import intake
    >>> reader = FilebrokerCatalog("sample_data/example").to_reader(search="LaB6")
    >>> reader.read()
    <IntakeCatalog 'filebroker': 4 runs at ...>
    """

    implements = {FilebrokerCatalog}
    imports = {"filebroker"}
    output_instance = "filebroker.intake.catalogs:IntakeCatalog"
    func = "filebroker.intake.catalogs:IntakeCatalog"

    def _read(self, data: FilebrokerCatalog, **arguments: Any) -> "IntakeCatalog":
        from filebroker.intake.catalogs import IntakeCatalog

        return IntakeCatalog(data.url, storage_options=data.storage_options, **arguments)
