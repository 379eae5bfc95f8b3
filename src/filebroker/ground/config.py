"""Named catalogs: small YAML files, and where they are looked for.

A configuration says where a catalog is::

    description: Beamtime of November 2026
    path: /data/beamtime-2026-11     # or relative to this file, or s3://bucket/beamtime
    storage_options: {anon: true}    # arguments of the fsspec filesystem
    read_only: true

An Intake catalog whose sources have the driver ``filebroker`` serves as well; each source is a name.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filebroker.ground.errors import ConfigNotFound, FilebrokerWarning, InvalidConfig

#: A configuration that databroker loads at import; it is never listed.
_LEGACY_NAMES = frozenset({"_legacy_config"})
_DRIVER = "filebroker"
_KEYS = frozenset({"description", "path", "storage_options", "read_only"})


@dataclass(frozen=True)
class Config:
    """Where a catalog is.

    Attributes
    ----------
    name : str
        The catalog's name.
    file : str
        The YAML file that says so.
    content : dict
        The configuration as it stands there.
    """

    name: str
    file: str
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> str | None:
        """What the catalog is, in the words of its owner."""
        return self.content.get("description")

    @property
    def url(self) -> str:
        """The catalog's path or URL, absolute.

        Raises
        ------
        InvalidConfig
            The configuration is not one of filebroker's.
        """
        path = self.content.get("path")
        if not isinstance(path, str) or not path:
            raise InvalidConfig(self._explain())
        if "://" in path:
            return path
        expanded = os.path.expanduser(os.path.expandvars(path))
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(self.file)), expanded))

    def _explain(self) -> str:
        if "metadatastore" in self.content:
            store = self.content["metadatastore"]
            module = store.get("module", "its own storage") if isinstance(store, Mapping) else "its own storage"
            return (
                f"{self.file} configures databroker's {module}, which filebroker does not read. Export its runs, and "
                f"write a configuration with 'path:' to the folder that holds them"
            )
        return f"{self.file} names no catalog: it needs a line such as 'path: /data/beamtime'"

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for opening the catalog, besides its URL.

        Raises
        ------
        InvalidConfig
            The configuration has a key that means nothing, or a value of the wrong type.
        """
        unknown = sorted(map(str, self.content.keys() - _KEYS))
        if unknown:
            raise InvalidConfig(f"{self.file} has {unknown[0]!r}, which means nothing; it may have {sorted(_KEYS)}")
        for key, kind, example in (("storage_options", Mapping, "{anon: true}"), ("read_only", bool, "true")):
            if key in self.content and not isinstance(self.content[key], kind):
                raise InvalidConfig(
                    f"{self.file} has {key}: {self.content[key]!r}; write for example '{key}: {example}'"
                )
        return {key: self.content[key] for key in ("storage_options", "read_only") if key in self.content}


def search_path() -> list[str]:
    """List the directories in which configurations are looked for, the first wins.

    They are filebroker's own (``~/.config/filebroker``, ``etc/filebroker`` of this Python), then
    databroker's, then the one that comes with filebroker.
    """
    import platformdirs

    environment = os.path.join(os.path.dirname(os.path.dirname(sys.executable)), "etc")
    if os.name == "nt":
        databroker = [os.path.join(os.environ.get("APPDATA", ""), "databroker")]
    else:
        databroker = [
            os.path.join(os.path.expanduser("~"), ".config", "databroker"),
            os.path.join(environment, "databroker"),
            "/etc/databroker",
        ]
    return [
        platformdirs.user_config_dir("filebroker", appauthor=False),
        os.path.join(sys.prefix, "etc", "filebroker"),
        *databroker,
        str(_shipped_catalogs()),
    ]


