"""Directed scenarios of nodes that datagrams do not reach, or not all: they are as good as others, a little slower."""

from __future__ import annotations

from functools import partial
from typing import Final

from mcast.sim.invariants import Violation
from mcast.sim.node import SimNode
from mcast.sim.stage import Stage, has_committed_all
from mcast.wire.records import RecordKind, encode_record

SERVED_S: Final = 1.0  # for a command that needs the deaf one's acknowledgement
LARGE_BYTES: Final = 1_000
CARRIED_BYTES: Final = 600


def deaf_voter(stage: Stage) -> None:
    """A member that multicast does not reach is needed for the majority: it is sought, and its answers count."""
    first, deaf, away = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    stage.cluster.deafen(deaf.index, "multicast")
    stage.run(0.3)
    away.crash(power=False)
    for _ in range(5):
        stage.number(first, 3)
        stage.wait_until("they commit", partial(has_committed_all, first), SERVED_S)
    stage.wait_until("n2 has them", lambda: deaf.replica.commit_seq == first.replica.last_seq, SERVED_S)
    away.start()
    stage.heal()


def mute_majority(stage: Stage) -> None:
    """No datagram reaches two of three: TCP carries heartbeats, acknowledgements and frames, and then an election."""
    first, others = stage.wait_for_bootstrap(), (stage.node("n2"), stage.node("n3"))
    for node in others:
        stage.cluster.deafen(node.index, "datagrams")
    for _ in range(5):
        stage.number(first, 3)
        stage.wait_until("they commit", partial(has_committed_all, first), SERVED_S)
    first.crash(power=False)
    stage.wait_until("another one leads", lambda: any(node.replica.is_sequencer for node in others), SERVED_S)
    first.start()
    stage.heal()


def narrow_path(stage: Stage) -> None:
    """What is too large for the path to both followers is fetched over TCP; later events wait no longer than others."""
    first = stage.wait_for_bootstrap()
    stage.drop(lambda _source, _target, datagram: len(datagram.data) > CARRIED_BYTES)
    for number in range(1, 4):
        large = encode_record(RecordKind.NOOP, 1, 1 << 41, number, number, bytes(LARGE_BYTES))
        first.submit([(large,)])
        stage.number(first, 5)
        stage.wait_until("all commit", partial(has_committed_all, first), SERVED_S)
    for name in ("n2", "n3"):
        stage.wait_until(f"{name} knows what the path carries", partial(_knows_the_path, stage.node(name)), SERVED_S)
    stage.heal()


def _knows_the_path(node: SimNode) -> bool:
    carried = node.replica.reception(node.now).carried
    return carried is not None and CARRIED_BYTES - 20 <= carried <= CARRIED_BYTES


def hears_again(stage: Stage) -> None:
    """A member that was deaf for a while is helped no longer than it needs it."""
    first, deaf = stage.wait_for_bootstrap(), stage.node("n2")
    stage.cluster.deafen(deaf.index, "datagrams")
    stage.wait_until("n1 seeks it", lambda: bool(first.replica.statistics().sought), SERVED_S)
    stage.run(0.5)
    stage.network.no_datagrams.clear()
    stage.wait_until("n1 seeks it no more", lambda: not first.replica.statistics().sought, SERVED_S)
    stage.run(1.5)
    relayed = stage.cluster.world.marks["relayed"]
    stage.run(0.5)
    if stage.cluster.world.marks["relayed"] != relayed:
        raise Violation("TCP is used though datagrams arrive")
    stage.heal()
