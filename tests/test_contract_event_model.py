"""Every kind of document that event-model knows, from every kind of device: kept whole, and given back by each face."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import ophyd.sim
import pytest
from bluesky import RunEngine, plan_stubs as bps, plans as bp, preprocessors as bpp

import equality
import factories
from factories import Pair
from filebroker import Broker, Header, temp
from filebroker.ground.documents import unpack_event_page

T0 = factories.T0


@pytest.fixture
def db() -> Iterator[Broker]:
    broker = temp()
    broker.prepare_hook = lambda name, doc: doc
    yield broker
    broker.close()


def insert(broker: Broker, documents: Iterable[Pair]) -> Header:
    """Insert the documents of a run, and give its header."""
    uid = ""
    for name, doc in documents:
        broker.insert(name, doc)
        uid = doc["uid"] if name == "start" else uid
    return broker[uid]


def singles(documents: Iterable[Pair]) -> list[Pair]:
    """Give documents one by one, pages unpacked, as plain dicts."""
    return [pair for name, doc in documents for pair in _singles(name, doc)]


def _singles(name: str, doc: Any) -> Iterator[Pair]:
    if name == "event_page":
        yield from (("event", event) for event in unpack_event_page(doc))
    elif name == "datum_page":
        for row, datum_id in enumerate(doc["datum_id"]):
            kwargs = {key: column[row] for key, column in doc["datum_kwargs"].items()}
            yield "datum", {"datum_id": datum_id, "resource": doc["resource"], "datum_kwargs": kwargs}
    else:
        yield name, doc.to_dict() if hasattr(doc, "to_dict") else doc


def by_kind(documents: Iterable[Pair]) -> dict[str, list[Any]]:
    """Give the documents of each kind in the order of their identities; an empty ``filled`` is as none."""
    found: dict[str, list[Any]] = {}
    for name, doc in singles(documents):
        plain = event_model.sanitize_doc(doc)
        found.setdefault(name, []).append({key: value for key, value in plain.items() if key != "filled" or value})
    return {
        name: sorted(docs, key=lambda doc: str(doc.get("uid", doc.get("datum_id")))) for name, docs in found.items()
    }


def reopened(header: Header) -> Header:
    """Give the run as somebody else reads it from the folder."""
    other = Broker(header.db.catalog.folder.url, read_only=True)
    other.prepare_hook = lambda name, doc: doc
    return other[header.uid]


def exported(header: Header, to: Broker) -> Header:
    to.prepare_hook = lambda name, doc: doc
    header.db.export(header, to)
    return to[header.uid]


def restreamed(header: Header, to: Broker) -> Header:
    to.prepare_hook = lambda name, doc: doc
    header.db.process(header, to.insert)
    return to[header.uid]


#: Every way to all documents of a run.
FACES: dict[str, Callable[[Header], Iterable[Pair]]] = {
    "documents of v1": lambda header: header.documents(),
    "restream": lambda header: header.db.restream([header]),
    "get_documents": lambda header: header.db.get_documents(header),
    "documents of v2": lambda header: header.v2.documents(fill="no"),
    "documents of v2 in larger pages": lambda header: header.v2.documents(fill="no", strict_order=False),
    "another reader": lambda header: reopened(header).documents(),
    "another reader of v2": lambda header: reopened(header).v2.documents(fill="no"),
    "exported": lambda header: exported(header, temp()).documents(),
    "exported, by v2": lambda header: exported(header, temp()).v2.documents(fill="no"),
    "processed into another broker": lambda header: restreamed(header, temp()).documents(),
}


#: Those that read the folder differently.
FEW = ("documents of v1", "documents of v2", "another reader", "exported")


def check_faces(header: Header, documents: list[Pair], names: Iterable[str] = FACES) -> None:
    """Check that every face gives the documents that were inserted, in an order a consumer can rely on."""
    expected = by_kind(documents)
    for name in names:
        found = list(FACES[name](header))
        assert equality.same(by_kind(found), expected), name
        check_order(found)


def check_order(documents: list[Pair]) -> None:
    """Check what the contract says of the order of documents."""
    names = [name for name, _ in documents]
    assert names[0] == "start"
    assert "stop" not in names[:-1]
    known: set[str] = set()
    for _, doc in documents:
        for key in ("run_start", "descriptor", "resource", "stream_resource"):
            assert doc.get(key, "") in {*known, ""}, (key, doc)
        known.add(doc["uid"] if isinstance(doc.get("uid"), str) else "")
    times = [doc["time"] for name, doc in singles(documents) if name == "event"]
    assert times == sorted(times)


# -- every kind of document with every key

BEGUN = {"uid": "start-1", "time": T0}
KEY = {"source": "PV:det", "dtype": "number", "shape": []}
IMAGE = {"source": "PV:cam", "dtype": "array", "shape": [2, 3], "external": "FILESTORE:"}
STREAM = {"source": "PV:pil", "dtype": "array", "shape": [1, 2, 3], "external": "STREAM:", "dtype_numpy": "<u2"}
STAMPS = {"det": T0 + 1.5, "cam": T0 + 1.25}
#: Each kind of document with no key but those that are required.
REQUIRED: dict[str, dict[str, Any]] = {
    "start": BEGUN,
    "descriptor": {
        **{"uid": "descriptor-1", "time": T0 + 1, "run_start": "start-1"},
        "data_keys": {"det": KEY, "cam": IMAGE, "pil": STREAM},
    },
    "resource": {
        **{"uid": "resource-1", "spec": "NOBODYS", "root": "/nowhere", "resource_path": "a/b.h5"},
        **{"resource_kwargs": {}},
    },
    "datum": {"datum_id": "resource-1/0", "resource": "resource-1", "datum_kwargs": {}},
    "datum_page": {
        **{"datum_id": ["resource-1/1", "resource-1/2"], "resource": "resource-1"},
        "datum_kwargs": {"frame": [1, 2]},
    },
    "stream_resource": {
        **{"uid": "file-1", "data_key": "pil", "mimetype": "application/x-hdf5", "parameters": {}},
        "uri": "file://localhost/nowhere/pil.h5",
    },
    "stream_datum": {
        **{"uid": "file-1/0", "stream_resource": "file-1", "descriptor": "descriptor-1"},
        **{"seq_nums": {"start": 1, "stop": 4}, "indices": {"start": 0, "stop": 3}},
    },
    "event": {
        **{"uid": "event-1", "time": T0 + 2, "descriptor": "descriptor-1", "seq_num": 1},
        **{"data": {"det": 1.5, "cam": "resource-1/0"}, "timestamps": STAMPS},
    },
    "event_page": {
        **{"uid": ["event-2", "event-3"], "time": [T0 + 3, T0 + 4], "descriptor": "descriptor-1", "seq_num": [2, 3]},
        "data": {"det": [2.5, None], "cam": ["resource-1/1", "resource-1/2"]},
        "timestamps": {key: [time + 1, time + 2] for key, time in STAMPS.items()},
    },
    "stop": {"uid": "stop-1", "time": T0 + 9, "run_start": "start-1", "exit_status": "success"},
}
DEVICE = {"data": {"gain": 2, "label": "µ"}, "timestamps": {"gain": T0, "label": T0}, "data_keys": {"gain": KEY}}
#: The keys that each kind of document may have as well; several values of one where they differ in kind.
OPTIONAL: list[tuple[str, str, Any]] = [
    *[("start", "scan_id", number) for number in (0, 1, 2**40)],
    *[("start", "sample", sample) for sample in ("LaB6", {"name": "LaB6", "layers": [{"d": 1.5}, None]}, {})],
    *[("start", key, "a name") for key in ("project", "owner", "group", "data_session", "plan_name")],
    ("start", "data_groups", ["one", "two"]),
    *[("start", "data_type", kind) for kind in ("xrd", {"kind": ["a"]})],
    *[("start", "hints", hints) for hints in ({}, {"dimensions": [[["motor"], "primary"], [["a", "b"], "base"]]})],
    (
        *("start", "projections"),
        [
            {
                **{"name": "nx", "version": "1", "configuration": {"a": 1}},
                "projection": {"/e": {"type": "configuration", "config_index": 0, "location": "start"}},
            }
        ],
    ),
    *[
        ("start", "anything", value)
        for value in (None, True, 0, -0.0, 1e300, 2**60, "", "µ\n", [], {}, [[1], {"a": []}])
    ],
    *[("start", key, 1) for key in ("with space", "Ünïcode", "", "$dollar", "uid2", "__init__", "data", "self")],
    *[("descriptor", "name", name) for name in ("primary", "baseline", "motor_monitor", "Ünï code", "")],
    ("descriptor", "object_keys", {"det": ["det"], "cam": ["cam", "pil"], "no keys": []}),
    ("descriptor", "object_classes", {"det": {"class": "ophyd.sim.SynGauss", "params": {"a": [1]}}}),
    ("descriptor", "configuration", {"det": DEVICE, "cam": {"data": {}, "timestamps": {}, "data_keys": {}}}),
    *[("descriptor", "hints", hints) for hints in ({}, {"det": {"fields": ["det"], "NX_class": "NXdetector"}})],
    ("descriptor", "anything", {"deep": [1, None]}),
    *[("resource", "path_semantics", kind) for kind in ("posix", "windows")],
    ("resource", "run_start", "start-1"),
    *[("resource", "resource_kwargs", kwargs) for kwargs in ({"chunk": [1, 2]}, {"a": {"b": None}})],
    *[("datum", "datum_kwargs", kwargs) for kwargs in ({"frame": 0}, {"a": "b", "c": [1, {}]})],
    *[("datum_page", "datum_kwargs", kwargs) for kwargs in ({}, {"a": ["x", None], "b": [[1], {}]})],
    ("stream_resource", "run_start", "start-1"),
    ("stream_resource", "parameters", {"dataset": "/entry/data", "chunk_shape": [1, 2, 3], "swmr": True, "a": None}),
    ("stream_resource", "anything", [1, {"deep": "µ"}]),
    ("stream_datum", "anything", {"deep": 1.5}),
    *[("event", "filled", filled) for filled in ({}, {"cam": False}, {"cam": "resource-1/0"})],
    *[("event_page", "filled", filled) for filled in ({}, {"cam": [False, False]}, {"cam": [False, "resource-1/2"]})],
    *[("stop", "reason", reason) for reason in ("", "Ctrl+C\n  at line 3")],
    *[("stop", "exit_status", status) for status in ("abort", "fail")],
    *[("stop", "num_events", count) for count in ({}, {"primary": 3, "Ünï code": 0})],
    *[("stop", "data_type", kind) for kind in ("xrd", [1])],
    ("stop", "anything", {"deep": [1, None]}),
]
#: The keys that a data key of a descriptor may have.
OF_DATA_KEYS: list[tuple[str, Any]] = [
    *[("dtype", dtype) for dtype in ("string", "number", "array", "boolean", "integer")],
    *[("shape", shape) for shape in ([], [5], [None], [None, 3], [0, 0])],
    *[("dtype_numpy", dtype) for dtype in ("<f8", "|b1", "<U12", [["a", "<i4"], ["b", "<f8"]])],
    *[("dtype_str", "<f8"), ("dtype_descr", [["a", "<i4"]])],
    *[("dims", dims) for dims in ([], ["y", "x"])],
    *[("units", units) for units in ("mm", "", None)],
    *[("precision", precision) for precision in (3, None)],
    ("limits", {"display": {"low": None, "high": 1.0}, "control": {"low": 0.0, "high": 2.0}, "rds": None}),
    *[("choices", choices) for choices in ([], ["open", "closed"])],
    ("object_name", "det"),
    *[("external", kind) for kind in ("FILESTORE:", "STREAM:", "SOMETHING")],
    *[("lower_ctrl_limit", 0.0), ("upper_ctrl_limit", 1.0), ("enum_strs", ["a"]), ("anything", {"deep": [1]})],
]


def run_with(kind: str | None = None, **keys: Any) -> list[Pair]:
    """Make a run that has each kind of document once, with more keys in those of one kind."""
    return [(name, doc | keys if name == kind else dict(doc)) for name, doc in REQUIRED.items()]


def is_valid(name: str, doc: dict[str, Any]) -> bool:
    return event_model.schema_validators[event_model.DocumentNames[name]].is_valid(doc)


def test_there_is_an_example_of_each_kind_of_document() -> None:
    names = {member.name for member in event_model.DocumentNames} - {"bulk_events", "bulk_datum"}
    assert names == REQUIRED.keys()
    for name, doc in REQUIRED.items():
        assert is_valid(name, doc), name


def test_every_key_that_a_schema_names_is_tried() -> None:
    tried = {(name, key) for name, key, _ in OPTIONAL} | {(name, key) for name, doc in REQUIRED.items() for key in doc}
    for member, schema in event_model.schemas.items():
        if member.name in REQUIRED:
            assert {(member.name, key) for key in schema.get("properties", ())} <= tried, member.name
    definitions = event_model.schemas[event_model.DocumentNames.descriptor]["$defs"]
    assert definitions["DataKey"]["properties"].keys() <= {"source", *(key for key, _ in OF_DATA_KEYS)}


@pytest.mark.filterwarnings("ignore:run 'start-1' has a descriptor without a name:UserWarning")
def test_documents_of_required_keys_alone_are_given_back(db: Broker) -> None:
    documents = run_with()
    header = insert(db, documents)
    check_faces(header, documents)
    assert header.stream_names == list(header.v2) == ["primary"]
    assert header.table()["det"].tolist()[:2] == [1.5, 2.5]
    assert header.v2.primary(include=["det"]).read()["det"].values.tolist()[:2] == [1.5, 2.5]


@pytest.mark.parametrize(("kind", "key", "value"), OPTIONAL)
def test_every_optional_key_is_given_back(db: Broker, kind: str, key: str, value: Any) -> None:
    documents = run_with(kind, **{key: value})
    header = insert(db, documents)
    check_faces(header, documents, FEW)
    if kind in ("start", "stop"):
        assert header[kind][key] == header.v2.metadata[kind][key] == value
        assert type(header[kind][key]) is type(value)


@pytest.mark.parametrize(("key", "value"), OF_DATA_KEYS)
def test_every_key_of_a_data_key_is_given_back(db: Broker, key: str, value: Any) -> None:
    keys = {"det": KEY | {key: value}, "cam": IMAGE, "pil": STREAM}
    documents = run_with("descriptor", data_keys=keys, name="primary")
    header = insert(db, documents)
    check_faces(header, documents, FEW)
    assert header.descriptors[0]["data_keys"] == header.v2.primary.metadata["descriptors"][0]["data_keys"] == keys
    assert header.fields() == set(keys)
    assert len(header.table()) == 3


def test_all_optional_keys_at_once(db: Broker) -> None:
    documents = run_with()
    for name, doc in documents:
        doc.update({key: value for kind, key, value in OPTIONAL if kind == name})
    check_faces(insert(db, documents), documents)


@pytest.mark.parametrize("kind", REQUIRED)
def test_numpy_and_tuples_are_taken_anywhere_and_given_as_json_has_them(db: Broker, kind: str) -> None:
    odd = {
        "array": np.arange(6).reshape(2, 3),
        "number": np.float32(1.5),
        "pair": (1, (2,)),
        "deep": [{"a": np.int8(1)}],
    }
    keys: dict[str, Any] = {
        "event": {"data": {"det": np.arange(3), "cam": np.str_("resource-1/0")}},
        "event_page": {"data": {"det": np.array([2.5, 3.5]), "cam": ("resource-1/1", "resource-1/2")}},
        "datum": {"datum_kwargs": odd},
        "datum_page": {"datum_kwargs": {"frame": np.array([1, 2])}},
        "resource": {"resource_kwargs": odd},
    }
    documents = run_with(kind, **keys.get(kind, {"odd": odd}))
    header = insert(db, documents)
    plain = [(name, event_model.sanitize_doc(doc)) for name, doc in singles(documents)]
    assert by_kind(header.documents()) == by_kind(header.v2.documents(fill="no")) == by_kind(plain)


def test_old_forms_of_many_documents_are_given_as_single_ones(db: Broker) -> None:
    described = REQUIRED["descriptor"] | {"name": "primary"}
    events = [doc for _, doc in singles([("event_page", REQUIRED["event_page"])])]
    data = [doc for _, doc in singles([("datum_page", REQUIRED["datum_page"])])]
    for pair in [("start", BEGUN), ("descriptor", described), ("resource", REQUIRED["resource"])]:
        db.insert(*pair)
    with pytest.warns(UserWarning, match="bulk_datum"):
        db.insert(
            "bulk_datum",
            {
                **{"resource": "resource-1", "datum_ids": [doc["datum_id"] for doc in data]},
                "datum_kwarg_list": [doc["datum_kwargs"] for doc in data],
            },
        )
    with pytest.warns(UserWarning, match="bulk_events"):
        db.insert("bulk_events", {"descriptor-1": events})
    db.insert("stop", REQUIRED["stop"])
    found = by_kind(db[-1].documents())
    assert found["datum"] == data
    assert found["event"] == events
    assert by_kind(db[-1].v2.documents(fill="no")) == found


# -- every kind of device


@pytest.fixture(scope="module")
def engine() -> RunEngine:
    return RunEngine({})


def recorded(db: Broker, engine: RunEngine, plan: Any) -> tuple[Header, list[Pair]]:
    emitted: list[Pair] = []
    tokens = [
        engine.subscribe(db.insert),
        engine.subscribe(lambda name, doc: emitted.append((name, event_model.sanitize_doc(doc)))),
    ]
    try:
        engine(plan)
    finally:
        for token in tokens:
            engine.unsubscribe(token)
    return db[emitted[0][1]["uid"]], emitted


class _Flyer:
    """A device that moves and reads by itself, and gives its readings afterwards."""

    name, parent = "flyer", None

    def kickoff(self) -> Any:
        return ophyd.sim.NullStatus()

    def complete(self) -> Any:
        return ophyd.sim.NullStatus()

    def describe_collect(self) -> dict[str, Any]:
        return {"flown": {key: {"source": "sim", "dtype": "number", "shape": []} for key in "xy"}}


class Flyer(_Flyer):
    """A device that gives its readings one by one."""

    def collect(self) -> Iterator[dict[str, Any]]:
        for number in range(4):
            data = {"x": number, "y": -number / 2}
            yield {"time": T0 + number, "data": data, "timestamps": dict.fromkeys(data, T0)}


class PageFlyer(_Flyer):
    """A device that gives many readings at once."""

    def collect_pages(self) -> Iterator[dict[str, Any]]:
        columns = {"x": [0, 1, 2, 3], "y": [0.0, -0.5, -1.0, -1.5]}
        yield {"time": [T0, T0 + 1, T0 + 2, T0 + 3], "data": columns, "timestamps": dict.fromkeys(columns, [T0] * 4)}


def flown(flyer: _Flyer) -> Any:
    yield from bps.open_run()
    yield from bps.kickoff(flyer, wait=True)
    yield from bps.complete(flyer, wait=True)
    yield from bps.collect(flyer)
    yield from bps.close_run()


def monitored(hw: Any) -> Any:
    return bpp.monitor_during_wrapper(bp.scan([hw.det], hw.motor, -1, 1, 5), [hw.rand])


def with_baseline(hw: Any) -> Any:
    return bpp.baseline_wrapper(bp.grid_scan([hw.det], hw.motor1, 0, 1, 2, hw.motor2, 0, 1, 2), [hw.motor3])


#: Plans, and the kinds of documents that carry their readings.
PLANS: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "step scan": (lambda hw: bp.scan([hw.det], hw.motor, -1, 1, 3), {"event"}),
    "monitor": (monitored, {"event"}),
    "baseline": (with_baseline, {"event"}),
    "area detector": (lambda hw: bp.count([hw.img, hw.det], 2), {"resource", "datum", "event"}),
    "flyer": (lambda hw: flown(Flyer()), {"event_page"}),
    "flyer that makes pages": (lambda hw: flown(PageFlyer()), {"event_page"}),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_devices_emit_is_given_back(db: Broker, engine: RunEngine, name: str) -> None:
    make_plan, kinds = PLANS[name]
    header, emitted = recorded(db, engine, make_plan(ophyd.sim.hw()))
    assert {kind for kind, _ in emitted} - {"start", "descriptor", "stop"} <= kinds
    check_faces(header, emitted)
    check_readings(header, emitted)


def test_what_streaming_detectors_emit_is_given_back(db: Broker) -> None:
    """As ophyd-async: resources once a file and key, ranges of it, and nothing of them in the events."""
    bundle = event_model.compose_run(metadata={"plan_name": "fly"})
    described = bundle.compose_descriptor("primary", {"det": dict(KEY), "pil": dict(STREAM)})
    resource, compose_datum = bundle.compose_stream_resource(
        mimetype="application/x-hdf5", uri="file://localhost/nowhere/a.h5", data_key="pil", parameters={"dataset": "/d"}
    )
    documents: list[Pair] = [("start", bundle.start_doc), ("descriptor", described.descriptor_doc)]
    documents += [("stream_resource", resource)]
    for number in range(3):
        ranges = {"start": number, "stop": number + 1}, {"start": number + 1, "stop": number + 2}
        part = compose_datum(indices=ranges[0], seq_nums=ranges[1], descriptor=described.descriptor_doc)
        reading = described.compose_event(data={"det": number}, timestamps={"det": T0}, validate=False)
        documents += [("stream_datum", part), ("event", reading)]
    documents += [("stop", bundle.compose_stop())]
    header = insert(db, documents)
    check_faces(header, documents)
    assert list(header.table().columns) == ["time", "det"]
    assert [event["data"] for event in header.events(fields=["det"])] == [{"det": number} for number in range(3)]
    assert list(header.v2.primary(include=["det"]).read()) == ["det"]


def events_by_stream(documents: list[Pair]) -> dict[str, list[dict[str, Any]]]:
    streams = {doc["uid"]: doc.get("name", "primary") for name, doc in documents if name == "descriptor"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in streams.values()}
    for name, doc in singles(documents):
        if name == "event":
            found[streams[doc["descriptor"]]].append(doc)
    return found


def check_readings(header: Header, documents: list[Pair]) -> None:
    """Check the values that tables, columns and datasets give against the events, external data unread."""
    external = {
        key
        for name, doc in documents
        if name == "descriptor"
        for key, item in doc["data_keys"].items()
        if item.get("external")
    }
    assert set(header.stream_names) == set(events_by_stream(documents))
    for stream, events in events_by_stream(documents).items():
        table = header.table(stream)
        assert table.index.tolist() == [event["seq_num"] for event in events]
        for key in header.fields(stream) if events else ():
            expected = [event["data"][key] for event in events]
            assert same(table[key].tolist(), expected), key
            assert same(list(header.data(key, stream, fill=False)), expected), key
        wanted = sorted(header.fields(stream) - external)
        for dataset in (header.v2[stream](include=wanted).read(), header.v2[stream].to_dask()) if wanted else ():
            assert np.array_equal(dataset["time"].values, [event["time"] for event in events])
            assert set(wanted) <= set(dataset)
            for key in wanted if events else ():
                assert same(dataset[key].values.tolist(), [event["data"][key] for event in events]), key


def same(one: Any, other: Any) -> bool:
    """Tell whether lists of values are equal; NaN equals NaN, and arrays equal lists."""
    try:
        np.testing.assert_equal(np.array(one, dtype=object), np.array(other, dtype=object))
    except AssertionError:
        return False
    return True


# -- runs that others recorded

DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = sorted([*DATA.glob("bluesky-tutorials/*.jsonl"), *DATA.glob("apstools-2025/*.json")])


def read_recorded(path: Path) -> list[Pair]:
    content = path.read_text()
    rows = [json.loads(line) for line in content.splitlines()] if path.suffix == ".jsonl" else json.loads(content)
    return [(name, doc) for name, doc in rows]


@pytest.mark.skipif(not FILES, reason="the runs recorded by others are not here")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_runs_that_others_recorded_are_given_by_every_face(path: Path, db: Broker) -> None:
    documents = read_recorded(path)
    header = insert(db, documents)
    check_faces(header, documents)
    check_readings(header, documents)
    assert header == db[documents[0][1]["scan_id"]] == next(iter(db(plan_name=header.start["plan_name"])))
    for stream in header.stream_names:
        for device in header.v2[stream].config:
            assert set(header.v2[stream].config[device].read()) == {
                key for data in header.config_data(device)[stream] for key in data
            }
