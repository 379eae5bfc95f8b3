"""Loading the data of one run, as databroker v1 did with methods of its header."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from filebroker.assets.handlers import Handlers
from filebroker.cataloging.external import External, external_of
from filebroker.cataloging.run import Run, Stream
from filebroker.faces.filtering import ALL, DocumentFilter, added_columns, as_patterns, matches_any
from filebroker.ground.cautions import warn
from filebroker.ground.documents import Document
from filebroker.ground.errors import AssetWarning
from filebroker.ground.lazy import cached_property

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from filebroker.faces.browsing import RunCatalog


class Prompt(Protocol):
    """What a header needs of the broker that found its run."""

    handlers: Handlers

    @property
    def v2(self) -> "RunCatalog":
        """The same runs as a mapping."""

    def hand_out(self, name: str, doc: Document) -> Any:
        """Give a document of a run as users get it."""

    def fetch_external(self, start: Any, stop: Any) -> dict[str, Any]:
        """Give what the broker's external fetchers give for a run."""


class Loading:
    """The methods of a header that load data.

    Parameters
    ----------
    broker
        The broker that found the run.
    run
        The run.
    """

    def __init__(self, broker: Prompt, run: Run) -> None:
        self.db = broker
        self._run = run

    def documents(
        self, stream_name: Any = ALL, fields: Iterable[str] | None = None, fill: bool | Iterable[str] = False
    ) -> Iterator[tuple[str, Any]]:
        """Give all documents of the run, one by one.

        The start document comes first and the stop document last.  Descriptors, resources and datum
        documents come before the events that need them, and events by ascending time.

        Parameters
        ----------
        stream_name
            Leave out the descriptors and events of all other streams.
        fields
            Regular expressions.  Data keys that none of them matches completely are left out of the
            events; matching names of the configuration, the start and the stop document are added.
        fill
            Replace references to external data by the data.  Names of fields mean the same as True.

        Yields
        ------
        tuple of str and dict
            Name and document, the document as `Broker.prepare_hook` gives it.

        Raises
        ------
        MissingHandler, MissingAsset, UnreadableAsset, UnknownDatum
            ``fill`` is set, and external data cannot be read.  The documents before come all the same.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> [name for name, doc in header.documents("primary")][:4]
        ['start', 'descriptor', 'event', 'event']
        """
        fields = as_patterns(fields)
        chosen, fill = DocumentFilter(self._run, stream_name, fields), _is_asked(fill)
        view, wanted = None, self._matching_keys(fields)
        for name, doc in self._run.singles():
            if fill and name == "event" and chosen.asks_for(doc):
                view = view or self._external.view()  # made after the events were read, it knows what they refer to
                doc = view.fill(doc, wanted)
            kept = chosen(name, doc)
            if kept is not None:
                yield name, self.db.hand_out(name, kept)

    def events(
        self,
        stream_name: Any = "primary",
        fields: Iterable[str] | None = None,
        fill: bool | Iterable[str] = False,
    ) -> Iterator[Any]:
        """Give the events of a stream.

        Parameters
        ----------
        stream_name
            The stream, or `ALL`.
        fields, fill
            As for `documents`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> next(header.events())["data"]
        {'det': 0.606..., 'motor': -1.0, 'motor_setpoint': -1.0}
        """
        for name, doc in self.documents(stream_name, fields, fill):
            if name == "event":
                yield doc

    def data(self, field: str, stream_name: Any = "primary", fill: bool = True) -> Iterator[Any]:
        """Give the values of one field, reading nothing else.

        Parameters
        ----------
        field
            A data key, or the name of a configuration value or of a key of the start or stop document,
            which is then given once an event.
        stream_name
            The stream, or `ALL`.
        fill
            Replace references to external data by the data.

        Returns
        -------
        generator
            One value an event; nothing for an unknown field.

        Examples
        --------
        >>> from filebroker import Broker
        >>> data = Broker.named("example")[-1].data("motor")
        >>> data
        <generator object ...>
        >>> next(data)
        -1.0
        """
        if stream_name is ALL:
            yield from (event["data"][field] for event in self.events(ALL, [re.escape(field)], fill))
            return
        if stream_name not in self._run.stream_names:
            return
        stream = self._run[stream_name]
        column = self._external.column(stream, field) if _is_asked(fill) else None
        if column is not None:
            yield from column
        elif field in stream.keys:
            yield from stream.values(field)
        else:
            yield from added_columns(stream, [re.escape(field)], len(stream)).get(field, ())

    def table(
        self,
        stream_name: str = "primary",
        fields: Iterable[str] | None = None,
        fill: bool = False,
        timezone: str | None = None,
        convert_times: bool = True,
        localize_times: bool = True,
    ) -> "pd.DataFrame":
        """Give the events of a stream as a table.

        Parameters
        ----------
        stream_name
            The stream.
        fields
            Regular expressions; only data keys that one of them matches completely are given, and
            matching values of the configuration, the start and the stop document are added.
        fill
            Replace references to external data by the data.
        timezone
            Ignored, as in databroker v1: times are UTC.
        convert_times, localize_times
            Unless both are False, ``time`` is given as datetime64 without a time zone, in UTC; else in
            seconds since 1970.

        Returns
        -------
        pandas.DataFrame
            One row an event, index ``seq_num``; columns ``time`` and the fields.  Without events, or
            without fields, it has no columns.

        Examples
        --------
        >>> from filebroker import Broker
        >>> table = Broker.named("example")[-1].table(fields=["motor", "operator"])
        >>> table["motor"].tolist()[:3], table["operator"].tolist()[:2]
        ([-1.0, -0.8, -0.6], ['Chen', 'Chen'])
        """
        import pandas as pd

        from filebroker.cataloging import frames

        patterns = as_patterns(fields)
        if not isinstance(stream_name, str) or stream_name not in self._run.stream_names:
            return frames.empty_frame()
        stream = self._run[stream_name]
        keys = None if patterns is None else [key for key in stream.keys if matches_any(patterns, key)]
        datetimes = convert_times or localize_times
        if _is_asked(fill):
            wanted = self._matching_keys(patterns)
            frame = self._external.to_pandas(stream, keys, wanted, datetimes=datetimes)
        else:
            frame = stream.to_pandas(keys, datetimes=datetimes)
        if len(frame):
            for key, values in added_columns(stream, patterns, len(frame)).items():
                if key == "time":  # that of the start document; the table has the events' own
                    continue
                frame[key] = pd.Series(values, index=frame.index)
        if len(frame.columns) < 2 and list(frame.columns) in (["time"], []):  # a list of pandas' takes its time
            self._tell_of_files(stream, stream.keys if keys is None else keys, fill)
            return frames.empty_frame()
        return frame

    def _tell_of_files(self, stream: Stream, keys: Sequence[str], fill: Any) -> None:
        """Warn that an empty table has all its values in files, which no reference in it tells."""
        external = [] if _is_asked(fill) else self._external.keys(stream)
        if keys and set(keys) <= set(external) and self._external.seq_nums(stream):
            warn(
                f"the values of {', '.join(map(repr, keys))} of the stream {stream.name!r} are in files of their own; "
                "table(fill=True) gives them",
                AssetWarning,
            )

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """Give all documents, as `documents` does under its present name.

        Parameters
        ----------
        *args, **kwargs
            As for `documents`.

        Examples
        --------
        Write instead:

        >>> from filebroker import Broker
        >>> name, doc = next(Broker.named("example")[-1].documents())
        >>> name
        'start'
        """
        warnings.warn("Header.stream has a new name: Header.documents", UserWarning, stacklevel=2)
        return self.documents(*args, **kwargs)

    @cached_property
    def _external(self) -> External:
        return external_of(self._run, self.db.handlers)

    def _matching_keys(self, patterns: list[str] | None) -> set[str] | None:
        """Give the data keys that are asked for, None for all."""
        if patterns is None:
            return None
        return {key for doc in self._run.descriptors for key in doc["data_keys"] if matches_any(patterns, key)}

    def column(self, field: str, stream_name: str = "primary") -> Sequence[Any]:
        """Give the values of a field as a sequence; external data are read when an item is asked for.

        Parameters
        ----------
        field
            A data key.
        stream_name
            The stream.

        Returns
        -------
        Sequence
            One value an event.

        Raises
        ------
        UnknownStream
            There is no such stream.

        Examples
        --------
        >>> from filebroker import Broker
        >>> column = Broker.named("example")[-1].column("motor")
        >>> len(column), column[-1]
        (11, 1.0)
        """
        stream = self._run[stream_name]
        return self._external.column(stream, field) or list(stream.values(field))

    def files_of(self, resource: Mapping[str, Any]) -> list[str]:
        """Give the files of a resource, where they are now.

        Parameters
        ----------
        resource
            A resource or stream resource document of the run.

        Raises
        ------
        MissingHandler
            Nothing is registered that can list them.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> [header.files_of(doc) for name, doc in header.documents() if name == "resource"]  # all is in its events
        []
        """
        return self._external.files_of(resource)

    def xarray(self, stream_name: str = "primary") -> "xr.Dataset":
        """Give a stream as a dataset in memory.

        Parameters
        ----------
        stream_name
            The stream.

        Returns
        -------
        xarray.Dataset
            One variable a field, with the dimension ``time`` before its own.  The coordinate ``time`` is in seconds
            since 1970.

        Raises
        ------
        UnknownStream
            There is no such stream.
        MissingPackage
            xarray is not installed.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example")[-1].xarray()["motor"].dims
        ('time',)
        """
        from filebroker.cataloging.datasets import dataset

        return dataset(self._run[stream_name], self._external, lazy=False)

    def xarray_dask(self, stream_name: str = "primary") -> "xr.Dataset":
        """Give a stream as a dataset of dask arrays, which read external data when they are computed.

        Parameters
        ----------
        stream_name
            As for `xarray`.

        Returns
        -------
        xarray.Dataset
            As for `xarray`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> dataset = Broker.named("example")[-1].xarray_dask()
        >>> float(dataset["motor"].max())
        1.0
        """
        from filebroker.cataloging.datasets import dataset

        return dataset(self._run[stream_name], self._external, lazy=True)


def _is_asked(fill: Any) -> bool:
    """Tell whether to fill: whatever is true asks for it, but the word of version 2 for the contrary."""
    return bool(fill) and not (isinstance(fill, str) and fill == "no")
