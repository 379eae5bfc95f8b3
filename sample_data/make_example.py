"""Record the example catalog anew: ``python sample_data/make_example.py``.

The runs are simulated with ``ophyd.sim`` and recorded by the real RunEngine through ``Broker.insert``.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from bluesky import RunEngine, RunEngineInterrupted, plan_stubs as bps, plans as bp
from bluesky.preprocessors import SupplementalData, run_decorator, stage_decorator
from bluesky.utils import FailedStatus, RequestAbort
from ophyd import sim

from filebroker import Broker

EXAMPLE = Path(__file__).parent / "example"
SAMPLES = ("LaB6 standard", "good sample", "x-ray mirror", "empty holder")


def spoiled(error: Exception) -> Callable:
    """Give a plan that is cut short by an error after two points."""

    @stage_decorator([sim.det])
    @run_decorator(md={"plan_name": "alignment", "comment": "the beam was lost"})
    def plan() -> Iterator:
        for _ in range(2):
            yield from bps.trigger_and_read([sim.det, sim.motor])
        raise error

    return plan


def record(engine: RunEngine) -> None:
    """Record all runs of the example."""
    motor, det = sim.motor, sim.det
    for number in range(4):
        sample = {"name": SAMPLES[number], "id": f"S{number + 1:03d}"}
        engine(bp.count([det], num=3), sample=sample, comment="is there beam?")
        engine(bp.scan([det], motor, -2, 2, 9 + number), sample=sample)
        engine(bp.list_scan([det], motor, [0, 1, 3, 4.5]), sample=sample)
    engine(bp.rel_scan([sim.noisy_det], motor, -0.5, 0.5, 6), sample={"name": SAMPLES[0]}, operator="Ana")
    engine(bp.grid_scan([sim.det4], sim.motor1, -1, 1, 5, sim.motor2, -1, 1, 4, snake_axes=True), operator="Ana")
    engine(bp.inner_product_scan([sim.det4], 5, sim.motor1, -1, 1, sim.motor2, -1, 1), operator="Bert")
    engine(bp.count([sim.direct_img], num=5), comment="flat field, images in the events", operator="Bert")
    engine(bp.fly([sim.flyer1]), comment="flying")
    for error in (RequestAbort("stopped by the operator"), FailedStatus("the motor did not arrive")):
        try:
            engine(spoiled(error)())
        except (RunEngineInterrupted, RequestAbort, FailedStatus) as expected:
            print(f"one run was spoiled on purpose: {expected!r}")
    engine.preprocessors.append(SupplementalData(baseline=[sim.motor1, sim.motor2], monitors=[]))
    engine(bp.count([sim.det1, sim.det2], num=4), sample={"name": "good sample"}, comment="with a baseline")
    engine(bp.adaptive_scan([det], "det", motor, -2, 2, 0.1, 0.8, 0.2, True), operator="Chen")
    engine(bp.scan([det], motor, -1, 1, 11), sample={"name": "good sample", "id": "S002"}, operator="Chen")


def main() -> None:
    """Replace the example catalog."""
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    broker = Broker(EXAMPLE)
    engine = RunEngine({"beamline_id": "SIM", "proposal_id": "example"})
    engine.subscribe(broker.insert)
    record(engine)
    size = sum(file.stat().st_size for file in EXAMPLE.rglob("*") if file.is_file())
    print(f"{len(broker.catalog)} runs, {size} bytes")


if __name__ == "__main__":
    main()
