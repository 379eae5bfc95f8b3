"""Arguments as they stand in catalog files, where all of them may be strings."""

import sys
from operator import index
from typing import Any

from filebroker.ground.errors import InvalidOption


def count(limit: Any) -> int | None:
    """Read a number of runs; in a catalog file it may be a string."""
    if limit is None or limit == "":
        return None
    try:
        number = int(limit) if isinstance(limit, str) else index(limit)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or isinstance(limit, bool):
        raise InvalidOption(f"limit={limit!r:.100} means nothing; give a number of runs")
    return min(number, sys.maxsize)


def flag(name: str, value: Any) -> bool:
    """Read a yes or no; in a catalog file it may be a string."""
    known = {"true": True, "false": False, "none": False, "": False}
    found = known.get(str(value).lower())
    if found is None:
        raise InvalidOption(f"{name}={value!r:.100} means nothing; give true or false")
    return found
