"""The manifest: a local SQLite file that knows a catalog's runs, for order, lookups and times.

It is derived from the ledger and can be deleted at any time.
"""

import contextlib
import math
import sqlite3
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from filebroker.finding import noted
from filebroker.finding.database import DatabaseDamaged
from filebroker.finding.entries import Documents, Entry, Order
from filebroker.finding.noted import Noted
from filebroker.finding.records import GONE, Record, check
from filebroker.ground import codec
from filebroker.ground.documents import Document

#: Rows and versions begin at a random number and are never used again, so that those of one manifest mean nothing
#: in another.
_RUNS = """
CREATE TABLE runs (row INTEGER PRIMARY KEY AUTOINCREMENT, version INTEGER, path TEXT UNIQUE, revision INTEGER,
    state TEXT, uid BLOB, time REAL, scan_id INTEGER, crc INTEGER,
    shared INTEGER);
CREATE INDEX runs_by_version ON runs (version);
CREATE INDEX runs_by_uid ON runs (uid);
CREATE INDEX runs_by_time ON runs (time);
CREATE INDEX runs_by_scan_id ON runs (scan_id, path);
CREATE TABLE documents (row INTEGER PRIMARY KEY, start BLOB, stop BLOB, pages TEXT, annotations BLOB, crc INTEGER);
CREATE TABLE removed (path TEXT PRIMARY KEY, revision INTEGER);
CREATE TABLE sources (name TEXT PRIMARY KEY, size INTEGER);
CREATE TABLE covers (source TEXT, name TEXT, PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE TABLE kept_order (version INTEGER, crc INTEGER, arrays BLOB);
CREATE TABLE facts (name TEXT PRIMARY KEY, value);
INSERT INTO facts VALUES ('identity', lower(hex(randomblob(6))));
INSERT INTO facts VALUES ('forgotten', 0);
INSERT INTO facts VALUES ('version', abs(random() >> 24));
INSERT INTO sqlite_sequence SELECT 'runs', value FROM facts WHERE name = 'version';
"""
_SCHEMA = noted.SCHEMA.strip() + _RUNS
_CHUNK = 500
T = TypeVar("T")
_DAY_SECONDS = 24 * 3600
#: After more changes than this the order is made anew; of fewer runs than that it is made quickly.
_MANY_CHANGES, _WORTH_KEEPING = 2_000, 10_000


