"""Names of the files that runs are exported to, from a template of the user's and the run's start document."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from filebroker.ground.errors import InvalidOption
from filebroker.storing.layout import encode_name

#: A key of the start document in braces, with an optional format after a colon.
_PART = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}|\{\{|\}\}|[{}]")
_CUT, _PADDED = re.compile(r"\.(\d{1,3})\Z"), re.compile(r"0(\d{1,2})d?\Z")
#: What stands for a key that a run does not have.
_NOTHING = "none"
#: What a template is tried with when it is checked.
_SAMPLE = {"uid": "84d9ee44", "time": 1763821925.25, "scan_id": 1}


def check_template(template: str) -> None:
    """Refuse a template that could not name a file.

    Parameters
    ----------
    template
        As for `file_name`.

    Raises
    ------
    InvalidOption
        It has a directory in it, or braces that make no sense.
    """
    if not isinstance(template, str) or not template or re.search(r"[/\\\x00]", _PART.sub("", template)):
        raise InvalidOption(f"file_name {template!r:.200} names no file; give a name without directories")
    file_name(template, _SAMPLE)


def file_name(template: str, start: Mapping[str, Any]) -> str:
    """Give the name of a run's file, without its suffix.

    Parameters
    ----------
    template
        Text with keys of the start document in braces, dotted for nested ones.  After a colon comes how a value is
        written: ``.8`` for its first 8 characters, ``06`` for a number with 6 digits, ``%Y-%m-%d`` for a time in UTC.
    start
        The start document.  Nothing in it is taken for a template.

    Returns
    -------
    str
        The name, encoded so that it is safe on any filesystem.

    Raises
    ------
    InvalidOption
        The braces of the template make no sense.

    Examples
    --------
    >>> start = {"uid": "84d9ee44-1f", "time": 1763821925.25, "scan_id": 7, "sample": {"name": "../{uid}"}}
    >>> file_name("{scan_id:04}_{uid:.8}", start)
    '0007_84d9ee44'
    >>> file_name("{time:%Y-%m-%d}_{sample.name}", start)
    '2025-11-22_..%2F%7Buid%7D'
    """
    return encode_name(_PART.sub(lambda found: _rendered(found, template, start), template))


def _rendered(found: re.Match[str], template: str, start: Mapping[str, Any]) -> str:
    key, form = found[1], found[2]
    if key is None:
        if found[0] in ("{", "}"):
            raise InvalidOption(f"file_name {template!r:.200} has a {found[0]!r} alone; write {found[0] * 2} for one")
        return found[0][0]
    value = _value(start, key)
    text = _formatted(value, form, template) if form else str(value)
    return _NOTHING if value is None else text


def _value(start: Any, key: str) -> Any:
    for part in key.split("."):
        start = start.get(part) if isinstance(start, Mapping) else None
    return start


def _formatted(value: Any, form: str, template: str) -> str:
    if cut := _CUT.match(form):
        return str(value)[: int(cut[1])]
    if padded := _PADDED.match(form):
        return str(value).rjust(int(padded[1]), "0")
    if "%" in form:
        try:
            return datetime.fromtimestamp(float(value), UTC).strftime(form)
        except (TypeError, ValueError, OverflowError, OSError):
            return str(value)
    raise InvalidOption(
        f"file_name {template!r:.200} has the format {form!r:.50}, and the formats are .8 (the first characters), "
        "06 (digits) and %Y-%m-%d (a time)"
    )
