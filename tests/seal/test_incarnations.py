import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import (
    CANDIDATES_MAX,
    CHALLENGE_RETRY_MAX_S,
    CHALLENGE_RETRY_MIN_S,
    REPLAY_WINDOW,
    RETIRED_QUIET_S,
    UNPROVEN_BYTES_MAX,
    UNPROVEN_DATAGRAMS_MAX,
    UNPROVEN_S,
)
from mcast.seal.incarnations import REASONS, Incarnations, ReplayWindow, WaryWindow
from mcast.wire.envelope import CONTROL, STREAM, UNICAST, Envelope, name_hash
from mcast.wire.frame import CHAIN_ZERO, make_frame
from mcast.wire.messages import Challenge, Kind, Proof, Stale

N1, N2, N3 = map(name_hash, ("n1", "n2", "n3"))
FIRST, SECOND, THIRD = (bytes([number]) * 16 for number in (1, 2, 3))
FRAME = make_frame(1, 1, 1, 0, 1, CHAIN_ZERO, b"x")


class Peer:
    """A process as its datagrams show it: an incarnation and its counters."""

    def __init__(self, incarnation: bytes, node: int = N1) -> None:
        self.incarnation = incarnation
        self.node = node
        self.sent = [0, 0, 0]

    def __call__(self, channel: int, message: Any = FRAME) -> tuple[Envelope, Any]:
        self.sent[channel] += 1
        kind = Kind.DATA if channel == STREAM else Kind.STALE
        return Envelope(kind, channel, 1, 0, self.node, self.incarnation, self.sent[channel], 1), message


def receiver(own: int = N2) -> Incarnations:
    return Incarnations(own, {N1, N2}, random.Random(7).randbytes)


def challenge_of(incarnations: Incarnations) -> Challenge:
    ((to, message),) = incarnations.take_outgoing()
    assert to == N1 and isinstance(message, Challenge)
    return message


def prove(incarnations: Incarnations, peer: Peer, now: float = 0.0) -> list[Any]:
    """Bring `peer` to life: whatever it takes, and what was released."""
    incarnations.take_outgoing()
    for _ in range(2):
        incarnations.admit(*peer(STREAM), now)
        for _, message in incarnations.take_outgoing():
            return [arrival.message for arrival in incarnations.admit(*peer(UNICAST, Proof(message.random)), now)]
        now += CHALLENGE_RETRY_MAX_S
    raise AssertionError("no challenge went out")


def refusal(incarnations: Incarnations, datagram: tuple[Envelope, Any], now: float = 0.0) -> str:
    with pytest.raises(DecodeError) as caught:
        incarnations.admit(*datagram, now)
    assert caught.value.reason in REASONS
    return caught.value.reason


def test_first_contact_is_held_challenged_and_released_in_order_on_proof() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    sent = [peer(STREAM), peer(CONTROL, Stale(1)), peer(UNICAST, Stale(2)), peer(STREAM)]
    for datagram in sent:
        assert incarnations.admit(*datagram, 0.0) == []
    challenge = challenge_of(incarnations)
    assert incarnations.admit(*peer(UNICAST, Proof(challenge.random)), 0.1) == sent
    late = peer(STREAM)
    assert incarnations.admit(*late, 0.2) == [late]
    assert incarnations.statistics().held == 0 and incarnations.statistics().forgotten == 0
    assert incarnations.live_incarnation(N1) == FIRST


def test_a_proof_of_another_challenge_proves_nothing() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    assert refusal(incarnations, peer(UNICAST, Proof(bytes(16)))) == "unproven"
    incarnations.admit(*peer(STREAM), 0.0)
    assert refusal(incarnations, peer(UNICAST, Proof(bytes(16)))) == "unproven"
    assert incarnations.live_incarnation(N1) is None


def test_a_restarted_peer_replaces_its_older_self() -> None:
    incarnations, old, new = receiver(), Peer(FIRST), Peer(SECOND)
    prove(incarnations, old)
    assert prove(incarnations, new, 1.0) == [FRAME]
    assert incarnations.live_incarnation(N1) == SECOND
    assert refusal(incarnations, old(STREAM), 1.1) == "old incarnation"
    assert incarnations.take_outgoing() == [], "an old incarnation is not worth a challenge"
    assert incarnations.statistics().replaced == 1


