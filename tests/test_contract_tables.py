"""What databroker v1 promises of tables.  The literals are what databroker 1.2.5 gives for the same documents.

They were recorded with Python 3.11, pandas 3.1.1 and numpy 2.4.6 by ``databroker.temp()``.
"""

import time

import numpy as np
import pandas as pd
import pytest
from bluesky import RunEngine, plans as bp
from ophyd import sim

import factories
from factories import T0
from filebroker import ALL, temp

NAN = float("nan")
STRING = pd.Series(["text"]).dtype  # str with pandas 3, object with pandas 2
#: What stands for a missing string: since pandas 3 it is NaN.
NO_STRING = None if pd.api.types.is_object_dtype(STRING) else NAN


@pytest.fixture
def db():
    broker = temp()
    yield broker
    broker.close()


@pytest.fixture
def insert(db):
    """Insert documents; give the header of their run."""

    def insert(documents):
        for name, doc in documents:
            db.insert(name, doc)
        return db[documents[0][1]["uid"]]

    return insert


def run_of(columns, times=None, dtypes=None, **keys):
    """A run of one stream with the given values, by columns."""
    begun = factories.start(**keys)
    described = factories.descriptor(begun, {key: (dtypes or {}).get(key, "number") for key in columns})
    rows = len(next(iter(columns.values())))
    events = []
    for row in range(rows):
        time = {} if times is None else {"time": times[row]}
        event = factories.event(described, row + 1, {key: column[row] for key, column in columns.items()}, **time)
        events.append(("event", event))
    return [("start", begun), ("descriptor", described), *events, ("stop", factories.stop(begun, {"primary": rows}))]


def assert_empty(table):
    assert isinstance(table, pd.DataFrame)
    assert table.shape == (0, 0)
    assert table.index.name == "seq_num"


# -- the form of a table


def test_one_row_an_event_with_seq_num_as_index(insert):
    table = insert(factories.run(rows=3)).table()
    assert isinstance(table, pd.DataFrame)
    assert table.index.name == "seq_num"
    assert table.index.tolist() == [1, 2, 3]
    assert table.index.dtype == np.int64


def test_columns_are_time_and_the_data_keys_in_the_order_of_the_descriptor(insert):
    names = ["zeta", "alpha", "Motor", "det", "b_2", "b_10"]
    begun = factories.start()
    described = factories.descriptor(begun, names)
    event = factories.event(described, 1, dict.fromkeys(sorted(names), 1.5))
    header = insert([("start", begun), ("descriptor", described), ("event", event), ("stop", factories.stop(begun))])
    assert header.table().columns.tolist() == ["time", *names]
    assert header.table(fields=["det", "alpha", "zeta"]).columns.tolist() == ["time", "zeta", "alpha", "det"]


def test_table_has_the_columns_and_values_of_the_events(insert):
    header = insert(run_of({"det": [1.5, 2.5], "state": ["open", "shut"], "count": [1, 2]}, dtypes={"state": "string"}))
    events = list(header.events())
    for name, column in header.table().items():
        if name != "time":
            assert column.tolist() == [event["data"][name] for event in events]


def test_get_table_is_header_table(db, insert):
    header = insert(factories.run(rows=3))
    pd.testing.assert_frame_equal(db.get_table(header), header.table())
    pd.testing.assert_frame_equal(db.get_table([header], "primary", ["det"]), header.table("primary", ["det"]))


def test_seq_nums_need_not_begin_with_one(insert):
    begun = factories.start()
    described = factories.descriptor(begun)
    events = [("event", factories.event(described, number)) for number in (5, 7, 12)]
    header = insert([("start", begun), ("descriptor", described), *events, ("stop", factories.stop(begun))])
    assert header.table().index.tolist() == [5, 7, 12]


def test_table_of_a_page_is_as_of_events(insert):
    begun = factories.start()
    described = factories.descriptor(begun, {"det": "number", "n": "integer", "s": "string", "a": "array"})
    page = factories.event_page(
        described, [1, 2], {"det": [0.5, 1.5], "n": [1, 2], "s": ["a", "b"], "a": [[1, 2], [3, 4]]}
    )
    header = insert(
        [("start", begun), ("descriptor", described), ("event_page", page), ("stop", factories.stop(begun))]
    )
    table = header.table()
    assert table.index.tolist() == [1, 2]
    assert table.columns.tolist() == ["time", "det", "n", "s", "a"]
    assert table.dtypes.tolist()[1:] == [np.float64, np.int64, STRING, object]
    assert [list(value) for value in table["a"]] == [[1, 2], [3, 4]]
    assert table["time"].dtype == "datetime64[ns]"


