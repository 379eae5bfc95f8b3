"""Catalogs that need not be known by name beforehand: what is configured, and what Intake finds.

Nothing is looked for before it is asked for, and everything is looked for anew each time: a file that was written a
moment ago counts.  Intake is imported only to open an entry that is not ours.
"""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from filebroker.ground import config as configs
from filebroker.ground.cautions import warn
from filebroker.ground.errors import FilebrokerWarning, InvalidConfig, MissingPackage, UnknownCatalogName
from filebroker.ground.intake_files import (
    Source,
    catalog_files,
    catalog_search_path as catalog_search_path,
    sources_of,
)
from filebroker.ground.settings import Config
from filebroker.ground.yaml_files import read_mapping

_GROUP = "intake.catalogs"
_LISTED = 20
#: How the drivers of databroker begin.
_DATABROKER = "bluesky-"


@dataclass
class Entries:
    """What was found at one moment.

    Attributes
    ----------
    openers : dict
        What opens each entry, by its name.
    problems : list of str
        What could not be looked through, and why.
    unlisted : set of str
        Entries that are opened by name and not listed.
    """

    openers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)

    @property
    def listed(self) -> list[str]:
        """The names of the entries that are listed."""
        return [name for name in self.openers if name not in self.unlisted]


class Discovered(Mapping[str, Any]):
    """Entries by name, looked for when they are asked for.

    An entry is opened by looking it up, ``catalog["beamtime"]`` or ``catalog.beamtime``; a catalog of ours is opened
    as its version 2 face.  The example that comes with filebroker can be opened, and is not listed.

    Parameters
    ----------
    name
        A name for people.

    Examples
    --------
    >>> catalog["example"]
    <RunCatalog 'example': 22 runs at ...>
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def look(self) -> Entries:
        """Give what is there at this moment.

        Examples
        --------
        >>> "example" in catalog.look().openers
        True
        """
        raise NotImplementedError

    def searched(self) -> str:
        """Say where entries are looked for.

        Examples
        --------
        >>> print(catalog.searched())
        Installed packages offer catalogs as ... Configurations are looked for in ...
        """
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        """Open an entry.

        Raises
        ------
        UnknownCatalogName
            There is none of that name; the message lists those that there are.
        InvalidConfig
            It is ours, and its configuration cannot be used.
        MissingPackage
            It is not ours, and Intake is not installed.
        """
        found = self.look()
        if name not in found.openers:
            problems = "".join(f"\n  {problem}" for problem in found.problems)
            raise UnknownCatalogName(
                f"no catalog is named {name!r}; the names known are {', '.join(sorted(found.openers)) or 'none'}. "
                f"{self.searched()}{problems}"
            )
        return found.openers[name]()

    def __iter__(self) -> Iterator[str]:
        """Give the names; a `FilebrokerWarning` tells of each file that cannot be read."""
        found = self.look()
        self._warn(found)
        return iter(found.listed)

    def _warn(self, found: Entries) -> None:
        for problem in found.problems:
            warn(problem, FilebrokerWarning)

    def __len__(self) -> int:
        return len(self.look().listed)

    def __contains__(self, name: object) -> bool:
        return name in self.look().openers

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what IPython and copy try out
            raise AttributeError(name)
        return self[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.look().listed})

    # Two of them are equal if they are one: to compare entries would open them all.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __call__(self) -> "Discovered":
        """Give itself, as an Intake catalog does."""
        return self

    def __repr__(self) -> str:
        names = self.look().listed
        more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return f"<{self.name}: {', '.join(names[:_LISTED]) or 'nothing'}{more}>"

    def _ipython_key_completions_(self) -> list[str]:
        return self.look().listed

    def reload(self) -> None:
        """Do nothing: entries are looked for anew each time.

        Examples
        --------
        >>> catalog.reload()
        """

    def force_reload(self) -> None:
        """Do nothing: entries are looked for anew each time.

        Examples
        --------
        >>> catalog.force_reload()
        """


class EntrypointsCatalog(Discovered):
    """The catalogs that installed packages offer as entry points of the group ``intake.catalogs``.

    Parameters
    ----------
    name
        A name for people.
    paths
        Directories of installed packages to look through; None for those of this Python.

    Examples
    --------
    >>> EntrypointsCatalog(paths=["my_packages"])
    <entry points: nothing>
    """

    def __init__(self, name: str = "entry points", *, paths: Sequence[str] | None = None) -> None:
        super().__init__(name)
        self._paths = paths

    def look(self) -> Entries:
        """Give the entry points, none of them loaded.

        Examples
        --------
        >>> EntrypointsCatalog(paths=["my_packages"]).look().listed
        []
        """
        if self._paths is None:
            found = importlib.metadata.entry_points(group=_GROUP)
            return Entries({entry.name: entry.load for entry in found})
        packages = importlib.metadata.distributions(path=list(self._paths))
        offered = (entry for package in packages for entry in package.entry_points)
        return Entries({entry.name: entry.load for entry in offered if entry.group == _GROUP})

    def searched(self) -> str:
        """Say which entry points are looked through.

        Examples
        --------
        >>> EntrypointsCatalog().searched()
        "Installed packages offer catalogs as entry points of the group 'intake.catalogs'"
        """
        return f"Installed packages offer catalogs as entry points of the group {_GROUP!r}"


class ConfigCatalog(Discovered):
    """The catalogs that are configured, as in `list_configs`.

    Parameters
    ----------
    name
        A name for people.
    paths
        Directories to look in; None for the usual ones.

    Warns
    -----
    FilebrokerWarning
        There is something wrong in the directories that are given.

    Examples
    --------
    >>> ConfigCatalog()["example"]
    <RunCatalog 'example': 22 runs at ...>
    """

    def __init__(self, name: str = "configurations", *, paths: Sequence[str] | None = None) -> None:
        super().__init__(name)
        self._paths = paths
        if paths is not None:  # whoever names directories is told at once what is wrong in them
            self._warn(self.look())

    def look(self) -> Entries:
        """Give the configurations, none of them opened.

        Examples
        --------
        >>> "example" in ConfigCatalog().look().openers
        True
        """
        found, problems = configs.survey(self._paths)
        # Programs take the only catalog that is listed for the user's; the example is not.
        shipped = {name for name, config in found.items() if configs.is_shipped(config.file or "")}
        return Entries({name: partial(_opened, found[name]) for name in sorted(found)}, problems, shipped)

    def searched(self) -> str:
        """Say where configurations are looked for.

        Examples
        --------
        >>> ConfigCatalog(paths=["my_configurations"]).searched()
        'Configurations are looked for in my_configurations'
        """
        return f"Configurations are looked for in {', '.join(self._paths or configs.search_path())}"


class YamlCatalog(Discovered):
    """The sources of the YAML files on Intake's search path, see `catalog_search_path`.

    Those with the driver ``filebroker`` are ours; Intake opens the others.

    Examples
    --------
    >>> "my_beamtime" in yaml_catalogs
    False
    """

    def look(self) -> Entries:
        """Give the sources, none of them opened; of two with one name, the first.

        Examples
        --------
        >>> "my_beamtime" in yaml_catalogs.look().openers
        False
        """
        files, problems = catalog_files()
        found: dict[str, Source] = {}
        for file in files:
            try:
                sources = list(sources_of(read_mapping(file), file))
            except InvalidConfig as error:
                problems.append(f"the file {file} cannot be read: {error}")
                continue
            for source in sources:
                first = found.setdefault(source.name, source)
                if first is not source:
                    problems.append(f"{source.name!r} is a source of {first.file} and of {file}; the first is used")
        return Entries({name: partial(_open_source, source) for name, source in found.items()}, problems)

    def searched(self) -> str:
        """Say where Intake's catalog files are looked for.

        Examples
        --------
        >>> print(yaml_catalogs.searched())
        Catalog files of Intake are looked for in ...
        """
        return f"Catalog files of Intake are looked for in {', '.join(catalog_search_path())}"


class MergedCatalog(Discovered):
    """Several of these as one; of two entries with one name, the first counts.

    Parameters
    ----------
    catalogs
        What to merge.
    name
        A name for people.

    Examples
    --------
    >>> MergedCatalog([ConfigCatalog(), yaml_catalogs])["example"]
    <RunCatalog 'example': 22 runs at ...>
    """

    def __init__(self, catalogs: Sequence[Discovered], name: str = "catalogs") -> None:
        super().__init__(name)
        self._catalogs = list(catalogs)

    def look(self) -> Entries:
        """Give what is there at this moment.

        Examples
        --------
        >>> "example" in catalog.look().openers
        True
        """
        merged = Entries()
        for catalog in self._catalogs:
            found = catalog.look()
            merged.unlisted |= found.unlisted - merged.openers.keys()
            merged.openers |= {name: opener for name, opener in found.openers.items() if name not in merged.openers}
            merged.problems += [problem for problem in found.problems if problem not in merged.problems]
        return merged

    def searched(self) -> str:
        """Say where entries are looked for.

        Examples
        --------
        >>> MergedCatalog([ConfigCatalog(paths=["mine"]), ConfigCatalog(paths=["yours"])]).searched()
        'Configurations are looked for in mine. Configurations are looked for in yours'
        """
        return ". ".join(catalog.searched() for catalog in self._catalogs)


def _opened(config: Config) -> Any:
    from filebroker.faces.opening import opened

    return opened(config).v2


def _open_source(source: Source) -> Any:
    if source.config is not None:
        return _opened(source.config)
    if source.driver.startswith(_DATABROKER) and find_spec("databroker") is None:
        raise MissingPackage(
            f"the source {source.name!r} of {source.file} has the driver {source.driver!r}, which is databroker's: "
            "pip install 'databroker<2', and copy its runs into a catalog of filebroker to do without"
        )
    try:
        intake: Any = import_module("intake")
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"the source {source.name!r} of {source.file} has the driver {source.driver!r}, which is not ours and "
            "takes Intake: pip install intake"
        ) from error
    return intake.open_catalog(source.file)[source.name]


#: The sources of YAML files on Intake's search path.
yaml_catalogs = YamlCatalog("YAML catalogs")
#: What Intake knows by itself.
intake_catalogs = MergedCatalog([EntrypointsCatalog(), yaml_catalogs], "Intake's catalogs")
#: All catalogs that can be opened by name.
catalog = MergedCatalog([EntrypointsCatalog(), ConfigCatalog(), yaml_catalogs])
