"""Who reads which kind of external file, and where the roots of these files have moved.

A handler reads the files of one *spec*: ``Handler(path, **resource_kwargs)`` opens a resource, and calling the result
with ``**datum_kwargs`` gives one datum.  Packages offer theirs in the entry points of the group
``databroker.handlers``; see https://blueskyproject.io/event-model/main/user/explanations/external.html
"""

import threading
import warnings
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from filebroker.assets.suggestions import advice
from filebroker.ground.dotted import imported
from filebroker.ground.errors import DuplicateHandler, FilebrokerWarning, MissingHandler
from filebroker.ground.forks import renew_in_children
from filebroker.ground.kinship import akin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_GROUP = "databroker.handlers"


class Handlers:
    """Who reads what, and where roots have moved.

    A broker has one of these, and all that is made from the broker shares it.  Nothing is imported before its spec is
    asked for.  It can be pickled, and a copy has registrations of its own.

    Parameters
    ----------
    handler_registry
        Spec to handler: a class, any other callable, or a dotted name such as ``"pkg.module.Class"`` or
        ``"pkg.module:Class"``.  These win over what is discovered.
    root_map
        Recorded root to the place where its files are now.
    discover
        Also use the handlers that installed packages offer as entry points of the group ``databroker.handlers``.

    Attributes
    ----------
    root_map : dict
        The live mapping; a change holds from the next reading.

    Examples
    --------
    >>> handlers = Handlers({"DOCT": "doct:Document"}, discover=False)
    >>> handlers.find("DOCT")
    <class 'doct.Document'>
    >>> sorted(handlers.handler_reg)
    ['DOCT']
    """

    def __init__(
        self,
        handler_registry: Mapping[str, Any] | None = None,
        root_map: Mapping[str, str] | None = None,
        *,
        discover: bool = True,
    ) -> None:
        self.root_map: dict[str, str] = dict(root_map or {})
        self._given: dict[str, Any] = dict(handler_registry or {})
        self._removed: set[str] = set()
        self._discover = discover
        self._changes = 0
        self._prepare()

    def _prepare(self) -> None:
        """Make what is derived: it is neither copied nor pickled."""
        self._offers: dict[str, EntryPoint] | None = None
        self._loaded: dict[str, Any] = {}
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make new locks, after a fork."""
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {
                **{"root_map": dict(self.root_map), "_given": dict(self._given)},
                **{"_removed": set(self._removed), "_discover": self._discover, "_changes": self._changes},
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __repr__(self) -> str:
        return f"<Handlers {sorted(self.specs())}>"

    @property
    def handler_reg(self) -> Mapping[str, Any]:
        """A live mapping of specs to handlers, which cannot be changed; a handler is imported when it is asked for.

        Examples
        --------
        >>> handlers = Handlers({"DOCT": "doct:Document"}, discover=False)
        >>> handlers.handler_reg["DOCT"]
        <class 'doct.Document'>
        """
        return _Registered(self)

    def state(self) -> Hashable:
        """Give a value that is another one after each change of the handlers or of the root map.

        What was learned of files holds as long as it stays the same.

        Examples
        --------
        >>> handlers = Handlers(discover=False)
        >>> before = handlers.state()
        >>> handlers.state() == before
        True
        >>> handlers.root_map["/data"] = "/archive"
        >>> handlers.state() == before
        False
        """
        # Roots may be path objects, of any kind: their text is what counts.
        return self._changes, tuple((str(root), str(place)) for root, place in list(self.root_map.items()))

    def specs(self) -> set[str]:
        """Give the specs that have a handler; none is imported for that.

        Examples
        --------
        >>> handlers = Handlers({"DOCT": "doct:Document"}, discover=False)
        >>> handlers.specs()
        {'DOCT'}
        """
        with self._lock:
            return set(self._given) | (set(self._entry_points()) - self._removed)

    def find(self, spec: str, wanted_for: str = "") -> Any:
        """Give the handler of a spec.

        Parameters
        ----------
        spec
            The spec of a resource.
        wanted_for
            What is to be read, for the message of an error.

        Raises
        ------
        MissingHandler
            There is none, or it cannot be imported.  It is also event-model's `UndefinedAssetSpecification`.

        Examples
        --------
        >>> handlers = Handlers({"DOCT": "doct:Document"}, discover=False)
        >>> handlers.find("DOCT")
        <class 'doct.Document'>
        """
        with self._lock:
            if spec not in self._loaded:
                self._loaded[spec] = self._load(spec, wanted_for)
            return self._loaded[spec]

    def register_handler(self, spec: str, handler: Any, overwrite: bool = False) -> None:
        """Have a handler read a spec, from now on.

        Parameters
        ----------
        spec
            The spec of resources.
        handler
            A class, another callable, or a dotted name.
        overwrite
            Take it in place of another one.

        Raises
        ------
        DuplicateHandler
            There is another one, and ``overwrite`` is false.  The same handler once more is no error.

        Examples
        --------
        >>> handlers = Handlers(discover=False)
        >>> handlers.register_handler("DOCT", "doct:Document")
        >>> "DOCT" in handlers.handler_reg
        True
        """
        with self._lock:
            if not overwrite:
                present = self._usable(spec)
                if present is not None and present is not _resolved(handler):
                    raise akin(DuplicateHandler, "event_model", "DuplicateHandler")(
                        f"{spec!r} is read by {present!r}, and not by {handler!r}; to replace it, say "
                        f"register_handler({spec!r}, ..., overwrite=True)"
                    )
            if spec not in self._given or self._given[spec] is not handler:
                self._changes += 1
            self._given[spec] = handler
            self._loaded.pop(spec, None)

    def deregister_handler(self, spec: str) -> None:
        """Have no handler read a spec any more; if there is none, that is no error.

        Parameters
        ----------
        spec
            The spec of resources.

        Examples
        --------
        >>> handlers = Handlers({"DOCT": "doct:Document"}, discover=False)
        >>> handlers.deregister_handler("DOCT")
        >>> handlers.specs()
        set()
        """
        with self._lock:
            self._given.pop(spec, None)
            self._loaded.pop(spec, None)
            self._removed.add(spec)
            self._changes += 1

    def _usable(self, spec: str) -> Any | None:
        """Give the handler of a spec, or None if there is none that works."""
        try:
            return self.find(spec)
        except MissingHandler:
            return None

    def _load(self, spec: str, wanted_for: str) -> Any:
        purpose = f", which {wanted_for} asks for" if wanted_for else ""
        offered = spec not in self._given
        source = self._offer(spec) if offered else self._given[spec]
        if source is None:
            remedy = advice(spec)
            if spec in self._removed and spec in self._entry_points():
                taken = self._entry_points()[spec].value
                remedy = f"it was deregistered; db.reg.register_handler({spec!r}, {taken!r}) brings it back"
            raise akin(MissingHandler, "event_model", "UndefinedAssetSpecification")(
                f"no handler reads {spec!r}{purpose}; {remedy}"
            )
        try:
            return source.load() if offered else _resolved(source)
        except Exception as error:
            name = source.value if offered else source
            raise akin(MissingHandler, "event_model", "UndefinedAssetSpecification")(
                f"the handler {name} of {spec!r}{purpose and purpose + ','} cannot be imported: "
                f"{type(error).__name__}: {error}. "
                f"Mend that, or register another one with db.reg.register_handler({spec!r}, ...)"
            ) from error

    def _offer(self, spec: str) -> "EntryPoint | None":
        if spec in self._removed:
            return None
        if spec not in self._entry_points():
            self._offers = None  # what was installed meanwhile, on our advice, is found
        return self._entry_points().get(spec)

    def _entry_points(self) -> Mapping[str, "EntryPoint"]:
        if self._offers is None:
            self._offers = _discovered() if self._discover else {}
        return self._offers


class _Registered(Mapping[str, Any]):
    """The handlers by spec, as they are now."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def __getitem__(self, spec: str) -> Any:
        return self._handlers.find(spec)

    def __contains__(self, spec: object) -> bool:
        return spec in self._handlers.specs()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._handlers.specs()))

    def __len__(self) -> int:
        return len(self._handlers.specs())

    def __repr__(self) -> str:
        return f"<handlers of {', '.join(self) or 'nothing'}>"


def _discovered() -> dict[str, "EntryPoint"]:
    """Give the handlers that installed packages offer, the first for each spec, and warn of others."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=_GROUP):
        first = found.setdefault(entry.name, entry)
        if first.value != entry.value:
            warnings.warn(
                f"two installed packages offer a handler of {entry.name!r}; {first.value} is used, not {entry.value}",
                FilebrokerWarning,
                stacklevel=2,
            )
    return found


def _resolved(handler: Any) -> Any:
    """Give what a dotted name names; anything else is a handler itself."""
    return imported(handler) if isinstance(handler, str) else handler


def __getattr__(name: str) -> Any:
    # Scripts import the handlers that databroker.assets.handlers had; their package has them now.
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return imported(f"area_detector_handlers.handlers.{name}")
    except ImportError as error:
        raise AttributeError(f"there is no {name}; {advice('AD_HDF5')}") from error
