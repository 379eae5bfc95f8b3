"""What reads each kind of file that a stream_resource may name: one module a format.

There are two ways of reading.  *Rows* open a file that holds many events along its first axis, and read a range of
them.  *Files* read the whole of one file of a sequence.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from filebroker.assets.formats import hdf5, images, npy, raw, table
from filebroker.assets.shapes import Declared


class Rows(Protocol):
    """An open file, whose first axis is that of frames."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Read a range of rows."""


@dataclass(frozen=True)
class Format:
    """How files of one mimetype are read.

    Attributes
    ----------
    rows : callable, optional
        Opens ``(path, parameters, declared)``, for the time of a ``with``, a file that holds many events.
    file : callable, optional
        Reads ``(path, parameters)``, all of one file of a sequence.
    template : str
        What names the files of a sequence, if the parameters do not say.
    opaque : bool
        The bytes are all that is known, whatever shape is declared.
    """

    rows: Callable[[str, Mapping[str, Any], Declared], AbstractContextManager[Rows]] | None = None
    file: Callable[[str, Mapping[str, Any]], np.ndarray[Any, Any]] | None = None
    template: str = ""
    opaque: bool = False


#: What is read without registering anything, by mimetype.
FORMATS: Mapping[str, Format] = {
    "application/x-hdf5": Format(rows=hdf5.rows, file=hdf5.read),
    "multipart/related;type=image/tiff": Format(file=images.read_tiff),
    "multipart/related;type=image/jpeg": Format(file=images.read_image),
    "multipart/related;type=application/x-npy": Format(file=npy.read, template="%s_%d.npy"),
    "text/csv;header=absent": Format(rows=table.rows),
    "application/octet-stream": Format(file=raw.read, opaque=True),
}
