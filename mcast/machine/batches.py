"""Batches: consecutive frames with a record of one session each, whose few commands can be applied together.

What is decided once for a batch, and comes to the same as frame by frame: the session and its progress, the time,
the decoding, the outcomes' bytes. A record large enough for a run handler is no part of one, for run handlers see one
record at a time: how many frames a replica applies at once is its own affair, and no outcome may depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mcast.limits import SEQ_MAX
from mcast.machine.executor import RUN_MIN
from mcast.wire.frame import Frame
from mcast.wire.records import COMMANDS_WORD, RECORD_HEADER_BYTES, unpack_record_head

BATCH_FRAMES_MIN: Final = 2  # frames; one alone is cheaper by itself
_SESSION: Final = slice(8, 16)  # of a record; where clients take turns, most often all that has to be looked at


class SessionBatch(NamedTuple):
    """The frames' records as columns. `requests` follow one another without holes, and so do the frames' events."""

    session: int
    firsts: list[int]
    """Each record's first event."""
    counts: list[int]
    requests: list[int]
    lowests: list[int]
    records: list[bytes]
    payloads: list[bytes]


def batch_of(frames: Sequence[Frame], at: int = 0) -> SessionBatch | None:
    """The longest batch that begins with frame `at` of these; None where that is shorter than BATCH_FRAMES_MIN."""
    epoch, seq, _, _, time, _, body, _ = frames[at]
    if len(body) < RECORD_HEADER_BYTES or at + 1 == len(frames) or frames[at + 1].body[_SESSION] != body[_SESSION]:
        return None
    _, _, session, expected, _, length = unpack_record_head(body)
    if length != len(body) - RECORD_HEADER_BYTES:
        return None
    batch = SessionBatch(session, [], [], [], [], [], [])
    _, firsts, counts, requests, lowests, records, payloads = batch
    for entry_epoch, first, events, _, then, _, body, _ in frames[at:]:
        if len(body) < RECORD_HEADER_BYTES:
            break
        word, count, number, request, lowest, length = unpack_record_head(body)
        if not (
            word == COMMANDS_WORD and 0 < count == events < RUN_MIN
            and count <= length == len(body) - RECORD_HEADER_BYTES
            and number == session and request == expected and first == seq and then == time and entry_epoch == epoch
            and lowest <= request <= SEQ_MAX - count
        ):  # fmt: skip
            break
        firsts.append(first)
        counts.append(count)
        requests.append(request)
        lowests.append(lowest)
        records.append(body)
        payloads.append(body[RECORD_HEADER_BYTES:])
        seq += count
        expected += count
    return batch if len(firsts) >= BATCH_FRAMES_MIN and session <= SEQ_MAX else None
