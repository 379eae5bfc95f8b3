"""Streams as xarray datasets."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from filebroker.cataloging import arrays
from filebroker.cataloging.arrays import Array
from filebroker.cataloging.delayed import DelayedColumn, delayed_array, held_array
from filebroker.cataloging.external import External
from filebroker.cataloging.run import Stream
from filebroker.ground.cautions import warn
from filebroker.ground.documents import Document, mapping_or_empty
from filebroker.ground.errors import AssetWarning, InvalidOption
from filebroker.ground.packages import need
from filebroker.storing.pages import shown_name

if TYPE_CHECKING:
    import xarray

SubDict = Literal["data", "timestamps"]
#: Names of variables with their values, of which the first axis is that of events.
_Variables = dict[str, Any]


def dataset(
    stream: Stream,
    external: External,
    *,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    lazy: bool,
    sub_dict: SubDict = "data",
) -> "xarray.Dataset":
    """Give a stream as a dataset.

    Parameters
    ----------
    stream
        The stream.
    external
        The external data of its run.
    include, exclude
        Data keys to give, or to leave out; unknown ones are passed over.
    lazy
        Give dask arrays, and read no external data.
    sub_dict
        The part of the events: ``data``, or ``timestamps`` with the time at which each value was taken.

    Returns
    -------
    xarray.Dataset
        One variable a data key, with the dimension ``time`` (one event each) and those of its own.  The
        coordinate ``time`` has seconds since 1970, UTC.  A stream that has values in files and no events
        has no such coordinate, because nothing tells the times.  A data key ``time`` is named
        ``_data.time``, as in a table.

    Raises
    ------
    InvalidOption
        ``include`` and ``exclude`` are both given, or ``sub_dict`` is none of its values.
    MissingHandler, UnknownDatum, MissingAsset, UnreadableAsset
        External data cannot be read.
    MissingPackage
        xarray, or dask, is not installed.
    """
    need("xarray")  # what is missing is told before anything is read
    keys = _chosen(stream.keys, include, exclude)
    if sub_dict not in ("data", "timestamps"):
        raise InvalidOption(f"sub_dict={sub_dict!r} means nothing; it is 'data' or 'timestamps'")
    make = _data if sub_dict == "data" else _timestamps
    times, variables = make(stream, external, keys, lazy)
    declared = _declared(stream.descriptors)
    if lazy:
        variables = {key: _as_dask(value) for key, value in variables.items()}
    objects = _objects_of_keys(stream.descriptors)
    return _assembled(times, variables, declared, lambda key: {"object": objects[key]} if key in objects else {})


def delayed_values(stream: Stream, external: External, key: str) -> Any:
    """Give the external values of a data key as a dask array; nothing is read.

    Parameters
    ----------
    stream
        The stream.
    external
        The external data of its run.
    key
        A data key whose values are in files of their own.

    Returns
    -------
    dask.array.Array
        Shape ``(events, *shape)``.
    """
    column = external.column(stream, key)
    assert column is not None, key
    return delayed_array(DelayedColumn(column, _label(stream, key)))


def configuration_dataset(
    stream: Stream,
    external: External,
    device: str,
    *,
    sub_dict: SubDict = "data",
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
) -> "xarray.Dataset":
    """Give the configuration of a device during a stream as a dataset.

    Parameters
    ----------
    stream
        The stream.
    external
        The external data of its run.
    device
        The name of the device.
    sub_dict
        ``data``, or ``timestamps`` with the time at which each value was taken.
    include, exclude
        Configuration keys to give, or to leave out.

    Returns
    -------
    xarray.Dataset
        One variable a configuration key.  Each event has the value of its descriptor.

    Raises
    ------
    InvalidOption
        ``include`` and ``exclude`` are both given, or ``sub_dict`` is none of its values.
    """
    if sub_dict not in ("data", "timestamps"):
        raise InvalidOption(f"sub_dict={sub_dict!r} means nothing; it is 'data' or 'timestamps'")
    devices = [mapping_or_empty(doc.get("configuration")).get(device) for doc in stream.descriptors]
    found = [mapping_or_empty(part) for part in devices]
    values = [mapping_or_empty(part.get(sub_dict)) for part in found]
    all_keys = dict.fromkeys(key for part in values for key in part)
    times: Array | None = _column_of_times(stream.to_pandas([]))
    rows = _descriptor_of_each(stream)
    if not len(rows) and (numbers := external.seq_nums(stream)):
        times, rows = None, np.zeros(len(numbers), dtype=int)
    variables = {
        key: _repeated([part.get(key) for part in values], rows) for key in _chosen(list(all_keys), include, exclude)
    }
    declared = {key: item for part in reversed(found) for key, item in mapping_or_empty(part.get("data_keys")).items()}
    return _assembled(times, variables, declared, lambda key: {})


def _chosen(keys: Sequence[str], include: Iterable[str] | None, exclude: Iterable[str] | None) -> list[str]:
    wanted, unwanted = (set([names] if isinstance(names, str) else names or ()) for names in (include, exclude))
    if wanted and unwanted:
        raise InvalidOption("include and exclude were both given; give one of them")
    return [key for key in keys if (key in wanted or not wanted) and key not in unwanted]


def _label(stream: Stream, key: str) -> str:
    return f"{key!r} of stream {stream.name!r} of run {stream.run.uid!r}"


def _as_dask(value: Any) -> Any:
    return delayed_array(value) if isinstance(value, DelayedColumn) else held_array(value)


# -- variables


def _data(stream: Stream, external: External, keys: list[str], lazy: bool) -> tuple[Array | None, _Variables]:
    """Give the times of the events, None if there are none but values in files; and the values of data keys."""
    columns = {key: external.column(stream, key) for key in external.keys(stream) if key in keys}
    frame = stream.to_pandas([key for key in keys if columns.get(key) is None])
    declared = _declared(stream.descriptors)
    variables: _Variables = {}
    is_timeless = not len(frame) and any(column is not None and len(column) for column in columns.values())
    for key in keys:
        column = columns.get(key)
        if is_timeless and not column:
            continue  # its values come with events
        if column is not None and len(column):
            label = _label(stream, key)
            variables[key] = DelayedColumn(column, label) if lazy else _whole(column.stack(), label)
        elif column is None and len(frame):
            shown = shown_name(key)
            if shown in frame:
                variables[key] = _whole(arrays.from_series(frame[shown]), _label(stream, key))
        else:
            variables[key] = arrays.without_rows(declared.get(key, {}))
    return None if is_timeless else _column_of_times(frame), variables


def _whole(values: Array, label: str) -> Array:
    """Give values as they are, and tell if they are arrays that do not make one array."""
    if values.dtype == object and values.ndim == 1:
        values = arrays.stacked(values.tolist())
        if arrays.is_ragged(values):
            warn(f"{label} has arrays of different shapes or types; they are given one by one", AssetWarning)
    return values


def _column_of_times(frame: Any) -> Array:
    return np.array(frame["time"], dtype="float64") if len(frame) else np.empty(0)


def _timestamps(stream: Stream, external: External, keys: list[str], lazy: bool) -> tuple[Array, _Variables]:
    """Give the times of the events, and for each data key the time at which each value was taken.

    Values in files that the events do not mention have the times of the events.
    """
    times = _column_of_times(stream.to_pandas([]))
    variables: _Variables = {key: np.array(stamps, "float64") for key, stamps in stream.timestamps(keys).items()}
    for key in external.keys(stream):
        if key in variables and np.isnan(variables[key]).all():
            variables[key] = times
    return times, variables


def _descriptor_of_each(stream: Stream) -> Array:
    """Give for each event the position of its descriptor."""
    position = {doc["uid"]: number for number, doc in enumerate(stream.descriptors)}
    return np.array([position[uid] for uid in stream.descriptor_uids()], dtype=int)


def _repeated(values: list[Any], rows: Array) -> Array:
    """Give to each row one of a few values."""
    few = arrays.stacked([None if value is None else arrays.as_array(value) for value in values])
    return np.broadcast_to(few[0], (len(rows), *few.shape[1:])) if len(few) == 1 else few[rows]


# -- the dataset


def _declared(descriptors: Iterable[Document]) -> dict[str, Mapping[str, Any]]:
    """Give what the first descriptor that has it says of each data key."""
    declared: dict[str, Mapping[str, Any]] = {}
    for doc in descriptors:
        for key, item in doc["data_keys"].items():
            if isinstance(item, Mapping):
                declared.setdefault(key, item)
    return declared


def _objects_of_keys(descriptors: Iterable[Document]) -> dict[str, str]:
    """Give the device of each data key."""
    found: dict[str, str] = {}
    for doc in descriptors:
        for name, keys in mapping_or_empty(doc.get("object_keys")).items():
            for key in keys if isinstance(keys, list) else ():
                found.setdefault(str(key), name)
    return found


def _assembled(
    times: Array | None,
    variables: _Variables,
    declared: Mapping[str, Mapping[str, Any]],
    attributes: Callable[[str], dict[str, Any]],
) -> "xarray.Dataset":
    """Name the dimensions, and put the variables together."""
    xarray: Any = need("xarray")
    named = {shown_name(key): key for key in variables}
    dimensions = _Dimensions(named)
    parts = {}
    for name, key in named.items():
        value = variables[key]
        own = dimensions.of(mapping_or_empty(declared.get(key)).get("dims"), value.shape[1:])
        parts[name] = xarray.Variable(("time", *own), value, attributes(key))
    coords = {} if times is None else {"time": ("time", times)}
    return xarray.Dataset(parts, coords)  # type: ignore[no-any-return]


class _Dimensions:
    """Names of dimensions, each of one length.

    Parameters
    ----------
    variables
        The names of the variables, which no dimension may have.
    """

    def __init__(self, variables: Iterable[str]) -> None:
        self._taken = {"time", *variables}
        self._sizes: dict[str, int] = {}
        self._numbered: Iterator[str] = (f"dim_{number}" for number in count())

    def of(self, declared: Any, shape: Sequence[int]) -> list[str]:
        """Name the axes of one variable.

        Parameters
        ----------
        declared
            The names that its data key gives.  Those that cannot be used are replaced by numbered ones.
        shape
            Its lengths.
        """
        wanted = list(declared) if isinstance(declared, list | tuple) and len(declared) == len(shape) else []
        names: list[str] = []
        for axis, size in enumerate(shape):
            name = wanted[axis] if wanted else None
            fits = isinstance(name, str) and name not in self._taken and name not in names
            if not fits or self._sizes.get(str(name), size) != size:
                name = next(item for item in self._numbered if item not in self._taken and item not in self._sizes)
            self._sizes[str(name)] = size
            names.append(str(name))
        return names
