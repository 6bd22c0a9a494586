from mcast.protocol.gaps import Loss
from mcast.protocol.ledger import Fate, Ledger
from mcast.wire.frame import Frame

from .bench import extended, genesis, reign_log

MINE, OTHER = b"a" * 16, b"b" * 16


def stream(count: int, epoch: int = 1) -> list[Frame]:
    """A reign's frames from seq 2 on, as DATA numbers 1, 2, 3 ..."""
    return reign_log([(epoch, "n1", count)])[1:]


def tally(ledger: Ledger) -> tuple[int, int, int, int, int]:
    report = ledger.report(())
    return report.lost, report.repaired, report.transferred, report.superseded, report.duplicates


def test_a_hole_in_the_counter_is_one_lost_datagram() -> None:
    ledger, frames = Ledger(), stream(5)
    assert ledger.data(frames[0], MINE, 1) is Fate.NEW
    assert ledger.data(frames[2], MINE, 3) is Fate.NEW
    assert tally(ledger) == (1, 0, 0, 0, 0)
    ledger.repaired(frames[1])
    assert tally(ledger) == (1, 1, 0, 0, 0)


def test_a_late_original_was_not_lost_and_takes_its_repair_back() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.data(frames[0], MINE, 1)
    ledger.data(frames[2], MINE, 3)
    ledger.repaired(frames[1])
    assert ledger.data(frames[1], MINE, 2) is Fate.LATE
    ledger.overtaken(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)


def test_a_late_original_takes_a_transfer_back_too() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.data(frames[0], MINE, 1)
    ledger.data(frames[2], MINE, 3)
    ledger.transferred(frames[1])
    assert tally(ledger) == (1, 0, 1, 0, 0)
    assert ledger.data(frames[1], MINE, 2) is Fate.LATE
    ledger.overtaken(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)


def test_an_original_of_a_reign_long_added_up_takes_nothing_back() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.data(frames[0], MINE, 1)
    ledger.data(frames[2], MINE, 3)
    ledger.repaired(frames[1])
    for epoch in range(2, 100):
        ledger.data(stream(3, epoch)[0], OTHER, epoch)
    before = tally(ledger)
    ledger.overtaken(frames[1])
    assert tally(ledger) == before


def test_a_network_duplicate_is_counted_once_each() -> None:
    ledger, frames = Ledger(), stream(3)
    ledger.data(frames[0], MINE, 1)
    assert ledger.data(frames[0], MINE, 1) is Fate.DUPLICATE
    assert tally(ledger) == (0, 0, 0, 0, 1)


def test_a_heartbeat_reveals_a_lost_tail() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.data(frames[0], MINE, 1)
    ledger.announced(1, MINE, 0, 3, frames[2].last)
    assert tally(ledger)[0] == 2


def test_what_was_sent_before_we_listened_is_joining_and_not_loss() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.announced(1, MINE, 0, 3, frames[2].last)
    ledger.repaired(frames[0])
    ledger.transferred(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)
    ledger.data(frames[4], MINE, 5)
    ledger.repaired(frames[3])
    assert tally(ledger) == (1, 1, 0, 0, 0)


def test_what_a_dead_reign_lost_is_superseded_once_the_log_passes_it() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.data(frames[0], MINE, 1)
    ledger.data(frames[3], MINE, 4)
    ledger.repaired(frames[1])
    ledger.entered(2)
    assert tally(ledger) == (2, 1, 0, 1, 0)


def test_a_second_reign_of_one_process_goes_on_counting() -> None:
    ledger = Ledger()
    first = stream(3)
    ledger.data(first[0], MINE, 1)
    ledger.announced(3, MINE, 2, 4, 9)
    assert tally(ledger)[0] == 2  # counters 3 and 4 of the new reign


def test_a_frame_we_could_not_keep_was_not_lost() -> None:
    ledger, frames = Ledger(), stream(3)
    ledger.data(frames[0], MINE, 1)
    ledger.data(frames[1], MINE, 2)
    ledger.unkept(frames[1])
    ledger.repaired(frames[1])
    assert tally(ledger) == (0, 0, 0, 0, 0)


def test_injected_faults_count_from_where_we_listened() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.injected("lost", MINE, 1)
    ledger.injected("lost", MINE, 3)
    ledger.injected("lost", OTHER, 1)
    ledger.data(frames[1], MINE, 2)
    ledger.injected("corrupted", MINE, 4)
    report = ledger.report(())
    assert (report.injected_lost, report.injected_corrupted) == (1, 1)


def test_old_holes_are_folded_into_a_number() -> None:
    ledger, frames = Ledger(), stream(2)
    ledger.data(frames[0], MINE, 1)
    ledger.announced(1, MINE, 0, 40_001, 3)
    assert tally(ledger)[0] == 40_000
    assert len(ledger._reigns[1].missing) < 40_000


def test_an_absurd_counter_is_no_loss_and_costs_no_memory() -> None:
    ledger, frames = Ledger(), stream(2)
    ledger.data(frames[0], MINE, 1)
    ledger.data(frames[1], MINE, 2**60)
    assert tally(ledger)[0] == 0


def test_reigns_beyond_the_bound_are_added_up() -> None:
    ledger = Ledger()
    for epoch in range(1, 200):
        frames = extended([genesis()], 3, epoch=epoch)[1:]
        ledger.data(frames[0], MINE, 1)
        ledger.data(frames[2], MINE, 3)
        ledger.repaired(frames[1])
    assert tally(ledger)[:2] == (199, 199)


def test_reordering_alone_leaves_no_entry() -> None:
    ledger = Ledger()
    ledger.closed(Loss(1, 2, 0.0, 0), 0.001)
    ledger.closed(Loss(3, 4, 0.0, 0, naks=1, repaired_by=7), 0.004)
    closed = ledger.report(()).closed
    assert [(gap.first, gap.last, gap.repaired_by) for gap in closed] == [(3, 4, 7)]
    assert closed[0].latency_s == 0.004
