"""Damaged files never give another answer in silence: it is the original, or a warning names the run."""

import contextlib
import json
import os
import random
import shutil
import signal
import uuid
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from filebroker.cataloging.catalog import Catalog
from filebroker.ground.errors import DamagedRun, DamagedRunWarning, FilebrokerError, RecoveryWarning, UnsupportedFormat
from filebroker.storing import journal, layout
from filebroker.storing.recorder import Recorder

SMALL, BIG, PARTED = "small-0000", "big-0000", "parted-0000"
TIMES = {SMALL: 1.76e9, BIG: 1.77e9, PARTED: 1.78e9}
MUTATIONS = 340


# ------------------------------------------------------------------------------------------- helpers


def documents(uid, rows, values):
    """Give the documents of a run of two streams; ``values`` gives the data of an event."""
    yield "start", {"uid": uid, "time": TIMES[uid], "plan_name": "scan", "detectors": ["det"], "note": "Ångström"}
    for name in ("primary", "baseline"):
        keys = {key: {"dtype": "number", "shape": [], "source": key} for key in values(0)}
        yield (
            "descriptor",
            {"uid": f"{name} of {uid}", "run_start": uid, "time": TIMES[uid], "name": name, "data_keys": keys},
        )
    for name, row in [("baseline", 0), ("baseline", 1), *(("primary", row) for row in range(rows))]:
        data, moment = values(row), TIMES[uid] + row
        yield (
            "event",
            {
                **{"uid": str(uuid.UUID(int=row * 7)), "descriptor": f"{name} of {uid}", "seq_num": row + 1},
                **{"time": moment, "data": data, "timestamps": dict.fromkeys(data, moment), "filled": {}},
            },
        )
    yield "stop", {"uid": f"stop of {uid}", "run_start": uid, "time": TIMES[uid] + 99, "exit_status": "success"}


def scalars(row):
    return {"x": row / 7, "n": row * 1000, "label": f"point {row}"}


def images(row):
    rng = np.random.default_rng(row)
    return {"image": rng.random(16_000), "x": float(rng.random()), "n": row, "label": rng.bytes(400).hex()}


def record(root, uid, rows, values, *, stop=True):
    """Record a run; without its stop document it looks as if its writer had died."""
    catalog = Catalog(root)
    pairs = list(documents(uid, rows, values))
    for name, doc in pairs if stop else pairs[:-1]:
        catalog.insert(name, doc)
    catalog.close()
    return catalog


@contextmanager
def seconds(limit):
    """Fail instead of hanging."""
    if hasattr(signal, "SIGALRM"):
        before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"not done in {limit} s"))
        signal.alarm(limit)
    yield
    if hasattr(signal, "SIGALRM"):
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def no_hang():
    with seconds(60):
        yield


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    """A catalog of three runs: a small one, one with a page too big to be checked whole, one of several pages."""
    root = tmp_path_factory.mktemp("sealed")
    record(root, SMALL, 8, scalars)
    record(root, BIG, 9, images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 12)
        record(root, PARTED, 40, scalars)
    assert max(path.stat().st_size for path in root.rglob("*.parquet")) > 1 << 20
    assert len(list(root.rglob("*.parquet"))) > 6
    return root


