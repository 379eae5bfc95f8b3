"""What is done about external data in the events of a run: nothing, reading them, or promising to."""

from typing import Any

from filebroker.cataloging.datasets import delayed_values
from filebroker.cataloging.external import External
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
        self._delayed: dict[str, _DelayedStream] = {}

    def __call__(self, event: Document) -> Document:
        """Fill one event; see `External.fill`.

        Parameters
        ----------
        event
            An event of the run.  It is not modified.
        """
        if self._fill == "no":
            return event
        if self._fill == "yes":
            return self._external.fill(event)
        uid = event["descriptor"]
        if uid not in self._delayed:
            name = next(stream_name(doc) for doc in self._run.descriptors if doc["uid"] == uid)
            self._delayed[uid] = _DelayedStream(self._run[name], self._external)
        return self._delayed[uid].fill(event)


class _DelayedStream:
    """The external data of one stream as dask arrays, with the row of each event in them."""

    def __init__(self, stream: Stream, external: External) -> None:
        self._arrays: dict[str, Any] = {key: delayed_values(stream, external, key) for key in external.keys(stream)}
        frame = stream.to_pandas([])
        times = frame["time"] if len(frame) else ()
        self._rows = {item: row for row, item in enumerate(zip(frame.index, times, strict=True))}

    def fill(self, event: Document) -> Document:
        data, filled = dict(event["data"]), dict(event.get("filled") or {})
        row = self._rows.get((event["seq_num"], event["time"]))
        stamps = dict(event["timestamps"])
        for key, array in self._arrays.items():
            if row is None or filled.get(key):
                continue
            filled[key] = data.get(key, True)
            data[key] = array[row]
            stamps.setdefault(key, event["time"])
        return {**event, "data": data, "timestamps": stamps, **({"filled": filled} if filled else {})}
