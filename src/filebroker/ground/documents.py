"""The documents of a run: their names, what they must hold, and their older forms.

Specification: event-model 1.24, https://blueskyproject.io/event-model/
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from filebroker.ground.errors import InvalidDocument, UnknownDocumentName

Document = dict[str, Any]
Pair = tuple[str, Document]

_STRING = (str,)
_NUMBER = (int, float, np.integer, np.floating)
_MAPPING = (Mapping,)
_ARRAY = (list, tuple, np.ndarray)
_ANY = (object,)

#: For each kind of document the keys it must have, and the types their values may be of.
REQUIRED: dict[str, dict[str, tuple[type, ...]]] = {
    "start": {"uid": _STRING, "time": _NUMBER},
    "descriptor": {"uid": _STRING, "time": _NUMBER, "run_start": _STRING, "data_keys": _MAPPING},
    "event": {
        **{"uid": _STRING, "time": _NUMBER, "descriptor": _STRING, "seq_num": (int, np.integer)},
        **{"data": _MAPPING, "timestamps": _MAPPING},
    },
    "event_page": {
        **{"uid": _ARRAY, "time": _ARRAY, "descriptor": _STRING, "seq_num": _ARRAY},
        **{"data": _MAPPING, "timestamps": _MAPPING},
    },
    "resource": {"uid": _STRING, "spec": _STRING, "resource_path": _STRING, "resource_kwargs": _MAPPING},
    "datum": {"datum_id": _STRING, "resource": _STRING, "datum_kwargs": _MAPPING},
    "datum_page": {"datum_id": _ARRAY, "resource": _STRING, "datum_kwargs": _MAPPING},
    "stream_resource": {"uid": _STRING},
    "stream_datum": {"uid": _STRING, "stream_resource": _STRING},
    "stop": {"uid": _STRING, "time": _NUMBER, "run_start": _STRING},
    "bulk_events": {},
    "bulk_datum": {"resource": _STRING, "datum_ids": _ANY, "datum_kwarg_list": _ANY},
}

#: For some kinds of documents the type of keys that they need not have, or have as None in some ages.
OPTIONAL: dict[str, dict[str, type]] = {
    "resource": {"root": str, "path_semantics": str},
    "stream_resource": {
        **dict.fromkeys(("data_key", "mimetype", "uri", "spec", "root", "resource_path", "path_semantics"), str),
        **dict.fromkeys(("parameters", "resource_kwargs"), Mapping),
    },
    "stream_datum": {"descriptor": str, "seq_nums": Mapping, "indices": Mapping},
}

#: The keys of an event, in the order in which the RunEngine puts them.
EVENT_KEYS = ("uid", "time", "data", "timestamps", "seq_num", "filled", "descriptor")


def check(name: str, doc: Mapping[str, Any]) -> None:
    """Refuse a document that could not be given back or found again.

    Parameters
    ----------
    name
        ``start``, ``descriptor``, ``event``, ...
    doc
        The document.

    Raises
    ------
    UnknownDocumentName
        The event model has no document of that name.
    InvalidDocument
        The document is no mapping, lacks a required key, or has a value of the wrong type there.
    """
    required = REQUIRED.get(name)
    if required is None:
        raise UnknownDocumentName(f"no document is named {name!r}; the names are {', '.join(sorted(REQUIRED))}")
    if not isinstance(doc, Mapping):
        raise InvalidDocument(f"the {name} document is a {type(doc).__name__}; it must be a dict")
    for key, kinds in required.items():
        if key not in doc:
            raise InvalidDocument(f"the {describe(name, doc)} has no {key!r}, which the event model requires")
        value = doc[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InvalidDocument(
                f"the {describe(name, doc)} has {key!r} of type {type(value).__name__}; "
                f"it must be one of {', '.join(kind.__name__ for kind in kinds)}"
            )
        if key == "uid" and value == "":
            raise InvalidDocument(f"the {name} document has an empty 'uid'; it could never be found again")
    if name in ("event", "event_page") and not isinstance(doc.get("filled", {}), Mapping):
        raise InvalidDocument(
            f"the {describe(name, doc)} has 'filled' of type {type(doc['filled']).__name__}; it must be a dict"
        )
    if name == "event_page":
        _check_lengths(doc)
    if name == "datum_page":
        check_datum_columns(doc)
        _check_datum_ids(doc)
    _check_optional(name, doc)


def _check_optional(name: str, doc: Mapping[str, Any]) -> None:
    """Refuse a document of which one of the keys that it need not have makes no sense."""
    for key, kind in OPTIONAL.get(name, {}).items():
        value = doc.get(key)
        if value is not None and not isinstance(value, kind):
            raise InvalidDocument(
                f"the {describe(name, doc)} has {key!r} of type {type(value).__name__}; it must be a {kind.__name__}"
            )


def check_datum_columns(page: Mapping[str, Any]) -> None:
    """Refuse a datum page whose columns have different lengths.

    Raises
    ------
    InvalidDocument
        It cannot be told which arguments belong to which datum.
    """
    rows = _length(page["datum_id"])
    for key, column in page["datum_kwargs"].items():
        found = _length(column)
        if found != rows:
            raise InvalidDocument(
                f"the datum_page document of the resource {page['resource']!r} has {found} values in "
                f"datum_kwargs[{key!r}], but {rows} in datum_id"
            )


def _check_datum_ids(page: Mapping[str, Any]) -> None:
    """Refuse a datum page with a datum_id that no event could have."""
    ids = page["datum_id"]
    kinds = {type(datum_id) for datum_id in (ids if isinstance(_length(ids), int) else [ids])}
    odd = sorted(kind.__name__ for kind in kinds if not issubclass(kind, str))
    if odd:
        raise InvalidDocument(
            f"the datum_page document of the resource {page['resource']!r} has a datum_id of type {odd[0]}; "
            f"it must be a str"
        )


def _check_lengths(page: Mapping[str, Any]) -> None:
    """Refuse an event page whose columns have different lengths."""
    rows = _length(page["seq_num"])
    columns = {"uid": page["uid"], "time": page["time"]}
    for part in ("data", "timestamps", "filled"):
        columns.update({f"{part}[{key!r}]": column for key, column in page.get(part, {}).items()})
    for label, column in columns.items():
        found = _length(column)
        if found != rows:
            raise InvalidDocument(
                f"the {describe('event_page', page)} has {found} values in {label}, but {rows} in seq_num"
            )


def _length(column: Any) -> int | str:
    if isinstance(column, np.ndarray):
        return len(column) if column.ndim else "no list of"
    return len(column) if isinstance(column, list | tuple) else "no list of"


def describe(name: str, doc: Mapping[str, Any]) -> str:
    """Name a document in a message.

    Examples
    --------
    >>> describe("event", {"uid": "84d9", "seq_num": 3})
    "event document '84d9' (seq_num 3)"
    """
    uid = doc.get("uid", doc.get("datum_id"))
    text = f"{name} document" + (f" {uid[:80]!r}" if isinstance(uid, str) else "")
    return text + (f" (seq_num {doc['seq_num']})" if name == "event" and "seq_num" in doc else "")


def stream_name(descriptor: Mapping[str, Any]) -> str:
    """Give the stream a descriptor belongs to; before 2016 descriptors had no name.

    Raises
    ------
    InvalidDocument
        The name is no string.
    """
    name = descriptor.get("name", "primary")
    if not isinstance(name, str):
        raise InvalidDocument(
            f"the {describe('descriptor', descriptor)} has a 'name' of type {type(name).__name__}; "
            "the name of a stream must be a string"
        )
    return name


def unpack_event_page(page: Mapping[str, Any]) -> Iterator[Document]:
    """Give the events of an event page one by one.

    Examples
    --------
    >>> page = {"descriptor": "d", "uid": ["a", "b"], "time": [1.0, 2.0], "seq_num": [1, 2],
    ...         "data": {"x": [5, 6]}, "timestamps": {"x": [1.0, 2.0]}}
    >>> [event["data"] for event in unpack_event_page(page)]
    [{'x': 5}, {'x': 6}]
    """
    for row in range(len(page["seq_num"])):
        event = {
            "descriptor": page["descriptor"],
            **{key: page[key][row] for key in ("uid", "time", "seq_num")},
            **{part: {key: column[row] for key, column in page[part].items()} for part in ("data", "timestamps")},
        }
        if "filled" in page:
            event["filled"] = {key: column[row] for key, column in page["filled"].items()}
        yield event


def pack_event_page(events: list[Document]) -> Document:
    """Give events with the same keys as one event page.

    Keys that the event model does not know belong to the page; the first event has them.
    """
    page: Document = {}
    for key, value in events[0].items():
        if key in ("data", "timestamps", "filled"):
            page[key] = {name: [event[key][name] for event in events] for name in value}
        elif key == "descriptor" or key not in EVENT_KEYS:
            page[key] = value
        else:
            page[key] = [event[key] for event in events]
    return page


def mapping_or_empty(value: Any) -> Mapping[str, Any]:
    """Give a mapping as it is, and an empty one for anything else: what a document has where a mapping is due."""
    return value if isinstance(value, Mapping) else {}


def page_of_one(event: Document) -> Document:
    """Give an event as an event page, as `pack_event_page` does in three times the time."""
    page = dict(event)
    for key in ("uid", "time", "seq_num"):
        page[key] = [page[key]]
    for key in ("data", "timestamps", "filled"):
        if key in page:
            page[key] = {name: [value] for name, value in page[key].items()}
    return page


def unpack_datum_page(page: Mapping[str, Any]) -> Iterator[Document]:
    """Give the datum documents of a datum page one by one.

    Raises
    ------
    InvalidDocument
        Its columns have different lengths.
    """
    check_datum_columns(page)
    for row, datum_id in enumerate(page["datum_id"]):
        kwargs = {key: column[row] for key, column in page["datum_kwargs"].items()}
        yield {"datum_id": datum_id, "resource": page["resource"], "datum_kwargs": kwargs}


def modernise(name: str, doc: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the forms in use before 2020 as the documents that replaced them.

    ``bulk_events`` holds lists of events by stream or by descriptor; each event is given by itself.
    ``bulk_datum`` becomes a ``datum_page``, or single datum documents if their arguments differ.
    """
    if name == "bulk_events":
        for events in doc.values():
            if not isinstance(events, list | tuple):
                raise InvalidDocument(
                    f"the bulk_events document has a {type(events).__name__} where a list of events is due"
                )
            for event in events:
                yield "event", event
    elif name == "bulk_datum":
        kwargs = list(doc["datum_kwarg_list"])
        ids = list(doc["datum_ids"])
        if len(kwargs) != len(ids):
            raise InvalidDocument(f"the bulk_datum document has {len(ids)} datum_ids and {len(kwargs)} datum_kwargs")
        if ids and all(item.keys() == kwargs[0].keys() for item in kwargs) and kwargs[0]:
            columns = {key: [item[key] for item in kwargs] for key in kwargs[0]}
            yield "datum_page", {"datum_id": ids, "resource": doc["resource"], "datum_kwargs": columns}
        else:
            for datum_id, item in zip(ids, kwargs, strict=True):
                yield "datum", {"datum_id": datum_id, "resource": doc["resource"], "datum_kwargs": item}
    else:
        yield name, doc
