"""Records some runs one after the other, slowly enough that they are copied meanwhile.

The tests of replication run this as a process of its own:

    python replicated.py ROOT RUNS

It prints a line when the first run has begun.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import factories as make
from filebroker.cataloging.catalog import Catalog
from filebroker.storing.recorder import Recorder

ROWS, PAUSE_SECONDS = 25, 0.01


def uid_of(number):
    """Give the uid of a run."""
    return f"f{number:04d}"


def documents(number, rows):
    """Give a run of two streams, in one of which integers become floats, so that its pages are made one."""
    uid = uid_of(number)
    begun = make.start(uid=uid, time=make.T0 + number, scan_id=number, purpose=f"word{number}")
    primary = make.descriptor(begun, ["x", "y"], uid=f"primary of {uid}")
    slow = make.descriptor(begun, ["level"], name="slow", uid=f"slow of {uid}")
    yield from [("start", begun), ("descriptor", primary), ("descriptor", slow)]
    for row in range(1, rows + 1):
        values = {"x": value_of(number, row), "y": f"{number}/{row}"}
        yield "event", make.event(primary, row, values, uid=f"{row} of {uid}")
        if row % 4 == 0:
            yield "event", make.event(slow, row, {"level": row if row < 16 else row + 0.5}, uid=f"slow {row} of {uid}")
    yield "stop", make.stop(begun, reason="finished", uid=f"stop of {uid}")


def value_of(number, row):
    """Give the number that a row has."""
    return number * 1000 + row / 8


def main(root, runs):
    """Record."""
    Recorder.__init__.__kwdefaults__["segment_documents"] = 10
    catalog = Catalog(root, sync="never")
    for number in range(1, int(runs) + 1):
        for name, doc in documents(number, ROWS):
            catalog.insert(name, doc)
            if (number, name) == (1, "start"):
                print("begun", flush=True)
            time.sleep(PAUSE_SECONDS)
    catalog.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
