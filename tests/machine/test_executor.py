"""Whatever a handler or a hostile payload does is an outcome, the same everywhere; only memory and stack halt."""

import signal
from typing import Any

import msgpack
import pytest

from mcast.errors import Halted
from mcast.machine.api import Context
from mcast.machine.executor import DESCRIBED_CHARS_MAX, UNKNOWN_COMMAND, WRONG_ARITY, Executor, described
from mcast.machine.outcomes import UNPACKABLE, Outcome
from tests.machine.conftest import Notebook, whole


def run(machine: Notebook, *commands: Any, seq: int = 1) -> list[Outcome]:
    payload = b"".join(map(msgpack.packb, commands))
    return whole(Executor(machine).run(payload, len(commands), seq))


def ok(value: Any) -> Outcome:
    return Outcome("ok", value, None)


def failed(name: str) -> Outcome:
    return Outcome("failed", None, name)


def test_the_stream_goes_on_after_every_kind_of_outcome(notebook: Notebook) -> None:
    assert run(
        notebook, ["note", 1], ["refuse", "no", 3], ["fail", "zero"], ["fail", "key"], ["fail", "exit"], ["note", 2]
    ) == [
        ok(1), Outcome("rejected", None, "no 3"), failed("ZeroDivisionError"), failed("KeyError"),
        failed("SystemExit"), ok(2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["nothing"], UNKNOWN_COMMAND), (["count"], UNKNOWN_COMMAND), (["__init__"], UNKNOWN_COMMAND),
        ([[]], UNKNOWN_COMMAND),
        ([{}, 1], UNKNOWN_COMMAND), ([], UNKNOWN_COMMAND), ([None], UNKNOWN_COMMAND), (["note"], WRONG_ARITY),
        (["note", 1, 2], WRONG_ARITY), (7, "DecodeError"), ("note", "DecodeError"), ({0: "note", 1: 2}, "DecodeError"),
        (None, "DecodeError"), (b"x", "DecodeError"),
    ],
)  # fmt: skip
def test_what_is_no_call_fails_alone(notebook: Notebook, command: Any, name: str) -> None:
    assert run(notebook, ["note", 1], command, ["note", 2]) == [ok(1), failed(name), ok(2)]


def test_a_payload_that_does_not_decode_fails_whole_and_runs_nothing(notebook: Notebook) -> None:
    payload = msgpack.packb(["note", 1]) + b"\xc1"
    outcomes = whole(Executor(notebook).run(payload, 2, 1))
    assert outcomes == [failed("DecodeError")] * 2
    assert notebook.notes == []


@pytest.mark.parametrize("how", [["fail", "memory"], ["recurse"]])
def test_memory_and_recursion_halt(notebook: Notebook, how: list[str]) -> None:
    with pytest.raises(Halted, match=r"event 8: (Memory|Recursion)Error"):
        run(notebook, ["note", 1], how, seq=7)


