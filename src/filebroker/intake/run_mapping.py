"""The runs of a catalog by their keys, none looked at before it is asked for."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, Self

from intake.source.base import NoEntry

from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.faces.broker import Broker
from filebroker.faces.keywords import narrowed_by
from filebroker.ground.errors import FilebrokerError, InvalidKey, RunNotFound
from filebroker.ground.lazy import cached_property
from filebroker.intake import labels as run_labels
from filebroker.intake.runs import IntakeRun
from filebroker.intake.sources import Branch

#: So many runs are listed where somebody looks through a list.
RECENT = 100


class RunMapping(Branch):
    """What a catalog of runs does as a mapping."""

    _searches: list[dict[str, Any]]
    #: So many runs are listed, None for all.
    _limit: int | None
    #: Whether labels are listed in place of uids.
    _labels: bool

    @cached_property
    def _broker(self) -> Broker:
        """The broker that all of this place share."""
        return self._place.shared_broker()

    @cached_property
    def _runs(self) -> Runs:
        return narrowed_by(self._broker.runs, self._searches)

    @cached_property
    def recent(self) -> Self:
        """The newest hundred runs under readable keys, to look through.

        Examples
        --------
        >>> import intake
        >>> list(intake.open_filebroker("sample_data/example").recent)[:2]
        ['s000022_scan_0a00d92c', 's000021_...']
        """
        recent = self._again(limit=min(RECENT if self._limit is None else self._limit, RECENT), labels=True)
        recent.cat = self
        # Intake's GUI lists the labels of one, and asks the other for them.
        recent.__dict__["_listed"] = self._listed
        return recent

    @cached_property
    def _listed(self) -> dict[str, str | None]:
        """The uids of the labels that were listed, None of one that several runs have."""
        return {}

    def _run(self, key: Any) -> IntakeRun:
        """Give the run of a key."""
        # Whoever lists labels asks for each of them next.
        uid = self._listed.get(key) if isinstance(key, str) else None
        if uid is not None:
            return self._made(uid, key)
        if isinstance(key, slice):
            raise InvalidKey(f"{key!r:.100} names no run; several are had by list(catalog), or by catalog.v1[-3:]")
        found = run_labels.find(self._runs, key)
        found._report_anew()
        return self._made(found.uid, key if isinstance(key, str) else found.uid, found)

    def _made(self, uid: str, name: str, found: Run | None = None) -> IntakeRun:
        """Make the source of a run, which need not be looked for if it was found already."""
        run = IntakeRun(run=uid, **self._place.arguments(secrets=True))
        run._hold(self._broker, found)
        run.name, run.cat = name, self
        run.catalog_object = self
        return run

    def __getitem__(self, key: Any) -> Any:
        """Give a run, or what is in it.

        Parameters
        ----------
        key
            A negative integer counts from the newest run; any other is a scan_id, the newest of that number.
            A string is a uid, the beginning of one, or a label.  A tuple or list leads further, as in
            ``catalog[uid, "primary"]``, and so do dots.

        Raises
        ------
        NotEnoughRuns, RunNotFound, AmbiguousPrefix
            There is no such run, or more than one.
        UnknownStream
            The run has no such stream.
        InvalidKey
            The key is neither a number nor a string.
        """
        if isinstance(key, tuple | list):
            found: Any = self
            for part in key:
                found = found[part]
            return found
        try:
            return self._run(key)
        except RunNotFound:
            uid, dot, stream = key.rpartition(".") if isinstance(key, str) else ("", "", "")
            if not dot or uid not in self:
                raise
            return self[uid][stream]

    def __contains__(self, key: object) -> bool:
        try:
            run_labels.find(self._runs, key)
        except run_labels.NO_RUN:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        """Give uids, or labels, newest run first."""
        names: Iterator[str] = self.recent.keys() if _is_gui_looking() else self._names()
        return names

    def _names(self) -> Iterator[str]:
        return (name for name, _ in self._named())

    def _named(self) -> Iterator[tuple[str, str]]:
        """Give keys and uids."""
        for item in islice(self._runs.documents(), self._limit):
            uid = item.entry.uid
            if not self._labels:
                yield uid, uid
                continue
            label = run_labels.label_of(item.start)
            if self._limit is not None and self._limit <= RECENT:
                self._listed[label] = uid if self._listed.get(label, uid) == uid else None
            yield label, uid

    def __len__(self) -> int:
        """Count the runs, without opening any."""
        count = len(self._runs)
        return count if self._limit is None else min(count, self._limit)

    def keys(self) -> Iterator[str]:
        """Give uids, or labels, newest run first.

        Examples
        --------
        >>> import intake
        >>> next(intake.open_filebroker("sample_data/example", labels=True).keys())
        's000022_scan_0a00d92c'
        """
        return self._names()

    def values(self) -> Iterator[IntakeRun]:
        """Give the runs, newest first, each when it is asked for.

        Examples
        --------
        >>> import intake
        >>> next(intake.open_filebroker("sample_data/example").values())
        <IntakeRun '0a00d92c-...': scan, sealed, streams baseline, primary>
        """
        return (run for _, run in self.items())

    def items(self) -> Iterator[tuple[str, IntakeRun]]:
        """Give keys and runs, newest first, each when it is asked for.

        Examples
        --------
        >>> import intake
        >>> [run.metadata["start"]["scan_id"] for _, run in intake.open_filebroker("sample_data/example").items()]
        [22, 21, ...]
        """
        return ((name, self._made(uid, name)) for name, uid in self._named())

    def __getattr__(self, name: str) -> Any:
        if name == "entry":
            raise NoEntry("this was not made from a catalog entry")
        if hasattr(type(self), name):  # a property of that name met an AttributeError, which tells more
            return object.__getattribute__(self, name)
        if run_labels.is_label(name) and "_searches" in self.__dict__:
            try:
                return self[name]
            except run_labels.NO_RUN as error:
                raise AttributeError(str(error)) from error
        hint = f", and databroker's prompt by catalog.v1, as in catalog.v1.{name}" if hasattr(Broker, name) else ""
        raise AttributeError(f"an IntakeCatalog has no {name!r}; runs are had by catalog[-1] and catalog[uid]{hint}")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(self._ipython_key_completions_() if self._labels else ())})

    def _ipython_key_completions_(self) -> list[str]:
        try:
            return list(islice(self._names(), RECENT))
        except FilebrokerError:  # to look at a catalog is no mistake
            return []


def _is_gui_looking() -> bool:
    """Tell whether Intake's GUI asks.

    It opens all that a catalog lists, and sends it to the browser.  In Intake 2 there is no way to tell it not to.
    """
    caller = sys._getframe(2).f_globals.get("__name__", "")
    return isinstance(caller, str) and caller.startswith("intake.interface.")
