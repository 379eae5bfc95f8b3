"""Runs that were opened, kept in memory for the next who asks for them."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from filebroker.cataloging.run import Known, Run
from filebroker.finding.entries import Documents, Entry
from filebroker.finding.library import Library
from filebroker.finding.manifest import Manifest
from filebroker.ground.cautions import warn
from filebroker.ground.errors import DamagedRun, DamagedRunWarning, NothingRecorded, StorageError, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.ground.forks import renew_in_children
from filebroker.storing.convoys import Convoy

#: So many runs, and so many bytes of their documents, are kept in memory once they were read.
_KEPT_RUNS, _KEPT_BYTES = 1024, 16 << 20
#: So often runs are put there before all are weighed again: one of a store may have been read since it was.
_WEIGHED = 64
#: So many runs of a store are read together at most.
_MOST_TOGETHER = 64


def version_of(item: Documents) -> str:
    """Give what distinguishes the documents of a sealed run from others that were in the same place before.

    A stop document has a random uid.

    Parameters
    ----------
    item
        The run.
    """
    return hashlib.sha256(item.raw_start + b"\n" + item.raw_stop).hexdigest()[:32]


class Shelf:
    """The runs of a catalog that were opened."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._revisions: dict[str, int] = {}
        self._unreadable: set[str] = set()
        self._puts = self._bytes = 0
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.RLock()

    def _take(self, folder: Folder, directory: str) -> Run | None:
        """Give the run in a directory, or warn that it cannot be read."""
        with self._mutex:
            if directory in self._runs:
                self._runs.move_to_end(directory)
                return self._runs[directory]
        try:
            run = Run(folder, directory)
        except NothingRecorded:  # a copy in the making
            return None
        except (DamagedRun, UnsupportedFormat, StorageError) as error:
            if folder.remote is not None and isinstance(error, StorageError):
                raise  # the store failed, and nothing is known of the run
            if directory not in self._unreadable:
                self._unreadable.add(directory)
                warn(f"{error}. The other runs are given", DamagedRunWarning)
            return None
        self._keep(run)
        return run

    def _keep(self, run: Run) -> None:
        """Keep a run, and let go of those not used for longest."""
        with self._mutex:
            self._runs[run.directory] = run
            self._runs.move_to_end(run.directory)
            self._puts += 1
            self._bytes += run.size
            if self._bytes > _KEPT_BYTES or self._puts % _WEIGHED == 0:
                self._bytes = sum(kept.size for kept in self._runs.values())
            while self._runs and (len(self._runs) > _KEPT_RUNS or self._bytes > _KEPT_BYTES):
                directory, gone = self._runs.popitem(last=False)
                self._revisions.pop(directory, None)
                self._bytes -= gone.size

    def forget(self, directory: str) -> None:
        """Let go of the run in a directory."""
        with self._mutex:
            self._runs.pop(directory, None)
            self._revisions.pop(directory, None)

    # -- runs of a store, of which much is known before they are read

    def open(self, folder: Folder, library: Library, entry: Entry) -> Run | None:
        """Give a run; of one in a store no file is read before more is asked than the library knows.

        Parameters
        ----------
        folder
            The catalog's folder.
        library
            What is known of the catalog's runs.
        entry
            The run.
        """
        if self._can_wait(folder, entry):
            self._expect(folder, library, [entry], None)
        self._follow(entry)
        return self._take(folder, entry.path)

    def _follow(self, entry: Entry) -> None:
        """Let go of a run that another process has completed or repaired since it was opened."""
        with self._mutex:
            if self._revisions.setdefault(entry.path, entry.revision) != entry.revision:
                kept = self._runs.get(entry.path)
                if kept is not None and kept.version is None and kept.state != "live":
                    self.forget(entry.path)
                self._revisions[entry.path] = entry.revision

    def together(self, folder: Folder, library: Library, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Give entries one after another; what is read of runs of a store is read of many at once.

        Parameters
        ----------
        folder, library
            As for `open`.
        entries
            The runs.
        """
        if folder.remote is None:
            yield from entries
            return
        left, size, convoy = iter(entries), 1, Convoy(folder.remote)
        while chunk := list(islice(left, size)):
            self._expect(folder, library, [entry for entry in chunk if self._can_wait(folder, entry)], convoy)
            for entry in chunk:
                convoy.give(entry.path)
                yield entry
            size = min(4 * size, _MOST_TOGETHER)

    def _can_wait(self, folder: Folder, entry: Entry) -> bool:
        is_elsewhere = folder.remote is not None and folder.on_disk(entry.path) is None
        return is_elsewhere and entry.state == "sealed"

    def _expect(self, folder: Folder, library: Library, entries: Sequence[Entry], convoy: Convoy | None) -> None:
        """Make runs of a store of what is known of them, unless they are here already."""
        for item in library.ask(Manifest.documents, [entry.row for entry in entries]):
            path, version = item.entry.path, version_of(item)
            with self._mutex:
                kept = self._runs.get(path)
            if kept is not None and kept.version == version:
                continue
            if convoy is not None:
                convoy.join(path, version)
            self._keep(Run(folder, path, Known(version, item.raw_start, item.raw_stop), convoy))
