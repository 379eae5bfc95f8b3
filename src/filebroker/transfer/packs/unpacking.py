"""Packs put into a catalog: from a directory, a URL or a ZIP file."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from filebroker.assets import remotes
from filebroker.assets.places import is_url
from filebroker.cataloging.catalog import Catalog
from filebroker.finding.inventory import Inventory
from filebroker.ground.errors import CatalogNotFound, InvalidPack
from filebroker.ground.filesystem import Folder
from filebroker.ground.progress import Progress, silent
from filebroker.transfer.packs.annotations import discarded_in
from filebroker.transfer.packs.archives import ZipReader
from filebroker.transfer.packs.copy_reports import CopyReport
from filebroker.transfer.packs.copying import Copier
from filebroker.transfer.packs.depots import Source, depot_of
from filebroker.transfer.packs.packing import is_zip

#: What databroker-pack writes beside the documents.
_DATABROKER = ("documents_manifest.txt", "external_files_manifest", "root_map")


def unpack(
    source: str | os.PathLike[str],
    target: Catalog | str | os.PathLike[str],
    *,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> CopyReport:
    """Put the runs of a pack into a catalog, with the files that were packed together with them.

    What is there already is passed over, so it can be repeated.  Runs in the trash of the pack stay there.

    Parameters
    ----------
    source
        A pack, or a ZIP file of one: a path or a URL.
    target
        A catalog, or where one is or shall be made.
    dry_run
        Write nothing, and tell what would be done.
    storage_options
        Arguments of the fsspec filesystem of the source.
    progress
        Is told how far it has come.

    Returns
    -------
    CopyReport
        What was unpacked, and what was not and why.

    Raises
    ------
    InvalidPack
        The source is no pack, or a ZIP file that is not to be trusted: with names that lead out of it, links, or
        contents far too large for it.  Nothing was written.
    ReadOnlyCatalog
        The target cannot be written to.
    StorageError
        A filesystem refused.  What was unpacked before stays.

    Examples
    --------
    >>> from filebroker import Broker, pack
    >>> pack(Broker.named("example").catalog.search({"scan_id": 22}), "share.zip", zip=True)
    <PackReport: 1 run packed ...>
    >>> unpack("share.zip", "my_beamtime")
    <CopyReport: 1 run copied ...>
    >>> unpack("share.zip", "my_beamtime")
    <CopyReport: 0 runs copied (0 documents, 0 B), 1 there already>
    """
    report = CopyReport(dry_run=dry_run)
    with _opened(os.fspath(source), storage_options) as (files, found):
        trash = discarded_in(files)
        directories = [directory for directory in found if directory not in trash]
        report.trashed += [trash[directory] for directory in found if directory in trash]
        catalog = target if isinstance(target, Catalog) else Catalog(target)
        with Copier(catalog, report) as copier:
            for number, directory in enumerate(directories, 1):
                copier.copy(files, directory, files)
                progress("unpacking runs", number, len(directories))
            copier.finish()
    return report


@contextmanager
def _opened(source: str, storage_options: Mapping[str, Any] | None) -> Iterator[tuple[Source, list[str]]]:
    """Give the files of a pack, and the directories of its runs, the oldest first."""
    is_file = source.lower().endswith(".zip") if is_url(source) else is_zip(source) or os.path.isfile(source)
    if is_file:
        if is_url(source):
            remotes.remember(source.rpartition("/")[0], storage_options or {})
        with ZipReader(source) as archive:
            yield archive, archive.runs()
        return
    folder = Folder(source, storage_options)
    names = folder.names()
    if any(name.startswith(_DATABROKER) for name in names):
        raise InvalidPack(
            f"{source} was packed by databroker-pack, or unpacked by databroker; 'filebroker import' takes it in"
        )
    try:
        Catalog(source, storage_options=storage_options, read_only=True)
    except CatalogNotFound as error:
        raise InvalidPack(f"{source} is no pack: {error}") from error
    yield depot_of(folder), list(Inventory(folder))[::-1]
