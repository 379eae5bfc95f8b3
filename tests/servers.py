"""Servers on this machine for tests: S3, web pages, and a proxy that counts, delays and spoils requests.

They are stopped when their ``with`` block is left, and with them every connection and thread of theirs, so that no
ResourceWarning of theirs fails a later test.  The S3 server is a process of its own: in this one it would share the
interpreter lock with what is measured, and its boto3 the state with ours.

``FILEBROKER_TEST_S3`` names the endpoint of another S3 server to test with; ``AWS_ACCESS_KEY_ID`` and
``AWS_SECRET_ACCESS_KEY`` then say who the tests are there.
"""

import asyncio
import contextlib
import io
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import boto3
from aiohttp import web
from yarl import URL

_MOTO = """
import os, sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # ends with the test, however that ends
os._exit(0)
"""
#: The endpoint of a server to use in the place of moto, and who the tests are there.
GIVEN = os.environ.get("FILEBROKER_TEST_S3")
KEY = os.environ.get("AWS_ACCESS_KEY_ID", "testing") if GIVEN else "testing"
SECRET = os.environ.get("AWS_SECRET_ACCESS_KEY", "testing") if GIVEN else "testing"

if GIVEN:
    os.environ["AWS_ENDPOINT_URL"] = GIVEN  # for those that are given no storage_options


@contextlib.contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """Start an S3 server, unless one is given; give its endpoint, such as ``http://127.0.0.1:41233``.

    With ``INITIAL_NO_AUTH_ACTION_COUNT="0"`` it looks at credentials from the first request on.
    """
    if GIVEN and not environment:
        yield GIVEN
        return
    server = subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    with server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, b"")
            port = next(int(line) for line in lines if line.strip().isdigit())  # it greets before
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def options_for(endpoint: str) -> dict[str, Any]:
    """Give the storage_options for an S3 server or a proxy before it."""
    return {"key": KEY, "secret": SECRET, "endpoint_url": endpoint}


def new_bucket(endpoint: str) -> str:
    """Make a bucket on an S3 server; give its name."""
    name = f"filebroker-{uuid.uuid4().hex[:12]}"
    with _client(endpoint) as client:
        client.create_bucket(Bucket=name)
    return name


def delete_bucket(endpoint: str, name: str) -> None:
    """Delete a bucket, and all that is in it."""
    with _client(endpoint) as client:
        for item in client.list_objects_v2(Bucket=name).get("Contents", []):
            client.delete_object(Bucket=name, Key=item["Key"])
        client.delete_bucket(Bucket=name)


def _client(endpoint: str) -> contextlib.closing[Any]:
    options = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    return contextlib.closing(boto3.client("s3", endpoint_url=endpoint, **options))


