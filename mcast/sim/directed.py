"""Directed scenarios: the counter-examples to single rules, played out.

Each is played twice by the tests: with every rule on it ends whole, without its rule it breaks a promise. `figure_8` is
the one of that number in Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgpack

from mcast.protocol.rules import Rules
from mcast.sim import astray, deafness, disklosses, forging, guards, scenes
from mcast.sim.invariants import Violation
from mcast.sim.node import SimNode
from mcast.sim.stage import Scene, Stage, has_committed_all
from mcast.wire.frame import make_frame
from mcast.wire.messages import FRAME_KINDS, Ack, Kind, Nak, Range
from mcast.wire.records import NONCE_BYTES, RecordKind, encode_record, split_fragments


def figure_8(stage: Stage) -> None:
    """An event of an older epoch is on a majority, yet not committed: a newer log may still replace it."""
    first = stage.wait_for_bootstrap()
    stage.drop_frames_of("n1", to=("n3", "n4", "n5"))
    stage.cut("n1", "n2")
    stage.number(first, 1)  # epoch 1, on n1 and n2 only
    stage.wait_until("n2 has it on disk", lambda: _durable(stage, "n2") == first.replica.last_seq)
    first.crash(power=True)
    stage.node("n2").crash(power=True)
    stage.join()
    stage.drop_frames_of("n3", "n4", "n5")
    stage.say("n3, n4 and n5 elect one whose EPOCH_START stays on its own disk")
    three = [stage.node(name) for name in ("n3", "n4", "n5")]
    before = three[0].replica.last_seq
    stage.wait_until("one of three begins an epoch", lambda: any(node.book.durable > before for node in three))
    lone = next(node for node in three if node.book.durable > before)
    lone.crash(power=True)
    stage.run(0.01)
    stage.join()
    stage.say("the old event returns, and reaches a majority")
    stage.network.gate = None
    stage.drop(lambda _s, _t, datagram: datagram.kind in FRAME_KINDS and _epoch_of(datagram.data) > 1)
    first.start()
    stage.node("n2").start()
    old = first.replica.last_seq
    others = [node for node in stage.nodes if node is not lone]
    stage.wait_until("the old event is on three disks", lambda: sum(node.book.durable >= old for node in others) >= 3)
    stage.run(0.05)
    stage.say("those who brought it back die, and the newer log wins")
    for name in ("n1", "n2"):
        stage.node(name).crash(power=True)
    lone.start()
    stage.join()
    stage.wait_until("the newer log leads", lambda: lone.replica.is_sequencer)
    stage.heal()


def long_absence(stage: Stage) -> None:
    """A member returns with a tail nobody shares, from so long ago that no heartbeat's history reaches back to it."""
    first = stage.wait_for_bootstrap()
    stage.cut("n1")
    stage.number(first, 20)
    stage.say("epoch after epoch begins among the others")
    for _ in range(10):
        sequencer = stage.wait_for_sequencer(("n2", "n3"))
        stage.number(sequencer, 2)
        stage.wait_until("they commit", partial(has_committed_all, sequencer))
        stage.cut(sequencer.name)
        stage.wait_until("it steps down", partial(_is_deposed, sequencer))
        stage.join()
        stage.cut("n1")
    stage.wait_for_sequencer(("n2", "n3"))
    stage.say("history is hard to get, so n1 has to wait with its judgement")
    stage.join()
    stage.network.tcp_open = False
    stage.run(0.5)
    stage.heal()


def lying_acknowledgement(stage: Stage) -> None:
    """A member acknowledges what it does not hold: its chain is another one."""
    first = stage.wait_for_bootstrap()
    stage.drop_frames_of("n1")
    last = stage.number(first, 3)
    liar = stage.node("n2")
    stage.inject("n2", "n1", Ack(first.replica.promised, _storage_id(liar), last, bytes(16), 1, 1, 1 << 20))
    stage.run(0.02)
    stage.heal()


def rotten_frame(stage: Stage) -> None:
    """A frame with the right numbers and a right checksum, whose chain does not follow."""
    first = stage.wait_for_bootstrap()
    follower = stage.node("n2")
    record = encode_record(RecordKind.NOOP, 1, 1 << 41, 1, 1, b"")
    last = follower.replica.last_seq
    rotten = make_frame(first.replica.promised, last + 1, 1, last, 0, b"another chain...", record)
    stage.inject("n1", "n2", rotten)
    stage.run(0.02)
    stage.number(first, 2)
    stage.heal()


def stale_ticket(stage: Stage) -> None:
    """A write ordered before a cut completes after it, and looks like a write of what follows the cut."""
    first, late = stage.wait_for_bootstrap(), stage.node("n5")
    for name in ("n2", "n3", "n4"):
        late.meet(stage.node(name))
    late.pause()
    stage.drop_frames_of("n1", to=("n2", "n3", "n4"))
    stage.number(first, 10)
    stage.run(0.01)
    stage.cut("n1")
    stage.network.gate = None
    sequencer = stage.wait_for_sequencer(("n2", "n3", "n4"))
    stage.number(sequencer, 3)
    stage.run(0.05)
    stage.say("n5 finds all of it in its socket at once")
    late.resume()
    stage.run(0.1)
    stage.heal()


