"""Mending the external files that were packed with a run: from another copy, because nothing else has them."""

from collections.abc import Mapping, Sequence

from filebroker.cataloging import packed
from filebroker.ground.errors import StorageError, UnsupportedFormat
from filebroker.transfer.care.replacements import Replacement
from filebroker.transfer.care.trees import NO_FILE, Tree

_MAP = f"{packed.DIRECTORY}/{packed.MAP}"


def is_packed(name: str) -> bool:
    """Tell whether a file of a run is one that was packed with it, or their map."""
    return name.startswith(f"{packed.DIRECTORY}/")


def mend_packed(
    tree: Tree, path: str, names: Sequence[str], source: Tree | None, replacement: Replacement | None
) -> list[str]:
    """Take damaged packed files from another copy of the catalog.

    Parameters
    ----------
    tree
        The files of the catalog.
    path
        The run's directory.
    names
        What is damaged, relative to that.
    source
        The files of the other copy, None if there is none.
    replacement
        Puts files in the place of others; None to change nothing.

    Returns
    -------
    list of str
        What could not be mended.
    """
    text, left = _good_map(tree, path), []
    if text is None and source is not None:
        text = _good_map(source, path)
        if text is not None and replacement is not None:
            replacement.put_below(_MAP, [text])
    if text is None:
        return list(names)
    files = {f"{packed.DIRECTORY}/{file.path}": file for file in packed.read_map(text, _MAP).files}
    there = _Listed(source)
    for name in names:
        if name == _MAP:
            continue
        file, place = files.get(name), f"{path}/{name}"
        if source is None or file is None or not there.has(place, file.bytes, file.sha256):
            left.append(name)
        elif replacement is not None:
            replacement.put_below(name, source.pieces(place, file.bytes))
    return left


class _Listed:
    """The files of a copy, each directory of which is listed once."""

    def __init__(self, tree: Tree | None) -> None:
        self._tree, self._sizes = tree, dict[str, Mapping[str, int]]()

    def has(self, name: str, size: int, sha256: str) -> bool:
        """Tell whether there is a file of this length and SHA-256."""
        directory, _, file = name.rpartition("/")
        if self._tree is None:
            return False
        try:
            if directory not in self._sizes:
                self._sizes[directory] = self._tree.sizes(directory)
            return self._sizes[directory].get(file) == size and self._tree.digest(name, size) == sha256
        except (FileNotFoundError, StorageError):  # then it is as if there were none
            return False


def _good_map(tree: Tree, path: str) -> bytes | None:
    """Give a map of packed files that is whole."""
    text = content(tree, f"{path}/{_MAP}")
    try:
        is_good = text is not None and not packed.read_map(text, _MAP).damage
    except UnsupportedFormat:
        is_good = False
    return text if is_good else None


def content(tree: Tree, name: str) -> bytes | None:
    """Give what is in a file, None if there is none that can be read.

    Parameters
    ----------
    tree
        The catalog.
    name
        The file.
    """
    directory, _, file = name.rpartition("/")
    try:
        return None if tree.sizes(directory).get(file, NO_FILE) == NO_FILE else tree.read(name)
    except (FileNotFoundError, StorageError):  # then it is as if there were none
        return None
