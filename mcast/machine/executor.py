"""Runs a record's commands against the machine: the one loop that is paid for every event on every replica.

Time is given in slices: between two commands, however slow they are, the owner may have the rest put off.
"""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import accumulate, chain, compress, count, islice, pairwise
from operator import itemgetter, ne
from reprlib import Repr
from typing import Any, Final, Protocol

from mcast.errors import DecodeError, Halted, Rejected
from mcast.machine.api import StateMachine
from mcast.machine.commands import decode_commands_untrusted
from mcast.machine.context import Context
from mcast.machine.interrupts import on_purpose
from mcast.machine.outcomes import (
    FAILED,
    REJECTED,
    UNPACKABLE,
    Errors,
    encode_failures,
    encode_outcomes,
    encode_outcomes_of_each,
    rejection_text,
    settled,
)
from mcast.machine.plain import ATOMS, FIXARRAY_MAX, LISTS
from mcast.machine.runs import Alike, Run

_SEQUENCES: Final = (list, tuple)
_NAME: Final = itemgetter(0)
RUN_MIN: Final = 16  # commands; for fewer, taking them all at once costs more than it saves
RUN_MAX: Final = 256  # commands of one run: part of what a log means, see `_pieces`
SLOW_S: Final = 0.1  # a handler that takes longer is reported
DESCRIBED_ARGS_MAX: Final = 4  # arguments shown of a command that halted a node ...
DESCRIBED_CHARS_MAX: Final = 200  # ... and characters in all
assert RUN_MIN <= FIXARRAY_MAX + 1, "what is decoded as a small record is too small for a run"
UNKNOWN_COMMAND: Final = "UnknownCommand"
WRONG_ARITY: Final = "WrongArity"


class Observer(Protocol):
    """Told what handlers raise and how long they take. It must not raise: that would end the engine."""

    def on_failed(self, seq: int, name: str, error: BaseException) -> None:
        """The handler of command `name` raised something else than Rejected, at event `seq`."""

    def on_unknown(self, seq: int, name: object) -> None:
        """Event `seq` is a command that this machine does not have."""

    def on_slow(self, seq: int, name: object, count: int, seconds: float) -> None:
        """A handler took at least so long for the event, or for `count` of them from `seq` on."""


class Unwatched:
    """An Observer that does nothing."""

    def on_failed(self, seq: int, name: str, error: BaseException) -> None:
        """Nothing."""

    def on_unknown(self, seq: int, name: object) -> None:
        """Nothing."""

    def on_slow(self, seq: int, name: object, count: int, seconds: float) -> None:
        """Nothing."""


class _Begun:
    """A run whose handler yields outcomes, which come in `outcomes`; the first is that of event `seq`."""

    __slots__ = ("at", "commands", "name", "outcomes", "seq", "steps")

    def __init__(self, steps: Generator[Any, None, Any], commands: list[Any], name: str, seq: int, at: int) -> None:
        self.steps = steps
        self.outcomes: Iterator[Any] | None = None
        """None: nothing of it has run."""
        self.commands = commands
        self.name = name
        self.seq = seq
        self.at = at
        """Where its first outcome stands among those of the record."""


class _Work:
    """A record that was put off: what came of its commands so far, and the rest of them, what comes next last."""

    __slots__ = ("begun", "errors", "seq", "todo", "values")

    def __init__(self, seq: int, todo: list[tuple[list[Any], int]], values: list[Any], errors: Errors) -> None:
        self.seq = seq
        self.todo = todo
        self.values = values
        self.errors = errors
        self.begun: _Begun | None = None
        """To be ended before anything that is to do."""


_PIECE, _STRETCH, _REST = range(3)
"""How far commands that wait were looked at: not at all; they have one name; they are to be run one at a time."""


