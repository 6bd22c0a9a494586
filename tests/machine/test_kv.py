"""The built-in dictionary, command by command, and against a plain one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import QueryFailed
from mcast.machine.kv import INTEGER_MAX, SCAN_MAX, KeyValue
from mcast.machine.rehearsal import Rehearsal


@pytest.fixture
def kv() -> Rehearsal:
    return Rehearsal(KeyValue())


def values(kv: Rehearsal, *commands: tuple[Any, ...]) -> list[Any]:
    return [outcome.value if outcome.kind == "ok" else (outcome.kind, outcome.error) for outcome in kv.run(commands)]


def test_set_get_and_delete(kv: Rehearsal) -> None:
    assert values(kv, ("set", "k", [1, {"a": None}]), ("set", "gone", 1), ("delete", "gone"), ("delete", "gone")) == [
        None, None, True, False,
    ]  # fmt: skip
    assert kv.query("get", "k") == [1, {"a": None}]
    assert kv.query("get", "gone") is None
    assert kv.query("size") == 1


def test_incr_counts_from_nothing_and_refuses_what_is_no_integer(kv: Rehearsal) -> None:
    refused = ("rejected", "not an integer")
    commands = [
        ("incr", "k"),
        ("incr", "k", -5),
        ("set", "s", "1"),
        ("incr", "s"),
        ("incr", "k", 1.5),
        ("incr", "k", True),
    ]
    assert values(kv, *commands) == [1, -4, None, refused, refused, refused]
    assert values(kv, ("set", "flag", True), ("incr", "flag")) == [None, refused]


def test_incr_stays_within_64_bits(kv: Rehearsal) -> None:
    beyond = ("rejected", "the sum leaves 64 bits")
    assert values(kv, ("incr", "k", INTEGER_MAX), ("incr", "k"), ("incr", "k", -1)) == [
        INTEGER_MAX,
        beyond,
        INTEGER_MAX - 1,
    ]


def test_a_rejected_command_leaves_no_key_behind(kv: Rehearsal) -> None:
    values(kv, ("incr", "k", "x"), ("cas", "k", 1, 2))
    assert kv.query("size") == 0 and kv.query("scan") == []


def test_cas_compares_value_and_type(kv: Rehearsal) -> None:
    commands = [
        ("cas", "k", None, 1),
        ("cas", "k", None, 2),
        ("cas", "k", True, 2),
        ("cas", "k", 1.0, 2),
        ("cas", "k", 1, 2),
    ]
    assert values(kv, *commands) == [True, False, False, False, True]
    assert kv.query("get", "k") == 2


def test_append_makes_a_list_and_refuses_other_values(kv: Rehearsal) -> None:
    assert values(kv, ("append", "l", 1), ("append", "l", [2]), ("set", "k", 1), ("append", "k", 1)) == [
        1, 2, None, ("rejected", "not a list"),
    ]  # fmt: skip
    assert kv.query("get", "l") == [1, [2]]


@pytest.mark.parametrize("command", ["set", "incr", "append"])
def test_a_key_is_text(kv: Rehearsal, command: str) -> None:
    assert values(kv, (command, 5, 1), (command, None, 1)) == [("rejected", "a key is text")] * 2
    assert values(kv, (command, [], 1)) == [("failed", "TypeError")]


def test_scan_goes_in_order_of_keys(kv: Rehearsal) -> None:
    values(kv, *[("set", key, key) for key in ("b2", "a", "b10", "c", "b")])
    assert kv.query("scan", "b", 10) == [["b", "b"], ["b10", "b10"], ["b2", "b2"]]
    assert kv.query("scan", "b", 2) == [["b", "b"], ["b10", "b10"]]
    assert [key for key, _ in kv.query("scan")] == ["a", "b", "b10", "b2", "c"]
    assert kv.query("scan", "", 0) == []


@pytest.mark.parametrize("args", [("", -1), ("", 1.5), ("", True), (7, 1)])
def test_scan_refuses_nonsense(kv: Rehearsal, args: tuple[Any, ...]) -> None:
    with pytest.raises(QueryFailed) as failed:
        kv.query("scan", *args)
    assert failed.value.rejected


def test_scan_is_bounded() -> None:
    machine = KeyValue()
    machine.restore({f"{number:06}": 0 for number in range(SCAN_MAX + 1)})
    assert len(machine.scan("", SCAN_MAX + 1)) == SCAN_MAX


KEYS = st.sampled_from(["", "a", "aa", "ab", "b", "é"])


@given(st.lists(st.tuples(st.sampled_from(["set", "delete", "scan", "restore"]), KEYS, st.integers(0, 9)), max_size=40))
def test_scan_agrees_with_a_sorted_dict_after_any_commands(steps: list[tuple[str, str, int]]) -> None:
    machine, model = KeyValue(), dict[str, int]()
    kv = Rehearsal(machine)
    for step, key, value in steps:
        if step == "set":
            kv.run([("set", key, value)])
            model[key] = value
        elif step == "delete":
            assert kv.run([("delete", key)])[0].value is (model.pop(key, None) is not None)
        elif step == "scan":
            assert machine.scan(key, value) == [[k, v] for k, v in sorted(model.items()) if k.startswith(key)][:value]
        else:
            machine.restore(dict(machine.snapshot()))
    assert machine.scan("", 100) == [list(item) for item in sorted(model.items())]
    assert machine.size() == len(model)
