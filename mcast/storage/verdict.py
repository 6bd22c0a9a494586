"""What a fault in a journal means: a table.

Whether a fault is harmless depends on three things. First, whether it lies behind the *synced point*, the highest seq
that any intact entry or header (also those behind the fault), or the meta, proves to have been durable once: nothing at
or before it can be missing unless the disk lost it. Second, whether the log reaches the *watermark*, up to which this
node may have acknowledged it: where it does not, the disk lost that, be there zeros or no file at all in its place.
Third, whether the machine was restarted since. If not, the page cache kept every completed write, and only the last one
can have been cut short, by the end of the process. If so, writes behind the synced point may have reached the disk in
any order; and where nothing was synced before it was acknowledged (`sync = "os"`), neither the log nor the watermark
need hold all that was.

An end of the log that is no fault, zeros and nothing behind them, is a row like the others.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class LogFault(Enum):
    """The first thing wrong behind the log's last good entry."""

    ZERO_TAIL = "nothing but zeros"
    TORN = "a write cut short, and nothing behind it"
    LENGTH = "an entry longer than can be"
    HEADER = "a damaged entry header"
    CHAIN = "an entry whose body does not give its chain, or that follows another log"
    DUPLICATE = "an event number that the log already holds"
    GAP = "an event number beyond the next one"
    EPOCH_BACK = "an epoch below the one before it"
    VALID_AFTER_INVALID = "damage with an intact entry behind it"
    SEGMENT_HEADER = "a damaged segment header"
    SEGMENT_MISPLACED = "a segment that does not begin where the log ends"
    SEGMENT_MISSING = "a missing segment"
    SEGMENT_FOREIGN = "a segment of another cluster"
    SEGMENT_NEWER = "a segment that a later version wrote"


class Mark(Enum):
    """What the watermark says about the log's end."""

    REACHED = "the log holds all that it may have acknowledged"
    SHORT = "the log ends before what it may have acknowledged"
    OTHER = "the log holds other events than what it may have acknowledged"
    UNKNOWN = "there is no whole watermark of this storage id"


class Past(Enum):
    """What has happened to the machine since the directory was last written."""

    SAME_BOOT = "nothing"
    OTHER_BOOT = "it was restarted, and what was acknowledged had been synced"
    UNSYNCED = "it was restarted, and what was acknowledged had only been written"


class Verdict(Enum):
    """What to do about a journal."""

    INTACT = "use it"
    SUSPECT = "use it, and take no part in decisions until the log is known whole again"
    CUT = "cut the tail: nothing acknowledged was in it"
    CUT_SUSPECT = "cut the tail, and take no part in decisions until the log is known whole again"
    CORRUPT = "set it aside: acknowledged events are lost, so come back under a new storage id"
    FOREIGN = "refuse to start"

    @property
    def is_suspect(self) -> bool:
        """Whether the log may lack what was acknowledged."""
        return self in (Verdict.SUSPECT, Verdict.CUT_SUSPECT)

    @property
    def cuts(self) -> bool:
        """Whether the tail is cut."""
        return self in (Verdict.CUT, Verdict.CUT_SUSPECT)


_I, _S, _C, _CS, _X, _F = (
    Verdict.INTACT, Verdict.SUSPECT, Verdict.CUT, Verdict.CUT_SUSPECT, Verdict.CORRUPT, Verdict.FOREIGN,
)  # fmt: skip
_Columns = dict[Mark, tuple[Verdict, Verdict, Verdict]]

# Behind the synced point; for each mark: same boot, other boot, unsynced.
_ENDS: Final[_Columns] = {
    Mark.REACHED: (_I, _I, _S),
    Mark.SHORT: (_X, _X, _S),
    Mark.OTHER: (_X, _X, _X),
    Mark.UNKNOWN: (_S, _S, _S),
}
_TORN: Final[_Columns] = {
    Mark.REACHED: (_C, _CS, _CS),
    Mark.SHORT: (_X, _X, _CS),
    Mark.OTHER: (_X, _X, _X),
    Mark.UNKNOWN: (_CS, _CS, _CS),
}
_DAMAGED: Final[_Columns] = {
    Mark.REACHED: (_X, _CS, _CS),
    Mark.SHORT: (_X, _X, _CS),
    Mark.OTHER: (_X, _X, _X),
    Mark.UNKNOWN: (_X, _CS, _CS),
}
_LOST: Final[_Columns] = dict.fromkeys(Mark, (_X, _X, _X))
_REFUSED: Final[_Columns] = dict.fromkeys(Mark, (_F, _F, _F))
_BEHIND: Final = {
    LogFault.ZERO_TAIL: _ENDS,
    LogFault.TORN: _TORN,
    LogFault.LENGTH: _DAMAGED,
    LogFault.HEADER: _DAMAGED,
    LogFault.CHAIN: _DAMAGED,
    LogFault.DUPLICATE: _DAMAGED,
    LogFault.GAP: _DAMAGED,
    LogFault.EPOCH_BACK: _DAMAGED,
    LogFault.VALID_AFTER_INVALID: _DAMAGED,
    LogFault.SEGMENT_HEADER: _DAMAGED,
    LogFault.SEGMENT_MISPLACED: _DAMAGED,
    LogFault.SEGMENT_MISSING: _DAMAGED,
    LogFault.SEGMENT_FOREIGN: _REFUSED,
    LogFault.SEGMENT_NEWER: _REFUSED,
}
# (fault, behind the synced point, mark, past) -> verdict
RECOVERY_TABLE: Final[dict[tuple[LogFault, bool, Mark, Past], Verdict]] = {
    (fault, behind, mark, past): (columns if behind or columns is _REFUSED else _LOST)[mark][at]
    for fault, columns in _BEHIND.items()
    for behind in (False, True)
    for mark in Mark
    for at, past in enumerate(Past)
}
