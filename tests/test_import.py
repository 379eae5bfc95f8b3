"""Runs from elsewhere: what goes in comes out equal, and what cannot be taken is told."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import event_model
import msgpack
import msgpack_numpy
import numpy as np
import pytest

import factories
from filebroker import Broker, Catalog, DamagedRunWarning, ImportReport, copy_runs, import_runs
from filebroker.commands.main import main
from filebroker.ground.errors import InvalidOption, SourceNotFound
from filebroker.transfer.incoming import target, units

Pair = tuple[str, dict[str, Any]]
SHARED = Path(__file__).parents[2] / "shared" / "data"


def documents(events: int = 3, **keys: Any) -> list[Pair]:
    """Make a run."""
    begun = factories.start(**keys)
    primary = factories.descriptor(begun, {"det": "number", "mode": "string"})
    taken = [
        ("event", factories.event(primary, number, {"det": number / 3, "mode": "a"})) for number in range(1, events + 1)
    ]
    return [("start", begun), ("descriptor", primary), *taken, ("stop", factories.stop(begun, {"primary": events}))]


def write_jsonl(path: str, pairs: Iterable[Pair]) -> str:
    Path(path).write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def write_named_lines(path: str, pairs: Iterable[Pair]) -> str:
    """As bluesky's JSONLinesWriter does."""
    Path(path).write_text("".join(json.dumps({"name": name, "doc": doc}) + "\n" for name, doc in pairs))
    return path


def write_named_list(path: str, pairs: Iterable[Pair]) -> str:
    """As bluesky's JSONWriter does."""
    texts = [json.dumps({"name": name, "doc": doc}) for name, doc in pairs]
    Path(path).write_text("[\n" + ",\n".join(texts) + "\n]")
    return path


def write_list(path: str, pairs: Iterable[Pair]) -> str:
    Path(path).write_text(json.dumps(list(pairs), indent=2))
    return path


def write_msgpack(path: str, pairs: Iterable[Pair]) -> str:
    packed = (msgpack.packb(pair, default=msgpack_numpy.encode, use_bin_type=True) for pair in pairs)
    Path(path).write_bytes(b"".join(packed))
    return path


WRITERS: list[Callable[[str, Iterable[Pair]], str]] = [
    *(write_jsonl, write_named_lines, write_named_list, write_list, write_msgpack),
]


def kept(catalog: str, uid: str) -> list[Pair]:
    """Give the documents of a run in a catalog."""
    run = Catalog(catalog, read_only=True).of_uid(uid)
    assert run is not None, f"{uid} is not there"
    return list(run.documents())


def sane(pairs: Iterable[Pair]) -> list[Pair]:
    return [(name, event_model.sanitize_doc(doc)) for name, doc in pairs]


def assert_kept(catalog: str, pairs: Sequence[Pair]) -> None:
    """See that a run came out as it went in."""
    found, expected = kept(catalog, pairs[0][1]["uid"]), sane(pairs)
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


def counts(report: ImportReport) -> tuple[int, int, int, int, int]:
    return report.taken, report.known, report.incomplete, report.refused, len(report.problems)


# -- what goes in comes out


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_kind_of_file_comes_out_as_it_went_in(write: Callable[[str, Iterable[Pair]], str]) -> None:
    some = (
        documents(label="nämé \u2603", big=2**70, nan=float("nan"), nothing=None)
        if write is not write_msgpack
        else documents()
    )
    report = import_runs(write("file.of-any-name", some), "catalog")
    assert counts(report) == (1, 0, 0, 0, 0)
    assert_kept("catalog", some)


