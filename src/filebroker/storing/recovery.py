"""Runs whose recording was cut short: found by their locks, and sealed with all that was good."""

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Any

from filebroker.ground import codec, filesystem
from filebroker.ground.errors import DamagedRun, NothingRecorded
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


def recover_all(root: str) -> list[Recovery]:
    """Seal every run of a local catalog whose writer died on this machine.

    Parameters
    ----------
    root
        Local path of the catalog.

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
    if not os.path.isdir(folder):
        return []
    recoveries = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        owner = _read_owner(path)
        if not name.endswith(".json") or owner.get("host", socket.gethostname()) != socket.gethostname():
            continue
        lock = FileLock(path)
        if not lock.acquire():
            continue
        try:
            if owner.get("inode", lock.inode) == lock.inode:  # a copy of a catalog is not its writer's
                recoveries.append(_recover(root, _directory(name)))
                lock.remove()
        finally:
            lock.release()
    return recoveries


def _read_owner(path: str) -> dict[str, Any]:
    """Read who records a run; nothing if the file vanished or was never written."""
    try:
        with open(path, "rb") as file:
            owner = codec.loads(file.read())
    except (FileNotFoundError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _directory(lock_name: str) -> str:
    """Give the directory of the run that a lock is named after."""
    name = lock_name.removesuffix(".json")
    return f"{name[:4]}/{name[4:6]}/{name[6:8]}/{name}"


def _recover(root: str, name: str) -> Recovery:
    directory = os.path.join(root, name)
    if not layout.is_run_directory(os.path.basename(directory)) or not os.path.isdir(directory):
        return Recovery(name, "empty")
    if os.path.exists(os.path.join(directory, layout.DOCUMENTS)):
        return _finish(root, name)
    try:
        run = RunFiles(Folder(root), name)
    except NothingRecorded:
        _remove_unstarted(directory)
        return Recovery(name, "empty")
    except DamagedRun as error:
        return Recovery(name, "unreadable", detail=str(error))
    damage = _commit_journals(directory)
    state = "interrupted" if run.stop is None else "sealed"
    files, body = sealing.read_committed(directory)
    documents = body.count(b"\n") + sum(entry["documents"] for entry in files)
    streams = Streams()
    for descriptor in run.descriptors:
        streams.add(descriptor)
    sealing.seal_run(directory, Manifest(state, documents, damage), streams, sync=True)
    return Recovery(name, state, documents, "; ".join(damage))


def _finish(root: str, name: str) -> Recovery:
    """Remove what is left beside a run that was sealed just before its writer died."""
    run = RunFiles(Folder(root), name)
    if not run.damage:
        sealing.remove_leftovers(os.path.join(root, name), run.files)
    return Recovery(name, "finished")


def _remove_unstarted(directory: str) -> None:
    """Remove a run of which not one document had been acknowledged."""
    for name in os.listdir(directory):
        if layout.segment_of(name) or filesystem.is_temporary(name):
            os.unlink(os.path.join(directory, name))
    with contextlib.suppress(OSError):  # something else is in it, and stays
        os.rmdir(directory)


def _commit_journals(directory: str) -> list[str]:
    """Turn every journal into a committed segment, and say what of them could not be read."""
    streams, damage = Streams(), []
    segments = [(number, kind, name) for name in os.listdir(directory) for kind, number in _parts(name)]
    for number, kind, name in sorted(segments):  # "docs" comes before the "journal" it supersedes
        with open(os.path.join(directory, name), "rb") as file:
            parsed = read_lines(file.read(), name)
        segment = Segment(number, streams)
        for line in parsed.lines:
            if line.name != HEAD:
                segment.add(line)
        if kind == "journal" and not os.path.exists(os.path.join(directory, layout.docs_name(number))):
            damage += parsed.damage
            if parsed.damage:  # keep what cannot be read for someone who can
                os.link(os.path.join(directory, name), os.path.join(directory, f"{name}.damaged"))
            sealing.commit_segment(directory, segment, sync=True)
    return damage


def _parts(name: str) -> list[tuple[str, int]]:
    part = layout.segment_of(name)
    return [] if part is None else [part]
