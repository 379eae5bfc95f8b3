"""The values of one data key, one an event, as one array."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Array: TypeAlias = np.ndarray[Any, Any]

#: Longer strings would make an array of strings, which has room for the longest in each cell, too large.
_LONGEST_STRING = 1024
_EMPTY_DTYPES = {"integer": "int64", "boolean": "bool", "string": "<U1"}


def from_series(values: "pd.Series[Any]") -> Array:
    """Give a column of a table as an array.

    Parameters
    ----------
    values
        One value an event.

    Returns
    -------
    numpy.ndarray
        Shape ``(events, *shape)`` where the values are arrays or lists of one shape, else ``(events,)``: of
        numbers, booleans or strings where all are of that kind, else of objects.
    """
    if values.dtype.kind in "biufc":
        return np.array(values)
    return stacked(values.tolist())


def stacked(values: Sequence[Any]) -> Array:
    """Stack values of any kind.

    Parameters
    ----------
    values
        Numbers, strings, arrays, lists, None and NaN (both for an event without a value), or anything else.

    Returns
    -------
    numpy.ndarray
        As for `from_series`.  Where some of many arrays are missing, it has NaN for them.

    Examples
    --------
    >>> stacked([[1, 2], [3, 4]]).shape
    (2, 2)
    >>> stacked([[1, 2], [3]]).dtype
    dtype('O')
    >>> stacked([2**63 + 1, 0])
    array([9223372036854775809,                   0], dtype=uint64)
    >>> stacked(["open", "shut"]).dtype
    dtype('<U4')
    """
    present = [value for value in values if not is_missing(value)]
    kinds = set(map(type, present))
    if kinds and kinds <= {np.ndarray, list, tuple}:
        cells = [as_array(value) for value in present]
        return _stacked_arrays(values, cells)
    if kinds == {str} and len(present) == len(values) and max(map(len, present)) <= _LONGEST_STRING:
        return np.array(values)
    if kinds == {float}:
        return np.array([np.nan if value is None else value for value in values])
    if kinds == {int} and len(present) == len(values):
        return _integers(values)
    if kinds and kinds <= {np.bool_, bool} and len(present) == len(values):
        return np.array(values, dtype=bool)
    return objects(None if is_missing(value) else value for value in values)


def _stacked_arrays(values: Sequence[Any], cells: list[Array]) -> Array:
    """Stack arrays of one shape and kind; ``values`` are the same with those that are missing."""
    kinds = {cell.dtype.kind for cell in cells}
    if len({cell.shape for cell in cells}) == 1 and (len(kinds) == 1 or kinds <= set("biuf")):
        if len(cells) == len(values):
            return np.stack(cells)
        if kinds <= set("biufc") and all(map(_fits_float, cells)):
            dtype = np.result_type(np.float64, *(cell.dtype for cell in cells))
            result = np.full((len(values), *cells[0].shape), np.nan, dtype)
            result[[row for row, value in enumerate(values) if not is_missing(value)]] = cells
            return result
    remaining = iter(cells)
    return objects(None if is_missing(value) else next(remaining) for value in values)


def _fits_float(cell: Array) -> bool:
    """Tell whether floats have room for all digits."""
    return cell.dtype.kind not in "iu" or not cell.size or max(int(cell.max()), -int(cell.min())) <= 1 << 53


def as_array(value: Any) -> Array:
    """Give a value or nested list as an array; a list that makes none keeps its items as objects.

    Parameters
    ----------
    value
        A number, string, list or array.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths in it
        return objects(value)
    if array.dtype.kind in "SU" and not all(isinstance(leaf, str) for leaf in _leaves(value, array.ndim)):
        return np.array(value, dtype=object)  # numpy has made strings of numbers
    if array.dtype.kind == "f" and all(type(leaf) is int for leaf in _leaves(value, array.ndim)):
        return _integers(value) if array.size else array
    return array


def _integers(values: Any) -> Array:
    """Give integers, or nested lists of them, with all their digits: numpy may make floats of large ones."""
    array = np.array(values)
    if array.dtype.kind != "f":
        return array
    exact = np.array(values, dtype=object)
    return exact.astype(np.uint64) if exact.min() >= 0 and exact.max() < 1 << 64 else exact


def _leaves(value: Any, depth: int) -> Iterable[Any]:
    if depth == 0:
        return [value]
    for _ in range(depth - 1):
        value = chain.from_iterable(value)
    return value  # type: ignore[no-any-return]


def objects(values: Iterable[Any]) -> Array:
    """Give values as an array of objects, shape ``(values,)``, whatever they are."""
    listed = list(values)
    result = np.empty(len(listed), dtype=object)
    for row, value in enumerate(listed):
        result[row] = value
    return result


def is_ragged(array: Array) -> bool:
    """Tell whether an array holds arrays, which are then of different shapes or kinds."""
    return array.dtype == object and any(isinstance(value, np.ndarray) for value in array.flat)


def without_rows(declared: Mapping[str, Any]) -> Array:
    """Give the array of a data key that no event has a value of.

    Parameters
    ----------
    declared
        What the descriptor says of the data key.
    """
    shape = declared.get("shape") or ()
    sizes = [size if isinstance(size, int) and size > 0 else 0 for size in shape]
    return np.empty((0, *sizes), _EMPTY_DTYPES.get(str(declared.get("dtype")), "float64"))


def is_missing(value: Any) -> bool:
    """Tell whether a value, None or NaN, stands for none."""
    return value is None or (isinstance(value, float) and value != value)
