"""The query language, as MongoDB's manual describes it and with the few differences that filebroker documents."""

import enum
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from filebroker.finding import parsing, query as tree
from filebroker.finding.parsing import parse
from filebroker.finding.values import MISSING, Path, Whole, compare, identity, same
from filebroker.ground.errors import InvalidQuery, QueryTimeout

NAN, INF = math.nan, math.inf


class Colour(enum.Enum):
    RED = "red"


def holds(query: Any, document: dict[str, Any], reason: str = "") -> bool:
    return parse(query).holds(tree.Subject(document, reason))


# Each row: a query, documents that it finds, documents that it does not.
Row = tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]

CASES: dict[str, list[Row]] = {
    "a query is the conjunction of its fields": [
        ({}, [{}, {"a": 1}], []),
        ({"a": 1, "b": 2}, [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}, {"a": 2, "b": 2}, {}]),
        ({"$comment": "why", "a": 1}, [{"a": 1}], [{"a": 2}]),
    ],
    "equality goes by type and value": [
        ({"a": 1}, [{"a": 1}, {"a": 1.0}], [{"a": True}, {"a": "1"}, {"a": None}, {}, {"a": 2}, {"a": {}}]),
        ({"a": True}, [{"a": True}], [{"a": 1}, {"a": 1.0}, {"a": "True"}, {"a": False}]),
        ({"a": 0}, [{"a": 0}, {"a": 0.0}, {"a": -0.0}], [{"a": False}, {"a": None}, {"a": ""}, {"a": []}]),
        ({"a": -0.0}, [{"a": 0}, {"a": 0.0}], [{"a": 5e-324}]),
        ({"a": "scan"}, [{"a": "scan"}], [{"a": "Scan"}, {"a": "scan "}, {"a": "rel_scan"}]),
        ({"a": ""}, [{"a": ""}], [{"a": None}, {}]),
        ({"a": 2**53 + 1}, [{"a": 2**53 + 1}], [{"a": 2.0**53}, {"a": 2**53}]),
        ({"a": 2**70}, [{"a": 2**70}, {"a": 2.0**70}], [{"a": 2**70 + 1}]),
        ({"a": NAN}, [{"a": float("nan")}, {"a": [1, NAN]}], [{"a": 1}, {"a": None}, {"a": INF}, {}]),
        ({"a": INF}, [{"a": INF}], [{"a": -INF}, {"a": 1e308}]),
        ({"a": {"$eq": 1}}, [{"a": 1}, {"a": [1]}], [{"a": 2}]),
        ({"a": {"$eq": {"$gt": 1}}}, [{"a": {"$gt": 1}}], [{"a": 2}]),
        ({"": 1}, [{"": 1}], [{"a": 1}]),
    ],
    "mappings are equal whatever the order of their keys": [
        ({"a": {"b": 1, "c": 2}}, [{"a": {"c": 2, "b": 1}}, {"a": {"b": 1.0, "c": 2}}], [{"a": {"b": 1}}]),
        ({"a": {"b": 1}}, [{"a": {"b": 1}}, {"a": [{"b": 1}]}], [{"a": {"b": 1, "c": 2}}, {"a": {"b": True}}]),
        ({"a": {"b": {"c": [1, None]}}}, [{"a": {"b": {"c": [1, None]}}}], [{"a": {"b": {"c": [1]}}}]),
        ({"a": {}}, [{"a": {}}, {"a": [{}]}], [{"a": None}, {"a": []}, {}]),
    ],
    "a list matches by any of its items or as a whole": [
        ({"a": 1}, [{"a": [1, 2]}, {"a": [2, 1.0]}], [{"a": []}, {"a": [[1]]}, {"a": [True]}]),
        ({"a": [1, 2]}, [{"a": [1, 2]}, {"a": [[1, 2], 3]}], [{"a": [2, 1]}, {"a": [1, 2, 3]}, {"a": [[[1, 2]]]}]),
        ({"a": []}, [{"a": []}, {"a": [[]]}], [{"a": None}, {}, {"a": [1]}]),
        ({"a": [True]}, [{"a": [True]}], [{"a": [1]}]),
        ({"a": [NAN]}, [{"a": [float("nan")]}], [{"a": [1.0]}]),
    ],
    "null is equal to null and to what is missing": [
        ({"a": None}, [{"a": None}, {}, {"a": [None]}, {"a": [1, None]}], [{"a": 0}, {"a": []}, {"a": False}]),
        ({"a": {"$ne": None}}, [{"a": 0}, {"a": []}], [{"a": None}, {}, {"a": [None]}]),
        ({"a": {"$in": [None, 5]}}, [{}, {"a": None}, {"a": 5}, {"a": [None]}], [{"a": 4}, {"a": []}]),
        ({"a": {"$gte": None}}, [{"a": None}, {}], [{"a": 1}]),
        ({"a": {"$lte": None}}, [{"a": None}, {}], [{"a": -1}]),
        ({"a": {"$gt": None}}, [], [{"a": None}, {}, {"a": 1}]),
        ({"a": {"$lt": None}}, [], [{"a": None}, {}, {"a": 1}]),
        ({"a": {"$all": [None]}}, [{}, {"a": [None]}], [{"a": 1}]),
    ],
    "null on a path through lists": [
        ({"a.b": None}, [{"a": {}}, {"a": 4}, {}, {"a": [{}]}, {"a": [{"b": 1}, {}]}], [{"a": []}, {"a": [1]}]),
        ({"a.b": None}, [{"a": {"b": None}}, {"a": [{"b": None}]}], [{"a": {"b": 1}}, {"a": [{"b": 1}]}]),
        ({"a.b": {"$exists": False}}, [{"a": []}, {"a": [1]}, {"a": {}}, {"a": 4}, {}], [{"a": [{"b": 1}, {}]}]),
        ({"a.b": {"$ne": 1}}, [{"a": []}, {"a": [1]}, {"a": {}}, {"a": 4}, {}, {"a": [{}]}], [{"a": [{}, {"b": 1}]}]),
        ({"a.0": None}, [{"a": [None]}, {"a": {}}, {"a": 1}, {"a": [{}]}], [{"a": []}, {"a": [1]}]),
        ({"a.0.b": None}, [{"a": [{}]}], [{"a": [1]}, {"a": [[]]}, {"a": []}]),
    ],
    "paths enter mappings and lists": [
        ({"a.b": 1}, [{"a": {"b": 1}}, {"a": [{"b": 1}, 5]}], [{"a": {"b": 2}}, {"a": [[{"b": 1}]]}, {"b": 1}]),
        ({"a.b.c": 1}, [{"a": [{"b": [{"c": 1}]}]}, {"a": {"b": {"c": [1]}}}], [{"a": {"b": 1}}]),
        ({"a.0": 1}, [{"a": [1, 2]}, {"a": {"0": 1}}, {"a": [{"0": 1}]}], [{"a": [2, 1]}, {"a": 1}, {"a": []}]),
        ({"a.1": [2, 4]}, [{"a": [5, [2, 4]]}], [{"a": [[2, 4], 5]}]),
        ({"a.1": 2}, [{"a": [5, 2]}, {"a": [5, {"1": [2]}]}], [{"a": [5, [2, 4]]}]),
        ({"a.0.b": 1}, [{"a": [{"b": 1}]}, {"a": [[{"b": 1}]]}], [{"a": [5, {"b": 1}]}, {"a": [[[{"b": 1}]]]}]),
        ({"a.0.0": 1}, [{"a": [[1]]}], [{"a": [1]}, {"a": [[2, 1]]}]),
        ({"a.01": 1}, [{"a": {"01": 1}}], [{"a": [0, 1]}]),
        ({"a.²": 1}, [{"a": {"²": 1}}], [{"a": [0, 0, 1]}]),
        ({"a.-1": 1}, [], [{"a": [1]}]),
        ({"a." + "9" * 5000: 1}, [], [{"a": [1]}]),
        ({"a.": 1}, [{"a": {"": 1}}, {"a.": 1}], [{"a": 1}]),
    ],
    "keys with dots and dollars are found": [
        ({"a.b": 1}, [{"a.b": 1}, {"a.b": 1, "a": {}}, {"a": {"b": 1}, "a.b": 2}], [{"a.b": 2}]),
        ({"a.b.c": 1}, [{"a.b": {"c": 1}}, {"a": {"b.c": 1}}, {"a.b.c": 1}, {"a": [{"b.c": 1}]}], [{"a.c": {"b": 1}}]),
        ({"a.b": None}, [{"a.b": None}, {"a": {}}], [{"a.b": 1, "a": {}}, {"a.b": 1, "a": 5}]),
        (
            {"a.b.c": None},
            [{"a.b": {}, "a": {}}, {"a.b": {}, "a": []}],
            [{"a.b": [], "a": []}, {"a.b": {"c": 1}, "a": 5}],
        ),
        ({"a.$b": 1}, [{"a": {"$b": 1}}, {"a.$b": 1}], [{"a": {"b": 1}}]),
        ({"a.b": {"$exists": True}}, [{"a.b": 0, "a": 1}], [{"a": 1}]),
    ],
    "order compares within a type only": [
        ({"a": {"$gt": 5}}, [{"a": 6}, {"a": 5.5}, {"a": INF}, {"a": [1, 6]}], [{"a": 5}, {"a": "6"}, {"a": True}, {}]),
        ({"a": {"$gte": 5}}, [{"a": 5}, {"a": 5.0}], [{"a": 4.9}, {"a": [[5]]}, {"a": {"b": 6}}]),
        ({"a": {"$lt": 5}}, [{"a": 4}, {"a": -INF}, {"a": [9, 1]}], [{"a": 5}, {"a": None}, {"a": False}, {}]),
        ({"a": {"$lte": 5}}, [{"a": 5}, {"a": -1}], [{"a": 5.1}, {"a": "5"}]),
        ({"a": {"$gt": 2.0**53}}, [{"a": 2**53 + 1}], [{"a": 2**53}]),
        ({"a": {"$gt": "b"}}, [{"a": "c"}, {"a": "é"}, {"a": "ba"}], [{"a": "b"}, {"a": "B"}, {"a": 5}]),
        ({"a": {"$gt": False}}, [{"a": True}], [{"a": False}, {"a": 1}]),
        ({"a": {"$lte": True}}, [{"a": True}, {"a": False}], [{"a": 0}]),
        ({"a": {"$gt": 1, "$lt": 3}}, [{"a": 2}, {"a": [0, 9]}], [{"a": 1}, {"a": 3}, {"a": [0]}]),
    ],
    "NaN is neither greater nor less": [
        ({"a": {"$gt": NAN}}, [], [{"a": NAN}, {"a": 1}]),
        ({"a": {"$lt": NAN}}, [], [{"a": NAN}, {"a": 1}]),
        ({"a": {"$gte": NAN}}, [{"a": NAN}], [{"a": 1}, {"a": INF}]),
        ({"a": {"$lte": NAN}}, [{"a": NAN}], [{"a": 1}, {"a": -INF}]),
        ({"a": {"$lt": 5}}, [], [{"a": NAN}]),
        ({"a": {"$gte": -INF}}, [{"a": -INF}], [{"a": NAN}]),
    ],
    "lists and mappings have BSON's order": [
        (
            {"a": {"$gt": [1, 2]}},
            [{"a": [1, 3]}, {"a": [1, 2, 0]}, {"a": [[2]]}],
            [{"a": [1, 2]}, {"a": [1]}, {"a": 5}],
        ),
        ({"a": {"$lt": [1]}}, [{"a": []}, {"a": [None]}, {"a": [NAN]}], [{"a": ["a"]}, {"a": [1.0]}, {"a": 0}]),
        ({"a": {"$gt": ["z"]}}, [{"a": [{}]}, {"a": [[]]}, {"a": [True]}], [{"a": [9]}]),
        ({"a": {"$gte": [1]}}, [{"a": [1.0]}, {"a": [2]}], [{"a": [0]}]),
        ({"a": {"$gt": {"b": 1}}}, [{"a": {"b": 2}}, {"a": {"c": 0}}, {"a": {"b": 1, "c": 0}}], [{"a": {"b": 1}}]),
        ({"a": {"$gt": {"b": 1}}}, [{"a": {"a": "x"}}], [{"a": {"z": None}}, {"a": {}}]),
        ({"a": {"$gte": {"b": 1, "c": 2}}}, [{"a": {"c": 2, "b": 1}}], [{"a": {"b": 1}}]),
    ],
    "one of several values": [
        ({"a": {"$in": [1, "x"]}}, [{"a": 1.0}, {"a": "x"}, {"a": [0, "x"]}], [{"a": True}, {"a": "1"}, {}]),
        ({"a": {"$in": []}}, [], [{}, {"a": 1}, {"a": []}]),
        ({"a": {"$in": [[1, 2], {"b": 1}]}}, [{"a": [1, 2]}, {"a": [[1, 2]]}, {"a": {"b": 1.0}}], [{"a": 1}]),
        ({"a": {"$in": [NAN, 2**53 + 1]}}, [{"a": NAN}, {"a": 2**53 + 1}], [{"a": 2.0**53}]),
        ({"a": {"$nin": [1, 2]}}, [{"a": 3}, {}, {"a": []}], [{"a": 1}, {"a": [3, 2]}]),
        ({"a": {"$nin": []}}, [{}, {"a": 1}], []),
        ({"a": {"$nin": [None]}}, [{"a": 1}], [{}, {"a": None}]),
        ({"a": {"$exists": True, "$nin": [1]}}, [{"a": 2}], [{}, {"a": 1}]),
        ({"a": {"$in": [re.compile("^s"), 5]}}, [{"a": "scan"}, {"a": 5}, {"a": ["x", "s"]}], [{"a": "count"}, {}]),
        ({"a": {"$in": [re.compile("^s")]}}, [{"a": "scan"}], [{"a": None}]),
        ({"a": {"$nin": [re.compile("^s"), 5]}}, [{"a": "count"}, {}], [{"a": "scan"}, {"a": 5}]),
        ({"a": {"$in": {1, 2}}}, [{"a": 1}], [{"a": 3}]),
        ({"a": {"$in": range(3)}}, [{"a": 2}], [{"a": 3}]),
        ({"a": {"$in": np.arange(3)}}, [{"a": 2}], [{"a": 3}]),
        ({"a": {"$in": {"x": 0}.keys()}}, [{"a": "x"}], [{"a": 0}]),
    ],
    "values of numpy and Python become JSON's": [
        ({"a": np.float64(1)}, [{"a": 1}], [{"a": True}]),
        ({"a": np.bool_(True)}, [{"a": True}], [{"a": 1}]),
        ({"a": np.array([1, 2])}, [{"a": [1, 2]}], [{"a": [1]}]),
        ({"a": (1, 2)}, [{"a": [1, 2]}], [{"a": 1}]),
        ({"a": Colour.RED}, [{"a": "red"}], [{"a": "RED"}]),
        ({"a": {"$gt": np.int32(1)}}, [{"a": 2}], [{"a": 1}]),
        ({"a": {1: 2}}, [{"a": {"1": 2}}], [{"a": {}}]),
    ],
    "a field exists even when it is null": [
        ({"a": {"$exists": True}}, [{"a": None}, {"a": 0}, {"a": []}], [{}, {"b": 1}]),
        ({"a": {"$exists": 0}}, [{}], [{"a": None}]),
        ({"a": {"$exists": "yes"}}, [{"a": 1}], [{}]),
        ({"a.0": {"$exists": True}}, [{"a": [None]}, {"a": [[]]}], [{"a": []}, {"a": {}}]),
    ],
    "regular expressions are found in strings": [
        ({"a": {"$regex": "an"}}, [{"a": "scan"}, {"a": ["x", "an"]}], [{"a": "SCAN"}, {"a": 5}, {"a": None}, {}]),
        ({"a": {"$regex": "^sc"}}, [{"a": "scan"}], [{"a": "rel_scan"}, {"a": "x\nscan"}]),
        ({"a": {"$regex": "SC", "$options": "i"}}, [{"a": "scan"}], [{"a": "x"}]),
        ({"a": {"$options": "m", "$regex": "^b$"}}, [{"a": "a\nb"}], [{"a": "ab"}]),
        ({"a": {"$regex": "a.b", "$options": "s"}}, [{"a": "a\nb"}], [{"a": "ab"}]),
        ({"a": {"$regex": "a b # c", "$options": "x"}}, [{"a": "ab"}], [{"a": "a b"}]),
        ({"a": {"$regex": ""}}, [{"a": ""}, {"a": "x"}], [{"a": 1}, {}]),
        ({"a": {"$regex": "^1$"}}, [{"a": "1"}], [{"a": 1}]),
        ({"a": {"$regex": r"^\w$"}}, [{"a": "é"}], [{"a": "-"}]),
        ({"a": re.compile(r"^\w$", re.A)}, [{"a": "e"}], [{"a": "é"}]),
        ({"a": re.compile("SC", re.I)}, [{"a": "scan"}], [{"a": "x"}]),
        ({"a": re.compile("a.b", re.S | re.I)}, [{"a": "A\nb"}], [{"a": "ab"}]),
        ({"a": {"$regex": re.compile("sc"), "$options": "i"}}, [{"a": "SCAN"}], [{"a": "x"}]),
        ({"a": {"$not": re.compile("^s")}}, [{"a": "count"}, {"a": 5}, {}], [{"a": "scan"}, {"a": ["x", "s"]}]),
        ({"a": {"$not": {"$regex": "^S", "$options": "i"}}}, [{"a": "count"}], [{"a": "scan"}]),
        ({"a": {"$all": [re.compile("^s"), re.compile("n$")]}}, [{"a": "scan"}, {"a": ["s", "n"]}], [{"a": "s"}]),
        ({"a": {"$regex": "^s", "$ne": "scan"}}, [{"a": "sum"}], [{"a": "scan"}]),
    ],
    "and, or, nor, not": [
        ({"$and": [{"a": 1}, {"b": 2}]}, [{"a": 1, "b": 2}], [{"a": 1}]),
        ({"$or": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}], [{}, {"a": 2, "b": 1}]),
        ({"$nor": [{"a": 1}, {"b": 2}]}, [{}, {"a": 2}], [{"a": 1}, {"b": 2}]),
        ({"$or": ({"a": 1}, {}), "c": 3}, [{"c": 3}], [{"a": 1}]),
        ({"$and": [{"$or": [{"a": 1}, {"a": 2}]}, {"$nor": [{"b": 1}]}]}, [{"a": 2}], [{"a": 2, "b": 1}, {"a": 3}]),
        ({"a": {"$ne": 1}}, [{"a": 2}, {}, {"a": True}, {"a": [[1]]}], [{"a": 1}, {"a": [1, 2]}]),
        ({"a": {"$not": {"$gt": 5}}}, [{"a": 5}, {"a": "x"}, {}], [{"a": 6}, {"a": [1, 6]}]),
        ({"a": {"$not": {"$not": {"$gt": 5}}}}, [{"a": 6}], [{"a": 5}, {}]),
        ({"a": {"$not": {"$gt": 1, "$lt": 3}}}, [{"a": 1}, {"a": 3}], [{"a": 2}]),
        ({"a": {"$gt": 1, "$comment": "x"}}, [{"a": 2}], [{"a": 1}]),
    ],
    "all the values": [
        ({"a": {"$all": [1, 2]}}, [{"a": [2, 1, 3]}, {"a": [1, 2]}], [{"a": [1]}, {"a": 1}, {}]),
        ({"a": {"$all": [1]}}, [{"a": 1}, {"a": [1]}], [{"a": 2}]),
        ({"a": {"$all": []}}, [], [{"a": []}, {}, {"a": 1}]),
        ({"a": {"$all": [[1, 2]]}}, [{"a": [1, 2]}, {"a": [[1, 2]]}], [{"a": [2, 1]}]),
        ({"a": {"$all": [{"b": 1}]}}, [{"a": [{"b": 1}]}], [{"a": [{"b": 2}]}]),
        (
            {"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}},
            [{"a": [{"b": 1}, {"b": 2}]}],
            [{"a": [{"b": 1}]}, {"a": {"b": 1}}],
        ),
    ],
    "the size of a list": [
        ({"a": {"$size": 2}}, [{"a": [1, 2]}, {"a": [[], []]}], [{"a": [1]}, {"a": "ab"}, {"a": [[1, 2]]}, {}]),
        ({"a": {"$size": 0}}, [{"a": []}], [{"a": [[]]}, {"a": {}}, {}, {"a": None}]),
        ({"a": {"$size": 2.0}}, [{"a": [1, 2]}], [{"a": 2}]),
        ({"a.0": {"$size": 2}}, [{"a": [[1, 2]]}], [{"a": [1, 2]}]),
        ({"a.b": {"$size": 1}}, [{"a": [{"b": [1]}]}], [{"a": [{"b": 1}]}]),
    ],
    "an item of a list": [
        ({"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, [{"a": [0, 2]}], [{"a": [0, 9]}, {"a": 2}, {"a": [[2]]}, {}]),
        ({"a": {"$elemMatch": {"b": 1, "c": 2}}}, [{"a": [{"b": 1, "c": 2}]}], [{"a": [{"b": 1}, {"c": 2}]}]),
        ({"a": {"$elemMatch": {"b": 1}}}, [{"a": [5, {"b": [1]}]}], [{"a": {"b": 1}}, {"a": [[{"b": 1}]]}]),
        ({"a": {"$elemMatch": {"b.c": 1}}}, [{"a": [{"b": {"c": 1}}]}], [{"a": [{"b": 1}]}]),
        ({"a": {"$elemMatch": {}}}, [{"a": [{}]}, {"a": [[]]}], [{"a": []}, {"a": [1]}]),
        ({"a": {"$elemMatch": {"0": 1}}}, [{"a": [[1, 2]]}, {"a": [{"0": 1}]}], [{"a": [1]}, {"a": [[2, 1]]}]),
        ({"a": {"$elemMatch": {"b": None}}}, [{"a": [{}]}, {"a": [[1]]}], [{"a": [{"b": 1}]}, {"a": [None]}]),
        ({"a": {"$elemMatch": {"$eq": None}}}, [{"a": [None]}], [{"a": []}, {"a": None}, {}]),
        ({"a": {"$elemMatch": {"$ne": 1}}}, [{"a": [1, 2]}], [{"a": [1]}, {"a": []}]),
        ({"a": {"$elemMatch": {"$elemMatch": {"$gt": 1}}}}, [{"a": [[2]]}], [{"a": [2]}, {"a": [[1]]}]),
        ({"a": {"$elemMatch": {"$size": 1}}}, [{"a": [[7]]}], [{"a": [7]}]),
        ({"a": {"$elemMatch": {"$in": [1, "x"]}}}, [{"a": ["x"]}], [{"a": "x"}]),
        ({"a": {"$elemMatch": {"$or": [{"b": 1}, {"c": 1}]}}}, [{"a": [{"c": 1}]}], [{"a": [{"c": 2}]}]),
        ({"a": {"$not": {"$elemMatch": {"b": 1}}}}, [{"a": []}, {}], [{"a": [{"b": 1}]}]),
        ({"a": {"$elemMatch": {"$regex": "^s"}}}, [{"a": ["scan"]}], [{"a": "scan"}]),
    ],
    "types by name and number": [
        ({"a": {"$type": "number"}}, [{"a": 1}, {"a": 1.5}, {"a": 2**70}, {"a": ["x", 1]}], [{"a": True}, {"a": "1"}]),
        ({"a": {"$type": "double"}}, [{"a": 1.0}, {"a": NAN}], [{"a": 1}]),
        ({"a": {"$type": 1}}, [{"a": 1.0}], [{"a": 1}]),
        ({"a": {"$type": "int"}}, [{"a": 2**31 - 1}, {"a": -(2**31)}], [{"a": 2**31}, {"a": 1.0}, {"a": True}]),
        ({"a": {"$type": "long"}}, [{"a": 2**31}, {"a": 2**70}], [{"a": 1}]),
        ({"a": {"$type": ["bool", 2.0]}}, [{"a": True}, {"a": "x"}], [{"a": 1}]),
        ({"a": {"$type": "array"}}, [{"a": []}, {"a": [1]}, {"a": [[1]]}], [{"a": {}}, {}]),
        ({"a": {"$type": "object"}}, [{"a": {}}, {"a": [{}]}], [{"a": []}]),
        ({"a": {"$type": "null"}}, [{"a": None}, {"a": [None]}], [{}]),
        ({"a": {"$type": "date"}}, [], [{"a": "2025-01-01"}, {"a": 0}, {}]),
        ({"a": {"$type": [-1, 127, "decimal", "objectId"]}}, [], [{"a": 1}]),
    ],
    "remainders have the sign of the number": [
        ({"a": {"$mod": [3, 1]}}, [{"a": 7}, {"a": 7.9}, {"a": [3, 4]}], [{"a": -7}, {"a": "7"}, {"a": True}, {}]),
        ({"a": {"$mod": [3, -1]}}, [{"a": -7}, {"a": -1.5}], [{"a": 7}]),
        ({"a": {"$mod": [-3, 1]}}, [{"a": 7}], [{"a": -7}]),
        ({"a": {"$mod": [2.9, 0.5]}}, [{"a": 4}], [{"a": 5}]),
        ({"a": {"$mod": [2, 1]}}, [{"a": 2**80 + 1}], [{"a": NAN}, {"a": INF}, {"a": None}]),
    ],
}

ROWS = [
    pytest.param(query, document, expected, id=f"{group}: {query!r:.80} on {document!r:.60}")
    for group, rows in CASES.items()
    for query, *answers in rows
    for documents, expected in zip(answers, (True, False), strict=True)
    for document in documents
]


@pytest.mark.parametrize(("query", "document", "expected"), ROWS)
def test_a_query_finds_what_mongodb_would_find(query: Any, document: dict[str, Any], expected: bool) -> None:
    assert holds(query, document) is expected


@pytest.mark.parametrize(
    "query",
    [
        {"$text": {"$search": "LaB6"}},
        {"$text": "LaB6"},
        {"$text": {"$search": "lab6", "$language": "en", "$caseSensitive": False, "$diacriticSensitive": False}},
        {"$or": [{"$and": [{"$text": "LaB6"}]}, {"a": 1}]},
        {"$nor": [{"$text": "nothing"}]},
        {"$text": "aborted"},
    ],
)
def test_words_are_found_at_the_level_of_documents(query: dict[str, Any]) -> None:
    assert holds(query, {"sample": {"name": "LaB6"}}, reason="aborted by user")


def nested(depth: int, innermost: Any, key: str) -> Any:
    for _ in range(depth):
        innermost = {key: [innermost]} if key == "$and" else {key: innermost}
    return innermost


def selfish() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


REFUSALS: list[tuple[Any, str]] = [
    ("scan", "the query is 'scan'; give a mapping"),
    ({1: 2}, "the query has the key 1; the keys of a query are strings"),
    ({"a": {"$gt": 1, 2: 3}}, "['a'] has the key 2"),
    ({"a": {"$gtt": 1}}, "the operator '$gtt' at ['a'] is not known; did you mean '$gt'? Known here are '$eq'"),
    ({"$where": "1"}, "the operator '$where' at the top is not known; Known here are '$and'"),
    ({"$an": []}, "did you mean '$and'?"),
    ({"$gt": 5}, "the operator '$gt' at the top is out of place; put it under a field"),
    ({"a": {"$or": [{}]}}, "the operator '$or' at ['a'] is out of place; put it beside the fields"),
    ({"$and": [{"b": {"$near": 1}}]}, "the operator '$near' at ['$and'][0]['b'] is not known"),
    ({"a": {"$gt": 1, "b": 2}}, "['a'] mixes operators with the key 'b'"),
    ({"a": {"b": 2, "$gt": 1}}, "['a'] mixes operators with the key 'b'"),
    ({"$and": []}, "['$and'] is []; give a list with at least one mapping"),
    ({"$or": {"a": 1}}, "['$or'] is {'a': 1}; give a list"),
    ({"$nor": [1]}, "['$nor'][0] is 1; give a mapping"),
    ({"a": {"$in": 5}}, "['a']['$in'] is 5; give a list"),
    ({"a": {"$nin": "ab"}}, "['a']['$nin'] is 'ab'; give a list"),
    ({"a": {"$all": {"b": 1}}}, "['a']['$all'] is {'b': 1}; give a list"),
    ({"a": {"$in": np.array(5)}}, "['a']['$in'] is array(5); give a list"),
    ({"a": {"$in": [{"$gt": 1}]}}, "use '$or' for these"),
    ({"a": {"$all": [{"$gt": 1}]}}, "of the operators only '$elemMatch' may be here"),
    ({"a": {"$not": 5}}, "['a']['$not'] is 5; give operators or a regular expression"),
    ({"a": {"$not": {}}}, "['a']['$not'] is {}; give operators"),
    ({"a": {"$elemMatch": 5}}, "['a']['$elemMatch'] is 5; give a mapping"),
    ({"a": {"$elemMatch": {"$text": "x"}}}, "take '$text' out of '$elemMatch'"),
    ({"a": {"$size": -1}}, "['a']['$size'] is -1; give the number of items"),
    ({"a": {"$size": 1.5}}, "['a']['$size'] is 1.5"),
    ({"a": {"$size": True}}, "['a']['$size'] is True"),
    ({"a": {"$size": NAN}}, "['a']['$size'] is nan"),
    ({"a": {"$mod": [0, 1]}}, "['a']['$mod'] is [0, 1]; give [divisor, remainder], the divisor not 0"),
    ({"a": {"$mod": [0.5, 1]}}, "the divisor not 0"),
    ({"a": {"$mod": [3]}}, "give [divisor, remainder]"),
    ({"a": {"$mod": [INF, 1]}}, "give [divisor, remainder]"),
    ({"a": {"$mod": [True, 1]}}, "give [divisor, remainder]"),
    ({"a": {"$type": "text"}}, "['a']['$type'] is 'text'; give one or more of the types 'number'"),
    ({"a": {"$type": []}}, "give one or more of the types"),
    ({"a": {"$type": True}}, "give one or more of the types"),
    ({"a": {"$type": 0}}, "give one or more of the types"),
    ({"a": {"$options": "i"}}, "['a'] has '$options' without '$regex'"),
    ({"a": {"$regex": "a", "$options": "q"}}, "'$options' beside ['a']['$regex'] is 'q'; give letters among 'i'"),
    ({"a": {"$regex": "a", "$options": "a"}}, "give letters among 'i'"),
    ({"a": {"$regex": re.compile("a", re.I), "$options": "m"}}, "has flags of its own"),
    ({"a": {"$regex": 5}}, "['a']['$regex'] is 5; give a regular expression as text"),
    ({"a": {"$regex": "("}}, "'(' is not a regular expression: missing )"),
    ({"a": {"$regex": "(?V1)a"}}, "is not a regular expression"),
    ({"a": {"$regex": "(" * 5000 + ")" * 5000}}, "nested too deeply"),
    ({"a": {"$regex": "a" * 10_001}}, "10,001 characters is too long"),
    ({"a": re.compile(b"a")}, "no run can be found by ['a']"),
    ({"a": {"$eq": re.compile("a")}}, "use '$regex' or '$not'"),
    ({"a": {"$gt": re.compile("a")}}, "use '$regex' or '$not'"),
    ({"a": {"$ne": re.compile("a")}}, "use '$regex' or '$not'"),
    ({"a": b"bytes"}, "no run can be found by ['a']: the value cannot be stored"),
    ({"a": {"$in": [object()]}}, "no run can be found by ['a']['$in']: [0] cannot be stored"),
    ({"$text": 5}, "['$text'] is 5; give text"),
    ({"$text": {}}, "give text"),
    ({"$text": {"$search": "x", "$caseSensitive": True}}, "has '$caseSensitive', and words are compared without"),
    ({"$text": {"$search": "x", "$diacriticSensitive": True}}, "has '$diacriticSensitive'"),
    ({"$text": {"$serch": "x"}}, "did you mean '$search'?"),
    ({"a": {"$text": "x"}}, "the operator '$text' at ['a'] is out of place"),
    ({"$and": 10**5000}, "['$and'] is a value of type int"),
    ({".".join("a" * 101): 1}, "has more than 100 parts"),
    (nested(1000, {"a": 1}, "$and"), "the query is nested deeper than 100 levels"),
    (nested(100_000, {"a": 1}, "$not"), "the query is nested deeper than 100 levels"),
    ({"a": selfish()}, "nested deeper than 100 levels, or contains itself"),
    ({"a": {"$in": iter([selfish()])}}, "nested deeper than 100 levels"),
    ({"a": {"$all": iter([nested(1000, 1, "$elemMatch")])}}, "nested deeper than 100 levels"),
]


@pytest.mark.parametrize(("query", "words"), [pytest.param(*row, id=row[1]) for row in REFUSALS])
def test_what_cannot_be_understood_is_refused_with_its_place_and_a_way_out(query: Any, words: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        parse(query)
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    ("key", "document"),
    [("$not", {"a": 5}), ("$elemMatch", {"a": [[5]]}), ("b", {"a": 5})],
)
def test_a_query_of_the_greatest_depth_is_read_and_decided(key: str, document: dict[str, Any]) -> None:
    deepest = parse({"a": nested(98, {"$gt": 5}, key)})

    assert deepest.holds(tree.Subject(document)) in (True, False)
    with pytest.raises(InvalidQuery, match="nested deeper"):
        parse({"a": nested(99, {"$gt": 5}, key)})


def test_nested_conjunctions_of_the_greatest_depth_are_decided() -> None:
    assert holds(nested(49, {"a": 1}, "$and"), {"a": 1})


def test_a_document_of_the_greatest_depth_is_decided() -> None:
    deep: Any = 1
    for level in range(256):
        deep = {"a": deep} if level % 2 else [deep]

    assert holds({"a": {"$gt": {}}, ".".join("a" * 100): {"$exists": True}}, {"a": deep})
    assert not holds({"a": {"$in": [1]}}, {"a": deep})


def test_a_regular_expression_that_never_ends_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "REGEX_SECONDS", 0.05)
    condition = parse({"a": {"$regex": "(a|aa)+$"}})

    with pytest.raises(QueryTimeout, match=r"took 0.05 seconds .* '\(a\|aa\)\+\$'; tie the pattern to the beginning"):
        condition.holds(tree.Subject({"a": "a" * 80 + "b"}))


def test_an_expression_that_is_slow_elsewhere_is_decided() -> None:
    assert not holds({"a": {"$regex": "(a+)+$"}}, {"a": "a" * 50 + "b"}), "the package sees through this one"


def test_all_expressions_of_a_query_share_their_time() -> None:
    first, second = parse({"a": {"$regex": "x"}, "b": {"$not": re.compile("y")}}).parts
    assert isinstance(first, tree.At)
    assert isinstance(first.test, tree.Regex)
    first.test.budget.seconds = -1

    with pytest.raises(QueryTimeout):
        second.holds(tree.Subject({"b": "y"}))
    assert not holds({"b": {"$regex": "x"}}, {"b": "y"}), "another query has time of its own"


def test_time_is_taken_off_the_budget() -> None:
    expression = tree.Regex("a")
    before = expression.budget.seconds

    expression.passes(["bab"])

    assert expression.budget.seconds < before


At, Both, Compares, Equals, Opposite = tree.At, tree.Both, tree.Compares, tree.Equals, tree.Opposite


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Both(())),
        ({"a": 1, "b.c": None}, Both((At("a", Equals(1)), At("b.c", Equals(None))))),
        ({"a": {"$gt": 1, "$lte": 2}}, Both((At("a", tree.AllTests((Compares("$gt", 1), Compares("$lte", 2)))),))),
        ({"a": {"$ne": 1}}, Both((At("a", Opposite(Equals(1))),))),
        ({"a": {"$nin": [1]}}, Both((At("a", Opposite(tree.OneOf((1,)))),))),
        ({"a": {"$exists": False}}, Both((At("a", Opposite(tree.Exists())),))),
        ({"a": {"$gte": None}}, Both((At("a", Equals(None)),))),
        ({"a": {"$lt": None}}, Both((At("a", tree.OneOf(())),))),
        ({"a": {"$regex": "x", "$options": "si"}}, Both((At("a", tree.Regex("x", "is")),))),
        (
            {"a": {"$in": [1, re.compile("x", re.I)]}},
            Both((At("a", tree.AnyTest((tree.OneOf((1,)), tree.Regex("x", "i")))),)),
        ),
        ({"a": {"$all": [1, 2]}}, Both((At("a", tree.AllTests((Equals(1), Equals(2)))),))),
        ({"a": {"$all": []}}, Both((At("a", tree.OneOf(())),))),
        ({"a": {"$elemMatch": {"b": 1}}}, Both((At("a", tree.HasItem(Both((At("b", Equals(1)),)))),))),
        ({"a": {"$elemMatch": {"$gt": 1}}}, Both((At("a", tree.HasItem(Compares("$gt", 1))),))),
        ({"a": {"$not": {"$mod": [3, 1]}}}, Both((At("a", Opposite(tree.Remainder(3, 1))),))),
        ({"a": {"$type": [2, "int"]}}, Both((At("a", tree.HasType(("string", "int"))),))),
        ({"a": {"$size": 2.0}}, Both((At("a", tree.HasSize(2)),))),
        ({"$nor": [{"a": 1}]}, Both((tree.Not(tree.Either((Both((At("a", Equals(1)),)),))),))),
        ({"$and": [{"a": 1}]}, Both((Both((Both((At("a", Equals(1)),)),)),))),
    ],
)
def test_the_tree_is_of_the_documented_shape(query: dict[str, Any], expected: tree.Both) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize("query", [row[0] for rows in CASES.values() for row in rows[:6]], ids=repr)
def test_a_condition_survives_pickling(query: dict[str, Any]) -> None:
    condition = parse(query)
    again = pickle.loads(pickle.dumps(condition))

    for document in ({}, {"a": 1}, {"a": None}, {"a": [1, "scan"]}, {"a": {"b": 1}}, {"a": NAN}):
        assert again.holds(tree.Subject(document)) is condition.holds(tree.Subject(document))
    if "nan" not in repr(query):
        assert again == condition


