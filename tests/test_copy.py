"""Copies of runs between catalogs: as they are, checked, and finished by a repeat."""

import json
import os
import shutil
from pathlib import Path

import pytest

import factories
from filebroker import Broker, Catalog, copy_runs, pack
from filebroker.commands.main import main
from filebroker.finding import cache
from filebroker.ground.errors import ReadOnlyCatalog
from test_pack import Scan, check_images, recorded


def filled(target, count=3, options=None, **keys):
    """Record some runs into a catalog."""
    catalog = Catalog(target, storage_options=options)
    for number in range(count):
        for name, doc in factories.run(scan_id=number, time=factories.T0 + number, **keys):
            catalog.insert(name, doc)
    catalog.close()
    return Catalog(target, storage_options=options)


def documents(catalog):
    return {run.uid: list(run.documents()) for run in catalog}


def forget(catalog):
    """Open a catalog as another machine would, which knows nothing of it."""
    catalog.close()
    cache.clear_files(cache.root())
    again = Catalog(catalog.folder.url, storage_options=catalog.folder.storage_options, read_only=True)
    again.clear_cache()
    return again


@pytest.fixture
def beamtime(tmp_path):
    return filled(tmp_path / "beamtime")


@pytest.fixture(params=["local", "memory", "s3"])
def place(request, tmp_path):
    """Give a catalog that is still to be made, on each kind of filesystem."""
    if request.param == "local":
        return Catalog(tmp_path / "target")
    if request.param == "memory":
        return Catalog(f"memory://{factories.uid()}")
    url, options = request.getfixturevalue("s3_url")
    return Catalog(f"{url}/target", storage_options=options)


def test_runs_are_copied_to_any_filesystem_and_found_by_others_at_once(beamtime, place):
    report = copy_runs(beamtime, place)
    assert (len(report.copied), report.known, report.ok) == (3, [], True)
    assert [run.uid for run in place] == [run.uid for run in beamtime]
    there = forget(place)
    assert documents(there) == documents(beamtime)
    assert there.refresh().records == []  # the ledger knew all of them


def test_runs_are_copied_from_any_filesystem(beamtime, place, tmp_path):
    copy_runs(beamtime, place)
    assert copy_runs(forget(place), tmp_path / "back").ok
    assert documents(Catalog(tmp_path / "back")) == documents(beamtime)


def test_what_is_there_is_passed_over(beamtime, place):
    first = copy_runs(beamtime.search({"scan_id": 1}), place)
    report = copy_runs(beamtime, place)
    assert (report.known, len(report.copied)) == (first.copied, 2)
    assert copy_runs(beamtime, place).known == [run.uid for run in reversed(list(beamtime))]
    assert len(place) == 3


def test_one_run_and_a_list_of_runs_can_be_copied(beamtime, tmp_path):
    assert len(copy_runs(beamtime.newest(1), tmp_path / "one").copied) == 1
    assert len(copy_runs([beamtime.newest(1), beamtime.newest(2)], tmp_path / "two").copied) == 2


def test_files_are_the_same_byte_for_byte(beamtime, tmp_path):
    copy_runs(beamtime, tmp_path / "target")
    names = {path.relative_to(tmp_path / "beamtime") for path in (tmp_path / "beamtime").glob("2*/**/*.*")}
    assert names == {path.relative_to(tmp_path / "target") for path in (tmp_path / "target").glob("2*/**/*.*")}
    files = [name for name in names if (tmp_path / "target" / name).is_file()]
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "beamtime" / name).read_bytes() == (tmp_path / "target" / name).read_bytes()


def test_a_dry_run_writes_nothing(beamtime, tmp_path):
    report = copy_runs(beamtime, tmp_path / "target", dry_run=True)
    assert (len(report.copied), report.documents, (tmp_path / "target").exists()) == (3, 18, False)


