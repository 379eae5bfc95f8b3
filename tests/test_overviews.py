"""Overviews of many runs: what a table of them holds, and which keys and values they are said to have."""

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, strategies as st

import factories as make
from filebroker.cataloging import overviews
from filebroker.finding.entries import Documents, Entry
from filebroker.finding.parsing import parse
from filebroker.finding.query import Subject
from filebroker.ground import codec
from filebroker.ground.errors import InvalidQuery
from filebroker.ground.texts import encodable

NOT_A_NUMBER = math.nan
OWN = ["time", "stop_time", "exit_status"]
Document = dict[str, Any]


def documents(*starts: Document, stop: Document | None = None) -> list[Documents]:
    """Give runs of these start documents, as the manifest has them."""
    raw_stop = b"" if stop is None else codec.dumps(stop)
    rows = enumerate(starts)
    return [Documents(Entry(row, "", 0, "live", "", None), codec.dumps(one), raw_stop) for row, one in rows]


def runs(*keys: Document, stop: Document | None = None) -> list[Documents]:
    """Give runs that have these keys besides those of every run."""
    return documents(*(make.start(**some) for some in keys), stop=stop)


def column(name: str, *keys: Document) -> list[Any]:
    """Give what a table has for one key of some runs."""
    return overviews.table_of(runs(*keys), [name])[name].tolist()


def seen(key: str, *values: Any) -> Document:
    """Give what is said of a key that has these values, one a run."""
    return dict(overviews.keys_seen(documents(*({key: value} for value in values))).loc[key])


# -- columns of a table


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["scan_id", "sample.name"], ["scan_id", "sample.name"]),
        (["sample.name", "scan_id", "sample.name"], ["sample.name", "scan_id"]),
        (("nothing", "not.there"), ["nothing", "not.there"]),
        ("scan_id", ["scan_id"]),
        ("sample.name", ["sample.name"]),
        (["exit_status", "scan_id", "time", "stop_time"], ["scan_id"]),
        (["uid", "scan_id"], ["scan_id"]),
        ([], []),
        ({"scan_id": "a mapping of names"}, ["scan_id"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_columns_asked_for_are_there_in_that_order_whatever_is_found(
    columns: Any, expected: list[str], count: int
) -> None:
    table = overviews.table_of(runs(*({"sample": {"name": "Si"}},) * count), columns)
    assert table.columns.tolist() == [*OWN, *expected]
    assert len(table) == count
    assert len(table.reset_index().columns) == 4 + len(expected)


@pytest.mark.parametrize("columns", [[1], ["scan_id", None], [["scan_id"]]], ids=str)
def test_a_column_that_is_no_string_is_refused_before_anything_is_read(columns: Any) -> None:
    with pytest.raises(InvalidQuery, match=r"asked for the column .* give keys of the start document"):
        overviews.table_of(iter([]), columns)


def test_without_columns_every_key_becomes_one_in_the_order_in_which_they_come() -> None:
    table = overviews.table_of(runs({"b": 1, "sample": {"name": "Si"}}, {"a": 2}))
    assert table.columns.tolist() == [*OWN, "scan_id", "plan_name", "b", "sample", "a"]
    assert table["sample"].tolist()[0] == {"name": "Si"}
    assert overviews.table_of([]).columns.tolist() == OWN


@pytest.mark.parametrize("columns", [None, [], ["exit_status", "stop_time", "time"]], ids=str)
@pytest.mark.parametrize("stop", [{"time": make.T0 + 5, "exit_status": "abort"}, None], ids=str)
def test_what_every_table_has_is_never_taken_from_a_key_of_that_name(columns: Any, stop: Document | None) -> None:
    table = overviews.table_of(runs({"stop_time": 7.0, "exit_status": "mine"}, stop=stop), columns)
    assert table["time"].tolist() == [pd.Timestamp(make.T0, unit="s")]
    if stop is None:
        assert table[["stop_time", "exit_status"]].isna().all(axis=None)
    else:
        assert table["stop_time"].tolist() == [pd.Timestamp(make.T0 + 5, unit="s")]
        assert table["exit_status"].tolist() == ["abort"]


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("motors", {"motors": ["x", "y"]}, ["x", "y"]),
        ("motors.0", {"motors": ["x", "y"]}, "x"),
        ("motors.1", {"motors": ["x", "y"]}, "y"),
        ("motors.2", {"motors": ["x", "y"]}, None),
        ("history.by", {"history": [{"by": "Ana"}, {"by": "Bert"}]}, ["Ana", "Bert"]),
        ("history.by", {"history": [{"by": "Ana"}, {"n": 2}]}, "Ana"),
        ("history.by", {"history": [{"n": 2}, "text"]}, None),
        ("history.by", {"history": []}, None),
        ("history.0.by", {"history": [{"by": "Ana"}, {"by": "Bert"}]}, "Ana"),
        ("history.tags", {"history": [{"tags": ["a", "b"]}]}, ["a", "b"]),
        ("grid.0", {"grid": [[1, 2], [3]]}, [1, 2]),
        ("grid.0.1", {"grid": [[1, 2], [3]]}, 2),
        ("sample.layers.n", {"sample": {"layers": [{"n": 1}, {"n": 2}]}}, [1, 2]),
        ("sample.name", {"sample.name": "dotted"}, "dotted"),
        ("sample.name", {"sample.name": "dotted", "sample": {"name": "nested"}}, "dotted"),
        ("sample.name.full", {"sample": {"name.full": "half dotted"}}, "half dotted"),
        ("sample.name", {"sample": "text"}, None),
        ("sample.name", {"sample": {"name": None}}, None),
        ("sample.name", {}, None),
    ],
    ids=str,
)
def test_a_dotted_column_goes_where_a_query_goes(name: str, keys: Document, expected: Any) -> None:
    assert column(name, keys) == [expected]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([3, None, 5], "Int64", [3, pd.NA, 5]),
        ([2**63 - 1, None], "Int64", [2**63 - 1, pd.NA]),
        ([3, 5], "int64", [3, 5]),
        ([2**63, None], "object", [2**63, None]),
        ([2**70, None, 1], "object", [2**70, None, 1]),
        ([1.5, None, 2], "float64", [1.5, NOT_A_NUMBER, 2.0]),
        ([True, None], "object", [True, None]),
        ([True, 1, None], "object", [True, 1, None]),
        ([None, None], "object", [None, None]),
    ],
    ids=str,
)
def test_integers_stay_integers_where_some_runs_have_none(values: list[Any], dtype: str, expected: list[Any]) -> None:
    for keys in ([{"n": value} for value in values], [{} if value is None else {"n": value} for value in values]):
        for columns in (["n"], None) if any(keys) else (["n"],):
            found = overviews.table_of(runs(*keys), columns)["n"].reset_index(drop=True)
            pd.testing.assert_series_equal(found, pd.Series(expected, dtype=dtype, name="n"))


