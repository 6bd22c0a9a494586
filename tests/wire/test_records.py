import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX, SEQ_MAX
from mcast.wire.records import (
    CLIENT_KINDS,
    FRAGMENT_HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Record,
    RecordKind,
    decode_fragment_untrusted,
    decode_records_untrusted,
    encode_record,
    list_records_untrusted,
    sole_commands_untrusted,
    split_fragments,
)
from tests.wire.strategies import records

HEADER = struct.Struct("!B3sIQQQI")


@given(st.lists(records, max_size=5))
def test_a_run_of_records_comes_back(encoded: list[bytes]) -> None:
    decoded = list(decode_records_untrusted(b"".join(encoded)))
    again = [
        encode_record(RecordKind(kind), count, session, number, lowest, bytes(payload))
        for kind, count, session, number, lowest, payload in decoded
    ]
    assert again == encoded


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_a_cut_run_is_refused_unless_cut_between_records(encoded: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(encoded)
    ends = {sum(map(len, encoded[:count])) for count in range(len(encoded) + 1)}
    cut = data.draw(st.integers(0, len(whole)))
    if cut in ends:
        list(decode_records_untrusted(whole[:cut]))
    else:
        with pytest.raises(DecodeError):
            list(decode_records_untrusted(whole[:cut]))


bodies = st.one_of(
    st.binary(max_size=120),
    st.lists(records, max_size=3).map(b"".join),
    st.tuples(records, st.integers(0, 40), st.integers(0, 255)).map(
        lambda drawn: bytes(drawn[2] if at == drawn[1] else byte for at, byte in enumerate(drawn[0]))
    ),
    st.tuples(st.lists(records, min_size=1, max_size=2).map(b"".join), st.binary(max_size=3)).map(b"".join),
)


@given(bodies)
def test_all_ways_to_decode_agree(body: bytes) -> None:
    given_before: list[Record] = []
    flaw = ""
    try:
        for record in decode_records_untrusted(body):
            given_before.append(record)
        assert list_records_untrusted(body) == given_before
    except DecodeError as error:
        flaw = str(error)
        with pytest.raises(DecodeError) as caught:
            list_records_untrusted(body)
        assert str(caught.value) == flaw
    sole = sole_commands_untrusted(body)
    if not flaw and [record.kind for record in given_before] == [RecordKind.COMMANDS]:
        assert sole is not None and list(sole) == list(given_before[0])
    else:
        assert sole is None


def test_records_before_a_bad_one_are_given() -> None:
    good = encode_record(RecordKind.NOOP, 1, 2, 3, 3, b"")
    decoding = decode_records_untrusted(good + b"bad")
    assert next(decoding).session == 2
    with pytest.raises(DecodeError):
        next(decoding)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_taken(data: bytes) -> None:
    try:
        decoded = list(decode_records_untrusted(data))
    except DecodeError:
        return
    assert sum(RECORD_HEADER_BYTES + len(record.payload) for record in decoded) == len(data)


@pytest.mark.parametrize(
    ("kind", "reserved", "count", "session", "number", "lowest", "length"),
    [
        (0, b"\0\0\0", 1, 1, 1, 1, 4),
        (6, b"\0\0\0", 1, 1, 1, 1, 4),
        (255, b"\0\0\0", 1, 1, 1, 1, 4),
        (RecordKind.COMMANDS, b"\0\1\0", 1, 1, 1, 1, 4),
        (RecordKind.COMMANDS, b"\0\0\0", 0, 1, 1, 1, 4),
        (RecordKind.COMMANDS, b"\0\0\0", 5, 1, 1, 1, 4),
        (RecordKind.FRAGMENT, b"\0\0\0", 2, 1, 1, 1, 4),
        (RecordKind.NOOP, b"\0\0\0", 2, 1, 1, 1, 4),
        (RecordKind.COMMANDS, b"\0\0\0", 1, SEQ_MAX + 1, 1, 1, 4),
        (RecordKind.COMMANDS, b"\0\0\0", 1, 1, SEQ_MAX, 1, 4),
        (RecordKind.COMMANDS, b"\0\0\0", 1, 1, 2**64 - 1, 1, 4),
        (RecordKind.COMMANDS, b"\0\0\0", 1, 1, 1, 2, 4),
    ],
)
def test_a_bad_header_is_refused(
    kind: int, reserved: bytes, count: int, session: int, number: int, lowest: int, length: int
) -> None:
    data = HEADER.pack(kind, reserved, count, session, number, lowest, length) + bytes(length)
    with pytest.raises(DecodeError) as caught:
        list(decode_records_untrusted(data))
    assert caught.value.reason == "bad record"
    assert sole_commands_untrusted(data) is None


def test_a_length_beyond_the_body_is_refused_before_anything_is_taken() -> None:
    data = HEADER.pack(RecordKind.COMMANDS, bytes(3), 1, 1, 1, 1, 2**32 - 1) + bytes(100)
    with pytest.raises(DecodeError) as caught:
        list(decode_records_untrusted(data))
    assert caught.value.reason == "short record"


@given(st.binary(min_size=1, max_size=500), st.integers(1, 100))
def test_fragments_put_together_are_the_command(command: bytes, room: int) -> None:
    record_max = RECORD_HEADER_BYTES + FRAGMENT_HEADER_BYTES + room
    fragments = split_fragments(7, 3, 2, command, record_max)
    assert all(len(fragment) <= record_max for fragment in fragments)
    decoded = list(decode_records_untrusted(b"".join(fragments)))
    parts = [decode_fragment_untrusted(record.payload) for record in decoded]
    assert [(index, total) for index, total, _ in parts] == [(index, len(parts)) for index in range(len(parts))]
    assert b"".join(bytes(part) for *_, part in parts) == command
    assert {(record.session, record.request, record.lowest, record.count) for record in decoded} == {(7, 3, 2, 1)}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "short fragment"),
        (struct.pack("!II", 0, 1), "short fragment"),
        (struct.pack("!II", 1, 1) + b"x", "bad fragment"),
        (struct.pack("!II", 0, 0) + b"x", "bad fragment"),
        (struct.pack("!II", 0, COMMAND_BYTES_MAX + 1) + b"x", "bad fragment"),
    ],
)
def test_a_bad_fragment_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_fragment_untrusted(memoryview(payload))
    assert caught.value.reason == reason


def test_clients_write_no_internal_records() -> None:
    assert {kind for kind in RecordKind if kind < RecordKind.GENESIS} == CLIENT_KINDS
