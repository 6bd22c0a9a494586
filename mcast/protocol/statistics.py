"""A replica's counters at a moment: what `status`, `gaps`, metrics and tests read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mcast.protocol.effects import LogDoubted
from mcast.wire.messages import EpochEntry


@dataclass(frozen=True, slots=True)
class Statistics:
    """`counts` holds refused input by reason; seqs are event numbers; `epoch` is the newest promised."""

    role: str
    votes: bool
    suspect: bool
    doubted: LogDoubted | None
    """Why the log is suspect, if another node reported that."""
    config_number: int
    epoch: int
    last_seq: int
    commit_seq: int
    persisted_seq: int
    high_seq: int
    """The highest event known to exist."""
    gaps_open: int
    catching_up: bool
    history_wanted: EpochEntry | None
    """What precedes this epoch is being fetched; until it is known no frame can be judged."""
    histories_failed: int
    """Fetches of it that failed at every node, since the last one that succeeded."""
    naks_sent: int
    repairs_sent: int
    repairs_received: int
    bootstrap_waits_for: tuple[str, ...]
    log_recovery_waits_for: tuple[int, ...]
    """Members, by hash, that a suspect asked where their logs end, and that did not answer."""
    sought: tuple[int, ...]
    """Of the sequencer: nodes, by hash, that multicast alone does not reach, be they deaf or dead."""
    counts: Mapping[str, int]
