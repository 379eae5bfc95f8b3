"""Giving runs to another broker, with the files that they refer to."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from filebroker.assets.copies import relocated
from filebroker.assets.places import is_url, moved
from filebroker.assets.uris import located
from filebroker.faces.header import Header
from filebroker.faces.registry import Registry
from filebroker.ground.documents import Document
from filebroker.ground.errors import MissingAsset

_RESOURCES = ("resource", "stream_resource")


class Sink(Protocol):
    """What takes documents, such as a broker."""

    def insert(self, name: str, doc: Any) -> Any:
        """Take a document."""


def export(
    registry: Registry,
    headers: Iterable[Header],
    sink: Sink,
    new_root: str | None = None,
    copy_keywords: Mapping[str, Any] | None = None,
) -> list[tuple[str, str]]:
    """Insert every document of some runs into another broker; see `Broker.export`.

    Parameters
    ----------
    registry
        That of the broker of the headers.
    headers
        The runs.
    sink
        The other broker.
    new_root
        Where to copy the files of resources to, None to leave them where they are.
    copy_keywords
        For `Registry.copy_files`.
    """
    pairs: list[tuple[str, str]] = []
    for header in headers:
        changed: dict[str, Document] = {}
        if new_root is not None:  # before the first document, so that what fails can be repeated
            copied, changed = _copy_files(registry, header, new_root, copy_keywords or {})
            pairs += dict.fromkeys(copied)  # fields may share a file
        for name, doc in header.plain_documents():
            sink.insert(name, changed.get(doc["uid"], doc) if name in _RESOURCES else doc)
    return pairs


def _copy_files(
    registry: Registry, header: Header, new_root: str, copy_keywords: Mapping[str, Any]
) -> tuple[list[tuple[str, str]], dict[str, Document]]:
    """Copy the files of a run, and give their paths, and the documents that tell of the copies by their uids."""
    keywords = {"run_start_uid": header.uid, **copy_keywords}
    pairs: list[tuple[str, str]] = []
    changed: dict[str, Document] = {}
    for name, doc in header.plain_documents():
        if name in _RESOURCES:
            resource = doc if name == "resource" else _as_resource(doc, header, registry.root_map)
            pairs += registry.copy_files(resource, new_root, **keywords)
            told = relocated(resource, os.path.abspath(new_root))
            changed[doc["uid"]] = {**doc, "uri": _uri(told)} if "uri" in doc else told
    return pairs, changed


def export_size(headers: Iterable[Header]) -> float:
    """Give how large the files are that some runs refer to; see `Broker.export_size`.

    Parameters
    ----------
    headers
        The runs.

    Returns
    -------
    float
        In GB, of 1e9 bytes.
    """
    files = {
        file
        for header in headers
        for name, doc in header.plain_documents()
        if name in _RESOURCES
        for file in header.files_of(doc)
    }
    return sum(map(_size, files)) * 1e-9


def _as_resource(doc: Document, header: Header, root_map: Mapping[str, str]) -> Document:
    """Give a stream resource with its path where a resource has it, and where old ones have it."""
    if "uri" not in doc:
        return doc
    files = header.files_of(doc)
    readings = located(doc["uri"], {})
    meant = (path for path in readings if any(file.startswith(moved(path, root_map)[0]) for file in files))
    path = next(meant, readings[0])
    return {**doc, "root": path[: len(path) - len(path.lstrip("/"))], "resource_path": path.lstrip("/")}


def _uri(resource: Document) -> str:
    path = os.path.join(resource["root"], resource["resource_path"])
    slash = "/" if resource["uri"].endswith("/") else ""
    return Path(path).as_uri().replace("file://", "file://localhost", 1) + slash


def _size_of_url(file: str) -> int:
    import fsspec

    return int(fsspec.core.url_to_fs(file)[0].size(file))


def _size(file: str) -> int:
    try:
        return _size_of_url(file) if is_url(file) else os.path.getsize(file)
    except FileNotFoundError as error:
        raise MissingAsset(f"{file} is not there; db.reg.root_map tells where files have moved") from error