class Manifest(Noted):
    """The runs of a catalog, in a local file.

    It may be used by any number of processes and threads at once.

    Parameters
    ----------
    path
        The file; None for one that is removed at the end.
    """

    def __init__(self, path: str | None) -> None:
        super().__init__(path, _SCHEMA)
        self._order: tuple[int, Order] | None = None
        self._counted: tuple[tuple[int, Any], int] | None = None

    # -- writing

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

    def complete(self) -> None:
        """Note that all files of the ledger went into it at least once."""
        if not self.is_whole:
            with self.writing():
                self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('whole', 1)")

    @property
    def is_whole(self) -> bool:
        """Whether it once knew all that the ledger did."""
        return bool(self._connection.execute("SELECT 1 FROM facts WHERE name = 'whole'").fetchone())

    def forget(self) -> None:
        """Forget every run and every source."""
        self._connection.execute("DELETE FROM facts WHERE name = 'whole'")
        self._connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'forgotten'")
        for table in ("runs", "documents", "removed", "sources", "covers", "kept_order"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608
        # Which runs are in the trash their notes say; what they are has to be learnt anew.
        for item in self.discarded():
            self._discard(item.path, item.mark, None, False)

    def reset(self) -> None:
        """Make it an empty one, as if it had just been made; who uses it meanwhile takes notice.

        A file that others have open must not be removed: their connections would go on without it.
        """
        with self.writing():
            self.forget_notes()
            self.forget()
            self._connection.execute("UPDATE facts SET value = lower(hex(randomblob(6))) WHERE name = 'identity'")
        with contextlib.suppress(sqlite3.OperationalError):  # others use it: it shrinks another time
            self._connection.execute("VACUUM")

    def is_check_due(self) -> bool:
        """Tell whether it is a day since all of it was looked at."""
        found = self._connection.execute("SELECT value FROM facts WHERE name = 'checked'").fetchone()
        return found is None or not 0 <= time.time() - found[0] < _DAY_SECONDS

    def apply(self, records: Iterable[Record], *, shared: bool) -> list[str]:
        """Take in records, in any order and as often as one likes.

        Parameters
        ----------
        records
            They are gone through once.
        shared
            Whether they are in the ledger, so that others know them too.

        Returns
        -------
        list of str
            What is wrong with those that make no sense, and were left out.
        """
        problems: list[str] = []
        first = version = self.version()
        has_notes = self.has_notes
        for record in records:
            try:
                start = check(record)
            except ValueError as error:
                problems.append(str(error))
                continue
            if has_notes and self._update_discarded(record, shared=shared):
                continue
            row, revision, state = self._known(record.path) or (None, -1, GONE)
            rank = Record(record.path, revision, state).rank
            if record.rank <= rank:
                if shared and record.rank == rank:
                    self._connection.execute("UPDATE runs SET shared = 1 WHERE row = ? AND NOT shared", (row,))
                continue
            version += 1
            if record.state == GONE:
                self._take_out(record, row)
            else:
                annotations = self.raw_annotations_at(record.path) if has_notes else b""
                self._put_in(record, start, row, version, shared, annotations)
        if version > first:
            self._connection.execute("UPDATE facts SET value = ? WHERE name = 'version'", (version,))
        return problems

    def _known(self, path: str) -> tuple[int | None, int, str] | None:
        """Give a run's row, revision and state; the row is None of one that was removed or is in the trash."""
        connection = self._connection
        found = connection.execute("SELECT row, revision, state FROM runs WHERE path = ?", (path,)).fetchone()
        if found is None:
            query = "SELECT NULL, revision, ? FROM removed WHERE path = ?"
            found = connection.execute(query, (GONE, path)).fetchone()
        if found is None:
            query = "SELECT NULL, revision, state FROM trash WHERE path = ? AND state IS NOT NULL"
            found = connection.execute(query, (path,)).fetchone()
        known: tuple[int | None, int, str] | None = found
        return known

    def _take_out(self, record: Record, row: int | None) -> None:
        if row is not None:
            self._drop(row)
        self._connection.execute("INSERT OR REPLACE INTO removed VALUES (?, ?)", (record.path, record.revision))

    def _drop(self, row: int) -> None:
        for table in ("runs", "documents"):
            self._connection.execute(f"DELETE FROM {table} WHERE row = ?", (row,))  # noqa: S608

    def _record_at(self, path: str) -> tuple[int, bool, Record] | None:
        query = f"SELECT row, shared, {_RECORD} FROM runs JOIN documents USING (row) WHERE path = ?"  # noqa: S608
        found = self._connection.execute(query, (path,)).fetchone()
        return None if found is None else (found[0], bool(found[1]), _record(found[2:]))

    def _put_in(
        self, record: Record, start: Document, row: int | None, version: int, shared: bool, annotations: bytes
    ) -> None:
        connection = self._connection
        connection.execute("DELETE FROM removed WHERE path = ?", (record.path,))
        columns = (version, record.path, record.revision, record.state, *_columns(start))
        # Of a row that is NULL SQLite makes the next one.
        query = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        row = connection.execute(query, (row, *columns, _crc_of(columns), shared)).lastrowid
        stop = record.stop or b""
        crc = _crc_of_documents(record.start, stop, annotations)
        connection.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)",
            (row, record.start, stop, _packed(record.pages), annotations, crc),
        )

    # -- reading

    def __len__(self) -> int:
        state = self.version(), self._fact("forgotten")
        if self._counted is None or self._counted[0] != state:
            self._counted = state, int(self._connection.execute("SELECT count(*) FROM runs").fetchone()[0])
        return self._counted[1]

    def count(self, low: float, high: float) -> int:
        """Count the runs whose start times are in a range, both ends included."""
        query = "SELECT count(*) FROM runs WHERE time >= ? AND time <= ?"
        return int(self._connection.execute(query, (low, high)).fetchone()[0])

    def _fact(self, name: str) -> Any:
        found = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise DatabaseDamaged(f"it does not say what its {name} is")
        return found[0]

    def check(self) -> None:
        """Look whether everything is as it was put in.

        Raises
        ------
        DatabaseDamaged
            Something is not.
        """
        super().check()
        # One question, because others may put in runs between two.
        query = "SELECT (SELECT count(*) FROM runs) = (SELECT count(*) FROM documents)"
        if not self._connection.execute(query).fetchone()[0]:
            raise DatabaseDamaged("there are runs without documents")
        self._entries("NOT INDEXED", ())
        with self.writing():
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('checked', ?)", (time.time(),))

    def identity(self) -> str:
        """Give what distinguishes this manifest from others, earlier ones of the same catalog included."""
        return str(self._fact("identity"))

    def epoch(self) -> tuple[str, int]:
        """Give what changes whenever rows lose their meaning."""
        return self.identity(), int(self._fact("forgotten"))

    def revision_of(self, path: str) -> dict[str, tuple[int, str]]:
        """Give the revision and the state of one run by its path; nothing if it is not known."""
        found = self._known(path)
        return {} if found is None else {path: found[1:]}

    def version(self) -> int:
        """Give a number that grows with each change of any run."""
        return int(self._fact("version"))

    def live(self) -> list[str]:
        """Give the paths of the runs that are being recorded, or were when somebody last looked."""
        query = "SELECT path FROM runs WHERE state = 'live' UNION ALL SELECT path FROM trash WHERE state = 'live'"
        return [path for (path,) in self._connection.execute(query)]

    def gone(self, limit: int) -> list[str]:
        """Give the paths of the newest runs that were removed."""
        query = "SELECT path FROM removed ORDER BY path DESC LIMIT ?"
        return [path for (path,) in self._connection.execute(query, (limit,))]

    def revisions(self) -> dict[str, tuple[int, str]]:
        """Give the revision and the state of each run by its path, those removed and those in the trash included."""
        query = (
            "SELECT path, revision, state FROM trash WHERE state IS NOT NULL "
            "UNION ALL SELECT path, revision, state FROM runs UNION ALL SELECT path, revision, ? FROM removed"
        )
        return {path: (revision, state) for path, revision, state in self._connection.execute(query, (GONE,))}

    def order(self) -> Order:
        """Give all runs, newest first."""
        version = self.version()
        if self._order is not None and self._order[0] == version:
            return self._order[1]
        # What another thread makes of it meanwhile is as good.
        order = self._changed_order(*(self._order or self._kept_order() or (0, None)))
        if order is None:
            query = "SELECT row, version, time FROM runs ORDER BY path DESC"
            order = _as_order(self._connection.execute(query).fetchall())
            self._keep_order(version, order)
        self._order = version, order
        return order

    def _changed_order(self, version: int, order: Order | None) -> Order | None:
        """Give the order after the changes since a version; None if that is not simply put in front or in place."""
        if order is None or not len(order.rows):
            return None
        # The plus keeps SQLite from going through all paths in their order.
        query = "SELECT row, version, time, path FROM runs WHERE version > ? ORDER BY +path DESC LIMIT ?"
        changed = self._connection.execute(query, (version, _MANY_CHANGES)).fetchall()
        places = {row: place for place, row in enumerate(order.rows[:_MANY_CHANGES].tolist())}
        (newest,) = self.at(order.rows[:1].tolist()) or (None,)
        fresh = [item[:3] for item in changed if item[0] not in places]
        if newest is None or len(changed) == _MANY_CHANGES or len(order.rows) + len(fresh) != len(self):
            return None
        if any(item[3] <= newest.path for item in changed if item[0] not in places):
            return None
        # Another thread may be using these.
        order = Order(order.rows, order.versions.copy(), order.times.copy())
        for row, row_version, begun, _ in changed:
            if row in places:
                order.versions[places[row]] = row_version
                order.times[places[row]] = math.nan if begun is None else begun
        front = _as_order(fresh)
        return Order(
            np.concatenate([front.rows, order.rows]),
            np.concatenate([front.versions, order.versions]),
            np.concatenate([front.times, order.times]),
        )

    def _kept_order(self) -> tuple[int, Order] | None:
        """Give the order as it was kept some time ago, because making it of 100,000 runs takes 100 ms."""
        found = self._connection.execute("SELECT version, crc, arrays FROM kept_order").fetchone()
        if found is None or zlib.crc32(found[2]) != found[1]:
            return None
        arrays = np.frombuffer(found[2], np.int64).reshape(3, -1).copy()
        return found[0], Order(arrays[0], arrays[1], arrays[2].view(np.float64))

    def _keep_order(self, version: int, order: Order) -> None:
        if len(order.rows) < _WORTH_KEEPING:
            return
        arrays = np.concatenate([order.rows, order.versions, order.times.view(np.int64)]).tobytes()
        with self.writing():
            self._connection.execute("DELETE FROM kept_order")
            self._connection.execute("INSERT INTO kept_order VALUES (?, ?, ?)", (version, zlib.crc32(arrays), arrays))

    def newest(self, count: int, before: str | None = None, skip: int = 0) -> list[Entry]:
        """Give the newest runs but for some, of all or of those older than the one at a path."""
        if before is None:
            return self._entries("ORDER BY path DESC LIMIT ? OFFSET ?", (count, skip))
        return self._entries("WHERE path < ? ORDER BY path DESC LIMIT ? OFFSET ?", (before, count, skip))

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

    def of_uids(self, uids: Iterable[str]) -> list[int]:
        """Give the rows of the runs of some uids."""
        rows: list[int] = []
        for chunk in _chunks([_encode(uid) for uid in uids]):
            query = f"SELECT row FROM runs WHERE uid IN ({_marks(chunk)})"  # noqa: S608
            rows += [row for (row,) in self._connection.execute(query, chunk)]
        return rows

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
        DatabaseDamaged
            They are not what was put in.
        """
        result: list[Documents] = []
        for chunk in _chunks(rows):
            query = f"{_BOTH} WHERE row IN ({_marks(chunk)})"
            found = {values[0]: _checked(values) for values in self._connection.execute(query, chunk)}
            result += [found[row] for row in chunk if row in found]
        return result

    def documents_at(self, paths: Sequence[str]) -> list[Documents]:
        """Give the documents of the runs at some paths, in that order; those that are no more are left out.

        Raises
        ------
        DatabaseDamaged
            They are not what was put in.
        """
        result: list[Documents] = []
        for chunk in _chunks(paths):
            query = f"{_BOTH} WHERE path IN ({_marks(chunk)})"
            found = {item.entry.path: item for item in map(_checked, self._connection.execute(query, chunk))}
            result += [found[path] for path in chunk if path in found]
        return result

    def pages_at(self, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Give the Parquet files of the runs at some paths, relative to their directories.

        Raises
        ------
        DatabaseDamaged
            They are not those that were put in.
        """
        result: dict[str, tuple[str, ...]] = {}
        for chunk in _chunks(paths):
            query = f"SELECT path, pages FROM runs JOIN documents USING (row) WHERE path IN ({_marks(chunk)})"  # noqa: S608
            result |= {path: _unpacked(pages) for path, pages in self._connection.execute(query, chunk)}
        return result

    def texts(self, rows: Sequence[int]) -> list[tuple[int, bytes, bytes, bytes]]:
        """Give some rows with the JSON of their start and stop documents and annotations, in that order.

        Raises
        ------
        DatabaseDamaged
            They are not what was put in.
        """
        result: list[tuple[int, bytes, bytes, bytes]] = []
        for chunk in _chunks(rows):
            query = f"SELECT row, start, stop, annotations, crc FROM documents WHERE row IN ({_marks(chunk)})"  # noqa: S608
            found = {row: texts for row, *texts in self._connection.execute(query, chunk)}
            for row in chunk:
                if row in found:
                    start, stop, annotations, crc = found[row]
                    _check_crc(start, stop, annotations, crc)
                    result.append((row, start, stop, annotations))
        return result

    def unshared(self) -> list[Record]:
        """Give the runs that were found in their directories alone, as they would stand in the ledger."""
        query = f"SELECT {_RECORD} FROM runs JOIN documents USING (row) WHERE NOT shared"  # noqa: S608
        found = [_record(values) for values in self._connection.execute(query).fetchall()]
        return found + [record for record, shared in self._discarded_records() if not shared]

    def after(self, version: int, limit: int) -> list[tuple[int, Documents]]:
        """Give the runs that changed after a version, the earliest change first, each with its version."""
        query = "SELECT row, version FROM runs WHERE version > ? ORDER BY version LIMIT ?"
        versions = dict(self._connection.execute(query, (version, limit)).fetchall())
        return [(versions[item.entry.row], item) for item in self.documents(list(versions))]

    def _entries(self, clause: str, values: Sequence[Any]) -> list[Entry]:
        found = self._connection.execute(f"SELECT {_ENTRY} FROM runs {clause}", values)  # noqa: S608
        return [_entry(item) for item in found]


