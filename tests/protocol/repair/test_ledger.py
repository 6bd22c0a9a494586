from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.protocol.repair.gaps import Loss
from mcast.protocol.repair.ledger import Ledger
from mcast.protocol.repair.losses import Fate
from mcast.wire.frame import Frame

from ..bench import epoch_log, extended, genesis

MINE, OTHER = b"a" * 16, b"b" * 16


def stream(count: int, epoch: int = 1) -> list[Frame]:
    """An epoch's frames from seq 2 on, as DATA numbers 1, 2, 3 ..."""
    return epoch_log([(epoch, "n1", count)])[1:]


def tally(ledger: Ledger) -> tuple[int, int, int, int, int]:
    report = ledger.report(())
    return report.lost, report.repaired, report.transferred, report.superseded, report.duplicates


def test_a_hole_in_the_counter_is_one_lost_datagram() -> None:
    ledger, frames = Ledger(), stream(5)
    assert ledger.on_data(frames[0], MINE, 1) is Fate.NEW
    assert ledger.on_data(frames[2], MINE, 3) is Fate.NEW
    assert tally(ledger) == (1, 0, 0, 0, 0)
    ledger.on_repair(frames[1])
    assert tally(ledger) == (1, 1, 0, 0, 0)


def test_a_late_original_was_not_lost_and_takes_its_repair_back() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[2], MINE, 3)
    ledger.on_repair(frames[1])
    assert ledger.on_data(frames[1], MINE, 2) is Fate.LATE
    ledger.on_late_original(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)


def test_the_late_original_of_a_hole_that_was_forgotten_was_not_lost() -> None:
    ledger, frames = Ledger(ranges_max=1), stream(6)
    for at in (0, 2, 4):  # two holes, of which one is remembered
        ledger.on_data(frames[at], MINE, at + 1)
    ledger.on_repair(frames[3])
    assert ledger.on_data(frames[1], MINE, 2) is Fate.DUPLICATE
    ledger.on_original_after_all(frames[1])
    assert tally(ledger)[:2] == (1, 1)


def test_what_was_not_kept_and_comes_once_more_needs_no_repair() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.note_unkept(frames[0])
    assert ledger.on_data(frames[0], MINE, 1) is Fate.DUPLICATE
    ledger.on_original_after_all(frames[0])
    assert tally(ledger)[:2] == (0, 0)
    ledger.on_repair(frames[0])  # as if it were lost again: it counts like any other
    assert tally(ledger)[:2] == (0, 1)


def test_a_late_original_takes_a_transfer_back_too() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[2], MINE, 3)
    ledger.on_transfer(frames[1])
    assert tally(ledger) == (1, 0, 1, 0, 0)
    assert ledger.on_data(frames[1], MINE, 2) is Fate.LATE
    ledger.on_late_original(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)


def test_an_original_of_an_epoch_long_added_up_takes_nothing_back() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[2], MINE, 3)
    ledger.on_repair(frames[1])
    for epoch in range(2, 100):
        ledger.on_data(stream(3, epoch)[0], OTHER, epoch)
    before = tally(ledger)
    ledger.on_late_original(frames[1])
    assert tally(ledger) == before


def test_a_network_duplicate_is_counted_once_each() -> None:
    ledger, frames = Ledger(), stream(3)
    ledger.on_data(frames[0], MINE, 1)
    assert ledger.on_data(frames[0], MINE, 1) is Fate.DUPLICATE
    assert tally(ledger) == (0, 0, 0, 0, 1)


def test_what_was_sent_before_a_restart_and_comes_late_says_nothing_of_what_the_log_holds() -> None:
    ledger, frames = Ledger(), stream(9)
    log_end = frames[4].last  # as recovered; the sender's datagrams up to 5 are in it
    ledger.on_heartbeat(1, MINE, 0, 2, frames[1].last, log_end)
    assert ledger.on_data(frames[3], MINE, 4, log_end) is Fate.NEW
    ledger.on_heartbeat(1, MINE, 0, 6, frames[5].last, log_end)
    assert tally(ledger) == (0, 0, 0, 0, 0), "5 are in the log, and the sixth belongs to joining"
    ledger.on_heartbeat(1, MINE, 0, 8, frames[7].last, log_end)
    assert tally(ledger)[0] == 2


def test_a_sender_known_from_its_last_epoch_is_held_against_all_of_the_new_one() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_heartbeat(2, MINE, 1, 3, 9, log_end=12)  # the log's tail is about to be cut
    assert tally(ledger)[0] == 2


def test_a_heartbeat_reveals_a_lost_tail() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_heartbeat(1, MINE, 0, 3, frames[2].last)
    assert tally(ledger)[0] == 2


def test_what_was_sent_before_we_listened_is_joining_and_not_loss() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_heartbeat(1, MINE, 0, 3, frames[2].last)
    ledger.on_repair(frames[0])
    ledger.on_transfer(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)
    ledger.on_data(frames[4], MINE, 5)
    ledger.on_repair(frames[3])
    assert tally(ledger) == (1, 1, 0, 0, 0)


def test_what_a_dead_epoch_lost_is_superseded_once_the_log_passes_it() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[3], MINE, 4)
    ledger.on_repair(frames[1])
    ledger.on_epoch_entered(2)
    assert tally(ledger) == (2, 1, 0, 1, 0)


def test_a_second_epoch_of_one_process_goes_on_counting() -> None:
    ledger = Ledger()
    first = stream(3)
    ledger.on_data(first[0], MINE, 1)
    ledger.on_heartbeat(3, MINE, 2, 4, 9)
    assert tally(ledger)[0] == 2  # counters 3 and 4 of the new epoch


