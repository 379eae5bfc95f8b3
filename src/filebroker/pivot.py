"""Streams of events that are made from others: unrolled, zipped, or with other times.

The events here are those of old, which hold their descriptor whole under ``descriptor``.
"""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any

from filebroker.ground.documents import Document
from filebroker.ground.errors import UnfitEvents

__all__ = ["pivot_timeseries", "reset_time", "zip_events"]


def pivot_timeseries(
    events: Iterable[Document], pivot_keys: Sequence[str], static_keys: Sequence[str] | None = None
) -> Iterator[Document]:
    """Make an event of each element of the arrays in events.

    Five events whose data have a hundred frames each become five hundred of one frame.

    Parameters
    ----------
    events
        Events that hold their descriptor, the same for all.
    pivot_keys
        Fields whose arrays are taken apart along their first dimension.
    static_keys
        Fields that each new event has as the old one had them.  All others are left out.

    Yields
    ------
    dict
        An event.  Its field ``_ind`` tells which element of the old event it is.

    Raises
    ------
    UnfitEvents
        A field is to be taken apart and kept, or is no array, or is not as long as the others.

    Examples
    --------
    >>> keys = {"spectrum": {"dtype": "array", "shape": [2], "source": "sim"}}
    >>> event = {"uid": "e1", "time": 0.0, "data": {"spectrum": [7, 8]}, "timestamps": {"spectrum": 0.0}}
    >>> event["descriptor"] = {"uid": "d1", "run_start": "84d9ee44", "data_keys": keys}
    >>> [made["data"] for made in pivot_timeseries([event], ["spectrum"])]
    [{'spectrum': 7, '_ind': 0}, {'spectrum': 8, '_ind': 1}]
    """
    static = list(static_keys or ())
    both = sorted(set(pivot_keys) & set(static))
    if both:
        raise UnfitEvents(f"{', '.join(both)} cannot be both taken apart and kept")
    numbers = 0
    made: Document | None = None
    for event in events:
        if made is None:
            _check_arrays(event["descriptor"], pivot_keys)
            kept = {key: event["descriptor"]["data_keys"][key] for key in static}
            made = _descriptor(event["descriptor"], {"_ind": _key((), "pivot"), **kept})
        for part in _taken_apart(event, made, pivot_keys, static):
            yield part | {"seq_no": numbers}
            numbers += 1


def _check_arrays(descriptor: Document, keys: Sequence[str]) -> None:
    data_keys = descriptor["data_keys"]
    for key in keys:
        if data_keys[key]["dtype"] != "array":
            raise UnfitEvents(f"{key!r} cannot be taken apart: its descriptor says {data_keys[key]['dtype']}")
    lengths = {key: data_keys[key]["shape"][0] for key in keys}
    if len(set(lengths.values())) > 1:
        raise UnfitEvents(f"arrays of different lengths cannot be taken apart together: {lengths}")


def _taken_apart(event: Document, made: Document, keys: Sequence[str], static: Sequence[str]) -> Iterator[Document]:
    shapes = {key: tuple(event["descriptor"]["data_keys"][key]["shape"][1:]) for key in keys}
    descriptor = made | {
        "data_keys": made["data_keys"] | {key: _key(shape, event["uid"]) for key, shape in shapes.items()}
    }
    kept = {key: event["data"][key] for key in static}
    stamps = {key: event["timestamps"][key] for key in (*static, *keys)}
    for index, values in enumerate(zip(*(event["data"][key] for key in keys), strict=True)):
        yield {
            **{"uid": str(uuid.uuid4()), "time": event["time"], "descriptor": descriptor},
            "data": kept | dict(zip(keys, values, strict=True)) | {"_ind": index},
            "timestamps": stamps | {"_ind": time.time()},
        }


def zip_events(*evs: Iterable[Document], lazy: bool = True) -> Iterator[Document]:
    """Make one event of those that come at the same place in several streams.

    Parameters
    ----------
    *evs
        Streams of events that hold their descriptor.  They are of one run and equally long, none has a field of
        another's, and each has one descriptor.
    lazy
        Look at the events one by one; otherwise that the streams are equally long is checked first.

    Yields
    ------
    dict
        An event with the fields of all.

    Raises
    ------
    UnfitEvents
        The streams are not as they have to be.

    Examples
    --------
    >>> def stream(field):
    ...     descriptor = {"uid": field, "run_start": "84d9ee44", "data_keys": {field: {}}}
    ...     return [{"descriptor": descriptor, "data": {field: 1}, "timestamps": {field: 0.0}}]
    >>> next(zip_events(stream("det"), stream("motor")))["data"]
    {'det': 1, 'motor': 1}
    """
    if not lazy:
        streams = [list(events) for events in evs]
        if len(set(map(len, streams))) > 1:
            raise UnfitEvents(f"the streams are not equally long, but have {[len(s) for s in streams]} events")
        evs = tuple(streams)
    made: Document | None = None
    uids: list[Any] = []
    for number, events in enumerate(zip_longest(*evs)):
        if any(event is None for event in events):
            raise UnfitEvents(f"the streams are not equally long: one of them ends after {number} events")
        descriptors = [event["descriptor"] for event in events]
        if made is None:
            made, uids = _zipped(descriptors), [doc["uid"] for doc in descriptors]
        if [doc["uid"] for doc in descriptors] != uids:
            raise UnfitEvents(f"event {number} of one of the streams has another descriptor than those before")
        yield {
            **{"uid": str(uuid.uuid4()), "time": time.time(), "descriptor": made, "seq_no": number},
            **{part: _joined(event[part] for event in events) for part in ("data", "timestamps")},
        }


def _zipped(descriptors: Sequence[Document]) -> Document:
    """Give a descriptor with the fields of several."""
    runs = {doc["run_start"] for doc in descriptors}
    if len(runs) > 1:
        raise UnfitEvents(f"the streams are not of one run, but of {', '.join(sorted(map(str, runs)))}")
    fields = list(chain.from_iterable(doc["data_keys"] for doc in descriptors))
    if len(set(fields)) < len(fields):
        twice = sorted({field for field in fields if fields.count(field) > 1})
        raise UnfitEvents(f"the streams have fields in common: {', '.join(twice)}")
    return _descriptor(descriptors[0], _joined(doc["data_keys"] for doc in descriptors))


def _joined(parts: Iterable[Document]) -> Document:
    return {key: value for part in parts for key, value in part.items()}


def reset_time(evs: Iterable[Document], field: str, source: str = "timestamps") -> Iterator[Document]:
    """Give events the time at which one of their fields was read.

    Parameters
    ----------
    evs
        Events.
    field
        The field.
    source
        ``timestamps`` to take the time when the field was read, ``data`` to take its value.

    Yields
    ------
    dict
        The events, with another ``time``.

    Examples
    --------
    >>> next(reset_time([{"time": 9.0, "timestamps": {"det": 8.5}}], "det"))["time"]
    8.5
    """
    for event in evs:
        yield {**event, "time": event[source][field]}


def _descriptor(of: Document, data_keys: Document) -> Document:
    return {"uid": str(uuid.uuid4()), "time": time.time(), "run_start": of["run_start"], "data_keys": data_keys}


def _key(shape: tuple[int, ...], source: str) -> Document:
    return {"shape": shape, "dtype": "array" if shape else "number", "source": source}