def test_a_recorded_proof_is_none_of_the_next_challenge() -> None:
    incarnations, old, new = receiver(), Peer(FIRST), Peer(SECOND)
    incarnations.admit(*old(STREAM), 0.0)
    recorded = old(UNICAST, Proof(challenge_of(incarnations).random))
    incarnations.admit(*recorded, 0.1)
    prove(incarnations, new, 1.0)
    incarnations.admit(*Peer(THIRD)(STREAM), 2.0)
    assert isinstance(challenge_of(incarnations), Challenge)
    assert refusal(incarnations, recorded, 2.1) == "unproven"
    assert incarnations.live_incarnation(N1) == SECOND


def test_both_sides_restarting_at_once_believe_each_other() -> None:
    a, b = (
        Incarnations(N1, {N1, N2}, random.Random(1).randbytes),
        Incarnations(N2, {N1, N2}, random.Random(2).randbytes),
    )
    sides = {N1: (a, Peer(FIRST, N1)), N2: (b, Peer(SECOND, N2))}
    wire = [(N2, sides[N1][1](STREAM)), (N1, sides[N2][1](STREAM))]
    received: list[tuple[int, Any]] = []
    now = 0.0
    while wire:
        to, (envelope, message) = wire.pop(0)
        now += 0.0005
        received += [(to, arrival.message) for arrival in sides[to][0].admit(envelope, message, now)]
        wire += [(target, sides[to][1](UNICAST, out)) for target, out in sides[to][0].take_outgoing()]
        assert len(wire) < 10
    assert sorted(received) == sorted([(N2, FRAME), (N1, FRAME)])
    assert (a.live_incarnation(N2), b.live_incarnation(N1)) == (SECOND, FIRST)


def test_a_lost_challenge_is_repeated_ever_slower_and_stays_the_same() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    incarnations.admit(*peer(STREAM), 0.0)
    first, now, gaps = challenge_of(incarnations), 0.0, []
    while (due := incarnations.next_deadline()) < UNPROVEN_S:
        incarnations.tick(due)
        assert challenge_of(incarnations) == first
        gaps.append(round(due - now, 3))
        now = due
    assert gaps[:5] == [0.01, 0.02, 0.04, 0.08, 0.16]
    assert max(gaps) == CHALLENGE_RETRY_MAX_S and len(gaps) < 20
    assert incarnations.admit(*peer(UNICAST, Proof(first.random)), now)


def test_a_candidate_that_falls_silent_is_forgotten_with_what_was_held() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    incarnations.admit(*peer(STREAM), 0.0)
    challenge = challenge_of(incarnations)
    incarnations.tick(UNPROVEN_S)
    assert incarnations.statistics().held == 0 and incarnations.statistics().forgotten == 1
    assert incarnations.next_deadline() == float("inf")
    assert refusal(incarnations, peer(UNICAST, Proof(challenge.random)), UNPROVEN_S) == "unproven"


def test_nothing_waits_before_anything_came() -> None:
    incarnations = receiver()
    assert incarnations.next_deadline() == float("inf")
    incarnations.tick(1.0)
    assert incarnations.take_outgoing() == []


@pytest.mark.parametrize("window", [ReplayWindow, WaryWindow])
def test_a_window_takes_each_counter_once(window: type[ReplayWindow]) -> None:
    taken = window()
    order = [1, 3, 2, 5, 4, 9, 7]
    assert all(taken.take(counter) for counter in order)
    assert not any(taken.take(counter) for counter in order)


@pytest.mark.parametrize("far", [2**64 - 1, 2**32, 5_000])
def test_without_a_key_one_forged_counter_makes_no_true_one_old(far: int) -> None:
    sealed, wary = ReplayWindow(), WaryWindow()
    for window in (sealed, wary):
        assert all(window.take(counter) for counter in range(1, 50)) and window.take(far)
    assert not sealed.take(50), "nobody forges what is sealed"
    assert all(wary.take(counter) for counter in range(50, 200))
    assert not wary.take(60) and not wary.take(far)