def test_arrays_and_numbers_of_numpy_in_msgpack_come_out_equal() -> None:
    begun = factories.start(gain=np.float32(0.1), steps=np.int16(3))
    primary = factories.descriptor(begun, {"img": factories.data_key("array", shape=[2, 2])})
    image = np.arange(4, dtype="uint16").reshape(2, 2)
    page = factories.event_page(primary, (1, 2), {"img": [image, image + 1]})
    some = [("start", begun), ("descriptor", primary), ("event", factories.event(primary, 3, {"img": image})),
            ("event_page", page), ("stop", factories.stop(begun))]  # fmt: skip
    assert import_runs(write_msgpack("numpy", some), "catalog").ok
    assert_kept("catalog", some)


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_event_pages_stay_pages(rows: int) -> None:
    begun = factories.start()
    primary = factories.descriptor(begun, {"det": "number", "mode": "string"})
    numbers = range(1, rows + 1)
    pages = [factories.event_page(primary, numbers, {"det": [n / 7 for n in numbers], "mode": ["x"] * rows}, filled={})]
    pages.append(factories.event_page(primary, [rows + 1], {"det": [None], "mode": ["x"]}, filled={}))
    pages.append(
        factories.event_page(primary, [rows + 1], {"det": [1.5], "mode": ["x"]}, filled={}, extra="of the page")
    )
    pages.append(factories.event_page(primary, [], {"det": [], "mode": []}, filled={}))
    some = [
        ("start", begun),
        ("descriptor", primary),
        *(("event_page", page) for page in pages),
        ("stop", factories.stop(begun)),
    ]
    for write, catalog in ((write_jsonl, "one"), (write_msgpack, "two")):
        assert import_runs(write("pages", some), catalog).ok
        assert_kept(catalog, some)
        assert Catalog(catalog).newest(1)["primary"].to_pandas().shape == (rows + 2, 3)


@pytest.mark.skipif(not SHARED.exists(), reason="the recorded data are not here")
def test_runs_that_others_recorded_come_out_as_they_went_in() -> None:
    report = import_runs(SHARED, "catalog")
    assert counts(report) == (24, 0, 0, 0, 0)
    for path in SHARED.glob("*/*.json*"):
        text = path.read_text()
        pairs = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        assert_kept("catalog", [(name, doc) for name, doc in pairs])


def test_anything_that_gives_names_and_documents_is_taken() -> None:
    first, second = documents(), documents()
    assert counts(import_runs(iter(first + second), "catalog")) == (2, 0, 0, 0, 0)
    assert_kept("catalog", first)
    assert_kept("catalog", second)


def test_runs_of_another_catalog_and_of_a_search_are_taken() -> None:
    example = Broker.named("example")
    assert import_runs(example(plan_name="scan"), "some").taken == 5
    assert counts(import_runs(example.catalog.folder.url, "some")) == (17, 5, 0, 0, 0)
    assert import_runs(example[-1], "one").taken == 1
    assert import_runs("some", "others").taken == 22
    for run in example.catalog:
        assert_kept("others", list(run.documents()))


def test_runs_in_an_open_broker_are_found_at_once() -> None:
    db = Broker("catalog")
    import_runs(documents(scan_id=7), db)
    assert db[7].table().shape == (3, 3)
    assert len(db.catalog) == 1
    db.close()


def test_interleaved_runs_in_one_file_are_told_apart() -> None:
    one, two = documents(), documents()
    mixed = [pair for pairs in zip(one, two, strict=True) for pair in pairs]
    assert counts(import_runs(write_jsonl("mixed", mixed), "catalog")) == (2, 0, 0, 0, 0)
    assert_kept("catalog", one)
    assert_kept("catalog", two)


def test_resources_come_in_any_order_and_may_name_no_run_or_another() -> None:
    begun = factories.start()
    image = factories.descriptor(begun, {"img": factories.data_key("array", external="FILESTORE:")})
    old, shared = factories.resource(begun), factories.resource(begun, run_start="another run")
    del old["run_start"]
    data = [("datum", factories.datum(old)), ("datum_page", factories.datum_page(shared))]
    event = factories.event(image, 1, {"img": f"{old['uid']}/0"})
    some = [("start", begun), ("resource", old), *data[:1], ("resource", shared), *data[1:], ("descriptor", image),
            ("event", event), ("stop", factories.stop(begun))]  # fmt: skip
    assert counts(import_runs(write_jsonl("images", some), "catalog")) == (1, 0, 0, 0, 0)
    assert_kept("catalog", some)


