"""What a catalog has of the packed files of a run: more is added to it, and nothing that it has is forgotten."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from filebroker.cataloging import packed
from filebroker.storing import layout
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, encode_line
from filebroker.transfer.packs.depots import Target


class Holding:
    """The packed files that a catalog has of one run.

    Parameters
    ----------
    target
        Where the catalog is.
    directory
        The run's directory there.

    Attributes
    ----------
    home : str
        The directory of packed files.
    present : dict of str to int
        The sizes of all files in it, by their paths there.
    map : PackedMap
        What its map says; nothing if it has none.

    Raises
    ------
    UnsupportedFormat
        The map was written by a later version.
    StorageError
        It cannot be read.
    """

    def __init__(self, target: Target, directory: str) -> None:
        self._target = target
        self.home = f"{directory}/{packed.DIRECTORY}"
        self.present = target.sizes(self.home)
        self._text = target.read(f"{self.home}/{packed.MAP}") if packed.MAP in self.present else b""
        is_empty = not self._text
        self.map = packed.PackedMap({}, [], []) if is_empty else packed.read_map(self._text, self.home)
        self._files = {file.path: file for file in self.map.files}

    def file(self, path: str) -> packed.PackedFile | None:
        """Give what the map says of a file that is there, of the size that it says; else None."""
        file = self._files.get(path)
        return file if file is not None and self.present.get(path) == file.bytes else None

    def numbers(
        self,
        places: Mapping[str, str],
        paths: Iterable[str],
        agree: Callable[[str, str], bool] = lambda number, here: True,
    ) -> dict[str, str]:
        """Say which directory here takes the files of which directory of a listing.

        The files of one directory stay together, and with those that are here already; those of two never meet.

        Parameters
        ----------
        places
            What is opened for each resource, by its uid, as the listing has it.
        paths
            The paths of the files in the listing.
        agree
            Tells whether a directory of the listing has the same as one that is here, as far as both have it.

        Returns
        -------
        dict of str to str
            The number here for each number there.
        """
        found: dict[str, str] = {}
        met: set[str] = set()
        for uid, place in places.items():
            here = number_of(self.map.places.get(uid, ""))
            if here and here not in met and number_of(place) not in found and agree(number_of(place), here):
                found[number_of(place)] = here
                met.add(here)
        used = met | {number_of(path) for path in (*self.map.places.values(), *self._files)}
        free = map(str, itertools.count())
        for number in dict.fromkeys(map(number_of, (*places.values(), *paths))):
            if number not in found:
                found[number] = number if number not in used else next(other for other in free if other not in used)
                used.add(found[number])
        return found

    def add(self, places: Mapping[str, str], files: Sequence[packed.PackedFile], text: bytes = b"") -> bytes:
        """Write a map of what is here and what came.

        Parameters
        ----------
        places
            What is opened for each resource, by its uid.  What the map says of a resource stays.
        files
            The files that came.
        text
            The map that they came with, to be kept as it is where there was none.

        Returns
        -------
        bytes
            The map; empty if there are no files.
        """
        together = {**self._files, **{file.path: file for file in files}}
        added = {uid: place for uid, place in places.items() if uid not in self.map.places}
        if not together or (not added and list(together.values()) == self.map.files and not self.map.damage):
            return self._text
        if not text or self._text:
            text = map_of({**self.map.places, **added}, list(together.values()))
        self._target.write(f"{self.home}/{packed.MAP}", [text])
        return text


def number_of(path: str) -> str:
    """Give the first part of a path in the directory of packed files: one for each directory that files came from."""
    return path.partition("/")[0]


def renumbered(path: str, numbers: Mapping[str, str]) -> str:
    """Give a path in the directory that takes its file.

    Examples
    --------
    >>> renumbered("0/a/x.h5", {"0": "2"})
    '2/a/x.h5'
    """
    number, slash, rest = path.partition("/")
    return f"{numbers[number]}{slash}{rest}"


def map_of(places: Mapping[str, str], files: Sequence[packed.PackedFile]) -> bytes:
    """Write the map of a run's packed files.

    Parameters
    ----------
    places
        What is opened for each resource, by its uid.
    files
        The files.
    """
    head = {"format": layout.FORMAT, "files": len(files)}
    lines = [encode_line(HEAD_ORDINAL, HEAD, head)]
    for number, (uid, place) in enumerate(places.items()):
        lines.append(encode_line(number, packed.RESOURCE, {"uid": uid, "path": place}))
    for number, file in enumerate(files, len(places)):
        doc = {"path": file.path, "bytes": file.bytes, "sha256": file.sha256, "original": file.original}
        lines.append(encode_line(number, packed.FILE, doc))
    return b"".join(lines)
