"""The files of run directories as they are proved: which there are, their bytes and their hashes.

Everything is read from where it is, never from copies that are kept on this machine.
"""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Sequence

from filebroker.ground.errors import StorageError
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout

#: The size of what is there and cannot be read as a file: a link that leads nowhere, a directory, a pipe.
NO_FILE = -1
#: A file is hashed in pieces of so many bytes; up to this size it is read at once.
_PIECE = 1 << 20
_REMOTE_PIECE = 32 << 20
#: So deep below a run directories are looked into.
_MAX_DEPTH = 32


class Tree:
    """The files of a catalog.

    Parameters
    ----------
    folder
        The catalog's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder.alone()
        # Of a store: all files that were listed, by run, and documents that were fetched together with others.
        self._listed: dict[str, dict[str, int]] = {}
        self._texts: dict[str, bytes] = {}
        self._mutex = threading.Lock()

    def list_all(self) -> None:
        """List all files of a store at once, which takes fewer requests than to list each run."""
        if self.folder.remote is None:
            return
        for name, size in self.folder.remote.tree("").items():
            parts = name.split("/", 4)
            if len(parts) == 5:
                self._listed.setdefault("/".join(parts[:4]), {})[parts[4]] = size

    def fetch(self, paths: Sequence[str]) -> None:
        """Read the documents of sealed runs of a store at once."""
        if self.folder.remote is None:
            return
        names = [f"{path}/{layout.DOCUMENTS}" for path in paths if layout.DOCUMENTS in self._listed.get(path, {})]
        answers = self.folder.remote.read_many([(name, 0, None) for name in names]) if names else []
        found = {name: text for name, text in zip(names, answers, strict=True) if isinstance(text, bytes)}
        with self._mutex:
            self._texts.update(found)

    def forget(self, path: str) -> None:
        """Look anew at a run from now on."""
        with self._mutex:
            self._listed.pop(path, None)
            self._texts.pop(f"{path}/{layout.DOCUMENTS}", None)

    def sizes(self, path: str) -> dict[str, int]:
        """Give the files below a directory by their names relative to it, with their sizes or `NO_FILE`.

        Raises
        ------
        StorageError
            They cannot be listed.
        """
        if self.folder.remote is not None:
            with self._mutex:
                listed = self._listed.get(path)
            return self.folder.remote.tree(path) if listed is None else listed
        found: dict[str, int] = {}
        try:
            _scan(self.folder.path(path), "", found, _MAX_DEPTH)
        except OSError as error:
            raise StorageError(error.errno, f"cannot list {error.filename or path}: {error.strerror}") from error
        return found

    def read(self, name: str) -> bytes:
        """Read a file whole.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        with self._mutex:
            text = self._texts.pop(name, None)
        return self.folder.read(name) if text is None else text

    def digest(self, name: str, size: int) -> str:
        """Give the SHA-256 of a file, in hexadecimal.

        Parameters
        ----------
        name
            The file.
        size
            Its length as it was listed; no more than that of a store's file is read.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        path = self.folder.on_disk(name)
        if path is None:
            return self._digest_remote(name, size)
        if size <= _PIECE:
            return hashlib.sha256(self.folder.read(name)).hexdigest()
        try:
            with open(path, "rb", buffering=0) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(error.errno, f"cannot read {path}: {error.strerror or error}") from error

    def _digest_remote(self, name: str, size: int) -> str:
        found = hashlib.sha256()
        for piece in self.pieces(name, size):
            found.update(piece)
        return found.hexdigest()

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Read a file a piece at a time.

        Parameters
        ----------
        name
            The file.
        size
            Its length as it was listed; no more is read.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        path = self.folder.on_disk(name)
        for begin in range(0, size, _REMOTE_PIECE):
            end = min(size, begin + _REMOTE_PIECE)
            if path is None:
                yield self.folder.store.store.read(name, begin, end)
                continue
            try:
                with open(path, "rb") as file:
                    file.seek(begin)
                    piece = file.read(end - begin)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise StorageError(error.errno, f"cannot read {path}: {error.strerror or error}") from error
            yield piece

    def ends(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes | Exception]:
        """Read the last bytes of files, those of a store at once.

        Parameters
        ----------
        wanted
            Of each its name, its size, and how many bytes.

        Returns
        -------
        list
            The bytes; in the place of what is not there or cannot be read, an exception.
        """
        if self.folder.remote is not None:
            parts = [(name, max(0, size - length), size) for name, size, length in wanted]
            return self.folder.remote.read_many(parts) if parts else []
        found: list[bytes | Exception] = []
        for name, _, length in wanted:
            try:
                found.append(self.folder.read_end(name, length)[0])
            except (FileNotFoundError, StorageError) as error:
                found.append(error)
        return found


def _scan(directory: str, prefix: str, found: dict[str, int], depth: int) -> None:
    """Add the files below a local directory; links to directories are not followed."""
    try:
        with os.scandir(directory) as entries:
            listed = list(entries)
    except FileNotFoundError:
        return
    for entry in listed:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False) and depth:
            _scan(entry.path, f"{name}/", found, depth - 1)
            continue
        try:
            status = entry.stat()
        except FileNotFoundError:
            if not entry.is_symlink():  # removed just now
                continue
            found[name] = NO_FILE
        except OSError:  # a link to itself
            found[name] = NO_FILE
        else:
            found[name] = status.st_size if stat.S_ISREG(status.st_mode) else NO_FILE
