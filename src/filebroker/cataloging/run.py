"""One run: its documents, and its streams as tables and columns."""

import warnings
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from filebroker.cataloging.ordering import in_time_order
from filebroker.ground import codec
from filebroker.ground.documents import Document, Pair
from filebroker.ground.errors import DamagedRunWarning, UnknownStream
from filebroker.ground.filesystem import Folder
from filebroker.ground.lazy import cached_property
from filebroker.ground.texts import printable
from filebroker.storing import columns
from filebroker.storing.columns import ABSENT
from filebroker.storing.convoys import Convoy
from filebroker.storing.run_files import RunFiles

if TYPE_CHECKING:
    import pandas as pd

#: So often a damaged run of a store is looked at anew, and a live one.
_HEALING_SECONDS, _GROWING_SECONDS = 1.0, 0.1


class Known(NamedTuple):
    """What is known of a sealed run without reading its files.

    Attributes
    ----------
    version : str
        What distinguishes its documents from others that were there before.
    raw_start, raw_stop : bytes
        The start and the stop document as JSON.
    """

    version: str
    raw_start: bytes
    raw_stop: bytes

    @property
    def start(self) -> Document:
        """The start document."""
        document: Document = codec.loads(self.raw_start)
        return document

    @property
    def stop(self) -> Document | None:
        """The stop document."""
        return codec.loads(self.raw_stop) if self.raw_stop else None


