"""Runs as scans of SPEC, whose text files many programs for diffraction read."""

import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from filebroker.cataloging.arrays import is_missing
from filebroker.cataloging.run import Stream
from filebroker.transfer.outgoing.cells import as_json
from filebroker.transfer.outgoing.hints import hinted_fields, scanned_fields
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.rows import FilledRows

if TYPE_CHECKING:
    import pandas as pd

    from filebroker.cataloging.table_columns import TableColumn

_NUMBERS = ("float64", "int64", "Int64", "boolean")
#: So many names, or positions, are in one line of a header.
_IN_LINE = 8
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
_BASELINE, _MISSING = "baseline", "nan"


def write(job: Job) -> None:
    """Write a run to one SPEC file: a scan of each stream but the baseline, which gives the motors' positions.

    Parameters
    ----------
    job
        The run.

    Raises
    ------
    AssetExists, StorageError
        As for `Target.path`.

    Notes
    -----
    A column of a scan is numbers.  What is none is left out, and a note tells of it.  Another tells of missing numbers.
    """
    name = job.file_name(".spec")
    streams = [stream for stream in job.streams if stream.name != _BASELINE]
    streams.sort(key=lambda stream: stream.name != "primary")  # the first scan of the file is what people look for
    with job.target.path(name) as path, open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        motors = _positions(job)
        for line in _head(job, name, list(motors)):
            file.write(f"{line}\n")
        for stream in streams:
            _write_scan(job, stream, list(motors.values()), file)


def _head(job: Job, name: str, motors: Sequence[str]) -> Iterator[str]:
    start = job.run.start
    yield f"#F {name}"
    yield f"#E {_whole(start['time'])}"
    yield f"#D {_date(start['time'])}"
    yield f"#C exported by filebroker  User = {_word(start.get('operator') or start.get('user') or 'unknown')}"
    for number, some in enumerate(_groups(motors)):
        yield f"#O{number} {'  '.join(some)}"
    yield ""


def _groups(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[at : at + _IN_LINE] for at in range(0, len(values), _IN_LINE))


def _write_scan(job: Job, stream: Stream, positions: Sequence[str], file: TextIO) -> None:
    rows = FilledRows(job, stream)
    columns = _in_order(job, stream, rows.columns)
    left_out = [column.key for column in rows.columns if column.dtype not in _NUMBERS]
    if left_out:
        job.note(f"fields that have no place in the scan of stream {stream.name!r}: {', '.join(left_out)}")
    for line in _scan_head(job, stream, positions):
        file.write(f"{line}\n")
    labels = _labels([column.name for column in columns])
    file.write(f"#N {len(labels)}\n#L {'  '.join(labels)}\n")
    lacking: set[str] = set()
    for first, frame in rows.batches():
        cells = [_cells(frame[column.name], column.name, job.run.start["time"]) for column in columns]
        lacking.update(label for label, column in zip(labels, cells, strict=True) if _MISSING in column)
        file.writelines(f"{' '.join(row)}\n" for row in zip(*cells, strict=True))
        job.progress("rows", first + len(frame), rows.count)
    _note_missing(job, f"the scan of stream {stream.name!r}", [label for label in labels if label in lacking])
    stop = job.run.stop or {}
    ended = f"{_date(stop['time'])}  exit_status = {_word(stop.get('exit_status'))}" if stop else "not yet ended"
    file.write(f"#C {ended}  num_events_{_word(stream.name)} = {len(stream)}\n\n")


def _note_missing(job: Job, place: str, labels: Sequence[str]) -> None:
    if labels:
        names = ", ".join(labels)
        job.note(f"missing numbers are written as nan, which silx and PyMca read as 0, in {place}: {names}")


