"""Runs from files, packs, databases and other catalogs, into a catalog."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from filebroker.cataloging.catalog import Catalog
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.ground import filesystem
from filebroker.ground.errors import InvalidOption, MissingPackage, SourceNotFound, StorageError
from filebroker.ground.packages import need
from filebroker.ground.progress import Progress, silent
from filebroker.transfer.incoming import databroker as incoming_databroker
from filebroker.transfer.incoming.assets import copy_external
from filebroker.transfer.incoming.files import Item, as_item
from filebroker.transfer.incoming.kinds import KINDS
from filebroker.transfer.incoming.origins import Origins
from filebroker.transfer.incoming.reports import ImportProblem, ImportReport
from filebroker.transfer.incoming.runs import run_items
from filebroker.transfer.incoming.sources import Unit, Walk
from filebroker.transfer.incoming.target import prepare
from filebroker.transfer.incoming.units import Importer, Setup, take_units
from filebroker.transfer.incoming.workers import Crew

if TYPE_CHECKING:
    from distributed import Client

Path = str | os.PathLike[str]

#: A process imports so many units at once, or so many bytes.
_CHUNK_UNITS, _CHUNK_BYTES = 64, 16 << 20
#: So many units, or bytes, are worth the start of processes if nobody says how many: each takes as long to start as
#: 150 short runs take, or 25 MB, so with two of them less than this is done sooner by one.
_MANY_UNITS, _MANY_BYTES = 1500, 256 << 20
_MOST_WORKERS = 8
#: So many units are found before they are imported, so that it can be told how far it is.
_AHEAD = 10_000


def import_runs(
    source: Any,
    catalog: Any,
    *,
    kind: str | None = None,
    workers: int | None = None,
    client: "Client | None" = None,
    dry_run: bool = False,
    root_map: Mapping[str, str] | None = None,
    copy_files: bool = False,
    progress: Progress = silent,
) -> ImportReport:
    """Take runs from elsewhere into a catalog.

    Nothing that is there changes.  A run that is there already is passed over.  One that was cut short and is now
    complete goes on.  So an import can be repeated, and goes on where it was interrupted.

    A document that cannot be taken is reported.  Its run is taken without it, and says so whenever it is read.

    Parameters
    ----------
    source
        A file or directory, or a list of these.  What they are is seen by their content: files of suitcase-jsonl and
        suitcase-msgpack, JSON lists of documents, directories of databroker-pack, and other catalogs.  Or the name of
        a catalog of databroker 1.x that is installed here.  Or runs, as a search gives them.  Or anything that gives
        names and documents.
    catalog
        A catalog, a broker, or the path or URL of one.  A directory that is missing becomes one.
    kind
        ``jsonl``, ``json``, ``msgpack``, ``pack``, ``filebroker`` or ``databroker``, if only these are meant.
    workers
        How many processes.  None for one, or for large sources as many as there are cores, but no more than 8.
    client
        Of a Dask cluster, which does it instead.  Its machines have to see the same files at the same paths.
    dry_run
        Only tell what would be done.
    root_map
        Where external files are now: old beginnings of paths, and new ones.
    copy_files
        Copy the external files that the runs refer to into the catalog.
    progress
        Is called with what is being done, how far it has come, and of how much.

    Returns
    -------
    ImportReport
        What was taken, and everything that could not be.

    Raises
    ------
    SourceNotFound
        There is nothing of that name.
    InvalidOption
        An option means nothing.
    MissingPackage
        To read the source takes a package that is not installed.
    ReadOnlyCatalog
        The catalog was opened for reading.
    StorageError
        The filesystem refused, or the store of the catalog.  What was complete is there, or safe on this machine.

    Examples
    --------
    >>> start = {"uid": "84d9ee44", "time": 1763821925.0}
    >>> stop = {"uid": "5cc1", "time": 1763821926.0, "run_start": "84d9ee44", "exit_status": "success"}
    >>> import_runs([("start", start), ("stop", stop)], "my_beamtime")
    <ImportReport: 1 run taken, 0 known before>
    >>> from filebroker import Broker
    >>> import_runs(Broker.named("example")(plan_name="scan"), "my_beamtime")
    <ImportReport: 5 runs taken, 0 known before>
    """
    if kind is not None and kind not in KINDS:
        raise InvalidOption(f"kind={kind!r:.80} means nothing; it is one of {', '.join(KINDS)}")
    if workers is not None and workers < 1:
        raise InvalidOption(f"workers={workers!r} means nothing; give 1 or more")
    with _opened(catalog) as target:
        job = _Job(target, dry_run, progress, names_external=copy_files)
        _run(job, source, kind, dict(root_map or {}), workers, client)
        if not dry_run:
            job.origins.carry(target)
            if copy_files:
                copy_external(target, job.report, dict(root_map or {}), progress)
            target.flush()
    return job.report


def _run(
    job: "_Job", source: Any, kind: str | None, root_map: dict[str, str], workers: int | None, client: "Client | None"
) -> None:
    """Import a source."""
    paths = _paths(source)
    if paths is None:
        job.do_here(_sources(source, kind, job.origins))
    else:
        units = job.found(chain.from_iterable(job.units(path, kind, root_map) for path in paths))
        job.do(units, workers, client)


@contextlib.contextmanager
def _opened(catalog: Any) -> Iterator[Catalog]:
    """Give a catalog, and close it if it was opened for that."""
    if isinstance(catalog, str | os.PathLike):
        with contextlib.closing(Catalog(catalog)) as opened:
            yield opened
        return
    found = getattr(catalog, "catalog", catalog)
    if not isinstance(found, Catalog):
        raise InvalidOption(f"{catalog!r:.80} is no catalog; give one, a broker, or a path")
    yield found


def _paths(source: Any) -> list[str] | None:
    """Give a source that is named as names; None for another."""
    if isinstance(source, str | os.PathLike):
        return [os.fspath(source)]
    if isinstance(source, list | tuple) and source and all(isinstance(item, str | os.PathLike) for item in source):
        return [os.fspath(item) for item in source]
    return None


def _sources(source: Any, kind: str | None, origins: Origins) -> Iterator[tuple[str, Iterable[Item]]]:
    """Give what is to be imported of a source that is an object, each part with what it is called."""
    runs = getattr(source, "runs", getattr(source, "run", source))
    if isinstance(runs, Runs | Run):
        for run in [runs] if isinstance(runs, Run) else runs:
            origins.add(run.files.folder, run.directory)
            yield run.uid, run_items(run.files)
    elif kind == "databroker" or type(source).__module__.partition(".")[0] in ("databroker", "intake"):
        yield from _of_databroker(source)
    else:
        try:
            documents = iter(source)
        except TypeError as error:
            raise InvalidOption(
                f"{source!r:.80} gives no documents; give a path, runs, or names and documents"
            ) from error
        yield "the documents", (as_item(f"document {number}", pair) for number, pair in enumerate(documents, start=1))


def _of_databroker(source: Any) -> Iterator[tuple[str, Iterable[Item]]]:
    """Give the runs of a catalog, of a search, or a run itself, of databroker's."""
    if hasattr(source, "documents"):
        yield "the run", incoming_databroker.items_in_run(source)
    elif not hasattr(source, "v2") and not isinstance(source, Mapping):  # what version 1 finds
        for header in source:
            yield str(header.start["uid"]), incoming_databroker.items_in_run(header)
    else:
        for uid in incoming_databroker.uids_of(source):
            yield str(uid), incoming_databroker.items_in(source, uid)


