"""Packs in a ZIP file: read with suspicion, and written in one go."""

import os
import posixpath
import stat
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import IO

from filebroker.assets.places import is_url
from filebroker.assets.uris import opened
from filebroker.ground import filesystem
from filebroker.ground.errors import DamagedRun, FilebrokerError, InvalidPack, PackExists, StorageError
from filebroker.storing import layout
from filebroker.transfer.packs.depots import PIECE, LocalDepot, Written

#: What unpacks to more than so many times its size, and to more bytes than these, is taken for a bomb.
_MOST_GROWTH, _HARMLESS_BYTES = 100, 1 << 30
#: Files that are read as a whole are no larger.
_MOST_READ = 4 << 30
#: Names of run directories have so many parts.
_RUN_PARTS = 4
_ENCRYPTED = 0x1


class ZipReader:
    """The files of a pack in a ZIP file.

    Parameters
    ----------
    path
        A local path or a URL.

    Raises
    ------
    InvalidPack
        It is no ZIP file or no pack, or has names that lead out of it, links, encrypted files, names twice, or
        contents that are far too large for it.
    StorageError
        It cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.label = path
        self._file: IO[bytes] = _open(path)
        try:
            self._archive = zipfile.ZipFile(self._file)
            self._members = _checked(path, self._archive.infolist(), self._file.seek(0, os.SEEK_END))
            self._prefix = _prefix(path, list(self._members))
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            self._file.close()
            raise InvalidPack(f"{path} is no pack: it cannot be read as a ZIP file ({error})") from error
        except BaseException:
            self._file.close()
            raise
        self._runs: dict[str, dict[str, int]] = {}
        for name, member in self._members.items():
            parts = name.removeprefix(self._prefix).split("/")
            directory = "/".join(parts[:_RUN_PARTS])
            if name.startswith(self._prefix) and layout.is_run_path(directory) and len(parts) > _RUN_PARTS:
                self._runs.setdefault(directory, {})["/".join(parts[_RUN_PARTS:])] = member.file_size

    def __enter__(self) -> "ZipReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    def runs(self) -> list[str]:
        """Give the directories of the runs, oldest first."""
        return sorted(self._runs)

    def sizes(self, directory: str) -> dict[str, int]:
        """Give all files below a directory, by their paths relative to it, with their sizes in bytes."""
        parts = directory.split("/", _RUN_PARTS)
        if len(parts) < _RUN_PARTS:
            top = f"{self._prefix}{directory}/"
            found = self._members.items()
            return {name.removeprefix(top): member.file_size for name, member in found if name.startswith(top)}
        files = self._runs.get("/".join(parts[:_RUN_PARTS]), {})
        below = f"{parts[_RUN_PARTS]}/" if len(parts) > _RUN_PARTS else ""
        return {name.removeprefix(below): size for name, size in files.items() if name.startswith(below)}

    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises
        ------
        FileNotFoundError
            There is none.
        DamagedRun
            It cannot be read.
        """
        member = self._members.get(f"{self._prefix}{name}")
        if member is not None and member.file_size > _MOST_READ:
            raise DamagedRun(f"{self.label} has {name} of {member.file_size:,} bytes, which is too much")
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file piece by piece; see `read`."""
        member = self._members.get(f"{self._prefix}{name}")
        if member is None:
            raise FileNotFoundError(2, "there is no such file in the pack", name)
        try:
            with self._archive.open(member) as file:
                while piece := file.read(PIECE):
                    yield piece
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
            raise DamagedRun(f"{name} in {self.label} cannot be read: {error}") from error
        except Exception as error:  # of the decompression: each method has one of its own
            raise DamagedRun(f"{name} in {self.label} cannot be read: {type(error).__name__}: {error}") from error


def _open(path: str) -> IO[bytes]:
    try:
        return opened(path)
    except OSError as error:
        if isinstance(error, FilebrokerError):
            raise
        raise StorageError(error.errno, f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # each filesystem fails in a way of its own
        raise StorageError(f"cannot read {path}: {type(error).__name__}: {error}") from error


def _checked(path: str, members: Sequence[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """Give the files of an archive of some size by their names, if all of them are harmless."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        if reason := _harm(member):
            raise InvalidPack(f"{path} is not unpacked: {member.filename!r:.200} in it {reason}")
        if member.is_dir():
            continue
        if member.filename in found:
            raise InvalidPack(f"{path} is not unpacked: it has {member.filename!r:.200} twice")
        found[member.filename] = member
    whole = sum(member.file_size for member in found.values())
    if whole > _HARMLESS_BYTES and whole > _MOST_GROWTH * size:
        raise InvalidPack(
            f"{path} is not unpacked: its {size:,} bytes would become {whole:,}, as those of a bomb do. If you trust "
            f"it, unpack it with another program, and then the directory with this one"
        )
    return found


