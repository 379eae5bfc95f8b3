"""Data that a run keeps in files of their own, one value an event."""

import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from filebroker.assets.datums import Datums
from filebroker.assets.handlers import Handlers
from filebroker.assets.places import Place, locate
from filebroker.assets.series import Series, StreamAssets
from filebroker.cataloging.arrays import is_missing
from filebroker.cataloging.external_columns import (
    DatumColumn,
    ExternalColumn,
    HeldColumn,
    JoinedColumn,
    SeriesColumn,
    own_array,
)
from filebroker.cataloging.packed import PackedFiles
from filebroker.cataloging.run import Run, Stream
from filebroker.ground.documents import Document
from filebroker.ground.errors import DamagedRun, UnreadableAsset
from filebroker.storing.pages import shown_name
from filebroker.storing.run_files import RunFiles

if TYPE_CHECKING:
    import pandas as pd

#: Files of a run that is in progress, or ended so recently, may appear in a moment.
_RECENT_SECONDS, _PATIENCE_SECONDS = 10.0, 2.0
#: A run keeps its external data for so many brokers.
_KEPT = 4
#: More numbers do not fit the memory of most machines.
_MOST_ROWS = 50_000_000


class External:
    """The external data of one run, which may grow.

    Parameters
    ----------
    run
        The run.
    handlers
        Who reads what, and where roots have moved.
    """

    def __init__(self, run: Run, handlers: Handlers) -> None:
        self.run, self.handlers = run, handlers
        self._view: ExternalView | None = None

    def view(self, files: RunFiles | None = None) -> "ExternalView":
        """Give the external data as they were when some files of the run were read.

        Parameters
        ----------
        files
            The files; None for what they are now.
        """
        files = self.run.files if files is None else files
        view, state = self._view, self.handlers.state()
        # What was learned of files holds for the same handlers, and the same places.
        if view is None or view.files is not files or view.state != state:
            view = self._view = ExternalView(self.run.uid, files, self.handlers, state)
        view.be_patient()
        return view

    def keys(self, stream: Stream) -> list[str]:
        """Give the data keys of a stream whose values are in files of their own; see `ExternalView.keys`."""
        return self.view(stream.files).keys(stream)

    def column(self, stream: Stream, key: str) -> "ExternalColumn | None":
        """Give the values of a data key; see `ExternalView.column`."""
        return self.view(stream.files).column(stream, key)

    def seq_nums(self, stream: Stream) -> list[int]:
        """Give the number of each row of a stream; see `ExternalView.seq_nums`."""
        return self.view(stream.files).seq_nums(stream)

    def to_pandas(
        self, stream: Stream, keys: Sequence[str] | None, filled: Collection[str] | None, *, datetimes: bool = False
    ) -> "pd.DataFrame":
        """Give a stream as a table, filled; see `ExternalView.to_pandas`."""
        return self.view(stream.files).to_pandas(stream, keys, filled, datetimes=datetimes)

    def files_of(self, resource: Mapping[str, Any]) -> list[str]:
        """Give the files of a resource; see `ExternalView.files_of`."""
        return self.view().files_of(resource)


def external_of(run: Run, handlers: Handlers) -> External:
    """Give the external data of a run, with what was learned of its files before.

    Parameters
    ----------
    run
        The run.
    handlers
        Who reads what, and where roots have moved.
    """
    known: External | None = run.derived.get(handlers)
    if known is None:
        if len(run.derived) >= _KEPT:
            run.derived.clear()
        known = run.derived[handlers] = External(run, handlers)
    return known


