"""Measure filebroker against the least that the same work can cost: ``python benchmarks/run.py [name ...]``."""

import argparse
import functools
import glob
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import pyarrow.parquet as pq

import workload
from filebroker import Broker
from measure import Row, compare, fresh, interleaved, machine, percentile, table

_scratch = tempfile.TemporaryDirectory(prefix="filebroker-benchmark-")


@functools.cache
def recorded(rows: int, columns: int) -> str:
    """Record a run once, and give its catalog's path."""
    db = Broker(os.path.join(_scratch.name, f"{rows}x{columns}"), sync="never")
    for name, doc in workload.run(rows, columns):
        db.insert(name, doc)
    return db.catalog.folder.url


def pages(path: str) -> list[str]:
    """Give the Parquet files of a catalog's only run."""
    return sorted(glob.glob(f"{path}/*/*/*/*/primary/*.parquet"))


def measure_table(rows: int, columns: int, limit: float, rounds: int) -> list[Row]:
    """Compare a table with pyarrow reading the same files: all columns of them, or those of the table."""
    path = recorded(rows, columns)
    files, shown, db = pages(path), ["seq_num", "time", *workload.keys(columns)], Broker(path)
    opened, cached, whole, part = interleaved(
        [
            lambda: Broker(path)[-1].table(),
            lambda: db[-1].table(),
            lambda: pq.read_table(files).to_pandas(),
            lambda: pq.read_table(files, columns=shown).to_pandas(),
        ],
        rounds,
    )
    size = f"{rows:,} x {columns:,}"
    return [
        compare(f"open + table, {size} / whole file", opened, whole, limit),
        compare(f"open + table, {size} / columns shown", opened, part),
        compare(f"table of an open broker, {size} / whole file", cached, whole, limit),
        compare(f"table of an open broker, {size} / columns shown", cached, part),
    ]


def _time_inserts(name: str, count: int, floor: Callable[[Any], object], block: int) -> list[list[float]]:
    """Time inserts of single events, and in turns what they are compared with; at last the stop document."""
    db = Broker(os.path.join(_scratch.name, name))
    start, descriptor, *_, stop = workload.run(1, 10)
    db.insert(*start)
    db.insert(*descriptor)
    times: list[list[float]] = [[], [], []]
    events = workload.events(count, 10)
    while some := list(itertools.islice(events, block)):
        for which, task in enumerate((functools.partial(db.insert, "event"), floor)):
            for event in some:
                before = time.perf_counter()
                task(event)
                times[which].append(time.perf_counter() - before)
    before = time.perf_counter()
    db.insert(*stop)
    times[2].append(time.perf_counter() - before)
    return times


def _percentiles(count: int, *measured: list[float]) -> Row:
    shown = [
        " / ".join(f"{percentile(times, percent) * 1e6:.3g}" for percent in (50, 99, 99.9, 100)) + " us"
        for times in measured
    ]
    met = percentile(measured[0], 99) < 1e-3
    return Row(f"insert of {count:,}: p50 / p99 / p99.9 / max", *shown, target="p99 < 1 ms", met=met)


def measure_insert(count: int = 20_000, block: int = 500) -> list[Row]:
    """Compare `Broker.insert` of an event with the shortest way to hand its JSON to the kernel."""
    with open(os.path.join(_scratch.name, "floor.jsonl"), "wb", buffering=0) as file:
        fd = file.fileno()
        ours, floor, _ = _time_inserts("insert", count, lambda event: os.write(fd, orjson.dumps(event) + b"\n"), block)
    blocks = [[sum(times[i : i + block]) / block for i in range(0, count, block)] for times in (ours, floor)]
    return [
        compare("insert of an event of 10 keys / write of its JSON", *blocks, 3.0, "us"),
        _percentiles(count, ours, floor),
    ]


