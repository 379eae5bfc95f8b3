"""The list of runs, and what is kept of it on this machine: whatever happens to them, no run is missed."""

import contextlib
import errno
import gc
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import filebroker
from factories import T0, run
from filebroker.cataloging.catalog import Catalog
from filebroker.finding import cache
from filebroker.finding.compaction import FAN, compact, latest, merge
from filebroker.finding.ledger import LOGS, SNAPSHOTS, Ledger
from filebroker.finding.library import Library
from filebroker.ground.errors import (
    FilebrokerError,
    InvalidConfig,
    LedgerWarning,
    ReadOnlyCatalog,
    RecoveryWarning,
    RunNotFound,
    SealWarning,
    StorageError,
)
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from test_crash import Mortal

CROWD = Path(__file__).parent / "writers" / "crowd.py"
short_run = runpy.run_path(str(CROWD))["run"]


# ------------------------------------------------------------------------------------------- helpers


def insert(catalog, number, **keys):
    """Record a run whose number is its scan_id and, padded, its uid."""
    for name, doc in short_run(number):
        catalog.insert(name, {**doc, **keys} if name == "start" else doc)


def record(root, *numbers):
    """Record runs as a process of its own would: into a log of its own."""
    catalog = Catalog(root, sync="never")
    for number in numbers:
        insert(catalog, number)
    catalog.close()
    return catalog


def elsewhere(root, **options):
    """Open a catalog as another machine does: with nothing kept of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, "")
        catalog = Catalog(root, read_only=True, **options)
        assert catalog.library.directory is None
    return catalog


def here(root, **options):
    """Open a catalog as the next process on this machine does."""
    return Catalog(root, **{"read_only": True} | options)


def numbers_of(runs):
    return [run.start["scan_id"] for run in runs]


def check(catalog, numbers, unfinished=()):
    """Ask for every run in each way there is."""
    expected = sorted(numbers, reverse=True)
    assert numbers_of(catalog) == expected
    assert len(catalog) == len(expected)
    assert numbers_of(catalog.search({"plan_name": "count"})) == expected
    assert numbers_of(catalog.search(text="done")) == [number for number in expected if number not in unfinished]
    assert numbers_of(catalog.search(since=T0 + expected[0], until=T0 + expected[0])) == expected[:1]
    for number in expected:
        assert catalog.by_uid(f"f{number:04d}").start["scan_id"] == number
        assert catalog.by_scan_id(number).uid == f"f{number:04d}"
    assert catalog.newest(1).uid == f"f{expected[0]:04d}"
    assert catalog.newest(len(expected)).uid == f"f{expected[-1]:04d}"


def directory(root, number):
    return Path(root) / layout.run_directory(short_run(number)[0][1])


def copy_over(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)


@contextlib.contextmanager
def quiet():
    """Collect the warnings of the ledger; any other is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LedgerWarning)
        yield caught


def files_of(root):
    """Give the files of a ledger."""
    return sorted(path for path in (Path(root) / layout.LEDGER).rglob("*") if path.is_file())


def settle(root):
    """Make the logs so old that nobody can be in the middle of writing a line."""
    for log in (Path(root) / LOGS).glob("*.jsonl"):
        os.utime(log, (T0, T0))


@contextlib.contextmanager
def crowd(*calls):
    """Run processes; all are dead at the end."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(CROWD), *map(str, call)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for call in calls
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A catalog of nine runs, in two logs and two snapshots."""
    root = tmp_path_factory.mktemp("origin") / "catalog"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, "")
        for number, part in enumerate([(1, 5), (2, 4), (3,), (6, 9), (7, 8)]):
            record(root, *part)
            if number in (0, 2):
                merge(Ledger(Folder(root)), [name for name in Ledger(Folder(root)).files() if name.startswith(LOGS)])
    assert Counter(path.parent.name for path in files_of(root)) == {"log": 2, "snap": 3}
    return root


@pytest.fixture
def root(origin, tmp_path):
    """A copy of that catalog, to do anything with."""
    shutil.copytree(origin, tmp_path / "catalog")
    return tmp_path / "catalog"


@pytest.fixture
def other(tmp_path):
    """Another catalog, of runs 20 to 22."""
    record(tmp_path / "other", 20, 21, 22)
    return tmp_path / "other"


ALL = range(1, 10)


def test_the_catalog_of_these_tests_is_read_the_same_from_its_ledger_its_manifest_and_its_directories(root):
    check(elsewhere(root), ALL)
    check(here(root), ALL)
    check(here(root), ALL)
    shutil.rmtree(root / layout.LEDGER)
    check(elsewhere(root), ALL)


# ---------------------------------------------------------------------------------------- many at once


