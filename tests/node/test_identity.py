"""Who a node still is after its disk, its machine or its role was lost: real nodes over an in-memory network."""

import asyncio
from dataclasses import replace

import pytest

from mcast.client.client import connect
from mcast.errors import EnvironmentProblem, Refused
from mcast.machine.kv import KeyValue
from mcast.net.ports import free_ports
from mcast.node.node import Node
from mcast.testing.cluster import Cluster, cluster
from mcast.wire.envelope import name_hash


async def sequencer_of(c: Cluster) -> str:
    while (sequencer := c.sequencer) is None:
        await asyncio.sleep(0.005)
    return sequencer


@pytest.mark.parametrize("which", ["a follower", "the sequencer"])
async def test_a_member_without_its_disk_is_readmitted_and_votes_again(which: str) -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        sequencer = await sequencer_of(c)
        lost = sequencer if which == "the sequencer" else next(node for node in c.nodes if node != sequencer)
        before = c.node(lost).shell.store.meta.storage_id
        await c.kill(lost)
        c.lose_disk(lost)
        await c.submit("set", "k", 2)
        await c.restart(lost)
        assert c.node(lost).status()["votes"] is False
        await c.voting(lost)
        await c.converged()
        assert c.node(lost).shell.store.meta.storage_id != before
        assert await c.ask(lost, "get", "k") == 2
        assert {c.node(node).shell.replica.statistics().config_number for node in c.nodes} == {3}
        other = next(node for node in c.nodes if node not in (lost, c.sequencer))
        await c.kill(other)  # from here on the readmitted one's vote is needed
        assert (await c.submit("set", "k", 3)).value is None


async def test_a_founder_without_its_disk_founds_no_second_cluster() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        uuid = c.node("n2").shell.replica.cluster_uuid
        await c.kill("n1")
        c.lose_disk("n1")
        await c.restart("n1")
        await c.voting("n1")
        await c.converged()
        assert {c.node(node).shell.replica.cluster_uuid for node in c.nodes} == {uuid}
        assert await c.ask("n1", "get", "k") == 1


async def test_a_founder_without_its_disk_waits_while_nobody_answers() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        for node in ("n1", "n2", "n3"):
            await c.kill(node)
        c.lose_disk("n1")
        await c.restart("n1")
        await asyncio.sleep(0.3)
        assert (c.node("n1").shell.replica.last_seq, c.node("n1").status()["state"]) == (0, "starting")
        assert c.node("n1").status()["waits_for"] == ["n2", "n3"]
        for node in ("n2", "n3"):
            await c.restart(node)
        await c.voting("n1")
        await c.converged()
        assert await c.ask("n1", "get", "k") == 1


async def test_the_last_member_left_is_never_removed() -> None:
    async with cluster(KeyValue, nodes=2) as c:
        await c.submit("set", "k", 1)
        await c.kill("n2")
        c.lose_disk("n2")
        await c.restart("n2")  # before n1 has missed it for an election timeout: so n1 can still remove it
        await c.voting("n2")
        await c.converged()
        assert all(c.node(node).shell.replica.statistics().votes for node in c.nodes)
        assert await c.ask("n2", "get", "k") == 1


async def test_a_suspect_says_so_and_is_trusted_once_its_log_is_proven_whole() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        sequencer = await sequencer_of(c)
        suspect, other = (node for node in c.nodes if node != sequencer)
        await c.kill(suspect)
        c.lose_power(suspect)
        c.part(suspect)
        await c.restart(suspect)
        shell = c.node(suspect).shell
        status = shell.status()
        assert (status["state"], shell.store.is_suspect) == ("catching-up", True)
        assert "may be missing" in status["reason"]
        await c.submit("set", "k", 2)
        c.heal()
        while shell.store.is_suspect:
            await asyncio.sleep(0.005)
        await c.converged()
        assert "reason" not in shell.status()
        assert shell.status()["state"] == "live"
        await c.kill(other)
        await c.submit("set", "k", 3)
        await c.converged()
        assert await c.ask(suspect, "get", "k") == 3


async def test_when_all_lost_their_power_the_best_log_is_trusted() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        await c.converged()
        for node in c.nodes:
            await c.kill(node)
            c.lose_power(node)
        for node in ("n1", "n2", "n3"):
            await c.restart(node)
        await c.submit("set", "k", 2)
        await c.converged()
        assert not any(c.node(node).shell.store.is_suspect for node in c.nodes)


async def test_a_suspect_says_whom_it_waits_for_and_how_to_help_where_a_member_is_gone_for_good() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        await c.converged()
        for node in c.nodes:
            await c.kill(node)
        c.lose_power("n1")
        for node in ("n1", "n2"):
            await c.restart(node)
        while (status := c.node("n1").status()).get("waits_for") != ["n3"]:
            await asyncio.sleep(0.01)
        assert "n3 did not say where its log ends: start it; if it is gone for good, start it anew" in status["reason"]
        assert c.node("n1").shell.store.is_suspect
        c.lose_disk("n3")
        await c.restart("n3")
        await c.submit("set", "k", 2)
        await c.converged()
        assert "waits_for" not in c.node("n1").status()
        assert not c.node("n1").shell.store.is_suspect


