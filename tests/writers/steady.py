"""Records one run, and prints the number of each document once it is acknowledged.

The tests of crashes run this as a process of its own and kill it:

    python steady.py ROOT EVENTS SEGMENT_DOCUMENTS [PAUSE [HOLD]]

PAUSE is the time in seconds between two documents.  Before document HOLD the writer waits for a line.
"""

import sys
import time
import uuid

import numpy as np

from filebroker.cataloging.catalog import Catalog
from filebroker.storing.recorder import Recorder

UID = "84d9ee44-1d2e-44c1-8c5a-cd9b28c71284"


def documents(events, uid=UID):
    """Give the documents of a run: three streams, arrays, pages, a column that changes its type midway."""
    yield "start", {"uid": uid, "time": 1763821925.25, "plan_name": "count", "sample": {"name": "Ni", "ΔT": -0.5}}
    keys = {
        "primary": {"x": "number", "n": "integer", "image": "array"},
        "slow": {"level": "number", "note": "string"},
        "paged": {"y": "number"},
    }
    for name, data_keys in keys.items():
        yield (
            "descriptor",
            {
                **{"uid": f"{name} of {uid}", "run_start": uid, "time": 1763821926.0, "name": name},
                "data_keys": {key: {"dtype": kind, "shape": [], "source": key} for key, kind in data_keys.items()},
            },
        )
    for number in range(events):
        if number % 10 == 7:
            yield "event_page", _page(uid, number)
        elif number % 5 == 3:
            level = number if number < events // 2 else number + 0.5
            yield "event", _event(uid, "slow", number, {"level": level, "note": "é\n" * (number % 4)})
        else:
            image = np.arange(100, dtype="uint16").reshape(5, 20) * number
            x = float("nan") if number % 4 == 0 else number / 3
            yield "event", _event(uid, "primary", number, {"x": x, "n": number, "image": image})
    yield "stop", {"uid": f"stop of {uid}", "run_start": uid, "time": 1763822000.0, "exit_status": "success"}


def _event(uid, stream, number, data):
    moment = 1763821930.0 + number
    return {
        **{"uid": str(uuid.UUID(int=number)), "descriptor": f"{stream} of {uid}", "seq_num": number + 1},
        **{"time": moment, "data": data, "timestamps": dict.fromkeys(data, moment), "filled": {}},
    }


def _page(uid, number):
    moments = [1763821930.0 + number, 1763821930.5 + number]
    return {
        **{"uid": [f"{number} a", f"{number} b"], "descriptor": f"paged of {uid}"},
        **{"seq_num": [2 * number + 1, 2 * number + 2], "time": moments},
        **{"data": {"y": [1.5, number / 7]}, "timestamps": {"y": moments}, "filled": {}},
    }


def main(root, events, segment_documents, pause="0", hold="-1"):
    """Record."""
    Recorder.__init__.__kwdefaults__["segment_documents"] = int(segment_documents)
    catalog = Catalog(root)
    for number, (name, doc) in enumerate(documents(int(events))):
        if number == int(hold):
            sys.stdin.readline()
        catalog.insert(name, doc)
        print(number, flush=True)
        time.sleep(float(pause))


if __name__ == "__main__":
    main(*sys.argv[1:])
