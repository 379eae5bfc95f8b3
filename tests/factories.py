"""Documents made by hand: valid for event-model, every key at will.

Each function gives a new document with sensible defaults; keyword arguments replace or add keys.  Times are fixed,
so that what is recorded can be compared to the last digit::

    begun = start(scan_id=7)
    primary = descriptor(begun, ["det", "motor"])
    documents = [("start", begun), ("descriptor", primary), ("event", event(primary, 1)), ("stop", stop(begun))]
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: The time of every start document that is given no other: 2025-11-22 11:12:05.25 UTC.
T0 = 1763809925.25

Document = dict[str, Any]
Pair = tuple[str, Document]

_VALUES = {"number": 0.5, "integer": 3, "string": "open", "boolean": True, "array": [1, 2, 3]}


def uid() -> str:
    """Give a uid that begins with a letter, so that no prefix of it is read as a scan_id."""
    return f"f{uuid.uuid4()}"


def start(**keys: Any) -> Document:
    """Make a start document."""
    return {"uid": uid(), "time": T0, "scan_id": 1, "plan_name": "count"} | keys


def data_key(dtype: str = "number", **keys: Any) -> Document:
    """Make what a descriptor says of one field."""
    return {"source": "sim", "dtype": dtype, "shape": [3] if dtype == "array" else []} | keys


def descriptor(
    begun: Mapping[str, Any],
    data_keys: Iterable[str] | Mapping[str, str | Document] = ("det",),
    name: str | None = "primary",
    **keys: Any,
) -> Document:
    """Make a descriptor.

    ``data_keys`` are names of numbers, or a mapping of names to dtypes or complete data keys.  Each field is a device
    of its own name.  A ``name`` of None leaves the key out, as before 2016.
    """
    if not isinstance(data_keys, Mapping):
        data_keys = dict.fromkeys(data_keys, "number")
    fields = {key: data_key(item) if isinstance(item, str) else item for key, item in data_keys.items()}
    doc = {
        **{"uid": uid(), "time": begun["time"] + 0.5, "run_start": begun["uid"], "data_keys": fields},
        **{"object_keys": {key: [key] for key in fields}, "configuration": {}, "hints": {}},
    }
    return doc | ({} if name is None else {"name": name}) | keys


def event(
    described: Mapping[str, Any], seq_num: int = 1, data: Mapping[str, Any] | None = None, **keys: Any
) -> Document:
    """Make an event; its ``seq_num`` gives its time, one a second."""
    data = dict(_default_data(described) if data is None else data)
    time = keys.get("time", described["time"] + seq_num)
    doc = {
        **{"uid": uid(), "time": time, "descriptor": described["uid"], "seq_num": seq_num, "data": data},
        **{"timestamps": dict.fromkeys(data, time), "filled": dict.fromkeys(_external(described, data), False)},
    }
    return doc | keys


def event_page(
    described: Mapping[str, Any],
    seq_nums: Sequence[int] = (1, 2, 3),
    data: Mapping[str, Sequence[Any]] | None = None,
    **keys: Any,
) -> Document:
    """Make an event page, with one value of ``data`` for each of ``seq_nums``."""
    if data is None:
        data = {key: [value] * len(seq_nums) for key, value in _default_data(described).items()}
    times = list(keys.get("time", [described["time"] + number for number in seq_nums]))
    doc = {
        **{"uid": [uid() for _ in seq_nums], "time": times, "descriptor": described["uid"]},
        **{"seq_num": list(seq_nums), "data": dict(data), "timestamps": {key: list(times) for key in data}},
        "filled": {key: [False] * len(seq_nums) for key in _external(described, data)},
    }
    return doc | keys


def resource(begun: Mapping[str, Any], **keys: Any) -> Document:
    """Make a resource document."""
    return {
        **{"uid": uid(), "run_start": begun["uid"], "spec": "NPY_SEQ", "root": "/nowhere", "resource_path": "images"},
        **{"resource_kwargs": {}, "path_semantics": "posix"},
    } | keys


def datum(held: Mapping[str, Any], number: int = 0, **keys: Any) -> Document:
    """Make a datum document of a resource."""
    return {
        **{"datum_id": f"{held['uid']}/{number}", "resource": held["uid"], "datum_kwargs": {"index": number}},
    } | keys


def datum_page(held: Mapping[str, Any], numbers: Sequence[int] = (0, 1), **keys: Any) -> Document:
    """Make a datum page of a resource."""
    return {
        **{"datum_id": [f"{held['uid']}/{number}" for number in numbers], "resource": held["uid"]},
        "datum_kwargs": {"index": list(numbers)},
    } | keys


def stop(begun: Mapping[str, Any], num_events: Mapping[str, int] | None = None, **keys: Any) -> Document:
    """Make a stop document."""
    return {
        **{"uid": uid(), "time": begun["time"] + 100.0, "run_start": begun["uid"], "exit_status": "success"},
        **{"reason": "", "num_events": dict(num_events or {})},
    } | keys


def run(rows: int = 3, data_keys: Iterable[str] | Mapping[str, str | Document] = ("det",), **keys: Any) -> list[Pair]:
    """Make a whole run with one stream; ``keys`` are those of its start document."""
    begun = start(**keys)
    primary = descriptor(begun, data_keys)
    events = [("event", event(primary, number)) for number in range(1, rows + 1)]
    return [("start", begun), ("descriptor", primary), *events, ("stop", stop(begun, {"primary": rows}))]


def _default_data(described: Mapping[str, Any]) -> Document:
    return {
        key: "no-such-datum" if item.get("external") else _VALUES[item["dtype"]]
        for key, item in described["data_keys"].items()
    }


def _external(described: Mapping[str, Any], data: Iterable[str]) -> list[str]:
    fields = described["data_keys"]
    return [key for key in data if key in fields and fields[key].get("external")]
