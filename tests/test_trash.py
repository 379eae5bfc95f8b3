"""The trash: runs that are hidden, brought back, or removed for good; at no moment is there half a run."""

import gc
import json
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

import factories as make
from filebroker import (
    Broker,
    Catalog,
    DuplicateDocument,
    NotSupported,
    RecoveryWarning,
    RunInTrash,
    RunNotFound,
    StorageError,
    verify,
)
from filebroker.cataloging import purging
from filebroker.commands.main import main
from filebroker.finding import note_uptake
from filebroker.finding.library import Library
from filebroker.finding.manifest import Manifest
from filebroker.ground.remote import Remote
from filebroker.ground.stores import Store
from filebroker.storing import layout
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


def directory_of(uid: str) -> str:
    return layout.run_directory({"uid": uid, "time": make.T0 + UIDS.index(uid)})


# -- what everybody can rely on, wherever the catalog is


def test_a_run_in_the_trash_is_nowhere_else(place: Place) -> None:
    db, other = place.open(), place.open("elsewhere", read_only=True)
    assert len(other()) == 3
    results = other(scan_id=1)
    assert len(results) == 1
    db.annotate("ftwo", "plateau")
    db.trash("ftwo", "the shutter was closed", author="chen")
    for broker in (db, other, place.open("third", read_only=True)):
        runs = broker.catalog
        assert uids(broker()) == uids(runs) == uids(broker[-2:]) == ["fthree", "fone"]
        assert len(runs) == len(broker()) == 2
        assert "ftwo" not in runs
        assert runs.of_uid("ftwo") is None
        assert len(results) == 0
        assert uids(broker("plateau")) == uids(broker(uid="ftwo")) == uids(broker(since=make.T0, scan_id=1)) == []
        assert list(broker.v2) == ["fthree", "fone"]
        assert [item.start["uid"] for item in runs.documents()] == ["fthree", "fone"]
        assert broker.keys_seen().loc["uid", "runs"] == 2
        for key in ("ftwo", "ftw", 1, "1"):
            with pytest.raises(
                RunInTrash, match=r"'ftwo' was put into the trash by 'chen' on .*\('the shutter was clos"
            ):
                broker[key]
        with pytest.raises(KeyError):
            broker.v2["ftwo"]
        (item,) = broker.trashed()
        assert (item.uid, item.author, item.reason, item.purged) == ("ftwo", "chen", "the shutter was closed", None)
        assert item.start["scan_id"] == 1
        assert item.directory == directory_of("ftwo")
    db.restore("ftw")
    for broker in (db, other, place.open("fourth", read_only=True)):
        assert uids(broker()) == ["fthree", "ftwo", "fone"]
        assert uids(broker("plateau")) == ["ftwo"]
        assert len(results) == 1
        assert broker["ftwo"].table().shape == (2, 2)
        assert broker.trashed() == []


def test_a_run_that_was_removed_for_good_leaves_a_receipt(place: Place) -> None:
    db, other = place.open(), place.open("elsewhere", read_only=True)
    assert len(other()) == 3
    with pytest.raises(RunNotFound, match="no run in the trash"):
        db.purge("ftwo")
    db.trash(["ftwo", "fthree"])
    with pytest.raises(RunNotFound, match="give the whole uid"):
        db.purge("ftw")
    size = db.catalog.bytes_in_trash("ftwo")
    receipt = db.purge("ftwo", author="chen")
    assert receipt["bytes"] == size > 500
    assert receipt["files"] == ["documents.jsonl", "primary/00000.parquet"]
    assert (receipt["uid"], receipt["run"], receipt["author"]) == ("ftwo", directory_of("ftwo"), "chen")
    assert not db.catalog.folder.names(directory_of("ftwo"))
    assert not db.catalog.folder.names("_purged")
    assert db.purge("ftwo") == receipt
    for broker in (db, other, place.open("third", read_only=True)):
        assert uids(broker()) == ["fone"]
        assert uids(broker.trashed()) == ["fthree"]
        with pytest.raises(RunInTrash, match=r"and removed for good by 'chen'.*restore\('ftwo'\) allows to record"):
            broker["ftwo"]
    db.catalog.reindex()
    db.refresh()
    assert uids(db()) == ["fone"]
    db.restore("fthree")
    assert uids(db()) == ["fthree", "fone"]
    db.close()