def test_of_many_writers_some_of_them_killed_no_run_is_lost_or_doubled_while_others_compact_and_read(tmp_path):
    root, each = tmp_path / "catalog", 25
    record(root, 0)
    firsts = [100, 200, 300, 400]
    calls = [("record", root, first, each) for first in firsts] + [("compact", root)] * 2
    with crowd(*calls) as processes:
        told = [[] for _ in firsts]
        listeners = [
            threading.Thread(target=lambda to=to, source=process.stdout: to.extend(map(int, source)))
            for to, process in zip(told, processes, strict=False)
        ]
        for listener in listeners:
            listener.start()
        reader, seen, polls = here(root), set(), 0
        while any(listener.is_alive() for listener in listeners):
            known = {number for part in told for number in part}
            found = numbers_of(reader)
            assert found == sorted(set(found), reverse=True)
            assert known | seen <= set(found)
            assert set(numbers_of(reader.search({"plan_name": "count"}))) >= known
            seen, polls = set(found), polls + 1
            for victim in (0, 1):
                if len(told[victim]) > 5 + 5 * victim:
                    processes[victim].kill()
        for listener in listeners:
            listener.join()
    acknowledged = {0, *(number for part in told for number in part)}
    assert polls > 3
    assert len(told[2]) == len(told[3]) == each
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecoveryWarning)  # of a run in whose midst its writer was killed
        runs = list(Catalog(root))
    found = [run.start["scan_id"] for run in runs]
    assert acknowledged <= set(found)
    assert len(found) <= len(acknowledged) + 2
    unfinished = {run.start["scan_id"] for run in runs if run.stop is None}  # those in whose midst a writer was killed
    for catalog in (reader, here(root), elsewhere(root)):
        check(catalog, found, unfinished)
    portions = [Ledger(Folder(root)).read(name) for name in Ledger(Folder(root)).files()]
    assert [portion.damage for portion in portions if portion.damage] == []
    records = latest(record for portion in portions for record in portion.records)
    assert sorted(record.path for record in records) == sorted(
        str(path.relative_to(root)) for path in root.glob("2*/*/*/*")
    )


def test_a_compaction_makes_nobody_begin_anew(root):
    catalog = here(root)
    before = catalog.library.manifest
    check(catalog, ALL)
    version = before.version()
    for _ in range(3):
        compact(Ledger(Folder(root)))
        check(catalog, ALL)
        check(here(root), ALL)
    assert before.version() == version
    assert [path.parent.name for path in files_of(root)] == ["snap"] * 4


def test_many_snapshots_become_one(tmp_path):
    ledger = Ledger(Folder(tmp_path))
    for number in range(2 * FAN):
        record(tmp_path, number)
        compact(ledger)
        assert len(files_of(tmp_path)) <= FAN
    check(elsewhere(tmp_path), range(2 * FAN))


@pytest.mark.parametrize("kept", ["known", "new"])
def test_a_merge_in_the_midst_of_a_listing_hides_no_run(root, monkeypatch, kept):
    ledger, merged, real = Ledger(Folder(root)), [], os.scandir
    reader = here(root) if kept == "known" else elsewhere(root)
    if kept == "known":
        check(reader, ALL)

    def scandir(path):
        if merged or not str(path).endswith(SNAPSHOTS):
            return real(path)
        with real(path) as entries:
            listed = list(entries)
        merged.append(merge(ledger, [f"{SNAPSHOTS}/{entry.name}" for entry in listed]))
        return contextlib.nullcontext(iter(listed))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        check(reader, ALL)
    assert merged == [True]


def test_a_search_that_is_being_read_gives_its_runs_whatever_becomes_of_the_ledger_meanwhile(tmp_path):
    for number in range(60, 0, -1):
        record(tmp_path, number) if number % 20 == 0 else insert(Catalog(tmp_path, sync="never"), number)
    catalog = Catalog(tmp_path)
    odd = {"scan_id": {"$mod": [2, 1]}}
    expected = [number for number in range(60, 0, -1) if number % 2]
    happenings = {
        "compaction": lambda: compact(Ledger(Folder(tmp_path))),
        "reindex": catalog.reindex,
        "clear_cache": lambda: Catalog(tmp_path).clear_cache(),
        "replaced": lambda: [path.unlink() for path in files_of(tmp_path)],
        "own clear_cache": catalog.clear_cache,
    }
    for name, happen in happenings.items():
        selection = catalog.search(odd)
        iterator = iter(selection)
        found = [next(iterator) for _ in range(3)]
        happen()
        with quiet():
            len(catalog)
            found += iterator
            assert numbers_of(found) == expected[: len(found)], name
            assert numbers_of(selection) == expected, name


# --------------------------------------------------------------------------------------------- damage


def flipped(data, choose):
    position = choose.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << choose.randrange(8)]) + data[position + 1 :]


