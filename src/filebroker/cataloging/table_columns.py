"""Columns of tables that are read in parts: what they are of, and how those of a page become theirs."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from filebroker.cataloging.arrays import objects
from filebroker.ground.errors import InvalidQuery
from filebroker.storing import columns as arrow_columns
from filebroker.storing.columns import ABSENT
from filebroker.storing.pages import Page, column_name

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
#: What Arrow raises for values that do not fit a type.
MISFITS = (pa.ArrowException, OverflowError, UnicodeEncodeError)


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
    """Give the table without rows.

    Parameters
    ----------
    columns
        Its columns.
    """
    return pd.DataFrame({column.name: pd.Series([], dtype=_DTYPES[column.dtype]) for column in columns})


def names_of(option: str, names: str | Sequence[str]) -> list[str]:
    """Give the names of columns that were asked for, each once.

    Parameters
    ----------
    option
        What they were given as.
    names
        One name or several.

    Raises
    ------
    InvalidQuery
        One is no string.
    """
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if not isinstance(name, str):
            raise InvalidQuery(f"{option} names {name!r:.100}, a {type(name).__name__}; give strings")
    return list(dict.fromkeys(listed))


def key_of(name: str) -> str:
    """Give the data key of a page's column.

    Parameters
    ----------
    name
        The column.
    """
    return name.removeprefix("_data.")


def page_dtype(name: str, kind: pa.DataType, page: Page) -> str:
    """Give the dtype of a column of a page, whatever other pages have; integers may be among floats there.

    Parameters
    ----------
    name
        The column.
    kind
        Its type in the page.
    page
        Of which only columns with exceptions need have been read.
    """
    if "encoding" in page.meta(name):
        return "object"
    marks = page.column(name).exceptions if page.has(name) else None
    # Absent values, and integers among floats, fit the column; others have been put beside it because they do not.
    fits = marks is None or set(marks.unique().to_pylist()) <= {None, "", "i"}
    return dtype_of(kind) if fits else "object"


def repeated(value: Any, dtype: str, rows: int) -> "pd.Series[Any]":
    """Give a column of one value.

    Parameters
    ----------
    value
        The value.
    dtype
        Of the column.
    rows
        How many there are.
    """
    one: pd.Series[Any] = pd.Series(objects([value]) if dtype == "object" else [value], dtype=_DTYPES[dtype])
    return one.repeat(rows).reset_index(drop=True)


def column_of(page: Page | None, rows: int, column: TableColumn) -> "pd.Series[Any]":
    """Give what a page has of the events in a column of a table; where it has nothing, missing values.

    Parameters
    ----------
    page
        The page; None if nothing was read of it.
    rows
        Its number of events.
    column
        A column of ``event`` or ``data``.

    Raises
    ------
    pyarrow.ArrowException, OverflowError, UnicodeEncodeError
        A value does not fit: see `fitted`.
    """
    name = column.key if column.source == "event" else column_name(column.key)
    if page is None or not page.has(name):
        return repeated(math.nan if column.dtype == "object" else None, column.dtype, rows)
    return fitted(page, name, column.dtype)


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
    if array.null_count == len(array) and dtype != "int64":  # of whatever type: there is nothing to alter
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
    """Give the dtype that a column of the table has whose values are of an Arrow type.

    Parameters
    ----------
    arrow_type
        The type.
    """
    if pa.types.is_integer(arrow_type) or pa.types.is_floating(arrow_type):
        return "float64"
    if pa.types.is_boolean(arrow_type):
        return "boolean"
    return "string" if pa.types.is_string(arrow_type) else "object"
