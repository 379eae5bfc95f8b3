"""Notes: what people say of runs afterwards, in small files beside the runs that never change.

Each deed is a file of its own, so nobody can overwrite what another one says, and two copies of a catalog that were
both annotated become one by copying them together.
"""

import contextlib
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from filebroker.ground import codec
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, InvalidOption, UnstorableValue
from filebroker.storing import layout
from filebroker.storing.journal import Line, decode_line, encode_line, read_lines

#: A file of notes is no larger.  A deed on many runs is written as several files.
MAX_BYTES = 1 << 20
#: Names of authors and tags are no longer, so that they can be listed.
MAX_NAME = 1000
#: What a line of a file of notes may be named; others are of later versions.
NOTE, TRASH, RESTORE, PURGE = "note", "trash", "restore", "purge"
_KINDS = (NOTE, TRASH, RESTORE, PURGE)
_FILE = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[A-Za-z0-9%_.~-]+-[0-9a-f]{8}\.jsonl")
#: The year 10000, which no calendar has.
_END_OF_TIME = 253402300800.0


class Note(NamedTuple):
    """One thing that somebody did to one run.

    Attributes
    ----------
    kind : str
        ``note``, ``trash``, ``restore`` or ``purge``.
    doc : dict
        ``run`` (the run's directory), ``uid``, ``author`` and ``time`` (seconds since 1970).  A ``note`` may have
        ``comment``, ``tags`` and ``removed_tags``; ``trash`` a ``reason``; ``purge`` has ``files`` and ``bytes``.
    """

    kind: str
    doc: Document

    @property
    def path(self) -> str:
        """The run's directory in the catalog."""
        path: str = self.doc["run"]
        return path

    @property
    def time(self) -> float:
        """When it was done, in seconds since 1970."""
        return float(self.doc["time"])


class NoteFile(NamedTuple):
    """What could be read of a file of notes.

    Attributes
    ----------
    name : str
        The file's name.
    notes : list of tuple of int and Note
        The good ones, with the numbers of their lines.
    damage : str
        What is wrong with the others; empty if nothing is.
    """

    name: str
    notes: list[tuple[int, Note]]
    damage: str


def is_note_file(name: str) -> bool:
    """Tell whether a file's name is that of a file of notes.

    Examples
    --------
    >>> is_note_file("20251122T150000.000000Z-chen-0a1b2c3d.jsonl"), is_note_file("README.md")
    (True, False)
    """
    return _FILE.fullmatch(name) is not None


def encode(notes: Sequence[Note]) -> list[tuple[str, bytes]]:
    """Write notes of one author as files.

    Parameters
    ----------
    notes
        Those of one deed: of one author and time.

    Returns
    -------
    list of tuple of str and bytes
        Names and contents; more than one where the notes are many.

    Raises
    ------
    UnstorableValue
        A note is too long.
    """
    parts: list[list[bytes]] = [[]]
    room = MAX_BYTES
    for note in notes:
        line = encode_line(len(parts[-1]), note.kind, note.doc)
        if len(line) > room:
            if len(line) > MAX_BYTES:
                raise UnstorableValue(f"a note of {len(line):,} bytes is too long; {MAX_BYTES:,} are allowed")
            line, room = encode_line(0, note.kind, note.doc), MAX_BYTES
            parts.append([])
        parts[-1].append(line)
        room -= len(line)
    return [(_file_name(notes[0].doc), b"".join(lines)) for lines in parts if lines]


def _file_name(doc: Mapping[str, Any]) -> str:
    stamp = datetime.fromtimestamp(doc["time"], UTC).strftime("%Y%m%dT%H%M%S.%fZ").rjust(23, "0")
    return f"{stamp}-{layout.encode_name(doc['author'])}-{uuid.uuid4().hex[:8]}.jsonl"


def decode(name: str, data: bytes) -> NoteFile:
    """Read a file of notes.

    Parameters
    ----------
    name
        Its name.
    data
        Its content.
    """
    lines = read_lines(data, name)
    notes, damage = [], list(lines.damage)
    for line in lines.lines:
        try:
            note = _checked(line)
        except ValueError as error:
            damage.append(f"{name}, line {line.ordinal!r:.50}: {error}")
        else:
            notes += [] if note is None else [(line.ordinal, note)]
    if lines.torn:
        damage.append(f"{name} ends in the middle of a line")
    elif not data:
        damage.append(f"{name} is empty")
    return NoteFile(name, notes, "; ".join(damage[:3]))


def good_lines(data: bytes) -> bytes:
    """Give the lines of a damaged file of notes that are good, as they are; of kinds that are not known as well.

    Parameters
    ----------
    data
        Its content.
    """
    kept = []
    for text in data.splitlines(keepends=True):
        if text.endswith(b"\n"):
            with contextlib.suppress(DamagedRun, ValueError):
                _checked(decode_line(text[:-1]))
                kept.append(text)
    return b"".join(kept)


