"""Searching end to end: every face gives the same answers, whatever the index is like, and never late."""

import contextlib
import gc
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import factories as make
from filebroker import Broker, temp
from filebroker.cataloging.fields import WithField
from filebroker.cataloging.run import Run
from filebroker.commands.main import main
from filebroker.finding import batches, indexing, library, query as query_module
from filebroker.finding.parsing import OPERATORS, parse
from filebroker.finding.query import Subject
from filebroker.finding.search import Search
from filebroker.finding.text import parse_text
from filebroker.ground.errors import (
    AmbiguousPrefix,
    DamagedRunWarning,
    FilebrokerError,
    InvalidLookup,
    InvalidQuery,
    NotEnoughRuns,
    QueryTimeout,
    RunNotFound,
)

T0 = make.T0
DAY = 86_400.0
NOT_A_NUMBER = float("nan")


@pytest.fixture
def db() -> Iterator[Broker]:
    broker = temp()
    yield broker
    broker.close()


@pytest.fixture(autouse=True)
def no_indexing_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests say when something is indexed."""
    monkeypatch.setattr(indexing, "MANY_PENDING", sys.maxsize)


def record(db: Broker, stop: dict[str, Any] | None = None, **keys: Any) -> str:
    """Record a run without events; give its uid."""
    begun = make.start(**keys)
    db.insert("start", begun)
    db.insert("stop", make.stop(begun, **(stop or {})))
    return begun["uid"]


def update_index(db: Broker) -> int:
    return db.catalog.library.update_index()


def uids(headers: Any) -> list[str]:
    return [header.uid for header in headers]


# -- the same answers everywhere


def documents() -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Give start documents as beamlines write them, and odd ones among them, each with its stop document."""
    choose = random.Random(11)
    people, samples = ["Ann Lee", "Jörg Müller", "rob", "Roberta"], ["LaB6", "Si", "Fe2O3 film", "sample_12", "Au"]
    comments = ["a good sample", "bad alignment", "x-ray of the film", "good, at 5 K", "test", "", "not so good"]
    pairs = []
    for number in range(384):
        plan = choose.choice(["scan", "count", "grid_scan", "tune"])
        start = make.start(
            uid=f"{choose.getrandbits(64):016x}-{number}",
            time=T0 + number * 3600 + choose.random(),
            scan_id=number % 150,
            plan_name=plan,
            user=choose.choice(people),
            comment=choose.choice(comments),
            motors=choose.sample(["th", "tth", "sx", "sy"], choose.randint(0, 3)),
            num_points=choose.choice([1, 11, 21, 101.0]),
            sample={"name": choose.choice(samples), "temp": choose.choice([5, 77.5, 300, None])},
            beamline_config={"energy": round(choose.uniform(5, 25), 3), "slits": [{"gap": choose.randint(0, 3)}] * 2},
            proposal=choose.choice(["GUP-1234", "GUP-12", 1234]),
            calibrated=choose.random() < 0.5,
        )
        for key in choose.sample(["scan_id", "comment", "sample", "user", "num_points"], choose.choice([0, 0, 1])):
            del start[key]
        reason = choose.choice(["", "", "", "beam dump", "Request by user"])
        pairs.append((start, None if number % 50 == 7 else make.stop(start, reason=reason)))
    odd: list[dict[str, Any]] = [
        {"a.b": 1, "a": {"b": 2}, "sample.name": "dotted"},
        {"$price": 3, "nested": {"$in": [1], "deep.er": "hidden"}},
        {"": "no key", "a": {"": {"": 1}}, "comment": "nul\x00inside"},
        {"num_points": NOT_A_NUMBER, "sample": {"temp": math.inf}},
        {"num_points": 2**70, "sample": {"temp": -0.0}, "scan_id": 2**60 + 1},
        {"num_points": None, "sample": None, "user": None, "motors": None, "comment": None},
        {"motors": [["th", "sx"], [[]], {"name": "th"}], "num_points": [11, [21]], "sample": [{"name": "Si"}, "LaB6"]},
        {"comment": "STRASSE Straße Fe₂O₃ 日本 naïve e\u0301te\u0301 µm", "sample": {"name": "ﬁlm"}},
        {"comment": "half a pair \ud800 good", "ke\udc00y": "\udfff", "user": "rob\ud800"},
        {f"key{number}": number for number in range(10_000)},
        {"comment": "lorem ipsum dolor " * 60_000, "log": "The last word is good"},
        {"comment": {"text": [{"deep": ["a good", "sample"]}]}, "num_points": "11", "calibrated": 1},
        {"comment": "<b>good</b> {{ 7*7 }} \x1b[2J", "plan_name": "__import__('os')", "motors": {}},
        {"comment": "x" * 3000 + " good", "sample": {"name": "Si" * 40}},
        {"scan_id": "17", "num_points": True, "sample": [], "beamline_config": 5},
        {"scan_id": -3, "plan_name": ["scan", "count"], "time": 12, "user": "Ann  Lee"},
    ]
    for number, keys in enumerate(odd):
        start = make.start(uid=f"odd{number}", time=T0 + number * 30_000 + 0.5) | keys
        pairs.insert(number * 24, (start, make.stop(start, exit_status="abort", reason="odd one")))
    return pairs


PAIRS = documents()

#: The keywords of a search.  "text" is the first argument of a broker.
SEARCHES: list[dict[str, Any]] = [
    {},
    {"text": "good"},
    {"text": "GOOD sample"},
    {"text": '"good sample"'},
    {"text": '"a good" "sample"'},
    {"text": "good -sample"},
    {"text": "-good"},
    {"text": '-"a good sample" -bad'},
    {"text": "goo"},
    {"text": "rob*"},
    {"text": "user:rob*"},
    {"text": "sample.name:LaB6"},
    {"text": "muller"},
    {"text": "fe2o3"},
    {"text": "strasse"},
    {"text": "日本"},
    {"text": "x-ray"},
    {"text": "sample_12"},
    {"text": "5 K"},
    {"text": "ipsum"},
    {"text": "beam dump"},
    {"text": '"request by user"'},
    {"text": "plan_name"},
    {"text": "\ud800 ( [ AND \\ * ? ~ : \x00"},
    {"text": "   "},
    {"text": '"*"'},
    {"plan_name": "scan"},
    {"plan_name": "sca"},
    {"plan_name": "scan", "user": "rob"},
    {"sample.name": "LaB6"},
    {"sample": {"temp": 5, "name": "LaB6"}},
    {"motors": "th"},
    {"motors": ["th", "sx"]},
    {"motors": []},
    {"motors.0": "th"},
    {"motors": {"$all": ["th", "sx"]}},
    {"motors": {"$size": 2}},
    {"motors": {"$elemMatch": {"name": "th"}}},
    {"beamline_config.slits.gap": 3},
    {"beamline_config.slits": {"$elemMatch": {"gap": {"$gt": 1, "$lt": 3}}}},
    {"beamline_config.energy": {"$gte": 10, "$lt": 12.5}},
    {"num_points": 11},
    {"num_points": 1},
    {"num_points": True},
    {"num_points": "11"},
    {"num_points": 2**70},
    {"num_points": NOT_A_NUMBER},
    {"num_points": None},
    {"num_points": {"$ne": 11}},
    {"num_points": {"$in": [1, 101, "11", None]}},
    {"num_points": {"$nin": [1, 101]}},
    {"num_points": {"$exists": True, "$nin": [1, 11]}},
    {"num_points": {"$gt": 20}},
    {"num_points": {"$not": {"$gt": 20}}},
    {"num_points": {"$mod": [10, 1]}},
    {"num_points": {"$type": "string"}},
    {"sample": {"$exists": False}},
    {"sample.temp": None},
    {"sample.temp": 0},
    {"sample.name": {"$regex": "^Fe"}},
    {"sample.name": {"$regex": "si", "$options": "i"}},
    {"sample.name": re.compile("o3", re.IGNORECASE)},
    {"sample.name": "Si" * 40},
    {"user": {"$not": {"$regex": "^(rob|Ann)"}}},
    {"proposal": {"$in": ["GUP-12", 1234]}},
    {"calibrated": True},
    {"calibrated": 1},
    {"scan_id": 17},
    {"scan_id": {"$gt": 140}},
    {"scan_id": 2**60 + 1},
    {"a.b": 1},
    {"a.b": 2},
    {"a.": {"": 1}},
    {"nested.deep.er": "hidden"},
    {"key777": 777},
    {"key9999": {"$gte": 9999}},
    {"uid": "odd3"},
    {"uid": "odd"},
    {"uid": {"$regex": "^odd1"}},
    {"$or": [{"plan_name": "tune"}, {"num_points": {"$gt": 1e9}}]},
    {"$and": [{"plan_name": {"$in": ["scan", "tune"]}}, {"$nor": [{"user": "rob"}, {"motors": "th"}]}]},
    {"$or": [{"$text": {"$search": "ipsum"}}, {"plan_name": "tune", "calibrated": False}]},
    {"since": T0 + 5 * DAY},
    {"until": T0},
    {"since": PAIRS[100][0]["time"], "until": PAIRS[300][0]["time"]},
    {"since": T0 + 10 * DAY, "until": T0},
    {"time": {"$lt": T0}},
    {"time": {"$gt": T0 + DAY, "$lte": T0 + 3 * DAY}, "until": T0 + 2 * DAY},
    {"text": "good", "plan_name": "scan"},
    {"text": '"good sample" -bad', "num_points": {"$gte": 11}, "since": T0 + 3 * DAY},
    {"text": "user", "since": T0 + DAY, "until": T0 + 12 * DAY},
    {"text": "-good", "motors": {"$ne": "th"}, "$or": [{"user": "rob"}, {"scan_id": {"$lt": 40}}]},
]


