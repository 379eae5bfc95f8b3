"""Copies of the files that a run refers to, beside what is exported of it."""

import os
from collections.abc import Iterator
from pathlib import Path

from filebroker.ground.documents import Document
from filebroker.ground.errors import MissingAsset
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.narrowing import Narrowing
from filebroker.transfer.packs.assets import AssetFile, MissingFile, assets_of
from filebroker.transfer.packs.depots import pieces_of

_RESOURCES = ("resource", "stream_resource")


class Copies:
    """The files that a run refers to, and where their copies are.

    Parameters
    ----------
    job
        The run.  If only some streams or fields are wanted, so are only their files.

    Attributes
    ----------
    directory : str
        The name of the directory with the copies, in that of the export.
    """

    def __init__(self, job: Job) -> None:
        self._job, self.directory = job, job.file_name("_files")
        self._assets = assets_of(job.run, job.handlers)
        self._wanted: set[str] | None = None
        if job.is_narrowed:
            self._wanted = Narrowing(job.run, job.streams, job.asked_fields).resources

    @property
    def files(self) -> list[AssetFile]:
        """The files that are there, and are wanted."""
        places = tuple(place for uid, place in self._assets.places.items() if self._wants(uid))
        return [file for file in self._assets.files if file.name.startswith(places)]

    @property
    def missing(self) -> list[MissingFile]:
        """The files that are wanted and cannot be had."""
        return [file for file in self._assets.missing if self._wants(file.resource)]

    def _wants(self, resource: str) -> bool:
        return self._wanted is None or resource in self._wanted

    def write(self) -> None:
        """Copy the files; one that cannot be had is a problem of the run."""
        for missing in self.missing:
            self._job.problem(missing.reason, missing.path)
        files = self.files
        for number, file in enumerate(files, 1):
            with self._job.guarded(file.path), self._job.file(f"{self.directory}/{file.name}") as copy:
                for piece in _pieces(file.path):
                    copy.write(piece)
            self._job.progress("files", number, len(files))

    def relocated(self, doc: Document) -> Document:
        """Give a resource or stream_resource document that tells of the copies.

        Parameters
        ----------
        doc
            The document.  It is not modified.
        """
        place = self._assets.places.get(doc["uid"])
        if place is None:
            return doc
        root = os.path.join(self._job.target.directory, self.directory)
        if doc.get("uri") is None:
            semantics = {"path_semantics": "windows" if os.name == "nt" else "posix"}
            return {**doc, "root": root, "resource_path": place, **semantics}
        slash = "/" if place.endswith("/") else ""
        uri = Path(root, place).as_uri().replace("file://", "file://localhost", 1)
        return {**doc, "uri": f"{uri}{slash}"}


def _pieces(path: str) -> Iterator[bytes]:
    try:
        yield from pieces_of(path)
    except FileNotFoundError as error:
        raise MissingAsset(f"{path} was removed meanwhile") from error
