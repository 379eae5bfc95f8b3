"""The events of one stream as a table in parts: what its columns are of, what is in it, and who can read it."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest

import factories as make
from filebroker import Catalog, DamagedRun, DamagedRunWarning, InvalidQuery, MissingPackage, StorageError, UnknownField
from filebroker.cataloging import partitions
from filebroker.cataloging.column_kinds import Kind, merged_dtype
from filebroker.cataloging.outbox import Outbox
from filebroker.cataloging.run import Stream
from filebroker.cataloging.stream_tables import StreamTable
from filebroker.ground.filesystem import Folder
from filebroker.storing import run_files, sealing
from filebroker.storing.parquet import PageFile
from filebroker.storing.recorder import Recorder
from servers import Proxy

BIG = 2**53 + 1
Blocks = list[tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs of more than ten documents make several pages."""
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)


@pytest.fixture
def uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pages of a stream as they are where their columns differ, as those of very long runs are."""
    monkeypatch.setattr(sealing, "_MAX_MERGED_BYTES", 0)


def record(root: Any, blocks: Blocks, *, stop: bool = True, **keys: Any) -> Catalog:
    """Record a run with one stream: for each block a descriptor with its data keys, and its events."""
    catalog = root if isinstance(root, Catalog) else Catalog(root)
    begun, number = make.start(**keys), 0
    catalog.insert("start", begun)
    for data_keys, rows in blocks:
        described = make.descriptor(begun, data_keys)
        catalog.insert("descriptor", described)
        for data in rows:
            number += 1
            catalog.insert("event", make.event(described, number, data))
    if stop:
        catalog.insert("stop", make.stop(begun))
    return catalog


def one_key(values: list[Any], dtype: str = "number") -> Blocks:
    return [({"det": dtype}, [{"det": value} for value in values])]


def newest(catalog: Catalog) -> Stream:
    return catalog.newest(1)["primary"]


def computed(table: StreamTable) -> pd.DataFrame:
    result: pd.DataFrame = table.to_dask().compute(scheduler="synchronous")
    return result


def is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float | np.floating) and value != value)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, of numpy or not; None, NaN and NA are."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    if is_missing(one) or is_missing(other):
        return is_missing(one) and is_missing(other)
    kinds = [bool, str, list, dict]
    return [isinstance(one, kind) for kind in kinds] == [isinstance(other, kind) for kind in kinds] and one == other


def plain(values: Any) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def assert_values(found: Any, expected: Any) -> None:
    found, expected = plain(found), plain(expected)
    assert len(found) == len(expected)
    assert not [pair for pair in zip(found, expected, strict=True) if not same(*pair)][:3]


def assert_alike(table: StreamTable) -> None:
    """Assert that all ways to the table give the same columns, dtypes and values."""
    parts = [table.part(number) for number in range(table.npartitions)]
    lazy = table.to_dask()
    assert lazy.npartitions == table.npartitions
    whole, result = table.read(), computed(table)
    for frame in (*parts, table.empty(), lazy, whole, result):
        assert {str(name): str(dtype) for name, dtype in frame.dtypes.items()} == table.dtypes
        assert list(frame.columns) == [column.name for column in table.columns]
    assert table.rows == len(whole) == len(result) == sum(map(len, parts))
    assert isinstance(whole.index, pd.RangeIndex)
    assert all(part.index.equals(pd.RangeIndex(len(part))) for part in parts)
    for name in table.dtypes:
        assert_values(result[name], whole[name])
        assert_values([value for part in parts for value in part[name]], whole[name])


def assert_as_to_pandas(table: StreamTable, expected: pd.DataFrame) -> None:
    """Assert that the table has what `Stream.to_pandas` gives, in the same order."""
    frame = table.read()
    assert frame.shape[1] == expected.shape[1] + 1
    assert_values(frame["seq_num"], expected.index)
    for number in range(expected.shape[1]):
        assert_values(frame.iloc[:, number + 1], expected.iloc[:, number])


# ------------------------------------------------------------------------------------------ dtypes

KINDS: dict[str, tuple[list[Any], str]] = {
    # Values, each for some events; the dtype, and what the descriptor declares if that is not a number.
    "integers": ([1, 2, -3], "int64"),
    "large integers": ([1, BIG, 2**63 - 1], "int64"),
    "integers and none": ([1, None, 3], "float64"),
    "none and integers": ([None, 1], "float64"),
    "the largest integers that are floats, and none": ([2**53, None, -(2**53)], "float64"),
    "a larger one, and none": ([1, None, BIG], "object"),
    "a smaller one, and none": ([-BIG, None, 1], "object"),
    "integers and floats": ([1, 0.5, 3], "float64"),
    "floats and large integers": ([0.5, BIG], "object"),
    "large integers and floats": ([BIG, 0.5], "object"),
    "unsigned integers": ([2**63 + 1, 2**63 + 2], "object"),
    "unsigned integers and others": ([1, 2**63 + 1], "object"),
    "integers of more than 64 bits": ([2**70, -(2**90)], "object"),
    "floats": ([0.5, 1e300, -0.0], "float64"),
    "floats that are no numbers": ([np.inf, -np.inf, np.nan, 0.5], "float64"),
    "floats and none": ([0.5, None], "float64"),
    "half as precise floats": ([np.float32(0.1), np.float32(2.5)], "float64"),
    "integers of numpy": ([np.int16(1), np.uint8(2)], "int64"),
    "truth": ([True, False], "boolean"),
    "truth and none": ([None, True], "boolean"),
    "truth and integers": ([True, 1], "object"),
    "floats and truth": ([0.5, False], "object"),
    "text": (["a", "", "an\n\0other"], "string"),
    "text and none": (["a", None], "string"),
    "long text": (["x" * 100_000, "y"], "string"),
    "text and numbers": (["a", 1, 0.5], "object"),
    "numbers and text": ([0.5, 1, "off"], "object"),
    "half a character": (["\ud800", "a"], "object"),
    "none": ([None, None], "float64"),
    "lists": ([[1, 2], [3]], "object"),
    "empty lists": ([[], []], "object"),
    "nested lists": ([[[1.5], []], [[2.5, 3.5]]], "object"),
    "lists and none": ([None, ["x"]], "object"),
    "lists and numbers": ([1, [1]], "object"),
    "lists of anything": ([[1, "a", None], [{}]], "object"),
    "mappings": ([{"a": 1}, {"b": {"c": None}}], "object"),
    "small arrays": ([np.arange(3, dtype="u1"), np.arange(3, 6, dtype="u1")], "object"),
    "large arrays": ([np.zeros((20, 20)), np.ones((20, 20))], "object"),
    "arrays of several shapes": ([np.zeros((2, 2)), np.zeros((2, 3)), None], "object"),
    "arrays of several lengths": ([np.arange(2), np.arange(4)], "object"),
}
#: What `Stream.to_pandas` rounds, as pandas does with integers that have gaps.
ROUNDED = {"a larger one, and none", "a smaller one, and none", "large integers and floats"}
ROUNDED |= {"unsigned integers and others"}


@pytest.fixture(params=["sealed", "uneven", "live"])
def state(request: pytest.FixtureRequest) -> str:
    if request.param == "uneven":
        request.getfixturevalue("uneven")
    found: str = request.param
    return found


def spread(different: list[Any], rows: int) -> list[Any]:
    """Give each value for as many rows as the others."""
    return [different[row * len(different) // rows] for row in range(rows)]


def test_a_column_is_of_what_all_pages_have(tmp_path: Path, state: str) -> None:
    values = {case: spread(different, 45) for case, (different, _) in KINDS.items()}
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    with closing(record(tmp_path, [(dict.fromkeys(KINDS, "number"), rows)], stop=state != "live")) as catalog:
        stream = newest(catalog)
        table = StreamTable(stream)
        own = {"seq_num": "int64", "time": "float64"}
        assert table.dtypes == own | {case: dtype for case, (_, dtype) in KINDS.items()}
        assert table.npartitions == (5 if state == "uneven" else 1)
        assert_alike(table)
        found = table.read()
        for case in KINDS:
            assert_values(found[case], values[case])
        sound = [case for case in KINDS if case not in ROUNDED]
        assert_as_to_pandas(StreamTable(stream, sound), stream.to_pandas(sound))


def pages(root: Path) -> list[Path]:
    return sorted(root.glob("*/*/*/*/primary/*.parquet"))


def test_where_all_values_are_none_the_descriptor_tells(tmp_path: Path, state: str) -> None:
    dtypes = {"number": "float64", "integer": "float64", "boolean": "boolean", "string": "string", "array": "object"}
    blocks: Blocks = [({key: key for key in dtypes}, [dict.fromkeys(dtypes)] * 30)]
    with closing(record(tmp_path, blocks, stop=state != "live")) as catalog:
        stream = newest(catalog)
        table = StreamTable(stream)
        assert {key: table.dtypes[key] for key in dtypes} == dtypes
        assert_alike(table)
        assert_as_to_pandas(table, stream.to_pandas())


GAPS: dict[str, tuple[Any, str]] = {
    "floats": (0.5, "float64"),
    "integers": (7, "float64"),
    "large integers": (BIG, "object"),
    "truth": (True, "boolean"),
    "text": ("open", "string"),
    "lists": ([1, 2], "object"),
    "arrays": (np.arange(3), "object"),
}


@pytest.mark.parametrize("order", [[True, False], [False, True], [True, False, True, False]])
def test_events_may_lack_a_key(tmp_path: Path, state: str, order: list[bool]) -> None:
    without: Any = ({"det": "number"}, [{"det": 0.5}] * 15)
    having = {"det": 1.5} | {case: value for case, (value, _) in GAPS.items()}
    blocks = [(dict.fromkeys(having, "number"), [having] * 15) if has_it else without for has_it in order]
    with closing(record(tmp_path, blocks, stop=state != "live")) as catalog:
        stream = newest(catalog)
        table = StreamTable(stream)
        assert {case: table.dtypes[case] for case in GAPS} == {case: dtype for case, (_, dtype) in GAPS.items()}
        assert table.dtypes["det"] == "float64"
        assert_alike(table)
        found = table.read()
        for case, (value, _) in GAPS.items():
            assert_values(found[case], [value if has_it else None for has_it in order for _ in range(15)])
        sound = ["det", *(case for case in GAPS if case != "large integers")]
        assert_as_to_pandas(StreamTable(stream, sound), stream.to_pandas(sound))


INTEGERS, LARGE, NONE = Kind("int64"), Kind("int64", is_exact=False), Kind("float64", is_empty=True)
MERGED: list[tuple[list[Kind | None], str]] = [
    ([INTEGERS, LARGE], "int64"),
    ([INTEGERS, None], "float64"),
    ([NONE, INTEGERS], "float64"),
    ([None, LARGE], "object"),
    ([LARGE, NONE], "object"),
    ([Kind("string"), NONE, None], "string"),
    ([Kind("string"), INTEGERS], "object"),
    ([Kind("object"), Kind("boolean")], "object"),
    ([NONE, NONE], "float64"),
    ([Kind("object", is_empty=True), Kind("boolean", is_empty=True)], "boolean"),
]


@pytest.mark.parametrize(("kinds", "dtype"), MERGED)
def test_pages_without_a_key_are_gaps(kinds: list[Kind | None], dtype: str) -> None:
    assert merged_dtype(kinds) == merged_dtype(kinds[::-1]) == dtype


OWN: dict[str, tuple[dict[str, list[Any]], str, str]] = {
    "times in whole seconds": ({"time": [1763809925, 1763809926, 1763809927]}, "int64", "float64"),
    "times in whole seconds and others": ({"time": [1763809925, 1763809926.5, 1763809927]}, "int64", "float64"),
    "times that are none": ({"time": [1.5, None, np.nan]}, "int64", "float64"),
    "times in nanoseconds": ({"time": [1763809925000000001, 1763809926, 1763809927]}, "int64", "object"),
    "times as text": ({"time": ["now", 1.5, 2.5]}, "int64", "object"),
    "numbers that do not rise": ({"seq_num": [3, 1, 1]}, "int64", "float64"),
    "huge numbers": ({"seq_num": [1, 2, 2**70]}, "object", "float64"),
    "broken numbers": ({"seq_num": [1, 2.5, 3]}, "float64", "float64"),
}


@pytest.mark.parametrize("case", OWN)
def test_numbers_and_times_of_events_are_kept_whatever_they_are(tmp_path: Path, case: str) -> None:
    keys, number, time = OWN[case]
    catalog, begun = Catalog(tmp_path), make.start()
    described = make.descriptor(begun)
    page = make.event_page(described, [1, 2, 3], {"det": [0.5, 1.5, 2.5]}) | keys
    for pair in [("start", begun), ("descriptor", described), ("event_page", page), ("stop", make.stop(begun))]:
        catalog.insert(*pair)
    table = StreamTable(newest(catalog))
    assert table.dtypes == {"seq_num": number, "time": time, "det": "float64"}
    assert_alike(table)
    for name, values in keys.items():
        assert_values(table.read()[name], values)


# ------------------------------------------------------------------------------------ what it has


def test_a_stream_without_events_has_the_columns_that_its_descriptors_declare(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"n": "number", "i": "integer", "b": "boolean", "s": "string", "a": "array", "x": None}
    keys |= {"e": make.data_key("array", external="FILESTORE:"), "t": make.data_key("array", external="STREAM:")}
    keys = {key: make.data_key("odd") if item is None else item for key, item in keys.items()}
    for stop in (True, False):
        with closing(record(tmp_path / str(stop), [(keys, []), ({"late": "number"}, [])], stop=stop)) as catalog:
            table = StreamTable(newest(catalog))
            assert (table.rows, table.npartitions) == (0, 1)
            assert table.dtypes == {
                **{"seq_num": "int64", "time": "float64", "n": "float64", "i": "int64", "b": "boolean", "s": "string"},
                **{"a": "object", "x": "object", "e": "string", "late": "float64"},
            }
            assert_alike(table)
            assert len(table.to_dask()) == 0
            assert StreamTable(newest(catalog), ["i"]).empty().columns.tolist() == ["seq_num", "time", "i"]


def test_a_key_that_only_a_descriptor_without_events_has_is_left_out_as_in_other_tables(tmp_path: Path) -> None:
    catalog = record(tmp_path, [*one_key([0.5]), ({"det": "number", "other": "number"}, [])])
    assert list(StreamTable(newest(catalog)).dtypes) == ["seq_num", "time", "det"]
    assert list(StreamTable(newest(catalog), ["other", "det"]).dtypes) == ["seq_num", "time", "det"]
    assert newest(catalog).to_pandas().columns.tolist() == ["time", "det"]


def test_event_pages_and_repeated_numbers_come_in_their_order(tmp_path: Path) -> None:
    catalog, begun = Catalog(tmp_path), make.start()
    described = make.descriptor(begun, {"det": "number", "i": "integer"})
    catalog.insert("start", begun)
    catalog.insert("descriptor", described)
    for first in (1, 8, 4, 4):  # back to a checkpoint
        numbers = list(range(first, first + 12))
        data = {"det": [0.5 * number for number in numbers], "i": numbers}
        catalog.insert("event_page", make.event_page(described, numbers, data))
        for number in range(first + 12, first + 20):
            catalog.insert("event", make.event(described, number, {"det": 0.5, "i": 1}))
    catalog.insert("event_page", make.event_page(described, [], {"det": [], "i": []}))
    catalog.insert("stop", make.stop(begun))
    stream = newest(catalog)
    table = StreamTable(stream)
    assert table.rows == 80
    assert table.npartitions == len(pages(tmp_path)) > 1
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas())
    assert_as_to_pandas(StreamTable(stream, ["i"]), stream.to_pandas(["i"]))


def test_columns_of_the_same_name_are_all_there(tmp_path: Path) -> None:
    keys = ["time", "seq_num", "uid", "_own", "", "start.time", "_x.uid", "{{ x }}"]
    blocks: Blocks = [(dict.fromkeys(keys, "number"), [{key: number * 0.5 for number, key in enumerate(keys)}] * 12)]
    stream = newest(record(tmp_path, blocks))
    table = StreamTable(stream)
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas())
    row = table.read().iloc[0].to_dict()
    assert row == {
        **{"seq_num": 1, "time": make.T0 + 1.5, "_data.time": 0.0, "_data.seq_num": 0.5, "uid": 1.0, "_own": 1.5},
        **{"": 2.0, "start.time": 2.5, "_x.uid": 3.0, "{{ x }}": 3.5},
    }
    assert list(StreamTable(stream, ["time"]).dtypes) == ["seq_num", "time", "_data.time"]


def test_a_key_may_have_the_name_that_another_is_given(tmp_path: Path) -> None:
    data = {"_data.time": 1.5, "time": 2.5}
    table = StreamTable(newest(record(tmp_path, [(dict.fromkeys(data, "number"), [data])])))
    assert_alike(table)
    assert table.read().iloc[0].to_dict() == {
        **{"seq_num": 1, "time": make.T0 + 1.5, "_data.time": 1.5, "_data._data.time": 2.5}
    }


def test_columns_come_in_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    blocks: Blocks = [({"a": "number", "b": "integer", "c": "string"}, [{"a": 0.5, "b": 1, "c": "x"}] * 30)]
    stream = newest(record(tmp_path, blocks))
    table = StreamTable(stream, ["c", "a", "c"])
    assert table.dtypes == {"seq_num": "int64", "time": "float64", "c": "string", "a": "float64"}
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas(["c", "a"]))
    assert list(StreamTable(stream, []).read().columns) == ["seq_num", "time"]
    assert_alike(StreamTable(stream, []))


def test_an_unknown_column_is_refused_at_once(tmp_path: Path) -> None:
    stream = newest(record(tmp_path, one_key([0.5])))
    told = rf"stream 'primary' of run '{stream.run.uid}' has no data keys \['dte', 'x'\]; it has \['det'\]"
    with pytest.raises(UnknownField, match=told):
        StreamTable(stream, ["dte", "det", "x"])
    with pytest.raises(InvalidQuery, match="columns names 1, a int"):
        StreamTable(stream, [1])  # type: ignore[list-item]


@pytest.mark.parametrize("number", [-1, 3, 10**30])
def test_a_part_past_the_end_is_an_index_error(tmp_path: Path, number: int) -> None:
    table = StreamTable(newest(record(tmp_path, one_key([0.5] * 22))))
    assert table.npartitions == 3
    with pytest.raises(IndexError, match=rf"has no part {number}; its parts are 0 to 2"):
        table.part(number)


def test_several_hundred_keys_are_no_trouble(tmp_path: Path) -> None:
    keys = {f"key{number}": ("integer", "number", "string")[number % 3] for number in range(300)}
    rows = [
        {key: {"i": row, "n": row / 2, "s": str(row)}[dtype[0]] for key, dtype in keys.items()} for row in range(25)
    ]
    stream = newest(record(tmp_path, [(keys, rows)]))
    table = StreamTable(stream)
    assert table.npartitions == 3
    assert list(table.dtypes.values()) == ["int64", "float64", *["int64", "float64", "string"] * 100]
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas())


def test_external_data_are_given_as_the_references_in_the_events(tmp_path: Path) -> None:
    keys = {
        **{"camera": make.data_key("array", external="FILESTORE:"), "det": make.data_key()},
        "stream_camera": make.data_key("array", external="STREAM:"),
    }
    rows = [{"camera": f"datum/{number}", "det": 0.5} for number in range(15)]
    stream = newest(record(tmp_path, [(keys, rows)]))
    table = StreamTable(stream)
    assert table.dtypes == {"seq_num": "int64", "time": "float64", "camera": "string", "det": "float64"}
    assert table.read()["camera"].tolist() == [f"datum/{number}" for number in range(15)]
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas())
    assert list(StreamTable(stream, ["stream_camera"]).dtypes) == ["seq_num", "time"]


# ---------------------------------------------------------------------------------- what it reads


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Note what is read of pages."""
    noted: list[tuple[str, Any]] = []
    original = PageFile.read

    def noting(self: PageFile, columns: Any = "all", keys: Any = None) -> Any:
        noted.append((columns, keys))
        return original(self, columns, keys)

    monkeypatch.setattr(PageFile, "read", noting)
    return noted


