"""Requests to a store: tried again while that may help, within a deadline, with failures of known types."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from filebroker.ground.errors import FilebrokerError, InvalidConfig, StoreUnreachable
from filebroker.ground.secrets import scrub
from filebroker.ground.store_errors import Failure, chain, classify, explain

_Answer = TypeVar("_Answer")

#: So many seconds a request may go on without getting any further, all its tries taken together.
DEADLINE = 60.0
#: So often a server is called that no connection can be made to.
_CALLS = 3
#: Seconds before the second try and between later ones; they double in between.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: So many bytes of data a second are to be sent at the least; a try may take longer than the deadline accordingly.
_SLOWEST = 128 * 1024

_chance = random.SystemRandom()


def deadline() -> float:
    """Tell how many seconds a request may take: FILEBROKER_TIMEOUT, or `DEADLINE`.

    Raises
    ------
    InvalidConfig
        The variable holds no positive number.
    """
    text = os.environ.get("FILEBROKER_TIMEOUT")
    if not text:
        return DEADLINE
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidConfig(f"FILEBROKER_TIMEOUT is {text!r}; it is a number of seconds greater than 0, such as 60")
    return seconds


class Progress:
    """Puts off the deadline of a request that receives its answer piece by piece."""

    def __init__(self, clock: asyncio.Timeout, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._furthest = 0
        self._until = asyncio.get_running_loop().time() + seconds

    @property
    def is_late(self) -> bool:
        """Whether there is no time for another try; one that sends much data may still be going on."""
        return self._clock.expired() or asyncio.get_running_loop().time() >= self._until

    def reach(self, count: int) -> None:
        """Tell how many bytes have come in this try; only what is new to all tries counts as progress."""
        if count > self._furthest:
            self._furthest = count
            self._until = asyncio.get_running_loop().time() + self._seconds
            self._clock.reschedule(self._until)


@dataclass(frozen=True)
class Errand:
    """Something to be done in a store.

    Attributes
    ----------
    url : str
        The store.
    deed : str
        What is to be done, as in ``reading 'filebroker.json'``.
    secrets : list of str
        What no message may show.
    size : int
        How many bytes are to be sent.
    used : callable
        Gives the credentials that the requests were signed with, wherever they came from.
    """

    url: str
    deed: str
    secrets: list[str] = field(repr=False)
    size: int = 0
    used: Callable[[], list[str]] = field(default=list, repr=False)

    async def run(self, request: Callable[[Progress], Awaitable[_Answer]]) -> _Answer:
        """Try a request until it succeeds, fails for good, or time is up.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            Anything else failed; mostly one of its subclasses.
        """
        seconds = deadline()
        tries, failure, cause = 0, Failure(TimeoutError, "nothing"), None  # type: int, Failure, Exception | None
        try:
            async with asyncio.timeout(seconds + self.size / _SLOWEST) as clock:
                progress = Progress(clock, seconds)
                while tries == 0 or (_is_worth_trying(failure, tries) and not progress.is_late):
                    if tries:
                        await asyncio.sleep(_pause(tries))
                    tries += 1
                    try:
                        return await request(progress)
                    except FilebrokerError:
                        raise
                    except Exception as error:  # noqa: BLE001 - whatever it is, it is told below with its type
                        failure, cause = classify(error), error
        except TimeoutError as error:
            if cause is None:
                failure, cause = classify(error), error
        secrets = sorted({*self.secrets, *self.used()}, key=len, reverse=True)  # one may be a part of another
        clean = Failure(failure.kind, scrub(failure.reason, secrets))
        raise explain(clean, self.url, self.deed, tries, seconds) from _shown(cause, secrets)


def _shown(cause: Exception | None, secrets: list[str]) -> Exception | None:
    """Give the cause of a failure, unless its text would show a secret in a traceback."""
    texts = (f"{link!s}{link!r}" for link in chain(cause))
    return None if any(scrub(text, secrets) != text for text in texts) else cause


class Gate:
    """Lets some requests through at a time; and no more when the store did not answer one of them in its time."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._failure: StoreUnreachable | None = None

    async def run(self, errand: Errand, request: Callable[[Progress], Awaitable[_Answer]]) -> _Answer:
        """Have a request done when there is a place for it; see `Errand.run`."""
        async with self._places:
            if self._failure is not None:  # else each would take as long, one after another
                raise StoreUnreachable(*self._failure.args)
            try:
                return await errand.run(request)
            except StoreUnreachable as error:
                self._failure = error
                raise


def _is_worth_trying(failure: Failure, tries: int) -> bool:
    return failure.is_transient and not (failure.is_unconnected and tries >= _CALLS)


def _pause(tries: int) -> float:
    """Give the seconds to wait before the next try; by chance, so that many clients do not come back at once."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**tries) * _chance.uniform(0.5, 1.0)
