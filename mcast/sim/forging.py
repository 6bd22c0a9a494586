"""Directed scenarios of forged promises."""

from __future__ import annotations

from functools import partial
from typing import Final

from mcast.limits import EPOCH_JUMP_S
from mcast.sim.forger import forge
from mcast.sim.stage import Stage, has_committed_all

FORGED_STEPS: Final = 20  # that others are pushed up while one is away
REJOINED_S: Final = FORGED_STEPS * EPOCH_JUMP_S + 1.0  # it takes no longer than the forger did, and a moment


def far_promise(stage: Stage) -> None:
    """One forged datagram promises the last epoch to everybody: it must not be the last."""
    first = stage.founded()
    stage.number(first, 3)
    stage.until("they commit", partial(has_committed_all, first))
    for node in stage.nodes:
        forge(node)
    stage.run(0.05)
    ruler = stage.ruled([node.name for node in stage.nodes])
    stage.number(ruler, 3)
    stage.until("they commit", partial(has_committed_all, ruler))
    stage.whole()


def pushed_up(stage: Stage) -> None:
    """While a member is away a forger pushes the others up and up: it comes after them."""
    stage.founded()
    stage.cut("n3")
    away, others = stage.node("n3"), stage.nodes[:2]
    for _ in range(FORGED_STEPS):
        for node in others:
            forge(node)
        stage.run(EPOCH_JUMP_S)
    ruler = stage.ruled(("n1", "n2"))
    stage.number(ruler, 3)
    stage.until("they commit", partial(has_committed_all, ruler))
    stage.join()
    stage.until("n3 follows them", lambda: away.replica.promised == ruler.replica.promised, REJOINED_S)
    stage.whole()
