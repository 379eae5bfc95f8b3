"""Strings of documents, as they can be shown: in a terminal, in a table, in UTF-8."""

from typing import Any


def printable(text: str) -> str:
    r"""Give a text in one line, without what would steer a terminal.

    Examples
    --------
    >>> printable("\x1b[2J\nscan")
    ' [2J scan'
    """
    return "".join(character if character.isprintable() else " " for character in encodable(text))


def encodable(value: Any) -> Any:
    r"""Give a value with the lone surrogates in its strings, which UTF-8 has not, written with backslashes.

    Examples
    --------
    >>> encodable({"comment": ["\ud800"]})
    {'comment': ['\\ud800']}
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [encodable(item) for item in value]
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return value
