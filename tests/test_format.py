"""The format is what docs/reference/format.md says: strangers read the same as filebroker does."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import unicodedata
import urllib.parse
import uuid
import zlib
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

import factories
import strangers
from equality import first_difference
from filebroker import Catalog
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.storing import recovery
from filebroker.storing.recorder import Recorder
from filebroker.storing.run_files import RunFiles

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "sample_data" / "example"
PAGE = HERE.parent / "docs" / "reference" / "format.md"
EXAMPLE_RUNS = sorted(EXAMPLE.glob("*/*/*/*"))

# --------------------------------------------------------------------------------------------- hand-made nasty runs


def a_stream(rows, name="primary", **extras):
    """Give a descriptor and one event for each of the rows, which are dicts of data."""
    begun = factories.start()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    described = factories.descriptor(begun, keys, name)
    events = [("event", factories.event(described, number, row, **extras)) for number, row in enumerate(rows, start=1)]
    return [("start", begun), ("descriptor", described), *events, ("stop", factories.stop(begun))]


def a_column(*values):
    return a_stream([{"det": value} for value in values])


def arrays(dtype, *shapes):
    return [np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype) for shape in shapes]


def several_descriptors():
    begun = factories.start()
    one, other = factories.descriptor(begun, ["a", "b"]), factories.descriptor(begun, ["b", "c"])
    first = factories.event(one, 1, {"a": 1, "b": 2.5})
    second = factories.event(other, 2, {"b": 3, "c": np.arange(40.0)})
    third = factories.event(one, 3, {"a": None, "b": "x"}, filled={"a": "datum/1"})
    return [
        *[("start", begun), ("descriptor", one), ("event", first), ("descriptor", other)],
        *[("event", second), ("event", third), ("stop", factories.stop(begun))],
    ]


def event_pages():
    begun = factories.start()
    paged, mixed = factories.descriptor(begun, ["a"]), factories.descriptor(begun, ["b"], "mixed")
    return [
        *[("start", begun), ("descriptor", paged), ("descriptor", mixed)],
        ("event_page", factories.event_page(paged, [1, 2, 3], {"a": [1, 2.5, "x"]})),
        ("event", factories.event(mixed, 1, {"b": 1})),
        ("event_page", factories.event_page(paged, [4], {"a": [None]})),
        ("event_page", factories.event_page(mixed, [2, 3], {"b": [2, 3]})),
        ("event_page", factories.event_page(paged, [], {"a": []})),
        ("event_page", factories.event_page(paged, [5, 6], {"a": np.arange(6).reshape(2, 3)})),
        ("event", factories.event(mixed, 4, {"b": 4})),
        ("event_page", factories.event_page(paged, [7], {"a": [7]}, more="than is known")),
        ("event_page", factories.event_page(paged, [8, 9], {"a": [8, 9]}, more={"by": "Ana"}, tags=[1, 2, 3])),
        ("event_page", factories.event_page(paged, [10, 11], {"a": [np.arange(3.0), np.arange(3.0)]}, more=None)),
        ("event_page", factories.event_page(paged, [12, 13, 14], {"a": np.arange(3, dtype="float32")})),
        ("stop", factories.stop(begun)),
    ]


def names_beyond_imagination():
    begun = factories.start(uid="../weird ~ %41 " + "é" * 90)
    names = ["Primary", "primary", "_live", "CON", "nul.txt", "../..", "", "a/b", "x" * 300, "naïve 测量.", "con\n"]
    described = [factories.descriptor(begun, ["det"], name) for name in names]
    events = [("event", factories.event(one, 1, {"det": number})) for number, one in enumerate(described)]
    return [
        *[("start", begun), *(("descriptor", one) for one in described)],
        *[*events, ("stop", factories.stop(begun))],
    ]


def assets():
    begun = factories.start()
    held, described = factories.resource(begun), factories.descriptor(begun, {"img": "array"})
    pages = [("datum", factories.datum(held)), ("datum_page", factories.datum_page(held, [1, 2]))]
    row = factories.event(described, 1, {"img": f"{held['uid']}/0"}, filled={"img": False})
    last = factories.event(described, 2, {"img": f"{held['uid']}/1"}, filled={"img": True})
    return [
        *[("start", begun), ("descriptor", described), ("resource", held), *pages],
        *[("event", row), ("event", last), ("stop", factories.stop(begun))],
    ]


def odd_timestamps():
    documents = a_stream([{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}])
    documents[2][1]["timestamps"] = {"b": 1, "a": 2.5, "c": "later"}
    documents[3][1]["timestamps"] = {"a": float("nan")}
    documents[4][1]["time"] = 1763809931
    return documents


def odd_events():
    documents = a_stream([{"a": 1}, {"a": 2}, {"a": 3}], note={"by": "Ana", "tags": [1, None]})
    del documents[2][1]["filled"], documents[3][1]["note"]
    documents[4][1]["uid"] = "no uuid \ud800"
    return [documents[0], *((name, dict(reversed(doc.items()))) for name, doc in documents[1:])]


NASTY = {
    "floats with NaN and infinities": a_column(1.5, float("nan"), float("inf"), -float("inf"), -0.0, 5e-324),
    "floats with None": a_column(1.5, None, float("nan")),
    "single and half floats": a_column(np.float32(0.1), np.float16(0.1), None),
    "integers": a_column(1, -(2**63), np.int8(-3)),
    "unsigned integers": a_column(1, 2**63, np.uint64(2**64 - 1)),
    "unsigned and negative integers": a_column(-1, 2**63),
    "big integers": a_column(2**64, -(10**40), 3),
    "booleans": a_column(True, np.bool_(False), None),
    "text": a_column("", "i", "null", 'x"crc":"', "é 测 😀", "a\nb\x00", None),
    "half a surrogate pair": a_column("\ud800", "x"),
    "mixed numbers": a_column(1, 2.0, 2**53 + 1, -(2**60), float("nan"), None),
    "mixed scalars": a_column("x", 1, 2.5, True, None, "y", float("inf"), 10**30),
    "only None": a_column(None, None),
    "lists": a_column([1.5, float("nan")], [], None),
    "nested lists": a_column([[1, 2], []], [[3]]),
    "lists of text": a_column(["a", "é"], []),
    "uneven lists": a_column([[], 1.0], [1, [2]], [None], [1, "x"]),
    "objects": a_column({"a": [1, {"b": None}], "é": float("nan")}, {}, None),
    "ragged arrays": a_column(*arrays("float32", 3, 0, 100), None),
    "arrays of several shapes": a_column(
        *arrays("int16", (2, 3), (3, 2), 4), np.asfortranarray(arrays(">f8", (2, 3))[0])
    ),
    "arrays of three axes in Fortran order": a_column(
        np.asfortranarray(arrays(">u2", (2, 3, 4))[0]), arrays("bool", (1, 0, 2))[0]
    ),
    "arrays and scalars": a_column(np.arange(3), 1.5, "x", [1]),
    "empty arrays": a_column(*arrays("int32", (2, 0), (2, 0))),
    **{
        f"small {dtype} arrays": a_column(*arrays(dtype, (2, 3), (2, 3)), None)
        for dtype in ("?", "u1", "f2", ">i4", "f8")
    },
    **{f"large {dtype} arrays": a_column(*arrays(dtype, (9, 30), (9, 30)), None) for dtype in ("?", ">u2", "f4", "i8")},
    "text arrays": a_column(np.array(["a", "é"]), np.array(["b", "c"])),
    "keys that clash": a_stream(
        [
            dict.fromkeys(keys, value)
            for keys in [["time", "seq_num", "", "_x", "_uid", "_data.a", "_ts.a", "a", "A", "a.b"]]
            for value in (1.5, "x", 2)
        ]
    ),
    "several descriptors": several_descriptors(),
    "event pages": event_pages(),
    "names beyond imagination": names_beyond_imagination(),
    "assets": assets(),
    "odd timestamps": odd_timestamps(),
    "odd events": odd_events(),
    "no data": a_stream([{}, {}]),
    "no events": a_stream([]),
    "a start alone": [("start", factories.start(time=float("nan")))],
}


def record(root, documents):
    """Record a run, and give its directory."""
    catalog = Catalog(root)
    begun = documents[0][1]
    for name, doc in documents:
        catalog.insert(name, doc)
    if documents[-1][0] != "stop":
        catalog.insert("stop", {"uid": "s", "time": 1.0, "run_start": begun["uid"]})
    (run,) = Catalog(root, read_only=True)
    return Path(root, run.directory)


def read_by_filebroker(directory):
    root = directory.parents[3]
    (run,) = (run for run in Catalog(root, read_only=True) if Path(root, run.directory) == directory)
    return list(run.documents())


# ------------------------------------------------------------------------------------------ the stranger's reader


@pytest.mark.parametrize("directory", EXAMPLE_RUNS, ids=lambda path: path.name[:20])
def test_stranger_reads_example_runs_as_filebroker_does(directory):
    assert first_difference(read_by_filebroker(directory), strangers.documents(directory)) == ""


@pytest.mark.parametrize("documents", NASTY.values(), ids=NASTY)
def test_stranger_reads_nasty_runs_as_filebroker_does(documents, tmp_path):
    directory = record(tmp_path, documents)
    found = read_by_filebroker(directory)
    assert len(found) >= len(documents)
    assert first_difference(found, strangers.documents(directory)) == ""


def test_stranger_reads_keys_of_documents_in_the_same_order(tmp_path):
    directory = record(tmp_path, odd_events())
    assert json.dumps(read_by_filebroker(directory)) == json.dumps(strangers.documents(directory))


def test_stranger_reads_run_of_many_segments(tmp_path):
    documents = a_stream([{"det": 1 if number < 4 else 1.5, "img": np.arange(3)} for number in range(9)])
    recorder = Recorder(str(tmp_path), documents[0][1], sync="never", segment_documents=2)
    for name, doc in documents[1:]:
        recorder.insert(name, doc)
    directory = tmp_path / recorder.name
    assert len(strangers.documents(directory)) == len(documents)
    assert first_difference(read_by_filebroker(directory), strangers.documents(directory)) == ""


def test_stranger_reads_interrupted_and_damaged_run(tmp_path):
    documents = a_stream([{"det": number} for number in range(5)])
    recorder = Recorder(str(tmp_path), documents[0][1], sync="never")
    for name, doc in documents[1:-1]:
        recorder.insert(name, doc)
    recorder.close()
    journal = tmp_path / recorder.name / "journal.00000.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content.replace(b'"seq_num":3', b'"seq_num":8') + b'{"i":7,"name":"eve')
    (recovered,) = recovery.recover_all(str(tmp_path))
    assert recovered.outcome == "interrupted"
    found = strangers.documents(journal.parent)
    assert [doc["seq_num"] for name, doc in found if name == "event"] == [1, 2, 4, 5]
    manifest = json.loads((journal.parent / "documents.jsonl").read_bytes().partition(b"\n")[0])["doc"]
    assert manifest["state"] == "interrupted"
    assert manifest["documents"] == len(found)
    assert "journal.00000.jsonl, line 6" in manifest["damage"][0]
    assert (journal.parent / "journal.00000.jsonl.damaged").exists()


def test_stranger_reads_event_lines_with_arrays_whose_descriptor_was_lost(tmp_path):
    image = np.arange(6, dtype="uint16").reshape(2, 3)
    documents = a_stream([{"img": image}, {"img": image}])
    recorder = Recorder(str(tmp_path), documents[0][1], sync="never")
    for name, doc in documents[1:-1]:
        recorder.insert(name, doc)
    recorder.close()
    journal = tmp_path / recorder.name / "journal.00000.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"name":"descriptor"', b'"name":"discriptor"'))
    recovery.recover_all(str(tmp_path))
    found = strangers.documents(journal.parent)
    assert [name for name, _ in found] == ["start", "event", "event"]
    assert [doc["data"]["img"] for _, doc in found[1:]] == [image.tolist()] * 2


@pytest.mark.parametrize("name", ["documents.jsonl", "primary/00000.parquet"])
def test_stranger_notices_each_flipped_byte(name, tmp_path):
    directory = record(tmp_path, a_column(1, 2.5, "x"))
    content = (directory / name).read_bytes()
    for position in range(0, len(content), 13):
        (directory / name).write_bytes(
            content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :],
        )
        with pytest.raises((ValueError, KeyError)):
            strangers.documents(directory)


def rewrite(directory, change):
    """Change the lines of a sealed run, and seal them anew with good checksums."""
    path = directory / "documents.jsonl"
    head, *lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    change(head["doc"], lines)
    body = b"".join(map(line_of, lines))
    head["doc"]["body"] = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    path.write_bytes(line_of(head) + body)


def line_of(record):
    text = json.dumps({key: value for key, value in record.items() if key != "crc"}, separators=(",", ":"))[
        :-1
    ].encode()
    return b'%b,"crc":"%08x"}\n' % (text, zlib.crc32(text))


def test_rewritten_run_is_still_one(tmp_path):
    directory = record(tmp_path, a_column(1, 2.5))
    before = (directory / "documents.jsonl").read_bytes()
    rewrite(directory, lambda manifest, lines: None)
    assert (directory / "documents.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"format": value} for value in (0, 2, 1.0, True, "1", None)] + [{"requires": ["x"]}]
)
def test_other_formats_are_refused(change, tmp_path):
    directory = record(tmp_path, a_column(1, 2.5))
    rewrite(directory, lambda manifest, lines: manifest.update(change))
    with pytest.raises(ValueError, match="another reader"):
        strangers.documents(directory)
    with pytest.raises(UnsupportedFormat):
        RunFiles(Folder(directory), "")


@pytest.mark.parametrize(
    "path", ["../primary/00000.parquet", "/primary/00000.parquet", "primary/0.parquet", "a/b/00000.parquet"]
)
def test_paths_that_are_not_those_of_pages_are_damage(path, tmp_path):
    directory = record(tmp_path, a_column(1, 2.5))
    rewrite(directory, lambda manifest, lines: manifest["files"][0].update(path=path))
    with pytest.raises(ValueError, match="where none can be"):
        strangers.documents(directory)
    files = RunFiles(Folder(directory), "")
    assert path in files.damage[0]
    assert [name for name, _ in files.documents()] == ["start", "descriptor", "stop"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda manifest, lines: lines.insert(1, lines[1]), "do not rise"),
        (lambda manifest, lines: lines.insert(1, lines.pop(0)), "do not rise"),
        (lambda manifest, lines: lines.insert(0, {"i": -1, "name": "filebroker", "doc": {}}), "several"),
        (lambda manifest, lines: lines.pop(1), "gaps"),
    ],
    ids=["doubled line", "moved line", "second head", "removed line"],
)
def test_lines_that_cannot_be_so_are_damage(change, problem, tmp_path):
    directory = record(tmp_path, a_column(1, 2.5))
    rewrite(directory, change)
    with pytest.raises(ValueError, match=problem):
        strangers.documents(directory)
    try:
        damage = RunFiles(Folder(directory), "").damage
    except DamagedRun:  # the start document is not the first
        damage = ["no start"]
    assert damage


def test_other_encodings_are_refused(tmp_path):
    directory = record(tmp_path, a_column({"a": 1}, {}))
    path = directory / "primary" / "00000.parquet"
    table = pq.ParquetFile(path).read()
    footer = table.schema.metadata[b"filebroker"].replace(b'"json"', b'"yaml"')
    pq.write_table(table.replace_schema_metadata({b"filebroker": footer}), path)
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little") + 8
    entry = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "footer": [length, zlib.crc32(data[-length:])],
    }
    rewrite(directory, lambda manifest, lines: manifest["files"][0].update(entry))
    with pytest.raises(ValueError, match="yaml"):
        strangers.documents(directory)
    with pytest.raises(UnsupportedFormat, match="yaml"):
        list(RunFiles(Folder(directory), "").documents())


def test_none_is_a_null_cell_in_whatever_encoding(tmp_path):
    values = (1.5, 1, True, "x", [1], [[1], 1], {"a": 1}, 2**70, np.arange(3), np.arange(900))
    data = [dict(zip("abcdefghij", values, strict=True)), dict.fromkeys("abcdefghij")]
    directory = record(tmp_path, a_stream(data))
    table = pq.ParquetFile(directory / "primary" / "00000.parquet").read()
    assert [table.column(key)[1].as_py() for key in "abcdefghij"] == [None] * 10
    assert all(table.column(key)[0].is_valid for key in "abcdefghij")


def test_keys_of_an_event_page_are_in_its_first_row_alone(tmp_path):
    begun = factories.start()
    described = factories.descriptor(begun, ["a"])
    page = factories.event_page(described, [1, 2], {"a": [1, 2]}, more={"by": ["Ana"]})
    directory = record(tmp_path, [("start", begun), ("descriptor", described), ("event_page", page)])
    table = pq.ParquetFile(directory / "primary" / "00000.parquet").read()
    assert table.column("_extra").to_pylist() == ['{"more":{"by":["Ana"]}}', None]


@pytest.mark.parametrize(
    ("column", "lifted"),
    [
        (np.arange(2, dtype=">i2"), {"dtype": "<i2", "shape": [2], "base64": "AAABAA=="}),
        ([np.arange(2, dtype="u1")] * 2, {"dtype": "|u1", "shape": [2, 2], "base64": "AAEAAQ=="}),
        ([np.arange(2), np.arange(1)], None),
        ([1, 2], None),
    ],
    ids=["array", "equal arrays", "unequal arrays", "numbers"],
)
def test_arrays_of_event_pages_are_lifted(column, lifted, tmp_path):
    begun = factories.start()
    described = factories.descriptor(begun, ["a"])
    page = factories.event_page(described, [1, 2], {"a": column})
    recorder = Recorder(str(tmp_path), begun, sync="never")
    recorder.insert("descriptor", described)
    recorder.insert("event_page", page)
    line = (tmp_path / recorder.name / "journal.00000.jsonl").read_bytes().splitlines()[-1]
    found = json.loads(line)
    assert found.get("arrays", {}).get("a") == lifted
    values = np.asarray(column).tolist() if lifted else [np.asarray(value).tolist() for value in column]
    assert strangers.decode_line(line)[2]["data"]["a"] == values
    assert found["doc"]["data"]["a"] == (None if lifted else values)
    recorder.close()


def test_stranger_imports_nothing_of_filebroker():
    modules = re.findall(r"^(?:import|from) (\w+)", (HERE / "strangers.py").read_text(), re.MULTILINE)
    standard = {"base64", "hashlib", "json", "math", "re", "struct", "zlib", "itertools", "pathlib"}
    assert set(modules) <= standard | {"pyarrow"}


# ------------------------------------------------------------------------------------------------ other people's tools


def table_of(directory, stream="primary"):
    root = directory.parents[3]
    (run,) = (run for run in Catalog(root, read_only=True) if Path(root, run.directory) == directory)
    return run[stream].to_pandas()


def has_numbers(directory):
    return (directory / "primary").is_dir() and not any("_x." in name for name in columns_of(directory))


def columns_of(directory):
    return pq.ParquetFile(directory / "primary" / "00000.parquet").schema_arrow.names


WITH_NUMBERS = [directory for directory in EXAMPLE_RUNS if has_numbers(directory)]


def numbers_of(directory):
    """Give the table of a stream, and the names of its columns of numbers."""
    table = table_of(directory)
    return table, [name for name in table.columns if table[name].dtype.kind in "if"]


@pytest.mark.parametrize("directory", WITH_NUMBERS, ids=lambda path: path.name[:20])
def test_duckdb_polars_and_pandas_read_the_numbers_of_a_stream(directory):
    table, names = numbers_of(directory)
    found = {
        "duckdb": duckdb.read_parquet(f"{directory}/primary/*.parquet").df(),
        "polars": pl.read_parquet(f"{directory}/primary/*.parquet").select("seq_num", *names).to_pandas(),
        "pandas": pd.read_parquet(directory / "primary"),
    }
    for frame in found.values():
        pd.testing.assert_frame_equal(frame.set_index("seq_num")[names], table[names])


def test_duckdb_reads_one_stream_of_all_runs():
    columns = "filename, seq_num, time, det"
    pattern = f"{EXAMPLE}/*/*/*/*/primary/*.parquet"
    found = duckdb.sql(f"SELECT {columns} FROM read_parquet('{pattern}', union_by_name=true, filename=true)").df()
    expected = []
    for directory in EXAMPLE_RUNS:
        if (directory / "primary").is_dir():
            table = table_of(directory)
            if "det" not in table:
                table["det"] = np.nan
            expected.append(table[["time", "det"]].reset_index())
    found = found.sort_values(["filename", "seq_num"], ignore_index=True)[["seq_num", "time", "det"]]
    pd.testing.assert_frame_equal(found, pd.concat(expected, ignore_index=True))


def test_polars_and_pandas_read_a_directory_of_many_pages(tmp_path):
    documents = a_stream([{"det": 1 if number < 4 else 1.5, "n": number} for number in range(9)])
    recorder = Recorder(str(tmp_path), documents[0][1], sync="never", segment_documents=2)
    for name, doc in documents[1:]:
        recorder.insert(name, doc)
    stream = tmp_path / recorder.name / "primary"
    assert pl.read_parquet(stream)["n"].to_list() == list(range(9))
    assert pd.read_parquet(stream)["n"].tolist() == list(range(9))
    assert pd.read_parquet(stream)["det"].tolist() == [1.0] * 4 + [1.5] * 5


def test_duckdb_polars_and_pandas_read_pages_whose_bookkeeping_differs(tmp_path, monkeypatch):
    begun = factories.start()
    one, other = factories.descriptor(begun, ["det"]), factories.descriptor(begun, ["b"], "other")
    recorder = Recorder(str(tmp_path), begun, sync="never", segment_documents=6)
    recorder.insert("descriptor", one)
    recorder.insert("descriptor", other)
    for number in range(1, 13):
        recorder.insert("event", factories.event(one, number, {"det": 0.5 * number}))
        if number > 6:
            recorder.insert("event", factories.event(other, number, {"b": number}))
    recorder.insert("stop", factories.stop(begun))
    stream = tmp_path / recorder.name / "primary"
    assert {"_i" in pq.ParquetFile(page).schema_arrow.names for page in stream.iterdir()} == {True, False}
    monkeypatch.chdir(tmp_path)
    expected = [0.5 * number for number in range(1, 13)]
    for code in [code for code in blocks("python") if "import glob\n" in code]:  # Polars and pandas
        names = {}
        exec(compile(code, "format.md", "exec"), names)
        assert list(names["table"]["det"]) == expected
    query = f"SELECT det FROM read_parquet('{stream}/*.parquet', union_by_name=true) ORDER BY seq_num"
    assert [det for (det,) in duckdb.sql(query).fetchall()] == expected


def test_uuids_of_events_are_uuids_for_other_tools():
    found = duckdb.read_parquet(f"{EXAMPLE_RUNS[0]}/primary/*.parquet").select("_uid").fetchall()
    uids = [doc["uid"] for name, doc in strangers.documents(EXAMPLE_RUNS[0]) if name == "event"]
    assert [str(uid) for (uid,) in found] == uids


@pytest.mark.parametrize("directory", EXAMPLE_RUNS, ids=lambda path: path.name[:20])
def test_every_line_parses_with_plain_json_and_obeys_the_checklist(directory):
    content = (directory / "documents.jsonl").read_bytes()
    assert content.endswith(b"\n")
    lines = [json.loads(line) for line in content.splitlines()]
    assert [list(line) for line in lines] == [["i", "name", "doc", "crc"]] * len(lines)
    manifest = lines[0]["doc"]
    assert (lines[0]["i"], lines[0]["name"], manifest["format"]) == (-1, "filebroker", 1)
    assert lines[1]["name"] == "start"
    assert (manifest["state"] == "sealed") == (lines[-1]["name"] == "stop")
    assert [line["i"] for line in lines] == sorted(line["i"] for line in lines)
    assert manifest["documents"] == len(lines) - 1 + sum(entry["documents"] for entry in manifest["files"])
    for entry in manifest["files"]:
        assert set(entry) == {"path", "stream", "rows", "documents", "first", "last", "bytes", "sha256", "footer"}


# ----------------------------------------------------------------------------------------------------------- the page


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def in_example(monkeypatch):
    monkeypatch.chdir(EXAMPLE)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: " ".join(re.findall(r"import (\w+)", code)))
def test_python_recipes_of_the_page_run(code, in_example, capsys):
    names = {}
    exec(compile(code, "format.md", "exec"), names)
    if "table" in names and "directory" not in names:
        assert len(names["table"]) > 0
    else:
        assert len(capsys.readouterr().out.splitlines()) > len(EXAMPLE_RUNS)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_recipes_of_the_page_run(in_example):
    (code,) = blocks("sh")
    result = subprocess.run(code, shell=True, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    rows = [line.split("\t") for line in result.stdout.splitlines()[: len(EXAMPLE_RUNS)]]
    starts = [strangers.documents(directory)[0][1] for directory in EXAMPLE_RUNS]
    assert rows == [[str(start["scan_id"]), start["plan_name"], start["uid"]] for start in starts]
    assert json.loads(result.stdout.partition("\n{")[1].strip() + result.stdout.partition("\n{")[2]) in starts


def test_marker_of_the_page_has_the_keys_of_a_real_one(tmp_path):
    record(tmp_path, a_stream([]))
    for text in (
        blocks("json")[0],
        (EXAMPLE / "filebroker.json").read_text(),
        (tmp_path / "filebroker.json").read_text(),
    ):
        marker = json.loads(text)
        assert list(marker) == ["format", "requires", "id", "created", "layout", "crc"]
        assert f"{zlib.crc32(text.strip().encode()[:-18]):08x}" == marker["crc"]
        assert (marker["format"], marker["requires"]) == (1, [])
        assert str(uuid.UUID(marker["id"])) == marker["id"]
        assert datetime.fromisoformat(marker["created"]).tzinfo is not None


@pytest.mark.parametrize("line", [line for block in blocks("jsonl") for line in block.splitlines()])
def test_lines_of_the_page_have_good_checksums(line):
    text = line.encode()
    assert f"{zlib.crc32(text[:-18]):08x}" == json.loads(line)["crc"]


def worked_example():
    start, descriptor, stop = (json.loads(line)["doc"] for line in blocks("jsonl")[0].splitlines()[1:])
    events = [("event", json.loads(blocks("json")[2])) for _ in range(3)]
    for (_, event), (det, mode) in zip(events, [(1.5, "fast"), (2, "fast"), ("beam off", None)], strict=True):
        event["seq_num"] += (det == "beam off") - (det == 1.5)
        event |= {"uid": f"e{event['seq_num']}", "time": start["time"] + 0.25 + event["seq_num"]}
        event |= {"data": {"det": det, "mode": mode}, "timestamps": {"det": event["time"], "mode": start["time"]}}
    return [("start", start), ("descriptor", descriptor), *events, ("stop", stop)]


def test_worked_example_of_the_page_is_what_filebroker_writes(tmp_path):
    directory = record(tmp_path, worked_example())
    assert directory.relative_to(tmp_path).as_posix() == "2025/11/22/20251122T143205.250000Z-84d9ee44"
    head, _, body = (directory / "documents.jsonl").read_bytes().partition(b"\n")
    page_head, _, page_body = blocks("jsonl")[0].encode().partition(b"\n")
    assert body == page_body
    ours, theirs = json.loads(head)["doc"], json.loads(page_head)["doc"]
    assert ours["body"] == theirs["body"]
    (entry,), (page_entry,) = ours.pop("files"), theirs.pop("files")
    assert ours == theirs
    machine_made = ("bytes", "sha256", "footer")  # they depend on the version of pyarrow
    assert [item for item in entry.items() if item[0] not in machine_made] == [
        item for item in page_entry.items() if item[0] not in machine_made
    ]
    table = pq.ParquetFile(directory / "primary" / "00000.parquet").read()
    assert table.schema.metadata[b"filebroker"].decode() == blocks("json")[1].strip()
    header, rows = table_of_the_page("seq_num")
    assert table.column_names == header
    for name, cells in table.to_pydict().items():
        shown = [row[header.index(name)].strip("`") for row in rows]
        assert ["null" if cell is None else str(cell) for cell in cells] == shown


def table_of_the_page(first):
    """Give the header and the rows of the table of the page whose first column has that name."""
    text = PAGE.read_text(encoding="utf-8")
    match = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in match[0].splitlines()]
    return [cell.strip() for cell in split[0]], split[2:]


def test_lock_of_the_page_has_the_keys_of_a_real_one(tmp_path):
    recorder = Recorder(str(tmp_path), factories.start())
    (lock,) = (tmp_path / "_live").iterdir()
    assert lock.name == f"{os.path.basename(recorder.name).partition('-')[2]}.json"
    content, shown = json.loads(lock.read_bytes()), json.loads(blocks("json")[3])
    assert list(content) == list(shown)
    assert (content["directory"], content["inode"]) == (recorder.name, lock.stat().st_ino)
    recorder.close()


def interrupted(root):
    """Leave a run whose writer died, and give its lock and its directory."""
    recorder = Recorder(str(root), factories.start(), sync="never")
    recorder.close()
    (lock,) = (root / "_live").iterdir()
    return lock, root / recorder.name


def test_run_of_a_dead_writer_is_sealed_and_its_lock_removed(tmp_path):
    lock, directory = interrupted(tmp_path)
    recovery.recover_all(str(tmp_path))
    assert not lock.exists()
    assert [name for name, _ in strangers.documents(directory)] == ["start"]


@pytest.mark.parametrize("changed", [{"host": "another"}, {"inode": 1}])
def test_run_that_another_may_seal_is_left_alone(changed, tmp_path):
    lock, directory = interrupted(tmp_path)
    lock.write_text(json.dumps(json.loads(lock.read_bytes()) | changed))
    recovery.recover_all(str(tmp_path))
    assert lock.exists()
    assert [path.name for path in directory.iterdir()] == ["journal.00000.jsonl"]


def test_copy_of_a_catalog_is_left_alone(tmp_path):
    interrupted(tmp_path / "catalog")
    shutil.copytree(tmp_path / "catalog", tmp_path / "copy")
    recovery.recover_all(str(tmp_path / "copy"))
    (lock,) = (tmp_path / "copy" / "_live").iterdir()
    assert (tmp_path / "copy" / json.loads(lock.read_bytes())["directory"] / "journal.00000.jsonl").exists()


@pytest.mark.parametrize("change", ["elsewhere", "no run", "the lock of another"])
def test_lock_that_names_no_run_is_removed_and_nothing_else(change, tmp_path):
    root = tmp_path / "catalog"
    lock, directory = interrupted(root)
    content = json.loads(lock.read_bytes())
    if change == "the lock of another":
        lock = lock.rename(lock.with_name("another.json"))
    else:
        content["directory"] = {"elsewhere": f"../catalog/{content['directory']}", "no run": "2025"}[change]
    lock.write_text(json.dumps(content))
    recovery.recover_all(str(root))
    assert not lock.exists()
    assert [path.name for path in directory.iterdir()] == ["journal.00000.jsonl"]


@pytest.mark.parametrize(
    ("name", "encoded"), [[cell.strip("`") for cell in row] for row in table_of_the_page("name \\| encoded")[1]]
)
def test_names_of_the_page_are_encoded_so(name, encoded, tmp_path):
    directory = record(tmp_path, [("start", factories.start(uid=name))])
    assert directory.name.partition("-")[2] == encoded
    assert encode(name) == encoded
    assert urllib.parse.unquote(encoded) == name


def encode(name):
    """Encode a name by the steps that the page gives."""
    data = name.encode("utf-8", "surrogatepass")
    encoded = "".join(chr(byte) if re.match(rb"[A-Za-z0-9_.-]", bytes([byte])) else f"%{byte:02X}" for byte in data)
    reserved = re.match(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", encoded, re.IGNORECASE)
    if encoded.startswith((".", "_")) or reserved:
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if encoded.endswith("."):
        encoded = encoded[:-1] + "%2E"
    if not encoded:
        encoded = "%"
    if len(encoded) > 200:
        encoded = f"{encoded[:100]}~{hashlib.sha256(data).hexdigest()[:32]}"
    return encoded


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "...",
        "a.",
        "_",
        "con",
        "Con.x",
        "conx",
        "com1",
        "~",
        "%",
        "a" * 200,
        "a" * 201,
        "é" * 90,
        "\ud800",
        "\x00\n",
    ],
)
def test_any_stream_is_in_the_directory_that_the_page_says(name, tmp_path):
    directory = record(tmp_path, a_stream([{"det": 1}], name=name))
    assert [path.name for path in directory.iterdir() if path.is_dir()] == [encode(name)]


def test_streams_that_differ_in_case_have_directories_that_do_not(tmp_path):
    directory = record(tmp_path, names_beyond_imagination())
    names = [path.name for path in directory.iterdir() if path.is_dir()]
    assert {"Primary", "primary~2"} <= set(names)
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names) == 11
    manifest = json.loads((directory / "documents.jsonl").read_bytes().partition(b"\n")[0])["doc"]
    assert {entry["path"].partition("/")[0] for entry in manifest["files"]} == set(names)


@pytest.mark.parametrize("directory", EXAMPLE_RUNS, ids=lambda path: path.name[:20])
def test_example_runs_obey_the_naming_rules(directory):
    start = strangers.documents(directory)[0][1]
    time = datetime.fromtimestamp(start["time"], UTC)
    stamp = time.strftime("%Y%m%dT%H%M%S.%fZ")
    expected = f"{time:%Y/%m/%d}/{stamp}-{encode(start['uid'])}"
    assert directory.relative_to(EXAMPLE).as_posix() == expected
    files = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    manifest = json.loads((directory / "documents.jsonl").read_bytes().partition(b"\n")[0])["doc"]
    assert files == {"documents.jsonl", *(entry["path"] for entry in manifest["files"])}
    for entry in manifest["files"]:
        assert re.fullmatch(rf"{re.escape(encode(entry['stream']))}/\d{{5}}\.parquet", entry["path"])


def test_undated_run_is_in_the_undated_directory(tmp_path):
    directory = record(tmp_path, [("start", factories.start(uid="x", time=float("inf")))])
    assert directory.relative_to(tmp_path).as_posix() == "0000/00/00/00000000T000000.000000Z-x"


# ----------------------------------------------------------------------------------------------------------- live runs


def test_files_of_a_live_run_are_those_of_the_page(tmp_path):
    documents = a_stream([{"det": number, "img": np.arange(2)} for number in range(8)])
    recorder = Recorder(str(tmp_path), documents[0][1], sync="never", segment_documents=3)
    for name, doc in documents[1:-1]:
        recorder.insert(name, doc)
    recorder._finish_commit()
    directory = tmp_path / recorder.name
    found, files = [], []
    names = sorted(path.name for path in directory.glob("*.jsonl"))
    for number, name in enumerate(names):
        kind = "journal" if name == names[-1] else "docs"
        assert name == f"{kind}.{number:05d}.jsonl"
        head, *lines = [strangers.decode_line(line) for line in (directory / name).read_bytes().splitlines()]
        assert head[2] | {"files": []} == {
            **({"format": 1, "state": "segment"} if kind == "docs" else {"format": 1, "state": "live"}),
            **({} if kind == "docs" else {"run": documents[0][1]["uid"]}),
            **{"segment": number, "files": []},
        }
        found, files = found + lines, files + head[2].get("files", [])
    for entry in files:
        found += strangers.page_documents(pq.ParquetFile(directory / entry["path"]).read())
    found.sort(key=lambda item: item[0])
    assert [item[0] for item in found] == list(range(len(documents) - 1))
    assert first_difference(read_by_filebroker(directory), [item[1:] for item in found]) == ""
    recorder.close()
