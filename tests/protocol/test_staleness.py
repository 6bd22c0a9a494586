from mcast.protocol.staleness import Staleness
from mcast.wire.messages import Heartbeat, PeerState, Reign

ME = 7
REIGNS = (Reign(1, 3, bytes(16)),)


def beat(round_number: int, confirmed: int, commit: int, stamp_ns: int) -> Heartbeat:
    peers = (PeerState(ME, 1, stamp_ns),) if stamp_ns else ()
    return Heartbeat(1, bytes(16), 9, bytes(16), commit, bytes(16), round_number, confirmed, 0, 0, REIGNS, peers)


def test_hearing_a_heartbeat_proves_nothing() -> None:
    staleness = Staleness()
    staleness.heard(beat(1, 0, 5, 10**9), ME)
    assert staleness.age_s(2.0, 5) is None


def test_a_confirmed_round_proves_the_age_of_its_commit() -> None:
    staleness = Staleness()
    staleness.heard(beat(1, 0, 5, 10**9), ME)
    staleness.heard(beat(2, 1, 6, 2 * 10**9), ME)
    assert staleness.age_s(3.0, 5) == 2.0
    assert staleness.age_s(3.0, 4) is None


def test_a_round_without_our_stamp_proves_nothing() -> None:
    staleness = Staleness()
    staleness.heard(beat(1, 0, 5, 0), ME)
    staleness.confirmed(1)
    assert staleness.age_s(3.0, 9) is None


def test_a_new_epoch_forgets_open_rounds_but_not_proofs() -> None:
    staleness = Staleness()
    staleness.heard(beat(4, 0, 5, 10**9), ME)
    staleness.confirmed(4)
    staleness.heard(beat(5, 4, 8, 2 * 10**9), ME)
    staleness.reset()
    staleness.confirmed(5)
    assert staleness.age_s(3.0, 8) == 2.0


def test_a_sequencer_without_a_commit_of_its_own_proves_nothing() -> None:
    staleness = Staleness()
    staleness.heard(beat(1, 0, 2, 10**9), ME)
    staleness.confirmed(1)
    assert staleness.age_s(3.0, 9) is None
