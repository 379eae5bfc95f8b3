"""What the index is asked for, in words that a scientist can read."""

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from filebroker import Explanation
from filebroker.finding import terms
from filebroker.finding.candidates import Between, Term
from filebroker.finding.parsing import parse
from filebroker.finding.planning import plan
from filebroker.finding.wording import describe


def worded(**query: Any) -> str:
    return describe(plan(parse(query)).candidates)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "everything"),
        ({"a": {"$in": []}}, "nothing"),
        ({"plan_name": "scan", "$text": "good"}, "plan_name is 'scan', and the word 'good'"),
        ({"$text": '"x-ray mirror" rob* -bad'}, "the phrase 'x ray mirror', and not (the word 'bad')"),
        ({"$text": "good rob*", "a": 1}, "(the word 'good', or a word that begins with 'rob'), and a is 1"),
        ({"num_points": {"$gte": 3, "$lte": 9}}, "num_points from 3 to 9, or a list at num_points"),
        ({"x": {"$gt": 0.1}}, "x from 0.1 up"),
        ({"x": {"$lt": -5.5}}, "x up to -5.5"),
        ({"x": {"$mod": [5, 0]}}, "a number at x"),
        ({"x": 0.1}, "x is about 0.1"),
        ({"x": 1000}, "x is 1000"),
        ({"x": math.inf}, "x is about inf"),
        ({"x": math.nan}, "x is NaN"),
        ({"x": True}, "x is True"),
        ({"x": {"$gt": False}}, "True or False at x"),
        ({"x": None}, "nothing at x, or x is None"),
        ({"x": {"$exists": True}}, "something at x"),
        ({"x": {"$nin": [1, 2]}}, "not (x is 1, or x is 2)"),
        ({"tags": {"$size": 2}}, "a list at tags"),
        ({"plan_name": {"$regex": "can"}}, "a text at plan_name"),
        ({"plan_name": {"$regex": "^can"}}, "a text at plan_name that begins with 'can'"),
        ({"name": {"$gt": "b", "$lt": "c"}}, "name from 'b' to 'c', or a long text at name, or a list at name"),
        ({"comment": "x" * 50}, "a long text at comment that begins with 'xxxxxxxxxxxx'"),
        ({"k" * 300: 1}, "a key with a long name is 1"),
        ({"a.b": 1}, "a.b is 1"),
    ],
    ids=str,
)
def test_what_the_index_is_asked_for_can_be_read(query: dict[str, Any], words: str) -> None:
    assert worded(**query) == words


def test_long_wordings_are_cut() -> None:
    assert len(worded(x={"$in": list(range(400))})) == 203


def test_a_wording_steers_no_terminal() -> None:
    assert worded(**{"a\x1b[2J\nb": "\x1b"}) == "a [2J b is '\\x1b'"


@given(st.floats(allow_nan=False) | st.integers())
def test_a_number_is_one_that_the_index_takes_for_the_same(number: float) -> None:
    digits = terms.number_digits(number)[: terms.COARSE]
    words = describe(
        Between(terms.term("x", terms.NUMBER + digits), terms.term("x", terms.NUMBER + terms.AFTER_DIGITS))
    )
    shown = float(words.removeprefix("x from ").removesuffix(" up"))
    assert terms.number_digits(shown).startswith(digits)


@given(st.text(min_size=1), st.none() | st.booleans() | st.floats() | st.integers() | st.text())
def test_every_term_of_a_document_has_a_wording(path: str, value: Any) -> None:
    for term in terms.value_terms({path: value, "list": [value, [value]]}):
        words = describe(Term("value", term))
        assert words
        assert words.isprintable()
        assert terms.OVERSIZED not in words


def test_an_explanation_shows_the_wording() -> None:
    told = str(Explanation("db()", index=worded(plan_name="scan"), was_asked=True, indexed=500, proposed=3))
    assert "asked for  plan_name is 'scan'\nproposed   3 of the 500 runs" in told
    told = str(Explanation("db()", index="it is not needed"))
    assert "index      it is not needed\n" in told
