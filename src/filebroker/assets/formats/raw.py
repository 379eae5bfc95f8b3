"""Files of which nothing is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from filebroker.assets.uris import opened


def read(path: str, parameters: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read the bytes of a file."""
    with opened(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8)
