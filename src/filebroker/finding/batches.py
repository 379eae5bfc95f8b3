"""Batches: what comes into the index together, and when parts of it become one."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from filebroker.finding.candidates import Kind
from filebroker.finding.postings import Posting, TermPostings, encoded
from filebroker.finding.text import SEPARATOR

#: Documents in a part of a first build.  Parts of this size are not merged before there are many.
FULL = 8192
#: How many entries are asked of the source at once.
CHUNK = 512
#: With more full parts than this, the four neighbours with the fewest documents become one.
_MOST_FULL = 14
_MERGED_AT_ONCE = 4
_FIRST = 512

_T = TypeVar("_T")


class Entry(NamedTuple):
    """What the index is to know of a run.

    Attributes
    ----------
    row : int
        Its number in the catalog's register; greater than that of every entry before.
    words : list of str
        The words of its texts in order, with `SEPARATOR` between two texts.
    values : collection of str
        Its value terms.
    """

    row: int
    words: list[str]
    values: Collection[str]


#: Called with a row and a limit, gives at most so many entries after that row, in their order; none at the end.
Source = Callable[[int, int], list[Entry]]
#: Asked again and again; when it says no, what is not committed yet is given up.
Proceed = Callable[[], bool]


class Stopped(Exception):
    """The caller does not allow to go on."""


class Batch:
    """Entries turned round: for each term the documents that have it."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._values: dict[str, list[Posting]] = defaultdict(list)
        self._words: dict[str, list[Posting]] = defaultdict(list)
        self._packed: dict[bytes, bytes] = {}

    def add(self, entry: Entry) -> None:
        """Take in an entry."""
        document = len(self.rows)
        self.rows.append(entry.row)
        posting = (document, b"")
        for value in set(entry.values):
            self._values[value].append(posting)
        positions: dict[str, list[int]] = defaultdict(list)
        for position, word in enumerate(entry.words):
            positions[word].append(position)
        positions.pop(SEPARATOR, None)  # it takes a position, and is no word itself
        for word, places in positions.items():
            packed = array("I", places).tobytes()
            # Most words are where they were in another run: one copy of such positions is enough.
            self._words[word].append((document, self._packed.setdefault(packed, packed)))

    def terms(self) -> Iterator[TermPostings]:
        """Give all terms in the order of the codec: by kind, then by bytes."""
        kinds: list[tuple[Kind, dict[str, list[Posting]]]] = [("value", self._values), ("word", self._words)]
        for kind, found in kinds:
            for text, postings in sorted((encoded(text), postings) for text, postings in found.items()):
                yield kind, text, postings


def gather(source: Source, after: int, proceed: Proceed, present: int = 0) -> Batch:
    """Take the entries of a new part from the source, until it is full or there are no more.

    The first parts are smaller, so that processes that do not last leave something behind: no larger than what is there
    already.
    """
    batch = Batch()
    full = min(FULL, max(_FIRST, present))
    while len(batch.rows) < full:
        if not proceed():
            raise Stopped
        entries = source(after, min(CHUNK, full - len(batch.rows)))
        if not entries:
            break
        for entry in while_allowed(entries, proceed):
            if entry.row <= after:
                raise ValueError(f"the entry of row {entry.row} came after that of row {after}; give them in order")
            batch.add(entry)
            after = entry.row
    return batch


def while_allowed(items: Iterable[_T], proceed: Proceed) -> Iterator[_T]:
    """Pass items on, and ask now and then whether to go on."""
    for number, item in enumerate(items):
        if number % 64 == 0 and not proceed():
            raise Stopped
        yield item


def due_for_merging(counts: Sequence[int]) -> tuple[int, int] | None:
    """Tell which parts are to become one, so that there are never much more than twenty.

    Small parts are merged when those after them have grown to half their size, so each document is merged
    about as often as a number can grow by half; full ones only when there are many.

    Parameters
    ----------
    counts
        How many documents each part has.

    Returns
    -------
    tuple of int or None
        The first of them, and the one after the last.

    Examples
    --------
    >>> due_for_merging([8192, 500, 20, 9, 1]), due_for_merging([8192, 500, 20, 9, 6])
    (None, (2, 5))
    """
    first, tail = len(counts) - 1, sum(counts[-1:])
    while first > 0 and counts[first - 1] < FULL and counts[first - 1] <= 2 * tail:
        first -= 1
        tail += counts[first]
    if first < len(counts) - 1:
        return first, len(counts)
    if sum(count >= FULL for count in counts) <= _MOST_FULL:
        return None
    starts = range(len(counts) - _MERGED_AT_ONCE + 1)
    least = min(starts, key=lambda start: sum(counts[start : start + _MERGED_AT_ONCE]))
    return least, least + _MERGED_AT_ONCE
