"""One data key's values, as an Arrow array that gives the very same values back.

The type of a column comes from its values, never from the descriptor, because descriptors lie.  Values
that do not fit the column's type are kept beside it as *exceptions*: a nullable string column in which
null means that the typed value stands, ``""`` that the event has no such key, ``"i"`` that the value is
the integer of the typed value, and anything else is the value's JSON.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
import pyarrow as pa

from filebroker.ground import codec
from filebroker.ground.errors import UnsupportedFormat


class _Absent(Enum):
    ABSENT = "absent"


#: Stands for the value of a key that a document does not have.
ABSENT: Final = _Absent.ABSENT

#: Arrays of this many bytes or more are kept as raw bytes, smaller ones as lists.
RAW_BYTES = 256

#: Parquet readers refuse schemas that are nested much deeper.
_MAX_LIST_DEPTH = 20

_EXACT_INTEGER = 2**53
# What Arrow raises for values that do not fit the type tried; they are then kept as JSON.
_MISFITS = (OverflowError, UnicodeEncodeError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


@dataclass(frozen=True)
class Column:
    """An encoded column.

    Attributes
    ----------
    values : pyarrow.Array
        The typed values, shape (rows,).
    exceptions : pyarrow.Array or None
        Strings, shape (rows,); None where there are no exceptions.
    meta : dict
        ``encoding`` (``list``, ``array``, ``npy`` or ``json``; absent for plain columns), and for arrays
        their ``dtype`` and ``shape``.
    """

    values: pa.Array
    exceptions: pa.Array | None
    meta: dict[str, Any]


# ---------------------------------------------------------------------------------------- encoding

# The kinds of values: f float, h half or single float, i integer, b boolean, s string, n None,
# l list, a array, j anything else, x absent.
_KINDS: dict[type, str] = {
    **{float: "f", int: "i", bool: "b", str: "s", type(None): "n", list: "l", tuple: "l", dict: "j"},
    **{np.float64: "f", np.float32: "h", np.float16: "h", np.bool_: "b", np.str_: "s", np.ndarray: "a"},
    **dict.fromkeys((np.int8, np.int16, np.int32, np.int64, np.longlong), "i"),
    **dict.fromkeys((np.uint8, np.uint16, np.uint32, np.uint64, np.ulonglong), "i"),
    _Absent: "x",
}
_ARROW_TYPES = {"f": pa.float64(), "h": pa.float32(), "i": pa.int64(), "b": pa.bool_(), "s": pa.string()}
_DECLARED_TYPES = {"number": "f", "integer": "i", "boolean": "b", "string": "s"}


def encode(values: Sequence[Any], declared: str | None = None) -> Column:
    """Encode the values of one key.

    Parameters
    ----------
    values
        One value an event, in stored form (see `buffer.stored`); `ABSENT` where an event lacks the key.
    declared
        The ``dtype`` the descriptor declares.  It is used only where every value is None.
    """
    kinds = {_KINDS.get(kind, "j") for kind in set(map(type, values))}
    if "x" in kinds:
        filled = encode([None if value is ABSENT else value for value in values], declared)
        return _with_absent(filled, values)
    real = kinds - {"n"}
    if not real:
        kind = _DECLARED_TYPES.get(declared or "")
        return Column(pa.nulls(len(values), _ARROW_TYPES[kind] if kind else pa.null()), None, {})
    if real == {"f", "h"}:
        real = {"f"}
    try:
        if len(real) == 1:
            encoder = _ENCODERS.get(next(iter(real)))
            if encoder is not None:
                return encoder(values, "n" in kinds)
        elif real <= set("fhibs"):
            return _mixed(values)
    except _MISFITS:
        pass
    return _as_json(values)


def _with_absent(column: Column, values: Sequence[Any]) -> Column:
    """Mark the rows whose event lacks the key."""
    before = column.exceptions.to_pylist() if column.exceptions is not None else [None] * len(values)
    marks = ["" if value is ABSENT else mark for value, mark in zip(values, before, strict=True)]
    return Column(column.values, pa.array(marks, pa.string()), column.meta)


def _numbers(dtype: str, zero: Any) -> Callable[[Sequence[Any], bool], Column]:
    def encoder(values: Sequence[Any], nulls: bool) -> Column:
        if not nulls:
            return Column(pa.array(np.array(values, dtype=dtype)), None, {})
        mask = np.fromiter((value is None for value in values), bool, len(values))
        full = np.array([zero if value is None else value for value in values], dtype=dtype)
        return Column(pa.array(full, mask=mask), None, {})

    return encoder


def _integers(values: Sequence[Any], nulls: bool) -> Column:
    if np.uint64 in set(map(type, values)):  # numpy would wrap these around silently
        values = [int(value) if isinstance(value, np.uint64) else value for value in values]
    try:
        return _numbers("int64", 0)(values, nulls)
    except OverflowError:
        return _numbers("uint64", 0)(values, nulls)


def _strings(values: Sequence[Any], nulls: bool) -> Column:
    return Column(pa.array(values, pa.string()), None, {})


def _mixed(values: Sequence[Any]) -> Column:
    """Scalars of several kinds: the commonest makes the column, the others are exceptions."""
    kinds = [_KINDS.get(type(value), "j") for value in values]
    count = {
        "f": sum(map(kinds.count, "fhi")),
        "s": kinds.count("s"),
        "b": kinds.count("b"),
    }
    main = max(count, key=lambda kind: count[kind])
    typed: list[Any] = [None] * len(values)
    exceptions: list[str | None] = [None] * len(values)
    for row, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        if kind == "n":
            continue
        if kind == main or (main == "f" and kind == "h"):
            typed[row] = value.item() if isinstance(value, np.generic) else value
        elif main == "f" and kind == "i" and -_EXACT_INTEGER <= value <= _EXACT_INTEGER:
            typed[row], exceptions[row] = float(value), "i"
        else:
            exceptions[row] = codec.dumps(value).decode()
    return Column(pa.array(typed, _ARROW_TYPES[main]), pa.array(exceptions, pa.string()), {})


def _as_json(values: Iterable[Any]) -> Column:
    texts = [None if value is None else codec.dumps(value) for value in values]
    return Column(pa.array(texts, pa.binary()).cast(pa.string()), None, {"encoding": "json"})


def _lists(values: Sequence[Any], nulls: bool) -> Column:
    """Nested lists of one depth and one kind of leaf; anything else becomes JSON."""
    found: set[tuple[int, str]] = set()
    if not all(value is None or _measure(value, 1, found) for value in values) or len(found) != 1:
        return _as_json(values)
    ((depth, kind),) = found
    if depth > _MAX_LIST_DEPTH or not all(value is None or _is_uniform(value, depth) for value in values):
        return _as_json(values)
    arrow = _ARROW_TYPES[kind]
    for _ in range(depth):
        arrow = pa.list_(arrow)
    return Column(pa.array(values, arrow), None, {"encoding": "list"})


def _measure(value: Sequence[Any], depth: int, found: set[tuple[int, str]]) -> bool:
    """Collect the depth and kind of every leaf; False if one fits no list column."""
    for item in value:
        if isinstance(item, list | tuple):
            if not _measure(item, depth + 1, found):
                return False
            continue
        kind = _KINDS.get(type(item), "j")
        if kind not in "fibs":
            return False
        found.add((depth, kind))
    return True


def _is_uniform(value: Sequence[Any], depth: int) -> bool:
    """Tell whether the lists above the leaves hold lists alone (``[[], 1.0]`` does not)."""
    if depth == 1:
        return not any(isinstance(item, list | tuple) for item in value)
    return all(isinstance(item, list | tuple) and _is_uniform(item, depth - 1) for item in value)


def _arrays(values: Sequence[Any], nulls: bool) -> Column:
    if nulls:
        return _spread(_arrays([value for value in values if value is not None], False), values)
    dtypes = {value.dtype for value in values}
    shapes = {value.shape for value in values}
    if len(dtypes) > 1 or len(shapes) > 1:
        if len(dtypes) == 1 and {len(shape) for shape in shapes} == {1} and _fits_lists(values[0].dtype):
            return _ragged(values)
        return Column(pa.array([_npy(value) for value in values], pa.binary()), None, {"encoding": "npy"})
    dtype, shape = values[0].dtype.newbyteorder("<"), values[0].shape
    meta = {"encoding": "array", "dtype": dtype.str, "shape": list(shape)}
    if values[0].nbytes >= RAW_BYTES or values[0].size == 0 or not _fits_lists(dtype):
        raw = [np.ascontiguousarray(value, dtype).tobytes() for value in values]
        return Column(pa.array(raw, pa.binary()), None, meta)
    flat = np.ascontiguousarray(np.stack(values), dtype).reshape(-1)
    offsets = np.arange(0, flat.size + 1, values[0].size, dtype="int32")
    return Column(pa.ListArray.from_arrays(offsets, pa.array(flat)), None, meta)


def _fits_lists(dtype: np.dtype[Any]) -> bool:
    """Tell whether an Arrow list can hold the numbers and give their dtype back."""
    return dtype.kind in "iu" or dtype.str[1:] in ("f4", "f8")


def _ragged(values: Sequence[np.ndarray[Any, Any]]) -> Column:
    """Give 1-D arrays of one dtype and many lengths as lists."""
    dtype = values[0].dtype.newbyteorder("<")
    offsets = np.zeros(len(values) + 1, "int32")
    np.cumsum([value.size for value in values], out=offsets[1:])
    flat = np.concatenate(values).astype(dtype, copy=False)
    meta = {"encoding": "array", "dtype": dtype.str}
    return Column(pa.ListArray.from_arrays(offsets, pa.array(flat)), None, meta)


def _spread(column: Column, values: Sequence[Any]) -> Column:
    """Put nulls into a column made without them."""
    rows = np.full(len(values), -1)
    present = [row for row, value in enumerate(values) if value is not None]
    rows[present] = np.arange(len(present))
    return Column(column.values.take(pa.array(rows, mask=rows < 0)), None, column.meta)


def _npy(value: np.ndarray[Any, Any]) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array(target, value, allow_pickle=False)
    return target.getvalue()


_ENCODERS: dict[str, Callable[[Sequence[Any], bool], Column]] = {
    "f": _numbers("float64", 0.0),
    "h": _numbers("float32", 0.0),
    "b": _numbers("bool", False),
    "i": _integers,
    "s": _strings,
    "l": _lists,
    "a": _arrays,
}


# ---------------------------------------------------------------------------------------- decoding


def decode(column: Column) -> list[Any]:
    """Give the values back as JSON's own types, with `ABSENT` where an event lacks the key."""
    values: list[Any]
    match column.meta.get("encoding"):
        case "json":
            values = [None if text is None else codec.loads(text.encode()) for text in column.values.to_pylist()]
        case "array" | "npy":
            values = [None if array is None else array.tolist() for array in as_arrays(column)]
        case None | "list":
            values = column.values.to_pylist()
        case unknown:
            raise UnsupportedFormat(f"a column has the encoding {unknown!r}, which is not known; upgrade filebroker")
    if column.exceptions is not None and column.exceptions.null_count < len(column.exceptions):
        for row, mark in enumerate(column.exceptions.to_pylist()):
            if mark is not None:
                values[row] = _exception(mark, values[row])
    return values


