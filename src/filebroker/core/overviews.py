"""Overviews of many runs: a table of them, and the keys that they can be searched by."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from filebroker.finding.entries import Documents
from filebroker.ground.documents import Document
from filebroker.ground.texts import encodable

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
    try:
        frame = _frame(uids, rows)
    except UnicodeEncodeError:  # pandas keeps strings in UTF-8
        frame = _frame(encodable(uids), encodable(rows))
    for name in ("time", "stop_time"):
        frame[name] = _datetimes(frame[name])
    return frame


def _frame(uids: list[str], rows: list[dict[str, Any]]) -> pd.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["time", "stop_time", "exit_status"]
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pd.DataFrame(columns, index=pd.Index(uids, name="uid", dtype="object"))


def _datetimes(seconds: "pd.Series[Any]") -> "pd.Series[Any]":
    numbers = pd.to_numeric(seconds.map(_as_float), errors="coerce")
    return pd.to_datetime(numbers, unit="s", errors="coerce")


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


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
    types: defaultdict[str, set[str]] = defaultdict(set)
    values: defaultdict[str, Counter[Any]] = defaultdict(Counter)
    for item in documents:
        found = list(_leaves(item.start))
        runs.update({path for path, _ in found})
        for path, value in found:
            types[path].add(_TYPES.get(type(value), "null"))
            counted = values[path]
            if isinstance(value, str | int | float | bool) and (len(counted) < _MAX_VALUES or value in counted):
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
