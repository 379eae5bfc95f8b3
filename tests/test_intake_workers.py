"""Sources of Intake elsewhere than where they were made: in other processes, threads, children, and after the end.

Everything here runs on Intake 0.6.4, 0.7.0 and 2.
"""

import gc
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from operator import attrgetter, itemgetter, methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import intake
import numpy as np
import pandas as pd
import psutil
import pytest

import factories as make
from filebroker import Broker, FilebrokerError
from filebroker.ground.errors import DamagedRun, DamagedRunWarning, RunNotFound
from filebroker.intake.catalogs import IntakeCatalog
from filebroker.storing.recorder import Recorder
from servers import new_bucket, options_for

ROWS = 25
RUNS = 6
forking = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


class Place(NamedTuple):
    """A catalog, and what opens it."""

    url: str
    options: dict[str, Any]

    def open(self, **arguments: Any) -> IntakeCatalog:
        found: IntakeCatalog = intake.open_filebroker(self.url, storage_options=self.options, **arguments)
        return found


def documents_of(number: int, rows: int = ROWS) -> list[make.Pair]:
    """Make a run of a number, an integer, a text and an array."""
    begun = make.start(scan_id=number, time=make.T0 + 3600.0 * number, plan_name=("scan", "count")[number % 2])
    fields = {"det": "number", "count": "integer", "shutter": "string", "image": "array"}
    described = make.descriptor(begun, fields)
    values = [
        {"det": row / 2 + number, "count": row, "shutter": f"open {row}", "image": np.full(3, row).tolist()}
        for row in range(rows)
    ]
    events = [("event", make.event(described, row, item)) for row, item in enumerate(values, 1)]
    return [("start", begun), ("descriptor", described), *events, ("stop", make.stop(begun, {"primary": rows}))]


def record(place: Place, numbers: range = range(RUNS)) -> list[str]:
    """Record runs; give their uids, oldest first."""
    uids = []
    with closing(Broker(place.url, storage_options=place.options)) as broker:
        for number in numbers:
            documents = documents_of(number)
            for pair in documents:
                broker.insert(*pair)
            uids.append(documents[0][1]["uid"])
        broker.flush()
    return uids


