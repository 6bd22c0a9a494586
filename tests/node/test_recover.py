"""A majority is lost for ever: one log goes on, the others rejoin empty, and who was left behind says so."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, EnvironmentProblem, Unknown
from mcast.limits import EPOCH_MAX
from mcast.machine.kv import KeyValue
from mcast.node.recover import RecoveryLoss, examine, recover
from mcast.node.setup import open_store
from mcast.protocol.cluster_uuid import succeeds
from mcast.storage.files import RealFiles
from mcast.storage.meta import load_meta, store_meta
from mcast.storage.segment import HEADER_BYTES
from mcast.testing.cluster import Cluster, cluster


async def losing_all(c: Cluster) -> None:
    await c.submit("set", "k", 1)
    await c.converged()
    for node in c.nodes:
        await c.kill(node)


async def put(c: Cluster, value: int) -> None:
    """By a new client: sessions end with the cluster that they were opened in."""
    async with c.connect() as client:
        assert (await client.submit("set", "k", value)).outcome == "ok"


@pytest.mark.parametrize("kept", ["n1", "n3"])
async def test_one_log_goes_on_alone_and_the_others_grow_back(kept: str) -> None:
    async with cluster(KeyValue) as c:
        before = c.node(kept).shell.replica.cluster_uuid
        await losing_all(c)
        c.recover(kept)
        await c.restart(kept)
        await put(c, 2)  # alone it is a majority
        uuid = c.node(kept).shell.replica.cluster_uuid
        assert succeeds(uuid, before)
        for node in sorted({"n1", "n2", "n3"} - {kept}):
            c.lose_disk(node)
            await c.restart(node)
            await c.voting(node)
        await c.converged()
        assert [await c.ask(node, "get", "k") for node in c.nodes] == [2, 2, 2]
        assert {c.node(node).shell.replica.cluster_uuid for node in c.nodes} == {uuid}
        assert {c.node(node).shell.engine.cluster_uuid for node in c.nodes} == {uuid}
        assert {c.node(node).shell.store.cluster_uuid for node in c.nodes} == {uuid}
        await c.kill(kept)  # the new votes are a majority without it
        await put(c, 3)
        await c.restart(kept)
        await c.converged()
        assert await c.ask(kept, "get", "k") == 3


def push_to_the_end(c: Cluster, node: str) -> None:
    """A stopped node has promised the last epoch there is, as one did that believed a forged datagram."""
    files, directory = RealFiles(), str(c.config.data_dir / node)
    found = load_meta(files, directory)
    assert found is not None
    store_meta(files, directory, replace(found, meta=replace(found.meta, promised=EPOCH_MAX)))


async def test_a_cluster_whose_promises_were_pushed_to_the_end_is_recovered() -> None:
    async with cluster(KeyValue) as c:
        every = tuple(c.nodes)
        await losing_all(c)
        for node in every:
            push_to_the_end(c, node)
        for node in every:
            await c.restart(node)
            await asyncio.wait_for(c.node(node).shell.stopped.wait(), 5)
            status = c.node(node).status()
            assert status["state"] == "halted"
            assert str(EPOCH_MAX) in status["reason"] and "mcast recover --accept-loss" in status["reason"]
        for node in every:
            await c.kill(node)
        c.recover("n1")
        await c.restart("n1")
        await put(c, 2)
        assert c.node("n1").shell.replica.promised < 100
        for node in ("n2", "n3"):
            c.lose_disk(node)
            await c.restart(node)
            await c.voting(node)
        await c.converged()
        assert [await c.ask(node, "get", "k") for node in every] == [2, 2, 2]


async def test_one_node_whose_promise_was_pushed_to_the_end_halts_alone_and_comes_back_empty() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        await c.converged()
        await c.kill("n3")
        push_to_the_end(c, "n3")
        await c.restart("n3")
        await asyncio.wait_for(c.node("n3").shell.stopped.wait(), 5)
        assert "move this node's data directory away" in c.node("n3").status()["reason"]
        await put(c, 2)
        await c.kill("n3")
        c.lose_disk("n3")
        await c.restart("n3")
        await c.voting("n3")
        assert await c.ask("n3", "get", "k") == 2


async def test_who_was_left_behind_says_so_and_takes_no_part() -> None:
    async with cluster(KeyValue) as c:
        await losing_all(c)
        c.recover("n1")
        await c.restart("n1")
        await put(c, 2)
        await c.restart("n2")
        await asyncio.wait_for(c.node("n2").shell.stopped.wait(), 5)
        status = c.node("n2").status()
        assert status["state"] == "halted"
        assert "recovered on another node" in status["reason"] and "data directory" in status["reason"]
        await put(c, 3)
        await c.kill("n2")
        c.lose_disk("n2")
        await c.restart("n2")
        await c.voting("n2")
        assert await c.ask("n2", "get", "k") == 3


async def test_a_majority_that_was_not_lost_after_all_gives_way_to_the_recovery() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        await c.converged()
        await c.kill("n1")
        c.recover("n1")
        await c.submit("set", "k", "lost")
        await c.restart("n1")
        for node in ("n2", "n3"):
            await asyncio.wait_for(c.node(node).shell.stopped.wait(), 10)
            assert "recovered on another node" in c.node(node).status()["reason"]
            await c.kill(node)
        with contextlib.suppress(Unknown):  # its session ended with the cluster that it was opened in
            await c.submit("set", "k", 2)
        assert (await c.submit("set", "k", 3)).outcome == "ok"


async def test_a_node_that_rejoins_is_not_mistaken_for_one_left_behind() -> None:
    async with cluster(KeyValue) as c:
        await losing_all(c)
        c.recover("n1")
        await c.restart("n1")
        await put(c, 2)
        c.lose_disk("n2")
        await c.restart("n2")
        await c.voting("n2")
        for _ in range(2):  # its log begins with the GENESIS of the cluster before, and it may restart at any point
            await c.kill("n2")
            await c.restart("n2")
        await c.converged()
        assert await c.ask("n2", "get", "k") == 2


async def test_it_can_be_done_again() -> None:
    async with cluster(KeyValue, nodes=2) as c:
        await losing_all(c)
        for value in (2, 3):
            c.recover("n1")
            await c.restart("n1")
            await put(c, value)
            await c.kill("n1")
        c.lose_disk("n2")
        await c.restart("n1")
        await c.restart("n2")
        await c.voting("n2")
        await c.converged()
        assert await c.ask("n2", "get", "k") == 3
        assert c.node("n2").shell.replica.cluster_uuid[15] == 2


async def test_it_is_refused_while_the_node_runs_and_where_there_is_no_log(tmp_path: Path) -> None:
    async with cluster(KeyValue) as c:
        with pytest.raises(EnvironmentProblem, match=r"in use by another process \(.*\); stop that node first$"):
            recover(c.config, "n1")
    nodes = (NodeConfig(id="n1", address="127.0.0.1:1"), NodeConfig(id="o1", address="127.0.0.1:2", role="observer"))
    config = Config(name="lab", nodes=nodes, folder=tmp_path, data_dir=tmp_path / "data")
    with pytest.raises(EnvironmentProblem, match="holds no log"):
        recover(config, "n1")
    assert not (tmp_path / "data").exists()
    with pytest.raises(ConfigError, match="no member"):
        recover(config, "o1")


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """What stands there: of each file and folder when it was changed, and what it holds."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


