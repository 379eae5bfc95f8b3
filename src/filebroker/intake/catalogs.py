"""A catalog of runs as a catalog of Intake: the driver ``filebroker``."""

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from intake.catalog.base import Catalog

from filebroker import __version__
from filebroker.faces import html
from filebroker.faces.keywords import narrowed_by
from filebroker.faces.results import counted, newest_table, unanswered, unknown_keys
from filebroker.ground.arguments import count, flag
from filebroker.ground.errors import FilebrokerError, InvalidQuery, NotSupported
from filebroker.ground.lazy import cached_property
from filebroker.ground.settings import searches
from filebroker.intake.entries import Entries
from filebroker.intake.questions import written_down
from filebroker.intake.run_mapping import RunMapping

if TYPE_CHECKING:
    import pandas as pd

    from filebroker.faces.broker import Broker
    from filebroker.faces.browsing import RunCatalog

_OPTIONS = frozenset(
    {"url", "path", "storage_options", "read_only", "handlers", "handler_registry", "root_map", "transforms"}
    | {"search", "limit", "labels", "name", "description", "metadata"}
)


class IntakeCatalog(RunMapping, Catalog):  # type: ignore[misc]
    """Runs by uid, newest first, as a catalog of Intake.

    Parameters
    ----------
    url
        The directory or URL of the catalog.  What is relative is so to the catalog file, or else to the working
        directory.
    storage_options
        Arguments of the fsspec filesystem.  A credential can be named, as in ``{"env": "NAME"}``.
    read_only
        Let `v1` and `v2` never write.  To look at runs never does.
    handlers, root_map, transforms
        As in a configuration: who reads external data, where they have moved, and what is made of documents.
    search
        Only the runs that answer: words, or a mapping of the keywords of a search at the prompt, or a list of both.
    limit
        List only so many, the newest.  Others can still be looked up, and are searched.
    labels
        List keys such as ``s000200_grid_scan_84d9ee44`` in place of uids.
    path, handler_registry
        Other names of ``url`` and ``handlers``.
    api_version
        Passed over; it tells `Broker.named` what to give.
    name, description, metadata
        For people.
    **intakes
        Arguments of Intake's own catalogs, which make no difference here.

    Raises
    ------
    InvalidConfig, InvalidOption
        The arguments cannot be understood.

    Notes
    -----
    Nothing is opened before runs are asked for.  Then errors are those of `Broker`.

    Examples
    --------
    >>> import intake
    >>> catalog = intake.open_filebroker("sample_data/example")
    >>> catalog
    <IntakeCatalog 'filebroker': 22 runs at ...>
    >>> catalog[-1].primary.read().columns.tolist()
    ['seq_num', 'time', 'det', 'motor', 'motor_setpoint']
    >>> len(catalog.search("LaB6").search(plan_name="scan"))
    1
    """

    name = driver = "filebroker"
    version = __version__
    container = "catalog"
    partition_access = False

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        read_only: bool | str = False,
        handlers: Mapping[str, Any] | None = None,
        root_map: Mapping[str, str] | None = None,
        transforms: Mapping[str, Any] | None = None,
        search: Any = None,
        limit: int | str | None = None,
        labels: bool | str = False,
        *,
        path: str | os.PathLike[str] | None = None,
        handler_registry: Mapping[str, Any] | None = None,
        api_version: object = None,
        name: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **intakes: Any,
    ) -> None:
        self._take_place(
            path if url is None else url,
            metadata,
            storage_options=storage_options,
            handlers=handlers or handler_registry,
            root_map=root_map,
            transforms=transforms,
        )
        self._searches = [written_down(item) for item in searches(search, "the source")]
        self._limit, self._labels = count(limit), flag("labels", labels)
        self._read_only = flag("read_only", read_only)
        self._refuse_unknown(intakes)
        super().__init__(name=name or self.driver, description=description, metadata=self._given_metadata)
        self.storage_options = self._place.storage_options

    @classmethod
    def _options(cls) -> frozenset[str]:
        """Name the arguments that a catalog can be made of."""
        return _OPTIONS

    def _own_arguments(self) -> dict[str, Any]:
        """Give the arguments besides those of the place."""
        one = self._searches[0] if len(self._searches) == 1 else self._searches
        given = {"read_only": self._read_only, "search": one, "labels": self._labels}
        limit = {} if self._limit is None else {"limit": self._limit}
        return {name: value for name, value in given.items() if value} | limit

    # -- the runs

    @cached_property
    def v1(self) -> "Broker":
        """The same runs behind the prompt; it records as well, unless ``read_only`` was given.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("sample_data/example").v1[-1].table().shape
        (11, 4)
        """
        broker = self._place.broker(read_only=self._read_only, name=self.name)
        return broker.over(narrowed_by(broker.runs, self._searches), name=self.name) if self._searches else broker

    @property
    def v2(self) -> "RunCatalog":
        """The same runs as databroker's version 2 had them: ``v2[-1].primary.read()`` is an xarray dataset.

        Examples
        --------
        >>> import intake
        >>> dict(intake.open_filebroker("sample_data/example").v2[-1].primary.read().sizes)
        {'time': 11}
        """
        return self.v1.v2

    # -- finding

    def search(self, text: Any = None, depth: object = None, **keywords: Any) -> "IntakeCatalog":
        """Give the runs that answer, as a catalog of the same kind.

        Parameters
        ----------
        text
            Words, as ``db('good sample')`` takes them; or a mapping, conditions in MongoDB's query language.
        depth
            Passed over: Intake's own catalogs have it.
        **keywords
            Those of a search at the prompt: ``since``, ``until``, ``data_key``, and keys of the start document.

        Raises
        ------
        InvalidQuery
            The search cannot be understood.

        Examples
        --------
        >>> import intake
        >>> catalog = intake.open_filebroker("sample_data/example")
        >>> len(catalog.search("LaB6")), len(catalog.search({"num_points": {"$gt": 10}}, plan_name="scan"))
        (4, 3)
        """
        if not isinstance(depth, int | None):
            raise InvalidQuery(f"words to search for are one string, as in 'good sample'; not {depth!r:.100} as well")
        if isinstance(text, Mapping):
            if not all(isinstance(key, str) for key in text):
                raise InvalidQuery(
                    f"the keys of a search are text, as in {{'plan_name': 'scan'}}, not as in {text!r:.200}"
                )
            added = [dict(text), keywords]
        elif text is None or isinstance(text, str):
            added = [{} if text is None else {"text_search": text}, keywords]
        else:
            raise InvalidQuery(
                f"a search is made of words or of a mapping such as {{'plan_name': 'scan'}}, not {text!r:.200}"
            )
        found = self._again(search=[*self._searches, *filter(None, added)])
        found.cat = self
        found._runs  # noqa: B018 - refuses what it does not understand, at once
        return found

    def filter(self, func: object) -> NoReturn:
        """Refuse: every run would be opened for it.

        Raises
        ------
        NotSupported
            Always; `search` finds runs.

        Examples
        --------
        Write instead:

        >>> import intake
        >>> len(intake.open_filebroker("sample_data/example").search(plan_name="scan"))
        5
        """
        raise NotSupported(
            "filter() would open every run; use search(...), which takes words, keys and MongoDB's operators"
        )

    def walk(self, sofar: dict[str, Any] | None = None, prefix: object = None, depth: object = None) -> dict[str, Any]:
        """Give what was found so far and nothing more, so that to search a parent opens no runs.

        Parameters
        ----------
        sofar
            What was found in other catalogs.
        prefix, depth
            Passed over.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("sample_data/example").walk()
        {}
        """
        return {} if sofar is None else sofar

    # -- overviews

    def to_dataframe(self, columns: Any = None, limit: int | None = None) -> "pd.DataFrame":
        """Give one row a run, newest first, without opening any; see `Runs.to_dataframe`.

        Parameters
        ----------
        columns
            Keys of the start document, dotted for nested ones; by default every key of the first level.
        limit
            No more rows than so many.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("sample_data/example").to_dataframe(["scan_id"], limit=2)["scan_id"].to_list()
        [22, 21]
        """
        limits = [number for number in (count(limit), self._limit) if number is not None]
        from filebroker.cataloging import overviews

        return overviews.table_of(islice(self._runs.documents(), min(limits, default=None)), columns)

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

        All runs are those that `search` gives; ``limit`` is for lists alone.

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
        >>> import intake
        >>> catalog = intake.open_filebroker("sample_data/example", search={"plan_name": "scan"})
        >>> float(catalog.to_dask(columns=["det"])["det"].max().compute())
        1.0
        """
        return self._runs.to_dask(stream, columns, metadata, since, until, dtypes=dtypes)

    def read(self, columns: Any = None, limit: int | None = None) -> "pd.DataFrame":
        """Give one row a run, as `to_dataframe` does.

        Parameters
        ----------
        columns, limit
            As for `to_dataframe`.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("sample_data/example", search="LaB6").read().shape[0]
        4
        """
        return self.to_dataframe(columns, limit)

    def __repr__(self) -> str:
        try:
            return f"<IntakeCatalog {self.name!r}: {counted(len(self))} at {self._where}{self._doubts()}>"
        except FilebrokerError as error:  # to look at a catalog is no mistake
            return f"<IntakeCatalog {self.name!r} at {self._where}: {unanswered(error)}>"

    def _repr_html_(self) -> str:
        try:
            return html.heading(repr(self)[1:-1]) + newest_table(self._runs, self._limit)
        except FilebrokerError:
            return html.heading(repr(self)[1:-1])

    def _doubts(self) -> str:
        """Say what of a search may be a mistake; nothing if it found something."""
        if not self._searches or len(self._runs):
            return ""
        unknown = [key for search in self._searches for key in unknown_keys(self._runs, search)]
        return f"; no run has the key {' or '.join(unknown)}, see v1.keys_seen()" if unknown else ""

    @property
    def _where(self) -> str:
        return self._runs.place if "_runs" in self.__dict__ else self._place.url

    # -- what Intake asks

    def _make_entries_container(self) -> Entries:
        return Entries(lambda: self.recent.items(), lambda: len(self.recent), lambda name: self.recent._run(name))

    def force_reload(self) -> None:
        """Find runs that were copied into the catalog, or removed from it, by hand.

        Runs that are recorded are found without it.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("sample_data/example").force_reload()
        """
        if "_broker" in self.__dict__:  # Intake does this as well when a catalog is made
            self._broker.catalog.refresh()
            self._listed.clear()

    reload = refresh = force_reload

    @property
    def gui(self) -> Any:
        """Intake's window to browse the newest runs; it takes ``pip install "filebroker[gui]"``."""
        from filebroker.intake.window import window_of

        return window_of(self)
