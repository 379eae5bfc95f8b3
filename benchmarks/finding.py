"""Measure how runs are found among many: ``python benchmarks/finding.py [name ...] [--runs 1000 10000]``."""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from crowd import Crowd, make, size_of
from filebroker.storing.layout import LEDGER, MARKER
from measure import fresh, grid, machine
from questions import QUESTIONS

#: What a second or a byte is in the unit that is shown.
_UNITS = {"ms": 1e3, "ms / run": 1e3, "MiB": 1 / 2**20, "B / run": 1.0}
#: The size of catalog that recording into a large one is compared with.
_FEW = 100


class Measured(NamedTuple):
    """What was measured of one catalog: values of ours and of the floor, None where there is no floor."""

    what: str
    unit: str
    pairs: list[tuple[float, float | None]]
    limit: float | None = None


@dataclass
class Line:
    """One line of the table: what was measured of each size of catalog; the limit is for the largest."""

    what: str
    unit: str
    limit: float | None
    pairs: dict[str, list[tuple[float, float | None]]] = field(default_factory=dict)

    def cells(self, sizes: list[int]) -> list[str]:
        """Give the line as text."""
        shown = {size: self.pairs[str(size)] for size in sizes if str(size) in self.pairs}
        ours = {size: statistics.median(ours for ours, _ in pairs) for size, pairs in shown.items()}
        least, most = min(shown), max(shown)
        floors = [floor for _, floor in shown[most] if floor is not None]
        ratios = [ours / floor for ours, floor in shown[most] if floor]
        return [
            self.what,
            *(self._format(ours[size]) if size in ours else "" for size in sizes),
            self.unit,
            f"{ours[most] / ours[least]:.1f}" if most > least and ours[least] > 1e-5 else "",
            self._format(statistics.median(floors)) if floors else "",
            _short(statistics.median(ratios)) if ratios else "",
            *(("", "", "") if self.limit is None else self._judged(ours[most])),
        ]

    def _format(self, value: float) -> str:
        return _short(value * _UNITS[self.unit])

    def _judged(self, value: float) -> tuple[str, str, str]:
        limit = self.limit or 0.0
        return f"<= {limit * _UNITS[self.unit]:g}", _short(value / limit), "yes" if value <= limit else "NO"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


class Caches:
    """The directories for what filebroker derives from catalogs."""

    def __init__(self, folder: str) -> None:
        self.warm, self.other = os.path.join(folder, "cache"), os.path.join(folder, "other-cache")
        os.environ["FILEBROKER_CACHE"] = self.warm

    def empty(self) -> str:
        """Give one with nothing in it."""
        shutil.rmtree(self.other, ignore_errors=True)
        return self.other

    def of(self, crowd: Crowd) -> str:
        """Give the directory of a catalog in the warm one; no process has its files open afterwards."""
        return str(probe("directory_of", crowd.catalog))


_PROBE = "import json, sys, probes; print(json.dumps(getattr(probes, sys.argv[1])(*sys.argv[2:])))"


def probe(name: str, *arguments: object) -> Any:
    """Have a new process measure something; see `probes`."""
    return fresh(_PROBE, name, *map(str, arguments)).json()


def made(folder: str, count: int) -> Crowd:
    """Make a catalog of so many runs in a process of its own, unless it is there."""
    fresh("import sys, crowd; crowd.make(sys.argv[1], int(sys.argv[2]))", folder, str(count))
    return make(folder, count)


