"""Exporting runs to files that other programs read."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike, fspath
from types import ModuleType
from typing import Any, BinaryIO, Literal, get_args

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.cataloging.table_columns import names_of
from filebroker.ground.errors import DamagedRunWarning, FilebrokerError, InvalidOption, UnknownStream
from filebroker.ground.packages import need
from filebroker.ground.progress import Progress, silent
from filebroker.transfer.chosen import checked, handlers_of, runs_of
from filebroker.transfer.outgoing import csv_tables, jsonl, names
from filebroker.transfer.outgoing.copies import Copies
from filebroker.transfer.outgoing.job import ExportProblem, Images, Job
from filebroker.transfer.outgoing.target import Target

#: What runs can be exported to.
Format = Literal["csv", "parquet", "jsonl", "msgpack", "nexus", "spec"]

#: Which module writes a format, and which packages that takes.
_WRITERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "csv": ("csv_tables", ()),
    "parquet": ("parquet_tables", ()),
    "jsonl": ("jsonl", ()),
    "msgpack": ("msgpack_files", ("msgpack", "msgpack_numpy")),
    "nexus": ("nexus", ("h5py",)),
    "spec": ("spec", ()),
}
#: So many lines are shown of a report.
_SHOWN = 20
#: How a warning of a damaged run ends.
_GIVEN = ". What can be read of it is given"


@dataclass
class ExportReport:
    """What was exported, and what could not be.

    Attributes
    ----------
    runs : int
        How many runs were exported, wholly or in part.
    files : list of str
        The absolute paths of the files that were written.
    problems : list of ExportProblem
        What could not be exported, and why.
    notes : list of str
        What is to be known besides: runs that were still in progress, fields that a format has no place for.

    Examples
    --------
    >>> from filebroker import Broker, export_runs
    >>> report = export_runs(Broker.named("example")[-1], "out", "csv")
    >>> report
    1 run exported to 2 files
    >>> report.ok, report.problems
    (True, [])
    """

    runs: int = 0
    files: list[str] = field(default_factory=list)
    problems: list[ExportProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all that was asked for was exported.

        Examples
        --------
        >>> ExportReport().ok
        True
        """
        return not self.problems

    def __repr__(self) -> str:
        lines = [f"{_count(self.runs, 'run')} exported to {_count(len(self.files), 'file')}", *self.notes]
        lines += [f"not exported: {problem}" for problem in self.problems]
        more = len(lines) - _SHOWN
        return "\n".join(lines if more <= 0 else [*lines[:_SHOWN], f"and {more} more: see problems and notes"])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def export_runs(
    runs: Runs | Run | Iterable[Any],
    target: str | PathLike[str],
    format: Format,
    *,
    streams: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
    images: Images = "reference",
    file_name: str = "{scan_id}_{uid:.8}",
    handlers: Handlers | None = None,
    overwrite: bool = False,
    safe: bool = False,
    progress: Progress = silent,
) -> ExportReport:
    """Export runs to files.

    Parameters
    ----------
    runs
        A run, a catalog, the result of a search, or several runs or headers.
    target
        A local directory, which is made if need be.
    format
        ``csv`` and ``parquet`` have a file for each stream; ``jsonl``, ``msgpack`` (those of suitcase), ``nexus``
        (HDF5) and ``spec`` have one for each run.
    streams
        The streams to export, None for all.
    fields
        The data keys to export, None for all.
    images
        What is done about files that the runs refer to.  ``reference``: nothing, the references are exported.
        ``copy``: they are copied beside.  ``convert``: what is in them is exported; images become datasets of a NeXus
        file, parts of the events in JSONL and msgpack, and TIFF files for the other formats.
    file_name
        How files are named: keys of the start document in braces, dotted for nested ones, as in
        ``{plan_name}_{scan_id:05}_{uid:.8}`` or ``{time:%Y-%m-%d}_{sample.name}``.
    handlers
        Who reads the files that runs refer to, and where their roots have moved.  None for those of the broker that
        the headers are of, else for what is installed.
    overwrite
        Replace files that are there already, instead of refusing.
    safe
        In CSV, text that a spreadsheet would take for a formula gets an apostrophe before it.
    progress
        Is told how far it has come.

    Returns
    -------
    ExportReport
        What was written, and what could not be.  A damaged run, or an image that is missing, stops nothing else.

    Raises
    ------
    InvalidOption
        An option means nothing.
    MissingPackage
        The format takes a package that is not installed.
    NotSupported
        The target is a URL.
    StorageError
        The directory cannot be made, or the catalog cannot be reached.

    Examples
    --------
    >>> from filebroker import Broker, export_runs
    >>> db = Broker.named("example")
    >>> report = export_runs(db(plan_name="scan"), "scans", "csv", streams=["primary"])
    >>> report
    5 runs exported to 5 files
    >>> import pandas
    >>> pandas.read_csv(report.files[0])[["seq_num", "motor", "det"]].head(2)
       seq_num  motor       det
    0        1   -1.0  0.606531
    1        2   -0.8  0.726149
    """
    if not fspath(target):
        raise InvalidOption("the name of the directory is empty; '.' is this one")
    module = _writer(format, images)
    names.check_template(file_name)
    goal = Target(target, overwrite)
    report = ExportReport(files=goal.written)
    asked = _listed("streams", streams), _listed("fields", fields)
    known = handlers or handlers_of(runs) or Handlers()
    given = _Runs(runs, report)
    stems = _Stems(file_name)
    for number, run in enumerate(given, 1):
        job = Job(run, stems.of(run), goal, images, known, *asked, safe, progress)
        _export(job, module, report)
        progress("runs", number, max(given.count, number))
    return report


