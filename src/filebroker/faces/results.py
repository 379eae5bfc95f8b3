"""What a search gives: headers, made one by one as they are asked for."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from filebroker.cataloging.runs import Runs
from filebroker.faces import html, listing
from filebroker.faces.header import Header
from filebroker.faces.loading import Prompt
from filebroker.finding.search import Explanation
from filebroker.ground.errors import QueryTimeout

if TYPE_CHECKING:
    import pandas as pd

#: The keywords of a search that are no keys of the start document.
KEYWORDS = frozenset({"text_search", "since", "until", "data_key", "start_time", "stop_time"})
_SHOWN, _SHOWN_IN_HTML = 5, 20
#: What is longer is cut where it is shown.
_LONGEST = 200


class Question(NamedTuple):
    """What was asked.

    Attributes
    ----------
    keywords : Mapping
        Those of the search.
    filters : Mapping
        Those that the broker had then.
    """

    keywords: Mapping[str, Any]
    filters: Mapping[str, Any]

    def __str__(self) -> str:
        words = {key: value for key, value in self.keywords.items() if key == "text_search"}
        return f"db({written({**words, **self.keywords}, 'text_search')}){filtered_by(self.filters)}"


class Results:
    """The headers that answer a search, newest first.

    They can be iterated over again and again, and each time answer with what the catalog has by then.
    They cannot be subscripted: ``list(results)[0]`` or ``next(iter(results))`` gives the newest.

    Parameters
    ----------
    broker
        The broker that was asked.
    runs
        The runs that answer.
    question
        What it was asked.

    Raises
    ------
    QueryTimeout
        A regular expression of the search takes too long.  This comes when the answers are asked for: by
        iteration, ``len``, ``bool``, and the methods.

    Examples
    --------
    >>> from filebroker import Broker
    >>> results = Broker.named("example")(plan_name="grid_scan")
    >>> len(results)
    1
    >>> results.to_dataframe(["motors"])["motors"].tolist()
    [['motor1', 'motor2']]
    """

    def __init__(self, broker: Prompt, runs: Runs, question: Question) -> None:
        self._broker, self._runs, self._question = broker, runs, question

    @property
    def runs(self) -> Runs:
        """The runs themselves, which `export_runs` and `pack` take.

        Examples
        --------
        >>> from filebroker import Broker
        >>> len(Broker.named("example")(plan_name="scan").runs)
        5
        """
        return self._runs

    def __iter__(self) -> Iterator[Header]:
        """Give the headers, newest first, each opened when it is asked for."""
        return (Header(self._broker, run) for run in self._runs)

    def __len__(self) -> int:
        """Count the runs; none is opened for that, unless ``data_key`` was given."""
        return len(self._runs)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy searches anew, because what was found so far belongs to the files that this process has open.
        return ask_again, (self._broker, self._question)

    def to_dataframe(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Give one row a run, newest first, without opening any; see `Runs.to_dataframe`.

        Parameters
        ----------
        columns
            As for `Runs.to_dataframe`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> results = Broker.named("example")(plan_name="grid_scan")
        >>> results.to_dataframe(["scan_id"])["scan_id"].tolist()
        [14]
        """
        return self._runs.to_dataframe(columns)

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
        """Give the events of all runs as one dask table, which reads what is computed; see `Runs.to_dask`.

        Parameters
        ----------
        stream, columns, metadata, since, until, dtypes
            As for `Runs.to_dask`.

        Returns
        -------
        dask.dataframe.DataFrame
            One row an event, newest run first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> results = Broker.named("example")(plan_name="scan")
        >>> table = results.to_dask(columns=["det"], metadata=["scan_id"])
        >>> float(table["det"].max().compute())
        1.0
        """
        return self._runs.to_dask(stream, columns, metadata, since, until, dtypes=dtypes)

    def keys_seen(self) -> "pd.DataFrame":
        """Tell which keys the start documents have; see `Runs.keys_seen`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> results = Broker.named("example")(plan_name="grid_scan")
        >>> results.keys_seen().loc["snaking", "types"]
        'array of boolean'
        """
        return self._runs.keys_seen()

    def explain(self) -> Explanation:
        """Tell how the search is answered: what the index does, and what has to be looked at.

        Examples
        --------
        >>> from filebroker import Broker
        >>> results = Broker.named("example")(plan_name="grid_scan")
        >>> results.explain()
        search     db(plan_name='grid_scan')
        runs       22, ...
        """
        return self._runs.explain(str(self._question))

    def __repr__(self) -> str:
        try:
            lines = listing.as_text(islice(self._runs.documents(), _SHOWN))
            return "\n".join([f"<{self._title(_SHOWN)}>", *lines])
        except QueryTimeout as error:  # to look at a search is no mistake
            return f"<{self._named}: {unanswered(error)}>"

    def _repr_html_(self) -> str:
        try:
            return html.heading(self._title(_SHOWN_IN_HTML)) + newest_table(self._runs)
        except QueryTimeout as error:
            return html.heading(f"{self._named}: {unanswered(error)}")

    @property
    def _named(self) -> str:
        return f"Results of {self._question}"

    def _title(self, shown: int) -> str:
        count = len(self._runs)
        newest = f", the newest {shown} of them" if count > shown else ""
        unknown = [] if count else unknown_keys(self._runs, self._question.keywords)
        hint = f"; no run has the key {' or '.join(unknown)}, see keys_seen()" if unknown else ""
        return f"{self._named}: {counted(count)}{newest}{hint}"


