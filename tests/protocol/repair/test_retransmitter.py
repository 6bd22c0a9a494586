import random
from collections.abc import Sequence

import pytest

from mcast.limits import REPAIR_FLOOR_PER_S, REPAIR_PEAK_WINDOW_S
from mcast.protocol.core import Core
from mcast.protocol.effects import Effect, Repair
from mcast.protocol.repair.retransmitter import _BURST_S, Repairing
from mcast.protocol.rules import Rules
from mcast.wire.frame import Frame
from mcast.wire.messages import Busy, Nak, Range, RepairGone

from ..bench import KEY, core, envelope, epoch_log, extended, of, recovered, settings

LOG = epoch_log([(1, "n1", 600)])


def repairer(
    frames: Sequence[Frame] = LOG, rules: Rules | None = None, commit: int | None = None
) -> tuple[Core, Repairing]:
    shared = core("n1", frames, 1, rules)
    shared.commit_seq = frames[-1].last if commit is None else commit
    return shared, Repairing(shared, 0.0)


def ask(
    shared: Core, repairing: Repairing, ranges: Sequence[tuple[int, int]], now: float, sender: str = "n2"
) -> list[Effect]:
    nak = Nak(1, tuple(Range(*bounds) for bounds in ranges), 7)
    repairing.on_nak(envelope(sender, nak, 1), nak, now)
    effects, shared.effects = shared.effects, []
    return effects


def test_a_nak_is_answered_with_the_frames_it_names() -> None:
    shared, repairing = repairer()
    (repair,) = of(Repair, ask(shared, repairing, [(3, 4), (9, 9)], 1.0))
    assert repair.to == KEY["n2"]
    assert [frame.first for frame in repair.frames] == [3, 4, 9]
    assert repairing.repairs_sent == 3


def test_a_repeat_within_moments_is_ignored_and_a_retry_is_not() -> None:
    shared, repairing = repairer()
    assert ask(shared, repairing, [(3, 3)], 1.0)
    assert ask(shared, repairing, [(3, 3)], 1.003) == []
    assert ask(shared, repairing, [(3, 3)], 1.005)


def test_two_who_miss_the_same_frame_get_one_multicast() -> None:
    shared, repairing = repairer()
    ask(shared, repairing, [(3, 3)], 1.0, "n2")
    (repair,) = of(Repair, ask(shared, repairing, [(3, 3)], 1.001, "n3"))
    assert repair.to is None
    (repair,) = of(Repair, ask(shared, repairing, [(5, 5)], 1.1, "n3"))
    assert repair.to == KEY["n3"]


def test_below_the_cache_the_answer_is_gone_never_silence() -> None:
    shared = Core(settings("n1"), recovered("n1", LOG, 1), random.Random(1))
    shared.log._cache_bytes_max = 5_000
    shared.log.trim(keep_from=500)
    repairing = Repairing(shared, 0.0)
    (gone,) = of(RepairGone, ask(shared, repairing, [(3, 3)], 1.0))
    assert gone.low_water > 3


def test_what_the_repairer_lacks_is_not_answered() -> None:
    shared, repairing = repairer()
    assert ask(shared, repairing, [(5_000, 5_010)], 1.0) == []


def test_the_budget_ends_in_busy_and_refills() -> None:
    shared, repairing = repairer(extended(LOG, 5_000))
    given = 0
    effects = []
    for first in range(2, 5_000, 100):
        effects = ask(shared, repairing, [(first, first + 99)], 1.0)
        given += sum(len(repair.frames) for repair in of(Repair, effects) if isinstance(repair, Repair))
        if of(Busy, effects):
            break
    assert of(Busy, effects)
    assert given <= REPAIR_FLOOR_PER_S
    assert of(Repair, ask(shared, repairing, [(4_000, 4_009)], 1.1))


def test_one_replica_gets_half_of_the_budget_and_the_others_the_rest() -> None:
    shared, repairing = repairer(extended(LOG, 5_000))

    def given(sender: str, now: float, first: int) -> int:
        effects = ask(shared, repairing, [(first, first + 999)], now, sender)
        assert of(Busy, effects), "the budget was not reached"
        return sum(len(repair.frames) for repair in of(Repair, effects))

    budget = REPAIR_FLOOR_PER_S * _BURST_S
    assert given("n2", 1.0, 2) == budget / 2
    assert given("n3", 1.0, 1_002) == budget / 2
    assert given("n2", 1.0 + _BURST_S / 2, 2_002) == budget / 4
    assert given("n2", 9.0, 3_002) == budget / 2


