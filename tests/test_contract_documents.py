"""What databroker v1's `Header` promises of a run's documents: their order, their choice, their wrapping."""

import copy
import threading
from types import GeneratorType

import doct
import numpy as np
import pytest
from bluesky import RunEngine, plan_stubs as bps, plans as bp, preprocessors as bpp
from ophyd import Component, Device, sim

import factories
from factories import T0
from filebroker import ALL, Broker, DeprecatedDoct, temp, wrap_in_deprecated_doct, wrap_in_doct
from filebroker.assets.handlers import Handlers


@pytest.fixture
def db():
    broker = temp()
    yield broker
    broker.close()


@pytest.fixture
def plain(db):
    """A broker whose documents are plain dicts, to compare them."""
    db.prepare_hook = lambda name, doc: doc
    return db


@pytest.fixture(scope="module")
def engine():
    return RunEngine({})


@pytest.fixture
def record(db, engine):
    """Record a plan with the real RunEngine; give the header, and the documents that were emitted."""

    def record(plan, **metadata):
        emitted = []
        tokens = [engine.subscribe(db.insert), engine.subscribe(lambda name, doc: emitted.append((name, doc)))]
        try:
            engine(plan, **metadata)
        finally:
            for token in tokens:
                engine.unsubscribe(token)
        return db[emitted[0][1]["uid"]], emitted

    return record


@pytest.fixture
def hw():
    return sim.hw()


def insert(db, documents):
    """Insert documents; give the header of their run."""
    for name, doc in documents:
        db.insert(name, doc)
    return db[documents[0][1]["uid"]]


def names(pairs):
    return [name for name, _ in pairs]


# -- the header


def test_attributes_of_a_header(plain):
    documents = factories.run(rows=2, sample="LaB6")
    header = insert(plain, documents)
    (_, begun), (_, described), *_, (_, end) = documents
    assert header.start == begun
    assert header.stop == end
    assert header.descriptors == [described]
    assert header.uid == begun["uid"]
    assert header.stream_names == ["primary"]
    assert header.db is plain
    assert vars(header.ext) == {}


def test_header_is_a_mapping_of_four_keys(plain):
    header = insert(plain, factories.run())
    expected = ["start", "descriptors", "stop", "ext"]
    assert list(header) == list(header.keys()) == [key for key, _ in header.items()] == expected
    assert header["start"] == header.start
    assert header["stop"] == header.stop
    assert header["descriptors"] == header.descriptors
    assert vars(header["ext"]) == {}
    assert list(header.values())[:3] == [header.start, header.descriptors, header.stop]
    assert dict(header)["start"] == header.start


@pytest.mark.parametrize("key", ["uid", "events", "table", "db", "no_such_key"])
def test_other_keys_of_a_header_are_key_errors(db, key):
    header = insert(db, factories.run())
    with pytest.raises(KeyError, match=key):
        header[key]


def test_get_of_a_header(plain):
    header = insert(plain, factories.run())
    assert header.get("start") == header.start
    assert header.get("no_such_key", 5) == 5


def test_headers_are_equal_if_their_starts_are(db):
    one, other = insert(db, factories.run()), insert(db, factories.run())
    assert one == db[one.uid]
    assert one != other
    assert one != []
    assert one != one.start
    assert not one == one.uid  # noqa: SIM201 - both operators are meant


def test_headers_have_no_length_and_no_hash(db):
    header = insert(db, factories.run())
    with pytest.raises(TypeError):
        len(header)
    with pytest.raises(TypeError):
        hash(header)


def test_header_as_html(db):
    header = insert(db, factories.run(sample="<LaB6>"))
    html = header._repr_html_()
    assert "<table" in html
    assert "&lt;LaB6&gt;" in html
    assert header.uid in html


# -- descriptors and what they tell


def two_streams():
    """A run whose baseline stream has events before and after those of the primary stream."""
    begun = factories.start()
    baseline = factories.descriptor(begun, ["motor"], name="baseline", time=T0 + 0.1)
    primary = factories.descriptor(begun, ["det", "i0"], time=T0 + 0.2)
    return [
        *[("start", begun), ("descriptor", baseline), ("event", factories.event(baseline, 1, time=T0 + 1))],
        ("descriptor", primary),
        *[("event", factories.event(primary, number, time=T0 + 1 + number)) for number in (1, 2)],
        ("event", factories.event(baseline, 2, time=T0 + 9)),
        ("stop", factories.stop(begun, {"baseline": 2, "primary": 2})),
    ]


