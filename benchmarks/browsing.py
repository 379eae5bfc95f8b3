"""Measure browsing with Intake among many runs: ``python benchmarks/browsing.py [name ...] [--runs 100 10000]``."""

import argparse
import gc
import multiprocessing
import os
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import intake
import pandas  # noqa: F401 - this and the driver are not to be imported by what is timed
import yaml
from dask.base import tokenize

import filebroker.intake.catalogs  # noqa: F401
from crowd import Crowd
from filebroker import Broker
from finding import Caches, Line, Measured, made, probe
from measure import fresh, grid, machine
from probes import _resident

#: CPU seconds of ours and at the prompt.
Pair = tuple[float, float | None]
_AGAIN = 5
#: So many runs Intake can still be given one entry each for; it takes long.
_STATIC = 3_000
_PROBE = "import json, sys, browsing; print(json.dumps(getattr(browsing, sys.argv[1])(*sys.argv[2:])))"
_OPEN = "import sys, intake; intake.open_filebroker(sys.argv[1])"
_BROKER = "import sys; from filebroker import Broker; Broker(sys.argv[1])"
_PARENT = """
sources:
  runs:
    driver: filebroker
    description: the runs of the beamline
    args: {url: "{{ CATALOG_DIR }}/catalog"}
"""


# -- what new processes do


class Subject:
    """A catalog that is opened when it is first asked for."""

    def __init__(self, catalog: str) -> None:
        self.path, self.file = catalog, os.path.join(os.path.dirname(catalog), "parent.yml")

    @cached_property
    def cat(self) -> Any:
        """The catalog as Intake gives it."""
        return intake.open_filebroker(self.path)

    @cached_property
    def parent(self) -> Any:
        """The catalog file that names it."""
        return intake.open_catalog(self.file)

    @cached_property
    def db(self) -> Broker:
        """The catalog behind the prompt."""
        return Broker(self.path, read_only=True)

    def completions(self, text: str) -> int:
        """Press the tab key after something that begins with one of these names."""
        # What was typed has to be there; of it only what is before the first dot or bracket.
        name = text.partition(".")[0].partition("[")[0]
        _shell().user_ns[name] = getattr(self, name)
        return complete(text)


@dataclass(frozen=True)
class Deed:
    """What somebody does who looks through a catalog, and how he would do the same at the prompt."""

    what: str
    ours: Callable[[Subject], object]
    prompt: Callable[[Subject], object] | None = None


DEEDS = [
    Deed("open_catalog(file).runs", lambda the: intake.open_catalog(the.file).runs),
    Deed("open_filebroker(url)", lambda the: intake.open_filebroker(the.path), lambda the: Broker(the.path)),
    Deed("repr(cat)", lambda the: repr(the.cat), lambda the: repr(the.db())),
    Deed("dir(cat)", lambda the: dir(the.cat), lambda the: dir(the.db)),
    Deed("len(cat)", lambda the: len(the.cat), lambda the: len(the.db())),
    Deed("hasattr(cat, missing)", lambda the: hasattr(the.cat, "missing"), lambda the: hasattr(the.db, "missing")),
    Deed("hasattr(cat, missing label)", lambda the: hasattr(the.cat, "s000001_scan_00000000")),
    Deed("missing key in cat", lambda the: "nothing" in the.cat),
    Deed("cat[-1]", lambda the: the.cat[-1], lambda the: the.db[-1]),
    Deed("cat[-1].metadata", lambda the: the.cat[-1].metadata, lambda the: [the.db[-1].start, the.db[-1].stop]),
    Deed("cat[-1].primary.read()", lambda the: the.cat[-1].primary.read(), lambda the: the.db[-1].table()),
    Deed("list(cat.recent)", lambda the: list(the.cat.recent), lambda the: list(islice(the.db(), 100))),
    Deed("list(cat.recent.items())", lambda the: list(the.cat.recent.items()), lambda the: list(islice(the.db(), 100))),
    Deed("to_dataframe(limit=100)", lambda the: the.cat.to_dataframe(limit=100)),
    Deed("cat.search(word), not asked", lambda the: the.cat.search("good"), lambda the: the.db("good")),
    Deed("len(cat.search(word))", lambda the: len(the.cat.search("good")), lambda the: len(the.db("good"))),
    Deed("cat.search(word)[-1]", lambda the: the.cat.search("good")[-1], lambda the: next(iter(the.db("good")))),
    Deed("pickle.dumps(cat)", lambda the: pickle.dumps(the.cat), lambda the: pickle.dumps(the.db)),
    Deed("tokenize(cat)", lambda the: tokenize(the.cat)),
    Deed("parent.search(word)", lambda the: list(the.parent.search("beamline", depth=5))),
    Deed("parent.walk()", lambda the: the.parent.walk(depth=5)),
    Deed("parent.runs[-1]", lambda the: the.parent.runs[-1], lambda the: the.db[-1]),
]
if hasattr(intake, "recommend"):
    from filebroker.intake.take2 import FilebrokerCatalog

    DEEDS += [
        Deed("intake.recommend(url)", lambda the: intake.recommend(the.path)),
        Deed("reader.read()", lambda the: FilebrokerCatalog(the.path).to_reader().read()),
        Deed("reader.token", lambda the: FilebrokerCatalog(the.path).to_reader().token),
    ]
