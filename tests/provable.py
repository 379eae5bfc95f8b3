"""A catalog that has everything that can be proved: runs of all states, a ledger, notes, packed files."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import factories as f
from filebroker.cataloging.catalog import Catalog
from filebroker.finding import notes
from filebroker.storing import layout
from filebroker.storing.journal import encode_line
from filebroker.storing.recorder import Recorder

NAMES = ("small", "big", "parted", "cut", "live")
UIDS = {name: f"{name}-0000" for name in NAMES}
TIMES = {name: 1.70e9 + 1e7 * number for number, name in enumerate(NAMES)}
#: Whose lines are read by a line's checksum alone.
NOTE = "_notes/20261122T174908.000000Z-ana-0123abcd.jsonl"


def documents(name: str, pixels: int = 20_000) -> list[tuple[str, dict[str, Any]]]:
    """Give the documents of a run."""
    if name == "big":
        begun = f.start(uid=UIDS[name], time=TIMES[name])
        described = f.descriptor(begun, {"image": "array"})
        rng = np.random.default_rng(0)
        events = [("event", f.event(described, row + 1, {"image": rng.random(pixels)})) for row in range(9)]
        return [("start", begun), ("descriptor", described), *events, ("stop", f.stop(begun))]
    rows = {"small": 8, "parted": 40, "cut": 40, "live": 30}[name]
    pairs = f.run(rows, ["det", "motor"], uid=UIDS[name], time=TIMES[name], note="Ångström")
    return pairs if name in ("small", "parted") else pairs[:-1]


def directory(root: Path, name: str) -> Path:
    """Give the directory of a run."""
    return root / layout.run_directory({"uid": UIDS[name], "time": TIMES[name]})


def record(root: Path, *names: str, pixels: int = 20_000) -> None:
    """Record runs; those without a stop document look as if their writer had died."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Recorder.__init__.__kwdefaults__, "segment_documents", 12)
        catalog = Catalog(root)
        for name in names:
            for pair in documents(name, pixels):
                catalog.insert(*pair)
        catalog.close()


def make(root: Path, pixels: int = 20_000) -> Path:
    """Record the catalog."""
    record(root, "small", "big", "parted", "cut", pixels=pixels)
    with pytest.warns(UserWarning, match="was cut short"):
        Catalog(root).close()
    Catalog(root).catalog.reindex()
    record(root, "live")
    doc = {"run": layout.run_directory({"uid": UIDS["small"], "time": TIMES["small"]}), "uid": UIDS["small"]}
    doc |= {"author": "ana", "time": 1.75e9, "comment": "good", "tags": ["good"], "removed_tags": []}
    (root / "_notes").mkdir()
    (root / NOTE).write_bytes(encode_line(0, notes.NOTE, doc))
    _pack(directory(root, "small"))
    return root


def _pack(run: Path) -> None:
    data = bytes(range(256)) * 4
    (run / "_files" / "0").mkdir(parents=True)
    (run / "_files" / "0" / "a.h5").write_bytes(data)
    file = {
        "path": "0/a.h5",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "original": "/nowhere/a.h5",
    }
    lines = [
        encode_line(-1, "filebroker", {"format": 1, "files": 1}),
        encode_line(0, "resource", {"uid": "r", "path": "0/a.h5"}),
        encode_line(1, "file", file),
    ]
    (run / "_files" / "files.jsonl").write_bytes(b"".join(lines))


def files_of(root: Path) -> list[Path]:
    """Give the files whose every byte is proved: all but locks, which hold nothing of a run."""
    return sorted(path for path in root.rglob("*") if path.is_file() and layout.LIVE not in path.parts)


def fresh_copy(root: Path, target: Path) -> Path:
    """Copy a catalog, in the place of what is there."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root, target, symlinks=True)
    return target
