"""Event pages: the events of one stream as an Arrow table, and the table as a Parquet file.

The columns are those of docs/reference/format.md: ``seq_num``, ``time``, one column a data key under its
own name, then what only filebroker needs, each with a leading underscore.  The footer's key
``filebroker`` holds what is constant or exceptional.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from filebroker.ground import codec
from filebroker.ground.documents import EVENT_KEYS, Document, Pair, pack_event_page
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.storing import columns
from filebroker.storing.buffer import DESCRIPTOR, EXTRA, FILLED, ORDINAL, PAGED, SEQ_NUM, TIME, UID, EventBuffer
from filebroker.storing.columns import ABSENT, Column
from filebroker.storing.layout import FORMAT

_FOOTER_KEY = b"filebroker"
_RESERVED = frozenset({"seq_num", "time"})
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
#: Below this number of rows encodings and statistics cost more than they save.
_SMALL = 1000
_ROW_GROUP_ROWS = 200_000
_ROW_GROUP_BYTES = 16 << 20
#: So many rows are turned into documents at a time.
_DECODED_ROWS = 4096
_UNTHREADED_ROWS = 50_000


#: Which columns of a page to read.
Columns = Literal["all", "shown", "data"]

# ---------------------------------------------------------------------------------------- writing


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
        schema = pa.schema(fields, metadata={_FOOTER_KEY: codec.dumps(footer)})
        return pa.Table.from_arrays(list(arrays.values()), schema=schema)


def column_name(key: str) -> str:
    """Give the name of a data key's column: the key itself unless it would clash."""
    return f"_data.{key}" if not key or key in _RESERVED or key.startswith("_") else key


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


