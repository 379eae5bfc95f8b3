"""Where the files are that a stream_resource names by URI."""

import os
import re
from collections.abc import Mapping
from typing import IO, Any, cast
from urllib.parse import unquote

from filebroker.assets.places import is_below, is_url, moved
from filebroker.assets.remotes import reached
from filebroker.ground.errors import MissingAsset, MissingPackage, UnreadableAsset
from filebroker.ground.kinship import akin

#: A file URI without a host, or with that of this machine, which is all one for reading.
_FILE = re.compile(r"file:(?://(?:localhost)?(?=/))?", re.IGNORECASE)
_DRIVE = re.compile(r"/?[A-Za-z]:[\\/]")


def path_of(uri: str) -> str:
    """Give the local path that a file URI means; a path is itself, and so is any other URL.

    Examples
    --------
    >>> path_of("file://localhost/data/a.h5"), path_of("file:///C:/data/a.h5"), path_of("s3://bucket/a.h5")
    ('/data/a.h5', 'C:/data/a.h5', 's3://bucket/a.h5')
    """
    found = _FILE.match(uri)
    if found is None:
        return uri
    path = uri[found.end() :]
    return path.removeprefix("/") if _DRIVE.match(path) else path


def located(uri: str, root_map: Mapping[str, str]) -> list[str]:
    """Give the places where a URI may be: the first that exists is meant.

    Writers do not agree on whether the path in a file URI is percent-encoded, so that both are given.

    Parameters
    ----------
    uri
        The URI of a file.
    root_map
        Recorded roots to where they are now; keys are paths or URIs, and the longest one counts.
    """
    path = path_of(uri)
    readings = [path] if is_url(path) else list(dict.fromkeys((path, unquote(path))))
    return [moved(name, root_map, windows=bool(_DRIVE.match(name)))[0] for name in readings]


def packed_places(uri: str, directory: str) -> list[str]:
    """Give the places where a file may be that was packed into a directory: the first that exists is meant.

    Parameters
    ----------
    uri
        Its path or URL there, made as its stream_resource says.
    directory
        The directory.

    Raises
    ------
    UnreadableAsset
        That leads out of the directory.
    """
    readings = [uri, uri[: len(directory)] + unquote(uri[len(directory) :])]
    for reading in readings:
        if not is_below(reading, directory):
            raise UnreadableAsset(f"{reading!r} is not below {directory!r}, where the files of its run were packed")
    return list(dict.fromkeys(readings))


def exists(path: str) -> bool:
    """Tell whether there is a file, here or remotely.

    Raises
    ------
    MissingPackage
        fsspec needs a package for such URLs that is not installed.
    UnreadableAsset
        The remote filesystem cannot be asked.
    """
    if not is_url(path):
        return os.path.exists(path)
    try:
        filesystem, name = reached(path)
        return bool(filesystem.exists(name))
    except ImportError as error:
        raise MissingPackage(f"{path} cannot be reached: {error}") from error
    except Exception as error:
        raise UnreadableAsset(f"cannot look for {path}: {type(error).__name__}: {error}") from error


def opened(path: str) -> IO[bytes]:
    """Open a file for reading, here or remotely."""
    if not is_url(path):
        return open(path, "rb")
    filesystem, name = reached(path)
    return cast(IO[bytes], filesystem.open(name, "rb"))


def missing(
    uri: str, tried: list[str], about: str, root_map: Mapping[str, str], packed: str | None = None
) -> MissingAsset:
    """Make the error for a file that is not there.

    Parameters
    ----------
    uri
        Its URI.
    tried
        The places where it was looked for.
    about
        What it is for, such as ``"'det' in stream_resource 1234"``.
    root_map
        Where roots have moved, so far.
    packed
        The directory that the file was packed into, if any.
    """
    error: Any = akin(MissingAsset, "event_model", "DataNotAccessible")
    if packed is not None:
        return cast(
            MissingAsset,
            error(
                f"the file of {about} is not there: {tried[0]}. It was packed into {packed!r} together with its run; "
                f"copy that directory there again, from where this pack came from"
            ),
        )
    path = path_of(uri)
    root = _directory(path)
    known = f" (root_map now has {dict(root_map)})" if root_map else ""
    return cast(
        MissingAsset,
        error(
            f"the file of {about} is not there: {', '.join(tried)} (uri {uri}){known}. If the files have moved, say "
            f"where to: db.reg.root_map[{root!r}] = '<where they are now>'"
        ),
    )


def _directory(path: str) -> str:
    head, _, _ = path.replace("\\", "/").rpartition("/")
    return path[: len(head)] or "/"
