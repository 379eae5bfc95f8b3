"""Reading one run from its files, sealed or live, whole or damaged."""

import errno
import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import TypeVar

from filebroker.ground import codec
from filebroker.ground.documents import Document, Pair, stream_name
from filebroker.ground.errors import DamagedRun, FilebrokerError, NothingRecorded, StorageError, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.ground.lazy import cached_property
from filebroker.storing import layout
from filebroker.storing.convoys import SMALL_PAGE_BYTES, Convoy, is_entry, is_page, is_whole, page_request
from filebroker.storing.journal import HEAD, Line, Lines, SlimLine, read_lines
from filebroker.storing.pages import Page
from filebroker.storing.parquet import Columns, PageFile, footer_seal
from filebroker.storing.ranges import RemoteFile, ahead
from filebroker.storing.sealing import FileEntry, Segment
from filebroker.storing.segments import Segments
from filebroker.storing.streams import Streams
from filebroker.storing.tables import to_table

#: Features of a run that this version understands.
_FEATURES: frozenset[str] = frozenset()
#: Files up to this size are checked whole whenever they are read.
_WHOLE_CHECK_BYTES = 1 << 20
#: A live run's files may be replaced while they are read; so often reading starts again.
_ATTEMPTS = 20
#: So many small pages of a stream are fetched from a store at once, and so many large ones.
_PAGES_AHEAD, _PAGES_AT_ONCE = 16, 3
#: Of a live run with more large pages none of them is held open; so much is never merged when it is sealed.
_HELD_PAGES = 64

T = TypeVar("T")


