"""Section 8 of the contract: runs as mappings of streams, streams as xarray datasets, documents in pages."""

import copy
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array
import event_model
import h5py
import numpy as np
import ophyd.sim
import pytest
import xarray
from bluesky import RunEngine, plan_stubs as bps, preprocessors as bpp
from bluesky.plans import count, scan
from event_model import UndefinedAssetSpecification

from factories import T0, data_key, datum, descriptor, event, event_page, resource, run as whole_run, start, stop
from filebroker import Broker, temp
from filebroker.cataloging import arrays
from filebroker.faces import documents as document_classes
from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.browsing import RunCatalog
from filebroker.faces.documents import Descriptor, Document, Event, NotMutable, Resource, Start, Stop
from filebroker.ground.errors import (
    AssetWarning,
    InvalidFill,
    MissingHandler,
    UnknownStream,
    UnreadableAsset,
)

Pair = tuple[str, dict[str, Any]]


class Frames:
    """A handler of images of 3 x 4 pixels, all of the frame's number; it notes what is read."""

    read: list[int] = []
    shape: tuple[int, ...] = (3, 4)
    dtype = "uint16"

    def __init__(self, path: str, **kwargs: Any) -> None:
        self._kwargs = kwargs

    def __call__(self, index: int) -> Any:
        self.read.append(index)
        return np.full(self.shape, index, self.dtype)

    def get_file_list(self, datum_kwargs: Any) -> list[str]:
        return [f"frame{item['index']}" for item in datum_kwargs]


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> type[Frames]:
    monkeypatch.setattr(Frames, "read", [])
    monkeypatch.setattr(Frames, "shape", (3, 4))
    monkeypatch.setattr(Frames, "dtype", "uint16")
    return Frames


def recorded(documents: list[Pair], **handlers: Any) -> BlueskyRun:
    """Insert documents into a new catalog, and give the run."""
    db = temp()
    for name, doc in documents:
        db.insert(name, doc)
    for spec, handler in handlers.items():
        db.reg.register_handler(spec, handler, overwrite=True)
    return db.v2[-1]


def image_run(rows: int = 4, root: Any = "", **image: Any) -> list[Pair]:
    """Make a run with a scalar and images in files of their own."""
    begun = start()
    key = {"source": "sim", "dtype": "array", "shape": [3, 4], "dtype_numpy": "<u2", "external": "FILESTORE:"} | image
    primary = descriptor(begun, {"det": "number", "image": key})
    held = resource(begun, spec="FRAMES", root=str(root), resource_path="images")
    documents: list[Pair] = [("start", begun), ("descriptor", primary), ("resource", held)]
    for number in range(1, rows + 1):
        part = datum(held, number)
        documents += [("datum", part)]
        documents += [("event", event(primary, number, {"det": number / 2, "image": part["datum_id"]}))]
    return [*documents, ("stop", stop(begun, {"primary": rows}))]


def values_run(values: list[Any], dtype: str = "number", **key: Any) -> list[Pair]:
    """Make a run with one field."""
    begun = start()
    primary = descriptor(begun, {"x": {"source": "sim", "dtype": dtype, "shape": []} | key})
    events = [("event", event(primary, number, {"x": value})) for number, value in enumerate(values, 1)]
    return [("start", begun), ("descriptor", primary), *events, ("stop", stop(begun, {"primary": len(values)}))]


def streamed_run(directory: Path, rows: int = 6, *, with_events: bool = True) -> list[Pair]:
    """Make a run as ophyd-async does: images in an HDF5 file that no event mentions."""
    path = directory / "images.h5"
    with h5py.File(path, "w") as file:
        images = np.arange(rows)[:, None, None] + np.zeros((rows, 3, 4))
        file.create_dataset("data", data=images.astype("uint16"), chunks=(1, 3, 4))
    begun = start()
    key = {"source": "sim", "dtype": "array", "shape": [1, 3, 4], "dtype_numpy": "<u2", "external": "STREAM:"}
    primary = descriptor(begun, {"image": key} | ({"motor": "number"} if with_events else {}))
    held = {
        **{"uid": "held", "run_start": begun["uid"], "data_key": "image", "mimetype": "application/x-hdf5"},
        **{"uri": f"file://localhost{path}", "parameters": {"dataset": "data", "chunk_shape": [1, 3, 4]}},
    }
    part = {
        **{"uid": "held/0", "stream_resource": "held", "descriptor": primary["uid"]},
        **{"seq_nums": {"start": 1, "stop": rows + 1}, "indices": {"start": 0, "stop": rows}},
    }
    numbers = range(1, rows + 1) if with_events else ()
    events = [("event", event(primary, number, {"motor": number / 10})) for number in numbers]
    begin = [("start", begun), ("descriptor", primary), ("stream_resource", held), ("stream_datum", part)]
    return [*begin, *events, ("stop", stop(begun, {"primary": rows}))]


@pytest.fixture(scope="module")
def scanned() -> Iterator[tuple[Broker, list[Pair]]]:
    """Give what a RunEngine recorded: two detectors, a motor, a baseline and a monitored signal."""
    hardware, engine, db = ophyd.sim.hw(), RunEngine({}), temp()
    documents: list[Pair] = []
    engine.subscribe(db.insert)
    engine.subscribe(lambda name, doc: documents.append((name, event_model.sanitize_doc(doc))))
    engine.preprocessors.append(bpp.SupplementalData(baseline=[hardware.motor1], monitors=[hardware.rand]))
    engine(scan([hardware.det, hardware.img], hardware.motor, -1, 1, 5, md={"purpose": "v2"}))
    db.reg.register_handler("NPY_SEQ", ophyd.sim.NumpySeqHandler, overwrite=True)
    yield db, documents
    db.close()


# -- runs


