"""Runs with everything that makes exporting hard, for the tests of it."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

import factories as make
from filebroker import Broker, Handlers

#: The images of the runs of `run_with_images`, shape (events, rows, columns).
IMAGES = np.arange(3 * 4 * 5, dtype="uint16").reshape(3, 4, 5)

#: Values of fields, three events each, by the dtype that is declared.
ODD_FIELDS: dict[str, tuple[str, list[Any]]] = {
    "number": ("number", [0.1, float("nan"), -1e300]),
    "count": ("integer", [1, 2**53 + 1, -3]),
    "huge": ("integer", [2**63, 0, 1]),
    "beyond": ("integer", [2**70, 0, 1]),
    "flag": ("boolean", [True, False, True]),
    "gappy flag": ("boolean", [True, None, False]),
    "text": ("string", ['Grüße, "x"\nµ', "", "=1+1"]),
    "gappy text": ("string", ["a", None, "-b"]),
    "nothing": ("number", [None, None, None]),
    "spectrum": ("array", [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "gappy spectrum": ("array", [[1.5, 2.5], None, [3.5, 4.5]]),
    "ragged": ("array", [[1.0], [2.0, 3.0], []]),
    "plane": ("array", [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]]),
    "names": ("array", [["a", "b"], ["c", "d"], ["é", "f"]]),
    "no numbers": ("array", [[], [], []]),
    "tree": ("array", [{"a": [1, None]}, {"b": "x"}, {}]),
    "mixed": ("number", [1, "two", 3.0]),
    "../x": ("number", [1.0, 2.0, 3.0]),
    "a/b": ("number", [4.0, 5.0, 6.0]),
    "a_b": ("number", [-4.0, -5.0, -6.0]),
    "a b": ("number", [0.4, 0.5, 0.6]),
    "time": ("number", [7.0, 8.0, 9.0]),
    "seq_num": ("integer", [7, 8, 9]),
    "_x": ("number", [10.0, 11.0, 12.0]),
    ".": ("number", [13.0, 14.0, 15.0]),
    "nul\x00": ("string", ["a\x00b", "c", "d"]),
}


class Npy:
    """A handler of images in files of NumPy, as old detectors have them."""

    specs = frozenset({"TEST_NPY"})

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, index: int) -> Any:
        return np.load(f"{self._path}_{index}.npy", allow_pickle=False)

    def get_file_list(self, datum_kwargs: Any) -> list[str]:
        return [f"{self._path}_{item['index']}.npy" for item in datum_kwargs]


HANDLERS = Handlers({"TEST_NPY": Npy}, discover=False)


def record(broker: Broker, pairs: list[tuple[str, Any]]) -> str:
    """Record a run, and give its uid."""
    for name, doc in pairs:
        broker.insert(name, doc)
    return str(pairs[0][1]["uid"])


def odd_run(**keys: Any) -> list[tuple[str, Any]]:
    """Make a run with the odd fields."""
    begun = make.start(**{"sample": {"name": "../../{uid}"}, "comment": "{{ 1 }} \x1b[2J", "none": None, **keys})
    primary = make.descriptor(begun, {name: make.data_key(dtype) for name, (dtype, _) in ODD_FIELDS.items()})
    events = [
        ("event", make.event(primary, row + 1, {name: values[row] for name, (_, values) in ODD_FIELDS.items()}))
        for row in range(3)
    ]
    return [("start", begun), ("descriptor", primary), *events, ("stop", make.stop(begun, {"primary": 3}))]


def scan(rows: int = 11, **keys: Any) -> list[tuple[str, Any]]:
    """Make a scan as bluesky records it: hints, units, a configuration, a baseline, a stream with an odd name."""
    hints = {"dimensions": [[["motor"], "primary"]]}
    begun = make.start(plan_name="scan", motors=["motor"], hints=hints, plan_args={"num": rows}, **keys)
    fields = {
        "det": make.data_key(units="counts"),
        "motor": make.data_key(units="mm", object_name="motor"),
        "motor_setpoint": make.data_key(units="mm"),
    }
    objects = {"det": ["det"], "motor": ["motor", "motor_setpoint"]}
    configuration = {
        "det": {
            "data": {"exposure": 0.5, "label": "front", "mask": [[1, 0]]},
            "timestamps": {"exposure": 1.0},
            "data_keys": {"exposure": make.data_key(units="s")},
        }
    }
    told = {"object_keys": objects, "configuration": configuration}
    primary = make.descriptor(begun, fields, hints={"det": {"fields": ["det"]}, "motor": {"fields": ["motor"]}}, **told)
    baseline = make.descriptor(begun, {"temperature": make.data_key(units="K"), "sample  x": "number"}, name="baseline")
    dark = make.descriptor(begun, ["dark"], name="../dark frame")
    events = [
        ("event", make.event(primary, row + 1, {"det": row**2 / 7, "motor": row / 10, "motor_setpoint": row / 10}))
        for row in range(rows)
    ]
    before, after = ({"temperature": 300.5 + row, "sample  x": -1.0} for row in range(2))
    return [
        *[("start", begun), ("descriptor", baseline), ("event", make.event(baseline, 1, before))],
        *[("descriptor", primary), *events],
        *[("descriptor", dark), ("event", make.event(dark, 1, {"dark": 0.25}))],
        *[("event", make.event(baseline, 2, after))],
        ("stop", make.stop(begun, {"primary": rows, "baseline": 2, "../dark frame": 1})),
    ]


def run_with_images(directory: Path, **keys: Any) -> list[tuple[str, Any]]:
    """Make a run with images in files: those of an old detector one by one, those of a new one in one HDF5 file."""
    directory.mkdir(exist_ok=True)
    for number, image in enumerate(IMAGES):
        np.save(directory / f"old_{number}.npy", image)
    with h5py.File(directory / "new.h5", "w") as file:
        file["data"] = IMAGES + 1
        file["sums"] = IMAGES.sum((1, 2))
    begun = make.start(**keys)
    streamed = {"dtype_numpy": "<u2", "external": "STREAM:"}
    fields = {
        "old": make.data_key("array", shape=[4, 5], external="FILESTORE:"),
        "new": make.data_key("array", shape=[1, 4, 5], **streamed),
        "sums": make.data_key("number", shape=[], **{**streamed, "dtype_numpy": "<u8"}),
        "det": "number",
    }
    primary = make.descriptor(begun, fields, hints={"old": {"fields": ["old"]}})
    held = make.resource(begun, spec="TEST_NPY", root=str(directory), resource_path="old")
    pairs = [("start", begun), ("descriptor", primary), ("resource", held)]
    for key, dataset in (("new", "/data"), ("sums", "/sums")):
        pairs += _stream_of(begun, primary, directory, key, dataset)
    for row in range(3):
        pairs.append(("datum", make.datum(held, row)))
        data = {"old": f"{held['uid']}/{row}", "det": float(row)}
        pairs.append(("event", make.event(primary, row + 1, data)))
    return [*pairs, ("stop", make.stop(begun, {"primary": 3}))]


def _stream_of(
    begun: dict[str, Any], primary: dict[str, Any], directory: Path, key: str, dataset: str
) -> list[tuple[str, Any]]:
    uid = make.uid()
    resource = {
        **{"uid": uid, "run_start": begun["uid"], "data_key": key, "mimetype": "application/x-hdf5"},
        **{"uri": f"file://localhost{directory}/new.h5", "parameters": {"dataset": dataset, "chunk_shape": [1]}},
    }
    datum = {
        **{"uid": f"{uid}/0", "stream_resource": uid, "descriptor": primary["uid"]},
        **{"seq_nums": {"start": 1, "stop": 4}, "indices": {"start": 0, "stop": 3}},
    }
    return [("stream_resource", resource), ("stream_datum", datum)]
