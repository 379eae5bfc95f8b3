"""The partitions of a table of many runs: each a page of a run, read where the table is computed."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from filebroker.cataloging.table_columns import MISFITS, TableColumn, column_of, empty_table, fitted, repeated
from filebroker.finding.values import Path, value_at
from filebroker.ground import forks
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, NothingRecorded, StorageError, UnfitEvents
from filebroker.ground.filesystem import Folder
from filebroker.ground.texts import encodable
from filebroker.storing.pages import Page
from filebroker.storing.parquet import Columns, PageFile
from filebroker.storing.run_files import RunFiles
from filebroker.storing.sealing import FileEntry

#: So many runs, and so many bytes of their documents, are kept open for the next page of theirs.
_KEPT_RUNS, _KEPT_BYTES = 32, 32 << 20


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
            files = (
                RunFiles(self.folder, directory)
                if page is None
                else open_once(self.token, self.folder, directory, version)
            )
        except NothingRecorded as error:
            if directory in self.waiting:
                raise not_yet(self.folder.path(directory)) from error
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
            return repeated(encodable(files.uid), column.dtype, part.rows)
        if column.source == "start":
            return repeated(start_value(files.start, Path(column.key)), column.dtype, part.rows)
        try:
            return column_of(part.page, part.rows, column)
        except MISFITS as error:
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

    def give(self, folder: Folder, key: _Key) -> RunFiles:
        """Open a run, unless this was done before for the same table, or is being done."""
        with self._mutex:
            if key in self._runs:
                self._runs.move_to_end(key)
                return self._runs[key]
            is_first = key not in self._coming
            result = self._coming.setdefault(key, Future())
        if is_first:
            self._open(key, folder, result)
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


def open_once(token: str, folder: Folder, directory: str, version: str | None) -> RunFiles:
    """Open a sealed run, once for all partitions of a table that this process reads.

    Parameters
    ----------
    token
        Of the table.
    folder
        The catalog's folder.
    directory
        The run's directory.
    version
        Of the run's documents, see `RunFiles`.

    Raises
    ------
    DamagedRun
        Its documents cannot be read.
    StorageError
        They cannot be reached.
    """
    return _opened.give(folder, (token, directory, version))


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
        raise not_yet(files.folder.path(files.directory))
    raise DamagedRun(_describe(files, f"it has no page {path} of stream {stream!r}, which the catalog lists"))


def not_yet(path: str) -> StorageError:
    """Say that a run is not whole where it is read, and may soon be.

    Parameters
    ----------
    path
        Where the run is.
    """
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
