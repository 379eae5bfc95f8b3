"""What the hints of a run describe, drawn in a terminal."""

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from filebroker.commands.canvas import Point, curve, shades
from filebroker.commands.terminal import cut, say

if TYPE_CHECKING:
    from filebroker.cataloging.run import Stream
    from filebroker.faces.header import Header

_HEIGHT = 10
_WIDEST, _NARROWEST = 72, 10
#: So many of the plots are drawn, and so many points make one.
_MOST, _FEWEST_POINTS = 2, 2
#: Columns left of a plot: the numbers at the axis.
_MARGIN = 11


def draw(header: "Header") -> None:
    """Draw what the hints of a run describe; nothing for a run without points or hints.

    Parameters
    ----------
    header
        The run.
    """
    from filebroker.faces.plots import plots_of

    drawn = 0
    for stream in header.stream_names:
        plots = plots_of(header.start, header.descriptors[::-1], stream)
        for plot in plots.values():
            if drawn < _MOST and (plot["kind"] != "line" or len(plot["y"]) == 1):
                drawn += _draw_one(header.run[stream], plot)


def _draw_one(stream: "Stream", plot: Mapping[str, Any]) -> bool:
    """Draw a plot, and tell whether there was something to draw."""
    is_map = plot["kind"] != "line"
    names = [plot["x"], plot["y"], plot["c"]] if is_map else [plot["x"], plot["y"][0]]
    rows = [row for row in _rows(stream, names) if all(map(_is_finite, row))]
    if len(rows) < _FEWEST_POINTS:
        return False
    points = [(row[0], row[1]) for row in rows]
    width = min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size().columns - _MARGIN - 2))
    is_plain = _is_plain()
    if is_map:
        lines = shades(points, [row[2] for row in rows], width, _HEIGHT, is_plain=is_plain)
        values = [row[2] for row in rows]
        title = f"{names[2]} ({min(values):.4g} to {max(values):.4g}) at {names[0]} and {names[1]}"
    else:
        lines = curve(points, width, _HEIGHT, is_plain=is_plain)
        title = f"{names[1]} against {names[0]}"
    say(f"\n{cut(title, width + _MARGIN + 1)}")
    _say_framed(lines, points, width, is_plain=is_plain)
    return True


def _say_framed(lines: Sequence[str], points: Sequence[Point], width: int, *, is_plain: bool) -> None:
    """Print a plot with the numbers at its edges."""
    side, corner, floor = ("|", "+", "-") if is_plain else ("│", "└", "─")
    high, low = max(y for _, y in points), min(y for _, y in points)
    for place, line in enumerate(lines):
        number = f"{high:.4g}" if place == 0 else f"{low:.4g}" if place == len(lines) - 1 else ""
        print(f"{number:>{_MARGIN - 1}} {side}{line.rstrip()}")
    print(f"{'':>{_MARGIN}}{corner}{floor * width}")
    left, right = f"{min(x for x, _ in points):.4g}", f"{max(x for x, _ in points):.4g}"
    print(f"{'':>{_MARGIN + 1}}{left}{right:>{max(1, width - len(left))}}")


def _rows(stream: "Stream", names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Give the values of some fields for each event; ``time`` counts from the first event."""
    times = list(stream.timestamps([names[-1]])[names[-1]]) if "time" in names else []
    begin = next((time for time in times if time is not None), 0.0)
    since = [None if time is None else time - begin for time in times]
    columns = [since if name == "time" else list(stream.values(name)) for name in names]
    if len({len(column) for column in columns}) == 1:
        return list(zip(*columns, strict=True))
    # Events that lack a field are passed over by `values`, so its columns do not stand beside each other.
    events = [event["data"] for event in stream.events()]
    columns = [since if name == "time" else [data.get(name) for data in events] for name in names]
    return list(zip(*columns, strict=False))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_plain() -> bool:
    """Tell whether the terminal has ASCII alone, as far as is known."""
    return not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
