"""A search: the index proposes, the start documents decide, and the manifest gives the order.

Runs that are newer than the index are looked at one by one, so no answer is wrong or late.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from filebroker.finding.candidates import Everything, Term
from filebroker.finding.entries import Documents, Entry, Order, reason_of
from filebroker.finding.index import Found
from filebroker.finding.library import Library
from filebroker.finding.manifest import Manifest
from filebroker.finding.notes import annotated
from filebroker.finding.planning import Plan, plan, with_oversized
from filebroker.finding.query import At, Both, Condition, Either, Equals, Not, OneOf, Subject, Words
from filebroker.finding.terms import OVERSIZED
from filebroker.finding.time_ranges import split_time
from filebroker.finding.wording import describe
from filebroker.ground import codec

_Epoch = tuple[str, int]
_Rows = np.ndarray[Any, np.dtype[np.int64]]
_Mask = np.ndarray[Any, np.dtype[np.bool_]]
_NO_ROWS: _Rows = np.array([], np.int64)
T = TypeVar("T")
#: Rows are looked up in steps, small ones first, because many who search want the newest few.
_FIRST_STEP, _LAST_STEP = 16, 500
#: Most who go through all runs, newest first, want the newest alone.
_NEWEST_STEP = 1


@dataclass
class Explanation:
    """How a search is answered.

    Attributes
    ----------
    search : str
        The search as it was called.
    runs : int
        How many runs the catalog has.
    index : str
        What the index is asked for, or why it is not asked.
    was_asked : bool
        Whether it is asked.
    indexed : int
        How many runs it knows.
    exact : bool
        Whether what the index proposes needs no second look.
    in_range : int
        How many runs the time range leaves.
    proposed : int
        How many runs the index proposes.
    looked_at : int
        How many start documents had to be looked at.
    opened : str
        Which runs had to be opened, empty if none had.
    answers : int
        How many runs answer.
    seconds : float
        How long it took.
    problem : str
        What is wrong with the index, empty if nothing is.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").catalog
    >>> explanation = catalog.search({"plan_name": "scan"}).explain()
    >>> explanation.runs, explanation.looked_at, explanation.answers
    (22, 22, 5)
    """

    search: str
    runs: int = 0
    index: str = ""
    was_asked: bool = False
    indexed: int = 0
    exact: bool = False
    in_range: int = 0
    proposed: int = 0
    looked_at: int = 0
    opened: str = ""
    answers: int = 0
    seconds: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        lines = [("search", self.search), ("runs", f"{self.runs:,}, of which {self.in_range:,} in the time range")]
        lines.append(("asked for" if self.was_asked else "index", self.index))
        if self.was_asked:
            sure = "exactly" if self.exact else "to be looked at"
            lines.append(("proposed", f"{self.proposed:,} of the {self.indexed:,} runs that the index knows, {sure}"))
        lines += [
            ("looked at", f"{self.looked_at:,} start documents"),
            *([("opened", self.opened)] if self.opened else []),
            ("answers", f"{self.answers:,} in {1000 * self.seconds:.1f} ms"),
        ]
        lines += [("problem", self.problem)] if self.problem else []
        return "\n".join(f"{name:<10} {text}" for name, text in lines)

    __repr__ = __str__


class _Selected(NamedTuple):
    """The rows that may answer, newest first, and which of them have to be looked at."""

    rows: _Rows
    doubtful: _Mask


class _Proposal(NamedTuple):
    """What the index says.

    The versions of runs that may answer, up to which version it knows runs, the versions of those that are too large
    for it, and whether the others answer for sure.
    """

    versions: _Rows
    upto: int
    large: _Rows
    exact: bool


@dataclass
class Search:
    """A search of a library.

    Parameters
    ----------
    library
        Where to search.
    condition
        What a run has to fulfil, None for nothing.
    low, high
        The range of the start time in seconds since 1970, both ends included.
    """

    library: Library
    condition: Condition | None = None
    low: float = -math.inf
    high: float = math.inf
    _notes: Explanation = field(default_factory=lambda: Explanation(""), repr=False)
    _was_begun: bool = field(default=False, repr=False)
    _answers: tuple[_Epoch, _Rows] | None = field(default=None, repr=False)

    def __iter__(self) -> Iterator[Entry]:
        """Give the runs that answer, newest first."""
        return self.nth_and_older(1)

    def nth_and_older(self, number: int) -> Iterator[Entry]:
        """Give the n-th newest run that answers, and those after it."""
        if self.is_trivial:
            # Each question asks for older paths, so rows that come to mean other runs do no harm.
            return chain.from_iterable(self._all(skip=number - 1))
        return islice(self._walk(Manifest.at, lambda entry: entry), number - 1, None)

    def documents(self) -> Iterator[Documents]:
        """Give the documents of the runs that answer, newest first."""
        return self._walk(Manifest.documents, lambda item: item.entry)

    def _walk(self, fetch: Callable[[Manifest, Sequence[int]], list[T]], entry_of: Callable[[T], Entry]) -> Iterator[T]:
        """Give what is fetched of each run that answers; when rows come to mean other runs, go on from the last one."""
        last: str | None = None
        is_done = False
        while not is_done:
            epoch, is_done = self._epoch(), True
            for rows in self._pages(last):
                items = self.library.ask(fetch, rows)
                if self._epoch() != epoch:
                    is_done = False
                    break
                for item in items:
                    path = entry_of(item).path
                    if last is None or path < last:
                        yield item
                        last = path
            is_done = is_done and self._epoch() == epoch

    def _epoch(self) -> _Epoch:
        return self.library.ask(Manifest.epoch)

    def _pages(self, before: str | None) -> Iterator[list[int]]:
        """Give the rows that answer in parts, newest first, perhaps with some that are not older than a path."""
        if self.is_trivial:
            yield from ([entry.row for entry in entries] for entries in self._all(before))
            return
        rows = self._known_rows()
        selected = self._select() if rows is None else _Selected(rows, _none(len(rows)))
        for position, size in _steps(len(selected.rows)):
            part = slice(position, position + size)
            yield self._verified(selected.rows[part], selected.doubtful[part]).tolist()

    @property
    def is_trivial(self) -> bool:
        """Whether every run answers."""
        return self.condition is None and self.low == -math.inf and self.high == math.inf

    def _all(self, before: str | None = None, skip: int = 0) -> Iterator[list[Entry]]:
        """Give all runs in parts, newest first, but for some, or those older than the one at a path."""
        size = _NEWEST_STEP
        while entries := self.library.ask(Manifest.newest, size, before, skip):
            yield entries
            before, size, skip = entries[-1].path, min(2 * size, _LAST_STEP), 0

    def __len__(self) -> int:
        """Count the runs that answer."""
        if self.is_trivial:
            return self.library.ask(Manifest.__len__)
        if self.condition is None:
            return self.library.ask(Manifest.count, self.low, self.high)
        return len(self._rows())

    def among(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """Give those of some runs that answer."""
        if self.is_trivial:
            yield from entries
            return
        for position, size in _steps(len(entries)):
            paths = [entry.path for entry in entries[position : position + size]]
            yield from (item.entry for item in self.library.ask(Manifest.documents_at, paths) if self._fits(item))

    def _fits(self, item: Documents) -> bool:
        """Tell whether a run answers, by its documents alone."""
        start = item.start
        if (self.low, self.high) != (-math.inf, math.inf) and not self.low <= start["time"] <= self.high:
            return False
        return self.condition is None or self.condition.holds(
            Subject(annotated(start, item.raw_annotations), item.reason)
        )

    def explain(self, search: str) -> Explanation:
        """Answer the search, and tell how that was done."""
        begun = time.perf_counter()
        notes = self._notes = Explanation(search)
        notes.answers = len(self._find())
        notes.runs = self.library.ask(Manifest.__len__)
        notes.seconds = time.perf_counter() - begun
        index = self.library.indexing.index
        problems = [self.library.housekeeper.problem, (index.problem or "") if index is not None else ""]
        notes.problem = "; ".join(filter(None, problems))
        return notes

    @property
    def is_fresh(self) -> bool:
        """Whether it can serve once more: all answers are known, or nothing was looked for yet."""
        return not self._was_begun or self._known_rows() is not None

    def _known_rows(self) -> _Rows | None:
        """Give the rows of all answers if they were found before, and still mean the same runs."""
        if self._answers is None or self._answers[0] != self._epoch():
            return None
        return self._answers[1]

    def _rows(self) -> _Rows:
        """Give the rows of all answers, newest first."""
        rows = self._known_rows()
        return self._find() if rows is None else rows

    def _find(self) -> _Rows:
        while True:
            epoch = self._epoch()
            with self.library.housekeeper.waiting():
                selected = self._select()
                rows = self._verified(selected.rows, selected.doubtful)
            if self._epoch() == epoch:
                self._answers = epoch, rows
                return rows
            self.library.sync()

    # -- choosing

    def _select(self) -> _Selected:
        self._was_begun = True
        limits, rest = (-math.inf, math.inf), self.condition
        if rest is not None:
            limits, rest = split_time(rest)
        # The index comes first: what changes meanwhile is then later than all that it considered.
        proposal = None if rest is None else self._ask_index(plan(rest))
        order = self.library.ask(Manifest.order)
        inside = self._in_range(order, *limits)
        self._notes.in_range = int(inside.sum())
        if rest is None:
            self._notes.index = "it is not needed"
            return _Selected(order.rows[inside], _none(self._notes.in_range))
        proposed, doubtful = self._weigh(order, proposal)
        chosen = inside & proposed & self._of_uid(order)
        return _Selected(order.rows[chosen], doubtful[chosen])

    def _of_uid(self, order: Order) -> _Mask:
        """Give the runs of the uids that the search asks for, all if it asks for none."""
        uids = None if self.condition is None else _uids_of(self.condition)
        if uids is None:
            return ~_none(len(order.rows))
        return np.isin(order.rows, self.library.ask(Manifest.of_uids, uids))

    def _in_range(self, order: Order, low: float = -math.inf, high: float = math.inf) -> _Mask:
        """Give the runs whose start times are in the range of the search, and in another."""
        low, high = max(low, self.low), min(high, self.high)
        if low == -math.inf and high == math.inf:
            return ~_none(len(order.times))
        mask: _Mask = (order.times >= low) & (order.times <= high)
        return mask

    def _ask_index(self, wanted: Plan) -> _Proposal | None:
        """Ask the index, None if it cannot say anything."""
        notes, index = self._notes, self.library.indexing.index
        if isinstance(wanted.candidates, Everything):
            notes.index = "it cannot help with this"
            return None
        if index is None:
            notes.index = "there is no place to keep one"
            return None
        found = index.find(with_oversized(wanted.candidates))
        large = index.find(Term("value", OVERSIZED)) if wanted.exact else Found((), 0)
        if found is None or large is None:
            notes.index = ""
            return _Proposal(_NO_ROWS, 0, _NO_ROWS, exact=False)
        notes.index, notes.was_asked = describe(wanted.candidates), True
        return _Proposal(_array(found.rows), found.upto, _array(large.rows), wanted.exact)

    def _weigh(self, order: Order, proposal: _Proposal | None) -> tuple[_Mask, _Mask]:
        """Give which runs may answer, and which of those have to be looked at."""
        everything = ~_none(len(order.rows))
        if proposal is None:
            return everything, everything
        notes, later = self._notes, order.versions > proposal.upto
        is_due = self._index_later(int(later.sum()))
        if not notes.was_asked:
            notes.index = "it is being made" if is_due else "none is made for so few runs"
            return everything, everything
        proposed = np.isin(order.versions, proposal.versions) & ~later
        notes.exact, notes.indexed, notes.proposed = proposal.exact, int((~later).sum()), int(proposed.sum())
        large = np.isin(order.versions, proposal.large)
        return proposed | later, later | large if proposal.exact else everything

    def _index_later(self, pending: int) -> bool:
        """Bring the index up to date in the background if many runs are not in it, and tell whether that is so."""
        is_due = self.library.indexing.is_due(pending)
        if is_due:
            self.library.housekeeper.start()
        return is_due

    # -- looking

    def _verified(self, rows: _Rows, doubtful: _Mask) -> _Rows:
        """Give those of some rows that answer, after looking at the doubtful ones."""
        if not doubtful.any():
            return rows
        good = set(self._looked_at(rows[doubtful]))
        flags = [not doubt or row in good for row, doubt in zip(rows.tolist(), doubtful.tolist(), strict=True)]
        return rows[flags]

    def _looked_at(self, rows: _Rows) -> Iterator[int]:
        """Give those of some rows whose documents fulfil the condition."""
        condition = self.condition
        assert condition is not None
        words = [part.search for part in _conjunction(condition) if isinstance(part, Words)]
        has_words = _asks_for_words(condition)
        for position in range(0, len(rows), _LAST_STEP):
            part = rows[position : position + _LAST_STEP].tolist()
            for row, start, stop, annotations in self.library.ask(Manifest.texts, part):
                self._notes.looked_at += 1
                if all(search.possible(start + stop + annotations) for search in words):
                    reason = reason_of(stop) if has_words else ""
                    if condition.holds(Subject(annotated(codec.loads(start), annotations), reason)):
                        yield row


def _uids_of(condition: Condition) -> set[str] | None:
    """Give uids of which a run has to have one to fulfil a condition, None if it may have any."""
    match condition:
        case At("uid", Equals(str() as uid)):
            return {uid}
        case At("uid", OneOf(values)) if all(isinstance(value, str) for value in values):
            return set(values)
        case Both(parts):
            known = [uids for part in parts if (uids := _uids_of(part)) is not None]
            return set.intersection(*known) if known else None
        case Either(parts):
            each = [_uids_of(part) for part in parts]
            return None if None in each else {uid for uids in each for uid in uids or ()}
    return None


def _conjunction(condition: Condition) -> Iterator[Condition]:
    """Give the conditions that all have to be fulfilled."""
    if isinstance(condition, Both):
        for part in condition.parts:
            yield from _conjunction(part)
    else:
        yield condition


def _asks_for_words(condition: Condition) -> bool:
    match condition:
        case Both(parts) | Either(parts):
            return any(map(_asks_for_words, parts))
        case Not(part):
            return _asks_for_words(part)
        case _:
            return isinstance(condition, Words)


def _none(count: int) -> _Mask:
    return np.zeros(count, bool)


def _array(rows: Collection[int]) -> _Rows:
    return np.fromiter(rows, np.int64, len(rows))


def _steps(count: int) -> Iterator[tuple[int, int]]:
    """Give positions and sizes of parts of so many items, small ones first."""
    position, size = 0, _FIRST_STEP
    while position < count:
        yield position, size
        position, size = position + size, min(2 * size, _LAST_STEP)
