"""The images of runs as a PIMS sequence, as databroker v1 gave them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from filebroker.faces.header import Header
from filebroker.ground.errors import InvalidOption, UnknownField
from filebroker.ground.lazy import cached_property
from filebroker.ground.packages import need


def images_of(headers: Iterable[Header], name: str, stream_name: str) -> Any:
    """Give the images of a field, of one run after the other; see `Broker.get_images`.

    Parameters
    ----------
    headers
        The runs.
    name
        The field.
    stream_name
        The stream.

    Returns
    -------
    pims.FramesSequence
        Each image is read when it is asked for.

    Raises
    ------
    UnknownField
        No run has it.
    InvalidOption
        Its values are no arrays.
    """
    columns = [header.column(name, stream_name) for header in headers if name in header.fields(stream_name)]
    if not columns:
        raise UnknownField(f"none of the runs has a field {name!r} in a stream {stream_name!r}")
    first = next((column[0] for column in columns if len(column)), None)
    if first is not None and np.ndim(first) == 0:
        raise InvalidOption(f"{name!r} has single values, {first!r:.50} for one, and no images; see Header.data")
    return _sequence_class()(columns)


def _sequence_class() -> Any:
    """Make the class, which needs pims for its base."""
    pims: Any = need("pims")
    base: Any = pims.FramesSequence

    class Images(base):  # type: ignore[misc]
        """Images of a field, each read when it is asked for.

        Parameters
        ----------
        columns
            The values of the field, one sequence a run.
        """

        def __init__(self, columns: list[Sequence[Any]]) -> None:
            self._places = [(column, row) for column in columns for row in range(len(column))]

        def __len__(self) -> int:
            return len(self._places)

        @cached_property
        def _first(self) -> Any:
            return np.asarray(self._read(0))

        def _read(self, position: int) -> Any:
            column, row = self._places[position]
            return column[row]

        @property
        def frame_shape(self) -> Any:
            """The shape of the first image."""
            return self._first.shape

        @property
        def pixel_type(self) -> Any:
            """The type of its pixels."""
            return self._first.dtype

        def get_frame(self, i: int) -> Any:
            """Read one image."""
            return pims.Frame(np.asarray(self._read(i)), frame_no=i)

    return Images
