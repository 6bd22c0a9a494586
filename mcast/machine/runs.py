"""Run handlers: a command's second handler, which takes consecutive commands of its kind together, for speed.

An author's is a generator: it yields what came of one command after the other, and between two of them the node may do
something else. So however long it takes, it holds nothing up for longer than one command does, and nothing of the
outcome hangs on where it was left waiting.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, ParamSpec, Protocol, TypeVar, overload

Handler = Callable[..., Any]
_H = TypeVar("_H", bound=Handler)
_M_contra = TypeVar("_M_contra", contravariant=True)
_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)

NOT_PLAIN: Final = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_MARK: Final = "__mcast_run_of__"


class Alike(NamedTuple):
    """Every command of a run came to the same: what a handler that was registered by `at_once` may return."""

    value: Any


class Run:
    """What a run handler may know besides its columns and the state. It draws nothing: draws belong to one event."""

    __slots__ = ("count", "seq", "time")

    def __init__(self, seq: int, time: int, count: int) -> None:
        self.seq: Final = seq
        """The first event's number; the others follow without holes."""
        self.time: Final = time
        """As `Context.time`, for all of them."""
        self.count: Final = count
        """How many commands there are: the length of every column."""


class CommandMethod(Protocol[_M_contra, _P, _R_co]):
    """A command's handler: the method as it was written, and a decorator `run`."""

    def __call__(self, machine: _M_contra, /, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...  # noqa: D102

    @overload
    def __get__(self, machine: None, cls: type, /) -> CommandMethod[_M_contra, _P, _R_co]: ...
    @overload
    def __get__(self, machine: object, cls: type, /) -> Callable[_P, _R_co]: ...

    def run(self, handler: _H, /) -> _H:
        """Register a generator method `(self, run, *columns)` that takes consecutive commands of this name together.

        A column is a tuple with one argument of each command, defaults filled in. `run` is a `Run`. It must do just
        what the commands one after the other would, and yields what came of each, in order: its value, or in its place
        the exception that it would have raised. What a command does is done before its outcome is yielded, for other
        things may be done at the node then. `return NotImplemented`, before it changed or yielded anything, has them
        run one at a time.

        Raising fails (or rejects) all of them alike. Whether commands come in a run is not the author's to know.

        Raises:
            TypeError: not a generator method of another name with a column for each argument; or * arguments.
        """


def at_once(of: Handler) -> Callable[[_H], _H]:
    """As `CommandMethod.run`, for a plain method that nothing interrupts: for built-in machines alone.

    RUN_MAX of its commands take no longer than one slow command of somebody else's may, whatever their arguments. It
    returns a list with an outcome for each, None or `Alike` for outcomes that are the same, or NotImplemented.
    """
    return partial(_register, of)


def mark_run(of: Handler, handler: _H) -> _H:
    """What `CommandMethod.run` does, for the command `of`."""
    if not inspect.isgeneratorfunction(handler):
        raise TypeError(
            f"@{of.__name__}.run decorates a generator method, not {handler!r}: it yields what came of each command"
        )
    return _register(of, handler)


def _register(of: Handler, handler: _H) -> _H:
    name = getattr(handler, "__name__", None)
    where = f"@{of.__name__}.run {getattr(handler, '__qualname__', name)}"
    if name == of.__name__:
        raise TypeError(f"{where}: needs a name of its own")
    wanted = list(inspect.signature(of).parameters.values())
    columns = list(inspect.signature(handler).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in wanted):
        raise TypeError(f"{where}: {of.__name__} takes any number of arguments, a run a column for each")
    if len(columns) != len(wanted) or any(
        one.kind not in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in columns
    ):
        raise TypeError(f"{where}: takes (self, run) and {len(wanted) - 2} columns, as {of.__name__} has arguments")
    setattr(handler, _MARK, of)
    return handler


def runs_of(cls: type, inherited: dict[str, str]) -> dict[str, str]:
    """Command name -> its run handler's name; not inherited where this class redefines the command."""
    own = vars(cls)
    runs = {name: run for name, run in inherited.items() if name not in own}
    for name, attribute in own.items():
        of: Handler | None = getattr(attribute, _MARK, None)
        where = f"{cls.__name__}.{name}"
        if of is None:
            if name in runs.values():
                raise TypeError(f"{where}: overrides a run handler; decorate it with @COMMAND.run too")
            continue
        command = of.__name__
        if getattr(cls, command, None) is not of:
            raise TypeError(f"{where}: is for another {command} than this class has")
        if runs.get(command, name) != name and runs[command] in own:
            raise TypeError(f"{where}: {command} has the run handler {runs[command]} already")
        runs[command] = name
    return runs
