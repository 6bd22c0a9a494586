from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcast.config import Config, NodeConfig
from mcast.net.memory import Hub
from mcast.node.shell import Shell
from mcast.protocol.ledger import ClosedGap
from mcast.wire.envelope import name_hash


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    nodes = tuple(NodeConfig(id=f"n{n}", address=f"127.0.0.1:{7710 + n}") for n in (1, 2, 3))
    shell = Shell(Config(name="lab", nodes=nodes, folder=tmp_path, data_dir=tmp_path / "data"), "n2", hub=Hub())
    await shell.start()
    yield shell
    await shell.stop()


async def test_status_has_the_contracts_fields_first_and_in_order(shell: Shell) -> None:
    status = shell.status()
    assert list(status)[:17] == [
        "id", "role", "votes", "state", "reachable", "epoch", "last_seq", "commit_seq", "applied_seq", "chain",
        "result_chain", "gaps_open", "naks_sent", "repairs_received", "repairs_sent", "lag_events", "queries",
    ]  # fmt: skip
    assert status["id"] == "n2" and status["role"] == "member" and status["state"] == "starting"
    assert status["chain"] == status["result_chain"] == "00" * 16
    assert (status["reachable"], status["votes"]) == (True, False)


async def test_gaps_has_the_contracts_fields(shell: Shell) -> None:
    assert shell.gaps() == {
        "id": "n2", "open": [], "closed": [], "lost": 0, "repaired": 0, "superseded": 0, "transferred": 0,
        "duplicates": 0, "injected": {"lost": 0, "duplicates": 0, "reordered": 0, "corrupted": 0},
    }  # fmt: skip


async def test_closed_gaps_name_their_repairer_and_the_time_of_day(shell: Shell) -> None:
    ledger = shell.replica._ledger
    ledger._closed.append(ClosedGap(3, 9, opened_at=12.5, naks=2, repaired_by=name_hash("n3"), latency_s=0.0042))
    ledger._closed.append(ClosedGap(11, 11, opened_at=13.0, naks=0, repaired_by=None, latency_s=0.001))
    shell.wall_offset_ns = 1_700_000_000 * 10**9
    first, second = shell.gaps()["closed"]
    assert first == {
        "first": 3, "last": 9, "opened_at": 1_700_000_012.5, "naks": 2, "repaired_by": "n3", "latency_ms": 4.2
    }  # fmt: skip
    assert second["repaired_by"] is None
