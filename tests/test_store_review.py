"""What reading from stores must not do: wait for what nobody wants, read one by one, or show a credential."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem

from filebroker.ground.connections import connect
from filebroker.ground.errors import StorageError, StoreUnreachable
from filebroker.ground.filecache import FileCache
from filebroker.ground.remote import Remote
from filebroker.ground.retries import Errand
from filebroker.ground.stores import Store
from filebroker.storing import convoys
from filebroker.storing.convoys import Convoy
from filebroker.storing.journal import encode_line
from filebroker.storing.ranges import ahead
from servers import Proxy

# -- while a store does not answer


class Quiet(NamedTuple):
    """A store with a file ``0``, behind a proxy that can keep it from answering."""

    remote: Remote
    proxy: Proxy
    patch: pytest.MonkeyPatch

    def hush(self) -> None:
        """Have no request answered from now on."""
        self.patch.setenv("FILEBROKER_TIMEOUT", "0.4")
        self.proxy.fault("", "hang")

    def speak(self) -> None:
        """Have requests answered again, and begin to count them."""
        self.patch.delenv("FILEBROKER_TIMEOUT", raising=False)
        self.proxy.clear()


@pytest.fixture
def quiet(s3_endpoint: str, s3_url: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Quiet]:
    url, options = s3_url
    with Proxy(s3_endpoint) as proxy:
        store = Store(url, options | {"endpoint_url": proxy.url})
        store.write("0", b"zero")
        proxy.clear()
        yield Quiet(Remote(store), proxy, monkeypatch)


def wanted(*names: str) -> list[tuple[str, str, Callable[[bytes], bool]]]:
    return [(name, "1", lambda data: True) for name in names]


def test_a_store_that_answers_none_of_many_requests_is_offline(quiet: Quiet) -> None:
    assert quiet.remote.read_many([("0", 0, None)]) == [b"zero"]
    assert not quiet.remote.is_offline
    quiet.hush()
    assert isinstance(quiet.remote.read_many([("0", 0, None)])[0], StoreUnreachable)
    assert quiet.remote.is_offline


def test_files_that_are_absent_do_not_make_a_store_offline(quiet: Quiet) -> None:
    assert isinstance(quiet.remote.read_many([("absent", 0, None)])[0], FileNotFoundError)
    assert not quiet.remote.is_offline


def test_nothing_is_fetched_ahead_from_a_store_that_did_not_answer(quiet: Quiet, tmp_path: Path) -> None:
    quiet.remote.cache = FileCache(str(tmp_path / "catalog" / "files"), 1 << 20)
    quiet.remote.read_fixed("0", "1", lambda data: True)
    quiet.hush()
    with pytest.raises(StoreUnreachable):
        quiet.remote.read("0")
    quiet.speak()
    quiet.remote.fetch_ahead(wanted("0", "1", "2"))
    assert quiet.remote.read_fixed("0", "1", lambda data: True) == b"zero"
    assert not quiet.proxy.requests


def test_files_are_fetched_ahead_again_when_the_store_answers_again(quiet: Quiet) -> None:
    quiet.hush()
    with pytest.raises(StoreUnreachable):
        quiet.remote.read("0")
    quiet.speak()
    assert quiet.remote.read("0") == b"zero"
    quiet.remote.fetch_ahead(wanted("0"))
    assert quiet.remote.peek("0", "1") == b"zero"


def test_many_requests_to_a_silent_store_take_one_deadline_and_not_one_each(quiet: Quiet) -> None:
    quiet.hush()
    answers = quiet.remote.read_many([(str(number), 0, None) for number in range(200)])
    assert {type(answer) for answer in answers} == {StoreUnreachable}
    assert len(quiet.proxy.requests) <= 64, "the others were asked for after the first had failed"


# -- pages of many runs


class Shelf:
    """Stands for a store, and notes what is fetched at once."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.texts: dict[str, bytes] = {}

    def fetch_ahead(self, files: Iterable[tuple[str, str, Any]]) -> None:
        self.batches.append([name for name, _, _ in files])

    def peek(self, name: str, version: str) -> bytes | None:
        return self.texts.get(name)


def page(number: int, size: int, stream: str = "primary") -> dict[str, Any]:
    return {"path": f"{stream}/{number:05d}.parquet", "stream": stream, "bytes": size, "sha256": f"{number}"}


def go_through(runs: Sequence[list[dict[str, Any]]], stream: str = "primary") -> list[list[str]]:
    """Read the pages of runs one after another; give what was fetched at once."""
    store = Shelf()
    convoy = Convoy(cast("Remote", store))
    for number, files in enumerate(runs):
        convoy.note(f"r{number}", files)
        convoy.give(f"r{number}")
    for number in range(len(runs)):
        convoy.want_pages(f"r{number}", stream)
    return [batch for batch in store.batches if batch]


