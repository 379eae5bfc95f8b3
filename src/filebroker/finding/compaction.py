"""Compaction: many small files of a ledger become few large ones.

Any process may do it at any time, several at once as well: whatever is removed is in a snapshot that was
published before.
"""

import math
from collections.abc import Collection, Iterable, Mapping

from filebroker.finding.ledger import LOGS, SNAPSHOTS, Ledger, Portion
from filebroker.finding.records import Record, check
from filebroker.finding.snapshots import count_of

#: Logs are merged when there are so many of them, or when they have so many bytes.
MANY_LOGS, MANY_BYTES = 32, 4 << 20
#: So many snapshots of about the same size are merged into one of the next size.
FAN = 8
_SMALLEST = 64


#: The same in a store, where each file costs a request.
_MANY_LOGS_IN_STORE, _RATIO_IN_STORE = 4, 4


def is_due(files: Mapping[str, int], left_over: Collection[str] = (), *, in_store: bool = False) -> bool:
    """Tell whether a ledger should be compacted.

    Parameters
    ----------
    files
        Its files, with their sizes in bytes.
    left_over
        Those that could not be merged before.
    in_store
        Whether the ledger is in a store.
    """
    logs = [size for name, size in files.items() if name.startswith(LOGS) and name not in left_over]
    crowd = _crowded((name for name in files if name not in left_over), in_store)
    return len(logs) >= (_MANY_LOGS_IN_STORE if in_store else MANY_LOGS) or sum(logs) >= MANY_BYTES or bool(crowd)


def compact(ledger: Ledger, *, in_store: bool = False) -> None:
    """Merge the logs of a ledger into a snapshot, and snapshots into larger ones.

    Parameters
    ----------
    ledger
        The ledger.
    in_store
        Whether it is in a store.

    Raises
    ------
    StorageError
        The filesystem refused; no record is lost.
    """
    files = ledger.files()
    if not ledger.is_complete(files):
        return  # the first snapshot has to be made of the run directories
    ledger.sweep()
    merge(ledger, [name for name in files if name.startswith(LOGS)], in_store=in_store)
    while crowd := _crowded(ledger.files(), in_store):
        if not merge(ledger, crowd):
            return


def merge(ledger: Ledger, names: Iterable[str], *, in_store: bool = False) -> bool:
    """Put the records of some files of a ledger into one snapshot, and remove the files.

    A file with damage stays as it is; so does in a store one that may still grow.

    Parameters
    ----------
    ledger
        The ledger.
    names
        The files.
    in_store
        Whether they are in a store.

    Returns
    -------
    bool
        Whether there was anything to merge.
    """
    records: list[Record] = []
    covers: dict[str, int] = {}
    for name in names:
        try:
            portion = ledger.read(name)
        except FileNotFoundError:  # somebody else merges as well
            return False
        found = _sound(portion) if portion.is_final or not in_store else None
        if found is not None:
            records += found
            covers |= portion.covers
    if not covers:
        return False
    ledger.drop(covers, keep=ledger.publish(latest(records), covers))
    return True


def _sound(portion: Portion) -> list[Record] | None:
    """Give the records of a file without damage, None of another."""
    try:
        records = list(portion.records)
        for record in records:
            check(record)
    except ValueError:
        return None
    return None if portion.damage else records


def latest(records: Iterable[Record]) -> list[Record]:
    """Give of each run the record that says how it is."""
    result: dict[str, Record] = {}
    for record in records:
        known = result.get(record.path)
        if known is None or record.rank > known.rank:
            result[record.path] = record
    return list(result.values())


def _crowded(files: Iterable[str], in_store: bool) -> list[str]:
    """Give snapshots of about the same size if there are so many that they should be one."""
    if in_store:
        return _smallest([name for name in files if name.startswith(SNAPSHOTS)])
    tiers: dict[int, list[str]] = {}
    for name in files:
        if name.startswith(SNAPSHOTS):
            count = max(_SMALLEST, count_of(name.rpartition("/")[2]))
            tiers.setdefault(int(math.log(count / _SMALLEST, FAN)), []).append(name)
    return next((names for names in tiers.values() if len(names) >= FAN), [])


def _smallest(names: list[str]) -> list[str]:
    """Give snapshots such that each of the others has far more records than all that are smaller than it.

    Of 100,000 runs there are then no more than six.
    """
    counts = sorted(((max(_SMALLEST, count_of(name.rpartition("/")[2])), name) for name in names), reverse=True)
    smaller = 0
    first = len(counts)
    for position in range(len(counts) - 1, -1, -1):
        if smaller * _RATIO_IN_STORE >= counts[position][0]:
            first = position
        smaller += counts[position][0]
    return [name for _, name in counts[first:]]
