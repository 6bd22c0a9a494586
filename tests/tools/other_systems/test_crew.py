"""The processes of a peer; that of three pipes stands for all that have readers."""

import os
import sys
from pathlib import Path

import pytest

from mcast.bench.job import BrokenRun
from tools.other_systems import crew as crews
from tools.other_systems import pipes
from tools.other_systems.crew import Crew, Servers, until
from tools.other_systems.peer import make_events


def test_three_readers_apply_what_one_client_submits(tmp_path: Path) -> None:
    with pipes.running(tmp_path) as peer:
        flood = peer.flood(2_500, 12)
        assert 0 < flood.acknowledged_s <= flood.applied_s
        assert len(peer.submit_alone(3, 12)) == 3
        peer.flood(10, 100)


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    return Crew(tmp_path)


def test_replicas_that_applied_too_few_are_no_result(crew: Crew) -> None:
    with crew:
        crew.start(pipes._read)
        crew.wait_until_ready()
        crew.submitted = 3
        crew.say(0, *make_events(2, 12))
        with pytest.raises(BrokenRun, match="the replicas applied 2 of 3 events"):
            crew.wait_until_applied()


def test_replicas_that_differ_are_no_result(crew: Crew) -> None:
    with crew:
        for number in range(2):
            crew.start(pipes._read)
            crew.say(number, *make_events(2, 12 + number))
        crew.submitted = 2
        with pytest.raises(BrokenRun, match="the replicas differ"):
            crew.wait_until_applied()


def test_a_replica_that_fails_is_told_with_its_last_words(crew: Crew) -> None:
    with crew:
        crew.start(pipes._read)
        crew.wait_until_ready()
        crew.say(0, 7)  # no event
        with pytest.raises(BrokenRun, match="replica 1 ended with exit code 1: TypeError"):
            crew.hear(0, "applied")


def test_a_replica_that_is_silent_is_told(crew: Crew) -> None:
    with crew:
        crew.start(pipes._read)
        crew.wait_until_ready()
        with pytest.raises(BrokenRun, match="said nothing for 0 s"):
            crew.hear(0, "applied", 0.0)


def test_a_crew_is_gone_when_its_context_is(crew: Crew) -> None:
    with crew:
        crew.start(pipes._read)
        (process, _), *_ = crew._members
        assert process.is_alive()
    assert not process.is_alive()


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_servers_end_when_their_context_does(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        pid = servers.start("sleeper", program("import time; time.sleep(60)"))
        servers.check()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_ends_is_told_with_its_last_words_instead_of_waiting(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        servers.start("short", program("raise SystemExit('no port is free')"))
        with pytest.raises(BrokenRun, match="short ended with exit code 1: no port is free"):
            servers.wait_until("nothing", lambda: None)


def test_until_goes_on_through_failures_and_tells_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([ConnectionRefusedError(), ValueError(), None, "up"])

    def probe() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert until("no server", probe) == "up"
    monkeypatch.setattr(crews, "START_S", 0.05)

    def refuse() -> object:
        raise ConnectionRefusedError("refused")

    with pytest.raises(BrokenRun, match=r"no server after 0\.05 s: refused"):
        until("no server", refuse)
