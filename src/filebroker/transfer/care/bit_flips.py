"""Lines of which one bit flipped: the checksum tells which one it must have been.

A CRC-32 is linear: what a flipped bit changes of it depends on its place alone.  Whether it was that bit, and not more
damage that looks like it, has to be told by another hash.
"""

import itertools
import re
from collections.abc import Iterator
from functools import cache
from zlib import crc32

import numpy as np

#: Longer lines are not tried: it takes a second for each 300 kB.
_MOST_BYTES = 1 << 18
_CRC = b',"crc":"%08x"}'
_CRC_BYTES = 18
#: Where one of the eight bits of the newline between two lines flipped.
_NO_NEWLINES = bytes(0x0A ^ 1 << bit for bit in range(8))
_JOINT = re.compile(rb'(,"crc":"[0-9a-f]{8}"\})[' + re.escape(_NO_NEWLINES) + rb'](\{"i":)')


def corrected(text: bytes) -> Iterator[bytes]:
    """Give a file of lines as it may have been before one bit of it flipped.

    Parameters
    ----------
    text
        The file.  Each of its lines has a checksum.
    """
    lines = text.split(b"\n")
    bad = [number for number, line in enumerate(lines) if line and not _is_good(line)]
    if len(bad) == 1:
        (number,) = bad
        yield from (b"\n".join([*lines[:number], line, *lines[number + 1 :]]) for line in _candidates(lines[number]))
        if _JOINT.search(lines[number]):
            parted = _JOINT.sub(rb"\1\n\2", lines[number])
            yield b"\n".join([*lines[:number], parted, *lines[number + 1 :]])
        if number == len(lines) - 1 and lines[number][-1] in _NO_NEWLINES:
            yield text[:-1] + b"\n"
    elif len(bad) == 2 and bad[1] == bad[0] + 1:
        first, second = bad
        for between in _NO_NEWLINES:
            whole = lines[first] + bytes([between]) + lines[second]
            if _is_good(whole):
                yield b"\n".join([*lines[:first], whole, *lines[second + 1 :]])


def _is_good(line: bytes) -> bool:
    return line[-_CRC_BYTES:] == _CRC % crc32(line[:-_CRC_BYTES])


def _candidates(line: bytes) -> Iterator[bytes]:
    """Give the lines that differ from this in one bit and have a good checksum."""
    body, end = line[:-_CRC_BYTES], line[-_CRC_BYTES:]
    right = _CRC % crc32(body)
    if len(end) == len(right) and sum((one ^ other).bit_count() for one, other in zip(end, right, strict=True)) == 1:
        yield body + right
    try:
        told = int(end[-10:-2], 16)
    except ValueError:
        return
    if len(body) <= _MOST_BYTES and end == _CRC % told:
        place = _place(crc32(body) ^ told, len(body))
        if place is not None:
            at, bit = place
            yield body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :] + end


def _place(syndrome: int, size: int) -> tuple[int, int] | None:
    """Give the byte and the bit whose flipping changes the checksum of so many bytes in this way."""
    table = _table()
    changes = table[[1 << bit for bit in range(8)]]  # by the bits of the last byte
    for at in range(size - 1, -1, -1):
        found = np.flatnonzero(changes == syndrome)
        if len(found):
            return at, int(found[0])
        changes = table[changes & 0xFF] ^ (changes >> 8)
    return None


@cache
def _table() -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
    """Give the table of CRC-32 by bytes."""
    values = np.arange(256, dtype=np.uint32)
    for _ in itertools.repeat(None, 8):
        values = np.where(values & 1, 0xEDB88320 ^ (values >> 1), values >> 1).astype(np.uint32)
    return values
