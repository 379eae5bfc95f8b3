"""Candidates in words: what the index is asked for, as a scientist can read it."""

import math
import struct
from collections.abc import Iterable, Iterator

from filebroker.finding import terms
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
from filebroker.ground.texts import printable

#: A longer text is cut.
_LONGEST = 200
_LONG_TEXT, _TEXT, _SOMETHING = "a long text", "a text", "something"
#: What tails mean that stand for no value of their own.
_TAILS = {
    terms.EXISTS: f"{_SOMETHING} at {{}}",
    terms.LIST: "a list at {}",
    terms.LIST_IN_LIST: "a list in a list at {}",
    terms.NULL: "{} is None",
    terms.tail_of(False): "{} is False",
    terms.tail_of(True): "{} is True",
    terms.NAN: "{} is NaN",
}
#: What terms mean that are of no path.
_MARKS = {terms.OVERSIZED: "a run too large to index", terms.DOTTED: "a key with a dot in it"}
#: So many digits of a hash end the tail of a long text.
_HASH_DIGITS = 3
# The digits of a number are the bits of a float, turned round so that they sort.
_ALL_DIGITS, _ALL_BITS, _SIGN = 16, 2**64 - 1, 1 << 63
_MOST_PLACES = 16


def describe(candidates: Candidates) -> str:
    r"""Write what the index is asked for in words, no more than a few lines of them.

    Examples
    --------
    >>> describe(AllOf((Term("value", "plan_name\x00sscan"), Term("word", "good"))))
    "plan_name is 'scan', and the word 'good'"
    >>> describe(Between("num_points\x00n" + terms.number_digits(3)[:6], "num_points\x00ng"))
    'num_points from 3 up'
    """
    text = printable(_describe(candidates))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _describe(candidates: Candidates) -> str:
    match candidates:
        case Everything():
            return "everything"
        case Nothing():
            return "nothing"
        case Term(kind, text):
            return f"the word {text!r}" if kind == "word" else _value(text)
        case Beginning(kind, text):
            return f"a word that begins with {text!r}" if kind == "word" else _beginning(*_split(text))
        case Phrase(words):
            return f"the phrase {' '.join(words)!r}"
        case Between(low, high):
            return _range(low, high)
        case NoneOf(part):
            text = _describe(part)
            is_presence = text.startswith(_SOMETHING)
            return text.replace(_SOMETHING, "nothing", 1) if is_presence else f"not ({text})"
        case AllOf(parts):
            return ", and ".join(map(_part, parts))
        case AnyOf(parts):
            return ", or ".join(_without_long(map(_part, parts)))


def _part(candidates: Candidates) -> str:
    """Describe a part of an expression, in brackets if it has parts itself."""
    text = _describe(candidates)
    return f"({text})" if isinstance(candidates, AllOf | AnyOf) and ", " in text else text


def _without_long(texts: Iterable[str]) -> Iterator[str]:
    """Leave out the long texts that are among the texts of any length."""
    kept = dict.fromkeys(texts)
    return (text for text in kept if not text.startswith(_LONG_TEXT) or text.replace(_LONG_TEXT, _TEXT, 1) not in kept)


def _split(term: str) -> tuple[str, str]:
    """Give the path and the tail of a value term."""
    path, _, tail = term.partition("\x00")
    # A path that no term could hold was hashed, and cannot be told.
    return ("a key with a long name" if path.startswith("\x01") else path), tail


def _value(term: str) -> str:
    """Describe what is in one place."""
    if term in _MARKS:
        return _MARKS[term]
    path, tail = _split(term)
    if tail in _TAILS:
        return _TAILS[tail].format(path)
    kind, rest = tail[:1], tail[1:]
    if kind == terms.NUMBER:
        return f"{path} is {'' if terms.is_exact(tail) else 'about '}{_number(rest)}"
    # A long text is known by its beginning, which a hash follows.
    return f"{path} is {rest!r}" if kind == terms.SHORT else _beginning(path, tail[:-_HASH_DIGITS])


def _beginning(path: str, tail: str) -> str:
    """Describe all values whose tails begin so."""
    kind, rest = tail[:1], tail[1:]
    if kind not in (terms.SHORT, terms.LONG):
        return f"True or False at {path}"
    text = _TEXT if kind == terms.SHORT else _LONG_TEXT
    return f"{text} at {path}" + (f" that begins with {rest!r}" if rest else "")


def _range(low: str, high: str) -> str:
    """Describe the numbers or texts from one value term to another."""
    path, first = _split(low)
    last = _split(high)[1]
    is_number = first.startswith(terms.NUMBER)
    write = _number if is_number else repr
    lowest = write(first[1:]) if first[1:] else ""
    # The letter after the last digit is that of a number, and another kind of tail ends the texts.
    bound = last[1:].removesuffix(terms.AFTER_DIGITS) if is_number else last[1:]
    highest = write(bound) if bound else ""
    if lowest and highest:
        return f"{path} from {lowest} to {highest}"
    if lowest or highest:
        return f"{path} from {lowest} up" if lowest else f"{path} up to {highest}"
    return f"{'a number' if is_number else _TEXT} at {path}"


def _number(digits: str) -> str:
    """Write a number of which some digits are known, as briefly as they allow.

    Examples
    --------
    >>> [_number(terms.number_digits(value)[: terms.COARSE]) for value in (0, 3, 0.1, -1200, 1e30, float("-inf"))]
    ['0', '3', '0.1', '-1200', '1e+30', '-inf']
    """
    # In the middle of all numbers that begin with these digits.
    bits = int(f"{digits}8".ljust(_ALL_DIGITS, "0")[:_ALL_DIGITS], 16)
    (value,) = struct.unpack(">d", struct.pack(">Q", bits ^ _SIGN if bits & _SIGN else bits ^ _ALL_BITS))
    if not math.isfinite(value):
        return "-inf" if digits < "8" else "inf"
    rounded = (float(f"{value:.{places}g}") for places in range(1, _MOST_PLACES))
    known = (number for number in (0.0, *rounded) if terms.number_digits(number).startswith(digits))
    return f"{next(known, value):.{_MOST_PLACES}g}"
