"""Parts of the index, and the seal that names them: which files there are, and that they are what was written."""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from filebroker.ground.filesystem import remove

#: Another number makes an index of another version be built anew.
_SCHEMA = 3


class DamagedIndex(Exception):
    """The files are not what the seal says, or there is no seal that can be understood."""


class FileSeal(NamedTuple):
    """What a file was like when it was written: size in bytes, time of its last change, checksum."""

    size: int
    mtime_ns: int
    crc32: int


class Part(NamedTuple):
    """A part as the seal names it: the last row in it, the number of rows in it, and its files."""

    name: str
    last: int
    size: int
    files: dict[str, FileSeal]


def format_seal(parts: Sequence[Part]) -> bytes:
    """Write a seal, with a checksum of its own."""
    text = json.dumps({"schema": _SCHEMA, "parts": parts}).encode()
    return b"%08x\n%s\n" % (zlib.crc32(text), text)


def parse_seal(seal: bytes) -> list[Part]:
    """Read the parts off a seal; an index that was never written has none.

    Raises
    ------
    DamagedIndex
        It is not one that this version wrote.
    """
    if not seal:
        return []
    checksum, _, text = seal.rstrip(b"\n").partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(text):
        raise DamagedIndex("the index's list of parts is damaged; the index will be built anew")
    try:
        content = json.loads(text)
        if content["schema"] != _SCHEMA:
            raise DamagedIndex("the index was made by another version of filebroker; it will be built anew")
        return [
            Part(name, last, size, {file: FileSeal(*sealed) for file, sealed in files.items()})
            for name, last, size, files in content["parts"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedIndex("the index's list of parts makes no sense; the index will be built anew") from error


def seal_file(path: str) -> FileSeal:
    """Force a file to the disk and describe it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
        return FileSeal(status.st_size, status.st_mtime_ns, _crc32(path))


def verify(folder: str, files: dict[str, FileSeal], seen: dict[str, int], *, thorough: bool = False) -> None:
    """Check that files are those that were sealed.

    Size and time tell.  A file of another time is read whole, unless that was seen before; with `thorough`
    every file is.
    """
    for name, sealed in files.items():
        path = os.path.join(folder, name)
        status = os.stat(path)
        right = status.st_size == sealed.size
        if right and (thorough or status.st_mtime_ns not in (sealed.mtime_ns, seen.get(name))):
            right = _crc32(path) == sealed.crc32
            seen[name] = status.st_mtime_ns
        if not right:
            raise DamagedIndex(f"{path} is not what was written; the index will be repaired")


def _crc32(path: str) -> int:
    checksum = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def clear(path: str) -> None:
    """Remove a file or a directory with all in it, as far as others let us."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        remove(path)
