"""HDF5 files, also while they are being written.

A file is opened for each reading and closed after it: what is left open would keep writers from opening it again.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from filebroker.assets.places import is_url
from filebroker.assets.shapes import Declared
from filebroker.assets.uris import opened
from filebroker.ground.errors import UnreadableAsset
from filebroker.ground.forks import renew_in_children
from filebroker.ground.packages import need

#: Kinds of compression that HDF5 does not bring, and files often name by number alone.
_FILTERS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32026: "blosc2"}
#: So many names of datasets are listed in an error.
_LISTED = 20


class _Turns:
    """Readings, one after the other: the library has one state for all threads."""

    def __init__(self) -> None:
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        self.lock = threading.RLock()


_turns = _Turns()


class Selection:
    """A dataset, or what a ``slice`` and ``squeeze`` among the parameters of its stream_resource leave of it.

    Attributes
    ----------
    shape : tuple of int
        The number of rows, and the shape of one.
    dtype : numpy.dtype
        Of the elements; strings are objects.
    """

    def __init__(self, dataset: Any, parameters: Mapping[str, Any]) -> None:
        self._dataset = dataset
        self._key = _key(parameters.get("slice"), dataset.shape)
        axes = [(axis, item) for axis, item in enumerate(self._key) if isinstance(item, slice)]
        self._axis: int | None = axes[0][0] if axes else None
        self._along = axes[0][1] if axes else slice(None)
        lengths = _lengths(self._key, dataset.shape) or [1]
        self._squeeze = bool(parameters.get("squeeze"))
        self._row = tuple(length for length in lengths[1:] if not (self._squeeze and length == 1))
        self.shape = (lengths[0], *self._row)
        self.dtype: np.dtype[Any] = dataset.dtype

    def __getitem__(self, rows: slice) -> np.ndarray[Any, Any]:
        """Read a range of rows."""
        key: list[slice | int] = list(self._key)
        count = len(range(self.shape[0])[rows])
        if self._axis is not None:
            chosen = range(self._dataset.shape[self._axis])[self._along][rows]
            key[self._axis] = slice(chosen.start, chosen.stop, chosen.step)
        source = self._dataset.asstr() if self._is_text() else self._dataset
        try:
            found = np.asarray(source[tuple(key)])
        except OSError as error:
            raise _unread(self._dataset, error) from error
        return found.reshape(count, *self._row)

    def _is_text(self) -> bool:
        return need("h5py").check_string_dtype(self._dataset.dtype) is not None


@contextmanager
def rows(path: str, parameters: Mapping[str, Any], declared: Declared | None = None) -> Iterator[Selection]:
    """Open a dataset, for the time of a ``with``; other threads wait.

    Parameters
    ----------
    path
        The path or URL of the file.
    parameters
        Those of the stream_resource: ``dataset`` (once ``path``) names the dataset, ``swmr`` tells that it may be
        being written, ``slice`` and ``squeeze`` choose a part of it.
    declared
        Not looked at.

    Raises
    ------
    UnreadableAsset
        There is no such dataset, or its compression needs a package that is not installed.
    """
    with _turns.lock, _opened(path, bool(parameters.get("swmr"))) as file:
        yield Selection(_dataset(file, path, parameters), parameters)


def read(path: str, parameters: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read the whole dataset in a file of a sequence.

    Raises
    ------
    UnreadableAsset
        As for `rows`.
    """
    with _turns.lock, _opened(path, bool(parameters.get("swmr"))) as file:
        dataset = _dataset(file, path, parameters)
        found = Selection(dataset, parameters)[:]
        return found if dataset.shape else found[0]


@contextmanager
def _opened(path: str, swmr: bool) -> Iterator[Any]:
    h5py = need("h5py")
    _plugins()
    if is_url(path):
        with opened(path) as remote, h5py.File(remote, "r") as file:
            yield file
        return
    with _open_local(h5py, path, swmr) as file:
        yield file


def _open_local(h5py: Any, path: str, swmr: bool) -> Any:
    """Open a file without keeping others from it, whatever they do with it.

    A file that is written with SWMR by another process can only be opened with it.  One that this process writes can
    only be opened with the same locking.
    """
    failure: OSError | None = None
    for way in (swmr, not swmr):
        for locking in ({"locking": False}, {}):
            try:
                return h5py.File(path, "r", swmr=way, **locking)
            except FileNotFoundError:
                raise
            except OSError as error:
                failure = failure or error
    raise UnreadableAsset(_unopened(h5py, path, failure)) from failure


def _unopened(h5py: Any, path: str, failure: OSError | None) -> str:
    with open(path, "rb") as file:
        file.read(1)  # if this is not allowed, that is the reason
    if not h5py.is_hdf5(path):
        return f"{path} is not an HDF5 file"
    return (
        f"{path} cannot be opened: {failure}. A program may be writing it without SWMR, or have died while writing; "
        f"wait until it is done, or mend the file with h5clear -s"
    )


def _dataset(file: Any, path: str, parameters: Mapping[str, Any]) -> Any:
    h5py = need("h5py")
    name = parameters.get("dataset") or parameters.get("path") or ""
    with suppress(KeyError):
        if isinstance(found := file[name or "/"], h5py.Dataset):
            return found
    names = _datasets(file, h5py)
    if not name and len(names) == 1:
        return file[names[0]]
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    wanted = f"no dataset {name!r}" if name else "more than one dataset, and its stream_resource names none"
    raise UnreadableAsset(f"{path} has {wanted}; it has {listed or 'none at all'}")


def _datasets(file: Any, h5py: Any) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(f"/{name}") if isinstance(item, h5py.Dataset) else None)
    return names


def _unread(dataset: Any, error: OSError) -> UnreadableAsset:
    h5z, path = need("h5py").h5z, dataset.file.filename
    created = dataset.id.get_create_plist()
    used = [created.get_filter(place) for place in range(created.get_nfilters())]
    absent = [_filter_name(code, name) for code, _, _, name in used if not h5z.filter_avail(code)]
    if not absent:
        return UnreadableAsset(f"{dataset.name} in {path} cannot be read: {error}")
    return UnreadableAsset(
        f"{dataset.name} in {path} is compressed with {', '.join(absent)}, which HDF5 does not bring: "
        f"pip install hdf5plugin"
    )


def _filter_name(code: int, name: bytes) -> str:
    return name.decode(errors="replace") or _FILTERS.get(code) or f"filter number {code}"


@cache
def _plugins() -> None:
    """Make more kinds of compression known to HDF5, if the package with them is installed."""
    with suppress(ImportError):
        import_module("hdf5plugin")


def _key(written: Any, shape: tuple[int, ...]) -> list[slice | int]:
    """Give what selects a part of a dataset, written as ``":, 0, 2:5"`` or as a list of such parts."""
    parts = written.strip("()[] ").split(",") if isinstance(written, str) else list(written or ())
    key = [_part(str(part).strip()) for part in parts if str(part).strip()]
    return [*key, *[slice(None)] * (len(shape) - len(key))]


def _part(text: str) -> slice | int:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return slice(*(int(bound) if bound.strip() else None for bound in text.split(":")))


def _lengths(key: list[slice | int], shape: tuple[int, ...]) -> list[int]:
    pairs = zip(key, shape, strict=True)
    return [len(range(length)[item]) for item, length in pairs if isinstance(item, slice)]