def test_packed_files_are_copied_with_their_runs(tmp_path, place):
    pack(recorded(tmp_path / "beamtime", Scan(tmp_path / "images")), tmp_path / "share")
    shutil.rmtree(tmp_path / "images")
    report = copy_runs(Catalog(tmp_path / "share"), place)
    assert (report.external_files, report.ok) == (8, True)
    check_images(Broker(place.folder.url, storage_options=place.folder.storage_options))


# --- annotations


def test_annotations_travel_with_their_runs_and_only_with_them(beamtime, place):
    one, other = beamtime.newest(1), beamtime.newest(2)
    beamtime.annotate(one, "the best one", tags=["good"], author="ana")
    beamtime.annotate(other, "the beam was off", author="ana")
    beamtime.annotate([one, other], tags=["published"], author="ana")
    for _ in range(2):
        copy_runs(beamtime.search({"uid": one.uid}), place)
        assert place.annotations(place.newest(1)) == beamtime.annotations(one)
    assert [item.uid for item in place.search({"annotations.tags": "published"})] == [one.uid]
    there = forget(place)
    assert there.annotations(there.newest(1)) == beamtime.annotations(one)
    copy_runs(beamtime, place)
    assert [place.annotations(run) for run in place] == [beamtime.annotations(run) for run in beamtime]
    assert place.annotations(place.newest(2)) == beamtime.annotations(other)


def test_a_run_that_came_back_from_the_trash_is_copied_and_not_put_there(beamtime, place):
    uid = beamtime.newest(1).uid
    beamtime.trash([beamtime.newest(1), beamtime.newest(2)], author="ana")
    beamtime.restore(uid, author="ana")
    copy_runs(beamtime, place)
    assert {run.uid for run in place} == {run.uid for run in beamtime}
    assert uid in {run.uid for run in place}


def test_a_run_that_is_in_the_trash_of_the_target_stays_there_and_is_named(beamtime, place):
    copy_runs(beamtime, place)
    place.trash(place.newest(1), "the shutter was closed", author="ana")
    report = copy_runs(beamtime, place)
    assert [problem.kind for problem in report.problems] == ["conflict"]
    assert "the shutter was closed" in report.problems[0].reason
    assert len(place) == 2


# --- what is not taken


def test_a_run_that_differs_is_a_conflict_and_nothing_is_changed(tmp_path, place):
    begun = factories.start()
    for target, reason in ((Catalog(tmp_path / "beamtime"), "one"), (place, "another")):
        target.insert("start", begun)
        target.insert("stop", factories.stop(begun, reason=reason))
        target.flush()
    report = copy_runs(Catalog(tmp_path / "beamtime"), place)
    assert [(problem.run, problem.kind) for problem in report.problems] == [(begun["uid"], "conflict")]
    assert place.newest(1).stop["reason"] == "another"


def test_a_run_of_the_same_uid_and_another_time_is_a_conflict(tmp_path):
    uid = factories.uid()
    for name, begun in (("one", factories.T0), ("other", factories.T0 + 1)):
        catalog = Catalog(tmp_path / name)
        for kind, doc in factories.run(uid=uid, time=begun):
            catalog.insert(kind, doc)
    report = copy_runs(Catalog(tmp_path / "one"), tmp_path / "other")
    assert "another run of this uid" in report.problems[0].reason
    assert len(Catalog(tmp_path / "other")) == 1


def test_a_live_run_is_left_out_and_copied_when_it_has_ended(tmp_path, beamtime):
    begun = factories.start(time=factories.T0 + 50)
    beamtime.insert("start", begun)
    report = copy_runs(beamtime, tmp_path / "target")
    assert ([problem.kind for problem in report.problems], len(report.copied)) == (["live"], 3)
    beamtime.insert("stop", factories.stop(begun))
    assert copy_runs(beamtime, tmp_path / "target").copied == [begun["uid"]]


def test_a_run_that_is_being_recorded_in_the_target_is_a_conflict(tmp_path):
    begun = factories.start()
    source, target = Catalog(tmp_path / "beamtime"), Catalog(tmp_path / "target")
    for catalog in (source, target):
        catalog.insert("start", begun)
    source.insert("stop", factories.stop(begun))
    report = copy_runs(source, target)
    assert "being recorded" in report.problems[0].reason
    target.insert("stop", factories.stop(begun, exit_status="abort"))
    assert target.newest(1).stop["exit_status"] == "abort"