def _checked(line: Line) -> Note | None:
    """Give the note that stands in a line, None if it is of a kind that this version does not know.

    Raises
    ------
    ValueError
        It is none.
    """
    doc = line.doc
    if type(line.ordinal) is not int or not 0 <= line.ordinal < 1 << 31 or not isinstance(line.name, str):
        raise ValueError("it has no number, or no name")
    if line.name not in _KINDS:
        return None
    if not hasattr(doc, "get"):
        raise ValueError(f"{doc!r:.100} is no note")
    run, uid, author, time = (doc.get(key) for key in ("run", "uid", "author", "time"))
    if not isinstance(run, str) or not layout.is_run_path(run) or not run.isprintable():
        raise ValueError(f"{run!r:.200} is no directory of a run")
    if not isinstance(uid, str) or not run.endswith(f"-{layout.encode_name(uid)}"):
        raise ValueError(f"{run} is no directory of the run {uid!r:.200}")
    if not isinstance(author, str) or not 0 < len(author) <= MAX_NAME:
        raise ValueError("it has no author")
    if not is_time(time):
        raise ValueError(f"its time is {time!r:.100}")
    _check_contents(doc)
    return Note(line.name, doc)


def _check_contents(doc: Mapping[str, Any]) -> None:
    for key in ("comment", "reason"):
        if doc.get(key) is not None and not isinstance(doc[key], str):
            raise ValueError(f"its {key} is no text")
    for key in ("tags", "removed_tags", "files"):
        values = doc.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"its {key} are no list of texts")


def is_time(value: object) -> bool:
    """Tell whether a value is a time that calendars have, in seconds since 1970."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < _END_OF_TIME  # type: ignore[operator]


def time_after(now: float, times: Iterable[float]) -> float:
    """Give the time of a new note: now, or just after all others of the run, where clocks disagree."""
    last = max(times, default=0.0)
    return now if now > last else min(math.nextafter(last, math.inf), math.nextafter(_END_OF_TIME, 0.0))


# -- what the notes of a run come to


def in_order(notes: Iterable[tuple[str, int, Note]]) -> list[Note]:
    """Put notes into the order in which they were made, each once.

    What was said to many runs at once is copied with each of them, and so may be there several times.

    Parameters
    ----------
    notes
        Each with the name of its file and the number of its line.
    """
    ordered = sorted(notes, key=lambda item: (item[2].time, item[0], item[1]))
    return list({(note.kind, codec.dumps(note.doc)): note for _, _, note in ordered}.values())


def annotations_of(notes: Iterable[Note]) -> list[Document]:
    """Give the annotations of a run as they stand: tags that were removed later are in none.

    Parameters
    ----------
    notes
        The run's notes, in their order.

    Returns
    -------
    list of dict
        Each with ``author``, ``time``, ``comment`` (None if there is none) and ``tags``, oldest first.
    """
    result: list[Document] = []
    for note in notes:
        if note.kind != NOTE:
            continue
        removed = set(note.doc.get("removed_tags", ()))
        if removed:
            for earlier in result:
                earlier["tags"] = [tag for tag in earlier["tags"] if tag not in removed]
        comment, tags = note.doc.get("comment") or None, list(dict.fromkeys(note.doc.get("tags", ())))
        result.append({"author": note.doc["author"], "time": note.time, "comment": comment, "tags": tags})
    return [item for item in result if item["comment"] is not None or item["tags"]]


def mark_of(notes: Iterable[Note]) -> Document | None:
    """Tell how a run came into the trash; None of one that is not there.

    Parameters
    ----------
    notes
        The run's notes, in their order.

    Returns
    -------
    dict or None
        ``uid``, ``author``, ``time`` and ``reason`` of the deed; ``purge`` is the first receipt since then, None
        if there is none.
    """
    mark: Document | None = None
    for note in notes:
        if note.kind == RESTORE:
            mark = None
        elif note.kind == TRASH:
            before = mark or {}
            mark = {key: note.doc[key] for key in ("uid", "author", "time")}
            mark |= {"reason": note.doc.get("reason") or None, "purge": before.get("purge")}
        elif note.kind == PURGE and mark is not None and mark["purge"] is None:
            mark["purge"] = note.doc
    return mark


def annotated(start: Document, raw_annotations: bytes) -> Document:
    """Give a start document as searches see it: with the run's annotations under the key ``annotations``.

    Parameters
    ----------
    start
        The start document.  One without annotations is given back itself.
    raw_annotations
        What `annotations_of` gave, as JSON; empty if there are none.
    """
    if not raw_annotations:
        return start
    added = codec.loads(raw_annotations)
    if "annotations" not in start:
        return {**start, "annotations": added}
    own = start["annotations"]
    return {**start, "annotations": [*(own if isinstance(own, list) else [own]), *added]}


def check_text(what: str, value: object, *, longest: int = MAX_BYTES) -> str:
    """Give a text that somebody wrote.

    Raises
    ------
    InvalidOption
        It is none, has nothing in it, or is too long.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidOption(f"{what} is {value!r:.100}; give a text")
    if len(value) > longest:
        raise InvalidOption(f"{what} has {len(value):,} characters; {longest:,} are allowed")
    return value
