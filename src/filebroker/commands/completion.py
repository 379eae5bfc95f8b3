"""The verb ``filebroker completion``, and what completes words of the command line in a shell."""

import argparse
from collections.abc import Iterable
from typing import Any

from filebroker.commands.terminal import add_verb

_COMPLETION = """\
Verbs, options and the names of catalogs are completed.

put a line into the file that your shell reads when it starts:
  bash    eval "$(filebroker completion bash)"         in ~/.bashrc
  zsh     eval "$(filebroker completion zsh)"          in ~/.zshrc, after compinit
  fish    filebroker completion fish | source          in ~/.config/fish/config.fish
"""
#: Arguments that cannot be guessed.
_UNKNOWN = frozenset({"words", "run", "runs", "name", "columns", "n", "since", "until", "stream", "field"})


def add_verbs(verbs: Any) -> None:
    """Add the verb to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    text = "print what makes a shell complete the words of this command"
    completion = add_verb(verbs, "completion", _completion, text, _COMPLETION)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _completion(options: argparse.Namespace) -> None:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["filebroker"], use_defaults=False, shell=options.shell))


def complete(parser: argparse.ArgumentParser) -> None:
    """Give a shell the words that can stand where it is, and end the process.

    Parameters
    ----------
    parser
        That of the whole command.
    """
    import argcomplete

    for action in _actions(parser):
        if action.dest in ("catalog", "catalogs"):
            vars(action)["completer"] = _catalogs
        elif action.dest in _UNKNOWN:
            vars(action)["completer"] = _nothing
    argcomplete.autocomplete(parser, always_complete_options="long")


def _actions(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    """Give every argument of a command and of its verbs."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)


def _nothing(prefix: str, **_: Any) -> list[str]:
    return []


def _catalogs(prefix: str, **_: Any) -> list[str]:
    """Give the names of catalogs, and directories."""
    import warnings

    from argcomplete.completers import DirectoriesCompleter

    from filebroker.ground.config import list_configs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is printed now would stand in the line that is being typed
        names = list_configs()
    return [*names, *DirectoriesCompleter()(prefix)]
