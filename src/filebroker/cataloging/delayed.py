"""External data as dask arrays: nothing is read before it is computed."""

from typing import TYPE_CHECKING, Any

import numpy as np

from filebroker.cataloging.arrays import Array, is_missing, stacked
from filebroker.ground.errors import UnreadableAsset
from filebroker.ground.packages import need

if TYPE_CHECKING:
    from filebroker.cataloging.external_columns import ExternalColumn

#: Values that are no images are read so many bytes at a time.
_CHUNK_BYTES = 1 << 20


class DelayedColumn:
    """The values of one data key as dask wants an array: a shape, a dtype, and parts of it on request.

    It remembers the shape and dtype that it promised, because the column may learn better when it is read.

    Parameters
    ----------
    column
        The values.
    label
        What they are, for messages.

    Attributes
    ----------
    shape : tuple of int
        ``(events, *shape)``.
    dtype : numpy.dtype
        Of the values; float64 if nothing says otherwise.
    """

    def __init__(self, column: "ExternalColumn", label: str) -> None:
        self._column, self._label = column, label
        shape, dtype = column.shape, column.dtype
        if shape is None:
            # Nothing tells the shape but the data; the first value that is there stands for all.
            first = next((value for value in column if isinstance(value, np.ndarray | np.generic)), None)
            shape = () if first is None else first.shape
            dtype = np.dtype(object) if first is None else first.dtype
        self.shape: tuple[int, ...] = (len(column), *shape)
        self.dtype: np.dtype[Any] = np.dtype("float64") if dtype is None else dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions, that of events included."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> Any:
        """Read a part: of the events what is asked for and no more, and of their values what is left of it."""
        rows, *rest = index if isinstance(index, tuple) else (index,)
        if not isinstance(rows, slice):
            return self._read(rows, rows + 1)[(0, *rest)]
        numbers = range(self.shape[0])[rows]
        if not numbers:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        low = min(numbers)
        block = self._read(low, max(numbers) + 1)
        return block[([number - low for number in numbers] if numbers.step != 1 else slice(None), *rest)]

    def _read(self, begin: int, end: int) -> Array:
        block = self._column.stack(slice(begin, end))
        if block.dtype == object and self.dtype != object:
            block = self._without_gaps(block)
        return self._cast(self._fitted(block))

    def _cast(self, block: Array) -> Array:
        """Give data the type that was promised: dask would bend all of them to that of the first chunk.

        Raises
        ------
        UnreadableAsset
            They would lose something.
        """
        if not np.can_cast(block.dtype, self.dtype, "safe"):
            raise UnreadableAsset(self._unlike(f"type {self.dtype}", f"type {block.dtype}"))
        return block.astype(self.dtype, copy=False)

    def _without_gaps(self, block: Array) -> Array:
        """Give values one by one as one array, with NaN for events that have none."""
        if all(map(is_missing, block.flat)):
            return np.full((len(block), *self.shape[1:]), np.nan)
        return stacked(block.tolist())

    def _fitted(self, block: Array) -> Array:
        """Give data the shape that was promised, if nothing but axes of length 1 stands between.

        Raises
        ------
        UnreadableAsset
            They have another shape.
        """
        promised = (len(block), *self.shape[1:])
        if block.shape == promised:
            return block
        if _without_ones(block.shape[1:]) == _without_ones(promised[1:]) and block.dtype != object:
            return block.reshape(promised)
        found = "different shapes" if block.dtype == object else f"shape {block.shape[1:]}"
        raise UnreadableAsset(self._unlike(f"shape {promised[1:]}", found))

    def _unlike(self, declared: str, found: str) -> str:
        return (
            f"{self._label} is declared to have {declared}, and its files have {found}; read() gives the data as they "
            "are, and after that a new to_dask() may know them"
        )

    def __len__(self) -> int:
        return self.shape[0]


def delayed_array(values: "DelayedColumn", name: str) -> Any:
    """Give external values as a dask array.

    Parameters
    ----------
    values
        The values.
    name
        A name that no other data has, the same whenever the same data are asked for.

    Returns
    -------
    dask.array.Array
        One chunk an event for images; more events a chunk for smaller values.
    """
    count, *sizes = values.shape
    size = max(1, int(np.prod(sizes, dtype="int64")) * values.dtype.itemsize)
    rows = 1 if len(sizes) > 1 else max(1, _CHUNK_BYTES // size)
    return need("dask.array").from_array(
        values,
        chunks=(max(1, min(rows, count)), *(-1 for _ in sizes)),
        name=name,
        fancy=False,
        meta=np.empty((0,) * values.ndim, values.dtype),
    )


def held_array(values: Array, name: str) -> Any:
    """Give an array that is in memory as a dask array.

    Parameters
    ----------
    values
        The array.
    name
        As for `delayed_array`.

    Returns
    -------
    dask.array.Array
        The same values.
    """
    chunks = -1 if values.dtype == object else "auto"
    return need("dask.array").from_array(values, chunks=chunks, name=name)


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]
