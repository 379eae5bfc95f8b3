"""The thread that brings staged runs up to their store, so that recording never waits for a network."""

import atexit
import functools
import math
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable

from filebroker.ground import forks
from filebroker.ground.errors import DuplicateDocument, FilebrokerError, StorageError, StoreUnreachable
from filebroker.ground.locks import FileLock
from filebroker.ground.stores import Store
from filebroker.storing.ledger_uploads import LedgerUpload
from filebroker.storing.rounds import GENERAL, Round
from filebroker.storing.staging import Staging
from filebroker.storing.uploads import Upload

#: Seconds between two rounds while runs are live here.
PERIOD = 5.0
#: So long after a failed round the next one begins, at first and at most.
BACKOFF, LONGEST_BACKOFF = 0.5, 30.0
#: So often it is looked whether another process has done with its round.
_LOCK_PAUSE = 0.5
#: So many runs go up at a time.
AT_ONCE = 8
#: So long the interpreter's exit waits.
EXIT_SECONDS = 30.0

_all: "weakref.WeakSet[Uploader]" = weakref.WeakSet()
#: Stores without conditional writes that were warned of in this process.
_careless: set[str] = set()


class Uploader:
    """Uploads what is staged for one store, in a thread that ends when nothing is left.

    Parameters
    ----------
    staging
        What is recorded for the store.
    store
        Where it goes.
    after_round
        Is called in the thread when something went up.

    Attributes
    ----------
    problem : Exception or None
        What went wrong in the last round.
    """

    def __init__(self, staging: Staging, store: Store, after_round: Callable[[], None] = lambda: None) -> None:
        self.staging, self._store, self._after_round = staging, store, after_round
        self.problem: Exception | None = None
        self._is_told = self._closing = self._closed = False
        self._asked = self._answered = self._failures = self._sent = self._wakes = 0
        self._lost: set[str] = set()
        self._backoff = BACKOFF
        self.renew_locks()
        _exit_watch()
        _all.add(self)
        forks.renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child: without a thread, and without its parent's knowledge of the store."""
        self._changed = threading.Condition()
        self._warnings: list[str] = []
        self._thread: threading.Thread | None = None
        self._token = uuid.uuid4().hex
        self._urgent = self._is_used = False
        self._due = 0.0
        self._answered = self._asked
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._uploads: dict[str, Upload] = {}
        self._ledger = LedgerUpload(self.staging, self._store)
        self._attempts: dict[str, int] = {}

    # -- for those who record

    def wake(self) -> None:
        """Say that there is something new; it never waits and never fails."""
        with self._changed:
            self._wakes += 1
            if self.problem is None:
                self._due = 0.0
            self._start()
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that is staged by now is up.

        Parameters
        ----------
        timeout
            So many seconds at most.  A store that cannot be reached is tried until then, or once if this is None.

        Raises
        ------
        StoreUnreachable
            It took too long, or the store cannot be reached.
        StorageError
            The store or the local filesystem refused.  Everything that is not up stays staged.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            failures = self._failures
            self._asked += 1
            self._urgent = True
            self._start()
            self._changed.notify_all()
            is_done = self._await(self._asked, failures, deadline)
        if is_done:
            return
        problem, waiting = self.problem, self.waiting()
        if problem is None:
            raise StoreUnreachable(f"not all was uploaded{f' after {timeout:g} s' if timeout else ''}; {waiting}")
        kind = type(problem) if isinstance(problem, GENERAL) else StorageError
        raise kind(f"{problem}; {waiting}") from problem

    def _await(self, mine: int, failures: int, deadline: float | None) -> bool:
        """Wait for a round that was asked for; False if it failed or is late.  The caller holds the mutex."""
        while self._answered < mine and not self._closed:
            may_mend = deadline is not None and isinstance(self.problem, StoreUnreachable)
            if self._failures > failures and not may_mend:
                return False
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._changed.wait(left)
        return self._answered >= mine

    def close(self, timeout: float | None = None) -> str:
        """Upload what is left, and stop.

        Parameters
        ----------
        timeout
            So many seconds at most; None: as long as it takes, but a failure is not tried again.

        Returns
        -------
        str
            What the user should be warned of: what stays staged, and why.  Empty if nothing does.
        """
        if self._closed:
            return ""
        self._closing = True
        problem = ""
        try:
            if self._has_work():
                self.flush(timeout)
        except FilebrokerError as error:
            problem = f"{error}. Opening the catalog for recording, or 'filebroker upload {self.staging.url}', goes on"
        finally:  # who is interrupted while it waits wants no more of it either
            with self._changed:
                self._closed = True
                thread = self._thread
                self._changed.notify_all()
        if thread is not None and not problem:  # else it is waiting for the store
            thread.join(_LOCK_PAUSE)
        return problem

    @property
    def is_behind(self) -> bool:
        """Whether this process staged something that may not be up."""
        return self._is_used and not self._closed and self._has_work()

    def take_warnings(self) -> list[str]:
        """Give what is to be told to the user, once."""
        with self._changed:
            taken, self._warnings = self._warnings, []
        return taken

    def _tell(self, text: str) -> None:
        with self._changed:
            self._warnings.append(text)

    def _has_work(self) -> bool:
        return bool(self.staging.runs() or self.staging.claimed()) or not self._ledger.is_empty()

    def waiting(self) -> str:
        """Tell what is not up, and where it is."""
        try:
            waiting = str(self.staging.pending())
        except OSError as error:
            waiting = f"what there is (it cannot be counted: {error.strerror})"
        return f"{waiting} for {self.staging.url} is not uploaded yet, and safe in {self.staging.root}"

    # -- the thread

    def _start(self) -> None:
        """Start the thread unless it runs; the caller holds the mutex."""
        if self._closed or (self._thread is not None and self._thread.is_alive()):
            return
        self._is_used = True
        thread = threading.Thread(target=self._work, name="filebroker-uploads", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # too many threads, or the interpreter is about to exit
            self.problem = StorageError(f"nothing can be uploaded in the background: {error}")
            self._failures += 1
        else:
            self._thread = thread

    def _work(self) -> None:
        while self._wait():
            self.attempt()

    def _wait(self) -> bool:
        """Wait for the next round; False when there will be none."""
        with self._changed:
            while not self._closed:
                left = self._due - time.monotonic()
                if self._urgent or left <= 0:
                    return True
                if left == math.inf:
                    break
                self._changed.wait(left)
            self._thread = None
            return False

    def attempt(self) -> None:
        """Make a round in this thread, unless another process is at it, and keep what came of it."""
        with self._changed:
            asked, wakes = self._asked, self._wakes
            self._urgent = False
            self._due = time.monotonic() + PERIOD
        problem: Exception | None = None
        sent, is_empty = self._sent, False
        lock = FileLock(self.staging.uploader_lock)
        try:
            if self._has_work():
                if not self._take(lock):
                    self._due = time.monotonic() + _LOCK_PAUSE
                    return
                problem = self._round(patient=asked == self._answered)
            is_empty = not self.staging.runs()
        except Exception as error:  # noqa: BLE001 - whatever it is, the runs are safe and it is tried again
            problem = error
        finally:
            lock.release()
        if self._sent > sent:
            self._report()
        self._conclude(problem, asked, is_empty and wakes == self._wakes)

    def _take(self, lock: FileLock) -> bool:
        """Take the staging directory; what is remembered counts only if nobody else uploaded meanwhile."""
        if not lock.acquire():
            return False
        with open(lock.path, "rb") as file:
            is_own = file.read() == self._token.encode()
        if not is_own:
            self._begin_anew()
            lock.write(self._token.encode())
        return True

    def _report(self) -> None:
        try:
            self._after_round()
        except Exception as error:  # noqa: BLE001 - it must not keep runs from going up
            self._tell(f"runs went up to {self.staging.url}, but could not be made known here: {error!r}")

    def _conclude(self, problem: Exception | None, asked: int, is_empty: bool) -> None:
        if problem is not None and not self._is_told:
            self._tell(f"not all can be uploaded now: {problem}; {self.waiting()}. It is tried again")
        with self._changed:
            self.problem, self._is_told = problem, problem is not None
            if problem is None:
                self._answered, self._backoff = asked, BACKOFF
                # Unless it was woken meanwhile, the thread has done its work.
                if is_empty and self._asked == asked and self._due > time.monotonic():
                    self._due = math.inf
            else:
                self._failures += 1
                self._due = time.monotonic() + self._backoff
                self._backoff = min(2 * self._backoff, LONGEST_BACKOFF)
            self._changed.notify_all()

    # -- a round

    def _round(self, *, patient: bool) -> Exception | None:
        """Upload what there is, each thing after all that it speaks of; give what kept something from going up."""
        ledger = self._ledger
        before = ledger.sent
        sizes = ledger.sizes()
        self.staging.sweep()
        try:
            self._look_at_store()
            ledger.send_fixed()
            done, blocked, problem = self._advance_all(patient)
            if isinstance(problem, GENERAL) and not done:
                return problem  # what comes now would meet the same
            ledger.send_logs(sizes, blocked, closing=self._closing)
        finally:
            self._sent += ledger.sent - before
        for directory in done:
            if self.staging.remove(directory):
                self._uploads.pop(directory, None)
                self._attempts.pop(directory, None)
        self._give_up_vanished()
        return problem

    def _look_at_store(self) -> None:
        """Warn once of a store that cannot tell two writers apart."""
        url = self._store.url
        if url not in _careless and not self._store.probe():
            _careless.add(url)
            self._tell(
                f"{url} does not honour conditional writes: if two machines record a run of the same uid at the same "
                "time, one may overwrite the other's. Record into it from one machine only"
            )

    def _advance_all(self, patient: bool) -> tuple[list[str], list[str], Exception | None]:
        """Bring every run as far up as it goes: those that are up, those that are not, and why."""
        # Oldest first, but one that failed does not keep others from their turn.
        runs = sorted(self.staging.runs(), key=lambda run: (self._attempts.get(run, 0), run))
        uploads = [self._uploads.setdefault(run, Upload(self.staging, self._store, run)) for run in runs]
        before = sum(upload.sent for upload in uploads)
        outcomes = Round(uploads, lambda: self._closed, patient=patient).go(AT_ONCE)
        self._sent += sum(upload.sent for upload in uploads) - before
        problem = next((outcome for outcome in outcomes if isinstance(outcome, GENERAL)), None)
        if problem is None and None in outcomes:
            problem = StoreUnreachable("the catalog was closed before all was uploaded")
        return self._sort(uploads, outcomes, problem)

    def _sort(
        self, uploads: list[Upload], outcomes: list[bool | Exception | None], problem: Exception | None
    ) -> tuple[list[str], list[str], Exception | None]:
        """Tell runs that are up from those that are not, and give a problem of theirs if there was none."""
        done: list[str] = []
        blocked: list[str] = []
        for upload, outcome in zip(uploads, outcomes, strict=True):
            directory, result = upload.directory, outcome
            if isinstance(outcome, DuplicateDocument) and not isinstance(problem, GENERAL):
                result = self._lose(upload, str(outcome))
            if isinstance(result, Exception):
                self._attempts[directory] = self._attempts.get(directory, 0) + 1
                if problem is None or (isinstance(result, GENERAL) and not isinstance(problem, GENERAL)):
                    problem = result
            if result is True:
                done.append(directory)
            elif result is not False:
                blocked.append(directory)
        return done, blocked, problem

    def _lose(self, upload: Upload, reason: str) -> bool | Exception:
        """Put a run aside that somebody else recorded, once its recorder has done with it; False, or why it stays."""
        directory = upload.directory
        if directory not in self._lost:
            self._lost.add(directory)
            self._tell(f"{reason}, from its end on in {self.staging.place_aside(directory)}")
        try:
            upload.give_up()
            if not self._ledger.strike(directory):
                place = self.staging.root
                raise StorageError(f"the ledger in {place} is being written to; {directory} stays in it for now")
            if self.staging.set_aside(directory):
                self._uploads.pop(directory, None)
                self._lost.discard(directory)
        except Exception as error:  # noqa: BLE001 - one run must not keep others from going up
            return error
        return False

    def _give_up_vanished(self) -> None:
        """Take back the claims of runs that are not staged any more."""
        staged = set(self.staging.runs())
        for directory in self.staging.claimed():
            if directory not in staged:
                Upload(self.staging, self._store, directory).give_up()
                self.staging.forget_claim(directory)
                self._uploads.pop(directory, None)


# -- the end of the process


@functools.cache
def _exit_watch() -> None:
    """Have what is staged uploaded at the interpreter's exit."""
    # The usual exit functions run when no thread can resolve a host name any more.
    getattr(threading, "_register_atexit", atexit.register)(upload_at_exit)


def upload_at_exit() -> None:
    """Give every uploader a moment to finish, and say once for each store what stays behind."""
    deadline = time.monotonic() + EXIT_SECONDS
    told: dict[str, str] = {}
    for uploader in list(_all):
        if uploader.is_behind:
            root = uploader.staging.root
            # A store that could not be reached a moment ago is not waited for.
            is_away = root in told or uploader.problem is not None
            try:
                problem = uploader.close(0.0 if is_away else max(0.0, deadline - time.monotonic()))
            except KeyboardInterrupt:  # somebody wants the process to end
                deadline, problem = 0.0, f"interrupted; {uploader.waiting()}"
            if problem:
                told.setdefault(root, problem)
    for problem in told.values():
        print(f"filebroker: {problem}", file=sys.stderr)
