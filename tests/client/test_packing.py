"""Commands are checked before anything is packed, and packed into records that fit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.client.packing import Command, CommandPacker, PackedCommands
from mcast.errors import DecodeError, Refused
from mcast.limits import COMMAND_BYTES_MAX, COMMAND_VALUES_MAX
from mcast.machine.commands import decode_commands_untrusted
from mcast.wire.records import RECORD_HEADER_BYTES

ARITIES = {"set": (2, 2), "incr": (1, 2), "delete": (1, 1), "clear": (0, 0)}
RECORD_MAX = 200


def unpacked(one: PackedCommands) -> list[Any]:
    unpacker = msgpack.Unpacker()
    unpacker.feed(one.payload)
    return list(unpacker)


commands = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.text(max_size=300), st.integers(-(2**31), 2**31)),
        st.tuples(st.just("incr"), st.text(max_size=5)),
        st.just(("clear",)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(commands)
def test_packed_commands_hold_the_commands_in_order_and_fit_a_record(items: list[tuple[Any, ...]]) -> None:
    batch = list(CommandPacker(ARITIES, RECORD_MAX).pack(items))
    assert [tuple(command) for command in chain.from_iterable(map(unpacked, batch))] == items
    for one in batch:
        assert one.count == len(unpacked(one))
        assert one.count == 1 or len(one.payload) + RECORD_HEADER_BYTES <= RECORD_MAX


def greedy(items: list[Any], room: int) -> list[tuple[bytes, int]]:
    """Records filled with one command after the other, as long as they fit."""
    records: list[tuple[bytes, int]] = []
    for packed in map(msgpack.packb, items):
        if records and len(records[-1][0]) + len(packed) <= room:
            records[-1] = records[-1][0] + packed, records[-1][1] + 1
        else:
            records.append((packed, 1))
    return records


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 400), max_size=60), min_size=1, max_size=4), st.integers(60, 600))
def test_records_are_as_full_as_if_packed_one_by_one_whatever_was_expected(
    batches: list[list[int]], record_max: int
) -> None:
    packer = CommandPacker(ARITIES, record_max)
    for sizes in batches:
        items = [("set", "k", bytes(size // 2)) if size % 3 else ("incr", "k" * (size % 7)) for size in sizes]
        assert list(packer.pack(items)) == greedy(items, record_max - RECORD_HEADER_BYTES)


def test_sizes_that_change_at_once_fill_records_as_well() -> None:
    packer = CommandPacker(ARITIES, 1_389)
    for size in (0, 1_000, 5_000, 10, 700, 0):
        items = [("set", "k", bytes(size)) for _ in range(1_100)]
        assert list(packer.pack(items)) == greedy(items, 1_389 - RECORD_HEADER_BYTES)


def test_records_are_filled_across_slices() -> None:
    batch = list(CommandPacker(ARITIES, 1_300).pack(("incr", "k") for _ in range(10_000)))
    assert sum(one.count for one in batch) == 10_000
    size = len(msgpack.packb(("incr", "k")))
    assert {one.count for one in batch[:-1]} == {(1_300 - RECORD_HEADER_BYTES) // size}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (("sett", "k", 1), "unknown command 'sett'"),
        (("set", "k"), "takes 2 arguments, not 1"),
        (("incr",), "takes 1 to 2 arguments, not 0"),
        (("delete",), "takes 1 argument, not 0"),
        (("set", "k", object()), "cannot be sent"),
        (("set", "k", 2**70), "cannot be sent"),
        (("set", "k", "\ud800"), "cannot be sent"),
        ((), "begins with a name"),
        ((1, 2, 3), "unknown command 1"),
        (([], 2, 3), "begins with a name"),
        ("set", "begins with a name"),
        (None, "begins with a name"),
        (("set", "k", b"x" * (COMMAND_BYTES_MAX + 1)), "at most"),
    ],
)
def test_a_bad_command_is_refused_with_its_number_and_reason_after_those_before_it(bad: Any, words: str) -> None:
    packed = CommandPacker(ARITIES, RECORD_MAX).pack([("set", "k", 1)] * 1_500 + [bad] + [("set", "k", 2)])
    count = 0
    with pytest.raises(Refused, match=f"command 1500: .*{words}"):
        for one in packed:
            count += one.count
    assert count == 1_500


def test_a_bad_command_among_others_that_share_its_record_is_the_one_named() -> None:
    deep: Any = "x"
    for _ in range(64):
        deep = [deep]
    for bad, words in ((2**70, "cannot be sent"), (deep, "nested deeper"), (bytes(COMMAND_BYTES_MAX + 1), "at most")):
        for at in (0, 1, 40, 99):
            items: list[tuple[Any, ...]] = [("set", "k", [1, [2]])] * 100
            items[at] = ("set", "k", bad)
            packer = CommandPacker(ARITIES, 100_000)
            list(packer.pack([("clear",)] * 9))
            batch = []
            with pytest.raises(Refused, match=f"command {at}: .*{words}"):
                for one in packer.pack(items):
                    batch.append(one)
            assert sum(one.count for one in batch) == at


def test_many_nested_commands_are_not_taken_for_deep_ones() -> None:
    items = [("set", "k", [1, {"a": [2]}])] * 500
    batch = list(CommandPacker(ARITIES, 10_000).pack(items))
    assert [command for one in batch for command in unpacked(one)] == [["set", "k", [1, {"a": [2]}]]] * 500


def test_a_command_deeper_than_msgpack_allows_is_refused() -> None:
    deep: Any = []
    for _ in range(2_000):
        deep = [deep]
    with pytest.raises(Refused, match="cannot be sent"):
        CommandPacker(ARITIES, RECORD_MAX).pack_one(("set", "k", deep))


@pytest.mark.parametrize("nest", [lambda value: [value], lambda value: {"k": value}, lambda value: (value, 1)])
def test_nesting_is_refused_exactly_where_replicas_would(nest: Callable[[Any], Any]) -> None:
    packer = CommandPacker(ARITIES, RECORD_MAX)
    value: Any = "x"
    taken = 0
    for _ in range(70):
        value = nest(value)
        packed = msgpack.packb(("set", "k", value))
        try:
            decode_commands_untrusted(packed, 1)
        except DecodeError:
            with pytest.raises(Refused, match="nested deeper than 64 levels"):
                packer.pack_one(("set", "k", value))
        else:
            taken += 1
            assert packer.pack_one(("set", "k", value)) == (packed, 1)
    assert 0 < taken < 70
    text = "ö" * 500  # bytes that could be headers of containers, but are text
    assert packer.pack_one(("set", "k", text)).count == 1


UNDECODABLE = [{(1, 2): 3}, {"a": [{(): 1}]}, [{((1,),): 2}], msgpack.ExtType(5, b"x"), {"a": msgpack.ExtType(5, b"")}]


@pytest.mark.parametrize("bad", UNDECODABLE)
@pytest.mark.parametrize("others", [1, "k" * 250, [1, 2], {"a": {"b": [1]}}, 2**63])
@pytest.mark.parametrize("record_max", [200, 1_389, 60_000])
def test_what_packs_but_no_replica_can_decode_is_refused_without_its_neighbours(
    bad: Any, others: Any, record_max: int
) -> None:
    packer = CommandPacker(ARITIES, record_max)
    good = ("set", "k", others)
    list(packer.pack([good] * 50))
    for filling in ("", "k" * 300):
        with pytest.raises(Refused, match="cannot be sent"):
            packer.pack_one(("set", filling, bad))
        batch = []
        with pytest.raises(Refused, match="command 500: an argument cannot be sent"):
            for one in packer.pack([good] * 500 + [("set", filling, bad)] + [good] * 500):
                batch.append(one)
        assert [command for one in batch for command in decode_commands_untrusted(one.payload, one.count)] == [
            list(good)
        ] * 500


def test_whatever_replicas_decode_is_packed() -> None:
    values = [msgpack.Timestamp(1, 2), {1: 2, b"k": None, 1.5: True, msgpack.Timestamp(1): [{}]}, ((1,), {"k": (2,)})]
    packer = CommandPacker(ARITIES, RECORD_MAX)
    for value in values:
        packed = msgpack.packb(("set", "k", value))
        assert packer.pack_one(("set", "k", value)) == (packed, 1)
        assert b"".join(one.payload for one in packer.pack([("set", "k", value)] * 40)) == packed * 40


@pytest.mark.parametrize("record_max", [RECORD_MAX, 61_440])
def test_a_command_of_too_many_values_is_refused_and_named(record_max: int) -> None:
    packer = CommandPacker(ARITIES, record_max)
    fits: Command = ("set", "k", [[]] * (COMMAND_VALUES_MAX - 3))
    too_many: Command = ("set", "k", [[]] * (COMMAND_VALUES_MAX - 2))
    assert sum(one.count for one in packer.pack([("clear",), fits, ("clear",)])) == 3
    with pytest.raises(Refused, match=f"command 2: a command holds more than {COMMAND_VALUES_MAX} values"):
        list(packer.pack([("clear",), ("clear",), too_many]))
    with pytest.raises(Refused, match="more than 65536 values"):
        packer.pack_one(too_many)
