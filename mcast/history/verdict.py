"""All checks of a history in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from mcast.history.calls import RecordedCall
from mcast.history.checks import Known, check_executed, check_levels, check_model, check_real_time
from mcast.history.findings import Finding, first_few
from mcast.history.linear import STEPS_MAX, check_registers
from mcast.history.log import compare_logs, read_log
from mcast.history.model import KeyValueModel, Model
from mcast.history.streams import Stretch, check_streams
from mcast.wire.frame import Frame


@dataclass(frozen=True, slots=True)
class Judgement:
    """The results of all checks. `undecided` names the keys whose search ran out of its budget."""

    findings: tuple[Finding, ...]
    undecided: tuple[str, ...]
    counts: Mapping[str, int]
    """"submit" or the query's level, and the outcome -> calls."""
    executed: int
    """Commands that took effect."""
    last_seq: int
    epochs: int
    given: int
    """Events that subscribers were given."""


def judge(  # noqa: PLR0913 - what there is to judge, and how, by name
    calls: Sequence[RecordedCall], logs: Mapping[str, Iterable[Frame]], stretches: Sequence[Stretch] = (), *,
    registers: str = "reg", make_model: Callable[[], Model] = KeyValueModel, steps_max: int = STEPS_MAX,
) -> Judgement:  # fmt: skip
    """Check a history against the logs (node -> its frames from event 1 on) of all nodes that survived, at rest.

    `stretches` are what subscribers were given.

    Keys that begin with `registers` are searched for linearizability: only set, cas and get may touch them.
    """
    findings: list[Finding] = []
    read = {}
    for node, frames in logs.items():
        read[node], broken = read_log(node, frames)
        findings += broken
    findings += compare_logs(read)
    acknowledged = max((call.seq or 0 for call in calls if call.is_acknowledged), default=0)
    findings += [
        Finding("exactly once", f"the log of {node} ends at event {log.last}; {acknowledged} was acknowledged")
        for node, log in read.items()
        if log.last < acknowledged
    ]
    log = max(read.values(), key=lambda each: each.last)
    unordered, undecided = check_registers(calls, registers, steps_max)
    known = Known(calls, stretches)
    findings += chain(
        check_executed(calls, log), check_real_time(calls, log, known), check_model(calls, log, make_model()),
        check_levels(calls, known), check_streams(stretches, calls, log, make_model()), unordered,
    )  # fmt: skip
    counts = Counter(f"{call.level or 'submit'} {call.outcome}" for call in calls)
    epochs = len(set(log.epochs.values()))
    given = sum(len(stretch.events) for stretch in stretches)
    return Judgement(tuple(first_few(findings)), tuple(undecided), counts, len(log.events), log.last, epochs, given)