def test_a_run_is_a_mapping_of_its_streams(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    assert set(run) == {"baseline", "primary", "rand_monitor"}
    assert len(run) == 3
    assert "primary" in run
    assert "nope" not in run
    assert run.keys() == list(run)
    assert [name for name, stream in run.items() if stream.name == name] == list(run)
    assert [stream.name for stream in run.values()] == list(run)
    assert run.primary.name == run["primary"].name == "primary"
    assert "primary" in dir(run)


def test_a_run_gives_itself_when_called(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    assert run() is run
    assert run.get() is run
    assert run.configure_new() is run
    assert run.v2 is run


def test_a_stream_that_is_not_there_is_a_key_error_and_an_attribute_error(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    with pytest.raises(KeyError, match="no stream 'nope'"):
        run["nope"]
    with pytest.raises(AttributeError):
        run.nope  # noqa: B018
    with pytest.raises(UnknownStream):
        run.nope  # noqa: B018
    assert hasattr(run, "primary")
    assert not hasattr(run, "events")
    assert not hasattr(run, "_anything")


def test_metadata_are_the_start_and_stop_documents(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    assert type(run.metadata["start"]) is Start
    assert type(run.metadata["stop"]) is Stop
    assert run.metadata["start"]["purpose"] == "v2"
    assert run.metadata["stop"]["num_events"]["primary"] == 5
    assert run.uid == run.name == run.metadata["start"]["uid"]
    assert not hasattr(run, "start")  # by which apstools tells a header from a run
    assert run.cat.v1[run.uid] == run.catalog_object.v1[run.uid] == run.v1
    with pytest.raises(NotMutable):
        run.metadata["start"]["purpose"] = "another"


def test_describe_tells_what_an_entry_of_intake_tells(scanned: Any) -> None:
    described = scanned[0].v2[-1].describe()
    assert described["container"] == "bluesky-run"
    assert described["name"] == described["metadata"]["start"]["uid"]
    assert described["metadata"]["stop"]["exit_status"] == "success"
    assert {"driver", "args"} <= described.keys()


def test_a_run_in_progress_has_no_stop_and_grows() -> None:
    documents = whole_run(rows=3)
    db = temp()
    for name, doc in documents[:3]:
        db.insert(name, doc)
    run = db.v2[-1]
    assert run.metadata["stop"] is None
    assert run.primary.read().sizes["time"] == 1
    assert [name for name, _ in run.documents(fill="no")] == ["start", "descriptor", "event_page"]
    for name, doc in documents[3:]:
        db.insert(name, doc)
    assert run.metadata["stop"]["exit_status"] == "success"
    assert run.primary.read().sizes["time"] == 3


def test_images_of_a_run_in_progress_are_those_so_far(frames: type[Frames]) -> None:
    documents = image_run(rows=4)
    db = temp()
    db.reg.register_handler("FRAMES", frames)
    for name, doc in documents[:5]:
        db.insert(name, doc)
    run = db.v2[-1]
    early = run.primary.to_dask()
    assert early["image"].shape == (1, 3, 4)
    for name, doc in documents[5:]:
        db.insert(name, doc)
    assert run.primary.to_dask()["image"].compute().values[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert early["image"].compute().values[:, 0, 0].tolist() == [1]
    pages = [doc for name, doc in run.documents(fill="delayed") if name == "event_page"]
    assert [int(page["data"]["image"][0].max().compute()) for page in pages] == [1, 2, 3, 4]


def test_an_aborted_run_has_its_stop_document() -> None:
    engine, db = RunEngine({}), temp()
    engine.subscribe(db.insert)

    def plan() -> Iterator[Any]:
        yield from bps.open_run()
        yield from bps.create()
        yield from bps.read(ophyd.sim.motor)
        yield from bps.save()
        raise RuntimeError("beam lost")

    with pytest.raises(RuntimeError, match="beam lost"):
        engine(plan())
    run = db.v2[-1]
    assert run.metadata["stop"]["exit_status"] == "fail"
    assert run.primary.read()["motor"].shape == (1,)


@pytest.mark.parametrize("method", ["read", "to_dask", "persist"])
def test_a_run_itself_cannot_be_read(scanned: Any, method: str) -> None:
    with pytest.raises(NotImplementedError, match="streams"):
        getattr(scanned[0].v2[-1], method)()


def test_runs_show_themselves(scanned: Any) -> None:
    class Printer:
        def text(self, text: str) -> None:
            shown.append(text)

    shown: list[str] = []
    run = scanned[0].v2[-1]
    assert repr(run) == f"<BlueskyRun uid={run.uid!r}>"
    run._repr_pretty_(Printer(), False)
    assert run.uid in shown[0]
    assert "* primary" in shown[0]
    assert run.uid in run._repr_html_()
    assert run.uid[:8] in repr(run.primary)


def test_equal_runs_are_equal_and_survive_pickling(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    again = pickle.loads(pickle.dumps(run))
    assert again == run
    assert hash(again) == hash(run)
    assert run != "run"
    assert again.primary.read().equals(run.primary.read())


def test_a_run_has_its_header(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    assert run.v1 == scanned[0][-1]
    assert run.v1.v2 == run


# -- documents


@pytest.mark.parametrize("fill", ["yes", "no", "delayed"])
@pytest.mark.parametrize("strict", [True, False])
def test_documents_are_those_inserted(scanned: Any, fill: str, strict: bool) -> None:
    db, inserted = scanned
    given = list(db.v2[-1].documents(fill=fill, strict_order=strict))
    assert given[0][0] == "start"
    assert given[-1][0] == "stop"
    assert {name for name, _ in given} == {"start", "descriptor", "resource", "datum_page", "event_page", "stop"}
    found = _indexed(given)
    expected = _indexed(inserted)
    assert found.keys() == expected.keys()
    for key, doc in expected.items():
        if key[0] == "event" and fill != "no":
            doc = {**doc, "data": {**doc["data"]}}
            doc["data"].pop("img", None)
            found[key]["data"].pop("img", None)
            assert set(found[key].pop("filled")) == set(doc.pop("filled"))
        assert found[key] == doc


def _indexed(documents: list[Pair]) -> dict[tuple[str, str], dict[str, Any]]:
    singles: list[Pair] = []
    for name, doc in documents:
        if name == "event_page":
            singles += [("event", item) for item in event_model.unpack_event_page(doc)]
        elif name == "datum_page":
            singles += [("datum", item) for item in event_model.unpack_datum_page(doc)]
        else:
            singles.append((name, doc))
    index = {(name, doc.get("uid", doc.get("datum_id"))): dict(doc) for name, doc in singles}
    assert len(index) == len(singles)  # each once
    return index


def test_each_event_has_a_page_of_its_own_in_the_order_of_time(scanned: Any) -> None:
    pages = [doc for name, doc in scanned[0].v2[-1].documents(fill="no") if name == "event_page"]
    assert all(len(page["seq_num"]) == 1 for page in pages)
    assert [page["time"][0] for page in pages] == sorted(page["time"][0] for page in pages)
    assert all(type(page) is dict for page in pages)


def test_events_share_pages_where_the_order_need_not_be_strict() -> None:
    run = recorded(whole_run(rows=7))
    pages = [doc for name, doc in run.documents(fill="no", strict_order=False) if name == "event_page"]
    assert [page["seq_num"] for page in pages] == [[1, 2, 3, 4, 5, 6, 7]]


def test_filled_documents_hold_the_data(frames: type[Frames]) -> None:
    run = recorded(image_run(), FRAMES=frames)
    pages = [doc for name, doc in run.documents(fill="yes") if name == "event_page"]
    for number, page in enumerate(pages, 1):
        assert np.array_equal(page["data"]["image"][0], np.full((3, 4), number))
        assert page["filled"]["image"][0].endswith(f"/{number}")


def test_datum_documents_of_one_resource_share_a_page(frames: type[Frames]) -> None:
    documents = image_run()
    parts = [pair for pair in documents if pair[0] == "datum"]
    documents = [*documents[:3], *parts, *(pair for pair in documents[3:] if pair[0] != "datum")]
    pages = [doc for name, doc in recorded(documents).documents(fill="no") if name == "datum_page"]
    assert [page["datum_kwargs"] for page in pages] == [{"index": [1, 2, 3, 4]}]


def test_delayed_documents_hold_dask_arrays_and_read_nothing(frames: type[Frames]) -> None:
    run = recorded(image_run(), FRAMES=frames)
    pages = [doc for name, doc in run.documents(fill="delayed") if name == "event_page"]
    assert frames.read == []
    third = pages[2]["data"]["image"][0]
    assert isinstance(third, dask.array.Array)
    assert third.shape == (3, 4)
    assert np.array_equal(third.compute(), np.full((3, 4), 3))
    assert frames.read == [3]
    assert pages[2]["filled"]["image"][0].endswith("/3")


@pytest.mark.parametrize("fill", ["yes", "delayed"])
def test_events_without_external_data_are_left_alone(frames: type[Frames], fill: str) -> None:
    documents = image_run()
    plain = descriptor(documents[0][1], ["det"], time=T0 + 50)
    documents[-1:-1] = [("descriptor", plain), ("event", event(plain, 9))]
    documents[4][1]["data"]["image"] = None
    pages = [doc for name, doc in recorded(documents, FRAMES=frames).documents(fill=fill) if name == "event_page"]
    assert pages[0]["data"]["image"] == [None]
    assert pages[1]["filled"]["image"][0].endswith("/2")
    assert pages[-1]["data"].keys() == {"det"}
    assert pages[-1]["filled"] == {}


def test_unfilled_documents_need_no_handler() -> None:
    run = recorded(image_run())
    pages = [doc for name, doc in run.documents(fill="no") if name == "event_page"]
    assert pages[0]["data"]["image"][0].endswith("/1")
    assert pages[0]["filled"] == {"image": [False]}


@pytest.mark.parametrize("error", [MissingHandler, KeyError, UndefinedAssetSpecification])
def test_filled_documents_without_a_handler_are_an_error(error: type[Exception]) -> None:
    with pytest.raises(error, match="FRAMES"):
        list(recorded(image_run()).documents(fill="yes"))


def test_fill_has_to_be_given_and_to_be_known(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    with pytest.raises(TypeError):
        run.documents()
    for wrong in (True, False, None, "maybe"):
        with pytest.raises(InvalidFill, match="Invalid fill option"):
            list(run.documents(fill=wrong))
    assert issubclass(InvalidFill, ValueError)


def test_documents_satisfy_event_models_filler(scanned: Any) -> None:
    filler = event_model.Filler({"NPY_SEQ": ophyd.sim.NumpySeqHandler}, inplace=False)
    shapes = [
        np.shape(page["data"]["img"][0])
        for name, page in (filler(*pair) for pair in scanned[0].v2[-1].documents(fill="no"))
        if name == "event_page" and "img" in page["data"]
    ]
    assert shapes == [(10, 10)] * 5


def test_old_names_of_documents_warn(scanned: Any) -> None:
    run = scanned[0].v2[-1]
    with pytest.warns(UserWarning, match="documents"):
        assert next(run.read_canonical())[0] == "start"
    with pytest.warns(UserWarning, match="documents"):
        assert next(run.canonical(fill="no"))[0] == "start"


def test_the_kinds_of_documents_have_classes_of_their_own(scanned: Any) -> None:
    kinds = {name: type(doc) for name, doc in scanned[0].v2[-1].documents(fill="no")}
    assert kinds["start"] is Start
    assert kinds["stop"] is Stop
    assert kinds["descriptor"] is Descriptor
    assert kinds["resource"] is Resource
    assert kinds["datum_page"] is dict


def test_stream_documents_are_given_and_fill_events(tmp_path: Path) -> None:
    run = recorded(streamed_run(tmp_path))
    unfilled = list(run.documents(fill="no"))
    assert {"stream_resource", "stream_datum"} <= {name for name, _ in unfilled}
    assert all("image" not in doc["data"] for name, doc in unfilled if name == "event_page")
    for fill in ("yes", "delayed"):
        pages = [doc for name, doc in run.documents(fill=fill) if name == "event_page"]
        assert [float(np.asarray(page["data"]["image"][0]).max()) for page in pages] == [0, 1, 2, 3, 4, 5]
        assert all(page["filled"]["image"][0] for page in pages)


def test_the_files_of_a_resource_are_what_its_handler_says(frames: type[Frames]) -> None:
    run = recorded(image_run(rows=2), FRAMES=frames)
    held = next(doc for name, doc in run.documents(fill="no") if name == "resource")
    assert run.get_file_list(held) == ["frame1", "frame2"]


def test_transforms_change_documents_once(frames: type[Frames]) -> None:
    plain = recorded(image_run(), FRAMES=frames).v1.db

    def marked(doc: dict[str, Any]) -> dict[str, Any]:
        assert "mark" not in doc
        return {**doc, "mark": "new"}

    kinds = ("start", "stop", "descriptor", "resource")
    db = Broker(plain.catalog, handlers=plain.handlers, transforms=dict.fromkeys(kinds, marked))
    for catalog in (db.v2, db.v2.search({}), db.v2.search({}).search({})):
        run = catalog[-1]
        assert run.metadata["start"]["mark"] == run.metadata["stop"]["mark"] == "new"
        assert run.primary.metadata["descriptors"][0]["mark"] == "new"
        for name, doc in run.documents(fill="yes"):
            assert ("mark" in doc) == (name in kinds), name


# -- datasets


def test_a_stream_is_a_dataset_with_time_and_devices(scanned: Any) -> None:
    db, inserted = scanned
    found = db.v2[-1].primary.read()
    uid = next(doc["uid"] for name, doc in inserted if name == "descriptor" and doc["name"] == "primary")
    events = [doc for name, doc in inserted if name == "event" and doc["descriptor"] == uid]
    assert isinstance(found, xarray.Dataset)
    assert list(found) == ["det", "img", "motor", "motor_setpoint"]
    assert list(found.coords) == ["time"]
    assert found["time"].values.tolist() == [doc["time"] for doc in events]
    for key in ("det", "motor", "motor_setpoint"):
        assert found[key].dims == ("time",)
        assert found[key].values.tolist() == [doc["data"][key] for doc in events]
    assert found["img"].dims == ("time", "dim_0", "dim_1")
    assert found["img"].values.tolist() == np.ones((5, 10, 10)).tolist()
    assert found["motor_setpoint"].attrs == {"object": "motor"}
    assert found["motor"].to_dataframe().shape == (5, 1)
    found["det"][0] = 5.0  # it can be changed
    assert all(isinstance(value.data, np.ndarray) for value in found.values())


def test_every_variable_is_a_dask_array_until_it_is_computed(scanned: Any) -> None:
    stream = scanned[0].v2[-1].primary
    lazy = stream.to_dask()
    assert all(isinstance(value.data, dask.array.Array) for value in lazy.values())
    assert lazy["img"].data.chunks == ((1,) * 5, (10,), (10,))
    assert lazy.compute().identical(stream.read())
    assert stream.read_chunked().compute().identical(stream.read())


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1.5, 2.5], "number", "float64"),
        ([1, 2], "integer", "int64"),
        ([1, 2.5], "number", "float64"),
        ([1, None], "number", "float64"),
        (["open", "shut it"], "string", "<U7"),
        (["open", None], "string", "object"),
        (["x" * 5000, "y"], "string", "object"),
        ([True, False], "boolean", "bool"),
        ([True, None], "boolean", "object"),
        ([None, None], "number", "object"),
        ([{"a": 1}, {"a": 2}], "string", "object"),
        ([1, "two"], "string", "object"),
    ],
)
def test_values_keep_their_kind(values: list[Any], dtype: str, expected: str) -> None:
    stream = recorded(values_run(values, dtype)).primary
    for found in (stream.read()["x"], stream.to_dask()["x"].compute()):
        assert found.dtype == np.dtype(expected)
        assert found.dims == ("time",)
        pairs = zip(found.values.tolist(), values, strict=True)
        assert all(one == other or (other is None and one in (None, one)) for one, other in pairs)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.arange(6).reshape(2, 3)] * 3, "int64"),
        ([np.arange(600.0, dtype="float32").reshape(20, 30)] * 3, "float32"),
        ([[[1, 2, 3], [4, 5, 6]]] * 3, "int64"),
        ([[["a", "b"], ["c", "dd"]]] * 3, "<U2"),
        ([np.zeros((2, 3), bool)] * 3, "bool"),
    ],
)
def test_arrays_in_events_are_stacked(values: list[Any], expected: str) -> None:
    shape = np.shape(values[0])
    found = recorded(values_run(values, "array", shape=list(shape))).primary.read()["x"]
    assert found.shape == (3, *shape)
    assert found.dims == ("time", "dim_0", "dim_1")
    assert found.dtype == np.dtype(expected)
    assert np.array_equal(found.values, np.array(values))


