"""What the index knows of a run: its words, and a term for each value at each path.

A value term is a dotted path, NUL, and a *tail* that says what is there.  `finding.planning` asks for terms
as this module writes them; both change together, and with them the schema of the index.

================  =============================================================================
tail              there is
================  =============================================================================
``!``             something
``[``, ``[[``     a list; a list with a list in it
``z``             None, here or in the list
``b0``, ``b1``    False, True
``n`` + 16 hex    this integer, if no larger than 2**53
``n`` + 6 hex     a number about as large; the digits sort as the numbers do
``n~``            NaN
``s`` + text      this string, if short
``S`` + …         a longer string, or one with half a surrogate pair: how it begins, and a hash
================  =============================================================================
"""

import hashlib
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from filebroker.finding.batches import Entry
from filebroker.finding.text import words_in

#: A run with more value terms, or more words, is not indexed but looked at.
MAX_TERMS = 2_000
MAX_WORDS = 50_000
#: Longer words are cut to this many characters, so that a blob of text does not become a term.
LONGEST_WORD = 64
#: Longer strings are known by their beginnings and a hash only.
LONGEST_STRING, _BEGINNING = 32, 12

#: The only term of a run that is too large to index.
OVERSIZED = "\x00oversized"
#: A run has a key with a dot in it, so that one path may lead to several places.
DOTTED = "\x00dotted"
#: Keys of a start document that are not indexed, because they are answered elsewhere.
UNINDEXED = frozenset({"uid", "time"})

EXISTS, LIST, LIST_IN_LIST, NULL = "!", "[", "[[", "z"
NUMBER, SHORT, LONG = "n", "s", "S"
NAN = NUMBER + "~"
#: Comes after the digits of all numbers, and before NaN.
AFTER_DIGITS = "g"
#: So many digits are given of a number that is no small integer.
COARSE = 6

_LONGEST_PATH = 200
_HASHED = "\x01"
_EXACT_INTEGERS = 2**53
_SIGN = 1 << 63
_ALL_BITS = 2**64 - 1


def entry(row: int, start: Mapping[str, Any], reason: str) -> Entry:
    """Give what the index is to know of a run.

    Parameters
    ----------
    row
        The number that the index is to answer with.
    start
        The start document, made of JSON's own types.
    reason
        The ``reason`` of the stop document, empty if there is none.

    Returns
    -------
    Entry
        Of a run too large to index no words, and `OVERSIZED` as the only value term.
    """
    words, values = words_in(start, reason), value_terms(start)
    if len(words) > MAX_WORDS or len(values) > MAX_TERMS:
        return Entry(row, [], {OVERSIZED})
    return Entry(row, [word[:LONGEST_WORD] for word in words], values)


def value_terms(start: Mapping[str, Any]) -> set[str]:
    r"""Give the value terms of a start document.

    Parameters
    ----------
    start
        It is made of JSON's own types.

    Returns
    -------
    set of str
        More than `MAX_TERMS` and not all of them, if the document has more than that.

    Examples
    --------
    >>> sorted(value_terms({"uid": "84d9ee44", "sample": {"name": "LaB6"}, "motors": ["eta"]}))
    ['motors\x00!', 'motors\x00[', 'motors\x00seta', 'sample\x00!', 'sample.name\x00!', 'sample.name\x00sLaB6']
    """
    terms: set[str] = set()
    waiting = list(_members("", {key: value for key, value in start.items() if key not in UNINDEXED}, terms))
    while waiting and len(terms) <= MAX_TERMS:
        path, value = waiting.pop()
        terms.add(term(path, EXISTS))
        if isinstance(value, dict):
            waiting.extend(_members(path + ".", value, terms))
        elif isinstance(value, list):
            terms.add(term(path, LIST))
            for item in value:
                if isinstance(item, dict):
                    waiting.extend(_members(path + ".", item, terms))
                else:
                    terms.add(term(path, LIST_IN_LIST if isinstance(item, list) else tail_of(item)))
        else:
            terms.add(term(path, tail_of(value)))
    return terms


