"""Moving from databroker: what its users have is imported, looks as before, and their scripts run.

databroker itself is not needed.  The suitcases write its files, and packs are laid out as databroker-pack 0.3 does.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
import suitcase.jsonl
import suitcase.msgpack
import yaml

import factories
from filebroker import Broker, Catalog, ImportReport, MissingAsset, import_runs, verify
from filebroker.commands.main import main

Pair = tuple[str, dict[str, Any]]
SUITCASES = {"jsonl": suitcase.jsonl, "msgpack": suitcase.msgpack}
FRAMES = np.arange(24, dtype=np.uint16).reshape(3, 2, 4)
#: databroker-pack calls a root so in the documents of a pack; it is a hash with a salt.
TOKEN = "6b7127e5bd8c826117c4bd365d24f5be"


@pytest.fixture(params=SUITCASES)
def form(request: pytest.FixtureRequest) -> str:
    """Give what the documents are written as."""
    name: str = request.param
    return name


@pytest.fixture
def images(own_home: Path) -> Path:
    """Give a directory with the images of a detector."""
    directory = own_home / "detector"
    directory.mkdir()
    for number, frame in enumerate(FRAMES):
        np.save(directory / f"img_{number}.npy", frame)
    return directory


def scan() -> list[Pair]:
    """Make a run of two streams."""
    begun = factories.start(scan_id=1, plan_name="scan", sample={"name": "LaB6", "phase": "é"}, motors=["motor"])
    first = factories.descriptor(begun, {"det": "number", "motor": "number"})
    baseline = factories.descriptor(begun, {"shutter": "string"}, name="baseline")
    taken = [("event", factories.event(first, n, {"det": n / 3, "motor": -1.0 + n})) for n in (1, 2, 3, 4)]
    ending = ("stop", factories.stop(begun, {"primary": 4, "baseline": 1}))
    return [
        *(("start", begun), ("descriptor", baseline), ("event", factories.event(baseline, 1, {"shutter": "open"}))),
        *(("descriptor", first), *taken, ending),
    ]


def pictures(root: str) -> list[Pair]:
    """Make a run with images in files of their own."""
    begun = factories.start(scan_id=2, plan_name="count", time=factories.T0 + 200)
    key = factories.data_key("array", shape=[2, 4], external="FILESTORE:")
    first = factories.descriptor(begun, {"img": key, "det": "number"})
    held = factories.resource(begun, root=root, resource_path="img")
    data = [factories.datum(held, number) for number in range(3)]
    taken = [factories.event(first, n, {"img": doc["datum_id"], "det": float(n)}) for n, doc in enumerate(data, 1)]
    ending = factories.stop(begun, {"primary": 3})
    pairs = [*(("datum", doc) for doc in data), *(("event", doc) for doc in taken)]
    return [("start", begun), ("descriptor", first), ("resource", held), *pairs, ("stop", ending)]


def cut_short() -> list[Pair]:
    """Make a run whose recording was cut short."""
    begun = factories.start(scan_id=3, plan_name="count", time=factories.T0 + 400)
    first = factories.descriptor(begun)
    return [("start", begun), ("descriptor", first), ("event", factories.event(first, 1, {"det": 0.25}))]


def beamtime(root: str) -> list[list[Pair]]:
    """Make what a small beamtime leaves."""
    return [scan(), pictures(root), cut_short()]


def write(form: str, directory: str, runs: Iterable[list[Pair]]) -> list[Path]:
    """Write a file for each run, as databroker's drivers and databroker-pack do."""
    written = [SUITCASES[form].export(run, directory) for run in runs]
    return [Path(path) for artifacts in written for paths in artifacts.values() for path in paths]


def pack(form: str, directory: Path, runs: list[list[Pair]], images: Path, *, copy_external: bool) -> Path:
    """Write a pack as databroker-pack does."""
    renamed = [[(name, doc | {"root": TOKEN} if name == "resource" else doc) for name, doc in run] for run in runs]
    documents = [path.relative_to(directory) for path in write(form, str(directory / "documents"), renamed)]
    (directory / "documents_manifest.txt").write_text("".join(f"{path}\n" for path in documents))
    place = Path("external_files", TOKEN) if copy_external else images
    if copy_external:
        shutil.copytree(images, directory / place)
    names = sorted(path.name for path in images.iterdir())
    (directory / f"external_files_manifest_{TOKEN}.txt").write_text("".join(f"{place / name}\n" for name in names))
    source = {
        "driver": f"bluesky-{form}-catalog",
        "args": {"paths": [str(directory / "documents" / f"*.{form}")], "root_map": {TOKEN: str(place)}},
        "metadata": {
            "generated_by": {"library": "databroker_pack", "version": "0.3.0"},
            "relative_paths": [f"./documents/*.{form}"],
        },
    }
    (directory / "catalog.yml").write_text(yaml.safe_dump({"sources": {"packed_catalog": source}}))
    return directory


