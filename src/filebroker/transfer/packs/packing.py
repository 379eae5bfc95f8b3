"""Packs: some runs of a catalog as a catalog of their own, with the external files that they refer to."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Protocol, get_args

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.recording import new_marker
from filebroker.cataloging.run import Run
from filebroker.finding.inventory import Inventory
from filebroker.finding.ledger import SNAPSHOTS
from filebroker.finding.records import Record, record_of
from filebroker.finding.snapshots import encode_snapshot
from filebroker.ground import codec, filesystem
from filebroker.ground.errors import DamagedRun, InvalidOption, PackExists, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress, silent
from filebroker.storing import layout
from filebroker.transfer.chosen import handlers_of
from filebroker.transfer.packs.annotations import Carrier, discarded_in
from filebroker.transfer.packs.archives import ZipWriter, refuse_another
from filebroker.transfer.packs.asset_copies import Copies, copy_assets
from filebroker.transfer.packs.assets import RunAssets, assets_of
from filebroker.transfer.packs.bundles import Bundle, write_run
from filebroker.transfer.packs.copy_reports import CopyReport, Problem
from filebroker.transfer.packs.copying import Begun, Chosen, Copier, each, source_of
from filebroker.transfer.packs.crate import Entry, descriptions, entry_of, map_in
from filebroker.transfer.packs.depots import Source, Target, depot_of

#: What is done about external files: they are packed, or left where they are and counted, or not looked for.
Files = Literal["copy", "reference", "omit"]
#: Says in the marker of a catalog that it is a pack.
_PACK = "pack"
#: Stands for the documents of a run that could only be packed in part.
_IN_PART = b"in part"


@dataclass(repr=False)
class PackReport(CopyReport):
    """What came of packing runs.

    Attributes
    ----------
    copied, known, documents, bytes, external_files, external_bytes, missing, problems, trashed, dry_run
        As in `CopyReport`.
    target : str
        Where the pack is, or would be.

    Examples
    --------
    >>> from filebroker import Broker, pack
    >>> report = pack(Broker.named("example").catalog, "share", dry_run=True)
    >>> report
    <PackReport: 22 runs to be packed (213 documents, ...)>
    >>> report.target
    'share'
    """

    target: str = ""
    verb: ClassVar[str] = "packed"


def pack(
    runs: Chosen,
    target: str | os.PathLike[str],
    *,
    files: Files = "copy",
    handlers: Handlers | None = None,
    dry_run: bool = False,
    zip: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> PackReport:
    """Make a catalog of some runs that can be given away, with the external files that they refer to.

    What is packed is a catalog: it opens where it is, after it was moved, and in a store.  A pack that was interrupted
    is finished by repeating the call, and more runs can be packed into it.  Runs that are being recorded are left out.

    Parameters
    ----------
    runs
        A catalog, the result of a search, a run or its header, or several.
    target
        Where the pack shall be: a local directory or an fsspec URL that has nothing else; of a ZIP file its path.
    files
        ``copy`` to pack external files, ``reference`` to leave them where they are and say how many there are, ``omit``
        not to look for them.
    handlers
        Who can list the external files, and where roots have moved; None for those of the broker that headers or a
        search are of, else for the handlers that installed packages bring.
    dry_run
        Write nothing, and tell what would be packed.
    zip
        Make one ZIP file.
    storage_options
        Arguments of the fsspec filesystem of the target.
    progress
        Is told how far it has come.

    Returns
    -------
    PackReport
        What was packed, what was missing and why.

    Raises
    ------
    PackExists
        There is something else in that place.
    StorageError
        A filesystem refused.
    InvalidOption
        ``files`` is none of its values.

    Examples
    --------
    >>> from filebroker import Broker, Catalog
    >>> example = Broker.named("example").catalog
    >>> pack(example.search({"plan_name": "scan"}), "share")
    <PackReport: 5 runs packed (... documents, ...)>
    >>> len(Catalog("share"))
    5
    """
    if files not in get_args(Files):
        raise InvalidOption(f"files={files!r} means nothing; it is one of {', '.join(map(repr, get_args(Files)))}")
    report = PackReport(target=os.fspath(target), dry_run=dry_run)
    chosen, handlers = list(each(runs)), handlers or handlers_of(runs) or Handlers()
    with _packer(os.fspath(target), report, storage_options, is_zip=zip) as packer:
        for number, run in enumerate(chosen, 1):
            _pack_run(run, packer, report, files, handlers)
            progress("packing runs", number, len(chosen))
    return report


class _Packer(Protocol):
    """Puts runs into a pack."""

    target: Target | None

    def check(self, source: Source, directory: str) -> Bundle | None:
        """Read a run's documents; None, and the report says why, if it cannot be packed."""

    def begin(self, bundle: Bundle) -> str:
        """Give the directory that gets the external files of a run."""

    def place(self, source: Source, bundle: Bundle, run: Run, copies: Copies) -> None:
        """Put the documents and pages of a run into the pack."""


