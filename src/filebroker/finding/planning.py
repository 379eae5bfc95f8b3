"""From a query to what the index is asked: which runs may fulfil a condition.

The index knows less than the documents: which values are at a path, but not together with which others, and
not where in a list.  So it proposes candidates.  Where a plan is *exact* they are the answer, and otherwise
each of them has to be looked at.

A run that is too large to index has none of its own terms.  Ask for `with_oversized` of the candidates, ask
for `OVERSIZED_RUNS` besides, and look at each of these, whether the plan is exact or not.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from filebroker.finding import query, terms, text
from filebroker.finding.candidates import (
    AllOf,
    AnyOf,
    Beginning,
    Between,
    Candidates,
    Everything,
    NoneOf,
    Nothing,
    Phrase,
    Term,
)

#: The runs that are too large to index.
OVERSIZED_RUNS = Term("value", terms.OVERSIZED)
#: The index is asked for no more than this many things at once.
MOST_PARTS = 500

# A path of more numbers is not planned: each may be a key or a position, so the ways double.
_MOST_NUMBERS = 4
_LOWER, _UPPER = ("$gt", "$gte"), ("$lt", "$lte")
# What a string begins with that the pattern finds: "^", and characters or escapes that stand for themselves.
_LITERAL = re.compile(r"\^((?:[^\\^$.|?*+()\[\]{}]|\\\W)+)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_HARMLESS_OPTIONS = frozenset("as")
_AFTER_SHORT = chr(ord(terms.SHORT) + 1)


class Plan(NamedTuple):
    """What the index is asked for a condition.

    Attributes
    ----------
    candidates : Candidates
        All indexed runs that fulfil the condition are among these.
    exact : bool
        All of these that are indexed fulfil it.
    """

    candidates: Candidates
    exact: bool


_ALL = Plan(Everything(), exact=True)
_NONE = Plan(Nothing(), exact=True)
_UNKNOWN = Plan(Everything(), exact=False)


def plan(condition: query.Condition) -> Plan:
    r"""Tell what the index is to be asked for a condition.

    Examples
    --------
    >>> plan(query.At("plan_name", query.Equals("scan")))
    Plan(candidates=Term(kind='value', text='plan_name\x00sscan'), exact=True)
    """
    match condition:
        case query.Both(parts=parts):
            return _all_of(map(plan, parts))
        case query.Either(parts=parts):
            return _any_of(map(plan, parts))
        case query.Not(part=part):
            return _none_of(plan(part))
        case query.Words(search=search):
            return _words(search)
        case query.At(path=path, test=test):
            return _at(path, test)
    return _UNKNOWN


def with_oversized(candidates: Candidates) -> Candidates:
    """Add the runs that are too large to index."""
    return _any_of([Plan(candidates, exact=False), Plan(OVERSIZED_RUNS, exact=False)]).candidates


# Putting plans together.


def _all_of(plans: Iterable[Plan]) -> Plan:
    parts: dict[Candidates, None] = {}
    exact = True
    for part in plans:
        match part.candidates:
            case Nothing():
                return _NONE
            case Everything():
                pass
            case AllOf(parts=inner):
                parts.update(dict.fromkeys(inner))
            case candidates:
                parts[candidates] = None
        exact = exact and part.exact
    kept = tuple(itertools.islice(parts, MOST_PARTS))
    exact = exact and len(kept) == len(parts)
    return Plan(AllOf(kept) if len(kept) > 1 else kept[0] if kept else Everything(), exact)


def _any_of(plans: Iterable[Plan]) -> Plan:
    parts: dict[Candidates, None] = {}
    exact = True
    for part in plans:
        match part.candidates:
            case Nothing():
                pass
            case Everything() if part.exact:
                return _ALL
            case AnyOf(parts=inner):
                parts.update(dict.fromkeys(inner))
            case candidates:
                parts[candidates] = None
        exact = exact and part.exact
    if Everything() in parts or len(parts) > MOST_PARTS:
        return _UNKNOWN
    if not parts:
        return _NONE
    return Plan(AnyOf(tuple(parts)) if len(parts) > 1 else next(iter(parts)), exact)


def _none_of(part: Plan) -> Plan:
    """Plan the opposite: what is not among the candidates is known only if they are exact."""
    if not part.exact:
        return _UNKNOWN
    match part.candidates:
        case Nothing():
            return _ALL
        case Everything():
            return _NONE
        case NoneOf(part=opposite):
            return Plan(opposite, exact=True)
        case candidates:
            return Plan(NoneOf(candidates), exact=True)


# Words.


def _words(search: text.TextSearch) -> Plan:
    if search.is_blank:
        return _ALL
    excluded = _all_of(_none_of(_term(term)) for term in search.excluded)
    if search.phrases:
        return _all_of([*map(_term, search.phrases), excluded])
    if search.terms:
        return _all_of([_any_of(map(_term, search.terms)), excluded])
    return excluded if search.excluded else _NONE


def _term(term: text.Term) -> Plan:
    words = tuple(word[: terms.LONGEST_WORD] for word in term.needed)
    exact = not term.path and max(map(len, words)) < terms.LONGEST_WORD
    if not term.is_open:
        return _in_order(words, exact)
    beginning = Plan(Beginning("word", words[-1]), exact)
    return beginning if len(words) == 1 else _all_of([_in_order(words[:-1], exact=False), beginning])


def _in_order(words: tuple[str, ...], exact: bool) -> Plan:
    if len(words) > MOST_PARTS:
        return Plan(Phrase(words[:MOST_PARTS]), exact=False)
    return Plan(Phrase(words) if len(words) > 1 else Term("word", words[0]), exact)


# Values at a path.


@dataclass(frozen=True, slots=True)
class _Place:
    """A path, and what the index calls it.

    Attributes
    ----------
    path : str
        The path as it was asked for.
    names : tuple of str
        The paths that its terms may have.  A number in it may be a position, which no term has.
    """

    path: str
    names: tuple[str, ...]

    def having(self, candidates: Callable[[str], Candidates], exact: bool = False) -> Plan:
        """Plan for the runs that have something at the path.

        Parameters
        ----------
        candidates
            What to ask for at a path of terms.
        exact
            Whether that says all about a place without positions.
        """
        named = [Plan(candidates(name), exact) for name in self.names]
        if len(self.names) == 1:
            return named[0]
        # Positions lead to what is in a list in a list, which has no terms.
        nested = (Plan(_value(name, terms.LIST_IN_LIST), exact=False) for name in self._lists_at(self.names))
        return _any_of([*named, *nested])

    def with_tail(self, tail: str, exact: bool = False) -> Plan:
        """Plan for the runs that have a term with this tail."""
        return self.having(lambda name: _value(name, tail), exact)

    def several_values(self, *, above: bool = False) -> Iterator[Plan]:
        """Plan for the runs that may have more than one value here; with `above`, for reasons above the path only."""
        if "." in self.path:
            yield Plan(Term("value", terms.DOTTED), exact=False)
        for name in self._lists_at(self.names):
            if not (above and name == self.path):
                yield Plan(_value(name, terms.LIST), exact=False)

    @staticmethod
    def _lists_at(names: Iterable[str]) -> list[str]:
        """Give the paths at which a list may be, on the way or at the end."""
        ways = (itertools.accumulate(name.split("."), "{}.{}".format) for name in names)
        return list(dict.fromkeys(itertools.chain.from_iterable(ways)))


def _place(path: str) -> _Place | None:
    """Give a place; None if there are too many names for it."""
    first, *parts = path.split(".")
    numbers = [part.isdecimal() for part in parts]
    if sum(numbers) > _MOST_NUMBERS:
        return None
    choices = [((part,), ()) if number else ((part,),) for part, number in zip(parts, numbers, strict=True)]
    names = (".".join([first, *itertools.chain.from_iterable(choice)]) for choice in itertools.product(*choices))
    return _Place(path, tuple(dict.fromkeys(names)))


def _value(path: str, tail: str) -> Term:
    return Term("value", terms.term(path, tail))


def _at(path: str, test: query.Test) -> Plan:
    place = None if path.partition(".")[0] in terms.UNINDEXED else _place(path)
    return _UNKNOWN if place is None else _test(test, place)


def _test(test: query.Test, place: _Place) -> Plan:
    match test:
        case query.AllTests(tests=tests):
            return _all_tests(tests, place)
        case query.AnyTest(tests=tests):
            return _any_of(_test(each, place) for each in tests)
        case query.Opposite(test=opposite):
            return _none_of(_test(opposite, place))
        case query.Equals(value=value):
            return _equals(value, place)
        case query.OneOf(values=values) if len(values) <= MOST_PARTS:
            return _any_of(_equals(value, place) for value in values)
        case query.OneOf(values=values) if None in values:
            return _UNKNOWN
        case query.Compares(operator=operator, value=value):
            return _compares(operator, value, place)
        case query.Regex(pattern=pattern, options=options):
            return _regex(pattern, options, place)
        case query.HasSize() | query.HasItem():
            return place.with_tail(terms.LIST)
        case query.Remainder():
            return place.having(lambda name: _numbers(name, None, None))
    # Of the others, and of many values, it is known at least that they need something to be there.
    return place.with_tail(terms.EXISTS, exact=isinstance(test, query.Exists))


def _equals(value: Any, place: _Place) -> Plan:
    if value is None:
        return _null(place)
    if isinstance(value, list):
        items = [item for item in value if not isinstance(item, list | dict)]
        whole = _all_of([place.with_tail(terms.LIST), *(place.with_tail(terms.tail_of(item)) for item in items)])
        return _any_of([whole, place.with_tail(terms.LIST_IN_LIST)])
    if isinstance(value, dict):
        inner = ((_place(f"{place.path}.{key}"), item) for key, item in value.items())
        members = [_equals(item, below) for below, item in inner if below is not None]
        return _all_of([place.with_tail(terms.EXISTS), *members])
    tail = terms.tail_of(value)
    return place.with_tail(tail, exact=terms.is_exact(tail))


def _null(place: _Place) -> Plan:
    """Plan for None, which means null or nothing."""
    nothing = Plan(NoneOf(_value(place.path, terms.EXISTS)), exact=True)
    # Where a path leads to several places, there may be something at one and nothing at another.
    return _any_of([nothing, place.with_tail(terms.NULL, exact=True), *place.several_values(above=True)])


def _compares(operator: str, value: Any, place: _Place) -> Plan:
    includes = operator in ("$gte", "$lte")
    if value is None:
        return _null(place) if includes else _NONE
    if isinstance(value, bool):
        return place.having(lambda name: Beginning("value", terms.term(name, "b")))
    if isinstance(value, float) and math.isnan(value):
        return place.with_tail(terms.NAN) if includes else _NONE
    if not isinstance(value, int | float | str):
        return place.with_tail(terms.EXISTS)
    low, high = (value, None) if operator in _LOWER else (None, value)
    return place.having(partial(_between, low=low, high=high))


def _all_tests(tests: tuple[query.Test, ...], place: _Place) -> Plan:
    """Plan for all of some tests, of which two bounds make one range."""
    plans, rest = [], list(tests)
    for kind in (is_ordered_number, _is_text):
        bounds = [test for test in rest if isinstance(test, query.Compares) and kind(test.value)]
        lows = [bound.value for bound in bounds if bound.operator in _LOWER]
        highs = [bound.value for bound in bounds if bound.operator in _UPPER]
        if lows and highs:
            rest = [test for test in rest if test not in bounds]
            narrow = place.having(partial(_between, low=max(lows), high=min(highs)))
            # Of several values, one may be above the lower bound and another below the upper one.
            plans.append(_any_of([narrow, *place.several_values()]))
    return _all_of([*plans, *(_test(test, place) for test in rest)])


def is_ordered_number(value: Any) -> bool:
    """Tell whether a value is a number that others can be greater or less than."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _between(path: str, low: Any, high: Any) -> Candidates:
    """Ask for numbers or strings in a range, of which at least one bound is given."""
    return _texts(path, low, high) if isinstance(low, str) or isinstance(high, str) else _numbers(path, low, high)


