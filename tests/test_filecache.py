"""The cache of remote pieces: bounded, checked, shared by processes, and never a source of wrong answers."""

import errno
import multiprocessing
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from filebroker import InvalidConfig
from filebroker.ground import filecache
from filebroker.ground.errors import StorageError
from filebroker.ground.filecache import FileCache, clear, limit_from_environment, usage

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes, limits nor forks")
ROOMY = 1 << 20
HEAD = 52


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first put of each test be the first of its process."""
    monkeypatch.setattr(filecache, "_tally", filecache._Tally())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "caches"


@pytest.fixture
def cache(root: Path) -> FileCache:
    return cache_of(root)


def cache_of(root: Path, label: str = "beamtime-0", limit: int = ROOMY) -> FileCache:
    return FileCache(str(root / label / "files"), limit)


def files(root: Path) -> list[Path]:
    return sorted(Path(parent, name) for parent, _, names in os.walk(root) for name in names)


def total(root: Path) -> int:
    return sum(size_of(path) for path in files(root))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # removed by another process
        return 0


def path_of(cache: FileCache, key: str) -> Path:
    return Path(cache._path(filecache._name(key)))


def set_age(cache: FileCache, key: str, hours: float) -> None:
    os.utime(path_of(cache, key), (time.time(), time.time() - hours * 3600))


def kept(cache: FileCache, keys: str) -> str:
    return "".join(key for key in keys if path_of(cache, key).exists())


# ------------------------------------------------------------------------------- what was put, or nothing


@pytest.mark.parametrize(
    "key", ["2026/11/23/run/primary/00000.parquet 0-100", "", "../../x", "\0", "é\ud800", "k" * 9999]
)
@pytest.mark.parametrize("data", [b"", b"\0", os.urandom(200_000)], ids=["nothing", "a byte", "many bytes"])
def test_what_was_put_is_given(cache: FileCache, root: Path, key: str, data: bytes) -> None:
    assert cache.get(key) is None
    cache.put(key, data)
    assert cache.get(key) == data
    assert cache_of(root).get(key) == data
    assert cache.get(key + "'") is None
    assert [path.parent.parent for path in files(root)] == [Path(cache.directory)]
    assert not cache.problem


def test_keys_that_look_alike_are_kept_apart(cache: FileCache) -> None:
    keys = ["\ud800", "\ud801", "?", "e\u0301", "\u00e9", "run", "Run", "run "]
    for key in keys:
        cache.put(key, repr(key).encode())
    assert [cache.get(key) for key in keys] == [repr(key).encode() for key in keys]


def test_what_is_put_again_replaces_what_was_there(cache: FileCache, root: Path) -> None:
    for data in (b"first", b"second, longer", b"3"):
        cache.put("key", data)
        assert cache.get("key") == data
    assert len(files(root)) == 1


DAMAGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a bit of the data": lambda own, other: own[:-3] + bytes([own[-3] ^ 1]) + own[-2:],
    "a bit of the checksum": lambda own, other: own[: HEAD - 1] + bytes([own[HEAD - 1] ^ 128]) + own[HEAD:],
    "a bit of the length": lambda own, other: own[:40] + bytes([own[40] ^ 4]) + own[41:],
    "a bit of the mark": lambda own, other: bytes([own[0] ^ 1]) + own[1:],
    "no bytes": lambda own, other: b"",
    "half a head": lambda own, other: own[:20],
    "a head without its checksum": lambda own, other: own[:48],
    "a head alone": lambda own, other: own[:HEAD],
    "a truncated end": lambda own, other: own[:-1],
    "a zeroed block": lambda own, other: own[:HEAD] + bytes(100) + own[HEAD + 100 :],
    "only zeros": lambda own, other: bytes(len(own)),
    "something appended": lambda own, other: own + b"\0",
    "another key's": lambda own, other: other,
    "another key's data": lambda own, other: own[:HEAD] + other[HEAD:],
    "another key's data with their checksum": lambda own, other: own[: HEAD - 4] + other[HEAD - 4 :],
    "own data under another's head": lambda own, other: other[:HEAD] + own[HEAD:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_not_given_but_removed(cache: FileCache, damage: str) -> None:
    cache.put("own", b"own data " * 100)
    cache.put("other", b"the rest " * 100)
    path = path_of(cache, "own")
    path.write_bytes(DAMAGES[damage](path.read_bytes(), path_of(cache, "other").read_bytes()))
    assert cache.get("own") is None
    assert not path.exists()
    assert cache.get("other") == b"the rest " * 100
    cache.put("own", b"anew")
    assert cache.get("own") == b"anew"


@unix
def test_a_copy_that_became_too_large_for_the_memory_is_not_read(cache: FileCache) -> None:
    cache.put("key", b"data")
    os.truncate(path_of(cache, "key"), 1 << 42)
    assert cache.get("key") is None
    assert not path_of(cache, "key").exists()


def damaged(whole: dict[Path, bytes], chance: st.DataObject) -> None:
    """Do something to one of the files."""
    path = chance.draw(st.sampled_from(sorted(whole)))
    data = bytearray(path.read_bytes())
    where = chance.draw(st.integers(0, len(data)))
    kind = chance.draw(st.sampled_from(["flip", "cut", "insert", "overwrite", "other"]))
    if kind == "flip":
        for _ in range(chance.draw(st.integers(1, 3))):
            if data:
                bit = chance.draw(st.integers(0, len(data) * 8 - 1))
                data[bit // 8] ^= 1 << bit % 8
    elif kind == "cut":
        del data[where:]
    elif kind == "insert":
        data[where:where] = chance.draw(st.binary(min_size=1, max_size=20))
    elif kind == "overwrite":
        some = chance.draw(st.binary(min_size=1, max_size=60))
        data[where : where + len(some)] = some
    else:
        data[where:] = whole[chance.draw(st.sampled_from(sorted(whole)))][where:]
    path.write_bytes(data)


@settings(max_examples=200, deadline=None)
@given(pairs=st.dictionaries(st.text(max_size=5), st.binary(max_size=300), min_size=1, max_size=4), chance=st.data())
def test_under_any_damage_it_gives_what_was_put_or_nothing(pairs: dict[str, bytes], chance: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        cache = cache_of(Path(directory))
        for key, data in pairs.items():
            cache.put(key, data)
        whole = {path: path.read_bytes() for path in files(Path(directory))}
        for _ in range(chance.draw(st.integers(0, 3))):
            damaged(whole, chance)
        for key, data in pairs.items():
            path = path_of(cache, key)
            is_whole = path.read_bytes() == whole[path]
            assert cache.get(key) == (data if is_whole else None)
            assert path.exists() == is_whole


# ------------------------------------------------------------------------------------------------ the bound


def test_the_bound_holds_at_every_moment_over_all_catalogs(root: Path) -> None:
    choose, limit = random.Random(5), 40_000
    caches = [cache_of(root, f"beamtime-{number}", limit) for number in range(5)]
    totals = []
    for number in range(250):
        choose.choice(caches).put(str(number), choose.randbytes(int(12_000 * choose.random() ** 3)))
        totals.append(total(root))
    assert limit * 3 // 4 < max(totals) <= limit
    assert min(totals[50:]) > limit // 2
    assert len({path.parts[-4] for path in files(root)}) > 1


def test_the_copies_used_longest_ago_go_first_whichever_catalog_they_are_of(root: Path) -> None:
    limit = 16_000
    one, other = cache_of(root, "one", limit), cache_of(root, "other", limit)
    for age, key in enumerate("abcdefgh", 2):
        owner = one if key in "aceg" else other
        owner.put(key, bytes(1500 - HEAD))
        set_age(owner, key, age)
    assert (kept(one, "abcdefgh"), kept(other, "abcdefgh")) == ("aceg", "bdfh")
    assert other.get("h") == bytes(1500 - HEAD)  # now it is the one that was used last
    one.put("new", bytes(3500 - HEAD))  # 15,500 bytes are too many, 12,500 are not: g and f go
    assert (kept(one, "abcdefgh"), kept(other, "abcdefgh")) == ("ace", "bdh")
    assert one.get("new") == bytes(3500 - HEAD)


def test_that_a_copy_is_used_is_noted_once_an_hour(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("key", b"data")
    touched: list[str] = []
    touch = os.utime
    monkeypatch.setattr(filecache.os, "utime", lambda path, *given: (touched.append(path), touch(path, *given)))
    for hours, expected in [(0.9, 0), (1.1, 1), (5000, 1), (-2, 1)]:  # the last one by a clock that was wrong
        touched.clear()
        path = path_of(cache, "key")
        touch(path, (0, time.time() - hours * 3600))
        for _ in range(3):
            assert cache.get("key") == b"data"
        assert len(touched) == expected
        assert abs(path.stat().st_mtime - time.time()) < 3600


def test_a_copy_that_can_only_be_read_is_given(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put("key", b"data")
    set_age(cache, "key", 2)
    monkeypatch.setattr(filecache.os, "utime", failing(errno.EROFS))
    assert cache.get("key") == b"data"


def test_what_takes_more_than_a_quarter_is_not_kept(root: Path) -> None:
    cache = cache_of(root, limit=4000)
    for size, expected in [(1000 - HEAD, 1), (1001 - HEAD, 0), (100_000, 0)]:
        cache.put(str(size), bytes(size))
        assert (cache.get(str(size)) is not None) == expected
    assert total(root) == 1000


def test_a_limit_of_nothing_keeps_nothing_and_removes_what_is_there(root: Path) -> None:
    cache_of(root, "other").put("key", b"data")
    filecache._tally = filecache._Tally()
    none = cache_of(root, limit=0)
    none.put("key", b"")
    assert none.get("key") is None
    assert not files(root)


def test_a_process_looks_at_what_is_there_at_first_and_after_a_sixteenth(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = filecache._copies_of_all
    monkeypatch.setattr(filecache, "_copies_of_all", lambda *given: (looks.append(""), look(*given))[1])
    caches = [cache_of(root, label, 160_000) for label in "abcd"]
    for number in range(101):  # after the first, 100 times 1,000 bytes: one in eleven finds 10,000 put before it
        caches[number % 4].put(str(number), bytes(1000 - HEAD))
    assert len(looks) == 1 + 100 // 11


def test_what_broken_off_writing_left_is_removed_after_an_hour_and_nothing_else(root: Path) -> None:
    writer = cache_of(root)
    writer.put("key", b"data")
    entry = path_of(writer, "key")
    old, new = (entry.with_name(f"{entry.name}.{digits}.tmp") for digits in ("0123abcd", "4567abcd"))
    strange = [entry.with_name("notes.tmp"), entry.parent / "notes", entry.parents[1] / "list.tmp", root / "x.tmp"]
    strange += [entry.parents[2] / "catalog.json", entry.parents[1] / "abc" / entry.name]
    strange[-1].parent.mkdir()
    for path in (old, new, *strange):
        path.write_bytes(b"data")
        os.utime(path, (0, time.time() - (3500 if path == new else 3700)))
    folder = entry.parent / ("0" * 64)
    folder.mkdir()
    filecache._tally = filecache._Tally()
    cache_of(root, "another").put("key", b"data")
    assert not old.exists()
    assert all(path.exists() for path in (new, entry, folder, *strange))
    filecache._tally = filecache._Tally()
    cache_of(root, "another", 0).put("key", b"data")
    assert not entry.exists()
    assert clear(writer.directory) == len(b"data")
    assert all(path.exists() for path in (folder, *strange))
    assert not new.exists()


@unix
def test_nothing_outside_is_removed_through_a_link(root: Path, tmp_path: Path) -> None:
    elsewhere = cache_of(tmp_path / "elsewhere")
    elsewhere.put("key", b"data")
    root.mkdir()
    (root / "link").symlink_to(Path(elsewhere.directory).parent)
    (root / "other" / "files").mkdir(parents=True)
    (root / "other" / "files" / "00").symlink_to(path_of(elsewhere, "key").parent)
    filecache._tally = filecache._Tally()
    cache_of(root, limit=0).put("key", b"data")
    assert clear(str(root / "other" / "files")) == 0
    assert elsewhere.get("key") == b"data"


# ------------------------------------------------------------------------------------------ several at once

HAMMER = """
import os, random, shutil, sys
from filebroker.ground.filecache import FileCache, clear

