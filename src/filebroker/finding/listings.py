"""Listings of a ledger in a store, which cost a request each."""

import os
import time

from filebroker.ground.filesystem import Folder
from filebroker.storing.layout import LEDGER

#: What was listed a moment ago is not listed again: uploads come every few seconds.
_FRESH_SECONDS = 1.0


class Listing:
    """The files below ``_index``: those in the store, and those that wait on this machine to go there.

    Parameters
    ----------
    folder
        The catalog's folder, which is in a store.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._known: dict[str, int] = {}
        self._waiting: frozenset[str] = frozenset()
        self._listed = -_FRESH_SECONDS

    def forget(self) -> None:
        """List anew the next time."""
        self._listed = -_FRESH_SECONDS

    def files(self, *, fresh: bool) -> dict[str, int]:
        """Give the files with their sizes in bytes.

        Parameters
        ----------
        fresh
            List the store, whenever that was done last.

        Raises
        ------
        StorageError
            The store cannot be listed.
        """
        waiting = self._sizes_of_waiting()  # first: what goes up meanwhile is then in both
        # What waited and does not any more is in the store by now.
        is_gone = not self._waiting.issubset(waiting)
        if fresh or is_gone or time.monotonic() - self._listed >= _FRESH_SECONDS:
            found = self._folder.store.tree(LEDGER)
            self._known = {f"{LEDGER}/{name}": size for name, size in sorted(found.items())}
            self._listed = time.monotonic()
        self._waiting = frozenset(waiting)
        return self._known | {name: max(size, self._known.get(name, 0)) for name, size in waiting.items()}

    def _sizes_of_waiting(self) -> dict[str, int]:
        staged = self._folder.staged
        if staged is None:
            return {}
        found = {}
        for kind in ("log", "snap"):
            sizes = Folder(os.path.join(staged.root, LEDGER)).sizes(kind)
            found.update({f"{LEDGER}/{kind}/{name}": size for name, size in sizes.items()})
        return found