@pytest.fixture(scope="module", params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Give the same runs, each with several pages, in a directory and in a bucket."""
    found = Place(str(tmp_path_factory.mktemp("workers") / "runs"), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
        record(found)
    return found if request.param == "local" else copied(found, request.getfixturevalue("s3_endpoint"))


def copied(place: Place, endpoint: str) -> Place:
    """Copy a local catalog into a bucket, as it is."""
    options = options_for(endpoint)
    bucket = new_bucket(endpoint)
    store = fsspec.filesystem("s3", **options)
    for path in Path(place.url).rglob("*"):
        if path.is_file() and "_live" not in path.parts:
            store.pipe_file(f"{bucket}/runs/{path.relative_to(place.url)}", path.read_bytes())
    return Place(f"s3://{bucket}/runs", options)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give a catalog of the test's own, in a directory."""
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
    found = Place(str(tmp_path / "runs"), {})
    record(found, range(2))
    return found


def answers(catalog: IntakeCatalog) -> dict[str, Any]:
    """Give what a catalog tells: the same wherever it is asked."""
    run = catalog[-1]
    stream = run["primary"]
    frames = [stream.read(), stream.to_dask().compute(scheduler="synchronous").reset_index(drop=True)]
    frames += [pd.concat(list(stream.read_chunked()), ignore_index=True), catalog[0, "primary"].read()]
    return {
        **{"uids": list(catalog), "labels": list(catalog.recent), "length": len(catalog), "run": run.metadata},
        **{"found": list(catalog.search(plan_name="scan")), "shape": stream.discover()["shape"], "stream": stream},
        **{"frames": [frame.to_dict("list") for frame in frames], "overview": catalog.to_dataframe().to_dict("list")},
        **{"xarray": stream.to_xarray()["det"].values.tolist(), "parts": stream.npartitions, "repr": repr(catalog)},
    }


#: What is asked of sources elsewhere: a kind, and what is done with it.
QUESTIONS: list[tuple[str, Callable[[Any], Any]]] = [
    *[("catalog", list), ("catalog", len), ("catalog", itemgetter(-1)), ("catalog", methodcaller("search", "scan"))],
    *[("catalog", methodcaller("to_dataframe")), ("search", list), ("search", itemgetter(-1)), ("recent", list)],
    *[("run", list), ("run", attrgetter("metadata")), ("run", itemgetter("primary")), ("run", repr)],
    *[("stream", methodcaller("read")), ("stream", methodcaller("read_partition", 1)), ("stream", attrgetter("plots"))],
    *[("stream", methodcaller("discover")), ("stream", methodcaller("to_xarray")), ("columns", methodcaller("read"))],
]


def sources_of(place: Place) -> dict[str, Any]:
    """Give a source of each kind."""
    catalog = place.open()
    columns = catalog[-1].primary(columns=["det", "image"])
    kinds = {"catalog": catalog, "search": catalog.search(plan_name="scan"), "recent": catalog.recent}
    return {**kinds, "run": catalog[-1], "stream": catalog[-1].primary, "columns": columns}


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif hasattr(expected, "identical"):
        assert found.identical(expected)
    else:
        assert found == expected


# ------------------------------------------------------------------------------------- processes


def test_another_process_reads_the_same(place: Place) -> None:
    sources = sources_of(place)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [(kind, ask, pool.submit(ask, sources[kind])) for kind, ask in QUESTIONS]
        for kind, ask, future in asked:
            assert_same(future.result(120), ask(sources[kind]))
        there, whole = (
            pool.submit(os.getpid).result(),
            pool.submit(methodcaller("compute"), sources["stream"].to_dask()),
        )
        assert there != os.getpid()
        assert_same(whole.result(120).reset_index(drop=True), sources["stream"].read())


def test_pickles_are_small_and_carry_no_data(place: Place) -> None:
    sources = sources_of(place)
    for source in sources.values():
        fresh = pickle.dumps(source)
        answers(place.open())
        if source.container == "dataframe":
            source.read()
        else:
            list(source)
        repr(source)
        assert pickle.dumps(source) == fresh
        assert len(fresh) < 1024


class Cluster(NamedTuple):
    client: Any
    pids: set[int]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start two processes of workers, at an empty home."""
    from distributed import Client, LocalCluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("workers-home")))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        patch.chdir(os.environ["HOME"])
        workers = LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=50)
        with workers, Client(workers) as client:
            yield Cluster(client, set(client.run(os.getpid).values()))


def test_workers_of_dask_answer_as_we_do(place: Place, cluster: Cluster) -> None:
    assert os.getpid() not in cluster.pids
    sources = sources_of(place)
    asked = [(kind, ask, cluster.client.submit(ask, sources[kind], pure=False)) for kind, ask in QUESTIONS]
    for kind, ask, future in asked:
        assert_same(future.result(60), ask(sources[kind]))
    numbers = range(sources["stream"].discover()["npartitions"])
    parts = [cluster.client.submit(methodcaller("read_partition", number), sources["stream"]) for number in numbers]
    assert len(parts) == 3
    assert_same(pd.concat([part.result(60) for part in parts], ignore_index=True), sources["stream"].read())


def test_workers_of_dask_compute_streams(place: Place, cluster: Cluster) -> None:
    catalog = place.open()
    run = catalog[-1]
    table = run.primary.to_dask()
    assert table.npartitions == 3
    assert_same(table.compute().reset_index(drop=True), run.primary.read())
    assert float(table["det"].max().compute()) == (ROWS - 1) / 2 + RUNS - 1
    assert table.groupby("shutter")["count"].sum().compute()["open 7"] == 7
    futures = [cluster.client.submit(methodcaller("read"), found.primary) for found in catalog.values()]
    assert [len(future.result(60)) for future in futures] == [ROWS] * RUNS
    runs = cluster.client.submit(list, cluster.client.submit(methodcaller("values"), catalog, pure=False)).result(60)
    assert runs == list(catalog.values())
    assert (
        cluster.client.submit(attrgetter("uid"), cluster.client.submit(itemgetter(-1), catalog)).result(60) == run.uid
    )


def test_the_same_question_has_the_same_name(place: Place) -> None:
    from dask.base import tokenize

    first, second = sources_of(place), sources_of(place)
    tokens = {kind: tokenize(source) for kind, source in first.items()}
    assert tokens == {kind: tokenize(pickle.loads(pickle.dumps(source))) for kind, source in second.items()}
    assert len(set(tokens.values())) == len(tokens)
    assert first["stream"].to_dask()._name == second["stream"].to_dask()._name


# ------------------------------------------------------------------------------------- threads


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Do tasks at the same time, each in a thread of its own; give what comes out."""
    barrier = threading.Barrier(len(tasks))

    def begin(task: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result(120) for future in [pool.submit(begin, task) for task in tasks]]


@pytest.mark.parametrize("shared", [True, False], ids=["one source", "a source each"])
def test_eight_threads_read_at_once(place: Place, shared: bool) -> None:
    expected = answers(place.open())
    catalog = place.open()
    found = at_once([lambda: answers(catalog if shared else place.open())] * 8)
    for answer in found:
        assert answer == expected
    assert expected["parts"] == 3
    assert expected["frames"][0] == expected["frames"][1] == expected["frames"][2]


def test_eight_threads_read_one_run_and_one_stream_at_once(place: Place) -> None:
    for kind in ("run", "stream", "columns", "search"):
        expected = [(ask, ask(sources_of(place)[kind])) for name, ask in QUESTIONS if name == kind]
        source = pickle.loads(pickle.dumps(sources_of(place)[kind]))  # nothing is known of it yet
        found = at_once([lambda source=source, ask=ask: ask(source) for ask, _ in expected * 8][:8])  # type: ignore[misc]
        for answer, (_, right) in zip(found, expected * 8, strict=False):
            assert_same(answer, right)


def test_threads_make_tables_of_dask_at_once(place: Place) -> None:
    stream = place.open()[-1].primary
    expected = stream.to_dask().dtypes.to_dict()
    assert str(expected["image"]) == "object"
    found = at_once([lambda: [stream.to_dask().dtypes.to_dict() for _ in range(30)]] * 8)
    assert [item for items in found for item in items if item != expected] == []


def test_threads_may_reload_and_close_what_others_read(place: Place) -> None:
    catalog = place.open()
    run = catalog[-1]
    stream = run.primary
    expected = stream.read()
    until = time.monotonic() + 0.7

    def disturb() -> int:
        count = 0
        while time.monotonic() < until:
            for source in (catalog, run, stream):
                getattr(source, "close" if source is stream else "force_reload")()
            count += 1
        return count

    def look() -> int:
        count = 0
        while time.monotonic() < until:
            assert_same(stream.read(), expected)
            assert catalog[-1].uid == run.uid
            assert list(run) == ["primary"]
            assert stream.metadata["start"]["uid"] == run.uid
            count += 1
        return count

    assert all(at_once([disturb, disturb, look, look, look]))


# ------------------------------------------------------------------------------------- forks


def in_a_fork(task: Callable[[], Any]) -> Any:
    """Do a task in a forked child; give what comes out."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def work() -> None:
        try:
            there.send((True, task()))
        except BaseException as error:  # noqa: BLE001 - the parent raises it
            there.send((False, repr(error)))
        os._exit(0)  # the parent's fixtures are not the child's to end

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 advises against forks beside threads
        child = context.Process(target=work, daemon=True)
        child.start()
    try:
        assert here.poll(20), "the child hangs"
        is_good, answer = here.recv()
    finally:
        child.kill()
        child.join()
        here.close()
        there.close()
    assert is_good, answer
    return answer


@forking
def test_a_forked_child_goes_on_reading(place: Place) -> None:
    catalog = place.open()
    run, stream = catalog[-1], catalog[-1].primary
    expected = answers(catalog), stream.read()
    for _ in range(2):
        answer = in_a_fork(
            lambda: (answers(catalog), stream.read().to_dict("list"), run.metadata, answers(place.open()))
        )
        assert answer == (expected[0], expected[1].to_dict("list"), run.metadata, expected[0])
        assert answers(catalog) == expected[0]  # and its parent as well


@forking
def test_a_child_that_is_forked_while_others_read_goes_on(place: Place) -> None:
    def look(catalog: IntakeCatalog) -> Any:  # without dask, which has a lock that a child inherits
        run = catalog[-1]
        found = list(catalog), run.metadata, list(catalog.search(plan_name="scan")), run.primary.discover()["shape"]
        return *found, run.primary.read().to_dict("list"), catalog.to_dataframe().shape

    catalog = place.open()
    expected = look(catalog)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            look(place.open())

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert in_a_fork(lambda: look(catalog)) == expected
            assert in_a_fork(lambda: look(place.open())) == expected
    finally:
        done.set()
        for thread in threads:
            thread.join()


# ------------------------------------------------------------------------------------- ends


def ask_all(catalog: IntakeCatalog, run: Any, stream: Any, table: Any) -> list[tuple[str, Any]]:
    """Ask sources everything; give what came out, or the error."""
    tasks: dict[str, Callable[[], Any]] = {
        **{"list": lambda: list(catalog), "length": lambda: len(catalog), "newest": lambda: catalog[-1].metadata},
        **{"by uid": lambda: catalog[run.url and run._key].metadata, "in": lambda: run._key in catalog},
        **{"search": lambda: list(catalog.search("scan")), "table": lambda: catalog.to_dataframe().shape},
        **{"streams": lambda: list(run), "documents": lambda: run.metadata, "stream": lambda: run["primary"].read()},
        **{"read": stream.read, "discover": stream.discover, "part": lambda: stream.read_partition(0)},
        **{"xarray": stream.to_xarray, "dask": lambda: stream.to_dask().compute(scheduler="synchronous")},
        **{"before": lambda: table.compute(scheduler="synchronous"), "plots": lambda: stream.metadata["plots"]},
        **{"recent": lambda: list(catalog.recent), "reload": catalog.force_reload, "v1": lambda: catalog.v1[-1].start},
        **{"v2": lambda: catalog.v2[-1], "pickle": lambda: pickle.loads(pickle.dumps(stream)).read()},
    }
    found: list[tuple[str, Any]] = []
    for name, task in tasks.items():
        try:
            found.append((name, task()))
        except FilebrokerError as error:
            found.append((name, error))
    for source in (catalog, catalog.recent, run, stream):
        assert repr(source).startswith("<Intake")
        assert "sources:" in source.yaml()
        source.describe()
        dir(source)
    return found


def of_all_kinds(place: Place) -> tuple[IntakeCatalog, Any, Any, Any]:
    catalog = place.open()
    return catalog, catalog[-1], catalog[-1].primary, catalog[-1].primary.to_dask()


@pytest.mark.parametrize("used", [True, False], ids=["used before", "not used before"])
def test_a_catalog_that_is_deleted_is_told_of_in_words(local: Place, used: bool) -> None:
    sources = of_all_kinds(local)
    if used:
        for _, answer in ask_all(*sources):
            assert not isinstance(answer, FilebrokerError)
    shutil.rmtree(local.url)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        answers_now = ask_all(*sources)
        answers_then = ask_all(*sources)
    assert {type(item.message) for item in warned} <= {DamagedRunWarning}
    errors = {name: error for name, error in answers_now if isinstance(error, FilebrokerError)}
    assert {"part", "before"} <= set(errors)
    assert {name for name, error in answers_then if isinstance(error, FilebrokerError)} >= set(errors) - {"reload"}
    assert all(str(error) for error in errors.values())
    assert intake.open_filebroker(local.url) == sources[0]
    with pytest.raises(FilebrokerError):
        local.open()[-1]


def test_a_run_that_is_deleted_is_told_of_in_words(local: Place) -> None:
    catalog, run, stream, table = of_all_kinds(local)
    directory = Path(stream.directory).parent
    for _, answer in ask_all(catalog, run, stream, table):
        assert not isinstance(answer, FilebrokerError)
    shutil.rmtree(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRunWarning)
        ask_all(catalog, run, stream, table)
    catalog.force_reload()
    assert run.uid not in list(catalog)
    assert len(catalog) == 1
    with pytest.raises(RunNotFound):
        catalog[run._key]
    with pytest.raises((DamagedRun, RunNotFound)):
        table.compute(scheduler="synchronous")
    run.force_reload()
    stream.close()
    for ask in (lambda: run.metadata, lambda: list(run), stream.read, stream.discover):
        with pytest.raises(FilebrokerError):
            ask()
    assert len(catalog[-1].primary.read()) == ROWS


def test_a_page_that_is_damaged_is_told_of_in_words(local: Place) -> None:
    stream = local.open()[-1].primary
    page = sorted(Path(stream.directory).glob("*.parquet"))[1]
    page.write_bytes(b"PAR1")
    with pytest.raises(DamagedRun, match=page.name):
        stream.read_partition(1)
    assert len(stream.read_partition(0)) > 0
    with pytest.raises(DamagedRun, match=page.name):
        stream.to_dask().compute(scheduler="synchronous")
    with pytest.warns(DamagedRunWarning, match=page.name):
        assert 0 < len(stream.read()) < ROWS


def test_sources_go_on_when_a_broker_of_theirs_is_closed(place: Place) -> None:
    catalog, run, stream, table = of_all_kinds(place)
    expected = answers(catalog)
    for broker in (catalog.v1, catalog._broker, run._broker):
        broker.close()
        found = ask_all(catalog, run, stream, table)
        assert [(name, answer) for name, answer in found if isinstance(answer, FilebrokerError)] == []
        assert answers(catalog) == answers(place.open()) == expected
    for source in (stream, run, catalog):
        source.close()
    assert answers(catalog) == expected


def usage() -> tuple[int, int, int]:
    """Count what this process holds: open files, connections and threads."""
    process = psutil.Process()
    return len(process.open_files()), len(process.net_connections()), process.num_threads()


def test_sources_that_are_dropped_leave_nothing_open(place: Place) -> None:
    made: list[weakref.ref[Any]] = []

    def use(number: int) -> None:
        catalog = place.open(labels=bool(number % 2), search=[{"scan_id": {"$lt": RUNS + number}}])
        run = catalog[-1]
        made.extend(map(weakref.ref, (catalog, run, run.primary, catalog.recent)))
        assert len(run.primary.read()) == ROWS
        assert len(catalog) == RUNS
        if number % 10 == 0:
            with catalog, run, run.primary as stream:
                stream.to_dask().compute(scheduler="synchronous")
            catalog._repr_html_()
            assert catalog.v1[-1].start["uid"] == run.uid

    for number in range(11):
        use(number)
    gc.collect()
    before = usage()
    for number in range(200 if place.options == {} else 60):
        use(number)
    gc.collect()
    after = usage()
    assert all(now <= then + 3 for now, then in zip(after, before, strict=True)), (before, after)
    assert not [source for source in made if source() is not None]


# ------------------------------------------------------------------------------------- recording

RECORDER = """
import sys, warnings
warnings.simplefilter("error")
import intake
from test_intake_workers import documents_of
db = intake.open_filebroker(sys.argv[1]).v1
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    for pair in documents_of(number, 3):
        db.insert(*pair)
    assert db[-1].start["scan_id"] is not None
db.close()
print("done")
"""
BROWSER = """
import sys, warnings
warnings.simplefilter("error")
import intake
catalog = intake.open_filebroker(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
seen, looks = 0, 0
while len(catalog) < int(sys.argv[2]) or looks < 3:
    looks += 1
    assert len(catalog) >= seen, (len(catalog), seen)
    seen = len(catalog)
    for uid, run in list(catalog.items()):
        assert run.uid == uid
        assert run.metadata["start"]["uid"] == uid
        for stream in run.values():
            frame = stream.read()
            assert frame["seq_num"].tolist() == list(range(1, len(frame) + 1)), frame
            assert len(frame) <= 3
            if run.metadata["stop"]:
                assert len(run.primary.read()) == 3
    assert len(list(catalog.recent)) >= seen
    list(catalog.search("scan"))
assert sorted(run.metadata["start"]["scan_id"] for run in catalog.values()) == list(range(int(sys.argv[2])))
print("done", looks)
"""


def test_processes_record_and_browse_at_once(tmp_path: Path) -> None:
    url = str(tmp_path / "runs")
    with closing(intake.open_filebroker(url).v1) as broker:
        for pair in documents_of(0, 3):
            broker.insert(*pair)
    calls = [(RECORDER, url, "1", "9"), (RECORDER, url, "9", "17"), (BROWSER, url, "17"), (BROWSER, url, "17")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent)])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", *call], env=environment, **pipes) for call in calls]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        catalog = intake.open_filebroker(url)
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            output, complaints = process.communicate(timeout=120)
            assert (output[:4], complaints) == ("done", "")
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert len(catalog) == 17
    assert all(len(run.primary.read()) == 3 for run in catalog.values())


def test_what_is_recorded_here_is_found_by_a_source_elsewhere(tmp_path: Path) -> None:
    url = str(tmp_path / "runs")
    catalog = intake.open_filebroker(url)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for count in (1, 2):
            record(Place(url, {}), range(count, count + 1))
            assert len(catalog) == count
            assert pool.submit(len, catalog).result(60) == count
            assert pool.submit(itemgetter(-1), catalog).result(60) == catalog[-1]
