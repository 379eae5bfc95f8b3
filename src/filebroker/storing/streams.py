"""The streams of one run: which descriptor belongs to which, and what its events must hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from filebroker.ground.documents import describe, stream_name
from filebroker.ground.errors import InvalidDocument, UnknownRun, UnstorableValue
from filebroker.ground.lazy import cached_property
from filebroker.storing.layout import stream_directory


@dataclass
class Stream:
    """One stream of a run.

    Attributes
    ----------
    name : str
        As in its descriptors.
    directory : str
        Name of the directory of its pages.
    declared : dict
        The ``dtype`` of each data key, from all descriptors of the stream.
    """

    name: str
    directory: str
    declared: dict[str, str] = field(default_factory=dict)


class DeclaredKeys:
    """The data keys of one descriptor.

    A key whose data come as ``stream_datum`` documents (``external: "STREAM:"``) has no place in events,
    but is tolerated there.
    """

    def __init__(self, descriptor: Mapping[str, Any], stream: Stream) -> None:
        self.stream = stream
        keys = descriptor["data_keys"]
        streamed = {
            key
            for key, data_key in keys.items()
            if isinstance(data_key, Mapping) and str(data_key.get("external", "")).startswith("STREAM:")
        }
        self.order: tuple[str, ...] = tuple(key for key in keys if key not in streamed)
        self.required: frozenset[str] = frozenset(self.order)
        self.count = len(self.order)
        self._allowed: frozenset[str] = frozenset(keys)

    @cached_property
    def pick(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """A function that gives the values of the required keys in the order of `order`."""
        if len(self.order) > 1:
            return itemgetter(*self.order)
        return lambda values: tuple(values[key] for key in self.order)

    def check(self, name: str, event: Mapping[str, Any]) -> None:
        """Refuse an event whose data keys are not those that were declared.

        Raises
        ------
        InvalidDocument
            A key is missing or undeclared; the message names it.
        """
        keys = event["data"].keys()
        if keys == self.required:
            return
        missing, extra = sorted(self.required - keys), sorted(map(str, keys - self._allowed))
        if missing or extra:
            parts = [f"lacks {missing}"] * bool(missing) + [f"has undeclared {extra}"] * bool(extra)
            raise InvalidDocument(
                f"the {describe(name, event)} of stream {self.stream.name!r} {' and '.join(parts)} in its data; "
                f"its descriptor declares {sorted(self._allowed)}"
            )


class Streams:
    """All streams of one run, as its descriptors make them known.

    Attributes
    ----------
    declared : dict
        What each descriptor declared, by its uid.
    """

    def __init__(self) -> None:
        self.declared: dict[str, DeclaredKeys] = {}
        self._by_name: dict[str, Stream] = {}

    @staticmethod
    def check(descriptor: Mapping[str, Any]) -> None:
        """Refuse a descriptor whose data keys cannot name columns.

        Raises
        ------
        InvalidDocument
            A data key is no string, or has no UTF-8.
        """
        stream_name(descriptor)
        for key in descriptor["data_keys"]:
            if not isinstance(key, str):
                problem = f"of type {type(key).__name__}"
            elif not key.isascii() and any("\ud800" <= character <= "\udfff" for character in key):
                problem = "with half of a surrogate pair"
            else:
                continue
            raise UnstorableValue(
                f"the {describe('descriptor', descriptor)} has the data key {key!r}, {problem}; "
                "data keys name columns and must be strings of whole characters"
            )

    def add(self, descriptor: Mapping[str, Any]) -> DeclaredKeys:
        """Make a checked descriptor known."""
        stream = self.named(stream_name(descriptor))
        for key, data_key in descriptor["data_keys"].items():
            if isinstance(data_key, Mapping) and isinstance(data_key.get("dtype"), str):
                stream.declared.setdefault(key, data_key["dtype"])
        declared = self.declared[descriptor["uid"]] = DeclaredKeys(descriptor, stream)
        return declared

    def named(self, name: str, directory: str | None = None) -> Stream:
        """Give the stream of that name, made if it is new."""
        if name not in self._by_name:
            taken = [stream.directory for stream in self._by_name.values()]
            self._by_name[name] = Stream(name, directory or stream_directory(name, taken))
        return self._by_name[name]

    def of(self, descriptor_uid: str) -> DeclaredKeys:
        """Give what the descriptor of that uid declared.

        Raises
        ------
        UnknownRun
            The run has no such descriptor (yet).
        """
        try:
            return self.declared[descriptor_uid]
        except KeyError:
            raise UnknownRun(
                f"an event names the descriptor {descriptor_uid!r}, which has not been inserted; "
                "insert a run's descriptors before their events"
            ) from None
