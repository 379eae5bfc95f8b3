"""What is scanned, what is plotted and what belongs to which device, by the documents of a run."""

from typing import Any

from filebroker.cataloging.run import Stream
from filebroker.ground.documents import Document, mapping_or_empty


def scanned_dimensions(start: Any, stream: str) -> list[list[str]]:
    """Give the fields that a plan scans, by the hints of the start document.

    Parameters
    ----------
    start
        The start document.
    stream
        A stream's name.

    Returns
    -------
    list of list of str
        For each dimension the fields that are moved together.

    Examples
    --------
    >>> scanned_dimensions({"hints": {"dimensions": [[["x", "y"], "primary"], [["t"], "dark"]]}}, "primary")
    [['x', 'y']]
    """
    dimensions = mapping_or_empty(start.get("hints")).get("dimensions")
    listed = dimensions if isinstance(dimensions, list) else []
    pairs = [pair for pair in listed if isinstance(pair, list) and len(pair) == 2]
    return [texts(names) for names, where in pairs if where == stream]


def scanned_fields(start: Any, stream: str) -> list[str]:
    """Give the same fields of all dimensions together, each once.

    Parameters
    ----------
    start, stream
        As for `scanned_dimensions`.
    """
    return list(dict.fromkeys(name for names in scanned_dimensions(start, stream) for name in names))


def hinted_fields(stream: Stream) -> list[str]:
    """Give the fields that devices ask to be plotted, by the hints of the descriptors.

    Parameters
    ----------
    stream
        A stream.
    """
    fields: list[str] = []
    for descriptor in stream.descriptors:
        for hint in mapping_or_empty(descriptor.get("hints")).values():
            fields += texts(mapping_or_empty(hint).get("fields"))
    return list(dict.fromkeys(fields))


def devices(descriptor: Document) -> dict[str, list[str]]:
    """Give the data keys of each device.

    Parameters
    ----------
    descriptor
        A descriptor.

    Examples
    --------
    >>> devices({"object_keys": {"motor": ["motor", "motor_setpoint"], "odd": 5}})
    {'motor': ['motor', 'motor_setpoint'], 'odd': []}
    """
    return {device: texts(keys) for device, keys in mapping_or_empty(descriptor.get("object_keys")).items()}


def texts(value: Any) -> list[str]:
    """Give the strings in a list; none of what is no list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
