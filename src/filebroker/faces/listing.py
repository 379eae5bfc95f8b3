"""Runs as lines of a list: the columns that people look for first."""

from collections.abc import Iterable

from filebroker.finding.entries import Documents
from filebroker.ground import times
from filebroker.ground.texts import printable

COLUMNS = ("uid", "time", "scan_id", "status", "plan")
#: How the states of a run without a stop document are called.
STATES = {"live": "in progress", "interrupted": "interrupted", "sealed": "no stop document"}
_FORMAT = "{:<8}  {:<25}  {:>7}  {:<11} {}"


def row_of(item: Documents) -> tuple[str, str, str, str, str]:
    """Give what stands in each of `COLUMNS` for a run."""
    start, stop = item.start, item.stop
    status = str(stop.get("exit_status", "-")) if stop else STATES[item.entry.state]
    number, plan = start.get("scan_id", "-"), start.get("plan_name", "")
    return (
        *(printable(item.entry.uid[:8]), times.local(start["time"])),
        *(printable(str(number)), printable(status), printable(str(plan))),
    )


def as_text(items: Iterable[Documents]) -> Iterable[str]:
    """Give a heading, and a line for each run; nothing for no runs."""
    for position, item in enumerate(items):
        if position == 0:
            yield _FORMAT.format(*COLUMNS)
        yield _FORMAT.format(*row_of(item)).rstrip()
