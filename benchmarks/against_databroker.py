"""Measure filebroker against databroker 1.2.5, and one image of many against reading it directly.

``DATABROKER_PYTHON=.venv-databroker/bin/python python benchmarks/against_databroker.py [name ...]``
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import framed
from databroker_worker import EVENTS, FRAMES, RUNS, open_filebroker
from measure import Row, compare, grid, interleaved, machine

_HEADING = ["what", "filebroker", "databroker 1.2.5", "times as fast", "target", "met"]
_FRAME_HEADING = ["what", "filebroker", "directly", "ratio", "target", "met"]
_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6}
_MIDDLE = FRAMES // 2

#: What each task of the worker is called, how often it is measured, and how many times faster it has to be.
TASKS: dict[str, tuple[str, int, float | None]] = {
    "newest": ("db[-1].start, warm", 21, None),
    "table": ("db[-1].table() of 20 events, warm", 21, 10),
    "table_anew": ("open + db[-1].table() of 20 events", 21, None),
    "headers_anew": (f"open + start documents of {RUNS:,} headers", 5, 50),
    "headers": (f"start documents of {RUNS:,} headers, repeated", 5, 50),
    "documents": (f"header.documents() of {EVENTS:,} events", 5, 5),
    "pages": (f"run.documents(fill='no') of {EVENTS:,} events", 5, 5),
    "long_table": (f"db[-1].table() of {EVENTS:,} events", 5, None),
    "data": (f"list(header.data(key)) of {EVENTS:,} events", 5, None),
    "read": (f"run.primary.read() of {EVENTS:,} events", 5, None),
    "dask": (f"run.primary.to_dask() of {FRAMES:,} images", 7, None),
    "frame": (f"run.primary.to_dask()['img'][{_MIDDLE}].values", 7, None),
}


class Worker:
    """A process that does a round of a task when it is told to; see `databroker_worker`.

    Parameters
    ----------
    python
        The interpreter that has the program.
    arguments
        Those of the worker.
    """

    def __init__(self, python: str, *arguments: str) -> None:
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "databroker_worker.py")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
        command = [python, "-W", "ignore", script, *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True)

    def round(self) -> tuple[float, Any]:
        """Have it do one round; give the seconds, and what the task gave."""
        with contextlib.suppress(BrokenPipeError):
            print(file=self._process.stdin, flush=True)
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            self._errors.seek(0)
            raise RuntimeError(self._errors.read())
        seconds, answer = json.loads(line)
        return seconds, answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()
        self._errors.close()


def in_turns(pythons: Sequence[str], folder: str, name: str, rounds: int) -> list[list[float]]:
    """Time a task in both programs in turns, after a round to warm up; see that they answer the same."""
    programs = zip(pythons, ("filebroker", "databroker"), strict=True)
    workers = [Worker(python, program, folder, name) for python, program in programs]
    times: list[list[float]] = [[], []]
    try:
        for number in range(rounds + 1):
            found: dict[int, tuple[float, Any]] = {}
            for which in (0, 1) if number % 2 else (1, 0):
                found[which] = workers[which].round()
            if found[0][1] != found[1][1]:
                raise AssertionError(f"{name}: {str(found[0][1])[:200]} is not {str(found[1][1])[:200]}")
            for which, (seconds, _) in found.items():
                times[which].append(seconds)
    finally:
        for worker in workers:
            worker.close()
    return [some[1:] for some in times]


def faster(what: str, ours: Sequence[float], theirs: Sequence[float], least: float | None) -> Row:
    """Tell how many times faster ours is, by the median of the ratios of the rounds."""
    ratios = [other / one for one, other in zip(ours, theirs, strict=True)]
    ratio, (low, _, high) = statistics.median(ratios), statistics.quantiles(ratios, n=4)
    target, met = ("", None) if least is None else (f">= {least:g} x", ratio >= least)
    return Row(what, _time(statistics.median(ours)), _time(statistics.median(theirs)), ratio, (low, high), target, met)


def _time(seconds: float) -> str:
    unit = "s" if seconds >= 1 else "ms" if seconds >= 1e-3 else "us"
    return f"{seconds * _UNITS[unit]:.3g} {unit}"


# -- one image of many


@contextlib.contextmanager
def counted(count: list[int]) -> Iterator[None]:
    """Count the bytes that this process reads, whatever the call."""

    def read() -> int:
        with open("/proc/self/io") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("rchar"))

    # To look costs bytes as well.
    first = read()
    before = read()
    yield
    count.append(read() - before - (before - first))


def bytes_of(task: Callable[[], object]) -> int:
    """Give the bytes that a task reads."""
    count: list[int] = []
    with counted(count):
        task()
    return count[0]


def _read_npy(folder: str) -> Any:
    return np.load(framed.sequence_file(folder, _MIDDLE))


def _read_hdf5(path: str) -> Any:
    import h5py

    with h5py.File(path) as file:
        return file["entry/data/data"][_MIDDLE]


def measure_frames(folder: str, kind: str) -> list[Row]:
    """Compare one image of many, through filebroker, with reading it directly: seconds, and bytes read."""
    path, images = os.path.join(folder, kind), os.path.join(folder, f"{kind}-images")
    documents, read = {"sequence": (framed.sequence, _read_npy), "stack": (framed.stack, _read_hdf5)}[kind]
    db = open_filebroker(path, () if os.path.isdir(path) else documents(images, FRAMES))
    header, dataset, direct = db[-1], db.v2[-1].primary.to_dask(), partial(read, images)
    what = f"{FRAMES:,} {'files of NumPy' if kind == 'sequence' else 'images in HDF5'}"
    tasks: dict[str, Callable[[], Any]] = {
        f"header.column('img')[{_MIDDLE}]": lambda: header.column("img")[_MIDDLE],
        f"db[-1].column('img')[{_MIDDLE}]": lambda: db[-1].column("img")[_MIDDLE],
        f"dataset['img'][{_MIDDLE}].compute()": lambda: dataset["img"][_MIDDLE].compute(),
        f"run.primary.to_dask()['img'][{_MIDDLE}].compute()": (
            lambda: db.v2[-1].primary.to_dask()["img"][_MIDDLE].compute()
        ),
    }
    rows = []
    for name, task in tasks.items():
        if not np.array_equal(task(), direct()):
            raise AssertionError(f"{name} gives another image")
        rows.append(compare(f"{what}: {name}", *interleaved([task, direct], 21)))
        rows.append(_bytes(f"{what}: {name}: bytes read", task, direct, 1.5))
    through = {
        f"next(islice(header.data('img'), {_MIDDLE}, None)): bytes": (
            lambda: next(itertools.islice(db[-1].data("img"), _MIDDLE, None))
        ),
        "run.primary.to_dask(): bytes": lambda: db.v2[-1].primary.to_dask(),
    }
    limits = (None, 0.5)
    return rows + [
        _bytes(f"{what}: {name}", task, direct, limit)
        for (name, task), limit in zip(through.items(), limits, strict=True)
    ]


def _bytes(what: str, task: Callable[[], Any], direct: Callable[[], Any], limit: float | None) -> Row:
    ours, floor = bytes_of(task), bytes_of(direct)
    target, met = ("", None) if limit is None else (f"<= {limit:g} x", ours <= limit * floor)
    return Row(what, f"{ours:,}", f"{floor:,}", ours / floor, None, target, met)


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    frames = {"sequence", "stack"}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join([*TASKS, *sorted(frames)]))
    parser.add_argument("--keep", metavar="DIR", help="keep the catalogs there, 2 GB, and go on with what is there")
    arguments = parser.parse_args()
    names = arguments.names or [*TASKS, *sorted(frames)]
    if unknown := sorted(set(names) - TASKS.keys() - frames):
        parser.error(f"no benchmark is named {', '.join(unknown)}")
    python = os.environ.get("DATABROKER_PYTHON", "")
    if not python and TASKS.keys() & set(names):
        parser.error("DATABROKER_PYTHON has to name a Python with databroker 1.2.5; `make bench-databroker` makes one")
    with tempfile.TemporaryDirectory(prefix="filebroker-benchmark-") as scratch:
        folder = os.path.abspath(arguments.keep or scratch)
        compared, read = measure((sys.executable, python), folder, names)
    tables = [(_HEADING, compared), (_FRAME_HEADING, read)]
    shown = [grid([heading, *(row.cells() for row in rows)]) for heading, rows in tables if rows]
    print(machine(), *shown, sep="\n\n")


def measure(pythons: Sequence[str], folder: str, names: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Measure; give the lines about both programs, and those about one image."""
    compared, read = [], []
    for name in names:
        if name in TASKS:
            what, rounds, least = TASKS[name]
            found = [faster(what, *in_turns(pythons, folder, name, rounds), least)]
            compared += found
        else:
            found = measure_frames(folder, name)
            read += found
        for row in found:
            print("; ".join(filter(None, row.cells())), file=sys.stderr, flush=True)
    return compared, read


if __name__ == "__main__":
    main()
