"""How every command ends: the exit codes, which error means which, and the one line an error is told in."""

from __future__ import annotations

import os
from enum import IntEnum

from mcast import errors


class ExitCode(IntEnum):
    """What a calling program can tell from the exit code alone."""

    OK = 0
    FINDING = 1
    """The command ran, and found something: a gap, a refusal, an outcome that is not ok."""
    USAGE = 2
    """The command line, the config or a command's name and arity cannot be used."""
    SILENCE = 3
    """Nobody answered in time."""
    ENVIRONMENT = 4
    """This machine refuses: a port, an interface, a folder, a permission."""
    BUG = 70
    INTERRUPTED = 130


_CODES: dict[type[BaseException], ExitCode] = {
    errors.ConfigError: ExitCode.USAGE,
    errors.EnvironmentProblem: ExitCode.ENVIRONMENT,
    errors.CorruptionError: ExitCode.ENVIRONMENT,
    errors.NotSent: ExitCode.SILENCE,
    errors.Unknown: ExitCode.SILENCE,
    errors.Refused: ExitCode.FINDING,
    errors.NotYet: ExitCode.FINDING,
    errors.QueryFailed: ExitCode.FINDING,
    errors.Gone: ExitCode.FINDING,
    errors.Halted: ExitCode.FINDING,
    errors.DecodeError: ExitCode.FINDING,
    OSError: ExitCode.ENVIRONMENT,
    KeyboardInterrupt: ExitCode.INTERRUPTED,
}


class Ended(errors.Error):
    """A command's own way to end with a code and a line other than its cause's."""

    def __init__(self, code: ExitCode, line: str) -> None:
        super().__init__(line)
        self.code = code


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code an error ends the program with; BUG for one nobody raised on purpose."""
    if isinstance(error, Ended):
        return error.code
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return ExitCode.BUG


def line_of(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, errors.ConfigError):
        text = str(error)
    elif isinstance(error, OSError) and error.errno is not None:
        where = f" {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
        text = f"{error.strerror or os.strerror(error.errno)}{':' if where else ''}{where}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
