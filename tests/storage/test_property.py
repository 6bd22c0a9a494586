"""Whatever is appended, synced, cut, and however it ends: what is found again is what the promises say."""

import errno
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcast.errors import DiskFull
from mcast.protocol.effects import Meta
from mcast.protocol.rules import Rules
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.journal import SyncMark
from mcast.storage.store import RULES, Store
from mcast.wire.frame import CHAIN_ZERO, Frame, follows

from .logs import a_frame, all_frames, open_store

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4), st.sampled_from([3, 300, 9_000, 40_000])),
    st.tuples(st.just("sync"), st.just(0), st.just(0)),
    st.tuples(st.just("begin"), st.just(0), st.just(0)),
    st.tuples(st.just("finish"), st.just(0), st.just(0)),
    st.tuples(st.just("truncate"), st.integers(0, 1_000), st.just(0)),
    st.tuples(st.just("meta"), st.integers(1, 9), st.just(0)),
    st.tuples(st.just("full"), st.integers(0, 8), st.integers(0, 5)),  # these calls soon find the disk full
    st.tuples(st.just("stop"), st.integers(0, 25), st.just(0)),  # the process ends within this many changes
    st.tuples(st.sampled_from(["kill", "crash", "close"]), st.just(0), st.just(0)),
)

ROOM: Final = ("open", "allocate", "pwritev", "rename", "unlink", "ftruncate")  # calls that may need room


