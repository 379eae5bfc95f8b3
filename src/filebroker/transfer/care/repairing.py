"""Mending a catalog: of damaged runs all that can be read is sealed anew, and what was there is put aside."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from filebroker.cataloging.catalog import Catalog
from filebroker.finding.inventory import Inventory
from filebroker.finding.ledger import LOGS, SNAPSHOTS, Ledger
from filebroker.finding.notes import good_lines
from filebroker.finding.records import Record, record_of
from filebroker.ground import filesystem
from filebroker.ground.errors import (
    DamagedRun,
    DamagedRunWarning,
    InvalidOption,
    LedgerWarning,
    NotSupported,
    ReadOnlyCatalog,
    StorageError,
)
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.ground.progress import Progress, silent
from filebroker.storing import layout
from filebroker.storing.run_files import RunFiles
from filebroker.transfer.care.completion import uid_of, whole_copy
from filebroker.transfer.care.live_salvage import refuse_if_busy, seal_damaged
from filebroker.transfer.care.packed_repair import content, is_packed, mend_packed
from filebroker.transfer.care.proofs import prove, read_manifest
from filebroker.transfer.care.replacements import Replacement, finish_all
from filebroker.transfer.care.salvage import Original, Salvage, place_of, salvage
from filebroker.transfer.care.surroundings import ASIDE
from filebroker.transfer.care.trees import NO_FILE, Tree
from filebroker.transfer.care.verifying import Finding, behind, verify

_LOCK = ".lock"
_LINE_END = b"\n"

#: What became of something damaged: it is as it was; what could be read of it was kept; nothing could be done.
Outcome = Literal["restored", "salvaged", "left"]


class Repaired(NamedTuple):
    """What was done about one run, or a file of no run.

    Attributes
    ----------
    path : str
        The run's directory, or the file.
    uid : str
        The run's uid; empty where that cannot be told.
    outcome : str
        ``restored`` (it is as it was sealed), ``salvaged`` (what could be read of it was sealed anew) or ``left``
        (nothing was done).
    lost : int
        How many documents are lost, as far as that is known.
    detail : str
        What was lost, or why it was left.
    kept : str
        The directory in the catalog that has what was there before; empty if nothing was replaced.

    Examples
    --------
    >>> import os
    >>> from filebroker import repair, temp
    >>> db = temp()
    >>> os.makedirs(db.catalog.folder.path("_notes/20251122T143205.250000Z-ana-0123abcd.jsonl"))
    >>> report = repair(db)
    >>> report.repaired[0].outcome, report.repaired[0].detail
    ('salvaged', 'nothing can be read of it for certain')
    """

    path: str
    uid: str
    outcome: Outcome
    lost: int = 0
    detail: str = ""
    kept: str = ""


@dataclass(frozen=True)
class RepairReport:
    """What `repair` did.

    Attributes
    ----------
    repaired : list of Repaired
        One for each run that was damaged, and for each other damaged file.
    is_dry : bool
        Whether nothing was changed, and this is what would be done.

    Examples
    --------
    >>> from filebroker import repair, temp
    >>> db = temp()
    >>> repair(db).ok
    True
    """

    repaired: list[Repaired] = field(default_factory=list)
    is_dry: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing damaged is left.

        Examples
        --------
        >>> from filebroker import repair, temp
        >>> repair(temp(), dry_run=True).ok
        True
        """
        return all(item.outcome != "left" for item in self.repaired)

    def __repr__(self) -> str:
        counts = {
            name: sum(item.outcome == name for item in self.repaired) for name in ("restored", "salvaged", "left")
        }
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing was damaged"
        return f"<RepairReport{' (dry run)' * self.is_dry}: {told}>"


