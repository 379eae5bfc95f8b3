"""The external files of a run: which ones there are, what is missing and why.

Interface::

    found = assets_of(run, handlers)      # RunAssets: places, files (path, name, bytes), missing (path, reason)
"""

import os
import posixpath
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from filebroker.assets.handlers import Handlers
from filebroker.assets.places import Place, is_url, local_path, moved
from filebroker.assets.remotes import reached
from filebroker.cataloging import packed
from filebroker.cataloging.external import ExternalView, external_of
from filebroker.cataloging.run import Run
from filebroker.ground.errors import FilebrokerError, MissingHandler, NotSupported
from filebroker.storing import layout

#: Names that every filesystem and every URL can have stay; others are encoded where the file is opened by its name.
_PLAIN = re.compile(r"(?!\.)[^\x00-\x1f\x7f\\/:*?\"<>|%#]{1,200}(?<![. ])")


class AssetFile(NamedTuple):
    """One external file of a run.

    Attributes
    ----------
    path : str
        Where it is now: a local path or a URL.
    name : str
        Its path in the directory of the run's packed files, such as ``0/a.h5``.
    bytes : int
        Its size.
    """

    path: str
    name: str
    bytes: int


class MissingFile(NamedTuple):
    """One external file that cannot be had.

    Attributes
    ----------
    run : str
        The uid of its run.
    resource : str
        The uid of its resource.
    path : str
        Where it should be.
    reason : str
        Why it cannot be had.
    """

    run: str
    resource: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} of run {self.run}: {self.reason}"


@dataclass
class RunAssets:
    """The external files of one run.

    Attributes
    ----------
    run : str
        The run's uid.
    places : dict of str to str
        What is to be opened for each resource that has a file, by its uid: a path as in `AssetFile.name`.
    files : list of AssetFile
        The files that are there, each once.
    missing : list of MissingFile
        Those that are not, and those that may not be read.
    """

    run: str
    places: dict[str, str] = field(default_factory=dict)
    files: list[AssetFile] = field(default_factory=list)
    missing: list[MissingFile] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(file.bytes for file in self.files)


def assets_of(run: Run, handlers: Handlers) -> RunAssets:
    """List the external files of a run, where they are now; none is read.

    Files are taken from below the root of their resource alone, or where there is none from below the directory of
    what it names: neither ``..`` nor links lead out of it.

    Parameters
    ----------
    run
        The run.
    handlers
        Who reads what, and where roots have moved.
    """
    view = external_of(run, handlers).view()
    listing = _Listing(RunAssets(run.uid), handlers.root_map)
    try:
        for resource in view.resources:
            listing.add(resource, view)
    finally:
        view.close()  # who only asked for names keeps no file open
    return listing.found


