"""Commands with a number in them: `["incr", "k{n%100}", 1]`, where n is the command's number, from 0.

    text       = any characters; {{ and }} stand for braces
    expression = sum of products of whole numbers, n and (expressions), with + - * and, by a plain number only, // and %

A string that is nothing but one expression, such as "{n+1}", becomes the number itself. Dividing by a plain number
only, no template can fail once it is parsed; nothing is ever evaluated as Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

EXPRESSION_CHARS_MAX: Final = 64  # also bounds the nesting of parentheses
DEPTH_MAX: Final = 16  # levels of lists and tables in one command

Template = Callable[[int], Any]
"""The value for command n."""

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_TOKEN: Final = re.compile(r"\s*(?:(0|[1-9][0-9]{0,17})|(n)|(//|[-+*%()]))", re.ASCII)


def parse_command(command: Sequence[Any]) -> Template:
    """A template of a command, [name, argument, ...].

    Raises:
        ValueError: not an expression, or one nested too deeply; says so in a few words.
    """
    return _parse(list(command), 0)


def _parse(value: Any, depth: int) -> Template:
    if depth > DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, list):
        items = [_parse(item, depth + 1) for item in value]
        return lambda n: [item(n) for item in items]
    if isinstance(value, dict):
        pairs = [(_parse_text(key), _parse(item, depth + 1)) for key, item in value.items()]
        return lambda n: {key(n): item(n) for key, item in pairs}
    return lambda n: value


def _parse_text(text: str) -> Template:
    parts: list[str | Template] = []
    for piece in _PIECE.finditer(text):
        whole = piece[0]
        if piece[1] is not None:
            parts.append(parse_expression(piece[1]))
        elif whole in ("{", "}"):
            raise ValueError(f"a lone {whole} in {text!r}; write {whole * 2} for a brace")
        else:
            parts.append(whole[0] if whole in ("{{", "}}") else whole)
    if len(parts) == 1 and callable(parts[0]):
        return parts[0]
    if not any(callable(part) for part in parts):
        plain = "".join(part for part in parts if isinstance(part, str))
        return lambda n: plain
    return lambda n: "".join([part if isinstance(part, str) else str(part(n)) for part in parts])


def parse_expression(text: str) -> Callable[[int], int]:
    """The expression as a function of n. Raises ValueError for anything else."""
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ValueError(f"an expression of over {EXPRESSION_CHARS_MAX} characters")
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        rest = text.rstrip()
        while rest:
            token = _TOKEN.match(rest)
            if token is None:
                raise self._problem()
            self._tokens.append(token[0].strip())
            rest = rest[token.end() :]
        self._tokens.reverse()

    def parse(self) -> Callable[[int], int]:
        value = self._sum()
        if self._tokens:
            raise self._problem()
        return value

    def _sum(self) -> Callable[[int], int]:
        value = self._product()
        while self._tokens and self._tokens[-1] in "+-":
            value = _joined(self._tokens.pop(), value, self._product())
        return value

    def _product(self) -> Callable[[int], int]:
        value = self._atom()
        while self._tokens and self._tokens[-1] in ("*", "//", "%"):
            operator = self._tokens.pop()
            if operator != "*" and not (self._tokens and self._tokens[-1].isdigit() and int(self._tokens[-1])):
                raise ValueError(f"{operator} in {{{self._text}}} wants a plain number above 0 behind it")
            value = _joined(operator, value, self._atom())
        return value

    def _atom(self) -> Callable[[int], int]:
        token = self._tokens.pop() if self._tokens else ""
        if token == "n":
            return lambda n: n
        if token.isdigit():
            number = int(token)
            return lambda n: number
        if token == "-":
            value = self._atom()
            return lambda n: -value(n)
        if token == "(":
            value = self._sum()
            if self._tokens and self._tokens.pop() == ")":
                return value
        raise self._problem()

    def _problem(self) -> ValueError:
        return ValueError(f"{{{self._text}}} is no sum of n and whole numbers, such as {{n%100}}")


def _joined(operator: str, left: Callable[[int], int], right: Callable[[int], int]) -> Callable[[int], int]:
    if operator == "+":
        return lambda n: left(n) + right(n)
    if operator == "-":
        return lambda n: left(n) - right(n)
    if operator == "*":
        return lambda n: left(n) * right(n)
    if operator == "%":
        return lambda n: left(n) % right(n)
    return lambda n: left(n) // right(n)