def split(search: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide a search into the query and what is given beside it."""
    beside = {key: search[key] for key in ("text", "since", "until") if key in search}
    return {key: value for key, value in search.items() if key not in beside}, beside


def found_by_hand(search: dict[str, Any], pairs: list[Any] = PAIRS) -> list[str]:
    """Look at every document without any of the machinery; give the uids, newest first."""
    query, beside = split(search)
    found = []
    for start, stop in pairs:
        reason = (stop or {}).get("reason", "")
        if (
            beside.get("since", -math.inf) <= start["time"] <= beside.get("until", math.inf)
            and ("text" not in beside or parse_text(beside["text"]).matches(start, reason))
            and parse(query).holds(Subject(start, reason))
        ):
            found.append(start)
    return [start["uid"] for start in sorted(found, key=lambda start: -start["time"])]


#: A few of them, of all kinds.
SAMPLE = slice(1, None, 11)
EXPECTED = [found_by_hand(search) for search in SEARCHES]


def check(ask: Callable[[dict[str, Any]], tuple[list[str], int]], part: slice = slice(None)) -> None:
    """Ask the searches; each has to give the right uids in the right order, and their number."""
    for search, expected in zip(SEARCHES[part], EXPECTED[part], strict=True):
        found, length = ask(search)
        wrong = set(found) ^ set(expected)
        assert not wrong, f"{search} is wrong about {len(wrong)} runs, among them {sorted(wrong)[:5]}"
        assert found == expected, f"{search} gives another order"
        assert length == len(expected), f"{search} gives {len(expected)} runs, and says {length}"


def by_catalog(db: Broker) -> Callable[[dict[str, Any]], tuple[list[str], int]]:
    def ask(search: dict[str, Any]) -> tuple[list[str], int]:
        query, beside = split(search)
        found = db.catalog.search(query, **beside)
        return [item.entry.uid for item in found.documents()], len(found)

    return ask


def by_broker(db: Broker) -> Callable[[dict[str, Any]], tuple[list[str], int]]:
    def ask(search: dict[str, Any]) -> tuple[list[str], int]:
        query = dict(search)
        words = [query.pop("text")] if "text" in query else []
        return uids(db(*words, **query)), len(db(*words, **query))

    return ask


def by_chained_searches(db: Broker) -> Callable[[dict[str, Any]], tuple[list[str], int]]:
    def ask(search: dict[str, Any]) -> tuple[list[str], int]:
        query, beside = split(search)
        found = db.v2
        for key, value in query.items():
            found = found.search(MappingProxyType({key: value}))
        if "text" in beside:
            found = found.search({"$text": {"$search": beside["text"]}})
        for key, operator in (("since", "$gte"), ("until", "$lte")):
            if key in beside:
                found = found.search({"time": {operator: beside[key]}})
        if len(found) < 40:
            assert [uid for uid, _ in found.items()] == list(found)
        return list(found), len(found)

    return ask


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of all documents."""
    place = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILEBROKER_CACHE", "")
        db = Broker(place / "runs", sync="never")
        insert(db, PAIRS)
        db.close()
    return place / "runs"


def insert(db: Broker, pairs: list[Any]) -> None:
    for start, stop in pairs:
        db.insert("start", start)
        if stop is not None:
            db.insert("stop", stop)


@pytest.fixture
def opened() -> Iterator[Callable[..., Broker]]:
    """Open catalogs, with a cache of the test's own."""
    with contextlib.ExitStack() as stack:

        def open_one(place: Path, **options: Any) -> Broker:
            db = Broker(place, **options)
            stack.callback(lambda: db.catalog.library.indexing.close())
            stack.callback(db.close)
            return db

        yield open_one


@pytest.fixture
def reader(recorded: Path, opened: Callable[..., Broker]) -> Broker:
    """The catalog of all documents."""
    return opened(recorded, read_only=True)


def index_directory(db: Broker) -> Path:
    (found,) = Path(db.catalog.library.directory).glob("index-*")
    return found


def explained(db: Broker, **search: Any) -> Any:
    return db(**search).explain()


def test_the_searches_are_worth_asking() -> None:
    sizes = [len(expected) for expected in EXPECTED]
    assert sum(size == 0 for size in sizes) < 12
    assert sum(0 < size < len(PAIRS) / 2 for size in sizes) > 60


@pytest.mark.parametrize("face", [by_catalog, by_broker, by_chained_searches])
def test_every_face_answers_as_a_plain_scan_does(reader: Broker, face: Callable) -> None:
    check(face(reader), SAMPLE)
    assert update_index(reader) == len(PAIRS)
    check(face(reader))


def test_the_command_answers_as_a_plain_scan_does(recorded: Path, capsys: pytest.CaptureFixture) -> None:
    for search, expected in zip(SEARCHES, EXPECTED, strict=True):
        if not all(isinstance(value, str) and re.fullmatch(r"\w[^\W\d].*", value) for value in search.values()):
            continue
        words = [search["text"]] if "text" in search else []
        values = [f"{key}={value}" for key, value in search.items() if key != "text"]
        assert main(["ls", str(recorded), *words, *values, "-n", "1000"]) == 0
        lines = capsys.readouterr().out.splitlines()[1:]
        assert [line.split("  ")[0] for line in lines] == [uid[:8] for uid in expected], search


def test_before_there_is_an_index_every_document_is_looked_at(reader: Broker) -> None:
    check(by_catalog(reader))
    told = explained(reader, plan_name="scan")
    assert (told.indexed, told.proposed, told.looked_at, told.problem) == (0, 0, len(PAIRS), "")
    assert told.answers == len(found_by_hand({"plan_name": "scan"}))
    assert not list(Path(reader.catalog.library.directory).glob("index-*/parts"))


def test_with_the_complete_index_few_documents_are_looked_at(reader: Broker) -> None:
    update_index(reader)
    check(by_catalog(reader))
    told = explained(reader, plan_name="scan")
    assert (told.runs, told.in_range, told.indexed, told.problem) == (len(PAIRS), len(PAIRS), len(PAIRS), "")
    assert told.exact
    assert told.proposed >= told.answers == len(found_by_hand({"plan_name": "scan"}))
    assert told.looked_at <= 3  # those that are too large to be indexed
    told = explained(reader, **{"sample.name": {"$regex": "Fe"}})
    assert not told.exact
    assert told.answers <= told.looked_at <= told.proposed < len(PAIRS)
    told = explained(reader, since=T0 + DAY, until=T0 + 2 * DAY)
    assert told.in_range == told.answers == len(found_by_hand({"since": T0 + DAY, "until": T0 + 2 * DAY}))
    assert told.looked_at == 0
    assert "not needed" in str(told)


def test_while_the_index_is_half_built_answers_are_the_same(reader: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FULL", 64)
    monkeypatch.setattr(batches, "CHUNK", 16)
    steps, indexed = iter(range(20)), 0

    def proceed() -> bool:
        return next(steps, None) is not None

    indexed = reader.catalog.library.update_index(proceed)
    assert 0 < indexed < len(PAIRS)
    check(by_catalog(reader))
    told = explained(reader, plan_name="scan")
    assert (told.indexed, told.problem) == (indexed, "")
    assert len(PAIRS) - indexed <= told.looked_at < len(PAIRS)
    assert indexed + update_index(reader) == len(PAIRS)
    check(by_catalog(reader), SAMPLE)
    assert explained(reader, plan_name="scan").indexed == len(PAIRS)


def test_an_index_that_was_deleted_is_done_without(reader: Broker) -> None:
    update_index(reader)
    assert explained(reader, plan_name="scan").indexed == len(PAIRS)
    shutil.rmtree(index_directory(reader))
    check(by_catalog(reader))
    told = explained(reader, plan_name="scan")
    assert (told.indexed, told.looked_at) == (0, len(PAIRS))
    assert update_index(reader) == len(PAIRS)
    check(by_catalog(reader), SAMPLE)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, (T0, T0))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip, truncate, os.remove])
