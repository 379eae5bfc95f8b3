"""The partitions of a table of many runs: each a page of a run, read where the table is computed."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from filebroker.cataloging.arrays import objects
from filebroker.cataloging.overviews import value_at
from filebroker.finding.values import Path
from filebroker.ground import forks
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, NothingRecorded, StorageError, UnfitEvents
from filebroker.ground.filesystem import Folder
from filebroker.ground.texts import encodable
from filebroker.storing import columns as arrow_columns
from filebroker.storing.columns import ABSENT
from filebroker.storing.pages import Page, column_name
from filebroker.storing.parquet import Columns, PageFile
from filebroker.storing.run_files import RunFiles
from filebroker.storing.sealing import FileEntry

#: What a column can be of, as dask and pandas name it.  Strings are what dask makes of them everywhere else.
_DTYPES: dict[str, Any] = {
    **{"float64": "float64", "int64": "int64", "Int64": pd.Int64Dtype(), "boolean": pd.BooleanDtype()},
    **{"string": pd.StringDtype("pyarrow"), "object": "object"},
}
_ARROW_TYPES = {
    **{"float64": pa.float64(), "int64": pa.int64(), "Int64": pa.int64()},
    **{"boolean": pa.bool_(), "string": pa.string()},
}
_TO_PANDAS = {pa.int64(): _DTYPES["Int64"], pa.bool_(): _DTYPES["boolean"], pa.string(): _DTYPES["string"]}
# What Arrow raises for values that do not fit a type.
_MISFITS = (pa.ArrowException, OverflowError, UnicodeEncodeError)
#: So many runs, and so many bytes of their documents, are kept open for the next page of theirs.
_KEPT_RUNS, _KEPT_BYTES = 32, 32 << 20


class TableColumn(NamedTuple):
    """A column of the table.

    Attributes
    ----------
    name : str
        In the table.
    source : str
        ``uid`` of the run; ``start``, the start document; ``event``, ``seq_num`` or ``time``; or ``data``.
    key : str
        In that source: a dotted path into a start document, or a data key.
    dtype : str
        ``float64``, ``int64``, ``Int64``, ``boolean``, ``string`` or ``object``.
    """

    name: str
    source: Literal["uid", "start", "event", "data"]
    key: str
    dtype: str


def empty_table(columns: Sequence[TableColumn]) -> pd.DataFrame:
    """Give the table without rows."""
    return pd.DataFrame({column.name: pd.Series([], dtype=_DTYPES[column.dtype]) for column in columns})


@dataclass(frozen=True)
class Partitions:
    """Reads a partition: this is what dask takes to its workers, and all that they know of the catalog.

    Parameters
    ----------
    folder
        The catalog's folder.
    stream
        The stream.
    columns
        All columns of the table.
    low, high
        The range of the events' times in seconds since 1970, both ends included.
    waiting
        The directories of runs that are not all in the store yet, but on the machine that recorded them.
    token
        What distinguishes this table from others, earlier ones of the same runs included.

    Notes
    -----
    A folder is pickled as its URL and its storage options, as they were given.
    """

    folder: Folder
    stream: str
    columns: tuple[TableColumn, ...]
    low: float
    high: float
    waiting: frozenset[str]
    token: str

    def __dask_tokenize__(self) -> str:
        """Give dask what the names of the partitions are made of."""
        return self.token

    def __call__(
        self, directory: str, page: str | None, version: str | None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Read a partition.

        Parameters
        ----------
        directory
            The run's directory.
        page
            The path of a page in it; None for all events that the run has by now.
        version
            Of the run's documents, see `RunFiles`.
        columns
            Names of the columns to read, None for all.

        Raises
        ------
        DamagedRun
            The events cannot be read, or not all of them.
        StorageError
            They cannot be reached, or are not in the store yet.
        UnfitEvents
            Values do not fit the dtype of their column.
        """
        named = {column.name: column for column in self.columns}
        chosen = list(self.columns) if columns is None else [named[name] for name in columns]
        try:
            # What is in progress is as it is now, for this reader alone.
            files = RunFiles(self.folder, directory) if page is None else _opened.give(self, directory, version)
        except NothingRecorded as error:
            if directory in self.waiting:
                raise _not_yet(self.folder.path(directory)) from error
            return empty_table(chosen)  # it was removed, or its copy is in the making: catalogs pass over it as well
        tables = [self._table(files, part, chosen) for part in self._parts(files, page, chosen)]
        tables = [table for table in tables if len(table)] or [empty_table(chosen)]
        return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)

    def _parts(self, files: RunFiles, page: str | None, chosen: list[TableColumn]) -> Iterator["_Part"]:
        """Give the pages of a partition, of which no more is read than what is asked for."""
        limits = None if _is_within(files, self.low, self.high) else (self.low, self.high)
        has_own = limits is not None or any(column.source == "event" for column in chosen)
        mode: Columns = "shown" if has_own else "data"
        keys = [column.key for column in chosen if column.source == "data"]
        if page is None:
            files.hold()
            for part in files.pages(self.stream, "shown", keys):
                yield _Part(part, part.rows, _mask(part, limits))
            self._refuse_damage(files)
            return
        entry = _entry(files, page, self.stream)
        if not has_own and not keys:
            yield _Part(None, entry["rows"], None)
            return
        try:
            found = files.use_page(page, partial(_part, entry["rows"], limits, mode, keys))
        except FileNotFoundError as error:
            raise DamagedRun(_describe(files, f"{page} is missing")) from error
        except DamagedRun as error:
            raise DamagedRun(_describe(files, str(error))) from error
        if found is not None:
            yield found

    @staticmethod
    def _refuse_damage(files: RunFiles) -> None:
        """Refuse a run of which something is missing, but for what was known to be when it was sealed."""
        fresh = [problem for problem in files.damage if problem not in files.losses]
        if fresh:
            raise DamagedRun(_describe(files, "; ".join(fresh)))

    def _table(self, files: RunFiles, part: "_Part", chosen: list[TableColumn]) -> pd.DataFrame:
        table = {column.name: self._column(files, part, column) for column in chosen}
        frame = pd.DataFrame(table, index=pd.RangeIndex(part.rows))
        return frame if part.mask is None else frame[part.mask].reset_index(drop=True)

    def _column(self, files: RunFiles, part: "_Part", column: TableColumn) -> "pd.Series[Any]":
        if column.source == "uid":
            return _repeated(encodable(files.uid), column.dtype, part.rows)
        if column.source == "start":
            return _repeated(start_value(files.start, Path(column.key)), column.dtype, part.rows)
        name = column.key if column.source == "event" else column_name(column.key)
        if part.page is None or not part.page.has(name):
            return _repeated(math.nan if column.dtype == "object" else None, column.dtype, part.rows)
        try:
            return fitted(part.page, name, column.dtype)
        except _MISFITS as error:
            raise UnfitEvents(
                f"the column {column.name!r} of this table is of {column.dtype}, and run {files.uid!r} in "
                f"{files.folder.path(files.directory)} has values that do not fit: {error}. Leave it out, or ask for "
                f"another type with dtypes={{{column.key!r}: 'object'}}, which fits everything"
            ) from error