def stale_bytes(stage: Stage) -> None:
    """A cut that is not durable: after a loss of power the tail is back, in a node that has promised it gone."""
    first, victim = stage.wait_for_bootstrap(), stage.node("n5")
    stage.drop_frames_of("n1", to=("n2", "n3", "n4"))
    stage.number(first, 12)
    stage.wait_until("n5 has them on disk", lambda: victim.book.durable == first.replica.last_seq)
    stage.cut("n1", "n5")
    stage.network.gate = None
    sequencer = stage.wait_for_sequencer(("n2", "n3", "n4"))
    stage.join()
    stage.drop_frames_of("n2", "n3", "n4", to=("n5",))
    stage.wait_until("n5 has cut its tail", lambda: victim.replica.last_seq < sequencer.replica.last_seq)
    stage.run(0.01)
    victim.crash(power=True)
    victim.start()
    stage.heal()


def resumed_epoch(stage: Stage) -> None:
    """A sequencer restarts so fast that nobody has missed it: it may not go on where it stopped."""
    first = stage.wait_for_bootstrap()
    stage.number(first, 3)
    stage.wait_until("they commit", partial(has_committed_all, first))
    first.crash(power=True)
    first.start()
    if first.replica.is_sequencer:
        stage.number(first, 1)
    stage.heal()


def short_log(stage: Stage) -> None:
    """A member that missed committed events asks for votes."""
    first = stage.wait_for_bootstrap()
    stage.cut("n3")
    stage.number(first, 3)
    stage.wait_until("they commit", partial(has_committed_all, first))
    stage.cut("n1")
    stage.network.blocked -= {(1, 2), (2, 1)}
    stage.say("n2 has it all, but n3 alone can make itself heard")
    stage.drop(lambda source, _t, datagram: source == "n2" and datagram.kind == Kind.PRE_VOTE_REQUEST)
    stage.run(1.0)
    stage.heal()


def old_tail(stage: Stage) -> None:
    """A frame of an epoch that is over follows a log's end; the new epoch's history gives its number to another."""
    first = stage.wait_for_bootstrap()
    stage.cut("n1")
    begin = first.replica.last_seq + 1
    stage.number(first, 2)
    stage.wait_until("n1 has them on disk", lambda: first.book.durable > begin)
    (frame, *_) = first.store.read(begin, 1)
    stage.drop_frames_of("n2", "n3")
    others = stage.node("n2"), stage.node("n3")
    stage.wait_until("an epoch begins", lambda: any(node.replica.last_seq == begin for node in others))
    sequencer, follower = others if others[0].replica.last_seq == begin else others[::-1]
    stage.run(0.05)
    stage.network.gate = None
    stage.inject(sequencer.name, follower.name, frame)
    stage.run(0.05)
    stage.heal()


def stale_question(stage: Stage) -> None:
    """Somebody who has not heard of the present epoch asks for repairs."""
    first = stage.wait_for_bootstrap()
    last = stage.number(first, 3)
    stage.inject("n2", "n1", Nak(0, (Range(last, last),), 1), promised=0)
    stage.run(0.05)
    stage.heal()


def lost_disk(stage: Stage) -> None:
    """A member comes back on an empty disk: what it had acknowledged and promised is gone, so it counts for nothing."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.node("n3").crash(power=True)
    second.crash(power=True)
    second.wipe()
    second.start()
    stage.number(first, 2)
    stage.run(0.1)
    stage.heal()


def second_before_first(stage: Stage) -> None:
    """A client's second request arrives, its first one does not."""
    first = stage.wait_for_bootstrap()
    session = _open_session(stage, first)
    for number in (2, 1, 2):
        command = msgpack.packb(["execute", 0, number, b""])
        first.submit([(encode_record(RecordKind.COMMANDS, 1, session, number, 1, command),)])
        stage.wait_until("it has committed", partial(has_committed_all, first))
    stage.heal()


def bootstrapped_twice(stage: Stage) -> None:
    """The founder loses its disk after a bootstrap with a majority, and bootstraps again with another one."""
    stage.cut("n3")
    stage.run(0.6)
    founder = stage.node("n1")
    founder.crash(power=True)
    founder.wipe()
    stage.join()
    stage.cut("n2")
    founder.start()
    stage.run(0.6)
    stage.heal()


def half_a_command(stage: Stage) -> None:
    """The first half of a fragmented command ends one epoch, its second half begins the next."""
    first = stage.wait_for_bootstrap()
    session = _open_session(stage, first)
    command = msgpack.packb(["execute", 99, 1, bytes(300)])
    fragments = split_fragments(session, 1, 1, command, 200)
    half = len(fragments) // 2
    first.submit([tuple(fragments[:half])])
    stage.wait_until("the first half has committed", partial(has_committed_all, first))
    stage.cut("n1")
    sequencer = stage.wait_for_sequencer(("n2", "n3"))
    sequencer.submit([tuple(fragments[half:])])
    stage.join()
    stage.heal()
    for node in stage.nodes:
        if 99 in node.recorder.executed:
            raise Violation(f"{node.name} executed a command made of two epochs' fragments")


