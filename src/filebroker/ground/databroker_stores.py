"""databroker's own configurations: where they say that runs are kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from filebroker.ground.errors import InvalidConfig

_PASSWORD = re.compile(r"//[^/@]*@")


@dataclass(frozen=True)
class Store:
    """What databroker calls a metadatastore.

    Attributes
    ----------
    module : str
        The module of databroker that reads and writes it.
    settings : Mapping
        What it is told.
    """

    module: str
    settings: Mapping[str, Any]

    @property
    def directory(self) -> str | None:
        """The folder where the runs are kept, None if they are in a database."""
        folder = self.settings.get("directory")
        return folder if isinstance(folder, str) and folder else None

    @property
    def place(self) -> str:
        """Where the database is, for messages; a password is left out."""
        known = self.settings
        server = known.get("uri") or ":".join(str(known[key]) for key in ("host", "port") if key in known)
        database = known.get("database")
        return "/".join(_PASSWORD.sub("//", str(part)) for part in (server, database) if part) or "a database"

    def explain(self, label: str) -> str:
        """Say that these runs are not read here, and how to move them.

        Parameters
        ----------
        label
            What to call the configuration.
        """
        return (
            f"{label} keeps its runs in {self.place} ({self.module}), which filebroker does not read. To move them, "
            "run 'filebroker import /data/runs NAME', with the name of the configuration, in an environment that has "
            "databroker as well, and add the line 'path: /data/runs' to the configuration: filebroker goes by it, "
            "and databroker does not mind it"
        )


def stores(content: Mapping[str, Any], label: str) -> Store | None:
    """Give the storage that a configuration of databroker names, None if it is none of databroker's.

    Parameters
    ----------
    content
        The configuration.
    label
        What to call it in messages.

    Raises
    ------
    InvalidConfig
        It cannot be understood.

    Examples
    --------
    >>> settings = {"host": "db.example.org", "port": 27017, "database": "runs"}
    >>> content = {"metadatastore": {"module": "databroker.headersource.mongo", "class": "MDS", "config": settings}}
    >>> stores(content, "the configuration").place
    'db.example.org:27017/runs'
    """
    if "metadatastore" not in content:
        return None
    if "assets" in content:
        _store(content, "assets", label)
    return _store(content, "metadatastore", label)


def _store(content: Mapping[str, Any], key: str, label: str) -> Store:
    given = content[key]
    missing = {"module", "class", "config"} - given.keys() if isinstance(given, Mapping) else None
    if missing is None or missing or not isinstance(given["config"], Mapping):
        lacking = f"lacks {', '.join(sorted(missing))}" if missing else f"is {given!r:.100}"
        raise InvalidConfig(f"in {label}, {key} {lacking}; it has a module, a class, and a config of several lines")
    settings = given["config"]
    clash = "uri" in settings and [name for name in ("host", "port") if name in settings]
    if clash:
        raise InvalidConfig(
            f"in {label}, the config of {key} has both uri and {' and '.join(clash)}; one says what the other does, so "
            "leave one out"
        )
    return Store(str(given["module"]), settings)
