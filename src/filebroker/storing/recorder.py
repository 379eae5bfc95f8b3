"""The recording of one run: every document into the journal at once, pages in the background.

A document is acknowledged when `Recorder.insert` returns.  By then it has reached the operating system,
so the death of the process cannot lose it; how soon it also survives a power cut is the caller's choice
of `Sync`.
"""

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from filebroker.ground import codec, filesystem
from filebroker.ground.documents import check, describe, unpack_event_page
from filebroker.ground.errors import DamagedRun, DuplicateDocument, FilebrokerError, SealWarning, StorageError
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout, recovery, sealing
from filebroker.storing.buffer import NOTHING_FILLED, UID, Batch, EventBuffer, joined
from filebroker.storing.claims import claim
from filebroker.storing.columns import ABSENT
from filebroker.storing.flusher import Flusher
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, JournalFile, Line, encode_line, encode_simple_event
from filebroker.storing.parquet import PageFile
from filebroker.storing.repeats import UNKNOWN, Sequence, changed, digest, identity
from filebroker.storing.run_files import RunFiles
from filebroker.storing.sealing import FileEntry, Manifest, Segment
from filebroker.storing.streams import DeclaredKeys, Stream, Streams

#: When documents are forced to the disk: every 100 ms, before each `insert` returns, or when the
#: operating system sees fit.
Sync = Literal["interval", "always", "never"]

_SIMPLE_TYPES = codec.SIMPLE_TYPES

SEGMENT_BYTES = 64 << 20
SEGMENT_DOCUMENTS = 200_000


