"""What a verb lists: as text for people, as JSON lines or as CSV for programs."""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from filebroker.commands.terminal import cut, say, shown, width_of
from filebroker.ground.texts import encodable, printable

#: A table is never made narrower than this, however narrow the terminal.
_NARROWEST = 30


def add_formats(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--csv`` to a verb that lists something; `emit` heeds them.

    Parameters
    ----------
    parser
        That of the verb.
    """
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    formats.add_argument("--csv", action="store_true", help="comma-separated values, for spreadsheets")


def emit(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], options: argparse.Namespace) -> int:
    """Print rows as the command line asked for, each as soon as it is there if programs read them.

    Parameters
    ----------
    rows
        What is listed.
    columns
        The keys of a row that are shown as text and as CSV.  JSON has all keys.
    options
        The options of the command line, with those of `add_formats`.

    Returns
    -------
    int
        How many rows there were.
    """
    if options.json:
        return _emit_json(rows)
    if options.csv:
        return _emit_csv(rows, columns)
    return _emit_text(list(rows), columns)


def _emit_json(rows: Iterable[Mapping[str, Any]]) -> int:
    number = 0
    for number, row in enumerate(rows, start=1):  # noqa: B007 - it is the result
        print(json.dumps(row, default=str))
    return number


def _emit_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> int:
    line = StringIO()
    writer = csv.writer(line, lineterminator="\n")

    def write(cells: Sequence[str]) -> None:
        line.seek(0)
        line.truncate()
        writer.writerow(cells)
        print(shown(line.getvalue()), end="")

    write([_cell(column) for column in columns])
    number = 0
    for number, row in enumerate(rows, start=1):  # noqa: B007 - it is the result
        write([_cell(row.get(column)) for column in columns])
    return number


def _cell(value: Any) -> str:
    """Give a value as text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    text = str(encodable(value))
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _emit_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Print rows below each other; numbers stand at the right.  A terminal is given no longer lines than it has."""
    if not rows:
        return 0
    cells = [[_word(row.get(column)) for column in columns] for row in rows]
    titles = [printable(column) for column in columns]
    widths = [max(width_of(title), *(width_of(line[place]) for line in cells)) for place, title in enumerate(titles)]
    is_number = [
        all(isinstance(row.get(column), int | float | None) for row in rows)
        and any(row.get(column) is not None for row in rows)
        for column in columns
    ]
    longest = max(_NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None
    for line in [titles, *cells]:
        words = (_placed(*word) for word in zip(line, widths, is_number, strict=True))
        text = "  ".join(words).rstrip()
        say(text if longest is None else cut(text, longest))
    return len(rows)


def _placed(word: str, width: int, is_right: bool) -> str:
    """Give a word with the spaces that it takes to fill a column."""
    space = " " * (width - width_of(word))
    return space + word if is_right else word + space


def _word(value: Any) -> str:
    """Give a value in one line."""
    if value is None:
        return "-"
    return json.dumps(value, default=str) if isinstance(value, dict | list) else printable(str(value))
