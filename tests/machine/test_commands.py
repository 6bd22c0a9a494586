"""A record's payload decodes to exactly its commands, or raises DecodeError and nothing else."""

import contextlib
from itertools import chain
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import DecodeError
from mcast.limits import COMMAND_BYTES_MAX, COMMAND_DEPTH_MAX
from mcast.machine.commands import decode_commands_untrusted, decode_small_records_untrusted, encode_command


def nested(levels: int, container: str = "list") -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if container == "list" else {"k": value}
    return value


def test_commands_come_back_in_order() -> None:
    payload = encode_command("set", "k", [1, {"a": b"\x00"}]) + encode_command("size")
    assert decode_commands_untrusted(payload, 2) == [["set", "k", [1, {"a": b"\x00"}]], ["size"]]
    assert decode_commands_untrusted(memoryview(payload), 2)[1] == ["size"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_count_that_is_not_the_payloads_is_refused(count: int) -> None:
    with pytest.raises(DecodeError):
        decode_commands_untrusted(encode_command("a") + encode_command("b"), count)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xc1", b"\x92\xa1a", b"\x91\xa1\xff", b"\x92\xa1a\xd4\x05\x00", b"\x81\x90\x01", b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff" * 3,
    ],
)  # fmt: skip
def test_what_is_not_a_command_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_commands_untrusted(payload, 1)


@pytest.mark.parametrize("container", ["list", "dict"])
def test_nesting_is_bounded_exactly(container: str) -> None:
    # The command itself is the first level.
    deepest = msgpack.packb(["a", nested(COMMAND_DEPTH_MAX - 1, container)])
    assert decode_commands_untrusted(deepest, 1)
    with pytest.raises(DecodeError, match="nested"):
        decode_commands_untrusted(msgpack.packb(["a", nested(COMMAND_DEPTH_MAX, container)]), 1)


@pytest.mark.parametrize("filler", [None, "a", 1])
def test_what_is_no_command_buys_no_deeper_nesting(filler: Any) -> None:
    deep = [msgpack.packb(["a", nested(COMMAND_DEPTH_MAX)])]
    with pytest.raises(DecodeError, match="nested"):
        decode_commands_untrusted(b"".join([*deep, *[msgpack.packb(filler)] * 500]), 501)
    with pytest.raises(DecodeError, match="nested"):
        decode_commands_untrusted(b"".join([msgpack.packb([nested(200)]), *[msgpack.packb(filler)] * 500]), 501)


VALUES = st.recursive(
    st.none() | st.integers(-5, 300) | st.text(max_size=3) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=3) | VALUES, min_size=1, max_size=4), st.data())
def test_every_way_to_tell_the_nesting_agrees(commands: list[Any], data: st.DataObject) -> None:
    depth = data.draw(st.integers(0, COMMAND_DEPTH_MAX + 2))
    commands[data.draw(st.integers(0, len(commands) - 1))] = [
        "deep",
        nested(depth),
        bytes(data.draw(st.integers(0, 900))),
    ]
    payload = b"".join(map(msgpack.packb, commands))
    if depth < COMMAND_DEPTH_MAX:
        assert decode_commands_untrusted(payload, len(commands)) == commands
    else:
        with pytest.raises(DecodeError, match="nested"):
            decode_commands_untrusted(payload, len(commands))


def test_many_shallow_containers_and_bytes_that_look_like_some_are_fine() -> None:
    command = ["a", [[]] * 500, bytes(range(128, 160)) * 50]
    assert decode_commands_untrusted(msgpack.packb(command), 1) == [command]


def test_length_is_bounded_before_decoding() -> None:
    with pytest.raises(DecodeError, match="too long"):
        decode_commands_untrusted(bytes(COMMAND_BYTES_MAX + 1), 1)


@given(st.binary(max_size=60), st.integers(0, 5))
def test_garbage_raises_decode_error_only(payload: bytes, count: int) -> None:
    with contextlib.suppress(DecodeError):
        assert len(decode_commands_untrusted(payload, count)) == count


ODD = [
    b"", b"\xc1", b"\x07", b"\x80", b"\x90", b"\x92\xa1a", b"\x91\xa1\xff", b"\x92\xa1a\xd4\x05\x00",
    b"\x91\xd6\xff\0\0\0\0", b"\x91\x82\x01\x02\x01\x03", b"\x91\x81\xa1k\xd4\x05\x00", b"\x91\x81\x90\x01",
    b"\xdd\xff\xff\xff\xff", b"\x91" * 70 + b"\x90", b"\x91\xcf" + b"\xff" * 8,
]  # fmt: skip
SMALL = st.lists(st.lists(VALUES, max_size=3).map(msgpack.packb) | st.sampled_from(ODD), min_size=1, max_size=15)


@given(st.lists(SMALL, min_size=1, max_size=4), st.integers(-1, 1))
def test_small_records_decode_together_only_to_what_each_decodes_to(records: list[list[bytes]], more: int) -> None:
    payloads, counts = list(map(b"".join, records)), list(map(len, records))
    counts[0] = min(max(counts[0] + more, 1), 15)
    together = decode_small_records_untrusted(payloads, counts)
    if together is not None:
        singly = map(decode_commands_untrusted, payloads, counts)
        assert repr(together) == repr(list(chain.from_iterable(singly)))


@pytest.mark.parametrize("argument", [1, [1, {2: [b"\xff"]}], {"k": {"l": None}}, nested(COMMAND_DEPTH_MAX - 1)])
def test_small_records_of_whatever_arguments_decode_together(argument: Any) -> None:
    one = encode_command("a", argument)
    assert decode_small_records_untrusted([one, one * 2], [1, 2]) == [["a", argument]] * 3
    assert decode_small_records_untrusted([one, one], [1, 1]) == [["a", argument]] * 2


@pytest.mark.parametrize("container", ["list", "dict"])
def test_small_records_are_not_nested_deeper_either(container: str) -> None:
    deep, flat = encode_command("a", nested(COMMAND_DEPTH_MAX, container)), encode_command("a")
    assert decode_small_records_untrusted([flat, deep], [1, 1]) is None
    assert decode_small_records_untrusted([flat, flat + deep], [1, 2]) is None
