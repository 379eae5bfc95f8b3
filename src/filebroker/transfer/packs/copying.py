"""Copies of runs from one catalog to another: their files as they are, each checked before the run is announced."""

import os
from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from filebroker.cataloging import packed
from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.receiving import Receiver
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress, silent
from filebroker.storing import layout
from filebroker.transfer.packs.annotations import Carrier
from filebroker.transfer.packs.assets import MissingFile
from filebroker.transfer.packs.bundles import Bundle
from filebroker.transfer.packs.copy_reports import CopyReport, Problem
from filebroker.transfer.packs.depots import LocalDepot, Source, Target, Written, depot_of

_ENDING = ".damaged"


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
    copier = Copier(catalog, report)
    chosen = list(each(runs))
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
    if isinstance(runs, Run):
        yield runs
    elif isinstance(runs, Held):  # a header can also be iterated over, and gives names then
        yield runs.run
    else:
        for item in reversed(list(runs)):
            yield item if isinstance(item, Run) else item.run


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
        #: The documents that the target has of the run that was just looked at.
        self._there: bytes | None = None
        self._notes = Carrier(lambda: self._depot.sizes(layout.NOTES), self._write_notes)

    def finish(self) -> None:
        """Copy the annotations of the runs, and wait until everything is where it has to be."""
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

    def copy(self, source: Source, directory: str, files: Source) -> Bundle | None:
        """Copy a run, and put into the report what came of it.

        Parameters
        ----------
        source
            Where it is.
        directory
            Its directory.
        files
            Where the files are that were packed together with it.

        Returns
        -------
        Bundle or None
            The run; None if it was not taken.
        """
        bundle = self.check(source, directory)
        if bundle is None:
            return None
        self._copy_files(files, bundle)
        self.annotate(files, bundle)
        return bundle if self.place(source, bundle) else None

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
        if reason := self._conflict(bundle):
            self._refuse(bundle.uid, "conflict", reason)
            return None
        return bundle

    def _refuse(self, run: str, kind: str, reason: str) -> None:
        self._report.problems.append(Problem(run, kind, reason))

    def _conflict(self, bundle: Bundle) -> str:
        """Say what is in the way of a run in the target."""
        there = self._catalog.of_uid(bundle.uid)
        if there is not None and there.directory != bundle.directory:
            return f"another run of this uid is in {self._catalog.folder.path(there.directory)}; nothing was changed"
        discarded = self._catalog.library.discarded(bundle.uid)
        if discarded is not None:
            return f"in {self._catalog.folder.url} {discarded.story}; {discarded.remedy}"
        text = self._there = self._text(bundle)
        if text is None:
            if there is not None and there.state == "live":
                return f"it is being recorded in {self._catalog.folder.path(there.directory)}; nothing was changed"
            return ""
        if text == bundle.text:
            return ""
        return f"the one in {self._catalog.folder.path(bundle.directory)} has other documents; nothing was changed"

    def _text(self, bundle: Bundle) -> bytes | None:
        """Give the documents of a run that is in the target, None if it is not."""
        try:
            return self._catalog.folder.read(f"{bundle.directory}/{layout.DOCUMENTS}")
        except FileNotFoundError:
            return None

    # -- files

    def place(self, source: Source, bundle: Bundle) -> bool:
        """Put the documents and pages of a run in their place, if they are not there; False if that cannot be."""
        report = self._report
        if reason := self._conflict(bundle):  # somebody else was faster, while its files were copied
            self._refuse(bundle.uid, "conflict", reason)
            return False
        lacking = self._lacking(bundle)
        if not lacking:
            report.known.append(bundle.uid)
            if self._receiver is not None and self._catalog.of_uid(bundle.uid) is None:
                self._receiver.announce(bundle.directory)  # who copied it came no further
            return True
        if self._receiver is not None:
            try:
                self._receiver.take(
                    bundle.directory, lambda root, place: write_run(source, bundle, lacking, LocalDepot(root), place)
                )
            except DamagedRun as error:
                self._refuse(bundle.uid, "damaged", f"{error}; 'filebroker repair' may help")
                return False
        report.copied.append(bundle.uid)
        report.documents += bundle.documents
        report.bytes += bundle.bytes
        return True

    def _lacking(self, bundle: Bundle) -> list[str]:
        """Give the files of a run that are not in the target."""
        folder = self._catalog.folder
        text = self._there
        if text is not None and folder.on_disk(bundle.directory) is None:
            return []  # in a store documents come last, and pages are compared
        sizes = LocalDepot(self._root).sizes(bundle.directory) if folder.local is not None else {}
        lacking = [path for path, page in bundle.pages.items() if sizes.get(path) != page.bytes]
        return lacking + [layout.DOCUMENTS] * (text is None or bool(lacking))

    @property
    def _root(self) -> str:
        return self._catalog.folder.path("")

    def _copy_files(self, source: Source, bundle: Bundle) -> None:
        """Copy the files that were packed together with a run, and then the map of them."""
        home = f"{bundle.directory}/{packed.DIRECTORY}"
        name = f"{home}/{packed.MAP}"
        try:
            text = source.read(name)
            found = packed.read_map(text, f"{source.label}/{name}")
        except FileNotFoundError:
            return
        except (DamagedRun, UnsupportedFormat) as error:
            self._miss(bundle, source, name, str(error))
            return
        if found.damage:  # it would not be known which of the files are whose
            self._miss(bundle, source, name, found.damage[0])
            return
        present = self._depot.sizes(home)
        for file in found.files:
            self._report.external_files += 1
            self._report.external_bytes += file.bytes
            if self._receiver is not None and present.get(file.path) != file.bytes:
                self._copy_file(source, bundle, f"{home}/{file.path}", Written(file.bytes, file.sha256))
        is_there = present.get(packed.MAP) == len(text) and self._depot.read(name) == text
        if self._receiver is not None and not is_there:
            self._depot.write(name, [text])

    def _copy_file(self, source: Source, bundle: Bundle, name: str, expected: Written) -> None:
        try:
            self._depot.write(name, source.pieces(name), expected)
        except FileNotFoundError:
            self._miss(bundle, source, name, "there is no such file in the pack")
        except DamagedRun as error:
            self._miss(bundle, source, name, str(error))

    def _miss(self, bundle: Bundle, source: Source, name: str, reason: str) -> None:
        self._report.missing.append(MissingFile(bundle.uid, "", f"{source.label}/{name}", reason))


def write_run(source: Source, bundle: Bundle, lacking: Iterable[str], target: Target, place: str) -> None:
    """Write the files of a run, and last that which makes it a run.

    Parameters
    ----------
    source, bundle
        Where the run is, and what it is.
    lacking
        The pages that are to be written.
    target, place
        Where they are to be written, and to which directory.

    Raises
    ------
    DamagedRun
        A page is not what was sealed.
    StorageError
        A filesystem refused.
    """
    for path in lacking:
        if path == layout.DOCUMENTS:
            continue
        expected = bundle.pages[path] if bundle.is_whole else None
        try:
            target.write(f"{place}/{path}", source.pieces(f"{bundle.directory}/{path}"), expected)
        except FileNotFoundError as error:
            if bundle.is_whole:
                raise DamagedRun(f"its page {path} is missing") from error
    for path in source.sizes(bundle.directory):
        if path.endswith(_ENDING) and "/" not in path:
            target.write(f"{place}/{path}", source.pieces(f"{bundle.directory}/{path}"))
    target.write(f"{place}/{layout.DOCUMENTS}", [bundle.text])
