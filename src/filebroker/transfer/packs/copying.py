"""Copies of runs from one catalog to another: their files as they are, each checked before the run is announced."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.receiving import Receiver, Written
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress, silent
from filebroker.storing import layout
from filebroker.transfer.chosen import checked, runs_of
from filebroker.transfer.packs.annotations import Carrier
from filebroker.transfer.packs.assets import MissingFile
from filebroker.transfer.packs.bundles import Bundle, write_run
from filebroker.transfer.packs.copy_reports import CopyReport, Problem
from filebroker.transfer.packs.depots import LocalDepot, Source, depot_of
from filebroker.transfer.packs.packed_copies import PackedCopies, copy_packed
from filebroker.transfer.packs.writers import Writers


@runtime_checkable
class Held(Protocol):
    """What holds a run, as the header of one does."""

    @property
    def run(self) -> Run:
        """The run."""


#: A catalog, the result of a search, a run or its header, or several.
Chosen = Runs | Run | Held | Iterable[Run | Held]


def copy_runs(
    runs: Chosen,
    target: Catalog | str | os.PathLike[str],
    *,
    dry_run: bool = False,
    progress: Progress = silent,
) -> CopyReport:
    """Copy runs to another catalog, on any filesystem, as they are.

    A run appears there when all of its files are there and were checked.  One that is there already, the same, is
    passed over; so a copy that was interrupted is finished by repeating it.  Files that were packed together with a
    run are copied with it; external files elsewhere stay where they are: `pack` takes them along.

    Parameters
    ----------
    runs
        A catalog, the result of a search, a run or its header, or several.
    target
        A catalog, or where one is or shall be made: a local directory or an fsspec URL.
    dry_run
        Write nothing, and tell what would be copied.
    progress
        Is told how far it has come.

    Returns
    -------
    CopyReport
        What was copied, and what was not: a run that is being recorded, one that differs from the one in the target,
        one that is damaged.

    Raises
    ------
    ReadOnlyCatalog
        The target cannot be written to.
    StorageError
        A filesystem refused.  What was copied before stays.

    Examples
    --------
    >>> from filebroker import Broker, Catalog
    >>> example = Broker.named("example").catalog
    >>> copy_runs(example.search({"plan_name": "scan"}), "scans")
    <CopyReport: 5 runs copied (... documents, ...)>
    >>> len(Catalog("scans"))
    5
    """
    catalog = target if isinstance(target, Catalog) else Catalog(target)
    report = CopyReport(dry_run=dry_run)
    chosen = list(each(runs))
    with Copier(catalog, report) as copier:
        for number, run in enumerate(chosen, 1):
            folder = run.files.folder
            copier.copy(source_of(folder, run.directory), run.directory, depot_of(folder))
            progress("copying runs", number, len(chosen))
        copier.finish()
    return report


def source_of(folder: Folder, directory: str) -> Source:
    """Give the files of the catalog of a run: where its documents are, though they may be on their way to a store."""
    if folder.local is None and folder.staged is not None and folder.staged.holds(f"{directory}/{layout.DOCUMENTS}"):
        return LocalDepot(folder.staged.root)
    return depot_of(folder)


def each(runs: Chosen) -> Iterator[Run]:
    """Give runs one by one, the oldest first: so each comes after those that it may refer to."""
    return map(checked, reversed(list(runs_of(runs))))


class Begun(NamedTuple):
    """Where the files of a run are written.

    Attributes
    ----------
    written : Written
        Its documents and pages.
    home : str
        The directory that gets its packed files.
    """

    written: Written
    home: str


class Copier:
    """Copies runs into one catalog.

    Parameters
    ----------
    catalog
        The catalog.
    report
        What came of it is put there.
    """

    def __init__(self, catalog: Catalog, report: CopyReport) -> None:
        self._catalog, self._report = catalog, report
        self._receiver = None if report.dry_run else Receiver(catalog)
        self._depot = depot_of(catalog.folder)
        #: Of a dry run, the documents of the runs that would be copied, in short.
        self._foreseen: dict[str, bytes] = {}
        self._writers: Writers[_Placing] = Writers(self._settle)
        self._notes = Carrier(lambda: self._depot.sizes(layout.NOTES), self._write_notes)

    def __enter__(self) -> "Copier":
        self._writers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writers.__exit__(kind, error, trace)
        finally:
            if self._receiver is not None:
                self._receiver.close()

    def finish(self) -> None:
        """Copy the annotations of the runs, and wait until everything is where it has to be."""
        self._writers.finish()
        if self._receiver is not None:
            self._notes.deliver()
            self._receiver.finish()

    def _write_notes(self, name: str, data: bytes) -> None:
        self._depot.write(f"{layout.NOTES}/{name}", [data])
        self._catalog.library.add_notes(name, data)

    def annotate(self, source: Source, bundle: Bundle) -> None:
        """Have the annotations of a run follow it.

        Parameters
        ----------
        source
            The catalog that it comes from.
        bundle
            The run.
        """
        self._notes.add(source, bundle.directory)

    def copy(self, source: Source, directory: str, files: Source) -> None:
        """Copy a run; the report says in the end what came of it.

        Parameters
        ----------
        source
            Where it is.
        directory
            Its directory.
        files
            Where the files are that were packed together with it.
        """
        bundle = self.check(source, directory)
        if bundle is not None:
            self.place(source, bundle, files=files)

    def check(self, source: Source, directory: str) -> Bundle | None:
        """Read a run's documents, and look whether it can be taken; else the report says why not."""
        try:
            bundle = Bundle(source, directory)
        except FileNotFoundError:
            self._refuse(directory, "live", "it is being recorded; copy it again when it has ended")
            return None
        except (DamagedRun, UnsupportedFormat) as error:
            self._refuse(directory, "damaged", f"{error}; 'filebroker repair' may help")
            return None
        if self._writers.has(bundle.uid):  # the list has it twice
            self._writers.finish()
        if self._foreseen.get(bundle.uid) == bundle.digest:
            self._report.known.append(bundle.uid)
            return None
        if reason := self._conflict(bundle)[0]:
            self._refuse(bundle.uid, "conflict", reason)
            return None
        return bundle

    def _refuse(self, run: str, kind: str, reason: str) -> None:
        self._report.problems.append(Problem(run, kind, reason))

    def _conflict(self, bundle: Bundle) -> tuple[str, bytes | None]:
        """Say what is in the way of a run in the target, and give the documents that this has of it."""
        there = self._catalog.of_uid(bundle.uid)
        if there is not None and there.directory != bundle.directory:
            where = self._catalog.folder.path(there.directory)
            return f"another run of this uid is in {where}; nothing was changed", None
        discarded = self._catalog.library.discarded(bundle.uid)
        if discarded is not None:
            return f"in {self._catalog.folder.url} {discarded.story}; {discarded.remedy}", None
        text, place = self._text(bundle), self._catalog.folder.path(bundle.directory)
        if text is None and there is not None and there.state == "live":
            return f"it is being recorded in {place}; nothing was changed", None
        if text in (None, bundle.text):
            return "", text
        return f"the one in {place} has other documents; nothing was changed", text

    def _text(self, bundle: Bundle) -> bytes | None:
        """Give the documents of a run that is in the target, None if it is not."""
        try:
            return self._catalog.folder.read(f"{bundle.directory}/{layout.DOCUMENTS}")
        except FileNotFoundError:
            return None

    # -- files

    def begin(self, bundle: Bundle) -> Begun:
        """Say where the files of a run are to be written.

        Parameters
        ----------
        bundle
            The run.
        """
        if self._receiver is None:
            return Begun(Written(bundle.directory, bundle.directory), bundle.directory)
        written = self._receiver.begin(bundle.directory)
        return Begun(written, bundle.directory if self._catalog.folder.local is None else written.place)

    def place(self, source: Source, bundle: Bundle, begun: Begun | None = None, files: Source | None = None) -> None:
        """Put the documents and pages of a run in their place, if they are not there; and before them packed files.

        Parameters
        ----------
        source
            Where the run is.
        bundle
            The run.
        begun
            What `begin` gave, if packed files were written there.
        files
            Where its packed files are; None if there is nothing to be done about them.
        """
        placing, stoppable = _Placing(bundle, begun or self.begin(bundle), files), self._writers.stoppable
        if self._receiver is None:
            self._foreseen[bundle.uid] = bundle.digest
            self._settle([self._write(source, files, placing)])
        else:
            given = None if files is None else stoppable(files)
            self._writers.give(bundle.uid, lambda: self._write(stoppable(source), given, placing))

    def _write(self, source: Source, files: Source | None, placing: "_Placing") -> "_Placing":
        """Write what the target lacks of a run; of several runs this is done at the same time."""
        bundle, begun = placing.bundle, placing.begun
        if files is not None:
            dry_run = self._receiver is None
            placing.copies = copy_packed(files, bundle.directory, self._depot, begun.home, dry_run=dry_run)
            if placing.copies.conflict:
                return placing.refuse("conflict", placing.copies.conflict)
        reason, text = self._conflict(bundle)
        if reason:  # somebody else was faster, while its files were copied
            return placing.refuse("conflict", reason)
        lacking = self._lacking(bundle, text)
        placing.is_known = not lacking
        if self._receiver is not None and lacking:
            is_up = text is not None and self._catalog.folder.on_disk(bundle.directory) is None
            target = self._depot if is_up else LocalDepot(self._receiver.root)
            try:
                write_run(source, bundle, lacking, target, bundle.directory if is_up else begun.written.place)
            except DamagedRun as error:
                return placing.refuse("damaged", f"{error}; 'filebroker repair' may help")
        return placing

    def _settle(self, placings: "Sequence[_Placing]") -> None:
        """Announce runs that were written, and put into the report what came of them."""
        if self._receiver is not None:
            self._take(self._receiver, placings)
        for placing in placings:
            self._tell(placing)

    def _take(self, receiver: Receiver, placings: "Sequence[_Placing]") -> None:
        taken = []
        for placing in placings:
            if placing.problem is not None:
                receiver.drop(placing.begun.written)
            elif not placing.is_known or placing.begun.written.is_aside or self._catalog.of_uid(placing.uid) is None:
                taken.append(placing)  # if it is known nobody may know: who copied it came no further
        refused = receiver.take([placing.begun.written for placing in taken])
        for placing in taken:
            if placing.bundle.directory in refused:
                where = self._catalog.folder.path(placing.bundle.directory)
                placing.refuse("conflict", f"another run of this uid has just come to {where}; nothing was changed")

    def _tell(self, placing: "_Placing") -> None:
        report, bundle, copies = self._report, placing.bundle, placing.copies
        report.external_files += copies.files
        report.external_bytes += copies.bytes
        report.missing += [MissingFile(bundle.uid, "", lost.path, lost.reason) for lost in copies.lost]
        if placing.files is not None and not copies.conflict:
            self._notes.add(placing.files, bundle.directory)
        if placing.problem is not None:
            report.problems.append(placing.problem)
        elif placing.is_known:
            report.known.append(bundle.uid)
        else:
            report.copied.append(bundle.uid)
            report.documents += bundle.documents
            report.bytes += bundle.bytes

    def _lacking(self, bundle: Bundle, text: bytes | None) -> list[str]:
        """Give the files of a run that are not in the target, which has these documents of it."""
        folder = self._catalog.folder
        if folder.local is None and text is None:
            return [*bundle.pages, layout.DOCUMENTS]
        if folder.on_disk(bundle.directory) is not None and folder.local is None:
            return []  # it is on its way, as a whole
        if text is not None and not bundle.is_whole:
            return []  # nobody knows which of its pages there are
        sizes = self._depot.sizes(bundle.directory)
        lacking = [path for path, page in bundle.pages.items() if sizes.get(path) != page.bytes]
        return lacking + [layout.DOCUMENTS] * (text is None or bool(lacking))

    @property
    def _root(self) -> str:
        return self._catalog.folder.path("")


@dataclass
class _Placing:
    """What came of copying one run."""

    bundle: Bundle
    begun: Begun
    files: Source | None
    copies: PackedCopies = field(default_factory=PackedCopies)
    is_known: bool = False
    problem: Problem | None = None

    @property
    def uid(self) -> str:
        return self.bundle.uid

    def refuse(self, kind: str, reason: str) -> "_Placing":
        self.problem = Problem(self.uid, kind, reason)
        return self
