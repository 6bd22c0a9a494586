"""What was done on purpose, told apart from what was lost: it counts where it would have been heard."""

import pytest

from mcast.protocol.repair.ledger import Ledger

from .test_ledger import MINE, OTHER, stream


def test_injected_faults_count_from_where_we_listened() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.note_injected("lost", MINE, 1)
    ledger.note_injected("lost", MINE, 3)
    ledger.note_injected("lost", OTHER, 1)
    ledger.on_data(frames[1], MINE, 2)
    ledger.note_injected("corrupted", MINE, 4)
    report = ledger.report(())
    assert (report.injected_lost, report.injected_corrupted) == (1, 1)


def test_a_fault_in_what_an_ended_epoch_goes_on_to_send_is_not_counted() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.note_injected("lost", MINE, 2)
    ledger.on_data(frames[2], MINE, 3)
    ledger.on_new_epoch(2)
    ledger.note_injected("lost", MINE, 4)  # its sender was stopped, and has not heard of the promise
    ledger.on_repair(frames[1])
    ledger.on_epoch_entered(2)
    report = ledger.report(())
    assert (report.lost, report.repaired, report.injected_lost) == (1, 1, 1)


@pytest.mark.parametrize("brought", [0, 1, 2, 3])
def test_a_fault_in_what_a_dead_sequencer_sent_last_counts_if_its_frame_turns_up(brought: int) -> None:
    ledger, frames = Ledger(), stream(9)
    ledger.on_data(frames[0], MINE, 1)
    ledger.note_injected("lost", MINE, 2)
    ledger.on_data(frames[2], MINE, 3)
    for fate, counter in (("corrupted", 4), ("lost", 5), ("duplicated", 6)):
        ledger.note_injected(fate, MINE, counter)
    assert ledger.report(()).injected_lost == 2
    ledger.on_new_epoch(2)
    for frame in frames[1:2] + frames[3 : 3 + brought]:  # the third of those was lost by the network
        ledger.on_repair(frame)
    ledger.on_epoch_entered(2)
    ledger.on_epoch_entered(3)
    report = ledger.report(())
    reported = min(brought, 2)
    assert (report.lost, report.repaired, report.superseded) == (1 + brought, 1 + brought, 0)
    assert report.injected_lost + report.injected_corrupted == 1 + reported
    assert report.injected_duplicated == 1


def test_losses_ahead_of_the_counter_are_kept_as_few_runs() -> None:
    ledger, frames = Ledger(ranges_max=100), stream(2)
    ledger.on_data(frames[0], MINE, 1)
    for counter in range(2, 1_000, 2):
        ledger.note_injected("lost", MINE, counter)
    assert len(ledger._losses[1].injected.ahead["lost"]) <= 100
    ledger.on_heartbeat(1, MINE, 0, 1_000, 3)
    ledger.note_injected("lost", MINE, 1_002)
    ledger.on_new_epoch(2)
    assert ledger.report(()).injected_lost == 499


def test_a_fault_before_a_second_epoch_of_one_process_is_heard_counts_if_that_epoch_sent_the_datagram() -> None:
    ledger = Ledger()
    ledger.on_data(stream(3)[0], MINE, 1)
    ledger.on_new_epoch(2)
    ledger.note_injected("lost", MINE, 2)  # still sent in its first epoch
    ledger.on_new_epoch(3)
    ledger.note_injected("lost", MINE, 3)
    assert ledger.report(()).injected_lost == 0
    ledger.on_heartbeat(3, MINE, 2, 4, 9)
    report = ledger.report(())
    assert (report.lost, report.injected_lost) == (2, 1), "4 was lost too, and not on purpose"


def test_faults_of_senders_never_heard_are_remembered_of_a_bounded_number() -> None:
    ledger = Ledger()
    for sender in range(1_000):
        ledger.note_injected("lost", sender.to_bytes(16, "big"), 1)
    assert len(ledger._injected._early) <= 64