class _Job:
    """One import."""

    def __init__(self, catalog: Catalog, dry_run: bool, progress: Progress, *, names_external: bool) -> None:
        self.report = ImportReport(dry_run=dry_run)
        self.catalog, self._progress = catalog, progress
        self.origins = Origins()
        self._setup = Setup(catalog.folder.url, dry_run, names_external)
        self._found = self._done = 0

    def units(self, source: str, kind: str | None, root_map: dict[str, str]) -> Iterator[Unit]:
        """Give the units of a source that has a name."""
        if kind == "databroker":
            yield from self._named(source, is_sure=True)
        elif os.path.lexists(path := os.path.expanduser(source)):
            yield from Walk(self.report, kind, root_map, self.catalog.folder.local).units(path)
        elif os.path.sep in source or kind is not None or filesystem.is_url(source):
            raise SourceNotFound(f"there is no file or directory {source}, so nothing can be imported from it")
        else:
            yield from self._named(source)

    def _named(self, source: str, *, is_sure: bool = False) -> Iterator[Unit]:
        """Give the runs of what is no file, and may be a catalog of databroker's."""
        try:
            self.report.root_map.update(incoming_databroker.root_map_named(source))
            yield from incoming_databroker.runs_of(source)
        except MissingPackage as error:
            if is_sure:
                raise
            raise SourceNotFound(
                f"there is no file or directory {source!r:.200}. If it is a catalog: {error}"
            ) from error

    def found(self, units: Iterator[Unit]) -> Iterator[Unit]:
        """Find units some way ahead of those that are imported, and count them."""
        ahead: deque[Unit] = deque()
        while True:
            while len(ahead) < _AHEAD // 2 and (more := list(islice(units, _AHEAD))):
                ahead.extend(more)
                for unit in more:
                    if unit.kind == "run":
                        self.origins.add(unit.path, unit.inner)
                self._found += len(more)
            if not ahead:
                return
            yield ahead.popleft()

    def do(self, units: Iterator[Unit], workers: int | None, client: "Client | None") -> None:
        """Import units."""
        first, size = [], 0
        for unit in islice(units, _MANY_UNITS):
            first.append(unit)
            size += unit.size
            if size > _MANY_BYTES:
                break
        if not first:
            return
        self._prepare()
        chunks = _chunks(chain(first, units))
        if workers is None:
            is_much = len(first) == _MANY_UNITS or size > _MANY_BYTES
            workers = min(_cores(), _MOST_WORKERS) if is_much else 1
        if client is not None:
            self._do_in_cluster(chunks, client)
        elif workers > 1 and self.catalog.folder.local is not None:
            Crew(self._setup, workers).work(chunks, self._note)
        else:
            self._with_importer(lambda importer: self._do_chunks(importer, chunks))

    def _prepare(self) -> None:
        if not self._setup.dry_run:
            prepare(self.catalog)

    def _with_importer(self, work: Callable[[Importer], None]) -> None:
        importer = Importer(self._setup, self.catalog)
        try:
            work(importer)
        finally:
            importer.close()

    def _do_chunks(self, importer: Importer, chunks: Iterator[Sequence[Unit]]) -> None:
        for chunk in chunks:
            self._note(chunk, importer.take(chunk))

    def do_here(self, sources: Iterator[tuple[str, Iterable[Item]]]) -> None:
        """Import what cannot be given to other processes."""
        self._prepare()

        def work(importer: Importer) -> None:
            for place, items in sources:
                self.report.add(importer.take_source(items, place))
            self.report.add(importer.finish())

        self._with_importer(work)

    def _note(self, chunk: Sequence[Unit], report: ImportReport) -> None:
        """Count a part in."""
        self.report.add(report)
        self._done += len(chunk)
        self._progress("files", self._done, self._found)

    def _do_in_cluster(self, chunks: Iterator[Sequence[Unit]], client: "Client") -> None:
        if self.catalog.folder.local is None:
            raise InvalidOption("a Dask cluster imports only into a catalog in a directory that all of it see")
        as_completed = need("distributed").as_completed
        waiting: dict[Any, Sequence[Unit]] = {}

        def submit(chunk: Sequence[Unit]) -> Any:
            units = [list(unit) for unit in chunk]
            future = client.submit(take_units, self._setup._asdict(), units, pure=False)
            waiting[future] = chunk
            return future

        most = 2 * max(1, len(client.scheduler_info()["workers"]))
        futures = as_completed([submit(chunk) for chunk in islice(chunks, most)])
        for future in futures:
            chunk = waiting.pop(future)
            error = future.exception()
            if isinstance(error, StorageError):
                raise error
            if error is None:
                self._note(chunk, ImportReport.from_dict(future.result()))
            else:
                self._note(chunk, ImportReport(problems=[_failed(unit, error) for unit in chunk]))
            for following in islice(chunks, 1):
                futures.add(submit(following))


def _failed(unit: Unit, error: BaseException) -> ImportProblem:
    return ImportProblem(unit.place, "", "", "", f"the cluster could not import it: {error!r:.300}")


def _chunks(units: Iterator[Unit]) -> Iterator[Sequence[Unit]]:
    chunk: list[Unit] = []
    size = 0
    for unit in units:
        chunk.append(unit)
        size += unit.size
        if len(chunk) >= _CHUNK_UNITS or size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
