"""Values are counted without being built, exactly where it matters, and whatever the bytes are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import COMMAND_VALUES_MAX
from mcast.machine.commands import decode_commands_untrusted, decode_small_records_untrusted
from mcast.wire import values
from mcast.wire.stream import StreamKind, decode_stream_untrusted
from mcast.wire.values import SMALL_BYTES, bound_values_untrusted

HEADS = "\x91\x82é" * 9  # letters whose bytes look like heads of containers
ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=40),
    st.sampled_from([HEADS, "x" * 255, "x" * 256, "x" * 70_000, b"\x91" * 31, b"\x9f" * 255, b"\x91" * 256,
                     b"\xdd" * 70_000, msgpack.Timestamp(5, 6), msgpack.ExtType(5, b"\x91" * 16),
                     msgpack.ExtType(5, b"\xdf" * 40)]),
)  # fmt: skip
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=20), st.dictionaries(st.text(max_size=3) | st.integers(0, 300), inner, max_size=20)
    ),
    max_leaves=60,
)


def held(value: Any) -> int:
    """How many values it holds, at any depth."""
    if isinstance(value, list):
        return len(value) + sum(map(held, value))
    if isinstance(value, dict):
        return 2 * len(value) + sum(map(held, value.values()))
    return 0


@given(st.lists(VALUES, min_size=1, max_size=40))
def test_the_bound_is_exact_where_nothing_is_too_small_to_count(items: list[Any]) -> None:
    packed, count = msgpack.packb(items), held(items)
    bound_values_untrusted(packed, count)
    bound_values_untrusted(memoryview(packed), count)
    assert not values._exceed(packed, count, exactly=True)
    assert values._exceed(packed, count - 1, exactly=True) and values._exceed(packed, count - 1, exactly=False)
    if len(packed) > SMALL_BYTES:
        with pytest.raises(DecodeError, match="too many values"):
            bound_values_untrusted(packed, count - 1)


@given(st.binary(max_size=600), st.integers(0, 700))
def test_any_bytes_are_counted_or_refused(packed: bytes, most: int) -> None:
    try:
        bound_values_untrusted(packed, most)
    except DecodeError as error:
        assert error.reason == "too many values"
        assert len(packed) > SMALL_BYTES


@pytest.mark.parametrize(
    ("packed", "few"),
    [
        (msgpack.packb(["set", "k", [[]] * 1_000_000]), False),
        (msgpack.packb(["set", "k", [[[]] * 15] * 5_000]), False),
        (msgpack.packb(["set", "k", dict.fromkeys(range(40_000))]), False),
        (msgpack.packb(["set", "k", [[None]] * 40_000]), False),
        (msgpack.packb(["set", "k", [b"x" * 256] * 16_000]), True),
        (msgpack.packb(["set", "k", ["x" * 40] * 65_000]), True),
        (msgpack.packb(["set", "k", [{"a": 1.5}] * 16_000]), True),
        (msgpack.packb(["set", "k", b"\x91" * 4_000_000]), True),
        (msgpack.packb(["set", "k", "é" * 2_000_000]), True),
        (b"\x93\xa3set\xa1k\xdc\xff\xf0" + b"\xc5\x00\x00" * 65_520, False),  # not as anybody packs them
        (b"\x91\xa3set" + b"\xa1x" * 2_000_000, True),  # what follows belongs to nothing: it can't be unpacked
        (b"\x91\xa3set" + b"\xc7", True),
    ],
)
def test_what_a_command_may_hold(packed: bytes, few: bool) -> None:
    tracemalloc.start()
    try:
        bound_values_untrusted(packed, COMMAND_VALUES_MAX)
    except DecodeError:
        assert not few
    else:
        assert few
    assert tracemalloc.get_traced_memory()[1] < 1 << 20, "nothing was built"
    tracemalloc.stop()


@pytest.mark.parametrize("head", [b"\xdc\x0f\xff", b"\xdd\x00\x00\x0f\xff", b"\xde\x07\xff", b"\xdf\x00\x00\x07\xff"])
def test_room_is_not_made_for_what_is_only_announced(head: bytes) -> None:
    """A thousand containers inside one another, each of which claims that all the bytes are its own."""
    lies = head * 800 + bytes(4_096 - 800 * 3)
    with pytest.raises(DecodeError, match="too many values"):
        decode_commands_untrusted(lies, 1)
    with pytest.raises(DecodeError, match="too many values"):
        decode_commands_untrusted(b"\x91\xa1a" * 3 + lies, 4)
    assert decode_small_records_untrusted([b"\x91\xa1a", lies], [1, 1]) is None
    with pytest.raises(DecodeError, match="too many values"):
        decode_stream_untrusted(StreamKind.QUERY, lies)
    with pytest.raises(DecodeError, match="not msgpack"):
        decode_stream_untrusted(StreamKind.STATUS, lies)
