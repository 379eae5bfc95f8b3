"""The command ``filebroker``: look into catalogs from a terminal."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from filebroker import __version__

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker

_EXAMPLES = """\
examples:
  filebroker demo                            a first look, on the catalog that comes with filebroker
  filebroker ls                              the catalogs that have a name
  filebroker ls example                      its newest runs
  filebroker ls example good sample          its runs with one of these words
  filebroker ls example plan_name=scan --since 2025-11
  filebroker keys example                    what its runs can be searched by
  filebroker show example -1                 the newest run
  filebroker table /data/beamtime 42         the table of the run with scan_id 42
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Words of the command line; None for those of the process.

    Returns
    -------
    int
        0 if all went well, 1 if something was not found or cannot be read.
    """
    from filebroker.ground.errors import FilebrokerError

    options = _parse(arguments)
    try:
        options.verb(options)
        sys.stdout.flush()
    except FilebrokerError as error:
        print(f"filebroker: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, "head" for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"filebroker: {error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; words to search for may also come after options, which argparse does not foresee."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "words") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.words += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="filebroker",
        description="Your beamtime in a folder: look into catalogs of Bluesky runs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"filebroker {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    demo = verbs.add_parser("demo", help="a first look, on the catalog that comes with filebroker")
    demo.set_defaults(verb=_demo)
    ls = verbs.add_parser("ls", help="list the runs of a catalog, newest first; without one, the catalogs")
    ls.add_argument("catalog", nargs="?", help="a name, a directory or a URL")
    ls.add_argument("words", nargs="*", help="only runs with one of these words, and with these values (key=value)")
    ls.add_argument("-n", type=_count, default=20, metavar="COUNT", help="how many runs at most (default: 20)")
    ls.add_argument("--since", help="only runs that started then or later: 2025-11-22, or 2025-11-22 14:30")
    ls.add_argument("--until", help="only runs that started then or earlier")
    ls.add_argument("--explain", action="store_true", help="tell how the search is answered")
    ls.set_defaults(verb=_ls)
    keys = verbs.add_parser("keys", help="list the metadata keys that runs can be searched by")
    keys.add_argument("catalog", help="a name, a directory or a URL")
    keys.set_defaults(verb=_keys)
    reindex = verbs.add_parser("reindex", help="make a catalog's ledger and index anew from its runs")
    reindex.add_argument("catalog", help="a name, a directory or a URL")
    reindex.set_defaults(verb=_reindex)
    show = verbs.add_parser("show", help="show a run: its metadata, its streams and their fields")
    show.set_defaults(verb=_show)
    table = verbs.add_parser("table", help="print a stream of a run as a table")
    table.add_argument("--stream", help="the stream (default: primary, or the only one)")
    table.set_defaults(verb=_table)
    for verb in (show, table):
        verb.add_argument("catalog", help="a name, a directory or a URL")
        verb.add_argument("run", nargs="?", default="-1", help="-1 for the newest (default), a scan_id, or a uid")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is no number of runs")
    return number


def _print(text: object) -> None:
    """Print what came out of documents, without the control characters that would steer a terminal."""
    clean = "".join(character for character in str(text) if character.isprintable() or character in "\n\t")
    encoding = sys.stdout.encoding or "utf-8"
    print(clean.encode(encoding, errors="replace").decode(encoding))


def _open(catalog: str, *, read_only: bool = True) -> "Broker":
    """Open a catalog: by its path if that is what was given, else by its name."""
    from filebroker.faces.broker import Broker
    from filebroker.ground import config
    from filebroker.ground.errors import ConfigNotFound

    if "://" in catalog or os.path.sep in catalog:
        return Broker(catalog, read_only=read_only)
    try:
        found = config.find(catalog)
    except ConfigNotFound:
        if os.path.isdir(catalog):
            return Broker(catalog, read_only=read_only)
        raise
    return Broker(found.url, name=found.name, **({**found.options, "read_only": True} if read_only else found.options))


def _ls(options: argparse.Namespace) -> None:
    from filebroker.faces import listing

    if options.catalog is None:
        from filebroker.ground.config import describe_configs

        for name, description in describe_configs().items():
            print(f"{name:<20} {description or ''}".rstrip())
        return
    query = dict(word.split("=", 1) for word in options.words if "=" in word)
    words = " ".join(word for word in options.words if "=" not in word)
    conditions = {key: _condition(text) for key, text in query.items()}
    selection = _open(options.catalog).catalog.search(
        conditions, text=words or None, since=options.since, until=options.until
    )
    for line in listing.as_text(islice(selection.documents(), options.n)):
        _print(line)
    count = len(selection)
    is_search = bool(options.words or options.since or options.until)
    if not count:
        print("no run" + " matches" * is_search, file=sys.stderr)
    elif count > options.n:
        print(f"these are {options.n} of {count:,}; ask for more with -n {2 * options.n}", file=sys.stderr)
    if options.explain:
        print(selection.explain(), file=sys.stderr)


def _condition(text: str) -> object:
    """Give what a value has to be: the text, or what it means as a number or a boolean."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return {"$in": [text, kind(text)]}
    return {"$in": [text, text == "true"]} if text in ("true", "false") else text


def _keys(options: argparse.Namespace) -> None:
    seen = _open(options.catalog).keys_seen()
    print(f"{'runs':>7}  {'types':<16}  key: commonest values")
    for key, runs, types, commonest in zip(seen.index, seen["runs"], seen["types"], seen["commonest"], strict=True):
        _print(f"{runs:>7}  {types:<16}  {key}: {', '.join(map(repr, commonest))}"[:200])


def _reindex(options: argparse.Namespace) -> None:
    def tell(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 100 == 0 or done == total):
            print(f"\r{what}: {done:,} of {total:,}", end="", file=sys.stderr)

    _open(options.catalog)  # refuses what is no catalog
    broker = _open(options.catalog, read_only=False)
    broker.catalog.reindex(tell)
    print(f"{len(broker.catalog):,} runs")


def _show(options: argparse.Namespace) -> None:
    header = _open(options.catalog)[options.run]
    _print(header.start)
    _print("")
    missing = "no stop document yet" if header.state == "live" else "no stop document: its recording was cut short"
    _print(header.stop if header.stop else missing)
    for name in header.stream_names:
        _print(f"\nstream {name}: {', '.join(sorted(header.fields(name)))}")


def _table(options: argparse.Namespace) -> None:
    from filebroker.ground.errors import RunNotFound

    header = _open(options.catalog)[options.run]
    names = header.stream_names
    stream = options.stream or (names[0] if len(names) == 1 else "primary")
    if stream not in names:
        raise RunNotFound(f"run {header.uid} has no stream {stream!r}; it has {names}")
    _print(header.table(stream).to_string())


def _demo(options: argparse.Namespace) -> None:
    from filebroker.faces.broker import Broker

    print(">>> from filebroker import Broker")
    print(">>> db = Broker.named('example')")
    broker = Broker.named("example")
    print(">>> db[-1]")
    print(broker[-1])
    print(">>> db[-1].table()")
    print(broker[-1].table())
    print(">>> for header in db('good', plan_name='scan'): print(header)")
    for header in broker("good", plan_name="scan"):
        print(header)
    print(f"""
That catalog is a folder of plain files:
    {broker.catalog.folder.url}
Record your own, in an acquisition session:
    db = Broker('my_beamtime'); RE.subscribe(db.insert)
More: "filebroker ls example", "filebroker show example -1", and docs/tutorials/first-steps.md.""")


if __name__ == "__main__":
    sys.exit(main())
