"""The query language: MongoDB's, as a tree of conditions on a start document.

`finding.parsing` makes the tree of a mapping such as ``{"plan_name": "scan", "sample.temp": {"$gt": 5}}``.
The conditions decide on a run, and the tests on the values at one path.  What the operators mean is
specified in MongoDB's manual, "Query Predicates".
"""

import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from filebroker.finding.text import TextSearch
from filebroker.finding.values import (
    MISSING,
    Path,
    Whole,
    compare,
    each,
    identity,
    is_finite_number,
    lists,
    rank_of,
    same,
    type_names,
)
from filebroker.ground.errors import InvalidQuery, QueryTimeout

#: So much time all regular expressions of one query may take together.
REGEX_SECONDS = 5.0
#: A regular expression of more characters is refused.
MAX_PATTERN = 10_000

#: How two values may be compared by order.
Comparison = Literal["$gt", "$gte", "$lt", "$lte"]
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a condition is asked about.

    Attributes
    ----------
    start : Mapping
        A start document, as it is read from a file.
    reason : str
        The ``reason`` of the stop document, empty while there is none.  Only a search for words looks at it.
    """

    start: Mapping[str, Any]
    reason: str = ""


class Condition(Protocol):
    """Something that a run fulfils or not."""

    def holds(self, subject: Subject) -> bool:
        """Tell whether a run fulfils it."""


@dataclass(frozen=True, slots=True)
class Both:
    """All of some conditions; of none, always."""

    parts: tuple[Condition, ...]

    def holds(self, subject: Subject) -> bool:
        """Tell whether a run fulfils all parts."""
        return all(part.holds(subject) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of some conditions."""

    parts: tuple[Condition, ...]

    def holds(self, subject: Subject) -> bool:
        """Tell whether a run fulfils any of the parts."""
        return any(part.holds(subject) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    part: Condition

    def holds(self, subject: Subject) -> bool:
        """Tell whether a run does not fulfil the part."""
        return not self.part.holds(subject)


@dataclass(frozen=True, slots=True)
class Words:
    """A search for words, as ``$text``."""

    search: TextSearch

    def holds(self, subject: Subject) -> bool:
        """Tell whether a run has the words."""
        return self.search.matches(subject.start, subject.reason)


@dataclass(frozen=True, slots=True)
class At:
    """A test of the values at a dotted path.

    Raises
    ------
    InvalidQuery
        The path is longer than documents are deep.

    Examples
    --------
    >>> At("sample.temp", Compares("$lt", 10)).holds(Subject({"sample": {"temp": 5.2}}))
    True
    """

    path: str
    test: "Test"
    _path: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_path", Path(self.path))

    def holds(self, subject: Subject) -> bool:
        """Tell whether the values at the path pass the test."""
        return self.test.passes(self._path.values(subject.start))


@dataclass(frozen=True, slots=True)
class Equals:
    """One of the values is equal; None is equal to what is missing as well."""

    value: Any

    def passes(self, values: list[Any]) -> bool:
        """Tell whether one of the values is equal."""
        wanted = self.value
        if wanted is None:
            return any(value is None or value is MISSING for value in each(values))
        return any(same(value, wanted) for value in each(values))


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of the values is equal to one of many."""

    values: tuple[Any, ...]
    # A query may ask for 100,000 uids: comparing with each would take a second per thousand documents.
    _identities: frozenset[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        identities = {identity(value) for value in self.values}
        if any(value is None for value in self.values):
            identities.add(identity(MISSING))
        object.__setattr__(self, "_identities", frozenset(identities))

    def passes(self, values: list[Any]) -> bool:
        """Tell whether one of the values is among those asked for."""
        return any(identity(value) in self._identities for value in each(values))


@dataclass(frozen=True, slots=True)
class Compares:
    """One of the values is of the same type, and greater or less.

    NaN is neither greater nor less than a number, and equal to itself.
    """

    operator: Comparison
    value: Any

    def passes(self, values: list[Any]) -> bool:
        """Tell whether one of the values is greater or less, as asked."""
        rank = rank_of(self.value)
        return any(self._agrees(value) for value in each(values) if rank_of(value) == rank)

    def _agrees(self, value: Any) -> bool:
        decide, wanted = _COMPARISONS[self.operator], self.value
        if value is None or isinstance(wanted, list | dict):
            return decide(compare(value, wanted), 0)
        if value != value or wanted != wanted:
            return decide(0, 0) and same(value, wanted)
        return decide(value, wanted)


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value, if only null."""

    def passes(self, values: list[Any]) -> bool:
        """Tell whether there is a value."""
        return any(value is not MISSING for value in values)


@dataclass(slots=True)
class Budget:
    """The seconds that are left to the regular expressions of one query."""

    seconds: float = field(default_factory=lambda: REGEX_SECONDS)


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression is found in one of the values.

    Attributes
    ----------
    pattern : str
        The expression.  It may be found anywhere in a string; ``^`` and ``$`` tie it to the ends.
    options : str
        Letters: ``i`` for any case, ``m`` for ``^`` and ``$`` at every line, ``s`` for a dot that is also a
        line's end, ``x`` for blanks and comments in the expression.  A Python expression may bring ``a``,
        for classes of ASCII characters alone.
    budget : Budget
        The time that is left.

    Raises
    ------
    InvalidQuery
        The expression is wrong or too long.
    """

    pattern: str
    options: str = ""
    budget: Budget = field(default_factory=Budget, repr=False, compare=False)
    _compiled: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", _compile(self.pattern, self.options))

    def passes(self, values: list[Any]) -> bool:
        """Tell whether the expression is found in one of the values.

        Raises
        ------
        QueryTimeout
            The time that is left to the query does not suffice.
        """
        return any(self._is_in(value) for value in each(values) if isinstance(value, str))

    def _is_in(self, text: str) -> bool:
        budget, begin = self.budget, time.monotonic()
        try:
            if budget.seconds <= 0:
                raise TimeoutError
            return self._compiled.search(text, timeout=budget.seconds) is not None
        except TimeoutError:
            raise QueryTimeout(
                f"the regular expressions of the search took {REGEX_SECONDS:g} seconds and were not done, lastly "
                f"with {_shown(self.pattern)}; tie the pattern to the beginning with '^', and repeat nothing "
                "that can match in several ways, as in '(a|aa)+' or '(a+)+'"
            ) from None
        except MemoryError:
            raise InvalidQuery(
                f"the regular expression {_shown(self.pattern)} takes more memory than there is; write it without "
                "recursion such as '(?R)'"
            ) from None
        finally:
            budget.seconds -= time.monotonic() - begin


def _compile(pattern: str, options: str) -> Any:
    # Only expressions need the package.  The standard library's cannot be interrupted.
    import regex

    if len(pattern) > MAX_PATTERN:
        raise InvalidQuery(
            f"a regular expression of {len(pattern):,} characters is too long; give at most {MAX_PATTERN:,}, or a list "
            "of values to '$in'"
        )
    flags = {"i": regex.I, "m": regex.M, "s": regex.S, "x": regex.X, "a": regex.A}
    try:
        return regex.compile(pattern, sum((flags[letter] for letter in set(options)), regex.V0))
    except RecursionError:
        reason = "its groups are nested too deeply"
    except (regex.error, ValueError, OverflowError) as error:
        reason = str(error)
    raise InvalidQuery(
        f"{_shown(pattern)} is not a regular expression: {reason}; put '\\' before a sign meant literally"
    )


def _shown(pattern: str) -> str:
    return repr(pattern) if len(pattern) <= 80 else f"{pattern[:80]!r}..."


@dataclass(frozen=True, slots=True)
class HasSize:
    """One of the values is a list of so many items."""

    size: int

    def passes(self, values: list[Any]) -> bool:
        """Tell whether one of the values is a list of that size."""
        return any(len(items) == self.size for items in lists(values))


@dataclass(frozen=True, slots=True)
class HasItem:
    """One of the values is a list, and one of its items fulfils all that is asked, as ``$elemMatch``.

    Attributes
    ----------
    part : Test or Condition
        A test decides on each item as a whole.  A condition decides on each item that is a mapping, or a
        list, whose keys then are the positions.
    """

    part: "Test | Condition"

    def passes(self, values: list[Any]) -> bool:
        """Tell whether an item of a list fulfils the part."""
        return any(self._accepts(item) for items in lists(values) for item in items)

    def _accepts(self, item: Any) -> bool:
        if isinstance(self.part, Test):
            return self.part.passes([Whole(item) if isinstance(item, list) else item])
        if isinstance(item, list):
            item = {str(position): value for position, value in enumerate(item)}
        return isinstance(item, Mapping) and self.part.holds(Subject(item))


@dataclass(frozen=True, slots=True)
class Remainder:
    """One of the values is a number that leaves a remainder, which has the number's sign."""

    divisor: int
    remainder: int

    def passes(self, values: list[Any]) -> bool:
        """Tell whether one of the values leaves the remainder."""
        return any(self._remains(int(value)) == self.remainder for value in each(values) if is_finite_number(value))

    def _remains(self, value: int) -> int:
        size = abs(value) % abs(self.divisor)
        return -size if value < 0 else size


@dataclass(frozen=True, slots=True)
class HasType:
    """One of the values is of one of some types."""

    types: tuple[str, ...]

    def passes(self, values: list[Any]) -> bool:
        """Tell whether one of the values is of one of the types."""
        return any(name in self.types for value in each(values) for name in type_names(value))


@dataclass(frozen=True, slots=True)
class AllTests:
    """All of some tests, for which different values may be responsible."""

    tests: tuple["Test", ...]

    def passes(self, values: list[Any]) -> bool:
        """Tell whether the values pass all tests."""
        return all(test.passes(values) for test in self.tests)


@dataclass(frozen=True, slots=True)
class AnyTest:
    """At least one of some tests."""

    tests: tuple["Test", ...]

    def passes(self, values: list[Any]) -> bool:
        """Tell whether the values pass any of the tests."""
        return any(test.passes(values) for test in self.tests)


@dataclass(frozen=True, slots=True)
class Opposite:
    """The opposite of a test."""

    test: "Test"

    def passes(self, values: list[Any]) -> bool:
        """Tell whether the values fail the test."""
        return not self.test.passes(values)


#: What may be asked of the values at a path; each decides on values as `Path.values` gives them.
Test = (
    Equals | OneOf | Compares | Exists | Regex | HasSize | HasItem | Remainder | HasType | AllTests | AnyTest | Opposite
)
