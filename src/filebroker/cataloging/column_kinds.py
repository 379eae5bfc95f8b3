"""What the columns of a stream's pages have, by their footers as far as possible, and what fits all pages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from filebroker.cataloging.table_columns import key_of, page_dtype
from filebroker.storing.pages import RESERVED, Page, is_data
from filebroker.storing.parquet import Columns, PageFile

#: What an event's own columns are of, unless an event has something else there.
_OWN_TYPES = {"seq_num": pa.int64(), "time": pa.float64()}
#: Beyond these an integer has no float of its own.
_EXACT_INTEGER = 1 << 53


class Kind(NamedTuple):
    """What a column has in a page.

    Attributes
    ----------
    dtype : str
        ``int64``, or one of those of `TableColumn`.
    has_gaps : bool
        Some of the integers are missing.
    is_exact : bool
        Each of the integers has a float of its own.
    is_empty : bool
        It is known that all values are missing.
    """

    dtype: str
    has_gaps: bool = False
    is_exact: bool = True
    is_empty: bool = False


def merged_dtype(kinds: Sequence[Kind | None]) -> str:
    """Give the dtype of a column that has room for what all pages have.

    Parameters
    ----------
    kinds
        What each page has; None for nothing.
    """
    filled = [kind for kind in kinds if kind is not None and not kind.is_empty]
    dtypes = {kind.dtype for kind in filled}
    if dtypes == {"int64"} and len(filled) == len(kinds) and not any(kind.has_gaps for kind in filled):
        return "int64"
    if not dtypes:  # what the descriptors declare, if they do
        dtypes = {kind.dtype for kind in kinds if kind is not None} - {"object"}
    if dtypes and dtypes <= {"int64", "float64"}:
        return "float64" if all(kind.is_exact for kind in filled) else "object"
    return dtypes.pop() if len(dtypes) == 1 else "object"


def is_contradictory(kinds: Sequence[Kind | None]) -> bool:
    """Tell whether a column is of several kinds, unless one of the pages has none of its values.

    Parameters
    ----------
    kinds
        What each page has, as far as is known; None for nothing.
    """
    filled = [kind.dtype for kind in kinds if kind is not None and not kind.is_empty]
    dtypes = {"number" if dtype in ("int64", "float64") else dtype for dtype in filled}
    return len(dtypes) > 1 and "object" not in dtypes


def kinds_in_page(page: Page) -> dict[str, Kind]:
    """Give what a page has in its columns, by name; those that a table shows have been read.

    Parameters
    ----------
    page
        The page.
    """
    types = dict(zip(page.table.schema.names, page.table.schema.types, strict=True))
    return {name: _kind(name, types[name], page) for name in _shown(types)}


def kinds_in_footer(page: PageFile, keys: Sequence[str] | None) -> dict[str, Kind]:
    """Give the same of a file by its footer, and by columns that this does not tell enough of.

    Parameters
    ----------
    page
        The page.
    keys
        Data keys; None for all.

    Raises
    ------
    DamagedRun
        A checksum does not match.
    StorageError
        The store that has the page failed.
    """
    types = page.shape.types
    wanted = None if keys is None else frozenset(keys)
    names = [name for name in _shown(types) if name in RESERVED or wanted is None or key_of(name) in wanted]
    footer = page.read("data", [])
    doubtful = [name for name in names if _is_doubtful(name, types, footer)]
    found = _read(page, doubtful) if doubtful else footer
    return {name: _kind(name, types[name], found) for name in names}


def kinds_in_columns(page: PageFile, names: Sequence[str]) -> dict[str, Kind]:
    """Give the same of some columns of a file by all that they have.

    Parameters
    ----------
    page
        The page.
    names
        The columns.

    Raises
    ------
    DamagedRun
        A checksum does not match.
    StorageError
        The store that has the page failed.
    """
    return kinds_in_page(_read(page, names))


def _shown(types: Iterable[str]) -> list[str]:
    return [name for name in types if name in RESERVED or is_data(name)]


def _read(page: PageFile, names: Sequence[str]) -> Page:
    columns: Columns = "shown" if RESERVED.intersection(names) else "data"
    return page.read(columns, [key_of(name) for name in names if is_data(name)])


def _is_doubtful(name: str, types: Mapping[str, pa.DataType], footer: Page) -> bool:
    """Tell whether a column has to be looked at: nothing else tells gaps and large numbers among integers."""
    if "encoding" in footer.meta(name):
        return False
    return f"_x.{name}" in types or (pa.types.is_integer(types[name]) and types[name] != _OWN_TYPES.get(name))


def _kind(name: str, arrow_type: pa.DataType, page: Page) -> Kind:
    dtype = page_dtype(name, arrow_type, page)
    if dtype == "object":
        return Kind(dtype, is_empty=pa.types.is_null(arrow_type))
    values = page.column(name).values if page.has(name) else None
    is_empty = values is not None and values.null_count == len(values)
    if not pa.types.is_integer(arrow_type):
        return Kind(dtype, is_empty=is_empty)
    if pa.types.is_unsigned_integer(arrow_type):
        return Kind("object")  # it is there for integers beyond 2**63
    limits = [] if values is None or is_empty else pc.min_max(values).as_py().values()
    is_exact = all(abs(number) <= _EXACT_INTEGER for number in limits)
    return Kind("int64", values is not None and values.null_count > 0, is_exact, is_empty)
