"""The checker itself: each invariant, broken by hand, is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mcast.protocol.effects import Meta, Send
from mcast.sim.invariants import Book, Checker, Violation
from mcast.wire.envelope import name_hash
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import (
    Ack,
    Configuration,
    EpochStart,
    Genesis,
    Member,
    Nak,
    Stale,
    Vote,
    VoteRequest,
    encode_message,
)
from mcast.wire.records import RecordKind, encode_record

NAMES = ("n1", "n2", "n3")
IDS = [bytes([at]) * 16 for at in range(1, 4)]
CONFIG = Configuration(1, tuple(Member(name, disk, "a") for name, disk in zip(NAMES, IDS, strict=True)))
GENESIS = make_frame(
    0, 1, 1, 0, 1, CHAIN_ZERO,
    encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(Genesis(bytes(16), CONFIG))),
)  # fmt: skip
BASE = (0, CHAIN_ZERO)


def noop(number: int) -> bytes:
    return encode_record(RecordKind.NOOP, 1, 9, number, number, b"")


def config_after(frame: Frame, epoch: int, number: int, listed: dict[str, bytes], time: int = 2) -> Frame:
    config = Configuration(number, tuple(Member(name, disk, "a") for name, disk in listed.items()))
    return make_frame(
        epoch, frame.last + 1, 1, 0, time, frame.chain,
        encode_record(RecordKind.CONFIG, 1, 0, 0, 0, encode_message(config)),
    )  # fmt: skip


def after(frame: Frame, epoch: int, number: int = 1) -> Frame:
    return make_frame(epoch, frame.last + 1, 1, 0, 2, frame.chain, noop(number))


START = make_frame(
    1, 2, 1, 0, 2, GENESIS.chain,
    encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart("n1", CONFIG))),
)  # fmt: skip
FIRST = after(START, 1)
OTHER = after(START, 1, number=2)


LISTED = dict(zip(NAMES, IDS, strict=True))
WITHOUT_THREE = {"n1": IDS[0], "n2": IDS[1]}
REPLACED = {**WITHOUT_THREE, "n3": bytes([9]) * 16}
REMOVED = config_after(START, 1, 2, WITHOUT_THREE)
READDED = config_after(REMOVED, 1, 3, REPLACED)


class Story:
    """Three nodes that hold GENESIS and the first epoch's beginning, all of it committed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.checker = Checker(NAMES, lambda: self.now)
        for book, disk in zip(self.checker.books, IDS, strict=True):
            self.checker.on_start(book, Meta(disk), (), BASE)
            self.store(book, GENESIS, START)
            self.checker.on_meta_written(book, Meta(disk, 1, 1, name_hash("n1")))
        self.checker.on_stream(self.one, 1, (START,))
        for book in self.checker.books:
            self.commit(book, GENESIS, START)

    @property
    def one(self) -> Book:
        return self.checker.books[0]

    @property
    def two(self) -> Book:
        return self.checker.books[1]

    def store(self, book: Book, *frames: Frame) -> None:
        self.checker.on_append(book, frames)
        self.checker.on_persisted(book, frames)

    def commit(self, book: Book, *frames: Frame) -> None:
        self.checker.on_commit(book, frames[-1].last)
        self.checker.on_apply(book, frames, 1)


def applied_by_a_minority(story: Story) -> None:
    story.store(story.one, FIRST)
    story.commit(story.one, FIRST)


def applied_twice(story: Story) -> None:
    story.commit(story.one, START)


def applied_beyond_commit(story: Story) -> None:
    story.store(story.one, FIRST)
    story.store(story.two, FIRST)
    story.checker.on_apply(story.one, (FIRST,), 1)


def two_contents_in_one_epoch(story: Story) -> None:
    story.store(story.one, FIRST)
    story.store(story.two, OTHER)


def two_committed_contents(story: Story) -> None:
    for book in story.checker.books[:2]:
        story.store(book, FIRST)
    story.commit(story.one, FIRST)
    story.commit(story.two, after(START, 1, number=3))


def two_sequencers_in_one_epoch(story: Story) -> None:
    story.checker.on_stream(story.two, 1, (FIRST,))


