"""Lines of documents: how one is written, checked and read, and the file a live run appends them to.

A line is a JSON object ``{"i": 7, "name": "event", "doc": {...}, "crc": "89abcdef"}``.  ``i`` counts all
documents of the run.  ``crc`` is the CRC-32 of all bytes before ``,"crc"``.  Numeric arrays in an event's
data stand in ``"arrays"``, in base64, so that their dtype survives a crash.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn
from zlib import crc32

import numpy as np

from filebroker.ground import codec
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, StorageError
from filebroker.storing.buffer import is_numeric_array

#: Name and ordinal of the line that heads every file of lines.
HEAD = "filebroker"
HEAD_ORDINAL = -1
#: Every line ends in ``,"crc":"89abcdef"}``.
_SEAL_BYTES = 18


class Line(NamedTuple):
    """One document as it stands in a file of lines; of any but an event there is its JSON as well."""

    ordinal: int
    name: str
    doc: Document
    text: bytes = b""

    def slim(self) -> "Line | SlimLine":
        """Give the line without its document, if that can be read again."""
        return SlimLine(self.ordinal, self.name, self.text) if self.text else self


class SlimLine(NamedTuple):
    """A line whose document is read anew whenever it is asked for.

    That takes less time than to copy it.  What is kept takes a quarter of the memory, and the garbage collector has
    nothing to look through.
    """

    ordinal: int
    name: str
    text: bytes

    @property
    def doc(self) -> Document:
        """A document of the caller's own."""
        document: Document = codec.loads(self.text)["doc"]
        return document


def encode_line(ordinal: int, name: str, doc: Mapping[str, Any]) -> bytes:
    """Write a document as a line.

    Raises
    ------
    UnstorableValue
        The document holds something that JSON cannot carry.
    """
    if name in ("event", "event_page") and any(map(is_numeric_array, doc["data"].values())):
        return _encode_with_arrays(ordinal, name, doc)
    return seal(b'{"i":%d,"name":"%b","doc":' % (ordinal, name.encode()), codec.dumps(doc))


def encode_simple_event(ordinal: int, event: Mapping[str, Any]) -> bytes | None:
    """Write an event whose values are all of `codec.SIMPLE_TYPES`; None if it needs `encode_line`."""
    text = codec.dumps_simple(event)
    if text is None:
        return None
    text = b'{"i":%d,"name":"event","doc":%b' % (ordinal, text)
    return text + b',"crc":"%08x"}\n' % crc32(text)


def _encode_with_arrays(ordinal: int, name: str, doc: Mapping[str, Any]) -> bytes:
    lifted = {key: value for key, value in doc["data"].items() if is_numeric_array(value)}
    data = {key: None if key in lifted else value for key, value in doc["data"].items()}
    arrays = {
        key: {
            "dtype": (array := np.ascontiguousarray(value, value.dtype.newbyteorder("<"))).dtype.str,
            "shape": list(array.shape),
            "base64": base64.b64encode(array.tobytes()).decode(),
        }
        for key, value in lifted.items()
    }
    text = codec.dumps({**doc, "data": data})
    head = b'{"i":%d,"name":"%b","doc":' % (ordinal, name.encode())
    return seal(head, b'%b,"arrays":%b' % (text, codec.dumps(arrays)))


def seal(head: bytes, body: bytes) -> bytes:
    r"""Give an object as a line that ends with its checksum.

    Parameters
    ----------
    head, body
        Together the object as JSON, without its closing brace.

    Examples
    --------
    >>> seal(b'{"format":1', b"")
    b'{"format":1,"crc":"1bb205f2"}\n'
    """
    text = head + body
    return text + b',"crc":"%08x"}\n' % crc32(text)


def decode_line(text: bytes) -> Line:
    """Read a line, without its newline.

    Raises
    ------
    DamagedRun
        The line is not one, or its checksum does not match.
    """
    body = text[:-_SEAL_BYTES]
    if text[-_SEAL_BYTES:] != b',"crc":"%08x"}' % crc32(body):
        raise DamagedRun("the checksum of a line does not match: it was altered or cut")
    try:
        text = body + b"}"
        record = codec.loads(text)
        doc = record["doc"]
        if "arrays" in record:
            for key, array in record["arrays"].items():
                raw = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"])
                doc["data"][key] = raw.reshape(array["shape"])
        ordinal, name = record["i"], record["name"]
        if type(ordinal) is not int or type(name) is not str or type(doc) is not dict:
            raise TypeError(f"a line has an integer, a text and an object; not {ordinal!r:.50}, {name!r:.50}")
        return Line(ordinal, name, doc, b"" if name in ("event", "event_page") else text)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise DamagedRun(f"a line with a good checksum is not one of ours: {error!r}") from error


