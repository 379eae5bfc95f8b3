"""The documents of a run, the same at every call: start, descriptor, events of scalars, stop."""

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

_BEGIN = 1_700_000_000.0
_START, _DESCRIPTOR, _STOP = (str(UUID(int=number, version=4)) for number in range(3))


def keys(columns: int) -> list[str]:
    """Give the data keys of a run; every fifth holds integers, the others floats."""
    return [f"count_{number}" if number % 5 == 4 else f"signal_{number}" for number in range(columns)]


def events(rows: int, columns: int) -> Iterator[dict[str, Any]]:
    """Give events as a RunEngine emits them."""
    generator, names = random.Random(1), keys(columns)
    for row in range(rows):
        time = _BEGIN + row * 0.05 + generator.random() * 0.01
        yield {
            "uid": str(UUID(int=generator.getrandbits(128), version=4)),
            "time": time,
            "data": {
                name: generator.randrange(100_000) if name.startswith("count") else generator.gauss(row * 0.001, 1.0)
                for name in names
            },
            "timestamps": {name: time - 0.001 * (number % 7) for number, name in enumerate(names)},
            "seq_num": row + 1,
            "filled": {},
            "descriptor": _DESCRIPTOR,
        }


def run(rows: int, columns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give all documents of a run with one stream, ``primary``."""
    data_keys = {
        name: {"source": f"SIM:{name}", "dtype": "integer" if name.startswith("count") else "number", "shape": []}
        for name in keys(columns)
    }
    yield "start", {"uid": _START, "time": _BEGIN, "scan_id": 1, "plan_name": "scan", "detectors": ["det"]}
    yield (
        "descriptor",
        {
            **{"uid": _DESCRIPTOR, "run_start": _START, "time": _BEGIN, "name": "primary", "data_keys": data_keys},
            **{"object_keys": {"det": list(data_keys)}, "configuration": {}, "hints": {}},
        },
    )
    for event in events(rows, columns):
        yield "event", event
    time = _BEGIN + rows * 0.05 + 1
    yield "stop", {"uid": _STOP, "run_start": _START, "time": time, "exit_status": "success"}
