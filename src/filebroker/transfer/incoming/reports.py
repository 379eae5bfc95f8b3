"""What came of moving runs: how many were taken, and all that could not be, with the reason."""

from dataclasses import asdict, dataclass, field
from typing import Any

#: So many problems are shown of a report; it has all of them.
_SHOWN = 20


@dataclass(frozen=True)
class ImportProblem:
    """Something that could not be taken.

    Attributes
    ----------
    place : str
        The file, or what else it came from.
    where : str
        Where in it: a line, a byte, or the number of a document; empty if it is about the whole.
    document : str
        Which document, in words; empty if it could not be read.
    run : str
        The uid of the run that it belongs to; empty if that is not known.
    why : str
        What is wrong.

    Examples
    --------
    >>> print(ImportProblem("scans.jsonl", "line 3", "", "84d9ee44", "it is no JSON"))
    scans.jsonl, line 3: it is no JSON (run 84d9ee44)
    """

    place: str
    where: str
    document: str
    run: str
    why: str

    def __str__(self) -> str:
        text = f"{self.place}, {self.where}: " if self.where else f"{self.place}: "
        if self.document and self.document not in self.why:
            text += f"the {self.document}: "
        is_named = not self.run or self.run in self.why or self.run in self.document
        return text + self.why + ("" if is_named else f" (run {self.run})")


@dataclass
class ImportReport:
    """What came of an import.

    Attributes
    ----------
    taken : int
        Runs that are new in the catalog, or were continued there; of a dry run, that would be.
    known : int
        Runs that were there before.
    incomplete : int
        Runs among those taken that have no stop document.
    refused : int
        Runs that could not be taken at all.
    documents : int
        Documents of the runs that were taken.
    files : int
        Files that were read.
    passed_over : int
        Files that hold no documents.
    trashed : int
        Runs that are in the trash of the catalog that they would come from, and were left there.
    foreign : list of str
        The first of these, with what they are.
    root_map : dict
        Where the external files of databroker-packs are: what their documents call the root, to its place.
    external : list of str
        The uids of the runs that refer to external files, if these are to be copied.
    problems : list of ImportProblem
        Everything that could not be taken.
    dry_run : bool
        Whether nothing was written.

    Examples
    --------
    >>> ImportReport(taken=2, documents=20)
    <ImportReport: 2 runs taken, 0 known before>
    """

    taken: int = 0
    known: int = 0
    incomplete: int = 0
    refused: int = 0
    documents: int = 0
    files: int = 0
    passed_over: int = 0
    trashed: int = 0
    foreign: list[str] = field(default_factory=list)
    root_map: dict[str, str] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)
    problems: list[ImportProblem] = field(default_factory=list)
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether everything could be taken.

        Examples
        --------
        >>> ImportReport(taken=2).ok
        True
        """
        return not self.problems

    def __repr__(self) -> str:
        return f"<ImportReport: {self.summary}>"

    @property
    def summary(self) -> str:
        """The counts in words.

        Examples
        --------
        >>> ImportReport(taken=1, known=3, incomplete=1, dry_run=True).summary
        '1 run would be taken, 3 known before, 1 without a stop document'
        """
        taken = f"{_runs(self.taken)} {'would be ' if self.dry_run else ''}taken"
        parts = [taken, f"{self.known:,} known before"]
        parts += [f"{self.incomplete:,} without a stop document"] * bool(self.incomplete)
        parts += [f"{_runs(self.refused)} refused"] * bool(self.refused)
        parts += [f"{self.trashed:,} left in the trash"] * bool(self.trashed)
        parts += [f"{self.passed_over:,} other files passed over"] * bool(self.passed_over)
        parts += [f"{len(self.problems):,} problem{'s' * (len(self.problems) > 1)}"] * bool(self.problems)
        return ", ".join(parts)

    def __str__(self) -> str:
        lines = [self.summary, *(f"  {problem}" for problem in self.problems[:_SHOWN])]
        if len(self.problems) > _SHOWN:
            lines.append(f"  and {len(self.problems) - _SHOWN:,} more")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as JSON's own types.

        Examples
        --------
        >>> ImportReport(taken=2).to_dict()["taken"]
        2
        """
        return {**asdict(self), "ok": self.ok}

    def add(self, other: "ImportReport") -> None:
        """Count another report in.

        Parameters
        ----------
        other
            That of another part of the same import.

        Examples
        --------
        >>> report = ImportReport(taken=2)
        >>> report.add(ImportReport(taken=1))
        >>> report.taken
        3
        """
        for name in ("taken", "known", "incomplete", "refused", "documents", "files", "passed_over", "trashed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.foreign = (self.foreign + other.foreign)[:MOST_FOREIGN]
        self.external += other.external
        self.problems += other.problems
        self.root_map.update(other.root_map)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ImportReport":
        """Make a report of what `to_dict` gave.

        Parameters
        ----------
        content
            The report as JSON's own types.

        Examples
        --------
        >>> ImportReport.from_dict(ImportReport(taken=2).to_dict()).taken
        2
        """
        problems = [ImportProblem(**problem) for problem in content["problems"]]
        return cls(**{key: value for key, value in content.items() if key != "ok"} | {"problems": problems})


#: So many files that hold no documents are named in a report.
MOST_FOREIGN = 1000


def _runs(number: int) -> str:
    return f"{number:,} run{'' if number == 1 else 's'}"
