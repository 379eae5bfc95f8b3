"""A reader of sealed runs that knows nothing of filebroker: docs/reference/format.md put into code.

It is the proof that the page suffices, so nothing here may be learnt from filebroker's sources.
"""

import base64
import hashlib
import json
import math
import re
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DEFAULT_ORDER = ["uid", "time", "data", "timestamps", "seq_num", "filled", "descriptor"]
PAGE_PATH = r"[A-Za-z0-9%~-][A-Za-z0-9_.%~-]*/[0-9]{5,}\.parquet"
CODES = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "f2": "e"}
CODES |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f4": "f", "f8": "d"}
ABSENT = object()


def documents(run):
    """Give all documents of a sealed run as (name, document), in order; ValueError if anything is wrong."""
    content = Path(run, "documents.jsonl").read_bytes()
    head, *lines = [decode_line(line) for line in content.removesuffix(b"\n").split(b"\n")]
    manifest = head[2]
    if head[0] != -1 or head[1] != "filebroker" or any(name == "filebroker" for _, name, _ in lines):
        raise ValueError("there is no manifest, or there are several")
    check_format(manifest)
    if any(after[0] <= before[0] for before, after in pairwise(lines)):
        raise ValueError("the ordinals of the lines do not rise")
    body = content.partition(b"\n")[2]
    verify(body, manifest["body"], "body")
    found = list(lines)
    for entry in manifest["files"]:
        if not re.fullmatch(PAGE_PATH, entry["path"]):
            raise ValueError("a page where none can be")
        data = Path(run, entry["path"]).read_bytes()
        verify(data, entry, entry["path"])
        length, checksum = entry["footer"]
        if zlib.crc32(data[-length:]) != checksum:
            raise ValueError("the checksum of a footer does not match")
        found += page_documents(pq.ParquetFile(pa.BufferReader(data)).read())
    found.sort(key=lambda item: item[0])
    if not manifest.get("damage") and [item[0] for item in found] != list(range(manifest["documents"])):
        raise ValueError("the ordinals have gaps")
    return [(name, doc) for _, name, doc in found]


def check_format(head):
    if type(head["format"]) is not int or head["format"] != 1 or head.get("requires"):
        raise ValueError("this needs another reader")


def verify(data, expected, name):
    if len(data) != expected["bytes"] or hashlib.sha256(data).hexdigest() != expected["sha256"]:
        raise ValueError(f"{name} is not what was sealed")


def decode_line(line):
    text, tail = line[:-18], line[-18:]
    if tail != b',"crc":"%08x"}' % zlib.crc32(text):
        raise ValueError("the checksum of a line does not match")
    record = json.loads(line)
    for key, array in record.get("arrays", {}).items():
        numbers = unpack(base64.b64decode(array["base64"]), array["dtype"])
        record["doc"]["data"][key] = nest(numbers, array["shape"])
    return record["i"], record["name"], record["doc"]