def test_ctrl_c_is_not_an_outcome(notebook: Notebook) -> None:
    def interrupted(ctx: Context) -> None:
        signal.raise_signal(signal.SIGINT)

    executor = Executor(notebook)
    executor._handlers["note"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        executor.run(msgpack.packb(["note"]), 1, 1)


def test_an_interrupt_of_the_handlers_own_is_one(notebook: Notebook) -> None:
    def deeper() -> None:
        raise KeyboardInterrupt("why")

    def interrupts(ctx: Context) -> None:
        deeper()

    executor = Executor(notebook)
    executor._handlers["note"] = interrupts
    [outcome] = whole(executor.run(msgpack.packb(["note"]), 1, 1))
    assert outcome == failed("KeyboardInterrupt")


def test_a_returned_part_of_the_state_is_recorded_as_it_was(notebook: Notebook) -> None:
    assert run(notebook, ["note", 1], ["all"], ["note", 2], ["all"]) == [ok(1), ok([1]), ok(2), ok([1, 2])]


def test_values_without_a_msgpack_form_fail_alone(notebook: Notebook) -> None:
    given = run(notebook, ["give", "object"], ["give", "set"], ["give", "big"], ["give", "tuple"])
    assert given == [failed(UNPACKABLE)] * 3 + [ok([1, [2]])]


def test_each_event_sees_its_own_number(notebook: Notebook) -> None:
    executor = Executor(notebook)
    executor.context.enter(3, 55)
    outcomes = whole(executor.run(msgpack.packb(["stamp"]) * 3, 3, 40))
    assert [outcome.value for outcome in outcomes] == [[40, 55], [41, 55], [42, 55]]


def test_draws_differ_by_event_epoch_and_cluster_and_by_nothing_else(notebook: Notebook) -> None:
    drawn: list[Any] = []
    for uuid, epoch in ((b"a" * 16, 1), (b"a" * 16, 1), (b"a" * 16, 2), (b"b" * 16, 1)):
        executor = Executor(Notebook())
        executor.context.set_cluster_uuid(uuid)
        executor.context.enter(epoch, 0)
        outcomes = whole(executor.run(msgpack.packb(["draw"]) * 2, 2, 7))
        drawn.append([outcome.value for outcome in outcomes])
    first, again, *others = drawn
    assert first == again and first not in others and others[0] != others[1]
    assert len({number for event in first for number in event}) == 4


class Heard:
    """An Observer that writes down what it is told."""

    def __init__(self) -> None:
        self.reported: list[Any] = []

    def on_failed(self, seq: int, name: str, error: BaseException) -> None:
        self.reported.append((seq, name, type(error).__name__))

    def on_unknown(self, seq: int, name: object) -> None:
        self.reported.append((seq, name, "unknown"))

    def on_slow(self, seq: int, name: object, count: int, seconds: float) -> None:
        self.reported.append((seq, name, count, seconds))


def test_an_observer_hears_what_no_outcome_tells(notebook: Notebook) -> None:
    executor, heard = Executor(notebook), Heard()
    executor.observer = heard
    commands = [["note", 1], ["fail", "zero"], ["refuse", "no"], ["nothing"], [], ["note"], 7, ["fail", "exit"]]
    executor.run(b"".join(map(msgpack.packb, commands)), len(commands), 10)
    assert heard.reported == [
        (11, "fail", "ZeroDivisionError"), (13, "nothing", "unknown"), (14, None, "unknown"), (17, "fail", "SystemExit")
    ]  # fmt: skip


def test_a_handler_that_takes_long_is_told_by_name(notebook: Notebook) -> None:
    times = iter([0.001, 0.25, 0.26, 0.27])
    executor, heard = Executor(notebook, clock=lambda: next(times)), Heard()
    executor.observer, executor.until = heard, 0.005
    payload = msgpack.packb(["note", 1]) + msgpack.packb(["stamp"]) + msgpack.packb(["note", 2])
    assert executor.run(payload, 3, 5) is None
    assert heard.reported == [(6, "stamp", 1, 0.245)]
    assert executor.is_mid_record and executor.reached == 6
    executor.until = float("inf")
    assert [outcome.kind for outcome in whole(executor.run(payload, 3, 5))] == ["ok"] * 3
    assert notebook.notes == [1, 2] and not executor.is_mid_record


def test_a_halt_names_the_command_and_its_arguments_in_short(notebook: Notebook) -> None:
    payload = msgpack.packb(["fail", "memory"])
    with pytest.raises(Halted, match=r"event 8: MemoryError of fail\('memory'\); other replicas"):
        Executor(notebook).run(payload, 1, 8)
    long = described("work", ["x" * 1_000_000, [[[[1]]]], {"a": b"y" * 9_999}, 4, 5, 6])
    assert len(long) <= DESCRIBED_CHARS_MAX and long.startswith("work('xxx") and long.endswith("...)")
