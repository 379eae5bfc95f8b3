"""Searches as they are written at a command line: words, and conditions such as ``plan_name=scan``."""

import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

#: Old names of the keywords of a search.
_OLD_NAMES = {"start_time": "since", "stop_time": "until"}
_KEYWORDS = ("text_search", "since", "until", "data_key")
#: Values that Python writes otherwise than JSON does.
_CONSTANTS = {"True": True, "False": False, "None": None}
#: Operators that stand in the place of a key.
_BESIDE_KEYS = ("$and", "$or", "$nor", "$text", "$comment")
# Operators, and a range as somebody writes it who thinks of Python.
_OPERATORS = re.compile(r"""\{\s*["']?\$\w""")


def keywords_of(words: Sequence[str], **times: str | None) -> dict[str, Any]:
    """Give the keywords of the search that a command line asks for.

    Parameters
    ----------
    words
        Words to search for, and conditions such as ``plan_name=scan``.
    **times
        ``since`` and ``until``, None for any.

    Raises
    ------
    InvalidQuery
        They cannot be understood.

    Examples
    --------
    >>> keywords_of(["good", "plan_name=scan"], since="2026")
    {'text_search': 'good', 'since': '2026', 'plan_name': 'scan'}
    """
    from filebroker.ground.errors import InvalidQuery

    given = [_halves(word) for word in words if _is_condition(word)]
    if plain := [word for word in words if not _is_condition(word)]:
        given.append(("text_search", " ".join(plain)))
    given += [(name, time) for name, time in times.items() if time is not None]
    keywords: dict[str, Any] = {}
    conditions = []
    for key, text in given:
        if key not in _KEYWORDS:
            conditions.append({key: _condition(key, text)})
        elif key in keywords:
            raise InvalidQuery(f"{key} is given twice, as {keywords[key]!r} and as {text!r}; leave one of them out")
        else:
            keywords[key] = text
    return {**keywords, **_together(conditions)}


def _is_condition(word: str) -> bool:
    """Tell whether a word is a key and a value; what begins with a quote is a phrase."""
    return "=" in word and not word.startswith(("=", '"'))


def _halves(word: str) -> tuple[str, str]:
    """Give the key and the value of a condition."""
    key, _, text = word.partition("=")
    return _OLD_NAMES.get(key, key), text


def _together(conditions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give one query for several conditions, of which some may be of the same key."""
    query = {key: value for condition in conditions for key, value in condition.items()}
    return query if len(query) == len(conditions) else {"$and": list(conditions)}


def _condition(key: str, text: str) -> Any:
    """Give what a value has to be: what the text means, if it means more than itself, and the text."""
    from filebroker.finding.parsing import OPERATORS
    from filebroker.ground.errors import InvalidQuery

    if key in OPERATORS and key not in _BESIDE_KEYS:
        raise InvalidQuery(f"{key} stands under a key, as in 'num_points={{\"{key}\": 10}}'")
    value = _meaning(text)
    if isinstance(value, str) and _OPERATORS.match(text):
        raise InvalidQuery(
            f"the operators of {key!r} are {text}, which is no JSON; write names and text in double quotes, and the "
            f"whole in single ones for the shell, as in 'num_points={{\"$gt\": 10}}'"
        )
    is_whole = isinstance(value, str | list | dict) or key in _BESIDE_KEYS
    return value if is_whole else {"$in": [text, value]}


def _meaning(text: str) -> Any:
    """Give what a text means as JSON, or to Python; the text itself if it means nothing."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    with contextlib.suppress(ValueError):
        # JSON does not know ".5".  An underscore belongs to a name, though Python takes it for part of a number.
        return text if "_" in text else float(text)
    return text
