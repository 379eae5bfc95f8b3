"""The values in one stream resource, by their index."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, TypeVar

import numpy as np

from filebroker.assets.formats import FORMATS, Format
from filebroker.assets.handlers import Handlers
from filebroker.assets.openings import Opening
from filebroker.assets.resources import StreamResource
from filebroker.assets.shapes import Declared, Layout, declared, file_layout, layout
from filebroker.assets.uris import exists, located, missing, packed_places
from filebroker.ground.errors import FilebrokerError, MissingHandler, UnreadableAsset
from filebroker.ground.kinship import akin

#: More files than any detector writes for one data key of a run; documents can claim any number.
_MOST_FILES = 20_000_000
_Given = TypeVar("_Given")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Claim:
    """What the stream_datum documents say of one resource.

    Attributes
    ----------
    first, stop : int
        The first index, and that after the last one.
    before : int
        The index after the last one of the same data key's resources before this.
    """

    first: int
    stop: int
    before: int = 0

    @property
    def offsets(self) -> tuple[int, ...]:
        """What may have to be subtracted from an index: nothing, or where the count of an earlier file went on."""
        return (0, self.first) if self.first and self.first == self.before else (0,)


@dataclass(frozen=True)
class Part:
    """One of the resources that hold the values of a data key.

    Attributes
    ----------
    resource : StreamResource
        The resource.
    described : dict
        What the descriptor of its values says of them.
    claim : Claim
        What all stream_datum documents of the run say of it.
    """

    resource: StreamResource
    described: Mapping[str, Any]
    claim: Claim

    @property
    def declared(self) -> Declared:
        """What is declared of a value."""
        return declared(self.described, self.resource.parameters)


class Source(ABC):
    """The values in one stream resource.

    Parameters
    ----------
    resource
        The resource.
    declared
        What is declared of a value.
    claim
        What is said to be in the resource.
    handlers
        Who reads what, and where roots have moved.
    reader
        What reads the files: a `Format` or a registered handler.

    Attributes
    ----------
    agrees : bool
        The values that were read so far have the shape that is declared.
    """

    def __init__(
        self, resource: StreamResource, declared: Declared, claim: Claim, handlers: Handlers, reader: Any
    ) -> None:
        self.resource = resource
        self.reader = reader
        self.declared = declared
        self.claim = claim
        self.handlers = handlers
        self.agrees = True

    @abstractmethod
    def look(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Give the shape and type of a value, as the file has them."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Array:
        """Read the values of a range of indices, stacked.

        Raises
        ------
        MissingAsset
            A file is not where the resource says.
        UnreadableAsset
            It cannot be read, or has less than was claimed.
        """

    @abstractmethod
    def files(self) -> list[str]:
        """Give the files that hold the values which were claimed, where they should be now."""

    def places(self, uri: str) -> list[str]:
        """Give the places where a URI may be."""
        if self.resource.packed is not None:
            return packed_places(uri, self.resource.packed)
        return located(uri, self.handlers.root_map)

    def short(self, there: int, what: str, path: str) -> UnreadableAsset:
        """Make the error for a file that has less than was claimed."""
        return UnreadableAsset(
            f"{path} has {there} {what}, and the stream_datum documents claim {self.claim.stop} values of "
            f"{self.resource.about}; if it is being written, try again later"
        )

    @contextmanager
    def reading(self, uri: str, path: str, tried: list[str] | None = None) -> Iterator[None]:
        """Say what was being read if that fails.

        Parameters
        ----------
        uri
            What was to be read.
        path
            Where it was read.
        tried
            Where it was looked for, if not just at the places of the URI.

        Raises
        ------
        MissingAsset
            The file is not there.
        UnreadableAsset
            Any other failure.
        """
        try:
            yield
        except FilebrokerError:
            raise
        except FileNotFoundError as error:
            tried = tried or self.places(uri)
            raise missing(uri, tried, self.resource.about, self.handlers.root_map, self.resource.packed) from error
        except Exception as error:
            raise UnreadableAsset(
                f"{path} of {self.resource.about} cannot be read as {self.resource.mimetype}: "
                f"{type(error).__name__}: {error}"
            ) from error


class RowSource(Source):
    """One file, whose first axis is that of frames."""

    reader: Format

    def look(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Give the shape and type of a value, as the file has them."""
        return self._open(lambda rows, path, found, offset: (found.shape, np.dtype(rows.dtype)))

    def read(self, start: int, stop: int) -> Array:
        """Read the values of a range of indices, with one reading of the file."""

        def action(rows: Any, path: str, found: Layout, offset: int) -> Array:
            first, last = (start - offset) * found.rows, (stop - offset) * found.rows
            if last > rows.shape[0]:
                raise self.short(rows.shape[0], "frames" if found.rows == 1 else f"frames, {found.rows} a value", path)
            return np.asarray(rows[first:last]).reshape(stop - start, *found.shape)

        return self._open(action)

    def files(self) -> list[str]:
        """Give the one file."""
        places = self.places(self.resource.uri)
        return [next(filter(exists, places), places[0])]

    def _open(self, action: Callable[[Any, str, Layout, int], _Given]) -> _Given:
        assert self.reader.rows is not None
        path = self.files()[0]
        with (
            self.reading(self.resource.uri, path),
            self.reader.rows(path, self.resource.parameters, self.declared) as rows,
        ):
            total, *row = rows.shape or (1,)
            found, offset = self._fit(total, tuple(row))
            self.agrees = self.agrees and found.agrees
            return action(rows, path, found, offset)

    def _fit(self, total: int, row: tuple[int, ...]) -> tuple[Layout, int]:
        """Find what makes a value, and whether the indices begin with an earlier file."""
        for offset in self.claim.offsets:
            found = layout(self.declared, row, total, self.claim.stop - offset)
            if found.rows * (self.claim.stop - offset) <= total:
                return found, offset
        return layout(self.declared, row, total, self.claim.stop), 0


