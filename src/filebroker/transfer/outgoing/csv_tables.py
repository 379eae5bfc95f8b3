"""Streams as CSV: one file each, for spreadsheets and for pandas."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from filebroker.cataloging.arrays import is_missing
from filebroker.cataloging.run import Stream
from filebroker.ground.texts import encodable
from filebroker.transfer.outgoing.cells import as_json
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.rows import FilledRows

if TYPE_CHECKING:
    import pandas as pd

#: A spreadsheet takes text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(job: Job) -> None:
    """Write each stream of a run to a CSV file.

    Parameters
    ----------
    job
        The run.

    Raises
    ------
    AssetExists, StorageError
        As for `Target.path`.
    """
    for stream in job.streams:
        name = job.stream_file(stream, ".csv")
        with job.guarded(name), job.file(name) as file:
            write_stream(job, stream, file)


def write_stream(job: Job, stream: Stream, file: BinaryIO) -> None:
    """Write a stream as CSV, in UTF-8.

    Parameters
    ----------
    job
        The run.
    stream
        One of its streams.
    file
        Where to write.

    Notes
    -----
    The columns are ``seq_num``, ``time`` (seconds since 1970, UTC) and the fields.  What is missing is an empty cell,
    and an array or mapping is JSON.
    """
    rows = FilledRows(job, stream)
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        clean = _harmless if job.safe else _unchanged
        writer.writerow([clean(encodable(column.name)) for column in rows.columns])
        for first, frame in rows.batches():
            columns = (_cells(frame[column.name], clean) for column in rows.columns)
            writer.writerows(zip(*columns, strict=True))
            job.progress("rows", first + len(frame), rows.count)
    finally:
        text.detach()  # the file is not ours to close


def _unchanged(text: str) -> str:
    return text


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cells(values: "pd.Series[Any]", clean: Any) -> Iterable[Any]:
    """Give a column as what the CSV writer writes so that it can be read back."""
    if values.dtype.kind in "iu" and isinstance(values.dtype, np.dtype):
        return values.tolist()
    if values.dtype.kind == "f" and isinstance(values.dtype, np.dtype):
        return ["" if number != number else number for number in values.tolist()]
    return _any_cells(values.tolist(), clean)


def _any_cells(values: Iterable[Any], clean: Any) -> Iterator[Any]:
    import pandas as pd

    for value in values:
        if value is pd.NA or is_missing(value):
            yield ""
        elif isinstance(value, str):
            yield clean(encodable(value))
        elif isinstance(value, bool | int | float):
            yield value
        else:
            yield as_json(value)