@pytest.mark.parametrize("name", ["index.json", "*.trm", "*.pst", "rows.npy"])
def test_a_damaged_index_is_done_without_and_built_anew(
    recorded: Path, opened: Callable[..., Broker], name: str, damage: Callable[[Path], None]
) -> None:
    reader = opened(recorded, read_only=True)
    update_index(reader)
    for path in index_directory(reader).rglob(name):
        damage(path)
    check(by_catalog(reader), SAMPLE)
    told = explained(reader, plan_name="scan")
    assert (told.indexed, told.looked_at) == (0, len(PAIRS))
    assert bool(told.problem) == (name != "index.json" or damage is not os.remove)
    assert update_index(reader) == len(PAIRS)
    check(by_catalog(reader), SAMPLE)
    assert explained(reader, plan_name="scan").problem == ""


def test_an_index_of_another_version_is_done_without_and_built_anew(reader: Broker) -> None:
    update_index(reader)
    seal = index_directory(reader) / "index.json"
    content = json.loads(seal.read_bytes().partition(b"\n")[2])
    text = json.dumps({**content, "schema": 0}).encode()
    seal.write_bytes(b"%08x\n%s\n" % (zlib.crc32(text), text))
    check(by_catalog(reader), SAMPLE)
    told = explained(reader, plan_name="scan")
    assert told.indexed == 0
    assert "another version" in told.problem
    assert update_index(reader) == len(PAIRS)
    assert explained(reader, plan_name="scan").problem == ""


def test_runs_recorded_after_the_index_was_built_are_found(tmp_path: Path, opened: Callable[..., Broker]) -> None:
    writer = opened(tmp_path, sync="never")
    early, late = PAIRS[:300], PAIRS[300:]
    for start, stop in early:
        writer.insert("start", start)
        if stop is not None and stop["reason"] != "beam dump":
            writer.insert("stop", stop)
    reader = opened(tmp_path, read_only=True)
    assert update_index(reader) == len(early)
    stopped_later = 0
    for _, stop in early:
        if stop is not None and stop["reason"] == "beam dump":
            writer.insert("stop", stop)
            stopped_later += 1
    insert(writer, late)
    check(by_catalog(reader))
    check(by_broker(writer), SAMPLE)
    told = explained(reader, plan_name="scan")
    assert (told.runs, told.indexed) == (len(PAIRS), len(early) - stopped_later)
    assert told.looked_at >= len(late) + stopped_later > 0
    assert update_index(reader) == len(late) + stopped_later
    check(by_catalog(reader), SAMPLE)


