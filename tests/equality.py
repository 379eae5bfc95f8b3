"""Strict equality of documents: types count, NaN equals NaN, and 0.0 is not -0.0."""

import math
from typing import Any


def same(one: Any, other: Any) -> bool:
    """Tell whether two documents are equal as JSON would carry them."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return bool(one == other)


def first_difference(expected: list, found: list) -> str:
    """Describe where two lists of (name, document) differ; empty if they do not."""
    for position, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one[0] != other[0] or not same(one[1], other[1]):
            return f"document {position}:\n  expected {one!r}\n  found    {other!r}"
    return "" if len(expected) == len(found) else f"{len(expected)} documents expected, {len(found)} found"
