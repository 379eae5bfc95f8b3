"""Byte ranges of files on a store: which ones columns of a Parquet file need, and reading from what was fetched.

A request takes tens of milliseconds whatever its size, and several at once take no longer than one.  So what a
reader will need is planned from the file's footer and fetched beforehand.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from filebroker.ground.errors import DamagedRun
from filebroker.ground.lazy import cached_property

#: A first byte, and the one after the last.
Range = tuple[int, int]
#: Gives the bytes of some ranges, asked for together.
Fetch = Callable[[list[Range]], Sequence[bytes]]

#: So many bytes between two ranges are fetched with them: they cost less than another request does (2 ms of CPU).
GAP = 256 << 10
#: Longer ranges are fetched in pieces of this size at most, because one connection is slower than several.
PIECE = 8 << 20
#: So many bytes are fetched while those before them are decoded.
BATCH = 32 << 20
#: So many such batches are fetched at a time.
_AHEAD = 2

T = TypeVar("T")


class RemoteFile:
    """A Parquet file on a store that never changes.

    Parameters
    ----------
    fetch
        Gives the bytes of ranges of the file.
    size
        Its size in bytes.
    end
        Its last bytes, the whole footer at least, already checked.

    Attributes
    ----------
    misses : int
        How often something was read that had not been fetched beforehand.
    """

    def __init__(self, fetch: Fetch, size: int, end: bytes) -> None:
        self._fetch = fetch
        self.size = size
        self.misses = 0
        self._end = end

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says.

        Raises
        ------
        pyarrow.ArrowException
            It is no footer.
        """
        return pq.read_metadata(pa.BufferReader(self._end))

    def open(self, ranges: Iterable[Range] = ()) -> "FetchedFile":
        """Give the file for reading, with some ranges fetched by one call.

        Raises
        ------
        DamagedRun
            The file is shorter than it should be, or than its footer claims.
        StorageError
            The store failed, as ``fetch`` raises it.
        """
        return FetchedFile(self, merged(ranges))

    def fetch(self, ranges: list[Range]) -> list[bytes]:
        """Fetch ranges; see `open` for what is raised."""
        for start, end in ranges:
            if start < 0 or end > self.size:
                raise DamagedRun(f"its footer speaks of bytes from {start} to {end}, and it has {self.size}")
        parts = list(self._fetch(ranges)) if ranges else []
        for (start, end), part in zip(ranges, parts, strict=True):
            if len(part) != end - start:
                raise DamagedRun(f"of its bytes from {start} to {end} there are only {len(part)}")
        return parts

    def read(self, names: Sequence[str] | None, *, use_threads: bool) -> pa.Table:
        """Read columns, fetching what comes next while something is decoded.

        Parameters
        ----------
        names
            The columns; None for all.
        use_threads
            Decode several columns at a time.

        Raises
        ------
        DamagedRun
            The file is shorter than it should be, or than its footer claims.
        pyarrow.ArrowException or OSError
            A checksum does not match.
        StorageError
            The store failed, as ``fetch`` raises it.
        """
        groups = [column_ranges(self.metadata, names, number) for number in range(self.metadata.num_row_groups)]
        batches = _batches(groups)
        tasks = [partial(self.open, [item for number in batch for item in groups[number]]) for batch in batches]
        with closing(ahead(tasks, _AHEAD)) as files:
            tables = [
                self.reader(file).read_row_groups(batch, columns=names, use_threads=use_threads)
                for batch, file in zip(batches, files, strict=True)
            ]
        # Tables without columns would lose their number of rows when they are joined.
        return pa.concat_tables(tables) if len(tables) > 1 else tables[0]

    def reader(self, file: "FetchedFile") -> pq.ParquetFile:
        """Give pyarrow's reader of what was fetched of the file."""
        return pq.ParquetFile(file, metadata=self.metadata, pre_buffer=False, page_checksum_verification=True)


