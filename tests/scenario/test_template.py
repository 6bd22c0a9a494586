from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.scenario.template import EXPRESSION_CHARS_MAX, parse_command, parse_expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n", 1234), ("n%100", 34), ("n // 100", 12), ("(n+1)*2", 2470), ("7-n%5-1", 2), ("2+3*n", 3704),
        ("-n", -1234), ("10-(2-1)", 9), ("0", 0), (" n ", 1234),
    ],
)  # fmt: skip
def test_expressions_are_arithmetic_on_n(text: str, expected: int) -> None:
    assert parse_expression(text)(1234) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "m", "n n", "n%", "n%0", "n//0", "n%n", "n//(2)", "n**2", "n/2", "(n", "n)", "+", "n.real", "__import__",
        "1.5", "n;n", "n==1", "n" * (EXPRESSION_CHARS_MAX + 1), "9" * 19, "007", "\u0663",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_expression(text)


@given(st.text(alphabet="n0123456789+-*/%() ", max_size=20), st.integers(0, 10**6))
def test_what_is_accepted_means_what_python_means_by_it(text: str, number: int) -> None:
    try:
        value = parse_expression(text)
    except ValueError:
        return
    assert value(number) == eval(text.strip(), {"__builtins__": {}}, {"n": number})


def test_a_command_is_filled_in_at_every_depth() -> None:
    command = parse_command(["set", "k{n%3}-{n}", "{n+1}", {"a{n}": ["{n}", "{{n}}", 2.5, None, True]}])
    assert command(4) == ["set", "k1-4", 5, {"a4": [4, "{n}", 2.5, None, True]}]
    assert command(5)[1] == "k2-5"


def test_each_number_gets_values_of_its_own() -> None:
    command = parse_command(["append", "k", [1, 2]])
    assert command(0) == command(1) and command(0)[2] is not command(1)[2]


def test_braces_must_pair() -> None:
    for text in ("{", "a}", "{n", "{{n}"):
        with pytest.raises(ValueError, match="for a brace"):
            parse_command(["set", text])


def test_nesting_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ValueError, match="nested deeper"):
        parse_command(["set", deep])


def test_templates_are_functions_of_the_number_alone() -> None:
    command: Callable[[int], Any] = parse_command(["incr", "k{n%10}"])
    assert [command(number)[1] for number in (3, 13, 3)] == ["k3", "k3", "k3"]
