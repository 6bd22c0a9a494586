"""Linearizability of a compare-and-set register, by Wing and Gong's search with Lowe's memo; believes no number.

Every call must seem to take effect at one moment between its invocation and its return. The search tries the calls in
the order in which they could have, undoes what leads nowhere, and remembers which sets of calls with which value it
has been through. A call whose outcome is unknown may take effect at any moment after its invocation, or never. Keys
are independent of each other, so each is searched alone (Herlihy and Wing's locality). The search is exponential in
calls that overlap; beyond a budget of steps the answer is "undecided", never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgpack

from mcast.history.calls import DEFINITE, RecordedCall
from mcast.history.findings import Finding

STEPS_MAX: Final = 300_000  # of one key's search; some seconds
LinearVerdict = Literal["linearizable", "violated", "undecided"]


class Operation(NamedTuple):
    """A call on one register. `value` None is the register before any write; packed, so that all are hashable.

    `done` is what a "cas" told; None for it, and for `returned_ns`: unknown. A "read" told `value`.
    """

    kind: Literal["read", "write", "cas"]
    invoked_ns: int
    returned_ns: int | None
    value: bytes
    expected: bytes = b""
    done: bool | None = None


def is_linearizable(operations: Sequence[Operation], steps_max: int = STEPS_MAX) -> LinearVerdict:
    """Whether there is an order that explains every answer. Reads of unknown outcome should be left out."""
    following, before, returns = _entries(operations)
    undecided = sum(operation.returned_ns is not None for operation in operations)
    count = len(operations)
    value, taken = NOTHING, 0
    seen: set[tuple[int, bytes]] = set()
    stack: list[tuple[int, bytes]] = []
    entry, steps = following[0], 0
    while undecided:
        steps += 1
        if steps > steps_max:
            return "undecided"
        if 0 < entry <= count:
            operation = operations[entry - 1]
            after = _step(operation, value)
            if after is not None and (taken | 1 << entry, after) not in seen:
                taken |= 1 << entry
                seen.add((taken, after))
                stack.append((entry, value))
                value = after
                _lift(following, before, entry, returns[entry])
                undecided -= operation.returned_ns is not None
                entry = following[0]
            else:
                entry = following[entry]
            continue
        if not stack:
            return "violated"
        entry, value = stack.pop()
        taken &= ~(1 << entry)
        undecided += operations[entry - 1].returned_ns is not None
        _unlift(following, before, entry, returns[entry])
        entry = following[entry]
    return "linearizable"


def check_registers(
    calls: Iterable[RecordedCall], prefix: str, steps_max: int = STEPS_MAX
) -> tuple[list[Finding], list[str]]:
    """Search every key that begins with `prefix`, by its set, cas and linearizable get calls.

    Returns findings, and the keys that stayed undecided. Raises ValueError for a key that another command touches.
    """
    by_key: dict[str, list[Operation]] = {}
    undecided: list[str] = []
    for call in calls:
        if call.args and isinstance(call.args[0], str) and call.args[0].startswith(prefix):
            operations = by_key.setdefault(call.args[0], [])
            operation = operation_of(call)
            if operation is not None:
                operations.append(operation)
    findings = []
    for key, operations in by_key.items():
        verdict = is_linearizable(operations, steps_max)
        if verdict == "violated":
            text = f"no order explains the {len(operations)} calls on {key!r}"
            findings.append(Finding("linearizability", text))
        elif verdict == "undecided":
            undecided.append(key)
    return findings, undecided


def operation_of(call: RecordedCall) -> Operation | None:
    """The register operation that a call is; None for one that had no effect and told nothing, or is no such call."""
    if call.outcome in DEFINITE or call.outcome in ("rejected", "failed"):
        return None
    known = call.outcome == "ok"
    returned_ns = call.returned_ns if known else None
    if call.kind == "query":
        if call.name != "get" or call.level != "linearizable" or not known:
            return None
        return Operation("read", call.invoked_ns, returned_ns, msgpack.packb(call.value))
    if call.name == "set":
        return Operation("write", call.invoked_ns, returned_ns, msgpack.packb(call.args[1]))
    if call.name == "cas":
        expected, value = map(msgpack.packb, call.args[1:3])
        return Operation("cas", call.invoked_ns, returned_ns, value, expected, bool(call.value) if known else None)
    raise ValueError(f"{call.name} is no operation on a register")


def _step(operation: Operation, value: bytes) -> bytes | None:
    """The register's value after the operation; None if its answer cannot have been given at `value`."""
    if operation.kind == "write":
        return operation.value
    if operation.kind == "read":
        return value if operation.value == value else None
    does = operation.expected == value
    if operation.done is not None and operation.done != does:
        return None
    return operation.value if does else value


def _entries(operations: Sequence[Operation]) -> tuple[list[int], list[int], list[int]]:
    """A doubly linked list of invocations and returns in order of time: next, previous, and each call's return.

    Entry 0 is both ends, i + 1 is the invocation of call i, len + i + 1 its return. At equal times invocations come
    first: such calls overlap.
    """
    count = len(operations)
    times = [(operation.invoked_ns, 0, at) for at, operation in enumerate(operations, 1)]
    times += [
        (operation.returned_ns, 1, count + at)
        for at, operation in enumerate(operations, 1)
        if operation.returned_ns is not None
    ]
    following, before = [0] * (2 * count + 1), [0] * (2 * count + 1)
    last = 0
    for _, _, entry in sorted(times):
        following[last], before[entry] = entry, last
        last = entry
    following[last], before[0] = 0, last
    returns = [0, *(count + at if one.returned_ns is not None else 0 for at, one in enumerate(operations, 1))]
    return following, before, returns


def _lift(following: list[int], before: list[int], invocation: int, answer: int) -> None:
    """Take a call's entries out of the list; they remember their places."""
    for entry in (invocation, answer):
        if entry:
            following[before[entry]], before[following[entry]] = following[entry], before[entry]


def _unlift(following: list[int], before: list[int], invocation: int, answer: int) -> None:
    """Put them back, last out first in."""
    for entry in (answer, invocation):
        if entry:
            following[before[entry]] = before[following[entry]] = entry


NOTHING: Final[bytes] = msgpack.packb(None)
