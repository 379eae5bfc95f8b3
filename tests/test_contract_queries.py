"""Queries by name, and times as people write them, as databroker had them (section 3 of its behaviour)."""

import datetime
import pickle
import time
from zoneinfo import ZoneInfo

import pytest
import pytz

import factories
from filebroker import Broker, InvalidQuery, temp
from filebroker.queries import Query, TextQuery, TimeRange
from filebroker.utils import normalize_human_friendly_time

T2020, T2021 = 1577854800.0, 1609477200.0  # the years' first moments in New York


@pytest.fixture
def db():
    broker = temp()
    for number, sample in enumerate(["LaB6 on glass", "CeO2", "LaB6 in capillary"]):
        for name, doc in factories.run(scan_id=number, time=factories.T0 + number, sample=sample):
            broker.insert(name, doc)
    return broker


def scan_ids(catalog) -> list[int]:
    return [run.metadata["start"]["scan_id"] for run in catalog.values()]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({}, {}),
        ({"since": "2020", "timezone": "US/Eastern"}, {"time": {"$gte": T2020}}),
        ({"until": "2020", "timezone": "US/Eastern"}, {"time": {"$lt": T2020}}),
        ({"since": "2020", "until": "2021", "timezone": "US/Eastern"}, {"time": {"$gte": T2020, "$lt": T2021}}),
        ({"since": "2020-01-01 9:52", "timezone": "Europe/Amsterdam"}, {"time": {"$gte": 1577868720.0}}),
        ({"since": 0}, {"time": {"$gte": 0.0}}),
        ({"since": 5, "until": 5}, {"time": {"$gte": 5.0, "$lt": 5.0}}),
    ],
)
def test_a_time_range_is_the_query_that_it_stands_for(arguments, query):
    made = TimeRange(**arguments)
    assert made == query
    assert dict(made) == made.query == query
    assert TimeRange(**made.kwargs) == made
    assert pickle.loads(pickle.dumps(made)) == made
    assert len(made) == len(query)


def test_a_time_range_without_a_zone_is_in_the_local_one():
    assert TimeRange("2026-11-22").query["time"]["$gte"] == datetime.datetime(2026, 11, 22).timestamp()


@pytest.mark.parametrize(
    "arguments",
    [
        {"since": "2021", "until": "2020"},
        {"since": "aardvark"},
        {"since": "2020", "timezone": "Europe/Atlantis"},
        {"since": "2020", "timezone": "../../etc/passwd"},
    ],
)
def test_a_time_range_that_means_nothing_is_refused(arguments):
    with pytest.raises(InvalidQuery) as caught:
        TimeRange(**arguments)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_zone_is_the_error_that_users_of_pytz_catch():
    with pytest.raises(pytz.UnknownTimeZoneError, match="Atlantis"):
        TimeRange("2020", timezone="Europe/Atlantis")


def test_a_query_is_read_only_and_not_hashable():
    made = TimeRange("2020", timezone="UTC")
    with pytest.raises(TypeError):
        made["time"] = {}
    with pytest.raises(TypeError):
        hash(made)
    made.query["time"]["$gte"] = 0
    made["time"]["$gte"] = 0
    assert made == {"time": {"$gte": 1577836800.0}}


def test_replace_gives_another_query_and_leaves_the_first_alone():
    first = TimeRange("2020", "2021", timezone="US/Eastern")
    assert first.replace() == first
    assert first.replace(since="1999") != first
    assert first.replace(until=None) == {"time": {"$gte": T2020}}
    assert first == {"time": {"$gte": T2020, "$lt": T2021}}
    assert TextQuery("LaB6").replace(text_search="CeO2") == {"$text": {"$search": "CeO2"}}


def test_the_repr_of_a_query_makes_an_equal_one():
    for made in (TimeRange("2020", timezone="US/Eastern"), TimeRange(), TextQuery("LaB6")):
        assert eval(repr(made)) == made
    assert repr(TimeRange(until="2020")) == "TimeRange(until='2020')"


def test_a_query_of_ones_own_can_be_made():
    class ByScan(Query):
        def __init__(self, scan_id):
            self.scan_id = scan_id

        @property
        def query(self):
            return {"scan_id": self.scan_id}

        @property
        def kwargs(self):
            return {"scan_id": self.scan_id}

    assert ByScan(3).replace(scan_id=4) == {"scan_id": 4}
    with pytest.raises(TypeError):
        Query()


def test_a_catalog_is_searched_with_queries(db):
    first, last = factories.T0, factories.T0 + 2
    assert scan_ids(db.v2.search(TimeRange(first, last))) == [1, 0]  # half open, unlike since and until of v1
    assert scan_ids(db.v2.search(TimeRange(first + 0.5))) == [2, 1]
    assert scan_ids(db.v2.search(TimeRange())) == [2, 1, 0]
    assert scan_ids(db.v2.search(TextQuery("LaB6"))) == [2, 0]
    assert scan_ids(db.v2.search(TextQuery("LaB6")).search(TimeRange(last))) == [2]
    assert scan_ids(db.v2.search({**TimeRange(first, last), "sample": "CeO2"})) == [1]  # as apstools does


def test_the_same_queries_are_keywords_of_a_search_of_v1(db):
    found = db(**TimeRange(factories.T0, factories.T0 + 2), **TextQuery("LaB6"))
    assert [header.start["scan_id"] for header in found] == [0]


def test_a_search_by_a_query_can_be_used_as_v1(db):
    assert db.v2.search(TimeRange(until=factories.T0 + 2)).v1[-1].start["scan_id"] == 1


def test_all_runs_of_the_example_are_in_the_range_that_apstools_asks_for():
    catalog = Broker.named("example").v2
    assert len(catalog.search(TimeRange(since="1995-01-01", until="2100-12-31"))) == len(catalog) == 22


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014", 1388552400.0),
        ("2014-02 ", 1391230800.0),
        ("2014-2", 1391230800.0),
        ("2014-02-10", 1392008400.0),
        (" 2014-02-10 10 ", 1392044400.0),
        ("2014-02-10 10:1", 1392044460.0),
        ("2014-02-10 10:01:00", 1392044460.0),
        ("2015-03-08 01:59:59", 1425797999.0),
        ("2015-03-08 03:00:00", 1425798000.0),
        ("2015-11-01 00:59:59", 1446353999.0),
        ("2015-11-01 02:00:00", 1446361200.0),
    ],
)
def test_times_are_read_in_the_zone_that_is_given(text, seconds):
    assert normalize_human_friendly_time(text, "US/Eastern") == seconds
    assert normalize_human_friendly_time(text, ZoneInfo("US/Eastern")) == seconds


def test_times_that_name_their_zone_keep_it():
    aware = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    assert normalize_human_friendly_time(aware, "US/Eastern") == aware.timestamp()
    assert normalize_human_friendly_time("2020-01-01T00:00Z", "US/Eastern") == aware.timestamp()
    now = time.time()
    assert normalize_human_friendly_time(now, "US/Eastern") == now


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("2015-03-08 02:00:00", pytz.NonExistentTimeError),
        ("2015-03-08 02:59:59", pytz.NonExistentTimeError),
        ("2015-11-01 01:00:00", pytz.AmbiguousTimeError),
        ("2015-11-01 01:59:59", pytz.AmbiguousTimeError),
        ("2015-04-15 03:", ValueError),
        ("1763809925.25", ValueError),
        ("aardvark", ValueError),
    ],
)
def test_times_that_the_clocks_of_a_zone_never_or_twice_showed_are_refused(text, error):
    with pytest.raises(error):
        normalize_human_friendly_time(text, "US/Eastern")