def _exception(mark: str, typed: Any) -> Any:
    if mark == "":
        return ABSENT
    return int(typed) if mark == "i" else codec.loads(mark.encode())


def as_values(column: Column) -> list[Any]:
    """Give the values with arrays as arrays, and `ABSENT` where an event lacks the key."""
    if column.meta.get("encoding") not in ("array", "npy"):
        return decode(column)
    values: list[Any] = list(as_arrays(column))
    for row, mark in enumerate(column.exceptions.to_pylist() if column.exceptions is not None else ()):
        if mark is not None:
            values[row] = _exception(mark, values[row])
    return values


def as_arrays(column: Column) -> list[np.ndarray[Any, Any] | None]:
    """Give the arrays of an ``array`` or ``npy`` column, read-only and without a copy where possible."""
    values = column.values
    if column.meta["encoding"] == "npy":
        return [None if blob is None else _from_npy(blob) for blob in values.to_pylist()]
    dtype, shape = np.dtype(column.meta["dtype"]), column.meta.get("shape")
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return [np.frombuffer(item.as_buffer(), dtype).reshape(shape) if item.is_valid else None for item in values]
    result: list[np.ndarray[Any, Any] | None] = []
    for item in values:
        array = np.asarray(item.values.to_numpy(zero_copy_only=False), dtype) if item.is_valid else None
        result.append(array if array is None or shape is None else array.reshape(shape))
    return result


def _from_npy(blob: bytes) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.lib.format.read_array(io.BytesIO(blob), allow_pickle=False)
    return array
