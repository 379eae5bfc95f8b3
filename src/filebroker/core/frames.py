"""Event pages as one pandas table."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filebroker.storing import columns
from filebroker.storing.columns import ABSENT
from filebroker.storing.pages import Page

#: Tables with more columns are copied into one block, which pandas handles faster than many.
_MANY_COLUMNS = 100


def to_frame(pages: Iterable[Page], order: Sequence[str] = ()) -> pd.DataFrame:
    """Give event pages as one table.

    Parameters
    ----------
    pages
        Pages of one stream, in order.
    order
        Data keys in the order the columns shall have; any others come after them.

    Returns
    -------
    pandas.DataFrame
        Index ``seq_num``; columns ``time`` (float seconds) and the data keys.  Without events it has no
        columns.

    Notes
    -----
    No more than the pages and one finished column are in memory beside the table.
    """
    parts: dict[str, list[Any]] = {"seq_num": [], "time": []}
    keys: dict[str, str] = {}
    rows = 0
    for page in pages:
        for name, values in _page_values(page, keys).items():
            parts.setdefault(name, [_missing(rows)] if rows else []).append(values)
        rows += page.rows
        for column in parts.values():
            _fill_up(column, rows)
    if not rows:
        return empty_frame()
    index = pd.Index(_combined(parts.pop("seq_num")), name="seq_num")
    position = {key: number for number, key in enumerate(order)}
    names = sorted(keys, key=lambda name: position.get(keys[name], len(position)))
    data = {"time": _combined(parts.pop("time"))}
    for name in names:
        # The event's own time keeps its name; a data key "time" takes the name of its Parquet column.
        data[name if keys[name] == "time" else keys[name]] = _combined(parts.pop(name))
    frame = pd.DataFrame(data, copy=len(data) > _MANY_COLUMNS)
    frame.index = index
    return frame


def empty_frame() -> pd.DataFrame:
    """Give the table of a stream without events: no rows and no columns."""
    return pd.DataFrame(index=pd.Index([], name="seq_num", dtype="int64"))


def _page_values(page: Page, keys: dict[str, str]) -> dict[str, Any]:
    """Give the columns of a page by their names, and note the data key of each."""
    result = {name: _values(page, name) for name in ("seq_num", "time")}
    for item in page.data_columns:
        keys.setdefault(item.name, item.key)
        result[item.name] = _values(page, item.name)
    return result


def _missing(rows: int) -> "np.ndarray[Any, Any]":
    return np.full(rows, np.nan)


def _fill_up(column: list[Any], rows: int) -> None:
    """Add what a page without the column lacks."""
    lacking = rows - sum(map(len, column))
    if lacking:
        column.append(_missing(lacking))


def _combined(parts: list[Any]) -> Any:
    """Give the parts of a column as one, writable."""
    if all(isinstance(part, np.ndarray) for part in parts) and len({part.dtype for part in parts}) == 1:
        if len(parts) == 1:
            return parts[0] if parts[0].flags.writeable else parts[0].copy()
        return np.concatenate(parts)
    return pd.concat([pd.Series(part) for part in parts], ignore_index=True) if len(parts) > 1 else parts[0]


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
    if encoded in ("array", "npy") and column.exceptions is None:
        return _objects(columns.as_arrays(column))
    return _objects(columns.decode(column))


def _typed(raw: pa.ChunkedArray) -> Any:
    if pa.types.is_string(raw.type):
        return raw.to_pandas()
    numeric = pa.types.is_floating(raw.type) or pa.types.is_integer(raw.type)
    if raw.null_count and (not numeric or raw.null_count == len(raw)):
        return _objects(raw.to_pylist())
    return raw.to_numpy()


def _objects(values: Sequence[Any]) -> "pd.Series[Any]":
    """Give values as a column of objects, whatever they are."""
    result = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        result[row] = np.nan if value is ABSENT else value
    return pd.Series(result, dtype=object)