def export_to(
    run: Run,
    file: BinaryIO,
    format: Literal["csv", "jsonl"],
    *,
    streams: Sequence[str] | None = None,
    fields: Sequence[str] | None = None,
    safe: bool = False,
) -> ExportReport:
    """Write one run to an open file: all of it as JSONL, or one of its streams as CSV.

    Parameters
    ----------
    run
        The run.
    file
        Where to write; it is not closed.
    format
        ``csv`` or ``jsonl``.
    streams, fields, safe
        As for `export_runs`.  CSV has one stream: by default ``primary``, or the only one.

    Raises
    ------
    InvalidOption
        The format has a file of its own for each run, or CSV was asked for several streams.
    UnknownStream
        The run has no such stream.

    Examples
    --------
    >>> import io
    >>> from filebroker import Broker
    >>> file = io.BytesIO()
    >>> export_to(Broker.named("example").catalog.newest(1), file, "csv", fields=["motor"]).ok
    True
    >>> file.getvalue().splitlines()[:2]
    [b'seq_num,time,motor', b'1,1795369748.6...,-1.0']
    """
    if format not in ("csv", "jsonl"):
        raise InvalidOption(f"{format!r} cannot be written to an open file; csv and jsonl can")
    asked = _listed("streams", streams)
    if format == "csv":
        asked = [_only_stream(run, asked)]
    job = Job(run, "", None, asked_streams=asked, asked_fields=_listed("fields", fields), safe=safe)
    report = ExportReport()
    with _heard(report):
        if format == "csv":
            for stream in job.streams:
                csv_tables.write_stream(job, stream, file)
        else:
            jsonl.write_run(job, file)
    _close(job, report)
    return report


def _only_stream(run: Run, asked: Sequence[str] | None) -> str:
    there = run.stream_names
    wanted = list(asked or (there if len(there) == 1 else ["primary"]))
    if len(wanted) > 1:
        raise InvalidOption(f"CSV has one stream, and {wanted} are {len(wanted)}")
    if wanted[0] not in there:
        raise UnknownStream(f"run {run.uid!r} has no stream {wanted[0]!r}; it has {there}")
    return wanted[0]


