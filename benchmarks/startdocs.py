"""Start documents as beamlines write them, the same at every call: about 1.1 kB with 42 values."""

import random
import uuid
from collections.abc import Iterator
from itertools import accumulate, product
from typing import Any

Document = dict[str, Any]

_COMMON = (
    "the of at with and after sample scan beam in run no on detector shutter edge good alignment bad lost again stage "
    "cooled warm filter moved energy series night ramp check repeat powder film crystal grazing reflectivity "
    "diffraction background reference pristine annealed operando electrolyte cathode lanthanum cobalt nickel copper "
    "substrate holder vacuum pump attenuator drift pressure heating slow fast rate cycle charge recovered user"
)
_RARE = ["".join(parts) for parts in product(("neo", "cryo", "nano"), ("phase", "gel", "foil"), map(str, range(220)))]
#: The words of comments; the n-th is met n times less often than the first.
WORDS = _COMMON.split() + _RARE
_WEIGHTS = list(accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))

#: Each of them is added to 2% of the comments.
PHRASES = ("good sample", "beam lost", "bad alignment", "shutter again", "detector cooled")

#: The most frequent first.
PLANS = (
    *("scan", "count", "rel_scan", "grid_scan", "rocking", "fly_scan", "tune", "list_scan", "escan", "spiral"),
    *("adaptive", "mesh", "xanes", "ramp_temp", "move_count", "ct_dark", "log_scan"),
)
_PLAN_WEIGHTS = list(accumulate((25, 15, 12, 8, 6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 1, 1, 1)))
DETECTORS = ("pilatus", "eiger", "keithley", "ccd", "vortex", "scaler", "bpm", "xspress", "diode", "camera")
#: Samples are named after one of these, a hyphen and a number.
COMPOUNDS = ("LSMO", "YBCO", "NMC811", "SiO2", "FePt", "CuGeO3", "TbMnO3", "LaB6", "Fe2O3", "Au", "NiO", "GaAs")
_MOTORS = ("eta", "theta", "tth", "chi", "phi", "mu", "delta", "gamma", "sx", "sy", "sz", "mono", "gap", "magnet")
_PEOPLE = ("Ana Silva", "Bert Maier", "Chen Wei", "Dora Novak", "Emil Roth", "Farid Haddad", "Gita Rao", "Hugo Lind")
_ELEMENTS = ("La", "Sr", "Mn", "O", "Co", "Pt", "Ni", "Fe", "Cu", "Si", "Au")

_BEGIN, _SECONDS_A_RUN = 1_600_000_000.0, 300.0


def starts(count: int, seed: int = 0, begin: float = _BEGIN) -> Iterator[Document]:
    """Give start documents, the oldest first; a seed has uids of its own."""
    generator, time, sample, proposal = random.Random(seed), begin, {}, {}
    for number in range(count):
        time += generator.expovariate(1 / _SECONDS_A_RUN)
        if number % 400 == 0:
            proposal = {"number": generator.randint(200_000, 299_999), "cycle": f"{2020 + number // 40_000}-1"}
            proposal["owner"] = generator.choice(_PEOPLE)
        if number % 5 == 0:
            sample = _sample(generator)
        yield _start(generator, number + 1, round(time, 6), sample, proposal)


def _sample(generator: random.Random) -> Document:
    return {
        "name": f"{generator.choice(COMPOUNDS)}-{generator.randint(1, 99)}",
        "id": f"S{generator.randint(1, 9999):05d}",
        "temperature": round(generator.choice((300.0, 77.0, 5.0, generator.uniform(2, 900))), 2),
        "mass_mg": generator.randint(1, 500),
        "holder": {"type": generator.choice(("flag", "pin", "capillary")), "slot": generator.randint(1, 12)},
        "composition": generator.sample(_ELEMENTS, generator.randint(1, 4)),
    }


def _start(generator: random.Random, number: int, time: float, sample: Document, proposal: Document) -> Document:
    (plan,) = generator.choices(PLANS, cum_weights=_PLAN_WEIGHTS)
    detectors = generator.sample(DETECTORS, generator.randint(1, 3))
    motors = generator.sample(_MOTORS, 0 if plan == "count" else 2 if "grid" in plan else 1)
    points = generator.choice((11, 21, 51, 101, 201))
    arguments: list[Any] = []
    for motor in motors:
        device = f"EpicsMotor(prefix='BL01:{motor}', name='{motor}', settle_time=0.0)"
        arguments += [device, round(generator.uniform(-9, 9), 4), points]
    return {
        **{"uid": str(uuid.UUID(int=generator.getrandbits(128), version=4)), "time": time, "scan_id": number},
        **{"plan_type": "generator", "plan_name": plan, "motors": motors, "detectors": detectors},
        **{"num_points": points, "num_intervals": points - 1, "plan_pattern": "inner_product"},
        "plan_pattern_module": "bluesky.plan_patterns",
        "plan_args": {"detectors": [f"EpicsSignal(name='{name}')" for name in detectors], "args": arguments},
        "plan_pattern_args": {"num": points, "args": arguments},
        "hints": {"dimensions": [[[motor], "primary"] for motor in motors] or [[["time"], "primary"]]},
        **{"sample": sample, "proposal": proposal, "operator": generator.choice(_PEOPLE), "beamline_id": "BL01"},
        "versions": {"ophyd": "1.9.0", "bluesky": "1.13.0"},
        "comment": _comment(generator),
        "ring_current": round(generator.uniform(100, 300), 3),
        "shutter_open": generator.random() < 0.9,
        "tags": generator.sample(("align", "production", "test", "calibration"), generator.randint(0, 2)),
    }


def _comment(generator: random.Random) -> str:
    words = generator.choices(WORDS, cum_weights=_WEIGHTS, k=generator.randint(3, 18))
    return " ".join(words + [phrase for phrase in PHRASES if generator.random() < 0.02])


def stop(start: Document, number: int) -> Document:
    """Give the stop document of a run; every twentieth failed."""
    failed = number % 20 == 0
    return {
        **{"uid": f"stop-{start['uid']}", "time": start["time"] + 60, "run_start": start["uid"]},
        **{"exit_status": "fail" if failed else "success", "reason": "limit switch hit" if failed else ""},
        "num_events": {"primary": 8, "baseline": 2},
    }


def small_run(start: Document, number: int) -> Iterator[tuple[str, Document]]:
    """Give the documents of a run of two streams and ten events."""
    uid, time = start["uid"], start["time"]
    yield "start", start
    for name, count in (("baseline", 2), ("primary", 8)):
        keys = {key: {"source": f"SIM:{key}", "dtype": "number", "shape": []} for key in ("motor", "signal")}
        doc = {"uid": f"{name}-{uid}", "run_start": uid, "time": time, "name": name, "data_keys": keys}
        yield "descriptor", doc | {"object_keys": {key: [key] for key in keys}, "configuration": {}, "hints": {}}
        for seq_num in range(1, count + 1):
            data = {"motor": seq_num * 0.1, "signal": seq_num * 1.5}
            doc = {"uid": f"{name}-{seq_num}-{uid}", "descriptor": f"{name}-{uid}", "time": time, "seq_num": seq_num}
            yield "event", doc | {"data": data, "timestamps": dict.fromkeys(data, time), "filled": {}}
    yield "stop", stop(start, number)
