"""What comes to a pack, or out of one, when some of it is there already: nothing is forgotten, nothing doubled."""

import json
import os
import shutil
from pathlib import Path

import pytest

import factories
from filebroker import Broker, Catalog, Handlers, copy_runs, pack, unpack, verify
from filebroker.cataloging import packed
from filebroker.commands.main import main
from filebroker.ground.errors import PackExists
from filebroker.storing.journal import encode_line
from test_pack import Scan, recorded
from test_pack_safety import TEXT, Text, run_with, sabotaged

BOTH = {"one": "one  ", "other": "other"}


# --- packed files


def two_texts(tmp_path):
    """Record a run with two texts of one name and length, each in a directory of its own."""
    begun = factories.start()
    keys = {name: factories.data_key("string", external="FILESTORE:") for name in ("one", "other")}
    described = factories.descriptor(begun, keys)
    documents, data = [("start", begun), ("descriptor", described)], {}
    for name in keys:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(f"{name:5}")
        held = factories.resource(begun, spec="TEXT", root=str(tmp_path / name), resource_path="x.txt")
        documents += [("resource", held), ("datum", factories.datum(held, datum_kwargs={}))]
        data[name] = documents[-1][1]["datum_id"]
    documents += [("event", factories.event(described, 1, data)), ("stop", factories.stop(begun))]
    catalog = Catalog(tmp_path / "beamtime")
    for name, doc in documents:
        catalog.insert(name, doc)
    catalog.close()
    return catalog


def texts_in(url):
    db = Broker(url, handlers=TEXT)
    return {name: next(iter(db[-1].data(name))) for name in ("one", "other")}


@pytest.mark.parametrize("lost", ["one", "other"])
def test_what_is_packed_stays_packed_when_its_original_cannot_be_had_any_more(tmp_path, lost):
    catalog = two_texts(tmp_path)
    assert pack(catalog, tmp_path / "share", handlers=TEXT).ok
    (tmp_path / lost / "x.txt").unlink()
    assert not pack(catalog, tmp_path / "share", handlers=TEXT).ok
    for name in BOTH:
        shutil.rmtree(tmp_path / name)
    assert texts_in(tmp_path / "share") == BOTH


@pytest.mark.parametrize("lost", ["one", "other"])
@pytest.mark.parametrize("order", [("whole", "part"), ("part", "whole")])
@pytest.mark.parametrize("target", ["local", "memory"])
def test_two_packs_of_a_run_come_together_whichever_has_more_of_it(tmp_path, lost, order, target):
    catalog = two_texts(tmp_path)
    assert pack(catalog, tmp_path / "whole", handlers=TEXT).ok
    (tmp_path / lost / "x.txt").unlink()
    assert not pack(catalog, tmp_path / "part", handlers=TEXT).ok
    for name in BOTH:
        shutil.rmtree(tmp_path / name)
    url = tmp_path / "mine" if target == "local" else f"memory://{factories.uid()}"
    for name in (*order, *order):
        assert unpack(tmp_path / name, url).ok
    assert texts_in(url) == BOTH


def test_two_packs_that_each_lack_another_file_make_a_whole_one(tmp_path):
    catalog = two_texts(tmp_path)
    for name in BOTH:
        hidden = shutil.move(tmp_path / name / "x.txt", tmp_path / "hidden.txt")
        assert not pack(catalog, tmp_path / f"without {name}", handlers=TEXT).ok
        shutil.move(hidden, tmp_path / name / "x.txt")
    for name in BOTH:
        shutil.rmtree(tmp_path / name)
        assert unpack(tmp_path / f"without {name}", tmp_path / "mine").ok
    assert texts_in(tmp_path / "mine") == BOTH
    assert verify(Catalog(tmp_path / "mine"), read_data=True).ok


def test_a_file_of_the_same_size_is_not_taken_for_another_one(tmp_path):
    catalog = run_with("/data", tmp_path / "beamtime", resource_path="x.txt")
    for name in BOTH:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(BOTH[name])
        handlers = Handlers({"TEXT": Text}, {"/data": str(tmp_path / name)})
        assert pack(catalog, tmp_path / f"pack of {name}", handlers=handlers).ok
    assert unpack(tmp_path / "pack of one", tmp_path / "mine").ok
    report = unpack(tmp_path / "pack of other", tmp_path / "mine")
    assert [problem.kind for problem in report.problems] == ["conflict"]
    assert "has another content" in report.problems[0].reason
    assert verify(Catalog(tmp_path / "mine"), read_data=True).ok
    (copy,) = (tmp_path / "mine").rglob("x.txt")
    assert copy.read_text() == BOTH["one"]


