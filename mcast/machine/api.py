"""What the author of a state machine writes against: StateMachine, command, query, Rejected, Run.

A command's handler gets a Context first and may change the state; a query's handler gets only its arguments and must
not. Handlers are plain methods with positional parameters. Equal events must give equal states and equal returned
values on every replica: no clock, no randomness but `ctx.random`, no iteration over sets, no `hash()` or `id()`.
Nothing is rolled back when a handler raises: validate first, change afterwards.

A command may have a run handler besides, for speed alone: see `CommandMethod.run`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Concatenate, Final, ParamSpec, TypeVar, cast

from mcast.errors import Rejected
from mcast.limits import ARITY_MAX, NAME_BYTES_MAX
from mcast.machine.context import Context
from mcast.machine.runs import NOT_PLAIN, CommandMethod, Run, mark_run, runs_of

__all__ = ["CommandMethod", "Context", "Rejected", "Run", "StateMachine", "command", "query"]

Handler = Callable[..., Any]
Arity = tuple[int, int]
_H = TypeVar("_H", bound=Handler)
_M = TypeVar("_M")
_P = ParamSpec("_P")
_R = TypeVar("_R")

_MARK: Final = "__mcast_handler__"
_RESERVED: Final = frozenset({"snapshot", "restore", "schema", "version"})


def command(handler: Callable[Concatenate[_M, _P], _R]) -> CommandMethod[_M, _P, _R]:
    """Register a method `(self, ctx, *arguments)` as the command of its name.

    Raises:
        TypeError: keyword-only or ** parameters, no `ctx`, a coroutine or generator, or too many parameters.
    """
    marked = _mark(handler, "command", 2)
    setattr(marked, "run", partial(mark_run, marked))  # noqa: B010 - functions have no such attribute
    return cast("CommandMethod[_M, _P, _R]", marked)


def query(handler: _H) -> _H:
    """Register a method `(self, *arguments)` as the query of its name; it must not change the state.

    Raises:
        TypeError: as for `command`.
    """
    return _mark(handler, "query", 1)


class StateMachine:
    """Base of every replicated machine. Subclasses are made without arguments, once on each replica.

    `snapshot` gives the whole state as plain data (None, bool, int, float, str, bytes, list, tuple, dict), `restore`
    takes it back, with dicts in the same order. The defaults are the instance's attributes.
    """

    version: ClassVar[int] = 1
    _handlers: ClassVar[dict[str, tuple[str, Arity]]] = {}
    _runs: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._handlers = dict(cls._handlers)
        for name, attribute in vars(cls).items():
            mark = getattr(attribute, _MARK, None)
            known = cls._handlers.get(name)
            if mark is not None:
                if attribute.__name__ != name:
                    raise TypeError(f"{cls.__name__}.{name}: a handler is registered under its own name, not an alias")
                if known is not None and known[0] != mark[0]:
                    raise TypeError(f"{cls.__name__}.{name}: was a {known[0]} in a base class, is a {mark[0]} here")
                cls._handlers[name] = mark
            elif known is not None:
                raise TypeError(f"{cls.__name__}.{name}: overrides a {known[0]}; decorate it with @{known[0]} too")
        cls._runs = runs_of(cls, cls._runs)

    def snapshot(self) -> Any:
        """The whole state as plain data; the caller encodes it before the next event."""
        return dict(vars(self))

    def restore(self, data: Any) -> None:
        """Become the state that `snapshot` returned."""
        vars(self).clear()
        vars(self).update(data)

    @classmethod
    def commands(cls) -> dict[str, Arity]:
        """Command name -> (fewest, most) arguments, without `ctx`."""
        return {name: arity for name, (kind, arity) in sorted(cls._handlers.items()) if kind == "command"}

    @classmethod
    def queries(cls) -> dict[str, Arity]:
        """Query name -> (fewest, most) arguments."""
        return {name: arity for name, (kind, arity) in sorted(cls._handlers.items()) if kind == "query"}

    @classmethod
    def runs(cls) -> dict[str, str]:
        """Command name -> name of its run handler, of those that have one."""
        return dict(cls._runs)

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Plain data: {"version", "commands": {name: [fewest, most]}, "queries": {name: [fewest, most]}}."""
        return {
            "version": cls.version,
            "commands": {name: list(arity) for name, arity in cls.commands().items()},
            "queries": {name: list(arity) for name, arity in cls.queries().items()},
        }


def _mark(handler: _H, kind: str, own_parameters: int) -> _H:
    name = getattr(handler, "__name__", None)
    if name is None or not inspect.isfunction(handler):
        raise TypeError(f"@{kind} decorates a plain method, not {handler!r}")
    where = f"@{kind} {handler.__qualname__}"
    if name.startswith("_") or name in _RESERVED or len(name.encode()) > NAME_BYTES_MAX:
        raise TypeError(f"{where}: not a usable name; private, reserved ({', '.join(sorted(_RESERVED))}) or too long")
    if any(is_kind(handler) for is_kind in NOT_PLAIN):
        raise TypeError(f"{where}: must be a plain function; a handler finishes before the next event")
    setattr(handler, _MARK, (kind, _arity(handler, where, own_parameters)))
    return handler


def _arity(handler: Handler, where: str, own_parameters: int) -> Arity:
    fewest = most = 0
    unbounded = False
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            raise TypeError(f"{where}: parameter {parameter.name!r} is keyword-only; arguments are positional")
        if parameter.kind is parameter.VAR_POSITIONAL:
            unbounded = True
            continue
        most += 1
        fewest += parameter.default is parameter.empty
    if most < own_parameters:
        raise TypeError(f"{where}: takes {'(self, ctx, ...)' if own_parameters == 2 else '(self, ...)'}")
    if most - own_parameters > ARITY_MAX:
        raise TypeError(f"{where}: takes more than {ARITY_MAX} arguments")
    return max(0, fewest - own_parameters), ARITY_MAX if unbounded else most - own_parameters