def to_parquet(table: pa.Table) -> bytes:
    """Write a table as a Parquet file in memory.

    The options were chosen by measurement, see docs/decisions/0003-parquet-options.md.
    """
    target = pa.BufferOutputStream()
    width = max(1, table.nbytes // max(1, table.num_rows))
    with pq.ParquetWriter(target, table.schema, **_options(table)) as writer:
        # store_schema=False drops the schema's metadata as well, so it is added by hand.
        writer.add_key_value_metadata(dict(table.schema.metadata))
        writer.write_table(table, row_group_size=max(1, min(_ROW_GROUP_ROWS, _ROW_GROUP_BYTES // width)))
    data: bytes = target.getvalue().to_pybytes()
    return data


def _options(table: pa.Table) -> dict[str, Any]:
    options: dict[str, Any] = {
        **{"compression": "zstd", "compression_level": 1},
        **{"store_schema": False, "write_page_checksum": True},
    }
    if table.num_rows < _SMALL:
        return {**options, "use_dictionary": ["_descriptor"], "write_statistics": False}
    encodings, dictionaries = {}, []
    for field in table.schema:
        kind = field.type
        if pa.types.is_floating(kind) and kind.bit_width >= 32:
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif field.name in ("_i", "seq_num") and kind == pa.int64():
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_list(kind) and kind.value_type == pa.float64():
            encodings[f"{field.name}.list.element"] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            dictionaries.append(field.name)
    return {
        **options,
        "column_encoding": encodings,
        "use_dictionary": dictionaries or False,
        "write_statistics": ["seq_num", "time"],
    }


# ---------------------------------------------------------------------------------------- reading


def footer_seal(data: bytes) -> list[int]:
    """Give the length of a Parquet file's footer, magic included, and its CRC-32.

    Parquet's own checksums guard the pages of a file but not its footer.

    Raises
    ------
    DamagedRun
        The file does not end as a Parquet file does.
    """
    size = int.from_bytes(data[-8:-4], "little") + 8
    if bytes(data[-4:]) != b"PAR1" or size > len(data):
        raise DamagedRun("it does not end as a Parquet file does")
    return [size, zlib.crc32(data[-size:])]


@dataclass(frozen=True)
class PageColumn:
    """Where a data key is in a page."""

    name: str
    key: str
    meta: dict[str, Any]


class Page:
    """Some or all columns of an event page, with access by data key.

    Parameters
    ----------
    table
        As read from Parquet, or as made by `to_table`.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.footer: dict[str, Any] = codec.loads(table.schema.metadata[_FOOTER_KEY])
        self.rows: int = table.num_rows
        # Looking a column up by its name costs pyarrow time in proportion to their number.
        self._columns = dict(zip(table.column_names, table.columns, strict=True))
        self._metas: dict[str, dict[str, Any]] = self.footer.get("columns", {})

    @property
    def data_columns(self) -> list[PageColumn]:
        """The columns of data keys, in their order."""
        return [self._data_column(name) for name in self._columns if _is_data(name)]

    def _data_column(self, name: str) -> PageColumn:
        meta = self.meta(name)
        return PageColumn(name, meta.get("key", name), meta)

    def meta(self, name: str) -> dict[str, Any]:
        """Give what the footer says of a column."""
        return self._metas.get(name, {})

    def column(self, name: str) -> Column:
        """Give one column, its chunks joined."""
        exceptions = self._columns.get(f"_x.{name}")
        return Column(
            _joined(self._columns[name]),
            None if exceptions is None else _joined(exceptions),
            self._metas.get(name, {}),
        )

    def has(self, name: str) -> bool:
        """Tell whether a column was read."""
        return name in self._columns

    def raw(self, name: str) -> pa.ChunkedArray:
        """Give one column as it was read."""
        return self._columns[name]

    def values(self, name: str) -> list[Any]:
        """Give the values of a column as JSON's own types."""
        return columns.decode(self.column(name))

    def refill(self, buffer: EventBuffer) -> None:
        """Put the events of a whole page back into a buffer, arrays as arrays."""
        arrays = {
            item.key: columns.as_arrays(self.column(item.name))
            for item in self.data_columns
            if item.meta.get("encoding") in ("array", "npy")
        }
        for row, (ordinal, paged, event) in enumerate(self._events(0)):
            for key, values in arrays.items():
                if values[row] is not None:
                    event["data"][key] = values[row]
            buffer.add(ordinal, event, paged=paged)

    def documents(self) -> Iterator[tuple[int, Pair]]:
        """Give the event and event_page documents of a whole page with their ordinals."""
        pending: list[Document] = []
        before = -1
        for start in range(0, self.rows, _DECODED_ROWS):
            part = Page(self.table.slice(start, _DECODED_ROWS)) if self.rows > _DECODED_ROWS else self
            for ordinal, paged, event in part._events(start):
                if pending and ordinal != before:
                    yield before, ("event_page", pack_event_page(pending))
                    pending = []
                before = ordinal
                if paged:
                    pending.append(event)
                else:
                    yield ordinal, ("event", event)
        if pending:
            yield before, ("event_page", pack_event_page(pending))

    def _events(self, offset: int) -> Iterator[tuple[int, bool, Document]]:
        """Give ordinal, whether it came in an event page, and event; ``offset`` rows come before."""
        constants = self.footer.get("const", {})
        parts: dict[str, Sequence[Any]] = {
            "descriptor": self._values_or("_descriptor", constants.get("descriptor")),
            "uid": self._uids(),
            "time": self.values("time"),
            "seq_num": self.values("seq_num"),
            "data": _dicts({item.key: self.values(item.name) for item in self.data_columns}, self.rows),
            "timestamps": _dicts(self._timestamps(), self.rows),
            "filled": self._json_or_absent("_filled", constants.get("filled", ABSENT)),
        }
        order = [key for key in self.footer.get("order", EVENT_KEYS) if key in parts]
        order += [key for key in parts if key not in order]
        extra = self._json_or_absent("_extra", ABSENT)
        ordinals = self._values_or("_i", None)
        if "i" in constants:
            first = constants["i"] + offset
            ordinals = range(first, first + self.rows)
        paged = self._values_or("_page", constants.get("page", False))
        rows = zip(*(parts[key] for key in order), strict=True)
        for ordinal, is_paged, more, row in zip(ordinals, paged, extra, rows, strict=True):
            event = dict(zip(order, row, strict=True))
            if event["filled"] is ABSENT:
                del event["filled"]
            elif self.rows > 1 and "filled" in constants:
                event["filled"] = dict(event["filled"])
            if more is not ABSENT:
                event.update(more)
            yield ordinal, is_paged, event

    def _values_or(self, name: str, constant: Any) -> Sequence[Any]:
        return self.values(name) if self.has(name) else [constant] * self.rows

    def _json_or_absent(self, name: str, constant: Any) -> Sequence[Any]:
        if not self.has(name):
            return [constant] * self.rows
        return [ABSENT if text is None else codec.loads(text.encode()) for text in self._columns[name].to_pylist()]

    def _uids(self) -> list[str]:
        column = _joined(self._columns["_uid"])
        if not pa.types.is_fixed_size_binary(column.type):
            return self.values("_uid")
        digits = b"".join(column.to_pylist()).hex()
        return [
            f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-{digits[i + 12 : i + 16]}-"
            f"{digits[i + 16 : i + 20]}-{digits[i + 20 : i + 32]}"
            for i in range(0, len(digits), 32)
        ]

    def _timestamps(self) -> dict[str, list[Any]]:
        keys = self.footer.get("timestamps", [item.key for item in self.data_columns])
        stamps: dict[str, list[Any]] = {}
        if self.has("_timestamps"):
            matrix = _joined(self._columns["_timestamps"]).flatten().to_numpy().reshape(self.rows, len(keys))
            stamps = {key: matrix[:, position].tolist() for position, key in enumerate(keys)}
        for name in self._columns:
            if name.startswith("_ts."):
                stamps[self._metas[name]["key"]] = self.values(name)
        return stamps


def _is_data(name: str) -> bool:
    return name.startswith("_data.") or not (name in _RESERVED or name.startswith("_"))


def _is_shown(name: str) -> bool:
    """Tell whether a table needs a column."""
    bare = name.removeprefix("_x.")
    return bare in _RESERVED or _is_data(bare)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    """Give a column as one plain array."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # too long for one array of its type
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.cast(pa.string())
    return array


def _dicts(parts: dict[str, list[Any]], rows: int) -> list[dict[str, Any]]:
    """Turn columns into one dict a row, leaving out what is absent."""
    if not parts:
        return [{} for _ in range(rows)]
    keys = tuple(parts)
    result = [dict(zip(keys, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    for key, values in parts.items():
        if any(value is ABSENT for value in values):
            for row, value in zip(result, values, strict=True):
                if value is ABSENT:
                    del row[key]
    return result


class PageFile:
    """A Parquet file that holds an event page.

    Parameters
    ----------
    source
        A local path, or the file's whole content.
    name
        Its name for messages.

    Raises
    ------
    DamagedRun
        It is no Parquet file, or not one of ours.
    """

    def __init__(self, source: str | bytes, name: str) -> None:
        self.name = name
        handle = pa.OSFile(source) if isinstance(source, str) else pa.BufferReader(source)
        try:
            self._file = pq.ParquetFile(handle, pre_buffer=False, page_checksum_verification=True)
            self._names = self._file.schema_arrow.names
            footer = codec.loads(self._file.schema_arrow.metadata[_FOOTER_KEY])
            version = footer["format"]
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise DamagedRun(f"{name} is no event page: {error}") from error
        if version != FORMAT:
            raise UnsupportedFormat(
                f"{name} has format {version!r}, and this version reads {FORMAT}; upgrade filebroker"
            )

    @property
    def uncompressed(self) -> int:
        """Size of the columns in bytes, before compression."""
        metadata = self._file.metadata
        return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))

    @property
    def data_schema(self) -> dict[str, pa.DataType]:
        """Types of the columns that a table shows, by name."""
        return {field.name: field.type for field in self._file.schema_arrow if _is_shown(field.name)}

    def read(self, columns: Columns = "all", keys: Sequence[str] | None = None) -> Page:
        """Read the page, or some of its columns.

        Parameters
        ----------
        columns
            ``all``; ``shown``, what a table shows: seq_num, time and data; or ``data`` alone.
        keys
            Data keys to read; None for all.  Unknown keys are passed over.

        Raises
        ------
        DamagedRun
            A checksum does not match.
        """
        wanted = self._names
        if columns != "all":
            names = None if keys is None else {column_name(key) for key in keys}
            bare = {name: name.removeprefix("_x.") for name in wanted}
            wanted = [
                name
                for name in wanted
                if (columns == "shown" and bare[name] in _RESERVED)
                or (_is_data(bare[name]) and (names is None or bare[name] in names))
            ]
        try:
            table = self._file.read(
                columns=None if wanted == self._names else wanted,
                use_threads=self._file.metadata.num_rows > _UNTHREADED_ROWS,
            )
        except (pa.ArrowException, OSError) as error:
            raise DamagedRun(f"{self.name} cannot be read: {error}") from error
        return Page(table)
