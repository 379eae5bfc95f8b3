"""The real RunEngine and ophyd.sim record through `Broker.insert`; everything they emit is kept."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import event_model
import numpy as np
import pytest
from bluesky import RunEngine, plan_stubs as bps, plans as bp, preprocessors as bpp
from bluesky.utils import FailedStatus, RequestAbort
from ophyd import sim

from equality import first_difference
from filebroker import Broker, Catalog

HW = sim.hw()


class Recording:
    """A RunEngine that records into a broker, and keeps what it emitted by run."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.engine = RunEngine({"beamline": "sim", "nested": {"a": [1, {"b": None}]}, "number": np.float64(3.5)})
        self.engine.subscribe(self.keep)
        self.engine.subscribe(broker.insert)
        self.emitted: dict[str, list[tuple[str, dict]]] = {}
        self._run_of: dict[str, str] = {}

    def keep(self, name: str, doc: dict) -> None:
        reference = next(
            (doc[key] for key in ("run_start", "descriptor", "resource", "stream_resource") if key in doc), None
        )
        uid = doc["uid"] if name == "start" else self._run_of.get(reference, reference)
        if isinstance(doc.get("uid"), str):
            self._run_of[doc["uid"]] = uid
        self.emitted.setdefault(uid, []).append((name, copy.deepcopy(doc)))

    def check(self) -> None:
        """Everything emitted is found, in order, in a catalog opened anew."""
        catalog = Catalog(self.broker.catalog.folder.url)
        assert {run.uid for run in catalog} == set(self.emitted)
        for uid, documents in self.emitted.items():
            expected = [(name, event_model.sanitize_doc(doc)) for name, doc in documents]
            assert not first_difference(expected, list(catalog.by_uid(uid).documents()))


@pytest.fixture
def recording(tmp_path: Any) -> Iterator[Recording]:
    recording = Recording(Broker(tmp_path / "catalog"))
    yield recording
    recording.check()


def signal(name: str, function: Callable[[], Any]) -> sim.SynSignal:
    return sim.SynSignal(func=function, name=name)


def detector(value: Any) -> Any:
    """Give a device whose declared dtype has nothing to do with its value."""

    class Detector:
        name, parent = "odd", None

        def read(self) -> dict:
            return {"odd": {"value": value, "timestamp": time.time()}}

        def describe(self) -> dict:
            return {"odd": {"source": "py", "dtype": "string", "shape": []}}

        def read_configuration(self) -> dict:
            return {}

        describe_configuration = read_configuration

    return Detector()


@bpp.run_decorator(md={"plan_name": "several streams"})
def several_streams() -> Iterator[Any]:
    for number in range(4):
        yield from bps.trigger_and_read([HW.det], name="primary")
        yield from bps.trigger_and_read([HW.det1], name="dark")
        if number % 2:
            yield from bps.trigger_and_read([HW.det2], name="weird/nàme ")


@bpp.run_decorator(md={"plan_name": "two descriptors"})
def reconfigured() -> Iterator[Any]:
    yield from bps.trigger_and_read([HW.motor, HW.det])
    yield from bps.configure(HW.det, {"Imax": 2})
    yield from bps.trigger_and_read([HW.motor, HW.det])


@bpp.set_run_key_decorator("outer")
@bpp.run_decorator(md={"plan_name": "outer"})
def nested() -> Iterator[Any]:
    for number in range(3):
        yield from bps.trigger_and_read([HW.det1])
        yield from bpp.set_run_key_wrapper(bp.count([HW.det2], 2), f"inner {number}")
        yield from bps.trigger_and_read([HW.det1])


@bpp.run_decorator(md={"plan_name": "empty"})
def no_events() -> Iterator[Any]:
    yield from bps.null()


def rewound() -> Iterator[Any]:
    @bpp.run_decorator(md={"plan_name": "rewound"})
    def plan() -> Iterator[Any]:
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([HW.det])
        yield from bps.trigger_and_read([HW.det])

    return plan()


