"""Directories in which imports put runs together before they move them to their places."""

import contextlib
import os
import uuid
from collections.abc import Iterator

from filebroker.ground.errors import StorageError
from filebroker.ground.locks import FileLock
from filebroker.transfer.incoming.drafts import remove_tree

_ASIDE, _LOCK = "import-", ".lock"


class Aside:
    """A directory of an import's own.  Its lock is made before it, and removed after it.

    Parameters
    ----------
    folder
        Local path of the directory that it is made in.

    Attributes
    ----------
    path : str
        Its own.

    Raises
    ------
    OSError
        The filesystem refused.
    """

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        while True:
            self._lock = FileLock(os.path.join(folder, f"{_ASIDE}{uuid.uuid4().hex[:8]}{_LOCK}"))
            self.path = _aside_of(self._lock.path)
            try:
                if self._lock.acquire():
                    os.mkdir(self.path)
                    return
            except BaseException:
                drop(self._lock)
                raise
            drop(self._lock)  # who sweeps up was faster

    def remove(self) -> None:
        """Remove it with all that is in it."""
        try:
            remove_tree(self.path)
        finally:
            drop(self._lock)


def sweep(folder: str) -> None:
    """Remove what imports left behind that died.

    Parameters
    ----------
    folder
        Local path of the directory where these directories are.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in names:
        stem, ending = os.path.splitext(name)
        if name.startswith(_ASIDE) and ending in (_LOCK, ".tmp") and (ending == _LOCK or stem + _LOCK not in names):
            with contextlib.suppress(OSError):  # somebody else's
                _sweep(os.path.join(folder, stem + _LOCK))


def _sweep(path: str) -> None:
    lock = FileLock(path)
    try:
        if lock.acquire():
            remove_tree(_aside_of(path))
            lock.remove()
    finally:
        lock.release()


def drop(lock: FileLock) -> None:
    """Let a lock go, and remove its file if that is possible."""
    try:
        with contextlib.suppress(OSError):
            lock.remove()
    finally:
        lock.release()


@contextlib.contextmanager
def telling(root: str) -> Iterator[None]:
    """Give what the filesystem refuses as a `StorageError`.

    Parameters
    ----------
    root
        The catalog that runs are moved to.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            error.errno, f"cannot move a run to its place in {root}: {error.strerror or error}"
        ) from error


def _aside_of(lock: str) -> str:
    """Give the directory that a lock is for."""
    return f"{lock.removesuffix(_LOCK)}.tmp"
