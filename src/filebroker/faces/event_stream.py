"""A stream of a run as databroker v2 gives it: read as an xarray dataset."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from filebroker.cataloging import datasets
from filebroker.cataloging.run import Stream
from filebroker.faces.documents import Descriptor
from filebroker.ground.documents import Document, Pair, mapping_or_empty
from filebroker.ground.errors import InvalidOption, UnknownDevice

if TYPE_CHECKING:
    import xarray

    from filebroker.faces.bluesky_run import BlueskyRun

#: So many pages make a partition, unless its reader says otherwise.
_PARTITION_PAGES = 5


class BlueskyEventStream:
    """One stream of a run.

    Parameters
    ----------
    run
        The run.
    name
        The stream's name.
    include, exclude
        Data keys to give, or to leave out; unknown ones are passed over.
    sub_dict
        What to give: ``data``, or ``timestamps`` with the time at which each value was taken.
    configuration_for
        Give the configuration of this device in place of the events.

    Raises
    ------
    InvalidOption
        ``include`` and ``exclude`` are both given, or ``sub_dict`` is none of its values.

    Examples
    --------
    >>> from filebroker import Broker
    >>> run = Broker.named("example").v2[-1]
    >>> dataset = run.primary.read()
    >>> dataset["motor"].dims, dataset["motor"].attrs
    (('time',), {'object': 'motor'})
    >>> list(run.primary(include=["det"]).read())
    ['det']
    """

    container = "bluesky-event-stream"
    version = "0.0.1"

    def __init__(
        self,
        run: "BlueskyRun",
        name: str,
        *,
        include: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        sub_dict: datasets.SubDict = "data",
        configuration_for: str | None = None,
    ) -> None:
        self._run, self.name = run, name
        self.include, self.exclude = (_listed(names) for names in (include, exclude))
        if self.include and self.exclude:
            raise InvalidOption("include and exclude were both given; give one of them")
        if sub_dict not in ("data", "timestamps"):
            raise InvalidOption(f"sub_dict={sub_dict!r:.100} means nothing; it is 'data' or 'timestamps'")
        self._sub_dict, self._device = sub_dict, configuration_for
        self._partitions: dict[int, list[list[Pair]]] = {}

    def __repr__(self) -> str:
        return f"<BlueskyEventStream {self.name!r} from Run {self._run.uid[:8]}...>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_partitions": {}}

    @property
    def _stream(self) -> Stream:
        return self._run.run[self.name]

    # -- metadata

    @property
    def descriptors(self) -> list[Descriptor]:
        """The stream's descriptors, oldest first.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> [sorted(doc["data_keys"]) for doc in stream.descriptors]
        [['det', 'motor', 'motor_setpoint']]
        """
        return [Descriptor(self._run.transformed("descriptor", doc)) for doc in self._stream.descriptors]

    @property
    def _descriptors(self) -> list[Descriptor]:
        return self.descriptors  # bluesky-widgets looks for them here

    @property
    def metadata(self) -> dict[str, Any]:
        """The documents ``start``, ``stop`` (None while there is none) and ``descriptors``.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> stream.metadata["start"]["plan_name"], len(stream.metadata["descriptors"])
        ('scan', 1)
        """
        return {**self._run.metadata, "descriptors": self.descriptors}

    def describe(self) -> dict[str, Any]:
        """Tell what this is, as an entry of an intake catalog does.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> stream.describe()["name"], stream.describe()["container"]
        ('primary', 'bluesky-event-stream')
        """
        return described(self)

    def __len__(self) -> int:
        """Count the events."""
        return len(self._stream)

    def __bool__(self) -> bool:
        return True

    # -- data

    def read(self) -> "xarray.Dataset":
        """Read the stream.

        Returns
        -------
        xarray.Dataset
            One variable a data key, with the dimension ``time`` (one event each; float seconds since 1970, UTC)
            and those of its own.

        Raises
        ------
        MissingHandler, UnknownDatum, MissingAsset, UnreadableAsset
            External data cannot be read.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> stream.read()["motor"].values[:3].tolist()
        [-1.0, -0.8, -0.6]
        """
        return self._open(lazy=False)

    def to_dask(self) -> "xarray.Dataset":
        """Give the stream as a dataset of dask arrays, which read external data when they are computed.

        Returns
        -------
        xarray.Dataset
            As `read` gives it.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> float(stream.to_dask()["motor"].max().compute())
        1.0
        """
        return self._open(lazy=True)

    def read_chunked(self) -> "xarray.Dataset":
        """Give what `to_dask` gives, under the name that intake has for it.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> float(stream.read_chunked()["motor"].max().compute())
        1.0
        """
        return self.to_dask()

    def _open(self, *, lazy: bool) -> "xarray.Dataset":
        stream, external = self._stream, self._run.external
        chosen: dict[str, Any] = {"include": self.include, "exclude": self.exclude, "sub_dict": self._sub_dict}
        if self._device is not None:
            return datasets.configuration_dataset(stream, external, self._device, **chosen)
        return datasets.dataset(stream, external, lazy=lazy, **chosen)

    # -- other views

    def configure_new(self, **options: Any) -> "BlueskyEventStream":
        """Give the stream with other options.

        Parameters
        ----------
        **options
            ``include``, ``exclude``, ``sub_dict`` or ``configuration_for``; those not given stay as they are.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> list(stream.configure_new(exclude=["motor_setpoint"]).read())
        ['det', 'motor']
        """
        if not options:
            return self
        before = {"include": self.include, "exclude": self.exclude, "sub_dict": self._sub_dict}
        return BlueskyEventStream(self._run, self.name, **{**before, "configuration_for": self._device, **options})

    get = __call__ = configure_new

    @property
    def timestamps(self) -> "BlueskyEventStream":
        """The times at which the values were taken, in place of the values.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> stream.timestamps.read()["motor"].dtype
        dtype('float64')
        """
        return self.configure_new(sub_dict="timestamps")

    @property
    def config(self) -> "Configurations":
        """The configuration of each device, repeated for each event.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> stream.config["motor"].read()["motor_velocity"].values[:3].tolist()
        [1, 1, 1]
        """
        return Configurations(self)

    @property
    def config_timestamps(self) -> "Configurations":
        """The times at which the configuration of each device was taken.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> list(stream.config_timestamps["motor"].read())
        ['motor_velocity', 'motor_acceleration']
        """
        return Configurations(self.timestamps)

    # -- documents

    @property
    def npartitions(self) -> int | None:
        """The number of parts of `read_partition` when it was last called; None before that.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> part = stream.read_partition({"index": 0, "fill": "no"})
        >>> stream.npartitions
        4
        """
        return len(next(reversed(self._partitions.values()))) if self._partitions else None

    def read_partition(self, partition: Mapping[str, Any]) -> list[Pair]:
        """Give a part of the stream's documents.

        Parameters
        ----------
        partition
            ``index``, the number of the part; ``fill``, as for `BlueskyRun.documents`; and ``partition_size``,
            how many pages a part has, or ``auto``.

        Returns
        -------
        list of tuple of str and dict
            Names and documents: first all but pages, then pages, and at the very end the stop document.  Past
            the end it is empty.

        Raises
        ------
        InvalidOption
            ``partition_size`` is no positive number, or ``index`` or ``fill`` is missing.

        Examples
        --------
        >>> from filebroker import Broker
        >>> stream = Broker.named("example").v2[-1].primary
        >>> [name for name, doc in stream.read_partition({"index": 0, "fill": "no"})]
        ['start', 'descriptor']
        >>> [name for name, doc in stream.read_partition({"index": 1, "fill": "no", "partition_size": 2})]
        ['event_page', 'event_page']
        """
        size = partition.get("partition_size", "auto")
        size = _PARTITION_PAGES if size == "auto" else size
        if type(size) is not int or size < 1:
            raise InvalidOption(f"partition_size={size!r:.100} means nothing; it is a number of pages, or 'auto'")
        parts = self._partitions.get(size)
        if parts is None:
            is_live = self._run.run.state == "live"
            parts = self._make_partitions(size)
            if not is_live:
                self._partitions[size] = parts
        index, fill = partition.get("index"), partition.get("fill")
        if type(index) is not int or fill is None:
            raise InvalidOption(
                f"a partition is asked for as {{'index': 0, 'fill': 'no'}}, and not as {partition!r:.200}"
            )
        return self._run.filled(parts[index], fill) if 0 <= index < len(parts) else []

    def _make_partitions(self, size: int) -> list[list[Pair]]:
        head: list[Pair] = []
        pages: list[Pair] = []
        for name, doc in self._own_documents():
            (pages if name in ("datum_page", "event_page") else head).append((name, doc))
        stop = [head.pop()] if head[-1][0] == "stop" else []
        parts = [head, *(pages[row : row + size] for row in range(0, len(pages), size))]
        parts[-1] = parts[-1] + stop
        return parts

    def _own_documents(self) -> Iterator[Pair]:
        """Give the run's documents in pages, without the descriptors and events of other streams."""
        uids = {doc["uid"] for doc in self._stream.descriptors}
        for name, doc in self._run.documents(fill="no"):
            if not (name == "descriptor" and doc["uid"] not in uids) and doc.get("descriptor", "") in {*uids, ""}:
                yield name, doc


