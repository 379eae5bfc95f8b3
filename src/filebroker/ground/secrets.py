"""Credentials: named in configurations, taken from the environment when they are needed, shown nowhere."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from filebroker.ground.errors import InvalidConfig

#: Options that hold no secrets, and are worth reading in a message.
_OPEN = frozenset(
    {"addressing_style", "endpoint_url", "fo", "host", "profile", "region_name", "signature_version", "url"}
)
#: Where botocore takes credentials from that no option names.
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
#: Shorter strings are no credentials, and would blot out words.
_SHORTEST = 6
#: ``user:password@`` right after the protocol; ``host:80/`` is none.  A password may hold a slash.
_CREDENTIALS = re.compile(r"^[^/@:]*:(?!\d+/)[^@]*@|^[^/@:]+@(?=.*)", re.DOTALL)
#: How options are called that hold a secret.
_SECRET = re.compile(
    r"key|secret|token|passw|passphrase|pwd|credential|auth(orization)?$|cookie|\bsas|connection_?string"
    r"|\bsig$|signature$",
    re.IGNORECASE,
)
#: The names of what stands in the query of a URL.
_QUERY = re.compile(r"[?&]([^=&#]*)=")
#: Words with "key" in them that name no secret there.
_NO_KEYS = re.compile(r"keyword|monkey|turkey", re.IGNORECASE)
#: Protocols where something before an ``@`` is no secret: a user's or a container's name.
_NAMED_BEFORE_AT = frozenset({"abfs", "abfss", "adl", "az", "ftp", "sftp", "ssh", "smb", "hdfs", "webhdfs"})


def resolve(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put the values of environment variables in the place of ``{"env": "NAME"}``, however deep.

    Raises
    ------
    InvalidConfig
        A variable is not set.
    """
    return {key: _resolved(value) for key, value in options.items()}


def _resolved(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"env"} and isinstance(value["env"], str):
            return _variable(value["env"])
        return resolve(value)
    if isinstance(value, list | tuple):
        return [_resolved(item) for item in value]
    return value


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InvalidConfig(
            f"storage_options take a value from the environment variable {name}, which is not set; set it, "
            f"or name another one"
        )
    return value


def values_named(options: Mapping[str, Any]) -> list[str | None]:
    """List what the environment has of what options name, and of the usual variables; None for what is not set."""
    named = [value["env"] for value in _mappings(options) if value.keys() == {"env"} and isinstance(value["env"], str)]
    return [os.environ.get(name) for name in (*named, *_VARIABLES)]


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _mappings(item)


def values(options: Mapping[str, Any]) -> list[str]:
    """List what must be shown nowhere: strings in resolved options, and in the environment, longest first."""
    texts = [*_strings(options), *(os.environ.get(name, "") for name in _VARIABLES)]
    words = [word for text in texts for word in text.split()]  # a header may hold "Bearer" and a token
    return sorted({text for text in [*texts, *words] if len(text) >= _SHORTEST}, key=len, reverse=True)


def shareable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options without what may be a credential, to be written down.

    Strings are left out, but for those that are known to be harmless and the names of environment variables; and
    numbers under a name such as ``password``.

    Examples
    --------
    >>> shareable({"key": "AKIA", "secret": {"env": "SECRET"}, "anon": False, "profile": "hall-a"})
    {'secret': {'env': 'SECRET'}, 'anon': False, 'profile': 'hall-a'}
    """
    kept: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            inner = dict(value) if value.keys() == {"env"} else shareable(value)
            kept |= {key: inner} if inner else {}
        elif value is None or isinstance(value, bool) or _is_harmless(key, value):
            kept[key] = value
    return kept


def _is_harmless(key: str, value: Any) -> bool:
    if isinstance(value, int | float):
        return not is_secret(key)
    return isinstance(value, str) and key in _OPEN and not has_credentials(value)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _OPEN or not isinstance(item, str) or has_credentials(item):
                yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def scrub(text: str, secrets: list[str]) -> str:
    """Blot secrets out of a text, as they are and as they stand in URLs."""
    for secret in secrets:
        text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


def is_secret(name: str) -> bool:
    """Tell whether an option of some name is likely to hold a secret.

    Examples
    --------
    >>> is_secret("aws_secret_access_key"), is_secret("endpoint_url")
    (True, False)
    """
    return _SECRET.search(name) is not None


def has_credentials(url: str) -> bool:
    """Tell whether a URL has a password or a token in it.

    Examples
    --------
    >>> has_credentials("https://ana:word@host"), has_credentials("https://host?token=word"), has_credentials("host:80")
    (True, True, False)
    """
    try:
        refuse_credentials(url)
    except InvalidConfig:
        return True
    return False


def refuse_credentials(url: str) -> None:
    """Refuse a URL with a password or a token in it: URLs are shown, logged and written down.

    Raises
    ------
    InvalidConfig
        There is one; the message does not repeat it.
    """
    for part in url.split("::"):
        protocol, _, rest = part.partition("://")
        found = _CREDENTIALS.match(rest)
        if found and (":" in found.group() or protocol not in _NAMED_BEFORE_AT):
            raise InvalidConfig(
                f"a URL with {protocol}:// has credentials in it; leave them out, and name them in storage_options: "
                f"a profile, or {{'env': 'NAME'}} for the value of an environment variable"
            )
    names = _QUERY.findall(url) if "://" in url else ()
    secret = next((name for name in names if is_secret(_NO_KEYS.sub("", name))), None)
    if secret is not None:
        raise InvalidConfig(
            f"a URL has {secret!r:.100} in its query, which is a secret; leave it out, and name credentials in "
            "storage_options"
        )
