"""Rounds with turns that are scripted instead of played."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mcast.bench.job import BrokenRun
from tools.other_systems import contest
from tools.other_systems.contest import PeerWorkload, entrants, measure
from tools.other_systems.kinds import KINDS, PeerKind

Job = dict[str, Any]
SMALL = PeerWorkload(sizes=(12,), seconds=0.1)


def result(applied: int, ack_us: float, events: int = 777) -> Job:
    return {"events": events, "acknowledged_per_s": 2 * applied, "applied_per_s": applied, "ack_p50_us": ack_us}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, list[Any]]], list[Job]]:
    """Each system's results, a turn each; returns the jobs as they are asked for."""

    def write(turns: dict[str, list[Any]]) -> list[Job]:
        asked: list[Job] = []

        async def run_job(name: str, arguments: Job, tell: Any, program: Sequence[str]) -> Job:
            assert name == "peer" and Path(program[-1]).is_file()
            tell(0.5)
            asked.append(arguments)
            turn = turns[arguments["name"]].pop(0)
            if isinstance(turn, Exception):
                raise turn
            return dict.fromkeys(arguments["events"], turn)

        monkeypatch.setattr(contest, "run_job", run_job)
        for name in turns:
            kind = KINDS[name]
            here = PeerKind(title=kind.title, acknowledged=kind.acknowledged, beside=kind.beside, module=kind.module)
            monkeypatch.setitem(KINDS, name, here)
        return asked

    return write


def quiet(what: str, share: float) -> None:
    pass


async def test_ratios_are_within_a_round_and_medians_over_them(script: Any) -> None:
    script({
        "mcast": [result(1_000, 10), result(100, 20), result(400, 10)],
        "redis": [result(500, 30), result(200, 30), result(100, 30)],
    })  # fmt: skip
    document = await measure(SMALL, ["mcast", "redis"], 3, quiet)
    ours, theirs = (one["sizes"]["12"] for one in document["peers"])
    assert ours["applied_per_s"] == {"median": 400, "min": 100, "max": 1_000}
    assert theirs["acknowledged_per_s"] == {"median": 400, "min": 200, "max": 1_000}
    assert theirs["lead"] == {"median": 2, "min": 0.5, "max": 4}
    assert theirs["ack_lead"] == {"median": 3, "min": 1.5, "max": 3}
    assert ours["lead"] == {"median": 1, "min": 1, "max": 1}


async def test_each_round_begins_with_the_next_and_repeats_the_first_ones_events(script: Any) -> None:
    asked = script({name: [result(10, 1, events=5_000)] * 2 for name in ("mcast", "redis", "nats")})
    await measure(SMALL, ["mcast", "redis", "nats"], 2, quiet)
    assert [job["name"] for job in asked] == ["mcast", "redis", "nats", "redis", "nats", "mcast"]
    assert [job["events"] for job in asked] == [{"12": None}] * 3 + [{"12": 5_000}] * 3
    assert len({job["folder"] for job in asked}) == 6


async def test_a_number_of_events_asked_for_is_given_from_the_first_round_on(script: Any) -> None:
    asked = script({"mcast": [result(10, 1)]})
    await measure(PeerWorkload(sizes=(12, 99), events=4_000), ["mcast"], 1, quiet)
    assert [job["events"] for job in asked] == [{"12": 4_000, "99": 4_000}]


async def test_a_system_that_breaks_is_out_and_has_no_numbers(script: Any) -> None:
    asked = script({"mcast": [result(10, 1)] * 3, "etcd": [result(5, 1), BrokenRun("a member died")]})
    document = await measure(SMALL, ["mcast", "etcd"], 3, quiet)
    etcd = document["peers"][1]
    assert etcd["version"] == document["peers"][0]["version"], "where there is no program to ask"
    assert etcd["error"] == "a member died"
    assert "sizes" not in etcd
    assert [job["name"] for job in asked].count("etcd") == 2


async def test_without_our_own_number_there_is_no_ratio(script: Any) -> None:
    script({"mcast": [BrokenRun("no sequencer")], "redis": [result(5, 1)]})
    ours, theirs = (await measure(SMALL, ["mcast", "redis"], 1, quiet))["peers"]
    assert ours["error"] == "no sequencer"
    assert theirs["sizes"]["12"]["lead"] is None


async def test_what_is_not_installed_is_left_out_with_its_command(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script({"mcast": [result(10, 1)]})
    lacking = PeerKind(title="x", acknowledged="x", module="x", programs=["nonesuch-d"], install="apt install nonesuch")
    monkeypatch.setitem(KINDS, "etcd", lacking)
    document = await measure(SMALL, ["etcd", "mcast"], 1, quiet)
    assert [one["name"] for one in document["peers"]] == ["mcast"]
    assert document["skipped"] == [{"name": "etcd", "missing": "nonesuch-d", "install": "apt install nonesuch"}]


async def test_a_turn_that_does_not_end_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_job(*what: Any, **how: Any) -> Job:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(contest, "run_job", run_job)
    for limit in ("START_S", "SILENCE_S", "_SIZE_S"):
        monkeypatch.setattr(contest, limit, 0)
    (ours,) = (await measure(SMALL, ["mcast"], 1, quiet))["peers"]
    assert ours["error"] == "not done after 0 s"


def test_our_own_takes_part_whoever_is_named() -> None:
    assert entrants(["redis"]) == ["mcast", "redis"]
    assert entrants(["etcd", "redis"]) == ["mcast-synced", "mcast", "etcd", "redis"]
    assert entrants(["pipes"]) == ["pipes"]
