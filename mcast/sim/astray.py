"""More directed scenarios: what reaches the wrong node or leaves too late, and configurations of one number.

As in `directed`, each ends whole with every rule on, and breaks a promise without its rule.
"""

from __future__ import annotations

from functools import partial

from mcast.sim.disk import SimFiles
from mcast.sim.invariants import Violation
from mcast.sim.network import Datagram, Delivery
from mcast.sim.node import SimNode
from mcast.sim.scenes import config_number
from mcast.sim.stage import Stage, has_committed_all
from mcast.wire.messages import Kind


def copied_vote(stage: Stage) -> None:
    """Two stand for one epoch, and each vote reaches both: a vote counts only for whom it was given."""
    first, one, other = (stage.node(name) for name in ("n1", "n2", "n3"))
    stage.wait_for_bootstrap()
    stage.number(first, 3)
    stage.run(0.05)
    first.crash(power=True)
    rivals = {"n2": other, "n3": one}
    called = [False]

    def drops(source: str, target: str, datagram: Datagram) -> bool:
        if {source, target} == {"n2", "n3"}:
            return True
        if source in ("n4", "n5") and datagram.kind == Kind.PRE_VOTE_REQUEST:
            return True
        if datagram.kind == Kind.VOTE_REQUEST:
            return not called[0] or (source, target) not in (("n2", "n4"), ("n3", "n5"))
        if datagram.kind == Kind.VOTE and source in ("n4", "n5") and target in rivals:
            rivals[target].deliver([Delivery(datagram, "misdirected")])
        return called[0] and (source, target) in (("n2", "n5"), ("n3", "n4"))

    stage.drop(drops)
    stage.wait_until("n2 and n3 stand for one epoch", lambda: _stand_for_one_epoch(one, other))
    called[0] = True
    stage.run(0.1)
    stage.heal()


def copied_handover(stage: Stage) -> None:
    """The sequencer appoints its successor, and the appointment reaches another one instead."""
    first, second, third = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    stage.number(first, 3)
    stage.wait_until("they commit", partial(has_committed_all, first))

    def diverts(source: str, target: str, datagram: Datagram) -> bool:
        if datagram.kind == Kind.HANDOVER and target == "n2":
            third.deliver([Delivery(datagram, "misdirected")])
            return True
        return False

    stage.drop(diverts)
    first.hand_over(second)
    stage.run(0.1)
    if not first.replica.is_sequencer:
        raise Violation("n3 follows an appointment that was meant for n2")
    stage.heal()


def gathered_completions(stage: Stage) -> None:
    """A shell takes two completions at once: of what it acknowledges for one epoch, and of its promise of the next."""
    first, second, third = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    stage.number(first, 3)
    stage.run(0.000_6)
    third.held = True  # its disk has begun to sync them
    stage.wait_until("they commit without n3", partial(has_committed_all, first))
    first.hand_over(second)
    stage.wait_until("n2 leads without n3", lambda: second.replica.is_sequencer)
    third.release()
    stage.run(0.02)
    stage.heal()


def two_epochs_config(stage: Stage) -> None:
    """Two disks of four are lost and found again, and two epochs write two configurations of one number.

    The one that was cut has a majority that the other one's does not meet: no read may be judged by it.
    """
    first, second, third, fourth = (stage.node(f"n{at}") for at in (1, 2, 3, 4))
    stage.wait_for_bootstrap()
    number = config_number(first)
    stage.number(first, 2)
    stage.wait_until("they commit", partial(has_committed_all, first))
    stage.run(0.05)
    lost = _lose(fourth)
    stage.drop_frames_of("n1", to=("n2", "n3"))
    fourth.start()
    stage.wait_until("n1 alone has written a configuration without n4", lambda: config_number(first) == number + 1)
    stage.cut("n1")
    stage.network.gate = None
    _find(fourth, lost)
    sequencer = stage.wait_for_sequencer(("n2", "n3", "n4"))
    if sequencer is fourth:
        fourth.hand_over(second)
        stage.wait_until("n2 leads", lambda: second.replica.is_sequencer)
        sequencer = second
    stage.wait_until("its beginning commits", partial(has_committed_all, sequencer))
    stage.run(0.05)
    away = third if sequencer is not third else second
    helper = next(node for node in (second, third, fourth) if node not in (away, sequencer))
    lost = _lose(away)
    _write_without(stage, sequencer, away, helper)
    sequencer = stage.wait_for_sequencer((sequencer.name, helper.name))
    stage.wait_until("that one commits", partial(has_committed_all, sequencer))
    stage.cut(away.name)
    stage.network.blocked -= {(first.index, away.index), (away.index, first.index)}
    _find(away, lost)
    stage.number(sequencer, 3)
    stage.wait_until("two of three commit under it", partial(has_committed_all, sequencer))
    stage.run(0.3)
    stage.say("n1 and the disk that was found are a majority of what was cut")
    stage.read(first)
    stage.run(0.6)
    stage.heal()


def _write_without(stage: Stage, sequencer: SimNode, away: SimNode, helper: SimNode) -> None:
    """A configuration without `away` is on two disks, and not committed, when its sequencer dies."""
    number, named = config_number(sequencer), (helper.name, sequencer.name, Kind.ACK)
    stage.drop(
        lambda source, target, datagram: (source, target, datagram.kind) == named and config_number(sequencer) > number
    )
    away.start()
    stage.wait_until("the next epoch has written another one", lambda: config_number(sequencer) == number + 1)
    stage.wait_until("on two disks", lambda: helper.book.durable == sequencer.replica.last_seq)
    away.crash(power=False)
    sequencer.crash(power=False)
    sequencer.start()
    stage.network.gate = None


def _lose(node: SimNode) -> tuple[SimFiles, dict[int, bytes]]:
    node.crash(power=False)
    saved = node.files.copy(), dict(node.book.chains)
    node.wipe()
    return saved


def _find(node: SimNode, saved: tuple[SimFiles, dict[int, bytes]]) -> None:
    if node.up:
        node.crash(power=False)
    node.wipe()
    node.files, node.book.chains = saved
    node.start()


def _stands(node: SimNode) -> bool:
    return node.replica.statistics().role == "candidate"


def _stand_for_one_epoch(one: SimNode, other: SimNode) -> bool:
    return _stands(one) and _stands(other) and one.replica.promised == other.replica.promised
