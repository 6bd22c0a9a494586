import asyncio
import time
from itertools import repeat
from typing import Any

import pytest

from mcast.bench import pacing
from mcast.bench.job import BrokenRun
from mcast.bench.pacing import _one_after_the_other, _Pace
from mcast.client.receipts import Receipt
from mcast.errors import NotSent

STALL_S = 0.05
COMMAND = ("incr", "k", 1)


class Fake:
    """A client whose first command holds up the whole program, and whose others are answered at once."""

    def __init__(self, stall_s: float = 0.0, outcome: str = "ok") -> None:
        self.submitted: list[Any] = []
        self._stall_s = stall_s
        self._outcome = outcome

    async def submit(self, *command: Any) -> Receipt:
        self.submitted.append(command)
        if len(self.submitted) == 1:
            time.sleep(self._stall_s)
        await asyncio.sleep(0)
        return Receipt(len(self.submitted), 1, self._outcome, None, None)


def quiet(share: float) -> None:
    pass


async def test_a_stall_counts_for_every_command_that_was_due_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "GRACE_S", 30.0)  # this machine may stall for longer
    pace = _Pace(Fake(STALL_S), repeat(COMMAND), rate=1_000, seconds=0.1)  # type: ignore[arg-type]
    elapsed_s = await pace.run(quiet)
    assert len(pace.took) == len(pace.late) == 100
    assert elapsed_s >= 0.099
    for index in range(int(STALL_S * 1_000)):  # due at `index` ms, sent when the stall was over
        assert pace.took[index] >= STALL_S - index / 1_000 - 1e-6
        assert pace.late[index] <= pace.took[index]


async def test_what_cannot_be_sent_in_time_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "GRACE_S", 0.0)
    monkeypatch.setattr(pacing, "OUTSTANDING_MAX", 1)
    pace = _Pace(Fake(STALL_S), repeat(COMMAND), rate=1_000_000, seconds=0.02)  # type: ignore[arg-type]
    await pace.run(quiet)
    assert 1 <= len(pace.took) < 20_000


async def test_a_command_that_fails_breaks_the_run() -> None:
    with pytest.raises(BrokenRun, match="incr came to"):
        await _Pace(Fake(outcome="rejected"), repeat(COMMAND), rate=100, seconds=0.1).run(quiet)  # type: ignore[arg-type]
    with pytest.raises(BrokenRun, match="incr came to"):
        await _one_after_the_other(Fake(outcome="rejected"), repeat(COMMAND), 3, quiet)  # type: ignore[arg-type]


async def test_a_client_that_loses_its_node_ends_the_run() -> None:
    class Lost(Fake):
        async def submit(self, *command: Any) -> Receipt:
            raise NotSent("nobody answered")

    with pytest.raises(NotSent):
        await _Pace(Lost(), repeat(COMMAND), rate=1_000, seconds=60).run(quiet)  # type: ignore[arg-type]


async def test_one_after_the_other_keeps_every_sample() -> None:
    fake = Fake()
    took = await _one_after_the_other(fake, repeat(COMMAND), 20, quiet)  # type: ignore[arg-type]
    assert len(took) == len(fake.submitted) == 20
    assert all(one > 0 for one in took)