class Executor:
    """The machine's handlers and the one Context they all see. `runs` switches run handlers off only to compare.

    `clock` tells the time: once it is `until`, no further handler is called, and `run` may stop in mid-record.
    """

    def __init__(self, machine: StateMachine, *, runs: bool = True, clock: Callable[[], float] = float) -> None:
        self.context = Context()
        self.observer: Observer = Unwatched()
        self.clock = clock
        self.until = math.inf
        self._handlers: dict[str, Callable[..., Any]] = {name: getattr(machine, name) for name in machine.commands()}
        self._runs = _run_handlers(machine) if runs else {}
        self._work: _Work | None = None

    @property
    def reached(self) -> int:
        """The last event whose handler has run, of a record that was put off."""
        assert self._work is not None
        return self._work.seq + len(self._work.values) - 1

    def run(self, payload: bytes | memoryview, count: int, seq: int) -> bytes | None:
        """Execute the `count` commands of a record whose first event is `seq`; their outcomes, packed.

        None: time is over. The next call, for the same record, goes on where this one stopped.

        Raises:
            Halted: a handler ran out of memory or stack, which need not happen on every replica alike.
        """
        work, self._work = self._work, None
        try:
            if work is None:
                try:
                    commands = decode_commands_untrusted(payload, count)
                except DecodeError:
                    return encode_failures(count, DecodeError.__name__)
                if count < RUN_MIN:
                    return self._run_few(commands, seq)
                work = _Work(seq, _pieces(commands), [], {})
            if not self._go_on(work):
                self._work = work
                return None
            return encode_outcomes(work.values, work.errors)
        except (MemoryError, RecursionError) as error:
            raise self._halt_error(error) from error

    def _run_few(self, commands: list[Any], seq: int) -> bytes | None:
        """As `run`, where there is nothing to be looked for that could be done together."""
        values: list[Any] = []
        errors: Errors = {}
        done = self._run_each(commands, seq, values, errors)
        if done < len(commands):
            self._work = _Work(seq, [(commands[done:], _REST)], values, errors)
            return None
        return encode_outcomes(values, errors)

    def run_small_records(self, commands: list[Any], counts: Sequence[int], seq: int) -> list[bytes]:
        """Execute consecutive records of fewer than RUN_MIN decoded commands each; each one's outcomes, as `run` packs.

        Fewer outcomes than records: time is over. `is_mid_record` tells that the next one was begun: `run` goes on.

        Raises Halted as `run`.
        """
        values: list[Any] = []
        errors: Errors = {}
        try:
            done = self._run_each(commands, seq, values, errors)
            if done < len(commands):
                whole = bisect_right(ends := list(accumulate(counts)), done)
                start = ends[whole - 1] if whole else 0
                if done > start:
                    begun = {index - start: error for index, error in errors.items() if index >= start}
                    todo = [(commands[done : ends[whole]], _REST)]
                    self._work = _Work(seq + start, todo, values[start:], begun)
                counts = counts[:whole]
            return encode_outcomes_of_each(values, errors, counts) if counts else []
        except (MemoryError, RecursionError) as error:
            raise self._halt_error(error) from error

    @property
    def is_mid_record(self) -> bool:
        """Whether some commands of a record have run, and others have not."""
        return self._work is not None

    def _go_on(self, work: _Work) -> bool:
        """Execute what is to be done, together what has one name and a handler for that; False: time is over."""
        todo, values = work.todo, work.values
        while todo or work.begun is not None:
            before = len(values)
            if work.begun is not None:
                if not self._go_on_with_run(work, work.begun):
                    return False
            else:
                commands, seen = todo.pop()
                if seen != _REST and len(commands) >= RUN_MIN and self._runs:
                    if self._run_together(commands, work):
                        if len(values) > before and todo and self.clock() >= self.until:
                            return False
                        continue
                    if seen == _PIECE and len(stretches := _stretches(commands)) > 1:
                        todo += [(stretch, _STRETCH) for stretch in reversed(stretches)]
                        continue
                done = self._run_each(commands, work.seq + before, values, work.errors)
                if done < len(commands):
                    todo.append((commands[done:], _REST))
                    return False
            if len(values) > before and todo and self.clock() >= self.until:
                return False
        return True

    def _run_each(self, commands: list[Any], seq: int, values: list[Any], errors: Errors) -> int:
        """Execute commands one at a time until time is over: how many, at least one.

        `values` and `errors` hold what came of those before them.
        """
        context = self.context
        handlers = self._handlers
        append = values.append
        clock, until = self.clock, self.until
        before = len(values)
        name: Any = None
        for context.seq, command in enumerate(commands, seq):
            try:
                if command.__class__ is not list:
                    raise DecodeError("not a command")
                name = command[0]
                command[0] = context  # the list becomes the call's arguments: cheaper than slicing it
                value = handlers[name](*command)
                if value.__class__ not in ATOMS:
                    value = _freeze_value(value, len(values), errors)
                append(value)
            except Rejected as rejected:
                errors[len(values)] = [REJECTED, rejection_text(rejected)]
                append(None)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and not on_purpose(error):
                    raise
                errors[len(values)] = [FAILED, self._why(error, name, command)]
                append(None)
            if (now := clock()) >= until:
                if now - until >= SLOW_S:
                    self.observer.on_slow(context.seq, name, 1, now - until)
                break
        return len(values) - before

    def _run_together(self, commands: list[Any], work: _Work) -> bool:
        """Execute commands through a run handler, or begin to; False, and nothing done, where there is none for them.

        One that yields is `begun`; one that does not is done, or has declined, which is False as well.
        """
        if (columns := _columns(commands)) is None or (found := self._runs.get(columns[0][0])) is None:
            return False
        handler, yields, fewest, most, defaults = found
        given, count = len(columns) - 1, len(commands)
        if not fewest <= given <= most:
            return False
        columns += [(default,) * count for default in defaults[given - most :] if given < most]
        name, at, context = columns[0][0], len(work.values), self.context
        context.seq = seq = work.seq + at
        returned: Any
        try:
            returned = handler(Run(seq, context.time, count), *columns[1:])
        except BaseException as error:
            returned = self._run_errors(error, name, commands)
        if yields:
            work.begun = _Begun(returned, commands, name, seq, at)
            return True
        if (late_s := self.clock() - self.until) >= SLOW_S:
            self.observer.on_slow(seq, name, count, late_s)
        if returned is NotImplemented:
            return False
        if returned is None:
            returned = [None] * count
        elif returned.__class__ is Alike:
            returned = [returned.value] * count
        elif not isinstance(returned, _SEQUENCES) or len(returned) != count:
            returned = [WrongRunOutcomes()] * count
        self._keep_all(returned, name, seq, work)
        return True

    def _go_on_with_run(self, work: _Work, begun: _Begun) -> bool:
        """Execute what is left of a run whose handler yields, at least one command; False: time is over."""
        values, append = work.values, work.values.append
        clock, until = self.clock, self.until
        count = len(begun.commands)
        try:
            if begun.outcomes is None:
                try:
                    first = next(begun.steps)
                except StopIteration as end:
                    work.begun = None
                    if end.value is NotImplemented:
                        work.todo.append((begun.commands, _REST))
                    else:
                        self._keep_all([WrongRunOutcomes()] * count, begun.name, begun.seq, work)
                    return True
                begun.outcomes = chain((first,), begun.steps)
            for value in islice(begun.outcomes, count - (len(values) - begun.at)):
                if value.__class__ in ATOMS:
                    append(value)
                else:
                    self._keep_all((value,), begun.name, work.seq + len(values), work)
                if (now := clock()) >= until:
                    if now - until >= SLOW_S:
                        self.observer.on_slow(work.seq + len(values) - 1, begun.name, 1, now - until)
                    return False
            wrong = len(values) - begun.at < count or next(begun.steps, begun) is not begun
            begun.steps.close()
        except BaseException as error:
            failed = self._run_errors(error, begun.name, begun.commands)
        else:
            failed = [WrongRunOutcomes()] * count if wrong else []
        work.begun = None
        if failed:
            del values[begun.at :]
            self._keep_all(failed, begun.name, begun.seq, work)
        return True

    def _run_errors(self, error: BaseException, name: str, commands: list[Any]) -> list[BaseException]:
        """The outcome of each command of a run whose handler raised."""
        if isinstance(error, KeyboardInterrupt) and not on_purpose(error):
            raise error
        if isinstance(error, MemoryError | RecursionError):
            raise self._halt_error(error, name, commands[0], len(commands)) from error
        return [error] * len(commands)

    def _keep_all(self, returned: Sequence[Any], name: str, seq: int, work: _Work) -> None:
        """Settle what came of commands of a run, the first of which is event `seq`."""
        values = work.values
        if ATOMS.issuperset(map(type, returned)):
            values += returned
            return
        reported = None
        for at, value in enumerate(returned, seq):
            if isinstance(value, BaseException) and value is not reported and not isinstance(value, Rejected):
                reported = value  # one that stands for all of them is told once
                self.observer.on_failed(at, name, value)
            values.append(value if value.__class__ in ATOMS else _settle_of_run(value, len(values), work.errors))

    def _why(self, error: BaseException, name: Any, command: Any) -> str:
        if isinstance(error, MemoryError | RecursionError):
            raise self._halt_error(error, name, command) from error
        traceback = error.__traceback__
        if traceback is None or traceback.tb_next is not None or isinstance(error, DecodeError):
            if name.__class__ is str and not isinstance(error, DecodeError):
                self.observer.on_failed(self.context.seq, name, error)
            return type(error).__name__
        # Raised by the call itself, not inside the handler: nothing of that name, or it doesn't take these arguments.
        if isinstance(error, TypeError) and isinstance(name, str) and name in self._handlers:
            return WRONG_ARITY
        self.observer.on_unknown(self.context.seq, name if command else None)
        return UNKNOWN_COMMAND

    def _halt_error(self, error: BaseException, name: object = None, command: Any = (), count: int = 1) -> Halted:
        called = f" of {described(name, command[1:])}" if isinstance(command, list) and command else ""
        more = f" and {count - 1} more in one run" if count > 1 else ""
        return Halted(
            f"event {self.context.seq}: {type(error).__name__}{called}{more}; other replicas may differ: "
            "correct the handler on all nodes, then start this one again"
        )


