"""What a fault in a journal means: a table.

Whether a fault is harmless depends on two things. First, whether it lies behind the *synced point*, the highest seq
that any intact entry or header (also those behind the fault), or the meta, proves to have been durable once: nothing at
or before it can be missing unless the disk lost it. Second, whether the machine was restarted since. If not, the page
cache kept every completed write, and only the last one can have been cut short, by the end of the process. If so,
writes behind the synced point may have reached the disk in any order.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Fault(Enum):
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


class Verdict(Enum):
    """What to do about a journal."""

    INTACT = "use it"
    CUT = "cut the tail: nothing acknowledged was in it"
    CUT_SUSPECT = "cut the tail, and take no part in decisions until the log is known whole again"
    CORRUPT = "set it aside: acknowledged events are lost, so come back under a new storage id"
    FOREIGN = "refuse to start"


# Fault: at or before the synced point (same boot, other boot), behind it (same boot, other boot)
_ROWS: Final = {
    Fault.ZERO_TAIL: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.INTACT, Verdict.INTACT),
    Fault.TORN: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT, Verdict.CUT_SUSPECT),
    Fault.LENGTH: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.HEADER: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.CHAIN: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.DUPLICATE: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.GAP: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.EPOCH_BACK: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.VALID_AFTER_INVALID: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.SEGMENT_HEADER: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.SEGMENT_MISPLACED: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.SEGMENT_MISSING: (Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CORRUPT, Verdict.CUT_SUSPECT),
    Fault.SEGMENT_FOREIGN: (Verdict.FOREIGN, Verdict.FOREIGN, Verdict.FOREIGN, Verdict.FOREIGN),
}
# (fault, behind the synced point, same boot) -> verdict
RECOVERY_TABLE: Final[dict[tuple[Fault, bool, bool], Verdict]] = {
    (fault, behind, same_boot): verdicts[2 * behind + (not same_boot)]
    for fault, verdicts in _ROWS.items()
    for behind in (False, True)
    for same_boot in (False, True)
}
