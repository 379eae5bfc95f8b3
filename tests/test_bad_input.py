"""Documents that cannot be kept are refused with an error that says why; nothing good is ever lost to them."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import factories as make
from equality import first_difference
from filebroker import (
    Broker,
    Catalog,
    CatalogNotFound,
    DuplicateDocument,
    FilebrokerError,
    InvalidDocument,
    ReadOnlyCatalog,
    UnknownDocumentName,
    UnknownRun,
    UnstorableValue,
)
from filebroker.ground import errors


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


def insert(catalog: Catalog, documents: list) -> None:
    for name, doc in documents:
        catalog.insert(name, doc)


def recorded(catalog: Catalog) -> list:
    return [list(run.documents()) for run in Catalog(catalog.folder.url, read_only=True)]


def files_outside(root: Path) -> list[Path]:
    return [path for path in root.parent.rglob("*") if not path.is_relative_to(root) and path != root]


# -------------------------------------------------------------------------------------------- out of place


def test_an_unknown_name_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UnknownDocumentName, match=r"'evnt'.*the names are.*descriptor"):
        catalog.insert("evnt", {})
    with pytest.raises(AttributeError):
        catalog.insert("evnt", {})


@pytest.mark.parametrize("name", ["descriptor", "event", "event_page", "stop", "datum", "datum_page", "stream_datum"])
def test_a_document_of_an_unknown_run_is_refused(catalog: Catalog, name: str) -> None:
    begun = make.start()
    described = make.descriptor(begun)
    held = make.resource(begun)
    documents = {
        "descriptor": described,
        "event": make.event(described),
        "event_page": make.event_page(described),
        "stop": make.stop(begun),
        "datum": make.datum(held),
        "datum_page": make.datum_page(held),
        "stream_datum": {"uid": "x", "stream_resource": "y", "descriptor": described["uid"]},
    }
    with pytest.raises(UnknownRun, match=rf"{name} document.*which is no part of a run being recorded"):
        catalog.insert(name, documents[name])
    with pytest.raises(KeyError):
        catalog.insert(name, documents[name])


def test_documents_out_of_order_are_refused_and_can_come_later(catalog: Catalog) -> None:
    documents = make.run(2)
    start, descriptor, first, second, stop = documents
    catalog.insert(*start)
    with pytest.raises(UnknownRun, match="descriptor"):
        catalog.insert(*first)
    for pair in (descriptor, first, second, stop):
        catalog.insert(*pair)
    assert not first_difference(documents, recorded(catalog)[0])


def test_documents_after_the_stop_are_refused(catalog: Catalog) -> None:
    documents = make.run(2)
    insert(catalog, documents)
    for pair in documents[1:]:
        with pytest.raises(UnknownRun):
            catalog.insert(*pair)
    assert not first_difference(documents, recorded(catalog)[0])


# ------------------------------------------------------------------------------------------------ repeated


def test_the_same_document_twice_is_kept_once(catalog: Catalog) -> None:
    begun = make.start()
    described = make.descriptor(begun)
    held = make.resource(begun)
    documents = [
        *[("start", begun), ("descriptor", described), ("resource", held), ("datum", make.datum(held))],
        *[("event", make.event(described, 1)), ("event", make.event(described, 2))],
        ("event_page", make.event_page(described, [3, 4])),
    ]
    insert(catalog, [pair for pair in documents for _ in range(2)])
    insert(catalog, documents[1:])
    catalog.insert("stop", stop := make.stop(begun))
    assert not first_difference([*documents, ("stop", stop)], recorded(catalog)[0])


def test_a_whole_run_twice_is_kept_once(catalog: Catalog) -> None:
    documents = make.run(3)
    insert(catalog, documents)
    insert(catalog, documents)
    insert(Catalog(catalog.folder.url), documents)
    assert len(recorded(catalog)) == 1
    assert not first_difference(documents, recorded(catalog)[0])


@pytest.mark.parametrize("position", range(5))
def test_another_document_of_the_same_uid_is_refused(catalog: Catalog, position: int) -> None:
    documents = make.run(2)
    insert(catalog, documents[:-1] if position < 4 else documents)
    name, doc = documents[position]
    other = {**doc, "time": doc["time"] + 1}
    if position == 4:
        insert(catalog, documents[:1])  # the run is replayed
    with pytest.raises(DuplicateDocument, match=name):
        catalog.insert(name, other)
    with pytest.raises(FileExistsError):
        catalog.insert(name, other)
    if position < 4:
        catalog.insert(*documents[-1])
    assert not first_difference(documents, recorded(catalog)[0])


def test_another_run_of_the_same_uid_is_refused(catalog: Catalog) -> None:
    documents = make.run(2)
    insert(catalog, documents)
    with pytest.raises(DuplicateDocument, match="another start document"):
        catalog.insert("start", {**documents[0][1], "time": 5.0})
    with pytest.raises(DuplicateDocument, match="another start document"):
        Catalog(catalog.folder.url).insert("start", {**documents[0][1], "scan_id": 5})
    assert len(recorded(catalog)) == 1


def test_another_event_in_a_replayed_run_is_refused(catalog: Catalog) -> None:
    documents = make.run(2)
    insert(catalog, documents)
    insert(catalog, documents[:2])
    with pytest.raises(DuplicateDocument, match=r"event.*seq_num 7.*is not among its documents"):
        catalog.insert("event", make.event(documents[1][1], 7))


# ------------------------------------------------------------------------------------ missing and extra keys


@pytest.mark.parametrize("position", range(4))
def test_a_missing_required_key_is_named(catalog: Catalog, position: int) -> None:
    documents = make.run(1)
    for name, doc in documents[:position]:
        catalog.insert(name, doc)
    name, doc = documents[position]
    for key in errors_of(name):
        with pytest.raises(InvalidDocument, match=f"{name} document.*has no '{key}'"):
            catalog.insert(name, {other: value for other, value in doc.items() if other != key})
        with pytest.raises(InvalidDocument, match=f"{name} document.*'{key}' of type"):
            catalog.insert(name, {**doc, key: object()})
    insert(catalog, documents[position:])
    assert not first_difference(documents, recorded(catalog)[0])


def errors_of(name: str) -> list[str]:
    from filebroker.ground.documents import REQUIRED

    return list(REQUIRED[name])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"det": 1.0}, r"lacks \['motor'\]"),
        ({"det": 1.0, "motor": 2.0, "extra": 3.0}, r"has undeclared \['extra'\]"),
        ({"det": 1.0, "extra": 3.0}, r"lacks \['motor'\] and has undeclared \['extra'\]"),
        ({}, r"lacks \['det', 'motor'\]"),
    ],
)
@pytest.mark.parametrize("paged", [False, True])
def test_a_missing_or_extra_data_key_is_named(catalog: Catalog, data: dict, message: str, paged: bool) -> None:
    begun = make.start()
    described = make.descriptor(begun, ["det", "motor"])
    insert(catalog, [("start", begun), ("descriptor", described)])
    page = make.event_page(described, [1], {key: [5.0] for key in data})
    broken = ("event_page", page) if paged else ("event", make.event(described, 1, data))
    with pytest.raises(InvalidDocument, match=message):
        catalog.insert(*broken)
    good = make.event(described, 1)
    catalog.insert("event", good)
    assert recorded(catalog)[0][-1] == ("event", good)


def test_keys_whose_data_are_streamed_need_not_be_in_events(catalog: Catalog) -> None:
    begun = make.start()
    described = make.descriptor(begun, {"det": "number", "img": make.data_key("array", external="STREAM:")})
    event = make.event(described, 1, {"det": 1.0})
    insert(catalog, [("start", begun), ("descriptor", described), ("event", event)])
    assert recorded(catalog)[0][-1] == ("event", event)


def test_an_event_page_with_uneven_columns_is_refused(catalog: Catalog) -> None:
    begun = make.start()
    described = make.descriptor(begun)
    insert(catalog, [("start", begun), ("descriptor", described)])
    page = make.event_page(described, [1, 2, 3])
    for broken in ({"data": {"det": [1.0]}}, {"time": [1.0]}, {"data": {"det": 5.0}}):
        with pytest.raises(InvalidDocument, match="3 in seq_num"):
            catalog.insert("event_page", {**page, **broken})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"datum_kwargs": {"index": [5]}}, r"resource 'f.*has 1 values in datum_kwargs\['index'\], but 2 in datum_id"),
        ({"datum_kwargs": {"index": [5, 6, 7]}}, "has 3 values"),
        ({"datum_kwargs": {"index": 5}}, "has no list of values"),
        ({"datum_kwargs": {"index": "56"}}, "has no list of values"),
        ({"datum_id": ["a"]}, "has 2 values.* but 1 in datum_id"),
        ({"datum_id": [["a"], "b"]}, "a datum_id of type list"),
        ({"datum_id": [None, "b"]}, "a datum_id of type NoneType"),
        ({"datum_id": np.array([1, 2])}, "a datum_id of type int64"),
        ({"datum_id": np.array("a"), "datum_kwargs": {}}, "a datum_id of type ndarray"),
    ],
)
def test_a_datum_page_that_does_not_tell_each_datum_is_refused(catalog: Catalog, broken: dict, message: str) -> None:
    begun = make.start()
    held = make.resource(begun)
    insert(catalog, [("start", begun), ("resource", held)])
    page = make.datum_page(held, [0, 1])
    with pytest.raises(InvalidDocument, match=message):
        catalog.insert("datum_page", {**page, **broken})
    as_arrays = {"datum_id": np.array(page["datum_id"]), "datum_kwargs": {"index": np.array([0, 1])}}
    catalog.insert("datum_page", {**page, **as_arrays})
    catalog.insert("datum_page", {"datum_id": ["a", "b"], "resource": held["uid"], "datum_kwargs": {}})
    assert [name for name, _ in recorded(catalog)[0]] == ["start", "resource", "datum_page", "datum_page"]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("resource", "root", 5),
        ("resource", "path_semantics", ["posix"]),
        *(("stream_resource", key, ["a"]) for key in ("data_key", "mimetype", "uri", "spec", "root", "resource_path")),
        *(("stream_resource", key, [1]) for key in ("parameters", "resource_kwargs")),
        *(("stream_datum", key, [0, 1]) for key in ("descriptor", "seq_nums", "indices")),
    ],
)
def test_a_key_that_need_not_be_there_must_make_sense_if_it_is(
    catalog: Catalog, name: str, key: str, value: Any
) -> None:
    begun = make.start()
    described = make.descriptor(begun)
    insert(catalog, [("start", begun), ("descriptor", described)])
    bounds = {"start": 0, "stop": 1}
    good = {
        "resource": make.resource(begun),
        "stream_resource": {"uid": "r", "run_start": begun["uid"], "data_key": "det", "uri": "a", "parameters": {}},
        "stream_datum": {"uid": "d", "stream_resource": "r", "descriptor": described["uid"], "seq_nums": bounds},
    }
    insert(catalog, [("stream_resource", good["stream_resource"])])
    with pytest.raises(InvalidDocument, match=f"{name} document .*'{key}' of type"):
        catalog.insert(name, {**good[name], key: value})
    catalog.insert(name, good[name])
    assert len(recorded(catalog)[0]) == (3 if name == "stream_resource" else 4)


# ---------------------------------------------------------------------------------- values that JSON lacks

UNSTORABLE = {
    "bytes": b"raw",
    "complex": 1j,
    "datetime": datetime.datetime(2026, 1, 1),
    "date": datetime.date(2026, 1, 1),
    "decimal": decimal.Decimal("1.5"),
    "set": {1, 2},
    "object": object(),
    "generator": (number for number in range(3)),
    "numpy time": np.datetime64("2026-01-01"),
    "array of times": np.array(["2026-01-01"], "M8[ns]"),
    "array of bytes": np.array([b"raw"]),
    "array of complex numbers": np.array([1j]),
    "keys": {(1, 2): 3},
    "colliding keys": {1: 2, "1": 3},
    "integer of 5000 digits": 10**5000,
    "type": dict,
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_what_cannot_be_kept_is_refused_by_name(catalog: Catalog, value: Any) -> None:
    begun = make.start()
    with pytest.raises(UnstorableValue, match=r"in the start document .*, \['sample'\]\['parts'\]\[1\]"):
        catalog.insert("start", {**begun, "sample": {"parts": [0, value]}})
    described = make.descriptor(begun)
    insert(catalog, [("start", begun), ("descriptor", described)])
    with pytest.raises(UnstorableValue, match=r"\['data'\]\['det'\]"):
        catalog.insert("event", make.event(described, 1, {"det": value}))
    with pytest.raises(UnstorableValue, match=r"\['data'\]\['det'\]"):
        catalog.insert("event_page", make.event_page(described, [1], {"det": [value]}))
    good = [("event", make.event(described, 1)), ("stop", make.stop(begun))]
    insert(catalog, good)
    assert not first_difference([("start", begun), ("descriptor", described), *good], recorded(catalog)[0])


def test_nesting_without_end_is_refused(catalog: Catalog) -> None:
    endless: list = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises(UnstorableValue, match="deeper than"):
            catalog.insert("start", make.start(value=value))


# ------------------------------------------------------------------------------------------------- names

NAMES = [
    "../../x",
    "/etc/passwd",
    "C:\\x",
    "x" * 1000,
    "é" * 500,
    "CON",
    "nul.txt",
    "a\nb",
    "a\x00b",
    ".",
    "..",
    "a.",
    "~",
]
NAMES += [
    "-x",
    "{{ shell('id') }}",
    "{% x %}",
    "$HOME",
    "%2e%2e",
    "cafe\u0301",
    "caf\u00e9",
    "\ud800",
    " ",
    "a/b",
    "_datum",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_uid_and_any_stream_name_is_kept_inside_the_root(catalog: Catalog, name: str) -> None:
    begun = make.start(uid=name)
    described = make.descriptor(begun, name=name)
    documents = [
        ("start", begun),
        ("descriptor", described),
        ("event", make.event(described)),
        ("stop", make.stop(begun)),
    ]
    insert(catalog, documents)
    root = Path(catalog.folder.url)
    assert not files_outside(root)
    assert all(len(part) <= 255 for path in root.rglob("*") for part in path.parts)
    run = Catalog(root).by_uid(name)
    assert run.stream_names == [name]
    assert not first_difference(documents, list(run.documents()))
    assert Broker(root)[-1].uid == name
    assert len(run[name].to_pandas()) == 1
    insert(catalog, documents)  # the same run again changes nothing
    assert len(catalog) == 1


def test_an_empty_uid_is_refused(catalog: Catalog) -> None:
    with pytest.raises(InvalidDocument, match="empty 'uid'"):
        catalog.insert("start", make.start(uid=""))


def test_an_empty_stream_name_is_kept(catalog: Catalog) -> None:
    begun = make.start()
    described = make.descriptor(begun, name="")
    documents = [
        ("start", begun),
        ("descriptor", described),
        ("event", make.event(described)),
        ("stop", make.stop(begun)),
    ]
    insert(catalog, documents)
    assert not first_difference(documents, recorded(catalog)[0])


def test_streams_and_uids_that_differ_only_in_case_are_kept_apart(catalog: Catalog) -> None:
    for uid in ("abc", "ABC"):
        begun = make.start(uid=uid)
        insert(catalog, [("start", begun)])
        for name in ("primary", "Primary", "PRIMARY"):
            described = make.descriptor(begun, name=name)
            insert(catalog, [("descriptor", described), ("event", make.event(described, 1))])
        insert(catalog, [("stop", make.stop(begun))])
        run = catalog.by_uid(uid)
        assert [len(run[name].to_pandas()) for name in run.stream_names] == [1, 1, 1]
        folders = [path.name.casefold() for path in Path(catalog.folder.path(run.directory)).iterdir() if path.is_dir()]
        assert len(set(folders)) == 3


@pytest.mark.parametrize("time", [-1.0, 0, 1e10, 1e30, float("nan"), float("inf"), -1e18, 10**400])
def test_any_time_is_kept(catalog: Catalog, time: Any) -> None:
    documents = make.run(1)
    documents[0] = ("start", {**documents[0][1], "time": time})
    insert(catalog, documents)
    assert not first_difference(documents, recorded(catalog)[0])
    assert "Header" in repr(Broker(catalog.folder.url)[-1])
    assert "<table>" in Broker(catalog.folder.url)[-1]._repr_html_()


# -------------------------------------------------------------------------------------------- old forms


def test_bulk_documents_are_stored_as_the_documents_that_replaced_them(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    begun = make.start()
    described = make.descriptor(begun)
    held = make.resource(begun)
    for pair in (("start", begun), ("descriptor", described), ("resource", held)):
        broker.insert(*pair)
    events = [make.event(described, number) for number in (1, 2)]
    bulk = {"resource": held["uid"], "datum_ids": ["a", "b"], "datum_kwarg_list": [{"n": 1}, {"n": 2}]}
    with pytest.warns(UserWarning, match="bulk_datum is an old form"):
        broker.insert("bulk_datum", bulk)
    with pytest.warns(UserWarning, match="bulk_events is an old form"):
        broker.insert("bulk_events", {"primary": events})
    names = [name for name, _ in broker[-1].documents()]
    assert names == ["start", "descriptor", "resource", "datum", "datum", "event", "event"]
    assert list(broker[-1].table()["det"]) == [0.5, 0.5]


def test_a_descriptor_without_a_name_is_of_the_primary_stream(catalog: Catalog) -> None:
    begun = make.start()
    described = make.descriptor(begun, name=None)
    documents = [
        ("start", begun),
        ("descriptor", described),
        ("event", make.event(described)),
        ("stop", make.stop(begun)),
    ]
    insert(catalog, documents)
    assert catalog.newest(1).stream_names == ["primary"]
    assert not first_difference(documents, recorded(catalog)[0])


def test_a_resource_without_its_run_belongs_to_the_run_being_recorded(catalog: Catalog) -> None:
    begun = make.start()
    held = {key: value for key, value in make.resource(begun).items() if key != "run_start"}
    with pytest.raises(UnknownRun, match="names no run"):
        catalog.insert("resource", held)
    documents = [("start", begun), ("resource", held), ("datum", make.datum(held)), ("stop", make.stop(begun))]
    insert(catalog, documents)
    assert not first_difference(documents, recorded(catalog)[0])


# ----------------------------------------------------------------------------------------------- catalogs


def test_a_folder_of_other_things_is_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CatalogNotFound, match=r"no filebroker\.json and no runs, but thesis.tex"):
        Catalog(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_missing_folder_is_made_by_the_first_document_alone(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "new" / "catalog")
    assert len(catalog) == 0
    assert not (tmp_path / "new").exists()
    insert(catalog, make.run(1))
    assert len(Catalog(tmp_path / "new" / "catalog")) == 1


def test_a_missing_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CatalogNotFound, match="check the path"):
        Catalog(tmp_path / "typo", read_only=True)


def test_a_catalog_opened_for_reading_refuses_documents(catalog: Catalog) -> None:
    insert(catalog, make.run(1))
    reader = Catalog(catalog.folder.url, read_only=True)
    for pair in make.run(1):
        with pytest.raises(ReadOnlyCatalog):
            reader.insert(*pair)
    with pytest.raises(PermissionError):
        reader.insert("start", make.start())


def test_every_error_has_the_base_and_a_builtin() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    raised = [value for value in found if not issubclass(value, Warning) and value is not FilebrokerError]
    assert len(raised) > 15
    for error in raised:
        assert issubclass(error, FilebrokerError)
        builtins = [base for base in error.__mro__ if base.__module__ == "builtins"]
        assert builtins[0] not in (Exception, BaseException, object), error


def test_a_marker_that_is_a_link_to_nothing_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "filebroker.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CatalogNotFound, match="a link that leads nowhere"):
        Catalog(tmp_path, read_only=True)
