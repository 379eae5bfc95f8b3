"""Images, one or several in a file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from filebroker.assets.uris import opened
from filebroker.ground.packages import need


def read_tiff(path: str, parameters: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read the images of a TIFF file; several pages are stacked.

    Raises
    ------
    MissingPackage
        tifffile is not installed.
    """
    tifffile = need("tifffile")
    with opened(path) as file:
        return np.asarray(tifffile.imread(file))


def read_image(path: str, parameters: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Read an image of a format that Pillow knows: rows, columns, and colours if it has them.

    Raises
    ------
    MissingPackage
        Pillow is not installed.
    """
    pillow = need("PIL.Image")
    with opened(path) as file, pillow.open(file) as image:
        return np.array(image)
