"""Reads queries: makes the tree of conditions of a mapping in MongoDB's query language."""

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from filebroker.finding import query as tree, text
from filebroker.finding.values import is_finite_number
from filebroker.ground import codec
from filebroker.ground.errors import InvalidQuery, UnstorableValue

#: A query may be nested so deeply, and no deeper.
MAX_DEPTH = 100

_Place = tuple[str | int, ...]

#: Operators that stand beside the fields.
_DOCUMENT_OPERATORS = ("$and", "$or", "$nor", "$text", "$comment")
_TEXT_OPTIONS = ("$search", "$language", "$caseSensitive", "$diacriticSensitive")
#: The types that BSON has, by their numbers.  JSON's values are of a few of them.
_TYPES: dict[int, str] = {
    -1: "minKey",
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    5: "binData",
    6: "undefined",
    7: "objectId",
    8: "bool",
    9: "date",
    10: "null",
    11: "regex",
    12: "dbPointer",
    13: "javascript",
    14: "symbol",
    15: "javascriptWithScope",
    16: "int",
    17: "timestamp",
    18: "long",
    19: "decimal",
    127: "maxKey",
}
_TYPE_NAMES = ("number", *_TYPES.values())
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "a": re.ASCII}


def parse(query: Mapping[str, Any]) -> tree.Both:
    """Make the tree of conditions of a query.

    Parameters
    ----------
    query
        Fields and what is asked of them: a value, or a mapping of operators.

    Returns
    -------
    Both
        All the conditions.  The regular expressions among them share one budget of time, so parse a query
        anew for each search.

    Raises
    ------
    InvalidQuery
        The query cannot be understood.  The message says where and why.

    Examples
    --------
    >>> condition = parse({"plan_name": "scan", "num_points": {"$gte": 11}})
    >>> condition.holds(tree.Subject({"plan_name": "scan", "num_points": 21}))
    True
    >>> parse({"num_points": {"$gtt": 11}})
    Traceback (most recent call last):
      ...
    filebroker.ground.errors.InvalidQuery: the operator '$gtt' at ['num_points'] is not known; did you mean '$gt'? ...
    """
    _check_depth(query)
    return _Parser().document(query, ())


def _check_depth(query: Any) -> None:
    """Refuse a query that is nested too deeply, level by level so that any can be refused."""
    level = [query]
    for _ in range(MAX_DEPTH):
        # A list that is met twice counts once, so that shared ones do not multiply.
        level = list({id(item): item for value in level for item in _items_of(value) if _is_container(item)}.values())
        if not level:
            return
    raise InvalidQuery(f"the query is nested deeper than {MAX_DEPTH} levels, or contains itself; flatten it")


def _is_container(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset | Mapping)


