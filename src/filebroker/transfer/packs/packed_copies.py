"""Copies of the files that were packed together with runs, from one catalog to another."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

from filebroker.cataloging import packed
from filebroker.ground.errors import DamagedRun, UnsupportedFormat
from filebroker.transfer.packs.depots import Source, Target, Written
from filebroker.transfer.packs.holdings import Holding, renumbered


class Lost(NamedTuple):
    """A packed file that could not be copied.

    Attributes
    ----------
    path : str
        Where it should be.
    reason : str
        Why it could not.
    """

    path: str
    reason: str


@dataclass
class PackedCopies:
    """What came of copying the packed files of a run.

    Attributes
    ----------
    files, bytes : int
        How many there are, and their size.
    lost : list of Lost
        Those that could not be had.
    conflict : str
        What is in the way of them; empty if nothing is.  Else nothing was copied.
    """

    files: int = 0
    bytes: int = 0
    lost: list[Lost] = field(default_factory=list)
    conflict: str = ""


def copy_packed(source: Source, directory: str, target: Target, place: str, *, dry_run: bool = False) -> PackedCopies:
    """Copy the files that were packed together with a run, and then the map of them.

    What is there already stays.  A file is only taken for there if it has the content that it shall have.

    Parameters
    ----------
    source, target
        The two catalogs.
    directory, place
        The run's directory in the source, and in the target.
    dry_run
        Write nothing.

    Raises
    ------
    StorageError
        A filesystem refused.
    """
    home = f"{directory}/{packed.DIRECTORY}"
    name = f"{home}/{packed.MAP}"
    try:
        text = source.read(name)
        found = packed.read_map(text, f"{source.label}/{name}")
    except FileNotFoundError:
        return PackedCopies()
    except (DamagedRun, UnsupportedFormat) as error:
        return PackedCopies(lost=[Lost(f"{source.label}/{name}", str(error))])
    if found.damage:  # it would not be known which of the files are whose
        return PackedCopies(lost=[Lost(f"{source.label}/{name}", found.damage[0])])
    try:
        holding = Holding(target, place)
    except UnsupportedFormat as error:
        return PackedCopies(conflict=str(error))
    return _bring(found, text, source, home, target, holding, dry_run=dry_run)


def _bring(
    found: packed.PackedMap, text: bytes, source: Source, home: str, target: Target, holding: Holding, *, dry_run: bool
) -> PackedCopies:
    numbers = holding.numbers(found.places, [file.path for file in found.files])
    wanted: dict[str, packed.PackedFile] = {}
    for file in found.files:
        path = renumbered(file.path, numbers)
        there = holding.file(path)
        if there is not None and there.sha256 != file.sha256:
            return PackedCopies(
                conflict=f"its packed file {holding.home}/{path} has another content in the target (SHA-256 "
                f"{there.sha256[:12]}... there, {file.sha256[:12]}... in {source.label}); nothing was changed"
            )
        wanted[file.path] = there or file._replace(path=path)
    copies = PackedCopies(len(found.files), sum(file.bytes for file in found.files))
    if dry_run:
        return copies
    for path, file in wanted.items():
        if holding.file(file.path) is None and not _is_there(target, holding, file):
            copies.lost += _copy(source, f"{home}/{path}", target, f"{holding.home}/{file.path}", file)
    places = {uid: renumbered(place, numbers) for uid, place in found.places.items()}
    holding.add(places, list(wanted.values()), text)
    return copies


def _is_there(target: Target, holding: Holding, file: packed.PackedFile) -> bool:
    """Tell whether a copy that no map tells of, as one that was cut short leaves it, is what it shall be."""
    if holding.present.get(file.path) != file.bytes:
        return False
    digest = hashlib.sha256()
    try:
        for piece in target.pieces(f"{holding.home}/{file.path}"):
            digest.update(piece)
    except FileNotFoundError:  # it was removed meanwhile
        return False
    return digest.hexdigest() == file.sha256


def _copy(source: Source, name: str, target: Target, place: str, file: packed.PackedFile) -> list[Lost]:
    try:
        target.write(place, source.pieces(name), Written(file.bytes, file.sha256))
    except FileNotFoundError:
        return [Lost(f"{source.label}/{name}", "there is no such file in the pack")]
    except DamagedRun as error:
        return [Lost(f"{source.label}/{name}", str(error))]
    return []
