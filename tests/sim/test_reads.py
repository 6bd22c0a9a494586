"""The reader: an answer that is too old is noticed, one that never comes too."""

from __future__ import annotations

import pytest

from mcast.protocol.effects import ReadReady
from mcast.protocol.rules import Rules
from mcast.sim.invariants import Violation
from mcast.sim.stage import Stage
from mcast.wire.messages import Kind


def stage() -> Stage:
    return Stage(Rules(), None, members=3, delay_s=0.000_5)


def test_a_read_at_any_node_is_answered() -> None:
    scene = stage()
    first = scene.wait_for_bootstrap()
    scene.number(first, 3)
    for node in scene.nodes:
        scene.read(node)
    reader = scene.cluster.reader
    scene.wait_until("all are answered", lambda: reader.answered == 3)
    assert not reader.what_is_awaited()


def test_a_read_below_what_had_committed_is_a_violation() -> None:
    scene = stage()
    scene.wait_for_bootstrap()
    follower = scene.node("n2")
    scene.cut("n2")
    scene.read(follower)
    with pytest.raises(Violation, match="would read at event 1"):
        scene.cluster.reader.on_read_ready(follower, ReadReady((1,), 1))


def test_who_waits_for_ever_is_named() -> None:
    scene = stage()
    scene.wait_for_bootstrap()
    scene.cut("n2")
    scene.read(scene.node("n2"))
    scene.run(0.1)
    assert "a read asked of n2" in scene.cluster.reader.what_is_awaited()
    assert "a read asked of n2" in scene.cluster.what_is_missing()
    scene.node("n2").crash(power=False)
    assert not scene.cluster.reader.what_is_awaited()


def test_while_there_is_no_sequencer_a_majority_answers() -> None:
    scene = stage()
    first = scene.wait_for_bootstrap()
    last = scene.number(first, 3)
    scene.wait_until(
        "all know that they committed", lambda: all(node.replica.commit_seq == last for node in scene.nodes)
    )
    scene.drop(lambda _s, _t, datagram: datagram.kind == Kind.PRE_VOTE_REQUEST)
    scene.network.tcp_open = False
    first.crash(power=False)
    scene.read(scene.node("n2"))
    scene.wait_until("it is answered", lambda: scene.cluster.reader.answered == 1)
    assert scene.node("n2").replica.sequencer is None
