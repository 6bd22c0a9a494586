from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mcast.analysis import Reconciliation
from mcast.client.receipts import Receipt
from mcast.machine.kv import KeyValue
from mcast.machine.rehearsal import Rehearsal
from mcast.scenario.audit import NOTHING_LOST, NOTHING_TWICE, ONE_LOG, AuditedReplica, audit, ledger_findings
from mcast.wire.frame import Frame
from mcast.wire.records import RecordKind

COMMANDS: list[list[Any]] = [["set", "a", 1], ["incr", "a", 2], ["incr", "b"], ["append", "a", 1]]


class Log(Rehearsal):
    """A rehearsal that keeps its frames."""

    def __init__(self, commands: Sequence[Sequence[Any]] = COMMANDS) -> None:
        self.frames: list[Frame] = []
        super().__init__(KeyValue())
        self.outcomes = self.run(commands)

    def apply(self, records: Sequence[tuple[RecordKind, int, int, int, bytes]]) -> Frame:
        self.frames.append(super().apply(records))
        return self.frames[-1]

    def receipts(self) -> list[Receipt | None]:
        first = self.frames[2].first
        return [Receipt(first + at, 1, *outcome) for at, outcome in enumerate(self.outcomes)]

    def replica(self, name: str = "n1") -> AuditedReplica:
        engine = self.engine
        return AuditedReplica(name, engine.applied_seq, engine.chain, engine.result_chain, lambda: self.frames)


def test_an_honest_run_has_no_findings() -> None:
    log = Log()
    assert [one.kind for one in log.outcomes] == ["ok", "ok", "ok", "rejected"]
    found = audit(COMMANDS, log.receipts(), [log.replica(), log.replica("n2")], KeyValue)
    assert found == {NOTHING_LOST: [], NOTHING_TWICE: [], ONE_LOG: []}


def test_what_was_acknowledged_must_be_in_the_log() -> None:
    log = Log(COMMANDS[:3])
    reported = [*log.receipts(), Receipt(6, 1, "ok", 1, None)]
    [finding] = audit(COMMANDS, reported, [log.replica()], KeyValue)[NOTHING_LOST]
    assert "command 3 was acknowledged as event 6" in finding


def test_unknown_outcomes_may_have_happened_or_not() -> None:
    for log in (Log(), Log(COMMANDS[:3])):
        found = audit(COMMANDS, [*log.receipts()[:3], None], [log.replica()], KeyValue)
        assert not any(found.values())


def test_a_receipt_must_say_what_the_log_says() -> None:
    log = Log()
    receipts = log.receipts()
    assert receipts[1] is not None
    receipts[1] = receipts[1]._replace(value=99)
    [finding] = audit(COMMANDS, receipts, [log.replica()], KeyValue)[NOTHING_LOST]
    assert "command 1" in finding and "says otherwise" in finding


def test_a_command_executed_too_often_is_found() -> None:
    log = Log([*COMMANDS, COMMANDS[1]])
    found = audit(COMMANDS, log.receipts()[:4], [log.replica()], KeyValue)
    assert found[NOTHING_LOST] == [] and found[NOTHING_TWICE] == ["['incr', 'a', 2] was executed 1 times too often"]


def test_two_commands_cannot_be_one_event() -> None:
    log = Log([["incr", "a"]])
    reported = [*log.receipts(), *log.receipts()]
    found = audit([["incr", "a"]] * 2, reported, [log.replica()], KeyValue)
    assert found[NOTHING_TWICE] == ["event 3 was given to 2 commands"]


def test_replicas_that_differ_are_found() -> None:
    log = Log()
    other = replace(log.replica("n2"), result_chain=bytes(16))
    assert audit(COMMANDS, log.receipts(), [log.replica(), other], KeyValue)[ONE_LOG] == [
        "n2 and n1 differ in result chain"
    ]


def test_results_all_agree_on_and_nobody_can_repeat_are_found() -> None:
    log = Log()
    liars = [replace(log.replica(name), result_chain=bytes(16)) for name in ("n1", "n2")]
    [finding] = audit(COMMANDS, log.receipts(), liars, KeyValue)[ONE_LOG]
    assert "executed again, gives other results" in finding


def test_a_journal_must_hold_what_its_node_applied() -> None:
    log = Log()
    short = replace(log.replica("n2"), frames=lambda: log.frames[:-1])
    [finding] = audit(COMMANDS, log.receipts(), [log.replica(), short], KeyValue)[ONE_LOG]
    assert "the journal of n2 does not hold" in finding
    rotten = log.frames[-1]._replace(body=log.frames[-1].body[:-1] + b"\x7f")
    broken = replace(short, frames=lambda: [*log.frames[:-1], rotten])
    [finding] = audit(COMMANDS, log.receipts(), [log.replica(), broken], KeyValue)[ONE_LOG]
    assert "breaks at event 3" in finding
    found = audit(COMMANDS, log.receipts(), [broken], KeyValue)
    assert "breaks at event 3" in found[ONE_LOG][0] and found[NOTHING_LOST] and found[NOTHING_TWICE]


def test_ledgers_must_add_up() -> None:
    good = Reconciliation("n1", 5, 6, 4, 1, 1, 0)
    assert ledger_findings([good], exact=True) == []
    assert "n1 has 2 open gaps" in ledger_findings([replace(good, open=2)], exact=False)
    [finding] = ledger_findings([replace(good, repaired=3)], exact=False)
    assert "lost 6, but repaired 3" in finding
    unseen = replace(good, injected=7)
    assert ledger_findings([unseen], exact=False) == []
    assert ledger_findings([unseen], exact=True) == ["n1 found 6 losses of 7 injected"]
