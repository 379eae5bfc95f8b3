"""What databroker v1 promises of external data: who reads it, what ``fill`` does, where files are, copies of them."""

import json
import os
import pickle
import shutil
from contextlib import closing
from pathlib import Path

import event_model
import h5py
import numpy as np
import pytest
import tifffile
from bluesky import RunEngine, plans as bp
from ophyd import sim

import factories
from filebroker import Broker, temp
from filebroker.ground.errors import (
    DamagedRunWarning,
    DuplicateHandler,
    InvalidDocument,
    InvalidOption,
    MissingAsset,
    MissingHandler,
    NotSupported,
    UnknownDatum,
    UnreadableAsset,
)

#: Runs that other people recorded, if they are beside the repository.
RECORDED = Path(__file__).parents[2] / "shared" / "data" / "bluesky-tutorials"


class Zeros(sim.NumpySeqHandler):
    """Reads a frame, and gives zeros instead."""

    def __call__(self, index):
        return 0 * super().__call__(index)


@pytest.fixture
def db():
    broker = temp()
    broker.prepare_hook = lambda name, doc: doc
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def engine():
    return RunEngine({})


@pytest.fixture
def camera(tmp_path):
    """A detector whose frames are numbered from 0."""
    (tmp_path / "frames").mkdir()
    numbers = iter(range(-1, 100))  # the first is what it has before the scan
    return sim.SynSignalWithRegistry(
        name="camera", func=lambda: np.full((4, 5), next(numbers), "f8"), save_path=str(tmp_path / "frames")
    )


@pytest.fixture
def header(db, engine, camera):
    """A scan of three points with a camera and a point detector; its frames are 0, 1 and 2."""
    (uid,) = engine(bp.count([camera, sim.hw().det], 3), db.insert)
    return db[uid]


def record(db, documents):
    for name, doc in documents:
        db.insert(name, doc)
    return db[documents[0][1]["uid"]]


def made(db, points=3, *, datum_key="point_number", **keys):
    """Record a run whose events refer to a resource with these keys."""
    begun = factories.start()
    described = factories.descriptor(
        begun, {"image": factories.data_key("array", external="FILESTORE:", shape=[1, 2, 3])}
    )
    held = factories.resource(begun, **keys)
    documents = [("start", begun), ("descriptor", described), ("resource", held)]
    for number in range(points):
        datum = factories.datum(held, number, datum_kwargs={datum_key: number})
        documents += [("datum", datum)]
        documents += [("event", factories.event(described, number + 1, {"image": datum["datum_id"]}))]
    return record(db, [*documents, ("stop", factories.stop(begun))])


def means(frames):
    return [float(np.mean(frame)) for frame in frames]


# Filling

WAYS = {
    "documents": lambda db, header: [doc["data"] for name, doc in header.documents(fill=True) if name == "event"],
    "events": lambda db, header: [event["data"] for event in header.events(fill=True)],
    "get_documents": lambda db, header: [
        doc["data"] for name, doc in db.get_documents(header, fill=True) if name == "event"
    ],
    "get_events": lambda db, header: [event["data"] for event in db.get_events([header], fill=True)],
    "restream": lambda db, header: [doc["data"] for name, doc in db.restream(header, fill=True) if name == "event"],
    "process": lambda db, header: processed(db, header),
    "table": lambda db, header: header.table(fill=True).to_dict("records"),
    "get_table": lambda db, header: db.get_table([header], fill=True).to_dict("records"),
    "data": lambda db, header: [{"camera": value} for value in header.data("camera")],
    "some fields": lambda db, header: [event["data"] for event in header.events(fields=["cam.*"], fill=True)],
    "a list for fill": lambda db, header: [event["data"] for event in header.events(fill=["camera"])],
    "a list of others for fill": lambda db, header: [event["data"] for event in header.events(fill=["det"])],
    "a table with such a list": lambda db, header: header.table(fill=("no_such_field",)).to_dict("records"),
}