MUTATIONS = {
    "flipped": flipped,
    "cut": lambda data, choose: data[: choose.randrange(1, len(data) - 1)],
    "last byte off": lambda data, _: data[:-1],
    "zeroed": lambda data, choose: bytes(data[: len(data) // 2]) + bytes(len(data) - len(data) // 2),
    "garbage": lambda data, choose: choose.randbytes(len(data)),
    "longer": lambda data, choose: data + choose.randbytes(50) + b"\n",
    "empty": lambda data, _: b"",
    "deleted": lambda data, _: None,
    "a directory": lambda data, _: ...,
}


def mutate(path, mutation, seed):
    changed = MUTATIONS[mutation](path.read_bytes(), random.Random(seed))
    if changed is None or changed is ...:
        path.unlink()
        if changed is ...:
            path.mkdir()
        return
    path.write_bytes(changed)
    os.utime(path, (T0, T0))  # nobody is in the middle of writing to it


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_who_knew_the_runs_misses_none_whatever_happens_to_a_file_of_the_ledger(root, tmp_path, mutation):
    for index in range(len(files_of(root))):
        copy = tmp_path / f"copy{index}"
        shutil.copytree(root, copy)
        reader = here(copy)
        check(reader, ALL)
        mutate(files_of(copy)[index], mutation, index)
        with quiet():
            check(reader, ALL)
            check(here(copy), ALL)
            check(Catalog(copy), ALL)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_who_comes_new_sees_damage_and_misses_nothing(root, tmp_path, mutation):
    # A log that ends at the end of a line, or is not there, looks like one that is complete.
    is_unseen = {"empty": ("log",), "deleted": ("log", "snap"), "a directory": ("log", "snap")}.get(mutation, ())
    for index, path in enumerate(files_of(root)):
        copy = tmp_path / f"copy{index}"
        shutil.copytree(root, copy)
        mutate(files_of(copy)[index], mutation, 100 + index)
        with quiet() as caught:
            reader = elsewhere(copy)
            if path.parent.name in is_unseen:
                reader.refresh()
            check(reader, ALL)
            assert bool(caught) == (path.parent.name not in is_unseen)
            Catalog(copy).reindex()
        check(elsewhere(copy), ALL)
        insert(Catalog(copy), 10)
        check(elsewhere(copy), [*ALL, 10])


def test_damage_is_looked_after_even_if_warnings_are_errors(root):
    mutate(files_of(root)[0], "flipped", 1)
    catalog = here(root)
    with pytest.raises(LedgerWarning):
        len(catalog)
    with quiet():
        check(catalog, ALL)
        check(here(root), ALL)


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_log_cut_in_its_last_line_loses_no_run(tmp_path, cut):
    record(tmp_path, 1, 2)
    log = next((tmp_path / LOGS).iterdir())
    log.write_bytes(log.read_bytes()[: -1 - cut])
    os.utime(log, (T0, T0))
    with quiet() as caught:
        check(elsewhere(tmp_path), [1, 2])
        insert(Catalog(tmp_path), 3)
        check(elsewhere(tmp_path), [1, 2, 3])
    assert caught


def test_an_open_reader_sees_that_a_last_line_never_ends(tmp_path):
    record(tmp_path, 1, 2)
    log = next((tmp_path / LOGS).iterdir())
    log.write_bytes(log.read_bytes()[:-30])
    reader = elsewhere(tmp_path)
    len(reader)  # the line may be in the middle of being written
    os.utime(log, (T0, T0))
    with quiet():
        check(reader, [1, 2])


# ---------------------------------------------------------------------------------- hostile contents

PATH = layout.run_directory(short_run(7)[0][1])
RECORD = {"path": PATH, "state": "sealed", "start": short_run(7)[0][1], "stop": None, "pages": []}
#: What may stand in a line of a log, and whether that is damage.
LINES = {
    "a name of a later version": (1, "annotation", {"of": 1}, False),
    "a name that is none": (1, ["run"], RECORD, None),
    "a path that leads out": (1, "run", RECORD | {"path": "../x"}, True),
    "an absolute path": (1, "run", RECORD | {"path": "/etc"}, True),
    "no path": (1, "run", RECORD | {"path": ""}, True),
    "a path of something else": (1, "run", RECORD | {"path": layout.LIVE}, True),
    "a path of a wrong type": (1, "gone", {"path": 5, "state": "gone"}, True),
    "a path with NUL": (1, "run", RECORD | {"path": PATH + "\0"}, True),
    "a path with a surrogate": (1, "run", RECORD | {"path": PATH + "\ud800"}, None),
    "an enormous revision": (10**30, "run", RECORD, True),
    "a large revision": (2**62, "run", RECORD, True),
    "a negative revision": (-5, "run", RECORD, True),
    "a revision of text": ("1", "run", RECORD, True),
    "a revision of null": (None, "run", RECORD, True),
    "a revision of a list": ([1], "run", RECORD, True),
    "an unknown state": (1, "run", RECORD | {"state": "melted"}, True),
    "a state of a wrong type": (1, "run", RECORD | {"state": []}, True),
    "no state": (1, "run", {"path": PATH}, True),
    "a start of a list": (1, "run", RECORD | {"start": [1]}, True),
    "no start": (1, "run", RECORD | {"start": None}, True),
    "an empty start": (1, "run", RECORD | {"start": {}}, True),
    "an endless time": (1, "run", RECORD | {"start": {"uid": "f0007", "time": 10**400}}, None),
    "a stop of text": (1, "run", RECORD | {"stop": "x"}, True),
    "pages of numbers": (1, "run", RECORD | {"pages": 5}, True),
    "pages of mappings": (1, "run", RECORD | {"pages": [{}]}, True),
    "a list": (1, "run", [1], True),
    "nothing": (1, "run", None, True),
}


def line_of(revision, name, doc):
    text = f'{{"i":{json.dumps(revision)},"name":{json.dumps(name)},"doc":{json.dumps(doc)}'.encode()
    return text + b',"crc":"%08x"}\n' % crc32(text)


def use(root):
    """Do what people do with a catalog of run 1, and give what it warned of."""
    problems = []
    with quiet() as caught:
        for catalog in (elsewhere(root), Catalog(root, sync="never")):
            try:
                assert 1 in numbers_of(catalog)
                assert 1 in numbers_of(catalog.search({"plan_name": "count"}))
                assert 1 in numbers_of(catalog.search(text="done"))
                assert "f0001" in catalog.to_dataframe().index
                assert catalog.by_uid("f0001").uid == "f0001"
                catalog.keys_seen()
                catalog.refresh()
                if not catalog.read_only:
                    merge(catalog.library.ledger, list(catalog.library.ledger.files()))
                    insert(catalog, 2)
                    assert numbers_of(catalog)[-2:] == [2, 1]
                    catalog.reindex()
            except FilebrokerError as error:
                problems.append(str(error))
        check(elsewhere(root), [1, 2])
    assert all(len(problem) > 20 for problem in problems)
    return caught


@pytest.mark.parametrize(("revision", "name", "doc", "is_damage"), LINES.values(), ids=LINES)
def test_no_line_of_a_log_harms_the_other_runs(tmp_path, revision, name, doc, is_damage):
    root = tmp_path / "catalog"
    record(root, 1)
    (tmp_path / "x").mkdir()
    (root / LOGS / "hostile.jsonl").write_bytes(line_of(revision, name, doc))
    caught = use(root)
    assert is_damage is None or bool(caught) == is_damage
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog", "x"]


ROW = {
    "path": pa.array([PATH]),
    "revision": pa.array([1], pa.int32()),
    "state": pa.array(["sealed"]),
    "start": pa.array([json.dumps(short_run(7)[0][1])]),
    "stop": pa.array([None], pa.string()),
    "pages": pa.array([[]], pa.list_(pa.string())),
}
FOOTER = {"format": 1, "sources": {}}
DECOYS = ("filebroker.json", f"{layout.LEDGER}/logs", f"{LOGS}/notes.txt")
#: What a snapshot may hold, and its footer.
TABLES = {
    "no rows of ours": ({"x": pa.array([1])}, FOOTER),
    "a column that lacks": ({name: column for name, column in ROW.items() if name != "stop"}, FOOTER),
    "a footer of a list": (ROW, []),
    "sources of a list": (ROW, {"format": 1, "sources": [1]}),
    "sources of null": (ROW, {"format": 1, "sources": None}),
    "sizes of text": (ROW, {"format": 1, "sources": {f"{LOGS}/a.jsonl": "x"}}),
    "a later format": (ROW, {"format": 2, "sources": {}}),
    "a path that leads out": (ROW | {"path": pa.array(["../../etc"])}, FOOTER),
    "a path of null": (ROW | {"path": pa.array([None], pa.string())}, FOOTER),
    "a path of a number": (ROW | {"path": pa.array([5])}, FOOTER),
    "a start of null": (ROW | {"start": pa.array([None], pa.string())}, FOOTER),
    "a start of a number": (ROW | {"start": pa.array([5])}, FOOTER),
    "a start of bytes": (ROW | {"start": pa.array([b"\xff"])}, FOOTER),
    "a start that is no JSON": (ROW | {"start": pa.array(["{"])}, FOOTER),
    "a start of a list": (ROW | {"start": pa.array(["[]"])}, FOOTER),
    "a revision of null": (ROW | {"revision": pa.array([None], pa.int32())}, FOOTER),
    "a revision of text": (ROW | {"revision": pa.array(["x"])}, FOOTER),
    "an unknown state": (ROW | {"state": pa.array(["melted"])}, FOOTER),
    "a state of null": (ROW | {"state": pa.array([None], pa.string())}, FOOTER),
    "pages of text": (ROW | {"pages": pa.array(["x"])}, FOOTER),
}


def publish_table(root, columns, footer):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({"filebroker": json.dumps(footer)}), sink)
    data = sink.getvalue().to_pybytes()
    (Path(root) / SNAPSHOTS / f"1-{hashlib.sha256(data).hexdigest()[:16]}.parquet").write_bytes(data)


@pytest.mark.parametrize(("columns", "footer"), TABLES.values(), ids=TABLES)
def test_no_snapshot_harms_the_other_runs(tmp_path, columns, footer):
    record(tmp_path, 1)
    publish_table(tmp_path, columns, footer)
    assert use(tmp_path)


def test_a_snapshot_that_claims_foreign_files_removes_none(tmp_path):
    root = tmp_path / "catalog"
    record(root, 1)
    outside = tmp_path / "precious"
    outside.write_text("x")
    for decoy in DECOYS[1:]:
        (root / decoy).write_text("x")
    claims = [*DECOYS, f"{LOGS}/../../../precious", str(outside), LOGS, SNAPSHOTS, "", f"{LOGS}/\0", f"{LOGS}/a/b"]
    publish_table(root, ROW, {"format": 1, "sources": dict.fromkeys(claims, 10**9)})
    use(root)
    assert outside.exists()
    assert [(root / decoy).exists() for decoy in DECOYS] == [True] * len(DECOYS)


# ---------------------------------------------------------------------------------------------- death


class Dying(Mortal):
    """A process that takes nothing back once it is dead."""

    OPERATIONS = (*Mortal.OPERATIONS, "ftruncate")


DIRECTORY = layout.run_directory(short_run(20)[0][1])
WORKS = {
    "append": lambda root: Library(Folder(root), None, writable=True).record(DIRECTORY, sync=True),
    "compact": lambda root: compact(Ledger(Folder(root))),
    "merge all": lambda root: merge(Ledger(Folder(root)), list(Ledger(Folder(root)).files())),
    "refresh": lambda root: Catalog(root).refresh(),
    "reindex": lambda root: Catalog(root).reindex(),
    "begin": lambda root: Catalog(root).library.begin(),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead cannot tidy up
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("work", WORKS)
def test_a_process_may_die_at_any_file_operation_on_the_ledger(other, tmp_path, work, half):
    root, expected = tmp_path / "catalog", {1, 2, 3}
    record(root, 1)
    compact(Ledger(Folder(root)))
    record(root, 2)
    record(root, 3)
    if work in ("append", "refresh"):
        copy_over(directory(other, 20), directory(root, 20))
    if work in ("begin", "reindex"):
        shutil.rmtree(root / layout.LEDGER)

    def attempt(mortal, copy):
        shutil.copytree(root, copy)
        gc.disable()  # what earlier catalogs leave is not tidied up by the mortal
        with mortal.living():
            WORKS[work](copy)
        gc.enable()

    undisturbed = Dying()
    attempt(undisturbed, tmp_path / "undisturbed")
    assert undisturbed.count > 1
    for last in range(1, undisturbed.count + 1):
        copy = tmp_path / f"copy{last}"
        attempt(Dying(last, half=half), copy)
        settle(copy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LedgerWarning)  # of a torn line
            assert set(numbers_of(elsewhere(copy))) - {20} == expected
            assert set(numbers_of(Catalog(copy))) - {20} == expected
            WORKS[work](copy)
            compact(Ledger(Folder(copy)))
            assert set(numbers_of(elsewhere(copy))) == expected | ({20} if work in ("append", "refresh") else set())
        shutil.rmtree(copy)


# ------------------------------------------------------------------------------------- full and failing disks


def refuse_lines(patch, written):
    """Let no line of a run be written to the ledger, or but a part of it."""
    real = os.write

    def write(descriptor, data):
        if b'"name":"run"' not in data[:40]:
            return real(descriptor, data)
        if written:
            real(descriptor, data[:written])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "write", write)


@pytest.mark.parametrize("written", [0, 30])
def test_a_run_that_the_ledger_has_no_room_for_is_refused_and_can_be_inserted_again(root, monkeypatch, written):
    catalog, pairs = Catalog(root), short_run(10)
    with monkeypatch.context() as patch:
        refuse_lines(patch, written)
        with pytest.raises(StorageError, match="No space"):
            catalog.insert(*pairs[0])
    settle(root)
    check(elsewhere(root), ALL)
    check(Catalog(root), ALL)
    for pair in pairs:
        catalog.insert(*pair)
    for reader in (catalog, here(root), elsewhere(root)):
        check(reader, [*ALL, 10])


@pytest.mark.parametrize("written", [0, 30])
def test_a_stop_that_the_ledger_has_no_room_for_is_told_by_the_next_opening(root, monkeypatch, written):
    catalog, pairs = Catalog(root), short_run(10)
    catalog.insert(*pairs[0])
    with monkeypatch.context() as patch:
        refuse_lines(patch, written)
        with pytest.warns(SealWarning, match="f0010"):
            catalog.insert(*pairs[1])
    assert catalog.by_uid("f0010").stop == pairs[1][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecoveryWarning)
        again = Catalog(root)
    settle(root)
    for reader in (again, catalog, here(root), elsewhere(root)):
        check(reader, [*ALL, 10])  # also by the words of its stop document


def test_a_failed_fsync_of_the_ledger_doubles_and_loses_nothing(root, monkeypatch):
    catalog = Catalog(root, sync="always")
    insert(catalog, 10)
    real, real_write, lines, failures = os.fsync, os.write, [], []

    def refuse(descriptor):
        if descriptor in lines and not failures:
            failures.append(descriptor)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    def write(descriptor, data):
        if b'"name":"run"' in data[:40]:
            lines.append(descriptor)
        return real_write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        patch.setattr(os, "write", write)
        with contextlib.suppress(StorageError):
            insert(catalog, 11)
    assert failures
    insert(catalog, 11)
    check(elsewhere(root), [*ALL, 10, 11])


def test_what_was_found_while_the_ledger_could_not_be_written_is_told_later(root, tmp_path, monkeypatch):
    record(tmp_path / "other", 20)
    shutil.copytree(tmp_path / "other" / "2025", root / "2025", dirs_exist_ok=True)
    catalog = Catalog(root)
    with monkeypatch.context() as patch:
        refuse_lines(patch, 0)
        with pytest.warns(LedgerWarning, match="No space"):
            catalog.refresh()
    check(catalog, [*ALL, 20])
    catalog.refresh()
    check(elsewhere(root), [*ALL, 20])


# --------------------------------------------------------------------------------------------- copies


def test_a_copy_of_a_catalog_is_a_catalog(root, tmp_path):
    check(here(root), ALL)
    copy_over(root, tmp_path / "copy")
    insert(Catalog(tmp_path / "copy"), 10)
    check(here(tmp_path / "copy"), [*ALL, 10])
    check(here(root), ALL)


@pytest.mark.parametrize("compacted", [(), (0,), (1,), (0, 1)])
def test_two_copies_that_were_both_recorded_into_are_one_after_they_were_copied_over_each_other(
    root, tmp_path, compacted
):
    roots = [root, tmp_path / "copy"]
    copy_over(*roots)
    catalogs = [Catalog(place) for place in roots]
    for number, catalog in zip((11, 12), catalogs, strict=True):
        insert(catalog, number)
        insert(catalog, number + 10)
    for which in compacted:
        compact(Ledger(Folder(roots[which])))
    copy_over(*roots)
    copy_over(*reversed(roots))
    for place, catalog in zip(roots, catalogs, strict=True):
        for reader in (catalog, here(place), elsewhere(place)):
            check(reader, [*ALL, 11, 12, 21, 22])
        insert(catalog, 30)
        check(elsewhere(place), [*ALL, 11, 12, 21, 22, 30])


def test_an_old_copy_put_over_a_newer_catalog_is_made_good_by_refresh(root, tmp_path):
    catalog = Catalog(root)
    insert(catalog, 11)
    copy_over(root, tmp_path / "copy")
    insert(Catalog(tmp_path / "copy"), 12)
    insert(catalog, 13)  # into a log that the copy has as well, and shorter
    copy_over(tmp_path / "copy", root)
    with quiet():
        catalog.refresh()
        insert(catalog, 14)
        for reader in (catalog, here(root), elsewhere(root)):
            check(reader, [*ALL, 11, 12, 13, 14])


@pytest.mark.parametrize("log", ["shorter", "absent"])
def test_an_older_backup_in_the_place_of_a_newer_catalog_is_what_is_read(root, tmp_path, log):
    catalog = Catalog(root)
    insert(catalog, 10)
    copy_over(root, tmp_path / "backup")
    insert(catalog if log == "shorter" else Catalog(root), 11)
    check(catalog, [*ALL, 10, 11])
    shutil.rmtree(root)
    copy_over(tmp_path / "backup", root)
    check(here(root), [*ALL, 10])
    check(catalog, [*ALL, 10])
    insert(catalog, 12)
    insert(Catalog(root), 13)
    for reader in (catalog, here(root), elsewhere(root)):
        check(reader, [*ALL, 10, 12, 13])


@pytest.mark.parametrize("part", ["index first", "runs first", "without marker", "without index", "runs alone"])
def test_a_copy_in_the_making_gives_what_is_there_and_then_all(root, tmp_path, part):
    copy = tmp_path / "copy"
    if part in ("index first", "without marker"):
        copy_over(root / layout.LEDGER, copy / layout.LEDGER)
    if part in ("index first", "without index"):
        shutil.copy(root / layout.MARKER, copy / layout.MARKER) if copy.exists() else None
    for number in (1, 2, 7):
        copy_over(directory(root, number), directory(copy, number))
    reader = here(copy)
    assert numbers_of(reader) == [7, 2, 1]
    assert numbers_of(reader.search({"plan_name": "count"})) == [7, 2, 1]
    with pytest.raises(RunNotFound):
        reader.by_uid("f0009")
    copy_over(root, copy)
    for catalog in (reader, here(copy), elsewhere(copy)):
        check(catalog, ALL)


def test_a_part_of_a_catalog_that_is_recorded_into_becomes_whole_with_the_rest(root, tmp_path):
    copy = tmp_path / "copy"
    copy_over(directory(root, 3), directory(copy, 3))
    record(copy, 10)
    check(elsewhere(copy), [3, 10])
    copy_over(root, copy)
    for reader in (here(copy), elsewhere(copy)):
        check(reader, [*ALL, 10])


# ---------------------------------------------------------------------------------------- done by hand


def test_a_run_copied_by_hand_is_found_by_refresh(root, other):
    catalog = Catalog(root)
    check(catalog, ALL)
    copy_over(directory(other, 20), directory(root, 20))
    check(catalog, ALL)
    assert repr(catalog.refresh()) == "<Survey: 1 added, 0 changed, 0 removed, 0 unreadable>"
    assert repr(catalog.refresh()) == "<Survey: 0 added, 0 changed, 0 removed, 0 unreadable>"
    for reader in (catalog, here(root), elsewhere(root)):
        check(reader, [*ALL, 20])


def test_a_reader_finds_what_was_copied_without_writing_and_a_writer_tells_it_to_all(root, other):
    before = files_of(root)
    reader = here(root)
    copy_over(directory(other, 20), directory(root, 20))
    assert [record.path for record in reader.refresh().added] == [str(directory(root, 20).relative_to(root))]
    check(reader, [*ALL, 20])
    assert files_of(root) == before
    with pytest.raises(ReadOnlyCatalog):
        insert(reader, 30)
    Catalog(root).refresh()
    check(elsewhere(root), [*ALL, 20])


def test_a_removed_run_goes_and_may_come_again(root, other):
    catalog, reader = Catalog(root), here(root)
    check(catalog, ALL)
    for _ in range(3):
        shutil.rmtree(directory(root, 3))
        assert repr(catalog.refresh()) == "<Survey: 0 added, 0 changed, 1 removed, 0 unreadable>"
        for one in (catalog, reader, here(root)):
            check(one, set(ALL) - {3})
        insert(catalog, 3)
        for one in (catalog, reader, here(root), elsewhere(root)):
            check(one, ALL)
    shutil.rmtree(directory(root, 3))
    catalog.reindex()
    check(elsewhere(root), set(ALL) - {3})


def test_a_removed_run_that_is_recorded_with_other_words_is_found_by_those(root):
    shutil.rmtree(directory(root, 3))
    catalog = Catalog(root)
    catalog.refresh()
    insert(catalog, 3, purpose="renewed")
    for reader in (catalog, here(root), elsewhere(root)):
        assert numbers_of(reader.search({"purpose": "renewed"})) == [3]
        assert numbers_of(reader.search(text="word3")) == []


def test_a_run_without_a_stop_is_seen_stopped_by_who_was_there_before(root):
    catalog, reader, far = Catalog(root), here(root), elsewhere(root)
    pairs = short_run(10)
    catalog.insert(*pairs[0])
    for one in (reader, far):
        assert one.newest(1).state == "live"
        assert len(one.search(text="done")) == len(ALL)
    catalog.insert(*pairs[1])
    for one in (reader, far):
        assert one.newest(1).state == "sealed"
        check(one, [*ALL, 10])


def test_a_copied_run_in_progress_is_seen_stopped_once_its_directory_says_so(root, tmp_path):
    writer = Catalog(tmp_path / "other")
    pairs = run(2, uid="f0040", time=T0 + 40, scan_id=40)
    for pair in pairs[:-1]:
        writer.insert(*pair)
    copy_over(directory(tmp_path / "other", 40), directory(root, 40))
    catalog = Catalog(root)
    assert len(catalog.refresh().added) == 1
    assert catalog.newest(1).state == "live"
    writer.insert(*pairs[-1])
    shutil.rmtree(directory(root, 40))
    copy_over(directory(tmp_path / "other", 40), directory(root, 40))
    assert repr(catalog.refresh()) == "<Survey: 0 added, 1 changed, 0 removed, 0 unreadable>"
    assert catalog.newest(1).state == "sealed"
    assert numbers_of(elsewhere(root).search({"scan_id": 40})) == [40]


def test_reindex_makes_all_of_it_from_the_run_directories(root, other):
    catalog, reader = Catalog(root), here(root)
    check(reader, ALL)
    shutil.rmtree(root / layout.LEDGER)
    copy_over(directory(other, 20), directory(root, 20))
    told = []
    with quiet():
        catalog.reindex(lambda *progress: told.append(progress))
    assert [progress for progress in told if progress[0] == "reading runs"] == [
        ("reading runs", done, 10) for done in range(1, 11)
    ]
    assert [path.parent.name for path in files_of(root)] == ["snap"]
    for one in (catalog, reader, here(root), elsewhere(root)):
        check(one, [*ALL, 20])


def test_reindex_while_others_record_loses_nothing(root):
    calls = [("record", root, 100, 40), ("record", root, 200, 40)]
    reader, rounds = here(root), 0
    with crowd(*calls) as processes:
        catalog = Catalog(root)
        while any(process.poll() is None for process in processes):
            catalog.reindex()
            assert set(numbers_of(reader)) >= set(ALL)
            rounds += 1
        assert [process.returncode for process in processes] == [0, 0]
    assert rounds > 2
    for one in (catalog, reader, here(root), elsewhere(root)):
        check(one, [*ALL, *range(100, 140), *range(200, 240)])


# ------------------------------------------------------------------------------------- without a ledger


def test_a_catalog_without_a_ledger_is_read_the_same_and_gets_one_with_the_first_run(root, other):
    shutil.rmtree(root / layout.LEDGER)
    reader, far = here(root), elsewhere(root)
    for one in (reader, far):
        check(one, ALL)
    assert not (root / layout.LEDGER).exists()
    copy_over(directory(other, 20), directory(root, 20))
    for one in (reader, far, Catalog(root)):
        check(one, [*ALL, 20])  # as long as there is none, directories are looked through
    record(root, 30)
    for one in (reader, far, here(root), elsewhere(root)):
        check(one, [*ALL, 20, 30])
    assert Ledger.is_complete(Ledger(Folder(root)).files())


# ---------------------------------------------------------------------------------------- the manifest


def manifest_of(root):
    """Give the file of a catalog's manifest, which nobody has open."""
    catalog = here(root)
    check(catalog, ALL)
    catalog.library.manifest.close()
    return Path(catalog.library.directory) / "manifest.sqlite"


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_manifest_gives_no_wrong_answer(root, seed):
    manifest, choose = manifest_of(root), random.Random(seed)
    data = manifest.read_bytes()
    first = choose.randrange(len(data))
    last = min(len(data), first + choose.choice([1, 16, 512, 4096, 16384]))
    changed = [
        flipped(data, choose),
        flipped(data[: len(data) // 2], choose) + data[len(data) // 2 :],
        data[:first],
        data[:first] + bytes(last - first) + data[last:],
        data[:first] + choose.randbytes(last - first) + data[last:],
    ][seed % 5]
    manifest.write_bytes(changed)
    with quiet():
        check(here(root), ALL)


def changed_by(*statements):
    def change(path):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return change


REPLACEMENTS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a database"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "another version": changed_by("PRAGMA user_version = 99"),
    "a table that lacks": changed_by("DROP TABLE facts"),
    "no facts": changed_by("DELETE FROM facts"),
    "other documents": changed_by("UPDATE documents SET start = CAST(replace(start, 'count', 'scan') AS BLOB)"),
    "other stops": changed_by("UPDATE documents SET stop = CAST(replace(stop, 'done', 'over') AS BLOB)"),
    "no documents": changed_by("DELETE FROM documents WHERE row % 2 = 0"),
    "other times": changed_by("UPDATE runs SET time = time + 1e6"),
    "other uids": changed_by("UPDATE runs SET uid = CAST('g' || row AS BLOB)"),
    "other scan_ids": changed_by("UPDATE runs SET scan_id = scan_id + 1"),
    "other paths": changed_by("UPDATE runs SET path = replace(path, '2025', '2015')"),
    "a garbled log": lambda path: path.with_name(path.name + "-wal").write_bytes(b"x" * 5000),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("replace", REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_whatever_is_in_the_place_of_the_manifest_answers_are_right(root, replace):
    replace(manifest_of(root))
    with quiet():
        check(here(root), ALL)
        insert(Catalog(root), 10)
        check(here(root), [*ALL, 10])


@pytest.mark.parametrize("how", ["files", "directory", "clear_cache"])
def test_a_manifest_may_vanish_while_it_is_open(root, how):
    catalog, results = Catalog(root), []
    selection = catalog.search({"plan_name": "count"})
    check(catalog, ALL)
    assert len(selection) == len(ALL)
    place = Path(catalog.library.directory)
    if how == "files":
        for path in place.glob("manifest*"):
            path.unlink()
    elif how == "directory":
        shutil.rmtree(place)
    else:
        Catalog(root).clear_cache()
    thread = threading.Thread(target=lambda: results.append(numbers_of(catalog)))
    thread.start()
    thread.join()
    assert results == [sorted(ALL, reverse=True)]
    assert numbers_of(selection) == sorted(ALL, reverse=True)
    insert(catalog, 10)
    for one in (catalog, here(root)):
        check(one, [*ALL, 10])


def test_a_manifest_locked_for_a_while_is_waited_for(root):
    manifest = manifest_of(root)
    record(root, 10)
    with contextlib.closing(sqlite3.connect(manifest, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, connection.execute, ["ROLLBACK"])
        timer.start()
        check(here(root), [*ALL, 10])
        timer.join()


@pytest.mark.parametrize(
    "environment",
    [
        *({cache.VARIABLE: ""}, {cache.VARIABLE: "FILE"}, {cache.VARIABLE: "FILE/below"}, {cache.VARIABLE: "~/x"}),
        *({"HOME": "FILE"}, {"HOME": "FILE/missing"}, {"HOME": "NEW/home"}, {"XDG_CACHE_HOME": "FILE"}),
    ],
    ids=lambda environment: " ".join(map("=".join, environment.items())),
)
def test_any_place_for_the_cache_will_do_and_none_as_well(root, tmp_path, monkeypatch, environment):
    (tmp_path / "file").write_text("x")
    for name, value in environment.items():
        value = value.replace("FILE", str(tmp_path / "file")).replace("NEW", str(tmp_path / "new"))
        monkeypatch.setenv(name, value)
    catalog, reader = Catalog(root), here(root)
    check(reader, ALL)
    insert(catalog, 10)
    for one in (catalog, reader, here(root)):
        check(one, [*ALL, 10])
    assert (tmp_path / "file").read_text() == "x"


def test_processes_that_open_a_cold_catalog_at_once_all_see_everything(root):
    with crowd(*[("count", root)] * 3) as processes:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.stdout.readline().split() for process in processes] == [["9", "9", "9"]] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kept", ["on disk", "in memory"])
def test_a_fork_while_a_thread_reads_harms_neither_side(root, monkeypatch, kept):
    if kept == "in memory":
        monkeypatch.setenv(cache.VARIABLE, "")
    catalog, done = Catalog(root, sync="never"), threading.Event()
    len(catalog)

    def read():
        while not done.is_set():
            numbers_of(catalog)

    thread = threading.Thread(target=read)
    thread.start()
    outcomes = []
    try:
        for number in range(10, 18):
            child = os.fork()
            if not child:
                signal.alarm(30)
                is_right = len(catalog) == number - 1 and numbers_of(catalog)[0] == number - 1
                os._exit(0 if is_right else 1)
            outcomes.append(os.waitpid(child, 0)[1])
            insert(catalog, number)
    finally:
        done.set()
        thread.join()
    assert outcomes == [0] * 8
    for one in (catalog, here(root), elsewhere(root)):
        check(one, range(1, 18))


@pytest.mark.parametrize("kept", ["on disk", "in memory"])
def test_threads_may_ask_anything_while_runs_are_recorded(root, monkeypatch, kept):
    if kept == "in memory":
        monkeypatch.setenv(cache.VARIABLE, "")
    catalog, done, failures = Catalog(root, sync="never"), threading.Event(), []
    acknowledged = [len(ALL)]

    def ask():
        try:
            while not done.is_set():
                least = acknowledged[-1]
                assert len(catalog) >= least
                assert numbers_of(catalog)[-least:] == list(range(least, 0, -1))
                assert len(catalog.search({"plan_name": "count"})) >= least
                assert len(catalog.search(text="done")) >= least
                assert catalog.by_scan_id(least).uid == catalog.by_uid(f"f{least:04d}").uid
                assert len(catalog.search({"scan_id": {"$lte": least}})) == least
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10, 30):
            insert(catalog, number)
            acknowledged.append(number)
            if number % 10 == 0:
                compact(Ledger(Folder(root)))
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    check(catalog, range(1, 30))


# -------------------------------------------------------------------------------------------- the cache


def kept():
    """Give the names of what is kept on this machine."""
    place = cache.root()
    return set(os.listdir(place)) if place and os.path.isdir(place) else set()


def test_another_catalog_in_the_place_of_one_shares_nothing_with_it(root):
    catalog = here(root)
    check(catalog, ALL)
    shutil.rmtree(root)
    record(root, 50)
    assert here(root).library.directory != catalog.library.directory
    check(here(root), [50])
    check(elsewhere(root), [50])
    assert numbers_of(here(root).search({"plan_name": "count"})) == [50]


def test_what_is_kept_of_a_catalog_that_is_gone_is_removed_when_the_next_is_opened(root, other):
    check(here(root), ALL)
    (before,) = (name for name in kept() if name.startswith("catalog"))
    shutil.rmtree(root)
    Catalog(other.parent / "third").insert(*short_run(1)[0])
    assert before not in kept()
    assert any(name.startswith("third") for name in kept())


def test_clear_cache_removes_what_is_kept_also_by_who_has_asked_nothing_yet(root):
    check(here(root), ALL)
    catalog = Catalog(root)
    assert len(catalog.library.manifest) == len(ALL)
    catalog.clear_cache()
    assert len(catalog.library.manifest) == 0
    check(here(root), ALL)


def test_a_temporary_catalog_leaves_nothing_behind():
    db = filebroker.temp()
    place = db.catalog.folder.local if hasattr(db, "catalog") else db.v2.catalog.folder.local
    for pair in short_run(1):
        db.insert(*pair)
    assert len(list(db())) == 1
    del db
    assert not os.path.exists(place)
    assert not kept()


@pytest.mark.parametrize("secret", ["secret", "se@cret", "s:ecret"])
def test_a_url_with_a_password_is_refused_and_nothing_of_it_is_written(secret):
    with pytest.raises(InvalidConfig, match="credentials") as caught:
        Catalog(f"memory://user:{secret}@host/beamtime", read_only=True)
    assert "cret" not in str(caught.value)
    assert not kept()
