"""Neighbours on the same machine, kernels without offload, IPv6, and a disk that fills up."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcast.errors import Unknown
from mcast.lab.processes import Processes
from tests.lan.load import Load, ask_strictly, settled

EVERYWHERE = ("n1", "n2", "n3")
LOSS = "loss=5%,seed=5"
MIB = 1 << 20
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(90)


async def test_clusters_on_other_groups_do_not_meet() -> None:
    """The same cluster name and node ids, unsealed: only groups and ports tell them apart."""
    async with Processes() as one, Processes() as other:
        async with Load(one, EVERYWHERE) as ones, Load(other, EVERYWHERE) as others:
            await ones.more(200)
            await others.more(200)
        for processes, load in ((one, ones), (other, others)):
            status = await settled(processes, load)
            refused = [reason for node in status["nodes"] for reason in node["refused"]]
            assert "foreign cluster" not in refused
            assert "unproven" not in refused


async def test_a_kernel_without_offload_serves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCAST_NO_OFFLOAD", "1")
    async with Processes(faults={"*": LOSS}) as processes, processes.connect() as client:
        receipts = await client.submit_many([("incr", f"k{number % 7}") for number in range(20_000)], timeout=20)
        assert receipts.ok == 20_000
        await processes.wait_until_equal()


async def serve_over_ipv6(sealed: bool) -> None:
    """Runs where loopback has a route for multicast."""
    async with Processes(ipv6=True, sealed=sealed, faults={"*": LOSS}) as processes:
        async with Load(processes, EVERYWHERE) as load:
            await load.more(300)
        await settled(processes, load)


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
def test_ipv6_serves_too(sealed: bool) -> None:
    route = "ip link set lo up && ip -6 route add ff01::/16 dev lo"
    if subprocess.run(["unshare", "-n", "sh", "-c", route], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces, or no IPv6, here")
    program = (
        "import asyncio; from tests.lan.test_surroundings import serve_over_ipv6; "
        f"asyncio.run(serve_over_ipv6({sealed}))"
    )
    words = ["unshare", "-n", "sh", "-c", f'{route} && exec "$@"', "sh", sys.executable, "-c", program]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def own_disk(directory: Path, mebibytes: int) -> list[str]:
    """Words that run a command with a file system of its own, of this size, at `directory`."""
    script = f'mount -t tmpfs -o size={mebibytes}m none {directory} && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def can_mount(folder: Path) -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run([*own_disk(folder, 1), "true"], capture_output=True, timeout=30, check=False).returncode == 0


async def fill(processes: Processes) -> int:
    """Submit a MiB at a time until none is acknowledged any more; the last that was."""
    async with processes.connect("n1", strict=True) as client:
        for count in range(1, 100):
            try:
                await client.submit("set", "k", f"{count:x<{MIB}}", timeout=2)
            except Unknown:
                return count - 1
    raise AssertionError("the disks never filled up")


async def test_a_full_disk_stops_acknowledging_not_serving_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("no mount namespaces here")
    disks = {node_id: tmp_path / "data" / node_id for node_id in ("n2", "n3")}
    for disk in disks.values():
        disk.mkdir(parents=True)
    # One journal segment of 64 MiB fits, and not a second one, until the ballast is gone.
    wrap = {node_id: own_disk(disk, 150) for node_id, disk in disks.items()}
    async with Processes(keep_in=tmp_path, wrap=wrap, mtu=61_440) as processes:
        ballast = [Path(f"/proc/{processes.pid(node_id)}/root{disk}/ballast") for node_id, disk in disks.items()]
        for path in ballast:
            path.write_bytes(bytes(60 * MIB))
        acknowledged = await fill(processes)
        assert 40 < acknowledged < 70, "about a segment's worth"
        status = {node["id"]: node for node in (await processes.wait_until_live())["nodes"]}
        for node_id in disks:
            assert "the disk is full" in status[node_id]["reason"]
            assert status[node_id]["persisted_seq"] < status["n1"]["last_seq"]
            assert (await ask_strictly(processes, node_id, "get", "k")).startswith(f"{acknowledged}x")
        for path in ballast:
            path.unlink()
        async with processes.connect("n3", strict=True) as client:
            assert (await client.submit("incr", "after", timeout=10)).value == 1
        status = {node["id"]: node for node in (await processes.wait_until_equal())["nodes"]}
        assert not any("reason" in node for node in status.values())
        for node_id in EVERYWHERE:
            assert (await ask_strictly(processes, node_id, "get", "k")).startswith(f"{acknowledged + 1}x")


async def test_a_disk_without_room_for_outcomes_is_a_finding_and_heals_without_a_restart(tmp_path: Path) -> None:
    """The journal's first segment has its room already, so nothing else is wrong; subscribers still get everything."""
    if not can_mount(tmp_path):
        pytest.skip("no mount namespaces here")
    disk = tmp_path / "data" / "n3"
    disk.mkdir(parents=True)
    async with Processes(keep_in=tmp_path, wrap={"n3": own_disk(disk, 100)}, mtu=61_440) as processes:
        ballast = Path(f"/proc/{processes.pid('n3')}/root{disk}/ballast")
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4_096)):
                pass
        async with processes.connect("n1", strict=True) as client:
            for number in range(12):
                await client.submit("set", "k", f"{number:x<{MIB}}", timeout=10)
        while not any("No space left" in finding for finding in (await processes.status())["findings"]):
            await asyncio.sleep(0.05)
        ballast.unlink()
        async with processes.connect("n3", strict=True) as client:
            events = client.subscribe(from_seq=1)
            got = [(await anext(events)).args[1].rstrip("x") for _ in range(12)]
            await events.aclose()
        assert got == [str(number) for number in range(12)]
        assert (await processes.status())["findings"] == []
