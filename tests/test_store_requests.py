"""What reading from a store costs in requests, and what comes of it when the network or the store fails."""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import factories
from factories import T0
from filebroker import Broker
from filebroker.finding import listings
from filebroker.finding.ledger import LOGS, SNAPSHOTS
from filebroker.finding.records import Record, to_document
from filebroker.finding.snapshots import encode_snapshot
from filebroker.ground.s3_transport import S3Transport
from filebroker.ground.stores import Store
from filebroker.storing import layout
from filebroker.storing.journal import encode_line
from servers import Proxy, new_bucket, options_for

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
    print(*seen[2], sep="\n")
    assert seen[1] <= 12


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
    assert {name: large.cost(deed) for name, deed in deeds.items()} == dict.fromkeys(deeds, 1)
    assert not large.proxy.count("GET /[^?]*[.]")
    assert len(list(db("real thing"))) == REAL
    db.close()


def test_tables_of_many_small_runs_are_read_together(large: Bucket, seen: tuple[Path, int, list[str]]) -> None:
    db = large.open(seen[0], read_only=True)
    large.proxy.delay = 0.03
    begin = time.monotonic()
    tables: list[pd.DataFrame] = []
    requests = large.cost(lambda: tables.extend(header.table() for header in db(sample="real thing")))
    print(time.monotonic() - begin, requests, large.proxy.most_at_once, sep="|")
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
    described = factories.descriptor(begun, [f"x{number}" for number in range(10)])
    values = np.random.default_rng(7).random((10, rows))
    documents = [("start", begun), ("descriptor", described)]
    for first in range(0, rows, 50_000):
        part = {f"x{number}": values[number, first : first + 50_000] for number in range(10)}
        numbers = range(first + 1, first + 50_001)
        documents.append(("event_page", factories.event_page(described, numbers, part)))
    record(url, s3_endpoint, [[*documents, ("stop", factories.stop(begun, {"primary": rows}))]])
    bucket = Bucket(url, proxy)
    db = bucket.open(own_home / "other", read_only=True)
    header = db[-1]
    read_bytes.clear()
    columns: list[Any] = []
    requests = bucket.cost(lambda: columns.append(header.table(fields=["x3"])["x3"]))
    print(requests, sum(read_bytes), proxy.requests, Store(url, options_for(s3_endpoint)).tree(""))
    assert np.array_equal(columns[0].to_numpy(), values[3])
    print(requests, sum(read_bytes))
