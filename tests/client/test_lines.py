"""Files of commands: lazily read, bounded, and each error names its line."""

import io
import json

import pytest

from mcast.client import lines
from mcast.client.lines import parse_command_line, read_commands
from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX


def test_commands_are_read_in_order_and_blank_lines_passed_over() -> None:
    source = io.BytesIO(b'["set", "k", {"a": [1, null]}]\n\n  \r\n["size"]')
    assert list(read_commands(source)) == [(1, ("set", "k", {"a": [1, None]})), (4, ("size",))]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "not JSON"), (b"{", "not JSON"), (b'["a"', "not JSON"), (b"5", "not a list"), (b'{"a": 1}', "not a list"),
        (b"[]", "not a list"), (b"[1]", "not a list"), (b'["a", NaN]', "not JSON: NaN"), (b"\xff", "not JSON"),
        (b'["a", 1e400]', "1e400 is too large"), (b'["a", {"b": [-1e400]}]', "-1e400 is too large"),
        (b'["a", {"b": [-Infinity]}]', "not JSON: -Infinity"), (b"[" * 100_000, "nested too deeply"),
        (b'["a", ' + b"9" * 5_000 + b"]", "not JSON"),
    ],
    ids=lambda value: value[:9],
)  # fmt: skip
def test_a_line_that_is_no_command_says_so(line: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_command_line(line)


def test_an_error_names_the_line() -> None:
    with pytest.raises(DecodeError, match=r"^line 3: not a list"):
        list(read_commands(io.BytesIO(b'["fine"]\n\n{}')))


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 20)
    assert list(read_commands(io.BytesIO(b'["a", "xxxxxxxxxx"]\n'))) == [(1, ("a", "x" * 10))]
    with pytest.raises(DecodeError, match=r"line 1: over 20 bytes"):
        list(read_commands(io.BytesIO(b'["a", "xxxxxxxxxxxxxxxxxx"]\n')))


def test_the_largest_command_fits_however_it_is_escaped() -> None:
    command = ("set", "k", "\x01" * (COMMAND_BYTES_MAX - 100))
    assert next(read_commands(io.BytesIO(json.dumps(command).encode()))) == (1, command)


def test_reading_is_lazy() -> None:
    commands = read_commands(io.BytesIO(b'["a"]\nbroken'))
    assert next(commands) == (1, ("a",))


@pytest.mark.parametrize(
    ("line", "column"),
    [(b'["a", 1, nope]\n', 10), (b'["set", "k",\n', 13), (b'["set", "k",\r\n', 13), (b'["set", }', 9)],
)
def test_what_is_no_json_is_told_with_its_column(line: bytes, column: int) -> None:
    with pytest.raises(ValueError, match=rf"not JSON: Expecting value, column {column}$"):
        parse_command_line(line)
