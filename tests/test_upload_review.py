"""What goes wrong around uploads: a full disk, and a user who does not wait."""

import errno
import os
import threading
import uuid
from typing import Any, NoReturn

import pytest

import factories as make
from filebroker import Broker
from filebroker.ground.errors import StoreUnreachable
from filebroker.ground.locks import FileLock
from filebroker.ground.stores import Store
from filebroker.storing import uploader
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
