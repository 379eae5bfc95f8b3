"""What an index is asked for: an expression of terms that every run in question has.

The index knows two kinds of terms of a run.  A *word* is one of the words of its texts, in order.  A
*value* is a dotted path and a value at it, as `finding.terms` writes them.
"""

from dataclasses import dataclass
from typing import Literal

#: Which of the two kinds a term is of.
Kind = Literal["word", "value"]


@dataclass(frozen=True, slots=True)
class Everything:
    """All runs."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No run."""


@dataclass(frozen=True, slots=True)
class Term:
    """The runs that have a term."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Beginning:
    """The runs that have a term that begins so."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Between:
    """The runs that have a value term from ``low`` to ``high``, both included, in the order of their characters."""

    low: str
    high: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """The runs that have some words one after the other."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """The runs that are in all the parts."""

    parts: tuple["Candidates", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The runs that are in at least one of the parts."""

    parts: tuple["Candidates", ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The runs that are not in the part."""

    part: "Candidates"


Candidates = Everything | Nothing | Term | Beginning | Between | Phrase | AllOf | AnyOf | NoneOf
