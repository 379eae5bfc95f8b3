"""What reading from a store costs in requests, and what comes of it when the network or the store fails."""

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import factories
from factories import T0
from filebroker import (
    AccessDenied,
    Broker,
    DamagedRunWarning,
    FilebrokerError,
    FilebrokerWarning,
    MissingStore,
    OfflineWarning,
    StorageError,
    StoreUnreachable,
)
from filebroker.finding import listings
from filebroker.finding.ledger import LOGS, SNAPSHOTS
from filebroker.finding.records import Record, to_document
from filebroker.finding.snapshots import encode_snapshot
from filebroker.ground.s3_transport import S3Transport
from filebroker.ground.stores import Store
from filebroker.storing import layout
from filebroker.storing.journal import encode_line
from servers import Proxy, new_bucket, options_for, refusing_port, s3_server

DAY = 86400.0
#: So many runs are in the ledger of the large catalog, and so many of them are there.
MANY, REAL = 100_000, 100


@dataclasses.dataclass
class Bucket:
    """A catalog behind a proxy."""

    url: str
    proxy: Proxy

    def open(self, home: Path | None = None, **options: Any) -> Broker:
        """Open the catalog, on a machine that has seen nothing of it if it is given an empty home."""
        with pytest.MonkeyPatch.context() as patch:
            if home is not None:
                patch.setenv("HOME", str(home))
            broker = Broker(self.url, storage_options=options_for(self.proxy.url), **options)
            _ = broker.catalog.library
        return broker

    def cost(self, deed: Callable[[], Any]) -> int:
        """Count the requests that something takes."""
        self.proxy.clear()
        deed()
        return len(self.proxy.requests)


def record(url: str, endpoint: str, runs: list[list[tuple[str, dict[str, Any]]]]) -> None:
    db = Broker(url, storage_options=options_for(endpoint))
    for documents in runs:
        for name, doc in documents:
            db.insert(name, doc)
    db.catalog.flush(60)
    db.close()


def invented(first: int, count: int) -> list[Record]:
    """Make what a ledger says of runs that are not there."""
    records = []
    for number in range(first, first + count):
        uid = f"e{number:07d}-0000"
        start = {"uid": uid, "time": T0 - DAY * 300 + 60.0 * number, "scan_id": number, "plan_name": "scan"}
        stop = {"uid": f"{uid}s", "time": start["time"] + 1, "run_start": uid, "exit_status": "success"}
        raw = [json.dumps(doc).encode() for doc in (start | {"sample": f"sample {number % 997}"}, stop)]
        records.append(Record(layout.run_directory(start), 1, "sealed", raw[0], raw[1], ()))
    return records


def put_ledger(store: Store, count: int) -> None:
    """Leave a ledger as compaction does: snapshots, each far larger than the smaller ones together, and a few logs."""
    first = 0
    for size in (count - 8_960, 7_600, 1_000, 300):
        name, data = encode_snapshot(invented(first, size), {})
        store.write(f"{SNAPSHOTS}/{name}", data)
        first += size
    for number in range(2):
        lines = [encode_line(item.revision, "run", to_document(item)) for item in invented(first + 30 * number, 30)]
        store.write(f"{LOGS}/20260101T000000Z-00000000000{number}.jsonl", b"".join(lines))


