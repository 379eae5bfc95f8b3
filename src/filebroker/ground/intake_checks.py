"""What is wrong with the catalog files in Intake's directories."""

import contextlib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from filebroker.ground.errors import InvalidConfig
from filebroker.ground.intake_files import DRIVER, Source, catalog_files, sources_of
from filebroker.ground.yaml_files import read_mapping


def obstacles() -> list[str]:
    """List what is wrong with the files in Intake's directories; each keeps ``intake.cat`` from working at all.

    Examples
    --------
    >>> obstacles()
    []
    """
    found: list[str] = []
    homes: dict[str, str] = {}
    for file in catalog_files()[0]:
        try:
            content = read_mapping(file)
        except InvalidConfig as error:
            found.append(f"{file} cannot be read: {error}")
            continue
        sources = content.get("sources")
        if not isinstance(sources, dict):
            found.append(f"{file} is no catalog file of Intake's: it has no sources")
            continue
        for name, source in sources.items():
            if not isinstance(name, str) or not isinstance(source, dict):
                found.append(
                    f"{file} has the source {name!r}: the name of a source is text, and what it holds a mapping"
                )
            elif homes.setdefault(name, file) != file:
                found.append(f"{name!r} is a source of {homes[name]} and of {file}")
            else:
                found += [f"{file}, source {name!r}: {problem}" for problem in _undescribed(source)]
    return found


def _undescribed(source: Mapping[str, Any]) -> Iterator[str]:
    """Give the parameters of a source that Intake refuses."""
    parameters = source.get("parameters")
    for name, item in parameters.items() if isinstance(parameters, Mapping) else ():
        missing = [key for key in ("description", "type") if not isinstance(item, Mapping) or key not in item]
        if missing:
            yield f"the parameter {name!r} has no {' and no '.join(missing)}"


def misspelt() -> list[str]:
    """List the sources whose driver is hardly what was meant.

    Examples
    --------
    >>> misspelt()
    []
    """
    known = (DRIVER, f"{DRIVER}_run", f"{DRIVER}_stream")
    return [
        f"{source.file}, source {source.name!r}: the driver {source.driver!r} is not known; {DRIVER!r} is"
        for source in all_sources()
        if source.driver not in known and get_close_matches(source.driver, [DRIVER], cutoff=0.8)
    ]


def all_sources() -> Iterator[Source]:
    """Give the sources in Intake's directories, of all drivers."""
    for file in catalog_files()[0]:
        with contextlib.suppress(InvalidConfig):  # `obstacles` tells of it
            yield from sources_of(read_mapping(file), file)