def cut(folder: Path) -> None:
    segment = next((folder / "journal").glob("*.segment"))
    written = len(segment.read_bytes().rstrip(b"\0"))
    os.truncate(segment, written - 3)


def flip(name: str, offset: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = next(folder.glob(name))
        data = bytearray(path.read_bytes())
        data[offset] ^= 0xFF
        path.write_bytes(data)

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "none": lambda folder: None, "tail": cut, "meta": flip("meta.json", 5), "slot": flip("watermark", 9),
    "watermark": lambda folder: (folder / "watermark").unlink(), "header": flip("journal/*.segment", 3),
    "no meta": lambda folder: (folder / "meta.json").unlink(), "lock": lambda folder: (folder / "lock").unlink(),
    "journal": lambda folder: shutil.rmtree(folder / "journal"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
async def test_looking_writes_nothing_whatever_a_start_would_mend_and_tells_what_a_start_would_find(
    damage: str,
) -> None:
    async with cluster(KeyValue) as c:
        await losing_all(c)
        folder = c.config.data_dir / "n1"
        DAMAGES[damage](folder)
        before = everything(c.config.data_dir)
        try:
            reported: RecoveryLoss | str = examine(c.config, "n1")
        except EnvironmentProblem as problem:
            reported = str(problem)
        assert everything(c.config.data_dir) == before
        store, _ = open_store(c.config, "n1", None)
        found = store.last_seq, tuple(f"at a start: {finding}" for finding in store.findings)
        store.close()
        assert everything(c.config.data_dir) != before, "a start does write"
        if isinstance(reported, RecoveryLoss):
            assert (reported.last_seq, reported.done) == (found[0], False)
        else:
            assert found[0] == 0 and all(finding in reported for finding in found[1])


async def test_looking_at_a_node_that_runs_is_refused_and_leaves_its_lock_alone() -> None:
    async with cluster(KeyValue) as c:
        lock = c.config.data_dir / "n1" / "lock"
        owner = lock.read_bytes()
        with pytest.raises(EnvironmentProblem, match="stop that node first"):
            examine(c.config, "n1")
        assert lock.read_bytes() == owner
        await c.submit("set", "k", 1)
        await c.converged()


async def test_looking_changes_nothing() -> None:
    async with cluster(KeyValue) as c:
        await losing_all(c)
        loss = examine(c.config, "n1")
        assert (loss.members, loss.must_rejoin, loss.done) == (("n1", "n2", "n3"), ("n2", "n3"), False)
        assert loss == examine(c.config, "n1")
        done = recover(c.config, "n1")
        end = loss.last_seq + 1
        assert done == RecoveryLoss("n1", loss.epoch + 1, end, end, ("n1",), ("n2", "n3"), done=True)


async def test_what_became_of_a_log_that_was_set_aside_is_told() -> None:
    async with cluster(KeyValue) as c:
        await losing_all(c)
        segment = next((c.config.data_dir / "n1" / "journal").glob("*.segment"))
        written = len(segment.read_bytes().rstrip(b"\0"))
        os.truncate(segment, (HEADER_BYTES + written) // 2)
        with pytest.raises(EnvironmentProblem, match=r"holds no log; .* the log ends before .*new storage id"):
            examine(c.config, "n1")
        with pytest.raises(EnvironmentProblem, match=r"holds no log; .* the log ends before .*damaged-1 was set aside"):
            recover(c.config, "n1")
        with pytest.raises(EnvironmentProblem, match=r"holds no log; journal\.damaged-1 was set aside"):
            examine(c.config, "n1")
