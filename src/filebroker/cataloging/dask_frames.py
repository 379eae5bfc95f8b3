"""One lazy dask table of the events of many runs: which pages it has, and what its columns are of."""

import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from filebroker.cataloging.dask_tables import table_of_parts
from filebroker.cataloging.partitions import Partitions, start_value
from filebroker.cataloging.shelf import version_of
from filebroker.cataloging.table_columns import TableColumn, empty_table, key_of, names_of, page_dtype
from filebroker.finding.entries import Documents
from filebroker.finding.manifest import Manifest
from filebroker.finding.values import Path
from filebroker.ground import times
from filebroker.ground.errors import (
    DamagedRun,
    InvalidOption,
    RunNotFound,
    UnknownField,
    UnknownStream,
)
from filebroker.ground.filesystem import Folder
from filebroker.ground.packages import need
from filebroker.storing import layout
from filebroker.storing.pages import Page, is_data
from filebroker.storing.parquet import PageFile
from filebroker.storing.run_files import RunFiles

if TYPE_CHECKING:
    import pyarrow as pa

    from filebroker.cataloging.runs import Runs

#: What a data key can be of, as `table_of` is told.
_DTYPES = ("float64", "Int64", "boolean", "string", "object")
#: The columns that every table has.
_OWN = ("uid", "seq_num", "time")
#: So many runs are opened to learn what data keys are of.
_LOOKED_AT = 20
_CHUNK = 500
#: Beyond these an integer has no float of its own, and no place in 64 bits.
_EXACT_INTEGER, _LARGEST_INTEGER = 1 << 53, 1 << 63


def table_of(
    runs: "Runs",
    stream: str,
    columns: str | Sequence[str] | None,
    metadata: str | Sequence[str],
    limits: tuple[object, object],
    dtypes: Mapping[str, str] | None,
) -> Any:
    """Give the events of many runs as one dask table; see `Runs.to_dask`.

    Parameters
    ----------
    runs
        The runs.
    stream, columns, metadata, dtypes
        As for `Runs.to_dask`.
    limits
        The earliest and the latest time of an event, None for any.
    """
    need("dask.dataframe")
    keys = None if columns is None else names_of("columns", columns)
    paths = [Path(name) for name in names_of("metadata", metadata)]
    low = -math.inf if limits[0] is None else times.parse(limits[0])
    high = math.inf if limits[1] is None else times.parse(limits[1])
    data = _learn(runs, stream, keys, _checked(dtypes or {}))
    parts, starts = _choose(runs, stream, paths, low, high)
    shown = tuple(_arranged(data, dict(zip((path.text for path in paths), starts, strict=True))))
    folder = runs.catalog.folder
    waiting = _not_in_store(folder, {part.directory for part in parts})
    reader = Partitions(folder, stream, shown, low, high, waiting, uuid.uuid4().hex)
    return table_of_parts(reader, parts, empty_table(shown))


def _not_in_store(folder: Folder, directories: set[str]) -> frozenset[str]:
    """Give the runs that only this machine has all of: readers elsewhere must not take what they find for all."""
    if folder.staged is None:
        return frozenset()
    return frozenset(directory for directory in directories if folder.on_disk(directory) is not None)


def _checked(dtypes: Mapping[str, str]) -> dict[str, str]:
    for key, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise InvalidOption(f"dtypes={{{key!r}: {dtype!r:.50}}} means nothing; give one of {', '.join(_DTYPES)}")
    return dict(dtypes)


def _arranged(data: Mapping[str, str], starts: Mapping[str, str]) -> Iterator[TableColumn]:
    """Give the columns of the table; no two have the same name."""
    shown = {key: f"_data.{key}" if key in _OWN else key for key in data}
    yield TableColumn("uid", "uid", "uid", "string")
    taken = {*_OWN, *shown.values()}
    for path, dtype in starts.items():
        name = path
        while name in taken:
            name = f"start.{name}"
        taken.add(name)
        yield TableColumn(name, "start", path, dtype)
    yield TableColumn("seq_num", "event", "seq_num", "int64")
    yield TableColumn("time", "event", "time", "float64")
    for key, dtype in data.items():
        yield TableColumn(shown[key], "data", key, dtype)


# -- which pages


class _Partition(NamedTuple):
    """A run's directory, a page in it (None for all that it will have), and the version of its documents."""

    directory: str
    page: str | None
    version: str | None