def test_descriptors_are_listed_newest_first(plain):
    documents = two_streams()
    expected = [doc for name, doc in documents if name == "descriptor"]
    header = insert(plain, documents)
    assert header.descriptors == expected[::-1]
    assert set(header.stream_names) == {"primary", "baseline"}


def test_descriptors_are_newest_first_by_their_time_not_by_insertion(plain):
    begun = factories.start()
    late = factories.descriptor(begun, ["det"], time=T0 + 2)
    early = factories.descriptor(begun, ["motor"], name="baseline", time=T0 + 1)
    header = insert(
        plain, [("start", begun), ("descriptor", late), ("descriptor", early), ("stop", factories.stop(begun))]
    )
    assert header.descriptors == [late, early]


def test_run_without_descriptors(db, record):
    for header in (
        record(bp.count([]))[0],
        insert(db, [("start", begun := factories.start()), ("stop", factories.stop(begun))]),
    ):
        assert header.descriptors == []
        assert header.stream_names == []
        assert header.fields() == header.devices() == set()
        assert header.config_data("motor") == {}
        assert names(header.documents()) == ["start", "stop"]
        assert list(header.events()) == list(header.data("det")) == []


def nameless():
    """A run from before 2016, when descriptors had no name."""
    begun = factories.start()
    described = factories.descriptor(begun, name=None)
    event = factories.event(described)
    return [("start", begun), ("descriptor", described), ("event", event), ("stop", factories.stop(begun))]


def test_descriptor_without_name_is_of_the_primary_stream_and_warned_of(db):
    with pytest.warns(UserWarning, match="name"):
        assert insert(db, nameless()).stream_names == ["primary"]


@pytest.mark.filterwarnings("ignore:.*name.*:UserWarning")
def test_events_of_a_descriptor_without_name_are_of_the_primary_stream(db):
    header = insert(db, nameless())
    assert header.stream_names == ["primary"]
    assert len(header.descriptors) == 1
    assert "name" not in header.descriptors[0]
    assert list(header.data("det")) == [0.5]
    assert names(header.documents()) == ["start", "descriptor", "event", "stop"]


def test_fields_and_devices_of_streams(db):
    begun = factories.start()
    primary = factories.descriptor(begun, ["det", "det_max"], object_keys={"detector": ["det", "det_max"]})
    baseline = factories.descriptor(begun, ["motor"], name="baseline")
    header = insert(
        db,
        [("start", begun), ("descriptor", primary), ("descriptor", baseline), ("stop", factories.stop(begun))],
    )
    assert header.fields() == header.fields(ALL) == {"det", "det_max", "motor"}
    assert header.fields("primary") == header.fields(stream_name="primary") == {"det", "det_max"}
    assert header.devices() == header.devices(ALL) == {"detector", "motor"}
    assert header.devices("baseline") == header.devices(stream_name="baseline") == {"motor"}
    assert header.fields("no_such_stream") == header.devices("no_such_stream") == set()


def configured(value, stamp=0.0):
    return {"data": {"y": 2, "z": value}, "timestamps": {"y": stamp, "z": stamp}, "data_keys": {}}


def test_config_data_of_each_stream_oldest_first(db):
    begun = factories.start()
    descriptors = [
        factories.descriptor(begun, ["x"], time=T0 + 1, configuration={"det": configured(3)}),
        factories.descriptor(begun, ["m"], name="baseline", time=T0 + 2, configuration={"det": configured(3)}),
        factories.descriptor(begun, ["x"], time=T0 + 3, configuration={"det": configured(4)}),
    ]
    header = insert(
        db, [("start", begun), *(("descriptor", doc) for doc in descriptors), ("stop", factories.stop(begun))]
    )
    assert header.config_data("det") == {
        "primary": [{"y": 2, "z": 3}, {"y": 2, "z": 4}],
        "baseline": [{"y": 2, "z": 3}],
    }
    assert header.config_data("no_such_device") == {}


class Configurable(Device):
    x = Component(sim.Signal, value=0)
    y = Component(sim.Signal, value=2)
    z = Component(sim.Signal, value=3)


@pytest.fixture
def det():
    """A device that reads x and is configured by y and z."""
    device = Configurable(name="det")
    for name in ("x", "y", "z"):
        getattr(device, name).name = name
    device.read_attrs, device.configuration_attrs = ["x"], ["y", "z"]
    return device


