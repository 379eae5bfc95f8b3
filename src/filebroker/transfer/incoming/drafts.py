"""A run that is being imported: recorded aside, and sealed without waiting for the disk at every document."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from typing import Any

from filebroker.ground import codec, filesystem
from filebroker.ground.documents import modernise, unpack_event_page
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout, repeats, sealing
from filebroker.storing.buffer import NOTHING_FILLED
from filebroker.storing.columns import ABSENT
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, encode_line, read_lines
from filebroker.storing.recorder import Recorder
from filebroker.storing.run_files import RunFiles
from filebroker.storing.sealing import Manifest
from filebroker.transfer.incoming.comparison import digest

#: So many sentences about lost documents are kept with a run.
_MOST_DAMAGE = 20
#: The keys of an event page that has no others, in the order in which its events have them.
_PAGE_KEYS = ("descriptor", "uid", "time", "seq_num", "data", "timestamps", "filled")
_PAGE_KEY_SET = frozenset(_PAGE_KEYS)
#: Disks bring so many files down in little more time than one.
_SYNCED_AT_ONCE = 8


class Draft(Recorder):
    """Records the documents of a run in a directory that nobody else uses.

    Parameters
    ----------
    aside
        Local path of that directory.
    start
        The run's start document.

    Attributes
    ----------
    documents : int
        How many documents it has.

    Raises
    ------
    InvalidDocument
        The start document cannot be kept.
    StorageError
        The filesystem refused.
    """

    def __init__(self, aside: str, start: Mapping[str, Any]) -> None:
        super().__init__(aside, start, sync="never")
        self._aside = aside
        self._is_finished = False

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        """Record a document, those of old forms as what took their place; see `Recorder.insert`."""
        for part_name, part in modernise(name, doc):
            self.insert(part_name, part)

    @property
    def documents(self) -> int:
        """How many documents were recorded."""
        return self._count

    @property
    def is_complete(self) -> bool:
        """Whether its stop document has come."""
        return self._has_stop

    def seal(self) -> None:
        """Nothing: what is still to be said of it comes with `finish`."""

    def _insert_event_page(self, page: Mapping[str, Any]) -> None:
        if not self._insert_simple_page(page):
            super()._insert_event_page(page)

    def _insert_simple_page(self, page: Mapping[str, Any]) -> bool:
        """Record an event page as nearly all are, column by column; False, and nothing done, if this one is not."""
        try:
            declared = self._streams.declared[page["descriptor"]]
            data, stamps, seq_nums = page["data"], page["timestamps"], page["seq_num"]
            columns = [page["uid"], page["time"], seq_nums, *data.values(), *stamps.values()]
            if page.keys() != _PAGE_KEY_SET or page["filled"] != {} or data.keys() != declared.required:
                return False
        except (KeyError, TypeError, AttributeError):
            return False
        if {*map(type, columns)} != {list} or {*map(len, columns)} != {len(seq_nums)} or not seq_nums:
            return False
        if not codec.SIMPLE_TYPES.issuperset(map(type, chain.from_iterable(columns))):
            return False
        if (
            {*map(type, page["uid"])} != {str}
            or {*map(type, page["time"])} != {float}
            or {*map(type, seq_nums)} != {int}
        ):
            return False
        key, mark = ("event_page", repr(page["uid"])), digest(page)  # the key is that of `identity`
        if not self._is_repeated(key, mark, page):
            self._append(encode_line(self._count, "event_page", page))
            self._digests[key] = mark
            batch = self._segment.buffer(declared.stream).batch(tuple(data), tuple(stamps), _PAGE_KEYS)
            same = (self._count - 1, True, page["descriptor"])
            fields = (*map(repeat, same), *columns[:3], repeat(NOTHING_FILLED), repeat(ABSENT), *columns[3:])
            batch.values.extend(chain.from_iterable(zip(*fields, strict=False)))
            self._latest = None
            self._remember_page(page, self._sequences[declared.stream.name])
        return True

    @staticmethod
    def _remember_page(page: Mapping[str, Any], sequence: repeats.Sequence) -> None:
        if sequence.digests is None:
            sequence.last = max(sequence.last, *page["seq_num"])
            return
        for event in unpack_event_page(page):
            sequence.remember(event)

    def finish(self, damage: Sequence[str]) -> None:
        """Seal the run, with or without a stop document.

        Parameters
        ----------
        damage
            Sentences about documents that could not be taken.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        self.stopped, self._is_finished = True, True
        shown = list(damage[:_MOST_DAMAGE])
        if len(damage) > _MOST_DAMAGE:
            shown.append(f"{len(damage) - _MOST_DAMAGE} more documents could not be taken")
        try:
            self._close_journal()
            self._finish_commit()
            manifest = Manifest("sealed" if self._has_stop else "interrupted", self._count, shown)
            sealing.seal_run(self.directory, manifest, self._streams, self._segment, sync=False)
            self._lock.remove()
        finally:
            self._lock.release()
            self._shut_down()

    @property
    def files(self) -> RunFiles:
        """The run as it can be read."""
        return RunFiles(Folder(self._aside), self.name)

    def discard(self) -> None:
        """Remove the run."""
        if not self._is_finished:
            self.close()
            self._lock.release()
        remove_tree(self.directory)


