"""Every damage to a catalog is found and named, and nothing that is good is called damaged."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import threading
import warnings
from pathlib import Path

import pytest

import factories as f
import mutations
import provable
from filebroker import Broker, Catalog, verify
from filebroker.commands.main import main
from filebroker.ground.errors import FilebrokerError, InvalidOption, StorageError
from filebroker.ground.filesystem import Folder
from filebroker.ground.stores import Store
from filebroker.storing import layout, sealing
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, decode_line, encode_line
from filebroker.storing.recorder import Recorder
from filebroker.transfer.care import surroundings, verifying
from provable import NOTE, UIDS, directory, documents, record

MUTATIONS = int(os.environ.get("FILEBROKER_TEST_MUTATIONS", "300"))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setattr(verifying, "_SETTLING_SECONDS", 0.001)
    monkeypatch.setattr(surroundings, "_WRITING_SECONDS", 0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return provable.make(tmp_path_factory.mktemp("made") / "catalog")


@pytest.fixture
def root(made, tmp_path):
    return provable.fresh_copy(made, tmp_path / "catalog")


def prove(root, **options):
    return verify(Catalog(root, read_only=True), **options)


def named(found):
    """Give the runs and files that are damaged."""
    return sorted({(item.uid, item.file) for item in found.damaged})


# ---------------------------------------------------------------------------------------- what is good


@pytest.mark.parametrize("options", [{}, {"read_data": True}, {"decode": True}, {"workers": 3, "read_data": True}])
def test_a_good_catalog_is_all_good(root, options):
    found = prove(root, **options)
    assert found.ok
    assert found.runs == len(UIDS)
    assert found.live == [directory(root, "live").relative_to(root).as_posix()]
    assert found.files == len(provable.files_of(root))
    assert found.bytes == sum(path.stat().st_size for path in provable.files_of(root))


def test_the_example_is_all_good():
    assert verify(Broker.named("example"), decode=True).ok


def test_nothing_is_changed_by_proving(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    prove(root, decode=True)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_catalog_without_ledger_and_marker_is_good(root):
    shutil.rmtree(root / layout.LEDGER)
    (root / layout.MARKER).unlink()
    found = prove(root)
    assert found.ok
    assert [item.file for item in found.remarks] == [layout.MARKER]


def test_an_empty_catalog_is_good(tmp_path):
    assert main(["init", str(tmp_path / "new")]) == 0
    assert prove(tmp_path / "new").ok


def test_leftovers_are_remarks(root):
    small = directory(root, "small")
    for name in ("documents.jsonl.0123abcd.tmp", "journal.00003.jsonl.damaged", "journal.00000.jsonl", "readme.txt"):
        (small / name).touch()
    (root / layout.LEDGER / "snap" / "x.tmp").touch()
    found = prove(root, read_data=True)
    assert found.ok
    assert len(found.remarks) == 5
    assert {item.uid for item in found.remarks} == {UIDS["small"], ""}


def test_a_run_that_is_being_recorded_is_never_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 10)
    root, done = tmp_path / "catalog", threading.Event()
    catalog = Catalog(root)
    catalog.insert(*f.run(1)[0])

    def write():
        for _ in range(6):
            for pair in f.run(60):
                catalog.insert(*pair)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set():
        found = prove(root, read_data=True)
        assert found.damaged == []
        seen += len(found.live)
    writer.join()
    catalog.close()
    assert seen
    assert prove(root, read_data=True).runs == 7


# ------------------------------------------------------------------------------------- what is damaged


def is_harmless(done, root):
    """Tell whether something was damaged of which nobody can tell that it was there: the end of what still grows."""
    return done.path.name == "journal.00002.jsonl" and done.path.parent == directory(root, "live")


def records_of(root):
    return {
        path: known.rank for path, known in surroundings.prove_ledger(Catalog(root, read_only=True).folder).runs.items()
    }


def test_all_mutations_are_found(root):
    """A ledger may have a record twice, in any order: what changes none of its records is no damage."""
    original, missed, tried = records_of(root), [], 0
    for done in mutations.mutations(provable.files_of(root), MUTATIONS, seed=MUTATIONS):
        tried += 1
        try:
            found = prove(root, read_data=True)
        except FilebrokerError:  # it cannot even be opened, and the error says why
            assert done.path.name == layout.MARKER
            continue
        is_told = not found.ok or any(item.file for item in found.remarks)
        if not (is_told or is_harmless(done, root)) and (
            layout.LEDGER not in done.path.parts or records_of(root) != original
        ):
            missed.append((done.kind, done.path.relative_to(root)))
    assert tried > MUTATIONS * 0.8
    # A file of notes that is gone leaves no trace.
    missed = [(kind, path) for kind, path in missed if kind != "delete" or path.parts[0] != "_notes"]
    assert len(missed) <= tried // 300, missed
    assert not any(kind == "flip_bit" for kind, _ in missed), missed


@pytest.mark.parametrize("name", ["documents.jsonl", "primary/00000.parquet", "_files/0/a.h5", "_files/files.jsonl"])
def test_every_flipped_bit_is_found_and_named(root, name):
    small = directory(root, "small")
    data, rng = (small / name).read_bytes(), random.Random(1)
    catalog = Catalog(root, read_only=True)
    run = catalog.by_uid(UIDS["small"])
    for position in range(0, len(data), 3):
        (small / name).write_bytes(
            data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]
        )
        found = verify(run, read_data=True)
        assert {item.file for item in found.damaged} == {name}, position


def test_the_fast_proof_finds_sizes_and_footers_and_lines(root):
    big, small = directory(root, "big"), directory(root, "small")
    page = big / "primary" / "00000.parquet"
    data = page.read_bytes()
    page.write_bytes(data[:-1] + b"2")
    assert named(prove(root)) == [(UIDS["big"], "primary/00000.parquet")]
    page.write_bytes(data[:-1])
    assert "has 1" in prove(root).damaged[0].what
    page.write_bytes(data[:5000] + b"x" + data[5001:])
    assert prove(root).ok
    assert named(prove(root, read_data=True)) == [(UIDS["big"], "primary/00000.parquet")]
    text = (small / layout.DOCUMENTS).read_bytes()
    (small / layout.DOCUMENTS).write_bytes(text.replace(b"count", b"mount"))
    assert (UIDS["small"], layout.DOCUMENTS) in named(prove(root))
    assert any("line 2" in str(item) for item in prove(root).damaged)


@pytest.mark.parametrize("read_data", [False, True])
def test_a_line_that_was_written_anew_with_a_good_checksum_is_found(root, read_data):
    path = directory(root, "small") / layout.DOCUMENTS
    lines = path.read_bytes().splitlines(keepends=True)
    line = decode_line(lines[1][:-1])
    lines[1] = encode_line(line.ordinal, line.name, {**line.doc, "plan_name": "mount"})
    path.write_bytes(b"".join(lines))
    (item,) = prove(root, read_data=read_data).damaged
    assert (item.uid, item.what) == (UIDS["small"], "its lines are not those that were sealed")


@pytest.mark.parametrize("kind", ["missing", "directory", "link", "loop", "pipe", "elsewhere"])
@pytest.mark.parametrize("name", ["documents.jsonl", "primary/00000.parquet"])
def test_what_is_no_file_is_damage_and_nobody_waits_for_it(root, tmp_path, name, kind):
    path = directory(root, "parted") / name
    path.rename(tmp_path / "there")
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to({"link": "nowhere", "loop": path.name, "elsewhere": "/etc/passwd"}[kind])
    found = prove(root, read_data=True)
    assert {item.path for item in found.damaged} == {directory(root, "parted").relative_to(root).as_posix()}
    assert "root:" not in str(found.damaged)


def test_runs_that_were_swapped_are_named_with_their_places(root):
    one, other = directory(root, "parted"), directory(root, "cut")
    shutil.move(one, root / "x")
    shutil.move(other, one)
    shutil.move(root / "x", other)
    whats = [item.what for item in prove(root).damaged if item.file == layout.DOCUMENTS]
    assert any(
        f"is the run {UIDS['cut']!r}, whose place is {other.relative_to(root).as_posix()}" in what for what in whats
    )


def test_a_run_that_is_there_twice_is_named(root):
    pairs = documents("small")
    pairs[0][1]["time"] += 5e6
    copy = root.parent / "copy"
    catalog = Catalog(copy)
    for pair in pairs:
        catalog.insert(*pair)
    catalog.close()
    place = layout.run_directory(pairs[0][1])
    shutil.copytree(copy / place, root / place)
    assert any("is of the same uid" in item.what for item in prove(root).damaged)


def test_a_bad_line_of_a_live_run_is_named(root):
    path = next(directory(root, "live").glob("journal.*"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b"seq_num", b"seq_nun"), *lines[3:]]))
    (item,) = prove(root).damaged
    assert (item.uid, item.file) == (UIDS["live"], path.name)
    assert "line 3" in item.what
    path.write_bytes(b"".join(lines) + b'{"i":99,"na')
    assert prove(root).ok


def test_damaged_notes_and_packed_files_are_named(root):
    (root / NOTE).write_bytes((root / NOTE).read_bytes().replace(b"good", b"evil", 1))
    (directory(root, "small") / "_files" / "0" / "a.h5").write_bytes(b"x" * 1024)
    found = prove(root, read_data=True)
    assert [item.file for item in found.damaged] == ["_files/0/a.h5", NOTE]
    assert "SHA-256" in found.damaged[0].what


def test_what_was_lost_before_sealing_is_a_remark(tmp_path):
    root = tmp_path / "catalog"
    record(root, "live")
    path = next(directory(root, "live").glob("journal.*"))
    path.write_bytes(path.read_bytes().replace(b"seq_num", b"seq_nun", 1))
    with pytest.warns(UserWarning, match="Lost"):
        Catalog(root).close()
    found = prove(root, read_data=True)
    assert found.ok
    assert any("was sealed with a loss" in item.what for item in found.remarks)


# ------------------------------------------------------------------------------------------ the ledger


def test_a_run_that_was_removed_by_hand_is_missed(root):
    shutil.rmtree(directory(root, "small"))
    (item,) = prove(root).damaged
    assert "there is nothing in its directory" in item.what


def test_a_run_that_was_copied_by_hand_is_not_found_by_others(root, made):
    shutil.rmtree(directory(root, "small"))
    Catalog(root).reindex()
    shutil.copytree(directory(made, "small"), directory(root, "small"))
    (item,) = prove(root).damaged
    assert item.what == "is not in the ledger, and so is not found"
    Catalog(root).refresh()
    assert prove(root).ok


def test_an_older_ledger_is_told(root, made):
    logs = root / layout.LEDGER / "log"
    shutil.rmtree(logs)
    shutil.rmtree(root / layout.LIVE)  # else it might be about to be told
    assert any("is not in the ledger" in item.what for item in prove(root).damaged)
    shutil.rmtree(root / layout.LEDGER / "snap")
    shutil.copytree(made / layout.LEDGER / "log", logs)
    assert [item.file for item in prove(root).damaged] == [layout.LEDGER]


# --------------------------------------------------------------------------------- what can be proved


def test_searches_runs_and_headers_can_be_proved(root):
    db = Broker(root, read_only=True)
    page = directory(root, "parted") / "primary" / "00001.parquet"
    page.write_bytes(page.read_bytes()[:-1])
    assert verify(db(uid=UIDS["small"])).ok
    assert verify(db[UIDS["small"]]).runs == 1
    assert verify([db[UIDS["small"]], db[UIDS["cut"]]]).runs == 2
    assert named(verify(db(uid={"$in": [UIDS["parted"], UIDS["cut"]]}))) == [(UIDS["parted"], "primary/00001.parquet")]
    assert named(verify(db.catalog.by_uid(UIDS["parted"]))) == [(UIDS["parted"], "primary/00001.parquet")]
    assert len(verify(db()).damaged) == 1


@pytest.mark.parametrize(("what", "options"), [(["x"], {}), (7, {}), ([], {}), ("example", {})])
def test_what_is_no_run_is_refused(what, options):
    with pytest.raises((InvalidOption, TypeError)):
        verify(what, **options)


def test_no_worker_is_refused(root):
    with pytest.raises(InvalidOption, match="give 1 or more"):
        prove(root, workers=0)


def test_documents_that_cannot_be_made_are_found_by_decoding(root):
    """The hashes are right, but what was sealed was wrong already."""
    small = directory(root, "small")
    other = (directory(root, "cut") / "primary" / "00000.parquet").read_bytes()
    head, _, body = (small / layout.DOCUMENTS).read_bytes().partition(b"\n")
    manifest = decode_line(head).doc
    entry = manifest["files"][0]
    entry |= {"bytes": len(other), "sha256": hashlib.sha256(other).hexdigest(), "footer": sealing.footer_seal(other)}
    (small / entry["path"]).write_bytes(other)
    (small / layout.DOCUMENTS).write_bytes(encode_line(HEAD_ORDINAL, HEAD, manifest) + body)
    assert prove(root, read_data=True).ok
    assert {item.uid for item in prove(root, decode=True).damaged} == {UIDS["small"]}


def test_progress_is_told(root):
    told = []
    prove(root, progress=lambda *what: told.append(what))
    assert told[-1] == ("runs", len(UIDS), len(UIDS))


def test_an_interrupt_ends_it(root):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove(root, progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("filebroker-verify")]


# -------------------------------------------------------------------------------------------- stores


def test_a_catalog_in_a_bucket_is_proved_as_one_on_a_disk(tmp_path, s3_url):
    url, options = s3_url
    catalog = Catalog(url, storage_options=options)
    for name in ("small", "parted"):
        for pair in documents(name):
            catalog.insert(*pair)
    catalog.flush()
    catalog.close()
    record(tmp_path / "local", "small")
    there = Catalog(url, storage_options=options, read_only=True)
    found = verify(there, read_data=True)
    assert (found.damaged, found.runs) == ([], 2)
    assert verify(there, decode=True).ok
    store, place = Store(url, options), layout.run_directory(documents("parted")[0][1])
    name = f"{place}/primary/00000.parquet"
    data = store.read(name)
    store.write(name, data[:100] + b"x" + data[101:])
    assert verify(there).ok
    assert named(verify(there, read_data=True)) == [(UIDS["parted"], "primary/00000.parquet")]
    store.write(name, data[:-1] + b"x")
    assert named(verify(there)) == [(UIDS["parted"], "primary/00000.parquet")]
    store.remove([name, f"{place}/documents.jsonl"])
    assert UIDS["parted"] in {item.uid for item in verify(there).damaged} | {UIDS["parted"]}
    assert {item.path for item in verify(there).damaged} == {place}


def test_a_store_that_fails_is_no_damage(s3_url):
    url, options = s3_url
    there = Catalog(f"{url}/catalog", storage_options=options)
    for pair in documents("small"):
        there.insert(*pair)
    there.flush()
    there.close()
    catalog = Catalog(f"{url}/catalog", storage_options=options, read_only=True)
    catalog.folder = Folder(f"{url}/catalog", {**options, "endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(StorageError):
        verify(catalog)


# -------------------------------------------------------------------------------------- fingerprints


def test_the_fingerprint_is_that_of_every_copy_and_of_no_other_catalog(root, tmp_path):
    first = prove(root)
    for path in (root / layout.LEDGER, root / layout.LIVE, root / "_notes"):
        shutil.rmtree(path)
    shutil.rmtree(directory(root, "small") / "_files")
    copy = prove(shutil.copytree(root, tmp_path / "copy"))
    assert copy.fingerprint == first.fingerprint
    assert list(first.hashes) == sorted(first.hashes, reverse=True)
    shutil.rmtree(directory(root, "small"))
    assert prove(root).fingerprint != first.fingerprint


def test_the_fingerprint_does_not_cover_live_runs(root):
    before = prove(root).fingerprint
    shutil.rmtree(directory(root, "live"))
    assert prove(root).fingerprint == before
    page = directory(root, "small") / layout.DOCUMENTS
    page.write_bytes(page.read_bytes() + b" ")
    assert prove(root).fingerprint != before


COMMAND = (Path(__file__).parent.parent / "docs" / "how-to" / "prove-and-repair.md").read_text().partition("find [0-9]")
COMMAND = "find [0-9]" + COMMAND[2].partition("\n")[0]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_fingerprint_is_computed_by_the_command_of_the_page(root):
    told = subprocess.run(COMMAND, shell=True, cwd=root, capture_output=True, text=True, check=True).stdout
    assert told.split()[0] == prove(root).fingerprint


# -------------------------------------------------------------------------------------- the command


def test_the_command_lists_what_is_damaged_and_says_so_by_its_status(root, capsys):
    assert main(["verify", str(root)]) == 0
    assert "5 runs, of which 1 run still live" in capsys.readouterr().err
    page = directory(root, "small") / "primary" / "00000.parquet"
    page.write_bytes(page.read_bytes()[:-1])
    assert main(["verify", str(root), "--json", "--read-data"]) == 1
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["kind"], row["uid"], row["file"]) == ("damaged", UIDS["small"], "primary/00000.parquet")
    assert main(["verify", str(root), f"uid={UIDS['cut']}"]) == 0
    assert main(["verify", str(root), "--run", UIDS["small"]]) == 1
    assert main(["verify", str(root / "nowhere")]) == 1


def test_the_command_prints_hashes(root, capsys):
    assert main(["verify", str(root), "--hash"]) == 0
    assert capsys.readouterr().out == f"{prove(root).fingerprint}\n"
    assert main(["verify", str(root), "--hashes"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("\n") == 4
    if shutil.which("sha256sum"):
        checked = subprocess.run(["sha256sum", "--check", "-"], input=listed, text=True, cwd=root, capture_output=True)
        assert checked.returncode == 0


def test_annotating_and_the_trash_damage_nothing(root):
    before = prove(root).fingerprint
    db = Broker(provable.fresh_copy(root, root.parent / "copy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        db.annotate(UIDS["small"], "good", author="ana")
        db.trash(UIDS["parted"], "bad")
    assert verify(db, read_data=True).ok
    assert verify(db).fingerprint == before
    db.purge(UIDS["parted"])
    found = verify(db, read_data=True)
    assert found.damaged == []
    assert found.fingerprint != before
