"""One lazy table of many runs: what it has, what it reads, and who can compute it."""

import itertools
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import fsspec
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.dataframe import DataFrame

import factories as make
from filebroker import (
    Catalog,
    DamagedRun,
    InvalidOption,
    InvalidQuery,
    MissingPackage,
    RunNotFound,
    StorageError,
    UnknownField,
    UnknownStream,
)
from filebroker.cataloging import dask_frames, partitions
from filebroker.cataloging.outbox import Outbox
from filebroker.cataloging.runs import Runs
from filebroker.finding.library import Library
from filebroker.ground.errors import UnfitEvents
from filebroker.ground.filesystem import Folder
from filebroker.ground.remote import Remote
from filebroker.storing import run_files
from filebroker.storing.parquet import PageFile
from filebroker.storing.recorder import Recorder
from servers import Proxy

HOUR = 3600.0


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs of more than ten documents make several pages."""
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)


def put(catalog: Catalog, data: dict[str, list[Any]], *, stop: bool = True, name: str = "primary", **keys: Any) -> str:
    """Record a run with one stream; give its uid.  Its events are one second apart."""
    number = next(NUMBERS)
    begun = make.start(**{"scan_id": number, "time": make.T0 + HOUR * number} | keys)
    described = make.descriptor(begun, list(data), name)
    documents = [("start", begun), ("descriptor", described)]
    for row, values in enumerate(zip(*data.values(), strict=True), 1):
        documents.append(("event", make.event(described, row, dict(zip(data, values, strict=True)))))
    documents += [("stop", make.stop(begun))] if stop else []
    for pair in documents:
        catalog.insert(*pair)
    uid: str = begun["uid"]
    return uid


NUMBERS = itertools.count(1)


def computed(table: DataFrame) -> pd.DataFrame:
    """Compute a table in this thread."""
    result: pd.DataFrame = table.compute(scheduler="synchronous")
    return result


def together(runs: Runs, stream: str = "primary") -> pd.DataFrame:
    """Give what a loop over the runs gives, with the columns and dtypes of numbers as the table has them."""
    having = [run for run in runs if stream in run.stream_names]
    tables = [run[stream].to_pandas().reset_index().assign(uid=run.uid) for run in having]
    frame = pd.concat(tables, ignore_index=True)
    numbers = {name: "float64" for name in frame.columns.drop("seq_num") if frame[name].dtype.kind in "iuf"}
    texts = dict.fromkeys(["uid"], "string[pyarrow]")
    return frame.astype(numbers | texts)


def assert_same(table: DataFrame, expected: pd.DataFrame) -> None:
    result = computed(table).reset_index(drop=True)
    pd.testing.assert_frame_equal(result[expected.columns.tolist()], expected)
    assert result.dtypes.to_dict() == table.dtypes.to_dict()
    for number in range(table.npartitions):
        assert computed(table.get_partition(number)).dtypes.to_dict() == table.dtypes.to_dict()


@pytest.fixture
def many(tmp_path: Path, small_segments: None) -> Catalog:
    """Give a catalog of long and short runs, whose events have a number, an integer, a text and an array."""
    catalog = Catalog(tmp_path / "many")
    for rows in (3, 45, 1, 28):
        data: dict[str, list[Any]] = {"det": [0.5 * row for row in range(rows)], "count": list(range(rows))}
        data |= {"shutter": ["open", "shut"] * (rows // 2) + ["open"] * (rows % 2)}
        data |= {"image": [np.full((20, 20), row, "u2") for row in range(rows)]}
        put(catalog, data, sample={"name": f"of {rows}"})
    return catalog


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, many: Catalog) -> Catalog:
    """Give the same catalog in several places."""
    if request.param == "local":
        return many
    url, options = request.getfixturevalue("s3_url")
    return uploaded(many, url, options)


def uploaded(catalog: Catalog, url: str, options: dict[str, Any]) -> Catalog:
    """Copy a local catalog into a bucket."""
    catalog.close()
    files, _ = fsspec.core.url_to_fs(url, **options)
    root = Path(catalog.folder.url)
    paths = [path for path in root.rglob("*") if path.is_file() and "_live" not in path.parts]
    files.pipe({f"{url}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths})
    return Catalog(url, storage_options=options)


# ------------------------------------------------------------------------------------- what it has


def test_it_has_what_a_loop_over_the_runs_gives(place: Catalog) -> None:
    table = place.to_dask(metadata=["scan_id", "sample.name"])
    expected = together(place)
    expected["shutter"] = expected["shutter"].astype("string[pyarrow]")
    assert_same(table, expected)
    assert table.columns.tolist()[:5] == ["uid", "scan_id", "sample.name", "seq_num", "time"]
    starts = {run.uid: run.start for run in place}
    rows = computed(table[["uid", "scan_id", "sample.name"]]).drop_duplicates()
    assert [[starts[uid]["scan_id"], starts[uid]["sample"]["name"]] for uid in rows["uid"]] == (
        rows[["scan_id", "sample.name"]].to_numpy().tolist()
    )


def test_arrays_come_as_they_were_recorded(many: Catalog) -> None:
    images = computed(many.to_dask(columns="image"))["image"]
    assert images.dtype == object
    assert all(image.dtype == "u2" and image.shape == (20, 20) for image in images)
    assert sum(int(image[0, 0]) for image in images) == sum(range(3)) + sum(range(45)) + sum(range(28))


def test_each_page_is_a_partition_in_the_order_of_runs_and_pages(many: Catalog) -> None:
    table = many.to_dask(columns=["count"])
    pages = list(Path(many.folder.url).glob("*/*/*/*/primary/*.parquet"))
    assert table.npartitions == len(pages) > 8
    expected = [row for rows in (28, 1, 45, 3) for row in range(rows)]
    assert computed(table)["count"].tolist() == expected
    assert [len(computed(table.get_partition(number))) for number in (-1 % len(pages),)] == [3]


def test_a_search_gives_the_table_of_its_runs(many: Catalog) -> None:
    found = many.search({"sample.name": {"$in": ["of 45", "of 1"]}})
    assert_same(found.to_dask(columns=["det"]), together(found)[["seq_num", "time", "det", "uid"]])


def test_external_data_are_given_as_references(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    begun = make.start()
    described = make.descriptor(begun, {"camera": make.data_key("array", external="FILESTORE:")})
    for pair in [("start", begun), ("descriptor", described), ("event", make.event(described))]:
        catalog.insert(*pair)
    catalog.insert("stop", make.stop(begun))
    assert computed(catalog.to_dask())["camera"].tolist() == ["no-such-datum"]


def test_streams_whose_names_differ_in_case_are_kept_apart(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    begun = make.start()
    catalog.insert("start", begun)
    for value, name in enumerate(["Dark", "dark", "DARK", "dark frame", "dark~2"]):
        described = make.descriptor(begun, ["det"], name)
        catalog.insert("descriptor", described)
        catalog.insert("event", make.event(described, 1, {"det": float(value)}))
    catalog.insert("stop", make.stop(begun))
    for value, name in enumerate(["Dark", "dark", "DARK", "dark frame", "dark~2"]):
        assert computed(catalog.to_dask(name))["det"].tolist() == [float(value)]


def test_columns_of_the_same_name_are_all_there(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    uid = put(catalog, {"time": [1.5], "uid": ["x"], "sample": [2.5], "_own": [3.5]}, sample="LaB6", time=make.T0)
    row = computed(catalog.to_dask(metadata=["time", "sample", "uid"])).iloc[0].to_dict()
    assert row == {
        **{"uid": uid, "start.time": make.T0, "start.sample": "LaB6", "start.uid": uid},
        **{"seq_num": 1, "time": make.T0 + 1.5, "_data.time": 1.5, "_data.uid": "x", "sample": 2.5, "_own": 3.5},
    }


# ------------------------------------------------------------------------------- dtypes and gaps

BIG = 2**53 + 1
KINDS: dict[str, tuple[list[list[Any]], str, list[Any]]] = {
    # Values of each run, the newest last; the dtype, and the values newest first.
    "floats": ([[0.5], [1.5, None]], "float64", [1.5, np.nan, 0.5]),
    "integers": ([[1], [2, 3]], "float64", [2.0, 3.0, 1.0]),
    "integers among floats of the newest": ([[1], [2, 0.5]], "float64", [2.0, 0.5, 1.0]),
    "integers among floats": ([[1, 0.5], [2, None]], "float64", [2.0, np.nan, 1.0, 0.5]),
    "nothing in an older run": ([[None, None], [2.5]], "float64", [2.5, np.nan, np.nan]),
    "truth": ([[True, None], [False]], "boolean", [False, True, pd.NA]),
    "text": ([["a", None], ["", "b"]], "string", ["", "b", "a", pd.NA]),
    "lists": ([[[1], None], [[1, 2]]], "object", [[1, 2], [1], None]),
    "mappings": ([[{"a": 1}], [{"b": None}]], "object", [{"b": None}, {"a": 1}]),
    "numbers among text": ([["a"], ["b", 1]], "object", ["b", 1, "a"]),
    "text among numbers": ([[0.5], [1.5, 2.5, "off"]], "object", [1.5, 2.5, "off", 0.5]),
    "other kinds, the newest objects": ([["a"], [1.5], [[1]]], "object", [[1], 1.5, "a"]),
}


def equal(left: list[Any], right: list[Any]) -> bool:
    def same(one: Any, other: Any) -> bool:
        if one is pd.NA or other is pd.NA or one is None or other is None:
            return one is other
        return type(one) is type(other) and (one == other or one != one)

    return len(left) == len(right) and all(map(same, left, right))


@pytest.mark.parametrize("case", KINDS)
def test_a_column_is_of_what_the_newest_run_has(tmp_path: Path, case: str) -> None:
    runs, dtype, expected = KINDS[case]
    catalog = Catalog(tmp_path / "catalog")
    for values in runs:
        put(catalog, {"det": values})
    table = catalog.to_dask()
    result = computed(table)["det"]
    assert str(table["det"].dtype) == str(result.dtype) == dtype
    assert equal(result.tolist(), expected)
    assert {str(computed(table.get_partition(number))["det"].dtype) for number in range(len(runs))} == {dtype}


GIVEN: dict[str, tuple[list[list[Any]], str, list[Any]]] = {
    "large integers": ([[BIG], [1, None]], "Int64", [1, pd.NA, BIG]),
    "whole floats as integers": ([[2.0, float("nan")], [1]], "Int64", [1, 2, pd.NA]),
    "anything": ([["off"], [BIG], [1.5]], "object", [1.5, BIG, "off"]),
}


@pytest.mark.parametrize("case", GIVEN)
def test_the_dtype_of_a_column_can_be_chosen(tmp_path: Path, case: str) -> None:
    runs, dtype, expected = GIVEN[case]
    catalog = Catalog(tmp_path / "catalog")
    for values in runs:
        put(catalog, {"det": values})
    table = catalog.to_dask(dtypes={"det": dtype})
    result = computed(table)["det"]
    assert str(table["det"].dtype) == str(result.dtype) == dtype
    assert equal(result.tolist(), expected)


MISFITS = {
    "text for numbers": (["off"], "float64"),
    "text among numbers": ([0.5, 1.5, "off"], "float64"),
    "a large integer among floats": ([0.5, BIG], "float64"),
    "a number among texts": (["a", "b", 1], "string"),
    "an integer that no float equals": ([BIG], "float64"),
    "an unsigned one": ([2**63 + 1], "float64"),
    "one of more than 64 bits": ([2**70], "float64"),
    "truth among numbers": ([True], "float64"),
    "a list": ([[1.0]], "float64"),
    "a mapping": ([{"a": 1}], "float64"),
    "a fraction among integers": ([0.5], "Int64"),
    "a fraction and an integer among integers": ([0.5, 1], "Int64"),
    "a number among text": ([1], "string"),
    "half a character": (["\ud800"], "string"),
    "a number for truth": ([1], "boolean"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_value_that_does_not_fit_is_refused_and_never_altered(tmp_path: Path, case: str) -> None:
    values, dtype = MISFITS[case]
    catalog = Catalog(tmp_path / "catalog")
    uid = put(catalog, {"det": values})
    table = catalog.to_dask(columns="det", dtypes={"det": dtype})
    with pytest.raises(UnfitEvents, match=rf"'det' of this table is of {dtype}, and run '{uid}' in .*dtypes="):
        computed(table)
    assert equal(computed(catalog.to_dask(columns="det", dtypes={"det": "object"}))["det"].tolist(), values)


def test_what_a_run_does_not_have_is_missing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    put(catalog, {"old": [1.5]})
    put(catalog, {"det": [2.5], "note": ["x"], "list": [[1, 2]], "flag": [True]})
    result = computed(catalog.to_dask())
    assert result.columns.tolist() == ["uid", "seq_num", "time", "det", "note", "list", "flag"]
    assert equal(result["det"].tolist(), [2.5, np.nan])
    assert equal(result["note"].tolist(), ["x", pd.NA])
    assert equal(result["list"].tolist(), [[1, 2], np.nan])
    assert equal(result["flag"].tolist(), [True, pd.NA])
    assert equal(computed(catalog.to_dask(columns=["old", "det"]))["old"].tolist(), [np.nan, 1.5])


def test_events_of_one_run_may_lack_a_key(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    begun = make.start()
    catalog.insert("start", begun)
    for number, keys in enumerate([["det"], ["det", "other"]], 1):
        described = make.descriptor(begun, keys)
        catalog.insert("descriptor", described)
        catalog.insert("event", make.event(described, number))
    catalog.insert("stop", make.stop(begun))
    assert equal(computed(catalog.to_dask())["other"].tolist(), [np.nan, 0.5])


METADATA = {
    "integers": ([1, 2], "int64", [2, 1]),
    "integers, and none": ([1, ...], "Int64", [pd.NA, 1]),
    "integers and floats": ([1, 0.5], "float64", [0.5, 1.0]),
    "large integers and floats": ([BIG, 0.5], "object", [0.5, BIG]),
    "very large integers": ([2**70, 1], "object", [1, 2**70]),
    "text": (["a", ...], "string", [pd.NA, "a"]),
    "truth": ([True, ...], "boolean", [pd.NA, True]),
    "lists": ([["x"], ["x", "y"]], "object", [["x", "y"], ["x"]]),
    "anything": (["a", 1], "object", [1, "a"]),
    "half a character": (["\ud800", "b"], "string", ["b", "\\ud800"]),
    "nothing": ([..., ...], "object", [None, None]),
}


@pytest.mark.parametrize("case", METADATA)
def test_a_column_of_metadata_fits_all_runs(tmp_path: Path, case: str) -> None:
    values, dtype, expected = METADATA[case]
    catalog = Catalog(tmp_path / "catalog")
    for value in values:
        put(catalog, {"det": [0.5]}, sample={} if value is ... else {"size": value})
    table = catalog.to_dask(metadata="sample.size")
    result = computed(table)["sample.size"]
    assert str(table["sample.size"].dtype) == str(result.dtype) == dtype
    assert equal(result.tolist(), expected)


# --------------------------------------------------------------------------------- what it reads


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files of a catalog are read."""
    noted: list[str] = []

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def read(self: Folder, path: str, *args: Any, **options: Any) -> Any:
            noted.append(path)
            return original(self, path, *args, **options)

        return read

    for name in ("read", "read_end"):
        monkeypatch.setattr(Folder, name, noting(getattr(Folder, name)))
    return noted


