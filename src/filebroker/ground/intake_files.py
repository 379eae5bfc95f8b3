"""Intake's YAML files: where they are looked for, and the sources in them that are ours."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from filebroker.ground.errors import InvalidConfig
from filebroker.ground.settings import Config
from filebroker.ground.templates import default_of, filled_in, unfilled
from filebroker.ground.yaml_files import files_in, read_mapping

#: The driver of a source that is a catalog of ours.
DRIVER = "filebroker"
#: The class of that driver.
_CLASS = "filebroker.intake.catalogs.IntakeCatalog"
#: Arguments of a driver that are for people.
_PEOPLES = ("name", "metadata")
#: What separates directories in INTAKE_PATH: not the colon of a URL.
_SEPARATOR = re.compile(";" if os.name == "nt" else r":(?!//)")


@dataclass(frozen=True)
class Source:
    """One source of an Intake catalog file.

    Attributes
    ----------
    name : str
        Its name.
    driver : str
        The driver that opens it.
    file : str
        The file.
    config : Config or None
        The source as a configuration, if the driver is ours.
    """

    name: str
    driver: str
    file: str
    config: Config | None


def catalog_search_path() -> tuple[str, str]:
    """Give the directories in which Intake's catalog files are looked for: the user's and the environment's.

    Those of the environment variable ``INTAKE_PATH``, or of ``catalog_path`` in Intake's configuration, are looked
    through as well.

    Examples
    --------
    >>> import os
    >>> [os.path.isabs(directory) for directory in catalog_search_path()]
    [True, True]
    """
    import platformdirs

    prefix = environment_prefix()
    environment = (
        platformdirs.site_data_dir("intake", "intake") if prefix is None else os.path.join(prefix, "share", "intake")
    )
    return platformdirs.user_data_dir("intake", "intake"), environment


def environment_prefix() -> str | None:
    """Give the directory of the environment that Intake takes for the present one; None if it sees none."""
    prefix = os.environ.get("VIRTUAL_ENV") or None
    if prefix is None and "CONDA_PREFIX" in os.environ:
        prefix = sys.prefix
    if prefix is None and (conda := shutil.which("conda")) is not None:
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(conda)))  # conda is there, and not activated
    return prefix


def catalog_places() -> tuple[list[str], list[str]]:
    """List where Intake's catalog files are looked for, the first wins.

    Returns
    -------
    places : list of str
        Directories, or files.
    problems : list of str
        What is not looked through, and why.
    """
    problems = []
    try:
        added = _added_places()
    except InvalidConfig as error:
        added = []
        problems.append(f"Intake's configuration cannot be read: {error}")
    found: list[str] = []
    for place in (*catalog_search_path(), *added):
        if "://" in place:
            problems.append(f"{place} is not looked through: catalog files are read from local directories")
            continue
        found.append(os.path.expanduser(place))
    return list(dict.fromkeys(found)), problems


def catalog_files() -> tuple[list[str], list[str]]:
    """List the YAML files on Intake's search path, those of the first directory first.

    Returns
    -------
    files : list of str
        The files.
    problems : list of str
        What could not be looked through, and why.
    """
    places, problems = catalog_places()
    return list(dict.fromkeys(file for place in places for file in files_in(place))), problems


def _added_places() -> list[str]:
    """Give the directories that Intake was told of: by the environment, else by its configuration."""
    given: Any = os.environ.get("INTAKE_PATH")
    if given is None and (given := os.environ.get("INTAKE_CATALOG_PATH")) is not None:
        given = [part.strip(" '\"") for part in given.strip("[] ").split(",")]  # a list as Python writes it
    if given is None:
        directory = os.environ.get("INTAKE_CONF_DIR", os.path.join(os.path.expanduser("~"), ".intake"))
        file = os.environ.get("INTAKE_CONF_FILE", os.path.join(directory, "conf.yaml"))
        given = read_mapping(file).get("catalog_path") if os.path.isfile(file) else None
    parts = _SEPARATOR.split(given) if isinstance(given, str) else given or []
    return [str(part) for part in parts if part]


def sources_of(content: Mapping[str, Any], file: str) -> Iterator[Source]:
    """Give the sources of a catalog file.

    Parameters
    ----------
    content
        What the file holds.
    file
        Where it is.
    """
    sources = content.get("sources")
    shared = _mapping(_mapping(content.get("metadata")).get("parameters"))
    for name, source in sources.items() if isinstance(sources, Mapping) else ():
        if isinstance(source, Mapping):
            driver = _driver(source.get("driver"))
            parameters = {**shared, **_mapping(source.get("parameters"))}
            config = _config(str(name), source, parameters, file) if driver == DRIVER else None
            yield Source(str(name), driver, file, config)


def _driver(given: Any) -> str:
    """Give the name of a driver, which Intake writes in a list or as that of its class as well."""
    name = str(given[0] if isinstance(given, list) and given else given)
    return DRIVER if name == _CLASS else name


def _config(name: str, source: Mapping[str, Any], parameters: Mapping[str, Any], file: str) -> Config:
    """Translate a source of ours."""
    given = source.get("args")
    known = {"CATALOG_DIR": os.path.dirname(os.path.abspath(file))} | _defaults(parameters)
    arguments = filled_in(_mapping(given), known)
    strange = next(unfilled(_mapping(given), known), None)
    for key in _PEOPLES:
        arguments.pop(key, None)
    url = arguments.pop("url", None)
    if url is not None:
        arguments["path"] = url
    if "handler_registry" in arguments and "handlers" not in arguments:
        arguments["handlers"] = arguments.pop("handler_registry")
    if source.get("description"):
        arguments["description"] = source["description"]
    return Config(name, file, arguments, strange)


def _mapping(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, Mapping) else {}


def _defaults(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Give the parameters of a source, which its users may choose in Intake, as they are by default."""
    given = {str(name): str(item.get("default", "")) for name, item in parameters.items() if isinstance(item, Mapping)}
    return {name: text for name, value in given.items() if (text := default_of(value)) is not None}
