"""What came of copying and packing runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from filebroker.transfer.packs.assets import MissingFile


class Problem(NamedTuple):
    """Why a run was not taken.

    Attributes
    ----------
    run : str
        Its uid, or its directory where that cannot be read.
    kind : str
        ``live``, ``conflict`` or ``damaged``.
    reason : str
        What is the matter, and what to do about it.
    """

    run: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"run {self.run}: {self.reason}"


@dataclass(repr=False)
class CopyReport:
    """What came of copying runs.

    Attributes
    ----------
    copied : list of str
        The uids of the runs that were copied; of a dry run those that would be.
    known : list of str
        Those that were there already, the same.
    documents : int
        How many documents the runs that were copied have.
    bytes : int
        The size of their documents and pages.
    external_files, external_bytes : int
        How many external files of theirs there are, and their size.
    missing : list of MissingFile
        The external files that could not be had.
    problems : list of Problem
        The runs that were not taken: live ones, those that differ from what is there, and damaged ones.
    trashed : list of str
        The uids of the runs that are in the trash of a pack, and were left there.
    dry_run : bool
        Nothing was written.

    Examples
    --------
    >>> from filebroker import Broker, copy_runs
    >>> report = copy_runs(Broker.named("example").catalog, "archive")
    >>> report
    <CopyReport: 22 runs copied (213 documents, ...)>
    >>> report.missing, report.problems
    ([], [])
    """

    copied: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    documents: int = 0
    bytes: int = 0
    external_files: int = 0
    external_bytes: int = 0
    missing: list[MissingFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    trashed: list[str] = field(default_factory=list)
    dry_run: bool = False
    verb: ClassVar[str] = "copied"

    @property
    def ok(self) -> bool:
        """Whether every run is there, with all of its files.

        Examples
        --------
        >>> from filebroker import Broker, copy_runs
        >>> copy_runs(Broker.named("example").catalog, "archive").ok
        True
        """
        return not (self.missing or self.problems)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def summary(self) -> str:
        """Say in a line what came of it.

        Examples
        --------
        >>> from filebroker import Broker, copy_runs
        >>> copy_runs(Broker.named("example").catalog, "archive").summary()
        '22 runs copied (213 documents, ...)'
        """
        verb = f"to be {self.verb}" if self.dry_run else self.verb
        parts = [f"{_count(self.copied, 'run')} {verb} ({self.documents:,} documents, {size_of(self.bytes)})"]
        if self.external_files:
            noun = "external file" if self.external_files == 1 else "external files"
            parts.append(f"{self.external_files:,} {noun} ({size_of(self.external_bytes)})")
        parts += [f"{len(self.known):,} there already"] * bool(self.known)
        parts += [f"{len(self.trashed):,} left in the trash"] * bool(self.trashed)
        parts += [f"{_count(self.missing, 'file')} missing"] * bool(self.missing)
        parts += [f"{_count(self.problems, 'run')} not taken"] * bool(self.problems)
        return ", ".join(parts)


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def size_of(number: float) -> str:
    """Give a number of bytes for people.

    Examples
    --------
    >>> size_of(512), size_of(5 << 20)
    ('512 B', '5.0 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
