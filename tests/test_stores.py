"""Files in S3, in memory and on web servers: one behaviour, few requests, typed errors within a deadline."""

import asyncio
import contextlib
import functools
import http.server
import os
import pickle
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from servers import Proxy, WebServer, new_bucket, options_for, refusing_port, s3_server

from filebroker.ground.errors import (
    AccessDenied,
    InvalidConfig,
    MissingPackage,
    MissingStore,
    StorageError,
    StoreUnreachable,
)
from filebroker.ground.retries import Errand, deadline
from filebroker.ground.store_errors import classify, explain
from filebroker.ground.stores import Store

MIB = 1 << 20


class Plain(MemoryFileSystem):
    """A filesystem of which nothing is known, and that cannot create exclusively."""

    protocol = "plain"
    store: dict[str, Any] = {}
    pseudo_dirs = [""]
    pipe_file = AbstractFileSystem.pipe_file

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("plain://").removeprefix("swift://"))


class Swift(AsyncFileSystemWrapper):
    """The same, with coroutines."""

    protocol = "swift"
    _strip_protocol = Plain._strip_protocol

    def __init__(self, **options: Any) -> None:
        super().__init__(fs=Plain(), **options)


fsspec.register_implementation("plain", Plain, clobber=True)
fsspec.register_implementation("swift", Swift, clobber=True)


@pytest.fixture(params=["s3", "memory", "plain", "swift"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "s3":
        url, options = request.getfixturevalue("s3_url")
        return Store(f"{url}/my/beamtime", options)
    return Store(f"{request.param}://{uuid.uuid4().hex}/beamtime")


@pytest.fixture(scope="module")
def shared_proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxied(s3_endpoint: str, shared_proxy: Proxy) -> tuple[Proxy, Store]:
    """Give a store, and the proxy that stands before it."""
    shared_proxy.clear()
    return shared_proxy, Store(f"s3://{new_bucket(s3_endpoint)}/beamtime", options_for(shared_proxy.url))


# One behaviour


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (2, 5, b"234"),
        (0, 100, b"0123456789"),
        (8, 100, b"89"),
        (10, None, b""),
        (11, None, b""),
        (11, 20, b""),
        (4, 4, b""),
    ],
)
def test_a_part_of_a_file_is_read(store: Store, start: int, end: int | None, expected: bytes) -> None:
    store.write("2026/run/file", b"0123456789")
    assert store.read("2026/run/file", start, end) == expected


def test_an_empty_file_is_there_and_empty(store: Store) -> None:
    store.write("empty", b"")
    assert (store.read("empty"), store.read("empty", 1), store.exists("empty")) == (b"", b"", True)


