"""Snapshots: many records in one Parquet file that never changes, and is named after its content."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from filebroker.finding.records import Record
from filebroker.ground import codec

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_NAME = re.compile(r"([0-9]+)-([0-9a-f]{16})\.parquet\Z")
_FOOTER_KEY = b"filebroker"
_FORMAT = 1
_ROWS_AT_ONCE = 4096


class Snapshot(NamedTuple):
    """The content of a snapshot.

    Attributes
    ----------
    records : iterator of Record
        One for each run, read as they are asked for; raises ValueError where that is not possible.
    sources : dict of str to int
        The files of the ledger that went into it, with how many of their bytes.
    """

    records: Iterator[Record]
    sources: dict[str, int]


def is_snapshot(name: str) -> bool:
    """Tell whether a file is named like a snapshot."""
    return _NAME.match(name) is not None


def count_of(name: str) -> int:
    """Read off a snapshot's name how many records it has."""
    match = _NAME.match(name)
    return int(match[1]) if match else 0


def encode_snapshot(records: Iterable[Record], sources: Mapping[str, int]) -> tuple[str, bytes]:
    """Give the name and the content of a snapshot.

    Parameters
    ----------
    records
        One for each run; they are kept newest run last.
    sources
        The files that they came from, with how many of their bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted(records)
    schema = _schema({_FOOTER_KEY: codec.dumps({"format": _FORMAT, "sources": dict(sorted(sources.items()))})})
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    target = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, schema=schema), target, compression="zstd", row_group_size=_ROWS_AT_ONCE)
    data: bytes = target.getvalue().to_pybytes()
    return f"{len(rows)}-{hashlib.sha256(data).hexdigest()[:16]}.parquet", data


def _schema(metadata: Mapping[bytes, bytes]) -> "pa.Schema":
    import pyarrow as pa

    fields = [
        *(("path", pa.string()), ("revision", pa.int32()), ("state", pa.string())),
        *(("start", pa.string()), ("stop", pa.string()), ("pages", pa.list_(pa.string()))),
    ]
    return pa.schema(fields, metadata=metadata)


def decode_snapshot(name: str, data: bytes) -> Snapshot:
    """Read a snapshot.

    Raises
    ------
    ValueError
        It is damaged: its content is not that which it is named after, or is no snapshot.
    """
    match = _NAME.match(name)
    if match is None or hashlib.sha256(data).hexdigest()[:16] != match[2]:
        raise ValueError("its content is not that which it is named after")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        footer = codec.loads(file.schema_arrow.metadata[_FOOTER_KEY])
        version, sources = footer["format"], dict(footer["sources"])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"it is no snapshot of a ledger: {error}") from error
    is_ours = file.schema_arrow.equals(_schema({})) and all(type(size) is int for size in sources.values())
    if version != _FORMAT or not is_ours:
        raise ValueError(f"it is no snapshot of a ledger of format {_FORMAT}")
    return Snapshot(_records(file), sources)


def _records(file: "pq.ParquetFile") -> Iterator[Record]:
    import pyarrow as pa

    names = [field.name for field in _schema({})]
    try:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
            columns = [batch.column(name).to_pylist() for name in names]
            for path, revision, state, start, stop, pages in zip(*columns, strict=True):
                raw_stop = None if stop is None else stop.encode()
                yield Record(path, revision, state, (start or "").encode(), raw_stop, tuple(pages or ()))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not all of it can be read: {error}") from error
