"""Histories longer than a heartbeat's: pages from the newest to the oldest, each proven by what follows it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from mcast.limits import HEARTBEAT_HISTORY, HISTORY_PAGE_ENTRIES
from mcast.protocol.effects import Append, Effect, FetchEpochs, Meta
from mcast.protocol.log import Log
from mcast.protocol.logtime import LogTime
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica
from mcast.protocol.sequencing import Sequencing, epochs_with_own
from mcast.wire.epochs import Epochs
from mcast.wire.frame import Frame
from mcast.wire.messages import Ack, EpochEntry, Heartbeat

from .bench import (
    CONFIG,
    KEY,
    STORAGE,
    UUID,
    arrival,
    command_frame,
    drain,
    epoch_log,
    epoch_start,
    frame_arrival,
    genesis,
    of,
    recovered,
    replica,
    settings,
)  # fmt: skip

FRAMES = epoch_log([(epoch, "n1", 1) for epoch in range(1, 41)])


def beat(history: Sequence[EpochEntry], epoch: int, high: int, **how: Any) -> Heartbeat:
    fields: dict[str, Any] = {
        "epoch": epoch, "cluster_uuid": UUID, "high": high, "high_chain": bytes(16), "commit": 0,
        "commit_chain": bytes(16), "round": 1, "confirmed": 0, "stream_base": 0, "stream_sent": 0,
        "history": tuple(history), "peers": (),
    } | how  # fmt: skip
    return Heartbeat(**fields)


def hear(node: Replica, law: Epochs, now: float = 0.01, sender: str = "n1", **how: Any) -> list[Effect]:
    """A heartbeat of whoever's log has the epochs `law`."""
    message = beat(law.newest(HEARTBEAT_HISTORY), law.last_epoch, law[-1].first + 1, **how)
    node.receive([arrival(sender, message, promised=law.last_epoch)], now)
    return drain(node, now)


def give(node: Replica, law: Epochs, most: int = 10, now: float = 0.02) -> bool:
    """The page that the node wants; False when it wants none."""
    before = node.wanted_history
    if before is None:
        return False
    page = law.page_before(before, most)
    assert page is not None
    node.on_history_page(before, page, now)
    return True


def epochs_of(frames: Sequence[Frame]) -> Epochs:
    return Log(recovered(frames=frames)).epochs


def follower(frames: Sequence[Frame], promised: int) -> Replica:
    return replica("n2", frames, promised)


def test_nothing_is_judged_or_acknowledged_before_the_history_reaches_the_logs_end() -> None:
    law = epochs_of(FRAMES)
    node = follower(FRAMES[:7], 40)
    effects = hear(node, law)
    assert of(FetchEpochs, effects) and not of(Ack, effects)
    assert node.wanted_history == law[-HEARTBEAT_HISTORY]
    node.receive([frame_arrival("n1", FRAMES[7], kind=2, promised=40)], 0.02)
    assert node.last_seq == FRAMES[6].last and not of(Append, drain(node, 0.02))
    assert node.high_seq == law[-1].first + 1, "what it lacks shows all the same"
    give(node, law, most=40)
    node.receive([frame_arrival("n1", FRAMES[7], kind=2, promised=40)], 0.03)
    assert node.last_seq == FRAMES[7].last
    assert of(Ack, hear(node, law, 0.04, round=2))


def test_pages_go_back_only_as_far_as_the_logs_part() -> None:
    law = epochs_of(FRAMES)
    node, taken = follower(FRAMES[:43], 40), 0
    hear(node, law)
    while give(node, law, most=5):
        taken += 1
    assert taken == 3, "eight came with the heartbeat, and it is some twenty epochs behind"
    assert node._core.reconciled


def test_an_empty_log_needs_all_of_it() -> None:
    law = epochs_of(FRAMES)
    node = follower([], 40)
    hear(node, law)
    while give(node, law, most=10):
        assert of(Ack, node.take_effects()) == [] or node._core.reconciled
    assert node._core.reconciled
    assert node._following.history is not None and node._following.history.epochs == law