def test_a_large_file_is_read_whole_whatever_part_is_asked_for(store: Store) -> None:
    data = os.urandom(1000) * (20 * MIB // 1000) + b"end"
    store.write("large", data)
    for start, end in [(0, None), (5, None), (8 * MIB, None), (0, 17 * MIB), (7, 8 * MIB + 7), (9 * MIB, 90 * MIB)]:
        assert store.read("large", start, end) == data[start:end]


@pytest.mark.parametrize("name", ["absent", "directory", "directory/file/below"])
def test_an_absent_file_cannot_be_read(store: Store, name: str) -> None:
    store.write("directory/file", b"1")
    with pytest.raises(FileNotFoundError, match="no such file"):
        store.read(name)


def test_many_parts_are_read_in_order_and_failures_stand_in_their_places(store: Store) -> None:
    for number in range(100):
        store.write(f"run/{number}", b"%d" % number * 3)
    parts: list[tuple[str, int, int | None]] = [(f"run/{number}", 0, None) for number in range(100)]
    parts[50] = ("run/absent", 0, None)
    found = store.read_many(parts)
    assert isinstance(found.pop(50), FileNotFoundError)
    assert found == [b"%d" % number * 3 for number in range(100) if number != 50]
    assert store.read_many([]) == []


def test_directories_are_listed(store: Store) -> None:
    for name, data in {"a": b"1", "run/x": b"22", "run/primary/p": b"333", "run-2/y": b"", "run.json": b"4"}.items():
        store.write(name, data)
    assert store.names() == ["a", "run", "run-2", "run.json"]
    assert store.names("run") == ["primary", "x"]
    assert store.sizes("run") == {"x": 2}
    assert store.tree("run") == {"x": 2, "primary/p": 3}
    assert store.tree("") == {"a": 1, "run/x": 2, "run/primary/p": 3, "run-2/y": 0, "run.json": 1}
    for absent in ("absent", "a", "run/x", "ru"):
        assert (store.names(absent), store.sizes(absent), store.tree(absent)) == ([], {}, {})


def test_what_is_not_there_does_not_exist(store: Store) -> None:
    assert not store.exists()
    store.write("run/x", b"1")
    store.write("run.json", b"1")
    there = {name: store.exists(name) for name in ("", "run", "run/x", "run.json", "ru", "run/", "run/y", "x")}
    assert there == {
        "": True, "run": True, "run/x": True, "run.json": True, "ru": False, "run/": True, "run/y": False, "x": False
    }  # fmt: skip


def test_a_file_is_replaced_as_a_whole(store: Store) -> None:
    store.write("file", b"long before")
    store.write("file", b"now")
    assert store.read("file") == b"now"


@pytest.mark.parametrize("data", [b"", b"mine", b"m" * (MIB // 2)], ids=["empty", "small", "large"])
def test_a_file_is_created_once(store: Store, data: bytes) -> None:
    assert store.create("run/file", data)
    assert store.create("run/file", data)  # an acknowledgement may have been lost
    assert not store.create("run/file", data + b"!")
    assert not store.create("run/file", data[:-1] or b"other")
    assert store.read("run/file") == data
    assert store.names("_index") == []


@pytest.mark.parametrize("store", ["s3", "memory"], indirect=True)
def test_one_of_many_creates_a_file(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda number: store.create("_live/lock", b"%d" % number), range(8)))
    assert sum(created) == 1
    assert store.read("_live/lock") == b"%d" % created.index(True)


def test_files_are_removed_and_absent_ones_are_no_error(store: Store) -> None:
    for number in range(5):
        store.write(f"run/{number}", b"1")
    store.remove(["run/0", "run/absent"])
    store.remove(f"run/{number}" for number in range(1, 4))
    store.remove(["absent"])
    store.remove([])
    assert store.names("run") == ["4"]


@pytest.mark.parametrize("name", ["a b", "100%", "a%2Fb", "ü", "a+b", "a?b", "a#b", "~", "'", '"&<>'])
def test_names_are_kept_as_they_are(store: Store, name: str) -> None:
    store.write(f"run/{name}", b"1")
    assert store.names("run") == [name]
    assert store.tree("") == {f"run/{name}": 1}
    assert store.read(f"run/{name}") == b"1"
    store.remove([f"run/{name}"])
    assert not store.exists(f"run/{name}")


def test_whether_creation_is_exclusive_is_known_of_each_filesystem(store: Store) -> None:
    assert store.probe() is (store.url.partition(":")[0] in ("s3", "memory"))


def test_a_pickled_store_reads_the_same(store: Store) -> None:
    store.write("file", b"1")
    assert pickle.loads(pickle.dumps(store)).read("file") == b"1"


def test_threads_share_a_store(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.write(f"run/{number}", b"%d" % number), range(40)))
        found = list(threads.map(lambda number: store.read(f"run/{number}"), range(40)))
    assert found == [b"%d" % number for number in range(40)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_connections_of_its_own(store: Store) -> None:
    store.write("file", b"1")
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # that other threads do not live on is what is tested
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, store.read("file") + store.read_many([("file", 0, None)])[0])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"11"
    os.waitpid(child, 0)
    assert store.read("file") == b"1"


# Few requests


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (lambda store: store.read("run/file"), ["GET"]),
        (lambda store: store.read("run/file", 3), ["GET"]),
        (lambda store: store.read("run/file", 3, 5), ["GET"]),
        (lambda store: store.read("run/file", 3, 3), []),
        (lambda store: store.read("run/file", 900), ["GET"]),
        (lambda store: store.read("run/empty"), ["GET"]),
        (lambda store: store.read_many([("run/file", 0, None)] * 5), ["GET"] * 5),
        (lambda store: store.names("run"), ["GET"]),
        (lambda store: store.sizes("run"), ["GET"]),
        (lambda store: store.tree(""), ["GET"]),
        (lambda store: store.tree("absent"), ["GET"]),
        (lambda store: store.exists("run/file"), ["GET"]),
        (lambda store: store.exists("run"), ["GET", "GET"]),
        (lambda store: store.exists(), ["GET", "GET"]),
        (lambda store: store.write("new", b"1"), ["PUT"]),
        (lambda store: store.create("new", b"1"), ["PUT"]),
        (lambda store: store.create("run/file", b"1"), ["PUT", "GET"]),
        (lambda store: store.create("large", b"1" * (101 * MIB)), ["PUT"]),
        (lambda store: store.remove(["run/file"]), ["DELETE"]),
        (lambda store: store.remove(f"run/{number}" for number in range(1000)), ["POST"]),
        (lambda store: store.probe(), []),
    ],
)
def test_s3_is_asked_no_more_than_needed(
    proxied: tuple[Proxy, Store], do: Callable[[Store], object], expected: list[str]
) -> None:
    proxy, store = proxied
    store.write("run/file", b"0123456789")
    store.write("run/empty", b"")
    store.probe()
    proxy.clear()
    do(store)
    assert [line.partition(" ")[0] for line in proxy.requests] == expected


