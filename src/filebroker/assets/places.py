"""Where the files of a resource are: its root and path put together, and moved by the root map."""

import ntpath
import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from filebroker.ground.errors import InvalidConfig
from filebroker.ground.filesystem import path_of

_WINDOWS = frozenset({"windows", "nt"})
#: The scheme of a URL, or several as in ``simplecache::s3://``; one letter is a drive of Windows.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.:_-]+://")


@dataclass(frozen=True)
class Place:
    """Where something is.

    Attributes
    ----------
    path : str
        What is to be opened: a local path, or a URL that fsspec knows.  It may be a template, or the beginning of the
        names of several files.
    recorded : str
        The same as it was recorded, before roots were mapped.
    root : str
        The root as it was recorded.
    mapped : str, optional
        The key of the root map that moved the path.
    packed : str, optional
        The directory that the files were packed into, together with their run.
    """

    path: str
    recorded: str
    root: str
    mapped: str | None = None
    packed: str | None = None

    @property
    def remote(self) -> bool:
        """Whether the path is a URL."""
        return is_url(self.path)

    @property
    def remedy(self) -> str:
        """What to type if the files are elsewhere.

        Examples
        --------
        >>> print(locate({"root": "/nsls2/data", "resource_path": "a.h5"}, {}).remedy)
        db.reg.root_map['/nsls2/data'] = '<where it is now>'
        """
        if self.packed is not None:
            return f"copy {self.packed} there again, from where this pack came from"
        named = self.root if self.root.strip("/") else os.path.dirname(self.recorded)
        key = named if self.mapped is None else self.mapped
        return f"db.reg.root_map[{key!r}] = '<where it is now>'"

    @property
    def history(self) -> str:
        """What became of the root, in words."""
        if self.packed is not None:
            return f"it was packed into {self.packed!r} together with its run"
        told = f"the root map moved it from {self.recorded!r}"
        if self.mapped is None:
            told = f"its root {self.root!r} is not in the root map"
        if not self.remote and not os.path.isabs(self.path):
            told += f"; the path is relative, and was looked for below {os.getcwd()}"
        return told


@dataclass(frozen=True)
class PackedPlace:
    """Where the files of a resource are that were packed together with its run.

    Attributes
    ----------
    path : str
        What is to be opened in the place of what was recorded: a local path or a URL.
    directory : str
        The directory below which alone its files are looked for.
    """

    path: str
    directory: str


class Packed(Protocol):
    """The files that were packed together with a run."""

    def place(self, uid: str) -> PackedPlace | None:
        """Give where the files of a resource were packed; None if they were not."""


class NothingPacked:
    """A run without packed files."""

    def place(self, uid: str) -> PackedPlace | None:
        """Give None, for any resource."""


def is_below(path: str, directory: str) -> bool:
    """Tell whether a path or URL is below a directory, wherever links lead.

    Examples
    --------
    >>> is_below("s3://bucket/pack/0/a.h5", "s3://bucket/pack/0"), is_below("s3://bucket/pack/../x", "s3://bucket/pack")
    (True, False)
    """
    if is_url(path):
        return path.startswith(f"{directory.rstrip('/')}/") and ".." not in path.split("/")
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(directory), ""))


def locate(resource: Mapping[str, Any], root_map: Mapping[str, str]) -> Place:
    r"""Find out where the files of a resource are.

    The longest key of the root map counts that the root, or the root and path together, begin with, in whole names of
    directories.  A path of Windows becomes one of this machine where the root map moves it, or where it has no drive.

    Parameters
    ----------
    resource
        The resource document.
    root_map
        Recorded root to its place now, a directory or a URL.

    Examples
    --------
    >>> locate({"root": "/nsls2/data", "resource_path": "2024/a.h5"}, {"/nsls2": "/mnt/nsls2"}).path
    '/mnt/nsls2/data/2024/a.h5'
    >>> moved = {"Z:\\data": "/mnt/z"}
    >>> locate({"root": "Z:\\data", "resource_path": "2024\\a.h5", "path_semantics": "windows"}, moved).path
    '/mnt/z/2024/a.h5'
    """
    root = os.fspath(resource.get("root") or "")
    windows = _of_windows(resource)
    recorded = _joined(local_path(root), os.fspath(resource["resource_path"]), windows)
    path, key = moved(recorded, root_map, windows=windows)
    return Place(path, recorded, root, key)


def inner_path(resource: Mapping[str, Any]) -> str:
    """Give the path of a resource below its root, with slashes and with none at its beginning.

    Examples
    --------
    >>> inner_path({"root": "/data", "resource_path": "2024/a.h5"})
    '2024/a.h5'
    >>> inner_path({"root": "", "resource_path": "/data/a.h5"})
    'data/a.h5'
    """
    windows = _of_windows(resource)
    names = _parts(locate(resource, {}).recorded, windows)
    begin = _parts(local_path(os.fspath(resource.get("root") or "")), windows)
    inner = names[len(begin) :] if _begins(names, begin, windows) else names
    return "/".join(name for name in inner if name != "/" and not name.endswith((":", "://")))