def test_config_data_of_a_device_that_is_reconfigured(record, det):
    @bpp.run_decorator()
    def plan():
        yield from bps.configure(det, {"z": 3})
        yield from bps.trigger_and_read([det])
        yield from bps.configure(det, {"z": 4})
        yield from bps.trigger_and_read([det])

    header, _ = record(plan())
    assert header.config_data("det") == {"primary": [{"y": 2, "z": 3}, {"y": 2, "z": 4}]}
    header, _ = record(bpp.baseline_wrapper(bp.count([det]), [det]))
    assert header.config_data("det") == {"primary": [{"y": 2, "z": 4}], "baseline": [{"y": 2, "z": 4}]}


# -- order and number of the documents


def test_documents_are_a_lazy_generator(plain):
    begun = factories.start()
    described = factories.descriptor(begun, {"img": factories.data_key("array", external="FILESTORE:")})
    header = insert(
        plain,
        [
            ("start", begun),
            ("descriptor", described),
            ("event", factories.event(described)),
            ("stop", factories.stop(begun)),
        ],
    )
    pairs = header.documents(fill=True)
    assert isinstance(pairs, GeneratorType)
    assert next(pairs) == ("start", begun)
    assert next(pairs) == ("descriptor", described)
    with pytest.raises(KeyError):  # nothing reads the images, which is noticed no sooner
        next(pairs)


def test_documents_are_those_inserted(plain):
    documents = two_streams()
    assert list(insert(plain, documents).documents()) == documents


def test_documents_may_be_read_again_and_again(plain):
    header = insert(plain, two_streams())
    assert list(header.documents()) == list(header.documents())


def test_events_of_all_streams_come_by_ascending_time(plain):
    begun = factories.start()
    one = factories.descriptor(begun, ["det"])
    other = factories.descriptor(begun, ["motor"], name="monitor")
    events = [factories.event(one, number, time=T0 + 10 * number) for number in range(1, 5)]
    others = [factories.event(other, number, time=T0 + 5 + 7 * number) for number in range(1, 5)]
    documents = [("start", begun), ("descriptor", one), ("descriptor", other)]
    documents += [("event", event) for event in events + others]
    header = insert(plain, [*documents, ("stop", factories.stop(begun))])
    found = [doc for name, doc in header.documents() if name == "event"]
    assert found == sorted(events + others, key=lambda event: event["time"])
    assert list(header.events(ALL)) == found


def test_events_of_pages_are_single_and_in_time_order(plain):
    begun = factories.start()
    one = factories.descriptor(begun, ["det"])
    other = factories.descriptor(begun, ["motor"], name="flyer")
    page = factories.event_page(other, [1, 2, 3], time=[T0 + 1, T0 + 3, T0 + 5])
    events = [factories.event(one, 1, time=T0 + 2), factories.event(one, 2, time=T0 + 4)]
    header = insert(
        plain,
        [
            *[("start", begun), ("descriptor", one), ("descriptor", other)],
            *[("event", events[0]), ("event", events[1]), ("event_page", page), ("stop", factories.stop(begun))],
        ],
    )
    found = list(header.documents())
    assert names(found) == ["start", "descriptor", "descriptor", *["event"] * 5, "stop"]
    assert [doc["time"] for name, doc in found if name == "event"] == [T0 + number for number in range(1, 6)]
    assert [doc["uid"] for doc in header.events("flyer")] == page["uid"]
    assert [doc["data"] for doc in header.events("flyer")] == [{"motor": 0.5}] * 3


def with_images(count=3, pages=False):
    """A run whose images are in files of their own."""
    begun = factories.start()
    held = factories.resource(begun)
    described = factories.descriptor(
        begun, {"det": "number", "img": factories.data_key("array", external="FILESTORE:", shape=[5, 5])}
    )
    datums = [factories.datum(held, number) for number in range(count)]
    events = [
        factories.event(described, number + 1, {"det": 0.5, "img": datum["datum_id"]})
        for number, datum in enumerate(datums)
    ]
    documents = [("start", begun), ("descriptor", described), ("resource", held)]
    if pages:
        documents += [("datum_page", factories.datum_page(held, range(count)))] + [("event", doc) for doc in events]
    else:
        documents += [
            pair for both in zip(datums, events, strict=True) for pair in zip(("datum", "event"), both, strict=True)
        ]
    return [*documents, ("stop", factories.stop(begun))]


@pytest.mark.parametrize("pages", [False, True])
def test_what_an_event_needs_comes_before_it(plain, pages):
    header = insert(plain, with_images(4, pages))
    seen = set()
    for name, doc in header.documents():
        if name == "descriptor":
            assert doc["run_start"] in seen
        elif name == "datum":
            assert doc["resource"] in seen
        elif name == "event":
            assert {doc["descriptor"], doc["data"]["img"]} <= seen
        elif name == "stop":
            assert len(seen) == 1 + 1 + 1 + 4 + 4
        seen.add(doc["datum_id"] if name == "datum" else doc["uid"])


