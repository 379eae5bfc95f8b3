"""As much of S3 as is needed to measure its clients: a folder served on this machine, each answer after a delay.

It neither looks at signatures nor keeps versions.  Files go to the socket without passing through Python, so that
what is measured is the client and not the server.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE = 1000


class Cost(NamedTuple):
    """What something took: seconds, requests, and bytes received."""

    seconds: float
    requests: int
    received: int


@dataclass(frozen=True)
class Endpoint:
    """A running server, and the file where it notes every request."""

    address: str
    log: str

    @property
    def options(self) -> dict[str, Any]:
        """The storage_options for it."""
        return {"key": "testing", "secret": "testing", "endpoint_url": f"http://{self.address}"}

    def requests(self) -> list[list[str]]:
        """Give method, path and bytes sent of each request until now."""
        with open(self.log) as file:
            return [line.split() for line in file]

    def cost(self, task: Any) -> Cost:
        """Do something, and tell what it took."""
        before = len(self.requests())
        begin = time.perf_counter()
        task()
        seconds = time.perf_counter() - begin
        new = self.requests()[before:]
        return Cost(seconds, len(new), sum(int(size) for _, _, size in new))


@contextlib.contextmanager
def serve(folder: str, delay: float) -> Iterator[Endpoint]:
    """Serve a folder, whose directories are buckets, from a process of its own."""
    log = f"{folder}.{uuid.uuid4().hex[:8]}.log"
    command = [sys.executable, os.path.abspath(__file__), folder, log, str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Endpoint(f"127.0.0.1:{int(process.stdout.readline())}", log)
        finally:
            process.kill()


def fill(catalog: str, bucket: str) -> None:
    """Put the files of a local catalog into a bucket."""
    for directory, _, names in os.walk(catalog):
        for name in names:
            source = os.path.join(directory, name)
            target = os.path.join(bucket, os.path.relpath(source, catalog))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)


class _Bucket:
    """The files of a folder, by sorted names."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._mutex = threading.Lock()
        found = (os.path.join(directory, name) for directory, _, names in os.walk(folder) for name in names)
        self._keys = sorted(os.path.relpath(path, folder) for path in found)

    def put(self, key: str, data: bytes, *, exclusive: bool) -> bool:
        path = os.path.join(self.folder, key)
        with self._mutex:
            is_there = os.path.isfile(path)
            if is_there and exclusive:
                return False
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(f"{path}.part", "wb") as file:
                file.write(data)
            os.replace(f"{path}.part", path)
            if not is_there:
                insort(self._keys, key)
        return True

    def delete(self, key: str) -> None:
        with self._mutex, contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.folder, key))
            del self._keys[bisect_left(self._keys, key)]

    def listing(self, prefix: str, delimiter: str, after: str, most: int) -> str:
        """Give the answer to a LIST."""
        files, prefixes, last = [], [], after
        with self._mutex:
            position = bisect_left(self._keys, max(prefix, f"{after}\0" if after else ""))
            while position < len(self._keys) and self._keys[position].startswith(prefix):
                if len(files) + len(prefixes) == most:
                    break
                key = self._keys[position]
                end = key.find(delimiter, len(prefix)) if delimiter else -1
                if end < 0:
                    files.append(self._entry(key))
                    last, position = key, position + 1
                else:
                    prefixes.append(f"<CommonPrefixes><Prefix>{quote(key[: end + 1])}</Prefix></CommonPrefixes>")
                    last = key[: end + 1] + chr(sys.maxunicode)
                    position = bisect_left(self._keys, last)
            more = position < len(self._keys) and self._keys[position].startswith(prefix)
        token = f"<NextContinuationToken>{escape(quote(last))}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{''.join(files)}{''.join(prefixes)}</ListBucketResult>"
        )

    def _entry(self, key: str) -> str:
        size = os.path.getsize(os.path.join(self.folder, key))
        return (
            f"<Contents><Key>{quote(key)}</Key><Size>{size}</Size><ETag>&quot;x&quot;</ETag>"
            "<LastModified>2025-11-22T00:00:00.000Z</LastModified></Contents>"
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    buckets: dict[str, _Bucket]
    log: int
    delay: float

    def do_GET(self) -> None:
        key = self._begin()
        if key:
            self._send_file(key)
        else:
            asked = {name: values[0] for name, values in parse_qs(self.url.query).items()}
            after = unquote(asked.get("continuation-token", asked.get("start-after", "")))
            most = min(_PAGE, int(asked.get("max-keys", _PAGE)))
            self._answer(200, self.bucket.listing(asked.get("prefix", ""), asked.get("delimiter", ""), after, most))

    def do_HEAD(self) -> None:
        key = self._begin()
        if key:
            self._send_file(key)
        else:
            self._answer(200)

    def do_PUT(self) -> None:
        key = self._begin()
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            self._answer(501)
        elif self.bucket.put(key, self.body, exclusive=self.headers.get("If-None-Match") == "*"):
            self._answer(200)
        else:
            self._answer(412, "<Error><Code>PreconditionFailed</Code><Message>It is there.</Message></Error>")

    def do_DELETE(self) -> None:
        self.bucket.delete(self._begin())
        self._answer(204)

    def do_POST(self) -> None:
        self._begin()
        for key in re.findall(r"<Key>(.*?)</Key>", self.body.decode()):
            self.bucket.delete(key)
        self._answer(200, "<DeleteResult/>")

    def _begin(self) -> str:
        """Read a request, wait, and give its key."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.url = urlsplit(self.path)
        name, _, key = unquote(self.url.path).lstrip("/").partition("/")
        self.bucket = self.buckets[name]
        time.sleep(self.delay)
        return key

    def _send_file(self, key: str) -> None:
        path = os.path.join(self.bucket.folder, key)
        if not os.path.isfile(path):
            self._answer(404, "<Error><Code>NoSuchKey</Code><Message>There is none.</Message></Error>")
            return
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            end = min(size, int(asked[2]) + 1) if asked and asked[2] else size
            if start >= end and asked:
                self._answer(416, "<Error><Code>InvalidRange</Code><Message>It is shorter.</Message></Error>")
                return
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self._finish_head(end - start)
            while start < end and self.command == "GET":
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, min(end - start, 4 << 20))

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self._finish_head(len(text.encode()))
        if self.command != "HEAD":
            self.wfile.write(text.encode())
            self.wfile.flush()

    def _finish_head(self, size: int) -> None:
        """Note the request, and send the head of its answer."""
        os.write(self.log, f"{self.command} {self.path} {size if self.command == 'GET' else 0}\n".encode())
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Sat, 22 Nov 2025 00:00:00 GMT")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that ends closes its connections
            super().handle_error(request, client_address)


def main(folder: str, log: str, delay: str) -> None:
    """Serve until this process is killed."""
    _Handler.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _Handler.delay = float(delay)
    _Handler.buckets = {name: _Bucket(os.path.join(folder, name)) for name in os.listdir(folder)}
    server = _Server(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
