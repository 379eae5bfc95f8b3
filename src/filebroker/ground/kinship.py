"""Errors that are also those of a package whose users catch them."""

import sys
from functools import cache
from typing import Any, TypeVar

_Error = TypeVar("_Error", bound=Exception)


def akin(error: type[_Error], package: str, name: str) -> type[_Error]:
    """Give an error that those who catch the like of it from another package catch as well.

    Whoever catches the error of a package has imported it, so that it is not imported for this.

    Parameters
    ----------
    error
        One of our errors.
    package
        The other package.
    name
        Its error.

    Returns
    -------
    type
        A subclass of both where the package is in use, else ``error`` itself.
    """
    other = getattr(sys.modules.get(package), name, None)
    return error if other is None else _both(error, other)  # type: ignore[arg-type]


@cache
def _both(error: type[_Error], other: type[Exception]) -> type[_Error]:
    def reduced(self: _Error) -> tuple[Any, ...]:
        return error, self.args  # pickle finds no class that was made here

    bases: tuple[Any, ...] = (error, other)
    told = {"__doc__": error.__doc__, "__module__": error.__module__}  # so that its name is one to import
    return type(error.__name__, bases, {**told, "__reduce__": reduced})
