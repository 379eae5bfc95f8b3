"""Which runs of a catalog a verb is about: words, conditions and times on the command line."""

import argparse
from typing import TYPE_CHECKING, Any

from filebroker.commands.terminal import CATALOG, open_catalog
from filebroker.commands.words import keywords_of

if TYPE_CHECKING:
    from filebroker.cataloging.runs import Runs
    from filebroker.faces.broker import Broker

#: What a condition on the stop document begins with.
_STOP = "stop."
_WORDS_AND_TIMES = ("text_search", "since", "until", "data_key")
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
  stop.exit_status=fail      what the stop document says: success, fail or abort; these runs are looked at one by one
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
    parser.add_argument(
        "words", metavar="WORD", nargs="*", default=[], help="only runs with one of these words, and these values"
    )
    since = "only runs that started then or later: 2025-11-22, or '2025-11-22 14:30'"
    parser.add_argument("--since", metavar="TIME", help=since)
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
    asked, endings = _apart(keywords(options))
    runs = narrowed(broker.runs, asked)
    if endings:
        from filebroker.cataloging.endings import WithEnding

        runs = WithEnding(runs, endings)
    if options.run:
        uids = [runs.lookup(run).uid for run in options.run]
        runs = runs.search({"uid": {"$in": uids}})
    return broker, runs


def _apart(asked: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what is asked of start documents, and what of stop documents."""
    together = asked.get("$and", [])
    conditions = [{key: value} for key, value in asked.items() if key != "$and"]
    conditions += together if isinstance(together, list) else [{"$and": together}]
    of_stop = [item for item in conditions if isinstance(item, dict) and item and all(map(_is_of_stop, item))]
    if not of_stop:
        return asked, {}
    ended = [{key.removeprefix(_STOP): value for key, value in condition.items()} for condition in of_stop]
    others = [condition for condition in conditions if condition not in of_stop]
    plain = {name: asked[name] for name in _WORDS_AND_TIMES if name in asked}
    rest = [condition for condition in others if next(iter(condition), None) not in plain]
    return {**plain, **({"$and": rest} if rest else {})}, {"$and": ended}


def _is_of_stop(key: object) -> bool:
    return isinstance(key, str) and key.startswith(_STOP)
