"""Recording for a store: what is staged goes up whole, in order, once, whatever fails in between."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import Executor, Future
from pathlib import Path

import pytest
from event_model import sanitize_doc

import factories
from filebroker.finding.ledger import LOGS, SNAPSHOTS, Ledger
from filebroker.finding.records import from_line, record_of
from filebroker.ground.errors import (
    AccessDenied,
    DamagedRun,
    MissingStore,
    NothingRecorded,
    StorageError,
    StoreUnreachable,
)
from filebroker.ground.filesystem import Folder
from filebroker.ground.locks import FileLock
from filebroker.ground.stores import Store
from filebroker.storing import layout, recorder, recovery, uploader as uploader_module, uploads
from filebroker.storing.journal import read_lines
from filebroker.storing.recorder import Recorder
from filebroker.storing.run_files import RunFiles
from filebroker.storing.staging import Staging
from filebroker.storing.uploader import Uploader
from servers import GIVEN, Proxy, new_bucket, options_for

LONG, SHORT = "long", "short"
SEGMENT = 5


# ------------------------------------------------------------------------------------------- helpers


class Inline(Executor):
    """Does at once what a thread would do at some time, so that requests come in one order."""

    def __init__(self, *_, **__):
        pass

    def submit(self, work, *arguments, **options):
        future = Future()
        future.set_result(work(*arguments, **options))
        return future


class Late(Inline):
    """Does everything only when its result is asked for."""

    def submit(self, work, *arguments, **options):
        future = Future()
        future.result = lambda: work(*arguments, **options)
        return future


class Death(BaseException):
    """The process is no more."""


class Wrong(BaseException):
    """What a reader sees is wrong; no error of a store, so that it is not kept for the next round."""


class Faulty:
    """A store of which the n-th request fails: ``fault`` is raised before or after it is carried out."""

    REQUESTS = ("read", "tree", "sizes", "exists", "write", "create", "remove")

    def __init__(self, store, number=-1, fault=None, *, after=False):
        self.store, self.url = store, store.url
        self.number, self.fault, self.after = number, fault, after
        self.count = 0
        self.look = lambda: None
        self.log = []

    def probe(self):
        return True

    def __getattr__(self, name):
        assert name in self.REQUESTS, name
        return lambda *arguments: self._request(name, *arguments)

    def _request(self, name, *arguments):
        number, self.count = self.count, self.count + 1
        self.log.append((name, *arguments[:1]))
        if number == self.number and not self.after:
            raise self.fault
        answer = getattr(self.store, name)(*arguments)
        try:
            self.look()
        except AssertionError as error:
            raise Wrong from error
        if number == self.number:
            raise self.fault
        return answer


def runs():
    """Give the documents of a long run and a short one, always the same."""
    result = {}
    for number, (name, rows) in enumerate({LONG: 14, SHORT: 2}.items()):
        pairs = factories.run(rows, uid=name, time=factories.T0 + number)
        for position, (_, doc) in enumerate(pairs):
            if doc.get("run_start") and "uid" in doc:
                doc["uid"] = f"{name}-{position}"
            if "descriptor" in doc:
                doc.update(uid=f"{name}-{position}", descriptor=f"{name}-1")
        result[name] = pairs
    return result


RUNS = runs()
PLACES = {name: layout.run_directory(pairs[0][1]) for name, pairs in RUNS.items()}


def texts(pairs):
    return [(name, json.dumps(sanitize_doc(doc), sort_keys=True)) for name, doc in pairs]


EXPECTED = {PLACES[name]: texts(pairs) for name, pairs in RUNS.items()}


def new_url():
    return f"s3://{new_bucket(GIVEN)}/beamtime" if GIVEN else f"memory://{uuid.uuid4().hex}"


class Recording:
    """What a catalog does: runs into staging, and entries into the staged ledger."""

    def __init__(self, staging):
        staging.make()
        self.staging, self.ledger, self.recorder = staging, Ledger(Folder(staging.root)), None
        Recording.latest = self

    def announce(self, directory):
        run = RunFiles(Folder(self.staging.root), directory)
        self.ledger.append([record_of(run, 0 if run.state == "live" else 1)], sync=False)

    def insert(self, name, doc):
        if name == "start":
            options = {"segment_documents": SEGMENT, "sync": "never"}
            self.recorder = Recorder(self.staging.root, doc, announce=self.announce, **options)
            self.announce(self.recorder.name)
        else:
            self.recorder.insert(name, doc)

    def record(self, pairs):
        for name, doc in pairs:
            self.insert(name, doc)


def make_catalog(staging):
    staging.make()
    Path(staging.path(layout.MARKER)).write_text('{"format": 1}')
    Ledger(Folder(staging.root)).publish([], {})


def record_all(staging, after_document=lambda: None):
    """Record both runs, with a round of the uploader after every other document."""
    make_catalog(staging)
    recording = Recording(staging)
    for pairs in RUNS.values():
        for number, (name, doc) in enumerate(pairs):
            recording.insert(name, doc)
            if number % 2 == 0 or name == "stop":
                after_document()
    return recording


def seen(url, directory):
    """Give what a reader elsewhere sees of a run: its state and documents."""
    try:
        run = RunFiles(Folder(url), directory)
        documents = texts(run.documents())
    except NothingRecorded:
        return "absent", []
    assert run.damage == []
    return run.state, documents


def check_view(url):
    """Look at the store as a reader elsewhere: prefixes only, and nothing announced that is not there."""
    states = {}
    for directory, expected in EXPECTED.items():
        states[directory], documents = seen(url, directory)
        assert documents == expected[: len(documents)]
        assert states[directory] in ("absent", "live") or len(documents) == len(expected)
    for record in records(url):
        assert states[record.path] in {"live": ("live", "sealed"), "sealed": ("sealed",)}[record.state]


def records(url):
    found = []
    folder = Folder(url)
    for name in folder.names(LOGS):
        lines = read_lines(folder.read(f"{LOGS}/{name}"), name)
        assert not lines.damage
        assert not lines.torn
        found += [record for line in lines.lines if (record := from_line(line)) is not None]
    return found


@pytest.fixture(scope="module")
def local_files(tmp_path_factory):
    """What recording both runs to a local disk gives, with every byte."""
    root = tmp_path_factory.mktemp("local")
    recorder_of = {"segment_documents": SEGMENT, "sync": "never"}
    for pairs in RUNS.values():
        into = Recorder(str(root), pairs[0][1], **recorder_of)
        for name, doc in pairs[1:]:
            into.insert(name, doc)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != layout.LIVE
    }


def files_in(store):
    return {name: store.read(name) for name in store.tree("")}


def check_complete(store, staging, local_files):
    """Tell whether the store has what a local recording gives, and staging nothing."""
    files = files_in(store)
    assert {name: data for name, data in files.items() if name[0].isdigit()} == local_files
    assert layout.MARKER in files
    assert not [name for name in files if name.startswith(layout.LIVE)]
    assert sorted((record.path, record.state) for record in records(store.url)) == sorted(
        (place, state) for place in PLACES.values() for state in ("live", "sealed")
    )
    assert staging.runs() == []
    assert staging.claimed() == []
    assert not os.path.exists(staging.path(layout.MARKER))


@pytest.fixture
def url():
    return new_url()


@pytest.fixture
def staging(url, tmp_path, monkeypatch):
    monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / "staging"))
    return Staging(url)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing waits: pages are made when they are due, and journals go up whenever they have grown."""
    monkeypatch.setattr(recorder, "ThreadPoolExecutor", Inline)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(uploads, "JOURNAL_SECONDS", 0.0)
    monkeypatch.setattr(uploads, "_JOURNAL_REST", 0.0)


