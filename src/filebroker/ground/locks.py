"""Locks on local files that the operating system lets go of when their process dies."""

import os
import sys
import weakref

_held: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


class FileLock:
    """An exclusive lock on a local file.

    The lock belongs to this object, not to the process: two objects exclude each other everywhere.
    A forked child does not inherit it.

    Parameters
    ----------
    path
        The file to lock; it is created when missing.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mktemp()
    >>> first, second = FileLock(path), FileLock(path)
    >>> first.acquire(), second.acquire()
    (True, False)
    >>> first.release()
    >>> second.acquire()
    True
    >>> second.release()
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, create: bool = True) -> bool:
        """Take the lock if nobody holds it, and tell whether it was taken.

        Parameters
        ----------
        create
            Make the file if it is missing.

        Raises
        ------
        FileNotFoundError
            The file is missing, and is not to be made.
        OSError
            The file cannot be opened for writing.
        """
        descriptor = os.open(self.path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        try:
            if _try_lock(descriptor) and _is_still(descriptor, self.path):
                self._descriptor = descriptor
                _held.add(self)
        finally:
            if self._descriptor != descriptor:
                os.close(descriptor)
        return self._descriptor == descriptor

    @property
    def inode(self) -> int:
        """The number of the locked file on its disk: a copy of the file has another."""
        assert self._descriptor is not None
        return os.fstat(self._descriptor).st_ino

    def write(self, content: bytes) -> None:
        """Make this the content of the locked file."""
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, content)

    def append(self, data: bytes, *, sync: bool) -> None:
        """Add to the end of the locked file, all or nothing.

        Parameters
        ----------
        data
            What to add.
        sync
            Return only when it would survive a power cut.

        Raises
        ------
        OSError
            It could not be written; the file is as it was, as far as the filesystem allows.
        """
        assert self._descriptor is not None
        size = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            if sync:
                os.fsync(self._descriptor)
        except BaseException:  # an interrupt as well as a full disk
            os.ftruncate(self._descriptor, size)
            raise

    @property
    def size(self) -> int:
        """How many bytes the locked file has."""
        assert self._descriptor is not None
        return os.fstat(self._descriptor).st_size

    def release(self) -> None:
        """Let the lock go."""
        # Forgotten first: after an interrupt it may stay open, but its number is never closed twice, because it may
        # be somebody else's by then.
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the locked file and let the lock go."""
        if self._descriptor is None:
            return
        if sys.platform == "win32":  # which cannot remove an open file
            self.release()
            os.unlink(self.path)
        else:
            os.unlink(self.path)
            self.release()


def _is_still(descriptor: int, path: str) -> bool:
    """Tell whether the locked file is the one at the path: its last holder may have removed it."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        # A byte far beyond the content, because Windows forbids others to read what is locked.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _forget_in_child() -> None:
        for lock in list(_held):
            lock.release()

    os.register_at_fork(after_in_child=_forget_in_child)
