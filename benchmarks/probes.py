"""What `finding.py` has new processes do; each function gives what it measured, ready for JSON."""

import gc
import itertools
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson

import startdocs
from crowd import leaves
from filebroker import Broker
from questions import BY_NAME, QUESTIONS, Question

#: Seconds of ours and of the floor.
Pair = tuple[float, float]
_CACHE = "FILEBROKER_CACHE"


def _cpu(task: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> float:
    """Time a task by the CPU, that of this thread unless said otherwise."""
    gc.collect()
    begin = clock()
    task()
    return clock() - begin


def _both(ours: Callable[[], Any], floor: Callable[[], Any]) -> Pair:
    """Time both, and see that they answer the same."""
    answers: list[Any] = []
    times = _cpu(lambda: answers.append(ours())), _cpu(lambda: answers.append(floor()))
    if answers[0] != answers[1]:
        raise AssertionError(f"{str(answers[0])[:200]} is not {str(answers[1])[:200]}")
    return times


def _connect(bare: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{bare}?mode=ro", uri=True)


def opened(catalog: str, bare: str) -> Pair:
    """Open a catalog and give its newest run."""
    newest = "SELECT start FROM runs ORDER BY path DESC LIMIT 1"
    return _both(
        lambda: Broker(catalog)[-1].start["uid"],
        lambda: orjson.loads(_connect(bare).execute(newest).fetchone()[0])["uid"],
    )


def kept_house(catalog: str) -> float:
    """Open a catalog, and time what is then done in the background."""
    db = Broker(catalog)
    db[-1]
    return _cpu(db.catalog.library.housekeeper.wait, time.process_time)


def opened_cold(catalog: str, cache: str) -> float:
    """Open a catalog that this machine never saw, and give its newest run."""
    os.environ[_CACHE] = cache
    return _cpu(lambda: Broker(catalog)[-1], time.process_time)


def directory_of(catalog: str) -> str | None:
    """Give where what is derived from a catalog is kept."""
    return Broker(catalog).catalog.library.directory


def built(catalog: str) -> tuple[int, float, float]:
    """Put into the index what is not in it; give the number of runs, CPU seconds and seconds."""
    library = Broker(catalog).catalog.library
    library.sync()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    count = library.update_index()
    return count, time.process_time() - begin_cpu, time.perf_counter() - begin


def looked_up(catalog: str, bare: str, rounds: str) -> dict[str, list[Pair]]:
    """Look runs up in an open catalog."""
    db, connection = Broker(catalog), _connect(bare)
    recent = connection.execute("SELECT uid, scan_id FROM runs ORDER BY path DESC LIMIT 500").fetchall()
    (low,), (high,) = connection.execute("SELECT min(time) FROM runs UNION ALL SELECT max(time) FROM runs")
    width = (high - low) / 20

    def starts(query: str, *values: Any) -> list[Any]:
        return [orjson.loads(text)["uid"] for (text,) in connection.execute(f"SELECT start FROM runs {query}", values)]

    def counted(number: int) -> int:
        since = low + width * (number % 17) + 0.5
        query = "SELECT count(*) FROM runs WHERE time >= ? AND time <= ?"
        return int(connection.execute(query, (since, since + width)).fetchone()[0])

    def count(number: int) -> int:
        since = low + width * (number % 17) + 0.5
        return len(db(since=since, until=since + width))

    result: dict[str, list[Pair]] = {}
    for number in range(int(rounds)):
        uid, scan_id = recent[number * 7 % len(recent)]
        tasks: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "db[-5:]": (
                lambda: [header.start["uid"] for header in db[-5:]],
                lambda: starts("ORDER BY path DESC LIMIT 5"),
            ),
            "uid prefix": (
                lambda uid=uid: [db[uid[:10]].start["uid"]],
                lambda uid=uid: starts("WHERE uid >= ? AND uid < ?", uid[:10], uid[:10] + "~"),
            ),
            "scan_id": (
                lambda scan_id=scan_id: [db[scan_id].start["uid"]],
                lambda scan_id=scan_id: starts("WHERE scan_id = ? ORDER BY path DESC LIMIT 1", scan_id),
            ),
            "count of a time range": (lambda number=number: count(number), lambda number=number: counted(number)),
        }
        for name, both in tasks.items():
            result.setdefault(name, []).append(_both(*both))
    return {name: pairs[1:] for name, pairs in result.items()}


def asked(catalog: str, bare: str, name: str, turn: str) -> dict[str, list[Pair]]:
    """Search with the index: for the first time in this process, and then for something else."""
    question, db = BY_NAME[name], Broker(catalog)
    db[-1]
    result: dict[str, list[Pair]] = {}
    first = int(turn)
    # The first search is for all answers or for the newest, in turns.
    kinds = ["newest ten", "all"][:: 1 if first % 2 else -1]
    result[f"{kinds[0]}, first in a process"] = [_answered(question, kinds[0], db, bare, first)]
    for number in range(first + 1, first + 5):
        for kind in kinds:
            result.setdefault(f"{kind}, repeated", []).append(_answered(question, kind, db, bare, number))
    if db(plan_name="scan").explain().indexed < len(db()):
        raise AssertionError("the index is not complete")
    return result


def _answered(question: Question, kind: str, db: Broker, bare: str, number: int) -> Pair:
    connection = _connect(bare)
    if kind == "all":
        return _both(lambda: question.count(db, number), lambda: question.count_bare(connection, number))
    return _both(lambda: question.newest(db, number), lambda: question.newest_bare(connection, number))


def scanned(catalog: str, bare: str, name: str, rounds: str) -> dict[str, list[Pair]]:
    """Search where there is no index."""
    os.environ[_CACHE] = ""
    question, db, connection = BY_NAME[name], Broker(catalog), _connect(bare)
    db[-1]
    result: dict[str, list[Pair]] = {"all": [], "newest ten": []}
    for number in range(int(rounds)):
        result["all"].append(
            _both(lambda n=number: question.count(db, n), lambda n=number: question.count_read(connection, n))
        )
        result["newest ten"].append(
            _both(lambda n=number: question.newest(db, n), lambda n=number: question.newest_read(connection, n))
        )
    return result


def searched_meanwhile(catalog: str, bare: str, cache: str, seconds: str) -> dict[str, Any]:
    """Search while the index is built in the background: the longest time to answer, and how far the index came."""
    os.environ[_CACHE] = cache
    db, connection = Broker(catalog), _connect(bare)
    db[-1]
    end, longest, indexed = time.perf_counter() + float(seconds), {"all": 0.0, "newest ten": 0.0}, 0
    count, total = 0, len(db())
    for number in itertools.count():
        question = QUESTIONS[number % len(QUESTIONS)]
        for kind, ask, check in (
            ("all", question.count, question.count_bare),
            ("newest ten", question.newest, question.newest_bare),
        ):
            begin = time.perf_counter()
            answer = ask(db, number)
            longest[kind] = max(longest[kind], time.perf_counter() - begin)
            if answer != check(connection, number):
                raise AssertionError(f"{question.name} {number} was answered wrongly")
            count += 1
        indexed = db(plan_name="none").explain().indexed
        thread = db.catalog.library.housekeeper
        if time.perf_counter() > end or indexed == total or thread.problem:
            break
    return {"longest": longest, "indexed": indexed, "searches": count, "problem": thread.problem}


def recorded(catalog: str, few: str, bare: str, count: str) -> dict[str, list[Pair]]:
    """Record small runs into a catalog of many runs and one of few, in turns; and search in between."""
    many, small, reader = Broker(catalog), Broker(few), Broker(catalog)
    question, connection = BY_NAME["word"], _connect(bare)
    question.count(reader, 0)
    runs = startdocs.starts(2 * int(count) + 2, seed=time.time_ns(), begin=time.time())
    result: dict[str, list[Pair]] = {"CPU": [], "time": [], "search": []}
    for number in range(int(count) + 1):
        ours, floor = (_record(db, next(runs), number) for db in ((many, small) if number % 2 else (small, many)))
        if number % 2 == 0:
            ours, floor = floor, ours
        if number:  # the first runs are there to warm up
            for kind, pair in zip(("CPU", "time"), zip(ours, floor, strict=True), strict=True):
                result[kind].append(pair)
            search = _cpu(lambda n=number: question.count(reader, n))
            result["search"].append((search, _cpu(lambda n=number: question.count_bare(connection, n))))
    return result


def _record(db: Broker, start: startdocs.Document, number: int) -> Pair:
    """Record a small run; give CPU seconds and seconds."""
    documents = list(startdocs.small_run(start, number))
    gc.collect()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    for name, doc in documents:
        db.insert(name, doc)
    return time.process_time() - begin_cpu, time.perf_counter() - begin


def _resident(key: str = "VmRSS") -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def remembered(catalog: str, bare: str) -> dict[str, Pair]:
    """Give by how many bytes the process has grown since its imports after each of some things."""
    gc.collect()
    before = _resident()
    db, result = Broker(catalog), {}
    db[-1]
    result["open"] = _resident() - before
    for question in QUESTIONS:
        question.count(db, 0)
        question.newest(db, 0)
        if question.name == "word":
            result["word search"] = _resident() - before
    result["all searches"] = _resident() - before
    begun = _resident()
    connection = _connect(bare)
    for question in QUESTIONS:
        question.count_bare(connection, 0)
        question.newest_bare(connection, 0)
    floor = _resident() - begun
    return {name: (size, floor) for name, size in result.items()}


def overviewed(catalog: str, bare: str) -> dict[str, Pair]:
    """Make the tables of all runs and of all keys."""
    import pandas as pd

    db, connection = Broker(catalog), _connect(bare)
    db[-1]
    pd.DataFrame([{"time": 0.0}])

    def table() -> int:
        starts = [orjson.loads(text) for (text,) in connection.execute("SELECT start FROM runs ORDER BY row DESC")]
        return len(pd.DataFrame(starts))

    def keys() -> int:
        counts: Counter[str] = Counter()
        for (text,) in connection.execute("SELECT start FROM runs"):
            counts.update({path for path, _ in leaves(orjson.loads(text))})
        return counts["uid"]

    return {
        "to_dataframe of all runs": _both(lambda: len(db().to_dataframe()), table),
        "keys_seen of all runs": _both(lambda: int(db.keys_seen().loc["uid", "runs"]), keys),
    }


def refreshed(catalog: str) -> dict[str, Pair]:
    """Look for changes in the run directories of a catalog that has none."""

    def walk() -> int:
        count, waiting = 0, [(catalog, 0)]
        while waiting:
            folder, depth = waiting.pop()
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if entry.name[:1].isdigit()]
            count += len(names) if depth == 3 else 0
            waiting += [(f"{folder}/{name}", depth + 1) for name in names] if depth < 3 else []
        return count

    db = Broker(catalog)
    known = len(db())

    def refresh() -> int:
        return known + len(db.refresh().records)

    return {"first in a process": _both(refresh, walk), "repeated": _both(refresh, walk)}
