"""Real processes of which some hear no datagrams, or not all: they are as good as others, and say what is amiss.

As root on Linux, with nft; each story runs in network namespaces of its own. In each the third node is dead, so that
what the deaf one acknowledges is needed.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mcast.testing.firewall import drop
from mcast.testing.lan import NETWORK, Lan, lan_problem, own_namespace
from mcast.testing.processes import Processes

ROOT = Path(__file__).parents[2]
NODES = ("n1", "n2", "n3")
SERVED_S = 2.0  # for the first command once datagrams are dropped; measured: 0.5 s
EACH_S = 0.5  # for each after that; measured: 60 ms over TCP alone

pytestmark = pytest.mark.timeout(120)


def rules(port: int) -> dict[str, str]:
    """What is dropped, and how nft says it. `port` is the stream's."""
    return {
        "multicast": "ip daddr 224.0.0.0/4",
        "the stream": f"udp dport {port}",
        "control": f"udp dport {port + 1}",
        "unicast": "ip daddr 10.77.0.0/24 meta l4proto udp",
        "every datagram": "meta l4proto udp",
    }


async def deaf(which: str) -> None:
    """One after the other everything that a firewall may drop, at the sequencer or at the only follower."""
    async with (
        Lan(NODES) as lan,
        Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap, sealed=True) as processes,
    ):
        ruler = (await processes.live())["sequencer"]
        follower, third = (node for node in NODES if node != ruler)
        struck = ruler if which == "the sequencer" else follower
        await processes.kill(third)
        for what, rule in rules(processes.config.port).items():
            await drop(lan.wrap[struck], rule)
            await asyncio.sleep(0.5)
            async with processes.connect(ruler) as client:
                await client.submit("incr", "n", timeout=SERVED_S)
                for _ in range(10):
                    await client.submit("incr", "n", timeout=EACH_S)
                receipt = await client.submit("incr", "n", timeout=EACH_S)
            async with processes.connect(follower, strict=True) as client:
                for level in ("linearizable", "session"):
                    answer = await client.query("get", "n", consistency=level, min_seq=receipt.seq, timeout=SERVED_S)
                    assert answer.value == receipt.value, f"without {what}"
            await drop(lan.wrap[struck])
            began = time.monotonic()
            while (status := await processes.status())["sequencer"] != ruler:
                assert time.monotonic() < began + SERVED_S, (what, status)
            assert status["epoch"] == 1, f"without {what} it ruled on"


STORIES: dict[str, Callable[[], Awaitable[None]]] = {
    "a deaf sequencer": lambda: deaf("the sequencer"),
    "a deaf follower": lambda: deaf("the follower"),
}


@pytest.mark.parametrize("story", STORIES)
def test_story(story: str) -> None:
    problem = lan_problem() or (None if shutil.which("nft") else "no nft")
    if problem is not None:
        pytest.skip(f"no network namespaces here: {problem}")
    program = f"import asyncio; from tests.lan.test_reach import STORIES; asyncio.run(STORIES[{story!r}]())"
    words = own_namespace(["-c", program])
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
