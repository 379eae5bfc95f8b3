"""Runs whose images are in files of their own, one image an event: 1,000 files of NumPy, or one file of HDF5."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

SIZE = 512
_BEGIN = 1_700_000_000.0
Pair = tuple[str, dict[str, Any]]


def frame(number: int) -> np.ndarray[Any, Any]:
    """Give the image of an event, which can be told from those of all others."""
    return np.full((SIZE, SIZE), number, "uint16")


def sequence(folder: str, count: int) -> Iterator[Pair]:
    """Write one file of NumPy an image, as `ophyd.sim` does, and give the documents: resource, datum, event."""
    os.makedirs(folder, exist_ok=True)
    yield from _begun("sequence", {"external": "FILESTORE:"})
    resource = {"uid": "images-sequence", "run_start": "sequence", "spec": "NPY_SEQ", "root": folder}
    yield "resource", resource | {"resource_path": "img", "resource_kwargs": {}, "path_semantics": "posix"}
    for number in range(count):
        np.save(sequence_file(folder, number), frame(number))
        datum = {"datum_id": f"images-sequence/{number}", "resource": resource["uid"]}
        yield "datum", datum | {"datum_kwargs": {"index": number}}
        yield _event("sequence", number, {"img": datum["datum_id"]}, {"img": False})
    yield _stopped("sequence")


def sequence_file(folder: str, number: int) -> str:
    """Give the path of the file of an image."""
    return os.path.join(folder, f"img_{number}.npy")


def stack(path: str, count: int) -> Iterator[Pair]:
    """Write all images into a file of HDF5, and give the documents as ophyd-async does: stream_resource, event."""
    import h5py

    with h5py.File(path, "w") as file:
        images = file.create_dataset("entry/data/data", (count, SIZE, SIZE), "uint16", chunks=(1, SIZE, SIZE))
        for number in range(count):
            images[number] = frame(number)
    yield from _begun("stack", {"external": "STREAM:", "dtype_numpy": "<u2"})
    resource = {"uid": "images-stack", "run_start": "stack", "data_key": "img", "mimetype": "application/x-hdf5"}
    parameters = {"dataset": "/entry/data/data", "chunk_shape": [1, SIZE, SIZE]}
    yield "stream_resource", resource | {"uri": f"file://localhost{path}", "parameters": parameters}
    datum = {"uid": "images-stack/0", "stream_resource": resource["uid"], "descriptor": "primary-stack"}
    yield (
        "stream_datum",
        datum | {"indices": {"start": 0, "stop": count}, "seq_nums": {"start": 1, "stop": count + 1}},
    )
    for number in range(count):
        yield _event("stack", number, {}, {})
    yield _stopped("stack")


def _begun(uid: str, img: dict[str, Any]) -> Iterator[Pair]:
    yield "start", {"uid": uid, "time": _BEGIN, "scan_id": 1, "plan_name": "count", "detectors": ["img"]}
    keys = {
        "img": {"source": "SIM:img", "dtype": "array", "shape": [SIZE, SIZE], **img},
        "motor": {"source": "SIM:motor", "dtype": "number", "shape": []},
    }
    doc = {"uid": f"primary-{uid}", "run_start": uid, "time": _BEGIN, "name": "primary", "data_keys": keys}
    configuration = {key: {"data": {}, "timestamps": {}, "data_keys": {}} for key in keys}
    yield "descriptor", doc | {"object_keys": {key: [key] for key in keys}, "configuration": configuration, "hints": {}}


def _event(uid: str, number: int, data: dict[str, Any], filled: dict[str, bool]) -> Pair:
    data, time = {**data, "motor": number * 0.1}, _BEGIN + number
    doc = {"uid": f"event-{number}-{uid}", "descriptor": f"primary-{uid}", "time": time, "seq_num": number + 1}
    return "event", doc | {"data": data, "timestamps": dict.fromkeys(data, time), "filled": filled}


def _stopped(uid: str) -> Pair:
    return "stop", {"uid": f"stop-{uid}", "run_start": uid, "time": _BEGIN + 1e4, "exit_status": "success"}
