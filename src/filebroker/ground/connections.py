"""Connections to filesystems: made when first needed, shared by all stores of one process that can use the same."""

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from filebroker.ground import http_transport, s3_transport
from filebroker.ground.errors import InvalidConfig, MissingPackage, StorageError
from filebroker.ground.forks import renew_in_children
from filebroker.ground.packages import need
from filebroker.ground.secrets import resolve, scrub, values
from filebroker.ground.transports import Transport

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "http": "aiohttp", "https": "aiohttp"}
#: Protocols whose filesystems serve any URL; others are made for one host or one archive.
_SERVES_ALL = frozenset({"s3", "s3a", "http", "https", "memory"})
#: Caches of fsspec.  They are passed by: they give stale files for fresh ones, and half ones after a failure.
_CACHES = frozenset({"blockcache", "cached", "filecache", "simplecache"})
#: Options and variables that name a server.
_SERVER_OPTIONS = frozenset({"account_name", "endpoint", "endpoint_url", "host", "port"})
_SERVER_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
#: So many connections are kept for whoever asks again.
_KEPT = 16


@dataclass(frozen=True)
class Connection:
    """A filesystem, ready for requests.

    Attributes
    ----------
    transport : Transport
        Sends them.
    root : str
        The directory, as the filesystem knows it.
    secrets : list of str
        What no message may show.
    """

    transport: Transport
    root: str
    secrets: list[str] = field(repr=False)

    def path(self, name: str) -> str:
        """Give the full path of a name below the directory."""
        return self.transport.join(self.root, name)


def protocols(url: str) -> list[str]:
    """Give the protocols of a URL, the outermost of a chain such as ``zip::s3://bucket/file`` first."""
    return [part.partition("://")[0] for part in url.split("::")]


def server_of(storage_options: Mapping[str, Any]) -> str:
    """Give what tells the server from others that have a place of the same URL; empty for the protocol's own.

    Raises
    ------
    InvalidConfig
        An environment variable that the options name is not set.
    """
    named = sorted(_servers(resolve(storage_options)))
    variables = [os.environ[name] for name in _SERVER_VARIABLES if os.environ.get(name)]
    return " ".join(named or variables[:1])


def _servers(options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _servers(value)
        elif key in _SERVER_OPTIONS:
            yield str(value)


def connect(url: str, storage_options: Mapping[str, Any]) -> Connection:
    """Connect to what a URL names, or take the connection that there is.

    Raises
    ------
    InvalidConfig
        An environment variable that the options name is not set, or the URL names nothing.
    MissingPackage
        A package for the protocol is not installed.
    StorageError
        fsspec cannot make the filesystem.
    """
    resolved = resolve(storage_options)
    url, options = _plain(url, resolved)
    secrets = values(resolved)
    transport = _connections.get(url, options, secrets)
    root = type(transport.filesystem)._strip_protocol(url.partition("::")[0])
    if not root.strip("/") and protocols(url)[0] in _PACKAGES:
        raise InvalidConfig(f"{url!r} names no place; it needs a bucket or a directory, as in s3://bucket/beamtime")
    return Connection(transport, root.rstrip("/"), secrets)


def _plain(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """Leave out caches, and give the options of each protocol by itself."""
    parts = url.split("::")
    loose = {key: value for key, value in options.items() if key not in protocols(url)}
    while len(parts) > 1 and parts[0].partition("://")[0] in _CACHES:
        del parts[0]
        loose = {}  # they were the cache's
    url = "::".join(parts)
    own = {protocol: dict(options.get(protocol) or {}) for protocol in protocols(url)}
    own[protocols(url)[0]].update(loose)
    return url, own


class _Connections:
    """The connections of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Transport] = OrderedDict()
        self._inherited: list[Any] = []
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Forget the parent's connections, but keep them: to close them would disturb the parent."""
        self._lock = threading.Lock()
        self._inherited.append(self._known)
        self._known = OrderedDict()
        if asyn := sys.modules.get("fsspec.asyn"):
            asyn.reset_lock()

    def get(self, url: str, options: dict[str, dict[str, Any]], secrets: list[str]) -> Transport:
        """Give the connection for a URL."""
        key = _key(url, options)
        with self._lock:
            if key not in self._known:
                self._known[key] = _made(url, options, secrets)
            self._known.move_to_end(key)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)  # whoever uses it still does
            return self._known[key]


_connections = _Connections()


def _key(url: str, options: dict[str, dict[str, Any]]) -> str:
    """Tell connections apart: by options, and by the variables that s3fs takes credentials from."""
    place = url if set(protocols(url)) - _SERVES_ALL else protocols(url)
    surroundings = sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
    return repr((place, options, surroundings))


def _made(url: str, options: dict[str, dict[str, Any]], secrets: list[str]) -> Transport:
    target = protocols(url)[-1]
    if target in _PACKAGES:
        need(_PACKAGES[target])
    if target.startswith("s3"):
        options[target] = s3_transport.tuned(options[target])
    if target.startswith("http"):
        options[target] = http_transport.tuned(options[target])
    options[target] = {"use_listings_cache": False, "skip_instance_cache": True, **options[target]}
    filesystem = _filesystem(url, options, secrets)
    if url.startswith("s3"):
        return s3_transport.S3Transport(filesystem)
    if url.startswith("http"):
        return http_transport.HTTPTransport(filesystem)
    return Transport(filesystem)


def _filesystem(url: str, options: dict[str, dict[str, Any]], secrets: list[str]) -> Any:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url, **options)[0]
    except ImportError as error:
        raise MissingPackage(f"{url!r} takes a package that is not installed: {error}") from error
    except Exception as error:  # noqa: BLE001 - each filesystem refuses its options in a way of its own
        cause = error
    reason = scrub(f"{cause}", secrets)
    # Raised here, and not above, so that what shows a secret is not even its context.
    raise StorageError(f"cannot open {url!r}: {reason}") from (cause if reason == str(cause) else None)
