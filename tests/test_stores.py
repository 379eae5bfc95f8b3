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

from filebroker.ground import http_transport, retries, stores
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
from servers import GIVEN, Proxy, WebServer, new_bucket, options_for, refusing_port, s3_server

#: Files are read in pieces of so many bytes here, so that large files need not be very large.
lenient = pytest.mark.skipif(GIVEN is not None, reason="takes a server that does not look at signatures, as moto")
PIECE = 1 << 16


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


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_PIECE", PIECE)


@pytest.fixture(params=["s3", "memory", "plain", "swift"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "s3":
        options = options_for(request.getfixturevalue("s3_endpoint"))
        return Store(f"s3://{request.getfixturevalue('bucket')}/my/{uuid.uuid4().hex}", options)
    return Store(f"{request.param}://{uuid.uuid4().hex}/beamtime")


@pytest.fixture(scope="module")
def shared_proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bucket(s3_endpoint: str) -> str:
    return new_bucket(s3_endpoint)


@pytest.fixture
def proxied(bucket: str, shared_proxy: Proxy) -> tuple[Proxy, Store]:
    """Give a store, and the proxy that stands before it."""
    shared_proxy.clear()
    return shared_proxy, Store(f"s3://{bucket}/{uuid.uuid4().hex}", options_for(shared_proxy.url))


# One behaviour


def test_a_part_of_a_file_is_read(store: Store) -> None:
    data = b"0123456789"
    store.write("2026/run/file", data)
    for start, end in [
        (0, None),
        (3, None),
        (2, 5),
        (0, 99),
        (8, 99),
        (10, None),
        (11, None),
        (11, 20),
        (4, 4),
        (5, 4),
    ]:
        assert store.read("2026/run/file", start, end) == data[start:end]


def test_an_empty_file_is_there_and_empty(store: Store) -> None:
    store.write("empty", b"")
    assert (store.read("empty"), store.read("empty", 1), store.exists("empty")) == (b"", b"", True)


def test_a_large_file_is_read_whole_whatever_part_is_asked_for(store: Store) -> None:
    data = os.urandom(20 * PIECE) + b"end"
    store.write("large", data)
    parts = [(0, None), (5, None), (8, None), (0, 17 * PIECE), (7, PIECE + 7), (9 * PIECE, 90 * PIECE), (0, len(data))]
    for start, end in parts:
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


@pytest.mark.parametrize("data", [b"", b"mine", b"m" * (5 * PIECE)], ids=["empty", "small", "large"])
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


def test_names_are_kept_as_they_are(store: Store) -> None:
    names = ["a b", "100%", "a%2Fb", "ü", "a+b", "a?b", "a#b", "~", "'", '"&<>']
    for name in names:
        store.write(f"run/{name}", name.encode())
    assert store.names("run") == sorted(names)
    assert store.tree("") == {f"run/{name}": len(name.encode()) for name in names}
    assert store.read_many([(f"run/{name}", 0, None) for name in names]) == [name.encode() for name in names]
    store.remove([f"run/{name}" for name in names])
    assert not store.exists("run")


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
        (lambda store: store.create("large", b"1" * (6 << 20)), ["PUT"]),
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


def test_long_listings_come_in_parts(proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, store = proxied
    for number in range(25):
        store.write(f"run/{number:02}", b"")
        store.write(f"run/{number:02}/page", b"")
    call = store._connected().transport.filesystem._call_s3

    async def call_for_ten(method: str, **options: Any) -> Any:
        return await call(method, **({"MaxKeys": 10} if method == "list_objects_v2" else {}), **options)

    monkeypatch.setattr(store._connected().transport.filesystem, "_call_s3", call_for_ten)
    proxy.clear()
    assert store.names("run") == [f"{number:02}" for number in range(25)]
    assert len(store.tree("")) == 50
    assert proxy.count("GET") == 10


def test_many_files_are_read_at_the_same_time_but_not_too_many(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.write("file", b"1")
    proxy.delay = 0.05
    store.read_many([("file", 0, None)] * 200)
    assert 10 < proxy.most_at_once <= 64


def test_a_large_file_is_read_in_pieces_at_the_same_time(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.write("file", b"1" * (40 * PIECE))
    proxy.clear()
    proxy.delay = 0.05
    assert len(store.read("file")) == 40 * PIECE
    assert proxy.count("GET") == 40
    assert proxy.most_at_once > 10


def test_a_file_that_is_replaced_while_it_is_read_is_read_anew(proxied: tuple[Proxy, Store]) -> None:
    _, store = proxied
    store.write("file", b"a" * (20 * PIECE))
    transport = store._connected().transport
    get = transport.get

    async def get_and_replace(path: str, start: int, end: int | None, progress: Any) -> Any:
        piece = await get(path, start, end, progress)
        if start == 0 and piece.data[:1] == b"a":
            await transport.put(path, b"b" * (20 * PIECE), False)
        return piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "get", get_and_replace)
        assert store.read("file") == b"b" * (20 * PIECE)


@lenient
def test_a_store_that_ignores_conditions_is_found_out(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    proxy.fault("PUT", "unconditional")
    assert not store.probe()
    assert store.create("file", b"mine")
    assert store.create("file", b"mine")
    assert not store.create("file", b"other")
    assert store.read("file") == b"mine"
    assert store.names("_index") == []


@lenient
def test_a_store_that_ignores_ranges_is_read_rightly(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    data = os.urandom(3 * PIECE)
    store.write("file", data)
    proxy.fault("GET", "rangeless")
    for start, end in [(0, None), (5, None), (5, 9), (5, 2 * PIECE), (len(data), None)]:
        assert store.read("file", start, end) == data[start:end]
    assert proxy.count("GET") == 5


# Failures


def _only(found: list[bytes | Exception]) -> bytes:
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


DEEDS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("there"),
    "read_many": lambda store: _only(store.read_many([("there", 1, None)])),
    "names": lambda store: store.names(),
    "tree": lambda store: store.tree(""),
    "exists": lambda store: store.exists("there"),
    "write": lambda store: store.write("new", b"new"),
    "create": lambda store: store.create("created", b"new"),
    "remove": lambda store: store.remove(["gone", "gone too"]),
}
ANSWERS = {
    "read": b"there", "read_many": b"here", "names": ["there"], "tree": {"there": 5}, "exists": True, "write": None,
    "create": True, "remove": None,
}  # fmt: skip
FAULTS = ["503", "500", "reset", "lost-ack", "hang", "truncate"]


def _told(error: BaseException) -> str:
    """Give all words of a traceback, without the lines of this file that it shows."""
    summary = traceback.TracebackException.from_exception(error, lookup_lines=False)
    told = f"{error!r} {error}"
    while summary is not None:
        told += "".join(summary.format_exception_only())
        summary = summary.__cause__ or (None if summary.__suppress_context__ else summary.__context__)
    return told


@pytest.fixture
def brisk(proxied: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch) -> tuple[Proxy, Store]:
    """Give a store that does not wait long for an answer, nor before it asks again."""
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.01)
    proxy, store = proxied
    store = Store(store.url, {**store.storage_options, "config_kwargs": {"read_timeout": 0.5}})
    store.write("there", b"there")
    store.probe()
    proxy.clear()
    return proxy, store


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("action", FAULTS)
def test_what_fails_once_is_done_in_the_end(brisk: tuple[Proxy, Store], deed: str, action: str) -> None:
    proxy, store = brisk
    proxy.fault("", action, last=1)
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
    if action == "truncate":  # there is nothing to truncate in the answer to a PUT
        assert (found.pop("write"), found.pop("create")) == (None, None)
    assert {deed: type(error) for deed, error in found.items()} == dict.fromkeys(found, StoreUnreachable)


def test_a_creation_whose_acknowledgement_was_lost_is_known_again_as_ours(brisk: tuple[Proxy, Store]) -> None:
    proxy, store = brisk
    proxy.fault("PUT", "lost-ack", last=1)
    assert store.create("created", b"mine")
    proxy.fault("PUT", "lost-ack", last=1)
    assert not store.create("created", b"of somebody else")
    assert store.read("created") == b"mine"


def test_failures_of_some_reads_leave_the_others_alone(brisk: tuple[Proxy, Store]) -> None:
    proxy, store = brisk
    proxy.fault("GET .*forbidden", "403")
    found = store.read_many([("there", 0, None), ("forbidden", 0, None), ("absent", 0, None), ("there", 1, 2)])
    assert (found[0], found[3]) == (b"there", b"h")
    assert [type(found[1]), type(found[2])] == [AccessDenied, FileNotFoundError]


@pytest.mark.parametrize("deed", DEEDS)
def test_a_missing_bucket_is_told(s3_endpoint: str, deed: str) -> None:
    store = Store("s3://no-such-bucket/beamtime", options_for(s3_endpoint))
    with pytest.raises(MissingStore, match="NoSuchBucket") as caught:
        DEEDS[deed](store)
    assert not isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_denied_request_is_told(brisk: tuple[Proxy, Store], deed: str) -> None:
    proxy, store = brisk
    proxy.fault("", "403")
    with pytest.raises(AccessDenied, match="AWS_PROFILE"):
        DEEDS[deed](store)
    assert proxy.count() == 1


def test_where_nothing_may_be_removed_one_probe_stays(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    proxy.fault("DELETE", "403")
    assert [store.create(f"run/{number}", b"1") for number in range(3)] == [True] * 3
    assert len(store.names("_index")) == 1


def test_what_waits_is_given_up_when_the_store_does_not_answer(
    brisk: tuple[Proxy, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.3")
    monkeypatch.setattr(stores, "_REQUESTS", 2)
    proxy, store = brisk
    proxy.fault("", "hang")
    found = store.read_many([("there", 0, None)] * 20)
    assert [type(part) for part in found] == [StoreUnreachable] * 20
    assert proxy.count() <= 4


def test_denied_removal_of_one_file_among_many_is_told(brisk: tuple[Proxy, Store]) -> None:
    _, store = brisk
    transport = store._connected().transport
    with pytest.MonkeyPatch.context() as patch:

        async def answer(*_: object, **__: object) -> dict[str, Any]:
            return {"Errors": [{"Code": "NoSuchKey"}, {"Code": "AccessDenied", "Key": "b", "Message": "no"}]}

        patch.setattr(transport.filesystem, "_call_s3", answer)
        with pytest.raises(AccessDenied, match="removing 2 files"):
            store.remove(["a", "b"])


def test_unknown_credentials_are_told_and_not_shown() -> None:
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="0") as endpoint:
        store = Store("s3://bucket/x", {"key": "canary-of-key", "secret": "canary-of-secret", "endpoint_url": endpoint})
        with pytest.raises(AccessDenied, match="InvalidAccessKeyId") as caught:
            store.names()
    assert "canary" not in _told(caught.value)


def test_absent_credentials_are_told(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AccessDenied, match="AWS_PROFILE"):
        Store("s3://bucket/x", {"endpoint_url": s3_endpoint}).names()
    with pytest.raises(AccessDenied, match="no-such-profile"):
        Store("s3://bucket/x", {"endpoint_url": s3_endpoint, "profile": "no-such-profile"}).names()


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_server_that_is_not_there_is_not_called_for_long(scheme: str) -> None:
    with refusing_port() as address:
        url, options = ("s3://bucket/x", options_for(address)) if scheme == "s3" else (f"{address}/x", {})
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match=r"3 tries.*FILEBROKER_TIMEOUT") as caught:
            Store(url, options).names()
    assert str(caught.value).startswith(f"{url} ")
    assert time.monotonic() - began < 20


def _s3_error(code: str, status: int = 403, **more: str) -> Exception:
    error = OSError("translated")
    error.__cause__ = Exception("An error occurred")
    error.__cause__.response = {  # type: ignore[attr-defined]
        "Error": {"Code": code, "Message": "in words", **more},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_s3_error("NoSuchBucket", 404), MissingStore),
        (_s3_error("NoSuchKey", 404), FileNotFoundError),
        (_s3_error("SignatureDoesNotMatch"), AccessDenied),
        (_s3_error("ExpiredToken", 400), AccessDenied),
        (_s3_error("SlowDown", 503), StoreUnreachable),
        (_s3_error("Odd", 502), StoreUnreachable),
        (_s3_error("ConditionalRequestConflict", 409), StoreUnreachable),
        (_s3_error("EntityTooLarge", 400), StorageError),
        (TimeoutError(), StoreUnreachable),
        (ConnectionResetError(104, "Connection reset by peer"), StoreUnreachable),
        (OSError(113, "No route to host"), StoreUnreachable),
        (PermissionError(13, "Permission denied"), AccessDenied),
        (OSError(28, "No space left on device"), StorageError),
        (ValueError("odd"), StorageError),
    ],
)
def test_every_failure_has_its_type(error: Exception, kind: type[Exception]) -> None:
    assert type(explain(classify(error), "s3://bucket", "reading 'x'", 1, 60)) is kind


def test_a_clock_that_is_off_is_told() -> None:
    error = _s3_error("RequestTimeTooSkewed", ServerTime="2020-01-01T00:00:00Z")
    told = str(explain(classify(error), "s3://bucket", "reading 'x'", 1, 60))
    assert "minutes ahead: the server's says 2020-01-01 00:00:00 UTC" in told
    assert "set the clock" in told


def test_missing_packages_and_protocols_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"cannot open 'no-such-protocol://bucket/x': Protocol not known"):
        Store("no-such-protocol://bucket/x").names()
    with pytest.raises(InvalidConfig, match="names no place"):
        Store("s3://").names()
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(MissingPackage, match=r"filebroker\[s3\]"):
        Store("s3://bucket/x", {"endpoint_url": "http://never.made"}).names()


# Deadlines


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_nonsense_is_no_deadline(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_TIMEOUT", text)
    with pytest.raises(InvalidConfig, match="FILEBROKER_TIMEOUT"):
        deadline()
    monkeypatch.delenv("FILEBROKER_TIMEOUT")
    assert deadline() == 60


def test_a_read_goes_on_as_long_as_bytes_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILEBROKER_TIMEOUT", "0.3")
    errand = Errand("s3://bucket", "reading 'x'", [])

    async def trickle(progress: Any, *, is_new: bool) -> str:
        for number in range(1, 9):
            await asyncio.sleep(0.1)
            progress.reach(number if is_new else 1)
        return "done"

    assert asyncio.run(errand.run(functools.partial(trickle, is_new=True))) == "done"
    with pytest.raises(StoreUnreachable, match=r"deadline of 0\.3 s"):
        asyncio.run(errand.run(functools.partial(trickle, is_new=False)))


# Secrets


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:canary@bucket/x", "s3://key:can/ary@bucket/x", "https://user:canary@host/x", "https://canary@host/x",
        "sftp://user:canary@host/x", "simplecache::s3://key:canary@bucket/x",
    ],
)  # fmt: skip
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidConfig, match="credentials in it") as caught:
        Store(url)
    assert "canary" not in _told(caught.value)
    assert "ary@" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["s3://bucket/a@b", "http://host:8080/a@b", "abfs://box@host/x", "sftp://me@host/x", "s3://bucket/a:b@c"]
)
def test_other_urls_are_not_taken_for_passwords(url: str) -> None:
    assert repr(Store(url)) == f"<Store {url!r}>"


