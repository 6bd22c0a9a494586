"""Run handlers: registered beside their command, and never to be told from it by what they come to."""

import functools
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.errors import Halted
from mcast.machine.api import Context, Rejected, Run, StateMachine, command
from mcast.machine.canonical import digest
from mcast.machine.executor import RUN_MAX, RUN_MIN, Executor
from mcast.machine.kv import INTEGER_MAX, KeyValue
from mcast.machine.outcomes import UNPACKABLE, Outcome
from mcast.machine.runs import Alike, at_once
from tests.machine.conftest import whole
from tests.machine.test_executor import Heard

ERRORS: dict[str, type[BaseException]] = {
    "key": KeyError, "reject": Rejected, "memory": MemoryError, "exit": SystemExit,
}  # fmt: skip


def outcome_of(what: Any) -> Any:
    if what == "late":
        raise ERRORS["key"]("late")
    return {"no": Rejected("no"), "bad": ValueError("at 0x7f"), "odd": {1}}.get(what, what)


class Counter(StateMachine):
    """What its run handler does is told by the first command's argument."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.many = 0

    @command
    def add(self, ctx: Context, what: Any, by: int = 7) -> int:
        self.calls.append([what, by])
        return ctx.seq

    @add.run
    def add_all(self, run: Run, whats: tuple[Any, ...], amounts: tuple[int, ...]) -> Any:
        if whats[0] == "decline":
            return NotImplemented
        self.begin(run, whats, amounts)
        yield from map(outcome_of, whats) if whats[1] != "yield" else repeat(Rejected("again"), self.many)
        self.calls.append("ended")
        return "of no interest"

    def begin(self, run: Run, whats: tuple[Any, ...], amounts: tuple[int, ...]) -> None:
        self.calls.append([run.seq, run.time, run.count, list(whats), list(amounts)])
        if whats[0] == "raise":
            raise ERRORS[whats[1]]("why")

    @command
    def other(self, ctx: Context) -> None: ...


class AtOnce(Counter):
    """As a built-in machine, whose run handlers are plain methods."""

    @at_once(Counter.add)
    def add_all(self, run: Run, whats: tuple[Any, ...], amounts: tuple[int, ...]) -> Any:
        if whats[0] == "decline":
            return NotImplemented
        self.begin(run, whats, amounts)
        return list(map(outcome_of, whats))


BOTH = pytest.mark.parametrize("of", [Counter, AtOnce])


def outcomes_of(machine: StateMachine, *commands: Any, runs: bool = True) -> list[Outcome]:
    executor = Executor(machine, runs=runs)
    executor.context.enter(1, 55)
    return whole(executor.run(b"".join(map(msgpack.packb, commands)), len(commands), 40))


def run_of(*whats: Any) -> list[list[Any]]:
    return [["add", what] for what in [*whats, *range(RUN_MIN - len(whats))]]


@BOTH
def test_a_run_comes_as_columns_with_defaults_filled_in(of: type[Counter]) -> None:
    machine = of()
    assert outcomes_of(machine, *run_of()) == [Outcome("ok", number, None) for number in range(RUN_MIN)]
    assert machine.calls[0] == [40, 55, RUN_MIN, list(range(RUN_MIN)), [7] * RUN_MIN]
    outcomes_of(machine, *[["add", 1, 2]] * RUN_MIN)
    assert [call[-1] for call in machine.calls if call != "ended"][1] == [2] * RUN_MIN


@BOTH
def test_who_declines_gets_the_commands_one_at_a_time(of: type[Counter]) -> None:
    machine = of()
    values = [outcome.value for outcome in outcomes_of(machine, *run_of("decline"))]
    assert values == list(range(40, 40 + RUN_MIN)) and len(machine.calls) == RUN_MIN


@BOTH
def test_outcomes_of_a_run_are_of_every_kind(of: type[Counter]) -> None:
    first, second, third, *rest = outcomes_of(of(), *run_of("no", "bad", "odd"))
    assert (first, second) == (Outcome("rejected", None, "no"), Outcome("failed", None, "ValueError"))
    assert third == Outcome("failed", None, UNPACKABLE)
    assert [outcome.value for outcome in rest] == list(range(RUN_MIN - 3))


class Answering(Counter):
    """Its plain run handler returns what it was made with."""

    def __init__(self, returned: Any = None) -> None:
        self.returned = returned

    @at_once(Counter.add)
    def add_all(self, run: Run, whats: tuple[Any, ...], amounts: tuple[int, ...]) -> Any:
        return self.returned


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"b": 1, "a": 2}]])
def test_all_alike(value: Any) -> None:
    assert outcomes_of(Answering(Alike(value)), *run_of()) == [Outcome("ok", value, None)] * RUN_MIN


def test_returning_nothing_is_none_for_each() -> None:
    assert outcomes_of(Answering(None), *run_of()) == [Outcome("ok", None, None)] * RUN_MIN


WRONG = Outcome("failed", None, "WrongRunOutcomes")


@pytest.mark.parametrize("returned", [[], [1] * (RUN_MIN + 1), 7, "x" * RUN_MIN, {str(n): n for n in range(RUN_MIN)}])
def test_anything_but_an_outcome_each_fails_all_of_them(returned: Any) -> None:
    assert set(outcomes_of(Answering(returned), *run_of())) == {WRONG}


@pytest.mark.parametrize("outcomes", [0, 1, RUN_MIN - 1, RUN_MIN + 1, 10**12])
def test_yielding_too_few_outcomes_or_too_many_fails_all_of_them(outcomes: int) -> None:
    machine = Counter()
    machine.many = outcomes
    assert outcomes_of(machine, *run_of("no", "yield")) == [WRONG] * RUN_MIN
    assert (machine.calls[-1] == "ended") == (outcomes <= RUN_MIN)


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("key", Outcome("failed", None, "KeyError")), ("exit", Outcome("failed", None, "SystemExit")),
        ("reject", Outcome("rejected", None, "why")),
    ],
)  # fmt: skip
@BOTH
def test_raising_fails_all_of_them_alike(of: type[Counter], how: str, outcome: Outcome) -> None:
    assert outcomes_of(of(), *run_of("raise", how)) == [outcome] * RUN_MIN


@BOTH
def test_memory_halts(of: type[Counter]) -> None:
    with pytest.raises(Halted, match="event 40: MemoryError of add"):
        outcomes_of(of(), *run_of("raise", "memory"))


@pytest.mark.parametrize(
    "stranger", [["add"], ["add", 1, 2, 3], ["add", 1, 2], "ad", {"add": 1, "x": 2}, None, [], [["add"], 1], 7]
)
def test_a_record_that_is_not_of_one_kind_is_cut_or_run_one_at_a_time(stranger: Any) -> None:
    commands = [*run_of(), ["other"], stranger, ["other"], *run_of(), *run_of(), *run_of()]
    machine = Counter()
    outcomes = outcomes_of(machine, *commands)
    alone = Counter()
    wanted = outcomes_of(alone, *commands, runs=False)
    assert [outcome.kind for outcome in outcomes] == [outcome.kind for outcome in wanted]
    assert len(machine.calls) <= len(alone.calls)


def test_long_stretches_of_a_mixed_record_are_taken_at_once() -> None:
    machine = Counter()
    outcomes_of(machine, *run_of(), ["other"], *run_of(), *run_of(), ["other"])
    assert [call[:3:2] for call in machine.calls if call != "ended"] == [[40, RUN_MIN], [40 + RUN_MIN + 1, 2 * RUN_MIN]]


def test_a_subclass_with_another_command_has_no_run_handler_for_it() -> None:
    class Other(Counter):
        @command
        def add(self, ctx: Context, what: Any, by: int = 7) -> int:
            return -1

    class Third(Counter):
        @Counter.add.run
        def add_all(self, run: Run, whats: tuple[Any, ...], amounts: tuple[int, ...]) -> Iterator[int]:
            yield from [-3] * run.count

    assert (Counter.runs(), Other.runs(), Third.runs()) == ({"add": "add_all"}, {}, {"add": "add_all"})
    assert {outcome.value for outcome in outcomes_of(Other(), *run_of())} == {-1}
    assert {outcome.value for outcome in outcomes_of(Third(), *run_of())} == {-3}


def _too_few(self: object, run: Run, whats: object) -> Iterator[int]:
    yield 1


def _keyword(self: object, run: Run, whats: object, *, amounts: object) -> Iterator[int]:
    yield 1


def _many(self: object, run: Run, *columns: object) -> Iterator[int]:
    yield 1


def _plain(self: object, run: Run, whats: object, amounts: object) -> list[int]:
    return [1]


async def _coroutine(self: object, run: Run, whats: object, amounts: object) -> None: ...


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (_too_few, "takes (self, run) and 2 columns"), (_keyword, "takes (self, run) and 2 columns"),
        (_many, "takes (self, run) and 2 columns"), (_plain, "a generator method"), (_coroutine, "a generator method"),
        (len, "a generator method"),
    ],
)  # fmt: skip
def test_a_method_that_no_run_can_call_is_refused(handler: Any, words: str) -> None:
    with pytest.raises(TypeError) as refused:
        Counter.add.run(handler)
    assert words in str(refused.value)


def test_names_and_owners_are_checked_when_the_class_is_defined() -> None:
    def add(self: object, run: Run, whats: object, amounts: object) -> Iterator[int]:
        yield 1

    def one(self: object, run: Run, whats: object, amounts: object) -> Iterator[int]:
        yield 1

    def two(self: object, run: Run, whats: object, amounts: object) -> Iterator[int]:
        yield 1

    @command
    def spread(self: object, ctx: Context, *words: str) -> None: ...

    with pytest.raises(TypeError, match="a name of its own"):
        Counter.add.run(add)
    with pytest.raises(TypeError, match="any number of arguments"):
        spread.run(one)
    with pytest.raises(TypeError, match="another add than this class has"):
        type("Stranger", (StateMachine,), {"one": Counter.add.run(one)})
    with pytest.raises(TypeError, match="has the run handler one already"):
        type("Twice", (Counter,), {"one": Counter.add.run(one), "two": Counter.add.run(two)})
    with pytest.raises(TypeError, match="overrides a run handler"):
        type("Bare", (Counter,), {"add_all": lambda self, run, whats, amounts: None})


KEYS: st.SearchStrategy[Any] = st.sampled_from(["a", "b", "new", "list", "top", "low", 1, True, None, 1.0, b"a", ["a"]])
AMOUNTS: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, -1, 9, INTEGER_MAX, -INTEGER_MAX, True, 1.5, "1", None, [1], 2**64 - 1]
)
ODD = st.sampled_from(
    [["incr"], ["incr", "a", 1, 2], ["incr", "a"], ["nothing", "a"], [], None, "in", 7, {"incr": 1, "a": 2}, [["incr"]]]
)
GOOD_KEYS = st.sampled_from(["a", "b", "new", "newer"])


def calls(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(st.just(name), *arguments).map(list)


def stretches_of(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Long enough for a run, with at most a few that are not as the others."""
    alike = st.lists(kind, min_size=RUN_MIN, max_size=RUN_MIN + 3)
    return alike | st.tuples(alike, ODD, alike).map(lambda parts: [*parts[0], parts[1], *parts[2]])


