"""The built-in machine: named values, with the operations that need one order of all events to be atomic."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from sortedcontainers import SortedList

from mcast.machine.api import Context, Rejected, Run, StateMachine, command, query
from mcast.machine.runs import at_once

INTEGER_MAX: Final = 2**63 - 1
_LEAST: Final = -INTEGER_MAX
SCAN_MAX: Final = 10_000  # items of one scan
_TEXT: Final = frozenset({str})


class KeyValue(StateMachine):
    """Keys are text, values whatever a command can carry."""

    version = 1

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        # Keys are put in order only when someone scans: until then, what came and went since the last scan.
        self._sorted: SortedList[str] = SortedList()
        self._added: set[str] = set()
        self._removed: set[str] = set()

    @command
    def set(self, ctx: Context, key: str, value: Any) -> None:
        """Store a value under a key."""
        if key not in self._items:
            self._add(key)
        self._items[key] = value

    @at_once(set)
    def set_all(self, run: Run, keys: tuple[str, ...], values: tuple[Any, ...]) -> Any:
        """As `set`, many at once."""
        if not _TEXT.issuperset(map(type, keys)):
            return NotImplemented
        items, known = self._items, len(self._items)
        items.update(zip(keys, values, strict=True))
        for key in islice(reversed(items), len(items) - known):  # a dict's newest keys are its last
            self._add(key)
        return None

    @command
    def delete(self, ctx: Context, key: str) -> bool:
        """Forget a key; whether it was there."""
        if key not in self._items:
            return False
        del self._items[key]
        if key in self._added:
            self._added.discard(key)
        else:
            self._removed.add(key)
        return True

    @command
    def incr(self, ctx: Context, key: str, by: int = 1) -> int:
        """Add to a number, a missing one counting as 0; the sum.

        Rejected: the stored value or `by` is not an integer, or the sum leaves 64 bits.
        """
        return self._incr(key, by)

    @at_once(incr)
    def incr_all(self, run: Run, keys: tuple[str, ...], amounts: tuple[int, ...]) -> Any:
        """As `incr`, many at once."""
        items = self._items
        get = items.get
        outcomes: list[int | Exception] = []
        append = outcomes.append
        for key, by in zip(keys, amounts, strict=True):
            try:
                value = get(key)
                if value.__class__ is int and by.__class__ is int and _LEAST <= (total := value + by) <= INTEGER_MAX:
                    items[key] = total
                    append(total)
                else:
                    append(self._incr(key, by))
            except (Rejected, TypeError) as error:  # as it would be raised one at a time, if only a key can't be one
                append(error)
        return outcomes

    @command
    def cas(self, ctx: Context, key: str, expected: Any, value: Any) -> bool:
        """Store the value if the key holds `expected` (None: or is missing); whether it did."""
        current = self._items.get(key)
        if current.__class__ is not expected.__class__ or current != expected:
            return False
        if key not in self._items:
            self._add(key)
        self._items[key] = value
        return True

    @command
    def append(self, ctx: Context, key: str, item: Any) -> int:
        """Append to a list, a missing one counting as empty; its new length.

        Rejected: the stored value is not a list.
        """
        if key not in self._items:
            self._add(key)
            self._items[key] = []
        stored = self._items[key]
        if stored.__class__ is not list:
            raise Rejected("not a list")
        stored.append(item)
        return len(stored)

    @query
    def get(self, key: str) -> Any:
        """The value under a key, None if there is none."""
        return self._items.get(key)

    @query
    def scan(self, prefix: str = "", limit: int = 100) -> list[list[Any]]:
        """The first `limit` (at most SCAN_MAX) [key, value] whose key begins so, in order of the keys.

        Rejected: the prefix is not text, or the limit not a number from 0 on.
        """
        if not isinstance(prefix, str) or type(limit) is not int or limit < 0:
            raise Rejected("scan takes a text and a number from 0 on")
        self._sort()
        found: list[list[Any]] = []
        for key in self._sorted.irange(prefix):
            if len(found) >= min(limit, SCAN_MAX) or not key.startswith(prefix):
                break
            found.append([key, self._items[key]])
        return found

    @query
    def size(self) -> int:
        """How many keys there are."""
        return len(self._items)

    def snapshot(self) -> dict[str, Any]:
        """The values by key."""
        return self._items

    def restore(self, data: dict[str, Any]) -> None:
        """Become these values."""
        self.__init__()  # type: ignore[misc] # starts from an empty order of keys
        self._items = data
        self._added.update(data)

    def _incr(self, key: str, by: int) -> int:
        value = self._items.get(key, 0)
        if value.__class__ is not int or by.__class__ is not int:
            raise Rejected("not an integer")
        total: int = value + by
        if not _LEAST <= total <= INTEGER_MAX:
            raise Rejected("the sum leaves 64 bits")
        if key not in self._items:
            self._add(key)
        self._items[key] = total
        return total

    def _add(self, key: str) -> None:
        if key.__class__ is not str:
            raise Rejected("a key is text")
        if key in self._removed:
            self._removed.discard(key)
        else:
            self._added.add(key)

    def _sort(self) -> None:
        for key in self._removed:
            self._sorted.remove(key)
        self._sorted.update(self._added)
        self._removed.clear()
        self._added.clear()
