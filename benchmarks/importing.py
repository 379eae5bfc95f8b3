"""Measure the import of runs against databroker-pack and databroker-unpack of the same runs.

``DATABROKER_PYTHON=.venv-databroker/bin/python python benchmarks/importing.py [--workers N] [--rounds N]``

That Python has to have databroker 1.2.5 and databroker-pack, and suitcase-utils before 0.5.4, which closes files twice.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from typing import Any

import msgpack

import workload
from filebroker import import_runs
from measure import Row, grid, machine

#: For each benchmark: runs, events of each, and data keys.
SHAPES = {"many short runs": (150, 50, 10), "a few long runs": (2, 10_000, 10)}
TARGET = 3.0

#: What is timed in databroker's environment: for each line on its input, a pack of a catalog, and its unpacking.
_THEIRS = """
import json, os, shutil, sys, time, warnings
warnings.simplefilter("ignore")
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import databroker_pack
from databroker._drivers.msgpack import BlueskyMsgpackCatalog
from suitcase.utils import MultiFileManager
source, target = sys.argv[1:]
for line in sys.stdin:
    shutil.rmtree(target, ignore_errors=True)
    catalog = BlueskyMsgpackCatalog(source + "/*.msgpack")
    begin = time.perf_counter()
    manager = MultiFileManager(target)
    artifacts, _, failures, uids = databroker_pack.export_catalog(catalog, manager, strict=True)
    databroker_pack.write_documents_manifest(manager, target, artifacts["all"])
    databroker_pack.write_msgpack_catalog_file(manager, target, ["./documents/*.msgpack"], {})
    manager.close()
    name = "benchmark_" + line.strip()
    os.remove(databroker_pack.unpack_inplace(target, name))
    print(json.dumps([time.perf_counter() - begin, len(uids)]), file=answers, flush=True)
"""


def documents(runs: int, events: int, columns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the documents of runs one after another."""
    for number in range(runs):
        uids: dict[str, str] = {}
        for name, doc in workload.run(events, columns):
            for key in {"uid", "run_start", "descriptor"} & doc.keys():
                doc[key] = uids.setdefault(doc[key], str(uuid.uuid4()))
            doc["time"] += number * 10_000
            yield name, doc


def write(folder: str, kind: str, shape: tuple[int, int, int]) -> str:
    """Write runs as suitcase-jsonl does, or as suitcase-msgpack does: that makes pages of events."""
    target = os.path.join(folder, kind)
    os.makedirs(target)
    text = b""
    for name, doc in documents(*shape):
        if kind == "jsonl":
            text += json.dumps([name, doc]).encode() + b"\n"
        else:
            text += msgpack.packb(("event_page", as_page(doc)) if name == "event" else (name, doc))
        if name == "stop":
            with open(os.path.join(target, f"{doc['run_start']}.{kind}"), "wb") as file:
                file.write(text)
            text = b""
    return target


def as_page(event: dict[str, Any]) -> dict[str, Any]:
    """Give an event as a page of one, as suitcase-msgpack writes it."""
    parts = {part: {key: [value] for key, value in event[part].items()} for part in ("data", "timestamps", "filled")}
    return {**event, **{key: [event[key]] for key in ("uid", "time", "seq_num")}, **parts}


def measure(what: str, shape: tuple[int, int, int], python: str, rounds: int, workers: int | None) -> list[Row]:
    """Compare the import of msgpack files, and of JSON lines, with a pack of the former."""
    with tempfile.TemporaryDirectory(prefix="filebroker-benchmark-") as folder:
        sources = [write(folder, kind, shape) for kind in ("msgpack", "jsonl")]
        command = [python, "-W", "ignore", "-c", _THEIRS, sources[0], os.path.join(folder, "pack")]
        pipe = subprocess.PIPE
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True) as theirs,
        ):
            times: list[list[float]] = [[], [], []]
            for number in range(rounds + 1):  # the first warms up
                found = [packed(theirs, number, shape[0])]
                found += [imported(folder, source, shape[0], workers) for source in sources]
                for which, seconds in enumerate(found if number else []):
                    times[which].append(seconds)
    rows = []
    for kind, ours in zip(("msgpack", "jsonl"), times[1:], strict=True):
        ratios = [other / one for one, other in zip(ours, times[0], strict=True)]
        spread = min(ratios), max(ratios)
        ratio = statistics.median(ratios)
        shown = [f"{statistics.median(some):.2f} s" for some in (ours, times[0])]
        title = f"{what} ({shape[0]:,} x {shape[1]:,} events) from {kind}"
        rows.append(Row(title, *shown, ratio, spread, f">= {TARGET:g} x", ratio >= TARGET))
    return rows


def packed(theirs: "subprocess.Popen[str]", number: int, runs: int) -> float:
    """Have databroker pack and unpack; give the seconds."""
    print(f"{os.getpid()}_{number}", file=theirs.stdin, flush=True)
    line = theirs.stdout.readline() if theirs.stdout is not None else ""
    if not line:
        raise RuntimeError("databroker-pack failed; run its part by hand")
    seconds, found = json.loads(line)
    if found != runs:
        raise AssertionError(f"databroker-pack found {found} runs of {runs}")
    return float(seconds)


def imported(folder: str, source: str, runs: int, workers: int | None) -> float:
    """Import; give the seconds."""
    target = os.path.join(folder, "catalog")
    shutil.rmtree(target, ignore_errors=True)
    begin = time.perf_counter()
    report = import_runs(source, target, workers=workers)
    seconds = time.perf_counter() - begin
    if report.taken != runs or not report.ok:
        raise AssertionError(str(report))
    return seconds


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="processes that import; databroker-pack has one")
    arguments = parser.parse_args()
    python = os.environ.get("DATABROKER_PYTHON", "")
    if not python:
        parser.error("DATABROKER_PYTHON has to name a Python with databroker 1.2.5 and databroker-pack")
    rows = [row for item in SHAPES.items() for row in measure(*item, python, arguments.rounds, arguments.workers)]
    heading = ["what", "filebroker", "databroker-pack and -unpack", "times as fast", "target", "met"]
    print(machine(), grid([heading, *(row.cells() for row in rows)]), sep="\n\n")


if __name__ == "__main__":
    sys.exit(main())
