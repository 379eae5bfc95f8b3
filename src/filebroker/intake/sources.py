"""What all sources of ours have in common: each is what it was made of."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, Self

from filebroker.ground.errors import InvalidConfig, InvalidOption, NotSupported
from filebroker.ground.templates import escaped
from filebroker.intake.places import Place, place_of

#: What Intake's own sources take, and what makes no difference to ours.
_INTAKES = frozenset(
    {"api_version", "auth", "cache", "entries", "fs", "getenv", "getshell", "persist_mode", "ttl", "user_parameters"}
)


class Reproducible:
    """A source that can be made again, here or elsewhere, of its arguments.

    Two of them are equal if their arguments are.  They are pickled by these, with credentials, because others have to
    reach the same store.  What is shown or written as YAML has no credentials in it.
    """

    driver: str
    container: str
    name: str | None
    description: str | None
    #: What was given as metadata.
    _given_metadata: dict[str, Any]
    _place: Place
    _entry: Any = None
    cat: Any = None

    # Intake 0 keeps copies of sources; those of runs that have not changed would be of no use.
    has_been_persisted = False
    is_persisted = False
    # What Intake asks of entries: in the place of one stands a source where a catalog was made of sources.
    _user_parameters: Any = ()
    # Else Jupyter shows the YAML of the source in place of its repr.
    _ipython_display_ = None

    @property
    def url(self) -> str:
        """The absolute path or the URL of the catalog.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("memory://beamtime").url
        'memory://beamtime'
        """
        return self._place.url

    @property
    def _container(self) -> str:
        return self.container

    def _take_place(self, url: Any, metadata: Mapping[str, Any] | None, **options: Mapping[str, Any] | None) -> None:
        """Take what is given to all sources alike.

        Parameters
        ----------
        url
            The directory or URL of the catalog.
        metadata
            For people; what Intake adds of the place of the catalog file is what relative paths are relative to.
        **options
            As for `places.place_of`.

        Raises
        ------
        InvalidConfig
            The arguments cannot be understood.
        """
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidConfig(f"the source has metadata of type {type(metadata).__name__}; it is a mapping")
        self._given_metadata = dict(metadata or {})
        self._place = place_of(url, self._given_metadata.pop("catalog_dir", None), **options)

    def _refuse_unknown(self, given: Mapping[str, Any], parameters: Iterable[str] = ()) -> None:
        """Refuse arguments that mean nothing; those of Intake's own sources are passed over.

        Parameters
        ----------
        given
            The arguments.
        parameters
            The names of the user parameters that the source has in its catalog file.

        Raises
        ------
        InvalidOption
            There is one.
        """
        known = [*sorted(parameters), *sorted(self._options())]
        unknown = sorted(given.keys() - _INTAKES - {*known})
        if unknown:
            raise InvalidOption(
                f"a source of driver {self.driver!r} has {unknown[0]!r}, which means nothing; it may have "
                f"{', '.join(known)}"
            )

    def persist(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: runs are files already.

        Raises
        ------
        NotSupported
            Always.

        Examples
        --------
        Read them where they are:

        >>> import intake
        >>> intake.open_filebroker("sample_data/example")[-1].primary.directory
        '.../primary'
        """
        raise NotSupported("runs are files already, which can be copied; see the directory of a stream")

    export = persist

    def to_spark(self) -> NoReturn:
        """Refuse: Spark reads the Parquet files itself.

        Raises
        ------
        NotSupported
            Always.

        Examples
        --------
        Let Spark read this directory:

        >>> import intake
        >>> intake.open_filebroker("sample_data/example")[-1].primary.directory
        '.../primary'
        """
        raise NotSupported("Spark reads the Parquet files in the directory of a stream itself")

    def _own_arguments(self) -> dict[str, Any]:
        """Give the arguments besides those of the place; those left out are as they are by default."""
        raise NotImplementedError

    def _arguments(self, *, secrets: bool = False) -> dict[str, Any]:
        """Give all arguments that make the same source again.

        Parameters
        ----------
        secrets
            Also give what in the storage options may be a credential.
        """
        return {**self._place.arguments(secrets=secrets), **self._own_arguments()}

    @property
    def _identity(self) -> str:
        # Not the arguments themselves: among them may be credentials, and dask shows this.
        written = json.dumps(self._arguments(secrets=True), sort_keys=True, default=repr)
        return hashlib.sha256(written.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._identity == getattr(other, "_identity", None)

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._identity))

    def __dask_tokenize__(self) -> tuple[str, str]:
        """Give dask what distinguishes the source, without looking at its runs."""
        return type(self).__name__, self._identity

    def __getstate__(self) -> dict[str, Any]:
        # The state of Intake's GUI is made of these.
        return {
            "cls": f"{type(self).__module__}.{type(self).__qualname__}",
            "args": [],
            "kwargs": self._arguments(secrets=True),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), self._arguments(secrets=True), self.name, self.description, self._given_metadata)

    def _again(self, **changes: Any) -> Self:
        """Make the source again with other arguments.

        Parameters
        ----------
        **changes
            The arguments that are to be others.
        """
        made: Self = _made(
            type(self), {**self._arguments(secrets=True), **changes}, self.name, self.description, self._given_metadata
        )
        return made

    def configure_new(self, **arguments: Any) -> Any:
        """Give the source with other arguments, itself if there are none.

        Parameters
        ----------
        **arguments
            Those of the driver; or, if the source stands in a catalog file, of its user parameters.
        """
        if not arguments:
            return self
        self._refuse_unknown(arguments, self._parameters)
        if self._entry is not None and (self._parameters & arguments.keys() or not arguments.keys() <= self._options()):
            return self._entry(**arguments)
        return self._again(**arguments)

    @property
    def _parameters(self) -> set[str]:
        """The names of the user parameters that the source has in its catalog file."""
        given = getattr(self._entry, "_user_parameters", None) or ()
        return {item["name"] if isinstance(item, Mapping) else item.name for item in given}

    get = __call__ = configure_new

    @classmethod
    def _options(cls) -> frozenset[str]:
        """Name the arguments that such a source can be made of."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Tell what this is, as an entry of a catalog does; credentials are left out."""
        return {
            **{"name": self.name, "container": self.container, "plugin": [self.driver], "driver": [self.driver]},
            **{"description": self.description or "", "direct_access": "allow", "user_parameters": []},
            **{"metadata": self._given_metadata, "args": self._arguments()},
        }

    def _yaml(self, *_: Any, **__: Any) -> dict[str, Any]:
        # Strings out of documents, uids for example, must not become templates when this is read.
        metadata, arguments = escaped(self._given_metadata), escaped(self._arguments())
        description = (self.description or "").replace("!template ", "")  # which Intake takes out of its files
        described = {"driver": self.driver, "description": description, "metadata": metadata}
        # Intake 0.6 takes the name of a source for a template as well, and there nothing can be escaped.
        name = self.name if self.name and escaped(self.name) == self.name else self.driver
        return {"sources": {name: {**described, "args": arguments}}}

    @property
    def _captured_init_kwargs(self) -> dict[str, Any]:
        """What Intake writes of the source when it writes the catalog that the source was put into."""
        ((name, described),) = self._yaml()["sources"].items()
        return {"name": name, **described}

    @_captured_init_kwargs.setter
    def _captured_init_kwargs(self, arguments: object) -> None:
        # Intake keeps the arguments of every source, credentials included.  We keep our own.
        pass

    def yaml(self, *_: Any, **__: Any) -> str:
        """Give the source as a catalog file with nothing else in it; credentials are left out.

        Raises
        ------
        NotSupported
            A search has a value that no file can hold.
        """
        import yaml

        try:
            return str(yaml.safe_dump(self._yaml(), sort_keys=False, allow_unicode=True))
        except yaml.YAMLError as error:
            raise NotSupported(f"{self!r} cannot be written down: {error}") from error


