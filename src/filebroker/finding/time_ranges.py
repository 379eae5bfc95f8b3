"""What a condition says of the start time, as a range of floats that the manifest can answer."""

import math
from collections.abc import Iterable

from filebroker.finding import query, terms
from filebroker.finding.planning import is_ordered_number

_LOWER = ("$gt", "$gte")


def time_range(condition: query.Condition) -> tuple[float, float]:
    """Give a range that the start times of all runs are in that fulfil a condition.

    Returns
    -------
    tuple of float
        The first and the last time, both included; infinite where there is no bound.  No time is in the range if
        the first is greater.

    Examples
    --------
    >>> time_range(query.At("time", query.Compares("$gte", 5.0)))
    (5.0, inf)
    """
    ranges: list[tuple[float, float]] = []
    match condition:
        case query.Both(parts=parts):
            ranges += map(time_range, parts)
        case query.At(path="time", test=query.AllTests(tests=tests)):
            ranges += (time_range(query.At("time", test)) for test in tests)
        case query.At(path="time", test=query.Equals(value=value)) if is_ordered_number(value):
            ranges.append((terms.as_float(value), terms.as_float(value)))
        case query.At(path="time", test=query.Compares(operator=operator, value=value)) if is_ordered_number(value):
            bound = terms.as_float(value)
            ranges.append((bound, math.inf) if operator in _LOWER else (-math.inf, bound))
    return _common(ranges)


def split_time(condition: query.Condition) -> tuple[tuple[float, float], query.Condition | None]:
    """Take out of a condition what it says of the start time, where a range of floats says just that.

    Returns
    -------
    tuple
        The range as `time_range` gives it, and what is left to be fulfilled within it, None for nothing.

    Examples
    --------
    >>> plan_name = query.At("plan_name", query.Equals("scan"))
    >>> split_time(query.Both((query.At("time", query.Compares("$gte", 5.0)), plan_name)))
    ((5.0, inf), Both(parts=(At(path='plan_name', test=Equals(value='scan')),)))
    """
    match condition:
        case query.Both(parts=parts):
            split = [split_time(part) for part in parts]
            rest = tuple(left for _, left in split if left is not None)
            return _common(limits for limits, _ in split), query.Both(rest) if rest else None
        case query.At(path="time", test=test):
            exact = _exact_range(test)
            return (time_range(condition), condition) if exact is None else (exact, None)
    return (-math.inf, math.inf), condition


def _exact_range(test: query.Test) -> tuple[float, float] | None:
    match test:
        case query.AllTests(tests=tests):
            ranges = [_exact_range(part) for part in tests]
            return None if None in ranges else _common(limits for limits in ranges if limits is not None)
        case query.Compares(operator=operator, value=value) if is_ordered_number(value) and abs(value) < 2**53:
            bound = float(value)
            if operator in _LOWER:
                return (bound if operator == "$gte" else math.nextafter(bound, math.inf)), math.inf
            return -math.inf, (bound if operator == "$lte" else math.nextafter(bound, -math.inf))
    return None


def _common(ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip((-math.inf, math.inf), *ranges, strict=True)
    return max(lows), min(highs)