def singles(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Give pages as their single documents, which is how these runs were emitted."""
    for name, doc in pairs:
        if name == "event_page":
            yield from (("event", item) for item in event_model.unpack_event_page(doc))
        elif name == "datum_page":
            yield from (("datum", item) for item in event_model.unpack_datum_page(doc))
        else:
            yield name, doc


def text_of(pairs: Iterable[Pair]) -> list[str]:
    """Give documents as they can be compared, in an order that does not depend on how they were paged."""
    sane = ((name, event_model.sanitize_doc(doc)) for name, doc in singles(pairs))
    return sorted(json.dumps(pair, sort_keys=True) for pair in sane)


def assert_same(catalog: str, runs: Iterable[list[Pair]]) -> None:
    """See that a catalog has these runs and no others, with each of their documents."""
    found = {run.uid: text_of(run.documents()) for run in Catalog(catalog, read_only=True)}
    assert found == {run[0][1]["uid"]: text_of(run) for run in runs}


def assert_images(broker: Broker) -> None:
    """See that the images of the run are those that the detector wrote."""
    frames = np.stack([np.squeeze(frame) for frame in broker[2].data("img")])
    assert frames.dtype == FRAMES.dtype
    np.testing.assert_array_equal(frames, FRAMES)


def place_config(home: Path, name: str, **content: Any) -> None:
    """Write a configuration where databroker looks for it."""
    directory = home / ".config" / "databroker"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.yml").write_text(yaml.safe_dump(content))


# -- files of its drivers


def test_the_files_of_a_catalog_are_taken_with_all_their_documents(form: str, images: Path) -> None:
    runs = beamtime(str(images))
    write(form, "old", runs)
    report = import_runs("old", "new")
    assert (report.taken, report.incomplete, report.problems) == (3, 1, [])
    assert_same("new", runs)
    assert verify(Catalog("new"), read_data=True).ok


def test_tables_and_images_are_as_they_were(form: str, images: Path) -> None:
    write(form, "old", beamtime(str(images)))
    import_runs("old", "new")
    broker = Broker("new")
    table = broker[1].table()
    assert table["det"].tolist() == [n / 3 for n in (1, 2, 3, 4)]
    assert table["motor"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert table.index.tolist() == [1, 2, 3, 4]
    assert table["time"].astype("int64").tolist()[0] == int(factories.T0 * 100 + 150) * 10**7
    assert broker[1].table("baseline")["shutter"].tolist() == ["open"]
    assert broker[3].table()["det"].tolist() == [0.25]
    assert_images(broker)
    np.testing.assert_array_equal(np.squeeze(broker.v2[2].primary.read()["img"]), FRAMES)


def test_what_was_imported_from_one_form_is_known_in_the_other(images: Path) -> None:
    runs = beamtime(str(images))
    for form in SUITCASES:
        write(form, form, runs)
    assert import_runs("jsonl", "new").taken == 3
    again = import_runs("msgpack", "new")
    assert (again.taken, again.known, again.problems) == (0, 3, [])


def test_images_that_were_filled_in_are_in_the_table(form: str) -> None:
    some = pictures("/nowhere")
    frames = iter(FRAMES)
    filled = [
        (name, doc | {"data": doc["data"] | {"img": next(frames)}, "filled": {"img": True}} if name == "event" else doc)
        for name, doc in some
        if name not in ("resource", "datum")
    ]
    write(form, "old", [filled])
    assert import_runs("old", "new").ok
    np.testing.assert_array_equal(np.stack(list(Broker("new")[2].data("img"))), FRAMES)


# -- packs


@pytest.fixture
def moved(form: str, images: Path, own_home: Path) -> Callable[..., tuple[Path, list[list[Pair]]]]:
    """Give what makes a pack and carries it to another place; the images that it does not hold go elsewhere as well."""

    def make(*, copy_external: bool) -> tuple[Path, list[list[Pair]]]:
        runs = beamtime(str(images))
        packed = pack(form, own_home / "packed", runs, images, copy_external=copy_external)
        place = own_home / "stick" / "packed"
        place.parent.mkdir()
        packed.rename(place)
        if copy_external:
            shutil.rmtree(images)
        else:
            images.rename(own_home / "elsewhere")
        return place, [[(name, doc | ({"root": TOKEN} if name == "resource" else {})) for name, doc in r] for r in runs]

    return make


def test_a_pack_that_was_carried_elsewhere_is_taken(moved: Callable[..., Any], own_home: Path) -> None:
    place, runs = moved(copy_external=True)
    report = import_runs(place, "new")
    assert (report.taken, report.problems) == (3, [])
    assert report.root_map == {TOKEN: str(place / "external_files" / TOKEN)}
    assert_same("new", runs)
    place_config(own_home, "bl7", path=str(own_home / "new"), root_map=report.root_map)
    assert_images(Broker.named("bl7"))


@pytest.mark.parametrize("copy_external", [True, False])
def test_with_copies_of_the_images_neither_the_pack_nor_the_old_disk_is_needed(
    moved: Callable[..., Any], own_home: Path, copy_external: bool
) -> None:
    place, runs = moved(copy_external=copy_external)
    moved_to = {str(own_home / "detector"): str(own_home / "elsewhere")}
    assert import_runs(place, "new", copy_files=True, root_map=moved_to).ok
    shutil.rmtree(place)
    shutil.rmtree(own_home / "elsewhere", ignore_errors=True)
    (own_home / "new").rename(own_home / "newer")
    assert_same("newer", runs)
    assert_images(Broker("newer"))
    assert verify(Catalog("newer"), read_data=True).ok


def test_images_that_were_forgotten_are_copied_by_a_second_import(moved: Callable[..., Any], own_home: Path) -> None:
    place, _ = moved(copy_external=True)
    import_runs(place, "new")
    with pytest.raises(MissingAsset, match=TOKEN):
        list(Broker("new")[2].data("img"))
    report = import_runs(place, "new", copy_files=True)
    assert (report.taken, report.known, report.problems) == (0, 3, [])
    assert_images(Broker("new"))


def test_each_image_that_a_pack_lacks_is_named_and_the_runs_are_taken(
    moved: Callable[..., Any], own_home: Path
) -> None:
    place, runs = moved(copy_external=False)
    report = import_runs(place, "new")
    assert report.taken == 3
    assert_same("new", runs)
    told = "\n".join(map(str, report.problems))
    for number in range(3):
        assert str(own_home / "detector" / f"img_{number}.npy") in told
    again = import_runs(place, "new", root_map={str(own_home / "detector"): str(own_home / "elsewhere")})
    assert (again.known, again.problems) == (3, [])
    assert again.root_map == {TOKEN: str(own_home / "elsewhere")}
    place_config(own_home, "bl7", path=str(own_home / "new"), root_map=again.root_map)
    assert_images(Broker.named("bl7"))


def test_what_a_databroker_pack_that_failed_has_left_is_taken(form: str, images: Path) -> None:
    runs = [scan(), cut_short()]
    packed = pack(form, Path("packed").absolute(), runs, images, copy_external=False)
    (packed / "catalog.yml").unlink()
    (packed / "documents_manifest.txt").write_text("")
    (packed / f"external_files_manifest_{TOKEN}.txt").unlink()
    assert import_runs(packed, "new").ok
    assert_same("new", runs)


def test_the_command_tells_of_a_pack_what_it_found(
    moved: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    place, _ = moved(copy_external=True)
    assert main(["import", "./new", str(place), "--dry-run"]) == 0
    assert "3 runs would be taken" in capsys.readouterr().out
    assert not Path("new", "filebroker.json").exists()
    assert main(["import", "./new", str(place), "--json"]) == 0
    report = ImportReport.from_dict(json.loads(capsys.readouterr().out))
    assert (report.taken, report.root_map) == (3, {TOKEN: str(place / "external_files" / TOKEN)})
    assert main(["import", "./new", str(place), "--copy-files"]) == 0
    assert "0 runs taken, 3 known before" in capsys.readouterr().out


# -- names and scripts

OLD = {
    "description": "Beamline 7",
    "metadatastore": {
        **{"module": "databroker.headersource.mongo", "class": "MDS"},
        "config": {"host": "localhost", "port": 27017, "database": "mds", "timezone": "US/Eastern"},
    },
    "assets": {
        **{"module": "databroker.assets.mongo", "class": "Registry"},
        "config": {"host": "localhost", "port": 27017, "database": "assets"},
    },
    "handlers": {"NPY_SEQ": {"module": "ophyd.sim", "class": "NumpySeqHandler"}},
}
SCRIPT = """\
import filebroker as databroker
from filebroker import Broker
from filebroker.queries import TimeRange

db = Broker.named("bl7")
header = db[1]
found["scan"] = header.start["plan_name"], header.stop["exit_status"], header.stream_names
found["means"] = header.table().mean(numeric_only=True)["det"]
found["shutter"] = db[header.start["uid"][:8]].table("baseline")["shutter"].iloc[0]
found["search"] = [h.start["scan_id"] for h in db(plan_name="count", since="2025-11-22", until="2025-11-23")]
found["names"] = [name for name, document in header.documents()]
found["sum"] = sum(int(image.sum()) for image in db[2].data("img"))
found["filled"] = db[2].table(fill=True)["img"].iloc[1].sum()
found["events"] = [event["data"]["det"] for event in db.get_events(db[2], fill=False)]
found["fields"] = sorted(db[2].fields())

catalog = databroker.catalog["bl7"]
run = catalog.search(TimeRange(since="2025")).search({"sample.name": "LaB6"})[-1]
found["v2"] = run.metadata["start"]["scan_id"], float(run.primary.read()["det"].sum()), list(run)
found["length"] = len(catalog)
"""


def run_script() -> dict[str, Any]:
    """Run the script of somebody who used databroker, with one import changed."""
    found: dict[str, Any] = {}
    exec(compile(SCRIPT, "script.py", "exec"), {"found": found})
    return found


def assert_runs_as_before() -> None:
    """See that the script finds what it found with databroker."""
    found = run_script()
    assert found["scan"] == ("scan", "success", ["baseline", "primary"])
    assert found["means"] == pytest.approx(10 / 12)
    assert found["shutter"] == "open"
    assert found["search"] == [3, 2]
    assert found["names"].count("event") == 5
    assert (found["sum"], found["filled"]) == (int(FRAMES.sum()), int(FRAMES[1].sum()))
    assert found["events"] == [1.0, 2.0, 3.0]
    assert found["fields"] == ["det", "img"]
    assert found["v2"] == (1, pytest.approx(10 / 3), ["baseline", "primary"])
    assert found["length"] == 3


def test_a_configuration_of_databroker_with_a_path_opens_what_was_imported(images: Path, own_home: Path) -> None:
    write("msgpack", "old", beamtime(str(images)))
    import_runs("old", "new")
    place_config(own_home, "bl7", **OLD, path=str(own_home / "new"))
    assert_runs_as_before()


def test_the_root_map_of_an_old_configuration_finds_images_that_moved(images: Path, own_home: Path) -> None:
    write("jsonl", "old", beamtime("/nsls2/detector"))
    import_runs("old", "new")
    place_config(own_home, "bl7", **OLD, path=str(own_home / "new"), root_map={"/nsls2/detector": str(images)})
    assert_runs_as_before()


def test_a_name_that_filebroker_gave_does_as_well(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("msgpack", "old", beamtime(str(images)))
    assert main(["import", "./new", "old"]) == 0
    assert main(["config", "add", "bl7", "new"]) == 0
    capsys.readouterr()
    assert main(["ls", "bl7", "--columns", "scan_id,plan_name", "--csv"]) == 0
    assert capsys.readouterr().out.split() == ["scan_id,plan_name", "3,count", "2,count", "1,scan"]
    assert_runs_as_before()


def test_an_intake_catalog_of_databroker_stays_as_it_is(images: Path, own_home: Path) -> None:
    write("msgpack", "old", beamtime(str(images)))
    directory = own_home / ".local" / "share" / "intake"
    directory.mkdir(parents=True)
    theirs = {"driver": "bluesky-msgpack-catalog", "args": {"paths": [str(own_home / "old" / "*.msgpack")]}}
    (directory / "theirs.yml").write_text(yaml.safe_dump({"sources": {"bl7": theirs}}))
    import_runs("old", "new")
    ours = own_home / ".config" / "filebroker"
    ours.mkdir(parents=True)
    (ours / "bl7.yml").write_text(yaml.safe_dump({"path": str(own_home / "new")}))
    assert_runs_as_before()
