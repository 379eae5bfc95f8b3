"""The command ``filebroker``: which verbs there are, and how it ends."""

import argparse
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from filebroker import __version__
from filebroker.commands.terminal import AFTER_MINUSES, say

#: What can be done, each verb with the module that brings it.  Only that of the verb that is called is imported.
SUBJECTS: dict[str, dict[str, str]] = {
    "to begin": {"demo": "starting", "init": "starting"},
    "to find runs": {"ls": "finding", "search": "finding", "keys": "finding"},
    "to look at a run": {"show": "looking", "table": "looking", "documents": "looking", "tail": "following"},
    "to move runs": {
        **{"import": "importing", "export": "exporting"},
        **{"pack": "packing", "unpack": "packing", "copy": "packing"},
    },
    "after the run": {
        **{"annotate": "afterwards", "trash": "afterwards", "restore": "afterwards", "purge": "afterwards"},
    },
    "to take care of a catalog": {
        **{"verify": "care", "repair": "care", "doctor": "care", "refresh": "care", "reindex": "care"},
    },
    "names, stores, shells": {"config": "config", "upload": "stores", "cache": "stores", "completion": "completion"},
}
_MODULES = {verb: module for verbs in SUBJECTS.values() for verb, module in verbs.items()}
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
  filebroker tail /data/beamtime --wait      the events of the next run as they come
  filebroker ls s3://bucket/beamtime         the runs in a bucket
  filebroker import /data/beamtime old/      runs of databroker, from files
  filebroker pack beamtime LaB6 --to lab6    a catalog of some runs to give away
  filebroker verify /data/beamtime           whether every byte is as it was
  filebroker config add hall_a /data/hall_a  a name for a catalog

How to get into a store is told by a configuration with storage_options, or by the environment: AWS_PROFILE and
AWS_ENDPOINT_URL, for example.  There is no option for it here, because commands can be seen by others.
"""
_MORE = """\
"filebroker VERB --help" tells more of a verb, and "filebroker --help" gives examples.
The exit status is 0 if all went well, 1 if something was wrong, 2 if the command was not understood.
"""
#: What shells expect of a command that was interrupted.
_INTERRUPTED = 130
_WRONG_USAGE = 2


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
        or something cannot be read or understood; 2 if the words mean nothing; 130 if it was interrupted.
    """
    if arguments is None:  # else a program calls, and heeds warnings itself
        warnings.showwarning = _tell_warning
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        _end_output()
        print("filebroker: interrupted", file=sys.stderr)
        return _INTERRUPTED
    finally:
        if arguments is None:  # from now on Ctrl-C ends the process without a word
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(given: list[str]) -> int:
    from filebroker.ground.errors import FilebrokerError

    if sys.stdout is None:  # it was closed by whoever called
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stays open
    status: int | None = 0
    options = None
    try:
        try:
            options = _parse(given)
            status = options.verb(options) if options is not None else _WRONG_USAGE
        finally:  # help ends the process from within
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, "head" for example, has seen enough
        _end_output()
    except (FilebrokerError, OSError) as error:
        _end_output()
        say(f"filebroker: {error}", sys.stderr)
        if advice := _advice(error, options):
            say(advice, sys.stderr)
        return 1
    return status or 0


def _advice(error: Exception, options: argparse.Namespace | None) -> str | None:
    """Say which verb may help, where the error itself speaks of Python."""
    from filebroker.ground import errors

    catalog = getattr(options, "catalog", None) or "CATALOG"
    quoted = shlex.quote(catalog)
    match error:
        case errors.RunInTrash():
            return f'"filebroker trash {quoted}" lists the trash, "filebroker restore {quoted} RUN" brings a run back'
        case errors.RunNotFound() if getattr(options, "is_of_trash", False):
            return f'"filebroker trash {quoted}" lists what is in the trash'
        case errors.RunNotFound() | errors.NotEnoughRuns():
            return f'"filebroker ls {quoted}" lists its runs, "filebroker refresh {quoted}" finds those copied by hand'
        case errors.DamagedRun():
            return (
                f'"filebroker verify {quoted}" tells what is damaged, "filebroker repair {quoted}" saves what is left'
            )
        case errors.ConfigNotFound():
            from filebroker.ground.config import list_configs

            known = list_configs()
            near = "" if catalog in known else _nearest(catalog, known)  # it may be another that is not known
            way = '"filebroker ls" lists the names; a directory is given as ./NAME'
            return f"did you mean {near}?" if near else way
        case errors.CatalogNotFound():
            return '"filebroker ls" lists the catalogs that have a name, "filebroker init PATH" makes an empty one'
    return None


