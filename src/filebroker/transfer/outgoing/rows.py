"""The events of one stream as rows of a table, a page at a time, with what is in files beside them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from filebroker.cataloging.arrays import is_missing, objects
from filebroker.cataloging.external_columns import ExternalColumn
from filebroker.cataloging.run import Stream
from filebroker.cataloging.stream_tables import StreamTable
from filebroker.cataloging.table_columns import TableColumn
from filebroker.ground.errors import DamagedRun, FilebrokerError
from filebroker.ground.lazy import cached_property
from filebroker.transfer.outgoing.images import write_tiff
from filebroker.transfer.outgoing.job import Job

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, Any]

#: So many rows are given at a time at most.
_ROWS_AT_ONCE = 5_000
#: So many bytes of values in files are read at once at most, but for a single value.
_BLOCK_BYTES = 1 << 20
#: So many values are tried to learn what those in files are like.
_TRIES = 100


class StreamRows:
    """The chosen fields of one stream, page by page.

    Parameters
    ----------
    job
        What is wanted of the run.
    stream
        The stream.

    Attributes
    ----------
    columns : tuple of TableColumn
        ``seq_num``, ``time``, and the fields whose values the events have themselves.
    external : dict
        If files are to be converted: the values of the other fields.
    """

    def __init__(self, job: Job, stream: Stream) -> None:
        self.job, self.stream = job, stream
        self.external: dict[str, ExternalColumn] = {}
        if job.images == "convert":
            self._find_external()
        own = [key for key in job.keys(stream) if key not in self.external]
        self._table = StreamTable(stream, own)
        self.columns = self._table.columns

    @cached_property
    def count(self) -> int:
        """How many rows there are at most."""
        return len(self.stream) or len(self._numbers_alone)

    def _find_external(self) -> None:
        wanted = self.job.keys(self.stream)
        with self.job.guarded(f"stream {self.stream.name!r}"):
            for key in self.job.external.keys(self.stream):
                if key in wanted:
                    with self.job.guarded(self.place(key)):
                        column = self.job.external.column(self.stream, key)
                        if column is not None:
                            self.external[key] = column

    def place(self, key: str) -> str:
        """Name a field in messages."""
        return f"field {key!r} of stream {self.stream.name!r}"

    def batches(self, names: Sequence[str] | None = None) -> "Iterator[tuple[int, pd.DataFrame]]":
        """Give the events, some of a page at a time: the number of the first, and what they have in `columns`.

        Parameters
        ----------
        names
            Of some of the columns, if not all are needed.

        Notes
        -----
        A page that cannot be read is a problem, and left out; the numbers of rows go on without it.
        """
        if names is None:
            table = self._table
        else:
            keys = [column.key for column in self.columns if column.name in names and column.source == "data"]
            table = StreamTable(self.stream, keys)
        first = 0
        for part in range(table.npartitions):
            frame = self._part(table, part)
            for begin in range(0, len(frame), _ROWS_AT_ONCE):
                yield first + begin, frame.iloc[begin : begin + _ROWS_AT_ONCE].copy()
            first += len(frame)
        if not len(self.stream):
            yield from self._batches_alone(table)

    def _part(self, table: StreamTable, number: int) -> "pd.DataFrame":
        try:
            return table.part(number)
        except DamagedRun as error:
            self.job.problem(error, f"stream {self.stream.name!r}")
        # A run in progress has one part; of that some events may be whole.
        return table.read() if self.stream.files.state == "live" else table.empty()

    @cached_property
    def _numbers_alone(self) -> list[int]:
        """The numbers of the rows of a stream without events, whose values are all in files."""
        if len(self.stream) or not self.external:
            return []
        try:
            return self.job.external.seq_nums(self.stream)
        except FilebrokerError as error:
            self.job.problem(error, f"stream {self.stream.name!r}")
            return []

    def _batches_alone(self, table: StreamTable) -> "Iterator[tuple[int, pd.DataFrame]]":
        numbers = self._numbers_alone
        for first in range(0, len(numbers), _ROWS_AT_ONCE):
            some = np.asarray(numbers[first : first + _ROWS_AT_ONCE], "int64")
            frame = table.empty().reindex(range(len(some)))
            yield first, frame.assign(seq_num=some, time=np.full(len(some), np.nan))

    # -- values in files

    def values(self, key: str, first: int, rows: int) -> Iterator[Any]:
        """Give the values of a field in files one by one; None for one that cannot be read, which is a problem.

        Parameters
        ----------
        key
            A key of `external`.
        first, rows
            Which rows.
        """
        column = self.external[key]
        last, step = min(first + rows, len(column)), _rows_at_once(column)
        for begin in range(first, last, step):
            some = range(begin, min(begin + step, last))
            block = _block(column, some)
            found = self._one_by_one(key, some) if block is None else iter(block)
            yield from (None if isinstance(value, str) or is_missing(value) else value for value in found)

    def _one_by_one(self, key: str, rows: range) -> Iterator[Any]:
        for row in rows:
            try:
                yield self.external[key][row]
            except FilebrokerError as error:
                self.job.problem(error, self.place(key))
                yield None

    def sample(self, key: str) -> Any:
        """Give one value of a field in files, None if none of the first can be read."""
        found = (value for value in self.values(key, 0, _TRIES) if value is not None)
        return next(found, None)


def _rows_at_once(column: ExternalColumn) -> int:
    """Give how many values are read at once: many numbers, one image."""
    if column.shape is None or column.dtype is None:
        return 1
    size = math.prod(column.shape) * column.dtype.itemsize
    return max(1, min(_ROWS_AT_ONCE, _BLOCK_BYTES // max(1, size)))


def _block(column: ExternalColumn, rows: range) -> Array | None:
    """Read some values at once, None if that does not go well: which of them is the reason shows one by one."""
    if len(rows) == 1:
        return None
    try:
        block = column.stack(slice(rows.start, rows.stop))
    except FilebrokerError:
        return None
    return block if block.shape == (len(rows), *(column.shape or ())) and block.dtype != object else None


class FilledRows(StreamRows):
    """Rows with the values of other files in them: numbers and lists as they are, images as names of TIFF files.

    Parameters
    ----------
    job, stream
        As for `StreamRows`.
    """

    def __init__(self, job: Job, stream: Stream) -> None:
        super().__init__(job, stream)
        self._forms = {key: _form(self.sample(key)) for key in self.external}
        added = [TableColumn(key, "data", key, form or "string") for key, form in self._forms.items()]
        place = {key: number for number, key in enumerate(stream.keys)}
        data = sorted([*self.columns[2:], *added], key=lambda column: place.get(column.key, len(place)))
        self.columns = (*self.columns[:2], *data)

    def batches(self, names: Sequence[str] | None = None) -> "Iterator[tuple[int, pd.DataFrame]]":
        """Give the same with the values of other files; images are written to files of their own."""
        import pandas as pd

        wanted = [column.name for column in self.columns if names is None or column.name in names]
        for first, frame in super().batches(names):
            for key, form in self._forms.items():
                if key in wanted:
                    frame[key] = pd.Series(self._cells(key, form, first, len(frame)), index=frame.index)
            yield first, frame[["seq_num", "time", *(name for name in wanted if name not in ("seq_num", "time"))]]

    def _cells(self, key: str, form: str | None, first: int, rows: int) -> Array:
        values = self.values(key, first, rows)
        if form is None:
            values = self._written(key, first, values)
        listed = list(values)
        listed += [None] * (rows - len(listed))
        if form == "float64":
            return np.array([np.nan if value is None or np.ndim(value) else value for value in listed], "float64")
        return objects(listed)

    def _written(self, key: str, first: int, values: Iterator[Any]) -> Iterator[str | None]:
        """Write images to TIFF files, and give their names."""
        directory = self.job.field_directory(self.stream, key)
        for row, value in enumerate(values, first):
            name = None
            if value is not None:
                name = f"{directory}/{row + 1:06d}.tiff"
                with self.job.guarded(self.place(key)):
                    write_tiff(self.job.target, name, np.asarray(value))
            self.job.progress(f"images of {key}", row + 1, len(self.external[key]))
            yield name


def _form(value: Any) -> str | None:
    """Tell how values are shown in a table: as float64, as objects, or None for images."""
    shape = np.shape(value)
    if value is None or isinstance(value, Mapping):
        return "object"
    if len(shape) >= 2:
        return None
    is_number = not shape and np.asarray(value).dtype.kind in "biuf"
    return "float64" if is_number else "object"
