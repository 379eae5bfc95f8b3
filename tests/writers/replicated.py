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
    return f"f{number:04d}"


def documents(number, rows):
    """Give a run of two streams, in one of which integers become floats, so that its pages are made one."""
    begun = make.start(uid=uid_of(number), time=make.T0 + number, scan_id=number, purpose=f"word{number}")
    primary, slow = make.descriptor(begun, ["x", "y"]), make.descriptor(begun, {"level": "number"}, name="slow")
    yield from [("start", begun), ("descriptor", primary), ("descriptor", slow)]
    for row in range(1, rows + 1):
        yield "event", make.event(primary, row, {"x": value_of(number, row), "y": f"{number}/{row}"})
        if row % 4 == 0:
            yield "event", make.event(slow, row, {"level": row if row < 16 else row + 0.5})
    yield "stop", make.stop(begun, reason="finished")


def value_of(number, row):
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
