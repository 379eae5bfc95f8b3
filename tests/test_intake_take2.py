"""Runs as Intake 2 has data: recognised, read by readers, and streams read by Intake's own."""

import importlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import intake
import pytest

import factories as make
from filebroker import Broker, Catalog
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.intake.streams import IntakeStream
from filebroker.storing.recorder import Recorder

entries = pytest.importorskip("intake.readers.entry", reason="it takes Intake 2")
datatypes = pytest.importorskip("intake.readers.datatypes")
take2 = importlib.import_module("filebroker.intake.take2")

SAMPLES = ("LaB6 standard", "copper foil")


def record(broker: Broker, *, runs: int = 4, rows: int = 3) -> None:
    """Record runs of two samples, with a number, an integer and a text in each event."""
    for number in range(runs):
        begun = make.start(scan_id=number, time=make.T0 + number, sample=SAMPLES[number % 2])
        described = make.descriptor(begun, {"det": "number", "count": "integer", "shutter": "string"})
        documents = [("start", begun), ("descriptor", described)]
        for row in range(1, rows + 1):
            data = {"det": row / 7 + number, "count": row, "shutter": ("open", "shut")[row % 2]}
            documents.append(("event", make.event(described, row, data)))
        for pair in [*documents, ("stop", make.stop(begun, {"primary": rows}))]:
            broker.insert(*pair)
    broker.flush()


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, own_home: Path) -> tuple[str, dict[str, Any]]:
    """Give the URL of a catalog and the options to get there."""
    url, options = str(own_home / "runs"), {}
    if request.param == "memory":
        url = f"memory:/{own_home}/runs"
    if request.param == "s3":
        bucket, options = request.getfixturevalue("s3_url")
        url = f"{bucket}/beamtime/runs"
    with closing(Broker(url, storage_options=options)) as broker:
        record(broker)
    return url, options


@pytest.fixture
def local(own_home: Path) -> str:
    """Give the directory of a catalog."""
    path = str(own_home / "runs")
    with closing(Broker(path)) as broker:
        record(broker)
    return path


@pytest.fixture
def many_pages(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> IntakeStream:
    """Give a stream of several pages."""
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
    path = str(own_home / "runs")
    with closing(Broker(path)) as broker:
        record(broker, runs=1, rows=75)
    stream = intake.open_filebroker(path)[-1].primary
    assert isinstance(stream, IntakeStream)
    assert stream.discover()["npartitions"] > 3
    return stream


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let nothing look at runs or open a catalog."""

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("runs were looked at")

    with monkeypatch.context() as patch:
        for kind, name in [(Runs, "documents"), (Runs, "__iter__"), (Runs, "__len__"), (Run, "__init__")]:
            patch.setattr(kind, name, fail)
        patch.setattr(Catalog, "__init__", fail)
        yield patch


# ------------------------------------------------------------------------------------- recognised


def test_a_catalog_is_recognised(place: tuple[str, dict[str, Any]]) -> None:
    url, options = place
    for written in (url, f"{url}/"):
        assert intake.recommend(written, storage_options=options) == [take2.FilebrokerCatalog]
    data = intake.recommend(url, storage_options=options)[0](url, storage_options=options)
    assert data.possible_readers["importable"][0] is take2.FilebrokerReader
    found = data.to_reader().read()
    assert type(found) is IntakeCatalog
    assert len(found) == 4
    assert found[-1].primary.read()["count"].tolist() == [1, 2, 3]
    assert found == intake.open_filebroker(url, storage_options=options)


def test_it_is_recognised_in_a_fresh_process(local: str) -> None:
    code = "import intake, sys; print(intake.recommend(sys.argv[1])[0](sys.argv[1]).to_reader().read())"
    done = subprocess.run([sys.executable, "-c", code, local], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("<IntakeCatalog 'filebroker': 4 runs at ")


def test_a_relative_path_is_recognised(local: str, own_home: Path, tmp_path: Path, unread: pytest.MonkeyPatch) -> None:
    assert intake.recommend("runs") == intake.recommend(f"file://{local}") == [take2.FilebrokerCatalog]
    found = take2.FilebrokerCatalog("runs").to_reader().read()
    assert found == intake.open_filebroker(local)


def test_other_directories_and_files_are_not_taken_for_catalogs(local: str, own_home: Path) -> None:
    (own_home / "notes").mkdir()
    (own_home / "notes" / "my-filebroker.json").write_text("{}")
    (own_home / "notes" / "filebroker.json.bak").write_text("{}")
    (own_home / "notes" / "filebroker_json").write_text("{}")
    (own_home / "empty").mkdir()
    directory = intake.open_filebroker(local)[-1].primary.directory
    others = [own_home, own_home / "notes", own_home / "empty", own_home / "nothing", directory, Path(directory).parent]
    for other in [*others, own_home / "notes" / "filebroker_json", Path(local) / "filebroker.json"]:
        assert take2.FilebrokerCatalog not in intake.recommend(str(other))


def test_intake_still_recognises_what_it_did(own_home: Path) -> None:
    (own_home / "a.csv").write_text("x,y\n1,2\n")
    (own_home / "a.json").write_text('{"x": 1}')
    assert datatypes.CSV in intake.recommend(str(own_home / "a.csv"))
    assert datatypes.JSONFile in intake.recommend(str(own_home / "a.json"))


# ------------------------------------------------------------------------------------- readers


def test_a_reader_takes_the_arguments_of_the_driver(local: str) -> None:
    reader = take2.FilebrokerCatalog(local).to_reader(search="LaB6")
    assert reader.read() == intake.open_filebroker(local, search="LaB6")
    assert len(reader.read()) == len(reader.discover()) == 2
    assert len(reader(search="copper").read()) == 2
    assert len(reader.read(search={"scan_id": 3})) == 1
    assert list(take2.FilebrokerCatalog(local).to_reader(limit=1, labels=True).read()) == list(
        intake.open_filebroker(local, limit=1, labels=True)
    )
    assert len(take2.FilebrokerReader(local, search="LaB6").read()) == 2
    assert take2.FilebrokerCatalog(local).to_reader("IntakeCatalog") == take2.FilebrokerCatalog(local).to_reader()


def test_to_look_at_readers_looks_at_no_runs(local: str, unread: pytest.MonkeyPatch) -> None:
    data = take2.FilebrokerCatalog(local)
    reader = data.to_reader(search="LaB6")
    assert reader.token != data.to_reader().token
    assert reader == take2.FilebrokerCatalog(local).to_reader(search="LaB6")
    assert hash(reader) == hash(pickle.loads(pickle.dumps(reader)))
    assert "IntakeCatalog" in repr(reader)
    assert repr(data)
    assert "read" in dir(reader)
    catalog = entries.Catalog()
    catalog["x"] = reader
    assert list(catalog.search("nothing").entries) == []
    assert repr(catalog)
    assert "x" in catalog
    assert isinstance(catalog.x.read(), IntakeCatalog)


def test_the_reader_goes_through_entries_and_yaml(
    place: tuple[str, dict[str, Any]], own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = place
    for name in {"key", "secret"} & options.keys():  # an entry has no credentials but by their names
        monkeypatch.setenv(f"HALL_A_{name}", options[name])
        options = {**options, name: {"env": f"HALL_A_{name}"}}
    reader = take2.FilebrokerCatalog(url, storage_options=options or None).to_reader(search="LaB6", limit=1)
    expected = list(reader.read())
    assert len(expected) == 1
    catalog = entries.Catalog()
    catalog["x"] = reader
    assert list(catalog["x"].read()) == list(catalog.x.read()) == list(reader.to_cat("y").y.read()) == expected
    catalog.to_yaml_file(str(own_home / "c.yml"))
    for again in (
        entries.Catalog.from_yaml_file(str(own_home / "c.yml")),
        intake.open_catalog(str(own_home / "c.yml")),
    ):
        assert type(again) is entries.Catalog
        assert list(again["x"].read()) == expected
        assert again["x"].read()[-1].primary.read()["count"].tolist() == [1, 2, 3]
        assert list(again["x"](search="copper").read()) != expected


# ------------------------------------------------------------------------------------- Intake's own readers

#: Intake's readers of Parquet, the package they take, and what makes a table of pandas of what they give.
READERS = {
    "PandasParquet": ("pandas", ""),
    "DaskParquet": ("dask.dataframe", ".compute(scheduler='synchronous')"),
    "PolarsParquet": ("polars", ".collect().to_pandas()"),
    "DuckParquet": ("duckdb", ".df()"),
}
_READS = """
import json
import sys


class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "filebroker":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refusing())
import intake
from intake.readers.datatypes import Parquet
from intake.readers import readers