def test_a_frame_we_could_not_keep_was_not_lost() -> None:
    ledger, frames = Ledger(), stream(3)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[1], MINE, 2)
    ledger.note_unkept(frames[1])
    ledger.on_repair(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)


MANY = 300_000


@pytest.fixture(scope="module")
def long_stream() -> list[Frame]:
    """As long as what a replica sleeps through; the ledger looks at nothing but the numbers."""
    return [Frame(1, 2 + 3 * index, 3, 0, 0, bytes(16), b"", b"") for index in range(MANY)]


def test_any_number_of_frames_that_could_not_be_kept_were_not_lost(long_stream: list[Frame]) -> None:
    ledger = Ledger()
    ledger.on_data(long_stream[0], MINE, 1)
    for counter, frame in enumerate(long_stream[100_000:], 100_001):  # behind a gap, and no room
        ledger.on_data(frame, MINE, counter)
        ledger.note_unkept(frame)
    for frame in long_stream[1:]:
        ledger.on_transfer(frame)
    assert tally(ledger) == (99_999, 0, 99_999, 0, 0)


def test_any_number_of_late_originals_take_their_transfers_back(long_stream: list[Frame]) -> None:
    ledger = Ledger()
    ledger.on_data(long_stream[0], MINE, 1)
    ledger.on_heartbeat(1, MINE, 0, MANY, long_stream[-1].last)
    for frame in long_stream[1:]:
        ledger.on_transfer(frame)
    assert tally(ledger) == (MANY - 1, 0, MANY - 1, 0, 0)
    for counter, frame in enumerate(long_stream[1:200_000], 2):
        assert ledger.on_data(frame, MINE, counter) is Fate.LATE
        ledger.on_late_original(frame)
    assert tally(ledger) == (MANY - 200_000, 0, MANY - 200_000, 0, 0)


def test_any_number_of_holes_can_still_be_closed_by_late_originals() -> None:
    ledger, frames = Ledger(), stream(2)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_heartbeat(1, MINE, 0, 5_000_001, 3)
    assert tally(ledger)[0] == 5_000_000
    assert ledger.alike_count(1, 2, 64) == 64
    for counter in range(2, 200_002, 50):
        ledger.on_stream(1, counter, ledger.alike_count(1, counter, 50))
    assert tally(ledger) == (4_800_000, 0, 0, 0, 0)
    assert ledger.alike_count(1, 200_001, 64) == 0, "it has come"
    assert len(ledger._losses[1].missing) == 1


FATES = st.lists(st.sampled_from(("arrives", "is unkept", "is lost")), min_size=1, max_size=60)


@given(FATES, st.sampled_from((0, 1, 3, 100)), st.randoms(use_true_random=False))
def test_it_reconciles_whatever_it_has_to_forget(fates: list[str], ranges_max: int, random: Random) -> None:
    """Every frame is brought in the end, before or after its original, which may come in any order too."""
    frames = stream(len(fates) + 1)
    ledger = Ledger(ranges_max)
    ledger.on_data(frames[0], MINE, 1)
    steps = [("heal", index) for index in range(len(fates))]
    steps += [("original", index) for index, fate in enumerate(fates) if fate != "is lost"]
    steps += [("announce", 0)]
    random.shuffle(steps)
    there = set[int]()
    for step, index in steps:
        frame, counter = frames[index + 1], index + 2
        if step == "announce":
            ledger.on_heartbeat(1, MINE, 0, len(fates) + 1, frames[-1].last)
            continue
        if step == "heal":
            if index not in there:
                random.choice((ledger.on_repair, ledger.on_transfer))(frame)
        elif ledger.on_data(frame, MINE, counter) is Fate.DUPLICATE:
            continue
        elif index in there:
            ledger.on_late_original(frame)
        elif fates[index] == "is unkept":
            ledger.note_unkept(frame)
            continue
        there.add(index)
    for index in {*range(len(fates))} - there:  # dropped as duplicates after their turn to be healed
        ledger.on_transfer(frames[index + 1])
    lost, repaired, transferred, _, _ = tally(ledger)
    assert lost == repaired + transferred
    assert lost >= fates.count("is lost")
    if ranges_max >= 100:
        assert lost == fates.count("is lost")
    losses = ledger._losses[1]
    assert all(len(held) <= ranges_max for held in (losses.missing, losses.unkept, losses.repairs, losses.transfers))


def test_what_was_superseded_and_came_back_after_all_is_no_longer() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[3], MINE, 4)
    ledger.on_epoch_entered(2)  # of an epoch that began before the end of this one, and came to nothing
    assert tally(ledger) == (2, 0, 0, 2, 0)
    ledger.on_transfer(frames[1])
    ledger.on_epoch_entered(3)
    assert tally(ledger) == (2, 0, 1, 1, 0)


def test_epochs_beyond_the_bound_are_added_up() -> None:
    ledger = Ledger()
    for epoch in range(1, 200):
        frames = extended([genesis()], 3, epoch=epoch)[1:]
        ledger.on_data(frames[0], MINE, 1)
        ledger.on_data(frames[2], MINE, 3)
        ledger.on_repair(frames[1])
    assert tally(ledger)[:2] == (199, 199)


def test_reordering_alone_leaves_no_entry() -> None:
    ledger = Ledger()
    ledger.on_gap_closed(Loss(1, 2, 0.0, 0), 0.001)
    ledger.on_gap_closed(Loss(3, 4, 0.0, 0, naks=1, repaired_by=7), 0.004)
    closed = ledger.report(()).closed
    assert [(gap.first, gap.last, gap.repaired_by) for gap in closed] == [(3, 4, 7)]
    assert closed[0].latency_s == 0.004
