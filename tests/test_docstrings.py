"""What the public names say of themselves: each shows an example, and tells of its parameters."""

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Any

import pytest

import filebroker

#: Modules of databroker's names; they are imported as ``filebroker.queries`` and so on.
MODULES = ("core", "discovery", "glue", "in_memory", "pivot", "projector", "queries", "utils", "v1", "v2")

_INNER = "nobody but filebroker itself has a use for it"
_UNINSTALLED = "its example takes a package that the tests do not install, and is not run"

#: The sections of a docstring as numpydoc has them, those of classes alone left out.
ORDER = ("", "Parameters", "Returns", "Yields", "Other Parameters", "Raises", "Warns", "Notes", "Examples")

#: Names that show no example, or none that is run, and why.
WITHOUT_EXAMPLE = {
    "assets.handlers.Handlers.renew_locks": _INNER,
    "cataloging.catalog.Catalog.library": _INNER,
    "cataloging.catalog.Catalog.renew_locks": _INNER,
    "cataloging.run.Run.files": _INNER,
    "cataloging.run.Stream.files": _INNER,
    "glue.read_header": _UNINSTALLED,
}


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Give the public methods and properties that a class has from filebroker, with the names of their places."""
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if name.startswith("_") or owner is None or not owner.__module__.startswith("filebroker"):
            continue
        member = vars(owner)[name]
        member = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if inspect.isfunction(member) or isinstance(member, property | cached_property):
            yield f"{owner.__module__}.{owner.__qualname__}.{name}", member


def _public() -> dict[str, Any]:
    """Give every public name by where it is defined; a value that is no function or class counts as its class."""
    offered = [getattr(filebroker, name) for name in filebroker.__all__]
    for name in MODULES:
        module = import_module(f"filebroker.{name}")
        offered += [getattr(module, each) for each in module.__all__]
    found: dict[str, Any] = {}
    for value in offered:
        item = value if inspect.isclass(value) or inspect.isfunction(value) else type(value)
        found[f"{item.__module__}.{item.__qualname__}"] = item
        if inspect.isclass(item):
            found |= _members(item)
    ours = {place: item for place, item in found.items() if place.startswith("filebroker.")}
    return {place.removeprefix("filebroker."): ours[place] for place in sorted(ours)}


def _sections(item: Any) -> dict[str, str]:
    """Give the sections of a docstring by their titles; what comes first has none."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", inspect.getdoc(item) or "", flags=re.MULTILINE)
    return {"": parts[0].strip()} | dict(zip(parts[1::2], parts[2::2], strict=True))


def _parameters(item: Any) -> list[str]:
    """Give what a function takes, or a class whose constructor is written in it; ``_`` and the like are ignored."""
    if isinstance(item, property | cached_property):
        return []
    if inspect.isclass(item) and not {"__init__", "__new__"} & vars(item).keys():
        return []
    taken = inspect.signature(item).parameters.values()
    return [taker.name for taker in taken if not re.match(r"_|self$|cls$", taker.name)]


def _told(item: Any) -> set[str]:
    """Give the names that head the entries of the sections that tell of parameters."""
    sections = _sections(item)
    text = "\n".join(sections.get(title, "") for title in ("Parameters", "Other Parameters", "Attributes"))
    heads = [line.split(" : ")[0] for line in text.splitlines() if line and not line[0].isspace()]
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def _lacks(item: Any) -> str:
    """Tell what is wrong with the example of a docstring; nothing if all is well."""
    if not _sections(item)[""]:
        return "no docstring"
    example = _sections(item).get("Examples", "")
    if ">>>" not in example:
        return "no example"
    return "an example that is not run" if "+SKIP" in example else ""


PUBLIC = _public()


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in WITHOUT_EXAMPLE])
def test_every_public_name_shows_an_example_that_is_run(name: str) -> None:
    assert _lacks(PUBLIC[name]) == "", f"filebroker.{name} has {_lacks(PUBLIC[name])}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_tells_of_its_parameters(name: str) -> None:
    missing = [parameter for parameter in _parameters(PUBLIC[name]) if parameter not in _told(PUBLIC[name])]
    assert missing == [], f"the docstring of filebroker.{name} says nothing of {', '.join(missing)}"


@pytest.mark.parametrize("name", WITHOUT_EXAMPLE)
def test_what_needs_no_example_is_public_and_documented_and_has_none(name: str) -> None:
    assert _lacks(PUBLIC[name]) in ("no example", "an example that is not run")


@pytest.mark.parametrize("name", PUBLIC)
def test_the_sections_of_a_docstring_come_in_numpydocs_order(name: str) -> None:
    titles = [title for title in _sections(PUBLIC[name]) if title in ORDER]
    assert titles == sorted(titles, key=ORDER.index)


def test_the_names_that_people_meet_first_are_looked_at() -> None:
    assert {"faces.broker.Broker", "faces.broker.Broker.named", "cataloging.runs.Runs.search"} <= PUBLIC.keys()
    assert {"ground.errors.NotEnoughRuns", "finding.survey.Survey.records", "queries.TimeRange.query"} <= PUBLIC.keys()
    assert {"cataloging.run.Stream.descriptors", "faces.temporary.temp", "v2.temp", "glue.read_header"} <= PUBLIC.keys()
    assert type(filebroker.catalog) in PUBLIC.values()


class _Badly:
    """Is documented badly.

    Parameters
    ----------
    first, *others
        Two of three.
    """

    def __init__(self, first: int, second: int, *others: int) -> None: ...

    def skipped(self) -> None:
        """Show what is not run.

        Examples
        --------
        >>> 1
        1
        >>> 2  # doctest: +SKIP
        3
        """

    def shown(self, which: str) -> None:
        """Show something, but not ``which``.

        Examples
        --------
        >>> 1
        1
        """

    def mute(self) -> None: ...


def test_what_is_documented_badly_is_noticed() -> None:
    assert [name.rpartition(".")[2] for name, _ in _members(_Badly)] == []  # it is not filebroker's
    members = (_Badly, _Badly.skipped, _Badly.shown, _Badly.mute)
    assert [_lacks(member) for member in members] == ["no example", "an example that is not run", "", "no docstring"]
    assert _parameters(_Badly) == ["first", "second", "others"]
    assert _told(_Badly) == {"first", "others"}
    assert _parameters(_Badly.shown) == ["which"]
    assert _told(_Badly.shown) == set()
