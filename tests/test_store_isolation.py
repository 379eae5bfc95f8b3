"""Many machines at one catalog in a store: no reader sees anything but what was recorded, whoever else is at it."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from event_model import sanitize_doc

import factories
from filebroker.cataloging.catalog import Catalog
from filebroker.ground.errors import AccessDenied, MissingStore, StoreUnreachable
from filebroker.ground.stores import Store
from filebroker.storing import layout, uploader, uploads
from filebroker.storing.recorder import Recorder
from servers import Proxy, new_bucket, options_for
from writers.apart import ROWS
from writers.replicated import documents

APART = Path(__file__).parent / "writers" / "apart.py"


@pytest.fixture
def url(s3_endpoint):
    return f"s3://{new_bucket(s3_endpoint)}/beamtime"


@contextlib.contextmanager
def machines(homes, *calls):
    """Start a process for each call, as on machines of their own; all are dead at the end."""
    processes = []
    for number, call in enumerate(calls):
        home = Path(homes) / f"machine {number}"
        home.mkdir(parents=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-W", "error::UserWarning", str(APART), *map(str, call)],
                env=environment | {"HOME": str(home), "FILEBROKER_STAGING": str(home / "staging")},
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def tell(processes, line="go\n"):
    """Say something to all at the same time."""
    for process in processes:
        process.stdin.write(line)
        process.stdin.flush()


def await_all(processes):
    for process in processes:
        assert process.stdout.readline() == '"ready"\n', process.stderr.read()


def ended(process):
    """Give what a process said until its end."""
    output, complaints = process.communicate(timeout=280)
    assert process.returncode == 0, complaints
    assert complaints == ""
    return [json.loads(text) for text in output.splitlines()]


@contextlib.contextmanager
def machine(home):
    """Be another machine, with nothing of the catalog on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("FILEBROKER_STAGING", str(Path(home) / "staging"))
        yield


# ------------------------------------------------------------------------------------------- writers and readers


