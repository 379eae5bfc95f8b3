"""The events of one stream as an Arrow table.

The columns are those of docs/reference/format.md: ``seq_num``, ``time``, one column a data key under its
own name, then what only filebroker needs, each with a leading underscore.  The schema's metadata
``filebroker`` hold what is constant or exceptional.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from filebroker.ground import codec
from filebroker.ground.documents import EVENT_KEYS
from filebroker.storing import columns
from filebroker.storing.buffer import DESCRIPTOR, EXTRA, FILLED, ORDINAL, PAGED, SEQ_NUM, TIME, UID, EventBuffer
from filebroker.storing.columns import ABSENT, Column
from filebroker.storing.layout import FORMAT
from filebroker.storing.pages import FOOTER_KEY, Page, column_name

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def to_table(buffer: EventBuffer, declared: dict[str, str], keys: Sequence[str] | None = None) -> pa.Table:
    """Turn the events of a stream into a table.

    Parameters
    ----------
    buffer
        At least one event.
    declared
        The ``dtype`` that descriptors declare, by data key.
    keys
        Only these data keys, and no timestamps, uids and bookkeeping; None for a whole page.
    """
    builder = _TableBuilder(len(buffer))
    builder.add("seq_num", columns.encode(buffer.field(SEQ_NUM)))
    builder.add("time", columns.encode(buffer.field(TIME)))
    data = buffer.columns("data")
    for key, values in data.items():
        if keys is None or key in keys:
            builder.add(column_name(key), columns.encode(values, declared.get(key)), key)
    if keys is not None:
        return builder.table()
    _add_timestamps(builder, buffer.columns("timestamps"), list(data))
    _add_uids(builder, buffer.field(UID))
    book = Bookkeeping(*map(buffer.field, (ORDINAL, PAGED, DESCRIPTOR, FILLED, EXTRA)))
    _add_bookkeeping(builder, book, list(buffer.batches[0].top_keys))
    return builder.table()


class _TableBuilder:
    """Collects columns, their exceptions, and what the footer says of them."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.constants: dict[str, Any] = {}
        self.footer: dict[str, Any] = {"format": FORMAT, "rows": rows}
        self._arrays: dict[str, pa.Array] = {}
        self._exceptions: dict[str, pa.Array] = {}
        self._metas: dict[str, dict[str, Any]] = {}

    def add(self, name: str, column: Column, key: str | None = None) -> None:
        """Add a column; ``key`` is the data key where the column's name may be another."""
        self._arrays[name] = column.values
        meta = column.meta if key is None or key == name else {"key": key, **column.meta}
        if meta:
            self._metas[name] = meta
        if column.exceptions is not None and column.exceptions.null_count < self.rows:
            self._exceptions[f"_x.{name}"] = column.exceptions

    def add_array(self, name: str, values: pa.Array) -> None:
        self._arrays[name] = values

    def table(self) -> pa.Table:
        footer = dict(self.footer)
        if self.constants:
            footer["const"] = self.constants
        if self._metas:
            footer["columns"] = self._metas
        arrays = {**self._arrays, **self._exceptions}
        fields = [pa.field(name, array.type) for name, array in arrays.items()]
        schema = pa.schema(fields, metadata={FOOTER_KEY: codec.dumps(footer)})
        return pa.Table.from_arrays(list(arrays.values()), schema=schema)


def _add_timestamps(builder: _TableBuilder, stamps: dict[str, list[Any]], data_keys: list[str]) -> None:
    """Put the timestamps that are all floats into one column of lists, any others into their own."""
    regular = [key for key, values in stamps.items() if set(map(type, values)) <= {float, np.float64}]
    if regular:
        flat = np.array([stamps[key] for key in regular], dtype="float64").T.reshape(-1)
        offsets = np.arange(0, flat.size + 1, len(regular), dtype="int32")
        builder.add_array("_timestamps", pa.ListArray.from_arrays(offsets, pa.array(flat)))
    if regular != data_keys:
        builder.footer["timestamps"] = regular
    for key in [key for key in stamps if key not in regular]:
        builder.add(f"_ts.{key}", columns.encode(stamps[key]), key)


