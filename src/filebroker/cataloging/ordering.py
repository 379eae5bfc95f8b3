"""The documents of a run one by one, in the order that consumers of live documents expect."""

import heapq
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from filebroker.ground.documents import Document, Pair, unpack_datum_page
from filebroker.storing.run_files import RunFiles

_Timed = tuple[Any, int, Document]


def in_time_order(files: RunFiles) -> Iterator[Pair]:
    """Give single documents, the events of all streams by ascending time.

    A document that is no event keeps its place before all events inserted after it, so nothing comes
    before what it refers to.  Events of the same time keep the order in which they were inserted.
    """
    others = iter([item for item in files.line_items() if item[1][0] != "stop"])
    pending = next(others, None)
    for _, ordinal, event in heapq.merge(*(_by_time(files, name) for name in files.stream_names), key=_key):
        while pending is not None and pending[0] < ordinal:
            yield from _single(*pending[1])
            pending = next(others, None)
        yield "event", event
    while pending is not None:
        yield from _single(*pending[1])
        pending = next(others, None)
    if files.stop is not None:
        yield "stop", files.stop


def _key(item: _Timed) -> tuple[Any, int]:
    return item[:2]


def _by_time(files: RunFiles, stream: str) -> Iterator[_Timed]:
    """Give a stream's events by ascending time, in memory only if they were not recorded so."""
    items = ((event["time"], ordinal, event) for ordinal, event in files.event_items(stream))
    times = files.event_times(stream)
    if all(before <= after for before, after in pairwise(times)):
        return items
    return iter(sorted(items, key=_key))


def _single(name: str, doc: Document) -> Iterator[Pair]:
    if name == "datum_page":
        for datum in unpack_datum_page(doc):
            yield "datum", datum
    else:
        yield name, doc
