"""The questions that every replica is asked at the end, and the comparison of what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

Question = tuple[str, tuple[Any, ...]]
"""A query's name and its arguments."""


def minute_of(moment: str) -> int:
    """Whole minutes since 1970 of an ISO time with its offset, "2013-07-04T18:00-04:00" say. Raises ValueError."""
    when = datetime.fromisoformat(moment)
    if when.tzinfo is None:
        raise ValueError(f"{moment} lacks an offset from UTC")
    return int(when.timestamp()) // 60


QUESTIONS: Final[tuple[tuple[str, Question], ...]] = (
    ("in the air on 4 July 2013, 6 pm in New York", ("in_the_air", (minute_of("2013-07-04T18:00-04:00"),))),
    ("in the air on 8 February 2013, 6 pm (a blizzard)", ("in_the_air", (minute_of("2013-02-08T18:00-05:00"),))),
    ("in the air at the end", ("in_the_air", ())),
    ("mean departure delay by carrier", ("mean_departure_delay", ())),
    ("busiest routes", ("busiest_routes", (10,))),
    ("LaGuardia's board", ("board", ("LGA", 10))),
    ("totals", ("totals", ())),
)
"""(what it asks, in words; the question)."""


class Difference(NamedTuple):
    """One answer that is not the expected one. `words` is the question's."""

    who: str
    words: str
    answer: Any
    expected: Any


def questions_for(newest: int) -> tuple[tuple[str, Question], ...]:
    """The questions about minutes up to `newest`: a machine told of a part of the year refuses others."""
    return tuple(
        (words, (name, args))
        for words, (name, args) in QUESTIONS
        if name != "in_the_air" or not args or args[0] <= newest
    )


def differences(
    questions: Sequence[tuple[str, Question]], expected: Sequence[Any], answers: Mapping[str, Sequence[Any]]
) -> list[Difference]:
    """Every answer that differs from the expected one; `answers` maps who answered to answers in the questions' order.

    Lists and tuples are the same here: answers may have come through msgpack or JSON.
    """
    return [
        Difference(who, words, answer, right)
        for who, given in answers.items()
        for (words, _), right, answer in zip(questions, expected, given, strict=True)
        if _plain(answer) != _plain(right)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
