"""Directed scenarios that guard single lines: what such a line keeps from happening, played out.

Like those of `directed` each ends whole, but no rule can be switched off: the line is always there. That one of these
breaks without it is shown by the table of mutants (`tests/mutants`). Most are about answers that come late: from a
epoch, a round or a request that is over.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from mcast.sim.forger import Forger
from mcast.sim.invariants import Violation
from mcast.sim.network import Datagram, Delivery
from mcast.sim.node import SimNode
from mcast.sim.stage import Scene, Stage, has_committed_all
from mcast.wire.envelope import name_hash
from mcast.wire.messages import FRAME_KINDS, Ack, Heartbeat, Kind, Vote


def transferred_old_tail(stage: Stage) -> None:
    """As `old_tail`, but the dead epoch's frame comes over TCP."""
    first = stage.wait_for_bootstrap()
    stage.cut("n1")
    begin = first.replica.last_seq + 1
    stage.number(first, 2)
    stage.wait_until("n1 has them on disk", lambda: first.book.durable > begin)
    (frame, *_) = first.store.read(begin, 1)
    stage.drop_frames_of("n2", "n3")
    others = stage.node("n2"), stage.node("n3")
    stage.wait_until("an epoch begins", lambda: any(node.replica.last_seq == begin for node in others))
    follower = others[1] if others[0].replica.last_seq == begin else others[0]
    stage.run(0.05)
    follower.driver.tell(lambda now: follower.replica.on_transfer([frame], name_hash("n1"), now))
    stage.network.gate = None
    stage.run(0.05)
    stage.heal()


def truncated_config(stage: Stage) -> None:
    """A configuration is cut with its epoch's tail; who held it leads next, by the one before."""
    first, lost = stage.wait_for_bootstrap(), stage.node("n5")
    lost.crash(power=True)
    lost.wipe()
    number = _config_number(first)
    stage.drop_frames_of("n1", to=("n2", "n3", "n4"))
    lost.start()
    stage.wait_until("n1 has written n5's removal", lambda: _config_number(first) == number + 1)
    stage.cut("n1", "n5")
    stage.network.gate = None
    sequencer, end = stage.wait_for_sequencer(("n2", "n3", "n4")), first.replica.last_seq
    stage.say("n1 hears of the new epoch, and of its EPOCH_START only later")
    stage.join()
    stage.cut("n5")
    stage.drop_frames_of("n2", "n3", "n4", to=("n1",))
    stage.wait_until("n1 has cut it", lambda: first.replica.last_seq < end)
    if _config_number(first) != number:
        raise Violation("n1 goes by a configuration that it has cut")
    stage.network.gate = None
    stage.wait_until("n1 has the new epoch's log", lambda: first.replica.last_seq == sequencer.replica.last_seq)
    sequencer.hand_over(first)
    stage.wait_until("n1 leads again", lambda: first.replica.is_sequencer)
    stage.number(first, 2)
    stage.run(0.1)
    stage.heal()


def redrawn_genesis(stage: Stage) -> None:
    """A member loses its disk when another one has confirmed GENESIS, and it has not: the next one is nobody's yet."""
    second, third = stage.node("n2"), stage.node("n3")
    stage.drop(lambda _s, target, datagram: target == "n3" and datagram.kind == Kind.GENESIS)
    stage.wait_until("n2 holds GENESIS", lambda: second.up and second.book.durable == 1)
    stage.run(0.02)
    third.crash(power=True)
    third.wipe()
    third.start()
    stage.network.gate = None
    stage.run(0.5)
    stage.heal()


def late_index(stage: Stage) -> None:
    """The answer to a read arrives once more when the next read is out."""
    first, reader = stage.wait_for_bootstrap(), stage.node("n3")
    answers: list[Datagram] = []

    def keeps(_source: str, target: str, datagram: Datagram) -> bool:
        if target == "n3" and datagram.kind == Kind.READ_INDEX:
            answers.append(datagram)
        return False

    stage.drop(keeps)
    stage.read(reader)
    stage.run(0.05)
    stage.drop(
        lambda _s, target, datagram: target == "n3" and datagram.kind in (*FRAME_KINDS, Kind.READ_INDEX, Kind.COMMIT)
    )
    stage.number(first, 3)
    stage.wait_until("they commit", partial(has_committed_all, first))
    stage.read(reader)
    stage.run(0.001)
    opened = stage.cluster.world.open(answers[0])
    assert not isinstance(opened, str)
    again = Forger(first).make(opened[1], first.replica.promised, reader.hash)
    reader.deliver([Delivery(again, "duplicated")])
    stage.run(0.02)
    stage.heal()


