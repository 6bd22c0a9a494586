"""Runs: frames of consecutive DATA datagrams, and how much of one can be taken at once."""

from __future__ import annotations

from mcast.protocol.core import FABRICS_OWN
from mcast.wire.envelope import Envelope
from mcast.wire.frame import Frame, FrameRun, chain_after


def singly(envelope: Envelope, run: FrameRun) -> list[tuple[Envelope, Frame]]:
    """The datagrams of a run, each with its own envelope."""
    counter = envelope.counter
    return [(envelope._replace(counter=counter + index), frame) for index, frame in enumerate(run)]


def chained(run: FrameRun, epoch: int, end: int, chain: bytes) -> FrameRun:
    """As `continuous`, of those whose chains follow from `chain` on."""
    expected = run[0].first if run else 0
    for taken, (entry_epoch, first, count, _, _, claimed, body, head) in enumerate(run):
        chain = chain_after(chain, head, body)
        after = first + count
        if chain != claimed or first != expected or entry_epoch != epoch or after > end or body[0] >= FABRICS_OWN:
            return run[:taken]
        expected = after
    return run


def continuous(run: FrameRun, epoch: int, end: int) -> FrameRun:
    """The frames of this epoch's commands that follow one another, from the first on, none reaching event `end`."""
    expected = run[0].first if run else 0
    for taken, frame in enumerate(run):
        after = frame.first + frame.count
        if frame.first != expected or frame.epoch != epoch or after > end or frame.body[0] >= FABRICS_OWN:
            return run[:taken]
        expected = after
    return run