@pytest.mark.parametrize("pages", [False, True])
def test_resource_and_datum_documents_come_once_each(plain, pages):
    header = insert(plain, with_images(4, pages))
    found = names(header.documents())
    assert {name: found.count(name) for name in sorted(set(found))} == {
        **{"datum": 4, "descriptor": 1, "event": 4, "resource": 1, "start": 1, "stop": 1},
    }


def test_recorded_run_gives_as_many_documents_of_each_kind_as_were_emitted(record, hw):
    header, emitted = record(bp.count([hw.img], num=7))
    assert {"resource", "datum"} <= set(names(emitted))
    assert sorted(names(header.documents())) == sorted(names(emitted))


def test_recorded_run_gives_what_was_emitted(db, record, hw):
    header, emitted = record(bp.scan([hw.det], hw.motor, 1, 5, 5))
    assert names(header.documents()) == names(emitted)
    for (name, found), (_, expected) in zip(header.documents(), emitted, strict=True):
        assert dict(found).keys() == expected.keys(), name
    assert [event["data"] for event in header.events()] == [doc["data"] for name, doc in emitted if name == "event"]
    assert [event["time"] for event in header.events()] == [doc["time"] for name, doc in emitted if name == "event"]


def test_recorded_monitor_is_in_time_order(record, hw):
    """A monitored signal emits events from a thread of its own."""
    signal = sim.Signal(name="signal", value=0)
    done = threading.Event()

    def tick():
        while not done.wait(0.004):
            signal.put(signal.get() + 1)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        header, emitted = record(bpp.monitor_during_wrapper(bp.count([hw.det], num=7, delay=0.02), [signal]))
    finally:
        done.set()
        ticker.join()
    assert set(header.stream_names) == {"primary", "signal_monitor"}
    assert len(header.table("signal_monitor")) > 1
    assert len(header.table()) == 7
    times = [doc["time"] for name, doc in header.documents() if name == "event"]
    assert times == sorted(times)
    assert len(times) == names(emitted).count("event")


# -- choice of a stream


def test_documents_of_one_stream(plain):
    documents = two_streams()
    header = insert(plain, documents)
    found = list(header.documents(stream_name="primary"))
    assert found == [documents[0], documents[3], documents[4], documents[5], documents[-1]]
    assert list(header.documents("baseline")) == [*documents[:3], *documents[-2:]]
    assert list(header.documents(ALL)) == documents


def test_documents_of_one_stream_keep_all_resources(plain):
    documents = with_images(2)
    begun, end = documents[0], documents.pop()
    other = factories.descriptor(begun[1], ["motor"], name="baseline")
    header = insert(plain, [*documents, ("descriptor", other), ("event", factories.event(other, time=T0 + 50)), end])
    assert names(header.documents("baseline")) == ["start", "resource", "datum", "datum", "descriptor", "event", "stop"]
    assert names(header.documents("no_such_stream")) == ["start", "resource", "datum", "datum", "stop"]


def test_unknown_stream_gives_start_and_stop(plain):
    header = insert(plain, two_streams())
    assert names(header.documents("no_such_stream")) == ["start", "stop"]
    assert list(header.events("no_such_stream")) == []


def test_events_are_of_the_primary_stream_unless_told(plain):
    documents = two_streams()
    header = insert(plain, documents)
    assert isinstance(header.events(), GeneratorType)
    assert list(header.events()) == [documents[4][1], documents[5][1]]
    assert list(header.events("baseline")) == [documents[2][1], documents[-2][1]]
    assert len(list(header.events(ALL))) == 4


# -- choice of fields


def with_configuration():
    """A run with a value of each origin: event, configuration, start, stop."""
    begun = factories.start(operator="Ana", c=3)
    configuration = {
        "motor": {
            "data": {"motor_velocity": 2.5, "gain": "high"},
            "timestamps": {"motor_velocity": T0 - 7, "gain": T0 - 8},
            "data_keys": {"motor_velocity": factories.data_key(), "gain": factories.data_key("string")},
        }
    }
    described = factories.descriptor(begun, ["det", "motor"], configuration=configuration)
    events = [("event", factories.event(described, number)) for number in (1, 2)]
    return [("start", begun), ("descriptor", described), *events, ("stop", factories.stop(begun, verdict="good"))]


