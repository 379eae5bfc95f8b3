"""From documents in memory to files that never change: pages, committed segments, sealed runs.

A segment is committed by the appearance of ``docs.<k>.jsonl``, and a run by that of
``documents.jsonl``: each is written last, beside its final place, and renamed.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa

from filebroker.ground import filesystem
from filebroker.ground.errors import DamagedRun, StorageError
from filebroker.storing import layout
from filebroker.storing.buffer import ORDINAL, EventBuffer
from filebroker.storing.journal import HEAD, HEAD_ORDINAL, Line, encode_line, read_lines
from filebroker.storing.pages import Page
from filebroker.storing.parquet import PageFile, footer_seal, to_parquet
from filebroker.storing.streams import Stream, Streams
from filebroker.storing.tables import merge, to_table

#: Streams whose pages are larger together, uncompressed, stay as they are even where their types differ.
_MAX_MERGED_BYTES = 1 << 29

FileEntry = dict[str, Any]


class Segment:
    """A stretch of a run's documents: events in buffers, everything else as lines.

    Parameters
    ----------
    number
        Position of the segment in its run.
    streams
        The streams of the run; descriptors must be known there before their events come.
    """

    def __init__(self, number: int, streams: Streams) -> None:
        self.number = number
        self.buffers: dict[str, EventBuffer] = {}
        self.lines: list[bytes] = []
        self._streams = streams

    def add_line(self, line: bytes) -> None:
        """Add a document that stays a line."""
        self.lines.append(line)

    def buffer(self, stream: Stream) -> EventBuffer:
        """Give the buffer of a stream's events."""
        return self.buffers.setdefault(stream.name, EventBuffer())

    def add_events(self, stream: Stream, events: EventBuffer, line: bytes) -> None:
        """Add the events of a document; one without any, an empty event page, stays a line."""
        if len(events):
            self.buffer(stream).extend(events)
        else:
            self.add_line(line)

    def add(self, line: Line) -> None:
        """Add a document that was read from a journal.

        An event whose descriptor was lost stays a line.
        """
        declared = self._streams.declared.get(line.doc.get("descriptor", ""))
        if line.name == "descriptor":
            self._streams.add(line.doc)
        if line.name == "event" and declared is not None:
            self.buffer(declared.stream).add(line.ordinal, line.doc)
        elif line.name == "event_page" and declared is not None:
            events = EventBuffer()
            events.add_page(line.ordinal, line.doc)
            self.add_events(declared.stream, events, encode_line(*line[:3]))
        else:
            self.add_line(encode_line(*line[:3]))

    def write_pages(self, directory: str, *, sync: bool) -> list[FileEntry]:
        """Write the events of each stream as a page."""
        return [
            write_page(directory, self._streams.named(name), self.number, buffer, sync=sync)
            for name, buffer in self.buffers.items()
        ]


def write_page(directory: str, stream: Stream, number: int, buffer: EventBuffer, *, sync: bool) -> FileEntry:
    """Write the events of a buffer as a page into a run's directory, and give its entry for the manifest.

    Raises
    ------
    StorageError
        The filesystem refused.
    """
    table = to_table(buffer, stream.declared)
    return _write_table(directory, stream, number, table, buffer.field(ORDINAL), sync=sync)


def _write_table(
    directory: str, stream: Stream, number: int, table: pa.Table, ordinals: Sequence[int], *, sync: bool
) -> FileEntry:
    data = to_parquet(table)
    path = layout.page_path(stream.directory, number)
    filesystem.make_directory(os.path.join(directory, stream.directory))
    filesystem.publish(os.path.join(directory, path), data, sync=sync)
    return {
        **{"path": path, "stream": stream.name, "rows": table.num_rows, "documents": len(set(ordinals))},
        **{"first": ordinals[0], "last": ordinals[-1], "bytes": len(data)},
        **{"sha256": hashlib.sha256(data).hexdigest(), "footer": footer_seal(data)},
    }


def commit_segment(directory: str, segment: Segment, *, sync: bool) -> list[FileEntry]:
    """Write a segment's pages and lines, then remove its journal.

    Raises
    ------
    StorageError
        The filesystem refused; the journal is untouched.
    """
    files = segment.write_pages(directory, sync=sync)
    body = b"".join(segment.lines)
    head = {"format": layout.FORMAT, "state": "segment", "segment": segment.number, "files": files}
    _publish_lines(directory, layout.docs_name(segment.number), head, body, sync=sync)
    filesystem.remove(os.path.join(directory, layout.journal_name(segment.number)))
    return files


