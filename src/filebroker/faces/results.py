"""What a search gives: headers, made one by one as they are asked for."""

from collections.abc import Callable, Iterator

from filebroker.core.run import Run
from filebroker.faces.header import Header, Prompt


class Results:
    """The headers that answer a search, newest first.

    They can be iterated over again and again.  Nothing is searched before.

    Parameters
    ----------
    broker
        The broker that was asked.
    search
        Gives the runs anew at each call.
    description
        The search, as it was called.
    """

    def __init__(self, broker: Prompt, search: Callable[[], Iterator[Run]], description: str) -> None:
        self._broker, self._search, self._description = broker, search, description

    def __iter__(self) -> Iterator[Header]:
        return (Header(self._broker, run) for run in self._search())

    def __repr__(self) -> str:
        return f"<Results of {self._description}; loop over them, or make a list of them>"
