"""Which runs of a catalog a verb is about: words, conditions and times on the command line."""

import argparse
from typing import TYPE_CHECKING, Any

from filebroker.commands.terminal import CATALOG, open_catalog
from filebroker.commands.words import keywords_of

if TYPE_CHECKING:
    from filebroker.cataloging.runs import Runs
    from filebroker.faces.broker import Broker

#: For the end of a verb's help.
WORDS = """\
what a WORD can be:
  good                       a word in the metadata; of several, one suffices
  '"good sample"'            words one after the other; with several phrases, all of them
  'rob*'                     a word that begins so
  operator:chen              a word in one field
  plan_name=scan             the value of a key; a dot leads into a nested one, as in sample.name=LaB6
  'num_points={"$gt": 10}'   an operator, as JSON: $gt $gte $lt $lte $ne $in $exists $regex ...
  'tags=["good", "new"]'     other values as JSON: lists, numbers, true, false; null finds also what has no such key
  'sample.id="17"'           in double quotes, the text alone; 17 finds the number as well as the text
  data_key=det               a field of the events; text_search=, since= and until= are no keys either
  -- -bad                    runs without the word; words that begin with a minus stand at the end, after "--"

A run has to answer to all words with "=", and to the others together.
"$or" and its like stand in the place of a key: '$or=[{"plan_name": "fly"}, {"operator": "Ana"}]'.
The keys that there are, and their values, are listed by "filebroker keys CATALOG".
"""


def add_search(parser: argparse.ArgumentParser, *, catalog: str | None = None) -> None:
    """Add a catalog, and what tells its runs apart, to a verb.

    Parameters
    ----------
    parser
        That of the verb.
    catalog
        ``?`` if no catalog need be named.
    """
    parser.add_argument("catalog", metavar="CATALOG", nargs=catalog, help=CATALOG)
    parser.add_argument("words", metavar="WORD", nargs="*", help="only runs with one of these words, and these values")
    parser.add_argument("--since", metavar="TIME", help="only runs that started then or later: 2025-11-22, or 14:30")
    parser.add_argument("--until", metavar="TIME", help="only runs that started then or earlier")
    parser.add_argument(
        "--run",
        metavar="RUN",
        action="append",
        default=[],
        help="this run alone: -1 for the newest, a scan_id, or a uid; can be given several times",
    )


def keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Give the keywords of the search that a command line asks for.

    Parameters
    ----------
    options
        Those of `add_search`.

    Raises
    ------
    InvalidQuery
        They cannot be understood.
    """
    return keywords_of(options.words, since=options.since, until=options.until)


def selected(options: argparse.Namespace) -> tuple["Broker", "Runs"]:
    """Open the catalog of a command line to read, and give it with the runs that are meant.

    Parameters
    ----------
    options
        Those of `add_search`.

    Raises
    ------
    FilebrokerError
        The catalog cannot be opened, the search cannot be understood, or a run that is named is not there.
    """
    from filebroker.faces.keywords import narrowed

    broker = open_catalog(options.catalog)
    runs = narrowed(broker.runs, keywords(options))
    if options.run:
        uids = [runs.lookup(run).uid for run in options.run]
        runs = runs.search({"uid": {"$in": uids}})
    return broker, runs
