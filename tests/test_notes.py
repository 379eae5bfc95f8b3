"""Annotations: said of runs afterwards by anybody, found by searches, merged by copying, not harmed by bad files."""

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import factories as make
from filebroker import (
    Broker,
    Catalog,
    InvalidOption,
    NoteWarning,
    ReadOnlyCatalog,
    RunNotFound,
    StorageError,
    StoreUnreachable,
    UnstorableValue,
)
from filebroker.commands.main import main
from filebroker.finding import note_uptake, notes
from filebroker.finding.manifest import Manifest
from filebroker.finding.notes import MAX_BYTES, Note
from filebroker.storing.journal import encode_line
from servers import Proxy, WebServer, options_for
from test_contract_stores import Place, make_place

UIDS = ["fone", "ftwo", "fthree"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """List the notes in stores whenever somebody asks, as if half a minute had passed."""
    monkeypatch.setattr(note_uptake, "LISTING_SECONDS", 0.0)
    monkeypatch.setenv("FILEBROKER_AUTHOR", "tester")


def record(db: Any, uids: Any = UIDS, **keys: Any) -> None:
    for number, uid in enumerate(uids):
        for pair in make.run(2, uid=uid, time=make.T0 + number, scan_id=number, **keys):
            db.insert(*pair)
    getattr(db, "catalog", db).flush(60)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3_endpoint: str) -> Place:
    place = make_place(request.param, tmp_path / "homes", s3_endpoint)
    db = place.open()
    record(db)
    db.close()
    return place


@pytest.fixture
def local(tmp_path: Path) -> Broker:
    db = Broker(tmp_path / "catalog")
    record(db)
    return db


def uids(found: Any) -> list[str]:
    return [item.uid for item in found]


def said(header: Any) -> list[tuple[Any, ...]]:
    return [(item["author"], item["comment"], item["tags"]) for item in header.annotations]


def note_files(db: Broker) -> list[Path]:
    return sorted((Path(db.catalog.folder.url) / "_notes").iterdir())


# -- what everybody can rely on, wherever the catalog is


def test_annotations_are_kept_found_and_seen_by_others(place: Place) -> None:
    db, other = place.open(), place.open("elsewhere", read_only=True)
    assert uids(other("excellent")) == []
    db.annotate("fone", "Excellent Müller plateau", tags=["good", "paper"], author="Ana Chen")
    db.annotate(db["ftwo"], tags="good")
    db.annotate([db["fone"], -1], remove_tags=["paper"], tags=["seen"], author="../bert")
    for broker in (db, other, place.open("third", read_only=True)):
        assert uids(broker("excellent")) == ["fone"]
        assert uids(broker("muller plateau")) == ["fone"]
        assert uids(broker("good")) == ["ftwo", "fone"]
        assert uids(broker("-good")) == ["fthree"]
        assert uids(broker(**{"annotations.tags": "good"})) == ["ftwo", "fone"]
        assert uids(broker(**{"annotations.tags": "paper"})) == []
        assert uids(broker(**{"annotations.author": "../bert"})) == ["fthree", "fone"]
        assert uids(broker(annotations={"$exists": False})) == []
        assert uids(broker(**{"annotations.comment": {"$regex": "^Excellent"}})) == ["fone"]
        assert said(broker["fone"]) == [
            ("Ana Chen", "Excellent Müller plateau", ["good"]),
            ("../bert", None, ["seen"]),
        ]
        assert broker["fone"].tags == ["good", "seen"]
        assert "annotations" not in broker["fone"].start
        assert "annotations" not in next(broker.v2["fone"].documents(fill="no"))[1]
        assert not any("annotations" in item.start for item in broker.catalog.documents())
        assert not [key for key in broker.keys_seen().index if key.startswith("annotations")]
    names = db.catalog.folder.names("_notes")
    assert [name.split("Z-")[1].rpartition("-")[0] for name in names] == ["Ana%20Chen", "tester", "%2E.%2Fbert"]


