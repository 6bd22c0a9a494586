"""Judges what clients saw of a cluster against what its logs hold: pure checks of recorded histories."""

from mcast.history.calls import RecordedCall, encode_call, read_calls_untrusted
from mcast.history.findings import Finding
from mcast.history.streams import Given, Stretch, encode_stretch
from mcast.history.verdict import Judgement, judge

__all__ = [
    "Finding",
    "Given",
    "Judgement",
    "RecordedCall",
    "Stretch",
    "encode_call",
    "encode_stretch",
    "judge",
    "read_calls_untrusted",
]  # fmt: skip
