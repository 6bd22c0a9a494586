"""Logs what handlers do wrong: an exception, a call that takes long, a command that the machine does not have.

A client hears no more than the type of an unexpected exception, for messages hold addresses and outcomes are the same
everywhere. So each node says the rest in its own log. A flood of failures stays a few lines: the first ones of a name,
then one now and then, with the number of those not told.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from traceback import TracebackException
from typing import Final

from mcast.clock import monotonic_s
from mcast.machine.executor import SLOW_S

LOGGED_AT_FIRST: Final = 3  # of one kind and name ...
LOG_EVERY_S: Final = 10.0  # ... then one in this time
LOGGED_MAX: Final = 20  # in that time of all names together
TRACE_CALLS: Final = 20  # innermost calls of a traceback
TRACE_CHARS: Final = 4_000  # and its characters at most; the end says most

_log: Final = logging.getLogger("mcast.node")


class HandlerLog:
    """One node's: the engine's Observer, and told of queries too. `replaying` says so in its lines."""

    def __init__(self, node_id: str, now: Callable[[], float] = monotonic_s) -> None:
        self.replaying = False
        self.failures: Counter[str] = Counter()
        """Calls whose handler raised unexpectedly, by its name."""
        self.unknown_commands = 0
        self.first_unknown = ""
        """Name and event of the first one, in words."""
        self.node_id = node_id
        self._now = now
        self._logged: dict[tuple[str, str], int] = {}
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._due_s: dict[tuple[str, str], float] = {}
        self._window_s = 0.0
        self._in_window = 0

    def on_failed(self, seq: int, name: str, error: BaseException) -> None:
        """The handler of command `name` raised at event `seq`."""
        self.failures[name] += 1
        self._log_failure("command", name, self._event(seq), error)

    def on_query_failed(self, seq: int, name: str, error: BaseException) -> None:
        """The handler of query `name` raised, in the state behind event `seq`."""
        self.failures[name] += 1
        self._log_failure("query", name, f"behind event {seq}", error)

    def on_unknown(self, seq: int, name: object) -> None:
        """Event `seq` is a command that this machine does not have."""
        self.unknown_commands += 1
        if not self.first_unknown:
            self.first_unknown = f"{str(name)[:64]!r} at event {seq}"
        if not self.replaying and (more := self._may_tell("unknown", "")) is not None:
            _log.warning(
                "node %s: event %d is a command that the state machine does not have: %r%s",
                self.node_id, seq, str(name)[:64], more,
            )  # fmt: skip

    def on_slow(self, seq: int, name: object, count: int, seconds: float) -> None:
        """A command's handler took long."""
        if (more := self._may_tell("slow", str(name)[:64])) is not None:
            for_all = f" for {count} commands in a run" if count > 1 else ""
            self._tell_slow(f"command {str(name)[:64]} took {seconds:.2f} s{for_all} at {self._event(seq)}", more)

    def on_slow_query(self, name: str, seconds: float) -> None:
        """A query's handler took long."""
        if (more := self._may_tell("slow query", name)) is not None:
            self._tell_slow(f"query {name} took {seconds:.2f} s", more)

    def _tell_slow(self, what: str, more: str) -> None:
        _log.warning(
            "node %s: %s; nothing else is done here meanwhile: a handler should take less than %g ms%s",
            self.node_id, what, SLOW_S * 1e3, more,
        )  # fmt: skip

    def _event(self, seq: int) -> str:
        return f"event {seq}, replayed" if self.replaying else f"event {seq}"

    def _log_failure(self, kind: str, name: str, where: str, error: BaseException) -> None:
        if (more := self._may_tell(kind, name)) is not None:
            _log.warning("node %s: %s %s failed (%s)%s\n%s", self.node_id, kind, name, where, more, trace_of(error))

    def _may_tell(self, kind: str, name: str) -> str | None:
        """None: do not log this one. Else how many more of its kind and name there were since the last one logged."""
        key, now = (kind, name), self._now()
        logged = self._logged.get(key, 0)
        if now >= self._window_s + LOG_EVERY_S:
            self._window_s, self._in_window = now, 0
        if self._in_window >= LOGGED_MAX or (logged >= LOGGED_AT_FIRST and now < self._due_s.get(key, 0.0)):
            self._unlogged[key] += 1
            return None
        self._in_window += 1
        self._logged[key] = logged + 1
        self._due_s[key] = now + LOG_EVERY_S
        unlogged = self._unlogged.pop(key, 0)
        return f" ({unlogged:,} more of these since the last one told)" if unlogged else ""


def trace_of(error: BaseException) -> str:
    """An exception with its innermost calls; bounded, and whatever its message does."""
    try:
        lines = TracebackException.from_exception(error, limit=-TRACE_CALLS, compact=True).format()
        text = "".join(lines).rstrip()
    except Exception:
        text = type(error).__name__
    return printable(text if len(text) <= TRACE_CHARS else "... " + text[-TRACE_CHARS:])


def printable(text: str) -> str:
    """The same for a log or a terminal: what would do something there is shown by its number."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join([each if each.isprintable() or each == "\n" else f"\\u{ord(each):04x}" for each in text])
