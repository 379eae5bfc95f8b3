"""Data that a run keeps in files of their own, one value an event."""

import time
import warnings
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from filebroker.assets.datums import Datums
from filebroker.assets.handlers import Handlers
from filebroker.assets.series import Series, StreamAssets
from filebroker.cataloging.run import Run, Stream
from filebroker.ground.documents import Document
from filebroker.ground.errors import AssetWarning
from filebroker.storing.run_files import RunFiles

if TYPE_CHECKING:
    import pandas as pd

#: Files of a run that is in progress, or ended so recently, may appear in a moment.
_RECENT_SECONDS, _PATIENCE_SECONDS = 10.0, 2.0
#: Types of single values by the names that descriptors have for them.
_SCALARS = {"number": "float64", "integer": "int64", "boolean": "bool"}


class External:
    """The external data of one run.

    Parameters
    ----------
    run
        The run.
    handlers
        Who reads what, and where roots have moved.
    """

    def __init__(self, run: Run, handlers: Handlers) -> None:
        self.run, self.handlers = run, handlers
        self._files: RunFiles | None = None
        self._columns: dict[tuple[str, str], ExternalColumn] = {}
        self._series: dict[tuple[str, tuple[str, ...]], Series] = {}
        self._streamed: dict[tuple[str, ...], list[str]] = {}

    def _load(self) -> None:
        """Take in the documents that tell of external data; of a run in progress, again when it has grown."""
        files = self.run.files
        if files is not self._files:
            documents = [pair for _, pair in files.line_items()]
            self._datums = Datums(documents, self.handlers, self._patience())
            self._assets = StreamAssets(documents, self.handlers)
            self._descriptors = {doc["uid"]: doc for name, doc in documents if name == "descriptor"}
            self._files = files
            self._columns.clear()
            self._series.clear()
            self._streamed.clear()

    def _patience(self) -> float:
        """Give for how many seconds to wait for a file: detectors may still be writing those of a recent run."""
        stop = self.run.stop
        is_recent = stop is None or time.time() - stop["time"] < _RECENT_SECONDS
        return _PATIENCE_SECONDS if is_recent and self.run.state != "interrupted" else 0.0

    @property
    def datums(self) -> Datums:
        """What resource and datum documents tell of."""
        self._load()
        return self._datums

    def files_of(self, resource: Mapping[str, Any]) -> list[str]:
        """Give the files of a resource, where they are now.

        Parameters
        ----------
        resource
            A resource or stream resource document of the run.

        Raises
        ------
        MissingHandler
            Nothing is registered that can list them.
        """
        self._load()
        is_stream = any(doc["uid"] == resource["uid"] for doc in self._assets.resources)
        return self._assets.files_of(resource) if is_stream else self._datums.files_of(resource)

    def keys(self, stream: Stream) -> list[str]:
        """Give the data keys of a stream whose values are in files of their own.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        self._load()
        declared = [key for doc in stream.descriptors for key, item in doc["data_keys"].items() if _is_external(item)]
        return list(dict.fromkeys([*declared, *self._keys_streamed(*_uids(stream))]))

    def _keys_streamed(self, *descriptor_uids: str) -> list[str]:
        """Give the data keys that stream resources have the values of."""
        if descriptor_uids not in self._streamed:
            self._streamed[descriptor_uids] = self._assets.keys(descriptor_uids)
        return self._streamed[descriptor_uids]

    def _series_of(self, key: str, *descriptor_uids: str) -> Series:
        if (key, descriptor_uids) not in self._series:
            self._series[key, descriptor_uids] = self._assets.series(key, descriptor_uids)
        return self._series[key, descriptor_uids]

    def column(self, stream: Stream, key: str) -> "ExternalColumn | None":
        """Give the values of a data key; None if they are in the events themselves.

        Parameters
        ----------
        stream
            A stream of the run.
        key
            A data key.
        """
        if key not in self.keys(stream):
            return None
        known = self._columns.get((stream.name, key))
        if known is None:
            known = self._columns[stream.name, key] = self._make_column(stream, key)
        return known

    def to_pandas(
        self, stream: Stream, keys: Sequence[str] | None, filled: Collection[str], *, datetimes: bool = False
    ) -> "pd.DataFrame":
        """Give a stream as a table, filled.

        Parameters
        ----------
        stream, keys, datetimes
            As for `Stream.to_pandas`.
        filled
            The data keys to fill.

        Returns
        -------
        pandas.DataFrame
            As `Stream.to_pandas` gives it.  A stream that has its values in files alone, and no events, has a row for
            each of them, with unknown times.
        """
        from filebroker.cataloging import frames

        frame = stream.to_pandas(keys, datetimes=datetimes)
        columns = self._columns_of(stream, filled)
        if not columns:
            return frame
        if not len(frame):
            frame = frames.frame_without_events(self.seq_nums(stream), datetimes=datetimes)
        return frames.filled(frame, columns, stream.keys)

    def _columns_of(self, stream: Stream, keys: Collection[str]) -> "dict[str, ExternalColumn]":
        found = {key: self.column(stream, key) for key in self.keys(stream) if key in keys}
        return {key: column for key, column in found.items() if column is not None}

    def _make_column(self, stream: Stream, key: str) -> "ExternalColumn":
        uids = _uids(stream)
        if key in self._keys_streamed(*uids):
            return SeriesColumn(self._series_of(key, *uids), row_numbers(stream, self))
        frame = stream.to_pandas([key])
        values = frame[key].tolist() if key in frame else [None] * len(frame)
        items = (doc["data_keys"].get(key) for doc in stream.descriptors)
        declared = next((item for item in items if isinstance(item, Mapping)), {})
        return DatumColumn(f"{key!r} of stream {stream.name!r} of run {self.run.uid!r}", values, self._datums, declared)

    def seq_nums(self, stream: Stream) -> list[int]:
        """Give the numbers of the events that a stream has values for in files, whether it has the events or not.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        self._load()
        uids = _uids(stream)
        series = [self._series_of(key, *uids) for key in self._keys_streamed(*uids)]
        return sorted({number for item in series for numbers in item.seq_nums for number in numbers})

    def fill(self, event: Document, keys: Collection[str] | None = None) -> Document:
        """Give an event with the data in place of the references to them.

        Parameters
        ----------
        event
            An event of the run.  It is not modified.
        keys
            The data keys to fill, None for all.

        Returns
        -------
        dict
            The event; ``filled`` has for each filled key what it was filled from, which is true.

        Raises
        ------
        MissingHandler, UnknownDatum, MissingAsset, UnreadableAsset
            The data cannot be read.
        """
        if self._files is None or not self._knows(event):
            self._load()
        data, filled = dict(event["data"]), dict(event.get("filled") or {})
        stamps = dict(event["timestamps"])
        uid = event["descriptor"]
        for key, item in self._descriptors.get(uid, {"data_keys": {}})["data_keys"].items():
            if (keys is not None and key not in keys) or filled.get(key):
                continue
            if isinstance(data.get(key), str) and (_is_external(item) or filled.get(key) is False):
                filled[key] = data[key]
                data[key] = as_array(self._datums.load(data[key]))
            elif key not in data and key in self._keys_streamed(uid):
                series = self._series_of(key, uid)
                number = event["seq_num"]
                if number in series:
                    data[key], filled[key], stamps[key] = series.load(number), series.datum_of(number), event["time"]
        return {**event, "data": data, "timestamps": stamps, **({"filled": filled} if filled else {})}

    def _knows(self, event: Document) -> bool:
        """Tell whether the documents that an event refers to were taken in; of a run in progress they may be new."""
        if self.run.state != "live":
            return True
        descriptor = self._descriptors.get(event["descriptor"])
        if descriptor is None or self._keys_streamed(descriptor["uid"]):
            return False
        values = (event["data"].get(key) for key, item in descriptor["data_keys"].items() if _is_external(item))
        return all(value in self._datums for value in values if isinstance(value, str))


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
            return _objects([first, *values][: len(numbers)]) if numbers else self._empty()
        result = np.empty((len(numbers), *first.shape), first.dtype)
        result[0] = first
        for position, value in enumerate(values, 1):
            if np.shape(value) != first.shape or getattr(value, "dtype", None) != first.dtype:
                return _objects([*result[:position], value, *values])
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
        self.shape, self.dtype = _declared_shape(declared), _declared_dtype(declared)
        self._is_checked = False

    def __len__(self) -> int:
        return len(self._values)

    def _value(self, row: int) -> Any:
        value = self._values[row]
        if not isinstance(value, str):
            return value  # filled before it was recorded, or missing
        found = as_array(self._datums.load(value))
        if isinstance(found, np.ndarray) and not self._is_checked:
            self._check(found)
        return found

    def _check(self, found: "np.ndarray[Any, Any]") -> None:
        """Learn what the data are really like, and tell if that is not what was declared."""
        self._is_checked = True
        if self.shape is not None and self.shape != found.shape:
            warnings.warn(
                f"{self._label} is declared to have shape {self.shape}, and its files have {found.shape}, which counts",
                AssetWarning,
                stacklevel=4,
            )
        self.shape, self.dtype = found.shape, found.dtype


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

    @property
    def _is_whole(self) -> bool:
        return all(number in self._series for number in self._seq_nums)

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of one value."""
        return self._series.shape

    @property
    def dtype(self) -> "np.dtype[Any]":  # type: ignore[override]
        """The type of the values; if some events have none, one that has NaN for them."""
        dtype = self._series.dtype
        return dtype if self._is_whole else np.result_type(dtype, np.float64)

    def _value(self, row: int) -> Any:
        number = self._seq_nums[row]
        return self._series.load(number) if number in self._series else np.full(self.shape, np.nan)

    def stack(self, rows: slice = slice(None)) -> "np.ndarray[Any, Any]":
        """Read many values as one array; see `ExternalColumn.stack`."""
        numbers = self._seq_nums[rows]
        present = [position for position, number in enumerate(numbers) if number in self._series]
        if len(present) == len(numbers):
            return self._series.read(numbers)
        result = np.full((len(numbers), *self.shape), np.nan, self.dtype)
        if present:
            result[present] = self._series.read([numbers[position] for position in present])
        return result


def row_numbers(stream: Stream, external: External) -> list[int]:
    """Give the number of each row of a stream: of its events, or of its values in files if it has no events.

    Parameters
    ----------
    stream
        The stream.
    external
        The external data of its run.
    """
    numbers: list[int] = stream.to_pandas([]).index.tolist()
    return numbers or external.seq_nums(stream)


def _uids(stream: Stream) -> list[str]:
    return [doc["uid"] for doc in stream.descriptors]


def as_array(value: Any) -> Any:
    """Give what a handler gave as an array, read whole; what is no array, such as a DataFrame, as it is."""
    if isinstance(value, list | tuple):
        try:
            return np.asarray(value)
        except ValueError:  # of different lengths
            return value
    is_array = hasattr(value, "__array__") and hasattr(value, "dtype")
    return np.asarray(value) if is_array else value


def _is_external(item: Any) -> bool:
    return isinstance(item, Mapping) and bool(item.get("external"))


def _objects(values: Sequence[Any]) -> "np.ndarray[Any, Any]":
    result = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        result[row] = value
    return result


def _declared_shape(declared: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Give the shape a descriptor declares, None if it leaves something open."""
    shape = declared.get("shape")
    is_whole = isinstance(shape, list) and all(isinstance(size, int) and size > 0 for size in shape)
    if not is_whole or (not shape and declared.get("dtype") == "array"):
        return None
    return tuple(shape)  # type: ignore[arg-type]


def _declared_dtype(declared: Mapping[str, Any]) -> "np.dtype[Any] | None":
    """Give the type a descriptor declares, None if it leaves that open."""
    name = declared.get("dtype_numpy") or declared.get("dtype_str") or _SCALARS.get(str(declared.get("dtype")))
    try:
        return np.dtype(name) if name else None
    except TypeError:
        return None
