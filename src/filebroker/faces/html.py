"""Documents and runs as HTML, for notebooks.  Everything taken from a document is escaped."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from filebroker.ground import times

_MAX_ITEMS = 20
_MAX_TEXT = 500


def heading(text: str) -> str:
    """Give a line above tables.

    Examples
    --------
    >>> heading("a & b")
    '<p><b>a &amp; b</b></p>'
    """
    return f"<p><b>{escape(text)}</b></p>"


def mapping_table(doc: Mapping[str, Any], caption: str = "") -> str:
    """Give a mapping as a table of two columns, mappings in it as tables of their own.

    Examples
    --------
    >>> mapping_table({"sample": "<LaB6>"})
    '<table><tr><th>sample</th><td>&lt;LaB6&gt;</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{_cell(str(key), value)}</td></tr>" for key, value in doc.items()
    )
    return f"<table>{_caption(caption)}{rows}</table>"


def rows_table(columns: Iterable[str], rows: Iterable[Iterable[Any]], caption: str = "") -> str:
    """Give rows as a table with a heading."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_text(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<table>{_caption(caption)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def run_tables(start: Mapping[str, Any], stop: Mapping[str, Any], descriptors: Iterable[Mapping[str, Any]]) -> str:
    """Give a run as tables: its start and stop documents, and the data keys of its streams."""
    parts = [mapping_table(start, "Start"), mapping_table(stop, "Stop") if stop else "<p>No stop document yet.</p>"]
    for descriptor in descriptors:
        fields = [
            (key, item.get("dtype", ""), item.get("shape", ""), item.get("units") or "", item.get("source", ""))
            for key, item in descriptor["data_keys"].items()
        ]
        name = str(descriptor.get("name", "primary"))
        parts.append(rows_table(("data key", "dtype", "shape", "units", "source"), fields, f"Stream {name}"))
    return "".join(parts)


def _caption(text: str) -> str:
    return f"<caption>{escape(text)}</caption>" if text else ""


def _cell(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return mapping_table(value)
    if key == "time" and isinstance(value, int | float):
        return escape(f"{times.local(value)} ({value!r})")
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = "".join(f"<li>{_cell('', item)}</li>" for item in value[:_MAX_ITEMS])
        return f"<ul>{items}{'<li>...</li>' if len(value) > _MAX_ITEMS else ''}</ul>"
    return _text(value)


def _text(value: Any) -> str:
    text = str(value)
    return escape(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}...")