def _nearest(word: str, known: Iterable[str]) -> str:
    """Give what somebody may have meant; nothing if nothing is like it."""
    import difflib

    return " or ".join(difflib.get_close_matches(word, known, 2, 0.6))


def _end_output() -> None:
    """Print what was printed so far; throw it away if nobody takes it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as people read it, without the line of code that it comes from."""
    say(f"filebroker: {message}", sys.stderr)


# -- understanding the words


def _parse(given: list[str]) -> argparse.Namespace | None:
    """Read the command line; words to search for may also come after options, which argparse does not foresee."""
    verb = given[0] if given else ""
    if verb and not verb.startswith("-") and verb not in _MODULES:
        _tell_of_verbs(verb)
        return None
    is_completing = "_ARGCOMPLETE" in os.environ
    parser = _parser(None if is_completing else verb)
    if is_completing:
        from filebroker.commands.completion import complete

        complete(parser)
    reader = _reader_of(parser, verb)
    if reader is None or reader._subparsers:
        return parser.parse_args(given)
    if not any(action.dest == "words" for action in reader._actions):
        return reader.parse_intermixed_args(given[1:])  # a run may also come after options
    end = given.index("--") if "--" in given else len(given)
    options, rest = parser.parse_known_args(given[:end])
    if any(word.startswith("-") for word in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}; {AFTER_MINUSES}")
    options.words += rest + given[end + 1 :]
    if options.catalog is None and options.words:
        options.catalog = options.words.pop(0)
    return options


def _reader_of(parser: argparse.ArgumentParser, verb: str) -> argparse.ArgumentParser | None:
    """Give what reads the words after a verb, None if there is no verb."""
    verbs = parser._subparsers._group_actions[0].choices if parser._subparsers else None
    reader: argparse.ArgumentParser | None = verbs.get(verb) if isinstance(verbs, dict) else None
    return reader


def _tell_of_verbs(verb: str) -> None:
    near = _nearest(verb, _MODULES)
    hint = f"did you mean {near}? " if near else ""
    print(f'filebroker: there is no verb {verb!r}; {hint}"filebroker" alone lists them', file=sys.stderr)


def _parser(verb: str | None) -> argparse.ArgumentParser:
    """Give what reads the command line: for one verb if there is one of that name, else for all."""
    parser = argparse.ArgumentParser(
        prog="filebroker",
        description="Your beamtime in a folder: look into catalogs of Bluesky runs.",
        usage="filebroker VERB ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"filebroker {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", help=argparse.SUPPRESS, prog="filebroker")
    modules = [_MODULES[verb]] if verb in _MODULES else dict.fromkeys(_MODULES.values())
    for module in modules:
        import_module(f"filebroker.commands.{module}").add_verbs(verbs)
    if verb not in _MODULES:
        overview = _overview(verbs)
        parser.epilog = f"{overview}\n{_EXAMPLES}\n{_MORE}"
        parser.set_defaults(verb=lambda _: print(f"{parser.description}\n\n{overview}\n{_MORE}", end=""))
    return parser


def _overview(verbs: Any) -> str:
    """Give a line for each verb, by what one wants to do."""
    told = {action.dest: action.help for action in verbs._choices_actions}
    lines = []
    for subject, names in SUBJECTS.items():
        lines += [f"{subject}:", *(f"  {name:<12} {told[name]}" for name in names), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
