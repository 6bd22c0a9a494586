from pathlib import Path

import pytest

from mcast.errors import ConfigError
from mcast.machine.kv import KeyValue
from mcast.scenario.model import ClusterPlan, Expectations, Scenario, Workload
from mcast.scenario.template import parse_command
from mcast.scenario.workload import Meter, Schedule, commands_of


def scenario(workload: Workload) -> Scenario:
    return Scenario(
        name="a", path=Path("a"), cluster=ClusterPlan(), workload=workload, faults=(), expect=Expectations()
    )


def test_templates_take_turns_and_share_one_number() -> None:
    templates = (parse_command(["set", "{n}"]), parse_command(["incr", "k{n%2}"]))
    commands = commands_of(scenario(Workload(rate=2, seconds=2, commands=templates)), KeyValue)
    assert commands == [["set", 0], ["incr", "k1"], ["set", 2], ["incr", "k1"]]


def test_a_file_gives_as_many_commands_as_are_wanted(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text('["set", "a", 1]\n\n["incr", "b"]\n["delete", "a"]\nnever read')
    workload = Workload(rate=1, seconds=3, file=file)
    assert commands_of(scenario(workload), KeyValue) == [["set", "a", 1], ["incr", "b"], ["delete", "a"]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no command"), ('["set", "a", 1]\n{"a": 1}', "line 2: not a list"), ("[", "line 1"),
        ('["sett", "a"]', "unknown command"), ('["set", "a", NaN]', "not JSON"), ('["set"]', "takes 2 arguments"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        commands_of(scenario(Workload(rate=1, seconds=3, file=file)), KeyValue)


def test_commands_come_due_at_the_rate_and_are_dealt_out() -> None:
    schedule = Schedule([["size"]] * 10, rate=100.0, clients=3)
    dealt = [schedule.take_due(elapsed_s) for elapsed_s in (0.0, 0.035, 0.035, 9.0)]
    assert [[list(numbers) for numbers in each] for each in dealt] == [
        [[0], [], []], [[3], [1], [2]], [[], [], []], [[6, 9], [4, 7], [5, 8]],
    ]  # fmt: skip
    assert schedule.is_done


def test_nobody_waiting_is_no_outage() -> None:
    meter = Meter()
    meter.on_answer(meter.note_sent(1.0), 1.2)
    meter.on_answer(meter.note_sent(50.0), 50.1)
    meter.finish(99.0)
    assert meter.outage_s == pytest.approx(0.2)


def test_an_answer_to_anybody_ends_an_outage() -> None:
    meter = Meter()
    slow = meter.note_sent(0.0)
    for now in range(1, 10):
        meter.on_answer(meter.note_sent(now - 0.5), float(now))
    assert meter.outage_s == 1.0
    meter.on_answer(slow, 9.5)
    assert meter.outage_s == 1.0


def test_what_is_never_answered_is_an_outage_to_the_end() -> None:
    meter = Meter()
    meter.note_sent(2.0)
    meter.finish(7.0)
    assert meter.outage_s == 5.0
