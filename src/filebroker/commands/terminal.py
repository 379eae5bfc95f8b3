"""What the verbs of the command ``filebroker`` share: how catalogs are named there, and how text is printed."""

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from filebroker.faces.broker import Broker
    from filebroker.ground.filesystem import Folder
    from filebroker.ground.settings import Config

#: What a catalog can be given as.
CATALOG = "a name, a directory or a URL"


def say(text: object, file: TextIO | None = None) -> None:
    """Print what came out of documents, without the control characters that would steer a terminal."""
    file = file or sys.stdout
    clean = "".join(character for character in str(text) if character.isprintable() or character in "\n\t")
    encoding = file.encoding or "utf-8"
    print(clean.encode(encoding, errors="replace").decode(encoding), file=file)


def sentence(text: str) -> str:
    """Make a sentence of a phrase."""
    return f"{text[0].upper()}{text[1:]}."


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
