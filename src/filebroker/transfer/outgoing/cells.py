"""What the cells of a column have in common, where pandas calls them objects: arrays, lists, text or anything."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from filebroker.cataloging.arrays import as_array, is_missing, stacked
from filebroker.ground.texts import encodable

Array = np.ndarray[Any, Any]


_OBJECT = np.dtype(object)


class CellKind(NamedTuple):
    """What the cells of a column are.

    Attributes
    ----------
    form : str
        ``array``: numbers, or arrays of one shape.  ``ragged``: one-dimensional arrays of many lengths.  ``text``:
        strings.  ``json``: anything else, written as JSON.
    dtype : numpy.dtype
        Of the numbers.
    shape : tuple of int
        Of one array.
    """

    form: Literal["array", "ragged", "text", "json"]
    dtype: "np.dtype[Any]" = _OBJECT
    shape: tuple[int, ...] = ()


_TEXT, _JSON = CellKind("text"), CellKind("json")
#: In these all integers of up to 53 bits have room, and so has NaN.
_FLOAT = np.dtype("float64")


def survey(parts: Iterable[Mapping[str, Sequence[Any]]]) -> dict[str, CellKind]:
    """Tell what the cells of columns are, by looking at all of them.

    Parameters
    ----------
    parts
        The columns by name, some rows at a time.

    Returns
    -------
    dict
        For each column with a value what has room for all its values.
    """
    kinds: dict[str, CellKind] = {}
    for part in parts:
        for name, values in part.items():
            kind = kind_of(values)
            if kind is not None:
                kinds[name] = merged(kinds[name], kind) if name in kinds else kind
    return kinds


def kind_of(values: Sequence[Any]) -> CellKind | None:
    """Tell what some cells are, None if they all are missing.

    Parameters
    ----------
    values
        The cells.

    Examples
    --------
    >>> kind_of([[1, 2], [3, 4], None])
    CellKind(form='array', dtype=dtype('float64'), shape=(2,))
    >>> kind_of([[1.5], [2.5, 3.5]]).form, kind_of(["open", None]).form, kind_of([{"x": 1}, 2]).form
    ('ragged', 'text', 'json')
    """
    present = [value for value in values if not is_missing(value)]
    if not present:
        return None
    if all(isinstance(value, str) for value in present):
        return _TEXT
    if all(isinstance(value, bool | np.bool_) for value in present):
        return CellKind("array", np.dtype(bool) if len(present) == len(values) else _FLOAT)
    if all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in present):
        return _integers(list(map(int, present)), has_gaps=len(present) < len(values))
    array = stacked(values)
    if array.dtype.kind in "biuf" and array.size:
        return CellKind("array", _native(array.dtype), array.shape[1:])
    if all(isinstance(value, list | tuple | np.ndarray) for value in present):
        return _ragged([as_array(value) for value in present])
    return _JSON


def _integers(values: Sequence[int], *, has_gaps: bool) -> CellKind:
    """Give what has room for all digits of some integers."""
    low, high = min(values), max(values)
    if has_gaps:
        return CellKind("array", _FLOAT) if max(-low, high) <= 1 << 53 else _JSON
    for dtype in (np.dtype("int64"), np.dtype("uint64")):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return CellKind("array", dtype)
    return _JSON


def _ragged(cells: Sequence[Array]) -> CellKind:
    full = [cell for cell in cells if cell.size]
    is_simple = all(cell.ndim == 1 for cell in cells) and all(cell.dtype.kind in "biuf" for cell in full)
    if not is_simple:
        return _JSON
    return CellKind("ragged", _native(np.result_type(*full)) if full else _FLOAT)


def _native(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    return dtype.newbyteorder("=")


def merged(one: CellKind, other: CellKind) -> CellKind:
    """Give a kind that has room for the cells of two.

    Parameters
    ----------
    one, other
        What some cells are, and some others of the column.

    Examples
    --------
    >>> merged(CellKind("array", np.dtype("int64"), (3,)), CellKind("array", np.dtype("float64"), (4,)))
    CellKind(form='ragged', dtype=dtype('float64'), shape=())
    """
    if one == other:
        return one
    # Integers among floats, or very large ones among others, would lose digits.
    if not {one.form, other.form} <= {"array", "ragged"} or CellKind("array") in (
        one._replace(dtype=_OBJECT),
        other._replace(dtype=_OBJECT),
    ):
        return _JSON
    dtype = np.result_type(one.dtype, other.dtype)
    if one.form == other.form == "array" and one.shape == other.shape:
        return CellKind("array", dtype, one.shape)
    return CellKind("ragged", dtype) if len(one.shape) <= 1 and len(other.shape) <= 1 else _JSON


def as_json(value: Any) -> str:
    """Give a cell as JSON; what JSON has no word for as text.

    Parameters
    ----------
    value
        The cell.

    Examples
    --------
    >>> as_json([1, 2.5]), as_json({"a": None}), as_json("open")
    ('[1, 2.5]', '{"a": null}', '"open"')
    """
    return str(encodable(json.dumps(value, default=_plain, ensure_ascii=False)))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
