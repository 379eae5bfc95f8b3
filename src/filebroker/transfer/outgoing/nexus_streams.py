"""One stream of a run as a group of a NeXus file: NXdata with all fields, and what of them is to be plotted."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from filebroker.cataloging.run import Stream
from filebroker.ground.documents import mapping_or_empty
from filebroker.ground.errors import NotSupported
from filebroker.transfer.outgoing.cells import CellKind, survey
from filebroker.transfer.outgoing.hdf5 import GrowingDataset, nexus_name, set_attributes
from filebroker.transfer.outgoing.hints import hinted_fields, scanned_dimensions
from filebroker.transfer.outgoing.job import Job
from filebroker.transfer.outgoing.rows import StreamRows

_FLOAT, _INTEGER = CellKind("array", np.dtype("float64")), CellKind("array", np.dtype("int64"))
_KINDS = {"float64": _FLOAT, "int64": _INTEGER, "Int64": _FLOAT, "string": CellKind("text")}
#: What has no value at all.
_NOTHING = CellKind("text")


class NexusStream:
    """One stream in a NeXus file.

    Parameters
    ----------
    job
        The run.
    stream
        The stream.
    group
        The group of the file that has it.
    check
        Raises an `OSError` if nothing that is written arrives any more.

    Attributes
    ----------
    fields : dict
        The dataset of each data key.
    """

    def __init__(self, job: Job, stream: Stream, group: Any, check: Callable[[], None]) -> None:
        self._job, self.stream, self.group, self._check = job, stream, group, check
        self._rows = StreamRows(job, stream)
        self.fields: dict[str, GrowingDataset] = {}
        self._declared = {
            key: mapping_or_empty(item) for doc in stream.descriptors for key, item in doc["data_keys"].items()
        }

    def write(self) -> None:
        """Write the fields, and say which of them are the plot."""
        self._write_columns()
        for key in self._rows.external:
            with self._job.guarded(self._rows.place(key)):
                self._write_external(key)
        self._describe_plot()

    # -- the values that the events have

    def _write_columns(self) -> None:
        kinds = self._kinds()
        own = {"seq_num": self._new("seq_num", kinds["seq_num"]), "time": self._new("time", _FLOAT)}
        epoch = self._new("epoch", kinds["time"])
        began = self._job.run.start["time"]
        set_attributes(own["time"].data, {"units": "s", "long_name": "time since the start of the run (s)"})
        set_attributes(epoch.data, {"units": "s", "long_name": "time since 1970-01-01T00:00:00+00:00 (s)"})
        data = [column for column in self._rows.columns if column.source == "data"]
        for column in data:
            self.fields[column.key] = self._new(column.name, kinds[column.name], column.key)
        for first, frame in self._rows.batches():
            own["seq_num"].write(first, _values(frame, "seq_num"))
            times = _values(frame, "time")
            epoch.write(first, times)
            own["time"].write(first, np.asarray(times, "float64") - began)
            for column in data:
                self.fields[column.key].write(first, _values(frame, column.name))
            self._check()
            self._job.progress("rows", first + len(frame), self._rows.count)

    def _kinds(self) -> dict[str, CellKind]:
        """Tell what each column has; those that can have anything are looked at."""
        doubtful = [column.name for column in self._rows.columns if column.dtype not in _KINDS]
        found = survey(self._lists(doubtful)) if doubtful else {}
        return {
            column.name: _KINDS.get(column.dtype) or found.get(column.name, _NOTHING) for column in self._rows.columns
        }

    def _lists(self, names: list[str]) -> Iterator[Mapping[str, list[Any]]]:
        for _, frame in self._rows.batches(names):
            yield {name: [None if is_na else value for value, is_na in _marked(frame[name])] for name in names}

    def _new(self, name: str, kind: CellKind, key: str | None = None) -> GrowingDataset:
        own = nexus_name(name, self.group)
        dataset = GrowingDataset(self.group, own, kind, self._rows.count)
        if key is not None:
            declared = self._declared.get(key, {})
            units = declared.get("units")
            told = {"units": units if isinstance(units, str) else None, "source": declared.get("source")}
            label = f"{key} ({units})" if isinstance(units, str) and units else key
            named = {"data_key": key if key != own else None, "object_name": declared.get("object_name")}
            set_attributes(dataset.data, {**told, **named, "long_name": label})
        return dataset

    # -- the values in files

    def _write_external(self, key: str) -> None:
        """Write the values of a field that are in files, one at a time; one that cannot be read has the fill value."""
        sample = self._rows.sample(key)
        if sample is None:
            return
        array = np.asarray(sample)
        if array.dtype.kind not in "biufcSV":
            raise NotSupported(f"its values are of type {type(sample).__name__}, which HDF5 has no place for")
        kind = CellKind("array", array.dtype.newbyteorder("="), array.shape)
        dataset = self.fields[key] = self._new(key, kind, key)
        if array.ndim > 1:
            dataset.data.attrs["interpretation"] = "image"
        count = len(self._rows.external[key])
        for row, value in enumerate(self._rows.values(key, 0, count)):
            if value is not None:
                self._write_one(key, dataset, kind, row, np.asarray(value))
            self._check()
            self._job.progress(f"values of {key}", row + 1, count)
        dataset.extend(count)

    def _write_one(
        self, key: str, dataset: GrowingDataset, kind: CellKind, row: int, value: "np.ndarray[Any, Any]"
    ) -> None:
        if value.shape != kind.shape or not np.can_cast(value.dtype, kind.dtype, "same_kind"):
            self._job.problem(
                f"row {row} is of shape {value.shape} and type {value.dtype}, and not of {kind.shape} and {kind.dtype} "
                "as the first",
                self._rows.place(key),
            )
            return
        dataset.write_one(row, value)

    # -- the plot

    def _describe_plot(self) -> None:
        """Say what is the signal, and what are its axes."""
        scanned = [
            [key for key in keys if self._is_line(key)]
            for keys in scanned_dimensions(self._job.run.start, self.stream.name)
        ]
        axes = [keys[0] for keys in scanned if keys]
        moved = [key for keys in scanned for key in keys]
        signals = self._signals(moved)
        set_attributes(self.group, {"title": f"{self.stream.name} of run {self._job.run.uid}"})
        if not signals or not len(self.fields[signals[0]].data):
            self.group.attrs["NX_class"] = "NXcollection"  # an NXdata has to have a signal
            return
        first = self.fields[signals[0]].data
        # Of one line of values over two motors, NeXus makes points in a plane.
        shown = axes if len(axes) == 2 and first.ndim == 1 else axes[:1]
        names = [self._name(key) for key in shown] or ["time"]
        if first.ndim == 2 and not self._moves_one_way(names[0]):
            names = ["."]  # a picture has its rows in the order of the axis, evenly
        others = [key for key in signals[1:] if self.fields[key].data.shape == first.shape]
        set_attributes(
            self.group,
            {
                **{"signal": self._name(signals[0]), "auxiliary_signals": [self._name(key) for key in others]},
                **{"axes": names + ["."] * (first.ndim - 1)},
            },
        )
        for key in moved:
            self.group.attrs[f"{self._name(key)}_indices"] = 0
        self.group.attrs["time_indices"] = 0

    def _signals(self, moved: list[str]) -> list[str]:
        """Give the fields to plot, the hinted ones if there are any; numbers before images."""
        numbers = [key for key, field in self.fields.items() if field.is_number and key not in moved]
        hinted = [key for key in hinted_fields(self.stream) if key in numbers]
        return sorted(hinted or numbers, key=lambda key: self.fields[key].data.ndim)

    def _is_line(self, key: str) -> bool:
        return key in self.fields and self.fields[key].is_number and self.fields[key].data.ndim == 1

    def _moves_one_way(self, name: str) -> bool:
        steps = np.diff(np.asarray(self.group[name], "float64"))
        return bool(np.all(steps > 0) or np.all(steps < 0))

    def _name(self, key: str) -> str:
        return str(self.fields[key].data.name).rpartition("/")[2]


def _values(frame: Any, name: str) -> Any:
    """Give a column as numbers where it is numbers, else as a list."""
    column = frame[name]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb":
        return column.to_numpy()
    return column.tolist()


def _marked(column: Any) -> Iterator[tuple[Any, bool]]:
    import pandas as pd

    return ((value, value is pd.NA) for value in column.tolist())