class Run:
    """One run of a catalog.

    A sealed run is read once.  A run still in progress is read anew at each access, so it grows.

    Parameters
    ----------
    folder
        The catalog's folder.
    directory
        The run's directory in it.
    known
        What is known of a sealed run without reading its files, which is then put off until more is asked.
    convoy
        The runs that it is read with.

    Raises
    ------
    DamagedRun
        The run has no readable start document.

    Examples
    --------
    >>> from filebroker import Broker
    >>> run = Broker.named("example").catalog.newest(1)
    >>> run
    <Run '0a00d92c-...': scan, sealed, streams baseline, primary>
    >>> run["primary"].to_pandas(["motor", "det"]).shape
    (11, 3)
    """

    def __init__(
        self, folder: Folder, directory: str, known: "Known | None" = None, convoy: Convoy | None = None
    ) -> None:
        self._folder, self.directory = folder, directory
        self._known, self._convoy = known, convoy
        self._read = RunFiles(folder, directory) if known is None else None
        self._reported: set[str] = set()
        self._looked = monotonic()
        #: What was made of the run for others, by whom it was made for.
        self.derived: dict[object, Any] = {}
        #: Small tables of a run that does not change any more, by stream, keys and form.
        self.kept_frames: dict[tuple[str, tuple[str, ...] | None, bool], pd.DataFrame] = {}
        self.uid: str = self._loaded.uid if known is None else known.start["uid"]

    def __repr__(self) -> str:
        plan = self.start.get("plan_name", "a run")
        streams = ", ".join(self.stream_names) or "none"
        return printable(f"<Run {self.uid!r}: {plan}, {self.state}, streams {streams}>")

    def __reduce__(self) -> tuple[Any, ...]:
        return Run, (self._folder, self.directory)

    @property
    def folder(self) -> Folder:
        """The folder of the catalog that the run is of.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.newest(1).folder.url == catalog.folder.url
        True
        """
        return self._folder

    @property
    def version(self) -> str | None:
        """What distinguishes the documents of a run of a store from others; None of a run that is read as it is.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example").catalog.newest(1).version is None
        True
        """
        return None if self._known is None else self._known.version

    @property
    def _loaded(self) -> RunFiles:
        """The run's files as they were read last."""
        if self._read is None:
            version = None if self._known is None else self._known.version
            self._read = RunFiles(self._folder, self.directory, version=version, convoy=self._convoy)
        return self._read

    @property
    def files(self) -> RunFiles:
        """The run's files as they are now."""
        before = self._loaded
        if before.state == "live" and self._may_have_grown:
            self._read = RunFiles(self._folder, self.directory, before)
        elif before.damage != before.losses and self._may_be_whole:
            self._looked, self._known = monotonic(), None
            self._read = RunFiles(self._folder, self.directory)
            self.derived.clear()
        self._report(self._loaded)
        return self._loaded

    @property
    def _may_have_grown(self) -> bool:
        """Whether a live run is worth another look; in a store it grows every few seconds."""
        if self._folder.on_disk(self.directory) is None and monotonic() - self._looked < _GROWING_SECONDS:
            return False
        self._looked = monotonic()
        return True

    @property
    def _may_be_whole(self) -> bool:
        """Whether a damaged run is worth another look: it may have been a copy in the making."""
        return self._folder.remote is None or monotonic() - self._looked > _HEALING_SECONDS

    def _report_anew(self) -> None:
        """Warn again of what is wrong with the run when it is next read: somebody else asks for it."""
        self._reported.clear()

    def _report(self, files: RunFiles) -> None:
        """Warn once of everything that is wrong with the run."""
        for problem in files.damage:
            if problem not in self._reported:
                self._reported.add(problem)
                warnings.warn(
                    f"run {self.uid!r} in {self._folder.path(self.directory)} is damaged: {problem}. "
                    "What can be read of it is given",
                    DamagedRunWarning,
                    stacklevel=4,
                )

    @property
    def start(self) -> Document:
        """The start document.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> run.start["plan_name"], run.start["scan_id"]
        ('scan', 22)
        """
        return self._loaded.start if self._known is None else self._known.start

    @property
    def size(self) -> int:
        """How many bytes its documents have, those in pages left out.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> run.size
        5128
        """
        known = 0 if self._known is None else len(self._known.raw_start) + len(self._known.raw_stop)
        return known if self._read is None else self._read.size

    @property
    def state(self) -> str:
        """``sealed``, ``interrupted`` (its recording was cut short) or ``live``.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> run.state
        'sealed'
        """
        return self.files.state if self._read is not None else "sealed"

    @property
    def stop(self) -> Document | None:
        """The stop document, None while there is none.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> run.stop["exit_status"], run.stop["num_events"]
        ('success', {'baseline': 2, 'primary': 11})
        """
        return self._known.stop if self._read is None and self._known is not None else self.files.stop

    @property
    def descriptors(self) -> list[Document]:
        """The descriptors, oldest first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> [descriptor["name"] for descriptor in run.descriptors]
        ['baseline', 'primary']
        """
        return self.files.descriptors

    @property
    def stream_names(self) -> list[str]:
        """The names of the streams, in the order of their first descriptors.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> run.stream_names
        ['baseline', 'primary']
        """
        return self.files.stream_names

    def __getitem__(self, name: str) -> "Stream":
        """Give a stream.

        Raises
        ------
        UnknownStream
            The run has no stream of that name.
        """
        files = self.files
        files.hold()
        if name not in files.stream_names:
            raise UnknownStream(f"run {self.uid!r} has no stream {name!r}; it has {files.stream_names}")
        return Stream(self, files, name)

    def documents(self) -> Iterator[Pair]:
        """Give every document as ``(name, document)``, in the order in which they were inserted.

        The documents are what `event_model.sanitize_doc` makes of those inserted.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> name, doc = next(run.documents())
        >>> name, doc["scan_id"]
        ('start', 22)
        """
        files = self.files
        yield from files.documents()
        self._report(files)

    def singles(self) -> Iterator[Pair]:
        """Give every document by itself, pages unpacked, in an order that a consumer can rely on.

        Nothing comes before what it refers to, the events of all streams come by ascending time, and the
        stop document comes last.

        Examples
        --------
        >>> from filebroker import Broker
        >>> run = Broker.named("example").catalog.newest(1)
        >>> [name for name, _ in run.singles()]
        ['start', 'descriptor', 'event', 'descriptor', 'event', ..., 'event', 'stop']
        """
        files = self.files
        files.hold()
        yield from in_time_order(files)
        self._report(files)


