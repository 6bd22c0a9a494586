"""What always must hold, judged from the replicas' journals and the clients' receipts, and believing neither.

One log is executed again by an engine of our own, with every call of a handler written down: what a client was told
must be found there, under its number and with its outcome, and nothing more often than it was submitted. The other
logs hold the same by their chains, which are computed anew from their bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import msgpack

from mcast.analysis import Reconciliation
from mcast.client.receipts import Receipt
from mcast.machine.api import StateMachine
from mcast.machine.context import Context
from mcast.machine.engine import Engine
from mcast.machine.outcomes import Outcome, decode_outcomes_untrusted
from mcast.wire.frame import CHAIN_ZERO, Frame, follows
from mcast.wire.records import RecordKind, decode_records_untrusted

NOTHING_LOST: Final = "nothing acknowledged is lost"
NOTHING_TWICE: Final = "nothing is applied twice"
ONE_LOG: Final = "one log and one result on all"
RECONCILED: Final = "the gap ledger reconciles"
_SHOWN_MAX: Final = 3  # findings of one kind that are told


@dataclass(frozen=True, slots=True)
class AuditedReplica:
    """One living node at the end: how far it applied, the proofs of that, and its journal's frames from event 1 on."""

    id: str
    applied_seq: int
    chain: bytes
    result_chain: bytes
    frames: Callable[[], Iterable[Frame]]


@dataclass(frozen=True, slots=True)
class Replay:
    """The results of executing a log."""

    executed: dict[int, bytes]
    """Event -> the command as packed."""
    twice: tuple[int, ...]
    """Events that were executed more than once."""
    outcomes: dict[int, Outcome]
    """Event -> its outcome."""
    chain: bytes
    result_chain: bytes


def replay(frames: Iterable[Frame], until: int, machine: type[StateMachine]) -> Replay:
    """Execute a log up to event `until` on a new machine."""
    recorder = _Recorder(machine())
    engine = Engine(cast(StateMachine, recorder))
    outcomes: dict[int, Outcome] = {}
    for frame in frames:
        if frame.last > until:
            break
        for record in decode_records_untrusted(frame.body):
            if record.kind in (RecordKind.COMMANDS, RecordKind.FRAGMENT):
                engine.watch(record.session)
        for applied in engine.apply([frame]):
            if applied.kind == "result" and applied.outcomes:
                for at, outcome in enumerate(decode_outcomes_untrusted(applied.outcomes)):
                    outcomes[applied.seq + at] = outcome
    return Replay(recorder.executed, tuple(recorder.twice), outcomes, engine.chain, engine.result_chain)


class _Recorder:
    """Stands between an engine and a machine, and writes every call of a command's handler down."""

    def __init__(self, machine: StateMachine) -> None:
        self.executed: dict[int, bytes] = {}
        self.twice: list[int] = []
        self._machine = machine
        self._commands = machine.commands()

    def __getattr__(self, name: str) -> Any:
        handler = getattr(self._machine, name)
        if name not in self._commands:
            return handler

        def note(ctx: Context, *arguments: Any) -> Any:
            if ctx.seq in self.executed:
                self.twice.append(ctx.seq)
            self.executed[ctx.seq] = msgpack.packb([name, *arguments])
            return handler(ctx, *arguments)

        return note


