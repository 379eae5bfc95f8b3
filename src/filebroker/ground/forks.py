"""Locks after a fork: a child that inherits one which another thread of its parent held would wait for ever."""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something with locks of its own."""

    def renew_locks(self) -> None:
        """Put new locks in the place of those that were inherited."""


_known: "weakref.WeakSet[Forkable]" = weakref.WeakSet()


def renew_in_children(owner: Forkable) -> None:
    """Have the locks of an object renewed in every child that is forked."""
    _known.add(owner)


def _renew_all() -> None:
    for owner in list(_known):
        owner.renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
