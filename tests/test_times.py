"""Times as people write them: every form that databroker takes gives what it gives there, in the local zone."""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import factories as make
from filebroker import temp
from filebroker.ground import times
from filebroker.ground.errors import InvalidQuery

pytestmark = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set for a process")

pytz = pytest.importorskip("pytz")


@pytest.fixture(autouse=True)
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the zone of this process; it is that of New York unless a test says otherwise."""

    def set_to(name: str) -> None:
        with_tz.setenv("TZ", name)
        time.tzset()

    with pytest.MonkeyPatch.context() as with_tz:
        set_to("America/New_York")
        yield set_to
    time.tzset()


#: What databroker 1.2.5 gives in the zone of New York.
FORMS = [
    ("2014", 1388552400.0),
    ("2014 ", 1388552400.0),
    ("2014-02", 1391230800.0),
    ("2014-2 ", 1391230800.0),
    ("2014-2-10", 1392008400.0),
    ("2014-02-10", 1392008400.0),
    (" 2014-02-10 10 ", 1392044400.0),
    ("2014-02-10 10:1", 1392044460.0),
    ("2014-2-10 10:1:0", 1392044460.0),
    ("2014-02-10 10:01:00", 1392044460.0),
    ("\t2014-02-10 10:01:07\n", 1392044467.0),
    ("2015-03-08 01:59:59", 1425797999.0),
    ("2015-03-08 03:00:00", 1425798000.0),
    ("2015-11-01 00:59:59", 1446353999.0),
    ("2015-11-01 02:00:00", 1446361200.0),
    ("2024-02-29", 1709182800.0),
    ("1969-12-31 19", 0.0),
    ("1969-12-31", -68400.0),
    ("1901-1-1", -2177434800.0),
]


@pytest.mark.parametrize(("text", "seconds"), FORMS, ids=repr)
def test_every_form_of_databroker_is_read(text: str, seconds: float) -> None:
    assert times.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-02-10T10:01:00", 1392044460.0),
        ("2014-02-10 10:01:00.5", 1392044460.5),
        ("2014-02-10 10:01:00Z", 1392026460.0),
        ("2014-02-10 10:01+01:00", 1392022860.0),
        ("20140210", 1392008400.0),
        ("2014-W07-1", 1392008400.0),
        ("2015-03-08 02:30-05:00", 1425799800.0),
        ("2015-11-01 01:30-04:00", 1446355800.0),
        ("2015-11-01 01:30-05:00", 1446359400.0),
    ],
    ids=repr,
)
def test_other_forms_of_iso_8601_are_read(text: str, seconds: float) -> None:
    assert times.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(
            "aardvark",
            "now",
            "",
            " ",
            "NaN",
            "1447000000.5",
            "-2014",
            "0000",
            "2014 2",
            "14-2-10",
            "2014-13",
            "2014-02-30",
        ),
        *("2015-04-15 03:", "2014-02-10 10:61", "2014-02-10 24:00:01", "2014-2-10T", "2014-02-10 10:1:0:0", "２0l4"),  # noqa: RUF001
    ],
    ids=repr,
)
def test_other_strings_fail_with_the_words_of_databroker(text: str) -> None:
    with pytest.raises(ValueError, match="failed to parse time: ") as raised:
        times.parse(text)
    assert isinstance(raised.value, InvalidQuery)
    assert repr(text) in str(raised.value)
    assert "YEAR-MONTH-DAY" in str(raised.value)


ZONE = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (0, 0.0),
        (-5.5, -5.5),
        (1392044460.25, 1392044460.25),
        (np.float64(1.5), 1.5),
        (np.int64(7), 7.0),
        (float("inf"), float("inf")),
        (datetime(2014, 2, 10, 10, 1), 1392044460.0),
        (datetime(2014, 2, 10, 10, 1, 0, 250_000), 1392044460.25),
        (datetime(2014, 2, 10, 10, 1, tzinfo=UTC), 1392026460.0),
        (datetime(2014, 2, 10, 10, 1, tzinfo=ZONE), 1392006660.0),
        (datetime(2014, 2, 10, 10, 1, tzinfo=ZoneInfo("Europe/Berlin")), 1392022860.0),
        (datetime(2015, 11, 1, 1, 30, tzinfo=ZoneInfo("America/New_York")), 1446355800.0),
        (datetime(2015, 11, 1, 1, 30, fold=1, tzinfo=ZoneInfo("America/New_York")), 1446359400.0),
        (pytz.timezone("US/Eastern").localize(datetime(2014, 2, 10, 10, 1)), 1392044460.0),
        (date(2014, 2, 10), 1392008400.0),
        (pd.Timestamp(2014, 2, 10, 10, 1), 1392044460.0),
        (pd.Timestamp(2014, 2, 10, 10, 1, 0, 123_456), 1392044460.123456),
        (pd.Timestamp("2014-02-10 10:01", tz="UTC"), 1392026460.0),
    ],
    ids=repr,
)
def test_numbers_datetimes_and_dates_are_read(moment: Any, seconds: float) -> None:
    assert times.parse(moment) == seconds


def test_the_zone_is_that_of_the_process(set_zone: Callable[[str], None]) -> None:
    found = {}
    for name in ("UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Apia"):
        set_zone(name)
        found[name] = (times.parse("2014-07-01"), times.parse(date(2014, 1, 1)))
    assert found == {
        "UTC": (1404172800.0, 1388534400.0),
        "Europe/Berlin": (1404165600.0, 1388530800.0),
        "Asia/Kolkata": (1404153000.0, 1388514600.0),
        "Pacific/Apia": (1404126000.0, 1388484000.0),
    }


@pytest.mark.parametrize("moment", [True, False, np.nan, [1], {}, object(), b"2014", 1j, 10**400, pd.NaT], ids=repr)
def test_what_is_no_time_is_refused(moment: Any) -> None:
    with pytest.raises(
        InvalidQuery, match=r"no time; give seconds since 1970, a datetime, or a string|failed to parse"
    ):
        times.parse(moment)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_numpys_datetimes_are_understood_or_refused(unit: str) -> None:
    try:
        seconds = times.parse(np.datetime64("2014-02-10T10:01:00", unit))
    except InvalidQuery:
        return
    assert seconds == 1392044460.0


#: Of each zone the first and last second that clocks never showed, and those that they showed twice.
CHANGES = [
    (
        "America/New_York",
        ["2015-03-08 02:00:00", "2015-03-08 02:59:59"],
        ["2015-11-01 01:00:00", "2015-11-01 01:59:59"],
    ),
    ("Europe/Berlin", ["2024-03-31 02:00:00", "2024-03-31 02:30"], ["2024-10-27 02:00:00", "2024-10-27 2"]),
    ("Australia/Lord_Howe", ["2024-10-06 02:00", "2024-10-06 02:29:59"], ["2024-04-07 01:30", "2024-04-07 01:59:59"]),
    ("Pacific/Apia", ["2011-12-30", "2011-12-30 12:00"], []),
]
SKIPPED = [(zone, text) for zone, skipped, _ in CHANGES for text in skipped]
TWICE = [(zone, text) for zone, _, twice in CHANGES for text in twice]


def as_datetime(text: str) -> datetime:
    day, _, hour = text.partition(" ")
    return datetime.combine(date.fromisoformat(day), datetime.min.time()) + timedelta(
        **dict(zip(("hours", "minutes", "seconds"), map(int, filter(None, hour.split(":"))), strict=False))
    )


@pytest.mark.parametrize(("zone", "text"), SKIPPED)
def test_a_time_that_clocks_never_showed_is_refused(set_zone: Callable[[str], None], zone: str, text: str) -> None:
    set_zone(zone)
    for moment in (text, as_datetime(text), as_datetime(text).replace(fold=1), pd.Timestamp(as_datetime(text))):
        with pytest.raises(pytz.NonExistentTimeError, match="never shown by local clocks") as raised:
            times.parse(moment)
        assert isinstance(raised.value, InvalidQuery)
        assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(("zone", "text"), TWICE)
def test_a_time_that_clocks_showed_twice_is_refused(set_zone: Callable[[str], None], zone: str, text: str) -> None:
    set_zone(zone)
    for moment in (text, as_datetime(text), as_datetime(text).replace(fold=1)):
        with pytest.raises(pytz.AmbiguousTimeError, match="shown twice by local clocks") as raised:
            times.parse(moment)
        assert isinstance(raised.value, InvalidQuery)
        assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("text", ["2015-03-08 02:00:00", "2015-11-01 01:00:00"])
def test_without_pytz_such_times_are_invalid_queries(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setitem(sys.modules, "pytz", None)
    with pytest.raises(InvalidQuery, match="local clocks") as raised:
        times.parse(text)
    assert type(raised.value) is InvalidQuery


def test_no_other_second_near_the_changes_is_refused() -> None:
    for text in ("2015-03-08 01:59:59", "2015-03-08 03:00:00", "2015-11-01 00:59:59", "2015-11-01 02:00:00"):
        assert datetime.fromtimestamp(times.parse(text)) == as_datetime(text)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("2014-02-10 10:1", "2014-02-10 10:01:00", 1),
        ("2014-02-10 10:01:01", None, 0),
        (None, "2014-02-10 10:00:59", 0),
        ("2014", "2015", 1),
        ("2014-2", "2014-02-28", 1),
        (date(2014, 2, 10), date(2014, 2, 11), 1),
        (None, date(2014, 2, 10), 0),
        (datetime(2014, 2, 10, 15, 1, tzinfo=UTC), datetime(2014, 2, 10, 10, 1), 1),
        (1392044460, 1392044460.0, 1),
        (1392044460.001, None, 0),
    ],
    ids=str,
)
def test_searches_take_all_of_these_and_include_both_ends(since: Any, until: Any, expected: int) -> None:
    db = temp()
    begun = make.start(time=1392044460.0)
    db.insert("start", begun)
    assert len(db(since=since, until=until)) == len(list(db(since=since, until=until))) == expected
    found = db.catalog.search(since=since, until=until)
    assert len(found) == len(list(found)) == expected
    db.close()


@pytest.mark.parametrize("keyword", ["since", "until"])
def test_searches_refuse_at_once_what_local_clocks_never_showed(keyword: str) -> None:
    db = temp()
    with pytest.raises(pytz.NonExistentTimeError):
        db(**{keyword: "2015-03-08 02:30"})
    with pytest.raises(pytz.AmbiguousTimeError):
        db(**{keyword: datetime(2015, 11, 1, 1, 30)})
    with pytest.raises(ValueError, match="set forward"):
        db.add_filter(**{keyword: "2015-03-08 02:30"})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1392044460.9, "2014-02-10 10:01:00-05:00"),
        (1446359400, "2015-11-01 01:30:00-05:00"),
        (1446355800, "2015-11-01 01:30:00-04:00"),
        (float("nan"), "nan"),
        (1e300, "1e+300"),
        (-float("inf"), "-inf"),
        (None, "None"),
        ("x", "'x'"),
    ],
)
def test_times_are_shown_in_the_local_zone(seconds: Any, text: str) -> None:
    assert times.local(seconds) == text


@pytest.mark.parametrize("seconds", [1392044460, 1446359400, 1446355800, 0])
def test_what_is_shown_can_be_read_again(seconds: int) -> None:
    assert times.parse(times.local(seconds)) == seconds