class _Listed(NamedTuple):
    """A run with its pages of one stream, in order, the directories of all its streams, and its documents' version."""

    item: Documents
    pages: list[str]
    directories: set[str]
    version: str | None

    @property
    def is_live(self) -> bool:
        return self.item.entry.state == "live"


def _listed(runs: "Runs", stream: str) -> Iterator[_Listed]:
    """Give the runs, newest first, with what the ledger knows of their pages."""
    # Streams whose names differ only in case have a number behind that.
    directory = re.compile(rf"{re.escape(layout.encode_name(stream))}(~[0-9]{{1,9}})?")
    search = runs._search()
    items = search.documents()
    while chunk := list(islice(items, _CHUNK)):
        known = search.library.ask(Manifest.pages_at, [item.entry.path for item in chunk])
        for item in chunk:
            pages = [page for page in known.get(item.entry.path, ()) if layout.is_page_path(page)]
            chosen = [page for page in pages if directory.fullmatch(page.partition("/")[0])]
            directories = {page.partition("/")[0] for page in pages}
            yield _Listed(item, sorted(chosen, key=_number), directories, _version(runs.catalog.folder, item))


def _version(folder: Folder, item: Documents) -> str | None:
    """Give the version of a run's documents, by which a store's are asked for; None where they are read as they are."""
    is_fixed = folder.remote is not None and item.entry.state == "sealed"
    return version_of(item) if is_fixed else None


def _number(page: str) -> int:
    return int(page.rpartition("/")[2].removesuffix(".parquet"))


def _choose(
    runs: "Runs", stream: str, paths: Sequence[Path], low: float, high: float
) -> tuple[list[_Partition], list[str]]:
    """Give the partitions, and the dtypes of what start documents have.

    A run in progress is one partition, whatever pages it will have.
    """
    parts: list[_Partition] = []
    seen = [_Seen() for _ in paths]
    for run in _listed(runs, stream):
        if not (run.pages or run.is_live) or not _may_be_within(run.item, low, high):
            continue
        pages = [None] if run.is_live else run.pages
        parts += [_Partition(run.item.entry.path, page, run.version) for page in pages]
        if paths:
            start = run.item.start
            for known, path in zip(seen, paths, strict=True):
                known.add(start_value(start, path))
    return parts, [known.dtype for known in seen]


def _may_be_within(item: Documents, low: float, high: float) -> bool:
    """Tell whether a run may have events in a time range: it started before its end, and stopped after its begin."""
    if high < math.inf and item.start["time"] > high:
        return False
    stopped = (item.stop or {}).get("time") if low > -math.inf else None
    return not (isinstance(stopped, int | float) and stopped < low)


class _Seen:
    """The values of one key of start documents: all of them are known, so that their column fits every one."""

    def __init__(self) -> None:
        self._types: set[type] = set()
        self._largest = 0

    def add(self, value: Any) -> None:
        """Count a value."""
        self._types.add(type(value))
        if isinstance(value, int):
            self._largest = max(self._largest, abs(value))

    @property
    def dtype(self) -> str:
        """What the column has to be of."""
        kinds = self._types - {type(None)}
        if kinds == {int} and self._largest < _LARGEST_INTEGER:
            return "int64" if kinds == self._types else "Int64"
        if kinds and kinds <= {int, float} and self._largest <= _EXACT_INTEGER:
            return "float64"
        return {frozenset({bool}): "boolean", frozenset({str}): "string"}.get(frozenset(kinds), "object")


# -- what the data are of


def _learn(runs: "Runs", stream: str, keys: list[str] | None, dtypes: dict[str, str]) -> dict[str, str]:
    """Give the data keys of the table with their dtypes: those of the newest run that has the stream.

    Raises
    ------
    UnknownStream
        No run has events of the stream.
    RunNotFound
        There are no runs at all.
    UnknownField
        A data key that was asked for is in none of the newest runs.
    DamagedRun
        None of the runs that have the stream can be read, or too many cannot.
    """
    known: dict[str, str] | None = None
    failed: dict[str, Exception] = {}
    # What no run has that was asked for may have in others: a search that nothing answers gives an empty table.
    for source in dict.fromkeys((runs, runs.catalog)):
        for sample in islice(_samples(source, stream, failed), _LOOKED_AT):
            known = (known or {}) | {key: sample[key] for key in sample if key not in (known or {})}
            if keys is None or all(key in known or key in dtypes for key in keys):
                return _chosen(known, keys, dtypes, stream)
        if known is not None:
            break
    if known is None and failed:
        raise _unreadable(runs, failed) from list(failed.values())[-1]
    if known is None:
        raise _unknown_stream(runs, stream)
    missing = [key for key in keys or () if key not in known and key not in dtypes]
    raise UnknownField(
        f"none of the newest {_LOOKED_AT} runs that have a stream {stream!r} has {missing} in it; they have "
        f"{list(known)}{_told(failed)}. If older ones do, say what it is, as in dtypes={{{missing[0]!r}: 'float64'}}"
    )


