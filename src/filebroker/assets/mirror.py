"""Local copies of files on an object store, for handlers that open paths themselves.

A copy is compared with the remote file when it is used again, and fetched anew if that has another size, time or
checksum.  Its path below the mirror's directory repeats the URL, so that a handler may be given the path of a file, a
directory or a template before the files that it will read are known.

The copies are removed when the process ends.  Beyond `MOST_BYTES` those go earlier that were not used for longest, but
none that was used within the last minute: it may be about to be read.
"""

import os
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from filebroker.assets.places import is_url
from filebroker.assets.remotes import reached
from filebroker.ground.forks import renew_in_children

#: The copies of a process may take so much of its temporary directory.
MOST_BYTES = 4 << 30
_SPARED_SECONDS = 60.0
#: What filesystems tell of a file that changes with its content, in small letters without - and _.
_MARKS = frozenset(
    {"size", "etag", "lastmodified", "modified", "mtime", "updated", "created", "generation", "versionid"}
    | {"md5", "md5hash", "contentmd5", "crc32c", "checksum", "sha256"}
)


@dataclass(frozen=True)
class Copy:
    """What is known of a path below the mirror.

    Attributes
    ----------
    url : str
        What it stands for.
    version : hashable, optional
        What the remote file was like when it was fetched; None if there was no file.
    compared : float
        When that was last looked up, by `time.monotonic`.
    """

    url: str
    version: Hashable
    compared: float


class Mirror:
    """Local copies of remote files; the directory that holds them is removed with the mirror."""

    def __init__(self) -> None:
        self._directory: str | None = None
        self._copies: dict[str, Copy] = {}
        self._fetched_bytes = 0
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make a new lock, after a fork."""
        self._lock = threading.Lock()

    def path(self, url: str, since: float) -> tuple[str, Hashable]:
        """Give the path that stands for a URL, and fetch what is there if it is a file.

        Parameters
        ----------
        url
            Of a file, a directory, or the beginning of the names of files.
        since
            A copy that was compared with the remote file since then is good, by `time.monotonic`.

        Returns
        -------
        tuple of (str, hashable)
            The path, and what tells one version of the remote file from another; None if there is no file.

        Raises
        ------
        OSError, ImportError, ValueError
            fsspec cannot reach it, or it is no URL.
        """
        if not is_url(url):
            raise ValueError(f"{url!r} is no URL")
        protocol, _, rest = url.partition("://")
        names = [name for name in rest.split("/") if name not in ("", ".", "..")]
        path = os.path.join(self._home(), protocol, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.isdir(path):
            self._compare(url, path, since)
        known = self._copies.get(path)
        return path, None if known is None else known.version

    def fetch(self, paths: Iterable[str], since: float) -> bool:
        """Fetch the files that paths below the mirror stand for; other paths are passed over.

        Parameters
        ----------
        paths
            Paths of files.
        since
            As for `path`.

        Returns
        -------
        bool
            Whether an older copy was replaced, which somebody may have open.

        Raises
        ------
        FileNotFoundError
            There is no such file; the error's ``filename`` is its URL.
        OSError
            It cannot be fetched.
        """
        replaced = False
        for given in paths:
            path = os.path.normpath(given)
            if not path.startswith(self._home() + os.sep):
                continue
            url, before = self.url(path), self._copies.get(path)
            after = self._compare(url, path, since)
            if after.version is None:
                raise FileNotFoundError(2, "there is no such file", url)
            replaced = replaced or (before is not None and before.version not in (None, after.version))
        return replaced

    def url(self, path: str) -> str:
        """Give the URL that a path below the mirror stands for; other paths are given as they are."""
        if path in self._copies:
            return self._copies[path].url
        if self._directory is None or not os.path.normpath(path).startswith(self._directory + os.sep):
            return path
        protocol, *names = os.path.relpath(path, self._directory).split(os.sep)
        return f"{protocol}://{'/'.join(names)}"

    def _home(self) -> str:
        with self._lock:
            if self._directory is None:
                self._directory = os.path.realpath(tempfile.mkdtemp(prefix="filebroker-"))
                weakref.finalize(self, _remove, self._directory, os.getpid())
            return self._directory

    def _compare(self, url: str, path: str, since: float) -> Copy:
        """Make the copy what the remote file is, unless that was looked up since some time."""
        known = self._copies.get(path)
        if known is not None and known.compared > since and _is_as_known(path, known):
            return known
        now = time.monotonic()
        filesystem, name = reached(url)
        version = _version(filesystem, name)
        if known is not None and known.version == version and _is_as_known(path, known):
            found = self._copies[path] = Copy(url, version, now)
            return found
        return self._fetch(filesystem, name, path, Copy(url, version, now))

    def _fetch(self, filesystem: Any, name: str, path: str, copy: Copy) -> Copy:
        aside = f"{path}.{uuid.uuid4().hex}.part"  # of its own, as another thread may fetch the same file
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            if copy.version is not None:
                filesystem.get_file(name, aside)
                self._fetched_bytes += os.path.getsize(aside)
            with self._lock:  # what is noted is what is there
                if copy.version is not None:
                    os.replace(aside, path)
                elif os.path.isfile(path):
                    os.remove(path)
                self._copies[path] = copy
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, "there is no such file", copy.url) from error
        finally:
            if os.path.exists(aside):
                os.remove(aside)
        if self._fetched_bytes > MOST_BYTES // 8:  # looking at all copies takes time
            self._fetched_bytes = 0
            _trim(self._home())
        return copy


def _is_as_known(path: str, known: Copy) -> bool:
    """Tell whether there is a copy, if there should be one, and note that it is used."""
    if known.version is None:
        return True
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _version(filesystem: Any, name: str) -> Hashable:
    """Give what tells one version of a remote file from another; None if there is no file."""
    try:
        told = filesystem.info(name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # a store may refuse to say that there is nothing of a name
    if told.get("type") == "directory":
        return None
    marks = {key.lower().replace("-", "").replace("_", ""): str(value) for key, value in told.items()}
    return tuple(sorted((key, value) for key, value in marks.items() if key in _MARKS))


def _trim(directory: str) -> None:
    """Remove the copies that were not used for longest, until the others are few enough."""
    copies, total = [], 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:  # another thread has put it in its place
                continue
            copies.append((status.st_mtime, status.st_size, os.path.join(parent, name)))
            total += status.st_size
    for used, size, path in sorted(copies):
        if total <= MOST_BYTES or used > time.time() - _SPARED_SECONDS:
            return
        try:
            os.remove(path)
        except OSError:  # it is open, on Windows, or gone
            continue
        total -= size


def _remove(directory: str, process: int) -> None:
    if os.getpid() == process:  # a child that was forked leaves the files to its parent
        shutil.rmtree(directory, ignore_errors=True)
