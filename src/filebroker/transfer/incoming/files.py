"""Files of documents that others wrote: which kind they are, and what is in them.

Nothing of them is trusted.  What cannot be read is told with its place, and what comes after it is read if that is
possible.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from filebroker.ground import codec
from filebroker.ground.documents import REQUIRED
from filebroker.ground.packages import need

#: So much of a file is looked at to tell its kind.
_HEAD_BYTES = 4096
#: Documents, and files that have to be read whole, are not larger than this.
MOST_BYTES = 1 << 30
_MOST_LINE_BYTES = 1 << 28
#: A list in a msgpack document has no more items.
_MOST_ITEMS = 1 << 24
_END = "the file ends before it"
_BOM, _SPACE = b"\xef\xbb\xbf", b" \t\r\n"
_NAMES = frozenset(REQUIRED)
#: What the first bytes of a msgpack file of pairs are: a list of two, whose first item is a short string.
_PAIR, _SHORT_STRINGS, _STRING_8 = 0x92, range(0xA0, 0xC0), 0xD9


class Item(NamedTuple):
    """A document of a file, or what could not be read in its place.

    Attributes
    ----------
    where : str
        Its place in the file.
    name : str
        ``start``, ``descriptor``, ...
    doc : Any
        The document; whether it is one has to be checked.
    why : str
        Why it cannot be read; empty if it can.
    torn : bool
        Whether nothing after it can be read either.
    """

    where: str
    name: str = ""
    doc: Any = None
    why: str = ""
    torn: bool = False


def kind_of(path: str) -> tuple[str, str]:
    """Tell by its content of which kind a file is.

    Parameters
    ----------
    path
        A file.

    Returns
    -------
    tuple of (str, str)
        ``jsonl``, ``json`` or ``msgpack``, or nothing; and for nothing what was found instead.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return "", f"it cannot be read: {error.strerror or error}"
    if not head:
        return "", "it is empty"
    if _begins_as_msgpack(head):
        return "msgpack", ""
    text = head.removeprefix(_BOM).lstrip(_SPACE)
    if text[:1] == b"{" and (b'"name"' in text or b'"doc"' in text):
        return "jsonl", ""
    if text[:1] == b"[":
        inner = text[1:].lstrip(_SPACE)[:1]
        if inner in (b"[", b"{"):
            return "json", ""
        if inner == b'"' and text[1:].lstrip(_SPACE)[1:].partition(b'"')[0].decode("latin-1") in _NAMES:
            return "jsonl", ""
    return "", f"it holds no documents: it begins with {head[:20]!r}"


def _begins_as_msgpack(head: bytes) -> bool:
    if len(head) < 3 or head[0] != _PAIR:
        return False
    if head[1] in _SHORT_STRINGS:
        return head[2 : 2 + head[1] - 0xA0].decode("latin-1") in _NAMES
    return head[1] == _STRING_8 and head[3 : 3 + head[2]].decode("latin-1") in _NAMES


def items_of(kind: str, path: str) -> Iterator[Item]:
    """Give the documents of a file one after another.

    Parameters
    ----------
    kind
        ``jsonl``, ``json`` or ``msgpack``.
    path
        The file.

    Raises
    ------
    MissingPackage
        To read msgpack takes a package that is not installed.
    """
    if kind == "msgpack":
        need("msgpack")
    read = {"jsonl": _lines, "json": _list, "msgpack": _packed}[kind]
    where = "its beginning"
    try:
        with open(path, "rb") as file:
            for item in read(file):
                where = item.where
                yield item
                if item.torn:
                    return
    except (OSError, MemoryError) as error:
        yield Item(f"after {where}", why=f"it cannot be read any further: {error!r}", torn=True)


def as_item(where: str, value: Any) -> Item:
    """Take a value for a document: a pair of name and document, or a mapping that has both.

    Parameters
    ----------
    where
        Its place.
    value
        What was read.
    """
    if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str):
        name, doc = value
    elif isinstance(value, Mapping) and isinstance(value.get("name"), str) and "doc" in value:
        name, doc = value["name"], value["doc"]
    else:
        return Item(where, why=f"it is no document, but a {type(value).__name__}: {_short(value)}")
    if not isinstance(doc, Mapping):
        return Item(where, why=f"what is named {name[:40]!r} is no document, but a {type(doc).__name__}")
    return Item(where, name, doc)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


# -- JSON


