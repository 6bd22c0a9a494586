from dataclasses import dataclass
from struct import Struct
from typing import Annotated

import pytest

from mcast.errors import DecodeError
from mcast.wire.layout import U32, Blob, Bytes16, Flag, Reader, Text, codec_for

U8 = Annotated[int, Struct("!B")]
U16 = Annotated[int, Struct("!H")]


@dataclass(frozen=True, slots=True)
class Pair:
    left: U8
    right: U16

    def problem(self) -> str:
        return "left beyond right" if self.left > self.right else ""


@dataclass(frozen=True, slots=True)
class Mixed:
    number: U32
    name: Text
    flag: Flag
    pairs: Annotated[tuple[Pair, ...], 2]
    one: Pair
    blob: Blob
    id: Bytes16


MIXED = Mixed(0x01020304, "né", True, (Pair(1, 2), Pair(3, 4)), Pair(5, 6), b"blob", b"i" * 16)
ENCODED = b"\1\2\3\4\0\3n\xc3\xa9\1\0\2\1\0\2\3\0\4\5\0\6\0\4blob" + b"i" * 16


def test_fields_stand_in_order_with_nothing_between_them() -> None:
    codec = codec_for(Mixed)
    assert codec.encode(MIXED) == ENCODED
    assert codec.decode(Reader(ENCODED)) == MIXED


def test_every_cut_is_a_decode_error() -> None:
    codec = codec_for(Mixed)
    for size in range(len(ENCODED)):
        with pytest.raises(DecodeError):
            codec.decode(Reader(ENCODED[:size]))


def test_a_message_may_refuse_what_no_honest_node_writes() -> None:
    with pytest.raises(DecodeError, match="left beyond right"):
        codec_for(Pair).decode(Reader(b"\2\0\1"))


def test_more_items_than_allowed_are_refused() -> None:
    with pytest.raises(DecodeError, match="3 of at most 2 items"):
        codec_for(Mixed).decode(Reader(ENCODED[:10] + b"\0\3" + bytes(100)))


def test_a_reader_refuses_trailing_bytes_and_overruns() -> None:
    reader = Reader(b"abc")
    assert reader.take(2) == b"ab"
    with pytest.raises(DecodeError, match="trailing"):
        reader.end()
    with pytest.raises(DecodeError, match="1 of 2 bytes"):
        reader.take(2)
    assert reader.take(1) == b"c"
    reader.end()
