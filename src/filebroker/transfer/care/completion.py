"""Runs that were damaged before they were sealed, and whole copies of them."""

from filebroker.ground.errors import DamagedRun
from filebroker.storing import layout
from filebroker.storing.journal import decode_line
from filebroker.transfer.care.packed_repair import content
from filebroker.transfer.care.proofs import prove, read_manifest
from filebroker.transfer.care.salvage import Salvage
from filebroker.transfer.care.trees import Tree


def whole_copy(tree: Tree, source: Tree, path: str) -> Salvage | None:
    """Give a run as another catalog has it, if it lacks nothing there and is said to lack something here.

    Parameters
    ----------
    tree
        The files of the catalog.
    source
        Those of the other one.
    path
        The run's directory, in both.
    """
    name = f"{path}/{layout.DOCUMENTS}"
    ours, theirs = content(tree, name), content(source, name)
    if ours is None or theirs is None or ours == theirs:
        return None
    head, whole = read_manifest(ours)[0], read_manifest(theirs)[0]
    is_more = whole.get("documents", 0) >= head.get("documents", 0) and _start(ours) == _start(theirs) != b""
    if not head.get("damage") or whole.get("damage") or not is_more or prove(source, path, "bytes").damaged:
        return None
    pages = {entry["path"]: source.read(f"{path}/{entry['path']}") for entry in whole["files"]}
    removed = [entry["path"] for entry in head["files"] if entry["path"] not in pages]
    return Salvage(theirs, pages, removed, documents=whole["documents"])


def uid_of(text: bytes) -> str:
    """Give the uid of a run.

    Parameters
    ----------
    text
        Its ``documents.jsonl``, which is whole.
    """
    uid: str = decode_line(_start(text)).doc["uid"]
    return uid


def _start(text: bytes) -> bytes:
    """Give the line of the start document, nothing if it cannot be read."""
    _, _, lines = text.partition(b"\n")
    line = lines.partition(b"\n")[0]
    try:
        return line if decode_line(line).name == "start" else b""
    except DamagedRun:
        return b""
