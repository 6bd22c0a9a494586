"""Faults in time: when each begins and ends, which nodes it hits, and which faults one node has at a moment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mcast.scenario.model import ALL, FOLLOWERS, SEQUENCER, SHARES, FaultPlan, Scenario


class Turn(NamedTuple):
    """A fault begins, or ends."""

    at: float
    begins: bool
    fault: int
    """Its index in the scenario."""


def turns_of(scenario: Scenario) -> list[Turn]:
    """Everything that changes, in order of time; at one moment, what ends comes before what begins.

    A fault without `for` ends with the run, but for a kill, which then is for good.
    """
    turns = []
    for index, fault in enumerate(scenario.faults):
        turns.append(Turn(fault.at, True, index))
        if fault.for_s is not None or fault.kind != "kill":
            turns.append(Turn(scenario.ends_s if fault.for_s is None else fault.at + fault.for_s, False, index))
    return sorted(turns)


def resolve(nodes: Sequence[str], ids: Sequence[str], alive: Collection[str], sequencer: str | None) -> tuple[str, ...]:
    """The nodes that a fault hits now: `nodes` as in FaultPlan, `ids` of all, `sequencer` the last known.

    "followers" are all others that live; without a sequencer ever known, the first node stands for it.
    """
    presumed = sequencer or ids[0]
    if nodes == (SEQUENCER,):
        return (presumed,)
    if nodes == (FOLLOWERS,):
        return tuple(node for node in ids if node in alive and node != presumed)
    return tuple(ids) if nodes == (ALL,) else tuple(nodes)


@dataclass(frozen=True, slots=True)
class Plight:
    """All faults of one node at one time. Shares in percent of the datagrams that reach it."""

    loss: float = 0.0
    dup: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay_ms: float = 0.0
    cut: frozenset[str] = frozenset()
    """The nodes that nothing comes through from."""
    stopped: bool = False
    killed: bool = False

    @property
    def process(self) -> tuple[bool, bool]:
        """The state of its process: (stopped, killed)."""
        return self.stopped, self.killed

    def spec(self, seed: int) -> str:
        """The faults on its datagrams, as `mcast fault` takes them."""
        parts = [f"{name}={getattr(self, name):.9g}%" for name in SHARES if getattr(self, name)]
        parts += [f"delay={self.delay_ms:.9g}ms"] if self.delay_ms else []
        parts += [f"cut={'+'.join(sorted(self.cut))}"] if self.cut else []
        return ",".join([*parts, f"seed={seed}"]) if parts else "clear"


class Board:
    """The faults that are on, and on whom."""

    def __init__(self, faults: Sequence[FaultPlan], ids: Sequence[str]) -> None:
        self._faults = faults
        self._ids = tuple(ids)
        self._on: dict[int, tuple[str, ...]] = {}

    def begin(self, index: int, targets: tuple[str, ...]) -> None:
        """A fault begins at these nodes."""
        self._on[index] = targets

    def end(self, index: int) -> None:
        """A fault ends."""
        self._on.pop(index, None)

    @property
    def alive_nodes(self) -> tuple[str, ...]:
        """The nodes that no kill is on."""
        return tuple(node for node in self._ids if not self.plight(node).killed)

    def plights(self) -> dict[str, Plight]:
        """The faults of each node now."""
        return {node: self.plight(node) for node in self._ids}

    def plight(self, node: str) -> Plight:
        """The faults of this node now. Those of one kind add up."""
        plight = Plight()
        for index, targets in self._on.items():
            fault = self._faults[index]
            if fault.kind == "partition":
                others = set(self._ids) - set(targets) if node in targets else set(targets)
                plight = replace(plight, cut=plight.cut | others)
            elif node not in targets:
                continue
            elif fault.kind == "kill":
                plight = replace(plight, killed=True)
            elif fault.kind == "stop":
                plight = replace(plight, stopped=True)
            elif fault.kind == "delay":
                plight = replace(plight, delay_ms=plight.delay_ms + fault.delay_ms)
            else:
                plight = replace(plight, **{fault.kind: getattr(plight, fault.kind) + fault.percent})
        return plight
