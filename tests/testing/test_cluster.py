import pytest

from mcast.errors import ConfigError, NotYet
from mcast.testing import cluster

from .machines import Accounts


async def test_every_node_answers_alike_under_loss() -> None:
    async with cluster(Accounts, loss="10%", seed=3) as lab:
        for start in range(0, 3_000, 30):  # one by one, so that 10% are lost of 200 datagrams, not of a handful
            receipts = await lab.submit_many([("deposit", f"a{n % 7}", n) for n in range(start, start + 30)])
            assert receipts.ok == 30
        assert (await lab.submit("transfer", "a0", "a1", 10**9)).outcome == "rejected"
        end = await lab.converged()
        right = sum(n for n in range(3_000) if n % 7 == 3)
        assert [await lab.ask(node, "balance_of", "a3") for node in lab.nodes] == [right] * 3
        assert all(lab.node(node).status()["applied_seq"] == end for node in lab.nodes)
        lost = [lab.node(node).gaps() for node in lab.nodes]
        assert sum(gaps["injected"]["lost"] for gaps in lost) > 0
        for gaps in lost:
            assert gaps["lost"] == gaps["repaired"] + gaps["superseded"] + gaps["transferred"]


async def test_what_was_lost_is_counted_across_a_restart_and_small_datagrams_lose_more() -> None:
    sums = {}
    for mtu in (1_500, 9_000):
        async with cluster(Accounts, loss="10%", seed=3, mtu=mtu) as lab:
            assert (await lab.submit_many([("deposit", "ann", 1)] * 30_000)).ok == 30_000
            await lab.converged()
            before = lab.lost()
            assert list(before) == ["n1", "n2", "n3"]
            loser = max(before, key=lambda node: before[node])
            await lab.kill(loser)
            await lab.restart(loser)
            await lab.converged()
            after = lab.lost()
            assert all(after[node] >= before[node] for node in before)
            sums[mtu] = sum(before.values())
    assert sums[1_500] > 3 * sums[9_000]
    assert sums[1_500] > 30


async def test_the_datagrams_are_a_lans_unless_told_otherwise() -> None:
    async with cluster(Accounts, nodes=1) as lab:
        assert lab.config.mtu == 1_500


async def test_a_killed_sequencer_is_replaced_and_comes_back_equal() -> None:
    async with cluster(Accounts, seed=4) as lab:
        await lab.submit("deposit", "ann", 1)
        dead = lab.sequencer
        assert dead is not None
        await lab.kill(dead)
        assert (await lab.submit("deposit", "ann", 1)).value == 2
        assert lab.sequencer not in (None, dead)
        await lab.restart(dead)
        await lab.converged()
        assert [await lab.ask(node, "balance_of", "ann") for node in lab.nodes] == [2, 2, 2]


async def test_a_node_cut_off_falls_behind_and_catches_up() -> None:
    async with cluster(Accounts, seed=5) as lab:
        apart = next(node for node in lab.nodes if node != lab.sequencer)
        lab.part(apart)
        async with lab.connect(lab.sequencer) as client:
            assert (await client.submit("deposit", "ann", 5)).outcome == "ok"
        assert await lab.ask(apart, "balance_of", "ann") == 0
        with pytest.raises(NotYet, match=apart):
            await lab.converged(timeout=0.1)
        lab.heal()
        await lab.converged()
        assert await lab.ask(apart, "balance_of", "ann") == 5


def test_a_wrong_fault_is_told_on_entering() -> None:
    with pytest.raises(ConfigError, match="loss"):
        cluster(Accounts, loss="much")


def test_a_wrong_mtu_is_told_on_entering() -> None:
    with pytest.raises(ConfigError, match="mtu"):
        cluster(Accounts, mtu=100)
