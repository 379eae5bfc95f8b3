"""Proving one run: every file of it against the checksums that were kept when it was sealed."""

import contextlib
import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from filebroker.ground import codec
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, NothingRecorded, StorageError, UnsupportedFormat
from filebroker.storing import layout
from filebroker.storing.convoys import is_entry
from filebroker.storing.journal import HEAD, Line, decode_line, read_lines
from filebroker.storing.run_files import RunFiles
from filebroker.storing.sealing import FileEntry
from filebroker.transfer.care.page_proofs import Depth, Proof, leftovers, prove_packed, prove_pages, refuse_to_guess
from filebroker.transfer.care.trees import NO_FILE, Tree


def prove(tree: Tree, path: str, depth: Depth) -> Proof:
    """Prove one run.

    Parameters
    ----------
    tree
        The files of its catalog.
    path
        The run's directory.
    depth
        How much is proved.

    Raises
    ------
    StorageError
        Its store failed, or this process has too many files open: then nothing is known of the run.
    """
    proof = _prove_once(tree, path, depth)
    for _ in range(2):
        if not proof.damaged:
            break
        # It may have been sealed meanwhile, or a bit may have flipped on the way from a store.
        tree.forget(path)
        proof = _prove_once(tree, path, depth)
    return proof


def _prove_once(tree: Tree, path: str, depth: Depth) -> Proof:
    proof = Proof(path, _uid_in(path))
    try:
        sizes = tree.sizes(path)
        if layout.DOCUMENTS not in sizes:
            _prove_live(tree, proof, sizes, depth)
        elif sizes[layout.DOCUMENTS] == NO_FILE:
            proof.damaged.append((layout.DOCUMENTS, "is no file"))
        else:
            _prove_sealed(tree, proof, sizes, depth)
        prove_packed(tree, proof, sizes, depth)
    except (StorageError, FileNotFoundError) as error:
        if isinstance(error, StorageError):
            refuse_to_guess(tree, error)
        proof.damaged.append(("", str(error)))
    return proof


def _uid_in(path: str) -> str:
    """Give the uid that a directory's name has, nothing if it is cut there."""
    name = layout.lock_name_of(path).removesuffix(".json")
    return "" if "~" in name else unquote(name)


# -- sealed runs


def _prove_sealed(tree: Tree, proof: Proof, sizes: dict[str, int], depth: Depth) -> None:
    text = tree.read(f"{proof.path}/{layout.DOCUMENTS}")
    proof.sha256 = hashlib.sha256(text).hexdigest()
    proof.add(len(text))
    head, problems = read_manifest(text)
    lines: list[Line] = []
    if not problems and depth == "fast":
        lines = _ends(text)
    else:
        parsed = read_lines(text, layout.DOCUMENTS)
        lines = [line for line in parsed.lines if line.name != HEAD]
        problems = [*dict.fromkeys([*problems, *parsed.damage]), *_out_of_order(lines)]
    problems += _who(proof, lines, head)
    proof.damaged += [(layout.DOCUMENTS, problem.removeprefix(f"{layout.DOCUMENTS}, ")) for problem in problems]
    entries = head.get("files", [])
    entries = [entry for entry in entries if is_entry(entry)] if isinstance(entries, list) else []
    prove_pages(tree, proof, entries, sizes, depth)
    proof.remarks += [(layout.DOCUMENTS, f"was sealed with a loss: {loss}") for loss in _losses(head)]
    proof.remarks += leftovers(sizes, entries)
    if head and not proof.damaged:
        proof.told = told(_raw(lines[:1], "start"), _raw(lines[-1:], "stop"), [entry["path"] for entry in entries])
        if depth == "documents":
            _decode(tree, proof, head["documents"])


def read_manifest(text: bytes) -> tuple[Document, list[str]]:
    """Read the manifest of a sealed run.

    Parameters
    ----------
    text
        Its ``documents.jsonl``.

    Returns
    -------
    head : dict
        The manifest, nothing if it cannot be read.
    problems : list of str
        Where it and the lines that follow are not as they were sealed.
    """
    begin = text.find(b"\n") + 1
    try:
        line = decode_line(text[: max(0, begin - 1)])
    except DamagedRun as error:
        return {}, [f"line 1, the manifest: {error}"]
    head = line.doc
    if line.name != HEAD or not isinstance(head, dict):
        return {}, ["its first line is no manifest"]
    if type(head.get("format")) is not int or head["format"] != layout.FORMAT or head.get("requires"):
        return head, [f"has format {head.get('format')!r} {head.get('requires') or ''}; upgrade filebroker".strip()]
    try:
        return head, list(_contradictions(head, memoryview(text)[begin:], text.count(b"\n") - 1, text))
    except (KeyError, TypeError, AttributeError) as error:
        return head, [f"has a manifest that makes no sense: {error!r}"]


def _contradictions(head: Document, body: memoryview, lines: int, text: bytes) -> Iterator[str]:
    """Give what a manifest says that is not so."""
    if len(body) != head["body"]["bytes"]:
        yield f"has {len(body)} bytes of lines; {head['body']['bytes']} were sealed"
        return
    if hashlib.sha256(body).hexdigest() != head["body"]["sha256"]:
        yield "its lines are not those that were sealed"
        return
    entries = [entry for entry in head["files"] if is_entry(entry)]
    if len(entries) != len(head["files"]):
        wrong = next(entry for entry in head["files"] if not is_entry(entry))
        yield f"names a page that cannot be one: {wrong!r:.200}"
    if len({entry["path"] for entry in entries}) != len(entries):
        yield "names a page twice"
    found = lines + sum(entry["documents"] for entry in entries)
    if found != head["documents"]:
        yield f"{abs(head['documents'] - found)} documents are {'missing' if found < head['documents'] else 'too many'}"
    last = text[text.rfind(b"\n", 0, -1) + 1 :]
    if head["state"] not in ("sealed", "interrupted") or (head["state"] == "sealed") != (b',"name":"stop",' in last):
        yield f"says of itself that it is {head['state']!r}, and ends with {_name_of(last)}"


