"""Overviews of many runs: a table of them, and the keys that they can be searched by."""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from filebroker.finding.entries import Documents
from filebroker.finding.values import Path, identity, value_at
from filebroker.ground.documents import Document
from filebroker.ground.errors import InvalidQuery
from filebroker.ground.texts import encodable

#: The columns that every table of runs begins with.
_OWN = ("time", "stop_time", "exit_status")
#: The years 1 to 9999, which are all that Python's datetime knows, in seconds since 1970.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_COMMONEST = 5
#: Of a key with more different values than this only the first are counted.
_MAX_VALUES = 10_000
_TYPES = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object", list: "array"}
#: Values of these types are their own `identity`, and need not be asked for it one by one.
_OWN_IDENTITY = frozenset((str, int))


# -- a table of runs


def table_of(documents: Iterable[Documents], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Give one row a run; see `Runs.to_dataframe`.

    Parameters
    ----------
    documents
        The runs.
    columns
        Keys of the start document, dotted for nested ones; a single string is one key.  Each of them becomes a
        column, whether or not a run has it.  Where a path leads through a list to several values, the list of
        them is given.  By default every key of the first level becomes a column.

    Returns
    -------
    pandas.DataFrame
        ``time``, ``stop_time`` and ``exit_status`` come first, and are never those of a key of that name.

    Raises
    ------
    InvalidQuery
        The columns are no strings.
    """
    paths = None if columns is None else _paths(columns)
    uids, rows = [], []
    for item in documents:
        start, stop = item.start, item.stop or {}
        uids.append(start["uid"])
        chosen = start if paths is None else {name: value_at(start, path) for name, path in paths.items()}
        own = {"time": start["time"], "stop_time": stop.get("time"), "exit_status": stop.get("exit_status")}
        rows.append(chosen | own)
    names = dict.fromkeys(name for row in rows for name in row) if paths is None else paths
    table = {name: [row.get(name) for row in rows] for name in (*_OWN, *names) if name != "uid"}
    try:
        return _frame(uids, table)
    except UnicodeEncodeError:  # pandas keeps strings in UTF-8
        return _frame(encodable(uids), encodable(table))


def _paths(columns: Sequence[str]) -> dict[str, Path]:
    """Give the path to each column that was asked for, but not to those that are in every table."""
    names = [columns] if isinstance(columns, str) else list(columns)
    for name in names:
        if not isinstance(name, str):
            raise InvalidQuery(
                f"to_dataframe was asked for the column {name!r}, a {type(name).__name__}; "
                "give keys of the start document, such as ['scan_id', 'sample.name']"
            )
    return {name: Path(name) for name in names if name != "uid" and name not in _OWN}


def _frame(uids: list[str], table: Mapping[str, list[Any]]) -> pd.DataFrame:
    columns = {name: _datetimes(values) if name in _OWN[:2] else _column(values) for name, values in table.items()}
    return pd.DataFrame(columns, index=pd.Index(uids, name="uid", dtype="object"))


def _column(values: list[Any]) -> Any:
    """Keep integers integers where some runs have none: pandas would make them floats."""
    if set(map(type, values)) != {int, type(None)}:
        return values
    try:
        return pd.array(values, dtype="Int64")
    except OverflowError:  # beyond 64 bits
        return pd.array(values, dtype="object")


def _datetimes(seconds: list[Any]) -> "np.ndarray[Any, np.dtype[np.datetime64]]":
    """Give seconds since 1970 as datetimes, NaT for what is none."""
    numbers = np.array([_as_float(value) for value in seconds], dtype=np.float64)
    known = (numbers >= _FIRST_SECOND) & (numbers <= _LAST_SECOND)
    # In microseconds whatever the version of pandas: to_datetime differs, and even by column.
    microseconds = np.rint(np.where(known, numbers, 0) * 1e6).astype("datetime64[us]")
    return np.where(known, microseconds, np.datetime64("NaT", "us"))


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


# -- the keys that runs have


def keys_seen(documents: Iterable[Documents]) -> pd.DataFrame:
    """Give one row a key; see `Runs.keys_seen`.

    Keys, and the values they are said to have, are those that a query finds.  So a list counts by its items, and
    a mapping has a row of its own, besides those of its keys.

    Parameters
    ----------
    documents
        The runs.

    Returns
    -------
    pandas.DataFrame
        ``values`` is the number of different strings, numbers and booleans; 10,000 stands for that many or more.
        ``commonest`` are those that most runs have, among the first 10,000.
    """
    seen = _Seen()
    for item in documents:
        seen.add(item.start)
    keys = sorted(seen.keys.values(), key=lambda key: (-key.runs, key.path))
    return pd.DataFrame(
        {
            "runs": [key.runs for key in keys],
            "types": [key.describe_types() for key in keys],
            "values": [len(key.counted) for key in keys],
            "commonest": [key.commonest() for key in keys],
        },
        index=pd.Index([key.path for key in keys], name="key", dtype="object"),
    )


@dataclass(slots=True)
class _Value:
    """A value of a key, and in how many runs it is; ``last_run`` keeps a run from counting twice."""

    value: Any
    last_run: int
    runs: int = 1


@dataclass(slots=True)
class _Key:
    """What is known of a key.  ``parts`` are the keys below it, by the last part of their paths."""

    path: str
    runs: int = 0
    last_run: int = 0
    types: set[type] = field(default_factory=set)
    item_types: set[type] = field(default_factory=set)
    counted: dict[Any, _Value] = field(default_factory=dict)
    parts: dict[str, "_Key"] = field(default_factory=dict)

    def count(self, value: Any, run: int) -> None:
        """Count a value, once a run."""
        same = value if type(value) in _OWN_IDENTITY else identity(value)
        counted = self.counted.get(same)
        if counted is None:
            if len(self.counted) < _MAX_VALUES:
                self.counted[same] = _Value(value, run)
        elif counted.last_run != run:
            counted.last_run = run
            counted.runs += 1

    def describe_types(self) -> str:
        """Name the types of the values; a list comes last, so that what follows it are its items."""
        names = _type_names(self.types - {list})
        if list in self.types:
            names.append("array of " + ", ".join(_type_names(self.item_types)) if self.item_types else "array")
        return ", ".join(names)

    def commonest(self) -> list[Any]:
        """Give the values that most runs have."""
        return [item.value for item in heapq.nlargest(_COMMONEST, self.counted.values(), key=attrgetter("runs"))]


def _type_names(types: Iterable[type]) -> list[str]:
    return sorted({_TYPES.get(kind, "null") for kind in types})


class _Seen:
    """The keys of start documents that are added one by one.

    A document is followed through the keys of those before it.  Most have the same ones, and so their paths
    need not be put together again.
    """

    def __init__(self) -> None:
        self.keys: dict[str, _Key] = {}
        self._top: dict[str, _Key] = {}
        self._waiting: list[tuple[_Key | None, Document]] = []
        self._run = 0

    def add(self, start: Document) -> None:
        """Count the keys and values of a run."""
        self._run += 1
        self._enter(None, start)
        while self._waiting:
            self._enter(*self._waiting.pop())

    def _enter(self, above: _Key | None, mapping: Document) -> None:
        """Count the keys of a mapping; the mappings in it are entered later."""
        run, parts = self._run, self._top if above is None else above.parts
        for name, value in mapping.items():
            key = parts.get(name) or self._learn(above, name)
            if key.last_run != run:
                key.last_run = run
                key.runs += 1
            kind = type(value)
            key.types.add(kind)
            if kind is dict:
                self._waiting.append((key, value))
            elif kind is list:
                self._take_items(key, value)
            elif value is not None:
                key.count(value, run)

    def _take_items(self, key: _Key, items: list[Any]) -> None:
        """Count the items of a list, but not those of lists in it, which no query finds."""
        key.item_types.update(map(type, items))
        for item in items:
            kind = type(item)
            if kind is dict:
                self._waiting.append((key, item))
            elif kind is not list and item is not None:
                key.count(item, self._run)

    def _learn(self, above: _Key | None, name: str) -> _Key:
        """Give a key that no document had at this place; one with dots may be known from another place."""
        path = name if above is None else f"{above.path}.{name}"
        parts = self._top if above is None else above.parts
        key = parts[name] = self.keys.setdefault(path, _Key(path))
        return key