def test_making_it_opens_one_run(many: Catalog, reads: list[str]) -> None:
    len(many)
    reads.clear()
    table = many.to_dask(metadata=["sample.name"])
    assert len({os.path.dirname(path) for path in reads if path.endswith(".jsonl") and path[0] != "_"}) == 1
    assert len([path for path in reads if path.endswith(".parquet")]) == 1
    reads.clear()
    assert table["det"].dtype == "float64"
    assert not reads


def test_a_page_is_read_by_its_own_partition_alone(many: Catalog, reads: list[str]) -> None:
    table = many.to_dask(columns=["det"])
    reads.clear()
    computed(table.get_partition(0))
    assert len(reads) == 2
    reads.clear()
    computed(table.get_partition(1))  # of the same run
    assert [path.rpartition("/")[2] for path in reads] == ["00001.parquet"]


def test_only_the_columns_that_are_asked_for_are_read(many: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str] | None]] = []
    original = PageFile.read

    def noting(self: PageFile, columns: Any = "all", keys: Any = None) -> Any:
        asked.append((columns, keys))
        return original(self, columns, keys)

    table, expected = many.to_dask(), together(many)["det"].sum()
    monkeypatch.setattr(PageFile, "read", noting)
    assert float(table["det"].sum().compute(scheduler="synchronous")) == expected
    assert asked
    assert set(map(repr, asked)) == {repr(("data", ["det"]))}
    asked.clear()
    assert len(computed(table[["uid", "time"]])) == 77
    assert set(map(repr, asked)) == {repr(("shown", []))}


