"""How long a gateway is given: told look by look, with links that only say what they heard."""

from __future__ import annotations

from typing import Any

from mcast.client.keeper import SILENT_LOOKS_PING, STALLED_LOOKS, Keeper
from mcast.config.model import NodeConfig

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

    def link_ready(self, link: Any) -> None:
        """The keeper has a link."""
        self.ready.append(link)

    def waiting(self) -> bool:
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
