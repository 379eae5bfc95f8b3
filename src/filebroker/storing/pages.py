"""Event pages: access to an Arrow table of events by data key, and the documents it was made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from filebroker.ground import codec
from filebroker.ground.documents import EVENT_KEYS, Document, Pair, pack_event_page, unpack_event_page
from filebroker.storing import columns
from filebroker.storing.columns import ABSENT, Column

#: Key of the schema's metadata under which a page says what its columns are.
FOOTER_KEY = b"filebroker"
#: Columns of the event's own that a table shows.
RESERVED = frozenset({"seq_num", "time"})
#: Where the digits of a uid are among its hyphens.
_DIGITS = [place for place in range(36) if place not in (8, 13, 18, 23)]
#: So many rows are turned into documents at a time: few enough that the garbage collector never goes through them.
_DECODED_ROWS = 512


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
    names
        The columns that the page has, if not all were read.
    """

    def __init__(self, table: pa.Table, names: Sequence[str] | None = None) -> None:
        self.table = table
        self._names = table.column_names if names is None else names
        self.footer: dict[str, Any] = codec.loads(table.schema.metadata[FOOTER_KEY])
        self.rows: int = table.num_rows
        # Looking a column up by its name costs pyarrow time in proportion to their number.
        self._columns = dict(zip(table.column_names, table.columns, strict=True))
        self._metas: dict[str, dict[str, Any]] = self.footer.get("columns", {})

    @property
    def data_columns(self) -> list[PageColumn]:
        """The columns of data keys, in their order."""
        return [self._data_column(name) for name in self._columns if is_data(name)]

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

    @property
    def order(self) -> list[str]:
        """The keys of an event, in the order in which they are given back."""
        order = [key for key in self.footer.get("order", EVENT_KEYS) if key in EVENT_KEYS]
        return order + [key for key in EVENT_KEYS if key not in order and key != "filled"]

    def bookkeeping(self) -> tuple[Sequence[Any], ...]:
        """Give ordinal, whether it came in an event page, descriptor, filled and extra keys of each event."""
        constants = self.footer.get("const", {})
        first = constants.get("i")
        return (
            self._values_or("_i", None) if first is None else range(first, first + self.rows),
            self._values_or("_page", constants.get("page", False)),
            self.descriptors(),
            self._json_or_absent("_filled", constants.get("filled", ABSENT)),
            self._json_or_absent("_extra", ABSENT),
        )

    def documents(self) -> Iterator[tuple[int, Pair]]:
        """Give the event and event_page documents of a whole page with their ordinals."""
        pending: list[Document] = []
        before = -1
        for ordinal, paged, event in self._decoded():
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

    def events(self) -> Iterator[tuple[int, Document]]:
        """Give the events of a whole page with their ordinals, those of event pages one by one."""
        if not self.has("_page") and not self.footer.get("const", {}).get("page"):
            for ordinal, _, event in self._decoded():
                yield ordinal, event
            return
        for ordinal, (name, doc) in self.documents():
            for event in unpack_event_page(doc) if name == "event_page" else (doc,):
                yield ordinal, event

    def _decoded(self) -> Iterator[tuple[int, bool, Document]]:
        """Give ordinal, whether it came in an event page, and event, a part of the rows at a time."""
        if self.rows <= _DECODED_ROWS:
            return self._events(0)
        starts = range(0, self.rows, _DECODED_ROWS)
        return chain.from_iterable(Page(self.table.slice(at, _DECODED_ROWS))._events(at) for at in starts)

    def _events(self, offset: int) -> Iterator[tuple[int, bool, Document]]:
        """Give ordinal, whether it came in an event page, and event; ``offset`` rows come before."""
        ordinals, paged, descriptors, filled, extra = self.bookkeeping()
        parts: dict[str, Sequence[Any]] = {
            "uid": self.uids(),
            "time": self.values("time"),
            "data": self._data(),
            "timestamps": self._stamps(),
            "seq_num": self.values("seq_num"),
            # What the footer has is one for all rows.
            "filled": [dict(value) if type(value) is dict else value for value in filled],
            "descriptor": descriptors,
        }
        order = self.order
        order += [key for key in parts if key not in order]
        events = [dict(zip(order, row, strict=True)) for row in zip(*(parts[key] for key in order), strict=True)]
        if ABSENT in filled:
            for event in events:
                if event["filled"] is ABSENT:
                    del event["filled"]
        if self.has("_extra"):
            for event, more in zip(events, extra, strict=True):
                event.update({} if more is ABSENT else more)
        if not self.has("_i"):
            ordinals = range(ordinals[0] + offset, ordinals[0] + offset + self.rows)
        return zip(ordinals, paged, events, strict=True)

    def _data(self) -> list[dict[str, Any]]:
        """Give the data of each event."""
        items = self.data_columns
        gaps = [item.key for item in items if self.has(f"_x.{item.name}")]
        return _dicts({item.key: self.values(item.name) for item in items}, self.rows, gaps)

    def _stamps(self) -> list[dict[str, Any]]:
        """Give the timestamps of each event."""
        stamps = self.timestamps()
        others = [self._metas[name]["key"] for name in self._columns if name.startswith("_ts.")]
        return _dicts(stamps, self.rows, others)

    def descriptors(self) -> Sequence[str]:
        """Give the uid of each event's descriptor."""
        return self._values_or("_descriptor", self.footer.get("const", {}).get("descriptor"))

    def _values_or(self, name: str, constant: Any) -> Sequence[Any]:
        return self.values(name) if self.has(name) else [constant] * self.rows

    def _json_or_absent(self, name: str, constant: Any) -> Sequence[Any]:
        if not self.has(name):
            return [constant] * self.rows
        return [ABSENT if text is None else codec.loads(text.encode()) for text in self._columns[name].to_pylist()]

    def uids(self) -> list[str]:
        """Give the uids of the events."""
        column = _joined(self._columns["_uid"])
        if not pa.types.is_fixed_size_binary(column.type):
            return self.values("_uid")
        digits = np.frombuffer(b"".join(column.to_pylist()).hex().encode(), "u1").reshape(-1, 32)
        spelt = np.full((len(digits), 36), ord("-"), "u1")
        spelt[:, _DIGITS] = digits
        text = spelt.tobytes().decode()
        return [text[i : i + 36] for i in range(0, len(text), 36)]

    def timestamps(self) -> dict[str, list[Any]]:
        """Give the timestamps by data key, `ABSENT` where an event lacks the key."""
        keys = self.footer.get("timestamps")
        if keys is None:  # those of all data, in their order
            keys = [self._data_column(name).key for name in self._names if is_data(name)]
        stamps: dict[str, list[Any]] = {}
        if self.has("_timestamps"):
            matrix = _joined(self._columns["_timestamps"]).flatten().to_numpy().reshape(self.rows, len(keys))
            stamps = {key: matrix[:, position].tolist() for position, key in enumerate(keys)}
        for name in self._columns:
            if name.startswith("_ts."):
                stamps[self._metas[name]["key"]] = self.values(name)
        return stamps


def is_data(name: str) -> bool:
    """Tell whether a column is that of a data key."""
    return name.startswith("_data.") or not (name in RESERVED or name.startswith("_"))


def is_shown(name: str) -> bool:
    """Tell whether a table needs a column."""
    bare = name.removeprefix("_x.")
    return bare in RESERVED or is_data(bare)


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


def _dicts(parts: dict[str, list[Any]], rows: int, gaps: Sequence[str]) -> list[dict[str, Any]]:
    """Turn columns into one dict a row, leaving out what is absent from those that may have gaps."""
    if not parts:
        return [{} for _ in range(rows)]
    keys = tuple(parts)
    result = [dict(zip(keys, row, strict=True)) for row in zip(*parts.values(), strict=True)]
    for key in gaps:
        for row, value in zip(result, parts[key], strict=True):
            if value is ABSENT:
                del row[key]
    return result


def shown_name(key: str) -> str:
    """Give the name of a data key in a table, where ``time`` is the event's own."""
    return column_name(key) if key == "time" else key


def column_name(key: str) -> str:
    """Give the name of a data key's column: the key itself unless it would clash."""
    return f"_data.{key}" if not key or key in RESERVED or key.startswith("_") else key
