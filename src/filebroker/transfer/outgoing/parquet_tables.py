"""Streams as Parquet: one file each, with the types that their tables have."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from filebroker.cataloging.arrays import as_array, is_missing, stacked
from filebroker.cataloging.run import Stream
from filebroker.ground import codec
from filebroker.ground.texts import encodable
from filebroker.transfer.outgoing.cells import CellKind, as_json, survey
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.rows import FilledRows

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES = {
    **{"float64": pa.float64(), "int64": pa.int64(), "Int64": pa.int64()},
    **{"boolean": pa.bool_(), "string": pa.string()},
}
#: What has no value at all.
_NOTHING = CellKind("text")


def write(job: Job) -> None:
    """Write each stream of a run to a Parquet file.

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
    The columns are ``seq_num``, ``time`` (seconds since 1970, UTC) and the fields.  Arrays are lists, nested as they
    have axes, and what is of no one kind is JSON.  The start and stop documents and the stream's descriptors are in
    the file's metadata, as JSON.
    """
    for stream in job.streams:
        name = job.stream_file(stream, ".parquet")
        with job.guarded(name), job.target.path(name) as path:
            _write_stream(job, stream, path)


def _write_stream(job: Job, stream: Stream, path: str) -> None:
    rows = FilledRows(job, stream)
    objects = [column.name for column in rows.columns if column.dtype == "object"]
    kinds = survey(_columns(rows, objects)) if objects else {}
    kinds = {name: kinds.get(name, _NOTHING) for name in objects}
    fields = [(column.name, _TYPES.get(column.dtype) or _arrow_type(kinds[column.name])) for column in rows.columns]
    schema = pa.schema([(encodable(name), kind) for name, kind in fields], metadata=_metadata(job, stream, rows))
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for first, frame in rows.batches():
            arrays = [_array(frame[name], kind, kinds.get(name)) for name, kind in fields]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            job.progress("rows", first + len(frame), rows.count)


def _columns(rows: FilledRows, names: Sequence[str]) -> "Iterator[Mapping[str, Sequence[Any]]]":
    for _, frame in rows.batches(names):
        yield {name: frame[name].tolist() for name in names}


def _metadata(job: Job, stream: Stream, rows: FilledRows) -> dict[bytes, bytes]:
    """Give the documents, and what pandas needs to give the columns the types that they have in tables."""
    documents = {"start": job.run.start, "stop": job.run.stop, "descriptors": stream.descriptors}
    empty = pd.DataFrame({encodable(c.name): pd.Series([], dtype=_pandas_type(c.dtype)) for c in rows.columns})
    shown: Mapping[bytes, bytes] = pa.Schema.from_pandas(empty, preserve_index=False).metadata
    return {**shown, **{f"bluesky.{name}".encode(): codec.dumps(doc) for name, doc in documents.items()}}


def _pandas_type(dtype: str) -> Any:
    return pd.StringDtype("pyarrow") if dtype == "string" else dtype


def _arrow_type(kind: CellKind) -> pa.DataType:
    if kind.form in ("text", "json"):
        return pa.string()
    found = pa.from_numpy_dtype(kind.dtype)
    for _ in range(len(kind.shape) if kind.form == "array" else 1):
        found = pa.list_(found)
    return found


def _array(values: "pd.Series[Any]", arrow_type: pa.DataType, kind: CellKind | None) -> pa.Array:
    if kind is None:
        return pa.array(values, arrow_type, from_pandas=True)
    listed = [None if value is pd.NA or is_missing(value) else value for value in values.tolist()]
    if kind.form == "text":
        return pa.array([None if value is None else encodable(value) for value in listed], arrow_type)
    if kind.form == "json":
        return pa.array([None if value is None else as_json(value) for value in listed], arrow_type)
    if kind.form == "array" and kind.shape and all(kind.shape):
        return _nested(listed, kind)
    return pa.array([None if value is None else as_array(value).tolist() for value in listed], arrow_type)


def _nested(values: Sequence[Any], kind: CellKind) -> pa.Array:
    """Give arrays of one shape as nested lists, without making an object of each number."""
    present = [value for value in values if value is not None]
    block = stacked(present).astype(kind.dtype, copy=False) if present else np.empty((0, *kind.shape), kind.dtype)
    found = pa.array(block.reshape(-1))
    for size in reversed(kind.shape):
        count = len(found) // size if size else 0
        found = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype="int32") * size), found)
    if len(present) == len(values):
        return found
    taken = iter(range(len(present)))
    return found.take(pa.array([None if value is None else next(taken) for value in values], pa.int64()))
