"""Held to what was expected: one row for each invariant and each bound, with what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mcast.analysis import Reconciliation, reconcile, repair_latency
from mcast.machine.api import StateMachine
from mcast.scenario.audit import NOTHING_LOST, NOTHING_TWICE, ONE_LOG, RECONCILED, audit, ledger_findings
from mcast.scenario.model import Scenario
from mcast.scenario.outcome import Happened, ScenarioRun
from mcast.scenario.workload import Command

Backend = Literal["sim", "processes"]

ANSWERED: Final = "every command is answered"
RECOVERED: Final = "all living nodes recover"
_EXACT_KINDS: Final = frozenset({"loss", "reorder", "corrupt", "delay"})
"""Under these alone nothing but the injected is lost unseen: no node was away when something was sent."""


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant (without a bound) or expectation."""

    name: str
    bound: float | None
    measured: float | None
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioReport:
    """The result of a scenario."""

    scenario: str
    file: str
    backend: Backend
    seed: int
    checks: tuple[Check, ...]
    faults: tuple[Happened, ...]
    commands: Mapping[str, int]
    """submitted, acknowledged, ok, rejected, failed."""
    events: int
    seconds: float
    datagrams: tuple[Reconciliation, ...]
    """Each living node's account of lost datagrams."""
    trace: str | None
    replay: str | None
    """The command that repeats the run exactly; None where nothing can."""
    notes: tuple[str, ...] = ()
    """Where this backend did less than the file says."""

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def document(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {
            "scenario": self.scenario,
            "file": self.file,
            "backend": self.backend,
            "seed": self.seed,
            "ok": self.ok,
            "checks": [
                {"check": one.name, "bound": one.bound, "measured": one.measured, "ok": one.ok, "detail": one.detail}
                for one in self.checks
            ],
            "faults": [
                {"at": one.at, "for": one.for_s, "kind": one.kind, "nodes": list(one.nodes)} for one in self.faults
            ],
            "commands": dict(self.commands),
            "events": self.events,
            "seconds": round(self.seconds, 3),
            "datagrams": [
                {
                    "id": one.id,
                    "injected": one.injected,
                    "lost": one.detected,
                    "repaired": one.repaired,
                    "superseded": one.superseded,
                    "transferred": one.transferred,
                }
                for one in self.datagrams
            ],
            "trace": self.trace,
            "replay": self.replay,
            "notes": list(self.notes),
        }


def judge(  # noqa: PLR0913 - what was asked for and what came of it
    scenario: Scenario, commands: Sequence[Command], machine: type[StateMachine], run: ScenarioRun, backend: Backend,
    seed: int, replay: str | None,
) -> ScenarioReport:  # fmt: skip
    """Hold a run to its invariants, always, and to the scenario's expectations."""
    accounts = reconcile(run.gaps)
    receipts = [receipt for receipt in run.receipts if receipt is not None]
    outcomes = [receipt.outcome for receipt in receipts]
    return ScenarioReport(
        scenario=scenario.name,
        file=str(scenario.path),
        backend=backend,
        seed=seed,
        checks=(*_invariants(scenario, commands, machine, run, accounts), *_expectations(scenario, run)),
        faults=run.faults,
        commands={
            "submitted": len(commands),
            "acknowledged": len(receipts),
            "ok": outcomes.count("ok"),
            "rejected": outcomes.count("rejected"),
            "failed": outcomes.count("failed"),
        },
        events=run.events,
        seconds=run.seconds,
        datagrams=tuple(accounts),
        trace=run.trace,
        replay=replay,
        notes=tuple(_notes(scenario, backend)),
    )


def _notes(scenario: Scenario, backend: Backend) -> Iterator[str]:
    if backend == "sim" and scenario.cluster.sealed:
        yield "the simulator's datagrams carry checksums, no seal"
    if backend == "processes" and any(fault.kind == "partition" for fault in scenario.faults):
        yield "a partition of local processes cuts datagrams only: forwarding and catch-up over TCP still work"


def _invariants(
    scenario: Scenario, commands: Sequence[Command], machine: type[StateMachine], run: ScenarioRun,
    accounts: Sequence[Reconciliation],
) -> list[Check]:  # fmt: skip
    unanswered = run.receipts.count(None)
    note = f"{unanswered} of {len(commands)} are not" if unanswered else ""
    checks = [
        Check(RECOVERED, None, None, run.problem is None, run.problem or ""),
        Check(ANSWERED, None, None, not unanswered, note),
    ]
    if run.replicas:
        findings = audit(commands, run.receipts, run.replicas, machine)
    else:
        findings = {name: ["the logs were not compared: see above"] for name in (NOTHING_LOST, NOTHING_TWICE, ONE_LOG)}
    exact = all(fault.kind in _EXACT_KINDS for fault in scenario.faults)
    findings[RECONCILED] = ledger_findings(accounts, exact=exact)
    if not accounts:
        findings[RECONCILED].append("no node showed its ledger")
    return checks + [Check(name, None, None, not found, "; ".join(found)) for name, found in findings.items()]


def _expectations(scenario: Scenario, run: ScenarioRun) -> list[Check]:
    expect = scenario.expect
    checks = []
    if expect.outage_ms_max is not None:
        outage_ms = run.meter.outage_s * 1e3
        checks.append(Check("outage_ms_max", expect.outage_ms_max, outage_ms, outage_ms <= expect.outage_ms_max))
    if expect.repair_p99_ms_max is not None:
        closed = [gap for node in run.gaps["nodes"] if node.get("lost") is not None for gap in node["closed"]]
        latency = repair_latency(closed)
        is_within = latency.p99_ms is None or latency.p99_ms <= expect.repair_p99_ms_max
        note = f"{latency.count} gaps" if latency.count else "no gaps"
        checks.append(Check("repair_p99_ms_max", expect.repair_p99_ms_max, latency.p99_ms, is_within, note))
    if expect.recovered_within_s is not None:
        took = run.recovered_s
        is_within = took is not None and took <= expect.recovered_within_s
        checks.append(Check("recovered_within_s", expect.recovered_within_s, took, is_within))
    return checks
