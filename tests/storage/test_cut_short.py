"""A start, cut short at each of its changes of the disk, with and without damage, by the process's end or the power's.

Whatever the one that was cut short has done: the next comes to the same end as one that nothing disturbed. Above all, a
log that may lack what was acknowledged never comes back without a doubt, under the storage id that acknowledged it.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from random import Random

import pytest

from mcast.protocol.rules import Rules
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.segment import HEADER_BYTES, PREFIX_BYTES, segment_name
from mcast.storage.watermark import SLOT_BYTES, WATERMARK_NAME

from .logs import DATA, JOURNAL, a_frame, a_log, all_frames, genesis_frame, open_store

SEGMENT_1 = f"{JOURNAL}/{segment_name(1)}"
SEGMENT_2 = f"{JOURNAL}/{segment_name(2)}"
WATERMARK = f"{DATA}/{WATERMARK_NAME}"
RULES = Rules()
SIZE = 20_000  # so that the log takes two segments


@dataclass(frozen=True)
class Ended:
    """What a start came to."""

    renamed: bool
    suspect: bool
    held: int
    """Frames."""


class Node:
    """A node that acknowledged a log and ended, by `end`, writing one more frame that it did not acknowledge."""

    def __init__(self, sync: str, end: str) -> None:
        self.sync = sync
        self.files = SimFiles(Random(1))
        store, first = open_store(self.files, sync=sync)
        self.id = first.meta.storage_id
        genesis = genesis_frame()
        self.log = [genesis, *a_log(5, epoch=2, size=SIZE, after=genesis)]
        for frame in self.log:
            store.append([frame])
            if sync == "always":
                store.sync()
            else:
                store.cover()
        if end == "close":
            store.close()
        else:
            store.append([a_frame(self.log[-1], epoch=2, size=SIZE)])
        if end == "crash":
            self.files.crash()
        else:
            self.files.kill()

    def start(self, files: SimFiles, rules: Rules = RULES) -> Ended:
        """Start on this disk; whatever comes of it, it may vouch for nothing that it acknowledged and does not hold."""
        store, recovered = open_store(files, sync=self.sync, rules=rules)
        held = all_frames(store)
        renamed = recovered.meta.storage_id != self.id
        assert renamed or recovered.suspect or held[: len(self.log)] == self.log, "vouches for what it lost"
        return Ended(renamed, recovered.suspect, len(held))


def nothing(files: SimFiles) -> None:
    pass


def last_entry(files: SimFiles) -> None:
    """The last frame that was acknowledged is damaged."""
    data = files.contents(SEGMENT_2)
    entries = [at for at in range(len(data)) if data.startswith(b"mcj1", at)]
    files.corrupt(SEGMENT_2, entries[1] + PREFIX_BYTES + 60)


def tail_zeroed(files: SimFiles) -> None:
    data = bytearray(files.contents(SEGMENT_2))
    data[HEADER_BYTES + SIZE + 90 :] = bytes(len(data) - HEADER_BYTES - SIZE - 90)
    files.replace(SEGMENT_2, bytes(data))


def tail_cut(files: SimFiles) -> None:
    files.replace(SEGMENT_1, files.contents(SEGMENT_1)[: HEADER_BYTES + SIZE + 1_000])
    if files.exists(SEGMENT_2):
        files.unlink(SEGMENT_2)
        files.fsync_dir(JOURNAL)


def all_but_the_header(files: SimFiles) -> None:
    tail_cut(files)
    files.replace(SEGMENT_1, files.contents(SEGMENT_1)[:HEADER_BYTES])


def torn_end(files: SimFiles) -> None:
    data = files.contents(SEGMENT_2).rstrip(b"\0")
    files.replace(SEGMENT_2, data[:-30] + bytes(1_000))


def watermark_gone(files: SimFiles) -> None:
    files.unlink(WATERMARK)
    files.fsync_dir(DATA)


def watermark_and_tail(files: SimFiles) -> None:
    watermark_gone(files)
    tail_zeroed(files)


def slot(which: int) -> Callable[[SimFiles], None]:
    def damage(files: SimFiles) -> None:
        files.corrupt(WATERMARK, which * SLOT_BYTES + 45)

    damage.__name__ = f"slot_{which}"
    return damage


def meta_gone(files: SimFiles) -> None:
    files.unlink(f"{DATA}/meta.json")
    files.fsync_dir(DATA)


def journal_gone(files: SimFiles) -> None:
    for name in files.listdir(JOURNAL):
        files.unlink(f"{JOURNAL}/{name}")
    files.fsync_dir(JOURNAL)


DAMAGES = [
    nothing, last_entry, tail_zeroed, tail_cut, all_but_the_header, torn_end, watermark_gone, watermark_and_tail,
    slot(0), slot(1), meta_gone, journal_gone,
]  # fmt: skip
LOSSES = {last_entry, tail_zeroed, tail_cut, all_but_the_header, meta_gone, journal_gone}


def every_cut(node: Node, base: SimFiles, rules: Rules = RULES, *, power: bool) -> list[Ended]:
    """Starts of copies of this disk, each cut short at another change, and what the next came to."""
    ends = []
    for stop in range(200):
        files = base.copy(Random(stop))
        files.stop_after(stop)
        try:
            ends.append(node.start(files, rules))
        except Stopped:
            if power:
                files.crash()
            else:
                files.kill()
            ends.append(node.start(files, rules))
        else:
            break
    assert 10 < len(ends) < 200
    return ends


@pytest.mark.parametrize("power", [False, True], ids=["cut by kill", "cut by power"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("sync", "end"), [("always", "kill"), ("always", "crash"), ("os", "kill"), ("os", "crash"), ("os", "close")]
)
def test_a_start_cut_short_anywhere_comes_to_the_same_end(
    damage: Callable[[SimFiles], None], sync: str, end: str, power: bool
) -> None:
    unsynced = sync == "os" and end == "crash"
    node = Node(sync, "kill" if unsynced else end)  # a whole log to damage
    damage(node.files)
    if unsynced:
        node.files.crash()
    whole = node.start(node.files.copy())
    for ended in every_cut(node, node.files, power=power):
        if sync == "os" and end != "close" and power:  # which by itself puts all in doubt that was not synced
            assert ended.renamed or ended.suspect or ended == whole
        else:
            assert (ended.renamed, ended.held) == (whole.renamed, whole.held)
            assert ended.suspect == whole.suspect or (ended.suspect and (whole.renamed or power))
    if damage is nothing:
        assert not whole.renamed
        assert end == "crash" or whole == Ended(renamed=False, suspect=False, held=6 + (end != "close"))
    elif not unsynced:
        lost = damage in LOSSES or (end == "close" and damage is watermark_and_tail)
        lost = lost or (damage is torn_end and end != "kill")  # then what stands at the end was acknowledged
        assert whole.renamed == lost, "a loss makes it another one, and nothing else does"


@pytest.mark.parametrize(("sync", "end"), [("always", "kill"), ("os", "close")])
def test_a_start_that_was_killed_and_one_cut_by_power_behind_it_make_nobody_another(sync: str, end: str) -> None:
    """What the first renamed, the second may have found and noted elsewhere before the power undid the renaming."""
    node, cuts = Node(sync, end), 0
    for killed, cut, luck in product(range(20), range(20), range(4)):
        files = node.files.copy(Random(luck))
        files.stop_after(killed)
        with suppress(Stopped):
            node.start(files)
        files.kill()
        files.stop_after(cut)
        try:
            node.start(files)
        except Stopped:
            cuts += 1
            files.crash()
            assert not node.start(files).renamed
    assert cuts > 500


@pytest.mark.parametrize("power", [True, False])
def test_a_doubt_noted_after_the_mending_would_be_forgotten(power: bool) -> None:
    node = Node("always", "kill")
    watermark_and_tail(node.files)
    every_cut(node, node.files, power=power)
    with pytest.raises(AssertionError, match="vouches for what it lost"):
        every_cut(node, node.files, replace(RULES, doubt_before_mending=False), power=power)


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("sync", ["always", "os"])
def test_a_doubt_that_was_told_outlives_every_start_cut_short(sync: str, power: bool) -> None:
    node = Node(sync, "close")
    for stop in range(30):
        files = node.files.copy(Random(stop))
        store, _ = open_store(files, sync=sync)
        files.stop_after(stop)
        noted = False
        try:
            store.note_suspect()
            noted = True
        except Stopped:
            pass
        if power:
            files.crash()
        else:
            files.kill()
        if noted:
            assert stop > 4 and all(ended.suspect for ended in every_cut(node, files, power=power))
            return
        ended = node.start(files)
        assert not ended.renamed and ended.held == len(node.log)
    raise AssertionError("a doubt that is never noted")


@pytest.mark.parametrize("power", [True, False])
def test_a_truncation_cut_short_anywhere_is_no_loss(power: bool) -> None:
    for stop in range(30):
        files = SimFiles(Random(stop))
        store, first = open_store(files)
        log = a_log(8, size=SIZE)
        store.append(log)
        store.sync()
        files.stop_after(stop)
        try:
            store.truncate(2)
        except Stopped:
            pass
        else:
            assert stop > 5
            return
        if power:
            files.crash()
        else:
            files.kill()
        again, recovered = open_store(files)
        assert (recovered.meta.storage_id, recovered.suspect) == (first.meta.storage_id, False)
        held = all_frames(again)
        assert held == log[: max(len(held), 2)]
    raise AssertionError("a truncation that never ends")
