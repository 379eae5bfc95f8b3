"""What a verb lists: as text for people, as JSON lines or as CSV for programs."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from filebroker.commands.terminal import say


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
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    number = 0
    for number, row in enumerate(rows, start=1):  # noqa: B007 - it is the result
        writer.writerow([_cell(row.get(column)) for column in columns])
    return number


def _cell(value: Any) -> str:
    """Give a value as text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _emit_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> int:
    """Print rows below each other; numbers stand at the right."""
    if not rows:
        return 0
    cells = [[_word(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[place]) for line in cells)) for place, column in enumerate(columns)]
    is_number = [
        all(isinstance(row.get(column), int | float | None) for row in rows) and any(row.get(column) for row in rows)
        for column in columns
    ]
    for line in [list(columns), *cells]:
        words = zip(line, widths, is_number, strict=True)
        say("  ".join(word.rjust(width) if right else word.ljust(width) for word, width, right in words).rstrip())
    return len(rows)


def _word(value: Any) -> str:
    if value is None:
        return "-"
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
