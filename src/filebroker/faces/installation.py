"""What is installed on this machine: filebroker, what it needs, and what its extras bring."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires, version

from filebroker.faces.symptoms import Symptom

#: Extras that are for those who work on filebroker itself.
_NOT_FOR_USERS = re.compile(r"test|check|bench")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;\s*extra == ['\"]([^'\"]+)['\"])?")
_BOUND = re.compile(r"(>=|<)\s*([0-9.]+)")
_DISTRIBUTION = "filebroker"


def symptoms() -> Iterator[Symptom]:
    """Look at what is installed."""
    system = f"{platform.system()} {platform.machine()}"
    yield Symptom("good", "python", f"{platform.python_version()} at {sys.executable}, {system}")
    try:
        needed = requires(_DISTRIBUTION) or []
        yield Symptom("good", "filebroker", f"{version(_DISTRIBUTION)} in {os.path.dirname(os.path.dirname(__file__))}")
    except PackageNotFoundError:
        yield Symptom("wrong", "filebroker", "is used without being installed", "pip install filebroker")
        return
    yield from _packages(needed)
    yield from _search_engine()


def _packages(needed: list[str]) -> Iterator[Symptom]:
    """Look at what filebroker needs, and at each of its extras."""
    extras: dict[str, list[tuple[str, str]]] = {}
    for requirement in needed:
        match = _REQUIREMENT.match(requirement)
        if match is not None and not _NOT_FOR_USERS.match(match[3] or ""):
            extras.setdefault(match[3] or "", []).append((match[1], match[2]))
    for extra, packages in sorted(extras.items()):
        found = {name: _version_of(name) for name, _ in packages}
        missing = [name for name, there in found.items() if there is None]
        unfit = [
            f"{name} {there}, {bounds.strip()} is needed"
            for name, bounds in packages
            if (there := found[name]) and not fits(there, bounds)
        ]
        what = ", ".join(f"{name} {there}" for name, there in found.items() if there)
        about, advice = f"extra {extra}" if extra else "packages", f'pip install "filebroker[{extra}]"'
        if unfit:
            yield Symptom("wrong", about, "; ".join(unfit), advice if extra else "pip install --upgrade filebroker")
        elif missing and not extra:
            yield Symptom("wrong", about, f"{', '.join(missing)} not installed", f"pip install {' '.join(missing)}")
        elif missing:
            yield Symptom("note", about, f"not installed: {', '.join(missing)}", advice)
        else:
            yield Symptom("good", about, what)


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def fits(there: str, bounds: str) -> bool:
    """Tell whether a version is within bounds, as far as these are numbers.

    Examples
    --------
    >>> fits("2.7.5", ">=2.7.5,<2.8"), fits("2.10.0", ">=2.9"), fits("3.0", ">=0.6.4,<3")
    (True, True, False)
    """
    number = _numbers(there)
    return all(
        number >= _numbers(limit) if sign == ">=" else number < _numbers(limit)
        for sign, limit in _BOUND.findall(bounds)
    )


def _numbers(text: str) -> list[int]:
    numbers = [int(digits) for digits in re.findall(r"\d+", re.split(r"[a-z+-]", text.lower())[0])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers


def _search_engine() -> Iterator[Symptom]:
    """Look whether two packages share the name of the one that indexes words."""
    names = {str(item.metadata["Name"]).lower().replace("_", "-") for item in distributions() if item.metadata["Name"]}
    if {"whoosh", "whoosh-reloaded"} <= names:
        yield Symptom(
            "wrong",
            "whoosh",
            "both whoosh and whoosh-reloaded are installed, into the same directory",
            "pip uninstall whoosh whoosh-reloaded; pip install whoosh-reloaded",
        )