def _lines(file: BinaryIO) -> Iterator[Item]:
    number = 0
    while raw := file.readline(_MOST_LINE_BYTES):
        number += 1
        where = f"line {number}"
        if len(raw) == _MOST_LINE_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(_MOST_LINE_BYTES)
            yield Item(where, why=f"it is longer than {_MOST_LINE_BYTES:,} bytes")
            continue
        text = (raw.removeprefix(_BOM) if number == 1 else raw).strip(_SPACE)
        if not text:
            continue
        if not text.strip(b"\0"):
            yield Item(where, why="zeros take the place of what should be there", torn=True)
            return
        try:
            item = as_item(where, codec.loads(text))
        except ValueError as error:
            is_last = not raw.endswith(b"\n")
            why = "the file ends in the middle of it" if is_last else f"it is no JSON: {error}"
            item = Item(where, why=why, torn=is_last)
        yield item


def _list(file: BinaryIO) -> Iterator[Item]:
    """Read a JSON list of documents, as far as it goes."""
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        yield Item(
            "", why=f"it is a JSON list of more than {MOST_BYTES:,} bytes; write its documents as lines", torn=True
        )
        return
    text, end = _decoded(data)
    decoder, number, position = json.JSONDecoder(), 0, text.index("[") + 1
    while True:
        position = _after_space(text, position)
        if text[position : position + 1] == "]":
            break
        number += 1
        where = f"document {number}"
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            is_end = position >= len(text) or getattr(error, "pos", 0) >= len(text.rstrip()) or end is not _END
            why = end if is_end else f"it is no JSON, nor can be told where the next begins: {error}"
            yield Item(where, why=why, torn=True)
            return
        yield as_item(where, value)
        position = _after_space(text, position)
        if text[position : position + 1] == ",":
            position += 1
    if text[position + 1 :].strip():
        yield Item(f"after document {number}", why="something follows the end of the list", torn=True)


def _decoded(data: bytes) -> tuple[str, str]:
    """Give the text of a file as far as it is one, and say why it ends there."""
    try:
        return data.removeprefix(_BOM).decode(errors="surrogatepass"), _END
    except UnicodeDecodeError as error:
        begin = len(data) - len(data.removeprefix(_BOM))
        text = data[begin : begin + error.start].decode(errors="surrogatepass")
        return text, f"the file is no UTF-8 from byte {begin + error.start:,} on"


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


# -- msgpack


def _packed(file: BinaryIO) -> Iterator[Item]:
    size = os.fstat(file.fileno()).st_size
    arrays = _Arrays()
    most = min(size, _MOST_ITEMS)
    unpacker = need("msgpack").Unpacker(
        file,
        object_hook=arrays.restore,
        raw=False,
        strict_map_key=False,
        max_buffer_size=MOST_BYTES,
        max_array_len=most,
        max_map_len=most,
    )
    begin = 0
    while True:
        where = f"byte {begin:,}"
        try:
            value = unpacker.unpack()
        except Exception as error:  # noqa: BLE001 - of many kinds, and all mean that nothing after it can be read
            if begin < size:
                is_end = type(error).__name__ == "OutOfData"
                why = "the file ends in the middle of it" if is_end else f"it is no msgpack: {error!r}"
                yield Item(where, why=why, torn=True)
            return
        begin = unpacker.tell()
        refused = arrays.take_refused()
        item = Item(where, why=refused) if refused else as_item(where, value)
        yield item if item.name or refused else item._replace(torn=True)


class _Arrays:
    """Makes the arrays of msgpack-numpy again, but none of pickled objects: to load these is to run code."""

    def __init__(self) -> None:
        self._refused = ""

    def take_refused(self) -> str:
        """Give why an array could not be made again since the last time."""
        refused, self._refused = self._refused, ""
        return refused

    def restore(self, value: dict[Any, Any]) -> Any:
        """Give what stands for an array or a number of NumPy as one; anything else as it is."""
        if b"nd" not in value:
            return value
        try:
            if value.get(b"kind") == b"O":
                raise ValueError("it holds pickled objects, which are never loaded")
            descr = value[b"type"]
            if value.get(b"kind") == b"V":
                descr = [tuple(part.decode() if isinstance(part, bytes) else part for part in item) for item in descr]
            if value[b"nd"] is not True:
                return np.frombuffer(value[b"data"], np.dtype(descr))[0]
            return np.ndarray(value[b"shape"], np.dtype(descr), value[b"data"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError) as error:
            self._refused = f"an array in it cannot be read: {error}"
            return None
