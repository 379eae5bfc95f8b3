"""Directories of databroker-pack, catalogs of databroker, stores, clusters: where else runs come from."""

import json
import os
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import fsspec
import msgpack
import numpy as np
import pytest
import yaml

import factories
from filebroker import Broker, Catalog, MissingPackage, import_runs
from filebroker.commands.main import main
from filebroker.ground.errors import SourceNotFound
from filebroker.transfer.incoming import databroker as incoming_databroker

Pair = tuple[str, dict[str, Any]]
ROOT = "0cc175b9c0f1b6a831c399e269772661"


def run_with_images(root: str) -> list[Pair]:
    begun = factories.start()
    image = factories.descriptor(begun, {"img": factories.data_key("array", shape=[2, 2], external="FILESTORE:")})
    held = factories.resource(begun, root=root, resource_path="images/scan", resource_kwargs={"frame_per_point": 1})
    held["spec"] = "NPY_SEQ"
    held["resource_kwargs"] = {}
    data = [("datum", factories.datum(held, number)) for number in range(2)]
    events = [("event", factories.event(image, number + 1, {"img": f"{held['uid']}/{number}"})) for number in range(2)]
    return [
        ("start", begun),
        ("descriptor", image),
        ("resource", held),
        *data,
        *events,
        ("stop", factories.stop(begun)),
    ]