class FileSource(Source):
    """A sequence of files, each of which holds a value or a part of one."""

    reader: Format

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._found: tuple[Layout, tuple[int, ...]] | None = None
        self._choice = 0
        self._offset: int | None = None

    def look(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Give the shape and type of the first value."""
        value = np.asarray(self.read(self.claim.first, self.claim.first + 1)[0])
        return value.shape, value.dtype

    def read(self, start: int, stop: int) -> Array:
        """Read the files of a range of indices, and no others; values that differ in shape make an array of objects."""
        numbers = range(self._number(start), self._number(start) + stop - start)
        ahead = {} if self._found else {numbers[0]: self._file(numbers[0])}
        known, like = self._found or (self._layout(ahead[numbers[0]]), ahead[numbers[0]].shape)
        values = [self._value(number, known, like, ahead) for number in numbers]
        self._found, self.agrees = (known, like), self.agrees and (known.agrees or self.reader.opaque)
        return stacked(values)

    def files(self) -> list[str]:
        """Give all files of the sequence."""
        rows = self._found[0].rows if self._found else 1
        numbers = range(self._number(self.claim.first) * rows, self._number(self.claim.stop) * rows)
        if len(numbers) > _MOST_FILES:
            raise UnreadableAsset(
                f"the stream_datum documents claim {len(numbers):,} files of {self.resource.about}; no more than "
                f"{_MOST_FILES:,} are listed"
            )
        return [self._place(number) for number in numbers]

    def _value(self, number: int, known: Layout, like: tuple[int, ...], ahead: dict[int, Array]) -> Array:
        """Read the files of one value, but for those that were read before."""
        files = range(number * known.rows, (number + 1) * known.rows)
        parts = [ahead.pop(file) if file in ahead else self._file(file) for file in files]
        whole = parts[0] if len(parts) == 1 else stacked(parts)
        if all(part.shape == like for part in parts):
            return whole.reshape(known.shape)
        return whole.reshape(layout(self.declared, whole.shape).shape) if len(parts) == 1 else whole

    def _layout(self, first: Array) -> Layout:
        found = file_layout(self.declared, first.shape, self.resource.parameters)
        stop = self._number(self.claim.stop)
        if found.rows > 1 and exists(self._place(stop - 1)) and not exists(self._place(stop)):
            return Layout(1, first.shape, agrees=False)  # the declared number of frames a value is wrong
        return found

    def _number(self, index: int) -> int:
        """Give the number of a value among those of this sequence."""
        if self._offset is None:
            offsets = self.claim.offsets
            last = self.claim.stop - 1
            found = next((offset for offset in offsets if self._is_there(last - offset)), None)
            if found is None:
                return index  # the files may come late, and show then how they are numbered
            self._offset = found
        return index - self._offset

    def _is_there(self, number: int) -> bool:
        return len(self.claim.offsets) == 1 or any(map(exists, self._places(number)))

    def _file(self, number: int) -> Array:
        assert self.reader.file is not None
        path = self._place(number)
        with self.reading(self._uris(number)[0], path, self._places(number)):
            return self.reader.file(path, self.resource.parameters)

    def _place(self, number: int) -> str:
        """Give the place of a file: where the ones before it were, if it is there."""
        places = self._places(number)
        if self._choice < len(places) and exists(places[self._choice]):
            return places[self._choice]
        self._choice = next((choice for choice, place in enumerate(places) if exists(place)), 0)
        return places[self._choice]

    def _places(self, number: int) -> list[str]:
        return [place for uri in self._uris(number) for place in self.places(uri)]

    def _uris(self, number: int) -> list[str]:
        with self.reading(self.resource.uri, f"the template {self.resource.template!r}"):
            return list(self.resource.uris(number, self.reader.template))


class HandlerSource(Source):
    """Values that a registered handler gives: ``Handler(path, **parameters)``, called with an index."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._opening: Opening | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opening": None}

    def look(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Give the shape and type of the first value."""
        value = np.asarray(self.read(self.claim.first, self.claim.first + 1)[0])
        return value.shape, value.dtype

    def read(self, start: int, stop: int) -> Array:
        """Ask the handler for each value of a range of indices."""
        with self.reading(self.resource.uri, self.files()[0]):
            opening = self._open()
            found = [np.asarray(opening.use(methodcaller("__call__", index))) for index in range(start, stop)]
            layouts = [layout(self.declared, value.shape) for value in found]
            self.agrees = self.agrees and all(each.agrees and each.rows == 1 for each in layouts)
            return stacked(found)

    def files(self) -> list[str]:
        """Give what the handler opens."""
        places = self.places(self.resource.uri)
        return [next(filter(exists, places), places[0])]

    def _open(self) -> Opening:
        path = self.files()[0]
        if self._opening is None or self._opening.path != path:
            self._opening = Opening(self.reader, path, self.resource.parameters)
        return self._opening


def stacked(values: Sequence[Array]) -> Array:
    """Put values together: along a first axis, or as objects if they differ in shape.

    Examples
    --------
    >>> stacked([np.zeros(2), np.zeros(2)]).shape, stacked([np.zeros(2), np.zeros(3)]).shape
    ((2, 2), (2,))
    """
    if len({value.shape for value in values}) == 1:
        return np.stack(values)
    found = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def source(part: Part, handlers: Handlers) -> Source:
    """Choose what reads a resource; a handler registered for its mimetype goes before what is built in.

    Raises
    ------
    MissingHandler
        Nothing reads files of this mimetype.  It is also event-model's `UndefinedAssetSpecification`.
    UnreadableAsset
        The stream_resource document makes no sense.
    """
    resource = part.resource
    if resource.fault:
        raise UnreadableAsset(f"the values of {resource.about} cannot be read: {resource.fault}")
    given = resource, part.declared, part.claim, handlers
    registered = next((spec for spec in handlers.specs() if resource.mimetype in (spec, spec.lower())), None)
    if registered is not None:
        return HandlerSource(*given, handlers.find(registered, resource.about))
    form = FORMATS.get(resource.mimetype)
    if form is None:
        raise akin(MissingHandler, "event_model", "UndefinedAssetSpecification")(
            f"nothing reads files of {resource.mimetype!r}, as is needed for {resource.about}. These are read: "
            f"{', '.join(FORMATS)}. Another reader can be registered, "
            f"db.reg.register_handler({resource.mimetype!r}, Reader): Reader(path, **parameters) opens the file, and "
            f"calling that with an index gives a value"
        )
    if form.rows is None or (resource.template and form.file is not None):
        return FileSource(*given, form)
    return RowSource(*given, form)
