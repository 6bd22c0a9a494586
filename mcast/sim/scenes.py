"""More directed scenarios: reads, and who takes over from whom.

As in `directed`, each ends whole with every rule on. Those that belong to a rule break a promise without it; the others
set a bound to how long something may take.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from mcast.sim.invariants import Violation
from mcast.sim.network import Datagram
from mcast.sim.node import SimNode
from mcast.sim.stage import Stage, has_committed_all
from mcast.wire.epochs import Epochs
from mcast.wire.messages import EpochEntry, Kind

DEAF_S: Final = 0.6  # to replace a sequencer that hears nobody: two election timeouts and a vote
REPAIRED_S: Final = 0.3  # to repair what is lost; without an answer to a NAK it is fetched over TCP after a second
TAKEN_OVER_S: Final = 0.1  # to replace one whose death was seen


def deposed_reader(stage: Stage) -> None:
    """A sequencer that was cut off does not know yet that another one leads: what it would answer is old."""
    first = stage.wait_for_bootstrap()
    stage.cut("n1")
    stage.see_death(first, ("n2", "n3"))
    sequencer = stage.wait_for_sequencer(("n2", "n3"))
    stage.number(sequencer, 3)
    stage.wait_until("they commit", partial(has_committed_all, sequencer))
    stage.read(first)
    stage.run(0.05)
    stage.heal()


def deposed_proof(stage: Stage) -> None:
    """A follower hears only a sequencer that was cut off with it: its heartbeats go on, and prove nothing any more."""
    first, follower = stage.wait_for_bootstrap(), stage.node("n5")
    stage.cut("n1", "n5")
    stage.see_death(first, ("n2", "n3", "n4"))
    sequencer = stage.wait_for_sequencer(("n2", "n3", "n4"))
    stage.number(sequencer, 3)
    stage.wait_until("they commit", partial(has_committed_all, sequencer))
    for _ in range(20):
        stage.run(0.005)
        stage.look(follower)
    stage.heal()


def early_reader(stage: Stage) -> None:
    """A new sequencer does not know yet what its predecessor had committed: its own commit is no read index."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.drop(
        lambda source, target, datagram: (
            source == "n1" and (target == "n3" or datagram.kind in (Kind.HEARTBEAT, Kind.COMMIT))
        )
    )
    last = stage.number(first, 1)
    stage.wait_until("n1 has committed it", lambda: first.replica.commit_seq == last)
    first.crash(power=False)
    stage.drop_frames_of("n2")
    stage.wait_until("n2 has been elected", lambda: second.replica.statistics().role == "sequencer-elect")
    stage.read(second)
    stage.run(0.05)
    stage.heal()


def unsynced_tail(stage: Stage) -> None:
    """A member's machine loses power, and what it had acknowledged unsynced: its vote would lose that for all."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.cut("n3")
    for _ in range(10):
        last = stage.number(first, 1)
        stage.wait_until("it has committed", lambda: first.replica.commit_seq == last)  # noqa: B023 - called at once
    second.crash(power=True)
    second.start()
    stage.join()
    stage.cut("n1")
    stage.run(0.6)
    stage.heal()


def passed_on(stage: Stage) -> None:
    """A member passes events on and loses them in a restart, while another one asks who has them.

    Who got them had answered before, and who lost them answers afterwards.
    """
    first, second, asking = stage.wait_for_bootstrap(), stage.node("n2"), stage.node("n3")
    stage.block("n1", "n2")
    for already in range(10):
        last = stage.number(first, 1)
        stage.wait_until("it has committed", lambda: first.replica.commit_seq == last)  # noqa: B023 - called at once
        if already == 5:
            asking.files.write_back()  # its log will be the best of those that are told of
    asking.crash(power=True)
    late: list[Datagram] = []

    def cut_off(source: str, target: str, datagram: Datagram) -> bool:
        if (source, target, datagram.kind) == ("n3", "n1", Kind.SURVEY):
            late.append(datagram)
        return {source, target} == {"n1", "n3"}

    stage.drop(cut_off)
    stage.say("n3 asks, and n1 is late to hear it")
    asking.start()
    stage.run(0.005)
    stage.network.blocked.clear()
    stage.wait_until("n2 has them", lambda: second.book.durable == last)
    first.crash(power=True)
    first.start()
    first.meet(asking)
    asking.meet(first)
    stage.drop(lambda source, target, datagram: (source, target) == ("n1", "n3") and datagram.kind != Kind.STANDING)
    stage.network.unicast(asking.index, first.index, late[-1:])
    stage.run(0.01)
    stage.heal()


def old_disk(stage: Stage) -> None:
    """A lost disk is found again after its member was readmitted: with it, an old configuration has its majority."""
    first, member, away = stage.wait_for_bootstrap(), stage.node("n4"), stage.node("n5")
    stage.cut("n5")
    member.crash(power=False)
    files, chains = member.files.copy(), dict(member.book.chains)
    member.wipe()
    member.start()
    stage.wait_until("n4 votes again", lambda: member.replica.votes and has_committed_all(first))
    stage.drop_frames_of("n1", "n2", "n4", to=("n3",))
    stage.number(first, 2)
    stage.wait_until("they commit without n3 and n5", partial(has_committed_all, first))
    stage.cut("n1", "n2")
    stage.network.blocked -= {(at, away.index) for at in (2, 3)} | {(away.index, at) for at in (2, 3)}
    member.crash(power=False)
    member.wipe()
    stage.say("n4 has its first disk again")
    member.files = files
    member.book.chains = chains
    member.start()
    stage.wait_until("n5 knows no sequencer", lambda: away.replica.sequencer is None)
    stage.read(away)
    stage.run(0.6)
    stage.heal()


def deaf_sequencer(stage: Stage) -> None:
    """A sequencer that can send but not hear is replaced, though everybody hears it."""
    stage.wait_for_bootstrap()
    stage.block("n2", "n1")
    stage.block("n3", "n1")
    others = stage.node("n2"), stage.node("n3")
    stage.wait_until("another one leads", lambda: any(node.replica.is_sequencer for node in others), DEAF_S)
    stage.heal()


def seen_death(stage: Stage) -> None:
    """A sequencer's process dies: its peers see their connections close, and do not wait for silence."""
    first = stage.wait_for_bootstrap()
    first.crash(power=False)
    others = stage.node("n2"), stage.node("n3")
    stage.wait_until("another one leads", lambda: any(node.replica.is_sequencer for node in others), TAKEN_OVER_S)
    stage.heal()


