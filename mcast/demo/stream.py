"""The user's own stream: a file of JSON lines, each a command ["name", argument, ...]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any, Final

from mcast.errors import DecodeError
from mcast.limits import ARITY_MAX, COMMAND_BYTES_MAX

LINE_BYTES_MAX: Final = COMMAND_BYTES_MAX  # bytes; JSON is seldom shorter than the packed command


def read_commands(source: IO[bytes], name: str = "input") -> Iterator[tuple[Any, ...]]:
    """The commands of a binary file, lazily; blank lines are passed over. `name` is what errors call the file.

    Raises:
        DecodeError: a line that is too long, not JSON, or not a list that begins with a name; says which.
    """
    number = 0
    while line := source.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise DecodeError(f"{name} line {number}", f"longer than {LINE_BYTES_MAX} bytes")
        if not line.strip():
            continue
        try:
            command = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"{name} line {number}", f"not JSON: {error}") from None
        if not isinstance(command, list) or not command or not isinstance(command[0], str):
            raise DecodeError(f"{name} line {number}", 'not a command; write ["name", argument, ...]')
        if len(command) > 1 + ARITY_MAX:
            raise DecodeError(f"{name} line {number}", f"more than {ARITY_MAX} arguments")
        yield tuple(command)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")
