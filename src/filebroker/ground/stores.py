"""Files below one URL of any filesystem: S3, a web server, memory; with few requests, within a deadline."""

import asyncio
import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

from filebroker.ground import secrets
from filebroker.ground.connections import Connection, connect, protocols, server_of
from filebroker.ground.errors import AccessDenied, MissingStore, StorageError, StoreUnreachable
from filebroker.ground.retries import Errand, Gate, Progress
from filebroker.ground.store_errors import is_existing
from filebroker.ground.transports import Listing, Piece

_Terms = ParamSpec("_Terms")
_Answer = TypeVar("_Answer")

#: Files that are larger are read in pieces of so many bytes, several at a time.
_PIECE = 8 << 20
#: So many requests go on at a time.
_REQUESTS = 64
#: So often a file is read anew that is replaced while it is read, or created anew that is removed meanwhile.
_ATTEMPTS = 5
#: Protocols that only read.
_READ_ONLY = frozenset(
    {"data", "git", "github", "gist", "http", "https", "jar", "jlab", "jupyter", "libarchive", "tar", "zip"}
)


class Store:
    """The files below one URL.

    It is made cheaply and connected when first used.  It can be pickled, shared by threads and used after a fork.
    Every method but those that only name things raises `StorageError` or one of its subclasses: `StoreUnreachable`,
    `AccessDenied`, `MissingStore`.

    Parameters
    ----------
    url
        An fsspec URL, such as ``s3://bucket/beamtime``.
    storage_options
        Arguments of the fsspec filesystem.  A value ``{"env": "NAME"}`` stands for that of an environment variable.

    Attributes
    ----------
    url : str
        The URL, without a slash at its end.
    storage_options : dict
        As given: secrets that are named stay names.

    Raises
    ------
    InvalidConfig
        The URL has a password in it.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        secrets.refuse_credentials(url)
        self.url = url if url.endswith("://") else url.rstrip("/")
        self.storage_options = dict(storage_options or {})
        self._connection: Connection | None = None
        self._process = 0

    def __repr__(self) -> str:
        return f"<Store {self.url!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url, self.storage_options)

    @property
    def place(self) -> str:
        """The URL, and the server where one is named: what distinguishes the store from others."""
        server = server_of(self.storage_options)
        return f"{self.url} at {server}" if server else self.url

    @property
    def is_writable(self) -> bool:
        """Whether files can be written there at all; False for web servers and archives."""
        return not _READ_ONLY & set(protocols(self.url))

    def path(self, name: str) -> str:
        """Give the full path of a file, as its filesystem knows it."""
        return self._connected().path(name)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """Read a file, or the bytes from ``start`` up to ``end``.

        It takes one request, or as many as it has pieces of 8 MiB.  Beyond the end there are no bytes.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        StorageError
            It cannot be read.
        """
        found = self.read_many([(name, start, end)])[0]
        if isinstance(found, Exception):
            raise found
        return found

    def read_many(self, parts: Sequence[tuple[str, int, int | None]]) -> list[bytes | Exception]:
        """Read parts of files at the same time.

        Parameters
        ----------
        parts
            The files' names, where each part begins, and where it ends or None.

        Returns
        -------
        list
            The parts in this order; in the place of one that cannot be read, the exception that `read` would raise.
        """
        return self._run(self._read_many, parts)

    def names(self, name: str = "") -> list[str]:
        """List the names directly in a directory, sorted; one that is not there has none.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        listing = self._run(self._list, name, flat=False)
        return sorted({*listing.files, *listing.directories})

    def sizes(self, name: str) -> dict[str, int]:
        """List the files directly in a directory with their sizes in bytes; one that is not there has none.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        return self._run(self._sizes, name)

    def tree(self, name: str) -> dict[str, int]:
        """List all files below a directory, by their paths relative to it, with their sizes in bytes.

        Raises
        ------
        StorageError
            The directory cannot be listed.
        """
        return self._run(self._tree, name)

    def exists(self, name: str = "") -> bool:
        """Tell whether there is a file or a directory of that name.

        Raises
        ------
        StorageError
            That cannot be found out.
        """
        link = self._connected()
        path = link.path(name)
        return self._run(self._errand(f"looking for {name!r}").run, lambda _: link.transport.exists(path))

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, in the place of the one that is there, if any.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        self._run(self._put, name, data, exclusive=False)

    def create(self, name: str, data: bytes) -> bool:
        """Write a whole file unless there is one.

        Returns
        -------
        bool
            True if the file is there with these bytes: it was created now, or was the same already.
            False if there is one with other bytes, which is left alone.

        Raises
        ------
        StorageError
            It cannot be written, or not be told what is there.
        """
        for _ in range(_ATTEMPTS):
            if self._created(name, data):
                return True
            try:
                return self.read(name, 0, len(data) + 1) == data
            except FileNotFoundError:  # removed meanwhile
                continue
        raise StoreUnreachable(
            f"{self.url} did not create {name!r}: it is said to exist, and not to exist, again and again; "
            f"other programs seem to make and remove it at the same time"
        )

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are no error.

        Raises
        ------
        StorageError
            They cannot be removed.
        """
        link = self._connected()
        paths = [link.path(name) for name in names]
        if paths:
            errand = self._errand(f"removing {len(paths)} files")
            self._run(errand.run, lambda _: link.transport.delete(paths))

    def probe(self) -> bool:
        """Tell whether the store honours exclusive creation; tried once, with a file of its own.

        Raises
        ------
        StorageError
            It cannot be written there at all.
        """
        link = self._connected()
        known = link.transport.honest
        if link.root not in known:
            known[link.root] = link.transport.can_exclude and self._is_honest()
        return known[link.root]

    def _is_honest(self) -> bool:
        name = f"_index/probe-{uuid.uuid4().hex}"
        self._run(self._put, name, b"first", exclusive=True)
        is_honest = not self._run(self._put, name, b"second", exclusive=True)
        with contextlib.suppress(AccessDenied):  # whoever may not remove finds out when it matters
            self.remove([name])
        return is_honest

    def _created(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one; tell whether it was written."""
        if not self.probe():
            if self.exists(name):
                return False
            return self._run(self._put, name, data, exclusive=False)
        return self._run(self._put, name, data, exclusive=True)

    # Coroutines, which run in the event loop of the filesystem.

    async def _read_many(self, parts: Sequence[tuple[str, int, int | None]]) -> list[bytes | Exception]:
        gate = Gate(_REQUESTS)
        return await asyncio.gather(*(self._read(gate, *part) for part in parts))

    async def _read(self, gate: Gate, name: str, start: int, end: int | None) -> bytes | Exception:
        errand = self._errand(f"reading {name!r}")
        try:
            for _ in range(_ATTEMPTS):
                pieces = await self._pieces(gate, errand, name, start, end)
                if len({piece.tag for piece in pieces if piece.data}) <= 1:
                    return pieces[0].data if len(pieces) == 1 else b"".join(piece.data for piece in pieces)
        except (FileNotFoundError, StorageError) as error:
            return error
        return StoreUnreachable(f"{self.url} gave no two pieces of the same {name!r}: it is replaced all the time")

    async def _pieces(self, gate: Gate, errand: Errand, name: str, start: int, end: int | None) -> list[Piece]:
        """Read a part of a file, in one request if it is small: the first answer tells how large it is."""
        link = self._connected()
        path = link.path(name)

        async def piece(first: int, last: int | None) -> Piece:
            return await gate.run(errand, lambda progress: link.transport.get(path, first, last, progress))

        if not link.transport.is_ranged:
            return [await piece(start, end)]
        if end is None:
            end = sys.maxsize
        first = await piece(start, min(end, start + _PIECE))
        stop = min(end, start if first.total is None else first.total)
        rest = range(start + max(_PIECE, len(first.data)), stop, _PIECE)
        first = replace(first, data=first.data[: max(0, end - start)])
        return [first, *await asyncio.gather(*(piece(at, min(at + _PIECE, stop)) for at in rest))]

    async def _list(self, name: str, *, flat: bool) -> Listing:
        """List a directory, each of the requests that this takes within the deadline."""
        link = self._connected()
        path = link.path(name)
        errand = self._errand(f"listing {name!r}")
        whole = Listing()
        found = Listing(more=None)

        async def next_page(_: Progress) -> Listing:
            return await link.transport.list(path, flat, found.more)

        while True:
            try:
                found = await errand.run(next_page)
            except FileNotFoundError:
                await self._check_root(name)
                return whole
            whole.files.update(found.files)
            whole.directories.extend(found.directories)
            if found.more is None:
                return whole

    async def _check_root(self, name: str) -> None:
        """Make sure that an absent directory is one, and not one of a server that lists none at all."""
        if name:
            await self._list("", flat=False)
        else:
            raise MissingStore(
                f"{self.url} is not there, or its server lists no directories (autoindex), without which a catalog "
                f"cannot be read from it; check the address in a browser"
            )

    async def _sizes(self, name: str) -> dict[str, int]:
        return await self._measured(name, (await self._list(name, flat=False)).files)

    async def _tree(self, name: str) -> dict[str, int]:
        if self._connected().transport.is_flat:
            return await self._measured(name, (await self._list(name, flat=True)).files)
        listing = await self._list(name, flat=False)
        files = await self._measured(name, listing.files)
        below = await asyncio.gather(*(self._tree(_below(name, directory)) for directory in listing.directories))
        for directory, found in zip(listing.directories, below, strict=True):
            files.update({f"{directory}/{path}": size for path, size in found.items()})
        return files

    async def _measured(self, name: str, files: dict[str, int | None]) -> dict[str, int]:
        """Ask for the sizes that a listing does not tell."""
        gate = Gate(_REQUESTS)
        link = self._connected()

        async def size(file: str, known: int | None) -> int | None:
            if known is not None:
                return known
            path = link.path(_below(name, file))
            errand = self._errand(f"asking for the size of {file!r}")
            try:
                return await gate.run(errand, lambda _: link.transport.size(path))
            except FileNotFoundError:  # removed since it was listed
                return None

        sizes = await asyncio.gather(*(size(file, known) for file, known in files.items()))
        return {file: size for file, size in zip(files, sizes, strict=True) if size is not None}

    async def _put(self, name: str, data: bytes, *, exclusive: bool) -> bool:
        """Write a whole file; tell whether it was written, for an exclusive one that was there already."""
        link = self._connected()
        path = link.path(name)

        async def put(_: Progress) -> bool:
            try:
                await link.transport.put(path, data, exclusive)
            except Exception as error:
                if exclusive and is_existing(error):
                    return False
                raise
            return True

        try:
            return await self._errand(f"writing {name!r}", len(data)).run(put)
        except FileNotFoundError as error:
            raise StorageError(f"{self.url} failed at writing {name!r}: there is no directory for it") from error

    def _errand(self, deed: str, size: int = 0) -> Errand:
        link = self._connected()
        return Errand(self.url, deed, link.secrets, size, link.transport.credentials)

    def _run(
        self, work: Callable[_Terms, Coroutine[Any, Any, _Answer]], *args: _Terms.args, **options: _Terms.kwargs
    ) -> _Answer:
        """Have a coroutine run in the event loop of the filesystem, and wait for it."""
        from fsspec.asyn import sync

        async def guarded() -> tuple[_Answer | None, Exception | None]:
            try:
                return await work(*args, **options), None
            except Exception as error:  # noqa: BLE001 - raised below; fsspec would make its own of a TimeoutError
                return None, error

        answer, error = sync(self._connected().transport.loop, guarded)
        if error is not None:
            raise error
        return cast("_Answer", answer)

    def _connected(self) -> Connection:
        """Connect, if that was not done in this process."""
        if self._connection is None or self._process != os.getpid():
            self._connection, self._process = connect(self.url, self.storage_options), os.getpid()
        return self._connection


def _below(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
