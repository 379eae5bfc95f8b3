"""Images that are exported as files of their own."""

import sys
from typing import Any

import numpy as np

from filebroker.ground.errors import NotSupported
from filebroker.ground.packages import need
from filebroker.transfer.outgoing.target import Target


def write_tiff(target: Target, name: str, image: "np.ndarray[Any, Any]") -> None:
    """Write an image as a TIFF file; with three axes or more, one with several pages.

    Parameters
    ----------
    target
        Where it goes.
    name
        The path of the file there.
    image
        At least two axes.

    Raises
    ------
    NotSupported
        TIFF has no room for pixels of that kind.
    AssetExists, StorageError
        As for `Target.path`.
    MissingPackage
        tifffile is not installed.
    """
    tifffile = need("tifffile")
    if image.dtype.kind not in "biuf" or not image.size:
        raise NotSupported(f"an image of shape {image.shape} and type {image.dtype} cannot be a TIFF file")
    pixels = image.astype("uint8") if image.dtype.kind == "b" else np.ascontiguousarray(image)
    if pixels.dtype.byteorder == (">" if sys.byteorder == "little" else "<"):
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    with target.path(name) as path:
        tifffile.imwrite(path, pixels, photometric="minisblack")