def _pack_run(run: Run, packer: _Packer, report: PackReport, files: Files, handlers: Handlers) -> None:
    source = source_of(run.files.folder, run.directory)
    bundle = packer.check(source, run.directory)
    if bundle is None:
        return
    assets = RunAssets(run.uid) if files == "omit" else assets_of(run, handlers)
    report.external_files += len(assets.files)
    report.external_bytes += assets.bytes
    if files == "copy":
        report.missing += assets.missing
    copies = Copies(b"", [])
    if files == "copy" and packer.target is not None:
        copies = copy_assets(assets, packer.target, packer.begin(bundle))
        report.missing += copies.missing
    packer.place(source, bundle, run, copies)


@contextlib.contextmanager
def _packer(
    path: str, report: PackReport, storage_options: Mapping[str, Any] | None, *, is_zip: bool
) -> Iterator[_Packer]:
    """Give what puts runs into a pack, which is complete when the block is left without an error."""
    if report.dry_run:
        if is_zip:
            refuse_another(path)
        else:
            _is_begun(Folder(path, storage_options))
        yield _Dry(report)
    elif is_zip:
        with ZipWriter(path) as archive:
            zipped = _Zipped(archive, report)
            yield zipped
            zipped.finish()
    else:
        directory = _Directory(path, report, storage_options)
        try:
            with directory.copier:
                yield directory
                directory.finish()
        finally:
            directory.close()


class _Alone:
    """Looks at runs without regard to what is in the pack."""

    def __init__(self, report: PackReport) -> None:
        self.report = report
        #: What is in the documents of the runs that were met, by their uids: a list can have a run twice.
        self.met: dict[str, bytes] = {}

    def check(self, source: Source, directory: str) -> Bundle | None:
        try:
            bundle = Bundle(source, directory)
            return bundle if self._is_new(bundle) else None
        except FileNotFoundError:
            reason = "it is being recorded; pack it when it has ended"
            self.report.problems.append(Problem(directory, "live", reason))
        except (DamagedRun, UnsupportedFormat) as error:
            self.report.problems.append(Problem(directory, "damaged", str(error)))
        return None

    def _is_new(self, bundle: Bundle) -> bool:
        before = self.met.get(bundle.uid)
        if before == bundle.digest:
            self.report.known.append(bundle.uid)
        elif before is not None:
            reason = "another run of this uid was to be packed before it, which has other documents; it is left out"
            self.report.problems.append(Problem(bundle.uid, "conflict", reason))
        else:
            self.met[bundle.uid] = bundle.digest
        return before is None

    def begin(self, bundle: Bundle) -> str:
        return bundle.directory

    def count(self, bundle: Bundle) -> None:
        self.report.copied.append(bundle.uid)
        self.report.documents += bundle.documents
        self.report.bytes += bundle.bytes


class _Dry(_Alone):
    """Counts what would be packed."""

    target: Target | None = None

    def place(self, source: Source, bundle: Bundle, run: Run, copies: Copies) -> None:
        self.count(bundle)