def test_table_of_a_stream(insert):
    begun = factories.start()
    primary = factories.descriptor(begun, ["det"])
    baseline = factories.descriptor(begun, ["motor"], name="baseline")
    header = insert(
        [
            *[("start", begun), ("descriptor", primary), ("descriptor", baseline)],
            *[("event", factories.event(primary, 1)), ("event", factories.event(baseline, 1))],
            *[("event", factories.event(baseline, 2)), ("stop", factories.stop(begun))],
        ]
    )
    assert header.table().columns.tolist() == header.table(stream_name="primary").columns.tolist() == ["time", "det"]
    assert header.table("baseline").columns.tolist() == ["time", "motor"]
    assert (len(header.table()), len(header.table("baseline"))) == (1, 2)


def test_recorded_table_has_no_missing_values(db):
    engine = RunEngine({})
    engine.subscribe(db.insert)
    engine(bp.count([sim.hw().det], 7), bc=1)
    header = db[-1]
    assert header.table().notna().all().all()
    assert len(header.table(fields=["det"])) == len(header.table(fields=["det", "bc"])) == 7
    assert header.table(fields=["det", "bc"])["bc"].tolist() == [1] * 7


def test_table_can_be_changed_without_changing_the_next(insert):
    header = insert(factories.run(rows=3, data_keys={"det": "number", "s": "string", "a": "array"}))
    table = header.table()
    table.loc[1, "det"] = 99.0
    table.loc[1, "s"] = "changed"
    table["new"] = 1
    again = header.table()
    assert again.columns.tolist() == ["time", "det", "s", "a"]
    assert again.loc[1, "det"] == 0.5
    assert again.loc[1, "s"] == "open"


# -- empty tables


def test_unknown_stream_is_an_empty_table(insert):
    assert_empty(insert(factories.run()).table("no_such_stream"))


@pytest.mark.parametrize("name", [ALL, "ALL"], ids=["ALL", "'ALL'"])
def test_all_is_no_stream_of_a_table(insert, name):
    assert_empty(insert(factories.run()).table(name))


@pytest.mark.parametrize("fields", [["no_such_field"], ["de"], ["et"]])
def test_no_field_left_is_an_empty_table(insert, fields):
    assert_empty(insert(factories.run()).table(fields=fields))


def test_no_descriptors_is_an_empty_table(db, insert):
    begun = factories.start()
    header = insert([("start", begun), ("stop", factories.stop(begun))])
    assert_empty(header.table())
    assert_empty(db.get_table(header))
    assert_empty(db.get_table([header, header]))


def test_no_events_is_an_empty_table(db, insert):
    begun = factories.start()
    header = insert([("start", begun), ("descriptor", factories.descriptor(begun)), ("stop", factories.stop(begun))])
    assert len(header.table()) == 0
    assert_empty(header.table())
    assert_empty(db.get_table(header))


def test_events_without_content_are_an_empty_table(insert):
    begun = factories.start()
    described = factories.descriptor(begun, {})
    event = factories.event(described, 1, {})
    assert_empty(
        insert([("start", begun), ("descriptor", described), ("event", event), ("stop", factories.stop(begun))]).table()
    )


def test_empty_tables_do_not_disturb_others(db, insert):
    begun = factories.start()
    empty = insert([("start", begun), ("stop", factories.stop(begun))])
    full = insert(factories.run(rows=2))
    table = db.get_table([empty, full, empty])
    assert table.index.tolist() == [1, 2]
    assert table["time"].dtype == "datetime64[ns]"
    assert table["det"].dtype == np.float64


# -- times

