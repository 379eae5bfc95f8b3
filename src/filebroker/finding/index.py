"""The index of words and values, on the user's own disk: which runs may answer a search.

The index is a list of immutable *parts*, each a directory with the terms of some thousand runs::

    index.json              the seal: the parts in force, with size, time and checksum of their files
    parts/1-8192-5f0c1d2e/  terms.trm, terms.pst (Whoosh), rows.npy (the row of each document)
    lock                    held while something is written
    suspect                 left by a reader that found the index unusable

A part is written where nobody looks, forced to the disk, and then named by a new seal, which replaces the
old one at once.  So a process killed at any moment leaves the old seal or the new one, and what no seal
names is removed by the next who holds the lock.  Nothing is unpickled before its files agree with the seal.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from filebroker.finding.batches import Proceed, Source, Stopped, due_for_merging, gather, while_allowed
from filebroker.finding.candidates import Candidates
from filebroker.finding.parts import DamagedIndex, Part, clear, format_seal, parse_seal, seal_file, verify
from filebroker.finding.postings import (
    Numbers,
    Reader,
    TermPostings,
    documents_of,
    merged_terms,
    whoosh_codec,
    write_terms,
)
from filebroker.ground.filesystem import is_temporary, make_directory, publish, sync_directory
from filebroker.ground.locks import FileLock

_TRIES = 5


class Found(NamedTuple):
    """What the index answers.

    Attributes
    ----------
    rows : collection of int
        The rows asked for, ascending.
    upto : int
        Every row up to this one was considered, and none beyond.
    """

    rows: Collection[int]
    upto: int


class Index:
    """The index in a directory of its own on a local disk.

    Nothing is made or read before it is needed.  One object may be used by several threads, and by a forked
    child.

    Parameters
    ----------
    directory
        Where it is kept, best with nothing else: ``index.json``, ``lock``, ``parts``, ``suspect`` and what ends in
        ``.tmp`` there is taken for its own.

    Examples
    --------
    >>> import tempfile
    >>> from filebroker.finding.batches import Entry
    >>> from filebroker.finding.candidates import AllOf, NoneOf, Term
    >>> index = Index(tempfile.mkdtemp())
    >>> entries = [Entry(1, ["good", "sample"], {"plan=scan"}), Entry(2, ["bad", "sample"], {"plan=count"})]
    >>> index.update(lambda after, limit: [entry for entry in entries if entry.row > after], proceed=lambda: True)
    2
    >>> index.find(AllOf((Term("word", "sample"), NoneOf(Term("value", "plan=scan")))))
    Found(rows=[2], upto=2)
    >>> index.close()
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seal_path = os.path.join(directory, "index.json")
        self._note_path = os.path.join(directory, "suspect")
        self._parts_path = os.path.join(directory, "parts")
        self._problem: str | None = None
        self._readers: dict[str, Reader] = {}
        self._forsaken: list[dict[str, Reader]] = []
        self._process = os.getpid()
        self._guard = threading.Lock()

    @property
    def problem(self) -> str | None:
        """What was found wrong with the index, for people; None if it was in order when last used."""
        return self._problem

    def covered(self) -> int:
        """Give the row up to which runs are in the index, 0 if there is none or it cannot be used."""
        try:
            whoosh_codec()
            parts = parse_seal(self._read_seal())
            for part in parts:
                verify(self._folder(part), part.files, {})
        except (ImportError, OSError, DamagedIndex) as error:
            self._report(error)
            return 0
        return parts[-1].last if parts else 0

    def find(self, wanted: Candidates) -> Found | None:
        """Give the rows that are asked for.

        Parameters
        ----------
        wanted
            The terms they have.

        Returns
        -------
        Found or None
            None if there is no index or it cannot be used now, see `problem`.  What the index does not hold
            has to be looked through in either case.
        """
        for _ in range(_TRIES):
            seal = b""
            try:
                seal = self._read_seal()
                return self._search(parse_seal(seal), wanted) if seal else None
            except Exception as error:  # noqa: BLE001 - damaged files can make the codec raise anything
                if not self._is_sealed_by(seal):
                    continue  # an update has removed the parts that were to be read
                self._suspect(error)
                return None
        return None

    def update(self, source: Source, *, proceed: Proceed, progress: Callable[[int], object] | None = None) -> int:
        """Add what is not in the index yet, and repair it where needed.

        Parameters
        ----------
        source
            Gives the entries to add, see `Source`.
        proceed
            Whether to go on, see `Proceed`.
        progress
            Told after each commit how many rows were added.

        Returns
        -------
        int
            How many rows were added.  0 at once if another process is at it.  When a file can not be read or
            written, it ends early, see `problem`.

        Raises
        ------
        ValueError
            The entries do not come in the order of their rows.
        """
        added = 0
        lock = FileLock(os.path.join(self._directory, "lock"))
        try:
            whoosh_codec()
            make_directory(self._directory)
            if not lock.acquire():
                return 0
            for count in self._batches(source, proceed):
                added += count
                if progress is not None:
                    progress(added)
        except (ImportError, OSError, DamagedIndex) as error:
            self._suspect(error)
        finally:
            lock.release()
        return added

    def discard(self) -> None:
        """Remove everything unless another process is writing; the next update builds the index anew."""
        self.close()
        if not os.path.lexists(self._directory):
            return
        lock = FileLock(os.path.join(self._directory, "lock"))
        try:
            if lock.acquire():
                for path in (self._seal_path, self._note_path, self._parts_path):
                    clear(path)
        except OSError as error:
            self._report(error)
        finally:
            lock.release()

    def close(self) -> None:
        """Close the files.  The index can still be used, and opens them again."""
        with self._guarded():
            self._keep_readers([])

    # Reading

    def _search(self, parts: Sequence[Part], wanted: Candidates) -> Found:
        rows: list[int] = []
        with self._guarded():
            try:
                for reader in self._keep_readers(parts):
                    rows += reader.rows[documents_of(reader, wanted)].tolist()
            except BaseException:
                self._keep_readers([])
                raise
        self._problem = None
        return Found(rows, parts[-1].last if parts else 0)

    def _keep_readers(self, parts: Sequence[Part]) -> list[Reader]:
        """Have these parts open and no others, each verified as it is now."""
        names = {part.name for part in parts}
        for name in [name for name in self._readers if name not in names]:
            self._readers.pop(name).close()
        for part in parts:
            if part.name in self._readers:
                self._readers[part.name].verify()
            else:
                self._readers[part.name] = Reader(self._folder(part), part)
        return [self._readers[part.name] for part in parts]

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let in one thread at a time: the codec's readers share their place in a file."""
        if self._process != os.getpid():
            # A forked child shares that place with its parent, and may have inherited a guard that is held.
            # What it inherited is kept and never touched, for closing could wait for a thread it has not.
            self._forsaken.append(self._readers)
            self._readers = {}
            self._guard = threading.Lock()
            self._process = os.getpid()
        with self._guard:
            yield

    def _folder(self, part: Part) -> str:
        return os.path.join(self._parts_path, part.name)

    def _read_seal(self) -> bytes:
        """Read the seal; nothing if there is no index yet."""
        try:
            with open(self._seal_path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _is_sealed_by(self, seal: bytes) -> bool:
        try:
            return self._read_seal() == seal
        except OSError:
            return True

    def _report(self, error: Exception) -> None:
        known = isinstance(error, OSError | ImportError | DamagedIndex)
        self._problem = str(error) if known else f"the index in {self._directory} cannot be read: {error!r}"

    def _suspect(self, error: Exception) -> None:
        """Remember a problem, and have the next who holds the lock look at every byte."""
        self._report(error)
        if isinstance(error, ImportError):
            return
        with contextlib.suppress(OSError):  # who may only read leaves no note
            open(self._note_path, "xb").close()

    # Writing, all of it by the holder of the lock

    def _batches(self, source: Source, proceed: Proceed) -> Iterator[int]:
        """Commit part after part, and give the number of rows in each."""
        parts = self._sound_parts()
        self._sweep(parts)
        try:
            while True:
                while span := due_for_merging([part.size for part in parts]):
                    merged = self._merge(parts[slice(*span)], proceed)
                    parts = self._commit([*parts[: span[0]], merged, *parts[span[1] :]])
                batch = gather(source, parts[-1].last if parts else 0, proceed, sum(part.size for part in parts))
                if not batch.rows:
                    break
                part = self._write(batch.terms(), np.array(batch.rows, np.int64), proceed)
                parts = self._commit([*parts, part])
                yield part.size
        except Stopped:
            pass  # the caller has what was committed, and the rest is swept up
        self._sweep(parts)

    def _sound_parts(self) -> list[Part]:
        """Give the parts before the first damaged one; those after it are left out of the index."""
        thorough = os.path.lexists(self._note_path)
        sound: list[Part] = []
        parts: list[Part] = []
        try:
            parts = parse_seal(self._read_seal())
            for part in parts:
                verify(self._folder(part), part.files, {}, thorough=thorough)
                sound.append(part)
        except (OSError, DamagedIndex) as error:
            self._report(error)
        if len(sound) < len(parts):
            self._commit(sound)
        clear(self._note_path)
        return sound

    def _commit(self, parts: list[Part]) -> list[Part]:
        if os.path.isdir(self._seal_path):
            clear(self._seal_path)
        publish(self._seal_path, format_seal(parts), sync=True)
        return parts

    def _sweep(self, parts: Sequence[Part]) -> None:
        """Remove what no seal names: superseded parts, and what killed processes left."""
        names = {part.name for part in parts}
        if os.path.isdir(self._parts_path):
            for name in os.listdir(self._parts_path):
                if name not in names:
                    clear(os.path.join(self._parts_path, name))
        for name in os.listdir(self._directory):
            if is_temporary(name):
                clear(os.path.join(self._directory, name))

    def _merge(self, parts: Sequence[Part], proceed: Proceed) -> Part:
        with contextlib.ExitStack() as stack:
            readers: list[Reader] = []
            for part in parts:
                # Else a flipped bit would get a seal of its own.
                verify(self._folder(part), part.files, {}, thorough=True)
                readers.append(stack.enter_context(contextlib.closing(Reader(self._folder(part), part))))
            rows = np.concatenate([reader.rows for reader in readers])
            return self._write(merged_terms(readers), rows, proceed)

    def _write(self, terms: Iterable[TermPostings], rows: Numbers, proceed: Proceed) -> Part:
        name = f"{rows[0]}-{rows[-1]}-{uuid.uuid4().hex[:8]}"
        folder = os.path.join(self._parts_path, name)
        if not os.path.isdir(self._parts_path):
            clear(self._parts_path)
        make_directory(folder)
        write_terms(folder, while_allowed(terms, proceed))
        np.save(os.path.join(folder, "rows.npy"), rows)
        files = {file: seal_file(os.path.join(folder, file)) for file in sorted(os.listdir(folder))}
        sync_directory(folder)
        sync_directory(self._parts_path)
        return Part(name, int(rows[-1]), len(rows), files)