def test_documents_of_old_forms_are_taken_as_what_replaced_them() -> None:
    (start, descriptor, *events, stop) = documents()
    bulk = ("bulk_events", {"primary": [doc for _, doc in events]})
    import_runs(write_jsonl("old", [start, descriptor, bulk, stop]), "catalog")
    assert_kept("catalog", [start, descriptor, *events, stop])


# -- repeated


def versions(directory: str) -> dict[Path, tuple[int, int, int]]:
    """Give what tells whether files were written to, which reading them does not change."""
    found = {path: path.stat() for path in Path(directory).rglob("*") if path.is_file()}
    return {path: (status.st_ino, status.st_size, status.st_mtime_ns) for path, status in found.items()}


def test_a_repeated_import_changes_nothing() -> None:
    os.mkdir("source")
    for number in range(5):
        WRITERS[number](f"source/{number}", documents(scan_id=number))
    assert counts(import_runs("source", "catalog")) == (5, 0, 0, 0, 0)
    before = versions("catalog")
    assert counts(import_runs("source", "catalog")) == (0, 5, 0, 0, 0)
    assert versions("catalog") == before


def test_the_same_file_given_twice_is_taken_once() -> None:
    path = write_jsonl("file", documents())
    assert counts(import_runs([path, path], "catalog")) == (1, 1, 0, 0, 0)


def test_events_in_pages_are_known_as_the_same_events() -> None:
    start, descriptor, *events, stop = documents()
    import_runs([start, descriptor, *events, stop], "catalog")
    pages = [("event_page", event_model.pack_event_page(*(doc for _, doc in events)))]
    assert counts(import_runs([start, descriptor, *pages, stop], "catalog")) == (0, 1, 0, 0, 0)


def test_datums_in_pages_are_known_as_the_same_datums() -> None:
    begun = factories.start()
    held = factories.resource(begun)
    head, stop = [("start", begun), ("resource", held)], ("stop", factories.stop(begun))
    data = [factories.datum(held, number) for number in range(3)]
    pages = [event_model.pack_datum_page(*data[:2]), event_model.pack_datum_page(*data[2:])]
    import_runs([*head, *(("datum_page", page) for page in pages), stop], "catalog")
    assert counts(import_runs([*head, *(("datum", doc) for doc in data), stop], "catalog")) == (0, 1, 0, 0, 0)


def test_a_recorded_run_is_known() -> None:
    some = documents()
    db = Broker("catalog")
    for name, doc in some:
        db.insert(name, doc)
    assert counts(import_runs(some, db)) == (0, 1, 0, 0, 0)
    db.close()


def test_repeated_documents_are_taken_once() -> None:
    start, descriptor, first, second, third, stop = documents()
    assert import_runs([start, start, descriptor, descriptor, first, second, first, third, second, stop], "catalog").ok
    assert_kept("catalog", [start, descriptor, first, second, third, stop])


