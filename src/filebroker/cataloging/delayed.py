"""External data as dask arrays: nothing is read before it is computed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from filebroker.cataloging.arrays import Array, is_missing, stacked
from filebroker.ground.errors import UnreadableAsset
from filebroker.ground.packages import need

if TYPE_CHECKING:
    from filebroker.cataloging.external_columns import ExternalColumn

#: Larger integers may lose digits as floats of 64 bits.
_EXACT_INTEGER = 1 << 53
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
            first = next((value for value in column if not is_missing(value)), None)
            shape, dtype = (), np.dtype(object)
            if isinstance(first, np.ndarray | np.generic):
                known = column.dtype  # by now, and with room for events that have none
                shape, dtype = first.shape, first.dtype if known is None else known
        self.shape: tuple[int, ...] = (len(column), *shape)
        self.dtype: np.dtype[Any] = np.dtype("float64") if dtype is None else dtype
        self._because = " (for want of dtype_numpy in the descriptor)" if dtype is None else ""

    @property
    def ndim(self) -> int:
        """The number of dimensions, that of events included."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> Any:
        """Read a part: of the events what is asked for and no more, and of their values what is left of it."""
        rows, *rest = index if isinstance(index, tuple) else (index,)
        if not isinstance(rows, slice):
            return self._read(rows, rows + 1, whole=False)[(0, *rest)]
        numbers = range(self.shape[0])[rows]
        if not numbers:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        low = min(numbers)
        block = self._read(low, max(numbers) + 1, whole=self._is_whole(rest))
        chosen = [number - low for number in numbers] if numbers.step != 1 else slice(None)
        return block[chosen] if self._is_whole(rest) else block[(chosen, *rest)]

    def _is_whole(self, rest: Sequence[Any]) -> bool:
        """Tell whether all of each value is asked for."""
        sizes = self.shape[1 : len(rest) + 1]
        return all(
            isinstance(part, slice) and range(size)[part] == range(size) for part, size in zip(rest, sizes, strict=True)
        )

    def _read(self, begin: int, end: int, *, whole: bool) -> Array:
        block = self._column.stack(slice(begin, end))
        if block.dtype == object and self.dtype != object:
            block = self._without_gaps(block)
        return self._cast(self._fitted(block, whole=whole))

    def _cast(self, block: Array) -> Array:
        """Give data the type that was promised: dask would bend all of them to that of the first chunk.

        Raises
        ------
        UnreadableAsset
            They would lose something.
        """
        if not (np.can_cast(block.dtype, self.dtype, "safe") and self._holds(block)):
            raise UnreadableAsset(self._unlike(f"type {self.dtype}{self._because}", f"type {block.dtype}"))
        return block.astype(self.dtype, copy=False)

    def _holds(self, block: Array) -> bool:
        """Tell whether integers keep all their digits, which numpy takes for granted."""
        is_exact = block.dtype.kind not in "iu" or self.dtype.kind not in "fc" or not block.size
        return is_exact or (int(block.max()) <= _EXACT_INTEGER and int(block.min()) >= -_EXACT_INTEGER)

    def _without_gaps(self, block: Array) -> Array:
        """Give values one by one as one array, with NaN for events that have none."""
        if all(map(is_missing, block.flat)):
            return np.full((len(block), *self.shape[1:]), np.nan)
        return stacked(block.tolist())

    def _fitted(self, block: Array, *, whole: bool) -> Array:
        """Give data the shape that was promised, if nothing but axes of length 1 stands between.

        Values that are asked for whole, and have as many axes, are given as they are, because reading them and
        reducing them comes out right; the column has warned of their shape.

        Raises
        ------
        UnreadableAsset
            They have another shape, and other axes or a part of them is asked for.
        """
        promised = (len(block), *self.shape[1:])
        if block.shape == promised:
            return block
        if _without_ones(block.shape[1:]) == _without_ones(promised[1:]) and block.dtype != object:
            return block.reshape(promised)
        if whole and block.dtype != object and block.ndim == len(promised):
            return block
        found = "different shapes" if block.dtype == object else f"shape {block.shape[1:]}"
        raise UnreadableAsset(self._unlike(f"shape {promised[1:]}", found))

    def _unlike(self, declared: str, found: str) -> str:
        return (
            f"{self._label} is declared to have {declared}, and its files have {found}; read() gives the data as they "
            "are, and to_dask() of the same run knows them after that, as in run.primary.read(); run.primary.to_dask()"
        )

    def __len__(self) -> int:
        return self.shape[0]


def delayed_array(values: "DelayedColumn") -> Any:
    """Give external values as a dask array.

    Parameters
    ----------
    values
        The values.

    Returns
    -------
    dask.array.Array
        One chunk an event for images; more events a chunk for smaller values.  Its name is its own: the same
        run may be read by other handlers, or have a corrected copy of the same uid.
    """
    count, *sizes = values.shape
    size = max(1, int(np.prod(sizes, dtype="int64")) * values.dtype.itemsize)
    rows = 1 if len(sizes) > 1 else max(1, _CHUNK_BYTES // size)
    return need("dask.array").from_array(
        values,
        chunks=(max(1, min(rows, count)), *(-1 for _ in sizes)),
        name=False,
        fancy=False,
        meta=np.empty((0,) * values.ndim, values.dtype),
    )


def held_array(values: Array) -> Any:
    """Give an array that is in memory as a dask array.

    Parameters
    ----------
    values
        The array.

    Returns
    -------
    dask.array.Array
        The same values.  Its name is its own, because to tell one from the data takes long.
    """
    chunks = -1 if values.dtype == object else "auto"
    return need("dask.array").from_array(values, chunks=chunks, name=False)


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]