@pytest.mark.parametrize(
    ("fields", "data", "stamps"),
    [
        (["det"], {"det": 0.5}, {"det": T0 + 1.5}),
        (["det", "motor"], {"det": 0.5, "motor": 0.5}, {"det": T0 + 1.5, "motor": T0 + 1.5}),
        (["d.*"], {"det": 0.5}, {"det": T0 + 1.5}),
        (["det|motor"], {"det": 0.5, "motor": 0.5}, {"det": T0 + 1.5, "motor": T0 + 1.5}),
        (["det", "motor_velocity"], {"det": 0.5, "motor_velocity": 2.5}, {"det": T0 + 1.5, "motor_velocity": T0 - 7}),
        (["det", "gain"], {"det": 0.5, "gain": "high"}, {"det": T0 + 1.5, "gain": T0 - 8}),
        (["det", "c"], {"det": 0.5, "c": 3}, {"det": T0 + 1.5, "c": T0}),
        (["det", "operator"], {"det": 0.5, "operator": "Ana"}, {"det": T0 + 1.5, "operator": T0}),
        (["det", "verdict"], {"det": 0.5, "verdict": "good"}, {"det": T0 + 1.5, "verdict": T0 + 100}),
        (["exit_status"], {"exit_status": "success"}, {"exit_status": T0 + 100}),
        (["motor_.*"], {"motor_velocity": 2.5}, {"motor_velocity": T0 - 7}),
        ({"det"}, {"det": 0.5}, {"det": T0 + 1.5}),
        (("det", "no_such_field"), {"det": 0.5}, {"det": T0 + 1.5}),
    ],
    ids=str,
)
def test_fields_keep_and_add(plain, fields, data, stamps):
    header = insert(plain, with_configuration())
    event = next(header.events(fields=fields))
    assert event["data"] == data
    assert event["timestamps"] == stamps
    assert len(list(header.events(fields=fields))) == 2
    assert [doc["data"] for name, doc in header.documents(fields=fields) if name == "event"] == [data] * 2


def test_without_fields_nothing_is_added(plain):
    documents = with_configuration()
    header = insert(plain, documents)
    assert list(header.documents(fields=None)) == documents


def test_start_goes_before_stop_and_configuration_before_both(plain):
    begun = factories.start(gain="start", reason="start")
    configuration = {"d": {"data": {"gain": "configured"}, "timestamps": {"gain": 1.0}, "data_keys": {}}}
    described = factories.descriptor(begun, configuration=configuration)
    header = insert(
        plain,
        [
            *[("start", begun), ("descriptor", described), ("event", factories.event(described))],
            ("stop", factories.stop(begun, reason="stop")),
        ],
    )
    assert next(header.events(fields=["gain", "reason"]))["data"] == {"gain": "configured", "reason": "start"}


@pytest.mark.parametrize("fields", [["no_such_field"], ["de"], ["et"], ["moto"]])
def test_names_must_match_completely_and_empty_events_are_left_out(plain, fields):
    documents = with_configuration()
    header = insert(plain, documents)
    assert list(header.documents(fields=fields)) == [documents[0], documents[1], documents[-1]]
    assert list(header.events(fields=fields)) == []


def test_fields_do_not_change_descriptors(plain):
    documents = with_configuration()
    header = insert(plain, documents)
    assert next(doc for name, doc in header.documents(fields=["det"]) if name == "descriptor") == documents[1][1]


def test_fields_of_alternating_streams(record, hw):
    hw.motor1.acceleration.put(2)
    hw.motor2.acceleration.put(3)

    @bpp.run_decorator()
    def plan():
        for _ in range(3):
            yield from bps.trigger_and_read([hw.motor1], "a")
            yield from bps.trigger_and_read([hw.motor2], "b")

    header, _ = record(plan())
    for motor in (hw.motor1, hw.motor2):
        fields = [motor.name, motor.acceleration.name]
        events = [doc for name, doc in header.documents(fields=fields) if name == "event"]
        assert [set(event["data"]) for event in events] == [set(fields)] * 3


# -- values of one field


def test_data_gives_the_values_of_one_field(record, hw):
    header, _ = record(bp.count([hw.det, hw.det2], 5))
    assert isinstance(header.data("det"), GeneratorType)
    assert list(header.data("det")) == [1, 1, 1, 1, 1]
    assert list(header.data("det")) == [1, 1, 1, 1, 1]


