"""Copies on this machine of pieces of remote files that never change.

A catalog's copies are in a directory ``<root>/<catalog>/files``; the bound on their size is one for all catalogs of a
root.  A copy is a file ``<2 digits>/<64 digits>``, named after the SHA-256 of its key.  It begins with a head: a mark,
that SHA-256 again, the number of bytes, and a CRC-32 over the head and the data.  The SHA-256 tells one key's copy from
another's, and the CRC what a disk has changed.  It takes 0.15 ms for 1 MB, where SHA-256 takes 0.5 and BLAKE2 0.8.

Any file may vanish at any moment, and several processes put and remove at once.
"""

import contextlib
import errno
import hashlib
import io
import math
import os
import re
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from filebroker.ground.errors import InvalidConfig, StorageError
from filebroker.ground.forks import renew_in_children

#: The name of the directory, in that of a catalog, that holds the copies.
DIRECTORY = "files"
#: Says how many bytes the copies of all catalogs may take together.
VARIABLE = "FILEBROKER_CACHE_SIZE"
_DEFAULT_LIMIT = 4 << 30

_MARK = b"fbfiles1"
_HEAD = struct.Struct("<8s32sQ")
_CHECKSUM = struct.Struct("<I")
_HEAD_SIZE = _HEAD.size + _CHECKSUM.size

_PART = re.compile(r"[0-9a-f]{2}")
_TEMPORARY = ".tmp"
_FILE = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{8}\.tmp)?")
#: A copy that takes a larger part of the limit would drive out too many others.
_LARGEST_PART = 4
#: When it has put so large a part of the limit, a process looks again at what is there.
_LOOKS = 16
_HOUR = 3600.0
#: So often a directory is made again that another process removes.
_ATTEMPTS = 5

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) *(?:([KMGT])(iB|B)?|B)?", re.IGNORECASE)
_LETTERS = ("", "K", "M", "G", "T")


