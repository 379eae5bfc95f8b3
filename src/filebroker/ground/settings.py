"""What one configuration says: where the runs are, and how they are to be read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from filebroker.ground.arguments import count, flag
from filebroker.ground.databroker_stores import Store, stores
from filebroker.ground.errors import InvalidConfig, InvalidOption

#: Keys of a configuration, with the kind of their values and an example for whoever wrote another kind.
_KINDS: dict[str, tuple[type, str]] = {
    "storage_options": (Mapping, "{anon: true}"),
    "handlers": (Mapping, "{AD_TIFF: 'my_package.MyHandler'}"),
    "root_map": (Mapping, "{/old/place: /new/place}"),
    "transforms": (Mapping, "{start: 'my_package.my_function'}"),
}
TIMES = ("since", "until", "start_time", "stop_time")
_KEYS = frozenset({"description", "path", "api_version", "read_only", "search", "limit", "labels", *_KINDS})
#: How a catalog is given: as databroker's version 0 and 1 did, or as a catalog of version 2.
_API_VERSIONS = (0, 1, 2)


@dataclass(frozen=True)
class Config:
    """Where a catalog is, and how it is to be read.

    Attributes
    ----------
    name : str
        The catalog's name; empty where it has none.
    file : str or None
        The YAML file that says so.
    content : dict
        The configuration as it stands there.
    unfilled : str or None
        A template in it that is not known how to fill in.

    Examples
    --------
    >>> Config("beamtime", "/data/beamtime.yml", {"path": "runs", "read_only": True}).options
    {'read_only': True}
    """

    name: str
    file: str | None
    content: dict[str, Any] = field(default_factory=dict)
    unfilled: str | None = None

    @property
    def description(self) -> str | None:
        """What the catalog is, in the words of its owner."""
        return self.content.get("description")

    @property
    def directory(self) -> str | None:
        """The directory of the YAML file, which relative paths start from."""
        return None if self.file is None else os.path.dirname(os.path.abspath(self.file))

    @property
    def label(self) -> str:
        """What to call the configuration in a message."""
        return self.file or "the configuration"

    @property
    def store(self) -> Store | None:
        """The storage of databroker that holds the runs, where no folder of ours does.

        Raises
        ------
        InvalidConfig
            It is described in a way that databroker does not understand either.
        """
        found = stores(self.content, self.label)
        if "path" in self.content or found is None or found.directory is not None:
            return None
        return found

    @property
    def url(self) -> str:
        """The catalog's path or URL, absolute.

        Raises
        ------
        InvalidConfig
            The configuration names no folder.
        """
        if self.unfilled is not None:
            raise InvalidConfig(
                f"the source {self.name!r} of {self.label} has {self.unfilled}, which is not known here; Intake may "
                f"fill it in: intake.open_catalog({self.label!r})[{self.name!r}].v1"
            )
        path = self.content.get("path")
        if path is None and (found := stores(self.content, self.label)) is not None:
            if found.directory is None:
                raise InvalidConfig(found.explain(self.label))
            path = found.directory
        if not isinstance(path, str) or not path:
            raise InvalidConfig(
                f"{self.label} names no catalog: it needs a line such as 'path: /data/beamtime'; a source of Intake's "
                "needs 'args: {url: /data/beamtime}'"
            )
        if "://" in path:
            return path
        return os.path.normpath(os.path.join(self.directory or os.getcwd(), _expanded(path)))

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for opening the catalog, besides its URL.

        Raises
        ------
        InvalidConfig
            The configuration has a key that means nothing, or a value of the wrong type.
        """
        unknown = sorted(map(str, self.content.keys() - _KEYS))
        if unknown and "metadatastore" not in self.content:  # databroker looks at no more than it knows
            raise InvalidConfig(f"{self.label} has {unknown[0]!r}, which means nothing; it may have {sorted(_KEYS)}")
        self._check_listing()
        given = {key: self._value(key) for key in ("storage_options",) if key in self.content}
        return given if "read_only" not in self.content else {**given, "read_only": self._read_only}

    @property
    def _read_only(self) -> bool:
        try:
            return flag("read_only", self.content["read_only"])
        except InvalidOption:
            raise InvalidConfig(
                f"{self.label} has read_only: {self.content['read_only']!r:.200}; write for example 'read_only: true'"
            ) from None

    def _check_listing(self) -> None:
        """Refuse what says wrongly how a catalog is to be listed; the prompt lists nothing by itself."""
        try:
            count(self.content.get("limit"))
            flag("labels", self.content.get("labels"))
        except InvalidOption as error:
            raise InvalidConfig(f"{self.label} cannot be used: {error}") from None

    @property
    def handlers(self) -> dict[str, str]:
        """The dotted names of the classes that read external data, by spec.

        Raises
        ------
        InvalidConfig
            One of them names no class.
        """
        return {str(spec): self._dotted(spec, handler) for spec, handler in self._value("handlers").items()}

    def _dotted(self, spec: Any, handler: Any) -> str:
        if isinstance(handler, Mapping) and {"module", "class"} <= handler.keys():
            handler = f"{handler['module']}.{handler['class']}"
        if not isinstance(handler, str) or not {".", ":"} & set(handler):
            raise InvalidConfig(
                f"{self.label} has the handler {spec}: {handler!r:.200}; write for example "
                f"'{spec}: {{module: my_package.handlers, class: MyHandler}}'"
            )
        return handler

    @property
    def root_map(self) -> dict[str, str]:
        """Where the roots of external files have moved, as it stands in the configuration.

        Raises
        ------
        InvalidConfig
            It holds something else than paths.
        """
        given = self._value("root_map")
        for old, new in given.items():
            if not (isinstance(old, str) and isinstance(new, str)):
                raise InvalidConfig(
                    f"{self.label} has {old!r}: {new!r} in its root_map; both are paths, as in '/old/place: /new/place'"
                )
        return {old: new if "://" in new else _expanded(new) for old, new in given.items()}

    @property
    def transforms(self) -> dict[str, Any]:
        """The dotted names of the functions that change documents, by the documents' kind.

        Raises
        ------
        InvalidConfig
            It is no mapping.
        """
        return dict(self._value("transforms"))

    @property
    def searches(self) -> list[dict[str, Any]]:
        """The searches that all runs of the catalog answer, each by its keywords at the prompt.

        Raises
        ------
        InvalidConfig
            They are no searches.

        Examples
        --------
        >>> Config("lab6", None, {"search": "LaB6"}).searches
        [{'text_search': 'LaB6'}]
        """
        return searches(self.content.get("search"), self.label)

    @property
    def api_version(self) -> int:
        """0 or 1 for a Broker, 2 for its version 2 face.

        Raises
        ------
        InvalidConfig
            There is no such version.
        """
        version = self.content.get("api_version")
        if version is None:
            return 1
        if type(version) is not int or version not in _API_VERSIONS:
            raise InvalidConfig(
                f"{self.label} has api_version: {version!r}; it may be 0 or 1 for a Broker, or 2 for its version 2 face"
            )
        return version

    def _value(self, key: str) -> Any:
        """Give what is written under a key, an empty value of its kind if nothing is."""
        kind, example = _KINDS[key]
        value = self.content.get(key)
        if value is None and kind is Mapping:
            return {}
        if not isinstance(value, kind):
            raise InvalidConfig(f"{self.label} has {key}: {value!r:.200}; write for example '{key}: {example}'")
        return value


