"""One of two programs that are compared: ``python databroker_worker.py filebroker|databroker FOLDER TASK``.

It runs in an environment that has the program, and does one round of the task for each line on its standard input.
"""

import gc
import itertools
import json
import os
import sys
import time
import warnings
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
    "frames": lambda folder: framed.sequence(os.path.join(folder, "img"), FRAMES),
}


def filebroker(path: str, documents: Iterable[Pair] | None = None) -> Any:
    """Open a catalog of filebroker, after recording documents if there are any."""
    from filebroker import Broker

    if documents is not None:
        with warnings.catch_warnings():
            recorder = Broker(path, sync="never")
            for name, doc in documents:
                recorder.insert(name, doc)
    return Broker(path)


def databroker(path: str, documents: Iterable[Pair] | None = None) -> Any:
    """Open a folder of msgpack files with databroker 1.2.5, after recording documents if there are any."""
    from databroker._drivers.msgpack import BlueskyMsgpackCatalog
    from suitcase.msgpack import Serializer

    serializer = None
    for name, doc in documents or ():
        if name == "start":
            serializer = Serializer(path)
        serializer(name, doc)
        if name == "stop":
            serializer.close()
    return BlueskyMsgpackCatalog(f"{path}/*.msgpack").v1


class Task(NamedTuple):
    """What is timed: a catalog, a function of an opened broker, so often a round, and whether it is opened anew.

    What the function gives is the same for both programs.
    """

    store: str
    call: Callable[[Any], Any]
    times: int = 1
    anew: bool = False


def _starts(db: Any) -> list[str]:
    return sorted(header.start["uid"] for header in db())


def _kinds(documents: Iterable[tuple[str, Any]]) -> int:
    return sum(name in ("event", "event_page") for name, _ in documents)


def _one_frame(db: Any) -> int:
    return int(db.v2[-1].primary.to_dask()["img"][FRAMES // 2].values.max())


TASKS = {
    "db[-1]": Task("short", lambda db: db[-1].start["uid"], 20),
    "table": Task("short", lambda db: db[-1].table().shape, 20),
    "table, opened anew": Task("short", lambda db: db[-1].table().shape, 1, anew=True),
    "headers, opened anew": Task("many", _starts, 1, anew=True),
    "headers": Task("many", _starts),
    "header.documents()": Task("long", lambda db: _kinds(db[-1].documents())),
    "run.documents(fill='no')": Task("long", lambda db: _kinds(db.v2[-1].documents(fill="no"))),
    "data(key)": Task("long", lambda db: sum(db[-1].data("signal_3"))),
    "run.primary.read()": Task("long", lambda db: float(db.v2[-1].primary.read()["signal_3"].sum())),
    "table of many events": Task("long", lambda db: db[-1].table().shape),
    "one frame": Task("frames", _one_frame),
}


def main(program: str, folder: str, name: str) -> None:
    """Do one round of a task for each line, and print its seconds and what it gave."""
    task, opened = TASKS[name], {"filebroker": filebroker, "databroker": databroker}[program]
    path = os.path.join(folder, program, task.store)
    is_new = not os.path.isdir(path)
    db = opened(path, STORES[task.store](path) if is_new else None)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        gc.collect()
        begin = time.perf_counter()
        for _ in itertools.repeat(None, task.times):
            result = task.call(opened(path) if task.anew else db)
        seconds = (time.perf_counter() - begin) / task.times
        print(json.dumps([seconds, result]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
