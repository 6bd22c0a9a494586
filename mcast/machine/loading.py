"""Finds the class that a config or a command line names as "module:Class"."""

from __future__ import annotations

import importlib
import sys

from mcast.errors import ConfigError
from mcast.machine.api import StateMachine


def load_machine(spec: str, folder: str | None = None) -> type[StateMachine]:
    """The state machine named "module:Class"; `folder`, where the config lies, is put first on sys.path.

    Raises:
        ConfigError: it doesn't import, isn't there or isn't a StateMachine.
    """
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise ConfigError("machine", spec, "does not name a class", 'write "module:Class"')
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        where = f"put {module_name.partition('.')[0]}.py beside the config, or install it"
        raise ConfigError("machine", spec, f"no module named {error.name!r}", where) from error
    except (Exception, SystemExit) as error:
        problem = f"importing {module_name} raised {type(error).__name__}: {error}"
        raise ConfigError("machine", spec, problem, f"try: python -c 'import {module_name}'") from error
    found: object = module
    for part in class_name.split("."):
        found = getattr(found, part, None)
    if found is None:
        there = sorted(name for name, value in vars(module).items() if _is_machine(value)) or ["no state machine"]
        raise ConfigError("machine", spec, f"{module_name} has no {class_name}", f"there is: {', '.join(there)}")
    if not _is_machine(found):
        raise ConfigError("machine", spec, "is not a state machine", "derive it from mcast.StateMachine")
    assert isinstance(found, type)
    return found


def _is_machine(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, StateMachine) and value is not StateMachine
