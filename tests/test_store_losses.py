"""What is lost of a recording to a store, and what is not: the rows of the table in docs/how-to/object-stores.md.

Those that are not here have their tests in `test_uploads` (death, conflicts, careless stores), `test_crash` (power cuts
and full disks, since staging is a catalog on a local disk) and `test_store_requests`.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import factories as make
from filebroker import Broker
from filebroker.ground.errors import AccessDenied, MissingStore, RecoveryWarning, UploadWarning
from filebroker.ground.stores import Store
from filebroker.storing import uploader
from servers import Proxy, delete_bucket, new_bucket, options_for

ROWS = 10
Machine = Callable[[str], None]


@pytest.fixture(autouse=True)
def no_rounds_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a machine that is said to be lost from going on."""
    monkeypatch.setattr(uploader, "PERIOD", 3600.0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Give what makes this process go on as on another machine, with a disk of its own."""

    def move(name: str) -> None:
        monkeypatch.setenv("FILEBROKER_STAGING", str(tmp_path / name / "staging"))
        monkeypatch.setenv("FILEBROKER_CACHE", str(tmp_path / name / "cache"))

    return move


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}/beamtime"


def begin(url: str) -> tuple[Broker, list[make.Pair]]:
    """Record half a run, of which all but the last event is in the store; give what is left to be recorded."""
    broker = Broker(url)
    documents = make.run(ROWS, uid="alpha")
    for pair in documents[:8]:
        broker.insert(*pair)
    broker.catalog.flush()
    broker.insert(*documents[8])
    return broker, documents[9:]


def seal(url: str) -> Broker:
    """Seal the runs of machines that are lost, from another one."""
    broker = Broker(url)
    assert broker[-1].state == "live"
    with pytest.warns(RecoveryWarning, match="its 8 documents were sealed"):
        broker.catalog.seal_interrupted()
    broker.catalog.flush()
    return broker


def test_of_a_lost_disk_what_was_up_is_sealed_from_another_machine(url: str, machine: Machine, tmp_path: Path) -> None:
    machine("one")
    begin(url)
    machine("two")
    shutil.rmtree(tmp_path / "one" / "staging", ignore_errors=True)  # a thread may be at its list of runs
    sealed = seal(url)
    sealed.close()
    machine("three")
    header = Broker(url, read_only=True)["alpha"]
    assert (header.state, header.table()["det"].size) == ("interrupted", 6)
    assert not Store(url).names("_live")


def test_a_machine_that_was_given_up_and_comes_back_keeps_its_run(url: str, machine: Machine, tmp_path: Path) -> None:
    machine("one")
    lost, rest = begin(url)
    machine("two")
    seal(url).close()
    machine("one")
    for pair in rest:
        lost.insert(*pair)
    with pytest.warns(UploadWarning, match=r"is there (already|with other content).*kept"):
        lost.close()
    (kept,) = (tmp_path / "one").glob("**/_conflicts/*")
    again = Broker(tmp_path / "again")
    place = tmp_path / "again" / "2025" / "11" / "22" / kept.name
    shutil.copytree(kept, place)
    again.refresh()
    assert again["alpha"].table()["det"].size == ROWS
    machine("three")
    assert Broker(url, read_only=True)["alpha"].table()["det"].size == 6


@pytest.fixture
def recording(s3_endpoint: str, machine: Machine) -> Iterator[tuple[Proxy, Broker, str]]:
    """Give a broker that has recorded a run to a bucket, the proxy on its way there, and the bucket."""
    machine("one")
    bucket = new_bucket(s3_endpoint)
    with Proxy(s3_endpoint) as proxy:
        broker = Broker(f"s3://{bucket}/beamtime", storage_options=options_for(proxy.url))
        record(broker, "first")
        broker.catalog.flush()
        yield proxy, broker, bucket


def record(broker: Broker, uid: str) -> None:
    for pair in make.run(2, uid=uid):
        broker.insert(*pair)


@pytest.mark.filterwarnings("ignore::filebroker.UploadWarning")  # as often as a round fails meanwhile
@pytest.mark.parametrize("requests", ["", "^(PUT|POST|DELETE)"], ids=["all", "writing"])
def test_what_a_store_refuses_is_kept_and_goes_up_when_it_is_let(
    requests: str, recording: tuple[Proxy, Broker, str], s3_endpoint: str, machine: Machine
) -> None:
    proxy, broker, bucket = recording
    proxy.fault(requests, "403")
    record(broker, "second")
    with pytest.raises(AccessDenied, match=r"1 run .* is not uploaded yet, and safe in"):
        broker.catalog.flush()
    assert broker["second"].table()["det"].size == 2
    proxy.clear()
    broker.close()
    machine("two")
    again = Broker(f"s3://{bucket}/beamtime", storage_options=options_for(s3_endpoint), read_only=True)
    assert again["second"].table()["det"].size == 2


@pytest.mark.filterwarnings("ignore::filebroker.UploadWarning")
def test_a_bucket_that_was_deleted_takes_nothing_along_that_was_not_up(
    recording: tuple[Proxy, Broker, str], s3_endpoint: str
) -> None:
    _, broker, bucket = recording
    delete_bucket(s3_endpoint, bucket)
    record(broker, "second")
    with pytest.raises(MissingStore, match=r"1 run .* is not uploaded yet, and safe in"):
        broker.catalog.flush()
    assert broker["second"].table()["det"].size == 2
    broker.close()
