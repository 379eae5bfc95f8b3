"""Values of documents as datasets of HDF5: names, text, numbers, and columns that grow."""

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from filebroker.cataloging.arrays import as_array, is_missing, objects, stacked
from filebroker.ground.packages import need
from filebroker.ground.texts import encodable
from filebroker.transfer.outgoing.cells import CellKind, as_json

Array = np.ndarray[Any, Any]

#: So many rows of numbers are in one chunk at most, and so many bytes of images, if that is more than one.
_CHUNK_ROWS, _CHUNK_BYTES = 16384, 1 << 20
#: Chunks larger than this are compressed; it takes time, and nearly nothing is won for small ones.
_COMPRESSED_BYTES = 1 << 14
_ODD = re.compile(r"[^A-Za-z0-9_]")
#: What an attribute can hold at most in the oldest files.
_LONGEST_ATTRIBUTE = 60_000


def nexus_name(name: str, taken: Iterable[str] = ()) -> str:
    """Give a name that NeXus allows for a group or a field.

    Parameters
    ----------
    name
        Any text.
    taken
        Names that are in use.

    Examples
    --------
    >>> nexus_name("motor"), nexus_name("../x"), nexus_name("dark frame"), nexus_name("x", ["x"])
    ('motor', '___x', 'dark_frame', 'x_2')
    """
    base = _ODD.sub("_", name)[:200] or "_"
    found, number, used = base, 2, set(taken)
    while found in used:
        found, number = f"{base}_{number}", number + 1
    return found


def text_of(value: Any) -> str:
    r"""Give a text that HDF5 can hold.

    Examples
    --------
    >>> text_of("a\x00b")
    'a\\x00b'
    """
    return str(encodable(str(value))).replace("\x00", "\\x00")


class _Disk(io.FileIO):
    """A file that is written, and from the first failure on only pretends to be.

    HDF5 brings to the disk what it kept in memory when objects are closed.  Where it cannot, the process dies.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer) or 0
        if self.error is not None:  # what is not there counts as written, so it can be read
            view = memoryview(buffer).cast("B")
            view[count:] = bytes(len(view) - count)
            return len(view)
        return count

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise self.error


@contextlib.contextmanager
def new_file(path: str) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Make an HDF5 file.

    Parameters
    ----------
    path
        Where it shall be.

    Yields
    ------
    tuple
        The file, and what raises an `OSError` if nothing that is written arrives any more.

    Raises
    ------
    OSError
        The filesystem refused.
    """
    with _Disk(path) as disk:
        try:
            with need("h5py").File(disk, "w", track_order=True) as file:
                yield file, disk.check
        finally:
            disk.check()  # which is the cause of whatever HDF5 made of it


