"""Event pages as one pandas table."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filebroker.cataloging.arrays import objects
from filebroker.ground.errors import FilebrokerWarning
from filebroker.storing import columns as arrow_columns
from filebroker.storing.columns import ABSENT
from filebroker.storing.pages import Page, shown_name

if TYPE_CHECKING:
    from filebroker.cataloging.external_columns import ExternalColumn

#: Tables with more columns are copied into one block, which pandas handles faster than many.
_MANY_COLUMNS = 100
#: A table of so many cells is made faster from a kept one than from its file.
_SMALL_CELLS = 1000
#: In 2262 nanoseconds since 1970 no longer fit 64 bits.
_LAST_SECOND = 9.2e9


def to_frame(pages: Iterable[Page], rows: int, order: Sequence[str] = (), *, datetimes: bool = False) -> pd.DataFrame:
    """Give event pages as one table.

    Parameters
    ----------
    pages
        Pages of one stream, in order.
    rows
        How many events they have at most.
    order
        Data keys in the order the columns shall have; any others come after them.
    datetimes
        Give ``time`` as datetime64 without a time zone, in UTC.

    Returns
    -------
    pandas.DataFrame
        Index ``seq_num``; columns ``time`` (float seconds unless ``datetimes``) and the data keys.  Without
        events it has no columns.

    Notes
    -----
    Numbers are copied page by page into the table's own arrays, so that no more than the table and one page
    are in memory.
    """
    columns: dict[str, _Column] = {"seq_num": _Column(rows), "time": _Column(rows)}
    keys: dict[str, str] = {}
    count = 0
    for page in pages:
        for name in ("seq_num", "time"):
            values = _values(page, name)
            columns[name].add(count, _datetimes(values) if datetimes and name == "time" else values)
        for item in page.data_columns:
            keys.setdefault(item.name, item.key)
            columns.setdefault(item.name, _Column(rows)).add(count, _values(page, item.name))
        count += page.rows
    if not count:
        return empty_frame()
    position = {key: number for number, key in enumerate(order)}
    data = {"time": columns["time"].finish(count)}
    for name in sorted(keys, key=lambda name: position.get(keys[name], len(position))):
        # The event's own time keeps its name; a data key "time" takes the name of its Parquet column.
        data[shown_name(keys[name])] = columns.pop(name).finish(count)
    frame = pd.DataFrame(data, copy=len(data) > _MANY_COLUMNS)
    frame.index = pd.Index(columns["seq_num"].finish(count), name="seq_num")
    return frame


def _datetimes(seconds: Any) -> Any:
    """Give seconds as datetime64; a time that pandas cannot hold as NaT, with a warning."""
    try:
        return pd.to_datetime(seconds, unit="s")
    except (pd.errors.OutOfBoundsDatetime, OverflowError, ValueError):
        warnings.warn(
            "the times of some events are beyond what a table can show, and are given as NaT; "
            "table(convert_times=False, localize_times=False) gives them in seconds",
            FilebrokerWarning,
            stacklevel=2,
        )
        return pd.to_datetime(pd.Series(seconds).where(np.abs(seconds) < _LAST_SECOND), unit="s", errors="coerce")


class _Column:
    """One column of a table in the making: an array as long as it is numbers of one dtype, else parts."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._array: np.ndarray[Any, Any] | None = None
        self._parts: list[Any] = []
        self._count = 0

    def add(self, offset: int, values: Any) -> None:
        """Append values that begin at a row; rows left out before it have none."""
        self._fill_up(offset)
        if not self._parts and isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
            if self._array is None and not offset:
                self._array = np.empty(max(self._rows, len(values)), values.dtype)
            if self._array is not None and self._array.dtype == values.dtype:
                self._array[self._count : self._count + len(values)] = values
                self._count += len(values)
                return
        self._to_parts()
        self._parts.append(values)
        self._count += len(values)

    def _fill_up(self, rows: int) -> None:
        if rows > self._count:
            self._to_parts()
            self._parts.append(np.full(rows - self._count, np.nan))
            self._count = rows

    def _to_parts(self) -> None:
        if self._array is not None:
            self._parts, self._array = [self._array[: self._count]], None

    def finish(self, rows: int) -> Any:
        """Give the whole column."""
        self._fill_up(rows)
        if self._array is not None:
            return self._array[:rows]
        if len(self._parts) == 1:
            return self._parts[0]
        return pd.concat([pd.Series(part) for part in self._parts], ignore_index=True)


def filled(frame: pd.DataFrame, columns: Mapping[str, "ExternalColumn"], order: Sequence[str]) -> pd.DataFrame:
    """Give a table with external data in place of the references to them.

    Parameters
    ----------
    frame
        The table of a stream.  It is modified.
    columns
        The external data of some of its fields.
    order
        The data keys in the order the columns shall have.

    Returns
    -------
    pandas.DataFrame
        Numbers are columns of numbers; an array is one object a row.
    """
    for key, column in columns.items():
        values = column.stack()
        is_plain = values.ndim == 1 and values.dtype.names is None
        frame[shown_name(key)] = pd.Series(values if is_plain else objects(values), index=frame.index)
    position = {"time": -1} | {shown_name(key): number for number, key in enumerate(order)}
    return frame[sorted(frame.columns, key=lambda name: position.get(str(name), len(position)))]


def frame_without_events(numbers: Sequence[int], *, datetimes: bool) -> pd.DataFrame:
    """Give the table of a stream whose values are all in files: their numbers, and times that nobody knows.

    Parameters
    ----------
    numbers
        The numbers of the events.
    datetimes
        As for `to_frame`.
    """
    index = pd.Index(np.asarray(numbers, "int64"), name="seq_num")
    times = pd.Series(pd.NaT if datetimes else np.nan, index=index, dtype="datetime64[ns]" if datetimes else "float64")
    return pd.DataFrame({"time": times}, index=index)


def is_small(frame: pd.DataFrame) -> bool:
    """Tell whether a table is worth keeping: small, and without objects, which its users could change."""
    return frame.size <= _SMALL_CELLS and not any(map(pd.api.types.is_object_dtype, frame.dtypes))


def empty_frame() -> pd.DataFrame:
    """Give the table of a stream without events: no rows and no columns."""
    return pd.DataFrame(index=pd.Index([], name="seq_num", dtype="int64"))


def _values(page: Page, name: str) -> Any:
    """Give a column as pandas would infer it from the values."""
    raw = page.raw(name)
    meta = page.meta(name)
    encoded = meta.get("encoding")
    if encoded is None and not page.has(f"_x.{name}"):
        return _typed(raw)
    column = page.column(name)
    if encoded is None and column.exceptions is not None:
        marks = set(column.exceptions.unique().to_pylist())
        if marks <= {None, "i"}:  # integers among floats
            return raw.to_numpy()
        if marks <= {None, ""} and pa.types.is_floating(raw.type):  # absent, which pandas shows as NaN
            return raw.to_numpy()
    return _objects(arrow_columns.as_values(column))


def _typed(raw: pa.ChunkedArray) -> Any:
    if pa.types.is_string(raw.type):
        return raw.to_pandas()
    numeric = pa.types.is_floating(raw.type) or pa.types.is_integer(raw.type)
    if raw.null_count and (not numeric or raw.null_count == len(raw)):
        return _objects(raw.to_pylist())
    return raw.to_numpy()


def _objects(values: Sequence[Any]) -> "pd.Series[Any]":
    """Give values as a column of objects, whatever they are."""
    return pd.Series(objects(np.nan if value is ABSENT else value for value in values), dtype=object)
