"""Documents as databroker v2 hands them out: events and datum documents in pages."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import Any

from filebroker.ground.documents import Document, Pair, pack_event_page

#: So many events or datum documents at most make one page.
_PAGE_ROWS = 1000


def in_pages(documents: Iterable[Pair], *, strict_order: bool = True) -> Iterator[Pair]:
    """Put events and datum documents into pages.

    Parameters
    ----------
    documents
        Single documents, in the order of `Run.singles`.
    strict_order
        Give each event a page of its own.  Otherwise those that follow each other and belong to one
        descriptor share one.

    Yields
    ------
    tuple of str and dict
        Name and document.  Those that follow each other in one resource share a datum page.
    """
    for (name, *_), group in groupby(documents, key=_name_of if strict_order else _key_of):
        if name == "datum":
            for _, same in groupby(group, key=_key_of):
                yield from _paged(same, _pack_datum_page, "datum_page")
        elif name == "event" and strict_order:
            for _, doc in group:
                yield "event_page", pack_event_page([doc])
        elif name == "event":
            yield from _paged(group, pack_event_page, "event_page")
        else:
            yield from group


def _name_of(pair: Pair) -> tuple[str]:
    return (pair[0],)


def _key_of(pair: Pair) -> tuple[Any, ...]:
    """Give what documents have in common that fit into one page."""
    name, doc = pair
    if name == "datum":
        return name, doc["resource"], doc["datum_kwargs"].keys()
    if name == "event":
        return name, doc["descriptor"], doc.keys(), doc["data"].keys(), doc.get("filled", {}).keys()
    return (name,)


def _paged(group: Iterable[Pair], pack: Callable[[list[Document]], Document], name: str) -> Iterator[Pair]:
    documents = (doc for _, doc in group)
    while page := list(islice(documents, _PAGE_ROWS)):
        yield name, pack(page)


def _pack_datum_page(documents: list[Document]) -> Document:
    return {
        "resource": documents[0]["resource"],
        "datum_id": [doc["datum_id"] for doc in documents],
        "datum_kwargs": {key: [doc["datum_kwargs"][key] for doc in documents] for key in documents[0]["datum_kwargs"]},
    }