def set_attributes(item: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes of a group or dataset; None and empty ones are left out.

    Parameters
    ----------
    item
        The group or dataset.
    attributes
        Strings, numbers, and lists of strings.
    """
    for name, value in attributes.items():
        if value is None or value == "" or value == []:
            continue
        if isinstance(value, list):
            item.attrs[name] = np.array([text_of(part) for part in value], dtype=need("h5py").string_dtype())
        elif isinstance(value, bool | int | float | np.generic):
            item.attrs[name] = value
        else:
            item.attrs[name] = text_of(value)[:_LONGEST_ATTRIBUTE]


def put_value(group: Any, name: str, value: Any, **attributes: Any) -> None:
    """Put a value of a document into a group: numbers and text as they are, the rest as JSON.

    Parameters
    ----------
    group
        The group.
    name
        What the value is called there.
    value
        Anything that a document can have.
    **attributes
        Those of the dataset.
    """
    array = _simple(value)
    if array is None:
        attributes["encoding"] = "json"
        array = as_json(value)
    if isinstance(array, str):
        data = group.create_dataset(name, data=text_of(array), dtype=need("h5py").string_dtype())
    elif array.dtype.kind == "U":
        texts = np.array([text_of(text) for text in array.flat], dtype=object).reshape(array.shape)
        data = group.create_dataset(name, data=texts, dtype=need("h5py").string_dtype())
    else:
        data = group.create_dataset(name, data=array)
    set_attributes(data, attributes)


def _simple(value: Any) -> Any:
    """Give a value as text or as an array of numbers, booleans or strings; None if it is neither."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) or value is None:
        return None
    if isinstance(value, list | tuple) and not value:
        return None
    array = stacked(value) if isinstance(value, list | tuple) else np.asarray(value)
    is_known = array.dtype.kind in "biuf" or (array.dtype.kind == "U" and array.ndim)
    return array if is_known else None


class GrowingDataset:
    """A dataset of one value an event, which is written some events at a time.

    Parameters
    ----------
    group
        Where it is.
    name
        What it is called there.
    kind
        What its values are.
    rows
        How many there are at most.

    Attributes
    ----------
    data : h5py.Dataset
        The dataset; its first axis counts the events.
    """

    def __init__(self, group: Any, name: str, kind: CellKind, rows: int) -> None:
        h5py = need("h5py")
        self._kind = kind
        shape = kind.shape if kind.form == "array" else ()
        dtype: Any = kind.dtype
        if kind.form in ("text", "json"):
            dtype = h5py.string_dtype()
        elif kind.form == "ragged":
            dtype = h5py.vlen_dtype(kind.dtype)
        self.data = group.create_dataset(
            name, (0, *shape), dtype, maxshape=(None, *shape), **_storage(kind, shape, rows)
        )
        if kind.form == "json":
            self.data.attrs["encoding"] = "json"

    @property
    def is_number(self) -> bool:
        """Whether it can be plotted."""
        return self._kind.form == "array" and self._kind.dtype.kind in "biuf"

    def write(self, first: int, values: Sequence[Any] | Array) -> None:
        """Write some rows.

        Parameters
        ----------
        first
            The number of the first of them.
        values
            One value a row; None, NaN or `pandas.NA` for what is missing.
        """
        if len(values):
            block = self._block(values)
            self.extend(first + len(block))
            if self._kind.form == "ragged":  # h5py would make one array of them, if they happen to be of one length
                self.data.write_direct(block.astype(self.data.dtype), dest_sel=np.s_[first : first + len(block)])
            else:
                self.data[first : first + len(block)] = block

    def write_one(self, row: int, value: Array) -> None:
        """Write one row; those before it that were not written have the fill value."""
        self.extend(row + 1)
        self.data[row] = value

    def extend(self, rows: int) -> None:
        """Make room for so many rows."""
        if rows > self.data.shape[0]:
            self.data.resize(rows, 0)

    def _block(self, values: Sequence[Any] | Array) -> Array:
        kind = self._kind
        if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
            return values
        cells = [None if _is_nothing(value) else value for value in values]
        if kind.form in ("text", "json"):
            write = as_json if kind.form == "json" else str
            return objects("" if cell is None else text_of(write(cell)) for cell in cells)
        if kind.form == "ragged":
            return objects(np.asarray([] if cell is None else as_array(cell), kind.dtype) for cell in cells)
        block = np.full((len(cells), *kind.shape), _fill(kind.dtype), kind.dtype)
        for row, cell in enumerate(cells):
            if cell is not None:
                block[row] = cell
        return block


def _storage(kind: CellKind, shape: tuple[int, ...], rows: int) -> dict[str, Any]:
    """Give how a dataset is stored: chunks of whole values, the larger ones compressed."""
    size = max(1, int(np.prod(shape))) * (kind.dtype.itemsize if kind.form == "array" else 16)
    count = max(1, min(rows, _CHUNK_ROWS, _CHUNK_BYTES // size))
    options: dict[str, Any] = {"chunks": (count, *(max(1, length) for length in shape))}
    if kind.form == "array":
        options["fillvalue"] = _fill(kind.dtype)
        if count * size >= _COMPRESSED_BYTES:
            options |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    return options


def _fill(dtype: "np.dtype[Any]") -> Any:
    """Give what stands for a missing value."""
    return np.nan if dtype.kind in "fc" else np.zeros((), dtype)[()]


def _is_nothing(value: Any) -> bool:
    import pandas as pd

    return value is pd.NA or is_missing(value)
