"""What `insert` acknowledged survives: the death of the writer at any moment, full and failing disks, rivals."""

import errno
import gc
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import warnings
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from event_model import sanitize_doc

from filebroker.cataloging.catalog import Catalog
from filebroker.ground.errors import (
    DamagedRunWarning,
    DuplicateDocument,
    RecoveryWarning,
    RunNotFound,
    SealWarning,
    StorageError,
)
from filebroker.ground.filesystem import Folder
from filebroker.storing import journal, layout, recorder, sealing
from filebroker.storing.recorder import Recorder
from filebroker.storing.run_files import RunFiles

WRITERS = Path(__file__).parent / "writers"
STEADY = runpy.run_path(str(WRITERS / "steady.py"))
UID, documents = STEADY["UID"], STEADY["documents"]
NEIGHBOUR = "00000000-neighbour"


# ------------------------------------------------------------------------------------------- helpers


def texts(pairs):
    """Write documents so that they can be compared exactly, NaN and the types of numbers included."""
    return [(name, json.dumps(sanitize_doc(doc), sort_keys=True)) for name, doc in pairs]


def read(catalog, uid=UID):
    """Give the documents of a run, none if the run is not there."""
    try:
        run = catalog.by_uid(uid)
    except RunNotFound:
        return []
    return texts(run.documents())


def record(catalog, pairs):
    for name, doc in pairs:
        catalog.insert(name, doc)


def at_another_time(pairs):
    return [(name, {**doc, "time": 1.7e9} if name == "start" else doc) for name, doc in pairs]


