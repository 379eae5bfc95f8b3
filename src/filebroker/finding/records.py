"""What is known of a run without opening it: a record for each change of its state."""

from typing import NamedTuple

from filebroker.ground import codec
from filebroker.ground.documents import Document
from filebroker.storing import layout
from filebroker.storing.journal import Line
from filebroker.storing.run_files import RunFiles

#: The state of a run whose directory was removed.
GONE = "gone"
#: Of two records of the same revision the one whose state comes later here counts.
_RANKS = {GONE: 0, "live": 1, "interrupted": 2, "sealed": 3}
_NAMES = ("run", GONE)


class Record(NamedTuple):
    """What a run was like at some moment.

    Attributes
    ----------
    path : str
        The run's directory in the catalog.
    revision : int
        Counts the changes of the run's state: 0 when it started, 1 when it stopped.  Records may be met
        in any order, and more than once; the highest revision counts.
    state : str
        ``live``, ``sealed``, ``interrupted`` or `GONE`.
    start : bytes
        The start document as JSON.
    stop : bytes or None
        The stop document as JSON, None while there is none.
    pages : tuple of str
        The run's Parquet files, relative to its directory.
    """

    path: str
    revision: int
    state: str
    start: bytes = b"{}"
    stop: bytes | None = None
    pages: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[int, int]:
        """Orders the records of one run: the greatest says how it is."""
        return self.revision, _RANKS[self.state]


def record_of(run: RunFiles, revision: int) -> Record:
    """Give the record of a run as its files are."""
    stop = run.stop
    return Record(
        *(run.directory, revision, run.state, codec.dumps(run.start)),
        None if stop is None else codec.dumps(stop),
        tuple(entry["path"] for entry in run.files),
    )


def to_document(record: Record) -> Document:
    """Give a record as the document that stands in a line of the ledger."""
    doc: Document = {"path": record.path, "state": record.state}
    if record.state != GONE:
        doc["start"] = codec.loads(record.start)
        doc["stop"] = None if record.stop is None else codec.loads(record.stop)
        doc["pages"] = list(record.pages)
    return doc


def check(record: Record) -> Document:
    """Give the start document of a record that makes sense.

    Raises
    ------
    ValueError
        It makes none: the ledger was written to by something else.
    """
    path, revision, state = record.path, record.revision, record.state
    if not isinstance(path, str) or not layout.is_run_path(path) or not path.isprintable():
        raise ValueError(f"{path!r:.200} is no directory of a run")
    if type(revision) is not int or not 0 <= revision < 1 << 31:
        raise ValueError(f"the record of {path} has the revision {revision!r:.200}")
    if state not in _RANKS:
        raise ValueError(f"the record of {path} has the state {state!r:.200}")
    if not all(isinstance(page, str) for page in record.pages):
        raise ValueError(f"the record of {path} has pages that are none")
    if state == GONE:
        return {}
    start = _document(record.start, path, ("uid", str), ("time", (int, float)))
    if record.stop is not None:
        _document(record.stop, path)
    return start


def _document(text: bytes, path: str, *required: tuple[str, type | tuple[type, ...]]) -> Document:
    doc = codec.loads(text)
    if not isinstance(doc, dict) or not all(isinstance(doc.get(key), kind) for key, kind in required):
        raise ValueError(f"the record of {path} has a document that is none: {text[:200]!r}")
    return doc


def from_line(line: Line) -> Record | None:
    """Give the record that stands in a line of the ledger, None if it is none that this version knows.

    Raises
    ------
    ValueError
        The line is named like a record, and is not one.
    """
    if line.name not in _NAMES:
        return None
    doc = line.doc
    try:
        if doc["state"] == GONE:
            record = Record(doc["path"], line.ordinal, GONE)
        else:
            stop = None if doc["stop"] is None else codec.dumps(doc["stop"])
            pages = tuple(doc["pages"])
            record = Record(doc["path"], line.ordinal, doc["state"], codec.dumps(doc["start"]), stop, pages)
        check(record)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a record lacks what it should have: {error!r}") from error
    return record
