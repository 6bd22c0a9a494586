"""How long somebody waited because of a takeover, from when acknowledgements came."""

from __future__ import annotations

from collections.abc import Sequence


def longest_wait(beats: Sequence[tuple[float, int]], struck: float, epoch: int) -> float:
    """The longest time between two acknowledgements, (when, epoch) each in the order they came, around a strike.

    From the last one before `struck` until the first after it in an epoch beyond `epoch`; there must be both.
    A few may still come after the strike, for what was under way. In the unit of the times given.
    """
    begins = next(index for index, (when, _) in enumerate(beats) if when >= struck)
    ends = next(index for index, (_, its) in enumerate(beats) if index >= begins and its > epoch)
    return max(beats[index][0] - beats[index - 1][0] for index in range(begins, ends + 1))
