"""What is booked of every frame that arrives: with the gaps, the ledger and the counts; and what the owner is told."""

from __future__ import annotations

from typing import Final

from mcast.protocol.core import Core
from mcast.protocol.effects import GapClosed, GapOpened
from mcast.protocol.repair.gaps import Gaps, Loss
from mcast.protocol.repair.ledger import Ledger
from mcast.wire.envelope import Envelope
from mcast.wire.frame import Frame
from mcast.wire.messages import Kind

_DATA: Final = int(Kind.DATA)  # a member of an enum is slow to look up


class Books:
    """Judges nothing: whoever calls has decided what becomes of the frame."""

    def __init__(self, core: Core, ledger: Ledger, gaps: Gaps) -> None:
        self.core = core
        self.ledger = ledger
        self.gaps = gaps

    def on_arrival(self, envelope: Envelope, frame: Frame, last: int, now: float) -> None:
        """Book a frame's arrival with the gaps and the ledger."""
        if frame.first > self.gaps.frontier:
            self.tell_gap(self.gaps.on_early_frame(frame.first, last, now))
            if envelope.kind == Kind.REPAIR:
                self.ledger.on_repair(frame)
            return
        if envelope.kind == _DATA:
            self.on_filled(frame.first, last, 0, now)
        else:
            self.ledger.on_repair(frame)
            self.on_filled(frame.first, last, envelope.sender, now)

    def on_filled(self, first: int, last: int, source: int, now: float) -> None:
        """Events `first` to `last` are here: by a repair of `source`, over TCP, or (0) first-sent."""
        for loss in self.gaps.fill(first, last):
            if source:
                loss.repaired_by = source
                self.gaps.on_useful_repair()
                if loss.naks == 1:
                    self.gaps.on_round_trip(now - loss.asked_at)
            elif loss.naks and not loss.repaired_by and not loss.late:
                loss.late = True
                self.gaps.on_late_original()
            if not loss.missing:
                self.ledger.on_gap_closed(loss, now)
                if loss.naks or loss.repaired_by:
                    self.core.notices.append(GapClosed(loss.first, loss.last, now - loss.opened))

    def on_surplus(self, envelope: Envelope, frame: Frame) -> None:
        """A frame came that was here already."""
        if envelope.kind == _DATA:
            self.ledger.on_late_original(frame)
        else:
            self.core.counts["repairs surplus"] += 1

    def on_refused(self, envelope: Envelope, frame: Frame, reason: str) -> None:
        """A frame came that could not be kept."""
        self.core.counts[reason] += 1
        if envelope.kind == _DATA:
            self.ledger.note_unkept(frame)

    def tell_gap(self, loss: Loss | None) -> None:
        """Tell the owner of a gap, if this is a new one."""
        if loss is not None:
            self.core.notices.append(GapOpened(loss.first, loss.last))
