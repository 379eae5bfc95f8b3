"""A sealed run as files: what its manifest says that they are."""

import hashlib
from typing import Any

from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.storing import layout
from filebroker.storing.convoys import is_entry
from filebroker.storing.journal import HEAD, Line, decode_line
from filebroker.transfer.packs.depots import Source, Written


class Bundle:
    """A sealed run, as its ``documents.jsonl`` tells of it.

    Parameters
    ----------
    source
        Where the run is.
    directory
        Its directory there.

    Attributes
    ----------
    text : bytes
        The content of ``documents.jsonl``, which was checked.
    uid : str
        The run's uid.
    start : dict
        Its start document.
    documents : int
        How many documents it has.
    pages : dict of str to Written
        What each page has to be, by its path in the run's directory.
    is_whole : bool
        Whether nothing was lost before it was sealed.  Else its pages may not be what they should.

    Raises
    ------
    FileNotFoundError
        The run is not sealed, or there is none.
    DamagedRun
        It is not what was sealed.
    UnsupportedFormat
        It was written by a later version.
    StorageError
        It cannot be read.
    """

    def __init__(self, source: Source, directory: str) -> None:
        self.directory = directory
        self.text = source.read(f"{directory}/{layout.DOCUMENTS}")
        self._where = f"{source.label}/{directory}/{layout.DOCUMENTS}"
        head, _, body = self.text.partition(b"\n")
        manifest = self._manifest(head)
        try:
            entries = manifest["files"]
            self.documents = int(manifest["documents"])
            self.is_whole = not manifest.get("damage")
            expected = Written(manifest["body"]["bytes"], manifest["body"]["sha256"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedRun(f"{self._where} has a manifest that makes no sense: {error!r}") from error
        if expected != Written(len(body), hashlib.sha256(body).hexdigest()):
            raise DamagedRun(f"the lines of {self._where} are not those that were sealed")
        self.pages = {entry["path"]: Written(entry["bytes"], entry["sha256"]) for entry in entries if is_entry(entry)}
        self.start = self._started(body)
        self.uid: str = self.start["uid"]

    def _manifest(self, head: bytes) -> dict[str, Any]:
        line = self._line(head)
        manifest: Document = line.doc
        if line.name != HEAD or not isinstance(manifest, dict):
            raise DamagedRun(f"{self._where} has no readable manifest")
        if type(manifest.get("format")) is not int or manifest["format"] != layout.FORMAT or manifest.get("requires"):
            raise UnsupportedFormat(
                f"{self._where} has format {manifest.get('format')} {manifest.get('requires') or ''}, and this version "
                f"of filebroker reads format {layout.FORMAT}; upgrade filebroker"
            )
        return manifest

    def _started(self, body: bytes) -> Document:
        start = self._line(body.partition(b"\n")[0])
        uid = start.doc.get("uid") if isinstance(start.doc, dict) else None
        if start.name != "start" or not isinstance(uid, str):
            raise DamagedRun(f"{self._where} has no readable start document")
        if layout.lock_name_of(self.directory) != layout.lock_name(uid):
            raise DamagedRun(f"{self._where} is of the run {uid!r}, and not in the directory of that")
        return start.doc

    def _line(self, text: bytes) -> Line:
        try:
            return decode_line(text)
        except DamagedRun as error:
            raise DamagedRun(f"{self._where}: {error}") from error

    @property
    def bytes(self) -> int:
        """The size of its documents and pages."""
        return len(self.text) + sum(page.bytes for page in self.pages.values())
