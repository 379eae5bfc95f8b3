"""A catalog of many runs, made without recording each, and the same start documents in a bare SQLite file."""

import gc
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import orjson

import startdocs
from filebroker import Broker
from filebroker.cataloging.recording import mark
from filebroker.finding.compaction import merge
from filebroker.finding.ledger import Ledger
from filebroker.finding.records import Record
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout

#: So many of the newest runs are recorded; of the others there are the directories and what the ledger says.
RECORDED = 1_000
_AT_ONCE = 20_000

T = TypeVar("T")

_TABLES = """
CREATE TABLE runs (row INTEGER PRIMARY KEY, path TEXT UNIQUE, uid TEXT, time REAL, scan_id INTEGER, start BLOB);
CREATE INDEX runs_by_uid ON runs (uid);
CREATE INDEX runs_by_time ON runs (time);
CREATE INDEX runs_by_scan_id ON runs (scan_id, path);
CREATE VIRTUAL TABLE words USING fts5 (text, content='');
CREATE TABLE facts (key TEXT, value, row INTEGER, PRIMARY KEY (key, value, row)) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Crowd:
    """Where the catalog of some number of runs is, and the SQLite file."""

    count: int
    root: str

    @property
    def catalog(self) -> str:
        return os.path.join(self.root, "catalog")

    @property
    def bare(self) -> str:
        return os.path.join(self.root, "bare.sqlite")

    @property
    def costs(self) -> dict[str, float]:
        """The CPU seconds that it took to fill the SQLite file: its table of runs, and its indexes."""
        with open(os.path.join(self.root, "made.json")) as file:
            costs: dict[str, float] = json.load(file)
        return costs


def make(folder: str, count: int) -> Crowd:
    """Make a catalog of so many runs unless it is there."""
    crowd = Crowd(count, os.path.join(folder, str(count)))
    note = os.path.join(crowd.root, "made.json")
    if not os.path.exists(note):
        shutil.rmtree(crowd.root, ignore_errors=True)
        os.makedirs(crowd.root)
        _fill_catalog(crowd)
        costs = _fill_bare(crowd)
        with open(note, "w") as file:
            json.dump(costs, file)
    return crowd


def _fill_catalog(crowd: Crowd) -> None:
    mark(crowd.catalog)
    ledger = Ledger(Folder(crowd.catalog))
    starts = enumerate(startdocs.starts(crowd.count))
    others = islice(starts, max(0, crowd.count - RECORDED))
    published = False
    for some in in_batches(others, _AT_ONCE):
        ledger.publish([_record(start, number) for number, start in some], {})
        published = True
        for _, start in some:
            os.makedirs(os.path.join(crowd.catalog, layout.run_directory(start)))
    if not published:
        ledger.publish([], {})
    db = Broker(crowd.catalog, sync="never")
    for number, start in starts:
        for name, doc in startdocs.small_run(start, number):
            db.insert(name, doc)
    db.close()
    # As it will be when the ledger has been compacted, so that this does not happen while something is measured.
    merge(ledger, [name for name in ledger.files() if name.endswith(".jsonl")])


def _record(start: startdocs.Document, number: int) -> Record:
    texts = orjson.dumps(start), orjson.dumps(startdocs.stop(start, number))
    return Record(layout.run_directory(start), 1, "sealed", *texts, ("primary/00000.parquet", "baseline/00000.parquet"))


def _fill_bare(crowd: Crowd) -> dict[str, float]:
    connection = sqlite3.connect(crowd.bare, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(_TABLES)
    costs = {"runs": 0.0, "indexes": 0.0}
    for some in in_batches(enumerate(startdocs.starts(crowd.count), 1), 10_000):
        rows = [
            (row, layout.run_directory(start), start["uid"], start["time"], start["scan_id"], orjson.dumps(start))
            for row, start in some
        ]
        gc.collect()
        begin = time.process_time()
        with connection:
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
        costs["runs"] += time.process_time() - begin
        begin = time.process_time()
        facts: set[tuple[str, Any, int]] = set()
        words = []
        for row, *_, text in rows:
            found = list(leaves(orjson.loads(text)))
            words.append((row, "\n".join(value for _, value in found if isinstance(value, str))))
            facts.update((key, value, row) for key, value in found)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", words)
        connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?, ?)", facts)
        connection.execute("COMMIT")
        costs["indexes"] += time.process_time() - begin
    connection.close()
    return costs


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Give lists of so many items, the last one shorter."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value of a document that is no container, with its dotted path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    else:
        yield path, value


def size_of(path: str) -> int:
    """Give the bytes of a file, or of the files below a directory."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