def test_a_query_does_not_change_with_what_it_was_made_of() -> None:
    wanted = [1]
    condition = parse({"a": wanted})
    wanted.append(2)

    assert condition.holds(tree.Subject({"a": [1]}))


def test_a_path_gives_whole_what_it_picks_out_of_a_list() -> None:
    assert Path("a.0").values({"a": [[1, 2]]}) == [Whole([1, 2])]
    assert Path("a.b").values({"a": [{"b": [1]}, {}, 7]}) == [[1], MISSING]
    assert Path("a.b").values({"a": []}) == []


def test_a_document_of_a_subclass_is_a_mapping_too() -> None:
    class Protected(dict[str, Any]):
        pass

    assert holds({"a.b": 1, "a": {"b": 1}}, {"a": Protected(b=1)})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([0, 1, 1.0, -0.0, 2**53, 2.0**53, 2**53 + 1, NAN]),
    st.sampled_from(["", "a", "b", "scan", "^a", "(", "1"]),
    st.text(max_size=3),
)
KEYS = st.sampled_from(["a", "b", "0", "1", "a.b", "$gt", ""])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)
PATHS = st.sampled_from(["a", "b", "a.b", "a.0", "a.b.0", "a.0.b", "0"])
NAMES = (*parsing.OPERATORS, "$search", "$bad", "a", "b", "a.b", "0")
OPERATORS = st.sampled_from(NAMES)
JUNK = st.recursive(
    SCALARS | st.just(re.compile("a")) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OPERATORS | st.integers(), inner, max_size=3),
    max_leaves=12,
)


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """Give operators that are well-formed."""
    plain = draw(VALUES)
    return draw(
        st.sampled_from(
            [
                *({name: plain} for name in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$exists")),
                *({name: [value]} for name in ("$in", "$nin", "$all") for value in [draw(SCALARS)]),
                {"$regex": "a|^$", "$options": "i"},
                {"$size": 1},
                {"$mod": [2, 1]},
                {"$type": ["int", "array", "null"]},
                {"$elemMatch": {"$gt": draw(SCALARS)}},
                {"$elemMatch": {draw(PATHS): draw(SCALARS)}},
                {"$gt": draw(SCALARS), "$lte": draw(SCALARS)},
            ]
        )
    )


@given(DOCUMENTS, PATHS, asked())
@settings(max_examples=300, deadline=None)
def test_not_is_the_opposite(document: dict[str, Any], path: str, operators: dict[str, Any]) -> None:
    assert holds({path: {"$not": operators}}, document) is not holds({path: operators}, document)
    assert holds({"$nor": [{path: operators}]}, document) is not holds({path: operators}, document)


@given(DOCUMENTS, st.lists(st.tuples(PATHS, asked()), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_or_is_any_of_its_branches_and_nor_the_opposite(document: dict[str, Any], branches: Any) -> None:
    queries = [{path: operators} for path, operators in branches]
    expected = any(holds(query, document) for query in queries)

    assert holds({"$or": queries}, document) is expected
    assert holds({"$nor": queries}, document) is not expected
    assert holds({"$and": queries}, document) is all(holds(query, document) for query in queries)


def is_plain(value: Any) -> bool:
    return not (isinstance(value, dict) and any(key.startswith("$") for key in value))


@given(DOCUMENTS, PATHS, st.lists(VALUES.filter(is_plain), max_size=4))
@settings(max_examples=300, deadline=None)
def test_in_is_equality_with_any_of_its_values(document: dict[str, Any], path: str, values: list[Any]) -> None:
    expected = any(holds({path: {"$eq": value}}, document) for value in values)

    assert holds({path: {"$in": values}}, document) is expected
    assert holds({path: {"$nin": values}}, document) is not expected


@given(VALUES, VALUES)
@settings(max_examples=300, deadline=None)
def test_equality_identity_and_order_agree(left: Any, right: Any) -> None:
    assert same(left, right) is (identity(left) == identity(right))
    assert same(left, right) is (compare(left, right) == 0)
    assert compare(left, right) == -compare(right, left)
    assert same(left, left)


@given(st.dictionaries(OPERATORS | st.integers(), JUNK, max_size=3) | JUNK, DOCUMENTS)
@settings(max_examples=1000, deadline=None)
def test_reading_raises_nothing_but_an_invalid_query_and_deciding_nothing(query: Any, document: dict[str, Any]) -> None:
    try:
        condition = parse(query)
    except InvalidQuery:
        return
    assert condition.holds(tree.Subject(document)) in (True, False)


@given(st.text(alphabet="()[]{}?*+|^$\\.:<>=!#PpaA10,-&~ ", max_size=12))
@settings(max_examples=1000, deadline=None)
def test_any_text_is_an_expression_or_refused(pattern: str) -> None:
    try:
        condition = parse({"a": {"$regex": pattern, "$options": "i"}})
    except InvalidQuery:
        return
    assert condition.holds(tree.Subject({"a": "aA1"})) in (True, False)


def test_a_path_of_positions_through_lists_of_mappings_takes_no_time_that_doubles() -> None:
    document: Any = 1
    for _ in range(60):
        document = [{"0": document}]
    condition = parse({".".join(["0"] * 90): {"$exists": True}})
    assert condition.holds(tree.Subject({"0": document})) in (True, False)
    assert parse({"0.0.0.0": {"$exists": True}}).holds(tree.Subject({"0": [{"0": [{"0": 1}]}]}))
