"""A LAN of network namespaces whose cards can be pulled out, renumbered and narrowed: veth pairs on a kernel bridge.

As `Lan`, for processes in a network namespace of their own as root. The bridge stands in this process's own namespace,
where clients are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from mcast.lab.lan import hold_namespace, run_command

CARD: Final = "lan0"
"""Every node's card, in its namespace."""
MTU: Final = 1_500


class Bridged:
    """Nodes' namespaces and the bridge between them: an async context manager.

    Raises EnvironmentProblem on entering, where the machine does not allow it.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        self.hosts = tuple(f"10.77.0.{number}" for number in range(1, len(nodes) + 1))
        self.wrap: dict[str, list[str]] = {}
        """Node -> words before a command that run it in the node's namespace."""
        self._pids: dict[str, int] = {}
        self._stack = contextlib.AsyncExitStack()

    async def plug(self, node: str, host: str | None = None) -> None:
        """Give a node a card, with its own address or another one."""
        port, pid = f"p{self.nodes.index(node)}", self._pids[node]
        address = host or self.hosts[self.nodes.index(node)]
        await run_command(f"ip link add {port} mtu {MTU} type veth peer name {CARD} mtu {MTU} netns {pid}")
        await run_command(f"ip link set {port} master mcbr up")
        # else one rule, or one lost packet, would stand for a whole burst
        await run_command(f"ethtool -K {port} tx-udp-segmentation off")
        inside = self.wrap[node]
        for words in (  # one hardware address a node: others remember it for some seconds
            f"ip link set {CARD} address 02:00:00:00:00:{self.nodes.index(node):02}",
            f"ethtool -K {CARD} tx-udp-segmentation off", f"ip addr add {address}/24 dev {CARD}",
            f"ip link set {CARD} mtu {MTU} up", "ip link set lo up",
        ):  # fmt: skip
            await run_command(words, inside)

    async def unplug(self, node: str) -> None:
        """Take a node's card away; the next one has another index."""
        await run_command(f"ip link del {CARD}", self.wrap[node])

    async def configure(self, node: str, words: str) -> None:
        """Run `ip WORDS` in a node's namespace."""
        await run_command(f"ip {words}", self.wrap[node])

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for words in ("link add mcbr type bridge mcast_snooping 0", "addr add 10.77.0.254/24 dev mcbr"):
                await run_command(f"ip {words}")
            for words in ("link set mcbr up", "link set lo up"):
                await run_command(f"ip {words}")
            for node in self.nodes:
                self._pids[node] = await hold_namespace(stack)
                self.wrap[node] = ["nsenter", f"--net=/proc/{self._pids[node]}/ns/net"]
                await self.plug(node)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
