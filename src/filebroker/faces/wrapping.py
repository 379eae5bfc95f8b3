"""The read-only dicts in which databroker v1 handed out documents."""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import doct

from filebroker.ground.documents import Document

#: A function that every document handed out passes through.
PrepareHook = Callable[[str, Document], Any]

_DOCT_NAMES = {
    **{"start": "Run Start", "stop": "Run Stop", "descriptor": "Event Descriptor", "event": "Event"},
    **{"resource": "Resource", "datum": "Datum", "datum_page": "Datum Page", "event_page": "Event Page"},
    **{"stream_resource": "Stream Resource", "stream_datum": "Stream Datum"},
}


class DeprecatedDoct(doct.Document):  # type: ignore[misc]
    """A read-only document that warns when its keys are used as attributes.

    Unlike its base it can be copied, which gives a dict, and pickled, and its kind is no key of it.

    Parameters
    ----------
    name
        The kind of document, for people: ``Run Start``, ``Event``, ...
    *args, **kwargs
        As for `dict`.

    Examples
    --------
    >>> doc = wrap_in_deprecated_doct("start", {"uid": "84d9ee44", "scan_id": 5})
    >>> doc["scan_id"]
    5
    >>> doc["scan_id"] = 6
    Traceback (most recent call last):
        ...
    doct.DocumentIsReadOnly: documents are read-only; make a dict of it, dict(doc), and change that
    """

    __slots__ = ("_kind",)

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        # Unlike doct, which makes of each document its own attributes: only the garbage collector could free it then.
        dict.__init__(self, *args, **kwargs)
        object.__setattr__(self, "_kind", name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self

    def __getattr__(self, key: str) -> Any:
        if key == "_name":
            warnings.warn("'_name' may go away: plain dicts have none", UserWarning, stacklevel=2)
            return self._kind
        if key not in self:
            raise AttributeError(f"the document has no key {key!r}")
        if not key.startswith("_"):
            warnings.warn(
                f"attributes of documents may go away: write doc[{key!r}] instead of doc.{key}",
                UserWarning,
                stacklevel=2,
            )
        return self[key]

    # doct hides keys that begin with "_", because it keeps one of its own; this class does not.
    __iter__, __len__ = dict.__iter__, dict.__len__
    keys, values, items = dict.keys, dict.values, dict.items

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `doct.DocumentIsReadOnly`: make a dict of the document, and change that.

        Examples
        --------
        >>> wrap_in_deprecated_doct("start", {"uid": "84d9ee44"}).pop("uid")
        Traceback (most recent call last):
            ...
        doct.DocumentIsReadOnly: documents are read-only; make a dict of it, dict(doc), and change that
        """
        raise doct.DocumentIsReadOnly("documents are read-only; make a dict of it, dict(doc), and change that")

    __setitem__ = __delitem__ = __setattr__ = __delattr__ = _refuse
    update = pop = popitem = clear = setdefault = __ior__ = _refuse

    # Whoever copies a document wants to change it.
    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return copy.deepcopy(dict(self), memo)

    def __reduce__(self) -> tuple[Any, ...]:
        return DeprecatedDoct, (self._kind, dict(self))

    def __repr__(self) -> str:
        return repr(dict(self))

    def __str__(self) -> str:
        return "\n".join([self._kind, "=" * len(self._kind), *_text_lines(dict(self), 0)])

    def _repr_html_(self) -> str:
        from filebroker.faces import html

        return html.mapping_table(dict(self))


def _text_lines(doc: Mapping[str, Any], indent: int) -> list[str]:
    """Lay a document out as an indented list."""
    lines = []
    for key, value in doc.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{' ' * indent}{key:<{20 - indent}}:", *_text_lines(value, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key:<{20 - indent}}: {value}")
    return lines


def wrap_in_doct(name: str, doc: Mapping[str, Any]) -> Any:
    """Give a document as a `doct.Document`, read-only, with its keys as attributes.

    Parameters
    ----------
    name
        ``start``, ``descriptor``, ...
    doc
        The document.

    Examples
    --------
    >>> wrap_in_doct("start", {"uid": "84d9ee44", "scan_id": 5}).scan_id
    5
    """
    return doct.Document(_DOCT_NAMES.get(name, name), doc)


def wrap_in_deprecated_doct(name: str, doc: Mapping[str, Any]) -> DeprecatedDoct:
    """Give a document as a `DeprecatedDoct`, the default `Broker.prepare_hook`.

    Parameters
    ----------
    name
        ``start``, ``descriptor``, ...
    doc
        The document.

    Examples
    --------
    >>> print(wrap_in_deprecated_doct("start", {"uid": "84d9ee44", "scan_id": 5}))
    Run Start
    =========
    uid                 : 84d9ee44
    scan_id             : 5
    """
    return DeprecatedDoct(_DOCT_NAMES.get(name, name), doc)


def unwrap(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a document without its wrapper, which keeps a name of its own among the keys."""
    if isinstance(doc, DeprecatedDoct):
        return dict(doc)
    return {key: doc[key] for key in doc} if isinstance(doc, doct.Document) else doc
