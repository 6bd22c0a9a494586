"""What a scenario file says, checked: the values that both backends run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mcast.config.model import DEFAULT_MACHINE, Profile, Profiled, Sync
from mcast.scenario.template import Template

FaultKind = Literal["loss", "dup", "reorder", "corrupt", "delay", "kill", "stop", "partition"]

SHARES: Final = ("loss", "dup", "reorder", "corrupt")
"""The kinds with a `percent`: of all datagrams that reach the node."""
SEQUENCER: Final = "sequencer"
FOLLOWERS: Final = "followers"
ALL: Final = "all"
GROUPS: Final = (SEQUENCER, FOLLOWERS, ALL)
"""Words that stand for nodes as they are when a fault begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan(Profiled):
    """The cluster a scenario runs on: nodes n1, n2, ...; the observers come last."""

    nodes: int = 3
    observers: int = 0
    machine: str = DEFAULT_MACHINE
    sync: Sync = "os"
    profile: Profile = "default"
    mtu: int = 1500
    sealed: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """Every node's id."""
        return tuple(f"n{index + 1}" for index in range(self.nodes + self.observers))

    @property
    def members(self) -> tuple[str, ...]:
        """The ids of those that vote."""
        return self.ids[: self.nodes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`rate` commands a second for `seconds`, by `clients` sessions together; templates in turn, or a file's lines."""

    rate: float
    seconds: float
    clients: int = 1
    commands: tuple[Template, ...] = ()
    file: Path | None = None

    @property
    def count(self) -> int:
        """Commands in all, unless a file ends sooner."""
        return round(self.rate * self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Something that goes wrong at `at` (seconds from the workload's begin). `for_s` None: until the end."""

    at: float
    for_s: float | None
    nodes: tuple[str, ...]
    """Ids, or one of GROUPS alone."""
    kind: FaultKind
    percent: float = 0.0
    delay_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """Bounds that the run is held to; None: not bounded."""

    outage_ms_max: float | None = None
    repair_p99_ms_max: float | None = None
    recovered_within_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole checked file."""

    name: str
    path: Path
    cluster: ClusterPlan
    workload: Workload
    faults: tuple[FaultPlan, ...]
    expect: Expectations

    @property
    def ends_s(self) -> float:
        """When workload and faults are over, in seconds from the workload's begin; then everything is healed."""
        ends = [fault.at + (fault.for_s or 0.0) for fault in self.faults]
        return max([self.workload.seconds, *ends])
