"""Measure browsing with Intake among many runs: ``python benchmarks/browsing.py [name ...] [--runs 100 10000]``."""

import argparse
import json
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
import pandas  # noqa: F401 - what is first read in a new process is not to bring it
import yaml
from dask.base import tokenize

import filebroker.intake.catalogs
import startdocs
from crowd import Crowd
from filebroker import Broker
from finding import Caches, Line, Measured, made, probe
from measure import fresh, grid, machine

_AGAIN = 5
_ROUNDS = 5
#: So many runs Intake can still be given one entry each for; it takes long.
_STATIC = 3_000
_PROBE = "import json, sys, browsing; print(json.dumps(getattr(browsing, sys.argv[1])(*sys.argv[2:])))"
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
        """Press the tab key in IPython; give the number of completions."""
        from IPython.core.completer import provisionalcompleter

        shell = _shell()
        # Only what is typed is looked up: the other would be opened before it is timed.
        name = text.partition(".")[0].partition("[")[0]
        shell.user_ns[name] = getattr(self, name)
        with provisionalcompleter():
            return len(list(shell.Completer.completions(text, len(text))))


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


def _timed(task: Callable[[Subject], object], catalog: str) -> tuple[float, float]:
    """Do something and then again; give the CPU seconds of this thread for the first time, and later."""
    subject, seconds = Subject(catalog), []
    for _ in range(1 + _AGAIN):
        begin = time.thread_time()
        task(subject)
        seconds.append(time.thread_time() - begin)
    return seconds[0], statistics.median(seconds[1:])


def _timed_apart(deed: Deed, ours: bool, catalog: str) -> tuple[float, float]:
    """Time a deed in a process that has all modules of this one, and nothing opened."""
    global _task
    task = deed.ours if ours else deed.prompt
    _task = task
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply(_timed_task, (catalog,))
        pool.close()
        pool.join()
    return found
