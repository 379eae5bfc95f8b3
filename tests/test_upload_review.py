"""What goes wrong around uploads: a full disk, a user who does not wait, a process that dies at a bad moment."""

import errno
import os
import socket
import threading
import uuid
from typing import Any, NoReturn

import pytest

import factories as make
from filebroker import Broker
from filebroker.ground.errors import RecoveryWarning, StorageError, StoreUnreachable, UploadWarning
from filebroker.ground.locks import FileLock
from filebroker.ground.stores import Store
from filebroker.storing import rescue, uploader
from filebroker.storing.journal import encode_line, read_lines
from filebroker.storing.staging import Staging


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/beamtime"


def record(broker: Broker, *uids: str) -> None:
    for uid in uids:
        for pair in make.run(2, uid=uid):
            broker.insert(*pair)


def no_space(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.filterwarnings("ignore::filebroker.UploadWarning")  # as often as a round fails meanwhile
def test_runs_that_are_up_leave_a_disk_that_is_full(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "PERIOD", 3600.0)
    staging = Staging(url)
    broker = Broker(url)
    monkeypatch.setattr(Store, "probe", unreachable := _Unreachable())
    record(broker, "alpha", "beta")
    with pytest.raises(StoreUnreachable):
        broker.flush()
    assert len(staging.runs()) == 2
    with monkeypatch.context() as full:
        full.setattr(os, "mkdir", no_space)
        full.setattr(FileLock, "append", no_space)
        unreachable.is_mended = True
        broker.close()  # which is when logs leave staging as well
    assert not staging.runs()
    assert Broker(url, read_only=True)["beta"].table()["det"].size == 2


class _Unreachable:
    is_mended = False

    def __call__(self) -> bool:
        if not self.is_mended:
            raise StoreUnreachable("the network is down")
        return True


def test_a_close_that_is_interrupted_leaves_no_thread_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = set(threading.enumerate())
    broker = Broker(url)
    broker.insert(*make.run(2, uid="alpha")[0])  # a run is live, so the thread goes on
    (thread,) = [thread for thread in set(threading.enumerate()) - others if thread.name == "filebroker-uploads"]
    with monkeypatch.context() as impatient:
        impatient.setattr(uploader.Uploader, "flush", interrupt)
        with pytest.raises(KeyboardInterrupt):
            broker.close()
    thread.join(30)
    assert not thread.is_alive()
    broker.close()


def interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def begin(url: str, uid: str) -> Broker:
    """Begin a run, and upload nothing of it."""
    broker = Broker(url)
    broker.insert(*make.run(2, uid=uid)[0])
    return broker


@pytest.fixture
def no_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader.Uploader, "wake", lambda self: None)


@pytest.mark.usefixtures("no_uploads")
def test_a_run_that_is_recorded_here_is_left_alone_when_others_are_taken_over(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as renamed:
        renamed.setattr(socket, "gethostname", lambda: "before")
        begin(url, "theirs").close()
    with pytest.warns(UploadWarning, match="recorded on 'before'"):
        broker = begin(url, "mine")
    assert rescue.take_over(Staging(url), "before") == 1
    with pytest.warns(RecoveryWarning, match="theirs"):
        another = Broker(url)
    for pair in make.run(2, uid="mine")[1:]:
        broker.insert(*pair)
    assert another["mine"].stop is not None
    assert another["theirs"].state == "interrupted"


@pytest.mark.usefixtures("no_uploads")
def test_nothing_is_taken_over_while_somebody_records_into_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as renamed:
        renamed.setattr(socket, "gethostname", lambda: "before")
        broker = begin(url, "theirs")
        there = Staging(url)
    with pytest.raises(StorageError, match=r"still being recorded in .*; end that first"):
        rescue.take_over(Staging(url), "before")
    assert len(there.runs()) == 1
    broker.close()


def test_a_run_whose_fetching_breaks_off_stays_in_the_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, staging = Store(url), Staging(url)
    directory = "2026/11/23/20261123T000000.000000Z-alpha"
    journal = b"head\nstart\n"
    store.create(f"{directory}/journal.00000.jsonl", journal)
    store.create("_live/alpha.json", b'{"directory":"%s"}' % directory.encode())
    with monkeypatch.context() as full:
        full.setattr(os, "rename", no_space)
        with pytest.raises(OSError, match="No space left"):
            rescue.fetch_live(store, staging)
    assert uploader.Uploader(staging, store).close() == ""
    assert store.read(f"{directory}/journal.00000.jsonl") == journal
    assert rescue.fetch_live(store, staging) == [directory]
    assert staging.claimed() == [directory]


def test_what_a_writer_died_at_does_not_go_up_with_its_log(url: str) -> None:
    store, staging = Store(url), Staging(url)
    staging.make()
    whole = encode_line(0, "run", {"path": "2026/11/23/20261123T000000.000000Z-alpha"})
    os.makedirs(staging.path("_index/log"))
    with open(staging.path("_index/log/a.jsonl"), "wb") as file:
        file.write(whole + whole[:20])
    assert uploader.Uploader(staging, store).close() == ""
    text = store.read("_index/log/a.jsonl")
    assert text.startswith(whole)
    assert [line.name for line in read_lines(text, "a").lines] == ["run", "end"]
    assert staging.is_empty