@pytest.mark.parametrize("change", ["start", "event", "stop"])
def test_a_run_that_differs_is_refused_and_the_recorded_one_stays(change: str) -> None:
    some = documents()
    import_runs(some, "catalog")
    other = [(name, {**doc, "time": doc["time"] + (name == change)}) for name, doc in some]
    report = import_runs(other, "catalog")
    assert counts(report) == (0, 0, 0, 1, 1)
    assert "another run of its uid" in str(report.problems[0])
    assert some[0][1]["uid"] in str(report.problems[0])
    assert_kept("catalog", some)
    assert len(Catalog("catalog")) == 1


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_run_that_was_cut_short_goes_on(cut: int) -> None:
    some = documents()
    assert counts(import_runs(some[:cut], "catalog")) == (1, 0, 1, 0, 0)
    catalog = Catalog("catalog")
    assert catalog.newest(1).state == "interrupted"
    assert counts(import_runs(some[: cut - 1] or some[:1], catalog)) == (0, 1, 0, 0, 0), "less than that is known"
    assert counts(import_runs(some, catalog)) == (1, 0, 0, 0, 0)
    assert catalog.newest(1).state == "sealed"
    assert catalog.newest(1).stop == some[-1][1]
    assert_kept("catalog", some)
    assert len(list(Path("catalog").glob("2*/**/*.parquet"))) == 1
    assert Catalog("catalog").newest(1).stop == some[-1][1]
    assert counts(import_runs(some, catalog)) == (0, 1, 0, 0, 0)


def test_a_run_whose_recording_was_cut_short_goes_on() -> None:
    some = documents()
    db = Broker("catalog")
    for name, doc in some[:4]:
        db.insert(name, doc)
    report = import_runs(some, "catalog")
    assert counts(report) == (0, 0, 0, 1, 1)
    assert "being recorded" in report.problems[0].why
    db.close()
    with pytest.warns(UserWarning, match="cut short"):
        catalog = Catalog("catalog")
    assert counts(import_runs(some, catalog)) == (1, 0, 0, 0, 0)
    assert_kept("catalog", some)


def test_a_run_in_the_trash_stays_there() -> None:
    some = documents()
    catalog = Catalog("catalog")
    import_runs(some, catalog)
    catalog.trash(some[0][1]["uid"], author="chen")
    report = import_runs(some, catalog)
    assert counts(report) == (0, 0, 0, 1, 1)
    assert "chen" in report.problems[0].why
    assert len(catalog) == 0


# -- what cannot be taken


def bad(pairs: list[Pair], place: int, **keys: Any) -> list[Pair]:
    """Change one document."""
    name, doc = pairs[place]
    return [*pairs[:place], (name, {**doc, **keys}), *pairs[place + 1 :]]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"data": {"det": 1.0}}, "lacks ['mode']"),
        ({"data": {"det": 1.0, "mode": "a", "more": 1}}, "undeclared ['more']"),
        ({"time": "noon"}, "'time' of type str"),
        ({"descriptor": "nowhere"}, "nowhere"),
        ({"seq_num": None}, "seq_num"),
        ({"data": 5}, "'data' of type int"),
        ({"descriptor": ["x"]}, "descriptor"),
    ],
)
def test_a_bad_document_is_named_and_its_run_says_that_it_lacks_one(keys: dict[str, Any], why: str) -> None:
    some, path = documents(), "scan.jsonl"
    write_jsonl(path, bad(some, 3, **keys))
    for _ in range(2):
        report = import_runs(path, "catalog")
        assert (report.taken, report.known, len(report.problems)) in ((1, 0, 1), (0, 1, 1))
        problem = report.problems[0]
        assert (problem.place, problem.where) == (path, "line 4")
        assert why in problem.why
        assert problem.document.startswith("event document")
    with pytest.warns(DamagedRunWarning, match=r"scan\.jsonl, line 4"):
        found = kept("catalog", some[0][1]["uid"])
    assert found == [*some[:3], *some[4:]]


