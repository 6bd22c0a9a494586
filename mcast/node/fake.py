"""A cluster in one process without network, disk or elections: what gateways and clients need of shells, and no more.

For tests of everything on the TCP side. Numbering and applying are real (`make_frame`, `Engine`); who leads, what is
lost in a change of epoch and what is applied twice is up to the test.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcast.config import Config, NodeConfig
from mcast.errors import Gone, Refused
from mcast.machine.api import StateMachine
from mcast.machine.engine import Applied, Engine
from mcast.net.link import PeerAddress
from mcast.net.ports import free_ports
from mcast.node.eventlog import EventLog
from mcast.node.gateway.gateway import Gateway
from mcast.node.handlerlog import HandlerLog
from mcast.node.runs import runs_of
from mcast.protocol.effects import CatchUp, EpochChanged, FetchEpochs, Notice, Relay, SequencerReady, SteppedDown
from mcast.storage.files import RealFiles
from mcast.storage.outcomes import OutcomeLog
from mcast.wire.envelope import name_hash
from mcast.wire.epochs import Epochs
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import EpochEntry
from mcast.wire.records import decode_records_untrusted

RECORD_MAX: Final = 1_300
_START_NS: Final = 1_700_000_000 * 10**9


class FakeReplica:
    """The properties that a gateway reads."""

    def __init__(self, cluster: FakeCluster, node: int) -> None:
        self.backlog_bytes = 0
        self.node = node
        self.last_seq = 0
        self.alone_s = 0.0
        """Seconds that it has been isolated for; 0: it is not."""
        self.proven: tuple[int, float] | None = None
        self.epochs = Epochs()
        """The epoch history here, for others."""
        self.wants: EpochEntry | None = None
        self.pages: list[Epochs] = []
        self.histories_failed = 0
        self._cluster = cluster

    @property
    def is_sequencer(self) -> bool:
        """Whether the test made this node the sequencer."""
        return self._cluster.sequencer == self.node

    @property
    def sequencer(self) -> int | None:
        """Whom the test made the sequencer."""
        return self._cluster.sequencer

    @property
    def promised(self) -> int:
        """The epochs so far."""
        return self._cluster.epoch

    @property
    def high_seq(self) -> int:
        """The cluster's last event."""
        return self._cluster.last_seq

    @property
    def wanted_history(self) -> EpochEntry | None:
        """What precedes `wants` in the epoch history, until it reaches event 1."""
        return self.wants if self.wants is not None and self.wants.first > 1 else None

    def history_page(self, entry: EpochEntry, most: int) -> Epochs | None:
        """A page of `epochs`."""
        return self.epochs.page_before(entry, most)

    def on_history_page(self, before: EpochEntry, page: Epochs, now: float) -> None:
        """Remember the page, if there is anything in it."""
        if len(page):
            self.pages.append(page)
            self.wants = page[0]

    def on_history_failed(self, now: float) -> None:
        """Count."""
        self.histories_failed += 1

    def is_isolated(self, now: float) -> bool:
        """Whether it is out of touch."""
        return self.alone_s > 0

    def in_touch_s(self, now: float) -> float:
        """For how long."""
        return self.alone_s

    def staleness(self, now: float, applied_seq: int) -> float | None:
        """As the test's `proven`, (commit, time in s), allows."""
        return now - self.proven[1] if self.proven is not None and self.proven[0] <= applied_seq else None

    def proof(self, now: float) -> tuple[int, float] | None:
        """The test's `proven`."""
        return None if self.proven is None else (self.proven[0], now - self.proven[1])


class FakeStore:
    """A journal: frames by number, from `low_water` on."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.low_water = 1

    def read(self, first: int, max_bytes: int) -> list[Frame]:
        """Frames from the one with event `first` on, at least one if there is any. Raises Gone."""
        if first < self.low_water:
            raise Gone(f"event {first} is gone", self.low_water)
        taken: list[Frame] = []
        for frame in self.frames:
            if frame.last >= first:
                if taken and max_bytes < frame.size:
                    break
                taken.append(frame)
                max_bytes -= frame.size
        return taken


@dataclass(slots=True)
class FakeTransport:
    """Knows where the others are."""

    peers: dict[int, PeerAddress]
    link: None = None


class FakeWatch:
    """Knows what keeps a node from serving its clients, since it was told."""

    def __init__(self) -> None:
        self.blocked: str | None = None

    def hindrance(self) -> str | None:
        """As Watch's."""
        return self.blocked


