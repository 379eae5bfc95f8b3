"""Imports that are killed, interrupted, out of space, or not alone: nothing is lost, and nothing is there twice."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

import factories
import filebroker
from filebroker import Catalog, ImportReport, import_runs
from filebroker.ground.errors import FilebrokerError, StorageError
from filebroker.transfer.incoming import workers as importing_workers
from filebroker.transfer.incoming.sources import Unit
from filebroker.transfer.incoming.units import take_units

Pair = tuple[str, dict[str, Any]]


def documents(number: int) -> list[Pair]:
    begun = factories.start(uid=f"run-{number}", time=factories.T0 + number)
    primary = factories.descriptor(begun, ["det"])
    events = [("event", factories.event(primary, seq_num, {"det": seq_num / 3})) for seq_num in (1, 2, 3)]
    return [("start", begun), ("descriptor", primary), *events, ("stop", factories.stop(begun))]


def make_source(count: int) -> dict[str, list[Pair]]:
    os.mkdir("source")
    runs = {}
    for number in range(count):
        runs[f"run-{number}"] = some = documents(number)
        Path(f"source/{number}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in some))
    return runs


def assert_complete(runs: dict[str, list[Pair]]) -> None:
    """See that a catalog has every run once, as it was, and nothing else."""
    with warnings.catch_warnings(action="error"):
        catalog = Catalog("catalog")
        assert sorted(run.uid for run in catalog) == sorted(runs)
        assert {run.uid: list(run.documents()) for run in catalog} == runs
        assert catalog.refresh().records == []
    assert len(list(Path("catalog").glob("2*/*/*/*"))) == len(runs)
    assert os.listdir("catalog/_live") == []
    catalog.close()


OPERATIONS = ("open", "write", "mkdir", "makedirs", "rename", "replace", "fsync", "unlink", "rmdir", "ftruncate")


class Trouble:
    """Lets something happen at the n-th operation on files."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, error: type[BaseException]) -> None:
        self.count, self._at, self._error = 0, at, error
        self._mutex = threading.Lock()
        for name in OPERATIONS:
            patch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, function: Any) -> Any:
        def operation(*arguments: Any, **keywords: Any) -> Any:
            with self._mutex:
                self.count += 1
                is_now = self.count == self._at
            if is_now:
                raise self._error(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **keywords)

        return operation


