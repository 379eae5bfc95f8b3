"""What one event's value looks like: as its descriptor declares it, and as the file has it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

#: What the JSON types of a descriptor stand for, when it does not say more.
_DTYPES = {"number": "<f8", "array": "<f8", "integer": "<i8", "boolean": "|b1", "string": "O"}
#: What writers have called the number of frames an event, when the declared shape leaves it out.
_FRAMES = ("multiplier", "frame_per_point", "frames_per_event", "frames_per_point")


@dataclass(frozen=True)
class Declared:
    """What a descriptor declares of one data key, and its stream_resource of its frames.

    Attributes
    ----------
    shape : tuple of int or None
        Of one event's value.  None is a length that varies.
    dtype : numpy.dtype
        Of its elements.
    scalar : bool
        The shape is ``[1]`` where a number is meant.
    frames : int or None
        The number of frames an event, as the parameters of the stream_resource say.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    scalar: bool = False
    frames: int | None = None

    @property
    def complete(self) -> tuple[int, ...] | None:
        """The shape, if it can be known without the file."""
        lengths = tuple(length for length in self.shape if length is not None)
        return lengths if len(lengths) == len(self.shape) else None


@dataclass(frozen=True)
class Layout:
    """How the rows of a file make values.

    Attributes
    ----------
    rows : int
        The number of rows, along the first axis of the file, that make one event's value.
    shape : tuple of int
        Of one event's value.
    agrees : bool
        The shape is as declared.
    """

    rows: int
    shape: tuple[int, ...]
    agrees: bool = True


def declared(data_key: Mapping[str, Any], parameters: Mapping[str, Any]) -> Declared:
    """Give what is declared.

    A shape of ``[1]`` is that of a single number, unless an array is declared.  What is no length counts as one that
    varies.

    Parameters
    ----------
    data_key
        What the descriptor says of the data key.
    parameters
        Those of a stream_resource, which may say how many frames an event has.
    """
    lengths = data_key.get("shape")
    shape = tuple(map(_count_of, lengths)) if isinstance(lengths, list | tuple | np.ndarray) else ()
    frames = next((count for name in _FRAMES if (count := _count_of(parameters.get(name)))), None)
    if frames is not None and frames > 1:
        shape = _with_frames(shape, frames)
    scalar = shape == (1,) and data_key.get("dtype") != "array"
    return Declared(() if scalar else shape, _dtype(data_key), scalar, frames)


def layout(want: Declared, row: Sequence[int], rows: int | None = None, values: int | None = None) -> Layout:
    """Find how the rows of a file make values of the declared shape.

    Axes of length one may be in the file and not in the declaration, or the other way round.  If the rows cannot make
    values of the declared shape, the file is right: a value then has rows of the file's own shape.

    Parameters
    ----------
    want
        What is declared.
    row
        The shape of one row of the file.
    rows
        How many rows the file has, if known.
    values
        How many values were claimed to be in the file, if known.

    Examples
    --------
    >>> layout(declared({"shape": [1, 240, 320], "dtype": "array"}, {}), (240, 320))
    Layout(rows=1, shape=(1, 240, 320), agrees=True)
    >>> layout(declared({"shape": [5, 240, 320], "dtype": "array"}, {}), (240, 320))
    Layout(rows=5, shape=(5, 240, 320), agrees=True)
    >>> layout(declared({"shape": [240, 320], "dtype": "array"}, {}), (512, 512))
    Layout(rows=1, shape=(512, 512), agrees=False)
    """
    row = tuple(row)
    if _same(want.shape, row):
        return Layout(1, _filled(want.shape, row))
    if want.shape and _same(want.shape[1:], row):
        count = want.shape[0]
        if count and not _single(count, rows, values):
            return Layout(count, (count, *_filled(want.shape[1:], row)))
        if count is None and rows and values and not rows % values:
            return Layout(rows // values, (rows // values, *_filled(want.shape[1:], row)))
    count = _count(want, row)
    if count is None or _single(count, rows, values):
        return Layout(1, row, agrees=False)
    return Layout(count, (count, *row), agrees=False)


def _count_of(value: Any) -> int | None:
    """Give a number from 0 on as it was meant; None if it is none."""
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return count if count >= 0 else None


def _dtype(data_key: Mapping[str, Any]) -> np.dtype[Any]:
    """Give the declared type; writers before event-model 1.21 had other names for it."""
    for name in ("dtype_numpy", "dtype_descr", "dtype_str"):
        with suppress(TypeError, ValueError, SyntaxError):
            if described := data_key.get(name):
                return np.dtype(_fields(described) if isinstance(described, list) else described)
    return np.dtype(_DTYPES.get(str(data_key.get("dtype")), "O"))


def _fields(described: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Give the fields of records as numpy wants them: JSON has lists in place of tuples."""
    return [tuple(tuple(item) if isinstance(item, list) else item for item in field) for field in described]


def _with_frames(shape: tuple[int | None, ...], frames: int) -> tuple[int | None, ...]:
    """Add the number of frames an event to a declared shape that leaves it out."""
    if shape and shape[0] in (1, frames):
        return (frames, *shape[1:])
    return (frames, *shape)


def _count(want: Declared, row: tuple[int, ...]) -> int | None:
    """Give the number of rows a value, of a declaration that is otherwise wrong."""
    if want.frames is not None and want.frames > 1:
        return want.frames
    return want.shape[0] if len(want.shape) == len(row) + 1 else None


def _single(count: int | None, rows: int | None, values: int | None) -> bool:
    """Tell whether a file holds one row a value, and not ``count`` as declared."""
    return count != 1 and rows is not None and rows == values


def _same(want: Sequence[int | None], row: Sequence[int]) -> bool:
    """Tell whether two shapes are the same but for axes of length one."""
    if len(want) == len(row):
        return all(length in (None, there) for length, there in zip(want, row, strict=True))
    if None in want:
        return False
    return [length for length in want if length != 1] == [length for length in row if length != 1]


def _filled(want: Sequence[int | None], row: Sequence[int]) -> tuple[int, ...]:
    return tuple(row[axis] if length is None else length for axis, length in enumerate(want))


def file_layout(want: Declared, shape: Sequence[int], parameters: Mapping[str, Any]) -> Layout:
    """Find how many files of a sequence make a value of the declared shape.

    Parameters
    ----------
    want
        What is declared.
    shape
        Of what one file holds.
    parameters
        Those of the stream_resource; ``files_per_datum`` says how many files make a value.

    Examples
    --------
    >>> want = declared({"shape": [6, 10, 15], "dtype": "array"}, {})
    >>> [file_layout(want, shape, {}).rows for shape in ((10, 15), (6, 10, 15), (2, 10, 15))]
    [6, 1, 3]
    """
    shape = tuple(shape)
    files = _count_of(parameters.get("files_per_datum")) or 0
    found = layout(want, shape)
    if files in (0, found.rows) and found.agrees:
        return found
    if shape and want.shape and len(shape) == len(want.shape) and _same(want.shape[1:], shape[1:]):
        count, rest = divmod(want.shape[0] or 0, shape[0] or 1)
        if count and not rest and files in (0, count):
            return Layout(count, (count * shape[0], *shape[1:]))
    if not files:
        return found
    return Layout(files, (files, *shape) if files > 1 else shape, agrees=False)
