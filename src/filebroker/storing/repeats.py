"""How a document that was inserted before is recognised: the same one changes nothing, another is refused."""

import zlib
from collections.abc import Mapping
from typing import Any

from filebroker.ground import codec

#: Stands for the digest of an event whose uid alone is remembered.
UNKNOWN = -1


class Sequence:
    """The seq_nums of one stream, which nearly always rise, and once one does not, its events by uid."""

    def __init__(self) -> None:
        self.last: int = -1
        self.digests: dict[str, int] | None = None

    def remember(self, event: Mapping[str, Any]) -> None:
        """Note an event that was recorded."""
        self.last = max(self.last, int(event["seq_num"]))
        if self.digests is not None:
            self.digests[event["uid"]] = digest(event)


def identity(name: str, doc: Mapping[str, Any]) -> tuple[str, str]:
    """Give what makes two documents the same one."""
    uid = doc.get("uid", doc.get("datum_id"))
    return name, uid if isinstance(uid, str) else repr(codec.plain(uid))


def changed(document: str, run: str) -> str:
    """Say that a document was inserted again with different content."""
    return (
        f"the {document} was inserted before with different content into run {run!r}; "
        "the first stays, because a recorded document never changes"
    )


def digest(doc: Mapping[str, Any]) -> int:
    """Give a number that is the same for equal documents, whatever the order of their keys."""
    text = codec.canonical(doc)
    return zlib.crc32(text) << 32 | zlib.adler32(text)
