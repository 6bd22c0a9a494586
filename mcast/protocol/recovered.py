"""What a node's storage hands the protocol core at start."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcast.protocol.effects import Meta
from mcast.wire.epochs import Epochs
from mcast.wire.frame import CHAIN_ZERO, Frame


@dataclass(frozen=True, slots=True)
class Recovered:
    """A node's durable memory: its meta, and its log as far as the core keeps it in memory.

    Events up to `base_seq` are in the journal only; `base_chain` is the chain behind them.
    """

    meta: Meta
    base_seq: int = 0
    base_chain: bytes = CHAIN_ZERO
    history: Epochs = field(default_factory=Epochs)
    """Every epoch in the journal, oldest first: one entry for each change of a frame's epoch, the first frame's too."""
    frames: tuple[Frame, ...] = ()
    """The newest frames, contiguous from base_seq + 1: at most CACHE_BYTES_MAX, but all after the last one's commit."""
    suspect: bool = False
    """Acknowledged events may be missing: the log was cut, or written without sync before the machine restarted."""
    genesis: Frame | None = None
    """The newest frame below `frames` that names the cluster's uuid: event 1's, or a recovery's."""
    config: Frame | None = None
    """The newest frame below `frames` that carries a configuration (first record's kind from GENESIS on)."""
