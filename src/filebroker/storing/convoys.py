"""Convoys: runs of a store that are gone through one after another, and whose files are then fetched together."""

import hashlib
import threading
from typing import Any

from filebroker.ground.errors import DamagedRun
from filebroker.ground.forks import renew_in_children
from filebroker.ground.remote import Remote
from filebroker.storing import layout
from filebroker.storing.journal import decode_line
from filebroker.storing.sealing import FileEntry

#: Pages up to this size are read whole.
SMALL_PAGE_BYTES = 1 << 20
#: So many bytes of pages are fetched at once.
_MOST_BYTES = 32 << 20


class Convoy:
    """Sealed runs of a store that somebody goes through.

    The first run that is read is read alone.  When a second one is, the others are about to be, and what they need
    is fetched at once: of those that were given out; and if it was the latest of them, as in a loop, also of those
    that will be next.

    Parameters
    ----------
    remote
        The store.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        # Versions of the runs' documents by directory, those that were read, and what is known of the pages.
        self._waiting: dict[str, str] = {}
        self._read: set[str] = set()
        self._pages: dict[str, list[FileEntry]] = {}
        self._readers: dict[str, set[str]] = {}
        self._given: set[str] = set()
        self._latest = ""
        self._is_loop: bool | None = None
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.Lock()

    def join(self, directory: str, version: str) -> None:
        """Add a run.

        Parameters
        ----------
        directory
            The run's directory.
        version
            What distinguishes its documents from others that were there before.
        """
        with self._mutex:
            self._waiting[directory] = version

    def give(self, directory: str) -> None:
        """Note that a run is given out now."""
        with self._mutex:
            self._given.add(directory)
            self._latest = directory

    def _is_likely(self, other: str, directory: str) -> bool:
        """Tell whether a run is likely to be read after one that is."""
        if self._is_loop is None:
            self._is_loop = directory == self._latest
        return self._is_loop or other in self._given

    def want_documents(self, directory: str) -> None:
        """Fetch the documents of a run that is about to be read, and of those that follow."""
        with self._mutex:
            self._read.add(directory)
            if len(self._read) < 2:
                self._waiting.pop(directory, None)
                return
            waiting = {other: version for other, version in self._waiting.items() if self._is_likely(other, directory)}
            self._waiting = {other: version for other, version in self._waiting.items() if other not in waiting}
        names = {other: f"{other}/{layout.DOCUMENTS}" for other in waiting}
        self._remote.fetch_ahead((names[other], version, is_whole) for other, version in waiting.items())
        for other, version in waiting.items():
            text = self._remote.peek(names[other], version)
            if text is not None:
                self.note(other, _head_of(text))

    def note(self, directory: str, files: list[FileEntry]) -> None:
        """Learn the pages of a run."""
        with self._mutex:
            self._pages[directory] = files

    def want_pages(self, directory: str, stream: str) -> None:
        """Fetch the small pages of a stream of a run that is about to be read, and of those that follow."""
        with self._mutex:
            readers = self._readers.setdefault(stream, set())
            if directory in readers:
                return
            readers.add(directory)
            if len(readers) < 2:
                return
            wanted = self._small_pages(directory, stream)
            left = _MOST_BYTES
            likely = [other for other in self._pages if other not in readers and self._is_likely(other, directory)]
            for other in likely:
                pages = self._small_pages(other, stream)
                left -= sum(entry["bytes"] for _, entry in pages)
                if left < 0:  # the others are fetched when the first of them is read
                    break
                readers.add(other)
                wanted += pages
        self._remote.fetch_ahead(page_request(*page) for page in wanted)

    def _small_pages(self, directory: str, stream: str) -> list[tuple[str, FileEntry]]:
        """Give the small pages of a stream of a run; no more of them than are fetched at once."""
        pages, left = [], _MOST_BYTES
        for entry in self._pages.get(directory, ()):
            if entry["stream"] == stream and entry["bytes"] <= SMALL_PAGE_BYTES and left >= entry["bytes"]:
                left -= entry["bytes"]
                pages.append((directory, entry))
        return pages


def page_request(directory: str, entry: FileEntry) -> tuple[str, str, Any]:
    """Give the name and the version of a page, and what tells whether it came whole."""
    return f"{directory}/{entry['path']}", entry["sha256"], lambda data: is_page(data, entry)


def is_page(data: bytes, entry: FileEntry) -> bool:
    """Tell whether a file is the page that a manifest means."""
    size, digest = entry["bytes"], entry["sha256"]
    return bool(len(data) == size and hashlib.sha256(data).hexdigest() == digest)


def is_whole(text: bytes) -> bool:
    """Tell whether the documents of a sealed run came as they were sealed."""
    head, _, body = text.partition(b"\n")
    try:
        sealed: str = decode_line(head).doc["body"]["sha256"]
        return sealed == hashlib.sha256(body).hexdigest()
    except (DamagedRun, KeyError, TypeError):
        return False


def _head_of(text: bytes) -> list[FileEntry]:
    """Give the pages that the documents of a sealed run name."""
    files = decode_line(text.partition(b"\n")[0]).doc.get("files")
    # What makes no sense is told when that run is read, and not those that are read with it.
    return [entry for entry in files if is_entry(entry)] if isinstance(files, list) else []


def is_entry(entry: object) -> bool:
    """Tell whether an entry of a manifest has what is needed, and names a file inside the run."""
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), kind) for key, kind in _ENTRY.items())
        and layout.is_page_path(entry["path"])
        and len(entry["footer"]) == 2
    )


_ENTRY = {
    **{"path": str, "stream": str, "sha256": str, "footer": list},
    **{"rows": int, "documents": int, "first": int, "last": int, "bytes": int},
}