def _shipped_catalogs() -> Path:
    """Give the directory of the catalogs that come with filebroker, installed or in its source tree."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "shipped" / "catalogs"
    return installed if installed.is_dir() else package.parents[1] / "catalogs"


def list_configs(paths: Sequence[str] | None = None) -> list[str]:
    """List the names that ``Broker.named`` knows.

    Parameters
    ----------
    paths
        Directories to look in; None for the usual ones, see `search_path`.

    Returns
    -------
    list of str
        Sorted.  A name found in several places is given once, with a warning; the first place wins.

    Examples
    --------
    >>> "example" in list_configs()
    True
    """
    found: dict[str, str] = {}
    configs, problems = _read_all(paths)
    _warn(problems)
    for config in configs:
        shadowed = config.name in found and os.path.realpath(found[config.name]) != os.path.realpath(config.file)
        if shadowed and not config.file.startswith(str(_shipped_catalogs())):
            warnings.warn(
                f"the catalog {config.name!r} is configured in {found[config.name]} and in {config.file}; "
                "the first is used",
                FilebrokerWarning,
                stacklevel=2,
            )
        found.setdefault(config.name, config.file)
    return sorted(found.keys() - _LEGACY_NAMES)


def describe_configs(paths: Sequence[str] | None = None) -> dict[str, str | None]:
    """Give the description of each configured catalog by its name, None where it has none."""
    found: dict[str, str | None] = {}
    configs, problems = _read_all(paths)
    _warn(problems)
    for config in configs:
        found.setdefault(config.name, config.description)
    return {name: found[name] for name in sorted(found.keys() - _LEGACY_NAMES)}


def lookup_config(name: str, paths: Sequence[str] | None = None) -> dict[str, Any]:
    """Give the content of a configuration.

    Parameters
    ----------
    name
        The catalog's name, with or without ``.yml``.
    paths
        Directories to look in; None for the usual ones.

    Raises
    ------
    ConfigNotFound
        There is none; the message lists every place that was looked in.

    Examples
    --------
    >>> sorted(lookup_config("example"))
    ['description', 'path', 'read_only']
    """
    return find(name, paths).content


def find(name: str, paths: Sequence[str] | None = None) -> Config:
    """Give a configuration with the file it stands in.

    Raises
    ------
    ConfigNotFound
        There is none; the message lists every place that was looked in.
    InvalidConfig
        There is a file of that name, but it cannot be read.
    """
    wanted = name.removesuffix(".yml").removesuffix(".yaml")
    configs, problems = _read_all(paths)
    for config in configs:
        if config.name == wanted:
            return config
    for file, problem in problems:
        if Path(file).stem == wanted:
            raise InvalidConfig(f"the configuration {file} cannot be used: {problem}")
    places = "\n".join(f"  {path}" for path in (search_path() if paths is None else paths))
    known = ", ".join(sorted({config.name for config in configs} - _LEGACY_NAMES))
    raise ConfigNotFound(
        f"no catalog is named {wanted!r}: there is no {wanted}.yml in\n{places}\n"
        f"The names known are {known or 'none'}. To add one, write a file {wanted}.yml in the "
        "first of these directories, with a line such as 'path: /data/beamtime'"
    )


def _warn(problems: Sequence[tuple[str, str]]) -> None:
    for file, problem in problems:
        warnings.warn(f"the configuration {file} cannot be read: {problem}", FilebrokerWarning, stacklevel=3)


def _read_all(paths: Sequence[str] | None) -> tuple[list[Config], list[tuple[str, str]]]:
    """Give every configuration, those of the first directory first, and what is wrong with which file."""
    configs: list[Config] = []
    problems: list[tuple[str, str]] = []
    for directory in search_path() if paths is None else paths:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue  # most of these directories exist nowhere
        for name in names:
            if name.endswith((".yml", ".yaml")):
                file = os.path.join(directory, name)
                try:
                    configs += _read(file)
                except InvalidConfig as error:
                    problems.append((file, str(error)))
    return configs, problems


def _read(file: str) -> list[Config]:
    """Give the configurations of one file.

    Raises
    ------
    InvalidConfig
        It is no YAML, or holds no mapping.
    """
    import yaml

    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidConfig(str(error)) from None
    if not isinstance(content, dict):
        raise InvalidConfig(
            f"it holds {content!r:.60} where lines such as 'path: /data/beamtime' are due (mind the space)"
        )
    sources = content.get("sources")
    if not isinstance(sources, Mapping):
        return [Config(Path(file).stem, file, content)]
    directory = os.path.dirname(os.path.abspath(file))
    return [
        Config(str(name), file, _from_intake(source, directory))
        for name, source in sources.items()
        if isinstance(source, Mapping) and source.get("driver") == _DRIVER
    ]


def _from_intake(source: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Translate a source of an Intake catalog."""
    arguments = dict(source.get("args") or {})
    url = arguments.pop("url", None) or arguments.pop("path", "")
    if isinstance(url, str):
        arguments["path"] = url.replace("{{ CATALOG_DIR }}", directory).replace("{{CATALOG_DIR}}", directory)
    if source.get("description"):
        arguments["description"] = source["description"]
    return arguments