def test_live_and_interrupted_runs_can_be_annotated(place: Place) -> None:
    db = place.open()
    begun = make.start(uid="flive", time=make.T0 + 60)
    db.insert("start", begun)
    db.catalog.flush(60)
    db.annotate("flive", tags="now")
    assert uids(db("now")) == ["flive"]
    db.insert("stop", make.stop(begun))
    db.catalog.flush(60)
    assert uids(db("now")) == ["flive"] == uids(place.open("elsewhere", read_only=True)("now"))
    assert db["flive"].tags == ["now"]
    db.close()


def test_annotations_outlive_everything_that_is_derived(place: Place) -> None:
    db = place.open()
    db.annotate("fone", "the plateau", tags="good")
    for deed in (db.catalog.clear_cache, db.catalog.reindex, db.refresh, db.catalog.library.clear):
        deed()
        assert uids(db("plateau")) == ["fone"]
        assert db["fone"].tags == ["good"]
    path = db.catalog.library.manifest.path
    db.catalog.library.close()
    Path(path).write_bytes(b"SQLite format 3\0 and then rubbish" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = place.open()
        assert uids(again("plateau")) == ["fone"]
    db.close()


def test_who_only_reads_cannot_annotate(place: Place, local: Broker) -> None:
    db = place.open(read_only=True)
    for deed in (lambda: db.annotate("fone", "x"), lambda: db.trash("fone"), lambda: db.restore("fone")):
        with pytest.raises(ReadOnlyCatalog):
            deed()
    local.annotate("fone", tags="good")
    with WebServer(Path(local.catalog.folder.url).parent) as server:
        web = Broker(f"{server.url}/catalog")
        with pytest.raises(ReadOnlyCatalog, match="nothing can be written to"):
            web.annotate("fone", "x")


def test_without_a_network_nothing_is_said_and_what_was_said_is_known(
    tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(s3_endpoint) as proxy:
        place = make_place("s3", tmp_path / "homes", s3_endpoint)
        place.options = options_for(proxy.url)
        first = place.open()
        record(first)
        first.close()
        db = place.open()
        db.annotate("fone", tags="good")
        db.trash("ftwo")
        monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.4")
        proxy.fault("", "reset")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(StoreUnreachable):
                db.annotate("fone", tags="bad")
            assert uids(db("good")) == ["fone"]
            assert uids(db()) == ["fthree", "fone"]
            assert uids(place.open()("good")) == ["fone"]
        proxy.clear()
        monkeypatch.setenv("FILEBROKER_TIMEOUT", "20")
        assert place.open("elsewhere")["fone"].tags == ["good"]
        db.close()


# -- searches


def test_an_index_finds_annotations_and_what_lacks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Broker(tmp_path / "catalog")
    names = [f"f{number}" for number in range(12)]
    record(db, names, sample="LaB6")
    db.annotate("f7", "plateau of LaB6", tags=["good", "two words"])
    db.catalog.library.update_index()
    db.annotate("f8", "plateau")
    db.annotate("f9", tags="good")
    db.annotate("f9", remove_tags="good")
    expected = {
        "plateau": ["f8", "f7"],
        '"plateau of"': ["f7"],
        "good": ["f7"],
        "annotations.tags:two": ["f7"],
        "annotations.comment:LaB6": ["f7"],
    }
    for _ in range(2):
        for text, answer in expected.items():
            assert uids(db(text)) == answer, text
        assert len(db("LaB6")) == len(names)
        assert len(db("LaB6 -plateau")) == len(names) - 2
        assert uids(db(annotations={"$elemMatch": {"tags": "good", "author": "tester"}})) == ["f7"]
        assert len(db(annotations={"$exists": False})) == len(names) - 2
        assert uids(db(**{"annotations.1.tags": "good"})) == []
        assert "asked for" in str(db.catalog.search(text="plateau").explain())
        db.catalog.library.update_index()


def test_annotations_of_the_start_document_are_searched_as_well(local: Broker) -> None:
    owns = {"flist": [{"tags": ["own"]}, "text"], "fdict": {"tags": "own"}, "ftext": "own words", "fnull": None}
    for number, (uid, own) in enumerate(owns.items()):
        for pair in make.run(1, uid=uid, time=make.T0 + 60 + number, annotations=own):
            local.insert(*pair)
    local.annotate(list(owns), tags="added")
    assert uids(local(**{"annotations.tags": "own"})) == ["fdict", "flist"]
    assert uids(local(**{"annotations.tags": "added"})) == ["fnull", "ftext", "fdict", "flist"]
    assert uids(local("own")) == ["ftext", "fdict", "flist"]
    assert uids(local(annotations="own words")) == ["ftext"]
    for uid, own in owns.items():
        assert local[uid].start["annotations"] == own
        assert local[uid].tags == ["added"]


def test_a_search_that_was_made_before_finds_what_is_said_later(local: Broker) -> None:
    results, runs = local("plateau"), local.catalog.search(text="plateau")
    assert len(results) == len(runs) == 0
    local.annotate("fone", "plateau")
    assert len(results) == len(runs) == 1
    local.annotate("ftwo", "plateau")
    assert uids(results) == uids(runs) == ["ftwo", "fone"]


# -- what can be said


def test_what_cannot_be_said_is_refused(local: Broker) -> None:
    refused: list[tuple[dict[str, Any], type[Exception]]] = [
        ({}, InvalidOption),
        ({"comment": " "}, InvalidOption),
        ({"comment": 3}, InvalidOption),
        ({"tags": [""]}, InvalidOption),
        ({"tags": [3]}, InvalidOption),
        ({"tags": 3}, InvalidOption),
        ({"tags": "x" * 2000}, InvalidOption),
        ({"comment": "x", "author": ""}, InvalidOption),
        ({"comment": "é" * (MAX_BYTES - 5)}, UnstorableValue),
        ({"comment": "x" * (MAX_BYTES + 5)}, InvalidOption),
    ]
    for options, error in refused:
        with pytest.raises(error):
            local.annotate("fone", **options)
    with pytest.raises(RunNotFound):
        local.annotate("nowhere", "x")
    with pytest.raises(InvalidOption, match=r"is one of .*example, and not of"):
        local.annotate(Broker.named("example")[-1], "x")
    assert not (Path(local.catalog.folder.url) / "_notes").exists()
    local.annotate([], "x")
    local.annotate(local("nothing has this word"), "x")
    assert not (Path(local.catalog.folder.url) / "_notes").exists()


def test_any_text_comes_back(local: Broker) -> None:
    strange = "</td>\n\x1b[31m \ud800 \x00 " + "語" * 300
    local.annotate("fone", strange, tags=[strange], author=strange)
    again = Broker(local.catalog.folder.url)
    assert said(again["fone"]) == [(strange, strange, [strange])]
    assert "</td>\n" not in again["fone"]._repr_html_()
    assert "Annotations" in again["fone"]._repr_html_()


def test_the_author_is_who_is_given_or_named_or_logged_in(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    local.annotate("fone", "1", author="given")
    local.annotate("fone", "2")
    monkeypatch.delenv("FILEBROKER_AUTHOR")
    monkeypatch.setenv("LOGNAME", "login")
    local.annotate("fone", "3")
    assert [item["author"] for item in local["fone"].annotations] == ["given", "tester", "login"]
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid not found")))
    with pytest.raises(InvalidOption, match="FILEBROKER_AUTHOR"):
        local.annotate("fone", "4")


def test_clocks_that_disagree_keep_the_order_of_what_was_said(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    local.annotate("fone", tags="good")
    monkeypatch.setattr("time.time", lambda: 1.0e9)
    local.annotate("fone", remove_tags="good")
    local.trash("fone")
    local.restore("fone")
    assert local["fone"].tags == []
    assert local["fone"].annotations == []


def test_a_deed_on_many_runs_takes_few_files(local: Broker) -> None:
    path = local["fone"].start["time"]
    assert path == make.T0
    many = [
        Note("note", {"run": f"2025/11/22/20251122T111205.250000Z-f{number}", "uid": f"f{number}"})
        for number in range(20_000)
    ]
    docs = [note._replace(doc={**note.doc, "author": "a", "time": 1.0, "comment": "x" * 100}) for note in many]
    files = notes.encode(docs)
    assert len(files) == 5
    assert all(len(data) <= MAX_BYTES for _, data in files)
    assert [note for name, data in files for _, note in notes.decode(name, data).notes] == docs
    local.annotate(local(), "all of them")
    assert len(note_files(local)) == 1
    assert [header.annotations[0]["comment"] for header in local()] == ["all of them"] * 3


# -- many people, and copies


def test_copies_that_were_both_annotated_become_one_by_copying(tmp_path: Path) -> None:
    record(Broker(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    one, two = Broker(tmp_path / "a"), Broker(tmp_path / "b")
    one.annotate("fone", tags="first", author="ana")
    two.annotate("fone", tags="second", author="bert")
    two.trash("ftwo", author="bert")
    one.annotate("ftwo", "seen", author="ana")
    for origin, target in (("a", "b"), ("b", "a")):
        shutil.copytree(tmp_path / origin / "_notes", tmp_path / target / "_notes", dirs_exist_ok=True)
    for db in (one, two, Broker(tmp_path / "a", read_only=True)):
        assert db["fone"].tags == ["first", "second"]
        assert uids(db()) == ["fthree", "fone"]
    two.restore("ftwo")
    assert two["ftwo"].annotations[0]["comment"] == "seen"


def test_a_note_that_is_removed_was_never_said(local: Broker) -> None:
    local.annotate("fone", tags="good")
    local.trash("ftwo")
    assert len(local()) == 2
    kept = {path: path.read_bytes() for path in note_files(local)}
    for path in kept:
        path.unlink()
    assert uids(local()) == ["fthree", "ftwo", "fone"]
    assert local["fone"].tags == []
    for path, data in kept.items():
        path.write_bytes(data)
    assert uids(local()) == ["fthree", "fone"]
    assert local["fone"].tags == ["good"]
    shutil.rmtree(Path(local.catalog.folder.url) / "_notes")
    assert uids(local()) == ["fthree", "ftwo", "fone"]


def test_notes_may_come_before_their_runs(local: Broker, tmp_path: Path) -> None:
    local.annotate("fone", tags="good")
    local.trash("ftwo")
    copy = tmp_path / "copy"
    shutil.copytree(Path(local.catalog.folder.url) / "_notes", copy / "_notes")
    db = Broker(copy)
    assert uids(db()) == []
    assert uids(db.trashed()) == []
    shutil.copytree(local.catalog.folder.url, copy, dirs_exist_ok=True)
    assert uids(db()) == ["fthree", "fone"]
    assert uids(db("good")) == ["fone"]
    assert uids(db.trashed()) == ["ftwo"]


def test_others_see_at_once_what_is_said(local: Broker) -> None:
    script = "import sys; from filebroker import Broker; Broker(sys.argv[1]).annotate('fone', tags=sys.argv[2])"
    for tag in ("a", "b"):
        subprocess.run([sys.executable, "-c", script, local.catalog.folder.url, tag], check=True)
        assert local["fone"].tags[-1] == tag
        assert uids(local(tag)) == ["fone"]


@pytest.mark.parametrize("trouble", [StorageError("no answer"), KeyboardInterrupt()])
def test_what_could_not_be_read_is_read_the_next_time(
    trouble: BaseException, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(note_uptake, "LISTING_SECONDS", 30.0)
    db = place.open()
    db.annotate("fone", tags="good")
    db.trash("ftwo")
    other = place.open("elsewhere", read_only=True)

    def fail(*_: Any) -> Any:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(note_uptake, "decode", fail)
        with pytest.raises(type(trouble)):
            len(other())
    assert uids(other()) == ["fthree", "fone"]
    assert uids(other("good")) == ["fone"]
    db.close()


def test_people_who_annotate_at_once_lose_nothing(local: Broker) -> None:
    def annotate(name: str) -> None:
        db = Broker(local.catalog.folder.url)
        for number in range(20):
            db.annotate("fone", tags=f"{name}{number}", author=name)
        db.catalog.library.close()

    threads = [threading.Thread(target=annotate, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(local["fone"].tags) == sorted(f"{name}{number}" for name in "abc" for number in range(20))
    assert len(note_files(local)) == 60


def test_what_was_taken_in_is_not_read_again(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        local.annotate("fone", tags=f"t{number}")
    read: list[str] = []
    decode = note_uptake.decode
    monkeypatch.setattr(note_uptake, "decode", lambda name, data: read.append(name) or decode(name, data))
    again = Broker(local.catalog.folder.url)
    assert len(again["fone"].tags) == 30
    assert read == []
    for number in range(30):
        local.annotate("fone", tags=f"u{number}")
    assert len(local["fone"].tags) == len(again["fone"].tags) == 60
    assert len(read) <= 60  # each once by each of them


def test_a_large_directory_is_not_listed_all_the_time(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    local.annotate("fone", tags="a")
    clock, listings = [1000.0], []
    names = local.catalog.folder.names

    def slow(name: str = "") -> list[str]:
        if name == "_notes":
            listings.append(clock[0])
            clock[0] += 0.1
        return names(name)

    monkeypatch.setattr(note_uptake.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(local.catalog.folder, "names", slow)
    local.catalog.library.note_files.forget()
    for _ in range(200):
        assert len(local()) == 3
        clock[0] += 0.01
    assert 2 <= len(listings) <= 4
    local.annotate("fone", tags="b")
    assert local["fone"].tags == ["a", "b"]  # what one says oneself is there at once


# -- hostile and damaged files


def line(kind: str = "note", number: int = 0, **keys: Any) -> bytes:
    run = "2025/11/22/20251122T111205.250000Z-fone"
    return encode_line(number, kind, {"run": run, "uid": "fone", "author": "eve", "time": 1.0, "comment": "x", **keys})


HOSTILE: dict[str, bytes] = {
    "bad checksum": line().replace(b"eve", b"eva"),
    "torn": line()[:-20],
    "empty": b"",
    "no json": b"\x00\xff" * 100,
    "other json": b'{"run": "fone"}\n',
    "a list": encode_line(0, "note", [1, 2]),  # type: ignore[arg-type]
    "outside": line("trash", run="../../x", uid="x"),
    "absolute": line("trash", run="/etc/passwd", uid="passwd"),
    "outside below a day": line("trash", run="2025/11/22/../../../x", uid="x"),
    "dots": line("trash", run="2025/11/22/20251122T111205.250000Z-..", uid=".."),
    "another run": line("trash", uid="ftwo"),
    "no author": line("trash", author=""),
    "author is a number": line("trash", author=7),
    "time is text": line("trash", time="now"),
    "time is no number": line("trash", time=float("nan")),
    "time without end": line("trash", time=1e300),
    "time is true": line("trash", time=True),
    "comment is a list": line("note", comment=["x"]),
    "tags are text": line("note", tags="good"),
    "tags are numbers": line("note", tags=[1]),
    "reason is a mapping": line("trash", reason={}),
    "run is nothing": line("trash", run=None),
    "number": line("trash", number=-1),
    "large": line() * 60_000,
}


def put(db: Broker, data: bytes, name: str = "20251122T111205.250000Z-eve-0a1b2c3d.jsonl") -> Path:
    path = Path(db.catalog.folder.url) / "_notes" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1.6e9, 1.6e9))
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_note_is_told_once_and_disturbs_nothing(name: str, local: Broker) -> None:
    local.annotate("fone", tags="good")
    put(local, HOSTILE[name])
    with pytest.warns(NoteWarning, match=r"0a1b2c3d\.jsonl") as told:
        assert uids(local()) == ["fthree", "ftwo", "fone"]
    assert len([item for item in told if item.category is NoteWarning]) == 1
    local.annotate("ftwo", tags="good")
    assert uids(local("good")) == ["ftwo", "fone"]
    assert said(local["fone"]) == [("tester", None, ["good"])]
    local.trash("fone")
    local.restore("fone")
    assert len(local()) == 3
    with pytest.warns(NoteWarning):
        assert len(Broker(local.catalog.folder.url)()) == 3


def test_what_is_no_file_is_not_read(local: Broker, tmp_path: Path) -> None:
    local.annotate("fone", tags="good")
    secret = tmp_path / "secret"
    secret.write_bytes(line("trash"))
    directory = Path(local.catalog.folder.url) / "_notes"
    (directory / "20251122T111205.250000Z-dir-0a1b2c3d.jsonl").mkdir()
    (directory / "20251122T111205.250000Z-link-0a1b2c3d.jsonl").symlink_to(secret)
    loop = "20251122T111205.250000Z-loop-0a1b2c3d.jsonl"
    (directory / loop).symlink_to(loop)
    os.mkfifo(directory / "20251122T111205.250000Z-pipe-0a1b2c3d.jsonl")
    for name in ("README", "20251122T111205.250000Z-x-0a1b2c3d.jsonl.12345678.tmp", ".20251122-rsync.aB3xYz"):
        (directory / name).write_bytes(line("trash"))
    with pytest.warns(NoteWarning) as told:
        assert len(local()) == 3
    assert len(told) == 4
    assert local["fone"].tags == ["good"]


def test_good_lines_beside_bad_ones_count_until_the_file_is_mended(local: Broker) -> None:
    good = [line("note", 0, tags=["a"]), line("note", 1, tags=["b"]), line("note", 2, tags=["c"])]
    path = put(local, b"".join([good[0], good[1].replace(b'"b"', b'"x"'), good[2]]))
    with pytest.warns(NoteWarning, match="line 2"):
        assert local["fone"].tags == ["a", "c"]
    again = Broker(local.catalog.folder.url)
    with pytest.warns(NoteWarning):
        assert again["fone"].tags == ["a", "c"]
    path.write_bytes(b"".join(good))
    assert local["fone"].tags == again["fone"].tags == ["a", "b", "c"]


def test_a_note_that_is_just_being_copied_is_waited_for(local: Broker) -> None:
    data = line("note", tags=["a"])
    path = put(local, data[:-30])
    os.utime(path)
    assert local["fone"].tags == []
    with open(path, "ab") as file:
        file.write(data[-30:])
    assert local["fone"].tags == ["a"]


def test_what_was_said_once_and_copied_twice_counts_once(local: Broker) -> None:
    put(local, line("note", 0, run="2025/11/22/20251122T111206.250000Z-ftwo", uid="ftwo") + line("note", 1))
    put(local, line(), "20251122T111205.250000Z-eve-ffffffff.jsonl")
    put(local, line(time=2.0), "20251122T111205.250000Z-eve-eeeeeeee.jsonl")
    assert said(local["fone"]) == [("eve", "x", [])] * 2
    assert said(local["ftwo"]) == [("eve", "x", [])]


def test_what_later_versions_say_is_passed_over(local: Broker) -> None:
    put(local, line("praise") + line("note", 1, tags=["a"], stars=5))
    assert local["fone"].tags == ["a"]
    assert len(Broker(local.catalog.folder.url)()) == 3


def test_a_directory_that_cannot_be_listed_is_told(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    local.annotate("fone", tags="good")
    names = local.catalog.folder.names

    def refuse(name: str = "") -> list[str]:
        if name == "_notes":
            raise StorageError("cannot list _notes: permission denied")
        return names(name)

    monkeypatch.setattr(local.catalog.folder, "names", refuse)
    local.catalog.library.note_files.forget()
    with pytest.warns(NoteWarning, match="permission denied"):
        assert len(local()) == 3
    assert local["fone"].tags == ["good"]


def test_hostile_notes_in_a_store_disturb_nothing(tmp_path: Path, s3_endpoint: str) -> None:
    place = make_place("s3", tmp_path / "homes", s3_endpoint)
    db = place.open()
    record(db)
    store = db.catalog.folder.store.store
    for number, data in enumerate(HOSTILE.values()):
        store.write(f"_notes/20251122T111205.250000Z-eve-{number:08x}.jsonl", data)
    with pytest.warns(NoteWarning) as told:
        db.annotate("fone", tags="good")
    assert len(told) == len(HOSTILE)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        other = place.open("elsewhere")
        assert uids(other()) == ["fthree", "ftwo", "fone"]
        assert other["fone"].tags == ["good"]
    assert len([item for item in told if item.category is NoteWarning]) == len(HOSTILE)
    db.close()
    other.close()


def test_what_is_kept_of_notes_on_this_machine_is_checked(local: Broker) -> None:
    local.annotate("fone", "plateau")
    library = local.catalog.library
    with library.manifest.writing():
        library.manifest._connection.execute("UPDATE notes SET doc = replace(doc, 'plateau', 'plateaX') WHERE line = 0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert said(local["fone"]) == [("tester", "plateau", [])]
    assert library.ask(Manifest.removals) == 0


# -- the command


def test_the_command_annotates(local: Broker, capsys: pytest.CaptureFixture) -> None:
    url = local.catalog.folder.url
    assert main(["annotate", url, "fone", "use this one", "--tag", "good", "--tag", "paper", "--author", "ana"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("fone (scan_id 0, count, ")
    assert told.endswith("): 1 annotation, tags: good, paper\n")
    assert main(["annotate", url, "-1", "--tag", "bad"]) == 0
    assert main(["annotate", url, "fone", "--remove-tag", "paper"]) == 0
    assert said(local["fone"]) == [("ana", "use this one", ["good"])]
    assert said(local["fthree"]) == [("tester", None, ["bad"])]
    capsys.readouterr()
    assert main(["ls", url, "good"]) == 0
    assert "fone" in capsys.readouterr().out
    assert main(["show", url, "fone"]) == 0
    assert "use this one" in capsys.readouterr().out
    assert main(["annotate", url, "fone"]) == 1
    assert "nothing to say" in capsys.readouterr().err
    assert main(["annotate", "example", "-1", "x"]) == 1
    assert "opened for reading" in capsys.readouterr().err
    assert main(["annotate", url, "nowhere", "x"]) == 1


def test_a_note_is_a_line_that_others_can_read(local: Broker) -> None:
    local.annotate("fone", "use this one", tags=["good"], remove_tags=["bad"], author="ana")
    (path,) = note_files(local)
    text = json.loads(path.read_text())
    time = text["doc"].pop("time")
    assert text["i"] == 0
    assert text["name"] == "note"
    assert text["doc"] == {
        "run": "2025/11/22/20251122T111205.250000Z-fone",
        "uid": "fone",
        "author": "ana",
        "comment": "use this one",
        "tags": ["good"],
        "removed_tags": ["bad"],
    }
    assert list(text["doc"])[:3] == ["run", "uid", "author"]
    assert abs(time - path.stat().st_mtime) < 60
    assert isinstance(Catalog(local.catalog.folder.url).annotations("fone"), list)