def described(name: object, args: Sequence[Any]) -> str:
    """A call in one short line, however large its arguments are."""
    brief = Repr()
    brief.maxlevel, brief.maxstring, brief.maxother, brief.maxlong = 2, 40, 40, 40
    try:
        shown = [brief.repr(arg) for arg in args[:DESCRIBED_ARGS_MAX]]
    except (MemoryError, RecursionError):
        shown = ["..."]
    more = ", ..." if len(args) > DESCRIBED_ARGS_MAX else ""
    line = f"{name}({', '.join(shown)}{more})"
    return line if len(line) <= DESCRIBED_CHARS_MAX else line[: DESCRIBED_CHARS_MAX - 3] + "..."


class WrongRunOutcomes(Exception):  # noqa: N818 - its name is what clients are told
    """A run handler gave something else than an outcome for each command: all of them failed with this name."""


_RunHandler = tuple[Callable[..., Any], bool, int, int, tuple[Any, ...]]
"""Whether it yields, its fewest and most arguments, the last ones' defaults."""


def _run_handlers(machine: StateMachine) -> dict[str, _RunHandler]:
    """By the names of their commands."""
    commands = machine.commands()
    return {
        name: (handler, inspect.isgeneratorfunction(handler), *commands[name], _defaults(getattr(machine, name)))
        for name, handler in ((name, getattr(machine, run)) for name, run in machine.runs().items())
    }


