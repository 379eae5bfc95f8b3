"""Packs under bad conditions: hostile documents, maps and archives, full disks, and death at any moment."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import fsspec
import pytest

import factories
from filebroker import Broker, Catalog, Handlers, pack, unpack
from filebroker.cataloging import packed
from filebroker.ground import filesystem
from filebroker.ground.errors import (
    AssetWarning,
    InvalidPack,
    MissingAsset,
    PackExists,
    StorageError,
    UnreadableAsset,
)
from filebroker.ground.filesystem import Folder
from filebroker.storing.journal import encode_line
from filebroker.transfer.packs import archives, depots, writers
from filebroker.transfer.packs.assets import assets_of
from filebroker.transfer.packs.holdings import map_of
from test_pack import Scan, check_images, recorded


@pytest.fixture
def beamtime(tmp_path):
    return recorded(tmp_path / "beamtime", Scan(tmp_path / "images"))


class Text:
    """A handler of text files, which lists what it reads."""

    def __init__(self, path, name=""):
        self.path = os.path.join(path, name) if name else path

    def __call__(self, **kwargs):
        with open(self.path) as file:
            return file.read()

    def get_file_list(self, datums):
        return [self.path]


TEXT = Handlers({"TEXT": Text})


def run_with(path, catalog, time=factories.T0, **keys):
    """Record a run with one resource."""
    begun = factories.start(time=time)
    described = factories.descriptor(begun, {"det": factories.data_key("string", external="FILESTORE:")})
    held = factories.resource(begun, **{"spec": "TEXT", "root": str(path), **keys})
    datum = factories.datum(held, datum_kwargs={})
    event = factories.event(described, 1, {"det": datum["datum_id"]})
    documents = [("start", begun), ("descriptor", described), ("resource", held), ("datum", datum), ("event", event)]
    target = Catalog(catalog)
    for name, doc in [*documents, ("stop", factories.stop(begun))]:
        target.insert(name, doc)
    target.close()
    return target


# --- documents that name what is not theirs


@pytest.mark.parametrize(
    "keys",
    [
        {"resource_path": "../secret.txt"},
        {"resource_path": "inner/../../secret.txt"},
        {"resource_path": "link.txt"},
        {"resource_path": "linked/secret.txt"},
        {"resource_path": "", "resource_kwargs": {"name": "../secret.txt"}},
        {"resource_path": "pipe"},
        {"resource_path": "directory"},
        {"resource_path": "loop"},
        {"resource_path": "nul\x00byte"},
        {"resource_path": "x" * 5000},
        {"resource_path": "/dev/zero", "root": ""},
        {"resource_path": "secret.txt", "root": "{root}/../data"},
    ],
    ids=repr,
)
def test_what_is_outside_of_the_root_is_not_packed(tmp_path, keys):
    root = tmp_path / "data"
    (root / "inner").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for secret in (tmp_path / "secret.txt", tmp_path / "outside" / "secret.txt"):
        secret.write_text("a secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to("loop")
    (root / "directory").mkdir()
    os.mkfifo(root / "pipe")
    keys = {key: value.replace("{root}", str(root)) if key == "root" else value for key, value in keys.items()}
    catalog = run_with(root, tmp_path / "beamtime", **keys)
    report = pack(catalog, tmp_path / "share", handlers=TEXT)
    assert len(report.missing) == 1
    assert (report.external_files, report.ok) == (0, False)
    assert not any(b"a secret" in path.read_bytes() for path in (tmp_path / "share").rglob("*") if path.is_file())


def test_a_million_million_claimed_files_are_not_listed(tmp_path):
    scan = Scan(tmp_path / "images")
    for name, doc in scan.documents:
        if name == "stream_datum":
            doc["indices"] = {"start": 0, "stop": 10**12}
            doc["seq_nums"] = {"start": 1, "stop": 10**12 + 1}
    found = assets_of(recorded(tmp_path / "beamtime", scan).newest(1), Handlers())
    assert any("1,000,000,000,000 files" in missing.reason for missing in found.missing)


# --- maps and packs that were made by somebody else


def sabotaged(tmp_path, place, **files):
    """Make a pack of one text, and have its map say that the text is elsewhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.txt").write_text("the text")
    (tmp_path / "secret.txt").write_text("a secret")
    catalog = run_with(tmp_path / "data", tmp_path / "beamtime", resource_path="text.txt")
    assert pack(catalog, tmp_path / "share", handlers=TEXT).ok
    shutil.rmtree(tmp_path / "data")
    (home,) = (tmp_path / "share").glob("*/*/*/*/_files")
    lines = [json.loads(line) for line in (home / packed.MAP).read_text().splitlines()]
    for line in lines[1:]:
        line["doc"]["path"] = place
    (home / packed.MAP).write_bytes(b"".join(encode_line(line["i"], line["name"], line["doc"]) for line in lines))
    return home


