"""Tables as text."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from filebroker.assets.shapes import Declared
from filebroker.assets.uris import opened

if TYPE_CHECKING:
    import pandas as pd

#: The parameters of a stream_resource that say how its text is written; they are those of `pandas.read_csv`.
_OPTIONS = frozenset(
    {
        "comment",
        "delimiter",
        "dtype",
        "encoding",
        "header",
        "names",
        "nrows",
        "sep",
        "skipfooter",
        "skiprows",
        "usecols",
    }
)


@contextmanager
def rows(path: str, parameters: Mapping[str, Any], declared: Declared) -> Iterator[np.ndarray[Any, Any]]:
    """Read a table without a header, for the time of a ``with``.

    Columns of one kind make a matrix; those of several make records.
    """
    import pandas as pd

    options = {"header": None} | {name: value for name, value in parameters.items() if name in _OPTIONS}
    if options.get("skipfooter"):
        options["engine"] = "python"
    with opened(path) as file:
        frame = pd.read_csv(file, iterator=False, chunksize=None, **options)
    yield _records(frame, declared.dtype) if _is_mixed(frame, declared.dtype) else frame.to_numpy()


def _is_mixed(frame: "pd.DataFrame", dtype: np.dtype[Any]) -> bool:
    import pandas as pd

    kinds = {"number" if pd.api.types.is_numeric_dtype(kind) else "other" for kind in frame.dtypes}
    return dtype.names is not None or len(kinds) > 1


def _records(frame: "pd.DataFrame", dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Give the rows of a table as records; their fields have the declared names where there are as many."""
    names = dtype.names
    if names is None or len(names) != len(frame.columns):
        names = tuple(str(name) for name in frame.columns)
    columns = [_plain(frame.iloc[:, place].to_numpy()) for place in range(len(names))]
    records = np.empty(len(frame), [(name, column.dtype) for name, column in zip(names, columns, strict=True)])
    for name, column in zip(names, columns, strict=True):
        records[name] = column
    return records


def _plain(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return column.astype(str) if column.dtype == object else column
