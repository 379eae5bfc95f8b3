"""The keywords of a search at the prompt: which of them are times, which ask for a field, and which are a query."""

from collections.abc import Iterable, Mapping
from typing import Any

from filebroker.cataloging.fields import WithField
from filebroker.cataloging.runs import Runs
from filebroker.ground.cautions import warn
from filebroker.ground.errors import InvalidQuery

#: The old names of the keywords for time ranges.
_OLD_KEYWORDS = {"start_time": "since", "stop_time": "until"}


def narrowed(runs: Runs, keywords: Mapping[str, Any]) -> Runs:
    """Give the runs that answer to the keywords of a search.

    Parameters
    ----------
    runs
        The runs that are searched.
    keywords
        ``text_search``, ``since``, ``until`` and ``data_key``, and conditions on the start document.

    Raises
    ------
    InvalidQuery
        They cannot be understood.
    TypeError
        A keyword and its old name are both given.
    """
    query = dict(keywords)
    for old, new in _OLD_KEYWORDS.items():
        if old in query:
            if new in query:
                raise TypeError(f"{old} is the old name of {new}; give one of them")
            warn(f"{old} has a new name: {new}", UserWarning)
            query[new] = query.pop(old)
    text, since, until, data_key = (query.pop(name, None) for name in ("text_search", "since", "until", "data_key"))
    if not (text is None and since is None and until is None) or query:
        runs = runs.search(query, text=text, since=since, until=until)
    if data_key is None:
        return runs
    if not isinstance(data_key, str):
        raise InvalidQuery(f"data_key is of type {type(data_key).__name__}; give the name of one field")
    return WithField(runs, data_key)


def narrowed_by(runs: Runs, searches: Iterable[Mapping[str, Any]]) -> Runs:
    """Give the runs that answer to all of several searches, each given by its keywords.

    Parameters
    ----------
    runs
        The runs that are searched.
    searches
        As for `narrowed`.
    """
    for search in searches:
        runs = narrowed(runs, search)
    return runs