def test_uids_and_metadata_need_no_page(many: Catalog, reads: list[str]) -> None:
    table = many.to_dask(metadata="sample.name")
    reads.clear()
    counts = table["sample.name"].value_counts().compute(scheduler="synchronous")
    assert counts.to_dict() == {"of 45": 45, "of 28": 28, "of 3": 3, "of 1": 1}
    assert not [path for path in reads if path.endswith(".parquet")]


def test_one_column_of_a_large_page_is_read_by_its_byte_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(tmp_path / "catalog")
    begun, rows = make.start(), 20_000
    described = make.descriptor(begun, [f"key{number}" for number in range(10)])
    values = np.random.default_rng(5).random((10, rows))
    data = {f"key{number}": values[number].tolist() for number in range(10)}
    page = make.event_page(described, range(1, rows + 1), data)
    for pair in [("start", begun), ("descriptor", described), ("event_page", page), ("stop", make.stop(begun))]:
        catalog.insert(*pair)
    (path,) = Path(catalog.folder.url).glob("*/*/*/*/primary/*.parquet")
    assert path.stat().st_size > 3 << 19
    table = catalog.to_dask()
    with path.open("rb") as file:
        counting = _Counting(file)
        monkeypatch.setattr(pa, "OSFile", lambda source: pa.PythonFile(counting))
        assert table["key3"].sum().compute(scheduler="synchronous") == pytest.approx(values[3].sum())
    metadata = pq.ParquetFile(path).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    column = sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema == "key3")
    assert column <= counting.bytes < column + (64 << 10) + 1024  # pyarrow takes 64 KiB for the footer


