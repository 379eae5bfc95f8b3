"""The header of a run, as databroker v1 had it: metadata, and ways to load the data."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from filebroker.cataloging.run import Run, Stream
from filebroker.faces import html
from filebroker.faces.filtering import ALL, DocumentFilter, added_columns, as_patterns, matches_any
from filebroker.faces.listing import STATES
from filebroker.faces.wrapping import PrepareHook
from filebroker.ground import times
from filebroker.ground.documents import Document, describe, stream_name as stream_of
from filebroker.ground.errors import MissingHandler
from filebroker.ground.texts import printable

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("start", "descriptors", "stop", "ext")


class Prompt(Protocol):
    """What a header needs of the broker that found its run."""

    prepare_hook: PrepareHook

    def fetch_external(self, start: Any, stop: Any) -> dict[str, Any]:
        """Give what the broker's external fetchers give for a run."""


class Header:
    """One run: its metadata at hand, its data on request.

    A header is also a mapping of the keys ``start``, ``descriptors``, ``stop`` and ``ext``.

    Parameters
    ----------
    broker
        The broker that found the run.
    run
        The run.

    Examples
    --------
    >>> from filebroker import Broker
    >>> header = Broker.named("example")[-1]
    >>> header.stream_names
    ['baseline', 'primary']
    >>> header.table().columns.tolist()
    ['time', 'det', 'motor', 'motor_setpoint']
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, broker: Prompt, run: Run) -> None:
        self.db = broker
        self._run = run

    # -- metadata

    @property
    def uid(self) -> str:
        """The run's unique id."""
        return self._run.uid

    @property
    def start(self) -> Any:
        """The start document: everything recorded when the run began."""
        return self.db.prepare_hook("start", self._run.start)

    @property
    def stop(self) -> Any:
        """The stop document, empty while the run is in progress."""
        return self.db.prepare_hook("stop", self._run.stop or {})

    @property
    def descriptors(self) -> list[Any]:
        """The descriptors of all streams, newest first."""
        newest_first = sorted(self._run.descriptors, key=lambda doc: doc["time"], reverse=True)
        return [self.db.prepare_hook("descriptor", doc) for doc in newest_first]

    @property
    def stream_names(self) -> list[str]:
        """The names of the run's streams.  A descriptor without a name counts as ``primary``."""
        if any("name" not in doc for doc in self._run.descriptors):
            warnings.warn(
                f"run {self.uid!r} has a descriptor without a name; its stream counts as 'primary'",
                UserWarning,
                stacklevel=2,
            )
        return self._run.stream_names

    @property
    def state(self) -> str:
        """``sealed``, ``live`` (in progress) or ``interrupted`` (its recording was cut short)."""
        return self._run.state

    @property
    def ext(self) -> Any:
        """What `Broker.external_fetchers` give for this run, as attributes and items."""
        from types import SimpleNamespace

        return SimpleNamespace(**self.db.fetch_external(self.start, self.stop))

    def fields(self, stream_name: Any = ALL) -> set[str]:
        """Give the names of the fields (data keys) that the run recorded.

        Parameters
        ----------
        stream_name
            A stream; all streams if not given.  An unknown stream has no fields.
        """
        return {key for doc in self._descriptors_of(stream_name) for key in doc["data_keys"]}

    def devices(self, stream_name: Any = ALL) -> set[str]:
        """Give the names of the devices that took part.

        Parameters
        ----------
        stream_name
            A stream; all streams if not given.
        """
        return {name for doc in self._descriptors_of(stream_name) for name in doc.get("object_keys") or {}}

    def config_data(self, device_name: str) -> dict[str, list[dict[str, Any]]]:
        """Give the configuration that a device reported.

        Parameters
        ----------
        device_name
            As in `devices`.

        Returns
        -------
        dict
            For each stream a list with one dict for each descriptor, oldest first.  Empty for an unknown
            device.
        """
        result: dict[str, list[dict[str, Any]]] = {}
        for doc in self._run.descriptors:
            device = (doc.get("configuration") or {}).get(device_name)
            if device is not None:
                result.setdefault(stream_of(doc), []).append(device["data"])
        return result

    def _descriptors_of(self, stream_name: Any) -> list[Document]:
        return [doc for doc in self._run.descriptors if stream_name is ALL or stream_of(doc) == stream_name]

    # -- data

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
            Replace references to external data by the data.

        Yields
        ------
        tuple of str and dict
            Name and document, the document as `Broker.prepare_hook` gives it.

        Raises
        ------
        MissingHandler
            ``fill`` is set, and an event refers to external data.
        """
        chosen = DocumentFilter(self._run, stream_name, fields)
        external = self._external_fields(fill) if fill else {}
        for name, doc in self._run.singles():
            kept = chosen(name, doc)
            if kept is not None:
                if name == "event":
                    self._refuse_external(kept, external)
                yield name, self.db.prepare_hook(name, kept)

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
        """
        for name, doc in self.documents(stream_name, fields, fill):
            if name == "event":
                yield doc

    def data(self, field: str, stream_name: str = "primary", fill: bool = True) -> Iterator[Any]:
        """Give the values of one field, reading nothing else.

        Parameters
        ----------
        field
            A data key, or the name of a configuration value or of a key of the start or stop document,
            which is then given once an event.
        stream_name
            The stream.
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
        if stream_name not in self._run.stream_names:
            return
        stream = self._run[stream_name]
        if fill:
            self._check_filled(stream, [field], True)
        if field in stream.keys:
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
        if fill:
            self._check_filled(stream, stream.keys if keys is None else keys, fill)
        frame = stream.to_pandas(keys, datetimes=convert_times or localize_times)
        if len(frame):
            for key, values in added_columns(stream, patterns, len(frame)).items():
                frame[key] = pd.Series(values, index=frame.index)
        if list(frame.columns) in (["time"], []):
            return frames.empty_frame()
        return frame

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """Give all documents, as `documents` does under its present name."""
        warnings.warn("Header.stream has a new name: Header.documents", UserWarning, stacklevel=2)
        return self.documents(*args, **kwargs)

    # -- external data

    def _external_fields(self, fill: bool | Iterable[str] = True) -> dict[str, str]:
        """Give each field to fill whose data are in files of their own, and what its descriptor says of them."""
        wanted = None if isinstance(fill, bool) else set([fill] if isinstance(fill, str) else fill)
        return {
            key: str(item["external"])
            for doc in self._run.descriptors
            for key, item in doc["data_keys"].items()
            if isinstance(item, Mapping) and item.get("external") and (wanted is None or key in wanted)
        }

    def _check_filled(self, stream: Stream, keys: Iterable[str], fill: bool | Iterable[str]) -> None:
        """Refuse to fill some keys of a stream, unless its events hold the data themselves."""
        found = self._external_fields(fill)
        external = {key: found[key] for key in keys if key in found}
        for event in stream.events() if external else ():
            self._refuse_external(event, external)

    def _refuse_external(self, event: Mapping[str, Any], external: Mapping[str, str]) -> None:
        """Say which handler is missing, unless the event holds the data themselves."""
        for key in event["data"]:
            if key not in external or event.get("filled", {}).get(key):
                continue
            specs = sorted({doc["spec"] for name, doc in self._run.singles() if name == "resource"})
            raise MissingHandler(
                f"the data of {key!r} are in files of their own ({external[key]}), and no handler is registered for "
                f"{' or '.join(map(repr, specs)) or 'them'}. Read with fill=False to get references to them; "
                f"the {describe('event', event)}"
            )

    # -- as a mapping, and for people

    def __getitem__(self, key: str) -> Any:
        if key not in _KEYS:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def _ipython_key_completions_(self) -> tuple[str, ...]:
        return _KEYS

    def keys(self) -> tuple[str, ...]:
        """Give the keys of the header as a mapping."""
        return _KEYS

    def values(self) -> Iterator[Any]:
        """Give the values of the header as a mapping."""
        return (self[key] for key in _KEYS)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Give the keys and values of the header as a mapping."""
        return ((key, self[key]) for key in _KEYS)

    def get(self, key: str, *default: Any) -> Any:
        """Give an attribute by its name, as databroker v1 did."""
        return getattr(self, key, *default)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and self._run.start == other._run.start

    def __repr__(self) -> str:
        start, stop = self._run.start, self._run.stop
        parts = [f"scan_id={start['scan_id']}"] if "scan_id" in start else []
        parts += [str(start["plan_name"])] if "plan_name" in start else []
        parts.append(str(stop.get("exit_status", "stopped")) if stop else STATES[self.state])
        names = self._run.stream_names
        parts += [f"streams: {', '.join(names)}"] if names else []
        return printable(f"<Header {self.uid[:8]} {times.local(start['time'])} {', '.join(parts)}>")

    def _repr_html_(self) -> str:
        title = html.heading(repr(self).strip("<>"))
        return title + html.run_tables(self._run.start, self._run.stop or {}, self._run.descriptors)
