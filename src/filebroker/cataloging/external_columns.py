"""The values of one field that are in files of their own, as a sequence: one an event, read when asked for."""

import warnings
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np

from filebroker.assets.datums import Datums
from filebroker.assets.series import Series
from filebroker.cataloging.arrays import objects
from filebroker.ground.errors import AssetWarning
from filebroker.ground.lazy import cached_property

#: Types of single values by the names that descriptors have for them.
_SCALARS = {"number": "float64", "integer": "int64", "boolean": "bool"}


class ExternalColumn(Sequence[Any]):
    """The values of one data key, one an event, each read when it is asked for.

    Attributes
    ----------
    shape : tuple of int or None
        Of one value, as a file showed it, else as it is declared; None if only reading can tell.
    dtype : numpy.dtype or None
        Of the values; None if only reading can tell.
    """

    shape: tuple[int, ...] | None
    dtype: "np.dtype[Any] | None"

    @abstractmethod
    def _value(self, row: int) -> Any:
        """Read one value."""

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self._value(number) for number in range(*row.indices(len(self)))]
        number = row + len(self) if row < 0 else row
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} events, and no row {row}")
        return self._value(number)

    def __iter__(self) -> Iterator[Any]:
        return (self._value(row) for row in range(len(self)))

    def stack(self, rows: slice = slice(None)) -> "np.ndarray[Any, Any]":
        """Read many values as one array.

        Parameters
        ----------
        rows
            Which events.

        Returns
        -------
        numpy.ndarray
            Shape ``(events, *shape)``; of objects, one an event, if the values differ in shape.
        """
        numbers = range(*rows.indices(len(self)))
        values = (self._value(row) for row in numbers)
        first = next(values, None)
        if not isinstance(first, np.ndarray | np.generic):
            return objects([first, *values][: len(numbers)]) if numbers else self._empty()
        result = np.empty((len(numbers), *first.shape), first.dtype)
        result[0] = first
        for position, value in enumerate(values, 1):
            if np.shape(value) != first.shape or getattr(value, "dtype", None) != first.dtype:
                return objects([*result[:position], value, *values])
            result[position] = value
        return result

    def _empty(self) -> "np.ndarray[Any, Any]":
        return np.empty((0, *(self.shape or ())), self.dtype)


class DatumColumn(ExternalColumn):
    """Values that datum documents tell of.

    Parameters
    ----------
    label
        What it is, for messages.
    values
        What the events have: ids of datum documents, or values that were filled already.
    datums
        The datum documents.
    declared
        What the descriptor says of the field.
    """

    def __init__(self, label: str, values: list[Any], datums: Datums, declared: Mapping[str, Any]) -> None:
        self._label, self._values, self._datums = label, values, datums
        self.shape, self._dtype = declared_shape(declared), declared_dtype(declared)
        self._is_whole = all(isinstance(value, str) for value in values)
        self._is_checked = False

    def __len__(self) -> int:
        return len(self._values)

    @property
    def dtype(self) -> "np.dtype[Any] | None":  # type: ignore[override]
        """The type of the values; if some events have none, one that has NaN for them."""
        return self._dtype if self._is_whole or self._dtype is None else _with_gaps(self._dtype)

    def _value(self, row: int) -> Any:
        value = self._values[row]
        if not isinstance(value, str):
            return value  # filled before it was recorded, or missing
        found = own_array(self._datums.load(value))
        if isinstance(found, np.ndarray) and not self._is_checked:
            self._check(found)
        return found

    def _check(self, found: "np.ndarray[Any, Any]") -> None:
        """Learn what the data are really like, and tell if that is not what was declared."""
        self._is_checked = True
        if self.shape is not None and self.shape != found.shape:
            warnings.warn(
                f"{self._label} is declared to have shape {self.shape}, and its files have {found.shape}, which "
                "counts. What to_dask() gave before is to be made again",
                AssetWarning,
                stacklevel=4,
            )
        self.shape, self._dtype = found.shape, found.dtype


