"""The lines a node logs."""

from mcast.node.notices import NoticeLog
from mcast.protocol.effects import (
    EpochChanged,
    GapClosed,
    GapOpened,
    HaltRequired,
    LogRecovered,
    MembersChanged,
    ReadReady,
    SequencerReady,
    SteppedDown,
    Truncated,
)


def test_each_change_is_a_line() -> None:
    log = NoticeLog({7: "n2"})
    assert [log.line(notice) for notice in (
        EpochChanged(3, 7), EpochChanged(3, None), EpochChanged(4, 9), SequencerReady(4), SteppedDown(4), Truncated(9),
        HaltRequired("why"), MembersChanged(3, ("n1", "n2")), LogRecovered(), ReadReady((1,), 9),
    )] == [
        "epoch 3: n2 is the sequencer", "epoch 3: nobody is known to sequence",
        "epoch 4: node 0000000000000009 is the sequencer", "epoch 4: this node sequences from now on",
        "epoch 4: this node stepped down", "cut an uncommitted tail behind event 9", "HALTED: why",
        "configuration 3: n1, n2 vote", "the log is known whole again: this node votes and acknowledges", None,
    ]  # fmt: skip


def test_gaps_are_summed_up() -> None:
    log = NoticeLog({})
    assert log.gaps(0) is None
    for notice in (GapOpened(1, 2), GapOpened(5, 5), GapClosed(1, 2, 0.0125)):
        assert log.line(notice) is None
    assert log.gaps(1) == "gaps: 2 opened, 1 repaired, longest 12.5 ms, 1 open now"
    assert log.gaps(1) is None
    log.line(GapOpened(9, 9))
    assert log.gaps(0) == "gaps: 1 opened, 0 repaired, 0 open now"