class FakeShell:
    """One node of a FakeCluster, with a shell's surface. While `deaf`, it applies but tells its gateway nothing."""

    def __init__(self, cluster: FakeCluster, node_id: str, machine: StateMachine) -> None:
        self.config = cluster.config
        self.node_id = node_id
        self.replica = FakeReplica(cluster, name_hash(node_id))
        self.engine = Engine(machine)
        self.handlers = HandlerLog(node_id)
        self.runs = runs_of(machine)
        self.store = FakeStore()
        self.outcomes = OutcomeLog(RealFiles(), str(cluster.config.data_dir / node_id / "outcomes"))
        self.events = EventLog(self.store, self.outcomes)
        self.engine.on_frames = self.events.take
        self.reads = 0
        self.record_max = cluster.record_max
        self.transport = FakeTransport({name_hash(node.id): (node.host, node.port) for node in self.config.nodes})
        self.incarnation = node_id.encode().ljust(16, b"-")
        self.on_applied: list[Callable[[list[Applied]], None]] = []
        self.on_notice: list[Callable[[Notice], None]] = []
        self.on_halted: list[Callable[[], None]] = []
        self.on_catch_up: Callable[[CatchUp | FetchEpochs], None] | None = None
        self.watch = FakeWatch()
        self.halted: str | None = None
        self.state = "live"
        """What it says of itself."""
        self.proofs: list[tuple[int, bytes]] = []
        self.deaths: list[int] = []
        self.heard: dict[int, bytes] = {}
        self.on_relay: Callable[[Relay], None] | None = None
        self.deaf = False
        self.is_apply_backlog_full = False
        self.failed: list[int] = []
        self.faults: list[str] = []
        self.submitted = 0
        self._cluster = cluster

    def submit(self, groups: Sequence[tuple[bytes, ...]], *, elsewhere: bool = False) -> bool:
        """Number groups, if this node leads."""
        if not self.replica.is_sequencer or self.halted is not None:
            return False
        self.submitted += len(groups)
        self._cluster.take(groups)
        return True

    def ask_read(self) -> int | None:
        """The token of a read that the test makes ready by a notice."""
        self.reads += 1
        return self.reads

    def tell(self, call: Callable[[float], None]) -> None:
        """Do it."""
        call(0.0)

    def on_transfer(self, frames: Sequence[Frame], peer: int) -> None:
        """Apply fetched frames that follow."""
        self.apply([frame for frame in frames if frame.first > self.engine.applied_seq])

    def on_transfer_failed(self, peer: int) -> None:
        """Remember who failed."""
        self.failed.append(peer)

    def apply(self, frames: Sequence[Frame]) -> None:
        """Journal and apply, and tell the gateway."""
        if self.halted is not None:
            return
        self.store.frames += frames
        applied = self.engine.apply(frames)
        self.replica.last_seq = self.engine.applied_seq
        if not self.deaf:
            for callback in list(self.on_applied):
                callback(applied)

    def halt(self, reason: str) -> None:
        """Apply nothing more, and tell the gateway."""
        self.halted = reason
        for callback in list(self.on_halted):
            callback()

    def notify(self, notice: Notice) -> None:
        """Tell the gateway."""
        for callback in list(self.on_notice):
            callback(notice)

    def status(self) -> dict[str, Any]:
        """A few of the contract's fields."""
        engine = self.engine
        seq = engine.applied_seq
        return {"id": self.node_id, "role": "member", "state": self.state, "applied_seq": seq, "commit_seq": seq}

    def gaps(self) -> dict[str, Any]:
        """No gaps here."""
        return {"id": self.node_id, "open": [], "closed": [], "lost": 0}

    def on_incarnation_proven(self, node: int, incarnation: bytes) -> None:
        """Remember whose incarnation was proven."""
        self.proofs.append((node, incarnation))

    def on_peer_died(self, node: int) -> None:
        """Remember who was seen dead."""
        self.deaths.append(node)

    def incarnation_of(self, node: int) -> bytes | None:
        """As the test says in `heard`, else the node's only one."""
        shells = self._cluster.shells.values()
        return self.heard.get(node) or next((one.incarnation for one in shells if one.replica.node == node), None)

    def hand_over(self, to: int) -> str | None:
        """Fake nodes keep their roles."""
        return "this node is not the sequencer"

    def fault(self, spec: str) -> None:
        """Remember the fault. Raises Refused if the config does not allow it, ValueError for one without meaning."""
        if not self.config.allow_faults:
            raise Refused("allow_faults is off")
        if "=" not in spec and spec != "clear":
            raise ValueError(f"{spec!r} is no fault")
        self.faults.append(spec)


