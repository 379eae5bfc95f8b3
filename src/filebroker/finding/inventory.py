"""Which runs a catalog has, read off the names of their directories."""

import time
from collections.abc import Iterator

from filebroker.ground.filesystem import Folder
from filebroker.storing import layout

#: A directory changed more recently than this may change again without its time stamp changing.
_SETTLED_NS = 2_000_000_000


class Inventory:
    """The runs below a catalog's root, newest first.

    Nothing is listed before it is needed.  On a local disk a directory that did not change is not
    listed again.

    Parameters
    ----------
    folder
        The catalog's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._listings: dict[str, tuple[tuple[int, int], list[str]]] = {}

    def __iter__(self) -> Iterator[str]:
        """Give the directory of each run, the newest start first."""
        for year in self._dated("", 4):
            for month in self._dated(year, 2):
                for day in self._dated(f"{year}/{month}", 2):
                    path = f"{year}/{month}/{day}"
                    for name in self._names(path):
                        if layout.is_run_directory(name):
                            yield f"{path}/{name}"

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _dated(self, path: str, digits: int) -> list[str]:
        return [name for name in self._names(path) if len(name) == digits and name.isdecimal()]

    def _names(self, path: str) -> list[str]:
        """List a directory, the latest name first."""
        changed = self._folder.changed(path)
        known = self._listings.get(path)
        if known is not None and known[0] == changed:
            return known[1]
        names = self._folder.names(path)[::-1]
        if min(changed) >= 0 and time.time_ns() - max(changed) > _SETTLED_NS:
            self._listings[path] = changed, names
        return names