# -- times of a table


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (make.T0, pd.Timestamp("2025-11-22 11:12:05.25")),
        (1121519693.380885, pd.Timestamp("2005-07-16 13:14:53.380885")),
        (0, pd.Timestamp("1970-01-01")),
        (-1.5, pd.Timestamp("1969-12-31 23:59:58.5")),
        (253402300799, pd.Timestamp("9999-12-31 23:59:59")),
        (253402300800, pd.NaT),
        (-62135596800, pd.Timestamp("0001-01-01")),
        (-62135596801, pd.NaT),
        (NOT_A_NUMBER, pd.NaT),
        (math.inf, pd.NaT),
        (1e15, pd.NaT),
        (-1e300, pd.NaT),
        (2**70, pd.NaT),
        ("yesterday", pd.NaT),
    ],
    ids=str,
)
def test_times_are_datetimes_in_microseconds_whatever_the_others_are(seconds: Any, expected: Any) -> None:
    for stop in (None, {"time": seconds}):
        table = overviews.table_of(runs({"time": seconds}, {}, stop=stop))
        assert [str(table[name].dtype) for name in OWN[:2]] == ["datetime64[us]"] * 2
        pd.testing.assert_series_equal(
            table["time"].reset_index(drop=True),
            pd.Series([expected, pd.Timestamp(make.T0, unit="s")], name="time", dtype="datetime64[us]"),
        )
        stopped = pd.NaT if stop is None else expected
        assert table["stop_time"].tolist()[0] is stopped or table["stop_time"].tolist()[0] == stopped


@pytest.mark.parametrize("columns", [None, ["comment"]], ids=str)
def test_a_table_of_no_runs_has_datetimes_too(columns: Any) -> None:
    table = overviews.table_of([], columns)
    assert [str(table[name].dtype) for name in OWN[:2]] == ["datetime64[us]"] * 2
    assert table.index.name == "uid"


def test_half_characters_do_not_keep_a_table_from_being_made() -> None:
    starts = runs({"uid": "half \ud800", "comment": "half \udc00"}, {"uid": "whole", "half \ud8ff": ["\ud800"]})
    table = overviews.table_of(starts, ["comment", "half \ud8ff", "scan_id"])
    # Pandas before 3 keeps them as they are.
    assert encodable(table.index.tolist()) == ["half \\ud800", "whole"]
    assert encodable(table.columns.tolist()) == [*OWN, "comment", "half \\ud8ff", "scan_id"]
    assert encodable(table["comment"].tolist()[0]) == "half \\udc00"
    assert encodable(table.iloc[1, 4]) == ["\\ud800"]
    assert table["scan_id"].tolist() == [1, 1]


# -- the types of keys


@pytest.mark.parametrize(
    ("values", "types"),
    [
        (["a"], "string"),
        ([1, 2.5, NOT_A_NUMBER], "number"),
        ([True], "boolean"),
        ([None], "null"),
        ([{}], "object"),
        ([{"b": 1}], "object"),
        ([[]], "array"),
        ([["a", "b"]], "array of string"),
        ([["a"], []], "array of string"),
        ([["a"], [1]], "array of number, string"),
        ([["a", None, True, {}, [1]]], "array of array, boolean, null, object, string"),
        ([[[1, 2], [3]]], "array of array"),
        ([[{"b": 1}]], "array of object"),
        (["a", 1, None], "null, number, string"),
        (["a", ["b"]], "string, array of string"),
        ([["b", 1], "a", {}], "object, string, array of number, string"),
    ],
    ids=str,
)
def test_the_types_of_a_key_tell_lists_from_single_values(values: list[Any], types: str) -> None:
    assert seen("key", *values)["types"] == types


