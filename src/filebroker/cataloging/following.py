"""Following a run while it is recorded."""

import errno
import time
from collections.abc import Iterator

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.ground.documents import Pair
from filebroker.ground.errors import InvalidOption, NotEnoughRuns, StorageError
from filebroker.ground.filesystem import Folder

#: So often it is looked for what is new on a disk, and in a store.
DISK_SECONDS, STORE_SECONDS = 0.2, 2.0


def follow(run: Run, *, interval: float | None = None) -> Iterator[Pair]:
    """Give the documents of a run, and wait for more until its recording ends.

    Parameters
    ----------
    run
        The run.  Of one that is not in progress all documents are given.
    interval
        So many seconds after each other it is looked for new documents; None for what suits the place.

    Yields
    ------
    tuple of str and dict
        ``(name, document)``, in the order in which they were inserted, each once.  The stop document is the last.

    Raises
    ------
    InvalidOption
        The interval is negative.
    StorageError
        The run cannot be read any more.

    Notes
    -----
    A run whose writer died without anybody sealing it is waited for without end.

    Examples
    --------
    >>> from filebroker import Broker
    >>> run = Broker.named("example").catalog.newest(1)
    >>> [name for name, _ in follow(run)]
    ['start', 'descriptor', 'event', 'descriptor', ..., 'event', 'stop']
    """
    pause = _pause(run.files.folder, interval)
    upto = 0
    while True:
        files = run.files
        is_live = files.state == "live"
        try:
            for ordinal, pair in files.numbered(upto):
                yield pair
                upto = ordinal + 1
        except StorageError as error:
            if not is_live or error.errno != errno.ENOENT:  # else it was sealed while it was read
                raise
        if not is_live:
            return
        time.sleep(pause)


def next_run(runs: Runs, *, interval: float | None = None) -> Run:
    """Wait for the next run that begins, and give it.

    Parameters
    ----------
    runs
        Those among which it appears.
    interval
        As of `follow`.

    Raises
    ------
    InvalidOption
        The interval is negative.
    """
    before = _newest(runs)
    pause = _pause(runs.catalog.folder, interval)
    while True:
        run = _newest(runs)
        if run is not None and (before is None or run.uid != before.uid):
            return run
        time.sleep(pause)


def _newest(runs: Runs) -> Run | None:
    try:
        return runs.newest(1)
    except NotEnoughRuns:
        return None


def _pause(folder: Folder, interval: float | None) -> float:
    if interval is not None and not interval >= 0:
        raise InvalidOption(f"an interval of {interval} seconds means nothing; give a number from 0 on")
    if interval is not None:
        return interval
    return STORE_SECONDS if folder.local is None else DISK_SECONDS
