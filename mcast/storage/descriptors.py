"""Room for a node's own files: descriptors kept aside, given up when this process, or the machine, may open no more.

A program that embeds a node may hold any number of files, and a limit may be low. A node's own files come first: with
one descriptor from here it opens a segment, or makes a name durable, where anybody else is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

KEPT: Final = 4  # at most so many are open at a time for a moment: meta, its directory, a segment, a piece of outcomes
SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EINTR})
"""What a call fails with that may succeed a moment later, whatever the disk is like."""
UNOPENED: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""Of these, what no call fails with but one that opens something: nothing else was tried, no sync either."""
_kept: Final[list[int]] = []


def keep() -> None:
    """Set descriptors aside, as many as there are and KEPT at most."""
    with contextlib.suppress(OSError):
        while len(_kept) < KEPT:
            _kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def open_own(path: str, flags: int, mode: int = 0o777, *, briefly: bool = False) -> int:
    """`os.open`, with a descriptor from those kept aside if there is no other; the last one only `briefly`.

    Raises OSError.
    """
    while True:
        try:
            return os.open(path, flags | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno not in UNOPENED or len(_kept) <= (not briefly):
                raise
            os.close(_kept.pop())


def exhausted() -> bool:
    """Whether this process can open nothing more, but what is kept aside."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        return error.errno in UNOPENED
    return False