def _chosen(known: dict[str, str], keys: list[str] | None, dtypes: dict[str, str], stream: str) -> dict[str, str]:
    unused = [key for key in dtypes if key not in (known if keys is None else keys)]
    if unused:
        raise InvalidOption(
            f"dtypes names {unused}, which the newest run with a stream {stream!r} does not have; name all data keys "
            "that the table shall have in columns=[...]"
        )
    return {key: dtypes.get(key) or known[key] for key in (known if keys is None else keys)}


def _samples(runs: "Runs", stream: str, failed: dict[str, Exception]) -> Iterator[dict[str, str]]:
    """Give the data keys of runs with their dtypes, newest first, each from one page.

    Damaged and removed runs are passed over, but not for ever.

    Parameters
    ----------
    runs, stream
        As for `Runs.to_dask`.
    failed
        The directories of runs that could not be read, and why.  They are passed over, and others are added.

    Raises
    ------
    DamagedRun
        So many of them cannot be read.
    """
    folder = runs.catalog.folder
    for run in _listed(runs, stream):
        directory = run.item.entry.path
        try:
            if directory in failed:
                continue
            if run.pages and not run.is_live:
                yield _sample(folder, directory, run.pages[0], stream, run.version)
            elif run.is_live and (sample := _live_sample(folder, directory, stream)) is not None:
                yield sample
        except (DamagedRun, FileNotFoundError) as error:
            failed[directory] = error
            if len(failed) == _LOOKED_AT:
                raise _unreadable(runs, failed) from error


def _told(failed: Sized) -> str:
    return f", and {len(failed)} more cannot be read" if failed else ""


def _unreadable(runs: "Runs", failed: Mapping[str, Exception]) -> DamagedRun:
    """Say that nobody knows what columns a table has, because runs cannot be read."""
    directory, error = list(failed.items())[-1]
    return DamagedRun(
        f"{len(failed)} of the runs in {runs.place} cannot be read, the last of them the one in "
        f"{runs.catalog.folder.path(directory)} because {error}; if they were removed, refresh() finds out"
    )


def _sample(folder: Folder, directory: str, path: str, stream: str, version: str | None) -> dict[str, str]:
    files = RunFiles(folder, directory, version=version)

    def look(page: PageFile) -> dict[str, str]:
        types = page.shape.types
        doubtful = [key_of(name) for name in types if f"_x.{name}" in types]
        return _dtypes(types, page.read("data", doubtful), files.data_keys(stream))

    return files.use_page(path, look)


def _live_sample(folder: Folder, directory: str, stream: str) -> dict[str, str] | None:
    files = RunFiles(folder, directory)
    files.hold()
    pages = list(files.pages(stream, "data"))
    if not pages:
        return None
    page = pages[-1]
    types = dict(zip(page.table.schema.names, page.table.schema.types, strict=True))
    return _dtypes(types, page, files.data_keys(stream))


def _dtypes(types: Mapping[str, "pa.DataType"], page: Page, order: Sequence[str]) -> dict[str, str]:
    """Give the dtypes of a page's data keys; of the page only those with exceptions need have been read."""
    found = {key_of(name): page_dtype(name, kind, page) for name, kind in types.items() if is_data(name)}
    return {key: found[key] for key in dict.fromkeys([*order, *found]) if key in found}


def _unknown_stream(runs: "Runs", stream: str) -> Exception:
    """Say that no run has events of a stream."""
    directories: set[str] = set()
    count = 0
    for run in _listed(runs, stream):
        directories |= run.directories
        count += 1
    if not count:
        return RunNotFound(f"there are no runs in {runs.place}, and so nobody knows what columns a table of them has")
    names = sorted({unquote(name.partition("~")[0]) for name in directories})
    return UnknownStream(
        f"none of the {count} runs in {runs.place} has events in a stream {stream!r}; they have {names}"
    )
