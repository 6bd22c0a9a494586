import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcast.config import Config, NodeConfig
from mcast.net.memory import Hub
from mcast.node.report import HISTORIES_FAILED_REPORTED
from mcast.node.shell import Shell
from mcast.protocol.repair.ledger import ClosedGapEntry
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.messages import EpochEntry, Heartbeat, Kind


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


async def test_isolation_is_told_as_it_is_at_that_moment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as it was at the watch's newest look: a row that says isolated never lacks the finding."""
    isolated = True
    monkeypatch.setattr(shell.replica, "is_isolated", lambda now: isolated)
    assert str(shell.status()["isolated"]).startswith("isolated: for ")
    shell.watch._look()
    isolated = False
    assert shell.status()["isolated"] is None


async def test_gaps_has_the_contracts_fields(shell: Shell) -> None:
    assert shell.gaps() == {
        "id": "n2", "open": [], "closed": [], "lost": 0, "repaired": 0, "superseded": 0, "transferred": 0,
        "duplicates": 0, "injected": {"lost": 0, "duplicates": 0, "reordered": 0, "corrupted": 0},
    }  # fmt: skip


async def test_closed_gaps_name_their_repairer_and_the_time_of_day(shell: Shell) -> None:
    ledger = shell.replica._ledger
    ledger._closed.append(ClosedGapEntry(3, 9, opened_at=12.5, naks=2, repaired_by=name_hash("n3"), latency_s=0.0042))
    ledger._closed.append(ClosedGapEntry(11, 11, opened_at=13.0, naks=0, repaired_by=None, latency_s=0.001))
    shell.wall.offset_ns = 1_700_000_000 * 10**9
    first, second = shell.gaps()["closed"]
    assert first == {
        "first": 3, "last": 9, "opened_at": 1_700_000_012.5, "naks": 2, "repaired_by": "n3", "latency_ms": 4.2
    }  # fmt: skip
    assert second["repaired_by"] is None


async def test_a_history_that_is_fetched_is_said_and_one_that_cannot_be_had_is_a_finding(shell: Shell) -> None:
    beat = Heartbeat(
        epoch=9, cluster_uuid=bytes(16), high=700, high_chain=bytes(16), commit=650, commit_chain=bytes(16), round=1,
        confirmed=0, stream_base=0, stream_sent=0, history=(EpochEntry(9, 600, b"c" * 16),), peers=(),
    )  # fmt: skip
    envelope = Envelope(Kind.HEARTBEAT, 2, 0, 1, name_hash("n1"), b"n1".ljust(16), 1, 9)
    shell.tell(lambda now: shell.replica.receive([(envelope, beat)], now))
    await asyncio.sleep(0.05)
    shell.tell(lambda now: shell.replica.receive([(envelope, beat)], now))
    status = shell.status()
    assert (status["state"], status["lag_events"], status["findings"]) == ("catching-up", 700, [])
    assert status["awaits"].startswith("the epochs before epoch 9 (event 600) are not known here")
    for _ in range(HISTORIES_FAILED_REPORTED):
        shell.tell(shell.replica.on_history_failed)
    (finding,) = shell.status()["findings"]
    assert "no node gave them, asked 3 times: see that the others are up" in finding
