import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX
from mcast.wire.envelope import ENVELOPE_BYTES, Envelope, address, decode_envelope_untrusted, encode_envelope, name_hash
from tests.wire.strategies import envelopes

ENVELOPE = Envelope(3, 1, 0, name_hash("lab"), name_hash("n1"), bytes(16), 1, 5)


@given(envelopes, st.binary(max_size=20))
def test_an_envelope_comes_back_at_any_offset_whatever_follows(envelope: Envelope, around: bytes) -> None:
    data = encode_envelope(envelope)
    assert len(data) == ENVELOPE_BYTES
    assert decode_envelope_untrusted(around + data + around, len(around)) == envelope


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: b"mc\x02" + rest))
def test_any_bytes_decode_to_what_encodes_to_them_or_are_refused(data: bytes) -> None:
    try:
        envelope = decode_envelope_untrusted(data)
    except DecodeError:
        return
    assert encode_envelope(envelope) == data[:ENVELOPE_BYTES]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"channel": 3}, "bad envelope"),
        ({"flags": 2}, "bad envelope"),
        ({"counter": 0}, "bad envelope"),
        ({"promised": EPOCH_MAX + 1}, "bad envelope"),
    ],
)
def test_fields_outside_their_bounds_are_refused(changed: dict[str, int], reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_envelope_untrusted(encode_envelope(ENVELOPE._replace(**changed)))  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize(("at", "reason"), [(0, "not an mcast datagram"), (2, "newer version"), (6, "bad envelope")])
def test_magic_version_and_reserved_bytes_are_checked(at: int, reason: str) -> None:
    data = bytearray(encode_envelope(ENVELOPE))
    data[at] ^= 0x40
    with pytest.raises(DecodeError) as caught:
        decode_envelope_untrusted(data)
    assert caught.value.reason == reason


def test_an_older_version_is_told_apart() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_envelope_untrusted(b"mc\x01" + encode_envelope(ENVELOPE)[3:])
    assert caught.value.reason == "older version"


def test_a_receiver_is_a_node_of_one_cluster_or_everybody() -> None:
    lab, prod, one, two = map(name_hash, ("lab", "prod", "n1", "n2"))
    assert address(lab) == lab
    assert len({address(cluster, node) for cluster in (lab, prod) for node in (None, one, two)}) == 6


def test_names_stand_as_their_blake2b_64() -> None:
    assert name_hash("n1") == 0xC16952960BCB12FD