def make_pack(kind: str = "msgpack", *, copied: bool = True) -> list[Pair]:
    """Make what databroker-pack makes: documents whose root is a key of the root map in catalog.yml."""
    some = run_with_images(ROOT)
    place = Path("pack/external_files", ROOT) if copied else Path("detector")
    (place / "images").mkdir(parents=True)
    for number in range(2):
        np.save(place / f"images/scan_{number}.npy", np.full((2, 2), number))
    Path("pack/documents").mkdir(parents=True)
    if kind == "msgpack":
        Path("pack/documents/run.msgpack").write_bytes(b"".join(map(msgpack.packb, some)))
    else:
        Path("pack/documents/run.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in some))
    files = [str(file.relative_to("pack") if copied else file.absolute()) for file in sorted(place.glob("images/*"))]
    Path(f"pack/external_files_manifest_{ROOT}.txt").write_text("\n".join(files))
    Path("pack/documents_manifest_0000.txt").write_text("./documents/run")
    root = f"external_files/{ROOT}" if copied else str(place.absolute())
    arguments = {"paths": ["/elsewhere/documents/*"], "root_map": {ROOT: root}}
    source = {"driver": f"bluesky-{kind}-catalog", "args": arguments, "metadata": {"relative_paths": ["./documents/*"]}}
    Path("pack/catalog.yml").write_text(yaml.dump({"sources": {"packed_catalog": source}}))
    return some


@pytest.mark.parametrize("kind", ["msgpack", "jsonl"])
@pytest.mark.parametrize("copied", [True, False])
def test_a_pack_comes_out_as_it_went_in_with_the_way_to_its_files(kind: str, copied: bool) -> None:
    some = make_pack(kind, copied=copied)
    report = import_runs("pack", "catalog")
    assert report.ok, report
    assert (report.taken, report.passed_over) == (1, 0)
    db = Broker("catalog")
    assert list(db.catalog.newest(1).documents()) == some
    db.reg.root_map.update(report.root_map)
    assert [image.sum() for image in db[-1].data("img")] == [0, 4]


def test_files_of_a_pack_can_be_copied_to_their_runs() -> None:
    make_pack()
    report = import_runs("pack", "catalog", copy_files=True)
    assert report.ok, report
    os.rename("pack", "gone")
    assert [image.sum() for image in Broker("catalog")[-1].data("img")] == [0, 4]
    os.rename("gone", "pack")
    assert import_runs("pack", "catalog", copy_files=True).ok


def test_missing_files_of_a_pack_are_named_and_its_runs_are_taken() -> None:
    make_pack(copied=False)
    os.rename("detector", "moved")
    report = import_runs("pack", "catalog")
    assert report.taken == 1
    assert [problem.where for problem in report.problems] == ["line 1", "line 2", ""]
    assert report.problems[2].why.endswith(f" --root-map {os.path.abspath('detector/images')}=NEW")
    assert "scan_0.npy is missing" in str(report.problems[0])
    moved = {os.path.abspath("detector"): os.path.abspath("moved")}
    report = import_runs("pack", "catalog", root_map=moved)
    assert report.ok, report
    assert report.root_map == {ROOT: os.path.abspath("moved")}
    report = import_runs("pack", "other", root_map=moved, copy_files=True)
    assert report.ok, report
    os.rename("moved", "gone")
    assert [image.sum() for image in Broker("other")[-1].data("img")] == [0, 4]


def test_a_pack_whose_catalog_file_is_broken_gives_its_runs() -> None:
    make_pack()
    Path("pack/catalog.yml").write_text("sources: {packed_catalog: [")
    report = import_runs("pack", "catalog")
    assert report.taken == 1
    assert "catalog.yml" in str(report.problems[0])


def test_the_command_tells_the_root_map(capsys: pytest.CaptureFixture[str]) -> None:
    make_pack(copied=False)
    os.rename("detector", "moved")
    assert main(["import", "./catalog", "pack"]) == 1
    assert "scan_1.npy is missing" in capsys.readouterr().out
    assert main(["import", "./catalog", "pack", "--root-map", f"{os.getcwd()}/detector={os.getcwd()}/moved"]) == 0
    told = capsys.readouterr().out
    (line,) = [line for line in told.splitlines() if line.startswith("  filebroker config add NAME ")]
    assert main(shlex.split(line.replace("NAME", "moved_images"))[1:]) == 0
    assert [image.sum() for image in Broker.named("moved_images")[-1].data("img")] == [0, 4]
    with pytest.raises(SystemExit):
        main(["import", "./catalog", "pack", "--root-map", "nonsense"])


# -- databroker


class Run:
    """As databroker's: of a run that cannot be read, the documents before an error."""

    def __init__(self, pairs: list[Pair], error: Exception | None = None) -> None:
        self._pairs, self._error = pairs, error

    def documents(self, *, fill: str) -> Any:
        assert fill == "no"
        yield from self._pairs
        if self._error is not None:
            raise self._error


@pytest.fixture
def databroker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give the catalogs of a module that stands for databroker."""
    module: Any = types.ModuleType("databroker")
    module.catalog = {}
    monkeypatch.setitem(sys.modules, "databroker", module)
    incoming_databroker._catalog.cache_clear()
    return module.catalog


def test_runs_of_a_catalog_of_databroker_are_taken_by_its_name(databroker: dict[str, Any]) -> None:
    good, poor = run_with_images("/data"), run_with_images("/data")
    databroker["bl7"] = {good[0][1]["uid"]: Run(good), poor[0][1]["uid"]: Run(poor[:3], OSError("mongo is gone"))}
    report = import_runs("bl7", "catalog")
    assert (report.taken, report.incomplete, len(report.problems)) == (2, 1, 1)
    assert "mongo is gone" in report.problems[0].why
    found = Catalog("catalog")
    assert list(found.of_uid(good[0][1]["uid"]).documents()) == good
    assert list(found.of_uid(poor[0][1]["uid"]).documents()) == poor[:3]
    databroker["bl7"][poor[0][1]["uid"]] = Run(poor)
    assert import_runs(databroker["bl7"], "catalog", kind="databroker").taken == 1
    assert list(found.of_uid(poor[0][1]["uid"]).documents()) == poor
    with pytest.raises(SourceNotFound, match="bl8"):
        import_runs("bl8", "catalog", kind="databroker")


@pytest.mark.parametrize(
    ("counted", "expected"),
    [({"num_events": {}}, (1, 0, 0)), ({"num_events": {"primary": 5}}, (1, 1, 1)), ({}, (1, 1, 1)), (None, (1, 1, 1))],
)
def test_of_a_run_that_databroker_cannot_read_its_ends_are_taken_if_that_is_all(
    databroker: dict[str, Any], counted: dict[str, Any] | None, expected: tuple[int, int, int]
) -> None:
    class Aborted(Run):
        @property
        def metadata(self) -> dict[str, Any]:
            return {"start": begun, "stop": stop}

    begun = factories.start()
    stop = None if counted is None else {**factories.stop(begun), "exit_status": "abort"}
    if stop is not None and counted is not None:
        stop.pop("num_events", None)
        stop.update(counted)
    databroker["bl7"] = {begun["uid"]: Aborted([], TypeError("'NoneType' object is not iterable"))}
    report = import_runs("bl7", "catalog")
    assert (report.taken, report.incomplete, len(report.problems)) == expected
    ends = [("start", begun), ("stop", stop)]
    assert list(Catalog("catalog").newest(1).documents()) == ends[: 2 - expected[1]]


def test_the_command_takes_the_name_of_an_old_configuration_for_databrokers_runs(
    databroker: dict[str, Any], own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some, more = run_with_images("/data"), run_with_images("/data")
    databroker["bl7"] = {some[0][1]["uid"]: Run(some)}
    databroker["ours"] = {}
    place = {"config": {"host": "localhost", "port": 27017, "database": "mds"}}
    old = {"metadatastore": {"module": "databroker.headersource.mongo", "class": "MDS", **place}}
    directory = own_home / ".config" / "databroker"
    directory.mkdir(parents=True)
    (directory / "bl7.yml").write_text(yaml.safe_dump(old))
    assert main(["import", "./catalog", "bl7"]) == 0
    assert "1 run taken" in capsys.readouterr().out
    (directory / "bl7.yml").write_text(yaml.safe_dump({**old, "path": str(Path("catalog").absolute())}))
    databroker["bl7"][more[0][1]["uid"]] = Run(more)
    assert main(["import", "bl7", "bl7"]) == 0
    assert "1 run taken, 1 known before" in capsys.readouterr().out
    assert main(["import", "./other", "bl7", "--kind", "filebroker"]) == 0
    assert "2 runs taken" in capsys.readouterr().out


def test_without_databroker_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "databroker", None)
    incoming_databroker._catalog.cache_clear()
    with pytest.raises(MissingPackage, match="databroker-pack"):
        import_runs("bl7", "catalog", kind="databroker")


def test_without_msgpack_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack()
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(MissingPackage, match="msgpack"):
        import_runs("pack", "catalog")


# -- stores and clusters


def test_runs_are_taken_into_a_store(s3_url: tuple[str, dict[str, Any]]) -> None:
    url, options = s3_url
    some = run_with_images("/data")
    catalog = Catalog(url, storage_options=options)
    assert import_runs(some, catalog).taken == 1
    there = fsspec.filesystem("s3", skip_instance_cache=True, **options).find(url)
    assert any(path.endswith("/documents.jsonl") for path in there), "it is there before close()"
    catalog.close()
    catalog = Catalog(url, storage_options=options)
    assert list(catalog.newest(1).documents()) == some
    assert import_runs(some, catalog).known == 1
    catalog.close()


class Future:
    def __init__(self, result: Any, error: BaseException | None) -> None:
        self._result, self._error = result, error

    def result(self) -> Any:
        return self._result

    def exception(self) -> BaseException | None:
        return self._error


def test_a_cluster_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    os.mkdir("source")
    for number in range(150):
        some = run_with_images(f"/data/{number}")
        Path(f"source/{number}").write_text("".join(json.dumps(pair) + "\n" for pair in some))
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.Client(**options) as client:
        report = import_runs("source", "catalog", client=client)
        assert (report.taken, report.problems) == (150, [])
        assert import_runs("source", "catalog", client=client).known == 150
    assert len(Catalog("catalog")) == 150
