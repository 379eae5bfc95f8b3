"""One of two programs that are compared: ``python databroker_worker.py filebroker|databroker FOLDER TASK``.

It runs in an environment that has the program.  For each line on its standard input it does one round of the task, and
prints the seconds and what the task gave, which is the same for both programs.
"""

import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import framed
import startdocs
import workload

#: Runs to find, events to replay, and images.
RUNS, EVENTS, FRAMES = 1_000, 100_000, 1_000
Pair = tuple[str, dict[str, Any]]


def _many(folder: str) -> Iterator[Pair]:
    for number, start in enumerate(startdocs.starts(RUNS)):
        yield from startdocs.small_run(start, number)


#: The documents of each catalog.
STORES: dict[str, Callable[[str], Iterable[Pair]]] = {
    "short": lambda folder: workload.run(20, 10),
    "long": lambda folder: workload.run(EVENTS, 10),
    "many": _many,
    "frames": lambda folder: framed.sequence(f"{folder}-images", FRAMES),
}


def open_filebroker(path: str, documents: Iterable[Pair] = ()) -> Any:
    """Open a catalog of filebroker, after recording documents if there are any."""
    from filebroker import Broker

    recorder = Broker(path, sync="never")
    for name, doc in documents:
        recorder.insert(name, doc)
    return Broker(path)


def open_databroker(path: str, documents: Iterable[Pair] = ()) -> Any:
    """Open a folder of msgpack files with databroker 1.2.5, after recording documents if there are any."""
    from databroker._drivers.msgpack import BlueskyMsgpackCatalog
    from suitcase.msgpack import Serializer

    serializer = None
    for name, doc in documents:
        if name == "start":
            serializer = Serializer(path)
        serializer(name, doc)
        if name == "stop":
            serializer.close()
    return BlueskyMsgpackCatalog(f"{path}/*.msgpack").v1


class Task(NamedTuple):
    """What is timed: a catalog, a function of its broker, how often a round, and whether the catalog is opened anew."""

    store: str
    call: Callable[[Any], Any]
    times: int = 1
    anew: bool = False


def _starts(db: Any) -> list[str]:
    return sorted(header.start["uid"] for header in db())


def _events(documents: Iterable[tuple[str, Any]]) -> int:
    return sum(name in ("event", "event_page") for name, _ in documents)


TASKS = {
    "newest": Task("short", lambda db: db[-1].start["uid"], 100),
    "table": Task("short", lambda db: db[-1].table().shape, 50),
    "table_anew": Task("short", lambda db: db[-1].table().shape, 5, anew=True),
    "headers_anew": Task("many", _starts, anew=True),
    "headers": Task("many", _starts),
    "documents": Task("long", lambda db: _events(db[-1].documents())),
    "pages": Task("long", lambda db: _events(db.v2[-1].documents(fill="no"))),
    "long_table": Task("long", lambda db: db[-1].table().shape),
    "data": Task("long", lambda db: sum(1 for _ in db[-1].data("signal_3"))),
    "read": Task("long", lambda db: db.v2[-1].primary.read()["signal_3"].shape),
    "dask": Task("frames", lambda db: db.v2[-1].primary.to_dask()["img"].shape),
    "frame": Task("frames", lambda db: int(db.v2[-1].primary.to_dask()["img"][FRAMES // 2].values.max())),
}


def main(program: str, folder: str, name: str) -> None:
    """Do one round of a task for each line, and print its seconds and what it gave."""
    task, opened = TASKS[name], {"filebroker": open_filebroker, "databroker": open_databroker}[program]
    path = os.path.join(folder, program, task.store)
    db = opened(path, () if os.path.isdir(path) else STORES[task.store](path))
    for _ in sys.stdin:
        gc.collect()
        begin = time.perf_counter()
        for _ in itertools.repeat(None, task.times):
            result = task.call(opened(path) if task.anew else db)
        seconds = (time.perf_counter() - begin) / task.times
        print(json.dumps([seconds, result]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
