from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mcast.errors import DecodeError
from mcast.limits import INCARNATIONS_OPENED_MAX
from mcast.seal.datagram import (
    CONTROL_OVERHEAD_BYTES,
    FRAME_OVERHEAD_BYTES,
    REASONS,
    Opener,
    Sealer,
    checksum,
    datagram_key,
)
from mcast.seal.keys import KeyRing
from mcast.wire.envelope import CONTROL, ENVELOPE_BYTES, SEALED, STREAM, UNICAST, name_hash
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Kind, Stale, encode_message

N1, N2, N3 = map(name_hash, ("n1", "n2", "n3"))
RING = KeyRing((b"\x01" * 32,))
OTHER_RING = KeyRing((b"\x02" * 32,))
INCARNATION = bytes(range(16))
FRAME = make_frame(3, 7, 2, 6, 1_000, CHAIN_ZERO, b"two records' bytes")

both = pytest.mark.parametrize("ring", [RING, None], ids=["sealed", "unsealed"])


def sealer(ring: KeyRing | None = RING, node: str = "n1", incarnation: bytes = INCARNATION) -> Sealer:
    return Sealer(ring, "lab", node, incarnation)


def opener(ring: KeyRing | None = RING, cluster: str = "lab") -> Opener:
    return Opener(ring, cluster, {N1, N2}, N2)


def data(ring: KeyRing | None = RING, frame: Frame = FRAME) -> bytes:
    return sealer(ring).seal(Kind.DATA, STREAM, 3, frame.head, frame.body)


def stale(ring: KeyRing | None = RING, to: int | None = N2) -> bytes:
    return sealer(ring).seal(Kind.STALE, UNICAST, 3, b"", encode_message(Stale(2)), to)


def reason_of(datagram: bytes, by: Opener) -> str:
    with pytest.raises(DecodeError) as caught:
        by.open_untrusted(memoryview(datagram))
    return caught.value.reason


@both
def test_a_frame_comes_out_as_it_went_in(ring: KeyRing | None) -> None:
    datagram = data(ring)
    envelope, frame = opener(ring).open_untrusted(memoryview(datagram))
    assert frame == FRAME
    assert envelope == (Kind.DATA, STREAM, SEALED if ring else 0, name_hash("lab"), N1, INCARNATION, 1, 3)
    assert len(datagram) == FRAME_OVERHEAD_BYTES + len(FRAME.body)


@both
def test_a_message_comes_out_as_it_went_in(ring: KeyRing | None) -> None:
    datagram = stale(ring)
    assert opener(ring).open_untrusted(datagram)[1] == Stale(2)
    assert len(datagram) == CONTROL_OVERHEAD_BYTES + 8


@both
def test_a_burst_is_its_frames_one_by_one(ring: KeyRing | None) -> None:
    frames = [make_frame(3, first, 1, 0, first, CHAIN_ZERO, b"x") for first in range(1, 5)]
    burst = sealer(ring).seal_frames(Kind.DATA, STREAM, 3, frames)
    opened = [opener(ring).open_untrusted(datagram) for datagram in burst]
    assert [frame for _, frame in opened] == frames
    assert [envelope.counter for envelope, _ in opened] == [1, 2, 3, 4]


def test_each_channel_counts_for_itself() -> None:
    one = sealer()
    one.seal_frames(Kind.DATA, STREAM, 3, [FRAME, FRAME])
    one.seal_frames(Kind.REPAIR, UNICAST, 3, [FRAME])
    assert [one.newest_counter(channel) for channel in (STREAM, CONTROL, UNICAST)] == [2, 0, 1]


def test_the_body_is_hidden_and_the_header_is_not() -> None:
    assert FRAME.body not in data() and FRAME.head in data()
    assert FRAME.body in data(None)


def test_nonce_and_key_are_as_the_protocol_says() -> None:
    datagram = data()
    key = datagram_key(RING.keys[0], name_hash("lab"), N1, INCARNATION)
    nonce = STREAM.to_bytes(4, "big") + (1).to_bytes(8, "big")
    assert AESGCM(key).decrypt(nonce, datagram[112:], datagram[:112]) == FRAME.body
    assert data(None)[-16:] == checksum(data(None)[:-16])


def test_every_process_of_every_sender_in_every_cluster_has_a_key_of_its_own() -> None:
    secret, cluster, other = RING.keys[0], name_hash("lab"), bytes(range(1, 17))
    wanted = [(cluster, N1, INCARNATION), (cluster, N1, other), (cluster, N1 + 1, INCARNATION), (N1, N1, INCARNATION)]
    keys = [datagram_key(secret, *one) for one in wanted]
    assert len(set(keys)) == len(wanted), "a counter that starts anew never meets a key again"
    for (in_cluster, sender, incarnation), key in zip(wanted, keys, strict=True):
        info = b"mcast datagram" + in_cluster.to_bytes(8, "big") + sender.to_bytes(8, "big")
        assert key == HKDF(SHA256(), 32, incarnation, info).derive(secret)


