"""Whether a start document answers a search: by words, and by the values of its keys."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from filebroker.ground import codec
from filebroker.ground.errors import InvalidQuery, UnstorableValue

_WORD = re.compile(r"\w+")


def check_query(query: Mapping[str, Any]) -> dict[str, Any]:
    """Give a query with its values as documents hold them; refuse one that asks for more than equality.

    Raises
    ------
    InvalidQuery
        The query uses an operator, or a value that no document can have.
    """
    for key, wanted in query.items():
        operators = [key] if key.startswith("$") else []
        if isinstance(wanted, Mapping):
            operators += [name for name in wanted if isinstance(name, str) and name.startswith("$")]
        if operators:
            raise InvalidQuery(
                f"the operator {operators[0]!r} is not known here; a search compares values, as in "
                "db(plan_name='scan'), and finds words, as in db('good sample')"
            )
    try:
        return {key: codec.plain(wanted) for key, wanted in query.items()}
    except UnstorableValue as error:
        raise InvalidQuery(f"no run can be found by that: {error}") from None


def matches(start: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    """Tell whether a start document has all the values asked for.

    A list has a value if one of its items equals it, as in MongoDB.  A key may be a dotted path.

    Examples
    --------
    >>> start = {"plan_name": "scan", "motors": ["eta"], "sample": {"name": "LaB6"}}
    >>> matches(start, {"motors": "eta", "sample.name": "LaB6"})
    True
    """
    return all(any(_equal(value, wanted) for value in _at(start, key)) for key, wanted in query.items())


def _at(value: Any, path: str) -> Iterator[Any]:
    """Give what is at a dotted path, through every item of the lists on the way."""
    if isinstance(value, Mapping):
        if path in value:
            yield value[path]
        head, dot, rest = path.partition(".")
        if dot and head in value:
            yield from _at(value[head], rest)
    elif isinstance(value, list):
        for item in value:
            yield from _at(item, path)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) is not isinstance(wanted, bool):
        return isinstance(value, list) and any(_equal(item, wanted) for item in value)
    if bool(value == wanted):
        return True
    return isinstance(value, list) and any(_equal(item, wanted) for item in value)


def has_words(start: Mapping[str, Any], text: str) -> bool:
    """Tell whether any of the words of a text is in the values of a start document.

    Words are compared whole and without regard to case.

    Examples
    --------
    >>> start = {"comment": "a good sample", "nested": [{"name": "LaB6"}]}
    >>> has_words(start, "good"), has_words(start, "goo"), has_words(start, "lab6")
    (True, False, True)
    """
    wanted = set(_WORD.findall(text.casefold()))
    return any(not wanted.isdisjoint(_WORD.findall(value.casefold())) for value in _strings(start))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
