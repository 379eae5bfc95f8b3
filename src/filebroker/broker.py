"""What scripts import from ``databroker.broker``, as it was called before version 1."""

from filebroker.faces.broker import Broker
from filebroker.faces.filtering import ALL
from filebroker.faces.header import Header

__all__ = ["ALL", "Broker", "Header"]