class Model:
    """A store, and what must be true of it."""

    def __init__(self, seed: int, *, sync: str = "always", rules: Rules = RULES) -> None:
        self.files = SimFiles(Random(seed))
        self.random = Random(seed)
        self.sync = sync
        self.rules = rules
        self.log: list[Frame] = []
        self.durable = 0  # frames known durable
        self.epoch = 1
        self.mark: tuple[SyncMark, int] | None = None
        self.cut_to: int | None = None  # frames left by a truncation under way
        self.metas: tuple[Meta, ...] = ()  # before and after a write of the meta under way
        self.open()
        self.meta = self.store.meta
        self.storage_id = self.meta.storage_id

    def open(self) -> None:
        self.store: Store
        self.store, self.recovered = open_store(self.files, sync=self.sync, rules=self.rules)

    def run(self, step: tuple[str, int, int]) -> None:
        try:
            getattr(self, f"do_{step[0]}")(*step[1:])
        except Stopped:
            self.restart(power=self.random.random() < 0.5)

    def do_append(self, count: int, size: int) -> None:
        frames: list[Frame] = []
        for _ in range(count):
            before = frames[-1] if frames else self.log[-1] if self.log else None
            frames.append(a_frame(before, epoch=self.epoch, size=size, count=self.random.randint(1, 3)))
        self.log += frames  # a write under way may be found again in part
        self.with_room(lambda: self.store.append(frames))

    def finish_of(self, seq: int) -> None:
        self.durable = max(self.durable, sum(frame.last <= seq for frame in self.log))

    def do_sync(self, _: int, __: int) -> None:
        self.finish_of(self.store.sync())
        assert self.durable == len(self.log)

    def do_begin(self, _: int, __: int) -> None:
        self.mark = (self.store.sync_begin(), len(self.log))

    def do_finish(self, _: int, __: int) -> None:
        if self.mark is not None:
            mark, frames = self.mark
            self.mark = None
            before = self.durable
            self.finish_of(self.store.sync_finish(mark))
            assert self.durable <= max(frames, before), "claimed what was appended after the sync began"

    def do_truncate(self, point: int, _: int) -> None:
        kept = point % (len(self.log) + 1)
        self.cut_to = kept
        last = self.log[kept - 1].last if kept else 0
        if not self.with_room(lambda: self.store.truncate(last)):
            return
        self.cut_to = None
        if kept < len(self.log):
            self.durable = kept if self.rules.truncation_durable else min(self.durable, kept)
            del self.log[kept:]
            self.epoch += 1

    def do_meta(self, promised: int, _: int) -> None:
        meta = replace(self.meta, promised=self.meta.promised + promised)
        self.metas = (self.meta, meta)
        if self.with_room(lambda: self.store.write_meta(meta)):
            self.meta, self.metas = meta, ()

    def do_full(self, after: int, which: int) -> None:
        self.files.fail(ROOM[which], errno.ENOSPC, after=after, times=1 + after % 3)

    def with_room(self, work: Callable[[], None]) -> bool:
        """Do it, again and again while the disk is full; or end before there is room: False."""
        while True:
            try:
                work()
            except DiskFull:
                if self.random.random() < 0.3:
                    self.restart(power=self.random.random() < 0.5)
                    return False
            else:
                return True

    def do_stop(self, changes: int, _: int) -> None:
        self.files.stop_after(changes)

    def do_kill(self, _: int, __: int) -> None:
        self.restart(power=False)

    def do_crash(self, _: int, __: int) -> None:
        self.restart(power=True)

    def do_close(self, _: int, __: int) -> None:
        self.files.mend()
        self.store.close()
        self.restart(power=self.random.random() < 0.5)

    def restart(self, *, power: bool, whole: bool = False) -> None:
        """Open the store again; unless `whole`, that too may be cut short, by either end, and is repeated."""
        self.files.mend()
        for attempt in range(3):
            if power:
                self.files.crash()
            else:
                self.files.kill()
            if attempt == 0 and not whole and self.random.random() < 0.2:
                self.files.stop_after(self.random.randrange(12))
            try:
                self.open()
                break
            except Stopped:
                power = self.random.random() < 0.5
        self.files.stop_after(1 << 30)
        self.check()

    def check(self) -> None:
        found = all_frames(self.store)
        assert self.recovered.meta.storage_id == self.storage_id, "took sound data for damage"
        assert self.recovered.meta in (self.metas or (self.meta,))
        self.meta, self.metas = self.recovered.meta, ()
        assert found == self.log[: len(found)], "not what was written, or what had been cut"
        least = self.durable if self.cut_to is None else min(self.durable, self.cut_to)
        assert len(found) >= least, "lost what was durable"
        chain = CHAIN_ZERO
        for frame in found:
            assert follows(frame, chain)
            chain = frame.chain
        assert (self.store.last_seq, self.store.last_chain) == (found[-1].last if found else 0, chain)
        assert self.recovered.frames == tuple(found)
        self.log, self.durable, self.mark, self.cut_to = found, len(found), None, None
        self.epoch += 1


def play(model: Model, steps: list[tuple[str, int, int]]) -> None:
    for step in steps:
        model.run(step)
    model.restart(power=True)


@settings(max_examples=150)
@given(seed=st.integers(0, 1 << 30), steps=st.lists(STEPS, max_size=25))
def test_what_was_durable_is_found_and_what_was_cut_is_not(seed: int, steps: list[tuple[str, int, int]]) -> None:
    play(Model(seed), steps)


def test_without_durable_truncation_the_same_test_fails() -> None:
    random = Random(1)
    caught = 0
    for seed in range(60):
        steps = [("append", 4, 300), ("sync", 0, 0), ("truncate", random.randrange(5), 0), ("append", 1, 300)]
        try:
            play(Model(seed, rules=Rules(truncation_durable=False)), steps)
        except AssertionError:
            caught += 1
    assert caught > 10


@pytest.mark.parametrize("seed", range(30))
def test_a_killed_process_loses_no_completed_write(seed: int) -> None:
    model = Model(seed, sync="os")
    for _ in range(12):
        model.do_append(model.random.randint(1, 4), model.random.choice([3, 9_000, 40_000]))
        written = list(model.log)
        if model.random.random() < 0.5:
            model.restart(power=False, whole=True)
            assert all_frames(model.store) == written
            assert not model.recovered.suspect
