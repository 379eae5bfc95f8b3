"""Reading pages of a remote store by byte ranges."""

import gc
import json
import random
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from filebroker.ground.errors import AccessDenied, DamagedRun, StorageError, StoreUnreachable
from filebroker.storing import ranges
from filebroker.storing.pages import FOOTER_KEY
from filebroker.storing.parquet import PageFile, footer_seal, to_parquet
from filebroker.storing.ranges import FetchedFile, Range, RemoteFile, ahead, column_ranges, merged

MIB = 1 << 20


class Part(bytearray):
    """Fetched bytes that can be watched."""


class Remote:
    """The bytes of a file as a store would give them, and what was asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.end = data[-footer_seal(data)[0] :]
        self.calls: list[list[Range]] = []
        self.parts: list[weakref.ref[Part]] = []
        self.before: Callable[[], None] = lambda: None

    def fetch(self, asked: list[Range]) -> list[Any]:
        self.calls.append(asked)
        self.before()
        parts = [Part(self.data[start:end]) for start, end in asked]
        self.parts += [weakref.ref(part) for part in parts]
        return parts

    def file(self) -> RemoteFile:
        return RemoteFile(self.fetch, len(self.data), self.end)

    def page(self) -> PageFile:
        return PageFile(self.file(), "primary/00000.parquet")

    @property
    def fetched(self) -> int:
        return sum(end - start for call in self.calls for start, end in call)

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(len(part) for ref in self.parts if (part := ref()) is not None)


def make_table(rows: int) -> pa.Table:
    """Make an event page with columns of every kind, the names of some within those of others."""
    generator = np.random.default_rng(1)
    numbers = generator.normal(size=rows)
    columns = {
        "seq_num": pa.array(np.arange(1, rows + 1)),
        "time": pa.array(1.7e9 + np.arange(rows) * 0.05),
        "det": pa.array(numbers),
        "det.sum": pa.array(generator.integers(0, 99, rows)),
        "detector": pa.array(numbers.astype("float32")),
        "state": pa.array([None if row % 7 == 3 else f"state {row % 5}" for row in range(rows)]),
        "shutter": pa.array(numbers > 0),
        "trace": pa.array([[float(row)] * (row % 3) for row in range(rows)]),
        "raw": pa.array([bytes([row % 256]) * 10 for row in range(rows)]),
        "nothing": pa.array([None] * rows, pa.float64()),
        "_x.det": pa.array([None if row % 2 else "i" for row in range(rows)], pa.string()),
        "_timestamps": pa.array([[float(row), 0.5] for row in range(rows)], pa.list_(pa.float64())),
        "_uid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([row.to_bytes(16, "big") for row in range(rows)], pa.binary(16))
        ),
        "_descriptor": pa.array([f"descriptor {row % 2}" for row in range(rows)]).dictionary_encode(),
    }
    return pa.table(columns).replace_schema_metadata(_metadata(rows))


def make_numbers(rows: int, count: int = 10) -> pa.Table:
    """Make an event page of random numbers, which hardly compress."""
    generator = np.random.default_rng(1)
    columns = {f"signal_{number}": generator.normal(size=rows) for number in range(count)}
    table = pa.table({"seq_num": np.arange(1, rows + 1), "time": 1.7e9 + np.arange(rows) * 0.05, **columns})
    return table.replace_schema_metadata(_metadata(rows))


def _metadata(rows: int) -> dict[bytes, bytes]:
    return {FOOTER_KEY: json.dumps({"format": 1, "rows": rows, "const": {"i": 2, "descriptor": "d"}}).encode()}


def in_groups(table: pa.Table, rows: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Write a page with row groups of so many rows."""
    monkeypatch.setattr("filebroker.storing.parquet._ROW_GROUP_ROWS", rows)
    return to_parquet(table)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A page of 3,000 rows in six row groups."""
    return Remote(in_groups(make_table(3000), 500, monkeypatch))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the row groups of small files fetched one after the other."""
    monkeypatch.setattr(ranges, "BATCH", 1)


# -- which ranges


