"""Curves and maps drawn with characters, for a terminal."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

Point = tuple[float, float]

#: The bits of the dots of a braille character, by row and column.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_SHADES, _PLAIN_SHADES = " ░▒▓█", " .:-=+*#%@"
#: Points are connected unless there are many times more than columns.
_CROWD = 20


def curve(points: Sequence[Point], width: int, height: int, *, is_plain: bool = False) -> list[str]:
    r"""Draw points, each connected with the one before.

    Parameters
    ----------
    points
        Finite numbers, x and y.
    width, height
        In characters.
    is_plain
        Use ASCII alone.

    Returns
    -------
    list of str
        ``height`` lines of ``width`` characters.

    Examples
    --------
    >>> print("\n".join(curve([(0, 0), (1, 1), (2, 0)], 7, 3, is_plain=True)))
       *
     ** **
    *     *
    """
    across, down = (1, 1) if is_plain else (2, 4)
    columns, rows = width * across, height * down
    places = [(x, rows - 1 - y) for x, y in _placed(points, columns, rows)]
    dots = set(places)
    if len(places) <= _CROWD * columns:
        for before, after in pairwise(places):
            dots.update(_between(before, after))
    if is_plain:
        return ["".join("*" if (x, y) in dots else " " for x in range(width)) for y in range(height)]
    cells: dict[tuple[int, int], int] = {}
    for x, y in dots:
        cell = (x // across, y // down)
        cells[cell] = cells.get(cell, 0) | _DOTS[y % down][x % across]
    return ["".join(_cell(cells.get((x, y), 0)) for x in range(width)) for y in range(height)]


def shades(
    points: Sequence[Point], values: Sequence[float], width: int, height: int, *, is_plain: bool = False
) -> list[str]:
    r"""Draw the mean of the values at each place, the greatest darkest.

    Parameters
    ----------
    points
        Finite numbers, x and y.
    values
        One for each point.
    width, height, is_plain
        As for `curve`.

    Examples
    --------
    >>> print("\n".join(shades([(0, 0), (1, 0), (0, 1), (1, 1)], [0, 1, 2, 9], 2, 2, is_plain=True)))
    :@
     .
    """
    ramp = _PLAIN_SHADES if is_plain else _SHADES
    cells: dict[tuple[int, int], list[float]] = {}
    for (x, y), value in zip(_placed(points, width, height), values, strict=True):
        cells.setdefault((x, height - 1 - y), []).append(value)
    means = {cell: math.fsum(some) / len(some) for cell, some in cells.items()}
    low, high = min(means.values()), max(means.values())
    drawn = {cell: ramp[_step(mean, low, high, len(ramp))] for cell, mean in means.items()}
    return ["".join(drawn.get((x, y), " ") for x in range(width)) for y in range(height)]


def _cell(dots: int) -> str:
    """Give a character of some dots; none is a space, which every font has."""
    return chr(_BRAILLE + dots) if dots else " "


def _placed(points: Sequence[Point], columns: int, rows: int) -> Iterable[tuple[int, int]]:
    """Give the column and the row of each point, from below."""
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), max(y for _, y in points)
    return [(_step(x, low_x, high_x, columns), _step(y, low_y, high_y, rows)) for x, y in points]


def _step(value: float, low: float, high: float, steps: int) -> int:
    """Give in which of some equal steps a value lies; the middle one if there is no range."""
    span = high / 2 - low / 2  # the difference of two large numbers may be infinite
    if not span > 0:
        return (steps - 1) // 2
    return min(steps - 1, round((value / 2 - low / 2) / span * (steps - 1)))


def _between(before: tuple[int, int], after: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Give the places on the line between two."""
    (x, y), (end_x, end_y) = before, after
    steps = max(abs(end_x - x), abs(end_y - y))
    return ((x + round((end_x - x) * step / steps), y + round((end_y - y) * step / steps)) for step in range(1, steps))
