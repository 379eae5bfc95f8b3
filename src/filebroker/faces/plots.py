"""Plots that the hints of a run describe, as Intake's window, ``stream.plot`` and ``filebroker show`` draw them.

What is drawn against what is chosen as bluesky's ``BestEffortCallback`` does.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Plots = dict[str, dict[str, Any]]

#: Streams of a few readings, before and after a scan.
_NOT_DRAWN = ("baseline",)
#: Columns of the table that are no data keys.
_OWN = ("seq_num", "time", "uid")
#: No more fields are drawn, for a browser's sake.
_MOST = 10
_LONGEST = 60


def plots_of(start: Mapping[str, Any], descriptors: Sequence[Any], stream: str) -> Plots:
    """Give the plots of a stream: for each name the arguments of hvplot.

    Parameters
    ----------
    start
        The start document.  ``hints.dimensions`` tells what is drawn against what, or else ``motors``.
    descriptors
        Those of the stream; others are passed over.  Their hints tell which fields are drawn.
    stream
        The stream's name.

    Returns
    -------
    dict of dict
        Empty if there is nothing to draw.  Fields of several values and text are left out.

    Notes
    -----
    Names end with the first digits of the run's uid.  Intake 2 would keep showing the plot of the last run if that of
    the next one had the same name.

    Examples
    --------
    >>> start = {"uid": "84d9ee44-8c4b", "hints": {"dimensions": [[["motor"], "primary"]]}}
    >>> keys = {"motor": {"dtype": "number", "shape": []}, "det": {"dtype": "number", "shape": []}}
    >>> plots_of(start, [{"data_keys": keys, "hints": {"det": {"fields": ["det"]}}, "object_keys": {}}], "primary")
    {'det_vs_motor_84d9ee44': {'kind': 'line', 'x': 'motor', 'y': ['det']}}
    """
    described = [doc for doc in _list(descriptors) if isinstance(doc, Mapping) and doc.get("name", stream) == stream]
    numbers = _numbers(described)
    axes, independent = _dimensions(start, described, stream, numbers)
    if stream in _NOT_DRAWN or (stream == "primary" and start.get("num_points") == 1):
        return {}
    fields = [name for name in _hinted(described) if name in numbers and name not in independent][:_MOST]
    drawn: list[tuple[str, dict[str, Any]]] = []
    if len(axes) == 2:
        grid = {"kind": "scatter", "x": axes[0], "y": axes[1], "marker": "square", "size": 60, "cmap": "viridis"}
        drawn = [(field, {**grid, "c": field}) for field in fields]
    else:
        if len(fields) > 1:
            drawn = [("all", {"kind": "line", "x": axes[0], "y": fields})]
        drawn += [(field, {"kind": "line", "x": axes[0], "y": [field]}) for field in fields]
    return _named(drawn, axes, stream, start)


def names_in(plot: Mapping[str, Any]) -> set[str]:
    """Name the columns that a plot is made of.

    Examples
    --------
    >>> sorted(names_in({"kind": "line", "x": "motor", "y": ["det"]}))
    ['det', 'motor']
    """
    given = [plot.get(key) for key in ("x", "y", "c")]
    return {name for item in given if item for name in ([item] if isinstance(item, str) else item)}


# -- what is drawn against what


def _numbers(described: list[Mapping[str, Any]]) -> set[str]:
    """Give the data keys that are one number in each event."""
    numbers: set[str] = set()
    others: set[str] = set(_OWN)
    for doc in described:
        for key, told in _mapping(doc.get("data_keys")).items():
            if isinstance(key, str):
                (numbers if _is_number(_mapping(told)) else others).add(key)
    return numbers - others


def _is_number(told: Mapping[str, Any]) -> bool:
    return told.get("dtype") in ("number", "integer") and not told.get("shape") and not told.get("external")


def _dimensions(
    start: Mapping[str, Any], described: list[Mapping[str, Any]], stream: str, numbers: set[str]
) -> tuple[list[str], set[str]]:
    """Give the field of each axis, ``time`` if they are not one or two, and all fields that are no results."""
    hints = _mapping(start.get("hints"))
    hinted = [item for item in _list(hints.get("dimensions")) if len(_list(item)) == 2]
    if hinted and all(item[1] == hinted[0][1] for item in hinted):
        dimensions = [_texts(fields) for fields, name in hinted if name == stream]
    else:
        motors = _texts(start.get("motors")) if stream == "primary" else []
        dimensions = [_fields_of(motor, described) for motor in motors]
    axes = [fields[0] for fields in dimensions if fields]
    independent = {field for fields in dimensions for field in fields}
    if not 1 <= len(set(axes)) == len(dimensions) <= 2 or not numbers.issuperset(axes):
        return ["time"], independent
    if hints.get("gridding") == "rectilinear":
        axes.reverse()  # the slow axis comes first there
    return axes, independent


def _hinted(described: list[Mapping[str, Any]]) -> list[str]:
    """Give the fields that each device hints, or all of those that hint none."""
    fields: dict[str, None] = {}
    for doc in described:
        devices = dict.fromkeys([*_mapping(doc.get("object_keys")), *_mapping(doc.get("hints"))])
        for device in devices:
            fields.update(dict.fromkeys(_fields_of(device, [doc])))
    return list(fields)


def _fields_of(device: Any, described: list[Mapping[str, Any]]) -> list[str]:
    """Give the fields that a device hints, or all if it hints none."""
    for doc in described:
        hints = _mapping(_mapping(doc.get("hints")).get(device))
        if "fields" in hints:
            return _texts(hints["fields"])
        if keys := _texts(_mapping(doc.get("object_keys")).get(device)):
            return keys
    return []


# -- names


def _named(drawn: list[tuple[str, dict[str, Any]]], axes: list[str], stream: str, start: Mapping[str, Any]) -> Plots:
    """Give plots names that can be typed after a dot."""
    suffix = [stream] if stream != "primary" else []
    uid = str(start.get("uid", ""))[:8]
    plots: Plots = {}
    for field, arguments in drawn:
        told = _typed("_".join([field, "vs", *axes, *suffix])[:_LONGEST])
        name, number = _typed(f"{told}_{uid}"), 2
        while name in plots:
            name, number = _typed(f"{told}_{number}_{uid}"), number + 1
        plots[name] = arguments
    return plots


def _typed(name: str) -> str:
    name = re.sub(r"_*\W[\W_]*", "_", name).strip("_")
    return name if name.isidentifier() else f"plot_{name}"


# -- documents of any shape


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _texts(value: Any) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]
