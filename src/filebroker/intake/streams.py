"""A stream of a run as a table in parts: the driver ``filebroker_stream``."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from intake.source.base import DataSource, Schema

from filebroker import __version__
from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.plots import names_in, plots_of
from filebroker.ground.errors import FilebrokerError, InvalidConfig, InvalidOption
from filebroker.ground.lazy import cached_property
from filebroker.ground.texts import printable
from filebroker.intake import labels
from filebroker.intake.places import run_key
from filebroker.intake.plots import PlotAccess
from filebroker.intake.sources import Reproducible

if TYPE_CHECKING:
    import pandas as pd
    import xarray

    from filebroker.cataloging.run import Run
    from filebroker.cataloging.stream_tables import StreamTable
    from filebroker.faces.broker import Broker
    from filebroker.faces.event_stream import BlueskyEventStream

_OPTIONS = frozenset(
    {"url", "path", "run", "stream", "columns", "storage_options", "handlers", "handler_registry", "root_map"}
    | {"transforms", "name", "description", "metadata"}
)


class IntakeStream(Reproducible, DataSource):  # type: ignore[misc]
    """The events of one stream of a run as a table; an event page is a partition of it.

    Parameters
    ----------
    url
        The directory or URL of the run's catalog.
    run
        The run: a uid or the beginning of one, a scan_id, or a negative number that counts from the newest run.
    stream
        The stream's name.
    columns
        Data keys to read, None for all.
    storage_options, handlers, root_map, transforms, path, handler_registry, name, description, metadata
        As for `IntakeCatalog`.

    Raises
    ------
    InvalidConfig, InvalidOption
        The arguments cannot be understood.

    Examples
    --------
    >>> import intake
    >>> stream = intake.open_filebroker_stream("sample_data/example", run=22, stream="primary", columns=["motor"])
    >>> stream.read().head(2)
       seq_num          time  motor
    0        1  1.795370e+09   -1.0
    1        2  1.795370e+09   -0.8
    >>> stream.discover()["shape"]
    (11, 3)
    """

    name = driver = "filebroker_stream"
    version = __version__
    container = "dataframe"
    partition_access = True
    _is_made = False

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        run: str | int | None = None,
        stream: str = "primary",
        columns: str | Sequence[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        handlers: Mapping[str, Any] | None = None,
        root_map: Mapping[str, str] | None = None,
        transforms: Mapping[str, Any] | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        handler_registry: Mapping[str, Any] | None = None,
        name: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **intakes: Any,
    ) -> None:
        self._refuse_unknown(intakes)
        self._take_place(
            path if url is None else url,
            metadata,
            storage_options=storage_options,
            handlers=handlers or handler_registry,
            root_map=root_map,
            transforms=transforms,
        )
        if not isinstance(stream, str):
            raise InvalidConfig(f"a source of one stream needs its name, as in 'stream: primary', not {stream!r:.100}")
        self._key, self.stream = run_key(run), stream
        self.columns = None if columns is None else _listed(columns)
        super().__init__(metadata=self._given_metadata)
        self.name, self.description = name or stream, description
        self.storage_options = self._place.storage_options
        self._described: StreamTable | None = None
        self._known: dict[str, Any] | None = None
        self._is_made = True

    @classmethod
    def _options(cls) -> frozenset[str]:
        """Name the arguments that a stream can be made of."""
        return _OPTIONS

    def _own_arguments(self) -> dict[str, Any]:
        """Give the arguments besides those of the place."""
        given = {"run": self._key, "stream": self.stream}
        return given if self.columns is None else {**given, "columns": self.columns}

    # -- the stream

    def _hold(self, broker: "Broker", run: "Run") -> None:
        """Take the run that was found already, so that it need not be looked for."""
        self.__dict__.update(_broker=broker, _run=run)

    @cached_property
    def _broker(self) -> "Broker":
        return self._place.shared_broker()

    @cached_property
    def _run(self) -> "Run":
        return labels.find(self._broker.runs, self._key)

    @property
    def _table(self) -> "StreamTable":
        """The stream as it is now."""
        return self._new_table() if self._run.state == "live" else self._settled

    @cached_property
    def _settled(self) -> "StreamTable":
        return self._new_table()

    def _new_table(self) -> "StreamTable":
        from filebroker.cataloging.stream_tables import StreamTable

        return StreamTable(self._run[self.stream], self.columns)

    @property
    def v2(self) -> "BlueskyEventStream":
        """The stream as databroker's version 2 had it: ``v2.read()`` is an xarray dataset.

        Examples
        --------
        >>> import intake
        >>> dict(intake.open_filebroker_stream("sample_data/example", run=22).v2.read().sizes)
        {'time': 11}
        """
        return BlueskyRun(self._broker, self._run)[self.stream]

    def __getitem__(self, columns: str | Sequence[str]) -> "IntakeStream":
        """Give the stream with some data keys alone, as in ``stream[["det", "motor"]]``.

        Raises
        ------
        UnknownField
            It has no such data key.
        """
        chosen = self._again(columns=columns)
        chosen._hold(self._broker, self._run)
        chosen._table  # noqa: B018 - refuses what the stream does not have
        return chosen

    # -- what is known of it

    @property
    def _documents(self) -> dict[str, Any]:
        if self._known is None or self._known["stop"] is None:  # it may have grown
            self._known = {key: _plain(documents) for key, documents in self.v2.metadata.items()}
        return self._known

    @cached_property
    def _plots(self) -> dict[str, Any]:
        found = plots_of(self._documents["start"], self._documents["descriptors"], self.stream)
        if self.columns is None:
            return dict(found)
        shown = {"seq_num", "time", *self.columns}
        return {name: plot for name, plot in found.items() if names_in(plot) <= shown}

    @property
    def metadata(self) -> dict[str, Any]:
        """The documents ``start``, ``stop`` and ``descriptors``; ``plots``, made of the hints; and what was given.

        Examples
        --------
        >>> import intake
        >>> metadata = intake.open_filebroker_stream("sample_data/example", run=22).metadata
        >>> metadata["start"]["plan_name"], len(metadata["plots"])
        ('scan', 1)
        """
        if not self._is_made:  # Intake asks for it at once
            return self._given_metadata
        return {**self._given_metadata, **self._documents, "plots": self._plots}

    @metadata.setter
    def metadata(self, value: Mapping[str, Any] | None) -> None:
        # Intake sets it when a source is made, and there it is known already.
        if self._is_made:
            self._given_metadata = dict(value or {})

    @property
    def plots(self) -> list[str]:
        """The names of the plots that the hints describe, which Intake's GUI offers.

        Examples
        --------
        >>> import intake
        >>> len(intake.open_filebroker_stream("sample_data/example", run=22).plots)
        1
        """
        return list(self._plots)

    @property
    def plot(self) -> PlotAccess:
        """The plots, as methods; they take ``pip install "filebroker[gui]"``."""
        return PlotAccess(self)

    hvplot = plot

    def _get_schema(self) -> Schema:
        return _schema_of(self._table)

    def _load_metadata(self) -> None:
        table = self._table
        if table is not self._described:  # nothing is known yet, or the run has grown
            schema = _schema_of(table)
            self._schema, self.dtype, self.shape, self.npartitions = (
                schema,
                schema.dtype,
                schema.shape,
                schema.npartitions,
            )
            self._described = table  # last, because of other threads

    # -- data

    def read(self) -> "pd.DataFrame":
        """Read the whole table.

        Returns
        -------
        pandas.DataFrame
            One row an event, in order.  Columns are ``seq_num``, ``time`` (seconds since 1970, UTC) and the data
            keys.  External data are given as the references to them; `to_xarray` reads them.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_stream("sample_data/example", run=22).read().shape
        (11, 5)
        """
        return self._table.read()

    def read_partition(self, i: int) -> "pd.DataFrame":
        """Read one part of the table.

        Parameters
        ----------
        i
            Its number, from 0 on.

        Raises
        ------
        IndexError
            There is no such part.
        DamagedRun
            It cannot be read.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_stream("sample_data/example", run=22).read_partition(0).shape
        (11, 5)
        """
        return self._table.part(i)

    _get_partition = read_partition

    def to_dask(self) -> Any:
        """Give the table as one of dask, which reads a page when it is computed.

        Returns
        -------
        dask.dataframe.DataFrame
            As `read` gives it.

        Raises
        ------
        MissingPackage
            dask is not installed.

        Examples
        --------
        >>> import intake
        >>> stream = intake.open_filebroker_stream("sample_data/example", run=22)
        >>> float(stream.to_dask()["det"].max().compute())
        1.0
        """
        return self._table.to_dask()

    def to_xarray(self) -> "xarray.Dataset":
        """Read the stream as databroker did, external data included.

        Returns
        -------
        xarray.Dataset
            One variable a data key, with the dimension ``time`` (one event each; float seconds since 1970, UTC) and
            those of its own.

        Raises
        ------
        MissingPackage
            xarray is not installed.
        MissingHandler, UnknownDatum, MissingAsset, UnreadableAsset
            External data cannot be read.

        Examples
        --------
        >>> import intake
        >>> dict(intake.open_filebroker_stream("sample_data/example", run=22).to_xarray().sizes)
        {'time': 11}
        """
        if self.columns is None:
            return self.v2.read()
        self._table  # noqa: B018 - refuses what the stream does not have
        return self.v2(include=self.columns or None).read()[self.columns]

    @property
    def directory(self) -> str:
        """The directory of the stream's Parquet files, which other programs read without filebroker.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_stream("sample_data/example", run=22).directory
        '.../primary'
        """
        return self._run[self.stream].directory

    def _close(self) -> None:
        for name in ("_run", "_settled", "_plots"):
            self.__dict__.pop(name, None)
        self._described = self._known = None

    def __repr__(self) -> str:
        try:
            keys = ", ".join(column.name for column in self._table.columns[2:])
        except FilebrokerError as error:  # to look at a stream is no mistake
            keys = str(error)
        return printable(f"<IntakeStream {self.stream!r} of run {self._key!r}: {keys}>")

    def __bool__(self) -> bool:
        return True


def _schema_of(table: "StreamTable") -> Schema:
    """Give what Intake wants to know of a table."""
    shape = table.rows, len(table.columns)
    return Schema(datashape=None, dtype=table.dtypes, shape=shape, npartitions=table.npartitions, extra_metadata={})


def _plain(documents: Any) -> Any:
    """Give a document, or several, as what JSON has; None stays."""
    if isinstance(documents, list):
        return [dict(doc) for doc in documents]
    return None if documents is None else dict(documents)


def _listed(columns: Any) -> list[str]:
    names = [columns] if isinstance(columns, str) else list(columns) if isinstance(columns, Iterable) else [columns]
    if not all(isinstance(name, str) for name in names):
        raise InvalidOption(f"columns={columns!r:.100} means nothing; give the names of data keys")
    return names
