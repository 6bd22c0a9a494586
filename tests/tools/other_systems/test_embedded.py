from multiprocessing import Pipe
from typing import Any, cast

import pytest

from tools.other_systems.crew import Crew
from tools.other_systems.embedded import Embedded, answer


class FakeCrew:
    submitted = 0

    def __init__(self, *heard: tuple[Any, ...]) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.heard = list(heard)

    def say(self, *message: object) -> None:
        self.said.append(message)

    def hear(self, index: int, word: str) -> tuple[Any, ...]:
        assert index == 2
        assert self.heard[0][0] == word
        return self.heard.pop(0)[1:]

    def wait_until_applied(self) -> float:
        return 14.0


def test_a_call_is_made_where_the_client_lives() -> None:
    crew = FakeCrew(("acknowledged", 10.0, 15.0), ("took", [0.5]))
    peer = Embedded(cast(Crew, crew), 2)
    flood = peer.flood(100, 12)
    assert flood == (5.0, 5.0), "applied is never before acknowledged"
    assert peer.submit_alone(1, 12) == [0.5]
    assert crew.said == [(2, "flood", 100, 12), (2, "alone", 1, 12)]
    assert crew.submitted == 101


@pytest.mark.parametrize(
    ("asked", "answered"), [(("flood", 5, 12), ("acknowledged", 5, 12)), (("alone", 5, 12), ("took", [5.0, 12.0]))]
)
def test_a_member_does_what_it_is_asked(asked: tuple[Any, ...], answered: tuple[Any, ...]) -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        ours.send(asked)
        answer(theirs, lambda count, size: (count, size), lambda count, size: [count, size])
        assert ours.recv() == answered
