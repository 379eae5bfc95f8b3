"""The broker of whoever imported one, instead of making it: ``from databroker import db, get_table``.

It exists where a configuration named ``_legacy_config`` does, and is opened when it is first asked for.
"""

import os
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from filebroker.ground import config
from filebroker.ground.cautions import warn
from filebroker.ground.errors import ConfigNotFound, FilebrokerWarning
from filebroker.ground.settings import Config

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker

_BROKERS = frozenset({"db", "DataBroker"})
#: Names of a module that exist only where there is a legacy configuration.
NAMES = _BROKERS | {
    *("get_events", "get_table", "stream", "get_fields", "restream", "process", "get_images", "fill_event")
}


def special_name() -> str:
    """Give the name of the legacy configuration.

    Examples
    --------
    >>> special_name()
    '_legacy_config'
    """
    return config.legacy_name()


def load() -> "Broker | None":
    """Open the catalog of the legacy configuration.

    Returns
    -------
    Broker or None
        The same one as long as the file is the same.  None if there is no such configuration, or if it cannot be
        opened.

    Warns
    -----
    FilebrokerWarning
        It cannot be opened.
    """
    try:
        found = config.find(special_name())
        return _opened(found.file or "", _stamp(found))
    except ConfigNotFound:
        return None
    except Exception as error:  # noqa: BLE001 - a script that never uses the broker must get through its imports
        warn(f"the configuration {special_name()!r} cannot be opened: {error}", FilebrokerWarning)
        return None


def attribute(name: str) -> Any:
    """Give one of `NAMES`.

    Parameters
    ----------
    name
        ``db`` or ``DataBroker`` for the broker, or the name of one of its methods.

    Raises
    ------
    AttributeError
        It does not exist, for want of a legacy configuration or otherwise.
    """
    broker = load() if name in NAMES else None
    if broker is None:
        why = f"; it exists where a configuration {special_name()!r} can be opened" if name in NAMES else ""
        raise AttributeError(f"module 'filebroker' has no attribute {name!r}{why}")
    return broker if name in _BROKERS else _deprecated(getattr(broker, name))


def _stamp(found: Config) -> tuple[int, int]:
    status = os.stat(found.file or "")
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1)
def _opened(file: str, stamp: tuple[int, int]) -> "Broker":
    """Open the catalog of a configuration file, once while it does not change."""
    from filebroker.faces.opening import opened

    return opened(config.find(special_name()))


def _deprecated(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def function(*arguments: Any, **keywords: Any) -> Any:
        name = method.__name__
        warn(f"filebroker.{name} is a method of one broker; make that broker, and call db.{name}", FilebrokerWarning)
        return method(*arguments, **keywords)

    return function