COMMANDS = st.lists(
    st.one_of(
        stretches_of(calls("incr", GOOD_KEYS, st.integers(0, 9))),
        stretches_of(calls("incr", GOOD_KEYS)),
        stretches_of(calls("incr", GOOD_KEYS, AMOUNTS)),
        stretches_of(calls("incr", KEYS, AMOUNTS)),
        stretches_of(calls("set", GOOD_KEYS, st.integers(0, 9))),
        stretches_of(calls("set", KEYS, AMOUNTS)),
        st.lists(calls("incr", KEYS, AMOUNTS) | calls("set", KEYS, AMOUNTS) | ODD, max_size=5),
    ),
    min_size=1, max_size=3,
).map(lambda parts: [one for part in parts for one in part])  # fmt: skip
BEFORE = [["set", "new", 1], ["set", "list", []], ["set", "top", INTEGER_MAX - 1], ["set", "low", -INTEGER_MAX]]


def run_all(commands: list[Any], *, scanned: bool, runs: bool) -> list[Any]:
    """What the commands come to, and the machine they leave; key "new" was there, and is not any more."""
    machine = KeyValue()
    executor = Executor(machine, runs=runs)
    packed, seq = [], 1
    for part in (BEFORE, [["delete", "new"]], commands):
        packed.append(executor.run(b"".join(map(msgpack.packb, part)), len(part), seq))
        seq += len(part)
        if scanned and part is BEFORE:
            machine.scan()
    return [packed, list(machine._items), digest(machine.snapshot()), machine.scan("", 10_000)]