MANY: Blocks = [
    (
        {"det": "number", "count": "integer", "shutter": "string", "image": "array", "flag": "boolean"},
        [
            {"det": 0.5 * row, "count": row, "shutter": "open", "image": np.full((20, 20), row), "flag": True}
            for row in range(45)
        ],
    )
]


def test_to_know_its_size_takes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = newest(record(tmp_path, MANY))
    monkeypatch.setattr(Folder, "read", None)
    monkeypatch.setattr(Folder, "read_fixed", None)
    table = StreamTable(stream, ["det"])
    assert (table.rows, table.npartitions) == (45, len(pages(tmp_path)))


def test_to_know_its_columns_takes_footers_and_integers_alone(tmp_path: Path, reads: list[tuple[str, Any]]) -> None:
    stream = newest(record(tmp_path, MANY))
    reads.clear()
    table = StreamTable(stream)
    assert not reads
    assert table.columns
    assert reads == [("data", []), ("data", ["count"])] * table.npartitions
    reads.clear()
    assert table.dtypes
    assert len(table.empty()) == len(table.to_dask().columns) - 7 == 0
    assert not reads
    table = StreamTable(stream, ["det", "image"])
    assert table.columns
    assert reads == [("data", [])] * table.npartitions


def test_columns_with_exceptions_are_looked_at(tmp_path: Path, reads: list[tuple[str, Any]]) -> None:
    blocks: Blocks = [({"a": "number", "b": "number"}, [{"a": 1 if row % 2 else 0.5, "b": 0.5} for row in range(30)])]
    stream = newest(record(tmp_path, blocks))
    reads.clear()
    table = StreamTable(stream)
    assert table.dtypes["a"] == "float64"
    assert reads == [("data", []), ("data", ["a"])] * table.npartitions


