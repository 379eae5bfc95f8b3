"""Event pages as one pandas table."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filebroker.storing import columns
from filebroker.storing.columns import ABSENT
from filebroker.storing.pages import Page, PageColumn


def to_frame(pages: Sequence[Page], order: Sequence[str] = ()) -> pd.DataFrame:
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
    """
    pages = [page for page in pages if page.rows]
    if not pages:
        return empty_frame()
    if len(pages) > 1 and all(_alike(one, other) for one, other in pairwise(pages)):
        schema = pages[0].table.schema
        tables = [page.table.replace_schema_metadata(schema.metadata) for page in pages]
        pages = [Page(pa.concat_tables(tables))]
    frames = [_page_frame(page, order) for page in pages]
    frame = frames[0] if len(frames) == 1 else pd.concat(frames)
    frame.index.name = "seq_num"
    return frame


def empty_frame() -> pd.DataFrame:
    """Give the table of a stream without events: no rows and no columns."""
    return pd.DataFrame(index=pd.Index([], name="seq_num", dtype="int64"))


def _alike(one: Page, other: Page) -> bool:
    """Tell whether two pages can be read as one."""
    return one.table.schema.equals(other.table.schema, check_metadata=False) and one.footer.get(
        "columns"
    ) == other.footer.get("columns")


def _page_frame(page: Page, order: Sequence[str]) -> pd.DataFrame:
    position = {key: number for number, key in enumerate(order)}
    items = sorted(page.data_columns, key=lambda item: position.get(item.key, len(position)))
    data: dict[str, Any] = {}
    time = _plain_values(page, "time")
    for item in items:
        # The event's own time keeps its name; a data key "time" takes the name of its Parquet column.
        data[item.name if item.key == "time" else item.key] = _values(page, item)
    frame = pd.DataFrame({"time": time, **data})
    frame.index = pd.Index(_plain_values(page, "seq_num"))
    return frame


def _plain_values(page: Page, name: str) -> Any:
    return _values(page, PageColumn(name, name, page.column(name).meta))


def _values(page: Page, item: PageColumn) -> Any:
    """Give a column as pandas would infer it from the values."""
    raw, encoded = page.raw(item.name), item.meta.get("encoding")
    if encoded is None and not page.has(f"_x.{item.name}"):
        return _typed(raw)
    column = page.column(item.name)
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