@settings(max_examples=300)
@given(COMMANDS.filter(len), st.booleans())
def test_key_value_comes_to_the_same_in_runs_and_one_at_a_time(commands: list[Any], scanned: bool) -> None:
    assert run_all(commands, scanned=scanned, runs=True) == run_all(commands, scanned=scanned, runs=False)


@pytest.mark.parametrize("stranger", ["ad", {"add": 1, "x": 2}, ["other", 1], ["ad", 1]])
def test_a_stranger_among_commands_is_no_argument_of_the_run(stranger: Any) -> None:
    commands = [*[["add", 1]] * (2 * RUN_MIN), stranger]
    assert outcomes_of(Counter(), *commands)[-1] == outcomes_of(Counter(), *commands, runs=False)[-1]


def test_a_wrapped_commands_defaults_are_those_that_its_arity_counts() -> None:
    def noted(handler: Any) -> Any:
        @functools.wraps(handler)
        def wrapper(*args: Any) -> Any:
            return handler(*args)

        return wrapper

    class Wrapped(StateMachine):
        version = 1

        def __init__(self) -> None:
            self.total = 0

        @command
        @noted
        def add(self, ctx: Any, name: str, by: int = 3) -> int:
            self.total += by
            return self.total

        @add.run
        def add_all(self, run: Run, names: Any, amounts: Any) -> Iterator[int]:
            for name, by in zip(names, amounts, strict=True):
                yield self.add(run, name, by)

        def snapshot(self) -> int:
            return self.total

        def restore(self, data: int) -> None:
            self.total = data

    payload = msgpack.packb(["add", "x"]) * RUN_MIN
    at_once, singly = Executor(Wrapped()), Executor(Wrapped(), runs=False)
    assert at_once.run(payload, RUN_MIN, 5) == singly.run(payload, RUN_MIN, 5)