async def test_handover_moves_the_role_and_keeps_every_command() -> None:
    async with cluster(KeyValue) as c:
        sequencer = await sequencer_of(c)
        to = next(node for node in c.nodes if node != sequencer)
        running = asyncio.create_task(c.submit_many([("incr", "n")] * 200))
        epoch = c.node(sequencer).shell.replica.promised
        moved = await connect(c.config).handover(to)
        assert (moved["from"], moved["to"], c.sequencer) == (sequencer, to, to)
        assert moved["epoch"] == epoch + 1
        assert (await running).ok == 200
        await c.converged()
        assert await c.ask(sequencer, "get", "n") == 200
        assert (await connect(c.config).handover(to))["from"] == to


async def test_handover_says_what_stands_in_the_way() -> None:
    async with cluster(KeyValue) as c:
        sequencer = await sequencer_of(c)
        gone, other = (node for node in c.nodes if node != sequencer)
        await c.kill(gone)
        with pytest.raises(Refused, match="keeps its role"):
            await connect(c.config).handover(gone)
        assert (await c.submit("set", "k", 1)).outcome == "ok"
        assert c.sequencer == sequencer
        refusal = c.node(sequencer).shell.hand_over(name_hash(sequencer))
        assert refusal == "the successor must be another member that acknowledges"
        assert c.node(other).shell.hand_over(name_hash(sequencer)) == "this node is not the sequencer"


async def test_a_sequencer_that_stops_hands_over_first() -> None:
    async with cluster(KeyValue) as c:
        sequencer = await sequencer_of(c)
        epoch = c.node(sequencer).shell.replica.promised
        await c.stop(sequencer)
        assert c.sequencer is not None
        assert c.node(c.sequencer).shell.replica.promised == epoch + 1
        assert (await c.submit("set", "k", 1)).outcome == "ok"


def duplicate_of(c: Cluster, node_id: str) -> Node:
    """Another process with the same id, as where the config was copied: its own address and directory."""
    (port,) = free_ports(1)
    nodes = tuple(replace(node, address=f"127.0.0.1:{port}") if node.id == node_id else node for node in c.config.nodes)
    config = replace(c.config, nodes=nodes, data_dir=c.config.folder / "duplicate")
    return Node(config, node_id, machine=KeyValue(), hub=c.hub)


async def test_a_second_process_with_the_same_id_refuses_to_start(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        with pytest.raises(EnvironmentProblem, match="another process already runs as n2"):
            await duplicate_of(c, "n2").start()
        await c.submit("set", "k", 2)
        await c.converged()
        assert all(c.node(node).shell.replica.votes for node in c.nodes)
        while "another process starts as n2" not in caplog.text:
            await asyncio.sleep(0.01)


async def test_a_question_repeated_at_will_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(KeyValue) as c:
        watch = c.node("n2").shell._duplicate_ids
        duplicate_ids = watch._transport.duplicate_ids
        assert duplicate_ids is not None
        for asker in (b"a" * 16, b"b" * 16) * 100:
            duplicate_ids.asked_by = asker
            watch.judge()
    assert caplog.text.count("another process starts as n2") == 1


async def test_of_two_that_started_apart_the_one_without_the_vote_stops() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        second = duplicate_of(c, "n2")
        c.part_link((second.config.node("n2").host, second.config.node("n2").port))
        try:
            await second.start()
            c.heal()
            await asyncio.wait_for(second.shell.stopped.wait(), 5)
            assert second.shell.halted is not None and "another process runs as n2" in second.shell.halted
            assert second.status()["state"] == "halted"
            while c.node("n2").status().get("twin") != second.shell.incarnation.hex():
                await c.submit("set", "k", 2)
            (finding,) = c.node("n2").status()["findings"]
            assert finding.startswith("another process runs as n2")
        finally:
            await second.stop()
        await c.submit("set", "k", 3)
        await c.converged()
        assert all(c.node(node).shell.replica.votes for node in c.nodes)
        assert [await c.ask(node, "get", "k") for node in c.nodes] == [3, 3, 3]


async def test_damage_known_on_a_disk_is_a_finding_until_it_is_moved_away() -> None:
    async with cluster(KeyValue) as c:
        for number in range(5):
            await c.submit("set", "k", number)
        await c.kill("n3")
        directory = c.config.data_dir / "n3"
        meta = directory / "meta.json"
        meta.write_bytes(b"?" + meta.read_bytes()[1:])
        for _ in range(2):  # also at a start that finds nothing new
            await c.restart("n3")
            found = [finding for finding in c.node("n3").status()["findings"] if "damage" in finding]
            assert len(found) == 1 and "meta.damaged-1.json" in found[0] and "look at the disk" in found[0]
            await c.kill("n3")
        for aside in directory.glob("*.damaged-*"):
            aside.rename(aside.parent.parent / aside.name)
        await c.restart("n3")
        assert not [finding for finding in c.node("n3").status()["findings"] if "damage" in finding]
