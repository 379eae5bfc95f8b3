"""Local copies of files on an object store, for handlers that open paths themselves.

A copy lives as long as the process.  Its path below the mirror's directory repeats the URL, so that a handler may be
given the path of a file, a directory or a template before the files that it will read are known.
"""

import os
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Iterable
from typing import Any

from filebroker.ground.forks import renew_in_children


class Mirror:
    """Local copies of remote files; the directory that holds them is removed with the mirror."""

    def __init__(self) -> None:
        self._directory: str | None = None
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make a new lock, after a fork."""
        self._lock = threading.Lock()

    def path(self, url: str) -> str:
        """Give the path that stands for a URL, and fetch it if it is a file and was not yet fetched.

        Raises
        ------
        OSError, ImportError, ValueError
            fsspec cannot reach it.
        """
        protocol, _, rest = url.partition("://")
        path = os.path.join(self._home(), protocol, *(name for name in rest.split("/") if name not in ("", "..")))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path) and _filesystem(url).isfile(url):
            _fetch(url, path)
        return path

    def fetch(self, paths: Iterable[str]) -> None:
        """Fetch the files that paths below the mirror stand for, unless they are there.

        Raises
        ------
        FileNotFoundError
            There is no such file; the error's ``filename`` is its URL.
        OSError
            It cannot be fetched.
        """
        for path in paths:
            if not os.path.exists(path) and path.startswith(self._home()):
                _fetch(self.url(path), path)

    def url(self, path: str) -> str:
        """Give the URL that a path below the mirror stands for; other paths are given as they are."""
        if self._directory is None or not path.startswith(self._directory):
            return path
        protocol, *names = os.path.relpath(path, self._directory).split(os.sep)
        return f"{protocol}://{'/'.join(names)}"

    def _home(self) -> str:
        with self._lock:
            if self._directory is None:
                self._directory = tempfile.mkdtemp(prefix="filebroker-")
                weakref.finalize(self, _remove, self._directory, os.getpid())
            return self._directory


def _fetch(url: str, path: str) -> None:
    aside = f"{path}.{uuid.uuid4().hex}.part"  # of its own, as another thread may fetch the same file
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        _filesystem(url).get_file(url, aside)
        os.replace(aside, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "there is no such file", url) from error
    finally:
        if os.path.exists(aside):
            os.remove(aside)


def _filesystem(url: str) -> Any:
    import fsspec

    return fsspec.core.url_to_fs(url, use_listings_cache=False)[0]


def _remove(directory: str, process: int) -> None:
    if os.getpid() == process:  # a child that was forked leaves the files to its parent
        shutil.rmtree(directory, ignore_errors=True)
