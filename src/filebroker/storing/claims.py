"""The claim of a writer on a run: its directory, and the lock that says that its writer lives."""

import os
import socket
import time
from datetime import UTC, datetime

from filebroker.ground import codec
from filebroker.ground.errors import DuplicateDocument, StorageError
from filebroker.ground.locks import FileLock
from filebroker.storing import layout

_LOCK_ATTEMPTS, _LOCK_PAUSE = 50, 0.02


def claim(root: str, name: str, uid: str) -> FileLock:
    """Make a run's directory, and hold the lock that says that its writer lives.

    Parameters
    ----------
    root
        Local path of the catalog.
    name
        The run's directory, relative to it.
    uid
        The run's uid; of several processes that claim it, one wins.

    Raises
    ------
    DuplicateDocument
        The directory exists, or the run is being recorded.
    StorageError
        The filesystem refused.
    """
    directory = os.path.join(root, name)
    lock = FileLock(os.path.join(root, layout.LIVE, layout.lock_name(uid)))
    try:
        os.makedirs(os.path.dirname(lock.path), exist_ok=True)
        if not _acquire(lock):
            raise DuplicateDocument(f"the run {uid!r} is being recorded by another process or another catalog object")
        owner = {
            **{"directory": name, "host": socket.gethostname(), "pid": os.getpid(), "inode": lock.inode},
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        lock.write(codec.dumps(owner))
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        if os.path.exists(directory):
            raise DuplicateDocument(f"the run in {directory} is recorded already")
        os.mkdir(directory)
    except OSError as error:
        lock.remove()
        if isinstance(error, DuplicateDocument):
            raise
        raise StorageError(
            error.errno,
            f"cannot begin to record in {directory}: {error.strerror} ({error.filename}); nothing was recorded",
        ) from error
    except BaseException:  # an interrupt
        lock.remove()
        raise
    return lock


def _acquire(lock: FileLock) -> bool:
    """Take a lock, waiting a moment for someone who opens the catalog and looks whether its writer lives."""
    for _ in range(_LOCK_ATTEMPTS):
        if lock.acquire():
            return True
        if os.path.exists(lock.path) and os.path.getsize(lock.path):
            return False
        time.sleep(_LOCK_PAUSE)
    return False
