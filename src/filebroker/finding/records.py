"""What is known of a run without opening it: a record for each change of its state."""

from typing import NamedTuple

from filebroker.ground import codec
from filebroker.ground.documents import Document
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
        path, state = doc["path"], doc["state"]
        if state not in _RANKS or not isinstance(path, str):
            raise ValueError(f"the state {state!r} of {path!r} means nothing")
        if state == GONE:
            return Record(path, line.ordinal, state)
        stop = None if doc["stop"] is None else codec.dumps(doc["stop"])
        return Record(path, line.ordinal, state, codec.dumps(doc["start"]), stop, tuple(doc["pages"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a record lacks what it should have: {error!r}") from error
