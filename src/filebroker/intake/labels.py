"""Readable keys for runs, for lists that are looked through: ``s000200_grid_scan_84d9ee44``."""

import hashlib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.finding.entries import Documents
from filebroker.ground.documents import Document
from filebroker.ground.errors import AmbiguousPrefix, InvalidKey, NotEnoughRuns, RunNotFound

_LABEL = re.compile(r"s(?P<scan_id>[0-9]{6,18}|none)_\w+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT = re.compile(r"[0-9a-f]{8}")
_UNFIT = re.compile(r"\W+", re.ASCII)
#: Longer names are cut.
_LONGEST = 40
#: A label of a uid that had to be altered to fit, and without a scan_id, is looked for among so many runs.
_LOOKED_AT = 100


def label_of(start: Document) -> str:
    """Give the label of a run: letters, digits and underscores only, so that it can be typed after a dot.

    Parameters
    ----------
    start
        The start document.

    Returns
    -------
    str
        Its scan_id, its plan, and the first eight digits of its uid, or as much of one that is no UUID as fits.

    Examples
    --------
    >>> label_of({"uid": "84d9ee44-8c4b-4b8f-9d9c-1d2d64d3b2c4", "scan_id": 200, "plan_name": "grid_scan"})
    's000200_grid_scan_84d9ee44'
    """
    uid, number, plan = start["uid"], start.get("scan_id"), start.get("plan_name")
    known = f"{number:06d}" if type(number) is int and 0 <= number < 10**18 else "none"
    named = _UNFIT.sub("_", plan)[:_LONGEST].strip("_") if isinstance(plan, str) else ""
    short = uid[:8] if _UUID.fullmatch(uid) else _fitted(uid)
    return f"s{known}_{named}_{short}" if named else f"s{known}_{short}"


def _fitted(uid: str) -> str:
    """Give a uid that is no UUID as part of a label; one that cannot stand as it is gets digits of its own."""
    fitted = _UNFIT.sub("_", uid)[:_LONGEST]
    if fitted == uid and not _SHORT.fullmatch(uid):
        return uid
    return f"{fitted}_{hashlib.sha256(uid.encode(errors='surrogatepass')).hexdigest()[:6]}"


def is_label(key: Any) -> bool:
    """Tell whether a key may be the label of a run.

    Examples
    --------
    >>> is_label("s000200_grid_scan_84d9ee44"), is_label("84d9ee44"), is_label(200)
    (True, False, False)
    """
    return isinstance(key, str) and _LABEL.fullmatch(key) is not None


def find_label(runs: Runs, label: str) -> Run:
    """Give the run that has a label.

    Parameters
    ----------
    runs
        The runs.
    label
        The label.

    Raises
    ------
    RunNotFound
        None has it.
    """
    found = _LABEL.fullmatch(label)
    items = iter(()) if found is None else _candidates(runs, found["scan_id"], label)
    for item in items:
        if label_of(item.start) == label and (run := runs.of_uid(item.entry.uid)) is not None:
            return run
    raise RunNotFound(f"no run in {runs.place} has the label {label!r:.200}")


def _candidates(runs: Runs, scan_id: str, label: str) -> Iterator[Documents]:
    """Give the documents of the runs that may have a label; none is opened for that."""
    if scan_id != "none":
        yield from runs.documents_with(scan_id=int(scan_id))
        return
    _, *parts = label.split("_")
    for place in range(len(parts)):  # where the uid begins is not known
        yield from islice(runs.documents_with(prefix="_".join(parts[place:])), _LOOKED_AT)
    yield from islice(runs.documents(), _LOOKED_AT)  # one that had to be altered to fit


def find(runs: Runs, key: Any) -> Run:
    """Give a run by its position, its scan_id, its uid or the beginning of that, or its label.

    Parameters
    ----------
    runs
        The runs.
    key
        As for `Runs.lookup`; or a label.

    Raises
    ------
    NotEnoughRuns, RunNotFound, AmbiguousPrefix, InvalidKey
        As for `Runs.lookup`.
    """
    if not is_label(key):
        return runs.lookup(key)
    try:
        return find_label(runs, key)
    except RunNotFound as error:
        try:
            return runs.lookup(key)  # a uid that looks like a label
        except RunNotFound:
            raise error from None


#: What `find` raises for a key that names no run.
NO_RUN = (RunNotFound, NotEnoughRuns, AmbiguousPrefix, InvalidKey)
