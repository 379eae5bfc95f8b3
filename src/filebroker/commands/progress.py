"""Progress bars of long work, on the standard error, and only if somebody looks at it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filebroker.ground.progress import Progress


@contextlib.contextmanager
def shown() -> Iterator["Progress"]:
    """Give what tells a terminal how far some work has come.

    Examples
    --------
    >>> with shown() as tell:
    ...     for number in range(3):
    ...         tell("runs", number + 1, 3)
    """
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(desc=what, total=total, leave=False, dynamic_ncols=True, unit_scale=True)
        bar = bars[what]
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield tell
    finally:
        for bar in bars.values():
            bar.close()
