"""Removing the directory of a run for good, so that at no moment a part of it looks like a run."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable

from filebroker.ground import filesystem
from filebroker.ground.errors import DamagedRun, NotSupported, StorageError, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.storing.run_files import RunFiles


def is_partial(folder: Folder, path: str) -> bool:
    """Tell whether only a part may be left of a run in a store whose removal was begun.

    On a disk a run is moved away as a whole before.
    """
    if folder.on_disk(path) is not None or not folder.exists(path):
        return False
    return not folder.exists(f"{path}/{layout.DOCUMENTS}")


def check(folder: Folder, path: str) -> None:
    """Refuse a run that must not be removed.

    Raises
    ------
    NotSupported
        It is being recorded, or has not been sealed, or waits to be uploaded, or a link leads to it.
    """
    if folder.local is None and folder.on_disk(path) is not None:
        raise NotSupported(
            f"the run in {folder.path(path)} is being recorded, or waits to be uploaded; flush() waits for that"
        )
    if folder.local is not None:
        parts = path.split("/")
        links = [folder.path("/".join(parts[: count + 1])) for count in range(len(parts))]
        if link := next(filter(os.path.islink, links), None):
            raise NotSupported(f"{link} is a link; remove what it leads to yourself, and the link")
    if not folder.exists(f"{path}/{layout.DOCUMENTS}") and _is_live(folder, path):
        raise NotSupported(
            f"the run in {folder.path(path)} is being recorded, or its recording was cut short; let it end, or call "
            "Catalog.seal_interrupted(), before it is removed"
        )


def _is_live(folder: Folder, path: str) -> bool:
    try:
        return RunFiles(folder, path).state == "live"
    except (DamagedRun, UnsupportedFormat, FileNotFoundError):
        return False


def sizes(folder: Folder, path: str) -> dict[str, int]:
    """Give the files of a run, relative to its directory, with their sizes in bytes.

    Raises
    ------
    StorageError
        They cannot be listed.
    """
    if folder.on_disk(path) is None:
        return folder.store.tree(path)
    root, found = folder.on_disk(path) or "", {}
    for directory, _, names in os.walk(root):
        for name in names:
            file = os.path.join(directory, name)
            with contextlib.suppress(OSError):
                found[os.path.relpath(file, root).replace(os.sep, "/")] = os.lstat(file).st_size
    return found


def remove(folder: Folder, path: str, is_meant: Callable[[], bool] = lambda: True) -> bool:
    """Remove a run for good, and what an earlier removal left behind; one that is not there is no error.

    Parameters
    ----------
    folder
        The catalog's folder.
    path
        The run's directory.
    is_meant
        Whether nobody has changed their mind: is asked when nobody can see the run any more, and nothing is lost yet.

    Returns
    -------
    bool
        False if it is not meant any more; the run is where it was.

    Raises
    ------
    StorageError
        The filesystem refused; a repetition goes on.
    """
    if folder.local is not None:
        return _remove_local(folder.local, path, is_meant)
    names = folder.store.tree(path)
    if not is_meant():
        return False
    # Without it nobody takes the rest for a run that is whole.
    first = [name for name in names if name == layout.DOCUMENTS]
    for part in (first, [name for name in names if name not in first]):
        folder.store.remove(f"{path}/{name}" for name in part)
    return True


def bring_back(folder: Folder, path: str) -> None:
    """Put back a run on a disk that was about to be removed when that was cut short.

    Raises
    ------
    StorageError
        The filesystem refused.
    """
    if folder.local is None or os.path.exists(folder.path(path)):
        return
    for aside in _aside(folder.local, path):
        try:
            os.rename(aside, folder.path(path))
        except OSError as error:
            raise StorageError(error.errno, f"cannot bring back {path}: {error.strerror or error}") from error
        return


def _remove_local(root: str, path: str, is_meant: Callable[[], bool]) -> bool:
    bin_, place = os.path.join(root, layout.PURGED), os.path.join(root, path)
    try:
        if os.path.islink(bin_):
            raise StorageError(f"{bin_} is a link; remove it")
        if os.path.isdir(place):
            os.makedirs(bin_, exist_ok=True)
            aside = os.path.join(bin_, f"{os.path.basename(path)}.{uuid.uuid4().hex[:8]}.tmp")
            with contextlib.suppress(FileNotFoundError):  # somebody else removes it too
                os.rename(place, aside)
            filesystem.sync_path(root, os.path.dirname(place))
            if not is_meant():
                with contextlib.suppress(FileNotFoundError):  # who restored it has brought it back
                    os.rename(aside, place)
                return False
        for left in _aside(root, path):
            with contextlib.suppress(FileNotFoundError):  # somebody else removes it too
                shutil.rmtree(left)
        with contextlib.suppress(OSError):  # there is none, or others are in it
            os.rmdir(bin_)
    except OSError as error:
        raise StorageError(error.errno, f"cannot remove {place}: {error.strerror or error}") from error
    return True


def _aside(root: str, path: str) -> list[str]:
    """Give where a run was put that is to be removed."""
    bin_, prefix = os.path.join(root, layout.PURGED), f"{os.path.basename(path)}."
    names = os.listdir(bin_) if os.path.isdir(bin_) and not os.path.islink(bin_) else []
    return [os.path.join(bin_, name) for name in sorted(names) if name.removesuffix(".tmp")[:-8] == prefix]