def a_sequencer_goes_on_after_its_restart(story: Story) -> None:
    story.checker.on_stream(story.one, 2, (FIRST,))


def a_frame_that_does_not_follow(story: Story) -> None:
    story.checker.on_append(story.one, (FIRST._replace(chain=bytes(16)),))


def an_epoch_without_committed_events(story: Story) -> None:
    story.checker.books[2].chains = {0: CHAIN_ZERO, 1: GENESIS.chain}
    story.checker.on_append(story.checker.books[2], (after(GENESIS, 2),))


def a_committed_event_cut(story: Story) -> None:
    story.checker.on_truncate(story.one, 1)


def a_cut_inside_a_frame(story: Story) -> None:
    story.checker.on_truncate(story.one, 7)


def an_event_lost_by_a_restart(story: Story) -> None:
    story.checker.on_start(story.one, story.one.meta or Meta(b""), (GENESIS,), BASE)


def a_cut_event_back_after_a_restart(story: Story) -> None:
    story.store(story.one, FIRST)
    story.checker.on_truncate(story.one, 2)
    story.checker.on_cut(story.one)
    story.checker.on_start(story.one, story.one.meta or Meta(b""), (GENESIS, START, FIRST), BASE)


def a_promise_lost_by_a_restart(story: Story) -> None:
    story.checker.on_start(story.one, Meta(IDS[0]), (GENESIS, START), BASE)


def a_promise_taken_back(story: Story) -> None:
    story.checker.on_meta_written(story.one, Meta(IDS[0]))


def two_votes_in_one_epoch(story: Story) -> None:
    story.checker.on_meta_written(story.one, Meta(IDS[0], 1, 1, name_hash("n2")))


def a_vote_not_on_disk(story: Story) -> None:
    story.checker.on_message(story.one, Vote(2, IDS[0], True, name_hash("n2")), name_hash("n2"))


def a_call_before_the_own_vote(story: Story) -> None:
    story.checker.on_message(story.one, VoteRequest(2, 1, 2), 0)


def an_acknowledgement_before_the_disk(story: Story) -> None:
    story.checker.on_append(story.two, (FIRST,))
    story.checker.on_message(story.two, Ack(1, IDS[1], 3, FIRST.chain, 1, 1, 1), 0)


def an_acknowledgement_below_the_promise(story: Story) -> None:
    story.checker.on_meta_written(story.two, Meta(IDS[1], 2, 1, name_hash("n1")))
    story.checker.on_message(story.two, Ack(1, IDS[1], 2, START.chain, 1, 1, 1), 0)


def an_acknowledgement_of_another_tail(story: Story) -> None:
    story.store(story.two, FIRST)
    story.checker.on_append(story.one, (make_frame(2, 3, 1, 0, 2, START.chain, noop(5)),))
    story.checker.on_meta_written(story.two, Meta(IDS[1], 2, 1, name_hash("n1")))
    story.checker.on_message(story.two, Ack(2, IDS[1], 3, FIRST.chain, 1, 1, 1), 0)


def a_commit_taken_back(story: Story) -> None:
    story.checker.on_commit(story.one, 1)


def a_stale_datagram_obeyed(story: Story) -> None:
    story.checker.on_fenced(story.one, [Send(1, Nak(1, (), 7))])


def other_results(story: Story) -> None:
    story.checker.on_computed(story.one, 2, bytes(16), "")
    story.checker.on_computed(story.two, 2, bytes([1]) * 16, "")


def a_command_done_twice(story: Story) -> None:
    story.checker.on_computed(story.one, 2, bytes(16), "command 1 of client 0 executed after 1, as event 2")


def told_before_it_committed(story: Story) -> None:
    story.checker.on_acknowledged(0, 1, 3)


def told_two_numbers(story: Story) -> None:
    story.checker.on_acknowledged(0, 1, 1)
    story.checker.on_acknowledged(0, 1, 2)


def a_disk_replaced_in_one_step(story: Story) -> None:
    story.store(story.one, config_after(START, 1, 2, REPLACED))


def a_configuration_number_left_out(story: Story) -> None:
    story.store(story.one, config_after(START, 1, 3, WITHOUT_THREE))


