"""The machine of flights, step by step; and its answers against those computed straight from the table."""

from bisect import bisect_right
from collections import Counter
from typing import Any

import pytest

from mcast.demo.events import flight_commands
from mcast.demo.flights import BOARD_MAX, LOST_AFTER, Flights
from mcast.demo.independent import Independent
from mcast.demo.questions import QUESTIONS, differences, questions_for
from mcast.errors import QueryFailed
from mcast.machine.canonical import decode_plain, encode_ordered
from mcast.machine.rehearsal import Rehearsal


@pytest.fixture
def tower() -> Rehearsal:
    return Rehearsal(Flights())


def departed(flight: int, at: int, *, carrier: str = "UA", route: str = "EWR-IAH", delay: int = 0) -> tuple[Any, ...]:
    return ("departed", flight, at, carrier, flight, *route.split("-"), delay)


def test_who_is_in_the_air_now_and_at_any_minute_before(tower: Rehearsal) -> None:
    outcomes = tower.run([departed(1, 100), departed(2, 100), ("landed", 1, 103), departed(3, 105)])
    assert [outcome.value for outcome in outcomes] == [1, 2, 1, 2]
    assert [tower.query("in_the_air", at) for at in range(98, 106)] == [0, 0, 2, 2, 2, 1, 1, 2]
    assert tower.query("in_the_air") == 2
    with pytest.raises(QueryFailed, match="newest event is of minute 105"):
        tower.query("in_the_air", 106)


def test_a_flight_never_heard_of_again_leaves_the_air_a_day_later(tower: Rehearsal) -> None:
    tower.run([departed(1, 100), departed(2, 100 + LOST_AFTER + 5)])
    air = [tower.query("in_the_air", 100 + LOST_AFTER + offset) for offset in (-1, 0, 4, 5)]
    assert air == [1, 0, 0, 1]
    assert tower.query("totals") == {
        "departed": 2, "landed": 0, "cancelled": 0, "lost": 1, "in_the_air": 1, "now": 105 + LOST_AFTER,
    }  # fmt: skip