def _defaults(handler: Callable[..., Any]) -> tuple[Any, ...]:
    """Of the last arguments; of the handler that a decorator wraps, as its arity is."""
    given = [parameter.default for parameter in inspect.signature(handler).parameters.values()]
    return tuple(default for default in given if default is not inspect.Parameter.empty)


def _pieces(commands: list[Any]) -> list[tuple[list[Any], int]]:
    """The commands of a record, cut where a run must end, the last ones first.

    Where it is cut must depend on nothing but the record: a run handler that raises fails all of its run.
    """
    if len(commands) <= RUN_MAX:
        return [(commands, _PIECE)]
    starts = range((len(commands) - 1) // RUN_MAX * RUN_MAX, -1, -RUN_MAX)
    return [(commands[start : start + RUN_MAX], _PIECE) for start in starts]


def _columns(commands: list[Any]) -> list[tuple[Any, ...]] | None:
    """The commands' names and arguments as columns, if they all have one name and equally many arguments."""
    try:
        columns = list(zip(*commands, strict=True))
    except (TypeError, ValueError):
        return None
    if not columns or not LISTS.issuperset(map(type, commands)):
        return None
    names, name = columns[0], columns[0][0]
    return columns if name.__class__ is str and names.count(name) == len(names) else None


def _stretches(commands: list[Any]) -> list[list[Any]]:
    """The commands cut where their name changes, unless too few follow each other to be worth it."""
    try:
        names = list(map(_NAME, commands))
    except (TypeError, LookupError):
        return [commands]
    changes = list(map(ne, names, islice(names, 1, None)))
    if not 0 < sum(changes) <= len(commands) // RUN_MIN:
        return [commands]
    bounds = [0, *compress(count(1), changes), len(commands)]
    return [commands[start:end] for start, end in pairwise(bounds)]


def _freeze_value(value: Any, index: int, errors: Errors) -> Any:
    """The value as of now: a handler may return a part of its state, which the next event changes."""
    try:
        return settled(value)
    except (TypeError, ValueError, OverflowError):
        errors[index] = [FAILED, UNPACKABLE]
        return None


def _settle_of_run(value: Any, index: int, errors: Errors) -> Any:
    """As `_settle`; an exception stands for one that was raised."""
    if isinstance(value, Rejected):
        errors[index] = [REJECTED, rejection_text(value)]
    elif isinstance(value, BaseException):
        errors[index] = [FAILED, type(value).__name__]
    else:
        return _freeze_value(value, index, errors)
    return None
