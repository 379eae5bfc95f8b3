"""Reading the parts of one stream's table, where it is computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import methodcaller

import pandas as pd

from filebroker.cataloging.partitions import not_yet, open_once
from filebroker.cataloging.table_columns import MISFITS, TableColumn, column_of, empty_table
from filebroker.ground.errors import DamagedRun, NothingRecorded, UnfitEvents
from filebroker.ground.filesystem import Folder
from filebroker.storing.pages import Page
from filebroker.storing.parquet import Columns
from filebroker.storing.run_files import RunFiles


@dataclass(frozen=True)
class StreamParts:
    """Reads the parts of a stream's table: this is what dask takes to its workers.

    Parameters
    ----------
    folder
        The catalog's folder.
    directory
        The run's directory in it.
    stream
        The stream.
    columns
        All columns of the table.
    rows
        How many events it has.
    version
        Of the run's documents, see `RunFiles`.
    token
        What distinguishes this table from others.
    is_staged
        The run is on the machine that recorded it, and not in the store yet.

    Notes
    -----
    A folder is pickled as its URL and its storage options, as they were given.
    """

    folder: Folder
    directory: str
    stream: str
    columns: tuple[TableColumn, ...]
    rows: int
    version: str | None
    token: str
    is_staged: bool

    def __dask_tokenize__(self) -> str:
        """Give dask what the names of the partitions are made of."""
        return self.token

    def __call__(self, path: str | None, sha256: str | None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read a part where the run has not been opened yet.

        Parameters
        ----------
        path, sha256
            Of a page, as the run's manifest has them; None for the whole table.
        columns
            Names of the columns to read, None for all.

        Raises
        ------
        DamagedRun
            The events cannot be read, or not all of them.
        StorageError
            They cannot be reached, or are not in the store yet.
        """
        named = {column.name: column for column in self.columns}
        chosen = self.columns if columns is None else [named[name] for name in columns]
        try:
            if path is None or sha256 is None:
                return self.whole(RunFiles(self.folder, self.directory), chosen)
            files = open_once(self.token, self.folder, self.directory, self.version)
        except NothingRecorded as error:
            place = self.folder.path(self.directory)
            if self.is_staged:
                raise not_yet(place) from error
            raise DamagedRun(f"the run in {place} is not there any more: it was removed or moved") from error
        return self.page(files, path, sha256, chosen)

    def page(self, files: RunFiles, path: str, sha256: str, columns: Sequence[TableColumn]) -> pd.DataFrame:
        """Read a page.

        Parameters
        ----------
        files
            The run.
        path, sha256
            Of the page, as the run's manifest has them.
        columns
            The columns to read.

        Raises
        ------
        DamagedRun
            The page is damaged, missing or another one.
        StorageError
            It cannot be reached, or is not in the store yet.
        """
        self._check(files, path, sha256)
        try:
            found = files.use_page(path, methodcaller("read", *_wanted(columns)))
        except FileNotFoundError as error:
            raise self._damaged(files, f"{path} is missing") from error
        except DamagedRun as error:
            raise self._damaged(files, str(error)) from error
        return self._frame(files, found, columns)

    def whole(self, files: RunFiles, columns: Sequence[TableColumn]) -> pd.DataFrame:
        """Read all events that the table has; the run may have more by now.

        Parameters
        ----------
        files
            The run.
        columns
            The columns to read.

        Raises
        ------
        DamagedRun
            Something of the run is missing, but for what was known to be when it was sealed.
        StorageError
            It cannot be reached, or is not in the store yet.
        """
        frames = list(self.frames(files, columns))
        fresh = [problem for problem in files.damage if problem not in files.losses]
        if fresh:
            raise self._damaged(files, "; ".join(fresh))
        if sum(map(len, frames)) < self.rows:
            raise not_yet(files.folder.path(files.directory))
        return joined(frames, columns)

    def frames(self, files: RunFiles, columns: Sequence[TableColumn]) -> Iterator[pd.DataFrame]:
        """Read the events that the table has page by page; pages that cannot be read are passed over.

        Parameters
        ----------
        files
            The run, whose `damage` then tells of them.
        columns
            The columns to read.

        Raises
        ------
        StorageError
            The store cannot be reached.
        """
        left = self.rows
        for page in files.pages(self.stream, "shown", _wanted(columns)[1]):
            rows = min(left, page.rows)
            if not rows:
                return
            taken = page if rows == page.rows else Page(page.table.slice(0, rows))
            yield self._frame(files, taken, columns)
            left -= rows

    def _check(self, files: RunFiles, path: str, sha256: str) -> None:
        """Refuse a run that does not have the page that the table was made of."""
        if any(entry["path"] == path and entry["sha256"] == sha256 for entry in files.files):
            return
        if files.state == "live":
            raise not_yet(files.folder.path(files.directory))
        raise self._damaged(files, f"{path} is not the page any more that it was; make the table anew")

    def _frame(self, files: RunFiles, page: Page, columns: Sequence[TableColumn]) -> pd.DataFrame:
        data = {}
        for column in columns:
            try:
                data[column.name] = column_of(page, page.rows, column)
            except MISFITS as error:
                raise UnfitEvents(
                    f"the column {column.name!r} of this table is of {column.dtype}, and run {files.uid!r} in "
                    f"{files.folder.path(files.directory)} has values that do not fit: {error}. It was damaged or is "
                    "another one since the table was made; make it anew"
                ) from error
        return pd.DataFrame(data, index=pd.RangeIndex(page.rows))

    def _damaged(self, files: RunFiles, problem: str) -> DamagedRun:
        return DamagedRun(
            f"run {files.uid!r} in {files.folder.path(files.directory)} is damaged: {problem}. read() of its stream "
            f"{self.stream!r} gives what can be read"
        )


def joined(frames: Sequence[pd.DataFrame], columns: Sequence[TableColumn]) -> pd.DataFrame:
    """Give parts of a table as one table.

    Parameters
    ----------
    frames
        The parts.
    columns
        What they have.
    """
    filled = [frame for frame in frames if len(frame)] or [empty_table(columns)]
    return filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)


def _wanted(columns: Sequence[TableColumn]) -> tuple[Columns, list[str]]:
    """Give what to read of a page."""
    has_own = any(column.source == "event" for column in columns)
    return "shown" if has_own else "data", [column.key for column in columns if column.source == "data"]