def a_configuration_before_the_last_has_committed(story: Story) -> None:
    story.store(story.one, REMOVED, READDED)


def a_configuration_before_the_epoch_has_begun(story: Story) -> None:
    beginning = make_frame(
        2, 3, 1, 0, 2, START.chain,
        encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart("n2", CONFIG))),
    )  # fmt: skip
    story.store(story.two, beginning, config_after(beginning, 2, 2, WITHOUT_THREE))


def an_epoch_with_a_configuration_of_its_own(story: Story) -> None:
    other = Configuration(1, CONFIG.members[:2])
    start = encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart("n2", other)))
    story.store(story.two, make_frame(2, 3, 1, 0, 2, START.chain, start))


def a_vote_of_a_removed_disk(story: Story) -> None:
    for book in story.checker.books:
        story.store(book, REMOVED)
    story.commit(story.one, REMOVED)
    story.store(story.one, after(REMOVED, 1))
    story.store(story.checker.books[2], after(REMOVED, 1))
    story.commit(story.one, after(REMOVED, 1))


def time_that_goes_back(story: Story) -> None:
    story.store(story.one, make_frame(1, 3, 1, 0, 1, START.chain, noop(1)))


def a_state_said_to_be_younger_than_it_is(story: Story) -> None:
    commit_at(story, 1.0)
    story.now = 3.0
    story.checker.on_age_claim(story.checker.books[2], 2, 1.5)


def a_proof_of_less_than_had_committed(story: Story) -> None:
    commit_at(story, 1.0)
    story.now = 3.0
    story.checker.on_proof_claim(story.checker.books[2], 2, 1.5)


def a_suspect_that_trusts_itself_too_soon(story: Story) -> None:
    story.checker.on_power_loss(story.two, synced=False)
    restart(story, story.two, GENESIS)
    story.checker.on_cleared(story.two)


def unsynced_events_gone_without_a_word(story: Story) -> None:
    story.checker.on_power_loss(story.two, synced=False)
    story.checker.on_start(story.two, story.two.meta or Meta(b""), (GENESIS,), BASE)


def synced_events_gone_with_the_power(story: Story) -> None:
    story.checker.on_power_loss(story.two, synced=True)
    restart(story, story.two, GENESIS)


def commit_at(story: Story, when: float) -> None:
    for book in story.checker.books[:2]:
        story.store(book, FIRST)
    story.now = when
    story.commit(story.one, FIRST)


def restart(story: Story, book: Book, *frames: Frame) -> None:
    story.checker.on_start(book, book.meta or Meta(b""), frames, BASE, suspect=True)


@pytest.mark.parametrize(
    "break_it",
    [
        applied_by_a_minority, applied_twice, applied_beyond_commit, two_contents_in_one_epoch, two_committed_contents,
        two_sequencers_in_one_epoch, a_sequencer_goes_on_after_its_restart, a_frame_that_does_not_follow,
        an_epoch_without_committed_events, a_committed_event_cut, a_cut_inside_a_frame, an_event_lost_by_a_restart,
        a_cut_event_back_after_a_restart, a_promise_lost_by_a_restart, a_promise_taken_back, two_votes_in_one_epoch,
        a_vote_not_on_disk, a_call_before_the_own_vote, an_acknowledgement_before_the_disk,
        an_acknowledgement_below_the_promise, an_acknowledgement_of_another_tail, a_commit_taken_back,
        a_stale_datagram_obeyed, other_results, a_command_done_twice, told_before_it_committed, told_two_numbers,
        a_disk_replaced_in_one_step, a_configuration_number_left_out, a_configuration_before_the_last_has_committed,
        a_configuration_before_the_epoch_has_begun, an_epoch_with_a_configuration_of_its_own, a_vote_of_a_removed_disk,
        time_that_goes_back, a_state_said_to_be_younger_than_it_is, a_proof_of_less_than_had_committed,
        a_suspect_that_trusts_itself_too_soon, unsynced_events_gone_without_a_word, synced_events_gone_with_the_power,
    ],
)  # fmt: skip
def test_a_broken_invariant_is_noticed(break_it: Callable[[Story], None]) -> None:
    story = Story()
    with pytest.raises(Violation):
        break_it(story)