class Configurations(Mapping[str, BlueskyEventStream]):
    """The configuration of the devices of a stream, each read as a dataset.

    Parameters
    ----------
    stream
        The stream.

    Examples
    --------
    >>> from filebroker import Broker
    >>> config = Broker.named("example").v2[-1].primary.config
    >>> list(config)
    ['det', 'motor']
    >>> list(config["motor"].read())
    ['motor_velocity', 'motor_acceleration']
    """

    def __init__(self, stream: BlueskyEventStream) -> None:
        self._stream = stream

    def __getitem__(self, device: str) -> BlueskyEventStream:
        if device not in self._names():
            raise UnknownDevice(f"{self._stream!r} has no device {device!r:.100}; it has {self._names()}")
        return self._stream.configure_new(configuration_for=device)

    def __getattr__(self, device: str) -> BlueskyEventStream:
        if device.startswith("_"):
            raise AttributeError(f"Configurations have no attribute {device!r}")
        return self[device]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"<Configurations of {', '.join(self._names()) or 'no device'}>"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._names()})

    def _names(self) -> list[str]:
        found: dict[str, None] = {}
        for doc in self._stream.descriptors:
            found.update(dict.fromkeys(mapping_or_empty(doc.get("object_keys"))))
            found.update(dict.fromkeys(mapping_or_empty(doc.get("configuration"))))
        return list(found)


def described(entry: Any) -> Document:
    """Tell what a run or stream is, as an entry of an intake catalog does.

    Parameters
    ----------
    entry
        It; ``name``, ``container`` and ``metadata`` are looked at.
    """
    return {
        **{"name": entry.name, "container": entry.container, "plugin": [entry.container]},
        **{"driver": [entry.container], "description": "", "direct_access": "forbid", "user_parameters": []},
        **{"metadata": entry.metadata, "args": {}},
    }


def _listed(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else [names] if isinstance(names, str) else list(names)
