"""A seeded plan of faults for a cluster of real processes: one or two at a time, every few seconds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

SEQUENCER: Final = "sequencer"
"""As a target: whoever leads when the fault begins."""
KINDS: Final = (
    "kill",  # SIGKILL, started again afterwards
    "wipe",  # the same, with its data directory removed
    "tail-cut",  # the same, with its journal's tail cut off
    "tail-zeros",  # the same, with zeros in the place of its journal's tail
    "stop",  # SIGSTOP, SIGCONT
    "isolate",  # a minority, with it, cut off from the other nodes, not from clients
    "unplug",  # cut off from all
    "deaf",  # hears no other node; they hear it
    "mute",  # hears the others; they don't hear it
    "loss",  # each of its links loses a share of its own
)
DISK_LOSSES: Final = frozenset({"wipe", "tail-cut", "tail-zeros"})
"""Of one disk at a time: what a majority holds no more is lost."""
_LOSS_MAX: Final = 0.4
_OVERLAPPING: Final = 0.25  # share of the faults that a second one comes on top of


class Trouble(NamedTuple):
    """One fault, `wait_s` after the one before began, for `for_s`; `target` is a node's id or SEQUENCER."""

    wait_s: float
    kind: str
    target: str
    for_s: float


def plan_troubles(nodes: Sequence[str], seed: int, *, kinds: Sequence[str] = KINDS) -> Iterator[Trouble]:
    """Faults without end, one after the other; at times a second one comes on top.

    Each node's process is killed in turn, each kind comes as often as any other.
    """
    draw = random.Random(f"troubles {seed}")
    gateways: list[str] = []
    upcoming: list[str] = []
    before_s = 0.0
    while True:
        upcoming = upcoming or draw.sample(kinds, len(kinds))
        kind = upcoming.pop()
        if kind == "kill" or kind in DISK_LOSSES:
            gateways = gateways or draw.sample(nodes, len(nodes))
            target = gateways.pop()
        else:
            target = draw.choice([SEQUENCER, draw.choice(nodes)])
        for_s = draw.uniform(0.3, 3.0)
        yield Trouble(before_s + draw.uniform(0.5, 1.5), kind, target, for_s)
        before_s = for_s
        if draw.random() < _OVERLAPPING and kind not in DISK_LOSSES:
            into_s = draw.uniform(0.0, for_s)
            other = draw.choice([kind for kind in kinds if kind not in DISK_LOSSES] or ["kill"])
            yield Trouble(into_s, other, draw.choice(nodes), draw.uniform(0.3, 2.0))
            before_s = max(for_s - into_s, 0.0)


def links_of(
    kind: str, node: str, nodes: Sequence[str], clients: str, draw: random.Random
) -> dict[tuple[str, str], float]:
    """(from, to) -> share lost, for the kinds that are about links."""
    others = [each for each in nodes if each != node]
    heard = [(other, node) for other in others]
    outgoing = [(node, other) for other in others]
    if kind == "unplug":
        return dict.fromkeys([*heard, *outgoing, (node, clients), (clients, node)], 1.0)
    if kind == "isolate":
        minority = [node, *draw.sample(others, draw.randint(0, max((len(nodes) - 1) // 2 - 1, 0)))]
        pairs = [(inside, outside) for inside in minority for outside in nodes if outside not in minority]
        return dict.fromkeys([*pairs, *((outside, inside) for inside, outside in pairs)], 1.0)
    if kind == "loss":
        return {link: draw.uniform(0.0, _LOSS_MAX) for link in (*heard, *outgoing)}
    return dict.fromkeys({"deaf": heard, "mute": outgoing}.get(kind, []), 1.0)


def fault_at(node: str, losses: Mapping[tuple[str, str], float], clients: str) -> str:
    """What a node's own fault specification can do of these losses: cuts, and the worst of the others for all links."""
    reaching = {source: share for (source, target), share in losses.items() if target == node and source != clients}
    cut = sorted(source for source, share in reaching.items() if share >= 1)
    share = max((share for share in reaching.values() if share < 1), default=0.0)
    parts = [*([f"cut={'+'.join(cut)}"] if cut else []), *([f"loss={share * 100:.1f}%"] if share else [])]
    return ",".join(parts) or "clear"