class SeriesColumn(ExternalColumn):
    """Values that stream resources tell of.

    Parameters
    ----------
    series
        The values by the number of the event.
    seq_nums
        The number of each event.
    """

    def __init__(self, series: Series, seq_nums: Sequence[int]) -> None:
        self._series, self._seq_nums = series, seq_nums

    def __len__(self) -> int:
        return len(self._seq_nums)

    @cached_property
    def _is_whole(self) -> bool:
        return all(number in self._series for number in self._seq_nums)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of one value."""
        return self._series.shape

    @property
    def dtype(self) -> "np.dtype[Any]":  # type: ignore[override]
        """The type of the values; if some events have none, one that has NaN for them."""
        return self._series.dtype if self._is_whole else _with_gaps(self._series.dtype)

    def _value(self, row: int) -> Any:
        number = self._seq_nums[row]
        return self._series.load(number) if number in self._series else np.full(self.shape, np.nan, self.dtype)[()]

    def stack(self, rows: slice = slice(None)) -> "np.ndarray[Any, Any]":
        """Read many values as one array; see `ExternalColumn.stack`."""
        numbers = self._seq_nums[rows]
        present = [number for number in numbers if number in self._series]
        found = self._series.read(present)
        if len(present) == len(numbers):
            return found
        if found.dtype == object or found.shape[1:] != self.shape:
            return objects([self._value(row) for row in range(len(self))[rows]])
        result = np.full((len(numbers), *self.shape), np.nan, self.dtype)
        result[[number in self._series for number in numbers]] = found
        return result


class HeldColumn(ExternalColumn):
    """Values that the events hold themselves.

    Parameters
    ----------
    values
        One an event.
    """

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        #: Whether no event has any.
        self.is_empty = all(value is None for value in values)
        arrays = [np.asarray(value) for value in values if value is not None]
        shapes = {array.shape for array in arrays}
        self.shape = shapes.pop() if len(shapes) == 1 else None
        dtype = np.result_type(*arrays) if arrays and self.shape is not None else None
        self.dtype = dtype if dtype is None or len(arrays) == len(values) else _with_gaps(dtype)

    def __len__(self) -> int:
        return len(self._values)

    def _value(self, row: int) -> Any:
        value = self._values[row]
        return value if value is None else np.asarray(value)[()]


class JoinedColumn(ExternalColumn):
    """Values of several kinds one after the other.

    Parameters
    ----------
    parts
        What is joined.
    """

    def __init__(self, parts: Sequence[ExternalColumn]) -> None:
        self._parts = parts
        self._full = [part for part in parts if not (isinstance(part, HeldColumn) and part.is_empty)]
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """The shape of one value, if it is the same in all parts."""
        shapes = {part.shape for part in self._full}
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def dtype(self) -> "np.dtype[Any] | None":  # type: ignore[override]
        """A type that holds the values of all parts."""
        dtypes = [dtype for part in self._full if (dtype := part.dtype) is not None]
        if not dtypes or len(dtypes) < len(self._full):
            return None
        dtype = np.result_type(*dtypes)
        return dtype if len(self._full) == len(self._parts) else _with_gaps(dtype)

    def _value(self, row: int) -> Any:
        which = bisect_right(self._ends, row)
        return self._parts[which][row - (self._ends[which - 1] if which else 0)]

    def stack(self, rows: slice = slice(None)) -> "np.ndarray[Any, Any]":
        """Read many values as one array; see `ExternalColumn.stack`."""
        begin, end, step = rows.indices(len(self))
        if step != 1:
            return super().stack(rows)
        begins = [0, *self._ends]
        pieces = [
            part.stack(slice(max(begin - first, 0), end - first))
            for part, first, last in zip(self._parts, begins, self._ends, strict=False)
            if begin < last and first < end
        ]
        if not pieces:
            return self._empty()
        alike = len({piece.shape[1:] for piece in pieces}) == 1
        return np.concatenate(pieces) if alike else objects([value for piece in pieces for value in piece])


def _with_gaps(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """Give a type that holds NaN as well."""
    return np.result_type(dtype, np.float64) if dtype.kind in "biufc" else np.dtype(object)


def own_array(value: Any) -> Any:
    """Give what a handler gave as an array of the caller's own; what is no array, such as a DataFrame, as it is."""
    if isinstance(value, list | tuple):
        try:
            return np.asarray(value)
        except ValueError:  # of different lengths
            return value
    is_array = hasattr(value, "__array__") and hasattr(value, "dtype")
    return np.array(value) if is_array else value  # a handler may keep it, and callers may change it


def declared_shape(declared: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Give the shape a descriptor declares, None if it leaves something open."""
    shape = declared.get("shape")
    is_whole = isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape)
    if not is_whole or (not shape and declared.get("dtype") == "array"):
        return None
    return tuple(shape)  # type: ignore[arg-type]


def declared_dtype(declared: Mapping[str, Any]) -> "np.dtype[Any] | None":
    """Give the type a descriptor declares, None if it leaves that open."""
    name = declared.get("dtype_numpy") or declared.get("dtype_str") or _SCALARS.get(str(declared.get("dtype")))
    try:
        return np.dtype(name) if name else None
    except (TypeError, ValueError, SyntaxError):
        return None