_ENTRY = "row, version, path, revision, state, uid, time, scan_id, runs.crc"


_BOTH = f"SELECT {_ENTRY}, start, stop, annotations, documents.crc FROM runs JOIN documents USING (row)"  # noqa: S608
_RECORD = "path, revision, state, start, stop, pages, annotations, documents.crc"


def _record(values: Sequence[Any]) -> Record:
    path, revision, state, start, stop, pages, annotations, crc = values
    _check_crc(start, stop, annotations, crc)
    return Record(path, revision, state, start, stop or None, _unpacked(pages))


def _entry(values: Sequence[Any]) -> Entry:
    row, *columns, crc = values
    _, path, revision, state, uid, _, scan_id = columns
    if _crc_of(columns) != crc:
        raise DatabaseDamaged(f"what is kept of {path!r} is not what was put in")
    return Entry(row, path, revision, state, uid.decode(errors="surrogatepass"), scan_id)


def _crc_of(columns: Sequence[Any]) -> int:
    return zlib.crc32(repr(tuple(columns)).encode())


def _checked(values: Sequence[Any]) -> Documents:
    start, stop, annotations, crc = values[9:]
    _check_crc(start, stop, annotations, crc)
    return Documents(_entry(values[:9]), start, stop, annotations)


def _crc_of_documents(start: bytes, stop: bytes, annotations: bytes) -> int:
    return zlib.crc32(annotations, zlib.crc32(stop, zlib.crc32(start)))


def _check_crc(start: bytes, stop: bytes, annotations: bytes, crc: int) -> None:
    if _crc_of_documents(start, stop, annotations) != crc:
        raise DatabaseDamaged("the documents of a run are not those that were put in")


def _packed(pages: Sequence[str]) -> str:
    """Give the names of pages as the manifest keeps them: behind a checksum, because none would miss a lost one."""
    text = codec.dumps(pages).decode()
    return f"{zlib.crc32(text.encode()):08x}{text}"


def _unpacked(text: str) -> tuple[str, ...]:
    if text[:8] != f"{zlib.crc32(text[8:].encode()):08x}":
        raise DatabaseDamaged("the pages of a run are not those that were put in")
    return tuple(codec.loads(text[8:].encode()))


def _as_order(found: Sequence[Sequence[Any]]) -> Order:
    rows, versions, times = zip(*found, strict=True) if found else ((), (), ())
    return Order(np.array(rows, np.int64), np.array(versions, np.int64), np.array(times, np.float64))


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


def _chunks(values: Sequence[T]) -> Iterator[list[T]]:
    for position in range(0, len(values), _CHUNK):
        yield list(values[position : position + _CHUNK])


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
