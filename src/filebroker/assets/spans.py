"""Which events of a stream have their values where."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Span:
    """A range of events, whose values follow each other in one resource.

    Attributes
    ----------
    start, stop : int
        The first seq_num, and that after the last one.
    resource : str
        The uid of the resource.
    first : int
        The index of the first event's value in the resource.
    uid : str
        The uid of the stream_datum that says so.
    """

    start: int
    stop: int
    resource: str
    first: int
    uid: str

    def index(self, seq_num: int) -> int:
        """Give the index, in the resource, of an event's value."""
        return self.first + seq_num - self.start

    def part(self, start: int, stop: int) -> "Span":
        """Give the part that is within a range of seq_nums; it may be empty."""
        start, stop = max(start, self.start), min(stop, self.stop)
        return replace(self, start=start, stop=stop, first=self.index(start))


class Spans:
    """Spans in the order of their seq_nums; where they overlap, what was added last holds.

    Examples
    --------
    >>> spans = Spans()
    >>> spans.add(Span(1, 6, "a", 0, "a/0"))
    >>> spans.add(Span(4, 5, "b", 0, "b/0"))
    >>> [(span.start, span.stop, span.resource, span.first) for span in spans]
    [(1, 4, 'a', 0), (4, 5, 'b', 0), (5, 6, 'a', 4)]
    >>> spans.ranges()
    [range(1, 6)]
    """

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._starts: list[int] = []

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: Span) -> None:
        """Add a span, in place of whatever was there; an empty one changes nothing."""
        if span.stop <= span.start:
            return
        low, high = self._overlapping(span)
        parts = [old for known in self._spans[low:high] for old in _around(known, span)]
        parts = sorted([*parts, span], key=lambda part: part.start)
        self._spans[low:high] = parts
        self._starts[low:high] = [part.start for part in parts]

    def find(self, seq_num: int) -> Span | None:
        """Give the span that an event is in, or None."""
        place = bisect_right(self._starts, seq_num) - 1
        if place < 0 or seq_num >= self._spans[place].stop:
            return None
        return self._spans[place]

    def ranges(self) -> list[range]:
        """Give the seq_nums of all spans, with those that touch joined."""
        joined: list[range] = []
        for span in self._spans:
            if joined and joined[-1].stop == span.start:
                joined[-1] = range(joined[-1].start, span.stop)
            else:
                joined.append(range(span.start, span.stop))
        return joined

    def _overlapping(self, span: Span) -> tuple[int, int]:
        low = bisect_right(self._starts, span.start) - 1
        if low < 0 or self._spans[low].stop <= span.start:
            low += 1
        return low, bisect_left(self._starts, span.stop, lo=low)


def _around(known: Span, taken: Span) -> list[Span]:
    """Give what is left of a span when another takes its place."""
    parts = known.part(known.start, taken.start), known.part(taken.stop, known.stop)
    return [part for part in parts if part.start < part.stop]
