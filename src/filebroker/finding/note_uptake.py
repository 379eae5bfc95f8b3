"""Taking in notes: which files of them are new or gone since the last look, and what is wrong with others."""

import contextlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from filebroker.finding.manifest import Manifest
from filebroker.finding.notes import MAX_BYTES, NoteFile, decode, is_note_file
from filebroker.ground.cautions import warn
from filebroker.ground.errors import NoteWarning, StorageError
from filebroker.ground.filesystem import Folder
from filebroker.storing.layout import NOTES

#: So often those in a store are listed: that takes a request for a thousand of them.
LISTING_SECONDS = 30.0
#: A directory changed more recently than this may change again without its time stamp changing.
_SETTLED_NS = 2_000_000_000
#: No more than one part in so many of the time goes into listing a large directory anew: one that takes longer than
#: this on a disk, or in a store.
_SHARE, _SHORT_SECONDS, _SHORT_REQUESTS = 10, 0.01, 1.0
#: A file younger than this may be one that is just being copied.
_TORN_AFTER_SECONDS = 5.0
#: So many files are read before they are put into the manifest.
_AT_ONCE = 500
_UNKNOWN = -1
#: The stamp of what is not there.
_NOWHERE = (-1, -1)

Stamp = tuple[int, int]


class NoteUptake:
    """The files of notes of a catalog, and which of them went into a manifest.

    Parameters
    ----------
    folder
        The catalog's folder.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._known: set[str] = set()
        # Which manifest those went into, how the directory was when it was listed, and when that may be done again.
        self._manifest: tuple[str, int] = "", 0
        self._seen: Stamp | None = None
        self._next = 0.0
        # Files that cannot be used, and what they were like.
        self._bad: dict[str, Stamp] = {}
        self._told: set[str] = set()
        self._to_tell: list[str] = []

    def forget(self) -> None:
        """Look anew the next time."""
        self._next, self._seen = 0.0, None

    def is_due(self, state: tuple[str, int]) -> bool:
        """Tell whether the files have to be listed.

        Parameters
        ----------
        state
            Identity of the manifest, and how often files were taken out of it.
        """
        if not self.is_of(state):
            return True
        if self._folder.remote is not None:
            return time.monotonic() >= self._next
        if self._bad and any(self._stamp(name) != stamp for name, stamp in self._bad.items()):
            return time.monotonic() >= self._next
        return self._folder.changed(NOTES) != self._seen and time.monotonic() >= self._next

    def is_of(self, state: tuple[str, int]) -> bool:
        """Tell whether it is known what went into a manifest."""
        return state == self._manifest

    def begin(self, state: tuple[str, int], known: Iterable[str]) -> None:
        """Begin anew, with another manifest.

        Parameters
        ----------
        state
            As for `is_due`.
        known
            The files that went into it whole.
        """
        self._manifest, self._known = state, set(known)
        self.forget()

    def find(self) -> tuple[list[str], dict[str, int]]:
        """List the files, and give those that are gone and those that are new.

        Raises
        ------
        StorageError
            They cannot be listed.
        """
        # What others add to these meanwhile may not be in the listing.
        before = frozenset(self._known)
        begun, changed = time.monotonic(), self._folder.changed(NOTES)
        sizes = self._sizes()
        self._bad = {name: stamp for name, stamp in self._bad.items() if name in sizes}
        fresh = {name: sizes[name] for name in sizes.keys() - before if self._is_worth_reading(name)}
        gone = list(before - sizes.keys())
        is_settled = time.time_ns() - max(changed) > _SETTLED_NS
        self._seen = changed if is_settled or changed == _NOWHERE else None
        took = time.monotonic() - begun
        least, short = (0.0, _SHORT_SECONDS) if self._folder.remote is None else (LISTING_SECONDS, _SHORT_REQUESTS)
        self._next = begun + max(least, _SHARE * took if took > short else 0.0)
        return gone, fresh

    def _sizes(self) -> dict[str, int]:
        """List the files; sizes are known of those in a store."""
        if self._folder.remote is not None:
            sizes = self._folder.remote.sizes(NOTES)
            return {name: size for name, size in sizes.items() if is_note_file(name)}
        try:
            names = self._folder.names(NOTES)
        except StorageError as error:  # what else there is can be given
            if NOTES not in self._told:
                self._told.add(NOTES)
                self._to_tell.append(f"{error}. Annotations may be missing, and runs in the trash be shown")
            return dict.fromkeys(self._known, _UNKNOWN)
        return {name: _UNKNOWN for name in names if is_note_file(name)}

    def _is_worth_reading(self, name: str) -> bool:
        return name not in self._bad or (self._folder.remote is None and self._stamp(name) != self._bad[name])

    def _stamp(self, name: str) -> Stamp:
        """Give what changes with a file."""
        try:
            status = os.lstat(self._folder.path(f"{NOTES}/{name}"))
        except OSError:
            return _NOWHERE
        return status.st_size, status.st_mtime_ns

    def read(self, fresh: dict[str, int]) -> Iterator[list[NoteFile]]:
        """Read files, some at a time.

        Parameters
        ----------
        fresh
            The files, with their sizes in bytes where these are known.

        Raises
        ------
        StorageError
            The store cannot be read.
        """
        left = iter(sorted(fresh))
        while chunk := list(islice(left, _AT_ONCE)):
            if self._folder.remote is not None:
                yield self._read_remote(chunk, fresh)
            else:
                yield [file for name in chunk if (file := self._read_local(name)) is not None]

    def _read_local(self, name: str) -> NoteFile | None:
        path, stamp = self._folder.path(f"{NOTES}/{name}"), self._stamp(name)
        try:
            data = _content(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return self._refuse(name, stamp, NoteFile(name, [], f"{name} cannot be read: {error}"))
        file = decode(name, data)
        return self._refuse(name, stamp, file) if file.damage else file

    def _read_remote(self, names: list[str], sizes: dict[str, int]) -> list[NoteFile]:
        wanted = [name for name in names if sizes[name] <= MAX_BYTES]
        store = self._folder.store
        answers = store.read_many([(f"{NOTES}/{name}", 0, MAX_BYTES + 1) for name in wanted]) if wanted else []
        result = [
            self._refuse(name, (sizes[name], 0), NoteFile(name, [], f"{name} has {sizes[name]:,} bytes"))
            for name in names
            if name not in wanted
        ]
        for name, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, FileNotFoundError):
                continue
            if isinstance(answer, Exception):
                raise answer
            file = decode(name, answer)
            if file.damage:  # a bit may have flipped on the way
                with contextlib.suppress(FileNotFoundError):
                    file = decode(name, store.read(f"{NOTES}/{name}"))
            result.append(self._refuse(name, (len(answer), 0), file) if file.damage else file)
        return result

    def _refuse(self, name: str, stamp: Stamp, file: NoteFile) -> NoteFile:
        """Note that a file cannot be used whole, and tell of it once, unless it may still be on its way."""
        is_young = 0 <= time.time_ns() - stamp[1] < _TORN_AFTER_SECONDS * 1e9
        if is_young and file.damage.endswith(("in the middle of a line", "is empty")):
            self._bad[name] = _NOWHERE  # looked at again
            return file
        self._bad[name] = stamp
        if name not in self._told:
            self._told.add(name)
            self._to_tell.append(
                f"a note in {self._folder.path(NOTES)} cannot be used: {file.damage}. Everything else is given; copy "
                "the file again from where it is good, or remove it"
            )
        return file

    def add(self, manifest: Manifest, file: NoteFile) -> None:
        """Put a file that was just written into a manifest, without listing the others."""
        if (manifest.identity(), manifest.removals()) == self._manifest:
            self.take_in(manifest, [], [file])

    def tell(self) -> None:
        """Warn of what cannot be used, each time of one file."""
        while self._to_tell:
            warn(self._to_tell.pop(0), NoteWarning)

    def take_in(self, manifest: Manifest, removed: list[str], files: Iterable[NoteFile]) -> None:
        """Put files into a manifest, and take out those that are gone.

        Parameters
        ----------
        manifest
            The manifest.
        removed, files
            What `find` and `read` gave.
        """
        files = list(files)
        with manifest.writing():
            if manifest.identity() != self._manifest[0]:
                return  # it was made anew meanwhile, and everything is looked at again
            if removed:
                manifest.remove_notes(removed)
                self._manifest = self._manifest[0], manifest.removals()
            manifest.add_notes(files)
        self._known.difference_update(removed)
        self._known.update(file.name for file in files if not file.damage)


def _content(path: str) -> bytes:
    """Read a small regular file, and nothing else that is called like one.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no regular file, or too large.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"it has {status.st_size:,} bytes")
    with open(os.open(path, flags), "rb") as file:
        return file.read(MAX_BYTES + 1)
