"""Functions that patch documents on their way out, to mend wrong metadata without touching what was recorded."""

from collections.abc import Callable, Mapping
from typing import Any

from filebroker.ground.dotted import imported
from filebroker.ground.errors import InvalidConfig, NotSupported

#: The documents that can be changed on their way out.
_KINDS = frozenset({"start", "stop", "resource", "descriptor"})


def parse_transforms(transforms: Mapping[str, Any] | None) -> dict[str, Callable[[Any], Any]]:
    """Give the functions that documents pass through, imported where they are given by name.

    Parameters
    ----------
    transforms
        For ``start``, ``stop``, ``resource`` or ``descriptor``, a function that takes such a document and gives the
        one to be handed out, or its dotted name.

    Returns
    -------
    dict
        The functions, by the documents' kind.

    Raises
    ------
    NotSupported
        Documents of another kind are to be changed.
    InvalidConfig
        Something is no function, or cannot be imported.

    Examples
    --------
    >>> parse_transforms({"start": "copy.copy"})["start"]({"uid": "84d9ee44"})
    {'uid': '84d9ee44'}
    """
    given = dict(transforms or {})
    unknown = sorted(map(str, given.keys() - _KINDS))
    if unknown:
        raise NotSupported(
            f"{', '.join(unknown)} documents cannot be transformed, only those of {', '.join(sorted(_KINDS))}"
        )
    return {kind: _function(kind, transform) for kind, transform in given.items() if transform is not None}


def transformed(transforms: Mapping[str, Callable[[Any], Any]], name: str, doc: Any) -> Any:
    """Give what a transform makes of a document, if there is one for its kind.

    Parameters
    ----------
    transforms
        As `parse_transforms` gives them.
    name
        The kind of the document.
    doc
        The document.

    Raises
    ------
    InvalidConfig
        The transform gave no document.
    """
    transform = transforms.get(name)
    if transform is None or not doc:
        return doc
    changed = transform(doc)
    if not isinstance(changed, Mapping):
        raise InvalidConfig(f"the transform of {name} documents gave {changed!r:.100}; it has to return the document")
    return changed


def _function(kind: str, transform: Any) -> Callable[[Any], Any]:
    if isinstance(transform, str):
        try:
            transform = imported(transform)
        except Exception as error:
            raise InvalidConfig(
                f"the transform of {kind} documents, {transform}, cannot be imported: {type(error).__name__}: {error}"
            ) from error
    if not callable(transform):
        raise InvalidConfig(
            f"the transform of {kind} documents is {transform!r:.200}; give a function, or its name as in "
            "'my_package.my_function'"
        )
    function: Callable[[Any], Any] = transform
    return function
