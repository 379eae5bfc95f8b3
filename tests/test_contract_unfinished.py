"""What databroker's faces give of runs in progress, cut short, damaged and repeated, and of fields declared wrongly."""

import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import factories
from equality import first_difference
from factories import Pair
from filebroker import AssetWarning, Broker, DamagedRunWarning, Header, RecoveryWarning, temp
from filebroker.ground.documents import unpack_event_page

ROWS = 3


class Frames:
    """A handler of images that are all of their number."""

    shape: tuple[int, ...] = (2, 4)

    def __init__(self, path: str) -> None:
        pass

    def __call__(self, index: int) -> Any:
        return np.full(self.shape, index, "int16")


def camera_key(**keys: Any) -> dict[str, Any]:
    return factories.data_key("array", shape=[2, 4], dtype_numpy="<i2", external="FILESTORE:") | keys


def stream_key(**keys: Any) -> dict[str, Any]:
    return factories.data_key("array", shape=[1, 5], dtype_numpy="<f8", external="STREAM:") | keys


def all_kinds(path: Path, *, streamed: bool = True, **begin: Any) -> list[Pair]:
    """Make a run with numbers, arrays, images of datum documents, a baseline, and (if wanted) a streamed detector."""
    begun = factories.start(**begin)
    keys = {"det": "number", "spectrum": "array", "camera": camera_key()} | (
        {"stream": stream_key()} if streamed else {}
    )
    primary, base = factories.descriptor(begun, keys), factories.descriptor(begun, ["x"], name="base")
    held = factories.resource(begun, spec="FRAMES", root="", resource_path="frames")
    file = {
        **{"uid": f"file-{begun['uid']}", "run_start": begun["uid"], "data_key": "stream", "parameters": {}},
        **{"mimetype": "application/x-hdf5", "uri": f"file://localhost{path}"},
    }
    documents: list[Pair] = [("start", begun), ("descriptor", base), ("event", factories.event(base, 1))]
    documents += [("descriptor", primary), ("resource", held)]
    documents += [("stream_resource", {**file, "parameters": {"dataset": "data"}})] if streamed else []
    for number in range(1, ROWS + 1):
        part = factories.datum(held, number)
        data = {"det": number / 2, "spectrum": [number, 2, 3], "camera": part["datum_id"]}
        written = {
            **{"uid": f"{file['uid']}/{number}", "stream_resource": file["uid"], "descriptor": primary["uid"]},
            **{"indices": {"start": number - 1, "stop": number}, "seq_nums": {"start": number, "stop": number + 1}},
        }
        documents += [("datum", part)] + ([("stream_datum", written)] if streamed else [])
        documents += [("event", factories.event(primary, number, data))]
    documents += [("event", factories.event(base, 2, time=primary["time"] + 50))]
    return [*documents, ("stop", factories.stop(begun, {"primary": ROWS, "base": 2}))]


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "stream.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(ROWS)[:, None] + np.zeros((ROWS, 5))
    return path


def opened(directory: Path, **options: Any) -> Broker:
    """Open a catalog as documents come from it without wrapping, and with a handler."""
    broker = Broker(directory, **options)
    broker.prepare_hook = lambda name, doc: doc
    broker.reg.register_handler("FRAMES", Frames)
    return broker


def insert(broker: Broker, documents: list[Pair]) -> None:
    for name, doc in documents:
        broker.insert(name, doc)


def singles(documents: Any) -> list[Pair]:
    """Give the documents of the version 2 face as they were inserted: one by one, and as plain dicts."""
    return [pair for name, doc in documents for pair in _singles(name, doc)]


def _singles(name: str, doc: Any) -> list[Pair]:
    if name == "event_page":
        return [("event", event) for event in unpack_event_page(doc)]
    if name == "datum_page":
        kwargs = [
            {key: column[row] for key, column in doc["datum_kwargs"].items()} for row in range(len(doc["datum_id"]))
        ]
        parts = zip(doc["datum_id"], kwargs, strict=True)
        return [
            ("datum", {"datum_id": one, "resource": doc["resource"], "datum_kwargs": other}) for one, other in parts
        ]
    return [(name, doc.to_dict() if hasattr(doc, "to_dict") else doc)]


