"""The command ``filebroker``: look into catalogs from a terminal."""

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from filebroker import __version__

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker
    from filebroker.faces.header import Header

_EXAMPLES = """\
examples:
  filebroker demo                            a first look, on the catalog that comes with filebroker
  filebroker ls                              the catalogs that have a name
  filebroker ls example                      its newest runs
  filebroker ls example good sample          its runs with one of these words
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

    options = _parser().parse_args(arguments)
    try:
        options.verb(options)
        sys.stdout.flush()
    except FilebrokerError as error:
        print(f"filebroker: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, "head" for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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
    ls.add_argument("words", nargs="*", help="only runs with one of these words in their start document")
    ls.add_argument("-n", type=int, default=20, metavar="COUNT", help="how many runs at most (default: 20)")
    ls.set_defaults(verb=_ls)
    show = verbs.add_parser("show", help="show a run: its metadata, its streams and their fields")
    show.set_defaults(verb=_show)
    table = verbs.add_parser("table", help="print a stream of a run as a table")
    table.add_argument("--stream", default="primary", help="the stream (default: primary)")
    table.set_defaults(verb=_table)
    for verb in (show, table):
        verb.add_argument("catalog", help="a name, a directory or a URL")
        verb.add_argument("run", nargs="?", default="-1", help="-1 for the newest (default), a scan_id, or a uid")
    return parser


def _print(text: object) -> None:
    """Print what came out of documents, without the control characters that would steer a terminal."""
    print("".join(character for character in str(text) if character.isprintable() or character in "\n\t"))


def _open(catalog: str) -> "Broker":
    """Open a catalog by its path if there is one, else by its name."""
    from filebroker.faces.broker import Broker

    if "://" in catalog or os.path.sep in catalog or os.path.isdir(catalog):
        return Broker(catalog, read_only=True)
    return Broker.named(catalog)


def _ls(options: argparse.Namespace) -> None:
    if options.catalog is None:
        from filebroker.ground.config import describe_configs

        for name, description in describe_configs().items():
            print(f"{name:<20} {description or ''}".rstrip())
        return
    broker = _open(options.catalog)
    found = broker(" ".join(options.words)) if options.words else broker()
    for header in islice(found, options.n):
        _print(_line(header))


def _line(header: "Header") -> str:
    from datetime import datetime

    start, stop = header.start, header.stop
    when = datetime.fromtimestamp(start["time"]).isoformat(" ", "seconds")
    status = stop.get("exit_status", "-")
    return f"{header.uid[:8]}  {when}  {start.get('scan_id', '-'):>6}  {status:<8} {start.get('plan_name', '')}"


def _show(options: argparse.Namespace) -> None:
    header = _open(options.catalog)[options.run]
    _print(header.start)
    _print("")
    _print(header.stop if header.stop else "no stop document yet")
    for name in header.stream_names:
        _print(f"\nstream {name}: {', '.join(sorted(header.fields(name)))}")


def _table(options: argparse.Namespace) -> None:
    header = _open(options.catalog)[options.run]
    if options.stream not in header.stream_names:
        from filebroker.ground.errors import RunNotFound

        raise RunNotFound(f"run {header.uid} has no stream {options.stream!r}; it has {header.stream_names}")
    _print(header.table(options.stream).to_string())


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
