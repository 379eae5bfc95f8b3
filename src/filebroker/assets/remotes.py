"""The filesystems of URLs: those that catalogs were opened with, and else what the environment says."""

from collections.abc import Mapping
from typing import Any

#: The storage_options of the directories of stores that files are read below.
_options: dict[str, Mapping[str, Any]] = {}


def remember(url: str, storage_options: Mapping[str, Any]) -> None:
    """Read what is below a URL with the options of its catalog, from now on.

    Parameters
    ----------
    url
        A directory of a store.
    storage_options
        Arguments of the fsspec filesystem.  A value ``{"env": "NAME"}`` stands for that of an environment variable.
    """
    _options[url.rstrip("/")] = dict(storage_options)


def options_for(url: str) -> Mapping[str, Any] | None:
    """Give the options that a URL is read with, None if no catalog was opened with any.

    Parameters
    ----------
    url
        Of a file or a directory.
    """
    known = _place_of(url)
    return None if known is None else _options[known]


def _place_of(url: str) -> str | None:
    return max((place for place in _options if f"{url}/".startswith(f"{place}/")), key=len, default=None)


def reached(url: str) -> tuple[Any, str]:
    """Give the filesystem of a URL, which caches no listings, and the path there.

    Parameters
    ----------
    url
        Of a file or a directory.

    Raises
    ------
    ImportError, OSError, ValueError
        fsspec has no filesystem for it, or cannot make it.
    """
    import fsspec

    known = _place_of(url)
    if known is None:
        filesystem, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
        return filesystem, path
    from filebroker.ground.connections import connect

    link = connect(known, _options[known])
    return link.transport.filesystem, link.path(url[len(known) + 1 :])