def late_ack(stage: Stage) -> None:
    """An acknowledgement arrives after its epoch is over, when a read of the deposed sequencer waits for its round."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.run(3.0)  # the first epoch's rounds get far ahead of what the next one's can be
    first.hand_over(second)
    stage.wait_until("n2 leads", lambda: second.replica.is_sequencer)
    late: list[Datagram] = []

    def holds(source: str, target: str, datagram: Datagram) -> bool:
        if (source, target, datagram.kind) == ("n3", "n2", Kind.ACK) and not late:
            late.append(datagram)
            return True
        return False

    stage.drop(holds)
    stage.wait_until("an acknowledgement is held up", lambda: bool(late))
    stage.run(0.02)
    _replaced(stage, second, ("n1", "n3"))
    stage.read(second)
    stage.run(0.003)
    second.deliver([Delivery(late[0], "")])
    stage.run(0.02)
    stage.heal()


def old_ack(stage: Stage) -> None:
    """An acknowledgement of the epoch before, sent when its sender had promised this one."""
    first, second, third = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    stage.run(3.0)
    old = first.replica.promised
    first.hand_over(second)
    stage.wait_until("n2 leads", lambda: second.replica.is_sequencer and has_committed_all(second))
    beats = heard(stage, "n2")
    stage.run(0.05)
    mine, reported = second.replica.promised, beats[-1].round
    _replaced(stage, second, ("n1", "n3"))
    stage.read(second)
    stage.run(0.003)
    stage.network.blocked.clear()
    for later in range(100):  # the old epoch had them all; one of them n2 has begun for the read
        ack = Ack(old, _storage_id(third), 1, _genesis_chain(second), reported + later, 1, 1 << 20)
        stage.inject("n3", "n2", ack, promised=mine)
    stage.cut("n2")
    stage.run(0.02)
    stage.heal()


def old_vote(stage: Stage) -> None:
    """A vote of the epoch before, sent when the voter had promised the next one."""
    first, second, third = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    stage.run(0.1)
    epoch = first.replica.promised
    stage.drop(lambda source, _t, _d: source == "n3" and third.replica.promised > epoch)
    first.hand_over(third)
    stage.wait_until("n3 stands", lambda: third.replica.statistics().role == "candidate")
    stage.inject("n2", "n3", Vote(epoch, _storage_id(second), True, third.hash), promised=third.replica.promised)
    stage.cut("n3")
    stage.run(1.0)
    stage.say("n1 has given up n3, and n2 leads the epoch that n3 stands for")
    first.hand_over(second)
    stage.wait_until("n2 leads", lambda: second.replica.is_sequencer)
    stage.number(second, 3)
    stage.wait_until("they commit", partial(has_committed_all, second))
    stage.heal()


def follower_of_the_deposed(stage: Stage) -> None:
    """A node reads through a sequencer that was cut off together with it, after many rounds of the epoch before."""
    follower = _followers_of_the_deposed(stage)
    stage.read(follower)
    stage.run(0.05)
    stage.heal()


def proof_of_the_deposed(stage: Stage) -> None:
    """The same for the proof of a state's age."""
    follower = _followers_of_the_deposed(stage)
    for _ in range(20):
        stage.run(0.005)
        stage.look(follower)
    stage.heal()


def suspect_reader(stage: Stage) -> None:
    """Without a sequencer a suspect asks where the logs end; its own, which lost what it acknowledged, says nothing."""
    first, second, third = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    second.files.write_back()
    stage.cut("n3")
    for _ in range(10):
        last = stage.number(first, 1)
        stage.wait_until("it has committed", lambda: first.replica.commit_seq == last)  # noqa: B023 - called at once
    second.crash(power=True)
    stage.join()
    stage.cut("n1")
    second.start()
    if second.replica.last_seq >= last:
        raise Violation("the loss of power cost nothing")
    stage.wait_until("n3 gives up on n1", lambda: third.replica.sequencer is None)
    stage.run(0.02)
    stage.read(second)
    stage.run(0.6)
    stage.heal()


