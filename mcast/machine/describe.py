"""A machine in words: its commands and queries, their arguments and docstrings."""

from __future__ import annotations

import inspect
from typing import Final

from mcast.documents import ArgumentDescription, HandlerDescription, MachineDescription
from mcast.machine.api import Arity, StateMachine

DOC_MAX: Final = 2_000  # characters of a docstring; a report holds those of hundreds of handlers
WORDS_MAX: Final = 200  # characters of a type or a default


def describe(machine: type[StateMachine], spec: str) -> MachineDescription:
    """The machine that a config names `spec`."""
    own = machine.__doc__ if machine.__doc__ != StateMachine.__doc__ else None
    return {
        "machine": spec,
        "version": machine.version,
        "doc": _doc(own),
        "commands": [_handler(machine, name, arity, 2) for name, arity in machine.commands().items()],
        "queries": [_handler(machine, name, arity, 1) for name, arity in machine.queries().items()],
    }


def shown_arguments(handler: HandlerDescription) -> str:
    """The arguments as in a signature."""
    return ", ".join(map(_shown, handler["arguments"]))


def _shown(argument: ArgumentDescription) -> str:
    words = ("*" if argument["many"] else "") + argument["name"]
    if argument["type"] is not None:
        words += f": {argument['type']}"
    if argument["default"] is not None:
        words += f" = {argument['default']}" if argument["type"] is not None else f"={argument['default']}"
    return words


def _handler(machine: type[StateMachine], name: str, arity: Arity, own: int) -> HandlerDescription:
    """`own` are the parameters that are no arguments: self and, of a command, ctx."""
    handler = getattr(machine, name)
    signature = inspect.signature(handler)
    return {
        "name": name,
        "arguments": [_argument(parameter) for parameter in list(signature.parameters.values())[own:]],
        "least": arity[0],
        "most": arity[1],
        "returns": _annotation(signature.return_annotation),
        "doc": _doc(handler.__doc__),
    }


def _argument(parameter: inspect.Parameter) -> ArgumentDescription:
    many = parameter.kind is parameter.VAR_POSITIONAL
    required = parameter.default is parameter.empty
    return {
        "name": parameter.name,
        "type": _annotation(parameter.annotation),
        "required": required and not many,
        "default": None if required else _repr(parameter.default),
        "many": many,
    }


def _annotation(annotation: object) -> str | None:
    if annotation is inspect.Parameter.empty:
        return None
    words = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return words[:WORDS_MAX]


def _repr(value: object) -> str:
    try:
        return repr(value)[:WORDS_MAX]
    except Exception:
        return f"<{type(value).__name__}>"


def _doc(doc: str | None) -> str | None:
    return inspect.cleandoc(doc)[:DOC_MAX] if doc else None
