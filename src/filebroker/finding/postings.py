"""Terms and their postings in files, with the codec of Whoosh; no other module knows of it.

Of Whoosh this takes the codec alone, which writes and reads files of sorted terms and their postings.
Whoosh's own index directory, writer, searcher and query parser are left alone, because their traps are
many: a searcher that refreshes shows documents twice, a table of contents vanishes between listing and
opening, a missing column file gives wrong rows in silence, compound files are copied into memory, numeric
fields crash, the lock times out, merging and optimising rewrite everything, and what is read is unpickled
without a check.
"""

import contextlib
import functools
import heapq
import importlib
import itertools
import os
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from filebroker.finding.candidates import (
    AllOf,
    AnyOf,
    Beginning,
    Between,
    Candidates,
    Everything,
    Kind,
    NoneOf,
    Nothing,
    Phrase,
    Term,
)
from filebroker.finding.parts import Part, verify

Numbers = npt.NDArray[np.int64]
NO_NUMBERS: Numbers = np.empty(0, np.int64)
#: A document and where a word is in it (nothing for values).
Posting = tuple[int, bytes]
TermPostings = tuple[Kind, bytes, Iterable[Posting]]


@functools.cache
def whoosh_codec() -> Any:
    """Import what is used of Whoosh, and make sure which one it is.

    Raises
    ------
    ImportError
        It is not installed, or another package of the same name is.
    """
    remedy = "searching goes through all runs until you do: pip install --force-reinstall 'whoosh-reloaded>=2.7.5'"
    try:
        version = importlib.import_module("whoosh").__version__
    except ImportError as error:
        raise ImportError(f"the index needs whoosh-reloaded, which is not installed; {remedy}") from error
    if tuple(version) < (2, 7, 5):
        # "whoosh" and "whoosh-reloaded" overwrite each other, and pip does not notice.
        found = ".".join(map(str, version))
        raise ImportError(f"the index needs whoosh-reloaded 2.7.5, but whoosh {found} is in its place; {remedy}")
    codec = importlib.import_module("whoosh.codec.whoosh3")
    formats = importlib.import_module("whoosh.formats")
    return SimpleNamespace(
        codec=codec.W3Codec(),
        segment=codec.W3Segment,
        struct_file=importlib.import_module("whoosh.filedb.structfile").StructFile,
        term_not_found=importlib.import_module("whoosh.reading").TermNotFound,
        formats={"value": formats.Existence(), "word": formats.Positions()},
    )


class _Files:
    """A directory as the codec wants it, which closes every file opened through it, whatever happened."""

    def __init__(self, folder: str) -> None:
        whoosh = whoosh_codec()
        self._folder, self._wrapper = folder, whoosh.struct_file
        self._opened: list[IO[bytes]] = []
        self.segment = whoosh.segment(whoosh.codec, "terms", segid="0")

    def open_file(self, name: str) -> Any:
        return self._open(name, "rb")

    def create_file(self, name: str) -> Any:
        return self._open(name, "wb")

    def file_length(self, name: str) -> int:
        return os.path.getsize(os.path.join(self._folder, name))

    def _open(self, name: str, mode: str) -> Any:
        file = open(os.path.join(self._folder, name), mode)  # noqa: SIM115 - closed by close()
        self._opened.append(file)
        return self._wrapper(file, name=name)

    def close(self) -> None:
        for file in self._opened:
            file.close()


class Reader:
    """A part that was verified and opened."""

    def __init__(self, folder: str, part: Part) -> None:
        self._folder, self._part = folder, part
        self._seen: dict[str, int] = {}
        self.verify()
        self.rows: Numbers = np.load(os.path.join(folder, "rows.npy"))
        whoosh = whoosh_codec()
        self._codec, self._formats, self._term_not_found = whoosh.codec, whoosh.formats, whoosh.term_not_found
        self._files = _Files(folder)
        weakref.finalize(self, self._files.close)
        try:
            self._terms = self._codec.terms_reader(self._files, self._files.segment)
            self._postings = self._files.segment.open_file(self._files, self._codec.POSTS_EXT)
        except BaseException:
            self._files.close()
            raise

    def verify(self) -> None:
        """Check that the files are those that were sealed."""
        verify(self._folder, self._part.files, self._seen)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def terms(self, offset: int) -> Iterator[TermPostings]:
        """Give each term with its postings, in order, an offset added to the documents."""
        for (kind, text), record in self._terms.items():
            yield kind, text, self._shifted(kind, record, offset)

    def _shifted(self, kind: Kind, record: Any, offset: int) -> Iterator[Posting]:
        matcher = self.matcher(kind, record)
        while matcher.is_active():
            yield offset + matcher.id(), matcher.value() or b""
            matcher.next()

    def records(self, kind: Kind, low: bytes) -> Iterator[tuple[bytes, Any]]:
        """Give the terms of a kind from one on, in order."""
        for (found, text), record in self._terms.items_from(kind, low):
            if found != kind:
                return
            yield text, record

    def matcher(self, kind: Kind, record: Any) -> Any:
        """Give Whoosh's cursor over the postings of a term."""
        return self._codec.postings_reader(self._postings, record, self._formats[kind])

    def documents(self, kind: Kind, record: Any) -> Numbers:
        """Give the documents that have a term, ascending."""
        count = record.doc_frequency()
        if count <= 2:  # most terms of a range are rare, and this spares reading their postings
            return np.array([record.min_id(), record.max_id()][:count], np.int64)
        return np.fromiter(self.matcher(kind, record).all_ids(), np.int64, count)

    def record(self, kind: Kind, text: str) -> Any:
        """Give Whoosh's record of a term, None if no document has it."""
        try:
            return self._terms.term_info(kind, encoded(text))
        except self._term_not_found:
            return None


