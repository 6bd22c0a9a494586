"""Directed scenarios of forged promises, and of forged heartbeats."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from mcast.limits import EPOCH_JUMP_S
from mcast.sim.forger import forge
from mcast.sim.guards import heard
from mcast.sim.invariants import Violation
from mcast.sim.stage import Stage, has_committed_all
from mcast.sim.tampering import unwell
from mcast.wire.messages import Heartbeat, Kind

FORGED_STEPS: Final = 20  # that others are pushed up while one is away
REJOINED_S: Final = FORGED_STEPS * EPOCH_JUMP_S + 1.0  # it takes no longer than the forger did, and a moment


def far_promise(stage: Stage) -> None:
    """One forged datagram promises the last epoch to everybody: it must not be the last."""
    first = stage.wait_for_bootstrap()
    stage.number(first, 3)
    stage.wait_until("they commit", partial(has_committed_all, first))
    for node in stage.nodes:
        forge(node)
    stage.run(0.05)
    sequencer = stage.wait_for_sequencer([node.name for node in stage.nodes])
    stage.number(sequencer, 3)
    stage.wait_until("they commit", partial(has_committed_all, sequencer))
    stage.heal()


def pushed_up(stage: Stage) -> None:
    """While a member is away a forger pushes the others up and up: it comes after them."""
    stage.wait_for_bootstrap()
    stage.cut("n3")
    away, others = stage.node("n3"), stage.nodes[:2]
    for _ in range(FORGED_STEPS):
        for node in others:
            forge(node)
        stage.run(EPOCH_JUMP_S)
    sequencer = stage.wait_for_sequencer(("n1", "n2"))
    stage.number(sequencer, 3)
    stage.wait_until("they commit", partial(has_committed_all, sequencer))
    stage.join()
    stage.wait_until("n3 follows them", lambda: away.replica.promised == sequencer.replica.promised, REJOINED_S)
    stage.heal()


def promised_before_the_first_vote(stage: Stage) -> None:
    """The founder loses its disk when one member holds GENESIS, a forger raises promises, and the next one is drawn."""
    first, second, third = (stage.node(name) for name in ("n1", "n2", "n3"))
    stage.cluster.world.lies = True
    stage.drop(lambda _s, target, datagram: target == "n3" and datagram.kind == Kind.GENESIS)
    stage.wait_until("n2 holds GENESIS", lambda: second.up and second.book.durable == 1)
    first.crash(power=True)
    first.wipe()
    forge(second, 5)
    stage.run(0.01)
    stage.drop(lambda _s, target, datagram: target == "n2" and datagram.kind == Kind.GENESIS)
    first.start()
    stage.wait_until("n3 holds another GENESIS", lambda: third.up and third.book.durable == 1)
    stage.say("n2 and n3 are alone, each with a GENESIS of its own")
    stage.cut("n1")
    stage.run(1.0)
    stage.heal()
    stage.number(stage.wait_for_sequencer([node.name for node in stage.nodes]), 3)
    stage.heal()


def far_heartbeat(stage: Stage) -> None:
    """One heartbeat tells of events that no log can hold: nobody may fetch them, or lag behind them, for ever."""
    beat = _last_beat(stage)
    for name in ("n2", "n3"):
        stage.inject("n1", name, replace(beat, high=2**63 - 1))
    stage.run(0.001)
    _recovers(stage)


def rival_heartbeat(stage: Stage) -> None:
    """One heartbeat of the sequencer's own epoch comes in the name of another member."""
    beat = _last_beat(stage)
    stage.inject("n2", "n1", beat)
    stage.inject("n2", "n3", beat)
    stage.run(0.005)
    first = stage.node("n1").replica
    if first.is_sequencer and first.promised == beat.epoch:
        raise Violation("n1 goes on in an epoch that another one claims")
    _recovers(stage)


def recovered_elsewhere(stage: Stage) -> None:
    """One heartbeat tells every member that the cluster was recovered without it."""
    beat = _last_beat(stage)
    uuid = beat.cluster_uuid[:15] + bytes([beat.cluster_uuid[15] + 1])
    for name in ("n2", "n3"):
        stage.inject("n1", name, replace(beat, cluster_uuid=uuid))
    stage.inject("n2", "n1", replace(beat, cluster_uuid=uuid))
    stage.run(0.005)
    _recovers(stage)


def _last_beat(stage: Stage) -> Heartbeat:
    """The last heartbeat of n1, which leads; from now on datagrams are forged."""
    stage.cluster.world.lies = True
    first, beats = stage.wait_for_bootstrap(), heard(stage, "n1")
    stage.number(first, 3)
    stage.run(0.1)
    stage.network.gate = None
    return beats[-1]


def _recovers(stage: Stage) -> None:
    stage.wait_until("nothing is left of it", lambda: not unwell(stage), 2.0)
    stage.number(stage.wait_for_sequencer([node.name for node in stage.nodes]), 3)
    stage.wait_until("they commit everywhere", lambda: not unwell(stage), 0.5)
    stage.heal()