def ghostly_heartbeats(stage: Stage) -> None:
    """A sequencer that hears nobody steps down; if it went on beating, its heartbeats would end every pre-vote."""
    stage.wait_for_bootstrap()
    stage.block("n2", "n1")
    stage.block("n3", "n1")
    others = stage.node("n2"), stage.node("n3")
    stage.wait_until("another one leads", lambda: any(node.replica.is_sequencer for node in others))
    stage.heal()


def _open_session(stage: Stage, sequencer: SimNode) -> int:
    sequencer.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(NONCE_BYTES)),)])
    stage.wait_until("the session is open", partial(has_committed_all, sequencer))
    return sequencer.replica.last_seq


def _durable(stage: Stage, name: str) -> int:
    return stage.node(name).book.durable


def _is_deposed(node: SimNode) -> bool:
    return not node.replica.is_sequencer


def _storage_id(node: SimNode) -> bytes:
    assert node.book.meta is not None
    return node.book.meta.storage_id


def _epoch_of(data: bytes) -> int:
    return int.from_bytes(data[56:64], "big")


SCENARIOS: Final[dict[str, Scene]] = {
    "fencing": Scene(stale_question),
    "assigned_frames_only": Scene(old_tail),
    "vote_log_rule": Scene(short_log),
    "epoch_begins_with_vote": Scene(resumed_epoch),
    "storage_id_checked": Scene(lost_disk),
    "dedupe_contiguous": Scene(second_before_first),
    "commit_own_epoch_only": Scene(figure_8, 5),
    "reconcile_before_ack": Scene(long_absence),
    "commit_proven": Scene(long_absence),
    "ack_chain_checked": Scene(lying_acknowledgement),
    "log_matching": Scene(rotten_frame),
    "ticket_named": Scene(stale_ticket, 5),
    "truncation_durable": Scene(stale_bytes, 5),
    "bootstrap_by_all": Scene(bootstrapped_twice),
    "fragments_cut_by_epoch": Scene(half_a_command),
    "heartbeats_end_with_epoch": Scene(ghostly_heartbeats, 3, 0.015),
    "repair_floor": Scene(scenes.spent_budget),
    "read_index_own_epoch": Scene(scenes.early_reader),
    "suspect_abstains": Scene(scenes.unsynced_tail, sync="os"),
    "positions_of_same_processes": Scene(scenes.passed_on, sync="os"),
    "read_index_confirmed": Scene(scenes.deposed_reader),
    "staleness_proven": Scene(scenes.deposed_proof, 5),
    "positions_of_newest_config": Scene(scenes.old_disk, 5),
    "watermark_before_ack": Scene(disklosses.lost_tail),
    "watermark_lowered_first": Scene(disklosses.cut_before_lowered, 5),
    "doubt_before_mending": Scene(disklosses.doubt_mended_away),
    "deaf_are_sought": Scene(deafness.deaf_voter),
    "answers_named": Scene(guards.late_index),
    "receiver_checked": Scene(astray.copied_handover),
    "config_named_by_epoch": Scene(astray.two_epochs_config, 4),
    "ack_of_own_epoch": Scene(guards.old_ack),
    "vote_of_own_epoch": Scene(guards.old_vote),
    "promise_ordered": Scene(astray.gathered_completions),
    "epoch_jump_bounded": Scene(forging.far_promise),
    "founder_calls_first": Scene(forging.promised_before_the_first_vote),
    "ack_of_begun_round": Scene(guards.future_round),
    "lone_word_doubted": Scene(forging.far_heartbeat),
    "lone_word_halts_nobody": Scene(forging.rival_heartbeat),
    "best_log_preferred": Scene(disklosses.older_disk),
    "doubt_when_told": Scene(disklosses.told_and_forgotten),
    "promise_held_against_log": Scene(disklosses.older_meta),
    "meta_held_against_watermark": Scene(disklosses.older_vote),
}
"""Rule -> the scenario that needs it."""

COPIED_VOTE: Final = Scene(astray.copied_vote, 5)
"""Two rules keep two candidates from counting one vote, which names whom it is for twice; each does alone."""

BOUNDS: Final[dict[str, Scene]] = {
    scene.__name__: Scene(scene)
    for scene in (
        scenes.deaf_sequencer,
        scenes.seen_death,
        scenes.half_replaced,
        scenes.handed_over,
        scenes.paged_history,
        forging.pushed_up,
        forging.recovered_elsewhere,
        deafness.mute_majority,
        deafness.narrow_path,
        deafness.hears_again,
    )
}
"""Scenarios of no single rule: what must come about, and how soon."""


def play(scenario: Scene, rules: Rules, lines: list[str] | None = None) -> str | None:
    """Play a scenario; what went wrong in words, None when nothing did."""
    stage = Stage(rules, lines, members=scenario.members, delay_s=scenario.delay_s, sync=scenario.sync)
    try:
        scenario.play(stage)
    except Violation as violation:
        return str(violation)
    return None
