"""Names and paths: where a run, its documents and its pages are kept.

Every name made from a uid or a stream name is safe on any filesystem: it has no separator, no control
character, nothing that Windows reserves, and no more than 200 characters.  The names inside a run are
for people; the manifest in ``documents.jsonl`` says which file holds which stream.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

#: Version of the format on disk, see docs/reference/format.md.
FORMAT = 1
MARKER = "filebroker.json"
LIVE = "_live"
LEDGER = "_index"
#: What was said of runs afterwards; and runs on their way to be removed for good.
NOTES, PURGED = "_notes", "_purged"
DOCUMENTS = "documents.jsonl"
UNDATED = "0000/00/00"

_MAX_NAME = 200
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)
_RUN_DIRECTORY = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-(.+)\Z", re.DOTALL)
_RUN_PATH = re.compile(r"[0-9]{4}/[0-9][0-9]/[0-9][0-9]/[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-[^/\\]+\Z")
_PAGE = re.compile(r"[A-Za-z0-9%-][A-Za-z0-9%_.~-]*/[0-9]{5,}\.parquet\Z")
_SEGMENT = re.compile(r"(journal|docs)\.([0-9]{5,})\.jsonl\Z")


def encode_name(name: str) -> str:
    """Encode any string as a file name.

    Letters, digits, ``_``, ``-`` and inner dots stay; everything else is percent-encoded.  A name that
    would be longer than 200 characters is cut, and ends in ``~`` and a hash of the whole.

    Examples
    --------
    >>> encode_name("primary"), encode_name("../x"), encode_name("CON"), encode_name("dark frame")
    ('primary', '%2E.%2Fx', '%43ON', 'dark%20frame')
    """
    encoded = quote(name, safe="", errors="surrogatepass").replace("~", "%7E")
    if encoded[:1] in ("", ".", "_") or _RESERVED.match(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}" if encoded else "%"
    if encoded.endswith("."):
        encoded = encoded[:-1] + "%2E"
    if len(encoded) > _MAX_NAME:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
        encoded = f"{encoded[:100]}~{digest}"
    return encoded


def run_directory(start: Mapping[str, Any]) -> str:
    """Give the directory of a run, relative to the catalog's root.

    It begins with the start time in UTC, so that listings are chronological.  A time that no calendar
    has goes to ``0000/00/00``.

    Examples
    --------
    >>> run_directory({"uid": "84d9ee44", "time": 1763821925.25})
    '2025/11/22/20251122T143205.250000Z-84d9ee44'
    """
    try:
        time = datetime.fromtimestamp(float(start["time"]), UTC)
        day, stamp = time.strftime("%Y/%m/%d").rjust(10, "0"), time.strftime("%Y%m%dT%H%M%S.%fZ").rjust(23, "0")
    except (ValueError, OverflowError, OSError):
        day, stamp = UNDATED, "00000000T000000.000000Z"
    return f"{day}/{stamp}-{encode_name(start['uid'])}"


def lock_name(uid: str) -> str:
    """Give the name of the file in ``_live`` that is locked while a run is recorded.

    Examples
    --------
    >>> lock_name("84d9ee44")
    '84d9ee44.json'
    """
    return f"{encode_name(uid)}.json"


def lock_name_of(directory: str) -> str:
    """Give the name of the lock file of the run in a directory."""
    match = _RUN_DIRECTORY.match(directory.rpartition("/")[2])
    return f"{match[1] if match else ''}.json"


def is_run_path(directory: str) -> bool:
    """Tell whether a path is one that `run_directory` gives.

    Examples
    --------
    >>> is_run_path("2025/11/22/20251122T143205.250000Z-84d9ee44"), is_run_path("../x")
    (True, False)
    """
    return _RUN_PATH.match(directory) is not None


def is_run_directory(name: str) -> bool:
    """Tell whether a directory's own name is that of a run."""
    return _RUN_DIRECTORY.match(name) is not None


def run_path(name: str) -> str:
    """Give the path of a run whose directory has this name.

    Examples
    --------
    >>> run_path("20251122T143205.250000Z-84d9ee44")
    '2025/11/22/20251122T143205.250000Z-84d9ee44'
    """
    return f"{name[:4]}/{name[4:6]}/{name[6:8]}/{name}"


def stream_directory(stream: str, taken: Iterable[str]) -> str:
    """Give the directory of a stream's pages, distinct from those taken whatever their case.

    Examples
    --------
    >>> stream_directory("Primary", taken=["primary"])
    'Primary~2'
    """
    base, used = encode_name(stream), {name.casefold() for name in taken}
    name, number = base, 2
    while name.casefold() in used:
        name, number = f"{base}~{number}", number + 1
    return name


def page_path(directory: str, number: int) -> str:
    """Give the path of a stream's page, relative to the run's directory."""
    return f"{directory}/{number:05d}.parquet"


def is_page_path(path: str) -> bool:
    """Tell whether a path is one that `page_path` gives: inside the run, and nowhere else.

    Examples
    --------
    >>> is_page_path("primary/00000.parquet"), is_page_path("../00000.parquet")
    (True, False)
    """
    return _PAGE.match(path) is not None


def journal_name(segment: int) -> str:
    """Give the name of an open segment: documents as they came, one a line."""
    return f"journal.{segment:05d}.jsonl"


def docs_name(segment: int) -> str:
    """Give the name of a committed segment of a run still in progress."""
    return f"docs.{segment:05d}.jsonl"


def segment_number(path: str) -> int:
    """Read the number off the path of a segment's file."""
    segment = segment_of(path.replace("\\", "/").rpartition("/")[2])
    return segment[1] if segment else 0


def segment_of(name: str) -> tuple[str, int] | None:
    """Read the kind (``journal`` or ``docs``) and number off a segment's file name."""
    match = _SEGMENT.match(name)
    return (match[1], int(match[2])) if match else None