def moved(path: str, root_map: Mapping[str, str], *, windows: bool = False) -> tuple[str, str | None]:
    """Put what the root map says in the place of the beginning of a path or URL.

    Parameters
    ----------
    path
        A path or URL; a ``file:`` URL becomes a path.
    root_map
        Beginnings, with or without a separator at their end, to what takes their place.
    windows
        Backslashes separate names, and capitals do not count.

    Returns
    -------
    tuple of (str, str or None)
        The path as it is now, and the key that applied, if any.

    Examples
    --------
    >>> moved("/data/2024/a.h5", {"/data": "/mnt", "/data/2024/": "s3://archive"})
    ('s3://archive/a.h5', '/data/2024/')
    >>> moved("/database/a.h5", {"/data": "/mnt"})
    ('/database/a.h5', None)
    """
    path = local_path(path)
    names = _parts(path, windows)
    best, longest = None, -1
    for key in root_map:
        begin = _parts(local_path(os.fspath(key)), windows)
        if len(begin) > longest and _begins(names, begin, windows) and (begin or not _absolute(path, windows)):
            best, longest = key, len(begin)
    if best is None:
        return path, None
    return _below(local_path(os.fspath(root_map[best])), names[longest:], path), best


def resolved(root_map: Mapping[str, str], directory: str | None) -> dict[str, str]:
    """Make the values of a root map absolute.

    Parameters
    ----------
    root_map
        The root map of a configuration.
    directory
        The directory that relative values are relative to: that of the configuration's file.

    Raises
    ------
    InvalidConfig
        A value is relative, and there is no directory.

    Examples
    --------
    >>> resolved({"/data": "images", "/more": "s3://bucket/more"}, "/home/me")
    {'/data': '/home/me/images', '/more': 's3://bucket/more'}
    """
    absolute = {}
    for key, value in root_map.items():
        path = os.path.expanduser(value)
        if not is_url(path) and not os.path.isabs(path):
            if directory is None:
                raise InvalidConfig(
                    f"the root map has the relative path {value!r} for {key!r}, and was not read from a file that it "
                    f"could be relative to; write an absolute path"
                )
            path = os.path.normpath(os.path.join(directory, path))
        absolute[key] = path
    return absolute


def local_path(path: str) -> str:
    """Give the path that a ``file:`` URL names; other paths and URLs are given as they are.

    Examples
    --------
    >>> local_path("file://localhost/data/a%20b.h5")
    '/data/a b.h5'
    >>> local_path("s3://bucket/a.h5")
    's3://bucket/a.h5'
    """
    scheme, separator, rest = path.partition("://")
    if not separator or scheme.lower() not in ("file", "local"):
        return path
    return path_of(rest.removeprefix("localhost"))


def is_url(path: str) -> bool:
    """Tell whether something is a URL, and not a path.

    Examples
    --------
    >>> is_url("s3://bucket/a.h5"), is_url("simplecache::s3://bucket/a.h5"), is_url("/data/x://a.h5"), is_url("C://a.h5")
    (True, True, False, False)
    """
    return _SCHEME.match(path) is not None


def _of_windows(resource: Mapping[str, Any]) -> bool:
    return os.name == "nt" or resource.get("path_semantics") in _WINDOWS


def _joined(root: str, path: str, windows: bool) -> str:
    if is_url(root):
        return _below(root, _parts(path, windows), path)
    if windows:
        return ntpath.join(root, path) if ntpath.splitdrive(root)[0] else posixpath.join(root, path.replace("\\", "/"))
    return os.path.join(root, path)


def _below(root: str, names: list[str], path: str) -> str:
    """Put names below a directory or URL; a separator that was at the end of the path stays there."""
    if not names:
        return root
    tail = "/" if path.endswith(("/", "\\")) else ""
    if is_url(root):
        return (root if root.endswith("/") else f"{root}/") + "/".join(names) + tail
    return os.path.join(root, *names) + tail


def _parts(path: str, windows: bool = False) -> list[str]:
    """Split a path into names, the first of which tells whether it is absolute."""
    text = path.replace("\\", "/") if windows else path
    if is_url(text):
        scheme, _, rest = text.partition("://")
        return [f"{scheme}://", *filter(None, rest.split("/"))]
    names = [name for name in text.split("/") if name]
    return ["/", *names] if text.startswith("/") else names


def _begins(names: list[str], begin: list[str], windows: bool) -> bool:
    if windows:
        return [name.lower() for name in names[: len(begin)]] == [name.lower() for name in begin]
    return names[: len(begin)] == begin


def _absolute(path: str, windows: bool) -> bool:
    if is_url(path):
        return True
    return path.startswith(("/", "\\")) or bool(ntpath.splitdrive(path)[0]) if windows else os.path.isabs(path)