def processed(db, header):
    found = []
    db.process(header, lambda name, doc: found.append(doc) if name == "event" else None, fill=True)
    return [doc["data"] for doc in found]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_filled_data_are_arrays_wherever_there_is_a_fill(db, header, way):
    frames = [data["camera"] for data in way(db, header)]
    assert [type(frame) for frame in frames] == [np.ndarray] * 3
    assert [frame.shape for frame in frames] == [(4, 5)] * 3
    assert means(frames) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_without_a_handler_filling_raises_a_key_error_when_iterated_and_not_before(db, header, way):
    db.reg.deregister_handler("NPY_SEQ")
    with pytest.raises(
        MissingHandler, match=r"register_handler\('NPY_SEQ', 'ophyd\.sim:NumpySeqHandler'\) brings it back"
    ) as caught:
        way(db, header)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, event_model.UndefinedAssetSpecification)
    header.documents(fill=True)
    header.events(fill=True)
    header.data("camera")
    db.get_events(header, fill=True)


def test_the_documents_before_the_first_event_come_without_a_handler(db, header):
    db.reg.deregister_handler("NPY_SEQ")
    documents = header.documents(fill=True)
    assert [next(documents)[0] for _ in range(4)] == ["start", "descriptor", "resource", "datum"]
    with pytest.raises(KeyError):
        next(documents)


def test_unfilled_reading_needs_neither_handler_nor_file(db, header, tmp_path):
    db.reg.deregister_handler("NPY_SEQ")
    shutil.rmtree(tmp_path / "frames")
    ids = [doc["datum_id"] for name, doc in header.documents() if name == "datum"]
    assert len(ids) == 3
    assert [event["data"]["camera"] for event in header.events()] == ids
    assert [event["filled"] for event in header.events()] == [{"camera": False}] * 3
    assert header.table()["camera"].tolist() == ids
    assert list(header.data("camera", fill=False)) == ids
    assert db.get_table(header)["camera"].tolist() == ids
    assert header.fields() == {"camera", "det"}


def test_a_filled_event_tells_what_it_was_filled_from_and_is_else_the_same(header):
    for plain, filled in zip(header.events(), header.events(fill=True), strict=True):
        assert filled["filled"] == {"camera": plain["data"]["camera"]}
        assert {**filled, "data": 0, "filled": 0} == {**plain, "data": 0, "filled": 0}
        assert filled["data"]["det"] == plain["data"]["det"]


def test_filling_once_does_not_fill_what_is_read_later(header):
    list(header.events(fill=True))
    assert all(isinstance(event["data"]["camera"], str) for event in header.events())


def test_what_is_not_asked_for_is_not_loaded(db, header):
    db.reg.deregister_handler("NPY_SEQ")
    assert list(header.data("det")) == [1.0, 1.0, 1.0]
    assert list(header.table(fields=["det"], fill=True).columns) == ["time", "det"]
    assert [event["data"] for event in header.events(fields=["det"], fill=True)] == [{"det": 1.0}] * 3


def test_resources_and_datums_come_before_the_event_that_needs_them_and_once(header):
    seen = {"resource": [], "datum": []}
    for name, doc in header.documents(fill=True):
        if name == "datum":
            assert doc["resource"] in seen["resource"]
            seen["datum"].append(doc["datum_id"])
        elif name == "resource":
            seen["resource"].append(doc["uid"])
        elif name == "event":
            assert doc["filled"]["camera"] in seen["datum"]
    assert [len(seen["resource"]), len(set(seen["datum"])), len(seen["datum"])] == [1, 3, 3]


def test_data_can_be_iterated_again(header):
    assert means(header.data("camera")) == means(header.data("camera")) == [0.0, 1.0, 2.0]
    assert list(header.data("no such field")) == []


def test_images_are_read_one_by_one(db, header):
    with pytest.warns(UserWarning, match="get_images"):
        images = db.get_images(header, "camera")
    assert len(images) == 3
    assert images[1].mean() == 1.0
    assert images.frame_shape == (4, 5)
    assert means(images) == [0.0, 1.0, 2.0]