directory, options = sys.argv[1], eval(sys.argv[2])
table = readers.READER(Parquet(directory, storage_options=options)).read()TO_PANDAS
try:
    import filebroker
except ImportError:
    print(json.dumps(table[["seq_num", "time", "det", "count", "shutter"]].to_dict("list")))
"""


def read_without_us(reader: str, directory: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give what a reader of Intake's gives for a directory, in a process that has no filebroker."""
    package, to_pandas = READERS[reader]
    pytest.importorskip(package)
    code = _READS.replace("READER", reader).replace("TO_PANDAS", to_pandas)
    done = subprocess.run(
        [sys.executable, "-c", code, directory, repr(options or {})], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("reader", READERS)
def test_intakes_own_readers_give_the_numbers_without_filebroker(reader: str, many_pages: IntakeStream) -> None:
    directory = many_pages.directory
    assert len(os.listdir(directory)) == many_pages.npartitions
    assert all(name.endswith(".parquet") for name in os.listdir(directory))
    found = read_without_us(reader, directory)
    expected = many_pages.read()
    assert found["seq_num"] == [*range(1, 76)]
    assert found == expected.to_dict("list")


def test_intake_recognises_a_stream_as_parquet(many_pages: IntakeStream) -> None:
    assert intake.recommend(many_pages.directory) == [datatypes.Parquet]
    reader = datatypes.Parquet(many_pages.directory).to_reader("pandas:DataFrame")
    assert reader.read()["count"].tolist() == many_pages.read()["count"].tolist()


def test_a_stream_in_a_store_is_read_without_filebroker(s3_url: tuple[str, dict[str, Any]]) -> None:
    url, options = s3_url
    with closing(Broker(f"{url}/runs", storage_options=options)) as broker:
        record(broker, runs=1)
    stream = intake.open_filebroker(f"{url}/runs", storage_options=options)[-1].primary
    assert stream.directory.startswith(url)
    files, path = fsspec.core.url_to_fs(stream.directory, **options)
    assert [name.endswith(".parquet") for name in files.ls(path, detail=False)] == [True]
    found = read_without_us("PandasParquet", stream.directory, options)
    assert found == stream.read().to_dict("list")
