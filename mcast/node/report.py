"""What a node says of itself: its objects of `mcast status --json` and `mcast gaps --json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mcast.clock import monotonic_s
from mcast.limits import CLOCK_OFF_S
from mcast.node.strangers import change
from mcast.node.wallclock import log_ahead_words
from mcast.protocol.repair.ledger import LedgerReport
from mcast.protocol.statistics import Statistics
from mcast.storage.descriptors import exhausted
from mcast.storage.segment import SEGMENT_BYTES
from mcast.wire.envelope import name_hash

if TYPE_CHECKING:
    from mcast.node.shell import Shell

_GONE_FOR_GOOD: Final = (
    "; no majority is known to be whole, and {} did not say where its log ends: start it; if it is gone for good, "
    "start it anew with an empty data directory"
)
HISTORIES_FAILED_REPORTED: Final = 3  # rounds of asking everybody in vain, before it is said
LINK_FIELDS: Final = (
    "datagrams_sent", "bytes_sent", "sends", "datagrams_received", "bytes_received", "receives", "gso", "gro",
)  # fmt: skip
NO_DESCRIPTORS: Final = (
    "this process may open no more files: nothing more is acknowledged until it may; raise its limit with `ulimit -n`, "
    "or LimitNOFILE in its systemd unit, and start it again"
)
DISK_FULL: Final = (
    "the disk is full: nothing more is acknowledged until there is room; the journal's next segment needs "
    f"{SEGMENT_BYTES >> 20} MiB"
)


def state(shell: Shell) -> str:
    """One of the contract's states: "starting" until an epoch is known here, "catching-up" while it fetches.

    "isolated" when nothing has shown for a while that this node is in touch with a majority.
    """
    if shell.halted is not None:
        return "halted"
    if not shell.joined:
        return "starting"
    statistics = shell.replica.statistics()
    if statistics.catching_up or statistics.suspect or statistics.history_wanted is not None:
        return "catching-up"
    if not shell.was_live:
        return "starting"
    return "isolated" if shell.replica.is_isolated(monotonic_s()) else "live"


def status(shell: Shell) -> dict[str, Any]:
    """One node of `status --json`; chains in hex, at `applied_seq`. "queries" is the gateway's to count."""
    statistics, engine = shell.replica.statistics(), shell.engine
    object_: dict[str, Any] = {
        "id": shell.node_id,
        "role": shell.node.role,
        "votes": statistics.votes,
        "state": state(shell),
        "reachable": True,
        "epoch": statistics.epoch,
        "last_seq": statistics.last_seq,
        "commit_seq": statistics.commit_seq,
        "applied_seq": engine.applied_seq,
        "chain": engine.chain.hex(),
        "result_chain": engine.result_chain.hex(),
        "gaps_open": statistics.gaps_open,
        "naks_sent": statistics.naks_sent,
        "repairs_received": statistics.repairs_received,
        "repairs_sent": statistics.repairs_sent,
        "lag_events": max(statistics.high_seq - engine.applied_seq, 0),
        "queries": 0,
    }
    link = shell.transport.link.counters
    object_["sealed"] = shell.config.key_file is not None
    object_["sync"] = shell.config.sync
    object_["persisted_seq"] = statistics.persisted_seq
    object_["in_touch_ms"] = round(shell.replica.in_touch_s(monotonic_s()) * 1e3, 3)
    object_["isolated"] = shell.watch.isolation(monotonic_s())
    object_["refused"] = {**shell.transport.refusals(), **statistics.counts}
    object_["kernel_drops"] = link.kernel_drops
    object_["sends_lost"] = sum(link.sends_lost.values())
    names = {name_hash(node.id): node.id for node in shell.config.nodes}
    waits_for = [*statistics.bootstrap_waits_for, *filter(None, map(names.get, statistics.log_recovery_waits_for))]
    if waits_for:
        object_["waits_for"] = waits_for
    object_["link"] = {name: getattr(link, name) for name in LINK_FIELDS}
    now = monotonic_s()
    object_["wall_ns"] = max(int(now * 1e9) + shell.wall.read(), 0)
    object_["log_ahead_s"] = round(shell.replica.log_ahead_s(now), 3)
    object_["runs"] = shell.runs
    object_["allow_mixed"] = shell.config.allow_mixed
    object_["marks"] = marks(shell)
    object_["failures"] = dict(shell.handlers.failures)
    object_["unknown_commands"] = shell.handlers.unknown_commands
    if shell.duplicate is not None:
        object_["twin"] = shell.duplicate.hex()
    if shell.halted is not None:
        object_["reason"] = shell.halted
    elif statistics.suspect:
        rest = _GONE_FOR_GOOD.format(" and ".join(waits_for)) if waits_for else ""
        object_["reason"] = (
            f"{_doubt(statistics, names)}: it neither votes nor acknowledges until its log is known whole again, which "
            f"the others tell it: start those that do not run{rest}"
        )
    elif shell.is_disk_full:
        object_["reason"] = why_full()
    if statistics.history_wanted is not None:
        object_["awaits"] = f"{_history_words(statistics)}: they are being fetched, and no event can be judged before"
    object_["findings"] = findings(shell, statistics)
    return object_


