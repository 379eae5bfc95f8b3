"""What may be written into a catalog file of Intake's: no secrets, and nothing that would be read as something else."""

import os
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from filebroker.ground.errors import InvalidConfig
from filebroker.ground.filesystem import Folder, is_url
from filebroker.ground.secrets import is_secret, refuse_credentials
from filebroker.ground.yaml_files import ENDINGS

#: What may stand in no name, because a file's name, a shell's pattern or a URL could not hold it.
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\[\]]')
_LONGEST = 100
#: Filesystems allow 255; the rest is for the ending.
_LONGEST_BYTES = 200
#: What Intake does not give back as it stands, because it takes files and their values for templates.
_CHANGED = re.compile(r"\{[{%#]|[\r\0\ud800-\udfff]|\n\Z|!template ")
_OPTIONS = "storage_options"
#: What gcsfs takes in the place of a token.
_ANONYMOUS = ("anon", "browser", "cache", "cloud", "google_default")
#: A protocol without its slashes; one letter is a drive of Windows.
_MISTYPED = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):(?!//)/?[^/]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_name(name: str) -> None:
    """Refuse a name that no file, no key and no command line could have.

    Raises
    ------
    InvalidConfig
        It is one; the message tells why.
    """
    forbidden = _FORBIDDEN.search(name) or _CHANGED.search(name)
    if not name or name != name.strip():
        problem = "it is empty, or has a space at its ends"
    elif not name.isprintable():
        problem = "it has a character that cannot be printed"
    elif forbidden is not None:
        problem = f"it has {forbidden.group()!r}, which a file's name, Intake or a shell takes for something else"
    elif name.startswith((".", "-")) or name.endswith((".", *ENDINGS)):
        problem = "it begins with '.' or '-', or ends with '.', '.yml' or '.yaml'"
    elif len(name) > _LONGEST or len(name.encode()) > _LONGEST_BYTES:
        problem = f"it is longer than {_LONGEST} characters, or {_LONGEST_BYTES} bytes"
    elif name == "temp":
        problem = "Broker.named('temp') gives a temporary catalog"
    else:
        return
    raise InvalidConfig(f"{name[:_LONGEST]!r} can be no catalog's name: {problem}")


def absolute(url: str) -> str:
    """Give the URL, or the absolute path.

    Raises
    ------
    InvalidConfig
        It is empty, has a password in it, or would mean something else to those who read it.
    """
    if not url:
        raise InvalidConfig("the catalog's URL is empty; give a directory or a URL")
    if is_url(url) and not url.startswith(("file://", "local://")):
        _check_text(url, "the URL")
        return url
    mistyped = _MISTYPED.match(url)
    if mistyped is not None:
        raise InvalidConfig(f"{url} is no URL, and hardly a directory; write {mistyped[1]}://... or ./{url}")
    path = Folder(url).url
    if os.path.expandvars(path) != path:
        raise InvalidConfig(
            f"the path {path} names a variable of the environment; who reads it may have another one. Write its value"
        )
    _check_text(path, "the path")
    return path


def _check_text(text: str, what: str) -> None:
    """Refuse a text that would be changed, or has a secret in it.

    Raises
    ------
    InvalidConfig
        It is one; the message does not repeat it.
    """
    found = _CHANGED.search(text)
    if found is not None:
        raise InvalidConfig(
            f"{what} has {found.group()!r}, which Intake does not give back as it stands: it takes its files for "
            "templates. Do without it"
        )
    if not is_url(text):
        return
    refuse_credentials(text)


def check_description(description: str) -> None:
    """Refuse a description that could not be written; templates in it are rendered by nobody.

    Raises
    ------
    InvalidConfig
        It is one.
    """
    if not isinstance(description, str):
        raise InvalidConfig(f"the description is a text, not {description!r:.200}")
    found = re.search(r"[\ud800-\udfff]|!template ", description)
    if found is not None:
        raise InvalidConfig(f"the description has {found.group()!r}, which no catalog file of Intake's can hold")


def plain(value: Any, key: str) -> Any:
    """Give a value as YAML holds it, however deep, once there is no secret in it.

    Parameters
    ----------
    value
        The value.
    key
        Where it belongs.  Below ``storage_options`` no secrets are let through, unless by the name of a variable.

    Raises
    ------
    InvalidConfig
        There is a secret, or something that cannot be written; the message does not repeat it.
    """
    place, _, option = key.partition(".")
    if key == _OPTIONS and not isinstance(value, Mapping):
        raise InvalidConfig(f"{key} is a {type(value).__name__}; give a mapping such as {{'anon': True}}")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        if place == _OPTIONS and value.keys() == {"env"}:
            return {"env": _checked_variable(value["env"], key)}
        return {_checked_key(name, key): plain(value[name], f"{key}.{name}") for name in value}
    if value is None or isinstance(value, bool):
        return value
    if place == _OPTIONS and is_secret(option) and value not in _ANONYMOUS:
        raise InvalidConfig(
            f"{key} is a secret, and no file is the place for it: give the name of an environment variable that holds "
            f"it, as in {{'env': 'NAME'}}, or at the command line --storage-option {option}=env:NAME"
        )
    if isinstance(value, list | tuple):
        return [plain(item, key) for item in value]
    if isinstance(value, str):
        _check_text(value, key)
        return str(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)  # no number of NumPy's
    raise InvalidConfig(f"{key} is a {type(value).__name__}, which no catalog file can hold; give text or numbers")


def _checked_key(name: Any, key: str) -> str:
    if not isinstance(name, str):
        raise InvalidConfig(f"{key} has the key {name!r:.200}; keys are text")
    _check_text(name, f"a key of {key}")
    return name


def _checked_variable(name: Any, key: str) -> str:
    if not isinstance(name, str) or _VARIABLE.fullmatch(name) is None:
        raise InvalidConfig(f"{key} names no environment variable; give the name of one, not its value")
    return name
