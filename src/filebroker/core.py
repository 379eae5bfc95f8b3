"""What scripts import from ``databroker.core``."""

import warnings
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from filebroker.faces import coercion
from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.documents import (
    Datum,
    DatumPage,
    Descriptor,
    Document,
    Event,
    EventPage,
    NotMutable,
    Resource,
    Start,
    Stop,
)
from filebroker.faces.event_stream import BlueskyEventStream
from filebroker.faces.header import Header
from filebroker.faces.transforms import parse_transforms
from filebroker.ground.dotted import imported
from filebroker.ground.errors import FilebrokerWarning
from filebroker.in_memory import SingleRunCache

coercion.register()

#: databroker's class of the runs that it reads from files.
BlueskyRunFromGenerator = BlueskyRun

__all__ = [
    "BlueskyEventStream",
    "BlueskyRun",
    "BlueskyRunFromGenerator",
    "Datum",
    "DatumPage",
    "Descriptor",
    "Document",
    "Event",
    "EventPage",
    "Header",
    "NotMutable",
    "Resource",
    "SingleRunCache",
    "Start",
    "Stop",
    "discover_handlers",
    "parse_handler_registry",
    "parse_transforms",
]


def discover_handlers(entrypoint_group_name: str = "databroker.handlers", skip_failures: bool = True) -> dict[str, Any]:
    """Import the handlers that installed packages offer.

    Parameters
    ----------
    entrypoint_group_name
        The group of entry points.
    skip_failures
        Leave out a handler that cannot be imported, with a warning, rather than raise what its import raises.

    Returns
    -------
    dict
        Handlers by their specs.  It is yours to change; a broker has `Broker.reg` for that.

    Examples
    --------
    >>> discover_handlers("no.such.group")
    {}
    """
    found: dict[str, Any] = {}
    for entry in entry_points(group=entrypoint_group_name):
        if entry.name in found:  # as for Handlers, the first counts
            continue
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            if not skip_failures:
                raise
            warnings.warn(
                f"the handler {entry.value} of {entry.name!r} cannot be imported and is left out: "
                f"{type(error).__name__}: {error}",
                FilebrokerWarning,
                stacklevel=2,
            )
    return found


def parse_handler_registry(handler_registry: Mapping[str, Any]) -> dict[str, Any]:
    """Import the handlers that are given by name.

    Parameters
    ----------
    handler_registry
        Spec to handler: a class, or its dotted name.

    Returns
    -------
    dict
        Handlers by their specs.

    Raises
    ------
    ImportError, AttributeError, ValueError
        There is no such thing.

    Examples
    --------
    >>> parse_handler_registry({"DOCT": "doct.Document"})
    {'DOCT': <class 'doct.Document'>}
    """
    return {
        spec: imported(handler) if isinstance(handler, str) else handler for spec, handler in handler_registry.items()
    }
