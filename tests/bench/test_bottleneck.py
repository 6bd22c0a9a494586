import re
from typing import Any

import pytest

from mcast.bench.bottleneck import held, held_back_by


def test_a_rate_is_held_that_is_nearly_reached() -> None:
    assert held(901, 1_000)
    assert not held(899, 1_000)


def usage(machine_busy: float | None, **busy: float | None) -> dict[str, Any]:
    return {"busy": busy, "machine_busy": machine_busy}


@pytest.mark.parametrize(
    ("used", "sync", "said"),
    [
        (usage(0.7, n1=0.97, n2=0.3), "os", r"n1 \(the sequencer\) used 97% of a processor"),
        (usage(1.0, n1=0.5, n2=0.9), "always", r"^n2 used 90% of a processor"),
        (usage(0.95, n1=0.5, client=0.6), "os", r"all processors of this machine were busy \(95%\); client got 60%"),
        (usage(0.4, n1=0.2, client=0.1), "always", r"no process was busy \(n1 .*disk"),
        (usage(None, n1=0.2, client=0.1), "os", r"no process was busy .*window"),
        (usage(None, n1=None), "os", "does not tell"),
    ],
)
def test_the_likeliest_reason_is_named(used: dict[str, Any], sync: str, said: str) -> None:
    assert re.search(said, held_back_by(used, "n1", sync))