@pytest.fixture
def in_order(monkeypatch):
    """Requests come in one order, so that the n-th is the same each time."""
    monkeypatch.setattr(uploader_module, "AT_ONCE", 1)


# ------------------------------------------------------------------------------------------- what goes up


def test_store_ends_with_the_bytes_of_a_local_recording(url, staging, local_files):
    store = Store(url)
    uploader = Uploader(staging, store)
    record_all(staging, uploader.attempt)
    uploader.attempt()
    check_complete(store, staging, local_files)
    assert uploader.problem is None
    assert uploader.take_warnings() == []
    assert uploader.close() == ""
    assert Ledger(Folder(staging.root)).files() == {}


def test_readers_elsewhere_see_a_long_run_grow(url, staging):
    uploader = Uploader(staging, Store(url))
    recording, counts = Recording(staging), []
    for name, doc in RUNS[LONG]:
        recording.insert(name, doc)
        uploader.attempt()
        state, documents = seen(url, PLACES[LONG])
        counts.append(len(documents))
        assert state == ("sealed" if name == "stop" else "live")
    assert counts == list(range(1, len(RUNS[LONG]) + 1))


@pytest.mark.usefixtures("in_order")
def test_every_state_between_two_requests_is_a_prefix(url, staging, local_files):
    store = Faulty(Store(url))
    store.look = lambda: check_view(url)
    record_all(staging, Uploader(staging, store).attempt)
    Uploader(staging, store).attempt()
    check_complete(store.store, staging, local_files)


def count_requests(monkeypatch):
    store, staging = Faulty(Store(new_url())), Staging(new_url())
    record_all(staging, Uploader(staging, store).attempt)
    return store.count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.usefixtures("in_order")
def test_kill_at_every_request_loses_nothing_and_shows_no_half_run(after, staging, local_files, monkeypatch):
    total = count_requests(monkeypatch)
    assert total > 35
    for number in range(total):
        place, url = Staging(new_url()), new_url()
        store = Faulty(Store(url), number, Death(), after=after)
        with pytest.raises(Death):
            record_all(place, Uploader(place, store).attempt)
        check_view(url)
        if Recording.latest.recorder is not None:
            Recording.latest.recorder.close()  # as death would: nothing is sealed, and the lock is let go
        recorded = {run: texts(RunFiles(Folder(place.root), run).documents()) for run in place.runs()}
        # The next process seals what was live, and goes on; the one that died had announced no more.
        recovery.recover_all(place.root, announce=Recording(place).announce)
        heir = Uploader(place, Store(url))
        heir.attempt()
        assert heir.problem is None, number
        assert heir.take_warnings() == []
        assert {run: seen(url, run)[1] for run in recorded} == recorded
        check_view_recovered(url, place, number)


def check_view_recovered(url, place, number):
    """Everything recorded before the death is there, as a local recording that was cut short would have it."""
    assert place.runs() == [], number
    assert not Store(url).tree(layout.LIVE)
    for directory in PLACES.values():
        state, documents = seen(url, directory)
        assert documents == EXPECTED[directory][: len(documents)]
        assert state in ("sealed", "interrupted", "absent")
        names = Store(url).tree(directory)
        assert not [name for name in names if layout.segment_of(name)]
        if documents:
            pages = {entry["path"] for entry in RunFiles(Folder(url), directory).files}
            assert set(names) == {*pages, layout.DOCUMENTS}