def measure_rotation(count: int = 200_000) -> list[Row]:
    """Time single inserts while full segments of the journal become pages in the background."""
    ours, _, (stop,) = _time_inserts("rotation", count, lambda event: None, 500)
    return [_percentiles(count, ours), Row(f"insert of the stop document after {count:,} events", f"{stop:.2f} s")]


def measure_field(rows: int = 100_000, key: str = "signal_3") -> list[Row]:
    """Compare the values of one field with pyarrow reading that column, and count the bytes read."""
    path = recorded(rows, 10)
    files, db = pages(path), Broker(path)
    tasks = [lambda: list(db[-1].data(key)), lambda: pq.read_table(files, columns=[key])[key].to_pylist()]
    result = [compare(f"data(key) of {rows:,} events / one column", *interleaved(tasks, 15))]
    if os.path.exists("/proc/self/io"):
        before = _bytes_read()
        list(db[-1].data(key))
        found, size = _bytes_read() - before, sum(map(os.path.getsize, files))
        allowed = sum(_bytes_of(file, key) for file in files)
        target, met = f"<= {allowed:,}: that column", found <= allowed
        shares = (f"{found:,}", f"{size:,}", found / size, None, target, met)
        result.append(Row("data(key): bytes read / bytes of the files", *shares))
    return result


def _bytes_read() -> int:
    """Give the bytes this process has read, whatever the call."""
    with open("/proc/self/io") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("rchar"))


