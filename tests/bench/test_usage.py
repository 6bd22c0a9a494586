import os
import time
from typing import Any

import pytest

from mcast.bench.usage import (
    CLIENT,
    COUNTED,
    UsageReading,
    machine_busy_s,
    of_process,
    others_busy,
    own,
    usage_after,
    usage_before,
    used,
)

COSTS = ("cpu_us", "user_us", "system_us", "switches", *COUNTED)


def test_a_process_is_told_its_times_and_switches() -> None:
    before, exact_before = of_process(os.getpid()), own()
    if before["user_s"] is None:
        pytest.skip("this system has no /proc")
    until_s = time.thread_time() + 0.05
    while time.thread_time() < until_s:
        pass
    time.sleep(0.001)
    after, exact = of_process(os.getpid()), own()
    for name in ("cpu_s", "user_s", "system_s", "switches"):
        assert (after[name] or 0) >= (before[name] or 0)
    assert (after["switches"] or 0) > (before["switches"] or 0)
    assert (after["user_s"] or 0) == pytest.approx(exact["user_s"] or 0, abs=0.5)
    used_s = [(now["cpu_s"] or 0) - (then["cpu_s"] or 0) for now, then in ((after, before), (exact, exact_before))]
    assert used_s[0] == pytest.approx(used_s[1], abs=0.02)
    assert used_s[0] >= 0.05
    assert 1 < (after["rss_mib"] or 0) < 10_000
    assert (machine_busy_s() or 0) > 0


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    assert set(of_process(2**22 + 1).values()) == {None}


def reading(at_s: float, busy_s: float | None, user_s: float | None, sends: int, kernel_s: float = 0.0) -> UsageReading:
    counts: dict[str, float | None] = {**dict.fromkeys(COUNTED), "sends": sends}
    cpu_s = None if user_s is None else user_s * 2
    counts |= {"cpu_s": cpu_s, "user_s": user_s, "system_s": user_s, "switches": sends * 2, "rss_mib": at_s}
    return UsageReading(at_s, busy_s, kernel_s, {"n1": counts})


def test_what_was_used_is_told_for_one_event_and_as_a_share_of_a_processor() -> None:
    reported = used(reading(10.0, 100.0, 1.0, 50), reading(12.0, 100.0 + 2 * (os.cpu_count() or 1), 1.5, 150), 1_000)
    assert set(reported["per_event"]["n1"]) == set(COSTS)
    assert reported["per_event"]["n1"]["user_us"] == reported["per_event"]["n1"]["system_us"] == 500.0
    assert reported["per_event"]["n1"]["cpu_us"] == 1_000.0
    assert reported["per_event"]["n1"]["sends"] == 0.1
    assert reported["per_event"]["n1"]["switches"] == 0.2
    assert reported["per_event"]["n1"]["receives"] is None
    assert reported["busy"] == {"n1": 0.5}
    assert reported["rss_mib"] == {"n1": 12.0}
    assert reported["others_busy"] == pytest.approx(1 - 0.5 / (os.cpu_count() or 1), abs=0.001)
    assert reported["machine_busy"] == 1.0


def test_what_a_system_does_not_tell_is_none() -> None:
    reported = used(reading(10.0, None, None, 0), reading(11.0, None, None, 0), 10)
    assert (reported["per_event"]["n1"]["cpu_us"], reported["busy"]["n1"], reported["machine_busy"]) == (
        None,
        None,
        None,
    )


def test_others_have_what_is_left() -> None:
    count = os.cpu_count() or 1
    assert others_busy(0.75, 0.0, [0.25 * count, None]) == 0.5
    assert others_busy(0.75, 0.125, [0.25 * count, None]) == 0.375
    assert others_busy(0.1, 0.0, [0.2 * count]) == 0.0
    assert others_busy(None, 0.0, [0.1]) is None
    assert others_busy(0.5, 0.0, [None]) is None


def test_the_kernels_own_threads_are_no_others() -> None:
    count = os.cpu_count() or 1
    reported = used(reading(10.0, 0.0, 0.0, 0, 5.0), reading(12.0, 2.0 * count, 0.0, 0, 5.0 + count), 1)
    assert (reported["machine_busy"], reported["kernel_busy"], reported["others_busy"]) == (1.0, 0.5, 0.5)


async def test_links_are_read_outside_what_is_measured() -> None:
    """What asking the nodes costs, here in this process, is in neither reading's difference."""

    class Busy:
        async def status(self) -> dict[str, Any]:
            until_s = time.process_time() + 0.03
            while time.process_time() < until_s:
                pass
            return {"nodes": [{"id": "n1", "link": {"sends": 7}}, {"id": "n2"}]}

    pids = {"n1": os.getpid(), "n2": os.getpid()}
    before = await usage_before(pids, Busy())  # type: ignore[arg-type]
    after = await usage_after(pids, Busy())  # type: ignore[arg-type]
    reported = used(before, after, 1)["per_event"]
    assert reported[CLIENT]["cpu_us"] < 30_000
    assert (reported["n1"]["sends"], reported["n2"]["sends"], reported[CLIENT]["sends"]) == (0, None, None)