def _doubt(statistics: Statistics, names: Mapping[int, str]) -> str:
    """Why the log may lack something, and what to do about that."""
    said = statistics.doubted
    if said is None:
        return "events acknowledged here before the restart may be missing"
    return (
        f"{names.get(said.by, 'another node')} heard it acknowledge event {said.seq} of epoch {said.epoch}, and its "
        f"log ended at event {said.last} when it started: its data directory is an older one, put back, or its disk "
        "lost what it had written (never put one node's directory back, start it empty; else look at the disk)"
    )


def marks(shell: Shell) -> list[list[Any]]:
    """[event, chain, result chain] of some events: enough to compare with a node that is not at the same one."""
    said = []
    for seq, known, results in shell.engine.marks():
        chain = known if known is not None else shell.replica.chain_at(seq)
        said.append([seq, None if chain is None else chain.hex(), results.hex()])
    return said


def why_full() -> str:
    """Why nothing more can be written."""
    return NO_DESCRIPTORS if exhausted() else DISK_FULL


def _history_words(statistics: Statistics) -> str:
    wanted = statistics.history_wanted
    assert wanted is not None
    return f"the epochs before epoch {wanted.epoch} (event {wanted.first}) are not known here"


def findings(shell: Shell, statistics: Statistics) -> list[str]:
    """What an operator should know beyond the state, each in one line: what, why it is likely, what to do."""
    versions = shell.transport.versions
    found = shell.watch.findings() + ([] if versions is None else versions.findings(monotonic_s()))
    if set_aside := shell.store.set_aside:
        words = ", ".join(set_aside[:3]) + (f" and {len(set_aside) - 3} more" if len(set_aside) > 3 else "")
        found.append(
            f"damage was found on this node's disk, and set aside as {words} in its data directory: look at the disk "
            "(smartctl, the kernel's log), then move that away"
        )
    if shell.duplicate is not None:
        found.append(
            f"another process runs as {shell.node_id} of a cluster named {shell.config.name!r}: end one of the two, or "
            f"give it another id; if that is another cluster, {change()}"
        )
    if (ahead_s := shell.replica.log_ahead_s(monotonic_s())) >= CLOCK_OFF_S:
        found.append(log_ahead_words(ahead_s))
    if statistics.history_wanted is not None and statistics.histories_failed >= HISTORIES_FAILED_REPORTED:
        found.append(
            f"{_history_words(statistics)}, and no node gave them, asked {statistics.histories_failed} times: see that "
            "the others are up, and that TCP passes between the nodes"
        )
    if (outcomes := shell.recomputing.finding) is not None:
        found.append(outcomes)
    return found


def gaps(shell: Shell) -> dict[str, Any]:
    """One node of `gaps --json`; `opened_at` in seconds since 1970."""
    every = [node.id for node in shell.config.nodes]
    return gaps_of(shell.node_id, shell.replica.ledger_report(), every, shell.wall.offset_ns / 1e9)


def gaps_of(node_id: str, ledger: LedgerReport, every: Iterable[str], offset_s: float) -> dict[str, Any]:
    """A ledger as a node of `gaps --json`: event ranges, counts of datagrams; `every` are the ids of all nodes.

    `offset_s` is what `opened_at` is ahead of the protocol's clock.
    """
    names = {name_hash(each): each for each in every}
    return {
        "id": node_id,
        "open": [list(gap) for gap in ledger.open],
        "closed": [
            {
                "first": gap.first,
                "last": gap.last,
                "opened_at": round(gap.opened_at + offset_s, 6),
                "naks": gap.naks,
                "repaired_by": None if gap.repaired_by is None else names.get(gap.repaired_by),
                "latency_ms": round(gap.latency_s * 1e3, 3),
            }
            for gap in ledger.closed
        ],
        "lost": ledger.lost,
        "repaired": ledger.repaired,
        "superseded": ledger.superseded,
        "transferred": ledger.transferred,
        "duplicates": ledger.duplicates,
        "injected": {
            "lost": ledger.injected_lost,
            "duplicates": ledger.injected_duplicated,
            "reordered": ledger.injected_reordered,
            "corrupted": ledger.injected_corrupted,
        },
    }