@lenient
def test_secrets_are_taken_from_the_environment_when_they_are_needed(
    s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, options = s3_url
    named = {**options, "secret": {"env": "MY_SECRET"}, "client_kwargs": {"aws_session_token": {"env": "MY_TOKEN"}}}
    store = Store(url, named)
    monkeypatch.setenv("MY_SECRET", "canary-of-secret")
    with pytest.raises(InvalidConfig, match="MY_TOKEN, which is not set"):
        store.names()
    monkeypatch.setenv("MY_TOKEN", "canary-of-token")
    store.write("x", b"1")
    assert store.storage_options == named
    assert b"canary" not in pickle.dumps(store)
    assert "canary" not in repr(store)


def test_secrets_in_messages_from_below_are_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-in-environment")
    options = {
        "headers": {"Authorization": "Bearer canary-of-header"},
        "auth": ["canary/of/list"],
        "profile": "profile",
    }
    store = Store(f"memory://{uuid.uuid4().hex}", options)

    def fail(*_: object, **__: object) -> None:
        raise OSError("profile canary-of-header canary-in-environment canary%2Fof%2Flist") from KeyError(
            "canary/of/list"
        )

    monkeypatch.setattr(store._connected().transport.filesystem, "ls", fail)
    with pytest.raises(StorageError, match=r"profile \*\*\* \*\*\* \*\*\*") as caught:
        store.names()
    assert "canary" not in _told(caught.value)


def test_options_that_a_filesystem_refuses_are_told_without_secrets() -> None:
    with pytest.raises(StorageError) as caught:
        Store("s3://bucket", {"key": "canary-of-key", "username": "canary-of-name"}).names()
    assert "canary" not in _told(caught.value)


# Caches and archives of fsspec


def test_a_cache_of_fsspec_never_gives_what_was(s3_url: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    url, options = s3_url
    store = Store(f"simplecache::{url}", {"s3": options, "simplecache": {"cache_storage": str(tmp_path)}})
    plain = Store(url, options)
    for data in (b"1", b"22", b"333"):
        plain.write("filebroker.json", data)
        assert store.read("filebroker.json") == data
    assert store.create("new", b"1")
    assert store.names() == ["filebroker.json", "new"]
    assert (store.is_writable, plain.is_writable) == (True, True)


def test_an_archive_is_only_read(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "runs.zip", "w") as archive:
        archive.writestr("run/file", b"1")
    store = Store(f"zip://::file://{tmp_path}/runs.zip")
    assert not store.is_writable
    assert (store.names(), store.read("run/file"), store.tree("")) == (["run"], b"1", {"run/file": 1})


# Web servers


class Ancient(http.server.SimpleHTTPRequestHandler):
    """Answers as Python's own server does: without ranges."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def ancient_server(directory: Path, handler: type[Ancient] = Ancient) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(directory))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(params=["modern", "ancient"])
def website(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    names = {"run/x": b"0123456789", "run/primary/a b%2Fü": b"22", "e": b"", "big": b"b" * (20 * PIECE)}
    for name, data in names.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if request.param == "ancient":
        with ancient_server(tmp_path) as url:
            yield Store(f"{url}/site")
    else:
        with WebServer(tmp_path) as server:
            yield Store(f"{server.url}/site/")


def test_a_website_is_read_like_a_store(website: Store) -> None:
    assert website.names() == ["big", "e", "run"]
    assert website.names("run/primary") == ["a b%2Fü"]
    assert website.names("run/absent") == []
    assert website.sizes("run") == {"x": 10}
    assert website.tree("") == {"big": 20 * PIECE, "e": 0, "run/x": 10, "run/primary/a b%2Fü": 2}
    assert [website.exists(name) for name in ("", "run", "run/x", "run/y")] == [True, True, True, False]
    assert website.read("run/primary/a b%2Fü") == b"22"
    parts = [("run/x", 0, None), ("run/x", 3, None), ("run/x", 2, 5), ("run/x", 10, None), ("e", 0, None)]
    assert website.read_many(parts) == [b"0123456789", b"3456789", b"234", b"", b""]
    assert website.read("big") == b"b" * (20 * PIECE)
    assert len(website.read("big", 5, 19 * PIECE)) == 19 * PIECE - 5
    with pytest.raises(FileNotFoundError):
        website.read("run/y")


def test_a_website_is_only_read(website: Store) -> None:
    assert not website.is_writable
    for deed in (lambda: website.write("x", b"1"), lambda: website.create("x", b"1"), lambda: website.remove(["x"])):
        with pytest.raises(StorageError, match="only read"):
            deed()


def test_a_website_that_is_not_there_is_no_empty_one(website: Store) -> None:
    for deed in (lambda store: store.names(), lambda store: store.names("2026"), lambda store: store.tree("")):
        with pytest.raises(MissingStore, match="lists no directories"):
            deed(Store(f"{website.url}/absent"))


@pytest.mark.parametrize(
    ("status", "page", "kind"),
    [
        (403, "", AccessDenied),
        (401, "", AccessDenied),
        (200, "{}", StorageError),
        (418, "", StorageError),
    ],
)
def test_a_website_without_listings_is_told(tmp_path: Path, status: int, page: str, kind: type[Exception]) -> None:
    class Mute(Ancient):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page.encode())

    with ancient_server(tmp_path, Mute) as url:
        for deed in (Store.names, lambda store: store.sizes("x"), lambda store: store.tree("")):
            with pytest.raises(kind):
                deed(Store(url))


def test_links_that_lead_elsewhere_are_no_files(tmp_path: Path) -> None:
    links = (
        "../", "/", "?C=N;O=D", "file?download=1", "http://elsewhere.org/site/alien", "/other/alien", "deep/er", "#top",
        "mailto:me@here", "own%20file", "/site/absolute", "sub/", "./dotted", "",
    )  # fmt: skip

    class Page(Ancient):
        def do_GET(self) -> None:
            page = "".join(f'<a href="{link}">x</a>' for link in links).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    with ancient_server(tmp_path, Page) as url:
        assert Store(f"{url}/site").names() == ["absolute", "dotted", "own file", "sub"]


@pytest.mark.parametrize("text", ["sub/", "<b>sub/</b>", '<img src="folder.png"> sub/', "<i>see</i> sub/ <br>"])
def test_a_directory_is_told_by_the_text_of_its_link_however_that_is_set(text: str) -> None:
    assert http_transport._names(f'<i>list/</i><a href="sub">{text}</a><a href="x">x</a>', "http://h/") == {"sub/", "x"}
