"""What a search gives: headers, made one by one as they are asked for."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from filebroker.core.runs import Runs
from filebroker.faces import html, listing
from filebroker.faces.header import Header, Prompt
from filebroker.finding.search import Explanation

if TYPE_CHECKING:
    import pandas as pd

_SHOWN, _SHOWN_IN_HTML = 5, 20


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
    description
        The search, as it was called.

    Examples
    --------
    >>> from filebroker import Broker
    >>> results = Broker.named("example")(plan_name="grid_scan")
    >>> len(results)
    1
    >>> results.to_dataframe(["motors"])["motors"].tolist()
    [['motor1', 'motor2']]
    """

    def __init__(self, broker: Prompt, runs: Runs, description: str) -> None:
        self._broker, self._runs, self._description = broker, runs, description

    def __iter__(self) -> Iterator[Header]:
        return (Header(self._broker, run) for run in self._runs)

    def __len__(self) -> int:
        """Count the runs; none is opened for that, unless ``data_key`` was given."""
        return len(self._runs)

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def to_dataframe(self, columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """Give one row a run, newest first, without opening any; see `Runs.to_dataframe`."""
        return self._runs.to_dataframe(columns)

    def keys_seen(self) -> "pd.DataFrame":
        """Tell which keys the start documents have; see `Runs.keys_seen`."""
        return self._runs.keys_seen()

    def explain(self) -> Explanation:
        """Tell how the search is answered: what the index does, and what has to be looked at."""
        return self._runs.explain(self._description)

    def __repr__(self) -> str:
        lines = listing.as_text(islice(self._runs.documents(), _SHOWN))
        return "\n".join([f"<{self._title(_SHOWN)}>", *lines])

    def _repr_html_(self) -> str:
        rows = [listing.row_of(item) for item in islice(self._runs.documents(), _SHOWN_IN_HTML)]
        return html.heading(self._title(_SHOWN_IN_HTML)) + (html.rows_table(listing.COLUMNS, rows) if rows else "")

    def _title(self, shown: int) -> str:
        count = len(self._runs)
        newest = f", the newest {shown} of them" if count > shown else ""
        return f"Results of {self._description}: {count:,} run{'s' * (count != 1)}{newest}"
