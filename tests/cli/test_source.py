"""Commands from files and pipes."""

import os
import sys
from collections.abc import AsyncIterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from mcast.cli.source import CommandSource
from mcast.client.lines import LINE_BYTES_MAX
from mcast.client.packing import SLICE_COMMANDS
from mcast.errors import ConfigError


async def read(path: str) -> tuple[list[tuple[Any, ...]], str | None]:
    with CommandSource(path) as source:
        commands = await source.commands()
        if isinstance(commands, AsyncIterable):
            return [command async for command in commands], source.problem
        return list(commands), source.problem


async def test_a_file_gives_its_commands_and_skips_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('["a", 1]\n\n  \n["b"]\r\n["c"]')
    assert await read(str(tmp_path / "f")) == ([("a", 1), ("b",), ("c",)], None)


async def test_the_first_bad_line_ends_it_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('["a"]\n\n["b"]\nnope\n["c"]\n')
    commands, problem = await read(str(tmp_path / "f"))
    assert commands == [("a",), ("b",)]
    assert problem is not None
    assert problem.startswith(f"line 4 of {tmp_path / 'f'}: not JSON")


async def test_a_command_is_found_again_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('["a"]\n\n["b"]\n' * 3_000)
    with CommandSource(str(tmp_path / "f")) as source:
        commands = await source.commands()
        assert not isinstance(commands, AsyncIterable)
        assert len(list(islice(commands, 5_000))) == 5_000
        assert source.place(4_998) == f"line 7498 of {tmp_path / 'f'}"
        assert source.place(4_999 - 2 * SLICE_COMMANDS) == f"line {3 * (2_500 - SLICE_COMMANDS)} of {tmp_path / 'f'}"


async def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(LINE_BYTES_MAX + 10)
    commands, problem = await read(str(tmp_path / "f"))
    assert commands == []
    assert problem is not None
    assert "bytes" in problem


async def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        await read(str(tmp_path / "none"))


async def test_a_pipe_gives_commands_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    with os.fdopen(out) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with CommandSource("-") as source:
            commands = await source.commands()
            assert isinstance(commands, AsyncIterable)
            each = aiter(commands)
            os.write(into, b'["a", 1]\n["b"')
            assert await anext(each) == ("a", 1)
            os.write(into, b', 2]\n\n["c"]')
            assert await anext(each) == ("b", 2)
            os.close(into)
            assert await anext(each) == ("c",)
            assert [command async for command in each] == []
            assert source.problem is None
