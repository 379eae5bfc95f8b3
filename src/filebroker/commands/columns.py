"""What can stand in a column of a list of runs."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from filebroker.commands.terminal import cut

if TYPE_CHECKING:
    from filebroker.finding.entries import Documents, Entry

#: For the end of a verb's help.
COLUMNS = """\
what a column can be:
  scan_id, sample.name       a key of the metadata, as "filebroker keys CATALOG" lists them; a dot leads into a mapping
  start.time                 the same, also where a name below means something else
  stop.num_events            a key of the stop document
  annotations.tags           what was said of the run afterwards; annotations.comment and annotations.author as well
  uid                        in text its first characters
  time, stop_time            when the run began and ended, in the local time
  duration                   between these, in seconds
  status                     "success", "fail", "abort", "in progress", "interrupted"
  exit_status, plan          that of the stop document; the name of the plan
"""
#: Those that are shown if none are chosen.
DEFAULT = ("uid", "time", "scan_id", "status", "plan")
_SHORT = 8
#: What is longer is cut where people read it.
_LONGEST = 80

Row = dict[str, Any]


class _Run(NamedTuple):
    """A run with its documents, parsed once."""

    entry: "Entry"
    start: Mapping[str, Any]
    searched: Mapping[str, Any]
    stop: Mapping[str, Any] | None


_Reader = Callable[[_Run], Any]


def rows_of(items: Iterable["Documents"], columns: Sequence[str], *, is_short: bool = False) -> Iterable[Row]:
    """Give the columns of some runs, each run when it is asked for.

    Parameters
    ----------
    items
        The runs.
    columns
        See `COLUMNS`.
    is_short
        Give the first characters of uids, and of what is long.

    Raises
    ------
    InvalidQuery
        A column is too deep a path.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").catalog
    >>> next(iter(rows_of(catalog.documents(), ["scan_id", "sample.name", "stop.num_events.primary"])))
    {'scan_id': 22, 'sample.name': 'good sample', 'stop.num_events.primary': 11}
    """
    readers = {name: _reader(name) for name in columns}
    rows = ({name: read(run) for name, read in readers.items()} for run in map(_parsed, items))
    return map(_shortened, rows) if is_short else rows


def _shortened(row: Row) -> Row:
    return {name: value[:_SHORT] if name == "uid" else _short(value) for name, value in row.items()}


def _short(value: Any) -> Any:
    """Give a value as it is, the beginning of it as text if it is long."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return cut(text, _LONGEST) if isinstance(text, str) else value


def _parsed(item: "Documents") -> _Run:
    start = item.start
    return _Run(item.entry, start, item.searched if item.raw_annotations else start, item.stop)


def _reader(name: str) -> _Reader:
    """Give what reads a column."""
    from filebroker.finding.values import Path, value_at

    if name in _OWN:
        return _OWN[name]
    kind, _, key = name.partition(".")
    path = Path(key if kind in ("start", "stop") and key else name)
    if kind == "stop" and key:
        return lambda run: value_at(run.stop or {}, path)
    if kind == "start" and key:
        return lambda run: value_at(run.start, path)
    return lambda run: value_at(run.searched, path)


def _time(run: _Run) -> str:
    from filebroker.ground import times

    return times.local(run.start["time"])


def _stop_time(run: _Run) -> str | None:
    from filebroker.ground import times

    return times.local(run.stop["time"]) if run.stop and "time" in run.stop else None


def duration(start: Mapping[str, Any], stop: Mapping[str, Any] | None) -> float | None:
    """Give how many seconds a run took, None if that is not known.

    Examples
    --------
    >>> duration({"time": 1763821925.25}, {"time": 1763821929.0})
    3.75
    """
    try:
        return round(float(stop["time"] - start["time"]), 3) if stop else None
    except (TypeError, KeyError, OverflowError, ValueError):
        return None


def _status(run: _Run) -> Any:
    from filebroker.faces.listing import STATES

    return run.stop.get("exit_status") if run.stop else STATES[run.entry.state]


#: Columns that are no keys of the start document.
_OWN: dict[str, _Reader] = {
    "uid": lambda run: run.entry.uid,
    "time": _time,
    "stop_time": _stop_time,
    "duration": lambda run: duration(run.start, run.stop),
    "status": _status,
    "exit_status": lambda run: (run.stop or {}).get("exit_status"),
    "plan": lambda run: run.start.get("plan_name"),
}
