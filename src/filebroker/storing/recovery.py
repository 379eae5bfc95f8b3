"""Runs whose recording was cut short: found by their locks, and sealed with all that was good."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

from filebroker.ground import codec, filesystem
from filebroker.ground.errors import NothingRecorded
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.storing import layout, sealing
from filebroker.storing.journal import HEAD, read_lines
from filebroker.storing.run_files import RunFiles
from filebroker.storing.sealing import Manifest, Segment
from filebroker.storing.streams import Streams


@dataclass(frozen=True)
class Recovery:
    """What was done about one run.

    Attributes
    ----------
    directory : str
        The run's directory, relative to the catalog's root.
    outcome : str
        ``sealed`` (it had its stop document), ``interrupted`` (it had not), ``finished`` (only leftovers
        had to be removed), ``empty`` (nothing had been recorded) or ``unreadable``.
    documents : int
        How many documents the run has.
    detail : str
        What was lost, empty if nothing was.
    """

    directory: str
    outcome: str
    documents: int = 0
    detail: str = ""


def recover_all(
    root: str,
    *,
    anywhere: bool = False,
    live: Iterable[str] = (),
    announce: Callable[[str], None] = lambda directory: None,
) -> list[Recovery]:
    """Seal every run of a local catalog whose writer died on this machine.

    Parameters
    ----------
    root
        Local path of the catalog.
    anywhere
        Seal also runs whose writer was on another machine, and those of a copied catalog.
    live
        Directories of runs that have no stop document, of which some may have been copied without their locks.
    announce
        Is told the directory of each run that is sealed now.

    Returns
    -------
    list of Recovery
        One for each run that was dealt with.  Runs that are still being recorded, here or on another
        machine, are left alone.

    Raises
    ------
    OSError
        The filesystem refused.
    """
    folder = os.path.join(root, layout.LIVE)
    for directory in live:
        _lock_anew(root, directory)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, name) for name in names if name.endswith(".json")]
    recoveries = [_examine(root, path, anywhere, announce) for path in paths]
    return [recovery for recovery in recoveries if recovery is not None]


def _lock_anew(root: str, directory: str) -> None:
    """Give a run the lock file that it was copied without."""
    path = os.path.join(root, layout.LIVE, layout.lock_name_of(directory))
    is_here = os.path.isdir(os.path.join(root, directory))
    if is_here and not os.path.exists(path) and not os.path.exists(os.path.join(root, directory, layout.DOCUMENTS)):
        filesystem.make_directory(os.path.dirname(path))
        filesystem.publish(path, codec.dumps({"directory": directory}), sync=True)


def _examine(root: str, path: str, anywhere: bool, announce: Callable[[str], None]) -> Recovery | None:
    """Recover the run of a lock file, unless its writer lives or was on another machine."""
    owner = _read_owner(path)
    if not anywhere and owner.get("host", socket.gethostname()) != socket.gethostname():
        return None
    lock = FileLock(path)
    try:
        if not lock.acquire():
            return None
        owner = _read_owner(path)  # again: its writer may have written it meanwhile
        if not anywhere and owner.get("inode", lock.inode) != lock.inode:
            return None  # the lock, and so the catalog, is a copy
        name = owner.get("directory")
        recovery = _recover(root, name) if _is_run(name, root, path) else Recovery(os.path.basename(path), "empty")
        if recovery.outcome not in ("unreadable", "empty"):
            announce(recovery.directory)
        if recovery.outcome != "unreadable":
            lock.remove()
    except PermissionError:
        return None  # somebody else's: whether its writer lives cannot be known
    except Exception as error:  # noqa: BLE001 - no single run may keep a catalog from being opened
        recovery = Recovery(str(owner.get("directory", path)), "unreadable", detail=str(error) or repr(error))
    finally:
        lock.release()
    return recovery


def _read_owner(path: str) -> dict[str, Any]:
    """Read who records a run; nothing if the file vanished or was never written."""
    try:
        with open(path, "rb") as file:
            owner = codec.loads(file.read())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_run(name: Any, root: str, lock_path: str) -> TypeGuard[str]:
    """Tell whether a lock names a run of this catalog, and its own."""
    if not isinstance(name, str) or not layout.is_run_path(name):
        return False
    is_own = os.path.basename(lock_path) == layout.lock_name_of(name)
    directory = os.path.realpath(os.path.join(root, name))
    return is_own and os.path.isdir(directory) and directory == os.path.join(os.path.realpath(root), name)


def _recover(root: str, name: str) -> Recovery:
    directory = os.path.join(root, name)
    if os.path.exists(os.path.join(directory, layout.DOCUMENTS)):
        return _finish(root, name)
    try:
        return seal(root, name)
    except NothingRecorded:
        _remove_unstarted(directory)
        return Recovery(name, "empty")


def seal(root: str, name: str) -> Recovery:
    """Seal a run with what its files hold, whatever state its writer left them in.

    Parameters
    ----------
    root
        Local path of the catalog.
    name
        The run's directory in it; the caller holds its lock.

    Raises
    ------
    NothingRecorded
        Not one document had been acknowledged.
    DamagedRun, StorageError
        The files cannot be read, or the filesystem refused.
    """
    directory = os.path.join(root, name)
    run = RunFiles(Folder(root), name)
    lost_head = next((problem for problem in run.damage if "no readable head" in problem), None)
    if lost_head is not None:
        return Recovery(name, "unreadable", detail=lost_head)
    _commit_journals(directory)
    state = "interrupted" if run.stop is None else "sealed"
    files, body = sealing.read_committed(directory)
    documents = body.count(b"\n") + sum(entry["documents"] for entry in files)
    streams = Streams()
    for descriptor in run.descriptors:
        streams.add(descriptor)
    sealing.seal_run(directory, Manifest(state, documents, run.damage), streams, sync=True)
    return Recovery(name, state, documents, "; ".join(run.damage))


def _finish(root: str, name: str) -> Recovery:
    """Remove what is left beside a run that was sealed just before its writer died."""
    run = RunFiles(Folder(root), name)
    if run.damage == run.losses:
        sealing.remove_leftovers(os.path.join(root, name), run.files)
    return Recovery(name, "finished")


def _remove_unstarted(directory: str) -> None:
    """Remove a run of which not one document had been acknowledged."""
    for name in os.listdir(directory):
        if layout.segment_of(name) or filesystem.is_temporary(name):
            os.unlink(os.path.join(directory, name))
    with contextlib.suppress(OSError):  # something else is in it, and stays
        os.rmdir(directory)


def _commit_journals(directory: str) -> None:
    """Turn every journal into a committed segment."""
    streams = Streams()
    segments = [(*part, name) for name in os.listdir(directory) if (part := layout.segment_of(name))]
    # Of one segment, "docs" comes before the "journal" that it supersedes.
    for kind, number, name in sorted(segments, key=lambda item: (item[1], item[0])):
        path = os.path.join(directory, name)
        with open(path, "rb") as file:
            text = file.read()
        parsed = read_lines(text, name)
        segment = Segment(number, streams)
        for line in parsed.lines:
            if line.name != HEAD:
                segment.add(line)
        if kind == "journal" and not os.path.exists(os.path.join(directory, layout.docs_name(number))):
            if parsed.damage:  # keep what cannot be read for someone who can
                filesystem.publish(f"{path}.damaged", text, sync=True)
            sealing.commit_segment(directory, segment, sync=True)