def ask_again(broker: Any, question: Question) -> Results:
    """Ask what was asked before, with the filters of then.

    Parameters
    ----------
    broker
        The broker that was asked, or a copy of it.
    question
        What it was asked.
    """
    again = copy.copy(broker)
    again.filters = {**question.filters}
    results: Results = again(**question.keywords)
    return results


def counted(count: int) -> str:
    """Write a number of runs."""
    return f"{count:,} run{'s' * (count != 1)}"


def written(keywords: Mapping[str, Any], nameless: str = "") -> str:
    """Write the keywords of a search as one would call it; what is long is cut.

    Parameters
    ----------
    keywords
        The keywords.
    nameless
        The one that is given without its name.

    Examples
    --------
    >>> written({"text_search": "good", "plan_name": "scan"}, "text_search")
    "'good', plan_name='scan'"
    >>> written({"sample.name": "LaB6", "scan_id": 5})
    "scan_id=5, **{'sample.name': 'LaB6'}"
    """
    dotted = {key: value for key, value in keywords.items() if not key.isidentifier()}
    named = {key: value for key, value in keywords.items() if key not in dotted}
    given = [f"{'' if key == nameless else f'{key}='}{value!r}" for key, value in named.items()]
    text = ", ".join([*given, *([f"**{dotted!r}"] if dotted else [])])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def filtered_by(filters: Mapping[str, Any]) -> str:
    """Tell which filters are on, as the end of a sentence; nothing if none is."""
    return f", filtered by {written(filters)}" if filters else ""


def unanswered(error: Exception) -> str:
    """Tell that a search could not be answered."""
    return f"it could not be answered, because {error}"


def newest_table(runs: Runs, limit: int | None = None) -> str:
    """Give the newest of some runs as an HTML table, no more than a limit; nothing for no runs."""
    shown = _SHOWN_IN_HTML if limit is None else min(limit, _SHOWN_IN_HTML)
    rows = [listing.row_of(item) for item in islice(runs.documents(), shown)]
    return html.rows_table(listing.COLUMNS, rows) if rows else ""


def unknown_keys(runs: Runs, keywords: Mapping[str, Any]) -> list[str]:
    """Give the keys, quoted, that a search asks for and no run of the catalog has.

    Parameters
    ----------
    runs
        Any runs of the catalog.
    keywords
        The keywords of the search.
    """
    keys = dict.fromkeys(_keys_in(keywords))
    having = {key: runs.catalog.search({key: {"$exists": True}}) for key in keys}
    return [f"{key!r:.100}" for key, found in having.items() if next(found.documents(), None) is None]


def _keys_in(query: Mapping[str, Any]) -> Iterator[str]:
    """Give the keys of the start document that a query names."""
    for key, value in query.items():
        if key in ("$and", "$or", "$nor") and isinstance(value, list | tuple):
            for part in value:
                yield from _keys_in(part)
        elif key not in KEYWORDS and not key.startswith("$"):
            yield key
