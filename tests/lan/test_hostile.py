"""Garbage, damaged and replayed datagrams at every port of real nodes, and nonsense over TCP, beside honest clients.

The ordinary run sends some thousands; MCAST_TEST_HOSTILE=200000 a million (that many to each of five ports).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mcast.config import Config, load_config
from mcast.errors import ConfigError
from mcast.lab.hostile import WAYS, Hostile, Sent, assail_tcp, flood, record
from mcast.lab.processes import Processes
from mcast.net.listener import HUNG_UP
from mcast.seal.datagram import Sealer
from mcast.seal.keys import KeyRing, generate_key_file, load_keys
from mcast.wire.envelope import UNICAST, name_hash
from mcast.wire.messages import Kind, Vote, encode_message
from tests.lan.load import Load, settled

ROOT = Path(__file__).parents[2]
PER_PORT = int(os.environ.get("MCAST_TEST_HOSTILE", "6000"))
RATE = 10_000.0  # datagrams a second, which leaves a busy machine's nodes time for the honest ones
GROWTH_BYTES_MAX = 16 << 20
EVERYWHERE = ("n1", "n2", "n3")

pytestmark = [
    pytest.mark.timeout(60 + PER_PORT * 5 / RATE * 4),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def memory_bytes(processes: Processes) -> dict[str, int]:
    def resident(node_id: str) -> int:
        text = Path(f"/proc/{processes.pid(node_id)}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) * 1024

    return {node_id: resident(node_id) for node_id in processes.running}


async def accounts(processes: Processes) -> dict[str, Counter[str]]:
    """What each node counted of what it did not take: by reason, and duplicates of the stream."""
    status, gaps = await processes.wait_until_live(), await processes.gaps()
    return {
        node["id"]: Counter(node["refused"]) + Counter({"duplicates": ledger["duplicates"]})
        for node, ledger in zip(status["nodes"], gaps["nodes"], strict=True)
    }


def incarnations(recorded: list[bytes]) -> dict[str, set[bytes]]:
    """Beginnings of each node's incarnations, out of its datagrams."""
    names = {name_hash(node_id).to_bytes(8, "big"): node_id for node_id in EVERYWHERE}
    found: dict[str, set[bytes]] = {node_id: set() for node_id in EVERYWHERE}
    for datagram in recorded:
        found[names[datagram[16:24]]].add(datagram[24:32])
    return found


def check_each_is_counted(before: dict[str, Counter[str]], after: dict[str, Counter[str]], sent: Sent,
                          own: dict[str, set[bytes]]) -> None:  # fmt: skip
    """Each node's counters against what went to its three ports, but for what its kernel kept from it."""
    for node_id in EVERYWHERE:
        kept = sum(sent.claimed[incarnation] for incarnation in own[node_id])
        expected = 3 * PER_PORT - kept
        counted = (after[node_id] - before[node_id]).total()
        # Honest traffic adds a few duplicates; a machine too slow for the flood loses some before they are seen.
        assert 0.98 * expected <= counted <= 1.01 * expected + 50, (node_id, expected, after[node_id])


async def until_tcp_is_counted(processes: Processes, sealed: bool) -> None:
    """Nonsense over TCP is counted too; what never gets through the handshake, only when its time is over."""
    async with asyncio.timeout(10):
        while True:
            refused = [set(node["refused_connections"]) for node in (await processes.wait_until_live())["nodes"]]
            if all(refused):
                break
            await asyncio.sleep(0.1)
    before_hello = {"no TLS handshake", HUNG_UP}  # a busy node may come too late to hear any of them
    assert all(reasons & before_hello or not sealed for reasons in refused)
    assert sealed or not any("no TLS handshake" in reasons for reasons in refused)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
