"""Folders on any filesystem: a thin face over fsspec, and over the standard library where local.

Reading works on every fsspec filesystem.  What has to be atomic (publishing a file, claiming a
directory, locking) is offered on local disks.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.request import url2pathname

from filebroker.ground.errors import StorageError

_LOCAL_PROTOCOLS = {"file", "local"}
#: So often a directory is listed again when something was removed from it meanwhile.
_ATTEMPTS = 50


class Folder:
    """A directory on any filesystem, and the files below it.

    Parameters
    ----------
    url
        A local path (``~`` is expanded) or an fsspec URL such as ``s3://bucket/beamtime``.
    storage_options
        Arguments of the fsspec filesystem.

    Raises
    ------
    StorageError
        fsspec has no filesystem for the URL's protocol.

    Examples
    --------
    >>> Folder("memory://beamtime").local is None
    True
    """

    def __init__(self, url: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> None:
        text = os.fspath(url)
        self.storage_options = dict(storage_options or {})
        protocol = text.partition("://")[0] if "://" in text else "file"
        self.local: str | None = None
        self._fs: Any = None
        if protocol in _LOCAL_PROTOCOLS:
            path = url2pathname(text.partition("://")[2]) if "://" in text else os.path.expanduser(text)
            self.local = self._root = os.path.abspath(path)
            self.url = self.local
            return
        import fsspec

        try:
            self._fs, self._root = fsspec.core.url_to_fs(text, use_listings_cache=False, **self.storage_options)
        except (ValueError, ImportError) as error:
            raise StorageError(f"cannot open {text!r}: {error}") from error
        self._root = self._root.rstrip("/")
        self.url = text.rstrip("/")

    def __repr__(self) -> str:
        return f"<Folder {self.url!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Folder, (self.url, self.storage_options)

    def path(self, name: str) -> str:
        """Give the full path of a file in the folder, as the filesystem knows it."""
        return f"{self._root}/{name}" if name else self._root

    def read(self, name: str, start: int = 0) -> bytes:
        """Read a file.

        Parameters
        ----------
        name
            The file.
        start
            Leave out so many bytes at its beginning.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        with _reading(self.path(name)):
            if self.local is not None:
                with open(self.path(name), "rb", buffering=0) as file:  # a buffer costs time, and all is read at once
                    if start:
                        file.seek(start)
                    return file.readall()
            data: bytes = self._fs.cat_file(self.path(name))[start:]
        return data

    def read_end(self, name: str, size: int) -> tuple[bytes, int]:
        """Read the last bytes of a local file, and give its whole size.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        with _reading(self.path(name)), open(self.path(name), "rb") as file:
            total = file.seek(0, os.SEEK_END)
            file.seek(max(0, total - size))
            return file.read(), total

    def names(self, name: str = "") -> list[str]:
        """List the names in a directory, sorted; what is no directory has none.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        path = self.path(name)
        try:
            if self.local is not None:
                return sorted(os.listdir(path))
            return sorted(item.rstrip("/").rpartition("/")[2] for item in self._fs.ls(path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link to itself
                return []
            raise StorageError(error.errno, f"cannot list {path}: {error.strerror or error}") from error

    def sizes(self, name: str) -> dict[str, int]:
        """List the files in a directory with their sizes in bytes; what is no directory has none.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        path = self.path(name)
        try:
            if self.local is not None:
                return _local_sizes(path)
            items = self._fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise StorageError(error.errno, f"cannot list {path}: {error.strerror or error}") from error
        return {item["name"].rpartition("/")[2]: item["size"] for item in items if item["type"] == "file"}

    def stamp(self, name: str) -> int:
        """Give a number that changes when a file or a directory's listing does, -1 where none can be had."""
        if self.local is None:
            return -1
        try:
            return os.stat(self.path(name)).st_mtime_ns
        except OSError:
            return -1

    def exists(self, name: str = "") -> bool:
        """Tell whether there is a file or directory of that name."""
        if self.local is not None:
            return os.path.exists(self.path(name))
        return bool(self._fs.exists(self.path(name)))


def _local_sizes(path: str) -> dict[str, int]:
    """List the files of a local directory with their sizes, all as they were at one moment."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
            files = (entry for entry in entries if entry.is_file(follow_symlinks=False))
            return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in files}
        if not os.path.isdir(path):
            return {}
    raise OSError(errno.EAGAIN, "files are removed from it all the time")


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Give every failure but an absent file as a `StorageError`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(error.errno, f"cannot read {path}: {error.strerror or error}") from error


def publish(path: str, data: bytes, *, sync: bool) -> None:
    """Write a local file so that it is seen whole or not at all.

    Parameters
    ----------
    path
        Where the file shall be.  A file that is there already is replaced.
    data
        Its whole content.
    sync
        Return only when it would survive a power cut.

    Raises
    ------
    StorageError
        The filesystem refused; nothing was published.
    """
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            sync_directory(os.path.dirname(path))
    except OSError as error:
        remove(temporary)
        raise StorageError(error.errno, f"cannot write {path}: {error.strerror}") from error


def make_directory(path: str) -> None:
    """Make a local directory unless it is there.

    Raises
    ------
    StorageError
        The filesystem refused.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"cannot make the directory {path}: {error.strerror}") from error


def remove(path: str) -> None:
    """Remove a local file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sync_directory(path: str) -> None:
    """Make the creation and renaming of files in a local directory survive a power cut."""
    if os.name == "nt":  # Windows cannot open directories
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_path(root: str, path: str) -> None:
    """Make the directories from one up to another survive a power cut.

    Parameters
    ----------
    root
        The last one to sync.
    path
        The first one, below it or the same.

    Raises
    ------
    StorageError
        The filesystem refused.
    """
    while True:
        try:
            sync_directory(path)
        except OSError as error:
            raise StorageError(error.errno, f"cannot force {path} to the disk: {error.strerror}") from error
        if path == root or path == os.path.dirname(path):
            return
        path = os.path.dirname(path)


def is_temporary(name: str) -> bool:
    """Tell whether a file is what `publish` leaves behind when its process dies."""
    return name.endswith(".tmp")
