"""Reading from a store: few requests, copies of what never changes, and no answer where the network gives none."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from filebroker.ground.errors import StoreUnreachable
from filebroker.ground.filecache import FileCache
from filebroker.ground.forks import renew_in_children
from filebroker.ground.stores import Store

#: So much of what was fetched ahead waits in memory to be read.
_AHEAD_BYTES = 64 << 20
#: So long after the store did not answer it is not asked for what can be done without.
_OFFLINE_SECONDS = 30.0

T = TypeVar("T")


class Remote:
    """The files of a store, and copies of those that never change.

    Parameters
    ----------
    store
        The store.

    Attributes
    ----------
    store : Store
        The store.
    cache : FileCache or None
        Where copies are kept on this machine's disk.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cache: FileCache | None = None
        self._ahead: OrderedDict[str, bytes] = OrderedDict()
        self._ahead_bytes = 0
        # Until when the store is not asked again for what can be done without.
        self._offline_until = 0.0
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.Lock()

    @property
    def is_offline(self) -> bool:
        """Whether the store did not answer a moment ago."""
        return time.monotonic() < self._offline_until

    def _ask(self, question: Callable[[], T]) -> T:
        begun = time.monotonic()
        try:
            answer = question()
        except StoreUnreachable:
            self._go_offline(begun)
            raise
        self._offline_until = 0.0
        return answer

    def _go_offline(self, begun: float) -> None:
        """Leave the store alone for a while, longer where it took long to fail: most of the time goes to answers."""
        now = time.monotonic()
        self._offline_until = now + max(_OFFLINE_SECONDS, 2 * (now - begun))

    # -- as it is now

    def read(self, name: str, start: int = 0) -> bytes:
        """Read a file as it is now; see `Store.read`."""
        return self._ask(lambda: self.store.read(name, start))

    def read_many(self, parts: Sequence[tuple[str, int, int | None]]) -> list[bytes | Exception]:
        """Read parts of files at once; see `Store.read_many`."""
        begun = time.monotonic()
        answers = self._ask(lambda: self.store.read_many(parts))
        if any(isinstance(answer, StoreUnreachable) for answer in answers):
            self._go_offline(begun)
        return answers

    def names(self, name: str = "") -> list[str]:
        """List the names in a directory; see `Store.names`."""
        return self._ask(lambda: self.store.names(name))

    def sizes(self, name: str) -> dict[str, int]:
        """List the files in a directory with their sizes; see `Store.sizes`."""
        return self._ask(lambda: self.store.sizes(name))

    def tree(self, name: str) -> dict[str, int]:
        """List all files below a directory with their sizes; see `Store.tree`."""
        return self._ask(lambda: self.store.tree(name))

    def exists(self, name: str = "") -> bool:
        """Tell whether there is a file or directory of that name; see `Store.exists`."""
        return self._ask(lambda: self.store.exists(name))

    # -- changing it

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole file unless there is one; see `Store.create`."""
        return self._ask(lambda: self.store.create(name, data))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; see `Store.remove`."""
        self._ask(lambda: self.store.remove(names))

    # -- as it will ever be

    def read_fixed(self, name: str, version: str, is_good: Callable[[bytes], bool]) -> bytes:
        """Read a file that never changes; see `Folder.read_fixed`."""
        key = _key(name, version)
        data = self._take(key)
        if data is None and self.cache is not None:
            data = self.cache.get(key)
        if data is not None and is_good(data):
            return data
        data = self.read(name)
        if not is_good(data):
            data = self.read(name)  # a bit may have flipped on the way
        if self.cache is not None and is_good(data):
            self.cache.put(key, data)
        return data

    def fetch_ahead(self, files: Iterable[tuple[str, str, Callable[[bytes], bool]]]) -> None:
        """Fetch files that never change at once, to be read soon; what cannot be had is left for that.

        While the store does not answer it is not asked: what is read may be on this machine.

        Parameters
        ----------
        files
            Of each its name, its version, and what tells whether it came whole.
        """
        wanted = [item for item in files if self._is_missing(_key(item[0], item[1]))]
        if not wanted or self.is_offline:
            return
        parts = [(name, 0, None) for name, _, _ in wanted]
        for (name, version, is_good), data in zip(wanted, self.read_many(parts), strict=True):
            if isinstance(data, bytes) and is_good(data):
                key = _key(name, version)
                if self.cache is not None:
                    self.cache.put(key, data)
                self._put(key, data)

    def read_ranges(self, name: str, version: str, ranges: Sequence[tuple[int, int]], *, fresh: bool) -> list[bytes]:
        """Read ranges of bytes of a file that never changes, at once.

        Parameters
        ----------
        name, version
            The file, as for `read_fixed`.
        ranges
            Of each its first byte, and that after its last.
        fresh
            Pass over the copies on this machine.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        keys = [_key(name, f"{version} {low}-{high}") for low, high in ranges]
        cache = None if fresh else self.cache
        found = [None if cache is None else cache.get(key) for key in keys]
        missing = [index for index, data in enumerate(found) if data is None]
        answers = self.read_many([(name, *ranges[index]) for index in missing]) if missing else []
        for index, answer in zip(missing, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            found[index] = answer
            if self.cache is not None:
                self.cache.put(keys[index], answer)
        return [data for data in found if data is not None]

    # -- what was fetched ahead

    def _is_missing(self, key: str) -> bool:
        """Tell whether a file has to be fetched; what is kept on the disk is put beside what was."""
        with self._mutex:
            if key in self._ahead:
                return False
        kept = None if self.cache is None else self.cache.get(key)
        if kept is not None:
            self._put(key, kept)
        return kept is None

    def _put(self, key: str, data: bytes) -> None:
        with self._mutex:
            self._ahead_bytes += len(data) - len(self._ahead.pop(key, b""))
            self._ahead[key] = data
            while self._ahead_bytes > _AHEAD_BYTES:
                self._ahead_bytes -= len(self._ahead.popitem(last=False)[1])

    def peek(self, name: str, version: str) -> bytes | None:
        """Give a file that was fetched ahead, and keep it for who will read it."""
        with self._mutex:
            return self._ahead.get(_key(name, version))

    def _take(self, key: str) -> bytes | None:
        with self._mutex:
            data = self._ahead.pop(key, None)
            self._ahead_bytes -= len(data or b"")
            return data


def _key(name: str, version: str) -> str:
    return f"{name}\n{version}"