TYPED = [
    Deed("cat.<tab>", lambda the: the.completions("cat."), lambda the: the.completions("db.")),
    Deed('cat["<tab>', lambda the: the.completions('cat["')),
    Deed("cat.recent.<tab>", lambda the: the.completions("cat.recent.")),
    Deed("cat[-1].<tab>", lambda the: the.completions("cat[-1]."), lambda the: the.completions("db[-1].")),
]
BY_NAME = {deed.what: deed for deed in [*DEEDS, *TYPED]}

#: What new processes run with the path of a catalog, imports included; and how the same is written at the prompt.
PROCESSES = [
    ("import intake", "import intake", "from filebroker import Broker"),
    ("open_filebroker(url)", _OPEN, _BROKER),
    ("open_filebroker(url)[-1].primary.read()", f"{_OPEN}[-1].primary.read()", f"{_BROKER}[-1].table()"),
]


def has_ipython() -> bool:
    """Tell whether IPython is at hand; it is no dependency."""
    try:
        import IPython  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def _shell() -> Any:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    return InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))


def complete(text: str) -> int:
    """Press the tab key in IPython; give the number of completions."""
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        return len(list(_shell().Completer.completions(text, len(text))))


def browsed(catalog: str) -> dict[str, dict[str, Pair]]:
    """Do everything for the first time, the opening included, and again; each in a process of its own.

    These are forks of this one: they have its modules, and nothing is opened in it.
    """
    deeds = list(DEEDS)
    if has_ipython():
        deeds += TYPED
        complete("str.")  # reads what IPython itself needs
    result: dict[str, dict[str, Pair]] = {}
    for deed in deeds:
        ours = _apart(deed.what, "ours", catalog)
        prompt = (None, None) if deed.prompt is None else _apart(deed.what, "prompt", catalog)
        result[deed.what] = dict(zip(("first", "again"), zip(ours, prompt, strict=True), strict=True))
    return result


def _apart(what: str, which: str, catalog: str) -> tuple[float, float]:
    pool = multiprocessing.get_context("fork").Pool(1)
    found: tuple[float, float] = pool.apply(_timed, (what, which, catalog))
    pool.close()
    pool.join()
    return found


def _timed(what: str, which: str, catalog: str) -> tuple[float, float]:
    """Give the CPU seconds of the thread that asks, for the first time and later."""
    task: Callable[[Subject], object] = getattr(BY_NAME[what], which)
    subject, seconds = Subject(catalog), []
    gc.disable()  # else much of the first would be the copying of what the fork shares
    for _ in range(1 + _AGAIN):
        begin = time.thread_time()
        task(subject)
        seconds.append(time.thread_time() - begin)
    return seconds[0], statistics.median(seconds[1:])


def weighed(catalog: str, which: str) -> float:
    """Do everything, and give by how many bytes the process has grown."""
    subject = Subject(catalog)
    gc.collect()
    before = _resident()
    for deed in DEEDS:
        task = getattr(deed, which)
        if task is not None:
            task(subject)
    return _resident() - before


def static_used(file: str, name: str, word: str) -> dict[str, float]:
    """Use a catalog file that has an entry for each run."""
    return _parts(
        {
            "open": lambda: intake.open_catalog(file),
            "read": lambda: intake.open_catalog(file)[name].read(),
            "search": lambda: len(intake.open_catalog(file).search(word)),
        }
    )


def ours_used(catalog: str, word: str) -> dict[str, float]:
    """Do the same with the catalog of all runs."""
    file = Subject(catalog).file
    return _parts(
        {
            "open": lambda: repr(intake.open_catalog(file).runs),
            "read": lambda: intake.open_catalog(file).runs[-1].primary.read(),
            "search": lambda: len(intake.open_catalog(file).runs.search(word)),
        }
    )


def _parts(tasks: dict[str, Callable[[], object]]) -> dict[str, float]:
    seconds = {}
    for name, task in tasks.items():
        begin = time.thread_time()
        task()
        seconds[name] = time.thread_time() - begin
    return seconds


# -- what is measured


def ask(name: str, *arguments: object) -> Any:
    """Have a new process do something."""
    return fresh(_PROBE, name, *map(str, arguments)).json()


def measure_deeds(crowd: Crowd) -> Iterable[Measured]:
    """Time everything that somebody does who looks through a catalog."""
    for what, pairs in ask("browsed", crowd.catalog).items():
        for when, pair in pairs.items():
            yield Measured(f"{what}, {when}", "ms", [pair])


