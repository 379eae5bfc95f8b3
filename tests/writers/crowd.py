"""One of many processes that are busy in a catalog.

python crowd.py record ROOT FIRST COUNT    record runs, and print the number of each once its stop is acknowledged
python crowd.py compact ROOT               compact the ledger again and again, until killed
python crowd.py count ROOT                 wait for a line, open the catalog, print how many runs it has
"""

import sys
import time

from filebroker.cataloging.catalog import Catalog
from filebroker.finding.compaction import compact
from filebroker.finding.ledger import Ledger
from filebroker.ground.filesystem import Folder


def run(number):
    """Give the documents of a short run."""
    uid, moment = f"f{number:04d}", 1763809925.25 + number
    start = {"uid": uid, "time": moment, "scan_id": number, "plan_name": "count", "purpose": f"word{number}"}
    stop = {"uid": f"stop of {uid}", "time": moment + 0.5, "run_start": uid, "exit_status": "success", "reason": "done"}
    return [("start", start), ("stop", stop)]


def record(root, first, count):
    """Record some runs."""
    catalog = Catalog(root, sync="never")
    for number in range(int(first), int(first) + int(count)):
        for name, doc in run(number):
            catalog.insert(name, doc)
        print(number, flush=True)


def compact_always(root):
    """Compact without end."""
    ledger = Ledger(Folder(root))
    while True:
        compact(ledger)
        time.sleep(0.002)


def count(root):
    """Count the runs once a line came."""
    print("ready", flush=True)
    sys.stdin.readline()
    catalog = Catalog(root)
    print(len(catalog), len(list(catalog)), len(catalog.search({"plan_name": "count"})), flush=True)


if __name__ == "__main__":
    {"record": record, "compact": compact_always, "count": count}[sys.argv[1]](*sys.argv[2:])
