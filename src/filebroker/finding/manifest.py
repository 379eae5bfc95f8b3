"""The manifest: a local SQLite file that knows a catalog's runs, for order, lookups and times.

It is derived from the ledger and can be deleted at any time.
"""

import contextlib
import math
import os
import sqlite3
import threading
import uuid
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from filebroker.finding.records import GONE, Record
from filebroker.ground import codec, filesystem
from filebroker.ground.documents import Document

#: Rows and versions begin at a random number and are never used again, so that those of one manifest mean nothing
#: in another.
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE runs (row INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER, path TEXT UNIQUE, revision INTEGER,
    state TEXT, uid BLOB, time REAL, scan_id INTEGER);
CREATE INDEX runs_by_version ON runs (version);
CREATE INDEX runs_by_uid ON runs (uid);
CREATE INDEX runs_by_time ON runs (time);
CREATE INDEX runs_by_scan_id ON runs (scan_id, path);
CREATE TABLE documents (row INTEGER PRIMARY KEY, start BLOB, stop BLOB, pages TEXT, crc INTEGER);
CREATE TABLE removed (path TEXT PRIMARY KEY, revision INTEGER);
CREATE TABLE sources (name TEXT PRIMARY KEY, size INTEGER);
CREATE TABLE covers (source TEXT, name TEXT, PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value);
INSERT INTO facts VALUES ('identity', lower(hex(randomblob(6))));
INSERT INTO facts VALUES ('forgotten', 0);
INSERT INTO facts VALUES ('version', abs(random() >> 24));
INSERT INTO sqlite_sequence SELECT 'runs', value FROM facts WHERE name = 'version';
"""
_inherited: list[sqlite3.Connection] = []
_WAIT_SECONDS = 60.0
_CHUNK = 500


class ManifestDamaged(Exception):
    """The manifest does not hold what it should; it has to be made anew."""


class Entry(NamedTuple):
    """What the manifest knows of a run at once."""

    row: int
    path: str
    state: str
    uid: str
    scan_id: int | None


class Documents(NamedTuple):
    """A run's documents as the manifest has them.

    Attributes
    ----------
    entry : Entry
        The run.
    raw_start, raw_stop : bytes
        The start and the stop document as JSON; nothing while there is no stop document.
    """

    entry: Entry
    raw_start: bytes
    raw_stop: bytes

    @property
    def start(self) -> Document:
        """The start document."""
        document: Document = codec.loads(self.raw_start)
        return document

    @property
    def stop(self) -> Document | None:
        """The stop document, None while there is none."""
        return codec.loads(self.raw_stop) if self.raw_stop else None

    @property
    def reason(self) -> str:
        """The ``reason`` of the stop document, empty if it has none."""
        reason = (self.stop or {}).get("reason") if b'"reason"' in self.raw_stop else None
        return reason if isinstance(reason, str) else ""


class Order(NamedTuple):
    """All runs, newest first: three arrays of one length.

    Attributes
    ----------
    rows : numpy.ndarray
        Their rows in the manifest.
    versions : numpy.ndarray
        Numbers that grow with each change of any run.
    times : numpy.ndarray
        Their start times in seconds since 1970, NaN where there is none.
    """

    rows: "np.ndarray[Any, np.dtype[np.int64]]"
    versions: "np.ndarray[Any, np.dtype[np.int64]]"
    times: "np.ndarray[Any, np.dtype[np.float64]]"


class _Connection(sqlite3.Connection):
    """A connection that is closed when it is forgotten, for example with the thread that made it."""

    def __del__(self) -> None:
        self.close()


class Manifest:
    """The runs of a catalog, in a local file.

    It may be used by any number of processes and threads at once.

    Parameters
    ----------
    path
        The file, in a directory that exists; None to keep it in memory.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._name = f"file:filebroker-{uuid.uuid4().hex}?mode=memory&cache=shared" if path is None else path
        self._local = threading.local()
        self._order: tuple[int, Order] | None = None
        # What is in memory lives as long as one connection is open.
        self._keeper = self._open() if path is None else None

    # -- the connection

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
            return os.getpid(), 0 if self.path is None else os.stat(self.path).st_ino
        except FileNotFoundError:
            return os.getpid(), -1

    def _open(self) -> sqlite3.Connection:
        if self.path is not None:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        connection = sqlite3.connect(
            self._name,
            timeout=_WAIT_SECONDS,
            isolation_level=None,
            uri=self.path is None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != _SCHEMA_VERSION:
                self._create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        """Make the tables, unless another process has just made them."""
        with _transaction(connection):
            if connection.execute("PRAGMA user_version").fetchone()[0] == _SCHEMA_VERSION:
                return
            tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            for (name,) in connection.execute(tables).fetchall():
                connection.execute(f'DROP TABLE "{name}"')
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")

    def close(self) -> None:
        """Close this thread's connection."""
        known, connection = getattr(self._local, "connection", ((0, 0), None))
        if connection is not None and known[0] == os.getpid():
            connection.close()
        self._local.connection = None, None

    def remove(self) -> None:
        """Remove the manifest; the next use begins an empty one."""
        self.close()
        self._order = None
        if self.path is None:
            with self.writing():
                self.forget()
            return
        for suffix in ("", "-wal", "-shm"):
            filesystem.remove(self.path + suffix)

    # -- writing

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Do several changes at once, or none of them; others wait meanwhile."""
        with _transaction(self._connection):
            yield

    def sources(self) -> dict[str, int]:
        """Give the files that went into the manifest, with how many of their bytes."""
        return dict(self._connection.execute("SELECT name, size FROM sources").fetchall())

    def set_source(self, name: str, size: int, covers: Iterable[str]) -> None:
        """Note a file that went into the manifest.

        Parameters
        ----------
        name
            The file.
        size
            How many of its bytes need not be read again.
        covers
            The files that it is made of, itself included.
        """
        connection = self._connection
        connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", (name, size))
        connection.execute("DELETE FROM covers WHERE source = ?", (name,))
        connection.executemany("INSERT OR IGNORE INTO covers VALUES (?, ?)", ((name, other) for other in covers))

    def uncovered(self, files: Collection[str]) -> set[str]:
        """Give the files that went into the manifest and are in none of some files any more."""
        covered = {
            name for source, name in self._connection.execute("SELECT source, name FROM covers") if source in files
        }
        return self.sources().keys() - covered - set(files)

    def suspect(self, doubt: bool) -> None:
        """Note whether runs may be missing that the run directories have."""
        self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('suspect', ?)", (int(doubt),))

    @property
    def is_suspect(self) -> bool:
        """Whether runs may be missing."""
        return bool(self._connection.execute("SELECT 1 FROM facts WHERE name = 'suspect' AND value").fetchone())

    def forget(self) -> None:
        """Forget every run and every source."""
        self._connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'forgotten'")
        for table in ("runs", "documents", "removed", "sources", "covers"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608

    def apply(self, records: Iterable[Record]) -> int:
        """Take in records, in any order and as often as one likes; give how many said something new."""
        count = 0
        connection = self._connection
        (version,) = connection.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()
        for record in records:
            row, rank = self._known(record.path)
            if record.rank <= rank:
                continue
            version, count = version + 1, count + 1
            if record.state == GONE:
                self._take_out(record, row)
            else:
                self._put_in(record, row, version)
        if count:
            connection.execute("UPDATE facts SET value = ? WHERE name = 'version'", (version,))
        return count

    def _known(self, path: str) -> tuple[int | None, tuple[int, int]]:
        """Give a run's row, and the rank of the record that is known of it."""
        connection = self._connection
        found = connection.execute("SELECT row, revision, state FROM runs WHERE path = ?", (path,)).fetchone()
        if found is None:
            query = "SELECT NULL, revision, ? FROM removed WHERE path = ?"
            found = connection.execute(query, (GONE, path)).fetchone()
        return (None, (-1, 0)) if found is None else (found[0], Record(path, *found[1:]).rank)

    def _take_out(self, record: Record, row: int | None) -> None:
        connection = self._connection
        connection.execute("DELETE FROM runs WHERE row = ?", (row,))
        connection.execute("DELETE FROM documents WHERE row = ?", (row,))
        connection.execute("INSERT OR REPLACE INTO removed VALUES (?, ?)", (record.path, record.revision))

    def _put_in(self, record: Record, row: int | None, version: int) -> None:
        connection = self._connection
        connection.execute("DELETE FROM removed WHERE path = ?", (record.path,))
        columns = _columns(codec.loads(record.start))
        # Of a row that is NULL SQLite makes the next one.
        row = connection.execute(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (row, version, record.path, record.revision, record.state, *columns),
        ).lastrowid
        stop = record.stop or b""
        crc = zlib.crc32(record.start + stop)
        pages = codec.dumps(record.pages).decode()
        connection.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", (row, record.start, stop, pages, crc)
        )

    # -- reading

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    def count(self, low: float, high: float) -> int:
        """Count the runs whose start times are in a range, both ends included."""
        query = "SELECT count(*) FROM runs WHERE time >= ? AND time <= ?"
        return int(self._connection.execute(query, (low, high)).fetchone()[0])

    def identity(self) -> str:
        """Give what distinguishes this manifest from others, earlier ones of the same catalog included."""
        return str(self._connection.execute("SELECT value FROM facts WHERE name = 'identity'").fetchone()[0])

    def epoch(self) -> tuple[str, int]:
        """Give what changes whenever rows lose their meaning."""
        query = "SELECT value FROM facts WHERE name IN ('identity', 'forgotten') ORDER BY name"
        (forgotten,), (identity,) = self._connection.execute(query).fetchall()
        return str(identity), int(forgotten)

    def revision_of(self, path: str) -> dict[str, tuple[int, str]]:
        """Give the revision and the state of one run by its path; nothing if it is not known."""
        query = (
            "SELECT revision, state FROM runs WHERE path = ? UNION ALL SELECT revision, ? FROM removed WHERE path = ?"
        )
        found = self._connection.execute(query, (path, GONE, path)).fetchone()
        return {} if found is None else {path: found}

    def version(self) -> int:
        """Give a number that grows with each change of any run."""
        return int(self._connection.execute("SELECT value FROM facts WHERE name = 'version'").fetchone()[0])

    def revisions(self) -> dict[str, tuple[int, str]]:
        """Give the revision and the state of each run by its path, those that were removed included."""
        query = "SELECT path, revision, state FROM runs UNION ALL SELECT path, revision, ? FROM removed"
        return {path: (revision, state) for path, revision, state in self._connection.execute(query, (GONE,))}

    def order(self) -> Order:
        """Give all runs, newest first."""
        version = self.version()
        if self._order is None or self._order[0] != version:
            found = self._connection.execute("SELECT row, version, time FROM runs ORDER BY path DESC").fetchall()
            rows, versions, times = zip(*found, strict=True) if found else ((), (), ())
            order = Order(np.array(rows, np.int64), np.array(versions, np.int64), np.array(times, np.float64))
            self._order = version, order
        return self._order[1]

    def newest(self, count: int, before: str | None = None) -> list[Entry]:
        """Give the newest runs, or the newest of those older than the one at a path."""
        if before is None:
            return self._entries("ORDER BY path DESC LIMIT ?", (count,))
        return self._entries("WHERE path < ? ORDER BY path DESC LIMIT ?", (before, count))

    def by_scan_id(self, scan_id: int) -> list[Entry]:
        """Give the runs of a scan_id, newest first."""
        return self._entries("WHERE scan_id = ? ORDER BY path DESC", (scan_id,)) if _fits(scan_id) else []

    def by_uid(self, prefix: str, limit: int = -1) -> list[Entry]:
        """Give the runs whose uids begin so, newest first."""
        low = _encode(prefix)
        return self._entries("WHERE uid >= ? AND uid < ? ORDER BY path DESC LIMIT ?", (low, low + b"\xff", limit))

    def of_uid(self, uid: str) -> list[Entry]:
        """Give the runs of exactly that uid, newest first."""
        return self._entries("WHERE uid = ? ORDER BY path DESC", (_encode(uid),))

    def at(self, rows: Sequence[int]) -> list[Entry]:
        """Give the runs in some rows, in that order; rows that are no more are left out."""
        result: list[Entry] = []
        for chunk in _chunks(rows):
            found = {entry.row: entry for entry in self._entries(f"WHERE row IN ({_marks(chunk)})", chunk)}
            result += [found[row] for row in chunk if row in found]
        return result

    def documents(self, rows: Sequence[int]) -> list[Documents]:
        """Give the documents of the runs in some rows, in that order; rows that are no more are left out.

        Raises
        ------
        ManifestDamaged
            They are not what was put in.
        """
        result: list[Documents] = []
        for chunk in _chunks(rows):
            query = (
                f"SELECT {_ENTRY}, start, stop, crc FROM runs JOIN documents USING (row) WHERE row IN ({_marks(chunk)})"  # noqa: S608
            )
            found = {values[0]: _checked(values) for values in self._connection.execute(query, chunk)}
            result += [found[row] for row in chunk if row in found]
        return result

    def after(self, version: int, limit: int) -> list[tuple[int, Documents]]:
        """Give the runs that changed after a version, the earliest change first, each with its version."""
        query = "SELECT row, version FROM runs WHERE version > ? ORDER BY version LIMIT ?"
        versions = dict(self._connection.execute(query, (version, limit)).fetchall())
        return [(versions[item.entry.row], item) for item in self.documents(list(versions))]

    def _entries(self, clause: str, values: Sequence[Any]) -> list[Entry]:
        found = self._connection.execute(f"SELECT {_ENTRY} FROM runs {clause}", values)  # noqa: S608
        return [_entry(item) for item in found]


