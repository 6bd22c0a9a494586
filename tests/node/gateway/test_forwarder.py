"""Groups find their way to whoever numbers, and all is sent again when that may have lost some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from mcast.net.tcp import Dialer
from mcast.node.fake import FakeCluster
from mcast.node.gateway.forwarder import RETRY_S, SILENT_LOOKS, SILENT_LOOKS_TOLD, Forwarder
from mcast.node.gateway.gateway import Gateway
from mcast.protocol.effects import EpochChanged, SequencerReady, SteppedDown
from mcast.wire.envelope import name_hash
from mcast.wire.groups import RecordGroup
from mcast.wire.records import RecordKind, encode_record

N1, N2, N3 = (name_hash(f"n{number}") for number in (1, 2, 3))


def group(number: int) -> RecordGroup:
    return (encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes([number]) * 16),)


class Forwarding:
    """A forwarder of n2 and the groups it is to send again."""

    def __init__(self, cluster: FakeCluster) -> None:
        shell = cluster.shells["n2"]
        self.unanswered: list[RecordGroup] = []
        self.resends = 0
        self.forwarder = Forwarder(
            shell,  # type: ignore[arg-type]
            Dialer(cluster.config, "peer", "n2", shell.incarnation),
            self._resend,
            lambda: None,
        )

    def send(self, *groups: RecordGroup) -> None:
        """What a gateway does: keep, then send."""
        self.unanswered += groups
        self.forwarder.send(groups)

    def _resend(self) -> None:
        self.resends += 1
        self.forwarder.send(self.unanswered)


@pytest.fixture
async def forwarding(cluster: FakeCluster, gateways: dict[str, Gateway]) -> AsyncIterator[Forwarding]:
    made = Forwarding(cluster)
    yield made
    await made.forwarder.stop()


async def submitted(cluster: FakeCluster, **expected: int) -> None:
    """Wait until each node was handed this many groups."""
    while any(cluster.shells[node].submitted < count for node, count in expected.items()):
        await asyncio.sleep(0.001)
    assert {node: cluster.shells[node].submitted for node in expected} == expected


def numbers(groups: Sequence[RecordGroup]) -> list[int]:
    return [part[-1] for (part,) in groups]


async def test_a_follower_forwards_over_one_connection(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    forwarding.send(group(1), group(2))
    await submitted(cluster, n1=2)
    forwarding.send(group(3))
    await submitted(cluster, n1=3)
    assert (forwarding.resends, gateways["n1"].statistics().connections) == (1, 1)


async def test_the_sequencer_itself_submits_at_once(cluster: FakeCluster, forwarding: Forwarding) -> None:
    cluster.sequencer = N2
    forwarding.send(group(1))
    assert cluster.shells["n2"].submitted == 1


async def test_without_a_sequencer_groups_wait_for_one(cluster: FakeCluster, forwarding: Forwarding) -> None:
    cluster.sequencer = None
    forwarding.send(group(1))
    cluster.sequencer = N3
    forwarding.forwarder.on_notice(EpochChanged(2, N3))
    await submitted(cluster, n3=1)
    assert cluster.shells["n1"].submitted == 0


async def test_a_new_epoch_of_the_same_sequencer_hears_everything_again(
    cluster: FakeCluster, forwarding: Forwarding
) -> None:
    forwarding.send(group(1))
    await submitted(cluster, n1=1)
    forwarding.forwarder.on_notice(EpochChanged(2, N1))
    await submitted(cluster, n1=2)


async def test_stepping_up_and_down(cluster: FakeCluster, forwarding: Forwarding) -> None:
    forwarding.send(group(1))
    await submitted(cluster, n1=1)
    cluster.sequencer = N2
    forwarding.forwarder.on_notice(EpochChanged(2, N2))
    forwarding.forwarder.on_notice(SequencerReady(2))
    assert cluster.shells["n2"].submitted == 1
    cluster.sequencer = N3
    forwarding.forwarder.on_notice(SteppedDown(2))
    await submitted(cluster, n3=1)


async def test_a_lost_connection_is_opened_again_and_everything_resent(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    forwarding.send(group(1))
    await submitted(cluster, n1=1)
    for connection in list(gateways["n1"]._connections):
        connection.abort()
    await submitted(cluster, n1=2)
    assert forwarding.resends == 2


async def test_a_node_that_is_not_the_sequencer_refuses_and_is_asked_again_less_and_less_often(
    cluster: FakeCluster, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = cluster.shells["n1"]
    asked: list[int] = []

    def refuse(groups: Sequence[RecordGroup], *, elsewhere: bool = False) -> bool:
        asked.append(len(groups))
        return len(asked) > 4

    monkeypatch.setattr(shell, "submit", refuse)
    forwarding.send(group(1), group(2))
    forwarding.send(group(3))
    while len(asked) < 5:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.03)
    assert asked == [3] * 5


async def test_a_sequencer_that_is_down_is_dialled_until_another_rules(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    await gateways["n1"].stop(drain_s=0)
    forwarding.send(group(1))
    await asyncio.sleep(0.03)
    cluster.sequencer = N3
    forwarding.forwarder.on_notice(EpochChanged(2, N3))
    await submitted(cluster, n3=1)


async def test_resending_keeps_the_order(
    cluster: FakeCluster, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def note(groups: Sequence[RecordGroup], *, elsewhere: bool = False) -> bool:
        seen.extend(numbers(groups))
        return True

    monkeypatch.setattr(cluster.shells["n1"], "submit", note)
    for number in range(1, 6):
        forwarding.send(group(number))
    while len(seen) < 5:
        await asyncio.sleep(0.001)
    assert seen == [1, 2, 3, 4, 5]


async def test_a_stopped_forwarder_sends_nothing(cluster: FakeCluster, forwarding: Forwarding) -> None:
    await forwarding.forwarder.stop()
    forwarding.send(group(1))
    forwarding.forwarder.on_notice(EpochChanged(2, N1))
    await asyncio.sleep(0.01)
    assert cluster.shells["n1"].submitted == 0


async def seen_dead(cluster: FakeCluster) -> list[int]:
    while not cluster.shells["n2"].deaths:
        await asyncio.sleep(0.001)
    return cluster.shells["n2"].deaths


async def linked(cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]) -> None:
    """n2 follows n1 and keeps a connection to it, though it has nothing to forward."""
    forwarding.forwarder.on_notice(EpochChanged(1, N1))
    while not gateways["n1"].statistics().connections:
        await asyncio.sleep(0.001)
    await asyncio.sleep(RETRY_S[1])


async def test_a_closed_connection_and_a_refused_one_tell_of_death(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    await linked(cluster, forwarding, gateways)
    await gateways["n1"].stop(drain_s=0)
    assert await seen_dead(cluster) == [N1]
    await asyncio.sleep(0.05)
    assert cluster.shells["n2"].deaths == [N1], "once an epoch"


async def test_nobody_listening_when_the_epoch_becomes_known_tells_of_death(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    await gateways["n1"].stop(drain_s=0)
    forwarding.forwarder.on_notice(EpochChanged(1, N1))
    assert await seen_dead(cluster) == [N1]


async def test_the_same_incarnation_on_a_new_connection_is_alive(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    await linked(cluster, forwarding, gateways)
    (before,) = gateways["n1"]._connections
    before.abort()
    while gateways["n1"]._connections in (set(), {before}):
        await asyncio.sleep(0.001)
    forwarding.send(group(1))
    await submitted(cluster, n1=1)
    assert cluster.shells["n2"].deaths == []


async def test_another_incarnation_on_a_new_connection_tells_of_death(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    cluster.shells["n2"].heard[N1] = b"the one before--"
    forwarding.forwarder.on_notice(EpochChanged(1, N1))
    assert await seen_dead(cluster) == [N1]


async def test_a_connection_over_which_nothing_comes_back_is_given_up_said_and_dialled_anew(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    await linked(cluster, forwarding, gateways)
    forwarder = forwarding.forwarder
    for _ in range(2 * SILENT_LOOKS):  # it answers, though it has nothing to say
        assert forwarder.look() is None
        await asyncio.sleep(0.02)
    (before,) = gateways["n1"]._connections
    before.pause(True)
    for look in range(SILENT_LOOKS):
        reported = forwarder.look()
        assert reported is None if look < SILENT_LOOKS_TOLD else str(reported).endswith(f"no answer for {look} s")
    assert str(forwarder.look()).endswith(f"no answer for {SILENT_LOOKS} s")
    async with asyncio.timeout(5):
        while gateways["n1"]._connections in (set(), {before}) or forwarder.linked_node is None:
            await asyncio.sleep(0.001)
    assert forwarder.look() is None, "all is well again"
    forwarding.send(group(1))
    await submitted(cluster, n1=1)
    assert cluster.shells["n2"].deaths == [], "silence proves no death"


async def test_a_sequencer_that_does_not_take_the_connection_is_named_soon(
    cluster: FakeCluster, forwarding: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def blocked(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(Dialer, "open", blocked)
    forwarding.forwarder.on_notice(EpochChanged(1, N1))
    assert [forwarding.forwarder.look() for _ in range(SILENT_LOOKS_TOLD - 1)] == [None]
    assert str(forwarding.forwarder.look()).startswith("n1 at 127.0.0.1")
    forwarding.forwarder.on_notice(EpochChanged(2, None))
    assert forwarding.forwarder.look() is None


async def test_why_a_sequencer_cannot_be_reached_is_said_until_another_rules(
    cluster: FakeCluster, forwarding: Forwarding, gateways: dict[str, Gateway]
) -> None:
    await gateways["n1"].stop(drain_s=0)
    forwarding.forwarder.on_notice(EpochChanged(1, N1))
    while (reported := forwarding.forwarder.look()) is None or "no answer" in reported:
        await asyncio.sleep(0.001)
    assert reported.startswith("n1 at 127.0.0.1") and reported.endswith("connection refused (is it running?)")
    cluster.sequencer = N3
    forwarding.forwarder.on_notice(EpochChanged(2, N3))
    assert forwarding.forwarder.look() is None
