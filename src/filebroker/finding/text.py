"""Full-text search: what a word is, which words a run has, and what somebody means who types some.

Words are compared without regard to case, accents and typographic variants, so that ``Müller`` finds
``muller`` and ``Fe₂O₃`` finds ``fe2o3``.  There are no stop words, and no word is too short: ``5 K`` counts.

Chinese and Japanese have no blanks between words.  Each of their characters is a word, so that any part of a
text is found as a phrase.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from filebroker.finding.values import MAX_PARTS

#: Stands between the words of two values, so that a phrase cannot go from one value into the next.
SEPARATOR = "\x00"

# Kana and ideographs, of which each is a word.
_IDEOGRAPHS = (
    "\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003fffd"
)
# Vowel signs, tone marks and the like, from Hebrew to Meetei Mayek, which Python does not count as letters.
_MARKS = "".join(
    character
    for character in map(chr, (*range(0x0483, 0x1AB0), *range(0x1B00, 0x1D00), *range(0xA66F, 0xABEE)))
    if unicodedata.category(character).startswith("M")
)
_LETTERS = rf"(?:[^\W{_IDEOGRAPHS}]++|[{_MARKS}]++)++"
# What most words are comes first, because that is faster.
_WORD_OR_SEPARATOR = re.compile(rf"[a-z0-9_]++(?![^\x00-\x7f])|{_LETTERS}|[{_IDEOGRAPHS}]|{SEPARATOR}")
_GAP = re.compile(rf"[^\w{_MARKS}{_IDEOGRAPHS}{SEPARATOR}]*")
_WITHIN_WORD = re.compile(rf"(?<=[\w{_MARKS}])(?<![{_IDEOGRAPHS}])(?![{_IDEOGRAPHS}])[\w{_MARKS}]")
# A phrase of more words is looked for in all words of a text at once: trying it at each word could take for ever.
_MOST_STEPS = 16

# Letters that Unicode does not take apart, and what people type who do not have them on their keyboards.
_STROKED = {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th"}
_PLAIN = (
    _STROKED | {letter.upper(): plain for letter, plain in _STROKED.items()} | {"\N{LATIN SMALL LETTER DOTLESS I}": "i"}
)
_ACCENTS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
# Soft hyphens, joiners and selectors of variants only say how a word looks.
_INVISIBLE = "\u00ad\u200c\u200d\u2060\ufe00-\ufe0f\ufeff"
_LEFT_OUT = re.compile(f"[{_ACCENTS}{_INVISIBLE}{''.join(_PLAIN)}]")
# What may have some of them in it: all but Chinese, Japanese and Korean, which are spared the work.
_COMPOSED = re.compile(r"[^\x00-\x7f\u3000-\u9fff\uac00-\ud7a3]")
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»‹›＂", '"'))  # noqa: RUF001  the quotes that people type
_TERM = re.compile(
    r"""
    (?P<minus> [-\N{MINUS SIGN}\N{EN DASH}] )?
    (?: (?P<field> [^\s":]++ ) : )?
    (?: "(?P<quoted> [^"]* )(?: "\*? | \Z )  |  (?P<bare> [^\s"]+ ) )
    """,
    re.VERBOSE,
)
# The positions in lists that `values.Path` knows.
_POSITION = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")
# Control characters are escaped as well; they are in no word and do no harm.
_ESCAPED_LETTER = re.compile(r"\\u(?!00[01])[0-9a-f]{4}")


def words_of(text: str) -> list[str]:
    """Split a text into words, each written the way words are compared.

    Examples
    --------
    >>> words_of("Fe₂O₃ on LaB6, x-ray of sample_12"), words_of("STRASSE Straße"), words_of("样品良好")
    (['fe2o3', 'on', 'lab6', 'x', 'ray', 'of', 'sample_12'], ['strasse', 'strasse'], ['样', '品', '良', '好'])
    """
    return _words_of_folded(_fold(text))


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
        Those of a value in order, those of outer values first, with `SEPARATOR` between the values.

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
        groups = (tuple(dict.fromkeys(group)) for group in self._groups_needed())
        object.__setattr__(self, "_needed", tuple(dict.fromkeys(groups)))

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

    What stands before a colon is a dotted path, in which a number may be a position in a list.  One of more
    than 100 parts is no path.  Equal terms count once.

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
    return TextSearch(_distinct(terms), _distinct(phrases), _distinct(excluded), is_blank=not text.strip())


def _distinct(terms: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(dict.fromkeys(terms))


def _term(match: re.Match[str]) -> Term:
    """Read a term; one without any word has no words."""
    quoted, path = match["quoted"], match["field"] or ""
    folded = _fold(match["bare"] if quoted is None else quoted)
    words = tuple(_words_of_folded(folded))
    before = tuple(words_of(path))
    if not words:
        return Term(before)
    is_open = match[0].endswith('"*') or (folded.endswith("*") and folded.rstrip("*").endswith(words[-1]))
    if not before or path.count(".") >= MAX_PARTS:
        return Term((*before, *words), is_open)
    return Term((*before, *words), is_open, path, words)


def _words_of_folded(folded: str) -> list[str]:
    return [word for word in _WORD_OR_SEPARATOR.findall(folded) if word != SEPARATOR]


def _fold(text: str) -> str:
    """Write a text so that words compare equal that people take for the same.

    Marks go with the character before them, and other characters are folded each by itself.  So the words of
    a part of a text are in the folded text as well.
    """
    if text.isascii():
        return text.lower()
    if _COMPOSED.search(text):
        text = _LEFT_OUT.sub(_plain, unicodedata.normalize("NFKD", text))
    # Kana get their voicing marks back, and Korean letters become syllables.
    return unicodedata.normalize("NFKC", text).casefold()


def _plain(match: re.Match[str]) -> str:
    return _PLAIN.get(match[0], "")


def _has_phrase(folded: str, words: tuple[str, ...], is_open: bool) -> bool:
    """Tell whether words stand one after the other in a folded text, if possible without splitting all of it."""
    first = words[0]
    position = folded.find(first)
    if position >= 0 and len(words) > _MOST_STEPS:
        return _has_long_phrase(folded, words, is_open)
    while position >= 0:
        if not _WITHIN_WORD.match(folded, position):
            end = _end_of_phrase(folded, position, words)
            if end >= 0 and (is_open or not _WITHIN_WORD.match(folded, end)):
                return True
        # The next one cannot begin before this word ends.
        rest = _WORD_OR_SEPARATOR.match(folded, position)
        position = folded.find(first, rest.end() if rest else position + 1)
    return False


def _end_of_phrase(folded: str, position: int, words: tuple[str, ...]) -> int:
    """Give where a phrase ends that begins at a position with its first word; -1 if it does not go on."""
    position += len(words[0])
    for word in words[1:]:
        gap = _GAP.match(folded, position)
        if gap is None or not folded.startswith(word, gap.end()) or _WITHIN_WORD.match(folded, gap.end()):
            return -1
        position = gap.end() + len(word)
    return position


def _has_long_phrase(folded: str, words: tuple[str, ...], is_open: bool) -> bool:
    row = " ".join(_WORD_OR_SEPARATOR.findall(folded))
    return f" {' '.join(words)}{'' if is_open else ' '}" in f" {row} "


def _words_below(values: Iterable[Any]) -> list[str]:
    """Give the words of all strings at and below some values, with `SEPARATOR` between the strings."""
    return _WORD_OR_SEPARATOR.findall(_folded_below(values))


def _folded_below(values: Iterable[Any]) -> str:
    """Give all strings at and below some values folded, with `SEPARATOR` between them: those of outer values first."""
    strings: list[str] = []
    # A list of our own, because a document may be nested deeper than Python likes to call itself.
    waiting: list[Iterable[Any]] = [values]
    for inner in waiting:
        for value in inner:
            if isinstance(value, str):
                strings.append(value)
            elif isinstance(value, dict):
                waiting.append(value.values())
            elif isinstance(value, list):
                waiting.append(value)
    text = SEPARATOR.join(strings)
    if text.count(SEPARATOR) >= max(1, len(strings)):  # one of them has it inside
        text = SEPARATOR.join(string.replace(SEPARATOR, " ") for string in strings)
    return _fold(text)


def _values_at(value: Any, path: str) -> Iterator[Any]:
    """Give what is at a dotted path, through every item of the lists on the way, or through one by its position.

    A key may have dots itself.
    """
    parts = path.split(".")
    waiting = [(value, 0)]
    # Positions that are keys as well lead to one value on many ways.
    seen = set()
    while waiting:
        value, part = waiting.pop()
        if (id(value), part) in seen:
            continue
        seen.add((id(value), part))
        if part == len(parts):
            yield value
        elif isinstance(value, list):
            waiting.extend((item, part) for item in value)
            if _POSITION.match(parts[part]) and int(parts[part]) < len(value):
                waiting.append((value[int(parts[part])], part + 1))
        elif isinstance(value, Mapping):
            keys = ((".".join(parts[part:last]), last) for last in range(part + 1, len(parts) + 1))
            waiting.extend((value[key], last) for key, last in keys if key in value)
