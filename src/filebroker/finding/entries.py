"""What is known of runs without opening them: which they are, their documents, their order."""

from typing import Any, NamedTuple

import numpy as np

from filebroker.finding.notes import annotated
from filebroker.ground import codec
from filebroker.ground.documents import Document


class Entry(NamedTuple):
    """What the manifest knows of a run at once."""

    row: int
    path: str
    revision: int
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
    raw_annotations : bytes
        What was said of the run afterwards, as JSON; nothing if nothing was.
    """

    entry: Entry
    raw_start: bytes
    raw_stop: bytes
    raw_annotations: bytes = b""

    @property
    def start(self) -> Document:
        """The start document."""
        document: Document = codec.loads(self.raw_start)
        return document

    @property
    def searched(self) -> Document:
        """The start document as searches see it: with annotations."""
        return annotated(self.start, self.raw_annotations)

    @property
    def stop(self) -> Document | None:
        """The stop document, None while there is none."""
        return codec.loads(self.raw_stop) if self.raw_stop else None

    @property
    def reason(self) -> str:
        """The ``reason`` of the stop document, empty if it has none."""
        return reason_of(self.raw_stop)


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


def reason_of(raw_stop: bytes) -> str:
    """Give the ``reason`` of a stop document that is JSON, empty if there is none."""
    is_there = b'"reason"' in raw_stop and b'"reason":""' not in raw_stop
    reason = codec.loads(raw_stop).get("reason") if is_there else None
    return reason if isinstance(reason, str) else ""
