"""Every safety rule is needed: without it something is found, and with it the same scenario ends whole."""

from __future__ import annotations

import pytest

from mcast.protocol.rules import Rules
from mcast.sim import BOUNDS, MEANINGS, SCENARIOS, catch, play
from mcast.sim.directed import COPIED_VOTE
from mcast.sim.runs import rules_without


@pytest.mark.parametrize("rule", MEANINGS)
def test_the_loss_of_a_rule_is_noticed(rule: str) -> None:
    ablation = catch(rule)
    assert ablation.caught_by is not None, f"{rule}: {ablation.violation or 'nothing noticed'}"
    assert rule in ablation.command


@pytest.mark.parametrize("rule", SCENARIOS)
def test_a_directed_scenario_ends_whole_with_every_rule_on(rule: str) -> None:
    assert play(SCENARIOS[rule], Rules()) is None


@pytest.mark.parametrize(
    ("without", "whole"),
    [
        ([], True),
        (["answers_named"], True),
        (["receiver_checked"], True),
        (["answers_named", "receiver_checked"], False),
    ],
)
def test_a_copied_vote_is_kept_out_by_either_of_two_rules(without: list[str], whole: bool) -> None:
    assert (play(COPIED_VOTE, rules_without(without)) is None) is whole


@pytest.mark.parametrize("name", BOUNDS)
def test_what_must_come_about_does_so_in_time(name: str) -> None:
    assert play(BOUNDS[name], Rules()) is None


def test_there_is_an_ablation_for_every_rule() -> None:
    assert set(MEANINGS) == set(Rules.__dataclass_fields__)
    assert set(SCENARIOS) <= set(MEANINGS)
