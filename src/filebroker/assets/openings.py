"""Handlers that are open: one thread at a time calls each, and not too many stay open in a process."""

import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from filebroker.ground.errors import FilebrokerWarning
from filebroker.ground.forks import renew_in_children

_Given = TypeVar("_Given")

#: So many handlers stay open in a process; each may hold a file.
LIMIT = 32


class Opening:
    """A handler of one resource, which is opened when it is needed and closed when others were needed since.

    Libraries such as HDF5 are not made for several threads, so that only one calls a handler at a time.

    Parameters
    ----------
    handler
        What opens the resource.
    path
        The path that it is given.
    options
        The other arguments that it is given.
    """

    def __init__(self, handler: Any, path: str, options: Mapping[str, Any]) -> None:
        self.handler = handler
        self.path = path
        self._options = dict(options)
        self._instance: Any = None
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make a new lock after a fork, and leave to the parent what it has open."""
        self._lock = threading.RLock()
        self._instance = None

    def use(self, action: Callable[[Any], _Given]) -> _Given:
        """Do something with the open handler.

        If it fails, and the handler was opened for an earlier use, it is opened anew and tried once more: the file may
        have grown, or another one may be in its place.

        Raises
        ------
        Exception
            Whatever the handler raises; it is closed then.
        """
        with self._lock:
            attempts = 1 if self._instance is None else 2
            while True:
                attempts -= 1
                try:
                    given = self._try(action)
                    break
                except Exception:
                    if not attempts:
                        raise
        _recent.add(self)
        return given

    def _try(self, action: Callable[[Any], _Given]) -> _Given:
        try:
            if self._instance is None:
                self._instance = self.handler(self.path, **self._options)
            return action(self._instance)
        except Exception:
            self.close()
            raise

    def close(self, wait: bool = True) -> None:
        """Close the handler; the next use opens it again.

        Parameters
        ----------
        wait
            If another thread is using it, wait until it has done; else leave it open.

        Warns
        -----
        FilebrokerWarning
            The handler cannot be closed.
        """
        if not self._lock.acquire(blocking=wait):
            return
        try:
            instance, self._instance = self._instance, None
            close = getattr(instance, "close", None)
            if callable(close):
                close()
        except Exception as error:  # noqa: BLE001 - it is somebody else's code, and its file is no longer needed
            warnings.warn(f"{instance!r} cannot be closed: {error!r}", FilebrokerWarning, stacklevel=2)
        finally:
            self._lock.release()


class _Recent:
    """The openings that were used last; those before them are closed."""

    def __init__(self) -> None:
        self._used: OrderedDict[int, weakref.ref[Opening]] = OrderedDict()
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        self._lock = threading.Lock()

    def add(self, opening: Opening) -> None:
        old = []
        with self._lock:
            self._used[id(opening)] = weakref.ref(opening)
            self._used.move_to_end(id(opening))
            if len(self._used) > LIMIT:
                self._used = OrderedDict(item for item in self._used.items() if item[1]() is not None)
            while len(self._used) > LIMIT:
                old.append(self._used.popitem(last=False)[1]())
        for opened in old:
            if opened is not None:
                opened.close(wait=False)


_recent = _Recent()
