"""The keywords of a search at the prompt: which of them are times, which ask for a field, and which are a query."""

import warnings
from collections.abc import Mapping
from typing import Any

from filebroker.core.runs import Runs

#: The old names of the keywords for time ranges.
_OLD_KEYWORDS = {"start_time": "since", "stop_time": "until"}


def narrowed(runs: Runs, text: str | None, keywords: Mapping[str, Any]) -> tuple[Runs, str | None]:
    """Give the runs that answer to the keywords of a search, and the field that they shall have.

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
            warnings.warn(f"{old} has a new name: {new}", UserWarning, stacklevel=3)
            query[new] = query.pop(old)
    since, until, data_key = query.pop("since", None), query.pop("until", None), query.pop("data_key", None)
    if text is None and not query and since is None and until is None:
        return runs, data_key
    return runs.search(query, text=text, since=since, until=until), data_key
