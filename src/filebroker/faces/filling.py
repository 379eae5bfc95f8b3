"""What is done about external data in the events of a run: nothing, reading them, or promising to."""

from collections.abc import KeysView, Mapping
from typing import Any

from filebroker.cataloging.datasets import delayed_values
from filebroker.cataloging.external import External, ExternalView
from filebroker.cataloging.run import Run, Stream
from filebroker.ground.documents import Document, stream_name
from filebroker.ground.errors import InvalidFill

_OPTIONS = ("yes", "no", "delayed")


class Filling:
    """A function of events that puts external data in the place of the references to them.

    Parameters
    ----------
    run
        The run.
    external
        Its external data.
    fill
        ``yes`` reads them, ``delayed`` gives dask arrays, ``no`` leaves the references.

    Raises
    ------
    InvalidFill
        ``fill`` is none of these.
    """

    def __init__(self, run: Run, external: External, fill: str) -> None:
        if fill not in _OPTIONS:
            raise InvalidFill(f"Invalid fill option: {fill!r:.100}; it is one of {', '.join(map(repr, _OPTIONS))}")
        self._run, self._external, self._fill = run, external, fill
        self._view: ExternalView | None = None
        self._delayed: dict[str, _DelayedStream] = {}
        self._streams: dict[str, str] = {}

    def __call__(self, event: Document) -> Document:
        """Fill one event; see `ExternalView.fill`.

        Parameters
        ----------
        event
            An event of the run.  It is not modified.
        """
        if self._fill == "no":
            return event
        if self._view is None:  # made after the events were read, it knows what they refer to
            self._view = self._external.view()
        if self._fill == "yes":
            return self._view.fill(event)
        sources = self._view.sources(event)
        if not sources:
            return event
        name = self._stream_of(event["descriptor"])
        if name not in self._delayed:
            self._delayed[name] = _DelayedStream(self._run[name], self._external)
        delayed = self._delayed[name]
        # What the event alone says is external has no column to promise.
        undeclared = sources.keys() - delayed.keys
        filled = self._view.fill(event, undeclared) if undeclared else event
        return delayed.fill(filled, {key: source for key, source in sources.items() if key in delayed.keys})

    def _stream_of(self, descriptor_uid: str) -> str:
        if descriptor_uid not in self._streams:
            self._streams = {doc["uid"]: stream_name(doc) for doc in self._run.descriptors}
        return self._streams[descriptor_uid]


class _DelayedStream:
    """The external data of one stream as dask arrays, with the row of each event in them."""

    def __init__(self, stream: Stream, external: External) -> None:
        self._arrays: dict[str, Any] = {key: delayed_values(stream, external, key) for key in external.keys(stream)}
        self._rows = {uid: row for row, uid in enumerate(stream.event_uids())}

    @property
    def keys(self) -> KeysView[str]:
        """The fields that there are arrays of."""
        return self._arrays.keys()

    def fill(self, event: Document, sources: Mapping[str, str]) -> Document:
        row = self._rows[event["uid"]]
        stamps = {key: event["time"] for key in sources if key not in event["data"]}
        return {
            **event,
            "data": {**event["data"], **{key: self._arrays[key][row] for key in sources}},
            "timestamps": {**event["timestamps"], **stamps},
            "filled": {**(event.get("filled") or {}), **sources},
        }
