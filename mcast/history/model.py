"""What named values should do, written a second time and plainly: the judge must not share the machine's mistakes."""

from __future__ import annotations

from typing import Any, Final, Protocol

_LIMIT: Final = 2**63 - 1
_SCAN_MAX: Final = 10_000
ModelOutcome = tuple[str, Any]
"""Outcome ("ok", "rejected", "failed") and value."""


class Model(Protocol):
    """A machine's specification, executed by the judge."""

    def apply(self, name: str, args: list[Any]) -> ModelOutcome:
        """Execute a command."""

    def answer(self, name: str, args: list[Any]) -> ModelOutcome:
        """Answer a query."""


class KeyValueModel:
    """The specification of `mcast.machine.kv:KeyValue`, for commands of the right arity."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, name: str, args: list[Any]) -> ModelOutcome:
        """Execute a command."""
        key, rest = args[0], args[1:]
        if name == "set":
            return self._put(key, rest[0], None)
        if name == "delete":
            return "ok", self.values.pop(key, _MISSING) is not _MISSING
        if name == "cas":
            held = self.values.get(key)
            if type(held) is type(rest[0]) and held == rest[0]:
                return self._put(key, rest[1], True)
            return "ok", False
        if name == "append":
            held = self.values.get(key, [])
            if type(held) is not list:
                return "rejected", None
            held.append(rest[0])
            return self._put(key, held, len(held))
        if name == "incr":
            held, by = self.values.get(key, 0), rest[0] if rest else 1
            if type(held) is not int or type(by) is not int or abs(held + by) > _LIMIT:
                return "rejected", None
            return self._put(key, held + by, held + by)
        return "failed", None

    def answer(self, name: str, args: list[Any]) -> ModelOutcome:
        """Answer a query."""
        if name == "get":
            return "ok", self.values.get(args[0])
        if name == "size":
            return "ok", len(self.values)
        if name == "scan":
            prefix, limit = (args + ["", 100][len(args) :])[:2]
            if type(prefix) is not str or type(limit) is not int or limit < 0:
                return "rejected", None
            found = sorted(key for key in self.values if key.startswith(prefix))
            return "ok", [[key, self.values[key]] for key in found[: min(limit, _SCAN_MAX)]]
        return "failed", None

    def _put(self, key: Any, value: Any, answer: Any) -> ModelOutcome:
        if type(key) is not str:
            return "rejected", None
        self.values[key] = value
        return "ok", answer


_MISSING: Final = object()
