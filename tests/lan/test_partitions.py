"""Real processes whose network is cut by a switch between them: what a minority may say, and who leads meanwhile.

As root on Linux, where network namespaces and TAP devices can be made; each story runs in a namespace of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcast.errors import NotSent, Refused, Unknown
from mcast.lab.lan import CLIENTS, NETWORK, Lan, lan_problem, own_namespace
from mcast.lab.processes import Processes
from mcast.wire.levels import Consistency

ROOT = Path(__file__).parents[2]
NODES = ("n1", "n2", "n3")
TAKEOVER_S = 10.0  # an election by silence takes 1 s at most; a busy machine may need more

pytestmark = pytest.mark.timeout(120)

Links = dict[tuple[str, str], float]


@asynccontextmanager
async def wired(sealed: bool = True) -> AsyncIterator[tuple[Lan, Processes]]:
    async with (
        Lan(NODES) as lan,
        Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap, sealed=sealed) as processes,
    ):
        yield lan, processes


def cut(inside: str, outside: tuple[str, ...]) -> Links:
    """All that goes between them, both ways."""
    return dict.fromkeys([(inside, one) for one in outside] + [(one, inside) for one in outside], 1.0)


def roles(status: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The sequencer and the others."""
    return status["sequencer"], tuple(node for node in NODES if node != status["sequencer"])


async def ruled_by_another(processes: Processes, old: str) -> Mapping[str, Any]:
    """The status once another one leads, as the others say."""
    async with asyncio.timeout(TAKEOVER_S):
        while True:
            status = await processes.connect().status()
            if status["sequencer"] not in (None, old):
                return status
            await asyncio.sleep(0.05)


async def the_minority(which: str) -> None:
    async with wired() as (lan, processes):
        sequencer, followers = roles(await processes.wait_until_live())
        alone = sequencer if which == "the sequencer" else followers[0]
        others = tuple(node for node in NODES if node != alone)
        async with processes.connect(alone, strict=True) as client, processes.connect(alone) as free:
            first = await client.submit("set", "k", "before")
            await processes.wait_until_equal()
            events = free.subscribe(first.seq + 1)
            following = asyncio.ensure_future(anext(events))
            await asyncio.gather(*[lan.set_losses(losses) for losses in ({}, {}, cut(alone, others))])
            with pytest.raises(Unknown) as unknown:  # it was numbered, or is on its way: it may happen yet
                await client.submit("append", "list", "doubtful", timeout=1.5)
            with pytest.raises(Refused, match="no majority has confirmed"):
                await client.query("get", "k", consistency="linearizable", timeout=1.0)
            await asyncio.sleep(0.5)
            refusing: tuple[Consistency, ...] = ("linearizable", "bounded")
            for level in refusing:
                with pytest.raises(Refused, match=f"{alone} is isolated") as refused:
                    await client.query("get", "k", consistency=level)
                assert refused.value.try_node in others
            answering: tuple[Consistency, ...] = ("any", "session")
            for level in answering:
                answer = await client.query("get", "k", consistency=level, min_seq=first.seq)
                assert (answer.value, answer.level, answer.node) == ("before", level, alone)
                assert answer.lag_ms is None, "nobody knows how old it is"
            with pytest.raises(Refused, match=f"{alone} is isolated"):
                await client.query("get", "k", min_seq=first.seq + 1_000)
            moved = await free.submit("set", "k", "meanwhile", timeout=TAKEOVER_S)
            assert (moved.seq > first.seq, free.node in others) == (True, True), "who may go elsewhere is served"
            async with asyncio.timeout(TAKEOVER_S), contextlib.aclosing(events):
                assert (await following).args == ["k", "meanwhile"], "subscribers go where events are"
            assert (await client.query("get", "k", consistency="any")).value == "before"
            status = await processes.status()
            (lonely,) = (node for node in status["nodes"] if node["id"] == alone)
            assert (lonely["state"], lonely["in_touch_ms"] > 2_000) == ("isolated", True)
            assert lonely["lag_events"] >= moved.seq - first.seq - 1, "against what others know to be committed"
            assert any(finding.startswith(f"{alone} is isolated: for ") for finding in status["findings"])
            await lan.set_losses({})
            fate: Any
            try:
                fate = await client.resolve(unknown.value, timeout=TAKEOVER_S)
            except NotSent:
                fate = None
            held = (await client.query("get", "list", consistency="linearizable")).value or []
            assert held == ["doubtful"] * (fate is not None), "once if it happened, and never if not"
            assert (await client.query("get", "k", consistency="linearizable")).value == "meanwhile"
        await processes.wait_until_equal()
        assert "is isolated" in processes.log(alone).read_text()


async def a_client_that_never_reached_anybody() -> None:
    async with wired() as (lan, processes):
        await processes.wait_until_live()
        await asyncio.gather(*(lan.set_losses({}) for _ in range(5)))  # asked at once, obeyed one by one
        async with processes.connect() as client:
            await client.submit("set", "k", 1)
            await lan.set_losses({(node, CLIENTS): 1.0 for node in NODES} | {(CLIENTS, node): 1.0 for node in NODES})
            while client.node is not None:  # it looks for another gateway, and finds none
                with pytest.raises((NotSent, Unknown)):
                    await client.submit("set", "k", 2, timeout=0.5)
            with pytest.raises(NotSent):
                await client.submit("append", "list", "never", timeout=0.5)
            await lan.set_losses({})
            await client.submit("set", "k", 3, timeout=TAKEOVER_S)
            assert (await client.query("get", "list", consistency="linearizable")).value is None


async def a_sequencer_that_does_not_hear() -> None:
    """Its heartbeats arrive all the while, but no round of theirs is confirmed any more."""
    async with wired() as (lan, processes):
        before = await processes.wait_until_live()
        deaf, followers = roles(before)
        async with processes.connect(followers[0]) as client:
            await client.submit("set", "k", 1)
            await lan.set_losses({(node, deaf): 1.0 for node in followers})
            after = await ruled_by_another(processes, deaf)
            assert after["epoch"] > before["epoch"]
            await client.submit("set", "k", 2, timeout=TAKEOVER_S)
            await lan.set_losses({})
        await processes.wait_until_equal()
        assert "stepped down" in processes.log(deaf).read_text()
        assert (await processes.wait_until_live())["sequencer"] != deaf


async def a_sequencer_that_nobody_hears() -> None:
    async with wired() as (lan, processes):
        before = await processes.wait_until_live()
        mute, followers = roles(before)
        async with processes.connect(followers[0]) as client:
            await lan.set_losses({(mute, node): 1.0 for node in followers})
            assert (await ruled_by_another(processes, mute))["epoch"] > before["epoch"]
            await client.submit("set", "k", 2, timeout=TAKEOVER_S)
            await lan.set_losses({})
        await processes.wait_until_equal()


STORIES: dict[str, Callable[[], Awaitable[None]]] = {
    "the minority of a follower": lambda: the_minority("a follower"),
    "the minority of the sequencer": lambda: the_minority("the sequencer"),
    "a client that never reached anybody": a_client_that_never_reached_anybody,
    "a sequencer that can send but not hear": a_sequencer_that_does_not_hear,
    "a sequencer that nobody hears": a_sequencer_that_nobody_hears,
}


@pytest.mark.parametrize("story", STORIES)
def test_story(story: str) -> None:
    problem = lan_problem()
    if problem is not None:
        pytest.skip(f"no network namespaces here: {problem}")
    program = f"import asyncio; from tests.lan.test_partitions import STORIES; asyncio.run(STORIES[{story!r}]())"
    words = own_namespace(["-c", program])
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
