"""The documents of a run one by one, in the order that consumers of live documents expect."""

import heapq
from collections.abc import Iterator
from typing import Any

from filebroker.ground.documents import Document, Pair, unpack_datum_page
from filebroker.storing.run_files import RunFiles


def in_time_order(files: RunFiles) -> Iterator[Pair]:
    """Give single documents, the events of all streams interleaved by ascending time.

    The events of one stream keep the order in which they were recorded.  A document that is no event keeps its
    place before all events inserted after it, so nothing comes before what it refers to.
    """
    others = iter([item for item in files.line_items() if item[1][0] != "stop"])
    pending = next(others, None)
    for ordinal, event in _merged(files):
        while pending is not None and pending[0] < ordinal:
            yield from _single(*pending[1])
            pending = next(others, None)
        yield "event", event
    while pending is not None:
        yield from _single(*pending[1])
        pending = next(others, None)
    if files.stop is not None:
        yield "stop", files.stop


def _merged(files: RunFiles) -> Iterator[tuple[int, Document]]:
    """Give the events of all streams with their ordinals, those of one stream as they were recorded."""
    streams = [files.event_items(name) for name in files.stream_names]
    if len(streams) == 1:
        return streams[0]
    return heapq.merge(*streams, key=_key)


def _key(item: tuple[int, Document]) -> tuple[Any, int]:
    return item[1]["time"], item[0]


def _single(name: str, doc: Document) -> Iterator[Pair]:
    if name == "datum_page":
        for datum in unpack_datum_page(doc):
            yield "datum", datum
    else:
        yield name, doc