def test_a_partition_reads_what_is_asked_of_its_own_page_alone(tmp_path: Path, reads: list[tuple[str, Any]]) -> None:
    table = StreamTable(newest(record(tmp_path, MANY))).to_dask()
    reads.clear()
    assert float(table["det"].sum().compute(scheduler="synchronous")) == 0.5 * sum(range(45))
    assert reads == [("data", ["det"])] * table.npartitions
    reads.clear()
    assert len(table[["time"]].get_partition(0).compute(scheduler="synchronous")) < 11
    assert reads == [("shown", [])]


def uploaded(catalog: Catalog, url: str, options: dict[str, Any]) -> None:
    """Copy a local catalog to a store."""
    catalog.close()
    files, _ = fsspec.core.url_to_fs(url, **options)
    root = Path(catalog.folder.url)
    paths = [path for path in root.rglob("*") if path.is_file() and "_live" not in path.parts]
    files.pipe({f"{url}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths})


@pytest.fixture
def behind_proxy(
    s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Catalog], tuple[Stream, Proxy]]]:
    """Give what puts a catalog into a bucket, and opens its newest run there behind a proxy; nothing is kept."""
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    url, options = s3_url
    with Proxy(options["endpoint_url"]) as proxy:

        def opened(catalog: Catalog) -> tuple[Stream, Proxy]:
            uploaded(catalog, url, options)
            stored = Catalog(url, storage_options=options | {"endpoint_url": proxy.url}, read_only=True)
            stream = newest(stored)
            assert len(stream)
            proxy.clear()
            return stream, proxy

        yield opened


