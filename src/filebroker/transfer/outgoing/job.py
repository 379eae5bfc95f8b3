"""One run on its way out: what of it is wanted, where it goes, and what could not be done."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.external import External, external_of
from filebroker.cataloging.run import Run, Stream
from filebroker.ground.errors import FilebrokerError, NotSupported
from filebroker.ground.lazy import cached_property
from filebroker.ground.progress import Progress, silent
from filebroker.storing.layout import encode_name, stream_directory
from filebroker.transfer.outgoing.target import Target

#: What is done about the files that a run refers to.
Images = Literal["reference", "copy", "convert"]
#: Longer names are cut, to leave room for a suffix.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class ExportProblem:
    """Something that could not be exported.

    Attributes
    ----------
    run : str
        The uid of the run.
    where : str
        The stream, the field or the file; empty for the whole run.
    why : str
        What is wrong, and what to do about it.

    Examples
    --------
    >>> from filebroker import Broker, export_runs
    >>> report = export_runs(Broker.named("example")[-1], "out", "csv", streams=["dark"])
    >>> print(report.problems[0])
    run '0a00d92c-...': it has no stream 'dark'; it has ['baseline', 'primary']
    """

    run: str
    where: str
    why: str

    def __str__(self) -> str:
        place = f", {self.where}" if self.where else ""
        return f"run {self.run!r}{place}: {self.why}" if self.run else self.why


@dataclass
class Job:
    """One run on its way out.

    Attributes
    ----------
    run : Run
        The run.
    name : str
        Of its files, without what distinguishes them.
    directory : Target or None
        Where they go; None for a run that is written to one open file.
    images : str
        What is done about the files that it refers to.
    handlers : Handlers
        Who reads these files.
    asked_streams, asked_fields : sequence of str or None
        The streams and data keys that are wanted; None for all.
    safe : bool
        Text that a spreadsheet would take for a formula is made harmless.
    progress : Progress
        Is told how far it has come.
    problems : list of ExportProblem
        What could not be exported.
    notes : list of str
        What is to be known besides.
    """

    run: Run
    name: str
    directory: Target | None
    images: Images = "reference"
    handlers: Handlers = field(default_factory=Handlers)
    asked_streams: Sequence[str] | None = None
    asked_fields: Sequence[str] | None = None
    safe: bool = False
    progress: Progress = silent
    problems: list[ExportProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, error: object, where: str = "") -> None:
        """Note something that could not be exported, once.

        Parameters
        ----------
        error
            What is wrong.
        where
            The stream, the field or the file.
        """
        found = ExportProblem(self.run.uid, where, str(error))
        if found not in self.problems:
            self.problems.append(found)

    def note(self, text: str) -> None:
        """Note something to be known, once."""
        line = f"run {self.run.uid!r}: {text}"
        if line not in self.notes:
            self.notes.append(line)

    @contextlib.contextmanager
    def guarded(self, where: str) -> Iterator[None]:
        """Go on after an error, which is noted.

        Parameters
        ----------
        where
            The stream, the field or the file.
        """
        try:
            yield
        except FilebrokerError as error:
            self.problem(error, where)

    # -- what is wanted

    @property
    def is_narrowed(self) -> bool:
        """Whether something of the run is left out."""
        return self.asked_streams is not None or self.asked_fields is not None

    @cached_property
    def streams(self) -> list[Stream]:
        """The streams to export, with a field that is wanted; what is wanted and not there is a problem."""
        there = self.run.stream_names
        wanted = there if self.asked_streams is None else list(dict.fromkeys(self.asked_streams))
        for name in wanted:
            if name not in there:
                self.problem(f"it has no stream {name!r}; it has {there}")
        streams = [self.run[name] for name in wanted if name in there]
        known = {key for stream in streams for key in stream.keys}
        for key in dict.fromkeys(self.asked_fields or ()):
            if key not in known:
                self.problem(f"its streams {[stream.name for stream in streams]} have no field {key!r}")
        return streams if self.asked_fields is None else [stream for stream in streams if self.keys(stream)]

    def keys(self, stream: Stream) -> list[str]:
        """Give the data keys of a stream that are wanted, in their order.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        return [key for key in stream.keys if self.asked_fields is None or key in self.asked_fields]

    @cached_property
    def external(self) -> External:
        """The data that the run has in files of their own."""
        return external_of(self.run, self.handlers)

    # -- where it goes

    @property
    def target(self) -> Target:
        """The directory that files go to."""
        if self.directory is None:
            raise NotSupported("files of their own have no place in an open file; export to a directory")
        return self.directory

    @cached_property
    def stream_parts(self) -> dict[str, str]:
        """What the names of files have for each stream of the run; no two have the same."""
        parts: dict[str, str] = {}
        for name in self.run.stream_names:
            parts[name] = stream_directory(name, parts.values())
        return parts

    def file_name(self, suffix: str, *parts: str) -> str:
        """Give the name of a file.

        Parameters
        ----------
        suffix
            Of the file, with its dot.
        *parts
            What distinguishes it from others of the run; encoded.
        """
        name = "_".join((self.name, *parts))
        if len(name) > _LONGEST_NAME:
            name = f"{name[:100]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        return f"{name}{suffix}"

    def stream_file(self, stream: Stream, suffix: str) -> str:
        """Give the name of the file of a stream."""
        return self.file_name(suffix, self.stream_parts[stream.name])

    def field_directory(self, stream: Stream, key: str) -> str:
        """Give the name of the directory with the images of a field."""
        return self.file_name("", self.stream_parts[stream.name], encode_name(key))

    def file(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Give an open file to write; see `Target.file`."""
        return self.target.file(name)