def test_data_of_a_stream(db):
    header = insert(db, two_streams())
    assert list(header.data("motor", "baseline")) == list(header.data("motor", stream_name="baseline")) == [0.5, 0.5]
    assert list(header.data("motor")) == []
    assert list(header.data("det", "no_such_stream")) == []


def test_data_of_all_streams(db):
    header = insert(db, two_streams())
    for field in ("motor", "det", "plan_name", "no_such_field"):
        found = [event["data"][field] for event in header.events(ALL, fields=[field])]
        assert list(header.data(field, ALL)) == list(header.data(field, stream_name=ALL)) == found


def test_data_of_time_is_that_of_the_start_as_in_events(db):
    header = insert(db, two_streams())
    (time,) = {event["data"]["time"] for event in header.events(fields=["time"])}
    assert set(header.data("time")) == {time} == {header.start["time"]}


def test_data_of_an_unknown_field_is_nothing(db):
    header = insert(db, two_streams())
    assert list(header.data("no_such_field")) == []


@pytest.mark.parametrize(
    ("field", "value"), [("motor_velocity", 2.5), ("gain", "high"), ("operator", "Ana"), ("verdict", "good")]
)
def test_data_of_configuration_start_and_stop(db, field, value):
    header = insert(db, with_configuration())
    assert list(header.data(field)) == [value, value]


def test_data_of_arrays(db):
    header = insert(db, factories.run(2, {"spectrum": "array"}))
    assert [np.asarray(value).tolist() for value in header.data("spectrum")] == [[1, 2, 3], [1, 2, 3]]


def test_stream_is_documents_with_a_warning(db):
    header = insert(db, two_streams())
    with pytest.warns(UserWarning, match="documents"):
        found = list(header.stream())
    assert found == list(header.documents())


# -- references to external data


def test_references_are_given_unfilled(plain):
    documents = with_images(2)
    header = insert(plain, documents)
    expected = [doc for name, doc in documents if name == "event"]
    assert list(header.events()) == list(header.events(fill=False)) == expected
    for event in header.events(fields=["img"]):
        assert isinstance(event["data"]["img"], str)
        assert event["filled"]["img"] is False
    assert list(header.data("img", fill=False)) == [event["data"]["img"] for event in expected]


def test_filling_without_a_handler_is_a_key_error_when_iterated(db):
    db.handlers = Handlers(discover=False)
    header = insert(db, with_images(2))
    for read in (
        *(lambda: header.events(fill=True), lambda: header.documents(fill=True), lambda: header.data("img")),
        lambda: header.events(fields=["img"], fill=["img"]),
    ):
        values = read()
        with pytest.raises(KeyError):
            list(values)
    with pytest.raises(KeyError):
        header.table(fill=True)


def test_filling_without_external_fields_needs_no_handler(plain):
    documents = two_streams()
    header = insert(plain, documents)
    assert list(header.documents(fill=True)) == documents
    assert list(header.data("det")) == [0.5, 0.5]


def test_references_without_their_resources_can_be_read_unfilled(plain):
    documents = [pair for pair in with_images(2) if pair[0] not in ("resource", "datum")]
    header = insert(plain, documents)
    assert list(header.documents()) == documents
    assert header.table().shape == (2, 3)


# -- documents kept whole


def test_every_document_is_kept_whole(plain):
    """All that event-model 1.24 allows, and keys of the user's own."""
    begun = factories.start(
        sample={"name": "LaB6", "layers": [{"d": 1.5}, None]},
        **{"project": "p", "owner": "o", "group": "g", "data_session": "s", "data_groups": ["a"], "data_type": 5},
        hints={"dimensions": [[["motor"], "primary"]]},
        projections=[{"name": "p", "version": "1", "configuration": {}, "projection": {}}],
        **{"Ünïcode": "µm", "empty": {}, "none": None, "nan_free": [1, 2.5, True, "x", None, []]},
    )
    fields = {
        "det": factories.data_key(
            **{"dtype_numpy": "<f8", "units": "cps", "precision": 3, "object_name": "det"},
            limits={"display": {"low": 0.0, "high": 1.0}},
        ),
        "state": factories.data_key("string", choices=["open", "closed"]),
        "image": factories.data_key("array", shape=[None, 2], dims=["y", "x"]),
        "flag": factories.data_key("boolean"),
    }
    described = factories.descriptor(
        begun,
        fields,
        object_keys={"det": ["det"], "rest": ["state", "image", "flag"]},
        object_classes={"det": {"class": "ophyd.sim.SynGauss"}},
        configuration={
            "det": {"data": {"a": [1, 2]}, "timestamps": {"a": 1.5}, "data_keys": {"a": factories.data_key()}}
        },
        hints={"det": {"fields": ["det"]}},
        extra={"deep": [1]},
    )
    event = factories.event(described, 1, {"det": 1.25, "state": "open", "image": [[1, 2], [3, 4]], "flag": True})
    held = factories.resource(begun, path_semantics="windows", resource_kwargs={"frames": 5, "deep": {"a": [1]}})
    end = factories.stop(begun, {"primary": 1}, exit_status="abort", reason="Ctrl+C", data_type="x", more=[1])
    documents = [
        *[("start", begun), ("descriptor", described), ("resource", held), ("datum", factories.datum(held))],
        *[("event", event), ("stop", end)],
    ]
    before = copy.deepcopy(documents)
    header = insert(plain, documents)
    assert list(header.documents()) == before
    assert header.start == begun
    assert header.descriptors == [described]
    assert header.stop == end


