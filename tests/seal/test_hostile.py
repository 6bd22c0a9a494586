"""Whatever bytes arrive at a port, only DecodeError with a known reason comes out, and honest traffic goes on."""

import random
from collections import Counter

import pytest

from mcast.errors import DecodeError
from mcast.limits import INCARNATIONS_OPENED_MAX, UNPROVEN_DATAGRAMS_MAX
from mcast.seal import datagram, incarnations
from mcast.seal.datagram import Opener, Sealer
from mcast.seal.incarnations import Incarnations
from mcast.seal.keys import KeyRing
from mcast.wire.envelope import CONTROL, STREAM, UNICAST, name_hash
from mcast.wire.frame import CHAIN_ZERO, make_frame
from mcast.wire.messages import Kind, Nak, Proof, Range, encode_message

DATAGRAMS = 50_000
N1, N2 = name_hash("n1"), name_hash("n2")
REASONS = datagram.REASONS | incarnations.REASONS


def recorded(sealer: Sealer, rng: random.Random) -> list[bytes]:
    """What one process sent, as an eavesdropper has it."""
    frames = [
        make_frame(1, first, 1, 0, first, CHAIN_ZERO, rng.randbytes(rng.randrange(1, 300))) for first in range(1, 40)
    ]
    nak = encode_message(Nak(1, (Range(1, 5), Range(9, 9)), 7))
    return [
        *sealer.seal_frames(Kind.DATA, STREAM, 1, frames),
        *sealer.seal_frames(Kind.REPAIR, UNICAST, 1, frames[:5], N2),
        *[
            sealer.seal(Kind.NAK, channel, 1, b"", nak, to)
            for channel, to in ((CONTROL, None), (UNICAST, N2))
            for _ in range(10)
        ],
    ]


def damage(valid: bytes, rng: random.Random) -> bytes:
    """A forgery made of a valid datagram, or of nothing."""
    way = rng.randrange(7)
    if way == 0:
        return rng.randbytes(rng.randrange(300))
    if way == 1:
        return valid[: rng.randrange(1, 60)] + rng.randbytes(rng.randrange(200))
    if way == 2:
        return valid[: rng.randrange(len(valid))]
    if way == 3:
        return valid + rng.randbytes(rng.randrange(1, 50))
    if way == 4:
        at = rng.randrange(3, 112)
        return valid[:at] + rng.randbytes(8) + valid[at + 8 :]
    flipped = bytearray(valid)
    for _ in range(1 if way == 5 else 3):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


@pytest.mark.parametrize("ring", [KeyRing((b"\x02" * 32, b"\x01" * 32)), None], ids=["sealed", "unsealed"])
def test_a_flood_of_garbage_replays_and_flipped_bits_is_only_counted(ring: KeyRing | None) -> None:
    rng = random.Random(20)
    writing = None if ring is None else KeyRing(ring.keys[1:])
    live = Sealer(writing, "lab", "n1", rng.randbytes(16))
    past = [part for _ in range(12) for part in recorded(Sealer(writing, "lab", "n1", rng.randbytes(16)), rng)]
    present = recorded(live, rng)
    opener, admission = Opener(ring, "lab", {N1, N2}, N2), Incarnations(N2, {N1, N2}, rng.randbytes)
    counts: Counter[str] = Counter()
    delivered = 0

    def receive(data: bytes, now: float) -> int:
        try:
            envelope, message = opener.open_untrusted(memoryview(data))
            return len(admission.admit(envelope, message, now))
        except DecodeError as error:
            counts[error.reason] += 1
            return 0

    for number in range(DATAGRAMS):
        now = number * 1e-4
        choice = rng.random()
        if choice < 0.1:
            receive(rng.choice(past), now)
        elif choice < 0.2:
            receive(rng.choice(present), now)
        else:
            receive(damage(rng.choice(present if choice < 0.6 else past), rng), now)
        if number % 50 == 0:
            admission.tick(now)
            for _, message in admission.take_outgoing():
                receive(live.seal(Kind.PROOF, UNICAST, 1, b"", encode_message(Proof(message.random)), N2), now)
        if number % 100 == 0 and admission.live_incarnation(N1) == live.incarnation:
            assert receive(
                live.seal_frames(Kind.DATA, STREAM, 1, [make_frame(1, 1, 1, 0, 1, CHAIN_ZERO, b"x")])[0], now
            )
            delivered += 1
    assert delivered > DATAGRAMS / 100 - 5, "the live sender was heard all along"
    assert set(counts) <= REASONS
    damaged = "checksum" if ring is None else "wrong key or damaged"
    assert {damaged, "short envelope", "replayed", "foreign cluster"} <= set(counts), counts
    assert len(opener._ciphers[N1]._known) <= INCARNATIONS_OPENED_MAX
    assert admission.statistics().held <= UNPROVEN_DATAGRAMS_MAX