def _items_of(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if _is_container(value) else ()


class _Parser:
    """Reads one query."""

    def __init__(self) -> None:
        self._budget = tree.Budget()

    def document(self, query: Any, place: _Place) -> tree.Both:
        """Read a mapping of fields."""
        items = _named(query, place)
        return tree.Both(
            tuple(self._condition(name, value, (*place, name)) for name, value in items.items() if name != "$comment")
        )

    def _condition(self, name: str, value: Any, place: _Place) -> tree.Condition:
        match name:
            case "$and":
                return tree.Both(self._branches(value, place))
            case "$or":
                return tree.Either(self._branches(value, place))
            case "$nor":
                return tree.Not(tree.Either(self._branches(value, place)))
            case "$text":
                return tree.Words(text.parse_text(_search_text(value, place)))
            case _ if name.startswith("$"):
                raise _unknown(name, place[:-1], _DOCUMENT_OPERATORS, _FIELD_OPERATORS)
        return tree.At(name, self._test(value, place))

    def _branches(self, value: Any, place: _Place) -> tuple[tree.Condition, ...]:
        if not isinstance(value, list | tuple) or not value:
            raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give a list with at least one mapping in it")
        return tuple(self.document(branch, (*place, position)) for position, branch in enumerate(value))

    def _test(self, value: Any, place: _Place) -> tree.Test:
        """Read what is asked of a field."""
        if isinstance(value, re.Pattern):
            return self._expression(value, None, place)
        if _has_operator(value):
            return self.operators(value, place)
        return tree.Equals(_plain(value, place))

    def operators(self, value: Any, place: _Place) -> tree.Test:
        """Read a mapping of operators."""
        operators = _named(value, place)
        plain = next((name for name in operators if not name.startswith("$")), None)
        if plain is not None:
            raise InvalidQuery(
                f"{_where(place)} mixes operators with the key {plain!r}; write the key as a dotted path of its "
                "own, or the whole mapping as the value of '$eq'"
            )
        if "$options" in operators and "$regex" not in operators:
            raise InvalidQuery(f"{_where(place)} has '$options' without '$regex'; leave it out, or add a '$regex'")
        options = operators.pop("$options", None)
        operators.pop("$comment", None)
        tests = [self._operator(name, item, options, (*place, name)) for name, item in operators.items()]
        return tests[0] if len(tests) == 1 else tree.AllTests(tuple(tests))

    def _operator(self, name: str, value: Any, options: Any, place: _Place) -> tree.Test:
        if name == "$regex":
            return self._expression(value, options, place)
        if name not in _OPERATORS:
            raise _unknown(name, place[:-1], _FIELD_OPERATORS, _DOCUMENT_OPERATORS)
        return _OPERATORS[name](self, value, place)

    def _expression(self, value: Any, options: Any, place: _Place) -> tree.Regex:
        pattern, letters = (value.pattern, _letters(value)) if isinstance(value, re.Pattern) else (value, "")
        pattern = _plain(pattern, place)
        if not isinstance(pattern, str):
            raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give a regular expression as text")
        if options is not None:
            if letters:
                raise InvalidQuery(f"{_where(place)} has flags of its own; leave '$options' out")
            letters = _plain(options, place)
            if not isinstance(letters, str) or not set(letters) <= set("imsx"):
                raise InvalidQuery(
                    f"'$options' beside {_where(place)} is {_shown(options)}; give letters among 'i' (any case), "
                    "'m' (lines), 's' (dot for line ends) and 'x' (comments)"
                )
        return tree.Regex(pattern, "".join(sorted(set(letters))), self._budget)

    def equals(self, value: Any, place: _Place) -> tree.Test:
        """Read the value of ``$eq``."""
        return tree.Equals(_plain(value, place))

    def exists(self, value: Any, place: _Place) -> tree.Test:
        """Read the value of ``$exists``."""
        return tree.Exists() if _plain(value, place) else tree.Opposite(tree.Exists())

    def one_of(self, value: Any, place: _Place) -> tree.Test:
        """Read the list of ``$in``."""
        items = _items(value, place)
        operators = next((item for item in items if _has_operator(item)), None)
        if operators is not None:
            raise InvalidQuery(f"{_where(place)} holds the operators {_shown(operators)}; use '$or' for these")
        expressions = [self._expression(item, None, place) for item in items if isinstance(item, re.Pattern)]
        values = tree.OneOf(tuple(_plain([item for item in items if not isinstance(item, re.Pattern)], place)))
        if not expressions:
            return values
        return tree.AnyTest((values, *expressions) if values.values else tuple(expressions))

    def all_of(self, value: Any, place: _Place) -> tree.Test:
        """Read the list of ``$all``."""
        items = _items(value, place)
        tests = tuple(self._member(item, (*place, position)) for position, item in enumerate(items))
        return tree.AllTests(tests) if tests else tree.OneOf(())

    def _member(self, item: Any, place: _Place) -> tree.Test:
        if _has_operator(item) and set(item) != {"$elemMatch"}:
            raise InvalidQuery(f"{_where(place)} is {_shown(item)}; of the operators only '$elemMatch' may be here")
        return self._test(item, place)

    def negation(self, value: Any, place: _Place) -> tree.Test:
        """Read what ``$not`` turns round."""
        if not isinstance(value, re.Pattern) and not _has_operator(value):
            raise InvalidQuery(
                f"{_where(place)} is {_shown(value)}; give operators or a regular expression, as in "
                "{'$not': {'$gt': 5}}, or use '$ne'"
            )
        return tree.Opposite(self._test(value, place))

    def item(self, value: Any, place: _Place) -> tree.Test:
        """Read what ``$elemMatch`` asks of an item."""
        names = _named(value, place)
        if any(name.startswith("$") and name not in _DOCUMENT_OPERATORS for name in names):
            return tree.HasItem(self.operators(value, place))
        return tree.HasItem(self.document(value, place))

    def size(self, value: Any, place: _Place) -> tree.Test:
        """Read the value of ``$size``."""
        size = _integer(value, place)
        if size is None or size < 0 or size != value:
            raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give the number of items: 0, 1, 2 ...")
        return tree.HasSize(size)

    def remainder(self, value: Any, place: _Place) -> tree.Test:
        """Read the divisor and remainder of ``$mod``."""
        wanted = _plain(value, place)
        match [_integer(item, place) for item in wanted] if isinstance(wanted, list) else []:
            case [int(divisor), int(remainder)] if divisor:
                return tree.Remainder(divisor, remainder)
        raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give [divisor, remainder], the divisor not 0")

    def types(self, value: Any, place: _Place) -> tree.Test:
        """Read the types of ``$type``."""
        wanted = _plain(value, place)
        names = tuple(_type_name(item) for item in (wanted if isinstance(wanted, list) else [wanted]))
        known = tuple(name for name in names if name is not None)
        if not known or len(known) < len(names):
            raise InvalidQuery(
                f"{_where(place)} is {_shown(value)}; give one or more of the types {_listed(_TYPE_NAMES)}, "
                "or their numbers"
            )
        return tree.HasType(known)


def _comparison(name: tree.Comparison) -> Callable[[_Parser, Any, _Place], tree.Test]:
    """Give what reads the value of an operator that compares by order."""

    def read(_: _Parser, value: Any, place: _Place) -> tree.Test:
        wanted = _plain(value, place)
        if wanted is None:  # nothing is greater or less than null
            return tree.Equals(None) if name in ("$gte", "$lte") else tree.OneOf(())
        return tree.Compares(name, wanted)

    return read


#: What reads the value of each operator of a field; only "$regex" and its "$options" are read together.
_OPERATORS: dict[str, Callable[[_Parser, Any, _Place], tree.Test]] = {
    "$eq": _Parser.equals,
    "$ne": lambda parser, value, place: tree.Opposite(parser.equals(value, place)),
    "$gt": _comparison("$gt"),
    "$gte": _comparison("$gte"),
    "$lt": _comparison("$lt"),
    "$lte": _comparison("$lte"),
    "$in": _Parser.one_of,
    "$nin": lambda parser, value, place: tree.Opposite(parser.one_of(value, place)),
    "$exists": _Parser.exists,
    "$not": _Parser.negation,
    "$all": _Parser.all_of,
    "$size": _Parser.size,
    "$elemMatch": _Parser.item,
    "$type": _Parser.types,
    "$mod": _Parser.remainder,
}


_FIELD_OPERATORS = (*_OPERATORS, "$regex", "$options", "$comment")
#: All operators that a query may have.
OPERATORS = tuple(dict.fromkeys((*_DOCUMENT_OPERATORS, *_FIELD_OPERATORS)))


def _has_operator(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(name, str) and name.startswith("$") for name in value)


def _named(value: Any, place: _Place) -> dict[str, Any]:
    """Check a mapping of fields or operators, and give its names as plain strings."""
    if not isinstance(value, Mapping):
        raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give a mapping, as in {{'plan_name': 'scan'}}")
    for name in value:
        if not isinstance(name, str):
            raise InvalidQuery(f"{_where(place)} has the key {_shown(name)}; the keys of a query are strings")
    return {str.__str__(name): item for name, item in value.items()}


def _plain(value: Any, place: _Place) -> Any:
    """Give a value as documents hold it."""
    if isinstance(value, re.Pattern):
        raise InvalidQuery(
            f"{_where(place)} is a regular expression, and no document holds one; use '$regex' or '$not' for it"
        )
    try:
        return codec.plain(value)
    except UnstorableValue as error:
        raise InvalidQuery(f"no run can be found by {_where(place)}: {error}") from None


def _items(value: Any, place: _Place) -> list[Any]:
    """Give what an operator wants to have as a list."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        try:
            items = list(value)
        except TypeError:  # an array without dimensions claims to be iterable
            items = None
        if items is not None:
            _check_depth(items)  # an iterator could not be looked into before
            return items
    raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give a list of values")


def _integer(value: Any, place: _Place) -> int | None:
    """Give a number without its fraction, None if it is no finite number."""
    number = _plain(value, place)
    return int(number) if is_finite_number(number) else None


def _letters(pattern: re.Pattern[Any]) -> str:
    """Give the flags of a Python expression as the letters of ``$options``."""
    return "".join(letter for letter, flag in _FLAGS.items() if pattern.flags & flag)


def _type_name(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value in _TYPE_NAMES else None
    return _TYPES.get(int(value)) if is_finite_number(value) and int(value) == value else None


def _search_text(value: Any, place: _Place) -> str:
    """Read the value of ``$text``."""
    if "$elemMatch" in place:
        raise InvalidQuery(f"{_where(place)} looks for words in a part of a run; take '$text' out of '$elemMatch'")
    options = _named(value, place) if isinstance(value, Mapping) else {"$search": value}
    for name, option in options.items():
        if name not in _TEXT_OPTIONS:
            raise _unknown(name, place, _TEXT_OPTIONS, ())
        if name in ("$caseSensitive", "$diacriticSensitive") and _plain(option, place):
            raise InvalidQuery(
                f"{_where(place)} has {name!r}, and words are compared without regard to case and accents; leave it "
                "out, or use '$regex' on a field"
            )
    wanted = _plain(options.get("$search"), place)
    if not isinstance(wanted, str):
        raise InvalidQuery(f"{_where(place)} is {_shown(value)}; give text, as in {{'$text': {{'$search': 'LaB6'}}}}")
    return wanted


def _unknown(name: str, place: _Place, known: tuple[str, ...], elsewhere: tuple[str, ...]) -> InvalidQuery:
    """Give the error for an operator that has no meaning where it stands."""
    where = f"at {codec.where(place)}" if place else "at the top"
    if name in elsewhere:
        right = "beside the fields" if name in _DOCUMENT_OPERATORS else "under a field, as in {'field': {...}}"
        return InvalidQuery(f"the operator {name!r} {where} is out of place; put it {right}")
    near = difflib.get_close_matches(name[:40], known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return InvalidQuery(f"the operator {name[:40]!r} {where} is not known; {hint}Known here are {_listed(known)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _where(place: _Place) -> str:
    return codec.where(place) if place else "the query"


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return f"a value of type {type(value).__name__}"


def frozen(query: Mapping[str, Any]) -> dict[str, Any]:
    """Give a copy of a query that nobody can change, and that can be gone through more than once.

    Examples
    --------
    >>> frozen({"scan_id": {"$in": iter([1, 2])}})
    {'scan_id': {'$in': [1, 2]}}
    """
    copy: dict[str, Any] = _frozen(query, ())
    return copy


def _frozen(value: Any, within: tuple[int, ...]) -> Any:
    if len(within) > MAX_DEPTH or id(value) in within:  # which `parse` refuses
        return value
    inner = (*within, id(value))
    if isinstance(value, Mapping):
        return {key: _frozen(item, inner) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | Iterator):
        return [_frozen(item, inner) for item in value]
    return value
