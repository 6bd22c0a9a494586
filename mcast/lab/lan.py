"""A LAN of network namespaces on one machine: a namespace a node, wired to this process's own by a switch.

For processes that were started in a network namespace of their own (`unshare -n`) as root; nothing is visible outside,
and all of it goes when this process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from mcast.errors import EnvironmentProblem

NETWORK: Final = "10.77.0.0/24"
CLIENTS: Final = "clients"
"""The name of the port that this process, and so every client in it, is at."""
_COMMAND_S: Final = 10.0
_FIX: Final = "run as root on Linux with ip, unshare, nsenter and /dev/net/tun"


class Lan:
    """Nodes' namespaces and the switch between them: an async context manager.

    Raises EnvironmentProblem on entering, where the machine does not allow it.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        self.hosts = tuple(f"10.77.0.{number}" for number in range(1, len(nodes) + 1))
        self.wrap: dict[str, list[str]] = {}
        """Node -> words before a command that run it in the node's namespace."""
        self._devices = {node: f"mc{number}" for number, node in enumerate((*nodes, CLIENTS))}
        self._switch: Process
        self._answering = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    async def set_losses(self, losses: dict[tuple[str, str], float]) -> None:
        """Replace what is lost: (from, to) -> share, 1 for a cut. Ports are the nodes' ids and CLIENTS."""
        named = {f"{self._devices[source]}>{self._devices[target]}": loss for (source, target), loss in losses.items()}
        assert self._switch.stdin is not None
        async with self._answering:  # two may be at it, and the last one's word counts
            self._switch.stdin.write(json.dumps(named).encode() + b"\n")
            await _expect(self._switch, b"ok\n")

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            words = [sys.executable, "-m", "mcast.lab.switch", *self._devices.values()]
            self._switch = await _child(stack, words, b"ready\n")
            for node, host in zip(self.nodes, self.hosts, strict=True):
                holder = await hold_namespace(stack)
                self.wrap[node] = ["nsenter", f"--net=/proc/{holder}/ns/net"]
                device = self._devices[node]
                await _run(["ip", "link", "set", device, "netns", str(holder)])
                await _address(self.wrap[node], device, host)
            await _address([], self._devices[CLIENTS], "10.77.0.254")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def own_namespace(arguments: Iterable[str]) -> list[str]:
    """The words that run a Python program, by `arguments`, in a network namespace of its own."""
    return ["unshare", "-n", sys.executable, *arguments]


def lan_problem() -> str | None:
    """Why this machine allows no Lan; None if it does. It is tried."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "not root on Linux"
    words = ["unshare", "-n", "sh", "-c", "nsenter --version && ip tuntap add mode tap name mc0"]
    try:
        tried = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unshare: {error}"
    return None if tried.returncode == 0 else tried.stderr.strip() or "unshare failed"


async def hold_namespace(stack: contextlib.AsyncExitStack) -> int:
    """A process that does nothing, in a network namespace of its own, for as long as the stack stands; its pid."""
    return (await _child(stack, ["unshare", "-n", "sh", "-c", "echo held; exec cat"], b"held\n")).pid


async def run_command(words: str, wrap: Sequence[str] = ()) -> None:
    """Run a command, perhaps in a node's namespace. Raises EnvironmentProblem when it fails."""
    await _run([*wrap, *words.split()])


async def _address(wrap: list[str], device: str, host: str) -> None:
    for command in (f"addr add {host}/24 dev {device}", f"link set {device} up", "link set lo up"):
        await _run([*wrap, "ip", *command.split()])


async def _run(words: Sequence[str]) -> None:
    child = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(_COMMAND_S):
        _, errors = await child.communicate()
    if child.returncode:
        raise EnvironmentProblem(f"{' '.join(words)}: {errors.decode(errors='replace').strip()}", _FIX)


async def _child(stack: contextlib.AsyncExitStack, words: Sequence[str], says: bytes) -> Process:
    """A child that lives as long as its input is open, which the kernel closes for it if this process dies."""
    child = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
    stack.push_async_callback(_end, child)
    await _expect(child, says)
    return child


async def _expect(child: Process, says: bytes) -> None:
    assert child.stdout is not None
    async with asyncio.timeout(_COMMAND_S):
        if await child.stdout.readline() != says:
            raise EnvironmentProblem("a part of the LAN did not come up; its own words are above", _FIX)


async def _end(child: Process) -> None:
    assert child.stdin is not None
    child.stdin.close()
    await child.wait()