directory, limit, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache, choose, hits, problems = FileCache(directory, limit), random.Random(seed), 0, set()
for step in range(400):
    key = f"key {choose.randrange(60)}"
    expected = random.Random(key).randbytes(random.Random(key).randrange(4000))
    found = cache.get(key)
    assert found is None or found == expected, key
    hits += found is not None
    if found is None:
        cache.put(key, expected)
    problems.add(cache.problem)
    if step % 200 == 50 * seed:
        (clear if seed % 2 else lambda path: shutil.rmtree(path, ignore_errors=True))(directory)
assert hits > 10, hits
print(*sorted(filter(None, problems)), sep="\\n", end="")
"""


def test_processes_that_put_prune_and_clear_at_once_get_no_wrong_bytes(root: Path) -> None:
    limit, number = 30_000, 4
    directory = cache_of(root).directory
    commands = [[sys.executable, "-c", HAMMER, directory, str(limit), str(seed)] for seed in range(number)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands
    ]
    largest = 0
    while any(worker.poll() is None for worker in workers):
        largest = max(largest, total(root))
        time.sleep(0.02)
    told = [worker.communicate(timeout=30) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * number, told
    if sys.platform != "win32":  # where a file that is read can be neither removed nor replaced
        assert told == [("", "")] * number
    assert 0 < largest <= limit + (number - 1) * limit // 3
    cache_of(root, limit=limit).put("another", b"")
    assert total(root) <= limit
    assert not [path for path in files(root) if path.suffix == ".tmp"]


def test_copies_may_vanish_while_there_is_pruned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(root, limit=16_000)
    for key in "abcdefgh":
        cache.put(key, bytes(1500))
    find = filecache._copies_of_all

    def vanishing(*given: str) -> Iterator[Any]:
        found = list(find(*given))
        shutil.rmtree(root)  # as another process may that prunes, or clears the cache
        yield from found

    monkeypatch.setattr(filecache, "_copies_of_all", vanishing)
    cache.put("new", bytes(3500))
    assert cache.get("new") == bytes(3500)
    assert kept(cache, "abcdefgh") == ""
    assert not cache.problem


def test_what_another_process_has_pruned_counts_as_pruned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(root, limit=16_000)
    for age, key in enumerate("abcdefgh"):
        cache.put(key, bytes(1500 - HEAD))
        set_age(cache, key, age)
    find = filecache._copies_of_all

    def vanishing(*given: str) -> Iterator[Any]:
        found = list(find(*given))
        for key in "hg":
            path_of(cache, key).unlink()
        yield from found

    monkeypatch.setattr(filecache, "_copies_of_all", vanishing)
    cache.put("new", bytes(3500 - HEAD))
    assert kept(cache, "abcdefgh") == "abcdef"


def test_what_is_written_may_be_removed_by_another_process(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, failures = os.replace, [1, 2, 3]

    def late(source: str, target: str) -> None:
        if failures and failures.pop():
            shutil.rmtree(cache.directory)
        replace(source, target)

    monkeypatch.setattr(filecache.os, "replace", late)
    cache.put("key", b"data")
    assert cache.get("key") == b"data"
    assert not cache.problem


def test_a_directory_that_vanishes_for_ever_is_given_up(cache: FileCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filecache.os, "replace", failing(errno.ENOENT))
    cache.put("key", b"data")
    assert cache.problem == f"cannot keep anything in {cache.directory}: the directory is removed all the time"


def test_threads_share_a_cache_that_is_cleared_meanwhile(cache: FileCache) -> None:
    data = {str(number): random.Random(number).randbytes(5000) for number in range(20)}
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for key, expected in data.items():
                found = cache.get(key)
                if found is None:
                    cache.put(key, expected)
                elif found != expected:
                    wrong.append(key)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    freed = 0
    while freed < 40 * 5000 and any(thread.is_alive() for thread in threads):  # all of them, twice
        freed += clear(cache.directory)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert freed >= 40 * 5000
    if sys.platform != "win32":
        assert not cache.problem


@unix
def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(cache: FileCache) -> None:
    cache.put("parent", b"data")
    filecache._tally._lock.acquire()  # as if another thread were putting
    child = multiprocessing.get_context("fork").Process(target=cache.put, args=("child", b"more"), daemon=True)
    child.start()
    filecache._tally._lock.release()
    child.join(20)
    assert child.exitcode == 0
    assert cache.get("child") == b"more"


def test_a_cache_can_be_pickled(cache: FileCache) -> None:
    cache.put("key", b"data")
    again = pickle.loads(pickle.dumps(cache))
    assert (again.get("key"), again.limit, repr(again)) == (b"data", cache.limit, repr(cache))


# ----------------------------------------------------------------------------------------- disks that refuse


def failing(number: int) -> Callable[..., Any]:
    def fail(*given: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@unix
def test_a_full_disk_makes_it_a_cache_that_keeps_nothing(cache: FileCache, root: Path) -> None:
    import resource

    cache.put("before", b"data")
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, allowed[1]))
    try:
        for _ in range(3):
            cache.put("key", bytes(100_000))
        problem = cache.problem
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert problem == f"cannot keep anything in {cache.directory}: {os.strerror(errno.EFBIG)}"
    assert cache.get("key") is None
    assert cache.get("before") == b"data"
    assert [path.name for path in files(root)] == [path_of(cache, "before").name]
    cache.put("key", bytes(100_000))
    assert cache.get("key") == bytes(100_000)
    assert cache.problem == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "replace", "open", "scandir"])
def test_a_call_that_fails_is_told_and_raises_nothing(
    cache: FileCache, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(filecache.os, call, failing(number))
        cache.put("key", b"data")
        assert cache.get("key") is None
        assert cache.problem == f"cannot keep anything in {cache.directory}: {os.strerror(number)}"
    assert not files(root)
    cache.put("key", b"data")
    assert cache.get("key") == b"data"
    assert not cache.problem


def test_copies_that_cannot_be_removed_do_not_keep_others_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(root, limit=16_000)
    for key in "abcdefgh":
        cache.put(key, bytes(1500))
    monkeypatch.setattr(filecache.os, "unlink", failing(errno.EACCES))  # on Windows, they are read
    cache.put("new", bytes(3500))
    assert cache.get("new") == bytes(3500)
    with pytest.raises(StorageError, match=r"9 files of the cache .*files cannot be removed; close what uses them"):
        clear(cache.directory)


def test_a_file_in_the_place_of_a_directory_is_a_problem_not_an_error(root: Path, tmp_path: Path) -> None:
    root.touch()
    cache = cache_of(root)
    cache.put("key", b"data")
    assert cache.get("key") is None
    assert cache.problem
    assert root.read_bytes() == b""
    assert (clear(cache.directory), usage(str(root))) == (0, [])


def test_a_directory_in_the_place_of_a_copy_is_a_problem_not_an_error(cache: FileCache) -> None:
    path_of(cache, "key").mkdir(parents=True)
    assert cache.get("key") is None
    assert cache.problem.startswith(f"cannot read {path_of(cache, 'key')}: ")
    cache.put("key", b"data")
    assert cache.problem.startswith("cannot keep anything in ")
    cache.put("other", b"data")
    assert cache.problem == ""


@unix
def test_only_this_user_may_read_what_is_kept(root: Path) -> None:
    before = os.umask(0)
    try:
        cache_of(root).put("key", b"data")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_dir()}
    assert modes == {stat.S_IMODE(root.stat().st_mode)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(root)} == {0o600}


# ----------------------------------------------------------------------------------------- the command line


def test_the_usage_of_each_catalog_is_told(root: Path) -> None:
    assert usage(str(root)) == []
    one, two = cache_of(root, "one"), cache_of(root, "two")
    for age, key in enumerate("cab"):
        one.put(key, b"data")
        set_age(one, key, age)
    newest = path_of(one, "c").stat().st_mtime
    path_of(one, "a").with_name("0" * 64 + ".0123abcd.tmp").touch()
    Path(two.directory).mkdir(parents=True)
    (root / "three").mkdir()  # a catalog on this machine's own disk
    size = 3 * (HEAD + 4)
    found = usage(str(root))
    assert [(item.label, item.directory, item.entries, item.size) for item in found] == [
        ("one", one.directory, 3, size),
        ("two", two.directory, 0, 0),
    ]
    assert [item.last_used for item in found] == [newest, None]
    assert clear(found[0].directory) == size
    assert [item.entries for item in usage(str(root))] == [0, 0]


def test_a_cleared_cache_goes_on(cache: FileCache) -> None:
    assert clear(cache.directory) == 0
    cache.put("key", b"data")
    other = path_of(cache, "key").with_name("notes")
    other.touch()
    assert clear(cache.directory) == HEAD + 4
    assert cache.get("key") is None
    assert other.exists()
    cache.put("key", b"data")
    assert cache.get("key") == b"data"


def test_caches_that_cannot_be_listed_are_no_empty_ones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_of(root).put("key", b"data")
    monkeypatch.setattr(filecache.os, "scandir", failing(errno.EIO))
    with pytest.raises(StorageError, match=r"cannot look at the caches in .*caches: Input/output error"):
        usage(str(root))
    with pytest.raises(StorageError, match=r"cannot clear the cache .*files: Input/output error"):
        clear(cache_of(root).directory)


SIZES = {
    None: 4 << 30,
    "0": 0,
    "0 GiB": 0,
    "1": 1,
    "4294967296": 4 << 30,
    "100 B": 100,
    " 2 GiB ": 2 << 30,
    "2GiB": 2 << 30,
    "2 GB": 2 * 10**9,
    "2G": 2 << 30,
    "2g": 2 << 30,
    "1.5 G": 3 << 29,
    "0.0000001 G": 107,
    "500k": 500 << 10,
    "500 kB": 500_000,
    "500 KiB": 500 << 10,
    "3M": 3 << 20,
    "3 MB": 3_000_000,
    "1 TiB": 1 << 40,
}
NO_SIZES = ["", " ", "-1", "+1", "4 gigabytes", "GiB", "4 iB", "4 GiB 3", "1e9", "1,5 G", ".5G", "5.G", "nan", "\u0663",
            "4 GiB\nx", "9" * 400, "0x10", "1_000"]  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_the_limit_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.delenv("FILEBROKER_CACHE_SIZE", raising=False)
    if text is not None:
        monkeypatch.setenv("FILEBROKER_CACHE_SIZE", text)
    assert limit_from_environment() == SIZES[text]


@pytest.mark.parametrize("text", NO_SIZES)
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FILEBROKER_CACHE_SIZE", text)
    with pytest.raises(
        InvalidConfig, match=r"^FILEBROKER_CACHE_SIZE is '.*', which is no size; write for example '4 GiB'"
    ):
        limit_from_environment()