class _Served:
    """A web application that runs in a thread of its own while a ``with`` block does."""

    url: str

    async def _open(self) -> web.Application:
        raise NotImplementedError

    async def _close(self) -> None:
        """Close what `_open` opened."""

    def __enter__(self) -> "Any":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__)
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self.closing = asyncio.Event()
        self._runner = web.AppRunner(await self._open(), shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        self.closing.set()
        await self._runner.cleanup()
        await self._close()
        await self._loop.shutdown_default_executor()
        # Those of connections that were lost while they were served would be destroyed with the loop.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # for transports to be closed


class WebServer(_Served):
    """Serves a directory as web servers do: with listings, and ranges of files."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = directory

    async def _open(self) -> web.Application:
        app = web.Application()
        app.router.add_static("/", self.directory, show_index=True)
        return app


@dataclass
class _Fault:
    """What happens to the requests that match a pattern, from the one of a number to that of another."""

    pattern: str
    action: str
    first: int
    last: int | None
    seen: int = field(default=0)

    def is_due(self, line: str) -> bool:
        if not re.search(self.pattern, line):
            return False
        self.seen += 1
        return self.seen >= self.first and (self.last is None or self.seen <= self.last)


#: Headers that a server does not know.
_DROPPED = {"unconditional": {"If-None-Match"}, "rangeless": {"Range"}}


class Proxy(_Served):
    """Stands before a server: counts requests, delays and spoils them.

    Requests are told apart by lines such as ``GET /bucket/beamtime/filebroker.json``.  Actions are

    - a status, such as ``503``: answered without asking the server;
    - ``reset``: the connection is reset, and the server has not seen the request;
    - ``lost-ack``: the connection is reset when the server has done what was asked;
    - ``hang``: there is no answer;
    - ``truncate``: half of the answer's body is sent, and then the connection is reset;
    - ``corrupt``: one bit of the answer's body is flipped;
    - ``unconditional``, ``rangeless``: the header If-None-Match or Range is dropped, as if the server did not know it.

    Attributes
    ----------
    url : str
        Its address.
    delay : float
        So many seconds pass before each request is answered.
    requests : list of str
        The lines of all requests.
    most_at_once : int
        So many requests were being answered at the same time at the most.
    """

    def __init__(self, upstream: str, delay: float = 0.0) -> None:
        self.upstream = upstream
        self.clear()
        self.delay = delay

    def clear(self) -> None:
        """Forget requests, faults and the delay."""
        self.requests: list[str] = []
        self.most_at_once = self._at_once = 0
        self._faults: list[_Fault] = []
        self.delay = 0.0

    def fault(self, pattern: str, action: str, first: int = 1, last: int | None = None) -> None:
        """Spoil the requests whose lines match a regular expression, from the first-th to the last-th of them."""
        self._faults.append(_Fault(pattern, action, first, last))

    def count(self, pattern: str = "") -> int:
        """Count the requests whose lines match a regular expression."""
        return sum(1 for line in self.requests if re.search(pattern, line))

    async def _open(self) -> web.Application:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # moto answers without keeping connections anyway
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _close(self) -> None:
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.raw_path}"
        self.requests.append(line)
        due = [fault.action for fault in list(self._faults) if fault.is_due(line)]
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.delay)
            return await self._answer(request, due[0] if due else "")
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, action: str) -> web.StreamResponse:
        if action == "hang":
            await self.closing.wait()
        if action in ("hang", "reset"):
            return _reset(request)
        if action.isdigit():
            return _refusal(int(action))
        status, headers, body = await self._forward(request, drop=_DROPPED.get(action, set()))
        if action == "lost-ack":
            return _reset(request)
        if action == "corrupt":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if action == "truncate":
            return await _truncated(request, status, headers, body)
        return web.Response(status=status, headers=headers, body=body or None)

    async def _forward(self, request: web.Request, drop: set[str]) -> tuple[int, dict[str, str], bytes]:
        headers = request.headers.copy()
        for name in drop | {"Expect", "Connection", "Transfer-Encoding", "Content-Length"}:
            headers.popall(name, None)
        address = URL(self.upstream + request.raw_path, encoded=True)
        body = await request.read()
        async with self._session.request(
            request.method, address, headers=headers, data=io.BytesIO(body) if body else None, allow_redirects=False
        ) as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("connection", "transfer-encoding", "server", "date")
            }
            return answer.status, kept, await answer.read()


def _reset(request: web.Request) -> web.Response:
    """Close a connection so that the other side sees it reset, rather than ended."""
    if request.transport is not None:  # the other side may have gone
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


def _refusal(status: int) -> web.Response:
    code = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}.get(status, "Injected")
    text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


async def _truncated(request: web.Request, status: int, headers: dict[str, str], body: bytes) -> web.StreamResponse:
    answer = web.StreamResponse(status=status, headers=headers | {"Content-Length": str(len(body))})
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    await asyncio.sleep(0.02)  # a reset at once would discard what was sent
    _reset(request)
    return answer


@contextlib.contextmanager
def refusing_port() -> Iterator[str]:
    """Give an address where nobody answers, and nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