def by_kind(documents: Any) -> dict[str, list[Any]]:
    """Give the documents of each kind in the order of their identity, because faces may put them in another order."""
    found: dict[str, list[Any]] = {}
    for name, doc in documents:
        found.setdefault(name, []).append({key: value for key, value in doc.items() if key != "filled" or value})
    return {
        name: sorted(docs, key=lambda doc: str(doc.get("uid", doc.get("datum_id")))) for name, docs in found.items()
    }


# -- a run that grows

WHOLE: dict[str, Callable[[Header], Any]] = {
    "documents": lambda header: header.documents(),
    "get_documents": lambda header: header.db.get_documents([header]),
    "documents of v2": lambda header: singles(header.v2.documents(fill="no")),
    "documents of v2 in larger pages": lambda header: singles(header.v2.documents(fill="no", strict_order=False)),
}
#: How many events the stream primary has, as each face tells.
COUNTS: dict[str, Callable[[Header], int]] = {
    "events": lambda header: len(list(header.events())),
    "data": lambda header: len(list(header.data("det"))),
    "images": lambda header: len(list(header.data("camera"))),
    "streamed data": lambda header: len(list(header.data("stream"))),
    "table": lambda header: len(header.table()),
    "filled table": lambda header: len(header.table(fill=True)),
    "get_table": lambda header: len(header.db.get_table(header)),
    "xarray": lambda header: header.xarray().sizes["time"],
    "xarray_dask": lambda header: header.xarray_dask().sizes["time"],
    "read": lambda header: header.v2.primary.read().sizes["time"],
    "to_dask, computed": lambda header: header.v2.primary.to_dask().compute().sizes["time"],
    "timestamps": lambda header: header.v2.primary.timestamps.read().sizes["time"],
    "configuration": lambda header: header.v2.primary.config["det"].read().sizes.get("time", 0),
}
READERS: dict[str, Callable[[Header, Path], Header]] = {
    "fetched at its start": lambda header, place: header,
    "fetched now": lambda header, place: header.db[-1],
    "of another broker": lambda header, place: opened(place, read_only=True)[header.uid],
    "fetched by a search": lambda header, place: next(iter(header.db(plan_name="count"))),
    "of the version 2 face": lambda header, place: header.db.v2[header.uid].v1,
    "pickled": lambda header, place: pickled(header),
}


def pickled(header: Header) -> Header:
    run = pickle.loads(pickle.dumps(header.v2.run))
    return Header(header.db, run)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_run_in_progress_gives_what_was_inserted_so_far(
    reader: Callable[[Header, Path], Header], image_file: Path, tmp_path: Path
) -> None:
    writer, documents = opened(tmp_path), all_kinds(image_file)
    primary = documents[3][1]["uid"]
    writer.insert(*documents[0])
    first = writer[-1]
    for count in range(1, len(documents) + 1):
        known, is_stopped = documents[:count], count == len(documents)
        header = reader(first, tmp_path)
        assert header.stop == (documents[-1][1] if is_stopped else {})
        assert header.v2.metadata["stop"] == (documents[-1][1] if is_stopped else None)
        assert (header.state == "sealed") is is_stopped
        streams = ["base", "primary"][: (count > 1) + (count > 3)]
        assert header.stream_names == list(header.v2) == streams
        for name, face in WHOLE.items():
            assert by_kind(face(header)) == by_kind(known), name
        rows = sum(doc.get("descriptor") == primary for name, doc in known if name == "event")
        for name, counted in COUNTS.items() if "primary" in streams else ():
            assert counted(header) == rows, name
        if not is_stopped:
            writer.insert(*documents[count])
    writer.close()


def test_images_of_a_run_in_progress_are_given_as_they_come(image_file: Path, tmp_path: Path) -> None:
    writer, documents = opened(tmp_path), all_kinds(image_file)
    writer.insert(*documents[0])
    header, rows = writer[-1], 0
    run = header.v2
    for name, doc in documents[1:]:
        writer.insert(name, doc)
        if name != "event" or "det" not in doc["data"]:
            continue
        rows += 1
        expected = {"camera": list(range(1, rows + 1)), "stream": list(range(rows))}
        for key, means in expected.items():
            found = {
                "data": [value.mean() for value in header.data(key)],
                "events": [event["data"][key].mean() for event in header.events(fill=True)],
                "table": [value.mean() for value in header.table(fill=True)[key]],
                "xarray": [frame.mean() for frame in header.xarray()[key].values],
                "dask": [frame.mean() for frame in header.xarray_dask()[key].values],
                "v2": [frame.mean() for frame in run.primary.to_dask()[key].data.compute()],
                "filled pages": [event["data"][key].mean() for event in filled_events(run) if key in event["data"]],
            }
            assert found == dict.fromkeys(found, means), key
    writer.close()