class _Zipped(_Alone):
    """Puts runs into a ZIP file."""

    def __init__(self, archive: ZipWriter, report: PackReport) -> None:
        super().__init__(report)
        self.target: Target | None = archive
        self._archive, self._entries = archive, list[Entry]()
        self._records: list[Record] = []
        self._notes = Carrier(dict, lambda name, data: archive.write(f"{layout.NOTES}/{name}", [data]))
        archive.write(layout.MARKER, [_marker()])

    def place(self, source: Source, bundle: Bundle, run: Run, copies: Copies) -> None:
        try:
            write_run(source, bundle, list(bundle.pages), self._archive, bundle.directory)
        except DamagedRun as error:
            self.report.problems.append(Problem(bundle.uid, "damaged", str(error)))
            self.met[bundle.uid] = _IN_PART
            return
        self._entries.append(entry_of(bundle, copies.map))
        self._records.append(record_of(run.files, 1))
        self._notes.add(depot_of(run.files.folder), bundle.directory)
        self.count(bundle)

    def finish(self) -> None:
        self._notes.deliver()
        name, data = encode_snapshot(self._records, {})
        self._archive.write(f"{SNAPSHOTS}/{name}", [data])
        for name, data in descriptions(self._entries).items():
            self._archive.write(name, [data])


class _Directory:
    """Puts runs into a directory, or below a URL."""

    def __init__(self, path: str, report: PackReport, storage_options: Mapping[str, Any] | None) -> None:
        folder = Folder(path, storage_options)
        _begin(folder)
        self.target: Target | None = depot_of(folder)
        self._catalog = Catalog(path, storage_options=storage_options)
        self.copier = Copier(self._catalog, report)
        self.check = self.copier.check
        #: Where the run is written whose external files are being packed.
        self._begun: Begun | None = None

    def begin(self, bundle: Bundle) -> str:
        self._begun = self.copier.begin(bundle)
        return self._begun.home

    def place(self, source: Source, bundle: Bundle, run: Run, copies: Copies) -> None:
        self.copier.annotate(depot_of(run.files.folder), bundle)
        begun, self._begun = self._begun, None
        self.copier.place(source, bundle, begun)

    def finish(self) -> None:
        self.copier.finish()
        folder = self._catalog.folder
        depot = depot_of(folder)
        for name, data in descriptions(_entries(folder)).items():
            depot.write(name, [data])
        if folder.local is not None:
            self._catalog.reindex()

    def close(self) -> None:
        self._catalog.close()


def is_zip(path: str) -> bool:
    """Tell whether a pack in some place is meant to be a ZIP file, by its name.

    Examples
    --------
    >>> is_zip("share.zip"), is_zip("share")
    (True, False)
    """
    return path.lower().endswith(".zip") and not os.path.isdir(path)


def _begin(folder: Folder) -> None:
    """Make a folder a pack, unless it is one; see `_is_begun`."""
    if not _is_begun(folder):
        _mark(folder)


def _is_begun(folder: Folder) -> bool:
    """Tell whether a folder is a pack; else there is nothing in it.

    Raises
    ------
    PackExists
        It is something else.
    """
    try:
        marker: Any = codec.loads(folder.read(layout.MARKER))
    except FileNotFoundError:
        names = [name for name in folder.names() if not name.startswith(".") and not filesystem.is_temporary(name)]
        if names:
            raise PackExists(
                f"{folder.url} holds other things ({', '.join(names[:5])}); give a new or an empty directory"
            ) from None
        return False
    except ValueError:
        marker = None
    if not isinstance(marker, dict) or _PACK not in marker:
        raise PackExists(
            f"{folder.url} is a catalog, and no pack; give a new directory, or put runs into it with 'filebroker copy'"
        )
    return True


def _mark(folder: Folder) -> None:
    """Write the marker, unless somebody else has just done it."""
    if folder.local is None:
        folder.store.create(layout.MARKER, _marker())
        return
    filesystem.make_directory(folder.local)
    path, aside = folder.path(layout.MARKER), folder.path(f"{layout.MARKER}.{uuid.uuid4().hex[:8]}.tmp")
    filesystem.publish(aside, _marker(), sync=True)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    except OSError:  # a filesystem without links
        os.replace(aside, path)
    filesystem.remove(aside)


def _marker() -> bytes:
    return new_marker(**{_PACK: {"created": datetime.now(UTC).isoformat(timespec="seconds")}})


def _entries(folder: Folder) -> Iterator[Entry]:
    """Describe all runs of a pack, the oldest first, but for those in the trash."""
    depot = depot_of(folder)
    trash = discarded_in(depot)
    for directory in reversed([found for found in Inventory(folder.alone()) if found not in trash]):
        with contextlib.suppress(FileNotFoundError, DamagedRun):  # which verify tells of
            yield entry_of(Bundle(depot, directory), map_in(depot, directory))
