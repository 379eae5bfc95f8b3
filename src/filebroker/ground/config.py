"""Named catalogs: small YAML files, and where they are looked for.

A configuration says where a catalog is::

    description: Beamtime of November 2026
    path: /data/beamtime-2026-11     # or relative to this file, or s3://bucket/beamtime
    storage_options: {anon: true}    # arguments of the fsspec filesystem
    read_only: true

An Intake catalog whose sources have the driver ``filebroker`` serves as well; each source is a name.  Those of
Intake's own directories count too.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filebroker.ground.cautions import warn
from filebroker.ground.errors import ConfigNotFound, FilebrokerWarning, InvalidConfig
from filebroker.ground.intake_files import catalog_files, catalog_places, sources_of
from filebroker.ground.settings import Config
from filebroker.ground.yaml_files import files_in, read_mapping

_LEGACY = "_legacy_config"


def legacy_name() -> str:
    """Give the name of the configuration that makes ``filebroker.db``; it is never listed.

    As in databroker, it is another one where the environment has ``DATABROKER_TEST_MODE``.
    """
    return f"_test{_LEGACY}" if "DATABROKER_TEST_MODE" in os.environ else _LEGACY


def _unlisted() -> set[str]:
    return {_LEGACY, legacy_name()}


def search_path() -> list[str]:
    """List the directories in which configurations are looked for, the first wins.

    They are filebroker's own (``~/.config/filebroker``, ``etc/filebroker`` of this Python), then
    databroker's, then the file that comes with filebroker.
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
        _shipped(),
    ]


def _shipped() -> str:
    """Give the file of the catalog that comes with filebroker, installed or in its source tree."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "shipped" / "catalogs"
    return str((installed if installed.is_dir() else package.parents[1] / "catalogs") / "example.yml")


def is_shipped(file: str) -> bool:
    """Tell whether a configuration came with filebroker."""
    return file == _shipped()


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
    found, problems = survey(paths)
    _warn(problems)
    return sorted(found)


def describe_configs(paths: Sequence[str] | None = None) -> dict[str, str | None]:
    """Give the description of each configured catalog by its name, None where it has none.

    Parameters
    ----------
    paths
        Directories to look in; None for the usual ones, see `search_path`.

    Examples
    --------
    >>> describe_configs()["example"]
    'Simulated scans recorded with ophyd.sim, to try filebroker out'
    """
    found, problems = survey(paths)
    _warn(problems)
    return {name: found[name].description for name in sorted(found)}


def survey(paths: Sequence[str] | None = None) -> tuple[dict[str, Config], list[str]]:
    """Look through the directories of configurations.

    Parameters
    ----------
    paths
        Directories to look in; None for the usual ones.

    Returns
    -------
    found : dict of Config
        The configurations by name; of two with one name, the first.
    problems : list of str
        What is wrong with which file.
    """
    configs, unreadable = _read_all(paths)
    problems = [f"the file {file} cannot be read: {problem}" for file, problem in unreadable]
    found: dict[str, Config] = {}
    for config in configs:
        first = found.setdefault(config.name, config)
        if _is_shadowed(config, first):
            problems.append(
                f"the catalog {config.name!r} is configured in {first.file} and in {config.file}; the first is used"
            )
    return {name: config for name, config in found.items() if name not in _unlisted()}, problems


def _is_shadowed(config: Config, first: Config) -> bool:
    """Tell whether another configuration takes the place of one that somebody wrote."""
    file, other = str(config.file), str(first.file)
    return os.path.realpath(file) != os.path.realpath(other) and not is_shipped(file)


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
    wanted, usual = name.removesuffix(".yml").removesuffix(".yaml"), search_path()
    configs, problems = _read_all(paths)
    for config in configs:
        if config.name == wanted:
            return config
    for file, problem in problems:
        if Path(file).stem == wanted:
            raise InvalidConfig(f"the configuration {file} cannot be used: {problem}")
    looked = [*usual[:-1], *catalog_places()[0], usual[-1]] if paths is None else paths
    places = "\n".join(f"  {path}" for path in looked)
    for file in catalog_files()[0] if paths is None else ():
        if Path(file).stem == wanted:
            raise InvalidConfig(
                f"the file {file} names no catalog {wanted!r}: in this directory, which is Intake's, files have "
                f"'sources:' with 'driver: filebroker' and 'args: {{url: ...}}'. Others belong in {usual[0]}"
            )
    known = ", ".join(sorted({config.name for config in configs} - _unlisted()))
    raise ConfigNotFound(
        f"no catalog is named {wanted!r}: there is no {wanted}.yml in\n{places}\n"
        f"The names known are {known or 'none'}. To add one, use 'filebroker config add', or "
        f"write a file {wanted}.yml in the first of these directories, with a line such as 'path: /data/beamtime'"
    )


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        warn(problem, FilebrokerWarning)


def _read_all(paths: Sequence[str] | None) -> tuple[list[Config], list[tuple[str, str]]]:
    """Give every configuration, those of the first directory first, and what is wrong with which file."""
    configs: list[Config] = []
    problems: list[tuple[str, str]] = []
    for file, is_intakes in _files(paths):
        try:
            configs += _read(file, is_intakes)
        except InvalidConfig as error:
            problems.append((file, str(error)))
    return configs, problems


def _files(paths: Sequence[str] | None) -> Iterator[tuple[str, bool]]:
    """Give the files of configurations, and whether each is one of Intake's; the shipped one comes last."""
    usual = search_path()
    for directory in usual[:-1] if paths is None else paths:
        yield from ((file, False) for file in files_in(directory))
    if paths is None:
        yield from ((file, True) for file in catalog_files()[0])
        yield usual[-1], False


def _read(file: str, is_intakes: bool) -> list[Config]:
    """Give the configurations of one file: the file itself, or the sources of an Intake catalog that are ours.

    Raises
    ------
    InvalidConfig
        It is no YAML, or holds no mapping.
    """
    content = read_mapping(file)
    if is_intakes or isinstance(content.get("sources"), dict):
        return [source.config for source in sources_of(content, file) if source.config is not None]
    return [Config(Path(file).stem, file, content)]