def test_a_wrong_declared_shape_yields_to_the_data() -> None:
    found = recorded(values_run([[1.0, 2.0]] * 3, "array", shape=[7, 7, 7])).primary.read()["x"]
    assert found.shape == (3, 2)


@pytest.mark.parametrize("lazy", [False, True])
def test_ragged_arrays_are_given_one_by_one(lazy: bool) -> None:
    stream = recorded(values_run([np.arange(n) for n in (1, 2, 3)], "array", shape=[0])).primary
    with pytest.warns(AssetWarning, match="different shapes") as caught:
        found = stream.to_dask() if lazy else stream.read()
    assert len(caught) == 1
    cells = found["x"].compute().values
    assert found["x"].dims == ("time",)
    assert [cell.tolist() for cell in cells] == [[0], [0, 1], [0, 1, 2]]


def test_missing_arrays_are_nan() -> None:
    found = recorded(values_run([np.ones(3), None, np.ones(3)], "array", shape=[3])).primary.read()["x"]
    assert found.shape == (3, 3)
    assert np.isnan(found.values).sum(axis=1).tolist() == [0, 3, 0]


def test_lists_of_mixed_kinds_keep_their_items() -> None:
    assert arrays.stacked([[1, "a"], [2, "b"]]).tolist() == [[1, "a"], [2, "b"]]
    assert [cell.tolist() for cell in arrays.stacked([[1], ["a"]])] == [[1], ["a"]]


