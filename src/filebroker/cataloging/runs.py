"""Runs to look up, loop over and search: what a catalog and the result of a search have in common."""

import contextlib
import math
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from filebroker.cataloging.run import Run
from filebroker.finding.entries import Documents, Entry
from filebroker.finding.manifest import Manifest
from filebroker.finding.noted import Discarded
from filebroker.finding.parsing import frozen, parse
from filebroker.finding.query import Both, Condition, Words
from filebroker.finding.search import Explanation, Search
from filebroker.finding.text import parse_text
from filebroker.ground import times
from filebroker.ground.errors import (
    AmbiguousPrefix,
    InvalidKey,
    InvalidLookup,
    InvalidQuery,
    NotEnoughRuns,
    RunInTrash,
    RunNotFound,
)
from filebroker.ground.texts import printable

if TYPE_CHECKING:
    import pandas as pd

    from filebroker.cataloging.catalog import Catalog

_LISTED_CANDIDATES = 10
_COPIED = "Runs that were copied there by hand are found by refresh()"
#: Text that is read as a position or a scan_id; what has more digits can only be the beginning of a uid.
_NUMBER = re.compile(r"\s*[+-]?\d{1,100}\s*")


class Runs(ABC):
    """Some runs of a catalog, newest first.

    Nothing is looked for before it is asked for, and every question is answered with what the catalog has
    by then.
    """

    @abstractmethod
    def _search(self) -> Search:
        """Give the search that finds these runs, after taking in what others recorded."""

    @abstractmethod
    def _open(self, entry: Entry) -> Run | None:
        """Give a run, or warn that it cannot be read."""

    @property
    @abstractmethod
    def catalog(self) -> "Catalog":
        """The catalog that the runs are of.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).catalog is catalog
        True
        """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where these runs are, for messages.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).place
        "search({'plan_name': 'scan'}) in ...example"
        """

    # -- all of them

    def __iter__(self) -> Iterator[Run]:
        """Give the runs, newest start first.

        A run that cannot be read is passed over, and a `DamagedRunWarning` names it.
        """
        return self._opened(self._search())

    def __len__(self) -> int:
        """Count the runs, without opening any."""
        return len(self._search())

    def __contains__(self, uid: object) -> bool:
        """Tell whether there is a run of exactly that uid."""
        return isinstance(uid, str) and self.has_uid(uid)

    def documents(self) -> Iterator[Documents]:
        """Give the start and stop documents of the runs, newest first, without opening any.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> newest = next(catalog.documents())
        >>> newest.start["scan_id"], newest.stop["exit_status"]
        (22, 'success')
        """
        return self._search().documents()

    def documents_with(self, scan_id: int | None = None, prefix: str | None = None) -> Iterator[Documents]:
        """Give the start and stop documents of some runs, newest first, without opening any.

        Parameters
        ----------
        scan_id
            Those of this number.
        prefix
            Those with a uid that begins so, where no number is given.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> [item.start["plan_name"] for item in catalog.documents_with(scan_id=20)]
        ['count']
        """
        search = self._search()
        asked = (Manifest.by_uid, prefix or "") if scan_id is None else (Manifest.by_scan_id, scan_id)
        entries = list(search.among(search.library.ask(*asked)))
        return iter(search.library.ask(Manifest.documents_at, [entry.path for entry in entries]))

    # -- one of them

    def newest(self, number: int) -> Run:
        """Give the n-th newest run.

        Parameters
        ----------
        number
            1 for the newest, 2 for the one before it.

        Raises
        ------
        NotEnoughRuns
            There are fewer runs.
        InvalidLookup
            The number is less than 1.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.newest(1).start["plan_name"], catalog.newest(2).start["plan_name"]
        ('scan', 'adaptive_scan')
        """
        if number < 1:
            raise InvalidLookup(f"newest({number}) means nothing; 1 is the newest run, 2 the one before it")
        run = next(self._opened(self._search().nth_and_older(min(number, sys.maxsize))), None)
        if run is None:
            count = len(self)
            if count >= number:
                raise NotEnoughRuns(
                    f"{count} runs are listed, and not {number} of them can be opened: their directories are gone, or "
                    f"were not copied yet. refresh() finds out. It is {self.place}"
                )
            raise NotEnoughRuns(f"Catalog only contains {count} runs. It is {self.place}")
        return run

    def by_scan_id(self, scan_id: int) -> Run:
        """Give the newest run with a scan_id.

        Parameters
        ----------
        scan_id
            Several runs may have the same.

        Raises
        ------
        RunNotFound
            No run has it.
        InvalidKey
            It is no integer.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.by_scan_id(20)
        <Run '17856673-...': count, sealed, streams baseline, primary>
        """
        if not isinstance(scan_id, int):
            raise InvalidKey(f"{scan_id!r:.200} is no scan_id; give an integer")
        search = self._search()
        entries = search.library.ask(Manifest.by_scan_id, scan_id)
        run = next(self._opened(search.among(entries)), None)
        if run is None:
            discarded = search.library.ask(Manifest.discarded)
            self._refuse_discarded([item for item in discarded if item.scan_id == scan_id], f"scan_id={scan_id}")
            raise RunNotFound(f"No run with scan_id={scan_id} in {self.place}. {_COPIED}")
        return run

    def has_uid(self, uid: str) -> bool:
        """Tell whether there is a run of exactly that uid.

        Parameters
        ----------
        uid
            The whole uid.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.has_uid("17856673"), catalog.has_uid(catalog.newest(1).uid)
        (False, True)
        """
        return self.of_uid(uid) is not None

    def of_uid(self, uid: str) -> Run | None:
        """Give the run of exactly that uid, None if there is none.

        Parameters
        ----------
        uid
            The whole uid.

        Raises
        ------
        InvalidKey
            It is no string.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.of_uid("17856673") is None
        True
        >>> catalog.of_uid(catalog.newest(1).uid).start["scan_id"]
        22
        """
        if not isinstance(uid, str):
            raise InvalidKey(f"{uid!r:.200} is no uid; give a string")
        search = self._search()
        entries = search.library.ask(Manifest.of_uid, uid)
        return next(self._opened(search.among(entries)), None)

    def by_uid(self, prefix: str) -> Run:
        """Give the run whose uid is, or alone begins with, some characters.

        Parameters
        ----------
        prefix
            The characters; capitals count.

        Raises
        ------
        RunNotFound
            No uid begins so.
        AmbiguousPrefix
            Several do; the message lists them.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.by_uid("17856673")
        <Run '17856673-...': count, sealed, streams baseline, primary>
        """
        run = self.of_uid(prefix)
        if run is not None:
            return run
        search = self._search()
        entries = search.library.ask(Manifest.by_uid, prefix)
        runs = list(islice(self._opened(search.among(entries)), _LISTED_CANDIDATES + 1))
        if not runs:
            self._tell_of_trash(prefix)
            raise RunNotFound(f"no run in {self.place} has a uid that begins with {prefix!r:.200}. {_COPIED}")
        if len(runs) > 1:
            raise AmbiguousPrefix(_list_candidates(prefix, runs))
        return runs[0]

    def _tell_of_trash(self, prefix: str) -> None:
        """Raise an error if a run is in the trash whose uid begins so."""
        found = self.catalog.library.ask(Manifest.discarded_like, prefix)
        self._refuse_discarded(found, f"uid that begins with {prefix!r:.200}")

    def _refuse_discarded(self, found: Sequence[Discarded], having: str) -> None:
        """Raise an error that tells of runs in the trash, if there are any."""
        if len(found) > 1:
            raise RunInTrash(f"{len(found)} runs with a {having} are in the trash; trashed() lists them")
        if found:
            raise RunInTrash(f"{found[0].story}; {found[0].remedy}")

    def _opened(self, entries: Iterable[Entry]) -> Iterator[Run]:
        """Open some runs; those that cannot be read are left out."""
        for entry in self.catalog._together(entries):
            run = self._open(entry)
            if run is not None:
                yield run

    def lookup(self, key: Any) -> Run:
        """Give a run by its position, its scan_id or the beginning of its uid.

        Parameters
        ----------
        key
            A negative integer counts from the newest run; any other is a scan_id, the newest of that number.
            A string is a uid or the beginning of one; of digits alone, a number as above.

        Raises
        ------
        NotEnoughRuns
            The position reaches further back than there are runs.
        RunNotFound
            No run has that scan_id or uid.
        AmbiguousPrefix
            Several uids begin so; the message lists them.
        InvalidKey
            The key is neither a number nor a string.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> [catalog.lookup(key).start["scan_id"] for key in (-1, 20, "764e842f")]
        [22, 20, 21]
        """
        if not isinstance(key, str):
            try:
                number = int("" if isinstance(key, bytes) or np.ndim(key) else key)
            except (TypeError, ValueError, OverflowError) as error:
                hint = " (slices are for a Broker, as in db[-3:])" if isinstance(key, slice) else ""
                raise InvalidKey(f"{key!r:.200} names no run; give a position, a scan_id or a uid{hint}") from error
            return self.newest(-number) if number < 0 else self.by_scan_id(number)
        if _NUMBER.fullmatch(key) and not self.has_uid(key):
            try:
                return self.lookup(int(key))
            except RunInTrash:
                raise
            except RunNotFound:
                with contextlib.suppress(RunNotFound):  # digits may begin a uid as well
                    return self.by_uid(key)
                raise RunNotFound(
                    f"No run with scan_id={key} in {self.place}, and no uid begins with {key!r}. {_COPIED}"
                ) from None
        return self.by_uid(key)

    # -- some of them

    def search(
        self,
        query: Any = None,
        *,
        text: str | None = None,
        since: object = None,
        until: object = None,
    ) -> "Runs":
        """Give the runs that answer a search.

        Parameters
        ----------
        query
            Conditions on the start document in MongoDB's query language.
        text
            Words of the start document's values, or of the stop document's ``reason``.
        since, until
            The earliest and the latest start time, both included; see `times.parse`.

        Returns
        -------
        Runs
            The runs that answer, which can be searched in turn.

        Raises
        ------
        InvalidQuery
            The search cannot be understood.
        QueryTimeout
            A regular expression takes too long; raised when the runs are looked for, not here.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> len(catalog.search({"plan_name": "scan"})), len(catalog.search(text="LaB6"))
        (5, 4)
        >>> len(catalog.search({"plan_name": "scan"}).search({"num_points": {"$gt": 10}}, since="2026"))
        3
        """
        if query is not None and not isinstance(query, Mapping):
            hint = f"; words go into text={query!r:.50}" if isinstance(query, str) else ""
            raise InvalidQuery(f"a query is a mapping such as {{'plan_name': 'scan'}}, not {query!r:.200}{hint}")
        return Selection(self, query or {}, text, since, until)

    # -- what is known of them

    def explain(self, search: str = "") -> Explanation:
        """Tell how these runs are found: what the index does, and what has to be looked at.

        Parameters
        ----------
        search
            How the search was written, to be shown; by default it is described.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).explain()
        search     search({'plan_name': 'scan'})
        runs       22, of which 22 in the time range
        index      none is made for so few runs
        looked at  22 start documents
        answers    5 in ... ms
        """
        return self._search().explain(search or repr(self))

    def to_dataframe(self, columns: str | Sequence[str] | None = None) -> "pd.DataFrame":
        """Give one row a run, newest first, without opening any.

        Parameters
        ----------
        columns
            Keys of the start document, dotted for nested ones; by default every key of the first level.  Each
            becomes a column, whether or not a run has it.  Several values through a list are given as a list.

        Returns
        -------
        pandas.DataFrame
            The index is ``uid``.  ``time`` and ``stop_time``, datetimes in UTC without a time zone, and
            ``exit_status`` come first; the latter two are those of the stop document.

        Raises
        ------
        InvalidQuery
            A column is no string.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.to_dataframe(["scan_id", "sample.name"])[["scan_id", "sample.name"]].head(1)
                                              scan_id  sample.name
        uid
        0a00d92c-cc6c-493b-b077-dc52149005ab       22  good sample
        """
        from filebroker.cataloging import overviews

        return overviews.table_of(self.documents(), columns)

    def to_dask(
        self,
        stream: str = "primary",
        columns: str | Sequence[str] | None = None,
        metadata: str | Sequence[str] = (),
        since: object = None,
        until: object = None,
        *,
        dtypes: Mapping[str, str] | None = None,
    ) -> Any:
        """Give the events of all runs as one dask table, one partition a page; see docs/how-to/many-runs.md.

        Parameters
        ----------
        stream
            Its name.
        columns
            Data keys, None for those of the newest run that has the stream.
        metadata
            Keys of the start document, dotted for nested ones.  Each becomes a column.
        since, until
            The earliest and the latest time of an event, both included; see `times.parse`.
        dtypes
            What data keys are of, where that shall not be learnt from the newest run that has them: ``float64``,
            ``Int64``, ``boolean``, ``string`` or ``object``.

        Returns
        -------
        dask.dataframe.DataFrame
            One row an event, newest run first.  Columns are ``uid`` of the run, the metadata, ``seq_num``,
            ``time`` (seconds since 1970, UTC) and the data keys.

        Raises
        ------
        UnknownStream, UnknownField
            No run has the stream, or none of the newest has a data key.
        DamagedRun
            Of the runs that have the stream none can be read.
        MissingPackage
            dask is not installed.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> table = catalog.search({"plan_name": "scan"}).to_dask(columns=["motor", "det"], metadata=["scan_id"])
        >>> table.columns.tolist()
        ['uid', 'scan_id', 'seq_num', 'time', 'motor', 'det']
        >>> float(table["det"].max().compute())
        1.0
        """
        from filebroker.cataloging import dask_frames

        return dask_frames.table_of(self, stream, columns, metadata, (since, until), dtypes)

    def keys_seen(self) -> "pd.DataFrame":
        """Tell which keys the start documents have, to know what can be searched for.

        A list counts by its items, and a mapping has a row of its own.

        Returns
        -------
        pandas.DataFrame
            One row a key, dotted for nested ones, the most frequent first.  ``runs`` is the number of runs
            that have it, ``types`` the types of its values, ``values`` the number of different strings, numbers
            and booleans (10,000 stands for that many or more), and ``commonest`` the most frequent of them.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.keys_seen().loc[["operator", "sample.name"], "commonest"].to_list()
        [['Chen', 'Bert', 'Ana'], ['good sample', ...]]
        """
        from filebroker.cataloging import overviews

        return overviews.keys_seen(self.documents())


class Selection(Runs):
    """The runs that answer a search, newest first.

    Parameters
    ----------
    source
        The runs that are searched.
    query, text, since, until
        See `Runs.search`.

    Raises
    ------
    InvalidQuery
        The search cannot be understood.

    Examples
    --------
    >>> from filebroker import Broker
    >>> catalog = Broker.named("example").catalog
    >>> scans = catalog.search({"plan_name": "scan"})
    >>> scans
    <Selection of search({'plan_name': 'scan'})>
    >>> [run.start["scan_id"] for run in scans]
    [22, 11, 8, 5, 2]
    """

    def __init__(self, source: Runs, query: Mapping[str, Any], text: str | None, since: object, until: object) -> None:
        # A copy, because lists may be changed later and iterators can be gone through once.
        self._source, self._query, self._text = source, frozen(query), text
        self._low = -math.inf if since is None else times.parse(since)
        self._high = math.inf if until is None else times.parse(until)
        if text is not None and not isinstance(text, str):
            raise InvalidQuery(
                f"the words to search for are of type {type(text).__name__}; give a string, and values by key as in "
                "db(plan_name='scan') or db(**{'sample.name': 'LaB6'})"
            )
        self._latest: tuple[int, Search] | None = None
        self._condition()  # refuses what it does not understand, at once

    def __getstate__(self) -> dict[str, Any]:
        # What was found so far belongs to the files that this process has open.
        return {**self.__dict__, "_latest": None}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.described}>"

    def explain(self, search: str = "") -> Explanation:
        """Tell how these runs are found; see `Runs.explain`.

        Parameters
        ----------
        search
            How the search was written, to be shown; by default it is `described`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).explain("db(plan_name='scan')").search
        "db(plan_name='scan')"
        """
        return super().explain(search or self.described)

    @property
    def described(self) -> str:
        """The search, and those before it, as one would write them; what is long is cut.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).search(text="LaB6").described
        "search({'plan_name': 'scan'}) and search(text='LaB6')"
        """
        parts = [repr(self._query)] if self._query else []
        parts += [f"text={self._text!r}"] if self._text is not None else []
        parts += [f"since={times.local(self._low)!r}"] if self._low > -math.inf else []
        parts += [f"until={times.local(self._high)!r}"] if self._high < math.inf else []
        before = f"{self._source.described} and " if isinstance(self._source, Selection) else ""
        asked = ", ".join(parts)
        return before + f"search({asked if len(asked) <= 200 else f'{asked[:200]}...'})"

    @property
    def place(self) -> str:
        """Where these runs are, for messages.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).place
        "search({'plan_name': 'scan'}) in ...example"
        """
        return f"{self.described} in {self.catalog.place}"

    def _condition(self) -> list[Condition]:
        # Made anew for each search, because a regular expression has its time for one of them.
        parts = [parse(self._query)] if self._query else []
        words = None if self._text is None else parse_text(self._text)
        return parts + ([] if words is None or words.is_blank else [Words(words)])

    def _search(self) -> Search:
        before = self._source._search()
        version = before.library.ask(Manifest.version)
        # "list(results)" asks for the iterator and then for the length, and should not search twice.
        if self._latest is not None:
            latest_version, latest = self._latest
            if latest_version == version and latest.library is before.library and latest.is_fresh:
                return latest
        parts = ([] if before.condition is None else [before.condition]) + self._condition()
        condition = None if not parts else parts[0] if len(parts) == 1 else Both(tuple(parts))
        low, high = max(before.low, self._low), min(before.high, self._high)
        self._latest = version, Search(before.library, condition, low, high)
        return self._latest[1]

    def _open(self, entry: Entry) -> Run | None:
        return self._source._open(entry)

    @property
    def catalog(self) -> "Catalog":
        """The catalog that was searched.

        Examples
        --------
        >>> from filebroker import Broker
        >>> catalog = Broker.named("example").catalog
        >>> catalog.search({"plan_name": "scan"}).catalog is catalog
        True
        """
        return self._source.catalog


def _list_candidates(prefix: str, runs: list[Run]) -> str:
    many = len(runs) > _LISTED_CANDIDATES
    count = f"more than {_LISTED_CANDIDATES}" if many else str(len(runs))
    lines = [f"{prefix!r} is the beginning of {count} uids; give more characters:"]
    for run in runs[:_LISTED_CANDIDATES]:
        start = run.start
        described = (
            f"{run.uid}  {times.local(start['time'])}  scan_id {start.get('scan_id')}  {start.get('plan_name', '')}"
        )
        lines.append("  " + printable(described))
    return "\n".join(lines + ["  ..."] * many)
