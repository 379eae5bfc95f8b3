"""The events of one stream of a run as a table in parts, each an event page."""

import errno
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from filebroker.cataloging.column_kinds import (
    Kind,
    is_contradictory,
    kinds_in_columns,
    kinds_in_footer,
    kinds_in_page,
    merged_dtype,
)
from filebroker.cataloging.dask_tables import table_of_parts
from filebroker.cataloging.run import Run, Stream
from filebroker.cataloging.stream_parts import StreamParts, joined
from filebroker.cataloging.table_columns import TableColumn, empty_table, key_of, names_of
from filebroker.ground.errors import DamagedRun, StorageError, UnknownField
from filebroker.ground.lazy import cached_property
from filebroker.ground.packages import need
from filebroker.storing.pages import is_data
from filebroker.storing.parquet import PageFile
from filebroker.storing.ranges import ahead
from filebroker.storing.sealing import FileEntry

if TYPE_CHECKING:
    import pandas as pd
    from dask.dataframe import DataFrame

#: The columns of an event's own, and what they are of unless an event has something else there.
_OWN = {"seq_num": "int64", "time": "float64"}
#: What the columns of a stream without events are of, by the ``dtype`` that its descriptors declare.
_DECLARED = {"number": "float64", "integer": "int64", "boolean": "boolean", "string": "string"}
#: So many pages of a store are looked at at once.
_AT_ONCE = 8


