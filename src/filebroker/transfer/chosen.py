"""What a user gives as runs: a broker, the result of a search, headers, runs; and the handlers that these bring."""

from collections.abc import Iterable, Sequence
from typing import Any

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.run import Run
from filebroker.cataloging.runs import Runs
from filebroker.ground.errors import InvalidKey


def runs_of(given: Any) -> Runs | Sequence[Any]:
    """Give runs, or what each is a run or a header of, from whatever a user may call runs.

    Parameters
    ----------
    given
        A broker, a catalog, the result of a search, a header, a run, or several of the last two.

    Raises
    ------
    InvalidKey
        It is none of these.

    Examples
    --------
    >>> from filebroker import Broker
    >>> db = Broker.named("example")
    >>> [len(runs_of(given)) for given in (db, db.catalog, db(plan_name="scan"), db[-1], [db[-1], db[-2].run])]
    [22, 22, 5, 1, 2]
    """
    runs = getattr(given, "runs", given)  # a broker, or the result of a search there
    if isinstance(runs, Runs):
        return runs
    if isinstance(run_of(runs), Run):
        return [runs]
    if isinstance(runs, str | bytes) or not isinstance(runs, Iterable):
        raise InvalidKey(f"{given!r:.100} are no runs; give runs, headers, the result of a search, or a broker")
    return runs if isinstance(runs, Sequence) else list(runs)


def run_of(item: Any) -> Any:
    """Give the run of a header; anything else as it is.

    Parameters
    ----------
    item
        A header or a run.
    """
    return item if isinstance(item, Run | Runs) else getattr(item, "run", item)


def checked(item: Any) -> Run:
    """Give the run of a header or a run.

    Parameters
    ----------
    item
        A header or a run.

    Raises
    ------
    InvalidKey
        It is neither.
    """
    run = run_of(item)
    if not isinstance(run, Run):
        raise InvalidKey(f"{item!r:.100} is no run; give runs, headers, the result of a search, or a broker")
    return run


def handlers_of(given: Any) -> Handlers | None:
    """Give the handlers of the broker that runs come from; of headers of several brokers, those of the first.

    Parameters
    ----------
    given
        As for `runs_of`.
    """
    known = getattr(given, "handlers", None)
    if known is None and hasattr(given, "runs"):  # the result of a search
        given = next(iter(given), None)
    if isinstance(given, Sequence) and given:
        given = given[0]
    known = known or getattr(getattr(given, "db", None), "handlers", None)
    return known if isinstance(known, Handlers) else None
