"""What can be read of a damaged run: as it was sealed if its checksums say so, else all that is good."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from filebroker.finding.records import Record
from filebroker.ground import codec
from filebroker.ground.documents import REQUIRED, Document
from filebroker.ground.errors import DamagedRun, StorageError
from filebroker.storing import layout
from filebroker.storing.convoys import is_entry, is_page
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, Line, decode_line, encode_line
from filebroker.storing.sealing import FileEntry
from filebroker.transfer.care.bit_flips import corrected
from filebroker.transfer.care.page_salvage import Rows, adopt, read_rows
from filebroker.transfer.care.proofs import read_manifest
from filebroker.transfer.care.trees import NO_FILE, Tree

#: So many bad lines are told one by one.
_TOLD_LINES = 10


class Original(NamedTuple):
    """What a damaged run can be mended with.

    Attributes
    ----------
    record : Record or None
        What the ledger says of it.
    source : Tree or None
        Another copy of the catalog.
    strays : dict of bytes
        Whole ``documents.jsonl`` that were found in the places of other runs, by the directory of each.
    """

    record: Record | None = None
    source: Tree | None = None
    strays: dict[str, bytes] = {}


@dataclass
class Salvage:
    """A run as it can be sealed again.

    Attributes
    ----------
    text : bytes
        Its ``documents.jsonl``.
    pages : dict of bytes
        The pages that have to be written, by their paths in the run.
    removed : list of str
        The pages that are in the run's directory and do not belong to it any more.
    losses : list of str
        What was lost; nothing if it is as it was sealed.
    documents, lost : int
        How many documents it has, and how many less than it had, as far as that is known.
    """

    text: bytes = b""
    pages: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    documents: int = 0
    lost: int = 0


def salvage(tree: Tree, path: str, original: Original) -> Salvage:
    """Read what can be read of a sealed run.

    Parameters
    ----------
    tree
        The files of its catalog.
    path
        The run's directory.
    original
        What it can be mended with.

    Raises
    ------
    DamagedRun
        Not even its start document can be had.
    """
    sizes = tree.sizes(path)
    text = b"" if sizes.get(layout.DOCUMENTS, NO_FILE) == NO_FILE else tree.read(f"{path}/{layout.DOCUMENTS}")
    text = _whole_text(path, text, original) or text
    head, problems = read_manifest(text)
    if _is_of_another(path, text):
        head, text = {}, b""
    found = Salvage()
    lines = _Lines(path, text, found.losses)
    if not lines.is_whole(head):
        lines.complete(original.record, head)
    if not head:
        found.losses.append(f"the manifest was lost ({problems[0] if problems else 'it is missing'})")
    files = _pages(tree, path, sizes, head, original, found, lines)
    if not head and original.record is not None:
        lines.end(original.record.stop, max((entry["last"] for entry in files), default=0))
    _put_together(path, found, lines, head, files)
    return found


def _whole_text(path: str, text: bytes, original: Original) -> bytes:
    """Give the documents of the run as they were sealed, from elsewhere; nothing if they cannot be had."""
    head, problems = read_manifest(text)
    if not problems and not _is_of_another(path, text):
        return text
    candidates = [original.strays.get(path, b"")]
    if original.source is not None:
        with contextlib.suppress(FileNotFoundError):
            candidates.append(original.source.read(f"{path}/{layout.DOCUMENTS}"))
    for candidate in chain(candidates, corrected(text)):
        theirs, wrong = read_manifest(candidate)
        is_same = not head or _is_of_another(path, text) or head.get("body") == theirs.get("body")
        if not wrong and place_of(candidate) == path and is_same:
            return candidate
    return b""


def place_of(text: bytes) -> str:
    """Give the directory where a ``documents.jsonl`` belongs, nothing if that cannot be told."""
    begin = text.find(b"\n") + 1
    try:
        line = decode_line(text[begin : text.find(b"\n", begin)])
        return layout.run_directory(line.doc) if line.name == "start" else ""
    except (DamagedRun, KeyError, TypeError):
        return ""


def _is_of_another(path: str, text: bytes) -> bool:
    return place_of(text) not in ("", path)


def _is_of(path: str, line: Line) -> bool:
    """Tell whether a line is a document of this run, as far as it says."""
    if line.name not in REQUIRED or not isinstance(line.doc, dict):
        return False
    run = line.doc.get("uid" if line.name == "start" else "run_start")
    return run is None or f"{layout.encode_name(str(run))}.json" == layout.lock_name_of(path)


# -- lines


class _Lines:
    """The documents of a run that are lines: those whose checksums are right, each once, in order."""

    def __init__(self, path: str, text: bytes, losses: list[str]) -> None:
        self._raw: dict[int, tuple[str, bytes]] = {}
        bad = []
        for number, raw in enumerate(text.split(b"\n"), start=1):
            if not raw:
                continue
            try:
                line = decode_line(raw)
            except DamagedRun as error:
                bad += [f"{layout.DOCUMENTS}, line {number}: {error}"] * (number > 1)  # the first is the manifest
                continue
            if _is_of(path, line) and type(line.ordinal) is int and line.ordinal >= 0:
                self._raw.setdefault(line.ordinal, (line.name, raw + b"\n"))
        self._bad, self._losses = bad, losses

    @property
    def body(self) -> bytes:
        return b"".join(self._raw[ordinal][1] for ordinal in sorted(self._raw))

    @property
    def ordinals(self) -> list[int]:
        return sorted(self._raw)

    @property
    def last_name(self) -> str:
        return self._raw[max(self._raw)][0] if self._raw else ""

    def is_whole(self, head: Document) -> bool:
        """Tell whether these are the lines that were sealed."""
        try:
            return bool(head) and hashlib.sha256(self.body).hexdigest() == head["body"]["sha256"]
        except (KeyError, TypeError):
            return False

    def complete(self, record: Record | None, head: Document) -> None:
        """Take the start and the stop document from the ledger, if they are not here; tell of what is lost."""
        if record is not None:
            self._add(0, "start", record.start)
            documents = head.get("documents")
            if record.stop is not None and self.last_name != "stop" and type(documents) is int:
                self._add(documents - 1, "stop", record.stop)
        if not self.is_whole(head):
            self._losses += self._bad[:_TOLD_LINES]
            if len(self._bad) > _TOLD_LINES:
                self._losses.append(f"{len(self._bad) - _TOLD_LINES} more lines cannot be read")

    def end(self, stop: bytes | None, last: int) -> None:
        """Put the stop document of the ledger behind everything else."""
        if stop is not None and self.last_name != "stop":
            self._add(max([last, *self._raw]) + 1, "stop", stop)

    def _add(self, ordinal: int, name: str, raw: bytes) -> None:
        if ordinal not in self._raw:
            self._raw[ordinal] = name, encode_line(ordinal, name, codec.loads(raw))

    def has_start(self) -> bool:
        return self._raw.get(0, ("", b""))[0] == "start"

    @property
    def descriptors(self) -> list[Document]:
        """The descriptors among them."""
        raw = [line for name, line in self._raw.values() if name == "descriptor"]
        return [decode_line(line[:-1]).doc for line in raw]


# -- pages


def _pages(
    tree: Tree, path: str, sizes: dict[str, int], head: Document, original: Original, found: Salvage, lines: "_Lines"
) -> list[FileEntry]:
    """Give the entries of the pages that can be read, and note those that have to be written or removed."""
    present = [name for name in sizes if layout.is_page_path(name)]
    listed = head.get("files") if isinstance(head.get("files"), list) else None
    if listed is None:
        adopted = adopt(tree, path, [name for name in present if sizes[name] != NO_FILE], lines.descriptors)
        found.removed = sorted(set(present) - {entry["path"] for entry in adopted})
        found.losses += [f"{name} cannot be read, or is superseded" for name in found.removed]
        return adopted
    entries = []
    for entry in listed:
        if not is_entry(entry):
            found.losses.append(f"the manifest named a page that cannot be one: {entry!r:.200}")
            continue
        entries += list(_page(tree, path, sizes, entry, original.source, found))
    return entries


def _page(
    tree: Tree, path: str, sizes: dict[str, int], entry: FileEntry, source: Tree | None, found: Salvage
) -> Iterator[FileEntry]:
    """Give the entry of a page, or of what can be read of it."""
    name, size = entry["path"], sizes.get(entry["path"], NO_FILE)
    if size == entry["bytes"] and tree.digest(f"{path}/{name}", size) == entry["sha256"]:
        yield entry
        return
    theirs = _from(source, f"{path}/{name}", entry)
    if theirs is not None:
        found.pages[name] = theirs
        yield entry
        return
    rows = Rows(None, 0) if size == NO_FILE else read_rows(tree.folder.path(f"{path}/{name}"), entry)
    kept = 0 if rows.table is None else rows.table.num_rows
    if name in sizes:
        found.removed.append(name)
    found.losses.append(
        f"{name} was {'damaged' if name in sizes else 'missing'}: {entry['rows'] - kept} of its {entry['rows']} events "
        f"of stream {entry['stream']!r} are lost"
    )
    if rows.table is not None:
        taken = [*sizes, *found.pages]
        renewed, data = rows.sealed(entry, taken)
        found.pages[renewed["path"]] = data
        yield renewed


def _from(source: Tree | None, name: str, entry: FileEntry) -> bytes | None:
    """Read a page from another copy, if it is there and is the one that is meant."""
    if source is None:
        return None
    try:
        data = source.read(name)
    except (FileNotFoundError, StorageError):  # then it is as if there were no copy
        return None
    return data if is_page(data, entry) else None


# -- the whole


def _put_together(path: str, found: Salvage, lines: _Lines, head: Document, files: Sequence[FileEntry]) -> None:
    is_as_sealed = lines.is_whole(head) and files == head.get("files")
    if is_as_sealed:
        found.losses.clear()
    if not lines.has_start():
        raise DamagedRun(f"the start document of the run in {path} cannot be had, neither from its ledger")
    body, ordinals = lines.body, lines.ordinals
    found.documents = len(ordinals) + sum(entry["documents"] for entry in files)
    last = max([*ordinals, *(entry["last"] for entry in files)])
    expected = head.get("documents")
    found.lost = max(0, (expected if type(expected) is int else last + 1) - found.documents)
    if is_as_sealed:
        found.text = encode_line(HEAD_ORDINAL, HEAD, head) + body
        return
    losses = head.get("damage", [])
    if found.lost:
        found.losses.insert(0, f"{found.lost} of its documents are lost")
    new = {
        **{"format": layout.FORMAT, "state": "sealed" if lines.last_name == "stop" else "interrupted"},
        **{"documents": found.documents, "files": list(files)},
        "body": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()},
        "damage": [*(losses if isinstance(losses, list) else [str(losses)]), *found.losses],
    }
    found.text = encode_line(HEAD_ORDINAL, HEAD, new) + body