def rounds(crowd: Crowd, most: int) -> int:
    """Give how often to measure what takes longer the more runs there are."""
    return max(2, min(most, 200_000 // crowd.count))


def measure_build(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Build everything that is derived from a catalog anew."""
    cold = [(probe("opened_cold", crowd.catalog, caches.empty()), crowd.costs["runs"]) for _ in range(3)]
    yield Measured("open + db[-1], nothing cached", "ms", cold)
    shutil.rmtree(caches.of(crowd))
    count, cpu, _ = probe("built", crowd.catalog)
    if count != crowd.count:
        raise AssertionError(f"{count} runs are in the index and not {crowd.count}")
    built = cpu / count, crowd.costs["indexes"] / count
    yield Measured("first build of the index / SQLite's (2.5 ms: 400 a second)", "ms / run", [built], 1 / 400)


def measure_open(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Open a catalog that was opened before."""
    pairs = [probe("opened", crowd.catalog, crowd.bare) for _ in range(7)]
    yield Measured("open + db[-1] in a new process, after its imports", "ms", pairs, 0.05)
    background = [(probe("kept_house", crowd.catalog), None) for _ in range(3)]
    yield Measured("work in the background after that", "ms", background)


def measure_lookup(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Look runs up."""
    for name, pairs in probe("looked_up", crowd.catalog, crowd.bare, 40).items():
        yield Measured(name, "ms", pairs, 0.002)


def measure_search(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Search with the index."""
    for question in QUESTIONS:
        found: dict[str, list[tuple[float, float | None]]] = {}
        for turn in range(6):
            for kind, pairs in probe("asked", crowd.catalog, crowd.bare, question.name, turn).items():
                found.setdefault(kind, []).extend(pairs)
        for kind in sorted(found, key=lambda kind: (kind[0] != "n", kind)):
            yield Measured(f"{question.name}: {kind}", "ms", found[kind], question.limit)


def measure_scan(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Search without an index, compared with orjson and a test of every document."""
    for question in QUESTIONS:
        found = probe("scanned", crowd.catalog, crowd.bare, question.name, rounds(crowd, 20))
        for kind, pairs in sorted(found.items(), reverse=True):
            yield Measured(f"{question.name}: {kind}, no index", "ms", pairs, None if kind == "all" else 1.5)


def measure_meanwhile(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Search while the index is built in the background."""
    found = probe("searched_meanwhile", crowd.catalog, crowd.bare, caches.empty(), 20)
    if found["problem"]:
        raise AssertionError(found["problem"])
    print(f"{crowd.count}: {found['searches']} searches, index at {found['indexed']} runs", file=sys.stderr)
    for kind, seconds in found["longest"].items():
        yield Measured(f"longest search while the index is built: {kind}", "ms", [(seconds, None)], 1.5)


def measure_overview(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Make tables of all runs."""
    found = [probe("overviewed", crowd.catalog, crowd.bare) for _ in range(rounds(crowd, 3))]
    for name in found[0]:
        yield Measured(name, "ms", [item[name] for item in found])


def measure_refresh(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Look for changes where there are none."""
    found = [probe("refreshed", crowd.catalog) for _ in range(3)]
    for name in found[0]:
        yield Measured(f"refresh of an unchanged catalog: {name}", "ms", [item[name] for item in found])


def measure_memory(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Weigh a process that searched."""
    found = [probe("remembered", crowd.catalog, crowd.bare) for _ in range(3)]
    for name in found[0]:
        yield Measured(f"memory over the imports: {name}", "MiB", [item[name] for item in found], 150 * 2**20)


def measure_size(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Weigh what is kept on disks."""
    directory = caches.of(crowd)
    index = sum(size_of(os.path.join(directory, name)) for name in os.listdir(directory) if name.startswith("index"))
    sizes = {"ledger": size_of(os.path.join(crowd.catalog, LEDGER)), "manifest": size_of(directory) - index}
    for name, size in (sizes | {"index": index}).items():
        yield Measured(f"size on the disk: {name}", "B / run", [(size / crowd.count, None)])
    pair = size_of(directory) / crowd.count, size_of(crowd.bare) / crowd.count
    yield Measured("size on the disk: manifest and index / SQLite's", "B / run", [pair])


def measure_record(crowd: Crowd, caches: Caches) -> Iterable[Measured]:
    """Record small runs, compared with recording into a catalog of few."""
    few = made(os.path.dirname(crowd.root), _FEW)
    copies = [_copy_of(crowd, caches), _copy_of(few, caches)]
    found = probe("recorded", *copies, crowd.bare, 20)
    for kind in ("CPU", "time"):
        yield Measured(f"recording a small run / into {_FEW} runs: {kind}", "ms", found[kind])
    yield Measured("word: all, after a run was recorded", "ms", found["search"], 0.07)


def _copy_of(crowd: Crowd, caches: Caches) -> str:
    """Copy what is known of a catalog's runs, so that the catalog itself stays as it is."""
    copy = Crowd(crowd.count, os.path.join(crowd.root, "copy"))
    shutil.rmtree(copy.root, ignore_errors=True)
    shutil.copytree(os.path.join(crowd.catalog, LEDGER), os.path.join(copy.catalog, LEDGER))
    shutil.copy(os.path.join(crowd.catalog, MARKER), copy.catalog)
    shutil.rmtree(caches.of(copy))
    shutil.copytree(caches.of(crowd), caches.of(copy), dirs_exist_ok=True)
    return copy.catalog


GROUPS: dict[str, Callable[[Crowd, Caches], Iterable[Measured]]] = {
    "build": measure_build,
    "open": measure_open,
    "lookup": measure_lookup,
    "search": measure_search,
    "scan": measure_scan,
    "meanwhile": measure_meanwhile,
    "overview": measure_overview,
    "refresh": measure_refresh,
    "memory": measure_memory,
    "size": measure_size,
    "record": measure_record,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(GROUPS))
    parser.add_argument("--runs", nargs="+", type=int, default=[1_000, 10_000, 100_000], help="sizes of catalogs")
    parser.add_argument("--keep", metavar="DIR", help="keep catalogs and results there, and go on with what is there")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - GROUPS.keys()):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    with tempfile.TemporaryDirectory(prefix="filebroker-benchmark-") as scratch:
        folder = os.path.abspath(arguments.keep or scratch)
        os.makedirs(folder, exist_ok=True)
        lines = measure(arguments.names or list(GROUPS), sorted(arguments.runs), folder)
    sizes = sorted({int(size) for line in lines for size in line.pairs})
    heading = ["CPU time unless said otherwise", *(f"{size:,}" for size in sizes), "", "growth"]
    heading += ["floor", "of floor", "target", "of target", "met"]
    print(machine(), grid([heading, *(line.cells(sizes) for line in lines)]), sep="\n\n")


def measure(names: list[str], sizes: list[int], folder: str) -> list[Line]:
    """Measure, and give the lines of all groups that were measured now or before."""
    caches, path = Caches(folder), os.path.join(folder, "results.json")
    results: dict[str, dict[str, Any]] = {}
    if os.path.exists(path):
        with open(path) as file:
            results = json.load(file)
    for size in sizes:
        crowd = made(folder, size)
        needed = [] if "build" in names or os.path.exists(os.path.join(crowd.root, "indexed")) else ["build"]
        for name in [*needed, *names]:
            print(f"{size:,} runs: {name} ...", file=sys.stderr, flush=True)
            for item in GROUPS[name](crowd, caches):
                line = results.setdefault(name, {}).setdefault(
                    item.what, asdict(Line(item.what, item.unit, item.limit))
                )
                line["pairs"][str(size)] = item.pairs
            if name == "build":
                open(os.path.join(crowd.root, "indexed"), "w").close()
            with open(path, "w") as file:
                json.dump(results, file)
    return [Line(**line) for name in GROUPS for line in results.get(name, {}).values()]


if __name__ == "__main__":
    main()
