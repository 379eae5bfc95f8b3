"""Runs for the visualisation package glue."""

from importlib import import_module
from typing import Any

from filebroker.faces.header import Header
from filebroker.ground.errors import MissingPackage

__all__ = ["read_header"]


def read_header(header: Header) -> list[Any]:
    """Give each stream of a run as data for glue.

    Parameters
    ----------
    header
        The run.

    Returns
    -------
    list of glue.core.data.Data
        One a stream, labelled ``STREAM_UID``, with the columns of its table as components.

    Raises
    ------
    MissingPackage
        glue is not installed.

    Examples
    --------
    >>> from filebroker import Broker
    >>> read_header(Broker.named("example")[-1])  # doctest: +SKIP
    [Data (label: baseline_0a00d92c-...), Data (label: primary_0a00d92c-...)]
    """
    try:
        glue: Any = import_module("glue.core.data")
    except ModuleNotFoundError as error:
        raise MissingPackage("this needs glue, which is not installed: pip install glueviz") from error
    read = []
    for stream in header.stream_names:
        data = glue.Data(label=f"{stream}_{header.start['uid']}")
        table = header.table(stream, fill=True)
        for name in table.columns:
            data.add_component(table[name], str(name))
        read.append(data)
    return read
