"""What a pack says of itself: an RO-Crate, a catalog file for Intake, and a text for people."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import quote

from filebroker.cataloging import packed
from filebroker.storing import layout
from filebroker.transfer.packs.bundles import Bundle
from filebroker.transfer.packs.depots import Source, Written

METADATA, INTAKE, README = "ro-crate-metadata.json", "catalog.yml", "README.md"
_CONTEXT: list[Any] = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
_TYPES = {".jsonl": "application/x-ndjson", ".parquet": "application/vnd.apache.parquet"}
_TYPES |= {".h5": "application/x-hdf5", ".hdf5": "application/x-hdf5", ".nxs": "application/x-hdf5"}
_TYPES |= {".tif": "image/tiff", ".tiff": "image/tiff", ".csv": "text/csv"}
_PROGRAM = "https://pypi.org/project/filebroker/"

_CATALOG_FILE = """\
# For Intake: intake.open_catalog("catalog.yml").runs
sources:
  runs:
    description: Bluesky runs, packed by filebroker
    driver: filebroker
    args:
      url: "{{ CATALOG_DIR }}"
      read_only: true
"""
_TEXT = """\
# A pack of Bluesky runs

This directory is a catalog of {count} runs.  It can be moved, and copied with any program.

    pip install filebroker
    filebroker ls .                      # what is in it
    filebroker unpack . MY_CATALOG       # put its runs into a catalog of your own

    from filebroker import Broker        # in Python
    db = Broker(".")
    db[-1].table()

    intake.open_catalog("catalog.yml").runs

Without filebroker: each run is a directory `<year>/<month>/<day>/<time>-<uid>`.  Its `documents.jsonl` has a document a
line, and its `*.parquet` the events.  Images and other files that it refers to are in `_files`, and
`_files/files.jsonl` says which is whose.  `ro-crate-metadata.json` lists all files with their SHA-256.
"""


class Entry(NamedTuple):
    """What a crate says of one run.

    Attributes
    ----------
    directory : str
        The run's directory.
    start : dict
        Its start document.
    files : dict of str to Written
        Its files by their paths in its directory, each with its size and hash.
    """

    directory: str
    start: Mapping[str, Any]
    files: dict[str, Written]


def entry_of(bundle: Bundle, map_text: bytes) -> Entry:
    """Give what a crate says of a run.

    Parameters
    ----------
    bundle
        The run.
    map_text
        The map of its packed files; empty if there are none.
    """
    documents = Written(len(bundle.text), hashlib.sha256(bundle.text).hexdigest())
    files = {layout.DOCUMENTS: documents, **bundle.pages}
    if map_text:
        for file in packed.read_map(map_text, bundle.directory).files:
            files[f"{packed.DIRECTORY}/{file.path}"] = Written(file.bytes, file.sha256)
    return Entry(bundle.directory, bundle.start, files)


def map_in(source: Source, directory: str) -> bytes:
    """Read the map of a run's packed files; nothing if it has none."""
    try:
        return source.read(f"{directory}/{packed.DIRECTORY}/{packed.MAP}")
    except FileNotFoundError:
        return b""


def descriptions(entries: Iterable[Entry]) -> dict[str, bytes]:
    """Write what a pack says of itself.

    Parameters
    ----------
    entries
        Its runs, the oldest first.

    Returns
    -------
    dict of str to bytes
        The files by their names.
    """
    runs = list(entries)
    return {
        METADATA: json.dumps(_crate(runs), indent=1, ensure_ascii=False).encode(errors="replace"),
        INTAKE: _CATALOG_FILE.encode(),
        README: _TEXT.format(count=len(runs)).encode(),
    }


def _crate(runs: Sequence[Entry]) -> dict[str, Any]:
    graph: list[dict[str, Any]] = [
        {
            **{"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        _root(runs),
        {"@id": "#license", "@type": "CreativeWork", "name": "No licence was stated", "description": _LICENCE},
        {
            **{"@id": _PROGRAM, "@type": "SoftwareApplication", "name": "filebroker", "url": _PROGRAM},
            "version": version("filebroker"),
        },
        {"@id": INTAKE, "@type": "File", "name": "Catalog file for Intake", "encodingFormat": "application/yaml"},
        {"@id": README, "@type": "File", "name": "How to read this pack", "encodingFormat": "text/markdown"},
    ]
    for run in runs:
        graph.append(_dataset(run))
        graph += [_file(run, path, written) for path, written in run.files.items()]
    return {"@context": _CONTEXT, "@graph": graph}


_LICENCE = "Whoever packed these runs did not say how they may be used; ask them."


def _root(runs: Sequence[Entry]) -> dict[str, Any]:
    times = [_time(run.start) for run in runs]
    span = f", recorded from {min(times)} to {max(times)}" if times else ""
    return {
        **{"@id": "./", "@type": "Dataset", "name": f"{len(runs)} Bluesky runs"},
        "description": f"A catalog of {len(runs)} Bluesky runs{span}, packed by filebroker.",
        "datePublished": datetime.now(UTC).isoformat(timespec="seconds"),
        "license": {"@id": "#license"},
        "hasPart": [{"@id": INTAKE}, {"@id": README}, *({"@id": _id(f"{run.directory}/")} for run in runs)],
    }


def _dataset(run: Entry) -> dict[str, Any]:
    start = run.start
    names = [str(start[key]) for key in ("scan_id", "plan_name") if start.get(key) is not None]
    return {
        **{"@id": _id(f"{run.directory}/"), "@type": "Dataset", "identifier": start["uid"]},
        "name": f"run {' '.join([*names, start['uid'][:8]])}",
        "description": f"A run of the plan {start.get('plan_name', '(not told)')}, started at {_time(start)}.",
        "dateCreated": _time(start),
        "hasPart": [{"@id": _id(f"{run.directory}/{path}")} for path in run.files],
    }


def _file(run: Entry, path: str, written: Written) -> dict[str, Any]:
    ending = f".{path.rpartition('.')[2].lower()}"
    return {
        **{"@id": _id(f"{run.directory}/{path}"), "@type": "File", "name": path.rpartition("/")[2]},
        **{"contentSize": str(written.bytes), "sha256": written.sha256},
        "encodingFormat": _TYPES.get(ending, "application/octet-stream"),
    }


def _time(start: Mapping[str, Any]) -> str:
    try:
        return datetime.fromtimestamp(float(start["time"]), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError, TypeError):
        return "0001-01-01T00:00:00+00:00"


def _id(path: str) -> str:
    """Give the relative URI of a path."""
    return quote(path, safe="/~", errors="replace")
