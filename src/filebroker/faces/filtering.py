"""Which documents, and which fields of an event, a reader of databroker v1 asked for."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from filebroker.cataloging.run import Run, Stream
from filebroker.ground.documents import Document, stream_name as stream_of


class ALL:
    """Stands for all streams where the name of one is asked for.

    Examples
    --------
    >>> from filebroker import Broker
    >>> header = Broker.named("example")[-1]
    >>> len(list(header.events("primary"))), len(list(header.events(ALL)))
    (11, 13)
    """


class DocumentFilter:
    """Keeps the documents of one stream, and some fields of its events.

    Parameters
    ----------
    run
        The run.
    stream_name
        A stream, or `ALL`.
    fields
        Regular expressions, None for all fields.
    """

    def __init__(self, run: Run, stream_name: Any, fields: Iterable[str] | None) -> None:
        self._run, self._stream = run, stream_name
        patterns = as_patterns(fields)
        self._patterns = None if patterns is None else [re.compile(pattern) for pattern in patterns]
        self._kept: set[str] = set()
        self._added: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def __call__(self, name: str, doc: Document) -> Document | None:
        """Give the document as it shall be handed out, None if it is left out."""
        if name == "descriptor":
            if self._stream is not ALL and stream_of(doc) != self._stream:
                return None
            self._kept.add(doc["uid"])
        elif name == "event":
            return self._event(doc) if self.asks_for(doc) else None
        return doc

    def asks_for(self, event: Document) -> bool:
        """Tell whether an event is of the stream."""
        return event["descriptor"] in self._kept

    def _event(self, event: Document) -> Document | None:
        if self._patterns is None:
            return event
        for part in ("data", "timestamps"):
            event[part] = {key: value for key, value in event[part].items() if self._matches(key)}
        data, stamps = self.additions(event["descriptor"])
        event["data"].update(data)
        event["timestamps"].update(stamps)
        return event if event["data"] else None

    def additions(self, descriptor_uid: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give what is added to the events of a descriptor, and the timestamps of it."""
        if descriptor_uid not in self._added:
            descriptor = next(doc for doc in self._run.descriptors if doc["uid"] == descriptor_uid)
            self._added[descriptor_uid] = self._gather(descriptor)
        return self._added[descriptor_uid]

    def _gather(self, descriptor: Document) -> tuple[dict[str, Any], dict[str, Any]]:
        start, stop = self._run.start, self._run.stop or {}
        data: dict[str, Any] = {}
        stamps: dict[str, Any] = {}
        sources: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
            (device.get("data", {}), device.get("timestamps", {}))
            for device in (descriptor.get("configuration") or {}).values()
        ]
        sources += [(doc, dict.fromkeys(doc, doc["time"])) for doc in (start, stop) if doc]
        for values, times in sources:
            for key, value in values.items():
                if key not in data and key not in descriptor["data_keys"] and self._matches(key):
                    data[key], stamps[key] = value, times.get(key)
        return data, stamps

    def _matches(self, name: str) -> bool:
        return matches_any(self._patterns or (), name)


def matches_any(patterns: Iterable[str | re.Pattern[str]], name: str) -> bool:
    """Tell whether one of some regular expressions matches a name completely."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def as_patterns(fields: Iterable[str] | None) -> list[str] | None:
    """Give ``fields`` as a list; one string is one pattern."""
    if fields is None:
        return None
    return [fields] if isinstance(fields, str) else list(fields)


def added_columns(stream: Stream, fields: Iterable[str] | None, count: int) -> dict[str, list[Any]]:
    """Give what ``fields`` add to a table from the configuration, the start and the stop document.

    Each of ``count`` events has what its own descriptor adds.
    """
    if fields is None:
        return {}
    chosen = DocumentFilter(stream.run, stream.name, fields)
    added = {doc["uid"]: chosen.additions(doc["uid"])[0] for doc in stream.descriptors}
    names = dict.fromkeys(name for data in added.values() for name in data)
    if not names:
        return {}
    uids = list(added)
    descriptors = stream.descriptor_uids() if len(uids) > 1 else uids * count
    if len(descriptors) != count:  # of a damaged run not all events were read
        descriptors = uids[:1] * count
    return {name: [added[uid].get(name) for uid in descriptors] for name in names}