class Stream:
    """One stream of a run, as its files were when this was made.

    Parameters
    ----------
    run
        The run.
    files
        Its files.
    name
        The stream's name.

    Examples
    --------
    >>> from filebroker import Broker
    >>> stream = Broker.named("example").catalog.newest(1)["primary"]
    >>> stream
    <Stream 'primary' of run '0a00d92c-...': det, motor, motor_setpoint>
    >>> len(stream)
    11
    """

    def __init__(self, run: Run, files: RunFiles, name: str) -> None:
        self.run, self.name, self._files = run, name, files

    def __repr__(self) -> str:
        return printable(f"<Stream {self.name!r} of run {self.run.uid!r}: {', '.join(self.keys)}>")

    @property
    def files(self) -> RunFiles:
        """The run's files, as they were when this was made."""
        return self._files

    @cached_property
    def descriptors(self) -> list[Document]:
        """The stream's descriptors, oldest first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> [list(descriptor["hints"]) for descriptor in stream.descriptors]
        [['det', 'motor']]
        """
        return self._files.descriptors_of(self.name)

    @property
    def keys(self) -> list[str]:
        """The data keys, in the order of the descriptors.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> stream.keys
        ['det', 'motor', 'motor_setpoint']
        """
        return self._files.data_keys(self.name)

    @property
    def directory(self) -> str:
        """The path or URL of the directory with the stream's Parquet files; it need not be there without events.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example").catalog.newest(1)["primary"].directory
        '.../primary'
        """
        return self._files.folder.path(f"{self._files.directory}/{self._files.directory_of(self.name)}")

    def events(self) -> Iterator[Document]:
        """Give the events in order, those of event pages one by one.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> next(stream.events())["data"]
        {'det': 0.606..., 'motor': -1.0, 'motor_setpoint': -1.0}
        """
        for _, event in self._files.event_items(self.name):
            yield event
        self.run._report(self._files)

    def __len__(self) -> int:
        return self._files.count_events(self.name)

    def event_uids(self) -> list[str]:
        """Give the uid of each event, in order.

        Examples
        --------
        >>> from filebroker import Broker
        >>> len(Broker.named("example").catalog.newest(1)["primary"].event_uids())
        11
        """
        return [uid for page in self._files.pages(self.name, "uids") for uid in page.uids()]

    def descriptor_uids(self) -> list[str]:
        """Give the uid of each event's descriptor, in order.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> uids = stream.descriptor_uids()
        >>> len(uids), set(uids) == {stream.descriptors[0]["uid"]}
        (11, True)
        """
        return [uid for page in self._files.pages(self.name, "descriptors") for uid in page.descriptors()]

    def values(self, key: str) -> Iterator[Any]:
        """Give the values of one data key, reading no other column.

        Parameters
        ----------
        key
            A data key.  Events without it are passed over.

        Yields
        ------
        object
            A number, string, list, dict or None, as it was inserted; an array as `numpy.ndarray`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> list(stream.values("motor"))
        [-1.0, -0.8, ..., 0.8, 1.0]
        """
        for page in self._files.pages(self.name, "data", [key]):
            for item in page.data_columns:
                if item.key != key:  # journalled events come whole
                    continue
                column = page.column(item.name)
                yield from (value for value in columns.as_values(column) if value is not ABSENT)
        self.run._report(self._files)

    def timestamps(self, keys: Sequence[str] | None = None) -> dict[str, list[float | None]]:
        """Give when each value of some data keys was taken, reading nothing else.

        Parameters
        ----------
        keys
            Data keys, None for all.

        Returns
        -------
        dict
            For each data key one time an event, in seconds since 1970; None for an event without the key.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> stream.timestamps(["det"])
        {'det': [1795369748.6384165, ..., 1795369748.6596186]}
        """
        result: dict[str, list[float | None]] = {key: [] for key in (self.keys if keys is None else keys)}
        for page in self._files.pages(self.name, "timestamps"):
            stamps = page.timestamps()
            for key, times in result.items():
                times += [None if time is ABSENT else time for time in stamps.get(key, [None] * page.rows)]
        self.run._report(self._files)
        return result

    def to_pandas(self, keys: Sequence[str] | None = None, *, datetimes: bool = False) -> "pd.DataFrame":
        """Give the stream as a table.

        Parameters
        ----------
        keys
            Data keys to read, None for all.
        datetimes
            Give ``time`` as datetime64 without a time zone, in UTC.

        Returns
        -------
        pandas.DataFrame
            One row an event, in order.  The index is ``seq_num``.  The columns are ``time`` (seconds since
            1970, UTC, unless ``datetimes``) and the data keys.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").catalog.newest(1)["primary"]
        >>> stream.to_pandas(["motor", "det"]).head(2)
                         time  motor       det
        seq_num
        1        1.795370e+09   -1.0  0.606531
        2        1.795370e+09   -0.8  0.726149
        """
        from filebroker.cataloging import frames

        asked = self.name, None if keys is None else tuple(keys), datetimes
        kept = None if self._files.state == "live" else self.run.kept_frames.get(asked)
        if kept is not None:
            return kept.copy()
        pages = self._files.pages(self.name, "shown", keys)
        rows, order = self._files.count_events(self.name), self.keys if keys is None else list(keys)
        frame = frames.to_frame(pages, rows, order, datetimes=datetimes)
        self.run._report(self._files)
        if self._files.state != "live" and not self._files.damage and frames.is_small(frame):
            self.run.kept_frames[asked] = frame.copy()
        return frame
