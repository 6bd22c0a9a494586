"""Command-line words as arguments of commands and queries: JSON where it is JSON, else a string.

`-1` is an argument here, and yet a misspelled option is an error and not one more argument.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Final

import typer
from typer.core import TyperCommand

from mcast.cli.exits import Ended, ExitCode
from mcast.client.lines import OutOfRangeError, finite, refuse_constant

_NUMBER: Final = re.compile(r"-\.?\d")

COMMAND_CONTEXT: Final = {"ignore_unknown_options": True}


class WordsCommand(TyperCommand):
    """A command whose words may be negative numbers, with options before, between or after them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As any command does, then refuse what looks like an option, is none, and stands before `--`."""
        before = args[: args.index("--")] if "--" in args else list(args)
        rest = super().parse_args(ctx, args)
        words = [ctx.params.get("name"), *(ctx.params.get("arguments") or ())]
        for word in words:
            if isinstance(word, str) and is_option(word) and word in before:
                raise typer.BadParameter(
                    f"no such option; if it is an argument, put `--` before it: mcast {ctx.info_name} ... -- {word}",
                    ctx=ctx,
                    param_hint=word,
                )
        return rest


def is_option(word: str) -> bool:
    """Whether a word is written like an option: a dash and more, and not a negative number."""
    return word.startswith("-") and len(word) > 1 and not _NUMBER.match(word)


def parse_argument(word: str) -> Any:
    """The value a word stands for: JSON (without NaN and Infinity), else the word itself.

    Ends the program at a number that would turn into infinity, at NaN or an infinity inside of JSON, and at bytes that
    are no UTF-8.
    """
    word = as_typed(word)
    try:
        return json.loads(word, parse_constant=refuse_constant, parse_float=finite)
    except OutOfRangeError as error:
        raise Ended(ExitCode.USAGE, str(error)) from None
    except (ValueError, RecursionError):
        if word.lstrip()[:1] in ("[", "{") and _holds_constant(word):
            raise Ended(ExitCode.USAGE, f"{_short(word)}: NaN and Infinity are not JSON; as text, quote it") from None
        return word


def _holds_constant(word: str) -> bool:
    """Whether NaN or an infinity is all that keeps this from being JSON."""
    try:
        json.loads(word)
    except (ValueError, RecursionError):
        return False
    return True


def as_typed(word: str) -> str:
    """The word as it was typed, where the locale (POSIX) knows ASCII only: terminals send UTF-8. Not for paths."""
    try:
        word.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(word).decode()
        except UnicodeError:
            raise Ended(ExitCode.USAGE, f"{_short(word)!a}: this argument is not UTF-8") from None
    return word


def _short(word: str) -> str:
    return word if len(word) <= 60 else word[:57] + "..."
