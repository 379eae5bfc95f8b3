"""The worked examples in catalogs/: each source of each file is opened, and does what the comments there promise."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import intake
import pandas as pd
import pytest
import yaml
from intake.catalog.local import YAMLFileCatalog

from filebroker import Broker, list_configs
from filebroker.ground.errors import ReadOnlyCatalog
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.intake.runs import IntakeRun
from filebroker.intake.streams import IntakeStream
from servers import KEY, SECRET, delete_bucket, options_for

ROOT = Path(__file__).resolve().parents[1]
CATALOGS = ROOT / "catalogs"
EXAMPLE = ROOT / "sample_data" / "example"
FILES = sorted(path.name for path in CATALOGS.glob("*.y*ml"))
#: What is in each source, as a search of the example catalog; None for other catalog files.
SOURCES: dict[tuple[str, str], dict[str, Any] | None] = {
    ("example.yml", "example"): {},
    ("s3.yml", "beamtime"): {},
    ("s3.yml", "beamtime_by_name"): {},
    ("searches.yml", "lab6"): {"text_search": "LaB6"},
    ("searches.yml", "long_scans"): {"plan_name": "scan", "num_points": {"$gt": 10}, "since": "2026-11"},
    ("searches.yml", "of_operator"): {"operator": "Ana"},
    ("searches.yml", "recent"): {},
    ("sites.yml", "laptop"): {},
    ("sites.yml", "archive"): None,
    ("sites.yml", "saved"): None,
}
OURS = [key for key, search in SOURCES.items() if search is not None]

pytestmark = pytest.mark.filterwarnings("ignore:Shell command not executed")  # Intake 2 says so of every parameter


@pytest.fixture(scope="module")
def uploaded(s3_endpoint: str) -> Iterator[str]:
    """Put the example into the buckets that the files name; give the server's endpoint."""
    files = fsspec.filesystem("s3", **options_for(s3_endpoint))
    made = {"my-bucket": "beamtime", "hall-a": "2026-11"}
    paths = [path for path in EXAMPLE.rglob("*") if path.is_file()]
    for bucket, prefix in made.items():
        files.mkdir(bucket)
        files.pipe({f"{bucket}/{prefix}/{path.relative_to(EXAMPLE).as_posix()}": path.read_bytes() for path in paths})
    yield s3_endpoint
    for bucket in made:
        delete_bucket(s3_endpoint, bucket)


