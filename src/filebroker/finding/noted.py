"""The part of the manifest that keeps notes: annotations beside their runs, and a place of its own for the trash.

Runs in the trash are in none of the tables that searches and lookups ask, so nothing else has to know of them.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from filebroker.finding.database import Database, DatabaseDamaged
from filebroker.finding.notes import Note, NoteFile, annotations_of, in_order, mark_of
from filebroker.finding.records import GONE, Record
from filebroker.ground import codec
from filebroker.ground.documents import Document
from filebroker.ground.times import local

#: A row of `notes` with this number says that all of its file went in.
_WHOLE = -1
SCHEMA = """
CREATE TABLE notes (name TEXT, line INTEGER, path TEXT, kind TEXT, doc BLOB, crc INTEGER,
    PRIMARY KEY (name, line)) WITHOUT ROWID;
CREATE INDEX notes_by_path ON notes (path);
CREATE TABLE trash (path TEXT PRIMARY KEY, uid BLOB, mark BLOB, revision INTEGER, state TEXT, start BLOB, stop BLOB,
    pages TEXT, shared INTEGER, crc INTEGER);
CREATE INDEX trash_by_uid ON trash (uid);
"""


class Discarded(NamedTuple):
    """A run in the trash.

    Attributes
    ----------
    path : str
        The run's directory.
    mark : dict
        What `notes.mark_of` gives.
    record : Record or None
        What is known of the run, None if nothing is.
    """

    path: str
    mark: Document
    record: Record | None

    @property
    def uid(self) -> str:
        """The run's uid."""
        uid: str = self.mark["uid"]
        return uid

    @property
    def is_known(self) -> bool:
        """Whether the run was there when somebody last looked, and nobody began to remove it for good."""
        return self.mark["purge"] is None and self.record is not None and self.record.state != GONE

    @property
    def start(self) -> Document:
        """The run's start document, empty if it is not known."""
        document: Document = {} if self.record is None else codec.loads(self.record.start)
        return document

    @property
    def scan_id(self) -> object:
        """The run's scan_id, None if it has none."""
        return self.start.get("scan_id")

    @property
    def story(self) -> str:
        """What happened to the run, as a sentence begins."""
        mark = self.mark
        text = f"the run {self.uid!r:.200} was put into the trash by {mark['author']!r:.100} on {local(mark['time'])}"
        text += f" ({mark['reason']!r:.200})" if mark["reason"] else ""
        if mark["purge"] is not None:
            text += f" and removed for good by {mark['purge']['author']!r:.100} on {local(mark['purge']['time'])}"
        return text

    @property
    def remedy(self) -> str:
        """What can be done, as a sentence ends."""
        call = f"restore({self.uid!r:.200})"
        return f"{call} brings it back" if self.mark["purge"] is None else f"{call} allows to record or copy it again"


