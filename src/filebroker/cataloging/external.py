"""Data that a run keeps in files of their own, one value an event."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from filebroker.assets.datums import Datums
from filebroker.assets.handlers import Handlers
from filebroker.assets.series import Series, StreamAssets
from filebroker.cataloging.external_columns import DatumColumn, ExternalColumn, SeriesColumn, as_array
from filebroker.cataloging.run import Run, Stream
from filebroker.ground.documents import Document
from filebroker.storing.run_files import RunFiles

if TYPE_CHECKING:
    import pandas as pd

#: Files of a run that is in progress, or ended so recently, may appear in a moment.
_RECENT_SECONDS, _PATIENCE_SECONDS = 10.0, 2.0


class External:
    """The external data of one run.

    Parameters
    ----------
    run
        The run.
    handlers
        Who reads what, and where roots have moved.
    """

    def __init__(self, run: Run, handlers: Handlers) -> None:
        self.run, self.handlers = run, handlers
        self._files: RunFiles | None = None
        self._columns: dict[tuple[str, str], ExternalColumn] = {}
        self._series: dict[tuple[str, tuple[str, ...]], Series] = {}
        self._streamed: dict[tuple[str, ...], list[str]] = {}

    def _load(self) -> None:
        """Take in the documents that tell of external data; of a run in progress, again when it has grown."""
        files = self.run.files
        if files is not self._files:
            documents = [pair for _, pair in files.line_items()]
            self._datums = Datums(documents, self.handlers, self._patience())
            self._assets = StreamAssets(documents, self.handlers)
            self._descriptors = {doc["uid"]: doc for name, doc in documents if name == "descriptor"}
            self._files = files
            self._columns.clear()
            self._series.clear()
            self._streamed.clear()

    def _patience(self) -> float:
        """Give for how many seconds to wait for a file: detectors may still be writing those of a recent run."""
        stop = self.run.stop
        is_recent = stop is None or time.time() - stop["time"] < _RECENT_SECONDS
        return _PATIENCE_SECONDS if is_recent and self.run.state != "interrupted" else 0.0

    @property
    def datums(self) -> Datums:
        """What resource and datum documents tell of."""
        self._load()
        return self._datums

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
        self._load()
        is_stream = any(doc["uid"] == resource["uid"] for doc in self._assets.resources)
        return self._assets.files_of(resource) if is_stream else self._datums.files_of(resource)

    def keys(self, stream: Stream) -> list[str]:
        """Give the data keys of a stream whose values are in files of their own.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        self._load()
        declared = [key for doc in stream.descriptors for key, item in doc["data_keys"].items() if _is_external(item)]
        return list(dict.fromkeys([*declared, *self._keys_streamed(*_uids(stream))]))

    def _keys_streamed(self, *descriptor_uids: str) -> list[str]:
        """Give the data keys that stream resources have the values of."""
        if descriptor_uids not in self._streamed:
            self._streamed[descriptor_uids] = self._assets.keys(descriptor_uids)
        return self._streamed[descriptor_uids]

    def _series_of(self, key: str, *descriptor_uids: str) -> Series:
        if (key, descriptor_uids) not in self._series:
            self._series[key, descriptor_uids] = self._assets.series(key, descriptor_uids)
        return self._series[key, descriptor_uids]

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
        self, stream: Stream, keys: Sequence[str] | None, filled: Collection[str], *, datetimes: bool = False
    ) -> "pd.DataFrame":
        """Give a stream as a table, filled.

        Parameters
        ----------
        stream, keys, datetimes
            As for `Stream.to_pandas`.
        filled
            The data keys to fill.

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
            frame = frames.frame_without_events(self.seq_nums(stream), datetimes=datetimes)
        return frames.filled(frame, columns, stream.keys)

    def _columns_of(self, stream: Stream, keys: Collection[str]) -> "dict[str, ExternalColumn]":
        found = {key: self.column(stream, key) for key in self.keys(stream) if key in keys}
        return {key: column for key, column in found.items() if column is not None}

    def _make_column(self, stream: Stream, key: str) -> "ExternalColumn":
        uids = _uids(stream)
        if key in self._keys_streamed(*uids):
            return SeriesColumn(self._series_of(key, *uids), row_numbers(stream, self))
        frame = stream.to_pandas([key])
        values = frame[key].tolist() if key in frame else [None] * len(frame)
        items = (doc["data_keys"].get(key) for doc in stream.descriptors)
        declared = next((item for item in items if isinstance(item, Mapping)), {})
        return DatumColumn(f"{key!r} of stream {stream.name!r} of run {self.run.uid!r}", values, self._datums, declared)

    def seq_nums(self, stream: Stream) -> list[int]:
        """Give the numbers of the events that a stream has values for in files, whether it has the events or not.

        Parameters
        ----------
        stream
            A stream of the run.
        """
        self._load()
        uids = _uids(stream)
        series = [self._series_of(key, *uids) for key in self._keys_streamed(*uids)]
        return sorted({number for item in series for numbers in item.seq_nums for number in numbers})

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
            if key in data:
                data[key] = as_array(self._datums.load(source))
            else:
                data[key] = self._series_of(key, event["descriptor"]).load(event["seq_num"])
                stamps[key] = event["time"]
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
        if self._files is None or not self._knows(event):
            self._load()
        uid, filled = event["descriptor"], event.get("filled") or {}
        items = self._descriptors.get(uid, {"data_keys": {}})["data_keys"]
        found: dict[str, str] = {}
        for key, item in items.items():
            if (keys is not None and key not in keys) or filled.get(key):
                continue
            value = event["data"].get(key)
            if isinstance(value, str) and (_is_external(item) or filled.get(key) is False):
                found[key] = value
            elif key not in event["data"] and key in self._keys_streamed(uid):
                series = self._series_of(key, uid)
                if event["seq_num"] in series:
                    found[key] = series.datum_of(event["seq_num"])
        return found

    def _knows(self, event: Document) -> bool:
        """Tell whether the documents that an event refers to were taken in; of a run in progress they may be new."""
        if self.run.state != "live":
            return True
        descriptor = self._descriptors.get(event["descriptor"])
        if descriptor is None or self._keys_streamed(descriptor["uid"]):
            return False
        values = (event["data"].get(key) for key, item in descriptor["data_keys"].items() if _is_external(item))
        return all(value in self._datums for value in values if isinstance(value, str))


def row_numbers(stream: Stream, external: External) -> list[int]:
    """Give the number of each row of a stream: of its events, or of its values in files if it has no events.

    Parameters
    ----------
    stream
        The stream.
    external
        The external data of its run.
    """
    numbers: list[int] = stream.to_pandas([]).index.tolist()
    return numbers or external.seq_nums(stream)


def _uids(stream: Stream) -> list[str]:
    return [doc["uid"] for doc in stream.descriptors]


def _is_external(item: Any) -> bool:
    return isinstance(item, Mapping) and bool(item.get("external"))
