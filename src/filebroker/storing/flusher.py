"""Forces journals to the disk in the background, so that recording never waits for it."""

import os
import threading
import time
from typing import Protocol

#: Seconds between two rounds; a power cut loses no more than this.
INTERVAL = 0.1


class Syncable(Protocol):
    """A file that knows whether it has anything to force to the disk."""

    unsynced: bool

    def sync(self) -> bool:
        """Make everything written so far survive a power cut, and tell whether it does."""


class Flusher:
    """A thread that syncs files every 100 ms while there are any."""

    _shared: "Flusher | None" = None
    _shared_lock = threading.Lock()

    def __init__(self) -> None:
        self._files: set[Syncable] = set()
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def shared(cls) -> "Flusher":
        """Give the one flusher of this process."""
        with cls._shared_lock:
            if cls._shared is None:
                cls._shared = cls()
            return cls._shared

    @classmethod
    def forget(cls) -> None:
        """Begin anew: a forked child has the files of its parent but not its thread."""
        cls._shared, cls._shared_lock = None, threading.Lock()

    def add(self, file: Syncable) -> None:
        """Sync a file from now on."""
        with self._mutex:
            self._files.add(file)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="filebroker-flusher", daemon=True)
                self._thread.start()
        self._wake.set()

    def discard(self, file: Syncable) -> None:
        """Leave a file alone from now on; on return no sync of it is under way."""
        with self._mutex:
            self._files.discard(file)
            if not self._files:
                self._wake.clear()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(INTERVAL)
            with self._mutex:
                for file in self._files:
                    if file.unsynced:
                        file.sync()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Flusher.forget)