class _Part(NamedTuple):
    """What was read of a page (None if there was nothing to read), its number of rows, and which of them count."""

    page: Page | None
    rows: int
    mask: Any


#: Token of the table, directory of the run, and version of its documents.
_Key = tuple[str, str, str | None]


class _Opened:
    """Sealed runs that this process has open: most have several pages, each a partition of its own."""

    def __init__(self) -> None:
        self.renew_locks()
        forks.renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.Lock()
        self._runs: OrderedDict[_Key, RunFiles] = OrderedDict()
        self._coming: dict[_Key, Future[RunFiles]] = {}

    def give(self, table: Partitions, directory: str, version: str | None) -> RunFiles:
        """Open a run, unless this was done before for the same table, or is being done."""
        key = table.token, directory, version
        with self._mutex:
            if key in self._runs:
                self._runs.move_to_end(key)
                return self._runs[key]
            is_first = key not in self._coming
            result = self._coming.setdefault(key, Future())
        if is_first:
            self._open(key, table.folder, result)
        return result.result()

    def _open(self, key: _Key, folder: Folder, result: "Future[RunFiles]") -> None:
        """Open a run for all who wait for it."""
        try:
            result.set_result(_opened_run(folder, *key[1:]))
        except BaseException as error:  # noqa: BLE001 - whatever it is, they wait for it
            result.set_exception(error)
        with self._mutex:
            del self._coming[key]
            if result.exception() is None and result.result().state != "live":
                self._runs[key] = result.result()
                while len(self._runs) > _KEPT_RUNS or sum(kept.size for kept in self._runs.values()) > _KEPT_BYTES:
                    self._runs.popitem(last=False)


_opened = _Opened()


def _opened_run(folder: Folder, directory: str, version: str | None) -> RunFiles:
    try:
        return RunFiles(folder, directory, version=version)
    except NothingRecorded:
        if version is None:
            raise
        # It has not the documents that it should have: was it removed, or is it being copied?
        return RunFiles(folder, directory)


