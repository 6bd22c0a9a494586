import itertools

import pytest

from mcast.limits import DEEP_GAP_FRAMES, NAK_RANGES_MAX
from mcast.protocol.effects import CatchUp, Send
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.messages import Busy, Nak, PeerState, RepairGone

from ..bench import KEY, arrival, drain, epoch_log, extended, frame_arrival, of
from ..test_following import beat, follower, hear

LOG = epoch_log([(1, "n1", 300)])


def run(node: Replica, until: float, now: float, step: float = 0.0005) -> list[tuple[float, int, Nak]]:
    """Tick to a moment; the (time, target, Nak) on the way."""
    naks: list[tuple[float, int, Nak]] = []
    while now < until:
        node.tick(now)
        for effect in drain(node, now):
            if isinstance(effect, Send) and isinstance(effect.message, Nak):
                naks.append((now, effect.to, effect.message))
        now += step
    return naks


def nonce_of(node: Replica) -> int:
    """What the answer to a NAK of this node must echo."""
    return next(nak.nonce for _, _, nak in run(node, 0.02, 0.01))


def test_one_nak_asks_for_a_bursts_losses() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2])
    node.receive([frame_arrival("n1", LOG[i], counter=i) for i in range(3, 20, 2)], 0.02)
    naks = run(node, 0.0225, 0.02)
    assert len(naks) == 1
    when, target, nak = naks[0]
    assert target == KEY["n1"]
    assert 0.001 <= when - 0.02 <= 0.0021
    assert [(asked.first, asked.last) for asked in nak.ranges] == [(i, i) for i in range(3, 19, 2)]


def test_a_nak_is_bounded_and_oldest_first() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2])
    node.receive([frame_arrival("n1", LOG[i], counter=i) for i in range(3, 300, 2)], 0.02)
    naks = run(node, 0.026, 0.02)
    assert [len(nak.ranges) for _, _, nak in naks[:2]] == [NAK_RANGES_MAX, NAK_RANGES_MAX]
    assert naks[0][2].ranges[0].first == 3
    assert all(b - a >= 0.001 for (a, _, _), (b, _, _) in itertools.pairwise(naks))


def test_a_silent_sequencer_is_asked_twice_and_then_a_peer_that_has_it() -> None:
    node = follower(LOG[:2])
    peers = (PeerState(KEY["n3"], 90, 1), PeerState(KEY["n2"], 2, 1))
    hear(node, LOG[:2], high=90, peers=peers)
    asked = [target for _, target, _ in run(node, 0.3, 0.02)]
    assert asked[:2] == [KEY["n1"], KEY["n1"]]
    assert KEY["n3"] in asked
    assert KEY["n2"] not in asked


def test_busy_quiets_for_a_while() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], high=9)
    ((asked, _, nak),) = run(node, 0.023, 0.02)
    node.receive([arrival("n1", Busy(50_000, nak.nonce), promised=1)], asked)
    naks = run(node, 0.12, asked)
    assert naks
    assert naks[0][0] >= asked + 0.05


def test_a_deep_gap_goes_over_tcp_and_comes_back() -> None:
    far = 2 + DEEP_GAP_FRAMES + 400
    node = follower(LOG[:2])
    effects = hear(node, LOG[:2], high=far, peers=(PeerState(KEY["n3"], far, 1),))
    (fetch,) = of(CatchUp, effects)
    assert (fetch.first, fetch.until) == (3, far)
    assert set(fetch.peers) == {KEY["n1"], KEY["n3"]}
    assert node.statistics().catching_up
    assert run(node, 0.2, 0.02) == []
    whole = extended(LOG, far - LOG[-1].last)
    node.on_transfer(whole[2:], KEY["n3"], 0.3)
    assert node.last_seq == far
    assert not node.statistics().catching_up


def test_a_catch_up_without_progress_is_asked_for_again() -> None:
    far = 2 + DEEP_GAP_FRAMES + 400
    node = follower(LOG[:2])
    hear(node, LOG[:2], high=far)
    node.on_transfer_failed(KEY["n1"], 0.05)
    node.tick(0.06)
    assert of(CatchUp, drain(node, 0.06)) == []
    node.tick(0.2)
    assert of(CatchUp, drain(node, 0.2))
    node.receive([arrival("n1", beat(LOG[:2], 1, high=far, round=2), promised=1)], 0.3)
    assert of(CatchUp, drain(node, 0.3)) == []
    node.tick(1.3)
    assert of(CatchUp, drain(node, 1.3))


@pytest.mark.parametrize("answer", [Busy(50_000, 1), RepairGone(40, 0, 1)])
def test_a_refusal_of_somebody_elses_nak_moves_nothing(answer: Busy | RepairGone) -> None:
    for rules, moves in ((None, False), (Rules(answers_named=False), True)):
        node = follower(LOG[:2], rules=rules)
        hear(node, LOG[:2], high=50)
        node.receive([arrival("n1", answer, promised=1)], 0.02)
        assert (bool(of(CatchUp, drain(node, 0.02))) or not run(node, 0.03, 0.02)) is moves


def test_gone_sends_to_tcp() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2], high=50)
    node.receive([arrival("n1", RepairGone(40, 0, nonce_of(node)), promised=1)], 0.02)
    assert of(CatchUp, drain(node, 0.02))


def test_what_no_repairer_has_in_memory_is_fetched_to_the_end_even_if_frames_wait_behind_it() -> None:
    node = follower(LOG[:2])
    whole = extended(LOG, 60)
    hear(node, LOG[:2], high=whole[-1].last)
    node.receive([frame_arrival("n1", whole[-1], counter=90)], 0.01)
    node.receive([arrival("n1", RepairGone(40, 0, nonce_of(node)), promised=1)], 0.02)
    assert of(CatchUp, drain(node, 0.02))
    node.on_transfer(whole[2:30], KEY["n1"], 0.03)
    assert node.statistics().catching_up, "a NAK for what follows would be answered by GONE once more"
    node.on_transfer(whole[30:39], KEY["n1"], 0.04)
    assert not node.statistics().catching_up