def test_a_page_that_answers_another_question_changes_nothing() -> None:
    law = epochs_of(FRAMES)
    node = follower([], 40)
    hear(node, law)
    before = node.wanted_history
    assert before is not None
    page = law.page_before(before, 10)
    older = law.page_before(law[10], 10)
    assert page is not None and older is not None
    node.on_history_page(law[10], older, 0.02)
    assert node.wanted_history == before
    node.on_history_page(before, page, 0.02)
    wanted = node.wanted_history
    node.on_history_page(before, page, 0.03)
    assert node.wanted_history == wanted == page[0], "the same one again"
    while give(node, law):
        pass
    assert node._following.history is not None and node._following.history.epochs == law


def test_a_page_must_lie_before_what_it_precedes() -> None:
    law = epochs_of(FRAMES)
    node = follower([], 40)
    hear(node, law)
    before = node.wanted_history
    assert before is not None
    node.on_history_page(before, law.part(30, 41), 0.02)
    node.on_history_page(before, Epochs(), 0.02)
    assert node.wanted_history == before


def test_what_was_fetched_in_one_epoch_serves_the_next() -> None:
    """A link that flaps faster than a history is fetched must not make it begin anew each time."""
    frames = list(FRAMES)
    node, epoch = follower([], 40), 40
    law = epochs_of(frames)
    hear(node, law)
    pages = 0
    while give(node, law, most=5, now=0.02 + pages):
        pages += 1
        if node.wanted_history is not None:
            epoch += 1
            frames.append(epoch_start(epoch, "n3", frames[-1]))
            law = epochs_of(frames)
            hear(node, law, 0.03 + pages, "n3" if epoch % 2 else "n1")
    assert pages <= 8, "each page brought it on, and none came twice"
    assert node._following.history is not None and node._following.history.epochs == law


def test_so_it_does_when_more_epochs_have_passed_than_a_heartbeat_tells() -> None:
    frames = list(FRAMES)
    node = follower([], 40)
    hear(node, epochs_of(frames))
    assert give(node, epochs_of(frames), most=20)
    known = node.wanted_history
    for epoch in range(41, 71):
        frames.append(epoch_start(epoch, "n3", frames[-1]))
    law = epochs_of(frames)
    hear(node, law, 0.5, "n3")
    assert node.wanted_history == law[-HEARTBEAT_HISTORY]
    while node.wanted_history != known:
        assert give(node, law, most=6, now=0.6)
        assert node.wanted_history is not None and node.wanted_history.first >= known.first  # type: ignore[union-attr]
    while give(node, law, most=6, now=0.7):
        pass
    assert node._following.history is not None and node._following.history.epochs == law


def test_of_an_epoch_that_nobody_kept_nothing_is_carried_over() -> None:
    dead = [*FRAMES, epoch_start(41, "n1", FRAMES[-1])]
    alive = [*FRAMES[:-1], epoch_start(42, "n3", FRAMES[-2])]
    node = follower([], 41)
    hear(node, epochs_of(dead))
    give(node, epochs_of(dead), most=20)
    law = epochs_of(alive)
    hear(node, law, 0.5, "n3")
    while give(node, law, most=6, now=0.6):
        pass
    assert node._following.history is not None and node._following.history.epochs == law


def test_random_logs_and_pages_come_to_what_a_whole_history_says() -> None:
    rng = random.Random(7)
    for _ in range(150):
        trunk = epoch_log([(epoch, "n1", 1) for epoch in range(1, rng.randint(2, 20))])
        own, theirs, epoch = list(trunk), list(trunk), trunk[-1].epoch
        for _ in range(rng.randint(0, 3)):
            epoch += 1
            own.append(epoch_start(epoch, "n2", own[-1]))
        for _ in range(rng.randint(1, 25)):
            epoch += 1
            theirs.append(epoch_start(epoch, "n1", theirs[-1]))
        own = own[: rng.randint(0, len(own))]
        equal = next((at for at, pair in enumerate(zip(own, theirs, strict=False)) if pair[0] != pair[1]), len(own))
        node, law = follower(own, epoch), epochs_of(theirs)
        hear(node, law)
        while give(node, law, most=rng.randint(1, 9)):
            pass
        drain(node, 0.05)
        assert node.last_seq == (own[equal - 1].last if equal else 0)


