"""Real processes: the role handed over, a disk lost, a second process with one id, a majority lost for ever."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from mcast.lab.processes import Processes
from mcast.net.ports import free_ports
from tests.lan.commands import run

pytestmark = pytest.mark.timeout(120)


def lose_disk(processes: Processes, node: str) -> None:
    shutil.rmtree(processes.config.data_dir / node)


async def voting(processes: Processes, *nodes: str) -> dict[str, Any]:
    while True:
        status = await processes.wait_until_live()
        if all(node["votes"] for node in status["nodes"] if node["id"] in nodes):
            return status
        await asyncio.sleep(0.05)


async def put(processes: Processes, value: int, at: str | None = None) -> None:
    async with processes.connect(at) as client:
        assert (await client.submit("set", "k", value, timeout=10)).outcome == "ok"


async def test_handover_by_the_command_line() -> None:
    async with Processes() as processes:
        status = await processes.wait_until_live()
        sequencer = status["sequencer"]
        to = next(node for node in processes.ids if node != sequencer)
        folder = processes.path.parent
        done = await run(folder, "handover", "--to", to, "--json")
        assert (done.code, done.document["from"], done.document["to"]) == (0, sequencer, to), done.err
        assert done.document["epoch"] == status["epoch"] + 1
        assert done.document["ms"] < 1_000
        assert (await processes.wait_until_live())["sequencer"] == to
        again = await run(folder, "handover", "--to", to)
        assert (again.code, f"{to} leads already" in again.err) == (0, True)
        unknown = await run(folder, "handover", "--to", "n9")
        assert unknown.code == 2
        processes.signal(sequencer, signal.SIGSTOP)
        await asyncio.sleep(0.3)
        refused = await run(folder, "handover", "--to", sequencer, "--json")
        why = f"{to} keeps its role: the successor was not heard lately"
        assert (refused.code, refused.document, refused.err) == (1, {"refused": why}, f"mcast: refused: {why}\n")
        processes.signal(sequencer, signal.SIGCONT)
        for node in processes.ids:
            await processes.kill(node)
        silent = await run(folder, "handover", "--to", to)
        assert (silent.code, "; run mcast up or mcast node\n" in silent.err) == (3, True), silent.err


async def test_a_sequencer_told_to_stop_hands_over_before_it_ends() -> None:
    async with Processes() as processes:
        status = await processes.wait_until_live()
        sequencer = status["sequencer"]
        assert await processes.stop(sequencer) == 0
        after = await processes.wait_until_live()
        assert (after["sequencer"] != sequencer, after["epoch"]) == (True, status["epoch"] + 1)
        assert "stepped down" in processes.log(sequencer).read_text()


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_lost_disk_and_a_killed_sequencer(sealed: bool) -> None:
    async with Processes(sealed=sealed, sync="always") as processes:
        status = await processes.wait_until_live()
        await put(processes, 1)
        for lost in ("n1", status["sequencer"]):  # the founder's, which must not found anew; and a sequencer's
            await processes.kill(lost)
            lose_disk(processes, lost)
            await put(processes, 2)
            await processes.start(lost)
            await voting(processes, *processes.ids)
        await processes.kill((await processes.wait_until_live())["sequencer"])
        await put(processes, 3)  # by the votes of those that came back


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_second_process_with_one_id_ends_and_says_why(sealed: bool, tmp_path: Path) -> None:
    async with Processes(sealed=sealed) as processes:
        await processes.wait_until_live()
        same = await run(processes.path.parent, "node", "--id", "n2")
        assert (same.code, "in use by another process" in same.err) == (4, True), same.err
        text = processes.path.read_text()
        address = processes.config.node("n2").address
        (tmp_path / "lab.toml").write_text(text.replace(address, f"127.0.0.1:{free_ports(1)[0]}"))
        if sealed:
            shutil.copy(processes.path.parent / "lab.key", tmp_path)
        copied = await run(tmp_path, "node", "--id", "n2")
        assert (copied.code, "another process already runs as n2" in copied.err) == (4, True), copied.err
        await put(processes, 1)
        status = await processes.wait_until_equal()
        assert all(node["votes"] for node in status["nodes"])
        while "another process starts as n2" not in processes.log("n2").read_text():
            await asyncio.sleep(0.05)


async def test_recover_by_the_command_line() -> None:
    async with Processes() as processes:
        await put(processes, 1)
        await processes.wait_until_equal()
        folder = processes.path.parent
        running = await run(folder, "recover", "--id", "n1", "--accept-loss")
        assert (running.code, "in use by another process" in running.err) == (4, True), running.err
        await processes.kill("n1")
        served = await run(folder, "recover", "--id", "n1", "--accept-loss")
        assert (served.code, "n2, n3 still run" in served.err) == (4, True), served.err
        for node in ("n2", "n3"):
            await processes.kill(node)
        asked = await run(folder, "recover", "--id", "n3", "--json")
        assert (asked.code, asked.document["done"], asked.document["must_rejoin"]) == (2, False, ["n1", "n2"])
        assert "--accept-loss" in asked.err and "lost for ever" in asked.err
        done = await run(folder, "recover", "--id", "n3", "--accept-loss", "--json")
        assert (done.code, done.document["done"], done.document["members"]) == (0, True, ["n3"]), done.err
        assert done.document["last_seq"] == asked.document["last_seq"] + 1
        await processes.start("n3")
        await put(processes, 2, "n3")
        await processes.start("n1")
        while "data directory away" not in processes.log("n1").read_text():
            await asyncio.sleep(0.05)
        await processes.kill("n1")
        for node in ("n1", "n2"):
            lose_disk(processes, node)
            await processes.start(node)
        await voting(processes, "n1", "n2", "n3")
        await processes.kill("n3")
        await put(processes, 3)
