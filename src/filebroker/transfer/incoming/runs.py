"""Documents from elsewhere, sorted by the run that each belongs to."""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from filebroker.ground.documents import REQUIRED, Pair, check, describe, modernise
from filebroker.ground.errors import DuplicateDocument, FilebrokerError, StorageError, UnknownRun
from filebroker.storing.run_files import RunFiles
from filebroker.transfer.incoming.comparison import is_same
from filebroker.transfer.incoming.drafts import Draft
from filebroker.transfer.incoming.files import Item
from filebroker.transfer.incoming.reports import ImportProblem, ImportReport
from filebroker.transfer.incoming.target import Reception, Target

#: So many problems of one source are told one by one.
_MOST_PROBLEMS = 1000
#: So many runs of one source can be in progress at the same time; each takes two open files.
_MOST_OPEN = 200

_LEGACY = ("bulk_events", "bulk_datum")
_REFERENCES = ("run_start", "descriptor", "resource", "stream_resource")


class Arrival:
    """One run, while its documents come.

    As long as they are those of a run that is recorded already, they are only compared.

    Parameters
    ----------
    target
        Where it goes.
    start
        Its start document, checked.

    Attributes
    ----------
    uid : str
        The run's.
    damage : list of str
        What could not be taken of it.
    keys : list of str
        The uids of its documents that others refer to.
    stopped : bool
        Whether its stop document has come.
    is_external : bool
        Whether it refers to external files.
    """

    def __init__(self, target: Target, start: Mapping[str, Any]) -> None:
        self.uid: str = start["uid"]
        self.damage: list[str] = []
        self.keys: list[str] = [self.uid]
        self.stopped = self.is_external = False
        self._target, self._start = target, start
        self._draft: Draft | None = None
        self._recorded = target.recorded(start)
        self._left: Iterator[Pair] = iter(())
        self._count = 0
        if self._recorded is None or self._recorded.state == "live":
            self._draft = Draft(target.aside, start)
        else:
            self._left = self._recorded.documents()
            self.take("start", start)

    def take(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document.

        Raises
        ------
        FilebrokerError
            It cannot be kept.
        """
        if self._draft is None:
            expected = next(self._left, None)
            if expected is not None and is_same((name, doc), expected):
                self._count += 1
                self.stopped = name == "stop"
                return
            self._draft = self._retraced()
        self._draft.take(name, doc)
        self.stopped = self._draft.stopped

    def _retraced(self) -> Draft:
        """Record aside what was only compared until now."""
        draft = Draft(self._target.aside, self._start)
        try:
            documents = () if self._recorded is None else islice(self._recorded.documents(), self._count)
            for name, doc in documents:
                if name != "start":
                    draft.take(name, doc)
        except BaseException:
            draft.discard()
            raise
        return draft

    def end(self) -> tuple[Reception, int]:
        """Bring the run where it belongs; give what became of it, and how many documents it has.

        Raises
        ------
        StorageError
            The filesystem refused.
        """
        draft = self._draft
        if draft is None:
            if self._recorded is not None:
                self._target.confirm(self._recorded)
            return Reception("known"), self._count
        reception = Reception("refused")
        try:
            draft.finish(self.damage)
            reception = self._target.receive(draft)
        finally:
            self._draft = None
            if reception.outcome != "taken":
                draft.discard()
        return reception, draft.documents

    def discard(self) -> None:
        """Leave nothing of what was recorded aside."""
        if self._draft is not None:
            self._draft.discard()


class Sorter:
    """Takes the documents of one source.

    Parameters
    ----------
    target
        Where its runs go.
    place
        What the source is called in messages.
    report
        What happens is noted there.
    """

    def __init__(self, target: Target, place: str, report: ImportReport) -> None:
        self._target, self._place, self._report = target, place, report
        self._open: dict[str, Arrival] = {}
        self._owners: dict[str, Arrival] = {}
        self._problems = 0

    def take(self, items: Iterable[Item]) -> None:
        """Take all documents.

        Parameters
        ----------
        items
            The documents, and what could not be read.

        Raises
        ------
        StorageError
            The filesystem refused.  What was complete before is in the catalog.
        """
        try:
            for item in items:
                if item.why:
                    self._tell(item, "", list(self._open.values()), item.why, is_damage=not item.torn)
                else:
                    self._take(item)
            for arrival in list(self._open.values()):
                self._end(arrival)
        finally:
            for arrival in self._open.values():
                arrival.discard()
            self._open.clear()
            more = self._problems - _MOST_PROBLEMS
            if more > 0:
                why = f"{more:,} more of its documents could not be taken"
                self._report.problems.append(ImportProblem(self._place, "", "", "", why))

    def _take(self, item: Item) -> None:
        try:
            if item.name in _LEGACY or item.name not in REQUIRED:
                check(item.name, item.doc)
            for name, doc in modernise(item.name, item.doc):
                self._route(name, doc)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a document does, the others are taken
            why = str(error) if isinstance(error, FilebrokerError) else repr(error)
            self._tell(item, describe(item.name[:40], item.doc), self._concerned(item.doc), why)

    def _route(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start":
            self._begin(doc)
            return
        arrival = self._owner(name, doc)
        arrival.take(name, doc)
        if name in ("descriptor", "resource", "stream_resource"):
            self._owners[doc["uid"]] = arrival
            arrival.keys.append(doc["uid"])
            arrival.is_external = arrival.is_external or name != "descriptor"
        if arrival.stopped:
            self._end(arrival)

    def _begin(self, start: Mapping[str, Any]) -> None:
        check("start", start)
        uid = start["uid"]
        if uid in self._open:
            self._open[uid].take("start", start)
            return
        if len(self._open) >= _MOST_OPEN:
            raise DuplicateDocument(
                f"{_MOST_OPEN} runs before it have no stop document yet; divide what is imported at once"
            )
        self._open[uid] = self._owners[uid] = Arrival(self._target, start)

    def _owner(self, name: str, doc: Mapping[str, Any]) -> Arrival:
        """Find the run of a document."""
        if name in ("event", "event_page"):
            described = doc.get("descriptor")
            if isinstance(described, str) and described in self._owners:
                return self._owners[described]
        check(name, doc)
        for reference in _REFERENCES:
            if reference not in doc:
                continue
            owner = self._owners.get(doc[reference])
            if owner is not None:
                return owner
            if len(self._open) == 1 and name in ("resource", "stream_resource"):
                break  # it was made for another run, and is used again in this one
            raise UnknownRun(
                f"it names the {reference} {doc[reference]!r:.80}, which no document before it has, or whose run is "
                "complete"
            )
        if not self._open:
            raise UnknownRun("it names no run, and none is in progress")
        return next(reversed(self._open.values()))

    def _concerned(self, doc: Any) -> list[Arrival]:
        """Give the runs that may lack a document."""
        keys = [doc.get(reference) for reference in (*_REFERENCES, "uid")] if isinstance(doc, Mapping) else []
        named = [self._owners[key] for key in keys if isinstance(key, str) and key in self._owners]
        return named[:1] or (list(self._open.values()) if len(self._open) == 1 else [])

    def _end(self, arrival: Arrival) -> None:
        """Bring a run where it belongs."""
        self._open.pop(arrival.uid, None)
        for key in arrival.keys:
            if self._owners.get(key) is arrival:
                del self._owners[key]
        try:
            reception, documents = arrival.end()
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a run does, the others are taken
            reception, documents = Reception("refused", f"it cannot be sealed: {error!r}"), 0
        report = self._report
        if arrival.is_external and reception.outcome != "refused":
            report.external.append(arrival.uid)
        if reception.outcome == "taken":
            report.taken += 1
            report.documents += documents
            report.incomplete += not arrival.stopped
        elif reception.outcome == "known":
            report.known += 1
        else:
            report.refused += 1
            report.problems.append(
                ImportProblem(self._place, "", f"run {arrival.uid!r:.80}", arrival.uid, reception.why)
            )

    def _tell(self, item: Item, document: str, concerned: list[Arrival], why: str, *, is_damage: bool = True) -> None:
        """Note something that could not be taken, in the report and with the runs that may lack it."""
        run = concerned[0].uid if len(concerned) == 1 else ""
        problem = ImportProblem(self._place, item.where, document, run, why)
        self._problems += 1
        if self._problems <= _MOST_PROBLEMS:
            self._report.problems.append(problem)
        for arrival in concerned if is_damage else ():
            arrival.damage.append(str(ImportProblem(os.path.basename(self._place), item.where, document, "", why)))


def run_items(run: RunFiles) -> Iterator[Item]:
    """Give the documents of a run of another catalog, and at last what is damaged of it."""
    number = 0
    for number, (name, doc) in enumerate(run.documents(), start=1):
        if name == "stop":
            for damage in run.damage:
                yield Item("", why=damage)
        yield Item(f"document {number}", name, doc)
    if run.stop is None:
        for damage in run.damage:
            yield Item("", why=damage)
