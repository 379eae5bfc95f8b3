"""Exported runs are read back by other programs, and are what they were."""

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import msgpack
import msgpack_numpy
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import exports
import factories as make
from equality import first_difference
from exports import HANDLERS, IMAGES, ODD_FIELDS, odd_run, record, run_with_images, scan
from filebroker import Broker, export_runs
from filebroker.cataloging.stream_tables import StreamTable
from filebroker.storing.recorder import Recorder
from filebroker.transfer.outgoing import rows
from filebroker.transfer.outgoing.cells import kind_of, survey
from filebroker.transfer.outgoing.hdf5 import text_of

FORMATS = ("csv", "parquet", "jsonl", "msgpack", "nexus", "spec")


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path / "catalog")


def exported(broker: Broker, pairs: list[tuple[str, Any]], form: str, **options: Any) -> list[str]:
    """Record a run unless it is there, export it, and give the files."""
    uid = pairs[0][1]["uid"]
    run = broker.catalog.of_uid(uid) or broker.catalog.by_uid(record(broker, pairs))
    report = export_runs(run, f"out/{form}", form, **options)
    assert report.ok, report
    assert [str(path) for path in sorted(Path(f"out/{form}").resolve().rglob("*")) if path.is_file()] == sorted(
        report.files
    )
    return report.files


# -- tables


def test_csv_read_by_pandas_is_the_table(broker: Broker) -> None:
    files = exported(broker, scan(), "csv")
    assert [path.rpartition("_")[2] for path in files] == ["baseline.csv", "primary.csv", "%2E.%2Fdark%20frame.csv"]
    table = broker[-1].table(convert_times=False, localize_times=False)
    found = pd.read_csv(files[1], index_col="seq_num")
    pd.testing.assert_frame_equal(found, table)
    local = broker[-1].table()["time"]
    assert pd.to_datetime(found["time"], unit="s").tolist() == broker[-1].table(localize_times=False)["time"].tolist()
    assert len(local) == len(found)


def test_csv_has_each_value_as_text_that_can_be_read_back(broker: Broker) -> None:
    (path,) = exported(broker, odd_run(), "csv")
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    assert head == [
        "seq_num",
        "time",
        *({"time": "_data.time", "seq_num": "_data.seq_num"}.get(n, n) for n in ODD_FIELDS),
    ]
    cells = {name: [row[place + 2] for row in rows] for place, name in enumerate(ODD_FIELDS)}
    for name in ("number", "count", "huge", "beyond", "../x", "time", "seq_num"):
        values = ODD_FIELDS[name][1]
        assert [float(cell) for cell in cells[name] if cell] == [float(v) for v in values if v == v]
    assert cells["huge"] == [str(2**63), "0", "1"]
    assert cells["beyond"] == [str(2**70), "0", "1"]
    assert cells["text"] == ODD_FIELDS["text"][1]
    assert cells["gappy text"] == ["a", "", "-b"]
    assert cells["flag"] == ["True", "False", "True"]
    assert cells["nothing"] == ["", "", ""]
    for name in ("spectrum", "ragged", "no numbers", "plane", "names", "tree"):
        assert [json.loads(cell) for cell in cells[name]] == ODD_FIELDS[name][1]
    assert cells["mixed"] == ["1", "two", "3.0"]


def test_formulas_are_made_harmless_in_csv_on_request(broker: Broker) -> None:
    (path,) = exported(broker, odd_run(), "csv", safe=True, fields=["text", "gappy text", "number"])
    with open(path, newline="") as file:
        _, *rows = csv.reader(file)
    assert [row[3:] for row in rows][1:] == [["", ""], ["'=1+1", "'-b"]]
    assert rows[2][2] == "-1e+300"  # a number is none