class _Counting:
    """A file that counts how many bytes are read of it."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.bytes = file, 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_runs_out_of_the_time_range_are_not_opened(many: Catalog, reads: list[str]) -> None:
    runs = list(many)  # newest first, an hour apart
    since, until = runs[2].start["time"] - 1, runs[1].start["time"] + HOUR / 2
    whole = together(many)
    reads.clear()
    table = many.to_dask(columns=["det"], since=since, until=until)
    assert table.npartitions == sum(len(run.files.files) for run in runs[1:3])
    assert set(computed(table)["uid"]) == {runs[1].uid, runs[2].uid}
    assert {run.directory for run in runs if any(run.directory in path for path in reads)} == {
        runs[number].directory
        for number in (0, 1, 2)  # the newest for the dtypes
    }
    expected = whole[(whole["time"] >= since) & (whole["time"] <= until)].reset_index(drop=True)
    assert_same(table, expected[["seq_num", "time", "det", "uid"]])


@pytest.mark.parametrize(("low", "high"), [(5, 12), (None, 12), (30, None), (12.0, 12.0), (13.25, 13.75), (44, 46)])
def test_events_out_of_the_time_range_are_left_out(many: Catalog, low: float | None, high: float | None) -> None:
    (run,) = many.search({"sample.name": "of 45"})
    begun = run.descriptors[0]["time"]
    limits = {name: None if value is None else begun + value for name, value in [("since", low), ("until", high)]}
    whole = together(many)
    keep = (whole["time"] >= (limits["since"] or 0)) & (whole["time"] <= (limits["until"] or np.inf))
    expected = whole[keep].reset_index(drop=True)
    assert_same(many.to_dask(columns=["det"], **limits), expected[["seq_num", "time", "det", "uid"]])
    assert computed(many.to_dask(columns=["det"], **limits)["det"]).tolist() == expected["det"].tolist()
    assert len(many.to_dask(columns=["det"], **limits)) == len(expected)


def test_of_a_page_out_of_the_time_range_only_the_times_are_read(
    many: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = many.search({"sample.name": "of 45"})
    asked: list[str] = []
    original = PageFile.read
    until = run.descriptors[0]["time"] + 5.5
    table = many.search({"sample.name": "of 45"}).to_dask(columns=["image"], until=until)

    def noting(self: PageFile, columns: Any = "all", keys: Any = None) -> Any:
        asked.append(repr(keys))
        return original(self, columns, keys)

    monkeypatch.setattr(PageFile, "read", noting)
    assert len(computed(table)) == 5
    assert asked.count("['image']") == 1
    assert asked.count("[]") == table.npartitions > 3


# ----------------------------------------------------------------------------- runs in progress


@pytest.mark.parametrize("rows", [3, 25])
def test_a_run_in_progress_is_one_partition_that_grows(tmp_path: Path, small_segments: None, rows: int) -> None:
    catalog = Catalog(tmp_path / "catalog")
    put(catalog, {"det": [0.5]})
    begun = make.start(time=make.T0 + 1000 * HOUR)
    described = make.descriptor(begun)
    catalog.insert("start", begun)
    catalog.insert("descriptor", described)
    for number in range(1, rows + 1):
        catalog.insert("event", make.event(described, number, {"det": float(number)}))
    table = catalog.to_dask(metadata="scan_id")
    assert table.npartitions == 2
    assert computed(table)["det"].tolist() == [*map(float, range(1, rows + 1)), 0.5]
    for number in range(rows + 1, rows + 15):
        catalog.insert("event", make.event(described, number, {"det": float(number)}))
    assert computed(table)["det"].tolist() == [*map(float, range(1, rows + 15)), 0.5]
    late = catalog.to_dask(since=begun["time"] + rows + 10)
    assert computed(late)["det"].tolist() == [float(number) for number in range(rows + 10, rows + 15)]
    catalog.insert("stop", make.stop(begun))
    assert computed(table)["det"].tolist() == [*map(float, range(1, rows + 15)), 0.5]
    assert catalog.to_dask().npartitions > table.npartitions if rows > 9 else True


def test_a_run_in_progress_without_events_does_no_harm(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    put(catalog, {"det": [0.5]})
    put(catalog, {"det": []}, stop=False)
    assert computed(catalog.to_dask())["det"].tolist() == [0.5]
    catalog.close()


def test_tables_made_at_different_times_are_not_taken_for_the_same(many: Catalog) -> None:
    assert many.to_dask()._name != many.to_dask()._name


# ---------------------------------------------------------------------------------- what is wrong


def test_a_search_that_nothing_answers_gives_an_empty_table(many: Catalog) -> None:
    for table in (
        many.search({"plan_name": "none"}).to_dask(metadata="scan_id"),
        many.to_dask(metadata="scan_id", until=make.T0),
    ):
        assert table.columns.tolist()[:4] == ["uid", "scan_id", "seq_num", "time"]
        result = computed(table)
        assert (len(result), str(result["det"].dtype), str(result["image"].dtype)) == (0, "float64", "object")
        assert np.isnan(table["det"].mean().compute(scheduler="synchronous"))


def test_a_catalog_without_runs_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"there are no runs in .*nobody knows what columns"):
        Catalog(tmp_path / "catalog").to_dask()


def test_an_unknown_stream_is_refused_at_once(many: Catalog) -> None:
    with pytest.raises(
        UnknownStream, match=r"none of the 4 runs in .* has events in a stream 'x'; they have .'primary'"
    ):
        many.to_dask("x")


def test_an_unknown_data_key_is_refused_at_once(many: Catalog) -> None:
    with pytest.raises(UnknownField, match=r"none of the newest 20 runs .* has \['dte'\].*dtypes=\{'dte': 'float64'\}"):
        many.to_dask(columns=["det", "dte"])
    assert np.isnan(computed(many.to_dask(columns=["dte"], dtypes={"dte": "float64"}))["dte"]).all()


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"dtypes": {"det": "int32"}}, InvalidOption, "'int32'.*one of float64, Int64"),
        ({"dtypes": {"dte": "object"}}, InvalidOption, r"\['dte'\], which the newest run"),
        ({"columns": [1]}, InvalidQuery, "columns names 1, a int"),
        ({"metadata": [None]}, InvalidQuery, "metadata names None"),
        ({"since": "yesteryear"}, InvalidQuery, "failed to parse time"),
    ],
)
def test_slips_of_the_finger_are_told(many: Catalog, options: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        many.to_dask(**options)


def test_without_dask_one_is_told_how_to_install_it(many: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(MissingPackage, match=r'pip install "filebroker\[dask\]"'):
        many.to_dask()


def test_a_damaged_page_is_an_error_that_names_its_run(many: Catalog) -> None:
    table = many.to_dask(columns=["det"])
    (run,) = many.search({"sample.name": "of 3"})
    page = Path(many.folder.url) / run.directory / "primary" / "00000.parquet"
    data = bytearray(page.read_bytes())
    data[100] ^= 1
    page.write_bytes(data)
    with pytest.raises(DamagedRun, match=rf"run '{run.uid}' in .*00000.parquet.*SHA-256 differs.*'\$ne': '{run.uid}'"):
        computed(table)
    page.unlink()
    with pytest.raises(DamagedRun, match=rf"run '{run.uid}' .*00000.parquet is missing"):
        computed(many.to_dask(columns=["det"]))
    assert len(computed(many.search({"uid": {"$ne": run.uid}}).to_dask(columns=["det"]))) == 74


def test_a_run_that_is_being_copied_is_an_error(many: Catalog) -> None:
    table = many.to_dask(columns=["det"])
    (run,) = many.search({"sample.name": "of 45"})
    directory = Path(many.folder.url) / run.directory
    lines = (directory / "documents.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "documents.jsonl").unlink()
    (directory / "journal.00000.jsonl").write_bytes(b"".join(lines[1:3]))
    with pytest.raises(StorageError, match=f"the run in .*{run.uid} is not all there yet"):
        computed(table)


def test_a_page_that_only_the_list_of_runs_knows_is_an_error(many: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    original = dask_frames.Manifest.pages_at

    def more(self: Any, paths: Any) -> Any:
        return {path: (*pages, "primary/00099.parquet") for path, pages in original(self, paths).items()}

    monkeypatch.setattr(dask_frames.Manifest, "pages_at", more)
    with pytest.raises(DamagedRun, match=r"it has no page primary/00099\.parquet of stream 'primary'"):
        computed(many.to_dask())


def test_of_a_damaged_run_in_progress_nothing_is_taken_for_all(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    uid = put(catalog, {"det": [0.5, 1.5, 2.5]}, stop=False)
    table = catalog.to_dask()
    assert computed(table)["det"].tolist() == [0.5, 1.5, 2.5]
    (journal,) = Path(catalog.folder.url).glob("*/*/*/*/journal.*")
    journal.write_bytes(journal.read_bytes().replace(b'"det":1.5', b'"det":9.5'))
    with pytest.raises(DamagedRun, match=f"run '{uid}' in .* is damaged"):
        computed(table)
    catalog.close()


def test_a_run_that_was_removed_is_passed_over_as_everywhere(many: Catalog) -> None:
    table = many.to_dask(columns=["det"])
    (run,) = many.search({"sample.name": "of 45"})
    shutil.rmtree(Path(many.folder.url) / run.directory)
    assert len(computed(table)) == 32


def test_removed_runs_are_not_tried_for_ever(many: Catalog) -> None:
    for _ in range(25):
        put(many, {"det": [0.5]})
    runs = list(many)
    for run in runs[:19]:
        shutil.rmtree(Path(many.folder.url) / run.directory)
    assert len(computed(many.to_dask(columns=["det"]))) == 6 + 77
    shutil.rmtree(Path(many.folder.url) / runs[19].directory)
    with pytest.raises(DamagedRun, match=r"20 of the runs in .* cannot be read, .*refresh\(\)"):
        many.to_dask()
    many.refresh()
    assert len(computed(many.to_dask(columns=["det"]))) == 5 + 77


def spoilt(page: Path) -> None:
    page.write_bytes(b"junk" * 100)


@pytest.mark.parametrize("harm", [spoilt, Path.unlink])
@pytest.mark.parametrize("count", [1, 19])
def test_where_all_runs_are_damaged_their_stream_is_not_called_unknown(
    tmp_path: Path, reads: list[str], harm: Callable[[Path], None], count: int
) -> None:
    catalog = Catalog(tmp_path / "catalog")
    for _ in range(count):
        put(catalog, {"det": [0.5]})
    pages = list(Path(catalog.folder.url).glob(PAGES))
    for page in pages:
        harm(page)
    reads.clear()
    told = rf"{count} of the runs in .* cannot be read, the last of them the one in .*00000\.parquet.*refresh\(\)"
    with pytest.raises(DamagedRun, match=told):
        catalog.search({}).to_dask()
    assert len([path for path in reads if path.endswith("documents.jsonl")]) == len(pages) == count
    with pytest.raises(UnknownStream):
        catalog.to_dask("dark")
    put(catalog, {"other": [0.5]})
    assert catalog.to_dask().columns.tolist()[-1] == "other"
    with pytest.raises(UnknownField, match=rf"'other'\], and {count} more cannot be read"):
        catalog.to_dask(columns=["det"])


def test_lost_names_of_pages_are_noticed(many: Catalog) -> None:
    expected = together(many)
    database = many.library.manifest
    with database.writing():
        database._connection.execute("UPDATE documents SET pages = replace(pages, 'primary', 'prilary')")
    with pytest.warns(match="cannot be used .the pages of a run are not those that were put in.; it is made anew"):
        table = many.to_dask(columns=["det"])
    assert_same(table, expected[["seq_num", "time", "det", "uid"]])


# ------------------------------------------------------------------------------------ on workers


def tasks_of(table: DataFrame) -> list[bytes]:
    """Give the tasks as dask sends them to workers."""
    return [pickle.dumps(task) for task in dict(table.optimize().__dask_graph__()).values()]


def test_tasks_are_small_and_carry_no_documents(many: Catalog) -> None:
    for number in range(20):
        put(many, {"det": [0.5]}, comment="a canary of the documents", sample={"name": str(number)})
    table = many.to_dask(columns=["det"], metadata=["sample.name"])
    list(many)  # which are then open
    computed(table)
    tasks = tasks_of(table)
    assert len(tasks) == table.npartitions > 20
    assert max(map(len, tasks)) < 1024
    assert not [task for task in tasks if b"canary" in task or b"Catalog" in task or b"RunFiles" in task]


def test_worker_processes_compute_it_from_a_bucket(
    many: Catalog, s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    url, options = s3_url
    uploaded(many, url, options)
    for name in ("key", "secret"):
        monkeypatch.setenv(f"BEAMTIME_{name.upper()}", f"canary-5ecre7-{name}")
    named = {"key": {"env": "BEAMTIME_KEY"}, "secret": {"env": "BEAMTIME_SECRET"}}
    catalog = Catalog(url, storage_options=options | named)
    table = catalog.to_dask(columns=["det", "count"], metadata="sample.name")
    expected = together(catalog)[["seq_num", "time", "det", "count", "uid"]]
    assert not [task for task in tasks_of(table) if b"5ecre7" in task or b"BEAMTIME_KEY" not in task]
    cluster = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=50)
    with cluster, Client(cluster) as client:
        result = table.compute()
        pd.testing.assert_frame_equal(result.reset_index(drop=True)[expected.columns.tolist()], expected)
        maxima = table.groupby("sample.name")["det"].max().compute().to_dict()
        assert maxima == {"of 3": 1.0, "of 45": 22.0, "of 1": 0.0, "of 28": 13.5}
        assert set(client.run(os.getpid).values()).isdisjoint({os.getpid()})
        uid = next(iter(catalog)).uid
        bucket = fsspec.filesystem("s3", **options, use_listings_cache=False)
        (page,) = [path for path in bucket.find(url) if f"{uid}/primary/00001" in path]
        bucket.pipe_file(page, b"PAR1")
        with pytest.raises(DamagedRun, match=f"run '{uid}' in .*00001.parquet is not the file that was sealed"):
            catalog.to_dask(columns=["det"]).sum(numeric_only=True).compute()


def test_a_partition_takes_two_requests(
    many: Catalog, s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE", "")  # as on a worker elsewhere
    url, options = s3_url
    uploaded(many, url, options)
    with Proxy(options["endpoint_url"]) as proxy:
        table = Catalog(url, storage_options=options | {"endpoint_url": proxy.url}).to_dask(columns=["det"])
        for number, requests in [(1, 2), (2, 1)]:  # pages of one run, whose documents are read once
            proxy.clear()
            assert len(computed(table.get_partition(number)))
            assert len(proxy.requests) == proxy.count(r"GET .*(documents\.jsonl|0000\d\.parquet)") == requests


@pytest.fixture
def behind_proxy(s3_url: tuple[str, dict[str, Any]]) -> Iterator[Callable[..., tuple[Catalog, Proxy]]]:
    """Give what puts a catalog into a bucket, and opens it there behind a proxy."""
    url, options = s3_url
    with Proxy(options["endpoint_url"]) as proxy:

        def opened(catalog: Catalog) -> tuple[Catalog, Proxy]:
            uploaded(catalog, url, options)
            return Catalog(url, storage_options=options | {"endpoint_url": proxy.url}, read_only=True), proxy

        yield opened


@pytest.fixture
def large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all pages of stores count as too large to be fetched whole."""
    monkeypatch.setattr(run_files, "SMALL_PAGE_BYTES", 0)