def test_a_run_in_progress_is_filled_as_far_as_it_is(db, engine, camera):
    counts = []

    def look(name, doc):
        if name == "event":
            counts.append(means(db[doc_uid[0]].data("camera")))
        elif name == "start":
            doc_uid.append(doc["uid"])

    doc_uid = []
    tokens = [engine.subscribe(db.insert), engine.subscribe(look)]
    engine(bp.count([camera], 3))
    for token in tokens:
        engine.unsubscribe(token)
    assert counts == [[0.0], [0.0, 1.0], [0.0, 1.0, 2.0]]


# Handlers


def test_installed_handlers_are_registered_unless_that_is_declined(db, tmp_path):
    assert db.reg.handler_reg["NPY_SEQ"] is sim.NumpySeqHandler
    assert {"AD_HDF5", "AD_TIFF", "XSP3"} <= set(db.reg.handler_reg)
    ours = {"OURS": {"module": "ophyd.sim", "class": "NumpySeqHandler"}}
    config = {"path": str(tmp_path / "catalog"), "handlers": ours}
    with closing(Broker.from_config(config, auto_register=False)) as declined:
        assert dict(declined.reg.handler_reg) == {"OURS": sim.NumpySeqHandler}
    with closing(Broker.from_config(config)) as both:
        assert {"OURS", "NPY_SEQ", "AD_TIFF"} <= set(both.reg.handler_reg)


def test_another_handler_is_used_for_runs_that_were_fetched_before(db, header):
    assert means(header.data("camera")) == [0.0, 1.0, 2.0]
    db.reg.register_handler("NPY_SEQ", Zeros, overwrite=True)
    assert means(header.data("camera")) == [0.0, 0.0, 0.0]
    assert means(header.table(fill=True)["camera"]) == [0.0, 0.0, 0.0]
    db.reg.deregister_handler("NPY_SEQ")
    with pytest.raises(KeyError):
        next(header.data("camera"))
    db.reg.register_handler("NPY_SEQ", sim.NumpySeqHandler)
    assert means(header.data("camera")) == [0.0, 1.0, 2.0]


def test_another_handler_is_used_in_the_middle_of_an_iteration(db, header):
    values = header.data("camera")
    next(values)
    db.reg.register_handler("NPY_SEQ", Zeros, overwrite=True)
    assert means(values) == [0.0, 0.0]


def test_results_and_the_v2_face_have_the_same_handlers(db, header):
    db.reg.register_handler("NPY_SEQ", Zeros, overwrite=True)
    for found in db(uid=header.start["uid"]):
        assert means(found.data("camera")) == [0.0, 0.0, 0.0]
    assert db.v2.v1.reg.handler_reg["NPY_SEQ"] is Zeros


def test_registering_again_and_deregistering_twice_are_no_errors_but_another_handler_is(db):
    db.reg.register_handler("OURS", Zeros)
    db.reg.register_handler("OURS", Zeros)
    with pytest.raises(DuplicateHandler) as caught:
        db.reg.register_handler("OURS", sim.NumpySeqHandler)
    assert isinstance(caught.value, event_model.DuplicateHandler)
    db.reg.deregister_handler("OURS")
    db.reg.deregister_handler("OURS")
    assert "OURS" not in db.reg.handler_reg


def test_each_broker_has_handlers_of_its_own(db):
    db.reg.deregister_handler("NPY_SEQ")
    db.reg.root_map["/a"] = "/b"
    with closing(temp()) as other:
        assert "NPY_SEQ" in other.reg.handler_reg
        assert other.reg.root_map == {}


def test_the_mapping_of_handlers_is_read_only(db):
    with pytest.raises(TypeError):
        db.reg.handler_reg["X"] = Zeros


def test_fs_is_the_registry_with_a_warning(db):
    with pytest.warns(UserWarning, match="reg"):
        assert db.fs.root_map is db.reg.root_map


# Files


