"""The documents of a run with some of its streams and fields alone, and with nothing that only others need."""

from collections.abc import Callable, Collection
from typing import Any

from filebroker.cataloging.run import Run, Stream
from filebroker.ground.documents import Document, mapping_or_empty, stream_name
from filebroker.transfer.outgoing.hints import devices, texts

_PARTS = ("data", "timestamps", "filled")


class Narrowing:
    """Leaves out of a run's documents what is not wanted.

    Parameters
    ----------
    run
        The run.
    streams
        Those that are wanted.
    fields
        The data keys that are wanted, None for all.

    Attributes
    ----------
    resources : set of str
        The uids of the resources that wanted events refer to.

    Notes
    -----
    Documents of files are kept if an event that is kept refers to them.
    """

    def __init__(self, run: Run, streams: Collection[Stream], fields: Collection[str] | None) -> None:
        self._streams = {stream.name for stream in streams}
        self._fields = None if fields is None else frozenset(fields)
        self._descriptors = {
            doc["uid"] for stream in streams for doc in stream.descriptors if self._fields_of(doc) or not fields
        }
        self._datums = {value for stream in streams for value in self._references(stream)}
        self.resources: set[str] = set()
        for name, doc in (pair for _, pair in run.files.line_items()):
            if self._is_needed(name, doc):
                self.resources.add(doc["stream_resource"] if name == "stream_datum" else doc["resource"])
        # Which field a stream_resource is of, it tells itself.
        for _, (name, doc) in run.files.line_items():
            if name == "stream_resource" and not self._wants(doc.get("data_key", "")):
                self.resources.discard(doc["uid"])
        self._rules: dict[str, Callable[[Document], Document | None]] = {
            **{"descriptor": self._descriptor, "event": self._event, "event_page": self._event, "stop": self._stop},
            **dict.fromkeys(("resource", "stream_resource"), self._resource),
            "stream_datum": self._stream_datum,
            **dict.fromkeys(("datum", "datum_page"), self._datum),
        }

    def __call__(self, name: str, doc: Document) -> Document | None:
        """Give a document as it shall be, None to leave it out.

        Parameters
        ----------
        name
            ``start``, ``descriptor``, ...
        doc
            The document.  It is not modified.
        """
        rule = self._rules.get(name)
        return doc if rule is None else rule(doc)

    def _wants(self, key: str) -> bool:
        return self._fields is None or key in self._fields

    def _fields_of(self, descriptor: Document) -> list[str]:
        return [key for key in descriptor["data_keys"] if self._wants(key)]

    def _references(self, stream: Stream) -> set[str]:
        """Give what the events have for those fields that descriptors call external."""
        items = [(key, item) for doc in stream.descriptors for key, item in doc["data_keys"].items()]
        keys = {key for key, item in items if mapping_or_empty(item).get("external") and self._wants(key)}
        return {value for key in keys for value in stream.values(key) if isinstance(value, str)}

    def _is_needed(self, name: str, doc: Document) -> bool:
        if name == "datum":
            return doc["datum_id"] in self._datums
        if name == "datum_page":
            return not self._datums.isdisjoint(doc["datum_id"])
        return name == "stream_datum" and doc.get("descriptor") in self._descriptors

    def _descriptor(self, doc: Document) -> Document | None:
        if doc["uid"] not in self._descriptors or stream_name(doc) not in self._streams:
            return None
        if self._fields is None:
            return doc
        objects = {
            device: kept
            for device, names in devices(doc).items()
            if (kept := [key for key in names if self._wants(key)])
        }
        narrowed = {**doc, "data_keys": {key: doc["data_keys"][key] for key in self._fields_of(doc)}}
        for part in ("object_keys", "configuration", "hints"):
            if part in doc:
                known = mapping_or_empty(doc[part])
                narrowed[part] = {device: known[device] for device in known if device in objects}
        narrowed |= {"object_keys": objects} if "object_keys" in doc else {}
        narrowed |= {"hints": self._hints(narrowed["hints"])} if "hints" in doc else {}
        return narrowed

    def _hints(self, hints: Document) -> Document:
        return {
            device: {**hint, "fields": [key for key in texts(hint["fields"]) if self._wants(key)]}
            if isinstance(mapping_or_empty(hint).get("fields"), list)
            else hint
            for device, hint in hints.items()
        }

    def _event(self, doc: Document) -> Document | None:
        if doc["descriptor"] not in self._descriptors:
            return None
        if self._fields is None:
            return doc
        parts = {part: doc[part] for part in _PARTS if part in doc}
        return doc | {
            part: {key: value for key, value in values.items() if self._wants(key)} for part, values in parts.items()
        }

    def _resource(self, doc: Document) -> Document | None:
        return doc if doc["uid"] in self.resources else None

    def _stream_datum(self, doc: Document) -> Document | None:
        is_needed = self._is_needed("stream_datum", doc) and doc["stream_resource"] in self.resources
        return doc if is_needed else None

    def _datum(self, doc: Document) -> Document | None:
        name = "datum" if isinstance(doc["datum_id"], str) else "datum_page"
        return doc if self._is_needed(name, doc) else None

    def _stop(self, doc: Document) -> Document:
        counts: Any = doc.get("num_events")
        if not isinstance(counts, dict):
            return doc
        return doc | {"num_events": {name: count for name, count in counts.items() if name in self._streams}}
