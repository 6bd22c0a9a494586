"""A forked child has nothing of its parent's node or client: neither its sockets nor its files nor its lock.

Else they live on in the child when the parent is dead: its port takes connections that nobody serves, its lock keeps
the node from starting again. A program that uses `multiprocessing` forks without a word.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol


class Owner(Protocol):
    """Has file descriptors that are this process's alone."""

    def leave_to_parent(self) -> Iterable[int]:
        """Called in a forked child: refuse all use from now on, and return the descriptors that are open."""


_owners: Final[weakref.WeakSet[Owner]] = weakref.WeakSet()


def keep_from_children(owner: Owner) -> None:
    """From now on a forked child closes what this owner has open. The owner is forgotten when it is gone."""
    _owners.add(owner)


def _in_child() -> None:
    owners = list(_owners)
    numbers: set[int] = set()
    _owners.clear()
    for owner in owners:
        with suppress(Exception):  # it was being changed when another thread forked; the others still count
            numbers.update(number for number in owner.leave_to_parent() if number >= 0)
    # Nothing is closed: the objects that know a number would close it again, when it may be the child's own file. An
    # event loop's selector is shared with the parent, and so is not told either.
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in numbers:
            with suppress(OSError):
                os.dup2(nothing, number, inheritable=False)
        os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
