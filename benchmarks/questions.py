"""What is asked of many runs: through filebroker, of SQLite's indexes, and of each start document with orjson."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from crowd import leaves
from filebroker import Broker
from startdocs import COMPOUNDS, DETECTORS, PHRASES, PLANS, WORDS, Document

_FREQUENT = [word for word in WORDS[:24] if word not in ("scan", "detector")]  # which are parts of other values too
NEWEST = 10


@dataclass(frozen=True)
class Question:
    """A search that can be varied, so that no answer is one that was given before.

    Attributes
    ----------
    name : str
        What is searched for.
    limit : float
        Seconds that the answer may take among 100,000 runs.
    asked : callable
        Gives the text and the keywords of a search.
    select : callable
        Gives the SQL statement for the rows that answer, and its arguments.
    holds : callable
        Tells whether a start document answers.
    """

    name: str
    limit: float
    asked: Callable[[int], tuple[str | None, dict[str, Any]]]
    select: Callable[[int], tuple[str, tuple[Any, ...]]]
    holds: Callable[[int, Document], bool]

    def count(self, db: Broker, number: int) -> int:
        """Count all answers."""
        text, keywords = self.asked(number)
        return len(db(text, **keywords))

    def newest(self, db: Broker, number: int) -> list[str]:
        """Give the uids of the newest answers, their runs opened."""
        text, keywords = self.asked(number)
        return [header.start["uid"] for header in islice(db(text, **keywords), NEWEST)]

    def count_bare(self, connection: sqlite3.Connection, number: int) -> int:
        """Count all answers with SQLite's indexes."""
        select, values = self.select(number)
        return int(connection.execute(f"SELECT count(*) FROM ({select})", values).fetchone()[0])

    def newest_bare(self, connection: sqlite3.Connection, number: int) -> list[str]:
        """Give the uids of the newest answers with SQLite's indexes."""
        select, values = self.select(number)
        query = f"SELECT start FROM runs WHERE row IN ({select}) ORDER BY row DESC LIMIT {NEWEST}"
        return [orjson.loads(text)["uid"] for (text,) in connection.execute(query, values)]

    def count_read(self, connection: sqlite3.Connection, number: int) -> int:
        """Count all answers by reading every start document."""
        return sum(1 for _ in self._read(connection, number))

    def newest_read(self, connection: sqlite3.Connection, number: int) -> list[str]:
        """Give the uids of the newest answers by reading start documents until there are enough."""
        return [start["uid"] for start in islice(self._read(connection, number), NEWEST)]

    def _read(self, connection: sqlite3.Connection, number: int) -> Iterator[Document]:
        for (text,) in connection.execute("SELECT start FROM runs ORDER BY row DESC"):
            start = orjson.loads(text)
            if self.holds(number, start):
                yield start


def _has_text(pattern: str, start: Document) -> bool:
    found = re.compile(rf"\b{pattern}\b", re.IGNORECASE).search
    return any(isinstance(value, str) and found(value) for _, value in leaves(start))


def _words(words: tuple[str, ...] | list[str], *, quoted: bool) -> dict[str, Any]:
    """Give how words are asked for, in turn."""

    def asked(number: int) -> str:
        word = words[number % len(words)]
        return f'"{word}"' if quoted else word

    return {
        "asked": lambda number: (asked(number), {}),
        "select": lambda number: ("SELECT rowid AS row FROM words WHERE words MATCH ?", (asked(number),)),
        "holds": lambda number, start: _has_text(asked(number).strip('"'), start),
    }


_EQUAL = "SELECT row FROM facts WHERE key = ? AND value = ?"
_BETWEEN = "SELECT row FROM facts WHERE key = ? AND value >= ? AND value < ?"


def _low(number: int) -> float:
    """Give where a range of 10 begins, which 5% of the runs are in."""
    return 110.25 + 17 * number % 170


QUESTIONS = (
    Question("word", 0.07, **_words(_FREQUENT, quoted=False)),
    Question("phrase", 0.07, **_words(PHRASES, quoted=True)),
    Question(
        *("key = value", 0.07),
        asked=lambda number: (None, {"plan_name": PLANS[number % 10]}),
        select=lambda number: (_EQUAL, ("plan_name", PLANS[number % 10])),
        holds=lambda number, start: start.get("plan_name") == PLANS[number % 10],
    ),
    Question(
        *("two conditions", 0.07),
        asked=lambda number: (None, {"plan_name": PLANS[number % 3], "detectors": DETECTORS[number % 10]}),
        select=lambda number: (
            f"{_EQUAL} INTERSECT {_EQUAL}",
            ("plan_name", PLANS[number % 3], "detectors", DETECTORS[number % 10]),
        ),
        holds=lambda number, start: (
            start.get("plan_name") == PLANS[number % 3] and DETECTORS[number % 10] in start.get("detectors", ())
        ),
    ),
    Question(
        *("numeric range", 0.3),
        asked=lambda number: (None, {"ring_current": {"$gte": _low(number), "$lt": _low(number) + 10}}),
        select=lambda number: (_BETWEEN, ("ring_current", _low(number), _low(number) + 10)),
        holds=lambda number, start: _low(number) <= start.get("ring_current", 0) < _low(number) + 10,
    ),
    Question(
        *("^literal regex", 0.3),
        asked=lambda number: (None, {"sample.name": {"$regex": f"^{COMPOUNDS[number % 12]}"}}),
        select=lambda number: (_BETWEEN, ("sample.name", COMPOUNDS[number % 12], f"{COMPOUNDS[number % 12]}~")),
        holds=lambda number, start: start.get("sample", {}).get("name", "").startswith(COMPOUNDS[number % 12]),
    ),
)
BY_NAME = {question.name: question for question in QUESTIONS}