class FakeCluster:
    """Shells that share one log. `held` keeps taken groups unnumbered; `copies` numbers each group that often."""

    def __init__(  # noqa: PLR0913 - what a test may vary
        self, folder: Path, make_machine: Callable[[], StateMachine], nodes: int = 3, record_max: int = RECORD_MAX,
        key_file: Path | None = None, allow_faults: bool = False,
    ) -> None:  # fmt: skip
        ports = free_ports(nodes)
        configured = tuple(NodeConfig(id=f"n{i + 1}", address=f"127.0.0.1:{port}") for i, port in enumerate(ports))
        self.config = Config(
            name="lab", nodes=configured, folder=folder, data_dir=folder, key_file=key_file, allow_faults=allow_faults
        )
        self.record_max = record_max
        self.sequencer: int | None = name_hash("n1")
        self.epoch = 1
        self.last_seq = 0
        self.held = False
        self.copies = 1
        self.shells = {node.id: FakeShell(self, node.id, make_machine()) for node in configured}
        self._chain = CHAIN_ZERO
        self._taken: list[bytes] = []
        self._pumping = False

    def take(self, groups: Iterable[tuple[bytes, ...]]) -> None:
        """Line groups up to be numbered in the next turn of the loop."""
        for group in groups:
            for _ in range(self.copies):
                self._taken += group
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Number what was taken, and apply it everywhere."""
        self._pumping = False
        if self.held or not self._taken:
            return
        taken, self._taken = self._taken, []
        frames: list[Frame] = []
        body: list[bytes] = []
        size = 0
        for record in taken:
            if body and size + len(record) > self.record_max:
                frames.append(self._number(b"".join(body)))
                body, size = [], 0
            body.append(record)
            size += len(record)
        frames.append(self._number(b"".join(body)))
        for shell in self.shells.values():
            shell.apply(frames)

    def release(self) -> None:
        """End `held`."""
        self.held = False
        self.pump()

    def lose_taken(self) -> int:
        """What was taken and not numbered is gone, as with a sequencer that died; how many records."""
        lost, self._taken = len(self._taken), []
        return lost

    def elect(self, node_id: str | None) -> None:
        """Another epoch under this sequencer, or under none."""
        before, self.sequencer = self.sequencer, None if node_id is None else name_hash(node_id)
        self.epoch += 1
        for shell in self.shells.values():
            if shell.replica.node == before:
                shell.notify(SteppedDown(self.epoch - 1))
            shell.notify(EpochChanged(self.epoch, self.sequencer))
            if shell.replica.is_sequencer:
                shell.notify(SequencerReady(self.epoch))

    def _number(self, body: bytes) -> Frame:
        count = sum(record.count for record in decode_records_untrusted(body))
        now_ns = _START_NS + self.last_seq
        frame = make_frame(self.epoch, self.last_seq + 1, count, self.last_seq, now_ns, self._chain, body)
        self.last_seq, self._chain = frame.last, frame.chain
        return frame


@contextlib.asynccontextmanager
async def serving(cluster: FakeCluster) -> AsyncIterator[dict[str, Gateway]]:
    """Gateways for all shells, by node id; stopped at the end without waiting for anybody."""
    gateways = {node: Gateway(shell) for node, shell in cluster.shells.items()}  # type: ignore[arg-type]
    try:
        for gateway in gateways.values():
            await gateway.start()
        yield gateways
    finally:
        for gateway in gateways.values():
            await gateway.stop(drain_s=0)
