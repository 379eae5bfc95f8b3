"""What stream_datum documents say: which events have their values where in which resource."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from filebroker.assets.sources import Claim
from filebroker.assets.spans import Span
from filebroker.ground.errors import InvalidDocument

#: What a stream_datum needs to say where the values of which events are; those before event-model 1.19 do not.
_PLACED = frozenset({"stream_resource", "descriptor", "seq_nums", "indices"})


@dataclass(frozen=True, slots=True)
class StreamDatum:
    """A range of events, and that of their values in a resource.

    Attributes
    ----------
    uid : str
        Of the document.
    resource : str
        The uid of the stream_resource.
    seq_nums : range
        The events.
    indices : range
        Where their values are.
    """

    uid: str
    resource: str
    seq_nums: range
    indices: range

    @property
    def span(self) -> Span:
        """The events that have a value: the fewer of the two ranges."""
        count = min(len(self.seq_nums), len(self.indices))
        first = self.seq_nums.start
        return Span(first, first + count, self.resource, self.indices.start, self.uid)


def is_placed(doc: Mapping[str, Any]) -> bool:
    """Tell whether a stream_datum document is of the form that says which events have their values where."""
    return doc.keys() >= _PLACED and isinstance(doc["descriptor"], str)


def stream_datum(doc: Mapping[str, Any]) -> StreamDatum:
    """Read a stream_datum document.

    Raises
    ------
    InvalidDocument
        Its bounds are no numbers from 0 on, or the wrong way round.

    Examples
    --------
    >>> doc = {"uid": "r/0", "stream_resource": "r", "descriptor": "d"}
    >>> stream_datum(doc | {"seq_nums": {"start": 1, "stop": 4}, "indices": {"start": 0, "stop": 3}}).span
    Span(start=1, stop=4, resource='r', first=0, uid='r/0')
    """
    return StreamDatum(doc["uid"], doc["stream_resource"], _range(doc, "seq_nums"), _range(doc, "indices"))


def claims(datums: Iterable[StreamDatum]) -> dict[str, Claim]:
    """Give what is claimed to be in each resource of a data key."""
    found: dict[str, Claim] = {}
    before = 0
    for datum in datums:
        start, stop = datum.indices.start, datum.indices.stop
        known = found.get(datum.resource) or Claim(start, stop, before)
        found[datum.resource] = Claim(min(known.first, start), max(known.stop, stop), known.before)
        before = max(before, stop)
    return found


def _range(doc: Mapping[str, Any], name: str) -> range:
    bounds = doc[name]
    if isinstance(bounds, Mapping):
        start, stop = (_whole(bounds.get(end)) for end in ("start", "stop"))
        if start is not None and stop is not None and 0 <= start <= stop <= sys.maxsize:
            return range(start, stop)
    raise InvalidDocument(
        f"the stream_datum {doc['uid']!r} has the {name} {bounds!r}; "
        f"they must have whole numbers from 0 on as start and stop, the stop not before the start"
    )


def _whole(value: Any) -> int | None:
    """Give a whole number, which may be written as a float; None if it is none."""
    if isinstance(value, float | np.floating):
        return int(value) if float(value).is_integer() else None
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None
