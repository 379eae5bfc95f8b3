"""What people do at the prompt: copies, pickles, slips of the finger, and the scripts of a decade."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import factories as make
import filebroker
from filebroker import (
    AmbiguousPrefix,
    Broker,
    Catalog,
    CatalogNotFound,
    InvalidConfig,
    InvalidLookup,
    InvalidQuery,
    NotEnoughRuns,
    RecoveryWarning,
    RunNotFound,
    UnknownDatum,
)
from filebroker.cataloging import shelf
from filebroker.cataloging.run import Run
from filebroker.finding import query as query_module
from filebroker.storing import recovery


@pytest.fixture
def db(tmp_path: Path) -> Broker:
    broker = Broker(tmp_path / "catalog")
    for number in range(1, 4):
        for pair in make.run(2, scan_id=number, time=make.T0 + number, motors=["eta", "mu"]):
            broker.insert(*pair)
    return broker


# -------------------------------------------------------------------------------------------- copies


def test_headers_and_brokers_can_be_pickled(db: Broker) -> None:
    header = pickle.loads(pickle.dumps(db[-1]))
    assert header == db[-1]
    assert header.table().equals(db[-1].table())
    assert [found.uid for found in pickle.loads(pickle.dumps(db))()] == [found.uid for found in db()]


def test_results_can_be_pickled_and_keep_their_filters(db: Broker) -> None:
    db.add_filter(scan_id={"$gt": 1})
    results = db("count", since=make.T0)
    assert len(results) == 2
    db.clear_filters()
    for again in (pickle.loads(pickle.dumps(results)), copy.copy(results)):
        assert [header.uid for header in again] == [header.uid for header in results]
        assert repr(again) == repr(results)


def test_documents_can_be_copied_pickled_and_written(db: Broker) -> None:
    start = db[-1].start
    for copied in (copy.copy(start), copy.deepcopy(start)):
        assert type(copied) is dict  # whoever copies a document wants to change it
        assert copied == dict(start)
    again = pickle.loads(pickle.dumps(start))
    assert again == start
    assert type(again) is type(start)
    assert json.loads(json.dumps(start)) == dict(start)
    assert "_name" not in json.loads(json.dumps(start))


def test_a_run_copied_through_the_prompt_is_the_same_run(db: Broker, tmp_path: Path) -> None:
    other = Broker(tmp_path / "other")
    db.process(db[-1], other.insert)
    plain = [(name, dict(doc)) for name, doc in db[-1].documents()]
    assert list(other.catalog.newest(1).documents()) == plain
    for pair in plain:  # inserting it again, unwrapped, changes nothing
        other.insert(*pair)
    db.process(db[-1], other.insert)
    assert len(other.catalog) == 1


# --------------------------------------------------------------------------------- slips of the finger


def test_a_typo_in_sync_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"'allways' means nothing; it is one of 'interval', 'always', 'never'"):
        Broker(tmp_path, sync="allways")  # type: ignore[arg-type]


def test_options_beside_a_catalog_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="belong to the Catalog"):
        Broker(Catalog(tmp_path), read_only=True)


def test_a_typo_in_a_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughRuns, match="does not exist yet; check the path"):
        Broker(tmp_path / "my_beamtme")[-1]
    (tmp_path / "file").touch()
    with pytest.raises(CatalogNotFound, match="is a file; a catalog is a directory"):
        Broker(tmp_path / "file")


def test_a_broker_is_no_list(db: Broker) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(db)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        1 in db  # type: ignore[operator]  # noqa: B015
    assert db[db[-1]] == db[-1]


@pytest.mark.parametrize(
    ("key", "written"), [(slice(None, None, 2), "::2"), (slice(None, -2), ":-2"), (slice(3, 5), "3:5")]
)
def test_a_slice_that_counts_from_the_oldest_is_quoted(db: Broker, key: slice, written: str) -> None:
    with pytest.raises(InvalidLookup, match=f"db.{written}. would count from the oldest"):
        db[key]


def test_a_search_for_something_else_than_words_is_explained(db: Broker) -> None:
    with pytest.raises(InvalidQuery, match="are of type dict; give a string"):
        db({"plan_name": "scan"})  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="no run can be found by"):
        db(sample=b"raw")


def test_what_a_broker_does_not_have_is_an_attribute_error(db: Broker) -> None:
    with pytest.raises(AttributeError, match=r"has no 'nosuch'$"):
        db.nosuch  # noqa: B018
    for name in ("mds", "assets", "hs", "event_sources", "event_source_for_insert", "stats"):  # gone since databroker 1
        assert not hasattr(db, name)


@pytest.mark.parametrize("name", ["my scans", "2nd", "my-scans", "class", "", "a.b", 5])
def test_an_alias_that_cannot_be_typed_is_refused(db: Broker, name: Any) -> None:
    for add in (lambda: db.alias(name, scan_id=1), lambda: db.dynamic_alias(name, dict)):
        with pytest.raises(InvalidLookup, match=r"cannot be typed after 'db\.'; give letters"):
            add()
    assert not db.aliases


def test_filters_and_aliases_take_words_as_a_search_does(db: Broker) -> None:
    for pair in make.run(1, uid="lab6", time=make.T0 + 9, sample="LaB6"):
        db.insert(*pair)
    db.alias("standards", "LaB6", since=make.T0)
    assert [header.uid for header in db.standards] == ["lab6"]
    assert db.aliases == {"standards": {"text_search": "LaB6", "since": make.T0}}
    db.add_filter("LaB6")
    assert [header.uid for header in db()] == ["lab6"]
    with pytest.raises(InvalidQuery, match="give a string"):
        db.add_filter({"sample": "LaB6"})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- what is shown


def test_filters_are_shown(db: Broker) -> None:
    db.add_filter(scan_id=2)
    for shown in (repr(db), db._repr_html_().replace("&#x27;", "'")):
        assert f"Broker at {db.catalog.folder.url}, filtered by scan_id=2" in shown
    assert repr(db("count")).startswith("<Results of db('count'), filtered by scan_id=2: 1 run>")
    assert "filtered by scan_id=2" in str(db("count").explain())
    db.clear_filters()
    assert "filtered" not in repr(db) + repr(db("count"))


@pytest.mark.parametrize(
    ("search", "shown"),
    [
        ({"plan_name": "count", "text_search": "count"}, "db('count', plan_name='count'): 3 runs"),
        ({"motors.0": "eta", "scan_id": 2}, "db(scan_id=2, **{'motors.0': 'eta'}): 1 run"),
        ({"scan": 2}, "db(scan=2): 0 runs; no run has the key 'scan', see keys_seen()"),
        ({"scan_id": 9}, "db(scan_id=9): 0 runs"),
        ({"$or": [{"a": 1}, {"b": 2}], "since": 0}, "0 runs; no run has the key 'a' or 'b', see keys_seen()"),
    ],
)
def test_a_search_is_shown_as_it_is_written(db: Broker, search: dict[str, Any], shown: str) -> None:
    results = db(**search)
    assert f"{shown}>" in repr(results)
    assert f"{shown}</b>" in results._repr_html_().replace("&#x27;", "'")


def test_a_long_search_is_shown_in_part(db: Broker) -> None:
    many = {"uid": {"$in": [f"{number:032}" for number in range(5000)]}}
    for results in (db(**many), db("word " * 5000)):
        for shown in (repr(results), results._repr_html_(), str(results.explain())):
            assert "..." in shown
            assert len(shown) < 1000
    found = db.v2.search(many)
    assert max(len(repr(found)), len(found._repr_html_()), len(str(found._runs.explain()))) < 1000
    with pytest.raises(RunNotFound) as caught:
        found["x"]
    assert len(str(caught.value)) < 1000
    db.add_filter(**many)
    assert len(repr(db)) < 1000


def test_a_search_that_takes_too_long_can_be_looked_at(db: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_module, "REGEX_SECONDS", 0.05)
    for pair in make.run(1, comment="a" * 60 + "!"):
        db.insert(*pair)
    found = db.v2.search({"comment": {"$regex": "(a|aa)+$"}})
    for shown in (db(comment={"$regex": "(a|aa)+$"}), found, found.v1):
        for text in (repr(shown), shown._repr_html_()):
            assert shown is found.v1 or "it could not be answered, because the regular expressions" in text


def test_catalogs_are_shown_in_notebooks_and_offer_their_keys(db: Broker) -> None:
    catalog = db.v2
    assert repr(catalog) == f"<RunCatalog: 3 runs at {db.catalog.folder.url}>"
    assert repr(catalog.search({"scan_id": 1})).startswith("<RunCatalog 'search results': 1 run at search(")
    for shown in (db, catalog):
        assert shown._repr_html_().count("<tr>") == 4
    assert catalog._ipython_key_completions_() == list(catalog)
    assert "<table" not in catalog.search({"scan_id": 9})._repr_html_()


@pytest.mark.parametrize("name", ["RunCatalog", "Explanation", "Survey"])
def test_what_people_get_in_hand_can_be_imported(db: Broker, name: str) -> None:
    given = {"RunCatalog": db.v2, "Explanation": db().explain(), "Survey": db.refresh()}[name]
    assert type(given) is getattr(filebroker, name)
    assert name in filebroker.__all__


# ------------------------------------------------------------------------------------------ searching


@pytest.mark.parametrize("motors", [["eta", "mu"], ("eta", "mu"), np.array(["eta", "mu"]), "eta"])
def test_lists_are_found_however_they_are_written(db: Broker, motors: object) -> None:
    assert len(list(db(motors=motors))) == 3


def test_digits_that_are_no_scan_id_begin_a_uid(db: Broker) -> None:
    for pair in make.run(1, uid="84910123-aaaa", scan_id=9):
        db.insert(*pair)
    assert db["84910123"].uid == "84910123-aaaa"
    assert db["2"].start["scan_id"] == 2
    with pytest.raises(RunNotFound, match=r"No run with scan_id=777 .* and no uid begins with '777'"):
        db["777"]


def test_undated_runs_are_listed_among_candidates(db: Broker) -> None:
    for uid in ("aa1", "aa2"):
        db.insert("start", make.start(uid=uid, time=float("nan")))
    with pytest.raises(AmbiguousPrefix, match="aa1  nan  scan_id 1"):
        db["aa"]


def test_one_string_is_one_field(db: Broker) -> None:
    assert db[-1].table(fields="det").columns.tolist() == ["time", "det"]
    assert db.get_table(db[-2:], fields="det").shape == (4, 2)


# ------------------------------------------------------------------------------------- data and states


def test_external_data_that_the_events_hold_are_given(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    begun = make.start()
    described = make.descriptor(begun, {"img": make.data_key("array", external="FILESTORE:")})
    broker.insert("start", begun)
    broker.insert("descriptor", described)
    broker.insert("event", make.event(described, 1, {"img": np.ones((2, 2))}, filled={"img": True}))
    assert next(broker[-1].data("img")).tolist() == [[1, 1], [1, 1]]
    assert len(broker[-1].table(fill=True)) == 1
    assert len(list(broker[-1].documents(fill=True))) == 3
    broker.insert("event", make.event(described, 2, {"img": "datum/1"}, filled={"img": False}))
    with pytest.raises(UnknownDatum, match=r"datum/1"):
        list(broker[-1].data("img"))
    assert len(list(broker[-1].documents(fields=["other"], fill=True))) == 2


def test_the_state_of_a_run_is_told(db: Broker) -> None:
    begun = make.start(time=make.T0 + 50)
    db.insert("start", begun)
    assert db[-1].state == "live"
    assert "in progress" in repr(db[-1])
    db.close()
    with pytest.warns(RecoveryWarning, match="was cut short"):
        again = Broker(db.catalog.folder.url)
    assert again[-1].state == "interrupted"
    assert "interrupted" in repr(again[-1])
    assert again[-2].state == "sealed"


def test_runs_of_another_machine_are_sealed_on_request_alone(db: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    db.insert("start", make.start(time=make.T0 + 50))
    db.close()
    monkeypatch.setattr(recovery.socket, "gethostname", lambda: "another")
    again = Broker(db.catalog.folder.url)
    assert again[-1].state == "live"
    with pytest.warns(RecoveryWarning, match="was cut short"):
        again.catalog.seal_interrupted()
    assert Broker(db.catalog.folder.url)[-1].state == "interrupted"


def test_times_beyond_a_table_are_told(db: Broker) -> None:
    begun = make.start(time=make.T0 + 50)
    described = make.descriptor(begun)
    for pair in [("start", begun), ("descriptor", described), ("event", make.event(described, 1, time=1e30))]:
        db.insert(*pair)
    with pytest.warns(UserWarning, match="given as NaT"):
        assert db[-1].table()["time"].isna().all()
    assert db[-1].table(convert_times=False, localize_times=False)["time"].tolist() == [1e30]


def test_a_run_that_was_listed_is_read_as_it_is_now(db: Broker) -> None:
    begun = make.start(time=make.T0 + 50)
    db.insert("start", begun)
    assert len(list(db())) == 4
    described = make.descriptor(begun)
    db.insert("descriptor", described)
    db.insert("event", make.event(described, 1))
    assert len(db[-1].table()) == 1


def test_keys_that_begin_with_an_underscore_are_kept_by_copies(db: Broker, tmp_path: Path) -> None:
    db.insert("start", make.start(_beamline="b1", time=make.T0 + 50))
    start = db[-1].start
    for again in (dict(start), copy.copy(start), pickle.loads(pickle.dumps(start))):
        assert again["_beamline"] == "b1"
    other = Broker(tmp_path / "other")
    for name, doc in db[-1].documents():
        other.insert(name, doc)
    assert other[-1].start["_beamline"] == "b1"


def test_two_subscriptions_record_each_event_once(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    documents = make.run(200)
    for pair in documents[:-1]:
        broker.insert(*pair)
        broker.insert(*pair)
    assert len(broker[-1].table()) == 200


def test_runs_that_are_kept_in_memory_are_bounded_without_weighing_all_of_them_each_time(
    db: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[Run] = []
    weigh = Run.size.fget
    monkeypatch.setattr(Run, "size", property(lambda run: weighed.append(run) or weigh(run)))
    for number in range(20):
        for pair in make.run(1, time=make.T0 + 60 * number):
            db.insert(*pair)
    catalog = Catalog(db.catalog.folder.url, read_only=True)
    runs = list(catalog)
    assert len(weighed) <= 2 * len(runs)
    monkeypatch.setattr(shelf, "_KEPT_BYTES", bound := sum(weigh(run) for run in runs) // 3)
    catalog = Catalog(db.catalog.folder.url, read_only=True)
    for _ in catalog:
        assert 0 < sum(weigh(run) for run in catalog._shelf._runs.values()) <= bound
