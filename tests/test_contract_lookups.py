"""Which run a key or a search gives, through both faces, as one table each: sections 3 and 4 of the contract."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import factories
from factories import T0
from filebroker import Broker, temp
from filebroker.queries import TextQuery, TimeRange
from servers import new_bucket, options_for

DAY = 86400.0
#: scan_id, uid and further keys of the runs, oldest first; one a day, the last two on one day with one scan_id.
RUNS: list[tuple[int | None, str, dict[str, Any]]] = [
    (0, "aaaa1111-zero", {"sample": "LaB6", "motors": ["mx", "my"], "num": 5, "plan_name": "scan"}),
    (1, "aaaa2222-one", {"sample": {"name": "copper foil", "layers": [1, 2]}, "num": 10.0, "plan_name": "count"}),
    (2, "bbbb-two", {"sample": "Fe2O3", "operator": "Ångström", "none": None, "plan_name": "scan"}),
    (None, "12345678-none", {"operator": 'said "good morning"', "deep": {"er": {"est": "needle"}}, "flag": True}),
    (3, "cccc-three", {"sample": "copper", "num": "5", "plan_name": "rel_scan"}),
    (3, "cccc-four", {"purpose": "alignment", "num": 15, "data_key": "of the start document"}),
]
ALL_UIDS = [uid for _, uid, _ in reversed(RUNS)]


@pytest.fixture(scope="module", params=["local", "memory", "s3"])
def db(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Broker]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FILEBROKER_CACHE", str(home / "cache"))
        patch.setenv("FILEBROKER_STAGING", str(home / "staging"))
        yield from recorded(request.param, str(home), s3_endpoint)


def recorded(place: str, home: str, endpoint: str) -> Iterator[Broker]:
    """Give a broker of the runs on a local disk, or in a store when they have gone up."""
    match place:
        case "local":
            broker = temp()
        case "memory":
            broker = Broker(f"memory://{home}")
        case _:
            broker = Broker(f"s3://{new_bucket(endpoint)}/lookups", storage_options=options_for(endpoint))
    for number in (3, 0, 5, 1, 4, 2):  # the order of insertion says nothing
        scan_id, uid, keys = RUNS[number]
        fields = ["det", "extra"] if uid == "bbbb-two" else ["det"]
        documents = factories.run(1, fields, uid=uid, time=T0 + number * DAY, scan_id=scan_id, **keys)
        if scan_id is None:
            del documents[0][1]["scan_id"]
        for name, doc in documents:
            broker.insert(name, doc)
    broker.flush()
    yield broker
    broker.close()


def uids(found: Any) -> Any:
    """Give the uid of a run of either face, or those of a list of them."""
    return [uids(item) for item in found] if isinstance(found, list) else found.uid


# -- lookups

ZERO, ONE, TWO, NONE, THREE, FOUR = (uid for _, uid, _ in RUNS)

#: Keys of one run, which both faces know, and what they give.
KEYS: list[tuple[Any, Any]] = [
    *[(-1, FOUR), (-2, THREE), (-3, NONE), (-6, ZERO)],
    *[(0, ZERO), (1, ONE), (2, TWO), (3, FOUR)],
    *[("-1", FOUR), ("-6", ZERO), ("+1", ONE), ("0", ZERO), ("3", FOUR), (" 1", ONE)],
    *[(True, ONE), (False, ZERO), (1.0, ONE)],
    *[
        (kind(number), uid)
        for kind in (np.int8, np.int64, np.float64)
        for number, uid in ((-1, FOUR), (3, FOUR), (0, ZERO))
    ],
    *[(np.uint8(3), FOUR), (np.str_("bbbb"), TWO), (np.bool_(True), ONE)],
    *[(uid, uid) for uid in ALL_UIDS],
    *[
        ("aaaa1", ZERO),
        ("aaaa2", ONE),
        ("b", TWO),
        ("bbbb-tw", TWO),
        ("cccc-t", THREE),
        ("12345678-", NONE),
        ("12345678", NONE),
    ],
]
#: Keys that give no run, and the errors of both faces.
WITHOUT: list[tuple[Any, Any]] = [
    *[(key, IndexError) for key in (-7, -1000, "-7", np.int64(-7), -(10**30))],
    *[(key, KeyError) for key in (4, 99, "99", np.int64(99), 10**30, "zzzz", "AAAA", "aaaa1111-zero ", "one")],
    *[(key, ValueError) for key in ("aaaa", "a", "cccc-", "")],
    *[(key, TypeError) for key in (None, b"aaaa1111-zero")],
    *[(key, (TypeError, ValueError, KeyError)) for key in (float("nan"), float("inf"), 1j, object())],
]
#: Keys of several runs, which version 1 alone has.
LISTS: list[tuple[Any, Any]] = [
    *[(slice(-3, None), [FOUR, THREE, NONE]), (slice(-6, None), ALL_UIDS), (slice(-1, None), [FOUR])],
    *[(slice(-2, 0), [FOUR, THREE]), (slice(-3, -1), [THREE, NONE]), (slice(-6, -4), [ONE, ZERO])],
    *[
        (slice(-6, None, 2), [THREE, TWO, ZERO]),
        (slice(-6, None, 4), [THREE, ZERO]),
        (slice(-1, -4, -1), [NONE, THREE, FOUR]),
    ],
    *[(slice(-1, -1), []), (slice(-1, -3), []), (slice(-3, None, -1), []), (slice(np.int64(-2), None), [FOUR, THREE])],
    *[([], []), ((), []), ([1, "bbbb", -1], [ONE, TWO, FOUR]), ((0, 0), [ZERO, ZERO]), ({2}, [TWO])],
    *[(range(3), [ZERO, ONE, TWO]), (np.array([-1, 0]), [FOUR, ZERO]), (np.array(["bbbb"]), [TWO])],
    *[
        ({"bbbb": None}, [TWO]),
        ([[1], [], [2, [0]]], [[ONE], [], [TWO, [ZERO]]]),
        ([slice(-2, None), 0], [[FOUR, THREE], ZERO]),
    ],
]
NO_LISTS: list[tuple[Any, type[Exception]]] = [
    *[
        (key, ValueError)
        for key in (slice(None), slice(0, None), slice(2, None), slice(None, -2), slice(-2, 1), slice(None, 3))
    ],
    *[(key, IndexError) for key in (slice(-7, None), slice(-99, -1), [-1, -7], (0, [-7]))],
    *[(key, KeyError) for key in ([0, 99], ["zzzz", 0], {"no", "nor"})],
    *[(key, ValueError) for key in (["aaaa"], [slice(None)])],
    *[(key, TypeError) for key in ([None], [0, [None]], [b"aaaa"])],
]


@pytest.mark.parametrize(("key", "uid"), KEYS, ids=repr)
def test_a_key_gives_one_run_by_both_faces(db: Broker, key: Any, uid: str) -> None:
    assert db[key].uid == db[key].start["uid"] == uid
    assert db.v2[key].metadata["start"]["uid"] == uid
    assert db[[key]] == [db[uid]]


@pytest.mark.parametrize(("key", "error"), WITHOUT, ids=repr)
def test_a_key_of_no_run_is_the_same_error_by_both_faces(db: Broker, key: Any, error: Any) -> None:
    for face in (db, db.v2, db.v2.search({})):
        with pytest.raises(error):
            face[key]


@pytest.mark.parametrize(("key", "expected"), LISTS, ids=repr)
def test_a_key_of_several_runs_gives_a_list_by_version_1_alone(db: Broker, key: Any, expected: Any) -> None:
    found = db[key]
    assert type(found) is list
    assert uids(found) == expected
    with pytest.raises(TypeError):
        db.v2[key]


@pytest.mark.parametrize(("key", "error"), NO_LISTS, ids=repr)
def test_the_first_key_that_fails_fails_the_list(db: Broker, key: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        db[key]
    with pytest.raises(TypeError):
        db.v2[key]


def test_iterators_of_keys_are_gone_through_once(db: Broker) -> None:
    keys = iter([1, -1])
    assert uids(db[keys]) == [ONE, FOUR]
    assert uids(db[keys]) == []
    assert uids(db[(number for number in range(2))]) == [ZERO, ONE]


def test_the_messages_say_how_many_runs_there_are_and_which_uids_begin_so(db: Broker) -> None:
    for key in (-7, slice(-7, None)):
        with pytest.raises(IndexError, match=r"Catalog only contains 6 runs\."):
            db[key]
    with pytest.raises(IndexError, match=r"Catalog only contains 1 runs\."):
        db.v2.search({"operator": "Ångström"})[-2]
    with pytest.raises(KeyError, match="No run with scan_id=99"):
        db[99]
    with pytest.raises(ValueError, match=r"(?s)cccc-four.*cccc-three"):
        db["cccc"]


@pytest.mark.parametrize("key", [-1, 3, "3", "cccc", "cccc-four", 0, "aaaa", "aaaa1111-zero", -3])
def test_lookups_in_a_search_see_its_runs_alone(db: Broker, key: Any) -> None:
    found = db.v2.search({"uid": {"$in": [THREE, ONE]}})
    expected = {-1: THREE, 3: THREE, "3": THREE, "cccc": THREE, "aaaa": ONE}
    for face in (found, found.v1):
        if key in expected:
            assert face[key].uid == expected[key]
        else:
            with pytest.raises((KeyError, IndexError)):
                face[key]


@pytest.mark.parametrize(
    ("key", "is_in"),
    [
        *[(uid, True) for uid in ALL_UIDS],
        ("aaaa1", None),
        ("zzzz", False),
        ("", False),
        (None, False),
        (1.5, False),
        ([], False),
    ],
)
def test_complete_uids_are_in_a_catalog(db: Broker, key: Any, is_in: bool | None) -> None:
    if is_in is not None:  # MongoDB's catalog has prefixes too, file drivers have not
        assert (key in db.v2) is is_in
        assert (key in db.v2.search({})) is is_in
    assert (key in db.v2.search({"uid": "no such"})) is False


def test_filters_do_not_concern_lookups(db: Broker) -> None:
    db.add_filter(plan_name="scan")
    try:
        assert uids(list(db())) == [TWO, ZERO]
        assert uids([db[-1], db[3], db["cccc-t"], *db[-2:]]) == [FOUR, FOUR, THREE, FOUR, THREE]
        assert len(db.v2) == len(db.v2.search({})) == 6
    finally:
        db.clear_filters()


# -- searches

#: Keywords of a search of version 1, and the uids that it gives.
SEARCHES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ALL_UIDS),
    # words
    *[({"text_search": text}, [ONE]) for text in ("foil", "FOIL")],
    *[({"text_search": text}, [THREE, ONE]) for text in ("copper", "COPPER", "copper zzzz")],
    *[({"text_search": text}, [NONE]) for text in ("needle", '"good morning"', "morning", "good")],
    *[({"text_search": text}, []) for text in ("sample", "operator", "deep", "est", "need", '"morning good"')],
    *[({"text_search": "copper -foil"}, [THREE]), ({"text_search": "lab6 alignment"}, [FOUR, ZERO])],
    # times, both ends included
    *[({"since": T0 + 3 * DAY}, [FOUR, THREE, NONE]), ({"until": T0 + DAY}, [ONE, ZERO])],
    *[({"since": T0 + DAY, "until": T0 + 2 * DAY}, [TWO, ONE]), ({"since": T0 + DAY, "until": T0}, [])],
    ({"since": np.float64(T0 + 5 * DAY)}, [FOUR]),
    ({"since": datetime.fromtimestamp(T0 + 5 * DAY)}, [FOUR]),  # without a zone it is local
    ({"since": datetime.fromtimestamp(T0 + 5 * DAY, UTC)}, [FOUR]),
    *[({"since": since}, ALL_UIDS) for since in (None, "2025", " 2025-11 ", "2025-11-20", "1999-1-2 3")],
    *[({"until": until}, []) for until in ("2025", "2025-11-20 3:4:5", "2024-2-29")],
    *[({"since": None, "until": None, "data_key": None}, ALL_UIDS)],
    # fields of descriptors
    *[({"data_key": "extra"}, [TWO]), ({"data_key": "no_such"}, []), ({"data_key": "det"}, ALL_UIDS)],
    # values
    *[({"scan_id": 3}, [FOUR, THREE]), ({"scan_id": np.int64(1)}, [ONE]), ({"scan_id": 1.0}, [ONE])],
    *[({"uid": TWO}, [TWO]), ({"uid": "bbbb"}, []), ({"uid": ""}, [])],
    *[({"motors": "mx"}, [ZERO]), ({"motors": ["mx", "my"]}, [ZERO]), ({"motors": ["my", "mx"]}, [])],
    *[({"num": 10}, [ONE]), ({"num": "5"}, [THREE]), ({"flag": True}, [NONE]), ({"no_such": 1}, [])],
    *[({"sample.name": "copper foil"}, [ONE]), ({"deep.er.est": "needle"}, [NONE]), ({"sample.layers": 2}, [ONE])],
    *[({"sample.layers.1": 2}, [ONE]), ({"sample.layers.0": 2}, [])],
    ({"sample": {"name": "copper foil", "layers": [1, 2]}}, [ONE]),
    # operators
    *[
        ({"num": {"$exists": value}}, found)
        for value, found in ((True, [FOUR, THREE, ONE, ZERO]), (False, [NONE, TWO]))
    ],
    *[({"num": {"$in": [5, 15]}}, [FOUR, ZERO]), ({"sample": {"$nin": ["LaB6", None]}}, [THREE, TWO, ONE])],
    *[
        ({"num": {"$exists": True, "$nin": [5, "5"]}}, [FOUR, ONE]),
        ({"num": {"$ne": 5, "$exists": True}}, [FOUR, THREE, ONE]),
    ],
    *[
        ({"num": {"$gt": 5}}, [FOUR, ONE]),
        ({"num": {"$gte": 5, "$lt": 15}}, [ONE, ZERO]),
        ({"num": {"$lte": 5}}, [ZERO]),
    ],
    *[({"num": {"$gt": "4"}}, [THREE]), ({"num": {"$not": {"$gte": 10}}, "scan_id": {"$lt": 2}}, [ZERO])],
    *[({"sample": {"$regex": "^cop"}}, [THREE]), ({"sample": {"$regex": "^COP", "$options": "i"}}, [THREE])],
    *[({"$or": [{"num": 5}, {"flag": True}]}, [NONE, ZERO]), ({"$and": [{"plan_name": "scan"}, {"num": 5}]}, [ZERO])],
    *[({"none": None, "scan_id": 2}, [TWO]), ({"time": {"$gte": T0 + 4 * DAY}}, [FOUR, THREE])],
    # together
    *[({"text_search": "copper", "since": T0 + 2 * DAY}, [THREE]), ({"plan_name": "scan", "data_key": "extra"}, [TWO])],
    ({"text_search": "fe2o3", "since": T0, "until": "2030", "data_key": "extra", "scan_id": {"$in": [2]}}, [TWO]),
]
BAD_SEARCHES: list[tuple[dict[str, Any], Any, str | None]] = [
    *[({key: "yesterday"}, ValueError, "failed to parse time: 'yesterday'") for key in ("since", "until")],
    *[({"since": value}, (ValueError, TypeError), None) for value in ([], {}, object(), "2025-13", "2025-02-30", "")],
    *[({old: "2025", new: "2025"}, TypeError, new) for old, new in (("start_time", "since"), ("stop_time", "until"))],
    *[
        ({"num": {"$bogus": 1}}, ValueError, "bogus"),
        ({"num": {"$in": 5}}, ValueError, "in"),
        ({"$or": 5}, ValueError, "or"),
    ],
    *[({"sample": {"$regex": "("}}, ValueError, None), ({"data_key": 5}, ValueError, "data_key")],
]
#: Those of version 1 alone; all others are queries that version 2 takes as well.
OF_VERSION_1 = {"text_search", "since", "until", "data_key"}


@pytest.mark.parametrize(("keywords", "expected"), SEARCHES, ids=repr)
def test_a_search_gives_its_runs_newest_first_by_both_faces(
    db: Broker, keywords: dict[str, Any], expected: list[str]
) -> None:
    results = db(**keywords)
    assert uids(list(results)) == uids(list(results)) == expected
    query = {key: value for key, value in keywords.items() if key not in OF_VERSION_1}
    found = db.v2.search(query)
    if query == keywords:
        assert list(found) == [run.uid for run in found.values()] == [uid for uid, _ in found.items()] == expected
        assert len(found) == len(expected)
    assert uids(list(found.v1(**{key: value for key, value in keywords.items() if key in OF_VERSION_1}))) == expected


@pytest.mark.parametrize(("keywords", "error", "message"), BAD_SEARCHES, ids=repr)
def test_a_search_that_means_nothing_is_an_error(
    db: Broker, keywords: dict[str, Any], error: Any, message: str | None
) -> None:
    with pytest.raises(error, match=message):
        list(db(**keywords))
    if not keywords.keys() & {*OF_VERSION_1, "start_time", "stop_time"}:
        with pytest.raises(error, match=message):
            list(db.v2.search(keywords))


@pytest.mark.parametrize(("old", "new"), [("start_time", "since"), ("stop_time", "until")])
def test_old_names_of_keywords_warn_and_work(db: Broker, old: str, new: str) -> None:
    with pytest.warns(UserWarning, match=new):
        results = db(**{old: T0 + 2 * DAY})
    assert uids(list(results)) == uids(list(db(**{new: T0 + 2 * DAY})))


#: Queries of version 2 that are no dicts, or that version 1 has a keyword for.
QUERIES: list[tuple[Any, list[str]]] = [
    (TimeRange(), ALL_UIDS),
    (TimeRange(since=T0 + 4 * DAY), [FOUR, THREE]),
    (TimeRange(since=T0, until=T0 + 2 * DAY), [ONE, ZERO]),  # half open, unlike version 1
    (TextQuery("copper"), [THREE, ONE]),
    ({"$text": {"$search": "needle"}}, [NONE]),
    ({"$text": ""}, ALL_UIDS),
    ([("num", 10)], [ONE]),
    ({"data_key": "of the start document"}, [FOUR]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=repr)
def test_version_2_takes_any_mapping(db: Broker, query: Any, expected: list[str]) -> None:
    found = db.v2.search(query)
    assert list(found) == uids(list(found.v1())) == expected
    assert found.name == "search results"
    assert type(found) is type(db.v2)


@pytest.mark.parametrize("query", [5, None, "text", [1, 2], object(), b"x"])
def test_version_2_refuses_what_is_no_mapping(db: Broker, query: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        db.v2.search(query)


COMPOSED: dict[str, Callable[[Any], Any]] = {
    "searches of version 2": lambda db: (
        db.v2.search({"num": {"$exists": True}}).search({"plan_name": "scan"}).search({})
    ),
    "in another order": lambda db: db.v2.search({"plan_name": "scan"}).search({"num": {"$exists": True}}),
    "a search of version 1 on one of version 2": lambda db: db.v2.search({"plan_name": "scan"}).v1(
        num={"$exists": True}
    ),
    "a search on its version 2": lambda db: db.v2.search({"plan_name": "scan"}).v1.v2.search(
        {"num": {"$exists": True}}
    ),
}


@pytest.mark.parametrize("search", COMPOSED.values(), ids=COMPOSED)
def test_searches_compose_by_and(db: Broker, search: Callable[[Any], Any]) -> None:
    found = search(db)
    assert [getattr(item, "uid", item) for item in found] == [ZERO]
    assert len(found) == 1


def test_filters_are_added_to_every_search_and_kept_as_they_were_given(db: Broker) -> None:
    try:
        db.add_filter(since="2025-11-23", plan_name="scan")
        db.add_filter(data_key="extra")
        assert db.filters == {"since": "2025-11-23", "plan_name": "scan", "data_key": "extra"}
        assert uids(list(db())) == uids(list(db(scan_id=2))) == uids(list(db("fe2o3"))) == [TWO]
        assert list(db(scan_id=0)) == []
        db.alias("mine", scan_id=2)
        assert uids(list(db.mine)) == [TWO]
    finally:
        db.clear_filters(anything="is ignored")
    assert db.filters == {}
    assert uids(list(db())) == ALL_UIDS
