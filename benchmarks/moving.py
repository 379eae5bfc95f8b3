"""Measure proving catalogs and listing runs: ``python benchmarks/moving.py [verify] [ls] [--runs 100000]``."""

import argparse
import hashlib
import os
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import startdocs
from filebroker import Catalog, verify
from finding import Caches, made, probe
from measure import Row, compare, fresh, interleaved, machine, table

#: Seconds that proving may take for each that hashing takes: 70 % of its rate.
_MOST_SECONDS = 1 / 0.7
_ROUNDS, _PROCESSES = 7, 9
_EVENTS_A_PAGE = 50_000
_LS = "import sys; from filebroker.commands.main import main; sys.exit(main(['ls', *sys.argv[1:]]))"


# -- proving


def large_runs(root: str, runs: int) -> None:
    """Record runs of one page of 100,000 events of ten numbers each, about 8 MB."""
    rng = np.random.default_rng(0)
    catalog = Catalog(root, sync="never")
    for number in range(runs):
        uid, time_ = str(uuid.UUID(int=number)), 1.7e9 + 1000 * number
        names = [f"x{column}" for column in range(10)]
        keys = {name: {"source": name, "dtype": "number", "shape": []} for name in names}
        catalog.insert("start", {"uid": uid, "time": time_})
        described = {"uid": f"d-{uid}", "run_start": uid, "time": time_, "name": "primary", "data_keys": keys}
        catalog.insert("descriptor", described)
        for begin in range(0, 100_000, _EVENTS_A_PAGE):
            numbers = list(range(begin + 1, begin + _EVENTS_A_PAGE + 1))
            times = [time_ + item / 100 for item in numbers]
            page = {
                **{"descriptor": f"d-{uid}", "seq_num": numbers, "time": times},
                "uid": [str(uuid.UUID(int=number << 32 | item)) for item in numbers],
                **{"data": {name: rng.random(_EVENTS_A_PAGE) for name in names}, "filled": {}},
                "timestamps": dict.fromkeys(names, times),
            }
            catalog.insert("event_page", page)
        stop = {"uid": f"s-{uid}", "run_start": uid, "time": time_ + 1000, "exit_status": "success"}
        catalog.insert("stop", stop)
    catalog.close()


def small_runs(root: str, runs: int) -> None:
    """Record runs of two streams and ten events."""
    catalog = Catalog(root, sync="never")
    for number, start in enumerate(startdocs.starts(runs)):
        for pair in startdocs.small_run(start, number):
            catalog.insert(*pair)
    catalog.close()


def hash_all(root: str, threads: int) -> None:
    """Hash every file once, as ``find | xargs sha256sum`` does."""
    paths = [os.path.join(parent, name) for parent, _, names in os.walk(root) for name in names]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(_hash, paths):
            pass


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure_verify(folder: str, _: int) -> Iterator[Row]:
    """Prove every byte of a catalog, against hashing its files."""
    for what, make, runs in (("large", large_runs, 40), ("small", small_runs, 1000)):
        root = os.path.join(folder, f"{what}-{runs}")
        if not os.path.isdir(root):
            make(root, runs)
        size = sum(os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(root) for name in names)
        catalog = Catalog(root, read_only=True)
        if not verify(catalog).ok:
            raise AssertionError(f"{root} is damaged")
        for threads in (1, 2):
            ours, floor, fast = interleaved(
                [
                    lambda: verify(catalog, read_data=True, workers=threads),  # noqa: B023 - it is called here
                    lambda: hash_all(root, threads),  # noqa: B023
                    lambda: verify(catalog, workers=threads),  # noqa: B023
                ],
                _ROUNDS,
            )
            # Of small files, opening them is what takes long, and nothing is asked of that.
            limit = _MOST_SECONDS if what == "large" else None
            about = f"{runs:,} {what} runs, {size / 1e6:,.0f} MB, {threads} thread{'s' * (threads > 1)}"
            yield compare(f"verify --read-data of {about} / SHA-256 of all files", ours, floor, limit)
            yield compare(f"verify of {about} / SHA-256 of all files", fast, floor)


# -- listing


def measure_ls(folder: str, runs: int) -> Iterator[Row]:
    """List the newest runs of a large catalog, against importing pandas."""
    Caches(folder)
    crowd = made(folder, runs)
    probe("built", crowd.catalog)
    pairs: list[tuple[list[float], list[float]]] = [([], []), ([], [])]
    for number in range(_PROCESSES + 1):
        for which, (code, arguments) in enumerate(((_LS, [crowd.catalog]), ("import pandas", []))):
            begin = time.perf_counter()
            cpu = fresh(code, *arguments).cpu
            if number:  # the first time bytecode is compiled
                pairs[which][0].append(time.perf_counter() - begin)
                pairs[which][1].append(cpu)
    (ours, ours_cpu), (floor, floor_cpu) = pairs
    yield compare(f"filebroker ls, {runs:,} runs / import pandas", ours, floor, 1.5)
    yield compare(f"CPU of filebroker ls, {runs:,} runs / import pandas", ours_cpu, floor_cpu)


GROUPS = {"verify": measure_verify, "ls": measure_ls}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(GROUPS))
    parser.add_argument("--runs", type=int, default=100_000, help="of how many runs some are listed")
    parser.add_argument("--keep", metavar="DIR", help="keep catalogs there, and go on with what is there")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - GROUPS.keys()):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="filebroker-benchmark-") as scratch:
        folder = os.path.abspath(arguments.keep or scratch)
        os.makedirs(folder, exist_ok=True)
        for name in arguments.names or GROUPS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += GROUPS[name](folder, arguments.runs)
    print(machine(), table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