def test_a_run_of_a_built_in_machine_is_short_and_time_ends_behind_it() -> None:
    """Nothing interrupts it, so it is no longer than RUN_MAX, whatever a datagram carries."""
    machine, commands = AtOnce(), run_of(*range(2 * RUN_MAX + RUN_MIN + 1))
    payload = b"".join(map(msgpack.packb, commands))
    executor = Executor(machine, clock=lambda: 1.0)
    executor.until = 0.99
    reached = []
    while (outcomes := executor.run(payload, len(commands), 40)) is None:
        reached.append(executor.reached)
    assert reached == [40 + RUN_MAX - 1, 40 + 2 * RUN_MAX - 1]
    assert [call[2] for call in machine.calls] == [RUN_MAX, RUN_MAX, RUN_MIN + 1]
    assert outcomes == Executor(AtOnce()).run(payload, len(commands), 40)


SPLIT = [
    run_of(*range(RUN_MAX + RUN_MIN)), run_of("no", "yield"), run_of("raise", "key"), run_of("decline"),
    [*run_of("no", "bad", "odd", "late"), *run_of("odd", "no"), ["other"], *run_of(7)],
    [*run_of("no", *range(RUN_MAX - 2), "late"), *run_of("bad", "late", *range(RUN_MAX)), ["other"], ["add", "odd"]],
]  # fmt: skip


@pytest.mark.parametrize("commands", SPLIT)
@pytest.mark.parametrize("every", [1, 2, 7])
def test_a_run_waits_behind_any_of_its_commands_and_nothing_hangs_on_where(commands: list[Any], every: int) -> None:
    """An outcome that hung on it would differ between replicas, which put it off where each likes."""
    machine, reported, ticks = Counter(), Heard(), iter(range(10**6))
    payload = b"".join(map(msgpack.packb, commands))
    executor = Executor(machine, clock=lambda: float(next(ticks) % every == every - 1))
    executor.observer = reported
    executor.until = 1.0
    executor.context.enter(1, 55)
    reached = []
    while (outcomes := executor.run(payload, len(commands), 40)) is None:
        reached.append(executor.reached)
    assert reached == sorted(reached) and len(reached) <= len(commands)
    assert len(reached) > 10 or every > 1 or commands[0][1] in ("raise", "no")
    at_once, heard = Executor(other := Counter()), Heard()
    at_once.observer = heard
    at_once.context.enter(1, 55)
    assert outcomes == at_once.run(payload, len(commands), 40)
    assert (machine.calls, reported.reported) == (other.calls, heard.reported)


def test_a_run_that_is_given_up_is_closed_whatever_it_does_then() -> None:
    class Stubborn(Counter):
        @Counter.add.run
        def add_all(self, run: Run, whats: tuple[Any, ...], amounts: tuple[int, ...]) -> Iterator[int]:
            try:
                yield from repeat(1)
            finally:
                self.calls.append("closed")
                if whats[0] == "raise":
                    raise KeyError

    for what, error in ((1, "WrongRunOutcomes"), ("raise", "KeyError")):
        machine = Stubborn()
        assert outcomes_of(machine, *run_of(what)) == [Outcome("failed", None, error)] * RUN_MIN
        assert machine.calls == ["closed"]


def test_slow_steps_of_a_run_are_told_by_their_numbers() -> None:
    ticks = iter([0.0, 0.05, 0.5, *[1.0] * 100])
    executor, heard = Executor(Counter(), clock=lambda: next(ticks)), Heard()
    executor.observer = heard
    executor.until = 0.1
    commands = run_of()
    assert executor.run(b"".join(map(msgpack.packb, commands)), RUN_MIN, 40) is None
    assert heard.reported == [(42, "add", 1, 0.4)]


def test_a_run_handler_that_raises_is_told_once() -> None:
    executor, heard = Executor(Counter()), Heard()
    executor.observer = heard
    commands = run_of("raise", "key")
    executor.run(b"".join(map(msgpack.packb, commands)), len(commands), 40)
    assert heard.reported == [(40, "add", "KeyError")]