def acknowledged_before_the_loss(stage: Stage) -> None:
    """What a suspect acknowledged before it lost it still counts at the sequencer, and commits after its restart."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.cut("n3")
    stage.number(first, 1)
    stage.wait_until("it has committed", partial(has_committed_all, first))
    stage.run(0.05)
    for node in (first, second):
        node.files.write_back()
    first.held = True
    last = stage.number(first, 5)
    stage.wait_until("n2 has acknowledged them", lambda: second.book.durable == last)
    stage.run(0.005)
    second.crash(power=True)
    stage.drop(lambda _s, target, datagram: target == "n2" and datagram.kind in FRAME_KINDS)
    second.start()
    stage.join()
    stage.drop(lambda _s, _t, datagram: datagram.kind in FRAME_KINDS)
    stage.run(0.06)
    first.release()
    stage.wait_until("n1 commits them", lambda: first.replica.commit_seq == last)
    stage.cut("n1")
    stage.run(0.6)
    stage.heal()


def _followers_of_the_deposed(stage: Stage) -> SimNode:
    """n2 leads after many rounds of n1's epoch, and is cut off with n5, which is returned; the others go on."""
    first, second, follower = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n5")
    stage.run(3.0)
    first.hand_over(second)
    stage.wait_until("n2 leads", lambda: second.replica.is_sequencer and has_committed_all(second))
    stage.run(0.1)
    _replaced(stage, second, ("n1", "n3", "n4"), along="n5")
    return follower


def future_round(stage: Stage) -> None:
    """An acknowledgement names a round that has not begun yet, and arrives when a read waits for that one."""
    first, third = stage.wait_for_bootstrap(), stage.node("n3")
    stage.run(0.1)
    mine = first.replica.promised
    ack = Ack(mine, _storage_id(third), 1, _genesis_chain(first), 2**64 - 1, 1, 1 << 20)
    stage.inject("n3", "n1", ack)
    stage.run(0.005)
    _replaced(stage, first, ("n2", "n3"))
    stage.read(first)
    stage.run(0.02)
    stage.heal()


def heard(stage: Stage, source: str) -> list[Heartbeat]:
    """The heartbeats that a node sends from now on, in a list that grows."""
    beats: list[Heartbeat] = []

    def keeps(sender: str, _target: str, datagram: Datagram) -> bool:
        if (sender, datagram.kind) == (source, Kind.HEARTBEAT):
            opened = stage.cluster.world.open(datagram)
            assert not isinstance(opened, str)
            if isinstance(opened[1], Heartbeat):
                beats.append(opened[1])
        return False

    stage.drop(keeps)
    return beats


def _replaced(stage: Stage, sequencer: SimNode, by: tuple[str, ...], along: str = "") -> None:
    """Cut a sequencer off, with a follower perhaps; the others' new one commits what this one does not hear of."""
    stage.cut(sequencer.name, *filter(None, [along]))
    stage.see_death(sequencer, by)
    successor = stage.wait_for_sequencer(by)
    stage.number(successor, 3)
    stage.wait_until("they commit", partial(has_committed_all, successor))
    if not sequencer.replica.is_sequencer:
        raise Violation(f"{sequencer.name} has found out already that it was replaced")


def _config_number(node: SimNode) -> int:
    return node.replica.statistics().config_number


def _storage_id(node: SimNode) -> bytes:
    assert node.book.meta is not None
    return node.book.meta.storage_id


def _genesis_chain(node: SimNode) -> bytes:
    (genesis, *_) = node.store.read(1, 1)
    return genesis.chain


GUARDS: Final[dict[str, Scene]] = {
    "transferred_old_tail": Scene(transferred_old_tail),
    "truncated_config": Scene(truncated_config, 5),
    "redrawn_genesis": Scene(redrawn_genesis),
    "late_index": Scene(late_index),
    "late_ack": Scene(late_ack),
    "old_ack": Scene(old_ack),
    "old_vote": Scene(old_vote),
    "follower_of_the_deposed": Scene(follower_of_the_deposed, 5),
    "proof_of_the_deposed": Scene(proof_of_the_deposed, 5),
    "suspect_reader": Scene(suspect_reader, sync="os"),
    "acknowledged_before_the_loss": Scene(acknowledged_before_the_loss, sync="os"),
}
"""Name -> the scenario; each row of the table of mutants that it catches names it."""