def test_in_a_store_each_small_page_is_one_request(
    tmp_path: Path, behind_proxy: Callable[[Catalog], tuple[Stream, Proxy]]
) -> None:
    stream, proxy = behind_proxy(record(tmp_path, MANY))
    table = StreamTable(stream)
    assert (table.rows, table.npartitions) == (45, 5)
    assert not proxy.requests
    assert table.columns
    assert len(proxy.requests) == proxy.count(r"GET .*\.parquet") == 5
    proxy.clear()
    assert len(table.part(3)) == 10
    assert proxy.count(r"GET .*00003\.parquet") == len(proxy.requests) == 1
    lazy = table.to_dask()
    for number, requests in [(1, 2), (2, 1)]:  # the run's documents are read once
        proxy.clear()
        assert len(lazy.get_partition(number).compute(scheduler="synchronous"))
        assert len(proxy.requests) == proxy.count(r"GET .*(documents\.jsonl|0000\d\.parquet)") == requests
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas())


def test_of_large_pages_in_a_store_footers_are_fetched_and_integers(
    tmp_path: Path, behind_proxy: Callable[[Catalog], tuple[Stream, Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "SMALL_PAGE_BYTES", 0)
    stream, proxy = behind_proxy(record(tmp_path, MANY))
    table = StreamTable(stream, ["det", "image", "shutter"])
    assert table.columns
    assert len(proxy.requests) == table.npartitions == 5
    proxy.clear()
    assert StreamTable(stream).dtypes["count"] == "int64"
    assert len(proxy.requests) == 10
    assert_alike(table)


def test_a_store_that_fails_is_no_damage(
    tmp_path: Path, behind_proxy: Callable[[Catalog], tuple[Stream, Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, proxy = behind_proxy(record(tmp_path, MANY))
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.5")
    proxy.fault(r"00002\.parquet", "403")
    with pytest.raises(StorageError, match=r"00002\.parquet"):
        _ = StreamTable(stream).columns
    proxy.clear()
    table = StreamTable(stream)
    assert table.columns
    proxy.fault(r"00002\.parquet", "403")
    for read in (table.read, lambda: table.part(2), lambda: computed(table)):
        with pytest.raises(StorageError, match=r"00002\.parquet"):
            read()


# ------------------------------------------------------------------------------- runs in progress


def test_a_run_in_progress_is_as_it_was_when_the_table_was_made(tmp_path: Path) -> None:
    catalog, begun = Catalog(tmp_path), make.start()
    described = make.descriptor(begun)
    catalog.insert("start", begun)
    catalog.insert("descriptor", described)

    def insert(numbers: range, value: Any) -> None:
        for number in numbers:
            catalog.insert("event", make.event(described, number, {"det": value}))

    def check(table: StreamTable, rows: int, dtype: str) -> None:
        assert (table.rows, table.npartitions, table.dtypes["det"]) == (rows, 1, dtype)
        assert_alike(table)

    made: list[tuple[StreamTable, int, str]] = []
    for numbers, value, dtype in [
        (range(1, 6), 1, "int64"),
        (range(6, 26), 0.5, "float64"),
        (range(26, 47), "off", "object"),
    ]:
        insert(numbers, value)
        made.append((StreamTable(newest(catalog)), numbers.stop - 1, dtype))
        for item in made:
            check(*item)
        assert_as_to_pandas(made[-1][0], newest(catalog).to_pandas())
    lazy = [table.to_dask() for table, _, _ in made]
    catalog.insert("stop", make.stop(begun))
    for item in made:
        check(*item)
    assert [len(table.compute(scheduler="synchronous")) for table in lazy] == [5, 25, 46]
    sealed = StreamTable(newest(catalog))
    assert sealed.rows == 46
    assert_alike(sealed)


def test_a_table_of_a_run_in_progress_is_pickled_as_its_place(tmp_path: Path) -> None:
    with closing(record(tmp_path, one_key([1, 2, 3]), stop=False)) as catalog:
        table = StreamTable(newest(catalog), ["det"])
        data = pickle.dumps(table)
        assert len(data) < 500
        assert pickle.loads(data).read().equals(table.read())
        assert table.to_dask()._name != StreamTable(newest(catalog), ["det"]).to_dask()._name


def test_of_a_damaged_run_in_progress_what_is_left_is_read_with_a_warning(tmp_path: Path) -> None:
    with closing(record(tmp_path, one_key([0.5, 1.5, 2.5]), stop=False)) as catalog:
        lazy = StreamTable(newest(catalog)).to_dask()
        (journal,) = tmp_path.glob("*/*/*/*/journal.*")
        journal.write_bytes(journal.read_bytes().replace(b'"det":1.5', b'"det":9.5'))
        with pytest.warns(DamagedRunWarning):
            table = StreamTable(newest(Catalog(tmp_path, read_only=True)))
        for read in (lambda: lazy.compute(scheduler="synchronous"), lambda: table.part(0), lambda: computed(table)):
            with pytest.raises(DamagedRun, match=r"is damaged: .*read\(\) of its stream 'primary'"):
                read()
        assert 0 < len(table.read()) < 3


# ---------------------------------------------------------------------------------- what is wrong


def spoilt(page: Path) -> None:
    page.write_bytes(b"junk" * 100)


@pytest.mark.parametrize("harm", [spoilt, Path.unlink])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_damaged_page_is_an_error_but_the_others_can_be_read(
    tmp_path: Path, harm: Callable[[Path], None], is_known: bool
) -> None:
    catalog = record(tmp_path, MANY)
    table = StreamTable(newest(catalog))
    if is_known:
        assert table.columns
    whole = newest(catalog).to_pandas()
    harm(pages(tmp_path)[2])
    dtypes = {"seq_num": "int64", "time": "float64", "det": "float64", "count": "int64", "shutter": "string"}
    assert table.dtypes == dtypes | {"image": "object", "flag": "boolean"}
    told = (
        rf"run '{newest(catalog).run.uid}' in .* is damaged: .*00002\.parquet.*read\(\) of its stream 'primary' gives"
    )
    with pytest.raises(DamagedRun, match=told):
        table.part(2)
    with pytest.raises(DamagedRun, match=told):
        computed(table)
    rows = [len(table.part(number)) for number in (0, 1, 3, 4)]
    with pytest.warns(DamagedRunWarning) as warned:
        left = table.read()
    assert len(warned) == 1
    assert len(left) == sum(rows) < table.rows == 45
    assert {name: str(dtype) for name, dtype in left.dtypes.items()} == table.dtypes
    kept = whole[~whole.index.isin(set(whole.index) - set(left["seq_num"]))]
    assert_values(left["det"], kept["det"])
    assert len(table.read()) == len(left)  # and nobody is told again
    assert len(table.part(0)) == rows[0]
    with pytest.raises(DamagedRun, match=told):
        computed(table)


def test_a_stream_of_damaged_pages_alone_has_the_columns_that_its_descriptor_declares(tmp_path: Path) -> None:
    stream = newest(record(tmp_path, one_key([1] * 25, "integer")))
    for page in pages(tmp_path):
        spoilt(page)
    table = StreamTable(stream)
    assert table.dtypes["det"] == "int64"
    assert table.rows == 25
    with pytest.warns(DamagedRunWarning):
        assert table.read().dtypes.to_dict() == table.empty().dtypes.to_dict()
    with pytest.raises(DamagedRun):
        computed(table)


@pytest.mark.parametrize("key", ["det", "count"])
def test_a_column_of_a_large_page_that_is_damaged_is_found_when_it_is_read(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_files, "_WHOLE_CHECK_BYTES", 0)
    import pyarrow.parquet as pq

    stream = newest(record(tmp_path, MANY))
    page = pages(tmp_path)[1]
    group = pq.ParquetFile(page).metadata.row_group(0)
    column = next(group.column(at) for at in range(group.num_columns) if group.column(at).path_in_schema == key)
    data = bytearray(page.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    page.write_bytes(data)
    table = StreamTable(stream, [key])
    other = StreamTable(stream, ["shutter"])
    assert (table.dtypes[key], table.dtypes) == (KEYS[key], {"seq_num": "int64", "time": "float64", key: KEYS[key]})
    with pytest.raises(DamagedRun, match=r"00001\.parquet cannot be read"):
        table.part(1)
    with pytest.raises(DamagedRun, match=r"00001\.parquet cannot be read"):
        computed(table)
    assert len(other.read()) == 45
    with pytest.warns(DamagedRunWarning, match=r"00001\.parquet cannot be read"):
        assert len(table.read()) < 45


KEYS = {"det": "float64", "count": "int64"}


def test_a_run_without_a_manifest_is_not_taken_for_one_without_events(tmp_path: Path) -> None:
    record(tmp_path, one_key([0.5] * 5)).close()
    (documents,) = tmp_path.glob("*/*/*/*/documents.jsonl")
    lines = documents.read_bytes().splitlines(keepends=True)
    documents.write_bytes(b"".join([lines[0].replace(b"primary", b"prilary"), *lines[1:]]))
    with pytest.warns(DamagedRunWarning):
        table = StreamTable(newest(Catalog(tmp_path)))
    assert list(table.dtypes) == ["seq_num", "time", "det"]
    assert len(table.read()) == 0
    for read in (lambda: table.part(0), lambda: computed(table)):
        with pytest.raises(DamagedRun, match="no readable manifest"):
            read()


def test_a_run_that_was_removed_or_replaced_is_an_error(tmp_path: Path) -> None:
    catalog = record(tmp_path, MANY)
    table = StreamTable(newest(catalog), ["det"])
    lazy, reader = table.to_dask(), table.to_dask().expr.func
    with pytest.raises(DamagedRun, match=r"00000\.parquet is not the page any more that it was"):
        reader("primary/00000.parquet", "0" * 64)
    partitions._opened.renew_locks()  # nothing is open
    shutil.rmtree(tmp_path / newest(catalog).run.directory)
    with pytest.raises(DamagedRun, match=r"the run in .* is not there any more"):
        lazy.compute(scheduler="synchronous")


def test_without_dask_one_is_told_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = StreamTable(newest(record(tmp_path, one_key([0.5]))))
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(MissingPackage, match=r'pip install "filebroker\[dask\]"'):
        table.to_dask()
    assert len(table.read()) == 1


# ------------------------------------------------------------------------------------- on workers


def test_other_processes_make_the_same_table_and_compute_it(tmp_path: Path) -> None:
    catalog = record(tmp_path / "run", MANY, comment="a canary of the documents")
    table = StreamTable(newest(catalog), ["det", "shutter", "image"])
    lazy = table.to_dask()
    tasks = [pickle.dumps(task) for task in dict(lazy.optimize().__dask_graph__()).values()]
    assert len(tasks) == table.npartitions == 5
    assert not [task for task in tasks if b"canary" in task or b"RunFiles" in task or len(task) > 1024]
    (tmp_path / "table").write_bytes(pickle.dumps((table, lazy)))
    found = json.loads(subprocess.check_output([sys.executable, "-c", ELSEWHERE, tmp_path / "table"], text=True))
    assert found == {
        **{"names": [lazy._name] * 2, "dtypes": table.dtypes, "images": [int(row) for row in range(45)]},
        **{"sums": [0.5 * sum(range(45))] * 2},
    }


ELSEWHERE = """
import json, pickle, sys
table, lazy = pickle.load(open(sys.argv[1], "rb"))
found = {"names": [lazy._name, table.to_dask()._name], "dtypes": table.dtypes}
found["images"] = [int(image[0, 0]) for image in lazy["image"].compute(scheduler="threads")]
found["sums"] = [float(frame["det"].sum()) for frame in (table.read(), lazy.compute(scheduler="synchronous"))]
print(json.dumps(found))
"""


def test_dasks_own_processes_compute_it(tmp_path: Path) -> None:
    table = StreamTable(newest(record(tmp_path, MANY)))
    result = table.to_dask().compute(scheduler="processes", num_workers=1)
    assert {name: str(dtype) for name, dtype in result.dtypes.items()} == table.dtypes
    for name in table.dtypes:
        assert_values(result[name], table.read()[name])


def test_tables_of_the_same_run_have_the_same_name_and_others_do_not(tmp_path: Path) -> None:
    catalog = record(record(tmp_path, MANY, scan_id=1), MANY, scan_id=2)
    one, other = (next(iter(catalog.search({"scan_id": number})))["primary"] for number in (1, 2))
    name = StreamTable(one).to_dask()._name
    assert StreamTable(one).to_dask()._name == name
    assert len({name, StreamTable(other).to_dask()._name, StreamTable(one, ["det"]).to_dask()._name}) == 3


def test_a_store_in_memory_is_read_in_this_process(tmp_path: Path) -> None:
    uploaded(record(tmp_path, MANY), f"memory://{tmp_path.name}", {})
    stream = newest(Catalog(f"memory://{tmp_path.name}", read_only=True))
    table = StreamTable(stream)
    assert table.npartitions == 5
    assert_alike(table)
    assert_as_to_pandas(table, stream.to_pandas())
    assert len(table.to_dask().compute(scheduler="threads")) == 45


def test_tasks_have_no_secrets_but_those_that_were_given_as_options(
    tmp_path: Path, s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = s3_url
    uploaded(record(tmp_path, MANY), url, options)
    for name in ("key", "secret"):
        monkeypatch.setenv(f"BEAMTIME_{name.upper()}", f"canary-5ecre7-{name}")
    named = {"key": {"env": "BEAMTIME_KEY"}, "secret": {"env": "BEAMTIME_SECRET"}}
    table = StreamTable(newest(Catalog(url, storage_options=options | named)), ["det"])
    lazy = table.to_dask()
    data = pickle.dumps((table, lazy))
    assert b"5ecre7" not in data
    assert b"BEAMTIME_KEY" in data
    assert len(pickle.loads(data)[1].compute(scheduler="synchronous")) == 45


def test_workers_elsewhere_do_not_miss_a_run_on_its_way_to_the_store(
    s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = s3_url
    catalog = Catalog(url, storage_options=options)
    with monkeypatch.context() as lost_network:
        lost_network.setattr(Outbox, "send", lambda self: None)
        record(catalog, one_key([0.5, 1.5]))
        table = StreamTable(newest(catalog))
        assert_alike(table)
        lazy = table.to_dask()
    elsewhere = pickle.loads(pickle.dumps(lazy.expr.func))
    elsewhere.folder.staged = None  # another machine has none of it
    partitions._opened.renew_locks()  # and nothing open
    (entry,) = newest(catalog).files.files
    with pytest.raises(StorageError, match=r"run in s3://.* is not all there yet: .*flush\(\)"):
        elsewhere(entry["path"], entry["sha256"])
    record(catalog, one_key([2.5]))
    catalog.flush()
    assert elsewhere(entry["path"], entry["sha256"])["det"].tolist() == [0.5, 1.5]
    catalog.close()