@both
@pytest.mark.parametrize("make", [data, stale])
def test_every_flipped_bit_is_refused(ring: KeyRing | None, make: Callable[[Any], bytes]) -> None:
    datagram = make(ring)
    by = opener(ring)
    for bit in range(len(datagram) * 8):
        damaged = bytearray(datagram)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            by.open_untrusted(bytes(damaged))
    by.open_untrusted(datagram)


@both
@pytest.mark.parametrize("make", [data, stale])
def test_every_truncation_is_refused(ring: KeyRing | None, make: Callable[[Any], bytes]) -> None:
    datagram = make(ring)
    by = opener(ring)
    for size in range(len(datagram)):
        with pytest.raises(DecodeError):
            by.open_untrusted(datagram[:size])


@both
def test_zero_padding_after_a_frame_is_tolerated_and_nothing_else(ring: KeyRing | None) -> None:
    by = opener(ring)
    assert by.open_untrusted(memoryview(data(ring) + bytes(40)))[1] == FRAME
    assert reason_of(data(ring) + bytes(39) + b"\x01", by) == "bad padding"
    assert reason_of(stale(ring) + b"\0", by) in {"wrong key or damaged", "checksum"}


def test_a_side_with_a_key_and_a_side_without_refuse_each_other() -> None:
    assert reason_of(data(None), opener(RING)) == "unsealed"
    assert reason_of(data(RING), opener(None)) == "sealed"


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "short envelope"),
        (data()[:55], "short envelope"),
        (b"xx" + data()[2:], "not an mcast datagram"),
        (b"mc\x09" + data()[3:], "newer version"),
        (b"mc\x01" + data()[3:], "older version"),
        (b"mc\x01" + data()[3:8] + b"another?" + data()[16:], "foreign cluster"),
        (stale(to=N1), "misdirected"),
        (stale(to=N3), "foreign cluster"),
        (stale(to=None), "wrong channel"),
        (data()[:4] + b"\x03" + data()[5:], "bad envelope"),
        (data()[:3] + b"\x63\x01" + data()[5:], "unknown kind"),
        (data()[:4] + b"\x01" + data()[5:], "wrong channel"),
        (stale()[:4] + b"\x00" + stale()[5:], "wrong channel"),
        (data()[:100], "short frame"),
        (data()[:-1], "short frame"),
        (stale()[:60], "short message"),
        (data()[:-1] + b"\0", "wrong key or damaged"),
        (Sealer(OTHER_RING, "lab", "n1", INCARNATION).seal_frames(Kind.DATA, STREAM, 3, [FRAME])[0],
         "wrong key or damaged"),
        (Sealer(RING, "lib", "n1", INCARNATION).seal_frames(Kind.DATA, STREAM, 3, [FRAME])[0], "foreign cluster"),
        (Sealer(RING, "lab", "n3", INCARNATION).seal_frames(Kind.DATA, STREAM, 3, [FRAME])[0], "unknown sender"),
        (Sealer(RING, "lab", "n2", INCARNATION).seal_frames(Kind.DATA, STREAM, 3, [FRAME])[0], "own datagram"),
        (sealer().seal(Kind.STALE, UNICAST, 3, b"", bytes(7), N2), "short message"),
        (sealer().seal(Kind.STALE, UNICAST, 3, b"", bytes(9), N2), "trailing bytes"),
        (sealer().seal(Kind.STALE, UNICAST, 3, b"", b"\xff" * 8, N2), "bad field"),
        (sealer().seal(Kind.COMMIT, CONTROL, 3, b"", bytes(8), N2), "wrong channel"),
        (sealer().seal(Kind.COMMIT, CONTROL, 3, b"", bytes(8), N1), "misdirected"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_reason(datagram: bytes, reason: str) -> None:
    assert reason in REASONS
    assert reason_of(datagram, opener()) == reason


def test_damage_without_a_key_is_a_checksum() -> None:
    assert reason_of(data(None)[:-1] + b"\0", opener(None)) == "checksum"


def test_own_datagrams_are_told_apart_without_opening() -> None:
    own = Sealer(RING, "lab", "n2", INCARNATION).seal_frames(Kind.DATA, STREAM, 3, [FRAME])[0]
    assert opener().is_own(memoryview(own)) and opener().is_own(own)
    assert not opener().is_own(data()) and not opener().is_own(b"")


def test_any_key_of_the_ring_opens_and_the_one_that_worked_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def spying(secret: bytes, cluster: int, sender: int, incarnation: bytes) -> bytes:
        tried.append(secret)
        return datagram_key(secret, cluster, sender, incarnation)

    monkeypatch.setattr("mcast.seal.datagram.datagram_key", spying)
    old, new = RING.keys[0], OTHER_RING.keys[0]
    by = opener(KeyRing((new, old)))
    for start in range(3):
        datagrams = sealer(KeyRing((old, new)), incarnation=bytes([start]) * 16).seal_frames(
            Kind.DATA, STREAM, 3, [FRAME, FRAME]
        )
        tried.clear()
        for datagram in datagrams:
            assert by.open_untrusted(datagram)[1] == FRAME
        assert tried == ([new, old] if start == 0 else [old])


def test_forged_incarnations_leave_no_trace_and_replayed_ones_do_not_grow_memory() -> None:
    by = opener()
    ciphers = by._ciphers[N1]
    by.open_untrusted(data())
    for number in range(100):
        forged = data()[:24] + number.to_bytes(16, "big") + data()[40:]
        assert reason_of(forged, by) == "wrong key or damaged"
    assert list(ciphers._known) == [INCARNATION]
    for number in range(100):
        by.open_untrusted(sealer(incarnation=bytes([number]) * 16).seal_frames(Kind.DATA, STREAM, 3, [FRAME])[0])
        by.open_untrusted(data())
    assert len(ciphers._known) == INCARNATIONS_OPENED_MAX
    assert INCARNATION in ciphers._known, "what is in use stays"


def test_the_envelope_is_part_of_what_is_sealed() -> None:
    assert ENVELOPE_BYTES == 56
    promoted = data()[:48] + (9).to_bytes(8, "big") + data()[56:]
    assert reason_of(promoted, opener()) == "wrong key or damaged"


def stream(ring: KeyRing | None, count: int) -> list[bytes]:
    """So many DATA datagrams, padded as a GSO burst is."""
    frames = [make_frame(3, 7 + n, 1, 6, 1_000, CHAIN_ZERO, b"record" + bytes(n % 3)) for n in range(count)]
    datagrams = sealer(ring).seal_frames(Kind.DATA, STREAM, 3, frames)
    longest = max(map(len, datagrams))
    return [datagram.ljust(longest, b"\0") for datagram in datagrams[:-1]] + datagrams[-1:]


def opened_singly(by: Opener, datagrams: list[bytes]) -> list[Any]:
    found: list[Any] = []
    for datagram in datagrams:
        try:
            found.append(by.open_untrusted(memoryview(datagram)))
        except DecodeError as error:
            found.append(error.reason)
    return found


def opened_in_runs(by: Opener, datagrams: list[bytes]) -> list[Any]:
    found: list[Any] = []
    views, at = [memoryview(datagram) for datagram in datagrams], 0
    while at < len(views):
        try:
            envelope, frame = by.open_untrusted(views[at])
        except DecodeError as error:
            found.append(error.reason)
            at += 1
            continue
        run = [frame]
        at = by.open_run(envelope, run, views, at + 1)
        found += [(envelope._replace(counter=envelope.counter + n), one) for n, one in enumerate(run)]
    return found


@both
def test_a_run_is_what_its_datagrams_are_one_by_one(ring: KeyRing | None) -> None:
    datagrams = stream(ring, 6)
    assert opened_in_runs(opener(ring), datagrams) == opened_singly(opener(ring), datagrams)
    envelope, frame = opener(ring).open_untrusted(datagrams[0])
    by, run = opener(ring), [frame]
    by.open_untrusted(datagrams[0])
    assert by.open_run(envelope, run, datagrams, 1) == 6
    assert [one.first for one in run] == [7, 8, 9, 10, 11, 12]


@both
@pytest.mark.parametrize("at", range(0, FRAME_OVERHEAD_BYTES + 4, 3))
def test_a_damaged_datagram_in_a_run_is_judged_as_it_would_be_alone(ring: KeyRing | None, at: int) -> None:
    datagrams = stream(ring, 4)
    for flip in (0x01, 0x80):
        damaged = bytearray(datagrams[2])
        damaged[min(at, len(damaged) - 1)] ^= flip
        burst = [*datagrams[:2], bytes(damaged), *datagrams[3:]]
        assert opened_in_runs(opener(ring), burst) == opened_singly(opener(ring), burst)


@both
def test_what_does_not_go_on_ends_a_run(ring: KeyRing | None) -> None:
    datagrams, other, promising = stream(ring, 4), sealer(ring, incarnation=bytes(16)), sealer(ring)
    bursts = [
        [*datagrams[:2], datagrams[3]],
        [*datagrams[:2], datagrams[1], datagrams[2]],
        [datagrams[0], datagrams[1][:100], *datagrams[2:]],
        [datagrams[0], b"", datagrams[1]],
        [datagrams[0], stale(ring), datagrams[1]],
        [datagrams[0], other.seal(Kind.DATA, STREAM, 3, FRAME.head, FRAME.body), datagrams[1]],
        [datagrams[0], datagrams[1] + b"\0" * 9, datagrams[2] + b"\1"],
        [promising.seal(Kind.DATA, STREAM, promised, FRAME.head, FRAME.body) for promised in (3, 3, 4, 4)],
    ]
    for burst in bursts:
        assert opened_in_runs(opener(ring), burst) == opened_singly(opener(ring), burst)