def test_a_line_that_is_no_json_is_named_and_the_others_are_taken() -> None:
    some = documents()
    lines = Path(write_jsonl("scan.jsonl", some)).read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("{", "[", 2)
    Path("scan.jsonl").write_text("".join(lines))
    report = import_runs("scan.jsonl", "catalog")
    assert counts(report) == (1, 0, 0, 0, 1)
    assert "line 4: it is no JSON" in str(report.problems[0])
    with pytest.warns(DamagedRunWarning, match="line 4"):
        assert len(kept("catalog", some[0][1]["uid"])) == len(some) - 1


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_was_cut_gives_what_is_whole_and_the_whole_one_the_rest(
    write: Callable[[str, Iterable[Pair]], str], share: float
) -> None:
    some = documents(9)
    whole = Path(write("whole", some)).read_bytes()
    Path("cut").write_bytes(whole[: int(len(whole) * share)])
    report = import_runs("cut", "catalog")
    assert counts(report) == (1, 0, 1, 0, 1)
    assert "the file ends" in report.problems[0].why
    found = kept("catalog", some[0][1]["uid"])
    assert found == sane(some)[: len(found)]
    assert 2 < len(found) < len(some)
    assert counts(import_runs("whole", "catalog")) == (1, 0, 0, 0, 0)
    assert_kept("catalog", some)


@pytest.mark.parametrize("write", [write_jsonl, write_msgpack], ids=lambda write: write.__name__)
def test_zeros_at_the_end_are_told_once(write: Callable[[str, Iterable[Pair]], str]) -> None:
    some = documents()
    data = Path(write("file", some[:-1])).read_bytes()
    Path("file").write_bytes(data + bytes(10_000))
    report = import_runs("file", "catalog")
    assert counts(report) == (1, 0, 1, 0, 1)
    assert kept("catalog", some[0][1]["uid"]) == some[:-1]


def test_a_start_document_that_is_bad_takes_its_run_along_and_no_other() -> None:
    lost, good = documents(), documents()
    report = import_runs(write_jsonl("two", bad(lost, 0, time=None) + good), "catalog")
    assert report.taken == 1
    assert len(report.problems) == len(lost), "each of its documents is named"
    assert_kept("catalog", good)


def test_documents_after_the_stop_document_are_named() -> None:
    some = documents()
    report = import_runs([*some[:4], some[-1], some[4]], "catalog")
    assert counts(report) == (1, 0, 0, 0, 1)
    assert "event document" in str(report.problems[0])


def test_a_thousand_problems_of_a_file_are_told_and_the_others_counted() -> None:
    some = documents(1)
    events = [("event", factories.event(some[1][1], number, {"det": 1.0})) for number in range(2, 1502)]
    report = import_runs([*some[:3], *events, some[-1]], "catalog")
    assert len(report.problems) == 1001
    assert report.problems[-1].why.startswith("500 more")
    with pytest.warns(DamagedRunWarning) as told:
        kept("catalog", some[0][1]["uid"])
    assert any("1480 more documents" in str(item.message) for item in told)


def test_files_that_hold_no_documents_are_named_and_passed_over() -> None:
    os.makedirs("source/deep/deeper")
    some = documents()
    write_jsonl("source/deep/deeper/run", some)
    Path("source/README.md").write_text("# words")
    Path("source/image.tif").write_bytes(b"II*\0")
    Path("source/numbers.json").write_text("[1, 2, 3]")
    Path("source/nothing").write_text("")
    os.symlink("nowhere", "source/link")
    os.symlink(".", "source/deep/loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo("source/pipe")
    report = import_runs("source", "catalog")
    assert counts(report) == (1, 0, 0, 0, 0)
    assert {os.path.basename(line.partition(": ")[0]) for line in report.foreign} >= {
        *("README.md", "image.tif", "numbers.json", "nothing", "link"),
    }
    assert report.passed_over == len(report.foreign) == len(os.listdir("source")) - 1


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"garbage"])
@pytest.mark.parametrize("name", ["scan.jsonl", "scan.msgpack"])
def test_a_file_that_should_hold_documents_and_does_not_is_a_problem(name: str, content: bytes) -> None:
    os.mkdir("source")
    Path("source", name).write_bytes(content)
    report = import_runs("source", "catalog")
    assert counts(report) == (0, 0, 0, 0, 1)
    assert name in str(report.problems[0])
    assert not os.path.exists("catalog")