def test_an_interrupted_run_is_copied(tmp_path):
    catalog = Catalog(tmp_path / "beamtime")
    catalog.insert("start", factories.start())
    catalog.close()
    with pytest.warns(match="cut short"):
        catalog = Catalog(tmp_path / "beamtime")
    assert copy_runs(catalog, tmp_path / "target").ok
    assert Catalog(tmp_path / "target").newest(1).state == "interrupted"


@pytest.mark.filterwarnings("ignore::filebroker.ground.errors.DamagedRunWarning")
@pytest.mark.parametrize("what", ["primary/00000.parquet", "documents.jsonl"])
@pytest.mark.parametrize("deed", ["flip", "cut", "remove"])
def test_a_damaged_run_is_named_and_not_copied(tmp_path, beamtime, what, deed):
    bad = beamtime.newest(2)
    path = Path(beamtime.folder.path(f"{bad.directory}/{what}"))
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    if deed == "remove" and what == "documents.jsonl":
        return  # it is no run then
    path.unlink() if deed == "remove" else path.write_bytes(data if deed == "flip" else data[:-30])
    report = copy_runs(beamtime, tmp_path / "target")
    assert [problem.kind for problem in report.problems] == ["damaged"]
    assert bad.uid in str(report.problems[0].run)
    assert len(report.copied) == 2
    assert {run.uid for run in Catalog(tmp_path / "target")} == set(report.copied)


def test_a_page_that_is_lost_in_the_target_is_copied_again(tmp_path, beamtime):
    copy_runs(beamtime, tmp_path / "target")
    (path,) = Path(tmp_path / "target" / beamtime.newest(1).directory).glob("*/*.parquet")
    path.unlink()
    assert copy_runs(beamtime, tmp_path / "target").copied == [beamtime.newest(1).uid]
    assert documents(Catalog(tmp_path / "target")) == documents(beamtime)


def test_a_directory_of_another_run_is_not_taken(tmp_path, beamtime):
    directory = beamtime.newest(1).directory
    parent, name = os.path.split(beamtime.folder.path(directory))
    os.rename(os.path.join(parent, name), os.path.join(parent, f"{name}x"))
    beamtime.refresh()
    report = copy_runs(beamtime, tmp_path / "target")
    assert ([problem.kind for problem in report.problems], len(report.copied)) == (["damaged"], 2)


def test_a_catalog_that_is_only_read_is_no_target(tmp_path, beamtime):
    target = filled(tmp_path / "target")
    with pytest.raises(ReadOnlyCatalog):
        copy_runs(beamtime, Catalog(target.folder.url, read_only=True))


# --- the command


def test_the_command_copies(tmp_path, beamtime, capsys):
    source, target = str(tmp_path / "beamtime"), str(tmp_path / "target")
    assert main(["copy", source, "scan_id=1", "--to", target]) == 0
    assert capsys.readouterr().out.startswith("1 run copied (6 documents, ")
    assert main(["copy", source, "--to", target, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (len(told["copied"]), len(told["known"]), told["ok"]) == (2, 1, True)


def test_the_command_names_conflicts_and_its_exit_status_is_1(tmp_path, beamtime, capsys):
    begun = factories.start()
    for name in ("one", "other"):
        target = Catalog(tmp_path / name)
        target.insert("start", begun)
        target.insert("stop", factories.stop(begun, reason=name))
    assert main(["copy", str(tmp_path / "one"), "--to", str(tmp_path / "other")]) == 1
    assert f"conflict: run {begun['uid']}" in capsys.readouterr().err


def test_a_name_that_nothing_has_is_no_target_and_the_way_to_a_new_catalog_is_told(beamtime, capsys):
    assert main(["copy", beamtime.folder.url, "--to", "archive"]) == 1
    assert "write ./archive" in capsys.readouterr().err
