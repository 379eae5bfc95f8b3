"""How long work tells how far it has come."""

from collections.abc import Callable

#: Is called with what is being done, how far it has come, and of how much; from any thread.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody.

    Parameters
    ----------
    what
        What is being done.
    done, total
        How far it has come, and of how much.
    """