@pytest.fixture
def buckets(uploaded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the environment say how to get into the buckets."""
    given = {"AWS_ENDPOINT_URL": uploaded, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    for name, value in {**given, "HALL_A_KEY": KEY, "HALL_A_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)


def uids(name: str, source: str) -> list[str]:
    """Give the uids of the runs that a source promises, newest first."""
    broker = Broker(EXAMPLE, read_only=True)
    found = [header.start["uid"] for header in broker(**(SOURCES[name, source] or {}))]
    broker.close()
    return found[:10] if source == "recent" else found


def test_every_source_of_every_file_is_tested_here() -> None:
    found = {(name, source) for name in FILES for source in yaml.safe_load((CATALOGS / name).read_text())["sources"]}
    assert found == set(SOURCES)


@pytest.mark.parametrize(("name", "source"), SOURCES)
def test_a_source_gives_the_runs_that_it_promises(buckets: None, name: str, source: str) -> None:
    opened = intake.open_catalog(str(CATALOGS / name))[source]
    assert opened.description == yaml.safe_load((CATALOGS / name).read_text())["sources"][source]["description"]
    if SOURCES[name, source] is None:
        assert isinstance(opened, YAMLFileCatalog)
        assert list(opened) == [key for file, key in SOURCES if file == os.path.basename(opened.path)]
        return
    assert type(opened) is IntakeCatalog
    expected = uids(name, source)
    assert len(expected) > 1
    assert [run.uid for run in opened.values()] == expected
    assert len(opened) == len(opened.to_dataframe()) == len(expected)
    newest = opened[-1]
    stream = "primary" if "primary" in newest else next(iter(newest))
    frame = newest[stream].read()
    assert len(frame) > 0
    pd.testing.assert_frame_equal(frame, intake.open_filebroker(EXAMPLE)[newest.uid, stream].read())
    assert repr(opened).startswith(f"<IntakeCatalog '{source}': {len(expected)} runs at ")


@pytest.mark.parametrize(("name", "source"), OURS)
def test_brokers_know_a_source_by_its_name(
    buckets: None, monkeypatch: pytest.MonkeyPatch, name: str, source: str
) -> None:
    monkeypatch.setenv("INTAKE_PATH", str(CATALOGS / name))
    assert source in list_configs()
    found = [header.start["uid"] for header in Broker.named(source)()]
    expected = uids(name, source)
    assert found[: len(expected)] == expected
    assert source == "recent" or len(found) == len(expected)


def test_brokers_know_them_all_where_intake_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAKE_PATH", str(CATALOGS))
    assert list_configs() == sorted(source for _, source in OURS)


def test_nobody_writes_to_the_example() -> None:
    for broker in (Broker.named("example"), intake.open_catalog(str(CATALOGS / "example.yml")).example.v1):
        with pytest.raises(ReadOnlyCatalog):
            broker.insert("start", {"uid": "x", "time": 0.0})


def promises(name: str) -> list[str]:
    """Give what the comments of a file say that one can type."""
    text = (CATALOGS / name).read_text()
    lines = [line[4:] for line in text.splitlines() if line.startswith("#   ")]
    prose = " ".join(line[2:] for line in text.splitlines() if line.startswith("# ") and not line.startswith("#   "))
    return lines + re.findall(r"(?:Broker\.named|intake\.open_catalog)\([^)]*\)(?:\.\w+)?", prose)


def rows(item: Any) -> int:
    """Count what is in a thing, whatever it is."""
    if isinstance(item, Broker):
        return len(item())
    return len(item.read() if isinstance(item, IntakeStream) else list(item))


@pytest.mark.parametrize("name", FILES)
def test_what_the_comments_say_can_be_typed(buckets: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(ROOT)
    known: dict[str, Any] = {"intake": intake, "Broker": Broker}
    assert len(promises(name)) >= 2
    for line in promises(name):
        if re.match(r"\w+ = ", line):
            exec(line, known)
        else:
            found = eval(line, known)
            for item in found if isinstance(found, tuple) else [found]:
                assert rows(item) > 0


def test_parameters_are_chosen_by_their_users(buckets: None) -> None:
    stores, searches = (intake.open_catalog(str(CATALOGS / name)) for name in ("s3.yml", "searches.yml"))
    for source in (stores.beamtime, stores.beamtime_by_name):
        assert source.url == "s3://my-bucket/beamtime"
        chosen = source(bucket="hall-a/2026-11")
        assert chosen.url == "s3://hall-a/2026-11"
        assert list(chosen) == list(source)
        assert chosen[-1].primary.read().equals(intake.open_filebroker(EXAMPLE)[-1].primary.read())
    starts = searches.of_operator(operator="Chen").to_dataframe(["operator"])
    assert set(starts["operator"]) == {"Chen"}
    assert len(starts) == 2
    assert len(searches.of_operator(operator="Nobody")) == 0


def test_searches_and_keys_work_through_parents(buckets: None) -> None:
    sites = intake.open_catalog(str(CATALOGS / "sites.yml"))
    assert list(sites) == ["laptop", "archive", "saved"]
    assert sites["saved", "lab6", -1, "primary"] == sites.saved.lab6[-1].primary
    assert sites["saved.lab6"][-1] == sites.saved.lab6[-1]
    assert len(sites.saved.lab6) == len(sites.laptop.search("LaB6")) == len(sites.archive.beamtime.search("LaB6")) == 4
    assert len(sites["saved.lab6.-1.primary"].read()) == len(sites.saved.lab6[-1].primary.read())
    assert next(iter(sites.saved.recent)) == "s000022_scan_0a00d92c"
    assert {"laptop", "archive", "archive.beamtime", "saved", "saved.lab6", "saved.recent"} <= set(sites.walk(depth=5))
    assert set(sites.search("bucket")) >= {"archive.beamtime"}


def test_credentials_of_the_environment_are_written_nowhere(buckets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALL_A_SECRET", "sesame")
    source = intake.open_catalog(str(CATALOGS / "s3.yml")).beamtime_by_name
    run = IntakeRun(run=-1, **source._place.arguments())
    for shown in (repr(source.storage_options), source.yaml(), repr(source.describe()), run.yaml()):
        assert "sesame" not in shown
    assert source.storage_options == {"key": {"env": "HALL_A_KEY"}, "secret": {"env": "HALL_A_SECRET"}}


def fresh(code: str, directory: Path) -> str:
    """Give what a process of its own prints, for which warnings are errors."""
    arguments = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(arguments, cwd=directory, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_example_is_opened_in_a_fresh_process() -> None:
    code = "import intake; found = intake.open_catalog('catalogs/example.yml'); print(list(found), found.example)"
    assert fresh(code, ROOT).startswith("['example'] <IntakeCatalog 'example': 22 runs at ")
    code = "import intake; print(intake.open_catalog('catalogs/example.yml').example[-1].primary.read().shape)"
    assert fresh(code, ROOT) == "(11, 5)\n"


def test_nothing_heavy_is_imported_to_open_it() -> None:
    code = """
import sys, intake
before = set(sys.modules)
found = intake.open_catalog('catalogs/example.yml').example
heavy = {'dask', 'xarray', 'panel', 'hvplot', 'h5py', 's3fs', 'bluesky', 'duckdb', 'polars', 'matplotlib'}
print(len(found), sorted(heavy & (set(sys.modules) - before)))
"""
    assert fresh(code, ROOT) == "22 []\n"


def test_files_are_opened_by_another_working_directory_and_by_patterns(own_home: Path) -> None:
    relative = os.path.relpath(CATALOGS / "example.yml", own_home)
    assert len(intake.open_catalog(relative).example) == 22
    several = intake.open_catalog([str(CATALOGS / "example.yml"), str(CATALOGS / "searches.yml")])
    assert sorted(several) == ["example", "lab6", "long_scans", "of_operator", "recent"]
    assert len(several.lab6) == 4
    assert {source for _, source in SOURCES} == set(intake.open_catalog(f"{CATALOGS}/*.yml"))
