"""Full-text search: what scientists type finds what scientists write, and nothing that is typed is refused."""

# ruff: noqa: RUF001

import json
import pickle
from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from filebroker.finding.text import parse_text, words_in, words_of
from filebroker.ground import codec

Document = dict[str, Any]

SAME_WORDS = [
    ("Müller", "muller"),
    ("Mu\u0308ller", "MÜLLER"),
    ("Fe₂O₃", "fe2o3"),
    ("µm", "μm"),
    ("Å", "a"),
    ("STRASSE", "straße"),
    ("ﬁlm", "film"),
    ("Ｌａｂ", "lab"),
    ("ΣΑΣ", "σας"),
    ("İ", "i"),
    ("10⁻³", "10-3"),
]


@pytest.mark.parametrize(("one", "other"), SAME_WORDS)
def test_these_are_the_same_words(one: str, other: str) -> None:
    assert words_of(one)
    assert "".join(words_of(one)) == "".join(words_of(other)).replace("ς", "σ")


WORDS = [
    ("LaB6", ["lab6"]),
    ("sample_12", ["sample_12"]),
    ("x-ray", ["x", "ray"]),
    ("scan_0012.h5", ["scan_0012", "h5"]),
    ("5.2 K", ["5", "2", "k"]),
    ("硅 单晶", ["硅", "单晶"]),
    ("BL01:eta.VAL", ["bl01", "eta", "val"]),
    ("a\x00b", ["a", "b"]),
    ("\ud800 -", []),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_a_text_is_split_into_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_words_of_a_run_are_those_of_its_strings_in_order_and_of_its_reason() -> None:
    start = {"uid": "u", "scan_id": 7, "b": ["x ray", ["y", {"k": "z"}], None, True], "a": {"c": "a\x00b"}}
    expected = ["u", "\x00", "x", "ray", "\x00", "y", "\x00", "z", "\x00", "a", "b"]
    assert words_in(start, "") == expected
    assert words_in(start, "Beam lost") == [*expected, "\x00", "beam", "lost"]


def test_the_words_of_a_deep_document_are_found() -> None:
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [{"k": deep}]
    assert words_in({"deep": deep}, "") == ["bottom"]
    assert parse_text("deep.k.k:bottom").matches({"deep": deep}, "")


START: Document = {
    "uid": "84d9ee44",
    "scan_id": 4711,
    "plan_name": "rel_scan",
    "sample": {"name": "LaB6 powder", "formula": "Fe₂O₃", "layers": [{"name": "Si"}, [{"name": "Gold"}]]},
    "operator": "Müller",
    "comment": "A good x-ray scan of robots at 12:30, 5.2 K; see scan_0012.h5. Ends with bad",
    "next": "sample (硅 单晶) 100 µm",
    "signal": "read gp:m1.VAL",
    "dotted.key": "odd",
    "time": 5.0,
}
FOUND = """
good|GOOD|gööd|"good"|“good”|«good x»|lab6|LaB6|fe2o3|Fe₂O₃|FE₂O3|muller|Müller|x-ray|"x-ray scan"|scan_0012.h5
5.2|5.2 K|"5.2 K"|K|硅|单晶|µm|μm|100|gp:m1|gp:m1.VAL|gp:*|12:30|"12:30"
rob*|robot*|ROB*|x-ra*|scan_00*|"good x-ra"*|"good x-ra*"
nothing good|nothing "good x"|good -evil|good −evil|–evil|-evil -"bad sample"|-"good scan"|-rab*|evil "good" evil
operator:muller|operator:Müller|sample:powder|sample.name:LaB6|sample.name:La*|sample.name:"lab6 powder"
sample.layers.name:si|sample.layers.name:gold|dotted.key:odd|dotted:odd nothing "good"|comment:x-ray|comment:rob*
"good|evil "good x|lost|"beam lost"|-good:evil|- good|good -|good AND|AND good|(good)|[good]|{good}|good*|*good*
good:|:good|good""|"" good|--evil|a|a:
""".strip()
LOST = """
evil|goo|ood|4711|5.0|lab|xray|x-rays|"ray x"|"scan x-ray"|"bad sample"|robo|rabot*|sample.name
sample.name:powde|name:lab6|Sample.name:lab6|sample.name:gold|operator:good|-good|−good|–good|good -lab6
lab6 -"x-ray"|good -rob*|good -sample.name:LaB6|evil -bad|"good" "evil"|"good sample"|good "evil"|"powder fe2o3"
硅单|-operator:muller|"evil|-"good x|-12:30|-gp:m1|*|-|:|"|""|--|- -|-*|-:|()|AND|:evil|scan_00|?|"*"|"-"
--good|robo-*|"lost beam"|-lost|layers|key:odd|12:31|5.3|"5 K"
""".strip()


def listed(table: str) -> list[str]:
    return [text for line in table.split("\n") for text in line.split("|")]


@pytest.mark.parametrize("text", listed(FOUND))
def test_the_run_is_found_by(text: str) -> None:
    search = parse_text(text)
    assert search.matches(START, "beam lost")
    assert search.possible(codec.dumps([START, "beam lost"]))


@pytest.mark.parametrize("text", listed(LOST))
def test_the_run_is_not_found_by(text: str) -> None:
    assert not parse_text(text).matches(START, "beam lost")


@pytest.mark.parametrize("text", ["", " ", "\t\n\u3000"])
def test_a_blank_text_asks_for_nothing(text: str) -> None:
    assert parse_text(text).is_blank
    assert parse_text(text).matches({}, "")
    assert parse_text(text).possible(b"{}")


def test_a_phrase_does_not_go_from_one_value_into_the_next() -> None:
    for start in ({"a": "good", "b": "sample"}, {"a": ["good", "sample"]}, {"a": "good", "b": "", "c": "sample"}):
        assert not parse_text('"good sample"').matches(start, "")
        assert parse_text("good").matches(start, "")


def test_a_search_can_be_compared_and_pickled() -> None:
    search = parse_text('LaB6 "x-ray" -rob* a:b')
    assert search == parse_text('lab6 "X ray" -ROB* a:b') != parse_text("lab6")
    assert pickle.loads(pickle.dumps(search)) == search
    assert pickle.loads(pickle.dumps(search)).possible(b'{"a":"lab6"}') == search.possible(b'{"a":"lab6"}')


POSSIBLE = [
    ("good", {"a": "Good"}, True),
    ("good", {"a": "evil"}, False),
    ("good", {"a": 'evil\n\x00\x1f "\\ C:\\users'}, False),
    ("muller", {"a": "Müller"}, True),
    ("muller", {"a": "Müler"}, False),
    ("muller", {"a": "Müller \ud800"}, True),
    ("good evil", {"a": "good"}, True),
    ('"good evil"', {"a": "good"}, False),
    ("a:good", {"a": "x"}, False),
    ("-good", {"a": "good"}, True),
    ("*", {"a": "good"}, False),
]


@pytest.mark.parametrize(("text", "start", "expected"), POSSIBLE)
def test_what_cannot_match_is_seen_in_the_raw_text(text: str, start: Document, expected: bool) -> None:
    assert parse_text(text).possible(codec.dumps(start)) is expected


def test_text_that_another_program_escaped_is_understood() -> None:
    assert parse_text("muller").possible(json.dumps({"a": "Müller"}).encode())


# Characters that are written, folded or escaped in a way of their own, and those that mean something in a search.
ALPHABET = 'abks2_ ²ßſKÅåé\u0301µμﬁİıŉ硅ガ\u0345\u0390\x00\x1f\n"\\/u0-−–*:.“»\ud800\udfff𝒂'
texts = st.text(ALPHABET, max_size=12) | st.text(max_size=12)
values = st.recursive(texts | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner))
documents = st.dictionaries(texts, values, max_size=5)


