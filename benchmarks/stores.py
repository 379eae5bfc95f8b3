"""Measure catalogs in a store 30 ms away: ``python benchmarks/stores.py [name ...] [--runs 100000]``."""

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import crowd
import workload
from filebroker import Broker
from filebroker.ground.filecache import FileCache
from filebroker.ground.remote import Remote
from filebroker.ground.stores import Store
from filebroker.storing.layout import FORMAT
from filebroker.storing.pages import FOOTER_KEY
from filebroker.storing.parquet import PageFile, footer_seal, to_parquet
from filebroker.storing.ranges import RemoteFile
from loopback_s3 import Cost, Endpoint, fill, serve
from measure import Row, compare, fresh, interleaved, machine, table
from questions import BY_NAME

DELAY = 0.03
_CACHE, _STAGING = "FILEBROKER_CACHE", "FILEBROKER_STAGING"
_ROUNDS = 5
_PROBE = """
import json, sys, pandas, s3fs, stores
print(json.dumps(stores.PROBES[sys.argv[1]](*json.loads(sys.argv[2]))))
"""


class Place(NamedTuple):
    """Where everything is, and the size of the catalog of many runs."""

    scratch: str
    crowds: str
    runs: int

    @property
    def buckets(self) -> str:
        return os.path.join(self.scratch, "buckets")

    def bucket(self, name: str) -> str:
        path = os.path.join(self.buckets, name)
        os.makedirs(path, exist_ok=True)
        return path

    def empty_cache(self) -> None:
        """Have everything forgotten that was kept of stores."""
        os.environ[_CACHE] = tempfile.mkdtemp(dir=self.scratch)


# -- what new processes do, after their imports


def _open(endpoint: Endpoint, bucket: str) -> Broker:
    return Broker(f"s3://{bucket}", storage_options=endpoint.options)


def _opened(address: str, log: str, bucket: str) -> Cost:
    """Open a catalog and give its newest run."""
    endpoint = Endpoint(address, log)
    return endpoint.cost(lambda: _open(endpoint, bucket)[-1].start["uid"])


def _used(address: str, log: str, bucket: str) -> dict[str, Cost]:
    """Use an open catalog."""
    endpoint = Endpoint(address, log)
    db = _open(endpoint, bucket)
    header = db[-1]
    question = BY_NAME["word"]
    tasks: dict[str, Callable[[], object]] = {
        "db[-1].table()": header.table,
        "db[-1].table() again": lambda: db[-1].table(),
        "refresh, nothing new": db.refresh,
        "search, all": lambda: question.count(db, 0),
        "search, the newest ten": lambda: question.newest(db, 0),
    }
    return {what: endpoint.cost(task) for what, task in tasks.items()}


def _read_tables(address: str, log: str, bucket: str, count: int) -> Cost:
    """Make the tables of the newest runs."""
    endpoint = Endpoint(address, log)
    db = _open(endpoint, bucket)
    db[-1]
    return endpoint.cost(lambda: [header.table() for header in db[-count:]])


def _read_column(address: str, log: str, bucket: str, rows: int) -> Cost:
    """Read one column of a long run."""
    endpoint = Endpoint(address, log)
    header = _open(endpoint, bucket)[-1]

    def column() -> None:
        assert len(list(header.data("signal_5"))) == rows

    return endpoint.cost(column)


def _inserted(address: str, log: str, bucket: str, folder: str, count: int) -> tuple[list[float], list[float]]:
    """Record one long run in a store and on the local disk, in turns; give seconds per event."""
    places = [_open(Endpoint(address, log), bucket), Broker(folder)]
    start, descriptor, *_, stop = workload.run(1, 10)
    times: tuple[list[float], list[float]] = ([], [])
    for db in places:
        db.insert(*start)
        db.insert(*descriptor)
    events = workload.events(count, 10)
    while some := list(itertools.islice(events, 500)):
        for db, measured in zip(places, times, strict=True):
            begin = time.perf_counter()
            for event in some:
                db.insert("event", event)
            measured.append((time.perf_counter() - begin) / len(some))
    for db in places:
        db.insert(*stop)
        db.close()
    return times


PROBES: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (_opened, _used, _read_tables, _read_column, _inserted)
}


def probe(task: Callable[..., Any], endpoint: Endpoint, *arguments: object) -> Any:
    """Have a new process measure something."""
    return fresh(_PROBE, task.__name__, json.dumps([endpoint.address, endpoint.log, *arguments])).json()


# -- what is measured


def _row(what: str, costs: list[Cost], requests: int | None = None, seconds: float | None = None) -> Row:
    """Judge requests and time; the ratio is that of the time and the delay of one request."""
    most, median = max(cost.requests for cost in costs), statistics.median(cost.seconds for cost in costs)
    ours = f"{most} requests, {max(cost.received for cost in costs) / 1e6:.2f} MB, {median * 1e3:.0f} ms"
    targets = ["" if requests is None else f"<= {requests} requests", "" if seconds is None else f"<= {seconds:g} s"]
    met = None
    if requests is not None or seconds is not None:
        met = (requests is None or most <= requests) and (seconds is None or median <= seconds)
    return Row(what, ours, f"{DELAY * 1e3:.0f} ms", median / DELAY, target=", ".join(filter(None, targets)), met=met)


