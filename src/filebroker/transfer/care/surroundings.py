"""Proving what a catalog has beside its runs: its marker, its ledger, notes, and what was left behind."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

from filebroker.finding import notes
from filebroker.finding.ledger import LOGS, SNAPSHOTS, Ledger
from filebroker.finding.records import GONE
from filebroker.ground import codec, filesystem
from filebroker.ground.errors import StorageError
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.transfer.care.proofs import told
from filebroker.transfer.care.trees import NO_FILE, Tree

#: Where the originals are of what was repaired.
ASIDE = "_damaged"
#: So long after it was read it is looked whether a log is being written.
_WRITING_SECONDS = 0.2
#: How a marker ends that has a checksum.
_SEALED = re.compile(rb',"crc":"([0-9a-f]{8})"\}\n\Z')
#: What is known of a marker that has no checksum.
_MARKER_KEYS: dict[str, Callable[[Any], object]] = {
    "format": lambda value: type(value) is int,
    "requires": lambda value: type(value) is list,
    "id": lambda value: str(UUID(value)) == value,
    "created": lambda value: datetime.fromisoformat(value).tzinfo is not None,
    "layout": lambda value: value == "%Y/%m/%d/%Y%m%dT%H%M%S.%fZ-{uid}",
}

#: A file, and what is to be said of it.
Found = tuple[str, str]


class Known(NamedTuple):
    """What the ledger says of a run: how often it changed, its state, and hashes of its documents."""

    rank: tuple[int, int]
    state: str
    told: tuple[bytes, ...]


@dataclass
class LedgerProof:
    """What a ledger says, and what is wrong with its files.

    Attributes
    ----------
    runs : dict of Known
        The runs by their paths.
    is_there : bool
        Whether there is a ledger that claims to know every run.
    damaged, remarks : list of (str, str)
        Files that are not what they should be, and what is worth knowing of others.
    files, size : int
        How many files were read, and how many bytes they have.
    """

    runs: dict[str, Known] = field(default_factory=dict)
    is_there: bool = False
    damaged: list[Found] = field(default_factory=list)
    remarks: list[Found] = field(default_factory=list)
    files: int = 0
    size: int = 0


def prove_ledger(folder: Folder) -> LedgerProof:
    """Read the whole ledger of a catalog.

    Parameters
    ----------
    folder
        The catalog's folder.

    Raises
    ------
    StorageError
        It cannot be listed, or its store failed.
    """
    proof = LedgerProof()
    ledger = Ledger(folder)
    files = ledger.files()
    for name, size in files.items():
        try:
            _take_in(proof, ledger, name)
        except FileNotFoundError:  # merged with others meanwhile
            continue
        except StorageError as error:
            if folder.remote is not None:
                raise
            proof.damaged.append((name, str(error)))
        proof.files += 1
        proof.size += size
    proof.is_there = ledger.is_complete(files)
    if files and not proof.is_there:
        proof.damaged.append((layout.LEDGER, "has no snapshot, and so does not know every run"))
    proof.damaged += [(name, "ends in the middle of a line") for name in _torn(folder, files)]
    _look_beside(proof, folder, files)
    return proof


def _torn(folder: Folder, files: Mapping[str, int]) -> list[str]:
    """Give the logs whose last line has no end, and that do not grow: else it is being written."""

    def torn(names: Iterable[str]) -> dict[str, bytes]:
        texts = {name: _read_or_nothing(folder, name) for name in names if name.startswith(LOGS)}
        return {name: text for name, text in texts.items() if text and not text.endswith(b"\n")}

    found = torn(files)
    if found:
        time.sleep(_WRITING_SECONDS)
        found = {name: text for name, text in torn(found).items() if text == found[name]}
    return list(found)


def _read_or_nothing(folder: Folder, name: str) -> bytes:
    try:
        return folder.read(name)
    except (FileNotFoundError, StorageError):  # merged meanwhile, or reported by whoever reads its records
        return b""


def _look_beside(proof: LedgerProof, folder: Folder, files: Mapping[str, int]) -> None:
    """Say what is in the directories of the ledger and is not of it."""
    for place, suffix in ((LOGS, ".jsonl"), (SNAPSHOTS, ".parquet")):
        for name in (f"{place}/{name}" for name in folder.names(place)):
            if filesystem.is_temporary(name):
                proof.remarks.append((name, "was left behind by a program that died"))
            elif name not in files and name.endswith(suffix) and folder.exists(name):
                if name not in Ledger(folder).files():  # one may have been made since the others were listed
                    proof.damaged.append((name, "is no file of a ledger"))
            elif name not in files and folder.local is not None and os.path.islink(folder.path(name)):
                proof.damaged.append((name, "is a link that leads nowhere"))
            elif files.get(name) == 0:
                proof.remarks.append((name, "is empty"))


def _take_in(proof: LedgerProof, ledger: Ledger, name: str) -> None:
    portion = ledger.read(name)
    problems = list(portion.damage)
    try:
        for record in portion.records:
            before = proof.runs.get(record.path)
            if before is None or record.rank > before.rank:
                known = told(record.start, record.stop or b"", list(record.pages))
                proof.runs[record.path] = Known(record.rank, record.state, known)
    except ValueError as error:
        problems.append(f"not all of it can be read: {error}")
    proof.damaged += [(name, problem.removeprefix(name).lstrip(",: ")) for problem in problems]


def disagreements(ledger: LedgerProof, runs: Mapping[str, Known], busy: set[str]) -> Iterator[tuple[str, str]]:
    """Give the runs of which a ledger says something else than their directories, and what.

    Parameters
    ----------
    ledger
        What it says.
    runs
        How the runs are, by their paths.
    busy
        The names of the locks: of what is recorded or uploaded, the ledger is told later.
    """
    for path, run in runs.items():
        known = ledger.runs.get(path)
        if run.state == "empty" or layout.lock_name_of(path) in busy:
            continue
        if known is None or known.state == GONE:
            yield path, "is not in the ledger, and so is not found"
        elif known.state != run.state and run.told:
            yield path, f"is {run.state}, and the ledger says that it is {known.state}"
        elif run.told and known.told[: 1 if run.state == "live" else 3] != run.told[: 1 if run.state == "live" else 3]:
            yield path, "has other documents than the ledger says"
    for path, known in ledger.runs.items():
        if known.state != GONE and (path not in runs or (runs[path].state == "empty" and known.state != "live")):
            yield path, "is in the ledger, and there is nothing in its directory"


# -- the marker


def prove_marker(folder: Folder) -> tuple[list[Found], int]:
    """Prove the marker of a catalog; one that has none is a catalog all the same.

    Parameters
    ----------
    folder
        The catalog's folder.

    Returns
    -------
    damaged : list of (str, str)
        What is wrong with it.
    size : int
        How many bytes it has.
    """
    try:
        text = folder.read(layout.MARKER)
    except FileNotFoundError:
        return [], 0
    except StorageError as error:
        if folder.remote is not None:
            raise
        return [(layout.MARKER, str(error))], 0
    return [(layout.MARKER, problem) for problem in _marker_problems(text)], len(text)


def _marker_problems(text: bytes) -> Iterator[str]:
    if b"crc" in text:
        if not _is_sealed(text):
            yield "was altered: its checksum does not match"
        return
    try:
        marker = codec.loads(text)
        is_ours = "id" not in marker or text.endswith(b"}\n")
        is_ours = (
            is_ours
            and marker.keys() <= _MARKER_KEYS.keys()
            and all(check(marker[key]) for key, check in _MARKER_KEYS.items() if key in marker)
        )
    except (ValueError, TypeError, AttributeError):
        is_ours = False
    if not is_ours:
        yield "says what no filebroker wrote; compare it with that of a copy"


def _is_sealed(text: bytes) -> bool:
    """Tell whether a marker ends in the checksum of what is before that, as a line does."""
    match = _SEALED.search(text)
    return match is not None and match[1] == b"%08x" % crc32(text[: match.start()])


# -- what lies beside


def removed_for_good(tree: Tree) -> set[str]:
    """Give the runs that were removed for good, as their notes say.

    Parameters
    ----------
    tree
        The catalog's files.
    """
    said: dict[str, list[tuple[str, int, notes.Note]]] = {}
    for name in filter(notes.is_note_file, tree.folder.names(layout.NOTES)):
        with contextlib.suppress(StorageError, FileNotFoundError):  # which `prove_notes` tells
            for line, note in notes.decode(name, tree.folder.read(f"{layout.NOTES}/{name}")).notes:
                said.setdefault(note.path, []).append((name, line, note))
    marks = {path: notes.mark_of(notes.in_order(found)) for path, found in said.items()}
    return {path for path, mark in marks.items() if mark is not None and mark["purge"] is not None}


def prove_notes(tree: Tree) -> tuple[list[Found], list[Found], int, int]:
    """Prove the comments and tags of a catalog.

    Parameters
    ----------
    tree
        The catalog's files.

    Returns
    -------
    damaged, remarks : list of (str, str)
        Files that are not what they should be, and what is worth knowing of others.
    files, size : int
        How many files were read, and how many bytes they have.
    """
    damaged: list[Found] = []
    remarks: list[Found] = []
    files = size = 0
    sizes = tree.sizes(layout.NOTES)
    for name in tree.folder.names(layout.NOTES):
        path = f"{layout.NOTES}/{name}"
        if not notes.is_note_file(name):
            remarks.append((path, "was left behind" if filesystem.is_temporary(name) else "is not of the format"))
            continue
        if sizes.get(name, NO_FILE) == NO_FILE:
            damaged.append((path, "is no file"))
            continue
        try:
            text = tree.read(path)
        except (StorageError, FileNotFoundError) as error:
            if tree.folder.remote is not None:
                raise
            damaged.append((path, str(error)))
            continue
        files, size = files + 1, size + len(text)
        found = notes.decode(name, text)
        if found.damage:
            damaged.append((path, found.damage))
        elif any(after <= before for (before, _), (after, _) in pairwise(found.notes)):
            damaged.append((path, "has lines that are doubled or out of order"))
        elif len(found.notes) < text.count(b"\n"):
            remarks.append((path, "has notes of kinds that this version does not know"))
    return damaged, remarks, files, size


def remarks_on(folder: Folder, states: Mapping[str, str]) -> list[Found]:
    """Say what was left behind, or put aside, in a catalog.

    Parameters
    ----------
    folder
        The catalog's folder.
    states
        The states of its runs, by their paths.
    """
    names = folder.names()
    remarks = [(name, "was left behind by a program that died") for name in names if filesystem.is_temporary(name)]
    if layout.MARKER not in names:
        remarks.append((layout.MARKER, "is missing, so the catalog has no id"))
    sealed = {layout.lock_name_of(path) for path, state in states.items() if state in ("sealed", "interrupted")}
    remarks += [
        (f"{layout.LIVE}/{name}", "is the lock of a run that is sealed")
        for name in folder.names(layout.LIVE)
        if name in sealed
    ]
    remarks += [(f"{ASIDE}/{name}", "was put aside by a repair") for name in folder.names(ASIDE) if name[:1] != "."]
    return remarks


def misplaced(folder: Folder) -> list[Found]:
    """Give the runs that were put beside the years, and say where they belong."""
    names = [name for name in folder.names() if layout.is_run_directory(name)]
    return [(name, f"is a run, but not in its place; move it to {layout.run_path(name)}") for name in names]
