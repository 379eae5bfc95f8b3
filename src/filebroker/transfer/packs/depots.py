"""Where files are copied from and to: below a local directory or a URL, piece by piece, and checked on the way."""

import contextlib
import errno
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from filebroker.assets.places import is_url
from filebroker.assets.remotes import reached
from filebroker.ground import filesystem
from filebroker.ground.connections import connect
from filebroker.ground.errors import DamagedRun, FilebrokerError, StorageError
from filebroker.ground.filesystem import Folder

#: Files are read in pieces of so many bytes; what is smaller goes to a store as a whole.
PIECE = 8 << 20


class Written(NamedTuple):
    """What was written.

    Attributes
    ----------
    bytes : int
        How much.
    sha256 : str
        Its SHA-256, in hexadecimal.
    """

    bytes: int
    sha256: str


class Source(Protocol):
    """What files are copied from."""

    @property
    def label(self) -> str:
        """What to call it in a message."""

    def sizes(self, directory: str) -> dict[str, int]:
        """Give all files below a directory, by their paths relative to it, with their sizes in bytes."""

    def read(self, name: str) -> bytes:
        """Read a whole file."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file piece by piece."""


class Target(Protocol):
    """What files are copied to."""

    @property
    def label(self) -> str:
        """What to call it in a message: its path or its URL."""

    def sizes(self, directory: str) -> dict[str, int]:
        """Give all files below a directory, by their paths relative to it, with their sizes in bytes."""

    def read(self, name: str) -> bytes:
        """Read a whole file."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file piece by piece."""

    def write(self, name: str, pieces: Iterable[bytes], expected: Written | None = None) -> Written:
        """Write a file, which appears when it is whole, and is what was expected."""


class LocalDepot:
    """The files below a local directory.

    Parameters
    ----------
    root
        The directory.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.root

    def sizes(self, directory: str) -> dict[str, int]:
        """Give all files below a directory, by their paths relative to it, with their sizes in bytes.

        Links are left out: what they lead to is no part of the directory.
        """
        top = os.path.join(self.root, directory)
        found = {}
        for parent, _, names in os.walk(top):
            for name in names:
                path = os.path.join(parent, name)
                if not filesystem.is_temporary(name) and not os.path.islink(path):
                    with contextlib.suppress(FileNotFoundError):
                        found[os.path.relpath(path, top).replace(os.sep, "/")] = os.path.getsize(path)
        return found

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises
        ------
        FileNotFoundError
            There is none.
        DamagedRun
            It is a directory, a pipe or a device.
        StorageError
            It cannot be read.
        """
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file piece by piece; see `read`."""
        path = os.path.join(self.root, name)
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for for ever
            raise DamagedRun(f"{path} is no regular file")
        return pieces_of(path)

    def write(self, name: str, pieces: Iterable[bytes], expected: Written | None = None) -> Written:
        """Write a file, which appears when it is whole, is on the disk, and is what was expected.

        Parameters
        ----------
        name
            Its path.  A file that is there already is replaced.
        pieces
            Its content.
        expected
            What that has to be.

        Raises
        ------
        DamagedRun
            The content is not what was expected; nothing appeared.
        FileNotFoundError
            What was to be read is not there; nothing appeared.
        StorageError
            The filesystem refused; nothing appeared.
        """
        path = os.path.join(self.root, name)
        aside = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        filesystem.make_directory(os.path.dirname(path))
        try:
            written = _spooled(pieces, aside)
            _check(name, written, expected)
            os.replace(aside, path)
            filesystem.sync_directory(os.path.dirname(path))
        except OSError as error:
            is_of_source = isinstance(error, FileNotFoundError) and error.filename not in (path, aside)
            if isinstance(error, FilebrokerError) or is_of_source:
                raise
            raise StorageError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
        finally:
            filesystem.remove(aside)
        return written


class StoreDepot:
    """The files below a URL.

    Parameters
    ----------
    folder
        The folder of the URL.
    """

    def __init__(self, folder: Folder) -> None:
        self._store = folder.store.store

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self._store.url

    def sizes(self, directory: str) -> dict[str, int]:
        """Give all files below a directory; see `Store.tree`."""
        return self._store.tree(directory)

    def read(self, name: str) -> bytes:
        """Read a whole file; see `Store.read`."""
        return self._store.read(name)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file piece by piece; see `Store.read`."""
        start = 0
        while True:
            piece = self._store.read(name, start, start + PIECE)
            yield piece
            start += len(piece)
            if len(piece) < PIECE:
                return

    def write(self, name: str, pieces: Iterable[bytes], expected: Written | None = None) -> Written:
        """Write a file, which appears when it is whole, and is what was expected.

        What is large is kept on the local disk until it is up.

        Parameters
        ----------
        name, pieces, expected
            As for `LocalDepot.write`.

        Raises
        ------
        DamagedRun
            The content is not what was expected; nothing appeared.
        StorageError
            The store refused.
        """
        handle, aside = tempfile.mkstemp(prefix="filebroker-")
        os.close(handle)
        try:
            written = _spooled(pieces, aside)
            _check(name, written, expected)
            if written.bytes <= PIECE:
                with open(aside, "rb") as file:
                    self._store.write(name, file.read())
            else:
                link = connect(self._store.url, self._store.storage_options)
                link.transport.filesystem.put_file(aside, link.path(name))
        except (FilebrokerError, FileNotFoundError):
            raise
        except Exception as error:  # each filesystem fails in a way of its own
            raise StorageError(
                f"cannot write {name!r} to {self._store.url}: {type(error).__name__}: {error}"
            ) from error
        finally:
            filesystem.remove(aside)
        return written


def depot_of(folder: Folder) -> LocalDepot | StoreDepot:
    """Give the files of a folder, those that are staged for it left out."""
    return StoreDepot(folder) if folder.local is None else LocalDepot(folder.local)


def pieces_of(path: str) -> Iterator[bytes]:
    """Read a file piece by piece.

    Parameters
    ----------
    path
        A local path or a URL.

    Raises
    ------
    FileNotFoundError
        There is none.
    StorageError
        It cannot be read.
    """
    try:
        if is_url(path):
            system, name = reached(path)
            opened = system.open(name, "rb")
        else:
            opened = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below
        with opened as file:
            while piece := file.read(PIECE):
                yield piece
    except (FileNotFoundError, FilebrokerError):
        raise
    except OSError as error:
        raise StorageError(error.errno, f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # each filesystem fails in a way of its own
        raise StorageError(errno.EIO, f"cannot read {path}: {type(error).__name__}: {error}") from error


def _spooled(pieces: Iterable[bytes], path: str) -> Written:
    """Write pieces to a local file, force it to the disk, and give what it is."""
    total, digest = 0, hashlib.sha256()
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            total += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return Written(total, digest.hexdigest())


def _check(name: str, written: Written, expected: Written | None) -> None:
    if expected is not None and written != expected:
        raise DamagedRun(
            f"{name} has {written.bytes} bytes of SHA-256 {written.sha256[:12]}..., and should have {expected.bytes} "
            f"of {expected.sha256[:12]}...; nothing was copied of it"
        )
