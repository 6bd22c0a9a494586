"""A node and a client in a program that forks: the child has no part in them, and the parent does not notice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mcast.config import Config, default_config, parse_config
from mcast.net.ports import free_ports
from mcast.node.node import Node
from mcast.seal.keys import generate_key_file

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, json, os, sys, warnings
import mcast

warnings.simplefilter("ignore")  # Python's, of forking where threads run
path, way = sys.argv[1:]
new_loop = asyncio.new_event_loop
if "uvloop" in way:
    import uvloop
    new_loop = uvloop.new_event_loop

def sockets_and_files():
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        found += link.startswith("socket:") or "/data/" in link
    return found

def child(before, reading):
    print(json.dumps({"child": os.getpid(), "left": sockets_and_files() - before}), flush=True)
    os.read(reading, 1)  # for ever

async def main():
    before = sockets_and_files()  # the loop has some of its own
    async with mcast.Node(path, id="n1") as node, mcast.connect(path) as client:
        await node.submit("incr", "k")
        await client.submit("incr", "k")
        assert sockets_and_files() > before + 8
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            if "unwinds" in way:
                raise SystemExit
            child(before, reading)
            os._exit(0)
        if "unwinds" in way:
            _, code = await asyncio.to_thread(os.waitpid, pid, 0)
            print(json.dumps({"code": code}), flush=True)
        for _ in range(50):
            value = (await client.submit("incr", "k")).value
            await node.query("get", "k", consistency="linearizable")
        print(json.dumps({"parent": os.getpid(), "value": value}), flush=True)
        if "unwinds" not in way:
            await asyncio.sleep(60)

async def guarded():
    parent = os.getpid()
    try:
        await main()
    except SystemExit:
        pass
    if os.getpid() != parent:
        os._exit(0)  # what the loop closes is the parent's too, and none of ours

with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(guarded())
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def one_node(folder: Path, sealed: bool) -> tuple[Path, Config]:
    if sealed:
        generate_key_file(folder / "lab.key")
    port, own = free_ports(2)
    text = default_config(folder, nodes=1, port=port, key_file="lab.key" if sealed else None).replace(
        f'"127.0.0.1:{port + 11}"', f'"127.0.0.1:{own}"'
    )
    path = folder / "lab.toml"
    path.write_text(text)
    return path, parse_config(text.encode(), path)


def start(path: Path, way: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), way], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("way", ["asyncio", "uvloop", "sealed"])
async def test_when_a_program_that_forked_is_killed_its_node_is_dead(tmp_path: Path, way: str) -> None:
    path, config = one_node(tmp_path, way == "sealed")
    program = start(path, way)
    assert program.stdout is not None
    reported: dict[str, int] = {}
    child = 0
    try:
        while not {"child", "parent"} <= reported.keys():
            reported |= json.loads(await asyncio.to_thread(program.stdout.readline))
        child = reported["child"]
        assert reported["value"] == 52, "the parent goes on"
        assert reported["left"] == 0
        program.kill()
        program.wait(10)
        os.kill(child, 0)
        with socket.socket() as dialing:
            assert dialing.connect_ex(("127.0.0.1", config.nodes[0].port)) != 0
        async with Node(config, "n1") as again:  # the lock is free, and so are the addresses
            assert (await again.submit("incr", "k")).value == 53
    finally:
        program.kill()
        program.wait(10)
        program.stdout.close()
        if child:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("way", ["asyncio unwinds", "uvloop unwinds"])
def test_a_child_that_leaves_the_block_stops_nothing(tmp_path: Path, way: str) -> None:
    path, _ = one_node(tmp_path, False)
    program = start(path, way)
    reported, _ = program.communicate(timeout=30)
    assert program.returncode == 0
    assert {"parent": program.pid, "value": 52} in [json.loads(line) for line in reported.splitlines()]