def _harm(member: zipfile.ZipInfo) -> str:
    """Say what is wrong with a member of an archive; nothing if it is harmless."""
    name = member.filename
    if name.startswith("/") or "\\" in name or ":" in name.split("/")[0] or {"..", "."} & set(name.split("/")):
        return "leads out of the directory that it would be unpacked to"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return ""


def _prefix(path: str, names: Sequence[str]) -> str:
    """Give what all names of a pack begin with: nothing, or its directory if that was put into the archive."""
    places = [name for name in names if posixpath.basename(name) == layout.MARKER and name.count("/") <= 1]
    if places:
        return min(places, key=len).removesuffix(layout.MARKER)
    shown = ", ".join(names[:5]) or "nothing"
    raise InvalidPack(
        f"{path} is no pack: it has no {layout.MARKER}, but {shown}. What databroker packed is unpacked by another "
        "program, and then imported by 'filebroker import'"
    )


def refuse_another(path: str) -> None:
    """Refuse to write a file where something is.

    Raises
    ------
    PackExists
        There is something of that name.
    """
    if os.path.lexists(path):
        raise PackExists(f"{path} is there already; remove it, or give another name")


class ZipWriter:
    """Writes a pack as a ZIP file, which appears when it is complete.

    Parameters
    ----------
    path
        A local path or a URL.

    Raises
    ------
    PackExists
        There is something of that name.
    StorageError
        The filesystem refused.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        if is_url(path):
            raise StorageError(f"a ZIP file is written to a local disk, and {path!r} is none; copy it there afterwards")
        refuse_another(self._path)
        filesystem.make_directory(os.path.dirname(os.path.abspath(path)))
        self._aside = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            self._archive = zipfile.ZipFile(self._aside, "x", zipfile.ZIP_STORED)
        except OSError as error:
            raise StorageError(error.errno, f"cannot write {path}: {error.strerror or error}") from error

    def __enter__(self) -> "ZipWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._publish()
            else:
                self._drop()
        finally:
            filesystem.remove(self._aside)

    def _drop(self) -> None:
        """Close the file without its directory, which may not fit the disk any more."""
        file, self._archive.fp = self._archive.fp, None
        if file is not None:
            file.close()

    def _publish(self) -> None:
        try:
            try:
                self._archive.close()
            except BaseException:
                self._drop()
                raise
            with open(self._aside, "rb") as file:
                os.fsync(file.fileno())
            refuse_another(self._path)
            os.replace(self._aside, self._path)
        except OSError as error:
            if isinstance(error, FilebrokerError):
                raise
            raise StorageError(error.errno, f"cannot write {self._path}: {error.strerror or error}") from error

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self._path

    def sizes(self, directory: str) -> dict[str, int]:
        """Give nothing: whatever is written to an archive is written once."""
        return {}

    def read(self, name: str) -> bytes:
        """Give nothing; see `sizes`."""
        raise FileNotFoundError(2, "nothing is read from an archive that is being written", name)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Give nothing; see `sizes`."""
        raise FileNotFoundError(2, "nothing is read from an archive that is being written", name)

    def write(self, name: str, pieces: Iterable[bytes], expected: Written | None = None) -> Written:
        """Write a file; see `LocalDepot.write`.

        What is not as expected is found before it goes into the archive, so it is put together beside that.
        """
        beside = LocalDepot(os.path.dirname(os.path.abspath(self._path)))
        aside = f"{os.path.basename(self._aside).removesuffix('.tmp')}.part.tmp"
        try:
            written = beside.write(aside, pieces, expected)
            with self._archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                for piece in beside.pieces(aside):
                    target.write(piece)
        except OSError as error:
            if isinstance(error, FilebrokerError | FileNotFoundError):
                raise
            raise StorageError(error.errno, f"cannot write {self._path}: {error.strerror or error}") from error
        finally:
            filesystem.remove(os.path.join(beside.root, aside))
        return written
