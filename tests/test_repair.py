"""Repair loses nothing that can be read, deletes nothing, and can be cut short at any moment."""

import json
import os
import random
import shutil
import warnings

import pytest

import mutations
import provable
from filebroker import Broker, Catalog, repair, verify
from filebroker.commands.main import main
from filebroker.ground import codec
from filebroker.ground.errors import (
    DamagedRunWarning,
    FilebrokerError,
    InvalidOption,
    LedgerWarning,
    NotSupported,
    ReadOnlyCatalog,
    StorageError,
)
from filebroker.ground.locks import FileLock
from filebroker.storing import layout, parquet
from filebroker.storing.journal import decode_line
from filebroker.transfer.care import surroundings, verifying
from filebroker.transfer.care.salvage import Original, salvage
from filebroker.transfer.care.trees import Tree
from provable import NOTE, UIDS, directory, documents, record

MUTATIONS = int(os.environ.get("FILEBROKER_TEST_MUTATIONS", "80"))
ASIDE = "_damaged"


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(verifying, "_SETTLING_SECONDS", 0.001)
    monkeypatch.setattr(surroundings, "_WRITING_SECONDS", 0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return provable.make(tmp_path_factory.mktemp("made") / "catalog", pixels=500)


@pytest.fixture
def root(made, tmp_path):
    return provable.fresh_copy(made, tmp_path / "catalog")


def texts(root):
    """Give the documents of every run, what is said to be lost of it, and its state."""
    found = {}
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        for run in Catalog(root, read_only=True):
            docs = [codec.dumps(pair) for pair in run.documents()]
            found[run.uid] = docs, list(run.files.damage), run.state
    return found


@pytest.fixture(scope="module")
def original(made):
    return texts(made)


def mend(root, **options):
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always", LedgerWarning)
        catalog = Catalog(root)
        report = repair(catalog, **options)
        catalog.close()
    return report


def is_proved(root):
    return verify(Catalog(root, read_only=True), read_data=True).ok


def outcomes(report):
    return [(item.outcome, item.path.rpartition("-")[0][-len(UIDS["small"]) + 5 :]) for item in report.repaired]


def kept(root):
    """Give the content of what was put aside."""
    return [path.read_bytes() for path in (root / ASIDE).rglob("*") if path.is_file()]


def edit(path, change):
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    return path.read_bytes()


# ------------------------------------------------------------------------------------------ anything


@pytest.mark.parametrize("with_source", [False, True])
def test_after_any_damage_all_that_is_left_is_proved_and_told(made, original, tmp_path, with_source):
    rng = random.Random(MUTATIONS + with_source)
    names = [path.relative_to(made) for path in provable.files_of(made)]
    work = provable.fresh_copy(made, tmp_path / "work")
    restored = 0
    for number in range(MUTATIONS // 2):
        path = work / names[rng.randrange(len(names))]
        kinds = mutations.OF_BYTES + mutations.OF_FILES
        done = mutations.mutate(path, kinds[number % len(kinds)], rng, [work / name for name in names])
        if done is None:
            continue
        damaged = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        what = (done.kind, path.relative_to(work))
        try:
            was_found = not verify(Catalog(work, read_only=True), read_data=True).ok
        except FilebrokerError:  # the marker: no catalog can be opened
            done.undo()
            continue
        report = mend(work, source=Catalog(made, read_only=True) if with_source else None)
        assert report.ok == is_proved(work), what
        # Nothing else has these; and what was swapped may have damaged a run and the list that has its start document.
        is_lost = done.kind == "swap" or path.name in (layout.MARKER, "a.h5", "files.jsonl")
        assert report.ok or is_lost, (what, report.repaired)
        restored += [item.outcome for item in report.repaired].count("restored")
        if was_found and damaged is not None and report.ok:
            assert damaged in [*kept(work), path.read_bytes() if path.is_file() else b""], what
        check_answers(work, original, what)
        provable.fresh_copy(made, work)
    assert restored > MUTATIONS // 4 if with_source else restored


def check_answers(root, original, what):
    """No document is altered, and none is lost without being told."""
    after = texts(root)
    assert set(after) == set(original), what
    for uid, (docs, _, _) in original.items():
        assert set(after[uid][0]) <= set(docs), what
        is_end_of_live = uid == UIDS["live"] and what[1].name == "journal.00002.jsonl"
        assert after[uid][0] == docs or after[uid][1] or is_end_of_live, what


# --------------------------------------------------------------------------------- as it was sealed


def double_a_line(data):
    lines = data.splitlines(keepends=True)
    return b"".join([*lines, lines[2]])


def reverse_lines(data):
    lines = data.splitlines(keepends=True)
    return lines[0] + b"".join(lines[:0:-1])


def lose_start_and_stop(data):
    lines = data.splitlines(keepends=True)
    return b"".join([lines[0], b"x" + lines[1], *lines[2:-1]])


def add_junk(data):
    return data + b"junk"


@pytest.mark.parametrize("change", [double_a_line, reverse_lines, lose_start_and_stop, add_junk])
def test_what_can_be_proved_to_be_what_was_sealed_is_restored(made, root, change):
    path = directory(root, "small") / layout.DOCUMENTS
    damaged = edit(path, change)
    report = mend(root)
    assert [item.outcome for item in report.repaired] == ["restored"]
    assert path.read_bytes() == (directory(made, "small") / layout.DOCUMENTS).read_bytes()
    assert damaged in kept(root)
    assert is_proved(root)


def test_one_flipped_bit_of_the_documents_is_flipped_back(tmp_path):
    """Which bit it was, the line's checksum says; that it was that bit, the SHA-256 in the manifest."""
    root, rng = tmp_path / "catalog", random.Random(0)
    record(root, "small")
    path = directory(root, "small") / layout.DOCUMENTS
    sealed = path.read_bytes()
    for position in [*range(0, len(sealed), 37), sealed.index(b"\n"), len(sealed) - 1]:
        bit = 1 << rng.randrange(8)
        path.write_bytes(sealed[:position] + bytes([sealed[position] ^ bit]) + sealed[position + 1 :])
        text = salvage(
            Tree(Catalog(root, read_only=True).folder), path.parent.relative_to(root).as_posix(), Original()
        ).text
        assert text == sealed, (position, bit)


def test_runs_that_were_swapped_are_put_back(made, root):
    one, other = (directory(root, name) / layout.DOCUMENTS for name in ("small", "parted"))
    texts = one.read_bytes(), other.read_bytes()
    one.write_bytes(texts[1])
    other.write_bytes(texts[0])
    assert {item.outcome for item in mend(root).repaired} == {"restored"}
    assert (one.read_bytes(), other.read_bytes()) == texts
    assert is_proved(root)


def test_a_good_copy_gives_what_is_damaged_here_and_fits(made, root):
    parted = directory(root, "parted")
    edit(parted / "primary" / "00001.parquet", lambda data: data[:-1])
    (parted / "primary" / "00000.parquet").unlink()
    edit(directory(root, "small") / layout.DOCUMENTS, lambda data: b"")
    edit(root / NOTE, lambda data: data[:-9])
    report = mend(root, source=Broker(made, read_only=True))
    assert {item.outcome for item in report.repaired} == {"restored"}
    for path in provable.files_of(made):
        if layout.LEDGER not in path.parts:
            assert (root / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_a_copy_that_is_damaged_itself_gives_nothing(made, root, tmp_path):
    bad = provable.fresh_copy(made, tmp_path / "bad")
    for top in (bad, root):
        edit(directory(top, "parted") / "primary" / "00001.parquet", lambda data: data[:-1])
    report = mend(root, source=Catalog(bad, read_only=True))
    assert [item.outcome for item in report.repaired] == ["salvaged"]


# ------------------------------------------------------------------------------------ what is left


def test_a_lost_page_is_told_in_the_manifest_and_the_rest_is_good(root, original):
    page = directory(root, "parted") / "primary" / "00001.parquet"
    damaged = edit(page, lambda data: data[:-1])
    (item,) = mend(root).repaired
    assert (item.outcome, item.lost) == ("salvaged", 12)
    assert "12 of its 12 events of stream 'primary' are lost" in item.detail
    assert not page.exists()
    assert (root / item.kept / "primary" / "00001.parquet").read_bytes() == damaged
    with warnings.catch_warnings(record=True, action="always") as told:
        run = Catalog(root).by_uid(UIDS["parted"])
        assert len(run["primary"]) == 28
    assert {warning.category for warning in told} == {DamagedRunWarning}
    assert "12 of its documents are lost" in str(told[0].message)
    assert run.state == "sealed"
    manifest = decode_line((directory(root, "parted") / layout.DOCUMENTS).read_bytes().partition(b"\n")[0]).doc
    assert manifest["damage"][0] == "12 of its documents are lost"
    receipt = decode_line((root / item.kept / "receipt.jsonl").read_bytes().rstrip(b"\n")).doc
    assert receipt["removed"] == ["primary/00001.parquet"]


def test_the_rows_that_can_be_read_of_a_damaged_page_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROW_GROUP_ROWS", 3)
    root = tmp_path / "catalog"
    record(root, "small")
    before = texts(root)[UIDS["small"]][0]
    edit(directory(root, "small") / "primary" / "00000.parquet", lambda data: data[:60] + b"\xff" * 9 + data[69:])
    (item,) = mend(root).repaired
    assert item.lost == 3
    after = texts(root)[UIDS["small"]][0]
    assert after == [text for number, text in enumerate(before) if number not in (2, 3, 4)]
    assert is_proved(root)


def test_a_lost_manifest_is_made_anew_from_the_pages(root, original):
    for name in ("parted", "small"):
        edit(directory(root, name) / layout.DOCUMENTS, lambda data: b"x" + data)
    assert {item.outcome for item in mend(root).repaired} == {"salvaged"}
    after = texts(root)
    for name in ("parted", "small"):
        assert after[UIDS[name]][0] == original[UIDS[name]][0]
        assert "the manifest was lost" in after[UIDS[name]][1][0]


def test_a_run_without_start_document_anywhere_is_left(root):
    shutil.rmtree(root / layout.LEDGER)
    damaged = edit(directory(root, "small") / layout.DOCUMENTS, lambda data: data.partition(b"\n")[0] + b"\n")
    report = mend(root)
    (item,) = [item for item in report.repaired if item.uid == UIDS["small"]]
    assert item.outcome == "left"
    assert "start document" in item.detail
    assert not report.ok
    assert (directory(root, "small") / layout.DOCUMENTS).read_bytes() == damaged


@pytest.mark.parametrize("name", ["docs.00000.jsonl", "docs.00001.jsonl", "journal.00002.jsonl"])
def test_a_run_whose_writer_died_and_whose_heads_are_lost_is_sealed(root, original, name):
    shutil.rmtree(root / layout.LIVE)
    edit(directory(root, "live") / name, lambda data: b"x" + data)
    report = mend(root)
    assert [item.outcome for item in report.repaired if item.uid == UIDS["live"]] == ["salvaged"]
    assert report.ok
    assert is_proved(root)
    docs, _, state = texts(root)[UIDS["live"]]
    assert state == "interrupted"
    assert docs == original[UIDS["live"]][0]


def test_a_run_that_is_being_recorded_is_left_alone(tmp_path):
    root = tmp_path / "catalog"
    catalog = Catalog(root)
    pairs = documents("small")
    for pair in pairs[:-2]:
        catalog.insert(*pair)
    path = directory(root, "small") / "journal.00000.jsonl"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"seq_num", b"seq_nun", 1))
    (item,) = repair(Catalog(root)).repaired
    assert (item.outcome, item.detail) == ("left", "is being recorded; when it has ended, repair again")
    path.write_bytes(text)
    for pair in pairs[-2:]:
        catalog.insert(*pair)
    catalog.close()
    assert is_proved(root)


# ------------------------------------------------------------------------- the ledger and the index


def test_the_ledger_and_the_index_answer_as_before(root, made):
    def answers(top):
        db = Broker(top, read_only=True)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            found = [[header.uid for header in db(*words, **keys)] for words, keys in asked]
        db.close()
        return found

    asked = [((), {}), (("Ångström",), {}), ((), {"plan_name": "count"}), (("count",), {"scan_id": 1})]
    before = answers(made)
    for path in (root / layout.LEDGER).rglob("*.*"):
        edit(path, lambda data: data[: len(data) // 2])
    report = mend(root)
    assert [(item.path, item.outcome) for item in report.repaired] == [(layout.LEDGER, "restored")]
    assert is_proved(root)
    assert answers(root) == before


def test_a_run_that_was_repaired_is_announced_to_others(root):
    other = Catalog(root)
    assert other.by_uid(UIDS["small"]).stop is not None
    shutil.rmtree(root / ASIDE, ignore_errors=True)
    edit(directory(root, "parted") / "primary" / "00000.parquet", lambda data: data[:-1])
    mend(root)
    (item,) = [item for item in other.documents() if item.entry.uid == UIDS["parted"]]
    assert item.entry.revision == 2


# ---------------------------------------------------------------------------------- dry, refused, cut


def test_a_dry_run_tells_and_changes_nothing(root):
    edit(directory(root, "parted") / "primary" / "00001.parquet", lambda data: data[:-1])
    edit(root / NOTE, lambda data: data[:-9])
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    report = repair(Catalog(root, read_only=True), dry_run=True)
    assert report.is_dry
    assert sorted(item.outcome for item in report.repaired) == ["salvaged", "salvaged"]
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert not (root / ASIDE).exists()


def test_what_cannot_be_repaired_is_refused(root, tmp_path):
    with pytest.raises(ReadOnlyCatalog):
        repair(Catalog(root, read_only=True))
    with pytest.raises(NotSupported, match="copy it to a disk"):
        repair(Catalog("memory://nothing"))
    with pytest.raises(InvalidOption):
        repair(Catalog(root).by_uid(UIDS["small"]))


def test_one_repair_at_a_time(root):
    (root / ASIDE).mkdir()
    lock = FileLock(str(root / ASIDE / ".lock"))
    assert lock.acquire()
    with pytest.raises(StorageError, match="being repaired by another process"):
        mend(root)
    lock.remove()
    assert mend(root).ok
    assert not (root / ASIDE).exists()


class Dead(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("what", ["sealed", "live", "ledger"])
def test_a_repair_that_dies_at_any_step_is_finished_by_the_next(made, original, tmp_path, monkeypatch, what):
    def damage(top):
        if what == "sealed":
            for name in ("00000", "00001"):
                edit(directory(top, "parted") / "primary" / f"{name}.parquet", lambda data: data[:-1])
        elif what == "live":
            shutil.rmtree(top / layout.LIVE)
            edit(directory(top, "live") / "docs.00000.jsonl", lambda data: b"x" + data)
        else:
            for path in (top / layout.LEDGER).rglob("*.*"):
                edit(path, lambda data: data[: len(data) // 2])

    expected = provable.fresh_copy(made, tmp_path / "expected")
    damage(expected)
    assert mend(expected).ok
    after, step, finished = texts(expected), 0, False
    while not finished:
        step += 1
        work = provable.fresh_copy(made, tmp_path / "work")
        damage(work)
        finished = not dies_at(step, monkeypatch, work)
        assert mend(work).ok, step
        assert is_proved(work), step
        assert {uid: found[0] for uid, found in texts(work).items()} == {uid: found[0] for uid, found in after.items()}
        assert not list((work / ASIDE).rglob("plan.jsonl"))
        pages = list(directory(work, "parted").rglob("*.parquet"))
        assert len(pages) == (2 if what == "sealed" else 4), step
    assert step > 5


def dies_at(step, monkeypatch, work):
    """Repair, and die at some operation on files; tell whether it came to that."""
    count = 0

    def counted(function):
        def call(*args, **keywords):
            nonlocal count
            if str(work) in str(args):
                count += 1
                if count == step:
                    raise Dead
            return function(*args, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "link", "unlink"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            mend(work)
        except Dead:
            return True
    return False


def test_a_full_disk_is_an_error_and_leaves_the_run_as_it_was(root, monkeypatch):
    edit(directory(root, "parted") / "primary" / "00001.parquet", lambda data: data[:-1])
    before = texts(root)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        patch.setattr(shutil, "copy2", full)
        with pytest.raises(StorageError, match="No space left"):
            mend(root)
    assert texts(root) == before
    assert mend(root).ok


def test_the_command_repairs_and_says_so(root, capsys):
    assert main(["repair", str(root)]) == 0
    assert "nothing is damaged" in capsys.readouterr().err
    edit(directory(root, "parted") / "primary" / "00001.parquet", lambda data: data[:-1])
    assert main(["repair", str(root), "--dry-run"]) == 0
    assert main(["repair", str(root), "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (row["outcome"], row["uid"], row["lost"]) == ("salvaged", UIDS["parted"], 12)
    assert main(["verify", str(root), "--read-data"]) == 0


def test_of_a_damaged_file_of_notes_the_good_lines_stay(root, tmp_path, monkeypatch):
    catalog = Catalog(root)
    uids = [run.uid for run in catalog]
    catalog.trash(uids[:3], "blank", author="chen")
    (file,) = (name for name in os.listdir(root / "_notes") if "-chen-" in name)
    edit(root / "_notes" / file, lambda data: data.replace(b"blank", b"blink", 1))
    lines = (root / "_notes" / file).read_bytes().splitlines(keepends=True)
    report = repair(Catalog(root))
    (done,) = (item for item in report.repaired if item.path.endswith(file))
    assert done.outcome == "salvaged"
    assert "2 could be read" in done.detail
    assert (root / "_notes" / file).read_bytes() == b"".join(lines[1:])
    monkeypatch.setenv("FILEBROKER_CACHE", str(tmp_path / "elsewhere"))  # which had never read the first line
    assert {item.uid for item in Catalog(root).trashed()} == set(uids[1:3])
    assert verify(Catalog(root)).ok


def test_a_good_copy_that_is_found_after_the_repair_makes_the_run_whole(root, made):
    path = layout.run_directory({"uid": UIDS["parted"], "time": provable.TIMES["parted"]})
    before = texts(made)
    page = next((root / path).rglob("*.parquet"))
    page.write_bytes(page.read_bytes()[:-40])
    assert [item.outcome for item in repair(Catalog(root)).repaired] == ["salvaged"]
    assert texts(root)[UIDS["parted"]] != before[UIDS["parted"]]
    (tried,) = repair(Catalog(root), source=Catalog(made, read_only=True), dry_run=True).repaired
    (done,) = repair(Catalog(root), source=Catalog(made, read_only=True)).repaired
    assert (tried.uid, tried.outcome) == (done.uid, done.outcome) == (UIDS["parted"], "restored")
    assert texts(root)[UIDS["parted"]] == before[UIDS["parted"]]
    assert verify(Catalog(root)).ok
    assert repair(Catalog(root), source=Catalog(made, read_only=True)).repaired == []