def _writer(format: str, images: str) -> ModuleType:
    """Give the module that writes a format, and refuse options that mean nothing."""
    if format not in _WRITERS:
        raise InvalidOption(f"{format!r:.100} is no format; the formats are {', '.join(_WRITERS)}")
    if images not in get_args(Images):
        raise InvalidOption(f"images is {images!r:.100}; it is one of {', '.join(get_args(Images))}")
    module, packages = _WRITERS[format]
    for package in packages:
        need(package)
    return import_module(f"filebroker.transfer.outgoing.{module}")


def _listed(option: str, given: Sequence[str] | None) -> list[str] | None:
    return None if given is None else names_of(option, given)


class _Stems:
    """Names of the runs' files; no two runs have the same."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._taken: set[str] = set()

    def of(self, run: Run) -> str:
        stem = names.file_name(self._template, run.start)
        if stem.casefold() in self._taken:
            stem = f"{stem[:100]}_{names.file_name('{uid}', run.start)[:60]}"
        self._taken.add(stem.casefold())
        return stem


class _Runs:
    """The runs that were given, whatever they were given as; one that cannot be read is a problem."""

    def __init__(self, runs: Any, report: ExportReport) -> None:
        self._report = report
        self._runs = runs_of(runs)
        #: How many runs there are, 0 if that is not known.
        self.count = len(self._runs) if isinstance(self._runs, Runs | Sequence) else 0

    def __iter__(self) -> Iterator[Run]:
        seen: set[str] = set()
        given = iter(self._runs)
        while True:
            with _heard(self._report):
                item = next(given, None)
            if item is None:
                break
            run = checked(item)
            seen.add(run.uid)
            yield run
        if isinstance(self._runs, Runs) and len(seen) < self.count:
            self._name_unread(self._runs, seen)

    def _name_unread(self, runs: Runs, seen: set[str]) -> None:
        """Name the runs that are listed and cannot be opened; that is not always told by a warning."""
        told = [problem.why for problem in self._report.problems if not problem.run]
        for item in runs.documents():
            uid, path = item.start["uid"], item.entry.path
            if uid not in seen and not any(path in why for why in told) and runs.of_uid(uid) is None:
                why = f"it is listed, and cannot be opened in {path}; filebroker verify tells more"
                self._report.problems.append(ExportProblem(uid, "", why))


@contextlib.contextmanager
def _heard(report: ExportReport) -> Iterator[None]:
    """Take warnings of damaged runs into the report."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", DamagedRunWarning)
        yield
    for warning in heard:
        if not issubclass(warning.category, DamagedRunWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif not any(problem.why in str(warning.message) for problem in report.problems):
            report.problems.append(ExportProblem("", "", str(warning.message)))


def _export(job: Job, module: ModuleType, report: ExportReport) -> None:
    """Export one run, whatever is wrong with it."""
    before = len(report.files)
    aside = ExportReport()
    job.run._report_anew()
    with _heard(aside), job.guarded(""):
        _write(job, module)
    wrote = len(report.files) > before
    report.runs += wrote
    if not wrote and not job.problems:
        job.note("it has no streams, of which this format would have files")
    for heard in aside.problems:
        why = heard.why.removesuffix(_GIVEN)
        if not any(why in told.why for told in job.problems):
            job.problem(why)
    _close(job, report)


def _write(job: Job, module: ModuleType) -> None:
    try:
        module.write(job)
        if job.images == "copy":
            Copies(job).write()
    except FilebrokerError:
        raise
    except Exception as error:  # noqa: BLE001 - what a format or a reader cannot cope with keeps no other run here
        job.problem(f"{type(error).__name__}: {error}")


def _close(job: Job, report: ExportReport) -> None:
    """Take what became of a run into the report."""
    state = job.run.state
    if state == "live":
        job.note("it is still in progress, and was exported as far as it had come")
    elif state == "interrupted":
        job.note("its recording was cut short, so it has no stop document")
    report.problems += job.problems
    report.notes += job.notes
