"""What the drivers have in common."""

from abc import ABC
from typing import Any, NoReturn

from filebroker.ground.errors import NotSupported


class Driver(ABC):  # noqa: B024 - it is there to be registered with
    """A driver of databroker's that other classes can be registered with."""

    #: What databroker's driver reads.
    reads = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to make one."""
        raise NotSupported(
            f"filebroker does not read {cls.reads}; open them with databroker once, and insert the documents of each "
            "run: old.v1.process(old.v1(), filebroker.Broker('my_beamtime').insert)"
        )
