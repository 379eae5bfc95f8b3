"""Where what is derived from a catalog is kept: a directory of this user, on this machine."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import stat
import time
from typing import Any, NamedTuple

from filebroker.ground import codec, filesystem
from filebroker.ground.errors import StorageError
from filebroker.ground.filecache import DIRECTORY, FileCache, Usage, clear, limit_from_environment, usage
from filebroker.ground.filesystem import Folder

#: Names another directory than the platform's own for caches; empty for none at all.
VARIABLE = "FILEBROKER_CACHE"
_LABEL = "catalog.json"
_UNUSED_SECONDS = 180 * 24 * 3600
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Kept(NamedTuple):
    """The copies of files of one catalog in a store.

    Attributes
    ----------
    catalog : str
        Its URL, or the name of its cache directory if the file that says the URL cannot be read.
    usage : Usage
        How many copies there are, and where.
    """

    catalog: str
    usage: Usage


def root() -> str | None:
    """Give the directory of all caches, None if there shall be none.

    It is the platform's cache directory, or that which ``FILEBROKER_CACHE`` names.  Each machine and user has a
    part of it, because home directories may be shared over a network and SQLite files may not.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen == "":
        return None
    if chosen is None:
        import platformdirs

        chosen = platformdirs.user_cache_dir("filebroker", appauthor=False)
    user = f"-{os.geteuid()}" if hasattr(os, "geteuid") else ""
    return os.path.join(os.path.expanduser(chosen), (_UNSAFE.sub("-", socket.gethostname()) or "host") + user)


def directory_of(folder: Folder, catalog_id: str) -> str | None:
    """Give the cache directory of a catalog, and make it.

    Parameters
    ----------
    folder
        The catalog's folder.
    catalog_id
        Its ``id``: another catalog that is put in the same place has another.

    Returns
    -------
    str or None
        None if there is no place to write to; what is derived is then kept in memory.
    """
    base = root()
    if base is None:
        return None
    key = _digest(f"{folder.place}\n{catalog_id}")
    name = _UNSAFE.sub("-", folder.url.rstrip("/\\").replace("\\", "/").rpartition("/")[2])[:40]
    directory = os.path.join(base, f"{name}-{key}")
    path = os.path.join(directory, _LABEL)
    try:
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(base), exist_ok=True)
            for part in (base, directory):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700)
            if not (_is_private(base) and _is_private(directory)):
                return None
            label = {
                **{"catalog": _place_of(folder), "local": folder.local is not None},
                **{"id": catalog_id, "place": _digest(folder.place)},
            }
            filesystem.publish(path, codec.dumps(label), sync=False)
            _prune(base)
        elif time.time() - os.path.getmtime(path) > 3600:
            os.utime(path)
        if not (_is_private(base) and _is_private(directory) and os.access(directory, os.W_OK)):
            return None
    except (OSError, StorageError):
        return None
    return directory


def _place_of(folder: Folder) -> str:
    """Give the URL of a folder without credentials."""
    return folder.local or re.sub(r"[?#].*", "", folder.url)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def known_id(folder: Folder) -> str | None:
    """Give the ``id`` of the catalog that was last seen in a place, None if none was."""
    base, found = root(), []
    if base is not None:
        with contextlib.suppress(OSError), os.scandir(base) as entries:
            for entry in entries:
                label, used = _label_in(entry.path)
                if "id" in label and label.get("place") == _digest(folder.place):
                    found.append((used, str(label["id"])))
    return max(found, default=(0.0, None))[1]


def files_of(directory: str) -> FileCache:
    """Give the copies of files of a catalog in a store.

    Parameters
    ----------
    directory
        The catalog's cache directory.
    """
    return FileCache(os.path.join(directory, DIRECTORY), limit_from_environment())


def kept(folder: Folder | None = None) -> list[Kept]:
    """Tell what copies of files there are, by the catalogs that they are of.

    Parameters
    ----------
    folder
        Only those of a catalog in this place; None for all.

    Raises
    ------
    StorageError
        A directory cannot be listed.
    """
    base = root()
    if base is None:
        return []
    found = [Kept(_catalog_of(item), item) for item in usage(base)]
    wanted = None if folder is None else _place_of(folder)
    return sorted((item for item in found if wanted in (None, item.catalog)), key=lambda item: item.catalog)


def _catalog_of(item: Usage) -> str:
    label, _ = _label_in(os.path.dirname(item.directory))
    return str(label.get("catalog", item.label))


def _label_in(directory: str) -> tuple[dict[str, Any], float]:
    """Give what a cache directory says of its catalog, nothing if that cannot be read, and when it was used last."""
    try:
        with open(os.path.join(directory, _LABEL), "rb") as file:
            label, used = codec.loads(file.read()), os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return {}, 0.0
    return (label, used) if isinstance(label, dict) else ({}, 0.0)


def clear_files(directory: str) -> int:
    """Remove the copies of files of a catalog in a store, and tell how many bytes they had."""
    return clear(os.path.join(directory, DIRECTORY))


def _is_private(directory: str) -> bool:
    """Tell whether a directory is this user's own, and nobody else can write to it: an index is read as code is."""
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def remove(directory: str) -> None:
    """Remove the cache of a catalog."""
    shutil.rmtree(directory, ignore_errors=True)


def remove_others(directory: str, prefix: str, name: str) -> None:
    """Remove the directories of some prefix but one from a catalog's cache."""
    with contextlib.suppress(OSError):
        for other in os.listdir(directory):
            if other.startswith(prefix) and other != prefix + name:
                shutil.rmtree(os.path.join(directory, other), ignore_errors=True)


def _prune(base: str) -> None:
    """Remove the caches of catalogs that are gone, and those not used for half a year."""
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in entries:
            label, used = _label_in(entry.path)
            is_old = time.time() - used > _UNUSED_SECONDS
            is_gone = label.get("local") and not os.path.exists(str(label.get("catalog")))
            if label and (is_old or is_gone):
                shutil.rmtree(entry.path, ignore_errors=True)
