"""Processes that import, each a part of what is found: they are told what by lines of JSON, and answer so.

A process that is killed loses nothing: what it had not finished is imported by another.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType
from typing import IO, Any, NoReturn

from filebroker.ground import errors
from filebroker.ground.errors import FilebrokerError, StorageError
from filebroker.transfer.incoming.reports import ImportProblem, ImportReport
from filebroker.transfer.incoming.sources import Unit
from filebroker.transfer.incoming.units import Importer, Setup

#: So often something is tried in a new process whose process was killed.
_ATTEMPTS = 3
#: So long a process has to end in order when it is told to.
_END_SECONDS = 20.0

Done = Callable[[Sequence[Unit], ImportReport], None]


class Crew:
    """Processes that import.

    Parameters
    ----------
    setup
        What they all need to know.
    number
        How many.
    """

    def __init__(self, setup: Setup, number: int) -> None:
        self._setup, self._number = setup, number
        self._mutex = threading.Lock()
        self._is_over = False
        self._workers: set[_Worker] = set()

    def work(self, chunks: Iterator[Sequence[Unit]], done: Done) -> None:
        """Import everything.

        Parameters
        ----------
        chunks
            What is to be imported, in parts.
        done
            Is told what became of each part, never twice at the same time.

        Raises
        ------
        FilebrokerError
            A process could not go on; what others had begun was finished.
        """
        with ThreadPoolExecutor(self._number, thread_name_prefix="filebroker-import") as threads:
            jobs = [threads.submit(self._serve, chunks, done) for _ in range(self._number)]
            try:
                while wait(jobs, timeout=0.5).not_done:  # so that an interrupt is heard
                    if any(job.done() and job.exception() is not None for job in jobs):
                        self._is_over = True
            except BaseException:
                self._is_over = True
                self._stop()
                raise
        for job in jobs:
            job.result()

    def _stop(self) -> None:
        with self._mutex:
            workers = list(self._workers)
        for worker in workers:
            worker.stop()

    def _serve(self, chunks: Iterator[Sequence[Unit]], done: Done) -> None:
        worker = _Worker(self._setup)
        with self._mutex:
            self._workers.add(worker)
        try:
            while (chunk := self._next(chunks)) is not None:
                self._have_done(worker, chunk, done)
        finally:
            with self._mutex:
                self._workers.discard(worker)
            worker.close()

    def _next(self, chunks: Iterator[Sequence[Unit]]) -> Sequence[Unit] | None:
        with self._mutex:
            return None if self._is_over else next(chunks, None)

    def _have_done(self, worker: "_Worker", chunk: Sequence[Unit], done: Done, attempt: int = 1) -> None:
        """Have a part imported; if the process dies, each piece of it by itself in a new one."""
        report = worker.ask(chunk)
        if report is None and self._is_over:
            return
        if report is None and (len(chunk) > 1 or attempt < _ATTEMPTS):
            for unit in chunk:
                self._have_done(worker, [unit], done, attempt + 1)
            return
        if report is None:
            why = (
                f"the process that imported it was killed {_ATTEMPTS} times; perhaps it takes more memory than there is"
            )
            report = ImportReport(problems=[ImportProblem(unit.place, "", "", "", why) for unit in chunk])
        with self._mutex:
            done(chunk, report)


class _Worker:
    """One process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def _start(self) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", "from filebroker.transfer.incoming.workers import main; main()"]
        # A session of its own: an interrupt from the keyboard comes to this process alone, which stops the others.
        process = subprocess.Popen(  # noqa: S603 - this interpreter, and a constant
            command, stdin=pipe, stdout=pipe, start_new_session=True, env=_environment()
        )
        _send(process.stdin, self._setup._asdict())
        return process

    def ask(self, chunk: Sequence[Unit]) -> ImportReport | None:
        """Have a part imported; None if the process died.

        Raises
        ------
        FilebrokerError
            What stopped it.
        """
        answer = b""
        try:
            if self._process is None:
                self._process = self._start()
            _send(self._process.stdin, list(chunk))
            answer = self._process.stdout.readline() if self._process.stdout is not None else b""
        except OSError:  # it is dead
            answer = b""
        if not answer.endswith(b"\n"):
            self.close()
            return None
        content = json.loads(answer)
        if "error" in content:
            _raise(content)
        return ImportReport.from_dict(content)

    def stop(self) -> None:
        """Tell the process to end in order, and now."""
        process = self._process
        if process is not None:
            process.terminate()

    def close(self) -> None:
        """Wait for the end of the process."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # it died before it read everything
                continue
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    """Give the environment of a process that finds this package, however it was found here."""
    package = sys.modules[__name__.partition(".")[0]]
    here = os.path.dirname(os.path.dirname(os.path.abspath(str(package.__file__))))
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": here if not known else f"{here}{os.pathsep}{known}"}


def _send(pipe: IO[bytes] | None, content: Any) -> None:
    if pipe is not None:
        pipe.write(json.dumps(content).encode() + b"\n")
        pipe.flush()


def _raise(content: dict[str, Any]) -> NoReturn:
    kind = getattr(errors, content["error"], StorageError)
    if not (isinstance(kind, type) and issubclass(kind, FilebrokerError)):
        kind = StorageError
    raise kind(content["why"])


def main() -> None:
    """Be such a process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what others print is no answer
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):  # who asked is not there any more
        _answer_all(answers)


def _answer_all(answers: IO[bytes]) -> None:
    """Import what is asked for, until nothing more is."""
    importer = Importer(Setup(**json.loads(sys.stdin.buffer.readline())))
    try:
        for line in sys.stdin.buffer:
            try:
                answer = importer.take([Unit(*unit) for unit in json.loads(line)]).to_dict()
            except FilebrokerError as error:
                answer = {"error": type(error).__name__, "why": str(error)}
            _send(answers, answer)
    finally:
        importer.close()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
