"""Event pages as Parquet files, and the checks that guard them."""

import errno
import zlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from filebroker.ground import codec
from filebroker.ground.errors import DamagedRun, StorageError, UnsupportedFormat
from filebroker.storing.layout import FORMAT
from filebroker.storing.pages import FOOTER_KEY, RESERVED, Page, column_name, is_data, is_shown
from filebroker.storing.ranges import RemoteFile

#: Below this number of rows encodings and statistics cost more than they save.
_SMALL = 1000
_ROW_GROUP_ROWS = 200_000
_ROW_GROUP_BYTES = 16 << 20
_UNTHREADED_ROWS = 50_000

#: Which columns of a page to read.
Columns = Literal["all", "shown", "data", "timestamps", "uids", "descriptors"]
_STAMPS = ("seq_num", "_timestamps", "_ts.")
_SINGLE = {"uids": "_uid", "descriptors": "_descriptor"}


def to_parquet(table: pa.Table) -> bytes:
    """Write a table as a Parquet file in memory.

    The options were chosen by measurement, see docs/decisions/0003-parquet-options.md.
    """
    target = pa.BufferOutputStream()
    width = max(1, table.nbytes // max(1, table.num_rows))
    with pq.ParquetWriter(target, table.schema, **_options(table)) as writer:
        # store_schema=False drops the schema's metadata as well, so it is added by hand.
        writer.add_key_value_metadata(dict(table.schema.metadata))
        writer.write_table(table, row_group_size=max(1, min(_ROW_GROUP_ROWS, _ROW_GROUP_BYTES // width)))
    data: bytes = target.getvalue().to_pybytes()
    return data


def _options(table: pa.Table) -> dict[str, Any]:
    options: dict[str, Any] = {
        **{"compression": "zstd", "compression_level": 1},
        **{"store_schema": False, "write_page_checksum": True},
    }
    if table.num_rows < _SMALL:
        return {**options, "use_dictionary": ["_descriptor"], "write_statistics": False}
    encodings, dictionaries = {}, []
    for field in table.schema:
        kind = field.type
        if pa.types.is_floating(kind) and kind.bit_width >= 32:
            encodings[field.name] = "BYTE_STREAM_SPLIT"
        elif field.name in ("_i", "seq_num") and kind == pa.int64():
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_list(kind) and kind.value_type == pa.float64():
            encodings[f"{field.name}.list.element"] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            dictionaries.append(field.name)
    return {
        **options,
        "column_encoding": encodings,
        "use_dictionary": dictionaries or False,
        "write_statistics": ["seq_num", "time"],
    }


def footer_seal(data: bytes) -> list[int]:
    """Give the length of a Parquet file's footer, magic included, and its CRC-32.

    Parquet's own checksums guard the pages of a file but not its footer.

    Raises
    ------
    DamagedRun
        The file does not end as a Parquet file does.
    """
    size = int.from_bytes(data[-8:-4], "little") + 8
    if bytes(data[-4:]) != b"PAR1" or size > len(data):
        raise DamagedRun("it does not end as a Parquet file does")
    return [size, zlib.crc32(data[-size:])]


class PageShape(NamedTuple):
    """The types of a page's columns by name, and their size in bytes before compression."""

    types: dict[str, pa.DataType]
    uncompressed: int

    def differs_from(self, other: "PageShape") -> bool:
        """Tell whether plain tools would fail to read the two pages as one table.

        They do where a column is of two types, or where a column that a table shows is in one page alone.
        """
        mine, theirs = self.types, other.types
        shown = any(is_shown(name) for name in mine.keys() ^ theirs.keys())
        return shown or any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys())


def _open(source: str | bytes | RemoteFile) -> pq.ParquetFile:
    if isinstance(source, RemoteFile):
        return source.reader(source.open())
    handle = pa.OSFile(source) if isinstance(source, str) else pa.BufferReader(source)
    return pq.ParquetFile(handle, pre_buffer=False, page_checksum_verification=True)


class PageFile:
    """A Parquet file that holds an event page.

    Parameters
    ----------
    source
        A local path, the file's whole content, or a file on a store.
    name
        Its name for messages.

    Raises
    ------
    DamagedRun
        It is no Parquet file, or not one of ours.
    StorageError
        It cannot be opened.
    """

    def __init__(self, source: str | bytes | RemoteFile, name: str) -> None:
        self.name = name
        self._remote = source if isinstance(source, RemoteFile) else None
        try:
            self._file = _open(source)
            self._names = self._file.schema_arrow.names
            footer = codec.loads(self._file.schema_arrow.metadata[FOOTER_KEY])
            version = footer["format"]
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise StorageError(error.errno, f"cannot open {name}: this process has too many files open") from error
            raise DamagedRun(f"{name} is no event page: {error}") from error
        if version != FORMAT or type(version) is not int:
            raise UnsupportedFormat(
                f"{name} has format {version!r}, and this version reads {FORMAT}; upgrade filebroker"
            )

    @property
    def shape(self) -> "PageShape":
        """The types and the size of the columns."""
        metadata = self._file.metadata
        size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        return PageShape({field.name: field.type for field in self._file.schema_arrow}, size)

    def read(self, columns: Columns = "all", keys: Sequence[str] | None = None) -> Page:
        """Read the page, or some of its columns.

        Parameters
        ----------
        columns
            ``all``; ``shown``, what a table shows: seq_num, time and data; ``data`` alone; ``timestamps``, ``uids``
            or ``descriptors`` of the events.
        keys
            Data keys to read; None for all.  Unknown keys are passed over.

        Raises
        ------
        DamagedRun
            A checksum does not match.
        StorageError
            The store that has the file failed.
        """
        wanted = self._names
        if columns in _SINGLE:
            wanted = [name for name in wanted if name.removeprefix("_x.") in (_SINGLE[columns], "seq_num")]
        elif columns == "timestamps":
            wanted = [name for name in wanted if name.removeprefix("_x.").startswith(_STAMPS)]
        elif columns != "all":
            names = None if keys is None else {column_name(key) for key in keys}
            bare = {name: name.removeprefix("_x.") for name in wanted}
            wanted = [
                name
                for name in wanted
                if (columns == "shown" and bare[name] in RESERVED)
                or (is_data(bare[name]) and (names is None or bare[name] in names))
            ]
        chosen = None if wanted == self._names else wanted
        use_threads = self._file.metadata.num_rows > _UNTHREADED_ROWS
        try:
            if self._remote is None:
                table = self._file.read(columns=chosen, use_threads=use_threads)
            else:
                table = self._remote.read(chosen, use_threads=use_threads)
        except (StorageError, FileNotFoundError):  # the store failed: nothing is known of the file
            raise
        except (pa.ArrowException, DamagedRun, OSError) as error:
            raise DamagedRun(f"{self.name} cannot be read: {error}") from error
        return Page(table, self._names)