@pytest.mark.parametrize(
    ("packed_from", "expected", "told"),
    [
        ([{"b": "B"}, {"a": "C", "b": "C"}], {"a": "CCCC", "b": "BBBB"}, 1),
        ([{"b": "B"}, {"a": "A", "b": "B"}], {"a": "AAAA", "b": "BBBB"}, 0),
        ([{"a": "A", "b": "B"}, {"a": "C", "b": "C"}], {"a": "AAAA", "b": "BBBB"}, 2),
        ([{"a": "C", "b": "C"}, {"a": "A", "b": "B"}], {"a": "CCCC", "b": "CCCC"}, 2),
        ([{"a": "A", "b": "B"}, {"a": "A again", "b": "B"}], {"a": "AAAA", "b": "BBBB"}, 0),
    ],
)
def test_no_resource_gets_the_file_of_another_one_when_roots_move(tmp_path, packed_from, expected, told):
    begun = factories.start()
    described = factories.descriptor(begun, {n: factories.data_key("string", external="FILESTORE:") for n in "ab"})
    documents, data = [("start", begun), ("descriptor", described)], {}
    for name in "ab":
        held = factories.resource(begun, spec="TEXT", root=f"/{name}", resource_path="x.txt")
        documents += [("resource", held), ("datum", factories.datum(held, datum_kwargs={}))]
        data[name] = documents[-1][1]["datum_id"]
    catalog = Catalog(tmp_path / "beamtime")
    for name, doc in [*documents, ("event", factories.event(described, 1, data)), ("stop", factories.stop(begun))]:
        catalog.insert(name, doc)
    for name in ("A", "B", "C", "A again"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(name[0] * 4)
    for roots in packed_from:
        handlers = Handlers({"TEXT": Text}, {f"/{name}": str(tmp_path / roots[name]) for name in roots})
        report = pack(catalog, tmp_path / "share", handlers=handlers)
    assert len([missing for missing in report.missing if "packed in its place before" in missing.reason]) == told
    db = Broker(tmp_path / "share", handlers=TEXT)
    assert {name: next(iter(db[-1].data(name))) for name in "ab"} == expected
    assert verify(Catalog(tmp_path / "share"), read_data=True).ok


def test_a_file_that_no_map_tells_of_is_compared_before_it_is_taken_for_there(tmp_path):
    sabotaged(tmp_path, "0/text.txt")
    assert unpack(tmp_path / "share", tmp_path / "mine").ok
    (home,) = (tmp_path / "mine").glob("*/*/*/*/_files")
    (home / packed.MAP).unlink()
    (home / "0" / "text.txt").write_text("the tent")
    assert unpack(tmp_path / "share", tmp_path / "mine").ok
    assert (home / "0" / "text.txt").read_text() == "the text"


# --- runs


@pytest.mark.parametrize(
    "changes",
    [
        *({"files": value} for value in (5, None, {}, [5], [{"path": "x"}])),
        *({"documents": value} for value in (float("inf"), True, -5, 0, "x", None, [1])),
        *({"body": value} for value in (5, None, [1], {})),
    ],
    ids=repr,
)
def test_a_manifest_that_makes_no_sense_is_told_and_stops_no_other_run(tmp_path, changes):
    for number in range(2):
        run_with(tmp_path, tmp_path / "theirs", resource_path="x", time=factories.T0 + number)
    catalog = Catalog(tmp_path / "theirs")
    path = Path(catalog.folder.path(f"{catalog.newest(2).directory}/documents.jsonl"))
    runs = list(catalog)
    head, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(encode_line(-1, "filebroker", json.loads(head)["doc"] | changes) + body)
    for report in (
        unpack(tmp_path / "theirs", tmp_path / "unpacked"),
        copy_runs(runs, tmp_path / "copied"),
        pack(runs, tmp_path / "packed", files="omit"),
        pack(runs, tmp_path / "packed.zip", files="omit", zip=True),
    ):
        assert [problem.kind for problem in report.problems] == ["damaged"]
        assert len(report.copied) == 1


@pytest.mark.parametrize("deed", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    "what", ["documents.jsonl", "primary/00000.parquet", "_files/files.jsonl", "_files/0/text.txt"]
)
def test_a_pipe_in_the_place_of_a_file_is_told_and_stops_no_other_run(tmp_path, what, deed):
    sabotaged(tmp_path, "0/text.txt")
    (run,) = (tmp_path / "share").glob("2*/*/*/*")
    more = run_with(tmp_path, tmp_path / "more", resource_path="x", time=factories.T0 + 9)
    good = pack(more, tmp_path / "share", files="omit")
    (run / what).unlink()
    deed(run / what)
    report = unpack(tmp_path / "share", tmp_path / "mine")
    assert good.copied[0] in report.copied
    assert "is no regular file" in str([*report.problems, *report.missing])


@pytest.mark.parametrize("kind", ["directory", "zip"])
def test_what_is_in_the_trash_of_a_pack_is_not_unpacked(tmp_path, kind):
    for number in range(3):
        catalog = run_with(tmp_path, tmp_path / "beamtime", resource_path="x", time=factories.T0 + number)
    catalog.refresh()
    assert pack(catalog, tmp_path / "share", files="omit").ok
    share, (newest, restored, oldest) = Catalog(tmp_path / "share"), [run.uid for run in catalog]
    share.trash([newest, restored], "the wrong sample")
    share.restore(restored)
    assert pack(catalog.search({"uid": oldest}), tmp_path / "share", files="omit").ok
    graph = json.loads((tmp_path / "share" / "ro-crate-metadata.json").read_text())["@graph"]
    assert {item["identifier"] for item in graph if "identifier" in item} == {restored, oldest}
    source = tmp_path / "share"
    if kind == "zip":
        source = shutil.make_archive(str(tmp_path / "by hand"), "zip", tmp_path, "share")
    report = unpack(source, tmp_path / "mine")
    assert (report.copied, report.trashed, report.ok) == ([oldest, restored], [newest], True)
    assert "1 left in the trash" in report.summary()
    assert [run.uid for run in Catalog(tmp_path / "mine")] == [restored, oldest]


def test_what_is_packed_to_a_name_that_ends_in_zip_is_an_archive(tmp_path):
    run_with(tmp_path, tmp_path / "beamtime", resource_path="x")
    share = tmp_path / "share.zip"
    command = ["pack", str(tmp_path / "beamtime"), "--to", str(share), "--files", "omit"]
    assert main(command) == 0
    assert share.is_file()
    assert main(["unpack", str(share), str(tmp_path / "mine")]) == 0
    assert main([*command, "--dry-run"]) == 1  # it is there already
    (tmp_path / "directory.zip").mkdir()
    assert pack(Catalog(tmp_path / "beamtime"), tmp_path / "directory.zip", files="omit").ok
    assert len(unpack(tmp_path / "directory.zip", tmp_path / "mine").known) == 1
    with pytest.raises(PackExists):
        pack(Catalog(tmp_path / "mine"), tmp_path / "beamtime", dry_run=True)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_that_is_given_twice_is_in_an_archive_once(tmp_path, dry_run):
    run = recorded(tmp_path / "beamtime", Scan(tmp_path / "images")).newest(1)
    for number, is_zip in enumerate([True] if not dry_run else [True, False]):
        report = pack([run, run], tmp_path / f"share{number}.zip", zip=is_zip, dry_run=dry_run)
        assert (report.copied, report.known, report.external_files) == ([run.uid], [run.uid], 8)
    if not dry_run:
        assert unpack(tmp_path / "share0.zip", tmp_path / "mine").copied == [run.uid]


def test_of_two_runs_of_one_uid_the_second_is_a_conflict_in_an_archive(tmp_path):
    begun, runs = factories.start(), []
    for reason in ("one", "other"):
        catalog = Catalog(tmp_path / reason)
        catalog.insert("start", begun)
        catalog.insert("stop", factories.stop(begun, reason=reason))
        runs.append(catalog.newest(1))
    report = pack(runs, tmp_path / "share.zip", zip=True)
    assert (len(report.copied), [problem.kind for problem in report.problems]) == (1, ["conflict"])
    assert unpack(tmp_path / "share.zip", tmp_path / "mine").ok
