"""Requests to web servers: files by ranges where they are understood, directories by the page that lists them."""

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from filebroker.ground.errors import AccessDenied, StorageError
from filebroker.ground.packages import need
from filebroker.ground.retries import Progress
from filebroker.ground.transports import Listing, Piece, Transport

_NOT_FOUND = frozenset({404, 410})
_DENIED = frozenset({401, 403})
_ADVICE = "for a catalog to be read from it, the server has to list its directories (autoindex) for who asks"
_NO_HEAD = frozenset({405, 501})
_BEYOND_END = 416
_PARTIAL = 206
#: Bytes of an answer that are taken at a time, so that its progress is seen.
_SIP = 1 << 20


class HTTPTransport(Transport):
    """Requests to a web server; it is only read."""

    is_flat = False
    is_ranged = True
    can_exclude = False

    def join(self, root: str, name: str) -> str:
        """Give the URL of a name below a directory."""
        return f"{root}/{quote(name, safe='/')}" if name else root

    async def get(self, path: str, start: int, end: int | None, progress: Progress) -> Piece:
        """Read bytes of a file, in one request; of a server that knows no ranges, all from ``start`` on."""
        if end is not None and end <= start:
            return Piece(b"")
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        async with await self._request("GET", path, headers) as answer:
            if answer.status == _BEYOND_END:
                return Piece(b"", 0 if start == 0 else None)
            _check(answer, path)
            data = b"".join([sip async for sip in _sips(answer, progress)])
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
            if answer.status != _PARTIAL:
                return Piece(data[start:], len(data), tag)
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            return Piece(data, int(total) if total.isdigit() else await self.size(path), tag)

    async def list(self, path: str, flat: bool, more: str | None) -> Listing:
        """Read the page that a server gives for a directory."""
        url = f"{path}/"
        async with await self._request("GET", url) as answer:
            if answer.status in _DENIED:
                raise AccessDenied(f"{url} gives no listing (status {answer.status}): {_ADVICE}")
            _check(answer, url)
            if answer.content_type != "text/html":
                raise StorageError(f"{url} gives no listing but {answer.content_type}: {_ADVICE}")
            names = _names(await answer.text(errors="replace"), str(answer.url))
        return Listing(
            {name: None for name in names if not name.endswith("/")},
            [name.rstrip("/") for name in names if name.endswith("/")],
        )

    async def size(self, path: str) -> int:
        """Ask for the size of a file."""
        for method in ("HEAD", "GET"):
            async with await self._request(method, path) as answer:
                if answer.status in _NO_HEAD and method == "HEAD":
                    continue
                _check(answer, path)
                if answer.content_length is not None:
                    return int(answer.content_length)
                if method == "GET":
                    return len(await answer.read())
        raise StorageError(f"{path} has a size that its server does not tell")

    async def exists(self, path: str) -> bool:
        """Tell whether there is a file or a directory."""
        for method in ("HEAD", "GET"):
            async with await self._request(method, path) as answer:
                if answer.status in _NO_HEAD and method == "HEAD":
                    continue
                if answer.status in _NOT_FOUND:
                    return False
                _check(answer, path)
                return True
        return False

    async def put(self, path: str, data: bytes, exclusive: bool) -> None:
        """Refuse: web servers are only read."""
        raise StorageError(f"{path} cannot be written: a web server is only read")

    async def delete(self, paths: Sequence[str]) -> None:
        """Refuse: web servers are only read."""
        raise StorageError(f"{paths[0]} cannot be removed: a web server is only read")

    async def _request(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Any:
        session = await self.filesystem.set_session()
        options = dict(self.filesystem.kwargs)
        options["headers"] = {**(options.get("headers") or {}), **(headers or {})}
        return session.request(method, self.filesystem.encode_url(url), allow_redirects=True, **options)


def tuned(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what the filesystem is to be made with, unless it is given."""
    aiohttp = need("aiohttp")
    # A whole file may take long, if only bytes are coming.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=15)
    # Ranges and sizes are those of the file, not of what it is compressed to.
    headers = {"Accept-Encoding": "identity", **(options.get("headers") or {})}
    client = {"timeout": timeout, **(options.get("client_kwargs") or {})}
    return {**options, "headers": headers, "client_kwargs": client}


async def _sips(answer: Any, progress: Progress) -> Any:
    count = 0
    async for sip in answer.content.iter_chunked(_SIP):
        count += len(sip)
        progress.reach(count)
        yield sip


def _check(answer: Any, url: str) -> None:
    if answer.status in _NOT_FOUND:
        raise FileNotFoundError(url)
    answer.raise_for_status()


class _Links(HTMLParser):
    """Collects where the links of a page lead, and what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._is_open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the target of a link."""
        if tag == "a":
            target = dict(attrs).get("href")
            self._is_open = bool(target)
            if target:
                self.found.append((target, ""))

    def handle_data(self, data: str) -> None:
        """Take the text of a link."""
        if self._is_open:
            target, text = self.found[-1]
            self.found[-1] = (target, text + data)

    def handle_endtag(self, tag: str) -> None:
        """End a link."""
        if tag == "a":  # what else ends may be a part of its text
            self._is_open = False


def _names(page: str, url: str) -> set[str]:
    """Give the names directly in a directory that its page links to; those of directories end with a slash."""
    links = _Links()
    links.feed(page)
    base = urlsplit(url)
    names: set[str] = set()
    for link, text in links.found:
        target = urlsplit(urljoin(url, link))
        name = target.path.removeprefix(base.path)
        is_elsewhere = target.netloc != base.netloc or name == target.path or target.query
        if name and not is_elsewhere and "/" not in name.rstrip("/"):
            is_directory = name.endswith("/") or text.strip().endswith("/")
            names.add(unquote(name.rstrip("/")) + "/" * is_directory)
    return names
