"""What is found out about a run, and proving its pages and what lies beside them."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from filebroker.cataloging import packed
from filebroker.ground import filesystem
from filebroker.ground.errors import DamagedRun, StorageError, UnsupportedFormat
from filebroker.storing import layout
from filebroker.storing.journal import HEAD_ORDINAL, read_lines
from filebroker.storing.parquet import footer_seal
from filebroker.storing.sealing import FileEntry
from filebroker.transfer.care.trees import NO_FILE, Tree

#: How much is proved: the lines, sizes and footers; every byte; and that documents can be made of them.
Depth = Literal["fast", "bytes", "documents"]

_KEPT_JOURNAL = re.compile(r"journal\.[0-9]{5,}\.jsonl\.damaged\Z")
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


@dataclass
class Proof:
    """What was found out about one run.

    Attributes
    ----------
    path : str
        The run's directory in the catalog.
    uid : str
        Its uid, empty if that cannot be told.
    state : str
        ``sealed``, ``interrupted``, ``live``, ``empty`` (nothing is recorded yet) or ``unreadable``.
    sha256 : str
        That of its ``documents.jsonl``, which names those of its pages; empty if it has none.
    files, size : int
        How many files were proved, and how many bytes they have.
    damaged : list of (str, str)
        Files that are not what they should be, and what is wrong with each.
    remarks : list of (str, str)
        What is no damage and worth knowing: leftovers, and what had been lost before the run was sealed.
    told : tuple
        Hashes of what the ledger should say of the run: its start and stop document, and its pages.
    """

    path: str
    uid: str = ""
    state: str = "unreadable"
    sha256: str = ""
    files: int = 0
    size: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    told: tuple[bytes, ...] = ()

    def add(self, size: int) -> None:
        """Count a file that was proved."""
        self.files += 1
        self.size += size


def refuse_to_guess(tree: Tree, error: StorageError) -> None:
    """Raise an error that says nothing about a file: its store failed, or no more files can be opened."""
    if tree.folder.remote is not None or error.errno in _OUT_OF_FILES:
        raise error


# -- pages


def prove_pages(tree: Tree, proof: Proof, entries: list[FileEntry], sizes: dict[str, int], depth: Depth) -> None:
    """Prove the pages of a run by their sizes and footers, or every byte of them."""
    present = []
    for entry in entries:
        size = sizes.get(entry["path"])
        if size is None:
            proof.damaged.append((entry["path"], f"is missing ({_events(entry)})"))
        elif size == NO_FILE:
            proof.damaged.append((entry["path"], f"is no file ({_events(entry)})"))
        elif size != entry["bytes"]:
            lost = f"has {size} bytes; {entry['bytes']} were sealed ({_events(entry)})"
            proof.damaged.append((entry["path"], lost))
        else:
            present.append(entry)
    for entry, problem in _hashed(tree, proof, present) if depth != "fast" else _sealed_ends(tree, proof, present):
        proof.add(entry["bytes"])
        if problem:
            proof.damaged.append((entry["path"], f"{problem} ({_events(entry)})"))


def _events(entry: FileEntry) -> str:
    return f"{entry['rows']} events of stream {entry['stream']!r}"


def _hashed(tree: Tree, proof: Proof, entries: list[FileEntry]) -> Iterator[tuple[FileEntry, str]]:
    for entry in entries:
        try:
            digest = tree.digest(f"{proof.path}/{entry['path']}", entry["bytes"])
        except (StorageError, FileNotFoundError) as error:
            yield entry, _unreadable(tree, error)
        else:
            yield entry, "" if digest == entry["sha256"] else "is not the file that was sealed: its SHA-256 differs"


def _sealed_ends(tree: Tree, proof: Proof, entries: list[FileEntry]) -> Iterator[tuple[FileEntry, str]]:
    wanted = [(f"{proof.path}/{entry['path']}", entry["bytes"], entry["footer"][0]) for entry in entries]
    for entry, end in zip(entries, tree.ends(wanted), strict=True):
        if isinstance(end, Exception):
            yield entry, _unreadable(tree, end)
            continue
        try:
            is_same = footer_seal(end) == entry["footer"]
        except DamagedRun:
            is_same = False
        yield entry, "" if is_same else "is not the file that was sealed: its footer differs"


def _unreadable(tree: Tree, error: Exception) -> str:
    if isinstance(error, StorageError):
        refuse_to_guess(tree, error)
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "is missing"
    raise error


# -- what lies beside


def leftovers(sizes: dict[str, int], entries: list[FileEntry]) -> list[tuple[str, str]]:
    """Give the files in a sealed run's directory that are no part of it; readers pass over them."""
    known = {layout.DOCUMENTS} | {entry["path"] for entry in entries}
    found = []
    for name in sorted(sizes.keys() - known):
        if name.startswith(f"{packed.DIRECTORY}/"):
            continue
        if filesystem.is_temporary(name):
            what = "was left behind by a program that died"
        elif layout.segment_of(name):
            what = "was left behind when the run was sealed"
        elif _KEPT_JOURNAL.match(name):
            what = "is a journal that could not be read whole, and was kept"
        elif layout.is_page_path(name):
            what = "is a page that the run does not name"
        else:
            what = "is not of the format"
        found.append((name, what))
    return found


# -- packed files


def prove_packed(tree: Tree, proof: Proof, sizes: dict[str, int], depth: Depth) -> None:
    """Prove the external files that were packed with a run."""
    home = f"{packed.DIRECTORY}/"
    if not any(name.startswith(home) for name in sizes):
        return
    name = home + packed.MAP
    if sizes.get(name, NO_FILE) == NO_FILE:
        proof.remarks.append((packed.DIRECTORY, "has no map, so its files are not used"))
        return
    text = tree.read(f"{proof.path}/{name}")
    proof.add(len(text))
    try:
        found = packed.read_map(text, name)
    except UnsupportedFormat as error:
        proof.damaged.append((name, str(error)))
        return
    proof.damaged += [(name, problem.removeprefix(name).lstrip(", ")) for problem in found.damage]
    ordinals = [line.ordinal for line in read_lines(text, name).lines]
    if not found.damage and ordinals != [HEAD_ORDINAL, *range(len(ordinals) - 1)]:
        proof.damaged.append((name, "has lines that are missing, doubled or out of order"))
    for file in found.files:
        problem = _packed_problem(tree, proof.path, sizes, file, depth)
        if problem:
            proof.damaged.append((home + file.path, problem))
        else:
            proof.add(file.bytes)


def _packed_problem(tree: Tree, path: str, sizes: dict[str, int], file: packed.PackedFile, depth: Depth) -> str:
    name = f"{packed.DIRECTORY}/{file.path}"
    if name not in sizes:
        return f"is missing (it was {file.original})"
    if sizes[name] != file.bytes:
        return f"has {sizes[name]} bytes; {file.bytes} were packed"
    if depth != "fast" and tree.digest(f"{path}/{name}", file.bytes) != file.sha256:
        return "is not the file that was packed: its SHA-256 differs"
    return ""
