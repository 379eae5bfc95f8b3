"""A survey: what the run directories say that is not known yet.

The directories are the truth; this is how runs that were copied, finished or removed by hand are found.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from filebroker.finding.records import GONE, Record, record_of
from filebroker.ground.errors import DamagedRun, NothingRecorded, StorageError, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.storing.run_files import RunFiles

#: What is known of runs: revision and state of each by its path.
Known = Mapping[str, tuple[int, str]]
_UNKNOWN = (-1, GONE)
#: So many runs of a store are read at once.
_AT_ONCE = 64


class Survey(NamedTuple):
    """What was found.

    Attributes
    ----------
    added, changed, removed : list of Record
        Runs that were not known, runs in another state than was known, and runs whose directories are gone.
    unreadable : dict of str to str
        Runs that cannot be read by their paths, and why.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").catalog
    >>> found = catalog.refresh()
    >>> found
    <Survey: 0 added, 0 changed, 0 removed, 0 unreadable>
    >>> found.unreadable
    {}
    """

    added: list[Record]
    changed: list[Record]
    removed: list[Record]
    unreadable: dict[str, str]

    @property
    def records(self) -> list[Record]:
        """All that was found.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.refresh().records
        []
        """
        return self.added + self.changed + self.removed

    def __repr__(self) -> str:
        counts = f"{len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed"
        return f"<Survey: {counts}, {len(self.unreadable)} unreadable>"


def survey(folder: Folder, paths: Iterable[str], known: Known) -> Survey:
    """Compare the run directories with what is known.

    Only runs that are not known, or had no stop document, are opened.

    Parameters
    ----------
    folder
        The catalog's folder.
    paths
        Its run directories.
    known
        What is known.
    """
    found = Survey([], [], [], {})
    present = set(paths)
    # What is sealed with a stop document never changes.
    doubtful = [path for path in sorted(present) if known.get(path, _UNKNOWN)[1] in (GONE, "live", "interrupted")]
    for path, text in _texts(folder, doubtful):
        state = known.get(path, _UNKNOWN)[1]
        record = _read(folder, path, text, known, found.unreadable)
        if record is not None and state == GONE:
            found.added.append(record)
        elif record is not None and record.state != state:
            found.changed.append(record)
    for path, (revision, state) in known.items():
        if state != GONE and path not in present:
            found.removed.append(Record(path, revision + 1, GONE))
    return found


def read_all(folder: Folder, paths: Iterable[str], known: Known, unreadable: dict[str, str]) -> Iterator[Record]:
    """Read every run.

    Parameters
    ----------
    folder
        The catalog's folder.
    paths
        Its run directories.
    known
        What is known; the records given outdo it.
    unreadable
        Runs that cannot be read are added here, with the reason.
    """
    for path, text in _texts(folder, paths):
        record = _read(folder, path, text, known, unreadable)
        if record is not None:
            yield record


def _texts(folder: Folder, paths: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Give runs with what was read of them beforehand: of a store, the documents of many at once."""
    left = iter(paths)
    while chunk := list(islice(left, 1 if folder.remote is None else _AT_ONCE)):
        names = [path for path in chunk if folder.on_disk(path) is None]
        if folder.remote is None or not names:
            yield from ((path, None) for path in chunk)
            continue
        read = folder.remote.read_many([(f"{path}/{layout.DOCUMENTS}", 0, None) for path in names])
        for answer in read:
            if isinstance(answer, StorageError):  # the store failed, and nothing is known of the run
                raise answer
        texts = {path: text for path, text in zip(names, read, strict=True) if isinstance(text, bytes)}
        yield from ((path, texts.get(path)) for path in chunk)


def _read(folder: Folder, path: str, text: bytes | None, known: Known, unreadable: dict[str, str]) -> Record | None:
    revision, state = known.get(path, _UNKNOWN)
    try:
        run = RunFiles(folder, path, text=text)
    except (NothingRecorded, FileNotFoundError):  # about to be begun, or just removed
        return None
    except (DamagedRun, UnsupportedFormat, StorageError) as error:
        if isinstance(error, StorageError) and folder.on_disk(path) is None:
            raise
        unreadable[path] = str(error)
        return None
    if state == GONE or state != _state_of(run):
        revision += 1
    if run.state != "live":
        revision = max(revision, 1)
    return record_of(run, revision)._replace(state=_state_of(run))


def _state_of(run: RunFiles) -> str:
    """Give the state to be recorded of a run; a damaged one counts less than what another ledger may say of it."""
    return "interrupted" if run.state == "sealed" and run.damage != run.losses else run.state
