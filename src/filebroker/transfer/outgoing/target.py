"""The directory that runs are exported to: files appear in it whole, and none that was there is lost unasked."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from filebroker.ground.errors import AssetExists, FilebrokerError, NotSupported, StorageError
from filebroker.ground.filesystem import is_url, make_directory, remove


class Target:
    """A local directory that files are exported to.

    Parameters
    ----------
    directory
        Its path, which is made if need be.
    overwrite
        Replace files that are there already.

    Attributes
    ----------
    directory : str
        Its absolute path.
    written : list of str
        The absolute paths of the files that were written, in order.

    Raises
    ------
    NotSupported
        The directory is a URL.
    StorageError
        It cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str], overwrite: bool = False) -> None:
        text = os.fspath(directory)
        if is_url(text):
            raise NotSupported(
                f"runs are exported to local directories, and {text!r:.200} is none; copy them afterwards"
            )
        self.directory, self.written = os.path.abspath(os.path.expanduser(text)), list[str]()
        self._overwrite = overwrite
        self._taken: set[str] = set()
        make_directory(self.directory)

    def refuse_existing(self, name: str) -> None:
        """Refuse to write a file that is there already.

        Parameters
        ----------
        name
            Its path in the directory.

        Raises
        ------
        AssetExists
            It is there and shall not be replaced, or was written a moment ago.
        """
        path = os.path.join(self.directory, name)
        if path.casefold() in self._taken:
            raise AssetExists(f"{path} was just written for another run; give runs different names with file_name")
        if not self._overwrite and os.path.lexists(path):
            raise AssetExists(f"{path} is there already; move it away, or export with overwrite")

    @contextlib.contextmanager
    def path(self, name: str) -> Iterator[str]:
        """Give the path of a file to write, which becomes the file when all is well.

        Parameters
        ----------
        name
            The file's path in the directory.

        Raises
        ------
        AssetExists
            It is there already.
        StorageError
            The filesystem refused.
        """
        self.refuse_existing(name)
        path = os.path.join(self.directory, name)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        make_directory(os.path.dirname(path))
        try:
            yield temporary
            self._publish(temporary, path)
        except OSError as error:
            if isinstance(error, FilebrokerError):
                raise
            raise StorageError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
        finally:
            remove(temporary)
        self._taken.add(path.casefold())
        self.written.append(path)

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Give an open file to write; see `path`.

        Parameters
        ----------
        name
            The file's path in the directory.
        """
        with self.path(name) as path, open(path, "wb", buffering=1 << 20) as file:
            yield file

    def _publish(self, temporary: str, path: str) -> None:
        """Rename a file; if another one appeared under its name meanwhile, that one stays."""
        if self._overwrite:
            os.replace(temporary, path)
            return
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise AssetExists(f"{path} was made by somebody else meanwhile; move it away, or export again") from None
        except OSError:  # a filesystem without links
            self.refuse_existing(os.path.relpath(path, self.directory))
            os.replace(temporary, path)
