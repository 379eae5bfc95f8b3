"""databroker's drivers by name, so that a program that asks whether a catalog is one of them gets an answer.

A catalog of ours is one as far as `isinstance` goes: it has the face of databroker's version 2 catalogs, and lists its
runs newest first.  None can be made by these names, because filebroker does not read what they read.
"""

from importlib import import_module
from typing import Any

_MODULES = frozenset({"jsonl", "mongo_embedded", "mongo_normalized", "msgpack"})


def __getattr__(name: str) -> Any:
    # Where filebroker stands in for databroker, a module is imported by the one name and looked up by the other.
    if name in _MODULES:
        return import_module(f"filebroker._drivers.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