class FetchedFile:
    """A file for reading, of which pieces are in memory; what is not is fetched when it is read.

    Its methods are those that pyarrow calls of a file.

    Parameters
    ----------
    remote
        The file.
    pieces
        The ranges to fetch at once, sorted, none overlapping.
    """

    closed = False

    def __init__(self, remote: RemoteFile, pieces: list[Range]) -> None:
        self._remote = remote
        self._starts = [start for start, _ in pieces]
        self._pieces = [memoryview(part) for part in remote.fetch(pieces)]
        self._position = 0

    def read(self, size: int = -1) -> memoryview:
        """Read bytes; without a copy where one piece has them all."""
        start = self._position
        end = self._remote.size if size < 0 else min(start + size, self._remote.size)
        self._position = max(start, end)
        return self._held(start, end) if start < end else memoryview(b"")

    def _held(self, start: int, end: int) -> memoryview:
        parts, position, number = [], start, bisect_right(self._starts, start) - 1
        while position < end:
            offset = position - self._starts[number] if 0 <= number < len(self._pieces) else -1
            if offset < 0 or offset >= len(self._pieces[number]):
                self._remote.misses += 1
                return memoryview(self._remote.fetch([(start, end)])[0])
            parts.append(self._pieces[number][offset : offset + end - position])
            position += len(parts[-1])
            number += 1
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position, as `io.IOBase.seek`."""
        self._position = offset + (0, self._position, self._remote.size)[whence]
        return self._position

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read anywhere."""
        return True

    def writable(self) -> bool:
        """Tell that it cannot be written."""
        return False

    def close(self) -> None:
        """Give the memory back."""
        self._starts, self._pieces, self.closed = [], [], True


def column_ranges(metadata: pq.FileMetaData, names: Sequence[str] | None, row_group: int) -> list[Range]:
    """Give where columns of a row group are in their file, dictionaries included.

    Parameters
    ----------
    metadata
        The file's footer.
    names
        Columns as pyarrow takes them: what is nested in them is included.  None for all.
    row_group
        The number of the row group.
    """
    group = metadata.row_group(row_group)
    prefixes = None if names is None else tuple(f"{name}." for name in names)
    ranges = []
    for number in range(metadata.num_columns):
        chunk = group.column(number)
        if prefixes is None or f"{chunk.path_in_schema}.".startswith(prefixes):
            dictionary = chunk.dictionary_page_offset
            start = chunk.data_page_offset if dictionary is None else min(dictionary, chunk.data_page_offset)
            ranges.append((start, start + chunk.total_compressed_size))
    return ranges


def merged(ranges: Iterable[Range], gap: int = GAP, piece: int = PIECE) -> list[Range]:
    """Give what to request for some ranges: near ones together, long ones in pieces.

    A range is split only where it is longer than a piece, so that any other is read without a copy.

    Parameters
    ----------
    ranges
        In any order; they may overlap.
    gap
        So many bytes between two ranges are requested with them.
    piece
        The most bytes of a request.

    Returns
    -------
    list of (int, int)
        Sorted, none overlapping.
    """
    wholes: list[Range] = []
    for start, end in sorted(item for item in ranges if item[0] < item[1]):
        first, last = wholes[-1] if wholes else (start, start)
        if wholes and (start < last or (start - last <= gap and end - first <= piece)):
            wholes[-1] = (first, max(last, end))
        else:
            wholes.append((start, end))
    return [part for start, end in wholes for part in _pieces(start, end, piece)]


def _pieces(start: int, end: int, piece: int) -> list[Range]:
    count = -(-(end - start) // piece)
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(edges))


def _batches(groups: list[list[Range]]) -> list[list[int]]:
    """Give the numbers of row groups that are fetched together."""
    batches: list[list[int]] = [[]]
    size = 0
    for number, ranges in enumerate(groups):
        length = sum(end - start for start, end in ranges)
        if batches[-1] and size + length > BATCH:
            batches.append([])
            size = 0
        batches[-1].append(number)
        size += length
    return batches


def ahead(tasks: Sequence[Callable[[], T]], count: int) -> Generator[T, None, None]:
    """Give the results of tasks in their order, while some of the next are done in threads.

    Parameters
    ----------
    tasks
        What to call.  A single one is called without a thread.
    count
        How many are done or waiting to be taken while a result is used.

    Notes
    -----
    Whoever leaves early does not wait: tasks that were begun go on in their threads, and no others are.
    """
    if len(tasks) == 1:
        yield tasks[0]()
        return
    waiting: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(count, "filebroker-ahead")
    try:
        for task in tasks:
            waiting.append(pool.submit(task))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Nobody waits for what is not wanted any more: after a failure that may take as long as the failure did.
        pool.shutdown(wait=False, cancel_futures=True)