class FileCache:
    """Bytes by key, on a local disk, bounded and checked.

    What it gives is what was put under that key, or nothing.  On a full disk, or in a directory that cannot be written
    to, it keeps nothing.  Threads and processes may use one directory at once.

    Parameters
    ----------
    directory
        Where the copies are kept: ``<root>/<catalog>/files``.  It is made when something is put.
    limit
        How many bytes all directories ``<root>/*/files`` may hold together.  The copies not used for longest go
        first, and none is kept that takes more than a quarter.  Each further process or thread that puts at the same
        time may exceed the limit by a third at most.

    Attributes
    ----------
    problem : str
        Why a copy could not be read or kept; empty again as soon as one was kept.
    """

    def __init__(self, directory: str, limit: int) -> None:
        self.directory = os.path.abspath(directory)
        self.limit = limit
        self.problem = ""
        self._root = os.path.dirname(os.path.dirname(self.directory))

    def __repr__(self) -> str:
        return f"<FileCache {self.directory!r}>"

    def get(self, key: str) -> bytes | None:
        """Give what was put under a key, None if it is not there.  A damaged copy is removed."""
        name = _name(key)
        path = self._path(name)
        try:
            with open(path, "rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                data = _data(file, name, status.st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = f"cannot read {path}: {error.strerror or error}"
            return None
        if data is None:
            _remove(path)
        elif _is_hour_away(status.st_mtime):
            with contextlib.suppress(OSError):  # it was removed meanwhile, or the disk can only be read
                os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep data under a key, unless they are too large or the disk refuses."""
        size = _HEAD_SIZE + len(data)
        is_small = size <= self.limit // _LARGEST_PART
        try:
            self._make_room(size if is_small else 0)
            if is_small:
                name = _name(key)
                _publish(self._path(name), _head(name, data), data)
                self.problem = ""
        except OSError as error:
            self.problem = f"cannot keep anything in {self.directory}: {error.strerror or error}"

    def _path(self, name: bytes) -> str:
        digits = name.hex()
        return os.path.join(self.directory, digits[:2], digits)

    def _make_room(self, size: int) -> None:
        """Remove what broken-off writing has left, and the copies not used for longest if there is too little room."""
        if not _tally.is_due(self._root, size, self.limit):
            return
        copies, total = [], size
        for copy in _copies_of_all(self._root, os.path.basename(self.directory)):
            total += copy.size
            if not copy.is_temporary:
                copies.append(copy)
            elif _is_hour_away(copy.used) and _remove(copy.path):
                total -= copy.size
        if total + self.limit // _LOOKS <= self.limit:
            return
        for copy in sorted(copies):
            if total <= self.limit * 4 // 5:
                return
            if _remove(copy.path):
                total -= copy.size


@dataclass(frozen=True)
class Usage:
    """What is kept of one catalog.

    Attributes
    ----------
    directory : str
        That of the copies, as `clear` takes it.
    label : str
        The name of the catalog's directory.
    entries : int
        How many copies there are.
    size : int
        How many bytes they take.
    last_used : float or None
        When one of them was used last, to the hour, in seconds since 1970.  None if there are none.
    """

    directory: str
    label: str
    entries: int
    size: int
    last_used: float | None


def usage(root: str) -> list[Usage]:
    """Tell what is kept of each catalog, by the names of their directories.

    Parameters
    ----------
    root
        The directory of all caches.

    Raises
    ------
    StorageError
        A directory cannot be listed.
    """
    found = []
    try:
        for catalog in sorted(_directories(root), key=lambda item: item.name):
            directory = os.path.join(catalog.path, DIRECTORY)
            if os.path.isdir(directory):
                copies = [copy for copy in _copies(directory) if not copy.is_temporary]
                size, last_used = sum(copy.size for copy in copies), max((copy.used for copy in copies), default=None)
                found.append(Usage(directory, catalog.name, len(copies), size, last_used))
    except OSError as error:
        raise StorageError(error.errno, f"cannot look at the caches in {root}: {error.strerror or error}") from error
    return found


def clear(directory: str) -> int:
    """Remove all copies of a catalog, and give how many bytes that has freed.

    Parameters
    ----------
    directory
        That of a `FileCache`.  Processes that use it go on; they put copies there again.

    Raises
    ------
    StorageError
        Some copies cannot be removed.
    """
    freed, kept = 0, 0
    try:
        for copy in _copies(directory):
            if _remove(copy.path):
                freed += copy.size
            elif not copy.is_temporary:
                kept += 1
        for part in _directories(directory):
            with contextlib.suppress(OSError):  # there is something in it again
                os.rmdir(part.path)
    except OSError as error:
        raise StorageError(error.errno, f"cannot clear the cache {directory}: {error.strerror or error}") from error
    if kept:
        raise StorageError(
            f"{kept} files of the cache {directory} cannot be removed; close what uses them, and look "
            "at who may write to that directory"
        )
    return freed


def limit_from_environment() -> int:
    """Give how many bytes the copies of all catalogs may take together: what ``FILEBROKER_CACHE_SIZE`` says, or 4 GiB.

    It is a number of bytes, or of larger units.  ``k``, ``M``, ``G`` and ``T`` are powers of 1024, as are ``KiB`` to
    ``TiB``; ``kB`` to ``TB`` are powers of 1000.

    Raises
    ------
    InvalidConfig
        It is no size.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return _DEFAULT_LIMIT
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidConfig(
            f"{VARIABLE} is {text[:60]!r}, which is no size; write for example '4 GiB', or '0' for none"
        )
    number, letter, unit = found.groups(default="")
    base = 1000 if unit.upper() == "B" else 1024
    return int(Decimal(number) * base ** _LETTERS.index(letter.upper()))


class _Copy(NamedTuple):
    """A file of a cache; those not used for longest sort first."""

    used: float
    size: int
    path: str

    @property
    def is_temporary(self) -> bool:
        return self.path.endswith(_TEMPORARY)


class _Tally:
    """How many bytes this process has put below each root since it last looked at what is there."""

    def __init__(self) -> None:
        self._put: dict[str, float] = {}
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make a new lock, after a fork."""
        self._lock = threading.Lock()

    def is_due(self, root: str, size: int, limit: int) -> bool:
        """Tell whether to look again before so many bytes are put; if not, they are counted."""
        with self._lock:
            put = self._put.get(root, math.inf) + size
            is_due = put > limit // _LOOKS
            self._put[root] = 0 if is_due else put
            return is_due


_tally = _Tally()


def _name(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _head(name: bytes, data: bytes) -> bytes:
    head = _HEAD.pack(_MARK, name, len(data))
    return head + _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(head)))


def _data(file: io.FileIO, name: bytes, size: int) -> bytes | None:
    """Give the data of a copy, None if it is damaged or another key's."""
    head = file.read(_HEAD_SIZE)
    # The length comes first: what a disk has made of a file may be too large to be read.
    if head[: _HEAD.size] != _HEAD.pack(_MARK, name, max(0, size - _HEAD_SIZE)):
        return None
    data = file.readall()
    return data if head == _head(name, data) else None


def _publish(path: str, *pieces: bytes) -> None:
    """Write a file that is seen whole or not at all, and the directories above it, for this user alone."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # another process has removed the directory, or what is written
            _make_directory(os.path.dirname(path))
            return _write(path, pieces)
    raise OSError(errno.ENOENT, "the directory is removed all the time")


def _write(path: str, pieces: tuple[bytes, ...]) -> None:
    aside = f"{path}.{uuid.uuid4().hex[:8]}{_TEMPORARY}"
    try:
        with open(aside, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.writelines(pieces)
        os.replace(aside, path)
    except BaseException:
        _remove(aside)
        raise


def _make_directory(path: str) -> None:
    """Make a directory and those above it; `os.makedirs` would let others read those above."""
    if not os.path.isdir(path):
        parent = os.path.dirname(path)
        if parent != path:
            _make_directory(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)


def _remove(path: str) -> bool:
    """Remove a file, and tell whether it is gone: on Windows it is not while somebody reads it."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_hour_away(moment: float) -> bool:
    """Tell whether it is an hour since a moment, or before it, as after a clock was put right."""
    return abs(time.time() - moment) > _HOUR


def _copies_of_all(root: str, name: str) -> Iterator[_Copy]:
    """Find the copies of all catalogs."""
    for catalog in _directories(root):
        with contextlib.suppress(PermissionError):  # nothing could be removed from there either
            yield from _copies(os.path.join(catalog.path, name))


def _copies(directory: str) -> Iterator[_Copy]:
    """Find the copies of one catalog, and what broken-off writing has left beside them; nothing else."""
    for part in _directories(directory):
        if _PART.fullmatch(part.name):
            for file in _scanned(part.path):
                if _FILE.fullmatch(file.name) and file.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat(follow_symlinks=False)
                        yield _Copy(status.st_mtime, status.st_size, file.path)


def _directories(path: str) -> list["os.DirEntry[str]"]:
    return [item for item in _scanned(path) if item.is_dir(follow_symlinks=False)]


def _scanned(path: str) -> list["os.DirEntry[str]"]:
    """List a directory; what is none, or none any more, has nothing in it."""
    try:
        with os.scandir(path) as items:
            return list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
