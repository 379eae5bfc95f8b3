"""The events of one stream, held in memory until they become a page.

An event's values are copied as far as they are mutable, so that whatever the caller does to the document
later changes nothing.  Consecutive events with the same keys share one `Batch`, so keys are stored once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from filebroker.ground import codec
from filebroker.ground.documents import EVENT_KEYS, unpack_event_page
from filebroker.storing.columns import ABSENT

#: Values of these types are immutable, and a column can hold them as they are.
_IMMUTABLE = codec.SIMPLE_TYPES | {np.float32, np.float16}


#: Positions of an event's fields in a batch; the values of ``data`` and ``timestamps`` follow them.
ORDINAL, PAGED, DESCRIPTOR, UID, TIME, SEQ_NUM, FILLED, EXTRA = range(8)
_FIELDS = 8

#: What `filled` is in nearly every event.
NOTHING_FILLED: dict[str, Any] = {}


class Batch:
    """Consecutive events with the same keys in the same order.

    All values stand one after the other in one list, `width` of them for each event: a list of numbers
    and strings costs the garbage collector nothing, a list of tuples or dicts would.

    Parameters
    ----------
    keys, stamp_keys, top_keys
        The keys of ``data``, of ``timestamps`` and of the event, in their order.
    """

    def __init__(self, keys: tuple[str, ...], stamp_keys: tuple[str, ...], top_keys: tuple[str, ...]) -> None:
        self.keys, self.stamp_keys, self.top_keys = keys, stamp_keys, top_keys
        self.width = _FIELDS + len(keys) + len(stamp_keys)
        self.values: list[Any] = []

    def __len__(self) -> int:
        return len(self.values) // self.width

    def field(self, position: int) -> list[Any]:
        """Give one field of every event."""
        return self.values[position :: self.width]

    def columns(self, part: str) -> dict[str, list[Any]]:
        """Give the values of ``data`` or ``timestamps`` by key."""
        keys, offset = (self.keys, 0) if part == "data" else (self.stamp_keys, len(self.keys))
        return {key: self.field(_FIELDS + offset + position) for position, key in enumerate(keys)}


class EventBuffer:
    """The events of one stream, in the order they were inserted.

    Examples
    --------
    >>> buffer = EventBuffer()
    >>> buffer.add(2, {"descriptor": "d", "uid": "e", "time": 1.0, "seq_num": 1,
    ...                "data": {"det": 5}, "timestamps": {"det": 1.0}})
    >>> len(buffer), buffer.columns("data")
    (1, {'det': [5]})
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._shape: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def batch(self, keys: tuple[str, ...], stamp_keys: tuple[str, ...], top_keys: tuple[str, ...]) -> Batch:
        """Give the batch that the next event belongs to."""
        shape = (keys, stamp_keys, top_keys)
        if shape != self._shape:
            self.batches.append(Batch(*shape))
            self._shape = shape
        return self.batches[-1]

    def add(self, ordinal: int, event: Mapping[str, Any], *, paged: bool = False) -> None:
        """Append an event.

        Parameters
        ----------
        ordinal
            Position of the document among all of its run.
        event
            A checked event document.  It is copied as far as it is mutable.
        paged
            The event came in an event page, which has the given ordinal.

        Raises
        ------
        UnstorableValue
            A value cannot be kept.
        """
        data, stamps = event["data"], event["timestamps"]
        extra = {key: codec.plain(value) for key, value in event.items() if key not in EVENT_KEYS}
        filled = codec.plain(event["filled"]) if "filled" in event else ABSENT
        self.batch(tuple(data), tuple(stamps), tuple(event)).values.extend(
            (
                *(ordinal, paged, event["descriptor"], event["uid"], event["time"], event["seq_num"]),
                *(filled, extra or ABSENT, *stored(data.values()), *stored(stamps.values())),
            )
        )

    def add_page(self, ordinal: int, page: Mapping[str, Any]) -> None:
        """Append the events of an event page, which is one document with one ordinal.

        Keys that the event model does not know go with its first event.
        """
        extra = {key: value for key, value in page.items() if key not in EVENT_KEYS}
        for event in unpack_event_page(page):
            self.add(ordinal, {**event, **extra}, paged=True)
            extra = {}

    def extend(self, other: "EventBuffer") -> None:
        """Append the events of another buffer."""
        for batch in other.batches:
            self.batch(batch.keys, batch.stamp_keys, batch.top_keys).values.extend(batch.values)

    def field(self, position: int) -> list[Any]:
        """Give one field of every event."""
        return [value for batch in self.batches for value in batch.field(position)]

    def columns(self, part: str) -> dict[str, list[Any]]:
        """Give the values of ``data`` or ``timestamps`` by key, `ABSENT` where an event lacks the key.

        The keys are in the order in which they were first met.
        """
        if len(self.batches) == 1:
            return self.batches[0].columns(part)
        columns: dict[str, list[Any]] = {}
        rows = 0
        for batch in self.batches:
            for key, values in batch.columns(part).items():
                columns.setdefault(key, [ABSENT] * rows).extend(values)
            rows += len(batch)
            for column in columns.values():
                column.extend([ABSENT] * (rows - len(column)))
        return columns


def stored(values: Iterable[Any]) -> tuple[Any, ...]:
    """Copy values of ``data`` or ``timestamps`` as columns hold them.

    Numeric arrays stay arrays, so that their dtype is kept.  Everything else becomes JSON's own types.

    Raises
    ------
    UnstorableValue
        A value cannot be kept.
    """
    return tuple(map(_stored, values))


def _stored(value: Any) -> Any:
    if type(value) in _IMMUTABLE:
        return value
    if is_numeric_array(value):
        return np.array(value)
    return codec.plain(value)


def is_numeric_array(value: Any) -> bool:
    """Tell whether a value is an array whose dtype a column can keep."""
    return type(value) is np.ndarray and value.ndim > 0 and value.dtype.kind in "biuf" and value.itemsize <= 8


def joined(column: Any) -> Any:
    """Give the column of an event page as one array where it is made of equal numeric arrays."""
    if is_numeric_array(column):
        return column
    if len(column) and all(map(is_numeric_array, column)) and len({(row.dtype, row.shape) for row in column}) == 1:
        return np.stack(column)
    return codec.plain(column)
