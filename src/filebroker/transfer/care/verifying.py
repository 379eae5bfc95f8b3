"""Proving a catalog: every byte of every run against the checksums that were kept of it."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding.inventory import Inventory
from filebroker.ground.errors import InvalidOption
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress, silent
from filebroker.storing import layout
from filebroker.transfer.care.fingerprints import fingerprint
from filebroker.transfer.care.page_proofs import Depth, Proof
from filebroker.transfer.care.proofs import prove
from filebroker.transfer.care.surroundings import (
    Known,
    LedgerProof,
    disagreements,
    misplaced,
    prove_ledger,
    prove_marker,
    prove_notes,
    remarks_on,
    removed_for_good,
)
from filebroker.transfer.care.trees import Tree

#: So many threads read at most, unless another number is asked for; of a store, which is waited for, more.
_THREADS, _REMOTE_THREADS = 8, 16
#: So many runs are proved by one thread one after another, those of a store with their documents fetched at once.
_RUNS_AT_ONCE = 32
#: So long after it was read a ledger is read again that does not agree with the directories: a run may have begun.
_SETTLING_SECONDS = 0.3


class Finding(NamedTuple):
    """What is to be said of a file.

    Attributes
    ----------
    path : str
        The run's directory; empty for what belongs to no run.
    uid : str
        The run's uid; empty where that cannot be told.
    file : str
        The file, relative to the run's directory or to the catalog's; empty for what concerns no single one.
    what : str
        What is wrong with it.

    Examples
    --------
    >>> print(Finding("2025/11/22/20251122T143205.250000Z-84d9ee44", "84d9ee44", "primary/00000.parquet", "is missing"))
    2025/11/22/20251122T143205.250000Z-84d9ee44/primary/00000.parquet is missing
    """

    path: str
    uid: str
    file: str
    what: str

    def __str__(self) -> str:
        """Give it in one line."""
        where = "/".join(part for part in (self.path, self.file) if part)
        return f"{where} {self.what}" if not self.what.startswith("line ") else f"{where}, {self.what}"


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    runs, files, bytes : int
        How many runs and files were proved, and how many bytes these have.
    damaged : list of Finding
        Files that are not what they should be.
    remarks : list of Finding
        What is no damage and worth knowing: leftovers, and what was lost before a run was sealed.
    live : list of str
        Directories of runs that are being recorded, which were proved as far as they have come.
    hashes : dict of str
        The SHA-256 of ``documents.jsonl`` of each run that is sealed, by its directory.

    Examples
    --------
    >>> from filebroker import Broker, verify
    >>> found = verify(Broker.named("example"))
    >>> found.ok, found.runs
    (True, 22)
    """

    runs: int = 0
    files: int = 0
    bytes: int = 0
    damaged: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged.

        Examples
        --------
        >>> from filebroker import Broker, verify
        >>> verify(Broker.named("example")).ok
        True
        """
        return not self.damaged

    @property
    def fingerprint(self) -> str:
        """A hash to cite these runs by; it is the same for every copy of them.

        Examples
        --------
        >>> from filebroker import Broker, verify
        >>> len(verify(Broker.named("example")).fingerprint)
        64
        """
        return fingerprint(self.hashes)

    def __repr__(self) -> str:
        state = "all good" if self.ok else f"{len(self.damaged)} damaged"
        return f"<Verification: {self.runs:,} runs, {self.files:,} files, {self.bytes:,} bytes, {state}>"


def verify(
    runs: Catalog | Runs | Run | Iterable[Run] | Any,
    *,
    read_data: bool = False,
    decode: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> Verification:
    """Prove runs against the checksums that were kept when they were sealed.

    Of each run, its documents are proved byte by byte, and its pages by their sizes and footers.  Of a whole catalog
    the marker, the ledger and the notes are proved as well.  Nothing is changed.  Of a catalog in a store what is there
    is proved; what still waits on this machine is not.

    Parameters
    ----------
    runs
        A catalog or a broker, the result of a search, a run, or several runs.
    read_data
        Prove every byte of every page too, and of the external files that were packed.
    decode
        Make every document as well.  That takes much longer, and finds what was wrong before it was sealed.
    workers
        How many threads read; None for as many as the machine has processors, up to 8.
    progress
        Is told how many runs were proved.

    Returns
    -------
    Verification
        What was found.

    Raises
    ------
    StorageError
        A store failed, and so nothing is known of what is in it.
    InvalidOption
        The number of workers is none.

    Examples
    --------
    >>> from filebroker import Broker, verify
    >>> db = Broker.named("example")
    >>> verify(db, read_data=True)
    <Verification: 22 runs, ... files, ... bytes, all good>
    >>> verify(db("good", plan_name="scan")).damaged
    []
    """
    if workers is not None and workers < 1:
        raise InvalidOption(f"workers={workers} read nothing; give 1 or more")
    depth: Depth = "documents" if decode else "bytes" if read_data else "fast"
    folder, chosen = _meant(runs)
    tree = Tree(folder)
    if chosen is not None:
        return _summary(list(_proofs(tree, chosen, depth, workers, progress)))
    return _verify_all(tree, depth, workers, progress)


def _meant(runs: Any) -> tuple[Folder, list[str] | None]:
    """Give the folder that is meant, and the directories of its runs; None for the whole catalog."""
    given = behind(runs)
    if isinstance(given, Catalog):
        return given.folder, None
    if isinstance(given, Runs):
        return given.catalog.folder, [item.entry.path for item in given.documents()]
    several = [given] if isinstance(given, Run) else [behind(item) for item in given]
    wrong = next((item for item in several if not isinstance(item, Run)), None)
    if wrong is not None:
        raise InvalidOption(f"{wrong!r:.200} is no run of a catalog; give a catalog, a search or runs")
    folders = {run.files.folder.url: run.files.folder for run in several}
    if len(folders) != 1:
        raise InvalidOption(f"the runs are of {len(folders)} catalogs; give those of one")
    return next(iter(folders.values())), [run.directory for run in several]


def behind(given: Any) -> Any:
    """Give what a face shows: the runs of a broker or of the result of a search, or the run of a header."""
    for name in ("runs", "run"):
        if isinstance(shown := getattr(given, name, None), Runs | Run):
            return shown
    return given


def _proofs(tree: Tree, paths: Sequence[str], depth: Depth, workers: int | None, progress: Progress) -> Iterator[Proof]:
    """Prove runs, several at a time, and give them in order."""
    threads = workers or (_REMOTE_THREADS if tree.folder.remote else min(_THREADS, os.cpu_count() or 1))
    size = max(1, min(_RUNS_AT_ONCE, len(paths) // threads))
    chunks = [paths[begin : begin + size] for begin in range(0, len(paths), size)]

    def work(chunk: Sequence[str]) -> list[Proof]:
        tree.fetch(chunk)
        return [prove(tree, path, depth) for path in chunk]

    done = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="filebroker-verify")
    try:
        for proofs in pool.map(work, chunks):
            done += len(proofs)
            progress("runs", done, len(paths))
            yield from proofs
    finally:  # also when it is interrupted
        pool.shutdown(cancel_futures=True)


def _summary(proofs: Sequence[Proof]) -> Verification:
    """Put together what was found out about runs."""
    found = Verification(len(proofs), sum(one.files for one in proofs), sum(one.size for one in proofs))
    for proof in proofs:
        found.damaged.extend(Finding(proof.path, proof.uid, *item) for item in proof.damaged)
        found.remarks.extend(Finding(proof.path, proof.uid, *item) for item in proof.remarks)
        if proof.state == "live":
            found.live.append(proof.path)
        if proof.sha256:
            found.hashes[proof.path] = proof.sha256
    return found


def _verify_all(tree: Tree, depth: Depth, workers: int | None, progress: Progress) -> Verification:
    """Prove a whole catalog."""
    folder = tree.folder
    marker, marker_size = prove_marker(folder)
    ledger = prove_ledger(folder)
    tree.list_all()
    proofs = list(_proofs(tree, list(Inventory(folder)), depth, workers, progress))
    notes, beside, note_files, note_bytes = prove_notes(tree)
    summary = _summary(proofs)
    damaged = [*marker, *misplaced(folder), *ledger.damaged, *notes]
    summary.damaged.extend(Finding("", "", *item) for item in damaged)
    summary.damaged.extend(_doubles(proofs))
    if ledger.is_there:
        _tell_of_ledger(summary, tree, list(_settled(tree, ledger, proofs)))
    states = {proof.path: proof.state for proof in proofs}
    beside += [*ledger.remarks, *remarks_on(folder, states)]
    summary.remarks.extend(Finding("", "", *item) for item in beside)
    files, size = ledger.files + note_files + (marker_size > 0), ledger.size + note_bytes + marker_size
    return Verification(
        summary.runs,
        summary.files + files,
        summary.bytes + size,
        *(summary.damaged, summary.remarks, summary.live, summary.hashes),
    )


def _doubles(proofs: Iterable[Proof]) -> Iterator[Finding]:
    """Give the runs that are there twice."""
    first: dict[str, str] = {}
    for proof in proofs:
        if proof.uid and first.setdefault(proof.uid, proof.path) != proof.path:
            yield Finding(proof.path, proof.uid, layout.DOCUMENTS, f"is of the same uid as {first[proof.uid]}")


def _tell_of_ledger(summary: Verification, tree: Tree, found: Sequence[Finding]) -> None:
    """Note what a ledger says that is not so; of runs that were removed for good that is no damage."""
    removed = removed_for_good(tree) if found else set()
    for finding in found:
        if finding.path in removed:
            summary.remarks.append(finding._replace(what="was removed for good, but not wholly; purge it once more"))
        else:
            summary.damaged.append(finding)


def _settled(tree: Tree, ledger: LedgerProof, proofs: Sequence[Proof]) -> Iterator[Finding]:
    """Give what a ledger says that is not so, also when it is read again: runs begin and end meanwhile."""
    runs = {proof.path: _known(proof) for proof in proofs}
    busy = set(tree.folder.names(layout.LIVE))
    doubtful = dict(disagreements(ledger, runs, busy))
    if not doubtful:
        return
    time.sleep(_SETTLING_SECONDS)
    again = prove_ledger(tree.folder)
    for path in chain(doubtful, set(Inventory(tree.folder)) - runs.keys()):
        tree.forget(path)
        proof = prove(tree, path, "fast")
        if proof.state == "empty" and not tree.sizes(path) and not tree.folder.exists(path):
            runs.pop(path, None)
        else:
            runs[path] = _known(proof)
    busy |= set(tree.folder.names(layout.LIVE))
    uids = {proof.path: proof.uid for proof in proofs}
    for path, what in disagreements(again, runs, busy):
        if path in doubtful:
            yield Finding(path, uids.get(path, ""), "", what)


def _known(proof: Proof) -> Known:
    return Known((0, 0), proof.state, () if proof.damaged else proof.told)