def open_catalog(root):
    """Open a catalog as the next process would, and give what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        catalog = Catalog(root)
    return catalog, [warning.category for warning in caught]


def run_directory(root):
    return Path(root) / layout.run_directory(next(documents(0))[1])


def unneeded_files(root):
    """Give the files that a catalog of sealed runs does not have."""
    files = [path for path in Path(root).rglob("*") if path.is_file() and path.name != layout.MARKER]
    expected = [path for path in files if path.name == layout.DOCUMENTS or path.suffix == ".parquet"]
    logs = [path for path in files if path.parent.parent.name == layout.LEDGER and path.suffix == ".jsonl"]
    return [path for path in files if path not in expected + logs]


def check_recovered(root, pairs, acknowledged):
    """Read a catalog whose writer died, recover it, read it again: nothing acknowledged is lost."""
    expected = texts(pairs)
    reader = Catalog(root, read_only=True)
    before = read(reader)
    assert before == expected[: len(before)]
    assert len(before) >= acknowledged
    was_live = bool(before) and reader.by_uid(UID).state == "live"

    catalog, warned = open_catalog(root)
    after = read(catalog)
    assert after == expected[: len(after)]
    assert len(after) >= len(before)
    was_unlisted = bool(after) and not before  # its start was not acknowledged yet
    assert warned == [RecoveryWarning] * (was_live or was_unlisted)
    if after:
        assert catalog.by_uid(UID).state == ("sealed" if len(after) == len(expected) else "interrupted")
    assert unneeded_files(root) == []

    again, warned = open_catalog(root)
    assert warned == []
    again.clear_cache()  # the ledger alone, as another machine reads it
    assert read(again) == after
    return len(after)


def start_writer(script, *arguments):
    return subprocess.Popen(
        [sys.executable, str(WRITERS / script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def writer(script, *arguments):
    """Run a writer, which is dead at the end whatever happens."""
    process = start_writer(script, *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def small_segments(monkeypatch):
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)


# --------------------------------------------------------------------------------------- kill -9


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_before_kill_9_is_read_and_recovered(tmp_path, seed):
    pairs = list(documents(300))
    targets = random.Random(seed).sample(range(1, len(pairs)), 2)
    roots = [tmp_path / "one", tmp_path / "two"]
    processes = [start_writer("steady.py", root, 300, 25) for root in roots]
    for process, root, target in zip(processes, roots, targets, strict=True):
        for _ in range(target):
            process.stdout.readline()
        process.kill()
        rest = process.communicate()[0]
        check_recovered(root, pairs, target + rest.count("\n"))


# ---------------------------------------------------------------------------------- crash points


class Death(BaseException):
    """The process is no more."""


class Inline(Executor):
    """Does at once what a thread would do at some time, so that operations come in one order."""

    def __init__(self, *_, **__):
        pass

    def submit(self, work, *arguments, **options):
        future = Future()
        try:
            future.set_result(work(*arguments, **options))
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)
        return future


class Mortal:
    """The file operations of a process that dies at the n-th of them and does nothing after it.

    With ``half`` it dies just after the operation, and a write is done by half.
    """

    OPERATIONS = ("replace", "unlink", "open", "write", "mkdir", "rmdir", "link", "fsync")

    def __init__(self, last=10**9, *, half=False):
        self.count, self.last, self.half = 0, last, half
        self.descriptors = set()

    @property
    def dead(self):
        return self.count >= self.last

    @contextmanager
    def living(self):
        """Replace the operations; at the end close all files, as the system does for the dead."""
        gc.disable()  # what others leave behind is not removed on this account
        real = {name: getattr(os, name) for name in (*self.OPERATIONS, "close")}
        with pytest.MonkeyPatch.context() as patch:
            for name in self.OPERATIONS:
                patch.setattr(os, name, self._wrap(name, real[name]))
            patch.setattr(
                os, "close", lambda descriptor: self.descriptors.discard(descriptor) or real["close"](descriptor)
            )
            patch.setattr(recorder, "ThreadPoolExecutor", Inline)
            try:
                yield
            except Death:
                assert self.dead
        gc.enable()
        for descriptor in self.descriptors:
            os.close(descriptor)

    def _wrap(self, name, operation):
        def wrapped(*arguments, **options):
            if self.dead:
                raise Death
            self.count += 1
            if self.dead and not self.half:
                raise Death
            if name == "fsync":  # costs time, and changes nothing that this process could see
                return None
            if self.dead and name == "write":
                arguments = (arguments[0], arguments[1][: len(arguments[1]) // 2])
            result = operation(*arguments, **options)
            if name == "open":
                self.descriptors.add(result)
            if self.dead:
                raise Death
            return result

        return wrapped


@pytest.fixture
def catalog_with_neighbour(tmp_path):
    """A catalog that holds a complete run, and what that run must always give."""
    root = tmp_path / "catalog"
    record(Catalog(root), at_another_time(documents(4, NEIGHBOUR)))
    return root, read(Catalog(root, read_only=True), NEIGHBOUR)


def die_recording(root, pairs, mortal):
    """Record until death, and give how many documents were acknowledged."""
    acknowledged = 0
    with mortal.living():
        catalog = Catalog(root, sync="always")
        for name, doc in pairs:
            catalog.insert(name, doc)
            acknowledged += not mortal.dead
    return acknowledged


def copies(origin, target):
    """Give fresh copies of a catalog, one at a time."""
    while True:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(origin, target)
        for lock in target.glob(f"{layout.LIVE}/*.json"):  # stand for the original, which a copy does not
            lock.write_text(json.dumps({**json.loads(lock.read_text()), "inode": lock.stat().st_ino}))
        yield target


@pytest.mark.parametrize("half", [False, True])
def test_a_writer_may_die_at_any_file_operation(tmp_path, small_segments, catalog_with_neighbour, half):
    origin, neighbour = catalog_with_neighbour
    pairs = list(documents(32))
    fresh = copies(origin, tmp_path / "copy")
    undisturbed = Mortal()
    assert die_recording(next(fresh), pairs, undisturbed) == len(pairs)
    assert undisturbed.count > 100
    outcomes = set()
    for last in range(1, undisturbed.count + 1):
        root = next(fresh)
        acknowledged = die_recording(root, pairs, Mortal(last, half=half))
        outcomes.add(check_recovered(root, pairs, acknowledged))
        assert read(Catalog(root, read_only=True), NEIGHBOUR) == neighbour
    assert outcomes >= set(range(len(pairs) + 1))


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("stopped", [False, True])
def test_recovery_itself_may_die_at_any_file_operation(tmp_path, small_segments, stopped, damaged):
    origin = tmp_path / "origin"
    pairs = list(documents(32))
    mortal = Mortal()
    with mortal.living(), pytest.MonkeyPatch.context() as patch:
        catalog = Catalog(origin, sync="always")
        record(catalog, pairs[:-1])
        if stopped:  # die on the way to sealing
            patch.setattr(sealing, "seal_run", lambda *_, **__: (_ for _ in ()).throw(Death))
            with pytest.raises(Death):
                catalog.insert(*pairs[-1])
    expected = texts(pairs if stopped else pairs[:-1])
    lost = 0
    if damaged:
        path = max(run_directory(origin).glob("journal.*"))
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:1], lines[1].replace(b'"i"', b'"j"'), *lines[2:]]))
        lost = 1
    fresh = copies(origin, tmp_path / "copy")

    def recover(root, mortal):
        with mortal.living(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Catalog(root)

    undisturbed = Mortal()
    recover(next(fresh), undisturbed)
    assert undisturbed.count > 10
    for last in range(1, undisturbed.count + 1):
        root = next(fresh)
        recover(root, Mortal(last, half=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = Catalog(root).by_uid(UID)
            found = texts(run.documents())
            assert run.state == ("sealed" if stopped else "interrupted")
        assert len(found) == len(expected) - lost
        assert [text for text in expected if text in found] == found
        assert [path for path in unneeded_files(root) if path.suffix != ".damaged"] == []
        assert open_catalog(root)[1] == []


def test_a_writer_may_die_at_any_file_operation_that_makes_a_catalog(tmp_path):
    origin = tmp_path / "origin"
    origin.mkdir()
    pairs = list(documents(0))
    fresh = copies(origin, tmp_path / "copy")
    undisturbed = Mortal()
    assert die_recording(next(fresh), pairs, undisturbed) == len(pairs)
    for last in range(1, undisturbed.count + 1):
        root = next(fresh)
        acknowledged = die_recording(root, pairs, Mortal(last, half=True))
        catalog, _ = open_catalog(root)
        found = read(catalog)
        assert found == texts(pairs)[: len(found)]
        assert len(found) >= acknowledged
        record(catalog, at_another_time(documents(0, NEIGHBOUR)))
        assert catalog.has_uid(NEIGHBOUR)


# ------------------------------------------------------------------------------------- torn lines


def test_a_last_line_cut_at_any_byte_costs_that_line_alone(tmp_path):
    pairs = list(documents(4))[:-1]
    catalog = Catalog(tmp_path / "origin", sync="never")
    record(catalog, pairs)
    catalog.close()
    text = (run_directory(tmp_path / "origin") / layout.journal_name(0)).read_bytes()
    last = text.rindex(b"\n", 0, -1) + 1
    fresh = copies(tmp_path / "origin", tmp_path / "copy")
    for cut in range(last, len(text)):
        root = next(fresh)
        (run_directory(root) / layout.journal_name(0)).write_bytes(text[:cut])
        assert check_recovered(root, [*pairs[:-1], ("stop", {})], len(pairs) - 1) == len(pairs) - 1


def test_a_copy_of_a_run_in_progress_is_read_and_left_alone(tmp_path):
    pairs = list(documents(10))[:-1]
    catalog = Catalog(tmp_path / "origin")
    record(catalog, pairs)
    shutil.copytree(tmp_path / "origin", tmp_path / "copy")
    catalog.close()
    before = sorted(path.name for path in (tmp_path / "copy").rglob("*"))
    copy, warned = open_catalog(tmp_path / "copy")
    assert warned == []
    assert read(copy) == texts(pairs)
    assert copy.by_uid(UID).state == "live"
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == before


# -------------------------------------------------------------------------- full and failing disks


def failing_write(patch, error, *, written=0, after=0):
    """Make one write fail once some of its bytes were written; ``after`` writes succeed before."""
    real, state = os.write, {"left": after}

    def write(descriptor, data):
        state["left"] -= 1
        if state["left"] >= 0 or state["left"] < -2 or (state["left"] == -2 and not written):
            return real(descriptor, data)
        if state["left"] == -1 and written:
            return real(descriptor, data[:written])
        raise OSError(error, os.strerror(error))

    patch.setattr(journal.os, "write", write)


@pytest.mark.parametrize("written", [0, 1, 50])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("position", [1, 5, 11, -1], ids=["descriptor", "event", "event_page", "stop"])
def test_a_failed_write_harms_nothing_and_the_document_can_be_inserted_again(
    tmp_path, monkeypatch, error, written, position
):
    pairs = list(documents(12))
    position %= len(pairs)
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:position])
    with monkeypatch.context() as patch:
        failing_write(patch, error, written=written)
        with pytest.raises(StorageError) as caught:
            catalog.insert(*pairs[position])
    assert caught.value.errno == error
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs[:position])
    record(catalog, pairs[position:-1])
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs[:-1])
    catalog.insert(*pairs[-1])
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)


@pytest.mark.parametrize("written", [0, 20])
@pytest.mark.parametrize("after", [0, 1, 2], ids=["lock", "head", "start"])
def test_a_start_that_could_not_be_written_can_be_inserted_again(tmp_path, monkeypatch, after, written):
    pairs = list(documents(3))
    catalog = Catalog(tmp_path)
    with monkeypatch.context() as patch:
        failing_write(patch, errno.ENOSPC, written=written, after=after)
        if after or not written:  # a short write of the lock's content is of no consequence
            with pytest.raises(StorageError):
                catalog.insert(*pairs[0])
            assert len(Catalog(tmp_path, read_only=True)) == 0
    record(catalog, pairs)
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)
    assert unneeded_files(tmp_path) == []


def test_when_a_failed_write_cannot_be_taken_back_no_acknowledged_document_is_lost(tmp_path, monkeypatch):
    pairs = list(documents(12))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:6])

    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        failing_write(patch, errno.EIO, written=30)
        patch.setattr(journal.os, "ftruncate", refuse)
        catalog.insert(*pairs[6])  # goes on in a new file
    record(catalog, pairs[7:-1])
    catalog.close()
    check_recovered(tmp_path, pairs, len(pairs) - 1)


def test_interrupts_at_any_moment_lose_and_double_nothing(tmp_path, monkeypatch, small_segments):
    """Interrupt a migration again and again, as a hand on Ctrl-C does, and insert the same document again."""
    pairs = list(documents(400))
    catalog = Catalog(tmp_path, sync="never")
    interrupts = 0

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for position, (name, doc) in enumerate(pairs[:-1]):
            try:
                if position % 3 == 0:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + position % 40 * 4e-6)
                catalog.insert(name, doc)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
                interrupts += 1
                catalog.insert(name, doc)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    catalog.insert(*pairs[-1])
    assert interrupts > 20
    assert read(catalog) == texts(pairs)
    assert catalog.by_uid(UID).state == "sealed"


def test_recording_goes_on_in_a_new_file_after_a_failed_fsync(tmp_path, monkeypatch):
    pairs = list(documents(12))
    catalog = Catalog(tmp_path, sync="always")
    record(catalog, pairs[:6])
    real, failures = os.fsync, []

    def fail_once(descriptor):
        if not failures:
            failures.append(descriptor)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    record(catalog, pairs[6:])
    assert failures
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)


def test_an_interrupt_just_after_a_write_leaves_each_document_once(tmp_path, monkeypatch):
    pairs = list(documents(12))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:6])
    with monkeypatch.context() as patch:
        real = os.write

        def write_and_be_interrupted(descriptor, data):
            real(descriptor, data)
            raise KeyboardInterrupt

        patch.setattr(journal.os, "write", write_and_be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalog.insert(*pairs[6])
    record(catalog, pairs[6:-1])
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs[:-1])
    catalog.insert(*pairs[-1])
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)


@pytest.mark.parametrize("operation", ["open", "write", "mkdir", "replace", "unlink"])
def test_trouble_while_segments_are_committed_stops_no_recording(tmp_path, monkeypatch, small_segments, operation):
    pairs = list(documents(60))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:5])
    monkeypatch.setattr(recorder, "ThreadPoolExecutor", Inline)
    real = getattr(os, operation)
    failures = []

    def refuse(*arguments, **options):
        if operation == "write" and b'"segment"' not in arguments[1]:
            return real(*arguments, **options)
        failures.append(arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, operation, refuse)
        with pytest.warns(SealWarning, match="They are safe"):
            record(catalog, pairs[5:25])
    assert failures
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs[:25])
    record(catalog, pairs[25:-1])
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs[:-1])
    assert len(list(run_directory(tmp_path).glob("docs.*"))) >= 2, "segments are committed once the trouble is over"
    catalog.insert(*pairs[-1])
    assert unneeded_files(tmp_path) == []
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of one megabyte."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a filesystem")
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("segment_documents", [200_000, 60])
def test_on_a_full_disk_recording_goes_on_once_there_is_space(small_disk, monkeypatch, segment_documents):
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", segment_documents)
    pairs = list(documents(1000))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(900_000))
    root = small_disk / "catalog"
    catalog = Catalog(root)
    waiting = list(pairs)
    with warnings.catch_warnings(), pytest.raises(StorageError) as caught:  # noqa: PT012 - the disk says when
        warnings.simplefilter("ignore", SealWarning)
        while waiting:
            catalog.insert(*waiting[0])
            del waiting[0]
    refused = len(pairs) - len(waiting)
    assert caught.value.errno == errno.ENOSPC
    assert refused > 3
    assert read(Catalog(root, read_only=True)) == texts(pairs[:refused])
    ballast.unlink()
    record(catalog, pairs[refused:])
    assert read(Catalog(root, read_only=True)) == texts(pairs)
    assert unneeded_files(root) == []


# ---------------------------------------------------------------------------------------- sealing


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("a bug")])
def test_a_run_that_could_not_be_sealed_is_whole_and_is_sealed_at_the_next_opening(
    tmp_path, monkeypatch, small_segments, error
):
    pairs = list(documents(25))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:-1])

    def refuse(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "seal_run", refuse)
        with pytest.warns(SealWarning, match=UID):
            catalog.insert(*pairs[-1])
    run = Catalog(tmp_path, read_only=True).by_uid(UID)
    assert run.stop == pairs[-1][1]
    assert texts(run.documents()) == texts(pairs)
    again, warned = open_catalog(tmp_path)
    assert warned == [RecoveryWarning]
    assert again.by_uid(UID).state == "sealed"
    assert read(again) == texts(pairs)
    assert unneeded_files(tmp_path) == []


# --------------------------------------------------------------------------------- writers that live


def test_a_catalog_opened_beside_a_living_writer_leaves_its_run_alone(tmp_path, small_segments):
    pairs = list(documents(25))
    catalog = Catalog(tmp_path)
    for position, (name, doc) in enumerate(pairs[:-1], start=1):
        catalog.insert(name, doc)
        if position % 7 == 0:
            other = Catalog(tmp_path)
            assert other.by_uid(UID).state == "live"
            assert other.by_uid(UID).stop is None
            assert read(other) == texts(pairs[:position])
    watched = Catalog(tmp_path).by_uid(UID)
    assert watched.stop is None
    catalog.insert(*pairs[-1])
    assert watched.stop == pairs[-1][1]
    assert watched.state == "sealed"
    assert texts(watched.documents()) == texts(pairs)


def test_a_catalog_opened_in_another_process_than_the_writer_leaves_its_run_alone(tmp_path):
    pairs = list(documents(50))
    with writer("steady.py", tmp_path, 50, 20, 0, 40) as process:
        for _ in range(40):
            process.stdout.readline()
        catalog = Catalog(tmp_path)
        run = catalog.by_uid(UID)
        assert (run.state, run.stop) == ("live", None)
        assert texts(run.documents()) == texts(pairs[:40])
        process.communicate("go on\n")
    assert (run.state, run.stop) == ("sealed", pairs[-1][1])
    assert texts(run.documents()) == texts(pairs)
    assert open_catalog(tmp_path)[1] == []


def test_a_reader_sees_a_prefix_that_never_shrinks(tmp_path):
    expected = texts(documents(400))
    with writer("steady.py", tmp_path, 400, 15, 0.002) as process:
        process.stdout.readline()
        run = Catalog(tmp_path, read_only=True).by_uid(UID)
        seen, polls = 0, 0
        while run.stop is None:
            found = texts(run.documents())
            assert found == expected[: len(found)]
            assert len(found) >= seen
            seen, polls = len(found), polls + 1
            fresh = read(Catalog(tmp_path, read_only=True))
            assert fresh == expected[: len(fresh)]
            assert len(fresh) >= seen
            seen = len(fresh)
        process.communicate()
    assert polls > 5
    assert texts(run.documents()) == expected


def test_a_reader_that_comes_while_leftovers_are_removed_sees_the_whole_run(tmp_path, monkeypatch, small_segments):
    """The reader finds no sealed run, then that appears and all but the first segment vanishes, then it lists."""
    pairs = list(documents(25))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:-1])
    catalog._recording._owners[UID]._finish_commit()
    first = run_directory(tmp_path) / layout.docs_name(0)
    kept = first.read_bytes()
    real, misses = Folder.read, []

    def read_too_early(folder, name, start=0):
        if name.endswith(layout.DOCUMENTS) and not misses:
            misses.append(name)
            catalog.insert(*pairs[-1])
            first.write_bytes(kept)
            raise FileNotFoundError(name)
        return real(folder, name, start)

    monkeypatch.setattr(Folder, "read", read_too_early)
    files = RunFiles(Folder(tmp_path), layout.run_directory(pairs[0][1]))
    assert misses
    assert texts(files.documents()) == texts(pairs)


def test_a_stream_taken_before_the_run_was_sealed_still_has_its_events(tmp_path, small_segments):
    """Sealing makes one page of pages whose columns differ, here of integers and floats."""
    pairs = list(documents(60))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:-1])
    run = Catalog(tmp_path, read_only=True).by_uid(UID)
    stream, iterator = run["slow"], run.documents()
    seen = [next(iterator)]
    before = stream.to_pandas()
    catalog.insert(*pairs[-1])
    assert list(stream.to_pandas()["level"]) == list(before["level"])
    seen += iterator
    assert texts(seen) == texts(pairs)[: len(seen)]
    assert len(seen) >= len(pairs) - 1


# ------------------------------------------------------------------------------------------ rivals


@pytest.mark.parametrize("new", [False, True], ids=["catalog there", "new catalog"])
def test_of_rivals_for_one_uid_one_wins(tmp_path, new):
    if not new:
        record(Catalog(tmp_path), at_another_time(documents(0, NEIGHBOUR)))
    rivals = [start_writer("racer.py", tmp_path, UID) for _ in range(4)]
    try:
        for rival in rivals:
            assert rival.stdout.readline() == "ready\n"
        for rival in rivals:
            rival.stdin.write("go\n")
            rival.stdin.flush()
        answers = sorted(rival.stdout.readline().strip() for rival in rivals)
        assert answers == ["DuplicateDocument"] * 3 + ["recording"]
        assert len(Catalog(tmp_path)) == (1 if new else 2)
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()


@pytest.mark.parametrize("stopped", [False, True], ids=["recording", "recorded"])
def test_a_uid_is_recorded_once_whatever_the_start_time(tmp_path, stopped):
    pairs = list(documents(3))
    first, second = Catalog(tmp_path), Catalog(tmp_path)
    record(first, pairs if stopped else pairs[:-1])
    with pytest.raises(DuplicateDocument):
        second.insert("start", {**pairs[0][1], "time": 1763000000.0})
    assert len(Catalog(tmp_path)) == 1
    first.close()


# ------------------------------------------------------------------------------------ what a second look found


def test_two_failed_fsyncs_in_a_row_do_not_end_a_recording(tmp_path, monkeypatch):
    pairs = list(documents(12))
    catalog = Catalog(tmp_path, sync="always")
    record(catalog, pairs[:6])

    def refuse(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", SealWarning)
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError):
            catalog.insert(*pairs[6])
    record(catalog, pairs[6:])
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)
    assert catalog.by_uid(UID).state == "sealed"


def test_an_interrupted_rotation_doubles_nothing(tmp_path, monkeypatch, small_segments):
    pairs = list(documents(30))
    catalog = Catalog(tmp_path, sync="never")
    real, interrupted = Recorder._open_segment, []

    def open_and_be_interrupted(self, number):
        real(self, number)
        if number and not interrupted:
            interrupted.append(number)
            raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "_open_segment", open_and_be_interrupted)
    for name, doc in pairs[:-1]:
        try:
            catalog.insert(name, doc)
        except KeyboardInterrupt:
            catalog.insert(name, doc)
    record(catalog, pairs[2:-1])  # all of it again
    catalog.insert(*pairs[-1])
    assert interrupted
    assert read(Catalog(tmp_path, read_only=True)) == texts(pairs)


def test_an_interrupted_sealing_is_made_good_by_the_next_opening(tmp_path, monkeypatch):
    pairs = list(documents(5))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:-1])

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "seal_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            catalog.insert(*pairs[-1])
    again, warned = open_catalog(tmp_path)
    assert warned == [RecoveryWarning]
    assert again.by_uid(UID).state == "sealed"
    assert read(again) == texts(pairs)


def test_a_missing_page_of_a_run_in_progress_costs_its_events_alone(tmp_path, small_segments):
    pairs = list(documents(60))[:-1]
    catalog = Catalog(tmp_path, sync="never")
    record(catalog, pairs)
    catalog.close()
    missing = min(run_directory(tmp_path).glob("*/00000.parquet"))
    missing.unlink()
    with pytest.warns(DamagedRunWarning, match="is missing"):
        found = list(Catalog(tmp_path, read_only=True).by_uid(UID).documents())
    assert 0 < len(found) < len(pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sealed = Catalog(tmp_path).by_uid(UID)
        assert sealed.state == "interrupted"
        assert len(list(sealed.documents())) == len(found)


def test_a_reader_of_a_line_that_is_taken_back_reads_what_comes_in_its_place(tmp_path, monkeypatch):
    pairs = list(documents(12))
    catalog = Catalog(tmp_path)
    record(catalog, pairs[:6])
    reader = Catalog(tmp_path, read_only=True)
    run = reader.by_uid(UID)
    real = os.write

    def write_and_be_seen(descriptor, data):
        real(descriptor, data)
        list(run.documents())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "write", write_and_be_seen)
        with pytest.raises(KeyboardInterrupt):
            catalog.insert(*pairs[6])
    record(catalog, pairs[7:9])
    assert texts(run.documents()) == texts([*pairs[:6], *pairs[7:9]])
