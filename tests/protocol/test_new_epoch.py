"""What a new epoch takes away from a replica: all that was said in the one before and is not yet proven."""

from mcast.protocol.replica import Replica
from mcast.wire.frame import Frame
from mcast.wire.messages import Ack, Commit, PeerState, Stale

from .bench import KEY, arrival, drain, epoch_log, epoch_start, extended, frame_arrival, of, replica
from .test_following import LOG, beat, follower, hear


def test_what_waits_behind_a_gap_is_judged_anew() -> None:
    """A dead epoch's frame would follow the log's end, once the gap is filled; the new epoch numbered otherwise."""
    node = follower(LOG[:4])
    hear(node, LOG[:4], stream_sent=3)
    node.receive([frame_arrival("n1", LOG[5], counter=5)], 0.02)
    winner = [*LOG[:5], epoch_start(2, "n3", LOG[4])]
    hear_n3(node, winner, 0.03)
    node.receive([frame_arrival("n3", LOG[4], kind=2, promised=2)], 0.04)
    assert node.last_chain == LOG[4].chain
    node.receive([frame_arrival("n3", winner[5])], 0.05)
    assert node.last_chain == winner[5].chain


def hear_n3(node: Replica, frames: list[Frame], now: float, **how: int) -> None:
    node.receive([arrival("n3", beat(frames, 2, **how), promised=2)], now)
    drain(node, now)
    node.receive([arrival("n3", beat(frames, 2, **how), promised=2)], now)
    drain(node, now)


def test_only_a_repair_brings_what_an_older_epoch_numbered_in_a_run_too() -> None:
    node = follower(LOG[:3])
    hear(node, LOG[:3], stream_sent=2)
    hear_n3(node, [*LOG, epoch_start(2, "n3", LOG[-1])], 0.03)
    envelope, _ = frame_arrival("n3", LOG[3], counter=3, promised=2)
    node.receive([(envelope, LOG[3:5])], 0.04)
    assert node.last_seq == 3
    assert node.statistics().counts["data of another epoch"] == 2
    node.receive([frame_arrival("n1", frame, kind=2, promised=2) for frame in LOG[3:5]], 0.05)
    assert node.last_seq == 5


def test_an_age_is_not_proven_by_the_next_epochs_rounds() -> None:
    node = follower(LOG)
    stamp = next(ack.stamp for ack in of(Ack, hear(node, LOG, commit=4)))
    hear(node, LOG, now=0.02, commit=4, round=2, peers=(PeerState(KEY["n2"], 6, stamp),))
    hear_n3(node, [*LOG, epoch_start(2, "n3", LOG[-1])], 0.03, commit=4, round=9, confirmed=8)
    assert node.proof(0.04) is None


def test_a_heartbeat_or_a_commit_that_confirms_a_round_proves_an_age() -> None:
    for confirms in (beat(LOG, 1, commit=4, round=3, confirmed=2), Commit(1, 4, LOG[3].chain, 2)):
        node = follower(LOG)
        stamp = next(ack.stamp for ack in of(Ack, hear(node, LOG, commit=4)))
        hear(node, LOG, now=0.02, commit=4, round=2, peers=(PeerState(KEY["n2"], 6, stamp),))
        assert node.proof(0.03) is None
        node.receive([arrival("n1", confirms, promised=1)], 0.03)
        assert node.proof(0.05) == (4, 0.05 - stamp / 1e9)


def test_who_was_ahead_is_not_known() -> None:
    node = replica("n1", LOG, 1)
    peers = PeerState(KEY["n1"], 4, 0), PeerState(KEY["n2"], 9, 0)
    node.receive([arrival("n3", beat(LOG, 1, peers=peers), promised=1)], 0.01)
    drain(node, 0.01)
    assert node._following.rank() == 1
    node.receive([arrival("n3", Stale(1), promised=2)], 0.02)
    drain(node, 0.02)
    assert node._following.rank() == 0


def test_a_heartbeat_of_another_epoch_than_was_promised_is_nobodys() -> None:
    for epoch in (0, 2):
        node = follower(LOG)
        node.receive([arrival("n1", beat(LOG, epoch), promised=1)], 0.01)
        assert node.sequencer is None
        assert node.statistics().counts["heartbeat of another epoch"] == 1


def test_an_empty_log_is_not_reconciled_by_the_newest_epochs_alone() -> None:
    frames = epoch_log([(epoch, "n1", 1) for epoch in range(1, 30)])
    node = replica("n2", [], 29)
    assert of(Ack, hear(node, frames, epoch=29)) == []
    assert not node._core.reconciled
    short = extended(frames[:3], 1)
    other = replica("n2", [], 1)
    assert of(Ack, hear(other, short, epoch=1)), "a whole history is enough"


def test_who_led_leads_no_longer() -> None:
    node = follower(LOG)
    hear(node, LOG)
    assert node.sequencer == KEY["n1"]
    node.receive([arrival("n3", Stale(1), promised=2)], 0.02)
    drain(node, 0.02)
    assert node.sequencer is None