def _in_order(job: Job, stream: Stream, columns: "Sequence[TableColumn]") -> "list[TableColumn]":
    """Give the columns of numbers as people expect them: what is scanned at the left, what is plotted at the right."""
    scanned = set(scanned_fields(job.run.start, stream.name))
    plotted = [key for key in hinted_fields(stream) if key not in scanned]

    def place(column: "TableColumn") -> tuple[int, int]:
        if column.source == "event":
            return 1, 0
        if column.key in scanned:
            return 0, 0
        return (3, -plotted.index(column.key)) if column.key in plotted else (2, 0)

    numbers = [column for column in columns if column.dtype in _NUMBERS and column.name != "seq_num"]
    return sorted(numbers, key=place)


def _positions(job: Job) -> dict[str, str]:
    """Give the first value of each number of the baseline, by its label."""
    found: dict[str, str] = {}
    for stream in job.streams:
        if stream.name == _BASELINE:
            rows = FilledRows(job, stream)
            names = [column.name for column in rows.columns if column.source == "data" and column.dtype in _NUMBERS]
            for _, frame in rows.batches():
                labels, cells = _labels(names), [_number(frame[name].iloc[0]) for name in names]
                lacking = [label for label, cell in zip(labels, cells, strict=True) if cell == _MISSING]
                _note_missing(job, "the positions of the motors", lacking)
                return dict(zip(labels, cells, strict=True))
    return found


def _scan_head(job: Job, stream: Stream, positions: Sequence[str]) -> Iterator[str]:
    start = job.run.start
    number = start.get("scan_id")
    scan_id = number if isinstance(number, int) and number > 0 else 1
    name = "" if stream.name == "primary" else f"  stream={_word(stream.name)}"
    yield f"#S {scan_id}  {_command(start)}{name}"
    yield f"#D {_date(start['time'])}"
    yield f"#C uid = {_word(start['uid'])}"
    for number, some in enumerate(_groups(positions)):
        yield f"#P{number} {' '.join(some)}"
    for key, value in start.items():
        if key not in ("uid", "time", "hints", "plan_args"):
            yield f"#MD {_word(key)} = {_word(value if isinstance(value, str) else as_json(value))}"


def _command(start: Any) -> str:
    """Give a plan as one would type it."""
    arguments = start.get("plan_args")
    told = []
    if isinstance(arguments, dict):
        told = [
            f"{_word(key)}={_word(value if isinstance(value, str) else as_json(value))}"
            for key, value in arguments.items()
        ]
    return f"{_word(start.get('plan_name', 'run'))}({', '.join(told)})"


def _labels(names: Sequence[str]) -> list[str]:
    """Give names without blanks, which separate them, and of which some readers take all away; no two are the same."""
    labels: list[str] = []
    for name in names:
        label = base = "Epoch" if name == "time" else _word(name).replace(" ", "_") or "_"
        number = 2
        while label in labels:
            label, number = f"{base}_{number}", number + 1
        labels.append(label)
    return labels


def _word(value: Any) -> str:
    """Give a text in one line."""
    return _BLANKS.sub(" ", str(value))


def _cells(values: "pd.Series[Any]", name: str, began: float) -> list[str]:
    if name == "time":
        return [_number(time - _whole(began)) for time in values.tolist()]
    return [_number(value) for value in values.tolist()]


def _number(value: Any) -> str:
    import pandas as pd

    if value is pd.NA or is_missing(value):
        return _MISSING
    number = np.asarray(value).item()
    if isinstance(number, float) and math.isinf(number):
        return "1e999" if number > 0 else "-1e999"  # which all readers take for that, as few do "inf"
    return repr(int(number)) if isinstance(number, bool) else repr(number)


def _whole(time: Any) -> int:
    """Give a time in whole seconds, 0 for one that is no number."""
    try:
        return int(time)
    except (ValueError, OverflowError):
        return 0


def _date(time: Any) -> str:
    """Give a time as SPEC writes it, in the local zone."""
    try:
        return datetime.fromtimestamp(time).strftime("%a %b %d %H:%M:%S %Y")
    except (TypeError, ValueError, OverflowError, OSError):
        return "Thu Jan 01 00:00:00 1970"
