"""Packs: catalogs of some runs that can be given away, with the external files that they refer to."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import fsspec
import h5py
import intake
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

import factories
from filebroker import Broker, Catalog, Handlers, pack, unpack
from filebroker.assets import remotes
from filebroker.cataloging import packed
from filebroker.commands.main import main
from filebroker.ground.errors import InvalidOption, MissingAsset, PackExists
from filebroker.transfer.packs import depots
from filebroker.transfer.packs.assets import assets_of
from filebroker.transfer.packs.crate import METADATA

SHAPE = (4, 5)


def image(number, seed=0):
    """Give the image of an event."""
    return np.arange(20, dtype="u2").reshape(SHAPE) + 100 * number + 1000 * seed


def key(**more):
    return {"source": "sim", "dtype": "array", "shape": list(SHAPE), **more}


class Scan:
    """A run of three events with images of four kinds, in files below a directory."""

    def __init__(self, root, seed=0, **keys):
        self.root, self.seed = Path(root), seed
        self.start = factories.start(**keys)
        external = {"npy": "FILESTORE:", "ad": "FILESTORE:", "h5": "STREAM:", "tiff": "STREAM:"}
        fields = {name: key(external=kind) for name, kind in external.items()}
        fields["ad"]["shape"] = [1, *SHAPE]  # area detectors have a number of frames a point
        self.described = factories.descriptor(self.start, {"det": "number", **fields})
        self.documents = [("start", self.start), ("descriptor", self.described)]
        os.makedirs(self.root / "frames", exist_ok=True)
        self.data = {"npy": self._npy(), "ad": self._area_detector()}
        self._stream("h5", "application/x-hdf5", self._hdf5(), dataset="entry/data/data")
        self._stream("tiff", "multipart/related;type=image/tiff", self._tiffs(), template="frame {:03d}.tif")
        for number in (1, 2, 3):
            data = {"det": number / 2, **{name: ids[number - 1] for name, ids in self.data.items()}}
            self.documents.append(("event", factories.event(self.described, number, data)))
        self.documents.append(("stop", factories.stop(self.start, {"primary": 3})))

    def _resource(self, **keys):
        held = factories.resource(self.start, root=str(self.root), **keys)
        self.documents.append(("resource", held))
        return held

    def _datums(self, held, name):
        documents = [factories.datum(held, number, datum_kwargs={name: number}) for number in (0, 1, 2)]
        self.documents += [("datum", doc) for doc in documents]
        return [doc["datum_id"] for doc in documents]

    def _npy(self):
        for number in range(3):
            np.save(self.root / "frames" / f"a_{number}.npy", image(number, self.seed))
        return self._datums(self._resource(resource_path="frames/a"), "index")

    def _area_detector(self):
        with h5py.File(self.root / "detector #1.h5", "w") as file:
            file["entry/data/data"] = np.stack([image(number, self.seed) for number in range(3)])
        kwargs = {"frame_per_point": 1}
        held = self._resource(resource_path="detector #1.h5", spec="AD_HDF5", resource_kwargs=kwargs)
        return self._datums(held, "point_number")

    def _hdf5(self):
        with h5py.File(self.root / "stream.h5", "w") as file:
            file["entry/data/data"] = np.stack([image(number, self.seed) for number in range(3)])
        return f"file://localhost{self.root}/stream.h5"

    def _tiffs(self):
        for number in range(3):
            tifffile.imwrite(self.root / "frames" / f"frame {number:03d}.tif", image(number, self.seed))
        return f"file://localhost{self.root}/frames/"

    def _stream(self, data_key, mimetype, uri, **parameters):
        uid = factories.uid()
        doc = {"uid": uid, "data_key": data_key, "mimetype": mimetype, "uri": uri, "parameters": parameters}
        span = {"indices": {"start": 0, "stop": 3}, "seq_nums": {"start": 1, "stop": 4}}
        datum = {"uid": f"{uid}/0", "stream_resource": uid, "descriptor": self.described["uid"], **span}
        self.documents += [("stream_resource", doc | {"run_start": self.start["uid"]}), ("stream_datum", datum)]


def recorded(target, *scans):
    """Record scans into a catalog."""
    catalog = Catalog(target)
    for scan in scans:
        for name, doc in scan.documents:
            catalog.insert(name, doc)
    catalog.close()
    return catalog


def check_images(db, seed=0):
    """Read all images of the newest run, one by one and together, and compare them."""
    expected = np.stack([image(number, seed) for number in range(3)])
    for field in ("npy", "ad", "h5", "tiff"):
        read = np.stack([np.asarray(value).reshape(SHAPE) for value in db[-1].data(field)])
        np.testing.assert_array_equal(read, expected, err_msg=field)
    lazily = db.v2[-1].primary.to_dask()["h5"].values.reshape(expected.shape)
    np.testing.assert_array_equal(lazily, expected)


@pytest.fixture
def beamtime(tmp_path):
    """Give a catalog of one scan with images."""
    return recorded(tmp_path / "beamtime", Scan(tmp_path / "images", scan_id=7, plan_name="scan"))


@pytest.fixture
def share(tmp_path, beamtime):
    """Give a pack of it at another place, when the images themselves are gone."""
    report = pack(beamtime, tmp_path / "packed")
    assert report.ok, report.missing
    shutil.rmtree(tmp_path / "images")
    os.makedirs(tmp_path / "elsewhere")
    return Path(shutil.move(tmp_path / "packed", tmp_path / "elsewhere" / "share"))


# --- a pack is a catalog


def test_a_pack_that_was_moved_gives_every_image_when_the_originals_are_gone(share):
    check_images(Broker(share))


def test_the_documents_in_a_pack_are_those_that_were_recorded(beamtime, share):
    before, after = beamtime.newest(1), Catalog(share).newest(1)
    assert list(before.documents()) == list(after.documents())
    name = f"{before.directory}/documents.jsonl"
    assert (share / name).read_bytes() == Path(beamtime.folder.path(name)).read_bytes()


def test_a_pack_opens_in_another_process(share, own_home):
    code = (
        "import sys, numpy as np; from filebroker import Broker; db = Broker(sys.argv[1], read_only=True);"
        "print([int(np.sum([np.sum(v) for v in db[-1].data(f)])) for f in ('npy', 'ad', 'h5', 'tiff')])"
    )
    told = subprocess.run([sys.executable, "-c", code, share], capture_output=True, text=True, check=True, cwd=own_home)
    assert told.stdout.strip() == str([int(sum(image(number).sum() for number in range(3)))] * 4)


def test_a_pack_opens_with_intake_by_its_file_and_by_its_directory(share):
    for runs in (intake.open_catalog(str(share / "catalog.yml")).runs, intake.open_filebroker(str(share))):
        assert len(runs) == 1
        assert runs[-1].primary.read()["det"].tolist() == [0.5, 1.0, 1.5]


def test_a_pack_is_read_with_json_pyarrow_and_h5py_alone(share):
    (directory,) = share.glob("*/*/*/*")
    lines = [json.loads(line) for line in (directory / "documents.jsonl").read_text().splitlines()]
    page = lines[0]["doc"]["files"][0]["path"]
    assert pq.read_table(directory / page)["det"].to_pylist() == [0.5, 1.0, 1.5]
    files = [json.loads(line) for line in (directory / "_files" / "files.jsonl").read_text().splitlines()]
    places = {line["doc"]["uid"]: line["doc"]["path"] for line in files if line["name"] == "resource"}
    (held,) = [line["doc"] for line in lines if line["name"] == "resource" and line["doc"]["spec"] == "AD_HDF5"]
    with h5py.File(directory / "_files" / places[held["uid"]]) as file:
        np.testing.assert_array_equal(file["entry/data/data"][2], image(2))


def test_a_pack_of_a_pack_has_the_images_too(share, tmp_path):
    assert pack(Catalog(share), tmp_path / "again").ok
    shutil.rmtree(share)
    check_images(Broker(tmp_path / "again"))


def test_the_files_of_a_pack_come_before_the_root_map_and_the_original_places(tmp_path, beamtime):
    pack(beamtime, tmp_path / "share")
    recorded(tmp_path / "others", Scan(tmp_path / "images", seed=5))  # other images under the same names
    db = Broker(tmp_path / "share")
    check_images(db)
    db.reg.root_map[str(tmp_path / "images")] = "/nowhere"
    check_images(db)


def test_runs_are_added_to_a_pack_and_those_in_it_are_passed_over(tmp_path):
    scans = [Scan(tmp_path / f"images {seed}", seed, scan_id=seed, time=factories.T0 + seed) for seed in (1, 2)]
    catalog = recorded(tmp_path / "beamtime", *scans)
    assert pack(catalog.search({"scan_id": 1}), tmp_path / "share").copied == [scans[0].start["uid"]]
    report = pack(catalog, tmp_path / "share")
    assert (report.copied, report.known) == ([scans[1].start["uid"]], [scans[0].start["uid"]])
    check_images(Broker(tmp_path / "share"), seed=2)


# --- what it says of itself


def test_a_crate_lists_every_file_of_every_run_with_its_hash(share):
    graph = json.loads((share / METADATA).read_text())["@graph"]
    files = {item["@id"]: item for item in graph if item["@type"] == "File" and "sha256" in item}
    named = [path for path in share.glob("*/*/*/*/**/*") if path.is_file() and path.name != packed.MAP]
    assert len(files) == len(named) == 10  # documents, a page, three npy, three tiff and two hdf5
    for path in named:
        item = files[quote(str(path.relative_to(share)), safe="/~")]
        assert item["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert item["contentSize"] == str(path.stat().st_size)


def test_a_crate_has_what_the_standard_demands(share):
    """As the validator of ro-crate 1.1 demands it: `rocrate-validator validate -p ro-crate-1.1` finds no more."""
    crate = json.loads((share / METADATA).read_text())
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    items = {item["@id"]: item for item in crate["@graph"]}
    assert items[METADATA]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert items[METADATA]["about"] == {"@id": "./"}
    root = items["./"]
    assert {"name", "description", "datePublished", "license", "hasPart"} <= set(root)
    assert all(part["@id"] in items for item in crate["@graph"] for part in item.get("hasPart", ()))
    assert root["license"]["@id"] in items


# --- sizes, and what is not packed


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_dry_run_counts_what_is_then_packed_and_writes_nothing(tmp_path, beamtime, is_zip):
    planned = pack(beamtime, tmp_path / "share", dry_run=True, zip=is_zip)
    assert not (tmp_path / "share").exists()
    done = pack(beamtime, tmp_path / "share", zip=is_zip)
    assert (planned.documents, planned.bytes) == (done.documents, done.bytes)
    assert (planned.external_files, planned.external_bytes) == (done.external_files, done.external_bytes)
    assert done.external_files == 8


@pytest.mark.parametrize(("files", "count"), [("reference", 8), ("omit", 0)])
def test_external_files_can_be_left_where_they_are(tmp_path, beamtime, files, count):
    report = pack(beamtime, tmp_path / "share", files=files)
    assert (report.external_files, report.ok) == (count, True)
    assert not list((tmp_path / "share").glob("**/_files"))
    check_images(Broker(tmp_path / "share"))


def test_an_unknown_way_with_files_is_refused(tmp_path, beamtime):
    with pytest.raises(InvalidOption, match="'copy', 'reference', 'omit'"):
        pack(beamtime, tmp_path / "share", files="link")


def test_files_that_are_missing_are_named_and_the_rest_is_packed(tmp_path, beamtime):
    (tmp_path / "images" / "stream.h5").unlink()
    (tmp_path / "images" / "frames" / "a_1.npy").unlink()
    report = pack(beamtime, tmp_path / "share")
    assert not report.ok
    assert {os.path.basename(missing.path) for missing in report.missing} == {"stream.h5", "a_1.npy"}
    db = Broker(tmp_path / "share")
    assert [len(db[-1].table()), report.external_files] == [3, 6]
    assert len(list(db[-1].data("tiff"))) == 3
    with pytest.raises(MissingAsset, match=r"a_1\.npy"):
        list(db[-1].data("npy"))


def test_what_was_missing_is_packed_when_it_is_back(tmp_path, beamtime):
    hidden = shutil.move(tmp_path / "images" / "stream.h5", tmp_path / "stream.h5")
    assert not pack(beamtime, tmp_path / "share").ok
    shutil.move(hidden, tmp_path / "images" / "stream.h5")
    assert pack(beamtime, tmp_path / "share").ok
    shutil.rmtree(tmp_path / "images")
    check_images(Broker(tmp_path / "share"))


def test_images_that_moved_are_packed_through_the_root_map(tmp_path, beamtime):
    shutil.move(tmp_path / "images", tmp_path / "archive")
    handlers = Handlers(root_map={str(tmp_path / "images"): str(tmp_path / "archive")})
    assert pack(beamtime, tmp_path / "share", handlers=handlers).ok
    check_images(Broker(tmp_path / "share"))


def test_a_file_that_no_handler_lists_is_packed_and_named_is_what_is_none(tmp_path):
    scan = Scan(tmp_path / "images")
    for _, doc in scan.documents:
        doc.update({"spec": "UNHEARD"} if doc.get("spec") else {})
    found = assets_of(recorded(tmp_path / "beamtime", scan).newest(1), Handlers())
    assert {os.path.basename(file.path) for file in found.files} >= {"detector #1.h5", "stream.h5"}
    (missing,) = found.missing
    assert (os.path.basename(missing.path), "UNHEARD" in missing.reason) == ("a", True)


def test_a_live_run_is_left_out_and_named(tmp_path, beamtime):
    begun = factories.start(time=factories.T0 + 9)
    beamtime.insert("start", begun)
    report = pack(beamtime, tmp_path / "share")
    assert [(problem.kind, begun["uid"] in problem.run) for problem in report.problems] == [("live", True)]
    assert len(Catalog(tmp_path / "share")) == 1
    beamtime.close()


def test_files_deleted_from_a_pack_are_missing_and_the_message_names_them_and_the_pack(share):
    for name in ("detector*.h5", "stream.h5", "a_*.npy", "frame*.tif"):
        for path in share.glob(f"**/_files/**/{name}"):
            path.unlink()
    db = Broker(share)
    for field in ("npy", "ad", "h5", "tiff"):
        with pytest.raises(MissingAsset) as caught:
            list(db[-1].data(field))
        assert f"{share}" in str(caught.value), field
        assert "packed into" in str(caught.value), field
        assert "root_map" not in str(caught.value), field


@pytest.mark.parametrize("content", ["a catalog", "other things"])
def test_nothing_is_packed_in_the_place_of_something_else(tmp_path, beamtime, content):
    target = tmp_path / "share"
    if content == "a catalog":
        recorded(target, Scan(tmp_path / "more"))
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("...")
    before = sorted(target.rglob("*"))
    with pytest.raises(PackExists):
        pack(beamtime, target)
    assert sorted(target.rglob("*")) == before


# --- stores


def test_a_pack_in_a_bucket_gives_every_image(tmp_path, beamtime, s3_url, monkeypatch):
    url, options = s3_url
    assert pack(beamtime, f"{url}/share", storage_options=options).ok
    shutil.rmtree(tmp_path / "images")
    db = Broker(f"{url}/share", storage_options=options)
    check_images(db)
    lazily = pickle.dumps(db.v2[-1].primary.to_dask())
    monkeypatch.setattr(remotes, "_options", {})  # as in another process
    images = pickle.loads(lazily)
    for field in ("npy", "h5", "tiff"):
        np.testing.assert_array_equal(images[field].values[2].reshape(SHAPE), image(2))
    assert unpack(f"{url}/share", tmp_path / "local", storage_options=options).ok
    check_images(Broker(tmp_path / "local"))


def test_a_pack_copied_to_a_bucket_by_another_program_gives_every_image(share, s3_url):
    url, options = s3_url
    fsspec.filesystem("s3", **options, skip_instance_cache=True).put(f"{share}/", f"{url}/copy/", recursive=True)
    check_images(Broker(f"{url}/copy", storage_options=options, read_only=True))


def test_a_pack_in_memory_gives_every_image(tmp_path, beamtime):
    url = f"memory://{factories.uid()}"
    assert pack(beamtime, url).ok
    shutil.rmtree(tmp_path / "images")
    check_images(Broker(url))


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_large_files_go_to_a_store_and_back_piece_by_piece(tmp_path, beamtime, monkeypatch, request, kind):
    monkeypatch.setattr(depots, "PIECE", 300)
    url, options = request.getfixturevalue("s3_url") if kind == "s3" else (f"memory://{factories.uid()}", {})
    assert pack(beamtime, f"{url}/share", storage_options=options).ok
    shutil.rmtree(tmp_path / "images")
    assert unpack(f"{url}/share", tmp_path / "mine", storage_options=options).ok
    check_images(Broker(tmp_path / "mine"))


def test_headers_can_be_packed_as_a_broker_finds_them(tmp_path, beamtime):
    db = Broker(tmp_path / "beamtime")
    for number, runs in enumerate([db[-1], db(plan_name="scan"), [db[-1]], db.catalog, db.catalog.newest(1)]):
        assert pack(runs, tmp_path / f"share {number}").copied == [db[-1].start["uid"]]


# --- the command


def test_the_command_packs_and_unpacks(tmp_path, beamtime, capsys):
    share = str(tmp_path / "share")
    assert main(["pack", str(tmp_path / "beamtime"), "plan_name=scan", "--to", share, "--dry-run"]) == 0
    assert "1 run to be packed" in capsys.readouterr().out
    assert main(["pack", str(tmp_path / "beamtime"), "plan_name=scan", "--to", share]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("1 run to be packed (")
    assert told.out.startswith("1 run packed (")
    assert main(["unpack", share, str(tmp_path / "mine"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["external_files"] == 8
    shutil.rmtree(tmp_path / "images")
    check_images(Broker(tmp_path / "mine"))


def test_the_command_names_what_is_missing_and_its_exit_status_is_1(tmp_path, beamtime, capsys):
    (tmp_path / "images" / "stream.h5").unlink()
    assert main(["pack", str(tmp_path / "beamtime"), "--to", str(tmp_path / "share")]) == 1
    told = capsys.readouterr()
    assert "1 file missing" in told.out
    assert f"missing: {tmp_path}/images/stream.h5 of run " in told.err
