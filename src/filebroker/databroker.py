"""What scripts import from ``databroker.databroker``: above all the broker of the legacy configuration.

``DataBroker``, ``get_events``, ``get_table``, ... exist where a configuration named ``_legacy_config`` can be opened;
a broken one gives a warning, and never breaks the import.
"""

from typing import Any

from filebroker.faces import legacy
from filebroker.faces.broker import Broker
from filebroker.faces.header import Header
from filebroker.ground.config import lookup_config
from filebroker.utils import get_fields

__all__ = ["Broker", "Header", "get_fields", "lookup_config"]

#: The name of the legacy configuration.
SPECIAL_NAME = legacy.special_name()
legacy.load()  # so that what is wrong with it is said now


def __getattr__(name: str) -> Any:
    return legacy.attribute(name)
