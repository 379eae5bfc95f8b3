"""The verbs of the command ``filebroker`` to find runs: ``ls``, ``search`` and ``keys``."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from filebroker.commands import columns
from filebroker.commands.output import add_formats, emit
from filebroker.commands.selection import WORDS, add_search, keywords, selected
from filebroker.commands.terminal import CATALOG, add_verb, at_least_one, open_catalog, say

if TYPE_CHECKING:
    from filebroker.cataloging.runs import Runs

_LS = f"""\
examples:
  filebroker ls                              the catalogs that have a name
  filebroker ls example                      the newest runs of one
  filebroker ls example good plan_name=scan --since 2026-11
  filebroker ls example --columns scan_id,sample.name,stop.num_events.primary
  filebroker ls example --csv > runs.csv     all runs, for a spreadsheet
  filebroker ls example --json | jq -r .uid

{WORDS}
{columns.COLUMNS}
The exit status is 0 also if no run matches; a line on the standard error says so.
"""
_SEARCH = f"""\
examples:
  filebroker search example good sample
  filebroker search example 'num_points={{"$gt": 10}}' --explain

{WORDS}
{columns.COLUMNS}
The exit status is 0 also if no run matches; a line on the standard error says so.
"""
_KEYS = """\
Keys of mappings are written with dots, and lists count by their items.

examples:
  filebroker keys example
  filebroker keys example --json | jq -r .key
"""
_DEFAULT_COUNT = 20
_COMPARISON = re.compile(r"\w\s*[<>]")
#: So long the command stays, after its answer, for the index to grow.
_INDEXING_SECONDS = 1.0
_LONGEST_LINE = 200


def add_verbs(verbs: Any) -> None:
    """Add the verbs to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    text = "list the runs of a catalog, newest first; without one, the catalogs"
    ls = add_verb(verbs, "ls", _ls, text, _LS)
    add_search(ls, catalog="?")
    search = add_verb(verbs, "search", _ls, "list the runs that answer a search, newest first", _SEARCH)
    add_search(search)
    for verb in (ls, search):
        verb.add_argument(
            "--columns", type=_columns, metavar="NAME,NAME", help=f"what to list (default: {','.join(columns.DEFAULT)})"
        )
        verb.add_argument(
            "-n",
            type=at_least_one,
            metavar="COUNT",
            help=f"how many runs at most (default: {_DEFAULT_COUNT}; all with --json and --csv)",
        )
        verb.add_argument("--explain", action="store_true", help="tell how the search is answered")
        add_formats(verb)
    keys = add_verb(verbs, "keys", _keys, "list the metadata keys that runs can be searched by", _KEYS)
    keys.add_argument("catalog", metavar="CATALOG", help=CATALOG)
    add_formats(keys)


def _columns(text: str) -> list[str]:
    """Give the names of columns.

    Raises
    ------
    argparse.ArgumentTypeError
        There is none, or one is given twice.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} are no names of columns; write them as in scan_id,sample.name")
    return names


def _ls(options: argparse.Namespace) -> None:
    if options.catalog is None:
        _list_catalogs(options)
        return
    _, runs = selected(options)
    count = _list(runs, options)
    if not count:
        say(_no_run(runs, options), sys.stderr)
    if options.explain:
        from filebroker.faces.results import Question

        say(runs.explain(str(Question(keywords(options), {}))), sys.stderr)
    sys.stdout.flush()
    if keywords(options):  # what was begun of an index in the background would be lost
        runs.catalog.library.housekeeper.wait(_INDEXING_SECONDS)


def _list_catalogs(options: argparse.Namespace) -> None:
    from filebroker.ground.config import describe_configs

    rows = [{"name": name, "description": description} for name, description in describe_configs().items()]
    if options.json or options.csv:
        emit(rows, ("name", "description"), options)
        return
    for row in rows:
        say(f"{row['name']:<20} {row['description'] or ''}".rstrip())


def _list(runs: "Runs", options: argparse.Namespace) -> int:
    """Print runs, and give how many were printed."""
    for_programs = options.json or options.csv
    names = options.columns or columns.DEFAULT
    limit = options.n or (None if for_programs else _DEFAULT_COUNT)
    rows = columns.rows_of(islice(runs.documents(), limit), names, is_short=not for_programs)
    lacking = set(options.columns or ())
    printed = emit(_noted(rows, lacking), names, options)
    if printed and lacking:
        say(f"no run listed has {' or '.join(sorted(lacking))}; {_seen(options.catalog)} lists the keys", sys.stderr)
    if printed == limit and (count := len(runs)) > limit:
        print(f"these are {limit} of {count:,}; ask for more with -n {2 * limit}", file=sys.stderr)
    return printed


def _noted(rows: Iterable[columns.Row], lacking: set[str]) -> Iterator[columns.Row]:
    """Give rows as they are, and take the columns that they have out of a set."""
    for row in rows:
        if lacking:
            lacking.difference_update([name for name in lacking if row[name] is not None])
        yield row


def _seen(catalog: str) -> str:
    """Give the command that lists keys."""
    return f'"filebroker keys {shlex.quote(catalog)}"'


def _no_run(runs: "Runs", options: argparse.Namespace) -> str:
    """Say that no run was found, and what may be the reason."""
    from filebroker.faces.results import unknown_keys

    asked = keywords(options)
    text = "no run" + " matches" * bool(asked)
    if any(key in asked for key in ("status", "exit_status")):
        return f"{text}; how runs ended is asked as in stop.exit_status=fail"
    if any(key.startswith("stop.") for key in asked):
        return text
    if "tags" in asked:
        text += "; tags that were given afterwards are asked as in annotations.tags=good"
    if unknown := unknown_keys(runs, asked):
        text += f": no run has the key {' or '.join(unknown)} ({_seen(options.catalog)} lists the keys)"
    if any(map(_COMPARISON.search, options.words)):
        text += """; a range is written as in 'num_points={"$gt": 10}'"""
    return text


def _keys(options: argparse.Namespace) -> None:
    seen = open_catalog(options.catalog).keys_seen()
    rows: list[dict[str, Any]] = seen.reset_index().to_dict("records")  # type: ignore[assignment]
    if options.json or options.csv:
        emit(rows, ("key", "runs", "types", "values", "commonest"), options)
        return
    print(f"{'runs':>7}  {'types':<16}  key: commonest values")
    for row in rows:
        values = ", ".join(map(repr, row["commonest"]))
        say(f"{row['runs']:>7}  {row['types']:<16}  {row['key']}: {values}"[:_LONGEST_LINE])
