"""The reference of the command, made of its own help.

"python tests/command_reference.py > docs/reference/command.md" writes it anew; a test compares it.
"""

import argparse
import sys
from collections.abc import Iterator

from filebroker.commands import main as command

_HEAD = """\
# The command

`filebroker VERB ...` looks into catalogs, moves runs and takes care of them. Each verb does what a function of Python
does; [ten minutes with it](../how-to/command-line.md) show the most of it.

- A CATALOG is a name (`filebroker ls` lists them), a directory, or a URL.
- Standard output has the results, and standard error what there is to say about them.
- `--json` prints a JSON object a line, and `--csv` comma-separated values with a heading. In CSV, text that a
  spreadsheet would take for a formula begins with `'`.
- Nothing that stands in a document steers the terminal: its control characters are left out.
- Long work shows its progress, if the standard error is a terminal.

| exit status | |
|---|---|
| 0 | all went well, also where a search found nothing |
| 1 | something was wrong: the standard error says what, and what to do |
| 2 | the command was not understood |
| 130 | it was interrupted by Ctrl-C |

This page is made of what `filebroker VERB --help` prints.
"""


def page() -> str:
    """Give the whole page."""
    choices = _choices(command._parser(None))
    parts = [_HEAD]
    for subject, verbs in command.SUBJECTS.items():
        parts.append(f"\n## {subject[0].upper()}{subject[1:]}\n")
        for verb in verbs:
            parts += _section(f"filebroker {verb}", choices[verb])
    return "".join(parts)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(found, {})


def parsers(
    parser: argparse.ArgumentParser | None = None, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Give every verb and deed with its parser."""
    for verb, below in _choices(parser or command._parser(None)).items():
        yield f"{name} {verb}".strip(), below
        yield from parsers(below, f"{name} {verb}".strip())


def _section(name: str, parser: argparse.ArgumentParser, level: str = "###") -> Iterator[str]:
    yield f"\n{level} {name}\n\n{parser.description}\n"
    told = [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    rows = [f"| `{_words(action)}` | {action.help} |\n" for action in told if action.help]
    if rows:
        yield "".join(["\n| argument | |\n|---|---|\n", *rows])
    if parser.epilog:
        yield f"\n```text\n{parser.epilog.strip()}\n```\n"
    for deed, below in _choices(parser).items():
        yield from _section(f"{name} {deed}", below, f"{level}#")


def _words(action: argparse.Action) -> str:
    """Give an argument as it is written."""
    value = str(action.metavar or action.dest.upper())
    if action.choices is not None and action.metavar is None:
        value = "\\|".join(map(str, action.choices))
    if not action.option_strings:
        return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} [{value} ...]"}.get(str(action.nargs), value)
    options = ", ".join(action.option_strings)
    return options if action.nargs == 0 else f"{options} {value}"


if __name__ == "__main__":
    sys.stdout.write(page())