def test_what_is_named_and_holds_no_documents_is_a_problem() -> None:
    Path("words").write_text("words")
    assert not import_runs("words", "catalog").ok
    assert not import_runs(write_jsonl("lines", documents()), "catalog", kind="msgpack").ok
    with pytest.raises(SourceNotFound, match="no file or directory"):
        import_runs("./nowhere", "catalog")
    with pytest.raises(SourceNotFound, match="databroker"):
        import_runs("nowhere", "catalog")
    for source, options in ((5, {}), ("words", {"kind": "csv"}), ("words", {"workers": 0})):
        with pytest.raises(InvalidOption):
            import_runs(source, "catalog", **options)
    with pytest.raises(InvalidOption, match="no catalog"):
        import_runs("words", 5)


# -- hostile files


def test_pickled_arrays_are_never_loaded() -> None:
    some = documents()
    trap = {b"nd": True, b"type": b"O", b"kind": b"O", b"shape": [1], b"data": b"cos\nsystem\n(S'touch trapped'\ntR."}
    path = write_msgpack("trap", [*some[:2], ("event", {**some[2][1], "data": {"det": trap, "mode": "a"}}), *some[3:]])
    report = import_runs(path, "catalog")
    assert counts(report) == (1, 0, 0, 0, 1)
    assert "never loaded" in report.problems[0].why
    assert not os.path.exists("trapped")


@pytest.mark.parametrize(
    "data", [b"\x92\xa5start\xdd\xff\xff\xff\xff", b"\x92\xa5start" + b"\x91" * 100_000, b"\x92\xa5start\xc1"]
)
def test_bombs_in_msgpack_are_refused(data: bytes) -> None:
    some = documents()
    Path("bomb").write_bytes(Path(write_msgpack("good", some)).read_bytes() + data)
    report = import_runs("bomb", "catalog")
    assert counts(report) == (1, 0, 0, 0, 1)
    assert_kept("catalog", some)


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    some = documents()
    Path("deep").write_text(json.dumps(some[0]) + "\n" + '["event", ' + "[" * 100_000 + "]" * 100_000 + "]\n")
    Path("deeper").write_text("[" + json.dumps(documents()[0]) + ", " + "[" * 100_000)
    assert len(import_runs(["deep", "deeper"], "catalog").problems) == 2
    assert len(Catalog("catalog")) == 2


@pytest.mark.parametrize("uid", ["../../outside", "a/b", "CON", "x" * 1000, "{{ 7 * 7 }}", "\ud800", "n\0ul"])
def test_names_lead_nowhere_else(uid: str) -> None:
    some = documents(uid=uid)
    assert import_runs(some, "inner/catalog").ok
    assert_kept("inner/catalog", some)
    assert set(os.listdir(".")) - {".cache"} == {"inner"}
    assert os.listdir("inner") == ["catalog"]


# -- dry runs


def test_a_dry_run_tells_the_same_and_writes_nothing() -> None:
    path = write_jsonl("file", bad(documents(), 3, data={}) + documents())
    dry = import_runs([path, path], "catalog", dry_run=True)
    assert (dry.taken, dry.known, len(dry.problems)) == (2, 2, 2)
    assert "would be taken" in repr(dry)
    assert set(os.listdir(".")) - {".cache"} == {"file"}
    wet = import_runs([path, path], "catalog")
    assert [str(problem) for problem in wet.problems] == [str(problem) for problem in dry.problems]
    before = sorted(Path("catalog").rglob("*"))
    assert import_runs(path, "catalog", dry_run=True).known == 2
    assert sorted(Path("catalog").rglob("*")) == before


# -- the command


