"""Copies of the files of a resource, below another root."""

import filecmp
import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from filebroker.assets.places import inner_path, is_url, local_path, locate
from filebroker.ground.errors import (
    AssetExists,
    FilebrokerWarning,
    InvalidDocument,
    MissingAsset,
    NotSupported,
    StorageError,
)
from filebroker.ground.kinship import akin

#: Called before each copy with its number from 0, how many there are, the old path and the new one.
Hook = Callable[[int, int, str, str], object]


def copy_files(
    resource: Mapping[str, Any],
    files: Iterable[str],
    new_root: str | os.PathLike[str],
    file_rename_hook: Hook | None = None,
    root_map: Mapping[str, str] | None = None,
) -> list[tuple[str, str]]:
    """Copy the files of a resource below a new root, where they have the same path as below the old one.

    A file appears under its new name when it is complete.  One that is there already with the same content stays.

    Parameters
    ----------
    resource
        The resource document.
    files
        Its files, as its handler lists them.
    new_root
        A local directory, which is made if need be.
    file_rename_hook
        Called before each copy as ``hook(number, total, old_path, new_path)``.  If it fails, that is a warning.
    root_map
        Where roots have moved.

    Returns
    -------
    list of tuple
        The old and the new path of each file.

    Raises
    ------
    AssetExists
        A file with other content has the name of a copy; nothing was copied then.
    InvalidDocument
        A file is not below the resource's root.
    MissingAsset
        A file is not there.
    NotSupported
        The new root is a URL.
    StorageError
        A file cannot be read or written.

    Warns
    -----
    FilebrokerWarning
        The resource has no root, so that ``/`` is taken for it; or the hook fails.
    """
    if not resource.get("root"):
        warnings.warn(
            f"the resource {resource['uid']!r} has no root; / is taken for it, and the whole path repeated below the "
            f"new root",
            FilebrokerWarning,
            stacklevel=3,
        )
    pairs = [(file, _target(resource, file, _directory(new_root), root_map or {})) for file in files]
    present = {new for old, new in pairs if _is_there(old, new)}
    for number, (old, new) in enumerate(pairs):
        _tell(file_rename_hook, number, len(pairs), old, new)
        if new not in present:
            _copy(old, new, resource)
    return pairs


def relocated(resource: Mapping[str, Any], new_root: str | os.PathLike[str]) -> dict[str, Any]:
    """Give a resource document that tells of copies below a new root.

    Examples
    --------
    >>> resource = {"uid": "r", "root": "", "resource_path": "/data/a.h5", "spec": "AD_HDF5", "resource_kwargs": {}}
    >>> relocated(resource, "/mnt")["root"], relocated(resource, "/mnt")["resource_path"]
    ('/mnt', 'data/a.h5')
    """
    changed = {"root": os.fspath(new_root), "resource_path": inner_path(resource)}
    if "path_semantics" in resource:
        changed["path_semantics"] = "windows" if os.name == "nt" else "posix"
    return {**resource, **changed}


def _directory(new_root: str | os.PathLike[str]) -> str:
    directory = local_path(os.fspath(new_root))
    if is_url(directory):
        raise NotSupported(f"files are copied to local directories, and {directory!r} is none")
    return os.path.abspath(directory)


def _target(resource: Mapping[str, Any], file: str, new_root: str, root_map: Mapping[str, str]) -> str:
    """Give the path of a copy."""
    place = locate(resource, root_map)
    beside = os.path.relpath(file, place.path)
    target = os.path.normpath(os.path.join(new_root, inner_path(resource), beside))
    if not target.startswith(os.path.join(new_root, "")):
        raise InvalidDocument(
            f"the file {file!r} of the resource {resource['uid']!r} is not below its root {place.root!r}, so that no "
            f"path below {new_root!r} can be given to a copy of it"
        )
    return target


def _is_there(old: str, new: str) -> bool:
    """Tell whether a copy exists already.

    Raises
    ------
    AssetExists
        Another file has its name.
    """
    if not os.path.lexists(new):
        return False
    if not is_url(old) and os.path.isfile(old) and os.path.isfile(new) and filecmp.cmp(old, new, shallow=False):
        return True
    raise AssetExists(f"{new!r} is there already, and is not a copy of {old!r}; move it away, or take another new_root")


def _tell(hook: Hook | None, number: int, total: int, old: str, new: str) -> None:
    if hook is None:
        return
    try:
        hook(number, total, old, new)
    except Exception as error:  # noqa: BLE001 - whoever only watches must not keep the files from being copied
        warnings.warn(f"file_rename_hook failed for {old!r}: {error!r}", FilebrokerWarning, stacklevel=3)


def _copy(old: str, new: str, resource: Mapping[str, Any]) -> None:
    aside = f"{new}.{uuid.uuid4().hex}.part"
    try:
        os.makedirs(os.path.dirname(new), exist_ok=True)
        _fetch(old, aside)
        os.replace(aside, new)
    except FileNotFoundError as error:
        raise akin(MissingAsset, "event_model", "DataNotAccessible")(
            f"there is no {old!r}, which belongs to the resource {resource['uid']!r}; {new!r} was not made. "
            f"If the files are elsewhere: {locate(resource, {}).remedy}"
        ) from error
    except OSError as error:
        raise StorageError(f"{old!r} cannot be copied to {new!r}: {error}") from error
    finally:
        if os.path.exists(aside):
            os.remove(aside)


def _fetch(source: str, path: str) -> None:
    if not is_url(source):
        shutil.copy2(source, path)
        return
    import fsspec

    filesystem, name = fsspec.core.url_to_fs(source)
    filesystem.get_file(name, path)