def measure_processes(crowd: Crowd) -> Iterable[Measured]:
    """Time new processes, their imports included."""
    nothing = fresh("").cpu
    for what, ours, prompt in PROCESSES:
        pair = (
            fresh(ours, crowd.catalog).cpu - nothing,
            None if prompt is None else fresh(prompt, crowd.catalog).cpu - nothing,
        )
        yield Measured(f"a process: {what}", "ms", [pair])


def measure_memory(crowd: Crowd) -> Iterable[Measured]:
    """Weigh a process that did everything once."""
    pair = ask("weighed", crowd.catalog, "ours"), ask("weighed", crowd.catalog, "prompt")
    yield Measured("memory over the imports, everything done", "MiB", [pair])


def weigh_pickles(crowd: Crowd) -> str:
    """Tell how large what is sent to other processes is."""
    the = Subject(crowd.catalog)
    things = {
        "the catalog": the.cat,
        "a search": the.cat.search("good"),
        "a stream": the.cat[-1].primary,
        "a Broker": the.db,
    }
    return "Pickled: " + ", ".join(f"{what} {len(pickle.dumps(item))} bytes" for what, item in things.items())


def measure_static(crowd: Crowd, folder: str) -> Iterable[Measured]:
    """Compare with Intake's own way, which is an entry for each run."""
    file, name = os.path.join(folder, "static.yml"), make_static(crowd, folder)
    static, ours = ask("static_used", file, name, "good"), ask("ours_used", crowd.catalog, "good")
    for what, seconds in ours.items():
        yield Measured(f"catalog file, {what} / one of {_STATIC:,} entries, {what}", "ms", [(seconds, static[what])])


def make_static(crowd: Crowd, folder: str) -> str:
    """Write a catalog file with an entry for each of some runs; give the name of one that can be read."""
    documents = islice(Broker(crowd.catalog, read_only=True).catalog.documents(), _STATIC)
    entries = {
        item.start["uid"]: {
            **{"driver": "filebroker_stream", "description": item.start["comment"]},
            **{"args": {"url": crowd.catalog, "run": item.start["uid"]}, "metadata": {"start": item.start}},
        }
        for item in documents
    }
    with open(os.path.join(folder, "static.yml"), "w") as out:
        yaml.safe_dump({"sources": entries}, out)
    newest: str = next(iter(entries))
    return newest


GROUPS: dict[str, Callable[[Crowd], Iterable[Measured]]] = {
    "deeds": measure_deeds,
    "processes": measure_processes,
    "memory": measure_memory,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join([*GROUPS, "static"]))
    parser.add_argument("--runs", nargs="+", type=int, default=[100, 10_000, 100_000], help="sizes of catalogs")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--keep", metavar="DIR", help="keep catalogs there, and go on with what is there")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - {*GROUPS, "static"}):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join([*GROUPS, 'static'])}")
    with tempfile.TemporaryDirectory(prefix="filebroker-benchmark-") as scratch:
        folder = os.path.abspath(arguments.keep or scratch)
        os.makedirs(folder, exist_ok=True)
        names = arguments.names or [*GROUPS, "static"]
        lines = measure(names, sorted(arguments.runs), arguments.rounds, folder, scratch)
        pickles = weigh_pickles(made(folder, max(arguments.runs)))
    sizes = sorted(arguments.runs)
    heading = ["CPU time unless said otherwise", *(f"{size:,}" for size in sizes), "", "growth", "other", "of other"]
    print(
        f"{machine()}, intake {intake.__version__}",
        grid([heading, *(line.cells(sizes)[:-3] for line in lines)]),
        pickles,
        sep="\n\n",
    )


def measure(names: list[str], sizes: list[int], rounds: int, folder: str, scratch: str) -> list[Line]:
    """Measure catalogs of all sizes in turns."""
    Caches(folder)
    crowds = [prepared(folder, size) for size in sizes]
    lines: dict[str, Line] = {}

    def note(item: Measured, size: int) -> None:
        line = lines.setdefault(item.what, Line(item.what, item.unit, item.limit))
        line.pairs.setdefault(str(size), []).extend(item.pairs)

    for number in range(rounds):
        for crowd in crowds:
            print(f"round {number + 1}: {crowd.count:,} runs ...", file=sys.stderr, flush=True)
            for name in (name for name in GROUPS if name in names):
                for item in GROUPS[name](crowd):
                    note(item, crowd.count)
    if "static" in names:
        print("static ...", file=sys.stderr, flush=True)
        for item in measure_static(crowds[-1], scratch):
            note(item, crowds[-1].count)
    return list(lines.values())


def prepared(folder: str, size: int) -> Crowd:
    """Make a catalog of so many runs, with all that is derived from it, and a catalog file beside it."""
    crowd = made(folder, size)
    with open(Subject(crowd.catalog).file, "w") as out:
        out.write(_PARENT)
    probe("built", crowd.catalog)
    return crowd


if __name__ == "__main__":
    main()
