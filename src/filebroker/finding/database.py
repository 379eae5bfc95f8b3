"""A SQLite file that any number of processes and threads share, and that can be made anew at any time."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Iterator

from filebroker.ground.errors import StorageError

#: Another number makes a file of another version be made anew.
_SCHEMA_VERSION = 3
#: So long another process is waited for that writes to the same file.
_WAIT_SECONDS = 60.0
_waiting = threading.local()
#: What another process does, or the disk, rather than damage.
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_REFUSED = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}

# SQLite keeps its locks of a file in the memory of the process.  A forked child inherits what it cannot know to be
# wrong, so it must not open a file that its parent had open, nor close what it inherited.
_opened: set[str] = set()
_of_the_parent: set[str] = set()
_inherited: list[sqlite3.Connection] = []


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
            directory = tempfile.mkdtemp(prefix="filebroker-")
        except OSError as error:
            raise StorageError(
                error.errno, f"there is no place to keep a list of runs: {error}; name one in FILEBROKER_CACHE"
            ) from error
        weakref.finalize(self, _remove_unless_forked, directory, os.getpid())
        return os.path.join(directory, "manifest.sqlite")

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread; a forked child makes its own, and so does who finds another file there."""
        held: tuple[tuple[int, int] | None, sqlite3.Connection | None]
        held = getattr(self._local, "connection", (None, None))
        known, connection = held
        here = self._whereabouts()
        if connection is not None and known == here:
            return connection
        if connection is not None and known is not None:
            if known[0] == here[0]:
                connection.close()
            else:
                _inherited.append(connection)  # closing it here could harm the parent
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
        connection = sqlite3.connect(
            self.path, timeout=patience_left(), isolation_level=None, check_same_thread=False, factory=_Connection
        )
        try:
            connection.execute("PRAGMA cell_size_check=ON")
            # An empty file is not worth waiting for the disk.
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA journal_mode=WAL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != _SCHEMA_VERSION:
                self._create(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
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
        with _transaction(self._connection):
            yield

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


def may_open(path: str) -> bool:
    """Tell whether a file may be opened in this process: not one that its parent had open when it was forked."""
    return path not in _of_the_parent


def _after_fork() -> None:
    _of_the_parent.update(_opened)
    _opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_busy(error: Exception) -> bool:
    """Tell whether an error of SQLite says that another process holds the file."""
    return _code(error) in _BUSY


def is_refused(error: Exception) -> bool:
    """Tell whether an error of SQLite says that the disk refuses, which does not make the file a bad one."""
    return _code(error) in _REFUSED


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details that SQLite adds above


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
