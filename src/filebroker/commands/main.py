"""The command ``filebroker``: look into catalogs from a terminal."""

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from filebroker import __version__
from filebroker.commands import config, stores
from filebroker.commands.selection import WORDS, add_search, keywords, selected
from filebroker.commands.terminal import CATALOG, open_catalog, say, sentence

if TYPE_CHECKING:
    from filebroker.cataloging.runs import Runs
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
  filebroker ls s3://bucket/beamtime         the runs in a bucket
  filebroker config add hall_a /data/hall_a  a name for a catalog
  filebroker upload                          what was recorded for a store here and is not there yet
  filebroker cache                           what is kept here of the files of stores

How to get into a store is told by a configuration with storage_options, or by the environment: AWS_PROFILE and
AWS_ENDPOINT_URL, for example.  There is no option for it here, because commands can be seen by others.
"filebroker VERB --help" tells more of each verb.
"""
_LS = f"""{WORDS}
The exit status is 0 also if no run matches; a line on the standard error says so.
"""
_COMPARISON = re.compile(r"\w\s*[<>]")
_AFTER_MINUSES = 'a word that begins with a minus comes after "--"'


#: So long the command stays, after its answer, for the index to grow.
_INDEXING_SECONDS = 1.0
#: What shells expect of a command that was interrupted.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Words of the command line; None for those of the process.

    Returns
    -------
    int
        0 if all went well, also if a search found nothing; 1 if a catalog or the run that was named was not found,
        or something cannot be read or understood; 130 if it was interrupted.
    """
    from filebroker.ground.errors import FilebrokerError

    options = _parse(arguments)
    try:
        status = options.verb(options)
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
    except KeyboardInterrupt:
        print("filebroker: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return status or 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; words to search for may also come after options, which argparse does not foresee."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    end = given.index("--") if "--" in given else len(given)
    options, rest = parser.parse_known_args(given[:end])
    if rest and (not hasattr(options, "words") or any(word.startswith("-") for word in rest)):
        hint = f"; {_AFTER_MINUSES}" if hasattr(options, "words") else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if hasattr(options, "words"):
        options.words += rest + given[end + 1 :]
        if options.catalog is None and options.words:
            options.catalog = options.words.pop(0)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="filebroker",
        description="Your beamtime in a folder: look into catalogs of Bluesky runs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"filebroker {__version__}")
    parser.set_defaults(verb=lambda _: parser.print_help())
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    def add(name: str, verb: Callable[[argparse.Namespace], int | None], text: str, epilog: str = "") -> Any:
        """Add a verb; most work on a catalog."""
        layout = argparse.RawDescriptionHelpFormatter
        added = verbs.add_parser(name, help=text, description=sentence(text), epilog=epilog, formatter_class=layout)
        added.set_defaults(verb=verb)
        if verb not in (_demo, _ls):
            added.add_argument("catalog", metavar="CATALOG", help=CATALOG)
        return added

    add("demo", _demo, "a first look, on the catalog that comes with filebroker")
    ls = add("ls", _ls, "list the runs of a catalog, newest first; without one, the catalogs", _LS)
    add_search(ls, catalog="?")
    ls.add_argument("-n", type=_count, default=20, metavar="COUNT", help="how many runs at most (default: 20)")
    ls.add_argument("--explain", action="store_true", help="tell how the search is answered")
    show = add("show", _show, "show a run: its metadata, its streams and their fields")
    table = add("table", _table, "print a stream of a run as a table")
    table.add_argument("--stream", help="the stream (default: primary, or the only one)")
    for verb in (show, table):
        verb.add_argument(
            "run", metavar="RUN", nargs="?", default="-1", help="-1 for the newest (default), a scan_id, or a uid"
        )
    add("keys", _keys, "list the metadata keys that runs can be searched by")
    add("refresh", _refresh, "find runs that were copied into a catalog, or removed from it, by hand")
    add("reindex", _reindex, "make a catalog's list of runs and its index anew from its runs")
    config.add_verbs(verbs)
    stores.add_verbs(verbs)
    return parser


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; {_AFTER_MINUSES}")
    return number


def _open_for_writing(catalog: str) -> "Broker":
    """Open a catalog so that others are told what is found."""
    open_catalog(catalog)  # refuses what is no catalog
    return open_catalog(catalog, read_only=False)


def _ls(options: argparse.Namespace) -> None:
    from filebroker.faces import listing

    if options.catalog is None:
        from filebroker.ground.config import describe_configs

        for name, description in describe_configs().items():
            print(f"{name:<20} {description or ''}".rstrip())
        return
    from filebroker.faces.results import Question

    _, runs = selected(options)
    for line in listing.as_text(islice(runs.documents(), options.n)):
        say(line)
    count = len(runs)
    if not count:
        say(_no_run(runs, options), sys.stderr)
    elif count > options.n:
        print(f"these are {options.n} of {count:,}; ask for more with -n {2 * options.n}", file=sys.stderr)
    if options.explain:
        say(runs.explain(str(Question(keywords(options), {}))), sys.stderr)
    sys.stdout.flush()
    # What was begun of an index in the background would be lost.
    runs.catalog.library.housekeeper.wait(_INDEXING_SECONDS)


def _no_run(runs: "Runs", options: argparse.Namespace) -> str:
    """Say that no run was found, and what may be the reason."""
    from filebroker.faces.results import unknown_keys

    asked = keywords(options)
    text = "no run" + " matches" * bool(asked)
    if unknown := unknown_keys(runs, asked):
        seen = f"filebroker keys {shlex.quote(options.catalog)}"
        text += f': no run has the key {" or ".join(unknown)} ("{seen}" lists the keys)'
    if any(map(_COMPARISON.search, options.words)):
        text += """; a range is written as in 'num_points={"$gt": 10}'"""
    return text


def _keys(options: argparse.Namespace) -> None:
    seen = open_catalog(options.catalog).keys_seen()
    print(f"{'runs':>7}  {'types':<16}  key: commonest values")
    for key, runs, types, commonest in zip(seen.index, seen["runs"], seen["types"], seen["commonest"], strict=True):
        say(f"{runs:>7}  {types:<16}  {key}: {', '.join(map(repr, commonest))}"[:200])


def _refresh(options: argparse.Namespace) -> None:
    found = _open_for_writing(options.catalog).refresh()
    counts = {"added": found.added, "changed": found.changed, "removed": found.removed, "unreadable": found.unreadable}
    print(", ".join(f"{len(runs)} {name}" for name, runs in counts.items()))


def _reindex(options: argparse.Namespace) -> None:
    def tell(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 100 == 0 or done == total):
            print(f"\r{what}: {done:,} of {total:,}", end="", file=sys.stderr)

    broker = _open_for_writing(options.catalog)
    broker.catalog.reindex(tell)
    print(f"{len(broker.catalog):,} runs")


def _show(options: argparse.Namespace) -> None:
    header = open_catalog(options.catalog)[options.run]
    say(header.start)
    say("")
    missing = "no stop document yet" if header.state == "live" else "no stop document: its recording was cut short"
    say(header.stop if header.stop else missing)
    for name in header.stream_names:
        say(f"\nstream {name}: {', '.join(sorted(header.fields(name)))}")


def _table(options: argparse.Namespace) -> None:
    from filebroker.ground.errors import RunNotFound

    header = open_catalog(options.catalog)[options.run]
    names = header.stream_names
    stream = options.stream or (names[0] if len(names) == 1 else "primary")
    if stream not in names:
        raise RunNotFound(f"run {header.uid} has no stream {stream!r}; it has {names}")
    say(header.table(stream).to_string())


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
    command = _command()
    print(f"""
That catalog is a folder of plain files:
    {broker.catalog.folder.url}
Record your own, in an acquisition session:
    db = Broker('my_beamtime'); RE.subscribe(db.insert)
More: "{command} ls example", "{command} show example -1", and docs/tutorials/first-steps.md.""")


def _command() -> str:
    """Give how this command is called from here: by its name if the shell finds it, else by its path."""
    called, found = sys.argv[0], shutil.which("filebroker")
    is_itself = os.path.splitext(os.path.basename(called))[0] == "filebroker"
    if not is_itself or (found is not None and os.path.realpath(found) == os.path.realpath(called)):
        return "filebroker"
    return shlex.quote(min(os.path.relpath(called), called, key=len))


if __name__ == "__main__":
    sys.exit(main())
