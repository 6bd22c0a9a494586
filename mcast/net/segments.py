"""How a burst of datagrams becomes as few GSO sends as possible.

UDP_SEGMENT cuts one large send into datagrams of one size, the last of which may be shorter. Frames of a busy stream
differ by a few bytes, so the shorter ones in the middle are zero-padded up to the longest: decoders know a frame's
length and never look past it. Control messages are not padded: theirs end with the datagram.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mcast.limits import GSO_BYTES_MAX, GSO_SEGMENTS_MAX

_ZEROS: Final = bytes(GSO_BYTES_MAX)
PADDING_SHARE_MAX: Final = 4  # pad by at most 1/4 of the longest: beyond, another system call is cheaper than zeros


def gso_runs(datagrams: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Split a burst into (segment size, datagrams) runs in which only the last datagram is shorter than the segment.

    Order is kept. The first datagrams of a run may come out longer than they went in: padded with zeros.
    """
    at, total = 0, len(datagrams)
    sizes = set(map(len, datagrams))
    if len(sizes) == 1:  # as large commands' frames are
        (segment,) = sizes
        most = max(min(GSO_SEGMENTS_MAX, GSO_BYTES_MAX // max(segment, 1)), 1)
        for at in range(0, total, most):
            yield segment, datagrams[at : at + most]
        return
    while at < total:
        end, segment = _run(datagrams, at)
        run = datagrams[at:end]
        if any(len(datagram) != segment for datagram in run[:-1]):
            run = [datagram + _ZEROS[: segment - len(datagram)] for datagram in run[:-1]] + [run[-1]]
        yield segment, run
        at = end


def _run(datagrams: Sequence[bytes], at: int) -> tuple[int, int]:
    """Where the run that begins at `at` ends, and its segment size."""
    longest = shortest = len(datagrams[at])
    end = at + 1
    for end in range(at + 1, min(len(datagrams), at + GSO_SEGMENTS_MAX)):
        size = len(datagrams[end])
        segment = max(longest, size)
        # `shortest` counts all but the datagram being added: the last one of a run needs no padding
        if segment * (end - at + 1) > GSO_BYTES_MAX or segment - shortest > segment // PADDING_SHARE_MAX:
            return end, longest
        longest, shortest = segment, min(shortest, size)
    else:
        end = min(len(datagrams), at + GSO_SEGMENTS_MAX)
    return end, longest