@dataclass(frozen=True)
class Lines:
    """What could be read of a file of lines.

    Attributes
    ----------
    lines : list of Line
        The good lines, in order, the head included.
    damage : list of str
        What is wrong with each bad line, and where.
    torn : bool
        Whether the last line has no end: its writing was cut short, or is still going on.
    """

    lines: list[Line]
    damage: list[str]
    torn: bool

    @property
    def count(self) -> int:
        """How many lines were read, good or bad."""
        return len(self.lines) + len(self.damage)

    def then(self, more: "Lines") -> "Lines":
        """Give these lines and those that come after them."""
        return Lines(self.lines + more.lines, self.damage + more.damage, more.torn)


def read_lines(text: bytes, source: str, *, after: int = 0) -> Lines:
    """Read all good lines of a file.

    Parameters
    ----------
    text
        The file's bytes.
    source
        The file's name for messages.
    after
        So many lines of the file come before the text.
    """
    lines: list[Line] = []
    damage: list[str] = []
    *whole, rest = text.split(b"\n")
    for number, raw in enumerate(whole, start=after + 1):
        try:
            lines.append(decode_line(raw))
        except DamagedRun as error:
            damage.append(f"{source}, line {number}: {error}")
    return Lines(lines, damage, torn=rest != b"")


class JournalFile:
    """The open segment of a live run: a local file that lines are appended to.

    Each line goes to the kernel in one write, so that it survives the death of this process.  `sync`
    makes it survive a power cut.

    Parameters
    ----------
    path
        A local path where nothing is yet.

    Raises
    ------
    StorageError
        The filesystem refused.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.lines = 0
        self.unsynced = False
        self._failure: OSError | None = None
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
        except OSError as error:
            raise StorageError(f"cannot create the journal {path}: {error.strerror}") from error

    def append(self, line: bytes, sync: bool = False) -> None:
        """Append one line, or leave the file as it was.

        Parameters
        ----------
        line
            A whole line, with its newline.
        sync
            Return only when it would survive a power cut.

        Raises
        ------
        StorageError
            The line could not be written, for example on a full disk, or what was written before could not
            be forced to the disk.
        """
        if self._failure is not None:
            self._refuse()
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except BaseException as error:  # an interrupt as well as a full disk
            self._take_back()
            if isinstance(error, OSError):
                raise StorageError(error.errno, f"cannot write to {self.path}: {error.strerror}") from error
            raise
        if sync and not self.sync():
            self._take_back()
            self._refuse()
        self.size += len(line)
        self.lines += 1
        self.unsynced = not sync

    def _refuse(self) -> NoReturn:
        """Refuse to go on after a failure that leaves unknown what is in the file or on the disk."""
        failure = self._failure or OSError("an earlier failure")
        raise StorageError(failure.errno, f"cannot go on writing to {self.path}: {failure.strerror}") from failure

    def _take_back(self) -> None:
        """Cut off what a failed append left behind; if that fails too, the file is not written to any more."""
        try:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
        except OSError as error:
            self._failure = error

    @property
    def failed(self) -> bool:
        """Whether the file cannot be trusted, and refuses to be written to."""
        return self._failure is not None

    def reread(self) -> list[Line]:
        """Give the whole lines of the file, and cut off what follows them.

        An interrupt may have come after a line was written and before it was counted.
        """
        with open(self.path, "rb") as file:
            text = file.read()
        self.size, self.lines = text.rfind(b"\n") + 1, text.count(b"\n")
        self._take_back()
        return read_lines(text[: self.size], self.path).lines

    def sync(self) -> bool:
        """Make everything appended so far survive a power cut.

        Returns
        -------
        bool
            Whether it does.  After a failure nothing more can be appended.
        """
        self.unsynced = False
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._failure = error
        return self._failure is None

    def close(self) -> None:
        """Close the file; nothing is lost if this is never called."""
        # Forgotten first, so that an interrupt never has the number closed twice.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_O_BINARY: int = getattr(os, "O_BINARY", 0)
