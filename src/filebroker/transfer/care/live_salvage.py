"""Sealing damaged runs whose writer is gone: what recovery needs is made anew, and then it is left to do the rest."""

import os
import socket

from filebroker.finding.records import Record
from filebroker.ground import codec, filesystem
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, NothingRecorded
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.storing import layout, recovery
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, Line, decode_line, encode_line
from filebroker.transfer.care.page_salvage import adopt, page_number
from filebroker.transfer.care.replacements import Replacement
from filebroker.transfer.care.trees import Tree


def seal_damaged(root: str, path: str, record: Record | None, replacement: Replacement) -> None:
    """Seal a damaged run whose writer is gone, with what can be read of it.

    Parameters
    ----------
    root
        Local path of the catalog.
    path
        The run's directory in it.
    record
        What the ledger says of it.
    replacement
        Keeps what is replaced.

    Raises
    ------
    DamagedRun
        It is being recorded, or not even its start document can be had.
    """
    lock = _lock(root, path)
    try:
        segments = _segments(os.path.join(root, path))
        replacement.keep([name for _, _, name in segments])
        replacement.plan({})
        _mend_segments(root, path, segments, record)
        try:
            outcome = recovery.seal(root, path)
        except NothingRecorded as error:
            raise DamagedRun(f"nothing was recorded in {path}") from error
        if outcome.outcome == "unreadable":
            raise DamagedRun(outcome.detail)
        lock.remove()
    finally:
        lock.release()


def refuse_if_busy(root: str, path: str) -> None:
    """Raise `DamagedRun` if a run is being recorded, as far as can be seen from here."""
    if os.path.exists(os.path.join(root, layout.LIVE, layout.lock_name_of(path))):
        _lock(root, path).release()


def _lock(root: str, path: str) -> FileLock:
    """Take the lock of a run's writer."""
    name = os.path.join(root, layout.LIVE, layout.lock_name_of(path))
    host = _host_in(name)
    if host not in (None, socket.gethostname()):
        raise DamagedRun(
            f"was recorded on {host!r}, and whether its writer is gone cannot be seen from here; repair it there"
        )
    filesystem.make_directory(os.path.dirname(name))
    lock = FileLock(name)
    if not lock.acquire():
        raise DamagedRun("is being recorded; when it has ended, repair again")
    return lock


def _host_in(name: str) -> str | None:
    try:
        with open(name, "rb") as file:
            owner = codec.loads(file.read())
    except (OSError, ValueError):
        return None
    host = owner.get("host") if isinstance(owner, dict) else None
    return host if isinstance(host, str) else None


def _segments(directory: str) -> list[tuple[int, str, str]]:
    """Give number, kind and name of the segments that count: what was committed supersedes its journal."""
    found = {(part[1], part[0]): name for name in os.listdir(directory) if (part := layout.segment_of(name))}
    return sorted(
        (number, kind, name)
        for (number, kind), name in found.items()
        if kind == "docs" or (number, "docs") not in found
    )


def _mend_segments(root: str, path: str, segments: list[tuple[int, str, str]], record: Record | None) -> None:
    """Give every segment a head, and the run its start document."""
    tree, directory = Tree(Folder(root)), os.path.join(root, path)
    contents = {name: _lines(os.path.join(directory, name)) for _, _, name in segments}
    lines = [line for _, found in contents.values() for line in found]
    start = next((line.doc for line in lines if line.name == "start"), None)
    if start is None and record is None:
        raise DamagedRun(f"the start document of the run in {path} cannot be had, neither from its ledger")
    is_lost = start is None
    if start is None and record is not None:
        start = codec.loads(record.start)
    descriptors = [line.doc for line in lines if line.name == "descriptor"]
    for number, kind, name in segments:
        raw, found = contents[name]
        has_head = bool(found) and found[0].name == HEAD and found[0].doc.get("segment") == number
        if has_head and not is_lost:
            continue
        head: Document = {"format": layout.FORMAT, "state": "live", "run": (start or {}).get("uid"), "segment": number}
        if kind == "docs":
            files = _pages(tree, path, number, descriptors) if not has_head else found[0].doc["files"]
            head = {"format": layout.FORMAT, "state": "segment", "segment": number, "files": files}
        new = [encode_line(HEAD_ORDINAL, HEAD, head)]
        if is_lost and start is not None:
            new.append(encode_line(0, "start", start))
            is_lost = False
        rest = raw.partition(b"\n")[2] if not found or _is_first_bad(raw) or found[0].name == HEAD else raw
        filesystem.publish(os.path.join(directory, name), b"".join(new) + rest, sync=True)


def _is_first_bad(raw: bytes) -> bool:
    try:
        decode_line(raw.partition(b"\n")[0])
    except DamagedRun:
        return True
    return False


def _lines(path: str) -> tuple[bytes, list[Line]]:
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except FileNotFoundError:  # what was there was no file, and was put aside
        return b"", []
    found = []
    for text in raw.split(b"\n")[:-1]:
        try:
            found.append(decode_line(text))
        except DamagedRun:  # told by who reads the run then
            continue
    return raw, found


def _pages(tree: Tree, path: str, number: int, descriptors: list[Document]) -> list[Document]:
    """Give entries of the pages of a segment."""
    names = [name for name in tree.sizes(path) if layout.is_page_path(name) and page_number(name) == number]
    return adopt(tree, path, names, descriptors)
