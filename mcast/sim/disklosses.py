"""Directed scenarios of disks: what a node must find at a start that its disk lost, and a start before it may not undo.

As in `directed`, each ends whole with every rule on.
"""

from __future__ import annotations

from functools import partial

from mcast.sim.damage import bring_back, bring_back_disk, lose_tail
from mcast.sim.node import SimNode
from mcast.sim.stage import Stage, has_committed_all
from mcast.storage.meta import META_NAME
from mcast.storage.watermark import WATERMARK_NAME
from mcast.wire.messages import FRAME_KINDS, Kind


def lost_tail(stage: Stage) -> None:
    """Two of three acknowledge and die; of one the journal's tail is lost, and it comes back with the third."""
    _acknowledged_by_two(stage)
    second = stage.node("n2")
    lose_tail(second, 0.4, zeroed=True)
    _back_without_the_first(stage, second)


def doubt_mended_away(stage: Stage) -> None:
    """The watermark is lost with the tail; the start that makes it anew is killed before it has said who it is."""
    _acknowledged_by_two(stage)
    second = stage.node("n2")
    lose_tail(second, 0.4, zeroed=False)
    path = next(path for path in second.files.paths() if path.endswith(WATERMARK_NAME))
    second.files.lose_tail(path, 0, zeroed=False)
    stage.say("n2 starts, and dies when the new watermark is there")
    second.files.stop_at("rename", after=2 if second.settings.rules.doubt_before_mending else 1)
    _back_without_the_first(stage, second)


def cut_before_lowered(stage: Stage) -> None:
    """A node dies when it has cut the tail of an epoch that is over, and before it could do anything else."""
    first, victim = stage.wait_for_bootstrap(), stage.node("n5")
    stage.drop_frames_of("n1", to=("n2", "n3", "n4"))
    stage.number(first, 12)
    stage.wait_until("n5 has them on disk", lambda: victim.book.durable == first.replica.last_seq)
    stage.cut("n1", "n5")
    stage.network.gate = None
    stage.wait_for_sequencer(("n2", "n3", "n4"))
    stage.join()
    stage.drop_frames_of("n2", "n3", "n4", to=("n5",))
    victim.files.stop_at("allocate")
    stage.wait_until("n5 has died in its cut", lambda: not victim.up)
    victim.start()
    stage.heal()


def older_meta(stage: Stage) -> None:
    """A node's meta and watermark are of an older moment: it must not lead, or vote, in an epoch that it was in."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    older = _files(second, META_NAME, WATERMARK_NAME)
    stage.say("n1 dies, and another epoch begins")
    first.crash(power=False)
    sequencer = stage.wait_for_sequencer(("n2", "n3"))
    stage.wait_until("n2 has its first event on disk", lambda: second.book.durable == sequencer.replica.last_seq)
    stage.say("n2 dies, and comes back with n1 and an older meta")
    second.crash(power=False)
    bring_back(second, older)
    stage.cut("n3")
    first.start()
    second.start()
    stage.run(5.0)
    stage.heal()


def older_vote(stage: Stage) -> None:
    """A node comes back with the meta from before its last vote, and nothing of that epoch ever came to its log."""
    first, second, third = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    older = _files(second, META_NAME)
    stage.cut("n1")
    stage.drop(
        lambda source, _target, datagram: (
            (source == "n2" and datagram.kind in (Kind.PRE_VOTE_REQUEST, Kind.VOTE_REQUEST))
            or (source == "n3" and datagram.kind in FRAME_KINDS)
        )
    )
    stage.see_death(first, ("n2", "n3"))
    stage.wait_until("n3 has been elected", lambda: third.replica.statistics().role == "sequencer-elect")
    stage.say("n2, which voted for n3, comes back with an older meta, and hears n1 only")
    second.crash(power=False)
    bring_back(second, older)
    stage.join()
    stage.cut("n3")
    stage.run(0.5)
    second.start()
    stage.run(5.0)
    stage.heal()


def _files(node: SimNode, *names: str) -> dict[str, bytes]:
    """A node's files of these names, as they are now."""
    return {path: node.files.contents(path) for path in node.files.paths() if path.endswith(names)}


def older_disk(stage: Stage) -> None:
    """A node that acknowledged comes back with its disk of an older moment; who acknowledged, too, is there."""
    stage.wait_for_bootstrap()
    second = stage.node("n2")
    stage.run(1.0)
    older = {path: second.files.contents(path) for path in second.files.paths()}
    _acknowledged_by_two(stage, dies=False)
    stage.run(3.0)
    bring_back_disk(second, older)
    stage.join()
    second.start()
    stage.run(5.0)
    stage.heal()


def told_and_forgotten(stage: Stage) -> None:
    """A node comes back with its disk of an older moment, and who knows tells it; that one dies, and it starts anew."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.run(1.0)
    older = {path: second.files.contents(path) for path in second.files.paths()}
    _acknowledged_by_two(stage, dies=False)
    bring_back_disk(second, older)
    second.start()
    stage.run(0.000_1 + 6 * stage.network.weather.delay_s)  # they prove to each other who they are, and n1 answers
    stage.say("n1 has told it; n1 dies, and n2 starts anew, and hears n3 only")
    first.crash(power=False)
    stage.run(0.01)
    second.crash(power=False)
    stage.join()
    second.start()
    stage.run(5.0)
    stage.say("n1, which has it all, is back, too")
    first.start()
    stage.heal()


def _acknowledged_by_two(stage: Stage, *, dies: bool = True) -> None:
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.cut("n3")
    for _ in range(10):
        stage.number(first, 1)
        stage.wait_until("it has committed", partial(has_committed_all, first))
    stage.wait_until("n2 has all on disk", lambda: second.book.durable == first.replica.last_seq)
    second.crash(power=False)
    if dies:
        first.crash(power=False)


def _back_without_the_first(stage: Stage, second: SimNode) -> None:
    stage.join()
    second.start()
    stage.wait_until("n2 is back", lambda: second.up)
    stage.run(1.0)
    stage.say("n1, which has it all, is back, too")
    stage.node("n1").start()
    stage.heal()
