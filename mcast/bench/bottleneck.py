"""Why a machine took no more: what to say of a rate that was not held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

RATE_HELD: Final = 0.9  # of the rate asked for; below, a run tells what was reached and nothing else
PROCESS_BUSY: Final = 0.85  # of one processor: a process has no time left
MACHINE_BUSY: Final = 0.9  # of all processors


def held(reached: float, rate: float) -> bool:
    """Whether a rate was reached, nearly."""
    return reached >= RATE_HELD * rate


def held_back_by(usage: Mapping[str, Any], sequencer: str, sync: str) -> str:
    """What most likely kept a run from going faster, judged by what its processes used (`usage.used`)."""
    busy = {name: share for name, share in usage["busy"].items() if share is not None}
    if not busy:
        return "this system does not tell which process was busy"
    name, share = max(busy.items(), key=lambda item: item[1])
    called = f"{name} (the sequencer)" if name == sequencer else name
    if share >= PROCESS_BUSY:
        return f"{called} used {share:.0%} of a processor, and one process has no more"
    whole = usage["machine_busy"]
    if whole is not None and whole >= MACHINE_BUSY:
        return f"all processors of this machine were busy ({whole:.0%}); {called} got {share:.0%} of one"
    idle = f"no process was busy ({called}: {share:.0%} of a processor)"
    if sync == "always":
        return f"{idle}: all waited for the disk, which is synced before anything is acknowledged"
    return f"{idle}: what may be unanswered at a time (the window) was used up, or this machine did other things"
