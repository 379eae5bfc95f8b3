"""Registering catalogs: the small files that give a catalog its name, for filebroker and for Intake alike."""

import contextlib
import errno
import os
import shlex
import unicodedata
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from filebroker.ground import config as configs
from filebroker.ground.errors import ConfigNotFound, InvalidConfig, StorageError
from filebroker.ground.filesystem import make_directory, remove, sync_directory
from filebroker.ground.intake_checks import all_sources
from filebroker.ground.intake_files import (
    DRIVER,
    catalog_search_path,
    environment_prefix,
    sources_of,
)
from filebroker.ground.settings import searches
from filebroker.ground.vetting import absolute, check_description, check_name, plain
from filebroker.ground.yaml_files import files_in, read_mapping

#: What a filesystem answers that has no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK})


def add_config(
    name: str,
    url: str | os.PathLike[str],
    *,
    description: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    read_only: bool = False,
    search: str | Mapping[str, Any] | Sequence[Any] | None = None,
    root_map: Mapping[str, str] | None = None,
    environment: bool = False,
) -> str:
    """Give a catalog a name, under which `Broker.named`, `list_configs` and ``intake.cat`` know it.

    A file of that name is written into a directory of Intake's; no other file is touched.  Whether there is a catalog
    at the URL is not looked at.

    Parameters
    ----------
    name
        The name.
    url
        A local path, which is made absolute, or a URL.
    description
        What the catalog is, for people.
    storage_options
        Arguments of the fsspec filesystem.  Secrets are given by the name of an environment variable, as in
        ``{"secret": {"env": "MY_SECRET"}}``.
    read_only
        Never write to the catalog.
    search
        Only the runs that it finds: words, a mapping of keywords, or a list of these.
    root_map
        Where external files have moved: old places, and the new ones, of which local paths are made absolute.
    environment
        For everybody who uses this Python environment, not for you alone.

    Returns
    -------
    str
        The file.

    Raises
    ------
    InvalidConfig
        The name is taken or can be none, or a value cannot be written down: a secret, for example.
    StorageError
        The file cannot be written.

    Examples
    --------
    >>> from filebroker import describe_configs
    >>> file = add_config("beamtime", "runs", description="Beamtime of November 2026")
    >>> describe_configs()["beamtime"]
    'Beamtime of November 2026'
    >>> remove_config("beamtime") == file
    True
    """
    drafted = draft(
        name,
        url,
        description=description,
        storage_options=storage_options,
        read_only=read_only,
        search=search,
        root_map=root_map,
        environment=environment,
    )
    drafted.write()
    return drafted.file


def remove_config(name: str) -> str:
    """Take a name away from a catalog, whose runs stay.

    Parameters
    ----------
    name
        A name that was given by `add_config`.

    Returns
    -------
    str
        The file that was removed.

    Raises
    ------
    ConfigNotFound
        No catalog has the name.
    InvalidConfig
        The name stands in a file that `add_config` did not write; it is left alone.
    StorageError
        The file cannot be removed.

    Examples
    --------
    >>> file = add_config("beamtime", "runs")
    >>> remove_config("beamtime") == file
    True
    """
    file = next((file for file in _files_of(name) if _is_written(file, name)), None)
    if file is None:
        raise _irremovable(name)
    try:
        os.unlink(file)
    except FileNotFoundError:
        raise ConfigNotFound(f"{file} has just been removed by another process") from None
    except OSError as error:
        raise StorageError(error.errno, f"cannot remove {file}: {error.strerror}") from error
    return file