@pytest.mark.parametrize("after", [False, True], ids=["request-lost", "answer-lost"])
@pytest.mark.usefixtures("in_order")
def test_failure_of_any_request_is_made_good(after, staging, local_files, monkeypatch):
    total = count_requests(monkeypatch)
    for number in range(total):
        place, url = Staging(new_url()), new_url()
        store = Faulty(Store(url), number, StoreUnreachable("no network"), after=after)
        uploader = Uploader(place, store)
        record_all(place, uploader.attempt)
        assert store.count > number
        check_view(url)
        heir = Uploader(place, Store(url)) if number % 2 else uploader
        heir.attempt()
        assert heir.problem is None
        assert not any("cannot be uploaded" in warning for warning in uploader.take_warnings())
        check_complete(Store(url), place, local_files)


def test_nothing_recorded_while_the_store_is_away_is_lost(url, staging, local_files):
    store = Faulty(Store(url))
    store._request = lambda *_: (_ for _ in ()).throw(StoreUnreachable("no network"))
    away = Uploader(staging, store)
    record_all(staging, away.attempt)
    assert isinstance(away.problem, StoreUnreachable)
    (warning,) = away.take_warnings()
    assert "1 run (" in warning
    assert staging.root in warning
    assert staging.pending().runs == 2
    Uploader(staging, Store(url)).attempt()
    check_complete(Store(url), staging, local_files)


def test_files_beside_pages_go_up_too(url, staging):
    recording = Recording(staging)
    recording.record(RUNS[SHORT])
    directory = staging.path(PLACES[SHORT])
    Path(directory, "journal.00000.jsonl.damaged").write_bytes(b"who can read this")
    Path(directory, "notes").mkdir()
    Path(directory, "notes", "a.txt").write_bytes(b"by hand")
    Path(directory, "documents.jsonl.12345678.tmp").write_bytes(b"half")
    Uploader(staging, Store(url)).attempt()
    assert {"journal.00000.jsonl.damaged", "notes/a.txt"} < set(Store(url).tree(PLACES[SHORT]))
    assert not any(name.endswith(".tmp") for name in Store(url).tree(PLACES[SHORT]))


def test_few_requests_for_a_small_run(url, staging):
    make_catalog(staging)
    store = Faulty(Store(url))
    uploader = Uploader(staging, store)
    Recording(staging).record(RUNS[SHORT])
    uploader.attempt()
    kinds = [request[0] for request in store.log]
    # Marker and snapshot; claim, look, page, documents; the ledger; the claim taken back.
    assert sorted(kinds) == sorted(["create"] * 5 + ["tree", "remove", "write"])
    uploader.attempt()
    assert len(store.log) == len(kinds)


def test_real_object_store_ends_with_the_same_bytes(s3_url, staging, local_files, tmp_path, monkeypatch):
    store = Store(*s3_url)
    staging = others(tmp_path, monkeypatch, store.url, "s3")
    uploader = Uploader(staging, store)
    record_all(staging, uploader.wake)
    uploader.flush(60)
    files = files_in(store)
    assert {name: data for name, data in files.items() if name[0].isdigit()} == local_files
    assert staging.runs() == []
    late = others(tmp_path, monkeypatch, store.url, "late")
    Recording(late).record(changed(RUNS[LONG]))
    rival = Uploader(late, store)
    rival.flush(60)
    assert files_in(store).items() >= files.items() - {item for item in files.items() if item[0].startswith(LOGS)}
    assert os.path.exists(late.place_aside(PLACES[LONG]))
    assert [uploader.close(30), rival.close(30)] == ["", ""]


@pytest.mark.parametrize("action", ["lost-ack", "503", "reset"])
def test_faults_on_the_way_to_a_real_store_are_made_good(
    action, s3_endpoint, staging, local_files, tmp_path, monkeypatch
):
    with Proxy(s3_endpoint) as proxy:
        store = Store(f"s3://{new_bucket(s3_endpoint)}", options_for(proxy.url))
        staging = others(tmp_path, monkeypatch, store.url, "s3")
        uploader = Uploader(staging, store)
        for number in range(3, 60, 7):
            proxy.fault("PUT", action, number, number)
        record_all(staging, uploader.wake)
        uploader.flush(60)
        assert proxy.count("PUT") > 15
        assert {name: data for name, data in files_in(store).items() if name[0].isdigit()} == local_files
        assert uploader.close(30) == ""
        assert uploader.take_warnings() == []


# ------------------------------------------------------------------------------------------- who else records


def others(tmp_path, monkeypatch, url, name):
    monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / name))
    return Staging(url)


def changed(pairs):
    """The same run, with other values measured."""
    pairs = [(name, dict(doc)) for name, doc in pairs]
    for name, doc in pairs:
        if name == "event":
            doc["data"] = {"det": -1.0}
    return pairs


@pytest.mark.parametrize("rounds", [1, 4, 9, 30], ids=lambda number: f"after-{number}")
def test_second_writer_of_a_uid_keeps_its_run_and_touches_nothing(rounds, url, tmp_path, monkeypatch):
    first, second = (others(tmp_path, monkeypatch, url, name) for name in ("first", "second"))
    winner, loser = Uploader(first, Store(url)), Uploader(second, Store(url))
    winning, losing = Recording(first), Recording(second)
    warnings = []
    for number, (one, other) in enumerate(zip(RUNS[LONG], changed(RUNS[LONG]), strict=True), start=1):
        winning.insert(*one)
        winner.attempt()
        losing.insert(*other)
        if number >= rounds:
            loser.attempt()
            warnings += loser.take_warnings()
    loser.attempt()
    warnings += loser.take_warnings()
    assert seen(url, PLACES[LONG]) == ("sealed", EXPECTED[PLACES[LONG]])
    assert {record.state for record in records(url)} == {"live", "sealed"}
    assert len(records(url)) == 2
    assert len(warnings) == 1
    aside = second.place_aside(PLACES[LONG])
    assert aside in warnings[0]
    assert texts(RunFiles(Folder(aside), "").documents()) == texts(changed(RUNS[LONG]))
    assert second.runs() == []
    assert second.claimed() == []
    assert loser.problem is None
    assert Store(url).tree(layout.LIVE) == {}


