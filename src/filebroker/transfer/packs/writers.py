"""Several runs are written at a time, because a disk forces many files to itself as fast as one."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from filebroker.transfer.packs.depots import Source

#: So many runs are written at a time, and so many are under way before the oldest half of them is waited for.
_THREADS, _UNDER_WAY = 4, 16
#: What the names of the threads begin with.
NAME = "filebroker-copy"


class Keyed(Protocol):
    """What came of writing a run."""

    @property
    def uid(self) -> str:
        """The run's uid."""


Outcome = TypeVar("Outcome", bound=Keyed)


class Writers(Generic[Outcome]):
    """Threads that write runs.

    What came of them is told in the order in which they were given, by the thread that gave them.

    Parameters
    ----------
    tell
        Is called with what came of some runs.
    """

    def __init__(self, tell: Callable[[list[Outcome]], None]) -> None:
        self._tell = tell
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=NAME)
        self._under_way: deque[tuple[str, Future[Outcome]]] = deque()
        self._stopped = threading.Event()

    def __enter__(self) -> "Writers[Outcome]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            try:
                self.finish()
            finally:
                self._stop()
        else:
            self._stop()

    def give(self, uid: str, write: Callable[[], Outcome]) -> None:
        """Have a run be written.

        Parameters
        ----------
        uid
            Its uid.
        write
            Writes it, in a thread.

        Raises
        ------
        StorageError
            An earlier one could not be written.
        """
        if len(self._under_way) >= _UNDER_WAY:
            self._settle(_UNDER_WAY // 2)
        self._under_way.append((uid, self._pool.submit(write)))

    def has(self, uid: str) -> bool:
        """Tell whether a run of that uid is being written."""
        return any(uid == other for other, _ in self._under_way)

    def finish(self) -> None:
        """Wait until all runs are written, and told of."""
        self._settle(len(self._under_way))

    def stoppable(self, source: Source) -> Source:
        """Give a source that has nothing more to give once all is over, because of an error or an interrupt."""
        return _Stoppable(source, self._stopped)

    def _settle(self, count: int) -> None:
        done: list[Outcome] = []
        try:
            for _ in range(count):
                done.append(self._under_way[0][1].result())
                self._under_way.popleft()
        finally:
            if done:
                self._tell(done)

    def _stop(self) -> None:
        """Begin nothing more, and tell of what is complete."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)
        futures = [future for _, future in self._under_way if not future.cancelled()]
        self._under_way.clear()
        done = [future.result() for future in futures if future.exception() is None]
        if done:
            self._tell(done)


class _Stopped(Exception):
    """Another run could not be written, or somebody interrupts."""


class _Stoppable:
    """The files of a source, until all is over."""

    def __init__(self, source: Source, stopped: threading.Event) -> None:
        self._source, self._stopped = source, stopped

    @property
    def label(self) -> str:
        return self._source.label

    def sizes(self, directory: str) -> dict[str, int]:
        return self._source.sizes(directory)

    def read(self, name: str) -> bytes:
        return self._source.read(name)

    def pieces(self, name: str) -> Iterator[bytes]:
        for piece in self._source.pieces(name):
            if self._stopped.is_set():
                raise _Stopped
            yield piece
