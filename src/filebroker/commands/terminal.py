"""What the verbs of ``filebroker`` share: how they are added, how catalogs are named, and how text is printed."""

import argparse
import os
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker
    from filebroker.ground.filesystem import Folder
    from filebroker.ground.settings import Config

#: What a catalog can be given as.
CATALOG = "a name, a directory or a URL"


#: What can be given as a run.
RUN = "-1 for the newest, a scan_id, or a uid or its beginning"

#: How a word is written that would be taken for an option.
AFTER_MINUSES = 'a word that begins with a minus comes after "--"'
#: What a verb does: it may give an exit status.
Verb = Callable[[argparse.Namespace], int | None]


def add_verb(verbs: Any, name: str, verb: Verb | None, text: str, epilog: str = "") -> argparse.ArgumentParser:
    """Add a verb to the command, or a deed to a verb.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    name
        Its name.
    verb
        What it does; None if that is set later.
    text
        What it does in one phrase, without a full stop.
    epilog
        Examples, and what else there is to say; it is printed as it is.
    """
    layout = argparse.RawDescriptionHelpFormatter
    added: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=sentence(text), epilog=epilog, formatter_class=layout
    )
    added.set_defaults(verb=verb)
    return added


def add_root_map(parser: argparse.ArgumentParser) -> None:
    """Add ``--root-map`` to a verb, which gives pairs of an old and a new place.

    Parameters
    ----------
    parser
        That of the verb.
    """
    parser.add_argument(
        "--root-map",
        type=_mapped,
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="where external files have moved; can be given several times",
    )


def _mapped(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (old and separator and new):
        raise argparse.ArgumentTypeError(f"{text!r} is not OLD=NEW, as in /old/images=/new/images")
    return old, new


def say(text: object, file: TextIO | None = None) -> None:
    """Print what came out of documents, without the control characters that would steer a terminal."""
    file = file or sys.stdout
    print(shown(text, file), file=file)


def shown(text: object, file: TextIO | None = None) -> str:
    """Give a text as a file can have it: without control characters, and without what its encoding lacks."""
    clean = "".join(character for character in str(text) if character.isprintable() or character in "\n\t")
    encoding = (file or sys.stdout).encoding or "utf-8"
    return clean.encode(encoding, errors="replace").decode(encoding)


def width_of(text: str) -> int:
    """Give how many columns of a terminal a text takes.

    Examples
    --------
    >>> width_of("LaB6"), width_of("\u6e2c\u8a66")
    (4, 4)
    """
    if text.isascii():
        return len(text)
    return sum(_width_of(character) for character in text)


def _width_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int, end: str = "...") -> str:
    """Give the beginning of a text that takes no more than some columns of a terminal.

    Examples
    --------
    >>> cut("a long comment", 10)
    'a long ...'
    """
    if width_of(text) <= width:
        return text
    room, kept = max(0, width - len(end)), ""
    for character in text:
        room -= _width_of(character)
        if room < 0:
            break
        kept += character
    return kept + end[: max(0, width)]


def sentence(text: str) -> str:
    """Make a sentence of a phrase."""
    return f"{text[0].upper()}{text[1:]}."


def at_least_one(text: str) -> int:
    """Give the number of things that an option asks for.

    Raises
    ------
    argparse.ArgumentTypeError
        It is none, or less than 1.
    """
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on; {AFTER_MINUSES}")
    return number


def count(number: int, noun: str) -> str:
    """Give a number of things in words, as in ``2 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def folder_of(catalog: str) -> "Folder":
    """Give the folder of a catalog, which need not be there.

    Raises
    ------
    ConfigNotFound
        Nothing has that name.
    InvalidConfig
        Its configuration cannot be used.
    """
    from filebroker.ground.filesystem import Folder

    config = _config_of(catalog)
    return Folder(catalog) if config is None else Folder(config.url, config.options.get("storage_options"))


def open_catalog(catalog: str, *, read_only: bool = True) -> "Broker":
    """Open a catalog.

    Raises
    ------
    FilebrokerError
        As for `Broker.named`.
    """
    from filebroker.faces.broker import Broker
    from filebroker.faces.opening import opened

    config = _config_of(catalog)
    if config is None:
        return Broker(catalog, read_only=read_only)
    content = {**config.content, "read_only": True} if read_only else config.content
    return opened(replace(config, content=content))


def _config_of(catalog: str) -> "Config | None":
    """Give the configuration of a name; None for what is a path or a URL."""
    from filebroker.ground import config
    from filebroker.ground.errors import ConfigNotFound

    if "://" in catalog or os.path.sep in catalog:
        return None
    try:
        return config.find(catalog)
    except ConfigNotFound:
        if os.path.isdir(catalog):
            return None
        raise