def test_without_a_cache_everything_is_found_as_well(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE", "")
    reader = Broker(recorded, read_only=True)
    check(by_catalog(reader))
    told = explained(reader, plan_name="scan")
    assert (told.indexed, told.looked_at) == (0, len(PAIRS))


def test_a_reader_that_may_not_write_its_index_gets_right_answers(
    reader: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filebroker.finding.index.publish", fail)
    assert update_index(reader) == 0
    check(by_catalog(reader), SAMPLE)
    assert "no space" in explained(reader, plan_name="scan").problem


def fail(*_: Any, **__: Any) -> None:
    raise OSError(28, "no space left on device")


def test_a_catalog_that_is_closed_and_forgotten_leaves_no_file_open(
    recorded: Path,
) -> None:
    reader = Broker(recorded, read_only=True)
    update_index(reader)
    assert explained(reader, plan_name="scan").indexed == len(PAIRS)
    reader.close()
    del reader
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    assert [warning for warning in caught if "index-" in str(warning.message)] == []


def test_reading_has_the_index_built_in_the_background_and_inserting_never_has(
    reader: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "MANY_PENDING", 8)
    writer = Broker(tmp_path)
    for number in range(12):
        record(writer, scan_id=number)
    assert not list(Path(writer.catalog.library.directory).glob("index-*"))
    writer.close()
    expected = found_by_hand({"plan_name": "scan"})
    assert uids(reader(plan_name="scan")) == expected
    reader.catalog.library.housekeeper.wait()
    assert explained(reader, plan_name="scan").indexed == len(PAIRS)
    assert uids(reader(plan_name="scan")) == expected


# -- found at once

#: What finds a run that began, and what finds one that stopped, whichever process asks.
BEGUN = [
    "db('blorft')",
    "db('now then')",
    "db('\"blorft now\"')",
    "db('blo*')",
    "db('sample.name:Unobtainium')",
    "db('-good -sample', uid='fresh')",
    "db(plan_name='blorft')",
    "db(**{'sample.name': 'Unobtainium'})",
    "db(motors='new')",
    "db(scan_id=4711)",
    "db(num_points={'$gte': 4711})",
    "db(plan_name={'$regex': '^blor'})",
    "db(plan_name={'$nin': ['count', 'scan', 'tune', 'grid_scan']})",
    "db(sample={'$exists': True})",
    "db(uid='fresh')",
    "db(since=NOW)",
    "db(time=NOW)",
    "db.v2.search({'plan_name': 'blorft'}).search({'$text': {'$search': 'blorft'}}).v1()",
    "db.v2.search({'plan_name': 'blorft'}).v1[-1:]",
    "[db.v2.search({'motors': 'new'}).v1['fre']]",
    "[db[-1]]",
    "[db['fresh']]",
    "[db['fre']]",
    "[db[4711]]",
]
STOPPED = [*BEGUN, "db('zwiebel')", "db('\"because of the zwiebel\"')", "db('zwie*', scan_id=4711)"]

CHILD = """
import sys
from filebroker import Broker
from filebroker.finding import indexing
indexing.MANY_PENDING = sys.maxsize
NOW = float(sys.argv[2])
db = Broker(sys.argv[1], read_only=True)
list(db()), list(db("good")), list(db.v2.search({"plan_name": "scan"}))
print(db.catalog.library.update_index() if sys.argv[3] else 0, flush=True)
for line in sys.stdin:
    print([header.uid for header in eval(line)], flush=True)
"""


@pytest.mark.parametrize("indexed", [False, True], ids=["without an index", "with an index"])
def test_a_run_is_found_by_every_search_once_insert_returned_here_and_elsewhere(
    tmp_path: Path, opened: Callable[..., Broker], indexed: bool
) -> None:
    db = opened(tmp_path)
    insert(db, PAIRS[:40])
    begun = make.start(
        **{"uid": "fresh", "time": T0 + 999 * DAY, "scan_id": 4711, "plan_name": "blorft", "num_points": 4711},
        **{"comment": "the blorft now", "sample": {"name": "Unobtainium"}, "motors": ["new"]},
    )
    command = [sys.executable, "-c", CHILD, str(tmp_path), repr(begun["time"]), "yes" * indexed]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def ask_there(question: str) -> list[str]:
            print(question, file=child.stdin, flush=True)
            return eval(child.stdout.readline())

        def ask_here(question: str) -> list[str]:
            return uids(eval(question, {"db": db, "NOW": begun["time"]}))

        assert int(child.stdout.readline()) == (40 if indexed else 0)
        expected: dict[str, list[str]] = {}
        for question in STOPPED:
            with contextlib.suppress(LookupError):
                expected[question] = ask_here(question)
        db.insert("start", begun)
        for question in BEGUN:
            assert ask_there(question)[0] == ask_here(question)[0] == "fresh", question
        for question in STOPPED[len(BEGUN) :]:
            assert ask_there(question) == ask_here(question) == [], question
        db.insert("stop", make.stop(begun, reason="because of the zwiebel"))
        for question in STOPPED:
            assert ask_there(question)[0] == ask_here(question)[0] == "fresh", question
            assert ask_there(question)[1:] == (expected.get(question) or [])[: len(ask_there(question)) - 1], question
        child.stdin.close()


def test_a_run_that_stops_between_two_searches_is_found_by_its_reason(db: Broker) -> None:
    begun = make.start()
    db.insert("start", begun)
    results = db("vacuum")
    assert uids(results) == []
    db.insert("stop", make.stop(begun, reason="lost vacuum"))
    assert uids(results) == [begun["uid"]]
    assert len(results) == 1


# -- lookups that test_contract_broker.py does not have


@pytest.fixture
def few(db: Broker) -> Broker:
    """Five runs whose uids and scan_ids are known, a second after each other."""
    for number, (uid, scan_id) in enumerate([("aaaa1", 1), ("aaab2", 2), ("b3", 1), ("1234567", 5), ("77aa", 0)]):
        record(db, uid=uid, time=T0 + number, scan_id=scan_id, plan_name=f"plan{number}")
    return db


#: What databroker 1.2.5 gives.
LOOKUPS: list[tuple[Any, str]] = [
    (True, "b3"),
    (False, "77aa"),
    ("+1", "b3"),
    (" 1", "b3"),
    ("-1 ", "77aa"),
    ("-5", "aaaa1"),
    ("0", "77aa"),
    ("１", "b3"),  # noqa: RUF001
    (np.int64(-2), "1234567"),
    (np.uint8(2), "aaab2"),
    ("77a", "77aa"),
    ("aaab", "aaab2"),
    ("aaaa1", "aaaa1"),
]


@pytest.mark.parametrize(("key", "uid"), LOOKUPS, ids=repr)
def test_both_faces_look_up_alike(few: Broker, key: Any, uid: str) -> None:
    assert few[key].uid == few.v2[key].uid == few.v2.search({}).v1[key].uid == uid


@pytest.mark.parametrize(("key", "uid"), [(1.7, "b3"), (-1.5, "77aa"), (np.float64(1), "b3"), (np.bool_(True), "b3")])
def test_numbers_are_cut_to_integers(few: Broker, key: Any, uid: str) -> None:
    assert few[key].uid == few.v2[key].uid == uid


@pytest.mark.parametrize(("prefix", "uid"), [("12", "1234567"), ("1234567", "1234567"), ("77", "77aa")])
def test_digits_that_are_no_scan_id_may_begin_a_uid(few: Broker, prefix: str, uid: str) -> None:
    """A databroker finds none of these; in the other direction a scan_id wins."""
    assert few[prefix].uid == few.v2[prefix].uid == uid
    record(few, uid="5xyz", scan_id=4, time=T0 - 5)
    assert few["5"].uid == "1234567"


def test_digits_that_are_neither_are_told_as_both(few: Broker) -> None:
    with pytest.raises(KeyError, match=r"No run with scan_id=99 .* and no uid begins with '99'"):
        few["99"]


SLICES: list[tuple[slice, list[str]]] = [
    (slice(-1, -4, -1), ["b3", "1234567", "77aa"]),
    (slice(-4, -1, -1), []),
    (slice(-3, None, -1), []),
    (slice(-1, 0, -1), []),
    (slice(-3, -1, 2), ["b3"]),
    (slice(-5, 0, 2), ["77aa", "b3", "aaaa1"]),
    (slice(-2, -5), []),
]


@pytest.mark.parametrize(("key", "expected"), SLICES, ids=str)
def test_slices_with_steps_are_as_databrokers(few: Broker, key: slice, expected: list[str]) -> None:
    assert uids(few[key]) == expected


def test_lists_may_hold_slices_and_mappings_give_their_keys(few: Broker) -> None:
    newest, named, rest = few[[-1, "b3", slice(-2, 0)]]
    assert [newest.uid, named.uid, *uids(rest)] == ["77aa", "b3", "77aa", "1234567"]
    assert uids(few[{"b3": 1}]) == ["b3"]
    assert few[{}] == []


@pytest.mark.parametrize(
    "key", ["a*", ".", "*", "---1", "9" * 5000, "²", "\ud800", "a\x00", "AAAA1", "aaaa1 ", "1_0", "%", "_"], ids=ascii
)
def test_strings_that_begin_no_uid_are_key_errors(few: Broker, key: str) -> None:
    for ask in (few, few.v2, few.v2.search({}), few.v2.search({}).v1):
        with pytest.raises(RunNotFound):
            ask[key]
    assert key not in few.v2


@pytest.mark.parametrize("key", [2**70, str(2**70), -(2**40), "-999"], ids=str)
def test_numbers_beyond_all_runs_are_lookup_errors(few: Broker, key: Any) -> None:
    expected = (NotEnoughRuns, IndexError) if str(key).startswith("-") else (RunNotFound, KeyError)
    for ask in (few, few.v2, few.v2.search({"scan_id": 1})):
        for kind in expected:
            with pytest.raises(kind):
                ask[key]


@pytest.mark.parametrize("key", [None, b"a", object(), np.array(1)], ids=["None", "bytes", "object", "array"])
def test_what_is_no_key_is_a_type_error(few: Broker, key: Any) -> None:
    with pytest.raises(TypeError):
        few[key]


@pytest.mark.parametrize("key", [slice(-3, None), ["b3"], {"b3"}, None, b"b3"], ids=str)
def test_version_2_takes_numbers_and_uids_only(few: Broker, key: Any) -> None:
    with pytest.raises(TypeError, match="uid"):
        few.v2[key]


def test_an_ambiguous_prefix_lists_uids_dates_and_plans_newest_first(
    db: Broker, set_zone: Callable[[str], None]
) -> None:
    set_zone("America/New_York")
    for number in range(3):
        record(db, uid=f"abc{number}", time=T0 + number * DAY, scan_id=number, plan_name=f"plan{number}")
    del_scan_id = make.start(uid="abcd", time=T0 - DAY)
    for key in ("scan_id", "plan_name"):
        del del_scan_id[key]
    db.insert("start", del_scan_id)
    record(db, uid="other")
    for ask in (db, db.v2, db.v2.search({}), db.v2.search({}).v1):
        with pytest.raises(AmbiguousPrefix) as raised:
            ask["abc"]
        first, *lines = str(raised.value).splitlines()
        assert first.startswith("'abc' is the beginning of 4 uids")
        assert [line.split()[0] for line in lines] == ["abc2", "abc1", "abc0", "abcd"]
        assert "2025-11-24 06:12:05-05:00" in lines[0]
        assert lines[0].endswith("plan2")
    with pytest.raises(AmbiguousPrefix, match="2 uids"):
        db.v2.search({"scan_id": {"$gt": 0}})["abc"]
    assert db.v2.search({"scan_id": 1})["abc"].uid == "abc1"


def test_of_many_candidates_ten_are_listed(db: Broker) -> None:
    for number in range(12):
        record(db, uid=f"abc{number:02}", time=T0 + number)
    with pytest.raises(ValueError, match="more than 10") as raised:
        db["abc"]
    lines = str(raised.value).splitlines()[1:]
    assert [line.split()[0] for line in lines] == [f"abc{number:02}" for number in range(11, 1, -1)] + ["..."]


def test_lookups_on_what_a_search_found_see_those_runs_only(few: Broker) -> None:
    found = few.v2.search({"scan_id": 1})
    assert found.name == "search results"
    assert list(found) == list(found.keys()) == uids(found.v1()) == ["b3", "aaaa1"]
    assert len(found) == 2
    assert [run.uid for run in found.values()] == [uid for uid, _ in found.items()] == ["b3", "aaaa1"]
    for ask in (found, found.v1):
        assert [ask[key].uid for key in (-1, -2, 1, "1", "b", "b3", "aaaa")] == ["b3", "aaaa1"] + ["b3"] * 4 + ["aaaa1"]
        with pytest.raises(IndexError, match=r"Catalog only contains 2 runs\."):
            ask[-3]
        for key in (2, 0, "aaab2", "aaab", "77aa", "1234567"):
            with pytest.raises(KeyError):
                ask[key]
    assert uids(found.v1[-2:]) == ["b3", "aaaa1"]
    assert "b3" in found
    assert "b" not in found
    assert "aaab2" not in found
    assert "aaab2" in few.v2
    assert uids(found.v1("plan0")) == ["aaaa1"]
    assert list(found.search({"plan_name": "plan2"})) == ["b3"]
    assert found.v1.v2 is found
    assert found.v2 is found


def test_searches_are_chained_by_and(few: Broker) -> None:
    assert list(few.v2.search({"scan_id": 1}).search({"scan_id": 2})) == []
    assert list(few.v2.search({"scan_id": {"$lt": 3}}).search({"scan_id": {"$gt": 0}}).search({})) == [
        *("b3", "aaab2", "aaaa1"),
    ]
    assert list(few.v2.search([("scan_id", 1)])) == ["b3", "aaaa1"]
    assert len(few.v2.search({"scan_id": 9})) == 0
    assert not few.v2.search({"scan_id": 9})


@pytest.mark.parametrize("query", [None, 5, "ab", [1], {1: 2}], ids=str)
def test_what_is_no_mapping_is_no_query(few: Broker, query: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as raised:
        few.v2.search(query)
    assert isinstance(raised.value, FilebrokerError)


# -- since, until and the old names


def test_both_ends_are_included(few: Broker) -> None:
    assert uids(few(since=T0 + 1, until=T0 + 3)) == ["1234567", "b3", "aaab2"]
    assert uids(few(since=T0 + 3, until=T0 + 3)) == ["1234567"]
    assert uids(few(since=T0 + 3.001)) == ["77aa"]
    assert uids(few(until=T0 - 0.001)) == []
    assert uids(few(since=T0 + 3, until=T0 + 1)) == []
    assert len(few(since=T0 + 1, until=T0 + 3)) == 3


def test_none_is_no_limit_and_0_is_1970(few: Broker) -> None:
    record(few, uid="early", time=-5.5)
    assert len(few(since=None, until=None)) == 6
    assert len(few(since=0)) == 5
    assert uids(few(until=0)) == ["early"]


def test_times_and_conditions_on_time_are_put_together(few: Broker) -> None:
    assert uids(few(since=T0 + 1, time={"$lt": T0 + 3})) == ["b3", "aaab2"]
    assert uids(few("plan1 plan2 plan4", since=T0 + 2)) == ["77aa", "b3"]


@pytest.mark.parametrize(("old", "new"), [("start_time", "since"), ("stop_time", "until")])
def test_the_old_names_work_with_a_warning_and_not_beside_the_new(few: Broker, old: str, new: str) -> None:
    with pytest.warns(UserWarning, match=f"{old} .* {new}") as caught:
        results = few(**{old: T0 + 2})
    assert [warning.filename for warning in caught] == [__file__]
    assert uids(results) == uids(few(**{new: T0 + 2}))
    with pytest.raises(TypeError, match=old):
        few(**{old: T0, new: T0})


@pytest.mark.parametrize("time", ["yesterday", "2025-13", "2025-04-15 03:", str(T0), "", [1], True, NOT_A_NUMBER])
def test_what_is_no_time_is_refused_at_once(few: Broker, time: Any) -> None:
    for search in (few, few.catalog.search):
        with pytest.raises(InvalidQuery, match="failed to parse time" if isinstance(time, str) else "no time"):
            search(since=time)


# -- filters and aliases


def test_filters_are_put_to_every_search_and_to_no_lookup(few: Broker) -> None:
    few.add_filter(scan_id=1)
    assert uids(few()) == ["b3", "aaaa1"]
    assert uids(few(plan_name="plan0")) == uids(few("plan0 plan1")) == uids(few(until=T0)) == ["aaaa1"]
    assert uids(few(scan_id=2)) == []
    assert few[-1].uid == "77aa"
    assert few[2].uid == "aaab2"
    assert len(few.v2) == 5
    few.add_filter(scan_id=2, since=T0)
    assert few.filters == {"scan_id": 2, "since": T0}
    assert uids(few()) == ["aaab2"]
    few.clear_filters(ignored=1)
    assert few.filters == {}
    assert len(few()) == 5


def test_filters_keep_what_was_given(few: Broker) -> None:
    few.add_filter(since="2017")
    few.add_filter(since="2016", until="2017")
    assert len(few()) == 0
    assert few.filters == {"since": "2016", "until": "2017"}
    few.clear_filters()
    few.filters.update(start_time="2016", data_key="det")
    with pytest.warns(UserWarning, match="since"):
        assert list(few()) == []
    assert few.filters == {"start_time": "2016", "data_key": "det"}


def test_filters_narrow_aliases_and_results_keep_theirs(few: Broker) -> None:
    before = few()
    few.alias("ones", scan_id=1)
    few.add_filter(plan_name={"$ne": "plan0"})
    assert uids(few.ones) == ["b3"]
    assert len(before) == 5
    few.add_filter(data_key="det")
    assert uids(few.ones) == []


def test_an_alias_is_a_search_of_a_name(few: Broker) -> None:
    few.alias("ones", scan_id=1)
    assert uids(few.ones) == uids(few(scan_id=1)) == ["b3", "aaaa1"]
    assert few.aliases == {"ones": {"scan_id": 1}}
    few.alias("ones", text_search="plan0", since=T0)
    assert uids(few.ones) == ["aaaa1"]
    assert "ones" in dir(few)
    with pytest.raises(AttributeError, match="twos"):
        few.twos  # noqa: B018


def test_a_dynamic_alias_is_asked_each_time(few: Broker) -> None:
    wanted: dict[str, Any] = {"scan_id": 1}
    few.dynamic_alias("wanted", lambda: wanted)
    assert uids(few.wanted) == ["b3", "aaaa1"]
    wanted["plan_name"] = "plan0"
    assert uids(few.wanted) == ["aaaa1"]


@pytest.mark.parametrize("name", ["get_events", "v2", "filters", "insert", "name", "prepare_hook", "catalog"])
def test_an_alias_hides_nothing(few: Broker, name: str) -> None:
    for add in (lambda: few.alias(name, scan_id=1), lambda: few.dynamic_alias(name, dict)):
        with pytest.raises(ValueError, match="not a legal alias"):
            add()


# -- data_key


def test_data_key_asks_for_a_field_of_any_stream(db: Broker) -> None:
    for number, fields in enumerate([["det1"], ["det1", "det2"], []]):
        for pair in make.run(1, fields, uid=f"run{number}", time=T0 + number, scan_id=number):
            db.insert(*pair)
    record(db, uid="bare", time=T0 + 9)
    assert uids(db(data_key="det1")) == ["run1", "run0"]
    assert uids(db(data_key="det2")) == ["run1"]
    assert uids(db(data_key="det1", scan_id=0)) == ["run0"]
    assert uids(db("count", data_key="det2", since=T0)) == ["run1"]
    assert uids(db(data_key="det")) == []
    assert len(db(data_key=None)) == 4
    assert len(db(data_key="det1")) == 2
    assert "det1" in repr(db(data_key="det1"))
    assert bool(db(data_key="det2"))
    assert not db(data_key="det3")


# -- results


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not take its time zone from the environment")
    import time

    def set_to(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


def test_nothing_is_asked_before_iteration(few: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(library.Library, "sync", fail)
        results = few("plan9", scan_id=9, since=T0)
        found = few.v2.search({"scan_id": 9}).search({"$text": {"$search": "plan9"}})
    assert uids(results) == list(found) == []
    record(few, uid="late", scan_id=9, plan_name="plan9")
    assert uids(results) == list(found) == ["late"]
    assert len(results) == len(found) == 1
    record(few, uid="later", time=T0 + 100, scan_id=9, plan_name="plan9")
    assert uids(results) == list(found) == ["later", "late"]
    assert uids(results) == list(found) == ["later", "late"]


def test_headers_are_made_one_by_one(few: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    begin = Run.__init__

    def spy(self: Run, *arguments: Any) -> None:
        opened.append(arguments[1])
        begin(self, *arguments)

    monkeypatch.setattr(Run, "__init__", spy)
    few.catalog._shelf._runs.clear()
    headers = iter(few())
    assert opened == []
    assert next(headers).uid == "77aa"
    assert len(opened) == 1
    assert [header.uid for header in headers] == ["1234567", "b3", "aaab2", "aaaa1"]


def test_length_table_and_repr_open_no_run(reader: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "__init__", fail)
    for search in ({}, {"plan_name": "scan"}, {"text_search": "good -film"}, {"since": T0 + DAY}):
        results = reader(**search)
        assert len(results) == len(results.to_dataframe()) > 0
        assert "plan" in repr(results)
        assert "<table>" in results._repr_html_()
        assert results.explain().answers == len(results)
        assert len(results.keys_seen()) > 10
    assert len(reader.v2) == len(PAIRS)
    assert len(list(reader.v2)) == len(PAIRS)


def test_results_can_neither_be_subscripted_nor_advanced(few: Broker) -> None:
    results = few()
    for misuse in (lambda: results[0], lambda: results[-1:], lambda: next(results)):
        with pytest.raises(TypeError):
            misuse()
    first, second = iter(results), iter(results)
    assert next(first) == next(second)


def test_repr_shows_the_newest_runs(few: Broker) -> None:
    title, heading, *lines = repr(few("plan0 plan1", scan_id={"$lt": 5})).splitlines()
    assert title == "<Results of db('plan0 plan1', scan_id={'$lt': 5}): 2 runs>"
    assert heading.split() == ["uid", "time", "scan_id", "status", "plan"]
    assert [line.split()[0] for line in lines] == ["aaab2", "aaaa1"]
    assert repr(few(scan_id=99)) == "<Results of db(scan_id=99): 0 runs>"
    assert repr(few(scan_id=2)).splitlines()[0] == "<Results of db(scan_id=2): 1 run>"
    record(few)
    title, _, *lines = repr(few()).splitlines()
    assert title == "<Results of db(): 6 runs, the newest 5 of them>"
    assert len(lines) == 5
    assert "5 runs" not in few()._repr_html_()
    assert few()._repr_html_().count("<tr>") == 7
    assert "<table>" not in few(scan_id=99)._repr_html_()


HOSTILE = {
    "plan_name": "<script>alert(1)</script>{{ 7*7 }}{% raw %}",
    "scan_id": "<b>&amp;",
    "sample": {"<i>": "{{ config }}", "name": "\x1b]0;title\x07 &lt; \u202e"},
}


def test_hostile_documents_come_back_verbatim_and_are_escaped_in_html(db: Broker) -> None:
    uid = record(db, {"exit_status": "success", "reason": "<img src=x>\x1b[2J"}, uid="<u>&'\"", **HOSTILE)
    results = db("alert")
    header = next(iter(results))
    assert header.uid == uid == "<u>&'\""
    assert {key: header.start[key] for key in HOSTILE} == HOSTILE
    assert uids(db(**HOSTILE)) == uids(db("img")) == uids(db('"src x"')) == [uid]
    assert uids(db(**{"sample.<i>": "{{ config }}"})) == [uid]
    assert results.to_dataframe().loc[uid, "plan_name"] == HOSTILE["plan_name"]
    page = results._repr_html_()
    for part in ("<script", "<b>&", "<u>", "<img"):
        assert part not in page
    assert "{{ 7*7 }}" in page
    assert "49" not in page.replace("7*7", "")


def test_what_the_prompt_shows_steers_no_terminal_and_can_be_printed(db: Broker) -> None:
    for number, plan in enumerate(["\x1b[2J\x07scan", "two\nlines", "half \ud800"]):
        record(db, uid=f"run{number}", time=T0 + number, plan_name=plan)
    shown = repr(db())
    with pytest.raises(AmbiguousPrefix) as raised:
        db["run"]
    for text in (shown, str(raised.value), db()._repr_html_()):
        text.encode()
        assert "\x1b" not in text
        assert "\x07" not in text
    assert len(shown.splitlines()) == 5
    assert len(str(raised.value).splitlines()) == 4


def test_half_characters_do_not_keep_a_table_from_being_made(db: Broker) -> None:
    uid = record(db, comment="half \ud800", **{"half \udc00": 1})
    record(db, comment="whole", time=T0 + 1)
    table = db().to_dataframe()
    assert table.index.tolist()[1] == uid
    assert table["comment"].tolist()[0] == "whole"
    assert "sample" not in table


# -- tables and keys


def test_the_table_has_a_row_for_each_run_newest_first(db: Broker) -> None:
    record(db, uid="first", time=T0, sample={"name": "Si", "layers": {"top": 1}}, motors=["x"])
    record(db, uid="second", time=T0 + 1, **{"sample.name": "dotted"}, mixed="text", n=1)
    db.insert("start", make.start(uid="third", time=T0 + 2, mixed=[1], n=None))
    table = db().to_dataframe()
    assert table.index.tolist() == ["third", "second", "first"]
    assert table.index.name == "uid"
    assert table.columns.tolist()[:3] == ["time", "stop_time", "exit_status"]
    assert set(table.columns) == {
        *("time", "stop_time", "exit_status", "scan_id", "plan_name"),
        *("sample", "motors", "sample.name", "mixed", "n"),
    }
    assert table["time"].tolist() == [pd.Timestamp(T0 + number, unit="s") for number in (2, 1, 0)]
    assert table["stop_time"].isna().tolist() == [True, False, False]
    assert table["exit_status"].tolist()[1:] == ["success", "success"]
    assert table["exit_status"].isna().tolist() == [True, False, False]
    assert table["mixed"].tolist()[:2] == [[1], "text"]
    assert pd.isna(table["mixed"].iloc[2])
    columns = ["sample.name", "sample.layers.top", "nothing.here", "time", "scan_id"]
    table = db().to_dataframe(columns)
    assert table.columns.tolist() == ["time", "stop_time", "exit_status", *columns[:3], "scan_id"]
    assert table["sample.name"].tolist()[1:] == ["dotted", "Si"]
    assert table["sample.layers.top"].tolist()[2] == 1
    assert table["nothing.here"].isna().all()
    assert db("dotted").to_dataframe(["n"])["n"].tolist() == [1]


def test_the_table_of_nothing_has_its_columns(db: Broker) -> None:
    for columns in (None, ["sample.name"]):
        table = db(scan_id=99).to_dataframe(columns)
        assert len(table) == 0
        assert table.columns.tolist()[:3] == ["time", "stop_time", "exit_status"]
        assert table.index.name == "uid"
        assert str(table["time"].dtype).startswith("datetime64")


@pytest.mark.parametrize("time", [NOT_A_NUMBER, math.inf, 1e300, 2**70, -1e300], ids=str)
def test_runs_of_no_known_date_are_listed_with_the_others(few: Broker, time: float) -> None:
    record(few, uid="odd", time=time, scan_id=17)
    assert uids(few())[:5] == ["77aa", "1234567", "b3", "aaab2", "aaaa1"]
    assert uids(few(scan_id=17)) == ["odd"]
    assert few[17].uid == few["odd"].uid == few[-6].uid == "odd"
    table = few().to_dataframe()
    assert table["time"].isna().tolist() == [False] * 5 + [True]
    assert "odd" in repr(few(scan_id=17))
    assert "odd" in few(scan_id=17)._repr_html_()
    assert uids(few(since=T0, until=T0 + 10)) == ["77aa", "1234567", "b3", "aaab2", "aaaa1"]


@pytest.mark.parametrize(
    "query",
    [{"$gt": 5}, {"$lt": 5}, {"$gte": -1e301}, {"$ne": 0}, {"$lte": math.inf}, {"$mod": [5, 0]}, math.inf, 2**70],
    ids=str,
)
def test_odd_start_times_are_found_by_conditions_on_them(db: Broker, query: Any) -> None:
    starts = [
        make.start(uid=str(time), time=time)
        for time in (NOT_A_NUMBER, math.inf, -math.inf, -1e300, 2**70, 1e300, 1e9, 0, -5, 1.5)
    ]
    for start in starts:
        db.insert("start", start)
    expected = {start["uid"] for start in starts if parse({"time": query}).holds(Subject(start))}
    assert set(uids(db(time=query))) == expected
    assert len(db(time=query)) == len(expected)


def test_keys_seen_tells_what_can_be_searched_for(db: Broker) -> None:
    for number in range(6):
        record(db, time=T0 + number, sample={"name": "Si" if number else "LaB6"}, motors=["x", "y"][: number % 3])
    record(db, mixed=1, sample="a string", time=T0 + 9)
    record(db, mixed=None, sample={"name": NOT_A_NUMBER, "layers": [{"d": 1}, {"d": 2}]}, time=T0 + 8)
    seen = db().keys_seen()
    assert seen.index.name == "key"
    assert seen.columns.tolist() == ["runs", "types", "values", "commonest"]
    assert seen["runs"].tolist() == sorted(seen["runs"], reverse=True)
    assert dict(seen.loc["sample.name"]) == {
        **{"runs": 7, "types": "number, string"},
        **{"values": 3, "commonest": seen.loc["sample.name", "commonest"]},
    }
    assert seen.loc["sample.name", "commonest"][0] == "Si"
    assert "LaB6" in seen.loc["sample.name", "commonest"]
    assert dict(seen.loc["sample"]) == {"runs": 8, "types": "object, string", "values": 1, "commonest": ["a string"]}
    assert seen.loc["sample.layers.d", ["runs", "types"]].tolist() == [1, "number"]
    assert sorted(seen.loc["sample.layers.d", "commonest"]) == [1, 2]
    assert seen.loc["mixed", "types"] == "null, number"
    assert seen.loc["motors", "runs"] == 6
    assert seen.loc["motors", "commonest"] == ["x", "y"]
    assert db("LaB6").keys_seen().loc["plan_name", "runs"] == 1
    assert len(db("nothing").keys_seen()) == 0
    assert db.keys_seen().equals(seen)


# -- refusals


@pytest.mark.parametrize("query", [{"a": {"$gtt": 5}}, {"$foo": 1}, {"$or": [{"a": {"$not": {"$near": 1}}}]}], ids=str)
def test_an_unknown_operator_lists_the_known_ones(db: Broker, query: dict[str, Any]) -> None:
    for search in (lambda: db(**query), lambda: db.v2.search(query), lambda: db.catalog.search(query)):
        with pytest.raises(InvalidQuery, match="is not known") as raised:
            search()
        known = [name for name in OPERATORS if repr(name) in str(raised.value)]
        assert len(known) > 3


def nested(depth: int, key: str, inner: Any = 1) -> dict[str, Any]:
    query: Any = inner
    for _ in range(depth):
        query = {key: [query]} if key.startswith("$") else {key: query}
    return query


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize(
    "query",
    [
        lambda depth: nested(depth, "$and", {"a": 1}),
        lambda depth: nested(depth, "$nor", {"a": 1}),
        lambda depth: nested(depth, "a"),
        lambda depth: {"a": {"$in": [nested(depth, "b")]}},
        lambda depth: {".".join("a" * depth): 1},
        lambda depth: {"a": {"$regex": "(" * depth + ")" * depth}},
    ],
    ids=["and", "nor", "value", "in", "path", "regex"],
)
def test_queries_nested_too_deeply_are_refused(few: Broker, query: Callable, depth: int) -> None:
    for search in (few.v2.search, few.catalog.search, lambda query: few(**query)):
        with pytest.raises(InvalidQuery) as raised:
            len(search(query(depth)))
        assert len(str(raised.value)) < 1000


def test_searches_chained_many_times_are_answered_or_refused(few: Broker) -> None:
    found = few.v2
    for _ in range(150):
        found = found.search({"scan_id": 1})
    assert list(found) == ["b3", "aaaa1"]
    assert len(repr(found)) > 0


@pytest.mark.parametrize("query", [{1: "a"}, {None: "a"}, {"a": {"$gt": 1, 2: 3}}, {"$or": [{b"a": 1}]}], ids=str)
def test_keys_that_are_no_strings_are_refused(db: Broker, query: dict[Any, Any]) -> None:
    for search in (db.v2.search, db.catalog.search):
        with pytest.raises(InvalidQuery):
            search(query)


@pytest.mark.parametrize(
    "query", ["plan0 plan2", {"$search": "plan0 plan2"}, {"$search": "PLAN0 plan2 plan7"}], ids=str
)
def test_text_is_a_string_or_a_mapping_with_search(few: Broker, query: Any) -> None:
    assert list(few.v2.search({"$text": query})) == uids(few("plan0 plan2")) == ["b3", "aaaa1"]


@pytest.mark.parametrize("query", ["", {"$search": ""}, {"$search": " "}], ids=str)
def test_blank_text_restricts_nothing(few: Broker, query: Any) -> None:
    assert list(few.v2.search({"$text": query})) == list(few.v2)
    assert len(few("")) == 5


@pytest.mark.parametrize(
    "query", [5, None, ["plan0"], {}, {"$search": 5}, {"$find": "x"}, {"$search": "x", "$caseSensitive": True}], ids=str
)
def test_other_forms_of_text_are_refused(few: Broker, query: Any) -> None:
    with pytest.raises(InvalidQuery):
        few.v2.search({"$text": query})


@pytest.mark.parametrize("text", [5, ["plan0"], {"scan_id": 1}, b"plan0"], ids=str)
def test_words_are_a_string(few: Broker, text: Any) -> None:
    with pytest.raises(InvalidQuery, match="give a string"):
        few(text)


def test_a_regular_expression_that_takes_too_long_is_given_up(db: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "REGEX_SECONDS", 0.2)
    record(db, comment="a" * 60 + "!")
    record(db, comment="short", time=T0 + 1)
    for results in (db(comment={"$regex": "(a|aa)+$"}), db.v2.search({"comment": {"$regex": "^(a|aa)+$"}})):
        for ask in (len, list):
            with pytest.raises(QueryTimeout):
                ask(results)
    assert len(db(comment={"$regex": "^a+!$"})) == 1
    assert len(db(comment={"$not": {"$regex": "^a"}})) == 1


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a{2,1}", "a" * 20_000], ids=lambda text: text[:9])
def test_what_is_no_regular_expression_is_refused_when_the_search_is_made(db: Broker, pattern: str) -> None:
    with pytest.raises(InvalidQuery):
        db(comment={"$regex": pattern})


# -- damage


def test_a_damaged_run_among_the_answers_is_warned_of_and_the_others_are_given(
    tmp_path: Path, opened: Callable[..., Broker]
) -> None:
    writer = opened(tmp_path)
    for number in range(4):
        record(writer, uid=f"run{number}", time=T0 + number, scan_id=number, plan_name="scan")
    (damaged,) = tmp_path.glob("*/*/*/*run2")
    for path in damaged.rglob("*"):
        if path.is_file():
            path.write_bytes(b"nonsense")
    reader = opened(tmp_path, read_only=True)
    with pytest.warns(DamagedRunWarning, match="run2"):
        assert uids(reader(plan_name="scan")) == ["run3", "run1", "run0"]
    assert uids(reader("scan", scan_id={"$gt": 0})) == ["run3", "run1"]
    with pytest.raises(KeyError):
        reader["run2"]
    assert reader[-2].uid == "run1"


def test_a_manifest_that_is_damaged_while_in_use_is_made_anew(reader: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert uids(reader(plan_name="scan")) == found_by_hand({"plan_name": "scan"})
    place = Path(reader.catalog.library.directory)
    reader.catalog.library.manifest.close()
    for path in place.glob("manifest.sqlite*"):
        path.write_bytes(b"nonsense" * 1000)
    with pytest.warns(UserWarning, match="made anew"):
        found = uids(reader(plan_name="scan"))
    assert found == found_by_hand({"plan_name": "scan"})
    check(by_catalog(reader), SAMPLE)


# -- the command


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A catalog of a few runs, a day after each other."""
    db = Broker(tmp_path / "runs")
    plans = ["scan", "count", "scan", "tune"]
    for number, plan in enumerate(plans):
        keys = {"num_points": [11, 1.5, "11", True][number], "sample": {"name": f"Si {number}"}}
        record(db, uid=f"run{number}", time=1.7e9 + number * DAY, scan_id=number, plan_name=plan, **keys)
    db.close()
    return str(tmp_path / "runs")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [3, 2, 1, 0]),
        (["scan"], [2, 0]),
        (["scan", "tune"], [3, 2, 0]),
        (['"si 1"'], [1]),
        (["plan_name=scan"], [2, 0]),
        (["plan_name=scan", "sample.name=Si 2"], [2]),
        (["scan", "num_points=11"], [2, 0]),
        (["num_points=1.5"], [1]),
        (["num_points=1"], []),
        (["num_points=true"], [3]),
        (["num_points="], []),
        (["sample.name=a=b"], []),
        (["--since", "2023-11-16"], [3, 2]),
        (["--until", "2023-11-15 00:00"], [0]),
        (["--since", "2023-11-15", "--until", "2023-11-16 22:13:20"], [2, 1]),
        (["-n", "2"], [3, 2]),
        (["--", "-scan"], [3, 1]),
    ],
    ids=str,
)
def test_ls_finds(
    place: str, words: list[str], expected: list[int], capsys: pytest.CaptureFixture, set_zone: Callable[[str], None]
) -> None:
    set_zone("UTC")
    assert main(["ls", place, *words]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()[1:]] == [f"run{number}" for number in expected]
    if words == ["-n", "2"]:
        assert "2 of 4" in printed.err
    elif not expected:
        assert printed.err == "no run matches\n"
    else:
        assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--since", "yesterday"], "failed to parse time: 'yesterday'"),
        (["--until", "2023-02-30"], "failed to parse time"),
        (["$foo=1"], "'$foo' at the top is not known"),
    ],
)
def test_ls_says_what_it_does_not_understand(
    place: str, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["ls", place, *words]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("filebroker: ")
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_ls_explains(place: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["ls", place, "scan", "--explain"]) == 0
    told = capsys.readouterr().err
    for word in ("search", "runs", "index", "looked at", "answers"):
        assert word in told
    assert "answers    2" in told


def test_keys_lists_keys_and_their_values(place: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["keys", place]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["runs", "types"]
    (line,) = (line for line in lines if " plan_name:" in line)
    assert line.split()[:4] == ["4", "string", "plan_name:", "'scan',"]
    assert "'count'" in line
    (line,) = (line for line in lines if " num_points:" in line)
    assert line.split()[:4] == ["4", "boolean,", "number,", "string"]


@pytest.mark.parametrize("words", [["-n", "3", "scan"], ["--since", "2023", "plan_name=scan"], ["--explain", "scan"]])
def test_options_may_stand_before_words(place: str, words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["ls", place, *words]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["run2", "run0"]


def test_reindex_finds_what_was_copied_by_hand(place: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    other = Broker(tmp_path / "other")
    record(other, uid="copied", time=1.8e9)
    other.close()
    shutil.copytree(next((tmp_path / "other").glob("20*")), Path(place) / "2027")
    assert main(["reindex", place]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("5 runs\n", "")
    assert main(["ls", place, "-n", "1"]) == 0
    assert "copied" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["keys", "reindex", "ls"])
def test_verbs_on_nothing_fail_and_say_so(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([verb, str(tmp_path / "nowhere")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "nowhere" in printed.err
    assert not (tmp_path / "nowhere").exists()


def test_runs_with_a_field_can_be_searched_counted_and_looked_up(db: Broker) -> None:
    for number, key in enumerate(["mot", "det", "mot"]):
        for pair in make.run(data_keys=[key], uid=f"run-{number}", time=T0 + number, kind=number % 2):
            db.insert(*pair)
    having = WithField(db.catalog, "mot")
    assert [run.uid for run in having] == ["run-2", "run-0"]
    assert [having.newest(1).uid, having.newest(2).uid] == ["run-2", "run-0"]
    assert len(having) == len(having.search({"kind": 0})) == 2
    assert len(having.search({"kind": 1})) == 0
    with pytest.raises(NotEnoughRuns):
        having.newest(3)
    with pytest.raises(InvalidLookup):
        having.newest(0)


def test_a_list_of_results_is_searched_for_once(db: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    record(db, plan_name="scan")
    found = []
    select = Search._select
    monkeypatch.setattr(Search, "_select", lambda self: found.append(self) or select(self))
    assert len(list(db(plan_name="scan"))) == 1
    assert len(found) == 1
