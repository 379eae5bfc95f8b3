"""Lazy tables of dask, made without its turning lists, arrays and mappings into text."""

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from filebroker.ground import forks
from filebroker.ground.packages import need

if TYPE_CHECKING:
    import pandas as pd


class _Maker:
    """Makes tables one after the other, because what it sets in dask is set for the whole process."""

    def __init__(self) -> None:
        self.renew_locks()
        forks.renew_in_children(self)

    def renew_locks(self) -> None:
        """Begin anew in a forked child."""
        self._mutex = threading.Lock()

    def __call__(self, reader: Callable[..., "pd.DataFrame"], parts: Iterable[tuple[Any, ...]], meta: Any) -> Any:
        """Give a table.

        Parameters
        ----------
        reader
            Reads a partition.
        parts
            Its arguments for each partition; there may be none.
        meta
            The table without rows.

        Returns
        -------
        dask.dataframe.DataFrame
            The table.

        Raises
        ------
        MissingPackage
            dask is not installed.
        """
        frames = need("dask.dataframe")
        columns = list(zip(*parts, strict=True))
        with self._mutex, need("dask").config.set({"dataframe.convert-string": False}):
            if not columns:
                return frames.from_pandas(meta, npartitions=1)
            return frames.from_map(reader, *columns, meta=meta, label="events")


table_of_parts = _Maker()
