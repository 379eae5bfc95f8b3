"""A sealed run as files: what its manifest says that they are."""

import builtins
import hashlib
from collections.abc import Iterable
from typing import Any

from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.storing import layout
from filebroker.storing.convoys import is_entry
from filebroker.storing.journal import HEAD, Line, decode_line
from filebroker.transfer.packs.depots import Source, Target, Written

#: Files beside a run's documents that end so are what was bad of it, and was kept.
_ENDING = ".damaged"


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
        self.documents, self.is_whole = self._count(manifest), not manifest.get("damage")
        self.pages = self._pages(manifest)
        told = manifest.get("body")
        sealed = (told.get("bytes"), told.get("sha256")) if isinstance(told, dict) else None
        if sealed != (len(body), hashlib.sha256(body).hexdigest()):
            raise DamagedRun(f"the lines of {self._where} are not those that were sealed")
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

    def _count(self, manifest: dict[str, Any]) -> int:
        count = manifest.get("documents")
        if type(count) is not int or count < 1:
            raise DamagedRun(f"{self._where} has a manifest that makes no sense: of {count!r:.50} documents")
        return count

    def _pages(self, manifest: dict[str, Any]) -> dict[str, Written]:
        entries = manifest.get("files")
        if not isinstance(entries, list):
            raise DamagedRun(f"{self._where} has a manifest that makes no sense: its files are {entries!r:.50}")
        strange = [entry for entry in entries if not is_entry(entry)]
        if strange and self.is_whole:  # of a damaged run what is good of it is taken
            raise DamagedRun(f"{self._where} has a manifest that makes no sense: {strange[0]!r:.200} is no page")
        return {entry["path"]: Written(entry["bytes"], entry["sha256"]) for entry in entries if is_entry(entry)}

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
    def digest(self) -> builtins.bytes:
        """The SHA-256 of its documents: two runs that have the same are the same."""
        return hashlib.sha256(self.text).digest()

    @property
    def bytes(self) -> int:
        """The size of its documents and pages."""
        return len(self.text) + sum(page.bytes for page in self.pages.values())


def write_run(source: Source, bundle: Bundle, lacking: Iterable[str], target: Target, place: str) -> None:
    """Write the files of a run, and last that which makes it a run.

    Parameters
    ----------
    source, bundle
        Where the run is, and what it is.
    lacking
        The pages that are to be written.
    target, place
        Where they are to be written, and to which directory.

    Raises
    ------
    DamagedRun
        A page is not what was sealed.
    StorageError
        A filesystem refused.
    """
    for path in lacking:
        if path == layout.DOCUMENTS:
            continue
        expected = bundle.pages[path] if bundle.is_whole else None
        try:
            target.write(f"{place}/{path}", source.pieces(f"{bundle.directory}/{path}"), expected)
        except FileNotFoundError as error:
            if bundle.is_whole:
                raise DamagedRun(f"its page {path} is missing") from error
    for path in source.sizes(bundle.directory):
        if path.endswith(_ENDING) and "/" not in path:
            target.write(f"{place}/{path}", source.pieces(f"{bundle.directory}/{path}"))
    target.write(f"{place}/{layout.DOCUMENTS}", [bundle.text])
