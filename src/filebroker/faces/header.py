"""The header of a run, as databroker v1 had it: metadata, and ways to load the data."""

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from filebroker.cataloging.run import Run
from filebroker.faces import html
from filebroker.faces.filtering import ALL
from filebroker.faces.listing import STATES
from filebroker.faces.loading import Loading
from filebroker.ground import times
from filebroker.ground.documents import Document, mapping_or_empty, stream_name as stream_of
from filebroker.ground.texts import printable

if TYPE_CHECKING:
    from filebroker.faces.bluesky_run import BlueskyRun
    from filebroker.faces.broker import Broker

_KEYS = ("start", "descriptors", "stop", "ext")


class Header(Loading):
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

    if TYPE_CHECKING:
        db: "Broker"  #: The broker that found the run.

    # -- metadata

    @property
    def uid(self) -> str:
        """The run's unique id.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.uid == header.start["uid"]
        True
        """
        return self._run.uid

    @property
    def run(self) -> Run:
        """The run itself, which `export_runs` and `pack` take.

        Examples
        --------
        >>> from filebroker import Broker
        >>> Broker.named("example")[-1].run.state
        'sealed'
        """
        return self._run

    @property
    def start(self) -> Any:
        """The start document: everything recorded when the run began.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.start["plan_name"], header.start["num_points"]
        ('scan', 11)
        """
        return self.db.hand_out("start", self._run.start)

    @property
    def stop(self) -> Any:
        """The stop document, empty while the run is in progress.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.stop["exit_status"], header.stop["num_events"]
        ('success', {'baseline': 2, 'primary': 11})
        """
        return self.db.hand_out("stop", self._run.stop or {})

    @property
    def descriptors(self) -> list[Any]:
        """The descriptors of all streams, newest first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> [doc["name"] for doc in header.descriptors]
        ['primary', 'baseline']
        """
        newest_first = sorted(self._run.descriptors, key=lambda doc: doc["time"], reverse=True)
        return [self.db.hand_out("descriptor", doc) for doc in newest_first]

    @property
    def stream_names(self) -> list[str]:
        """The names of the run's streams.  A descriptor without a name counts as ``primary``.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.stream_names
        ['baseline', 'primary']
        """
        if any("name" not in doc for doc in self._run.descriptors):
            warnings.warn(
                f"run {self.uid!r} has a descriptor without a name; its stream counts as 'primary'",
                UserWarning,
                stacklevel=2,
            )
        return self._run.stream_names

    @property
    def state(self) -> str:
        """``sealed``, ``live`` (in progress) or ``interrupted`` (its recording was cut short).

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.state
        'sealed'
        """
        return self._run.state

    @property
    def annotations(self) -> list[Document]:
        """What was said of the run afterwards, oldest first; see `Broker.annotate`.

        Each has ``author``, ``time`` (seconds since 1970), ``comment`` (None if there is none) and ``tags``.

        Examples
        --------
        >>> from filebroker import temp
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.annotate(-1, "use this one", tags="good", author="chen")
        >>> [(item["author"], item["comment"], item["tags"]) for item in db[-1].annotations]
        [('chen', 'use this one', ['good'])]
        >>> db.close()
        """
        return self.db.catalog.annotations(self._run)

    @property
    def tags(self) -> list[str]:
        """The tags that the run was given afterwards, the oldest first; see `Broker.annotate`.

        Examples
        --------
        >>> from filebroker import temp
        >>> db = temp()
        >>> db.insert("start", {"uid": "84d9ee44", "time": 1763821925.0})
        >>> db.annotate(-1, tags=["good", "paper"])
        >>> db.annotate(-1, remove_tags="paper")
        >>> db[-1].tags
        ['good']
        >>> db.close()
        """
        return list(dict.fromkeys(tag for item in self.annotations for tag in item["tags"]))

    @property
    def ext(self) -> Any:
        """What `Broker.external_fetchers` give for this run, as attributes and items.

        Examples
        --------
        >>> from filebroker import Broker
        >>> db = Broker.named("example")
        >>> db.external_fetchers["ended"] = lambda start, stop: stop["exit_status"]
        >>> db[-1].ext.ended
        'success'
        """
        from types import SimpleNamespace

        return SimpleNamespace(**self.db.fetch_external(self.start, self.stop))

    def fields(self, stream_name: Any = ALL) -> set[str]:
        """Give the names of the fields (data keys) that the run recorded.

        Parameters
        ----------
        stream_name
            A stream; all streams if not given.  An unknown stream has no fields.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> sorted(header.fields("primary"))
        ['det', 'motor', 'motor_setpoint']
        """
        return {key for doc in self._descriptors_of(stream_name) for key in doc["data_keys"]}

    def devices(self, stream_name: Any = ALL) -> set[str]:
        """Give the names of the devices that took part.

        Parameters
        ----------
        stream_name
            A stream; all streams if not given.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> sorted(header.devices("primary"))
        ['det', 'motor']
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

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.config_data("motor")
        {'primary': [{'motor_velocity': 1, 'motor_acceleration': 1}]}
        """
        result: dict[str, list[dict[str, Any]]] = {}
        for doc in self._run.descriptors:
            device = mapping_or_empty(doc.get("configuration")).get(device_name)
            if isinstance(device, Mapping):
                result.setdefault(stream_of(doc), []).append(device.get("data", {}))
        return result

    def _descriptors_of(self, stream_name: Any) -> list[Document]:
        return [doc for doc in self._run.descriptors if stream_name is ALL or stream_of(doc) == stream_name]

    # -- other faces

    @property
    def v2(self) -> "BlueskyRun":
        """The run as databroker 2 gives it: a mapping of streams.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.v2
        <BlueskyRun uid='...'>
        >>> list(header.v2)
        ['baseline', 'primary']
        """
        return self.db.v2[self.uid]

    def plain_documents(self) -> Iterator[tuple[str, Document]]:
        """Give all documents one by one as plain dicts, without what `Broker.prepare_hook` makes of them.

        Yields
        ------
        tuple of str and dict
            Name and document, in the order of `documents`.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> name, doc = next(header.plain_documents())
        >>> name, type(doc)
        ('start', <class 'dict'>)
        """
        return self._run.singles()

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
        """Give the keys of the header as a mapping.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.keys()
        ('start', 'descriptors', 'stop', 'ext')
        """
        return _KEYS

    def values(self) -> Iterator[Any]:
        """Give the values of the header as a mapping.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> next(header.values())["plan_name"]
        'scan'
        """
        return (self[key] for key in _KEYS)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Give the keys and values of the header as a mapping.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> dict(header.items())["stop"]["exit_status"]
        'success'
        """
        return ((key, self[key]) for key in _KEYS)

    def get(self, key: str, *default: Any) -> Any:
        """Give an attribute by its name, as databroker v1 did.

        Parameters
        ----------
        key
            The name.
        *default
            What to give if there is no such attribute.

        Raises
        ------
        AttributeError
            There is no such attribute, and no default.

        Examples
        --------
        >>> from filebroker import Broker
        >>> header = Broker.named("example")[-1]
        >>> header.get("state")
        'sealed'
        >>> header.get("weather", "unknown")
        'unknown'
        """
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
        said = [
            (item["author"], times.local(item["time"]), item["comment"] or "", ", ".join(item["tags"]))
            for item in self.annotations
        ]
        table = html.rows_table(("author", "time", "comment", "tags"), said, "Annotations") if said else ""
        return title + table + html.run_tables(self._run.start, self._run.stop or {}, self._run.descriptors)