@pytest.mark.parametrize(
    ("asked", "gap", "piece", "expected"),
    [
        ([], 10, 100, []),
        ([(5, 5)], 10, 100, []),
        ([(0, 10)], 10, 100, [(0, 10)]),
        ([(0, 10), (10, 20)], 0, 100, [(0, 20)]),
        ([(0, 10), (20, 30)], 10, 100, [(0, 30)]),
        ([(0, 10), (21, 30)], 10, 100, [(0, 10), (21, 30)]),
        ([(20, 30), (0, 10)], 10, 100, [(0, 30)]),
        ([(0, 30), (5, 10), (20, 40)], 0, 100, [(0, 40)]),
        ([(0, 30), (5, 10), (20, 40)], 0, 20, [(0, 20), (20, 40)]),
        ([(0, 60), (60, 120)], 10, 100, [(0, 60), (60, 120)]),
        ([(0, 250)], 10, 100, [(0, 83), (83, 166), (166, 250)]),
        ([(0, 250), (255, 260)], 10, 100, [(0, 83), (83, 166), (166, 250), (255, 260)]),
    ],
)
def test_near_ranges_are_requested_together_and_long_ones_in_pieces(
    asked: list[Range], gap: int, piece: int, expected: list[Range]
) -> None:
    assert merged(asked, gap, piece) == expected


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 80)), max_size=20),
    st.integers(0, 50),
    st.integers(1, 100),
)
def test_requests_cover_what_is_asked_and_little_more(lengths: list[Range], gap: int, piece: int) -> None:
    asked = [(start, start + length) for start, length in lengths]
    given_back = merged(asked, gap, piece)
    covered = [set(range(start, end)) for start, end in given_back]
    wanted = {place for start, end in asked for place in range(start, end)}
    assert sum(map(len, covered)) == len(set().union(*covered))  # nothing twice
    assert wanted <= set().union(*covered)
    assert given_back == sorted(given_back)
    assert all(0 < end - start <= piece for start, end in given_back)
    assert all(start in wanted and end - 1 in wanted for start, end in merged(asked, gap, 10_000))
    superfluous = sorted(set().union(*covered) - wanted)
    assert all(any(place + step in wanted for step in range(-gap, gap + 1)) for place in superfluous)


def test_a_range_no_longer_than_a_piece_is_never_split() -> None:
    asked = [(start, start + 30) for start in range(0, 300, 30)]
    requests = merged(asked, 10, 100)
    assert all(any(first <= start and end <= last for first, last in requests) for start, end in asked)
    assert len(requests) == 4


@pytest.mark.parametrize("name", make_table(1).column_names)
def test_the_ranges_of_a_column_are_all_that_pyarrow_reads_of_it(small: Remote, name: str) -> None:
    file = small.file()
    groups = range(file.metadata.num_row_groups)
    fetched = FetchedFile(file, [item for group in groups for item in column_ranges(file.metadata, [name], group)])
    table = file.reader(fetched).read(columns=[name])
    assert name in table.column_names
    assert table.equals(pq.read_table(pa.BufferReader(bytes(small.data)), columns=[name]))
    assert file.misses == 0


def test_the_ranges_of_a_column_are_not_those_of_others_that_begin_alike(small: Remote) -> None:
    metadata = small.file().metadata
    assert len(column_ranges(metadata, ["detector"], 0)) == 1
    assert len(column_ranges(metadata, ["det"], 0)) == 2  # pyarrow takes det.sum for a part of det
    assert column_ranges(metadata, ["dete"], 0) == []


def test_the_ranges_of_all_columns_are_the_file_without_its_head_and_footer(small: Remote) -> None:
    file = small.file()
    asked = [item for group in range(6) for item in column_ranges(file.metadata, None, group)]
    assert merged(asked, 0) == [(4, len(small.data) - len(small.end))]


# -- reading pages


