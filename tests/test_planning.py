"""What the index is asked for a query: every run that fulfils it, and only those where the plan says so."""

import bisect
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

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
from filebroker.finding.parsing import parse
from filebroker.finding.planning import MOST_PARTS, OVERSIZED_RUNS, Plan, plan, with_oversized
from filebroker.finding.query import Subject
from filebroker.finding.time_ranges import split_time, time_range
from filebroker.ground.errors import InvalidQuery

Document = dict[str, Any]


class PlainIndex:
    """What an index has to answer, in sets and lists."""

    def __init__(self, subjects: list[Subject]) -> None:
        self.postings: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.texts: list[str] = []
        for row, subject in enumerate(subjects):
            entry = terms.entry(row, subject.start, subject.reason)
            self.texts.append(f" {' '.join(entry.words)} ")
            for kind, texts in (("word", entry.words), ("value", entry.values)):
                for text in texts:
                    text.encode()
                    self.postings[kind, text].add(row)
        self.sorted = sorted(self.postings)
        self.all = set(range(len(subjects)))

    def find(self, wanted: Candidates) -> set[int]:
        match wanted:
            case Everything():
                return self.all
            case Nothing():
                return set()
            case Term(kind, text):
                return self.postings.get((kind, text), set())
            case Beginning(kind, text):
                return self._between((kind, text), lambda key: key[0] == kind and key[1].startswith(text))
            case Between(low, high):
                return self._between(("value", low), lambda key: key <= ("value", high))
            case Phrase(words):
                return {row for row, text in enumerate(self.texts) if f" {' '.join(words)} " in text}
            case AllOf(parts):
                return set.intersection(*map(self.find, parts))
            case AnyOf(parts):
                return set.union(*map(self.find, parts))
            case NoneOf(part):
                return self.all - self.find(part)

    def _between(self, first: tuple[str, str], goes_on: Callable[[tuple[str, str]], bool]) -> set[int]:
        found: set[int] = set()
        for key in self.sorted[bisect.bisect_left(self.sorted, first) :]:
            if not goes_on(key):
                break
            found |= self.postings[key]
        return found


KEYS = ["a", "b", "c", "0", "1", "a.b", "b.c", "", "0.b", "a\x00", "x" * 150, "\ud800"]
WORDS = ["good", "bad", "sample", "x", "ray", "rob", "robot", "müller", "b", "w" * 70, "w" * 70 + "v"]
NUMBERS = [0, 1, 1.0, 2, -1, 1.5, 1.25, -0.0, 0.1, -3.7, 1e300, 2**53, 2**53 + 1, 2.0**53, 2**70, 10**400]
STRANGE = [None, True, False, float("nan"), float("inf"), -float("inf"), "", "\x00", "a\x00b", "\ud800", "a\udfffb"]
TEXTS = ["1", "a", "abc", "abd", "b c", "x" * 40, "x" * 39 + "y", "x" * 32, "é", "a.b", "good sample", "x-ray", "tz"]
SCALARS = NUMBERS + STRANGE + TEXTS
PATTERNS = [
    "^a",
    "^ab?",
    "b",
    "^x+",
    "^1$",
    "^b c",
    "c$",
    "^a|b",
    "^xxx",
    r"^a\.b",
    "^(?i)A",
    "^A(?i)",
    "^x{40}",
    "^é",
    ".",
]
PLAIN_OPERATORS = ["$gt", "$gte", "$lt", "$lte", "$ne", "$eq"]