def remove_tree(path: str) -> None:
    """Remove a local directory and all that is in it; what is not there need not be removed."""
    shutil.rmtree(path, ignore_errors=True)


def make_lasting(directories: Iterable[str]) -> None:
    """Make sealed runs survive a power cut.

    Parameters
    ----------
    directories
        Local paths of their directories.

    Raises
    ------
    OSError
        The filesystem refused.
    """
    found = [(parent, names) for directory in directories for parent, _, names in os.walk(directory)]
    with ThreadPoolExecutor(_SYNCED_AT_ONCE, thread_name_prefix="filebroker-sync") as threads:
        for _ in threads.map(_sync_file, (os.path.join(parent, name) for parent, names in found for name in names)):
            pass
        for _ in threads.map(filesystem.sync_directory, (parent for parent, _ in found)):
            pass


def move_over(draft: str, place: str) -> None:
    """Put a sealed run in the place of one that lacks some of its documents.

    Its pages come beside those that are there, and ``documents.jsonl`` takes the place of the other at once: who reads
    the run finds the one or the other.

    Parameters
    ----------
    draft, place
        Local paths on one filesystem.

    Raises
    ------
    StorageError, OSError
        The filesystem refused; the run is as it was.
    """
    with open(os.path.join(draft, layout.DOCUMENTS), "rb") as file:
        text = file.read()
    head = read_lines(text[: text.index(b"\n") + 1], layout.DOCUMENTS).lines[0].doc
    first = 1 + max((_page_number(path) for path in _files_below(place)), default=-1)
    for entry in head["files"]:
        directory, _, name = entry["path"].partition("/")
        new = layout.page_path(directory, first + _page_number(name))
        filesystem.make_directory(os.path.join(place, directory))
        _sync_file(os.path.join(draft, entry["path"]))
        os.replace(os.path.join(draft, entry["path"]), os.path.join(place, new))
        filesystem.sync_directory(os.path.join(place, directory))
        entry["path"] = new
    data = encode_line(HEAD_ORDINAL, HEAD, head) + text[text.index(b"\n") + 1 :]
    filesystem.publish(os.path.join(place, layout.DOCUMENTS), data, sync=True)
    sealing.remove_leftovers(place, head["files"])


def _files_below(directory: str) -> Iterator[str]:
    for parent, _, names in os.walk(directory):
        yield from (os.path.join(parent, name) for name in names)


def _page_number(path: str) -> int:
    number = os.path.basename(path).partition(".")[0]
    return int(number) if number.isdecimal() and path.endswith(".parquet") else -1


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