@pytest.mark.parametrize(
    "place",
    ["../../../../../../secret.txt", "0/../../x", "/etc/passwd", "0/..", "..", "0", "", "x/text.txt", "0/a\\b", "0//a"],
)
def test_a_map_that_leads_out_of_the_pack_is_not_followed(tmp_path, place):
    sabotaged(tmp_path, place)
    db = Broker(tmp_path / "share", handlers=TEXT)
    with pytest.warns(AssetWarning, match="makes no sense"), pytest.raises(MissingAsset):
        list(db[-1].data("det"))
    report = unpack(tmp_path / "share", tmp_path / "mine")
    assert not (tmp_path / "mine" / "secret.txt").exists()
    assert report.copied


@pytest.mark.parametrize("where", ["the file", "its directory", "all files"])
def test_a_link_in_a_pack_is_not_followed(tmp_path, where):
    home = sabotaged(tmp_path, "0/text.txt")
    shutil.rmtree(home / "0")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "text.txt").write_text("a secret")
    if where == "the file":
        (home / "0").mkdir()
        (home / "0" / "text.txt").symlink_to(tmp_path / "secret.txt")
    elif where == "its directory":
        (home / "0").symlink_to(tmp_path / "0")
    else:
        shutil.copy(home / packed.MAP, tmp_path)
        shutil.rmtree(home)
        home.symlink_to(tmp_path)
    with pytest.raises(UnreadableAsset, match="is a link"):
        list(Broker(tmp_path / "share", handlers=TEXT)[-1].data("det"))


