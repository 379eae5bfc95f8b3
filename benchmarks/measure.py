"""Measuring two things side by side: what a shared machine spoils in both cancels out in their ratio."""

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any


@dataclass
class Row:
    """One line of the table of results; the spread is the middle half of the ratios."""

    what: str
    ours: str = ""
    floor: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """Give the line as text."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        if self.spread is not None:
            ratio += f" ({self.spread[0]:.2f}-{self.spread[1]:.2f})"
        return [self.what, self.ours, self.floor, ratio, self.target, {None: "", True: "yes", False: "NO"}[self.met]]


def interleaved(tasks: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Time each task once a round, every other round in reverse order, after a round to warm up."""
    results: list[list[float]] = [[] for _ in tasks]
    order = list(range(len(tasks)))
    for _ in range(rounds + 1):
        for which in order:
            gc.collect()
            begin = time.perf_counter()
            tasks[which]()
            results[which].append(time.perf_counter() - begin)
        order.reverse()
    return [times[1:] for times in results]


def compare(
    what: str, ours: Sequence[float], floor: Sequence[float], limit: float | None = None, unit: str = "ms"
) -> Row:
    """Compare seconds measured in the same rounds by the median of their ratios."""
    ratios = [one / other for one, other in zip(ours, floor, strict=True)]
    ratio, (low, _, high) = statistics.median(ratios), statistics.quantiles(ratios, n=4)
    shown = [f"{statistics.median(times) * {'ms': 1e3, 'us': 1e6}[unit]:.3g} {unit}" for times in (ours, floor)]
    target, met = ("", None) if limit is None else (f"<= {limit:g} x", ratio <= limit)
    return Row(what, *shown, ratio, (low, high), target, met)


def percentile(values: Sequence[float], percent: float) -> float:
    """Give a percentile of measured values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


@dataclass
class Finished:
    """What a process said, and the CPU seconds it took."""

    output: str
    errors: str
    cpu: float

    def json(self) -> Any:
        """Read the last line of its output."""
        return json.loads(self.output.splitlines()[-1])


# New processes find compiled bytecode there from the second time on, whatever the environment says of it.
_bytecode = tempfile.TemporaryDirectory(prefix="filebroker-bytecode-")


def fresh(code: str, *arguments: str, python: str = sys.executable, options: Sequence[str] = ()) -> Finished:
    """Run Python code in a new process, in the directory of the benchmarks."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": _bytecode.name, "PYTHONDONTWRITEBYTECODE": ""}
    command, here = [python, *options, "-c", code, *arguments], os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=output, stderr=errors, env=environment, cwd=here) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        finished = Finished(output.read(), errors.read(), usage.ru_utime + usage.ru_stime)
    if process.returncode:
        raise RuntimeError(finished.errors)
    return finished


def machine() -> str:
    """Describe the machine and the versions that matter."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), model)
    packages = ", ".join(f"{name} {version(name)}" for name in ("pandas", "pyarrow", "numpy", "orjson", "filebroker"))
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {packages}"


def table(rows: Sequence[Row]) -> str:
    """Write the results as a Markdown table."""
    return grid([["what", "ours", "floor", "ratio", "target", "met"], *(row.cells() for row in rows)])


def grid(lines: Sequence[Sequence[str]]) -> str:
    """Write cells as a Markdown table; the first line is its heading."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in (lines[0], rule, *lines[1:])
    )