def _numbers(path: str, low: float | None, high: float | None) -> Candidates:
    first = "" if low is None else terms.number_digits(low)[: terms.COARSE]
    last = "" if high is None else terms.number_digits(high)[: terms.COARSE]
    # Small integers have more digits than the bound, and come before a letter that follows it.
    return Between(terms.term(path, terms.NUMBER + first), terms.term(path, terms.NUMBER + last + terms.AFTER_DIGITS))


def _texts(path: str, low: str | None, high: str | None) -> Candidates:
    first = low[: terms.LONGEST_STRING] if low is not None and terms.is_encodable(low) else ""
    last = terms.SHORT + high[: terms.LONGEST_STRING] if high is not None and terms.is_encodable(high) else _AFTER_SHORT
    short = Between(terms.term(path, terms.SHORT + first), terms.term(path, last))
    return AnyOf((short, Beginning("value", terms.term(path, terms.LONG))))


def _regex(pattern: str, options: str, place: _Place) -> Plan:
    """Plan for a regular expression: by how a string has to begin, where the expression says so."""
    beginning = _literal_beginning(pattern) if set(options) <= _HARMLESS_OPTIONS else ""
    return place.having(lambda name: _beginning(name, beginning))


def _literal_beginning(pattern: str) -> str:
    r"""Give what a string begins with that a regular expression finds, as far as that is plain to see.

    Examples
    --------
    >>> [_literal_beginning(pattern) for pattern in (r"^x\-ra[yz]", "^ab?", "^a|b", "^a(?i)b")]
    ['x-ra', 'a', '', '']
    """
    match = _LITERAL.match(pattern)
    # An alternative may begin otherwise.  Flags in the pattern count for all of it in some releases of the package.
    if match is None or "|" in pattern or "(?" in pattern:
        return ""
    literal = _ESCAPE.sub(r"\1", match[1])
    may_be_absent = pattern[match.end() : match.end() + 1] in tuple("*?{")
    return literal[:-1] if may_be_absent else literal


def _beginning(path: str, text: str) -> Candidates:
    """Ask for strings that begin so, as far as is known of long ones."""
    long = Beginning("value", terms.term(path, terms.long_beginning(text)))
    tail = terms.tail_of(text)
    return AnyOf((Beginning("value", terms.term(path, tail)), long)) if tail.startswith(terms.SHORT) else long
