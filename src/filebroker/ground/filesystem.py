"""Folders on any filesystem: a thin face over fsspec, and over the standard library where local.

What has to be atomic on a local disk (publishing a file, claiming a directory, locking) is offered here as well; what
stores offer of that is in `stores`.
"""

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from filebroker.ground.errors import NotSupported, StorageError
from filebroker.ground.remote import Remote
from filebroker.ground.stores import Store

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")
_LOCAL_PROTOCOLS = {"file", "local"}
#: So often a directory is listed again when something was removed from it meanwhile.
_ATTEMPTS = 50


class Staged(Protocol):
    """A local directory that holds what is not in a store yet, laid out as the store is."""

    @property
    def root(self) -> str:
        """Its path."""

    def holds(self, name: str) -> bool:
        """Tell whether a name is to be read from here."""


class Folder:
    """A directory on any filesystem, and the files below it.

    Parameters
    ----------
    url
        A local path (``~`` is expanded) or an fsspec URL such as ``s3://bucket/beamtime``.
    storage_options
        Arguments of the fsspec filesystem.

    Attributes
    ----------
    url : str
        The absolute path, or the URL.
    local : str or None
        The path of a folder on a local disk.
    remote : Remote or None
        The store of any other.
    staged : Staged or None
        What was recorded for the store on this machine and is not there yet.  It is read from here.

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
        self.local: str | None = None
        self.remote: Remote | None = None
        self.staged: Staged | None = None
        protocol = text.partition("://")[0] if is_url(text) else "file"
        if protocol in _LOCAL_PROTOCOLS:
            path = path_of(text.partition("://")[2]) if is_url(text) else os.path.expanduser(text)
            self.local = self.url = os.path.abspath(path)
            return
        self.remote = Remote(Store(text, self.storage_options))
        self.url = self.remote.store.url

    def __repr__(self) -> str:
        return f"<Folder {self.url!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # What is staged is found on the machine where it is, and in the store by others.
        return _restored, (self.url, self.storage_options, self.staged)

    @property
    def store(self) -> "Remote":
        """The store of a folder that is not on a local disk."""
        if self.remote is None:
            raise NotSupported(f"{self.url} is on a local disk")
        return self.remote

    def alone(self) -> "Folder":
        """Give the folder without what is staged for it."""
        return self if self.staged is None else _restored(self.url, self.storage_options, None)

    @property
    def place(self) -> str:
        """What distinguishes the folder from others: of a store, its server as well."""
        return self.url if self.remote is None else self.remote.store.place

    def path(self, name: str) -> str:
        """Give the full path of a file in the folder, as the filesystem knows it."""
        root = self.url if self.local is None else self.local
        return f"{root}/{name}" if name else root

    def on_disk(self, name: str) -> str | None:
        """Give the local path of a file or directory, None of one that is in a store."""
        if self.local is not None:
            return self.path(name)
        if self.staged is not None and self.staged.holds(name):
            return f"{self.staged.root}/{name}"
        return None

    def read(self, name: str, start: int = 0) -> bytes:
        """Read a file as it is now.

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
        path = self.on_disk(name)
        if path is not None:
            try:
                return _read_local(path, start)
            except FileNotFoundError:
                if self.on_disk(name) is not None:
                    raise  # else it has gone up to the store meanwhile
        return self.store.read(name, start)

    def read_fixed(self, name: str, version: str, is_good: Callable[[bytes], bool]) -> bytes:
        """Read a file that never changes: of a store, perhaps a copy that is kept on this machine.

        Parameters
        ----------
        name
            The file.
        version
            What distinguishes its content from any other that was there before.
        is_good
            Tells whether what came is the whole file; else it is read once more.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        if self.on_disk(name) is not None:
            with contextlib.suppress(FileNotFoundError):
                return self.read(name)
        if self.remote is None:
            return self.read(name)
        return self.remote.read_fixed(name, version, is_good)

    def read_end(self, name: str, size: int) -> tuple[bytes, int]:
        """Read the last bytes of a file on a local disk, and give its whole size.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        with _reading(self.path(name)), open(self.on_disk(name) or self.path(name), "rb") as file:
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
        path = self.on_disk(name)
        if path is not None:
            return _local_names(path)
        found = set(self.store.names(name))
        if self.staged is not None:
            found.update(_local_names(f"{self.staged.root}/{name}"))
        return sorted(found)

    def sizes(self, name: str) -> dict[str, int]:
        """List the files in a directory with their sizes in bytes; what is no directory has none.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        path = self.on_disk(name)
        if path is None:
            return self.store.sizes(name)
        try:
            return _local_sizes(path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise StorageError(error.errno, f"cannot list {path}: {error.strerror or error}") from error

    def stamp(self, name: str) -> int:
        """Give a number that changes when a file or a directory's listing does, -1 where none can be had."""
        path = self.on_disk(name)
        if path is None:
            return -1
        try:
            return os.stat(path).st_mtime_ns
        except OSError:
            return -1

    def changed(self, name: str) -> tuple[int, int]:
        """Give two numbers of which one changes with a directory's listing, (-1, -1) where none can be had.

        They are the times of the last change that copying tools set, and of that which they cannot.
        """
        path = self.on_disk(name)
        try:
            status = None if path is None else os.stat(path)
        except OSError:
            status = None
        return (-1, -1) if status is None else (status.st_mtime_ns, status.st_ctime_ns)

    def exists(self, name: str = "") -> bool:
        """Tell whether there is a file or directory of that name."""
        path = self.on_disk(name)
        if path is not None and os.path.exists(path):
            return True
        return self.remote is not None and path is None and self.remote.exists(name)


def _restored(url: str, storage_options: Mapping[str, Any], staged: Staged | None) -> Folder:
    folder = Folder(url, storage_options)
    folder.staged = staged
    return folder


def is_url(text: str) -> bool:
    """Tell whether a text is a URL, chained ones such as ``simplecache::s3://bucket`` included.

    Examples
    --------
    >>> is_url("s3://bucket/beamtime"), is_url("simplecache::s3://bucket"), is_url("/data/a://b"), is_url("C:/data")
    (True, True, False, False)
    """
    return _URL.match(text) is not None


def path_of(part: str) -> str:
    """Give the local path that the part of a ``file:`` URL after the host names.

    Examples
    --------
    >>> path_of("/data/a%20b.h5")
    '/data/a b.h5'
    """
    from urllib.request import url2pathname  # which imports much

    return url2pathname(part)


def _read_local(path: str, start: int) -> bytes:
    with _reading(path), open(path, "rb", buffering=0) as file:  # a buffer costs time, and all is read at once
        if start:
            file.seek(start)
        return file.readall()


def _local_names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return []
        raise StorageError(error.errno, f"cannot list {path}: {error.strerror or error}") from error


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
