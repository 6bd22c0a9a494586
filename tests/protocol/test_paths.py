"""What a path carries is found by probes, from a first doubt to the size that works, and until it is wide again."""

from __future__ import annotations

import random
from collections.abc import Callable

from mcast.protocol.effects import Relay, Send
from mcast.protocol.paths import AGAIN_S, CLOSE_BYTES, OVERHEAD, PROBES, Paths
from mcast.wire.messages import PathProbe, PathRequest

from .bench import KEY, core, envelope


def asker() -> Paths:
    paths = Paths(core("n2"))
    paths._core.sequencer = KEY["n1"]
    return paths


def search(paths: Paths, passes: Callable[[int], bool], now: float = 1.0, stuck: int = 1) -> float:
    """Let a question run, against a sequencer whose datagrams of some sizes arrive; when it ended."""
    answers = Paths(core("n1"))
    paths.tick(stuck, now)
    while True:
        effects, paths._core.effects = paths._core.effects, []
        if not effects:
            return now
        (asked,) = (effect.message for effect in effects if isinstance(effect, Relay))
        assert isinstance(asked, PathRequest)
        answers.on_path_request(envelope("n2", asked), asked, now)
        probes, answers._core.effects = answers._core.effects, []
        assert len(probes) == PROBES
        for effect in probes:
            assert isinstance(effect, Send) and isinstance(effect.message, PathProbe)
            if passes(OVERHEAD + len(effect.message.padding)):
                paths.on_path_probe(envelope("n1", effect.message), effect.message)
        now = paths.deadline()
        paths.tick(stuck, now)


def test_a_path_that_carries_everything_is_no_finding() -> None:
    paths = asker()
    search(paths, lambda size: True)
    assert (paths.carried, paths.deadline()) == (None, float("inf"))


def test_loss_is_not_taken_for_a_narrow_path() -> None:
    draw = random.Random(5)
    paths = asker()
    search(paths, lambda size: draw.random() < 0.5)
    assert paths.carried is None


def test_the_size_that_works_is_found_and_looked_at_again_until_all_do() -> None:
    for carries in (600, 777, 900, 1_000):
        paths = asker()
        ended = search(paths, lambda size, carries=carries: size <= carries)  # type: ignore[misc]
        assert paths.carried is not None and carries - 4 * CLOSE_BYTES <= paths.carried <= carries
        assert paths.deadline() >= ended + AGAIN_S - 1
        search(paths, lambda size: True, paths.deadline())
        assert paths.carried is None


def test_where_nothing_arrives_that_is_told() -> None:
    paths = asker()
    search(paths, lambda size: False)
    assert paths.carried == 0


def test_another_sequencers_path_is_another() -> None:
    paths = asker()
    search(paths, lambda size: False)
    paths._core.sequencer = KEY["n3"]
    paths.tick(1, 9.0)
    assert (paths.carried, paths.deadline()) == (None, float("inf"))


def test_what_was_not_asked_for_is_no_probe() -> None:
    paths = asker()
    paths.tick(1, 1.0)
    paths.on_path_probe(envelope("n3", PathProbe(paths._nonce, b"")), PathProbe(paths._nonce, b""))
    paths.on_path_probe(envelope("n1", PathProbe(paths._nonce + 1, b"")), PathProbe(paths._nonce + 1, b""))
    assert paths._arrived == 0


def test_probes_are_sent_seldom_and_never_larger_than_a_full_datagram() -> None:
    paths = Paths(core("n1"))
    for nonce in range(5):
        request = PathRequest(nonce, 0, 2**32 - 1)
        paths.on_path_request(envelope("n2", request), request, 1.0)
    sizes = [
        OVERHEAD + len(effect.message.padding)
        for effect in paths._core.effects
        if isinstance(effect, Send) and isinstance(effect.message, PathProbe)
    ]
    assert len(sizes) == PROBES and min(sizes) >= OVERHEAD and max(sizes) == paths.largest