random = np.random.default_rng(1)
PLANS = {
    "count": lambda: bp.count([HW.det], 5),
    "scan": lambda: bp.scan([HW.det], HW.motor, -1, 1, 5),
    "grid_scan": lambda: bp.grid_scan([HW.det4], HW.motor1, -1, 1, 4, HW.motor2, -1, 1, 3, True),
    "list_scan of integers": lambda: bp.list_scan([HW.det], HW.motor, [1, 2, 3]),
    "fly": lambda: bp.fly([sim.MockFlyer("flyer", HW.det, HW.motor, -1, 1, 7)]),
    "trivial fly": lambda: bp.fly([sim.TrivialFlyer()]),
    "baseline": lambda: bpp.baseline_wrapper(bp.scan([HW.det], HW.motor, -1, 1, 5), [HW.motor1, HW.motor2]),
    "monitors": lambda: bpp.monitor_during_wrapper(bp.scan([HW.det], HW.motor, -1, 1, 5), [HW.motor.readback]),
    "images in events": lambda: bp.count([HW.direct_img, HW.direct_img_list], 4),
    "images in files": lambda: bp.count([HW.img], 3),
    "nan and inf": lambda: bp.count([signal("odd", lambda: float(random.choice([1.0, np.nan, np.inf])))], 9),
    "mixed numbers": lambda: bp.count([signal("mixed", lambda: [1, 2.5, 7][random.integers(3)])], 9),
    "ragged arrays": lambda: bp.count([signal("ragged", lambda: np.arange(random.integers(0, 5)))], 9),
    "strings": lambda: bp.count([signal("state", lambda: ["open", "clösed"][random.integers(2)])], 5),
    "numpy strings": lambda: bp.count([signal("state", lambda: np.str_("open"))], 3),
    "single floats": lambda: bp.count([signal("single", lambda: np.float32(random.random()))], 5),
    "big integers": lambda: bp.count([signal("big", lambda: 2**70)], 3),
    "none": lambda: bp.count([detector(None)], 3),
    "dicts": lambda: bp.count([detector({"x": 1, "y": [1, 2.5, None]})], 3),
    "several streams": several_streams,
    "two descriptors": reconfigured,
    "nested": nested,
    "no events": no_events,
    "rewound": rewound,
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plans(recording: Recording, plan: Callable) -> None:
    recording.engine(plan())
    assert recording.emitted


def test_supplemental_data(recording: Recording) -> None:
    supplement = bpp.SupplementalData(baseline=[HW.motor1, HW.det1], monitors=[HW.motor2.readback])
    recording.engine.preprocessors.append(supplement)
    recording.engine(bp.grid_scan([HW.det4], HW.motor1, -1, 1, 3, HW.motor2, -1, 1, 3))
    header = recording.broker[-1]
    assert set(header.stream_names) == {"baseline", "primary", "motor2_monitor"}
    assert len(header.table("baseline")) == 2
    assert len(header.table("motor2_monitor")) >= 3


@pytest.mark.parametrize(
    ("error", "status"),
    [(RequestAbort("enough"), "abort"), (FailedStatus("stuck"), "fail"), (ValueError("a bug"), "fail")],
)
def test_spoiled_runs(recording: Recording, error: Exception, status: str) -> None:
    @bpp.run_decorator(md={})
    def plan() -> Iterator[Any]:
        yield from bps.trigger_and_read([HW.det])
        raise error

    with contextlib.suppress(type(error)):  # the engine swallows a requested abort
        recording.engine(plan())
    header = recording.broker[-1]
    assert header.stop["exit_status"] == status
    assert len(header.table()) == 1


def test_runs_repeated_by_a_rewind_are_both_kept(recording: Recording) -> None:
    """A RunEngine that resumes from a checkpoint emits the same seq_num again, with a new uid."""
    engine = recording.engine
    paused = []

    @bpp.run_decorator(md={})
    def plan() -> Iterator[Any]:
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([HW.det])
        if not paused:
            paused.append(True)
            yield from bps.pause()
        yield from bps.trigger_and_read([HW.det])

    with pytest.raises(Exception, match="paused"):
        engine(plan())
    engine.resume()
    events = [doc for docs in recording.emitted.values() for name, doc in docs if name == "event"]
    assert len({event["uid"] for event in events}) == len(events)


def test_a_run_is_visible_while_it_is_recorded(recording: Recording, tmp_path: Any) -> None:
    seen = []

    def look(name: str, doc: dict) -> None:
        if name == "event":
            header = Broker(tmp_path / "catalog", read_only=True)[-1]
            seen.append((len(header.table()), dict(header.stop.items())))

    recording.engine.subscribe(look)
    recording.engine(bp.count([HW.det], 3))
    assert seen == [(1, {}), (2, {}), (3, {})]
    assert recording.broker[-1].stop["exit_status"] == "success"


def test_the_input_is_never_modified_nor_kept(tmp_path: Any) -> None:
    broker = Broker(tmp_path)
    array, listed = np.arange(100), [1, 2]
    keys = {name: {"source": "s", "dtype": "array", "shape": [100]} for name in ("array", "listed")}
    documents = [
        ("start", {"uid": "run", "time": 1.0, "tags": ["a"], "number": np.int32(5)}),
        ("descriptor", {"uid": "d", "time": 1.0, "run_start": "run", "name": "primary", "data_keys": keys}),
        (
            "event",
            {
                **{"uid": "e", "time": 1.0, "seq_num": 1, "descriptor": "d", "filled": {}},
                **{"data": {"array": array, "listed": listed}, "timestamps": {"array": 1.0, "listed": 1.0}},
            },
        ),
    ]
    before = copy.deepcopy(documents)
    for name, doc in documents:
        broker.insert(name, doc)
    for (_, doc), (_, untouched) in zip(documents, before, strict=True):
        assert event_model.sanitize_doc(doc) == event_model.sanitize_doc(untouched)
        assert doc.keys() == untouched.keys()
    array[:] = 0  # the caller uses its buffers again
    listed.append(3)
    documents[0][1]["tags"].append("b")
    broker.insert("stop", {"uid": "s", "time": 2.0, "run_start": "run", "exit_status": "success"})
    header = broker[-1]
    assert header.table()["array"].iloc[0].tolist() == list(range(100))
    assert header.table()["listed"].iloc[0] == [1, 2]
    assert header.start["tags"] == ["a"]
