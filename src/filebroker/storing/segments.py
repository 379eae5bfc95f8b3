"""The segments of a live run: files of lines that grow, of which only what was added is read again."""

from typing import NamedTuple

from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.storing.journal import Lines, read_lines


class _Parsed(NamedTuple):
    """What was parsed of a segment.

    Attributes
    ----------
    size : int
        How many bytes the whole lines have.
    read : int
        How many bytes the file had.
    lines : Lines
        The lines.
    last : bytes
        The bytes of the last one.
    """

    size: int
    read: int
    lines: Lines
    last: bytes


_NOTHING = _Parsed(0, 0, Lines([], [], torn=False), b"")


class Segments:
    """The segments of a live run.

    Parameters
    ----------
    folder
        The catalog's folder.
    directory
        The run's directory in it.
    before
        The same as they were read before.

    Attributes
    ----------
    size : int
        How many bytes were parsed.
    """

    def __init__(self, folder: Folder, directory: str, before: "Segments | None" = None) -> None:
        self._folder, self._directory = folder, directory
        self._before: dict[str, _Parsed] = {} if before is None else before._parsed
        self._parsed: dict[str, _Parsed] = {}
        # Of a store: the sizes that were listed, and what was fetched.
        self._sizes: dict[str, int] = {}
        self._texts: dict[str, bytes] = {}
        self.size = 0

    @property
    def _is_elsewhere(self) -> bool:
        return self._folder.on_disk(self._directory) is None

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}" if self._directory else name

    def is_sealed(self) -> bool:
        """Tell whether the run of a store is sealed, which is listed with its segments; of others it is not known."""
        if not self._is_elsewhere:
            return True
        self._sizes = self._folder.sizes(self._directory)
        return layout.DOCUMENTS in self._sizes

    def names(self) -> list[str]:
        """Give the names of the segments' files."""
        self.size, self._texts = 0, {}
        if not self._is_elsewhere:
            return self._folder.names(self._directory)
        self._fetch([name for name in self._sizes if layout.segment_of(name)])
        return sorted(self._sizes)

    def _fetch(self, names: list[str]) -> None:
        """Fetch what was added to segments in a store, all at once."""
        remote = self._folder.remote
        news = {name: self._begin(name) for name in names if self._sizes[name] != self._known(name).read}
        if remote is not None and news:
            answers = remote.read_many([(self._path(name), start, None) for name, start in news.items()])
            self._texts = {name: text for name, text in zip(news, answers, strict=True) if isinstance(text, bytes)}

    def _known(self, name: str) -> _Parsed:
        return self._before.get(name, _NOTHING)

    def _begin(self, name: str) -> int:
        """Give the byte to read a segment from: its last line is compared."""
        known = self._known(name)
        return known.size - len(known.last)

    def parse(self, name: str) -> Lines:
        """Give the lines of a segment.

        Raises
        ------
        FileNotFoundError
            It was replaced meanwhile.
        StorageError
            It cannot be read.
        """
        known = self._known(name)
        if self._is_elsewhere and known.read == self._sizes.get(name, -1):
            self._parsed[name] = known
            self.size += known.read
            return known.lines
        text = self._texts.pop(name, None)
        if text is None:
            text = self._folder.read(self._path(name), self._begin(name))
        if not text.startswith(known.last):  # its writer took something back, or it is another file
            known = _NOTHING
            text = self._folder.read(self._path(name))
        fresh = text[len(known.last) :]
        lines = known.lines.then(read_lines(fresh, name, after=known.lines.count))
        whole = text[: text.rfind(b"\n") + 1]
        last = whole[whole.rfind(b"\n", 0, -1) + 1 :]
        begin = known.size - len(known.last)
        self._parsed[name] = _Parsed(begin + len(whole), begin + len(text), lines, last)
        self.size += known.size + len(fresh)
        return lines

    def settle(self) -> None:
        """Take what was read for what was read before."""
        self._before = self._parsed

    def is_superseded(self) -> bool:
        """Tell whether the run was sealed while its segments were read."""
        if not self._is_elsewhere:
            return self._folder.exists(self._path(layout.DOCUMENTS))
        # What was listed just now, and has not grown, is as it was.
        is_same = all(self._known(name).read == size for name, size in self._sizes.items() if layout.segment_of(name))
        return not is_same and layout.DOCUMENTS in self._folder.sizes(self._directory)