def encoded(text: str) -> bytes:
    """Write a term so that bytes sort as its characters do; lone surrogates are characters as well."""
    return text.encode("utf-8", "surrogatepass")


def documents_of(reader: Reader, wanted: Candidates) -> Numbers:
    """Evaluate an expression on a part.

    Documents are sets in sorted arrays, with no query or score of Whoosh's: that is simpler, and faster.
    """
    match wanted:
        case Everything():
            return np.arange(len(reader.rows))
        case Nothing():
            return NO_NUMBERS
        case Term(kind, text):
            record = reader.record(kind, text)
            return NO_NUMBERS if record is None else reader.documents(kind, record)
        case Beginning(kind, text):
            low = encoded(text)
            return _united(reader, kind, low, lambda found: found.startswith(low))
        case Between(low, high):
            end = encoded(high)
            return _united(reader, "value", encoded(low), lambda found: found <= end)
        case Phrase(words):
            return _phrase(reader, words)
        case AnyOf(parts):
            return _union([documents_of(reader, part) for part in parts])
        case NoneOf(part):
            return np.setdiff1d(np.arange(len(reader.rows)), documents_of(reader, part), assume_unique=True)
        case AllOf(parts):
            return _all_of(reader, parts)


def _all_of(reader: Reader, parts: Iterable[Candidates]) -> Numbers:
    found: Numbers = np.arange(len(reader.rows))
    for part in parts:
        if not len(found):
            break
        found = np.intersect1d(found, documents_of(reader, part), assume_unique=True)
    return found


def _united(reader: Reader, kind: Kind, low: bytes, included: Callable[[bytes], bool]) -> Numbers:
    """Give the documents of all terms from one on while they are included."""
    records = itertools.takewhile(lambda item: included(item[0]), reader.records(kind, low))
    return _union([reader.documents(kind, record) for _, record in records])


def _union(sets: Sequence[Numbers]) -> Numbers:
    return np.unique(np.concatenate(sets)) if sets else NO_NUMBERS


def _phrase(reader: Reader, words: Sequence[str]) -> Numbers:
    records = [reader.record("word", word) for word in words]
    if None in records:
        return NO_NUMBERS
    documents = _all_of(reader, [Term("word", word) for word in words])
    matchers = [reader.matcher("word", record) for record in records]
    return np.array([document for document in documents.tolist() if _has_phrase(matchers, document)], np.int64)


def _has_phrase(matchers: Sequence[Any], document: int) -> bool:
    """Tell whether the words are one after the other in a document that has them all, going forward only."""
    starts: set[int] | None = None
    for distance, matcher in enumerate(matchers):
        matcher.skip_to(document)
        here = {position - distance for position in array("I", matcher.value())}
        starts = here if starts is None else starts & here
        if not starts:
            return False
    return True


def merged_terms(readers: Sequence[Reader]) -> Iterator[TermPostings]:
    """Give the terms of several parts as those of one, whose documents are theirs one after the other."""
    offsets = itertools.accumulate((len(reader.rows) for reader in readers), initial=0)
    streams = [reader.terms(offset) for reader, offset in zip(readers, offsets, strict=False)]
    merged = heapq.merge(*streams, key=lambda item: item[:2])  # keeps the order of the parts for equal terms
    for (kind, text), items in itertools.groupby(merged, key=lambda item: item[:2]):
        yield kind, text, itertools.chain.from_iterable(postings for _, _, postings in items)


def write_terms(folder: str, terms: Iterable[TermPostings]) -> None:
    """Write terms, which come in order, into the files of a part."""
    whoosh = whoosh_codec()
    with contextlib.closing(_Files(folder)) as files:
        writer = whoosh.codec.field_writer(files, files.segment)
        for kind, group in itertools.groupby(terms, key=lambda item: item[0]):
            writer.start_field(kind, SimpleNamespace(format=whoosh.formats[kind]))
            for _, text, postings in group:
                writer.start_term(text)
                for document, positions in postings:
                    writer.add(document, 1.0, positions, 0)  # no lengths: they would serve scores
                writer.finish_term()
            writer.finish_field()
        writer.close()
