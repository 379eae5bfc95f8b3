"""Arrays that `numpy.save` wrote."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from filebroker.assets.uris import opened


def read(path: str, parameters: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read the array in a file."""
    with opened(path) as file:
        return np.asarray(np.load(file, allow_pickle=False))
