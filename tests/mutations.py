"""Damage to files, one kind at a time and the same for the same seed, to test who has to notice it."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


def flip_bit(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def change_a_byte(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ rng.randint(1, 255)]) + data[position + 1 :]


def scramble_a_stretch(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    stretch = data[position : position + 64]
    return data[:position] + rng.randbytes(len(stretch)) + data[position + len(stretch) :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def lose_the_last_byte(data: bytes, _: random.Random) -> bytes:
    return data[:-1]


def empty(_: bytes, __: random.Random) -> bytes:
    return b""


def zero_a_stretch(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    stretch = data[position : position + rng.randint(1, 4096)]
    return data[:position] + bytes(len(stretch)) + data[position + len(stretch) :]


def zero_the_tail(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes(len(data) - position)


def append_junk(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 64))


def _of_lines(edit: Callable[[list[bytes], int, int], None]) -> Callable[[bytes, random.Random], bytes]:
    def mutate(data: bytes, rng: random.Random) -> bytes:
        lines = data.splitlines(keepends=True)
        edit(lines, rng.randrange(len(lines)), rng.randrange(len(lines)))
        return b"".join(lines)

    mutate.__name__ = edit.__name__
    return mutate


def _double_a_line(lines: list[bytes], one: int, other: int) -> None:
    lines.insert(other, lines[one])


def _drop_a_line(lines: list[bytes], one: int, _: int) -> None:
    del lines[one]


def _swap_two_lines(lines: list[bytes], one: int, other: int) -> None:
    lines[one], lines[other] = lines[other], lines[one]


def _join_two_lines(lines: list[bytes], one: int, _: int) -> None:
    lines[one] = lines[one].rstrip(b"\n")


OF_BYTES = [
    *(flip_bit, change_a_byte, scramble_a_stretch, truncate, lose_the_last_byte, empty, zero_a_stretch),
    *(zero_the_tail, append_junk),
    *map(_of_lines, (_double_a_line, _drop_a_line, _swap_two_lines, _join_two_lines)),
]
OF_FILES = ["swap", "delete", "stale", "directory", "link", "loop"]


class Mutation(NamedTuple):
    """What was done to which file, and what undoes it."""

    kind: str
    path: Path
    others: list[tuple[Path, bytes]]

    def undo(self) -> None:
        for path, data in self.others:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.write_bytes(data)


def mutate(
    path: Path, kind: Callable[[bytes, random.Random], bytes] | str, rng: random.Random, files: list[Path]
) -> Mutation | None:
    """Damage a file, perhaps by one of several others; None if that would change nothing."""
    data = path.read_bytes()
    if callable(kind):
        changed = kind(data, rng) if data else data
        if changed == data:
            return None
        path.write_bytes(changed)
        return Mutation(kind.__name__, path, [(path, data)])
    done = [(path, data)]
    if kind in ("swap", "stale"):
        other = rng.choice([other for other in files if other.suffix == path.suffix])
        theirs = other.read_bytes()
        if theirs == data:
            return None
        path.write_bytes(theirs if kind == "swap" else theirs[: max(1, len(theirs) // 2)])
        if kind == "swap":
            other.write_bytes(data)
            done.append((other, theirs))
        return Mutation(kind, path, done)
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind != "delete":
        path.symlink_to("nowhere" if kind == "link" else path.name)
    return Mutation(kind, path, done)


def mutations(files: list[Path], count: int, seed: int = 0) -> Iterator[Mutation]:
    """Damage one file after another, each once more after the one before was mended."""
    rng = random.Random(seed)
    for number in range(count):
        kinds = OF_BYTES + OF_FILES
        kind = kinds[number % len(kinds)] if number % 3 else flip_bit
        done = mutate(files[(number // 3) % len(files)], kind, rng, files)
        if done is not None:
            yield done
            done.undo()
