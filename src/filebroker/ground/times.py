"""Times of documents, which are seconds since 1970 in UTC, as people read and write them."""

import math
import re
import reprlib
from datetime import date, datetime, time as time_of_day, tzinfo

import numpy as np

from filebroker.ground.errors import InvalidQuery
from filebroker.ground.kinship import akin

_FORM = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?: +(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}))?)?)?)?)?\Z")
_FORMS = (
    "YEAR, YEAR-MONTH, YEAR-MONTH-DAY, a day followed by HOUR, HOUR:MINUTE or HOUR:MINUTE:SECOND, or with a zone as in "
    "2026-11-22T14:30+01:00"
)


def local(time: object) -> str:
    """Give a time in the local zone, with its offset from UTC.

    A time that no calendar has is given as it stands.

    Examples
    --------
    >>> local(float("nan"))
    'nan'
    """
    try:
        return datetime.fromtimestamp(float(time)).astimezone().isoformat(" ", "seconds")  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(time)


def parse(time: object, zone: tzinfo | None = None) -> float:
    """Read a time as people write it.

    Parameters
    ----------
    time
        Seconds since 1970, a datetime (of pandas and numpy as well), a date, or a string: ``2026``,
        ``2026-11``, ``2026-11-22``, or a day followed by ``14``, ``14:32`` or ``14:32:05``, unpadded as well;
        or what `datetime.fromisoformat` reads.  What names no zone is in the local one.
    zone
        That of a time that names none; None for the local one.

    Returns
    -------
    float
        Seconds since 1970 in UTC.

    Raises
    ------
    InvalidQuery
        It is no time, or the clocks of the local zone were set forward over it (also a
        ``pytz.NonExistentTimeError`` where pytz is in use), or back over it (also a
        ``pytz.AmbiguousTimeError``).

    Examples
    --------
    >>> parse("2026-11-22T14:32:05Z")
    1795357925.0
    """
    if isinstance(time, str):
        return _seconds(_from_text(time), zone)
    given = time
    if isinstance(time, np.datetime64):
        time = time.astype("datetime64[us]").item()
        time = math.nan if isinstance(time, int) else time  # a year that no calendar has
    if hasattr(time, "to_pydatetime"):  # pandas takes a time without a zone for UTC
        time = time.to_pydatetime(warn=False)
    if isinstance(time, datetime):
        return _seconds(time, zone)
    if isinstance(time, date):
        return _seconds(datetime.combine(time, time_of_day()), zone)
    try:
        seconds = math.nan if isinstance(time, bool | bytes | bytearray) else float(time)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidQuery(
            f"{reprlib.repr(given)} is no time; give seconds since 1970, a datetime, or a string: {_FORMS}"
        )
    return seconds


def _from_text(text: str) -> datetime:
    match = _FORM.match(text.strip())
    try:
        if match is None:
            return datetime.fromisoformat(text.strip())
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        given = sum(part is not None for part in match.groups())
        return datetime(year, month if given > 1 else 1, day if given > 2 else 1, hour, minute, second)
    except ValueError as error:
        # The first words are databroker's.
        raise InvalidQuery(f"failed to parse time: {reprlib.repr(text)} ({error}); give {_FORMS}") from None


def _seconds(moment: datetime, zone: tzinfo | None) -> float:
    """Give a moment in seconds since 1970; refuse one that clocks of the zone never showed, or showed twice."""
    if moment.tzinfo is not None:
        return moment.timestamp()
    try:
        first, second = (moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidQuery(f"failed to parse time: {moment} is out of range: {error}") from None
    clocks = "local clocks" if zone is None else f"clocks of {zone}"
    if first < second:
        raise akin(InvalidQuery, "pytz", "AmbiguousTimeError")(
            f"{moment} was shown twice by {clocks}, which were set back; name the zone, as in '{moment}+01:00'",
        )
    if first > second:
        raise akin(InvalidQuery, "pytz", "NonExistentTimeError")(
            f"{moment} was never shown by {clocks}, which were set forward; give an hour later or earlier",
        )
    return first
