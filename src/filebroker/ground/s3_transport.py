"""Requests to S3: one GET for a file of unknown size, one LIST for a tree, PUTs that overwrite nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from filebroker.ground.retries import Progress
from filebroker.ground.store_errors import is_absent, is_beyond_end, is_unsupported
from filebroker.ground.transports import Listing, Piece, Transport

#: So many requests go on at a time; botocore by itself opens 10 connections.
CONNECTIONS = 64
#: Bytes of an answer that are taken at a time, so that its progress is seen.
_SIP = 1 << 20
#: S3 deletes so many files in one request.
_MOST_DELETED = 1000


class S3Transport(Transport):
    """Requests to a server that speaks S3.

    Each is sent once here: `Errand` alone decides whether to try again.
    """

    is_ranged = True
    can_exclude = True

    def __init__(self, filesystem: Any) -> None:
        super().__init__(filesystem)
        filesystem.retries = 1

    def credentials(self) -> list[str]:
        """Give what requests were signed with, also where botocore found it by itself: in a profile, for example."""
        signer = getattr(getattr(self.filesystem, "_s3", None), "_request_signer", None)
        found = getattr(signer, "_credentials", None)
        # Its properties may ask a server for new ones.
        kept = vars(found) if hasattr(found, "__dict__") else {}
        names = [prefix + name for name in ("access_key", "secret_key", "token") for prefix in ("", "_")]
        return [value for name in names if isinstance(value := kept.get(name), str) and value]

    async def get(self, path: str, start: int, end: int | None, progress: Progress) -> Piece:
        """Read bytes of a file, in one request; of a server that knows no ranges, all from ``start`` on."""
        if end is not None and end <= start:
            return Piece(b"")
        part = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        try:
            answer = await self.filesystem._call_s3("get_object", **self._place(path), **part)
        except OSError as error:
            if is_beyond_end(error):
                return Piece(b"", 0 if start == 0 else None)
            raise
        data = await _drained(answer, progress)
        total = answer.get("ContentRange", "").rpartition("/")[2]
        if not total.isdigit():  # it sent the whole file
            return Piece(data[start:], len(data), answer.get("ETag", ""))
        return Piece(data, int(total), answer.get("ETag", ""))

    async def put(self, path: str, data: bytes, exclusive: bool) -> None:
        """Write a whole file in one request: the completion of several parts is not exclusive everywhere."""
        condition = {"IfNoneMatch": "*"} if exclusive else {}
        await self.filesystem._call_s3("put_object", **self._place(path), Body=data, **condition)

    async def list(self, path: str, flat: bool, more: str | None) -> Listing:
        """List at most 1000 files and directories."""
        return await self._listed(path, {} if flat else {"Delimiter": "/"}, more)

    async def exists(self, path: str) -> bool:
        """Ask for the file's first byte, which tells a missing bucket from a missing file; then for a directory."""
        if self._place(path)["Key"]:
            try:
                answer = await self.filesystem._call_s3("get_object", **self._place(path), Range="bytes=0-0")
            except OSError as error:
                if is_beyond_end(error):
                    return True
                if not is_absent(error):
                    raise
            else:
                await _drained(answer)
                return True
        found = await self._listed(path, {"MaxKeys": 1}, None)
        return bool(found.files)

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete files, many in one request."""
        for first in range(0, len(paths), _MOST_DELETED):
            await self._delete(paths[first : first + _MOST_DELETED])

    async def _delete(self, paths: Sequence[str]) -> None:
        places = [self._place(path) for path in paths]
        if len(places) > 1:
            objects = {"Objects": [{"Key": place["Key"]} for place in places], "Quiet": True}
            try:
                answer = await self.filesystem._call_s3("delete_objects", Bucket=places[0]["Bucket"], Delete=objects)
            except OSError as error:
                if not is_unsupported(error):
                    raise
            else:
                _raise_first(answer.get("Errors", []))
                return
        for place in places:
            await self.filesystem._call_s3("delete_object", **place)

    async def _listed(self, path: str, options: Mapping[str, Any], more: str | None) -> Listing:
        place = self._place(path)
        prefix = place["Key"].rstrip("/") + "/" if place["Key"] else ""
        token = {"ContinuationToken": more} if more else {}
        answer = await self.filesystem._call_s3(
            "list_objects_v2", Bucket=place["Bucket"], Prefix=prefix, **options, **token
        )
        found = ((item["Key"].removeprefix(prefix), item["Size"]) for item in answer.get("Contents", []))
        return Listing(
            # What ends with a slash stands for an empty directory.
            {name: size for name, size in found if name and not name.endswith("/")},
            [item["Prefix"].removeprefix(prefix).rstrip("/") for item in answer.get("CommonPrefixes", [])],
            answer.get("NextContinuationToken") if answer.get("IsTruncated") else None,
        )

    def _place(self, path: str) -> dict[str, str]:
        bucket, key, _ = self.filesystem.split_path(path)
        return {"Bucket": bucket, "Key": key}


class _Refusal(OSError):
    """What a server says of one file among many."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("Message"))
        self.response = {"Error": error}


def _raise_first(errors: list[dict[str, Any]]) -> None:
    for error in errors:
        if error.get("Code") != "NoSuchKey":
            raise _Refusal(error)


async def _drained(answer: dict[str, Any], progress: Progress | None = None) -> bytes:
    """Take all of an answer, so that its connection can be used again; close that if it breaks off."""
    body = answer["Body"]
    try:
        if progress is None or answer.get("ContentLength", 0) <= _SIP:
            data: bytes = await body.read()
            return data
        sips = []
        count = 0
        while sip := await body.read(_SIP):
            sips.append(sip)
            count += len(sip)
            progress.reach(count)
        return b"".join(sips)
    finally:
        body.close()


def tuned(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what s3fs is to be made with, unless it is given."""
    config = {
        "max_pool_connections": CONNECTIONS,
        "connect_timeout": 5,
        "read_timeout": 15,
        "retries": {"max_attempts": 0},
    }
    return {**options, "config_kwargs": config | dict(options.get("config_kwargs") or {})}
