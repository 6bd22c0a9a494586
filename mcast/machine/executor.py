"""Runs a record's commands against the machine: the one loop that is paid for every event on every replica."""

from __future__ import annotations

from collections.abc import Callable
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
    rejection_text,
    settled,
)

_ATOMS: Final = frozenset({int, str, bool, type(None), float, bytes})
UNKNOWN_COMMAND: Final = "UnknownCommand"
WRONG_ARITY: Final = "WrongArity"


class Executor:
    """The machine's command handlers and the one Context they all see."""

    def __init__(self, machine: StateMachine) -> None:
        self.context = Context()
        self._handlers: dict[str, Callable[..., Any]] = {name: getattr(machine, name) for name in machine.commands()}

    def run(self, payload: bytes | memoryview, count: int, seq: int) -> bytes:
        """Execute the `count` commands of a record whose first event is `seq`; their outcomes, packed.

        Raises:
            Halted: a handler ran out of memory or stack, which need not happen on every replica alike.
        """
        try:
            commands = decode_commands_untrusted(payload, count)
        except DecodeError:
            return encode_failures(count, DecodeError.__name__)
        context = self.context
        handlers = self._handlers
        values: list[Any] = []
        errors: Errors = {}
        append = values.append
        name: Any = None
        for context.seq, command in enumerate(commands, seq):
            try:
                if command.__class__ is not list:
                    raise DecodeError("not a command")
                name = command[0]
                command[0] = context  # the list becomes the call's arguments: cheaper than slicing it
                value = handlers[name](*command)
                if value.__class__ not in _ATOMS:
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
        return encode_outcomes(values, errors)

    def _why(self, error: BaseException, name: Any) -> str:
        if isinstance(error, MemoryError | RecursionError):
            raise Halted(f"event {self.context.seq}: {type(error).__name__}; other replicas may differ") from error
        traceback = error.__traceback__
        if traceback is None or traceback.tb_next is not None or isinstance(error, DecodeError):
            return type(error).__name__
        # Raised by the call itself, not inside the handler: nothing of that name, or it doesn't take these arguments.
        known = isinstance(error, TypeError) and isinstance(name, str) and name in self._handlers
        return WRONG_ARITY if known else UNKNOWN_COMMAND


def _settle(value: Any, index: int, errors: Errors) -> Any:
    """The value as of now: a handler may return a part of its state, which the next event changes."""
    try:
        return settled(value)
    except (TypeError, ValueError, OverflowError):
        errors[index] = [FAILED, UNPACKABLE]
        return None
