import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, SEQ_MAX
from mcast.storage.segment import (
    ENTRY_BYTES_MAX,
    ENTRY_EXTRA_BYTES,
    HEADER_BYTES,
    SegmentHeader,
    decode_header_untrusted,
    encode_entries,
    encode_header,
    entry_synced,
    read_entries,
    segment_name,
    segment_number,
    sound_entry,
)
from mcast.wire.frame import CHAIN_ZERO, make_frame

from .logs import a_log

HEADER = SegmentHeader(bytes(range(16)), 7, 1_000, b"c" * 16, 990)


def test_a_header_is_one_sector_and_comes_back() -> None:
    data = encode_header(HEADER)
    assert len(data) == HEADER_BYTES
    assert decode_header_untrusted(data) == HEADER


def test_a_headers_bytes_never_change() -> None:
    fields = "6d636173747365670000000100000000000102030405060708090a0b0c0d0e0f000000000000000700000000000003e8"
    assert encode_header(HEADER)[:72].hex() == fields + "63" * 16 + "00000000000003de"


@pytest.mark.parametrize("at", range(88))
def test_any_changed_byte_of_a_header_is_noticed(at: int) -> None:
    data = bytearray(encode_header(HEADER))
    data[at] ^= 1
    with pytest.raises(DecodeError):
        decode_header_untrusted(bytes(data))


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_a_header_decodes_or_raises_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_header_untrusted(data)


def test_entries_come_back_whole_up_to_the_first_that_is_cut() -> None:
    log = a_log(5, size=40)
    data = b"".join(encode_entries(log, 3, seed=9))
    assert len(data) == 5 * (ENTRY_EXTRA_BYTES + 40)
    assert read_entries(data) == (log, len(data))
    assert read_entries(data + bytes(500)) == (log, len(data))
    one = ENTRY_EXTRA_BYTES + 40
    for cut in range(1, one):
        assert read_entries(data[:-cut]) == (log[:4], 4 * one)
    assert read_entries(data, one) == (log[1:], len(data))


def test_an_entry_tells_the_synced_point_to_its_own_segment_only() -> None:
    data = b"".join(encode_entries(a_log(1), 77, seed=9))
    assert entry_synced(data, 0, 9) == 77
    assert entry_synced(data, 0, 10) is None
    assert entry_synced(data[:71], 0, 9) is None
    for at in range(72):
        changed = bytearray(data)
        changed[at] ^= 4
        assert entry_synced(bytes(changed), 0, 9) is None


def test_sound_entries_are_those_that_continue_the_log() -> None:
    log = [*a_log(1, size=40, count=3), *a_log(1, size=50, epoch=4, after=a_log(1, size=40, count=3)[0])]
    data = b"".join(encode_entries(log, 0, seed=9)) + bytes(200)
    after, epoch, chain, at = 0, -1, CHAIN_ZERO, 0
    for frame in log:
        assert sound_entry(data, at, 9, after, epoch, chain) == (frame, 0)
        for wrong in (
            (8, after, epoch, chain),
            (9, after + 1, epoch, chain),
            (9, after - 1, epoch, chain),
            (9, after, frame.epoch + 1, chain),
            (9, after, epoch, b"x" * 16),
        ):
            assert sound_entry(data, at, *wrong) is None
        at += ENTRY_EXTRA_BYTES + len(frame.body)
        after, epoch, chain = frame.last, frame.epoch, frame.chain
    assert sound_entry(data, at, 9, after, epoch, chain) is None
    ahead = b"".join(encode_entries(log[:1], 1, seed=9))
    assert sound_entry(ahead, 0, 9, 0, -1, CHAIN_ZERO) is None, "nothing is durable before it is written"


def test_any_changed_or_missing_byte_of_an_entry_is_noticed() -> None:
    data = b"".join(encode_entries(a_log(1, size=40), 0, seed=9))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        assert sound_entry(bytes(changed), 0, 9, 0, -1, CHAIN_ZERO) is None
        assert sound_entry(data[:at], 0, 9, 0, -1, CHAIN_ZERO) is None


def test_fields_out_of_bounds_are_no_sound_entry_however_they_are_signed() -> None:
    body = b"body"
    for epoch, first, count, commit, time in (
        (EPOCH_MAX + 1, 1, 1, 0, 0),
        (1, 1, 0, 0, 0),
        (1, 1, 5, 0, 0),
        (1, 1, 1, 1, 0),
        (1, 1, 1, 0, 1 << 63),
        (1, SEQ_MAX, 1, 0, 0),
    ):
        frame = make_frame(epoch, first, count, commit, time, CHAIN_ZERO, body)
        data = b"".join(encode_entries([frame], 0, seed=9))
        assert sound_entry(data, 0, 9, first - 1, 0, CHAIN_ZERO) is None


def test_bodies_are_written_as_they_are() -> None:
    log = a_log(3)
    buffers = encode_entries(log, 0, seed=1)
    assert all(buffer is frame.body for buffer, frame in zip(buffers[1::2], log, strict=True))


def test_names() -> None:
    assert segment_number(segment_name(42)) == 42
    for name in ("0000000001.segment.new", "1.segment", "journal", "00000000x1.segment", "0000000001"):
        assert segment_number(name) is None


def test_sizes_agree() -> None:
    assert ENTRY_BYTES_MAX - ENTRY_EXTRA_BYTES == 65_535