@pytest.mark.parametrize("name", ["../../../../../../secret.txt", "../../1/text.txt"])
def test_a_handler_that_is_told_to_leave_the_pack_does_not(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.txt").write_text("a secret")
    keys = {"resource_path": "", "resource_kwargs": {"name": name}}
    catalog = run_with(tmp_path / "data", tmp_path / "beamtime", **keys)
    pack(catalog, tmp_path / "share", handlers=TEXT)
    (directory,) = (tmp_path / "share").glob("*/*/*/*")
    uid = next(doc["uid"] for kind, doc in catalog.newest(1).documents() if kind == "resource")
    for number in ("0", "1"):
        (directory / "_files" / number / "data").mkdir(parents=True)
        (directory / "_files" / number / "text.txt").write_text("a secret")
    (directory / "_files" / packed.MAP).write_bytes(map_of({uid: "0/data/"}, []))
    with pytest.raises(UnreadableAsset, match=r"is not below .*_files/0"):
        list(Broker(tmp_path / "share", handlers=TEXT)[-1].data("det"))


def test_a_flipped_bit_in_a_packed_file_is_found_when_it_is_unpacked(tmp_path, beamtime):
    assert pack(beamtime, tmp_path / "share").ok
    (path,) = (tmp_path / "share").glob("**/_files/**/stream.h5")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = unpack(tmp_path / "share", tmp_path / "mine")
    assert [os.path.basename(missing.path) for missing in report.missing] == ["stream.h5"]
    assert not list((tmp_path / "mine").glob("**/stream.h5"))


# --- archives


def test_a_zip_opens_after_it_was_unzipped_and_unpacks_to_the_same(tmp_path, beamtime):
    assert pack(beamtime, tmp_path / "share.zip", zip=True).ok
    shutil.rmtree(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "share.zip") as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unzipped")
    check_images(Broker(tmp_path / "unzipped"))
    assert unpack(tmp_path / "share.zip", tmp_path / "mine").ok
    check_images(Broker(tmp_path / "mine"))
    assert unpack(tmp_path / "share.zip", tmp_path / "mine").known == [beamtime.newest(1).uid]


def test_a_zip_of_the_directory_of_a_pack_unpacks(tmp_path, beamtime):
    assert pack(beamtime, tmp_path / "share").ok
    shutil.make_archive(str(tmp_path / "by hand"), "zip", tmp_path, "share")
    shutil.rmtree(tmp_path / "images")
    assert unpack(tmp_path / "by hand.zip", tmp_path / "mine").ok
    check_images(Broker(tmp_path / "mine"))


def test_a_zip_in_a_store_unpacks(tmp_path, beamtime, s3_url):
    url, options = s3_url
    assert pack(beamtime, tmp_path / "share.zip", zip=True).ok
    system = fsspec.filesystem("s3", **options, skip_instance_cache=True)
    system.put_file(str(tmp_path / "share.zip"), f"{url}/share.zip")
    assert unpack(f"{url}/share.zip", tmp_path / "mine", storage_options=options).ok
    check_images(Broker(tmp_path / "mine"))


def test_a_zip_is_not_made_in_the_place_of_another_file(tmp_path, beamtime):
    (tmp_path / "share.zip").write_text("a thesis")
    with pytest.raises(PackExists, match="is there already"):
        pack(beamtime, tmp_path / "share.zip", zip=True)
    assert (tmp_path / "share.zip").read_text() == "a thesis"


def evil(path, *members):
    """Write an archive with these members beside a marker."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("filebroker.json", '{"format": 1, "requires": []}')
        for name, data in members:
            archive.writestr(name, data)


def symlink(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


RUN = "2025/11/22/20251122T143205.250000Z-84d9ee44"


@pytest.mark.parametrize(
    ("member", "match"),
    [
        ("../evil.txt", "leads out"),
        ("/etc/evil.txt", "leads out"),
        (f"{RUN}/../../../../../evil.txt", "leads out"),
        ("C:/evil.txt", "leads out"),
        ("a\\..\\evil.txt", "leads out"),
        (symlink(f"{RUN}/_files"), "is a link"),
    ],
    ids=str,
)
def test_an_archive_that_is_not_harmless_is_refused(tmp_path, member, match):
    evil(tmp_path / "evil.zip", (member, "/etc/passwd"))
    with pytest.raises(InvalidPack, match=match):
        unpack(tmp_path / "evil.zip", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_has_a_name_twice_is_refused(tmp_path):
    evil(tmp_path / "evil.zip", ("a.txt", "one"), ("a.txt", "another"))
    with pytest.raises(InvalidPack, match="twice"):
        unpack(tmp_path / "evil.zip", tmp_path / "mine")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_HARMLESS_BYTES", 1 << 20)
    evil(tmp_path / "bomb.zip", (f"{RUN}/documents.jsonl", bytes(1 << 22)))
    with pytest.raises(InvalidPack, match="bomb"):
        unpack(tmp_path / "bomb.zip", tmp_path / "mine")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing more", b"not an archive", bytes(1000)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "share.zip").write_bytes(content)
    with pytest.raises(InvalidPack, match="ZIP"):
        unpack(tmp_path / "share.zip", tmp_path / "mine")


def test_an_archive_of_other_things_is_refused_and_what_is_in_it_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
        archive.writestr("beach.jpg", b"...")
    with pytest.raises(InvalidPack, match=r"no filebroker\.json, but beach\.jpg"):
        unpack(tmp_path / "holiday.zip", tmp_path / "mine")


def test_every_truncation_of_an_archive_is_refused(tmp_path, beamtime):
    pack(beamtime, tmp_path / "share.zip", zip=True)
    data = (tmp_path / "share.zip").read_bytes()
    for size in range(0, len(data), len(data) // 15):
        (tmp_path / "cut.zip").write_bytes(data[:size])
        with pytest.raises(InvalidPack):
            unpack(tmp_path / "cut.zip", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_flipped_bits_in_an_archive_are_never_taken_for_the_run(tmp_path, beamtime):
    pack(beamtime, tmp_path / "share.zip", zip=True)
    data = (tmp_path / "share.zip").read_bytes()
    taken = 0
    for number, place in enumerate(range(7, len(data), len(data) // 40)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << number % 8
        (tmp_path / "spoilt.zip").write_bytes(spoilt)
        target = tmp_path / f"mine {number}"
        try:
            report = unpack(tmp_path / "spoilt.zip", target)
        except InvalidPack:
            continue
        if report.ok and report.copied:
            taken += 1
            assert list(Catalog(target).newest(1).documents()) == list(beamtime.newest(1).documents())
    assert taken < 40  # some bits are in what describes the pack, or in names that nobody reads


@pytest.mark.parametrize("name", ["documents_manifest.txt", "external_files_manifest_0.txt"])
def test_what_databroker_packed_is_to_be_imported(tmp_path, name):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / name).write_text("...")
    with pytest.raises(InvalidPack, match="filebroker import"):
        unpack(tmp_path / "theirs", tmp_path / "mine")


def test_a_directory_of_other_things_is_no_pack(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("...")
    for source in (tmp_path / "theirs", tmp_path / "nowhere"):
        with pytest.raises(InvalidPack, match="is no pack"):
            unpack(source, tmp_path / "mine")


# --- a full disk, interrupts, death


def full(monkeypatch, number):
    """Have the disk be full after some files were written."""
    real, left = depots._spooled, iter(range(number))

    def spooled(pieces, path):
        if next(left, None) is None:
            with open(path, "wb") as file:
                file.write(b"as much as fits")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(pieces, path)

    monkeypatch.setattr(depots, "_spooled", spooled)


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize("number", [1, 5, 9, 11])
def test_a_full_disk_is_told_and_a_repeat_finishes_the_pack(tmp_path, beamtime, monkeypatch, number, is_zip):
    with monkeypatch.context() as patch:
        full(patch, number)
        with pytest.raises(StorageError) as caught:
            pack(beamtime, tmp_path / "share", zip=is_zip)
        assert caught.value.errno == errno.ENOSPC
    left = [path for path in tmp_path.rglob("*") if filesystem.is_temporary(path.name)]
    assert not left
    assert pack(beamtime, tmp_path / "share", zip=is_zip).ok
    assert unpack(tmp_path / "share", tmp_path / "mine").ok
    shutil.rmtree(tmp_path / "images")
    check_images(Broker(tmp_path / "mine"))


class Death(BaseException):
    """The process is killed: nothing of it goes on."""


def dying(monkeypatch, number):
    """Kill the process, as it were, just before it makes one of its files appear; nothing is tidied up then."""
    calls = iter(range(number))
    dead = []

    def mortal(function):
        def call(*args, **keys):
            current = threading.current_thread()
            is_mortal = current is threading.main_thread() or current.name.startswith(writers.NAME)
            if is_mortal and (dead or next(calls, None) is None):
                dead.append(True)
                raise Death
            return function(*args, **keys)

        return call

    def tidy(function):
        return lambda *args, **keys: None if dead else function(*args, **keys)

    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, mortal(getattr(os, name)))
    monkeypatch.setattr(os, "unlink", tidy(os.unlink))
    monkeypatch.setattr(shutil, "rmtree", tidy(shutil.rmtree))


@pytest.mark.parametrize("target", ["local", "memory"])
def test_a_pack_that_was_killed_at_any_moment_is_finished_by_a_repeat(tmp_path, beamtime, monkeypatch, target):
    deaths = 0
    while True:
        place = tmp_path / f"share {deaths}" if target == "local" else f"memory://{factories.uid()}"
        with monkeypatch.context() as patch:
            dying(patch, deaths)
            try:
                pack(beamtime, place)
                break
            except Death:
                deaths += 1
        is_begun = Folder(place).exists("filebroker.json")
        seen = Catalog(place, read_only=True) if is_begun else []
        assert len(seen) in (0, 1)
        for run in seen:
            assert list(run.documents()) == list(beamtime.newest(1).documents())
        report = pack(beamtime, place)
        assert report.ok
        assert len(report.copied) + len(report.known) == 1
        again = Broker(place)
        assert len(again.catalog) == 1
        if deaths % 5 == 0:
            check_images(again)
    assert deaths >= (14 if target == "local" else 4)


def test_a_pack_that_was_really_killed_is_finished_by_a_repeat(tmp_path):
    scans = [Scan(tmp_path / "images", time=factories.T0 + number) for number in range(8)]
    catalog = recorded(tmp_path / "beamtime", *scans)
    code = "import sys, filebroker; filebroker.pack(filebroker.Catalog(sys.argv[1]), sys.argv[2])"
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "beamtime", tmp_path / "share"])
        deadline = time.monotonic() + 30
        before = len(list((tmp_path / "share").rglob("documents.jsonl")))
        while len(list((tmp_path / "share").rglob("documents.jsonl"))) < before + 2 and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    report = pack(catalog, tmp_path / "share")
    assert report.ok
    assert len(report.copied) + len(report.known) == 8
    assert [run.uid for run in Catalog(tmp_path / "share")] == [run.uid for run in catalog]
    check_images(Broker(tmp_path / "share"))


def test_an_interrupt_leaves_no_zip_and_nothing_beside_it(tmp_path, beamtime, monkeypatch):
    real, left = depots._spooled, iter(range(6))

    def spooled(pieces, path):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(pieces, path)

    monkeypatch.setattr(depots, "_spooled", spooled)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        pack(beamtime, tmp_path / "share.zip", zip=True)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_two_packs_at_once_make_one(tmp_path):
    scans = [Scan(tmp_path / "images", time=factories.T0 + number) for number in range(3)]
    recorded(tmp_path / "beamtime", *scans)
    code = "import sys, filebroker; print(filebroker.pack(filebroker.Catalog(sys.argv[1]), sys.argv[2]).ok)"
    command = [sys.executable, "-c", code, str(tmp_path / "beamtime"), str(tmp_path / "share")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["True", "True"]
    assert len(Catalog(tmp_path / "share")) == 3
    assert pack(Catalog(tmp_path / "beamtime"), tmp_path / "share").known == [scan.start["uid"] for scan in scans]
    check_images(Broker(Path(tmp_path / "share")))