def test_without_a_key_the_window_follows_where_many_were_lost() -> None:
    wary = WaryWindow()
    assert all(wary.take(counter) for counter in (*range(1, 50), *range(900_000, 900_020)))
    assert not any(wary.take(counter) for counter in range(900_000, 900_020))


def test_without_a_key_a_forged_first_counter_is_forgotten() -> None:
    wary = WaryWindow()
    assert wary.take(2**64 - 1)
    assert all(wary.take(counter) for counter in range(1, 50))
    assert not wary.take(49)


def test_replayed_old_datagrams_never_displace_the_live_one() -> None:
    incarnations, live = receiver(), Peer(SECOND)
    prove(incarnations, live)
    challenges = 0
    for step in range(1000):
        now = 1.0 + step * 0.001
        ghost = Peer(bytes([100 + step % 7]) * 16)
        try:
            assert incarnations.admit(*ghost(STREAM), now) == []
        except DecodeError as error:
            assert error.reason in REASONS
        for _, message in incarnations.take_outgoing():
            challenges += 1
            assert incarnations.admit(*live(UNICAST, Proof(message.random)), now) == []
        assert incarnations.admit(*live(STREAM), now) != []
        assert incarnations.live_incarnation(N1) == SECOND
    assert 0 < challenges <= 1.0 / CHALLENGE_RETRY_MIN_S + 1, "the rate of challenges is bounded"


def test_the_live_ones_answer_clears_a_ghost_away() -> None:
    incarnations, live, ghost = receiver(), Peer(SECOND), Peer(FIRST)
    prove(incarnations, live)
    incarnations.admit(*ghost(STREAM), 1.0)
    challenge = challenge_of(incarnations)
    assert incarnations.admit(*live(UNICAST, Proof(challenge.random)), 1.0) == []
    assert incarnations.statistics().held == 0 and incarnations.next_deadline() == float("inf")
    assert refusal(incarnations, ghost(UNICAST, Proof(challenge.random)), 1.0) == "unproven"


def test_a_successor_comes_to_life_amid_replays_of_many_old_ones() -> None:
    incarnations, live, successor = receiver(), Peer(FIRST), Peer(SECOND)
    prove(incarnations, live)
    released: list[Any] = []
    for step in range(200):
        now = 5.0 + step * 0.01
        for number in range(20):
            try:
                incarnations.admit(*Peer(bytes([50 + (step + number) % 100]) * 16)(STREAM), now)
            except DecodeError as error:
                assert error.reason == "hold full"
        try:
            released += incarnations.admit(*successor(STREAM), now)
        except DecodeError as error:
            assert error.reason == "hold full"
        for _, message in incarnations.take_outgoing():
            if step % 3 == 0:  # two of three challenges are lost
                released += incarnations.admit(*successor(UNICAST, Proof(message.random)), now)
        if released:
            break
    assert incarnations.live_incarnation(N1) == SECOND and step < 20


def test_a_retired_incarnation_may_prove_itself_once_the_live_one_is_silent() -> None:
    incarnations, one, other = receiver(), Peer(FIRST), Peer(SECOND)
    prove(incarnations, one)
    prove(incarnations, other, 1.0)
    heard = 1.0 + CHALLENGE_RETRY_MAX_S
    assert refusal(incarnations, one(STREAM), heard) == "old incarnation"
    assert prove(incarnations, one, heard + RETIRED_QUIET_S) == [FRAME]
    assert incarnations.live_incarnation(N1) == FIRST


def test_a_retired_incarnation_stays_refused_while_the_live_one_speaks() -> None:
    incarnations, old, live = receiver(), Peer(FIRST), Peer(SECOND)
    prove(incarnations, old)
    prove(incarnations, live, 1.0)
    for step in range(10):
        now = 2.0 + step * RETIRED_QUIET_S * 0.9
        incarnations.admit(*live(STREAM), now)
        assert refusal(incarnations, old(STREAM), now + RETIRED_QUIET_S * 0.8) == "old incarnation"


