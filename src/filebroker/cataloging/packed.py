"""The files that were packed together with a run: below its directory, with a map that says which is whose."""

import os
import re
from typing import NamedTuple

from filebroker.assets import remotes
from filebroker.assets.places import PackedPlace
from filebroker.ground.cautions import warn
from filebroker.ground.errors import AssetWarning, UnreadableAsset, UnsupportedFormat
from filebroker.ground.filesystem import Folder
from filebroker.ground.lazy import cached_property
from filebroker.storing import layout
from filebroker.storing.journal import HEAD, Line, read_lines

#: The directory of a run's packed files, and the map in it, which appears last.
DIRECTORY, MAP = "_files", "files.jsonl"
#: The names of the lines of a map.
RESOURCE, FILE = "resource", "file"
_PATH = re.compile(r"[0-9]{1,9}(/[^/\\\x00-\x1f]+)+/?")
_HASH = re.compile(r"[0-9a-f]{64}")


class PackedFile(NamedTuple):
    """One file that was packed.

    Attributes
    ----------
    path : str
        Its path in the directory of packed files.
    bytes : int
        Its size.
    sha256 : str
        The SHA-256 of its content, in hexadecimal.
    original : str
        Where it was before.
    """

    path: str
    bytes: int
    sha256: str
    original: str


class PackedMap(NamedTuple):
    """What a map says.

    Attributes
    ----------
    places : dict of str to str
        What is opened for each resource, by its uid: a path in the directory of packed files.
    files : list of PackedFile
        The files.
    damage : list of str
        What is wrong with the map.
    """

    places: dict[str, str]
    files: list[PackedFile]
    damage: list[str]


def read_map(text: bytes, source: str) -> PackedMap:
    """Read a map of packed files; what is no good line of one is damage, and is passed over.

    Parameters
    ----------
    text
        Its content.
    source
        Its path, for messages.

    Raises
    ------
    UnsupportedFormat
        It was written by a later version.
    """
    parsed = read_lines(text, source)
    found = PackedMap({}, [], list(parsed.damage))
    if parsed.torn:
        found.damage.append(f"{source} ends in the middle of a line")
    head = parsed.lines[0].doc if parsed.lines and parsed.lines[0].name == HEAD else None
    if head is None:
        found.damage.append(f"{source} has no readable head")
    elif type(head.get("format")) is not int or head["format"] != layout.FORMAT or head.get("requires"):
        raise UnsupportedFormat(
            f"{source} has format {head.get('format')} {head.get('requires') or ''}, and this version of filebroker "
            f"reads format {layout.FORMAT}; upgrade filebroker"
        )
    for line in parsed.lines[head is not None :]:
        try:
            _take(line, found)
        except (KeyError, TypeError, ValueError):
            found.damage.append(f"{source} has a line that makes no sense: {line.doc!r:.200}")
    if head is not None and head.get("files") not in (None, len(found.files)):
        found.damage.append(f"{source} has {len(found.files)} of {head['files']} files")
    return found


def _take(line: Line, found: PackedMap) -> None:
    doc = line.doc
    if line.name == RESOURCE:
        found.places[_text(doc["uid"])] = _checked(doc["path"])
    elif line.name == FILE:
        size, digest = doc["bytes"], doc["sha256"]
        if type(size) is not int or size < 0 or not _HASH.fullmatch(digest):
            raise ValueError("no size or no hash")
        found.files.append(PackedFile(_checked(doc["path"]), size, digest, _text(doc["original"])))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _checked(path: str) -> str:
    """Refuse a path that may lead out of the directory of packed files."""
    if not is_packed_path(path):
        raise ValueError(path)
    return path


def is_packed_path(path: str) -> bool:
    """Tell whether a path is one that a map may have: inside the directory of packed files, and nowhere else.

    Examples
    --------
    >>> is_packed_path("0/scan 1.h5"), is_packed_path("0/../../x"), is_packed_path("/etc/passwd")
    (True, False, False)
    """
    return _PATH.fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))


class PackedFiles:
    """The files that were packed together with one run.

    Nothing is read before it is asked for.

    Parameters
    ----------
    folder
        The catalog's folder.
    directory
        The run's directory in it.
    """

    def __init__(self, folder: Folder, directory: str) -> None:
        # What is staged of a run on its way to a store are its documents alone.
        self._folder = folder.alone()
        self._name = f"{directory}/{DIRECTORY}" if directory else DIRECTORY
        self._trusted: set[str] = set()

    def __repr__(self) -> str:
        return f"<PackedFiles {self._folder.path(self._name)!r}>"

    @cached_property
    def map(self) -> PackedMap:
        """What the map says; nothing if the run has none.

        Warns
        -----
        AssetWarning
            The map is damaged; what is good of it counts.
        """
        try:
            text = self._folder.read(f"{self._name}/{MAP}")
        except FileNotFoundError:
            return PackedMap({}, [], [])
        found = read_map(text, self._folder.path(f"{self._name}/{MAP}"))
        if found.damage:
            warn(f"{found.damage[0]}. The files that it does not tell of are looked for where they were", AssetWarning)
        return found

    def place(self, uid: str) -> PackedPlace | None:
        """Give where the files of a resource were packed.

        Parameters
        ----------
        uid
            Of a resource or stream_resource document.

        Returns
        -------
        PackedPlace or None
            None if they were not packed.

        Raises
        ------
        UnreadableAsset
            There is a link among them, which could lead anywhere.
        """
        path = self.map.places.get(uid)
        if path is None:
            return None
        number = path.partition("/")[0]
        root = self._folder.path(self._name)
        if self._folder.local is None:
            remotes.remember(root, self._folder.storage_options)
        elif number not in self._trusted:
            self._refuse_links(os.path.join(root, number))
            self._trusted.add(number)
        return PackedPlace(f"{root}/{path}", f"{root}/{number}")

    def _refuse_links(self, directory: str) -> None:
        found = [path for path in (os.path.dirname(directory), directory) if os.path.islink(path)]
        for parent, directories, names in os.walk(directory):
            found += [path for name in directories + names if os.path.islink(path := os.path.join(parent, name))]
        if found:
            raise UnreadableAsset(
                f"{found[0]} is a link, and packs have none: it is not followed. Put the file itself there"
            )
