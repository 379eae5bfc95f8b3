"""Copies of runs that are cut short, and several at once: nothing is lost, doubled or seen in part."""

import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

import factories
from filebroker import Broker, Catalog, copy_runs, pack
from filebroker.cataloging.asides import Aside, move
from filebroker.finding.ledger import Ledger
from filebroker.ground import filesystem
from filebroker.ground.errors import StorageError
from filebroker.storing import layout
from filebroker.transfer.packs import depots, writers
from test_copy import documents, filled, forget
from test_pack import Scan, check_images, recorded


@pytest.fixture
def beamtime(tmp_path):
    return filled(tmp_path / "beamtime")


@pytest.mark.parametrize("number", range(7))
def test_a_copy_that_failed_is_finished_by_a_repeat(tmp_path, beamtime, monkeypatch, number):
    real, left = depots._spooled, iter(range(number))

    def spooled(pieces, path):
        if next(left, None) is None:
            raise OSError(28, "No space left on device", path)
        return real(pieces, path)

    with monkeypatch.context() as patch:
        patch.setattr(writers, "_THREADS", 1)
        patch.setattr(depots, "_spooled", spooled)
        if number < 6:
            with pytest.raises(StorageError, match="No space left"):
                copy_runs(beamtime, tmp_path / "target")
        else:
            copy_runs(beamtime, tmp_path / "target")
    seen = Catalog(tmp_path / "target")
    assert len(seen) == number // 2
    assert documents(seen).items() <= documents(beamtime).items()
    report = copy_runs(beamtime, tmp_path / "target")
    assert (len(report.copied), len(report.known)) == (3 - number // 2, number // 2)
    assert documents(Catalog(tmp_path / "target")) == documents(beamtime)


@pytest.mark.parametrize("number", [3, 29, 50])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_runs_that_are_copied_at_the_same_time_are_whole_or_not_there(tmp_path, monkeypatch, number, error, kind):
    source = filled(tmp_path / "beamtime", 30)
    url = tmp_path / "target" if kind == "local" else f"memory://{factories.uid()}"
    real, left = depots._spooled, iter(range(number))

    def spooled(pieces, path):
        if next(left, None) is None:
            raise error
        return real(pieces, path)

    with monkeypatch.context() as patch:
        patch.setattr(depots, "_spooled", spooled)
        with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
            copy_runs(source, url)
    assert not [path for path in tmp_path.rglob("*") if filesystem.is_temporary(path.name)]
    expected, there = documents(source), Catalog(url)
    assert documents(there).items() <= expected.items()
    seen = len(there)
    assert 0 < seen <= number // 2 if number > 10 else seen <= 1
    report = copy_runs(source, url)
    assert (len(report.copied), len(report.known), report.ok) == (30 - seen, seen, True)
    assert documents(Catalog(url)) == expected


def test_runs_in_their_places_are_announced_when_there_is_room_again(tmp_path, beamtime, monkeypatch):
    real, fails = Ledger.append, iter([OSError])

    def append(self, records, *, sync):
        if next(fails, None) is not None:
            raise StorageError(28, "No space left on device")
        real(self, records, sync=sync)

    monkeypatch.setattr(Ledger, "append", append)
    with pytest.raises(StorageError, match="No space left"):
        copy_runs(beamtime, tmp_path / "target")
    there = Catalog(tmp_path / "target")
    assert len(there) == 3
    assert there.refresh().records == []


def test_runs_that_are_complete_stay_when_an_older_one_fails(tmp_path, monkeypatch):
    source = filled(tmp_path / "beamtime", 4)
    real, begun, others = depots._spooled, [], threading.Event()

    def spooled(pieces, path):
        begun.append(path)
        if path == begun[0]:
            others.wait(20)
            raise OSError(28, "No space left on device")
        if len([path for path in begun if layout.DOCUMENTS in path]) == 3:
            others.set()
        return real(pieces, path)

    with monkeypatch.context() as patch:
        patch.setattr(depots, "_spooled", spooled)
        with pytest.raises(StorageError, match="No space left"):
            copy_runs(source, tmp_path / "target")
    assert len(Catalog(tmp_path / "target")) == 3
    assert len(copy_runs(source, tmp_path / "target").copied) == 1


def test_an_interrupt_ends_the_copying_of_large_files(tmp_path, monkeypatch):
    source = filled(tmp_path / "beamtime", 4)
    monkeypatch.setattr(depots, "PIECE", 100)
    real, begun, ended = depots.pieces_of, threading.Event(), []

    def slow(path):
        for piece in real(path):
            yield piece
            if threading.current_thread().name.startswith(writers.NAME):
                begun.set()
                time.sleep(0.02)
        ended.append(path)

    def interrupt(*_):
        if begun.wait(20):
            raise KeyboardInterrupt

    monkeypatch.setattr(depots, "pieces_of", slow)
    with pytest.raises(KeyboardInterrupt):
        copy_runs(source, tmp_path / "target", progress=interrupt)
    assert not [path for path in ended if path.endswith(".parquet")]
    assert len(Catalog(tmp_path / "target")) == 0


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_that_is_given_twice_is_copied_once(tmp_path, beamtime, dry_run):
    one, other = beamtime.newest(1), beamtime.newest(2)
    report = copy_runs([one, other, one, one], tmp_path / "target", dry_run=dry_run)
    assert (report.copied, report.known) == ([one.uid, other.uid], [one.uid, one.uid])


def test_what_another_process_puts_together_is_not_swept_away(tmp_path):
    one, other, third = (Aside(str(tmp_path)) for _ in range(3))
    for aside in (one, other):
        os.makedirs(aside.new())
    os.makedirs(tmp_path / ".copy-00000000.tmp" / "1" / "primary")  # of a process that died
    os.utime(os.path.dirname(one.new()), (0, 0))
    third.new()
    assert os.path.isdir(os.path.dirname(one.new()))
    assert not (tmp_path / ".copy-00000000.tmp").exists()
    for aside in (one, other, third):
        aside.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_page_that_is_lost_in_a_store_is_copied_again(tmp_path, beamtime, kind, request):
    url, options = request.getfixturevalue("s3_url") if kind == "s3" else (f"memory://{factories.uid()}", {})
    target = Catalog(f"{url}/target", storage_options=options)
    copy_runs(beamtime, target)
    store, lost = target.folder.store.store, beamtime.newest(2)
    (page,) = (name for name in store.tree(lost.directory) if name.endswith(".parquet"))
    store.remove([f"{lost.directory}/{page}"])
    report = copy_runs(beamtime, target)
    assert (report.copied, len(report.known)) == ([lost.uid], 2)
    assert documents(forget(target)) == documents(beamtime)


def test_no_part_of_a_run_is_in_its_place_before_it_is_whole(tmp_path, monkeypatch):
    pack(recorded(tmp_path / "beamtime", Scan(tmp_path / "images")), tmp_path / "share")
    real, seen = depots._spooled, []

    def spooled(pieces, path):
        seen.append(sorted((tmp_path / "target").glob("2*/*/*/*")))
        return real(pieces, path)

    monkeypatch.setattr(depots, "_spooled", spooled)
    assert copy_runs(Catalog(tmp_path / "share"), tmp_path / "target").ok
    assert (len(seen), sum(map(len, seen))) == (11, 0)
    assert not list((tmp_path / "target").glob(".*"))


@pytest.mark.parametrize("left", ["pages", "packed files", "nothing"])
def test_what_a_copy_left_in_the_place_of_a_run_is_made_whole(tmp_path, left):
    pack(recorded(tmp_path / "beamtime", Scan(tmp_path / "images")), tmp_path / "share")
    shutil.copytree(tmp_path / "share", tmp_path / "target")
    (run,) = (tmp_path / "target").glob("2*/*/*/*")
    (run / layout.DOCUMENTS).unlink()
    for name in {"pages": ["_files"], "packed files": ["primary"], "nothing": ["_files", "primary"]}[left]:
        shutil.rmtree(run / name)
    shutil.rmtree(tmp_path / "target" / layout.LEDGER)
    shutil.rmtree(tmp_path / "images")
    assert len(copy_runs(Catalog(tmp_path / "share"), tmp_path / "target").copied) == 1
    check_images(Broker(tmp_path / "target"))


@pytest.mark.parametrize("theirs", ["the same", "another run", "some pages", "a recorder"])
def test_a_run_that_came_meanwhile_is_not_replaced(tmp_path, beamtime, theirs):
    run = beamtime.newest(1)
    ours, place = tmp_path / "ours", tmp_path / "place"
    for path in (ours, place):
        shutil.copytree(run.files.folder.path(run.directory), path)
    if theirs == "another run":
        (place / layout.DOCUMENTS).write_text("other documents")
    elif theirs != "the same":
        (place / layout.DOCUMENTS).unlink()
    if theirs == "some pages":
        shutil.rmtree(place / "primary")
    if theirs == "a recorder":
        (place / "journal.00000.jsonl").write_text("...")
    before = sorted(place.rglob("*"))
    assert move(str(ours), str(place)) == (theirs in ("the same", "some pages"))
    if theirs == "some pages":
        assert (place / layout.DOCUMENTS).exists()
        assert len(list(place.glob("primary/*"))) == 1
    else:
        assert sorted(place.rglob("*")) == before


def test_two_copies_at_once_double_nothing(tmp_path):
    source = filled(tmp_path / "beamtime", 8)
    code = "import sys, filebroker as f; print(f.copy_runs(f.Catalog(sys.argv[1]), sys.argv[2]).ok)"
    command = [sys.executable, "-c", code, str(tmp_path / "beamtime"), str(tmp_path / "target")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ["True", "True"]
    assert documents(Catalog(tmp_path / "target")) == documents(source)
    assert len(Catalog(tmp_path / "target")) == 8


def test_two_copies_at_once_to_a_store_double_nothing(tmp_path):
    source, url = filled(tmp_path / "beamtime", 10), f"memory://{factories.uid()}"
    reports = []
    threads = [
        threading.Thread(target=lambda: reports.append(copy_runs(Catalog(source.folder.url), url))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [report.ok for report in reports] == [True, True]
    assert documents(forget(Catalog(url))) == documents(source)


def test_a_run_that_was_copied_and_not_announced_is_announced_by_a_repeat(tmp_path, beamtime, monkeypatch):
    class Death(BaseException):
        pass

    def die(*_):
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "_announce", die)
        with pytest.raises(Death):
            copy_runs(beamtime, tmp_path / "target")
    assert (tmp_path / "target" / list(beamtime)[-1].directory / layout.DOCUMENTS).exists()
    assert copy_runs(beamtime, tmp_path / "target").ok
    there = Catalog(tmp_path / "target")
    assert len(there) == 3
    assert there.refresh().records == []
