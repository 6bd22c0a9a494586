import signal
from pathlib import Path

import pytest

from mcast.errors import ConfigError, EnvironmentProblem
from mcast.lab.processes import Processes


async def test_a_sealed_cluster_of_processes_survives_a_kill_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Processes(sealed=True, faults={"*": "loss=5%,seed=2"}, keep_in=tmp_path) as lab:
        assert lab.ids == lab.running == ("n1", "n2", "n3")
        pids = [lab.pid(node) for node in lab.ids]
        async with lab.connect() as client:
            assert (await client.submit_many([("incr", "k")] * 500)).ok == 500
        status = await lab.wait_until_equal()
        victim = status["sequencer"]
        assert await lab.kill(victim) == -signal.SIGKILL
        assert victim not in lab.running
        async with lab.connect() as client:
            assert (await client.submit("incr", "k")).value == 501
        await lab.start(victim)
        assert len({node["chain"] for node in (await lab.wait_until_equal())["nodes"]}) == 1
        pids.append(lab.pid(victim))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert (tmp_path / "lab.key").stat().st_mode & 0o777 == 0o600


async def test_a_node_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import mcast\n\n\nclass Broken(mcast.StateMachine):\n"
        "    def __init__(self) -> None:\n        raise RuntimeError('no luck')\n"
    )
    with pytest.raises(EnvironmentProblem, match="no luck"):
        async with Processes(machine="broken:Broken", keep_in=tmp_path):
            pass


async def test_a_machine_that_is_not_there_starts_nothing() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        async with Processes(machine="nowhere:Machine"):
            pass


async def test_stopping_one_drains_it() -> None:
    async with Processes(nodes=1) as lab:
        assert await lab.stop("n1") == 0
        assert lab.running == ()