def test_several_descriptors_follow_each_other_and_integers_stay_integers() -> None:
    begun = start()
    described = [descriptor(begun, {"n": "integer", "wave": "array"}, time=T0 + step) for step in (1, 50)]
    documents: list[Pair] = [("start", begun)]
    for half, doc in enumerate(described):
        documents += [("descriptor", doc)]
        documents += [
            (
                "event",
                event(doc, 2 * half + number, {"n": 10 * half + number, "wave": [half] * 3}, time=T0 + 10 * number),
            )
            for number in (1, 2)
        ]
    found = recorded([*documents, ("stop", stop(begun))]).primary.read()
    assert found["n"].values.tolist() == [1, 2, 11, 12]
    assert found["n"].dtype == np.int64
    assert found["wave"].shape == (4, 3)


def test_a_field_of_one_descriptor_alone_is_nan_elsewhere() -> None:
    begun = start()
    one, other = (descriptor(begun, keys, time=T0 + step) for step, keys in enumerate((["a"], ["a", "b"])))
    events = [("descriptor", one), ("event", event(one, 1)), ("descriptor", other), ("event", event(other, 2))]
    stream = recorded([("start", begun), *events, ("stop", stop(begun))]).primary
    for found in (stream.read(), stream.to_dask().compute(), stream.timestamps.read()):
        assert np.isnan(found["b"].values).tolist() == [True, False]
        assert not np.isnan(found["a"].values).any()


def test_declared_dimensions_are_used_as_far_as_they_can_be() -> None:
    begun = start()
    keys = {
        "a": {"source": "", "dtype": "array", "shape": [2, 3], "dims": ["y", "x"]},
        "b": {"source": "", "dtype": "array", "shape": [3], "dims": ["x"]},
        "c": {"source": "", "dtype": "array", "shape": [5], "dims": ["x"]},  # of another length
        "d": {"source": "", "dtype": "array", "shape": [4], "dims": ["a"]},  # the name of a variable
        "e": {"source": "", "dtype": "array", "shape": [4, 4], "dims": ["q", "q"]},
        "f": {"source": "", "dtype": "array", "shape": [2], "dims": ["u", "v"]},
        "dim_0": {"source": "", "dtype": "number", "shape": []},
    }
    primary = descriptor(begun, keys)
    data = {key: np.zeros(item["shape"]).tolist() for key, item in keys.items()}
    documents = [("start", begun), ("descriptor", primary), ("event", event(primary, 1, data)), ("stop", stop(begun))]
    found = recorded(documents).primary.read()
    dims = {key: value.dims[1:] for key, value in found.items()}
    assert dims["a"] == ("y", "x")
    assert dims["b"] == ("x",)
    assert dims["e"][0] == "q"
    numbered = [dims["c"][0], dims["d"][0], dims["e"][1], dims["f"][0]]
    assert numbered == ["dim_1", "dim_2", "dim_3", "dim_4"]


def test_a_field_called_time_is_named_as_in_a_table() -> None:
    begun = start()
    primary = descriptor(begun, ["time", "x"])
    documents = [("start", begun), ("descriptor", primary), ("event", event(primary, 1, {"time": 5.0, "x": 1.0}))]
    stream = recorded([*documents, ("stop", stop(begun))]).primary
    for found in (stream.read(), stream.to_dask().compute()):
        assert found["_data.time"].values.tolist() == [5.0]
        assert found["time"].values.tolist() == [primary["time"] + 1]