def measure_many(place: Place) -> list[Row]:
    """Open and use a catalog of many runs."""
    many = crowd.make(place.crowds, place.runs)
    fill(many.catalog, place.bucket("many"))
    rows: list[Row] = []
    with serve(place.buckets, DELAY) as endpoint:
        cold, warm, first, later, tables = [], [], [], [], []
        for _ in range(_ROUNDS):
            place.empty_cache()
            cold.append(Cost(*probe(_opened, endpoint, "many")))
            warm.append(Cost(*probe(_opened, endpoint, "many")))
            place.empty_cache()
            first.append(probe(_used, endpoint, "many"))
            later.append(probe(_used, endpoint, "many"))
            place.empty_cache()
            tables.append(Cost(*probe(_read_tables, endpoint, "many", 100)))
        size = f"{place.runs:,} runs"
        rows = [
            _row(f"open + db[-1] of {size}, nothing cached", cold, requests=12),
            _row(f"open + db[-1] of {size}", warm),
        ]
        limits = {"db[-1].table()": 2}
        for what in first[0]:
            rows.append(_row(f"{what}, nothing cached", [Cost(*found[what]) for found in first], limits.get(what)))
            rows.append(_row(what, [Cost(*found[what]) for found in later]))
        # Three times what ten requests one after the other take.
        rows.append(_row("the tables of 100 runs, nothing cached", tables, seconds=3 * 10 * DELAY))
    return rows


def measure_column(place: Place, count: int = 200_000) -> list[Row]:
    """Read one column of a long run."""
    db = Broker(place.bucket("long"), sync="never")
    for name, doc in workload.run(count, 10):
        db.insert(name, doc)
    db.close()
    size = sum(path.stat().st_size for path in _pages(place.bucket("long")))
    costs = []
    with serve(place.buckets, DELAY) as endpoint:
        for _ in range(_ROUNDS):
            place.empty_cache()
            costs.append(Cost(*probe(_read_column, endpoint, "long", count)))
    row = _row(f"data(key) of {count:,} events in {len(_pages(place.bucket('long')))} pages", costs)
    share = max(cost.received for cost in costs) / size
    return [
        row,
        Row("data(key): bytes received / bytes of the pages", ratio=share),
    ]


def _pages(folder: str) -> list[Any]:
    import pathlib

    return sorted(pathlib.Path(folder).rglob("primary/*.parquet"))


def measure_insert(place: Place, count: int = 50_000) -> list[Row]:
    """Compare recording to a store with recording to the local disk."""
    os.environ[_STAGING] = tempfile.mkdtemp(dir=place.scratch)
    place.bucket("recorded")
    with serve(place.buckets, DELAY) as endpoint:
        ours, floor = probe(_inserted, endpoint, "recorded", tempfile.mkdtemp(dir=place.scratch), count)
    return [compare("insert of an event: to a store / to the local disk", ours, floor, 1.5, "us")]


def measure_throughput(place: Place, rows: int = 12_000_000) -> list[Row]:
    """Compare reading a large page with pyarrow's own S3 reader; there is no delay."""
    end, size = _make_page(os.path.join(place.bucket("large"), "page.parquet"), rows)
    result = []
    with serve(place.buckets, 0.0) as endpoint:
        remote = Remote(Store("s3://large", endpoint.options))

        def ours() -> pa.Table:
            file = RemoteFile(lambda ranges: remote.read_ranges("page.parquet", "1", ranges, fresh=False), size, end)
            return PageFile(file, "page").read().table

        def kept() -> pa.Table:
            folder = tempfile.mkdtemp(dir=place.scratch)
            remote.cache = FileCache(os.path.join(folder, "large", "files"), 8 << 30)
            found = ours()
            remote.cache = None
            shutil.rmtree(folder)
            return found

        plain, checking = _readers(endpoint)
        if not ours().equals(plain()):
            raise AssertionError("the tables differ")
        times = interleaved([ours, kept, plain, checking], _ROUNDS)
    what, limit = f"{rows * 96 / 1e9:.2f} GB in {size / 1e6:.0f} MB", 1 / 0.7
    for name, measured in (("read", times[0]), ("read, and keep in the cache", times[1])):
        result.append(compare(f"{name} {what} / pyarrow's S3 reader", measured, times[2], limit))
        result.append(compare(f"{name} {what} / pyarrow's, which checks pages as well", measured, times[3]))
    return result


def _readers(endpoint: Endpoint) -> list[Callable[[], pa.Table]]:
    from pyarrow import fs

    keys = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1"}
    files = fs.S3FileSystem(endpoint_override=endpoint.address, scheme="http", **keys)
    path = "large/page.parquet"
    return [
        lambda: pq.read_table(path, filesystem=files),
        lambda: pq.read_table(path, filesystem=files, page_checksum_verification=True),
    ]


def _make_page(path: str, rows: int) -> tuple[bytes, int]:
    """Write a page of random numbers; give its footer and its size."""
    generator = np.random.default_rng(1)
    columns = {"seq_num": np.arange(1, rows + 1), "time": 1.7e9 + np.arange(rows) * 0.05}
    columns |= {f"signal_{number}": generator.normal(size=rows) for number in range(10)}
    footer = {"format": FORMAT, "rows": rows, "const": {"i": 2, "descriptor": "primary", "page": False}}
    data = to_parquet(pa.table(columns).replace_schema_metadata({FOOTER_KEY: json.dumps(footer).encode()}))
    with open(path, "wb") as file:
        file.write(data)
    return data[-footer_seal(data)[0] :], len(data)


BENCHMARKS: dict[str, Callable[[Place], list[Row]]] = {
    "many": measure_many,
    "column": measure_column,
    "insert": measure_insert,
    "throughput": measure_throughput,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--runs", type=int, default=100_000, help="size of the catalog of many runs")
    parser.add_argument("--keep", metavar="DIR", help="keep that catalog there, and go on with what is there")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - BENCHMARKS.keys()):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="filebroker-benchmark-") as scratch:
        place = Place(scratch, os.path.abspath(arguments.keep or os.path.join(scratch, "crowds")), arguments.runs)
        for name in arguments.names or BENCHMARKS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += BENCHMARKS[name](place)
    print(machine(), table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
