"""Where runs are imported from: directories are walked, and what is in them is recognised by its content."""

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from filebroker.finding.inventory import Inventory
from filebroker.ground.filesystem import Folder
from filebroker.storing import layout
from filebroker.transfer.incoming import packs as incoming_packs
from filebroker.transfer.incoming.files import kind_of
from filebroker.transfer.incoming.reports import MOST_FOREIGN, ImportProblem, ImportReport
from filebroker.transfer.packs.annotations import discarded_in
from filebroker.transfer.packs.depots import depot_of

#: Files of these names are meant to hold documents: one that does not is no stranger, but damaged.
_SUFFIXES = (".jsonl", ".msgpack")
#: So deep below a source directories are looked into.
_MAX_DEPTH = 64


class Unit(NamedTuple):
    """What is imported at once.

    Attributes
    ----------
    kind : str
        ``jsonl``, ``json`` or ``msgpack``: a file; ``run``: of another catalog; ``databroker``: a run of databroker's.
    path : str
        The file, or the directory of the catalog, or its name.
    inner : str
        The run in it: its directory, or its uid.
    size : int
        So many bytes, as far as that is known.
    """

    kind: str
    path: str
    inner: str = ""
    size: int = 0

    @property
    def place(self) -> str:
        """What it is called in messages."""
        return f"{self.path}/{self.inner}" if self.kind == "run" else self.inner or self.path


class Walk:
    """The units below files and directories, one after another; nothing is listed before it is needed.

    Parameters
    ----------
    report
        What is passed over is noted there.
    kind
        One of `KINDS`, if that is known.
    root_map
        Where the external files of packs are now, if they were moved.
    omit
        Leave out this directory: the catalog that is imported into.
    """

    def __init__(self, report: ImportReport, kind: str | None, root_map: dict[str, str], omit: str | None) -> None:
        self._report, self._kind, self._root_map = report, kind, root_map
        self._omit = None if omit is None else os.path.realpath(omit)
        self._visited: set[tuple[int, int]] = set()
        self._depth = 0

    def units(self, source: str) -> Iterator[Unit]:
        """Give the units of a file or directory.

        Parameters
        ----------
        source
            Its local path.
        """
        if os.path.isdir(source):
            yield from self._guarded(source)
            return
        unit = self._unit(source, is_named=True)
        if unit is not None:
            yield unit

    def _below(self, directory: str) -> Iterator[Unit]:
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in self._visited or os.path.realpath(directory) == self._omit:
            return  # a link that leads back
        self._visited.add((status.st_dev, status.st_ino))
        if os.path.exists(os.path.join(directory, layout.MARKER)) or self._kind == "filebroker":
            yield from self._of_catalog(directory)
            return
        is_pack = incoming_packs.is_pack(directory) and self._kind in (None, "pack")
        if is_pack:
            incoming_packs.look_at(directory, self._root_map, self._report)
        yield from self._within(directory, is_pack=is_pack)

    def _of_catalog(self, directory: str) -> Iterator[Unit]:
        """Give the runs of another catalog, but for those in its trash."""
        folder = Folder(directory)
        trash = discarded_in(depot_of(folder))
        for run in Inventory(folder):
            if run in trash:
                self._report.trashed += 1
            else:
                yield Unit("run", folder.url, run, 0)

    def _within(self, directory: str, *, is_pack: bool) -> Iterator[Unit]:
        inner: list[str] = []
        for entry in self._listed(directory, lambda: os.scandir(directory)):
            if is_pack and incoming_packs.is_of_pack(entry.name):
                continue
            if os.path.isdir(entry.path):
                inner.append(entry.path)
            elif (unit := self._unit(entry.path, is_named=False)) is not None:
                yield unit
        for path in sorted(inner):
            if layout.is_run_directory(os.path.basename(path)) and _holds_run(path):
                yield Unit("run", directory, os.path.basename(path), 0)
            else:
                yield from self._guarded(path)

    def _guarded(self, directory: str) -> Iterator[Unit]:
        if self._depth == _MAX_DEPTH:
            self._refuse(directory, f"it is {_MAX_DEPTH} directories deep, and is not looked into; name it as a source")
            return
        self._depth += 1
        try:
            yield from self._below(directory)
        except OSError as error:
            self._refuse(directory, f"it cannot be listed: {error.strerror or error}")
        finally:
            self._depth -= 1

    def _listed(self, directory: str, scan: Callable[[], "os._ScandirIterator[str]"]) -> Iterator["os.DirEntry[str]"]:
        try:
            with scan() as entries:
                yield from entries
        except OSError as error:
            self._refuse(directory, f"it cannot be listed: {error.strerror or error}")

    def _unit(self, path: str, *, is_named: bool) -> Unit | None:
        """Give a file as a unit; None, and a note, if it holds no documents."""
        if not os.path.isfile(path):
            self._pass_over(path, "it leads nowhere" if os.path.islink(path) else "it is no file", is_meant=is_named)
            return None
        kind, why = kind_of(path)
        wanted = self._kind if self._kind in ("jsonl", "json", "msgpack") else None
        if kind and wanted and kind != wanted:
            kind, why = "", f"it is {kind}, and not {wanted}"
        if not kind:
            is_meant = is_named or wanted is not None or path.endswith(_SUFFIXES)
            self._pass_over(path, why, is_meant=is_meant)
            return None
        return Unit(kind, path, "", os.path.getsize(path))

    def _pass_over(self, path: str, why: str, *, is_meant: bool) -> None:
        if is_meant:
            self._refuse(path, why)
            return
        self._report.passed_over += 1
        if len(self._report.foreign) < MOST_FOREIGN:
            self._report.foreign.append(f"{path}: {why}")

    def _refuse(self, path: str, why: str) -> None:
        self._report.problems.append(ImportProblem(path, "", "", "", why))


def _holds_run(directory: str) -> bool:
    try:
        names = os.listdir(directory)
    except OSError:  # it is told when its runs are looked for
        return False
    return layout.DOCUMENTS in names or any(map(layout.segment_of, names))
