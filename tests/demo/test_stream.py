"""The user's own file of commands: lazily read, bounded, and each error names its line."""

import io

import pytest

from mcast.demo import stream
from mcast.demo.stream import read_commands
from mcast.errors import DecodeError


def test_commands_are_read_in_order_and_blank_lines_passed_over() -> None:
    source = io.BytesIO(b'["set", "k", {"a": [1, null]}]\n\n  \r\n["size"]')
    assert list(read_commands(source)) == [("set", "k", {"a": [1, None]}), ("size",)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "not JSON"), (b'{"a": 1}', "not a command"), (b"[]", "not a command"), (b"[1]", "not a command"),
        (b'["a", NaN]', "not JSON: NaN"), (b"\xff", "not JSON"), (b"[" * 100_000, "not JSON"),
        (b'["a"' + b",1" * 33 + b"]", "more than 32 arguments"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_and_the_line(line: bytes, words: str) -> None:
    with pytest.raises(DecodeError) as error:
        list(read_commands(io.BytesIO(b'["fine"]\n\n' + line), "moves.jsonl"))
    assert str(error.value).startswith("moves.jsonl line 3: ") and words in str(error.value)


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LINE_BYTES_MAX", 20)
    assert list(read_commands(io.BytesIO(b'["a", "xxxxxxxxxx"]\n'))) == [("a", "x" * 10)]
    with pytest.raises(DecodeError, match=r"line 1: longer than 20 bytes"):
        list(read_commands(io.BytesIO(b'["a", "xxxxxxxxxxxxxxxxxx"]\n')))


def test_reading_is_lazy() -> None:
    commands = read_commands(io.BytesIO(b'["a"]\nbroken'))
    assert next(commands) == ("a",)
