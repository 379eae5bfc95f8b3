"""Documents as databroker v2 hands them out: events and datum documents in pages."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from filebroker.ground.documents import EVENT_KEYS, Document, Pair, pack_event_page, page_of_one

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
    for name, group in groupby(documents, key=itemgetter(0)):
        if name == "event" and strict_order:
            for _, event in group:
                yield "event_page", page_of_one(event)
        elif name == "event":
            for _, alike in groupby(group, key=_key_of_event):
                yield from _paged(alike, pack_event_page, "event_page")
        elif name == "datum":
            for _, alike in groupby(group, key=_key_of_datum):
                yield from _paged(alike, _pack_datum_page, "datum_page")
        else:
            yield from group


def _key_of_event(pair: Pair) -> tuple[Any, ...]:
    """Give what events have in common that fit into one page."""
    doc = pair[1]
    own = {key: value for key, value in doc.items() if key not in EVENT_KEYS}  # which a page has once
    return doc["descriptor"], doc.keys(), *(doc.get(key, {}).keys() for key in ("data", "timestamps", "filled")), own


def _key_of_datum(pair: Pair) -> tuple[Any, ...]:
    """Give what datum documents have in common that fit into one page."""
    doc = pair[1]
    own = {key: value for key, value in doc.items() if key not in ("datum_id", "resource", "datum_kwargs")}
    return doc["resource"], doc["datum_kwargs"].keys(), own


def _paged(group: Iterable[Pair], pack: Callable[[list[Document]], Document], name: str) -> Iterator[Pair]:
    documents = (doc for _, doc in group)
    while page := list(islice(documents, _PAGE_ROWS)):
        yield name, pack(page)


def _pack_datum_page(documents: list[Document]) -> Document:
    return {
        **documents[0],
        "datum_id": [doc["datum_id"] for doc in documents],
        "datum_kwargs": {key: [doc["datum_kwargs"][key] for doc in documents] for key in documents[0]["datum_kwargs"]},
    }