class StreamTable:
    """The events of one stream of a run as a table in parts, each an event page.

    What its columns are of is learned when it is asked for the first time, from the footers of all pages.  They do
    not tell everything: integers, and columns with exceptions, are looked at themselves.  No other data are read.

    A run in progress has one part: all events that it had when the stream was made.  A stream without events has one
    part as well, without rows.

    Parameters
    ----------
    stream
        The stream.
    columns
        Data keys, in the order in which the table shall have them.  None for all, in the order of the descriptors.

    Attributes
    ----------
    rows : int
        How many events the stream has, by the manifest of its run: those in damaged pages count.
    npartitions : int
        How many parts there are, at least one.

    Raises
    ------
    InvalidQuery
        A data key is no string.
    UnknownField
        The stream has no such data key.

    Notes
    -----
    It is pickled as the place of the run.  What comes out is made anew, and has the events that are there by then.

    Examples
    --------
    >>> from filebroker import Broker
    >>> table = StreamTable(Broker.named("example").catalog.newest(1)["primary"], ["motor", "det"])
    >>> table.rows, table.npartitions, table.dtypes
    (11, 1, {'seq_num': 'int64', 'time': 'float64', 'motor': 'float64', 'det': 'float64'})
    >>> table.read().head(2)
       seq_num          time  motor       det
    0        1  1.795370e+09   -1.0  0.606531
    1        2  1.795370e+09   -0.8  0.726149
    """

    def __init__(self, stream: Stream, columns: Sequence[str] | None = None) -> None:
        self._stream, self._files = stream, stream.files
        self._asked = None if columns is None else names_of("columns", columns)
        self.rows = len(stream)
        entries = sorted(
            (entry for entry in self._files.files if entry["stream"] == stream.name), key=itemgetter("first")
        )
        is_whole = self._files.state == "live" or sum(entry["rows"] for entry in entries) != self.rows
        self._pages: list[FileEntry] | None = None if is_whole or not entries else entries
        self._is_fixed = not is_whole
        self.npartitions = len(self._pages or [None])
        self._refuse_unknown()

    def __repr__(self) -> str:
        return f"<StreamTable of {self._place}: {self.rows} events, {self.npartitions} parts>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_anew, (self._stream.run, self._stream.name, self._asked)

    @property
    def _place(self) -> str:
        """The stream, for messages."""
        return f"stream {self._stream.name!r} of run {self._stream.run.uid!r}"

    def _refuse_unknown(self) -> None:
        known = self._stream.keys
        if set(self._asked or ()) <= set(known):
            return
        # A descriptor may be lost, and its events not.
        known = list(dict.fromkeys([*known, *map(key_of, filter(is_data, self._kinds))]))
        missing = [key for key in self._asked or () if key not in known]
        if missing:
            raise UnknownField(f"{self._place} has no data keys {missing}; it has {known}")

    # -- what its columns are of

    @cached_property
    def columns(self) -> tuple[TableColumn, ...]:
        """The columns: ``seq_num``, ``time`` (in seconds since 1970, UTC), and the data keys.

        Notes
        -----
        Numbers are of float64, or of int64 where all events have an integer.  Where a float has no room for all
        digits of one, and where values are of several kinds, they are objects.

        Data keys ``seq_num`` and ``time`` are in the columns ``_data.seq_num`` and ``_data.time``.  A data key that
        no event has a value of its own for, as with a camera that streams, has no column.
        """
        data = self._data()
        names = _names([*dict.fromkeys([*self._stream.keys, *data])])
        own = [TableColumn(name, "event", name, self._own_dtype(name)) for name in _OWN]
        return (*own, *(TableColumn(names[key], "data", key, dtype) for key, dtype in data.items()))

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each column of the frames.

        Examples
        --------
        >>> from filebroker import Broker
        >>> StreamTable(Broker.named("example").catalog.newest(1)["primary"], []).dtypes
        {'seq_num': 'int64', 'time': 'float64'}
        """
        return {str(name): str(dtype) for name, dtype in self.empty().dtypes.items()}

    def _data(self) -> dict[str, str]:
        """Give the data keys that have a column with their dtypes."""
        found = {key_of(name): merged_dtype(kinds) for name, kinds in self._kinds.items() if is_data(name)}
        found = found if self._kinds else _declared(self._stream)
        wanted = [*self._stream.keys, *found] if self._asked is None else self._asked
        return {key: found[key] for key in dict.fromkeys(wanted) if key in found}

    def _own_dtype(self, name: str) -> str:
        dtype = merged_dtype(self._kinds[name]) if name in self._kinds else _OWN[name]
        if name == "time" and dtype == "int64":
            return "float64" if all(kind is None or kind.is_exact for kind in self._kinds[name]) else "object"
        return dtype

    @cached_property
    def _kinds(self) -> dict[str, list[Kind | None]]:
        """What each page that can be read has in each column, by the column's name; None for nothing."""
        if self._pages is None:
            return _by_name(map(kinds_in_page, self._files.pages(self._stream.name, "shown", self._asked)))
        pages = self._look(partial(kinds_in_footer, keys=self._asked))
        torn = [name for name, kinds in _by_name(pages.values()).items() if is_contradictory(kinds)]
        if torn:
            closer = self._look(partial(kinds_in_columns, names=torn))
            pages = {path: kinds | closer.get(path, {}) for path, kinds in pages.items()}
        return _by_name(pages.values())

    def _look(self, look: Callable[[PageFile], dict[str, Kind]]) -> dict[str, dict[str, Kind]]:
        """Look at all pages, but for damaged ones, which `part` refuses and `read` warns of."""
        paths = [entry["path"] for entry in self._pages or ()]
        tasks = [partial(self._look_at, path, look) for path in paths]
        count = 1 if self._files.folder.remote is None else _AT_ONCE
        with closing(ahead(tasks, count)) as found:
            return {path: kinds for path, kinds in zip(paths, found, strict=True) if kinds is not None}

    def _look_at(self, path: str, look: Callable[[PageFile], dict[str, Kind]]) -> dict[str, Kind] | None:
        try:
            return self._files.use_page(path, look)
        except (DamagedRun, FileNotFoundError):
            return None
        except StorageError as error:
            is_elsewhere = self._files.folder.on_disk(self._files.directory) is None
            if is_elsewhere or error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # nothing is known of the page
            return None

    # -- what is in it

    def empty(self) -> "pd.DataFrame":
        """Give the table without rows.

        Examples
        --------
        >>> from filebroker import Broker
        >>> StreamTable(Broker.named("example").catalog.newest(1)["primary"], ["det"]).empty().columns.tolist()
        ['seq_num', 'time', 'det']
        """
        return empty_table(self.columns)

    def part(self, number: int) -> "pd.DataFrame":
        """Read a part.

        Parameters
        ----------
        number
            From 0 on.

        Raises
        ------
        IndexError
            There is no such part.
        DamagedRun
            The page is damaged or missing.
        StorageError
            It cannot be reached.

        Examples
        --------
        >>> from filebroker import Broker
        >>> len(StreamTable(Broker.named("example").catalog.newest(1)["primary"]).part(0))
        11
        """
        if not 0 <= number < self.npartitions:
            raise IndexError(f"{self._place} has no part {number}; its parts are 0 to {self.npartitions - 1}")
        reader = self._reader
        if self._pages is None:
            return reader.whole(self._files, reader.columns)
        return reader.page(self._files, *_task(self._pages[number]), reader.columns)

    def read(self) -> "pd.DataFrame":
        """Read all parts.

        Returns
        -------
        pandas.DataFrame
            One row an event, in order.  The index is a `pandas.RangeIndex`.

        Warns
        -----
        DamagedRunWarning
            A page cannot be read; what can be read is given.

        Raises
        ------
        StorageError
            The store cannot be reached.

        Examples
        --------
        >>> from filebroker import Broker
        >>> StreamTable(Broker.named("example").catalog.newest(1)["primary"], ["det"]).read().tail(1)
            seq_num          time       det
        10       11  1.795370e+09  0.606531
        """
        frames = list(self._reader.frames(self._files, self.columns))
        self._stream.run._report(self._files)
        return joined(frames, self.columns)

    def to_dask(self) -> "DataFrame":
        """Give the table as a dask dataframe, each part a partition.

        Returns
        -------
        dask.dataframe.DataFrame
            Workers read the parts from where the run is; of the folder's `storage_options` the graph has what was
            given.  The same sealed run has the same names of partitions in every process.

        Raises
        ------
        MissingPackage
            Dask is not installed.

        Examples
        --------
        >>> from filebroker import Broker
        >>> table = StreamTable(Broker.named("example").catalog.newest(1)["primary"]).to_dask()
        >>> float(table["det"].max().compute(scheduler="synchronous"))
        1.0
        """
        need("dask.dataframe")
        tasks = [(None, None)] if self._pages is None else [_task(entry) for entry in self._pages]
        table: DataFrame = table_of_parts(self._reader, tasks, self.empty())
        return table

    @cached_property
    def _reader(self) -> StreamParts:
        run, folder, directory = self._stream.run, self._files.folder, self._files.directory
        is_staged = folder.remote is not None and folder.on_disk(directory) is not None
        origin = folder, directory, self._stream.name, self.columns, self.rows
        return StreamParts(*origin, run.version, self._token(), is_staged)

    def _token(self) -> str:
        """Tell the table from others; of a run in progress, from earlier and later ones as well."""
        if not self._is_fixed:
            return uuid.uuid4().hex
        pages = [entry["sha256"] for entry in self._pages or ()]
        facts = [self._files.folder.url, self._files.directory, self._stream.name, self.columns, pages]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _made_anew(run: Run, name: str, columns: Sequence[str] | None) -> StreamTable:
    return StreamTable(run[name], columns)


def _task(entry: FileEntry) -> tuple[str, str]:
    """Give what a worker has to know of a page."""
    return entry["path"], entry["sha256"]


def _by_name(pages: Iterable[Mapping[str, Kind]]) -> dict[str, list[Kind | None]]:
    """Give for each column what each page has, None for nothing."""
    listed = list(pages)
    return {name: [page.get(name) for page in listed] for name in dict.fromkeys(chain.from_iterable(listed))}


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Give the name of each data key's column; no two are the same."""
    taken = {*_OWN, *keys}
    names = {}
    for key in keys:
        name = key
        while key in _OWN and name in taken:
            name = f"_data.{name}"
        names[key] = name
    return names


def _declared(stream: Stream) -> dict[str, str]:
    """Give the data keys of a stream without events, and what they would be of if its descriptors tell the truth."""
    found: dict[str, str] = {}
    for descriptor in stream.descriptors:
        for key, item in descriptor["data_keys"].items():
            declared = item if isinstance(item, Mapping) else {}
            external = str(declared.get("external") or "")
            if not external.startswith("STREAM:"):
                dtype = "string" if external else _DECLARED.get(str(declared.get("dtype")), "object")
                found.setdefault(key, dtype)
    return found