def test_pages_of_many_runs_are_fetched_in_batches_of_the_most_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoys, "_MOST_BYTES", 1000)
    batches = go_through([[page(0, 100)] for _ in range(40)])
    # The first run is read alone; each batch has the run that is read, and those that follow it.
    assert [len(batch) for batch in batches] == [11, 11, 11, 6]
    assert sorted(chain(*batches)) == sorted(f"r{number}/primary/00000.parquet" for number in range(1, 40))


def test_a_run_of_more_bytes_than_a_batch_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoys, "_MOST_BYTES", 1000)
    runs = [[page(0, 100)] for _ in range(9)]
    runs[4] = [page(number, 300) for number in range(9)]
    batches = go_through(runs)
    assert [len(batch) for batch in batches] == [3, 3 + 4]
    assert not any(batch.count(name) > 1 for batch in batches for name in batch)


def test_pages_are_fetched_ahead_once_and_of_the_stream_that_is_read() -> None:
    runs = [[page(0, 100), page(1, 100, "baseline")] for _ in range(5)]
    assert go_through(runs, "baseline") == [[f"r{number}/baseline/00001.parquet" for number in range(1, 5)]]


def documents_of(given: Sequence[str], read: Sequence[str]) -> list[list[str]]:
    """Have ten runs at hand, give some of them out, and read some; give what documents were fetched at once."""
    store = Shelf()
    convoy = Convoy(cast("Remote", store))
    for number in range(10):
        convoy.join(f"r{number}", "1")
    for directory in given:
        convoy.give(directory)
        if directory in read and len(read) == len(given):
            convoy.want_documents(directory)
    for directory in read if len(read) < len(given) else ():
        convoy.want_documents(directory)
    return [[name.partition("/")[0] for name in batch] for batch in store.batches if batch]


def test_a_loop_fetches_those_that_come_next_and_a_list_those_that_were_given_out() -> None:
    assert documents_of(["r0", "r1"], ["r0", "r1"]) == [[f"r{number}" for number in range(1, 10)]]
    assert documents_of(["r0", "r1", "r2", "r3"], ["r0", "r1", "r3"]) == [["r1", "r2", "r3"]]


@pytest.mark.parametrize("files", [None, 5, "primary", [None, 5, {}]])
def test_a_manifest_that_makes_no_sense_does_no_harm_to_runs_that_are_read_with_it(files: object) -> None:
    text = encode_line(0, "head", {"format": 1, "files": files, "body": {"sha256": hashlib.sha256(b"").hexdigest()}})
    shelf = Shelf()
    shelf.texts["bad/documents.jsonl"] = text
    convoy = Convoy(cast("Remote", shelf))
    for directory in ("good", "bad", "other"):
        convoy.join(directory, "1")
        convoy.give(directory)
    for directory in ("good", "other"):
        convoy.want_documents(directory)
    assert shelf.batches == [["bad/documents.jsonl", "other/documents.jsonl"]]


# -- tasks ahead


def test_a_failure_is_told_without_waiting_for_tasks_that_go_on() -> None:
    has_begun, may_end, has_ended = threading.Event(), threading.Event(), threading.Event()

    def fail() -> None:
        has_begun.wait(10)
        raise StoreUnreachable("gone")

    def last() -> None:
        has_begun.set()
        may_end.wait(10)
        has_ended.set()

    try:
        with pytest.raises(StoreUnreachable):
            list(ahead([fail, last, last, last], 2))
        assert not has_ended.is_set()
    finally:
        may_end.set()
    assert has_ended.wait(10)


# -- credentials


class Talkative(AbstractFileSystem):  # type: ignore[misc]
    """A filesystem that shows the key that it refuses."""

    protocol = "talkative"

    def __init__(self, token: str = "", **options: Any) -> None:
        super().__init__(**options)
        raise ValueError(f"the token {token} is no good")


def links(error: BaseException | None) -> Iterator[BaseException]:
    """Give an exception and all that is chained to it, whether a traceback would show it or not."""
    if error is not None:
        yield error
        yield from links(error.__cause__)
        yield from links(error.__context__)


def test_a_filesystem_that_shows_a_credential_is_not_chained_to_the_error() -> None:
    fsspec.register_implementation("talkative", Talkative, clobber=True)
    with pytest.raises(StorageError, match=r"the token [*]+ is no good") as caught:
        connect("talkative://place", {"token": "canary-token"})
    assert not [link for link in links(caught.value) if "canary" in f"{link!r} {link}"]


def test_neither_connections_nor_errands_show_credentials(s3_url: tuple[str, dict[str, Any]]) -> None:
    url, options = s3_url
    connection = connect(url, options | {"secret": "canary-secret"})
    assert "canary-secret" in connection.secrets
    errand = Errand(url, "reading", connection.secrets)
    assert "canary" not in f"{connection!r} {errand!r} {connection} {errand}"