def _bytes_of(path: str, key: str) -> int:
    """Give the size of a column of a Parquet file, of its footer twice, and of the tail that pyarrow asks for."""
    data = pq.ParquetFile(path).metadata
    groups = [data.row_group(number) for number in range(data.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    column = sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema == key)
    return column + 2 * data.serialized_size + (64 << 10)


_MEMORY = """
import glob, json, sys
path, warm, kind = sys.argv[1:]
import pyarrow.parquet as pq
from filebroker import Broker
def files(path): return sorted(glob.glob(f"{path}/*/*/*/*/primary/*.parquet"))
read = {
    "table": lambda path: Broker(path)[-1].table(),
    "pyarrow, whole file": lambda path: pq.read_table(files(path)).to_pandas(),
    "pyarrow, columns shown": lambda path: pq.read_table(
        files(path), columns=[name for name in pq.read_schema(files(path)[0]).names if name[0] != "_"]).to_pandas(),
}[kind]
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
read(warm)
with open("/proc/self/clear_refs", "w") as file: file.write("5")
before = status("VmRSS")
frame = read(path)
print(json.dumps([status("VmHWM") - before, int(frame.memory_usage(deep=True).sum())]))
"""


def measure_memory(rows: int) -> list[Row]:
    """Compare the most memory a table takes while it is made with what it takes in the end."""
    result = []
    for kind in ("table", "pyarrow, whole file", "pyarrow, columns shown") if os.path.exists("/proc/self") else ():
        # What the first large read of a process takes once, some 40 MiB of the allocator's, is left out.
        warm = recorded(min(rows, 100_000), 10)
        found = [fresh(_MEMORY, recorded(rows, 10), warm, kind).json() for _ in range(3)]
        peak, size = statistics.median(peak for peak, _ in found), found[0][1]
        shown = f"{peak / 2**20:.3g} MiB", f"{size / 2**20:.3g} MiB"
        limit, met = ("<= 2.5 x", peak <= 2.5 * size) if kind == "table" else ("", None)
        result.append(Row(f"peak memory of {kind}, {rows:,} x 10 / the table", *shown, peak / size, None, limit, met))
    return result


_IMPORTS = {
    "import pandas, pyarrow": "import pandas, pyarrow",
    "import filebroker": "import filebroker",
    "from filebroker import Broker": "from filebroker import Broker",
    "import, open and table": "import sys; from filebroker import Broker; Broker(sys.argv[1])[-1].table()",
    "nothing": "pass",
}


def _limit(name: str) -> float | None:
    """Give the target for an import; what is done after it has none."""
    return 1.2 if "import filebroker" in name or "import Broker" in name else None


def measure_import(rounds: int = 7) -> list[Row]:
    """Compare importing filebroker with importing pandas and pyarrow, in new processes."""
    path = recorded(20, 10)
    cpu: dict[str, list[float]] = {name: [] for name in _IMPORTS}
    listed: dict[str, list[float]] = {name: [] for name in _IMPORTS}
    for number in range(rounds + 1):
        for name, code in _IMPORTS.items():
            plain, timed = fresh(code, path), fresh(code, path, options=["-X", "importtime"])
            if number:  # the first round compiles
                cpu[name].append(plain.cpu)
                lines = [
                    line[12:].split("|")[0].strip() for line in timed.errors.splitlines() if "import time:" in line
                ]
                listed[name].append(sum(int(line) for line in lines if line.isdecimal()) / 1e6)
    first, *others, nothing = _IMPORTS
    return [
        *(compare(f"CPU of {name} / {first}", cpu[name], cpu[first], _limit(name)) for name in others),
        *(compare(f"-X importtime of {name} / {first}", listed[name], listed[first], _limit(name)) for name in others),
        compare(f"CPU of a process that does {nothing} / {first}", cpu[nothing], cpu[first]),
    ]


_DATABROKER = """
import json, os, sys, time
sys.path.insert(0, os.getcwd())
import workload
from databroker._drivers.msgpack import BlueskyMsgpackCatalog
from suitcase.msgpack import Serializer
path, rows = sys.argv[1], int(sys.argv[2])
if not os.path.isdir(path):
    with Serializer(path, flush=False) as serializer:
        for name, doc in workload.run(rows, 10): serializer(name, doc)
db = BlueskyMsgpackCatalog(path + "/*.msgpack").v1
for _ in db[-1].documents(): pass
begin = time.perf_counter()
count = sum(name == "event" for name, _ in db[-1].documents())
elapsed = time.perf_counter() - begin
assert count == rows, count
print(json.dumps(elapsed))
"""


def measure_replay(rows: int = 20_000, rounds: int = 7) -> list[Row]:
    """Time the replay of all documents, and compare with databroker 1.2.5 where it is at hand."""
    db, python = Broker(recorded(rows, 10)), os.environ.get("DATABROKER_PYTHON")
    ours, theirs = [], []
    tasks = [lambda: sum(1 for _ in db.catalog.newest(1).documents()), lambda: sum(1 for _ in db[-1].documents())]
    for _ in range(rounds):
        ours.append([seconds / rows for (seconds,) in interleaved(tasks, 1)])
        if python:
            store = os.path.join(_scratch.name, "msgpack")
            theirs.append(fresh(_DATABROKER, store, str(rows), python=python).json() / rows)
    plain, header = ([times[which] for times in ours] for which in (0, 1))
    result = [compare("replay of an event: header.documents() / documents as inserted", header, plain, None, "us")]
    if theirs:
        result.append(compare("replay of an event: header.documents() / databroker 1.2.5", header, theirs, None, "us"))
    return result


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "table": lambda: measure_table(100_000, 10, 1.5, 21),
    "wide": lambda: measure_table(500, 1000, 2.0, 15),
    "short": lambda: measure_table(20, 10, 3.0, 101),
    "insert": measure_insert,
    "rotation": measure_rotation,
    "field": measure_field,
    "memory": lambda: [*measure_memory(100_000), *measure_memory(1_000_000)],
    "import": measure_import,
    "replay": measure_replay,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", metavar="FILE", help="write the results there as well")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - BENCHMARKS.keys()):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    rows: list[Row] = []
    for name in arguments.names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += BENCHMARKS[name]()
    print(machine(), table(rows), sep="\n\n")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": machine(), "results": [asdict(row) for row in rows]}, file, indent=1)


if __name__ == "__main__":
    main()
