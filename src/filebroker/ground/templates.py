"""The templates in Intake's catalog files: those that are harmless are filled in, and none is run.

Intake itself takes every string for a template of jinja, with commands that read the environment and, in its earlier
versions, run programs.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: What is filled in: ``{{ env(NAME) }}``, ``{{ name }}``, and what `escaped` writes.
_TEMPLATE = re.compile(
    r"\{\{\s*(?:env\(\s*[\"']?(?P<variable>\w+)[\"']?\s*\)|(?P<name>[A-Za-z_]\w*)|\"(?P<text>\{|!|\\n|\\r|\\x85)\")\s*\}\}"
)
#: What begins something that Intake would run, or is lost on the way through its templates.
_ACTIVE = re.compile(r"\{(?=[{%#\r\x85]|\n\Z|!template )|[\r\x85]|\n\Z|!(?=template )")
_ANY_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{[{%].*", re.DOTALL)
#: What the default of a parameter may be: a variable, and a command.
_VARIABLE = re.compile(r"(?:client_)?env\((?P<name>[^,()]*)(?:,(?P<other>.*))?\)")
_COMMAND = re.compile(r"(?:client_)?(?:env|shell)\(|catalog:")
#: How a string in a template writes it.
_WRITTEN = {"{": "{", "!": "!", "\n": "\\n", "\r": "\\r", "\x85": "\\x85"}
_READ = {written: text for text, written in _WRITTEN.items()}


def unfilled(value: Any, known: Mapping[str, str]) -> Iterator[str]:
    """Give the templates that `filled_in` leaves as they are: of other names, or with commands of their own.

    Parameters
    ----------
    value, known
        As for `filled_in`.

    Examples
    --------
    >>> list(unfilled(["{{ CATALOG_DIR }}/runs", "{{ shell('id') }}"], {"CATALOG_DIR": "/data"}))
    ["{{ shell('id') }}"]
    """
    if isinstance(value, str):
        rest = _TEMPLATE.sub(lambda found: found[0] if _filling(found, known) == found[0] else "\0", value)
        yield from (found[0] for found in _ANY_TEMPLATE.finditer(rest))
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from unfilled(item, known)


def default_of(text: str) -> str | None:
    """Give what the default of a parameter means; None if only Intake could tell, because it is a command.

    Examples
    --------
    >>> default_of("LaB6"), default_of("shell(id)")
    ('LaB6', None)
    """
    found = _VARIABLE.fullmatch(text)
    if found is not None:
        return os.environ.get(found["name"], found["other"] or "")
    return None if _COMMAND.match(text) or _ANY_TEMPLATE.search(text) else text


def filled_in(value: Any, known: Mapping[str, str]) -> Any:
    """Put what is known, and variables of the environment, in the place of templates.

    Parameters
    ----------
    value
        Strings, and mappings and lists of them; anything else is given back.
    known
        What is known by name.

    Examples
    --------
    >>> filled_in(["{{ CATALOG_DIR }}/runs", "{{ shell('id') }}"], {"CATALOG_DIR": "/data"})
    ['/data/runs', "{{ shell('id') }}"]
    """
    if isinstance(value, str):
        return _TEMPLATE.sub(lambda found: _filling(found, known), value)
    if isinstance(value, Mapping):
        return {key: filled_in(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [filled_in(item, known) for item in value]
    return value


def _filling(found: re.Match[str], known: Mapping[str, str]) -> str:
    """Give what takes the place of a template; one that means nothing to us stays as it is."""
    if found["variable"]:
        return os.environ.get(found["variable"], "")
    if found["text"]:
        return _READ[found["text"]]
    return known.get(found["name"], found[0])


def escaped(value: Any) -> Any:
    """Write a value so that it comes out of Intake's templates as it went in.

    Parameters
    ----------
    value
        Strings, and mappings and lists of them; anything else is given back.

    Examples
    --------
    >>> print(escaped("{{ shell('id') }}"))
    {{ "{" }}{ shell('id') }}
    """
    if isinstance(value, str):
        return _ACTIVE.sub(lambda found: f'{{{{ "{_WRITTEN[found[0]]}" }}}}', value)
    if isinstance(value, Mapping):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list | tuple) else value