def filled_events(run: Any) -> Iterator[Any]:
    return (doc for name, doc in singles(run.documents(fill="yes")) if name == "event")


def test_what_was_made_of_a_run_in_progress_grows_or_stays_and_never_fails(tmp_path: Path, image_file: Path) -> None:
    writer, documents = opened(tmp_path), all_kinds(image_file, streamed=False)
    half = next(number for number, (name, doc) in enumerate(documents) if doc.get("seq_num") == 2)
    insert(writer, documents[:half])
    header = writer[-1]
    stream, lazy, rows = header.v2.primary, header.xarray_dask(), header.documents()
    next(rows)
    insert(writer, documents[half:])
    assert lazy["camera"].values.mean(axis=(1, 2)).tolist() == [1]
    assert stream.read().sizes["time"] == len(stream) == ROWS
    assert [name for name, _ in rows][:2] == ["descriptor", "event"]
    writer.close()


def test_a_search_finds_runs_in_progress_and_their_stop_changes_nothing(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    documents = factories.run(purpose="wait")
    insert(writer, documents[:2])
    results, found = writer(purpose="wait", data_key="det"), writer.v2.search({"purpose": "wait"})
    for pair in [("event", factories.event(documents[1][1])), documents[-1]]:
        assert [header.uid for header in results] == list(found) == [documents[0][1]["uid"]]
        writer.insert(*pair)
    assert [header.stop["uid"] for header in results] == [run.metadata["stop"]["uid"] for run in found.values()]
    writer.close()


def test_several_runs_in_progress_are_kept_apart(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    runs = [factories.run(rows=2, scan_id=number, time=factories.T0 + number) for number in range(3)]
    for step in zip(*runs, strict=True):
        insert(writer, list(step))
        assert len(writer()) == len(writer.v2) == 3
    for number, documents in enumerate(runs):
        assert list(writer[number].documents()) == documents
    writer.close()


# -- a run without a stop


@pytest.mark.parametrize("count", [1, 2, 4, 9, -1])
def test_a_run_whose_recording_ended_without_a_stop_is_kept(count: int, image_file: Path, tmp_path: Path) -> None:
    documents = all_kinds(image_file)[:count]
    writer = opened(tmp_path)
    insert(writer, documents)
    writer.close()
    with pytest.warns(RecoveryWarning, match="recording"):
        header = opened(tmp_path)[-1]
    assert (header.state, header.stop, header.v2.metadata["stop"]) == ("interrupted", {}, None)
    for name, face in WHOLE.items():
        assert by_kind(face(header)) == by_kind(documents), name
    assert list(header.db.v2) == [header.uid]
    rows = sum(name == "event" and "x" in doc["data"] for name, doc in documents)
    assert len(header.table("base")) == rows
    assert count == 1 or header.xarray_dask("base").sizes["time"] == rows
    header.db.close()


def test_a_run_whose_recording_ended_can_be_inserted_again_as_far_as_it_went(tmp_path: Path) -> None:
    documents = factories.run()
    writer = opened(tmp_path)
    insert(writer, documents[:-2])
    writer.close()
    with pytest.warns(RecoveryWarning):
        again = opened(tmp_path)[-1].db
    insert(again, documents[:-2])
    with pytest.raises(FileExistsError, match="interrupted"):
        again.insert(*documents[-2])
    assert len(again[-1].table()) == 2
    again.close()


# -- cut and damaged files


def copy_of(place: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(place, target)
    return target


def test_a_file_that_was_cut_anywhere_gives_what_came_before(image_file: Path, tmp_path: Path) -> None:
    writer, documents = opened(tmp_path / "catalog"), all_kinds(image_file, streamed=False)[:-2]
    insert(writer, documents)
    (journal,) = (tmp_path / "catalog").glob("2*/*/*/*/journal*")
    content, place = journal.read_bytes(), journal.relative_to(tmp_path / "catalog")
    beginning, uid = content.index(b"\n") + 1, documents[0][1]["uid"]
    beginning = content.index(b"\n", beginning) + 1  # what tells of the file, and the start document
    for length in range(beginning, len(content), 97):
        copy = copy_of(tmp_path / "catalog", tmp_path)
        (copy / place).write_bytes(content[:length])
        header = opened(copy, read_only=True)[uid]
        assert (header.start, header.stop, header.v2.metadata["stop"]) == (documents[0][1], {}, None)
        given = [pair for pair in documents if pair in list(header.documents())]
        assert given == documents[: len(given)]
        assert by_kind(singles(header.v2.documents(fill="no"))) == by_kind(given)
        rows = len([doc for name, doc in given if name == "event" and "det" in doc["data"]])
        if "primary" in header.stream_names:
            assert len(header.table()) == header.xarray().sizes["time"] == header.xarray_dask().sizes["time"] == rows
    writer.close()


@pytest.mark.parametrize("harm", ["gone", "cut", "garbage", "empty"])
def test_a_damaged_page_costs_its_events_alone_and_is_told_once(harm: str, image_file: Path, tmp_path: Path) -> None:
    writer = opened(tmp_path)
    harmed, whole = all_kinds(image_file, scan_id=1, streamed=False), factories.run(scan_id=2, time=factories.T0 + 9)
    insert(writer, [*harmed, *whole])
    writer.close()
    (page,) = tmp_path.glob(f"2*/*/*/*{harmed[0][1]['uid']}/primary/*.parquet")
    content = page.read_bytes()
    page.unlink() if harm == "gone" else page.write_bytes(
        {"cut": content[:-20], "garbage": b"no page" * 99, "empty": b""}[harm]
    )
    reader = opened(tmp_path, read_only=True)
    header = reader[1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [list(header.documents()), header.table(), list(header.documents())][0]
    assert [item.category for item in told] == [DamagedRunWarning]
    assert header.uid in str(told[0].message)
    lost = [pair for pair in harmed if not (pair[0] == "event" and "det" in pair[1]["data"])]
    assert by_kind(found) == by_kind(lost)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRunWarning)  # a run that is fetched again tells again
        assert by_kind(singles(header.v2.documents(fill="no"))) == by_kind(lost)
        assert (header.stop, header.v2.metadata["stop"]) == (harmed[-1][1], harmed[-1][1])
        assert (len(header.table()), len(header.table("base"))) == (0, 2)
        assert header.xarray().sizes["time"] == header.v2.primary.to_dask().sizes["time"] == 0
        assert list(header.data("det")) == list(header.events()) == []
        assert [item.uid for item in reader()] == list(reader.v2) == [whole[0][1]["uid"], header.uid]
        assert {item.uid for item in reader(data_key="camera")} == {header.uid}
    assert list(reader[-1].documents()) == whole


def test_a_run_whose_documents_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    runs = [factories.run(scan_id=number, time=factories.T0 + number) for number in range(3)]
    for documents in runs:
        insert(writer, documents)
    writer.close()
    (file,) = tmp_path.glob(f"2*/*/*/*{runs[1][0][1]['uid']}/documents.jsonl")
    file.write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = opened(tmp_path, read_only=True)
        for number in (0, 2):
            assert list(reader[number].documents()) == runs[number]
            assert len(reader.v2[number].primary.read()["det"]) == 3
        assert {runs[0][0][1]["uid"], runs[2][0][1]["uid"]} <= {header.uid for header in reader()}
        assert [header.start["scan_id"] for header in reader(scan_id={"$in": [0, 2]})] == [2, 0]


# -- what comes twice or too early


def test_a_run_that_is_inserted_twice_is_stored_once(image_file: Path, tmp_path: Path) -> None:
    documents, db = all_kinds(image_file), opened(tmp_path)
    for _ in range(2):
        insert(db, documents)
        assert len(db()) == len(db.v2) == 1
        assert by_kind(db[-1].documents()) == by_kind(documents)
    db.close()
    again = opened(tmp_path)
    insert(again, documents)
    assert len(again()) == 1
    again.close()


def test_documents_may_be_repeated_while_a_run_is_in_progress() -> None:
    db, documents = temp(), factories.run()
    for name, doc in documents[:-1]:
        db.insert(name, doc)
        db.insert(name, doc)
    db.insert(*documents[-1])
    assert [(name, dict(doc)) for name, doc in db[-1].documents()] == documents
    assert len(db[-1].table()) == 3


@pytest.mark.parametrize("state", ["live", "sealed"])
def test_another_start_of_the_same_uid_is_refused_and_changes_nothing(state: str) -> None:
    db, documents = temp(), factories.run()
    insert(db, documents if state == "sealed" else documents[:3])
    with pytest.raises(FileExistsError):
        db.insert("start", {**documents[0][1], "sample": "another"})
    assert "sample" not in db[-1].start
    assert len(db()) == 1


@pytest.mark.parametrize("name", ["descriptor", "event", "event_page", "resource", "stream_resource", "stop"])
def test_a_document_of_a_run_that_did_not_begin_is_a_key_error(name: str, image_file: Path) -> None:
    documents = dict(all_kinds(image_file))
    described = documents["descriptor"]
    documents["event_page"] = factories.event_page(described, data={"x": [1, 2, 3]})
    db = temp()
    with pytest.raises(KeyError, match="no part of a run"):
        db.insert(name, documents[name])
    assert len(db()) == 0


@pytest.mark.parametrize("name", ["datum", "datum_page", "stream_datum"])
def test_a_datum_of_a_resource_that_is_not_there_is_a_key_error(name: str, image_file: Path) -> None:
    begun = factories.start()
    documents = dict(all_kinds(image_file))
    documents["datum_page"] = factories.datum_page(documents["resource"])
    db = temp()
    db.insert("start", begun)
    with pytest.raises(KeyError):
        db.insert(name, documents[name])
    assert [kind for kind, _ in db[-1].documents()] == ["start"]


# -- fields that are not as they are declared


@cache
def _stream_file(directory: Path, shape: tuple[int, ...]) -> Path:
    path = directory / "wrong.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((ROWS, *shape))
    return path


def wrong_run(kind: str, declared: list[int], tmp_path: Path) -> list[Pair]:
    """Make a run whose field has other lengths than its descriptor says: [2, 4] or [5]."""
    documents = all_kinds(_stream_file(tmp_path, (5,)))
    keys = next(doc["data_keys"] for name, doc in documents if name == "descriptor" and "det" in doc["data_keys"])
    keys[kind]["shape"] = declared
    return documents


FACES: dict[str, Callable[[Header, str], Any]] = {
    "table": lambda header, key: [np.shape(value) for value in header.table(fill=True)[key]],
    "data": lambda header, key: [np.shape(value) for value in header.data(key)],
    "events": lambda header, key: [np.shape(event["data"][key]) for event in header.events(fill=True)],
    "xarray": lambda header, key: [np.shape(value) for value in header.xarray()[key].values],
    "dask after that": lambda header, key: [np.shape(value) for value in header.xarray_dask()[key].values],
}


@pytest.mark.parametrize(
    ("key", "declared", "true"),
    [
        *[("spectrum", declared, (3,)) for declared in ([], [5], [3, 3], [1], [0], [-1], [None])],
        *[("camera", declared, (2, 4)) for declared in ([], [4, 2], [2, 5], [8], [0, 0], [-1, 4], [None, None])],
        *[("stream", declared, (5,)) for declared in ([7], [-1], [None], [0])],
        ("stream", [1, 7], (1, 5)),  # the number of axes counts: one row of a number of values
    ],
)
def test_the_data_count_and_not_the_declared_shape(
    key: str, declared: list[Any], true: tuple[int, ...], tmp_path: Path
) -> None:
    db = temp()
    db.reg.register_handler("FRAMES", Frames)
    insert(db, wrong_run(key, declared, tmp_path))
    header = db[-1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name, face in [*FACES.items(), *FACES.items()]:
            assert face(header, key) == [true] * ROWS, name
    assert [item.category for item in told] in ([], [AssetWarning])


@pytest.mark.parametrize(("key", "declared"), [("spectrum", [7]), ("camera", [2, 5]), ("stream", [1, 7])])
def test_a_wrong_shape_is_told_once_by_one_header(key: str, declared: list[Any], tmp_path: Path) -> None:
    db = temp()
    db.reg.register_handler("FRAMES", Frames)
    insert(db, wrong_run(key, declared, tmp_path))
    header = db[-1]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            list(header.data(key))
            header.xarray()
            header.table(fill=True)
    assert len(told) == (key != "spectrum")  # what the events hold themselves is seen by anyone


def test_an_inserted_run_is_given_to_the_last_digit_by_every_reader(image_file: Path, tmp_path: Path) -> None:
    documents = all_kinds(image_file, values=[0.1, -0.0, 1e300, 2**53 + 1, "µ", None, True])
    writer = opened(tmp_path)
    insert(writer, documents)
    for header in (writer[-1], opened(tmp_path, read_only=True)[-1], pickled(writer[-1])):
        assert first_difference([documents[0]], [next(header.documents())]) == ""
    writer.close()
