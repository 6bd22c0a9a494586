"""Real processes of which some hear no datagrams, or not all: they are as good as others, and say what is amiss.

As root on Linux, with nft; each story runs in network namespaces of its own. In each the third node is dead, so that
what the deaf one acknowledges is needed.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from mcast.client.client import Client
from mcast.errors import NotSent, Unknown
from mcast.lab.bridged import CARD, Bridged
from mcast.lab.firewall import drop
from mcast.lab.lan import NETWORK, Lan, lan_problem, own_namespace
from mcast.lab.processes import Processes

ROOT = Path(__file__).parents[2]
NODES = ("n1", "n2", "n3")
SERVED_S = 4.0  # for the first command once datagrams are dropped; measured: 0.5 s
HEALED_S = 20.0  # until all is as before; measured: 1 to 3 s
LOGGED_EVERY_S = 5.0  # for a client to hear why it waits; measured: 3 s
BEATS_A_SECOND = 20
EACH_S = 0.5  # for most after that; measured: 4 ms over TCP alone
QUICK_S = 0.03  # for the quickest of these: a delay in TCP itself would be 40 ms
LARGE_S = 3.0  # for any beside the first datagram that is too large for its path; measured: 0.8 s

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
        sequencer = (await processes.wait_until_live())["sequencer"]
        follower, third = (node for node in NODES if node != sequencer)
        struck = sequencer if which == "the sequencer" else follower
        await processes.kill(third)
        for what, rule in rules(processes.config.port).items():
            await drop(lan.wrap[struck], rule)
            await asyncio.sleep(0.5)
            async with processes.connect(sequencer) as client:
                await client.submit("incr", "n", timeout=SERVED_S)
                took_s = []
                for _ in range(11):
                    began = time.monotonic()
                    receipt = await client.submit("incr", "n", timeout=SERVED_S)
                    took_s.append(time.monotonic() - began)
                assert min(took_s) < QUICK_S and median(took_s) < EACH_S, f"without {what}: {took_s}"
            async with processes.connect(follower, strict=True) as client:
                for level in ("linearizable", "session"):
                    answer = await client.query("get", "n", consistency=level, min_seq=receipt.seq, timeout=SERVED_S)
                    assert answer.value == receipt.value, f"without {what}"
            await drop(lan.wrap[struck])
            began = time.monotonic()
            while (status := await processes.status())["sequencer"] != sequencer:
                assert time.monotonic() < began + SERVED_S, (what, status)
            assert status["epoch"] == 1, f"without {what} it led on"


async def whole(processes: Processes) -> dict[str, Any]:
    """The status once all are live and nothing is amiss."""
    async with asyncio.timeout(HEALED_S):
        while True:
            status = await processes.status()
            if not status["findings"] and all(node["state"] == "live" for node in status["nodes"]):
                return status
            await asyncio.sleep(0.1)


async def served(processes: Processes, at: str, strictly: bool = True) -> None:
    """A command and a linearizable query, at this node."""
    async with processes.connect(at, strict=strictly) as client:
        receipt = await client.submit("incr", "n", timeout=HEALED_S)
        answer = await client.query("get", "n", consistency="linearizable", timeout=HEALED_S)
        assert answer.value == receipt.value


async def remade() -> None:
    """Cards are pulled out and put in again, for a moment and for long, at a follower and at the sequencer."""
    async with (
        Bridged(NODES) as lan,
        Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap, sealed=True) as processes,
    ):
        sequencer = (await processes.wait_until_live())["sequencer"]
        follower = next(node for node in NODES if node != sequencer)
        for struck, away_s in ((follower, 0.0), (sequencer, 0.0), (sequencer, 3.0)):
            await lan.unplug(struck)
            await asyncio.sleep(away_s)
            await lan.plug(struck)
            await served(processes, struck)
            joined = f"node {struck} joined its groups anew"
            async with asyncio.timeout(HEALED_S):
                while joined not in processes.log(struck).read_text():
                    await asyncio.sleep(0.1)
            await whole(processes)
            for node in NODES:
                await served(processes, node)
            await silent(processes)


async def silent(processes: Processes) -> None:
    """Multicast alone is enough: nobody sends heartbeats by other ways."""
    async with asyncio.timeout(HEALED_S):
        while True:
            before = [node["link"]["datagrams_sent"] for node in (await processes.status())["nodes"]]
            await asyncio.sleep(1.0)
            after = [node["link"]["datagrams_sent"] for node in (await processes.status())["nodes"]]
            if all(late - early < 2 * BEATS_A_SECOND for early, late in zip(before, after, strict=True)):
                return


async def reported(processes: Processes, *says: str) -> None:
    """Until findings say all of this."""
    async with asyncio.timeout(HEALED_S):
        while True:
            found = (await processes.status())["findings"]
            if all(any(each in finding for finding in found) for each in says):
                return
            await asyncio.sleep(0.2)


async def flowing(processes: Processes, at: str) -> None:
    """Large commands, with small ones beside them, all the time: none waits for long."""

    async def small(client: Client) -> None:
        for _ in range(30):
            began = time.monotonic()
            await client.submit("incr", "n", timeout=SERVED_S)
            assert time.monotonic() < began + LARGE_S, "a path's first large datagram is waited for"
            await asyncio.sleep(0.05)

    async def large(client: Client) -> None:
        for _ in range(5):
            await client.submit("set", "k", "y" * 2_500, timeout=SERVED_S)
            await asyncio.sleep(0.2)

    async with processes.connect(at) as one, processes.connect(at) as two:
        await asyncio.gather(small(one), large(two))


async def narrow() -> None:
    """Large datagrams vanish: towards both followers, from the sequencer; then its own card carries less."""
    async with (
        Bridged(NODES) as lan,
        Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap, sealed=True) as processes,
    ):
        sequencer = (await processes.wait_until_live())["sequencer"]
        followers = [node for node in NODES if node != sequencer]
        for node in followers:
            await drop(lan.wrap[node], "udp length > 1300")
        await flowing(processes, sequencer)
        await reported(processes, *(f"the path from {sequencer} to {node} is too narrow" for node in followers))
        await reported(processes, "set mtu = 13")
        for node in followers:
            await drop(lan.wrap[node])
        await whole(processes)
        await drop(lan.wrap[sequencer], "udp length > 1300", hook="output")
        await flowing(processes, sequencer)
        await reported(processes, *(f"the path from {sequencer} to {node} is too narrow" for node in followers))
        await drop(lan.wrap[sequencer])
        await whole(processes)
        await lan.configure(sequencer, f"link set {CARD} mtu 1300")
        await flowing(processes, sequencer)
        await reported(processes, f"{CARD} carries packets of 1300 bytes, and mtu = 1500")
        await lan.configure(sequencer, f"link set {CARD} mtu 1500")
        await whole(processes)
        assert (await processes.status())["epoch"] == 1


async def astray() -> None:
    """A member's own cluster file names another group: it is served, and then serves, by unicast."""
    async with Lan(NODES) as lan, Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap) as processes:
        sequencer = (await processes.wait_until_live())["sequencer"]
        stray, third = (node for node in NODES if node != sequencer)
        await processes.kill(stray)
        theirs = processes.path
        processes.path = theirs.with_name("astray.toml")
        processes.path.write_text(theirs.read_text().replace('group = "239.77.', 'group = "239.78.'))
        await processes.start(stray)
        processes.path = theirs
        await processes.wait_until_live()
        await processes.kill(third)
        for node in (stray, sequencer):
            await served(processes, node)
        await reported(processes, f"{stray}: no multicast of {sequencer} arrives, and its heartbeats come by unicast")
        async with processes.connect() as client:
            await client.handover(stray)
        for node in (sequencer, stray):
            await served(processes, node)
        await reported(processes, f"{sequencer}: no multicast of {stray} arrives, and its heartbeats come by unicast")


