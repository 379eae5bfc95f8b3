"""Waits for a line, begins a run, says how that went, and holds the run until the next line.

python racer.py ROOT UID
"""

import sys

from filebroker.cataloging.catalog import Catalog
from filebroker.ground.errors import FilebrokerError


def main(root, uid):
    """Race."""
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        Catalog(root).insert("start", {"uid": uid, "time": 1763821925.25})
    except FilebrokerError as error:
        print(type(error).__name__, flush=True)
    else:
        print("recording", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