def test_a_stream_without_events_has_empty_variables() -> None:
    begun = start()
    primary = descriptor(begun, {"n": "integer", "wave": "array", "name": "string"})
    stream = recorded([("start", begun), ("descriptor", primary), ("stop", stop(begun))]).primary
    for found in (stream.read(), stream.to_dask().compute()):
        assert found["n"].shape == (0,)
        assert found["wave"].shape == (0, 3)
        assert found["time"].shape == (0,)
    assert stream.timestamps.read()["n"].shape == (0,)
    assert list(stream.config["n"].read()) == []


def test_fields_can_be_included_and_excluded(scanned: Any) -> None:
    stream = scanned[0].v2[-1].primary
    assert set(stream(include=["motor"]).read().variables) == {"time", "motor"}
    assert set(stream(include="motor").read().variables) == {"time", "motor"}
    assert "motor" not in stream(exclude=["motor"]).read()
    assert list(stream(exclude=["NONEXISTENT"]).read()) == list(stream.read())
    assert list(stream(include=["NONEXISTENT"]).read()) == []
    assert list(stream(include=[]).read()) == list(stream.read())
    assert stream() is stream
    assert stream.get() is stream
    with pytest.raises(ValueError, match="include and exclude"):
        stream(include=["motor"], exclude=["det"])
    with pytest.raises(ValueError, match="sub_dict"):
        stream(sub_dict="nonsense")
    with pytest.raises(TypeError):
        stream(nonsense=1)


def test_what_is_excluded_is_not_read(frames: type[Frames]) -> None:
    run = recorded(image_run(), FRAMES=frames)
    assert list(run.primary(exclude=["image"]).read()) == ["det"]
    assert frames.read == []
    assert list(recorded(image_run()).primary(include=["det"]).read()) == ["det"]


def test_timestamps_take_the_place_of_the_data(scanned: Any) -> None:
    db, inserted = scanned
    uid = next(doc["uid"] for name, doc in inserted if name == "descriptor" and doc["name"] == "primary")
    events = [doc for name, doc in inserted if name == "event" and doc["descriptor"] == uid]
    stream = db.v2[-1].primary
    for found in (stream.timestamps.read(), stream(sub_dict="timestamps").to_dask().compute()):
        for key in ("det", "img", "motor"):
            assert found[key].dims == ("time",)
            assert found[key].values.tolist() == [doc["timestamps"][key] for doc in events]
    assert list(stream(include=["det"]).timestamps.read()) == ["det"]


def test_the_configuration_of_a_device_is_repeated(scanned: Any) -> None:
    stream = scanned[0].v2[-1].primary
    assert set(stream.config) == {"det", "img", "motor"}
    assert "baseline" not in stream.config
    found = stream.config["motor"].read()
    assert found["motor_velocity"].values.tolist() == [1] * 5
    assert found["time"].equals(stream.read()["time"])
    assert stream.config.motor.to_dask()["motor_velocity"].shape == (5,)
    assert stream.config["det"].read()["det_noise"].values.tolist() == ["none"] * 5
    stamps = stream.config_timestamps["motor"].read()["motor_velocity"]
    assert stamps.dtype == np.float64
    assert stamps.shape == (5,)
    with pytest.raises(KeyError):
        stream.config["nope"]
    assert not hasattr(stream.config, "nope")


def test_each_event_has_the_configuration_of_its_descriptor() -> None:
    begun = start()
    documents: list[Pair] = [("start", begun)]
    keys = {name: {"source": "", "dtype": "array", "shape": [2]} for name in ("gain", "grid", "label")}
    for half, gain in enumerate((1, 20)):
        data = {"gain": gain, "grid": [gain, gain], "label": "x" * gain}
        configuration = {"dev": {"data": data, "timestamps": dict.fromkeys(data, T0), "data_keys": keys}}
        doc = descriptor(begun, time=T0 + half, configuration=configuration)
        documents += [("descriptor", doc), ("event", event(doc, half + 1))]
    run = recorded([*documents, ("stop", stop(begun))])
    found = run.primary.config["dev"].read()
    assert found["gain"].values.tolist() == [1, 20]
    assert found["gain"].dtype.kind == "i"
    assert found["grid"].values.tolist() == [[1, 1], [20, 20]]
    assert found["label"].values.tolist() == ["x", "x" * 20]
    assert list(run.primary(include=["gain"]).config["dev"].read()) == ["gain"]


def test_a_stream_tells_of_itself(scanned: Any) -> None:
    stream = scanned[0].v2[-1].primary
    assert stream.metadata.keys() == {"start", "stop", "descriptors"}
    assert type(stream.metadata["descriptors"][0]) is Descriptor
    assert stream._descriptors == stream.descriptors
    assert len(stream) == 5
    described = stream.describe()
    assert described["name"] == "primary"
    assert described["container"] == stream.container == "bluesky-event-stream"


def test_a_stream_is_read_in_partitions(frames: type[Frames]) -> None:
    stream = recorded(image_run(), FRAMES=frames).primary
    assert stream.npartitions is None
    parts: list[list[Pair]] = []
    while part := stream.read_partition({"index": len(parts), "fill": "yes", "partition_size": 3}):
        parts.append(part)
    assert [[name for name, _ in part] for part in parts] == [
        ["start", "descriptor", "resource"],
        ["datum_page", "event_page", "datum_page"],
        ["event_page", "datum_page", "event_page"],
        ["datum_page", "event_page", "stop"],
    ]
    assert stream.npartitions == 4
    assert parts[1][1][1]["data"]["image"][0].shape == (3, 4)
    assert stream.read_partition({"index": 99, "fill": "no", "partition_size": "auto"}) == []
    with pytest.raises(ValueError, match="partition_size"):
        stream.read_partition({"index": 0, "fill": "no", "partition_size": 0})


def test_partitions_hold_one_stream_alone(scanned: Any) -> None:
    stream = scanned[0].v2[-1].baseline
    found = [pair for index in range(10) for pair in stream.read_partition({"index": index, "fill": "no"})]
    assert sum(name == "descriptor" for name, _ in found) == 1
    assert sum(name == "event_page" for name, _ in found) == 2


# -- external data


def test_images_are_read_when_they_are_computed_and_not_before(frames: type[Frames]) -> None:
    stream = recorded(image_run(rows=6), FRAMES=frames).primary
    lazy = stream.to_dask()
    repr(lazy)
    part = lazy["image"][3, 1:, 2]
    assert frames.read == []
    assert lazy["image"].shape == (6, 3, 4)
    assert lazy["image"].dtype == np.uint16
    assert part.compute().values.tolist() == [4, 4]
    assert frames.read == [4]


def test_one_frame_of_a_file_of_many_is_one_frame_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = recorded(streamed_run(tmp_path, rows=50)).primary.to_dask()
    read: list[Any] = []
    original = h5py.Dataset.__getitem__

    def noted(self: Any, index: Any, *rest: Any) -> Any:
        value = original(self, index, *rest)
        read.append(np.shape(value))
        return value

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)
    assert lazy["image"][17].compute().values.max() == 17
    assert sum(int(np.prod(shape)) for shape in read) <= 12


