"""Values of documents as a query sees them: where they are, whether they are equal, which comes first.

The rules are MongoDB's: a number is never equal to a boolean or a string, and values are ordered by their
type first.  One rule is Python's: mappings are equal whatever the order of their keys.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import zip_longest
from typing import Any, Final

from filebroker.ground.errors import InvalidQuery

#: A path of more parts is refused.
MAX_PARTS = 100


class Absence(Enum):
    """Stands for a value where there is none."""

    MISSING = "missing"


MISSING: Final = Absence.MISSING


@dataclass(frozen=True, slots=True)
class Whole:
    """A list that counts as one value, not as its items, because it was itself picked out of a list."""

    items: list[Any]


# The order of the types is BSON's.
_NOTHING, _NULL, _NUMBER, _STRING, _OBJECT, _ARRAY, _BOOLEAN, _OTHER = range(8)
_RANKS: dict[type, int] = {
    type(None): _NULL,
    int: _NUMBER,
    float: _NUMBER,
    str: _STRING,
    dict: _OBJECT,
    list: _ARRAY,
    bool: _BOOLEAN,
    Absence: _NOTHING,
}
_POSITION = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")


def rank_of(value: Any) -> int:
    """Give the place of a value's type in the order of types.

    Values are comparable when their ranks are the same.

    Examples
    --------
    >>> rank_of(1) == rank_of(2.5), rank_of(1) == rank_of(True), rank_of(None) < rank_of("a")
    (True, False, True)
    """
    rank = _RANKS.get(type(value))
    if rank is None:  # a subclass, such as a document that protects itself from changes
        rank = next((rank for kind, rank in _RANKS.items() if isinstance(value, kind)), _OTHER)
    return rank


def same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal.

    Examples
    --------
    >>> same(1, 1.0), same(1, True), same(float("nan"), float("nan")), same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    (True, False, True, True)
    """
    rank = rank_of(left)
    if rank != rank_of(right):
        return False
    if rank == _ARRAY:
        return len(left) == len(right) and all(map(same, left, right))
    if rank == _OBJECT:
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if rank == _OTHER:
        return left is right
    return bool(left == right) or (left != left and right != right)


def identity(value: Any) -> Any:
    """Give something hashable that is equal for equal values only, so that a value is found in a set.

    Examples
    --------
    >>> identity([1, True]) == identity([1.0, True]), identity(1) == identity(True)
    (True, False)
    """
    rank = rank_of(value)
    if rank == _STRING:
        return value
    if rank == _NUMBER:
        return value if value == value else ("nan",)
    if rank == _ARRAY:
        return (rank, tuple(map(identity, value)))
    if rank == _OBJECT:
        return (rank, frozenset((key, identity(item)) for key, item in value.items()))
    return (rank, id(value) if rank == _OTHER else value)


def compare(left: Any, right: Any) -> int:
    """Tell which of two values comes first: -1 for the left one, 1 for the right one, 0 for neither.

    NaN comes before all numbers.  Mappings that are equal come together, others in the order they are
    written in, as BSON does.

    Examples
    --------
    >>> compare([1, 2], [1, 3]), compare("a", 5), compare({"a": 1}, {"a": 1.0})
    (-1, 1, 0)
    """
    rank, other = rank_of(left), rank_of(right)
    if rank != other:
        return -1 if rank < other else 1
    if same(left, right) or rank == _OTHER:
        return 0
    if rank == _ARRAY:
        return _compare_items(left, right)
    if rank == _OBJECT:
        return _compare_items(_fields(left), _fields(right))
    if left != left or right != right:
        return -1 if left != left else 1
    return -1 if left < right else 1


def _fields(mapping: Mapping[str, Any]) -> list[list[Any]]:
    """Give what decides between two fields, in turn: the type, the name, the value."""
    return [[rank_of(value), name, value] for name, value in mapping.items()]


def _compare_items(left: Iterable[Any], right: Iterable[Any]) -> int:
    pairs = zip_longest(left, right, fillvalue=MISSING)  # which ranks before everything
    return next(filter(None, (compare(*pair) for pair in pairs)), 0)


def type_names(value: Any) -> tuple[str, ...]:
    """Give the names that MongoDB has for the type of a value.

    Examples
    --------
    >>> type_names(1), type_names(1.5), type_names(2**40), type_names(None)
    (('int', 'number'), ('double', 'number'), ('long', 'number'), ('null',))
    """
    rank = rank_of(value)
    if rank != _NUMBER:
        return {_NULL: ("null",), _STRING: ("string",), _OBJECT: ("object",), _ARRAY: ("array",)}.get(
            rank, ("bool",) if rank == _BOOLEAN else ()
        )
    if isinstance(value, float):
        return ("double", "number")
    return ("int" if -(2**31) <= value < 2**31 else "long", "number")