@pytest.mark.parametrize("rows", [1, 900, 3000])
@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        *[(columns, None) for columns in ("all", "shown", "data", "timestamps", "uids", "descriptors")],
        *[("data", ["det"]), ("shown", ["trace", "state"]), ("data", ["unknown"]), ("data", ["det.sum"])],
    ],
)
@pytest.mark.usefixtures("batches")
def test_a_remote_page_reads_as_a_local_one(
    rows: int, columns: Any, keys: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(in_groups(make_table(rows), 500, monkeypatch))
    file = remote.file()
    page = PageFile(file, "page")
    there = page.read(columns, keys)
    local = PageFile(bytes(remote.data), "page")
    here = local.read(columns, keys)
    assert there.table.equals(here.table, check_metadata=True)
    assert there.rows == rows
    assert page.shape == local.shape
    assert file.misses == 0


def test_one_column_of_a_large_page_is_one_round_trip_of_its_own_bytes() -> None:
    remote = Remote(to_parquet(make_numbers(200_000)))
    page = remote.page()
    assert remote.calls == []
    page.read("data", ["signal_5"])
    assert len(remote.calls) == 1
    assert remote.fetched < len(remote.data) / 9
    assert len(remote.calls[0]) == 2  # one request a row group


def test_all_columns_of_a_page_are_requested_in_pieces_at_once() -> None:
    remote = Remote(to_parquet(make_numbers(200_000)))
    remote.page().read()
    assert len(remote.calls) == 1
    assert len(remote.calls[0]) == 2
    assert max(end - start for start, end in remote.calls[0]) <= 8 * MIB
    assert remote.fetched < len(remote.data)


def test_nothing_is_fetched_for_no_columns(small: Remote) -> None:
    page = small.page().read("data", ["unknown"])
    assert (page.rows, page.table.num_columns, small.calls) == (3000, 0, [])


def test_a_page_without_rows_is_read() -> None:
    remote = Remote(to_parquet(make_table(0)))
    assert remote.page().read().table.equals(PageFile(bytes(remote.data), "page").read().table)


@pytest.mark.usefixtures("batches")
def test_row_groups_are_fetched_while_those_before_are_decoded(small: Remote) -> None:
    second = threading.Event()
    small.before = lambda: second.set() if len(small.calls) == 2 else None
    decode = RemoteFile.reader

    def reader(self: RemoteFile, file: FetchedFile) -> pq.ParquetFile:
        if small.calls:  # the first call only opens the file
            assert second.wait(10), "the second batch was not asked for"
        return decode(self, file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RemoteFile, "reader", reader)
        small.page().read()
    assert len(small.calls) == 6


@pytest.mark.usefixtures("batches")
def test_no_more_than_four_batches_are_in_memory_and_none_afterwards(small: Remote) -> None:
    most = 0

    def weigh() -> None:
        nonlocal most
        most = max(most, small.alive)

    small.before = weigh
    page = small.page()
    page.read()
    largest = max(sum(end - start for start, end in call) for call in small.calls)
    assert len(small.calls) == 6
    assert 0 < most <= 3 * largest  # and the one that is about to be fetched
    assert small.alive == 0


@pytest.mark.usefixtures("batches")
def test_threads_read_different_columns_of_one_page(small: Remote) -> None:
    file = small.file()
    page = PageFile(file, "page")
    keys = [["det"], ["state"], ["trace"], ["raw"]] * 8
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda key: page.read("data", key).table, keys))
    whole = PageFile(bytes(small.data), "page")
    assert all(table.equals(whole.read("data", key).table) for key, table in zip(keys, tables, strict=True))
    assert file.misses == 0


# -- what goes wrong


def test_no_flipped_bit_gives_another_answer(small: Remote) -> None:
    expected = small.page().read().table
    generator, problems = random.Random(1), []
    for _ in range(200):
        place, bit = generator.randrange(4, len(small.data) - len(small.end)), 1 << generator.randrange(8)
        small.data[place] ^= bit
        try:
            assert small.page().read().table.equals(expected)
        except DamagedRun as error:
            problems.append(str(error))
        small.data[place] ^= bit
    assert len(problems) > 190
    assert all("primary/00000.parquet cannot be read" in problem for problem in problems)


