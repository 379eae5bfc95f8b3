"""Searches as they can be written down: without values that only this process knows."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

from filebroker.ground import times
from filebroker.ground.errors import InvalidQuery
from filebroker.ground.settings import TIMES

#: Flags of regular expressions that MongoDB's query language knows.
_OPTIONS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}


def written_down(search: Mapping[str, Any]) -> dict[str, Any]:
    """Give the keywords of a search with values that YAML and JSON have.

    Parameters
    ----------
    search
        The keywords.  Times that are no text become seconds since 1970.

    Raises
    ------
    InvalidQuery
        A time is none.

    Examples
    --------
    >>> import numpy as np, re
    >>> written_down({"scan_id": np.int64(3), "operator": re.compile("ana", re.IGNORECASE)})
    {'scan_id': 3, 'operator': {'$regex': 'ana', '$options': 'i'}}
    """
    return {key: _time(value) if key in TIMES else _plain(value) for key, value in search.items()}


def _time(value: Any) -> Any:
    return times.parse(value) if isinstance(value, date | datetime | np.datetime64 | np.number) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InvalidQuery(f"the keys of a search are text, not as in {value!r:.200}")
        return {name: item for key, given in value.items() for name, item in _condition(key, given).items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        # In a list an expression can be written in no other way.
        return [item if isinstance(item, re.Pattern) else _plain(item) for item in value]
    return _expression(value) if isinstance(value, re.Pattern) else value


def _condition(key: Any, value: Any) -> dict[Any, Any]:
    """Give what stands under a key of a mapping; an expression under an operator may take two keys."""
    return _expression(value) if key == "$regex" and isinstance(value, re.Pattern) else {key: _plain(value)}


def _expression(pattern: re.Pattern[Any]) -> dict[str, Any]:
    options = "".join(letter for flag, letter in _OPTIONS.items() if pattern.flags & flag)
    return {"$regex": pattern.pattern} | ({"$options": options} if options else {})
