"""What scripts import from ``databroker.v1``."""

from collections.abc import Mapping
from typing import Any

from filebroker.faces.broker import Broker
from filebroker.faces.filtering import ALL
from filebroker.faces.header import Header
from filebroker.faces.registry import Registry
from filebroker.faces.results import Results
from filebroker.faces.temporary import temp, temp_config
from filebroker.ground.errors import InvalidConfig

__all__ = [
    "ALL",
    "Broker",
    "Header",
    "InvalidConfig",
    "Registry",
    "Results",
    "from_config",
    "temp",
    "temp_config",
]


def from_config(config: Mapping[str, Any], auto_register: bool = True, name: str | None = None) -> Any:
    """Open a catalog as a configuration says; see `Broker.from_config`.

    Parameters
    ----------
    config
        What would stand in its file.
    auto_register
        Also use the handlers that installed packages offer.
    name
        A name for people.

    Returns
    -------
    Broker
        The broker.

    Raises
    ------
    InvalidConfig
        The configuration cannot be used.

    Examples
    --------
    >>> from_config({"path": "my_beamtime"}, name="mine").name
    'mine'
    """
    return Broker.from_config(config, auto_register, name)