def test_a_probe_takes_three_requests_and_only_the_first_time(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    assert store.probe()
    assert Store(store.url, store.storage_options).probe()
    assert [line.partition(" ")[0] for line in proxy.requests] == ["PUT", "PUT", "DELETE"]


def test_long_listings_come_in_thousands(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.write(f"run/{number:04}", b""), range(1003)))
    proxy.clear()
    assert len(store.names("run")) == 1003
    assert len(store.tree("")) == 1003
    assert proxy.count() == 4


def test_many_files_are_read_at_the_same_time_but_not_too_many(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.write("file", b"1")
    proxy.delay = 0.05
    store.read_many([("file", 0, None)] * 200)
    assert 20 <= proxy.most_at_once <= 64


def test_a_large_file_is_read_in_pieces_at_the_same_time(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.write("file", b"1" * (40 * MIB))
    proxy.clear()
    proxy.delay = 0.05
    assert len(store.read("file")) == 40 * MIB
    assert (proxy.count("GET"), proxy.most_at_once) == (5, 4)


def test_a_file_that_is_replaced_while_it_is_read_is_read_anew(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.write("file", b"a" * (20 * MIB))
    transport = store._connected().transport
    get = transport.get

    async def get_and_replace(path: str, start: int, end: int | None, progress: Any) -> Any:
        piece = await get(path, start, end, progress)
        if start == 0 and piece.data[:1] == b"a":
            await transport.put(path, b"b" * (20 * MIB), False)
        return piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "get", get_and_replace)
        assert store.read("file") == b"b" * (20 * MIB)


def test_a_store_that_ignores_conditions_is_found_out(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    proxy.fault("PUT", "unconditional")
    assert not store.probe()
    assert store.create("file", b"mine")
    assert store.create("file", b"mine")
    assert not store.create("file", b"other")
    assert store.read("file") == b"mine"
    assert store.names("_index") == []


# Failures

DEEDS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("there"),
    "read_many": lambda store: [bytes(found) for found in store.read_many([("there", 1, None)])],  # type: ignore[arg-type]
    "names": lambda store: store.names(),
    "tree": lambda store: store.tree(""),
    "exists": lambda store: store.exists("there"),
    "write": lambda store: store.write("new", b"new"),
    "create": lambda store: store.create("created", b"new"),
    "remove": lambda store: store.remove(["gone", "gone too"]),
}
ANSWERS = {
    "read": b"there", "read_many": [b"here"], "names": ["there"], "tree": {"there": 5}, "exists": True, "write": None,
    "create": True, "remove": None,
}  # fmt: skip
#: A read that lacks bytes is found out; so is a listing that lacks its end.
FAULTS = ["503", "500", "429", "reset", "lost-ack", "hang", "truncate"]


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.fixture
def brisk(proxied: tuple[Proxy, Store]) -> tuple[Proxy, Store]:
    """Give a store that does not wait long for an answer."""
    proxy, store = proxied
    store = Store(store.url, {**store.storage_options, "config_kwargs": {"read_timeout": 0.2}})
    store.write("there", b"there")
    store.probe()
    proxy.clear()
    return proxy, store


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("action", FAULTS)
def test_what_fails_once_is_done_in_the_end(brisk: tuple[Proxy, Store], deed: str, action: str) -> None:
    proxy, store = brisk
    proxy.fault("", action, last=1)
    if deed in ("create", "write") or action not in ("truncate",):
        assert DEEDS[deed](store) == ANSWERS[deed]
    else:
        assert DEEDS[deed](store) == ANSWERS[deed]
    assert store.read("there") == b"there"


@pytest.mark.parametrize("action", FAULTS)
def test_what_fails_for_ever_is_told_within_the_deadline(
    brisk: tuple[Proxy, Store], action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.7")
    proxy, store = brisk
    proxy.fault("", action)

    def failure(deed: str) -> BaseException | None:
        try:
            DEEDS[deed](store)
        except BaseException as error:  # noqa: BLE001 - told to the test
            return error
        return None

    began = time.monotonic()
    with ThreadPoolExecutor(len(DEEDS)) as threads:
        found = dict(zip(DEEDS, threads.map(failure, DEEDS), strict=True))
    assert time.monotonic() - began < 10
    if action == "truncate":
        assert isinstance(found.pop("write"), StoreUnreachable | None)
    assert {deed: type(error) for deed, error in found.items()} == dict.fromkeys(found, StoreUnreachable)