async def renumbered() -> None:
    """A node's name means another address from now on, and its machine has that one: nobody is restarted."""
    table = Path(tempfile.mkdtemp()) / "hosts"
    names = [f"{node}.lab" for node in NODES]

    def write(hosts: Sequence[str]) -> None:
        lines = [f"{host} {name}" for host, name in zip(hosts, names, strict=True)]
        table.write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")

    async with Bridged(NODES) as lan:
        write(lan.hosts)
        subprocess.run(["mount", "--bind", str(table), "/etc/hosts"], check=True)
        async with Processes(hosts=names, interface=NETWORK, wrap=lan.wrap, sealed=True) as processes:
            sequencer = (await processes.wait_until_live())["sequencer"]
            for struck in (next(node for node in NODES if node != sequencer), sequencer):
                hosts = list(lan.hosts)
                hosts[NODES.index(struck)] = f"10.77.0.{20 + NODES.index(struck)}"
                await lan.configure(struck, f"addr del {lan.hosts[NODES.index(struck)]}/24 dev {CARD}")
                await lan.configure(struck, f"addr add {hosts[NODES.index(struck)]}/24 dev {CARD}")
                write(hosts)
                lan.hosts = tuple(hosts)
                await asyncio.sleep(1.0)
                await whole(processes)
                for node in NODES:
                    await served(processes, node)