class Noted(Database):
    """A file that keeps runs and notes.

    Whoever changes notes takes care that others wait meanwhile; see `Database.writing`.
    """

    # What the manifest itself does with runs.

    def version(self) -> int:
        """Give a number that grows with each change of any run."""
        raise NotImplementedError

    def _record_at(self, path: str) -> tuple[int, bool, Record] | None:
        """Give the row of a run, whether others know it, and its record; None if it is not there."""
        raise NotImplementedError

    def _put_in(
        self, record: Record, start: Document, row: int | None, version: int, shared: bool, annotations: bytes
    ) -> None:
        raise NotImplementedError

    def _take_out(self, record: Record, row: int | None) -> None:
        """Note that a run is gone."""
        raise NotImplementedError

    def _drop(self, row: int) -> None:
        """Remove a run."""
        raise NotImplementedError

    # -- taking in

    def note_names(self) -> set[str]:
        """Give the files of notes that went in whole."""
        query = "SELECT name FROM notes WHERE line = ?"
        return {name for (name,) in self._connection.execute(query, (_WHOLE,))}

    def removals(self) -> int:
        """Count how often files of notes were taken out."""
        found = self._connection.execute("SELECT value FROM facts WHERE name = 'notes removed'").fetchone()
        return 0 if found is None else int(found[0])

    def add_notes(self, files: Iterable[NoteFile]) -> None:
        """Take in files of notes; those that are there already change nothing."""
        touched: dict[str, None] = {}
        for file in files:
            for line, note in file.notes:
                touched.update(dict.fromkeys(self._add_note(file.name, line, note)))
            if not file.damage:
                values = (file.name, _WHOLE, "", "", b"", 0)
                self._connection.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?, ?, ?, ?)", values)
        for path in touched:
            self._settle(path)

    def _add_note(self, name: str, line: int, note: Note) -> list[str]:
        """Put in a note, and give the path of its run if it was not there."""
        doc = codec.dumps(note.doc)
        values = (name, line, note.path, note.kind, doc, _crc_of(name, line, note.path, note.kind, doc))
        done = self._connection.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?, ?, ?, ?)", values)
        return [note.path] if done.rowcount else []

    def remove_notes(self, names: Iterable[str]) -> None:
        """Take out files of notes that are not there any more."""
        touched: dict[str, None] = {}
        for name in names:
            query = "SELECT path FROM notes WHERE name = ? AND line != ?"
            touched.update(dict.fromkeys(path for (path,) in self._connection.execute(query, (name, _WHOLE))))
            self._connection.execute("DELETE FROM notes WHERE name = ?", (name,))
        query = "INSERT OR REPLACE INTO facts VALUES ('notes removed', ?)"
        self._connection.execute(query, (self.removals() + 1,))
        for path in touched:
            self._settle(path)

    def forget_notes(self) -> None:
        """Forget every note."""
        for table in ("notes", "trash"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608

    def _settle(self, path: str) -> None:
        """Make of a run what its notes say."""
        notes, kept, found = self.notes_at(path), self._discarded_at(path), self._record_at(path)
        mark, version = mark_of(notes), self.version() + 1
        if mark is not None and found is not None:
            self._discard(path, mark, found[2], found[1])
            self._drop(found[0])
        elif mark is not None:
            self._discard(path, mark, *((None, False) if kept is None else kept[1:]))
        elif kept is not None:
            self._connection.execute("DELETE FROM trash WHERE path = ?", (path,))
            if kept[1] is not None:
                self._bring_back(kept[1], version, kept[2], notes)
        elif found is not None:  # its annotations changed
            row, shared, record = found
            self._put_in(record, codec.loads(record.start), row, version, shared, _raw(notes))
        self._connection.execute("UPDATE facts SET value = ? WHERE name = 'version'", (version,))

    def _bring_back(self, record: Record, version: int, shared: bool, notes: list[Note]) -> None:
        """Put back a run that was in the trash."""
        if record.state == GONE:
            self._take_out(record, None)
        else:
            self._put_in(record, codec.loads(record.start), None, version, shared, _raw(notes))

    # -- the trash

    @property
    def has_notes(self) -> bool:
        """Whether there is any note."""
        return self._connection.execute("SELECT 1 FROM notes LIMIT 1").fetchone() is not None

    def _discard(self, path: str, mark: Document, record: Record | None, shared: bool) -> None:
        """Put a run into the trash, or say anew what is known of one that is there."""
        uid, text = mark["uid"].encode(errors="surrogatepass"), codec.dumps(mark)
        known = [None] * 5
        if record is not None:
            pages = codec.dumps(list(record.pages)).decode()
            known = [record.revision, record.state, record.start, record.stop, pages]  # type: ignore[list-item]
        values = [path, uid, text, *known, int(shared)]
        query = "INSERT OR REPLACE INTO trash VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._connection.execute(query, (*values, _crc_of(*values)))

    def _discarded_at(self, path: str) -> tuple[Document, Record | None, bool] | None:
        """Give the mark of a run in the trash, its record, and whether others know that; None if it is not there."""
        found = self._connection.execute("SELECT * FROM trash WHERE path = ?", (path,)).fetchone()
        return None if found is None else _discarded(found)

    def _update_discarded(self, record: Record, *, shared: bool) -> bool:
        """Take in a record of a run in the trash; tell whether it is there."""
        kept = self._discarded_at(record.path)
        if kept is None:
            return False
        mark, before, was_shared = kept
        if before is None or record.rank > before.rank:
            self._discard(record.path, mark, record, shared)
        elif shared and not was_shared and record.rank == before.rank:
            self._discard(record.path, mark, before, True)
        return True

    def discarded(self) -> list[Discarded]:
        """Give the runs in the trash, those first that came there last."""
        found = [(row[0], _discarded(row)) for row in self._connection.execute("SELECT * FROM trash")]
        runs = [Discarded(path, mark, record) for path, (mark, record, _) in found]
        return sorted(runs, key=lambda item: (item.mark["time"], item.path), reverse=True)

    def discarded_like(self, prefix: str) -> list[Discarded]:
        """Give the runs in the trash whose uids begin so."""
        low = prefix.encode(errors="surrogatepass")
        found = self._connection.execute("SELECT * FROM trash WHERE uid >= ? AND uid < ?", (low, low + b"\xff"))
        return [Discarded(row[0], mark, record) for row in found.fetchall() for mark, record, _ in [_discarded(row)]]

    def _discarded_records(self) -> list[tuple[Record, bool]]:
        """Give what is known of the runs in the trash, and whether others know it."""
        found = map(_discarded, self._connection.execute("SELECT * FROM trash WHERE state IS NOT NULL"))
        return [(record, shared) for _, record, shared in found if record is not None and record.state != GONE]

    # -- reading

    def notes_at(self, path: str) -> list[Note]:
        """Give the notes of a run, in the order in which they were made.

        Raises
        ------
        DatabaseDamaged
            They are not those that were put in.
        """
        found = []
        query = "SELECT name, line, path, kind, doc, crc FROM notes WHERE path = ?"
        for name, line, run, kind, doc, crc in self._connection.execute(query, (path,)):
            if crc != _crc_of(name, line, run, kind, doc):
                raise DatabaseDamaged(f"a note of {path} is not what was put in")
            found.append((name, line, Note(kind, codec.loads(doc))))
        return in_order(found)

    def raw_annotations_at(self, path: str) -> bytes:
        """Give the annotations of a run as JSON, empty if there are none."""
        return _raw(self.notes_at(path))

    def annotations_at(self, path: str) -> list[Document]:
        """Give the annotations of a run; see `notes.annotations_of`."""
        return annotations_of(self.notes_at(path))


def _raw(notes: Iterable[Note]) -> bytes:
    annotations = annotations_of(notes)
    return codec.dumps(annotations) if annotations else b""


def _discarded(values: Sequence[Any]) -> tuple[Document, Record | None, bool]:
    path, _, mark, revision, state, start, stop, pages, shared, crc = values
    if crc != _crc_of(*values[:-1]):
        raise DatabaseDamaged(f"what is kept of {path!r} in the trash is not what was put in")
    record = None if state is None else Record(path, revision, state, start, stop, tuple(codec.loads(pages.encode())))
    return codec.loads(mark), record, bool(shared)


def _crc_of(*values: object) -> int:
    return zlib.crc32(repr(values).encode(errors="surrogatepass"))