@pytest.fixture
def catalog_copy(sealed, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(sealed, root)
    return root


def run_directory(root, uid):
    return Path(root) / layout.run_directory({"uid": uid, "time": TIMES[uid]})


def answers(run):
    """Give what can be asked of a run, in a form that `==` compares."""
    tables = {}
    for name in run.stream_names:
        frame = run[name].to_pandas()
        tables[name] = {
            key: np.asarray(column).tolist() if key != "image" else [array.tolist() for array in column]
            for key, column in frame.items()
        }
        tables[name]["index"] = frame.index.tolist()
    values = {name: list(run[name].values("n")) for name in run.stream_names}
    return list(run.documents()), tables, values, run.state


def read_all(root, **options):
    """Give the answers of every run that can be read, and all warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = {run.uid: answers(run) for run in Catalog(root, **options)}
    return found, caught


@pytest.fixture(scope="module")
def original(sealed):
    found, caught = read_all(sealed)
    assert caught == []
    assert set(found) == set(TIMES)
    return found


def check_nothing_is_silently_different(root, original, **options):
    """Give the uids of the runs that were reported as damaged."""
    found, caught = read_all(root, **options)
    assert {warning.category for warning in caught} <= {DamagedRunWarning, RecoveryWarning}
    messages = [str(warning.message) for warning in caught]
    reported = {uid for uid in TIMES if any(uid in message for message in messages)}
    for uid, expected in original.items():
        assert uid in reported or (uid in found and found[uid] == expected), f"{uid} differs in silence"
    assert set(found) <= set(original)
    return reported


# ----------------------------------------------------------------------------------------- mutations


def flip_bit(data, rng):
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def truncate(data, rng):
    return data[: rng.randrange(len(data))]


def lose_the_last_byte(data, _):
    return data[:-1]


def zero_the_tail(data, rng):
    position = rng.randrange(len(data))
    return data[:position] + bytes(len(data) - position)


def zero_a_stretch(data, rng):
    position = rng.randrange(len(data))
    stretch = data[position : position + 4096]
    return data[:position] + bytes(len(stretch)) + data[position + len(stretch) :]


def empty(_, __):
    return b""


def random_bytes(data, rng):
    return rng.randbytes(len(data))


def scramble_a_stretch(data, rng):
    position = rng.randrange(len(data))
    stretch = data[position : position + 64]
    return data[:position] + rng.randbytes(len(stretch)) + data[position + len(stretch) :]


def append_junk(data, rng):
    return data + rng.randbytes(rng.randint(1, 64))


def edit_lines(edit):
    def mutate(data, rng):
        lines = data.splitlines(keepends=True)
        edit(lines, *(rng.randrange(len(lines)) for _ in range(2)))
        return b"".join(lines)

    mutate.__name__ = edit.__name__
    return mutate


def delete_a_line(lines, one, _):
    del lines[one]


def duplicate_a_line(lines, one, other):
    lines.insert(other, lines[one])


def swap_two_lines(lines, one, other):
    lines[one], lines[other] = lines[other], lines[one]


def replace_a_line_by_another(lines, one, other):
    lines[one] = lines[other]


def join_two_lines(lines, one, _):
    lines[one] = lines[one].rstrip(b"\n")


def cut_one_line(lines, one, _):
    lines[one] = lines[one][: len(lines[one]) // 2] + b"\n"


OF_ANY_FILE = [
    *(flip_bit, flip_bit, flip_bit, truncate, lose_the_last_byte, zero_the_tail, zero_a_stretch, empty),
    *(random_bytes, scramble_a_stretch, append_junk),
]
OF_LINES = [
    edit_lines(edit)
    for edit in (
        *(delete_a_line, duplicate_a_line, swap_two_lines, replace_a_line_by_another),
        *(join_two_lines, cut_one_line),
    )
]


@pytest.mark.parametrize("kind", ["documents", "pages"])
def test_no_mutation_of_a_file_changes_an_answer_in_silence(catalog_copy, original, kind):
    """The damage is done in place and mended afterwards, because copies of catalogs take long."""
    files = sorted(catalog_copy.glob(f"2*/**/{layout.DOCUMENTS if kind == 'documents' else '*.parquet'}"))
    mutations = OF_ANY_FILE + OF_LINES if kind == "documents" else OF_ANY_FILE
    silent = []
    for seed in range(MUTATIONS // 2):
        rng = random.Random(seed)
        path, mutate = rng.choice(files), mutations[seed % len(mutations)]
        whole = path.read_bytes()
        damaged = mutate(whole, rng)
        path.write_bytes(damaged)
        uid = path.relative_to(catalog_copy).parts[3].partition("Z-")[2]
        try:
            reported = check_nothing_is_silently_different(catalog_copy, original)
        except Exception as error:  # noqa: BLE001
            silent.append((seed, mutate.__name__, str(path.relative_to(catalog_copy)), repr(error)[:200]))
        else:
            assert reported <= {uid}
        path.write_bytes(whole)
    assert silent == []


def test_no_flipped_bit_in_the_headers_or_footer_of_a_big_page_changes_an_answer_in_silence(catalog_copy, original):
    """Parquet's checksums guard the content of pages, not their headers, and big files are not hashed whole."""
    path = max(catalog_copy.glob("2*/**/*.parquet"), key=os.path.getsize)
    whole = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    starts = [
        group.column(i).dictionary_page_offset or group.column(i).data_page_offset for i in range(group.num_columns)
    ]
    positions = [4, *(start + byte for start in starts for byte in range(20))]
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    positions += random.Random(0).sample(range(len(whole) - footer, len(whole)), 60)
    silent = []
    for position in positions:
        bit = random.Random(position).randrange(8)
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
        try:
            check_nothing_is_silently_different(catalog_copy, original)
        except Exception as error:  # noqa: BLE001
            silent.append((position, bit, repr(error)[:200]))
    assert silent == []


@pytest.mark.parametrize("uids", [(SMALL, PARTED), (SMALL, BIG), (PARTED, BIG)])
def test_pages_swapped_between_runs_are_reported(catalog_copy, original, uids):
    one, other = (run_directory(catalog_copy, uid) / "primary" / "00000.parquet" for uid in uids)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert check_nothing_is_silently_different(catalog_copy, original) == set(uids)


def test_pages_swapped_within_a_run_are_reported(catalog_copy, original):
    one, other = (run_directory(catalog_copy, PARTED) / "primary" / f"0000{number}.parquet" for number in (0, 1))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert check_nothing_is_silently_different(catalog_copy, original) == {PARTED}


@pytest.mark.parametrize("uid", TIMES)
@pytest.mark.parametrize("name", ["primary/00000.parquet", layout.DOCUMENTS])
@pytest.mark.parametrize("replacement", ["nothing", "directory", "dangling link", "loop"])
def test_a_file_that_is_gone_or_is_something_else_is_reported(catalog_copy, original, uid, name, replacement):
    path = run_directory(catalog_copy, uid) / name
    path.unlink()
    if replacement == "directory":
        path.mkdir()
    elif replacement != "nothing":
        path.symlink_to("nowhere" if replacement == "dangling link" else path.name)
    found, caught = read_all(catalog_copy)
    if name == layout.DOCUMENTS and replacement in ("nothing", "dangling link"):
        # With pages alone it cannot be told from a run that was never begun, so its absence shows.
        assert uid not in found
    else:
        assert any(uid in str(warning.message) for warning in caught)
    assert {warning.category for warning in caught} <= {DamagedRunWarning}
    assert {other: found[other] for other in TIMES if other != uid} == {
        other: original[other] for other in TIMES if other != uid
    }


def test_documents_exchanged_between_runs_are_reported(catalog_copy, original):
    one, other = (run_directory(catalog_copy, uid) / layout.DOCUMENTS for uid in (SMALL, PARTED))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert check_nothing_is_silently_different(catalog_copy, original) == {SMALL, PARTED}


# ---------------------------------------------------------------------------------- runs not yet sealed


@pytest.fixture
def torn_catalog(tmp_path):
    """A catalog with a sealed run and one whose writer died, and what the latter held."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 18)
        record(tmp_path, SMALL, 8, scalars)
        record(tmp_path, PARTED, 40, scalars, stop=False)
    assert len(list(run_directory(tmp_path, PARTED).glob("*.jsonl"))) > 2
    return tmp_path


def dump(pairs):
    return [(name, json.dumps(doc, sort_keys=True)) for name, doc in pairs]


@pytest.mark.parametrize("kind", ["journal", "docs"])
@pytest.mark.parametrize("read_only", [True, False], ids=["read only", "recovering"])
def test_mutations_of_an_unsealed_run_are_reported_and_recovery_keeps_the_rest(
    torn_catalog, tmp_path_factory, kind, read_only
):
    expected = {SMALL: dump(documents(SMALL, 8, scalars)), PARTED: dump(documents(PARTED, 40, scalars))[:-1]}
    work = tmp_path_factory.mktemp("work")
    problems = []
    for seed in range(60):
        rng = random.Random(seed)
        root = work / str(seed)
        shutil.copytree(torn_catalog, root)
        path = rng.choice(sorted(run_directory(root, PARTED).glob(f"{kind}.*")))
        whole = path.read_bytes()
        position = rng.randrange(len(whole) - 1)
        if seed % 3 == 0:
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :]
            )
        elif seed % 3 == 1:
            path.write_bytes(edit_lines(rng.choice([delete_a_line, duplicate_a_line]))(whole, rng))
        else:
            path.write_bytes(random_bytes(whole, rng) if seed % 2 else empty(whole, rng))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = {run.uid: dump(run.documents()) for run in Catalog(root, read_only=read_only)}
                again = {run.uid: dump(run.documents()) for run in Catalog(root, read_only=read_only)}
            assert {warning.category for warning in caught} <= {DamagedRunWarning, RecoveryWarning}
            assert found[SMALL] == again[SMALL] == expected[SMALL]
            named = any(PARTED in str(warning.message) for warning in caught if warning.category is DamagedRunWarning)
            # A journal without its end cannot be told from one that is still being written.
            whole_length = len(found.get(PARTED, [])) if kind == "journal" else None
            assert named or found.get(PARTED) == expected[PARTED][:whole_length], "differs in silence"
            assert set(again.get(PARTED, [])) <= set(expected[PARTED])
            if kind == "journal" and seed % 3 == 0:
                assert len(again[PARTED]) >= len(expected[PARTED]) - 2
        except Exception as error:  # noqa: BLE001
            problems.append((seed, path.name, repr(error)[:300]))
    assert problems == []


def test_a_flipped_bit_in_the_middle_of_a_journal_costs_one_document(torn_catalog):
    path = max(run_directory(torn_catalog, PARTED).glob("journal.*"))
    lines = path.read_bytes().splitlines(keepends=True)
    middle = lines[len(lines) // 2]
    lines[len(lines) // 2] = middle[:60] + bytes([middle[60] ^ 4]) + middle[61:]
    path.write_bytes(b"".join(lines))
    expected = dump(documents(PARTED, 40, scalars))[:-1]
    record = json.loads(middle)
    expected.remove((record["name"], json.dumps(record["doc"], sort_keys=True)))

    with pytest.warns(DamagedRunWarning, match=PARTED):
        before = dump(Catalog(torn_catalog, read_only=True).by_uid(PARTED).documents())
    with pytest.warns(RecoveryWarning, match="checksum"):
        catalog = Catalog(torn_catalog)
    with pytest.warns(DamagedRunWarning, match=PARTED):
        after = dump(catalog.by_uid(PARTED).documents())
    assert before == after == expected
    assert catalog.by_uid(PARTED).state == "interrupted"
    kept = list(run_directory(torn_catalog, PARTED).glob("*.damaged"))
    assert [file.read_bytes() for file in kept] == [b"".join(lines)]


# -------------------------------------------------------------------------------------- the catalog


def test_a_damaged_marker_is_refused_with_a_typed_error_or_changes_nothing(catalog_copy, original):
    path = catalog_copy / layout.MARKER
    whole = path.read_bytes()
    small = {SMALL: original[SMALL]}
    for uid in (BIG, PARTED):
        shutil.rmtree(run_directory(catalog_copy, uid))
    for seed in range(200):
        rng = random.Random(seed)
        path.write_bytes(OF_ANY_FILE[seed % len(OF_ANY_FILE)](whole, rng))
        try:
            found, caught = read_all(catalog_copy)
        except UnsupportedFormat:
            continue
        assert caught == []
        assert found == small


@pytest.mark.parametrize(
    "content",
    [
        *("", "null", "[]", "1", '"format"', "{}", '{"format": "1"}', '{"format": null}', '{"format": [1]}'),
        *('{"format": 2}', '{"format": 1, "requires": ["x"]}', '{"format": 1, "requires": 3}', "[" * 100_000),
        *("\ufeff{}", '{"format": NaN}', '{"format": true}'),
    ],
    ids=lambda content: content[:30],
)
def test_a_marker_of_another_content_is_refused_with_a_typed_error(catalog_copy, content):
    (catalog_copy / layout.MARKER).write_text(content)
    with contextlib.suppress(UnsupportedFormat):
        assert len(Catalog(catalog_copy)) == 3


def test_a_marker_that_is_a_directory_is_a_typed_error(catalog_copy):
    (catalog_copy / layout.MARKER).unlink()
    (catalog_copy / layout.MARKER).mkdir()
    with pytest.raises(FilebrokerError):
        Catalog(catalog_copy)


DAY = "2026/02/03"


RUN = f"{DAY}/20260203T040506.000000Z-junk"
DIRECTORY = object()
#: What is no run but lies among the runs: text or bytes for a file, a path for a link to it.
JUNK = {
    "files everywhere": {
        **{f"{folder}/notes.txt": "junk" for folder in (".", "2026", "2026/02", DAY)},
        **{"2027": "a file with the name of a year", "2026/12": "of a month", "2026/02/28": "of a day"},
        **{"2026/.DS_Store": b"\0\1", f"{DAY}/20260203T040506.000000Z": "nearly the name of a run"},
    },
    "a file named as a run": {RUN: "junk"},
    "an empty run directory": {RUN: DIRECTORY},
    "a run directory with junk": {f"{RUN}/journal.xxxxx.jsonl": "junk", f"{RUN}/notes.txt": "junk"},
    "directories for segments": {f"{RUN}/journal.00000.jsonl": DIRECTORY, f"{RUN}/docs.00001.jsonl": DIRECTORY},
    "a huge segment number": {f"{RUN}/journal.99999999999.jsonl": ""},
    "a loop of links in place of a year": {"2028": Path("2028")},
    "links to the catalog itself": {"2028": Path("."), f"{DAY}/self": Path("../../..")},
    "a loop of links in place of a run": {RUN: Path(RUN.rpartition("/")[2])},
    "a dangling link in place of a run": {RUN: Path("nowhere")},
    "names without UTF-8": {f"{DAY}/20260203T040506.000000Z-%FF": DIRECTORY, f"{RUN}\udcff": DIRECTORY},
    "files among the locks": {"_live/notes.txt": "junk", "_live/x.json": "[1]", "_live/y.json": "{"},
    "locks of another content": {"_live/a.json": '{"directory": 5}', "_live/b.json": '{"host": 7}'},
    "a directory among the locks": {"_live/a.json": DIRECTORY},
    "a loop of links among the locks": {"_live/a.json": Path("a.json")},
}


def make_junk(root, kind):
    for name, what in JUNK[kind].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what is DIRECTORY:
            path.mkdir()
        elif isinstance(what, Path):
            path.symlink_to(what)
        else:
            path.write_bytes(what if isinstance(what, bytes) else what.encode())


@pytest.mark.parametrize("kind", JUNK)
def test_junk_in_the_tree_disturbs_no_run(catalog_copy, original, kind):
    make_junk(catalog_copy, kind)
    with seconds(5):
        found, caught = read_all(catalog_copy)
    assert found == original
    assert {warning.category for warning in caught} <= {DamagedRunWarning, RecoveryWarning}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedRunWarning)
        warnings.simplefilter("ignore", RecoveryWarning)
        catalog = Catalog(catalog_copy)
        for uid in TIMES:
            assert catalog.by_uid(uid[:-2]).uid == uid
            assert catalog.has_uid(uid)
        assert not catalog.has_uid("another")


@pytest.mark.parametrize("kind", [kind for kind in JUNK if "locks" in kind])
def test_junk_among_the_locks_hinders_no_recovery(torn_catalog, kind):
    make_junk(torn_catalog, kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        catalog = Catalog(torn_catalog)
    assert {warning.category for warning in caught} == {RecoveryWarning}
    assert catalog.by_uid(PARTED).state == "interrupted"


@pytest.mark.parametrize("target", ["../outside/20260101T000000.000000Z-x", "{absolute}"])
def test_a_lock_that_names_a_directory_outside_the_catalog_touches_nothing_there(catalog_copy, target):
    outside = catalog_copy.parent / "outside" / "20260101T000000.000000Z-x"
    outside.mkdir(parents=True)
    (outside / "precious.txt").write_text("precious")
    locks = catalog_copy / layout.LIVE
    locks.mkdir(exist_ok=True)
    (locks / "evil.json").write_text(json.dumps({"directory": target.replace("{absolute}", str(outside))}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecoveryWarning)
        Catalog(catalog_copy)
    assert (outside / "precious.txt").read_text() == "precious"
    assert os.listdir(outside) == ["precious.txt"]


def test_a_manifest_that_names_a_page_outside_the_catalog_reads_nothing_there(catalog_copy):
    from filebroker.storing.journal import HEAD, HEAD_ORDINAL, decode_line, encode_line

    run = run_directory(catalog_copy, SMALL)
    outside = catalog_copy.parent / "outside.parquet"
    shutil.move(run / "primary" / "00000.parquet", outside)
    head, _, rest = (run / layout.DOCUMENTS).read_bytes().partition(b"\n")
    manifest = decode_line(head).doc
    entry = next(entry for entry in manifest["files"] if entry["stream"] == "primary")
    for path in (os.path.relpath(outside, run), str(outside)):
        entry["path"] = path
        (run / layout.DOCUMENTS).write_bytes(encode_line(HEAD_ORDINAL, HEAD, manifest) + rest)
        with pytest.warns(DamagedRunWarning, match=SMALL):
            found = list(Catalog(catalog_copy).by_uid(SMALL).documents())
        assert len([name for name, _ in found if name == "event"]) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"i":1,"name":"event","doc":{"data":{}},"arrays":[]',
        '{"i":1,"name":"event","doc":{"data":{}},"arrays":{"x":[]}',
        '{"i":1,"name":"event","doc":{"data":[]},"arrays":{"x":{"dtype":"<u2","shape":[1],"base64":"AQA="}}',
        '{"i":1,"name":"event","doc":{"data":{}},"arrays":{"x":{"dtype":"<u2","shape":[1e400],"base64":"AQA="}}',
        '{"i":true,"name":"event","doc":{}',
        '{"i":1,"name":["event"],"doc":{}',
        '{"i":1,"name":"event","doc":[]',
        '["i"',
    ],
)
def test_a_line_of_somebody_else_is_damage_however_good_its_checksum(text):
    with pytest.raises(DamagedRun, match="is not one of ours"):
        journal.decode_line(journal.seal(text.encode(), b"").rstrip(b"\n"))