def test_a_landing_too_late_is_refused_and_one_in_time_is_not(tower: Rehearsal) -> None:
    tower.run([departed(1, 100), departed(2, 100)])
    outcomes = tower.run([("landed", 1, 99 + LOST_AFTER), ("landed", 2, 100 + LOST_AFTER)])
    assert [outcome.kind for outcome in outcomes] == ["ok", "rejected"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (departed(1, 99), "time goes back"), (departed(1, 100), "already in the air"),
        (("landed", 9, 100), "not in the air"), (departed(2, 1 << 40), "beyond the history"),
        (departed(2, 100, route="E W-R"), "not a code"), (departed(2, 100, carrier="TOOLONGCODE"), "not a code"),
        (("departed", 2, 100.0, "UA", 1, "EWR", "IAH", 0), "not whole numbers"),
        (("cancelled", 1, 100, "UA", 1, "EWR", "IAH"), "already in the air"),
        (departed(True, 100), "not whole numbers"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_rejected_and_changes_nothing(
    tower: Rehearsal, command: tuple[Any, ...], why: str
) -> None:
    tower.run([departed(1, 100)])
    before = encode_ordered(tower.engine.machine.snapshot())
    [outcome] = tower.run([command])
    assert outcome.kind == "rejected" and why in (outcome.error or "")
    assert encode_ordered(tower.engine.machine.snapshot()) == before


def test_boards_show_the_newest_movements_first_and_stay_bounded(tower: Rehearsal) -> None:
    tower.run([departed(1, 10, delay=3), ("cancelled", 2, 11, "B6", 2, "IAH", "JFK"), ("landed", 1, 12)])
    assert tower.query("board", "IAH") == [[12, "landed", "UA1", "EWR", None], [11, "cancelled", "B62", "JFK", None]]
    assert tower.query("board", "EWR", 1) == [[10, "departed", "UA1", "IAH", 3]]
    assert tower.query("board", "ZZZ") == []
    tower.run([departed(number, 20) for number in range(10, 50)])
    assert [movement[2] for movement in tower.query("board", "EWR", 99)] == [
        f"UA{n}" for n in range(49, 49 - BOARD_MAX, -1)
    ]


def test_delays_and_routes_are_counted_in_integers(tower: Rehearsal) -> None:
    tower.run(
        [departed(1, 1, delay=5), departed(2, 1, delay=-8), departed(3, 1, carrier="AA", route="EWR-BOS", delay=1)]
    )
    assert tower.query("mean_departure_delay") == [["AA", 1, 1, 100], ["UA", 2, -3, -150]]
    assert tower.query("busiest_routes") == [["EWR", "IAH", 2], ["EWR", "BOS", 1]]
    assert tower.query("busiest_routes", 1) == [["EWR", "IAH", 2]]
    tower.run([departed(4, 1, route="EWR-BOS")])
    assert tower.query("busiest_routes", 1) == [["EWR", "BOS", 2]]


def test_a_restored_machine_goes_on_alike() -> None:
    commands = list(flight_commands(600))
    whole, half = Rehearsal(Flights()), Rehearsal(Flights())
    whole.run(commands)
    half.run(commands[:500])
    restored = Flights()
    restored.restore(decode_plain(encode_ordered(half.engine.machine.snapshot())))
    rest = Rehearsal(restored)
    rest.run(commands[500:])
    assert rest.engine.machine.snapshot() == whole.engine.machine.snapshot()


def ask(tower: Rehearsal) -> list[Any]:
    return [tower.query(name, *args) for _, (name, args) in questions_for(tower.query("totals")["now"])]


@pytest.mark.parametrize("limit", [900, 12_000])
def test_the_machine_and_the_table_agree_on_a_part(tower: Rehearsal, limit: int) -> None:
    assert {outcome.kind for outcome in tower.run(flight_commands(limit))} == {"ok"}
    right = Independent(limit)
    now = tower.query("totals")["now"]
    questions = questions_for(now)
    expected = [right.answer(name, *args) for _, (name, args) in questions]
    assert differences(questions, expected, {"n1": ask(tower)}) == []
    for at in range(now - 4_000, now + 1, 37):
        assert tower.query("in_the_air", at) == right.answer("in_the_air", at)
    for airport in ("EWR", "JFK", "LGA", "MIA", "LAX", "ZZZ"):
        assert tower.query("board", airport, 7) == right.answer("board", airport, 7)


def test_both_readings_of_the_table_agree_on_every_time_of_the_year() -> None:
    departures: list[int] = []
    landings: dict[int, int] = {}
    counts = Counter(cancelled=0)
    newest = 0
    for name, flight, at, *_ in flight_commands():
        assert isinstance(flight, int) and isinstance(at, int) and at >= newest
        newest = at
        counts[str(name)] += 1
        if name == "departed":
            departures.append(at)
            landings[flight] = at + LOST_AFTER
        elif name == "landed":
            landings[flight] = at
    assert counts == {"departed": 328_521, "landed": 328_063, "cancelled": 8_255}
    right = Independent()
    assert right.answer("totals") == {**counts, "lost": 458, "in_the_air": 0, "now": newest}
    ends = sorted(landings.values())
    for at in range(departures[0] - 1, newest + 1, 101):
        assert right.answer("in_the_air", at) == bisect_right(departures, at) - bisect_right(ends, at)


def test_the_comparison_names_who_differs_and_in_what(tower: Rehearsal) -> None:
    tower.run(flight_commands(50))
    answers = ask(tower)
    questions = questions_for(tower.query("totals")["now"])
    wrong = [*answers[:-1], {**answers[-1], "landed": -1}]
    [difference] = differences(questions, answers, {"n1": answers, "n2": wrong})
    assert (difference.who, difference.words) == ("n2", "totals")
    assert difference.answer["landed"] == -1 != difference.expected["landed"]


def test_questions_about_later_minutes_are_left_out() -> None:
    assert len(questions_for(0)) == len(QUESTIONS) - 2
    assert questions_for(1 << 40) == QUESTIONS