def test_without_the_network_there_is_what_was_read_before(
    many: Catalog, behind_proxy: Callable[..., tuple[Catalog, Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, proxy = behind_proxy(many)
    expected = together(catalog)
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.5")
    monkeypatch.setattr(Library, "sync", lambda self: None)  # that the newest may be missing is told elsewhere
    proxy.clear()
    proxy.fault("", "reset")
    table = catalog.to_dask(columns=["det"], metadata="scan_id")
    assert_same(table, expected[["seq_num", "time", "det", "uid"]])
    assert not proxy.requests


def test_a_run_that_was_removed_from_a_store_is_passed_over_or_an_error_but_never_there_in_part(
    many: Catalog, behind_proxy: Callable[..., tuple[Catalog, Proxy]], s3_url: tuple[str, dict[str, Any]]
) -> None:
    catalog, _ = behind_proxy(many)
    bucket = fsspec.filesystem("s3", **s3_url[1], use_listings_cache=False)
    unread, known = (catalog.search({"sample.name": name}).newest(1) for name in ("of 1", "of 45"))
    table = catalog.search({"sample.name": {"$in": ["of 28", "of 1"]}}).to_dask(columns=["det"])
    place = catalog.folder.path(unread.directory)
    lines = bucket.cat_file(f"{place}/documents.jsonl").splitlines(keepends=True)
    bucket.rm(place, recursive=True)
    bucket.pipe_file(f"{place}/journal.00000.jsonl", b"".join(lines[1:3]))
    with pytest.raises(StorageError, match="is not all there yet"):
        computed(table)
    bucket.rm(place, recursive=True)
    assert len(computed(table)) == 28
    assert known.files.state == "sealed"  # which leaves its documents on this machine, and not its pages
    bucket.rm(catalog.folder.path(known.directory), recursive=True)
    with pytest.raises(DamagedRun, match=rf"run '{known.uid}' .* is missing.*refresh\(\)"):
        computed(catalog.to_dask(columns=["det"]))
    catalog.refresh()
    assert len(computed(catalog.to_dask(columns=["det"]))) == 31


def test_a_page_is_opened_once_to_choose_its_events_and_to_read_them(
    many: Catalog, behind_proxy: Callable[..., tuple[Catalog, Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE", "")  # as on a worker elsewhere
    catalog, proxy = behind_proxy(many)
    begun = catalog.search({"sample.name": "of 45"}).newest(1).start["time"]
    table = catalog.to_dask(columns=["det"], since=begun + 5, until=begun + 40)
    proxy.clear()
    assert 0 < len(computed(table)) < 45
    assert len(proxy.requests) == len(set(proxy.requests)) == 1 + table.npartitions


def test_the_footer_of_a_large_page_is_read_once(
    many: Catalog,
    large_pages: None,
    behind_proxy: Callable[..., tuple[Catalog, Proxy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    catalog, _ = behind_proxy(many)
    run = catalog.search({"sample.name": "of 45"}).newest(1)
    sizes = {entry["bytes"] for entry in run.files.files}
    table = catalog.to_dask(columns=["det"], since=run.start["time"] + 5, until=run.start["time"] + 40)
    asked: list[tuple[int, int]] = []
    original = Remote.read_ranges

    def noting(self: Remote, name: str, version: str, ranges: Any, **options: Any) -> list[bytes]:
        asked.extend(ranges)
        return original(self, name, version, ranges, **options)

    monkeypatch.setattr(Remote, "read_ranges", noting)
    assert 0 < len(computed(table)) < 45
    assert sum(high in sizes for _, high in asked) == table.npartitions


def test_a_bit_that_flips_on_the_way_does_no_harm(
    tmp_path: Path, large_pages: None, behind_proxy: Callable[..., tuple[Catalog, Proxy]]
) -> None:
    recorded = Catalog(tmp_path / "catalog")
    put(recorded, {"det": [0.0, 0.5, 1.0]})
    catalog, proxy = behind_proxy(recorded)
    proxy.fault(r"primary/.*\.parquet", "corrupt", first=1, last=1)  # the footer
    table = catalog.to_dask(columns=["det"])
    assert proxy.count(r"primary/.*\.parquet") > 1
    proxy.clear()
    proxy.fault(r"primary/.*\.parquet", "corrupt", first=1, last=1)  # the column
    assert computed(table["det"]).tolist() == [0.0, 0.5, 1.0]
    assert proxy.count(r"primary/.*\.parquet") > 1
    proxy.clear()
    assert computed(catalog.to_dask(columns=["det"])["det"]).tolist() == [0.0, 0.5, 1.0]
    assert not proxy.count(r"primary/.*\.parquet")  # what is kept are not the flipped bits


def test_partitions_of_one_run_that_begin_at_once_read_its_documents_once(
    many: Catalog, behind_proxy: Callable[..., tuple[Catalog, Proxy]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    catalog, proxy = behind_proxy(many)
    runs = catalog.search({"sample.name": "of 45"})
    table = runs.to_dask(columns=["det"])
    proxy.clear()
    proxy.delay = 0.05
    assert len(table.compute(scheduler="threads", num_workers=8)) == 45
    assert proxy.count("documents.jsonl") == 1 < table.npartitions
    table = runs.to_dask(columns=["det"])
    proxy.clear()
    proxy.fault("documents.jsonl", "403")
    proxy.delay = 0.05
    with pytest.raises(StorageError, match=r"documents\.jsonl"):  # and nobody waits for it for ever
        table.compute(scheduler="threads", num_workers=8)
    proxy.clear()
    assert len(computed(table)) == 45


def test_workers_elsewhere_do_not_miss_a_run_on_its_way_to_the_store(
    s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = s3_url
    catalog = Catalog(url, storage_options=options)
    with monkeypatch.context() as lost_network:
        lost_network.setattr(Outbox, "send", lambda self: None)
        uid = put(catalog, {"det": [0.5, 1.5]})
        table = catalog.to_dask(columns=["det"])
    assert table.npartitions == 1
    assert computed(table)["uid"].tolist() == [uid, uid]  # this process has it
    elsewhere = pickle.loads(pickle.dumps(table.expr.func))
    elsewhere.folder.staged = None  # another machine has none of it
    partitions._opened.renew_locks()  # and nothing open
    directory = catalog.newest(1).directory
    with pytest.raises(StorageError, match=r"run in s3://.* is not all there yet: .*flush\(\)"):
        elsewhere(directory, "primary/00000.parquet", None)
    put(catalog, {"det": [2.5]})
    catalog.flush()
    assert elsewhere(directory, "primary/00000.parquet", None)["det"].tolist() == [0.5, 1.5]
    catalog.close()


# -------------------------------------------------------------------------- without filebroker

PAGES = "*/*/*/*/primary/*.parquet"
POLARS = {"missing_columns": "insert", "extra_columns": "ignore"}


def test_duckdb_and_polars_read_the_same_pages(place: Catalog, s3_url: tuple[str, dict[str, Any]]) -> None:
    whole = together(place)
    expected = len(whole), whole["det"].mean()
    url, options = (place.folder.url, {}) if place.folder.local else s3_url
    endpoint = {name: options[key] for name, key in DIALECT.items() if key in options}
    if not place.folder.local:
        duckdb.register_filesystem(fsspec.filesystem("s3", **options))
    found = duckdb.sql(f"SELECT count(*), avg(det) FROM read_parquet('{url}/{PAGES}', union_by_name=true)").fetchall()[
        0
    ]
    assert found == pytest.approx(expected)
    lazy = polars.scan_parquet(f"{url}/{PAGES}", storage_options=endpoint, **POLARS).select("det")
    table = lazy.collect()["det"]
    assert (len(table), table.mean()) == pytest.approx(expected)


#: How Polars names what fsspec's S3 filesystem takes.
DIALECT = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_endpoint_url": "endpoint_url"}


def test_polars_needs_to_be_told_what_columns_are_of_where_runs_differ(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    put(catalog, {"det": [1, 2], "note": ["x", "y"]})
    put(catalog, {"det": [0.5]})
    pages = f"{catalog.folder.url}/{PAGES}"
    casting = polars.ScanCastOptions(integer_cast="allow-float")
    told = polars.scan_parquet(pages, schema={"det": polars.Float64}, cast_options=casting, **POLARS).collect()
    assert sorted(told["det"].to_list()) == [0.5, 1.0, 2.0]
    assert duckdb.sql(f"SELECT sum(det) FROM read_parquet('{pages}', union_by_name=true)").fetchall() == [(3.5,)]
