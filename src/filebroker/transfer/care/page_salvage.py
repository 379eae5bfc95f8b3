"""What can be read of damaged pages, and of pages that no manifest names any more."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from filebroker.ground import codec
from filebroker.ground.documents import Document, stream_name
from filebroker.ground.errors import DamagedRun, StorageError, UnsupportedFormat
from filebroker.storing import layout
from filebroker.storing.pages import FOOTER_KEY, Page
from filebroker.storing.parquet import PageFile, footer_seal, to_parquet
from filebroker.storing.sealing import FileEntry
from filebroker.transfer.care.trees import Tree


class Rows(NamedTuple):
    """The rows of a page that can be read.

    Attributes
    ----------
    table : pyarrow.Table or None
        These, None if there are none.
    lost : int
        How many there are not.
    """

    table: pa.Table | None
    lost: int

    def sealed(self, entry: FileEntry, taken: Collection[str]) -> tuple[FileEntry, bytes]:
        """Give a page of these rows: its entry for a manifest, and its content.

        Parameters
        ----------
        entry
            That of the page they were read from.
        taken
            Paths of pages that are there.
        """
        assert self.table is not None
        data = to_parquet(self.table)
        ordinals = self.table.column("_i").to_pylist()
        directory = entry["path"].partition("/")[0]
        number = page_number(entry["path"])
        while (path := layout.page_path(directory, number)) in taken:
            number += 1
        return entry_of(path, entry["stream"], data, ordinals), data


def page_number(path: str) -> int:
    """Give the number of a page."""
    return int(path.rpartition("/")[2].partition(".")[0])


def entry_of(path: str, stream: str, data: bytes, ordinals: Sequence[int]) -> FileEntry:
    """Give what a manifest says of a page."""
    return {
        **{"path": path, "stream": stream, "rows": len(ordinals), "documents": len(set(ordinals))},
        **{"first": ordinals[0], "last": ordinals[-1], "bytes": len(data)},
        **{"sha256": hashlib.sha256(data).hexdigest(), "footer": footer_seal(data)},
    }


def read_rows(path: str, entry: FileEntry) -> Rows:
    """Read the row groups of a damaged page whose checksums are right.

    Of a page whose footer is damaged nothing can be trusted.  Neither is an event page given in part.

    Parameters
    ----------
    path
        Its local path.
    entry
        What the manifest says of it.
    """
    nothing = Rows(None, entry["rows"])
    try:
        with open(path, "rb") as source:
            data = source.read()
        if footer_seal(data) != entry["footer"]:
            return nothing
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer = codec.loads(file.schema_arrow.metadata[FOOTER_KEY])
        if footer["const"].get("page") or "_page" in file.schema_arrow.names:
            return nothing
        groups = _good_groups(file, footer["const"].get("i"))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError):
        return nothing
    if not groups:
        return nothing
    table = pa.concat_tables(groups)
    const = {key: value for key, value in footer["const"].items() if key != "i"}
    renewed = {**footer, "rows": table.num_rows, "const": const}
    return Rows(table.replace_schema_metadata({FOOTER_KEY: codec.dumps(renewed)}), entry["rows"] - table.num_rows)


def _good_groups(file: pq.ParquetFile, first: int | None) -> list[pa.Table]:
    """Give the row groups that can be read, each with the ordinals of its rows."""
    groups, begin = [], first
    for number in range(file.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        try:
            group = file.read_row_group(number)
        except (pa.ArrowException, OSError):
            group = None
        if group is not None and begin is not None:
            group = group.append_column("_i", pa.array(range(begin, begin + rows), pa.int64()))
        if group is not None:
            groups.append(group)
        begin = None if begin is None else begin + rows
    return groups


def adopt(tree: Tree, path: str, names: Sequence[str], descriptors: Sequence[Document]) -> list[FileEntry]:
    """Make entries for pages that no manifest names, if all of them can be read.

    Parameters
    ----------
    tree
        The files of the catalog.
    path
        The run's directory.
    names
        The pages.  Of two that overlap, the one with the higher number counts, as it was made of both.
    descriptors
        The descriptors of the run, which tell the names of the streams.
    """
    streams = {doc["uid"]: stream_name(doc) for doc in descriptors}
    found: list[FileEntry] = []
    for name in sorted(names, key=page_number, reverse=True):
        try:
            data = tree.read(f"{path}/{name}")
            page = PageFile(data, name).read()
            ordinals = [int(ordinal) for ordinal in page.bookkeeping()[0]]
            stream = _stream_of(page, name, streams)
            entry = entry_of(name, stream, data, ordinals)
        except (DamagedRun, UnsupportedFormat, StorageError, FileNotFoundError, ValueError, KeyError, IndexError):
            continue
        directory = name.partition("/")[0]
        others = [one for one in found if one["path"].partition("/")[0] == directory]
        if all(one["last"] < entry["first"] or one["first"] > entry["last"] for one in others):
            found.append(entry)
    return sorted(found, key=itemgetter("first"))


def _stream_of(page: Page, name: str, streams: Mapping[str, str]) -> str:
    """Give the name of the stream that a page is of: that of its descriptor, else as its directory has it."""
    for descriptor in dict.fromkeys(page.descriptors()):
        if descriptor in streams:
            return streams[descriptor]
    return unquote(name.partition("/")[0].partition("~")[0], errors="surrogateescape")