def crowd(url, endpoint, homes, *, writers, readers, compactors, runs, session):
    """Let some record while others read and merge; give what the readers said."""
    options = json.dumps(options_for(endpoint))
    calls = [("record", url, options, 1000 * number, runs, session) for number in range(1, writers + 1)]
    calls += [("watch", url, options)] * readers + [("compact", url, options)] * compactors
    whole, half = documents(1, ROWS), documents(2, ROWS)
    with machine(homes), contextlib.closing(Catalog(url, storage_options=options_for(endpoint))) as catalog:
        for name, doc in [*whole, *itertools.islice(half, ROWS // 2)]:
            catalog.insert(name, doc)
        catalog.flush(60)
        with machines(Path(homes) / "all", *calls) as processes:
            busy, others = processes[:writers], processes[writers:]
            await_all(processes)  # and now the readers have seen half of a run
            tell(busy)
            recorded = [number for process in busy for number in ended(process)]
            for name, doc in half:
                catalog.insert(name, doc)
            catalog.flush(60)
            tell(others)
            seen = [ended(process)[-1] for process in others[:readers]]
            merged = [ended(process)[-1] for process in others[readers:]]
    assert len(recorded) == writers * runs
    assert all(merged)
    return seen


def check_crowd(seen, count):
    for reader in seen:
        assert reader["wrong"] == []
        assert reader["sealed"] == count
        assert reader["rounds"] > 2
        assert reader["prefixes"] > 0


def check_end(url, endpoint, home, count):
    """Look at the catalog as somebody new, and at what lies in the store."""
    with Proxy(endpoint) as proxy, machine(home):
        catalog = Catalog(url, storage_options=options_for(proxy.url), read_only=True)
        newest = catalog.newest(1)
        assert newest.state == "sealed"
        assert proxy.count() <= 12, proxy.requests
        assert len(catalog) == count
        catalog.close()
    names = Store(url, options_for(endpoint)).tree("")
    assert sum(name.endswith(layout.DOCUMENTS) for name in names) == count
    assert not [name for name in names if name.startswith(layout.LIVE) or layout.segment_of(name.rpartition("/")[2])]


def test_readers_of_a_busy_catalog_see_what_was_recorded_and_nothing_else(url, s3_endpoint, tmp_path):
    seen = crowd(url, s3_endpoint, tmp_path, writers=3, readers=3, compactors=1, runs=3, session=2)
    check_crowd(seen, 3 * 3 + 2)
    check_end(url, s3_endpoint, tmp_path / "late", 3 * 3 + 2)


# ------------------------------------------------------------------------------------------- one uid


def test_of_many_machines_that_record_one_uid_one_wins_and_the_others_keep_their_run(url, s3_endpoint, tmp_path):
    uid, rivals = "f0007", 4
    calls = [("race", url, json.dumps(options_for(s3_endpoint)), uid, sample) for sample in range(rivals)]
    with machines(tmp_path, *calls) as processes:
        await_all(processes)
        tell(processes)
        answers = [ended(process)[-1] for process in processes]
    check_race(answers, url, s3_endpoint, uid, tmp_path / "late")


def check_race(answers, url, endpoint, uid, home):
    winners = [sample for sample, answer in enumerate(answers) if not answer["told"]]
    assert len(winners) == 1, answers
    for sample, answer in enumerate(answers):
        assert answer["waits"].startswith("0 runs")
        if sample in winners:
            assert answer["kept"] == []
        elif answer["kept"]:
            assert answer["kept"] == [True]
            assert any(text.startswith("UploadWarning") and "_conflicts" in text for text in answer["told"])
        else:  # it was told at once, and recorded nothing
            assert answer["told"][0].startswith("DuplicateDocument")
    with machine(home):
        catalog = Catalog(url, storage_options=options_for(endpoint), read_only=True)
        (run,) = catalog
        assert (run.uid, run.state, run.start["sample"]) == (uid, "sealed", winners[0])
        assert run.files.damage == []
        catalog.close()


# ------------------------------------------------------------------------------------------- a spoilt network

ACTIONS = ("503", "500", "reset", "lost-ack", "truncate", "hang")
TYPED = (StoreUnreachable, AccessDenied, MissingStore)


def two_runs():
    """Give two runs, of which the first has several segments."""
    return [
        factories.run(rows, uid=f"fault-{number}", time=factories.T0 + number, scan_id=number)
        for number, rows in enumerate([9, 2], start=1)
    ]


class Story:
    """Two runs are recorded through a spoilt network, and read on another machine."""

    def __init__(self, url, proxy, homes):
        self.url, self.options, self.homes = url, options_for(proxy.url), homes
        self.runs, self.errors = two_runs(), []
        self.catalog = None

    def go(self):
        """Open, record, flush, and read elsewhere; each may fail, but only as it is documented."""
        for step in (self.record, self.flush, self.read):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the catalog's own, of a store that cannot be reached
                try:
                    step()
                except TYPED as error:
                    self.errors.append(error)

    def record(self):
        with machine(self.homes / "here"):
            self.catalog = Catalog(self.url, storage_options=self.options, sync="never")
            for pairs in self.runs:
                for name, doc in pairs:
                    self.catalog.insert(name, doc)

    def flush(self):
        if self.catalog is not None:
            self.catalog.flush(1)

    def read(self):
        with machine(self.homes / "elsewhere"):
            catalog = Catalog(self.url, storage_options=self.options)
            for run in catalog:
                check_prefix(run, self.runs)
            catalog.close()

    def end(self, *, anew):
        """Go on when the network is well again, perhaps as another process; everything is there, once."""
        if self.catalog is None:
            self.record()
        elif anew:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.catalog._outbox._uploader.close(0.01)
            with machine(self.homes / "here"):
                self.catalog = Catalog(self.url, storage_options=self.options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.catalog.flush(30)
            self.catalog.close()
        assert not [warning for warning in caught if "_conflicts" in str(warning.message)]
        for home in ("elsewhere", "new"):
            with machine(self.homes / home):
                catalog = Catalog(self.url, storage_options=self.options, read_only=True)
                found = list(catalog)
                assert [run.uid for run in found] == ["fault-2", "fault-1"]
                assert [run.state for run in found] == ["sealed"] * 2
                for run in found:
                    assert check_prefix(run, self.runs) == len(self.runs[run.start["scan_id"] - 1])
                catalog.close()


def check_prefix(run, runs):
    expected = texts(runs[run.start["scan_id"] - 1])
    found = texts(run.documents())
    assert found == expected[: len(found)]
    return len(found)


def texts(pairs):
    return [(name, json.dumps(sanitize_doc(doc), sort_keys=True)) for name, doc in pairs]


@pytest.fixture
def soon(monkeypatch):
    """Runs have several segments, uploads go on all the time, and failures are told soon."""
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 5)
    monkeypatch.setattr(uploads, "JOURNAL_SECONDS", 0.0)
    monkeypatch.setattr(uploads, "_JOURNAL_REST", 0.0)
    monkeypatch.setattr(uploader, "PERIOD", 0.05)
    monkeypatch.setattr(uploader, "LONGEST_BACKOFF", 0.5)


def spoil(endpoint, homes, action, first, last):
    """Tell the story with the requests from the first-th to the last-th spoilt; give how many there were."""
    others = set(threading.enumerate())
    with Proxy(endpoint) as proxy, pytest.MonkeyPatch.context() as patch:
        story = Story(f"s3://{new_bucket(endpoint)}/beamtime", proxy, homes)
        patch.setenv("FILEBROKER_TIMEOUT", "2")
        proxy.fault("", action, first, last)
        story.go()
        count = len(proxy.requests)
        patch.setenv("FILEBROKER_TIMEOUT", "30")
        proxy.clear()
        story.end(anew=first % 2 == 0)
        names = Store(story.url, options_for(endpoint)).tree("")
    assert sum(name.endswith(layout.DOCUMENTS) for name in names) == 2
    assert not [name for name in names if name.startswith(layout.LIVE) or layout.segment_of(name.rpartition("/")[2])]
    for thread in set(threading.enumerate()) - others:
        if thread.name.startswith("filebroker-uploads"):
            thread.join(30)
            assert not thread.is_alive()
    return count


#: The action, and the first and the last request that it befalls.
SAMPLE = [
    *(("503", number, number) for number in (2, 9)),
    *(("500", number, number) for number in (5, 14)),
    *(("reset", number, number) for number in (3, 12)),
    *(("lost-ack", number, number + 2) for number in (4, 7, 10, 13, 16)),
    *(("truncate", number, number + 3) for number in (1, 6, 20)),
    *(("hang", 8, 8), ("503", 11, None), ("reset", 15, None)),
]


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("action", "first", "last"), SAMPLE)
def test_whatever_befalls_requests_everything_is_there_once_afterwards(action, first, last, s3_endpoint, tmp_path):
    assert spoil(s3_endpoint, tmp_path, action, first, last) >= first
