"""A run as a catalog of its streams: the driver ``filebroker_run``."""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from intake.catalog.base import Catalog
from intake.source.base import NoEntry

from filebroker import __version__
from filebroker.faces.bluesky_run import BlueskyRun
from filebroker.faces.header import Header
from filebroker.ground.errors import FilebrokerError, UnknownStream
from filebroker.ground.lazy import cached_property
from filebroker.ground.texts import printable
from filebroker.intake import labels
from filebroker.intake.entries import Entries
from filebroker.intake.places import run_key
from filebroker.intake.sources import Branch
from filebroker.intake.streams import IntakeStream

if TYPE_CHECKING:
    from filebroker.cataloging.run import Run
    from filebroker.faces.broker import Broker

_OPTIONS = frozenset(
    {"url", "path", "run", "storage_options", "handlers", "handler_registry", "root_map", "transforms"}
    | {"name", "description", "metadata"}
)


class IntakeRun(Branch, Catalog):  # type: ignore[misc]
    """The streams of a run by name, as a catalog of Intake.

    Parameters
    ----------
    url
        The directory or URL of the run's catalog.
    run
        The run: a uid or the beginning of one, a scan_id, or a negative number that counts from the newest run.
    storage_options, handlers, root_map, transforms, path, handler_registry, name, description, metadata, **intakes
        As for `IntakeCatalog`.

    Raises
    ------
    InvalidConfig
        The arguments cannot be understood.

    Examples
    --------
    >>> import intake
    >>> run = intake.open_filebroker_run("sample_data/example", run=-1)
    >>> list(run), run.metadata["start"]["plan_name"]
    (['baseline', 'primary'], 'scan')
    """

    name = driver = "filebroker_run"
    version = __version__
    container = "catalog"
    partition_access = False
    _is_made = False

    def __init__(
        self,
        url: str | os.PathLike[str] | None = None,
        run: str | int | None = None,
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
        self._take_place(
            path if url is None else url,
            metadata,
            storage_options=storage_options,
            handlers=handlers or handler_registry,
            root_map=root_map,
            transforms=transforms,
        )
        self._key = run_key(run)
        self._refuse_unknown(intakes)
        super().__init__(name=name or str(run), description=description)
        self.storage_options = self._place.storage_options
        self._is_made = True

    @classmethod
    def _options(cls) -> frozenset[str]:
        """Name the arguments that a run can be made of."""
        return _OPTIONS

    def _own_arguments(self) -> dict[str, Any]:
        """Give the arguments besides those of the place."""
        return {"run": self._key}

    # -- the run

    def _hold(self, broker: "Broker", run: "Run | None") -> None:
        """Take what was opened already: the broker, and the run if it was found."""
        self.__dict__.update({"_broker": broker} if run is None else {"_broker": broker, "_run": run})

    @cached_property
    def _broker(self) -> "Broker":
        return self._place.shared_broker()

    @cached_property
    def _run(self) -> "Run":
        return labels.find(self._broker.runs, self._key)

    @property
    def uid(self) -> str:
        """The run's unique id.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_run("sample_data/example", run=22).uid
        '0a00d92c-...'
        """
        return self._run.uid

    @property
    def metadata(self) -> dict[str, Any]:
        """The documents ``start`` and ``stop``, None while there is none, as they were recorded; and what was given.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_run("sample_data/example", run=22).metadata["stop"]["exit_status"]
        'success'
        """
        if not self._is_made:  # Intake 2 asks for it at once
            return self._given_metadata
        documents = {key: None if doc is None else dict(doc) for key, doc in self.v2.metadata.items()}
        return {**self._given_metadata, **documents}

    @metadata.setter
    def metadata(self, value: Mapping[str, Any] | None) -> None:
        # Intake sets it when a source is made, and there it is known already.
        if self._is_made:
            self._given_metadata = dict(value or {})

    @property
    def v1(self) -> Header:
        """The run as databroker's version 1 had it: ``v1.table()``.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_run("sample_data/example", run=22).v1.table().shape
        (11, 4)
        """
        return Header(self._broker, self._run)

    @property
    def v2(self) -> BlueskyRun:
        """The run as databroker's version 2 had it: ``v2.primary.read()`` is an xarray dataset.

        Examples
        --------
        >>> import intake
        >>> dict(intake.open_filebroker_run("sample_data/example", run=22).v2.primary.read().sizes)
        {'time': 11}
        """
        return BlueskyRun(self._broker, self._run)

    # -- the streams

    def _stream(self, name: Any) -> IntakeStream:
        """Give a stream."""
        if name not in self._run.stream_names:
            raise UnknownStream(f"run {self.uid!r} has no stream {name!r:.100}; it has {self._run.stream_names}")
        # Of this run, also where its own key comes to mean another one.
        stream = IntakeStream(run=self.uid, stream=name, **self._place.arguments(secrets=True))
        stream._hold(self._broker, self._run)
        stream.cat = stream.catalog_object = self
        return stream

    def __getitem__(self, key: Any) -> IntakeStream:
        """Give a stream by its name.

        Raises
        ------
        UnknownStream
            The run has none of that name.
        """
        return self._stream(key[0] if isinstance(key, tuple | list) and len(key) == 1 else key)

    def __getattr__(self, name: str) -> IntakeStream:
        if name == "entry":
            raise NoEntry("this was not made from a catalog entry")
        if hasattr(type(self), name):  # a property of that name met an AttributeError, which tells more
            found: IntakeStream = object.__getattribute__(self, name)
            return found
        if name.startswith("_") or not self._is_made:
            raise AttributeError(f"an IntakeRun has no {name!r}")
        try:
            return self[name]
        except FilebrokerError as error:  # the run may be gone as well
            hint = f"; databroker's header is run.v1, as in run.v1.{name}" if hasattr(Header, name) else ""
            raise AttributeError(f"{error}{hint}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._run.stream_names

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.stream_names)

    def __len__(self) -> int:
        return len(self._run.stream_names)

    def keys(self) -> Iterator[str]:
        """Give the names of the streams.

        Examples
        --------
        >>> import intake
        >>> list(intake.open_filebroker_run("sample_data/example", run=22).keys())
        ['baseline', 'primary']
        """
        return iter(self)

    def values(self) -> Iterator[IntakeStream]:
        """Give the streams.

        Examples
        --------
        >>> import intake
        >>> [len(stream.read()) for stream in intake.open_filebroker_run("sample_data/example", run=22).values()]
        [2, 11]
        """
        return map(self._stream, self)

    def items(self) -> Iterator[tuple[str, IntakeStream]]:
        """Give names and streams.

        Examples
        --------
        >>> import intake
        >>> dict(intake.open_filebroker_run("sample_data/example", run=22).items())["primary"]
        <IntakeStream 'primary' of run '0a00d92c-...': det, motor, motor_setpoint>
        """
        return ((name, self._stream(name)) for name in self)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._ipython_key_completions_()})

    def _ipython_key_completions_(self) -> list[str]:
        try:
            return list(self)
        except FilebrokerError:  # to look at a run is no mistake
            return []

    def walk(self, sofar: dict[str, Any] | None = None, prefix: Any = None, depth: object = None) -> dict[str, Any]:
        """Give the entries of the streams by their dotted names.

        Parameters
        ----------
        sofar
            What was found in other catalogs, which they are added to.
        prefix
            The names that lead here.
        depth
            Passed over.

        Examples
        --------
        >>> import intake
        >>> list(intake.open_filebroker_run("sample_data/example", run=22).walk())
        ['baseline', 'primary']
        """
        found = {} if sofar is None else sofar
        found.update({".".join([*(prefix or ()), name]): entry for name, entry in self._entries.items()})
        return found

    # -- what Intake asks

    def __repr__(self) -> str:
        try:
            return repr(self._run).replace("<Run", "<IntakeRun", 1)
        except FilebrokerError as error:  # to look at a run is no mistake
            return printable(f"<IntakeRun {self._key!r} of {self._place.url}: {error}>")

    def _make_entries_container(self) -> Entries:
        return Entries(self.items, lambda: len(self), self._stream)

    def force_reload(self) -> None:
        """Look for the run anew when it is next asked for.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker_run("sample_data/example", run=-1).force_reload()
        """
        self.__dict__.pop("_run", None)

    reload = refresh = force_reload