class Recorder:
    """Records one run into a catalog on a local disk.

    Parameters
    ----------
    root
        Local path of the catalog.
    start
        The run's start document, already checked.
    sync
        See `Sync`.
    announce
        Is told the run's directory when the run was sealed; if it fails, the run is sealed once more when the
        catalog is next opened.
    segment_bytes, segment_documents
        A segment of the journal that exceeds either is turned into pages in the background.

    Raises
    ------
    DuplicateDocument
        A run of that uid and time is there already.
    StorageError
        The filesystem refused.
    UnstorableValue
        The start document holds something that JSON cannot carry.
    """

    def __init__(
        self,
        root: str,
        start: Mapping[str, Any],
        *,
        sync: Sync = "interval",
        announce: Callable[[str], None] = lambda directory: None,
        segment_bytes: int = SEGMENT_BYTES,
        segment_documents: int = SEGMENT_DOCUMENTS,
    ) -> None:
        line = encode_line(0, "start", start)
        self.uid: str = start["uid"]
        self.name = layout.run_directory(start)
        self.directory = os.path.join(root, self.name)
        self._root = root
        self.stopped = False
        self._sync, self._announce = sync, announce
        self._always = sync == "always"
        self._limits = self._first_limits = (segment_bytes, segment_documents)
        self._streams = Streams()
        self._digests: dict[tuple[str, str], int] = {("start", self.uid): digest(start)}
        self._sequences: dict[str, Sequence] = {}
        self._mutex = threading.RLock()
        self._has_stop = False
        # Whether an interrupt came in the middle of an insertion, and memory has to be made good.
        self._disturbed = self._was_disturbed = False
        self._committed: list[FileEntry] = []
        self._committing: tuple[Segment, Future[Any]] | None = None
        self._committer: ThreadPoolExecutor | None = None
        self._lock = claim(root, self.name, self.uid)
        self._count = 0
        # The batch that the latest event of the usual kind went to, and its descriptor.
        self._latest: tuple[DeclaredKeys, Batch] | None = None
        try:
            self._open_segment(0)
            self._append(line)
        except BaseException:  # an interrupt as well as a full disk
            self.abandon()
            raise
        self._segment.add_line(line)

    # -- documents in

    def insert(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record one document.

        Parameters
        ----------
        name
            Any document but ``start`` and the ``bulk`` forms.
        doc
            The document, which belongs to this run.  It is not modified, and may be afterwards.

        Raises
        ------
        InvalidDocument, UnstorableValue, UnknownRun, DuplicateDocument
            The document cannot be kept.  The recording can go on.
        StorageError
            The filesystem refused.  What was inserted before is safe, and this document can be inserted
            again once the cause is mended.
        """
        with self._mutex:
            if self.stopped or self._disturbed:
                self._get_ready(name, doc)
            try:
                if name == "event":  # without a call more than it takes: this is what a RunEngine waits for
                    if not self._insert_simple_event(doc):
                        self._insert_event(doc)
                elif name == "event_page":
                    self._insert_event_page(doc)
                else:
                    self._insert_other(name, doc)
                journal = self._journal
                if journal.size > self._limits[0] or journal.lines > self._limits[1]:
                    self._rotate()
            except FilebrokerError:
                raise
            except BaseException:  # an interrupt may have come between the journal and the memory of it
                self._disturbed = self._was_disturbed = True
                raise
            if self._has_stop:
                self.stopped = True
                self.seal()

    def _get_ready(self, name: str, doc: Mapping[str, Any]) -> None:
        """Refuse what comes after the stop document; make good what an interrupt left."""
        if self.stopped:
            raise DuplicateDocument(
                f"the {describe(name, doc)} came after the stop document of run {self.uid!r}; its record is closed"
            )
        self._heal()

    def _insert_event(self, event: Mapping[str, Any]) -> None:
        check("event", event)
        declared = self._streams.of(event["descriptor"])
        declared.check("event", event)
        sequence = self._sequences[declared.stream.name]
        if event["seq_num"] <= sequence.last and self._is_known(declared.stream, sequence, event):
            return
        line, events = encode_line(self._count, "event", event), EventBuffer()
        events.add(self._count, event)
        self._append(line)
        self._segment.add_events(declared.stream, events, line)
        self._latest = None
        sequence.remember(event)

    def _insert_simple_event(self, event: Mapping[str, Any]) -> bool:
        """Record an event as nearly all are; False, and nothing done, if this one is not."""
        try:
            declared = self._streams.declared[event["descriptor"]]
            data, stamps, filled, uid, when, seq_num = (
                *(event["data"], event["timestamps"], event["filled"]),
                *(event["uid"], event["time"], event["seq_num"]),
            )
            # With as many keys as are declared, having all of those is having no others.
            if len(event) != 7 or not len(data) == declared.count == len(stamps):
                return False
            values = declared.pick(data) + declared.pick(stamps)
        except (KeyError, TypeError, AttributeError):
            return False
        sequence = self._sequences[declared.stream.name]
        if type(seq_num) is not int or type(when) is not float or type(uid) is not str or not uid:
            return False
        if seq_num <= sequence.last or filled or type(filled) is not dict:
            return False
        if not _SIMPLE_TYPES.issuperset(map(type, values)):
            return False
        line = encode_simple_event(self._count, event)
        if line is None:
            return False
        try:
            self._journal.append(line, self._always)
        except StorageError as error:
            self._append_elsewhere(line, error)
        self._count += 1
        if self._latest is None or self._latest[0] is not declared:
            keys = declared.order
            self._latest = declared, self._segment.buffer(declared.stream).batch(keys, keys, tuple(event))
        batch = self._latest[1]
        batch.values += (
            *(self._count - 1, False, event["descriptor"], uid, when, seq_num, NOTHING_FILLED, ABSENT),
            *values,
        )
        sequence.last = seq_num
        if sequence.digests is not None:
            sequence.digests[uid] = digest(event)
        return True

    def _insert_event_page(self, page: Mapping[str, Any]) -> None:
        check("event_page", page)
        declared = self._streams.of(page["descriptor"])
        declared.check("event_page", page)
        key, mark = identity("event_page", page), digest(page)
        if self._is_repeated(key, mark, page):
            return
        page = {**page, "data": {name: joined(column) for name, column in page["data"].items()}}
        line, events = encode_line(self._count, "event_page", page), EventBuffer()
        events.add_page(self._count, page)
        self._append(line)
        self._digests[key] = mark
        self._segment.add_events(declared.stream, events, line)
        self._latest = None
        sequence = self._sequences[declared.stream.name]
        for event in unpack_event_page(page):
            sequence.remember(event)

    def _insert_other(self, name: str, doc: Mapping[str, Any]) -> None:
        check(name, doc)
        key, mark = identity(name, doc), digest(doc)
        if self._is_repeated(key, mark, doc):
            return
        if name == "descriptor":
            self._streams.check(doc)
        line = encode_line(self._count, name, doc)
        self._append(line)
        self._segment.add_line(line)
        self._note(name, doc, mark)

    def _note(self, name: str, doc: Mapping[str, Any], mark: int) -> None:
        """Remember a document that is no event."""
        if name == "descriptor":
            stream = self._streams.add(doc).stream
            self._sequences.setdefault(stream.name, Sequence())
        self._digests[identity(name, doc)] = mark
        self._has_stop = self._has_stop or name == "stop"

    def _heal(self) -> None:
        """Make the memory of the present segment what its journal says, after an interrupt."""
        lines, number = self._journal.reread(), layout.segment_number(self._journal.path)
        # A segment that was begun but never came into use holds nothing but its head.
        filesystem.remove(os.path.join(self.directory, layout.journal_name(number + 1)))
        self._segment, self._latest = Segment(number, self._streams), None
        for line in lines:
            if line.name in ("event", "event_page"):
                self._remember_events(line)
            elif line.name != HEAD:
                self._note(line.name, line.doc, digest(line.doc))
            if line.name != HEAD:
                self._segment.add(line)
                self._count = line.ordinal + 1
        self._disturbed = False

    def _remember_events(self, line: Line) -> None:
        sequence = self._sequences[self._streams.of(line.doc["descriptor"]).stream.name]
        if line.name == "event":
            sequence.remember(line.doc)
            return
        self._digests[identity("event_page", line.doc)] = digest(line.doc)
        for event in unpack_event_page(line.doc):
            sequence.remember(event)

    # -- repeated documents

    def _is_repeated(self, key: tuple[str, str], mark: int, doc: Mapping[str, Any]) -> bool:
        """Tell whether the very same document was inserted before; refuse another of the same uid."""
        known = self._digests.get(key)
        if known is not None and known != mark:
            raise DuplicateDocument(changed(describe(key[0], doc), self.uid))
        return known is not None

    def _is_known(self, stream: Stream, sequence: Sequence, event: Mapping[str, Any]) -> bool:
        """Tell the same of an event; its uid is looked at only when its seq_num does not rise.

        A RunEngine that goes back to a checkpoint repeats seq_nums, with new uids.
        """
        if sequence.digests is None:
            sequence.digests = dict.fromkeys(self._uids_of(stream), UNKNOWN)
        known = sequence.digests.get(event["uid"])
        if known == UNKNOWN:
            known = sequence.digests[event["uid"]] = self._recorded_digest(stream, event["uid"])
        if known is not None and known != digest(event):
            raise DuplicateDocument(changed(describe("event", event), self.uid))
        return known is not None

    def _uids_of(self, stream: Stream) -> set[str]:
        """Give the uids of a stream's events, those in memory and those in pages."""
        self._finish_commit()
        if self._was_disturbed:  # memory may lack a segment
            return {event["uid"] for _, event in self._read_back().event_items(stream.name)}
        uids = set(self._segment.buffers[stream.name].field(UID)) if stream.name in self._segment.buffers else set()
        for entry in self._committed:
            if entry["stream"] == stream.name:
                uids.update(PageFile(os.path.join(self.directory, entry["path"]), entry["path"]).read("uids").uids())
        return uids

    def _recorded_digest(self, stream: Stream, uid: str) -> int:
        self._finish_commit()
        items = self._read_back().event_items(stream.name)
        return next(digest(event) for _, event in items if event["uid"] == uid)

    def _read_back(self) -> RunFiles:
        return RunFiles(Folder(self.directory), "")

    # -- journal and segments

    def _append(self, line: bytes) -> None:
        try:
            self._journal.append(line, self._always)
        except StorageError as error:
            self._append_elsewhere(line, error)
        self._count += 1

    def _append_elsewhere(self, line: bytes, error: StorageError) -> None:
        """Append a line to a new file, if the journal cannot be trusted any more; else say what is safe."""
        if self._journal.failed and self._count:
            # Nobody knows what of that file is on the disk.  Its documents are written once more, from memory, as
            # pages, and the recording goes on in a new file.
            try:
                self._rotate() if self._journal.lines > 1 else self._begin_again()
                self._journal.append(line, self._always)
            except StorageError as another:
                error = another
            else:
                return
        raise StorageError(
            error.errno,
            f"document {self._count} of run {self.uid!r} was not recorded: {error}. The {self._count} documents "
            f"before it are safe in {self.directory}; insert it again once there is space",
        ) from error

    def _begin_again(self) -> None:
        """Put a new file in the place of one that failed before it held a document."""
        self._close_journal()
        filesystem.remove(self._journal.path)
        self._open_segment(self._segment.number)

    def _open_segment(self, number: int) -> None:
        path = os.path.join(self.directory, layout.journal_name(number))
        journal = JournalFile(path)
        head = {"format": layout.FORMAT, "state": "live", "run": self.uid, "segment": number}
        try:
            journal.append(encode_line(HEAD_ORDINAL, HEAD, head))
            if self._sync != "never":
                filesystem.sync_path(self._root if number == 0 else self.directory, self.directory)
        except StorageError:
            journal.close()
            filesystem.remove(path)
            raise
        self._journal, self._segment, self._latest = journal, Segment(number, self._streams), None
        if self._sync == "interval":
            Flusher.shared().add(journal)

    def _close_journal(self) -> None:
        if self._sync == "interval":
            Flusher.shared().discard(self._journal)
        self._journal.close()

    def _rotate(self) -> None:
        """Begin a new segment, and turn the last into pages in the background."""
        segment, journal = self._segment, self._journal
        try:
            self._finish_commit()
            self._open_segment(segment.number + 1)
        except Exception as error:  # noqa: BLE001 - whatever it is, the documents are safe and acquisition goes on
            self._limits = (self._limits[0] + journal.size, self._limits[1] + journal.lines)
            warnings.warn(
                f"the journal of run {self.uid!r} grows beyond {journal.size} bytes, because its documents cannot be "
                f"turned into pages: {error!r}. They are safe; it is tried again later",
                SealWarning,
                stacklevel=6,
            )
            return
        if self._sync == "interval":
            Flusher.shared().discard(journal)
        journal.close()
        if self._committer is None:
            self._committer = ThreadPoolExecutor(1, thread_name_prefix="filebroker-pages")
        self._limits = self._first_limits
        job = self._committer.submit(sealing.commit_segment, self.directory, segment, sync=self._sync != "never")
        self._committing = segment, job

    def _finish_commit(self) -> None:
        """Wait for the segment being committed; on failure its journal stays, and sealing tries again."""
        if self._committing is None:
            return
        segment, job = self._committing
        try:
            files = job.result()
        except Exception:  # noqa: BLE001 - tried once more, and raised then
            files = sealing.commit_segment(self.directory, segment, sync=self._sync != "never")
        self._committed += files
        self._committing = None

    def seal(self) -> None:
        """Turn the stopped run into files that never change.

        A failure is only warned of: every document is safe in the journal, and the next opening of the
        catalog seals the run.
        """
        try:
            self._close_journal()
            self._finish_commit()
            if self._was_disturbed:
                outcome = recovery.seal(self._root, self.name)
                if outcome.outcome == "unreadable":
                    raise DamagedRun(outcome.detail)
            else:
                manifest = Manifest("sealed", self._count)
                sealing.seal_run(self.directory, manifest, self._streams, self._segment, sync=self._sync != "never")
            self._announce(self.name)
            self._lock.remove()
        except Exception as error:  # noqa: BLE001 - whatever it is, the documents are safe and acquisition goes on
            warnings.warn(
                f"run {self.uid!r} is complete and safe in its journal, but could not be sealed: {error!r}. "
                "It will be when the catalog is next opened",
                SealWarning,
                stacklevel=6,
            )
        finally:
            self._lock.release()
            self._shut_down()

    def close(self) -> None:
        """Stop recording without a stop document; the next opening of the catalog seals the run."""
        with self._mutex:
            if not self.stopped:
                self.stopped = True
                self._close_journal()
                self._shut_down()
                self._lock.release()

    def _shut_down(self) -> None:
        if self._committer is not None:
            self._committer.shutdown(wait=True)

    def abandon(self) -> None:
        """Leave nothing of a run whose start could not be recorded."""
        self.stopped = True
        try:
            if hasattr(self, "_journal"):
                self._close_journal()
                filesystem.remove(self._journal.path)
            with contextlib.suppress(OSError):  # an empty directory does no harm
                os.rmdir(self.directory)
            self._lock.remove()
        finally:
            self._lock.release()
