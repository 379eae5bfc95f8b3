"""Copying is replication: a copy of a live catalog opens wherever it is stopped, and going on with it heals it."""

import contextlib
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from event_model import sanitize_doc

from equality import first_difference
from filebroker.cataloging.catalog import Catalog
from filebroker.finding import cache
from filebroker.finding.compaction import merge
from filebroker.finding.ledger import LOGS, Ledger
from filebroker.ground.errors import (
    CatalogNotFound,
    DamagedRunWarning,
    LedgerWarning,
    UnsupportedFormat,
)
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout, recorder
from servers import new_bucket
from test_crash import Inline

WRITER = Path(__file__).parent / "writers" / "replicated.py"
_written = runpy.run_path(str(WRITER))
documents, uid_of, value_of = _written["documents"], _written["uid_of"], _written["value_of"]

#: What a copier left behind when it was killed is nobody's file.
GROWING = re.compile(rf"^{LOGS}/|/journal\.")
LEFT_BY_RSYNC, LEFT_BY_AWS = ".{}.aB3xYz", "{}.6eF89aBc"


# ------------------------------------------------------------------------------------------- the source


@pytest.fixture(autouse=True)
def steps_in_one_order(monkeypatch):
    """Have recorders turn ten documents at a time into pages, at once instead of in the background."""
    monkeypatch.setitem(recorder.Recorder.__init__.__kwdefaults__, "segment_documents", 10)
    monkeypatch.setattr(recorder, "ThreadPoolExecutor", Inline)


class Source:
    """A catalog that is recorded into step by step, and what was inserted."""

    def __init__(self, root):
        self.root = Path(root)
        self.inserted: dict[str, list] = {}
        self._steps = self._story()

    def begin(self):
        """Record two runs that are sealed and in a snapshot, and a third as far as its second segment."""
        for _ in range(75):
            next(self._steps)
        return self

    def go_on(self, count):
        """Take some steps, and tell whether there are more."""
        return all(next(self._steps, None) is not None for _ in range(count))

    def finish(self):
        """Record the rest, and close."""
        for _ in self._steps:
            pass

    def record(self, number, rows):
        """Record one run by a process of its own, which has a log of its own; give way after each document."""
        catalog = Catalog(self.root, sync="never")
        for name, doc in documents(number, rows):
            catalog.insert(name, doc)
            self.inserted.setdefault(uid_of(number), []).append((name, sanitize_doc(doc)))
            yield number
        catalog.close()

    def _story(self):
        yield from self.record(1, 3)
        yield from self.record(2, 28)
        self.merge_logs()
        yield from self.record(3, 34)
        first, second = self.record(4, 12), self.record(5, 2)
        for turn in (first, second, first, first):  # two at the same time
            yield from (step for step, _ in zip(turn, range(4), strict=False))
        self.merge_logs()
        yield from first
        yield from second
        yield from self.record(6, 1)

    def go_on_after_all(self):
        """Record one more run, and merge the logs: what the second copy brings."""
        for _ in self.record(7, 13):
            pass
        self.merge_logs()

    def merge_logs(self):
        """Replace the logs by a snapshot, as the housekeeper does when there are many."""
        ledger = Ledger(Folder(self.root))
        merge(ledger, [name for name in ledger.files() if name.startswith(LOGS)])


# ------------------------------------------------------------------------------------------- the copier


def ledger_first(name):
    return not name.startswith(layout.LEDGER), name


def snapshots_last(name):
    return name.startswith(f"{layout.LEDGER}/snap"), not name.startswith(f"{layout.LEDGER}"), name


def ledger_last(name):
    return name.startswith(layout.LEDGER), name


def backwards(names):
    return sorted(names, reverse=True)


ORDERS: dict[str, Callable] = {
    "by name": sorted,
    "backwards": backwards,
    "ledger first": lambda names: sorted(names, key=ledger_first),
    "snapshots after runs": lambda names: sorted(names, key=snapshots_last),
    "ledger last": lambda names: sorted(names, key=ledger_last),
    "at random": lambda names: random.Random(len(names)).sample(sorted(names), len(names)),
    "reverse of names": lambda names: sorted(names, key=lambda name: name[::-1]),
}


