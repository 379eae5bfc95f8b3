"""Exports: what is chosen, how files are named, what happens when something is wrong, and the command."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import factories as make
from exports import HANDLERS, IMAGES, odd_run, record, run_with_images, scan
from filebroker import AssetExists, Broker, Handlers, InvalidOption, NotSupported, export_runs
from filebroker.commands.main import main
from filebroker.transfer.outgoing.exporting import export_to
from filebroker.transfer.outgoing.names import check_template, file_name
from filebroker.transfer.outgoing.target import Target
from test_export import FORMATS, read_jsonl

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def broker(tmp_path: Path) -> Broker:
    return Broker(tmp_path / "catalog")


def names_in(directory: str) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file())


# -- what is chosen


def test_streams_and_fields_are_chosen(broker: Broker) -> None:
    record(broker, scan())
    run = broker.catalog.newest(1)
    chosen: dict[str, Any] = {"streams": ["primary"], "fields": ["det"]}
    for form in FORMATS:
        assert export_runs(run, f"out/{form}", form, **chosen).ok
    (path,) = Path("out/csv").iterdir()
    assert pd.read_csv(path).columns.tolist() == ["seq_num", "time", "det"]
    (path,) = Path("out/parquet").iterdir()
    assert pd.read_parquet(path).columns.tolist() == ["seq_num", "time", "det"]
    (path,) = Path("out/nexus").iterdir()
    with h5py.File(path) as file:
        assert sorted(file["entry/primary"]) == ["det", "epoch", "seq_num", "time"]
        assert sorted(file["entry/instrument"]) == ["det"]
        assert "baseline" not in file["entry"]


def test_documents_keep_nothing_that_only_others_need(broker: Broker, tmp_path: Path) -> None:
    record(broker, run_with_images(tmp_path / "images"))
    (path,) = export_runs(broker.catalog.newest(1), "out", "jsonl", fields=["sums", "det"]).files
    pairs = read_jsonl(path)
    names = [name for name, _ in pairs]
    assert names == ["start", "descriptor", "stream_resource", "stream_datum", "event", "event", "event", "stop"]
    assert pairs[2][1]["data_key"] == "sums"
    assert list(pairs[1][1]["data_keys"]) == list(pairs[1][1]["object_keys"]) == ["sums", "det"]
    assert [doc["data"] for name, doc in pairs if name == "event"] == [{"det": 0.0}, {"det": 1.0}, {"det": 2.0}]
    again = Broker(tmp_path / "again")
    for pair in pairs:
        again.insert(*pair)
    assert again[-1].table(fill=True)["sums"].tolist() == IMAGES.sum((1, 2)).tolist()


def test_documents_of_some_streams_tell_of_these_alone(broker: Broker) -> None:
    record(broker, scan())
    (path,) = export_runs(broker.catalog.newest(1), "out", "jsonl", streams=["baseline"]).files
    pairs = read_jsonl(path)
    assert [name for name, _ in pairs] == ["start", "descriptor", "event", "event", "stop"]
    assert pairs[-1][1]["num_events"] == {"baseline": 2}


def test_files_of_fields_that_are_not_wanted_are_not_copied(broker: Broker, tmp_path: Path) -> None:
    record(broker, run_with_images(tmp_path / "images"))
    options: dict[str, Any] = {"fields": ["sums"], "images": "copy", "handlers": HANDLERS}
    export_runs(broker.catalog.newest(1), "out", "csv", **options)
    assert [name.rpartition("/")[2] for name in names_in("out")] == ["new.h5", names_in("out")[1]]


def test_what_is_asked_for_and_not_there_is_a_problem_of_that_run(broker: Broker) -> None:
    record(broker, scan(scan_id=1))
    record(broker, make.run(2, scan_id=2, time=make.T0 + 1))
    report = export_runs(broker.catalog, "out", "csv", streams=["primary", "baseline"], fields=["det", "motor"])
    assert [problem.why for problem in report.problems] == [
        "it has no stream 'baseline'; it has ['primary']",
        "its streams ['primary'] have no field 'motor'",
    ]
    assert report.runs == 2
    assert len(report.files) == 2


# -- names


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{scan_id}_{uid:.8}", "7_84d9ee44"),
        ("run {scan_id:04}", "run%200007"),
        ("{time:%Y-%m-%d}", "2025-11-22"),
        ("{sample.name}", "%2E.%2F..%2F%7Buid%7D"),
        ("x{none}{sample.none.deeper}", "xnonenone"),
        ("{{{scan_id}}}", "%7B7%7D"),
        ("{uid.upper}", "none"),
        ("{name}", "%43ON"),
        ("{time:.3}", "176"),
        ("{name:%Y}", "%43ON"),
    ],
)
def test_names_come_from_a_template_that_documents_cannot_write(template: str, name: str) -> None:
    start = {"uid": "84d9ee44-1f", "time": make.T0, "scan_id": 7, "name": "CON", "sample": {"name": "../../{uid}"}}
    check_template(template)
    assert file_name(template, start) == name


@pytest.mark.parametrize("template", ["", "a/b", "a\\b", "../{uid}", "{", "a}", "{uid:x}", "{uid!r:x}", "{}", "a\x00"])
def test_templates_that_make_no_sense_are_refused(broker: Broker, template: str) -> None:
    with pytest.raises(InvalidOption, match="file_name"):
        export_runs(broker.catalog, "out", "csv", file_name=template)
    assert not Path("out").exists()


def test_hostile_names_stay_in_the_directory(broker: Broker) -> None:
    begun = make.start(uid="../../escaped", scan_id="/etc/x")
    named = make.descriptor(begun, {"../../k": make.data_key("array", shape=[2, 2], external="X:")}, name="../../s")
    pairs = [("start", begun), ("descriptor", named), ("event", make.event(named, 1, {"../../k": "none"}))]
    record(broker, [*pairs, ("stop", make.stop(begun))])
    for form in FORMATS:
        for images in ("reference", "copy", "convert"):
            export_runs(broker.catalog, f"out/{form}/{images}", form, images=images)
            assert len(names_in(f"out/{form}/{images}")) == 1
    assert sorted({*os.listdir()} - {".cache"}) == ["out"]


def test_very_long_names_fit(broker: Broker) -> None:
    begun = make.start(uid="u" * 500, scan_id="s" * 500)
    named = make.descriptor(begun, name="n" * 500)
    record(broker, [("start", begun), ("descriptor", named), ("event", make.event(named)), ("stop", make.stop(begun))])
    for form in FORMATS:
        assert export_runs(broker.catalog, f"out/{form}", form, file_name="{scan_id}").ok


def test_runs_of_one_name_get_different_files(broker: Broker) -> None:
    for number in range(3):
        record(broker, make.run(1, scan_id=1, time=make.T0 + number))
    report = export_runs(broker.catalog, "out", "csv", file_name="{scan_id}")
    assert report.ok
    assert len(set(report.files)) == 3


def test_streams_that_differ_in_case_alone_get_different_files(broker: Broker) -> None:
    begun = make.start()
    named = [make.descriptor(begun, name=name) for name in ("primary", "Primary")]
    events = [("event", make.event(doc)) for doc in named]
    record(broker, [("start", begun), *(("descriptor", doc) for doc in named), *events, ("stop", make.stop(begun))])
    report = export_runs(broker.catalog, "out", "csv")
    assert len({path.casefold() for path in report.files}) == 2


# -- files that are there


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_there_is_refused_or_replaced(broker: Broker, form: str) -> None:
    record(broker, make.run(1))
    (path,) = export_runs(broker.catalog, "out", form).files
    Path(path).write_bytes(b"mine")
    report = export_runs(broker.catalog, "out", form)
    assert not report.ok
    assert "is there already" in str(report)
    assert Path(path).read_bytes() == b"mine"
    assert export_runs(broker.catalog, "out", form, overwrite=True).ok
    assert Path(path).read_bytes() != b"mine"
    assert len(os.listdir("out")) == 1


def test_a_file_that_appears_meanwhile_stays() -> None:
    target = Target("out")
    writing = target.file("x")
    writing.__enter__().write(b"ours")
    Path("out/x").write_bytes(b"theirs")
    with pytest.raises(AssetExists, match="meanwhile"):
        writing.__exit__(None, None, None)
    assert Path("out/x").read_bytes() == b"theirs"
    assert os.listdir("out") == ["x"]


@pytest.mark.parametrize("form", FORMATS)
def test_files_appear_whole_or_not_at_all(broker: Broker, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record(broker, make.run(3))

    def interrupted(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_runs(broker.catalog, "out", form, progress=interrupted)
    assert names_in("out") == [] or form in ("csv", "parquet")
    assert not [name for name in names_in("out") if name.endswith(".tmp")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "nexus"])  # HDF5 has a process of its own below
def test_a_full_disk_is_a_problem_that_is_named(broker: Broker, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record(broker, make.run(3))

    def full(self: Any, name: str) -> Any:
        import contextlib

        @contextlib.contextmanager
        def path() -> Any:
            with original(self, name) as temporary:
                os.symlink("/dev/full", temporary)
                yield temporary

        return path()

    original = Target.path
    monkeypatch.setattr(Target, "path", full)
    report = export_runs(broker.catalog, "out", form)
    assert not report.ok
    assert report.files == []
    assert os.listdir("out") == []


# -- what is wrong


def test_a_damaged_run_stops_nothing_else(broker: Broker, tmp_path: Path) -> None:
    record(broker, make.run(3, time=make.T0))
    record(broker, scan(time=make.T0 + 1))
    record(broker, make.run(3, time=make.T0 + 2))
    broker.close()
    first, second, _ = sorted((tmp_path / "catalog").glob("*/*/*/*"))
    (first / "documents.jsonl").write_bytes(b"rubbish")
    page = second / "primary" / "00000.parquet"
    page.write_bytes(page.read_bytes()[:-20])
    for form in FORMATS:
        again = Broker(tmp_path / "catalog")
        for catalog in (again.catalog, again.catalog):  # a warning comes once, a problem always
            report = export_runs(catalog, f"out/{form}", form, overwrite=True)
            told = str(report)
            assert report.runs == 2, told
            assert "is not the file that was sealed" in told, told
            assert len([problem for problem in report.problems if problem.run != broker[-2].uid]) == 1, told
            assert first.name in told, told


def test_a_missing_image_is_named_and_the_others_are_exported(broker: Broker, tmp_path: Path) -> None:
    record(broker, run_with_images(tmp_path / "images"))
    (tmp_path / "images" / "old_1.npy").unlink()
    for form in FORMATS:
        report = export_runs(broker.catalog, f"out/{form}", form, images="convert", handlers=HANDLERS)
        if form != "spec":
            assert "old_1.npy" in str(report), form
        assert report.runs == 1
    (path,) = Path("out/nexus").iterdir()
    with h5py.File(path) as file:
        assert np.array_equal(file["entry/primary/old"][2], IMAGES[2])
        assert not file["entry/primary/old"][1].any()
    (path,) = Path("out/csv").glob("*.csv")
    assert pd.read_csv(path)["old"].isna().tolist() == [False, True, False]
    report = export_runs(broker.catalog, "out/copies", "csv", images="copy", handlers=HANDLERS)
    assert [problem.where.rpartition("/")[2] for problem in report.problems] == ["old_1.npy"]
    assert len(report.files) == 4


def test_a_missing_handler_is_told(broker: Broker, tmp_path: Path) -> None:
    record(broker, run_with_images(tmp_path / "images"))
    for form in ("nexus", "parquet", "jsonl"):
        report = export_runs(broker.catalog, f"out/{form}", form, images="convert", handlers=Handlers(discover=False))
        assert "no handler reads 'TEST_NPY'" in str(report)
        assert report.runs == 1


def test_a_run_in_progress_is_exported_up_to_now(broker: Broker) -> None:
    record(broker, scan()[:-1])
    for form in FORMATS:
        report = export_runs(broker.catalog, f"out/{form}", form)
        assert report.ok, report
        assert "it is still in progress" in report.notes[-1]
    (path,) = Path("out/csv").glob("*primary.csv")
    assert len(pd.read_csv(path)) == 11


def test_options_that_mean_nothing_are_refused_before_anything_is_written(broker: Broker) -> None:
    for form, options in (("hdf", {}), ("csv", {"images": "all"}), ("csv", {"streams": [5]})):
        with pytest.raises((InvalidOption, ValueError)):
            export_runs(broker.catalog, "out", form, **options)
    with pytest.raises(NotSupported, match="local directories"):
        export_runs(broker.catalog, "s3://bucket/out", "csv")
    with pytest.raises(TypeError, match="is no run"):
        export_runs(["84d9ee44"], "out", "csv")


# -- whatever there is


@pytest.mark.parametrize("form", FORMATS)
def test_every_run_of_the_example_can_be_exported(form: str) -> None:
    runs = Broker.named("example").catalog
    report = export_runs(runs, "out", form, images="convert")
    assert report.ok, report
    assert report.runs == len(runs) == 22


@pytest.mark.skipif(not DATA.is_dir(), reason="real runs are not at hand")
@pytest.mark.parametrize("form", FORMATS)
def test_real_runs_can_be_exported(broker: Broker, form: str) -> None:
    for path in (DATA / "bluesky-tutorials").glob("*.jsonl"):
        for name, doc in map(json.loads, path.read_text().splitlines()):
            broker.insert(name, doc)
    for path in (DATA / "apstools-2025").glob("*.json"):
        for name, doc in json.loads(path.read_text()):
            broker.insert(name, doc)
    report = export_runs(broker.catalog, "out", form)
    assert report.ok, report
    assert report.runs == len(broker.catalog) == 24
    if form == "csv":
        for run in broker.catalog:
            for stream in run.stream_names:
                (path,) = (path for path in report.files if f"_{run.uid[:8]}_{stream}" in path)
                assert len(pd.read_csv(path)) == len(run[stream])


def test_runs_in_a_store_can_be_exported() -> None:
    broker = Broker("memory://exported")
    uid = record(broker, scan())
    broker.flush()
    broker.close()
    for form in FORMATS:
        assert export_runs(Broker("memory://exported").catalog.by_uid(uid), f"out/{form}", form).ok
    assert len(names_in("out")) == 10


# -- the command


def test_the_command_exports_a_search(capsys: pytest.CaptureFixture) -> None:
    assert main(["export", "example", "plan_name=scan", "--format", "csv", "--stream", "primary", "--to", "out"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 5
    assert captured.err == ""
    assert all(Path(line).is_file() for line in captured.out.splitlines())
    assert main(["export", "example", "--run", "-1", "--format", "csv", "--to", "out"]) == 1
    assert "overwrite" in capsys.readouterr().err
    assert main(["export", "example", "--run", "-1", "--format", "csv", "--to", "out", "--overwrite"]) == 0
    assert main(["export", "example", "nosuchword", "--format", "spec", "--to", "out"]) == 0
    assert "no run matches" in capsys.readouterr().err


def test_one_run_goes_to_the_standard_output(capfdbinary: pytest.CaptureFixture) -> None:
    assert main(["export", "example", "--run", "-1", "--format", "csv", "--field", "motor", "--to", "-"]) == 0
    out = capfdbinary.readouterr().out
    assert out.splitlines()[0] == b"seq_num,time,motor"
    assert len(out.splitlines()) == 12
    assert main(["export", "example", "--run", "-1", "--format", "jsonl", "--to", "-"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [name for name, _ in lines][:: len(lines) - 1] == ["start", "stop"]
    for wrong, why in (
        (["--format", "csv"], "room for one run"),
        (["--format", "nexus", "--run", "-1"], "cannot be written to an open file"),
        (["--format", "csv", "--run", "-1", "--images", "copy"], "makes files"),
        (["--format", "csv", "--run", "-1", "--stream", "none"], "has no stream"),
        (["--format", "csv", "--run", "-1", "--stream", "primary", "--stream", "baseline"], "CSV has one stream"),
    ):
        assert main(["export", "example", *wrong, "--to", "-"]) == 1
        assert why in capfdbinary.readouterr().err.decode()


def test_runs_can_be_given_in_many_ways(broker: Broker) -> None:
    record(broker, odd_run())
    run = broker.catalog.newest(1)
    ways = (run, [run], iter([run]), broker, broker.catalog, broker.catalog.search({"scan_id": 1}))
    for number, runs in enumerate((*ways, broker[-1], broker[-1:], broker(scan_id=1), broker.v2)):
        assert export_runs(runs, f"out/{number}", "jsonl").runs == 1
    assert len({Path(path).read_bytes() for path in Path("out").glob("*/*")}) == 1
    with open("one.csv", "wb") as file:
        assert export_to(run, file, "csv").ok


def test_headers_bring_the_handlers_of_their_broker(broker: Broker, tmp_path: Path) -> None:
    record(broker, run_with_images(tmp_path / "images"))
    (tmp_path / "images").rename(tmp_path / "moved")
    moved = {str(tmp_path / "images"): str(tmp_path / "moved")}
    again = Broker(tmp_path / "catalog", handlers=Handlers(HANDLERS.handler_reg, moved, discover=False))
    for number, runs in enumerate((again, again[-1], again[-1:], again(scan_id=1))):
        assert export_runs(runs, f"out/{number}", "nexus", images="convert").ok


def test_the_command_refuses_an_empty_target_and_tells_the_first_problems(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "example", "--format", "csv", "--to", ""]) == 1
    assert "the name of the directory is empty" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export"])
    assert "WORD" not in capsys.readouterr().err.splitlines()[-1]
    for _ in range(25):
        record(broker, scan())
    assert main(["export", broker.catalog.folder.url, "--format", "csv", "--to", "out", "--field", "mottor"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 21
    assert told[-1] == "and 5 more like these"


_LIMITED = """
import resource, signal, sys
from filebroker import Catalog, export_runs

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
print(export_runs(Catalog(sys.argv[1], read_only=True), "out", "nexus").problems[0].why)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of files are of POSIX")
@pytest.mark.parametrize("limit", [500_000, 2_000_000])
def test_a_file_of_hdf5_that_cannot_grow_is_a_problem_and_not_the_end_of_the_process(
    broker: Broker, limit: int
) -> None:
    begun = make.start()
    described = make.descriptor(begun, {"spectrum": make.data_key("array", shape=[1000])})
    noise = np.random.default_rng(1).random((500, 1000)).tolist()
    events = [("event", make.event(described, row, {"spectrum": noise[row - 1]})) for row in range(1, 501)]
    record(broker, [("start", begun), ("descriptor", described), *events, ("stop", make.stop(begun, {"primary": 500}))])
    place = broker.catalog.folder.url
    done = subprocess.run([sys.executable, "-c", _LIMITED, place, str(limit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot write" in done.stdout
    assert os.listdir("out") == []


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9, 0.98, 0.999])
def test_a_nexus_file_that_the_disk_has_no_room_for_is_a_problem_and_not_the_end(broker: Broker, part: float) -> None:
    resource = pytest.importorskip("resource")
    record(broker, scan())
    run = broker.catalog.newest(1)
    size = os.path.getsize(export_runs(run, "whole", "nexus").files[0])
    _, most = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * size), most))
    try:
        report = export_runs(run, "full", "nexus")
        gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in str(report.problems[0])
    assert names_in("full") == []
    assert export_runs(run, "full", "nexus").ok
