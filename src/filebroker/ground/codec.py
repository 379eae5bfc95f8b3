"""JSON that loses nothing: orjson's speed, the standard library's range.

What comes back is what `event_model.sanitize_doc` gives: numpy scalars become Python scalars, arrays
and tuples become lists, and integers of any size, NaN, infinities and lone surrogates are kept as the
standard library writes them.  What JSON cannot carry is refused with the path of the offending key.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np
import orjson

from filebroker.ground.errors import UnstorableValue

#: Deeper nesting is refused.  It is no less than what orjson writes, so what was written can be read.
MAX_DEPTH = 256
#: Python itself refuses to print or parse integers with more decimal digits.
MAX_DIGITS = 4300

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_NUMPY_OPTIONS = _OPTIONS | orjson.OPT_SERIALIZE_NUMPY
# orjson reads integers beyond 64 bits as floats: text with that many digits goes to the standard library.
_MANY_DIGITS, _ALIKE = b"0" * 19, bytes.maketrans(b"123456789", b"0" * 9)
_MAX_BITS = int(MAX_DIGITS * math.log2(10))

#: Types that `orjson` with its numpy option writes exactly as `sanitize_doc` would.  float32 is not
#: among them: orjson shortens it to 0.1 where `sanitize_doc` gives 0.10000000149011612.
SIMPLE_TYPES: frozenset[type] = frozenset(
    {
        *(float, int, str, bool, type(None), np.float64, np.bool_),
        *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    }
)


def dumps(value: Any) -> bytes:
    """Write a value as JSON.

    Parameters
    ----------
    value
        Anything made of dicts, lists, tuples, strings, numbers, None, numpy scalars and arrays.

    Returns
    -------
    bytes
        UTF-8 without a newline.

    Raises
    ------
    UnstorableValue
        The value holds something that JSON cannot carry; the message gives its path.
    """
    try:
        text = orjson.dumps(value, _default, _OPTIONS)
    except (TypeError, RecursionError):
        # A big integer, a key that is no string, a lone surrogate, or a value to refuse.
        return _dumps_exactly(value)
    if b"null" in text and _holds_nonfinite(value):
        return _dumps_exactly(value)  # orjson writes NaN and infinities as null
    return text


def dumps_simple(value: Any) -> bytes | None:
    """Write a value whose scalars are all of `SIMPLE_TYPES`, as fast as can be.

    Returns
    -------
    bytes or None
        None if `dumps` is needed, because the value holds a None, NaN, infinity or big integer.
    """
    try:
        text = orjson.dumps(value, None, _NUMPY_OPTIONS)
    except TypeError:
        return None
    return None if b"null" in text else text


def loads(text: bytes) -> Any:
    """Read JSON written by `dumps` or by the standard library.

    Raises
    ------
    ValueError
        The text is not JSON, or is nested too deeply.
    """
    if _MANY_DIGITS not in text.translate(_ALIKE):  # a tenth of the time of a regular expression
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # NaN, Infinity and lone surrogates are read below
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def canonical(value: Any) -> bytes:
    """Write a value so that equal values give equal text, whatever the order of their keys.

    Raises
    ------
    UnstorableValue
        The value holds something that JSON cannot carry.
    """
    return json.dumps(plain(value), sort_keys=True).encode()


def plain(value: Any) -> Any:
    """Return a copy of a value made of JSON's own types alone.

    Raises
    ------
    UnstorableValue
        The value holds something that JSON cannot carry; the message gives its path.
    """
    return _plain(value, ())


def _default(value: Any) -> Any:
    """Turn what orjson does not know into something it does, or raise TypeError."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, np.generic | np.ndarray):
        return _numpy_value(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__array__") and not isinstance(value, type):
        return _numpy_value(np.asarray(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


def _numpy_value(value: np.generic | np.ndarray[Any, Any]) -> Any:
    if value.dtype.kind in "mM":
        raise TypeError(f"numpy {value.dtype} is not JSON")
    if isinstance(value, np.longdouble) and value.dtype.itemsize > 8:
        if float(value) != value and value == value:
            raise TypeError("numpy longdouble has more digits than a float")
        return float(value)
    if isinstance(value, np.str_):
        return str.__str__(value)  # .item() would drop trailing NULs
    return value.item() if isinstance(value, np.generic) else value.tolist()


def _holds_nonfinite(value: Any) -> bool:
    """Tell whether a null in orjson's output may stand for a NaN or an infinity."""
    if value is None or isinstance(value, str | int):
        return False
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(_holds_nonfinite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_nonfinite, value))
    # Anything else is written exactly, to be sure.
    return not (isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biuSU")


def _dumps_exactly(value: Any) -> bytes:
    tree = _plain(value, ())
    text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates have to be escaped
        return json.dumps(tree, separators=(",", ":")).encode()


_Path = tuple[str | int, ...]


def _plain(value: Any, path: _Path) -> Any:
    if value is None or value is True or value is False or type(value) in (str, float):
        return value
    if len(path) > MAX_DEPTH:
        raise UnstorableValue(f"{where(path)} is nested deeper than {MAX_DEPTH} levels; flatten it")
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value, path)
    try:
        converted = _default(value)
    except TypeError as error:
        raise UnstorableValue(
            f"{where(path)} cannot be stored: {error}. Give a number, string, None, list, dict or numpy "
            "array instead (a datetime as its timestamp, bytes as text)"
        ) from None
    return _plain(converted, path)


def _plain_integer(value: int, path: _Path) -> int:
    if value.bit_length() > _MAX_BITS:
        raise UnstorableValue(f"{where(path)} is an integer of more than {MAX_DIGITS} digits; give a string")
    return int(value)


def _plain_mapping(value: Mapping[Any, Any], path: _Path) -> dict[str, Any]:
    result = {}
    for key, item in value.items():
        name = _plain_key(key, path)
        if name in result:
            raise UnstorableValue(f"{where(path)} has two keys that JSON writes as {name!r}; rename one")
        result[name] = _plain(item, (*path, name))
    return result


def _plain_key(key: Any, path: _Path) -> str:
    """Give a key as `json.dumps` writes it."""
    if isinstance(key, str):
        return str.__str__(key.value if isinstance(key, Enum) else key)
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    raise UnstorableValue(f"{where(path)} has a key of type {type(key).__name__}; give strings as keys")


def _plain_list(value: Iterable[Any], path: _Path) -> list[Any]:
    return [_plain(item, (*path, position)) for position, item in enumerate(value)]


# Enumerations come first: many of them are strings or integers as well.
_CONVERSIONS: tuple[tuple[type, Callable[[Any, _Path], Any]], ...] = (
    (Enum, lambda value, path: _plain(value.value, path)),
    (str, lambda value, path: str.__str__(value)),
    (int, _plain_integer),
    (float, lambda value, path: float(value)),
    (Mapping, _plain_mapping),
    (list, _plain_list),
    (tuple, _plain_list),
    (UUID, lambda value, path: str(value)),
)


def where(path: Iterable[str | int]) -> str:
    """Write the path of a value as one would type it.

    Examples
    --------
    >>> where(("sample", "layers", 0))
    "['sample']['layers'][0]"
    """
    return "".join(f"[{part!r}]" for part in path) or "the value"
