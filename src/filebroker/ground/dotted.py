"""Things that a configuration names by where they are imported from."""

from importlib import import_module
from operator import attrgetter
from typing import Any


def imported(name: str) -> Any:
    """Import what a dotted name names.

    Parameters
    ----------
    name
        ``package.module.thing`` or ``package.module:thing``.

    Raises
    ------
    ImportError, AttributeError, ValueError
        There is no such thing.

    Examples
    --------
    >>> imported("os.path.basename")("/data/beamtime")
    'beamtime'
    """
    module, _, thing = name.partition(":") if ":" in name else name.rpartition(".")
    return attrgetter(thing)(import_module(module))