@pytest.mark.parametrize("index", [5, -1, slice(2, 4), slice(None, None, -1), slice(0, 6, 2), [5, 0, 3], slice(3, 3)])
def test_dask_arrays_are_sliced_as_arrays_are(frames: type[Frames], index: Any) -> None:
    stream = recorded(image_run(rows=6), FRAMES=frames).primary
    assert np.array_equal(stream.to_dask()["image"].data[index].compute(), stream.read()["image"].values[index])


def test_eager_and_lazy_datasets_agree(frames: type[Frames]) -> None:
    stream = recorded(image_run(), FRAMES=frames).primary
    assert stream.to_dask().compute().identical(stream.read())
    assert stream.read()["image"].values[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert stream.read()["image"].dtype == np.uint16


def test_the_same_run_read_by_other_handlers_is_other_data_for_dask(frames: type[Frames]) -> None:
    class Corrected(Frames):
        def __call__(self, index: int) -> Any:
            return super().__call__(index) + 99

    run = recorded(image_run(), FRAMES=frames)
    other = Broker(run.v1.db.catalog)
    other.reg.register_handler("FRAMES", Corrected)
    difference = other.v2[-1].primary.to_dask() - run.primary.to_dask()
    assert difference["image"].compute().values.tolist() == np.full((4, 3, 4), 99).tolist()
    assert difference["det"].compute().values.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("make", [image_run, "streamed"])
def test_dask_arrays_can_be_sent_to_other_processes(frames: type[Frames], make: Any, tmp_path: Path) -> None:
    documents = streamed_run(tmp_path) if make == "streamed" else make()
    lazy = recorded(documents, FRAMES=frames).primary.to_dask()
    lazy["image"][0].compute()  # with open files or without
    again = pickle.loads(pickle.dumps(lazy))
    assert again["image"].compute().equals(lazy["image"].compute())


def test_a_missing_handler_is_missed_when_data_are_asked_for() -> None:
    stream = recorded(image_run()).primary
    lazy = stream.to_dask()
    assert lazy["det"].compute().values.tolist() == [0.5, 1.0, 1.5, 2.0]
    with pytest.raises(MissingHandler):
        lazy["image"][0].compute()
    with pytest.raises(MissingHandler):
        stream.read()


def test_axes_of_length_one_do_not_matter(frames: type[Frames], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "shape", (1, 3, 4))
    stream = recorded(image_run(), FRAMES=frames).primary
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssetWarning)
        found = stream.to_dask()["image"].compute()
    assert found.shape == (4, 3, 4)
    assert found.values[:, 0, 0].tolist() == [1, 2, 3, 4]


