"""Runs a record's commands against the machine: the one loop that is paid for every event on every replica."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import compress, count, islice, pairwise
from operator import itemgetter, ne
from typing import Any, Final

from mcast.errors import DecodeError, Halted, Rejected
from mcast.machine.api import StateMachine
from mcast.machine.commands import decode_commands_untrusted
from mcast.machine.context import Context
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
assert RUN_MIN <= FIXARRAY_MAX + 1, "what is decoded as a small record is too small for a run"
UNKNOWN_COMMAND: Final = "UnknownCommand"
WRONG_ARITY: Final = "WrongArity"


class Executor:
    """The machine's handlers and the one Context they all see. `runs` switches run handlers off only to compare."""

    def __init__(self, machine: StateMachine, *, runs: bool = True) -> None:
        self.context = Context()
        self._handlers: dict[str, Callable[..., Any]] = {name: getattr(machine, name) for name in machine.commands()}
        self._runs = _run_handlers(machine) if runs else {}

    def run(self, payload: bytes | memoryview, count: int, seq: int) -> bytes:
        """Execute the `count` commands of a record whose first event is `seq`; their outcomes, packed.

        Raises:
            Halted: a handler ran out of memory or stack, which need not happen on every replica alike.
        """
        try:
            commands = decode_commands_untrusted(payload, count)
        except DecodeError:
            return encode_failures(count, DecodeError.__name__)
        values: list[Any] = []
        errors: Errors = {}
        try:
            self._run_all(commands, seq, values, errors)
            return encode_outcomes(values, errors)
        except (MemoryError, RecursionError) as error:
            raise self._halted(error) from error

    def run_small_records(self, commands: list[Any], counts: Sequence[int], seq: int) -> list[bytes]:
        """Execute consecutive records of fewer than RUN_MIN decoded commands each; each one's outcomes, as `run` packs.

        Raises Halted as `run`.
        """
        values: list[Any] = []
        errors: Errors = {}
        try:
            self._run_each(commands, seq, values, errors)
            return encode_outcomes_of_each(values, errors, counts)
        except (MemoryError, RecursionError) as error:
            raise self._halted(error) from error

    def _run_all(self, commands: list[Any], seq: int, values: list[Any], errors: Errors) -> None:
        """Execute commands, stretches of one kind at once where there is a handler for that."""
        if len(commands) < RUN_MIN or not self._runs:
            self._run_each(commands, seq, values, errors)
        elif not self._run_at_once(commands, seq, values, errors):
            for stretch in _stretches(commands):
                first = seq + len(values)
                if stretch is commands or not self._run_at_once(stretch, first, values, errors):
                    self._run_each(stretch, first, values, errors)

    def _run_each(self, commands: list[Any], seq: int, values: list[Any], errors: Errors) -> None:
        """Execute commands one at a time; `values` and `errors` hold what came of those before them."""
        context = self.context
        handlers = self._handlers
        append = values.append
        name: Any = None
        for context.seq, command in enumerate(commands, seq):
            try:
                if command.__class__ is not list:
                    raise DecodeError("not a command")
                name = command[0]
                command[0] = context  # the list becomes the call's arguments: cheaper than slicing it
                value = handlers[name](*command)
                if value.__class__ not in ATOMS:
                    value = _settle(value, len(values), errors)
                append(value)
            except Rejected as rejected:
                errors[len(values)] = [REJECTED, rejection_text(rejected)]
                append(None)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                errors[len(values)] = [FAILED, self._why(error, name)]
                append(None)

    def _run_at_once(self, commands: list[Any], seq: int, values: list[Any], errors: Errors) -> bool:
        """As `_run_each`, through a run handler; False, and nothing done, where there is none or it declines."""
        if len(commands) < RUN_MIN or (columns := _columns(commands)) is None:
            return False
        found = self._runs.get(columns[0][0])
        if found is None:
            return False
        handler, fewest, most, defaults = found
        given, count = len(columns) - 1, len(commands)
        if not fewest <= given <= most:
            return False
        columns += [(default,) * count for default in defaults[given - most :] if given < most]
        context = self.context
        context.seq = seq
        returned: Any
        try:
            returned = handler(Run(seq, context.time, count), *columns[1:])
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, MemoryError | RecursionError):
                raise self._halted(error) from error
            returned = [error] * count
        if returned is NotImplemented:
            return False
        if returned is None:
            returned = [None] * count
        elif returned.__class__ is Alike:
            returned = [returned.value] * count
        elif not isinstance(returned, _SEQUENCES) or len(returned) != count:
            returned = [WrongRunOutcomes()] * count
        if ATOMS.issuperset(map(type, returned)):
            values += returned
        else:
            for value in returned:
                values.append(value if value.__class__ in ATOMS else _settle_of_run(value, len(values), errors))
        return True

    def _why(self, error: BaseException, name: Any) -> str:
        if isinstance(error, MemoryError | RecursionError):
            raise self._halted(error) from error
        traceback = error.__traceback__
        if traceback is None or traceback.tb_next is not None or isinstance(error, DecodeError):
            return type(error).__name__
        # Raised by the call itself, not inside the handler: nothing of that name, or it doesn't take these arguments.
        known = isinstance(error, TypeError) and isinstance(name, str) and name in self._handlers
        return WRONG_ARITY if known else UNKNOWN_COMMAND

    def _halted(self, error: BaseException) -> Halted:
        return Halted(f"event {self.context.seq}: {type(error).__name__}; other replicas may differ")


class WrongRunOutcomes(Exception):  # noqa: N818 - its name is what clients are told
    """A run handler returned something else than an outcome for each command: all of them failed with this name."""


_RunHandler = tuple[Callable[..., Any], int, int, tuple[Any, ...]]  # fewest and most arguments, the last ones' defaults


def _run_handlers(machine: StateMachine) -> dict[str, _RunHandler]:
    """By the names of their commands."""
    commands = machine.commands()
    return {
        name: (getattr(machine, run), *commands[name], _defaults(getattr(machine, name)))
        for name, run in machine.runs().items()
    }


def _defaults(handler: Callable[..., Any]) -> tuple[Any, ...]:
    """Of the last arguments; of the handler that a decorator wraps, as its arity is."""
    given = [parameter.default for parameter in inspect.signature(handler).parameters.values()]
    return tuple(default for default in given if default is not inspect.Parameter.empty)


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


def _settle(value: Any, index: int, errors: Errors) -> Any:
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
        return _settle(value, index, errors)
    return None