def test_repairs_that_block_commit_are_exempt() -> None:
    shared, repairing = repairer(extended(LOG, 2_500), commit=1)
    answered = sum(
        len(repair.frames)
        for first in range(2, 2_500, 100)
        for repair in of(Repair, ask(shared, repairing, [(first, first + 99)], 1.0))
    )
    assert answered == 2_500


def test_without_the_floor_a_quiet_group_starves() -> None:
    shared, repairing = repairer(rules=Rules(repair_floor=False))
    for tick in range(1, 50):
        ask(shared, repairing, [(3, 40)], tick / 10)
    assert of(Busy, ask(shared, repairing, [(3, 40)], 6.0))


def test_own_naks_that_loop_back_are_nothing() -> None:
    shared, repairing = repairer()
    assert ask(shared, repairing, [(3, 3)], 1.0, "n1") == []


@pytest.mark.parametrize(
    ("streamed", "other", "sent_away"),
    [
        (1_000, 0, True),
        (1_000, 49, True),
        (1_000, 50, False),  # not over three times what the other got
        (1_500, 0, False),  # not over a tenth of what was streamed
    ],
)
def test_who_cries_far_more_than_the_others_is_sent_to_tcp_until_a_clean_window(
    streamed: int, other: int, sent_away: bool
) -> None:
    shared, repairing = repairer()
    shared.leads_epoch = True
    for now, sender, count in ((1.0, "n2", 50), (2.0, "n2", 50), (3.0, "n2", 50), (4.0, "n3", other)):
        (repair,) = of(Repair, ask(shared, repairing, [(2, 1 + count)], now, sender)) if count else [None]
        assert repair is None or len(repair.frames) == count
    window(repairing, streamed, REPAIR_PEAK_WINDOW_S)
    again = ask(shared, repairing, [(300, 300)], 6.0, "n2")
    assert (of(RepairGone, again), len(of(Repair, again))) == (([RepairGone(602, 0, 7)], 0) if sent_away else ([], 1))
    assert of(Repair, ask(shared, repairing, [(300, 300)], 6.5, "n3")), "who cried less is served"
    window(repairing, streamed, 2 * REPAIR_PEAK_WINDOW_S)
    assert of(Repair, ask(shared, repairing, [(400, 400)], 11.0, "n2")), "it was quiet for a window"


def test_who_is_needed_is_served_however_much_it_cries() -> None:
    for needed in ("not committed yet", "no majority without it", "not the sequencer"):
        shared, repairing = repairer(frames=epoch_log([(1, "n1", 600)]), commit=400)
        shared.leads_epoch = needed != "not the sequencer"
        if needed == "no majority without it":
            shared.voters().pop(KEY["n3"])
        for now in (1.0, 2.0, 3.0):
            ask(shared, repairing, [(2, 51)], now)
        window(repairing, 1_000, REPAIR_PEAK_WINDOW_S)
        wanted = 500 if needed == "not committed yet" else 300
        assert of(Repair, ask(shared, repairing, [(wanted, wanted)], 6.0)), needed
    assert of(RepairGone, ask(*repairer_of_a_crybaby(), [(300, 300)], 6.0)), "else it would be sent away"


def repairer_of_a_crybaby() -> tuple[Core, Repairing]:
    """A sequencer from which n2 had 150 of 1,000 frames repaired, and n3 none."""
    shared, repairing = repairer()
    shared.leads_epoch = True
    for now in (1.0, 2.0, 3.0):
        ask(shared, repairing, [(2, 51)], now)
    window(repairing, 1_000, REPAIR_PEAK_WINDOW_S)
    return shared, repairing


def window(repairing: Repairing, streamed: int, now: float) -> None:
    """A window in which so many frames were streamed ends."""
    repairing.note_streamed(repairing._streamed_then + streamed, now)
