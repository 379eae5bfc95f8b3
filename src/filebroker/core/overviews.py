"""Overviews of many runs: a table of them, and the keys that they can be searched by."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from filebroker.finding.manifest import Documents
from filebroker.ground.documents import Document

_COMMONEST = 5
#: Of a key with more different values than this only the first are counted.
_MAX_VALUES = 10_000
_TYPES = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object", list: "array"}


def table_of(documents: Iterable[Documents], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Give one row a run; see `Runs.to_dataframe`."""
    uids, rows = [], []
    for item in documents:
        start, stop = item.start, item.stop or {}
        uids.append(start["uid"])
        chosen = {key: start[key] for key in start if key not in ("uid", "time")} if columns is None else {}
        row = {"time": start["time"], "stop_time": stop.get("time"), "exit_status": stop.get("exit_status")}
        rows.append({**row, **chosen, **{key: _value_at(start, key) for key in columns or () if key not in row}})
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["time", "stop_time", "exit_status"]
    frame = pd.DataFrame(
        {name: [row.get(name) for row in rows] for name in names}, index=pd.Index(uids, name="uid", dtype="object")
    )
    for name in ("time", "stop_time"):
        frame[name] = _datetimes(frame[name])
    return frame


def _datetimes(seconds: "pd.Series[Any]") -> "pd.Series[Any]":
    numbers = pd.to_numeric(seconds, errors="coerce")
    return pd.to_datetime(numbers, unit="s", errors="coerce")


def _value_at(start: Mapping[str, Any], path: str) -> Any:
    """Give what is at a dotted path, None if there is nothing."""
    if path in start:
        return start[path]
    value: Any = start
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def keys_seen(documents: Iterable[Documents]) -> pd.DataFrame:
    """Give one row a key; see `Runs.keys_seen`."""
    runs: Counter[str] = Counter()
    types: dict[str, Counter[str]] = {}
    values: dict[str, Counter[Any]] = {}
    for item in documents:
        found = list(_leaves(item.start))
        runs.update({path for path, _ in found})
        for path, value in found:
            types.setdefault(path, Counter())[_TYPES.get(type(value), "null")] += 1
            counted = values.setdefault(path, Counter())
            if isinstance(value, str | int | float | bool) and (value in counted or len(counted) < _MAX_VALUES):
                counted[value] += 1
    keys = sorted(runs, key=lambda path: (-runs[path], path))
    return pd.DataFrame(
        {
            "runs": [runs[key] for key in keys],
            "types": [", ".join(sorted(types[key])) for key in keys],
            "values": [len(values[key]) for key in keys],
            "commonest": [[value for value, _ in values[key].most_common(_COMMONEST)] for key in keys],
        },
        index=pd.Index(keys, name="key", dtype="object"),
    )


def _leaves(value: Document) -> Iterator[tuple[str, Any]]:
    """Give each dotted path with each value at it, through the items of lists."""
    waiting: list[tuple[str, Any]] = [(key, item) for key, item in value.items()]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict) and item:
            waiting += [(f"{path}.{key}", part) for key, part in item.items()]
        elif isinstance(item, list) and item:
            waiting += [(path, part) for part in item]
        else:
            yield path, item
