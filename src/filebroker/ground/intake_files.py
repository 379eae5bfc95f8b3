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
from filebroker.ground.yaml_files import ENDINGS, files_in, read_mapping

#: The driver of a source that is a catalog of ours.
DRIVER = "filebroker"
#: What Intake puts in the place of ``{{ CATALOG_DIR }}`` and ``{{ env(NAME) }}``.
_TEMPLATE = re.compile(r"\{\{\s*(?:(?P<directory>CATALOG_DIR)|env\(\s*[\"']?(?P<variable>\w+)[\"']?\s*\))\s*\}\}")
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

    prefix = os.environ.get("VIRTUAL_ENV")
    if prefix is None and "CONDA_PREFIX" in os.environ:
        prefix = sys.prefix
    if prefix is None and (conda := shutil.which("conda")) is not None:
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(conda)))  # conda is there, and not activated
    environment = (
        platformdirs.site_data_dir("intake", "intake") if prefix is None else os.path.join(prefix, "share", "intake")
    )
    return platformdirs.user_data_dir("intake", "intake"), environment


def catalog_files() -> tuple[list[str], list[str]]:
    """List the YAML files on Intake's search path, those of the first directory first.

    Returns
    -------
    files : list of str
        The files.
    problems : list of str
        What could not be looked through, and why.
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
        local = os.path.expanduser(place)
        found += [local] if local.endswith(ENDINGS) else files_in(local)
    return list(dict.fromkeys(found)), problems


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
    for name, source in sources.items() if isinstance(sources, Mapping) else ():
        if isinstance(source, Mapping):
            driver = str(source.get("driver"))
            yield Source(str(name), driver, file, _config(str(name), source, file) if driver == DRIVER else None)


def _config(name: str, source: Mapping[str, Any], file: str) -> Config:
    """Translate a source of ours."""
    given = source.get("args")
    arguments = _filled_in(dict(given) if isinstance(given, Mapping) else {}, os.path.dirname(os.path.abspath(file)))
    url = arguments.pop("url", None)
    if url is not None:
        arguments["path"] = url
    if "handler_registry" in arguments and "handlers" not in arguments:
        arguments["handlers"] = arguments.pop("handler_registry")
    if source.get("description"):
        arguments["description"] = source["description"]
    return Config(name, file, arguments)


def _filled_in(value: Any, directory: str) -> Any:
    """Put the file's directory, and variables of the environment, in the place of Intake's templates."""
    if isinstance(value, str):
        return _TEMPLATE.sub(
            lambda found: directory if found["directory"] else os.environ.get(found["variable"], ""), value
        )
    if isinstance(value, Mapping):
        return {key: _filled_in(item, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_in(item, directory) for item in value]
    return value
