"""Copies of the external files of a run, beside the run."""

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from filebroker.assets.places import is_url
from filebroker.cataloging import packed
from filebroker.ground.errors import StorageError
from filebroker.transfer.packs.assets import AssetFile, MissingFile, RunAssets
from filebroker.transfer.packs.depots import Target, pieces_of
from filebroker.transfer.packs.holdings import Holding, number_of, renumbered


class Copies(NamedTuple):
    """What came of copying the external files of a run.

    Attributes
    ----------
    map : bytes
        The map of the copies; empty if there are none.
    missing : list of MissingFile
        The files that could not be read, and those in whose place another one was copied before.
    """

    map: bytes
    missing: list[MissingFile]


def copy_assets(
    assets: RunAssets, target: Target, directory: str, tell: Callable[[int], object] = lambda size: None
) -> Copies:
    """Copy the external files of a run below its directory, and after them the map that says which is whose.

    What is there already is not copied again.  What the map there says of a resource stays.

    Parameters
    ----------
    assets
        The files.
    target
        Where the catalog of the copies is.
    directory
        The run's directory there.
    tell
        Is called with the size of each file that was copied.

    Returns
    -------
    Copies
        The map, and the files that were there when they were listed, and could not be taken.

    Raises
    ------
    StorageError
        The target refused.
    """
    if not assets.files:
        return Copies(b"", [])
    copying = _Copying(assets, target, Holding(target, directory))
    for file in assets.files:
        if copying.is_wanted(file):
            copying.copy(file)
            tell(file.bytes)
    return copying.finish()


class _Unreadable(Exception):
    """A file cannot be read; that it cannot be written is another thing."""


class _Copying:
    """The external files of one run, on their way."""

    def __init__(self, assets: RunAssets, target: Target, holding: Holding) -> None:
        self._assets, self._target, self._holding = assets, target, holding
        self._digests: dict[str, str] = {}
        self._answers: dict[tuple[str, str], bool] = {}
        self._copied: list[packed.PackedFile] = []
        self._missing: list[MissingFile] = []
        self._numbers = holding.numbers(assets.places, [file.name for file in assets.files], self._agree)
        kept = self._kept()
        #: The directories of the listing that only have files of resources which keep what they have.
        self._superfluous = {number_of(place) for place in assets.places.values()} - {
            number_of(place) for uid, place in assets.places.items() if uid not in kept
        }

    def _kept(self) -> set[str]:
        """Give the resources that keep what was copied from elsewhere before, and note those that differ from that."""
        kept = set()
        for uid, place in self._assets.places.items():
            here, number = number_of(self._holding.map.places.get(uid, "")), number_of(place)
            if here and here != self._numbers[number]:
                kept.add(uid)
                if not self._agree(number, here):
                    path = next((file.path for file in self._assets.files if file.name.startswith(place)), "")
                    reason = "another file was packed in its place before, and stays; pack into a new directory"
                    self._missing.append(MissingFile(self._assets.run, uid, path, reason))
        return kept

    def _agree(self, number: str, here: str) -> bool:
        """Tell whether the files of a directory of the listing are none but those of a directory that is there."""
        if (number, here) not in self._answers:
            pairs = [
                (file, self._holding.file(renumbered(file.name, {number: here})))
                for file in self._assets.files
                if number_of(file.name) == number
            ]
            differ = any(before is not None and not self._is_copy(file, before) for file, before in pairs)
            self._answers[number, here] = not differ
        return self._answers[number, here]

    def _is_copy(self, file: AssetFile, before: packed.PackedFile) -> bool:
        """Tell whether a file is the one that was copied: from the same place, or with the same content."""
        own = f"{self._target.label}/{self._holding.home}/{before.path}"
        if file.path in (before.original, own if is_url(own) else os.path.abspath(own)):
            return True
        try:
            return before.bytes == file.bytes and self._digest(file.path) == before.sha256
        except _Unreadable:  # which is told when it is to be copied
            return True

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            digest = hashlib.sha256()
            for piece in _read(path):
                digest.update(piece)
            self._digests[path] = digest.hexdigest()
        return self._digests[path]

    def is_wanted(self, file: AssetFile) -> bool:
        """Tell whether a file has to be there."""
        return number_of(file.name) not in self._superfluous

    def copy(self, file: AssetFile) -> None:
        """Copy a file, unless it is there."""
        name = renumbered(file.name, self._numbers)
        before = self._holding.file(name)
        if before is not None and before.bytes == file.bytes:
            self._copied.append(before)
            return
        try:
            written = self._target.write(f"{self._holding.home}/{name}", _read(file.path))
            self._copied.append(packed.PackedFile(name, written.bytes, written.sha256, file.path))
        except _Unreadable as error:
            owner = next((uid for uid, place in self._assets.places.items() if file.name.startswith(place)), "")
            self._missing.append(MissingFile(self._assets.run, owner, file.path, str(error)))

    def finish(self) -> Copies:
        """Write the map."""
        places = {
            uid: renumbered(place, self._numbers)
            for uid, place in self._assets.places.items()
            if number_of(place) not in self._superfluous
        }
        return Copies(self._holding.add(places if self._copied else {}, self._copied), self._missing)


def _read(path: str) -> Iterator[bytes]:
    try:
        yield from pieces_of(path)
    except (FileNotFoundError, StorageError) as error:
        reason = "it was removed meanwhile" if isinstance(error, FileNotFoundError) else str(error)
        raise _Unreadable(reason) from error
