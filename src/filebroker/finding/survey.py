"""A survey: what the run directories say that is not known yet.

The directories are the truth; this is how runs that were copied, finished or removed by hand are found.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from filebroker.finding.records import GONE, Record, record_of
from filebroker.ground.errors import DamagedRun, NothingRecorded, StorageError, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.storing.run_files import RunFiles

#: What is known of runs: revision and state of each by its path.
Known = Mapping[str, tuple[int, str]]
_UNKNOWN = (-1, GONE)


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
    for path in sorted(present):
        revision, state = known.get(path, _UNKNOWN)
        if state not in (GONE, "live", "interrupted"):  # what else is sealed never changes
            continue
        record = _read(folder, path, known, found.unreadable)
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
    for path in paths:
        record = _read(folder, path, known, unreadable)
        if record is not None:
            yield record


def _read(folder: Folder, path: str, known: Known, unreadable: dict[str, str]) -> Record | None:
    revision, state = known.get(path, _UNKNOWN)
    try:
        run = RunFiles(folder, path)
    except (NothingRecorded, FileNotFoundError):  # about to be begun, or just removed
        return None
    except (DamagedRun, UnsupportedFormat, StorageError) as error:
        unreadable[path] = str(error)
        return None
    if state == GONE or state != run.state:
        revision += 1
    if run.state != "live":
        revision = max(revision, 1)
    return record_of(run, revision)
