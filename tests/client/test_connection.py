"""How long a gateway is given: told look by look, with links that only say what they heard; and how long to answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcast.client import connection as keeper_module
from mcast.client.connection import ALONE_LOOKS, SILENT_LOOKS_PING, STALLED_LOOKS, Keeper
from mcast.config.model import NodeConfig
from mcast.net.tcp import Unreachable
from mcast.wire.stream import Pong

NODES = tuple(NodeConfig(id=f"n{n}", address=f"127.0.0.1:{7710 + n}") for n in (1, 2))


class FakeLink:
    """A link on which bytes come all the time."""

    def __init__(self) -> None:
        self.node = NODES[0]
        self.closed: list[str] = []
        self._heard = 0

    @property
    def heard(self) -> int:
        """Another number each time it is asked for."""
        self._heard += 1
        return self._heard

    def write(self, messages: list[bytes]) -> None:
        """Pings."""

    def close(self, reason: str) -> None:
        """Why it was left."""
        self.closed.append(reason)


class Owner:
    """A client that waits, or does not."""

    def __init__(self) -> None:
        self.answers = 0
        self.awaits = True
        self.ready: list[Any] = []

    def on_link_ready(self, link: Any) -> None:
        """The keeper has a link."""
        self.ready.append(link)

    def is_waiting(self) -> bool:
        """Whether an answer is awaited."""
        return self.awaits

    def progress(self) -> int:
        """Answers so far."""
        return self.answers


class FakeDialer:
    """Gives the links it was given."""

    def __init__(self, *links: FakeLink) -> None:
        self._links = list(links)

    async def open(self, node: NodeConfig, owner: Any, timeout_s: float) -> Any:
        """The next one."""
        return self._links.pop(0)


def make(owner: Owner, *links: FakeLink) -> Keeper:
    return Keeper(FakeDialer(*links), NODES, owner)  # type: ignore[arg-type]


async def test_an_answer_between_two_looks_ends_the_patience_that_an_outage_taught() -> None:
    owner, link = Owner(), FakeLink()
    keeper = make(owner, link)
    assert await keeper._connect_any()
    keeper._in_vain = 3
    keeper.watch()
    owner.answers += 1
    owner.awaits = False
    keeper._look()
    assert keeper._in_vain == 0
    keeper.link = None
    await keeper.stop()


async def test_a_new_gateway_is_given_its_own_time() -> None:
    owner, first, second = Owner(), FakeLink(), FakeLink()
    keeper = make(owner, first, second)
    assert await keeper._connect_any()
    keeper.watch()
    for _ in range(STALLED_LOOKS - 1):
        keeper._look()
    assert len(first.closed) == 0
    assert await keeper._connect_any()
    keeper.watch()
    for _ in range(max(SILENT_LOOKS_PING, STALLED_LOOKS - 1)):
        keeper._look()
    assert len(second.closed) == 0
    keeper._look()
    assert len(second.closed) == 1
    keeper.link = None
    await keeper.stop()


class SlowDialer:
    """Each node's answer comes when the test says so."""

    def __init__(self) -> None:
        self.dialed: list[str] = []
        self.answers: dict[str, asyncio.Future[Any]] = {}

    async def open(self, node: NodeConfig, owner: Any, timeout_s: float) -> Any:
        """As the node answers."""
        self.dialed.append(node.id)
        self.answers[node.id] = asyncio.get_running_loop().create_future()
        return await self.answers[node.id]


@pytest.fixture
async def slow(monkeypatch: pytest.MonkeyPatch) -> SlowDialer:
    monkeypatch.setattr(keeper_module, "CONNECT_S_MAX", 0.01)
    monkeypatch.setattr(keeper_module, "RETRY_S", (0.001, 0.002))
    return SlowDialer()


async def test_what_was_begun_is_not_thrown_away_when_the_next_node_is_asked(slow: SlowDialer) -> None:
    owner = Owner()
    keeper = Keeper(slow, NODES, owner)  # type: ignore[arg-type]
    keeper.start()
    await asyncio.sleep(0.1)
    assert slow.dialed == ["n1", "n2"], "each once, however long it takes"
    assert "n1 at 127.0.0.1:7711: no answer within" in keeper.attempts_in_words()
    link = FakeLink()
    slow.answers["n1"].set_result(link)
    await asyncio.sleep(0.01)
    assert owner.ready == [link]
    assert slow.answers["n2"].cancelled(), "it is needed no more"
    keeper.link = None
    await keeper.stop()


async def test_who_refuses_is_asked_again_while_another_is_silent(slow: SlowDialer) -> None:
    keeper = Keeper(slow, NODES, Owner())  # type: ignore[arg-type]
    keeper.start()
    for _ in range(3):
        while "n2" not in slow.answers:
            await asyncio.sleep(0.001)
        slow.answers.pop("n2").set_exception(Unreachable("n2 is down"))
    await asyncio.sleep(0.05)
    assert slow.dialed.count("n1") == 1 and slow.dialed.count("n2") == 4
    await keeper.stop()
    assert slow.answers["n1"].cancelled() and slow.answers["n2"].cancelled()


async def test_of_two_that_answer_at_once_one_is_used_and_the_other_hung_up_on(slow: SlowDialer) -> None:
    owner = Owner()
    keeper = Keeper(slow, NODES, owner)  # type: ignore[arg-type]
    keeper.start()
    while len(slow.answers) < 2:
        await asyncio.sleep(0.001)
    links = {node_id: FakeLink() for node_id in ("n1", "n2")}
    for node_id, link in links.items():
        slow.answers[node_id].set_result(link)
    await asyncio.sleep(0.01)
    assert owner.ready == [links["n1"]]
    assert links["n1"].closed == [] and links["n2"].closed == ["another node was quicker"]
    keeper.link = None
    await keeper.stop()


async def test_a_gateway_that_says_what_keeps_it_from_serving_is_left_early_and_quoted() -> None:
    link = FakeLink()
    keeper = make(Owner(), link)
    assert await keeper._connect_any()
    keeper.on_pong(Pong(0, 0))
    keeper.on_hindrance("commands do not get to n2")
    assert keeper.attempts_in_words().endswith("has not answered: commands do not get to n2")
    keeper.watch()
    for _ in range(ALONE_LOOKS):
        assert not link.closed
        keeper._look()
    assert link.closed == ["no progress for 1 s: commands do not get to n2"]
    keeper.on_pong(Pong(0, 0))
    assert keeper.attempts_in_words().endswith("has not answered"), "its next PONG came alone"
    keeper.link = None
    await keeper.stop()