def test_a_new_process_counts_anew() -> None:
    incarnations, old, new = receiver(), Peer(FIRST), Peer(SECOND)
    prove(incarnations, old)
    for _ in range(5):
        incarnations.admit(*old(CONTROL, Stale(1)), 0.5)
    prove(incarnations, new, 1.0)
    datagram = new(CONTROL, Stale(1))
    assert datagram[0].counter == 1 and incarnations.admit(*datagram, 1.1) == [datagram]


def test_a_proof_releases_only_what_its_own_incarnation_sent() -> None:
    incarnations, ghost, peer = receiver(), Peer(FIRST), Peer(SECOND)
    incarnations.admit(*ghost(STREAM), 0.0)
    sent = [peer(STREAM), peer(STREAM)]
    incarnations.admit(*sent[0], 0.0)
    incarnations.admit(*ghost(STREAM), 0.0)
    incarnations.admit(*sent[1], 0.0)
    assert incarnations.admit(*peer(UNICAST, Proof(challenge_of(incarnations).random)), 0.0) == sent
    assert incarnations.statistics().forgotten == 2


def test_a_tls_connection_is_a_proof_but_revives_no_retired_one() -> None:
    incarnations, old, new = receiver(), Peer(FIRST), Peer(SECOND)
    incarnations.admit(*old(STREAM), 0.0)
    assert [arrival.message for arrival in incarnations.on_incarnation_proven(N1, FIRST, 0.0)] == [FRAME]
    assert incarnations.on_incarnation_proven(N1, FIRST, 0.0) == []
    assert incarnations.on_incarnation_proven(N1, SECOND, 0.1) == [] and incarnations.live_incarnation(N1) == SECOND
    assert incarnations.on_incarnation_proven(N1, FIRST, 0.2) == [] and incarnations.live_incarnation(N1) == SECOND
    assert incarnations.on_incarnation_proven(N3, FIRST, 0.2) == []
    assert incarnations.admit(*new(STREAM), 0.2)


def test_a_challenge_by_the_live_one_is_answered_and_one_by_a_stranger_rarely() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    prove(incarnations, peer)
    for number in range(3):
        assert incarnations.admit(*peer(UNICAST, Challenge(bytes([number]) * 16)), 1.0) == []
    assert incarnations.take_outgoing() == [(N1, Proof(bytes([number]) * 16)) for number in range(3)]
    stranger = Peer(THIRD)
    incarnations.admit(*stranger(UNICAST, Challenge(SECOND)), 1.0)
    assert (N1, Proof(SECOND)) in incarnations.take_outgoing()
    assert refusal(incarnations, stranger(UNICAST, Challenge(SECOND)), 1.0) == "challenged too often"
    assert incarnations.take_outgoing() == []


def test_control_and_unicast_are_taken_once_and_the_stream_is_left_to_the_protocol() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    prove(incarnations, peer)
    for channel in (CONTROL, UNICAST):
        datagram = peer(channel, Stale(1))
        assert incarnations.admit(*datagram, 1.0) == [datagram]
        assert refusal(incarnations, datagram, 1.0) == "replayed"
    datagram = peer(STREAM)
    assert incarnations.admit(*datagram, 1.0) == incarnations.admit(*datagram, 1.0) == [datagram]


def test_duplicates_among_the_held_are_released_once() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    datagram = peer(CONTROL, Stale(1))
    incarnations.admit(*datagram, 0.0)
    incarnations.admit(*datagram, 0.0)
    proof = peer(UNICAST, Proof(challenge_of(incarnations).random))
    assert incarnations.admit(*proof, 0.0) == [datagram]
    assert refusal(incarnations, datagram, 0.0) == "replayed"