def test_an_honest_story_is_believed() -> None:
    story = Story()
    checker = story.checker
    for book in checker.books[:2]:
        story.store(book, FIRST)
    checker.on_stream(story.one, 1, (FIRST,))
    checker.on_message(story.two, Ack(1, IDS[1], 3, FIRST.chain, 1, 1, 1), 0)
    story.commit(story.one, FIRST)
    story.commit(story.two, FIRST)
    checker.on_acknowledged(0, 1, 3)
    checker.on_fenced(story.one, [Send(1, Stale(1))])
    checker.on_start(story.two, story.two.meta or Meta(b""), (GENESIS, START, FIRST), BASE)
    assert checker.last == 3


def test_an_unfinished_cut_may_be_undone_by_a_crash() -> None:
    story = Story()
    story.store(story.one, FIRST)
    story.checker.on_truncate(story.one, 2)
    story.checker.on_start(story.one, story.one.meta or Meta(b""), (GENESIS, START, FIRST), BASE)


def test_a_lost_disk_holds_nothing_for_anybody() -> None:
    story = Story()
    story.checker.on_wipe(story.two)
    story.checker.on_start(story.two, Meta(bytes([9]) * 16), (), BASE)
    for book in story.checker.books[:2]:
        frames = (GENESIS, START, FIRST) if book is story.two else (FIRST,)
        story.store(book, *frames)
    with pytest.raises(Violation, match="1 members hold durably"):
        story.commit(story.one, FIRST)


def test_a_new_identity_may_keep_what_is_left_of_the_log_but_invents_nothing() -> None:
    story = Story()
    story.checker.on_rot(story.two)
    story.checker.on_start(story.two, Meta(bytes([9]) * 16), (GENESIS, START), BASE, suspect=True)
    assert not story.two.trusted
    story.checker.on_rot(story.two)
    with pytest.raises(Violation, match="recovered event 3 after"):
        story.checker.on_start(story.two, Meta(bytes([8]) * 16), (GENESIS, START, OTHER), BASE, suspect=True)


def test_a_disk_is_replaced_in_two_steps() -> None:
    story = Story()
    for frame in (REMOVED, READDED):
        for book in story.checker.books[:2]:
            story.store(book, frame)
        story.commit(story.one, frame)
    assert story.checker.config is not None
    assert story.checker.config.number == 3


def test_an_honest_age_and_an_honest_proof_are_believed() -> None:
    story = Story()
    commit_at(story, 1.0)
    story.now = 3.0
    third = story.checker.books[2]
    story.checker.on_age_claim(third, 2, 2.0)
    story.checker.on_age_claim(third, 3, 0.0)
    story.checker.on_proof_claim(third, 2, 2.1)
    story.checker.on_proof_claim(third, 3, 0.0)


def test_a_suspect_may_lack_what_it_had_not_synced_until_it_is_trusted() -> None:
    story = Story()
    story.checker.on_power_loss(story.two, synced=False)
    restart(story, story.two, GENESIS)
    story.store(story.two, START)
    story.checker.on_cleared(story.two, noted=False)
    assert not story.two.trusted, "it comes back as a suspect"
    story.checker.on_cleared(story.two)
    assert story.two.trusted


def test_a_majority_that_is_there_and_trusted_cannot_be_spared() -> None:
    story = Story()
    assert story.checker.spares(story.two)
    story.checker.on_wipe(story.one)
    assert not story.checker.spares(story.two)
    assert not story.checker.is_complete()


def test_after_a_blackout_the_best_log_is_the_clusters() -> None:
    story = Story()
    commit_at(story, 1.0)
    story.checker.on_blackout()
    for book in story.checker.books:
        story.checker.on_power_loss(book, synced=False)
    for book in story.checker.books[:2]:
        restart(story, book, GENESIS)
    assert story.checker.last == 3
    restart(story, story.checker.books[2], GENESIS, START)
    assert story.checker.last == 2
    assert not story.checker.extinct
    assert [book.owes for book in story.checker.books] == [2, 2, 2]
