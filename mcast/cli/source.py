"""Commands from a file or from stdin, one JSON list a line, read as fast as they can be sent and no faster."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, Final

from mcast.client.lines import LINE_BYTES_MAX, parse_command_line
from mcast.errors import ConfigError

_READ_BYTES: Final = 64 << 10
_LINES_KEPT: Final = 4_096  # a refused command is of the slice being sent, and at most one more is read meanwhile

Command = tuple[Any, ...]


class CommandSource:
    """A context manager around a file's path, or `-` for stdin. Blank lines are skipped.

    The first line that is no command ends the stream; `problem` then says which and why.
    """

    def __init__(self, path: str) -> None:
        self.problem: str | None = None
        self._path = path
        self._file: BinaryIO | None = None
        self._line = 0
        self._commands = 0
        self._lines: deque[int] = deque(maxlen=_LINES_KEPT)

    def __enter__(self) -> CommandSource:
        if self._path == "-":
            if sys.stdin is None:
                raise ConfigError("--from", "-", "stdin is closed", "name a readable file, or give it something")
            self._file = sys.stdin.buffer
            return self
        try:
            self._file = open(self._path, "rb")
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            raise ConfigError("--from", self._path, problem, "name a readable file, or `-` for stdin") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._path != "-":
            self._file.close()

    def place(self, index: int) -> str:
        """Where the command of this number, from 0, stands; it must be one of the last some thousand read."""
        return self._place(self._lines[index - self._commands])

    async def commands(self) -> Iterable[Command] | AsyncIterable[Command]:
        """A plain iterable of a file; an asynchronous one of a pipe or terminal, which may keep us waiting."""
        assert self._file is not None, "enter the context first"
        loop, descriptor = asyncio.get_running_loop(), self._file.fileno()
        try:
            loop.add_reader(descriptor, lambda: None)
        except OSError:  # epoll takes no regular files: those never block
            return self._from_file(self._file)
        loop.remove_reader(descriptor)
        return self._from_pipe(descriptor)

    def _from_file(self, file: BinaryIO) -> Iterator[Command]:
        while line := file.readline(LINE_BYTES_MAX + 1):
            command = self._parse(line)
            if self.problem is not None:
                return
            if command is not None:
                yield command

    async def _from_pipe(self, descriptor: int) -> AsyncIterator[Command]:
        loop, rest = asyncio.get_running_loop(), b""
        readable = asyncio.Event()

        def on_readable() -> None:
            """Once a read: told again of what was read meanwhile, the next read would block, and all else with it."""
            loop.remove_reader(descriptor)
            readable.set()

        try:
            while True:
                loop.add_reader(descriptor, on_readable)
                await readable.wait()
                readable.clear()
                data = os.read(descriptor, _READ_BYTES)
                *lines, rest = (rest + data).split(b"\n") if data else [rest, b""]
                if len(rest) > LINE_BYTES_MAX:
                    lines.append(rest)
                for line in lines:
                    command = self._parse(line)
                    if self.problem is not None:
                        return
                    if command is not None:
                        yield command
                if not data:
                    return
        finally:
            loop.remove_reader(descriptor)

    def _parse(self, line: bytes) -> Command | None:
        """The line's command; None for a blank one, and for a bad one, which `problem` then explains."""
        self._line += 1
        if not line.strip():
            return None
        try:
            command = parse_command_line(line)
        except ValueError as error:
            self.problem = f"{self._place(self._line)}: {error}"
            return None
        self._commands += 1
        self._lines.append(self._line)
        return command

    def _place(self, line: int) -> str:
        return f"line {line} of {'stdin' if self._path == '-' else self._path}"