def test_identical_run_recorded_twice_is_no_conflict(url, tmp_path, monkeypatch, local_files):
    for name in ("first", "second"):
        staging = others(tmp_path, monkeypatch, url, name)
        record_all(staging)
        uploader = Uploader(staging, Store(url))
        uploader.attempt()
        assert uploader.take_warnings() == []
        assert staging.runs() == []
    assert {name for name in files_in(Store(url)) if name[0].isdigit()} == set(local_files)


def test_writers_that_race_have_one_winner(tmp_path, monkeypatch):
    for _ in range(5):
        url = new_url()
        places = [others(tmp_path, monkeypatch, url, f"{url[9:]}-{number}") for number in range(4)]
        for number, place in enumerate(places):
            pairs = [(name, dict(doc)) for name, doc in RUNS[LONG]]
            pairs[0][1]["sample"] = number
            Recording(place).record(pairs)
        uploaders = [Uploader(place, Store(url)) for place in places]
        threads = [threading.Thread(target=uploader.attempt) for uploader in uploaders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = [place for place in places if os.path.exists(place.place_aside(PLACES[LONG]))]
        assert len(kept) == 3
        run = RunFiles(Folder(url), PLACES[LONG])
        assert run.damage == []
        winner = next(number for number, place in enumerate(places) if place not in kept)
        assert run.start["sample"] == winner
        assert texts(run.documents())[1:] == EXPECTED[PLACES[LONG]][1:]
        assert [uploader.problem for uploader in uploaders] == [None] * 4
        assert len(records(url)) == 2


def test_run_of_which_a_stranger_left_half_is_a_conflict(url, staging):
    store = Store(url)
    store.write(f"{PLACES[SHORT]}/journal.00000.jsonl", b"a stranger's\n")
    uploader = Uploader(staging, store)
    Recording(staging).record(RUNS[SHORT])
    uploader.attempt()
    assert store.tree(PLACES[SHORT]) == {"journal.00000.jsonl": 13}
    assert os.path.exists(staging.place_aside(PLACES[SHORT]))
    assert store.tree(layout.LIVE) == {}


def test_marker_of_somebody_else_counts(url, staging):
    Store(url).create(layout.MARKER, b"theirs")
    make_catalog(staging)
    Uploader(staging, Store(url)).attempt()
    assert Store(url).read(layout.MARKER) == b"theirs"
    assert not staging.holds(layout.MARKER)
    assert len(Store(url).names(SNAPSHOTS)) == 1


@pytest.mark.usefixtures("in_order")
def test_uploaders_of_one_staging_take_turns(url, staging, local_files):
    store = Faulty(Store(url))
    store.look = lambda: check_view(url)
    pair = [Uploader(staging, store), Uploader(staging, store)]
    turns = iter(range(10**6))
    record_all(staging, lambda: pair[next(turns) % 2].attempt())
    pair[0].attempt()
    check_complete(store.store, staging, local_files)
    assert pair[1].take_warnings() == []


def test_only_one_uploads_at_a_time(url, staging):
    make_catalog(staging)
    lock = FileLock(staging.path("_uploader.lock"))
    assert lock.acquire()
    uploader = Uploader(staging, Store(url))
    with pytest.raises(StoreUnreachable, match=r"after 0\.1 s"):
        uploader.flush(0.1)
    assert Store(url).tree("") == {}
    lock.release()
    uploader.flush(20)
    assert Store(url).exists(layout.MARKER)
    assert uploader.close(5) == ""


# ------------------------------------------------------------------------------------------- one by one


class Refusing(Faulty):
    """A store that refuses whatever belongs to one run."""

    def __init__(self, store, part, error):
        super().__init__(store)
        self.part, self.error = part, error

    def _request(self, name, *arguments):
        if name == "create" and self.part in arguments[0]:
            raise self.error
        return super()._request(name, *arguments)


@pytest.mark.parametrize("error", [StorageError("too large"), StoreUnreachable("reset"), AccessDenied("no")])
def test_run_that_fails_keeps_no_other_from_going_up(error, url, staging, local_files):
    uploader = Uploader(staging, Refusing(Store(url), PLACES[LONG], error))
    record_all(staging)
    for _ in range(3):
        uploader.attempt()
    assert uploader.problem is error
    assert seen(url, PLACES[SHORT]) == ("sealed", EXPECTED[PLACES[SHORT]])
    assert seen(url, PLACES[LONG])[0] == "absent"
    assert staging.runs() == [PLACES[LONG]]
    check_view(url)  # and so what the ledger says of either
    heir = Uploader(staging, Store(url))
    heir.attempt()
    check_complete(Store(url), staging, local_files)


def test_ledger_lines_wait_for_their_run_and_are_never_taken_back(url, staging):
    recording = Recording(staging)
    refusing = Uploader(staging, Refusing(Store(url), f"{PLACES[LONG]}/documents", StorageError("refused")))
    recording.record(RUNS[SHORT][:-1])
    refusing.attempt()
    recording.record(RUNS[SHORT][-1:])
    recording.record(RUNS[LONG][:3])
    Uploader(staging, Store(url)).attempt()
    size = sum(Store(url).sizes(LOGS).values())
    assert len(records(url)) == 3
    recording.record(RUNS[LONG][3:])
    refusing.attempt()
    assert sum(Store(url).sizes(LOGS).values()) == size
    Uploader(staging, Store(url)).attempt()
    assert len(records(url)) == 4


def test_run_taken_back_before_it_began_is_taken_back_everywhere(url, staging):
    uploader = Uploader(staging, Store(url))
    recording = Recording(staging)
    recording.insert(*RUNS[SHORT][0])
    uploader.attempt()
    assert Store(url).tree(layout.LIVE) == {layout.lock_name(SHORT): pytest.approx(200, abs=150)}
    recording.recorder.abandon()
    uploader.attempt()
    assert Store(url).tree(layout.LIVE) == {}
    assert Store(url).tree(PLACES[SHORT]) == {}
    assert staging.claimed() == []


def test_staged_run_that_vanishes_takes_nothing_away(url, staging):
    uploader = Uploader(staging, Store(url))
    recording = Recording(staging)
    recording.record(RUNS[LONG][:8])
    uploader.attempt()
    recording.recorder.close()
    before = Store(url).tree(PLACES[LONG])
    os.rename(staging.path(PLACES[LONG]), staging.path("elsewhere"))
    uploader.attempt()
    assert Store(url).tree(PLACES[LONG]) == before
    assert len(seen(url, PLACES[LONG])[1]) == 8


def test_run_stays_while_its_recorder_works_on_it(url, staging):
    Recording(staging).record(RUNS[SHORT])
    lock = FileLock(staging.path(f"{layout.LIVE}/{layout.lock_name(SHORT)}"))
    assert lock.acquire()
    uploader = Uploader(staging, Store(url))
    uploader.attempt()
    assert seen(url, PLACES[SHORT])[0] == "sealed"
    assert staging.runs() == [PLACES[SHORT]]
    lock.release()
    uploader.attempt()
    assert staging.runs() == []
    assert not os.path.exists(lock.path)


def test_run_of_a_dead_process_goes_up_when_it_is_recovered(url, staging):
    recording = Recording(staging)
    recording.record(RUNS[LONG][:8])
    recording.recorder.close()
    uploader = Uploader(staging, Store(url))
    uploader.attempt()
    assert seen(url, PLACES[LONG])[0] == "live"
    recovery.recover_all(staging.root, announce=recording.announce)
    uploader.attempt()
    assert seen(url, PLACES[LONG]) == ("interrupted", EXPECTED[PLACES[LONG]][:8])
    assert not [name for name in Store(url).tree(PLACES[LONG]) if layout.segment_of(name)]


def test_journal_is_not_written_all_the_time(url, staging, monkeypatch):
    monkeypatch.setattr(uploads, "JOURNAL_SECONDS", 3600.0)
    store = Faulty(Store(url))
    uploader = Uploader(staging, store)
    recording = Recording(staging)
    recording.record(RUNS[LONG][:2])
    uploader.attempt()
    recording.record(RUNS[LONG][2:4])
    uploader.attempt()
    assert len(seen(url, PLACES[LONG])[1]) == 2
    uploader.flush(20)
    assert len(seen(url, PLACES[LONG])[1]) == 4
    recording.recorder.close()
    uploader.close(5)


def test_journal_that_is_full_goes_up_before_the_next(url, staging, monkeypatch):
    monkeypatch.setattr(uploads, "JOURNAL_SECONDS", 3600.0)
    monkeypatch.setattr(recorder, "ThreadPoolExecutor", Late)
    uploader = Uploader(staging, Store(url))
    recording = Recording(staging)
    recording.record(RUNS[LONG][:1])
    uploader.attempt()
    recording.record(RUNS[LONG][1:8])
    uploader.attempt()
    assert len(seen(url, PLACES[LONG])[1]) == 8
    assert {"journal.00000.jsonl", "journal.00001.jsonl"} == set(Store(url).tree(PLACES[LONG]))
    recording.recorder.close()


def test_store_without_conditional_writes_is_warned_of_once(url, staging):
    store = Faulty(Store(url))
    store.probe = lambda: False
    make_catalog(staging)
    first, second = Uploader(staging, store), Uploader(staging, store)
    first.attempt()
    Recording(staging).record(RUNS[SHORT])
    second.attempt()
    assert len([text for text in first.take_warnings() if "conditional writes" in text]) == 1
    assert first.take_warnings() == second.take_warnings() == []


# ------------------------------------------------------------------------------------------- several at a time

MANY = 20


class Crowded(Faulty):
    """A store that can be used by several threads, and knows how many are in it with requests about runs."""

    def __init__(self, store):
        super().__init__(store)
        self.mutex = threading.Lock()
        self.inside = self.most = 0
        self.before = lambda name, file: None

    def _request(self, name, *arguments):
        file = str(arguments[0])
        with self.mutex:
            self.log.append((name, file))
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            self.before(name, file)
            return getattr(self.store, name)(*arguments)
        finally:
            with self.mutex:
                self.inside -= 1


def record_many(staging, count=MANY):
    """Record small runs; give their directories, the oldest first."""
    make_catalog(staging)
    recording = Recording(staging)
    for number in range(count):
        recording.record(factories.run(2, uid=f"many-{number:02d}", time=factories.T0 + number))
    return staging.runs()


def states(url, directories):
    return [seen(url, directory)[0] for directory in directories]


def test_several_runs_go_up_at_a_time_and_then_the_logs(url, staging):
    directories = record_many(staging)
    store, together = Crowded(Store(url)), threading.Barrier(uploader_module.AT_ONCE)

    def before(name, file):
        if name == "create" and file.startswith(layout.LIVE) and len(store.log) <= 2 * uploader_module.AT_ONCE:
            together.wait(30)  # breaks unless so many runs begin at the same time
        if file.startswith(LOGS):
            assert store.inside == 1
            assert set(states(url, directories)) == {"sealed"}

    store.before = before
    others = set(threading.enumerate())
    uploader = Uploader(staging, store)
    uploader.attempt()
    assert uploader.problem is None
    assert store.most == uploader_module.AT_ONCE
    assert staging.runs() == []
    assert len(records(url)) == 2 * MANY
    begun = [thread for thread in threading.enumerate() if thread not in others]
    assert not [thread for thread in begun if thread.name.startswith("filebroker-uploads")]


def test_order_within_each_run_is_kept(url, staging):
    directories = record_many(staging)
    store = Crowded(Store(url))
    Uploader(staging, store).attempt()
    for directory in directories:
        claim = f"{layout.LIVE}/{layout.lock_name_of(directory)}"
        mine = [(name, file) for name, file in store.log if file.startswith((directory, claim))]
        assert [name for name, _ in mine] == ["create", "tree", "create", "create"]
        assert [file.removeprefix(directory) for _, file in mine] == [
            *(claim, ""),
            *("/primary/00000.parquet", f"/{layout.DOCUMENTS}"),
        ]


@pytest.mark.parametrize("kind", [StoreUnreachable, AccessDenied, MissingStore])
def test_store_that_is_away_is_not_asked_about_every_run(kind, url, staging):
    directories = record_many(staging, 3 * MANY)
    store, refused = Crowded(Store(url)), threading.Event()
    uploader = Uploader(staging, store)

    def refuse(name, file):
        if file.startswith(directories[5]):
            refused.set()
            raise kind("away")
        if name == "create" and refused.is_set():
            time.sleep(0.05)  # so that none of the others is through with all of them before that is known

    store.before = refuse
    uploader.attempt()
    assert isinstance(uploader.problem, kind)
    begun = {file for name, file in store.log if name == "create" and file.startswith(layout.LIVE)}
    assert len(begun) < 2 * MANY
    assert directories[5] in staging.runs()
    check_announced(url)
    store.before = lambda *_: (_ for _ in ()).throw(kind("away"))
    store.log.clear()
    uploader.attempt()
    assert len(store.log) <= uploader_module.AT_ONCE
    heir = Uploader(staging, Store(url))
    heir.attempt()
    assert heir.problem is None
    assert set(states(url, directories)) == {"sealed"}
    assert len(records(url)) == 6 * MANY


def check_announced(url):
    """Look that whatever the ledger says is true."""
    for record in records(url):
        assert seen(url, record.path)[0] in {"live": ("live", "sealed"), "sealed": ("sealed",)}[record.state]


def test_runs_that_fail_keep_no_others_from_going_up(url, staging):
    directories = record_many(staging)
    bad = set(directories[3::6])
    store = Crowded(Store(url))

    def refuse(name, file):
        if file[: len(directories[0])] in bad:
            raise StorageError(f"too large: {file}")

    store.before = refuse
    uploader = Uploader(staging, store)
    uploader.attempt()
    assert directories[3] in str(uploader.problem)  # the oldest, whichever failed first
    assert set(staging.runs()) == bad
    assert {directory for directory in directories if seen(url, directory)[0] != "sealed"} == bad
    check_announced(url)
    assert {record.path for record in records(url)} == set(directories[:3])  # what comes after a line that waits, waits
    store.before = lambda *_: None
    uploader.attempt()
    assert uploader.problem is None
    assert len(records(url)) == 2 * MANY


def test_runs_that_others_recorded_are_all_put_aside(url, tmp_path, monkeypatch):
    first, second = (others(tmp_path, monkeypatch, url, name) for name in ("first", "second"))
    directories = record_many(first)
    Uploader(first, Store(url)).attempt()
    before = files_in(Store(url))
    assert record_many(second) == directories  # with uids of their own in all other documents
    uploader = Uploader(second, Store(url))
    uploader.attempt()
    assert uploader.problem is None
    assert len(uploader.take_warnings()) == MANY
    assert all(os.path.exists(second.place_aside(directory)) for directory in directories)
    assert second.runs() == second.claimed() == []
    after = files_in(Store(url))
    assert {name: after.get(name) for name in before} == before
    assert len(records(url)) == 2 * MANY


def test_death_in_the_middle_of_several_runs_loses_none(staging, tmp_path, monkeypatch):
    for number in range(3, 5 * MANY, 19):
        url = new_url()
        place = others(tmp_path, monkeypatch, url, url[9:])
        directories = record_many(place)
        store = Crowded(Store(url))

        def die(name, file, store=store, number=number):
            if len(store.log) > number:
                raise Death

        store.before = die
        with pytest.raises(Death):
            Uploader(place, store).attempt()
        assert set(states(url, directories)) <= {"absent", "live", "sealed"}
        check_announced(url)
        heir = Uploader(place, Store(url))
        heir.attempt()
        assert heir.problem is None
        assert heir.take_warnings() == []
        assert set(states(url, directories)) == {"sealed"}
        assert not Store(url).tree(layout.LIVE)
        assert len(records(url)) == 2 * MANY


def test_closing_stops_a_round_between_two_runs(url, staging):
    directories = record_many(staging)
    store = Crowded(Store(url))
    uploader = Uploader(staging, store)
    go_on = threading.Event()
    store.before = lambda name, file: file.startswith(layout.LIVE) and go_on.wait(30)
    uploader.wake()
    text = uploader.close(0.05)
    assert "not all was uploaded" in text
    thread = uploader._thread
    go_on.set()
    thread.join(30)
    assert "was closed" in str(uploader.problem)
    assert states(url, directories).count("sealed") <= uploader_module.AT_ONCE
    check_announced(url)
    heir = Uploader(staging, Store(url))
    heir.attempt()
    assert set(states(url, directories)) == {"sealed"}


def test_one_thread_is_enough_where_no_more_can_be_had(url, staging, monkeypatch):
    directories = record_many(staging)
    uploader = Uploader(staging, Store(url))

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        uploader.attempt()
    assert uploader.problem is None
    assert set(states(url, directories)) == {"sealed"}


def test_many_runs_go_up_to_a_real_store_at_a_time(s3_endpoint, tmp_path, monkeypatch):
    with Proxy(s3_endpoint, delay=0.03) as proxy:
        url = f"s3://{new_bucket(s3_endpoint)}"
        store = Store(url, options_for(proxy.url))
        staging = others(tmp_path, monkeypatch, url, "s3")
        directories = record_many(staging)
        uploader = Uploader(staging, store)
        uploader.flush(60)
        assert proxy.most_at_once > uploader_module.AT_ONCE // 2
        assert uploader.close(30) == ""
    files = Store(url, options_for(s3_endpoint)).tree("")
    assert sum(name.endswith(layout.DOCUMENTS) for name in files) == len(directories)


# ------------------------------------------------------------------------------------------- logs


def test_log_leaves_staging_when_it_is_large_or_old_or_done_with(url, staging):
    store = Store(url)
    ledger_of = Recording(staging)
    ledger_of.record(RUNS[SHORT])
    uploader = Uploader(staging, store)
    uploader.attempt()
    (log,) = Ledger(Folder(staging.root)).files()
    os.utime(staging.path(log), (time.time() - 4000,) * 2)
    uploader.attempt()
    assert Ledger(Folder(staging.root)).files() == {}
    assert store.exists(log)
    ledger_of.record(RUNS[LONG])  # in a log of another name
    uploader.wake()
    assert uploader.close(20) == ""
    assert Ledger(Folder(staging.root)).files() == {}
    assert len(store.sizes(LOGS)) == 2
    assert len(records(url)) == 4


def test_log_that_grew_stays(url, staging):
    make_catalog(staging)
    recording = Recording(staging)
    recording.record(RUNS[SHORT])
    uploader = Uploader(staging, Faulty(Store(url)))
    (log,) = (name for name in Ledger(Folder(staging.root)).files() if name.startswith(LOGS))
    os.utime(staging.path(log), (0, 0))
    grown = iter([lambda: recording.record(RUNS[LONG])])
    uploader._store.look = lambda: next(grown, lambda: None)()
    uploader.attempt()
    assert staging.holds(log)
    assert len(records(url)) == 2
    uploader.attempt()
    assert len(records(url)) == 4


# ------------------------------------------------------------------------------------------- waiting


def test_flush_returns_when_all_is_up(url, staging, local_files):
    told = []
    uploader = Uploader(staging, Store(url), lambda: told.append(True))
    record_all(staging, uploader.wake)
    uploader.flush(30)
    check_complete(Store(url), staging, local_files)
    assert told
    assert uploader.close(5) == ""


@pytest.mark.parametrize("kind", [StoreUnreachable, AccessDenied, StorageError])
def test_flush_raises_what_went_wrong_and_says_what_waits(kind, url, staging):
    Recording(staging).record(RUNS[SHORT])
    uploader = Uploader(staging, Refusing(Store(url), "", kind("the store said no")))
    with pytest.raises(kind, match=r"said no; 1 run \(0.0 MB\) for .* safe in") as caught:
        uploader.flush(None)
    assert type(caught.value) is kind
    assert staging.root in str(caught.value)
    text = uploader.close(0.1)
    assert "said no" in text
    assert f"filebroker upload {url}" in text
    assert uploader.close() == ""


def test_flush_waits_for_a_store_that_comes_back(url, staging):
    Recording(staging).record(RUNS[SHORT])
    store = Faulty(Store(url), 0, StoreUnreachable("no network"))
    uploader = Uploader(staging, store)
    uploader.flush(30)
    assert seen(url, PLACES[SHORT])[0] == "sealed"
    assert uploader.problem is None
    assert uploader.close(5) == ""


def test_recording_waits_for_nothing_while_the_store_hangs(url, staging):
    inside, go_on = threading.Event(), threading.Event()
    store = Faulty(Store(url))
    store.look = lambda: inside.set() or go_on.wait(30)
    uploader = Uploader(staging, store)
    recording = Recording(staging)
    recording.insert(*RUNS[SHORT][0])
    uploader.wake()
    assert inside.wait(30)
    for name, doc in RUNS[SHORT][1:]:  # in the middle of a request
        recording.insert(name, doc)
        uploader.wake()
    with pytest.raises(StoreUnreachable, match="not all was uploaded"):
        uploader.flush(0.01)
    go_on.set()
    uploader.flush(30)
    assert seen(url, PLACES[SHORT])[0] == "sealed"
    assert uploader.close(5) == ""


def test_thread_ends_when_nothing_is_left(url, staging, monkeypatch):
    uploader = Uploader(staging, Store(url))
    Recording(staging).record(RUNS[SHORT])
    uploader.flush(30)
    thread = uploader._thread
    if thread is not None:
        thread.join(30)
        assert not thread.is_alive()
    Recording(staging).record(RUNS[LONG])  # and begins again
    uploader.flush(30)
    assert seen(url, PLACES[LONG])[0] == "sealed"
    assert uploader.close(5) == ""


def test_failures_are_told_once_until_the_store_works_again(url, staging, monkeypatch):
    monkeypatch.setattr(uploader_module, "BACKOFF", 0.0)
    store = Faulty(Store(url))
    uploader = Uploader(staging, store)
    recording = Recording(staging)
    told = []
    for name, doc in RUNS[LONG][:6]:
        recording.insert(name, doc)
        store.number, store.fault = (store.count, StoreUnreachable("away")) if doc.get("seq_num") != 2 else (-1, None)
        uploader.attempt()
        told.append(len(uploader.take_warnings()))
    assert told == [1, 0, 0, 0, 1, 0]
    recording.recorder.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_has_no_thread_and_can_upload(staging, tmp_path):
    url = f"file://{tmp_path}/store"
    place = Staging(url)
    recording = Recording(place)
    recording.insert(*RUNS[LONG][0])
    uploader = Uploader(place, Store(url))
    uploader.flush(30)
    assert uploader._thread is not None
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert uploader._thread is None
            assert not uploader.is_behind
            Recording(place).record(RUNS[SHORT])
            uploader.flush(30)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    recording.record(RUNS[LONG][1:])
    uploader.flush(30)
    assert {seen(tmp_path / "store", place)[0] for place in PLACES.values()} == {"sealed"}
    assert uploader.close(5) == ""


# ------------------------------------------------------------------------------------------- processes

WRITER = """
import sys, time
sys.path.insert(0, {tests!r})
import test_uploads as t
from filebroker.ground.stores import Store
from filebroker.storing import uploads
uploads.JOURNAL_SECONDS = uploads._JOURNAL_REST = 0.0
staging = t.Staging({url!r})
class Slow(t.Faulty):
    def _request(self, *arguments):
        time.sleep(0.002)
        return super()._request(*arguments)
uploader = t.Uploader(staging, Slow(Store({url!r})))
print("ready", flush=True)
t.record_all(staging, lambda: (uploader.wake(), time.sleep(0.002)))
{end}
"""


def start_writer(tmp_path, url, end):
    code = WRITER.format(tests=str(Path(__file__).parent), url=url, end=end)
    environment = {**os.environ, "FILEBROKER_STAGING": str(tmp_path / "staging"), "FILEBROKER_TIMEOUT": "1"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )


@pytest.mark.parametrize("seconds", [0.01, 0.06, 0.12])
def test_killed_process_leaves_nothing_half(seconds, tmp_path, staging):
    url = f"file://{tmp_path}/store"
    process = start_writer(tmp_path, url, "time.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    place = Staging(url)
    for directory in PLACES.values():
        assert seen(tmp_path / "store", directory)[0] in ("absent", "live", "sealed")
    if os.path.isdir(place.root):
        staged = {run: texts(RunFiles(Folder(place.root), run).documents()) for run in place.runs()}
        recovery.recover_all(place.root, announce=Recording(place).announce)
        heir = Uploader(place, Store(url))
        heir.attempt()
        assert heir.problem is None
        assert not any("cannot be uploaded" in warning for warning in heir.take_warnings())
        for directory, documents in staged.items():
            assert seen(tmp_path / "store", directory)[1] == documents
        assert place.runs() == []


def test_process_that_ends_waits_for_its_uploads(tmp_path, staging, local_files):
    url = f"file://{tmp_path}/store"
    process = start_writer(tmp_path, url, "")
    output = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert output[1] == ""
    files = {
        str(path.relative_to(tmp_path / "store")): path.read_bytes()
        for path in (tmp_path / "store").rglob("*")
        if path.is_file()
    }
    assert {name: data for name, data in files.items() if name[0].isdigit()} == local_files
    assert Staging(url).runs() == []


def test_process_that_ends_without_its_store_says_what_waits(tmp_path, staging):
    url = "s3://bucket/beamtime"
    code = WRITER.replace("Store({url!r})", "Store({url!r}, {{'endpoint_url': 'http://127.0.0.1:9', 'anon': True}})")
    code = code.format(tests=str(Path(__file__).parent), url=url, end="while not uploader.problem: time.sleep(0.05)")
    environment = {**os.environ, "FILEBROKER_STAGING": str(tmp_path / "staging"), "FILEBROKER_TIMEOUT": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("filebroker: ")
    assert "2 runs" in line
    assert "filebroker upload s3://bucket/beamtime" in line


# ------------------------------------------------------------------------------------------- where it is kept


def test_staging_is_private_and_no_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("FILEBROKER_STAGING", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    staging = Staging("s3://bucket/beamtime/")
    assert not os.path.exists(staging.root)
    assert staging.runs() == []
    assert not staging.holds(layout.MARKER)
    staging.make()
    staging.make()
    assert Path(staging.root).is_relative_to(tmp_path / "state")
    assert stat.S_IMODE(os.stat(staging.root).st_mode) == 0o700
    assert Staging("s3://bucket/beamtime").root == staging.root
    assert Staging("s3://bucket/other/beamtime").root != staging.root


def test_staging_that_others_can_write_to_is_refused(staging):
    staging.make()
    os.chmod(staging.root, 0o777)
    with pytest.raises(StorageError, match="others can write to it"):
        staging.make()


def test_staging_that_cannot_be_made_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / "file" / "staging"))
    with pytest.raises(StorageError, match="FILEBROKER_STAGING can name another"):
        Staging("s3://bucket/beamtime").make()


def test_staging_holds_whole_runs(staging):
    recording = Recording(staging)
    recording.record(RUNS[SHORT][:3])
    assert staging.runs() == [PLACES[SHORT]]
    assert staging.holds(f"{PLACES[SHORT]}/documents.jsonl")  # which is not there yet, and nowhere else either
    assert not staging.holds(f"{PLACES[LONG]}/documents.jsonl")
    assert not staging.holds("../../x")
    assert staging.pending().runs == 1
    assert staging.pending().bytes > 200
    recording.recorder.close()


def test_damaged_manifest_keeps_a_run_in_staging(url, staging):
    Recording(staging).record(RUNS[SHORT])
    path = Path(staging.path(PLACES[SHORT]), layout.DOCUMENTS)
    path.write_bytes(path.read_bytes().replace(b"sealed", b"Sealed", 1))
    uploader = Uploader(staging, Store(url))
    uploader.attempt()
    assert isinstance(uploader.problem, DamagedRun)
    assert staging.runs() == [PLACES[SHORT]]
    assert Store(url).tree(PLACES[SHORT]) == {}
