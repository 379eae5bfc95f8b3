"""The read-only dicts in which databroker v1 handed out documents."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import doct

from filebroker.ground.documents import Document

#: A function that every document handed out passes through.
PrepareHook = Callable[[str, Document], Any]

_DOCT_NAMES = {
    **{"start": "Run Start", "stop": "Run Stop", "descriptor": "Event Descriptor", "event": "Event"},
    **{"resource": "Resource", "datum": "Datum", "datum_page": "Datum Page", "event_page": "Event Page"},
    **{"stream_resource": "Stream Resource", "stream_datum": "Stream Datum"},
}
_DICT_ATTRIBUTES = frozenset(dir(dict))


class DeprecatedDoct(doct.Document):  # type: ignore[misc]
    """A read-only document that warns when its keys are used as attributes.

    Examples
    --------
    >>> doc = wrap_in_deprecated_doct("start", {"uid": "84d9ee44", "scan_id": 5})
    >>> doc["scan_id"]
    5
    >>> doc["scan_id"] = 6
    Traceback (most recent call last):
        ...
    doct.DocumentIsReadOnly: scan_id, 6
    """

    # doct makes its items its attributes, so __getattr__ would never be called.
    def __getattribute__(self, key: str) -> Any:
        value = super().__getattribute__(key)
        if key == "_name":
            warnings.warn("'_name' may go away: plain dicts have none", UserWarning, stacklevel=2)
        elif not key.startswith("_") and key not in _DICT_ATTRIBUTES:
            warnings.warn(
                f"attributes of documents may go away: write doc[{key!r}] instead of doc.{key}",
                UserWarning,
                stacklevel=2,
            )
        return value

    def __repr__(self) -> str:
        return repr(dict(self.items()))

    def __str__(self) -> str:
        return self._as_text()

    def _as_text(self) -> str:
        """Lay the document out as an indented list."""
        title = _DOCT_NAMES_BACK.get(dict.get(self, "_name", ""), "document")
        return "\n".join([title, "=" * len(title), *_text_lines(self, 0)])

    def _repr_html_(self) -> str:
        from filebroker.faces import html

        return html.mapping_table(dict(self.items()))


_DOCT_NAMES_BACK = {name: name for name in _DOCT_NAMES.values()}


def _text_lines(doc: Mapping[str, Any], indent: int) -> list[str]:
    lines = []
    for key, value in doc.items():
        if isinstance(value, Mapping) and value:
            lines += [f"{' ' * indent}{key:<{20 - indent}}:", *_text_lines(value, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{key:<{20 - indent}}: {value}")
    return lines


def wrap_in_doct(name: str, doc: Mapping[str, Any]) -> Any:
    """Give a document as a `doct.Document`, read-only, with its keys as attributes."""
    return doct.Document(_DOCT_NAMES.get(name, name), doc)


def wrap_in_deprecated_doct(name: str, doc: Mapping[str, Any]) -> DeprecatedDoct:
    """Give a document as a `DeprecatedDoct`, the default `Broker.prepare_hook`."""
    return DeprecatedDoct(_DOCT_NAMES.get(name, name), doc)
