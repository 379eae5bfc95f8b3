"""The indexing of a catalog's runs: which index belongs to its manifest, and bringing it up to date."""

import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

from filebroker.finding import cache
from filebroker.finding.batches import Entry
from filebroker.finding.index import Index
from filebroker.finding.manifest import Manifest
from filebroker.finding.terms import entry
from filebroker.ground.progress import Progress

#: So many runs are looked at one by one rather than indexed.
MANY_PENDING = 256


class Shelf(Protocol):
    """What the indexing needs of a library."""

    directory: str | None
    manifest: Manifest

    def ask(self, question: Callable[..., Any], *values: Any) -> Any:
        """Ask the manifest."""


class Indexing:
    """The index of a library.

    Parameters
    ----------
    library
        The library.
    """

    def __init__(self, library: Shelf) -> None:
        self._library = library
        self._index: Index | None = None
        self._name = ""
        self._mutex = threading.RLock()

    @property
    def index(self) -> Index | None:
        """The index, None if there is no place for one."""
        library = self._library
        name = library.ask(Manifest.identity)
        if library.directory is None or os.path.dirname(library.manifest.path) != library.directory:
            return None
        with self._mutex:
            if self._index is None or self._name != name:
                self.close()
                # Rows of another manifest mean other runs, so it has another index.
                self._index, self._name = Index(os.path.join(library.directory, f"index-{name}")), name
                cache.remove_others(library.directory, "index-", name)
            return self._index

    def is_due(self, pending: int) -> bool:
        """Tell whether so many runs that are not in the index should be put there."""
        return pending >= MANY_PENDING and self._library.directory is not None

    def update(self, proceed: Callable[[], bool] = lambda: True, progress: Progress | None = None) -> int:
        """Put into the index what is not in it yet, unless another process does so.

        Parameters
        ----------
        proceed
            Whether to go on; asked often.
        progress
            Is told what is being done, how many runs are done, and of how many.

        Returns
        -------
        int
            How many runs were put in.
        """
        index, library = self.index, self._library
        if index is None:
            return 0
        total, done = library.ask(Manifest.__len__), 0

        def source(after: int, limit: int) -> list[Entry]:
            nonlocal done
            if progress is not None:
                progress("indexing runs", done, total)
            changed = library.ask(Manifest.after, after, limit)
            done += len(changed)
            return [entry(version, item.searched, item.reason) for version, item in changed]

        return index.update(source, proceed=proceed)

    def close(self, *, discard: bool = False) -> None:
        """Close the index, and remove it on request."""
        if discard and self.index is not None:
            self.index.discard()
        if self._index is not None:
            self._index.close()
            self._index = None

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.RLock()
