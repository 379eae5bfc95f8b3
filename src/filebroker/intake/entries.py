"""Light entries: what Intake's own code asks of the entries of a catalog.

Entries of Intake put everything they hold through templates.  In a document that would be a way to run programs.
"""

from collections.abc import Callable, ItemsView, Iterator, Mapping
from typing import Any

from intake.catalog.entry import CatalogEntry


class Entry(CatalogEntry):  # type: ignore[misc]
    """An entry that makes a source when it is called.

    Parameters
    ----------
    name
        Its name in the catalog.
    container
        The kind of the source.
    make
        Makes it; takes the arguments that are to be others.
    """

    def __init__(self, name: str, container: str, make: Callable[..., Any]) -> None:
        super().__init__(getenv=False, getshell=False)
        self._name, self._container, self._make = name, container, make
        self._user_parameters: list[Any] = []
        self._catalog: Any = None

    @property
    def name(self) -> str:
        """The name in the catalog."""
        return self._name

    @property
    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self._make().metadata
        return metadata

    def describe(self) -> dict[str, Any]:
        """Tell what the source is."""
        described: dict[str, Any] = {**self._make().describe(), "name": self._name}
        return described

    def get(self, **arguments: Any) -> Any:
        """Make the source.

        Parameters
        ----------
        **arguments
            Those that are to be others.
        """
        return self._make(**arguments)

    def __call__(self, persist: object = None, **arguments: Any) -> Any:
        """Make the source; ``persist`` is passed over."""
        return self.get(**arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self._make(),)


def _made(source: Any) -> Entry:
    return Entry(source.name, source.container, source.configure_new)


class Entries(Mapping[str, Entry]):
    """The entries of a catalog by their names, each made when it is asked for.

    Parameters
    ----------
    sources
        Gives the names and sources that are listed.
    count
        Gives their number.
    make
        Makes the source of a name, listed or not, or raises a KeyError.
    """

    def __init__(
        self, sources: Callable[[], Iterator[tuple[str, Any]]], count: Callable[[], int], make: Callable[[Any], Any]
    ) -> None:
        self._sources, self._count, self._make = sources, count, make

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._sources())

    def __len__(self) -> int:
        return self._count()

    def __bool__(self) -> bool:
        return True  # to know better it would have to look

    def __getitem__(self, name: Any) -> Entry:
        return _entry_of(str(name), self._make(name))

    def items(self) -> ItemsView[str, Entry]:
        """Give names and entries, none of which is looked up for it."""
        return {name: _entry_of(name, source) for name, source in self._sources()}.items()


def _entry_of(name: str, source: Any) -> Entry:
    return Entry(name, source.container, source.configure_new)