@dataclass(frozen=True)
class Draft:
    """A file that is to give a catalog its name.

    Attributes
    ----------
    name : str
        The name.
    arguments : dict
        The URL, and the options that were given.
    file : str
        Where the file belongs.
    text : str
        What it shall hold.
    """

    name: str
    arguments: dict[str, Any]
    file: str
    text: str

    def is_written(self) -> bool:
        """Tell whether the very same file is there already."""
        try:
            with open(self.file, "rb") as file:
                return file.read() == self.text.encode()
        except OSError:
            return False

    def check_free(self) -> None:
        """Look whether the name is free.

        Raises
        ------
        InvalidConfig
            It is not; the message names the file that has it.
        """
        other = _holder(self.name)
        if other is not None:
            raise InvalidConfig(f"the name {self.name!r} is taken: it stands in {other}. Choose another name")
        for file in files_in(os.path.dirname(self.file)):
            if _folded(os.path.splitext(os.path.basename(file))[0]) == _folded(self.name):
                raise InvalidConfig(
                    f"the name {self.name!r} is taken by the file {file}; not every filesystem tells them apart. "
                    "Choose another name"
                )

    def write(self) -> bool:
        """Write the file, and tell whether it was missing.

        Raises
        ------
        InvalidConfig
            The name is not free.
        StorageError
            The filesystem refused; nothing was written.
        """
        if self.is_written():
            return False
        self.check_free()
        directory = os.path.dirname(self.file)
        make_directory(directory)
        temporary = os.path.join(directory, f".{uuid.uuid4().hex}.tmp")  # which Intake does not take for a catalog
        try:
            with open(temporary, "xb") as file:
                file.write(self.text.encode())
                file.flush()
                os.fsync(file.fileno())
            _move_to_new(temporary, self.file)
            sync_directory(directory)
        except FileExistsError:
            if self.is_written():
                return False
            raise InvalidConfig(
                f"the name {self.name!r} is taken: another process has just written {self.file}"
            ) from None
        except OSError as error:
            raise StorageError(error.errno, f"cannot write {self.file}: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
                remove(temporary)
        return True


def draft(
    name: str,
    url: str | os.PathLike[str],
    *,
    description: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    read_only: bool = False,
    search: str | Mapping[str, Any] | Sequence[Any] | None = None,
    root_map: Mapping[str, str] | None = None,
    environment: bool = False,
) -> Draft:
    """Make the file of a catalog without writing it.

    Parameters are those of `add_config`.

    Raises
    ------
    InvalidConfig
        The name can be none, or a value cannot be written down.
    """
    import yaml

    check_name(name)
    if environment and environment_prefix() is None:
        raise InvalidConfig(
            f"no environment is activated, and so Intake takes {catalog_search_path()[1]} for its directory, which "
            "everybody on this machine shares; activate the environment first"
        )
    searches(search, "the search that is given")  # refuses what is none
    moved = {old: absolute(os.fspath(new)) for old, new in (root_map or {}).items()}
    given = {"storage_options": storage_options, "search": search, "root_map": moved, "read_only": bool(read_only)}
    arguments = {"url": absolute(os.fspath(url))} | {key: plain(value, key) for key, value in given.items() if value}
    source: dict[str, Any] = {"driver": DRIVER, "args": arguments}
    if description:
        check_description(description)
        source = {"description": description, **source}
    body = yaml.safe_dump({"sources": {name: source}}, allow_unicode=True, sort_keys=False)
    file = os.path.join(catalog_search_path()[int(environment)], f"{name}.yml")
    return Draft(name, arguments, file, f"{_head(name)}\n{body}")


# -- names and files


def _head(name: str) -> str:
    """Give the first line, by which a file is known that may be removed."""
    return f'# Written by "filebroker config add"; "filebroker config remove {shlex.quote(name)}" removes it.'


def _folded(name: str) -> str:
    """Give what two names have in common that a filesystem may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _holder(name: str) -> str | None:
    """Give the file, or the package, that has a name."""
    with contextlib.suppress(ConfigNotFound):
        return configs.find(name).file
    for source in all_sources():
        if source.name == name:
            return source.file
    for entry in entry_points(group="intake.catalogs"):
        if entry.name == name:  # which Intake would give in place of ours
            return f"the entry point {entry.value} of an installed package"
    return None


def _move_to_new(temporary: str, file: str) -> None:
    """Give a file its name if no file has it.

    Raises
    ------
    FileExistsError
        There is one.
    """
    try:
        os.link(temporary, file)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links there is no way that is safe against others as well as against a crash; the latter counts more.
        if os.path.lexists(file):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), file) from None
        os.rename(temporary, file)


# -- removing


def _files_of(name: str) -> Iterator[str]:
    """Give the files in Intake's directories that have a catalog's name."""
    for directory in catalog_search_path():
        for file in files_in(directory):
            stem, ending = os.path.splitext(os.path.basename(file))
            if ending == ".yml" and unicodedata.normalize("NFC", stem) == unicodedata.normalize("NFC", name):
                yield file


def _is_written(file: str, name: str) -> bool:
    """Tell whether a file is one that `add_config` wrote: its first line, and a single source of ours."""
    try:
        with open(file, "rb") as opened:
            head = opened.readline()
        content = read_mapping(file)
    except (OSError, InvalidConfig):
        return False
    is_ours = [(source.name, source.driver) for source in sources_of(content, file)] == [(name, DRIVER)]
    return is_ours and len(content["sources"]) == 1 and head.rstrip() == _head(name).encode()


def _irremovable(name: str) -> InvalidConfig | ConfigNotFound:
    """Say why a name is not taken away."""
    holder = next(_files_of(name), None) or _holder(name)
    if holder is None:
        return ConfigNotFound(f"no catalog is named {name!r}, so there is nothing to remove")
    if configs.is_shipped(holder):
        return InvalidConfig(f"{name!r} comes with filebroker, in {holder}; it stays")
    return InvalidConfig(
        f"{name!r} stands in {holder}, which 'filebroker config add' did not write, or somebody changed. It is left "
        f"alone: remove it, or what it says of {name!r}, by hand"
    )
