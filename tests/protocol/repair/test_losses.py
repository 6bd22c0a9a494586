"""What one epoch's stream lost, and for how long that can change."""

from mcast.protocol.repair.ledger import Ledger
from mcast.protocol.repair.losses import Fate

from .test_ledger import MINE, OTHER, stream, tally


def test_an_epoch_that_is_over_keeps_only_numbers() -> None:
    ledger, frames = Ledger(), stream(5)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[3], MINE, 4)
    ledger.on_repair(frames[1])
    ledger.on_data(stream(3, 2)[0], OTHER, 1)
    assert tally(ledger) == (2, 1, 0, 0, 0)
    assert not len(ledger._losses[1].missing)
    ledger.on_transfer(frames[2])
    assert tally(ledger) == (2, 1, 1, 0, 0)


def test_an_absurd_counter_is_no_loss_and_costs_no_memory() -> None:
    ledger, frames = Ledger(), stream(2)
    ledger.on_data(frames[0], MINE, 1)
    ledger.on_data(frames[1], MINE, 2**60)
    assert tally(ledger)[0] == 0


def test_late_heartbeats_that_know_of_less_make_no_loss_of_what_had_arrived() -> None:
    ledger, frames = Ledger(), stream(6)
    for counter in (1, 2, 4, 5):
        ledger.on_data(frames[counter - 1], MINE, counter)
    ledger.lower(1, 2, frames[1].last)
    assert tally(ledger)[0] == 0
    ledger.on_heartbeat(1, MINE, 0, 3, frames[2].last)
    ledger.on_heartbeat(1, MINE, 0, 6, frames[5].last)
    assert tally(ledger)[0] == 2, "the third and the sixth"
    assert ledger.on_data(frames[2], MINE, 3) is Fate.LATE
    assert tally(ledger)[0] == 1
