"""A SQLite file that any number of processes and threads share, and that can be made anew at any time."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator

from filebroker.ground.errors import StorageError

#: Another number makes a file of another version be made anew.
_SCHEMA_VERSION = 5
#: So long another process is waited for that writes to the same file.
_WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 0.01
_LONGEST_JOURNAL = 16 << 20
_TEMPORARY = "filebroker-manifest-"
_waiting = threading.local()
_gate = threading.RLock()
#: What another process does, or the disk, rather than damage.
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}

# SQLite keeps its locks of a file in the memory of the process.  A forked child inherits what it cannot know to be
# wrong, so it must not open a file that its parent had open, nor close what it inherited.
_opened: set[str] = set()
_of_the_parent: set[str] = set()
_inherited: list[object] = []


class DatabaseDamaged(Exception):
    """The file does not hold what it should; it has to be made anew."""


class _Connection(sqlite3.Connection):
    """A connection that is closed when it is forgotten, for example with the thread that made it."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


class Database:
    """A SQLite file with a connection for each thread.

    Parameters
    ----------
    path
        The file; None for one in a temporary directory, which is removed at the end.
    schema
        The statements that make its tables.
    """

    def __init__(self, path: str | None, schema: str) -> None:
        self.path = self._in_temporary_directory() if path is None else path
        self._schema = schema
        self._local = threading.local()

    def _in_temporary_directory(self) -> str:
        try:
            _sweep_temporary()
            directory = tempfile.mkdtemp(prefix=f"{_TEMPORARY}{os.getpid()}-")
        except OSError as error:
            raise StorageError(
                error.errno, f"there is no place to keep a list of runs: {error}; name one in FILEBROKER_CACHE"
            ) from error
        weakref.finalize(self, _remove_unless_forked, directory, os.getpid())
        return os.path.join(directory, "manifest.sqlite")

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread; a forked child makes its own, and so does who finds another file there."""
        pinned: sqlite3.Connection | None = getattr(self._local, "pinned", None)
        if pinned is not None:
            return pinned
        held: tuple[tuple[int, int] | None, sqlite3.Connection | None]
        held = getattr(self._local, "connection", (None, None))
        known, connection = held
        here = self._whereabouts()
        if connection is not None and known == here:
            return connection
        if connection is not None:
            connection.close()  # the file is another one by now
        connection = self._open()
        self._local.connection = self._whereabouts(), connection
        return connection

    def _whereabouts(self) -> tuple[int, int]:
        """Give this process, and the number of the file on its disk."""
        try:
            return os.getpid(), os.stat(self.path).st_ino
        except OSError:
            return os.getpid(), -1

    def _open(self) -> sqlite3.Connection:
        _opened.add(self.path)
        with contextlib.suppress(OSError):  # SQLite says what is wrong
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        deadline = time.monotonic() + patience_left()
        while True:
            try:
                return self._connect()
            except sqlite3.OperationalError as error:
                # SQLite itself does not wait for another process that is just making the file.
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=patience_left(), isolation_level=None, check_same_thread=False, factory=_Connection
        )
        try:
            connection.execute("PRAGMA cell_size_check=ON")
            # An empty file is not worth waiting for the disk.
            connection.execute("PRAGMA synchronous=OFF")
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != _SCHEMA_VERSION:
                self._create(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={_LONGEST_JOURNAL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        """Make the tables, unless another process has just made them."""
        with _transaction(connection):
            if connection.execute("PRAGMA user_version").fetchone()[0] == _SCHEMA_VERSION:
                return
            tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            for (name,) in connection.execute(tables).fetchall():
                connection.execute(f'DROP TABLE "{name}"')
            for statement in self._schema.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Do several changes at once, or none of them; others wait meanwhile."""
        before = getattr(self._local, "pinned", None)
        # Whatever happens to the file meanwhile, all of it goes to the same one.
        connection = self._local.pinned = self._connection
        try:
            with _transaction(connection):
                yield
        finally:
            self._local.pinned = before

    def check(self) -> None:
        """Look whether the file is whole.

        Raises
        ------
        DatabaseDamaged
            It is not.
        """
        for (problem,) in self._connection.execute("PRAGMA integrity_check(1)"):
            if problem != "ok":
                raise DatabaseDamaged(problem)

    def close(self) -> None:
        """Close this thread's connection."""
        known, connection = getattr(self._local, "connection", ((0, 0), None))
        if connection is not None and known[0] == os.getpid():
            connection.close()
        self._local.connection = None, None

    def remove(self) -> None:
        """Remove the file; the next use begins an empty one.

        Raises
        ------
        OSError
            It cannot be removed.
        """
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait no longer than this for others, in this thread."""
    before = patience_left()
    _waiting.seconds = seconds
    try:
        yield
    finally:
        _waiting.seconds = before


def patience_left() -> float:
    """Give how many seconds others are waited for in this thread."""
    seconds: float = getattr(_waiting, "seconds", _WAIT_SECONDS)
    return seconds


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep the other threads of this process out, and a fork off.

    A child that is forked while a thread is inside SQLite would wait for ever for what that thread held.

    Raises
    ------
    StorageError
        Another thread took too long.
    """
    if not _gate.acquire(timeout=patience_left()):
        raise StorageError("another thread has been busy with a list of runs for too long; try again later")
    try:
        yield
    finally:
        _gate.release()


def may_open(path: str) -> bool:
    """Tell whether a file may be opened in this process: not one that its parent had open when it was forked."""
    return path not in _of_the_parent


def abandon(database: Database) -> None:
    """Keep in a forked child what it inherited, and never use it: closing it could harm the parent."""
    _inherited.append(database)


def _before_fork() -> None:
    _gate.acquire(timeout=_WAIT_SECONDS)


def _after_fork_in_parent() -> None:
    with contextlib.suppress(RuntimeError):  # it could not be had in time
        _gate.release()


def _after_fork_in_child() -> None:
    global _gate
    _gate = threading.RLock()
    _of_the_parent.update(_opened)
    _opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def is_busy(error: Exception) -> bool:
    """Tell whether an error of SQLite says that another process holds the file."""
    return _code(error) in _BUSY


def is_refused(error: Exception) -> bool:
    """Tell whether an error of SQLite says that the disk refuses, which does not make the file a bad one."""
    return _code(error) in _REFUSED


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details that SQLite adds above


def _sweep_temporary() -> None:
    """Remove what processes left that had no time to do it themselves."""
    with os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            owner = entry.name.removeprefix(_TEMPORARY).partition("-")[0] if entry.name.startswith(_TEMPORARY) else ""
            if owner.isdecimal() and not _is_alive(int(owner)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where a signal would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove_unless_forked(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * patience_left())}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