@pytest.mark.filterwarnings("ignore::filebroker.FilebrokerWarning")
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_trouble_at_any_operation_leaves_what_a_repetition_completes(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    runs = make_source(3)
    at, told, is_over = 0, 0, False
    while not is_over:
        at += _STEP
        os.makedirs("catalog", exist_ok=True)
        import_runs(runs["run-0"][:4], "catalog")  # so that there is one to continue
        with monkeypatch.context() as patch:
            trouble = Trouble(patch, at, error)
            try:
                report = import_runs("source", "catalog")
                assert report.taken + len(report.problems) == 3
            except (StorageError, KeyboardInterrupt):
                told += 1
            is_over = trouble.count < at
        report = import_runs("source", "catalog")
        assert report.ok, report
        assert_complete(runs)
        os.rename("catalog", f"catalog-{at}")
    assert told > 5


#: Every so many operations are tried; 1 takes minutes.
_STEP = 12
KILLED = (
    f"STEP = {_STEP}"
    + """
import importlib, json, os, sys, warnings
sys.path.insert(0, sys.argv[1])
from filebroker import Catalog, import_runs
warnings.simplefilter("ignore")
OPERATIONS = ("open", "write", "mkdir", "makedirs", "rename", "replace", "fsync", "unlink", "rmdir")

def forked(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def die_at(at):
    count = 0
    def wrapped(function):
        def operation(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == at:
                os._exit(9)
            return function(*arguments, **keywords)
        return operation
    for name in OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))
    import_runs("source", "catalog")

def again():
    report = import_runs("source", "catalog")
    assert report.ok, report
    assert report.taken + report.known == 3, report
    assert len(Catalog("catalog")) == 3
    assert len(import_runs("source", "catalog").problems) == 0
    assert os.listdir("catalog/_live") == [], os.listdir("catalog/_live")
    expected = {}
    for name in os.listdir("source"):
        with open(f"source/{name}") as file:
            pairs = [tuple(json.loads(line)) for line in file]
        expected[pairs[0][1]["uid"]] = pairs
    assert {run.uid: list(run.documents()) for run in Catalog("catalog")} == expected

def preload():
    import_runs("source", "elsewhere")
    with open("modules", "w") as file:
        json.dump(list(sys.modules), file)

assert forked(preload) == 0
with open("modules") as file:
    for name in json.load(file):
        if name.startswith(("filebroker.", "pandas", "pyarrow", "numpy", "whoosh", "fsspec")):
            importlib.import_module(name)
at = 0
while True:
    at += STEP
    def first():
        with open("source/0.jsonl") as file:
            import_runs([json.loads(line) for line in file][:4], "catalog")
    assert forked(first) == 0
    ended = forked(lambda: die_at(at))
    assert forked(again) == 0, at
    os.rename("catalog", f"catalog-{at}")
    if ended == 0:
        break
    assert ended == 9, ended
print(at)
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_death_at_any_operation_leaves_what_a_repetition_completes() -> None:
    make_source(3)
    here = str(Path(__file__).parent)
    found = subprocess.run(
        [sys.executable, "-c", KILLED, here], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert int(found.stdout) > 50, found.stdout


# -- several at once


def test_two_imports_at_once_take_each_run_once() -> None:
    runs = make_source(100)
    script = """
import json
from filebroker import import_runs
print(json.dumps(import_runs("source", "catalog").to_dict()))
"""
    os.mkdir("catalog")
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [report["problems"] for report in reports] == [[], []]
    assert sum(report["taken"] for report in reports) == 100
    assert sum(report["known"] for report in reports) == 100
    assert_complete(runs)


def test_processes_take_each_run_once_and_tell_how_far_they_are() -> None:
    runs = make_source(150)
    told: list[tuple[str, int, int]] = []
    report = import_runs("source", "catalog", workers=2, progress=lambda *news: told.append(news))
    assert (report.taken, report.files, report.problems) == (150, 150, [])
    assert told[-1] == ("files", 150, 150)
    assert_complete(runs)
    assert import_runs("source", "catalog", workers=2).known == 150


def test_what_a_process_did_that_was_killed_is_done_by_another() -> None:
    runs = make_source(150)

    killed: list[psutil.Process] = []
    others = psutil.Process().children()

    def kill_one(what: str, done: int, total: int) -> None:
        if not killed:
            killed.append(next(child for child in psutil.Process().children() if child not in others))
            killed[-1].kill()

    report = import_runs("source", "catalog", workers=2, progress=kill_one)
    assert killed
    assert report.ok, report
    assert report.taken + report.known == 150
    with warnings.catch_warnings(action="ignore"):
        Catalog("catalog").close()
    import_runs("source", "catalog")
    assert_complete(runs)


def test_what_kills_each_process_is_named_and_the_others_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    make_source(5)
    ask, asked = importing_workers._Worker.ask, []

    def ask_or_die(worker: Any, chunk: list[Unit]) -> ImportReport | None:
        asked.append(len(chunk))
        return None if any(unit.path.endswith("3.jsonl") for unit in chunk) else ask(worker, chunk)

    monkeypatch.setattr(importing_workers._Worker, "ask", ask_or_die)
    report = import_runs("source", "catalog", workers=2)
    assert report.taken == 4
    assert [os.path.basename(problem.place) for problem in report.problems] == ["3.jsonl"]
    assert "killed 3 times" in report.problems[0].why
    assert asked[0] == 5


def test_what_stops_a_process_is_told() -> None:
    make_source(3)
    os.mkdir("catalog")
    Path("catalog/other").write_text("no catalog")
    with pytest.raises(FilebrokerError, match="no filebroker catalog"):
        import_runs("source", "catalog", workers=2)


def test_an_interrupt_stops_the_processes_in_order() -> None:
    runs = make_source(400)

    script = """
import signal, threading
from filebroker import import_runs
threading.Timer(1.5, signal.raise_signal, [signal.SIGINT]).start()
try:
    import_runs("source", "catalog", workers=2)
except KeyboardInterrupt:
    print("interrupted")
"""
    begin = time.monotonic()
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert time.monotonic() - begin < 30
    assert found.stderr == ""
    assert not list(Path("catalog/_live").glob("import-*"))
    import_runs("source", "catalog")
    assert_complete(runs)
    assert os.listdir("catalog/_live") == []


def test_a_part_can_be_imported_by_any_process_of_a_cluster() -> None:
    runs = make_source(3)
    Catalog("catalog").close()
    setup = {"url": os.path.abspath("catalog"), "dry_run": False, "names_external": False}
    import_runs([], "catalog")
    units = [["jsonl", f"source/{number}.jsonl", "", 0] for number in range(3)]
    assert ImportReport.from_dict(take_units(setup, units)).taken == 3
    assert_complete(runs)


def test_processes_find_this_package_and_no_module_of_it_by_another_name() -> None:
    code = (
        "import filebroker, importlib.util as u; print(filebroker.__file__, u.find_spec('transfer'), u.find_spec('v1'))"
    )
    command = [sys.executable, "-S", "-c", code]
    found = subprocess.run(command, env=importing_workers._environment(), capture_output=True, text=True, check=False)
    assert found.stdout.split() == [filebroker.__file__, "None", "None"], found.stderr
