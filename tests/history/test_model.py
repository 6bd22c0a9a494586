"""The judge's own named values agree with the machine's, command by command."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.errors import Rejected
from mcast.history.model import KeyValueModel
from mcast.machine.context import Context
from mcast.machine.kv import KeyValue

KEYS = st.sampled_from(["a", "ab", "b", 7])
VALUES = st.sampled_from([None, 0, 1, True, 1.0, "1", 2**63 - 1])
COMMANDS = st.one_of(
    st.tuples(st.just("set"), KEYS, VALUES), st.tuples(st.just("delete"), KEYS), st.tuples(st.just("incr"), KEYS),
    st.tuples(st.just("incr"), KEYS, VALUES), st.tuples(st.just("cas"), KEYS, VALUES, VALUES),
    st.tuples(st.just("append"), KEYS, VALUES),
)  # fmt: skip
QUERIES: list[list[Any]] = [["get", "a"], ["size"], ["scan"], ["scan", "a", 1], ["scan", "a", -1], ["scan", 1]]


def answer(call: Any, *args: Any) -> tuple[str, Any]:
    try:
        return "ok", call(*args)
    except Rejected:
        return "rejected", None


@settings(max_examples=200, deadline=None)
@given(st.lists(COMMANDS, max_size=12))
def test_both_say_the_same(commands: list[tuple[Any, ...]]) -> None:
    machine, model = KeyValue(), KeyValueModel()
    context: Any = object.__new__(Context)
    for name, *args in commands:
        assert repr(answer(getattr(machine, name), context, *args)) == repr(model.apply(name, list(args)))
    for name, *args in QUERIES:
        assert repr(answer(getattr(machine, name), *args)) == repr(model.answer(name, args))
