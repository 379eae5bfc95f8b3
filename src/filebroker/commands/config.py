"""The verb ``filebroker config``: which catalogs have a name, and to give them one."""

import argparse
import contextlib
import json
import keyword
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from filebroker.commands.output import add_formats, emit
from filebroker.commands.terminal import add_root_map, add_verb, count, say

if TYPE_CHECKING:
    from filebroker.ground.registration import Draft
    from filebroker.ground.settings import Config

_CONFIG = """\
examples:
  filebroker config list
  filebroker config add beamtime /data/beamtime-2026-11
  filebroker config remove beamtime

A catalog that has a name is opened by it: Broker.named('beamtime'), intake.cat.beamtime, "filebroker ls beamtime".
The name stands in a small file, one for each catalog, among those of Intake.  Files of others are never touched.
"""
_ADD = """\
examples:
  filebroker config add beamtime /data/beamtime-2026-11
  filebroker config add hall_a s3://bucket/hall_a --description "Hall A" \\
      --storage-option client_kwargs.endpoint_url=https://s3.lab.org --storage-option key=env:HALL_A_KEY \\
      --storage-option secret=env:HALL_A_SECRET
  filebroker config add lab6 /data/beamtime-2026-11 --search LaB6

Credentials are given by the name of an environment variable that holds them; "profile" of ~/.aws/credentials is
another way.  A directory that is not there yet may be named: the catalog begins with the first document.
"""
_LIST = """\
examples:
  filebroker config list
  filebroker config list --json | jq -r .url
"""
_WHERE = """\
The first directory that has a name wins.

examples:
  filebroker config where
"""
_REMOVE = """\
examples:
  filebroker config remove beamtime

The runs stay where they are.  Only a file that "filebroker config add" wrote is removed.
"""
#: Attributes of Intake's catalogs, which hide entries of the same name.
_HIDING = frozenset(
    {"auth", "cache", "cache_dirs", "cat", "classname", "close", "configure_new", "container", "describe"}
    | {"description", "discover", "dtype", "entry", "export", "filter", "force_reload", "from_dict", "get"}
    | {"get_persisted", "getenv", "getshell", "gui", "has_been_persisted", "hvplot", "is_persisted", "items", "keys"}
    | {"kwargs", "metadata", "name", "npartitions", "on_server", "partition_access", "persist", "plot", "plots"}
    | {"pmode", "pop", "read", "read_chunked", "read_partition", "reload", "save", "search", "serialize"}
    | {"set_cache_dir", "shape", "storage_options", "to_dask", "to_spark", "ttl", "updated", "user_parameters"}
    | {"values", "version", "walk", "yaml"}
)
#: Values that Python writes otherwise than JSON does.
_CONSTANTS = {"True": True, "False": False, "None": None}
#: Variables that tell Intake which environment it is in; without them it looks for conda, by means of distutils.
_ENVIRONMENTS = ("VIRTUAL_ENV", "CONDA_PREFIX")


def add_verbs(verbs: Any) -> None:
    """Add the verb to those of the command.

    Parameters
    ----------
    verbs
        What `argparse.ArgumentParser.add_subparsers` gives.
    """
    config = add_verb(verbs, "config", None, "list the catalogs that have a name, and give names", _CONFIG)
    config.set_defaults(verb=lambda _: config.print_help())
    deeds = config.add_subparsers(metavar="DEED", title="deeds")
    _add_add(deeds)
    listing = add_verb(deeds, "list", _list, "list the catalogs that have a name, and the files that say so", _LIST)
    remove = add_verb(deeds, "remove", _remove, "take a name away from a catalog", _REMOVE)
    remove.add_argument("name", metavar="NAME", help="a name that filebroker config add gave")
    where = add_verb(deeds, "where", _where, "list the directories that are looked through, in their order", _WHERE)
    for deed in (listing, where):
        add_formats(deed)