def test_documents_of_streaming_detectors_are_taken_and_events_can_be_read(plain):
    """ophyd-async: the data key is declared, and no event holds it."""
    begun = factories.start()
    described = factories.descriptor(
        begun, {"det": "number", "img": factories.data_key("array", external="STREAM:", shape=[1, 5, 5])}
    )
    events = [factories.event(described, number, {"det": 0.5}) for number in (1, 2)]
    held = {
        **{"uid": factories.uid(), "run_start": begun["uid"], "data_key": "img", "mimetype": "application/x-hdf5"},
        **{"uri": "file://localhost/nowhere/img.h5", "parameters": {"dataset": "/entry/data"}},
    }
    ranges = {
        **{"uid": factories.uid(), "stream_resource": held["uid"], "descriptor": described["uid"]},
        **{"seq_nums": {"start": 1, "stop": 3}, "indices": {"start": 0, "stop": 2}},
    }
    header = insert(
        plain,
        [
            *[("start", begun), ("descriptor", described), ("stream_resource", held), ("stream_datum", ranges)],
            *[("event", events[0]), ("event", events[1]), ("stop", factories.stop(begun))],
        ],
    )
    assert list(header.events()) == events
    assert names(header.documents())[:2] == ["start", "descriptor"]
    assert [doc for name, doc in header.documents() if name == "event"] == events


# -- wrapping

EVENT = {
    "data": {"det": 1.0},
    "descriptor": "120324df-5d7b-4764-94ec-7031cdcbd6e6",
    "filled": {},
    "seq_num": 1,
    "time": 1502356802.8381739,
    "timestamps": {"det": 1502356802.701149},
    "uid": "f295e8a7-b688-4c22-9f43-0ce6fdd56dbd",
}


def every_document(header):
    """Read the documents of a run in every public way."""
    yield from header.descriptors
    yield from (doc for _, doc in header.documents())
    yield from header.events()
    yield from header.db.get_events(header)
    yield header.stop
    yield header.start


def both_ways(db):
    return db[-1], next(iter(db()))


def test_default_hook_gives_documents_that_are_read_only_dicts(db):
    insert(db, with_images(2))
    assert db.prepare_hook == wrap_in_deprecated_doct
    for header in both_ways(db):
        for doc in every_document(header):
            assert isinstance(doc, DeprecatedDoct)
            assert isinstance(doc, doct.Document)
            assert isinstance(doc, dict)
            with pytest.raises(doct.DocumentIsReadOnly):
                doc["key"] = 1


def test_hook_of_the_old_style(db):
    db.prepare_hook = wrap_in_doct
    insert(db, with_images(2))
    for header in both_ways(db):
        for doc in every_document(header):
            assert isinstance(doc, doct.Document)
            assert not isinstance(doc, DeprecatedDoct)
        assert header.start.uid == header.uid  # without a warning


@pytest.mark.parametrize("hook", [lambda name, doc: doc, lambda name, doc: copy.deepcopy(dict(doc))])
def test_hook_that_gives_plain_dicts(db, hook):
    db.prepare_hook = hook
    insert(db, with_images(2))
    for header in both_ways(db):
        for doc in every_document(header):
            assert isinstance(doc, dict)
            assert not isinstance(doc, doct.Document)


def test_attributes_of_a_deprecated_doct_warn():
    doc = DeprecatedDoct("stuff", EVENT)
    with pytest.warns(UserWarning, match="data"):
        assert doc.data == {"det": 1.0}
    with pytest.warns(UserWarning, match="_name"):
        assert doc._name == "stuff"


