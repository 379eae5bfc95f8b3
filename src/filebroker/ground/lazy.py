"""Properties that are made once, when they are first asked for."""

import functools
from typing import Any, TypeVar, overload

T = TypeVar("T")
_NOTHING = object()


class cached_property(functools.cached_property[T]):  # noqa: N801 - named as what it takes the place of
    """A `functools.cached_property` without the lock that Python 3.11 has for all objects of a class together.

    Under that lock one object that waits for a store would hold up all others, and a process that is forked meanwhile
    would wait for ever.  Later versions of Python have none.  Two threads may make a value; the first one counts.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> "cached_property[T]": ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        kept, name = vars(instance), str(self.attrname)
        value = kept.get(name, _NOTHING)
        return kept.setdefault(name, self.func(instance)) if value is _NOTHING else value