def test_the_command_tells_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("good", documents())
    write_jsonl("poor", bad(documents(), 3, data={}))
    assert main(["import", "./catalog", "good"]) == 0
    assert capsys.readouterr().out == "1 run taken, 0 known before\n"
    assert main(["import", "./catalog", "good", "poor", "--dry-run"]) == 1
    assert "1 run would be taken, 1 known before, 1 problem\n  poor, line 4:" in capsys.readouterr().out
    assert main(["import", "./catalog", "good", "poor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"][0]["where"] == "line 4"
    assert main(["import", "./catalog", "nowhere"]) == 1
    assert "no file or directory 'nowhere'" in capsys.readouterr().err
    assert main(["import", "./other", "example"]) == 0, "a catalog that has a name"
    assert "22 runs taken" in capsys.readouterr().out


def test_who_opened_a_run_before_it_was_completed_sees_it_complete() -> None:
    pairs = documents()
    import_runs(pairs[:-1], "catalog")
    reader = Catalog("catalog", read_only=True)
    assert reader.newest(1).state == "interrupted"
    import_runs(pairs, "catalog")
    assert reader.newest(1).state == "sealed"
    assert list(reader.newest(1).documents()) == sane(pairs)


def test_the_lock_of_a_run_that_was_cut_short_elsewhere_stays_when_the_run_is_refused() -> None:
    pairs = documents()
    recording = Catalog("catalog")
    for name, doc in pairs[:3]:
        recording.insert(name, doc)
    recording.close()  # as a recorder that died: its lock is let go, and stays
    (lock,) = Path("catalog/_live").glob("*.json")
    owner = json.loads(lock.read_text()) | {"host": "another-machine"}
    lock.write_text(json.dumps(owner))
    report = import_runs(pairs, "catalog")
    assert counts(report) == (0, 0, 0, 1, 1)
    assert json.loads(lock.read_text()) == owner


def test_what_a_copy_that_was_cut_short_left_is_told_and_an_empty_directory_is_taken() -> None:
    runs = [documents(), documents(), documents()]
    for pairs in runs:
        import_runs(pairs, "good")
    for pairs, left in zip(runs[:2], ("primary", "."), strict=True):
        run = Catalog("good").of_uid(pairs[0][1]["uid"])
        assert run is not None
        Path("catalog", run.directory, left).mkdir(parents=True)
        if left == "primary":
            os.link(f"good/{run.directory}/primary/00000.parquet", f"catalog/{run.directory}/primary/00000.parquet")
    report = import_runs(write_jsonl("all", [*runs[0], *runs[1], *runs[2]]), "catalog")
    assert counts(report) == (2, 0, 0, 1, 1)
    assert "repeat the copy, or remove that directory" in report.problems[0].why
    assert "repeat the copy" in import_runs("all", "catalog", dry_run=True).problems[0].why
    assert_kept("catalog", runs[1])
    copy_runs(Catalog("good"), "catalog")
    assert counts(import_runs("all", "catalog")) == (0, 3, 0, 0, 0)


@pytest.mark.parametrize(("other", "expected"), [(0, (1, 1, 0, 0, 0)), (2, (1, 0, 0, 1, 1)), (-1, (1, 0, 0, 1, 1))])
def test_a_run_that_is_copied_there_meanwhile_is_taken_once(
    other: int, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, more = documents(5), documents()
    theirs = pairs if other == 0 else [*pairs[:other], *pairs[-1:]]
    import_runs(theirs if other > 0 else pairs, "theirs")
    directory = Catalog("theirs").newest(1).directory

    def overtaken(directories: Iterable[str]) -> None:
        shutil.copytree(f"theirs/{directory}", f"catalog/{directory}")
        if other < 0:  # only a part of it
            os.remove(f"catalog/{directory}/documents.jsonl")

    monkeypatch.setattr(target, "make_lasting", overtaken)
    for take in (lambda: write_jsonl("all", pairs + more), lambda: iter(pairs + more)):
        shutil.rmtree("catalog", ignore_errors=True)
        report = import_runs(take(), "catalog")
        assert counts(report) == expected
        assert report.documents == len(more)
        assert_kept("catalog", more)
        assert os.listdir("catalog/_live") == []


def test_a_run_whose_file_was_damaged_is_completed_from_the_whole_file() -> None:
    pairs = documents(5)
    lines = Path(write_jsonl("whole", pairs)).read_text().splitlines()
    Path("damaged").write_text("\n".join([*lines[:3], '{"garbled', *lines[4:]]) + "\n")
    assert counts(import_runs("damaged", "catalog")) == (1, 0, 0, 0, 1)
    reader = Catalog("catalog", read_only=True)
    with pytest.warns(DamagedRunWarning):
        assert len(list(reader.newest(1).documents())) == len(pairs) - 1
    assert counts(import_runs("whole", "catalog")) == (1, 0, 0, 0, 0)
    assert_kept("catalog", pairs)
    assert list(reader.newest(1).documents()) == sane(pairs), "also where it was read before"
    assert counts(import_runs("damaged", "catalog")) == (0, 1, 0, 0, 1)
    assert_kept("catalog", pairs)


@pytest.mark.parametrize("as_object", [False, True])
def test_runs_of_a_catalog_come_with_their_annotations_and_without_those_in_its_trash(as_object: bool) -> None:
    for pairs in (runs := [documents(), documents(), documents()]):
        import_runs(pairs, "theirs")
    theirs = Catalog("theirs")
    uids = [pairs[0][1]["uid"] for pairs in runs]
    theirs.annotate(uids[:2], "a good day", tags=["good"])
    theirs.trash(uids[1:2], "wrong sample")
    theirs.annotate(uids[2], "later")
    source = theirs if as_object else "theirs"
    assert import_runs(source, "catalog", dry_run=True).taken == 2
    for expected in ((2, 0, 0, 0, 0), (0, 2, 0, 0, 0)):
        report = import_runs(source, "catalog")
        assert counts(report) == expected
        assert as_object or ("1 left in the trash" in report.summary and report.trashed == 1)
        found = Catalog("catalog")
        assert len(found) == 2
        assert [(said["comment"], said["tags"]) for said in found.annotations(uids[0])] == [("a good day", ["good"])]
        assert [said["comment"] for said in found.annotations(uids[2])] == ["later"]
        assert len(os.listdir("catalog/_notes")) == 2


def test_what_cannot_be_read_in_a_directory_is_named_and_all_else_is_taken() -> None:
    os.makedirs("source/sub")
    for place in ("source/a", "source/sub/b"):
        write_jsonl(place, documents())
    good = documents()
    begun = json.dumps(good[:2])[:-1].encode()
    Path("source/list.json").write_bytes(begun + b', ["stop", {"x": "\xff"}]]')
    os.symlink("loop", "source/loop")
    os.symlink("loop", "source/sub/loop")
    deep = "source/" + "/".join(["d"] * 100)
    os.makedirs(deep)
    write_jsonl(f"{deep}/c", documents())
    report = import_runs("source", "catalog")
    assert (report.taken, report.incomplete) == (3, 1)
    told = str(report)
    assert f"no UTF-8 from byte {len(begun) + 18:,} on" in told
    assert "64 directories deep" in told
    assert len([item for item in report.foreign if "leads nowhere" in item]) == 2
    assert import_runs(deep, "catalog").taken == 1


def test_a_fault_of_a_file_is_told_of_that_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        write_jsonl(name, documents())

    def items_of(kind: str, path: str) -> Iterable[Any]:
        if path == "one.jsonl":
            raise ZeroDivisionError("odd")
        return items(kind, path)

    items = units.incoming_files.items_of
    monkeypatch.setattr(units.incoming_files, "items_of", items_of)
    report = import_runs(["one.jsonl", "two.jsonl"], "catalog")
    assert counts(report) == (1, 0, 0, 0, 1)
    assert "one.jsonl: it cannot be read: ZeroDivisionError('odd')" in str(report)