class Copier:
    """Copies file by file what is new or has another size or time, like rsync and ``aws s3 sync``.

    Parameters
    ----------
    order
        Puts the names of all files into the order in which they are copied.
    in_place
        Write into the files themselves, as cp does, so that one is cut where the copier is stopped.
    lists_first
        List all files before the first is copied, else those of each directory when its turn comes.
    left
        The name of the file beside its place that is written and then renamed.
    tears
        Meet each file that grows in the middle of a line.
    """

    def __init__(
        self, source, target, order=sorted, *, in_place=False, lists_first=True, left=LEFT_BY_RSYNC, tears=False
    ):
        self.source, self.target, self.order = Path(source), Path(target), order
        self.in_place, self.lists_first, self.left, self.tears = in_place, lists_first, left, tears

    def steps(self) -> Iterator[str]:
        """Copy, giving way after each operation."""
        for name in self._listed() if self.lists_first else self._walked(self.source):
            with contextlib.suppress(FileNotFoundError):  # listed, and gone since: reported, and passed over
                yield from self._copy(name)

    def finish(self):
        """Copy everything."""
        for _ in self.steps():
            pass
        return self.target

    def _listed(self):
        files = (path for path in self.source.rglob("*") if path.is_file())
        return self.order([path.relative_to(self.source).as_posix() for path in files])

    def _walked(self, directory):
        for name in self.order([path.name for path in directory.iterdir()] if directory.is_dir() else []):
            path = directory / name
            if path.is_dir():
                yield from self._walked(path)
            else:
                yield path.relative_to(self.source).as_posix()

    def _copy(self, name):
        source, target = self.source / name, self.target / name
        status = source.stat()
        if target.exists() and is_same(status, target.stat()):
            return
        data, moment = source.read_bytes(), status.st_mtime_ns
        if self.tears and GROWING.search(name):
            data, moment = data[:-7], 0
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target if self.in_place else target.with_name(self.left.format(target.name))
        written.write_bytes(data[: len(data) // 2])
        yield name
        written.write_bytes(data)
        os.utime(written, ns=(moment, moment))
        written.replace(target)
        yield name


def is_same(one, other):
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


# -------------------------------------------------------------------------------------------- checks


@contextlib.contextmanager
def told():
    """Collect what a reader is told; anything but damage, and the ledger's, is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        for category in (DamagedRunWarning, LedgerWarning):
            warnings.simplefilter("always", category)
        yield caught
    for warning in caught:
        assert len(str(warning.message).split()) > 5


@contextlib.contextmanager
def nothing_kept():
    """Read as another machine does, which keeps nothing of the catalog."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, "")
        yield


def open_copy(root, **options):
    """Open a copy; None, with a reason, if it holds nothing that could be shown, or its marker was cut."""
    try:
        return Catalog(root, **options)
    except (CatalogNotFound, UnsupportedFormat) as error:
        problem = error
    marker = Path(root) / layout.MARKER
    assert marker.read_bytes()[-1:] != b"\n" if marker.exists() else not any(Path(root).glob("2*/*/*/*"))
    assert str(root) in str(problem)
    return None


def runs_of(catalog):
    """Give the documents of each run by its uid, and the uids of those that are flagged as damaged."""
    found, flagged = {}, set()
    with told() as messages:
        for run in catalog:
            before = len(messages)
            found[run.uid] = [(name, sanitize_doc(doc)) for name, doc in run.documents()]
            check_tables(run)
            if run.files.damage or len(messages) > before:
                flagged.add(run.uid)
                assert any(run.directory in str(message.message) for message in messages) or run.files.damage
    return found, flagged


def check_tables(run):
    """Assert that a table holds nothing but what was recorded, each value in its row."""
    number = run.start["scan_id"]
    frame = run["primary"].to_pandas() if "primary" in run.stream_names else ()
    if len(frame):
        assert frame["x"].tolist() == [value_of(number, row) for row in frame.index]
        assert frame["y"].tolist() == [f"{number}/{row}" for row in frame.index]


def check_partial(catalog, inserted):
    """Read a copy that is not complete: each run is a beginning, the whole, or flagged; nothing was made up."""
    if catalog is None:
        return
    found, flagged = runs_of(catalog)
    assert found.keys() <= inserted.keys()
    for uid, pairs in found.items():
        if uid in flagged:
            assert all(pair in inserted[uid] for pair in pairs)
        else:
            assert not first_difference(inserted[uid][: len(pairs)], pairs)


def check_complete(catalog, inserted, may_warn=()):
    """Ask a copy that is complete in each way there is."""
    with told() as messages:
        check_answers(catalog, inserted)
    assert [message for message in messages if not issubclass(message.category, may_warn)] == []


def check_answers(catalog, inserted):
    found, flagged = runs_of(catalog)
    assert not flagged
    assert sorted(found) == sorted(inserted)
    for uid, pairs in inserted.items():
        assert not first_difference(pairs, found[uid])
    assert len(catalog) == len(inserted)
    assert [run.uid for run in catalog] == sorted(inserted, reverse=True)
    assert {run.uid for run in catalog.search(text="finished")} == set(inserted)
    for uid in inserted:
        run = catalog.by_uid(uid)
        assert (run.state, run.stop["reason"]) == ("sealed", "finished")
        assert [run.uid for run in catalog.search({"scan_id": run.start["scan_id"]})] == [uid]
        assert catalog.search(text=f"word{run.start['scan_id']}").newest(1).uid == uid
        assert len(run["primary"].to_pandas()) == sum(
            name == "event" and "x" in doc["data"] for name, doc in inserted[uid]
        )


class Stopped:
    """A copy as it is where it was stopped, with those who read it then."""

    def __init__(self, target, place):
        self.root = Path(place)
        shutil.copytree(target, self.root)
        self._cache = self.root.with_name(f"{self.root.name}.cache")
        self._reader = None

    @contextlib.contextmanager
    def _keeping(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(cache.VARIABLE, str(self._cache))
            yield

    def look(self, inserted):
        """Read it in each way there is: by one who keeps nothing, by one who keeps and stays, and to record into."""
        with nothing_kept():
            check_partial(open_copy(self.root, read_only=True), inserted)
            copy = shutil.copytree(self.root, self.root.with_name(f"{self.root.name}.copy"))
            check_partial(open_copy(copy), inserted)
            shutil.rmtree(copy)
        with self._keeping():
            self._reader = open_copy(self.root, read_only=True)
            check_partial(self._reader, inserted)

    def heal(self, source, **options):
        """Go on with the copy to its end, and read it again."""
        Copier(source.root, self.root, **options).finish()
        # What is cut and is no more in the source stays so; the ledger then asks for reindex().
        self._check(source.inserted, LedgerWarning if options.get("in_place") else ())

    def _check(self, inserted, may_warn):
        with nothing_kept():
            check_complete(Catalog(self.root, read_only=True), inserted, may_warn)
        with self._keeping():
            if self._reader is None:
                self._reader = Catalog(self.root, read_only=True)
            # Of a line that was torn when this one met it, it is in doubt.
            check_complete(self._reader, inserted, LedgerWarning)
            check_complete(Catalog(self.root, read_only=True), inserted, may_warn)

    def close(self):
        if self._reader is not None:
            self._reader.close()
        shutil.rmtree(self.root)
        shutil.rmtree(self._cache, ignore_errors=True)


def replicate(place, seed, order="by name", *, stops=None, pace=2, **options):
    """Copy a catalog that goes on being recorded, stop at some places, go on from each; give how many there were."""
    source, chance = Source(place / "source").begin(), random.Random(seed)
    target, stopped, count = place / "copy", [], 0
    target.mkdir()
    for count, _ in enumerate(Copier(source.root, target, ORDERS[order], **options).steps(), 1):
        if stops is None or count in stops:
            copy = Stopped(target, place / f"stopped-{count}")
            copy.look(source.inserted)
            stopped.append(copy)
        source.go_on(chance.randrange(pace + 1))
    source.finish()
    options["tears"] = False
    for copy in stopped:
        copy.heal(source, order=ORDERS[order], **options)
    source.go_on_after_all()
    for copy in stopped:
        copy.heal(source, order=ORDERS[order], **options)
        copy.close()
    return count


# -------------------------------------------------------------------------- wherever the copy is stopped

WAYS: dict[str, dict] = {
    "like rsync": {},
    "like cp": {"in_place": True, "lists_first": False},
    "directory by directory": {"lists_first": False},
    "like aws": {"left": LEFT_BY_AWS},
    "in the middle of lines": {"tears": True},
}


@pytest.mark.parametrize(
    ("seed", "order", "way"), [(seed, *pair) for seed, pair in enumerate(zip(ORDERS, cycle(WAYS), strict=False))]
)
def test_a_copy_of_a_live_catalog_opens_wherever_it_is_stopped_and_is_healed_by_going_on(tmp_path, seed, order, way):
    stops = random.Random(seed).sample(range(1, 25), 2)  # each costs about half a second
    assert replicate(tmp_path, seed, order, stops=stops, pace=2 + seed, **WAYS[way]) >= max(stops)


def test_the_source_of_these_tests_is_recorded_while_it_is_copied(tmp_path):
    """Show that a copier meets files that grow, that are gone when their turn comes, and that came after it listed."""
    source = Source(tmp_path / "source").begin()
    begun = {path.relative_to(source.root): path.stat().st_size for path in source.root.rglob("*") if path.is_file()}
    seen = Counter()
    while source.go_on(1):
        now = {path.relative_to(source.root): path.stat().st_size for path in source.root.rglob("*") if path.is_file()}
        seen["new"] += len(now.keys() - begun.keys())
        seen["gone"] += len(begun.keys() - now.keys())
        seen["grown"] += sum(begun.get(path, size) < size for path, size in now.items())
        begun = now
    assert min(seen[what] for what in ("new", "gone", "grown")) > 8


def test_a_run_is_flagged_until_its_pages_have_come(tmp_path):
    source = Source(tmp_path / "source")
    source.finish()
    copy = Copier(source.root, tmp_path / "copy").finish()
    page = next(copy.glob("2*/*/*/*-f0002/primary/*"))
    page.rename(tmp_path / "page")
    catalog = Catalog(copy, read_only=True)
    with pytest.warns(DamagedRunWarning, match=r"f0002.*primary/0000\d\.parquet is missing"):
        documents = list(catalog.by_uid("f0002").documents())
    assert 0 < len(documents) < len(source.inserted["f0002"])
    (tmp_path / "page").rename(page)
    check_complete(catalog, source.inserted)


@pytest.mark.parametrize("asking", ["list", "refresh"])
@pytest.mark.parametrize("part", ["log", "log and snap"])
def test_runs_that_come_after_their_ledger_are_found_when_they_come(tmp_path, part, asking):
    source = Source(tmp_path / "source")
    source.finish()
    copy = tmp_path / "copy"
    for name in part.split(" and "):
        shutil.copytree(source.root / layout.LEDGER / name, copy / layout.LEDGER / name)
    shutil.copy(source.root / layout.MARKER, copy)
    reader = Catalog(copy, read_only=True)
    if asking == "refresh":
        reader.refresh()
    assert list(reader) == []
    Copier(source.root, copy).finish()
    check_complete(reader, source.inserted)
    check_complete(Catalog(copy, read_only=True), source.inserted)


@pytest.mark.parametrize("asking", ["list", "refresh"])
def test_a_run_that_was_cut_by_a_killed_cp_is_flagged_and_then_read_anew(tmp_path, asking):
    source = Source(tmp_path / "source")
    source.finish()
    copy = Copier(source.root, tmp_path / "copy").finish()
    shutil.rmtree(copy / layout.LEDGER)
    cut = next(copy.glob("2*/*/*/*-f0002")) / layout.DOCUMENTS
    whole = cut.read_bytes()
    cut.write_bytes(whole[: whole[:-1].rfind(b"\n") + 1])  # without its stop document
    reader = Catalog(copy)
    with told() as messages:
        if asking == "refresh":
            reader.refresh()
        assert {run.uid for run in reader if run.stop is None} == {"f0002"}
    assert any("f0002 is damaged: 1 of its" in str(message.message) for message in messages)
    cut.write_bytes(whole)
    Copier(source.root, copy).finish()
    for catalog in (reader, Catalog(copy)):
        check_complete(catalog, source.inserted)
    with nothing_kept():
        check_complete(Catalog(copy, read_only=True), source.inserted)


def test_the_times_of_directories_that_a_copier_sets_back_hide_no_run(tmp_path):
    source = Source(tmp_path / "source")
    source.finish()
    days = [source.root, *source.root.glob("2*"), *source.root.glob("2*/*"), *source.root.glob("2*/*/*")]

    def set_back():
        for day in days:
            os.utime(day, (0, 0))

    set_back()
    reader = Catalog(source.root, read_only=True)
    reader.refresh()
    for _ in source.record(7, 1):
        pass
    set_back()
    assert not reader.refresh().records
    check_complete(reader, source.inserted)


def test_what_a_killed_copier_left_behind_is_nobodys_file(tmp_path):
    source = Source(tmp_path / "source")
    source.finish()
    copy = Copier(source.root, tmp_path / "copy").finish()
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        for left in (LEFT_BY_RSYNC, LEFT_BY_AWS, "{}.partial"):
            path.with_name(left.format(path.name)).write_bytes(path.read_bytes()[:-9])
    check_complete(Catalog(copy, read_only=True), source.inserted)
    check_complete(Catalog(copy), source.inserted)


# --------------------------------------------------------------------------------------- real tools


@contextlib.contextmanager
def recording(root, runs):
    """Have another process record; it is dead at the end."""
    process = subprocess.Popen([sys.executable, str(WRITER), str(root), str(runs)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def stop_at_some_moment(command, seconds):
    """Kill a command after some time, with all that it started."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def inserted_by_writer(runs):
    return {uid_of(number): list(documents(number, 25)) for number in range(1, runs + 1)}


def check_while_recorded(place, command, longest, *, runs, before=lambda: None, at_last=lambda: None):
    """Copy again and again while a process records, each time killed; look each time; then copy to the end."""
    chance, source, target = random.Random(1), place / "source", place / "copy"
    target.mkdir()
    inserted, killed = inserted_by_writer(runs), 0
    with recording(source, runs) as writer:
        while writer.poll() is None:
            before()
            killed += stop_at_some_moment(command, chance.uniform(0, longest))
            check_partial(open_copy(target, read_only=True), inserted)
            with nothing_kept():
                check_partial(open_copy(target, read_only=True), inserted)
        assert writer.wait() == 0
    at_last()
    reader = open_copy(target, read_only=True)
    subprocess.run(command, check=True, capture_output=True)
    for catalog in (reader, Catalog(target, read_only=True)):
        check_complete(catalog or Catalog(target, read_only=True), inserted, LedgerWarning)
    with nothing_kept():
        check_complete(Catalog(target, read_only=True), inserted, LedgerWarning)
    assert killed


TOOLS = {
    "cp": ["cp", "-r", "{source}/.", "{target}"],
    "rsync": ["rsync", "-a", "--exclude=*.tmp", "{source}/", "{target}"],
    "rclone": ["rclone", "copy", "--config=", "{source}", "{target}"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_is_killed_again_and_again_while_a_process_records(tmp_path, tool):
    if shutil.which(TOOLS[tool][0]) is None:
        pytest.skip(f"{TOOLS[tool][0]} is not installed")
    places = {"source": tmp_path / "source", "target": tmp_path / "copy"}
    command = [part.format(**places) for part in TOOLS[tool]]
    check_while_recorded(tmp_path, command, 0.1 if tool == "rclone" else 0.02, runs=2)


@pytest.fixture
def bucket(monkeypatch, s3_endpoint):
    """Give a place in a bucket, and tell the command line of AWS where that is."""
    if shutil.which("aws") is None:
        pytest.skip("the command line of AWS is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    return f"s3://{new_bucket(s3_endpoint)}/beamtime"


def test_aws_s3_sync_to_a_bucket_and_back_while_a_process_records(tmp_path, bucket):
    up = ["aws", "s3", "sync", str(tmp_path / "source"), bucket]
    down = ["aws", "s3", "sync", bucket, str(tmp_path / "copy")]
    chance = random.Random(2)

    def upload():
        stop_at_some_moment(up, chance.uniform(0.5, 2.0))

    def upload_all():
        subprocess.run(up, check=True, capture_output=True)

    check_while_recorded(tmp_path, down, 2.0, runs=4, before=upload, at_last=upload_all)


# ------------------------------------------------------------------------------------------ both ways


@pytest.mark.parametrize("merging", [False, True])
def test_two_copies_that_were_both_recorded_into_become_one_catalog(tmp_path, merging):
    source = Source(tmp_path / "one")
    source.finish()
    one, two = source.root, Copier(source.root, tmp_path / "two").finish()
    other = Source(two)
    readers = [Catalog(root, read_only=True) for root in (one, two)]
    for reader in readers:
        check_complete(reader, source.inserted)
    for number in (11, 13):
        list(source.record(number, 12))
        list(other.record(number + 1, 12))
        if merging:
            source.merge_logs()
    inserted = source.inserted | other.inserted
    Copier(one, two).finish()
    check_complete(readers[1], inserted)
    Copier(two, one).finish()
    for root, reader in zip((one, two), readers, strict=True):
        check_complete(reader, inserted)
        check_complete(Catalog(root), inserted)
        with nothing_kept():
            check_complete(Catalog(root, read_only=True), inserted)
    list(other.record(20, 3))
    Copier(two, one).finish()
    check_complete(readers[0], inserted | other.inserted)
