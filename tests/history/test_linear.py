"""The register search, against the definition itself: try every order."""

from __future__ import annotations

from itertools import combinations, permutations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.history.calls import RecordedCall
from mcast.history.linear import Operation, check_registers, is_linearizable

NIL = msgpack.packb(None)


def write(invoked: int, returned: int | None, value: int) -> Operation:
    return Operation("write", invoked, returned, msgpack.packb(value))


def read(invoked: int, returned: int, value: int | None) -> Operation:
    return Operation("read", invoked, returned, msgpack.packb(value))


def cas(invoked: int, returned: int | None, expected: int | None, value: int, done: bool | None) -> Operation:
    return Operation("cas", invoked, returned, msgpack.packb(value), msgpack.packb(expected), done)


def explains(order: tuple[Operation, ...]) -> bool:
    value = NIL
    for one in order:
        if one.kind == "write":
            value = one.value
        elif one.kind == "read" and value != one.value:
            return False
        elif one.kind == "cas":
            if one.done is not None and one.done != (value == one.expected):
                return False
            value = one.value if value == one.expected else value
    return True


def in_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.returned_ns is not None and later.returned_ns < earlier.invoked_ns
        for at, earlier in enumerate(order)
        for later in order[at + 1 :]
    )


def by_definition(operations: list[Operation]) -> bool:
    sure = [one for one in operations if one.returned_ns is not None]
    maybe = [one for one in operations if one.returned_ns is None]
    return any(
        in_time(order) and explains(order)
        for count in range(len(maybe) + 1)
        for chosen in combinations(maybe, count)
        for order in permutations([*sure, *chosen])
    )


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    invoked = draw(st.integers(0, 12))
    returned = invoked + draw(st.integers(0, 6))
    small = st.integers(0, 2)
    kind = draw(st.sampled_from(["read", "write", "cas"]))
    known = kind == "read" or draw(st.integers(0, 4)) > 0
    if kind == "write":
        return write(invoked, returned if known else None, draw(small))
    if kind == "read":
        return read(invoked, returned, draw(st.none() | small))
    done = draw(st.booleans()) if known else None
    return cas(invoked, returned if known else None, draw(st.none() | small), draw(small), done)


@settings(max_examples=400, deadline=None)
@given(st.lists(operations(), max_size=5))
def test_the_search_agrees_with_the_definition(history: list[Operation]) -> None:
    assert is_linearizable(history) == ("linearizable" if by_definition(history) else "violated")


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        ([write(0, 1, 1), read(2, 3, 1)], "linearizable"),
        ([write(0, 1, 1), read(2, 3, None)], "violated"),
        ([write(0, 3, 1), read(1, 2, None), read(2, 4, 1)], "linearizable"),
        ([write(0, 9, 1), read(1, 2, 1), read(3, 4, None)], "violated"),
        ([write(0, None, 1), read(5, 6, None), read(7, 8, 1)], "linearizable"),
        ([write(5, None, 1), read(0, 4, 1)], "violated"),
        ([cas(0, 1, None, 1, True), cas(2, 3, None, 2, True)], "violated"),
        ([cas(0, 3, None, 1, True), cas(0, 3, None, 2, True)], "violated"),
        ([cas(0, 1, None, 1, True), cas(2, 3, None, 2, False), read(4, 5, 1)], "linearizable"),
        ([write(0, 1, 1), cas(2, None, 1, 2, None), read(3, 4, 1), read(5, 6, 2), read(7, 8, 1)], "violated"),
    ],
)
def test_known_histories(history: list[Operation], verdict: str) -> None:
    assert is_linearizable(history) == verdict


def test_a_long_history_of_a_few_clients_is_quick() -> None:
    history = []
    for number in range(2_000):
        at = 10 * number
        history += [write(at, at + 15, number), read(at + 4, at + 9, number)]
    assert is_linearizable(history, steps_max=20_000) == "linearizable"


def test_beyond_its_budget_it_decides_nothing() -> None:
    crowd = [write(0, 100, number) for number in range(12)] + [read(0, 100, 99)]
    assert is_linearizable(crowd, steps_max=1_000) == "undecided"
    assert is_linearizable(crowd[:4] + crowd[-1:], steps_max=1_000) == "violated"


def call(name: str, *args: object, outcome: str = "ok", value: object = None, at: int = 0) -> RecordedCall:
    kind = "query" if name == "get" else "submit"
    return RecordedCall(
        client="a", kind=kind, name=name, args=args, invoked_ns=at, returned_ns=at + 1, outcome=outcome, value=value,  # type: ignore[arg-type]
        level="linearizable" if kind == "query" else None,
    )  # fmt: skip


def test_calls_are_searched_key_by_key() -> None:
    calls = [
        call("set", "reg1", 1, at=0),
        call("set", "reg2", 2, at=2, outcome="not_sent"),
        call("cas", "reg1", 1, 3, value=True, at=4),
        call("get", "reg1", value=3, at=6),
        call("get", "reg2", value=None, at=8),
        call("append", "list", 1, at=10),
    ]
    assert check_registers(calls, "reg") == ([], [])
    findings, _ = check_registers([*calls, call("get", "reg2", value=2, at=12)], "reg")
    assert [finding.text for finding in findings] == ["no order explains the 2 calls on 'reg2'"]
    assert check_registers(calls, "reg", steps_max=1) == ([], ["reg1"])
    with pytest.raises(ValueError, match="append is no operation on a register"):
        check_registers(calls, "list")