def test_hdf5_files_of_area_detectors_work_out_of_the_box(db, tmp_path):
    stack = np.arange(24, dtype="u2").reshape(4, 2, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/data/data"] = stack
    header = made(db, 4, spec="AD_HDF5", root=str(tmp_path), resource_path="a.h5")
    assert np.array_equal(np.concatenate(list(header.data("image"))), stack)
    assert header.table(fill=True)["image"].iloc[-1].tolist() == [stack[-1].tolist()]
    assert db.export_size(header) == pytest.approx((tmp_path / "a.h5").stat().st_size * 1e-9)


def tiff_run(db, folder, **keys):
    (folder / "2024").mkdir(parents=True)
    for number in range(3):
        tifffile.imwrite(folder / "2024" / f"img_{number:06d}.tiff", np.full((2, 3), number, "u1"))
    options = {"template": "%s%s_%6.6d.tiff", "filename": "img"}
    keys = {"root": str(folder), "resource_path": "2024"} | keys
    return made(db, spec="AD_TIFF", resource_kwargs=options, **keys)


def test_tiff_sequences_of_area_detectors_work_out_of_the_box(db, tmp_path):
    header = tiff_run(db, tmp_path)
    assert means(header.data("image")) == [0.0, 1.0, 2.0]
    assert next(header.data("image")).shape == (1, 2, 3)


@pytest.mark.skipif(os.name == "nt", reason="what such paths become on posix")
def test_files_that_a_windows_machine_wrote_are_read_below_the_mapped_root(db, tmp_path):
    header = tiff_run(db, tmp_path, root="Z:\\camera", resource_path="2024\\", path_semantics="windows")
    with pytest.raises(MissingAsset, match=r"root_map\['Z:\\\\camera'\] = "):
        next(header.data("image"))
    db.reg.root_map["Z:\\camera"] = str(tmp_path)
    assert means(header.data("image")) == [0.0, 1.0, 2.0]


def test_a_missing_file_names_the_path_the_root_and_the_line_that_mends_it(db, header, tmp_path):
    (tmp_path / "frames").rename(tmp_path / "elsewhere")
    with pytest.raises(MissingAsset) as caught:
        list(header.events(fill=True))
    message, old = str(caught.value), str(tmp_path / "frames")
    path = next(doc["resource_path"] for name, doc in header.documents() if name == "resource")
    assert f"{old}/{path}_0.npy" in message
    assert isinstance(caught.value, event_model.DataNotAccessible)
    line = message.split("If the files are elsewhere: ")[1]
    assert line == f"db.reg.root_map[{old!r}] = '<where it is now>'"
    exec(line.replace("<where it is now>", str(tmp_path / "elsewhere")), {"db": db})
    assert means(header.data("camera")) == [0.0, 1.0, 2.0]
    db.reg.root_map.clear()
    with pytest.raises(MissingAsset):
        next(header.data("camera"))


def test_a_damaged_file_is_named_with_its_handler(db, header, tmp_path):
    for path in (tmp_path / "frames").iterdir():
        path.write_bytes(b"no frame")
    with pytest.raises(UnreadableAsset, match=r"NumpySeqHandler cannot read .*frames"):
        next(header.data("camera"))


def test_an_event_without_its_datum_is_named(db):
    begun = factories.start()
    described = factories.descriptor(begun, {"image": factories.data_key("array", external="FILESTORE:")})
    event = factories.event(described, 1, {"image": "never-told"})
    header = record(
        db, [("start", begun), ("descriptor", described), ("event", event), ("stop", factories.stop(begun))]
    )
    assert next(header.events())["data"] == {"image": "never-told"}
    with pytest.raises(UnknownDatum, match="never-told") as caught:
        next(header.events(fill=True))
    assert isinstance(caught.value, event_model.UnresolvableForeignKeyError)


def test_a_pickled_column_reads_its_data(db, header):
    assert means(pickle.loads(pickle.dumps(header.column("camera")))) == [0.0, 1.0, 2.0]


# Copies


def resource_of(header):
    return next(doc for name, doc in header.documents() if name == "resource")


def test_the_files_of_a_resource_are_listed_and_copied(db, header, tmp_path):
    held = resource_of(header)
    files = header.files_of(held)
    stem = tmp_path / "frames" / held["resource_path"]
    assert files == [f"{stem}_{number}.npy" for number in range(3)]
    told = []
    pairs = list(db.reg.copy_files(held, tmp_path / "new", file_rename_hook=lambda *args: told.append(args)))
    assert pairs == [(file, str(tmp_path / "new" / Path(file).name)) for file in files]
    assert told == [(number, 3, *names) for number, names in enumerate(pairs)]
    assert [Path(new).read_bytes() for _, new in pairs] == [Path(old).read_bytes() for old, _ in pairs]


def test_copying_needs_a_run_and_verifies_nothing(db, header, tmp_path):
    held = {key: value for key, value in resource_of(header).items() if key != "run_start"}
    with pytest.raises(InvalidDocument, match="run_start_uid") as caught:
        db.reg.copy_files(held, tmp_path / "new")
    assert isinstance(caught.value, ValueError)
    assert len(list(db.reg.copy_files(held, tmp_path / "new", run_start_uid=header.start["uid"]))) == 3
    with pytest.raises(NotSupported) as caught:
        db.reg.copy_files(held, tmp_path / "new", verify=True)
    assert isinstance(caught.value, NotImplementedError)


def test_exported_runs_read_the_copies(db, header, tmp_path):
    with closing(temp()) as other:
        pairs = db.export(header, other, new_root=str(tmp_path / "new"))
        assert [new for _, new in pairs] == [str(tmp_path / "new" / Path(old).name) for old, _ in pairs]
        shutil.rmtree(tmp_path / "frames")
        copied = other[header.start["uid"]]
        assert copied == header
        assert resource_of(copied)["root"] == str(tmp_path / "new")
        assert means(copied.data("camera")) == [0.0, 1.0, 2.0]


def test_exported_runs_without_a_root_read_the_copies(db, tmp_path):
    header = tiff_run(db, tmp_path / "old", root="", resource_path=str(tmp_path / "old" / "2024"))
    with closing(temp()) as other:
        with pytest.warns(UserWarning, match="has no root"):
            pairs = db.export(header, other, new_root=str(tmp_path / "new"))
        assert [new for _, new in pairs] == [f"{tmp_path / 'new'}{old}" for old, _ in pairs]
        shutil.rmtree(tmp_path / "old")
        assert means(other[header.start["uid"]].data("image")) == [0.0, 1.0, 2.0]


def test_the_size_of_exported_files_is_told_in_gigabytes(db, header, tmp_path):
    total = sum(path.stat().st_size for path in (tmp_path / "frames").iterdir())
    assert db.export_size(header) == db.export_size([header]) == pytest.approx(total * 1e-9)


# What others have recorded


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded runs are not beside the repository")
def test_runs_whose_files_are_not_here_are_read_unfilled(db):
    absent = 0
    for path in sorted(RECORDED.glob("*.jsonl")):
        documents = [tuple(json.loads(line)) for line in path.read_text().splitlines()]
        header = record(db, documents)
        header.table()
        specs = [doc["spec"] for name, doc in header.documents() if name == "resource"]
        if not specs:
            continue
        absent += 1
        with pytest.raises(MissingHandler, match=f"'{specs[0]}'.* pip install .*bluesky-tutorial-utils"):
            list(header.events(fill=True))
    assert absent == 7


@pytest.mark.parametrize("fill", [False, None, (), "no"])
def test_what_asks_for_nothing_fills_nothing(db, header, fill):
    db.reg.deregister_handler("NPY_SEQ")
    assert isinstance(next(header.events(fill=fill))["data"]["camera"], str)
    assert isinstance(header.table(fill=fill)["camera"].iloc[0], str)
    assert isinstance(next(header.data("camera", fill=fill)), str)


def test_images_of_numbers_are_refused(db, header):
    with pytest.warns(UserWarning, match="get_images is old"), pytest.raises(InvalidOption, match="has single values"):
        db.get_images(header, "det")


def test_of_events_that_cannot_be_read_a_filled_table_has_none(db, header, tmp_path):
    folder = Path(db.catalog.folder.local)
    for page in folder.glob("2*/*/*/*/primary/*.parquet"):
        page.unlink()
    again = Broker(folder)[-1]
    with pytest.warns(DamagedRunWarning):
        assert again.table().shape == (0, 0)
    assert again.table(fill=True).shape == (0, 0)
    assert [name for name, _ in again.documents(fill=True)][-1] == "stop"
