"""A cluster in one process: real nodes, journals and TCP; datagrams over an in-memory hub, with faults on purpose.

    async with mcast.testing.cluster(Accounts, nodes=3, loss="5%", seed=7) as c:
        await c.submit("deposit", "ann", 10)
        await c.converged()
        assert [await c.ask(node, "balance_of", "ann") for node in c.nodes] == [10, 10, 10]

Temporary folders and free ports are its own, so any number may run side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mcast import limits
from mcast.client.client import Client, connect
from mcast.client.queries import QueryAnswer
from mcast.client.receipts import Receipt, Receipts
from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, NotYet
from mcast.limits import TIMEOUT_S
from mcast.machine.api import StateMachine
from mcast.net.faulty import parse_faults
from mcast.net.link import PeerAddress
from mcast.net.memory import Hub
from mcast.net.ports import free_ports
from mcast.node.node import Node
from mcast.node.recover import recover
from mcast.storage.files import RealFiles
from mcast.storage.meta import load_meta, store_meta
from mcast.wire.envelope import name_hash
from mcast.wire.levels import Consistency

MTU: Final = 1_500  # bytes of one datagram, as on a LAN
POLL_S: Final = 0.01  # between two looks at whether all nodes are equal
SETTLE_S: Final = 10.0  # for the cluster to be founded and elect its first sequencer


def cluster(  # noqa: PLR0913 - what tests choose, each by name
    machine: Callable[[], StateMachine], nodes: int = 3, *, loss: str = "0%", seed: int = 1, faults: str = "",
    mtu: int = MTU,
) -> Cluster:  # fmt: skip
    """A cluster of `nodes` members, each with a machine of its own made by `machine()`: an async context manager.

    `loss` is what each node loses of the datagrams it receives; `faults` adds to it ("dup=1%,reorder=2%,delay=5ms").
    One `seed` gives one sequence of faults at each node. Commands that wait together share datagrams of at most `mtu`
    bytes: a large one leaves little to be lost, and `Cluster.lost` says how much was.

    Raises:
        ConfigError: a `faults` or `loss` that is no fault specification, or an `mtu` out of range.
    """
    spec = ",".join(filter(None, [f"loss={loss}", faults, f"seed={seed}"]))
    parse_faults(spec)
    if not limits.MTU_MIN <= mtu <= limits.MTU_MAX:
        raise ConfigError("mtu", mtu, f"outside {limits.MTU_MIN} to {limits.MTU_MAX}", f"{MTU} is a LAN's")
    return Cluster(machine, nodes, spec, mtu)


class Cluster:
    """Entered, it leads: a sequencer is elected. `nodes` are the living nodes' ids, `client` talks to any of them."""

    def __init__(self, machine: Callable[[], StateMachine], nodes: int, fault: str, mtu: int = MTU) -> None:
        self.client: Client
        self.config: Config
        self._machine = machine
        self._fault = fault
        self._count = nodes
        self._mtu = mtu
        self._lost_before: Counter[str] = Counter()
        """What nodes had lost when they were last stopped: their ledgers went with them."""
        self._running: dict[str, Node] = {}
        self._apart: set[frozenset[PeerAddress]] = set()
        self.hub = Hub(self._passes)
        self._stack = contextlib.AsyncExitStack()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ids of the nodes that run, in the config's order."""
        return tuple(node.id for node in self.config.nodes if node.id in self._running)

    @property
    def sequencer(self) -> str | None:
        """The node that numbers commands now; None while there is none."""
        return next((node_id for node_id, node in self._running.items() if node.shell.replica.is_sequencer), None)

    def node(self, node_id: str) -> Node:
        """A running node, for its `status()`, `gaps()` and `shell`."""
        return self._running[node_id]

    def machine(self, node_id: str) -> StateMachine:
        """A node's state machine; look, but do not touch."""
        return self._running[node_id].shell.engine.machine

    def lost(self) -> dict[str, int]:
        """How many of the datagrams that carry events each node did not receive when they were first sent.

        By node id, in the config's order, since the cluster began. All were repaired or fetched later, else it has not
        converged; `node(id).gaps()` tells how.
        """
        now = {node_id: node.gaps()["lost"] for node_id, node in self._running.items()}
        return {node.id: self._lost_before[node.id] + now.get(node.id, 0) for node in self.config.nodes}

    async def submit(self, name: str, *args: Any, timeout: float = TIMEOUT_S) -> Receipt:
        """Submit one command."""
        return await self.client.submit(name, *args, timeout=timeout)

    async def submit_many(self, commands: Iterable[Sequence[Any]], timeout: float = TIMEOUT_S) -> Receipts:
        """Submit commands, pipelined."""
        return await self.client.submit_many(commands, timeout=timeout)

    async def query(  # noqa: PLR0913 - the keywords of the client's
        self, name: str, *args: Any, consistency: Consistency | None = None, min_seq: int = 0,
        max_ms: float | None = None, max_lag: int | None = None, timeout: float = TIMEOUT_S,
    ) -> QueryAnswer:  # fmt: skip
        """Ask any node; the keywords are those of `Client.query`."""
        return await self.client.query(
            name, *args, consistency=consistency, min_seq=min_seq, max_ms=max_ms, max_lag=max_lag, timeout=timeout
        )

    async def ask(self, node_id: str, name: str, *args: Any) -> Any:
        """Ask one node, whatever it has applied; the bare value."""
        return (await self._running[node_id].query(name, *args, consistency="any")).value

    def connect(self, at: str | None = None) -> Client:
        """One more client."""
        return connect(self.config, at)

    async def kill(self, node_id: str) -> None:
        """Stop a node, without handing over anything; its journal stays."""
        await self._end(node_id, hand_over=False)

    async def stop(self, node_id: str) -> None:
        """Stop a node in order, as SIGTERM does: a sequencer hands over first."""
        await self._end(node_id, hand_over=True)

    async def restart(self, node_id: str) -> None:
        """Start a stopped node again, from its journal."""
        await self._start(node_id)

    def lose_disk(self, node_id: str) -> None:
        """Empty the data directory of a stopped node."""
        self._check_stopped(node_id)
        shutil.rmtree(self._directory(node_id))

    def lose_power(self, node_id: str) -> None:
        """Make a stopped node's data directory that of a machine whose power failed, though nothing was lost."""
        self._check_stopped(node_id)
        files, directory = RealFiles(), str(self._directory(node_id))
        meta = load_meta(files, directory)
        assert meta is not None, f"{directory} has no meta"
        store_meta(files, directory, replace(meta, boot_id="another boot", clean=False))

    def recover(self, node_id: str) -> None:
        """Let a stopped node's log go on alone, as `mcast recover --accept-loss` does."""
        self._check_stopped(node_id)
        recover(self.config, node_id)

    async def voting(self, node_id: str, timeout: float = TIMEOUT_S) -> None:
        """Wait until a running node votes. Raises NotYet: it does not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self._running[node_id].shell.replica.statistics().votes:
            if loop.time() >= deadline:
                raise NotYet(f"{node_id} has no vote after {timeout} s")
            await asyncio.sleep(POLL_S)

    def part(self, node_id: str) -> None:
        """Let nothing pass between this node and the others; its clients still reach it."""
        own = self._peer(node_id)
        self._apart |= {frozenset({own, self._peer(node.id)}) for node in self.config.nodes if node.id != node_id}

    def part_link(self, own: PeerAddress) -> None:
        """The same for a node of a test's own, at this address of the hub."""
        self._apart |= {frozenset({own, self._peer(node.id)}) for node in self.config.nodes}

    def heal(self) -> None:
        """End every partition."""
        self._apart.clear()

    async def converged(self, timeout: float = TIMEOUT_S) -> int:
        """Wait until every running node has applied the same events with the same results; returns the last seq.

        Raises:
            NotYet: they did not in time; the message holds each node's position.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            engines = {node_id: node.shell.engine for node_id, node in self._running.items()}
            ends = {(engine.applied_seq, engine.chain, engine.result_chain) for engine in engines.values()}
            high = max((node.shell.replica.last_seq for node in self._running.values()), default=0)
            if len(ends) == 1 and self.sequencer is not None and next(iter(ends))[0] == high:
                return high
            if loop.time() >= deadline:
                places = ", ".join(f"{node_id} at {engine.applied_seq}" for node_id, engine in engines.items())
                raise NotYet(f"not equal after {timeout} s: {places} of {high} events")
            await asyncio.sleep(POLL_S)

    async def __aenter__(self) -> Cluster:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mcast-")))
            self.config = _config(folder, self._count, self._mtu)
            stack.push_async_callback(self._stop_all)
            for node in self.config.nodes:
                await self._start(node.id)
            await self.converged(SETTLE_S)
            self.client = await stack.enter_async_context(connect(self.config))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self, node_id: str) -> None:
        node = Node(self.config, node_id, fault=self._fault, machine=self._machine(), hub=self.hub)
        await node.start()
        shell, relay, fetch = node.shell, node.shell.on_relay, node.shell.on_catch_up
        assert relay is not None and fetch is not None, "its gateway has started"
        shell.on_relay = lambda effect: relay(effect) if self._is_joined(node_id, (effect.to,)) else None
        shell.on_catch_up = lambda effect: fetch(effect) if self._is_joined(node_id, effect.peers) else None
        self._running[node_id] = node

    async def _end(self, node_id: str, *, hand_over: bool) -> None:
        node = self._running.pop(node_id)
        await node.stop(hand_over=hand_over)
        self._lost_before[node_id] += node.gaps()["lost"]

    async def _stop_all(self) -> None:
        for node_id in list(self._running):
            await self.kill(node_id)

    def _directory(self, node_id: str) -> Path:
        return self.config.data_dir / node_id

    def _check_stopped(self, node_id: str) -> None:
        if node_id in self._running:
            raise ValueError(f"{node_id} is running: stop it first")

    def _peer(self, node_id: str) -> PeerAddress:
        node = self.config.node(node_id)
        return node.host, node.port

    def _is_joined(self, node_id: str, others: Sequence[int]) -> bool:
        """Whether TCP from a node to some others, by hash, is not cut; to all, where none are named."""
        named = {name_hash(node.id): self._peer(node.id) for node in self.config.nodes}
        return not any(frozenset({self._peer(node_id), named[other]}) in self._apart for other in others or named)

    def _passes(self, source: PeerAddress, target: PeerAddress) -> bool:
        return frozenset({source, target}) not in self._apart


def _config(folder: Path, count: int, mtu: int) -> Config:
    nodes = tuple(
        NodeConfig(id=f"n{index}", address=f"127.0.0.1:{port}") for index, port in enumerate(free_ports(count), start=1)
    )
    return Config(
        name="testing", nodes=nodes, folder=folder, data_dir=folder / "data", mtu=mtu, sync="os", allow_faults=True
    )