def _part(
    rows: int, limits: tuple[float, float] | None, mode: Columns, keys: Sequence[str], page: PageFile
) -> _Part | None:
    """Read what is wanted of a page, None if all its events are out of a range."""
    mask = None if limits is None else _mask(page.read("shown", []), limits)
    return _Part(page.read(mode, keys), rows, mask) if mask is None or mask.any() else None


def _entry(files: RunFiles, path: str, stream: str) -> FileEntry:
    """Give what the run's manifest says of a page."""
    for entry in files.files:
        if entry["path"] == path and entry["stream"] == stream:
            return entry
    if files.state == "live":
        raise _not_yet(files.folder.path(files.directory))
    raise DamagedRun(_describe(files, f"it has no page {path} of stream {stream!r}, which the catalog lists"))


def _not_yet(path: str) -> StorageError:
    return StorageError(
        f"the run in {path} is not all there yet: it is on its way to the store, or being copied. Compute the table "
        "again when it is; flush() of the catalog that it was recorded with waits for that"
    )


def _describe(files: RunFiles, problem: str) -> str:
    return (
        f"run {files.uid!r} in {files.folder.path(files.directory)} is damaged: {problem}. A table of many runs is "
        f"whole or not at all; leave the run out with search({{'uid': {{'$ne': {files.uid!r}}}}}).to_dask(...). If it "
        "was removed or replaced, refresh() finds out"
    )


def _is_within(files: RunFiles, low: float, high: float) -> bool:
    """Tell whether every event of a run is in a range, by the times of its start and stop documents."""
    if (low, high) == (-math.inf, math.inf):
        return True
    stop = files.stop or {}
    try:
        return bool(low <= files.start["time"] and stop["time"] <= high)
    except (KeyError, TypeError):  # it has not stopped, or nobody knows when
        return False


def _mask(page: Page, limits: tuple[float, float] | None) -> Any:
    """Give which events of a page are in a range, None for all."""
    if limits is None:
        return None
    times = fitted(page, "time", "float64").to_numpy()
    return (times >= limits[0]) & (times <= limits[1])


def start_value(start: Document, path: Path) -> Any:
    """Give what a start document has at a path, as a table can show it."""
    return encodable(value_at(start, path))


def _repeated(value: Any, dtype: str, rows: int) -> "pd.Series[Any]":
    """Give a column of one value."""
    one: pd.Series[Any] = pd.Series(objects([value]) if dtype == "object" else [value], dtype=_DTYPES[dtype])
    return one.repeat(rows).reset_index(drop=True)


def fitted(page: Page, name: str, dtype: str) -> "pd.Series[Any]":
    """Give a column of a page as a column of a table.

    Parameters
    ----------
    page
        The page.
    name
        The column.
    dtype
        What the column of the table is of.

    Raises
    ------
    pyarrow.ArrowException, OverflowError, UnicodeEncodeError
        A value does not fit: it would lose digits, or is of another kind.
    """
    column = page.column(name)
    if dtype == "object":
        # As in the table of one run, where an event without the key has NaN.
        values = arrow_columns.as_values(column)
        return pd.Series(objects(math.nan if value is ABSENT else value for value in values), dtype=object)
    array = column.values
    if "encoding" in column.meta or column.exceptions is not None:
        array = pa.array([None if value is ABSENT else value for value in arrow_columns.as_values(column)])
    array = _cast(array, dtype)
    if dtype in ("float64", "int64"):
        return pd.Series(array.to_numpy(zero_copy_only=False))
    return array.to_pandas(types_mapper=_TO_PANDAS.get)  # type: ignore[no-any-return]


def _cast(array: pa.Array, dtype: str) -> pa.Array:
    """Give an array another type, if no value is altered by that."""
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), _ARROW_TYPES[dtype])
    if dtype_of(array.type) != dtype_of(_ARROW_TYPES[dtype]):
        raise pa.ArrowTypeError(f"they are of type {array.type}")
    if dtype in ("int64", "Int64") and pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    array = array.cast(_ARROW_TYPES[dtype])
    if dtype == "int64" and array.null_count:
        raise pa.ArrowInvalid("some are missing")
    return array


def dtype_of(arrow_type: pa.DataType) -> str:
    """Give the dtype that a column of the table has whose values are of an Arrow type."""
    if pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type):
        return "float64"
    if pa.types.is_boolean(arrow_type):
        return "boolean"
    return "string" if pa.types.is_string(arrow_type) else "object"