class RunFiles:
    """The documents of one run, as its files had them when this was made.

    Parameters
    ----------
    folder
        The catalog's folder.
    directory
        The run's directory in it.
    before
        The same run as it was read before; of a live run only what was added since is then parsed.
    version
        Of a sealed run of a store: what distinguishes its documents from others that were there before.
    convoy
        Others that are read with it.
    text
        Its ``documents.jsonl``, if that was read before.

    Attributes
    ----------
    state : str
        ``sealed``, ``interrupted`` (sealed without a stop document) or ``live``.
    damage : list of str
        What is wrong with the run; empty for one that is whole.
    size : int
        How many bytes its lines have.
    losses : list of str
        That part of it that was known when the run was sealed.

    Raises
    ------
    DamagedRun
        Not even the start document can be read.
    UnsupportedFormat
        The run was written by a later version.
    """

    def __init__(
        self,
        folder: Folder,
        directory: str,
        before: "RunFiles | None" = None,
        *,
        version: str | None = None,
        convoy: Convoy | None = None,
        text: bytes | None = None,
    ) -> None:
        self.folder, self.directory, self._text = folder, directory, text
        self._version, self._convoy = version, convoy
        self.state = "live"
        self.damage: list[str] = []
        self.losses: list[str] = []
        self.files: list[FileEntry] = []
        self._lines: list[Line | SlimLine] = []
        self._held: dict[str, PageFile] = {}
        self._segments: Segments = Segments(folder, directory, None if before is None else before._segments)
        self.size = 0
        self._unstarted = False
        self._load()
        if self._lines and self._lines[0].name == "start":
            return
        if self._unstarted:
            raise NothingRecorded(f"the run in {self._where} has not been started yet, or was removed")
        raise DamagedRun(
            f"the run in {self._where} has no readable start document"
            + "".join(f"; {problem}" for problem in self.damage)
        )

    @property
    def _where(self) -> str:
        return self.folder.path(self.directory)

    def _path(self, name: str) -> str:
        return f"{self.directory}/{name}" if self.directory else name

    # -- loading

    def _load(self) -> None:
        for attempt in range(_ATTEMPTS):
            self.state, self.files, self._lines, self.damage, self.size = "live", [], [], [], 0
            try:
                text = self._read_documents()
            except FileNotFoundError:
                if self._load_live(last_attempt=attempt == _ATTEMPTS - 1):
                    break
            else:
                self._load_sealed(text)
                break
        self._segments.settle()
        self._check_order()

    def _read_documents(self) -> bytes:
        name = self._path(layout.DOCUMENTS)
        text, self._text = self._text, None
        if text is not None and is_whole(text):
            return text
        if self._version is None:
            if not self._segments.is_sealed():
                raise FileNotFoundError(name)
            text = self.folder.read(name)
            if self.folder.remote is None or is_whole(text):
                return text
            return self.folder.read(name)  # a bit may have flipped on the way
        if self._convoy is not None:
            self._convoy.want_documents(self.directory)
        return self.folder.read_fixed(name, self._version, is_whole)

    def _load_sealed(self, text: bytes) -> None:
        self.size = len(text)
        head = self._take_lines(read_lines(text, layout.DOCUMENTS), layout.DOCUMENTS)
        self.state = head.get("state", "sealed")
        if not head:
            self.damage.append(f"{layout.DOCUMENTS} has no readable manifest, so its pages are unknown")
            return
        try:
            self.losses = list(head.get("damage", []))
            self.damage += self.losses
            found = len(self._lines) + sum(entry["documents"] for entry in self.files)
            if found != head["documents"]:
                self.damage.append(f"{head['documents'] - found} of its {head['documents']} documents are missing")
            elif self.damage == self.losses and _body_hash(text) != head["body"]["sha256"]:
                self.damage.append(f"the lines of {layout.DOCUMENTS} are not those that were sealed")
        except (KeyError, TypeError) as error:
            self.damage.append(f"{layout.DOCUMENTS} has a manifest that makes no sense: {error!r}")

    def _load_live(self, *, last_attempt: bool) -> bool:
        """Read committed segments and journals; False if one was replaced meanwhile."""
        segments = [part for name in self._segments.names() if (part := layout.segment_of(name))]
        committed = {number for kind, number in segments if kind == "docs"}
        numbers = sorted({number for _, number in segments})
        missing = sorted(set(range(min(len(numbers) + 1, numbers[-1]))) - set(numbers)) if numbers else []
        if missing and not last_attempt:
            return False
        if missing:
            self.damage.append(f"segments are missing, the first of them {layout.journal_name(missing[0])}")
        for number in numbers:
            name = layout.docs_name(number) if number in committed else layout.journal_name(number)
            try:
                growing = number == numbers[-1] and number not in committed
                if not self._take_lines(self._segments.parse(name), name, growing=growing) and not growing:
                    self.damage.append(f"{name} has no readable head, so its pages are unknown")
            except FileNotFoundError:
                if not last_attempt:
                    return False
                self.damage.append(f"{name} is missing")
            except StorageError as error:
                if self._is_no_damage(error):
                    raise
                self.damage.append(str(error))
        self.size = self._segments.size
        self._unstarted = not self._lines and not self.damage and numbers in ([], [0]) and not committed
        # Sealing removes the segments after documents.jsonl appeared.
        return last_attempt or not self._segments.is_superseded()

    def _check_order(self) -> None:
        """Note documents that are missing, doubled or out of place by their ordinals."""
        ordinals = [line.ordinal for line in self._lines]
        if any(after <= before for before, after in pairwise(ordinals)):
            self.damage.append("its lines are doubled or out of order")
        elif self.state == "live" and not self.damage:
            last = max([*ordinals, *(entry["last"] for entry in self.files)], default=-1)
            found = len(ordinals) + sum(entry["documents"] for entry in self.files)
            if found != last + 1:
                self.damage.append(f"{last + 1 - found} of its first {last + 1} documents are missing")

    def _take_lines(self, parsed: Lines, name: str, *, growing: bool = False) -> Document:
        """Add the good lines of a file, and give the content of its head."""
        self.damage += parsed.damage
        if parsed.torn and not growing:
            self.damage.append(f"{name} ends in the middle of a line")
        lines, head = list(parsed.lines), {}
        if lines and lines[0].name == HEAD:
            head = lines.pop(0).doc
            self._check_format(head)
            files = head.get("files", [])
            for entry in files if isinstance(files, list) else [files]:
                if is_entry(entry):
                    self.files.append(entry)
                else:
                    self.damage.append(f"{name} names a page that cannot be one: {entry!r:.200}")
        if any(line.name == HEAD for line in lines):
            self.damage.append(f"{name} has more than one head")
        self._lines += [line.slim() for line in lines if line.name != HEAD]
        return head

    def _check_format(self, head: Document) -> None:
        requires = head.get("requires", [])
        unknown = sorted(set(map(str, requires if isinstance(requires, list) else [requires])) - _FEATURES)
        if head.get("format") != layout.FORMAT or type(head["format"]) is not int or unknown:
            raise UnsupportedFormat(
                f"the run in {self._where} has format {head.get('format')} {unknown or ''}, and this version of "
                f"filebroker reads format {layout.FORMAT}; upgrade filebroker"
            )

    def hold(self) -> None:
        """Open the pages of a live run, so that sealing it meanwhile takes nothing away from a reader."""
        for _ in range(_ATTEMPTS):
            if self.state != "live":
                return
            self._fetch_pages([entry for entry in self.files if entry["path"] not in self._held])
            large = sum(entry["bytes"] > _WHOLE_CHECK_BYTES for entry in self.files)
            try:
                for entry in self.files:
                    is_small = entry["bytes"] <= _WHOLE_CHECK_BYTES
                    if entry["path"] not in self._held and (is_small or large <= _HELD_PAGES):
                        self._try_to_hold(entry)
            except FileNotFoundError:  # merged with others, or sealed; else it is missing, and reported when read
                if not self.folder.exists(self._path(layout.DOCUMENTS)):
                    return
                self._load()
                for derived in ("_described", "_streams", "_journalled"):
                    self.__dict__.pop(derived, None)
            else:
                return

    def _try_to_hold(self, entry: FileEntry) -> None:
        try:
            self._held[entry["path"]] = self._open_page(entry)
        except (DamagedRun, StorageError) as error:  # which is reported when it is read
            if isinstance(error, StorageError) and self._is_elsewhere:
                raise

    @property
    def _is_elsewhere(self) -> bool:
        return self.folder.on_disk(self.directory) is None

    def _is_no_damage(self, error: StorageError) -> bool:
        """Tell whether an error says nothing about the run: no more files can be opened, or its store failed."""
        return self._is_elsewhere or error.errno in (errno.EMFILE, errno.ENFILE)

    # -- documents

    @property
    def start(self) -> Document:
        """The start document."""
        return self._copy(self._lines[0])

    @cached_property
    def uid(self) -> str:
        """The run's uid."""
        return str(self._lines[0].doc["uid"])

    @property
    def stop(self) -> Document | None:
        """The stop document, None while there is none."""
        last = self._lines[-1]
        return self._copy(last) if last.name == "stop" else None

    @property
    def descriptors(self) -> list[Document]:
        """The descriptors, in the order in which they were inserted."""
        return [self._copy(line) for line in self._lines if line.name == "descriptor"]

    def descriptors_of(self, stream: str) -> list[Document]:
        """Give the descriptors of one stream, in the order in which they were inserted."""
        lines = (line for line in self._lines if line.name == "descriptor")
        pairs = zip(lines, self._described, strict=True)
        return [self._copy(line) for line, doc in pairs if stream_name(doc) == stream]

    @cached_property
    def _described(self) -> list[Document]:
        """The descriptors, not to be handed out."""
        return self.descriptors

    @property
    def stream_names(self) -> list[str]:
        """The streams, in the order of their first descriptors."""
        return list(dict.fromkeys(map(stream_name, self._described)))

    def documents(self) -> Iterator[Pair]:
        """Give every document in the order in which they were inserted."""
        for _, pair in self.numbered():
            yield pair

    def numbered(self, first: int = 0) -> Iterator[tuple[int, Pair]]:
        """Give every document with its ordinal, from an ordinal on."""
        self.hold()
        lines = ((line.ordinal, (line.name, self._copy(line))) for line in self._lines if line.ordinal >= first)
        streams = [self._events(stream, first) for stream in self._streams_with_pages()]
        return heapq.merge(lines, *streams, key=itemgetter(0))

    def _events(self, stream: str, first: int) -> Iterator[tuple[int, Pair]]:
        for entry in self._entries(stream):
            page = self._read_page(entry) if entry["last"] >= first else None
            if page is not None:
                yield from (item for item in page.documents() if item[0] >= first)

    def line_items(self) -> Iterator[tuple[int, Pair]]:
        """Give the documents that are kept as lines, with their ordinals: any but events in pages."""
        for line in self._lines:
            if line.name not in ("event", "event_page"):
                yield line.ordinal, (line.name, self._copy(line))

    def event_items(self, stream: str) -> Iterator[tuple[int, Document]]:
        """Give the events of a stream with their ordinals, those of event pages one by one."""
        for page in self.pages(stream):
            yield from page.events()

    @staticmethod
    def _copy(line: Line | SlimLine) -> Document:
        if isinstance(line, SlimLine):
            return line.doc
        document: Document = codec.plain(line.doc)  # journalled events may hold arrays
        return document

    # -- pages

    def _streams_with_pages(self) -> Iterable[str]:
        return dict.fromkeys(entry["stream"] for entry in self.files)

    def _entries(self, stream: str) -> list[FileEntry]:
        return sorted((entry for entry in self.files if entry["stream"] == stream), key=itemgetter("first"))

    def data_keys(self, stream: str) -> list[str]:
        """Give the data keys of a stream, in the order of its descriptors."""
        descriptors = (doc for doc in self._described if stream_name(doc) == stream)
        return list(dict.fromkeys(key for doc in descriptors for key in doc["data_keys"]))

    def directory_of(self, stream: str) -> str:
        """Give the name of the directory that has the pages of a stream."""
        paths = (entry["path"] for entry in self._entries(stream))
        return next((path.partition("/")[0] for path in paths), layout.encode_name(stream))

    def count_events(self, stream: str) -> int:
        """Give the number of events of a stream, by the manifest and the journal."""
        buffer = self._journalled.buffers.get(stream) if self._has_journalled else None
        return int(sum(entry["rows"] for entry in self._entries(stream))) + len(buffer or ())

    def pages(self, stream: str, columns: Columns = "all", keys: Sequence[str] | None = None) -> Iterator[Page]:
        """Give the event pages of a stream in order, those still in a journal included.

        Parameters
        ----------
        stream
            Its name; an unknown stream has no pages.
        columns, keys
            What to read, see `PageFile.read`; journalled events are given whole.

        Notes
        -----
        A page that cannot be read is passed over, and `damage` then says so.
        """
        self.hold()
        entries = self._entries(stream)
        for position in range(0, len(entries), _PAGES_AHEAD):
            some = entries[position : position + _PAGES_AHEAD]
            self._fetch_ahead(stream, some)
            yield from self._read_pages(some, columns, keys)
        buffer = self._journalled.buffers.get(stream) if self._has_journalled else None
        if buffer is not None:
            wanted = keys if columns in ("data", "shown") else None
            yield Page(to_table(buffer, self._streams.named(stream).declared, wanted))

    def _fetch_ahead(self, stream: str, entries: Sequence[FileEntry]) -> None:
        """Fetch the small pages among some of a stream at once, and those of the runs that are read with this one."""
        if self.folder.remote is None or not entries or self.folder.on_disk(self.directory) is not None:
            return
        if self._convoy is not None:
            self._convoy.note(self.directory, self.files)
            self._convoy.want_pages(self.directory, stream)
        self._fetch_pages([entry for entry in entries if entry["path"] not in self._held])

    def _fetch_pages(self, entries: Sequence[FileEntry]) -> None:
        """Fetch the small ones of some pages of a store at once."""
        small = [entry for entry in entries if entry["bytes"] <= SMALL_PAGE_BYTES]
        if self.folder.remote is not None and self._is_elsewhere and len(small) > 1:
            self.folder.remote.fetch_ahead(page_request(self.directory, entry) for entry in small)

    def _read_page(self, entry: FileEntry, columns: Columns = "all", keys: Sequence[str] | None = None) -> Page | None:
        try:
            return self._use(entry, lambda page: page.read(columns, keys))
        except (DamagedRun, StorageError, FileNotFoundError) as error:
            gone = isinstance(error, FileNotFoundError) and self.state == "live"
            if gone and self.folder.exists(self._path(layout.DOCUMENTS)):
                raise StorageError(
                    errno.ENOENT, f"the run in {self._where} was sealed while it was read; read it again"
                ) from error
            if isinstance(error, StorageError) and self._is_no_damage(error):
                raise
            problem = str(error) if isinstance(error, FilebrokerError) else f"{entry['path']} is missing"
            problem += f" ({entry['rows']} events of stream {entry['stream']!r})"
            if problem not in self.damage:
                self.damage.append(problem)
            return None

    def _read_pages(self, entries: Sequence[FileEntry], columns: Columns, keys: Sequence[str] | None) -> Iterator[Page]:
        """Give the pages that can be read, those of a store while the next ones are fetched."""
        tasks = [partial(self._read_page, entry, columns, keys) for entry in entries]
        if self.folder.remote is None:
            yield from filter(None, (task() for task in tasks))
            return
        with closing(ahead(tasks, _PAGES_AT_ONCE)) as pages:
            yield from filter(None, pages)

    def use_page(self, path: str, use: Callable[[PageFile], T]) -> T:
        """Open a page once, check that it is the one that is meant, and read of it whatever is wanted.

        Parameters
        ----------
        path
            Its path in the manifest.
        use
            Reads of the page.  It is called again if what came over the network was not what is stored.

        Raises
        ------
        DamagedRun
            It is another page or a damaged one, or the manifest names no such page.
        FileNotFoundError
            It is missing.
        StorageError
            It cannot be read.
        """
        return self._use(self._entry(path), use)

    def _use(self, entry: FileEntry, use: Callable[[PageFile], T]) -> T:
        try:
            return use(self._held.get(entry["path"]) or self._open_page(entry))
        except DamagedRun:
            path = self._path(entry["path"])
            if self.folder.on_disk(path) is not None or entry["bytes"] <= SMALL_PAGE_BYTES:
                raise
            return use(self._open_remote(path, entry, fresh=True))  # a bit may have flipped on the way

    def _entry(self, path: str) -> FileEntry:
        for entry in self.files:
            if entry["path"] == path:
                return entry
        raise DamagedRun(f"the run in {self._where} has no page {path!r}")

    def _open_page(self, entry: FileEntry) -> PageFile:
        """Open a page after checking that it is the one the manifest means."""
        path = self._path(entry["path"])
        local = self.folder.on_disk(path)
        small = _WHOLE_CHECK_BYTES if local is not None else SMALL_PAGE_BYTES
        if entry["bytes"] <= small:
            data = self.folder.read_fixed(path, entry["sha256"], lambda data: is_page(data, entry))
            if not is_page(data, entry):
                raise DamagedRun(f"{entry['path']} is not the file that was sealed: its SHA-256 differs")
            return PageFile(data, entry["path"])
        if local is None:
            return self._open_remote(path, entry)
        size, _ = entry["footer"]
        end, total = self.folder.read_end(path, size)
        if total != entry["bytes"]:
            raise DamagedRun(f"{entry['path']} has another size than the file that was sealed")
        if footer_seal(end) != entry["footer"]:
            raise DamagedRun(f"{entry['path']} is not the file that was sealed: its footer differs")
        return PageFile(local, entry["path"])

    def _open_remote(self, path: str, entry: FileEntry, *, fresh: bool = False) -> PageFile:
        """Open a large page of a store, of which only what is needed is fetched.

        Parameters
        ----------
        path
            Its path in the catalog.
        entry
            What the manifest says of it.
        fresh
            Pass over what is kept of it on this machine.
        """

        def fetch(ranges: list[tuple[int, int]]) -> list[bytes]:
            return self.folder.store.read_ranges(path, entry["sha256"], ranges, fresh=fresh)

        size, _ = entry["footer"]
        (end,) = fetch([(entry["bytes"] - size, entry["bytes"])])
        if footer_seal(end) != entry["footer"]:
            raise DamagedRun(f"{entry['path']} is not the file that was sealed: its footer differs")
        return PageFile(RemoteFile(fetch, entry["bytes"], end), entry["path"])

    @cached_property
    def _streams(self) -> Streams:
        streams = Streams()
        for descriptor in self._described:
            streams.add(descriptor)
        return streams

    @property
    def _has_journalled(self) -> bool:
        return any(line.name in ("event", "event_page") for line in self._lines)

    @cached_property
    def _journalled(self) -> Segment:
        """The events that are not in pages yet."""
        segment = Segment(0, self._streams)
        for line in self._lines:
            if line.name in ("event", "event_page") and isinstance(line, Line):
                segment.add(line)
        return segment


def _body_hash(text: bytes) -> str:
    """Give the SHA-256 of the lines after the head."""
    return hashlib.sha256(memoryview(text)[text.find(b"\n") + 1 :]).hexdigest()
