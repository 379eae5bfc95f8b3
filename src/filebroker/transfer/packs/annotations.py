"""What people said of runs: comments and tags travel with their runs, and what is in the trash stays there."""

import hashlib
from collections.abc import Callable, Iterator

from filebroker.finding.notes import MAX_BYTES, NOTE, Note, NoteFile, decode, in_order, is_note_file, mark_of
from filebroker.storing import layout
from filebroker.storing.journal import encode_line
from filebroker.transfer.packs.depots import Source


class Carrier:
    """Brings the annotations of runs to where the runs were brought.

    Parameters
    ----------
    present
        The names of the files of notes that are there already.
    write
        Is called with the name and the content of each file of notes that is not.
    """

    def __init__(self, present: Callable[[], dict[str, int]], write: Callable[[str, bytes], object]) -> None:
        self._present, self._write = present, write
        self._runs: dict[str, tuple[Source, set[str]]] = {}

    def add(self, source: Source, directory: str) -> None:
        """Note that a run was brought there.

        Parameters
        ----------
        source
            The catalog that it comes from.
        directory
            The run's directory.
        """
        self._runs.setdefault(source.label, (source, set()))[1].add(directory)

    def deliver(self) -> None:
        """Bring the annotations of all these runs.

        Raises
        ------
        StorageError
            A filesystem refused.
        """
        present: dict[str, int] | None = None
        for source, runs in self._runs.values():
            for name in sorted(filter(is_note_file, sizes := source.sizes(layout.NOTES))):
                if present is None:
                    present = self._present()
                if name in present or sizes[name] > MAX_BYTES:
                    continue
                for part, data in _files_about(source, name, runs):
                    if part not in present:
                        self._write(part, data)


def _files_about(source: Source, name: str, runs: set[str]) -> Iterator[tuple[str, bytes]]:
    """Give what a file of notes says of some runs: itself if it is about one of them, else a file for each run.

    Of several runs some may be copied now and others later, and nothing shall be said twice.
    """
    data = _read(source, name)
    file = decode(name, data)
    paths = {note.path for _, note in file.notes}
    if paths <= runs and len(paths) == 1 and not file.damage and all(note.kind == NOTE for _, note in file.notes):
        yield name, data
        return
    for path in sorted(paths & runs):
        chosen = [note.doc for _, note in file.notes if note.kind == NOTE and note.path == path]
        lines = b"".join(encode_line(number, NOTE, doc) for number, doc in enumerate(chosen))
        if lines:
            yield _renamed(file, lines), lines


def _read(source: Source, name: str) -> bytes:
    try:
        return source.read(f"{layout.NOTES}/{name}")
    except FileNotFoundError:  # another program is tidying up
        return b""


def discarded_in(source: Source) -> dict[str, str]:
    """Give the runs that are in the trash of a catalog: their uids, by their directories.

    Parameters
    ----------
    source
        The catalog.

    Raises
    ------
    StorageError
        It cannot be read.
    """
    said: dict[str, list[tuple[str, int, Note]]] = {}
    for name, size in source.sizes(layout.NOTES).items():
        if is_note_file(name) and size <= MAX_BYTES:
            for number, note in decode(name, _read(source, name)).notes:
                if note.kind != NOTE:
                    said.setdefault(note.path, []).append((name, number, note))
    marks = {directory: mark_of(in_order(notes)) for directory, notes in said.items()}
    return {directory: mark["uid"] for directory, mark in marks.items() if mark is not None}


def _renamed(file: NoteFile, data: bytes) -> str:
    """Give the name of a file that has a part of another one: the same each time."""
    stem = file.name.removesuffix(".jsonl").rpartition("-")[0]
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}.jsonl"