def test_parquet_has_the_types_of_the_table(broker: Broker) -> None:
    files = exported(broker, scan(), "parquet")
    for path, name in zip(files, ("baseline", "primary", "../dark frame"), strict=True):
        table = StreamTable(broker.catalog.newest(1)[name])
        found = pd.read_parquet(path)
        assert {str(key): str(dtype) for key, dtype in found.dtypes.items()} == table.dtypes
        pd.testing.assert_frame_equal(found, table.read())


def test_parquet_has_lists_for_arrays_and_json_for_what_is_of_no_one_kind(broker: Broker) -> None:
    (path,) = exported(broker, odd_run(), "parquet")
    table = pq.read_table(path)
    found = table.to_pydict()
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert types["spectrum"] == "list<element: int64>"
    assert types["plane"] == "list<element: list<element: int64>>"
    assert types["huge"] == "uint64"
    assert types["gappy flag"] == types["flag"] == "bool"
    for name in ("count", "huge", "flag", "gappy flag", "text", "gappy text", "spectrum", "gappy spectrum", "plane"):
        assert found[name] == ODD_FIELDS[name][1], name
    assert found["ragged"] == [[1.0], [2.0, 3.0], []]
    assert found["no numbers"] == [[], [], []]
    for name in ("names", "tree", "mixed", "beyond"):
        assert [json.loads(cell) for cell in found[name]] == ODD_FIELDS[name][1]
    assert found["nothing"] == [None] * 3
    documents = {key: json.loads(value) for key, value in table.schema.metadata.items() if key.startswith(b"bluesky.")}
    assert documents[b"bluesky.start"] == broker.catalog.newest(1).start
    assert documents[b"bluesky.stop"]["exit_status"] == "success"


def test_columns_of_several_descriptors_have_gaps_where_one_lacks_them(broker: Broker) -> None:
    begun = make.start()
    one, other = make.descriptor(begun, ["a", "b"]), make.descriptor(begun, ["b", "c"])
    events = [("event", make.event(one, 1, {"a": 1.0, "b": 2.0})), ("event", make.event(other, 2, {"b": 3.0, "c": 4}))]
    pairs = [("start", begun), ("descriptor", one), ("descriptor", other), *events, ("stop", make.stop(begun))]
    (path,) = exported(broker, pairs, "csv")
    assert Path(path).read_text().splitlines()[1:] == [
        f"1,{begun['time'] + 1.5},1.0,2.0,",
        f"2,{begun['time'] + 2.5},,3.0,4.0",
    ]
    (path,) = exported(broker, pairs, "nexus")
    with h5py.File(path) as file:
        assert file["entry/primary/b"][:].tolist() == [2.0, 3.0]
        assert np.isnan(file["entry/primary/a"][1])


BIG = 2**53 + 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, float("nan")], None),
        ([1, BIG], "array int64 ()"),
        ([1, None], "array float64 ()"),
        ([BIG, None], "json"),
        ([2**63 + 1, 0], "array uint64 ()"),
        ([2**63 + 1, -1], "json"),
        ([True, False], "array bool ()"),
        ([True, None], "array float64 ()"),
        ([True, 5], "json"),
        ([1, 2.5], "json"),
        (["a", None], "text"),
        (["a", 1], "json"),
        ([[1, 2], [3, 4]], "array int64 (2,)"),
        ([[1, 2], None], "array float64 (2,)"),
        ([[1, BIG], None], "ragged int64"),
        ([[[1]], [[2]]], "array int64 (1, 1)"),
        ([[1], [2, 3]], "ragged int64"),
        ([[], []], "ragged float64"),
        ([[], [1]], "ragged int64"),
        ([[[1]], [[2, 3]]], "json"),
        ([["a"], ["b"]], "json"),
        ([[1, None]], "json"),
        ([{"a": 1}], "json"),
        ([np.float32([1]), np.float32([2])], "array float32 (1,)"),
        ([np.array([1], ">u2")], "array uint16 (1,)"),
    ],
)
def test_cells_are_told_apart_so_that_nothing_is_lost(values: list[Any], kind: str | None) -> None:
    found = kind_of(values)
    told = None if found is None else " ".join(map(str, found if found.form == "array" else found[:2]))
    assert (told or "").removesuffix(" object") == (kind or "")


