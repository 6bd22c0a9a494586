import pytest

from mcast.bench.job import BrokenRun
from mcast.bench.pulse import Pulse
from mcast.lab.processes import Processes
from tests.bench.overload import PATIENCE, START_S

pytestmark = PATIENCE


@pytest.mark.parametrize(
    ("found", "said"), [([0, 2], "1 lost"), ([0, 1, 1, 2], "1 twice"), ([0, 2, 1], "wrongly"), (None, "3 lost")]
)
def test_a_replica_that_lacks_what_was_acknowledged_breaks_the_run(found: list[int] | None, said: str) -> None:
    pulse = Pulse(None, "key", 1.0)  # type: ignore[arg-type] # never entered
    pulse.sent = 3
    pulse.check("n1", [0, 1, 2])
    with pytest.raises(BrokenRun, match=said):
        pulse.check("n1", found)


async def test_a_pulse_notes_what_was_acknowledged_in_which_epoch() -> None:
    async with Processes(nodes=1, sealed=False) as lab:
        async with Pulse(lab.connect("n1"), "key", 200.0) as pulse:
            await pulse.wait_for(1, START_S)
            assert (pulse.gateway, pulse.epoch) == ("n1", 1)
            with pytest.raises(BrokenRun, match="nothing was acknowledged for"):
                await pulse.wait_for(2, 0.05)
        assert pulse.acknowledged == pulse.sent > 1
        async with lab.connect() as client:
            pulse.check("n1", (await client.query("get", "key")).value)
            await client.submit("append", "spoiled", 7)
        with pytest.raises(BrokenRun, match="came to"):
            async with Pulse(lab.connect("n1"), "spoiled", 200.0) as spoiled:
                await spoiled.wait_for(2, START_S)