FRACTIONS = [1763809926.123456789, 1763809926.1, 1763809927.999999]
NANOSECONDS = [1763809926123456717, 1763809926099999905, 1763809927999999046]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"convert_times": False},
        {"localize_times": False},
        {"timezone": "America/New_York"},
        {"timezone": "UTC"},
        {"timezone": "no such zone"},
    ],
    ids=str,
)
def test_times_are_naive_dates_in_utc(insert, arguments):
    column = insert(run_of({"x": [1, 2, 3]}, FRACTIONS)).table(**arguments)["time"]
    assert column.dtype == "datetime64[ns]"
    assert [stamp.value for stamp in pd.DatetimeIndex(column)] == NANOSECONDS
    assert column.dt.tz is None
    assert column.iloc[1] == pd.Timestamp("2025-11-22 11:12:06.099999905")


def test_times_are_floats_if_both_conversions_are_declined(insert):
    header = insert(run_of({"x": [1, 2, 3]}, FRACTIONS))
    column = header.table(convert_times=False, localize_times=False)["time"]
    assert column.dtype == np.float64
    assert column.tolist() == FRACTIONS


@pytest.fixture
def far_away(monkeypatch):
    """A local time zone that is not UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_away")
def test_local_time_zone_does_not_matter(insert):
    header = insert(run_of({"x": [1]}, [T0 + 1]))
    assert header.table()["time"].tolist() == [pd.Timestamp("2025-11-22 11:12:06.250")]
    assert header.table(timezone="Asia/Kolkata")["time"].tolist() == [pd.Timestamp("2025-11-22 11:12:06.250")]


@pytest.mark.skipif(int(pd.__version__.split(".")[0]) < 3, reason="pandas 2 has nanoseconds alone")
@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([1763809926.0, 1763809927.0], "us"),
        ([1763809926, 1763809927], "us"),
        ([1763809926.0, 1763809927.5], "ns"),
        ([1763809926.25, 1763809927.25], "ns"),
    ],
)
def test_unit_of_times_is_the_choice_of_pandas(insert, times, unit):
    column = insert(run_of({"x": [1, 2]}, times)).table()["time"]
    assert column.dtype == f"datetime64[{unit}]"
    assert column.tolist() == [pd.Timestamp(value, unit="s") for value in times]


# -- dtypes

TYPES = [
    ("floats", [0.5, 1.5, 2.5], np.float64, [0.5, 1.5, 2.5]),
    ("integers", [1, 2, 3], np.int64, [1, 2, 3]),
    ("big integers", [2**60, 1, 2], np.int64, [2**60, 1, 2]),
    ("unsigned integers", [2**63 + 1, 1, 2], np.uint64, [2**63 + 1, 1, 2]),
    ("booleans", [True, False, True], np.bool_, [True, False, True]),
    ("strings", ["a", "", "c"], STRING, ["a", "", "c"]),
    ("integers and floats", [1, 2.5, 3], np.float64, [1.0, 2.5, 3.0]),
    ("infinities", [float("inf"), -float("inf"), 0.0], np.float64, [float("inf"), -float("inf"), 0.0]),
    ("not a number", [NAN, 1.0, 2.0], np.float64, [NAN, 1.0, 2.0]),
    ("none among floats", [1.5, None, 2.5], np.float64, [1.5, NAN, 2.5]),
    ("none among integers", [1, None, 3], np.float64, [1.0, NAN, 3.0]),
    ("none among strings", ["x", None, "z"], STRING, ["x", NO_STRING, "z"]),
    ("none among booleans", [True, None, False], object, [True, None, False]),
    ("none alone", [None, None, None], object, [None, None, None]),
    ("booleans and integers", [True, 1, 2], object, [True, 1, 2]),
    ("strings and numbers", ["a", 1, 2.5], object, ["a", 1, 2.5]),
    ("lists", [[1, 2], [3, 4], [5, 6]], object, [[1, 2], [3, 4], [5, 6]]),
    ("lists of several lengths", [[1], [1, 2], []], object, [[1], [1, 2], []]),
    ("lists of lists", [[[1, 2], [3, 4]]] * 3, object, [[[1, 2], [3, 4]]] * 3),
    ("lists of strings", [["a", "b"]] * 3, object, [["a", "b"]] * 3),
    ("empty lists", [[], [], []], object, [[], [], []]),
]


def dtype_of(values):
    """Give the dtype that a descriptor says of such values."""
    kinds = {str: "string", bool: "boolean", int: "integer", list: "array"}
    found = {kinds.get(type(value), "number") for value in values}
    return found.pop() if len(found) == 1 else "number"


@pytest.mark.parametrize(("values", "dtype", "expected"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_dtypes_are_those_that_pandas_infers(insert, values, dtype, expected):
    column = insert(run_of({"x": values}, dtypes={"x": dtype_of(values)})).table()["x"]
    assert column.dtype == dtype
    found = column.tolist()
    assert repr(found) == repr(expected)
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_numpy_arrays_are_objects_of_a_cell(insert):
    arrays = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    column = insert(run_of({"x": arrays}, dtypes={"x": "array"})).table()["x"]
    assert column.dtype == object
    assert [np.asarray(value).tolist() for value in column] == [[1.0, 2.0], [3.0, 4.0]]


def test_numpy_numbers_are_numbers(insert):
    header = insert(
        run_of(
            {
                **{"f": [np.float64(0.5)] * 2, "i": [np.int64(3), np.int32(4)], "b": [np.bool_(True)] * 2},
                "s": [np.str_("a"), np.str_("b")],
            }
        )
    )
    assert header.table().dtypes.tolist()[1:] == [np.float64, np.int64, np.bool_, STRING]


def test_table_of_one_event(insert):
    table = insert(run_of({"x": [1], "s": ["a"], "l": [[1, 2]]})).table()
    assert table.index.tolist() == [1]
    assert table.dtypes.tolist()[1:] == [np.int64, STRING, object]


def test_unfilled_external_cells_are_datum_ids(insert):
    begun = factories.start()
    described = factories.descriptor(
        begun, {"det": "number", "img": factories.data_key("array", external="FILESTORE:", shape=[5, 5])}
    )
    held = factories.resource(begun)
    events = [("event", factories.event(described, n, {"det": 0.5, "img": f"{held['uid']}/{n}"})) for n in (1, 2)]
    datums = [("datum", factories.datum(held, n)) for n in (1, 2)]
    header = insert(
        [
            *[("start", begun), ("descriptor", described), ("resource", held)],
            *[*datums, *events, ("stop", factories.stop(begun))],
        ]
    )
    for table in (header.table(), header.table(fields=["img"])):
        assert table["img"].dtype == STRING
        assert table["img"].tolist() == [f"{held['uid']}/1", f"{held['uid']}/2"]


# -- several descriptors and runs


def reconfigured(first, second, values=(0.5, 1.5, 2.5)):
    """A run whose stream got a second descriptor after its first event."""
    begun = factories.start()
    one = factories.descriptor(begun, first, time=T0 + 0.1)
    other = factories.descriptor(begun, second, time=T0 + 0.2)
    events = [
        ("event", factories.event(doc, number, dict.fromkeys(doc["data_keys"], value), time=T0 + number))
        for number, (doc, value) in enumerate(zip((one, other, other), values, strict=True), start=1)
    ]
    return [
        *[("start", begun), ("descriptor", one), events[0], ("descriptor", other)],
        *[*events[1:], ("stop", factories.stop(begun, {"primary": 3}))],
    ]


def test_several_descriptors_are_one_table(insert):
    table = insert(reconfigured(["a", "b"], ["b", "a"])).table()
    assert sorted(table.index) == [1, 2, 3]  # databroker: 2, 3, 1
    assert table.index.name == "seq_num"
    assert table.columns[0] == "time"
    assert set(table.columns) == {"time", "a", "b"}
    table = table.sort_index()
    assert table["a"].tolist() == table["b"].tolist() == [0.5, 1.5, 2.5]
    assert table["time"].tolist() == [pd.Timestamp(T0 + number, unit="s") for number in (1, 2, 3)]


def test_several_descriptors_of_several_fields_leave_cells_empty(insert):
    table = insert(reconfigured(["a"], ["a", "b"])).table().sort_index()
    assert table["a"].tolist() == [0.5, 1.5, 2.5]
    assert table["b"].isna().tolist() == [True, False, False]
    assert table["b"].dtype == np.float64


def test_several_descriptors_of_several_types(insert):
    table = insert(reconfigured(["a"], ["a"], (1, 2.5, 3))).table().sort_index()
    assert table["a"].dtype == np.float64
    assert table["a"].tolist() == [1.0, 2.5, 3.0]


def test_runs_are_concatenated_in_the_order_given(db, insert):
    one, other = insert(run_of({"x": [1.5, 2.5]})), insert(run_of({"x": [3.5]}))
    assert db.get_table([one, other])["x"].tolist() == [1.5, 2.5, 3.5]
    assert db.get_table([other, one])["x"].tolist() == [3.5, 1.5, 2.5]
    assert db.get_table([other, one]).index.tolist() == [1, 1, 2]


def test_runs_with_other_fields_leave_cells_empty(db, insert):
    table = db.get_table([insert(run_of({"x": [1.5]})), insert(run_of({"y": [2.5]}))])
    assert table.columns.tolist() == ["time", "x", "y"]
    assert table["x"].isna().tolist() == [False, True]
    assert table["y"].isna().tolist() == [True, False]


# -- fields


@pytest.fixture
def header(insert):
    """A run with values in its configuration, its start and its stop."""
    begun = factories.start(operator="Ana", temperature=290, ratio=0.5)
    configuration = {
        "motor": {"data": {"motor_velocity": 2.5}, "timestamps": {"motor_velocity": T0 - 7}, "data_keys": {}}
    }
    described = factories.descriptor(begun, ["det", "motor"], configuration=configuration)
    events = [("event", factories.event(described, number)) for number in (1, 2)]
    return insert(
        [("start", begun), ("descriptor", described), *events, ("stop", factories.stop(begun, verdict="good"))]
    )


@pytest.mark.parametrize(
    ("fields", "added", "dtype", "value"),
    [
        (["motor_velocity"], "motor_velocity", np.float64, 2.5),
        (["motor_vel.*"], "motor_velocity", np.float64, 2.5),
        (["operator"], "operator", STRING, "Ana"),
        (["temperature"], "temperature", np.int64, 290),
        (["ratio"], "ratio", np.float64, 0.5),
        (["verdict"], "verdict", STRING, "good"),
        (["exit_status"], "exit_status", STRING, "success"),
    ],
)
def test_added_values_repeat_down_the_table(header, fields, added, dtype, value):
    table = header.table(fields=["det", *fields])
    assert table.columns.tolist() == ["time", "det", added]
    assert table[added].dtype == dtype
    assert table[added].tolist() == [value, value]


def test_fields_are_patterns_of_whole_names(header):
    assert header.table(fields=["motor"]).columns.tolist() == ["time", "motor"]
    assert header.table(fields=["det", "motor"]).columns.tolist() == ["time", "det", "motor"]
    assert header.table(fields={"d..", "no_such_field"}).columns.tolist() == ["time", "det"]
    assert header.table(fields=("det|motor",)).columns.tolist() == ["time", "det", "motor"]
    assert header.table(fields=["motor", "motor_.*"]).columns.tolist() == ["time", "motor", "motor_velocity"]


def test_without_fields_nothing_is_added(header):
    assert header.table().columns.tolist() == ["time", "det", "motor"]


def test_times_stay_with_some_fields(header):
    expected = header.table()["time"].tolist()
    assert header.table(fields=["det"])["time"].tolist() == expected
    assert header.table(fields=["det", "operator"])["time"].tolist() == expected


def test_added_values_of_several_runs(db, insert):
    headers = [insert(run_of({"det": [0.5]}, sample=sample)) for sample in ("LaB6", "Si")]
    table = db.get_table(headers, fields=["det", "sample"])
    assert table["sample"].tolist() == ["LaB6", "Si"]


def test_configuration_of_each_descriptor_goes_with_its_events(insert):
    begun = factories.start()
    descriptors = [
        factories.descriptor(
            begun,
            time=T0 + gain,
            configuration={"det": {"data": {"gain": gain}, "timestamps": {"gain": T0}, "data_keys": {}}},
        )
        for gain in (1, 2)
    ]
    documents = [("start", begun)]
    for number, described in enumerate(descriptors, start=1):
        documents += [("descriptor", described), ("event", factories.event(described, number))]
    header = insert([*documents, ("stop", factories.stop(begun))])
    assert [event["data"] for event in header.events(fields=["det", "gain"])] == [
        {"det": 0.5, "gain": 1},
        {"det": 0.5, "gain": 2},
    ]
    assert header.table(fields=["det", "gain"]).sort_index()["gain"].tolist() == [1, 2]