def repair(
    catalog: Catalog | Any,
    *,
    source: Catalog | Any | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> RepairReport:
    """Mend what is damaged in a catalog on a local disk.

    Whatever has its checksum in the manifest, and is whole in another copy, is taken from there.  What of a run cannot
    be had again is left out, and the manifest then says what.  Nothing is deleted: the files that were replaced are put
    aside below ``_damaged``.  Interrupted at any moment, it can be called again.

    Parameters
    ----------
    catalog
        The catalog, or its broker, opened for writing.
    source
        Another copy of it, anywhere.
    dry_run
        Change nothing, and tell what would be done.
    workers
        How many threads read, as for `verify`.
    progress
        Is told how many runs were looked at, and how many repaired.

    Returns
    -------
    RepairReport
        What was done.

    Raises
    ------
    ReadOnlyCatalog
        The catalog was opened for reading.
    NotSupported
        It is not on a local disk.
    StorageError
        The filesystem refused, or another repair is going on.

    Examples
    --------
    >>> from filebroker import repair, temp
    >>> db = temp()
    >>> repair(db)
    <RepairReport: nothing was damaged>
    """
    mended = _opened(catalog)
    root = mended.folder.local
    if root is None:
        raise NotSupported(
            f"{mended.folder.url} is in a store, where nothing can be put aside; copy it to a disk, repair the copy "
            "with the option source if there is another one, and copy it back"
        )
    if mended.read_only and not dry_run:
        raise ReadOnlyCatalog(f"the catalog {root} was opened for reading; nothing can be repaired")
    copy = None if source is None else _opened(source)
    with warnings.catch_warnings():  # what they would tell is in the report
        warnings.simplefilter("ignore", LedgerWarning)
        warnings.simplefilter("ignore", DamagedRunWarning)
        work = _Work(mended, root, copy, dry_run)
        return RepairReport(work.do(workers, progress), dry_run)


def _opened(given: Any) -> Catalog:
    catalog = behind(given)
    if not isinstance(catalog, Catalog):
        raise InvalidOption(f"{given!r:.200} is no catalog; a whole catalog is repaired, or nothing")
    return catalog


class _Work:
    """The repair of one catalog."""

    def __init__(self, catalog: Catalog, root: str, source: Catalog | None, is_dry: bool) -> None:
        self._catalog, self._root, self._is_dry = catalog, root, is_dry
        self._tree = Tree(catalog.folder)
        self._source = None if source is None else Tree(source.folder)
        self._records: dict[str, Record] = {}

    def do(self, workers: int | None, progress: Progress) -> list[Repaired]:
        lock = None if self._is_dry else self._locked()
        try:
            if lock is not None:
                finish_all(self._root, self._announce)
            found = verify(self._catalog, read_data=True, workers=workers, progress=progress)
            repaired = self._mend_all(found.damaged, progress) if found.damaged else []
            done = {item.path for item in repaired}
            return repaired + [item for item in self._complete() if item.path not in done]
        finally:
            if lock is not None:
                try:
                    lock.remove()
                finally:  # also when that is not possible
                    lock.release()
                _remove_if_empty(os.path.join(self._root, ASIDE))

    def _locked(self) -> FileLock:
        directory = os.path.join(self._root, ASIDE)
        filesystem.make_directory(directory)
        lock = FileLock(os.path.join(directory, _LOCK))
        try:
            is_ours = lock.acquire()
        except OSError as error:
            raise StorageError(error.errno, f"cannot write to {directory}: {error.strerror}") from error
        if not is_ours:
            raise StorageError(f"{self._root} is being repaired by another process; wait for that")
        return lock

    def _mend_all(self, damaged: Sequence[Finding], progress: Progress) -> list[Repaired]:
        runs: dict[str, list[Finding]] = {}
        for finding in damaged:
            if layout.is_run_path(finding.path):
                runs.setdefault(finding.path, []).append(finding)
        self._records = known_records(self._catalog.folder)
        strays = self._strays(runs)
        repaired = []
        for number, (path, findings) in enumerate(runs.items(), start=1):
            one = self._mend(path, findings, strays)
            if one is not None:
                repaired.append(one)
            progress("repairs", number, len(runs))
        repaired += self._mend_beside(damaged)
        return repaired

    def _strays(self, runs: Iterable[str]) -> dict[str, bytes]:
        """Give the documents of runs that are whole and in the place of another run."""
        strays = {}
        for path in runs:
            if self._tree.sizes(path).get(layout.DOCUMENTS, NO_FILE) != NO_FILE:
                text = self._tree.read(f"{path}/{layout.DOCUMENTS}")
                place = place_of(text)
                if place not in ("", path) and not read_manifest(text)[1]:
                    strays[place] = text
        return strays

    def _complete(self) -> Iterator[Repaired]:
        """Put whole runs of the copy in the place of those that were damaged before they were sealed."""
        if self._source is None:
            return
        self._records = self._records or known_records(self._catalog.folder)
        for path in Inventory(self._catalog.folder):
            whole = whole_copy(self._tree, self._source, path)
            if whole is not None:
                replacement = None if self._is_dry else Replacement(self._root, path)
                if replacement is not None:
                    self._replace(replacement, whole)
                kept = "" if replacement is None else replacement.kept
                yield Repaired(path, uid_of(whole.text), "restored", kept=kept)

    # -- one run

    def _mend(self, path: str, findings: Sequence[Finding], strays: dict[str, bytes]) -> Repaired | None:
        """Mend a run; None if only what the ledger says of it is wrong."""
        uid = next((finding.uid for finding in findings if finding.uid), "")
        damaged = [file for file, _ in prove(self._tree, path, "bytes").damaged]
        if not damaged:
            is_double = any(finding.file for finding in findings)
            return Repaired(path, uid, "left", detail="is there twice; trash one of them") if is_double else None
        replacement = None if self._is_dry else Replacement(self._root, path)
        packed = [file for file in damaged if is_packed(file)]
        left = mend_packed(self._tree, path, packed, self._source, replacement) if packed else []
        kept = "" if replacement is None else replacement.kept
        try:
            if len(packed) == len(damaged):
                done = Repaired(path, uid, "restored", kept=kept)
                if replacement is not None:
                    replacement.finish()
            elif self._is_live(path):
                done = self._seal(path, uid, replacement, strays)
            else:
                done = self._salvage(path, uid, replacement, strays)
        except DamagedRun as error:
            return Repaired(path, uid, "left", detail=str(error))
        if left:
            detail = f"give a good copy (source) of {', '.join(left)}; {done.detail}".removesuffix("; ")
            return done._replace(outcome="left", detail=detail)
        return done

    def _is_live(self, path: str) -> bool:
        names = self._tree.sizes(path)
        return layout.DOCUMENTS not in names and any(layout.segment_of(name) for name in names)

    def _seal(self, path: str, uid: str, replacement: Replacement | None, strays: dict[str, bytes]) -> Repaired:
        """Seal a run whose writer is gone."""
        if replacement is None:
            refuse_if_busy(self._root, path)
            return Repaired(path, uid, "salvaged", detail="is sealed with what can be read of it")
        seal_damaged(self._root, path, self._records.get(path), replacement)
        if prove(self._tree, path, "bytes").damaged:
            return self._salvage(path, uid, replacement, strays)
        self._announce(path)
        replacement.finish()
        losses = RunFiles(Folder(self._root), path).losses
        return Repaired(path, uid, "salvaged", detail="; ".join(losses), kept=replacement.kept)

    def _salvage(self, path: str, uid: str, replacement: Replacement | None, strays: dict[str, bytes]) -> Repaired:
        """Seal a run anew."""
        found = salvage(self._tree, path, Original(self._records.get(path), self._source, strays))
        kept = ""
        if replacement is not None:
            self._replace(replacement, found)
            kept = replacement.kept
        outcome: Outcome = "salvaged" if found.losses else "restored"
        return Repaired(path, uid, outcome, found.lost, "; ".join(found.losses), kept)

    def _replace(self, replacement: Replacement, found: Salvage) -> None:
        replacement.put(found.text, found.pages, found.removed, found.losses)
        self._announce(replacement.path)
        replacement.finish()

    def _announce(self, path: str) -> None:
        """Tell the ledger how a run is now, if there is a ledger."""
        library = self._catalog.library
        if not library.has_ledger:
            return
        known = self._records.get(path) or known_records(self._catalog.folder).get(path)
        revision = 1 if known is None else known.revision + 1
        library.ledger.append([record_of(RunFiles(Folder(self._root), path), revision)], sync=True)

    # -- what is beside the runs

    def _mend_beside(self, damaged: Sequence[Finding]) -> list[Repaired]:
        files = dict.fromkeys(finding.file for finding in damaged if not finding.path)
        notes = [name for name in files if name.startswith(f"{layout.NOTES}/")]
        repaired = [self._mend_file(name) for name in [*notes, *(name for name in files if name == layout.MARKER)]]
        others = [name for name in files if layout.is_run_directory(name)]
        repaired += [Repaired(name, "", "left", detail="is not in its place; move it by hand") for name in others]
        is_ledger_damaged = any(name.startswith(layout.LEDGER) for name in files)
        disagreeing = any(finding.path and not finding.file for finding in damaged)
        if is_ledger_damaged or disagreeing:
            repaired.append(self._mend_ledger())
        return repaired

    def _mend_file(self, name: str) -> Repaired:
        """Put a damaged file aside, and that of another copy in its place."""
        theirs = b"" if self._source is None else _read_or_nothing(self._source, name)
        if name == layout.MARKER and not theirs:
            return Repaired(name, "", "left", detail="cannot be made anew; take it from a copy of the catalog")
        own = b"" if theirs else good_lines(_read_or_nothing(self._tree, name))
        outcome: Outcome = "restored" if theirs else "salvaged"
        if self._is_dry:
            return Repaired(name, "", outcome)
        replacement = Replacement(self._root, name)
        replacement.put_file(theirs or own)
        detail = "nothing can be read of it for certain"
        if own:
            detail = f"of its lines {own.count(_LINE_END)} could be read; what the others said of runs is lost"
        return Repaired(name, "", outcome, 0, "" if theirs else detail, replacement.kept)

    def _mend_ledger(self) -> Repaired:
        """Make the ledger anew of the run directories, after its files were put aside."""
        if self._is_dry:
            return Repaired(layout.LEDGER, "", "restored")
        replacement = Replacement(self._root, layout.LEDGER)
        names = [f"{place}/{name}" for place in (LOGS, SNAPSHOTS) for name in self._catalog.folder.names(place)]
        replacement.keep(name.removeprefix(f"{layout.LEDGER}/") for name in names if not name.endswith(".tmp"))
        replacement.plan({})
        self._catalog.reindex()
        replacement.finish()
        return Repaired(layout.LEDGER, "", "restored", kept=replacement.kept)


def known_records(folder: Folder) -> dict[str, Record]:
    """Give what a ledger says of each run, damaged parts left out."""
    ledger, found = Ledger(folder), dict[str, Record]()
    for name in ledger.files():
        try:
            for record in ledger.read(name).records:
                if record.path not in found or record.rank > found[record.path].rank:
                    found[record.path] = record
        except (FileNotFoundError, StorageError, ValueError):  # what cannot be read is told by who verifies
            continue
    return found


def _read_or_nothing(tree: Tree, name: str) -> bytes:
    return content(tree, name) or b""


def _remove_if_empty(directory: str) -> None:
    """Remove a directory if nothing is in it."""
    if os.path.isdir(directory) and not os.listdir(directory):
        os.rmdir(directory)