def test_what_is_in_the_trash_is_not_recorded_anew_before_it_is_restored(place: Place) -> None:
    db = place.open()
    db.trash(["fone", "ftwo"])
    db.purge("ftwo")
    for number, uid in enumerate(["fone", "ftwo"]):
        for time in (make.T0 + number, make.T0 + 100):
            with pytest.raises(DuplicateDocument, match=rf"{uid}' was put into the trash by .*restore\('{uid}'\)"):
                db.insert("start", make.start(uid=uid, time=time, scan_id=number))
    assert uids(db()) == ["fthree"]
    db.restore("ftwo")
    assert db.trashed()[0].uid == "fone"
    assert uids(db()) == ["fthree"]
    for pair in make.run(2, uid="ftwo", time=make.T0 + 1, scan_id=1, again=True):
        db.insert(*pair)
    db.catalog.flush(60)
    assert uids(db(again=True)) == ["ftwo"]
    assert uids(place.open("elsewhere")()) == ["fthree", "ftwo"]
    db.close()


def test_the_trash_outlives_everything_that_is_derived(place: Place) -> None:
    db = place.open()
    db.trash("ftwo")
    for deed in (db.catalog.clear_cache, db.catalog.reindex, db.refresh):
        deed()
        assert uids(db()) == ["fthree", "fone"]
        assert uids(db.trashed()) == ["ftwo"]
    path = db.catalog.library.manifest.path
    db.catalog.library.close()
    Path(path).write_bytes(b"SQLite format 3\0 and then rubbish" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert uids(place.open()()) == ["fthree", "fone"]
        assert uids(db()) == ["fthree", "fone"]
    db.restore("ftwo")
    assert uids(db()) == uids(place.open("elsewhere")()) == ["fthree", "ftwo", "fone"]
    db.close()


def test_a_live_run_is_hidden_recorded_on_and_brought_back(place: Place) -> None:
    db = place.open()
    documents = make.run(3, uid="flive", time=make.T0 + 60)
    for pair in documents[:3]:
        db.insert(*pair)
    db.catalog.flush(60)
    db.trash("flive")
    with pytest.raises(NotSupported, match="is being recorded"):
        db.purge("flive")
    assert uids(db.trashed()) == ["flive"]
    for pair in documents[3:]:
        db.insert(*pair)
    db.catalog.flush(60)
    other = place.open("elsewhere", read_only=True)
    assert len(db()) == len(other()) == 3
    db.restore("flive")
    assert db["flive"].state == other["flive"].state == "sealed"
    assert len(db["flive"].table()) == len(other["flive"].table()) == 3
    db.close()


def test_nobody_sees_a_run_in_the_trash_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place("memory", tmp_path / "homes", "")
    db = place.open()
    record(db)
    db.trash("ftwo")
    db.close()
    seen, follow = [], Library._follow_store

    def followed(library: Library) -> Any:
        answer = follow(library)
        seen.append(len(library.manifest))
        return answer

    monkeypatch.setattr(Library, "_follow_store", followed)
    assert len(place.open("elsewhere", read_only=True)()) == 2
    assert set(seen) == {2}


# -- on a disk


def test_the_trash_without_a_ledger_and_in_a_copy_without_a_marker(local: Broker) -> None:
    local.trash("ftwo")
    root = Path(local.catalog.folder.url)
    shutil.rmtree(root / "_index")
    for _ in range(2):
        for options in ({"read_only": True}, {}):
            assert uids(Broker(root, **options)()) == ["fthree", "fone"]
            assert uids(Broker(root, **options).trashed()) == ["ftwo"]
        (root / "filebroker.json").unlink(missing_ok=True)


def test_an_interrupted_run_in_the_trash_is_sealed_there(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    for pair in make.run(3, uid="flive")[:-1]:
        catalog.insert(*pair)
    catalog.trash("flive")
    catalog.close()
    with pytest.warns(RecoveryWarning):
        again = Catalog(tmp_path / "catalog")
    assert len(again) == 0
    again.restore("flive")
    assert again.by_uid("flive").state == "interrupted"
    again.trash("flive")
    again.purge("flive")
    assert again.trashed() == []


def test_a_run_that_a_copy_brings_back_stays_in_the_trash(tmp_path: Path, local: Broker) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(local.catalog.folder.url, backup)
    local.trash("ftwo")
    local.purge("ftwo")
    shutil.copytree(backup, local.catalog.folder.url, dirs_exist_ok=True)
    local.refresh()
    assert uids(local()) == ["fthree", "fone"]
    assert [(item.uid, item.purged is None) for item in local.trashed()] == [("ftwo", False)]
    local.restore("ftwo")
    assert uids(local()) == ["fthree", "ftwo", "fone"]
    assert len(local["ftwo"].table()) == 2
    local.trash("ftwo")
    local.purge("ftwo")
    assert local.trashed() == []


def test_nothing_is_removed_through_a_link(tmp_path: Path, local: Broker) -> None:
    root, elsewhere = Path(local.catalog.folder.url), tmp_path / "elsewhere"
    (root / directory_of("ftwo")).rename(elsewhere)
    (root / directory_of("ftwo")).symlink_to(elsewhere)
    local.trash(["ftwo", "fone"])
    with pytest.raises(NotSupported, match="is a link"):
        local.purge("ftwo")
    (root / "_purged").symlink_to(elsewhere)
    with pytest.raises(StorageError, match="is a link"):
        local.purge("fone")
    assert {path.name for path in elsewhere.iterdir()} == {"documents.jsonl", "primary"}
    (root / "_purged").unlink()
    local.purge("fone")
    assert uids(local.trashed()) == ["ftwo"]


def test_links_in_a_run_are_removed_and_not_followed(tmp_path: Path, local: Broker) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "image").write_text("precious")
    (Path(local.catalog.folder.url) / directory_of("ftwo") / "link").symlink_to(outside)
    local.trash("ftwo")
    local.purge("ftwo")
    assert (outside / "image").read_text() == "precious"


def test_what_the_ledger_says_of_a_run_in_the_trash_is_kept_for_its_return(local: Broker) -> None:
    other = Broker(local.catalog.folder.url)
    begun = make.start(uid="flive", time=make.T0 + 60)
    other.insert("start", begun)
    local.trash("flive")
    library = local.catalog.library
    (item,) = library.ask(Manifest.discarded)
    assert item.record.state == "live"
    other.insert("stop", make.stop(begun))
    local.catalog.library.sync()
    (item,) = library.ask(Manifest.discarded)
    assert item.record.state == "sealed"
    assert len(local()) == 3
    local.restore("flive")
    assert library.ask(Manifest.revision_of, item.path)[item.path][1] == "sealed"


# -- killed at any moment


class Death(BaseException):
    """The process was killed."""


OPERATIONS = ("open", "replace", "rename", "unlink", "rmdir", "mkdir", "lstat", "listdir")


@contextmanager
def dying(number: int) -> Iterator[list[int]]:
    """Kill the process before the n-th operation on files; the list has how many there were."""
    count = [0]

    def mortal(operation: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                count[0] += 1
                if count[0] >= number:
                    raise Death
            return operation(*arguments, **options)

        return wrapped

    gc.disable()  # what others leave behind is not removed on this account
    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, mortal(getattr(os, name)))
        with suppress(Death):
            yield count
    gc.enable()


DEEDS = {
    "trash": lambda db: db.trash("ftwo"),
    "purge": lambda db: db.purge("ftwo"),
    "restore": lambda db: db.restore("ftwo"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_may_be_killed_at_any_file_operation(deed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    origin = tmp_path / "origin"
    db = Broker(origin)
    record(db)
    if deed != "trash":
        db.trash("ftwo")
    whole = sorted((origin / directory_of("ftwo")).rglob("*"))
    outcomes = set()
    number, total = 1, 10**6
    while number <= total:
        root = tmp_path / f"copy{number}"
        shutil.copytree(origin, root)
        victim = Broker(root)
        assert len(victim()) == (3 if deed == "trash" else 2)
        with dying(number) as count:
            DEEDS[deed](victim)
            total = 0  # it lived
        is_done = count[0] < number
        monkeypatch.setenv("HOME", str(tmp_path / f"home{number}"))
        for options in ({"read_only": True}, {}):
            db = Broker(root, **options)
            seen = "there" if "ftwo" in db.catalog else "in the trash" if db.trashed() else "gone"
            left = sorted((root / directory_of("ftwo")).rglob("*"))
            assert [path.name for path in left] in ([path.name for path in whole], [])
            assert (seen == "gone") == (not left)
            if seen == "there":
                assert len(db["ftwo"].table()) == 2
            assert uids(db())[-1] == "fone"
        outcomes.add(seen)
        if seen == "gone":
            db.purge("ftwo")
        elif not is_done and (deed, seen) not in {("trash", "in the trash"), ("restore", "there")}:
            DEEDS[deed](db)
        assert ("ftwo" in db.catalog) == (deed == "restore")
        assert bool(db.trashed()) == (deed == "trash")
        assert not (root / "_purged").exists()
        shutil.rmtree(root)
        number += 1
    assert number > 4
    assert outcomes == {"trash": {"there", "in the trash"}, "restore": {"there", "in the trash"}}.get(
        deed, {"in the trash", "gone"}
    )


def test_a_removal_from_a_store_may_be_killed_at_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store._run
    for number in range(1, 100):
        place = make_place("memory", tmp_path / f"homes{number}", "")
        db = place.open()
        record(db, ["fone", "ftwo"])
        db.trash("ftwo")
        db.close()
        left_to_live = iter(range(1, number))

        def mortal(store: Store, *arguments: Any, left: Iterator[int] = left_to_live, **options: Any) -> Any:
            if threading.current_thread() is threading.main_thread() and next(left, None) is None:
                raise Death
            return real(store, *arguments, **options)

        with monkeypatch.context() as patch:
            victim = place.open()
            assert len(victim()) == 1
            patch.setattr(Store, "_run", mortal)
            is_killed = True
            try:
                victim.purge("ftwo")
                is_killed = False
            except Death:
                pass
        other = place.open("elsewhere")
        assert uids(other()) == ["fone"]
        left = other.catalog.folder.store.tree(directory_of("ftwo"))
        assert uids(other.trashed()) == (["ftwo"] if left else [])
        if "documents.jsonl" in left:
            assert {*left} == {"documents.jsonl", "primary/00000.parquet"}
        elif left:
            with pytest.raises(RunNotFound, match="only a part is left"):
                other.restore("ftwo")
        other.purge("ftwo")
        assert not other.catalog.folder.store.tree(directory_of("ftwo"))
        assert other.trashed() == []
        assert uids(other()) == ["fone"]
        other.close()
        if not is_killed:
            break
    assert 5 < number < 99


def test_a_disk_that_refuses_is_told_and_leaves_all_as_it_was(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    local.trash("fthree")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        for deed in (lambda: local.trash("ftwo"), lambda: local.restore("fthree"), lambda: local.purge("fthree")):
            with pytest.raises(StorageError, match="No space left"):
                deed()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(StorageError, match="No space left"):
            local.purge("fthree")
    assert uids(local()) == ["ftwo", "fone"]
    assert uids(local.trashed()) == ["fthree"]
    assert not list((Path(local.catalog.folder.url) / "_notes").glob("*.tmp"))
    local.restore("fthree")
    assert len(local["fthree"].table()) == 2


def test_two_who_remove_the_same_run_both_succeed(local: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    local.trash("ftwo")
    rival, real = Broker(local.catalog.folder.url), purging.remove

    def race(*arguments: Any) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(purging, "remove", real)
            rival.purge("ftwo")
        return real(*arguments)

    monkeypatch.setattr(purging, "remove", race)
    assert local.purge("ftwo")["uid"] == "ftwo"
    assert local.trashed() == rival.trashed() == []


def test_a_name_that_is_taken_in_a_store_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place("memory", tmp_path / "homes", "")
    db = place.open()
    record(db, ["fone"])
    monkeypatch.setattr(Remote, "create", lambda *_: False)
    with pytest.raises(StorageError, match="was there already"):
        db.trash("fone")
    assert len(db()) == 1
    db.close()


# -- the command


def test_the_command_hides_lists_and_brings_back(local: Broker, capsys: pytest.CaptureFixture) -> None:
    url = local.catalog.folder.url
    assert main(["trash", url]) == 0
    assert capsys.readouterr() == ("", "the trash is empty\n")
    assert main(["trash", url, "ftwo", "-1", "--reason", "dark", "--author", "ana"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line[: line.index(" (")] + line[line.index(")") + 1 :] for line in told] == [
        *("ftwo is in the trash", "fthree is in the trash")
    ]
    assert uids(local()) == ["fone"]
    assert main(["trash", url, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(row["uid"], row["author"], row["reason"], row["plan_name"]) for row in rows} == {
        ("ftwo", "ana", "dark", "count"),
        ("fthree", "ana", "dark", "count"),
    }
    assert main(["trash", url]) == 0
    assert "ftwo" in capsys.readouterr().out
    assert main(["trash", url, "ftwo"]) == 1
    assert "was put into the trash by 'ana'" in capsys.readouterr().err
    assert main(["restore", url, "f"]) == 1
    assert "2 runs have the scan_id or a uid that begins with f;" in capsys.readouterr().err
    assert main(["restore", url, "ftw", "fthree"]) == 0
    assert capsys.readouterr().out == "ftwo is back\nfthree is back\n"
    assert len(local()) == 3
    assert main(["trash", "example", "-1"]) == 1


class Terminal(StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def test_the_command_asks_before_it_removes(
    local: Broker, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = local.catalog.folder.url
    assert main(["purge", url]) == 0
    assert capsys.readouterr().err == "the trash is empty\n"
    local.trash(["ftwo", "fthree"])
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    assert main(["purge", url]) == 1
    assert "2 runs of" in (told := capsys.readouterr().err)
    assert "--yes" in told
    for answer in ("n\n", "\n", "", "yep\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert main(["purge", url]) == 1
        assert "kB for good? [y/N]" in capsys.readouterr().err
    assert len(local.trashed()) == 2
    assert main(["purge", url, "fone"]) == 1
    assert "no run has the scan_id or a uid that begins with fone; nothing was done" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert main(["purge", url, "ftw"]) == 0
    assert capsys.readouterr().out == "ftwo was removed\n"
    assert main(["purge", url, "--yes"]) == 0
    assert local.trashed() == []
    assert uids(local()) == ["fone"]


def test_a_run_that_is_restored_while_it_is_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(tmp_path / "catalog")
    record(catalog, ["a-run"])
    before = list(catalog.newest(1).documents())
    catalog.trash("a-run")
    move = os.rename

    def restored_meanwhile(old: str, new: str) -> None:
        move(old, new)
        monkeypatch.setattr(os, "rename", move)
        Catalog(tmp_path / "catalog").restore("a-run")

    monkeypatch.setattr(os, "rename", restored_meanwhile)
    with pytest.raises(RunNotFound, match="restored by somebody else meanwhile; nothing was removed"):
        catalog.purge("a-run")
    assert list(Catalog(tmp_path / "catalog").newest(1).documents()) == before
    assert catalog.trashed() == []


def test_an_interrupted_purge_of_many_is_finished_by_saying_the_same_again(
    local: Broker, capsys: pytest.CaptureFixture
) -> None:
    url = local.catalog.folder.url
    local.trash(["ftwo", "fthree"])
    local.purge("ftwo")
    assert main(["purge", url, "--yes", "ftwo", "fthree"]) == 0
    assert capsys.readouterr().out == "ftwo was removed before\nfthree was removed\n"
    assert main(["purge", url, "--yes", "ftwo"]) == 0
    assert capsys.readouterr().err == "nothing is left to be removed\n"


def test_a_run_may_come_after_options(local: Broker, capsys: pytest.CaptureFixture) -> None:
    url = local.catalog.folder.url
    assert main(["trash", url, "--reason", "blank", "ftwo"]) == 0
    assert [(item.uid, item.reason) for item in local.trashed()] == [("ftwo", "blank")]
    capsys.readouterr()
    assert main(["table", url, "--stream", "primary", "-1"]) == 0
    assert main(["show", url, "--no-plot", "-2"]) == 0


def test_a_purged_run_that_a_copy_brings_back_is_no_damage(local: Broker, tmp_path: Path) -> None:
    root = Path(local.catalog.folder.url)
    shutil.copytree(root / directory_of("ftwo"), tmp_path / "copy")
    local.trash("ftwo")
    local.purge("ftwo")
    shutil.copytree(tmp_path / "copy", root / directory_of("ftwo"))
    found = verify(Catalog(root))
    assert found.ok
    assert ["purge it once more" in remark.what for remark in found.remarks if remark.path] == [True]


def test_of_several_runs_of_a_scan_id_none_is_taken_silently(local: Broker, capsys: pytest.CaptureFixture) -> None:
    url = local.catalog.folder.url
    record(local, ["zfour"])  # has the scan_id of the first
    for verb in (["annotate", url, "0", "good"], ["trash", url, "0"]):
        assert main(verb) == 1
        told = capsys.readouterr().err
        assert "2 runs have scan_id 0; give the uid of one" in told
        assert "fone" in told
        assert "zfour" in told
    assert main(["annotate", url, "fone", "good"]) == 0
    assert capsys.readouterr().out.startswith("fone (scan_id 0, ")


def test_who_looks_for_a_run_in_the_trash_is_told_the_command(local: Broker, capsys: pytest.CaptureFixture) -> None:
    url = local.catalog.folder.url
    local.trash("ftwo")
    assert main(["show", url, "ftwo"]) == 1
    assert f'"filebroker restore {url} RUN" brings a run back' in capsys.readouterr().err
    assert main(["restore", url, "nothing"]) == 1
    assert capsys.readouterr().err.endswith(f'"filebroker trash {url}" lists what is in the trash\n')
