"""Work that can wait: compacting the ledger and indexing runs, in a thread of low ambition."""

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

#: So long a thread is waited for when the interpreter exits.
_EXIT_SECONDS = 2.0
_PAUSE_SECONDS, _SHORT_PAUSE_SECONDS = 0.25, 0.002
#: So long those who are served are waited for, and so long not again after that.
_LONGEST_WAIT_SECONDS, _FREE_SECONDS = 0.5, 0.1

_all: "weakref.WeakSet[Housekeeper]" = weakref.WeakSet()


class House(Protocol):
    """What is kept."""

    def check(self) -> None:
        """Look whether what is kept is whole, and make it anew if it is not."""

    def compact(self) -> None:
        """Merge the files of the ledger if there are many."""

    def update_index(self, proceed: Callable[[], bool]) -> int:
        """Put into the index what is not in it yet."""


class Housekeeper:
    """Keeps one catalog's ledger and index in order, in the background.

    Parameters
    ----------
    house
        What to keep.
    is_busy
        Whether this process records; nothing is done meanwhile, because acquisition comes first.
    """

    def __init__(self, house: House, is_busy: Callable[[], bool]) -> None:
        self._house, self._is_busy = house, is_busy
        self._thread: threading.Thread | None = None
        self._mutex = threading.Lock()
        self._stopping = False
        self._served = 0
        self._free_until = 0.0
        #: What went wrong the last time, empty if nothing did.
        self.problem = ""
        _all.add(self)

    def start(self) -> None:
        """Begin to work unless it is being done."""
        with self._mutex:
            if not self._stopping and (self._thread is None or not self._thread.is_alive()):
                thread = threading.Thread(target=self._work, name="filebroker-housekeeping", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # too many threads, or the interpreter is about to exit
                    self.problem = f"nothing can be done in the background: {error}"
                else:
                    self._thread = thread

    def stop(self, timeout: float | None = None) -> None:
        """Give up what is being done, and wait for that."""
        self._stopping = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until what is being done is done, but no longer than so many seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _work(self) -> None:
        self.problem = ""
        works = (("list of runs", self._house.check), ("ledger", self._house.compact), ("index", self._update_index))
        for what, work in works:
            self._wait_until_idle()
            if self._stopping:
                return
            try:
                work()
            except Exception as error:  # noqa: BLE001 - `explain` shows it; searches do without
                self.problem = f"the {what} could not be brought up to date: {error!r}"

    def _update_index(self) -> None:
        """Index between runs; the index's lock is let go while one is recorded, so that others can go on."""
        is_interrupted = True
        while is_interrupted and not self._stopping:
            self._wait_until_idle()
            self._house.update_index(self._may_proceed)
            is_interrupted = self._is_busy()

    def _wait_until_idle(self) -> None:
        while self._is_busy() and not self._stopping:
            time.sleep(_PAUSE_SECONDS)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Have the work wait while somebody is served, because Python does one thing at a time."""
        with self._mutex:
            self._served += 1
        try:
            yield
        finally:
            with self._mutex:
                self._served -= 1

    def _may_proceed(self) -> bool:
        """Tell whether to go on; wait a while for those who are served, but not for ever."""
        if self._served and time.monotonic() > self._free_until:
            deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
            while self._served and not self._stopping and time.monotonic() < deadline:
                time.sleep(_SHORT_PAUSE_SECONDS)
            self._free_until = time.monotonic() + _FREE_SECONDS
        return not self._stopping and not self._is_busy()


@atexit.register
def _stop_all() -> None:
    for housekeeper in list(_all):
        housekeeper._stopping = True
    for housekeeper in list(_all):
        housekeeper.stop(_EXIT_SECONDS)