class _Listing:
    """The external files of a run, as they are listed resource by resource."""

    def __init__(self, found: RunAssets, root_map: Mapping[str, str]) -> None:
        self.found, self._root_map = found, root_map
        self._numbers: dict[str, int] = {}
        self._known: dict[str, str] = {}

    def add(self, resource: Mapping[str, Any], view: ExternalView) -> None:
        """List the files of a resource."""
        place: Place | None = None
        try:
            files, doubt = _files_of(resource, view)
            place = view.place_of(resource, files)
            self._add_files(resource, place, files, doubt)
        except (FilebrokerError, OSError, ValueError, TypeError, KeyError) as error:  # documents can say anything
            named = str(resource.get("uri") or resource.get("resource_path"))
            self._miss(resource, named if place is None else place.path, str(error))

    def _add_files(self, resource: Mapping[str, Any], place: Place, files: list[str], doubt: str) -> None:
        opened = place.path if is_url(place.path) else os.path.abspath(place.path)
        tail = "/" if place.path.endswith(("/", os.sep)) and opened.strip("/") else ""
        base = _parent(opened)
        root = self._root(resource, place, base)
        if not files and _size(opened, root)[1] == "":
            files = [opened]  # nobody can list its files, but it is one
        elif not files and doubt:
            self._miss(resource, place.path, doubt)
        number = self._numbers.setdefault(base, len(self._numbers))
        names = [self._add_file(resource, file, opened, base, root, number) for file in files]
        if any(names):
            inner = _inner(opened, base)
            alone = [_absolute(file) for file in files] == [opened]
            self.found.places[resource["uid"]] = next(iter(names)) if alone else f"{number}/{inner}{tail}"

    def _add_file(self, resource: Mapping[str, Any], file: str, opened: str, base: str, root: str, number: int) -> str:
        """Add one file, and give its name; an empty one if it cannot be had."""
        path = _absolute(file)
        size, reason = _size(path, root)
        inner = _inner(path, base)
        if not reason and not inner:
            reason = f"it is not below {base}, and would not be found beside the others"
        if not reason and path == opened:
            inner = _encoded(inner)
        name = f"{number}/{inner}"
        if not reason and not packed.is_packed_path(name):
            reason = "it has a name that cannot be kept"
        if reason:
            self._miss(resource, path, reason)
            return ""
        if path not in self._known:
            self._known[path] = name
            self.found.files.append(AssetFile(path, name, size))
        elif self._known[path] != name:  # another resource opens it by a name of its own making
            self.found.files.append(AssetFile(path, name, size))
        return name

    def _root(self, resource: Mapping[str, Any], place: Place, base: str) -> str:
        """Give the directory that no file of a resource may be outside of."""
        if place.packed is not None:
            return place.packed
        told = local_path(os.fspath(resource.get("root") or ""))
        if not told.strip("/\\") or is_url(place.path):
            return base
        root = moved(told, self._root_map, windows=resource.get("path_semantics") == "windows")[0]
        return self._root_map[place.mapped] if place.mapped and not _is_inside(place.path, root) else root

    def _miss(self, resource: Mapping[str, Any], path: str, reason: str) -> None:
        self.found.missing.append(MissingFile(self.found.run, resource["uid"], path, reason))


def _files_of(resource: Mapping[str, Any], view: ExternalView) -> tuple[list[str], str]:
    """Give the files of a resource, and why they are not known if nothing can list them."""
    try:
        return view.files_of(resource), ""
    except (MissingHandler, NotSupported) as error:
        return [], str(error)


def _size(path: str, root: str) -> tuple[int, str]:
    """Give the size of a file, and why it cannot be had; that is empty if it can."""
    try:
        if is_url(path):
            return _remote_size(path, root)
        if not _is_inside(path, root):
            return 0, f"it is outside of {root}, the root that was recorded for it"
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0, "there is no such file"
    except (OSError, ValueError) as error:
        return 0, f"it cannot be looked at: {error}"
    return (status.st_size, "") if stat.S_ISREG(status.st_mode) else (0, "it is no regular file")


def _remote_size(path: str, root: str) -> tuple[int, str]:
    if ".." in path.split("/") or not path.startswith(f"{root.rstrip('/')}/"):
        return 0, f"it is outside of {root}"
    try:
        system, name = reached(path)
        told = system.info(name)
    except FileNotFoundError:
        return 0, "there is no such file"
    except Exception as error:  # noqa: BLE001 - each filesystem fails in a way of its own
        return 0, f"it cannot be looked at: {type(error).__name__}: {error}"
    return (int(told.get("size") or 0), "") if told.get("type") == "file" else (0, "it is no file")


def _is_inside(path: str, root: str) -> bool:
    """Tell whether a local path is below a directory, wherever links lead."""
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(root), ""))


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)


def _parent(path: str) -> str:
    if is_url(path):
        scheme, _, rest = path.rstrip("/").partition("://")
        return f"{scheme}://{posixpath.dirname(rest)}"
    return os.path.dirname(path)


def _inner(path: str, base: str) -> str:
    """Give a path relative to a directory above it, with slashes; nothing if it is elsewhere."""
    path, base = path.replace(os.sep, "/"), base.replace(os.sep, "/").rstrip("/")
    return path[len(base) + 1 :].rstrip("/") if path.startswith(f"{base}/") else ""


def _encoded(name: str) -> str:
    """Give the name of a copy that is opened by it: the same, unless some system could not have it."""
    if _PLAIN.fullmatch(name) and not layout.encode_name(name).startswith("%"):
        return name
    stem, ending = os.path.splitext(name)
    return f"{layout.encode_name(stem)}{ending}" if re.fullmatch(r"\.\w{1,10}", ending) else layout.encode_name(name)
