"""Whether the documents of a run are those that are recorded already."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from filebroker.ground import codec
from filebroker.ground.documents import Pair, describe, unpack_datum_page, unpack_event_page
from filebroker.storing.run_files import RunFiles

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

_Identity = tuple[str, str]
_Digests = dict[_Identity, int]


def is_same(one: tuple[str, Mapping[str, Any]], other: tuple[str, Mapping[str, Any]]) -> bool:
    """Tell whether two documents are equal, whatever the order of their keys.

    Parameters
    ----------
    one, other
        Names and documents.

    Raises
    ------
    UnstorableValue
        One of them could not be kept.
    """
    if one[0] != other[0]:
        return False
    text = _sorted(one[1])
    if text is not None and text == _sorted(other[1]):
        return True
    return codec.canonical(one[1]) == codec.canonical(other[1])


def _sorted(doc: Mapping[str, Any]) -> bytes | None:
    """Write a document so that equal texts mean equal documents; None if that takes more time."""
    try:
        text = orjson.dumps(doc, None, _OPTIONS)
    except (TypeError, RecursionError):
        return None
    return None if b"null" in text else text  # which also stands for NaN


def difference(new: RunFiles, recorded: RunFiles) -> tuple[str, int]:
    """Compare two runs of one uid, document by document.

    It does not matter whether events and datums came one by one or in pages, nor in which order documents are.

    Parameters
    ----------
    new, recorded
        The runs.

    Returns
    -------
    tuple of (str, int)
        ``same`` if nothing is new, ``more`` if the new one has all that is recorded and more, else a sentence that
        tells what differs; and how many documents are new.
    """
    known = _digests(recorded.documents())
    extra = 0
    for name, doc in new.documents():
        for identity, mark, part in _parts(name, doc):
            found = known.pop(identity, None)
            if found is None:
                extra += 1
            elif found != mark:
                return f"its {describe(identity[0], part)} differs from the recorded one", extra
    if known and extra:
        kind, uid = next(iter(known))
        return (
            f"it lacks the recorded {kind} document {uid[:80]!r}, and {extra} of its documents are not recorded",
            extra,
        )
    return ("more" if extra else "same"), extra


def _digests(documents: Iterable[Pair]) -> _Digests:
    return {identity: mark for name, doc in documents for identity, mark, _ in _parts(name, doc)}


def _parts(name: str, doc: Mapping[str, Any]) -> Iterable[tuple[_Identity, int, Mapping[str, Any]]]:
    """Give a document with what makes it the same as another; those of pages one by one."""
    if name == "event_page":
        for event in unpack_event_page(doc):
            yield ("event", str(event["uid"])), digest(event), event
    elif name == "datum_page":
        for datum in unpack_datum_page(doc):
            yield ("datum", str(datum["datum_id"])), digest(datum), datum
    else:
        yield (name, str(codec.plain(doc.get("uid", doc.get("datum_id"))))), digest(doc), doc


def digest(doc: Mapping[str, Any]) -> int:
    """Give a number that is the same for equal documents of JSON's own types, whatever the order of their keys.

    Parameters
    ----------
    doc
        A document.

    Raises
    ------
    UnstorableValue
        It could not be kept.
    """
    text = _sorted(doc) or codec.canonical(doc)
    return zlib.crc32(text) << 32 | zlib.adler32(text)