async def unforwarded() -> None:
    """Its stream arrives at a follower, and no connection to the sequencer opens: clients there hear why."""
    async with (
        Lan(NODES) as lan,
        Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap, sealed=True) as processes,
    ):
        sequencer = (await processes.wait_until_live())["sequencer"]
        follower = next(node for node in NODES if node != sequencer)
        await drop(lan.wrap[sequencer], f"ip saddr {processes.config.node(follower).host} meta l4proto tcp")
        where = processes.config.node(sequencer).address
        async with processes.connect(follower, strict=True) as client:
            with pytest.raises((NotSent, Unknown), match=f"do not get to {sequencer}: .* open TCP {where}"):
                await client.submit("incr", "n", timeout=LOGGED_EVERY_S)
        async with processes.connect(follower) as client:
            began = time.monotonic()
            await client.submit("incr", "n", timeout=LOGGED_EVERY_S)
            assert time.monotonic() < began + SERVED_S and client.node != follower, "another node takes it"
        await reported(processes, f"{follower}: commands that come to it do not get to {sequencer}")
        await drop(lan.wrap[sequencer])
        await whole(processes)
        await served(processes, follower)


async def apart() -> None:
    """Nothing passes between the sequencer and a follower; the third node hears both, and relays for none."""
    async with (
        Lan(NODES) as lan,
        Processes(hosts=lan.hosts, interface=NETWORK, wrap=lan.wrap, sealed=True) as processes,
    ):
        sequencer = (await processes.wait_until_live())["sequencer"]
        lost, third = (node for node in NODES if node != sequencer)
        await lan.set_losses({(sequencer, lost): 1.0, (lost, sequencer): 1.0})
        await reported(processes, f"{lost} is isolated", f"it hears {third}, and nothing of {sequencer}")
        for node in (sequencer, third):
            await served(processes, node)
        async with processes.connect(sequencer) as client, processes.connect(lost, strict=True) as alone:
            receipt = await client.submit("incr", "n", timeout=SERVED_S)
            async with asyncio.timeout(HEALED_S):  # it has from the third what the sequencer cannot send it
                while (await alone.query("get", "n", consistency="any")).value != receipt.value:
                    await asyncio.sleep(0.1)
            with pytest.raises(NotSent, match=f"nothing of {sequencer}"):
                await alone.submit("incr", "n", timeout=SERVED_S)
        assert (await processes.status())["epoch"] == 1, "whoever hears the sequencer elects no other"
        await processes.kill(third)
        await reported(processes, "2 of 3 members answer here, but no majority hears another", f"{lost} is isolated")
        await processes.start(third)
        await lan.set_losses({})
        await whole(processes)
        for node in NODES:
            await served(processes, node)


STORIES: dict[str, Callable[[], Awaitable[None]]] = {
    "a deaf sequencer": lambda: deaf("the sequencer"),
    "a deaf follower": lambda: deaf("the follower"),
    "cards made anew": remade,
    "a path too narrow": narrow,
    "a member on another group": astray,
    "two that cannot reach each other": apart,
    "commands that are not forwarded": unforwarded,
    "a name that means another address": renumbered,
}


@pytest.mark.parametrize("story", STORIES)
def test_story(story: str) -> None:
    problem = lan_problem() or (None if shutil.which("nft") else "no nft")
    if problem is not None:
        pytest.skip(f"no network namespaces here: {problem}")
    program = f"import asyncio; from tests.lan.test_reach import STORIES; asyncio.run(STORIES[{story!r}]())"
    words = own_namespace(["-c", program])
    words.insert(1, "-m")  # its /etc/hosts is its own, too
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
