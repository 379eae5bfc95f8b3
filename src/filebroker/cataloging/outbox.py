"""The way from this machine to a store: what is recorded goes there in the background."""

import os
import threading
from collections.abc import Callable

from filebroker.ground.cautions import warn
from filebroker.ground.errors import UploadWarning
from filebroker.ground.forks import renew_in_children
from filebroker.ground.stores import Store
from filebroker.storing import rescue
from filebroker.storing.staging import Staging
from filebroker.storing.uploader import Uploader


class Outbox:
    """What is recorded for a store on this machine, and brought there.

    Parameters
    ----------
    store
        Where it goes.
    arrived
        Is called in a thread when something got there.

    Attributes
    ----------
    staging : Staging
        Where it is until then.
    """

    def __init__(self, store: Store, arrived: Callable[[], None]) -> None:
        self.staging = Staging(store.url, store.place)
        self._store, self._arrived = store, arrived
        self._uploader: Uploader | None = None
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child, which uploads nothing of its parent's."""
        self._mutex = threading.Lock()
        self._uploader = None

    @property
    def root(self) -> str:
        """The local path that runs are recorded to."""
        return self.staging.root

    @property
    def is_used(self) -> bool:
        """Whether anything was ever recorded for the store on this machine."""
        return os.path.isdir(self.staging.root)

    def send(self) -> None:
        """Bring to the store what is new; this waits for nothing."""
        with self._mutex:
            if self._uploader is None:
                self._uploader = Uploader(self.staging, self._store, after_round=self._arrived)
            self._uploader.wake()

    def tell(self) -> None:
        """Warn once of what is wrong with the way to the store."""
        uploader = self._uploader  # another thread may close it
        for message in [] if uploader is None else uploader.take_warnings():
            warn(message, UploadWarning)

    def flush(self, timeout: float | None) -> None:
        """Wait until everything is there; see `Catalog.flush`."""
        if self._uploader is None and self.is_used and not self.staging.is_empty:
            self.send()
        uploader = self._uploader
        if uploader is not None:
            uploader.flush(timeout)
            self.tell()

    def tell_of_others(self) -> None:
        """Warn of what was recorded for the store under other names of this machine."""
        for item in self.staging.elsewhere():
            warn(
                f"{item.pending} for {item.url} wait in {item.root}, recorded on {item.host!r}. If that was this "
                f"machine or is gone, 'filebroker upload --host {item.host} {item.url}' uploads them",
                UploadWarning,
            )

    def close(self) -> None:
        """Bring everything there, if the store can be reached, and stop."""
        with self._mutex:
            uploader, self._uploader = self._uploader, None
        if uploader is not None:
            problem = uploader.close()
            for message in [*uploader.take_warnings(), *([problem] if problem else [])]:
                warn(message, UploadWarning)

    def fetch_interrupted(self) -> None:
        """Bring here every run that was begun elsewhere and is not complete in the store, to be sealed."""
        rescue.fetch_live(self._store, self.staging)
