"""The index answers as plain Python does over the same entries, or says that it cannot."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from filebroker.finding import batches, parts, postings
from filebroker.finding.batches import Entry, due_for_merging
from filebroker.finding.candidates import (
    AllOf,
    AnyOf,
    Beginning,
    Between,
    Candidates,
    Everything,
    NoneOf,
    Nothing,
    Phrase,
    Term,
)
from filebroker.finding.index import Index
from filebroker.finding.text import SEPARATOR
from filebroker.ground.locks import FileLock

WORDS = ["good", "bad", "sample", "é", "日本", "\ud800", "a" * 300, "", "go"]
VALUES = [
    *("plan\x00sscan", "plan\x00scount", "plan\x00!", "n\x00n1", "n\x00n15", "n\x00n2"),
    *("\U0001f600", "\ud800\x00", ""),
]


def entry(row: int) -> Entry:
    """Give the entry of a row, the same whoever asks."""
    choose = random.Random(row)
    words: list[str] = []
    for _ in range(choose.randint(0, 3)):
        words += [*choose.choices(WORDS, k=choose.randint(0, 4)), SEPARATOR]
    return Entry(row, words, set(choose.sample(VALUES, choose.randint(0, 5))))


def rows_to(last: int) -> list[Entry]:
    return [entry(row) for row in range(1, last + 1) if row % 7]


def given_by(entries: list[Entry]) -> Callable[[int, int], list[Entry]]:
    return lambda after, limit: [entry for entry in entries if entry.row > after][:limit]


def fill(index: Index, entries: list[Entry]) -> int:
    return index.update(given_by(entries), proceed=lambda: True)


def fulfils(entry: Entry, wanted: Candidates) -> bool:
    match wanted:
        case Everything():
            return True
        case Nothing():
            return False
        case Term(kind, text):
            return text in terms_of(entry, kind)
        case Beginning(kind, text):
            return any(term.startswith(text) for term in terms_of(entry, kind))
        case Between(low, high):
            return any(low <= term <= high for term in entry.values)
        case Phrase(words):
            size = len(words)
            return any(tuple(entry.words[at : at + size]) == words for at in range(len(entry.words) - size + 1))
        case AllOf(parts):
            return all(fulfils(entry, part) for part in parts)
        case AnyOf(parts):
            return any(fulfils(entry, part) for part in parts)
        case NoneOf(part):
            return not fulfils(entry, part)


def terms_of(entry: Entry, kind: str) -> set[str]:
    return set(entry.values) if kind == "value" else set(entry.words) - {SEPARATOR}


def expected(entries: list[Entry], wanted: Candidates, upto: int) -> list[int]:
    return [entry.row for entry in entries if entry.row <= upto and fulfils(entry, wanted)]


kinds = st.sampled_from(["word", "value"])
texts = st.sampled_from([*WORDS, *VALUES, "unknown", "plan\x00", "n\x00n"])
leaves = st.one_of(
    st.builds(Everything),
    st.builds(Nothing),
    st.builds(Term, kinds, texts),
    st.builds(Beginning, kinds, texts),
    st.builds(Between, texts, texts),
    st.builds(Phrase, st.lists(st.sampled_from(WORDS), max_size=3).map(tuple)),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(NoneOf, inner),
    ),
    max_leaves=8,
)

#: Questions that look at all of the files, and in which each run shows in some answer.
QUESTIONS = [
    Everything(),
    Term("word", "good"),
    Term("value", "plan\x00sscan"),
    Beginning("word", "g"),
    Between("n\x00n1", "n\x00n2"),
    Phrase(("good", "sample")),
    AllOf((Term("value", "plan\x00!"), NoneOf(Term("word", "bad")))),
]


def check(index: Index, entries: list[Entry], questions: list[Candidates] = QUESTIONS) -> int:
    """Check that no answer is wrong, and give how many there were."""
    answers = 0
    for wanted in questions:
        found = index.find(wanted)
        if found is not None:
            answers += 1
            assert list(found.rows) == expected(entries, wanted, found.upto), wanted
    return answers


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "index")


@pytest.fixture
def index(directory: str) -> Iterator[Index]:
    with_files = Index(directory)
    yield with_files
    with_files.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FULL", 32)
    monkeypatch.setattr(batches, "CHUNK", 5)


def part_names(directory: str) -> list[str]:
    return sorted(os.listdir(os.path.join(directory, "parts")))


# What it answers


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    index = Index(str(tmp_path_factory.mktemp("filled")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "FULL", 32)
        assert fill(index, rows_to(150)) == len(rows_to(150))
    yield index
    index.close()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=expressions)
def test_it_answers_as_plain_python_does(filled: Index, wanted: Candidates) -> None:
    found = filled.find(wanted)
    assert filled.problem is None
    assert found is not None
    assert found.rows == expected(rows_to(150), wanted, 150)
    assert found.upto == 150


def test_a_phrase_does_not_cross_values(index: Index) -> None:
    apart, together = Entry(1, ["good", SEPARATOR, "sample"], []), Entry(2, ["very", "good", "sample"], [])
    fill(index, [apart, together])
    found = index.find(Phrase(("good", "sample")))
    assert found is not None
    assert found.rows == [2]


def test_many_alternatives_and_many_documents_of_one_term_are_found(index: Index) -> None:
    entries = [Entry(row, ["all"], [f"n\x00{row}", f"n\x00{row}"]) for row in range(1, 1001)]
    fill(index, entries)
    wanted = AnyOf(tuple(Term("value", f"n\x00{row}") for row in range(1, 1001, 2)))
    questions = [wanted, Term("word", "all"), Beginning("value", "n\x00"), Term("value", "n\x005")]
    assert check(index, entries, questions) == len(questions)


def test_rows_beyond_32_bits_are_kept(index: Index) -> None:
    fill(index, [Entry(2**40, ["far"], [])])
    assert index.find(Term("word", "far")) == ([2**40], 2**40)


def test_what_has_no_terms_is_part_of_everything(index: Index) -> None:
    fill(index, [Entry(1, [], []), Entry(2, [SEPARATOR], [])])
    assert index.find(Everything()) == ([1, 2], 2)
    assert index.find(Beginning("word", "")) == ([], 2)


def test_without_an_index_there_is_no_answer_and_nothing_is_made(index: Index, directory: str) -> None:
    assert index.find(Everything()) is None
    assert index.covered() == 0
    assert index.problem is None
    index.discard()
    assert not os.path.exists(directory)


# What it needs


def test_whoosh_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, filebroker.finding.index as m; m.Index('nowhere').find(None); sys.exit('whoosh' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_package_of_the_same_name_is_recognised(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(index, rows_to(20))
    monkeypatch.setattr("whoosh.__version__", (2, 7, 4))
    postings.whoosh_codec.cache_clear()
    other = Index(index._directory)
    assert other.find(Everything()) is None
    assert other.covered() == 0
    assert "pip install --force-reinstall" in str(other.problem)
    assert fill(other, rows_to(40)) == 0
    monkeypatch.undo()
    assert check(other, rows_to(40)) == len(QUESTIONS)
    other.close()


# How it grows


def test_rows_are_added_once_and_covered_tells_how_far(index: Index) -> None:
    told: list[int] = []
    assert fill(index, rows_to(20)) == len(rows_to(20))
    assert index.update(given_by(rows_to(41)), proceed=lambda: True, progress=told.append) == sum(told) > 0
    assert fill(index, rows_to(41)) == 0
    assert index.covered() == 41
    assert Index(index._directory).covered() == 41
    assert check(index, rows_to(41)) == len(QUESTIONS)


@pytest.mark.usefixtures("small_parts")
def test_adding_runs_one_by_one_keeps_the_parts_few(index: Index, directory: str) -> None:
    for row in range(1, 151):
        fill(index, rows_to(row))
    assert len(part_names(directory)) <= 10
    assert check(index, rows_to(150)) == len(QUESTIONS)


@pytest.mark.usefixtures("small_parts")
def test_full_parts_are_merged_when_there_are_many(index: Index, directory: str) -> None:
    fill(index, rows_to(1200))
    assert len(part_names(directory)) <= 20
    assert check(index, rows_to(1200)) == len(QUESTIONS)


@pytest.mark.parametrize("batch", [1, 30, 1000, 8192])
def test_the_work_of_merging_stays_near_linear(batch: int) -> None:
    sizes: list[int] = []
    merged = most = 0
    for _ in range(500_000 // batch if batch > 1 else 20_000):
        sizes.append(batch)
        while span := due_for_merging(sizes):
            work = sum(sizes[slice(*span)])
            merged += work
            sizes[slice(*span)] = [work]
        most = max(most, len(sizes))
    assert most <= 20
    assert merged <= 10 * sum(sizes)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("asked", [0, 1, 7, 20, 60])
def test_it_stops_when_told_and_leaves_only_what_is_committed(index: Index, directory: str, asked: int) -> None:
    answers = iter([True] * asked)
    added = index.update(given_by(rows_to(150)), proceed=lambda: next(answers, False))
    assert added == len([entry for entry in rows_to(150) if entry.row <= index.covered()]) < len(rows_to(150))
    check(index, rows_to(150))
    assert index.problem is None
    assert added + fill(index, rows_to(150)) == len(rows_to(150))
    assert set(part_names(directory)) == {part.name for part in parts.parse_seal(index._read_seal())}
    assert check(index, rows_to(150)) == len(QUESTIONS)


@pytest.mark.usefixtures("small_parts")
def test_an_error_of_the_source_leaves_the_index_as_it_was(index: Index, directory: str) -> None:
    fill(index, rows_to(20))

    def source(after: int, limit: int) -> list[Entry]:
        if after > 30:
            raise KeyError("no such run")
        return given_by(rows_to(60))(after, limit)

    with pytest.raises(KeyError):
        index.update(source, proceed=lambda: True)
    with pytest.raises(ValueError, match="give them in order"):
        index.update(lambda after, limit: [entry(20)], proceed=lambda: True)
    assert index.covered() == 20
    assert_repaired(index, directory, rows_to(60))


def test_of_two_updates_at_once_one_returns(index: Index, directory: str) -> None:
    inner: list[int] = []

    def source(after: int, limit: int) -> list[Entry]:
        inner.append(fill(Index(directory), rows_to(20)))
        return given_by(rows_to(20))(after, limit)

    assert index.update(source, proceed=lambda: True) == len(rows_to(20))
    assert set(inner) == {0}
    assert check(index, rows_to(20)) == len(QUESTIONS)


def test_discarding_removes_all_unless_somebody_writes(index: Index, directory: str) -> None:
    fill(index, rows_to(20))
    lock = FileLock(os.path.join(directory, "lock"))
    assert lock.acquire()
    index.discard()
    assert index.covered() == 20
    lock.release()
    for _ in range(2):
        index.discard()
        assert os.listdir(directory) == ["lock"]
    assert index.find(Everything()) is None
    assert fill(index, rows_to(20)) == len(rows_to(20))
    assert check(index, rows_to(20)) == len(QUESTIONS)


@pytest.mark.parametrize("path", ["index", "index/lock"])
def test_where_nothing_can_be_written_the_problem_is_told(tmp_path: Path, index: Index, path: str) -> None:
    if path == "index":
        (tmp_path / path).write_text("not a directory")
    else:
        (tmp_path / path).mkdir(parents=True)
    assert fill(index, rows_to(20)) == 0
    assert index.problem
    assert index.find(Everything()) is None


# Damage


def newer(path: Path) -> None:
    """Make the time of a file differ, as it does unless it is damaged within a tick of the clock."""
    os.utime(path, ns=(time.time_ns() + 10**9, time.time_ns() + 10**9))


def change(path: Path, changed: Callable[[bytes], bytes]) -> None:
    path.write_bytes(changed(path.read_bytes()))
    newer(path)


def flip(content: bytes) -> bytes:
    place = random.Random(len(content)).randrange(len(content))
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "stray").write_text("x")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: change(path, lambda content: content[: len(content) // 2]),
    "emptied": lambda path: change(path, lambda content: b""),
    "longer": lambda path: change(path, lambda content: content + b"x"),
    "deleted": lambda path: path.unlink(),
    "zeroed": lambda path: change(path, lambda content: bytes(len(content))),
    "flipped": lambda path: change(path, flip),
    "garbage": lambda path: change(path, lambda content: random.Random(0).randbytes(len(content))),
    "a directory": become_directory,
    "not permitted": lambda path: path.chmod(0),
}
FILES = ["terms_0.trm", "terms_0.pst", "rows.npy", "index.json"]


def assert_repaired(index: Index, directory: str, entries: list[Entry]) -> None:
    fill(index, entries)
    for reader in (index, Index(directory)):
        assert check(reader, entries) == len(QUESTIONS)
        assert reader.problem is None
        reader.close()
    assert sorted(os.listdir(directory)) == ["index.json", "lock", "parts"]
    assert set(part_names(directory)) == {part.name for part in parts.parse_seal(index._read_seal())}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_gives_a_wrong_answer_and_all_is_repaired(
    index: Index, directory: str, file: str, damage: str, number: int
) -> None:
    entries = rows_to(60)
    fill(index, entries)
    check(index, entries)  # this one has the files open when they are damaged
    folder = Path(directory, "parts", part_names(directory)[number]) if file != "index.json" else Path(directory)
    DAMAGES[damage](folder / file)
    for reader in (index, Index(directory)):
        answers = check(reader, entries)
        if damage != "not permitted":  # which root does not notice
            assert answers == 0
            assert reader.problem or (file == "index.json" and damage in ("deleted", "emptied"))
        reader.close()
    assert_repaired(index, directory, entries)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("path", ["parts", "part"])
@pytest.mark.parametrize("replaced", [False, True])
def test_directories_that_are_gone_are_made_anew(index: Index, directory: str, path: str, replaced: bool) -> None:
    fill(index, rows_to(60))
    gone = Path(directory, "parts", part_names(directory)[0] if path == "part" else "")
    gone.rename(Path(directory, "elsewhere.tmp"))
    if replaced:
        gone.write_text("no directory")
    assert check(Index(directory), rows_to(60)) == 0
    assert_repaired(index, directory, rows_to(60))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "text", [b"[]", b'{"schema": 0, "parts": []}', b'{"schema": 1, "parts": [[1]]}', b'{"schema": 1, "parts": 3}']
)
def test_a_seal_of_another_version_or_of_nonsense_is_not_used(index: Index, directory: str, text: bytes) -> None:
    fill(index, rows_to(60))
    Path(directory, "index.json").write_bytes(b"%08x\n%s\n" % (zlib.crc32(text), text))
    assert check(index, rows_to(60)) == 0
    assert index.covered() == 0
    assert index.problem
    assert_repaired(index, directory, rows_to(60))


def test_a_seal_with_other_numbers_is_not_believed(index: Index, directory: str) -> None:
    fill(index, rows_to(60))
    change(Path(directory, "index.json"), lambda content: content.replace(b", 60, ", b", 99, "))
    assert index.covered() == 0
    assert check(index, rows_to(99)) == 0
    assert_repaired(index, directory, rows_to(60))


@pytest.mark.parametrize("file", FILES[:3])
def test_a_file_of_another_size_is_noticed_whatever_its_time(index: Index, directory: str, file: str) -> None:
    fill(index, rows_to(60))
    path = Path(directory, "parts", part_names(directory)[0], file)
    status = path.stat()
    change(path, lambda content: content + b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.covered() == 0
    assert check(index, rows_to(60)) == 0
    assert_repaired(index, directory, rows_to(60))


def test_a_copied_index_is_used_because_its_content_is_right(index: Index, directory: str) -> None:
    fill(index, rows_to(60))
    for path in Path(directory, "parts").rglob("*"):
        newer(path)
    for reader in (index, Index(directory)):
        assert check(reader, rows_to(60)) == len(QUESTIONS)
        reader.close()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("file", FILES[:3])
def test_a_bit_that_flips_unseen_is_not_sealed_again(index: Index, directory: str, file: str) -> None:
    fill(index, rows_to(9))
    path = Path(directory, "parts", part_names(directory)[0], file)
    status = path.stat()
    change(path, flip)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    fill(index, rows_to(18))  # which merges the two
    assert "is not what was written" in str(index.problem)
    assert_repaired(index, directory, rows_to(18))


def test_files_that_make_the_codec_fail_are_looked_at_whole_and_mended(index: Index, directory: str) -> None:
    fill(index, rows_to(60))
    path = Path(directory, "parts", part_names(directory)[0], "terms_0.pst")
    status = path.stat()
    change(path, lambda content: bytes(len(content)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.find(Beginning("word", "")) is None
    assert index.problem
    assert_repaired(index, directory, rows_to(60))


# Several threads and processes

forking = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


@pytest.mark.usefixtures("small_parts")
def test_threads_may_ask_while_another_updates(index: Index) -> None:
    entries, failures, done = rows_to(600), [], threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                check(index, entries, QUESTIONS[:4])
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for row in range(20, 601, 20):
        fill(index, entries[: row * 6 // 7])
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert index.problem is None


def forked(task: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=task, args=arguments, daemon=True)
    process.start()
    return process  # type: ignore[return-value]


def ask_often(index: Index, entries: list[Entry]) -> None:
    for _ in range(30):
        assert check(index, entries) == len(QUESTIONS)


@forking
def test_a_forked_child_reads_for_itself(index: Index) -> None:
    entries = rows_to(200)
    fill(index, entries)
    check(index, entries)
    index._guard.acquire()  # as if another thread were reading
    child = forked(ask_often, index, entries)
    index._guard.release()
    ask_often(index, entries)
    child.join(20)
    assert child.exitcode == 0


def write_slowly(directory: str, last: int) -> None:
    index = Index(directory)
    for row in range(40, last + 1, 40):
        fill(index, rows_to(row))


@forking
@pytest.mark.usefixtures("small_parts")
def test_writers_killed_at_any_moment_leave_right_answers(index: Index, directory: str) -> None:
    entries, choose, answers = rows_to(1200), random.Random(1), 0
    for _ in range(12):
        writers = [forked(write_slowly, directory, 1200) for _ in range(2)]
        until = time.monotonic() + choose.uniform(0.05, 0.35)
        while time.monotonic() < until or not answers:
            answers += check(index, entries, [choose.choice(QUESTIONS)])
            assert index.problem is None
        for writer in writers:
            os.kill(writer.pid or 0, signal.SIGKILL)
            writer.join()
    assert answers > 0
    assert_repaired(index, directory, entries)
