"""Epoch histories: compact, searched in no time, and pages of them that only honest bytes make."""

from __future__ import annotations

import random
import struct
import time
from bisect import bisect_right

import pytest

from mcast.errors import DecodeError
from mcast.limits import EPOCH_MAX, HISTORY_PAGE_ENTRIES, SEQ_MAX
from mcast.wire.epochs import Epochs, decode_epochs_untrusted
from mcast.wire.messages import EpochEntry


def entries(count: int, first: int = 1, epoch: int = 0, salt: bytes = b"") -> list[EpochEntry]:
    return [EpochEntry(epoch + at, first + 3 * at, salt + at.to_bytes(16 - len(salt), "big")) for at in range(count)]


def test_it_is_the_list_it_was_made_of() -> None:
    listed = entries(5)
    epochs = Epochs(listed)
    assert list(epochs) == listed and len(epochs) == 5
    assert (epochs[0], epochs[-1], epochs.newest(2)) == (listed[0], listed[-1], tuple(listed[3:]))
    assert epochs.newest(9) == tuple(listed)
    assert epochs.last_epoch == 4 and Epochs().last_epoch == 0
    assert epochs == Epochs(listed) != Epochs(listed[:4])
    assert list(epochs.part(1, 3)) == listed[1:3]
    with pytest.raises(IndexError):
        epochs[5]


def test_a_cut_forgets_what_begins_behind_it() -> None:
    epochs = Epochs(entries(5))
    epochs.cut(7)
    assert list(epochs) == entries(3)
    epochs.cut(6)
    assert list(epochs) == entries(2)
    epochs.add(9, 8, b"x" * 16)
    assert epochs[-1] == EpochEntry(9, 8, b"x" * 16)


def test_a_range_belongs_to_one_epoch_or_to_none() -> None:
    epochs = Epochs(entries(3, first=4))  # from 4, 7 and 10
    assert [epochs.epoch_of(at, at) for at in (3, 4, 6, 7, 9, 10, 99)] == [None, 0, 0, 1, 1, 2, 2]
    assert epochs.epoch_of(4, 6) == 0 and epochs.epoch_of(4, 7) is None and epochs.epoch_of(10, 10_000) == 2


def test_the_page_before_an_epoch_needs_that_very_epoch() -> None:
    listed = entries(10)
    epochs = Epochs(listed)
    page = epochs.page_before(listed[7], 3)
    assert page is not None and list(page) == listed[4:7]
    assert epochs.page_before(listed[0], 3) == Epochs()
    chain = listed[7].chain_before
    for other in (EpochEntry(7, 22, b"?" * 16), EpochEntry(8, 22, chain), EpochEntry(7, 23, chain)):
        assert epochs.page_before(other, 3) is None


def test_the_newest_shared_entry_is_found_wherever_lists_part() -> None:
    rng = random.Random(5)
    for _ in range(300):
        trunk = entries(rng.randint(0, 6))
        first = trunk[-1].first + 3 if trunk else 1
        mine = trunk + entries(rng.randint(0, 4), first, len(trunk), b"m")
        theirs = trunk + entries(rng.randint(0, 4), first, len(trunk), b"t")
        skipped = rng.randint(0, len(theirs))
        expected = (len(trunk) - 1, len(trunk) - 1 - skipped) if trunk and skipped < len(trunk) else None
        assert Epochs(mine).newest_common(Epochs(theirs[skipped:])) == expected


def test_packed_it_comes_back() -> None:
    epochs = Epochs(entries(100))
    assert decode_epochs_untrusted(epochs.pack()) == epochs
    assert decode_epochs_untrusted(b"") == Epochs()


@pytest.mark.parametrize(
    "entries",
    [
        [(1, 0, bytes(16))], [(1, 5, bytes(16)), (1, 6, bytes(16))], [(1, 5, bytes(16)), (2, 5, bytes(16))],
        [(2, 5, bytes(16)), (1, 6, bytes(16))], [(EPOCH_MAX + 1, 5, bytes(16))], [(1, SEQ_MAX + 1, bytes(16))],
    ],
)  # fmt: skip
def test_entries_that_no_log_has_are_refused(entries: list[tuple[int, int, bytes]]) -> None:
    with pytest.raises(DecodeError):
        decode_epochs_untrusted(b"".join(struct.pack("!QQ16s", *entry) for entry in entries))


def test_a_part_of_an_entry_and_too_many_are_refused() -> None:
    whole = Epochs(entries(HISTORY_PAGE_ENTRIES)).pack()
    assert len(decode_epochs_untrusted(whole)) == HISTORY_PAGE_ENTRIES
    for payload in (whole[:-1], whole + Epochs(entries(1, SEQ_MAX - 5, EPOCH_MAX - 5)).pack()):
        with pytest.raises(DecodeError):
            decode_epochs_untrusted(payload)


def test_a_million_take_little_room_and_no_time() -> None:
    million = Epochs()
    for at in range(1_000_000):
        million.add(at, 1 + 3 * at, b"0123456789abcdef")
    assert sum(len(part) * 8 for part in (million.firsts, million._epochs)) + len(million._chains) == 32_000_000
    started = time.process_time()
    for at in range(1_000):
        assert million.epoch_of(3 * at + 1, 3 * at + 3) == at
        assert million.page_before(million[-at - 1], 10) is not None
        assert million.newest_common(million) == (999_999, 999_999)
    assert time.process_time() - started < 0.5, "each costs a search, not a walk"
    assert bisect_right(million.firsts, 10) == 4
