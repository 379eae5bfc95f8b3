"""Requests to filesystems, one at a time and as few as can be: what differs between S3, web servers and others."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from filebroker.ground.retries import Progress
from filebroker.ground.store_errors import is_absent

#: The filesystem whose methods take no time: they are called where they stand.
_INSTANT = "memory"


@dataclass(frozen=True)
class Piece:
    """Bytes of a file.

    Attributes
    ----------
    data : bytes
        The bytes; none beyond the end.
    total : int or None
        The size of the whole file, where it was told.
    tag : str
        What changes when the file does, where it was told.
    """

    data: bytes
    total: int | None = None
    tag: str = ""


@dataclass(frozen=True)
class Listing:
    """Some of what is in a directory.

    Attributes
    ----------
    files : dict
        Sizes in bytes by name relative to the directory; None where they are not told.
    directories : list of str
        Names of directories in it.
    more : str or None
        What to ask for the rest with; None if this is all.
    """

    files: dict[str, int | None] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    more: str | None = None


class Transport:
    """Requests to any fsspec filesystem.

    Parameters
    ----------
    filesystem
        The filesystem.
    """

    #: Whether all files below a directory can be listed at once.
    is_flat = True
    #: Whether it tells how large a file is when a part of it is read, so that large ones can be read in pieces.
    is_ranged = False

    def __init__(self, filesystem: Any) -> None:
        self.filesystem = filesystem
        self.protocols = protocols_of(filesystem)
        #: Whether exclusive creation was seen to work, by directory.
        self.honest: dict[str, bool] = {}
        self._turn = asyncio.Lock()  # few filesystems that are not asynchronous can be used by several threads

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that its coroutines run in."""
        from fsspec.asyn import get_loop

        loop: asyncio.AbstractEventLoop = getattr(self.filesystem, "loop", None) or get_loop()
        return loop

    @property
    def can_exclude(self) -> bool:
        """Whether its filesystem has means of its own to create a file unless there is one."""
        from fsspec.asyn import AsyncFileSystem
        from fsspec.spec import AbstractFileSystem

        kind = type(self.filesystem)
        if self.filesystem.async_impl:
            return kind._pipe_file is not AsyncFileSystem._pipe_file
        return kind.pipe_file is not AbstractFileSystem.pipe_file  # which looks first, and then writes

    def join(self, root: str, name: str) -> str:
        """Give the path of a name below a directory."""
        return "/".join(part for part in (root, name) if part)

    def credentials(self) -> list[str]:
        """Give what requests were signed with, so that no message shows it."""
        return []

    async def get(self, path: str, start: int, end: int | None, progress: Progress) -> Piece:
        """Read bytes of a file, in one request."""
        try:
            if start == 0 and end is None:
                return Piece(await self._call("cat_file", path))
            return Piece(await self._call("cat_file", path, start=start, end=end))
        except Exception as error:
            if start == 0 or is_absent(error) or await self.size(path) > start:
                raise
            return Piece(b"")

    async def put(self, path: str, data: bytes, exclusive: bool) -> None:
        """Write a whole file; an exclusive one fails if there is one."""
        options = {"mode": "create"} if exclusive else {}
        try:
            await self._call("pipe_file", path, data, **options)
        except FileNotFoundError:  # a filesystem where directories have to be made
            await self._call("makedirs", path.rpartition("/")[0], exist_ok=True)
            await self._call("pipe_file", path, data, **options)

    async def list(self, path: str, flat: bool, more: str | None) -> Listing:
        """List a directory; if flat, with all that is below."""
        try:
            if flat:
                found = list((await self._call("find", path, detail=True)).values())
            else:
                found = await self._call("ls", path, detail=True)
        except Exception as error:
            if is_absent(error):
                return Listing()
            raise
        prefix = f"{path.strip('/')}/".lstrip("/")
        listing = Listing()
        for item in found:
            name = item["name"].strip("/")
            if not name.startswith(prefix) or not name:  # the directory itself, or a file of that name
                continue
            if item["type"] == "directory":
                listing.directories.append(name.removeprefix(prefix))
            else:
                listing.files[name.removeprefix(prefix)] = item["size"]
        return listing

    async def size(self, path: str) -> int:
        """Ask for the size of a file."""
        return int((await self._call("info", path))["size"])

    async def exists(self, path: str) -> bool:
        """Tell whether there is a file or a directory."""
        try:
            await self._call("info", path)
        except FileNotFoundError:
            return False
        return True

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete files; those that are not there are no failure."""
        for path in paths:
            try:
                await self._call("rm_file", path)
            except Exception as error:
                if not is_absent(error):
                    raise

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of the filesystem without holding up the event loop."""
        if self.filesystem.async_impl:
            return await getattr(self.filesystem, f"_{method}")(*args, **options)
        call = getattr(self.filesystem, method)
        if _INSTANT in self.protocols:
            return call(*args, **options)
        async with self._turn:
            return await asyncio.to_thread(call, *args, **options)


def protocols_of(filesystem: Any) -> tuple[str, ...]:
    """Give the names that a filesystem goes by in URLs."""
    found = filesystem.protocol
    return (found,) if isinstance(found, str) else tuple(found)