@dataclass
class Manifest:
    """What the head of ``documents.jsonl`` will say of a run.

    Attributes
    ----------
    state : str
        ``sealed``, or ``interrupted`` for a run without a stop document.
    documents : int
        How many documents the run has, whatever their kind.
    damage : list of str
        What was lost of the journal before the run was sealed.
    """

    state: str
    documents: int
    damage: list[str] = field(default_factory=list)


def seal_run(directory: str, manifest: Manifest, streams: Streams, last: Segment | None = None, *, sync: bool) -> None:
    """Turn a run's committed segments, and one in memory, into a sealed run.

    Parameters
    ----------
    directory
        Local path of the run.
    manifest
        What is known of the run.
    streams
        Its streams.
    last
        The segment that was not committed, if any.
    sync
        Return only when everything would survive a power cut.

    Raises
    ------
    StorageError
        The filesystem refused; everything is as safe as it was.
    """
    files, body = read_committed(directory)
    if last is not None:
        files += last.write_pages(directory, sync=sync)
        body += b"".join(last.lines)
    files = _merge_uneven_streams(directory, files, streams, sync=sync)
    head = {
        **{"format": layout.FORMAT, "state": manifest.state, "documents": manifest.documents, "files": files},
        "body": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()},
    }
    if manifest.damage:
        head["damage"] = manifest.damage
    _publish_lines(directory, layout.DOCUMENTS, head, body, sync=sync)
    remove_leftovers(directory, files)


def _publish_lines(directory: str, name: str, head: Mapping[str, Any], body: bytes, *, sync: bool) -> None:
    data = encode_line(HEAD_ORDINAL, HEAD, head) + body
    filesystem.publish(os.path.join(directory, name), data, sync=sync)


def read_committed(directory: str) -> tuple[list[FileEntry], bytes]:
    """Give the pages and the lines of a run's committed segments, in order.

    Parameters
    ----------
    directory
        Local path of a run whose segments are known to be whole.
    """
    files: list[FileEntry] = []
    body = b""
    for name in sorted(os.listdir(directory)):
        if (segment := layout.segment_of(name)) and segment[0] == "docs":
            with open(os.path.join(directory, name), "rb") as file:
                text = file.read()
            parsed = read_lines(text, name)
            files += parsed.lines[0].doc["files"]
            if parsed.damage or parsed.torn:  # only what is good goes on
                body += b"".join(encode_line(*line[:3]) for line in parsed.lines if line.name != HEAD)
            else:
                body += text.partition(b"\n")[2]
    return files, body


def _merge_uneven_streams(directory: str, files: list[FileEntry], streams: Streams, *, sync: bool) -> list[FileEntry]:
    """Make one page of the pages of a stream whose columns are not of the same types.

    Without it a column that held integers at first and floats later would stop pandas and Polars from
    reading the stream's directory.
    """
    by_stream: dict[str, list[FileEntry]] = {}
    for entry in files:
        by_stream.setdefault(entry["stream"], []).append(entry)
    result = []
    for name, entries in by_stream.items():
        pages = _read_uneven(directory, entries)
        if pages:
            number = max(int(entry["path"].rpartition("/")[2].split(".")[0]) for entry in entries) + 1
            ordinals = [ordinal for page in pages for ordinal in page.bookkeeping()[0]]
            stream = streams.named(name)
            entries = [_write_table(directory, stream, number, merge(pages, stream.declared), ordinals, sync=sync)]
        result += entries
    return result


def _read_uneven(directory: str, entries: list[FileEntry]) -> list[Page]:
    """Read the pages of a stream if plain tools would fail on them and merging them is possible.

    Nothing is read where a page is missing or damaged, which is left for readers to report.
    """
    paths = [(os.path.join(directory, entry["path"]), entry["path"]) for entry in entries]
    try:
        shapes = [PageFile(path, name).shape for path, name in paths] if len(paths) > 1 else []
        size = sum(shape.uncompressed for shape in shapes)
        if size < _MAX_MERGED_BYTES and any(one.differs_from(other) for one, other in pairwise(shapes)):
            return [PageFile(path, name).read() for path, name in paths]
    except (DamagedRun, StorageError, FileNotFoundError):
        pass  # the pages stay as they are
    return []


def remove_leftovers(directory: str, files: list[FileEntry]) -> None:
    """Remove from a sealed run what its sealing made superfluous."""
    kept = {entry["path"] for entry in files}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if layout.segment_of(name) or filesystem.is_temporary(name):
            filesystem.remove(path)
        elif os.path.isdir(path):
            for page in os.listdir(path):
                if f"{name}/{page}" not in kept and (page.endswith(".parquet") or filesystem.is_temporary(page)):
                    filesystem.remove(os.path.join(path, page))