def test_the_hold_is_bounded_in_datagrams_and_in_bytes() -> None:
    incarnations, peer = receiver(), Peer(FIRST)
    for _ in range(UNPROVEN_DATAGRAMS_MAX):
        incarnations.admit(*peer(STREAM), 0.0)
    assert refusal(incarnations, peer(STREAM)) == "hold full"
    assert (
        len(incarnations.admit(*peer(UNICAST, Proof(challenge_of(incarnations).random)), 0.0)) == UNPROVEN_DATAGRAMS_MAX
    )
    incarnations, peer = receiver(), Peer(FIRST)
    large = make_frame(1, 1, 1, 0, 1, CHAIN_ZERO, bytes(60_000))
    for _ in range(UNPROVEN_BYTES_MAX // 60_200):
        incarnations.admit(*peer(STREAM, large), 0.0)
    assert refusal(incarnations, peer(STREAM, large)) == "hold full"


def test_candidates_are_bounded_and_the_oldest_makes_room() -> None:
    incarnations = receiver()
    for number in range(CANDIDATES_MAX + 1):
        incarnations.admit(*Peer(bytes([number]) * 16)(STREAM), 0.0)
    assert incarnations.statistics().held == CANDIDATES_MAX and incarnations.statistics().forgotten == 1


def test_own_datagrams_are_nothing_and_strangers_are_refused() -> None:
    incarnations = receiver()
    assert incarnations.admit(*Peer(FIRST, N2)(STREAM), 0.0) == []
    assert refusal(incarnations, Peer(FIRST, N3)(STREAM)) == "unknown sender"
    assert incarnations.take_outgoing() == []


@pytest.mark.parametrize(
    ("counters", "taken"),
    [
        ([1, 2, 3], [True] * 3),
        ([3, 1, 2, 1], [True, True, True, False]),
        ([0], [False]),
        ([REPLAY_WINDOW + 5, 6, 5], [True, True, False]),
        ([1, 2**64 - 1, 2, 2**64 - 2], [True, True, False, True]),
        ([REPLAY_WINDOW, 2 * REPLAY_WINDOW, REPLAY_WINDOW + 1, REPLAY_WINDOW], [True, True, True, False]),
    ],
)
def test_replay_window(counters: list[int], taken: list[bool]) -> None:
    window = ReplayWindow()
    assert [window.take(counter) for counter in counters] == taken


@given(st.lists(st.integers(1, 3 * REPLAY_WINDOW), max_size=60))
def test_replay_window_takes_nothing_twice_and_all_that_is_recent(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for counter in counters:
        expected = counter not in seen and counter > max(seen, default=0) - REPLAY_WINDOW
        assert window.take(counter) == expected
        seen.add(counter)


@pytest.mark.parametrize("draw", [lambda rng: rng.random() < 0.3, lambda rng: False], ids=["lossy", "lossless"])
def test_two_nodes_find_each_other_through_loss_delay_and_restarts(draw: Callable[[random.Random], bool]) -> None:
    """Both restart several times, at random; after each quiet spell each believes the other's newest process."""
    for seed in range(10):
        rng = random.Random(seed)
        nodes = {
            node: (Incarnations(node, {N1, N2}, rng.randbytes), Peer(rng.randbytes(16), node)) for node in (N1, N2)
        }
        wire: list[tuple[float, int, tuple[Envelope, Any]]] = []
        for step in range(1200):
            now = step * 0.005
            for node, (incarnations, peer) in list(nodes.items()):
                if step % 400 < 100 and rng.random() < 0.02:
                    nodes[node] = (Incarnations(node, {N1, N2}, rng.randbytes), Peer(rng.randbytes(16), node))
                    continue
                incarnations.tick(now)
                out = [(N1 + N2 - node, FRAME, STREAM)] + [
                    (to, message, UNICAST) for to, message in incarnations.take_outgoing()
                ]
                wire += [
                    (now + rng.random() * 0.05, to, peer(channel, message))
                    for to, message, channel in out
                    if not draw(rng)
                ]
            wire.sort(key=lambda item: item[0])
            while wire and wire[0][0] <= now:
                _, to, datagram = wire.pop(0)
                try:
                    nodes[to][0].admit(*datagram, now)
                except DecodeError as error:
                    assert error.reason in REASONS
            if step % 400 == 399:
                assert nodes[N1][0].live_incarnation(N2) == nodes[N2][1].incarnation
                assert nodes[N2][0].live_incarnation(N1) == nodes[N1][1].incarnation
