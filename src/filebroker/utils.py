"""Small things that scripts import from ``databroker.utils``."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from filebroker.faces.filtering import ALL
from filebroker.faces.wrapping import DeprecatedDoct, wrap_in_deprecated_doct, wrap_in_doct
from filebroker.ground import times
from filebroker.ground.config import describe_configs, list_configs, lookup_config, search_path
from filebroker.ground.errors import DuplicateHandler, InvalidQuery
from filebroker.ground.intake_files import catalog_search_path
from filebroker.ground.kinship import akin

__all__ = [
    "ALL",
    "DOCT_NAMES",
    "DeprecatedDoct",
    "DuplicateHandler",
    "LazyMap",
    "catalog_search_path",
    "describe_configs",
    "ensure_path_exists",
    "get_fields",
    "list_configs",
    "lookup_config",
    "normalize_human_friendly_time",
    "wrap_in_deprecated_doct",
    "wrap_in_doct",
]

#: What people call each kind of document.
DOCT_NAMES = {
    **{"resource": "Resource", "datum": "Datum", "descriptor": "Event Descriptor"},
    **{"event": "Event", "start": "Run Start", "stop": "Run Stop"},
}


def __getattr__(name: str) -> Any:
    if name == "CONFIG_SEARCH_PATH":  # the directories as they are now, which a change of HOME changes
        return tuple(search_path())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def normalize_human_friendly_time(val: Any, tz: str | tzinfo | None = None) -> float:
    """Read a time as people write it.

    Parameters
    ----------
    val
        Seconds since 1970, a datetime, or a string such as ``2026``, ``2026-11``, ``2026-11-22``,
        ``2026-11-22 14``, ``2026-11-22 14:30`` or ``2026-11-22 14:30:05``.
    tz
        The zone of a time that names none, as in ``"US/Eastern"``; None for the local one.

    Returns
    -------
    float
        Seconds since 1970 in UTC.

    Raises
    ------
    InvalidQuery
        It is no time; or clocks of the zone never showed it, or showed it twice (also ``pytz.NonExistentTimeError``
        and ``pytz.AmbiguousTimeError`` where pytz is in use); or there is no such zone (also
        ``pytz.UnknownTimeZoneError``).

    Examples
    --------
    >>> normalize_human_friendly_time("2014-02-10 10:01", "US/Eastern")
    1392044460.0
    """
    return times.parse(val, _zone(tz) if isinstance(tz, str) else tz)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise akin(InvalidQuery, "pytz", "UnknownTimeZoneError")(
            f"{name!r} is no time zone known here; give a name such as 'Europe/Berlin', or None for the local zone. "
            "If all names are unknown, pip install tzdata"
        ) from error


def get_fields(header: Mapping[str, Any], name: str | None = None) -> set[str]:
    """Give the names of the fields of a run, or of one of its streams.

    Parameters
    ----------
    header
        The run: a `Header`, or anything else that gives its ``descriptors``.
    name
        The stream, None for all.

    Examples
    --------
    >>> from filebroker import Broker
    >>> sorted(get_fields(Broker.named("example")[-1], "primary"))
    ['det', 'motor', 'motor_setpoint']
    """
    return {
        field
        for descriptor in header["descriptors"]
        if name is None or descriptor.get("name", "primary") == name
        for field in descriptor["data_keys"]
    }


def ensure_path_exists(path: str | os.PathLike[str], exist_ok: bool = True) -> None:
    """Make a directory, and those above it.

    Parameters
    ----------
    path
        The directory.
    exist_ok
        That it exists already is no error.

    Raises
    ------
    FileExistsError
        It exists, and ``exist_ok`` is false.

    Examples
    --------
    >>> import os
    >>> ensure_path_exists("beamtime/november")
    >>> os.path.isdir("beamtime/november")
    True
    """
    os.makedirs(path, exist_ok=exist_ok)


class LazyMap(Mapping[Any, Any]):
    """A mapping whose values are made when they are first asked for, each once.

    Parameters
    ----------
    *args, **kwargs
        As for `dict`; the values are functions without arguments that give the values.

    Examples
    --------
    >>> made = LazyMap(answer=lambda: 42)
    >>> made
    <LazyMap of 'answer', 0 made>
    >>> made["answer"], made
    (42, <LazyMap of 'answer', 1 made>)
    """

    def __init__(self, *args: Any, **kwargs: Callable[[], Any]) -> None:
        self._makers: dict[Any, Callable[[], Any]] = dict(*args, **kwargs)
        self._made: dict[Any, Any] = {}
        self._lock = threading.RLock()

    def __getitem__(self, key: Any) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = self._makers[key]()
            return self._made[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, key: object) -> bool:
        return key in self._makers

    def add(self, *args: Any, **kwargs: Callable[[], Any]) -> None:
        """Add values that are made when they are asked for.

        Parameters
        ----------
        *args, **kwargs
            As for `LazyMap` itself.

        Raises
        ------
        TypeError
            One of the keys is there already; then none is added.

        Examples
        --------
        >>> made = LazyMap()
        >>> made.add(answer=lambda: 42)
        >>> dict(made)
        {'answer': 42}
        """
        more = dict(*args, **kwargs)
        with self._lock:
            present = more.keys() & self._makers.keys()
            if present:
                raise TypeError(f"{', '.join(sorted(map(repr, present)))} is there already; a LazyMap never changes")
            self._makers |= more

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"_makers": dict(self._makers), "_made": dict(self._made)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<LazyMap of {', '.join(map(repr, self)) or 'nothing'}, {len(self._made)} made>"