@pytest.mark.parametrize(
    ("one", "other", "form"),
    [
        ([1], [2.5], "json"),
        ([1], [[2]], "json"),
        (["a"], [1.5], "json"),
        ([[1, 2]], [[3, 4]], "array"),
        ([[1, 2]], [[3, 4, 5]], "ragged"),
        ([[1, 2]], [[3], [4, 5]], "ragged"),
        ([[[1]]], [[[1, 2]]], "json"),
        ([[[1]]], [[1]], "json"),
    ],
)
def test_pages_of_different_cells_have_a_kind_together(one: list[Any], other: list[Any], form: str) -> None:
    for pages in ((one, other), (other, one)):
        assert survey({"x": page} for page in pages)["x"].form == form


# -- several pages


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run of 25 events make several pages, of which a few rows are exported at a time."""
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
    monkeypatch.setattr(rows, "_ROWS_AT_ONCE", 4)


def long_run(directory: Path) -> list[tuple[str, Any]]:
    """Make a run of 25 events whose arrays have another length in the end, and with an image each."""
    begun = make.start()
    array, image = make.data_key("array", shape=[2]), make.data_key("array", shape=[2, 3], external="X:")
    primary = make.descriptor(begun, {"x": "number", "label": "string", "list": array, "image": image})
    held = make.resource(begun, spec="TEST_NPY", root=str(directory), resource_path="old")
    directory.mkdir()
    events = []
    for row in range(25):
        np.save(directory / f"old_{row}.npy", np.full((2, 3), row))
        data = {
            "x": row / 3,
            "label": f"n{row}",
            "list": [row] * (2 if row < 15 else 3),
            "image": f"{held['uid']}/{row}",
        }
        events += [("datum", make.datum(held, row)), ("event", make.event(primary, row + 1, data))]
    return [("start", begun), ("descriptor", primary), ("resource", held), *events, ("stop", make.stop(begun))]


@pytest.mark.usefixtures("pages")
def test_pages_follow_each_other(broker: Broker, tmp_path: Path) -> None:
    pairs = long_run(tmp_path / "images")
    lists = [[row] * (2 if row < 15 else 3) for row in range(25)]
    options: dict[str, Any] = {"images": "convert", "handlers": HANDLERS}
    (path,) = exported(broker, pairs, "nexus", **options)
    assert StreamTable(broker.catalog.newest(1)["primary"]).npartitions > 2
    with h5py.File(path) as file:
        data = file["entry/primary"]
        assert data["x"][:].tolist() == [row / 3 for row in range(25)]
        assert data["label"].asstr()[:].tolist() == [f"n{row}" for row in range(25)]
        assert [cell.tolist() for cell in data["list"][:]] == lists
        assert data["image"][:, 0, 0].tolist() == list(range(25))
    (path,) = (path for path in exported(broker, pairs, "csv", **options) if path.endswith("csv"))
    frame = pd.read_csv(path)
    assert [json.loads(cell) for cell in frame["list"]] == lists
    assert frame["image"].str[-11:].tolist() == [f"{row:06}.tiff" for row in range(1, 26)]
    (path,) = (path for path in exported(broker, pairs, "parquet", **options) if path.endswith("parquet"))
    assert pq.read_table(path)["list"].to_pylist() == lists
    (path,) = (path for path in exported(broker, pairs, "spec", **options) if path.endswith("spec"))
    assert [row[-1] for row in read_spec(path)[0]["rows"]] == [row / 3 for row in range(25)]


@pytest.mark.usefixtures("pages")
def test_images_stay_with_their_events_if_a_page_is_lost(broker: Broker, tmp_path: Path) -> None:
    record(broker, long_run(tmp_path / "images"))
    broker.close()
    (lost,) = (tmp_path / "catalog").glob("*/*/*/*/primary/00001.parquet")
    numbers = pq.read_table(lost)["x"].to_pylist()
    lost.unlink()
    report = export_runs(Broker(tmp_path / "catalog"), "out", "nexus", images="convert", handlers=HANDLERS)
    assert "00001.parquet is missing" in str(report)
    with h5py.File(report.files[0]) as file:
        data = file["entry/primary"]
        assert len(data["x"]) == 25 - len(numbers)
        assert data["image"][:, 0, 0].tolist() == [round(3 * x) for x in data["x"]]


# -- documents


def read_jsonl(path: str) -> list[tuple[str, Any]]:
    """Read JSON lines as databroker does."""
    with open(path) as file:
        return [(name, doc) for name, doc in map(json.loads, file)]


def read_msgpack(path: str) -> list[tuple[str, Any]]:
    """Read msgpack as databroker does."""
    with open(path, "rb") as file:
        return [tuple(pair) for pair in msgpack.Unpacker(file, object_hook=msgpack_numpy.decode, raw=False)]


def paged_run() -> list[tuple[str, Any]]:
    begun = make.start()
    primary = make.descriptor(begun)
    page = make.event_page(primary)
    return [("start", begun), ("descriptor", primary), ("event_page", page), ("stop", make.stop(begun))]


@pytest.mark.parametrize("make_run", [scan, odd_run, lambda: make.run(0), paged_run])
@pytest.mark.parametrize(("form", "read"), [("jsonl", read_jsonl), ("msgpack", read_msgpack)])
def test_documents_come_back_as_they_were(broker: Broker, form: str, read: Any, make_run: Any) -> None:
    pairs = json.loads(json.dumps(make_run()).replace(str(2**70), "70")) if form == "msgpack" else make_run()
    (path,) = exported(broker, pairs, form)
    assert first_difference(list(broker.catalog.newest(1).documents()), read(path)) == ""


def test_jsonl_is_what_suitcase_writes(broker: Broker, tmp_path: Path) -> None:
    import suitcase.jsonl

    pairs = scan()
    (path,) = exported(broker, pairs, "jsonl")
    suitcase.jsonl.export(broker.catalog.newest(1).documents(), tmp_path / "suitcase")
    (theirs,) = (tmp_path / "suitcase").iterdir()
    assert first_difference(read_jsonl(str(theirs)), read_jsonl(path)) == ""


def test_msgpack_is_what_suitcase_writes_but_for_its_pages(broker: Broker, tmp_path: Path) -> None:
    import event_model
    import suitcase.msgpack

    (path,) = exported(broker, scan(), "msgpack")
    suitcase.msgpack.export(broker.catalog.newest(1).documents(), tmp_path / "suitcase")
    (theirs,) = (tmp_path / "suitcase").iterdir()
    singles = []
    for name, doc in read_msgpack(str(theirs)):
        page = event_model.unpack_event_page(doc) if name == "event_page" else [doc]
        singles += [("event" if name == "event_page" else name, one) for one in page]
    assert first_difference(singles, read_msgpack(path)) == ""


def test_what_msgpack_has_no_room_for_is_refused_by_name(broker: Broker) -> None:
    run = broker.catalog.by_uid(record(broker, odd_run()))
    report = export_runs(run, "out", "msgpack")
    (problem,) = report.problems
    assert "holds what msgpack has no room for" in problem.why
    assert "Export it as jsonl" in problem.why
    assert list(Path("out").iterdir()) == []


# -- NeXus


def test_nexus_says_what_to_plot(broker: Broker) -> None:
    (path,) = exported(broker, scan(), "nexus")
    with h5py.File(path) as file:
        assert dict(file.attrs)["default"] == "entry"
        entry = file["entry"]
        assert entry.attrs["default"] == "primary"
        data = entry["primary"]
        told = {"NX_class": "NXdata", "signal": "det", "axes": ["motor"], "motor_indices": 0}
        assert {key: _plain(data.attrs[key]) for key in told} == told
        assert _plain(data["det"].attrs["units"]) == "counts"
        table = broker[-1].table(convert_times=False, localize_times=False)
        for key in ("det", "motor", "motor_setpoint"):
            assert data[key][:].tolist() == table[key].tolist()
        assert data["epoch"][:].tolist() == table["time"].tolist()
        assert data["time"][:].tolist() == [time - make.T0 for time in table["time"]]
        assert data["seq_num"][:].tolist() == list(range(1, 12))


@pytest.mark.parametrize(
    ("places", "axis"),
    [([0.0, 1.0, 3.0], "m"), ([2.0, 1.0, -3.0], "m"), ([0.0, 3.0, 1.0], "."), ([1.0, 1.0, 1.0], "."),
     ([0.0, float("nan"), 2.0], "."), ([], None)],
)  # fmt: skip
def test_spectra_are_drawn_over_a_motor_only_if_it_moves_one_way(
    broker: Broker, places: list[float], axis: str | None
) -> None:
    begun = make.start(hints={"dimensions": [[["m"], "primary"]]}, motors=["m"])
    keys = {"m": "number", "s": make.data_key("array", shape=[3])}
    primary = make.descriptor(begun, keys, hints={"d": {"fields": ["s"]}})
    events = [("event", make.event(primary, n, {"m": place, "s": [n, 2.0, 3.0]})) for n, place in enumerate(places, 1)]
    (path,) = exported(
        broker, [("start", begun), ("descriptor", primary), *events, ("stop", make.stop(begun))], "nexus"
    )
    with h5py.File(path) as file:
        data = file["entry/primary"]
        if axis is None:
            assert _plain(data.attrs["NX_class"]) == "NXcollection", "nothing can be plotted of no events"
        else:
            assert (_plain(data.attrs["signal"]), _plain(data.attrs["axes"])) == ("s", [axis, "."])
            assert _plain(data.attrs["m_indices"]) == 0


def test_nexus_has_the_instrument_and_the_documents(broker: Broker) -> None:
    (path,) = exported(broker, scan(sample={"name": "LaB6"}), "nexus")
    run = broker.catalog.newest(1)
    with h5py.File(path) as file:
        entry = file["entry"]
        assert entry["start_time"][()] == b"2025-11-22T11:12:05.250000+00:00"
        assert entry["end_time"][()] == b"2025-11-22T11:13:45.250000+00:00"
        assert (entry["duration"][()], entry["entry_identifier"].asstr()[()]) == (100.0, run.uid)
        instrument = entry["instrument"]
        classes = {name: instrument[name].attrs["NX_class"] for name in instrument}
        assert classes == {
            **{"det": "NXdetector", "motor": "NXpositioner", "temperature": "NXcollection"},
            **{"sample__x": "NXcollection", "dark": "NXdetector"},
        }
        assert instrument["motor/value"] == entry["primary/motor"]
        assert instrument["det/data"] == entry["primary/det"]
        assert instrument["det/configuration/exposure"][()] == 0.5
        assert instrument["det/configuration/exposure"].attrs["units"] == "s"
        assert instrument["det/configuration/mask"][:].tolist() == [[1, 0]]
        assert json.loads(entry["bluesky/start_document"][()]) == run.start
        assert json.loads(entry["bluesky/stop_document"][()]) == run.stop
        assert json.loads(entry["bluesky/descriptor_documents"][()])[0]["name"] == "primary"
        assert entry["bluesky/start/plan_name"][()] == b"scan"
        assert entry["sample/name"][()] == b"LaB6"
        assert entry["___dark_frame"].attrs["stream"] == "../dark frame"


def test_nexus_has_a_place_for_every_kind_of_value(broker: Broker) -> None:
    (path,) = exported(broker, odd_run(), "nexus")
    with h5py.File(path) as file:
        data = file["entry/primary"]
        named = {data[name].attrs.get("data_key", name): data[name] for name in data}
        assert named.keys() >= {text_of(name) for name in ODD_FIELDS} - {"time", "seq_num"}
        for name in ("count", "huge", "flag", "spectrum", "plane", "a/b", "a_b", "a b"):
            assert named[name][:].tolist() == ODD_FIELDS[name][1]
        assert np.array_equal(named["gappy spectrum"][:], [[1.5, 2.5], [np.nan] * 2, [3.5, 4.5]], equal_nan=True)
        for name in ("ragged", "no numbers"):
            assert [cell.tolist() for cell in named[name][:]] == ODD_FIELDS[name][1]
        assert named["text"].asstr()[:].tolist() == ODD_FIELDS["text"][1]
        assert named["gappy text"].asstr()[:].tolist() == ["a", "", "-b"]
        for name in ("names", "tree", "mixed", "beyond"):
            assert [json.loads(cell) for cell in named[name].asstr()[:]] == ODD_FIELDS[name][1]
        assert named["nul\\x00"].asstr()[:].tolist() == ["a\\x00b", "c", "d"]
        assert data["_data_time"][:].tolist() == [7.0, 8.0, 9.0]


def test_two_motors_make_points_in_a_plane(broker: Broker) -> None:
    hints = {"dimensions": [[["x"], "primary"], [["y"], "primary"]]}
    begun = make.start(hints=hints)
    primary = make.descriptor(begun, ["x", "y", "det"], hints={"det": {"fields": ["det"]}})
    pairs = [("start", begun), ("descriptor", primary), ("event", make.event(primary, 1)), ("stop", make.stop(begun))]
    (path,) = exported(broker, pairs, "nexus")
    with h5py.File(path) as file:
        assert _plain(file["entry/primary"].attrs["axes"]) == ["x", "y"]


def test_a_stream_without_numbers_is_no_plot(broker: Broker) -> None:
    (path,) = exported(broker, make.run(2, {"label": "string"}), "nexus")
    with h5py.File(path) as file:
        assert file["entry/primary"].attrs["NX_class"] == "NXcollection"
        assert "default" not in file["entry"].attrs


def test_hints_that_make_no_sense_are_passed_over(broker: Broker) -> None:
    for number, hints in enumerate((5, {"dimensions": "x"}, {"dimensions": [["x"], 5, [["none", 3], "primary"]]})):
        begun = make.start(hints=hints)
        told = {"det": {"fields": ["none", 5]}, "x": 7}
        primary = make.descriptor(begun, hints=told, object_keys=None, configuration=[])
        record(broker, [("start", begun), ("descriptor", primary), ("event", make.event(primary, 1))])
        for form in ("nexus", "spec"):
            report = export_runs(broker.catalog.newest(1), f"out_{number}", form)
            assert report.ok, report


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


# -- SPEC


def read_spec(path: str) -> list[dict[str, Any]]:
    """Read a SPEC file as its manual has it: scans with labels, numbers, and the positions of motors."""
    scans: list[dict[str, Any]] = []
    motors: list[str] = []
    for line in Path(path).read_text().splitlines():
        key, _, rest = line.partition(" ")
        if key.startswith("#O"):
            motors += rest.split("  ")
        elif key == "#S":
            number, _, command = rest.partition("  ")
            scans.append({"number": int(number), "command": command, "rows": [], "positions": []})
        elif key.startswith("#P"):
            scans[-1]["positions"] += map(float, rest.split())
        elif key == "#N":
            scans[-1]["columns"] = int(rest)
        elif key == "#L":
            scans[-1]["labels"] = rest.split("  ")
        elif line and not line.startswith("#"):
            scans[-1]["rows"].append([float(cell) for cell in line.split(" ")])
    for found in scans:
        assert found["columns"] == len(found["labels"]) == len(set(found["labels"]))
        assert all(len(row) == found["columns"] for row in found["rows"])
        found["motors"] = dict(zip(motors, found["positions"], strict=True))
    return scans


def test_spec_has_a_scan_of_each_stream_and_the_baseline_as_positions(broker: Broker) -> None:
    (path,) = exported(broker, scan(scan_id=42), "spec")
    primary, dark = read_spec(path)
    assert (primary["number"], primary["command"]) == (42, "scan(num=11)")
    assert primary["labels"] == ["motor", "Epoch", "motor_setpoint", "det"]
    assert primary["motors"] == {"temperature": 300.5, "sample_x": -1.0}
    table = broker[-1].table(convert_times=False, localize_times=False)
    assert [row[0] for row in primary["rows"]] == table["motor"].tolist()
    assert [row[3] for row in primary["rows"]] == table["det"].tolist()
    assert [row[1] for row in primary["rows"]] == [time - int(make.T0) for time in table["time"]]
    assert dark["labels"] == ["Epoch", "dark"]


def test_spec_says_what_it_leaves_out(broker: Broker) -> None:
    run = broker.catalog.by_uid(record(broker, odd_run()))
    report = export_runs(run, "out", "spec")
    assert report.ok
    note, missing = report.notes
    assert "text, gappy text" in note
    assert missing.endswith("the scan of stream 'primary': number, gappy_flag, nothing")
    (found,) = read_spec(report.files[0])
    assert found["labels"][:3] == ["Epoch", "number", "count"]
    assert np.isnan(found["rows"][1][1])


def test_infinities_are_written_so_that_all_readers_of_spec_know_them(broker: Broker) -> None:
    begun = make.start()
    primary = make.descriptor(begun, ["a", "b"])
    values = [float("inf"), float("-inf"), 1.5]
    events = [("event", make.event(primary, n, {"a": a, "b": 1.0})) for n, a in enumerate(values, 1)]
    (path,) = exported(broker, [("start", begun), ("descriptor", primary), *events, ("stop", make.stop(begun))], "spec")
    assert "1e999" in Path(path).read_text()
    assert [row[1] for row in read_spec(path)[0]["rows"]] == values


def test_silx_reads_scans(broker: Broker) -> None:
    specfile = pytest.importorskip("silx.io.specfile")
    (path,) = exported(broker, scan(scan_id=42), "spec")
    primary, dark = specfile.SpecFile(path)
    assert (primary.number, primary.order, dark.number, dark.order) == (42, 1, 42, 2)
    assert primary.labels == ["motor", "Epoch", "motor_setpoint", "det"]
    assert (primary.motor_names, list(primary.motor_positions)) == (["temperature", "sample_x"], [300.5, -1.0])
    assert primary.data_column_by_name("det").tolist() == broker[-1].table()["det"].tolist()


def test_silx_finds_the_plot(broker: Broker, tmp_path: Path) -> None:
    nxdata, io = pytest.importorskip("silx.io.nxdata"), pytest.importorskip("silx.io")
    for pairs, signal, axes in (
        (scan(), "det", ["motor"]),
        (odd_run(), "number", ["time"]),
        (run_with_images(tmp_path / "images"), "old", ["time", None, None]),
    ):
        (path,) = exported(broker, pairs, "nexus", images="convert", handlers=HANDLERS, overwrite=True)
        with io.open(path) as file:
            plot = nxdata.get_default(file)
            assert plot.is_valid
            assert (plot.signal.name.rpartition("/")[2], plot.axes_dataset_names) == (signal, axes)
        Path(path).unlink()


# -- images


def test_images_become_datasets_of_a_nexus_file(broker: Broker, tmp_path: Path) -> None:
    pairs = run_with_images(tmp_path / "images")
    (path,) = exported(broker, pairs, "nexus", images="convert", handlers=HANDLERS)
    with h5py.File(path) as file:
        data = file["entry/primary"]
        assert np.array_equal(data["old"], IMAGES)
        assert np.array_equal(np.squeeze(data["new"]), IMAGES + 1)
        assert data["old"].dtype == "uint16"
        assert data["old"].chunks[1:] == (4, 5)
        assert data["sums"][:].tolist() == IMAGES.sum((1, 2)).tolist()
        assert _plain(data.attrs["signal"]) == "old"
        assert _plain(data.attrs["axes"]) == ["time", ".", "."]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_images_become_tiff_files_beside_a_table(broker: Broker, tmp_path: Path, form: str) -> None:
    import tifffile

    files = exported(broker, run_with_images(tmp_path / "images"), form, images="convert", handlers=HANDLERS)
    (table,) = (path for path in files if path.endswith(form))
    frame = pd.read_csv(table) if form == "csv" else pd.read_parquet(table)
    for row, name in enumerate(frame["old"]):
        assert np.array_equal(tifffile.imread(Path(table).parent / name), IMAGES[row])
        assert np.array_equal(np.squeeze(tifffile.imread(Path(table).parent / frame["new"][row])), IMAGES[row] + 1)
    assert frame["sums"].tolist() == IMAGES.sum((1, 2)).tolist()
    assert len(files) == 7


@pytest.mark.parametrize(("form", "read"), [("jsonl", read_jsonl), ("msgpack", read_msgpack)])
def test_images_are_put_into_events(broker: Broker, tmp_path: Path, form: str, read: Any) -> None:
    (path,) = exported(broker, run_with_images(tmp_path / "images"), form, images="convert", handlers=HANDLERS)
    events = [doc for name, doc in read(path) if name == "event"]
    for row, event in enumerate(events):
        assert np.array_equal(event["data"]["old"], IMAGES[row])
        assert event["filled"]["old"]
        assert np.array_equal(np.squeeze(event["data"]["new"]), IMAGES[row] + 1)


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_copied_beside(broker: Broker, tmp_path: Path, form: str) -> None:
    pairs = run_with_images(tmp_path / "images")
    files = exported(broker, pairs, form, images="copy", handlers=HANDLERS)
    copies = {Path(path).name: Path(path).read_bytes() for path in files if "_files/" in path}
    assert copies == {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}


def test_documents_tell_of_the_copies(broker: Broker, tmp_path: Path) -> None:
    pairs = run_with_images(tmp_path / "images")
    path = exported(broker, pairs, "jsonl", images="copy", handlers=HANDLERS)[0]
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    again = Broker(tmp_path / "again", handlers=exports.HANDLERS)
    for name, doc in read_jsonl(path):
        again.insert(name, doc)
    table = again[-1].table(fill=True)
    assert np.array_equal(np.stack(table["old"].tolist()), IMAGES)
    assert table["sums"].tolist() == IMAGES.sum((1, 2)).tolist()


def test_a_stream_without_events_has_its_values_in_files(broker: Broker, tmp_path: Path) -> None:
    pairs = [
        (name, doc) for name, doc in run_with_images(tmp_path / "images") if name not in ("event", "datum", "resource")
    ]
    for key in ("old", "det"):
        del pairs[1][1]["data_keys"][key]
    (path,) = exported(broker, pairs, "nexus", images="convert", handlers=HANDLERS)
    with h5py.File(path) as file:
        assert np.array_equal(np.squeeze(file["entry/primary/new"]), IMAGES + 1)
        assert file["entry/primary/seq_num"][:].tolist() == [1, 2, 3]
    (table,) = (
        path for path in exported(broker, pairs, "csv", images="convert", handlers=HANDLERS) if path.endswith(".csv")
    )
    assert pd.read_csv(table)["sums"].tolist() == IMAGES.sum((1, 2)).tolist()
