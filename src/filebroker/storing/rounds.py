"""A round of uploads: several runs at a time, because each of them mostly waits for the network."""

import contextlib
import threading
from collections.abc import Callable, Sequence

from filebroker.ground.errors import AccessDenied, MissingStore, StoreUnreachable
from filebroker.storing.uploads import Upload

#: Errors that the next run would meet as well.
GENERAL = (StoreUnreachable, AccessDenied, MissingStore)


class Round:
    """One step of many uploads.

    Parameters
    ----------
    uploads
        The uploads, in the order in which they begin.
    is_over
        Tells whether no more of them shall begin.
    patient
        See `Upload.advance`.
    """

    def __init__(self, uploads: Sequence[Upload], is_over: Callable[[], bool], *, patient: bool) -> None:
        self._uploads, self._is_over, self._patient = uploads, is_over, patient
        self._next = iter(uploads)
        self._outcomes: dict[str, bool | Exception] = {}
        self._is_stopped = False
        self._death: BaseException | None = None
        self._mutex = threading.Lock()

    def go(self, threads: int) -> list[bool | Exception | None]:
        """Advance all uploads, until an error comes that the next would meet as well.

        Parameters
        ----------
        threads
            So many are advanced at a time at the most.  This thread is one of them: with 1 all happens in order.

        Returns
        -------
        list
            What came of each upload: whether its run is up, the exception that kept it, or None if it did not begin.
        """
        helpers = [
            threading.Thread(target=self._work, name=f"filebroker-uploads-{number}", daemon=True)
            for number in range(1, min(threads, len(self._uploads)))
        ]
        begun = []
        with contextlib.suppress(RuntimeError):  # too many threads: fewer do it as well
            for helper in helpers:
                helper.start()
                begun.append(helper)
        self._work()
        for helper in begun:
            helper.join()
        if self._death is not None:
            raise self._death
        return [self._outcomes.get(upload.directory) for upload in self._uploads]

    def _work(self) -> None:
        try:
            while (upload := self._take()) is not None:
                self._advance(upload)
        except BaseException as death:  # noqa: BLE001 - raised by `go`, when nobody works any more
            with self._mutex:
                self._is_stopped, self._death = True, death

    def _take(self) -> Upload | None:
        with self._mutex:
            return None if self._is_stopped or self._is_over() else next(self._next, None)

    def _advance(self, upload: Upload) -> None:
        try:
            outcome: bool | Exception = upload.advance(patient=self._patient)
        except Exception as error:  # noqa: BLE001 - one run must not keep others from going up
            outcome = error
        with self._mutex:
            self._outcomes[upload.directory] = outcome
            self._is_stopped = self._is_stopped or isinstance(outcome, GENERAL)