def test_a_wrong_shape_is_told_when_computed_and_known_thereafter(
    frames: type[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "shape", (5, 6))
    run = recorded(image_run(), FRAMES=frames)
    lazy = run.primary.to_dask()["image"]
    with dask.config.set(scheduler="sync"):
        with pytest.warns(AssetWarning, match=r"\(3, 4\).*\(5, 6\), which counts.*to be made again"):
            assert lazy.values.shape == (4, 5, 6)
        assert float(lazy.mean()) == float(run.primary.read()["image"].mean())
    assert run.primary.to_dask()["image"].compute().shape == (4, 5, 6)
    assert run.primary.read()["image"].shape == (4, 5, 6)


def test_reading_trusts_the_data_and_warns_once(frames: type[Frames], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "shape", (5, 6))
    run = recorded(image_run(), FRAMES=frames)
    with pytest.warns(AssetWarning, match=r"\(5, 6\)") as caught:
        found = run.primary.read()
    assert len(caught) == 1
    assert found["image"].shape == (4, 5, 6)
    run.primary.read()  # a second warning would be an error


@pytest.mark.parametrize("shape", [[], [None, 4], [0, 0], [-1, 4]])
def test_an_open_shape_is_learned_from_the_first_value(frames: type[Frames], shape: list[Any]) -> None:
    stream = recorded(image_run(rows=5, shape=shape), FRAMES=frames).primary
    lazy = stream.to_dask()
    assert lazy["image"].shape == (5, 3, 4)
    assert lazy["image"].dtype == np.uint16
    assert len(frames.read) == 1
    assert lazy.compute().identical(stream.read())


def test_an_open_type_is_taken_for_float_and_cast(frames: type[Frames]) -> None:
    documents = image_run()
    del documents[1][1]["data_keys"]["image"]["dtype_numpy"]
    run = recorded(documents, FRAMES=frames)
    lazy = run.primary.to_dask()["image"]
    assert frames.read == []
    assert lazy.dtype == np.float64
    assert lazy.compute().dtype == np.float64
    assert run.primary.read()["image"].dtype == np.uint16
    assert run.primary.to_dask()["image"].dtype == np.uint16  # by now it is known


def test_values_that_do_not_fit_the_declared_type_are_not_bent(
    frames: type[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "dtype", "float32")
    run = recorded(image_run(), FRAMES=frames)
    with pytest.raises(UnreadableAsset, match=r"uint16.*float32.*read\(\)"):
        run.primary.to_dask()["image"].compute()
    assert run.primary.read()["image"].dtype == np.float32
    assert run.primary.to_dask()["image"].compute().dtype == np.float32


def test_large_integers_keep_their_digits(frames: type[Frames]) -> None:
    class Stamps(Frames):
        def __call__(self, index: int) -> Any:
            return np.full((3, 4), 2**60 + index)

    documents = image_run()
    del documents[1][1]["data_keys"]["image"]["dtype_numpy"]
    run = recorded(documents, FRAMES=Stamps)
    with pytest.raises(UnreadableAsset, match=r"type float64.*type int64"):
        run.primary.to_dask()["image"].compute()
    for found in (run.primary.read(), run.primary.to_dask().compute()):
        assert found["image"].values[:, 0, 0].tolist() == [2**60 + index for index in (1, 2, 3, 4)]


def test_external_values_of_different_shapes_are_given_one_by_one(frames: type[Frames]) -> None:
    class Growing(Frames):
        def __call__(self, index: int) -> Any:
            return np.arange(index)

    run = recorded(image_run(rows=3, shape=[1]), FRAMES=Growing)
    with pytest.warns(AssetWarning, match="different shapes"):
        found = run.primary.read()["image"]
    assert [cell.tolist() for cell in found.values] == [[0], [0, 1], [0, 1, 2]]
    with pytest.raises(UnreadableAsset, match=r"read\(\)"), dask.config.set(scheduler="sync"):
        run.primary.to_dask()["image"].compute()


def test_handlers_that_give_no_arrays_are_given_as_objects() -> None:
    class Tables:
        def __init__(self, path: str, **kwargs: Any) -> None:
            pass

        def __call__(self, index: int) -> Any:
            return {"index": index}

    stream = recorded(image_run(rows=3, shape=[]), FRAMES=Tables).primary
    for found in (stream.read(), stream.to_dask().compute()):
        assert found["image"].values.tolist() == [{"index": 1}, {"index": 2}, {"index": 3}]


@pytest.mark.parametrize("kind", [int, float, np.float32, np.int16, bool])
def test_handlers_may_give_single_numbers(kind: Any) -> None:
    class Numbers(Frames):
        def __call__(self, index: int) -> Any:
            self.read.append(index)
            return kind(index)

    documents = image_run(rows=3, shape=[], dtype="array")
    del documents[1][1]["data_keys"]["image"]["dtype_numpy"]
    stream = recorded(documents, FRAMES=Numbers).primary
    Numbers.read.clear()
    lazy = stream.to_dask()
    assert len(Numbers.read) == 1
    for found in (stream.read(), lazy.compute()):
        assert found["image"].values.tolist() == [kind(1), kind(2), kind(3)]
        assert found["image"].dims == ("time",)
    assert stream.read()["image"].dtype == np.dtype(kind)


def test_events_without_an_image_have_nan(frames: type[Frames]) -> None:
    documents = image_run(rows=3)
    documents[6][1]["data"]["image"] = None
    stream = recorded(documents, FRAMES=frames).primary
    for found in (stream.read(), stream.to_dask().compute()):
        assert np.isnan(found["image"].values).all(axis=(1, 2)).tolist() == [False, True, False]


def test_images_of_stream_resources_are_read(tmp_path: Path) -> None:
    stream = recorded(streamed_run(tmp_path)).primary
    lazy = stream.to_dask()
    assert isinstance(lazy["image"].data, dask.array.Array)
    for found in (stream.read(), lazy.compute()):
        assert found["image"].sizes["time"] == 6
        assert found["image"].values.reshape(6, -1)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert found["motor"].values.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
        assert found["image"].dtype == np.uint16
    stamps = stream.timestamps.read()
    assert stamps["image"].values.tolist() == stamps["time"].values.tolist()


def test_a_stream_of_files_alone_has_no_times(tmp_path: Path) -> None:
    stream = recorded(streamed_run(tmp_path, with_events=False)).primary
    for found in (stream.read(), stream.to_dask().compute()):
        assert found["image"].dims[0] == "time"
        assert found.sizes["time"] == 6
        assert "time" not in found.coords
        assert len(found.time) == 6
        assert found["image"].values.reshape(6, -1)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert stream(exclude=["image"]).read().sizes == {"time": 0}
    assert stream.timestamps.read()["image"].shape == (0,)


@pytest.mark.parametrize("upto", range(2, 10))
def test_a_stream_can_be_read_at_every_moment(tmp_path: Path, frames: type[Frames], upto: int) -> None:
    documents = streamed_run(tmp_path, rows=2)
    key = {"source": "sim", "dtype": "array", "shape": [3, 4], "external": "FILESTORE:"}
    documents[1][1]["data_keys"]["camera"] = key
    held = resource(documents[0][1], spec="FRAMES")
    documents[4:4] = [("resource", held), ("datum", datum(held, 1)), ("datum", datum(held, 2))]
    for number, (_, doc) in enumerate(documents[7:9], 1):
        doc["data"]["camera"] = f"{held['uid']}/{number}"
        doc["timestamps"]["camera"] = T0
    db = temp()
    db.reg.register_handler("FRAMES", frames)
    for name, doc in documents[:upto]:
        db.insert(name, doc)
    stream = db.v2[-1].primary
    for found in (stream.read(), stream.to_dask().compute()):
        assert len({value.shape[0] for value in found.values()}) == 1
        if upto > 7:
            assert found.sizes["time"] == upto - 7
            assert set(found) == {"image", "motor", "camera"}


def test_a_stream_of_files_alone_has_its_configuration(tmp_path: Path) -> None:
    documents = streamed_run(tmp_path, with_events=False)
    key = {"source": "sim", "dtype": "number", "shape": []}
    settings = {"data": {"gain": 2.5}, "timestamps": {"gain": T0}, "data_keys": {"gain": key}}
    documents[1][1]["configuration"] = {"image": settings}
    found = recorded(documents).primary.config["image"].read()
    assert found["gain"].values.tolist() == [2.5] * 6
    assert "time" not in found.coords


def test_headers_give_the_same_datasets(scanned: Any) -> None:
    db = scanned[0]
    assert db[-1].xarray().identical(db.v2[-1].primary.read())
    assert isinstance(db[-1].xarray_dask()["img"].data, dask.array.Array)
    with pytest.raises(KeyError):
        db[-1].xarray("nope")


# -- catalogs


def test_a_catalog_gives_runs_by_every_key(scanned: Any) -> None:
    catalog = scanned[0].v2
    uid = next(iter(catalog))
    for key in (-1, np.int64(-1), 1, "1", uid, uid[:8], "-1"):
        if isinstance(key, str) and key.isdigit() and len(key) > 3:
            continue  # a uid that begins with digits alone
        run = catalog[key]
        assert type(run) is BlueskyRun
        assert run.uid == uid
    assert [type(run) for run in catalog.values()] == [BlueskyRun]
    assert [(key, run.uid) for key, run in catalog.items()] == [(uid, uid)]
    for wrong in (slice(-1, None), [-1], (-1,), None, b"x"):
        with pytest.raises(TypeError):
            catalog[wrong]
    with pytest.raises(IndexError):
        catalog[-99]
    with pytest.raises(KeyError):
        catalog["nope"]


def test_a_catalog_has_the_members_of_an_intake_catalog(scanned: Any) -> None:
    db = scanned[0]
    catalog = db.v2
    assert catalog() is catalog
    assert catalog.get() is catalog
    assert catalog.v2 is catalog
    assert catalog.v1 is db
    assert catalog.metadata == {}
    assert catalog.container == "catalog"
    assert catalog.paths == [db.catalog.folder.url]
    assert catalog.describe()["name"] == catalog.name == "temp"
    assert catalog.root_map is db.reg.root_map
    assert catalog.handler_registry["NPY_SEQ"] is ophyd.sim.NumpySeqHandler
    catalog.force_reload()
    catalog.reload()
    assert len(catalog) == 1
    with pytest.raises(AttributeError):
        catalog.does_not_exist  # noqa: B018
    assert type(catalog).__name__ == "RunCatalog"


def test_handlers_belong_to_a_catalog_and_all_its_searches(frames: type[Frames]) -> None:
    run = recorded(image_run())
    catalog = run.v1.db.v2
    found = catalog.search({"plan_name": "count"})
    lazy = catalog[-1].primary.to_dask()
    found.register_handler("FRAMES", frames)
    assert lazy["image"][0].compute().values.max() == 1
    assert found[-1].primary.read()["image"].shape == (4, 3, 4)
    assert run.v1.db.reg.handler_reg["FRAMES"] is frames
    with pytest.raises(event_model.DuplicateHandler):
        catalog.register_handler("FRAMES", object)
    catalog.deregister_handler("FRAMES")
    catalog.deregister_handler("FRAMES")
    with pytest.raises(MissingHandler):
        found[-1].primary.read()


def test_searches_give_catalogs_of_the_same_kind(scanned: Any) -> None:
    catalog = scanned[0].v2
    found = catalog.search({"plan_name": "scan"}).search({"time": {"$gt": 0}})
    assert type(found) is RunCatalog
    assert found.name == "search results"
    assert list(found) == list(catalog.search({})) == list(catalog)
    assert len(catalog.search({"plan_name": "count"})) == 0
    assert not catalog.search({"plan_name": "count"})
    assert found.v1[-1].start["plan_name"] == "scan"
    assert found.v1.handlers is catalog.v1.handlers
    assert len(catalog.search({"plan_name": {"$exists": True, "$nin": ["count"]}})) == 1
    assert type(catalog.search({"$text": ""})) is RunCatalog
    for wrong in ("scan", 5):
        with pytest.raises((ValueError, TypeError)):
            catalog.search(wrong)


def test_catalogs_compare_by_what_they_hold(scanned: Any) -> None:
    db = scanned[0]
    assert db.v2 == Broker(db.catalog).v2
    assert hash(db.v2) == hash(Broker(db.catalog).v2)
    assert db.v2 != temp().v2
    assert db.v2 != db.v2.search({})
    assert db.v2 != 5


def test_catalogs_and_searches_survive_pickling(scanned: Any) -> None:
    catalog = scanned[0].v2
    for one in (catalog, catalog.search({"plan_name": "scan"})):
        again = pickle.loads(pickle.dumps(one))
        assert list(again) == list(one)
        assert again[-1].primary.read().identical(one[-1].primary.read())


# -- documents by themselves


CHANGES: dict[str, Callable[[Any], Any]] = {
    "setitem": lambda doc: doc.__setitem__("a", 2),
    "delitem": lambda doc: doc.__delitem__("a"),
    "setdefault": lambda doc: doc.setdefault("b", 2),
    "update": lambda doc: doc.update({"a": 2}),
    "pop": lambda doc: doc.pop("a"),
    "popitem": lambda doc: doc.popitem(),
    "clear": lambda doc: doc.clear(),
    "or": lambda doc: doc.__ior__({"a": 2}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_documents_cannot_be_changed(change: str) -> None:
    doc = Document({"a": 1})
    with pytest.raises(NotMutable):
        CHANGES[change](doc)
    assert doc == {"a": 1}


@pytest.mark.parametrize("kind", [Document, *document_classes.CLASSES.values(), Event])
def test_documents_survive_whatever_copies_them(kind: type[Document]) -> None:
    doc = kind({"uid": "u", "x": {"y": {"z": 1}}})
    for copied in (copy.copy(doc), copy.deepcopy(doc)):
        assert type(copied) is dict  # whoever copies a document wants to change it
        assert copied == doc
    for again in (pickle.loads(pickle.dumps(doc, n)) for n in range(6)):
        assert type(again) is kind
        assert again == doc
    assert copy.deepcopy(doc)["x"] is not doc["x"]
    assert json.loads(json.dumps(doc)) == doc
    assert type(doc.to_dict()) is dict
    assert eval(repr(doc), vars(document_classes)) == doc
    assert len(repr(doc).splitlines()) == 1
    assert isinstance(doc, dict)


def test_an_engine_that_counts_gives_images_in_events() -> None:
    engine, db = RunEngine({}), temp()
    engine.subscribe(db.insert)
    engine(count([ophyd.sim.hw().direct_img], 3))
    found = db.v2[-1].primary.read()["img"]
    assert found.shape == (3, 10, 10)
    assert found.dims == ("time", "dim_0", "dim_1")


def test_pages_of_a_flyer_are_rows_of_a_dataset() -> None:
    begun = start()
    primary = descriptor(begun, {"n": "integer"})
    pages = [("event_page", event_page(primary, numbers, {"n": list(numbers)})) for numbers in ((1, 2), (3, 4, 5))]
    run = recorded([("start", begun), ("descriptor", primary), *pages, ("stop", stop(begun))])
    assert run.primary.read()["n"].values.tolist() == [1, 2, 3, 4, 5]
    assert sum(name == "event_page" for name, _ in run.documents(fill="no")) == 5


def test_a_field_that_only_later_descriptors_have_is_lazy_with_gaps(frames: type[Frames]) -> None:
    begun = start()
    image = data_key("array", shape=[3, 4], external="FILESTORE:", dtype_numpy="<i4")
    first, second = descriptor(begun, ["det"]), descriptor(begun, {"det": "number", "image": image})
    held = resource(begun, spec="FRAMES")
    frame = datum(held, 0)
    documents = [
        *(("start", begun), ("descriptor", first), ("event", event(first, 1))),
        *(("descriptor", second), ("resource", held), ("datum", frame)),
        ("event", event(second, 2, {"det": 0.5, "image": frame["datum_id"]})),
        ("stop", stop(begun)),
    ]
    stream = recorded(documents, FRAMES=frames).primary
    lazy = stream.to_dask()["image"]
    assert lazy.shape == (2, 3, 4)
    np.testing.assert_array_equal(lazy.values, stream.read()["image"].values)
    assert np.isnan(lazy.values[0]).all()


def test_events_that_are_alike_are_delayed_each_with_its_own_image(frames: type[Frames]) -> None:
    begun = start()
    image = data_key("array", shape=[3, 4], external="FILESTORE:", dtype_numpy="<i4")
    held = resource(begun, spec="FRAMES")
    documents = [("start", begun), ("resource", held)]
    for index in range(2):  # of the same number and time, as after a descriptor was emitted anew
        frame, described = datum(held, index), descriptor(begun, {"image": image})
        documents += [("descriptor", described), ("datum", frame)]
        documents += [("event", event(described, 1, {"image": frame["datum_id"]}))]
    run = recorded([*documents, ("stop", stop(begun))], FRAMES=frames)
    found = {
        fill: [np.asarray(doc["data"]["image"][0]) for name, doc in run.documents(fill=fill) if name == "event_page"]
        for fill in ("yes", "delayed")
    }
    assert not np.array_equal(*found["yes"])
    np.testing.assert_array_equal(found["delayed"], found["yes"])


def test_a_stream_without_events_has_the_axes_of_external_fields(frames: type[Frames]) -> None:
    begun = start()
    image = data_key("array", shape=[3, 4], external="FILESTORE:", dtype_numpy="<i4")
    run = recorded(
        [("start", begun), ("descriptor", descriptor(begun, {"image": image, "det": "number"}))], FRAMES=frames
    )
    for dataset in (run.primary.read(), run.primary.to_dask(), run.v1.xarray_dask()):
        assert dataset["image"].shape == (0, 3, 4)
    assert run.v1.table(fill=True).shape == (0, 0)