def _add_uids(builder: _TableBuilder, uids: list[str]) -> None:
    if all(type(uid) is str and _CANONICAL_UUID.match(uid) for uid in uids):
        raw = bytes.fromhex("".join(uids).replace("-", ""))
        storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(uids), [None, pa.py_buffer(raw)])
        builder.add_array("_uid", pa.ExtensionArray.from_storage(pa.uuid(), storage))
    else:
        builder.add("_uid", columns.encode(uids))


def _add_bookkeeping(builder: _TableBuilder, book: "Bookkeeping", order: list[str]) -> None:
    """Put what nearly always is the same for all rows into the footer, else into columns."""
    constants = builder.constants
    if len(set(book.descriptors)) == 1:
        constants["descriptor"] = book.descriptors[0]
    else:
        column = columns.encode(book.descriptors)
        if not column.meta:
            column = Column(column.values.dictionary_encode(), None, {})
        builder.add("_descriptor", column)
    if any(value is not ABSENT for value in book.filled):
        if ABSENT not in book.filled and len({codec.dumps(value) for value in book.filled}) == 1:
            constants["filled"] = book.filled[0]
        else:
            builder.add("_filled", _json_or_absent(book.filled))
    if all(after - before == 1 for before, after in pairwise(book.ordinals)):
        constants["i"] = book.ordinals[0]
    else:
        builder.add_array("_i", pa.array(book.ordinals, pa.int64()))
    if all(book.paged):
        constants["page"] = True
    elif any(book.paged):
        builder.add_array("_page", pa.array(book.paged, pa.bool_()))
    if any(value is not ABSENT for value in book.extra):
        builder.add("_extra", _json_or_absent(book.extra))
    if order != [key for key in EVENT_KEYS if key in order]:
        builder.footer["order"] = order


class Bookkeeping(NamedTuple):
    """What filebroker needs to know of each event, beside its data, timestamps and uid."""

    ordinals: Sequence[int]
    paged: Sequence[bool]
    descriptors: Sequence[str]
    filled: Sequence[Any]
    extra: Sequence[Any]


def merge(pages: Sequence[Page], declared: dict[str, str]) -> pa.Table:
    """Make one table of pages whose columns are not all of the same types.

    Columns that are alike in all pages are joined as they are; the values of the others are encoded anew.

    Parameters
    ----------
    pages
        Whole pages of one stream, in order.
    declared
        The ``dtype`` that descriptors declare, by data key.
    """
    builder = _TableBuilder(sum(page.rows for page in pages))
    for name in ("seq_num", "time"):
        builder.add(name, _merged(pages, name, None))
    items = {item.name: item.key for page in pages for item in page.data_columns}
    for name, key in items.items():
        builder.add(name, _merged(pages, name, declared.get(key)), key)
    stamps: dict[str, list[Any]] = {}
    rows = 0
    for page in pages:
        for key, values in page.timestamps().items():
            stamps.setdefault(key, [ABSENT] * rows).extend(values)
        rows += page.rows
        for column in stamps.values():
            column.extend([ABSENT] * (rows - len(column)))
    _add_timestamps(builder, stamps, list(items.values()))
    _add_uids(builder, [uid for page in pages for uid in page.uids()])
    parts = [page.bookkeeping() for page in pages]
    book = Bookkeeping(*([value for part in parts for value in part[field]] for field in range(5)))
    _add_bookkeeping(builder, book, pages[0].order)
    return builder.table()


def _merged(pages: Sequence[Page], name: str, declared: str | None) -> Column:
    """Join one column of all pages."""
    parts = [page.column(name) if page.has(name) else None for page in pages]
    first = parts[0]
    if first is not None and all(
        part is not None and part.meta == first.meta and part.values.type == first.values.type for part in parts
    ):
        marks = [
            pa.nulls(page.rows, pa.string()) if part is None or part.exceptions is None else part.exceptions
            for page, part in zip(pages, parts, strict=True)
        ]
        values = pa.chunked_array([part.values for part in parts if part is not None])
        meta = {key: value for key, value in first.meta.items() if key != "key"}
        return Column(values, pa.chunked_array(marks), meta)
    joined: list[Any] = []
    for page, part in zip(pages, parts, strict=True):
        joined += [ABSENT] * page.rows if part is None else columns.as_values(part)
    return columns.encode(joined, declared)


def _json_or_absent(values: Sequence[Any]) -> Column:
    texts = [None if value is ABSENT else codec.dumps(value).decode() for value in values]
    return Column(pa.array(texts, pa.string()), None, {"encoding": "json"})