def page_documents(table):
    """Give (ordinal, name, document) for each document of a page."""
    footer = json.loads(table.schema.metadata[b"filebroker"])
    check_format(footer)
    const, metas, names = footer.get("const", {}), footer.get("columns", {}), table.column_names
    raw = dict(zip(names, (column.to_pylist() for column in table.columns), strict=True))
    values = {n: decode_column(n, raw, metas.get(n, {})) for n in names if not n.startswith(("_x.", "_timestamps"))}
    data = {metas.get(n, {}).get("key", n): values[n] for n in names if re.match(r"_data\.|(?!_|(seq_num|time)\Z)", n)}
    stamps = {metas[n]["key"]: values[n] for n in names if n.startswith("_ts.")}
    stamp_keys = footer.get("timestamps", list(data))
    order = footer.get("order", DEFAULT_ORDER)
    order = order + [key for key in DEFAULT_ORDER if key not in order]
    before = None  # the ordinal, the events and the further keys of the event page that is being read
    for row in range(footer["rows"]):
        regular = zip(stamp_keys, raw["_timestamps"][row], strict=True) if "_timestamps" in raw else ()
        parts = {
            "data": present(data, row),
            "timestamps": {**dict(regular), **present(stamps, row)},
            "uid": uuid_text(values["_uid"][row]),
            **{key: values[key][row] for key in ("time", "seq_num")},
            "descriptor": const["descriptor"] if "descriptor" in const else values["_descriptor"][row],
        }
        if "filled" in const or ("_filled" in raw and raw["_filled"][row] is not None):
            parts["filled"] = const["filled"] if "filled" in const else values["_filled"][row]
        event = {key: parts[key] for key in order if key in parts}
        extra = values["_extra"][row] if "_extra" in raw and raw["_extra"][row] is not None else {}
        ordinal = const["i"] + row if "i" in const else raw["_i"][row]
        if not (const.get("page") or ("_page" in raw and raw["_page"][row])):
            yield ordinal, "event", event | extra
            continue
        if before is not None and before[0] == ordinal:
            before[1].append(event)
        else:
            if before is not None:
                yield before[0], "event_page", join(before[1]) | before[2]
            before = ordinal, [event], extra
    if before is not None:
        yield before[0], "event_page", join(before[1]) | before[2]


def decode_column(name, raw, meta):
    decoders = {"json": json.loads, "array": lambda cell: as_array(cell, meta), "npy": from_npy}
    decoders |= dict.fromkeys((None, "list"), lambda cell: cell)
    decode = decoders.get(meta.get("encoding"))
    if decode is None:
        raise ValueError(f"the encoding {meta['encoding']!r} is not known")
    cells = [None if cell is None else decode(cell) for cell in raw[name]]
    for row, mark in enumerate(raw.get(f"_x.{name}", ())):
        if mark is not None:
            cells[row] = ABSENT if mark == "" else int(cells[row]) if mark == "i" else json.loads(mark)
    return cells


def as_array(cell, meta):
    numbers = unpack(cell, meta["dtype"]) if isinstance(cell, bytes) else cell
    return nest(numbers, meta.get("shape", [len(numbers)]))


def from_npy(cell):
    size = {1: "<H", 2: "<I", 3: "<I"}[cell[6]]
    begin = 8 + struct.calcsize(size)
    end = begin + struct.unpack_from(size, cell, 8)[0]
    header = cell[begin:end].decode()
    dtype = re.search(r"'descr': '([^']+)'", header)[1]
    shape = [int(length) for length in re.findall(r"\d+", re.search(r"'shape': \(([^)]*)\)", header)[1])]
    numbers = unpack(cell[end:], dtype)
    if "'fortran_order': True" in header:
        strides = [math.prod(shape[:axis]) for axis in range(len(shape))]
        places = [0]
        for length, stride in zip(shape, strides, strict=True):
            places = [place + index * stride for place in places for index in range(length)]
        numbers = [numbers[place] for place in places]
    return nest(numbers, shape)


def unpack(data, dtype):
    code = CODES[dtype[1:]]
    byte_order = ">" if dtype[0] == ">" else "<"
    return list(struct.unpack(f"{byte_order}{len(data) // struct.calcsize(code)}{code}", data))


def nest(numbers, shape):
    if len(shape) == 1:
        return numbers
    step = math.prod(shape[1:])
    return [nest(numbers[index * step : (index + 1) * step], shape[1:]) for index in range(shape[0])]


def present(columns, row):
    return {key: cells[row] for key, cells in columns.items() if cells[row] is not ABSENT}


def uuid_text(uid):
    if isinstance(uid, bytes):
        return re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", uid.hex())
    return str(uid)


def join(events):
    """Make one event page of its events."""
    page = {}
    for key, value in events[0].items():
        if isinstance(value, dict):
            page[key] = {name: [event[key][name] for event in events] for name in value}
        else:
            page[key] = value if key == "descriptor" else [event[key] for event in events]
    return page
