"""What goes up of a staged run, and in which order, so that the store never shows half a run."""

import os
import time
from collections.abc import Collection
from typing import NoReturn
from zlib import crc32

from filebroker.ground import codec
from filebroker.ground.errors import DamagedRun, DuplicateDocument
from filebroker.ground.stores import Store
from filebroker.storing import layout
from filebroker.storing.journal import HEAD, read_lines
from filebroker.storing.sealing import FileEntry
from filebroker.storing.staging import Staging

#: So long the journal of a live run is left alone after it was written, and at least so many times what that took.
JOURNAL_SECONDS, _JOURNAL_REST = 5.0, 3.0
#: A journal goes up as a whole: not before it has grown by this part of what is up, or so long later.
_GROWTH, LONGEST_SECONDS = 8, 60.0
#: A live run's files may be replaced while they are read; so often reading starts again.
_ATTEMPTS = 20
_FIRST_JOURNAL = layout.journal_name(0)
#: A journal that holds a start document has its head and at least one line.
_STARTED_LINES = 2


class Upload:
    """The upload of one staged run.

    It can be given up and made anew at any point.  Everything is created under a claim, so what is there under it is
    this run's own.

    Parameters
    ----------
    staging
        Where the run is.
    store
        Where it goes.
    directory
        Its directory in both.

    Attributes
    ----------
    sent : int
        How many objects were written or removed.
    """

    def __init__(self, staging: Staging, store: Store, directory: str) -> None:
        self.directory, self.sent = directory, 0
        self._staging, self._store = staging, store
        self._claim = f"{layout.LIVE}/{layout.lock_name_of(directory)}"
        self._is_claimed = self._is_up = self._was_live = self._is_done = False
        #: What was in the store before, with sizes; what was compared with what is here; the segments that are up.
        self._found: dict[str, int] = {}
        self._created: set[str] = set()
        self._committed: set[str] = set()
        #: Size and CRC of each journal that was written, and when the last may be written again.
        self._journals: dict[str, tuple[int, int]] = {}
        self._next_journal = self._latest_journal = 0.0

    def advance(self, *, patient: bool = False) -> bool:
        """Upload all that is new.

        Parameters
        ----------
        patient
            Leave a journal alone that was written a moment ago.

        Returns
        -------
        bool
            Whether the run is sealed and completely up.

        Raises
        ------
        DuplicateDocument
            Somebody else recorded a run of this uid with other content.
        DamagedRun
            The staged run cannot be read.
        StorageError
            The store or the local filesystem refused; what is up is as good as it was.
        """
        for _ in range(_ATTEMPTS):
            try:
                self._is_done = self._is_done or self._advance(patient)
            except FileNotFoundError:  # its recorder has just turned a journal into pages, or sealed the run
                continue
            return self._is_done
        return False

    def _advance(self, patient: bool) -> bool:
        names = self._names()
        if layout.DOCUMENTS in names:
            return self._finish(self._read(layout.DOCUMENTS))
        if not self._is_started(names):
            return False
        self._begin(None)
        segments = {part for name in names if (part := layout.segment_of(name))}
        numbers = sorted({number for _, number in segments})
        if numbers != list(range(len(numbers))):
            raise FileNotFoundError  # it was listed in the moment in which one became the other
        for number in numbers:
            if ("docs", number) in segments:
                self._commit(number)
            else:
                self._write_journal(layout.journal_name(number), patient and number == numbers[-1])
        return False

    # -- the staged run

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._staging.path(self.directory))
        except FileNotFoundError:  # it was abandoned
            return []

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def _read(self, name: str) -> bytes:
        with open(self._staging.path(self._path(name)), "rb") as file:
            return file.read()

    def _is_started(self, names: list[str]) -> bool:
        """Tell whether the run has its start document: one that has none may yet be taken back."""
        if _FIRST_JOURNAL in names:
            return self._is_claimed or self._read(_FIRST_JOURNAL).count(b"\n") >= _STARTED_LINES
        return layout.docs_name(0) in names

    # -- the claim

    def _begin(self, documents: bytes | None) -> None:
        """Claim the run in the store, and learn what is up of it."""
        if self._is_claimed:
            return
        if reason := self._staging.loss_of(self.directory):
            raise DuplicateDocument(reason)
        claim, is_new = self._staging.claim_of(self.directory)
        if not self._store.create(self._claim, claim):
            self._lose(f"it is being recorded {_owner(self._read_claim())}")
        found = self._store.tree(self.directory)
        if layout.DOCUMENTS in found:
            if documents is None or self._store.read(self._path(layout.DOCUMENTS)) != documents:
                self._lose("a run with other content is there already")
            self._is_up = True  # its pages as well, which went up before
        elif is_new and any(layout.segment_of(name) or layout.is_page_path(name) for name in found):
            self._lose("somebody else began to record it there and never finished")
        self._found, self._is_claimed, self._was_live = found, True, bool(found)
        self.sent += 1

    def _read_claim(self) -> bytes:
        try:
            return self._store.read(self._claim)
        except FileNotFoundError:
            return b""

    def _lose(self, finding: str) -> NoReturn:
        reason = (
            f"the run in {self.directory} cannot be uploaded to {self._store.url}: {finding}. "
            "Nothing there was touched, and every document recorded here is kept"
        )
        self._staging.lose(self.directory, reason)
        raise DuplicateDocument(reason)

    def give_up(self) -> None:
        """Take the claim back, and with it a run that was taken back here before it held more than its start.

        Raises
        ------
        StorageError
            The store refused.
        """
        claim, _ = self._staging.claim_of(self.directory)
        if self._read_claim() != claim:
            return
        if not self._staging.loss_of(self.directory) and set(self._store.tree(self.directory)) == {_FIRST_JOURNAL}:
            journal = self._path(_FIRST_JOURNAL)
            if self._store.read(journal).count(b"\n") <= _STARTED_LINES:
                self._store.remove([journal])
        self._store.remove([self._claim])

    # -- going up

    def _create(self, name: str, data: bytes | None = None, *, compare: bool = True) -> None:
        """Put a file that never changes into the store.

        With ``compare=False`` one of the same size that was there before is taken for this one: it is there under the
        claim.  Before staging is emptied everything is compared.
        """
        if name in self._created:
            return
        if not compare and self._found.get(name) == os.path.getsize(self._staging.path(self._path(name))):
            return
        if not self._store.create(self._path(name), self._read(name) if data is None else data):
            self._lose(f"{name} is there with other content")
        self._created.add(name)
        self.sent += 1

    def _commit(self, number: int) -> None:
        """Upload a committed segment: its pages, then its lines, and then its journal is superfluous."""
        name, journal = layout.docs_name(number), layout.journal_name(number)
        if name in self._committed:
            return
        data = self._read(name)
        self._was_live = True
        for entry in _pages(data, self._path(name)):
            self._create(entry["path"], compare=False)
        self._create(name, data, compare=False)
        if journal in self._found or journal in self._journals:
            self._store.remove([self._path(journal)])
            self.sent += 1
        self._committed.add(name)

    def _write_journal(self, name: str, patient: bool) -> None:
        """Write a journal again as a whole if it has grown."""
        if patient and name in self._journals and not self._is_due(name):
            return
        data = self._read(name)
        data = data[: data.rfind(b"\n") + 1]  # what follows is being written
        state = len(data), crc32(data)
        if self._journals.get(name) == state:
            return
        self._was_live = True
        begun = time.monotonic()
        self._journals[name] = (0, 0)  # even if this fails it may be up
        self._store.write(self._path(name), data)
        ended = time.monotonic()
        self._journals[name] = state
        self._next_journal = ended + max(JOURNAL_SECONDS, _JOURNAL_REST * (ended - begun))
        self._latest_journal = max(self._next_journal, ended + LONGEST_SECONDS)
        self.sent += 1

    def _is_due(self, name: str) -> bool:
        """Tell whether a journal that is up has grown by so much, or for so long, that it is written again."""
        now, (written, _) = time.monotonic(), self._journals[name]
        if now < self._next_journal:
            return False
        size = os.path.getsize(self._staging.path(self._path(name)))
        return size >= written + written // _GROWTH or now >= self._latest_journal

    def _finish(self, documents: bytes) -> bool:
        """Upload a sealed run: pages, then the documents, which make it complete; then tidy up."""
        self._begin(documents)
        pages = [entry["path"] for entry in _pages(documents, self._path(layout.DOCUMENTS))]
        if not self._is_up:
            for name in [*pages, *self._others()]:
                # A page that is missing here was lost: readers say so from the manifest.
                if os.path.exists(self._staging.path(self._path(name))):
                    self._create(name)
            self._create(layout.DOCUMENTS, documents)
            self._is_up = True
        self._tidy_up(set(pages))
        self._is_claimed = False
        self._store.remove([self._claim])
        self.sent += 1
        return True

    def _others(self) -> list[str]:
        """Give the files of the sealed run that filebroker did not make, or keeps for someone who can read them."""
        names = self._staging.files(self.directory)
        return sorted(name for name in names if name != layout.DOCUMENTS and not _is_ours(name))

    def _tidy_up(self, pages: Collection[str]) -> None:
        """Remove from the store what sealing made superfluous."""
        if not self._was_live:
            return
        superfluous = [name for name in self._store.tree(self.directory) if _is_ours(name) and name not in pages]
        if superfluous:
            self._store.remove([self._path(name) for name in sorted(superfluous)])


def _is_ours(name: str) -> bool:
    """Tell whether a file of a run is a segment or a page."""
    return layout.segment_of(name) is not None or layout.is_page_path(name)


def _pages(data: bytes, source: str) -> list[FileEntry]:
    """Give the pages that the head of a file of lines names."""
    head = read_lines(data[: data.find(b"\n") + 1], source).lines
    if not head or head[0].name != HEAD:
        raise DamagedRun(f"{source} is staged but has no readable head, so its pages are unknown; it cannot go up")
    entries: list[FileEntry] = head[0].doc.get("files", [])
    return [entry for entry in entries if layout.is_page_path(entry["path"])]


def _owner(claim: bytes) -> str:
    """Say who holds a claim."""
    try:
        owner = codec.loads(claim)
        return f"by process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "by somebody else"
