"""Catalogs of databroker 1.x that are installed in the same environment; databroker is imported only for them."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from filebroker.ground.errors import MissingPackage, SourceNotFound
from filebroker.transfer.incoming.files import Item, as_item
from filebroker.transfer.incoming.sources import Unit


def runs_of(name: str) -> Iterator[Unit]:
    """Give the runs of a catalog.

    Parameters
    ----------
    name
        What databroker calls it.

    Raises
    ------
    MissingPackage
        databroker is not installed here.
    SourceNotFound
        databroker has no catalog of that name, or cannot open it.
    """
    for uid in uids_of(_catalog(name)):
        yield Unit("databroker", name, uid)


def uids_of(catalog: Any) -> Iterator[str]:
    """Give the uids of the runs of a catalog of databroker's version 2.

    Parameters
    ----------
    catalog
        The catalog, or a ``Broker`` of version 1.
    """
    yield from getattr(catalog, "v2", catalog)


def items_of(name: str, uid: str) -> Iterator[Item]:
    """Give the documents of a run.

    Parameters
    ----------
    name
        The catalog.
    uid
        The run.
    """
    return items_in(_catalog(name), uid)


def items_in(catalog: Any, uid: str) -> Iterator[Item]:
    """Give the documents of a run of a catalog that is open.

    Parameters
    ----------
    catalog
        The catalog.
    uid
        The run.
    """
    try:
        run = getattr(catalog, "v2", catalog)[uid]
    except Exception as error:  # noqa: BLE001 - databroker raises whatever its database, Intake and its files do
        yield Item("", why=f"databroker cannot open it: {error!r}", torn=True)
        return
    yield from items_in_run(run)


def items_in_run(run: Any) -> Iterator[Item]:
    """Give the documents of a run.

    Parameters
    ----------
    run
        A ``BlueskyRun`` of version 2, or a ``Header`` of version 1.
    """
    number = 0
    try:
        is_header = hasattr(run, "start") and not hasattr(run, "metadata")
        for number, pair in enumerate(run.documents(fill=False if is_header else "no"), start=1):
            yield as_item(f"document {number}", pair)
    except Exception as error:  # noqa: BLE001 - databroker raises whatever its database, Intake and its files do
        ends = _ends(run) if number == 0 else []
        yield from ends
        if len(ends) < 2:
            yield Item(f"after document {number}", why=f"databroker cannot read it any further: {error!r}", torn=True)


def _ends(run: Any) -> list[Item]:
    """Give the start document and, of a run that has no streams, the stop document.

    Of such a run databroker's drivers for MongoDB give no documents.  Any other may be read better another time, and
    goes on then, because it has not stopped.
    """
    try:
        known = run.metadata if hasattr(run, "metadata") else {"start": run.start, "stop": run.stop}
        start, stop = known["start"], known.get("stop")
    except Exception:  # noqa: BLE001 - it is told that the run cannot be read
        return []
    pairs = [("start", start)]
    if isinstance(stop, Mapping) and stop.get("num_events") == {}:
        pairs.append(("stop", stop))
    return [as_item(f"its {pair[0]} document", pair) for pair in pairs]


def root_map_of(catalog: Any) -> dict[str, str]:
    """Give where the external files of a catalog are, by what its documents call their roots.

    Parameters
    ----------
    catalog
        The catalog.
    """
    found = getattr(getattr(catalog, "v2", catalog), "root_map", None)
    return {str(root): str(place) for root, place in found.items()} if isinstance(found, Mapping) else {}


def root_map_named(name: str) -> dict[str, str]:
    """Give the same of a catalog by its name."""
    return root_map_of(_catalog(name))


@lru_cache(maxsize=8)
def _catalog(name: str) -> Any:
    try:
        databroker: Any = import_module("databroker")
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"to import from the catalog {name!r} takes databroker 1.x here: pip install 'databroker<2'; or "
            "run databroker-pack where it is installed, and import what that writes"
        ) from error
    try:
        # The entry of a configuration is called to open it.
        catalog = databroker.catalog[name]
    except Exception as error:
        raise SourceNotFound(
            f"databroker cannot open a catalog {name!r}: {error!r}. 'python -c \"import databroker; "
            "print(list(databroker.catalog))\"' lists those that it has"
        ) from error
    return catalog