def is_finite_number(value: Any) -> bool:
    """Tell whether a value is a number other than NaN and the infinities."""
    return rank_of(value) == _NUMBER and (isinstance(value, int) or math.isfinite(value))


def each(values: Iterable[Any]) -> Iterator[Any]:
    """Give values and, of those that are lists, the items as well: a list has a value if an item has.

    Examples
    --------
    >>> list(each([1, [2, 3]]))
    [1, 2, 3, [2, 3]]
    """
    for value in values:
        if isinstance(value, list):
            yield from value
        yield value.items if isinstance(value, Whole) else value


def lists(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Give those of some values that are lists."""
    for value in values:
        if isinstance(value, Whole):
            yield value.items
        elif isinstance(value, list):
            yield value


@dataclass(frozen=True, slots=True)
class Path:
    """A dotted path into documents, such as ``sample.layers.0.name``.

    A mapping is entered by key.  A list is entered through each of its mappings, and by position where the
    part is a number.  Documents may have keys with dots of their own: these are found as well.

    Parameters
    ----------
    text
        The path as it is written.

    Raises
    ------
    InvalidQuery
        The path has more than 100 parts.

    Examples
    --------
    >>> Path("a.b").values({"a": [{"b": 1}, {"b": 2}, 3]})
    [1, 2]
    >>> Path("a.b").values({"a.b": 1})
    [1]
    """

    text: str
    # Of each part: the keys that may begin there, with the number of the part that follows them.
    _ways: tuple[tuple[tuple[str, int], ...], ...] = field(init=False, repr=False, compare=False)
    _positions: tuple[int | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = self.text.split(".", MAX_PARTS)
        count = len(parts)
        if count > MAX_PARTS:
            raise InvalidQuery(
                f"the path {self.text[:60]!r}... has more than {MAX_PARTS} parts, deeper than any document; shorten it"
            )
        ways = tuple(
            tuple((".".join(parts[first:last]), last) for last in range(first + 1, count + 1)) for first in range(count)
        )
        object.__setattr__(self, "_ways", ways)
        object.__setattr__(self, "_positions", tuple(int(part) if _POSITION.match(part) else None for part in parts))

    def values(self, document: Mapping[str, Any]) -> list[Any]:
        """Give the values at the path, `MISSING` for each mapping that should have the key and has not.

        There may be none: a list on the way that holds no mapping gives no value, not even `MISSING`.
        """
        if len(self._ways) == 1:
            return [document.get(self.text, MISSING)]
        found: list[Any] = []
        self._enter(document, 0, found, set())
        return found

    def _enter(self, value: Any, part: int, found: list[Any], seen: set[tuple[int, int]]) -> None:
        """Collect the values that the path leads to from here, beginning with a part of it."""
        if part == len(self._ways):
            found.append(value)
        elif isinstance(value, Mapping):
            self._enter_mapping(value, part, found, seen)
        elif isinstance(value, list):
            self._enter_list(value, part, found, seen)
        else:
            found.append(MISSING)

    def _enter_mapping(
        self, mapping: Mapping[str, Any], part: int, found: list[Any], seen: set[tuple[int, int]]
    ) -> None:
        routes = [(mapping[key], rest) for key, rest in self._ways[part] if key in mapping]
        if not routes:
            found.append(MISSING)
        elif len(routes) == 1:
            self._enter(*routes[0], found, seen)
        else:
            here: list[Any] = []
            for value, rest in routes:
                self._enter(value, rest, here, seen)
            # What one way misses is not missing when another way finds it.
            found += [value for value in here if value is not MISSING] or here[:1]

    def _enter_list(self, items: list[Any], part: int, found: list[Any], seen: set[tuple[int, int]]) -> None:
        if (id(items), part) in seen:  # positions double the ways, and the second finds nothing new
            return
        seen.add((id(items), part))
        for item in items:
            if isinstance(item, Mapping):
                self._enter_mapping(item, part, found, seen)
        position = self._positions[part]
        if position is None or position >= len(items):
            return
        item = items[position]
        if part + 1 == len(self._ways):
            found.append(Whole(item) if isinstance(item, list) else item)
        elif isinstance(item, Mapping | list):
            self._enter(item, part + 1, found, seen)


def value_at(document: Mapping[str, Any], path: Path) -> Any:
    """Give what is at a path: None for nothing, one value as it is, several as a list.

    Examples
    --------
    >>> value_at({"sample": {"name": "LaB6"}}, Path("sample.name"))
    'LaB6'
    """
    if path.text in document:
        return document[path.text]
    there = (value for value in path.values(document) if value is not MISSING)
    found = [value.items if isinstance(value, Whole) else value for value in there]
    return found if len(found) > 1 else next(iter(found), None)
