from dataclasses import replace

from mcast.protocol.staleness import Proofs, Staleness
from mcast.wire.messages import EpochEntry, Heartbeat, PeerState

ME = 7
EPOCHS = (EpochEntry(1, 3, bytes(16)),)


def beat(round_number: int, confirmed: int, commit: int, stamp_ns: int) -> Heartbeat:
    peers = (PeerState(ME, 1, stamp_ns),) if stamp_ns else ()
    return Heartbeat(1, bytes(16), 9, bytes(16), commit, bytes(16), round_number, confirmed, 0, 0, EPOCHS, peers)


def listening() -> Staleness:
    staleness = Staleness()
    for stamp in (10**9, 2 * 10**9):
        staleness.note_stamp(stamp)
    return staleness


def test_an_echo_of_an_earlier_boots_stamp_proves_nothing() -> None:
    staleness = Staleness()
    staleness.on_heartbeat(beat(1, 0, 5, 10**15), ME)
    staleness.on_round_confirmed(1)
    assert staleness.age_s(3.0, 5) is None
    staleness.note_stamp(2 * 10**9)
    staleness.on_heartbeat(beat(2, 2, 5, 2 * 10**9), ME)
    assert staleness.age_s(3.0, 5) == 1.0


def test_hearing_a_heartbeat_proves_nothing() -> None:
    staleness = listening()
    staleness.on_heartbeat(beat(1, 0, 5, 10**9), ME)
    assert staleness.age_s(2.0, 5) is None


def test_a_confirmed_round_proves_the_age_of_its_commit() -> None:
    staleness = listening()
    staleness.on_heartbeat(beat(1, 0, 5, 10**9), ME)
    staleness.on_heartbeat(beat(2, 1, 6, 2 * 10**9), ME)
    assert staleness.age_s(3.0, 5) == 2.0
    assert staleness.age_s(3.0, 4) is None


def test_a_round_without_our_stamp_proves_nothing() -> None:
    staleness = listening()
    staleness.on_heartbeat(beat(1, 0, 5, 0), ME)
    staleness.on_round_confirmed(1)
    assert staleness.age_s(3.0, 9) is None


def test_a_new_epoch_forgets_open_rounds_but_not_proofs() -> None:
    staleness = listening()
    staleness.on_heartbeat(beat(4, 0, 5, 10**9), ME)
    staleness.on_round_confirmed(4)
    staleness.on_heartbeat(beat(5, 4, 8, 2 * 10**9), ME)
    staleness.reset()
    staleness.on_round_confirmed(5)
    assert staleness.age_s(3.0, 8) == 2.0


def test_a_sequencer_without_a_commit_of_its_own_proves_nothing() -> None:
    staleness = listening()
    staleness.on_heartbeat(beat(1, 0, 2, 10**9), ME)
    staleness.on_round_confirmed(1)
    assert staleness.age_s(3.0, 9) is None


def test_an_older_proof_tells_the_age_of_a_state_that_the_newest_is_ahead_of() -> None:
    proofs = Proofs()
    for commit, stamp_s in ((5, 1), (6, 2), (9, 3)):
        proofs.add(commit, stamp_s * 10**9)
    assert [proofs.age_s(4.0, applied) for applied in (4, 5, 6, 8, 9, 99)] == [None, 3.0, 2.0, 2.0, 1.0, 1.0]
    proofs.add(9, 3_500_000_000)
    assert proofs.age_s(4.0, 9) == 0.5
    proofs.add(20, 3_400_000_000)
    assert (proofs.commit, proofs.stamp) == (9, 3_500_000_000), "an older one tells nothing new"


def test_proofs_are_bounded_and_the_newest_is_always_kept() -> None:
    proofs = Proofs()
    for number in range(1, 10_000):
        proofs.add(number, number * 1_000_000)
    assert len(proofs._held) <= 64
    assert (proofs.commit, proofs.stamp) == (9_999, 9_999_000_000)
    assert proofs.age_s(10.0, 9_900) is not None, "0.1 s behind is within reach"


def test_a_commit_of_the_epoch_before_is_none_of_its_own() -> None:
    epochs = EpochEntry(1, 3, bytes(16)), EpochEntry(2, 9, bytes(16))
    for commit, proven in ((5, False), (9, True)):
        staleness = listening()
        staleness.on_heartbeat(replace(beat(1, 0, commit, 10**9), epoch=2, history=epochs), ME)
        staleness.on_round_confirmed(1)
        assert (staleness.age_s(3.0, 20) is not None) is proven


def test_no_proof_waits_behind_a_round_that_never_began() -> None:
    staleness = listening()
    staleness.on_heartbeat(beat(2**64 - 1, 0, 5, 10**9), ME)
    staleness.on_heartbeat(beat(2, 1, 6, 2 * 10**9), ME)
    staleness.on_round_confirmed(2)
    assert staleness.age_s(3.0, 6) == 1.0