class Branch(Reproducible):
    """A source that has others in it."""

    metadata: dict[str, Any]

    def __bool__(self) -> bool:
        return True  # to know better it would have to look

    def discover(self) -> dict[str, Any]:
        """Tell what this is, without looking at what is in it.

        Examples
        --------
        >>> import intake
        >>> intake.open_filebroker("sample_data/example").discover()["container"]
        'catalog'
        """
        return {"container": self.container, "shape": None, "dtype": None, "metadata": self.metadata}

    def serialize(self) -> str:
        """Give a catalog file that has this as its only source; credentials are left out.

        Examples
        --------
        >>> import intake
        >>> print(intake.open_filebroker("sample_data/example", search="LaB6").serialize())
        sources:
          filebroker:
            driver: filebroker
            ...
            args:
              url: ...
              search:
                text_search: LaB6
        """
        return self.yaml()

    def _load(self) -> None:
        """Do nothing: what is in it is looked for when it is asked for."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotSupported(f"runs are read by their streams, as in catalog[-1]['primary'].read(); not {self!r}")

    def __setitem__(self, key: object, entry: object) -> NoReturn:
        """Refuse: runs are recorded."""
        raise NotSupported("runs are recorded, as in RE.subscribe(catalog.v1.insert), and not put in by key")

    def pop(self, key: object) -> NoReturn:
        """Refuse: nothing is removed here.

        Raises
        ------
        NotSupported
            Always.

        Examples
        --------
        Remove the run's directory, and then:

        >>> import intake
        >>> intake.open_filebroker("sample_data/example").force_reload()
        """
        raise NotSupported("runs are not removed by key; remove their directories, then force_reload() the catalog")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: nothing is held open."""

    read: Any = _refuse
    read_chunked: Any = _refuse
    read_partition: Any = _refuse
    to_dask: Any = _refuse
    # Else Python would count down from the length, and take positions for scan_ids.
    __reversed__ = None


def _made(
    kind: type[Any],
    arguments: dict[str, Any],
    name: str | None,
    description: str | None,
    metadata: dict[str, Any],
) -> Any:
    made = kind(**arguments, metadata=dict(metadata))
    made.name, made.description = name, description
    return made