def test_everything_else_of_a_deprecated_doct_gives_no_warning():
    doc = DeprecatedDoct("stuff", EVENT)
    assert doc["data"] == {"det": 1.0}
    assert list(doc) == list(doc.keys()) == list(EVENT)
    assert list(doc.values()) == list(EVENT.values())
    assert dict(doc.items()) == dict(doc) == EVENT
    assert doc.get("no_such_key", 5) == 5
    assert "uid" in doc
    assert len(doc) == len(EVENT)
    assert "det" in doc._repr_html_()
    assert "det" in repr(doc)
    assert "det" in str(doc)
    with pytest.raises(AttributeError):
        doc.nonexistent  # noqa: B018
    with pytest.raises(KeyError):
        doc["nonexistent"]


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: doc.__setitem__("uid", 1),
        lambda doc: doc.__setitem__("new", 1),
        lambda doc: doc.__delitem__("uid"),
        lambda doc: doc.update({"uid": 1}),
        lambda doc: doc.update(uid=1),
        lambda doc: doc.pop("uid"),
        lambda doc: setattr(doc, "uid", 1),
        lambda doc: setattr(doc, "new", 1),
        lambda doc: delattr(doc, "uid"),
    ],
    ids=["set", "add", "delete", "update", "update by keyword", "pop", "setattr", "addattr", "delattr"],
)
@pytest.mark.parametrize("wrap", [wrap_in_deprecated_doct, wrap_in_doct])
def test_wrapped_documents_are_read_only(wrap, change):
    doc = wrap("event", EVENT)
    with pytest.raises(doct.DocumentIsReadOnly):
        change(doc)
    assert dict(doc) == EVENT


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("start", "Run Start"),
        ("stop", "Run Stop"),
        ("descriptor", "Event Descriptor"),
        ("event", "Event"),
        ("resource", "Resource"),
        ("datum", "Datum"),
    ],
)
def test_wrapped_documents_have_a_name(db, name, title):
    insert(db, with_images(1))
    doc = next(doc for found, doc in db[-1].documents() if found == name)
    with pytest.warns(UserWarning, match="_name"):
        assert doc._name == title
    assert wrap_in_doct(name, EVENT)._name == title


# -- runs in progress


def test_run_that_only_began(plain):
    begun = factories.start(scan_id=9)
    plain.insert("start", begun)
    for header in (plain[-1], plain[9], plain[begun["uid"]], next(iter(plain()))):
        assert header.start == begun
        assert header.stop == {}
        assert header.descriptors == header.stream_names == []
        assert list(header.documents()) == [("start", begun)]
        assert list(header.events()) == []
        assert header.table().shape == (0, 0)
        assert "table" in header._repr_html_()


def test_stop_of_a_run_in_progress_is_wrapped(db):
    db.insert("start", factories.start())
    stop = db[-1].stop
    assert isinstance(stop, DeprecatedDoct)
    assert dict(stop) == {}


def test_header_fetched_before_the_stop_sees_what_came_later(plain):
    documents = factories.run(rows=2)
    plain.insert(*documents[0])
    header = plain[-1]
    assert header.stop == {}
    for number, (name, doc) in enumerate(documents[1:], start=2):
        plain.insert(name, doc)
        assert list(header.documents()) == documents[:number]
    assert header.stop == documents[-1][1]
    assert len(header.table()) == 2


def test_run_without_stop_gives_its_documents_without_stop(plain):
    documents = factories.run(rows=3)[:-1]
    header = insert(plain, documents)
    assert list(header.documents()) == documents
    assert header.table()["det"].tolist() == [0.5, 0.5, 0.5]
    assert next(header.events(fields=["det", "exit_status"]))["data"] == {"det": 0.5}


def test_run_in_progress_is_seen_by_another_reader(tmp_path):
    writer = Broker(tmp_path)
    documents = factories.run(rows=2)
    for name, doc in documents[:3]:
        writer.insert(name, doc)
    reader = Broker(tmp_path, read_only=True)
    header = reader[-1]
    assert dict(header.stop) == {}
    assert list(header.data("det")) == [0.5]
    writer.insert(*documents[3])
    assert list(header.data("det")) == [0.5, 0.5]
    writer.insert(*documents[4])
    assert header.stop["uid"] == documents[4][1]["uid"]
    writer.close()


def test_document_is_seen_as_soon_as_it_is_inserted(plain):
    documents = factories.run(rows=20)
    for number, (name, doc) in enumerate(documents, start=1):
        plain.insert(name, doc)
        assert len(list(plain[-1].documents())) == number