def term(path: str, tail: str) -> str:
    """Write a value term.

    Parameters
    ----------
    path
        A dotted path.  A key with a dot in it and a path of two keys are the same path.
    tail
        What is there, or how it begins.
    """
    return f"{_stem(path)}{tail}"


def tail_of(value: Any) -> str:
    """Write what a value is that is neither a list nor a mapping.

    Equal values have equal tails, of whatever type the numbers are.

    Examples
    --------
    >>> [tail_of(value) for value in (None, True, 1, 1.0, 1.5, "LaB6")]
    ['z', 'b1', 'nbff0000000000000', 'nbff0000000000000', 'nbff800', 'sLaB6']
    """
    if isinstance(value, str):
        if len(value) <= LONGEST_STRING and is_encodable(value):
            return SHORT + value
        return f"{long_beginning(value)}{zlib.crc32(value.encode(errors='surrogatepass')) & 0xFFF:03x}"
    if value is None:
        return NULL
    if isinstance(value, bool):
        return f"b{value:d}"
    if value != value:
        return NAN
    digits = number_digits(value)
    return NUMBER + (digits if _is_exact_integer(value) else digits[:COARSE])


def long_beginning(text: str) -> str:
    """Write how the tail of a long string begins if the string begins so.

    Examples
    --------
    >>> tail_of("aligned the sample, and it took all night").startswith(long_beginning("aligned the"))
    True
    """
    beginning = text[:_BEGINNING]
    while not is_encodable(beginning):
        beginning = beginning[:-1]
    return LONG + beginning


def is_exact(tail: str) -> bool:
    """Tell whether a tail that `tail_of` gave says all about the value, so that other values have others.

    Examples
    --------
    >>> is_exact(tail_of(12)), is_exact(tail_of(0.1)), is_exact(tail_of("x" * 100))
    (True, False, False)
    """
    return tail[0] in "bs" or (tail[0] == NUMBER and len(tail) > 1 + COARSE)


def number_digits(value: float) -> str:
    """Write a number other than NaN as 16 hexadecimal digits that sort as the numbers do.

    Integers that no float can hold are rounded, or count as infinite.

    Examples
    --------
    >>> number_digits(-1.5) < number_digits(0) < number_digits(1e-300) < number_digits(10**400)
    True
    """
    # Adding zero makes a positive zero of a negative one.
    (bits,) = struct.unpack(">Q", struct.pack(">d", as_float(value) + 0.0))
    return f"{~bits & _ALL_BITS if bits & _SIGN else bits | _SIGN:016x}"


def as_float(number: float) -> float:
    """Give a number as a float; an infinite one for an integer beyond all floats."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def is_encodable(text: str) -> bool:
    """Tell whether a text has no half of a surrogate pair, which no index could keep."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_exact_integer(value: float) -> bool:
    return -_EXACT_INTEGERS <= value <= _EXACT_INTEGERS and (isinstance(value, int) or value.is_integer())


def _members(prefix: str, mapping: Mapping[str, Any], terms: set[str]) -> Iterator[tuple[str, Any]]:
    """Give the paths and values of a mapping's members; note it if a key has a dot."""
    for key, value in mapping.items():
        if "." in key:
            terms.add(DOTTED)
        yield prefix + key, value


@lru_cache(maxsize=8192)
def _stem(path: str) -> str:
    """Write a path as terms begin with it, followed by NUL.

    A path that is long, or has what a term cannot have, is hashed.
    """
    fits = len(path) <= _LONGEST_PATH and is_encodable(path) and len(path.encode()) <= _LONGEST_PATH
    if not fits or "\x00" in path or path.startswith(_HASHED):
        path = _HASHED + hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()[:32]
    return path + "\x00"