async def test_a_flood_at_every_port_costs_nothing_but_its_counting(sealed: bool) -> None:
    async with Processes(sealed=sealed) as processes:
        config = processes.config
        async with Load(processes, EVERYWHERE, pause_s=0.05, batch_max=5) as load:
            recorded = await asyncio.to_thread(record, config, 600, 5.0)
            hostile = Hostile(recorded, seed=1)
            await asyncio.to_thread(flood, config, hostile, 500, RATE)
            before, reserved = await accounts(processes), memory_bytes(processes)
            served = load.count
            sent = await asyncio.to_thread(flood, config, hostile, PER_PORT, RATE)
            assert load.count > served, "honest clients are served meanwhile"
            assert await assail_tcp(config, hostile, connections=10) == 0
            await load.more(30)
        status = await settled(processes, load)
        await until_tcp_is_counted(processes, sealed)
        after, used = await accounts(processes), memory_bytes(processes)
    assert set(sent.ways) == set(WAYS)
    assert status["epoch"] == 1, "no epoch ended for it"
    for node_id in EVERYWHERE:
        assert used[node_id] - reserved[node_id] < GROWTH_BYTES_MAX
    check_each_is_counted(before, after, sent, incarnations(recorded))
    reasons = set().union(*after.values())
    damaged = "wrong key or damaged" if sealed else "checksum"
    assert {damaged, "not an mcast datagram", "short envelope", "replayed", "own datagram", "duplicates"} <= reasons


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
async def test_the_words_of_dead_processes_are_not_believed(sealed: bool) -> None:
    """What the first sequencer said is replayed: to n2, who knew it, and to n3, who has forgotten everything."""
    async with Processes(sealed=sealed) as processes:
        config = processes.config
        async with Load(processes, EVERYWHERE, pause_s=0.02) as load:
            recorded = await asyncio.to_thread(record, config, 600, 5.0)
            for node_id in ("n1", "n3"):
                await processes.kill(node_id)
                await load.more(30)
                await processes.start(node_id)
                await processes.wait_until_live()
            before = await processes.status()
            served = load.count
            hostile = Hostile(recorded, seed=2)
            await asyncio.to_thread(flood, config, hostile, PER_PORT // 4, RATE)
            assert load.count > served
            await load.more(30)
        after = await settled(processes, load)
    assert (after["epoch"], after["sequencer"]) == (before["epoch"], before["sequencer"])
    assert after["nodes"][0]["refused"]["own datagram"] > 0
    assert after["nodes"][1]["refused"]["old incarnation"] > 0


def forged_votes(config: Config, sequencer: str, to: str, own: bytes, key_file: Path) -> dict[str, bytes]:
    """Votes for a new epoch that nobody gave, sent to node `to`, each with the reason it must be counted under.

    `own` is the sequencer's incarnation, as anyone can read it; the key in `key_file` is not the cluster's.
    """
    other = load_keys(key_file)

    def vote(name: str = config.name, node: str = sequencer, ring: KeyRing | None = None) -> bytes:
        message = encode_message(Vote(2, bytes(16), True, name_hash(to)))
        return Sealer(ring, name, node, own).seal(Kind.VOTE, UNICAST, 2, b"", message, name_hash(to))

    if config.key_file is not None:
        return {
            "unsealed": vote(),
            "wrong key or damaged": vote(ring=other),
            "foreign cluster": vote("prod", ring=other),
        }
    return {
        "sealed": vote(ring=other), "foreign cluster": vote("prod"), "unknown sender": vote(node="n9"),
    }  # fmt: skip


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
async def test_forged_votes_are_counted_and_elect_nobody(sealed: bool, tmp_path: Path) -> None:
    generate_key_file(tmp_path / "other.key")
    async with Processes(sealed=sealed) as processes:
        config, before = processes.config, await processes.wait_until_live()
        async with Load(processes, EVERYWHERE, pause_s=0.02) as load:
            sequencer = before["sequencer"]
            followers = [node_id for node_id in EVERYWHERE if node_id != sequencer]
            recorded = await asyncio.to_thread(record, config, 200, 5.0)
            own = next(each[24:40] for each in recorded if each[16:24] == name_hash(sequencer).to_bytes(8, "big"))
            other = tmp_path / "other.key"
            forged = {node_id: forged_votes(config, sequencer, node_id, own, other) for node_id in followers}
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for _ in range(50):
                    for node_id in followers:
                        for datagram in forged[node_id].values():
                            sender.sendto(datagram, (config.node(node_id).host, config.node(node_id).port))
                    await asyncio.sleep(0.005)
            await load.more(50)
        after = await settled(processes, load)
    assert (after["epoch"], after["sequencer"]) == (before["epoch"], before["sequencer"])
    for node_id in followers:
        refused = next(node["refused"] for node in after["nodes"] if node["id"] == node_id)
        reasons = forged[node_id]
        assert {reason: refused.get(reason, 0) for reason in reasons} == dict.fromkeys(reasons, 50)


async def run_tool(*words: str) -> tuple[int, str, str]:
    tool = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "tools" / "hostile.py"), *words, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    out, err = await tool.communicate()
    assert tool.returncode is not None
    return tool.returncode, out.decode(), err.decode()


async def test_the_tool_says_what_it_sent_and_what_the_nodes_counted() -> None:
    async with Processes() as processes:
        words = ("-c", str(processes.path), "--count", "300", "--rate", "5000", "--record", "0.5", "--connections", "3")
        code, out, err = await run_tool(*words, "--json")
        assert code == 0, err
        result: dict[str, Any] = json.loads(out)
        assert sum(result["sent"].values()) == 5 * 300
        assert set(result["ports"].values()) == {300}
        assert [node["state"] for node in result["nodes"]] == ["live"] * 3
        assert all(node["refused"]["not an mcast datagram"] > 50 for node in result["nodes"])
        assert result["left_open"] == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [('address = "127.0.0.1:7712"', 'address = "10.77.0.12:7712"'), ("127.0.0.1", "192.0.2.1")],
)
async def test_it_leaves_every_other_network_alone(tmp_path: Path, before: str, after: str) -> None:
    from mcast.config import default_config

    path = tmp_path / "lab.toml"
    path.write_text(default_config(tmp_path).replace(before, after))
    with pytest.raises(ConfigError, match="not loopback"):
        flood(load_config(path), Hostile([b"x"], 1), 1, 1.0)
    code, out, err = await run_tool("-c", str(path))
    assert (code, out) == (2, "")
    assert "attack a cluster on 127.0.0.1 only" in err


def test_one_seed_gives_one_attack() -> None:
    recorded = [bytes(range(100)), bytes(200)]
    one, two, other = (Hostile(recorded, seed) for seed in (1, 1, 2))
    drawn = [one.datagram() for _ in range(400)]
    assert drawn == [two.datagram() for _ in range(400)]
    assert drawn != [other.datagram() for _ in range(400)]
    assert {way for way, _ in drawn} == set(WAYS)
    for way, datagram in drawn:
        assert (datagram in recorded) == (way == "replayed")
    with pytest.raises(ValueError, match="nothing was recorded"):
        Hostile([], 1)
