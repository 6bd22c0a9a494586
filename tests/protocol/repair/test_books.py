"""What is booked of frames that arrive, or that are refused."""

from __future__ import annotations

from mcast.protocol.core import Core
from mcast.protocol.effects import GapClosed, GapOpened
from mcast.protocol.repair.books import Books
from mcast.protocol.repair.gaps import Gaps
from mcast.protocol.repair.ledger import Ledger
from mcast.wire.messages import Kind
from tests.protocol.bench import KEY, core, epoch_log, frame_arrival

LOG = epoch_log([(1, "n1", 9)])


def books() -> tuple[Core, Books]:
    """Of a log that ends with LOG[1]; LOG[4] came early, for LOG[2] and LOG[3] are lost."""
    shared = core("n2", LOG[:2], 1)
    shared.notices.clear()
    ledger = Ledger()
    ledger.on_data(LOG[1], b"n1".ljust(16), 1)
    ledger.on_data(LOG[4], b"n1".ljust(16), 4)
    booked = Books(shared, ledger, Gaps(LOG[1].last, lambda low, high: low))
    envelope, _ = frame_arrival("n1", LOG[4])
    booked.on_arrival(envelope, LOG[4], LOG[4].last, 1.0)
    return shared, booked


def test_a_gap_is_told_once_and_its_end_if_somebody_repaired_it() -> None:
    shared, booked = books()
    assert shared.notices == [GapOpened(LOG[2].first, LOG[3].last)]
    for frame in (LOG[2], LOG[3]):
        envelope, _ = frame_arrival("n3", frame, kind=Kind.REPAIR)
        booked.on_arrival(envelope, frame, frame.last, 1.5)
    assert shared.notices[1:] == [GapClosed(LOG[2].first, LOG[3].last, 0.5)]
    (closed,) = booked.ledger.report(()).closed
    assert closed.repaired_by == KEY["n3"]
    assert booked.ledger.report(()).repaired == 2


def test_what_cannot_be_kept_was_not_lost_and_what_was_here_is_surplus() -> None:
    shared, booked = books()
    envelope, _ = frame_arrival("n1", LOG[6])
    booked.on_refused(envelope, LOG[6], "no room beyond a gap")
    again, _ = frame_arrival("n3", LOG[6], kind=Kind.REPAIR)
    booked.ledger.on_repair(LOG[6])
    booked.on_surplus(again, LOG[6])
    assert booked.ledger.report(()).repaired == 0, "its repair healed no loss"
    assert shared.counts == {"no room beyond a gap": 1, "repairs surplus": 1}
