"""Around whatever the shell does: what goes wrong inside halts the node."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from mcast.errors import CorruptionError, DiskFailed, Halted


class Guard:
    """A context manager, one for all uses: going on with half an effect carried out could break a promise.

    What is no Exception, such as a host's Ctrl-C, goes on to the host all the same.

    `halt` is given the reason, and the error if that is a bug, or what a handler raised.
    """

    __slots__ = ("_halt",)

    def __init__(self, halt: Callable[[str, BaseException | None], None]) -> None:
        self._halt = halt

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, KeyboardInterrupt | SystemExit):  # the host's business, but it came in the middle of ours
            self._halt(f"interrupted by {type(error).__name__}", None)
        if not isinstance(error, Exception):
            return False
        if isinstance(error, Halted):
            self._halt(str(error), error.__cause__)
        elif isinstance(error, DiskFailed | CorruptionError | OSError):
            self._halt(f"the disk failed: {error}", None)
        else:
            self._halt(f"a bug: {type(error).__name__}: {error}", error)
        return True
