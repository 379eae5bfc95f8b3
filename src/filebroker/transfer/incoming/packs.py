"""Directories that databroker-pack wrote: where their external files are, and which of them are not there.

In the documents of a pack the roots of resources are keys of the root map in its ``catalog.yml``.  They stay as they
are; whoever reads the runs gives that root map.
"""

import os
import re
import shlex
from collections.abc import Mapping

from filebroker.assets.places import moved
from filebroker.ground import yaml_files
from filebroker.ground.errors import FilebrokerError
from filebroker.transfer.incoming.reports import ImportProblem, ImportReport

CATALOG_FILE, EXTERNAL_FILES = "catalog.yml", "external_files"
_MANIFEST = re.compile(r"(external_files|documents)_manifest.*\.txt\Z")
_MARK = "packed_catalog"
#: No file that databroker-pack writes is larger but for the manifests, which are read line by line.
_MOST_BYTES = 16 << 20


def is_pack(directory: str) -> bool:
    """Tell whether databroker-pack wrote a directory.

    Parameters
    ----------
    directory
        A local directory.
    """
    path = os.path.join(directory, CATALOG_FILE)
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_BYTES:
            return False
        with open(path, "rb") as file:
            return _MARK.encode() in file.read()
    except OSError:
        return False


def is_of_pack(name: str) -> bool:
    """Tell whether a name in a pack is none of its documents.

    Parameters
    ----------
    name
        A file or directory in the pack.
    """
    return name in (CATALOG_FILE, EXTERNAL_FILES) or _MANIFEST.fullmatch(name) is not None


def look_at(directory: str, root_map: Mapping[str, str], report: ImportReport) -> None:
    """Note where the external files of a pack are, and name those that are missing.

    Parameters
    ----------
    directory
        The pack.
    root_map
        Where they are now, if they were moved.
    report
        Gets its ``root_map`` and ``problems``.
    """
    directory = os.path.abspath(directory)
    for root, path in _recorded_map(directory, report).items():
        report.root_map[root] = moved(os.path.normpath(os.path.join(directory, path)), root_map)[0]
    for name in sorted(os.listdir(directory)):
        if name.startswith(EXTERNAL_FILES) and _MANIFEST.fullmatch(name):
            _check_manifest(directory, name, root_map, report)


def _recorded_map(directory: str, report: ImportReport) -> dict[str, str]:
    path = os.path.join(directory, CATALOG_FILE)
    try:
        content = yaml_files.read_mapping(path)
        recorded = content["sources"][_MARK]["args"].get("root_map") or {}
        return {str(root): str(place) for root, place in recorded.items()}
    except (FilebrokerError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"it cannot be read, so it is not known where the external files are: {error!r}"
        report.problems.append(ImportProblem(path, "", "", "", why))
        return {}


def _check_manifest(directory: str, name: str, root_map: Mapping[str, str], report: ImportReport) -> None:
    manifest = os.path.join(directory, name)
    missing: list[str] = []
    try:
        with open(manifest, encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                listed = line.rstrip("\n")
                path = moved(os.path.normpath(os.path.join(directory, listed)), root_map)[0]
                if listed and not os.path.exists(path):
                    missing.append(os.path.dirname(path))
                    why = f"the external file {path} is missing"
                    report.problems.append(ImportProblem(manifest, f"line {number}", "", "", why))
    except OSError as error:
        report.problems.append(ImportProblem(manifest, "", "", "", f"it cannot be read: {error.strerror or error}"))
    if missing:
        place = os.path.commonpath(missing)
        why = f"if its external files were moved, say where to with --root-map {shlex.quote(place)}=NEW"
        report.problems.append(ImportProblem(manifest, "", "", "", why))
