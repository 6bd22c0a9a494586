"""What a backend hands over when a run has ended, before it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcast.client.receipts import Receipt
from mcast.scenario.audit import AuditedReplica
from mcast.scenario.workload import Meter

PATIENCE_S: Final = 20.0  # for a healed cluster to recover where the scenario names no bound, or a shorter one


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault as it came about."""

    at: float
    kind: str
    nodes: tuple[str, ...]
    for_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioRun:
    """One run of a scenario, as measured."""

    receipts: Sequence[Receipt | None]
    """As the commands; None where no answer came."""
    meter: Meter
    faults: tuple[Happened, ...]
    recovered_s: float | None
    """From healing until all living nodes were live and equal; None if they never were."""
    problem: str | None
    """What kept the cluster from recovering, or a promise broken on the way."""
    gaps: Mapping[str, Any]
    """The document of `mcast gaps --json`; nodes that ended have no counts."""
    replicas: Sequence[AuditedReplica]
    """The living nodes; empty if they never were equal."""
    events: int
    seconds: float
    """From the workload's begin until recovered: virtual ones on the simulator."""
    trace: str | None = None
    """On the simulator, the hash of all that happened."""
