"""An older data directory is put back: who heard its node acknowledge tells it, and it says so until it is whole."""

import asyncio
import shutil

from mcast.analysis.health import status_findings
from mcast.machine.kv import KeyValue
from mcast.node.notices import NoticeLog
from mcast.protocol.effects import LogDoubted, Notice
from mcast.testing.cluster import cluster
from mcast.wire.envelope import name_hash


async def test_it_is_told_and_says_so_and_finds_it_again_and_heals() -> None:
    async with cluster(KeyValue) as c:
        await c.submit("set", "k", 1)
        await c.converged()
        while (sequencer := c.sequencer) is None:
            await asyncio.sleep(0.005)
        older, away = (node for node in c.nodes if node != sequencer)
        directory, copy = c.config.data_dir / older, c.config.data_dir / "copy"
        await c.kill(older)
        shutil.copytree(directory, copy)
        await c.restart(older)
        await c.kill(away)
        before = c.node(older).shell.replica.last_seq
        assert (await c.submit("set", "k", 2)).outcome == "ok"
        await c.converged()
        await c.kill(older)
        shutil.rmtree(directory)
        copy.rename(directory)
        for again in range(2):
            await c.restart(older)
            shell = c.node(older).shell
            notices: list[Notice] = []
            shell.on_notice.append(notices.append)
            async with asyncio.timeout(10):
                while not shell.store.is_suspect:
                    await asyncio.sleep(0.005)
            status = shell.status()
            assert status["state"] == "catching-up"
            (finding,) = [words for words in status_findings({"nodes": [status]}) if "until its log" in words]
            if not again:
                (reported,) = [notice for notice in notices if isinstance(notice, LogDoubted)]
                assert (reported.by, reported.last < reported.seq) == (
                    name_hash(sequencer),
                    True,
                ) and reported.last <= before
                assert (
                    f"{older}: {sequencer} heard it acknowledge event {reported.seq} of epoch {reported.epoch}"
                    in finding
                )
                assert "its data directory is an older one, put back" in finding and "start it empty" in finding
                line = NoticeLog({name_hash(sequencer): sequencer}).line(reported)
                assert line is not None and line.startswith(
                    f"{sequencer} heard this node acknowledge event {reported.seq}"
                )
                await c.kill(older)
        await c.restart(away)
        async with asyncio.timeout(20):
            while shell.store.is_suspect or shell.status()["state"] != "live":
                await asyncio.sleep(0.01)
            await c.converged()
        assert "reason" not in shell.status()
        assert [await c.ask(node, "get", "k") for node in c.nodes] == [2, 2, 2]