_ENTRY = "row, path, state, uid, scan_id"


def _entry(values: Sequence[Any]) -> Entry:
    row, path, state, uid, scan_id = values
    return Entry(row, path, state, uid.decode(errors="surrogatepass"), scan_id)


def _checked(values: Sequence[Any]) -> Documents:
    start, stop, crc = values[5:]
    if zlib.crc32(start + stop) != crc:
        raise ManifestDamaged(f"the documents of {values[1]} are not those that were put in")
    return Documents(_entry(values[:5]), start, stop)


def _encode(uid: str) -> bytes:
    # SQLite's own text knows no lone surrogates and ends at a NUL.
    return uid.encode(errors="surrogatepass")


def _columns(start: Document) -> tuple[bytes, float | None, int | None]:
    """Give the uid, time and scan_id of a start document as the manifest keeps them."""
    uid, time, scan_id = start.get("uid", ""), start.get("time"), start.get("scan_id")
    try:
        time = float(time) if isinstance(time, int | float) and not math.isnan(time) else None
    except OverflowError:
        time = math.inf if isinstance(time, int) and time > 0 else -math.inf
    if isinstance(scan_id, float) and scan_id.is_integer():
        scan_id = int(scan_id)
    number = scan_id if isinstance(scan_id, int) and not isinstance(scan_id, bool) and _fits(scan_id) else None
    return _encode(str(uid)), time, number


def _fits(number: int) -> bool:
    return -(1 << 63) <= number < 1 << 63


def _chunks(rows: Sequence[int]) -> Iterator[list[int]]:
    for position in range(0, len(rows), _CHUNK):
        yield [int(row) for row in rows[position : position + _CHUNK]]


def _marks(rows: Sequence[int]) -> str:
    return ",".join("?" * len(rows))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
