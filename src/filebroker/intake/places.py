"""Where the runs of a source are and how they are read, as its arguments say; and the brokers that open them."""

import hashlib
import json
import os
import posixpath
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import index
from typing import Any
from weakref import WeakValueDictionary

from filebroker.assets.places import resolved
from filebroker.faces.broker import Broker
from filebroker.faces.opening import opened
from filebroker.ground import forks
from filebroker.ground.errors import CatalogNotFound, InvalidConfig
from filebroker.ground.filesystem import Folder, is_url
from filebroker.ground.secrets import refuse_credentials, shareable, values_named
from filebroker.ground.settings import Config


@dataclass(frozen=True)
class Place:
    """Where runs are, and how they are read.

    Attributes
    ----------
    url : str
        The catalog's absolute path, or its URL.
    storage_options : dict
        Arguments of the fsspec filesystem, as they were given.
    handlers : dict of str
        The dotted names of the classes that read external data, by spec.
    root_map : dict of str
        Where the roots of external files have moved; absolute.
    transforms : dict of str
        The dotted names of the functions that change documents, by the documents' kind.
    """

    url: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    handlers: dict[str, str] = field(default_factory=dict)
    root_map: dict[str, str] = field(default_factory=dict)
    transforms: dict[str, str] = field(default_factory=dict)

    def arguments(self, *, secrets: bool = False) -> dict[str, Any]:
        """Give what a source of this place is made of.

        Parameters
        ----------
        secrets
            Also give what in the storage options may be a credential.
        """
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        if not secrets:
            given["storage_options"] = shareable(self.storage_options)
        return {name: value for name, value in given.items() if value}

    def broker(self, *, read_only: bool = True, name: str | None = None) -> Broker:
        """Open the catalog.

        Parameters
        ----------
        read_only
            Never write.
        name
            A name for people.

        Raises
        ------
        FilebrokerError
            As for `Broker`.
        """
        content = self.arguments(secrets=True)
        content["path"] = content.pop("url")
        return opened(Config(name or "", None, {**content, "read_only": read_only}))

    def shared_broker(self) -> Broker:
        """Give a broker for reading that all sources of this place have in common while one of them is in use."""
        try:
            return _brokers.give(self)
        except CatalogNotFound as error:
            raise CatalogNotFound(
                f"{error}. One begins with its first document, as in RE.subscribe(catalog.v1.insert); names are opened "
                "by intake.cat or Broker.named"
            ) from None


def place_of(
    url: str | os.PathLike[str] | None,
    directory: str | None,
    **options: Mapping[str, Any] | None,
) -> Place:
    """Give the place that the arguments of a source name.

    Parameters
    ----------
    url
        A path or a URL.
    directory
        What relative paths are relative to: the directory of the catalog file, which may be a URL; None for the
        working directory.
    **options
        ``storage_options``, ``handlers``, ``root_map`` and ``transforms``; classes and functions are taken by their
        dotted names.

    Raises
    ------
    InvalidConfig
        The place cannot be understood, or the URL has credentials in it.
    """
    if not isinstance(url, str | os.PathLike) or not os.fspath(url):
        raise InvalidConfig(
            f"a source of filebroker names no catalog: it needs 'url: /data/beamtime', not {url!r:.100}"
        )
    given = {key: _mapping(key, value) for key, value in options.items()}
    for key in ("handlers", "transforms"):
        given[key] = {str(name): _dotted(item) for name, item in given.get(key, {}).items()}
    config = Config("", None, given)
    local = None if directory is None or is_url(directory) else directory
    return Place(
        absolute(os.fspath(url), directory),
        given["storage_options"],
        config.handlers,
        resolved(config.root_map, local or os.getcwd()),
        config.transforms,
    )


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):  # not shown: it may be a credential
        raise InvalidConfig(f"the source has {key} of type {type(value).__name__}; it is a mapping")
    if not all(isinstance(name, str) for name in value or ()):
        raise InvalidConfig(f"the source has {key} with a key that is no text")
    return dict(value or {})


def run_key(run: Any) -> str | int:
    """Give what names a run as it is written down.

    Parameters
    ----------
    run
        A uid, the beginning of one, a scan_id or a position.

    Raises
    ------
    InvalidConfig
        It is none of these.
    """
    if isinstance(run, str) and run:
        return run
    if not hasattr(run, "__index__") or isinstance(run, bool):
        raise InvalidConfig(f"a source of one run needs 'run: -1', or a scan_id or uid, not {run!r:.100}")
    return index(run)


def _dotted(item: Any) -> Any:
    """Give the dotted name of a class or function, by which other processes can import it."""
    if isinstance(item, str | Mapping):
        return item
    name = getattr(item, "__qualname__", "<unnamed>")
    if "<" in name:
        raise InvalidConfig(
            f"{item!r:.200} has no name that other processes could import; define it at the top of a module, or give "
            "it to Broker(...)"
        )
    return f"{item.__module__}.{name}"


def absolute(url: str, directory: str | None) -> str:
    """Make a path or URL absolute, without ``..`` and doubled slashes.

    Parameters
    ----------
    url
        A path or a URL.
    directory
        What a relative path is relative to, a path or a URL; None for the working directory.

    Raises
    ------
    InvalidConfig
        The URL has credentials in it.

    Examples
    --------
    >>> absolute("../data", "s3://bucket/catalogs"), absolute("memory://a//b/../c", None)
    ('s3://bucket/data', 'memory://a/c')
    """
    refuse_credentials(url)
    if not is_url(url):
        path = os.path.expanduser(os.path.expandvars(url))
        if directory is None or not is_url(directory) or os.path.isabs(path):
            return os.path.normpath(os.path.join(directory or os.getcwd(), path))
        url = f"{directory.rstrip('/')}/{path}"
    protocol, _, path = url.rpartition("://")
    if protocol in ("file", "local"):
        return Folder(url).url
    return f"{protocol}://{posixpath.normpath(path)}" if path and "::" not in path else url


class _Brokers:
    """Brokers by the place that they read."""

    def __init__(self) -> None:
        self.renew_locks()
        forks.renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.Lock()
        self._known: WeakValueDictionary[str, Broker] = WeakValueDictionary()

    def give(self, place: Place) -> Broker:
        """Give the broker of a place, opened unless it is open."""
        # Credentials that were renewed in the environment make another broker.
        known = place.arguments(secrets=True), values_named(place.storage_options)
        key = hashlib.sha256(json.dumps(known, sort_keys=True, default=repr).encode()).hexdigest()
        with self._mutex:
            broker = self._known.get(key)
        if broker is None:
            broker = place.broker()
            with self._mutex:
                broker = self._known.setdefault(key, broker)
        return broker


_brokers = _Brokers()