# -- the values of keys


@pytest.mark.parametrize(
    ("values", "count", "commonest"),
    [
        (["a", "b", "a"], 2, ["a", "b"]),
        ([1, 1.0, 1], 1, [1]),
        ([1, True, 1.0, True, True], 2, [True, 1]),
        ([0, False, "0", -0.0], 3, [0, False, "0"]),
        ([math.inf, math.inf, 2**70], 2, [math.inf, 2**70]),
        ([None, {}, [], {"b": 1}, [None], [[1]]], 0, []),
        ([["a", "a", "a"], "b", ["b"]], 2, ["b", "a"]),
        ([["a", "b"], ["b", "c"]], 3, ["b", "a", "c"]),
        ([[1, 1.0], [1], [True]], 2, [1, True]),
        (list("abcdefgg"), 7, ["g", "a", "b", "c", "d"]),
    ],
    ids=str,
)
def test_values_count_once_a_run_and_are_the_same_when_a_query_says_so(
    values: list[Any], count: int, commonest: list[Any]
) -> None:
    found = seen("key", *values)
    assert found["runs"] == len(values)
    assert found["values"] == count
    assert [(type(value), value) for value in found["commonest"]] == [(type(value), value) for value in commonest]


def test_every_nan_is_the_same_value() -> None:
    assert seen("key", NOT_A_NUMBER, float("nan"), [NOT_A_NUMBER])["values"] == 1


@pytest.mark.parametrize(
    "twice",
    [{"a": [{"b": 5}, {"b": 5.0}]}, {"a": {"b": 5}, "a.b": 5}, {"a": [{"b": [5, 5]}], "a.b": [5]}],
    ids=str,
)
def test_a_run_that_has_a_key_in_several_places_counts_once(twice: Document) -> None:
    table = overviews.keys_seen(documents(twice, {"a.b": 6}, {"a": {"b": 6}}))
    assert table.loc["a.b", ["runs", "values"]].tolist() == [3, 2]
    assert table.loc["a.b", "commonest"] == [6, 5]
    assert table.loc["a", "runs"] == 2


def test_of_more_than_10_000_values_the_first_are_counted() -> None:
    found = seen("key", *range(10_000), *range(10_000, 10_010), 10_001, 10_001, 42)
    assert found["runs"] == 10_013
    assert found["values"] == 10_000
    assert found["commonest"] == [42, 0, 1, 2, 3]
    assert seen("key", *range(9_999))["values"] == 9_999


# -- the keys


def test_keys_that_hold_a_mapping_are_listed_besides_those_in_it() -> None:
    table = overviews.keys_seen(documents({"sample": {"holder": {"slot": 1}, "empty": {}}}))
    assert table.index.tolist() == ["sample", "sample.empty", "sample.holder", "sample.holder.slot"]
    assert table["types"].tolist() == ["object", "object", "object", "number"]
    assert table.loc["sample"].tolist() == [1, "object", 0, []]


def test_keys_come_by_the_number_of_their_runs_and_then_by_name() -> None:
    table = overviews.keys_seen(documents({"b": 1, "a": 1}, {"b": 1, "": {"": 2}}, {"c": 1}))
    assert list(table["runs"].items()) == [("b", 2), ("", 1), (".", 1), ("a", 1), ("c", 1)]
    assert len(overviews.keys_seen([])) == 0


def test_half_characters_do_not_keep_keys_from_being_listed() -> None:
    assert overviews.keys_seen(documents({"half \ud800": "half \udc00"})).index.tolist() == ["half \ud800"]


def test_a_document_as_deep_as_can_be_recorded_has_a_row_for_each_level() -> None:
    nested: Any = 1
    for _ in range(250):
        nested = {"a": nested}
    assert len(overviews.keys_seen(documents(nested))) == 250


names = st.sampled_from(["a", "b", "a.b", ""])
scalars = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, "", "1", "text"])
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@given(st.lists(st.dictionaries(names, trees, max_size=3), min_size=1, max_size=4))
def test_what_is_said_of_a_key_is_what_a_query_finds(starts: list[Document]) -> None:
    def found(query: Document) -> int:
        return sum(parse(query).holds(Subject(start)) for start in starts)

    table = overviews.keys_seen(documents(*starts))
    for key, row in table.iterrows():
        assert row["runs"] == found({key: {"$exists": True}})
        counts = [found({key: value}) for value in row["commonest"]]
        assert counts == sorted(counts, reverse=True)
        assert all(counts)
        assert row["values"] == len(row["commonest"]) or row["values"] > 5
    for key in ("a", "b", "a.b", "b.a", "", "."):
        assert key in table.index or found({key: {"$exists": True}}) == 0