@settings(deadline=None)
@given(texts, documents, texts)
@example("kelvin", {"a": "Kelvin"}, "")
@example("fi", {"a": "ﬁ"}, "\ud800")
def test_nothing_that_is_typed_is_refused_and_what_matches_is_possible(text: str, start: Document, reason: str) -> None:
    search = parse_text(text)
    if search.matches(start, reason):
        assert search.possible(codec.dumps([start, reason]))
        assert search.possible(codec.dumps(start) + codec.dumps(reason))


@settings(deadline=None)
@given(documents, st.data())
def test_a_word_of_a_run_finds_it(start: Document, data: st.DataObject) -> None:
    words = [word for word in words_in(start, "") if word != "\x00"]
    if words:
        word = data.draw(st.sampled_from(words))
        for text in (word, f'"{word}"', f"{word[:2]}*", f"nowhere {word}"):
            assert parse_text(text).matches(start, "")
            assert parse_text(text).possible(codec.dumps(start))
        assert not parse_text(f"-{word}").matches(start, "")


@settings(deadline=None)
@given(st.lists(texts, max_size=4))
def test_the_words_of_a_run_are_the_words_of_its_values(strings: list[str]) -> None:
    words = words_in({"a": strings}, "")
    assert [word for word in words if word != "\x00"] == list(chain.from_iterable(map(words_of, strings)))
    assert words.count("\x00") == max(len(strings) - 1, 0)