def _add_add(deeds: Any) -> None:
    add = add_verb(deeds, "add", _register, "give a name to a catalog", _ADD)
    add.add_argument("name", metavar="NAME", help="the name")
    add.add_argument("url", metavar="URL", help="a directory or a URL")
    add.add_argument("--description", metavar="TEXT", help="what the catalog is, for people")
    add.add_argument("--search", metavar="WORDS", help="only the runs that this finds, written as for ls")
    add_root_map(add)
    add.add_argument("--read-only", action="store_true", help="never write to the catalog under this name")
    add.add_argument(
        "--storage-option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the fsspec filesystem; KEY.KEY for a nested one, env:VARIABLE for a secret",
    )
    add.add_argument(
        "--environment", action="store_true", help="for everybody who uses this Python environment, not for you alone"
    )


def _option(text: str) -> tuple[tuple[str, ...], Any]:
    """Give the nested keys of an option, and its value."""
    name, separator, value = text.partition("=")
    path = tuple(name.split("."))
    if not separator or not all(path):
        raise argparse.ArgumentTypeError("an option is written as KEY=VALUE")  # what is given may be a secret
    return path, _meaning(value)


def _meaning(text: str) -> Any:
    """Give what the value of an option means: a variable's name, JSON, or itself."""
    if text.startswith("env:"):
        return {"env": text.removeprefix("env:")}
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _nested(options: Sequence[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """Make one mapping of options.

    Raises
    ------
    InvalidConfig
        One of them is given twice.
    """
    from filebroker.ground.errors import InvalidConfig

    made: dict[str, Any] = {}
    for path, value in options:
        place: Any = made
        for key in path[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or path[-1] in place:
            raise InvalidConfig(f"the storage option {'.'.join(path)} is given twice; leave one of them out")
        place[path[-1]] = value
    return made


# -- adding and removing


def _register(options: argparse.Namespace) -> None:
    from filebroker.ground import registration

    draft = registration.draft(
        options.name,
        options.url,
        description=options.description,
        storage_options=_nested(options.storage_option),
        read_only=options.read_only,
        search=None if options.search is None else _search(options.search),
        root_map=dict(options.root_map),
        environment=options.environment,
    )
    if draft.is_written():
        say(f"nothing to do: {draft.file} says so already", sys.stderr)
    else:
        draft.check_free()
        note = _look_into(draft)
        draft.write()
        if note is not None:
            say(note, sys.stderr)
    say(draft.file)
    _tell_what_to_try(draft.name)


def _look_into(draft: "Draft") -> str | None:
    """Say what keeps a catalog from being opened that may come to be one.

    Raises
    ------
    CatalogNotFound
        There is something else.
    """
    from filebroker.cataloging.catalog import Catalog
    from filebroker.ground.errors import CatalogNotFound, InvalidConfig, MissingPackage, StorageError

    url, options = draft.arguments["url"], draft.arguments.get("storage_options")
    try:
        Catalog(url, storage_options=options, read_only=True).close()
    except CatalogNotFound:
        if not _is_nothing(url, options):
            raise
        return f"there is nothing at {url} yet; the catalog begins with the first document that is recorded there"
    except (InvalidConfig, MissingPackage, StorageError) as error:
        return f"whether there is a catalog at {url} could not be seen: {error}"
    return None


def _is_nothing(url: str, options: dict[str, Any] | None) -> bool:
    """Tell whether a directory is missing or empty, but for hidden files."""
    from filebroker.ground.filesystem import Folder

    folder = Folder(url, options)
    if folder.local is not None and os.path.lexists(folder.local) and not os.path.isdir(folder.local):
        return False
    return all(name.startswith(".") for name in folder.names())


def _tell_what_to_try(name: str) -> None:
    """Print how the catalog is opened by its name, and what keeps Intake from that."""
    from filebroker.ground.intake_checks import obstacles

    is_attribute = name.isidentifier() and not keyword.iskeyword(name) and name not in _HIDING
    entry = f".{name}" if is_attribute and not name.startswith("_") else f"[{name!r}]"
    say(f"  Broker.named({name!r})\n  intake.cat{entry}\n  filebroker ls {shlex.quote(name)}")
    if (lack := _lack()) is not None:
        say(f"intake.cat cannot be used here: {lack}", sys.stderr)
    for obstacle in obstacles():
        say(f"intake.cat cannot be used until this is mended: {obstacle}", sys.stderr)


def _search(text: str) -> str | dict[str, Any]:
    """Give a search as it is written down: words, or keywords if there are conditions among them."""
    from filebroker.commands.words import keywords_of
    from filebroker.ground.errors import InvalidQuery

    try:
        keywords = keywords_of(shlex.split(text) if "=" in text else [text])
    except ValueError as error:
        raise InvalidQuery(f"the search {text!r:.200} cannot be read: {error}") from error
    return text if keywords.keys() <= {"text_search"} else keywords


def _lack() -> str | None:
    """Say what ``intake.cat`` misses here, and what to install."""
    if find_spec("intake") is None:
        return "Intake is not installed: pip install intake"
    is_old = version("intake").startswith("0.6.")
    if is_old and find_spec("msgpack") is None:
        return "Intake 0.6 takes msgpack and does not say so: pip install msgpack"
    is_activated = any(os.environ.get(variable) for variable in _ENVIRONMENTS)
    if find_spec("distutils") is None and (is_old or not is_activated):
        way = "" if is_old else ", or activate the environment"
        return f"Intake takes distutils, which this Python lacks: pip install setuptools{way}"
    return None


def _remove(options: argparse.Namespace) -> None:
    from filebroker.ground.registration import remove_config

    say(f"removed {remove_config(options.name)}; the runs stay where they are")


# -- listing


def _list(options: argparse.Namespace) -> None:
    from filebroker.ground import config
    from filebroker.ground.intake_checks import misspelt, obstacles
    from filebroker.ground.intake_files import catalog_places

    found, problems = config.survey()
    problems += catalog_places()[1] + misspelt()
    rows = [_row(found[name], problems) for name in sorted(found)]
    if options.json or options.csv:
        emit(rows, ("name", "url", "description", "file"), options)
    else:
        for row in rows:
            say(f"{row['name']:<20} {_line(row['url'])}")
            for key in ("description", "file"):
                if row[key]:
                    say(f"{'':<20} {_line(row[key])}")
    for problem in problems:
        say(problem, sys.stderr)
    if blocking := obstacles():
        say(f"intake.cat cannot be used until {count(len(blocking), 'thing')} is mended:", sys.stderr)
        for obstacle in blocking:
            say(f"  {obstacle}", sys.stderr)


def _row(config: "Config", problems: list[str]) -> dict[str, str | None]:
    """Give what is shown of a configuration; what is wrong with it is added to the problems."""
    from filebroker.ground.errors import InvalidConfig
    from filebroker.ground.secrets import refuse_credentials

    url: str | None
    try:
        url = config.url
        refuse_credentials(url)
        _ = config.options, config.searches, config.handlers, config.root_map  # what cannot be used is told now
    except InvalidConfig as error:
        url = None
        problems.append(f"{config.name}: {error}")
    description = None if config.description is None else str(config.description)
    return {"name": config.name, "url": url, "description": description, "file": config.file}


def _line(text: str | None) -> str:
    """Give a text on one line; a dash where there is none."""
    return "-" if text is None else text.replace("\n", "\\n").replace("\t", "\\t")


def _where(options: argparse.Namespace) -> None:
    from filebroker.ground import config
    from filebroker.ground.intake_files import catalog_places, catalog_search_path

    places, problems = catalog_places()
    own = config.search_path()
    written = dict(zip(catalog_search_path(), ("config add", "config add --environment"), strict=True))
    rows = [
        {"directory": place, "exists": os.path.exists(place), "written_by": written.get(place)}
        for place in dict.fromkeys([*own[:-1], *places, own[-1]])
    ]
    if options.json or options.csv:
        emit(rows, ("directory", "exists", "written_by"), options)
    else:
        for row in rows:
            writer = f"  ({row['written_by']})" if row["written_by"] else ""
            say(f"{'yes' if row['exists'] else 'no':<4} {row['directory']}{writer}")
    for problem in problems:
        say(problem, sys.stderr)