class Maker:
    """Makes documents and queries, of the same few keys and values so that they meet often."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice

    def few(self, make: Callable[[], Any], least: int = 0, most: int = 3) -> list[Any]:
        return [make() for _ in range(self.random.randint(least, most))]

    def scalar(self) -> Any:
        return self.text() if self.random.random() < 0.2 else self.pick(SCALARS)

    def text(self) -> str:
        return " ".join(self.few(lambda: self.pick(WORDS), 1))

    def key(self) -> str:
        return self.pick(KEYS[:3] if self.random.random() < 0.6 else KEYS)

    def value(self, depth: int = 0) -> Any:
        chance = self.random.random()
        if depth > 2 or chance < 0.5:
            return self.scalar()
        if chance < 0.75:
            return self.few(lambda: self.value(depth + 1))
        return self.mapping(depth + 1)

    def mapping(self, depth: int = 0) -> Document:
        return {self.key(): self.value(depth) for _ in range(self.random.randint(0, 3))}

    def subject(self) -> Subject:
        return Subject({"uid": "u", "time": 5.0, **self.mapping()}, self.pick(["", "", "bad robot"]))

    def path(self) -> str:
        return ".".join([self.key(), *self.few(self.key, 0, 2)])

    def test(self) -> Any:
        """Make what a field is asked for."""
        chance = self.random.random()
        if chance < 0.3:
            return self.value(1)
        if chance < 0.45:
            kind = self.pick([NUMBERS, TEXTS])
            return {self.pick(["$gt", "$gte"]): self.pick(kind), self.pick(["$lt", "$lte"]): self.pick(kind)}
        makers: list[Callable[[], Document]] = [
            lambda: {self.pick(PLAIN_OPERATORS): self.value(1)},
            lambda: {self.pick(PLAIN_OPERATORS): self.scalar()},
            lambda: {self.pick(["$in", "$nin", "$all"]): self.few(self.scalar, 0, 3)},
            lambda: {"$exists": self.pick([True, False])},
            lambda: {"$regex": self.pick(PATTERNS), **self.pick([{}, {}, {"$options": self.pick("ims")}])},
            lambda: {"$not": self.operators()},
            lambda: {"$size": self.random.randint(0, 3)},
            lambda: {"$elemMatch": self.pick([{"$gt": 0}, {"a": 1}, {"b": {"$ne": 0}}, {"$in": [1, "a"]}, {"0": 1}])},
            lambda: {"$type": self.pick(["string", "number", "bool", "array", "null", "object", "date"])},
            lambda: {"$mod": [2, self.random.randint(0, 1)]},
        ]
        return self.pick(makers)()

    def operators(self) -> Document:
        test = self.test()
        is_operators = isinstance(test, dict) and any(key.startswith("$") for key in test)
        return test if is_operators else {"$eq": test}

    def search(self) -> str:
        forms = [
            "{0}",
            "{0} {1}",
            '{0} "{1}"',
            '"{0} {1}"',
            "-{0}",
            "{0} -{1}",
            "x-ray",
            "{0}*",
            '"{0} {1}"*',
            "a:{0}",
            "-a.b:{0}",
            " ",
        ]
        return self.pick(forms).format(self.pick(WORDS)[: self.pick([1, 3, 99])], self.pick(WORDS))

    def query(self, depth: int = 0) -> Document:
        chance = self.random.random()
        if depth < 2 and chance < 0.3:
            return {self.pick(["$or", "$nor", "$and"]): self.few(lambda: self.query(depth + 1), 1)}
        if chance < 0.4:
            return {"$text": {"$search": self.search()}}
        return {self.path(): self.test() for _ in range(self.pick([1, 1, 2]))}


@pytest.mark.parametrize("seed", range(4))
def test_every_run_that_fulfils_a_query_is_a_candidate_and_all_are_if_the_plan_is_exact(seed: int) -> None:
    maker = Maker(seed)
    subjects = [maker.subject() for _ in range(250)]
    index = PlainIndex(subjects)
    counts: Counter[str] = Counter()
    for _ in range(1200):
        asked = maker.query()
        try:
            condition = parse(asked)
        except InvalidQuery:
            counts["refused"] += 1
            continue
        planned = plan(condition)
        found = index.find(planned.candidates)
        fulfil = {row for row, subject in enumerate(subjects) if condition.holds(subject)}
        missed, wrong = fulfil - found, found - fulfil
        assert not missed, (asked, planned, subjects[min(missed)])
        assert not (planned.exact and wrong), (asked, planned, subjects[min(wrong)])
        counts.update(made=1, exact=planned.exact, everything=planned == Plan(Everything(), False), some=bool(fulfil))
    # A plan that proposes everything would pass: the plans have to be worth something.
    assert counts["made"] > 1000
    assert counts["exact"] > 0.15 * counts["made"]
    assert counts["everything"] < 0.25 * counts["made"]
    assert counts["some"] > 0.3 * counts["made"]


SURE = {
    "a short string": {"plan_name": "scan"},
    "a path": {"sample.name": "LaB6"},
    "an integer": {"num_points": 11},
    "a boolean": {"shutter_open": True},
    "several values": {"plan_name": {"$in": ["scan", "count"]}},
    "other values": {"plan_name": {"$nin": ["scan", "count"]}},
    "a key that is there": {"sample": {"$exists": True, "$ne": "LaB6"}},
    "a key that is not": {"sample": {"$exists": False}},
    "a key that is null or not there": {"reason": None},
    "a key that is not null": {"reason": {"$ne": None}},
    "alternatives": {"$or": [{"plan_name": "scan"}, {"num_points": 11}]},
    "neither": {"$nor": [{"plan_name": "scan"}, {"$text": {"$search": "x-ray"}}]},
    "words": {"$text": {"$search": "good sample x-ray rob*"}},
    "a phrase without a word": {"$text": {"$search": '"good sample" -bad'}},
    "any text": {"$text": {"$search": " "}},
    "no word": {"$text": {"$search": "*"}},
    "anything": {},
}
UNSURE = {
    "a long string": {"comment": "x" * 33},
    "a float": {"temp": 5.2},
    "a big integer": {"count": 2**53 + 1},
    "a range": {"temp": {"$gt": 5, "$lt": 6}},
    "not a range": {"temp": {"$not": {"$gt": 5}}},
    "a pattern": {"plan_name": {"$regex": "^sc"}},
    "a position": {"motors.0": "eta"},
    "a mapping": {"sample": {"name": "LaB6"}},
    "null at a path": {"sample.name": None},
    "a word in a field": {"$text": {"$search": "operator:maier"}},
    "a long word": {"$text": {"$search": "w" * 64}},
    "the uid": {"uid": "84d9ee44"},
    "the time": {"time": {"$gt": 0}},
}


@pytest.mark.parametrize("name", SURE)
def test_the_index_alone_answers(name: str) -> None:
    assert plan(parse(SURE[name])).exact


@pytest.mark.parametrize("name", UNSURE)
def test_runs_have_to_be_looked_at_for(name: str) -> None:
    assert not plan(parse(UNSURE[name])).exact


NARROW: list[tuple[Document, Document, Document]] = [
    ({"temp": {"$gt": 5, "$lt": 6}}, {"temp": 5.5}, {"temp": 7}),
    ({"temp": {"$gte": -6, "$lt": -5}}, {"temp": -5.5}, {"temp": -7}),
    ({"name": {"$gte": "a", "$lt": "c"}}, {"name": "b"}, {"name": "d"}),
    ({"name": {"$regex": "^sample_1"}}, {"name": "sample_12"}, {"name": "sample_2"}),
    ({"name": {"$regex": r"^a\.b*"}}, {"name": "a.c"}, {"name": "ab"}),
    ({"motors": ["eta", "phi"]}, {"motors": ["eta", "phi"]}, {"motors": ["eta"]}),
    ({"sample": {"name": "Au", "id": None}}, {"sample": {"name": "Au", "id": None}}, {"sample": {"name": "Fe"}}),
    ({"motors": {"$size": 2}}, {"motors": ["eta", "phi"]}, {"motors": "eta"}),
    ({"$text": {"$search": '"good samp"*'}}, {"comment": "good sample"}, {"comment": "good one"}),
    ({"$text": {"$search": "operator:maier"}}, {"operator": "Bert Maier"}, {"operator": "Ana Silva"}),
    ({"n": {"$in": list(range(MOST_PARTS + 1))}}, {"n": 7}, {"m": 7}),
]


@pytest.mark.parametrize(("asked", "fits", "other"), NARROW)
def test_a_plan_leaves_out_what_the_index_can_tell(asked: Document, fits: Document, other: Document) -> None:
    index = PlainIndex([Subject(fits), Subject(other)])
    assert index.find(plan(parse(asked)).candidates) == {0}


OVERLOOKED: list[tuple[Document, Document]] = [
    ({"a.0.b": 7}, {"a": [[{"b": 7}]]}),
    ({"a.0.0": 7}, {"a": [[7]]}),
    ({"a.b.0": [1]}, {"a": [{"b": [[1]]}]}),
    ({"a": {"$regex": "^x", "$options": "i"}}, {"a": "X"}),
    ({"a": {"$regex": "^x", "$options": "m"}}, {"a": "y\nx"}),
    ({"a": {"$regex": "^x y", "$options": "x"}}, {"a": "xy"}),
    ({"a": {"$in": [None, *range(MOST_PARTS)]}}, {}),
    ({"a": {"$lte": "x" * 40}}, {"a": "x" * 32}),
    ({"a": {"$gte": "x" * 40}}, {"a": "y"}),
    ({"a": {"$lt": "\ud800"}}, {"a": "b"}),
    ({"$text": 'evil "good"'}, {"a": "good"}),
]


@pytest.mark.parametrize(("asked", "document"), OVERLOOKED)
def test_a_plan_does_not_overlook(asked: Document, document: Document) -> None:
    assert parse(asked).holds(Subject(document))
    assert PlainIndex([Subject(document)]).find(plan(parse(asked)).candidates)


def test_keys_with_odd_characters_are_not_taken_for_values() -> None:
    index = PlainIndex([Subject({"a\x00sx": 1}), Subject({"k" * 300: 1}), Subject({"a": "x\x00!"})])
    for asked, expected in (
        ({"a": "x\x00!"}, {2}),
        ({"k" * 300: 1}, {1}),
        ({"k" * 299: 1}, set()),
        ({"a\x00sx": 1}, {0}),
    ):
        assert index.find(plan(parse(asked)).candidates) == expected


FAR_APART = [
    {"a": [1, 10]},
    {"a": [{"b": 1}, {"b": 10}]},
    {"a": {"b": 1}, "a.b": 10},
    {"a": ["a", "z"]},
]


@pytest.mark.parametrize("document", FAR_APART)
def test_two_values_may_satisfy_two_bounds(document: Document) -> None:
    for path in ("a", "a.b"):
        for bounds in ({"$gt": 5, "$lt": 2}, {"$gt": "m", "$lt": "c"}):
            condition = parse({path: bounds})
            found = PlainIndex([Subject(document)]).find(plan(condition).candidates)
            assert found or not condition.holds(Subject(document))


LARGE: dict[str, Document] = {
    "many values": {"a": list(range(3000))},
    "many keys": {f"k{number}": 1 for number in range(1500)},
    "many words": {"a": "word " * 50_001},
}


@pytest.mark.parametrize("name", LARGE)
def test_a_run_too_large_to_index_is_a_candidate_for_everything(name: str) -> None:
    assert terms.entry(7, LARGE[name], "") == (7, [], {terms.OVERSIZED})
    index = PlainIndex([Subject(LARGE[name]), Subject({"a": 1})])
    assert index.find(OVERSIZED_RUNS) == {0}
    for query, expected in (({"a": 1}, {0, 1}), ({"a": 2}, {0}), ({"a": {"$ne": 1}}, {0}), ({}, {0, 1})):
        assert index.find(with_oversized(plan(parse(query)).candidates)) == expected


def test_a_term_is_short_and_can_be_written_whatever_the_document_has() -> None:
    deep: Any = "bottom"
    for _ in range(250):
        deep = {"key" * 50: [deep]}
    strange = {"\ud800" * 300: ["\udfff", "é" * 500], "a\x00b": {"\x01": float("nan")}, "": {"": 10**4000}}
    for document in ({"deep": deep}, strange):
        values = terms.value_terms(document)
        assert max(len(value.encode()) for value in values) < 350
    for word in terms.entry(1, {"blob": "é" * 10_000}, "").words:
        assert len(word.encode()) < 350


def test_numbers_sort_by_their_digits() -> None:
    numbers = [-(10**400), -1e300, -(2**60), -2, -1.5, -1e-300, 0, 1e-300, 1, 1.5, 2, 2**53, 2**60, 1e300, 10**400]
    digits = [terms.number_digits(number) for number in numbers]
    assert digits == sorted(digits)
    assert len(set(digits)) == len(digits)


TIMES: list[tuple[Document, tuple[float, float]]] = [
    ({}, (-float("inf"), float("inf"))),
    ({"time": 5}, (5, 5)),
    ({"time": {"$gt": 5}}, (5, float("inf"))),
    ({"time": {"$gte": 5, "$lt": 9}, "plan_name": "scan"}, (5, 9)),
    ({"$and": [{"time": {"$gte": 5}}, {"$and": [{"time": {"$gte": 7}}, {"time": {"$lte": 8}}]}]}, (7, 8)),
    ({"time": {"$gt": 9, "$lt": 5}}, (9, 5)),
    ({"time": {"$lt": 10**400}}, (-float("inf"), float("inf"))),
    ({"time": {"$gt": "5"}}, (-float("inf"), float("inf"))),
    ({"time": {"$gt": True}}, (-float("inf"), float("inf"))),
    ({"time": {"$gte": float("nan")}}, (-float("inf"), float("inf"))),
    ({"time": {"$not": {"$gt": 5}}}, (-float("inf"), float("inf"))),
    ({"$or": [{"time": 5}, {"plan_name": "scan"}]}, (-float("inf"), float("inf"))),
    ({"time.a": 5, "sample.time": 6}, (-float("inf"), float("inf"))),
]


@pytest.mark.parametrize(("asked", "expected"), TIMES)
def test_the_range_of_times_is_read_off_what_all_runs_must_fulfil(
    asked: Document, expected: tuple[float, float]
) -> None:
    assert time_range(parse(asked)) == expected


def test_no_plan_asks_for_very_much_at_once() -> None:
    many = [str(number) for number in range(2000)]
    searches: list[Document] = [
        {"a": {"$in": many}},
        {"a": {"$all": many}},
        {"a": many},
        {"a": {f"k{value}": 1 for value in many}},
        {"$or": [{"a": value} for value in many]},
        {"$text": " ".join(many)},
        {"$text": f'"{" ".join(many)}"'},
        {"$text": " ".join(f"-{word}" for word in many)},
        {".".join(["0"] * 50): 1},
    ]
    for asked in searches:
        planned = plan(parse(asked))
        assert repr(planned).count("Term(") <= MOST_PARTS + 1
        assert len(repr(planned)) < 100 * MOST_PARTS
        assert not planned.exact


def test_a_query_as_deep_as_one_may_be_is_planned() -> None:
    asked: Document = {"a": 1}
    for _ in range(49):
        asked = {"$nor": [asked]}
    assert plan(parse(asked)) == Plan(NoneOf(Term("value", "a\x00nbff0000000000000")), exact=True)


@pytest.mark.parametrize(
    "wanted",
    [
        {"$gte": 5},
        {"$gt": 5},
        {"$lt": 5.5},
        {"$lte": 5.5},
        {"$gt": 4, "$lt": 6},
        {"$gte": 5, "$lte": 5},
        {"$gt": 2**60},
        {"$gte": "a"},
        {"$gt": True},
        {"$ne": 5},
        {"$in": [5, 6]},
        {"$gt": 4, "$ne": 5},
        5,
    ],
)
def test_what_a_condition_says_of_the_time_may_be_answered_by_a_range(wanted):
    condition = parse({"time": wanted, "plan_name": {"$in": ["scan", "count"]}})
    (low, high), rest = split_time(condition)
    for time in (4, 5, 5.0, math.nextafter(5, 6), math.nextafter(5, 4), 5.5, 6, 2**60, 2**60 + 1, 2**70, -1, math.nan):
        for plan_name in ("scan", "other"):
            subject = Subject({"time": time, "plan_name": plan_name})
            is_inside = (low, high) == (-math.inf, math.inf) or low <= time <= high
            answered = is_inside and (rest is None or rest.holds(subject))
            assert answered == condition.holds(subject), (time, plan_name)


def test_a_time_range_alone_leaves_nothing_to_be_looked_at():
    assert split_time(parse({"time": {"$gte": 5, "$lt": 7}})) == ((5.0, math.nextafter(7.0, 0)), None)
    assert split_time(parse({})) == ((-math.inf, math.inf), None)