def audit(
    commands: Sequence[Sequence[Any]], receipts: Sequence[Receipt | None], replicas: Sequence[AuditedReplica],
    machine: type[StateMachine],
) -> dict[str, list[str]]:  # fmt: skip
    """Invariant -> what was found against it, at most a few of each. `receipts` stand as `commands`, None if unknown.

    A receipt is a client's word for what the cluster acknowledged.
    """
    findings: dict[str, list[str]] = {NOTHING_LOST: [], NOTHING_TWICE: [], ONE_LOG: []}
    first = replicas[0]
    for one in replicas[1:]:
        for what in ("applied_seq", "chain", "result_chain"):
            if getattr(one, what) != getattr(first, what):
                findings[ONE_LOG].append(f"{one.id} and {first.id} differ in {what.replace('_', ' ')}")
    problems = {one.id: problem for one in replicas if (problem := _journal_problem(one)) is not None}
    findings[ONE_LOG] += problems.values()
    first = next((one for one in replicas if one.id not in problems), first)
    if first.id in problems:
        reason = "no journal holds a whole log to look into"
        return {NOTHING_LOST: [reason], NOTHING_TWICE: [reason], ONE_LOG: findings[ONE_LOG][:_SHOWN_MAX]}
    done = replay(first.frames(), first.applied_seq, machine)
    if (done.chain, done.result_chain) != (first.chain, first.result_chain):
        findings[ONE_LOG].append(f"the log of {first.id}, executed again, gives other results")
    packed = [msgpack.packb(list(command)) for command in commands]
    findings[NOTHING_LOST] += _lost(packed, receipts, done)
    findings[NOTHING_TWICE] += _doubled(packed, receipts, done)
    return {what: found[:_SHOWN_MAX] for what, found in findings.items()}


def _journal_problem(replica: AuditedReplica) -> str | None:
    chain, last = CHAIN_ZERO, 0
    for frame in replica.frames():
        if frame.last > replica.applied_seq:
            break
        if frame.first != last + 1 or not follows(frame, chain):
            return f"the journal of {replica.id} breaks at event {frame.first}"
        chain, last = frame.chain, frame.last
    if (last, chain) != (replica.applied_seq, replica.chain):
        return f"the journal of {replica.id} does not hold what it applied up to event {replica.applied_seq}"
    return None


def _lost(packed: Sequence[bytes], receipts: Sequence[Receipt | None], done: Replay) -> list[str]:
    found = []
    for number, receipt in enumerate(receipts):
        if receipt is None:
            continue
        if done.executed.get(receipt.seq) != packed[number]:
            found.append(f"command {number} was acknowledged as event {receipt.seq}, which is not that command")
        elif done.outcomes.get(receipt.seq) != Outcome(receipt.outcome, receipt.value, receipt.error):  # type: ignore[arg-type]
            found.append(f"command {number}, event {receipt.seq}: its receipt says otherwise than the log")
    return found


def _doubled(packed: Sequence[bytes], receipts: Sequence[Receipt | None], done: Replay) -> list[str]:
    found = [f"event {seq} was executed again" for seq in done.twice]
    seqs = Counter(receipt.seq for receipt in receipts if receipt is not None)
    found += [f"event {seq} was given to {count} commands" for seq, count in seqs.items() if count > 1]
    surplus = Counter(done.executed.values()) - Counter(packed)
    for command, count in surplus.items():
        text = str(msgpack.unpackb(command, strict_map_key=False))
        found.append(f"{text if len(text) < 80 else text[:77] + '...'} was executed {count} times too often")
    return found


def ledger_findings(accounts: Iterable[Reconciliation], *, exact: bool) -> list[str]:
    """What does not add up. With `exact`, a node must also have found at least all that was injected at it."""
    found = []
    for account in accounts:
        if account.open:
            found.append(f"{account.id} has {account.open} open gaps")
        if account.difference:
            found.append(
                f"{account.id}: lost {account.detected}, but repaired {account.repaired} + superseded"
                f" {account.superseded} + transferred {account.transferred}"
            )
        if exact and account.natural_losses < 0:
            found.append(f"{account.id} found {account.detected} losses of {account.injected} injected")
    return found


def finals_of(status: Mapping[str, Any]) -> dict[str, tuple[int, bytes, bytes]]:
    """Node -> (applied_seq, chain, result_chain), of those that answered a status document."""
    return {
        node["id"]: (node["applied_seq"], bytes.fromhex(node["chain"]), bytes.fromhex(node["result_chain"]))
        for node in status["nodes"]
        if node["reachable"]
    }