def searches(given: Any, label: str) -> list[dict[str, Any]]:
    """Give searches as they stand in a configuration by the keywords that each of them has at the prompt.

    Parameters
    ----------
    given
        Words; a mapping of keywords; a list of both, which all have to be answered; or nothing.
    label
        What to call the configuration in a message.

    Raises
    ------
    InvalidConfig
        It is none of these.

    Examples
    --------
    >>> searches(["LaB6", {"plan_name": "scan", "since": "2026-11"}], "lab6.yml")
    [{'text_search': 'LaB6'}, {'plan_name': 'scan', 'since': '2026-11'}]
    """
    found: list[dict[str, Any]] = []
    for item in given if isinstance(given, list | tuple) else [given]:
        if isinstance(item, Mapping) and all(isinstance(key, str) for key in item):
            found.append({key: _year(value) if key in TIMES else value for key, value in item.items()})
        elif isinstance(item, str):
            found.append({"text_search": item})
        elif item is not None:
            raise InvalidConfig(
                f"{label} has the search {item!r:.200}; write for example 'search: LaB6', or "
                "'search: {plan_name: scan, since: 2026-11}'"
            )
    return [search for search in found if search not in ({}, {"text_search": ""})]


def _year(time: Any) -> Any:
    """Take a number of four digits, as YAML reads it, for a year and not for seconds."""
    return str(time) if type(time) is int and 1000 <= time <= 9999 else time


def _expanded(path: str) -> str:
    return os.path.expanduser(os.path.expandvars(path))
