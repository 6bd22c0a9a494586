"""Words of a command line as arguments."""

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from mcast.cli.arguments import COMMAND_CONTEXT, WordsCommand, parse_argument
from mcast.cli.exits import Ended, ExitCode


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("5", 5),
        ("-1", -1),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("hello", "hello"),
        ("", ""),
        ("01", "01"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5_000, "9" * 5_000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_word_is_json_or_itself(word: str, value: Any) -> None:
    assert parse_argument(word) == value


@pytest.mark.parametrize(
    "word", ["1e400", "-1e400", "[1e400]", '{"a": [-1.5e999]}', "[NaN]", '{"a": -Infinity}', "9" * 400 + ".0"],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_no_word_turns_into_infinity(word: str) -> None:
    with pytest.raises(Ended) as ended:
        parse_argument(word)
    assert ended.value.code == ExitCode.USAGE


def test_text_that_only_looks_like_it_is_text() -> None:
    assert [parse_argument(word) for word in ('"1e400"', "[see NaN]", "1e308")] == ["1e400", "[see NaN]", 1e308]


def test_a_word_in_utf8_is_read_as_such_whatever_the_locale() -> None:
    typed = "käse 東".encode().decode("ascii", "surrogateescape")
    assert parse_argument(typed) == "käse 東"
    assert parse_argument("käse") == "käse"
    with pytest.raises(Ended, match="not UTF-8"):
        parse_argument("\udcff")


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    seen: list[object] = []

    @app.command(cls=WordsCommand, context_settings=COMMAND_CONTEXT)
    def submit(
        name: Annotated[str, typer.Argument()],
        arguments: Annotated[list[str] | None, typer.Argument()] = None,
        config: Annotated[str, typer.Option("-c", "--config")] = "lab.toml",
        at: Annotated[str | None, typer.Option("--at")] = None,
    ) -> None:
        seen.extend([name, arguments or [], config, at])

    result = CliRunner().invoke(app, list(words))
    return result.exit_code, repr(seen) if result.exit_code == 0 else result.output


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["incr", "k", "-1"], "['incr', ['k', '-1'], 'lab.toml', None]"),
        (["incr", "k", "-1", "-c", "f"], "['incr', ['k', '-1'], 'f', None]"),
        (["-c", "f", "incr", "k", "-1.5e3", "--at", "n2"], "['incr', ['k', '-1.5e3'], 'f', 'n2']"),
        (["incr", "--at=n2", "-.5", "-c", "f"], "['incr', ['-.5'], 'f', 'n2']"),
        (["set", "k", "-"], "['set', ['k', '-'], 'lab.toml', None]"),
        (["set", "--", "k", "--x", "-c"], "['set', ['k', '--x', '-c'], 'lab.toml', None]"),
        (["-c", "-1", "size"], "['size', [], '-1', None]"),
    ],
)
def test_options_stand_before_or_after_arguments_and_numbers_are_arguments(words: list[str], seen: str) -> None:
    assert run(*words) == (0, seen)


@pytest.mark.parametrize("word", ["--x", "-x", "--aat", "-Infinity"])
def test_a_misspelled_option_is_no_argument(word: str) -> None:
    code, output = run("set", "k", word)
    assert code == 2
    assert word in output
    assert "--" in output
