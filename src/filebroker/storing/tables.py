"""The events of one stream as an Arrow table.

The columns are those of docs/reference/format.md: ``seq_num``, ``time``, one column a data key under its
own name, then what only filebroker needs, each with a leading underscore.  The schema's metadata
``filebroker`` hold what is constant or exceptional.
"""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from filebroker.ground import codec
from filebroker.ground.documents import EVENT_KEYS
from filebroker.storing import columns
from filebroker.storing.buffer import DESCRIPTOR, EXTRA, FILLED, ORDINAL, PAGED, SEQ_NUM, TIME, UID, EventBuffer
from filebroker.storing.columns import ABSENT, Column
from filebroker.storing.layout import FORMAT
from filebroker.storing.pages import FOOTER_KEY, column_name

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def to_table(buffer: EventBuffer, declared: dict[str, str]) -> pa.Table:
    """Turn the events of a stream into a table.

    Parameters
    ----------
    buffer
        At least one event.
    declared
        The ``dtype`` that descriptors declare, by data key.
    """
    builder = _TableBuilder(len(buffer))
    builder.add("seq_num", columns.encode(buffer.field(SEQ_NUM)))
    builder.add("time", columns.encode(buffer.field(TIME)))
    data = buffer.columns("data")
    for key, values in data.items():
        builder.add(column_name(key), columns.encode(values, declared.get(key)), key)
    _add_timestamps(builder, buffer.columns("timestamps"), list(data))
    _add_uids(builder, buffer.field(UID))
    _add_bookkeeping(builder, buffer)
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


def _add_bookkeeping(builder: _TableBuilder, buffer: EventBuffer) -> None:
    """Put what nearly always is the same for all rows into the footer, else into columns."""
    constants = builder.constants
    ordinals, paged, descriptors = (buffer.field(position) for position in (ORDINAL, PAGED, DESCRIPTOR))
    if len(set(descriptors)) == 1:
        constants["descriptor"] = descriptors[0]
    else:
        column = columns.encode(descriptors)
        if not column.meta:
            column = Column(column.values.dictionary_encode(), None, {})
        builder.add("_descriptor", column)
    filled = buffer.field(FILLED)
    if any(value is not ABSENT for value in filled):
        if ABSENT not in filled and len({codec.dumps(value) for value in filled}) == 1:
            constants["filled"] = filled[0]
        else:
            builder.add("_filled", _json_or_absent(filled))
    if all(after - before == 1 for before, after in pairwise(ordinals)):
        constants["i"] = ordinals[0]
    else:
        builder.add_array("_i", pa.array(ordinals, pa.int64()))
    if all(paged):
        constants["page"] = True
    elif any(paged):
        builder.add_array("_page", pa.array(paged, pa.bool_()))
    extra = buffer.field(EXTRA)
    if any(value is not ABSENT for value in extra):
        builder.add("_extra", _json_or_absent(extra))
    order = list(buffer.batches[0].top_keys)
    if order != [key for key in EVENT_KEYS if key in order]:
        builder.footer["order"] = order


def _json_or_absent(values: list[Any]) -> Column:
    texts = [None if value is ABSENT else codec.dumps(value).decode() for value in values]
    return Column(pa.array(texts, pa.string()), None, {"encoding": "json"})