def test_a_fetch_that_failed_is_asked_for_again_and_said() -> None:
    law = epochs_of(FRAMES)
    node = follower([], 40)
    assert of(FetchEpochs, hear(node, law))
    assert not of(FetchEpochs, hear(node, law, 0.03, round=2)), "one is under way"
    node.on_history_failed(0.04)
    assert node.statistics().histories_failed == 1
    assert of(FetchEpochs, hear(node, law, 0.10, round=3))
    assert of(FetchEpochs, hear(node, law, 1.20, round=4)), "it may have got lost"
    give(node, law, now=1.21)
    assert node.statistics().histories_failed == 0 and node.statistics().history_wanted is not None


def test_those_that_have_it_are_asked() -> None:
    from mcast.wire.messages import PeerState

    law = epochs_of(FRAMES)
    node = follower([], 40)
    peers = (PeerState(KEY["n3"], 3, 0), PeerState(99, law[-1].first, 0))
    (fetch,) = of(FetchEpochs, hear(node, law, peers=peers))
    assert set(fetch.peers) == {KEY["n1"], 99}


def test_a_heartbeat_whose_history_is_none_is_not_believed() -> None:
    law = epochs_of(FRAMES)
    node = follower([], 40)
    for history in ((), tuple(reversed(law.newest(3))), (EpochEntry(40, 0, bytes(16)),)):
        node.receive([arrival("n1", beat(history, 40, 99), promised=40)], 0.01)
        assert node.sequencer is None
    assert node.statistics().counts["heartbeat without a history"] == 3


# Long ones

EPOCHS = 70_000


def long_history(count: int = EPOCHS) -> Epochs:
    epochs = Epochs([EpochEntry(0, 1, bytes(16))])
    for epoch in range(1, count):
        epochs.add(epoch, 1 + epoch, epoch.to_bytes(16, "big"))
    return epochs


def held(node: str, history: Epochs, last: int) -> Replica:
    """A replica whose journal ends at event `last`, behind some of these epochs."""
    own = history.part(0, last)
    meta = Meta(STORAGE[node], promised=history.last_epoch)
    memory = Recovered(meta, last, history[last].chain_before, own, genesis=genesis())
    return Replica(settings(node), memory, random.Random(1), 0.0)


def test_tens_of_thousands_of_epochs_strand_nobody() -> None:
    law = long_history()
    for node, pages in (
        (held("n2", law, EPOCHS - 100), 1),
        (held("n2", law, 30_000), 5),
        (follower([], law.last_epoch), 9),
    ):
        hear(node, law)
        given = 0
        while give(node, law, HISTORY_PAGE_ENTRIES):
            given += 1
        assert given == pages and node._core.reconciled


def test_no_heartbeat_election_or_page_walks_the_history() -> None:
    law = long_history(1_000_000)
    sequencer, node = held("n1", law, 999_000), held("n2", law, 990_000)
    core = sequencer._core
    core._adopt_config(genesis(), CONFIG)
    before = time.process_time()
    for _ in range(50):
        epoch = Sequencing(core, LogTime(core), epochs_with_own(core), lambda *_: None, 0.01)
        history = epoch.begin(0.01)
        core.log.truncate(999_000)
        sequencer.take_effects()
    assert history.epochs is core.log.epochs
    for at in range(200):
        hear(node, law, 0.02 + at / 1e3, round=at + 1)
    spent = time.process_time() - before
    assert spent < 0.5, f"{spent:.2f} s: a copy of a million entries for each would take many seconds"


def test_a_restart_keeps_few_configurations_of_many_epochs() -> None:
    frames = [genesis()]
    for epoch in range(1, 400):
        frames.append(epoch_start(epoch, "n1", frames[-1], commit=frames[-1].last))
    frames.append(command_frame(frames[-1], commit=frames[-1].last))
    assert len(follower(frames, 399)._core.configs._entries) <= 3
