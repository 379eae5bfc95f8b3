"""Full-text search: what a word is, which words a run has, and what somebody means who types some.

Words are compared without regard to case, accents and typographic variants, so that ``Müller`` finds
``muller`` and ``Fe₂O₃`` finds ``fe2o3``.  There are no stop words, and no word is too short: ``5 K`` counts.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

#: Stands between the words of two values, so that a phrase cannot go from one value into the next.
SEPARATOR = "\x00"

_WORD = re.compile(r"\w+")
_WORD_OR_SEPARATOR = re.compile(r"\w+|\x00")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»‹›＂", '"'))  # noqa: RUF001  the quotes that people type
_TERM = re.compile(
    r"""
    (?P<minus> [-\N{MINUS SIGN}\N{EN DASH}] )?
    (?: (?P<field> [\w.]+ ) : )?
    (?: "(?P<quoted> [^"]* )(?: "\*? | \Z )  |  (?P<bare> [^\s"]+ ) )
    """,
    re.VERBOSE,
)
_OPEN_END = re.compile(r"\w\*+\Z")
# Control characters are escaped as well; they are in no word and do no harm.
_ESCAPED_LETTER = re.compile(r"\\u(?!00[01])[0-9a-f]{4}")


def words_of(text: str) -> list[str]:
    """Split a text into words, each written the way words are compared.

    Examples
    --------
    >>> words_of("Fe₂O₃ on LaB6, x-ray of sample_12"), words_of("STRASSE Straße")
    (['fe2o3', 'on', 'lab6', 'x', 'ray', 'of', 'sample_12'], ['strasse', 'strasse'])
    """
    return _WORD.findall(_fold(text))


def words_in(start: Mapping[str, Any], reason: str) -> list[str]:
    r"""Give the words of a run: of all strings in its start document, and of the reason it stopped for.

    Keys and numbers are left out.

    Parameters
    ----------
    start
        A start document made of JSON's own types.
    reason
        The ``reason`` of its stop document, empty if there is none.

    Returns
    -------
    list of str
        In order, with `SEPARATOR` between the values.

    Examples
    --------
    >>> words_in({"scan_id": 1, "sample": {"name": "Au foil", "tags": ["test"]}}, "")
    ['au', 'foil', '\x00', 'test']
    """
    return _words_below([*start.values(), reason] if reason else start.values())


@dataclass(frozen=True, slots=True)
class Term:
    """Some words to look for.

    Attributes
    ----------
    words : tuple of str
        They have to stand one after the other, anywhere in a run.
    is_open : bool
        The last word may be the beginning of one.
    path : str
        A dotted path, empty if the term names none.
    words_at_path : tuple of str
        It suffices that these stand one after the other in a value at the path, or below it.
    """

    words: tuple[str, ...]
    is_open: bool = False
    path: str = ""
    words_at_path: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """The words that no run lacks that the term is found in."""
        return self.words_at_path if self.path else self.words

    def is_in(self, start: Mapping[str, Any], folded: str) -> bool:
        """Tell whether a run has it.

        Parameters
        ----------
        start
            The run's start document.
        folded
            The strings of the run as `_folded_below` writes them.
        """
        if _has_phrase(folded, self.words, self.is_open):
            return True
        if not self.path:
            return False
        return _has_phrase(_folded_below(_values_at(start, self.path)), self.words_at_path, self.is_open)


@dataclass(frozen=True, slots=True)
class TextSearch:
    """What somebody looks for who typed a text; `parse_text` makes it.

    Attributes
    ----------
    terms : tuple of Term
        Any of them suffices.  Where there are phrases, the terms do not matter.
    phrases : tuple of Term
        Every one of them has to be there.
    excluded : tuple of Term
        None of them may be there.
    is_blank : bool
        Nothing was typed, so nothing is asked for, and every run will do.
    """

    terms: tuple[Term, ...] = ()
    phrases: tuple[Term, ...] = ()
    excluded: tuple[Term, ...] = ()
    is_blank: bool = False
    _needed: tuple[tuple[str, ...], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_needed", tuple(self._groups_needed()))

    def matches(self, start: Mapping[str, Any], reason: str) -> bool:
        """Tell whether a run is one of those looked for.

        Parameters
        ----------
        start
            Its start document, made of JSON's own types.
        reason
            The ``reason`` of its stop document, empty if there is none.

        Examples
        --------
        >>> start = {"sample": {"name": "LaB6"}, "comment": "a good sample"}
        >>> texts = "lab6 bad", '"good lab6"', "good -lab6", "sample.name:la*"
        >>> [parse_text(text).matches(start, "") for text in texts]
        [True, False, False, True]
        """
        if not self._needed:
            return False
        if self.is_blank:
            return True
        folded = _folded_below([*start.values(), reason])
        if any(term.is_in(start, folded) for term in self.excluded):
            return False
        if self.phrases:
            return all(term.is_in(start, folded) for term in self.phrases)
        return not self.terms or any(term.is_in(start, folded) for term in self.terms)

    def possible(self, raw: bytes) -> bool:
        """Tell quickly whether a run may be one of those looked for.

        Parameters
        ----------
        raw
            JSON text, as `codec.dumps` writes it, that has the start document and the reason in it.

        Returns
        -------
        bool
            False only if `matches` says False.
        """
        text = _fold(raw.decode(errors="replace"))
        for words in self._needed:
            for word in words:
                if word not in text:
                    break
            else:
                return True
        return bool(self._needed) and "\\u" in text and _ESCAPED_LETTER.search(text) is not None

    def _groups_needed(self) -> Iterator[tuple[str, ...]]:
        """Give groups of words: a run that is looked for has all words of at least one group."""
        if self.phrases:
            yield tuple(word for term in self.phrases for word in term.needed)
        elif self.terms:
            yield from (term.needed for term in self.terms)
        elif self.excluded or self.is_blank:
            yield ()


def parse_text(text: str) -> TextSearch:
    """Understand what somebody typed.

    ====================  ======================================================================
    ``good sample``       one of the words
    ``"good sample"``     the words one after the other; with quotes, words outside them do not matter
    ``x-ray``             likewise, as are all words without white space between them
    ``-bad``, ``-"a b"``  without these
    ``rob*``              a word that begins so
    ``sample.name:LaB6``  the word in a value at or below this key, or all these words one after the other
    ====================  ======================================================================

    No text is refused.  A blank one asks for nothing, so all runs have it.  One that has characters but
    no word, such as ``"*"``, is in no run.  One that only excludes is in all other runs.

    Examples
    --------
    >>> parse_text('"good sample" -x-ra*')
    TextSearch(terms=(),
               phrases=(Term(words=('good', 'sample'), is_open=False, path='', words_at_path=()),),
               excluded=(Term(words=('x', 'ra'), is_open=True, path='', words_at_path=()),), is_blank=False)
    """
    terms, phrases, excluded = [], [], []
    for match in _TERM.finditer(text.translate(_QUOTES)):
        term = _term(match)
        if not term.words:
            continue
        if match["minus"]:
            excluded.append(term)
        elif match["quoted"] is not None:
            phrases.append(term)
        else:
            terms.append(term)
    return TextSearch(tuple(terms), tuple(phrases), tuple(excluded), is_blank=not text.strip())


def _term(match: re.Match[str]) -> Term:
    """Read a term; one without any word has no words."""
    quoted, path = match["quoted"], match["field"] or ""
    folded = _fold(match["bare"] if quoted is None else quoted)
    words = tuple(_WORD.findall(folded))
    is_open = _OPEN_END.search(folded) is not None or (bool(words) and match[0].endswith('"*'))
    if not path:
        return Term(words, is_open)
    if not words:
        return Term(tuple(words_of(path)))
    return Term((*words_of(path), *words), is_open, path, words)


def _fold(text: str) -> str:
    """Write a text so that words compare equal that people take for the same.

    It works character by character, so a part of a text folds to a part of the folded text.
    """
    if text.isascii():
        return text.lower()
    return _ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()


def _has_phrase(folded: str, words: tuple[str, ...], is_open: bool) -> bool:
    """Tell whether words stand one after the other in a folded text, without splitting all of it into words."""
    position = folded.find(words[0])
    while position >= 0:
        before = folded[position - 1] if position else " "
        if not (before.isalnum() or before == "_") and _phrase(words, is_open).match(folded, position):
            return True
        position = folded.find(words[0], position + 1)
    return False


@lru_cache
def _phrase(words: tuple[str, ...], is_open: bool) -> re.Pattern[str]:
    between = rf"[^\w{SEPARATOR}]+"
    return re.compile(between.join(map(re.escape, words)) + ("" if is_open else r"(?!\w)"))


def _words_below(values: Iterable[Any]) -> list[str]:
    """Give the words of all strings at and below some values, with `SEPARATOR` between the strings."""
    return _WORD_OR_SEPARATOR.findall(_folded_below(values))


def _folded_below(values: Iterable[Any]) -> str:
    """Give all strings at and below some values folded, with `SEPARATOR` between them."""
    strings = []
    # A stack of our own, because a document may be nested deeper than Python likes to call itself.
    waiting = [*values][::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            strings.append(value.replace(SEPARATOR, " "))
        elif isinstance(value, dict):
            waiting.extend(reversed(value.values()))
        elif isinstance(value, list):
            waiting.extend(reversed(value))
    return _fold(SEPARATOR.join(strings))


def _values_at(value: Any, path: str) -> Iterator[Any]:
    """Give what is at a dotted path, through every item of the lists on the way.

    A key may have dots itself.
    """
    waiting = [(value, path)]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, path) for item in value)
        elif isinstance(value, Mapping):
            if path in value:
                yield value[path]
            dot = path.find(".")
            while dot >= 0:
                if path[:dot] in value:
                    waiting.append((value[path[:dot]], path[dot + 1 :]))
                dot = path.find(".", dot + 1)