class ExternalView:
    """The external data of one run, as its documents told of them at one moment.

    Parameters
    ----------
    uid
        The run's unique id.
    files
        Its files.
    handlers
        Who reads what, and where roots have moved.
    state
        That of the handlers.
    """

    def __init__(self, uid: str, files: RunFiles, handlers: Handlers, state: Hashable) -> None:
        self.uid, self.files, self.state = uid, files, state
        documents = [pair for _, pair in files.line_items()]
        #: What was packed together with the run: never while it is recorded.
        packed = None if files.state == "live" else PackedFiles(files.folder, files.directory)
        self._datums = Datums(documents, handlers, packed=packed)
        self._assets = StreamAssets(documents, handlers, packed)
        self._streams = {doc["uid"] for name, doc in documents if name == "stream_resource"}
        self._descriptors = {doc["uid"]: doc for name, doc in documents if name == "descriptor"}
        self._columns: dict[tuple[str, str], ExternalColumn] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self._streamed: dict[str, list[str]] = {}

    def be_patient(self) -> None:
        """Wait for files from now on if detectors may still be writing them: those of a recent run."""
        stop = self.files.stop
        is_recent = stop is None or abs(time.time() - stop["time"]) < _RECENT_SECONDS
        self._datums.patience = _PATIENCE_SECONDS if is_recent and self.files.state != "interrupted" else 0.0

    def files_of(self, resource: Mapping[str, Any]) -> list[str]:
        """Give the files of a resource, where they are now.

        Parameters
        ----------
        resource
            A resource or stream resource document of the run.

        Raises
        ------
        MissingHandler
            Nothing is registered that can list them.
        """
        holder = self._assets if resource["uid"] in self._streams else self._datums
        return holder.files_of(resource)

    def close(self) -> None:
        """Close the files that are open; they are opened again when they are needed."""
        self._datums.close()

    @property
    def resources(self) -> list[Mapping[str, Any]]:
        """The resource and stream resource documents."""
        return [*self._datums.resources, *self._assets.resources]

    def place_of(self, resource: Mapping[str, Any], files: Sequence[str]) -> Place:
        """Give what is opened for a resource: where it is now, and how it was recorded.

        Parameters
        ----------
        resource
            A resource or stream resource document of the run.
        files
            Its files, as `files_of` gives them.
        """
        if resource["uid"] not in self._streams:
            return self._datums.place_of(resource)
        path = self._assets.place_of(resource, files)
        return Place(path, str(resource.get("uri") or locate({"root": "", **resource}, {}).recorded), "")

    def keys(self, stream: Stream) -> list[str]:
        """Give the data keys of a stream whose values are in files of their own.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        declared = [key for doc in stream.descriptors for key, item in doc["data_keys"].items() if _is_external(item)]
        streamed = [key for uid in _uids(stream) for key in self._keys_streamed(uid)]
        return list(dict.fromkeys([*declared, *streamed]))

    def _keys_streamed(self, descriptor_uid: str) -> list[str]:
        """Give the data keys that stream resources have the values of."""
        if descriptor_uid not in self._streamed:
            self._streamed[descriptor_uid] = self._assets.keys([descriptor_uid])
        return self._streamed[descriptor_uid]

    def _series_of(self, key: str, descriptor_uid: str) -> Series:
        if (key, descriptor_uid) not in self._series:
            self._series[key, descriptor_uid] = self._assets.series(key, [descriptor_uid])
        return self._series[key, descriptor_uid]

    def column(self, stream: Stream, key: str) -> "ExternalColumn | None":
        """Give the values of a data key; None if they are in the events themselves.

        Parameters
        ----------
        stream
            A stream of the run.
        key
            A data key.
        """
        if key not in self.keys(stream):
            return None
        known = self._columns.get((stream.name, key))
        if known is None:
            known = self._columns[stream.name, key] = self._make_column(stream, key)
        return known

    def to_pandas(
        self, stream: Stream, keys: Sequence[str] | None, filled: Collection[str] | None, *, datetimes: bool = False
    ) -> "pd.DataFrame":
        """Give a stream as a table, filled.

        Parameters
        ----------
        stream, keys, datetimes
            As for `Stream.to_pandas`.
        filled
            The data keys to fill, None for all.

        Returns
        -------
        pandas.DataFrame
            As `Stream.to_pandas` gives it.  A stream that has its values in files alone, and no events, has a row for
            each of them, with unknown times.
        """
        from filebroker.cataloging import frames

        frame = stream.to_pandas(keys, datetimes=datetimes)
        columns = self._columns_of(stream, filled)
        if not columns:
            return frame
        if not len(frame):
            numbers = [] if len(stream) else self.seq_nums(stream)
            if not numbers:  # or there are events, and none of them can be read
                return frame
            frame = frames.frame_without_events(numbers, datetimes=datetimes)
        for key, column in columns.items():
            if len(column) != len(frame):
                raise self._unmatched(stream, key)
        return frames.filled(frame, columns, stream.keys)

    def _unmatched(self, stream: Stream, key: str) -> DamagedRun:
        return DamagedRun(
            f"pages of stream {stream.name!r} of run {self.uid!r} are damaged, so that the values of {key!r} in files "
            "cannot be told to their events; documents(fill=True) gives those events that can be read"
        )

    def _columns_of(self, stream: Stream, keys: Collection[str] | None) -> "dict[str, ExternalColumn]":
        found = {key: self.column(stream, key) for key in self.keys(stream) if keys is None or key in keys}
        return {key: column for key, column in found.items() if column is not None}

    def _make_column(self, stream: Stream, key: str) -> "ExternalColumn":
        """Put the values of consecutive events of one kind together, as each event's own descriptor tells it."""
        rows, values = self._rows(stream), self._values(stream, key)
        if len(rows) != len(values):
            raise self._unmatched(stream, key)
        kinds = [self._kind_of(uid, key, value) for (uid, _), value in zip(rows, values, strict=True)]
        parts: list[ExternalColumn] = []
        position = 0
        for (uid, kind), group in groupby(zip((uid for uid, _ in rows), kinds, strict=True)):
            part = slice(position, position + len(list(group)))
            position = part.stop
            if kind == "streamed":
                parts.append(SeriesColumn(self._series_of(key, uid), [number for _, number in rows[part]]))
            elif kind == "datum":
                parts.append(self._datum_column(stream, key, uid, values[part]))
            else:
                parts.append(HeldColumn(values[part]))
        return parts[0] if len(parts) == 1 else JoinedColumn(parts)

    def _kind_of(self, uid: str, key: str, value: Any) -> str:
        """Tell where the value of an event is: in a stream, in what a datum document tells of, or in the event."""
        if value is None and key in self._keys_streamed(uid):
            return "streamed"
        return "datum" if _is_external(self._item(uid, key)) else "held"

    def _item(self, uid: str, key: str) -> Any:
        return self._descriptors.get(uid, {"data_keys": {}})["data_keys"].get(key)

    def _datum_column(self, stream: Stream, key: str, uid: str, values: list[Any]) -> DatumColumn:
        label = f"{key!r} of stream {stream.name!r} of run {self.uid!r}"
        return DatumColumn(label, values, self._datums, self._item(uid, key))

    def _rows(self, stream: Stream) -> list[tuple[str, int]]:
        """Give descriptor and number of each event; of a stream without events, of each value that its files have."""
        uids = _uids(stream)
        numbers: list[int] = stream.to_pandas([]).index.tolist()
        if not numbers:  # of a step scan the first event may be still to come
            alone = set(stream.keys) <= {key for uid in uids for key in self._keys_streamed(uid)}
            return [(uid, number) for uid in uids if alone for number in self._numbers_streamed(uid)]
        owners = stream.descriptor_uids() if len(uids) > 1 else uids * len(numbers)
        if len(owners) != len(numbers):  # of a damaged run not all pages can be read for that
            return [(event["descriptor"], event["seq_num"]) for event in stream.events()]
        return list(zip(owners, numbers, strict=True))

    def _values(self, stream: Stream, key: str) -> list[Any]:
        """Give what the events have for a key."""
        frame, name = stream.to_pandas([key]), shown_name(key)
        if name not in frame:
            return [None] * (len(frame) or len(self._rows(stream)))
        return [None if is_missing(value) else value for value in frame[name].tolist()]

    def _numbers_streamed(self, uid: str) -> list[int]:
        ranges = {part for key in self._keys_streamed(uid) for part in self._series_of(key, uid).seq_nums}
        count = sum(map(len, ranges))
        if count > _MOST_ROWS:
            raise UnreadableAsset(
                f"the stream_datum documents of descriptor {uid!r} of run {self.uid!r} claim {count:,} values, and no "
                f"more than {_MOST_ROWS:,} can be numbered; its documents can be read"
            )
        return sorted({number for numbers in ranges for number in numbers})

    def seq_nums(self, stream: Stream) -> list[int]:
        """Give the number of each event; of a stream without events, of each value that its files have.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        return [number for _, number in self._rows(stream)]

    def fill(self, event: Document, keys: Collection[str] | None = None) -> Document:
        """Give an event with the data in place of the references to them.

        Parameters
        ----------
        event
            An event of the run.  It is not modified.
        keys
            The data keys to fill, None for all.

        Returns
        -------
        dict
            The event; ``filled`` has for each filled key what it was filled from, which is true.

        Raises
        ------
        MissingHandler, UnknownDatum, MissingAsset, UnreadableAsset
            The data cannot be read.
        """
        data, filled = dict(event["data"]), dict(event.get("filled") or {})
        stamps = dict(event["timestamps"])
        for key, source in self.sources(event, keys).items():
            if isinstance(data.get(key), str):
                data[key] = own_array(self._datums.load(source))
            else:
                data[key] = self._series_of(key, event["descriptor"]).load(event["seq_num"])
                stamps.setdefault(key, event["time"])
            filled[key] = source
        return {**event, "data": data, "timestamps": stamps, **({"filled": filled} if filled else {})}

    def sources(self, event: Document, keys: Collection[str] | None = None) -> dict[str, str]:
        """Tell what an event is filled from, reading none of it.

        Parameters
        ----------
        event
            An event of the run.
        keys
            The data keys to fill, None for all.

        Returns
        -------
        dict
            For each data key whose value is in a file, the id of its datum or stream datum document.
        """
        uid, filled = event["descriptor"], event.get("filled") or {}
        found: dict[str, str] = {}
        for key in dict.fromkeys([*self._keys_outside(uid), *(key for key, done in filled.items() if done is False)]):
            if (keys is not None and key not in keys) or filled.get(key):
                continue
            value = event["data"].get(key)
            if isinstance(value, str):
                found[key] = value
            elif value is None and key in self._keys_streamed(uid):
                series = self._series_of(key, uid)
                if event["seq_num"] in series:
                    found[key] = series.datum_of(event["seq_num"])
        return found

    def _keys_outside(self, uid: str) -> list[str]:
        """Give the data keys of a descriptor whose values are in files of their own."""
        items = self._descriptors.get(uid, {"data_keys": {}})["data_keys"]
        return [key for key, item in items.items() if _is_external(item) or key in self._keys_streamed(uid)]


def _uids(stream: Stream) -> list[str]:
    return [doc["uid"] for doc in stream.descriptors]


def _is_external(item: Any) -> bool:
    return isinstance(item, Mapping) and bool(item.get("external"))
