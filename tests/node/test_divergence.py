"""Replicas that compute different results, or run different machines: said in status, on nodes that are real."""

from itertools import count

from mcast.machine.api import Context, StateMachine, command
from mcast.testing import cluster


class Apart(StateMachine):
    """Each instance answers alike until it is told to differ."""

    numbers = count(1)

    def __init__(self) -> None:
        self.number = next(Apart.numbers)
        self.calls = 0

    @command
    def work(self, ctx: Context) -> int:
        self.calls += 1
        return self.calls

    @command
    def differ(self, ctx: Context, odd: int) -> bool:
        return self.number % 3 == odd


async def test_status_names_who_computed_something_else_and_since_when() -> None:
    Apart.numbers = count(1)
    async with cluster(Apart) as c:
        equal = (await c.submit_many([("work",)] * 20))[-1]
        await c.converged()
        assert (await c.client.status())["findings"] == []
        wrong = await c.submit("differ", 0)
        assert equal is not None
        findings: list[str] = []
        while not findings:
            findings = (await c.client.status())["findings"]
        [finding] = findings
        assert finding.startswith("DIVERGED: the results of n3 from n1, n2: equal up to event ")
        between = [int(word.strip(",;")) for word in finding.split() if word.strip(",;").isdigit()]
        assert equal.seq <= between[0] < wrong.seq <= between[1]
        await c.submit_many([("work",)] * 2_000)
        await c.kill("n1")
        while not any("DIVERGED" in finding for finding in (await c.client.status())["findings"]):
            await c.submit("work")  # the two that are left are hardly ever at the same event