def test_a_bit_flipped_in_a_column_leaves_the_others_readable(small: Remote) -> None:
    start, end = column_ranges(small.file().metadata, ["det"], 3)[0]
    small.data[(start + end) // 2] ^= 1
    page = small.page()
    assert page.read("data", ["detector"]).rows == 3000
    with pytest.raises(DamagedRun, match="CRC"):
        page.read("data", ["det"])


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize("left", [0.999, 0.5, 0.01])
def test_a_file_that_is_too_short_is_damaged(small: Remote, left: float) -> None:
    page = small.page()
    body = len(small.data) - len(small.end)
    del small.data[int(body * left) :]
    with pytest.raises(DamagedRun, match=r"primary/00000.parquet cannot be read: of its bytes from \d+ to \d+"):
        page.read()


def test_a_footer_that_speaks_of_bytes_beyond_the_end_is_damage_and_no_request(small: Remote) -> None:
    page = PageFile(RemoteFile(small.fetch, 2000, small.end), "page")
    with pytest.raises(DamagedRun, match="its footer speaks of bytes"):
        page.read()
    assert small.calls == []


@pytest.mark.parametrize("end", [b"", b"PAR1", b"\xff" * 100, b"\xff\xff\xff\xffPAR1", b"x" * 92 + b"\x5c\0\0\0PAR1"])
def test_an_end_that_is_no_footer_is_damage(small: Remote, end: bytes) -> None:
    with pytest.raises(DamagedRun, match="page is no event page"):
        PageFile(RemoteFile(small.fetch, 2000, end), "page")


@pytest.mark.parametrize("call", [1, 2, 6])
@pytest.mark.parametrize(
    "failure",
    [StoreUnreachable("no answer"), AccessDenied("not you"), StorageError("odd"), FileNotFoundError("removed")],
)
@pytest.mark.usefixtures("batches")
def test_a_failing_store_is_no_damage(small: Remote, failure: Exception, call: int) -> None:
    def fail() -> None:
        if len(small.calls) == call:
            raise failure

    small.before = fail
    with pytest.raises(type(failure)) as raised:
        small.page().read()
    assert raised.value is failure
    assert len(small.calls) <= call + 2


def test_a_failing_store_is_no_damage_where_pyarrow_asks_for_what_was_not_fetched(small: Remote) -> None:
    file = small.file()

    def fail() -> None:
        raise StoreUnreachable("no answer")

    small.before = fail
    with pytest.raises(StoreUnreachable, match="no answer"):
        file.reader(file.open()).read()


# -- the file that pyarrow reads


@settings(deadline=None)
@given(st.data())
def test_what_is_read_is_what_the_file_has_wherever_it_was_fetched(data: st.DataObject) -> None:
    content = bytes(random.Random(1).randbytes(300))
    places = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda pair: (min(pair), max(pair)))
    remote = RemoteFile(lambda asked: [content[start:end] for start, end in asked], len(content), b"")
    pieces = merged(data.draw(st.lists(places, max_size=6)), 0, data.draw(st.integers(1, 300)))
    file = FetchedFile(remote, pieces)
    held = {place for start, end in pieces for place in range(start, end)}
    for start, end in data.draw(st.lists(places, max_size=10)):
        remote.misses = 0
        assert file.seek(start) == start
        assert bytes(file.read(end - start)) == content[start:end]
        assert file.tell() == end
        assert (remote.misses == 0) == (set(range(start, end)) <= held)


def test_bytes_of_one_piece_are_not_copied() -> None:
    content = bytes(1000)
    file = RemoteFile(lambda asked: [content], 1000, b"").open([(0, 1000)])
    file.seek(10)
    assert file.read(500).obj is content


def test_a_fetched_file_is_a_file() -> None:
    content = b"0123456789"
    file = RemoteFile(lambda asked: [content[start:end] for start, end in asked], 10, b"").open([(0, 10)])
    assert (file.readable(), file.seekable(), file.writable(), file.closed) == (True, True, False, False)
    assert file.seek(-3, 2) == 7
    assert file.read() == b"789"
    assert file.read(5) == b""
    assert file.seek(-2, 1) == 8
    assert file.read(99) == b"89"
    file.close()
    assert file.closed


# -- doing the next things meanwhile


def test_results_come_in_order_while_the_next_tasks_run() -> None:
    last = threading.Event()

    def task(number: int) -> int:
        if number == 0:
            assert last.wait(10)
        elif number == 3:
            last.set()
        return number

    assert list(ahead([lambda number=number: task(number) for number in range(8)], 4)) == list(range(8))


def test_no_more_than_so_many_results_wait() -> None:
    begun: list[int] = []
    results = ahead([lambda number=number: begun.append(number) for number in range(10)], 2)
    next(results)
    results.close()
    assert len(begun) <= 3


def test_a_failure_comes_in_its_turn_and_ends_the_rest() -> None:
    done: list[int] = []

    def task(number: int) -> int:
        done.append(number)
        return 10 // (2 - number)

    results = ahead([lambda number=number: task(number) for number in range(9)], 1)
    assert [next(results), next(results)] == [5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(done) <= 4


def test_a_single_task_needs_no_thread() -> None:
    assert list(ahead([threading.current_thread], 4)) == [threading.current_thread()]
    assert list(ahead([], 4)) == []