def half_replaced(stage: Stage) -> None:
    """The sequencer dies when it has removed a lost disk, and not yet added the new one."""
    first, member = stage.wait_for_bootstrap(), stage.node("n3")
    number = config_number(first)
    stage.number(first, 3)
    member.crash(power=True)
    member.wipe()
    member.start()
    stage.wait_until("n3 is removed", lambda: config_number(stage.node("n2")) == number + 1)
    first.crash(power=False)
    stage.run(0.1)
    first.start()
    stage.heal()


def spent_budget(stage: Stage) -> None:
    """Little was sent of late, and all of it is lost: half of next to nothing must still pay for its repair."""
    first = stage.wait_for_bootstrap()
    stage.drop(lambda source, _target, datagram: source == "n1" and datagram.kind == Kind.DATA)
    stage.number(first, 3)
    stage.run(0.001)
    stage.network.gate = None
    stage.wait_until("they are repaired", partial(has_committed_all, first), REPAIRED_S)
    stage.heal()


def handed_over(stage: Stage) -> None:
    """The sequencer gives its role away without an election timeout, while commands arrive."""
    first, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.number(first, 5)
    first.hand_over(second)
    stage.wait_until("n2 leads", lambda: second.replica.is_sequencer, TAKEN_OVER_S)
    stage.number(second, 3)
    stage.heal()


def paged_history(stage: Stage) -> None:
    """A member returns after more epochs than it is told at once; pages of the history come twice, and out of order."""
    first, absent = stage.wait_for_bootstrap(), stage.node("n1")
    stage.cut("n1")
    stage.number(first, 20)
    sequencer = stage.wait_for_sequencer(("n2", "n3"))
    for _ in range(40):
        other = stage.node("n3" if sequencer.name == "n2" else "n2")
        sequencer.hand_over(other)
        stage.wait_until("handed over", lambda: other.replica.is_sequencer and has_committed_all(other))  # noqa: B023
        sequencer = other
    stage.join()
    stage.network.tcp_open = False
    stage.wait_until("n1 wants history", lambda: absent.replica.wanted_history is not None)
    pages: list[tuple[EpochEntry, Epochs]] = []
    while (before := absent.replica.wanted_history) is not None:
        page = sequencer.replica.history_page(before, 7)
        if page is None:
            raise Violation(f"{sequencer.name} has not the epoch that its own heartbeats told")
        pages.append((before, page))
        for asked, answer in (pages[0], pages[-1], pages[-1]):
            absent.replica.on_history_page(asked, answer, absent.now)
        absent.end_turn()
    stage.run(0.1)
    stage.heal()


def config_number(node: SimNode) -> int:
    """The number of the newest configuration in a node's log."""
    return node.replica.statistics().config_number
