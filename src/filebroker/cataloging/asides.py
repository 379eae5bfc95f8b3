"""Places where runs are put together before they are seen: each is of one process, and goes when that has died."""

import contextlib
import filecmp
import os
import shutil
import threading
import uuid

from filebroker.cataloging import packed
from filebroker.ground import filesystem
from filebroker.ground.errors import StorageError
from filebroker.ground.locks import FileLock
from filebroker.storing import layout

#: The directory ``.copy-<8 hexadecimal digits>.tmp`` is somebody's as long as the lock of that name is held.
_BEGIN, _LOCK, _END = ".copy-", ".lock", ".tmp"


class Aside:
    """A directory of this object's own, which is made when it is needed.

    Several threads may use it.

    Parameters
    ----------
    folder
        The directory that it shall be in.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock: FileLock | None = None
        self._mutex = threading.Lock()

    def new(self) -> str:
        """Give the path of a directory in it, which is nobody's and still to be made.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        with self._mutex:
            if self._lock is None:
                try:
                    self._lock = self._begin()
                except OSError as error:
                    raise StorageError(error.errno, f"cannot write to {self._folder}: {error.strerror}") from error
            return os.path.join(_directory_of(self._lock.path), uuid.uuid4().hex[:8])

    def _begin(self) -> FileLock:
        os.makedirs(self._folder, exist_ok=True)
        _sweep(self._folder)
        while True:
            lock = FileLock(os.path.join(self._folder, f"{_BEGIN}{uuid.uuid4().hex[:8]}{_LOCK}"))
            if lock.acquire():  # else who sweeps up was faster
                os.mkdir(_directory_of(lock.path))
                return lock

    def close(self) -> None:
        """Remove the directory, and all that is in it still."""
        with self._mutex:
            lock, self._lock = self._lock, None
            if lock is not None:
                _remove(lock)


def _sweep(folder: str) -> None:
    """Remove what processes left that died."""
    for stem in {os.path.splitext(name)[0] for name in os.listdir(folder) if name.startswith(_BEGIN)}:
        lock = FileLock(os.path.join(folder, stem + _LOCK))
        with contextlib.suppress(PermissionError):  # somebody else's
            if lock.acquire():
                _remove(lock)


def _remove(lock: FileLock) -> None:
    """Remove a directory, and then the lock that says whose it is."""
    try:
        shutil.rmtree(_directory_of(lock.path), ignore_errors=True)
        if not os.path.exists(_directory_of(lock.path)):
            lock.remove()
    finally:
        lock.release()


def _directory_of(lock: str) -> str:
    return lock.removesuffix(_LOCK) + _END


def move(directory: str, place: str) -> bool:
    """Put a run that was put together aside in its place.

    Parameters
    ----------
    directory
        The path of the directory with its files, which is gone then.
    place
        The path that it shall have.

    Returns
    -------
    bool
        Whether it is there now; False if another run is there.

    Raises
    ------
    OSError
        The filesystem refused.
    """
    filesystem.make_directory(os.path.dirname(place))
    if not os.path.lexists(place):
        try:
            os.rename(directory, place)
        except OSError:
            if not os.path.lexists(place):  # else somebody else was faster
                raise
        else:
            return True
    return _add(directory, place)


def _add(directory: str, place: str) -> bool:
    """Add what a directory lacks that somebody else fills or filled with the same run, what announces it last."""
    names = [
        os.path.relpath(os.path.join(parent, name), directory)
        for parent, _, files in os.walk(directory)
        for name in files
    ]
    theirs = os.path.join(place, layout.DOCUMENTS)
    is_recorded = any(layout.segment_of(name) is not None for name in os.listdir(place))
    if layout.DOCUMENTS in names and (is_recorded or not _is_same(os.path.join(directory, layout.DOCUMENTS), theirs)):
        return False
    for name in sorted(names, key=lambda name: (name == layout.DOCUMENTS, os.path.basename(name) == packed.MAP, name)):
        target = os.path.join(place, name)
        filesystem.make_directory(os.path.dirname(target))
        if not os.path.exists(target):
            os.replace(os.path.join(directory, name), target)
            filesystem.sync_directory(os.path.dirname(target))
    return True


def _is_same(one: str, other: str) -> bool:
    """Tell whether two files are the same, or there is no other."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except FileNotFoundError:
        return True
