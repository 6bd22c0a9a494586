"""Commands as lines of JSON, `["name", arg, ...]` each: what files and pipes give."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import IO, Any, Final, NoReturn

from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX

LINE_BYTES_MAX: Final = 8 * COMMAND_BYTES_MAX  # bytes; JSON escapes may need six for one


class OutOfRangeError(ValueError):
    """A number that JSON can say and no float can hold: it would turn into infinity."""


def parse_command_line(line: bytes) -> tuple[Any, ...]:
    """One line as (name, arg, ...). Of a file, read at most LINE_BYTES_MAX + 1 bytes for it.

    Raises:
        ValueError: anything else; the message says what is wrong, in a few words.
    """
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"over {LINE_BYTES_MAX} bytes")
    try:
        command = json.loads(line, parse_constant=refuse_constant, parse_float=finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        column = len(error.doc[: error.pos].rstrip("\r\n")) + 1  # a line that breaks off does so at its end
        raise ValueError(f"not JSON: {error.msg}, column {column}") from None
    except OutOfRangeError:
        raise
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(command, list) or not command or not isinstance(command[0], str):
        raise ValueError('not a list that begins with a name, such as ["set", "k", 1]')
    return tuple(command)


def read_commands(source: IO[bytes]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """The commands of a binary file, lazily, each with its line's number from 1; blank lines are passed over.

    Raises:
        DecodeError: a line that is no command; says which.
    """
    for number, line in enumerate(iter(lambda: source.readline(LINE_BYTES_MAX + 1), b""), 1):
        if line.strip():
            try:
                command = parse_command_line(line)
            except ValueError as error:
                raise DecodeError(f"line {number}", str(error)) from None
            yield number, command


def finite(number: str) -> float:
    """For `json.loads`: a float. Raises OutOfRangeError."""
    value = float(number)
    if math.isinf(value):
        shown = number if len(number) <= 20 else number[:17] + "..."
        raise OutOfRangeError(f"the number {shown} is too large for a float; as text, put it in quotes")
    return value


def refuse_constant(constant: str) -> NoReturn:
    """For `json.loads`: NaN and Infinity are not JSON. Raises ValueError."""
    raise ValueError(f"{constant} is not JSON")