@pytest.fixture(scope="module")
def own_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a home to a module's fixtures, which come before those of each test."""
    home = tmp_path_factory.mktemp("module-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        yield home


def real_runs() -> list[list[tuple[str, dict[str, Any]]]]:
    return [
        factories.run(3, ["det", "x"], uid=f"freal{number}", time=T0 + number, scan_id=number, sample="real thing")
        for number in range(REAL)
    ]


@pytest.fixture(scope="module")
def large_url(s3_endpoint: str, own_machine: Path) -> str:
    """Give the URL of a catalog of 100,000 runs."""
    url = f"s3://{new_bucket(s3_endpoint)}/large"
    record(url, s3_endpoint, real_runs())
    put_ledger(Store(url, options_for(s3_endpoint)), MANY - REAL)
    return url


@pytest.fixture(scope="module")
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(s3_endpoint) as made:
        yield made


@pytest.fixture
def large(large_url: str, proxy: Proxy) -> Bucket:
    proxy.clear()
    proxy.delay = 0.0
    return Bucket(large_url, proxy)


@pytest.fixture(scope="module")
def seen(large_url: str, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[str]]:
    """Give the home of somebody who opened the large catalog and looked at its newest run, and what that took."""
    home = tmp_path_factory.mktemp("seen")
    bucket = Bucket(large_url, proxy)
    brokers = []

    def look() -> None:
        brokers.append(bucket.open(home, read_only=True))
        assert brokers[0][-1].start["uid"] == f"freal{REAL - 1}"

    requests = bucket.cost(look)
    lines = list(proxy.requests)
    brokers[0].close()
    return home, requests, lines


def test_a_large_catalog_is_opened_cold_with_a_dozen_requests(seen: tuple[Path, int, list[str]]) -> None:
    assert seen[1] <= 12, seen[2]
    assert len(set(seen[2])) == seen[1]


def test_what_was_seen_of_a_large_catalog_is_not_read_again(
    large: Bucket, seen: tuple[Path, int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(seen[0]))
    brokers: list[Broker] = []
    assert large.cost(lambda: brokers.append(large.open(read_only=True))) == 1
    db = brokers[0]
    newest = db[-1]
    assert large.cost(lambda: db[-1].start) == 0
    assert large.cost(newest.table) <= 2
    assert large.cost(newest.table) == 0
    monkeypatch.setattr(listings, "_FRESH_SECONDS", 0.0)
    deeds: dict[str, Callable[[], Any]] = {
        "nothing new": db.catalog.library.sync,
        "newest": lambda: db[-1].start,
        "three newest": lambda: [header.start for header in db[-3:]],
        "a key": lambda: [header.uid for header in db(sample="sample 17")],
        "words": lambda: [header.uid for header in db("real thing")],
        "a uid": lambda: db["e0000042"].start,
        "a scan_id": lambda: db[80_000].start,
    }
    for name, deed in deeds.items():
        assert large.cost(deed) <= 2, name  # each of them a listing
        assert large.proxy.count("GET /[^/?]*[?]list-type=2") == len(large.proxy.requests) >= 1
    assert len(list(db("real thing"))) == REAL
    db.close()


def test_tables_of_many_small_runs_are_read_together(large: Bucket, seen: tuple[Path, int, list[str]]) -> None:
    db = large.open(seen[0], read_only=True)
    large.proxy.delay = 0.03
    tables: list[pd.DataFrame] = []
    requests = large.cost(lambda: tables.extend(header.table() for header in db(sample="real thing")))
    assert len(tables) == REAL
    assert {table.shape for table in tables} == {(3, 3)}
    assert requests <= 2 * REAL + 20
    assert large.proxy.most_at_once >= 8
    db.close()


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many bytes each request gave."""
    sizes: list[int] = []
    get = S3Transport.get

    async def noting(self: S3Transport, *args: Any) -> Any:
        piece = await get(self, *args)
        sizes.append(len(piece.data))
        return piece

    monkeypatch.setattr(S3Transport, "get", noting)
    return sizes


def test_a_column_of_a_long_run_is_read_alone(
    s3_endpoint: str, proxy: Proxy, own_home: Path, read_bytes: list[int]
) -> None:
    rows, url = 200_000, f"s3://{new_bucket(s3_endpoint)}/long"
    begun = factories.start(uid="flong")
    described = factories.descriptor(begun, ["x0", "x1", "x2", "x3"])
    values = np.random.default_rng(7).random((4, rows))
    documents = [("start", begun), ("descriptor", described)]
    for first in range(0, rows, 50_000):
        numbers = range(first, first + 50_000)
        part = {f"x{column}": values[column, first : first + 50_000].tolist() for column in range(4)}
        uids = [f"e{number}" for number in numbers]
        page = factories.event_page(described, [number + 1 for number in numbers], part, uid=uids)
        documents.append(("event_page", page))
    record(url, s3_endpoint, [[*documents, ("stop", factories.stop(begun, {"primary": rows}))]])
    bucket = Bucket(url, proxy)
    db = bucket.open(own_home / "other", read_only=True)
    header = db[-1]
    read_bytes.clear()
    columns: list[Any] = []
    requests = bucket.cost(lambda: columns.append(header.table(fields=["x3"])["x3"]))
    assert np.array_equal(columns[0].to_numpy(), values[3])
    assert requests <= 8
    size = sum(Store(url, options_for(s3_endpoint)).tree("").values())
    assert values[3].nbytes / 2 < sum(read_bytes) < size / 3
    db.close()


# -- without a network


def three_runs() -> list[list[tuple[str, dict[str, Any]]]]:
    return [
        factories.run(3, ["det", "x"], uid=uid, time=T0 + DAY * number, scan_id=number, sample=f"LaB6 {uid}")
        for number, uid in enumerate(["fold", "fother", "fread"], 1)
    ]


@pytest.fixture
def small(s3_endpoint: str, proxy: Proxy, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give a catalog of three runs behind a proxy, for a machine that has seen nothing of it."""
    proxy.clear()
    proxy.delay = 0.0
    url = f"s3://{new_bucket(s3_endpoint)}/beamtime"
    record(url, s3_endpoint, three_runs())
    monkeypatch.setenv("HOME", str(own_home / "reader"))
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "20")
    return Bucket(url, proxy)


def spoil(bucket: Bucket, trouble: str, first: int = 1) -> None:
    """Spoil all requests from the first-th on, which is to be told soon."""
    os.environ["FILEBROKER_TIMEOUT"] = "0.4"  # put back when the test ends
    bucket.proxy.clear()
    bucket.proxy.fault("", trouble, first)


UIDS = ["fread", "fother", "fold"]


@contextlib.contextmanager
def reading(bucket: Bucket) -> Iterator[Broker]:
    with contextlib.closing(bucket.open(read_only=True)) as db:
        yield db


def uids(found: Any) -> list[str]:
    return [header.uid for header in found]


def test_in_a_train_there_is_what_was_read_before(small: Bucket, s3_endpoint: str) -> None:
    with reading(small) as db:
        table, events = db["fread"].table(), list(db["fread"].events())
        assert uids(db("LaB6")) == UIDS
    spoil(small, "reset")
    with pytest.warns(OfflineWarning, match="What is known of it on this machine is given"):
        db = small.open(read_only=True)
    assert uids(db()) == UIDS
    assert uids(db("LaB6")) == UIDS
    assert uids(db(scan_id=2)) == ["fother"]
    assert db[1].start["sample"] == "LaB6 fold"
    pd.testing.assert_frame_equal(db["fread"].table(), table)
    assert list(db[-1].events()) == events
    with pytest.raises(StoreUnreachable, match="fother"):
        db["fother"].table()
    small.proxy.clear()
    record(small.url, s3_endpoint, [factories.run(1, uid="fnew", time=T0 + 9 * DAY)])
    assert db["fother"].table().shape == (3, 3)
    assert uids(db()) == ["fnew", *UIDS]
    db.close()


def test_a_session_goes_on_when_the_network_is_lost(small: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "_FRESH_SECONDS", 0.0)
    with reading(small) as db:
        table = db["fread"].table()
        spoil(small, "hang")
        with pytest.warns(OfflineWarning, match="the newest may be missing"):
            assert uids(db()) == UIDS
        pd.testing.assert_frame_equal(db["fread"].table(), table)
        with pytest.raises(StoreUnreachable, match="fold"):
            db["fold"].table()


def test_without_a_cache_nothing_is_kept(small: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    with reading(small) as db:
        assert db["fread"].table().shape == (3, 3)
    assert not files_below(os.environ["HOME"])
    spoil(small, "reset")
    with pytest.raises(StoreUnreachable, match=r"'filebroker\.json'"):
        small.open(read_only=True)


def files_below(directory: str) -> list[Path]:
    return [path for path in Path(directory).rglob("*") if path.is_file()]


def test_a_cleared_cache_has_nothing_of_the_runs(small: Bucket) -> None:
    with reading(small) as db:
        db["fread"].table()
        assert any(b"PAR1" in path.read_bytes() for path in files_below(os.environ["HOME"]))
        db.catalog.clear_cache()
    for path in files_below(os.environ["HOME"]):
        data = path.read_bytes()
        assert b"PAR1" not in data, path
        assert b"LaB6" not in data, path
    spoil(small, "reset")
    with pytest.warns(OfflineWarning), pytest.raises(StoreUnreachable), reading(small) as db:
        list(db())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.filterwarnings("ignore::filebroker.ground.errors.LedgerWarning")
def test_flipped_bits_in_the_cache_change_no_answer(seed: int, small: Bucket) -> None:
    def ask() -> tuple[Any, ...]:
        with reading(small) as db:
            return uids(db()), uids(db("LaB6")), db["fold"].table().to_dict(), dict(db["fread"].start)

    chance = random.Random(seed)
    expected = ask()
    names = [path.relative_to(os.environ["HOME"]) for path in files_below(os.environ["HOME"])]
    assert len(names) >= 3
    for name in names:
        path = Path(os.environ["HOME"]) / name
        if path.exists() and path.stat().st_size:
            data = bytearray(path.read_bytes())
            place = chance.randrange(len(data))
            data[place] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            assert ask() == expected, (name, place)


# -- errors


def answers(bucket: Bucket) -> tuple[Any, ...]:
    """Ask what a user asks first."""
    with reading(bucket) as db:
        return uids(db()), db[-1].table().to_dict(), uids(db("LaB6"))


#: What happens to requests, and the errors that tell of it.
TROUBLES = {
    "hang": StoreUnreachable,
    "reset": StoreUnreachable,
    "503": StoreUnreachable,
    "403": AccessDenied,
    "truncate": StorageError,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_from_any_request_on_is_a_typed_error(trouble: str, small: Bucket) -> None:
    expected = answers(small)
    requests = len(small.proxy.requests)
    assert requests >= 5
    for first in range(1, requests + 1):
        spoil(small, trouble, first)
        shutil.rmtree(os.environ["HOME"], ignore_errors=True)
        with pytest.raises(TROUBLES[trouble]) as caught:
            answers(small)
        assert small.url.removeprefix("s3://") in str(caught.value)
        assert "testing" not in str(caught.value)
    small.proxy.clear()
    assert answers(small) == expected


@pytest.mark.parametrize("trouble", ["reset", "503", "500", "truncate", "corrupt"])
def test_trouble_with_any_one_request_is_made_good(trouble: str, small: Bucket) -> None:
    expected = answers(small)
    for number in range(1, len(small.proxy.requests) + 1):
        small.proxy.clear()
        small.proxy.fault("", trouble, number, number)
        shutil.rmtree(os.environ["HOME"], ignore_errors=True)
        assert answers(small) == expected, small.proxy.requests


@pytest.mark.parametrize("trouble", ["403", "404"])
def test_refusal_of_any_one_request_hides_no_run(trouble: str, small: Bucket) -> None:
    expected = answers(small)
    for number in range(1, len(small.proxy.requests) + 1):
        small.proxy.clear()
        small.proxy.fault("", trouble, number, number)
        shutil.rmtree(os.environ["HOME"], ignore_errors=True)
        with warnings.catch_warnings(record=True) as told, contextlib.suppress(FilebrokerError):
            warnings.simplefilter("always")
            found = answers(small)
            is_told = any(issubclass(item.category, FilebrokerWarning) for item in told)
            assert is_told or found == expected, small.proxy.requests


class FlippingProxy(Proxy):
    """Flips one bit of every answer to some requests."""

    pattern, place, bit = "^$", 0.5, 0

    async def _forward(self, request: Any, drop: set[str]) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = await super()._forward(request, drop)
        if body and re.search(self.pattern, f"{request.method} {request.raw_path}"):
            spoilt = bytearray(body)
            spoilt[int(self.place * len(body))] ^= 1 << self.bit
            body = bytes(spoilt)
        return status, headers, body


@pytest.mark.parametrize(
    "pattern", ["filebroker.json", "list-type", "/snap/", "/log/", "documents.jsonl", "00000.parquet"]
)
def test_bits_that_flip_on_the_way_change_no_answer(
    pattern: str, small: Bucket, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answers(small)
    chance = random.Random(pattern)
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.4")
    with FlippingProxy(s3_endpoint) as proxy:
        bucket = Bucket(small.url, proxy)
        proxy.pattern = pattern
        for _ in range(5):
            proxy.place, proxy.bit = chance.random(), chance.randrange(8)
            shutil.rmtree(os.environ["HOME"], ignore_errors=True)
            with warnings.catch_warnings(record=True) as told, contextlib.suppress(FilebrokerError):
                warnings.simplefilter("always")
                found = answers(bucket)
                is_damaged = any(issubclass(item.category, DamagedRunWarning) for item in told)
                assert is_damaged or found == expected, (proxy.place, proxy.bit)


def test_wrong_credentials_are_told(own_home: Path) -> None:
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as endpoint:
        url = f"s3://{new_bucket(endpoint)}/beamtime"
        for read_only in (True, False):
            with pytest.raises(AccessDenied) as caught:
                Broker(url, storage_options=options_for(endpoint), read_only=read_only)
            assert "testing" not in str(caught.value)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_missing_bucket_is_told(read_only: bool, s3_endpoint: str) -> None:
    with pytest.raises(MissingStore, match="no-such-bucket"):
        Broker("s3://no-such-bucket/beamtime", storage_options=options_for(s3_endpoint), read_only=read_only)


def test_a_bucket_that_is_removed_is_told(s3_endpoint: str, small: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings, "_FRESH_SECONDS", 0.0)
    with reading(small) as db:
        assert uids(db()) == UIDS
        spoil(small, "404")
        with pytest.raises((MissingStore, StorageError)):
            list(db())


def test_nobody_answering_is_told(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "1")
    with refusing_port() as endpoint:
        with pytest.raises(StoreUnreachable, match="beamtime"):
            Broker("s3://bucket/beamtime", storage_options=options_for(endpoint), read_only=True)
        with pytest.warns(OfflineWarning, match="beamtime"):  # what is recorded is kept here
            db = Broker("s3://bucket/beamtime", storage_options=options_for(endpoint))
        with pytest.raises(StoreUnreachable, match="beamtime"):
            list(db())