def _name_of(line: bytes) -> str:
    try:
        return f"a {decode_line(line[:-1]).name} document"
    except DamagedRun:
        return "what cannot be read"


def _ends(text: bytes) -> list[Line]:
    """Give the first and the last line after the manifest; their bytes were proved."""
    begin = text.find(b"\n") + 1
    first = text[begin : text.find(b"\n", begin)]
    last = text[text.rfind(b"\n", 0, -1) + 1 : -1]
    try:
        return [decode_line(line) for line in (first, last) if line]
    except DamagedRun:
        return []


def _out_of_order(lines: list[Line]) -> Iterator[str]:
    if any(after.ordinal <= before.ordinal for before, after in pairwise(lines)):
        yield "its lines are doubled or out of order"


def _who(proof: Proof, lines: list[Line], head: Document) -> list[str]:
    """Learn which run it is, and whether it is in its place."""
    start = lines[0].doc if lines and lines[0].name == "start" else {}
    uid = start.get("uid")
    if not isinstance(uid, str):
        return ["has no readable start document"]
    proof.uid = uid
    proof.state = "sealed" if head.get("state") == "sealed" else "interrupted"
    try:
        place = layout.run_directory(start)
    except (KeyError, TypeError):
        return ["its start document has no time"]
    return [] if place == proof.path else [f"is the run {uid!r}, whose place is {place}"]


def _losses(head: Document) -> list[str]:
    losses = head.get("damage", [])
    return [str(loss) for loss in losses] if isinstance(losses, list) else [str(losses)]


def _raw(lines: list[Line], name: str) -> bytes:
    """Give a start or stop document as JSON."""
    return codec.dumps(lines[0].doc) if lines and lines[0].name == name else b""


def _decode(tree: Tree, proof: Proof, expected: int) -> None:
    """Make documents of all that a run has; its bytes were proved."""
    run = RunFiles(tree.folder, proof.path)
    try:
        found = sum(1 for _ in run.documents())
    except (ValueError, KeyError, TypeError, IndexError, ArithmeticError) as error:
        proof.damaged.append(("", f"no documents can be made of its pages: {error!r:.300}"))
        return
    proof.damaged += [(named(problem, run.files), problem) for problem in run.damage if problem not in run.losses]
    if found != expected:
        proof.damaged.append((layout.DOCUMENTS, f"{found} documents can be read; it says {expected}"))


def named(problem: str, entries: list[FileEntry], names: Any = ()) -> str:
    """Give the file that a sentence begins with."""
    known = [entry["path"] for entry in entries] + list(names)
    return max((name for name in known if problem.startswith(name)), key=len, default="")


# -- live runs


def _prove_live(tree: Tree, proof: Proof, sizes: dict[str, int], depth: Depth) -> None:
    """Prove a run that is being recorded, as far as it has come."""
    try:
        run = RunFiles(tree.folder, proof.path)
    except NothingRecorded:
        lost = [name for name in sizes if layout.is_page_path(name)]
        proof.state = "unreadable" if lost else "empty"
        if lost:
            proof.damaged.append((layout.DOCUMENTS, f"is missing, and so nothing is known of {', '.join(lost)}"))
        else:
            proof.remarks.append(("", "nothing is recorded in it"))
        return
    except (DamagedRun, UnsupportedFormat) as error:
        proof.damaged.append(("", str(error)))
        return
    proof.uid, proof.state = run.uid, run.state
    proof.told = told(codec.dumps(run.start), b"", [])
    _prove_heads(tree, proof, sizes)
    segments = [
        (part[1], part[0] == "journal" and sizes[name] > 0) for name in sizes if (part := layout.segment_of(name))
    ]
    if segments and not max(segments)[1]:
        proof.remarks.append(("", "has no journal after its last committed segment, as if one were lost"))
    problems = [problem for problem in run.damage if problem not in run.losses]
    proof.damaged += [(name := named(problem, run.files, sizes), problem.removeprefix(name)) for problem in problems]
    prove_pages(tree, proof, run.files, tree.sizes(proof.path), depth)
    proof.remarks += [("", f"lost: {loss}") for loss in run.losses]
    if not layout.is_run_path(proof.path) or layout.run_directory(run.start) != proof.path:
        proof.damaged.append(("", f"is the run {run.uid!r}, whose place is {layout.run_directory(run.start)}"))


def _prove_heads(tree: Tree, proof: Proof, sizes: dict[str, int]) -> None:
    """Look whether each segment of a live run is the one that its name says."""
    for name in sizes:
        part = layout.segment_of(name)
        if part is None or sizes[name] == NO_FILE:
            continue
        with contextlib.suppress(FileNotFoundError, DamagedRun):  # committed meanwhile; else it was told already
            head = decode_line(tree.read(f"{proof.path}/{name}").partition(b"\n")[0]).doc
            if head.get("segment") != part[1] or head.get("run", proof.uid) != proof.uid:
                proof.damaged.append((name, f"is segment {head.get('segment')} of run {head.get('run', proof.uid)!r}"))
        proof.add(sizes[name])


def told(start: bytes, stop: bytes, pages: list[str]) -> tuple[bytes, ...]:
    """Give hashes of what a ledger says of a run, which take less memory than that."""
    texts = (start, stop, "\n".join(pages).encode())
    return tuple(hashlib.sha256(text).digest()[:16] for text in texts)
